"""One seed's world: built, lived through, healed, and held against the rules."""

from __future__ import annotations

import asyncio
import logging
import random
import shutil
import tempfile
from collections import Counter
from collections.abc import Coroutine
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any, Final

from onboard.box import Setting
from onboard.config import parse_config
from onboard.core.policy import Station
from onboard.mail import Identity
from sim import box_toml
from sim.world.car import Car
from sim.world.checks import Checks
from sim.world.loop import now_s, play
from sim.world.people import People, Person
from sim.world.pipe import Pipe
from sim.world.power import Clock
from sim.world.rates import HOUR_S, Rates, draw, random_of
from sim.world.tale import Broken, Tale
from sim.world.town import AwayError, Booking, Town

ORIGIN_S: Final = 1_796_000_000.0
"""Unix time at which every world begins: 2026-11-30."""
BUILD_S: Final = 1_795_305_600.0
HEALED_S: Final = 600.0
JUST_NOW_S: Final = 180.0
NAMES: Final = ("anna", "bert", "chloe", "david", "emma", "fanny")
STATIONS: Final = (Station("bazouges", 48.2790, -1.8400, 60.0), Station("hede", 48.2965, -1.8011, 60.0))
OF_DAYS_EVERY: Final = 25
"""One seed in so many is a world of days: it takes as long as twenty others."""
STATUS_EVERY_S: Final = 600
"""A tenth of what a real car tells: most hours of a world are waiting."""


@dataclass(frozen=True, slots=True)
class Plan:
    """What is played: fewer cars, hours or troubles than the seed drew make a shorter story."""

    seed: int
    cars: int
    hours: float
    rates: Rates
    visits_max: int = 10_000
    pace: float = 1.0
    """So much longer is what lies between two events, and so much longer it lasts: a day for an hour makes weeks."""


@dataclass(slots=True)
class Outcome:
    """What came of a world. ``broken`` is empty where every rule held."""

    plan: Plan
    broken: str
    lived_s: float
    counts: Counter[str] = field(default_factory=Counter)
    story: str = ""


def drawn(seed: int) -> Plan:
    """Return a seed's world."""
    rng = random_of(seed, "plan")
    plan = Plan(seed, rng.choice((1, 1, 2, 3)), rng.choice((4.0, 8.0, 14.0, 30.0)), draw(rng))
    return of_days(plan) if seed % OF_DAYS_EVERY == 0 else plan


def of_days(plan: Plan) -> Plan:
    """Return the same world with a day for an hour: up to a month, with weeks without network or commune."""
    return replace(plan, hours=plan.hours * 24, rates=plan.rates.slower(24), pace=24.0)


def short(plan: Plan) -> Plan:
    """Return the same world with one car and two hours, or days: many short stories in little time."""
    return replace(plan, cars=1, hours=2.0 * plan.pace)


def live(plan: Plan, *, story_lines: int = 60) -> Outcome:
    """Play a world."""
    folder = Path(tempfile.mkdtemp(prefix="amibox-world-", dir=_fast_folder()))
    world = World(plan, folder)
    broken, told = "", logging.root.manager.disable
    logging.disable()  # what a box says of its world's troubles is told in its story
    try:
        play(world.live())
    except Broken as error:
        broken = str(error)
    except Exception as error:  # noqa: BLE001 - whatever it is, the seed replays it
        broken = f"{type(error).__name__}: {error}"
    finally:
        logging.disable(told)
        world.close()
        shutil.rmtree(folder, ignore_errors=True)
    car = broken.partition(":")[0]
    story = world.tale.shown(story_lines, car if car.startswith("ami-") else "") if broken else ""
    return Outcome(plan, broken, world.lived_s, world.tale.counts, story)


def _fast_folder() -> Path | None:
    fast = Path("/dev/shm")  # noqa: S108 - memory: what a power cut leaves of a disk is another proof's matter
    return fast if fast.is_dir() else None


