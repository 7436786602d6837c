"""A bluetoothd that does what it is told, good and bad, on a D-Bus of its own; and phones that come to it.

It speaks D-Bus as the real one does (object manager at "/", one sender for everything, phones' reads and writes as
calls of the application's characteristics) and has no radio. It runs in a thread; its methods are for the tests' own.
"""

from __future__ import annotations

import asyncio
import subprocess
import threading
from collections import Counter
from collections.abc import Coroutine, Iterator
from concurrent.futures import Future
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, TypeVar

from dbus_fast import DBusError, Message, MessageType, Variant
from dbus_fast.aio import MessageBus

from hw.ble_registration import ADAPTER, ADVERTISING_MANAGER, BLUEZ, DEVICE, GATT_MANAGER
from onboard.core.gatt import COMMAND, SERVICE

DEADLINE_S = 10.0
MANAGER = "org.freedesktop.DBus.ObjectManager"
PROPERTIES = "org.freedesktop.DBus.Properties"
CHARACTERISTIC = "org.bluez.GattCharacteristic1"
CONFIGURATION = """<!DOCTYPE busconfig PUBLIC "-//freedesktop//DTD D-Bus Bus Configuration 1.0//EN"
 "http://www.freedesktop.org/standards/dbus/1.0/busconfig.dtd">
<busconfig><type>session</type><listen>unix:path={socket}</listen><auth>EXTERNAL</auth>
<policy context="default"><allow send_destination="*"/><allow receive_sender="*"/><allow own="*"/></policy></busconfig>
"""

_T = TypeVar("_T")


class DBusDaemon:
    """A D-Bus in a folder. It can be killed and started again."""

    def __init__(self, program: Path, folder: Path) -> None:
        self.address = f"unix:path={folder / 'bus'}"
        self._socket = folder / "bus"
        configuration = folder / "bus.conf"
        configuration.write_text(CONFIGURATION.format(socket=self._socket))
        self._command = [str(program), f"--config-file={configuration}", "--nofork", "--print-address"]
        self._process: subprocess.Popen[bytes] | None = None

    def start(self) -> None:
        self._socket.unlink(missing_ok=True)
        self._process = subprocess.Popen(self._command, stdout=subprocess.PIPE)
        assert self._process.stdout is not None
        # It prints its address once it listens.
        assert self._process.stdout.readline()

    def kill(self) -> None:
        if self._process is not None and self._process.stdout is not None:
            self._process.kill()
            self._process.wait()
            self._process.stdout.close()
            self._process = None


@dataclass
class Registered:
    """What somebody registered: at which adapter, by whom, under which path, and what it is."""

    adapter: str
    sender: str
    path: str
    properties: dict[str, Any] = field(default_factory=dict)


