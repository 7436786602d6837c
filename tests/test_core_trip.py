"""How far a trip went, by which source, and where the car stands: ``onboard.core.trip`` and what ``watch`` feeds it."""

from __future__ import annotations

import gzip
from dataclasses import replace
from itertools import pairwise
from math import inf, nan
from pathlib import Path

import pytest

from onboard.core.events import BusReported, BusState, Position, PositionReported, Reading, Signal, SignalsReported
from onboard.core.policy import Policy
from onboard.core.records import Alert, DistanceSource, TripEnded
from onboard.core.state import Meter, Vehicle
from onboard.core.trip import Standing, distance_m, measure, measure_position, parked_position, result, standing, start
from tests.core_kit import BAZOUGES, HEDE, POLICY, Kit, booking
from tests.core_people import ANYWHERE

AMI_M, LEAF_M = 100, 1000


class Drive:
    """A trip's meter, fed with readings second by second."""

    def __init__(self, resolution_m: int = AMI_M, odometer_m: float | None = 50_000.0, policy: Policy = POLICY) -> None:
        self.policy = policy
        self.t = 0.0
        readings = {} if odometer_m is None else {Signal.DISTANCE: Reading(odometer_m, 0.0, inf)}
        self.vehicle = Vehicle(readings=readings, resolution_m=resolution_m)
        self.meter = start(self.vehicle)

    def hear(self, after_s: float = 1.0, *, odometer_m: float | None = None, speed_mps: float | None = None) -> None:
        self.t += after_s
        readings = dict(self.vehicle.readings)
        if odometer_m is not None:
            readings[Signal.DISTANCE] = Reading(odometer_m, self.t, inf)
        if speed_mps is not None:
            readings[Signal.SPEED] = Reading(speed_mps, self.t, 3.0)
        new = replace(self.vehicle, readings=readings)
        self.meter = measure(self.meter, self.vehicle, new, self.policy)
        self.vehicle = new

    def outcome(self) -> tuple[int, DistanceSource, tuple[str, ...]]:
        return result(self.meter)


# Odometer


