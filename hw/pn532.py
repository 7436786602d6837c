"""The PN532 reader chip over a serial line (HSU): frames without I/O, and the conversation on top of them.

Sources: NXP UM0701-02 (PN532 user manual) for frames and commands. A frame is ``00 00 FF LEN LCS data DCS 00``; the
chip acknowledges each command with an ACK frame and then answers it. *A missing ACK is never "no card"*: it means that
the chip is dead, asleep or wedged.
"""

from __future__ import annotations

import termios
import time
from collections import Counter
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from enum import Enum
from typing import Final, Protocol

from hw.taps import CardGone, Target
from hw.worker import AdapterError

ACK: Final = bytes.fromhex("0000ff00ff00")
"""From the chip: command understood. From us: give up what you are doing."""
NACK: Final = bytes.fromhex("0000ffff0000")
ERROR_FRAME: Final = bytes.fromhex("0000ff01ff7f8100")
WAKE_UP: Final = bytes.fromhex("5555") + bytes(14)
"""After power-up the chip sleeps (LowVbat); 0x55 wakes it, the zeros give its oscillator time (1.2 ms at 115200 Bd)."""

TO_CHIP: Final = 0xD4
FROM_CHIP: Final = 0xD5
DATA_BYTES_MAX: Final = 265
"""Longest frame of a PN532, direction byte included."""

GET_FIRMWARE_VERSION: Final = 0x02
SAM_CONFIGURATION: Final = 0x14
RF_CONFIGURATION: Final = 0x32
IN_LIST_PASSIVE_TARGET: Final = 0x4A
IN_DATA_EXCHANGE: Final = 0x40

NORMAL_MODE: Final = bytes((0x01, 0x14, 0x00))
"""SAMConfiguration: no SAM chip, 1 s virtual-card time-out (unused), no interrupt line."""
FIELD_OFF: Final = bytes((0x01, 0x00))
RETRIES: Final = bytes((0x05, 0xFF, 0x01, 0x02))
"""RFConfiguration item 5: MxRtyPassiveActivation = 2, so that a look for cards ends by itself (default: never)."""
TWO_TYPE_A: Final = bytes((0x02, 0x00))
"""InListPassiveTarget: up to two cards, ISO 14443 type A at 106 kbit/s. Asking for one would hide the second."""
PN532_IC: Final = 0x32

ACK_WITHIN_S: Final = 0.1
REPLY_WITHIN_S: Final = 0.5
EXCHANGE_WITHIN_S: Final = 1.0
"""A card may ask for time (ISO 14443-4 S(WTX)); the chip gives it, and says by itself when the card is gone."""
FIRST_TARGET: Final = 1
STATUS_ERROR: Final = 0x3F
"""Bits of an InDataExchange status that say what went wrong (UM0701-02 section 7.1)."""
SILENT_WITHIN_S: Final = 0.3
"""How long an abort waits for the line to fall silent."""


class Control(Enum):
    """Frames without data, and what could not be read as a frame."""

    ACK = "ack"
    NACK = "nack"
    REFUSED = "refused"
    """The chip's error frame: it did not like the command."""
    DAMAGED = "damaged"


@dataclass(frozen=True, slots=True)
class Information:
    """A frame with data: its direction byte, then command or reply code, then the rest."""

    data: bytes = field(repr=False)


Frame = Information | Control


def encode(data: bytes) -> bytes:
    """Return the frame around ``data`` (1 to ``DATA_BYTES_MAX`` bytes), extended if it is longer than 255 bytes.

    Raises ValueError for any other length.
    """
    if not 1 <= len(data) <= DATA_BYTES_MAX:
        raise ValueError(f"a PN532 frame holds 1 to {DATA_BYTES_MAX} bytes, not {len(data)}")
    high, low = divmod(len(data), 256)
    length = (0xFF, 0xFF, high, low, -(high + low) & 0xFF) if high else (low, -low & 0xFF)
    return b"\x00\x00\xff" + bytes(length) + data + bytes((-sum(data) & 0xFF, 0x00))


