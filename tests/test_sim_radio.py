"""The bench's radio on this machine: phones, and a car that is bumble's own instead of the kernel's."""

from __future__ import annotations

import asyncio
import json
from typing import Any

import pytest
from bumble.core import UUID, AdvertisingData
from bumble.device import Device
from bumble.gatt import Characteristic, CharacteristicValue, Service
from bumble.hci import Address, OwnAddressType
from bumble.host import Host
from bumble.transport.common import AsyncPipeSink

from sim.bench import radio as radio_module
from sim.bench.radio import PHONES_MAX, Adapter, Radio

ADDRESS = "00:00:5E:00:53:FF"
SERVICE = "6f0a0001-6d42-4c1e-9a51-3a5d1f0c7e10"
SAID = "6f0a0002-6d42-4c1e-9a51-3a5d1f0c7e10"
SILENT = "6f0a0003-6d42-4c1e-9a51-3a5d1f0c7e10"


class Car:
    """A car at its public address, as bluetoothd's. ``SAID`` keeps what is written, ``SILENT`` never answers."""

    def __init__(self, radio: Radio) -> None:
        self.said = b""
        self.asked = asyncio.Event()
        controller = Adapter("box", link=radio._air, public_address=ADDRESS)
        host = Host(controller, AsyncPipeSink(controller))
        self.device = Device(name="box", address=Address("F0:00:5E:00:54:01"), host=host)
        both = Characteristic.Properties.READ | Characteristic.Properties.WRITE
        allowed = Characteristic.READABLE | Characteristic.WRITEABLE
        self.device.add_service(
            Service(
                SERVICE,
                [
                    Characteristic(SAID, both, allowed, CharacteristicValue(lambda _: self.said, self._write)),
                    Characteristic(SILENT, both, allowed, CharacteristicValue(self._wait)),
                ],
            )
        )

    async def start(self) -> None:
        await self.device.power_on()
        listed = (AdvertisingData.COMPLETE_LIST_OF_128_BIT_SERVICE_CLASS_UUIDS, bytes(UUID(SERVICE)))
        await self.device.start_advertising(
            advertising_data=bytes(AdvertisingData([listed])),
            own_address_type=OwnAddressType.PUBLIC,
            advertising_interval_min=30,
            advertising_interval_max=50,
        )

    def _write(self, _: object, value: bytes) -> None:
        self.said = value

    async def _wait(self, _: object) -> bytes:
        self.asked.set()
        return await asyncio.get_running_loop().create_future()  # type: ignore[no-any-return]


async def ask(radio: Radio, do: str, **details: Any) -> dict[str, Any]:
    return await radio.answer(json.dumps({"do": do, **details}).encode())


async def connect(radio: Radio, phone: str) -> None:
    found = await ask(radio, "scan", phone=phone, service=SERVICE)
    assert found["address"].startswith(ADDRESS)
    assert (await ask(radio, "connect", phone=phone, address=found["address"], mtu=185))["mtu"] == 185
    assert len((await ask(radio, "discover", phone=phone, service=SERVICE))["characteristics"]) == 2


async def begin() -> tuple[Radio, Car]:
    radio = Radio(ADDRESS)
    car = Car(radio)
    await car.start()
    await connect(radio, "anna")
    return radio, car


def test_a_phone_reaches_a_car_at_its_public_address() -> None:
    """The link of bumble itself would deliver nothing: it takes the sender's random address."""

    async def scene() -> None:
        radio, car = await begin()
        assert "error" not in await ask(radio, "write", phone="anna", characteristic=SAID, value="c0ffee")
        assert car.said == bytes.fromhex("c0ffee")
        assert (await ask(radio, "read", phone="anna", characteristic=SAID))["value"] == "c0ffee"
        assert (await ask(radio, "status"))["connected"] == {"anna": True}
        await ask(radio, "disconnect", phone="anna")
        assert (await ask(radio, "status"))["connected"] == {"anna": False}

    asyncio.run(scene())


def test_a_link_that_is_lost_while_a_phone_waits_is_an_answer() -> None:
    async def scene() -> None:
        radio, car = await begin()
        waiting = asyncio.create_task(ask(radio, "read", phone="anna", characteristic=SILENT))
        await car.asked.wait()
        (connection,) = car.device.connections.values()
        await connection.disconnect()
        assert "lost" in (await waiting)["error"]
        assert "not connected" in (await ask(radio, "read", phone="anna", characteristic=SAID))["error"]

    asyncio.run(scene())


def test_a_car_that_is_not_there_is_an_answer_in_time(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(radio_module, "ANSWER_S", 0.5)
    monkeypatch.setattr(radio_module, "CONNECT_S", 0.2)

    async def scene() -> None:
        radio = Radio(ADDRESS)
        assert "not within" in (await ask(radio, "scan", phone="anna", service=SERVICE))["error"]
        assert "error" in await ask(radio, "connect", phone="anna", address=f"{ADDRESS}/P")
        monkeypatch.undo()
        # And the phone can be used again.
        await Car(radio).start()
        await connect(radio, "anna")

    asyncio.run(scene())


def test_what_is_no_word_is_refused() -> None:
    async def scene() -> None:
        radio = Radio(ADDRESS)
        assert "not a word" in (await ask(radio, "sing", phone="anna"))["error"]
        assert "KeyError" in (await ask(radio, "scan"))["error"]
        assert "error" in await radio.answer(b"nonsense")
        errors = [(await ask(radio, "disconnect", phone=str(each)))["error"] for each in range(PHONES_MAX)]
        assert "not connected" in errors[-2]
        assert "phones already" in errors[-1]

    asyncio.run(scene())
