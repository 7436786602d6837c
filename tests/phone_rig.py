"""A box with a door that obeys, a clock that is set, and phones that reach it without a radio."""

from __future__ import annotations

import asyncio
import secrets
import time
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import asynccontextmanager
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

from cloud_sync.documents import BoxSigner, decode_record, encode_key_set, encode_pass, encode_reservation_list
from cloud_sync.documents.conversation import Answer, Op, Wish
from onboard.box import Box, Devices, Setting
from onboard.config import parse_config
from onboard.core.clock import Anchor, ClockQuality, Instant
from onboard.core.commands import Action, Actuate, Pattern
from onboard.core.events import (
    ActuationOutcome,
    ActuationSettled,
    BusReported,
    BusState,
    DoorReported,
    Event,
    Reading,
    Signal,
    SignalsReported,
    TimeHeard,
)
from onboard.core.grants import BookingKind, Pass, Reservation, ReservationList, Rights
from onboard.core.records import AccessDenied, DocumentRefused
from onboard.core.state import State
from onboard.mail import Identity
from onboard.notify import Notifier
from sim.phone import visit
from sim.phone_call import Call
from sim.phone_wallet import Wallet
from tests.document_rig import BOX, BOX_V, CAR, CLOUD, KEYS, ROOT, ROOTS

T0 = 1_797_000_000
"""Unix seconds at the beginning of every story."""
HOUR_S = 3600
ANNA = BoxSigner.from_bytes(bytes([21]) * 32)
BERT = BoxSigner.from_bytes(bytes([22]) * 32)
CONFIG = """
[box]
data_dir = "{dir}/data"
provisioning = "{dir}/provisioning.cbor"
socket = "{dir}/box.sock"
[car]
model = "ami"
"""
STATION = """
[[station]]
id = "bazouges"
name = "Bazouges"
latitude = 48.2790
longitude = -1.8400
radius_m = 60.0
"""


def reservation(
    key: BoxSigner = ANNA, number: int = 1, start_s: int = 0, end_s: int = HOUR_S, **more: Any
) -> Reservation:
    """Return a loop from Bazouges, from ``start_s`` to ``end_s`` after ``T0``."""
    base = Reservation(
        id=bytes([number]) * 16,
        start_s=T0 + start_s,
        end_s=T0 + end_s,
        pickup="bazouges",
        dropoff=None,
        kind=BookingKind.LOOP,
        driver=bytes([number]) * 8,
        phone_keys=(key.public,),
        cards=(),
        rights=Rights.DOOR | Rights.DRIVE,
        trace=False,
    )
    return replace(base, **more)


def grant(of: Reservation, key: BoxSigner = ANNA, version: int = 2, **more: Any) -> Pass:
    """Return the pass for a booking, made with list ``version``."""
    base = Pass(
        vehicle=CAR,
        id=of.id[:8],
        phone_key=key.public,
        reservation_id=of.id,
        start_s=of.start_s,
        end_s=of.end_s,
        driver=of.driver,
        rights=of.rights,
        issued_at_s=T0 - 60,
        expires_s=T0 + 20 * HOUR_S,
        made_with_version=version,
        pickup=of.pickup,
        dropoff=of.dropoff,
    )
    return replace(base, **more)


def wallet(of: Reservation, key: BoxSigner = ANNA, document: bytes | None = None) -> Wallet:
    """Return a phone's wallet for a booking, with its pass unless another document is given."""
    made = encode_pass(grant(of, key), CLOUD) if document is None else document
    return Wallet(CAR, "AmiBox-TEST", BOX_V.public, key, of.id, made)


def listing(*reservations: Reservation, version: int = 1, **more: Any) -> ReservationList:
    """Return a list, good for a week."""
    base = ReservationList(CAR, version, T0 - 60, T0 + 7 * 24 * HOUR_S, tuple(reservations))
    return replace(base, **more)


def listed_document(*reservations: Reservation, version: int = 1, **more: Any) -> bytes:
    """Return a list as it comes: signed and sealed to the box."""
    return encode_reservation_list(listing(*reservations, version=version, **more), CLOUD, BOX_V.public)


class RigClock:
    """Real time from ``start_s`` on, which a test moves forward."""

    def __init__(self, start_s: float = 100.0) -> None:
        self.ahead_s = start_s
        self._since_s = time.monotonic()

    def boot_s(self) -> float:
        return self.ahead_s + time.monotonic() - self._since_s

    def now(self) -> Instant:
        return Instant(self.boot_s(), 0.0, ClockQuality.UNSET)

    def wait_s(self, boot_s: float) -> float:
        return boot_s - self.boot_s()


@dataclass
class ObedientDoor:
    """A latch that does as it is told, at once, and says so; and a memory of every pulse."""

    rig: PhoneRig
    pulses: list[Action] = field(default_factory=list)
    shown: list[Pattern] = field(default_factory=list)
    noticed: int = 0
    locked: bool = True
    silent: bool = False
    """Nothing comes back of a pulse: the power is cut with it."""

    def actuate(self, command: Actuate) -> None:
        self.pulses.append(command.action)
        if self.silent:
            return
        self.locked = command.action is Action.LOCK
        at_s = self.rig.clock.boot_s()
        self.rig.box.reactor.post(ActuationSettled(command.actuation, ActuationOutcome.DONE, "", at_s))
        asyncio.get_running_loop().call_later(0.11, self.report)

    def notice(self) -> None:
        """Remember that a card was noticed."""
        self.noticed += 1

    def show(self, pattern: Pattern) -> None:
        self.shown.append(pattern)

    def report(self) -> None:
        self.rig.box.reactor.post(
            DoorReported(self.locked, driver_open=False, passenger_open=False, sampled_s=self.rig.clock.boot_s())
        )


