"""The bench's radio: the controller behind the guest's ``hci0``, and drivers' phones on the same simulated air.

``python -m sim.bench.radio RIG.toml`` runs it in the guest, on bumble: one controller is given to the kernel through
``/dev/vhci``, each phone is bumble's own host on a controller of its own. It takes JSON objects, one on a line, at
the socket of ``[radio]`` and answers each on a line; several talks at once are several phones at once. ``do`` says
what, ``phone`` which one (a name; it comes into being when first named); ``seconds`` in an answer is what it took.
There is no air: nothing here says anything about range, intervals or other stations.
"""

from __future__ import annotations

import asyncio
import contextlib
import json
import signal
import sys
import time
import tomllib
from pathlib import Path
from typing import Any, Final

from bumble import hci, ll
from bumble.att import ATT_Error
from bumble.controller import Controller
from bumble.core import UUID, AdvertisingData, BaseBumbleError, PhysicalTransport
from bumble.device import Advertisement, Connection, Device, Peer
from bumble.host import Host
from bumble.link import LocalLink
from bumble.transport.common import AsyncPipeSink, Transport
from bumble.transport.vhci import open_vhci_transport

LINE_MAX: Final = 16_384
PHONES_MAX: Final = 16
ANSWER_S: Final = 15.0
"""Longest time for one word; the rig waits a little longer."""
CONNECT_S: Final = 8.0
MTU: Final = 247
SECOND: Final = "00:00:5E:00:53:FE"
"""Public address of the second adapter."""
LISTS: Final = (
    AdvertisingData.COMPLETE_LIST_OF_128_BIT_SERVICE_CLASS_UUIDS,
    AdvertisingData.INCOMPLETE_LIST_OF_128_BIT_SERVICE_CLASS_UUIDS,
)


class Air(LocalLink):
    """bumble's link, which takes every sender of LE data for its random address; bluetoothd uses the public one."""

    def send_acl_data(
        self,
        sender_controller: Controller,
        destination_address: hci.Address,
        transport: PhysicalTransport,
        data: bytes,
    ) -> None:
        """Deliver data as from the address that the sender's end of the connection has."""
        connection = sender_controller.le_connections.get(destination_address)
        receiver = self.find_le_controller(destination_address)
        if connection is not None and receiver is not None:
            loop = asyncio.get_running_loop()
            loop.call_soon(receiver.on_link_acl_data, connection.self_address, transport, data)


class Adapter(Controller):
    """The box's controller: Bluetooth classic and LE, as a Pi's.

    bumble's LL privacy and extended advertising don't suit Linux's: it does not offer them.
    """

    lmp_features = Controller.lmp_features & ~hci.LmpFeatureMask.BR_EDR_NOT_SUPPORTED
    le_features = Controller.le_features & ~(
        hci.LeFeatureMask.LL_PRIVACY
        | hci.LeFeatureMask.LE_EXTENDED_ADVERTISING
        | hci.LeFeatureMask.LE_PERIODIC_ADVERTISING
    )

    def on_hci_command(self, command: hci.HCI_Command) -> hci.HCI_StatusReturnParameters:
        """Answer what Linux must know of a classic controller and bumble has no answer to."""
        good = hci.HCI_ErrorCode.SUCCESS
        match command:
            case hci.HCI_Read_Voice_Setting_Command():
                return hci.HCI_Read_Voice_Setting_ReturnParameters(good, voice_setting=0x0060)
            case hci.HCI_Read_Number_Of_Supported_IAC_Command():
                return hci.HCI_Read_Number_Of_Supported_IAC_ReturnParameters(good, num_support_iac=1)
            case hci.HCI_Read_Current_IAC_LAP_Command():
                general = bytes.fromhex("338b9e")
                return hci.HCI_Read_Current_IAC_LAP_ReturnParameters(good, num_support_iac=1, iac_lap=general)
            case hci.HCI_Set_Event_Filter_Command() | hci.HCI_Write_Connection_Accept_Timeout_Command():
                return hci.HCI_StatusReturnParameters(good)
            case _:
                return super().on_hci_command(command)

    def told(self) -> dict[str, Any]:
        """Return how the kernel told it to advertise: ``interval`` is in units of 0.625 ms."""
        what = self.le_legacy_advertiser
        return {
            "advertising": what.enabled,
            "interval": [what.advertising_interval_min, what.advertising_interval_max],
            "data": what.advertising_data.hex(),
            "scan_response": what.scan_response_data.hex(),
        }

    def vanish(self) -> None:
        """Fall silent as if pulled out: the other ends lose their connections."""
        self.le_legacy_advertiser.stop()
        for connection in tuple(self.le_connections.values()):
            connection.send_ll_control_pdu(ll.TerminateInd(hci.HCI_ErrorCode.CONNECTION_TIMEOUT_ERROR))
        self.host = None
        self.link.remove_controller(self)


