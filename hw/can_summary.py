"""What a recording of a car's bus says, over time and in sum. Pure: frames in, lines and a summary out.

The recording runs through the decoder that also serves the car, so a figure here is a figure the box would believe. All
frames of the model are decoded. Output is in a driver's units, which the keys name (``speed_kmh``, ``soc_pct``).
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from math import floor
from typing import Any, Final

from hw.can_signals import CarModel, SignalDecoder
from hw.recordings import RecordedFrame
from onboard.core.events import Charging, ChargingReported
from onboard.core.records import DistanceSource

SPEED_GAP_S: Final = 2.0
"""No distance is made up from speed across a longer gap."""

FRAME_REASONS: Final = (
    "foreign_id",
    "extended_id",
    "error_frame",
    "remote_frame",
    "short_frame",
    "excess_bytes",
    "checksum",
    "frozen_counter",
    "after_wake",
)

Shown = float | int | bool | str | None


@dataclass(frozen=True, slots=True)
class _Column:
    """How one signal is shown: its key in JSON, its unit, and from the core's unit to that."""

    key: str
    unit: str
    show: Callable[[float], Shown]
    slow: bool
    """A change of it is worth a line of its own."""


def _scaled(factor: float) -> Callable[[float], Shown]:
    return lambda value: round(value * factor, 6)


def _gear(value: float) -> Shown:
    return {-1: "R", 0: "N", 1: "D"}.get(int(value))


COLUMNS: Final[Mapping[str, _Column]] = {
    "speed": _Column("speed_kmh", "km/h", _scaled(3.6), slow=False),
    "distance": _Column("odometer_km", "km", _scaled(0.001), slow=True),
    "soc": _Column("soc_pct", "%", _scaled(1), slow=True),
    "range": _Column("range_km", "km", _scaled(0.001), slow=True),
    "current": _Column("current_a", "A", _scaled(1), slow=False),
    "voltage": _Column("voltage_v", "V", _scaled(1), slow=False),
    "temperature": _Column("temperature_c", "degC", _scaled(1), slow=True),
    "gear": _Column("gear", "", _gear, slow=True),
    "ready": _Column("ready", "", bool, slow=True),
    "park_brake": _Column("park_brake", "", bool, slow=True),
    "charge_time": _Column("charge_time_s", "s", _scaled(1), slow=False),
    "charger_state": _Column("charger_state", "", int, slow=True),
    "odometer_unit": _Column("odometer_unit", "", lambda value: "km" if value == 1 else "mi", slow=True),
}
"""Every key is in every JSON line, null where the car or the moment has no value."""


@dataclass(slots=True)
class _Statistics:
    """What one signal did."""

    frames: int = 0
    first: Shown = None
    last: Shown = None
    lowest: float | None = None
    highest: float | None = None
    highest_s: float | None = None
    changes: int = 0

    def add(self, value: float, shown: Shown, at_s: float) -> None:
        if self.frames == 0:
            self.first = shown
        self.frames += 1
        self.last = shown
        if self.lowest is None or value < self.lowest:
            self.lowest = value
        if self.highest is None or value > self.highest:
            self.highest, self.highest_s = value, at_s


@dataclass(slots=True)
class _Distance:
    """Distance by odometer (rises that a car could have driven) and by speed (trapezoids)."""

    model: CarModel
    odometer: tuple[float, float] | None = None
    by_odometer_m: float = 0.0
    resets: int = 0
    speed: tuple[float, float] | None = None
    by_speed_m: float = 0.0
    speed_gaps: int = 0

    def add_odometer(self, value_m: float, at_s: float) -> None:
        if self.odometer is not None:
            before_m, before_s = self.odometer
            possible_m = self.model.odometer_speed_mps * (at_s - before_s) + 2 * self.model.odometer_resolution_m
            if 0 <= value_m - before_m <= possible_m:
                self.by_odometer_m += value_m - before_m
            else:
                self.resets += 1
        self.odometer = (value_m, at_s)

    def add_speed(self, value_mps: float, at_s: float) -> None:
        if self.speed is not None:
            before_mps, before_s = self.speed
            if at_s - before_s <= SPEED_GAP_S:
                self.by_speed_m += (before_mps + value_mps) / 2 * (at_s - before_s)
            else:
                self.speed_gaps += 1
        self.speed = (value_mps, at_s)

    def best(self) -> tuple[float | None, DistanceSource]:
        """The odometer if there is one, else the speed."""
        if self.odometer is not None:
            return self.by_odometer_m, DistanceSource.ODOMETER
        if self.speed is not None:
            return self.by_speed_m, DistanceSource.SPEED
        return None, DistanceSource.NONE


