"""What a command was answered, and what becomes of a promise: by its own pulse, and by what the contacts say."""

from __future__ import annotations

import pytest

from onboard.core import known
from onboard.core.clock import Anchor, ClockQuality
from onboard.core.commands import Record, Reply
from onboard.core.events import (
    AccessRequested,
    ActuationOutcome,
    ActuationSettled,
    Intent,
    KeySetTaken,
    ListReceived,
    PhoneCredential,
    TimeHeard,
)
from tests.core_kit import ALICE, BOB, T0, Kit, booking, listing
from tests.core_people import ask, key, leave

ONE, TWO, THREE = (bytes([number]) * 16 for number in (1, 2, 3))


def told(kit: Kit, who: bytes, command: bytes, intent: Intent = Intent.UNLOCK) -> tuple[str, str]:
    """Ask again; return what the phone hears."""
    kit.give(AccessRequested(PhoneCredential(key(who), None, command), intent, 9))
    reply = [each for each in kit.commands if isinstance(each, Reply)][-1]
    return reply.status, reply.reason


def give_up(kit: Kit) -> None:
    """Let every try of the pulse pass without a word from the contacts."""
    for _ in range(3):
        kit.give(ActuationSettled(kit.state.doors.actuations, ActuationOutcome.DONE, "", kit.t))
        kit.wait(4.0)


def test_an_unlock_that_nothing_confirmed_is_never_called_opened() -> None:
    kit = Kit().ready(booking(), booking(BOB, start_s=3600, end_s=7200))
    told(kit, ALICE, ONE)
    give_up(kit)
    assert told(kit, ALICE, ONE) == ("unknown", "not_confirmed")
    told(kit, ALICE, TWO)
    kit.settle(locked=False)
    assert told(kit, ALICE, TWO) == ("granted", "opened")
    assert told(kit, ALICE, ONE) == ("unknown", "not_confirmed"), "another pulse says nothing of it"


def test_a_lock_that_nothing_confirmed_is_never_called_locked() -> None:
    kit = Kit().ready()
    kit.begin()
    kit.contacts(locked=False)
    assert told(kit, ALICE, ONE, Intent.LOCK) == ("accepted", "locking")
    give_up(kit)
    assert told(kit, ALICE, ONE, Intent.LOCK) == ("unknown", "not_confirmed")
    kit.contacts(locked=False)
    told(kit, ALICE, TWO, Intent.LOCK)
    kit.settle(locked=True)
    assert told(kit, ALICE, TWO, Intent.LOCK)[1] in ("locked", "finished")
    assert told(kit, ALICE, ONE, Intent.LOCK) == ("unknown", "not_confirmed")


def test_a_lock_that_waited_for_the_last_door_is_told_when_it_locked() -> None:
    kit = Kit().ready()
    kit.begin()
    kit.contacts(locked=False, driver_open=True)
    assert told(kit, ALICE, ONE, Intent.LOCK) == ("accepted", "shut_the_door")
    kit.contacts(locked=False)
    assert told(kit, ALICE, ONE, Intent.LOCK) == ("accepted", "locking")
    kit.settle(locked=True)
    assert told(kit, ALICE, ONE, Intent.LOCK)[1] in ("locked", "finished")


def test_a_lock_that_waited_in_vain_is_told_so() -> None:
    kit = Kit().ready()
    kit.begin()
    kit.contacts(locked=False, driver_open=True)
    assert told(kit, ALICE, ONE, Intent.LOCK) == ("accepted", "shut_the_door")
    kit.wait(130.0)
    assert told(kit, ALICE, ONE, Intent.LOCK) == ("denied", "door_open")


def test_the_same_number_for_another_wish_moves_nothing() -> None:
    kit = Kit().ready()
    told(kit, ALICE, ONE)
    kit.settle(locked=False)
    assert told(kit, ALICE, ONE, Intent.LOCK) == ("denied", "command_replayed")
    assert kit.pulses == ["unlock"]


def test_a_refusal_is_remembered_and_writes_nothing_for_it() -> None:
    kit = Kit().ready()
    for number in range(200):
        before = kit.state.kept
        commands = kit.give(
            AccessRequested(PhoneCredential(key(b"stranger"), None, number.to_bytes(16, "big")), Intent.UNLOCK, 1)
        )
        recorded = [each for each in commands if isinstance(each, Record)]
        assert kit.state.kept.grants == before.grants
        assert not recorded or number < 60, "an hour's share of refusals is written, and no more"
    assert told(kit, b"stranger", (199).to_bytes(16, "big")) == ("denied", "unknown")


