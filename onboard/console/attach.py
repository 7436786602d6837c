"""``amibox attach``: the laptop's end of the cable. Finds it, is a terminal on it, and carries files over it.

At the beginning of a line: ``~.`` leaves, ``~get KIND FILE`` and ``~put KIND FILE`` carry a file, ``~?`` says so.
"""

from __future__ import annotations

import argparse
import sys
import time
from collections.abc import Callable, Sequence
from getpass import getpass
from pathlib import Path
from typing import Final

from serial.tools import list_ports

from onboard.console.link import Link, LinkLost, SerialLink, raw
from onboard.console.transfer import (
    CHUNK_BYTES,
    NAME_LETTERS,
    SIZE_MAX,
    Begin,
    Chunk,
    Said,
    begin_line,
    chunk_lines,
    parse,
    said_line,
    sha_of,
)

HELP: Final = "on the laptop: the box's console at the other end of a serial cable, and files over it"
GREETING: Final = b"amibox "
"""Stands in every prompt of the console."""
LOGIN: Final = b"amibox login: "
ANSWER_S: Final = 2.0
SILENCE_S: Final = 5.0
"""A line is garbled or gone if nothing came for so long."""
ROUNDS_MAX: Final = 500
"""A bad line gets a little further in each round; one that carries nothing at all is given up."""
STALLED_MAX: Final = 5
REFUSED: Final = "Refus"
"""So begins a refusal in both languages."""
_ALL: Final = SIZE_MAX + 1


class Broken(Exception):  # noqa: N818 - what happened
    """A file did not get across. What did is kept: the same command goes on from there."""


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Describe the arguments of ``amibox attach``."""
    parser.add_argument("port", nargs="?", metavar="PORT", help="serial port (default: the one where a box answers)")
    parser.add_argument("--baud", type=int, default=9600, help="bits a second (default: %(default)s)")
    parser.add_argument("--get", nargs=2, metavar=("KIND", "FILE"), help="have the box make a file, and leave")
    parser.add_argument("--put", nargs=2, metavar=("KIND", "FILE"), help="give the box a file, and leave")


def run(args: argparse.Namespace) -> int:
    """Attach. 0 done; 1 no box answers, or a file did not get across; 2 a file that cannot be read."""
    try:
        link, port = find([args.port] if args.port else candidates(), args.baud)
    except LinkLost as lost:
        sys.stderr.write(f"amibox attach: {lost}\n")
        return 1
    with_line = Line(link)
    try:
        if args.get or args.put:
            with_line.log_in(input, getpass)
        if args.get:
            Path(args.get[1]).write_bytes(get(with_line, args.get[0], _progress))
        if args.put:
            put(with_line, args.put[0], Path(args.put[1]).read_bytes(), _progress)
        if not args.get and not args.put:
            sys.stderr.write(f"{port}; ~? for help, ~. to leave\n")
            with raw() as here:
                terminal(here, link)
    except (Broken, LinkLost) as error:
        sys.stderr.write(f"\namibox attach: {error}\n")
        return 1
    except OSError as error:
        sys.stderr.write(f"\namibox attach: {error}\n")
        return 2
    finally:
        link.close()
    return 0


def candidates() -> list[str]:
    """Return this machine's serial ports, USB first: the cable's own adapter, or the box's gadget."""
    return [port.device for port in sorted(list_ports.comports(), key=lambda each: (each.vid is None, each.device))]


def find(ports: Sequence[str], baud_rate: int) -> tuple[SerialLink, str]:
    """Open the first port where a console answers; the only one in any case. Raises ``LinkLost`` with the remedy."""
    why = ["no serial port here: plug the cable in"] if not ports else []
    for port in ports:
        try:
            link = SerialLink(Path(port), baud_rate)
        except LinkLost as lost:
            why.append(f"{port}: {lost}")
            continue
        try:
            if answers(link) or len(ports) == 1:
                return link, port
        except LinkLost as lost:
            why.append(f"{port}: {lost}")
        why.append(f"{port}: no box answers")
        link.close()
    raise LinkLost("; ".join(why) + ". Is it the box's cable, and the speed right (--baud)? Or name PORT")


def answers(link: Link) -> bool:
    """Tell whether the console's prompt comes when a key is pressed."""
    link.write(b"\r")
    heard, until_s = b"", time.monotonic() + ANSWER_S
    while time.monotonic() < until_s:
        heard += link.read(0.2)
        if GREETING in heard:
            return True
    return False


class Line:
    """Lines to and from the console, for a program."""

    def __init__(self, link: Link) -> None:
        self._link = link
        self._held = b""

    def send(self, line: str) -> None:
        """Type a line."""
        self._link.write(line.encode() + b"\r")

    def next(self, wait_s: float = SILENCE_S) -> str | None:
        """Return the next whole line; None after ``wait_s`` of silence, or at a prompt that waits."""
        until_s = time.monotonic() + wait_s
        while b"\n" not in self._held:
            came = self._link.read(0.2)
            if came:
                until_s = time.monotonic() + wait_s
                self._held = (self._held + came)[-65_536:]
            elif time.monotonic() >= until_s:
                return None
        line, self._held = self._held.split(b"\n", 1)
        return line.decode("ascii", "replace").strip()

    def prompt(self, wait_s: float = ANSWER_S) -> bytes:
        """Return what stands behind the last line end once it is quiet."""
        heard, until_s = self._held, time.monotonic() + wait_s
        while time.monotonic() < until_s:
            came = self._link.read(0.3)
            heard += came
            if not came and heard.rpartition(b"\n")[2].endswith((b"> ", b": ")):
                break
        self._held = b""
        return heard.rpartition(b"\n")[2]

    def log_in(self, ask: Callable[[str], str], ask_secret: Callable[[str], str]) -> None:
        """Log in, if nobody is. Raises ``Broken`` if refused."""
        self.send("")
        if not self.prompt().endswith(LOGIN):
            return
        self.send(ask("name: "))
        self.prompt(1.0)
        self.send(ask_secret("PIN: "))
        if not self.prompt(6.0).endswith(b"> "):
            raise Broken("the box did not let you in")


