"""What is left behind: abandoned cars, cars left open, visits for the cable, cars that do not charge."""

from __future__ import annotations

from dataclasses import replace

import pytest

from onboard.core import machine
from onboard.core.events import (
    BusReported,
    BusState,
    Charging,
    ChargingReported,
    MaintenanceRequested,
    Reading,
    Signal,
    SignalsReported,
)
from onboard.core.records import (
    Alert,
    ChargingChanged,
    RentalEnded,
    RentalEndReason,
    RentalKind,
    TripEnded,
    TripStarted,
)
from tests.core_kit import BOB, HEDE, Kit, booking, card


def test_the_last_driver_opens_once_more_for_the_cable_and_only_once() -> None:
    kit = Kit().ready()
    kit.begin()
    kit.travel()
    kit.end()
    kit.give(card(), 30)
    assert kit.last(TripStarted).kind is RentalKind.REOPEN
    kit.settle(locked=False)
    kit.end()
    assert kit.last(RentalEnded).billable_s == 0
    kit.give(card(), 30)
    assert kit.word == "rental_over"
    assert kit.pulses.count("unlock") == 2


def test_the_reopen_window_closes_by_time_and_by_reboot() -> None:
    for close in ("time", "reboot"):
        kit = Kit().ready()
        kit.begin()
        kit.travel()
        kit.end()
        if close == "time":
            kit.t += 601
        else:
            kit.boot()
            kit.clock()
            kit.contacts(locked=True)
        kit.give(card())
        assert kit.word == "rental_over"


def test_charging_after_the_lock_ends_a_driven_rental_billed_to_the_lock() -> None:
    kit = Kit().ready()
    kit.begin()
    kit.travel(to=replace(HEDE, latitude=48.29))
    kit.end()
    billed_s = kit.last(TripEnded).duration_s
    kit.give(ChargingReported(Charging.CHARGING), 300)
    assert kit.last(RentalEnded).reason is RentalEndReason.CHARGING
    assert kit.last(RentalEnded).billable_s == billed_s
    assert kit.last(ChargingChanged).state == "charging"


def test_an_abandoned_car_is_taken_over_and_billed_to_its_last_standstill() -> None:
    kit = Kit().ready(booking(end_s=600), booking(BOB, 3000, 9000))
    kit.begin()
    kit.travel(1000)
    stood_s = kit.t
    kit.contacts(locked=False)
    kit.wait(1600)
    assert "left_open" in [a.kind for a in kit.all(Alert)]
    kit.t = 3200.0
    kit.drive(0.0)
    kit.contacts(locked=False)
    kit.give(card(BOB))
    assert kit.last(RentalEnded).reason is RentalEndReason.ABANDONED
    assert kit.last(RentalEnded).billable_s <= stood_s + 2
    assert kit.state.kept.rental is not None
    assert kit.state.kept.rental.booking.driver == BOB


def test_a_car_left_open_within_its_time_is_not_taken_over() -> None:
    kit = Kit().ready(booking(), booking(BOB))
    kit.begin()
    kit.wait(2500)
    kit.drive(0.0)
    kit.contacts(locked=False)
    kit.give(card(BOB))
    assert kit.word == "in_use"


def test_a_car_that_does_not_charge_is_told_after_its_grace() -> None:
    kit = Kit().ready()
    kit.begin()
    kit.travel()
    kit.end()
    kit.wait(901)
    assert kit.last(Alert).kind == "plug_in_missing"


@pytest.mark.parametrize("why", ["charging", "full_enough", "too_cold"])
def test_no_alarm_when_it_charges_or_need_not_or_cannot(why: str) -> None:
    kit = Kit().ready()
    kit.begin()
    kit.travel()
    if why == "full_enough":
        kit.drive(0.0, soc_pct=97.0)
    if why == "too_cold":
        kit.give(SignalsReported(((Signal.TEMPERATURE, Reading(-6.0, kit.t, 1e9)),), 100))
    kit.contacts(locked=False)
    kit.give(card())
    if why == "full_enough":
        kit.give(SignalsReported(((Signal.SOC, Reading(97.0, kit.t, 1e9)),), 100))
    kit.settle(locked=True)
    if why == "charging":
        kit.give(ChargingReported(Charging.CHARGING), 60)
    kit.wait(2000)
    assert "plug_in_missing" not in [a.kind for a in kit.all(Alert)]


