"""The technician at the console: a door test is staff's visit, a card that the console waits for opens nothing."""

from __future__ import annotations

from dataclasses import replace

import pytest

from onboard.core.commands import Action, Pattern, PublishBatch, PublishStatus, Reply
from onboard.core.events import (
    AccessRequested,
    CardCredential,
    CardsRefused,
    CardWanted,
    ConsoleCredential,
    ConsoleReported,
    Intent,
    LinkReported,
    SyncRequested,
)
from onboard.core.grants import Assurance, Revocation, Rights
from onboard.core.records import AccessDenied, ConsoleUsed, RentalEnded, RentalEndReason, RentalKind, TripStarted
from tests.core_kit import ALICE, BOB, POLICY, STAFF, T0, Kit, booking, card
from tests.core_people import staff

MARIE = ConsoleCredential(b"M" * 16)
REQUEST = -7


def console(kit: Kit, intent: Intent, who: ConsoleCredential = MARIE) -> str:
    kit.give(AccessRequested(who, intent, REQUEST))
    return kit.word


def wait_for_card(kit: Kit, *, login: bool, for_s: float = 30.0) -> None:
    kit.give(CardWanted(REQUEST, kit.t + for_s, login=login))


def answers(kit: Kit) -> list[Reply]:
    return [each for each in kit.commands if isinstance(each, Reply) and each.request == REQUEST]


def test_a_door_test_is_a_visit_of_staff_that_ends_with_the_lock() -> None:
    kit = Kit().ready()
    assert console(kit, Intent.UNLOCK) == "opening"
    kit.settle(locked=False)
    [started] = kit.all(TripStarted)
    assert (started.kind, started.credential, started.rule) == (RentalKind.STAFF, "console", 6)
    assert started.reservation == MARIE.subject
    assert console(kit, Intent.LOCK) == "locking"
    kit.settle(locked=True)
    assert [each.reason for each in kit.all(RentalEnded)] == [RentalEndReason.STAFF_DONE]
    assert kit.pulses == [Action.UNLOCK, Action.LOCK]


def test_a_door_test_needs_no_clock_and_no_list_and_is_possible_out_of_service() -> None:
    kit = Kit()
    kit.state = replace(kit.state, kept=replace(kit.state.kept, maintenance=True))
    assert console(kit, Intent.UNLOCK) == "opening"


def test_a_door_test_is_refused_while_the_car_moves() -> None:
    kit = Kit().ready()
    kit.drive(3.0)
    assert console(kit, Intent.UNLOCK) == "moving"
    assert kit.pulses == []
    assert kit.all(AccessDenied)[-1] == AccessDenied("moving", "console")


def test_a_door_test_is_refused_while_somebody_rents_the_car_even_an_abandoned_one() -> None:
    kit = Kit().ready(booking())
    kit.begin()
    assert console(kit, Intent.UNLOCK) == "in_use"
    assert console(kit, Intent.LOCK) == "in_use"
    kit.end()
    assert console(kit, Intent.UNLOCK) == "in_use", "the rental goes on"
    assert console(kit, Intent.UNLOCK, ConsoleCredential(b"N" * 16)) == "in_use"


def test_a_lock_without_a_visit_does_nothing() -> None:
    kit = Kit().ready()
    assert console(kit, Intent.LOCK) == "not_open"


def test_another_technician_does_not_end_a_visit() -> None:
    kit = Kit().ready()
    console(kit, Intent.UNLOCK)
    kit.settle(locked=False)
    assert console(kit, Intent.LOCK, ConsoleCredential(b"N" * 16)) == "in_use"


def test_a_visit_that_lasts_an_hour_is_told_of() -> None:
    kit = Kit().ready()
    console(kit, Intent.UNLOCK)
    kit.settle(locked=False)
    kit.clock()
    started = kit.state.kept.rental
    assert started is not None
    assert started.booking.end_s == T0 + int(started.span.started.boot_s) + 3600


def test_a_technician_has_no_number_taken_of_a_card() -> None:
    assert console(Kit().ready(), Intent.CAPTURE) == "staff_only"


def test_what_happens_at_the_console_is_written_down() -> None:
    kit = Kit()
    kit.give(ConsoleReported("login_failed", "marie", "2 of 5"))
    assert kit.all(ConsoleUsed) == [ConsoleUsed("login_failed", "marie", "2 of 5")]


