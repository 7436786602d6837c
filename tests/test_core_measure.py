"""What is measured, at each bound's very edge: distance, places, standing still."""

from __future__ import annotations

from dataclasses import replace
from math import acos, cos, inf, pi, radians, sin

import pytest

from onboard.core.events import BusState, Position, Reading, Signal
from onboard.core.policy import Station
from onboard.core.records import DistanceSource
from onboard.core.state import Meter, Vehicle
from onboard.core.trip import (
    CONFIRMATIONS,
    EARTH_RADIUS_M,
    GNSS_HDOP_MAX,
    GNSS_STEP_M,
    Standing,
    distance_m,
    great_circle_m,
    measure,
    measure_position,
    parked_position,
    result,
    standing,
    start,
    station_at,
)
from tests.core_kit import HEDE, POLICY, Kit

FRESH_S = POLICY.speed_fresh_s
STILL = POLICY.standstill_mps
HERE = Position(48.0, -1.8, 0.0, 3, 1.0, 100.0)


# Places


@pytest.mark.parametrize(
    ("one", "other"),
    [
        ((0.0, 0.0), (0.0, 90.0)),
        ((0.0, 10.0), (60.0, 100.0)),
        ((60.0, 0.0), (60.0, 90.0)),
        ((60.0, 0.0), (-30.0, 120.0)),
        ((48.279, -1.84), (48.2965, -1.8011)),
    ],
)
def test_a_great_circle_is_what_the_law_of_cosines_says(one: tuple[float, float], other: tuple[float, float]) -> None:
    (lat, lon), (to_lat, to_lon) = one, other
    a, b = radians(lat), radians(to_lat)
    angle = acos(sin(a) * sin(b) + cos(a) * cos(b) * cos(radians(to_lon - lon)))
    assert great_circle_m(*one, *other) == pytest.approx(EARTH_RADIUS_M * angle, rel=1e-6)
    assert great_circle_m(0.0, 0.0, 0.0, 180.0) == pytest.approx(EARTH_RADIUS_M * pi)


def test_a_stations_circle_ends_with_its_radius_and_of_two_the_nearer_counts() -> None:
    kit = Kit().ready()
    kit.at(HEDE)
    away_m = distance_m(Position(HEDE.latitude, HEDE.longitude, 0.0, 3, 1.0, 0.0), 48.2970, -1.8011)
    edge = Station("edge", 48.2970, -1.8011, away_m)
    for radius_m, found in ((away_m, "edge"), (away_m - 0.01, None)):
        state = replace(kit.state, policy=replace(POLICY, stations=(replace(edge, radius_m=radius_m),)))
        station = station_at(state, kit.t)
        assert (station.id if station else None) == found
    twins = tuple(Station(name, HEDE.latitude, HEDE.longitude, 60.0) for name in "ab")
    station = station_at(replace(kit.state, policy=replace(POLICY, stations=(edge, *twins))), kit.t)
    assert station == twins[0]


@pytest.mark.parametrize(
    ("still_s", "now_s", "known"),
    [
        (100.0 + FRESH_S, 500.0, True),
        (100.5 + FRESH_S, 500.0, False),
        (None, 100.0 + FRESH_S, True),
        (None, 100.5 + FRESH_S, False),
        (200.0, 100.0 + FRESH_S, True),
    ],
)
def test_a_fix_says_where_the_car_is_while_it_is_fresh_or_was_when_the_car_came_to_stand(
    still_s: float | None, now_s: float, *, known: bool
) -> None:
    kit = Kit()
    state = replace(kit.state, vehicle=Vehicle(position=HERE, still_since_s=still_s))
    assert parked_position(state, now_s) == (HERE if known else None)


@pytest.mark.parametrize(
    ("speed", "age_s", "bus", "verdict"),
    [
        (0.0, FRESH_S, BusState.AWAKE, Standing.STILL),
        (0.0, FRESH_S + 0.5, BusState.AWAKE, Standing.UNPROVEN),
        (STILL, 60.0, BusState.ASLEEP, Standing.STILL),
        (-STILL, 60.0, BusState.ASLEEP, Standing.STILL),
        (STILL + 0.1, 60.0, BusState.ASLEEP, Standing.UNPROVEN),
    ],
)
def test_standing_still_at_its_edges(speed: float, age_s: float, bus: BusState, verdict: Standing) -> None:
    vehicle = Vehicle(readings={Signal.SPEED: Reading(speed, 100.0, 20.0)}, bus=bus)
    assert standing(vehicle, POLICY, 100.0 + age_s) is verdict


# Distance


def odometer(meter: Meter, value: float, after_s: float | None = 1.0, resolution_m: int = 100) -> Meter:
    """Hear one reading of the odometer, so long after another one; None: the first."""
    before = {} if after_s is None else {Signal.DISTANCE: Reading(0.0, 10.0, inf)}
    now = {Signal.DISTANCE: Reading(value, 10.0 + (after_s or 0.0), inf)}
    return measure(meter, Vehicle(readings=before), Vehicle(readings=now, resolution_m=resolution_m), POLICY)


KNOWN = Meter(odometer_m=1000, odometer_driven_m=50, resolution_m=100, rejected=2, candidate_m=7)


def test_a_trip_begins_on_the_last_reading_in_the_cars_own_units() -> None:
    readings = {Signal.DISTANCE: Reading(1234.4, 0.0, inf)}
    assert start(Vehicle(readings=readings, resolution_m=100)) == Meter(odometer_m=1234, resolution_m=100)
    assert odometer(Meter(), 5000.0, None, 1000) == Meter(odometer_m=5000, resolution_m=1000)


