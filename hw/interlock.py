"""The last word before a relay moves: rules of its own, which trust neither the core nor the configuration.

What is not plainly allowed is denied. It hears the car's events itself (``note``) and is asked before each pulse
(``permit``). In this order:

1. Only the two known actions, only pulses from 0.05 to 1 s, only at a time that is a number.
2. **Never while the car moves.** A fresh speed above walking pace (1.4 m/s) denies everything, and so does such a speed
   up to 10 s after it went stale or its bus fell silent: nobody can brake from top speed, park, get out and shut the
   door much sooner, so this keeps nobody waiting. A speed that is no number counts as moving.
3. A fresh speed up to walking pace permits, whatever the bus says.
4. A last speed up to walking pace and the bus asleep since: the car stands, and that permits.
5. Otherwise nobody knows: the bus is faulty, or awake without a speed, or silent though it never gave one or gave a
   fast one last. Then the GPS receiver is heard: a fresh speed over ground of 10 km/h or more denies (a receiver at
   rest reports less). It is not heard in 3 and 4: a radio that anybody can disturb does not outrank the car.
6. Where nothing speaks against it, lock **and** unlock are permitted. A broken wire must not keep a driver out of the
   running trip, nor the car from being locked. Who may open at all is the core's decision; getting out is mechanical
   and asks nobody.
7. A relay rests between pulses, and each action has a number of pulses in a window. Each action counts for itself, so
   that somebody who plays with the lock button can't use up the unlocks.

``note`` is called by one thread at a time and ``permit`` by one: they share one reference, which is replaced whole.
"""

from __future__ import annotations

from collections import deque
from dataclasses import dataclass, replace
from enum import StrEnum
from math import inf, isfinite
from typing import Final

from onboard.core.commands import Action
from onboard.core.events import (
    BusReported,
    BusState,
    Event,
    Position,
    PositionReported,
    Reading,
    Signal,
    SignalsReported,
)

WALKING_PACE_MPS: Final = 1.4
PULSE_MIN_S: Final = 0.05
PULSE_MAX_S: Final = 1.0


class Denied(StrEnum):
    """Why a pulse was not given. Nothing moved."""

    UNKNOWN_ACTION = "unknown_action"
    PULSE_OUT_OF_BOUNDS = "pulse_out_of_bounds"
    NO_TIME = "no_time"
    MOVING = "moving"
    MOVED_LATELY = "moved_lately"
    MOVING_BY_GPS = "moving_by_gps"
    TOO_SOON = "too_soon"
    TOO_OFTEN = "too_often"


@dataclass(frozen=True, slots=True)
class InterlockSettings:
    """Bounds that may be made stricter, never looser. Raises ValueError for anything else."""

    moving_mps: float = WALKING_PACE_MPS
    """Above this the car moves."""
    gps_moving_mps: float = 2.8
    """At this or above, the receiver's speed over ground means moving."""
    gps_fresh_s: float = 3.0
    coast_s: float = 10.0
    """A fast speed denies for this long after it was sampled."""
    gap_s: float = 0.5
    """Rest between the end of a pulse and the next."""
    pulses_max: int = 6
    """Of one action within ``window_s``. A lock that sticks is tried three times: room for two such requests."""
    window_s: float = 30.0

    def __post_init__(self) -> None:
        """Refuse bounds outside of what this file was thought out for."""
        for name, low, high in (
            ("moving_mps", 0.0, WALKING_PACE_MPS),
            ("gps_moving_mps", 1.0, 2.8),
            ("gps_fresh_s", 1.0, 10.0),
            ("coast_s", 10.0, 60.0),
            ("gap_s", 0.5, 5.0),
            ("pulses_max", 3, 6),
            ("window_s", 30.0, 300.0),
        ):
            if not low <= getattr(self, name) <= high:
                raise ValueError(f"interlock.{name} is {getattr(self, name)}: set it from {low} to {high}")


@dataclass(frozen=True, slots=True)
class _Known:
    """What the car said last. ``bus`` is None until it was reported once."""

    speed: Reading | None = None
    bus: BusState | None = None
    fix: Position | None = None


class Interlock:
    """Permits or denies pulses. Holds at most ``pulses_max`` times of each action."""

    def __init__(self, settings: InterlockSettings | None = None) -> None:
        self._settings = settings or InterlockSettings()
        self._known = _Known()
        self._pulses = {action: deque[float](maxlen=self._settings.pulses_max) for action in Action}
        self.rest_until_s = -inf
        """Boot time before which every pulse is denied as ``too_soon``."""

    def note(self, event: Event) -> None:
        """Learn from an event on its way to the core. Only the latest speed, bus state and fix are kept."""
        match event:
            case SignalsReported(readings=readings):
                for signal, reading in readings:
                    if signal is Signal.SPEED:
                        self._known = replace(self._known, speed=reading)
            case BusReported(bus=bus):
                self._known = replace(self._known, bus=bus)
            case PositionReported(position=position):
                self._known = replace(self._known, fix=position)
            case _:
                pass  # everything else says nothing about motion

    def moving(self, at_s: float) -> bool:
        """Tell whether the car moves, or moved lately, as far as anybody knows at boot time ``at_s``."""
        return self._motion(at_s) is not None

    def permit(self, action: Action, at_s: float, pulse_s: float) -> Denied | None:
        """Tell why a pulse of ``pulse_s`` may not be given at boot time ``at_s``, or None: it may, and it is counted.

        Ask right before the pulse, and give it at once: each permission is used up by the asking.
        """
        if action not in self._pulses:
            return Denied.UNKNOWN_ACTION
        if not PULSE_MIN_S <= pulse_s <= PULSE_MAX_S:
            return Denied.PULSE_OUT_OF_BOUNDS
        if not isfinite(at_s):
            return Denied.NO_TIME
        denied = self._motion(at_s) or self._rate(action, at_s)
        if denied is None:
            self._pulses[action].append(at_s)
            self.rest_until_s = at_s + pulse_s + self._settings.gap_s
        return denied

    def _motion(self, at_s: float) -> Denied | None:
        """Rules 2 to 6."""
        known, settings = self._known, self._settings
        slow: bool = False
        if known.speed is not None:
            fresh = known.speed.fresh(at_s)
            slow = abs(known.speed.value) <= settings.moving_mps
            if fresh:
                return None if slow else Denied.MOVING
            if not slow and not at_s - known.speed.sampled_s > settings.coast_s:
                return Denied.MOVED_LATELY
        if slow and known.bus is BusState.ASLEEP:
            return None
        fix = known.fix
        if fix is None or fix.speed_mps is None or abs(at_s - fix.sampled_s) > settings.gps_fresh_s:
            return None
        return None if fix.speed_mps < settings.gps_moving_mps else Denied.MOVING_BY_GPS

    def _rate(self, action: Action, at_s: float) -> Denied | None:
        """Rule 7."""
        if at_s < self.rest_until_s:
            return Denied.TOO_SOON
        given = self._pulses[action]
        if len(given) == self._settings.pulses_max and at_s - given[0] < self._settings.window_s:
            return Denied.TOO_OFTEN
        return None
