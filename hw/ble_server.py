"""The box's GATT server on BlueZ: phones read, write and read; what is said is a ``Conversations``' affair.

BlueZ has the radio, D-Bus carries the calls. This file follows bluetoothd through whatever happens to it; beside it
``ble_phones`` serves the phones, ``ble_registration`` keeps us registered, ``ble_objects`` is what BlueZ sees.
"""

from __future__ import annotations

import asyncio
import contextlib
import logging
from collections import Counter
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any, Final

from dbus_fast import BusType, DBusError, Message, MessageType, Variant
from dbus_fast.aio import MessageBus
from dbus_fast.errors import DBusFastError

from hw.ble_objects import objects
from hw.ble_phones import Conversations, Phones
from hw.ble_registration import ADAPTER, BLUEZ, CALL_S, DEVICE, WANTED, Health, Registration, call, value_of
from hw.worker import AdapterError, Life

__all__ = ["BleServer", "BleSettings", "Conversations"]

NAME_BYTES_MAX: Final = 29
"""What a scan response has room for."""

WATCH_S: Final = 0.2
"""How often the stop flag is looked at."""
SETTLE_S: Final = 0.5
"""How often the car is asked whether it moves."""
RETRY_S: Final = (0.25, 8.0)
"""First and longest wait between two attempts to register. A change at bluetoothd ends it."""
TIDY_S: Final = 1.0
FAREWELL_S: Final = 0.2
"""When the worker is stopped: for the answers to what is under way, and again for D-Bus."""

DBUS: Final = "org.freedesktop.DBus"
DBUS_PATH: Final = "/org/freedesktop/DBus"
NO_OWNER: Final = "org.freedesktop.DBus.Error.NameHasNoOwner"
ACCESS_DENIED: Final = "org.freedesktop.DBus.Error.AccessDenied"
_FROM_BLUEZ: Final = f"type='signal',sender='{BLUEZ}'"
_CHANGES: Final = f"{_FROM_BLUEZ},interface='org.freedesktop.DBus.Properties',member='PropertiesChanged'"
RULES: Final = (
    f"type='signal',sender='{DBUS}',member='NameOwnerChanged',arg0='{BLUEZ}'",
    f"{_FROM_BLUEZ},interface='org.freedesktop.DBus.ObjectManager'",
    f"{_CHANGES},arg0='{DEVICE}'",
    f"{_CHANGES},arg0='{ADAPTER}'",
)


log = logging.getLogger(__name__)


@dataclass(frozen=True, slots=True)
class BleSettings:
    """The name by which phones list the car, such as "AmiBox-7F3A", and the D-Bus if it is not the system's.

    Raises ValueError for a name that does not fit into what a phone hears.
    """

    name: str
    bus_address: str | None = None

    def __post_init__(self) -> None:
        if not 1 <= len(self.name.encode()) <= NAME_BYTES_MAX:
            raise ValueError(f"the name must have 1 to {NAME_BYTES_MAX} bytes, not {self.name!r}")


class BleServer:
    """The worker (``hw.worker.Worker``). Mends everything but D-Bus itself, whose loss is an ``AdapterError``.

    ``moving`` is asked twice a second, on the server's thread: while the car moves no phone finds it, but one that is
    connected is served. ``counts``: those of ``Phones`` and ``Registration``, and ``refused_stranger``: calls that did
    not come from bluetoothd.
    """

    name: str = "bluetooth"

    def __init__(self, settings: BleSettings, conversations: Conversations, moving: Callable[[], bool]) -> None:
        self.counts: Counter[str] = Counter()
        self._settings = settings
        self._conversations = conversations
        self._moving = moving

    def run(self, life: Life) -> None:
        """Serve phones until stopped. Emits its own faults; raises AdapterError when D-Bus is not there or lost."""
        asyncio.run(self._live(life))

    async def _live(self, life: Life) -> None:
        serving = asyncio.create_task(self._serve(life))
        while not serving.done() and not life.stop.is_set():
            life.beat()
            await asyncio.wait((serving,), timeout=WATCH_S)
        serving.cancel()
        with contextlib.suppress(asyncio.CancelledError):
            await serving

    async def _serve(self, life: Life) -> None:
        bus = await self._connect()
        session = _Session(bus, self._settings, self._conversations, self.counts)
        try:
            await session.begin()
            async with asyncio.TaskGroup() as tasks:
                tasks.create_task(_until_lost(bus))
                tasks.create_task(self._keep_registered(session, life))
                tasks.create_task(_tidy(session.phones))
        except DBusError as error:
            raise _lost(f"D-Bus is unwell: {error}") from error
        except ExceptionGroup as failures:
            if bus.connected:
                raise failures.exceptions[0] from None
            raise _lost("D-Bus was lost") from failures
        finally:
            if not bus.connected:
                # dbus-fast tries to answer what was under way: each would stand in the log with its traceback.
                asyncio.get_running_loop().set_exception_handler(_unanswerable)
            await session.phones.farewell(FAREWELL_S)
            await _close(bus)

    async def _connect(self) -> MessageBus:
        try:
            async with asyncio.timeout(CALL_S):
                bus = MessageBus(self._settings.bus_address, BusType.SYSTEM)
                return await bus.connect()
        # A dbus-daemon that is not there, does not answer, or does not want us.
        except (OSError, EOFError, ValueError, DBusFastError) as error:
            raise _lost(f"D-Bus can't be reached: {str(error) or type(error).__name__}") from error

    async def _keep_registered(self, session: _Session, life: Life) -> None:
        health = Health()
        retry_s = RETRY_S[0]
        while True:
            session.changed.clear()
            try:
                await session.registration.settle(advertise=not self._moving())
            except AdapterError as error:
                fault = health.unsettled(str(error), asyncio.get_running_loop().time())
                wait_s, retry_s = retry_s, min(2 * retry_s, RETRY_S[1])
            else:
                fault = health.settled()
                wait_s, retry_s = SETTLE_S, RETRY_S[0]
            if fault is not None:
                life.emit(fault)
            with contextlib.suppress(TimeoutError):
                async with asyncio.timeout(wait_s):
                    await session.changed.wait()
                    retry_s = RETRY_S[0]