def test_a_staff_card_logs_in_and_opens_nothing() -> None:
    kit = Kit().ready(staff=(staff(),))
    wait_for_card(kit, login=True)
    kit.give(card(STAFF))
    mark = f"card-{staff().id[:4].hex()}"
    assert answers(kit) == [Reply(REQUEST, "granted", mark)]
    assert kit.all(ConsoleUsed) == [ConsoleUsed("login_card", mark)]
    assert kit.pulses == []
    kit.give(card(STAFF))
    assert kit.pulses == [Action.UNLOCK], "only the next card is the console's"


@pytest.mark.parametrize(
    ("ref", "word"),
    [(ALICE, "booking"), (b"stranger", "unknown"), (BOB, "revoked")],
    ids=["driver", "stranger", "back"],
)
def test_no_other_card_logs_in(ref: bytes, word: str) -> None:
    kit = Kit().ready(booking(), staff=(staff(who=BOB),), revoked=(Revocation(BOB, T0 + 7200),))
    wait_for_card(kit, login=True)
    kit.give(card(ref))
    assert answers(kit) == [Reply(REQUEST, "denied", word)]
    assert kit.all(ConsoleUsed) == [ConsoleUsed("login_failed", "card", word)]
    assert (kit.pulses, kit.shown) == ([], Pattern.DENIED)


@pytest.mark.parametrize("changes", [{"not_after_s": -10}, {"rights": Rights.SERVICE}], ids=["over", "no-door"])
def test_a_staff_card_that_opens_nothing_now_does_not_log_in(changes: dict[str, object]) -> None:
    kit = Kit().ready(staff=(staff(**changes),))  # type: ignore[arg-type]  # a grant's fields
    wait_for_card(kit, login=True)
    kit.give(card(STAFF))
    assert answers(kit) == [Reply(REQUEST, "denied", "staff")]


def test_a_copied_staff_card_does_not_log_in() -> None:
    kit = Kit(policy=replace(POLICY, uid_cards=False)).ready(staff=(staff(),))
    wait_for_card(kit, login=True)
    kit.give(card(STAFF))
    assert answers(kit) == [Reply(REQUEST, "denied", "staff")]


def test_a_card_is_waited_for_until_its_time_and_no_longer() -> None:
    kit = Kit().ready(booking())
    wait_for_card(kit, login=False, for_s=30.0)
    kit.wait(30.0)
    kit.give(AccessRequested(CardCredential(ALICE, Assurance.MUTUAL), Intent.TAP, 1))
    assert answers(kit) == [Reply(REQUEST, "granted", "mutual booking")]
    wait_for_card(kit, login=False, for_s=30.0)
    kit.wait(30.1)
    assert kit.pulses == []
    kit.give(card(ALICE))
    assert kit.pulses == [Action.UNLOCK]
    kit.give(CardsRefused("two_cards"))
    assert len(answers(kit)) == 1


def test_why_no_card_was_read_is_told_to_the_console_too() -> None:
    kit = Kit().ready()
    wait_for_card(kit, login=False)
    kit.give(CardsRefused("two_cards"))
    assert answers(kit) == [Reply(REQUEST, "denied", "two_cards")]
    assert kit.all(AccessDenied)[-1].reason == "two_cards"


def test_the_running_trips_driver_locks_though_the_console_waits_for_a_card() -> None:
    kit = Kit().ready(booking())
    kit.begin()
    wait_for_card(kit, login=True)
    kit.give(card(ALICE))
    assert kit.pulses[-1] == Action.LOCK
    assert answers(kit) == []
    kit.give(card(b"stranger"))
    assert answers(kit) == [Reply(REQUEST, "denied", "unknown")]


def test_a_phone_is_no_card() -> None:
    kit = Kit().ready(booking())
    wait_for_card(kit, login=False)
    console(kit, Intent.UNLOCK)
    assert kit.pulses == [Action.UNLOCK]


def test_a_wish_to_send_sends_all_that_waits_and_the_status() -> None:
    kit = Kit()
    kit.give(SyncRequested())
    assert not [each for each in kit.commands if isinstance(each, PublishBatch)], "no link"
    kit.give(LinkReported(connected=True))
    kit.commands.clear()
    kit.give(SyncRequested())
    sent = [each for each in kit.commands if isinstance(each, PublishBatch)]
    assert [(each.from_seq, each.to_seq) for each in sent] == [(1, kit.state.kept.outbox.last_seq)]
    assert [each for each in kit.commands if isinstance(each, PublishStatus)]