@pytest.mark.parametrize("resolution_m", [AMI_M, LEAF_M])
def test_the_odometer_counts_in_whole_units(resolution_m: int) -> None:
    drive = Drive(resolution_m)
    for second in range(400):
        drive.hear(odometer_m=50_000 + second * 10 // resolution_m * resolution_m, speed_mps=10.0)
    assert drive.outcome() == (3990 // resolution_m * resolution_m, DistanceSource.ODOMETER, ())


def test_half_a_kilometre_on_a_leaf_is_no_disagreement() -> None:
    drive = Drive(LEAF_M)
    for second in range(31):
        drive.hear(odometer_m=50_000 if second < 22 else 51_000, speed_mps=18.5)
    driven_m, source, flags = drive.outcome()
    assert (driven_m, source, flags) == (1000, DistanceSource.ODOMETER, ())
    assert round(drive.meter.speed_driven_m) == 555


@pytest.mark.parametrize("garbage_m", [0.0, 49_000.0, 1_677_721_500.0, 51_000.0])
def test_a_reading_that_cannot_be_changes_nothing(garbage_m: float) -> None:
    drive = Drive()
    drive.hear(odometer_m=50_100)
    drive.hear(odometer_m=garbage_m)
    drive.hear(odometer_m=50_200)
    assert drive.outcome() == (200, DistanceSource.ODOMETER, ())


def test_garbage_that_differs_each_time_is_never_a_new_level() -> None:
    drive = Drive()
    for garbage_m in (10.0, 900_000.0, 5.0, 700_000.0, 1.0):
        drive.hear(odometer_m=garbage_m)
    drive.hear(odometer_m=50_100)
    assert drive.outcome() == (100, DistanceSource.ODOMETER, ())


@pytest.mark.parametrize("level_m", [0.0, 90_000.0])
def test_another_cluster_is_a_reset_whose_gap_is_not_billed(level_m: float) -> None:
    drive = Drive()
    drive.hear(odometer_m=50_300, after_s=30)
    for more_m in (0, 0, 100):
        drive.hear(odometer_m=level_m + more_m)
    drive.hear(odometer_m=level_m + 400, after_s=10)
    assert drive.outcome() == (600, DistanceSource.ODOMETER, ("odometer_reset",))


@pytest.mark.parametrize(("gap_m", "counts"), [(3000, True), (200_000, True), (301_000, False)])
def test_an_outage_is_bridged_as_far_as_a_battery_reaches(gap_m: int, counts: bool) -> None:
    drive = Drive()
    drive.vehicle = Vehicle(resolution_m=AMI_M)  # a boot forgets every reading, the meter was kept
    drive.hear(odometer_m=50_000 + gap_m)
    assert drive.outcome()[0] == (gap_m if counts else 0)


def test_a_trip_that_began_before_the_bus_woke_counts_from_the_first_reading() -> None:
    drive = Drive(odometer_m=None)
    assert drive.outcome() == (0, DistanceSource.NONE, ())
    drive.hear(odometer_m=7000)
    drive.hear(odometer_m=7100, after_s=10)
    assert drive.outcome() == (100, DistanceSource.ODOMETER, ())


def test_the_same_sample_seen_again_adds_nothing() -> None:
    drive = Drive()
    drive.hear(odometer_m=50_100, speed_mps=10.0)
    for _ in range(5):
        drive.meter = measure(drive.meter, drive.vehicle, drive.vehicle, POLICY)
    twin = replace(drive.vehicle, readings={s: replace(r) for s, r in drive.vehicle.readings.items()})
    drive.meter = measure(drive.meter, drive.vehicle, twin, POLICY)
    assert (drive.outcome()[0], drive.meter.speed_driven_m) == (100, 0.0)


def test_an_odometer_that_stands_still_under_a_driving_car_is_frozen_and_the_speed_counts() -> None:
    drive = Drive()
    for _ in range(31):
        drive.hear(odometer_m=50_000, speed_mps=10.0)
    assert drive.outcome() == (300, DistanceSource.SPEED, ("odometer_frozen",))
    drive = Drive(LEAF_M)
    for _ in range(31):
        drive.hear(odometer_m=50_000, speed_mps=10.0)
    assert drive.outcome()[1] is DistanceSource.ODOMETER, "a whole unit of a LEAF is more than that"


# Speed


def test_the_speeds_integral_bridges_no_gap_and_says_so() -> None:
    drive = Drive(odometer_m=None)
    for second in range(11):
        drive.hear(speed_mps=float(second))
    assert drive.outcome() == (50, DistanceSource.SPEED, ())
    drive.hear(speed_mps=10.0, after_s=2.1)
    drive.hear(speed_mps=10.0, after_s=2.0)
    assert drive.outcome() == (70, DistanceSource.SPEED, ("speed_gaps",))


def test_a_gap_between_two_standstills_is_none() -> None:
    drive = Drive(odometer_m=None)
    for after_s in (1.0, 500.0, 1.0):
        drive.hear(speed_mps=0.0, after_s=after_s)
    assert drive.outcome() == (0, DistanceSource.SPEED, ())


def test_a_sample_from_before_the_last_adds_nothing() -> None:
    drive = Drive(odometer_m=None)
    drive.hear(speed_mps=10.0)
    drive.hear(speed_mps=10.0, after_s=-0.5)
    assert drive.outcome()[0] == 0


def test_what_was_driven_in_an_outage_is_a_gap_of_the_speed() -> None:
    kit = Kit().ready()
    kit.begin()
    kit.travel(1000)
    kit.wait(300)
    kit.boot()
    kit.clock()
    kit.drive(0.0)
    kit.at(ANYWHERE)
    kit.contacts(locked=False)
    assert kit.state.meter.speed_gaps == 1


# GNSS


def fix(north_m: float, t: float, **changes: object) -> Position:
    base = Position(48.0 + north_m / 111_195.0, -1.8, None, 3, 1.0, t)
    return replace(base, **changes)  # type: ignore[arg-type]  # the fields of a position, as a test wants them


def walked(*fixes: Position, still: bool = False) -> Meter:
    meter, origin = Meter(), None
    for each in fixes:
        meter, origin = measure_position(meter, origin, each, POLICY, still=still)
    return meter


def test_the_path_by_gnss_adds_up() -> None:
    meter = walked(*(fix(20.0 * n, float(n)) for n in range(51)))
    assert result(meter) == (1000, DistanceSource.GNSS, ())


@pytest.mark.parametrize("bad", [{"mode": 2}, {"hdop": 5.1}])
def test_a_weak_fix_adds_nothing(bad: dict[str, object]) -> None:
    assert not walked(fix(0, 0), fix(100, 10, **bad)).gnss_driven_m
    assert not walked(fix(0, 0, **bad)).gnss_seen


def test_a_fix_without_hdop_counts_and_one_of_a_car_at_rest_does_not() -> None:
    assert round(walked(fix(0, 0), fix(100, 10, hdop=None)).gnss_driven_m) == 100
    assert not walked(fix(0, 0), fix(100, 10), still=True).gnss_driven_m


def test_a_jump_of_a_thousand_kilometres_there_and_back_adds_nothing() -> None:
    meter = walked(fix(0, 0), fix(1e6, 1), fix(0, 2), fix(0, 2), fix(20, 3))
    assert round(meter.gnss_driven_m) == 20


def test_slow_driving_adds_up_in_steps_above_the_noise() -> None:
    meter = walked(*(fix(2.0 * n, float(n)) for n in range(101)))
    assert 185 <= meter.gnss_driven_m <= 200


def _standing_car(recordings: Path) -> list[Position]:
    """The GNSS module of ``data/can``: a car at rest (README: 44 positions, 24 m when every jump is added up)."""
    found = []
    with gzip.open(recordings / "can" / "leaf2019_uds_soc.candump.log.gz", "rt") as log:
        for line in log:
            stamp, channel, frame = line.split()
            name, _, data = frame.partition("#")
            if channel != "can2" or int(name, 16) != 3:
                continue
            bits = int.from_bytes(bytes.fromhex(data), "little")
            latitude, longitude = (bits >> 1 & (1 << 28) - 1) * 1e-6 - 90, (bits >> 29 & (1 << 29) - 1) * 1e-6 - 180
            if bits & 1:
                found.append(Position(latitude, longitude, 0.0, 3, 1.0, float(stamp.strip("()"))))
    return found


@pytest.mark.parametrize("still", [True, False])
def test_a_standing_car_collects_nothing_though_its_fixes_wander(recordings: Path, still: bool) -> None:
    fixes = _standing_car(recordings)
    jumps_m = [distance_m(a, b.latitude, b.longitude) for a, b in pairwise(fixes)]
    assert (len(fixes), round(sum(jumps_m))) == (44, 24)
    assert result(walked(*fixes, still=still)) == (0, DistanceSource.GNSS, ())


# Which source counts


@pytest.mark.parametrize(
    ("meter", "outcome"),
    [
        (Meter(), (0, DistanceSource.NONE, ())),
        (Meter(gnss_seen=True, gnss_driven_m=900.4), (900, DistanceSource.GNSS, ())),
        (Meter(gnss_seen=True, gnss_driven_m=900, speed_seen=True), (900, DistanceSource.GNSS, ())),
        (Meter(gnss_seen=True, gnss_driven_m=900, speed_seen=True, speed_driven_m=7), (7, DistanceSource.SPEED, ())),
        (Meter(speed_seen=True), (0, DistanceSource.SPEED, ())),
        (Meter(odometer_m=1, odometer_driven_m=0), (0, DistanceSource.ODOMETER, ())),
        (Meter(odometer_m=1, odometer_driven_m=1000, gnss_driven_m=1300), (1000, DistanceSource.ODOMETER, ())),
        (
            Meter(odometer_m=1, odometer_driven_m=1000, gnss_driven_m=1301),
            (1000, DistanceSource.ODOMETER, ("distance_disagrees",)),
        ),
        (
            Meter(odometer_m=1, odometer_driven_m=10_000, speed_seen=True, speed_driven_m=8499),
            (10_000, DistanceSource.ODOMETER, ("distance_disagrees",)),
        ),
        (
            Meter(odometer_m=1, odometer_driven_m=10_000, speed_seen=True, speed_driven_m=8500),
            (10_000, DistanceSource.ODOMETER, ()),
        ),
        (
            Meter(odometer_m=1, odometer_driven_m=10_000, speed_seen=True, speed_driven_m=10, speed_gaps=1),
            (10_000, DistanceSource.ODOMETER, ()),
        ),
    ],
)
def test_the_best_source_counts_and_a_contradiction_is_flagged(
    meter: Meter, outcome: tuple[int, DistanceSource, tuple[str, ...]]
) -> None:
    assert result(meter) == outcome


# Peers' failures (F16 to F18): invariants of every trip record


def test_a_trip_by_speed_alone_is_longer_than_nothing_and_ends_after_its_start() -> None:
    kit = Kit().ready()
    kit.begin()
    for _ in range(60):
        kit.t += 1
        kit.drive(17.8)
    kit.t += 1
    kit.drive(0.0)
    kit.contacts(locked=False)
    kit.end()
    ended = kit.last(TripEnded)
    assert ended.distance_source is DistanceSource.SPEED
    assert 1040 <= ended.distance_m <= 1080, "64 km/h for a minute is not 0 m"
    assert ended.duration_s > 60
    assert "odometer_frozen" in ended.flags


def test_a_round_trip_is_as_long_as_its_road_not_as_the_crow_flies() -> None:
    kit = Kit().ready(booking(dropoff="bazouges"))
    kit.begin()
    kit.travel(4200, to=HEDE)
    kit.travel(4200, to=BAZOUGES)
    kit.end()
    assert kit.last(TripEnded).distance_m == 8400


def test_power_and_sky_lost_at_the_end_still_end_the_trip_once() -> None:
    kit = Kit().ready()
    kit.begin()
    kit.travel(2000)
    kit.drive(0.0)
    kit.contacts(locked=False)
    kit.boot()
    kit.contacts(locked=False)
    kit.drive(0.0, odometer_m=3000)
    kit.end()
    assert [t.distance_m for t in kit.all(TripEnded)] == [2000]


# Standing still, and where


def vehicle(speed: float | None, sampled_s: float, bus: BusState) -> Vehicle:
    readings = {} if speed is None else {Signal.SPEED: Reading(speed, sampled_s, 3.0)}
    return Vehicle(readings=readings, bus=bus)


@pytest.mark.parametrize(
    ("speed", "age_s", "bus", "verdict"),
    [
        (0.0, 1.0, BusState.AWAKE, Standing.STILL),
        (0.3, 1.0, BusState.FAULT, Standing.STILL),
        (0.31, 1.0, BusState.ASLEEP, Standing.MOVING),
        (-2.0, 1.0, BusState.AWAKE, Standing.MOVING),
        (nan, 1.0, BusState.AWAKE, Standing.MOVING),
        (0.0, 60.0, BusState.ASLEEP, Standing.STILL),
        (0.0, 60.0, BusState.AWAKE, Standing.UNPROVEN),
        (0.0, 60.0, BusState.FAULT, Standing.UNPROVEN),
        (9.0, 60.0, BusState.ASLEEP, Standing.UNPROVEN),
        (-9.0, 60.0, BusState.ASLEEP, Standing.UNPROVEN),
        (nan, 60.0, BusState.ASLEEP, Standing.UNPROVEN),
        (None, 0.0, BusState.ASLEEP, Standing.UNPROVEN),
        (0.0, -5.0, BusState.AWAKE, Standing.UNPROVEN),
    ],
)
def test_standing_still_is_shown_or_not_claimed(
    speed: float | None, age_s: float, bus: BusState, verdict: Standing
) -> None:
    assert standing(vehicle(speed, 100.0 - age_s, bus), POLICY, 100.0) is verdict


def test_after_a_boot_nothing_is_still_until_a_speed_was_seen() -> None:
    kit = Kit().ready()
    kit.begin()
    kit.travel(to=ANYWHERE)
    kit.boot()
    assert standing(kit.state.vehicle, POLICY, kit.t) is Standing.UNPROVEN
    kit.contacts(locked=False)
    kit.at(HEDE)
    kit.t += 2
    kit.contacts(locked=False)
    kit.give(BusReported(BusState.ASLEEP, kit.t))
    kit.wait(4)
    assert standing(kit.state.vehicle, POLICY, kit.t) is Standing.UNPROVEN
    assert parked_position(kit.state, kit.t) is None, "the fix may be from a mile ago"


def test_a_faulty_bus_ends_what_was_known_of_standing() -> None:
    kit = Kit().ready()
    since = []
    for event in (BusReported(BusState.AWAKE, kit.t), BusReported(BusState.FAULT, kit.t)):
        kit.give(event)
        since.append(kit.state.vehicle.still_since_s)
    kit.drive(0.0)
    since.append(kit.state.vehicle.still_since_s)
    assert since == [0.0, None, 0.0]


def test_a_fix_holds_as_long_as_the_car_stands() -> None:
    kit = Kit().ready()
    kit.wait(5000)
    place = parked_position(kit.state, kit.t)
    assert place is not None
    assert place.latitude == BAZOUGES.latitude
    kit.drive(5.0)
    assert parked_position(kit.state, kit.t) is None


def test_an_odometer_that_fell_is_no_movement_and_a_first_one_neither() -> None:
    kit = Kit().ready()
    for value in (1000, 20, 1000):
        kit.give(SignalsReported(((Signal.DISTANCE, Reading(value, kit.t, inf)),), 100), 1)
    assert not kit.all(Alert)
    kit.give(PositionReported(fix(0, kit.t)))
    assert kit.state.kept.odometer_m == 1000
