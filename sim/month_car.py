"""The car of the month without a network: the week's, driven along the road, with power that fails.

Nobody waits: the box handles each event when it comes and serves its deadlines in their order, and the time in between
is jumped over. Its store is on a disk, with its thread, and syncs as in a car.
"""

from __future__ import annotations

import asyncio
import secrets
import shutil
import time
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Final

from cloud_sync.documents.conversation import Answer, Op
from cloud_sync.uplink import UplinkSettings
from cloud_sync.wire import Topic, parse_topic
from onboard.box import Box, Devices
from onboard.core import machine
from onboard.core.commands import Reply
from onboard.core.events import (
    AccessRequested,
    BusReported,
    BusState,
    CardCredential,
    Event,
    Intent,
    Position,
    PositionReported,
)
from onboard.core.grants import Assurance
from onboard.core.state import State
from onboard.core.trip import great_circle_m
from onboard.notify import Notifier
from sim.month_count import Account, NotedStore
from sim.phone import Talk
from sim.phone_call import Call
from sim.phone_wallet import Wallet
from sim.week_car import OfflineCar, StoryClock
from sim.week_town import STATIONS, Town

SPEED_MPS: Final = 10.0
FIX_S: Final = 2.0
"""A piece of an agreed route is then thirty points a minute: as dense as it gets in a village."""
LENGTH_M: Final = great_circle_m(
    STATIONS[0].latitude, STATIONS[0].longitude, STATIONS[1].latitude, STATIONS[1].longitude
)
"""Of the road between the two stations, which is straight here."""
CARD_REQUEST: Final = 1_000_000
"""Numbers of the requests that cards make here, above those of phones: a card's holder hears no answer in words."""


class MonthClock(StoryClock):
    """Moved by the story; from ``live`` on real time moves it, too."""

    def __init__(self) -> None:
        super().__init__()
        self._live_since_s: float | None = None

    def live(self) -> None:
        """Run from now on."""
        self._live_since_s = time.monotonic()

    @property
    def lived_s(self) -> float:
        """Real seconds that it has run by itself."""
        return 0.0 if self._live_since_s is None else time.monotonic() - self._live_since_s

    def boot_s(self) -> float:
        """Read it."""
        return super().boot_s() + self.lived_s


class DoneCall(Call):
    """A connection on which a write returns when the box is done with it."""

    async def write(self, characteristic: str, value: bytes) -> None:
        """Write a value; ``GattError``."""
        await super().write(characteristic, value)
        await self._quiet()