class FrameDecoder:
    """Bytes in, frames out; no I/O.

    Whatever precedes a start code is dropped (``garbage_bytes``). A wrong checksum or an impossible length is
    ``Control.DAMAGED`` (``damaged_frames``) and drops everything fed so far: the bytes inside a damaged frame may
    come from a card, and searching them for the next frame could find one that the card made up.
    """

    def __init__(self, counts: Counter[str]) -> None:
        self.counts = counts
        self._buffer = bytearray()
        self._wanted = 4

    @property
    def wanted(self) -> int:
        """How many bytes to read once ``next_frame`` gave None: never more than the frame under way must still have.

        The zero after a frame is not waited for; it is dropped before the next one.
        """
        return self._wanted

    def feed(self, data: bytes) -> None:
        """Take in bytes as they came."""
        self._buffer += data

    def clear(self) -> None:
        """Forget what was fed."""
        self._buffer.clear()

    def next_frame(self) -> Frame | None:
        """Return the next whole frame, or None when more bytes are needed."""
        self._drop_garbage()
        buffer = self._buffer
        if len(buffer) < 4:
            self._wanted = 4 - len(buffer)
            return None
        length, check = buffer[2], buffer[3]
        if (length, check) == (0x00, 0xFF):
            return self._taken(4, Control.ACK)
        if (length, check) == (0xFF, 0x00):
            return self._taken(4, Control.NACK)
        header = 4
        if (length, check) == (0xFF, 0xFF):
            header = 7
            if len(buffer) < header:
                self._wanted = header - len(buffer)
                return None
            length, check = buffer[4] << 8 | buffer[5], buffer[4] + buffer[6]
        if (length + check) & 0xFF or not 1 <= length <= DATA_BYTES_MAX:
            return self._damaged()
        end = header + length + 1
        if len(buffer) < end:
            self._wanted = end - len(buffer)
            return None
        if sum(buffer[header:end]) & 0xFF:
            return self._damaged()
        data = bytes(buffer[header : end - 1])
        return self._taken(end, Control.REFUSED if data == b"\x7f" else Information(data))

    def _drop_garbage(self) -> None:
        """Make the buffer begin with a start code ``00 FF``, or with what may become one."""
        start = self._buffer.find(b"\x00\xff")
        if start < 0:
            start = len(self._buffer) - self._buffer.endswith(b"\x00")
        if garbage := sum(byte != 0 for byte in self._buffer[:start]):
            self.counts["garbage_bytes"] += garbage
        del self._buffer[:start]

    def _taken(self, size: int, frame: Frame) -> Frame:
        del self._buffer[:size]
        return frame

    def _damaged(self) -> Frame:
        self.counts["damaged_frames"] += 1
        self.clear()
        return Control.DAMAGED


def parse_targets(listing: bytes) -> list[Target]:
    """Return the cards of an InListPassiveTarget reply, given from its NbTg byte on.

    One card: ``Tg SENS_RES(2) SAK UIDlen UID [ATS, first byte = its length]``; the ATS follows where SAK & 0x20. A
    card whose record does not add up is a ``Target`` with an empty number. Raises ValueError for a reply that isn't a
    listing at all.
    """
    if not listing or listing[0] > 2:
        raise ValueError("no listing of 0, 1 or 2 cards")
    try:
        return _parse_records(listing[1:], listing[0])
    except ValueError:
        return [Target(b"", 0, b"")] * listing[0]


def _parse_records(records: bytes, count: int) -> list[Target]:
    """Return ``count`` cards. Raises ValueError unless their records fill ``records`` exactly."""
    targets: list[Target] = []
    for _ in range(count):
        target, records = _parse_target(records)
        targets.append(target)
    if records:
        raise ValueError("bytes after the last record")
    return targets


def _parse_target(record: bytes) -> tuple[Target, bytes]:
    """Return one card and the bytes after it. Raises ValueError if the record is cut short."""
    if len(record) < 5 or len(record) < 5 + record[4]:
        raise ValueError("record cut short")
    sak, uid, rest = record[3], record[5 : 5 + record[4]], record[5 + record[4] :]
    if not sak & 0x20 or not rest:
        return Target(uid, sak, b""), rest
    if not 1 <= rest[0] <= len(rest):
        raise ValueError("ATS cut short")
    return Target(uid, sak, rest[: rest[0]]), rest[rest[0] :]


class Transport(Protocol):
    """A serial port, as pyserial has it: ``read`` returns less than asked for after a short time-out (50 ms)."""

    def read(self, size: int = 1, /) -> bytes:
        """Return up to ``size`` bytes."""
        ...

    def write(self, data: bytes, /) -> int | None:
        """Send all of ``data``."""
        ...

    def reset_input_buffer(self) -> None:
        """Drop what came and was not read."""
        ...

    def close(self) -> None:
        """Give the port back."""
        ...


