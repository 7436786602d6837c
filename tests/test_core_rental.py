"""Rentals and trips: what ends with a lock, what does not, what is billed and what is told."""

from __future__ import annotations

from dataclasses import replace

import pytest

from onboard.core import machine
from onboard.core.events import (
    Charging,
    ChargingReported,
    Reading,
    Signal,
    SignalsReported,
)
from onboard.core.records import (
    Alert,
    ChargingChanged,
    Parked,
    RentalEnded,
    RentalEndReason,
    RentalKind,
    TripEnded,
    TripStarted,
)
from tests.core_kit import BOB, HEDE, POLICY, Kit, booking, card


def test_driven_metres_of_an_outage_count() -> None:
    kit = Kit().ready()
    kit.begin()
    kit.travel(1000)
    kit.boot()
    kit.clock()
    kit.drive(0.0, odometer_m=4500)
    kit.contacts(locked=False)
    kit.end()
    assert kit.last(TripEnded).distance_m == 3500


def test_a_second_tap_soon_after_the_lock_ends_the_rental_anywhere() -> None:
    kit = Kit().ready()
    kit.begin()
    kit.travel(to=replace(HEDE, latitude=48.29))
    kit.end()
    assert machine.phase(kit.state) is machine.Phase.STOPPED
    kit.give(card(), 10)
    assert kit.last(RentalEnded).reason is RentalEndReason.FINISHED
    assert kit.pulses == ["unlock", "lock"]


def test_a_later_tap_opens_a_stopped_rental_again_anywhere() -> None:
    kit = Kit().ready()
    kit.begin()
    kit.travel(to=replace(HEDE, latitude=48.29))
    kit.end()
    kit.drive(0.0)
    kit.give(card(), 21)
    assert kit.pulses[-1] == "unlock"
    assert kit.last(TripStarted).trip == 2
    assert kit.last(TripStarted).rental == 1
    kit.settle(locked=False)
    kit.travel(500)
    kit.end()
    rental = kit.last(RentalEnded)
    assert (rental.trips, rental.distance_m) == (2, 1500)
    assert rental.billable_s > sum(t.duration_s for t in kit.all(TripEnded)), "billed from first unlock to last lock"


def test_a_habitual_second_tap_after_the_lock_ended_the_rental_opens_nothing() -> None:
    kit = Kit().ready()
    kit.begin()
    kit.travel()
    kit.end()
    kit.give(card(), 5)
    assert kit.word == "finished"
    assert kit.pulses == ["unlock", "lock"]


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


def test_a_lock_at_the_station_before_any_metre_does_not_end_the_rental() -> None:
    kit = Kit().ready(booking(dropoff=None))
    kit.begin()
    kit.end()
    assert machine.phase(kit.state) is machine.Phase.STOPPED


def test_the_stricter_rule_ends_the_rental_with_every_lock() -> None:
    kit = Kit(replace(POLICY, lock_ends_rental="always")).ready()
    kit.begin()
    kit.end()
    assert kit.last(RentalEnded).reason is RentalEndReason.RULE_ALWAYS


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


def test_a_locked_rental_ends_with_its_time_and_grace_and_not_before() -> None:
    kit = Kit().ready()
    kit.begin()
    kit.travel(to=replace(HEDE, latitude=48.29))
    kit.end()
    kit.wait(3600 + 890 - kit.t)
    assert not kit.all(RentalEnded)
    kit.wait(20)
    assert kit.last(RentalEnded).reason is RentalEndReason.TIME_OVER


def test_time_run_out_on_the_road_is_told_once_and_locks_nobody_out() -> None:
    kit = Kit().ready()
    kit.begin()
    kit.travel(to=replace(HEDE, latitude=48.29))
    kit.wait(8000)
    assert [a.kind for a in kit.all(Alert)].count("overdue") == 1
    kit.end()
    kit.state = replace(kit.state, locked_s=None)
    assert len(kit.all(TripEnded)) == 1


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


def test_where_the_car_is_parked_is_written_after_the_rental() -> None:
    kit = Kit().ready()
    kit.begin()
    kit.travel()
    kit.end()
    assert kit.last(Parked) == Parked("hede", HEDE.latitude, HEDE.longitude)


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


def test_movement_without_a_trip_is_an_event_of_its_own() -> None:
    kit = Kit().ready()
    for metres in range(1000, 1301, 100):
        kit.t += 10
        kit.drive(10.0, odometer_m=metres)
    assert [(a.kind, a.value) for a in kit.all(Alert)] == [("unbooked_movement", 100)] * 3
    assert not kit.all(TripStarted)
