"""The car of the week without a network: its box, whole and on a disk, and what is played round it.

Time stands still but where the story moves it, so a week takes seconds and is the same each time.
"""

from __future__ import annotations

import asyncio
import secrets
from dataclasses import replace
from pathlib import Path
from typing import Final

from onboard.box import Box, Devices, Setting
from onboard.config import parse_config
from onboard.core.clock import Anchor, ClockQuality, Instant
from onboard.core.commands import Action, Actuate, Pattern
from onboard.core.events import (
    AccessRequested,
    ActuationOutcome,
    ActuationSettled,
    BusReported,
    BusState,
    DoorReported,
    Event,
    Position,
    PositionReported,
    Reading,
    Signal,
    SignalsReported,
    TimeHeard,
)
from onboard.mail import Identity
from onboard.notify import Notifier
from sim import box_toml
from sim.phone_call import Call
from sim.week_town import STATIONS, VEHICLE, Town

SPEED_MPS: Final = 10.0
STEP_S: Final = 10.0
BUILD_S: Final = 1_795_305_600.0
"""A date before the story: 2026-11-22."""


class StoryClock:
    """A boot-time clock that only ``forward`` moves, and no other clock: the box learns the time from others."""

    def __init__(self) -> None:
        self._boot_s = 20.0

    def boot_s(self) -> float:
        """Read it."""
        return self._boot_s

    def now(self) -> Instant:
        """Read it; a wall clock there is none."""
        return Instant(self.boot_s(), 0.0, ClockQuality.UNSET)

    def wait_s(self, boot_s: float) -> float:
        """Return the story's seconds until then. Whoever waits is woken by the story's next event anyway."""
        return boot_s - self.boot_s()

    def forward(self, by_s: float) -> None:
        """Let time pass."""
        self._boot_s += by_s