class Pn532:
    """The conversation with one chip. Each failure is an ``AdapterError`` that is worth a retry; no card is ``[]``.

    ``connect`` opens the port; ``monotonic`` times the line, which lives in real time whatever the box's clock says.
    Between two polls the field is off (``rest``): a card that was listed and stays in the field does not answer the
    next poll, and it saves some 30 mA. Between ``poll`` and ``rest`` the first card may be spoken to (``exchange``).
    Where nobody rested (the last program was killed, a poll failed), ``poll`` does it first: one of two cards would be
    silent, and the other would look like the only one.
    """

    def __init__(self, connect: Callable[[], Transport], monotonic: Callable[[], float] = time.monotonic) -> None:
        self.counts: Counter[str] = Counter()
        self._connect = connect
        self._monotonic = monotonic
        self._decoder = FrameDecoder(self.counts)
        self._port: Transport | None = None
        self._rested = False

    @property
    def cures(self) -> tuple[tuple[str, Callable[[], None]], ...]:
        """What may help short of opening anew, gentlest first, each with a name to count it by."""
        return ("abort", self.abort), ("wake", self.wake)

    def open(self) -> None:
        """Open the port anew, stop what an earlier conversation may have left, and wake the chip."""
        self.close()
        self._rested = False
        with self._port_errors():
            self._port = self._connect()
        self.abort()
        self.wake()

    def close(self) -> None:
        """Give the port back. Never fails."""
        port, self._port = self._port, None
        self._decoder.clear()
        if port is not None:
            try:
                port.close()
            except (OSError, termios.error):
                self.counts["close_failed"] += 1

    def wake(self) -> None:
        """Wake the chip and set it up; harmless if it is awake."""
        self._command(SAM_CONFIGURATION, NORMAL_MODE, preamble=WAKE_UP)
        self.ping()
        self._command(RF_CONFIGURATION, RETRIES)

    def ping(self) -> None:
        """Make sure that a PN532 answers."""
        version = self._command(GET_FIRMWARE_VERSION)
        if len(version) != 4 or version[0] != PN532_IC:
            raise _failed("what answers is no PN532; is this the right serial port?")

    def abort(self) -> None:
        """Stop whatever the chip is doing, and listen until the line is silent."""
        with self._port_errors():
            port = self._opened()
            port.write(ACK)
            give_up_s = self._monotonic() + SILENT_WITHIN_S
            while port.read(64):
                if self._monotonic() > give_up_s:
                    raise _failed("the line does not fall silent; is this the right serial port and speed?")
        self._decoder.clear()

    def poll(self) -> list[Target]:
        """Return the cards in the field: none, one, or two (two may stand for more)."""
        if not self._rested:
            self.rest()
        self._rested = False
        try:
            return parse_targets(self._command(IN_LIST_PASSIVE_TARGET, TWO_TYPE_A))
        except ValueError as error:
            self.counts["unexpected_replies"] += 1
            raise _failed(f"the chip's answer makes no sense: {error}") from error

    def exchange(self, command: bytes) -> bytes:
        """Send one command (APDU) to the first card listed and return its answer. ``CardGone``: it gave none."""
        reply = self._command(IN_DATA_EXCHANGE, bytes((FIRST_TARGET,)) + command, within_s=EXCHANGE_WITHIN_S)
        if not reply:
            self.counts["unexpected_replies"] += 1
            raise _failed("the chip's answer makes no sense: an exchange without a status")
        if reply[0] & STATUS_ERROR:
            raise CardGone(f"the card does not answer any more (status {reply[0]:#04x})")
        return reply[1:]

    def rest(self) -> None:
        """Switch the field off until the next poll, which switches it on by itself."""
        self._command(RF_CONFIGURATION, FIELD_OFF)
        self._rested = True

    def _command(
        self, code: int, parameters: bytes = b"", preamble: bytes = b"", within_s: float = REPLY_WITHIN_S
    ) -> bytes:
        """Send a command and return its reply without direction and code."""
        with self._port_errors():
            port = self._opened()
            self._decoder.clear()
            port.reset_input_buffer()
            port.write(preamble + encode(bytes((TO_CHIP, code)) + parameters))
            self._wait_ack(port)
            return self._wait_reply(port, code + 1, within_s)

    def _wait_ack(self, port: Transport) -> None:
        for frame in self._frames(port, ACK_WITHIN_S):
            if frame is Control.ACK:
                return
            self._refuse(frame)
        self.counts["missing_acks"] += 1
        raise _failed("no ACK: the chip is wedged, unpowered or not there")

    def _wait_reply(self, port: Transport, code: int, within_s: float) -> bytes:
        for frame in self._frames(port, within_s):
            if isinstance(frame, Information) and frame.data[:2] == bytes((FROM_CHIP, code)):
                return frame.data[2:]
            self._refuse(frame)
        self.counts["missing_replies"] += 1
        raise _failed("the chip took the command and never answered it")

    def _frames(self, port: Transport, within_s: float) -> Iterator[Frame]:
        """Yield the frames that come until ``within_s`` is over."""
        until_s = self._monotonic() + within_s
        while True:
            frame = self._decoder.next_frame()
            if frame is not None:
                yield frame
            elif self._monotonic() >= until_s:
                return
            else:
                self._decoder.feed(port.read(self._decoder.wanted))

    def _refuse(self, frame: Frame) -> None:
        """Count a frame that nobody waits for; raise for one after which waiting makes no sense."""
        if frame is Control.DAMAGED:
            raise _failed("a damaged frame: look at cable, ground and serial speed")
        if frame is Control.REFUSED:
            self.counts["refused_commands"] += 1
            raise _failed("the chip refused the command")
        self.counts["stale_frames"] += 1

    def _opened(self) -> Transport:
        if self._port is None:
            raise _failed("the port is closed")
        return self._port

    @contextmanager
    def _port_errors(self) -> Iterator[None]:
        """Turn what a port raises when its device is gone into an ``AdapterError``, and close it."""
        try:
            yield
        except (OSError, termios.error) as error:
            self.counts["port_errors"] += 1
            self.close()
            raise _failed(f"the serial port failed: {error}") from error


def _failed(what: str) -> AdapterError:
    """Return the error for ``what``: nothing has happened in the car, and the cause may pass."""
    return AdapterError(f"card reader: {what}", may_have_happened=False, worth_retrying=True)