def get(line: Line, kind: str, told: Callable[[int, int], None] = lambda _have, _size: None) -> bytes:
    """Have the console send a file; return it whole. Raises ``Broken``."""
    begun: Begin | None = None
    have, stalled = b"", 0
    for _ in range(ROUNDS_MAX):
        line.send(f"export {kind} {len(have)} {begun.sha[:NAME_LETTERS]}" if begun is not None else f"export {kind}")
        before, said = len(have), ""
        while (text := line.next()) is not None:
            match parse(text):
                case Begin() as begin:
                    if begun is None or begin.sha != begun.sha:
                        begun, have = begin, b""
                case Chunk() as chunk if chunk.offset == len(have) and begun is not None:
                    have += chunk.data
                    told(len(have), begun.size)
                case Said(what="E"):
                    break
                case _:
                    said = text or said
        if begun is not None and len(have) == begun.size and sha_of(have) == begun.sha:
            return have
        if begun is not None and len(have) >= begun.size:
            begun, have = None, b""
        stalled = stalled + 1 if len(have) <= before else 0
        if stalled >= STALLED_MAX:
            raise Broken(f"nothing gets across; the box says: {said}")
    raise Broken("the line is too bad")


def put(line: Line, kind: str, data: bytes, told: Callable[[int, int], None] = lambda _have, _size: None) -> str:
    """Give the console a file; return what it said about it. Raises ``Broken``."""
    if not 0 < len(data) <= SIZE_MAX:
        raise Broken(f"{len(data)} bytes: 1 to {SIZE_MAX} can be carried")
    sha, least, stalled = sha_of(data), -1, 0
    line.send(f"import {kind}")
    for _ in range(ROUNDS_MAX):
        line.send(begin_line(kind, data))
        offset, said = _heard(line, sha)
        if offset is None:
            stalled += 1
            if stalled >= STALLED_MAX:
                raise Broken(f"nothing gets across; the box says: {said}")
            line.send(f"import {kind}")  # it may have given up waiting, or never heard of it
            continue
        stalled = stalled + 1 if offset <= least else 0
        if stalled >= STALLED_MAX:
            raise Broken("the line is too bad")
        least = max(least, offset)
        for text in chunk_lines(data, offset):
            line.send(text)
            offset = min(offset + CHUNK_BYTES, len(data))
            told(offset, len(data))
        line.send(said_line("E", sha))
        back, said = _heard(line, sha)
        if back == _ALL:
            said = line.next() or said
            if said.startswith(REFUSED):
                raise Broken(said)
            return said
    raise Broken("the line is too bad")


def _heard(line: Line, sha: str) -> tuple[int | None, str]:
    """Return how much the console has, all if it said so; None if it does not say. And its last words."""
    last = ""
    while (text := line.next()) is not None:
        match parse(text):
            case Said(what="H", offset=offset, sha=whose) if whose == sha:
                return offset, last
            case Said(what="K", sha=whose) if whose == sha:
                return _ALL, last
            case _:
                last = text or last
    return None, last


def terminal(here: Link, there: Link) -> None:
    """Pass bytes both ways until ``~.``; a line that begins with ``~`` is for this end."""
    fresh, held = True, b""
    while True:
        here.write(there.read(0.02))
        for byte in here.read(0.02):
            key = bytes([byte])
            if held:
                here.write(b"\r\n" if key == b"\r" else key)
                held = held[:-1] if key in b"\x7f\b" else held + key
                if held == b"~.":
                    return
                if key == b"\r":
                    _escape(here, there, held.decode(errors="replace").split())
                    held, fresh = b"", True
            elif fresh and key == b"~":
                held = key
                here.write(key)
            else:
                there.write(key)
                fresh = key in b"\r\n"


def _escape(here: Link, there: Link, words: Sequence[str]) -> None:
    try:
        match words:
            case ["~get", kind, file]:
                data = get(Line(there), kind)
                Path(file).write_bytes(data)
                here.write(f"{file}: {len(data)} bytes\r\n".encode())
            case ["~put", kind, file]:
                here.write(f"{put(Line(there), kind, Path(file).read_bytes())}\r\n".encode())
            case _:
                here.write(b"~. leave   ~get KIND FILE   ~put KIND FILE\r\n")
    except (Broken, OSError) as error:
        here.write(f"{error}\r\n".encode())
    there.write(b"\r")


def _progress(have: int, size: int) -> None:
    sys.stderr.write(f"\r{have}/{size} bytes")