def test_what_waited_too_long_is_not_wanted_any_more() -> None:
    kit = Kit().ready()
    kit.t = 20.0
    kit.give(AccessRequested(PhoneCredential(key(ALICE), None, ONE), Intent.UNLOCK, 1, asked_s=14.9))
    assert kit.word == "busy"
    assert kit.pulses == []
    kit.give(AccessRequested(PhoneCredential(key(ALICE), None, TWO), Intent.UNLOCK, 1, asked_s=15.0))
    assert kit.pulses == ["unlock"]


def test_a_new_key_set_forgets_every_pass_that_was_shown() -> None:
    kit = Kit().ready()
    assert ask(kit, BOB, leave(BOB, g=99), Intent.LOCK) == "not_open"
    assert kit.state.kept.grants.passes
    kit.give(KeySetTaken())
    assert kit.state.kept.grants.passes == ()


@pytest.mark.parametrize("off_s", [-3000.0, -7.0, 7.0, 3000.0])
def test_a_sky_that_contradicts_itself_starts_nothing_until_it_is_proven_or_steady(off_s: float) -> None:
    kit = Kit().ready(booking(start_s=-9000, end_s=90_000))
    kit.t += 3600
    kit.clock(off_s=off_s)
    assert "gnss_time" in dict(kit.state.faults)
    assert told(kit, ALICE, ONE) == ("denied", "clock_unproven")
    doubtful = kit.state
    for _ in range(14):
        kit.t += 60
        kit.clock(off_s=off_s)
    assert told(kit, ALICE, TWO) == ("denied", "clock_unproven")
    kit.t += 60
    kit.clock(off_s=off_s)
    assert told(kit, ALICE, THREE) == ("granted", "opening"), "a quarter of an hour of one story"
    kit.state = doubtful
    now_s = T0 + kit.t + off_s
    kit.give(TimeHeard(Anchor(kit.t, now_s, now_s + 1, ClockQuality.AUTHENTICATED)))
    assert kit.state.anchor is not None
    assert kit.state.anchor.quality is ClockQuality.AUTHENTICATED


def test_two_skies_in_turns_are_never_believed() -> None:
    kit = Kit().ready(booking(start_s=-9000, end_s=90_000))
    kit.t += 60
    for number in range(40):
        kit.t += 60
        kit.clock(off_s=3600.0 * ((number + 1) % 2))
        assert told(kit, ALICE, number.to_bytes(16, "big")) == ("denied", "clock_unproven")
    kit.t += 60
    kit.clock()
    assert told(kit, ALICE, b"steady for a min") == ("denied", "clock_unproven"), "one minute is no quarter of an hour"


def test_a_sky_of_tomorrow_ends_no_locked_rental() -> None:
    kit = Kit().ready()
    told(kit, ALICE, ONE)
    kit.settle(locked=False)
    kit.contacts(locked=False)
    told(kit, ALICE, TWO, Intent.LOCK)
    kit.settle(locked=True)
    running = kit.state.kept.rental
    kit.clock(off_s=86_400.0)
    kit.wait(60.0)
    assert (kit.state.kept.rental is None) == (running is None)


def test_the_running_rentals_driver_is_known_by_reference_though_no_list_has_him() -> None:

    kit = Kit().ready()
    kit.begin()
    running = kit.state.kept.rental
    assert running is not None
    kit.give(ListReceived(listing(version=9)))
    assert known.phone_keys(kit.state, running.booking.id[:8]) == running.booking.phone_keys


def test_what_is_not_needed_any_more_is_forgotten_by_the_hour_without_anybody_asking() -> None:
    kit = Kit().ready()
    told(kit, ALICE, ONE)
    kit.settle(locked=False)
    kit.contacts(locked=False)
    assert ask(kit, BOB, leave(BOB, g=99, end_s=600), Intent.LOCK) == "in_use"
    kit.t += 22 * 3600
    kit.clock()
    kit.drive(0.0)
    assert kit.state.kept.grants.passes, "the sky makes nothing forgotten"
    kit.t += 3600
    kit.clock(ClockQuality.AUTHENTICATED)
    kit.drive(0.0)
    assert kit.state.kept.grants.passes == (), "expired for 22 hours"
    assert kit.state.kept.grants.answered
    kit.t += 2 * 3600
    kit.drive(0.0)
    assert kit.state.kept.grants.answered == ()
    assert kit.state.denied == ()
