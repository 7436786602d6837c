"""A month of a car without network and without a courier: everybody drives by the list that the box had before.

Two villages, and rounds from one to the other with many stops (a nurse's, a parcel service's): who has booked opens at
each stop, and strangers try their cards. The nights have no sky, power fails every few days. Then there is network.
"""

from __future__ import annotations

import time
from collections import Counter
from collections.abc import Callable
from dataclasses import dataclass, field
from pathlib import Path
from typing import Final

from cloud_sync.documents import BoxSigner
from cloud_sync.documents.conversation import Op
from cloud_sync.uplink import UplinkSettings
from onboard.store_room import LIMITS
from sim.month_car import LENGTH_M, MonthCar
from sim.month_count import Account, Driven, Found, look
from sim.month_drain import Pipe, drained
from sim.phone_cloud import HttpCloud
from sim.phone_wallet import Wallet
from sim.week_town import HOUR_S, MONDAY_S, STATIONS, VEHICLE, Town

DAY_S: Final = 86_400
DAYS_MAX: Final = 30
"""A box takes no list for longer."""
SLOTS: Final = 9
"""Bookings of two hours that a day has room for, from 6 to midnight."""
MORNING_S: Final = 6 * HOUR_S
SLOT_S: Final = 2 * HOUR_S
DAY_RECORDS_MAX: Final = 3400
"""More is not to be had from a day: a refusal a minute, by the box's own rule, and a round's stops."""
RENTAL_RECORDS: Final = 50
"""Of a short rental: so many records fewer in a day, and there is a booking less."""
NIGHT_SHARE: Final = 0.1
"""Of a day's records are cards that nobody here knows, at night."""
HOP_M: Final = 600.0
HOME_S: Final = 300
"""So long before the end of a booking its driver goes to the other village."""
SELF_LOCK_EVERY: Final = 2
CABLE_EVERY: Final = 3
TAP_EVERY_S: Final = 61.0
"""A refusal a minute is what a box writes down; a driver's second tap comes after the time in which it would end."""
STRANGER: Final = b"stranger"
LATE: Final = b"too late"
"""Cards."""
LATER_DAYS: Final = LIMITS.keep_acked_days + 1

Tell = Callable[[str], None]


