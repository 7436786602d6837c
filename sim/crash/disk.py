"""A directory on a disk that loses its power: what is surely on it, and what may or may not be.

The rules, in prose
-------------------
1.  What was written to a file before an fsync or fdatasync of that file stays. Every other write and every other
    change of size may be kept or dropped, one by one and whatever its order; a write may also be torn: of its pieces
    between multiples of 512 bytes any may be missing. A write that makes a file longer may leave the length alone,
    filled with zeros.
2.  Creating, renaming and removing are in one order: a cut keeps the first so many of them. Only an fsync of the
    directory makes those before it stay. An fsync of a file does not keep its name, whatever ext4 does beyond that.
3.  Files and names do not wait for each other: a new name may be there before the bytes it names.
4.  A sync that returned is believed. A sector is written whole or not at all, and no write harms its neighbours.

The directory itself is there before the first call and stays.
"""

from __future__ import annotations

from dataclasses import dataclass, field
from functools import cached_property
from hashlib import sha256
from itertools import pairwise
from typing import Final, assert_never

SECTOR: Final = 512


@dataclass(frozen=True, slots=True)
class Write:
    """Bytes to a file."""

    file: int
    offset: int
    data: bytes

    @property
    def end(self) -> int:
        """Where it ends."""
        return self.offset + len(self.data)

    def pieces(self) -> list[tuple[int, int]]:
        """Return where each piece between two multiples of ``SECTOR`` begins and ends, in the file."""
        first = self.offset // SECTOR
        bounds = [self.offset, *range((first + 1) * SECTOR, self.end, SECTOR), self.end]
        return list(pairwise(bounds))


@dataclass(frozen=True, slots=True)
class Resize:
    """A file made shorter or longer; ``at_least``: never shorter."""

    file: int
    size: int
    at_least: bool = False


@dataclass(frozen=True, slots=True)
class Sync:
    """An fsync or fdatasync of a file returned."""

    file: int


@dataclass(frozen=True, slots=True)
class Create:
    """A new, empty file has this name."""

    name: str
    file: int


@dataclass(frozen=True, slots=True)
class Rename:
    """A name became another; whatever had that one lost it."""

    name: str
    to: str


@dataclass(frozen=True, slots=True)
class Remove:
    """A name is gone."""

    name: str


@dataclass(frozen=True, slots=True)
class SyncDirectory:
    """An fsync of the directory returned."""


@dataclass(frozen=True, slots=True)
class Settled:
    """So much time went by that everything is on the disk."""


Change = Write | Resize
Naming = Create | Rename | Remove
Operation = Change | Naming | Sync | SyncDirectory | Settled


@dataclass(frozen=True, slots=True)
class Fate:
    """What became of a change: ``kept``, or not; of a write also ``pieces``, those kept, and ``length`` alone."""

    kept: bool
    pieces: int | None = None
    """Bit by bit, the first piece lowest. None: all or none of it."""
    length: bool = False

    def __str__(self) -> str:
        """One mark a change: ``1`` kept, ``0`` dropped, ``z`` length alone, ``t…;`` pieces as a hexadecimal number."""
        if self.length:
            return "z"
        return f"t{self.pieces:x};" if self.pieces is not None else "01"[self.kept]


KEPT: Final = Fate(kept=True)
DROPPED: Final = Fate(kept=False)
LENGTH: Final = Fate(kept=True, length=True)


def torn(pieces: int) -> Fate:
    """Return the fate of a write of which only these pieces are there."""
    return Fate(kept=True, pieces=pieces)


@dataclass(frozen=True, slots=True)
class Survivors:
    """What a cut left: the first ``names`` of the unsynced namings, and a fate for each unsynced change, in order."""

    names: int
    fates: tuple[Fate, ...]

    def __str__(self) -> str:
        """As ``parse`` reads it."""
        return f"{self.names}:{''.join(map(str, self.fates))}"

    @classmethod
    def parse(cls, text: str) -> Survivors:
        """Read what ``str`` wrote. Raises ``ValueError``."""
        names, _, rest = text.partition(":")
        fates: list[Fate] = []
        while rest:
            mark, rest = rest[0], rest[1:]
            if mark == "t":
                pieces, _, rest = rest.partition(";")
                fates.append(torn(int(pieces, 16)))
            elif mark in {"0", "1", "z"}:
                fates.append({"0": DROPPED, "1": KEPT, "z": LENGTH}[mark])
            else:
                raise ValueError(f"{mark!r} is no fate: 0, 1, z or t…;")
        return cls(int(names), tuple(fates))


class Content:
    """What a file holds."""

    def __init__(self, data: bytes) -> None:
        self.data = data

    @cached_property
    def digest(self) -> bytes:
        """What tells it from another."""
        return sha256(self.data).digest()

    @cached_property
    def blank(self) -> bool:
        """Nothing but zeros."""
        return self.data[-1:] != b"" and not self.data[-1] and self.data.count(0) == len(self.data)


