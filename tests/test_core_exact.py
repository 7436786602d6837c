"""Rentals to the second and to the field: everything that is written of one, and what each begin and end leaves."""

from __future__ import annotations

from dataclasses import replace

import pytest

from onboard.core import rental
from onboard.core.clock import Anchor, ClockQuality, Instant, Span
from onboard.core.draft import Draft
from onboard.core.events import (
    ActuationOutcome,
    ActuationSettled,
    Charging,
    ChargingReported,
    Position,
    Reading,
    Signal,
)
from onboard.core.records import (
    DistanceSource,
    EndRequested,
    Parked,
    RentalEnded,
    RentalEndReason,
    RentalKind,
    Track,
    TripEnded,
    TripEndReason,
    TripStarted,
)
from onboard.core.state import EndRequest, LastDriver, Meter, Rental, Trip
from tests.core_kit import ALICE, BOB, HEDE, POLICY, T0, Kit, booking, card
from tests.core_people import ANYWHERE

BEGUN = Instant(0.0, float(T0), ClockQuality.GNSS)


def draft(kit: Kit) -> Draft:
    return Draft(kit.state, Instant(kit.t, 0.0, ClockQuality.UNSET))


def driven() -> Kit:
    """A car whose running rental was driven to a place that is no station, and locked there."""
    kit = Kit().ready()
    kit.begin()
    kit.travel(to=ANYWHERE)
    kit.end()
    return kit


@pytest.mark.parametrize("trace", [True, False])
def test_everything_that_is_written_of_a_rental(*, trace: bool) -> None:
    kit = Kit().ready(booking(trace=trace))
    kit.begin()
    kit.travel()
    kit.end()
    route = [Track(1, 1, ((102, 4829650, -180110),))] if trace else []
    assert kit.records[2:] == [
        TripStarted(1, 1, RentalKind.BOOKING, ALICE * 2, ALICE, "card", 2, True, 1000, 80.0, "bazouges"),
        EndRequested(1, 1, "card", False),
        *route,
        TripEnded(
            1, 1, TripEndReason.LOCKED, 103, 1000, DistanceSource.ODOMETER, 100, 1012, 2000, 80.0, "hede", ()
        ),
        RentalEnded(
            1, RentalKind.BOOKING, ALICE * 2, ALICE, RentalEndReason.AT_DROPOFF, 103, "boot", 1, 1000, "hede"
        ),
        Parked("hede", HEDE.latitude, HEDE.longitude),
    ]  # fmt: skip
    assert kit.state.kept.odometer_m == 2000
    assert (kit.state.progress_at_s, kit.state.track_at_s) == (None, None)


def test_of_what_nobody_heard_nothing_is_written() -> None:
    kit = Kit()
    kit.clock()
    kit.state = replace(kit.state, kept=replace(kit.state.kept, odometer_m=500))
    kit.state = replace(kit.state, kept=replace(kit.state.kept, rental=running()))
    d = draft(kit)
    rental.end_trip(d, TripEndReason.LOCKED)
    assert d.records == [
        TripEnded(1, 1, TripEndReason.LOCKED, 0, 0, DistanceSource.NONE, 1, None, None, None, None, ()),
    ]
    assert d.kept.odometer_m == 500, "the last that was known"


def running(kind: RentalKind = RentalKind.BOOKING, **changes: object) -> Rental:
    """Return a rental under way since the beginning."""
    span = Span(BEGUN, bytes([1]) * 8)
    base = Rental(1, kind, booking(), span, Trip(1, span, Meter(), opened=True))
    return replace(base, **changes)  # type: ignore[arg-type]  # the fields of a rental, as a test wants them


@pytest.mark.parametrize("trace", [True, False])
def test_a_trip_begins_with_nothing_of_what_was_before(*, trace: bool) -> None:
    kit = Kit().ready(booking(trace=trace))
    kit.t = 50.0
    kit.state = replace(
        kit.state,
        meter=Meter(odometer_m=7, speed_driven_m=9.0),
        progress_at_s=1e6,
        locked_s=1.0,
        track=((1, 2, 3),),
        track_at_s=1e6,
        plug_in_by_s=1e6,
        vehicle=replace(kit.state.vehicle, track_origin=Position(1.0, 2.0, 0.0, 3, 1.0, 0.0)),
    )
    kit.give(card())
    state = kit.state
    assert state.meter == Meter(odometer_m=1000, resolution_m=kit.state.vehicle.resolution_m)
    assert (state.progress_at_s, state.track_at_s) == (350.0, 110.0 if trace else None)
    assert (state.locked_s, state.track, state.plug_in_by_s) == (None, (), None)
    assert state.vehicle.track_origin is None