class Inspection:
    """A recording in the making: ``frame`` returns the lines due, ``summary`` the sum. Pure."""

    def __init__(self, model: CarModel) -> None:
        self.model = model
        self.decoder = SignalDecoder(model, on_value=self._value)
        self.span_s = 0.0
        self.channels: set[str] = set()
        self._statistics = {key: _Statistics() for key in model.rules}
        self._distance = _Distance(model)
        self._spells: list[dict[str, Shown]] = []
        self._next_s = 1
        self._changed = False

    def frame(self, frame: RecordedFrame) -> list[dict[str, Shown]]:
        """Take in one frame; return a line for a whole second gone by, and one if a slow signal changed."""
        rows = []
        if frame.at_s >= self._next_s:
            rows.append(self._row(float(self._next_s)))
            self._next_s = floor(frame.at_s) + 1
        self.span_s = frame.at_s
        self.channels.add(frame.channel)
        self._changed = False
        self.decoder.feed(
            frame.arbitration_id, frame.is_extended, frame.is_error, frame.is_remote, frame.data, frame.at_s
        )
        for event in self.decoder.take(frame.at_s):
            if isinstance(event, ChargingReported):
                self._charging(event.charging)
        if self._changed:
            rows.append(self._row(frame.at_s))
        return rows

    def last_row(self) -> list[dict[str, Shown]]:
        """Return the line for the recording's end, if it has a frame."""
        return [self._row(self.span_s)] if self.channels else []

    def _row(self, at_s: float) -> dict[str, Shown]:
        row: dict[str, Shown] = {"t_s": at_s}
        for key, column in COLUMNS.items():
            value = self.decoder.fresh(key, at_s)
            row[column.key] = None if value is None else column.show(value)
        row["charging"] = self.decoder.charging.value
        return row

    def _value(self, key: str, value: float, at_s: float) -> None:
        column, statistics = COLUMNS[key], self._statistics[key]
        shown = column.show(value)
        if column.slow and statistics.frames and shown != statistics.last:
            statistics.changes += 1
            self._changed = True
        statistics.add(value, shown, at_s)
        if key == "distance":
            self._distance.add_odometer(value, at_s)
        elif key == "speed":
            self._distance.add_speed(value, at_s)

    def _charging(self, charging: Charging) -> None:
        self._changed = True
        soc = self._statistics["soc"].last if "soc" in self._statistics else None
        since_s = self.decoder.charging_since_s
        if charging is Charging.CHARGING:
            self._spells.append({"from_s": since_s, "to_s": None, "soc_first_pct": soc, "soc_last_pct": soc})
        elif self._spells and self._spells[-1]["to_s"] is None:
            self._spells[-1].update(to_s=since_s, soc_last_pct=soc)

    def values(self) -> int:
        """Return how many values were believed."""
        return sum(statistics.frames for statistics in self._statistics.values())

    def summary(self) -> dict[str, Any]:
        """Return the summary: keys stay the same from release to release."""
        counts = self.decoder.counts
        distance_m, source = self._distance.best()
        soc, odometer = self._statistics.get("soc"), self._statistics.get("distance")
        speed = self._statistics.get("speed")
        if self._spells and self._spells[-1]["to_s"] is None and soc is not None:
            self._spells[-1]["soc_last_pct"] = soc.last
        return {
            "car": self.model.name,
            "span_s": self.span_s,
            "channels": sorted(self.channels),
            "soc_first_pct": soc.first if soc else None,
            "soc_last_pct": soc.last if soc else None,
            "odometer_first_km": odometer.first if odometer else None,
            "odometer_last_km": odometer.last if odometer else None,
            "odometer_resolution_m": self.model.odometer_resolution_m,
            "odometer_resets": self._distance.resets,
            "distance_m": None if distance_m is None else round(distance_m, 1),
            "distance_source": source.value,
            "distance_by_odometer_m": round(self._distance.by_odometer_m, 1) if self._distance.odometer else None,
            "distance_by_speed_m": round(self._distance.by_speed_m, 1) if self._distance.speed else None,
            "speed_gaps": self._distance.speed_gaps,
            "speed_max_kmh": _shown("speed", speed.highest) if speed else None,
            "speed_max_at_s": speed.highest_s if speed else None,
            "charging_last": self.decoder.charging.value,
            "charging_spells": self._spells,
            "frames": {
                "seen": counts["seen"],
                "used": counts["used"],
                "refused": counts["seen"] - counts["used"],
                "refused_by_reason": {reason: counts[reason] for reason in FRAME_REASONS if counts[reason]},
            },
            "values_refused": {reason: count for reason, count in sorted(counts.items()) if ":" in reason},
            "signals": {COLUMNS[key].key: self._signal(key) for key in self.model.rules},
        }

    def _signal(self, key: str) -> dict[str, Any]:
        rule, statistics = self.model.rules[key], self._statistics[key]
        return {
            "vss": rule.signal.value if rule.signal else None,
            "unit": COLUMNS[key].unit,
            "frames": statistics.frames,
            "first": statistics.first,
            "last": statistics.last,
            "min": _shown(key, statistics.lowest),
            "max": _shown(key, statistics.highest),
            "changes": statistics.changes if COLUMNS[key].slow else None,
        }


def _shown(key: str, value: float | None) -> Shown:
    return None if value is None else COLUMNS[key].show(value)
