"""A card's number taken at the car: who may have it taken, which card, and for how long."""

from __future__ import annotations

from dataclasses import replace

import pytest

from onboard.core.cards import CAPTURE_S
from onboard.core.commands import Pattern, Reply
from onboard.core.events import AccessRequested, CardCredential, Intent, ListReceived, RemoteCredential
from onboard.core.grants import Assurance, Revocation, Rights
from onboard.core.records import AccessDenied, CardCaptured
from tests.core_kit import ALICE, BOB, POLICY, STAFF, T0, Kit, booking, listing
from tests.core_people import ask, ids, key, leave, staff, tap

NUMBER = b"\4number"
STRANGER = b"stranger"


def remote(kit: Kit, counter: int = 1, subject: bytes = b"c" * 16) -> str:
    """Have the commune ask for a capture; returns the answer."""
    who = RemoteCredential(subject, bytes([counter]) * 16, kit.state.boot_epoch, counter, kit.t + 30)
    kit.give(AccessRequested(who, Intent.CAPTURE, 1))
    return kit.word


def hold(kit: Kit, ref: bytes = STRANGER, uid: bytes = NUMBER) -> str:
    """Hold a card there, whose number the reader gives because one is waited for."""
    kit.give(AccessRequested(CardCredential(ref, Assurance.UID, uid), Intent.TAP, 1))
    return kit.word


def test_the_next_unknown_card_is_captured_once_and_opens_nothing() -> None:
    kit = Kit().ready()
    assert remote(kit) == "capturing"
    assert kit.shown == Pattern.GRANTED
    assert hold(kit) == "captured"
    assert kit.shown == Pattern.GRANTED
    assert kit.all(CardCaptured) == [CardCaptured(b"\1" * 16, NUMBER)]
    assert hold(kit, b"another-", b"\4others") == "unknown", "the window is closed with the first"
    assert len(kit.all(CardCaptured)) == 1
    assert kit.pulses == []
    assert kit.state.kept.rental is None


@pytest.mark.parametrize(("after_s", "word"), [(CAPTURE_S, "captured"), (CAPTURE_S + 0.1, "unknown")])
def test_it_is_waited_for_two_minutes(after_s: float, word: str) -> None:
    kit = Kit().ready()
    remote(kit)
    kit.wait(after_s)
    assert hold(kit) == word


def test_a_card_that_is_somebodys_does_what_it_always_does() -> None:
    kit = Kit().ready(booking(), staff=(staff(),))
    kit.give(
        ListReceived(
            listing(booking(), version=2, staff=(staff(),), revoked=(Revocation(BOB, T0 + 7200),)),
        )
    )
    remote(kit)
    assert hold(kit, BOB) == "revoked"
    assert hold(kit, ALICE) == "opening"
    kit.settle(locked=False)
    assert hold(kit, STAFF) == "in_use"
    assert kit.all(CardCaptured) == []
    assert hold(kit) == "captured", "and the stranger's is still waited for"


def test_a_card_whose_number_the_reader_did_not_give_is_a_strangers() -> None:
    kit = Kit().ready()
    remote(kit)
    assert tap(kit, STRANGER) == "unknown"
    assert kit.all(CardCaptured) == []


def test_only_staff_and_the_commune_have_a_card_captured() -> None:
    kit = Kit().ready(booking(), staff=(staff(),))
    assert ask(kit, ALICE, intent=Intent.CAPTURE) == "staff_only"
    assert ask(kit, BOB, intent=Intent.CAPTURE) == "staff_only"
    assert kit.all(AccessDenied)[-1] == AccessDenied("staff_only", "phone")
    assert hold(kit) == "unknown"
    assert ask(kit, STAFF, intent=Intent.CAPTURE) == "capturing"
    assert hold(kit) == "captured"
    service = leave(BOB, g=9, rights=Rights.DOOR | Rights.SERVICE)
    assert ask(kit, BOB, service, Intent.CAPTURE) == "capturing"
    assert hold(kit, b"another-", b"\4others") == "captured"


def test_staff_whose_time_is_over_or_whose_phone_is_blocked_has_none_captured() -> None:
    kit = Kit().ready(staff=(staff(not_after_s=-1),))
    assert ask(kit, STAFF, intent=Intent.CAPTURE) == "staff_only"
    kit.give(ListReceived(listing(version=2, staff=(staff(),), revoked=(Revocation(key(STAFF), T0 + 7200),))))
    assert ask(kit, STAFF, intent=Intent.CAPTURE) == "revoked"
    assert hold(kit) == "unknown"


def test_where_bare_numbers_open_nothing_none_is_captured() -> None:
    kit = Kit(policy=replace(POLICY, uid_cards=False)).ready(staff=(staff(),))
    assert remote(kit) == "uid_cards_off"
    assert ask(kit, STAFF, intent=Intent.CAPTURE) == "uid_cards_off"
    assert hold(kit) == "unknown"


def test_the_communes_command_counts_once_and_in_its_time() -> None:
    kit = Kit().ready()
    assert remote(kit, counter=5) == "capturing"
    assert hold(kit) == "captured"
    assert remote(kit, counter=4) == "command_replayed"
    late = RemoteCredential(b"c" * 16, next(ids).to_bytes(16, "big"), kit.state.boot_epoch, 6, kit.t - 1)
    kit.give(AccessRequested(late, Intent.CAPTURE, 1))
    assert kit.word == "command_too_old"
    assert hold(kit, b"another-", b"\4others") == "unknown"


def test_the_running_drivers_subject_does_not_turn_a_capture_into_a_lock() -> None:
    kit = Kit().ready(booking())
    kit.begin()
    before = kit.pulses
    assert remote(kit, subject=booking().id) == "capturing"
    assert kit.pulses == before


def test_a_reboot_closes_it() -> None:
    kit = Kit().ready()
    remote(kit)
    kit.boot()
    assert hold(kit) == "unknown"


def test_a_captured_card_is_answered_as_granted() -> None:
    kit = Kit().ready()
    remote(kit)
    hold(kit)
    assert [c for c in kit.commands if isinstance(c, Reply)][-1] == Reply(1, "granted", "captured")