class _Session:
    """One connection to D-Bus: what bluetoothd says goes where it matters. ``changed``: settling may help."""

    def __init__(
        self, bus: MessageBus, settings: BleSettings, conversations: Conversations, counts: Counter[str]
    ) -> None:
        self.phones = Phones(bus, conversations, counts)
        self.registration = Registration(bus, settings.name, counts, self._left_over)
        self.changed = asyncio.Event()
        self._bus = bus
        self._name = settings.name
        self._counts = counts
        self._owner = ""
        """Who is bluetoothd; "" while nobody is."""

    async def begin(self) -> None:
        """Listen to bluetoothd and show it our objects. Raises DBusError: D-Bus itself is unwell."""
        self._bus.add_message_handler(self._heard)
        for path, interface in objects(self._name, self.phones, self._released).items():
            self._bus.export(path, interface)
        for rule in RULES:
            await call(self._bus, DBUS, DBUS_PATH, f"{DBUS}.AddMatch", "s", rule)
        try:
            owner = await call(self._bus, DBUS, DBUS_PATH, f"{DBUS}.GetNameOwner", "s", BLUEZ)
        except DBusError as error:
            if error.type != NO_OWNER:
                raise
        else:
            # By now a later one may be known.
            self._owner = self._owner or owner

    def _heard(self, message: Message) -> Message | None:
        """Take in a message before dbus-fast does."""
        if message.message_type is MessageType.METHOD_CALL and message.sender != self._owner:
            self._counts["refused_stranger"] += 1
            return Message.new_error(message, ACCESS_DENIED, "only bluetoothd may call")
        if message.message_type is MessageType.SIGNAL:
            match message.sender, message.member, message.body:
                case "org.freedesktop.DBus", "NameOwnerChanged", ["org.bluez", _, owner]:
                    self._owner = owner
                    self._lost("")
                case self._owner, "InterfacesAdded", [path, interfaces]:
                    self._appeared(path, interfaces)
                case self._owner, "InterfacesRemoved", [path, interfaces]:
                    self._disappeared(path, interfaces)
                case self._owner, "PropertiesChanged", [interface, properties, _] if message.path is not None:
                    self._changed(message.path, interface, properties)
                case _:
                    pass
        return None

    def _appeared(self, path: str, interfaces: dict[str, dict[str, Variant]]) -> None:
        if DEVICE in interfaces:
            self._changed(path, DEVICE, interfaces[DEVICE])
        if WANTED & interfaces.keys():
            self.changed.set()

    def _disappeared(self, path: str, interfaces: list[str]) -> None:
        if DEVICE in interfaces:
            self.phones.gone(path)
        if WANTED & set(interfaces):
            self._lost(path)

    def _changed(self, path: str, interface: str, properties: dict[str, Any]) -> None:
        if interface == DEVICE and value_of(properties, "Connected") is not None:
            if not value_of(properties, "Connected"):
                self.phones.gone(path)
            elif self.registration.adapter:
                self.phones.arrived(path)
            else:
                self._left_over(path)
        if interface == ADAPTER and path == self.registration.adapter and "Powered" in properties:
            self.registration.powered = bool(value_of(properties, "Powered"))
            self.changed.set()

    def _lost(self, adapter: str) -> None:
        """An adapter is gone, or ("") bluetoothd with all of them."""
        self.phones.gone_below(adapter)
        if adapter in {"", self.registration.adapter}:
            self.registration.lost()
            self.changed.set()

    def _left_over(self, path: str) -> None:
        """A link that is older than our registration: what the phone holds of us is from before."""
        self.phones.arrived(path)
        self.phones.drop(path, "left_over")

    def _released(self) -> None:
        self.registration.released()
        self.changed.set()


def _unanswerable(_: asyncio.AbstractEventLoop, context: dict[str, Any]) -> None:
    log.debug("D-Bus is lost: %s", context["message"])


async def _until_lost(bus: MessageBus) -> None:
    await _end_of(bus)
    raise ConnectionError("closed")


async def _end_of(bus: MessageBus) -> None:
    await bus.wait_for_disconnect()  # type: ignore[no-untyped-call]  # the one method without annotations


async def _tidy(phones: Phones) -> None:
    while True:
        await asyncio.sleep(TIDY_S)
        phones.tidy()


async def _close(bus: MessageBus) -> None:
    if bus.connected:
        bus.disconnect()
        with contextlib.suppress(TimeoutError):
            async with asyncio.timeout(FAREWELL_S):
                await _end_of(bus)


def _lost(said: str) -> AdapterError:
    return AdapterError(
        f"{said}. Phones can't open the car until it is back, cards can: see systemctl status dbus",
        may_have_happened=False,
        worth_retrying=True,
    )
