"""A whole box and a whole endpoint in one process and in virtual time: what a recording is played through.

The box is ``onboard.box.Box`` with its store on disk; the endpoint's ingest works on a database of its own. Between
them go the very bytes that a broker would carry. Only three things are not a car's: the clock, which is moved by hand;
the carrier, which is a queue; and the door, whose latch obeys the real interlock without wires.
"""

from __future__ import annotations

import json
from collections import deque
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Final, Self

from sqlalchemy import insert

from cloud_sync.carrier_settings import Outgoing
from cloud_sync.endpoint import authority, lists, tables
from cloud_sync.endpoint.ingest import Ingest
from cloud_sync.endpoint.store import Store, sqlite_url
from cloud_sync.wire import Topic, build_topic, parse_topic
from hw.can_signals import CarModel
from hw.interlock import Interlock
from hw.taps import card_ref
from onboard.box import Box, Devices, Setting
from onboard.config import parse_config
from onboard.core import machine
from onboard.core.commands import Action, Actuate, Pattern
from onboard.core.events import (
    AccessRequested,
    ActuationOutcome,
    ActuationSettled,
    CardCredential,
    DoorReported,
    Event,
    Intent,
    LinkReported,
)
from onboard.core.grants import Assurance, BookingKind, Rights
from onboard.core.state import State
from onboard.mail import Identity
from sim import boxes
from sim.clock import ManualClock

VEHICLE: Final = "replay"
CARD_UID: Final = bytes.fromhex("04a1b2c3d4e5f6")
"""The driver's card. Invented."""
EPOCH: Final = b"replayed"
DAY_S: Final = 86_400
PULSE_S: Final = 0.3
TURN_S: Final = 0.5
"""Virtual seconds between two looks at what nobody sends by himself: the door's contacts, a silent bus."""

# The car of the file stands for any: the lab is handed the model itself, which may be a folder of one's own.
CONFIG: Final = """\
[box]
data_dir = "{folder}/box"

[car]
model = "ami"

[policy]
uid_cards = true
"""


class BareDoor:
    """A door without wires: the real interlock is asked, then the latch moves while the pulse lasts."""

    def __init__(self, clock: ManualClock, interlock: Interlock, post: Callable[[Event], None]) -> None:
        self.locked = True
        self.is_open = False
        self.refused: list[str] = []
        self._clock = clock
        self._interlock = interlock
        self._post = post
        self._pulses: deque[tuple[float, Actuate]] = deque()

    def actuate(self, command: Actuate) -> None:
        """Give a pulse, if the interlock permits."""
        now_s = self._clock.boot_s()
        denied = self._interlock.permit(command.action, now_s, PULSE_S)
        if denied is None:
            self._pulses.append((now_s + PULSE_S, command))
            return
        self.refused.append(denied.value)
        self._post(ActuationSettled(command.actuation, ActuationOutcome.REFUSED, denied.value, now_s))

    def show(self, pattern: Pattern) -> None:
        """Nobody stands at this door."""

    def report(self) -> None:
        """End the pulses that are over, and read the contacts."""
        now_s = self._clock.boot_s()
        while self._pulses and self._pulses[0][0] <= now_s:
            ended_s, command = self._pulses.popleft()
            self.locked = command.action is Action.LOCK
            self._post(ActuationSettled(command.actuation, ActuationOutcome.DONE, "", ended_s))
        self._post(DoorReported(self.locked, self.is_open, passenger_open=False, sampled_s=now_s))


