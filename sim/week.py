"""A week of a car that never had a network: bookings come in and trips go out on drivers' phones, and on nothing else.

The box is whole, on a disk; the commune is the real endpoint, over HTTP on this machine; the phones are ``sim.phone``.
Played are the car (its events), the air between phone and box (a call), and the time, which jumps from one visit to the
next. The radio itself is the bench's business.
"""

from __future__ import annotations

import secrets
from collections.abc import Callable
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Final

from cloud_sync.documents import BoxSigner
from cloud_sync.documents.answers import words
from cloud_sync.documents.conversation import Answer, Op, Wish
from onboard.core.events import AccessRequested, CardCredential, Intent
from onboard.core.grants import Assurance
from sim.phone import visit
from sim.phone_cloud import HttpCloud
from sim.phone_wallet import Bag, Wallet
from sim.week_car import OfflineCar
from sim.week_town import MONDAY_S, VEHICLE, Town

HOUR_S: Final = 3600.0
DAY_S: Final = 86_400.0
VALLEY_M: Final = 3500.0
"""From one village to the other."""

Tell = Callable[[float, str, str], None]


@dataclass(slots=True)
class Driver:
    """Somebody with a phone of their own. ``carries``: the phone is a courier besides."""

    name: str
    carries: bool
    key: BoxSigner = field(default_factory=BoxSigner.generate, repr=False)
    wallet: Wallet | None = None
    bag: Bag = field(default_factory=lambda: Bag(VEHICLE))


@dataclass(slots=True)
class Result:
    """What was driven, by booking, in m; and what the commune knows of it in the end."""

    driven: dict[str, float] = field(default_factory=dict)
    refused: list[tuple[str, str]] = field(default_factory=list)
    """Who was not let in, and why."""
    rentals: list[dict[str, Any]] = field(default_factory=list)
    trips: list[dict[str, Any]] = field(default_factory=list)
    alarms: list[Any] = field(default_factory=list)
    unacknowledged: int = 0


