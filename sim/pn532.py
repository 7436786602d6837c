"""A PN532 that exists only in software: the chip as bytes in, bytes out, and the same chip on a pty.

It shares no code with the driver. It sleeps until it is woken, looks for cards for ever unless told otherwise, and a
card that was listed and kept in the field answers only every second look. It can also be awkward: see ``Trouble``.
A card may have a chip of its own (``sim.desfire``), which is spoken to by InDataExchange.
"""

from __future__ import annotations

import os
import select
import tempfile
import threading
import time
import tty
from collections.abc import Callable
from dataclasses import dataclass
from enum import Enum
from pathlib import Path

from sim.desfire import ATS, SAK, CardLeft, DesfireCard

ACK = bytes.fromhex("0000ff00ff00")
NACK = bytes.fromhex("0000ffff0000")
SYNTAX_ERROR = bytes.fromhex("0000ff01ff7f8100")
LISTED, NOBODY = b"\xd5\x4b", b"\xd5\x4b\x00"
"""In a reply to InListPassiveTarget, and in one that lists no card."""


@dataclass(frozen=True, slots=True)
class SimulatedCard:
    """A card: its number, SAK and ATS (with its length byte in front; empty for a card without ISO 14443-4).

    ``chip`` answers commands, if it has one.
    """

    uid: bytes
    sak: int = 0x08
    ats: bytes = b""
    chip: DesfireCard | None = None


class Trouble(Enum):
    """One way to be out of order. The ``WEDGED`` ones are deaf until what is named cures them."""

    NONE = "none"
    WEDGED_UNTIL_ABORT = "abort"
    WEDGED_UNTIL_WOKEN = "wake"
    WEDGED_UNTIL_RESET = "reset"
    NO_ACK = "no_ack"
    NO_REPLY = "no_reply"
    TORN_REPLY = "torn_reply"
    DAMAGED_REPLY = "damaged_reply"
    GARBAGE_BEFORE = "garbage_before"
    EXTENDED_FRAMES = "extended_frames"
    ERROR_FRAMES = "error_frames"


