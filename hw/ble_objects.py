"""What BlueZ reads of the box over D-Bus: one GATT service with three characteristics, and one advertisement.

Objects without a will of their own: every read and write goes to a ``Values``. No notifications: up to 5.68 bluetoothd
sends those to every phone. No pairing: whatever is secret is so above Bluetooth.
"""

# No postponed annotations: dbus-fast reads them, and stumbles over the string "None".
from collections.abc import Callable
from typing import Annotated, Final, Protocol

from dbus_fast import PropertyAccess, Variant
from dbus_fast.annotations import DBusBool, DBusBytes, DBusDict, DBusObjectPath, DBusSignature, DBusStr, DBusUInt32
from dbus_fast.service import ServiceInterface, dbus_method, dbus_property

from onboard.core.gatt import COMMAND, HELLO, RESULT, SERVICE

APPLICATION_PATH: Final = "/amibox/gatt"
SERVICE_PATH: Final = f"{APPLICATION_PATH}/service"
ADVERTISEMENT_PATH: Final = "/amibox/advertisement"

INTERVAL_MIN_MS: Final = 30
INTERVAL_MAX_MS: Final = 50
"""Before 5.78 bluetoothd ignores both unless it is experimental: ``main.conf`` says the same."""

DBusStrings = Annotated[list[str], DBusSignature("as")]


class Values(Protocol):
    """Where the characteristics get their values. Both raise DBusError for what a phone may not have.

    ``options`` are BlueZ's: ``device``, ``offset``, ``mtu`` and others.
    """

    async def read(self, uuid: str, options: dict[str, Variant]) -> bytes:
        """Return the value from ``offset`` on."""
        ...

    async def write(self, value: bytes, options: dict[str, Variant]) -> None:
        """Take in what was written to COMMAND."""
        ...


class Service(ServiceInterface):
    """The service."""

    def __init__(self) -> None:
        super().__init__("org.bluez.GattService1")

    @dbus_property(PropertyAccess.READ, "UUID")
    def uuid(self) -> DBusStr:
        """Its name on the air."""
        return SERVICE

    @dbus_property(PropertyAccess.READ, "Primary")
    def primary(self) -> DBusBool:
        """Found by a phone that searches."""
        return True


class Characteristic(ServiceInterface):
    """What the characteristics have in common."""

    def __init__(self, uuid: str, flag: str, values: Values) -> None:
        super().__init__("org.bluez.GattCharacteristic1")
        self._uuid = uuid
        self._flag = flag
        self._values = values

    @dbus_property(PropertyAccess.READ, "UUID")
    def uuid(self) -> DBusStr:
        """Its name on the air."""
        return self._uuid

    @dbus_property(PropertyAccess.READ, "Service")
    def service(self) -> DBusObjectPath:
        """The service that it belongs to."""
        return SERVICE_PATH

    @dbus_property(PropertyAccess.READ, "Flags")
    def flags(self) -> DBusStrings:
        """What a phone may do: "read", or "write" with response."""
        return [self._flag]


class Readable(Characteristic):
    """A characteristic that is read."""

    def __init__(self, uuid: str, values: Values) -> None:
        super().__init__(uuid, "read", values)

    @dbus_method("ReadValue")
    async def read_value(self, options: DBusDict) -> DBusBytes:
        """Return the value from an offset on; the answer may take its time."""
        return await self._values.read(self._uuid, options)


class Writable(Characteristic):
    """A characteristic that is written."""

    def __init__(self, uuid: str, values: Values) -> None:
        super().__init__(uuid, "write", values)

    @dbus_method("WriteValue")
    async def write_value(self, value: DBusBytes, options: DBusDict) -> None:
        """Take in a whole write: BlueZ puts together what a phone sends in pieces."""
        await self._values.write(bytes(value), options)


class Advertisement(ServiceInterface):
    """What a phone that listens hears of the box. ``released`` is called when bluetoothd gives it up by itself."""

    def __init__(self, local_name: str, released: Callable[[], None]) -> None:
        super().__init__("org.bluez.LEAdvertisement1")
        self._local_name = local_name
        self._released = released

    @dbus_property(PropertyAccess.READ, "Type")
    def kind(self) -> DBusStr:
        """One that a phone may connect to."""
        return "peripheral"

    @dbus_property(PropertyAccess.READ, "ServiceUUIDs")
    def services(self) -> DBusStrings:
        """What a phone filters by."""
        return [SERVICE]

    @dbus_property(PropertyAccess.READ, "LocalName")
    def local_name(self) -> DBusStr:
        """What a driver reads in a list."""
        return self._local_name

    @dbus_property(PropertyAccess.READ, "Discoverable")
    def discoverable(self) -> DBusBool:
        """Without this flag some phones don't list the box."""
        return True

    @dbus_property(PropertyAccess.READ, "MinInterval")
    def interval_min(self) -> DBusUInt32:
        """Shortest time between two, in ms."""
        return INTERVAL_MIN_MS

    @dbus_property(PropertyAccess.READ, "MaxInterval")
    def interval_max(self) -> DBusUInt32:
        """Longest time between two, in ms."""
        return INTERVAL_MAX_MS

    @dbus_method("Release")
    def release(self) -> None:
        """Bluetoothd does not advertise it any more."""
        self._released()


def objects(local_name: str, values: Values, released: Callable[[], None]) -> dict[str, ServiceInterface]:
    """Return every object that has to be exported, by its path."""
    return {
        SERVICE_PATH: Service(),
        f"{SERVICE_PATH}/hello": Readable(HELLO, values),
        f"{SERVICE_PATH}/command": Writable(COMMAND, values),
        f"{SERVICE_PATH}/result": Readable(RESULT, values),
        ADVERTISEMENT_PATH: Advertisement(local_name, released),
    }
