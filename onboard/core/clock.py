"""What time it is, and how far that may be believed.

Durations come from the boot-time clock, which counts suspend and never jumps. Wall time has a quality. A floor lies
under it: the build date, raised only by signed times, so that a spoofed date can neither revive an old right nor,
once it is gone, keep anybody out. A time proof outranks every unsigned source for the rest of the boot.
"""

from __future__ import annotations

from dataclasses import dataclass, replace
from enum import IntEnum
from math import inf
from typing import Final

DRIFT: Final = 1e-4
"""Worst drift of the boot-time clock: 100 ppm, twice a Pi's crystal over its temperature range."""

HORIZON_S: Final = 20 * 365.25 * 86400
"""A date further than this above the floor is a fault or a spoof (GNSS weeks roll over at 19.6 years)."""

FLOOR_TOLERANCE_S: Final = 300.0
"""A GNSS date this little below the floor is taken as the floor: the cloud's clock may run ahead of the satellites'."""

DISAGREE_S: Final = 5.0
DOUBT_S: Final = 900.0
"""An unsigned time further than this from a time proof is a disagreement worth telling."""


class ClockQuality(IntEnum):
    """How well a wall time is known, from worst to best."""

    UNSET = 0
    RESTORED = 1
    RTC = 2
    GNSS = 3
    AUTHENTICATED = 4


@dataclass(frozen=True, slots=True)
class Instant:
    """One moment: ``boot_s`` seconds of the boot-time clock, ``wall_s`` Unix seconds, and the quality of the latter.

    As an argument of ``step``, ``wall_s`` is the system clock as read, ``quality`` what the system vouches for (never
    above ``RTC``). As a stamp in a record, both are what the core believed at that moment.
    """

    boot_s: float
    wall_s: float
    quality: ClockQuality


@dataclass(frozen=True, slots=True)
class Anchor:
    """True time lay in [``earliest_s``, ``latest_s``] (Unix) when the boot-time clock read ``boot_s``.

    ``doubted_s``: boot time since which the sky, that had contradicted itself, has told one story; ``sky_s`` is that.
    """

    boot_s: float
    earliest_s: float
    latest_s: float
    quality: ClockQuality
    doubted_s: float | None = None
    sky_s: float = 0.0


@dataclass(frozen=True, slots=True)
class Belief:
    """What the core believes of the wall clock now. ``latest_s`` is infinite while nothing bounds it."""

    earliest_s: float
    best_s: float
    latest_s: float
    quality: ClockQuality


def believe(floor_s: float, anchor: Anchor | None, now: Instant) -> Belief:
    """Return the believable wall time at ``now``; never below ``floor_s``."""
    if anchor is not None:
        elapsed_s = now.boot_s - anchor.boot_s
        drift_s = abs(elapsed_s) * DRIFT
        earliest_s = max(floor_s, anchor.earliest_s + elapsed_s - drift_s)
        best_s = max(floor_s, (anchor.earliest_s + anchor.latest_s) / 2 + elapsed_s)
        latest_s = max(floor_s, anchor.latest_s + elapsed_s + drift_s)
        return Belief(earliest_s, best_s, latest_s, anchor.quality)
    if now.quality >= ClockQuality.RTC and floor_s <= now.wall_s <= floor_s + HORIZON_S:
        return Belief(floor_s, now.wall_s, inf, ClockQuality.RTC)
    known = ClockQuality.RESTORED if floor_s > 0 else ClockQuality.UNSET
    return Belief(floor_s, floor_s, inf, known)