@dataclass(frozen=True, slots=True)
class Plan:
    """How long, and how many records at least. ValueError for what a list or a day does not hold."""

    days: int
    events: int

    def __post_init__(self) -> None:
        """Look at both."""
        if not 1 <= self.days <= DAYS_MAX:
            raise ValueError(f"a box takes a list for 1 to {DAYS_MAX} days, not for {self.days}")
        most = self.days * DAY_RECORDS_MAX
        if not 1 <= self.events <= most:
            raise ValueError(f"in {self.days} days there is room for 1 to {most} events, not for {self.events}")

    @property
    def rentals_a_day(self) -> int:
        """Bookings of a day: the last ones of its slots."""
        return max(1, min(SLOTS, self.events // self.days // RENTAL_RECORDS))


@dataclass(slots=True)
class Driver:
    """Who has booked, and by what they open; one of the two."""

    booking: str
    starts_s: float
    card: bytes = b""
    wallet: Wallet | None = None
    by_pass: bool = False


@dataclass(slots=True)
class Result:
    """What was played, and what came of it."""

    trips: list[Driven] = field(default_factory=list)
    rentals: list[Driven] = field(default_factory=list)
    asked: int = 0
    """How often somebody with a right to it wanted the door to move."""
    failed: list[str] = field(default_factory=list)
    """Who of these was not served, and what they heard."""
    refused: Counter[str] = field(default_factory=Counter)
    """Others, by what they heard."""
    misheard: list[str] = field(default_factory=list)
    """Who heard another word than they should have."""
    late: tuple[str, str] = ("", "")
    """What a driver heard who came after the list's end."""
    cuts: int = 0
    start_s_max: float = 0.0
    """Longest start of the box after a cut, in real seconds."""
    played_s: float = 0.0
    kinds: Counter[str] = field(default_factory=Counter)
    events: int = 0
    """Records on the disk before there was network again."""
    disk_bytes: dict[str, int] = field(default_factory=dict)
    """Every file of the box's data directory then."""
    drain_s: float = 0.0
    drained: bool = False
    unacknowledged: int = 0
    listed_anew: bool = False
    kept_rows: int = 0
    """Of the month's rows, those that are still there right after their acknowledgement."""
    young_rows: int = 0
    """Those of the account that are to be kept."""
    freed_rows: int = 0
    """Those that a step or two dropped when they were old enough."""
    found: Found = field(default_factory=Found)

    @property
    def rate(self) -> float:
        """Events a second of real time, from the moment there was network."""
        return self.events / self.drain_s if self.drained else 0.0


class Month:
    """One month. ``uplink``: the broker of which the box's own uplink is to make its way; else it is a pipe."""

    def __init__(self, folder: Path, plan: Plan, tell: Tell, uplink: UplinkSettings | None = None) -> None:
        self.town = Town(folder, plan.days)
        self._plan = plan
        self._tell = tell
        self._account = Account(lambda: self.town.now_s)
        self._pipe = None if uplink is not None else Pipe(self.town)
        carry = self._pipe.carry if self._pipe is not None else None
        self.car = MonthCar(folder, self.town, self._account, carry, uplink)
        self._result = Result()
        self._drivers: list[Driver] = []
        self._horizon_s = MONDAY_S + plan.days * DAY_S

    async def play(self) -> Result:
        """Play it to the end; return what came of it."""
        began_s = time.monotonic()
        self.town.start()
        try:
            await self.car.start()
            try:
                await self._book()
                for day in range(self._plan.days):
                    await self._day(day)
                await self._after_the_horizon()
                self._result.played_s = time.monotonic() - began_s
                await self._network()
                await self._a_month_later()
            finally:
                await self.car.stop()
                if self._pipe is not None:
                    await self._pipe.close()
            self._result.kinds = self._account.kinds
            self._result.found = look(self.town.store, self._account, self._result.trips, self._result.rentals)
            return self._result
        finally:
            self.town.stop()

    # Before there is no network

    async def _book(self) -> None:
        """Have everything booked, and the box given the list; after that, one more booking, of which it can't know."""
        plan = self._plan
        slots = range(SLOTS - plan.rentals_a_day, SLOTS)
        starts = [MONDAY_S + day * DAY_S + MORNING_S + slot * SLOT_S for day in range(plan.days) for slot in slots]
        for number, start_s in enumerate(starts):
            if number > 0:
                self._drivers.append(await self._driver(number, start_s))
        # Theirs begins before the list ends, and they come when it has.
        late_s, end, start = self._horizon_s - 60, STATIONS[len(starts) % 2 - 1].id, STATIONS[len(starts) % 2].id
        booking = await self.town.book(late_s, start, end, card=LATE, length_s=SLOT_S)
        self._late = Driver(booking, late_s, card=LATE)
        for message in self.town.ingest.greeting(self.town.now_s):
            await self.car.hear(message.topic, message.payload)
        self._known_list = self.car.state.kept.grants.version_floor
        await self.car.see_sky()
        self._pass(60.0)
        self._drivers.insert(0, await self._driver(0, starts[0], with_pass=True))

    async def _driver(self, number: int, start_s: float, *, with_pass: bool = False) -> Driver:
        """Book from one village to the other: two drivers with cards, then one with a phone."""
        places = STATIONS[number % 2].id, STATIONS[1 - number % 2].id
        if not with_pass and number % 3 != 2:
            card = b"card%04d" % (number % 40)
            booking = await self.town.book(start_s, *places, card=card, length_s=SLOT_S, trace=True)
            return Driver(booking, start_s, card=card)
        key = BoxSigner.generate()
        cloud = HttpCloud(self.town.address)
        booking = await self.town.book(start_s, *places, phone=key.public, length_s=SLOT_S, trace=True)
        name, box = await cloud.radio(VEHICLE)
        grant = (await cloud.grant(booking, key.public)).document if with_pass else b""
        wallet = Wallet(VEHICLE, name, box, key, bytes.fromhex(booking), grant)
        return Driver(booking, start_s, wallet=wallet, by_pass=with_pass)

    # Day by day

    async def _day(self, day: int) -> None:
        car, plan = self.car, self._plan
        today_s = MONDAY_S + day * DAY_S
        first = day * plan.rentals_a_day
        today = self._drivers[first : first + plan.rentals_a_day]
        await car.until(today_s + 60.0)
        if day % 3 == 1:
            await self._cut()
            # Nobody knows what time it is until there is a sky.
            await self._refused(LATE, "clock_unproven")
        for _ in range(round(NIGHT_SHARE * plan.events / plan.days)):
            await car.wait(TAP_EVERY_S)
            await self._refused(STRANGER, "unknown")
        for number, who in enumerate(today, start=first):
            await car.until(who.starts_s)
            await self._rental(number, who, cut=day % 3 == 2 and number == first)
        if day % 5 == 4 or day == plan.days - 1:
            size_mb = sum(self._disk().values()) / 1e6
            self._tell(f"day {day + 1}: {len(self._account.digests):,} records, {size_mb:.1f} MB on the disk")

    async def _rental(self, number: int, who: Driver, *, cut: bool) -> None:
        """Drive a booking's round: from stop to stop until the day has its records, then to the other village."""
        car, plan = self.car, self._plan
        last = number == len(self._drivers) - 1
        goal = min(plan.events, plan.events * (number + 1) // max(1, len(self._drivers) - 1))
        until_s = who.starts_s + SLOT_S - HOME_S
        if last:
            # The list's last hour.
            await car.until(who.starts_s + SLOT_S - HOUR_S)
        await car.see_sky()
        rental = Driven(who.booking, "booking", self.town.now_s, trips=0)
        hops, there_m = 0, LENGTH_M if car.at_m == 0.0 else 0.0
        while hops == 0 or (len(self._account.digests) < goal and self.town.now_s < until_s):
            hops += 1
            if not await self._trip(
                who, rental, self._next_stop(there_m), cut=cut and hops == 1, again=hops % SELF_LOCK_EVERY == 0
            ):
                return
            for _ in range(2):
                await car.wait(TAP_EVERY_S / 2)
                await self._refused(STRANGER, "unknown")
        if last:
            # Whoever is on the way gets in and home, though the list is over.
            await car.until(self._horizon_s + 120.0)
            await car.see_sky()
        await self._trip(who, rental, there_m)
        self._result.rentals.append(rental)
        if number % CABLE_EVERY == 0 and not last:
            await self._cable(who)

    def _next_stop(self, there_m: float) -> float:
        """Return the next place on the road: there and back, and never so near a station that it would be one."""
        at_m, way = self.car.at_m, 1 if there_m > self.car.at_m else -1
        for stop_m in (at_m + way * HOP_M, at_m - way * HOP_M):
            if HOP_M / 2 <= stop_m <= LENGTH_M - HOP_M / 2:
                return stop_m
        return LENGTH_M / 2

    async def _trip(self, who: Driver, rental: Driven, to_m: float, *, cut: bool = False, again: bool = False) -> bool:
        """Get in, drive, lock; return whether the car let us.

        ``cut``: power fails on the way. ``again``: before that the latch falls by itself, and is opened once more.
        """
        car = self.car
        began_s = self.town.now_s
        if not await self._open(who):
            return False
        if again:
            await car.lock_itself()
            await self._open(who)
        if cut:
            await car.go((car.at_m + to_m) / 2)
            await self._cut()
            await car.wait(20.0)
            await car.see_sky()
        start_m, half_m = car.at_m, abs(to_m - car.at_m) if cut else 0.0
        await car.go(to_m)
        await self._lock(who)
        length_m = abs(to_m - start_m) + half_m
        self._result.trips.append(Driven(who.booking, rental.kind, began_s, self.town.now_s, length_m))
        rental.ended_s = self.town.now_s
        rental.length_m += length_m
        rental.trips += 1
        return True

    async def _cable(self, who: Driver) -> None:
        """Open once more for the charging cable."""
        await self.car.wait(TAP_EVERY_S)
        began_s = self.town.now_s
        if await self._open(who):
            await self.car.board()
            await self._lock(who)
            done = Driven(who.booking, "reopen", began_s, self.town.now_s)
            self._result.trips.append(done)
            self._result.rentals.append(done)

    async def _after_the_horizon(self) -> None:
        """Come when the list is over, with a booking that is not."""
        await self.car.until(self._horizon_s + 900.0)
        await self.car.see_sky()
        self._result.late = await self._ask(self._late, Op.UNLOCK)
        self._result.refused[self._result.late[1]] += 1

    async def _cut(self) -> None:
        began_s = time.monotonic()
        await self.car.power_cut()
        self._result.start_s_max = max(self._result.start_s_max, time.monotonic() - began_s)
        self._result.cuts += 1

    # What people want, and hear

    async def _open(self, who: Driver) -> bool:
        return await self._wish(who, Op.UNLOCK, locked=False)

    async def _lock(self, who: Driver) -> bool:
        return await self._wish(who, Op.LOCK, locked=True)

    async def _wish(self, who: Driver, op: Op, *, locked: bool) -> bool:
        self._result.asked += 1
        said = await self._ask(who, op)
        if said[0] in {"granted", "accepted"} and self.car.is_locked == locked:
            return True
        self._result.failed.append(f"{op.name.lower()}: {' '.join(said)}")
        return False

    async def _ask(self, who: Driver, op: Op) -> tuple[str, str]:
        if who.wallet is None:
            return await self.car.card(who.card)
        answer = await self.car.phone(who.wallet, op, by_pass=who.by_pass)
        return answer.status, answer.reason

    async def _refused(self, card: bytes, word: str) -> None:
        said = await self.car.card(card)
        if said == ("denied", word):
            self._result.refused[word] += 1
        else:
            self._result.misheard.append(f"{' '.join(said)} for {word}")

    # When there is network again

    async def _network(self) -> None:
        """Let it through, and measure how long it takes."""
        car, result = self.car, self._result
        result.disk_bytes, result.events = self._disk(), car.state.kept.outbox.last_seq
        began_s = time.monotonic()
        await car.serve()
        if self._pipe is not None:
            self._pipe.connect(car)
        result.drained = await drained(car, result.events)
        result.drain_s = time.monotonic() - began_s
        # What the box wrote meanwhile, of the network and of a new list, goes the same way.
        result.drained = result.drained and await drained(car)
        result.unacknowledged = car.state.kept.outbox.last_seq - car.state.sending.acked_seq
        result.listed_anew = car.state.kept.grants.version_floor > self._known_list

    async def _a_month_later(self) -> None:
        """Look whether what was acknowledged is still there, and goes when it is old."""
        car, result = self.car, self._result
        if not result.drained:
            return
        result.kept_rows = len(await car.box.store.rows(1, result.events))
        result.young_rows = self._account.since(car.wall_s() - LIMITS.keep_acked_days * DAY_S, result.events)
        self._pass(LATER_DAYS * DAY_S)
        for _ in range(2):
            # Two steps: the first one's acknowledgement says how late it is.
            await car.see_sky()
            await self._refused(STRANGER, "unknown")
            await drained(car)
            self._pass(TAP_EVERY_S)
        result.freed_rows = result.kept_rows - len(await car.box.store.rows(1, result.events))

    def _pass(self, for_s: float) -> None:
        self.town.now_s += for_s
        self.car.clock.forward(for_s)

    def _disk(self) -> dict[str, int]:
        return {file.name: file.stat().st_size for file in sorted(self.car.data.iterdir())}
