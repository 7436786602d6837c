"""The door: asked, moved, confirmed; what a power cut, a stuck latch or a moving car make of it."""

from __future__ import annotations

import pytest

from onboard.core.commands import Actuate, Pattern, Record
from onboard.core.events import (
    ActuationOutcome,
    ActuationSettled,
    BusReported,
    BusState,
    Intent,
    LockButtonPressed,
    Started,
)
from onboard.core.records import (
    ActuationFailed,
    DoorReopened,
    EndRequested,
    RentalEnded,
    RentalEndReason,
    TripEnded,
    TripEndReason,
    TripStarted,
)
from onboard.core.state import State
from tests.core_kit import Kit, card, phone


def test_the_door_moves_only_after_the_trip_is_committed() -> None:
    kit = Kit().ready()
    commands = kit.give(card())
    assert isinstance(commands[0], Record)
    assert isinstance(commands[0].records[0], TripStarted)
    assert [type(c) for c in commands].index(Actuate) > 0


def test_a_trip_does_not_end_on_a_report_sampled_before_the_pulse_ended() -> None:
    kit = Kit().ready()
    kit.begin()
    kit.travel()
    kit.give(card())
    kit.contacts(locked=True, sampled_s=kit.t)  # a late "locked" of an earlier press
    pending = kit.state.doors.actuation
    assert pending is not None
    kit.give(ActuationSettled(pending.number, ActuationOutcome.DONE, "", kit.t + 0.3), 0.3)
    kit.contacts(locked=True, sampled_s=kit.t - 0.1)
    assert not kit.all(TripEnded)
    kit.t += 0.3
    kit.contacts(locked=True)
    assert len(kit.all(TripEnded)) == 1


def test_a_trip_does_not_end_while_a_door_is_open() -> None:
    kit = Kit().ready()
    kit.begin()
    kit.give(card(), 5)
    kit.give(ActuationSettled(2, ActuationOutcome.DONE, "", kit.t + 0.3), 0.3)
    kit.t += 1
    kit.contacts(locked=True, driver_open=True)
    assert not kit.all(TripEnded)


def test_the_end_is_asked_in_the_commit_that_comes_before_the_pulse() -> None:
    kit = Kit().ready()
    kit.begin()
    kit.travel()
    commands = kit.give(card())
    assert isinstance(commands[0], Record)
    assert isinstance(commands[0].records[0], EndRequested)
    assert any(isinstance(c, Actuate) for c in commands[1:])


def test_a_pulse_that_nothing_confirms_is_repeated_and_then_told() -> None:
    kit = Kit().ready()
    kit.begin()
    kit.travel()
    kit.give(card())
    for _ in range(3):
        pending = kit.state.doors.actuation
        assert pending is not None
        kit.give(ActuationSettled(pending.number, ActuationOutcome.DONE, "", kit.t + 0.3), 0.3)
        kit.t += 0.5
        kit.contacts(locked=False)
        kit.wait(4)
    assert kit.pulses == ["unlock", "lock", "lock", "lock"]
    assert kit.last(ActuationFailed).action == "lock"
    assert kit.shown is Pattern.OUT_OF_ORDER
    assert not kit.all(TripEnded)
    assert [f.reason for f in kit.all(ActuationFailed)] == ["not_confirmed"]
    kit.end()
    assert len(kit.all(TripEnded)) == 1, "the driver can still lock and end"
    assert [f.reason for f in kit.all(ActuationFailed)] == ["not_confirmed"], "told once, for what it was"


def test_a_tap_during_the_pulse_is_told_to_try_again_and_changes_nothing() -> None:
    for ask in (card(), phone(intent=Intent.UNLOCK)):
        kit = Kit().ready()
        kit.begin()
        kit.give(card(), 5)
        kit.give(ask, 0.1)
        assert (kit.word, kit.pulses) == ("busy", ["unlock", "lock"])
        assert not kit.all(DoorReopened)


def test_a_door_that_never_opened_ends_the_rental_unbilled_and_the_booking_still_opens() -> None:
    kit = Kit().ready()
    kit.give(card())
    for _ in range(3):
        pending = kit.state.doors.actuation
        assert pending is not None
        kit.give(ActuationSettled(pending.number, ActuationOutcome.DONE, "", kit.t + 0.3), 0.3)
        kit.t += 0.5
        kit.contacts(locked=True)
        kit.wait(4)
    assert kit.last(RentalEnded).reason is RentalEndReason.NOT_OPENED
    assert kit.last(RentalEnded).billable_s == 0
    kit.begin()
    assert kit.state.kept.rental is not None


@pytest.mark.parametrize("told", [True, None], ids=["a contact that says locked", "one that says nothing"])
def test_a_car_that_is_driven_was_opened_whatever_the_contact_says(told: bool | None) -> None:
    """Found on a slow machine: the contact was late, the driver quick, and his trip ended on the road."""
    kit = Kit().ready()
    kit.give(card())
    kit.give(ActuationSettled(1, ActuationOutcome.DONE, "", kit.t + 0.3), 0.3)
    kit.contacts(locked=told, sampled_s=kit.t + 0.05)
    kit.t += 1
    kit.drive(5.0)
    kit.wait(4)
    kit.drive(5.0)
    for _ in range(3):
        kit.t += 30
        kit.drive(0.0)
        kit.contacts(locked=told)
    assert kit.all(TripEnded) == []
    assert kit.state.kept.rental is not None
    assert kit.state.kept.rental.trip is not None