def test_the_second_trip_of_a_rental_knows_how_long_it_lasted() -> None:
    kit = driven()
    kit.drive(0.0)
    kit.give(card(), 200)
    now = kit.state.kept.rental
    assert now is not None
    assert (now.trips, now.used_s) == (2, kit.t)


def test_who_was_the_last_driver_is_nobodys_business_once_somebody_else_begins() -> None:
    kit = Kit().ready(booking(end_s=1000), booking(BOB))
    kit.begin()
    kit.travel()
    kit.end()
    assert kit.state.last_driver == LastDriver(booking(end_s=1000), kit.t)
    kit.give(card(BOB), 100)
    assert kit.word == "opening"
    assert kit.state.last_driver is None


def test_the_one_visit_for_the_cable_counts_once_the_door_moved_and_not_before() -> None:
    kit = Kit().ready()
    kit.begin()
    kit.travel()
    kit.end()
    ended = kit.state.last_driver
    assert ended is not None
    kit.give(card(), 60)
    assert kit.state.last_driver == replace(ended, used=True)
    while kit.state.doors.actuation is not None:
        pulse = kit.state.doors.actuation
        kit.give(ActuationSettled(pulse.number, ActuationOutcome.REFUSED, "no relay", kit.t), 1.0)
        kit.wait(5.0)
    assert kit.last(RentalEnded).reason is RentalEndReason.NOT_OPENED
    assert kit.state.last_driver == ended, "may be tried again"
    assert kit.last(RentalEnded).billable_s == 0


def test_a_rental_that_never_opened_leaves_nobody_as_the_last_driver_and_is_not_over() -> None:
    kit = Kit().ready()
    kit.give(card())
    d = draft(kit)
    d.set(last_driver=LastDriver(booking(BOB), 0.0, used=True))
    rental.end_trip(d, TripEndReason.NOT_OPENED)
    assert isinstance(d.records[1], RentalEnded)
    assert d.records[1].reason is RentalEndReason.NOT_OPENED
    assert d.state.last_driver == LastDriver(booking(BOB), 0.0, used=True)
    assert d.kept.ended == ()
    later = draft(kit)
    later.keep(rental=running(trips=2))
    rental.end_trip(later, TripEndReason.NOT_OPENED)
    assert [type(record) for record in later.records] == [TripEnded], "its earlier trips go on counting"


@pytest.mark.parametrize(
    ("kind", "reason"), [(RentalKind.STAFF, RentalEndReason.STAFF_DONE), (RentalKind.REOPEN, RentalEndReason.FINISHED)]
)
def test_a_visit_ends_with_its_lock_under_its_own_name(kind: RentalKind, reason: RentalEndReason) -> None:
    d = draft(Kit().ready())
    d.keep(rental=running(kind))
    rental.end_trip(d, TripEndReason.LOCKED)
    assert isinstance(d.records[1], RentalEnded)
    assert d.records[1].reason is reason


@pytest.mark.parametrize(
    ("metres", "speed_m", "over"), [(0, 0.0, False), (1, 0.0, True), (0, 0.5, True), (0, 1.0, True), (1, 1.0, True)]
)
def test_back_at_the_station_any_driven_metre_ends_it(metres: int, speed_m: float, *, over: bool) -> None:
    kit = Kit().ready()
    kit.at(HEDE)
    d = draft(kit)
    d.keep(rental=running())
    d.set(meter=Meter(odometer_m=1000, odometer_driven_m=metres, speed_driven_m=speed_m, speed_seen=True))
    rental.end_trip(d, TripEndReason.LOCKED)
    reasons = [record.reason for record in d.records if isinstance(record, RentalEnded)]
    assert reasons == ([RentalEndReason.AT_DROPOFF] if over else [])


def test_metres_of_earlier_trips_count_for_the_way_back_and_for_the_bill() -> None:
    kit = Kit().ready()
    kit.at(HEDE)
    d = draft(kit)
    d.keep(rental=running(distance_m=700))
    d.set(meter=Meter(odometer_m=1000, odometer_driven_m=50))
    rental.end_trip(d, TripEndReason.LOCKED)
    ended = d.records[1]
    assert isinstance(ended, RentalEnded)
    assert (ended.distance_m, ended.reason) == (750, RentalEndReason.AT_DROPOFF)