class Handset(Controller):
    """A phone's controller. bumble's own goes on with an attempt to connect that was given up."""

    def on_hci_le_create_connection_cancel_command(
        self, _command: hci.HCI_LE_Create_Connection_Cancel_Command
    ) -> hci.HCI_StatusReturnParameters:
        """Give up; the attempt has failed, as the standard has it."""
        pending, self.pending_le_connection = self.pending_le_connection, None
        if pending is not None:
            failed = hci.HCI_LE_Connection_Complete_Event(
                status=hci.HCI_ErrorCode.UNKNOWN_CONNECTION_IDENTIFIER_ERROR,
                connection_handle=0,
                role=hci.Role.CENTRAL,
                peer_address_type=pending.peer_address_type,
                peer_address=pending.peer_address,
                connection_interval=0,
                peripheral_latency=0,
                supervision_timeout=0,
                central_clock_accuracy=0,
            )
            # After the answer to this command.
            asyncio.get_running_loop().call_soon(self.send_hci_packet, failed)
        return hci.HCI_StatusReturnParameters(hci.HCI_ErrorCode.SUCCESS)


class Phone:
    """A driver's phone under a random address: ``await start()`` first."""

    def __init__(self, name: str, number: int, air: Air) -> None:
        self.controller = Handset(name, link=air, public_address=f"00:00:5E:00:53:{number:02X}")
        host = Host(self.controller, AsyncPipeSink(self.controller))
        self.device = Device(name=name, address=hci.Address(f"F0:00:5E:00:53:{number:02X}"), host=host)
        self._peer: Peer | None = None

    async def start(self) -> None:
        """Switch it on."""
        await self.device.power_on()

    @property
    def connected(self) -> bool:
        """Whether there is a connection."""
        return self._peer is not None

    async def scan(self, service: str) -> dict[str, Any]:
        """Listen until somebody advertises this service UUID; return its address."""
        found: asyncio.Future[Advertisement] = asyncio.get_running_loop().create_future()

        def heard(advertisement: Advertisement) -> None:
            if UUID(service) in _services(advertisement) and not found.done():
                found.set_result(advertisement)

        self.device.on(Device.EVENT_ADVERTISEMENT, heard)
        try:
            await self.device.start_scanning()
            advertisement = await found
        finally:
            self.device.remove_listener(Device.EVENT_ADVERTISEMENT, heard)
            await self.device.stop_scanning()
        return {"address": str(advertisement.address)}

    async def connect(self, address: str, mtu: int) -> dict[str, Any]:
        """Connect to an address from ``scan`` and agree on an MTU; 23 asks for nothing."""
        if self._peer is not None:
            raise ValueError("connected already")
        connection = await self.device.connect(address, timeout=CONNECT_S)
        connection.on(Connection.EVENT_DISCONNECTION, self._lost)
        self._peer = Peer(connection)
        if mtu > 23:
            mtu = await self._peer.request_mtu(mtu)
        return {"mtu": mtu}

    async def discover(self, service: str) -> dict[str, Any]:
        """Find the characteristics of a service; return their UUIDs."""
        peer = self._there()
        found = [each for one in await peer.discover_service(service) for each in await one.discover_characteristics()]
        return {"characteristics": [str(each.uuid) for each in found]}

    async def read(self, characteristic: str) -> dict[str, Any]:
        """Read a characteristic that was discovered; return its ``value`` in hex."""
        return {"value": (await self._there().read_value(self._handle(characteristic))).hex()}

    async def write(self, characteristic: str, value: str) -> dict[str, Any]:
        """Write hex to a characteristic that was discovered, and wait for the response."""
        await self._there().write_value(self._handle(characteristic), bytes.fromhex(value), with_response=True)
        return {}

    async def disconnect(self) -> dict[str, Any]:
        """Hang up."""
        await self._there().connection.disconnect()
        return {}

    def _there(self) -> Peer:
        if self._peer is None:
            raise ValueError("not connected")
        return self._peer

    def _handle(self, characteristic: str) -> int:
        for each in self._there().get_characteristics_by_uuid(UUID(characteristic)):
            return each.handle
        raise ValueError(f"{characteristic} was not discovered")

    def _lost(self, *_: object) -> None:
        self._peer = None