class MonthCar(OfflineCar):
    """``account``: what hears of each commit. ``carry`` or ``uplink``: its way to the commune, once it is served."""

    def __init__(
        self,
        folder: Path,
        town: Town,
        account: Account,
        carry: Callable[[Topic, bytes], bool] | None,
        uplink: UplinkSettings | None,
    ) -> None:
        super().__init__(folder, town)
        self.account = account
        self.at_m = 0.0
        """Where on the road it is; 0 is at the first station."""
        self.data = self._folder / "data"
        self._carry, self._uplink = carry, uplink
        self._serving: asyncio.Task[None] | None = None
        self._answers: dict[int, tuple[str, str]] = {}
        self._requests = CARD_REQUEST

    async def _boot(self) -> None:
        self._clock = self.clock = MonthClock()
        setting = replace(self._setting, clock=self._clock, boot_epoch=secrets.token_bytes(8))
        setting = replace(setting, carry=self._carry, uplink=self._uplink)
        self._box = Box(setting, NotedStore(self.account))
        await self._box.open(Devices(self, ()))
        to_phones = self._box.reactor.on_reply

        def replied(reply: Reply) -> None:
            if reply.request >= CARD_REQUEST:
                self._answers[reply.request] = reply.status, reply.reason
            elif to_phones is not None:
                to_phones(reply)

        self._box.reactor.on_reply = replied
        await self._stand()

    async def stop(self) -> None:
        """Switch the box off."""
        if self._serving is not None:
            self._box.stop()
            await asyncio.gather(self._serving, return_exceptions=True)
        await self._box.close()

    async def power_cut(self) -> None:
        """Cut the power: what is left is what lies on the disk, a log that was never closed with it."""
        left = self.data.with_name("left")
        shutil.copytree(self.data, left)
        await self._box.close()
        shutil.rmtree(self.data)
        left.rename(self.data)
        await self._boot()

    async def serve(self) -> None:
        """From now on the box runs by itself, on real time."""
        ready = asyncio.Event()
        self.clock.live()
        self._serving = asyncio.create_task(self._box.run(Notifier({}), ready.set))
        await asyncio.wait_for(ready.wait(), 20)

    @property
    def box(self) -> Box:
        """The box."""
        return self._box

    @property
    def state(self) -> State:
        """What the box believes."""
        return self._box.reactor.state

    @property
    def is_locked(self) -> bool:
        """Whether the latch holds the doors."""
        return self._locked

    def wall_s(self) -> float:
        """Return the true Unix time."""
        return self._town.now_s + self.clock.lived_s

    async def hear(self, topic: str, payload: bytes) -> None:
        """Give the box a document of the commune's."""
        await self._box.mail.receive(parse_topic(topic)[1], payload)

    async def until(self, wall_s: float) -> None:
        """Let time pass until then, standing. What is due on the way is served when it is due."""
        while (due_s := machine.next_deadline(self.state)) is not None:
            wait_s = max(0.0, due_s - self._clock.boot_s())
            if wait_s >= wall_s - self._town.now_s:
                break
            self._pass(wait_s)
            await self._quiet()
        await super().until(wall_s)

    async def wait(self, for_s: float) -> None:
        """Let time pass, standing."""
        await self.until(self._town.now_s + for_s)

    # People

    async def card(self, ref: bytes) -> tuple[str, str]:
        """Hold a card to the reader; return what the box says."""
        self._requests += 1
        credential = CardCredential(ref, Assurance.UID)
        await self._send(AccessRequested(credential, Intent.TAP, self._requests, self._clock.boot_s()))
        return self._answers.pop(self._requests, ("", ""))

    async def phone(self, wallet: Wallet, op: Op, *, by_pass: bool = False) -> Answer:
        """Ask by a phone that carries nothing; then ask what became of it, as the driver's screen does."""
        call = DoneCall(self._box.phones, "a phone", quiet=self._quiet)
        talk = Talk(call, wallet)
        wish = talk.wish(op)
        try:
            answer = await talk.open(wish, by_pass=by_pass)
            return await talk.say(wish) if answer.status in {"granted", "accepted"} else answer
        finally:
            self._box.phones.gone(call.name)

    async def board(self) -> None:
        """Open a door and shut it behind oneself."""
        for is_open in (True, False):
            self._pass(2.0)
            await self._send(self._doors(driver_open=is_open))

    async def go(self, to_m: float) -> None:
        """Be driven along the road, from where one gets in to where one gets out."""
        await self.board()
        await self._send(BusReported(BusState.AWAKE, self._clock.boot_s()))
        while self.at_m != to_m:
            step_m = min(SPEED_MPS * FIX_S, abs(to_m - self.at_m))
            self.at_m += step_m if to_m > self.at_m else -step_m
            if abs(to_m - self.at_m) < 1e-6:
                self.at_m = to_m
            self._pass(FIX_S)
            self._odometer_m += step_m
            await self._send(self._signals(SPEED_MPS), PositionReported(self._place()))
        self._pass(FIX_S)
        await self._send(self._signals(0.0))
        await self.see_sky()
        await self.board()

    async def lock_itself(self) -> None:
        """Have the latch fall though nobody asked."""
        self._locked = True
        await self._send(self._doors())

    def _place(self) -> Position:
        one, other = STATIONS
        part = self.at_m / LENGTH_M
        latitude = one.latitude + (other.latitude - one.latitude) * part
        longitude = one.longitude + (other.longitude - one.longitude) * part
        return Position(latitude, longitude, SPEED_MPS, 3, 0.9, self._clock.boot_s())

    async def _send(self, *events: Event) -> None:
        for event in events:
            self._box.reactor.post(event)
        await self._quiet()

    async def _quiet(self) -> None:
        """Have the box do what waits and what is due; return when no pulse is under way."""
        if self._serving is not None:
            await super()._quiet()
            return
        reactor = self._box.reactor
        await reactor.settle()
        while not reactor.idle or reactor.state.doors.actuation is not None:
            await asyncio.sleep(0)  # the end of a pulse is a call of the loop
            await reactor.settle()
