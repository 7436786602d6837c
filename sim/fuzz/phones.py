"""Bluetooth values: everything a phone may write, through real HELLOs, real seals and real proofs."""

from __future__ import annotations

from collections.abc import Callable
from contextlib import ExitStack
from dataclasses import replace
from itertools import cycle
from pathlib import Path
from typing import Any, Final

from cloud_sync.documents import AgreementKey, Refused, cbor
from cloud_sync.documents.conversation import (
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
from cloud_sync.documents.kinds import DocumentType
from onboard.core.gatt import VALUE_BYTES_MAX, GattRefused
from onboard.handshake import Handshake
from onboard.heard import Asked, Book, Heard, Told, Wanted
from sim.fuzz.door import Door, Harness, right
from sim.fuzz.feed import Feed, cbor_key, changed
from sim.fuzz.papers import changed_payload
from sim.fuzz.world import BOOKING, BOX_V, CAR, EPOCH, KEYS, PHONE, STORE_ID, T0, forged, honest

STEPS_MAX: Final = 12
CONNECTIONS: Final = ("a", "b", "c")
_KEYS: Final = tuple(AgreementKey.from_bytes(bytes([number]) * 32) for number in range(20, 24))
_ONCE: Final = AgreementKey.from_bytes(bytes([30]) * 32)
_WISHES: Final = (
    Wish(bytes(16), Op.UNLOCK),
    Wish(bytes(16), Op.STATUS),
    Wish(bytes(16), Op.GET, from_seq=1, offset=10),
    Wish(bytes(16), Op.PUT, Chunk(bytes(32), 10, 0, b"abc")),
    Wish(bytes(16), Op.CAPTURE),
)
_WORDS: Final[tuple[Callable[[bytes], Any], ...]] = (Hello.decode, Opening.decode, Wish.decode, Answer.decode)
HELLO, RAW, OPEN, ANSWER, FURTHER, TIME, CUT, WORDS = range(8)
"""What each step's first byte means."""


def _phone_keys(reference: bytes) -> tuple[bytes, ...]:
    return (PHONE.public,) if reference == BOOKING.id[:8] else ()


class _Talk:
    """A box and its phones for one input."""

    def __init__(self) -> None:
        fresh = cycle(_KEYS)
        self._box = Handshake(CAR, BOX_V, EPOCH, random=bytes, make_key=lambda: next(fresh))
        self._book = Book(KEYS, _phone_keys)
        self._now_s = 100.0
        self._hellos: dict[str, bytes] = {}
        self._channels: dict[str, Channel] = {}
        self._counters: dict[str, int] = {}

    def step(self, feed: Feed) -> None:
        """Do one thing that a phone may do. ``GattRefused`` and ``Refused`` are what it may hear."""
        how, connection = feed.below(8), feed.pick(CONNECTIONS)
        if how == HELLO:
            self._hellos[connection] = self._box.hello(connection, self._now_s, T0, clock_proven=True)
            right(Hello.decode(self._hellos[connection]), "a HELLO that no phone reads")
        elif how == RAW:
            self._write(connection, feed.some())
        elif how == OPEN:
            self._write(connection, framed(self._opening(connection, feed)))
        elif how == CUT:
            message = bytearray(self._opening(connection, feed))
            message[feed.number(2) % len(message)] ^= 1 << feed.below(8)
            self._write(connection, framed(bytes(message)))
        elif how == FURTHER:
            self._write(connection, self._further(connection, feed))
        elif how == ANSWER:
            self._read(connection)
        elif how == TIME:
            self._now_s += feed.number() / 8
            self._box.idle(self._now_s)
        else:
            feed.pick(_WORDS)(feed.some())

    def _opening(self, connection: str, feed: Feed) -> bytes:
        hello = self._hellos.get(connection, bytes(64))
        try:
            ephemeral = Hello.decode(hello).ephemeral
        except Refused:
            ephemeral = _KEYS[0].public
        command = cbor.dumps(changed(cbor.loads(feed.pick(_WISHES).encode()), feed, keys=cbor_key))
        given = feed.below(3)
        reference = BOOKING.id[:8] if given == 0 else b""
        grant = b""
        if given:
            grant = honest()[DocumentType.PASS]
            grant = grant if given == 1 else forged(DocumentType.PASS, changed_payload(DocumentType.PASS, feed))
        proof = PHONE.sign(to_be_proven(BOX_V.public, hello, _ONCE.public, grant or reference, command))
        opening = changed(cbor.loads(Opening(grant, reference, proof, command).encode()), feed, keys=cbor_key)
        channel = Channel(hello, _ONCE.agree(BOX_V.public), _ONCE.agree(ephemeral), box=False)
        self._channels[connection], self._counters[connection] = channel, 0
        return channel.seal(b"\1" + _ONCE.public, cbor.dumps(opening))[:1024]

    def _further(self, connection: str, feed: Feed) -> bytes:
        channel = self._channels.get(connection)
        if channel is None:
            return b"\0\1\2"
        wish = cbor.dumps(changed(cbor.loads(feed.pick(_WISHES).encode()), feed, keys=cbor_key))
        header = b"\2" + self._counters[connection].to_bytes(4, "big")
        return framed(channel.seal(header, wish)[:1024])

    def _write(self, connection: str, data: bytes) -> None:
        most = VALUE_BYTES_MAX
        for at in range(0, max(1, len(data)), most):
            heard = self._box.write(connection, data[at : at + most], self._now_s, self._book)
            if heard is not None:
                self._answer(connection, heard)

    def _answer(self, connection: str, heard: Heard) -> None:
        """Answer as ``onboard.phones`` does."""
        known = self._box.may_know(connection)
        right(known or not isinstance(heard, Asked | Wanted), "heard without a proof")
        answer = Answer("ok", store_id=STORE_ID if known else bytes(16))
        if isinstance(heard, Told):
            answer = replace(answer, status=heard.status, reason=heard.reason, offset=heard.offset)
        elif isinstance(heard, Wanted):
            answer = replace(answer, chunk=Chunk(bytes(32), 400, 0, bytes(336)), to_seq=9)
        self._box.answer(connection, heard.ticket, answer)

    def _read(self, connection: str) -> None:
        value = self._box.result(connection, self._now_s)
        channel = self._channels.get(connection)
        if value is None or channel is None:
            return
        right(len(value) <= VALUE_BYTES_MAX, "an answer that fits no value")
        if value[:1] == bytes((VERSION,)):
            self._counters[connection] = Answer.decode(channel.open(value[:1], value[1:])).counter


def open_ble(_folder: Path, _ending: ExitStack) -> Harness:
    """A box's half of its conversations, for a dozen steps on three connections."""

    def run(data: bytes) -> None:
        feed, talk = Feed(data), _Talk()
        for _ in range(STEPS_MAX):
            if not feed.left:
                return
            try:
                talk.step(feed)
            except (GattRefused, Refused):
                continue

    return run


def _seeds() -> list[bytes]:
    talks = [bytes((HELLO, 0, OPEN, 0, wish, 0, given, 0, 0, ANSWER, 0)) for wish in range(5) for given in range(3)]
    further = [bytes((HELLO, 0, OPEN, 0, 1, 0, 0, 0, ANSWER, 0, FURTHER, 0, wish, 0, ANSWER, 0)) for wish in range(5)]
    words = [
        bytes((WORDS, 0, number, len(data))) + data
        for number, data in (
            (0, bytes((1, 1)) + bytes(29) + BOX_V.public),
            (1, Opening(b"", bytes(8), bytes(64), b"x").encode()),
            (2, _WISHES[3].encode()),
            (3, Answer("ok").encode()),
        )
    ]
    raw = bytes((HELLO, 0, RAW, 0, 4, 0, 2, 1, 1))
    return [*talks, *further, *words, raw]


DOORS: Final = (
    # A dozen messages, each with key agreements and proofs: some 10 ms each on the slowest board.
    Door("ble", "values that phones write, honest seals included", open_ble, _seeds, worst_s=0.1),
)