def test_charging_far_from_the_return_station_ends_nothing() -> None:
    for when in ("before", "after"):
        kit = Kit().ready()
        kit.begin()
        kit.travel(to=replace(HEDE, latitude=48.35))
        if when == "before":
            kit.give(ChargingReported(Charging.CHARGING))
        kit.end()
        kit.give(ChargingReported(Charging.CHARGING), 60)
        assert machine.phase(kit.state) is machine.Phase.STOPPED, "a socket at a friend's house"
        kit.give(card(), 600)
        assert kit.pulses[-1] == "unlock"


@pytest.mark.parametrize("station", ["hede", "nowhere"])
def test_charging_where_no_fix_says_otherwise_ends_a_driven_rental(station: str) -> None:
    kit = Kit().ready(booking(dropoff=station))
    kit.begin()
    kit.travel(to=replace(HEDE, latitude=48.35 if station == "nowhere" else 48.29))
    kit.give(ChargingReported(Charging.FULL))
    kit.end()
    assert kit.last(RentalEnded).reason is RentalEndReason.CHARGING


def test_charging_before_a_metre_was_driven_or_in_a_trip_ends_nothing() -> None:
    kit = Kit().ready(booking(dropoff="bazouges"))
    kit.begin()
    kit.give(ChargingReported(Charging.CHARGING))
    kit.end()
    kit.give(ChargingReported(Charging.NOT_CHARGING))
    kit.give(ChargingReported(Charging.CHARGING))
    assert machine.phase(kit.state) is machine.Phase.STOPPED


def test_a_car_opened_for_its_cable_and_left_without_it_is_told_too() -> None:
    kit = Kit().ready()
    kit.begin()
    kit.travel()
    kit.end()
    kit.give(card(), 60)
    kit.settle(locked=False)
    kit.end()
    kit.wait(1000)
    assert [a.kind for a in kit.all(Alert)] == ["plug_in_missing"]


def test_a_visit_for_the_cable_that_drives_off_is_told_once_and_billed() -> None:
    kit = Kit().ready()
    kit.begin()
    kit.travel()
    kit.end()
    kit.give(card(), 60)
    begun_s = kit.t
    kit.settle(locked=False)
    kit.travel(2500)
    alerts = [a for a in kit.all(Alert) if a.kind == "unbooked_movement"]
    assert [(a.rental, a.value) for a in alerts] == [(2, 100)]
    kit.end()
    ended = kit.last(RentalEnded)
    assert (ended.kind, ended.distance_m) == (RentalKind.REOPEN, 2500)
    assert ended.billable_s == round(kit.t - begun_s)


def test_a_visit_for_the_cable_after_the_booked_time_is_not_overdue() -> None:
    kit = Kit().ready(booking(end_s=400))
    kit.begin()
    kit.travel()
    kit.end()
    kit.wait(420 - kit.t)
    kit.drive(0.0)
    kit.give(card())
    kit.settle(locked=False)
    kit.wait(200)
    assert not [a for a in kit.all(Alert) if a.kind == "overdue"]


def test_a_visit_for_the_cable_left_open_can_be_taken_over_before_the_booked_end() -> None:
    kit = Kit().ready(booking(end_s=9000), booking(BOB, 1000, 9000))
    kit.begin()
    kit.travel()
    kit.end()
    kit.give(card(), 60)
    kit.settle(locked=False)
    kit.wait(1900)
    kit.drive(0.0)
    kit.give(card(BOB))
    assert kit.last(RentalEnded).kind is RentalKind.REOPEN
    assert kit.last(RentalEnded).reason is RentalEndReason.ABANDONED
    assert kit.state.kept.rental is not None
    assert kit.state.kept.rental.booking.driver == BOB


