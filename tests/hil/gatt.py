"""A small GATT application on the real bluetoothd, in the shape that the product's will have.

The tests put it on the box and run it there; of the box's it takes the UUIDs and nothing else. It offers one service: a
phone reads HELLO, writes COMMAND and reads RESULT, which is what this phone wrote, backwards. Content goes by reading,
never by notification: up to 5.68 bluetoothd sends those to every phone. It finds the adapter by what it offers, never
by name, and registers again whenever bluetoothd or the adapter went and came back.
"""

# No postponed annotations: dbus-fast reads them, and stumbles over the string "None".
import asyncio
import sys
from typing import Annotated, Any, Final

from dbus_fast import BusType, DBusError, Message, MessageType, PropertyAccess, Variant
from dbus_fast.aio import MessageBus
from dbus_fast.annotations import DBusBool, DBusBytes, DBusDict, DBusObjectPath, DBusSignature, DBusStr
from dbus_fast.service import ServiceInterface, dbus_method, dbus_property

from onboard.core.gatt import COMMAND, HELLO, RESULT, SERVICE

GREETING: Final = bytes(range(104))
"""As long as the product's."""

PHONES_MAX: Final = 64
RETRY_S: Final = 0.3
BLUEZ: Final = "org.bluez"
ROOT: Final = "/bench"
SERVICE_PATH: Final = f"{ROOT}/service"
ADVERTISEMENT: Final = f"{ROOT}/advertisement"
MANAGERS: Final = frozenset({"org.bluez.GattManager1", "org.bluez.LEAdvertisingManager1"})
RULES: Final = (
    f"type='signal',sender='org.freedesktop.DBus',member='NameOwnerChanged',arg0='{BLUEZ}'",
    f"type='signal',sender='{BLUEZ}',interface='org.freedesktop.DBus.ObjectManager'",
)

DBusStrings = Annotated[list[str], DBusSignature("as")]


class Service(ServiceInterface):
    """The service."""

    def __init__(self) -> None:
        super().__init__("org.bluez.GattService1")

    @dbus_property(PropertyAccess.READ, "UUID")
    def uuid(self) -> DBusStr:
        return SERVICE

    @dbus_property(PropertyAccess.READ, "Primary")
    def primary(self) -> DBusBool:
        return True


class Characteristic(ServiceInterface):
    """One of its characteristics. ``said`` is shared: what each phone (a connection's object path) wrote last."""

    def __init__(self, uuid: str, flag: str, said: dict[str, bytes]) -> None:
        super().__init__("org.bluez.GattCharacteristic1")
        self._uuid = uuid
        self._flag = flag
        self._said = said

    @dbus_property(PropertyAccess.READ, "UUID")
    def uuid(self) -> DBusStr:
        return self._uuid

    @dbus_property(PropertyAccess.READ, "Service")
    def service(self) -> DBusObjectPath:
        return SERVICE_PATH

    @dbus_property(PropertyAccess.READ, "Flags")
    def flags(self) -> DBusStrings:
        return [self._flag]

    @dbus_method("ReadValue")
    def read_value(self, options: DBusDict) -> DBusBytes:
        whole = GREETING if self._uuid == HELLO else self._said.get(options["device"].value, b"")[::-1]
        # What does not fit in one answer is asked for again from an offset.
        return whole[int(options["offset"].value) if "offset" in options else 0 :]

    @dbus_method("WriteValue")
    def write_value(self, value: DBusBytes, options: DBusDict) -> None:
        if len(self._said) == PHONES_MAX:
            self._said.clear()
        self._said[options["device"].value] = bytes(value)


class Advertisement(ServiceInterface):
    """What a phone that listens hears of it."""

    def __init__(self) -> None:
        super().__init__("org.bluez.LEAdvertisement1")

    @dbus_property(PropertyAccess.READ, "Type")
    def kind(self) -> DBusStr:
        return "peripheral"

    @dbus_property(PropertyAccess.READ, "ServiceUUIDs")
    def services(self) -> DBusStrings:
        return [SERVICE]

    @dbus_property(PropertyAccess.READ, "LocalName")
    def local_name(self) -> DBusStr:
        return "CAR-BENCH"

    @dbus_method("Release")
    def release(self) -> None:
        pass


class Application:
    """Keeps the service registered on ``bus``."""

    def __init__(self, bus: MessageBus) -> None:
        self._bus = bus
        self._changed = asyncio.Event()
        self._at = ""
        """The adapter with our registration; "" while there is none."""
        said: dict[str, bytes] = {}
        bus.export(SERVICE_PATH, Service())
        for uuid, flag in ((HELLO, "read"), (COMMAND, "write"), (RESULT, "read")):
            bus.export(f"{SERVICE_PATH}/{uuid[:8]}", Characteristic(uuid, flag, said))
        bus.export(ADVERTISEMENT, Advertisement())
        bus.add_message_handler(self._heard)

    async def run(self) -> None:
        """Register, again and again."""
        for rule in RULES:
            await self._call(
                "org.freedesktop.DBus", "/org/freedesktop/DBus", "org.freedesktop.DBus.AddMatch", "s", rule
            )
        while True:
            self._changed.clear()
            try:
                await self._register()
            except DBusError as error:
                sys.stderr.write(f"not yet: {error}\n")
                await asyncio.sleep(RETRY_S)
            else:
                await self._changed.wait()

    async def _register(self) -> None:
        objects = await self._call(BLUEZ, "/", "org.freedesktop.DBus.ObjectManager.GetManagedObjects")
        adapter = next((path for path, has in sorted(objects.items()) if has.keys() >= MANAGERS), "")
        if adapter in {"", self._at}:
            self._at = adapter
            return
        options: dict[str, Variant] = {}
        application = "org.bluez.GattManager1.RegisterApplication"
        try:
            await self._call(BLUEZ, adapter, application, "oa{sv}", ROOT, options)
        except DBusError as error:
            if error.type != "org.bluez.Error.AlreadyExists":
                raise
        await self._call(
            BLUEZ, adapter, "org.bluez.LEAdvertisingManager1.RegisterAdvertisement", "oa{sv}", ADVERTISEMENT, options
        )
        self._at = adapter
        sys.stderr.write(f"registered at {adapter}\n")

    def _heard(self, message: Message) -> None:
        match message.member:
            case "NameOwnerChanged":
                self._at = ""
            case "InterfacesRemoved" if message.body[0] == self._at:
                self._at = ""
            case "InterfacesAdded":
                pass
            case _:
                return
        self._changed.set()

    async def _call(self, name: str, path: str, member: str, signature: str = "", *body: Any) -> Any:
        interface, _, member = member.rpartition(".")
        message = Message(name, path, interface, member, signature=signature, body=list(body))
        reply = await self._bus.call(message)
        if reply.message_type is MessageType.ERROR:
            raise DBusError(str(reply.error_name), ": ".join(map(str, reply.body)))
        return reply.body[0] if reply.body else None


async def serve() -> None:
    """Run until the bus is gone."""
    bus = await MessageBus(bus_type=BusType.SYSTEM).connect()
    await Application(bus).run()


if __name__ == "__main__":
    asyncio.run(serve())
