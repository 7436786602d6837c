"""The card reader: what a chip, a PC/SC service and a card may answer, up to what a person at the car gets."""

from __future__ import annotations

import sys
from collections.abc import Callable
from contextlib import ExitStack
from pathlib import Path
from types import ModuleType
from typing import Any, Final
from unittest.mock import patch

from hw.card_reader import Book, CardLink, CardReader, CardReaderSettings
from hw.desfire import NotProven, personalise, prove
from hw.pcsc import Pcsc
from hw.pn532 import ACK, Pn532, encode
from hw.worker import Life
from onboard.core.events import AccessRequested, CardCredential, CardsRefused, Event, FaultReported
from onboard.core.grants import Assurance
from sim.desfire import APPLICATION, CardLeft, DesfireCard
from sim.fuzz.bus import Clock, Stop
from sim.fuzz.door import Door, Harness, right
from sim.fuzz.feed import Feed
from sim.fuzz.world import CARD_KEY

BEATS_MAX: Final = 24
"""So often the worker may turn for one input."""
_BOX_KEY: Final = bytes(32)
_CARD: Final = bytes.fromhex("04a1b2c3d4e5f6")
_KEYS: Final = [bytes(16), CARD_KEY, bytes(16)]


def _random(count: int) -> bytes:
    return bytes(range(count))


class _ChipLine:
    """A serial line to something that may be a PN532: silence, noise, or frames that hold what the feed says."""

    def __init__(self, feed: Feed, clock: Clock) -> None:
        self._feed = feed
        self._clock = clock
        self._waiting = b""

    def write(self, data: bytes, /) -> int:
        if data == ACK:
            return len(data)
        how = self._feed.number()
        code = data[data.rfind(b"\xd4") + 1] if b"\xd4" in data else 0
        if how % 4 == 0:
            self._waiting += self._feed.some()
        elif how % 4 == 1:
            self._waiting += ACK + encode(bytes((0xD5, code + 1 & 0xFF)) + self._feed.some())
        else:
            answers = {
                0x02: b"\x32\x01\x06\x07",
                0x4A: b"\x01\x01\x03\x44\x20\x07" + _CARD + b"\x01",
                0x40: b"\0\x91\0",
            }
            self._waiting += ACK + encode(bytes((0xD5, code + 1 & 0xFF)) + answers.get(code, b""))
        return len(data)

    def read(self, size: int = 1, /) -> bytes:
        found, self._waiting = self._waiting[:size], self._waiting[size:]
        if not found:
            self._clock.now_s += 0.05
        return found

    def reset_input_buffer(self) -> None:
        self._waiting = b""

    def close(self) -> None:
        pass


def _served(link: CardLink, clock: Clock, *, capturing: bool) -> None:
    """Run the worker for some turns; nobody may get in as proven whose card proved nothing."""
    stop, events, beats = Stop(), list[Event](), 0

    def beat() -> None:
        nonlocal beats
        beats += 1
        clock.now_s += 0.05
        if beats >= BEATS_MAX:
            stop.set()

    book = Book(key=lambda _ref: (1, CARD_KEY), capturing=lambda: capturing)
    settings = CardReaderSettings("/dev/amibox-card")
    CardReader(settings, clock, _BOX_KEY, link=link, book=book).run(Life(events.append, beat, stop))
    for event in events:
        right(isinstance(event, AccessRequested | CardsRefused | FaultReported), f"{type(event).__name__} of a reader")
        if isinstance(event, AccessRequested) and isinstance(event.credential, CardCredential):
            right(event.credential.assurance is not Assurance.MUTUAL, "proven by a card that does not know its key")


def open_pn532(_folder: Path, _ending: ExitStack) -> Harness:
    """The worker on a line to a PN532, with a card that does not know its key."""

    def run(data: bytes) -> None:
        feed, clock = Feed(data), Clock()
        capturing = bool(feed.below(2))
        line = _ChipLine(feed, clock)
        _served(Pn532(lambda: line, clock.boot_s), clock, capturing=capturing)

    return run


