"""How far a trip went, and where the car stands: distance by three sources at once, standing still, stations.

Distance is the odometer in whole units, then the integral of the speed, then filtered GNSS (``DistanceSource``). A
decrease of the odometer is never a wrap: it is a reset, another cluster or garbage, and waits for confirmation.
"""

from __future__ import annotations

from dataclasses import replace
from enum import StrEnum
from math import asin, cos, radians, sin, sqrt
from typing import Final

from onboard.core.events import BusState, Position, Reading, Signal
from onboard.core.policy import Policy, Station
from onboard.core.records import DistanceSource
from onboard.core.state import Meter, State, Vehicle

EARTH_RADIUS_M: Final = 6_371_000.0
CONFIRMATIONS: Final = 3
"""Readings in a row that make a new odometer level believable (``docs/signals.md``)."""
OUTAGE_MAX_M: Final = 300_000
"""Most that an odometer may have moved while the box was off in mid-trip: further than a full battery reaches."""
GNSS_STEP_M: Final = 15.0
"""A displacement below this is a receiver's noise: a parked car must not collect distance."""
GNSS_HDOP_MAX: Final = 5.0
DISAGREE_M: Final = 300.0
DISAGREE_FRACTION: Final = 0.15


class Standing(StrEnum):
    """Whether the car stands still, as far as can be shown."""

    STILL = "still"
    MOVING = "moving"
    UNPROVEN = "unproven"


def standing(vehicle: Vehicle, policy: Policy, now_s: float) -> Standing:
    """Return ``STILL`` for a fresh speed of 0, or a last speed of 0 with the bus asleep since, without an error."""
    speed = vehicle.readings.get(Signal.SPEED)
    if speed is not None and speed.fresh(now_s) and now_s - speed.sampled_s <= policy.speed_fresh_s:
        # Backwards is moving; what is no number might be.
        return Standing.STILL if abs(speed.value) <= policy.standstill_mps else Standing.MOVING
    if vehicle.bus is BusState.ASLEEP and speed is not None and abs(speed.value) <= policy.standstill_mps:
        return Standing.STILL
    return Standing.UNPROVEN


def distance_m(a: Position, latitude: float, longitude: float) -> float:
    """Return the great-circle distance in metres from a position to a place in degrees."""
    return great_circle_m(a.latitude, a.longitude, latitude, longitude)


def great_circle_m(latitude: float, longitude: float, to_latitude: float, to_longitude: float) -> float:
    """Return the distance in metres of two places in degrees, on a sphere: within 0.6 % of the ellipsoid."""
    lat1, lat2 = radians(latitude), radians(to_latitude)
    half = sin((lat2 - lat1) / 2) ** 2 + cos(lat1) * cos(lat2) * sin(radians(to_longitude - longitude) / 2) ** 2
    return 2 * EARTH_RADIUS_M * asin(min(1.0, sqrt(half)))


def station_at(state: State, now_s: float) -> Station | None:
    """Return the station where the car stands, by the last good fix since it stood still; None when unknown."""
    place = parked_position(state, now_s)
    if place is None:
        return None
    near = ((distance_m(place, s.latitude, s.longitude), s) for s in state.policy.stations)
    inside = [(d, s) for d, s in near if d <= s.radius_m]
    return min(inside, key=lambda pair: pair[0])[1] if inside else None


def parked_position(state: State, now_s: float) -> Position | None:
    """Return the last fix if it still says where the car is: young enough, or taken since the car stood still."""
    position, still_s = state.vehicle.position, state.vehicle.still_since_s
    if position is None:
        return None
    if still_s is not None and position.sampled_s >= still_s - state.policy.speed_fresh_s:
        return position
    return position if now_s - position.sampled_s <= state.policy.speed_fresh_s else None


def start(vehicle: Vehicle) -> Meter:
    """Return the meter of a trip that begins now, standing on the last known odometer."""
    odometer = vehicle.readings.get(Signal.DISTANCE)
    return Meter(odometer_m=None if odometer is None else round(odometer.value), resolution_m=vehicle.resolution_m)


def measure(meter: Meter, old: Vehicle, new: Vehicle, policy: Policy) -> Meter:
    """Return the meter after the readings went from ``old`` to ``new``. Readings of the same sample add nothing."""
    meter = replace(meter, resolution_m=new.resolution_m)
    before, after = old.readings.get(Signal.DISTANCE), new.readings.get(Signal.DISTANCE)
    if after is not None and after is not before:
        elapsed_s = None if before is None else after.sampled_s - before.sampled_s
        meter = _odometer(meter, round(after.value), elapsed_s, policy.odometer_speed_mps)
    before, after = old.readings.get(Signal.SPEED), new.readings.get(Signal.SPEED)
    if after is not None and after is not before:
        meter = _speed(meter, before, after, policy)
    return meter