def learn(
    floor_s: float, anchor: Anchor | None, heard: Anchor, now: Instant
) -> tuple[float, Anchor | None, str | None]:
    """Take in a time that a source gave.

    Returns ``(floor_s, anchor, refusal)``. A time proof (``AUTHENTICATED``) replaces everything and raises the floor.
    A GNSS time replaces unsigned ones. It is refused below the floor (``gnss_date_below_floor``), beyond the horizon
    (``gnss_date_beyond_horizon``), where a time proof of this boot says otherwise (``gnss_disagrees_with_proof``), or
    an earlier one from the sky and the boot-time clock since then (``gnss_disagrees_with_itself``).
    """
    if heard.quality is ClockQuality.AUTHENTICATED:
        return max(floor_s, heard.earliest_s), heard, None
    if heard.latest_s < floor_s - FLOOR_TOLERANCE_S:
        return floor_s, anchor, "gnss_date_below_floor"
    if heard.earliest_s > floor_s + HORIZON_S:
        return floor_s, anchor, "gnss_date_beyond_horizon"
    if anchor is not None and anchor.quality is ClockQuality.AUTHENTICATED:
        known = believe(floor_s, anchor, replace(now, boot_s=heard.boot_s))
        if known.earliest_s - DISAGREE_S <= heard.earliest_s <= known.latest_s + DISAGREE_S:
            return floor_s, anchor, None
        return floor_s, anchor, "gnss_disagrees_with_proof"
    if anchor is not None and heard.quality is ClockQuality.GNSS:
        doubted = _doubt(anchor, heard)
        if doubted is not None:
            return floor_s, doubted, None if doubted.doubted_s == anchor.doubted_s else "gnss_disagrees_with_itself"
    return floor_s, heard, None


def _doubt(anchor: Anchor, heard: Anchor) -> Anchor | None:
    """Return what is left of a sky that contradicts what it said before in this boot; None where it is to be believed.

    Nobody can tell which of two skies is the right one: the true time lies in both, and is worth no more than a
    real-time clock's. A time proof settles it, or a quarter of an hour in which the newer one keeps its story.
    """
    elapsed_s = heard.boot_s - anchor.boot_s
    drift_s = abs(elapsed_s) * DRIFT
    earliest_s, latest_s = anchor.earliest_s + elapsed_s - drift_s, anchor.latest_s + elapsed_s + drift_s
    if anchor.doubted_s is None:
        if anchor.quality is not ClockQuality.GNSS:
            return None
        agrees = earliest_s - DISAGREE_S <= heard.latest_s and heard.earliest_s <= latest_s + DISAGREE_S
        since_s = heard.boot_s
    else:
        agrees = abs(heard.earliest_s - anchor.sky_s - elapsed_s) <= DISAGREE_S + drift_s
        since_s = anchor.doubted_s if agrees else heard.boot_s
        agrees = agrees and heard.boot_s - since_s >= DOUBT_S
    if agrees:
        return None
    widest = min(earliest_s, heard.earliest_s), max(latest_s, heard.latest_s)
    return Anchor(heard.boot_s, *widest, ClockQuality.RTC, since_s, heard.earliest_s)


def stamp(floor_s: float, anchor: Anchor | None, now: Instant) -> Instant:
    """Return ``now`` as it goes into a record: the boot-time clock and the believed wall time with its quality."""
    belief = believe(floor_s, anchor, now)
    return Instant(now.boot_s, belief.best_s, belief.quality)


@dataclass(frozen=True, slots=True)
class Span:
    """A duration that may outlive a boot. ``epoch``: the boot of its start; ``saved_*``: its last durable length."""

    started: Instant
    epoch: bytes
    saved_s: float = 0.0
    saved_boot_s: float = 0.0
    saved_epoch: bytes = b""


def length(span: Span, at: Instant, epoch: bytes) -> tuple[float, str]:
    """Return how long a span is at the believed moment ``at`` of the boot ``epoch``, and what that rests on.

    ``boot``: the boot-time clock alone. ``wall``: two wall times of GNSS or better, across a reboot. ``floor``: a
    reboot without a trustworthy clock: the saved length and this boot's own seconds, surely not too long.
    """
    least_s = _least_s(span, at, epoch)
    if span.epoch == epoch:
        return least_s, "boot"
    if min(span.started.quality, at.quality) >= ClockQuality.GNSS:
        return max(least_s, at.wall_s - span.started.wall_s), "wall"
    return least_s, "floor"


def _least_s(span: Span, at: Instant, epoch: bytes) -> float:
    """Return how long a span surely is: the seconds of boots' clocks alone."""
    if span.epoch == epoch:
        return max(0.0, at.boot_s - span.started.boot_s)
    since_s = at.boot_s - span.saved_boot_s if span.saved_epoch == epoch else at.boot_s
    return span.saved_s + max(0.0, since_s)


def save(span: Span, at: Instant, epoch: bytes) -> Span:
    """Return the span with what it surely lasted made durable: a sky that is wrong today must not count tomorrow."""
    return replace(span, saved_s=_least_s(span, at, epoch), saved_boot_s=at.boot_s, saved_epoch=epoch)
