"""The clocks of the box. ``Clock`` is the seam: the product and the virtual car differ only in which one they build."""

from __future__ import annotations

import time
from pathlib import Path
from typing import Protocol

from onboard.core.clock import ClockQuality, Instant

RTC_DEVICE = Path("/sys/class/rtc/rtc0")


class Clock(Protocol):
    """What time it is. Safe to call from any thread."""

    def boot_s(self) -> float:
        """Seconds of the boot-time clock: counts suspend, never jumps, starts anew with a boot."""
        ...

    def now(self) -> Instant:
        """The boot-time clock, the system's wall clock, and what the system vouches for of the latter."""
        ...

    def wait_s(self, boot_s: float) -> float:
        """Real seconds to wait until the boot-time clock reads ``boot_s``; 0 if it already does."""
        ...


class SystemClock:
    """The kernel's clocks. The wall clock is worth ``RTC`` if the machine has a real-time clock, else nothing."""

    def __init__(self, rtc: Path = RTC_DEVICE) -> None:
        self._quality = ClockQuality.RTC if rtc.exists() else ClockQuality.UNSET

    def boot_s(self) -> float:
        """CLOCK_BOOTTIME, to the microsecond."""
        return round(time.clock_gettime(time.CLOCK_BOOTTIME), 6)

    def now(self) -> Instant:
        """Read both clocks."""
        return Instant(self.boot_s(), round(time.time(), 3), self._quality)

    def wait_s(self, boot_s: float) -> float:
        """Seconds from now until ``boot_s``."""
        return max(0.0, boot_s - self.boot_s())
