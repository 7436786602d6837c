"""Keeps our GATT application and our advertisement registered at bluetoothd, whichever adapter it has.

bluetoothd dies and comes back, an adapter is pulled out and comes back under another name: whatever was registered is
gone then, and nobody says so but these signals. Registered again, phones are served again.
"""

from __future__ import annotations

import asyncio
from collections import Counter
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any, Final

from dbus_fast import DBusError, Message, MessageType, Variant
from dbus_fast.aio import MessageBus

from hw.ble_objects import ADVERTISEMENT_PATH, APPLICATION_PATH
from hw.worker import AdapterError
from onboard.core.events import FaultReported

BLUEZ: Final = "org.bluez"
ADAPTER: Final = "org.bluez.Adapter1"
DEVICE: Final = "org.bluez.Device1"
GATT_MANAGER: Final = "org.bluez.GattManager1"
ADVERTISING_MANAGER: Final = "org.bluez.LEAdvertisingManager1"
WANTED: Final = frozenset({ADAPTER, GATT_MANAGER, ADVERTISING_MANAGER})
"""What makes an adapter one for us."""

CALL_S: Final = 5.0
"""bluetoothd answers within milliseconds, or hangs."""
FAULT_AFTER_S: Final = 10.0
"""A bluetoothd that is restarted is back sooner."""
REASON_MAX: Final = 80

NO_REPLY: Final = "org.freedesktop.DBus.Error.NoReply"
DISCONNECTED: Final = "org.freedesktop.DBus.Error.Disconnected"
ALREADY_EXISTS: Final = "org.bluez.Error.AlreadyExists"
DOES_NOT_EXIST: Final = "org.bluez.Error.DoesNotExist"


async def call(bus: MessageBus, name: str, path: str, method: str, signature: str = "", *body: Any) -> Any:
    """Call ``interface.method``; return the first value of the answer. Raises DBusError, also for no answer in time."""
    interface, _, member = method.rpartition(".")
    message = Message(name, path, interface, member, signature=signature, body=list(body))
    try:
        async with asyncio.timeout(CALL_S):
            reply = await bus.call(message)
    except TimeoutError as error:
        raise DBusError(NO_REPLY, f"no answer to {member} within {CALL_S:.0f} s") from error
    except (OSError, EOFError) as error:
        raise DBusError(DISCONNECTED, str(error)) from error
    if reply is None:  # dbus-fast's word for a connection that we closed
        raise DBusError(DISCONNECTED, "closed")
    if reply.message_type is MessageType.ERROR:
        raise DBusError(str(reply.error_name), ": ".join(map(str, reply.body)))
    return reply.body[0] if reply.body else None


def value_of(properties: Mapping[str, Variant], name: str) -> Any:
    """Return a D-Bus property's value, None if it is not there."""
    return properties[name].value if name in properties else None


@dataclass(frozen=True, slots=True)
class _Part:
    """Something of ours that a manager of an adapter registers and unregisters."""

    manager: str
    what: str
    path: str


APPLICATION: Final = _Part(GATT_MANAGER, "Application", APPLICATION_PATH)
ADVERTISEMENT: Final = _Part(ADVERTISING_MANAGER, "Advertisement", ADVERTISEMENT_PATH)