class FakeBluez:
    """bluetoothd.

    ``asked`` counts its calls by method, ``disconnected`` are the devices that it was told to disconnect. Of a method
    in ``refusals`` the next so many calls are refused; one in ``hanging`` is neither done nor answered, one in ``mute``
    is done and not answered.
    """

    def __init__(self, address: str) -> None:
        self.asked: Counter[str] = Counter()
        self.refusals: Counter[str] = Counter()
        self.hanging: set[str] = set()
        self.mute: set[str] = set()
        self.disconnected: list[str] = []
        self.application: Registered | None = None
        self.advertisement: Registered | None = None
        self._address = address
        self._objects: dict[str, dict[str, dict[str, Variant]]] = {}
        self._bus: MessageBus | None = None
        self._tasks: set[asyncio.Task[None]] = set()
        self._loop = asyncio.new_event_loop()
        self._thread = threading.Thread(target=self._loop.run_forever)
        self._thread.start()

    def close(self) -> None:
        """Die for good."""
        self.die()
        self._loop.call_soon_threadsafe(self._loop.stop)
        self._thread.join(DEADLINE_S)
        self._loop.close()

    def start(self, adapter: str = "hci0", *connected: str) -> None:
        """Come to life with an adapter, to which these devices (names) are connected already."""
        self._objects = {f"/org/bluez/{adapter}": _adapter(powered=True)}
        for name in connected:
            self._objects[f"/org/bluez/{adapter}/{name}"] = _device(connected=True)
        self.run(self._start())

    def die(self) -> None:
        """Die as by SIGKILL: the name and all that was registered are gone."""
        self.run(self._die())

    def add_adapter(self, name: str = "hci0", *, powered: bool = True) -> None:
        self.run(self._add(f"/org/bluez/{name}", _adapter(powered=powered)))

    def add_half_an_adapter(self, name: str) -> None:
        """Add one that only advertises."""
        self.run(self._add(f"/org/bluez/{name}", {ADAPTER: {}, ADVERTISING_MANAGER: {}}))

    def remove_adapter(self, name: str = "hci0") -> None:
        """Pull the adapter out: its devices are gone without a word of their own."""
        self.run(self._remove_adapter(f"/org/bluez/{name}"))

    def power(self, name: str = "hci0", *, on: bool) -> None:
        self.run(self._set(f"/org/bluez/{name}", ADAPTER, "Powered", on=on))

    def release(self) -> None:
        """Give up the advertisement and say so."""
        assert self.advertisement is not None
        registered, self.advertisement = self.advertisement, None
        self.run(self.call(registered.sender, registered.path, "org.bluez.LEAdvertisement1.Release"))

    def phone(self, name: str = "anna", adapter: str = "hci0") -> FakePhone:
        return FakePhone(self, f"/org/bluez/{adapter}/{name}")

    def characteristics(self) -> dict[str, dict[str, Any]]:
        """Return the characteristics of the application by their UUID, with ``path``."""
        assert self.application is not None
        has = {
            path: {name: value.value for name, value in interfaces[CHARACTERISTIC].items()} | {"path": path}
            for path, interfaces in self.application.properties.items()
            if CHARACTERISTIC in interfaces
        }
        return {each["UUID"]: each for each in has.values()}

    def run(self, doing: Coroutine[Any, Any, _T]) -> _T:
        return self.begin(doing).result(DEADLINE_S)

    def begin(self, doing: Coroutine[Any, Any, _T]) -> Future[_T]:
        return asyncio.run_coroutine_threadsafe(doing, self._loop)

    async def call(self, name: str, path: str, method: str, signature: str = "", *body: Any) -> Any:
        assert self._bus is not None
        interface, _, member = method.rpartition(".")
        reply = await self._bus.call(Message(name, path, interface, member, signature=signature, body=list(body)))
        assert reply is not None
        if reply.message_type is MessageType.ERROR:
            raise DBusError(str(reply.error_name), str(reply.body[0]))
        return reply.body[0] if reply.body else None

    async def _start(self) -> None:
        self._bus = await MessageBus(self._address).connect()
        self._bus.add_message_handler(self._heard)
        await self.call(
            "org.freedesktop.DBus",
            "/org/freedesktop/DBus",
            "org.freedesktop.DBus.AddMatch",
            "s",
            "type='signal',sender='org.freedesktop.DBus',member='NameOwnerChanged'",
        )
        await self._bus.request_name(BLUEZ)

    async def _die(self) -> None:
        self.application = self.advertisement = None
        self._objects = {}
        if self._bus is not None and self._bus.connected:
            self._bus.disconnect()
            await self._bus.wait_for_disconnect()  # type: ignore[no-untyped-call]
        self._bus = None

    async def _add(self, path: str, interfaces: dict[str, dict[str, Variant]]) -> None:
        self._objects[path] = interfaces
        self._signal("/", MANAGER, "InterfacesAdded", "oa{sa{sv}}", path, interfaces)

    async def _remove(self, path: str) -> None:
        interfaces = self._objects.pop(path)
        self._signal("/", MANAGER, "InterfacesRemoved", "oas", path, list(interfaces))

    async def _remove_adapter(self, path: str) -> None:
        for device in [each for each in self._objects if each.startswith(f"{path}/")]:
            del self._objects[device]
        self.application = self.advertisement = None
        await self._remove(path)

    async def _set(self, path: str, interface: str, name: str, *, on: bool) -> None:
        value = self._objects[path][interface][name] = Variant("b", on)
        self._signal(path, PROPERTIES, "PropertiesChanged", "sa{sv}as", interface, {name: value}, [])

    def _signal(self, path: str, interface: str, member: str, signature: str, *body: Any) -> None:
        assert self._bus is not None
        self._bus.send(Message.new_signal(path, interface, member, signature, list(body)))

    def _heard(self, message: Message) -> Message | bool | None:
        if message.member == "NameOwnerChanged" and not message.body[2]:
            self._forget(message.body[0])
        if message.message_type is not MessageType.METHOD_CALL:
            return None
        self.asked[str(message.member)] += 1
        if message.member in self.hanging:
            return True
        if self.refusals[str(message.member)] > 0:
            self.refusals[str(message.member)] -= 1
            return Message.new_error(message, "org.bluez.Error.Failed", "as told")
        task = self._loop.create_task(self._answer(message))
        self._tasks.add(task)
        task.add_done_callback(self._tasks.discard)
        return True

    async def _answer(self, message: Message) -> None:
        bus = self._bus
        assert bus is not None
        try:
            signature, body = await self._do(message)
        except DBusError as error:
            await bus.send(Message.new_error(message, error.type, error.text))
        else:
            if message.member not in self.mute:
                await bus.send(Message.new_method_return(message, signature, body))

    async def _do(self, message: Message) -> tuple[str, list[Any]]:
        path, sender = str(message.path), str(message.sender)
        has = self._objects.get(path, {})
        match message.interface, message.member:
            case "org.freedesktop.DBus.ObjectManager", "GetManagedObjects" if path == "/":
                return "a{oa{sa{sv}}}", [self._objects]
            case "org.freedesktop.DBus.Properties", "Get":
                return "v", [has[message.body[0]][message.body[1]]]
            case "org.freedesktop.DBus.Properties", "Set":
                has[message.body[0]][message.body[1]] = message.body[2]
            case interface, _ if interface not in has:
                raise DBusError("org.freedesktop.DBus.Error.UnknownObject", f"no {interface} at {path}")
            case "org.bluez.GattManager1", "RegisterApplication":
                _require_new(self.application, sender)
                found = await self.call(sender, message.body[0], f"{MANAGER}.GetManagedObjects")
                services = [
                    each["org.bluez.GattService1"] for each in found.values() if "org.bluez.GattService1" in each
                ]
                if [(each["UUID"].value, each["Primary"].value) for each in services] != [(SERVICE, True)]:
                    raise DBusError("org.bluez.Error.Failed", "no valid service object found")
                self.application = Registered(path, sender, message.body[0], found)
            case "org.bluez.GattManager1", "UnregisterApplication":
                _require_there(self.application)
                self.application = None
            case "org.bluez.LEAdvertisingManager1", "RegisterAdvertisement":
                _require_new(self.advertisement, sender)
                get = (f"{PROPERTIES}.GetAll", "s", "org.bluez.LEAdvertisement1")
                properties = await self.call(sender, message.body[0], *get)
                plain = {name: value.value for name, value in properties.items()}
                self.advertisement = Registered(path, sender, message.body[0], plain)
            case "org.bluez.LEAdvertisingManager1", "UnregisterAdvertisement":
                _require_there(self.advertisement)
                self.advertisement = None
            case "org.bluez.Device1", "Disconnect":
                self.disconnected.append(path)
                if not has[DEVICE]["Connected"].value:
                    raise DBusError("org.bluez.Error.NotConnected", "Not Connected")
                await self._set(path, DEVICE, "Connected", on=False)
            case _:
                raise DBusError("org.freedesktop.DBus.Error.UnknownMethod", str(message.member))
        return "", []

    def _forget(self, sender: str) -> None:
        if self.application is not None and self.application.sender == sender:
            self.application = None
        if self.advertisement is not None and self.advertisement.sender == sender:
            self.advertisement = None