def test_a_lock_after_the_time_and_its_grace_ends_the_rental_anywhere() -> None:
    for after_s, over in ((900.0, False), (900.5, True)):
        kit = Kit().ready(booking(end_s=100))
        kit.begin()
        kit.t = 100 + after_s
        kit.drive(0.0)
        kit.state = replace(kit.state, anchor=Anchor(kit.t, T0 + kit.t, T0 + kit.t, ClockQuality.GNSS))
        d = draft(kit)
        rental.end_trip(d, TripEndReason.LOCKED)
        reasons = [record.reason for record in d.records if isinstance(record, RentalEnded)]
        assert reasons == ([RentalEndReason.TIME_OVER] if over else [])


def test_no_rental_has_no_time_that_could_be_over() -> None:
    assert rental.time_over(Kit().ready().state) is False


@pytest.mark.parametrize(
    ("unproven", "anchored", "sure_s"), [(True, False, 30.0), (True, True, 20.0), (False, False, 0.0)]
)
def test_what_time_surely_is(sure_s: float, *, unproven: bool, anchored: bool) -> None:
    kit = Kit(replace(POLICY, unproven_start=unproven), floor_s=float(T0))
    kit.t = 1.0
    anchor = Anchor(1.0, T0 + 20.0, T0 + 40.0, ClockQuality.GNSS) if anchored else None
    now = Instant(1.0, T0 + 30.0, ClockQuality.RTC)
    assert rental.surely_s(replace(kit.state, at=now, anchor=anchor)) == pytest.approx(T0 + sure_s, rel=0, abs=0.01)


def test_an_abandoned_rental_is_billed_and_its_trip_counted_to_the_standstill_to_the_second() -> None:
    kit = Kit().ready(booking(end_s=600))
    kit.begin()
    kit.travel(1000)
    stood_s = kit.state.vehicle.still_since_s
    assert stood_s == 102.5
    kit.t = 3200.0
    for earlier_s, billed_s in ((0.0, 102), (250.0, 250)):
        d = draft(kit)
        assert d.kept.rental is not None
        d.keep(rental=replace(d.kept.rental, billable_s=earlier_s))
        rental.end_trip(d, TripEndReason.ABANDONED)
        trip, ended = (record for record in d.records if isinstance(record, TripEnded | RentalEnded))
        assert isinstance(trip, TripEnded)
        assert isinstance(ended, RentalEnded)
        assert (trip.duration_s, ended.billable_s, ended.billable_basis) == (102, billed_s, "boot")
        assert d.state.last_driver is None
        assert d.kept.ended == (ALICE * 2,)
        assert d.state.locked_s is None


def test_an_abandoned_trip_that_began_after_the_standstill_has_no_length() -> None:
    kit = Kit().ready()
    kit.begin()
    kit.wait(100)
    d = draft(kit)
    span = Span(Instant(90.0, T0 + 90.0, ClockQuality.GNSS), kit.state.boot_epoch)
    assert d.kept.rental is not None
    assert d.kept.rental.trip is not None
    d.keep(rental=replace(d.kept.rental, trip=replace(d.kept.rental.trip, span=span)))
    rental.end_trip(d, TripEndReason.ABANDONED)
    [ended] = [record for record in d.records if isinstance(record, TripEnded)]
    assert ended.duration_s == 0


def test_how_an_end_was_reckoned_is_written_with_it() -> None:
    kit = Kit().ready()
    kit.begin()
    kit.travel()
    kit.boot(400.0)
    d = draft(kit)
    rental.end_trip(d, TripEndReason.LOCKED)
    assert d.kept.rental is not None
    assert d.kept.rental.billable_basis == "floor"


@pytest.mark.parametrize(
    ("started", "sky", "sure_s"),
    [
        (ClockQuality.GNSS, None, 150.0),  # what it lasted, after its proven beginning
        (ClockQuality.RTC, None, -86_400.0),  # an unproven beginning says nothing: the floor
        (ClockQuality.GNSS, 40.0, 40.0),  # a sky says it itself
        (ClockQuality.GNSS, -50.0, -50.0),
    ],
)
def test_a_rental_that_began_at_a_good_time_tells_the_time_that_surely_is(
    started: ClockQuality, sky: float | None, sure_s: float
) -> None:
    kit = Kit()
    kit.t = 150.0
    anchor = None if sky is None else Anchor(kit.t, T0 + sky, T0 + sky, ClockQuality.GNSS)
    span = Span(replace(BEGUN, quality=started), kit.state.boot_epoch)
    kept = replace(kit.state.kept, rental=running(span=span))
    now = Instant(kit.t, T0 - 10**6, ClockQuality.RTC)
    assert rental.surely_s(replace(kit.state, kept=kept, at=now, anchor=anchor)) == T0 + sure_s


