"""A driver's phone: its wallet, its half of the conversation, and what it carries for the commune.

Knows no radio: ``Gatt`` is one connection to a car, over bleak (``sim.phone_ble``), over the bench's radio, or straight
to a box in the same process. What it does is what the app on a driver's phone has to do.
"""

from __future__ import annotations

import asyncio
import hashlib
import json
import os
import secrets
from collections.abc import Callable
from dataclasses import dataclass, field
from pathlib import Path
from typing import Final, Protocol, Self

from cloud_sync.documents import AgreementKey, BoxSigner, DocumentType, Reason, Refused, document_type
from cloud_sync.documents.conversation import (
    CHUNK_MAX_BYTES,
    FURTHER,
    OPENING,
    REFERENCE_BYTES,
    VERSION,
    Answer,
    Channel,
    Chunk,
    Hello,
    Op,
    Opening,
    Wish,
    framed,
    to_be_proven,
)
from onboard.core import gatt as codes
from onboard.core.gatt import COMMAND, HELLO, RESULT, VALUE_BYTES_MAX

PROMISES: Final = ("opening", "locking")
OUTCOME_LOOKS: Final = 10
OUTCOME_S: Final = 0.3
"""Between two questions what has become of a promise."""
BATCHES_MAX: Final = 4
"""In one visit: the driver wants to go."""
WHOLE_VALUE: Final = VALUE_BYTES_MAX
"""A write that is not cut by us: the radio's stack cuts it, in more round trips."""
REASONS: Final = {
    codes.NOT_UNDERSTOOD: "not_understood",
    codes.REFERENCE_UNKNOWN: "unknown",
    codes.HELLO_OVER: "hello_over",
    codes.BUSY: "busy",
}


class GattError(Exception):
    """A read or write failed: ``code`` is the ATT error, None if the connection was lost or the car is not there."""

    def __init__(self, message: str, code: int | None = None) -> None:
        super().__init__(message)
        self.code = code


class Gatt(Protocol):
    """One connection to a car."""

    @property
    def write_max_bytes(self) -> int:
        """What fits one write request: MTU − 3, or ``WHOLE_VALUE`` if that is not known."""
        ...

    async def read(self, characteristic: str) -> bytes:
        """Read a value; ``GattError``."""
        ...

    async def write(self, characteristic: str, value: bytes) -> None:
        """Write a value and wait for the response; ``GattError``."""
        ...


@dataclass(frozen=True, slots=True)
class Wallet:
    """What a phone holds for one booking: which car, its key V (33 bytes), the phone's own key, the pass."""

    vehicle: str
    name: str
    """The car's name on the radio."""
    box: bytes
    key: BoxSigner = field(repr=False)
    booking: bytes
    grant: bytes
    """The pass; empty where the phone has none, for its booking is on the car's list."""

    @classmethod
    def load(cls, path: Path) -> Self:
        """Read a file that ``save`` wrote. ValueError or OSError: it can't be used, and why."""
        try:
            values = json.loads(path.read_text())
            return cls(
                vehicle=str(values["vehicle"]),
                name=str(values["name"]),
                box=bytes.fromhex(values["box"]),
                key=BoxSigner.from_bytes(bytes.fromhex(values["key"])),
                booking=bytes.fromhex(values["booking"]),
                grant=bytes.fromhex(values.get("pass", "")),
            )
        except (KeyError, TypeError, ValueError) as error:
            raise ValueError(f"{path} is no pass of this kind ({error}); get it anew from the commune") from error

    def save(self, path: Path) -> None:
        """Write it to a file that only its owner can read, whole or not at all."""
        values: dict[str, object] = {
            "vehicle": self.vehicle,
            "name": self.name,
            "box": self.box.hex(),
            "key": self.key.to_bytes().hex(),
            "booking": self.booking.hex(),
            "pass": self.grant.hex(),
        }
        _write_private(path, values)


def _write_private(path: Path, values: dict[str, object]) -> None:
    fresh = path.with_name(path.name + ".new")
    fresh.unlink(missing_ok=True)
    descriptor = os.open(fresh, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o600)
    with os.fdopen(descriptor, "w") as file:
        json.dump(values, file, indent=1)
        file.write("\n")
        file.flush()
        os.fsync(file.fileno())
    fresh.replace(path)


