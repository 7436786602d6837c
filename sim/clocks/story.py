"""What happens in one history, as plain moves drawn from its number: each may be left out, and the rest still plays.

Everybody comes about the edges of their right, a little early or late: that is where a clock decides.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass, replace
from random import Random
from typing import Final, NamedTuple

from sim.world.rates import random_of

MINUTE_S: Final = 60.0
HOUR_S: Final = 3600.0
DAY_S: Final = 86_400.0
YEAR_S: Final = 365.25 * DAY_S
WEEKS_1024_S: Final = 1024 * 7 * DAY_S
PPM_MAX: Final = 100
"""What the boot-time clock may drift (``docs/decisions.md``): twice a Pi's crystal."""


class Move(NamedTuple):
    """One thing that happens. ``who``, ``s`` and ``how`` mean what ``sim.clocks.world`` says beside each ``what``."""

    what: str
    how: str = ""
    who: int = 0
    s: float = 0.0


@dataclass(frozen=True, slots=True)
class Window:
    """A booking: whose (0 or 1), and its times in seconds after the history's beginning."""

    person: int
    start_s: int
    end_s: int


@dataclass(frozen=True, slots=True)
class Story:
    """One history. ``windows`` are the bookings that the commune begins with."""

    number: int
    drift_ppm: int
    """Of the first boot's clock."""
    unproven_start: bool
    horizon_s: int
    windows: tuple[Window, ...]
    staff_until_s: int
    moves: tuple[Move, ...]


EDGES: Final = ("early", "early", "start", "start", "end", "end", "was", "expiry", "horizon", "staff", "until", "grace")
"""Times about which people come; what they are, ``World.edge`` says."""
OFF_S: Final = (20.0, 20.0, 10 * MINUTE_S, 3 * HOUR_S, DAY_S, 20 * DAY_S, 200 * DAY_S)
SYSTEM: Final = ("unset", "unset", "restored", "rtc", "rtc", "rtc")
RTC_OFF_S: Final = (0.0, 0.0, 3.0, -40.0, HOUR_S, -HOUR_S, DAY_S, -DAY_S, YEAR_S, -20 * YEAR_S)
LIES_S: Final = (DAY_S, -DAY_S, YEAR_S, -YEAR_S, 12 * YEAR_S, WEEKS_1024_S, -WEEKS_1024_S, 25 * YEAR_S)
CHANGES: Final = ("cancel", "cancel", "move", "cut", "longer", "lost card", "lost phone", "staff out")


ASKS: Final = ("card", "card", "card", "phone", "phone", "phone", "old pass", "staff", "remote", "held remote")


def drawn(number: int) -> Story:
    """Return the history of a number."""
    rng = random_of(number, "clocks")
    moves = [Move("list", "newest")] if rng.random() < 0.9 else []
    for _ in range(rng.randint(2, 5)):
        moves += _scene(rng)
    return Story(
        number,
        _ppm(rng),
        rng.random() < 0.4,
        int(rng.choice((30 * DAY_S, 30 * DAY_S, 7 * DAY_S, 7 * DAY_S, DAY_S, 8 * HOUR_S))),
        tuple(_windows(rng)),
        int(rng.choice((HOUR_S, DAY_S, 10 * DAY_S, YEAR_S))),
        tuple(moves),
    )


def _ppm(rng: Random) -> int:
    return rng.choice((-PPM_MAX, PPM_MAX, rng.randint(-PPM_MAX, PPM_MAX)))


def _windows(rng: Random) -> Iterator[Window]:
    """Give two or three bookings: one after the other, overlapping, or weeks apart."""
    end_s = 0
    for number in range(rng.randint(2, 3)):
        gap_s = rng.choice((0, 300, 900, -600, 3600, int(rng.uniform(0, 20 * DAY_S)))) if number else 0
        start_s = max(0, end_s + gap_s + int(rng.uniform(0, 20 * HOUR_S) if number == 0 else 0))
        end_s = start_s + int(rng.choice((900, 3600, 4 * HOUR_S, rng.uniform(900, 3 * DAY_S))))
        yield Window(number % 2 if rng.random() < 0.8 else 0, start_s, end_s)


