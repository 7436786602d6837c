"""What happened in a world, as a person reads it, and the end of a world in which a rule was broken."""

from __future__ import annotations

from collections import Counter, deque
from typing import Final

from sim.world.loop import now_s

KEPT: Final = 4000
"""Lines that are remembered: the last ones tell what went wrong."""


class Broken(Exception):  # noqa: N818 - what happened
    """A rule of ``sim.world.checks`` did not hold."""


class Tale:
    """The lines of one world, and counts of what happened in it."""

    def __init__(self) -> None:
        self.lines: deque[tuple[float, str, str]] = deque(maxlen=KEPT)
        self.counts: Counter[str] = Counter()

    def tell(self, who: str, what: str) -> None:
        """Add a line of now."""
        self.lines.append((now_s(), who, what))

    def shown(self, last: int, car: str = "") -> str:
        """Return the last lines; where a car is named, without what is of another."""
        lines = [
            (at_s, who, what)
            for at_s, who, what in self.lines
            if not car or car in (who, *what.split()) or not ("ami-" in who or "ami-" in what)
        ]
        return "\n".join(
            f"  day {int(at_s // 86_400)} {_clock(at_s)}  {who:<7} {what}" for at_s, who, what in lines[-last:]
        )


def _clock(at_s: float) -> str:
    rest_s = at_s % 86_400
    return f"{int(rest_s // 3600):02}:{int(rest_s % 3600 // 60):02}:{rest_s % 60:06.3f}"