@pytest.mark.parametrize("spoils", ["touched", "open", "moving", "maintenance"])
def test_only_a_car_that_is_shut_still_and_untouched_is_taken_over(spoils: str) -> None:
    kit = Kit().ready(booking(end_s=600), booking(BOB, 3000, 9000))
    kit.begin()
    kit.travel(1000)
    kit.contacts(locked=False, driver_open=spoils == "open")
    kit.t = 3200.0
    kit.drive(9.0 if spoils == "moving" else 0.0)
    kit.contacts(locked=False, driver_open=spoils == "open")
    if spoils == "touched":
        kit.contacts(locked=False, driver_open=True)
        kit.contacts(locked=False)
    if spoils == "maintenance":
        kit.give(MaintenanceRequested(on=True, by="agent"))
    kit.give(card(BOB))
    expected = {"moving": "moving", "maintenance": "out_of_order"}.get(spoils, "in_use")
    assert kit.word == expected
    assert not kit.all(RentalEnded)


def test_an_abandoned_car_that_only_stood_there_since_a_power_cut_is_not_billed_for_that() -> None:
    kit = Kit().ready(booking(end_s=1800), booking(BOB, 3600, 9000))
    kit.begin()
    kit.travel()
    used_s = kit.t
    kit.wait(700)
    kit.boot(kit.t)
    kit.clock()
    kit.t += 1.0
    kit.contacts(locked=False)
    kit.wait(6000)
    kit.drive(0.0)  # the next driver opens the door, and the bus wakes up
    kit.contacts(locked=False)
    kit.give(card(BOB))
    assert kit.word == "opening"
    ended = kit.last(RentalEnded)
    assert ended.reason is RentalEndReason.ABANDONED
    assert used_s - 300 <= ended.billable_s <= used_s + 1, "what was saved of it, five minutes less at most"


def test_a_stranger_who_taps_again_and_again_does_not_keep_an_abandoned_car_blocked() -> None:
    kit = Kit().ready(booking(end_s=600), booking(BOB, 1500, 9000))
    kit.begin()
    kit.travel(1000)
    kit.contacts(locked=False)
    for _ in range(20):
        kit.wait(100)
        kit.drive(0.0)
        kit.give(card(BOB))
    assert kit.last(RentalEnded).reason is RentalEndReason.ABANDONED


def test_an_abandoned_car_that_was_never_seen_to_stand_is_billed_to_its_last_touch() -> None:
    kit = Kit().ready(booking(end_s=600), booking(BOB, 3000, 9000))
    kit.begin()
    kit.wait(40)
    kit.give(BusReported(BusState.FAULT, kit.t))
    touched_s = kit.state.doors.touched_s
    kit.t = 3200.0
    kit.contacts(locked=False)
    kit.give(card(BOB))
    assert kit.last(RentalEnded).billable_s == round(touched_s)


def test_a_taken_over_car_that_was_locked_ended_by_its_time() -> None:
    kit = Kit().ready(booking(end_s=600), booking(BOB, 3000, 9000))
    kit.begin()
    kit.travel(to=replace(HEDE, latitude=48.29))
    kit.end()
    kit.t = 5000.0  # the wake-up for its end comes late: the next driver is first
    kit.drive(0.0)
    assert kit.last(RentalEnded).reason is RentalEndReason.TIME_OVER
    kit.give(card(BOB))
    assert kit.pulses[-1] == "unlock"


def test_the_next_driver_may_be_first_at_a_locked_car_whose_time_is_over() -> None:
    kit = Kit().ready(booking(end_s=600), booking(BOB, 3000, 9000))
    kit.begin()
    kit.travel(to=replace(HEDE, latitude=48.29))
    kit.end()
    kit.t = 5000.0  # the wake-up for its end is late
    kit.give(card(BOB))
    assert kit.last(RentalEnded).reason is RentalEndReason.TIME_OVER
    assert kit.last(TripStarted).driver == BOB
