"""Rentals and trips: what ends with a lock, what does not, what is billed and what is told."""

from __future__ import annotations

from dataclasses import replace

import pytest

from onboard.core import machine, rental
from onboard.core.draft import Draft
from onboard.core.records import (
    Alert,
    Parked,
    RentalEnded,
    RentalEndReason,
    TripEnded,
    TripEndReason,
    TripStarted,
)
from onboard.core.state import Kept
from tests.core_kit import ALICE, BOB, HEDE, POLICY, Kit, booking, card


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


def test_where_the_car_is_parked_is_written_after_the_rental() -> None:
    kit = Kit().ready()
    kit.begin()
    kit.travel()
    kit.end()
    assert kit.last(Parked) == Parked("hede", HEDE.latitude, HEDE.longitude)


def test_movement_without_a_trip_is_an_event_of_its_own() -> None:
    kit = Kit().ready()
    for metres in range(1000, 1301, 100):
        kit.t += 10
        kit.drive(10.0, odometer_m=metres)
    assert [(a.kind, a.value) for a in kit.all(Alert)] == [("unbooked_movement", 100)] * 3
    assert not kit.all(TripStarted)


def test_two_rentals_back_to_back_share_nothing() -> None:
    kit = Kit().ready(booking(end_s=1000), booking(BOB, 1000, 4000))
    kit.begin()
    kit.travel(3500)
    kit.end()
    kit.wait(1100 - kit.t)
    kit.drive(0.0)
    kit.contacts(locked=True)
    kit.begin(BOB)
    kit.travel(700, to=HEDE)
    kit.end(BOB)
    first, second = kit.all(RentalEnded)
    assert (first.driver, second.driver) == (ALICE, BOB)
    assert (first.distance_m, second.distance_m) == (3500, 700)
    assert second.billable_s < 200
    assert first.rental != second.rental


def test_a_store_made_anew_learns_the_odometer_and_tells_no_movement() -> None:
    kit = Kit().ready()
    kit.state = replace(kit.state, kept=Kept("ami-1", kit.state.kept.floor_s))
    kit.boot()
    kit.drive(0.0, odometer_m=987_600)
    assert kit.state.kept.odometer_m == 987_600
    assert not kit.all(Alert)
    kit.drive(0.0, odometer_m=987_700)
    assert kit.last(Alert).value == 100


def test_what_does_not_run_cannot_end() -> None:
    kit = Kit().ready()
    with pytest.raises(ValueError, match=r"^no trip to end$"):
        rental.end_trip(Draft(kit.state, kit.state.at), TripEndReason.LOCKED)
    with pytest.raises(ValueError, match=r"^no rental that can end$"):
        rental.end_rental(Draft(kit.state, kit.state.at), RentalEndReason.FINISHED)
    kit.begin()
    with pytest.raises(ValueError, match=r"^no rental that can end$"):
        rental.end_rental(Draft(kit.state, kit.state.at), RentalEndReason.FINISHED)


@pytest.mark.parametrize("dark_s", [10.0, 4000.0])
@pytest.mark.parametrize("seen_after_s", [2.0, 1500.0])
@pytest.mark.parametrize("sky", [True, False])
def test_a_lock_that_a_power_cut_left_unconfirmed_is_billed_to_when_it_was_asked_for(
    dark_s: float, seen_after_s: float, *, sky: bool
) -> None:
    kit = Kit().ready()
    kit.begin()
    kit.travel()
    kit.wait(1000)
    kit.drive(0.0)
    kit.contacts(locked=False)
    kit.give(card())
    asked_s = kit.t
    kit.boot(kit.t + dark_s if sky else 0.0)
    if sky:
        kit.clock()
    kit.wait(seen_after_s)  # the car sleeps, and its contacts say nothing
    kit.contacts(locked=True)
    assert kit.last(TripEnded).reason is TripEndReason.LOCKED
    assert kit.last(TripEnded).duration_s == round(asked_s)
    running = kit.state.kept.rental
    billed_s = running.billable_s if running is not None else kit.last(RentalEnded).billable_s
    assert billed_s == pytest.approx(asked_s, rel=0, abs=0.5)


def test_what_was_asked_for_stays_as_long_as_it_was_over_a_second_cut_too() -> None:
    kit = Kit().ready()
    kit.begin()
    kit.travel()
    kit.boot(100.0)
    kit.drive(0.0)
    kit.contacts(locked=False)
    kit.give(card())
    kit.boot(50.0)
    kit.wait(1500)
    kit.contacts(locked=True)
    # Without a clock the first boot's seconds count as far as they were saved: never more than there were.
    assert 100 <= kit.last(TripEnded).duration_s <= 1000


def test_a_lock_that_a_power_cut_undid_goes_on_being_billed() -> None:
    kit = Kit().ready()
    kit.begin()
    kit.travel()
    kit.give(card())
    kit.boot(kit.t + 100.0)
    kit.clock()
    kit.wait(700)  # nothing is saved while nobody knows
    kit.contacts(locked=False)
    kit.wait(1000)
    running = kit.state.kept.rental
    assert running is not None
    assert running.span.saved_epoch == kit.state.boot_epoch, "and then it is saved again"
    kit.drive(0.0)
    kit.contacts(locked=False)
    kit.give(card())
    kit.settle(locked=True)
    assert kit.last(TripEnded).duration_s == pytest.approx(kit.t, rel=0, abs=5.0)