def _scene(rng: Random) -> Iterator[Move]:
    """Give one visit to the car, and what went before it."""
    if rng.random() < 0.45:
        how = "daemon" if rng.random() < 0.15 else "power"
        yield Move("boot", how, _ppm(rng), rng.choice(OFF_S) * rng.uniform(0.5, 1.5))
        yield Move("system", rng.choice(SYSTEM), 0, rng.choice(RTC_OFF_S))
    elif rng.random() < 0.1:
        yield Move("system", rng.choice(SYSTEM), 0, rng.choice(RTC_OFF_S))
    if rng.random() < 0.3:
        yield from _changed(rng)
    before = rng.random() < 0.5
    if before:
        yield from _papers(rng)
    if rng.random() < 0.6:
        yield from _times(rng)
    if rng.random() < 0.85:
        near_s = rng.choice((0.0, 0.2, 1.0, 3.0, 12.0, 60.0, 700.0)) * rng.uniform(-1.0, 1.0)
        yield Move("until", rng.choice(EDGES), rng.randrange(3), near_s)
    else:
        yield Move("wait", "", 0, rng.choice((5.0, MINUTE_S, HOUR_S, DAY_S)))
    if not before:
        yield from _papers(rng)
    if rng.random() < 0.6:
        yield from _times(rng)
    for _ in range(rng.choice((1, 1, 2))):
        whom = -1 if rng.random() < 0.7 else rng.randrange(3)
        yield Move("ask", rng.choice(ASKS), whom)
    if rng.random() < 0.5:
        yield Move("finish")


def _changed(rng: Random) -> Iterator[Move]:
    """Give a change at the commune; the box hears of it at once by a list, or by its driver's phone alone, or not."""
    who, heard = rng.randrange(3), rng.random()
    yield Move("change", rng.choice(CHANGES), who, rng.choice((-HOUR_S, HOUR_S, 5 * HOUR_S, DAY_S)))
    if heard < 0.4:
        yield Move("list", "newest")
    elif heard < 0.7:
        yield from (Move("fetch", "", who), Move("ask", "phone", who))
        if rng.random() < 0.5:
            # What the list says of it is out of date, and the pass that said so is over.
            yield from (Move("until", "was", who, rng.uniform(-900.0, 0.0)), Move("sky"), Move("ask", "card", who))


def _papers(rng: Random) -> Iterator[Move]:
    """Give what comes from the commune: a list, a pass into a phone."""
    if rng.random() < 0.45:
        yield Move("list", "newest" if rng.random() < 0.6 else "held", rng.randrange(9))
    if rng.random() < 0.35:
        yield Move("fetch", "", rng.randrange(3))


def _times(rng: Random) -> Iterator[Move]:
    """Give none, one or two times that the box hears."""
    for _ in range(rng.choice((0, 1, 1, 2))):
        kind = rng.random()
        if kind < 0.2:
            yield Move("proof", "", rng.randint(0, 100), rng.choice((0.5, 5.0, 30.0, 60.0)))
        elif kind < 0.55:
            yield Move("sky")
        elif kind < 0.65:
            yield Move("sky", "off", 0, rng.uniform(-6.0, 6.0))
        elif kind < 0.75:
            yield Move("sky", "off", 0, rng.choice(LIES_S))
        elif kind < 0.85:
            yield Move("sky", rng.choice(EDGES), rng.randrange(3), rng.uniform(-900.0, 900.0))
        elif kind < 0.92:
            yield Move("sky", "floor", 0, rng.uniform(-320.0, 60.0))
        else:
            yield Move("drag", "", rng.randint(2, 6), rng.uniform(-4.5, 4.5))
        if rng.random() < 0.2:
            yield Move("wait", "", 0, rng.choice((30.0, 890.0, 910.0, 5 * HOUR_S)))


def smaller(story: Story) -> Iterator[Story]:
    """Give stories that are a little less than this one, the greatest step first."""
    moves = story.moves
    size = len(moves) // 2
    while size:
        for at in range(0, len(moves), size):
            yield replace(story, moves=moves[:at] + moves[at + size :])
        size //= 2
    if len(story.windows) > 1:
        yield replace(story, windows=story.windows[:-1])
    if story.unproven_start:
        yield replace(story, unproven_start=False)
