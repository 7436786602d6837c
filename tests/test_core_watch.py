"""What the core notices of the car, the sky and the clock by itself, field by field and to the word."""

from __future__ import annotations

from dataclasses import replace
from math import inf

import pytest

from onboard.core import watch
from onboard.core.clock import Anchor, ClockQuality, Instant, Span
from onboard.core.draft import Draft
from onboard.core.events import (
    BusReported,
    BusState,
    Charging,
    ChargingReported,
    Position,
    PositionReported,
    Reading,
    Signal,
    SignalsReported,
    TimeHeard,
)
from onboard.core.records import Alert, ChargingChanged, FaultChanged, RentalEnded, RentalKind, Track
from onboard.core.state import Answered, Meter, Rental, Trip
from onboard.core.trip import distance_m
from tests.core_kit import POLICY, T0, Kit, booking

HERE = Position(48.0, -1.8, 0.0, 3, 1.0, 10.0)
THERE = replace(HERE, latitude=48.0005, sampled_s=15.0)


def draft(boot_s: float) -> Draft:
    return Draft(Kit().state, Instant(boot_s, 0.0, ClockQuality.UNSET))


def running(kind: RentalKind = RentalKind.BOOKING, begun_s: float = 0.0, **changes: object) -> Rental:
    """Return a rental under way, as a test wants it."""
    span = Span(Instant(begun_s, T0 + begun_s, ClockQuality.GNSS), bytes([1]) * 8)
    return replace(Rental(4, kind, booking(), span, Trip(5, span, Meter(), opened=True)), **changes)  # type: ignore[arg-type]


def signals(signal: Signal, value: float, resolution_m: int = 100) -> SignalsReported:
    return SignalsReported(((signal, Reading(value, 10.0, 60.0)),), resolution_m)


def test_a_car_that_moves_is_driven_by_somebody_who_is_in() -> None:
    d = draft(10.0)
    waiting = Answered(b"a", b"c" * 16, "lock", "accepted", "shut_the_door", Span(d.stamp, b""), 0)
    d.keep(grants=replace(d.kept.grants, answered=(waiting,)))
    d.vehicle(still_since_s=3.0)
    d.doors(armed_until_s=50.0, armed_needs_opening=True, left_open_told=True, locks_unconfirmed=2)
    watch.on_signals(d, signals(Signal.SPEED, 5.0, 1000))
    assert d.state.vehicle.resolution_m == 1000
    assert d.state.vehicle.still_since_s is None
    assert d.kept.grants.answered == (replace(waiting, status="denied", reason="door_open"),)
    told = d.state.doors
    assert (told.touched_s, told.left_open_told, told.armed_until_s) == (10.0, False, None)
    assert (told.armed_needs_opening, told.locks_unconfirmed) == (False, 0)


def test_a_car_that_moves_with_nothing_armed_disarms_nothing() -> None:
    d = draft(10.0)
    waiting = Answered(b"a", b"c" * 16, "lock", "accepted", "shut_the_door", Span(d.stamp, b""), 0)
    d.keep(grants=replace(d.kept.grants, answered=(waiting,)))
    watch.on_signals(d, signals(Signal.SPEED, 5.0))
    assert d.kept.grants.answered == (waiting,)


@pytest.mark.parametrize(
    ("speed_mps", "before_s", "since_s"), [(0.0, None, 10.0), (0.0, 3.0, 3.0), (None, None, None), (5.0, 3.0, None)]
)
def test_since_when_a_car_stands(speed_mps: float | None, before_s: float | None, since_s: float | None) -> None:
    d = draft(10.0)
    d.vehicle(still_since_s=before_s)
    watch.on_signals(d, signals(Signal.SOC, 50.0) if speed_mps is None else signals(Signal.SPEED, speed_mps))
    assert d.state.vehicle.still_since_s == since_s


@pytest.mark.parametrize("trip", [True, False])
def test_in_a_trip_metres_are_measured_and_outside_noticed(*, trip: bool) -> None:
    d = draft(10.0)
    d.set(meter=Meter(odometer_m=1000))
    d.keep(odometer_m=1000, rental=running() if trip else running(trip=None))
    watch.on_signals(d, signals(Signal.DISTANCE, 1250))
    assert d.state.meter.odometer_driven_m == (250 if trip else 0)
    assert d.records == ([] if trip else [Alert("unbooked_movement", 4, 250)])


@pytest.mark.parametrize(
    ("reading_m", "known_m", "told_m", "kept_m"),
    [(1100, 1000, 100, 1100), (1099, 1000, None, 1000), (1000, 1000, None, 1000), (900, 1000, None, 1000)],
)
def test_movement_that_nobody_booked(reading_m: int, known_m: int, told_m: int | None, kept_m: int) -> None:
    d = draft(10.0)
    d.keep(odometer_m=known_m)
    watch.on_signals(d, signals(Signal.DISTANCE, reading_m))
    assert d.records == ([] if told_m is None else [Alert("unbooked_movement", 0, told_m)])
    assert d.kept.odometer_m == kept_m


