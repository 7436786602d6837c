"""A driver's phone on a real radio: ``sim.phone`` over bleak."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager, suppress
from typing import Final

from bleak import BleakClient, BleakScanner
from bleak.args.bluez import BlueZClientArgs, BlueZScannerArgs
from bleak.backends.device import BLEDevice
from bleak.backends.scanner import AdvertisementData
from bleak.exc import BleakBluetoothNotAvailableError, BleakDBusError, BleakError, BleakGATTProtocolError

from onboard.core.gatt import SERVICE
from sim.phone import GattError

FIND_S: Final = 10.0
CONNECT_S: Final = 15.0
NAME_BEGINS: Final = "AmiBox-"
LEAST_WRITE_BYTES: Final = 20
"""At the smallest MTU, 23."""


class BleLink:
    """A connection to a car; ``sim.phone.Gatt``."""

    def __init__(self, client: BleakClient) -> None:
        self._client = client
        found = [each for service in client.services if service.uuid == SERVICE for each in service.characteristics]
        self._characteristics = {each.uuid: each for each in found}
        sizes = [each.max_write_without_response_size for each in found]
        self.write_max_bytes = min(sizes, default=LEAST_WRITE_BYTES)

    async def read(self, characteristic: str) -> bytes:
        """Read a value; ``GattError``."""
        try:
            return bytes(await self._client.read_gatt_char(self._characteristics[characteristic]))
        except (BleakError, KeyError, EOFError, TimeoutError) as error:
            raise _gatt_error(error) from error

    async def write(self, characteristic: str, value: bytes) -> None:
        """Write a value and wait for the response; ``GattError``."""
        try:
            await self._client.write_gatt_char(self._characteristics[characteristic], value, response=True)
        except (BleakError, KeyError, EOFError, TimeoutError) as error:
            raise _gatt_error(error) from error


@asynccontextmanager
async def connect(name: str, adapter: str | None = None) -> AsyncIterator[BleLink]:
    """Find the car of this radio name, connect, and hang up afterwards.

    ``GattError``: it isn't there, or Bluetooth is off. A car whose name is not heard is tried as well: only its key
    tells for sure.
    """
    scan: BlueZScannerArgs = {} if adapter is None else {"adapter": adapter}
    call: BlueZClientArgs = {} if adapter is None else {"adapter": adapter}

    def ours(_device: BLEDevice, heard: AdvertisementData) -> bool:
        called = heard.local_name or ""
        return SERVICE in heard.service_uuids and (called == name or not called.startswith(NAME_BEGINS))

    try:
        # bleak has limits of its own, but a bluetoothd that answers nothing holds it up before they begin.
        async with asyncio.timeout(FIND_S + CONNECT_S):
            device = await BleakScanner.find_device_by_filter(ours, FIND_S, bluez=scan)
            if device is None:
                raise GattError(f"{name} was not heard within {FIND_S:.0f} s", reason="not_heard")
            client = BleakClient(device, timeout=CONNECT_S, bluez=call)
            await client.connect()
    except (BleakError, OSError, EOFError, TimeoutError) as error:
        raise _gatt_error(error) from error
    try:
        yield BleLink(client)
    finally:
        with suppress(BleakError, OSError, EOFError, TimeoutError):
            async with asyncio.timeout(CONNECT_S):
                await client.disconnect()


def _gatt_error(error: Exception) -> GattError:
    if isinstance(error, BleakGATTProtocolError):
        return GattError(str(error), int(error.args[0]))
    said = str(error) or type(error).__name__
    off = isinstance(error, (BleakBluetoothNotAvailableError, FileNotFoundError, ConnectionRefusedError))
    off = off or (isinstance(error, BleakDBusError) and error.dbus_error.endswith("ServiceUnknown"))
    if off or "not found" in said or "No Bluetooth adapter" in said:
        return GattError(f"this machine's Bluetooth can't be used: {said}", reason="no_bluetooth", again=False)
    return GattError(f"the connection failed: {said}")