class World:
    """Everybody and everything of one seed."""

    def __init__(self, plan: Plan, folder: Path) -> None:
        self.plan = plan
        self.rates = plan.rates
        self.tale = Tale()
        self.healing = False
        self.origin_s = ORIGIN_S
        self.length_s = plan.hours * HOUR_S
        self.stations = STATIONS
        self.cars: list[Car] = []
        self.lived_s = 0.0
        self._folder = folder
        self._numbers = 0
        self._tasks: set[asyncio.Task[Any]] = set()
        self._errands: set[asyncio.Task[Any]] = set()
        self._failed: list[BaseException] = []
        self._healed = asyncio.Event()
        self.checks = Checks(self)
        self.people = People(self, NAMES)
        self.pipe = Pipe(self)
        self._town: Town | None = None

    @property
    def town(self) -> Town:
        """The commune."""
        if self._town is None:
            raise RuntimeError("the world has not begun")
        return self._town

    def rng(self, name: str) -> random.Random:
        """Return the chance of one part."""
        return random_of(self.plan.seed, name)

    def wall_s(self) -> float:
        """Return true Unix time."""
        try:
            return self.origin_s + now_s()
        except RuntimeError:
            return self.origin_s

    def number(self) -> int:
        """Return another number each time."""
        self._numbers += 1
        return self._numbers

    async def sleep(self, for_s: float) -> None:
        """Let time pass for somebody."""
        await asyncio.sleep(for_s)

    async def sleep_until(self, at_s: float) -> None:
        """Let time pass until then."""
        await asyncio.sleep(max(0.0, at_s - now_s()))

    async def sleep_until_healed(self, for_s: float) -> None:
        """Let time pass, or until the world is healed."""
        if not self.healing:
            try:
                await asyncio.wait_for(self._healed.wait(), for_s)
            except TimeoutError:
                return

    def keep(self, task: asyncio.Task[Any]) -> None:
        """Hold on to a task, and hear if it fails."""
        self._tasks.add(task)
        task.add_done_callback(self._over)

    def keep_running(self, work: Coroutine[Any, Any, None]) -> None:
        """Have something done besides."""
        self.keep(asyncio.get_running_loop().create_task(work))

    def _over(self, task: asyncio.Task[Any]) -> None:
        self._tasks.discard(task)
        if not task.cancelled() and task.exception() is not None:
            self._failed.append(task.exception())  # type: ignore[arg-type]  # looked at right above

    def close(self) -> None:
        """Let files go."""
        if self._town is not None:
            self._town.close()

    async def live(self) -> None:
        """Live through it; ``Broken``."""
        asyncio.get_running_loop().set_exception_handler(self._loop_failed)
        self._town = Town(self, self._folder)
        for index in range(self.plan.cars):
            self._make_car(f"ami-{index + 1}", STATIONS[index % 2])
        self.town.greet()
        for car in self.cars:
            self.keep_running(car.live())
            self.keep_running(self.pipe.serve(car))
            self.keep_running(self._lie(car))
        self.keep_running(self.town.trouble())
        for task in self._people():
            errand = asyncio.get_running_loop().create_task(task)
            self._errands.add(errand)
            errand.add_done_callback(self._errands.discard)
            self.keep(errand)
        await self._watch(lambda: now_s() >= self.length_s)
        self._heal()
        await self._watch(lambda: not self._errands, at_most_s=12 * HOUR_S)
        await self._watch_for(HEALED_S)
        # What was written in the last moment is still on its way.
        await self._watch(lambda: not any(self.checks.unsent(car) for car in self.cars), at_most_s=JUST_NOW_S)
        self.checks.end()
        self.lived_s = now_s()
        while left := [one for one in self._tasks if not one.done()]:
            for one in left:
                one.cancel()  # once may not do: in Python 3.11 a wait that ends in that moment forgets it
            await asyncio.wait(left, timeout=1.0)

    def _loop_failed(self, _loop: asyncio.AbstractEventLoop, context: dict[str, Any]) -> None:
        error = context.get("exception")
        if isinstance(error, BaseException):
            self._failed.append(error)

    async def _watch(self, over: Any, at_most_s: float = float("inf")) -> None:
        until_s = now_s() + at_most_s
        while not over() and now_s() < until_s:
            await self._watch_for(60.0)

    async def _watch_for(self, for_s: float) -> None:
        until_s = now_s() + for_s
        while now_s() < until_s:
            await asyncio.sleep(min(30.0, until_s - now_s()))
            self.lived_s = now_s()
            if self._failed:
                raise self._failed[0]
            for car in self.cars:
                self.checks.minute(car)

    def _heal(self) -> None:
        self.tale.tell("world", "is healed: from now on everything works")
        self.healing = True
        self.rates = Rates()
        self._healed.set()
        self.town.down = False
        for car in self.cars:
            car.date_off_s = 0.0
            car.lies = None
            car.told_truth_since_s = now_s()

    def _make_car(self, name: str, station: Station) -> None:
        folder = self._folder / name
        folder.mkdir()
        given = self.town.provision(name, folder)
        text = (
            box_toml.box(folder)
            + f"status_every_s = {STATUS_EVERY_S}\n"
            + "".join(
                box_toml.station(each.id, each.id, each.latitude, each.longitude, each.radius_m) for each in STATIONS
            )
        )
        setting = Setting(
            config=parse_config(text, folder / "box.toml"),
            identity=Identity(name, given.agreement, given.signing, given.roots),
            clock=Clock(0.0, 0.0, 0.0),
            floor_s=BUILD_S,
            boot_epoch=b"",
            software="world",
            key_set=given.key_set,
            key_set_floor=given.key_set_floor,
        )
        self.cars.append(Car(name, folder, self, setting, station))

    def _people(self) -> list[Coroutine[Any, Any, None]]:
        """Plan who does what, each part with a chance of its own."""
        errands: list[Coroutine[Any, Any, None]] = []
        for index, car in enumerate(self.cars):
            rng = self.rng(f"plan of {car.name}")
            at_s, place = rng.uniform(600, 5000), STATIONS[index % 2]
            while at_s < self.length_s and len(errands) < self.plan.visits_max:
                length_s = rng.uniform(1200, 7200)
                to = rng.choice(STATIONS)
                who = rng.choice(self.people.everybody)
                made_s = max(0.0, at_s - rng.choice((60.0, 1200.0, 20_000.0)) * self.plan.pace)
                booking = Booking(
                    rng.randbytes(16),
                    who.name,
                    car.name,
                    float(int(ORIGIN_S + at_s)),
                    place.id,
                    to.id,
                    [(0, float(int(ORIGIN_S + at_s + length_s)))],
                    by_card=rng.random() < 0.5,
                )
                errands.append(self._booked(who, car, booking, made_s, rng.random(), rng.random()))
                at_s += length_s + rng.uniform(300, 9000) * self.plan.pace
                place = to
            errands += self._bothersome(rng, car)
        return errands

    def _bothersome(self, rng: random.Random, car: Car) -> list[Coroutine[Any, Any, None]]:
        errands: list[Coroutine[Any, Any, None]] = []
        for _ in range(round(self.plan.hours / self.plan.pace)):
            at_s, kind = rng.uniform(0, self.length_s), rng.random()
            if kind < self.rates.two_at_a_car:
                errands.append(self._later(at_s, self.people.stranger(car)))
            if rng.random() < self.rates.hostile_phone:
                errands.append(self._later(at_s, self.people.hostile(car)))
        if rng.random() < self.rates.phone_stolen:
            victim = rng.choice(self.people.everybody)
            errands.append(self._later(rng.uniform(0.2, 0.8) * self.length_s, self.people.thief(victim, car)))
        return errands

    async def _later(self, at_s: float, work: Coroutine[Any, Any, None]) -> None:
        await self.sleep_until(at_s)
        await work

    async def _booked(
        self, who: Person, car: Car, booking: Booking, made_s: float, cancels: float, extends: float
    ) -> None:
        """Book, maybe change one's mind, and come."""
        await self.sleep_until(made_s)
        try:
            self.town.book(booking, who.card if booking.by_card else b"", None if booking.by_card else who.key)
            self.tale.counts["bookings"] += 1
        except AwayError:
            return
        if cancels < self.rates.cancelled:
            self.keep_running(self._cancel(booking))
        elif extends < self.rates.extended:
            self.keep_running(self._extend(booking))
        await self.people.rental(who, car, booking)

    async def _cancel(self, booking: Booking) -> None:
        await self.sleep(self.rng(f"cancel {booking.id.hex()}").uniform(30, 4000) * self.plan.pace)
        try:
            self.town.cancel(booking)
        except AwayError:
            return

    async def _extend(self, booking: Booking) -> None:
        await self.sleep(self.rng(f"extend {booking.id.hex()}").uniform(30, 7000))
        try:
            self.town.extend(booking, booking.end_s + 3600)
        except AwayError:
            return

    async def _lie(self, car: Car) -> None:
        """Have a lock's contact lie for a while."""
        rng, mean_h = self.rng(f"lies of {car.name}"), self.rates.contact_lies_every_h
        while mean_h:
            await self.sleep_until_healed(rng.expovariate(1 / (mean_h * HOUR_S)))
            if self.healing:
                return
            car.lies = rng.choice((True, False))
            self.tale.tell(
                car.name, f"the lock's contact says {'locked' if car.lies else 'unlocked'}, whatever is true"
            )
            await self.sleep_until_healed(rng.choice((20.0, 300.0, 3000.0)))
            car.lies = None
            car.told_truth_since_s = now_s()
