"""A driver's phone on the bench's radio: the phone of ``sim.phone``, over bumble in the guest."""

from __future__ import annotations

import asyncio
import secrets
from collections.abc import Callable
from typing import Any

from cloud_sync.documents import BoxSigner
from cloud_sync.documents.conversation import Answer, Op, Wish
from onboard.core.gatt import COMMAND, HELLO, RESULT, SERVICE
from sim.commune import Commune
from sim.phone import GattError, Visit, visit
from sim.phone_cloud import told
from sim.phone_wallet import Bag, Cloud, Wallet
from sim.rig import VEHICLE, RadioError, Rig


class Line:
    """A connection of one of the bench's phones; ``sim.phone.Gatt``. ``took``: seconds of each step."""

    def __init__(self, rig: Rig, phone: str, mtu: int) -> None:
        self.write_max_bytes = mtu - 3
        self.took: dict[str, float] = {}
        self._rig = rig
        self._phone = phone

    async def read(self, characteristic: str) -> bytes:
        return bytes.fromhex(self._do("read", characteristic=characteristic)["value"])

    async def write(self, characteristic: str, value: bytes) -> None:
        self._do("write", characteristic=characteristic, value=value.hex())

    def _do(self, what: str, **details: Any) -> dict[str, Any]:
        try:
            answer = self._rig.radio(what, phone=self._phone, **details)
        except RadioError as error:
            raise GattError(str(error), error.att) from error
        self.took[what] = self.took.get(what, 0.0) + float(answer["seconds"])
        return answer


class ByHand:
    """The commune as the phone reaches it at home; ``sim.phone.Cloud``."""

    def __init__(self, commune: Commune) -> None:
        self._commune = commune

    async def documents(self, vehicle: str, heard: Answer | None) -> list[bytes]:
        found = self._commune.post(f"vehicles/{vehicle}/courier", told(heard))
        return [bytes.fromhex(each) for each in found["documents"]]

    async def post(self, vehicle: str, batches: list[bytes]) -> None:
        found = self._commune.post(f"vehicles/{vehicle}/batches", {"documents": [each.hex() for each in batches]})
        assert set(found["results"]) == {"taken"}


class Handset:
    """One driver with a phone: books, gets the pass, stands at the car."""

    def __init__(self, rig: Rig, commune: Commune, name: str) -> None:
        self.bag = Bag(VEHICLE)
        self.name = name
        self.booking = ""
        self._rig = rig
        self._commune = commune
        self._key = BoxSigner.generate()

    def book(self) -> str:
        """Book the car for the next hour, and fetch the pass."""
        now_s = int(self._rig.car("status")["wall_s"])
        body = {"vehicle": VEHICLE, "start_s": now_s - 300, "end_s": now_s + 3600, "kind": "loop"}
        body |= {"pickup": "bazouges", "dropoff": "bazouges", "phone_keys": [self._key.public.hex()]}
        self.booking = str(self._commune.post("bookings", body)["id"])
        got = self._commune.post(f"bookings/{self.booking}/pass", {"phone_key": self._key.public.hex()})
        self.wallet = Wallet(
            VEHICLE,
            str(got["name"]),
            bytes.fromhex(got["box"]),
            self._key,
            bytes.fromhex(self.booking),
            bytes.fromhex(got["pass"]),
        )
        return self.booking

    def connect(self, mtu: int = 247) -> Line:
        """Find the car and connect, as a phone does."""
        rig, line = self._rig, Line(self._rig, self.name, mtu)
        self.hang_up()
        found = rig.radio("scan", phone=self.name, service=SERVICE)
        connected = rig.radio("connect", phone=self.name, address=found["address"], mtu=mtu)
        discovered = rig.radio("discover", phone=self.name, service=SERVICE)
        assert {each.lower() for each in discovered["characteristics"]} == {HELLO, COMMAND, RESULT}
        line.took = {"scan": found["seconds"], "connect": connected["seconds"], "discover": discovered["seconds"]}
        return line

    def tap(self, op: Op, mtu: int = 247, *, courier: bool = False, line: Line | None = None) -> Visit:
        """Have its driver tap once: a whole visit."""
        line = line or self.connect(mtu)
        bag = self.bag if courier else None
        came = asyncio.run(visit(line, self.wallet, Wish(secrets.token_bytes(16), op), bag))
        self.hang_up()
        return came

    def hang_up(self) -> None:
        """End the connection, unless the box has."""
        if self._rig.radio("status")["connected"].get(self.name):
            self._rig.radio("disconnect", phone=self.name)

    def at_home(self) -> None:
        """Where there is network: hand over what the car gave, and take what it should get."""
        cloud: Cloud = ByHand(self._commune)
        asyncio.run(self.bag.exchange(cloud))


def insist(rig: Rig, what: str, do: Callable[[], Visit]) -> Visit:
    """Tap until the box answers, as a driver does whose connection was lost; each tap is a new wish."""
    came: list[Visit] = []

    def once() -> bool:
        try:
            came.append(do())
        except GattError:
            return False
        return True

    rig.until(what, once)
    return came[-1]
