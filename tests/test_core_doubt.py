"""What a card does when no contact has confirmed a lock: the contact may lie, or the car may stand unlocked."""

from __future__ import annotations

from dataclasses import replace

import pytest

from onboard.core.commands import Pattern
from onboard.core.events import ActuationOutcome, ActuationSettled, Intent
from onboard.core.records import AccessDenied, ActuationFailed, DoorReopened, FaultChanged
from tests.core_kit import Kit
from tests.core_people import ask, tap


def failed_lock(kit: Kit) -> None:
    """Let every try of the pulse pass without a word from the contacts."""
    for _ in range(3):
        kit.give(ActuationSettled(kit.state.doors.actuations, ActuationOutcome.DONE, "", kit.t))
        kit.wait(4.0)


def test_a_pulse_that_nothing_confirmed_is_written_down_shown_and_told_as_a_fault() -> None:
    kit = Kit().ready()
    kit.begin()
    kit.drive(0.0)
    kit.contacts(locked=False)
    tap(kit)
    failed_lock(kit)
    assert kit.last(ActuationFailed) == ActuationFailed("lock", "not_confirmed", 1)
    detail = "lock was not confirmed: look at the actuator and the lock contact"
    assert dict(kit.state.faults) == {"door": detail}
    assert kit.last(FaultChanged).part == "door"
    assert kit.last(FaultChanged).detail == detail
    assert kit.shown is Pattern.OUT_OF_ORDER
    kit.end()
    assert not kit.state.faults, "the next that is confirmed ends it"


def test_after_two_locks_that_nothing_confirmed_the_next_tap_opens_and_the_one_after_locks() -> None:
    """The contact says unlocked for ever, and the car may be locked: whoever only has a card must get in again."""
    kit = Kit().ready()
    kit.begin()
    kit.drive(0.0)
    kit.contacts(locked=False)
    for _ in range(2):
        tap(kit)
        failed_lock(kit)
        kit.contacts(locked=False)
    assert kit.pulses == ["unlock"] + ["lock"] * 6
    tap(kit)
    assert kit.pulses[7:] == ["unlock"]
    assert kit.last(DoorReopened) == DoorReopened(1, 1, "card")
    kit.give(ActuationSettled(kit.state.doors.actuations, ActuationOutcome.DONE, "", kit.t))
    kit.t += 1.0
    kit.contacts(locked=False)
    tap(kit)
    assert kit.pulses[8:] == ["lock"], "from then on as before"


def test_a_card_opens_nothing_in_doubt_while_the_car_moves() -> None:
    kit = doubting()
    kit.drive(5.0)
    kit.contacts(locked=False)
    tap(kit)
    assert kit.pulses == ["unlock"]
    assert kit.last(AccessDenied).reason == "moving"


def test_whoever_can_say_lock_locks_in_doubt_too() -> None:
    kit = doubting()
    ask(kit, intent=Intent.LOCK)
    assert kit.pulses == ["unlock", "lock"]


@pytest.mark.parametrize("how", ["door opened", "lock confirmed", "opened by a tap", "driven"])
def test_what_ends_the_doubt_of_a_lock(how: str) -> None:
    kit = doubting()
    if how == "door opened":
        kit.contacts(locked=False, driver_open=True)
    elif how == "lock confirmed":
        ask(kit, intent=Intent.LOCK)
        kit.give(ActuationSettled(kit.state.doors.actuations, ActuationOutcome.DONE, "", kit.t))
        kit.t += 1.0
        kit.contacts(locked=True)
    elif how == "driven":
        kit.contacts(locked=None)
        kit.drive(5.0)
        kit.drive(0.0)
    else:
        tap(kit)
    assert kit.state.doors.locks_unconfirmed == 0


def test_a_lock_that_the_interlock_refused_says_nothing_of_the_contact() -> None:
    kit = Kit().ready()
    kit.begin()
    kit.drive(0.0)
    for _ in range(3):
        kit.contacts(locked=False)
        tap(kit)
        kit.give(ActuationSettled(kit.state.doors.actuations, ActuationOutcome.REFUSED, "too_often", kit.t))
    assert kit.pulses == ["unlock"] + ["lock"] * 3
    assert kit.state.doors.locks_unconfirmed == 0
    assert not kit.state.faults, "nor of the actuator"


def doubting() -> Kit:
    """Return a car in a trip, standing, of which two locks in a row were not confirmed."""
    kit = Kit().ready()
    kit.begin()
    kit.drive(0.0)
    kit.contacts(locked=False)
    kit.state = replace(kit.state, doors=replace(kit.state.doors, locks_unconfirmed=2))
    return kit
