"""The line to the technician: a serial port, or this terminal. Bytes only."""

from __future__ import annotations

import contextlib
import os
import select
import sys
import termios
import tty
from collections.abc import Iterator
from pathlib import Path
from typing import Final, Protocol

import serial

READ_BYTES: Final = 512


class LinkLost(Exception):  # noqa: N818 - what happened
    """The cable was pulled, or the terminal is gone."""


class Link(Protocol):
    """A line to a person."""

    def read(self, wait_s: float) -> bytes:
        """Return what came, or nothing after ``wait_s``. Raises ``LinkLost``."""
        ...

    def write(self, data: bytes) -> None:
        """Send all of it. Raises ``LinkLost``."""
        ...


class SerialLink:
    """A UART, USB gadget or pty."""

    def __init__(self, port: Path, baud_rate: int) -> None:
        """Open it. Raises ``LinkLost``."""
        try:
            self._port = serial.Serial(str(port), baud_rate, timeout=0, write_timeout=60.0, exclusive=True)
        except (OSError, ValueError) as error:
            raise LinkLost(str(error)) from error

    def read(self, wait_s: float) -> bytes:
        """See ``Link``."""
        try:
            self._port.timeout = wait_s
            first = bytes(self._port.read(1))
            return first + bytes(self._port.read(min(self._port.in_waiting, READ_BYTES))) if first else b""
        except (OSError, termios.error, TypeError) as error:  # TypeError: pyserial's own, of a port that was closed
            raise LinkLost(str(error)) from error

    def write(self, data: bytes) -> None:
        """See ``Link``."""
        try:
            self._port.write(data)
        except (OSError, termios.error) as error:
            raise LinkLost(str(error)) from error

    def close(self) -> None:
        """Give the port back."""
        self._port.close()


class TerminalLink:
    """The terminal of this process, in raw mode while it is used (``raw``)."""

    def read(self, wait_s: float) -> bytes:
        """See ``Link``."""
        if not select.select([sys.stdin], [], [], wait_s)[0]:
            return b""
        data = os.read(sys.stdin.fileno(), READ_BYTES)
        if not data:
            raise LinkLost("end of input")
        return data

    def write(self, data: bytes) -> None:
        """See ``Link``."""
        try:
            while data:
                data = data[os.write(sys.stdout.fileno(), data) :]
        except OSError as error:
            raise LinkLost(str(error)) from error


@contextlib.contextmanager
def raw() -> Iterator[TerminalLink]:
    """Give this terminal, in raw mode if it is one; as it was afterwards."""
    if not sys.stdin.isatty():
        yield TerminalLink()
        return
    before = termios.tcgetattr(sys.stdin)
    try:
        tty.setraw(sys.stdin)
        yield TerminalLink()
    finally:
        termios.tcsetattr(sys.stdin, termios.TCSADRAIN, before)