class FakePhone:
    """A phone at the fake. What it may not have raises DBusError. An option that is None is left out."""

    def __init__(self, bluez: FakeBluez, path: str) -> None:
        self._bluez = bluez
        self.path = path

    def connect(self) -> FakePhone:
        """Connect: bluetoothd adds the device, or if it knows it says that it is connected now."""
        if self.path in self._bluez._objects:
            self._bluez.run(self._bluez._set(self.path, DEVICE, "Connected", on=True))
        else:
            self._bluez.run(self._bluez._add(self.path, _device(connected=True)))
        return self

    def disconnect(self) -> None:
        """Disconnect; the device stays known."""
        self._bluez.run(self._bluez._set(self.path, DEVICE, "Connected", on=False))

    def vanish(self) -> None:
        """Be gone with the device."""
        self._bluez.run(self._bluez._remove(self.path))

    def slip_away(self, *, known: bool) -> None:
        """Be gone without a signal; ``known``: but for the connection."""
        if known:
            self._bluez._objects[self.path] = _device(connected=False)
        else:
            del self._bluez._objects[self.path]

    def read(self, uuid: str, **options: Variant | None) -> bytes:
        return self.read_soon(uuid, **options).result(DEADLINE_S)

    def read_soon(self, uuid: str, **options: Variant | None) -> Future[bytes]:
        return self._bluez.begin(self._ask(uuid, "ReadValue", "a{sv}", self._with(options)))

    def read_long(self, uuid: str, mtu: int) -> bytes:
        """Read as a phone with this MTU does: on from where the last answer ended, while answers are full."""
        whole = b""
        while True:
            offset = {"offset": Variant("q", len(whole))} if whole else {}
            piece = self.read(uuid, mtu=Variant("q", mtu), **offset)[: mtu - 1]
            whole += piece
            if len(piece) < mtu - 1:
                return whole

    def write(self, value: bytes, **options: Variant | None) -> None:
        self.write_soon(value, **options).result(DEADLINE_S)

    def write_soon(self, value: bytes, **options: Variant | None) -> Future[None]:
        return self._bluez.begin(self._ask(COMMAND, "WriteValue", "aya{sv}", value, self._with(options)))

    def _with(self, options: dict[str, Variant | None]) -> dict[str, Variant]:
        usual = {"device": Variant("o", self.path), "link": Variant("s", "LE"), "mtu": Variant("q", 247)}
        return {name: value for name, value in (usual | options).items() if value is not None}

    async def _ask(self, uuid: str, member: str, signature: str, *body: Any) -> Any:
        application = self._bluez.application
        assert application is not None
        path = self._bluez.characteristics()[uuid]["path"]
        return await self._bluez.call(application.sender, path, f"{CHARACTERISTIC}.{member}", signature, *body)


def _adapter(*, powered: bool) -> dict[str, dict[str, Variant]]:
    return {ADAPTER: {"Powered": Variant("b", powered)}, GATT_MANAGER: {}, ADVERTISING_MANAGER: {}}


def _device(*, connected: bool) -> dict[str, dict[str, Variant]]:
    return {DEVICE: {"Connected": Variant("b", connected)}}


def _require_new(registered: Registered | None, sender: str) -> None:
    if registered is not None and registered.sender == sender:
        raise DBusError("org.bluez.Error.AlreadyExists", "Already Exists")


def _require_there(registered: Registered | None) -> None:
    if registered is None:
        raise DBusError("org.bluez.Error.DoesNotExist", "Does Not Exist")


@contextmanager
def fake_bluez(daemon: DBusDaemon) -> Iterator[FakeBluez]:
    """A fake on this D-Bus, not started yet, that does not outlive its test."""
    bluez = FakeBluez(daemon.address)
    try:
        yield bluez
    finally:
        bluez.close()
