"""The box put together: store, core, devices and carriers round one loop. Knows no concrete device.

``__main__`` builds the devices of a real car, the virtual car builds its own; from here on nothing tells them apart.
"""

from __future__ import annotations

import asyncio
import contextlib
import logging
import math
from collections import Counter, deque
from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any, Final

from cloud_sync.documents import radio_name
from cloud_sync.uplink import Uplink, UplinkSettings
from cloud_sync.wire import Topic
from onboard.config import Config
from onboard.control import Control
from onboard.core import capture, known
from onboard.core.access import list_version
from onboard.core.commands import Actuate, Loads, Pattern, Reply
from onboard.core.events import Event, FaultReported, Started
from onboard.core.state import State
from onboard.handshake import Handshake
from onboard.health import look
from onboard.inbox import Inbox
from onboard.mail import Identity, Mail
from onboard.notify import Notifier
from onboard.phones import Phones
from onboard.reactor import Clock, Door, Reactor, Worker, Workers
from onboard.report import report
from onboard.service_desk import OWN, ServiceDesk
from onboard.store_thread import StoreThread
from onboard.switches import Switches
from onboard.update_desk import UpdateDesk

log = logging.getLogger("amibox")

INBOX_MAX: Final = 64
"""Downward documents waiting to be verified; more are dropped and counted: whoever sent them sends again."""
WATCH_EVERY_S: Final = 2.0
LOOK_EVERY_S: Final = 10.0
"""On a full disk, how often the store is asked; it looks at the disk once a minute."""


CardKeys = Callable[[bytes], tuple[int, bytes] | None]
"""By a card's reference: slot and key that it must prove."""


class NoDoor:
    """A box without a door section: it can watch a car, and opens nothing."""

    def actuate(self, command: Actuate) -> None:
        """Refuse: nothing moved."""
        raise RuntimeError(
            f"no door is configured: {command.action.value} was not done; add [door] to the configuration"
        )

    def show(self, pattern: Pattern) -> None:
        """Log the answer that nobody sees."""
        log.info("answer: %s", pattern.value)

    def notice(self) -> None:
        """Show nothing: there is no light."""


@dataclass(frozen=True, slots=True)
class Devices:
    """What a composition root builds. ``observers`` hear every event when it is posted (the interlock).

    ``radio`` builds the worker through which phones come, ``card_reader`` the one that reads cards, given what tells
    from any thread which key a card must prove and whether an unknown card's number is waited for; None for a car
    without.
    """

    door: Door
    workers: tuple[Worker, ...]
    observers: tuple[Callable[[Event], None], ...] = ()
    radio: Callable[[Phones], Worker] | None = None
    card_reader: Callable[[CardKeys, Callable[[], bool]], Worker] | None = None
    loads: Sequence[Callable[[Loads], None]] = ()
    """Called with what is to be on, each time that changes. ``radio`` and ``card_reader`` may still add to it."""
    ask_off: Callable[[float], None] | None = None
    """Asks for the machine's end, and its waking after so many seconds; None where nobody can be asked."""


@dataclass(frozen=True, slots=True)
class Setting:
    """What is given from outside: the configuration, who this box is, and where in time it stands.

    ``floor_s``: no wall time below this is believed (the build date). ``boot_epoch``: 8 bytes, new for each boot of the
    machine, the same when only the daemon restarts: the boot-time clock runs on then.
    """

    config: Config
    identity: Identity
    clock: Clock
    floor_s: float
    boot_epoch: bytes
    software: str
    list_floor: int = 0
    key_set: bytes | None = None
    key_set_floor: int = 0
    uplink: UplinkSettings | None = None
    carry: Callable[[Topic, bytes], bool] | None = None
    """A way out for documents where there is no uplink; returns whether it took them."""
    updates: tuple[Path, Path] | None = None
    """The folders of the inbox and of the slots; None: this box takes no updates."""