class SimulatedPn532:
    """The chip, without I/O. ``cards`` are in its field; ``trouble`` may be set at any time.

    ``commands`` are the codes it took, oldest first (the newest 1000). ``firmware`` is chip, version, revision
    and support byte.
    """

    def __init__(self) -> None:
        self.cards: list[SimulatedCard] = []
        self.trouble = Trouble.NONE
        self.commands: list[int] = []
        self._wait_s = 0.0
        self.firmware = bytes.fromhex("32010607")
        self.power_cycle()

    def present(self, uid_hex: str, sak: int = 0x08, ats: bytes = b"") -> None:
        """Put a card into the field, beside those that are there."""
        self.cards = [*self.cards, SimulatedCard(bytes.fromhex(uid_hex), sak, ats)]

    def present_chip(self, card: DesfireCard) -> None:
        """Put a card with a chip into the field, beside those that are there."""
        self.cards = [*self.cards, SimulatedCard(card.uid, SAK, ATS, card)]

    def remove(self) -> None:
        """Take all cards away."""
        self.cards = []

    def take_wait_s(self) -> float:
        """Return how long the newest reply takes, once: an acknowledgement does not wait for the card."""
        wait_s, self._wait_s = self._wait_s, 0.0
        return wait_s

    def power_cycle(self) -> None:
        """Begin anew: asleep, and cured of every wedge."""
        self._wait_s = 0.0
        self._input = bytearray()
        self._awake = False
        self._looks_for_ever = True
        self._hunting = 0
        self._listed: set[bytes] = set()
        self._last_reply = b""
        if self.trouble.name.startswith("WEDGED"):
            self.trouble = Trouble.NONE

    def feed(self, data: bytes) -> bytes:
        """Take in what the host sent (or nothing, to let time pass); return what the chip sends."""
        if self.trouble is Trouble.WEDGED_UNTIL_RESET:
            return b""
        self._input += data
        if b"\x55" in data:
            self._awake = True
            if self.trouble is Trouble.WEDGED_UNTIL_WOKEN:
                self.trouble = Trouble.NONE
        if self.trouble is Trouble.WEDGED_UNTIL_ABORT and ACK[:5] in self._input:
            self.trouble = Trouble.NONE
        if self.trouble.name.startswith("WEDGED") or not self._awake:
            self._input.clear()
            return b""
        answers = b""
        while (command := self._next_command()) is not None:
            answers += self._answer(command)
        if self._hunting:
            answers += self._look()
        return answers

    def _next_command(self) -> bytes | None:
        """Return the next frame's data from the host, ACK and NACK as they are, or None if none is whole."""
        start = self._input.find(b"\x00\xff")
        if start < 0 or len(self._input) < start + 4:
            return None
        del self._input[:start]
        if bytes(self._input[2:4]) in (b"\x00\xff", b"\xff\x00"):
            signal = ACK if self._input[2] == 0 else NACK
            del self._input[:4]
            return signal
        length = self._input[2]
        if len(self._input) < length + 5:
            return None
        frame = bytes(self._input[: length + 5])
        del self._input[: length + 5]
        broken = (frame[2] + frame[3]) % 256 or sum(frame[4:]) % 256
        return b"" if broken else frame[4:-1]

    def _answer(self, command: bytes) -> bytes:
        if command == ACK:
            self._hunting = 0
            return b""
        if command == NACK:
            return self._last_reply
        if self.trouble is Trouble.ERROR_FRAMES or len(command) < 2 or command[0] != 0xD4:
            return ACK + SYNTAX_ERROR
        self.commands = [*self.commands[-999:], command[1]]
        self._hunting = 0
        acknowledged = b"" if self.trouble is Trouble.NO_ACK else ACK
        reply = self._perform(command[1], command[2:])
        return acknowledged + (b"" if reply is None else self._reply(bytes((0xD5, command[1] + 1)) + reply))

    def _perform(self, code: int, parameters: bytes) -> bytes | None:
        """Do what a command says; return the reply's body, or None while there is none."""
        if code == 0x02:
            return self.firmware
        if code == 0x14:
            return b""
        if code == 0x16:
            self._awake = False
            return b"\x00"
        if code == 0x32:
            if parameters[:1] == b"\x05":
                self._looks_for_ever = parameters[3] == 0xFF
            elif parameters == b"\x01\x00":
                self._field_off()
            return b""
        if code == 0x40:
            return self._exchange(parameters[0], parameters[1:])
        if code == 0x4A:
            found = self._find(parameters[0])
            if found == b"\x00" and self._looks_for_ever:
                self._hunting = parameters[0]
                return None
            return found
        return b"\x7f"

    def _find(self, most: int) -> bytes:
        """List the cards that answer a look: a card still active from the last one stays silent this time."""
        answering = [card for card in self.cards if card.uid not in self._listed][:most]
        self._listed = {card.uid for card in answering}
        records = b"".join(
            bytes((number, 0x00, 0x04, card.sak, len(card.uid))) + card.uid + card.ats
            for number, card in enumerate(answering, start=1)
        )
        return bytes((len(answering),)) + records

    def _exchange(self, number: int, command: bytes) -> bytes:
        """Pass a command on to a listed card; the status comes before its answer."""
        listed = [card for card in self.cards if card.uid in self._listed]
        if not 1 <= number <= len(self._listed):
            return b"\x27"  # no such target in this context
        if number > len(listed):
            return b"\x01"  # nothing came within the time: it is gone
        chip = listed[number - 1].chip
        if chip is None:
            return b"\x13"  # it answered with no frame that fits
        self._wait_s += chip.slow_s
        try:
            return b"\x00" + chip.apdu(command)
        except CardLeft:
            self.cards = [card for card in self.cards if card.chip is not chip]
            return b"\x01"

    def _field_off(self) -> None:
        self._listed.clear()
        for card in self.cards:
            if card.chip is not None:
                card.chip.field_off()

    def _look(self) -> bytes:
        found = self._find(self._hunting)
        if found == b"\x00":
            return b""
        self._hunting = 0
        return self._reply(b"\xd5\x4b" + found)

    def _reply(self, data: bytes) -> bytes:
        if len(data) > 255 or self.trouble is Trouble.EXTENDED_FRAMES:
            high, low = divmod(len(data), 256)
            header = bytes((0xFF, 0xFF, high, low, (256 - (high + low) % 256) % 256))
        else:
            header = bytes((len(data), 256 - len(data)))
        frame = b"\x00\x00\xff" + header + data + bytes(((256 - sum(data) % 256) % 256, 0x00))
        self._last_reply = frame
        match self.trouble:
            case Trouble.NO_REPLY:
                return b""
            case Trouble.TORN_REPLY:
                return frame[: len(frame) // 2]
            case Trouble.DAMAGED_REPLY:
                return frame[:-3] + bytes((frame[-3] ^ 0x40,)) + frame[-2:]
            case Trouble.GARBAGE_BEFORE:
                return b"\x80\x13\x00\x37" + frame
            case _:
                return frame


class Pn532OnPty:
    """The chip behind a serial port of its own. ``open`` returns a path that stays the same over unplugging.

    ``delay_s`` is how long every answer takes; ``fragments`` sends it byte by byte; ``byte_s`` is what a byte takes on
    the line, either way (0: nothing, as on a pty). ``chip`` is the chip itself, ``listed_s`` when the first byte of its
    newest list with a card in it went out (``time.perf_counter``), and ``line_s`` for how long bytes have been on the
    line since then.
    """

    def __init__(self) -> None:
        self.chip = SimulatedPn532()
        self.delay_s = 0.0
        self.fragments = False
        self.byte_s = 0.0
        self.listed_s = 0.0
        self.line_s = 0.0
        self._lock = threading.Lock()
        self._folder: tempfile.TemporaryDirectory[str] | None = None
        self._unplug: Callable[[], None] | None = None

    def open(self) -> str:
        """Plug the reader in; return the port's path."""
        if self._folder is None:
            self._folder = tempfile.TemporaryDirectory(prefix="amibox-reader-")
        link = Path(self._folder.name) / "card-reader"
        if self._unplug is None:
            master, slave = os.openpty()
            tty.setraw(slave)
            os.set_blocking(master, False)
            link.symlink_to(os.ttyname(slave))
            stop = threading.Event()
            thread = threading.Thread(target=self._serve, args=(master, stop), name="simulated-pn532", daemon=True)
            thread.start()

            def unplug() -> None:
                stop.set()
                thread.join()
                link.unlink()
                os.close(master)
                os.close(slave)

            self._unplug = unplug
        return str(link)

    def unplug(self) -> None:
        """Take the reader and its port away, as pulling a USB plug does. The chip loses its power."""
        if self._unplug is not None:
            self._unplug()
            self._unplug = None
            self.chip.power_cycle()

    def close(self) -> None:
        """Unplug and leave nothing behind."""
        self.unplug()
        if self._folder is not None:
            self._folder.cleanup()
            self._folder = None

    def reset(self) -> None:
        """Pulse the chip's reset pin."""
        with self._lock:
            self.chip.power_cycle()

    def present(self, uid_hex: str, sak: int = 0x08, ats: bytes = b"") -> None:
        """Put a card into the field."""
        self.chip.present(uid_hex, sak, ats)

    def present_chip(self, card: DesfireCard) -> None:
        """Put a card with a chip into the field."""
        self.chip.present_chip(card)

    def remove(self) -> None:
        """Take all cards away."""
        self.chip.remove()

    def _serve(self, master: int, stop: threading.Event) -> None:
        while not stop.is_set():
            readable, _, _ = select.select([master], [], [], 0.02)
            heard = os.read(master, 4096) if readable else b""
            self._take(len(heard))
            with self._lock:
                answer = self.chip.feed(heard)
                wait_s = self.chip.take_wait_s()
            if not answer:
                continue
            time.sleep(self.delay_s)
            if (wait_s or self.byte_s) and answer.startswith(ACK):
                self._send(master, ACK)
                answer = answer[len(ACK) :]
                time.sleep(wait_s)
            if LISTED in answer and NOBODY not in answer:
                self.listed_s, self.line_s = time.perf_counter(), 0.0
            self._send(master, answer)

    def _take(self, count: int) -> None:
        """Let so many bytes take their time on the line."""
        began_s = time.perf_counter()
        time.sleep(count * self.byte_s)
        self.line_s += time.perf_counter() - began_s

    def _send(self, master: int, answer: bytes) -> None:
        for piece in [answer[at : at + 1] for at in range(len(answer))] if self.fragments else [answer]:
            self._take(len(piece))
            try:
                os.write(master, piece)
            except BlockingIOError:
                return  # the host reads nothing: a serial line loses what nobody takes