@pytest.mark.parametrize(
    ("kind", "told", "metres", "tells"),
    [
        (RentalKind.REOPEN, False, 100, True),
        (RentalKind.REOPEN, False, 99, False),
        (RentalKind.REOPEN, True, 100, False),
        (RentalKind.BOOKING, False, 100, False),
        (RentalKind.STAFF, False, 5000, False),
        (RentalKind.BOOKING, True, 5000, False),
    ],
)
def test_a_car_opened_for_its_cable_that_drives_off(kind: RentalKind, metres: int, *, told: bool, tells: bool) -> None:
    d = draft(10.0)
    d.sending(status_at_s=inf)
    rented = running(kind, overdue_told=told)
    d.keep(rental=rented)
    d.set(meter=Meter(odometer_m=1000, odometer_driven_m=metres))
    watch.on_signals(d, signals(Signal.SOC, 50.0))
    assert d.records == ([Alert("unbooked_movement", 4, metres)] if tells else [])
    assert d.kept.rental == replace(rented, overdue_told=told or tells)
    assert d.state.sending.status_at_s == (10.0 if tells else inf)


@pytest.mark.parametrize(
    ("bus", "speed_mps", "before_s", "since_s"),
    [
        (BusState.ASLEEP, 0.0, 3.0, 3.0),
        (BusState.ASLEEP, 0.0, None, 10.0),
        (BusState.ASLEEP, 5.0, None, None),
        (BusState.AWAKE, 5.0, None, None),
        (BusState.FAULT, 0.0, 3.0, None),
    ],
)
def test_what_a_bus_says_of_standing(
    bus: BusState, speed_mps: float, before_s: float | None, since_s: float | None
) -> None:
    d = draft(10.0)
    d.vehicle(readings={Signal.SPEED: Reading(speed_mps, 10.0, 60.0)}, still_since_s=before_s)
    watch.on_bus(d, BusReported(bus, 9.0))
    seen = d.state.vehicle
    assert (seen.bus, seen.bus_since_s, seen.still_since_s) == (bus, 9.0, since_s)
    broken = FaultChanged("can_bus", True, "error frames, link down or adapter gone")
    assert d.records == ([broken] if bus is BusState.FAULT else [])


@pytest.mark.parametrize("before", list(Charging))
@pytest.mark.parametrize("now", list(Charging))
def test_a_change_of_charging_is_written_with_the_charge(before: Charging, now: Charging) -> None:
    d = draft(10.0)
    d.vehicle(charging=before, readings={Signal.SOC: Reading(55.5, 0.0, inf)})
    d.set(plug_in_by_s=77.0)
    watch.on_charging(d, ChargingReported(now))
    assert d.state.vehicle.charging is now
    changed = now not in (before, Charging.UNKNOWN)
    assert d.records == ([ChargingChanged(now.value, 55.5)] if changed else [])
    assert d.state.plug_in_by_s == (None if changed and now is not Charging.NOT_CHARGING else 77.0)


@pytest.mark.parametrize(("metres", "ends"), [(0, False), (1, True)])
def test_one_metre_is_enough_for_a_charging_car_to_be_back(metres: int, *, ends: bool) -> None:
    d = draft(10.0)
    d.keep(rental=running(trip=None, distance_m=metres))
    watch.on_charging(d, ChargingReported(Charging.CHARGING))
    assert any(isinstance(record, RentalEnded) for record in d.records) is ends


@pytest.mark.parametrize(("trace", "sampled_s", "since_s"), [(True, 30.0, 20), (True, 8.0, 0), (False, 30.0, None)])
def test_a_point_of_an_agreed_route(sampled_s: float, since_s: int | None, *, trace: bool) -> None:
    d = draft(31.0)
    d.keep(rental=running(begun_s=10.0, booking=booking(trace=trace)))
    place = Position(48.123456, -1.654321, 5.0, 3, 1.0, sampled_s)
    watch.on_position(d, PositionReported(place))
    assert d.state.track == (() if since_s is None else ((since_s, 4_812_346, -165_432),))
    assert (d.state.vehicle.track_origin, d.state.vehicle.position) == (place, place)
    points = d.state.track
    watch.on_position(d, PositionReported(replace(place, sampled_s=sampled_s + 1)))
    assert d.state.track == points, "a fix of the same place is no point"
    assert d.state.vehicle.track_origin is place
    far = replace(place, latitude=48.1237, sampled_s=sampled_s + 1)
    watch.on_position(d, PositionReported(far))
    assert len(d.state.track) == (0 if since_s is None else 2)
    assert d.state.meter.gnss_driven_m == distance_m(place, far.latitude, far.longitude)


def test_a_car_shown_to_stand_collects_no_points() -> None:
    d = draft(31.0)
    d.keep(rental=running(booking=booking(trace=True)))
    d.vehicle(track_origin=HERE, readings={Signal.SPEED: Reading(0.0, 31.0, 60.0)})
    watch.on_position(d, PositionReported(THERE))
    assert (d.state.track, d.state.vehicle.track_origin) == ((), HERE)


