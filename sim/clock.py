"""The simulation's clocks: the box's own seam (``hw.clock_sources.Clock``), with time that runs faster or by hand."""

from __future__ import annotations

import argparse
import time
from dataclasses import dataclass

from onboard.core.clock import ClockQuality, Instant


def real_boot_s() -> float:
    """Read the kernel's boot-time clock."""
    return time.clock_gettime(time.CLOCK_BOOTTIME)


@dataclass(frozen=True, slots=True)
class ScaledClock:
    """Both clocks ``rate`` times as fast as real ones. The same numbers in several processes give the same time.

    ``origin_s`` is the real boot-time clock at which the simulation began; there its own boot-time clock reads
    ``START_S`` and its wall clock ``wall_s`` (Unix). The wall clock is worth nothing until a receiver or the cloud
    vouches for it, as on a Pi without a battery-backed clock.
    """

    rate: float
    origin_s: float
    wall_s: float

    def boot_s(self) -> float:
        """Read the simulated boot-time clock."""
        return round(START_S + (real_boot_s() - self.origin_s) * self.rate, 6)

    def now(self) -> Instant:
        """Read both clocks."""
        boot_s = self.boot_s()
        return Instant(boot_s, round(self.wall_s + boot_s - START_S, 3), ClockQuality.UNSET)

    def wait_s(self, boot_s: float) -> float:
        """Return the real seconds until the simulated boot-time clock reads ``boot_s``."""
        return max(0.0, boot_s - self.boot_s()) / self.rate

    def true_wall_s(self) -> float:
        """Return the true Unix time of the simulated world: what its satellites and its cloud go by."""
        return self.now().wall_s

    def arguments(self) -> tuple[str, ...]:
        """Return the arguments from which ``from_arguments`` makes the same clock in another process."""
        return ("--rate", repr(self.rate), "--origin", repr(self.origin_s), "--wall", repr(self.wall_s))

    @classmethod
    def from_arguments(cls, args: argparse.Namespace) -> ScaledClock:
        """Build the clock of the process that made these arguments."""
        return cls(args.rate, args.origin, args.wall)


START_S = 60.0
"""What the simulated boot-time clock reads at the origin: a machine that booted a minute ago."""


def add_clock_arguments(parser: argparse.ArgumentParser) -> None:
    """Describe ``ScaledClock.arguments``."""
    parser.add_argument("--rate", type=float, required=True, help="simulated seconds in a real one")
    parser.add_argument("--origin", type=float, required=True, help="real boot-time clock at the simulation's start")
    parser.add_argument("--wall", type=float, required=True, help="simulated Unix time at that moment")


class ManualClock:
    """A clock that stands still until it is told to ``advance``; for recordings and tests."""

    def __init__(self, wall_s: float, boot_s: float = START_S, quality: ClockQuality = ClockQuality.UNSET) -> None:
        self._boot_s = boot_s
        self._offset_s = wall_s - boot_s
        self._quality = quality

    def boot_s(self) -> float:
        """Read the boot-time clock."""
        return self._boot_s

    def now(self) -> Instant:
        """Read both clocks."""
        return Instant(self._boot_s, self._boot_s + self._offset_s, self._quality)

    def wait_s(self, boot_s: float) -> float:
        """Return how long until then, if a second took a second."""
        return max(0.0, boot_s - self._boot_s)

    def advance(self, to_boot_s: float) -> None:
        """Go on to ``to_boot_s``. Raises ValueError for a moment that is past: a boot-time clock never goes back."""
        if to_boot_s < self._boot_s:
            raise ValueError(f"{to_boot_s} is before {self._boot_s}")
        self._boot_s = to_boot_s
