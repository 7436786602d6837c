"""What a box may know of the time, kept by the world: what was signed, and how true what it heard in this run was.

The numbers are those of ``docs/decisions.md`` and ``docs/protocol.md``, and are not the core's own.
"""

from __future__ import annotations

from typing import Final

from onboard.core.clock import ClockQuality, Instant
from sim.world.tale import Broken

PPM: Final = 1e-4
"""Worst drift of the boot-time clock."""
EDGE_S: Final = 0.02
"""What the drift within a nonce's minute, and numbers of Unix seconds, leave open."""
BELOW_S: Final = 300.0
BEYOND_S: Final = 20 * 365.25 * 86_400
"""A date of the sky so far below the floor, or beyond it, is none."""
AGREES_S: Final = 5.0
DOUBT_S: Final = 900.0
"""Two dates of one sky agree within the first; a newer story is believed after the second."""


class Heard:
    """One run of the box: from its start to its next."""

    def __init__(self, build_s: float) -> None:
        self.signed_s = build_s
        """The newest signed time that the box took, or its build: the floor."""
        self.began()

    def began(self) -> None:
        """The box starts and has heard nothing yet."""
        self.proven = False
        self.sky_heard = False
        self.clean = False
        """A sky was heard, and every date of it was right."""
        self.lied_s = 0.0
        """How wrong the sky was, at most, since its story began."""
        self._width_s = 0.0
        self._at_s = 0.0
        self._sky = (0.0, 0.0, 0.0)
        self._doubt_s = -DOUBT_S
        self._ahead_s = 0.0
        """How far the earliest story of a doubted sky is ahead of the true time."""

    def signed(self, time_s: float) -> None:
        """Take in a signed time: it lies in the past."""
        self.signed_s = max(self.signed_s, time_s)

    def proof(self, boot_s: float, earliest_s: float, latest_s: float) -> None:
        """A time proof was taken."""
        self.signed(earliest_s)
        self.proven, self.lied_s = True, 0.0
        self._at_s, self._width_s = boot_s, latest_s - earliest_s

    def sky(self, boot_s: float, earliest_s: float, latest_s: float, true_s: float) -> None:
        """The sky said that it is between these times."""
        if self.proven or latest_s < self.signed_s - BELOW_S or earliest_s > self.signed_s + BEYOND_S:
            return
        low_s, high_s = earliest_s - true_s, latest_s - true_s
        wrong_s = max(0.0, low_s, -high_s)
        if self.sky_heard:
            before_s, before_low_s, before_high_s = self._sky
            apart_s = max(low_s - before_high_s, before_low_s - high_s)
            if apart_s > AGREES_S + 2 * PPM * (boot_s - before_s) + EDGE_S:
                if not self.doubted():
                    self._ahead_s = max(0.0, before_low_s)
                self._doubt_s, self.lied_s = boot_s, 0.0
            self._ahead_s = min(self._ahead_s, max(0.0, low_s))
        self.lied_s = max(self.lied_s, wrong_s)
        self.clean = wrong_s == 0.0 and (self.clean or not self.sky_heard)
        self.sky_heard = True
        self._sky = (boot_s, low_s, high_s)
        self._at_s, self._width_s = boot_s, latest_s - earliest_s

    def doubted(self) -> bool:
        """Tell whether the sky has contradicted itself, and not told one story for a quarter of an hour since."""
        return not self.proven and self._sky[0] - self._doubt_s < DOUBT_S - EDGE_S

    def uncertain_s(self, boot_s: float) -> float:
        """Return how far a right clock may be from the true time, by its width and the drift since."""
        return self._width_s + 2 * PPM * (boot_s - self._at_s) + EDGE_S

    def rtc_counts(self, now: Instant) -> bool:
        """Tell whether a real-time clock says something that can be."""
        return now.quality is ClockQuality.RTC and self.signed_s <= now.wall_s <= self.signed_s + BEYOND_S

    def off_s(self, now: Instant, true_s: float, *, by_best: bool, began_off_s: float) -> float:
        """Return how wrong the clock by which a locked rental's time is over may be, by what the documents promise.

        ``by_best``: the commune accepts an unproven clock. ``began_off_s``: of the rental's beginning and its length,
        which say it too while no clock does.
        """
        if self.proven:
            return 0.0
        if self.sky_heard:
            return max(self._ahead_s if self.doubted() else self.lied_s, began_off_s)
        return max(abs(now.wall_s - true_s), began_off_s) if by_best and self.rtc_counts(now) else began_off_s

    def floor(self, floor_s: float) -> None:
        """Hold the box's floor against what was signed."""
        if floor_s < self.signed_s:
            raise Broken(f"the floor lies {self.signed_s - floor_s:.1f} s below a signed time")
        if floor_s > self.signed_s:
            raise Broken(f"the floor was raised {floor_s - self.signed_s:.1f} s above every signed time")

    def stamp(self, at: Instant, now: Instant, true_s: float) -> None:
        """Hold the time and the quality that were written into a record against what was heard."""
        if at.wall_s < self.signed_s:
            raise Broken("a record is stamped with a time below the floor")
        best = ClockQuality.RTC if now.quality is ClockQuality.RTC or self.sky_heard else ClockQuality.RESTORED
        if self.proven:
            best = ClockQuality.AUTHENTICATED
        elif self.sky_heard and not self.doubted():
            best = ClockQuality.GNSS
        if at.quality > best:
            raise Broken(f"a record is stamped {at.quality.name}, and no better than {best.name} is justified")
        off_s = abs(at.wall_s - true_s)
        if at.quality >= ClockQuality.GNSS and off_s > self.lied_s + self.uncertain_s(now.boot_s):
            raise Broken(f"a record is stamped {at.quality.name} and {off_s:.1f} s off")

    def situation(self) -> str:
        """Say what the box has to go by."""
        if self.proven:
            return "with a time proof"
        if not self.sky_heard:
            return "no time heard"
        if self.doubted():
            return "the sky contradicts itself"
        return "the sky was right" if self.clean else "the sky was wrong"