def test_a_piece_of_a_route_is_written_when_it_is_full() -> None:
    d = draft(31.0)
    d.keep(rental=running(booking=booking(trace=True)))
    points = ((1, 2, 3),) * (POLICY.track_points_max - 1)
    d.set(track=points[1:])
    watch.on_position(d, PositionReported(HERE))
    assert (len(d.state.track), d.records) == (POLICY.track_points_max - 1, [])
    watch.on_position(d, PositionReported(THERE))
    [written] = d.records
    assert isinstance(written, Track)
    assert (len(written.points), d.state.track) == (POLICY.track_points_max, ())


SETTLES = "a time proof or another sky settles it"


def test_a_sky_that_cannot_be_is_a_fault_until_one_that_can_is_heard() -> None:
    d = draft(10.0)
    d.keep(floor_s=float(T0))
    watch.on_time(d, TimeHeard(Anchor(10.0, T0 - 1000.0, T0 - 1000.0, ClockQuality.GNSS)))
    assert d.records == [FaultChanged("gnss_time", True, f"gnss_date_below_floor: {SETTLES}")]
    assert (d.kept.floor_s, d.state.anchor) == (T0, None)
    proof = Anchor(10.0, T0 + 50.0, T0 + 60.0, ClockQuality.AUTHENTICATED)
    watch.on_time(d, TimeHeard(proof))
    assert d.records[1:] == [FaultChanged("gnss_time", False, "")]
    assert (d.kept.floor_s, d.state.anchor) == (T0 + 50.0, proof)


@pytest.mark.parametrize(
    ("soc_pct", "temperature_c", "value"),
    [
        (None, None, -1),
        (50.4, None, 50),
        (96.9, 20.0, 97),
        (97.0, 20.0, None),
        (50.0, -5.0, 50),
        (50.0, -5.1, None),
        (50.0, 53.0, 50),
        (50.0, 53.1, None),
    ],
)
def test_a_car_that_does_not_charge_and_could(
    soc_pct: float | None, temperature_c: float | None, value: int | None
) -> None:
    d = draft(10.0)
    heard = {Signal.SOC: soc_pct, Signal.TEMPERATURE: temperature_c}
    d.vehicle(readings={signal: Reading(said, 0.0, inf) for signal, said in heard.items() if said is not None})
    d.set(plug_in_by_s=9.0)
    watch.on_plug_in_due(d)
    assert d.records == ([] if value is None else [Alert("plug_in_missing", 0, value)])
    assert d.state.plug_in_by_s is None


KINDS = (
    (RentalKind.BOOKING, True, False, 3600.0),
    (RentalKind.BOOKING, True, True, None),
    (RentalKind.REOPEN, True, False, None),
    (RentalKind.REOPEN, True, True, None),
    (RentalKind.STAFF, True, False, 3600.0),
    (RentalKind.BOOKING, False, False, 4500.0),
    (RentalKind.BOOKING, False, True, 4500.0),
    (RentalKind.REOPEN, False, True, 4500.0),
)
"""A kind of rental, whether a trip runs, whether it was told of, and when its end must be looked at."""


@pytest.mark.parametrize(("kind", "trip", "told", "end_s"), KINDS)
def test_when_a_rentals_end_must_be_looked_at(kind: RentalKind, end_s: float | None, *, trip: bool, told: bool) -> None:
    d = draft(100.0)
    d.set(anchor=Anchor(100.0, T0 + 100.0, T0 + 100.0, ClockQuality.GNSS))
    rented = running(kind, overdue_told=told)
    d.keep(rental=rented if trip else replace(rented, trip=None))
    assert watch.wall_deadline_s(d.state) == end_s
    assert watch.wall_deadline_s(draft(100.0).state) is None
    if end_s is not None:
        d.set(anchor=Anchor(100.0, T0 + 9000.0, T0 + 9000.0, ClockQuality.GNSS))
        assert watch.wall_deadline_s(d.state) == 101.0, "what is over is looked at in a second"


@pytest.mark.parametrize(("over_s", "late"), [(0.0, False), (0.5, True)])
@pytest.mark.parametrize(("kind", "told"), [(kind, told) for kind in RentalKind for told in (False, True)])
def test_a_trip_that_outlasts_its_booking_is_told_once(
    kind: RentalKind, over_s: float, *, told: bool, late: bool
) -> None:
    d = draft(100.0)
    d.sending(status_at_s=inf)
    d.set(anchor=Anchor(100.0, T0 + 3600.0 + over_s, T0 + 3600.0 + over_s, ClockQuality.GNSS))
    rented = running(kind, overdue_told=told)
    d.keep(rental=rented)
    watch.on_wall(d)
    tells = late and not told and kind is not RentalKind.REOPEN
    assert d.records == ([Alert("overdue", 4)] if tells else [])
    assert d.kept.rental == replace(rented, overdue_told=told or tells)
    assert d.state.sending.status_at_s == (100.0 if tells else inf)