@pytest.mark.parametrize(("after_s", "most_m"), [(10.0, 534), (0.0, 200), (-5.0, 200), (0.5, 216), (None, 300_000)])
def test_the_most_that_an_odometer_may_rise(after_s: float | None, most_m: int) -> None:
    believed = odometer(KNOWN, 1000 + most_m, after_s)
    assert believed == replace(
        KNOWN, odometer_m=1000 + most_m, odometer_driven_m=50 + most_m, rejected=0, candidate_m=None
    )
    assert odometer(replace(KNOWN, rejected=0, candidate_m=None), 1001 + most_m, after_s) == replace(
        KNOWN, rejected=1, candidate_m=1001 + most_m
    )


@pytest.mark.parametrize(("more_m", "rejected"), [(0, 2), (200, 2), (201, 1), (-1, 1)])
def test_two_readings_that_may_be_one_level(more_m: int, rejected: int) -> None:
    first = replace(KNOWN, rejected=1, candidate_m=90_000)
    assert odometer(first, 90_000 + more_m) == replace(first, rejected=rejected, candidate_m=90_000 + more_m)


def test_a_level_that_holds_is_taken_and_counted() -> None:
    third = replace(KNOWN, rejected=CONFIRMATIONS - 1, candidate_m=90_000, odometer_resets=4)
    assert odometer(third, 90_100) == replace(third, odometer_m=90_100, odometer_resets=5, rejected=0, candidate_m=None)


def speed(before: float, after: float, elapsed_s: float) -> Meter:
    old = Vehicle(readings={Signal.SPEED: Reading(before, 10.0, 3.0)})
    new = Vehicle(readings={Signal.SPEED: Reading(after, 10.0 + elapsed_s, 3.0)})
    return measure(Meter(speed_gaps=1, speed_driven_m=100.0), old, new, POLICY)


@pytest.mark.parametrize(
    ("before", "after", "elapsed_s", "driven_m", "gaps"),
    [
        (4.0, 8.0, POLICY.speed_gap_s, 112.0, 1),
        (4.0, 8.0, POLICY.speed_gap_s + 0.5, 100.0, 2),
        (4.0, 8.0, 0.0, 100.0, 1),
        (STILL, STILL, 60.0, 100.0, 1),
        (STILL, 4.0, 60.0, 100.0, 2),
        (4.0, STILL, 60.0, 100.0, 2),
    ],
)
def test_the_integral_of_the_speed(before: float, after: float, elapsed_s: float, driven_m: float, gaps: int) -> None:
    assert speed(before, after, elapsed_s) == Meter(speed_gaps=gaps, speed_driven_m=driven_m, speed_seen=True)


def test_the_same_moment_heard_with_another_speed_is_no_time() -> None:
    assert speed(inf, 8.0, 0.0).speed_driven_m == 100.0


def north(metres: float, after_s: float = 10.0, **changes: object) -> Position:
    """Return a fix so far north of HERE and so long after it."""
    moved = replace(HERE, latitude=HERE.latitude + metres / EARTH_RADIUS_M * 180 / pi, sampled_s=100.0 + after_s)
    return replace(moved, **changes)  # type: ignore[arg-type]  # the fields of a fix, as a test wants them


@pytest.mark.parametrize(
    ("position", "still", "counts"),
    [
        (north(20.0), False, True),
        (north(20.0, hdop=GNSS_HDOP_MAX), False, True),
        (north(20.0, hdop=GNSS_HDOP_MAX + 0.1), False, False),
        (north(20.0, hdop=None), False, True),
        (north(20.0, mode=2), False, False),
        (north(20.0), True, False),
        (north(GNSS_STEP_M + 0.01), False, True),
        (north(GNSS_STEP_M - 0.01), False, False),
        (north(20.0, 1.0), False, True),
        (north(16.0, 0.5), False, True),
        (north(14.9, 0.0), False, False),
        (north(20.0, 0.0), False, False),
        (north(20.0, -1.0), False, False),
    ],
)
def test_a_fix_that_counts(position: Position, *, still: bool, counts: bool) -> None:
    meter, origin = measure_position(Meter(gnss_driven_m=7.0), HERE, position, POLICY, still=still)
    moved_m = distance_m(HERE, position.latitude, position.longitude)
    assert meter.gnss_driven_m == (7.0 + moved_m if counts else 7.0)
    assert origin == (position if counts else HERE)


def test_a_fix_at_the_very_bound_of_noise_counts_and_at_that_of_a_jump_too() -> None:
    exact = north(20.0)
    moved_m = distance_m(HERE, exact.latitude, exact.longitude)
    for policy, step_m in (
        (replace(POLICY, odometer_speed_mps=(moved_m - GNSS_STEP_M) / 10.0), moved_m),
        (POLICY, moved_m),
    ):
        meter, origin = measure_position(Meter(), HERE, exact, policy, still=False)
        assert (meter.gnss_driven_m, origin) == (step_m, exact)
    jump, there = measure_position(Meter(), HERE, north(1000.0, 1.0), POLICY, still=False)
    assert (jump.gnss_driven_m, there) == (0.0, north(1000.0, 1.0))


@pytest.mark.parametrize(
    ("meter", "outcome"),
    [
        (
            Meter(odometer_m=1, odometer_driven_m=302, gnss_driven_m=1.0),
            (302, DistanceSource.ODOMETER, ("distance_disagrees",)),
        ),
        (Meter(speed_seen=True, speed_driven_m=1.0, gnss_seen=True), (1, DistanceSource.SPEED, ())),
    ],
)
def test_one_metre_is_a_distance(meter: Meter, outcome: tuple[int, DistanceSource, tuple[str, ...]]) -> None:
    assert result(meter) == outcome