class OfflineCar:
    """A car that knows nobody but who stands beside it."""

    def __init__(self, folder: Path, town: Town) -> None:
        self.station = "bazouges"
        self._folder = folder / "car"
        self._town = town
        self._locked = True
        self._odometer_m = 1_234_000.0

    async def start(self) -> None:
        """Make the box what its car needs, as a technician does once, and start it."""
        self._folder.mkdir()
        given = self._town.provision(VEHICLE, self._folder)
        text = box_toml.box(self._folder)
        for each in STATIONS:
            text += box_toml.station(each.id, each.name, each.latitude, each.longitude)
        self._setting = Setting(
            config=parse_config(text, self._folder / "box.toml"),
            identity=Identity(VEHICLE, given.agreement, given.signing, given.roots),
            clock=StoryClock(),
            floor_s=BUILD_S,
            boot_epoch=secrets.token_bytes(8),
            software="week",
            key_set=given.key_set,
            key_set_floor=given.key_set_floor,
        )
        await self._boot()

    async def _boot(self) -> None:
        self._clock = StoryClock()
        setting = replace(self._setting, clock=self._clock, boot_epoch=secrets.token_bytes(8))
        self._box = Box(setting)
        await self._box.open(Devices(self, ()))
        ready = asyncio.Event()
        self._running = asyncio.create_task(self._box.run(Notifier({}), ready.set))
        await asyncio.wait_for(ready.wait(), 20)
        await self._stand()

    async def stop(self) -> None:
        """Switch the box off."""
        self._box.stop()
        await asyncio.gather(self._running, return_exceptions=True)
        await self._box.close()

    async def power_cut(self) -> None:
        """Switch it off and on again: what it has not written is gone, and so is the time."""
        await self.stop()
        await self._boot()

    @property
    def unacknowledged(self) -> int:
        """Records that the box does not yet know to be at the commune."""
        state = self._box.reactor.state
        return state.kept.outbox.last_seq - state.sending.acked_seq

    async def until(self, wall_s: float) -> None:
        """Let time pass until then, standing."""
        self._pass(max(0.0, wall_s - self._town.now_s))
        await self._stand()

    async def see_sky(self) -> None:
        """Have the receiver say when and where."""
        now_s = self._clock.boot_s()
        heard = Anchor(now_s, self._town.now_s - 0.5, self._town.now_s + 0.5, ClockQuality.GNSS)
        await self._send(TimeHeard(heard), PositionReported(self._place()))

    async def drive(self, metres: float, to: str) -> None:
        """Get in, drive, and stand at a station, with the doors shut."""
        for is_open in (True, False):
            await self._send(self._doors(driver_open=is_open))
        await self._send(BusReported(BusState.AWAKE, self._clock.boot_s()))
        for _ in range(round(metres / (SPEED_MPS * STEP_S))):
            self._pass(STEP_S)
            self._odometer_m += SPEED_MPS * STEP_S
            await self._send(self._signals(SPEED_MPS))
        self.station = to
        self._pass(STEP_S)
        await self._send(self._signals(0.0), PositionReported(self._place()))
        for is_open in (True, False):
            await self._send(self._doors(driver_open=is_open))

    async def tap(self, event: AccessRequested) -> bool:
        """Hold a card to the reader; return whether the latch moved."""
        before = self._locked
        await self._send(event)
        return self._locked != before

    async def locked(self) -> None:
        """RuntimeError unless the car is locked and its trip over."""
        rental = self._box.reactor.state.kept.rental
        if not self._locked or (rental is not None and rental.trip is not None):
            raise RuntimeError("the car should be locked and its trip over, and it is not")

    def call(self, name: str) -> Call:
        """Have a phone connect."""
        return Call(self._box.phones, name, quiet=self._quiet)

    def hang_up(self, call: Call) -> None:
        """Have a phone's connection end."""
        self._box.phones.gone(call.name)

    # What a box asks of a door.

    def actuate(self, command: Actuate) -> None:
        """Move the latch, and say so a little later."""
        self._locked = command.action is Action.LOCK
        asyncio.get_running_loop().call_soon(self._settled, command.actuation)

    def show(self, _pattern: Pattern) -> None:
        """Show nothing: nobody looks."""

    def _settled(self, actuation: int) -> None:
        self._pass(0.3)
        now_s = self._clock.boot_s()
        self._box.reactor.post(ActuationSettled(actuation, ActuationOutcome.DONE, "", now_s))
        self._pass(0.2)
        self._box.reactor.post(self._doors())

    def _pass(self, by_s: float) -> None:
        self._clock.forward(by_s)
        self._town.now_s += by_s

    async def _stand(self) -> None:
        self._pass(1.0)
        await self._send(self._signals(0.0), BusReported(BusState.ASLEEP, self._clock.boot_s()), self._doors())

    def _doors(self, *, driver_open: bool = False) -> DoorReported:
        return DoorReported(self._locked, driver_open, passenger_open=False, sampled_s=self._clock.boot_s())

    def _signals(self, speed_mps: float) -> SignalsReported:
        now_s = self._clock.boot_s()
        shown_m = self._odometer_m // 100 * 100
        readings = ((Signal.SPEED, Reading(speed_mps, now_s, 15.0)), (Signal.DISTANCE, Reading(shown_m, now_s, 15.0)))
        return SignalsReported(readings, odometer_resolution_m=100)

    def _place(self) -> Position:
        at = next(each for each in STATIONS if each.id == self.station)
        return Position(at.latitude, at.longitude, 0.0, 3, 0.9, self._clock.boot_s())

    async def _send(self, *events: Event) -> None:
        for event in events:
            self._box.reactor.post(event)
            await self._quiet()

    async def _quiet(self) -> None:
        """Wait until nothing waits in the box, and no pulse is under way."""
        await asyncio.sleep(0)
        reactor = self._box.reactor
        while not reactor.idle or reactor.state.doors.actuation is not None:  # noqa: ASYNC110 - it tells nobody
            await asyncio.sleep(0.001)