@dataclass(slots=True)
class _File:
    synced: bytearray = field(default_factory=bytearray)
    waiting: list[tuple[int, Change]] = field(default_factory=list)
    """Not synced yet, each with its number among all operations."""
    length: int = 0
    """If everything waiting is kept."""


class Disk:
    """Takes the operations one by one; between two of them it says what a cut may leave."""

    def __init__(self) -> None:
        self.count = 0
        """Operations taken."""
        self.last: Operation | None = None
        self._files: dict[int, _File] = {}
        self._synced_names: dict[str, int] = {}
        self._namings: list[Naming] = []
        self._built: dict[tuple[int, tuple[Fate, ...]], Content] = {}

    def take(self, operation: Operation) -> None:
        """Do one operation."""
        match operation:
            case Write() | Resize():
                self._change(operation)
            case Sync(file=file):
                self._sync(file)
            case Create() | Rename() | Remove():
                if isinstance(operation, Create):
                    self._files[operation.file] = _File()
                self._namings.append(operation)
            case SyncDirectory():
                self._sync_names()
            case Settled():
                for file in self._files:
                    self._sync(file)
                self._sync_names()
            case _:
                assert_never(operation)
        self.count += 1
        self.last = operation

    def namings(self) -> int:
        """Return how many namings are not synced."""
        return len(self._namings)

    def waiting(self) -> list[tuple[int, Change, bool]]:
        """Return the changes not synced, in order: number of the operation, the change, and whether it made longer."""
        found: list[tuple[int, Change, bool]] = []
        for file in self._files.values():
            length = len(file.synced)
            for number, change in file.waiting:
                longer = isinstance(change, Write) and change.end > length
                found.append((number, change, longer))
                length = _length(length, change)
        return sorted(found, key=lambda each: each[0])

    def left(self, survivors: Survivors) -> dict[str, Content]:
        """Return the directory after a cut: what each name holds. Raises ``ValueError`` for fates not of this cut."""
        waiting = self.waiting()
        if len(survivors.fates) != len(waiting) or not 0 <= survivors.names <= len(self._namings):
            raise ValueError(f"here are {len(self._namings)} namings and {len(waiting)} changes not synced")
        fates: dict[int, list[Fate]] = {}
        for (_, change, _), fate in zip(waiting, survivors.fates, strict=True):
            fates.setdefault(change.file, []).append(fate)
        names = _named(self._synced_names, self._namings[: survivors.names])
        return {name: self._build(file, tuple(fates.get(file, ()))) for name, file in names.items()}

    def _change(self, change: Change) -> None:
        file = self._files[change.file]
        file.waiting.append((self.count, change))
        file.length = _length(file.length, change)
        self._forget(change.file)

    def _sync(self, number: int) -> None:
        file = self._files[number]
        for _, change in file.waiting:
            _apply(file.synced, change, KEPT)
        file.waiting.clear()
        self._forget(number)

    def _sync_names(self) -> None:
        self._synced_names = _named(self._synced_names, self._namings)
        self._namings.clear()
        reachable = set(self._synced_names.values())
        # No cut brings back a file whose last name is surely gone.
        self._files = {number: file for number, file in self._files.items() if number in reachable}

    def _build(self, number: int, fates: tuple[Fate, ...]) -> Content:
        if (number, fates) not in self._built:
            file = self._files[number]
            data = bytearray(file.synced)
            for (_, change), fate in zip(file.waiting, fates, strict=True):
                _apply(data, change, fate)
            # Whoever varies one file asks for the others again and again.
            if len(self._built) > 64:
                self._built.clear()
            self._built[number, fates] = Content(bytes(data))
        return self._built[number, fates]

    def _forget(self, number: int) -> None:
        for key in [key for key in self._built if key[0] == number]:
            del self._built[key]


def _length(length: int, change: Change) -> int:
    if isinstance(change, Write):
        return max(length, change.end)
    return max(length, change.size) if change.at_least else change.size


def _named(names: dict[str, int], namings: list[Naming]) -> dict[str, int]:
    names = dict(names)
    for naming in namings:
        match naming:
            case Create(name=name, file=file):
                names[name] = file
            case Rename(name=name, to=to):
                names[to] = names.pop(name)
            case Remove(name=name):
                del names[name]
            case _:
                assert_never(naming)
    return names


def _apply(data: bytearray, change: Change, fate: Fate) -> None:
    if not fate.kept:
        return
    if isinstance(change, Resize):
        size = _length(len(data), change)
        del data[size:]
        data.extend(bytes(size - len(data)))
        return
    if fate.length:
        data.extend(bytes(max(0, change.end - len(data))))
        return
    for place, (begin, end) in enumerate(change.pieces()):
        if fate.pieces is None or fate.pieces >> place & 1:
            data.extend(bytes(max(0, begin - len(data))))
            data[begin:end] = change.data[begin - change.offset : end - change.offset]
