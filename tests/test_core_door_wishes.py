"""The wish to lock before the door can: the button, a tap with a door open, and what nobody asked for."""

from __future__ import annotations

from dataclasses import replace

from onboard.core.events import (
    ActuationOutcome,
    ActuationSettled,
    Intent,
    LockButtonPressed,
    Signal,
)
from onboard.core.records import (
    ActuationFailed,
    Alert,
    DoorReopened,
    RentalEnded,
    RentalEndReason,
    TripEnded,
)
from tests.core_kit import HEDE, Kit, card, phone


def test_the_button_locks_when_its_presser_is_out_and_the_door_shut() -> None:
    kit = Kit().ready()
    kit.begin()
    kit.travel()
    kit.give(LockButtonPressed())
    kit.contacts(locked=False)
    assert kit.pulses == ["unlock"], "whoever pressed it is still inside"
    kit.t += 3
    kit.contacts(locked=False, driver_open=True)
    kit.t += 3
    kit.contacts(locked=False)
    assert kit.pulses == ["unlock", "lock"]
    kit.settle(locked=True)
    assert len(kit.all(TripEnded)) == 1


def test_a_tap_with_a_door_open_locks_when_it_shuts_or_lapses() -> None:
    kit = Kit().ready()
    kit.begin()
    kit.travel()
    kit.contacts(locked=False, driver_open=True)
    kit.give(card())
    assert (kit.word, kit.pulses) == ("shut_the_door", ["unlock"])
    kit.wait(121)
    kit.contacts(locked=False)
    assert kit.pulses == ["unlock"], "the wish has lapsed"


def test_a_door_opened_behind_the_lock_pulse_locks_when_it_shuts() -> None:
    kit = Kit().ready()
    kit.begin()
    kit.travel(to=replace(HEDE, latitude=48.29))
    kit.give(phone(intent=Intent.FINISH))
    kit.give(ActuationSettled(2, ActuationOutcome.DONE, "", kit.t + 0.3), 0.3)
    kit.t += 0.5
    kit.contacts(locked=True, driver_open=True)
    kit.wait(4)
    assert kit.last(ActuationFailed).reason == "door_open"
    kit.contacts(locked=True, driver_open=True)
    assert kit.pulses == ["unlock", "lock"]
    kit.t += 2
    kit.drive(0.0)
    kit.contacts(locked=True)
    assert kit.pulses == ["unlock", "lock", "lock"]
    kit.settle(locked=True)
    assert kit.last(RentalEnded).reason is RentalEndReason.FINISHED, "as it was asked"


def test_a_lock_pulse_with_nobody_in_the_car_and_a_door_open_asks_nothing_more() -> None:
    kit = Kit().ready()
    kit.contacts(locked=False)
    kit.give(LockButtonPressed())
    for driver_open in (True, False):
        kit.t += 1
        kit.contacts(locked=False, driver_open=driver_open)
    assert kit.pulses == ["lock"], "the button serves a car without a rental too"
    kit.give(ActuationSettled(1, ActuationOutcome.DONE, "", kit.t + 0.3), 0.3)
    kit.t += 0.5
    kit.contacts(locked=False, driver_open=True)
    kit.wait(4)
    assert kit.last(ActuationFailed).reason == "door_open"
    assert kit.state.doors.armed_until_s is None
    assert not kit.all(TripEnded)


def test_a_locked_car_without_a_rental_confirms_its_lock_and_ends_nothing() -> None:
    kit = Kit().ready()
    kit.contacts(locked=False, driver_open=True)
    kit.give(LockButtonPressed())
    kit.t += 1
    kit.contacts(locked=False)
    kit.settle(locked=True)
    assert kit.state.doors.actuation is None
    assert not kit.all(TripEnded)


def test_a_car_left_open_is_told_once_rented_or_not() -> None:
    kit = Kit().ready()
    kit.begin()
    kit.wait(299)
    assert not kit.all(Alert)
    kit.wait(2000)
    assert [(a.kind, a.rental) for a in kit.all(Alert)] == [("left_open", 1)]
    kit = Kit().ready()
    kit.contacts(locked=None)
    kit.wait(2000)
    assert not kit.all(Alert), "a latch that can't be read says nothing of a parked car"
    kit.contacts(locked=False)
    kit.wait(2000)
    assert [(a.kind, a.rental) for a in kit.all(Alert)] == [("left_open", 0)]


def test_a_car_in_a_trip_whose_latch_cannot_be_read_is_warned_about() -> None:
    kit = Kit().ready()
    kit.begin()
    kit.contacts(locked=None)
    kit.wait(400)
    assert kit.last(Alert).kind == "left_open"


def test_a_lock_that_nobody_asked_is_told_once_a_pulse_however_the_contact_flaps() -> None:
    kit = Kit().ready()
    kit.begin()
    for step in range(100):
        kit.t += 0.1
        kit.contacts(locked=step % 2 == 1)
    assert [a.kind for a in kit.all(Alert)] == ["locked_unasked"]
    kit.give(card())
    assert kit.last(DoorReopened).trip == 1, "the driver's next tap opens it"
    kit.settle(locked=False)
    kit.t += 1
    kit.contacts(locked=True)
    assert [a.kind for a in kit.all(Alert)] == ["locked_unasked"] * 2


def test_the_wish_to_lock_ends_when_the_car_moves_off() -> None:
    kit = Kit().ready()
    kit.begin()
    kit.give(LockButtonPressed())
    kit.drive(3.0)
    assert kit.state.doors.armed_until_s is None
    kit.t += 5
    kit.drive(0.0)
    kit.contacts(locked=False, driver_open=True)
    kit.t += 5
    kit.contacts(locked=False)
    assert kit.pulses == ["unlock"]


def test_a_shut_door_of_a_rolling_car_is_not_locked() -> None:
    kit = Kit().ready()
    kit.begin()
    kit.contacts(locked=False, driver_open=True)
    kit.give(card())
    # The wheel's news and the door's come in one breath: the door's may be first.
    moving = replace(kit.state.vehicle.readings[Signal.SPEED], value=4.0, sampled_s=kit.t)
    readings = {**kit.state.vehicle.readings, Signal.SPEED: moving}
    kit.state = replace(kit.state, vehicle=replace(kit.state.vehicle, readings=readings))
    kit.t += 1
    kit.contacts(locked=False)
    assert kit.pulses == ["unlock"]