class Week:
    """One week. ``carry`` off: phones open doors, and carry nothing."""

    def __init__(self, folder: Path, tell: Tell, *, carry: bool = True) -> None:
        self._tell = tell
        self._carry = carry
        self._town = Town(folder)
        self._car = OfflineCar(folder, self._town)
        self._result = Result()
        self._visits = 0
        self._today_s = MONDAY_S
        self._handed_over: list[bytes] = []
        """What was handed over last."""
        self._drivers = {name: Driver(name, carry) for name in ("Anna", "Bert", "Chloé", "David", "Emma")}

    async def play(self) -> Result:
        """Tell it from Monday to Sunday; return what came of it."""
        self._town.start()
        try:
            await self._car.start()
            try:
                await self._story()
            finally:
                await self._car.stop()
            return await self._count()
        finally:
            self._town.stop()

    async def _story(self) -> None:
        anna, bert, chloe, david, emma = self._drivers.values()
        await self._day(0, "Monday: the first booking ever")
        ride = await self._book(anna, 8, "bazouges", "hede")
        await self._ride(anna, ride, 8, "hede")
        await self._home(anna, 9)
        back = await self._book(bert, 17, "hede", "bazouges")
        fanny = await self._book_card(b"fanny's!", 34, "bazouges", "hede")
        await self._ride(bert, back, 17, "bazouges")

        await self._day(1, "Tuesday: Fanny has a card and no phone; Bert's phone brought her booking")
        await self._card_ride(b"fanny's!", fanny, 10, "hede")
        home = await self._book(chloe, 18, "hede", "bazouges")
        await self._ride(chloe, home, 18, "bazouges")
        await self._home(chloe, 20)
        await self._home(chloe, 21, again=True)

        await self._day(2, "Wednesday: David's phone falls into the canal afterwards; Bert's finds a network at last")
        ride = await self._book(david, 9, "bazouges", "hede")
        await self._ride(david, ride, 9, "hede")
        self._say("box", "David's phone is gone, with what it carried")
        await self._home(bert, 12)

        await self._day(3, "Thursday: power fails, and the sky is not seen")
        await self._car.power_cut()
        ride = await self._book(emma, 8, "hede", "bazouges")
        await self._ride(emma, ride, 8, "bazouges", sky=False)
        await self._ride(emma, ride, 8.2, "bazouges", sky=False, network=True)
        await self._home(emma, 10)

        await self._day(4, "Friday: a booking is cancelled, and the pass for it is still in Bert's phone")
        gone = await self._book(bert, 16, "bazouges", "hede")
        await self._town.cancel(gone)
        ride = await self._book(anna, 8, "bazouges", "bazouges")
        await self._ride(anna, ride, 8, "bazouges")
        await self._ride(bert, gone, 16, "hede")
        await self._home(anna, 20)

        await self._day(5, "Saturday: the market, twice; and the car has not heard of the commune's new keys")
        for how in ("has other keys, as after a theft: what the old ones signed holds no more", "and others once more"):
            self._town.renew_keys()
            self._say("cloud", how)
        for hour, to in ((8, "hede"), (14, "bazouges")):
            ride = await self._book(chloe, hour, "bazouges" if to == "hede" else "hede", to)
            await self._ride(chloe, ride, hour, to)
        await self._home(chloe, 19)

        await self._day(6, "Sunday: the last trip, and a phone that only brings the receipt")
        ride = await self._book(anna, 10, "bazouges", "bazouges")
        await self._ride(anna, ride, 10, "bazouges")
        await self._home(anna, 12)
        await self._visit(anna, Op.STATUS, 13)

    async def _day(self, number: int, title: str) -> None:
        self._today_s = MONDAY_S + number * DAY_S
        self._tell(self._today_s + 7 * HOUR_S, "", title)
        await self._car.until(self._today_s + 7 * HOUR_S)

    async def _book(self, who: Driver, hour: float, pickup: str, dropoff: str) -> str:
        """Book for the next hour from ``hour`` on, and have the phone fetch its pass where there is network."""
        booking = await self._town.book(self._today_s + hour * HOUR_S, pickup, dropoff, phone=who.key.public)
        got = await HttpCloud(self._town.address).grant(booking, who.key.public)
        who.wallet = Wallet(VEHICLE, got.name, got.box, who.key, got.booking, got.document)
        if who.carries:
            await who.bag.exchange(HttpCloud(self._town.address))
        return booking

    async def _book_card(self, ref: bytes, hour: float, pickup: str, dropoff: str) -> str:
        booking = await self._town.book(self._today_s + hour * HOUR_S, pickup, dropoff, card=ref)
        # What Bert fetched before does not hold it: he looks at his phone once more before he leaves.
        bert = self._drivers["Bert"]
        if bert.carries:
            await bert.bag.exchange(HttpCloud(self._town.address))
        return booking

    async def _ride(
        self, who: Driver, booking: str, hour: float, to: str, *, sky: bool = True, network: bool = False
    ) -> None:
        answer = await self._visit(who, Op.UNLOCK, hour, sky=sky, network=network)
        if answer.status != "granted":
            self._result.refused.append((who.name, answer.reason))
            return
        metres = VALLEY_M if to != self._car.station else 2 * VALLEY_M
        await self._car.drive(metres, to)
        self._result.driven[booking] = metres
        await self._visit(who, Op.LOCK, None)
        await self._car.locked()

    async def _card_ride(self, ref: bytes, booking: str, hour: float, to: str) -> None:
        await self._car.until(self._today_s + hour * HOUR_S)
        await self._car.see_sky()
        if not await self._car.tap(AccessRequested(CardCredential(ref, Assurance.UID), Intent.TAP)):
            self._say("car", "Fanny holds her card to the reader: no booking known here")
            self._result.refused.append(("Fanny", "unknown"))
            return
        self._say("car", "Fanny holds her card to the reader: the door opens")
        await self._car.drive(VALLEY_M, to)
        self._result.driven[booking] = VALLEY_M
        await self._car.tap(AccessRequested(CardCredential(ref, Assurance.UID), Intent.TAP))
        await self._car.locked()

    async def _visit(
        self, who: Driver, op: Op, hour: float | None, *, sky: bool = True, network: bool = False
    ) -> Answer:
        """Have a driver stand at the car and tap once; ``hour`` None: right now."""
        if hour is not None:
            await self._car.until(self._today_s + hour * HOUR_S)
        if sky:
            await self._car.see_sky()
        if who.wallet is None:
            raise ValueError(f"{who.name} has booked nothing")
        self._visits += 1
        gatt = self._car.call(f"visit {self._visits}")
        cloud = HttpCloud(self._town.address) if network else None
        came = await visit(gatt, who.wallet, Wish(secrets.token_bytes(16), op), who.bag if who.carries else None, cloud)
        self._car.hang_up(gatt)
        answer = came.answer
        text = words(answer.reason).english if answer.reason else f"door {answer.door}"
        notes = [f"brought {came.brought} document{'s' * (came.brought != 1)}"] * bool(came.brought)
        notes += [f"took {came.taken} batch{'es' * (came.taken != 1)} along"] * bool(came.taken)
        self._say("car", f"{who.name}, {op.name.lower()}: {text}" + (f"  [{', '.join(notes)}]" if notes else ""))
        return answer

    async def _home(self, who: Driver, hour: float, *, again: bool = False) -> None:
        """Have a phone come where there is network; ``again``: it hands over once more what it did before."""
        await self._car.until(self._today_s + hour * HOUR_S)
        if not who.carries:
            return
        held = list(who.bag.up) or (self._handed_over if again else [])
        who.bag.up = list(held)
        await who.bag.exchange(HttpCloud(self._town.address))
        self._handed_over = held
        which = "once more " if again else ""
        self._say("cloud", f"{who.name}'s phone hands over {which}{len(held)} batch{'es' * (len(held) != 1)}")

    async def _count(self) -> Result:
        found = self._result
        found.rentals = await self._town.get("rentals")
        found.trips = await self._town.get("trips")
        found.alarms = (await self._town.get("status"))["alarms"]
        found.unacknowledged = self._car.unacknowledged
        return found

    def _say(self, source: str, text: str) -> None:
        self._tell(self._town.now_s, source, text)