def _odometer(meter: Meter, value_m: int, elapsed_s: float | None, fastest_mps: float) -> Meter:
    if meter.odometer_m is None:
        return replace(meter, odometer_m=value_m)
    delta_m = value_m - meter.odometer_m
    most_m = OUTAGE_MAX_M if elapsed_s is None else fastest_mps * max(0.0, elapsed_s) + 2 * meter.resolution_m
    if 0 <= delta_m <= most_m:
        driven_m = meter.odometer_driven_m + delta_m
        return replace(meter, odometer_m=value_m, odometer_driven_m=driven_m, rejected=0, candidate_m=None)
    consistent = meter.candidate_m is not None and 0 <= value_m - meter.candidate_m <= 2 * meter.resolution_m
    rejected = meter.rejected + 1 if consistent else 1
    if rejected < CONFIRMATIONS:
        return replace(meter, rejected=rejected, candidate_m=value_m)
    # A new level that holds: another cluster. What lay between is unknown and not billed as distance.
    return replace(meter, odometer_m=value_m, odometer_resets=meter.odometer_resets + 1, rejected=0, candidate_m=None)


def _speed(meter: Meter, before: Reading | None, after: Reading, policy: Policy) -> Meter:
    meter = replace(meter, speed_seen=True)
    if before is None:
        return meter
    elapsed_s = after.sampled_s - before.sampled_s
    if elapsed_s <= 0:
        return meter
    if elapsed_s > policy.speed_gap_s:
        stood = before.value <= policy.standstill_mps and after.value <= policy.standstill_mps
        return meter if stood else replace(meter, speed_gaps=meter.speed_gaps + 1)
    driven_m = meter.speed_driven_m + (before.value + after.value) / 2 * elapsed_s
    return replace(meter, speed_driven_m=driven_m)


def measure_position(
    meter: Meter, origin: Position | None, position: Position, policy: Policy, *, still: bool
) -> tuple[Meter, Position | None]:
    """Return the meter and the new origin after a fix. Noise, weak fixes and a car at rest add nothing."""
    if position.mode < 3 or (position.hdop is not None and position.hdop > GNSS_HDOP_MAX):
        return meter, origin
    meter = replace(meter, gnss_seen=True)
    if origin is None:
        return meter, position
    moved_m = distance_m(origin, position.latitude, position.longitude)
    elapsed_s = position.sampled_s - origin.sampled_s
    if moved_m < GNSS_STEP_M or still or elapsed_s <= 0:
        return meter, origin
    if moved_m > policy.odometer_speed_mps * elapsed_s + GNSS_STEP_M:
        return meter, position
    return replace(meter, gnss_driven_m=meter.gnss_driven_m + moved_m), position


def result(meter: Meter) -> tuple[int, DistanceSource, tuple[str, ...]]:
    """Return ``(distance_m, source, flags)`` of a trip.

    An odometer that did not move while the wheels drove more than three of its units is frozen: the speed counts then,
    flagged. ``distance_disagrees``: odometer and another source differ by more than 300 m and 15 %, and by more than
    the odometer's own step.
    """
    flags: list[str] = []
    if meter.odometer_resets:
        flags.append("odometer_reset")
    speed_m, gnss_m = round(meter.speed_driven_m), round(meter.gnss_driven_m)
    frozen = meter.odometer_driven_m == 0 and meter.speed_driven_m >= max(3 * meter.resolution_m, DISAGREE_M)
    if meter.odometer_m is not None and not frozen:
        driven_m = meter.odometer_driven_m
        others = [m for m, seen in ((speed_m, meter.speed_seen and not meter.speed_gaps), (gnss_m, gnss_m > 0)) if seen]
        bound_m = max(DISAGREE_M, DISAGREE_FRACTION * driven_m, meter.resolution_m)
        if any(abs(driven_m - other) > bound_m for other in others):
            flags.append("distance_disagrees")
        return driven_m, DistanceSource.ODOMETER, tuple(flags)
    if frozen:
        flags.append("odometer_frozen")
    if meter.speed_seen and (speed_m > 0 or not meter.gnss_seen):
        if meter.speed_gaps:
            flags.append("speed_gaps")
        return speed_m, DistanceSource.SPEED, tuple(flags)
    if meter.gnss_seen:
        return gnss_m, DistanceSource.GNSS, tuple(flags)
    return 0, DistanceSource.NONE, tuple(flags)