class Lab:
    """Box and endpoint for one car. ``async with`` opens both, and closes them. Files go below ``folder``.

    ``wall_s`` is the Unix time at the start; no wall time more than a day below it is believed. AuthorityError where
    ``folder`` holds a cloud already.
    """

    def __init__(self, folder: Path, model: CarModel, wall_s: float) -> None:
        self.clock = ManualClock(wall_s)
        self._sent: deque[tuple[Topic, bytes]] = deque()
        self._answers: deque[tuple[Topic, bytes]] = deque()
        authority.initialise(folder / "cloud", int(wall_s))
        self._authority = authority.Authority(folder / "cloud")
        self.store = Store(sqlite_url(authority.Paths(folder / "cloud").database))
        self._keys, given = boxes.give(self._authority, VEHICLE, folder, int(wall_s))
        self.store.add_box(self._keys, int(wall_s))
        self.ingest = Ingest(self.store, self._authority)
        self._card = card_ref(given.card_key, CARD_UID)
        config = parse_config(CONFIG.format(folder=folder), folder / "box.toml")
        setting = Setting(
            config=replace(config, policy=replace(config.policy, odometer_speed_mps=model.odometer_speed_mps)),
            identity=Identity(given.vehicle, given.agreement, given.signing, given.roots),
            clock=self.clock,
            floor_s=wall_s - DAY_S,
            boot_epoch=EPOCH,
            software="replay",
            key_set=given.key_set,
            key_set_floor=given.key_set_floor,
            carry=self._carry,
        )
        self.box = Box(setting)
        self._interlock = Interlock()
        self.door = BareDoor(self.clock, self._interlock, self.post)

    async def __aenter__(self) -> Self:
        await self.box.open(Devices(self.door, (), (self._interlock.note,)))
        self.post(LinkReported(connected=True))
        self._answer(self.ingest.greeting(self.clock.now().wall_s))
        await self.settle()
        return self

    async def __aexit__(self, *_: object) -> None:
        await self.box.close()
        self.store.close()

    def _carry(self, topic: Topic, payload: bytes) -> bool:
        self._sent.append((topic, payload))
        return True

    def _answer(self, messages: list[Outgoing]) -> None:
        for message in messages:
            _, channel = parse_topic(message.topic)
            self._answers.append((channel, message.payload))

    @property
    def state(self) -> State:
        """What the box knows."""
        return self.box.reactor.state

    def post(self, event: Event) -> None:
        """Have something happen to the box, at the present moment."""
        self.box.reactor.post(event)

    def tap(self) -> None:
        """Hold the driver's card to the reader."""
        self.post(AccessRequested(CardCredential(self._card, Assurance.UID), Intent.TAP))

    async def settle(self) -> None:
        """Have the box handle what waits, and the endpoint what the box sent, until both are quiet."""
        await self.box.reactor.settle()
        while self._answers or self._sent:
            while self._answers:
                topic, payload = self._answers.popleft()
                await self.box.mail.receive(topic, payload)
            await self.box.reactor.settle()
            while self._sent:
                channel, payload = self._sent.popleft()
                self._answer(self.ingest.handle(build_topic(VEHICLE, channel), payload, self.clock.now().wall_s))

    async def advance(self, to_s: float) -> None:
        """Let time pass until boot time ``to_s``, deadline after deadline."""
        while (due_s := machine.next_deadline(self.state)) is not None and due_s < to_s:
            self.clock.advance(max(due_s, self.clock.boot_s()))
            await self.settle()
        self.clock.advance(to_s)
        await self.settle()

    async def book(self, lasts_s: float) -> None:
        """Book the car for the driver's card, from an hour ago until ``lasts_s`` from now, with a trace."""
        now_s = int(self.clock.now().wall_s)
        card = {"ref": self._card.hex()}
        values = {
            "id": b"replayed-booking",
            "vehicle": VEHICLE,
            "start_s": now_s - 3600,
            "end_s": now_s + int(lasts_s),
            "pickup": "start",
            "dropoff": None,
            "kind": BookingKind.LOOP.value,
            "driver": b"a-driver",
            "phone_keys": "[]",
            "cards": json.dumps([card]),
            "rights": int(Rights.DOOR | Rights.DRIVE),
            "trace": True,
            "created_s": now_s,
            "cancelled_s": None,
        }
        with self.store.write() as db:
            db.execute(insert(tables.bookings).values(values))
            row = lists.issue_within(db, self._authority, self._keys, now_s, lists.HORIZON_DAYS)
        self._answers.append((Topic.LIST, row.document))
        await self.settle()