class Talk:
    """One conversation with a car. After a ``GattError`` it is over: begin another."""

    def __init__(
        self,
        gatt: Gatt,
        wallet: Wallet,
        *,
        random: Callable[[int], bytes] = secrets.token_bytes,
        make_key: Callable[[], AgreementKey] = AgreementKey.generate,
    ) -> None:
        self._gatt = gatt
        self._wallet = wallet
        self._random = random
        self._make_key = make_key
        self._channel: Channel | None = None
        self._counter = 0
        self.hello: Hello | None = None
        self.round_trips = 0
        """Reads and writes so far, each cut into as many as the MTU demands by ``Gatt`` is counted as its pieces."""

    async def open(self, wish: Wish, *, by_pass: bool) -> Answer:
        """Begin with this wish, by the pass or by the booking's reference. ``GattError``, or ``Refused``: a false car.

        ``GattError`` with the code ``REFERENCE_UNKNOWN``: the car wants the pass.
        """
        wallet = self._wallet
        shown = await self._read(HELLO)
        self.hello = hello = Hello.decode(shown)
        once = self._make_key()
        command = wish.encode()
        grant = wallet.grant if by_pass else b""
        reference = b"" if by_pass else wallet.booking[:REFERENCE_BYTES]
        to_prove = to_be_proven(wallet.box, shown, once.public, grant or reference, command)
        opening = Opening(grant, reference, wallet.key.sign(to_prove), command)
        self._channel = Channel(shown, once.agree(wallet.box), once.agree(hello.ephemeral), box=False)
        await self._write(self._channel.seal(bytes([OPENING]) + once.public, opening.encode()))
        return await self._answer()

    async def say(self, wish: Wish) -> Answer:
        """Go on with a further command."""
        if self._channel is None:
            raise ValueError("open comes before say")
        header = bytes([FURTHER]) + self._counter.to_bytes(4, "big")
        await self._write(self._channel.seal(header, wish.encode()))
        return await self._answer()

    async def put(self, document: bytes) -> Answer:
        """Bring a document; return the answer to its last piece."""
        digest, offset = hashlib.sha256(document).digest(), 0
        while True:
            chunk = Chunk(digest, len(document), offset, document[offset : offset + CHUNK_MAX_BYTES])
            answer = await self.say(Wish(self._random(16), Op.PUT, chunk))
            if answer.status != "ok" or answer.offset is None:
                return answer
            if not offset < answer.offset < len(document):
                raise Refused(Reason.CONTRADICTION, "the car does not go on with the document")
            offset = answer.offset

    async def get(self, from_seq: int = 0) -> tuple[bytes, int] | None:
        """Take a batch along; return it and its last row, None where there is nothing."""
        document = b""
        while True:
            answer = await self.say(Wish(self._random(16), Op.GET, from_seq=from_seq, offset=len(document)))
            chunk = answer.chunk
            if answer.status != "ok" or chunk is None:
                return None
            document += chunk.data
            if len(document) >= chunk.total:
                if hashlib.sha256(document).digest() != chunk.digest:
                    raise Refused(Reason.CONTRADICTION, "the car's batch came damaged")
                return document, answer.to_seq or 0

    def wish(self, op: Op) -> Wish:
        """Return a wish with an id of its own."""
        return Wish(self._random(16), op)

    async def _answer(self) -> Answer:
        if self._channel is None:
            raise ValueError("nothing was asked")
        sealed = await self._read(RESULT)
        if sealed[:1] != bytes([VERSION]):
            raise Refused(Reason.CONTRADICTION, "an answer of another version")
        answer = Answer.decode(self._channel.open(sealed[:1], sealed[1:]))
        self._counter = answer.counter
        return answer

    async def _read(self, characteristic: str) -> bytes:
        value = await self._gatt.read(characteristic)
        most = self._gatt.write_max_bytes + 2  # a read's answer has one byte of its own, a write's request three
        self.round_trips += max(1, -(-len(value) // most))
        return value

    async def _write(self, message: bytes) -> None:
        most = min(self._gatt.write_max_bytes, WHOLE_VALUE)
        value = framed(message)
        for start in range(0, len(value), most):
            await self._gatt.write(COMMAND, value[start : start + most])
            self.round_trips += 1


class Cloud(Protocol):
    """The commune, where the phone has network. Each raises OSError where it hasn't."""

    async def documents(self, vehicle: str, heard: Answer | None) -> list[bytes]:
        """Return what the car should get, in order, given what it said last; a time proof if it wants one."""
        ...

    async def post(self, vehicle: str, batches: list[bytes]) -> list[bytes]:
        """Hand a car's batches over; return what the car should get for them."""
        ...


@dataclass(slots=True)
class Bag:
    """What a phone carries for one car. Kept over visits; a batch stays until the commune has taken it."""

    vehicle: str
    down: list[bytes] = field(default_factory=list)
    up: list[bytes] = field(default_factory=list)
    heard: Answer | None = None

    @classmethod
    def load(cls, path: Path, vehicle: str) -> Self:
        """Read what ``save`` wrote; an empty bag where there is none, or it is another car's."""
        try:
            values = json.loads(path.read_text())
            if values["vehicle"] == vehicle:
                down, up = ([bytes.fromhex(each) for each in values[way]] for way in ("down", "up"))
                return cls(vehicle, down, up)
        except FileNotFoundError:
            pass
        except (KeyError, TypeError, ValueError) as error:
            raise ValueError(f"{path} is damaged ({error}): trips may be in it; keep it and ask the commune") from error
        return cls(vehicle)

    def save(self, path: Path) -> None:
        """Write it to a file that only its owner can read, whole or not at all."""
        _write_private(
            path,
            {
                "vehicle": self.vehicle,
                "down": [each.hex() for each in self.down],
                "up": [each.hex() for each in self.up],
            },
        )

    async def exchange(self, cloud: Cloud) -> None:
        """Where there is network: hand over what the car gave, and take what it should get. OSError: there is none."""
        if self.up:
            await cloud.post(self.vehicle, self.up)
            self.up.clear()
        self.down = await cloud.documents(self.vehicle, self.heard)


@dataclass(frozen=True, slots=True)
class Visit:
    """What came of a visit: the answer to what the driver wanted, and what was carried."""

    answer: Answer
    brought: int
    taken: int
    round_trips: int
    """Of the answer that counts, from its HELLO on."""


async def visit(gatt: Gatt, wallet: Wallet, wish: Wish, bag: Bag | None = None, cloud: Cloud | None = None) -> Visit:
    """Do what a driver who taps once expects: ask, bring what the car lacks, ask again, take trips along.

    ``wish`` keeps its id when a visit is repeated after a lost connection: the car never does it twice. Without a
    ``bag`` the phone carries nothing. ``GattError``, or ``Refused`` for a car that is none.
    """
    talk, answer, wish = await _open(gatt, wallet, wish)
    trips = talk.round_trips
    brought = taken = 0
    if bag is not None:
        if answer.status == "denied" and cloud is not None:
            await _ask_commune(bag, answer, cloud)
        for document in _lacking(bag, answer):
            await talk.put(document)
            # Whatever the car made of it: it has it, and the next visit shall not wait for it again.
            bag.down.remove(document)
            brought += 1
        if brought and answer.status == "denied":
            wish = talk.wish(wish.op)  # the last one has its answer
            if answer.reason == "key_set_wanted":
                talk, answer, wish = await _open(gatt, wallet, wish)
            else:
                answer = await talk.say(wish)
            trips = talk.round_trips
    answer = await _outcome(talk, answer, wish)
    if bag is not None:
        bag.heard, taken = await _take_along(talk, bag, answer)
    return Visit(answer, brought, taken, trips)


async def _outcome(talk: Talk, answer: Answer, wish: Wish) -> Answer:
    """Ask what has become of a promise: the same wish again moves nothing, and tells. Three seconds at most."""
    for _ in range(OUTCOME_LOOKS):
        if answer.reason not in PROMISES:
            break
        await asyncio.sleep(OUTCOME_S)
        answer = await talk.say(wish)
    return answer


async def _open(gatt: Gatt, wallet: Wallet, wish: Wish) -> tuple[Talk, Answer, Wish]:
    """Begin by the reference, which is short; by the pass if the car doesn't know it, or if its list says no.

    Return the wish that has this answer, too. A pass may be newer than the list: a booking made or changed since.
    """
    talk = Talk(gatt, wallet)
    try:
        answer = await talk.open(wish, by_pass=False)
    except GattError as error:
        if error.code != codes.REFERENCE_UNKNOWN or not wallet.grant:
            raise
    else:
        if answer.status != "denied" or not wallet.grant:
            return talk, answer, wish
        wish = talk.wish(wish.op)  # the first one has its answer
    talk = Talk(gatt, wallet)
    return talk, await talk.open(wish, by_pass=True), wish


async def _ask_commune(bag: Bag, answer: Answer, cloud: Cloud) -> None:
    """Get what may change the car's mind, in its own words: a newer list, a time proof."""
    bag.heard = answer
    try:
        bag.down = await cloud.documents(bag.vehicle, answer)
    except OSError:
        return  # no network here: what is in the bag must do


def _lacking(bag: Bag, answer: Answer) -> list[bytes]:
    """Return what of the bag this answer does not show to be there already."""
    if answer.reason == "key_set_wanted":
        return [each for each in bag.down if document_type(each) is DocumentType.KEY_SET]
    # A car that did not let us in takes nothing from us.
    return list(bag.down) if answer.let_in else []


async def _take_along(talk: Talk, bag: Bag, answer: Answer) -> tuple[Answer | None, int]:
    """Take what the commune has not acknowledged; return the last answer and the number of batches."""
    if not answer.let_in:
        return bag.heard, 0
    taken, next_seq = 0, answer.acked_seq + 1
    now = await talk.say(talk.wish(Op.STATUS))
    next_seq = now.acked_seq + 1
    while next_seq <= now.up_to_seq and taken < BATCHES_MAX:
        got = await talk.get(next_seq)
        if got is None:
            break
        bag.up.append(got[0])
        taken, next_seq = taken + 1, got[1] + 1
    return now, taken