class Radio:
    """The air with the box's adapter, plugged in, and its phones."""

    def __init__(self, address: str) -> None:
        self._address = address
        self._air = Air()  # type: ignore[no-untyped-call]  # the library's
        self._phones: dict[str, Phone] = {}
        self._transport: Transport | None = None
        self._adapter: Adapter | None = None
        self._second: Transport | None = None
        self._caller: Adapter | None = None

    async def plug(self) -> dict[str, Any]:
        """Put the adapter in: the kernel finds a controller."""
        if self._transport is None:
            self._transport = await open_vhci_transport(None)
            source, sink = self._transport.source, self._transport.sink
            self._adapter = Adapter("box", source, sink, self._air, self._address)
        return {}

    async def unplug(self) -> dict[str, Any]:
        """Pull it out."""
        transport, self._transport = self._transport, None
        adapter, self._adapter = self._adapter, None
        if adapter is not None:
            adapter.vanish()
        if transport is not None:
            await transport.close()
        return {}

    async def plug_phone(self) -> dict[str, Any]:
        """Give the kernel a second adapter, on the same air: for a phone that is a program on this machine."""
        if self._second is None:
            self._second = await open_vhci_transport(None)
            self._caller = Adapter("phone", self._second.source, self._second.sink, self._air, SECOND)
        return {}

    async def unplug_phone(self) -> dict[str, Any]:
        """Pull it out."""
        second, self._second = self._second, None
        caller, self._caller = self._caller, None
        if caller is not None:
            caller.vanish()
        if second is not None:
            await second.close()
        return {}

    async def status(self) -> dict[str, Any]:
        """Tell the truth: what the adapter was told (None: pulled out), and who is connected."""
        return {
            "adapter": self._adapter.told() if self._adapter else None,
            "connected": {name: phone.connected for name, phone in self._phones.items()},
        }

    async def answer(self, line: bytes) -> dict[str, Any]:
        """Do what one line says; return the answer, or ``error``."""
        begun_s = time.monotonic()
        try:
            request = json.loads(line)
            async with asyncio.timeout(ANSWER_S):
                answer = await self._do(request["do"], request)
        except TimeoutError:
            return {"error": f"not within {ANSWER_S:.0f} s"}
        except asyncio.CancelledError:
            task = asyncio.current_task()
            if task is None or task.cancelling():
                raise
            return {"error": "the connection was lost"}  # bumble cancels what waits for an answer
        except ATT_Error as error:
            return {"error": str(error), "att": error.error_code}
        except (ValueError, KeyError, TypeError, OSError, BaseBumbleError) as error:
            return {"error": f"{type(error).__name__}: {error}"}
        return answer | {"seconds": round(time.monotonic() - begun_s, 3)}

    async def _do(self, what: str, request: dict[str, Any]) -> dict[str, Any]:
        own = {"status": self.status, "plug": self.plug, "unplug": self.unplug}
        own |= {"plug_phone": self.plug_phone, "unplug_phone": self.unplug_phone}
        if what in own:
            return await own[what]()
        phone = await self._phone(str(request["phone"]))
        match what:
            case "scan":
                return await phone.scan(str(request["service"]))
            case "connect":
                return await phone.connect(str(request["address"]), int(request.get("mtu", MTU)))
            case "discover":
                return await phone.discover(str(request["service"]))
            case "read":
                return await phone.read(str(request["characteristic"]))
            case "write":
                return await phone.write(str(request["characteristic"]), str(request["value"]))
            case "disconnect":
                return await phone.disconnect()
            case _:
                raise ValueError(f"{what} is not a word of this radio")

    async def _phone(self, name: str) -> Phone:
        if name not in self._phones:
            if len(self._phones) == PHONES_MAX:
                raise ValueError(f"there are {PHONES_MAX} phones already")
            self._phones[name] = phone = Phone(name, len(self._phones) + 1, self._air)
            await phone.start()
        return self._phones[name]

    async def talk(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        """Serve one who is connected to the socket."""
        with contextlib.suppress(OSError, ValueError):
            while line := await reader.readline():
                writer.write(json.dumps(await self.answer(line)).encode() + b"\n")
                await writer.drain()
        writer.close()


def _services(advertisement: Advertisement) -> set[UUID]:
    return {each for kind in LISTS for each in advertisement.data.get(kind) or ()}


async def serve(settings: dict[str, Any]) -> None:
    """Run the radio of ``[radio]`` until SIGTERM."""
    radio = Radio(str(settings["address"]))
    path = Path(settings["socket"])
    path.parent.mkdir(parents=True, exist_ok=True)
    over = asyncio.Event()
    for number in (signal.SIGTERM, signal.SIGINT):
        asyncio.get_running_loop().add_signal_handler(number, over.set)
    await radio.plug()
    async with await asyncio.start_unix_server(radio.talk, path, limit=LINE_MAX):
        await over.wait()
    await radio.unplug()
    await radio.unplug_phone()


def main() -> int:
    """Run until SIGTERM; return the exit code."""
    asyncio.run(serve(tomllib.loads(Path(sys.argv[1]).read_text())["radio"]))
    return 0


if __name__ == "__main__":
    sys.exit(main())