def test_an_interlock_refusal_ends_what_never_began() -> None:
    kit = Kit().ready()
    kit.give(card())
    kit.give(ActuationSettled(1, ActuationOutcome.REFUSED, "moving", kit.t))
    assert kit.last(TripEnded).reason is TripEndReason.NOT_OPENED
    assert kit.state.kept.rental is None


@pytest.mark.parametrize("locked", [True, False])
def test_a_cut_after_the_lock_pulse_is_settled_by_the_first_report(locked: bool) -> None:
    kit = Kit().ready()
    kit.begin()
    kit.travel()
    kit.give(card())
    kit.boot()
    kit.contacts(locked=locked)
    assert len(kit.all(TripEnded)) == int(locked)
    assert kit.pulses.count("lock") == 1, "nothing moves by itself after a boot"
    if not locked:
        assert kit.last(ActuationFailed).reason == "power_cut"
        kit.clock()
        kit.end()
        assert len(kit.all(TripEnded)) == 1


@pytest.mark.parametrize("opened", [True, False])
def test_a_cut_between_commit_and_unlock_is_settled_by_the_first_report(opened: bool) -> None:
    kit = Kit().ready()
    kit.give(card())
    kit.boot()
    kit.contacts(locked=not opened)
    rental = kit.state.kept.rental
    if opened:
        assert rental is not None
        assert rental.trip is not None
        assert rental.trip.opened
    else:
        assert kit.last(TripEnded).reason is TripEndReason.NOT_OPENED
        kit.clock()
        kit.begin()
        assert kit.state.kept.rental is not None, "the driver in the rain taps again"


def test_a_restart_of_the_daemon_alone_settles_an_asked_end_too() -> None:
    kit = Kit().ready()
    kit.begin()
    kit.travel()
    kit.give(card())
    epoch = kit.state.boot_epoch
    kit.state = State(kept=kit.state.kept, policy=kit.state.policy)
    kit.give(Started(epoch, "test"), 2)
    kit.contacts(locked=False)
    assert kit.last(ActuationFailed).reason == "power_cut"


def test_nothing_moves_while_the_car_moves() -> None:
    kit = Kit().ready()
    kit.begin()
    kit.drive(5.0)
    kit.contacts(locked=False)
    kit.give(card())
    assert (kit.word, kit.shown) == ("moving", Pattern.TRY_AGAIN)
    kit.give(LockButtonPressed())
    assert kit.pulses == ["unlock"]


def test_with_a_faulty_bus_the_lock_still_works_and_says_so() -> None:
    kit = Kit().ready()
    kit.begin()
    kit.drive(8.0)
    kit.give(BusReported(BusState.FAULT, kit.t + 10), 10)
    kit.contacts(locked=False)
    kit.give(card())
    kit.settle(locked=True)
    assert kit.last(TripEnded).flags == ("standstill_unproven",)


def test_a_pulse_refused_after_one_that_may_have_opened_does_not_end_the_trip() -> None:
    kit = Kit().ready()
    kit.give(card())
    kit.give(ActuationSettled(1, ActuationOutcome.DONE, "", kit.t + 0.3), 0.3)
    kit.wait(4)
    assert kit.pulses == ["unlock", "unlock"]
    kit.give(ActuationSettled(2, ActuationOutcome.REFUSED, "too_often", kit.t))
    assert not kit.all(TripEnded), "no contact spoke since the first pulse: somebody may sit in the car"
    kit.contacts(locked=None, driver_open=True)
    kit.t += 5
    kit.contacts(locked=True)
    assert not kit.all(TripEnded)


def test_a_pulse_whose_end_nobody_told_is_repeated_all_the_same() -> None:
    kit = Kit().ready()
    kit.give(card())
    kit.wait(4.9)
    assert kit.pulses == ["unlock"]
    kit.wait(0.2)
    assert kit.pulses == ["unlock", "unlock"]


def test_late_news_of_an_older_pulse_says_nothing() -> None:
    kit = Kit().ready()
    kit.give(card())
    kit.wait(6)
    before = kit.state.doors
    kit.give(ActuationSettled(1, ActuationOutcome.REFUSED, "moving", kit.t))
    assert kit.state.doors == before


def test_a_car_that_rolls_off_under_an_unconfirmed_pulse_gets_no_second_one() -> None:
    kit = Kit().ready()
    kit.begin()
    kit.give(card(), 5)
    kit.give(ActuationSettled(2, ActuationOutcome.DONE, "", kit.t + 0.3), 0.3)
    kit.t += 2
    kit.drive(5.0)
    kit.wait(2)
    assert kit.pulses == ["unlock", "lock"]
    assert (kit.last(ActuationFailed).reason, kit.shown) == ("moving", Pattern.TRY_AGAIN)


def test_an_older_report_than_the_last_is_nothing() -> None:
    kit = Kit().ready()
    kit.begin()
    before = kit.state.doors.report
    kit.contacts(locked=True, sampled_s=0.1)
    assert kit.state.doors.report == before


def test_an_asked_end_waits_over_a_cut_for_the_last_door() -> None:
    kit = Kit().ready()
    kit.begin()
    kit.give(card(), 5)
    kit.boot()
    kit.contacts(locked=True, driver_open=True)
    kit.t += 1
    kit.contacts(locked=None)
    assert not kit.all(TripEnded)
    kit.t += 1
    kit.contacts(locked=True)
    assert len(kit.all(TripEnded)) == 1
    assert kit.pulses.count("lock") == 1
