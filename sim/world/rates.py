"""What goes wrong in one story, and how often: each seed draws its own world, from mild to nasty.

A mild, even world misses what only shows where one thing fails often: so each rate is drawn by itself, and most worlds
are bad at some things and good at others.
"""

from __future__ import annotations

import random
from dataclasses import Field, dataclass, fields, replace
from typing import Any, Final

HOUR_S: Final = 3600.0


@dataclass(frozen=True, slots=True)
class Rates:
    """Chances are per occasion, from 0 to 1; ``_h`` are means in hours between two such events, 0 for never."""

    # The box's power and disk
    cut_at_commit: float = 0.0
    """Power fails at a commit: before it or after it, with nothing of the step's commands done."""
    cut_every_h: float = 0.0
    """Power fails at any other moment."""
    restart_every_h: float = 0.0
    """The daemon dies and is started again, in the same boot."""
    # The door
    latch_sticks: float = 0.0
    latch_bounces: float = 0.0
    pulse_fails: float = 0.0
    report_late: float = 0.0
    contact_lies_every_h: float = 0.0
    """The lock's contact says one thing for a while, whatever is true."""
    # What the car says
    odometer_frozen: float = 0.0
    """Of a drive."""
    signals_lost: float = 0.0
    """A storm of sentinels: nothing usable comes for a while."""
    gnss_lost: float = 0.0
    gnss_jumps: float = 0.0
    bus_faulty: float = 0.0
    # Time
    clock_lost: float = 0.0
    """After a boot no receiver gives a time for long."""
    clock_steps: float = 0.0
    """The receiver gives a wrong date for a while."""
    drift_ppm: float = 0.0
    # The way to the commune
    message_lost: float = 0.0
    message_doubled: float = 0.0
    message_late: float = 0.0
    link_down_every_h: float = 0.0
    link_down_h: float = 0.0
    cloud_down_every_h: float = 0.0
    cloud_restored: float = 0.0
    """The commune's database is set back to a copy, once."""
    hostile_broker: float = 0.0
    """A message is replayed, damaged or given to another car."""
    keys_renewed_every_h: float = 0.0
    """The commune has other keys, as a matter of course or because the old ones were stolen."""
    # People
    impatient: float = 0.0
    forgets_door: float = 0.0
    stops_on_the_way: float = 0.0
    presses_button: float = 0.0
    two_at_a_car: float = 0.0
    cancelled: float = 0.0
    extended: float = 0.0
    phone_stolen: float = 0.0
    hostile_phone: float = 0.0
    # The 12 V battery (last: an older seed's other rates stay as they were)
    battery_flat_every_h: float = 0.0
    """It falls, down to where the box switches itself off, and is charged some hours later."""

    def without(self, *names: str) -> Rates:
        """Return a world in which these never happen."""
        return replace(self, **dict.fromkeys(names, 0.0))

    def slower(self, pace: float) -> Rates:
        """Return a world in which what is counted in hours is that much rarer, and lasts that much longer."""
        return replace(self, **{each.name: getattr(self, each.name) * pace for each in fields(self) if _in_hours(each)})

    @property
    def present(self) -> tuple[str, ...]:
        """Name what may happen."""
        return tuple(each.name for each in fields(self) if getattr(self, each.name))


_WORST: Final = Rates(
    cut_at_commit=0.08,
    cut_every_h=2.0,
    restart_every_h=3.0,
    latch_sticks=0.5,
    latch_bounces=0.4,
    pulse_fails=0.2,
    report_late=0.5,
    contact_lies_every_h=6.0,
    odometer_frozen=0.5,
    signals_lost=0.3,
    gnss_lost=0.6,
    gnss_jumps=0.3,
    bus_faulty=0.3,
    clock_lost=0.5,
    clock_steps=0.3,
    drift_ppm=80.0,
    message_lost=0.5,
    message_doubled=0.3,
    message_late=0.4,
    link_down_every_h=1.0,
    link_down_h=24.0,
    cloud_down_every_h=5.0,
    cloud_restored=0.5,
    hostile_broker=0.3,
    keys_renewed_every_h=10.0,
    impatient=0.6,
    forgets_door=0.4,
    stops_on_the_way=0.6,
    presses_button=0.5,
    two_at_a_car=0.5,
    cancelled=0.3,
    extended=0.4,
    phone_stolen=0.2,
    hostile_phone=0.3,
    battery_flat_every_h=8.0,
)
"""The nastiest of each; of means in hours, the shortest."""

_EACH: Final = 0.4
"""Chance that a kind of trouble exists in a world at all."""


def _in_hours(field: Field[Any]) -> bool:
    return field.name.endswith("_h")


def draw(rng: random.Random) -> Rates:
    """Draw one world's rates."""
    rates: dict[str, float] = {}
    for each in fields(Rates):
        # Always two numbers, so that a kind more or less leaves the others as they were.
        exists, how = rng.random() < _EACH, rng.random()
        worst = float(getattr(_WORST, each.name))
        if exists:
            rates[each.name] = worst / max(0.1, how) if each.name.endswith("_every_h") else worst * how
    return Rates(**rates)


def random_of(seed: int, name: str) -> random.Random:
    """Return the chance of one part of one world: what another part draws does not change it."""
    return random.Random(f"{seed}/{name}")  # noqa: S311 - a story, no secret
