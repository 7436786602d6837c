"""The car's CAN adapter on a pty: Lawicel's slcan protocol, seen from the adapter.

The box only listens, so this adapter never sends anything to the car: a frame that the box tries to transmit is refused
and counted. It is the one place where a test can see that.
"""

from __future__ import annotations

import os
import pty
import tty
from collections import Counter
from pathlib import Path
from typing import Final

OK: Final = b"\r"
BELL: Final = b"\x07"
LINE_MAX: Final = 64
"""Longer than any command: a line without an end is dropped."""

_TRANSMIT: Final = frozenset(b"tTrRdDbB")
_BITRATES: Final = range(9)


def encode_frame(identifier: int, data: bytes) -> bytes:
    """Return the line for a received 11-bit frame of at most 8 bytes. Raises ValueError for anything else."""
    if not 0 <= identifier <= 0x7FF or len(data) > 8:
        raise ValueError(f"no classic 11-bit frame: {identifier:#x}, {len(data)} bytes")
    return b"t%03X%d%s\r" % (identifier, len(data), data.hex().upper().encode())


class SlcanAdapter:
    """The adapter without its port: bytes from the host in, answers out.

    ``counts``: ``frames_refused`` (the host wanted to transmit), ``unknown_command``, ``overlong_line``.
    """

    def __init__(self) -> None:
        self.counts: Counter[str] = Counter()
        self.is_open = False
        self.listen_only = False
        self.bitrate_code: int | None = None
        self._line = bytearray()

    def feed(self, data: bytes) -> bytes:
        """Take what the host sent; return the answers."""
        answers = b""
        for byte in data:
            if byte != 0x0D:
                self._line.append(byte)
                continue
            line = bytes(self._line)
            self._line.clear()
            if len(line) > LINE_MAX:
                self.counts["overlong_line"] += 1
                answers += BELL
            elif line:
                answers += self._answer(line)
        del self._line[LINE_MAX + 1 :]
        return answers

    def _answer(self, line: bytes) -> bytes:
        command, rest = line[0], line[1:]
        if command in _TRANSMIT:
            self.counts["frames_refused"] += 1
            return BELL
        match chr(command):
            case "C":
                self.is_open = False
                return OK
            case "L" | "O" if self.bitrate_code is not None:
                self.is_open, self.listen_only = True, command == ord("L")
                return OK
            case "S" if not self.is_open and rest.isdigit() and int(rest) in _BITRATES:
                self.bitrate_code = int(rest)
                return OK
            case "V":
                return b"V1013\r"
            case "N":
                return b"NA123\r"
            case "F":
                return b"F00\r"
            case _:
                self.counts["unknown_command"] += 1
                return BELL


class SlcanOnPty:
    """The adapter behind a serial port of its own, whose path is ``link``. Not for more than one thread at once."""

    def __init__(self, link: Path) -> None:
        self.adapter = SlcanAdapter()
        self.lost = 0
        """Frames that nobody took: no host, or one that reads too slowly."""
        self._link = link
        self._fds: tuple[int, int] | None = None
        self._rest = b""
        """Of a line that the port took in part: an adapter loses whole lines, it never cuts one."""

    def open(self) -> Path:
        """Plug it in (again); return the path of its port."""
        self.unplug()
        own_end, box_end = pty.openpty()
        tty.setraw(box_end)
        os.set_blocking(own_end, False)
        # Our own copy of the box's end stays open: an adapter without a listener goes on, it doesn't fail.
        self._fds = (own_end, box_end)
        self._link.symlink_to(os.ttyname(box_end))
        return self._link

    def fileno(self) -> int:
        """Return what becomes readable when the host speaks. OSError while unplugged."""
        if self._fds is None:
            raise OSError("the adapter is unplugged")
        return self._fds[0]

    def serve(self) -> None:
        """Answer what the host sent, if it did."""
        if self._fds is None:
            return
        try:
            heard = os.read(self._fds[0], 4096)
        except BlockingIOError:
            return
        self._write(self.adapter.feed(heard))

    def send(self, identifier: int, data: bytes) -> None:
        """Pass a frame of the bus on to the host, if it has opened the channel."""
        if not self.adapter.is_open or not self._write(encode_frame(identifier, data)):
            self.lost += 1

    def say(self, words: bytes) -> None:
        """Have the adapter say something of its own accord, such as the state of its controller."""
        self._write(words)

    def _write(self, line: bytes) -> bool:
        if self._fds is None:
            return False
        try:
            self._rest = self._rest[os.write(self._fds[0], self._rest) :] if self._rest else b""
            if self._rest:
                return False
            self._rest = line[os.write(self._fds[0], line) :]
        except BlockingIOError:
            return False  # nobody reads, and the line's buffer is full
        return True

    def unplug(self) -> None:
        """Pull the plug: the port vanishes, and the adapter forgets what it was told."""
        if self._fds is None:
            return
        self._link.unlink(missing_ok=True)
        own_end, box_end = self._fds
        self._fds, self._rest = None, b""
        self.adapter.is_open, self.adapter.bitrate_code = False, None
        os.close(box_end)
        os.close(own_end)