class PhoneRig:
    """One box and what happens round it."""

    def __init__(self, directory: Path, *, policy: dict[str, Any] | None = None) -> None:
        self.clock = RigClock()
        self.door = ObedientDoor(self)
        config = parse_config(CONFIG.format(dir=directory) + STATION, directory / "box.toml")
        config = replace(config, policy=replace(config.policy, **(policy or {})))
        identity = Identity(CAR, BOX_V, BOX, ROOTS)
        keys = encode_key_set(KEYS, ROOT)
        self.box = Box(Setting(config, identity, self.clock, T0 - 86_400.0, b"epoch123", "test", key_set=keys))
        self._connections = 0

    @property
    def state(self) -> State:
        return self.box.reactor.state

    async def send(self, *events: Event) -> None:
        """Have the core take these, and everything before them."""
        for event in events:
            self.box.reactor.post(event)
        await self.quiet()

    async def quiet(self) -> None:
        """Wait until nothing waits."""
        while not self.box.reactor.idle:  # noqa: ASYNC110 - it tells nobody
            await asyncio.sleep(0.002)

    async def at(self, after_t0_s: float, quality: ClockQuality = ClockQuality.GNSS) -> None:
        """Have the box hear the time, ``after_t0_s`` after ``T0``, from this sort of source."""
        now_s = self.clock.boot_s()
        await self.send(TimeHeard(Anchor(now_s, T0 + after_t0_s, T0 + after_t0_s + 1, quality)))

    async def later(self, after_t0_s: float) -> None:
        """Let time pass until so long after ``T0``: on the box's clock and in the sky. The car still stands there."""
        anchor = self.state.anchor
        assert anchor is not None
        self.clock.ahead_s += T0 + after_t0_s - (anchor.earliest_s + self.clock.boot_s() - anchor.boot_s)
        await self.at(after_t0_s)
        await self.parked()

    async def parked(self) -> None:
        """Have the car stand there, shut and locked, its bus asleep."""
        now_s = self.clock.boot_s()
        speed = ((Signal.SPEED, Reading(0.0, now_s, 1.0)),)
        await self.send(SignalsReported(speed), BusReported(BusState.ASLEEP, now_s))
        self.door.report()
        await self.quiet()

    async def take(self, document: bytes) -> str:
        """Have the box take a document, from wherever."""
        refused = await self.box.mail.deliver(document)
        await self.quiet()
        return refused

    async def refusals(self) -> list[tuple[str, str]]:
        """Return what was written down of refusals: the reason, and by which way."""
        await self.quiet()
        rows = await self.box.store.rows(1, self.state.kept.outbox.last_seq)
        found = [decode_record(row.payload) for row in rows]
        refused = [(each.reason, each.credential) for each in found if isinstance(each, AccessDenied)]
        return refused + [(each.reason, each.kind) for each in found if isinstance(each, DocumentRefused)]

    async def tap(self, who: Wallet, op: Op = Op.UNLOCK, mtu: int = 247, **more: Any) -> Answer:
        """Have a driver tap once: a whole visit, and the answer that counts. The door is given its time."""
        gatt = self.call(mtu)
        try:
            came = await visit(gatt, who, Wish(secrets.token_bytes(16), op), **more)
        finally:
            self.box.phones.gone(gatt.name)
        await self.settled()
        return came.answer

    async def settled(self) -> None:
        """Wait until no pulse is under way."""
        while self.state.doors.actuation is not None:  # noqa: ASYNC110 - the core tells nobody
            await asyncio.sleep(0.01)
        await self.quiet()

    def call(self, mtu: int = 247) -> Call:
        """Return a new connection."""
        self._connections += 1
        return Call(self.box.phones, f"/org/bluez/hci0/dev_{self._connections}", mtu)


@asynccontextmanager
async def phone_rig(directory: Path, *, policy: dict[str, Any] | None = None) -> AsyncIterator[PhoneRig]:
    """Run a parked box that knows the time by its receiver."""
    rig = PhoneRig(directory, policy=policy)
    async with running(rig, Devices(rig.door, ())):
        yield rig


@asynccontextmanager
async def running(rig: PhoneRig, devices: Devices) -> AsyncIterator[None]:
    """Run a rig's box with these devices: parked, and it knows the time by its receiver."""
    task = None
    try:
        await rig.box.open(devices)
        started = asyncio.Event()
        task = asyncio.create_task(rig.box.run(Notifier({}), started.set))
        await asyncio.wait_for(started.wait(), 20)
        await rig.parked()
        await rig.at(0)
        yield
        rig.box.stop()
        await asyncio.wait_for(task, 20)
    finally:
        if task is not None:
            task.cancel()
        await rig.box.close()


BOOKING = reservation()
Story = Callable[[PhoneRig], Awaitable[Answer]]


def play(tmp_path: Path, story: Story, **policy: object) -> tuple[Answer, PhoneRig, list[tuple[str, str]]]:
    """Tell a story at a box; return its last answer, the rig, and what was written down of refusals."""

    async def whole() -> tuple[Answer, PhoneRig, list[tuple[str, str]]]:
        async with phone_rig(tmp_path, policy=policy) as rig:
            return await story(rig), rig, await rig.refusals()

    return asyncio.run(whole())


def holding(**changes: Any) -> Wallet:
    """Anna's phone with a pass that differs in this."""
    return wallet(BOOKING, document=encode_pass(replace(grant(BOOKING), **changes), CLOUD))