class _Scard(ModuleType):
    """What pyscard's ``smartcard.scard`` is to ``hw.pcsc``, answering as the feed says."""

    # The numbers of winscard.h, as far as they are used.
    SCARD_SCOPE_USER, SCARD_STATE_UNAWARE, SCARD_STATE_UNKNOWN, SCARD_STATE_UNAVAILABLE = 0, 0, 4, 8
    SCARD_STATE_PRESENT, SCARD_STATE_MUTE, SCARD_SHARE_SHARED, SCARD_LEAVE_CARD = 32, 512, 2, 0
    SCARD_PROTOCOL_T0, SCARD_PROTOCOL_T1 = 1, 2
    SCARD_E_NO_SMARTCARD, SCARD_W_REMOVED_CARD, SCARD_W_UNPOWERED_CARD = 0x8010000C, 0x80100069, 0x80100067
    SCARD_E_NO_SERVICE, SCARD_E_READER_UNAVAILABLE, SCARD_F_COMM_ERROR = 0x8010001D, 0x80100017, 0x80100013
    SCARD_E_NO_READERS_AVAILABLE = 0x8010002E
    _CODES = (0, 0, 0, 0, 0x8010000C, 0x80100069, 0x8010001D, 0x80100017, 0x80100013, 0x8010002E, 0x80100001)

    def __init__(self, feed: Feed) -> None:
        super().__init__("scard")
        self._feed = feed

    def __getattr__(self, name: str) -> Callable[..., Any]:
        if not name.startswith("SCard"):
            raise AttributeError(name)
        answers: dict[str, Callable[..., Any]] = {
            "SCardGetErrorMessage": lambda code: f"code {code:#x}",
            "SCardEstablishContext": lambda _scope: (self._code(), 1),
            "SCardReleaseContext": lambda _context: self._code(),
            "SCardListReaders": lambda _context, _groups: (self._code(), ["ACS ACR122U 00 00"][: self._feed.below(4)]),
            "SCardGetStatusChange": lambda *_: (self._code(), [("ACS", self._feed.pick((32, 34, 544, 16, 4, 8)), [])]),
            "SCardConnect": lambda *_: (self._code(), 2, 1),
            "SCardStatus": lambda _card: (self._code(), "ACS", 0, 1, list(self._feed.some())),
            "SCardTransmit": lambda *_: (self._code(), list(self._feed.some())),
            "SCardDisconnect": lambda *_: self._code(),
        }
        return answers[name]

    def _code(self) -> int:
        return self._CODES[self._feed.number() % len(self._CODES)]


def open_pcsc(_folder: Path, _ending: ExitStack) -> Harness:
    """The worker on a PC/SC service."""

    def run(data: bytes) -> None:
        package, scard = ModuleType("smartcard"), _Scard(Feed(data))
        package.scard = scard  # type: ignore[attr-defined]  # a module made up
        with patch.dict(sys.modules, {"smartcard": package, "smartcard.scard": scard}):
            _served(Pcsc(), Clock(), capturing=False)

    return run


class _AnyCard:
    """A card that answers as a true one does, or something else. ``lied``: it has."""

    def __init__(self, feed: Feed, keys: list[bytes]) -> None:
        self._feed = feed
        self._card = DesfireCard(_CARD, {APPLICATION: keys} if keys else {})

    def exchange(self, command: bytes) -> bytes:
        answer, how = self._card.apdu(command), self._feed.number()
        if how % 8 == 1:
            return self._feed.some()
        if how % 8 == 2:
            at = self._feed.below(len(answer))
            return answer[:at] + bytes((answer[at] ^ (1 << how % 7),)) + answer[at + 1 :]
        if how % 8 == 3:
            return answer[self._feed.below(3) :]
        if how % 8 == 4:
            raise CardLeft
        return answer


def open_desfire(_folder: Path, _ending: ExitStack) -> Harness:
    """The conversation with a card: a proof, and the writing of keys at the desk."""

    def run(data: bytes) -> None:
        feed = Feed(data)
        how = feed.below(3)
        try:
            if how == 0:
                prove(_AnyCard(feed, [bytes(16)] * 3).exchange, 1, CARD_KEY, _random)
                right(well=False, otherwise="proven by a card that does not know its key")
            elif how == 1:
                prove(_AnyCard(feed, list(_KEYS)).exchange, 1, CARD_KEY, _random)
            else:
                card = _AnyCard(feed, feed.pick(([], [bytes(16)] * 14, list(_KEYS))))
                personalise(card.exchange, dict(enumerate(_KEYS)), _random)
        except (NotProven, CardLeft):
            return

    return run


def _pn532_seeds() -> list[bytes]:
    listing = b"\x01\x01\x03\x44\x20\x07" + _CARD + b"\x06\x75\x77\x81\x02\x80"
    told = bytes((1, len(listing))) + listing
    opened = bytes((2, 2, 2))
    return [
        bytes((0, *([2] * 40))),
        bytes((1,)) + opened + told * 8,
        bytes((0, 0, 6)) + ACK + opened + bytes((1, 0)) * 9,
    ]


DOORS: Final = (
    # Two dozen turns of the worker: each a poll, a proof and its cures.
    Door("pn532", "replies of the reader's chip", open_pn532, _pn532_seeds, worst_s=0.1),
    Door(
        "pcsc",
        "answers of the PC/SC service, and of a card behind it",
        open_pcsc,
        lambda: [bytes(64), bytes((0, 0, 1, 0, 0, 0, 0, 0, 2, 0x3B, 0, 0, 9)) + _CARD + b"\x90\0" * 9],
        worst_s=0.1,
    ),
    Door(
        "desfire",
        "answers of a card",
        open_desfire,
        lambda: [
            bytes((how, *([0] * length), trick, 7)) for how in range(3) for length in range(9) for trick in range(5)
        ],
        worst_s=0.05,
    ),
)
