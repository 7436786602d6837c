"""A box's power, its clocks and its disk in a simulated town.

The real store, power that fails at a commit or at any moment, and a 12 V battery that goes flat.
"""

from __future__ import annotations

import asyncio
import random
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any, Final, Protocol

from onboard.core.clock import ClockQuality, Instant
from onboard.core.records import Recordable
from onboard.core.state import Kept
from onboard.store_thread import StoreThread
from sim.world.loop import now_s
from sim.world.rates import HOUR_S, Rates

START_BOOT_S: Final = 12.0
"""What the boot-time clock reads when the daemon begins."""
LOWEST_V: Final = (12.0, 11.7, 11.3, 0.0)
"""Each step of the box, and a broken wire."""
FLAT_S: Final = (300.0, 4 * HOUR_S)
MEASURED_S: Final = 30.0
CHARGED_V, CHARGED = 12.7, 5
"""So often after a charge: enough to leave every step."""


class Powered(Protocol):
    """What a store must know of its car."""

    def cut_at_commit(self) -> str:
        """Say whether power fails at the commit that comes: ``before``, ``after`` or not at all."""
        ...

    def committed(self, kept: Kept, records: tuple[Recordable, ...]) -> None:
        """Hear what is on the disk now."""
        ...


def next_cut(rates: Rates, rng: random.Random) -> tuple[float, bool] | None:
    """Draw in how many seconds the power fails, or only the daemon dies (true); None: never."""
    times = [(rates.cut_every_h, False), (rates.restart_every_h, True)]
    drawn = [(rng.expovariate(1 / (mean_h * HOUR_S)), only) for mean_h, only in times if mean_h]
    return min(drawn, default=None)


async def battery(mean_h: float, rng: random.Random, measured: Callable[[float], None]) -> None:
    """Have a car's 12 V battery go flat now and then. ``measured`` hears its voltage while it is not well."""
    while mean_h:
        await asyncio.sleep(rng.expovariate(1 / (mean_h * HOUR_S)))
        lowest_v, until_s = rng.choice(LOWEST_V), now_s() + rng.uniform(*FLAT_S)
        while now_s() < until_s:
            measured(lowest_v + rng.uniform(-0.02, 0.02))
            await asyncio.sleep(MEASURED_S)
        for _ in range(CHARGED):
            measured(CHARGED_V)
            await asyncio.sleep(MEASURED_S)
    await asyncio.Event().wait()


class PowerCut(Exception):  # noqa: N818 - what happened
    """The box has no power any more. Only what was committed is left."""


class CutStore(StoreThread):
    """The real store, without its thread; and power that fails at a commit."""

    def __init__(self, car: Powered) -> None:
        self._car = car
        self._store = None

    async def commit(self, kept: Kept, records: Sequence[Recordable], at: Instant, boot_epoch: bytes) -> Kept:
        """Commit, unless the power fails before it; it may fail right after it, too."""
        fate = self._car.cut_at_commit()
        if fate == "before":
            raise PowerCut
        done = await super().commit(kept, records, at, boot_epoch)
        self._car.committed(done, tuple(records))
        if fate == "after":
            raise PowerCut
        return done

    async def close(self) -> None:
        """Let the file go."""
        if self._store is not None:
            self._store.close()
            self._store = None

    async def _do(self, work: Callable[[], Any]) -> Any:
        return work()


@dataclass(slots=True)
class Clock:
    """The clocks of one boot; ``drift`` is a fraction. ``wall_s`` 0: there is no battery-backed clock."""

    began_s: float
    drift: float
    wall_s: float

    def boot_s(self) -> float:
        """Read the boot-time clock."""
        return START_BOOT_S + (now_s() - self.began_s) * (1 + self.drift)

    def now(self) -> Instant:
        """Read both."""
        boot_s = self.boot_s()
        if not self.wall_s:
            return Instant(boot_s, 0.0, ClockQuality.UNSET)
        return Instant(boot_s, self.wall_s + boot_s - START_BOOT_S, ClockQuality.RTC)

    def wait_s(self, boot_s: float) -> float:
        """Return the true seconds until then."""
        return (boot_s - self.boot_s()) / (1 + self.drift)