class Box:
    """One running box. ``open`` first, then ``run``; ``close`` always."""

    def __init__(self, setting: Setting, store: StoreThread | None = None) -> None:
        """``store``: what writes; by default a thread of its own."""
        self._setting = setting
        self.store = store or StoreThread()
        self._inbox: deque[tuple[Topic, bytes]] = deque()
        self._arrived = asyncio.Event()
        self._counts: Counter[str] = Counter()
        self._loop: asyncio.AbstractEventLoop | None = None
        self._uplink: Uplink | None = None
        self._workers: Workers | None = None
        self._updates: Inbox | None = None
        self._control: Control | None = None

    async def open(self, devices: Devices) -> Reactor:
        """Read the store, put everything together and take the first step of this boot."""
        setting, config = self._setting, self._setting.config
        self._loop = asyncio.get_running_loop()
        now = setting.clock.now()
        opened = await self.store.open(
            config.box.data_dir, setting.identity.vehicle, setting.floor_s, now_wall_s=now.wall_s
        )
        kept = opened.kept
        grants = replace(kept.grants, version_floor=max(kept.grants.version_floor, setting.list_floor))
        kept = replace(kept, floor_s=max(kept.floor_s, setting.floor_s), grants=grants)
        policy = config.policy
        if setting.uplink is None and setting.carry is None:
            # Phones come when they come: without a network of its own a car loses none.
            policy = replace(policy, comms_lost_s=math.inf)
        state = State(kept=kept, policy=policy, boot_epoch=setting.boot_epoch, software=setting.software)
        if setting.updates is not None:
            self._updates = Inbox(*setting.updates, setting.software)
        self.mail = Mail(
            setting.identity,
            self.store,
            kept.outbox.store_id,
            setting.clock,
            self._post,
            self._publish,
            lambda: list_version(self.reactor.state),
        )
        self.mail.inbox = self._updates
        certificate = config.uplink.cert_file if config.uplink is not None else None
        started_s = now.boot_s
        self.mail.health = lambda: look(config.box.data_dir, certificate, setting.clock.boot_s() - started_s)
        floor = max(opened.key_set_floor, setting.key_set_floor)
        # The provisioned key set first, then the newer one kept since; each is verified again.
        self.mail.load_key_set(setting.key_set, floor)
        self.mail.load_key_set(opened.keys, floor)
        if self.mail.key_set is not None and self._updates is not None:
            self._updates.resume(self.mail.key_set)
        self.reactor = Reactor(state, setting.clock, self.store, devices.door, self.mail)
        self.reactor.observers.extend(devices.observers)
        handshake = Handshake(setting.identity.vehicle, setting.identity.agreement, setting.boot_epoch)
        self.phones = Phones(handshake, self.mail, setting.clock, lambda: self.reactor.state, self._post)
        uplink: tuple[Callable[[Loads], None], ...] = ()
        self._desk = ServiceDesk(self.mail, self.store, setting.clock, lambda: self.reactor.state, self._post)
        self.reactor.on_reply = self._replied
        workers: list[Any] = list(devices.workers)
        if devices.card_reader is not None:
            workers.append(
                devices.card_reader(
                    lambda ref: known.card_key(self.reactor.state, ref),
                    lambda: capture.waits(self.reactor.state, setting.clock.boot_s()),
                )
            )
        if devices.radio is not None:
            workers.append(devices.radio(self.phones))
        if setting.uplink is not None:
            offline = self.mail.offline(setting.boot_epoch)
            self._uplink = Uplink(setting.uplink, offline, self._came, lambda: self.reactor.state.kept.floor_s)
            workers.append(self._uplink)
            uplink = (self._uplink.set_loads,)
        self._workers = Workers(workers, self._post)
        self.switches = Switches((*uplink, *devices.loads), devices.ask_off, self.stop, self._post)
        self.reactor.on_power = self.switches.perform
        await self.reactor.handle(Started(setting.boot_epoch, setting.software, opened.replaced, opened.reason))
        return self.reactor

    async def run(self, notifier: Notifier, ready: Callable[[], None] = lambda: None) -> None:
        """Serve until ``stop``. Raises what ended the loop: a failed commit, a broken rule, a dead part."""
        if self._workers is None:
            raise RuntimeError("open comes before run")
        desk = UpdateDesk(
            self._updates, lambda: self.reactor.state, self._silent, self._setting.clock.boot_s, self.reactor.stop
        )
        handlers = {
            "status": self._status,
            "store_copy": self._store_copy,
            **desk.handlers(),
            **self._desk.handlers(),
        }
        self._control = Control(self._setting.config.box.socket, handlers, OWN)
        await self._control.start()
        self._workers.start()
        state = f"{self._setting.identity.vehicle}: ready, with {', '.join(sorted(self.counts()))}"
        log.info("%s", state)
        notifier.ready(state)
        ready()
        tasks: Sequence[asyncio.Task[None]] = (
            asyncio.create_task(self.reactor.run(), name="reactor"),
            asyncio.create_task(self._read_inbox(), name="mail"),
            asyncio.create_task(self._watch(notifier), name="watch"),
            asyncio.create_task(self._look_for_room(), name="room"),
        )
        try:
            done, _ = await asyncio.wait(tasks, return_when=asyncio.FIRST_COMPLETED)
            for task in done:
                task.result()
        finally:
            notifier.stopping()
            log.info("%s: stopping", self._setting.identity.vehicle)
            for task in tasks:
                task.cancel()
            await asyncio.gather(*tasks, return_exceptions=True)

    def stop(self) -> None:
        """Have ``run`` return."""
        self.reactor.stop()

    async def close(self) -> None:
        """Stop the workers, release the outputs, close the store."""
        if self._workers is not None:
            loop = asyncio.get_running_loop()
            stuck = await loop.run_in_executor(None, self._workers.stop)
            if stuck:
                log.warning("did not stop in time: %s", ", ".join(stuck))
        if self._control is not None:
            await self._control.stop()
        await self.store.close()
        if self._workers is not None:
            self.switches.ended()

    def _post(self, event: Event) -> None:
        self.reactor.post(event)

    def _replied(self, reply: Reply) -> None:
        if not self._desk.replied(reply):
            self.phones.replied(reply)

    def _publish(self, topic: Topic, payload: bytes) -> bool:
        if self._setting.carry is not None:
            return self._setting.carry(topic, payload)
        return self._uplink is not None and self._uplink.publish(topic, payload)

    def _came(self, topic: Topic, payload: bytes) -> None:
        """Take a downward document from the carrier's thread."""
        if len(self._inbox) >= INBOX_MAX:
            self._counts["inbox_full"] += 1
            return
        self._inbox.append((topic, payload))
        if self._loop is not None:
            with contextlib.suppress(RuntimeError):  # the loop is closed: the box is stopping
                self._loop.call_soon_threadsafe(self._arrived.set)

    async def _read_inbox(self) -> None:
        while True:
            await self._arrived.wait()
            self._arrived.clear()
            while self._inbox:
                topic, payload = self._inbox.popleft()
                await self.mail.receive(topic, payload)
                if self.mail.status_wanted:
                    await self.mail.send_status(self.reactor.state)
                # A refused one waits for nothing: whoever floods the carrier must not starve the door.
                await asyncio.sleep(0)

    async def _watch(self, notifier: Notifier) -> None:
        """Feed the watchdog while every part is alive; tell when the store lives on its reserve."""
        told = False
        while True:
            if not self._silent():
                notifier.alive()
            full = self.store.store.on_reserve
            if full != told:
                told = full
                detail = "the disk is full: trips are still recorded; make room" if full else ""
                self._post(FaultReported("disk", active=full, detail=detail))
            await asyncio.sleep(WATCH_EVERY_S)

    async def _look_for_room(self) -> None:
        """Have a full disk noticed as emptied: a parked car writes nothing for hours. Waits for nobody's watchdog."""
        while True:
            await asyncio.sleep(LOOK_EVERY_S)
            if self.store.store.on_reserve:
                await self.store.look_for_room(self._setting.clock.boot_s())

    def _silent(self) -> tuple[str, ...]:
        """Return the parts that are not alive: workers that do not beat, a step that does not end."""
        workers = self._workers.silent() if self._workers is not None else ()
        return (*workers, "reactor") if self.reactor.stuck() else workers

    def counts(self) -> dict[str, Counter[str]]:
        """Return what every part counted, by part."""
        parts = {"box": self._counts, "reactor": self.reactor.counts, "mail": self.mail.counts}
        parts["phones"] = self.phones.counts
        parts["store"] = self.store.store.counts
        if self._workers is not None:
            parts |= {worker.name: worker.counts for worker in self._workers.workers}
        return parts

    async def _status(self, _request: dict[str, Any]) -> dict[str, Any]:
        told = report(self.reactor.state, self.counts(), self._silent(), self._setting.clock.boot_s())
        radio = self._setting.config.bluetooth is not None
        return told | {"radio": radio_name(self._setting.identity.agreement.public) if radio else None}

    async def _store_copy(self, request: dict[str, Any]) -> dict[str, Any]:
        destination = request.get("destination")
        if not isinstance(destination, str) or not destination.startswith("/"):
            raise ValueError("destination must be an absolute path")
        await self.store.copy(Path(destination))
        return {"ok": True}