class Registration:
    """What of ours is registered, and where.

    ``left_over`` is called with each device that was connected before the application was registered. ``counts``:
    ``registrations`` of the application, ``registrations_failed``, ``name_refused``.
    """

    def __init__(self, bus: MessageBus, name: str, counts: Counter[str], left_over: Callable[[str], None]) -> None:
        self._bus = bus
        self._name = name
        self._counts = counts
        self._left_over = left_over
        self.adapter = ""
        """The adapter that has the application; "" while there is none."""
        self.powered = False
        self._advertised = False
        self._losses = 0

    def lost(self) -> None:
        """Take in that bluetoothd or the adapter is gone."""
        self.adapter, self.powered, self._advertised = "", False, False
        self._losses += 1

    def released(self) -> None:
        """Take in that bluetoothd gave up the advertisement."""
        self._advertised = False
        self._losses += 1

    async def settle(self, *, advertise: bool) -> None:
        """Register what is not registered; take the advertisement back if it is not wanted.

        Raises AdapterError: not settled, to be tried again.
        """
        losses = self._losses
        try:
            if not self.adapter:
                await self._register_application(losses)
            if not self.powered:
                await self._look_for_power(losses)
            if advertise != self._advertised:
                await (self._register if advertise else self._unregister)(self.adapter, ADVERTISEMENT)
                self._require_same(losses)
                self._advertised = advertise
        except AdapterError:
            self._counts["registrations_failed"] += 1
            raise

    async def _register_application(self, losses: int) -> None:
        try:
            objects = await call(self._bus, BLUEZ, "/", "org.freedesktop.DBus.ObjectManager.GetManagedObjects")
        except DBusError as error:
            raise _failure("bluetoothd does not answer: see systemctl status bluetooth", error) from error
        adapter = next((path for path, has in sorted(objects.items()) if has.keys() >= WANTED), "")
        if not adapter:
            raise _failure("there is no Bluetooth adapter: check that it is plugged in")
        await self._register(adapter, APPLICATION)
        self._require_same(losses)
        self.adapter = adapter
        self._counts["registrations"] += 1
        for path, has in objects.items():
            if value_of(has.get(DEVICE, {}), "Connected"):
                self._left_over(path)

    async def _look_for_power(self, losses: int) -> None:
        try:
            powered = await call(
                self._bus, BLUEZ, self.adapter, "org.freedesktop.DBus.Properties.Get", "ss", ADAPTER, "Powered"
            )
        except DBusError as error:
            raise _failure("the Bluetooth adapter does not say whether it is on", error) from error
        self._require_same(losses)
        self.powered = bool(powered.value)
        if not self.powered:
            raise _failure("the Bluetooth adapter is off: see rfkill list")
        await self._give_name()

    async def _give_name(self) -> None:
        """Have the adapter called as we are: a phone that was here shows this name, and not the machine's.

        Phones come without it all the same.
        """
        set_ = "org.freedesktop.DBus.Properties.Set"
        try:
            await call(self._bus, BLUEZ, self.adapter, set_, "ssv", ADAPTER, "Alias", Variant("s", self._name))
        except DBusError:
            self._counts["name_refused"] += 1

    async def _register(self, adapter: str, part: _Part) -> None:
        options: dict[str, Variant] = {}
        method = f"{part.manager}.Register{part.what}"
        try:
            await call(self._bus, BLUEZ, adapter, method, "oa{sv}", part.path, options)
        except DBusError as error:
            if error.type == ALREADY_EXISTS:
                # From an attempt without an answer: what became of it is not known. The next one is whole.
                await self._unregister(adapter, part)
            raise _failure(f"bluetoothd does not take the {part.what.lower()}: see its journal", error) from error

    async def _unregister(self, adapter: str, part: _Part) -> None:
        try:
            await call(self._bus, BLUEZ, adapter, f"{part.manager}.Unregister{part.what}", "o", part.path)
        except DBusError as error:
            if error.type != DOES_NOT_EXIST:
                raise _failure(f"bluetoothd does not give back the {part.what.lower()}", error) from error

    def _require_same(self, losses: int) -> None:
        """An answer may be older than the loss of what it speaks of: both are there before a task runs again."""
        if losses != self._losses:
            raise _failure("bluetoothd or its adapter went away just now")


def _failure(said: str, error: DBusError | None = None) -> AdapterError:
    reason = f" ({error.text[:REASON_MAX]})" if error is not None else ""
    return AdapterError(f"{said}{reason}", may_have_happened=False, worth_retrying=True)


class Health:
    """Tells a fault that lasts from a bluetoothd that is being restarted. Pure."""

    def __init__(self) -> None:
        self._since_s: float | None = None
        self._faulty: bool | None = None
        """What was told; None before the first report."""

    def settled(self) -> FaultReported | None:
        """Take in that all is registered; return what changed, if anything."""
        self._since_s = None
        return self._tell(faulty=False, detail="")

    def unsettled(self, reason: str, now_s: float) -> FaultReported | None:
        """Take in that it is not, and why; return what changed, if anything."""
        if self._since_s is None:
            self._since_s = now_s
        if now_s - self._since_s < FAULT_AFTER_S:
            return None
        return self._tell(
            faulty=True, detail=f"{reason}. No phone opens the car; cards do. It is tried again by itself"
        )

    def _tell(self, *, faulty: bool, detail: str) -> FaultReported | None:
        if faulty == self._faulty:
            return None
        self._faulty = faulty
        return FaultReported("bluetooth", active=faulty, detail=detail)
