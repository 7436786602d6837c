"""Files over a line that may garble or lose anything: lines of text with a checksum each, begun again where it broke.

The same lines whichever way, typed by a program (``attach``) or pasted by a person::

    #B KIND SIZE SHA256            what follows
    #C OFFSET CRC32 BASE64         48 bytes of it; anything that does not hold is as if it had not come
    #E SHA256                      that was all; the receiver answers with one of:
    #H OFFSET SHA256               so much is here, from there on please (also the answer to #B)
    #K SHA256                      all of it is here and right

A receiver keeps what it has, in order and without a gap, in a file of its own: it survives a log-out and a reboot.
"""

from __future__ import annotations

import base64
import binascii
import hashlib
import re
import zlib
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Final

CHUNK_BYTES: Final = 48
"""64 letters of base64: with its frame a line stays below 90 letters, whatever the offset."""
LINE_MAX: Final = 120
NAME_LETTERS: Final = 16
"""So much of a SHA-256 names a file where a person, or a short line, must carry it."""
SIZE_MAX: Final = 64 * 1024 * 1024
_BEGIN: Final = re.compile(r"#B ([a-z]{1,16}) ([0-9]{1,9}) ([0-9a-f]{64})")
_CHUNK: Final = re.compile(r"#C ([0-9]{1,9}) ([0-9a-f]{8}) ([A-Za-z0-9+/]{1,64}={0,2})")
_SAID: Final = re.compile(r"#([EHK]) (?:([0-9]{1,9}) )?([0-9a-f]{64})")


@dataclass(frozen=True, slots=True)
class Begin:
    """What is to come."""

    kind: str
    size: int
    sha: str


@dataclass(frozen=True, slots=True)
class Chunk:
    """A piece of it, whose checksum held."""

    offset: int
    data: bytes


@dataclass(frozen=True, slots=True)
class Said:
    """``E`` the end, ``H`` from ``offset`` on please, ``K`` all is here."""

    what: str
    offset: int
    sha: str


def parse(line: str) -> Begin | Chunk | Said | None:
    """Return what a line says; None for anything else, a garbled one too."""
    line = line.strip()
    if len(line) > LINE_MAX:
        return None
    if found := _BEGIN.fullmatch(line):
        size = int(found[2])
        return Begin(found[1], size, found[3]) if 0 < size <= SIZE_MAX else None
    if found := _SAID.fullmatch(line):
        return Said(found[1], int(found[2] or 0), found[3])
    if not (found := _CHUNK.fullmatch(line)):
        return None
    try:
        data = base64.b64decode(found[3], validate=True)
    except binascii.Error:
        return None
    offset = int(found[1])
    return Chunk(offset, data) if crc_of(offset, data) == found[2] else None


def crc_of(offset: int, data: bytes) -> str:
    """Return the checksum of a piece, which covers where it belongs."""
    return f"{zlib.crc32(data, zlib.crc32(str(offset).encode())):08x}"


def sha_of(data: bytes) -> str:
    """Return what names a file's content."""
    return hashlib.sha256(data).hexdigest()


def begin_line(kind: str, data: bytes) -> str:
    """Announce a file."""
    return f"#B {kind} {len(data)} {sha_of(data)}"


def said_line(what: str, sha: str, offset: int | None = None) -> str:
    """Return an ``E``, ``H`` or ``K``."""
    return f"#{what} {sha}" if offset is None else f"#{what} {offset} {sha}"


def chunk_lines(data: bytes, offset: int = 0) -> Iterator[str]:
    """Give the pieces from an offset on."""
    for start in range(offset, len(data), CHUNK_BYTES):
        piece = data[start : start + CHUNK_BYTES]
        yield f"#C {start} {crc_of(start, piece)} {base64.b64encode(piece).decode()}"


class Receiver:
    """Takes one file at a time into ``folder``; ``answer`` is what to say to a line, if anything.

    ``file``: where the whole of it lies once ``#K`` was said. Of each kind one is kept: another content begins anew.
    """

    def __init__(self, folder: Path, limits: dict[str, int]) -> None:
        """``limits``: the kinds that are taken, and how many bytes of each."""
        self.begun: Begin | None = None
        self.file: Path | None = None
        self._folder = folder
        self._limits = limits
        self._have = 0

    def answer(self, line: str) -> str | None:
        """Take one line; return the answer. Raises ``ValueError`` for a file that is not taken here."""
        match parse(line):
            case Begin() as begin:
                return self._begin(begin)
            case Chunk() as chunk if self.begun is not None and self.file is None:
                self._take(chunk)
            case Said(what="E") as end if self.begun is not None and end.sha == self.begun.sha:
                return self._end(self.begun)
            case _:
                pass
        return None

    def drop(self) -> None:
        """Forget what has come: it was used, or is of no use."""
        if self.begun is not None:
            self._path(self.begun).unlink(missing_ok=True)
        self.begun, self.file, self._have = None, None, 0

    def _begin(self, begin: Begin) -> str:
        most = self._limits.get(begin.kind)
        if most is None or begin.size > most:
            raise ValueError(f"{begin.kind} of {begin.size} bytes" if most is not None else begin.kind)
        self.begun, self.file = begin, None
        path = self._path(begin)
        self._folder.mkdir(mode=0o700, parents=True, exist_ok=True)
        for other in self._folder.glob(f"{begin.kind}-*.part"):
            if other != path:
                other.unlink()
        self._have = min(path.stat().st_size, begin.size) if path.exists() else 0
        return said_line("H", begin.sha, self._have)

    def _take(self, chunk: Chunk) -> None:
        begun = self.begun
        if begun is None or chunk.offset != self._have or chunk.offset + len(chunk.data) > begun.size:
            return
        with self._path(begun).open("ab") as file:
            file.write(chunk.data)
        self._have += len(chunk.data)

    def _end(self, begun: Begin) -> str:
        if self._have < begun.size:
            return said_line("H", begun.sha, self._have)
        path = self._path(begun)
        with path.open("rb") as file:  # piece by piece: an update is larger than what the console may hold
            found = hashlib.file_digest(file, "sha256").hexdigest()
        if found != begun.sha:
            # Every piece held, and the whole does not: the sender's file changed, or ours did.
            path.unlink()
            self._have = 0
            return said_line("H", begun.sha, 0)
        self.file = path
        return said_line("K", begun.sha)

    def _path(self, begun: Begin) -> Path:
        return self._folder / f"{begun.kind}-{begun.sha[:NAME_LETTERS]}.part"
