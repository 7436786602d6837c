"""A driver's phone: its half of the conversation, and a visit at the car. What it holds is ``sim.phone_wallet``'s.

Knows no radio: ``Gatt`` is one connection to a car, over bleak (``sim.phone_ble``), over the bench's radio, or straight
to a box in the same process. What it does is what the app on a driver's phone has to do.
"""

from __future__ import annotations

import asyncio
import hashlib
import secrets
from collections.abc import Callable
from dataclasses import dataclass
from typing import Final, Protocol

from cloud_sync.documents import AgreementKey, DocumentType, Reason, Refused, document_type
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
from sim.phone_wallet import Bag, Cloud, Wallet

PROMISES: Final = ("opening", "reopening", "locking")
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
    """A read or write failed: ``code`` is the ATT error, None if the connection was lost or the car is not there.

    ``reason``: a word of ``answers`` that says more than the code. ``again``: the same once more may help.
    """

    def __init__(self, message: str, code: int | None = None, reason: str = "", *, again: bool = True) -> None:
        super().__init__(message)
        self.code = code
        self.reason = reason
        self.again = again


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


@dataclass(frozen=True, slots=True)
class Visit:
    """What came of a visit: the answer to what the driver wanted, and what was carried."""

    answer: Answer
    brought: int
    taken: int
    round_trips: int
    """Of the answer that counts, from its HELLO on."""


async def visit(
    gatt: Gatt,
    wallet: Wallet,
    wish: Wish,
    bag: Bag | None = None,
    cloud: Cloud | None = None,
    tell: Callable[[Answer], None] = lambda _: None,
) -> Visit:
    """Do what a driver who taps once expects: ask, bring what the car lacks, ask again, take trips along.

    ``wish`` keeps its id when a visit is repeated after a lost connection: the car never does it twice. Without a
    ``bag`` the phone carries nothing. ``tell`` gets the answer as soon as it is known: what is carried afterwards may
    take longer than a driver waits. ``GattError``, or ``Refused`` for a car that is none.
    """
    talk, answer, wish = await _open(gatt, wallet, wish)
    trips = talk.round_trips
    brought = taken = 0
    if bag is not None and answer.status == "denied":
        if cloud is not None:
            await _ask_commune(bag, answer, cloud)
        brought = await _bring(talk, bag, answer)
        if brought:
            wish = talk.wish(wish.op)  # the last one has its answer
            if answer.reason == "key_set_wanted":
                talk, answer, wish = await _open(gatt, wallet, wish)
            else:
                answer = await talk.say(wish)
            trips = talk.round_trips
    answer = await _outcome(talk, answer, wish)
    tell(answer)
    if bag is not None:
        brought += await _bring(talk, bag, answer)
        bag.heard, taken = await _take_along(talk, bag, answer)
    return Visit(answer, brought, taken, trips)


async def _bring(talk: Talk, bag: Bag, answer: Answer) -> int:
    """Hand over what this answer does not show to be there; return how many documents."""
    documents = _lacking(bag, answer)
    for document in documents:
        await talk.put(document)
        # Whatever the car made of it: it has it, and the next visit shall not wait for it again.
        bag.down.remove(document)
    return len(documents)


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
    now = await talk.say(talk.wish(Op.STATUS))
    # What waits in the bag already is not taken twice.
    taken, next_seq = 0, max(now.acked_seq, bag.up_to(now.store_id)) + 1
    while next_seq <= now.up_to_seq and taken < BATCHES_MAX:
        got = await talk.get(next_seq)
        if got is None:
            break
        bag.up.append(got[0])
        bag.last = (now.store_id, got[1])
        taken, next_seq = taken + 1, got[1] + 1
    return now, taken