@pytest.mark.parametrize(
    ("kind", "driven_away", "billed_s"),
    [
        (RentalKind.BOOKING, False, 70),
        (RentalKind.BOOKING, True, 70),
        (RentalKind.REOPEN, False, 0),
        (RentalKind.REOPEN, True, 70),
        (RentalKind.STAFF, False, 0),
        (RentalKind.STAFF, True, 0),
    ],
)
def test_who_is_billed(kind: RentalKind, billed_s: int, *, driven_away: bool) -> None:
    d = draft(Kit().ready())
    d.keep(rental=running(kind, trip=None, billable_s=70.4, billable_basis="wall", overdue_told=driven_away))
    rental.end_rental(d, RentalEndReason.FINISHED)
    assert d.records == [
        RentalEnded(
            1, kind, ALICE * 2, ALICE, RentalEndReason.FINISHED, billed_s, "wall", 1, 0, "bazouges"
        ),
        Parked("bazouges", 48.2790, -1.8400),
    ]  # fmt: skip


@pytest.mark.parametrize("charging", list(Charging))
def test_a_car_that_does_not_charge_is_to_do_so_within_its_grace(charging: Charging) -> None:
    kit = Kit().ready()
    kit.give(ChargingReported(charging), 30)
    d = draft(kit)
    d.keep(rental=running(trip=None))
    rental.end_rental(d, RentalEndReason.FINISHED)
    late = charging in (Charging.UNKNOWN, Charging.NOT_CHARGING)
    assert d.state.plug_in_by_s == (30 + POLICY.plug_in_grace_s if late else None)


def test_what_of_a_trip_is_saved_when_it_is_time() -> None:
    kit = Kit().ready()
    kit.begin()
    kit.travel(500)
    kit.t = 290.0
    kit.drive(0.0)
    kit.wait(20)
    now = kit.state.kept.rental
    assert now is not None
    assert now.trip is not None
    epoch = kit.state.boot_epoch
    assert now.trip.meter == kit.state.meter
    assert now.trip.meter.odometer_driven_m == 500
    assert (now.trip.span.saved_s, now.trip.span.saved_epoch) == (300.0, epoch)
    assert (now.span.saved_s, now.span.saved_epoch) == (300.0, epoch)
    assert now.used_s == kit.state.vehicle.still_since_s
    assert kit.state.progress_at_s == 600.0


def test_nothing_is_saved_while_a_lock_is_to_be_confirmed_but_looked_for_again() -> None:
    kit = Kit().ready()
    kit.begin()
    d = draft(kit)
    now = d.kept.rental
    assert now is not None
    assert now.trip is not None
    asked = replace(now, trip=replace(now.trip, end=EndRequest("card", finish=False, at=BEGUN)))
    d.keep(rental=asked)
    d.set(progress_at_s=kit.t)
    rental.save_progress(d)
    assert d.kept.rental == asked
    assert d.state.progress_at_s == kit.t + POLICY.progress_every_s


@pytest.mark.parametrize(("trace", "under_way"), [(True, True), (True, False), (False, True)])
def test_a_piece_of_a_route_is_written_once_and_the_next_is_due(*, trace: bool, under_way: bool) -> None:
    kit = Kit().ready()
    d = draft(kit)
    whole = running(booking=booking(trace=trace))
    d.keep(rental=whole if under_way else replace(whole, trip=None))
    d.set(track=((1, 2, 3),), track_at_s=5.0)
    rental.flush_track(d)
    assert d.records == ([Track(1, 1, ((1, 2, 3),))] if under_way else [])
    assert d.state.track == ()
    assert d.state.track_at_s == (kit.t + POLICY.track_every_s if trace and under_way else None)


def test_without_a_rental_there_is_no_route() -> None:
    d = draft(Kit().ready())
    d.set(track=((1, 2, 3),), track_at_s=5.0)
    rental.flush_track(d)
    assert (d.records, d.state.track, d.state.track_at_s) == ([], (), None)


@pytest.mark.parametrize(("signal", "word"), [(Signal.SOC, "soc_pct"), (Signal.DISTANCE, "odometer_m")])
def test_a_record_holds_what_the_car_last_said_or_nothing(signal: Signal, word: str) -> None:
    kit = Kit()
    assert getattr(rental, word)(kit.state) is None
    kit.state = replace(kit.state, vehicle=replace(kit.state.vehicle, readings={signal: Reading(1234.4, 0.0, 1e9)}))
    assert getattr(rental, word)(kit.state) == (1234.4 if word == "soc_pct" else 1234)
