"""What must outlive a damaged database: four small files beside it, each replaced as a whole, and the reserve.

``floors.json``  numbers below which nothing may ever fall again
``list.json``    the last verified reservation list: after damage the box still opens for it
``rental.json``  the rental under way and the bookings that are over: after damage its driver still gets in. Written
                 after the step's commands: nobody at the door waits for it
``keys.json``    the last verified key set, as signed; a reader verifies it again

The first line of each is the SHA-256 of the rest, which is JSON. A file that does not match is left out, told, and
written anew. Cost: ``rental.json`` twice in an ordinary rental, two fsyncs each; ``floors.json`` about never, because
it reserves numbers in blocks and follows the clock by the hour.
"""

from __future__ import annotations

import os
from dataclasses import dataclass, replace
from hashlib import sha256
from pathlib import Path
from typing import Final, TypeVar

import msgspec

from onboard.core.grants import ReservationList
from onboard.core.state import Kept, Rental

NUMBERS_BLOCK: Final = 64
"""Trip and rental numbers are reserved so many at a time: after damage at most as many are skipped, none reused."""

WALL_STEP_S: Final = 3600.0
"""The wall-clock floor outside the database is at most this far behind the one inside."""

T = TypeVar("T")


@dataclass(frozen=True, slots=True)
class Floors:
    """Only ever raised. ``rentals`` and ``trips``: no number above these has been given."""

    store_id: bytes = b""
    list_version: int = 0
    key_set_version: int = 0
    wall_s: float = 0.0
    rentals: int = 0
    trips: int = 0


@dataclass(frozen=True, slots=True)
class Running:
    """The rental as committed with row ``last_seq`` of store ``store_id``."""

    store_id: bytes = b""
    last_seq: int = 0
    rental: Rental | None = None
    ended: tuple[bytes, ...] = ()


@dataclass(frozen=True, slots=True)
class Keys:
    """A key set document as signed by a root."""

    version: int
    document: bytes


def sync_directory(directory: Path) -> None:
    """Make renames in ``directory`` durable."""
    handle = os.open(directory, os.O_RDONLY | os.O_DIRECTORY)
    try:
        os.fsync(handle)
    finally:
        os.close(handle)


def write_file(path: Path, data: bytes) -> None:
    """Replace ``path``: after a power cut it is wholly the old or wholly the new one. Raises ``OSError``."""
    fresh = path.with_name(path.name + ".tmp")
    try:
        with fresh.open("wb") as file:
            file.write(data)
            file.flush()
            os.fsync(file.fileno())
        fresh.rename(path)
    except OSError:
        fresh.unlink(missing_ok=True)
        raise
    sync_directory(path.parent)


class SideFiles:
    """The four files. ``notes`` says what could not be read when they were loaded."""

    def __init__(self, directory: Path) -> None:
        self._directory = directory
        self.notes: list[str] = []
        self.floors = self._load("floors.json", Floors) or Floors()
        self.listed = self._load("list.json", ReservationList)
        self.running = self._load("rental.json", Running) or Running()
        self.keys = self._load("keys.json", Keys)
        self.seen = any((directory / name).exists() for name in ("floors.json", "list.json", "rental.json"))

    def _load(self, name: str, kind: type[T]) -> T | None:
        try:
            digest, _, body = (self._directory / name).read_bytes().partition(b"\n")
            if digest.decode("ascii", "replace") != sha256(body).hexdigest():
                self.notes.append(f"{name} is damaged (checksum) and was left out")
                return None
            return msgspec.json.decode(body, type=kind)
        except FileNotFoundError:
            return None
        except msgspec.DecodeError as error:
            self.notes.append(f"{name} does not read and was left out: {error}")
            return None

    def _save(self, name: str, value: object) -> None:
        body = msgspec.json.format(msgspec.json.encode(value), indent=1) + b"\n"
        write_file(self._directory / name, sha256(body).hexdigest().encode() + b"\n" + body)

    def before_commit(self, kept: Kept) -> None:
        """Write what the coming commit relies on: the list, then the floors. Raises ``OSError``; may be repeated."""
        listed = kept.grants.listed
        if listed is not None and listed != self.listed:
            # First the list, then the floor that refuses the one before it: a cut in between must not leave neither.
            self._save("list.json", listed)
            self.listed = listed
        self.raise_floors(kept)

    def raise_floors(self, kept: Kept) -> None:
        """Bring ``floors.json`` up to ``kept`` if it is behind. Raises ``OSError``."""
        floors = self.floors
        if kept.rentals > floors.rentals:
            floors = replace(floors, rentals=kept.rentals + NUMBERS_BLOCK)
        if kept.trips > floors.trips:
            floors = replace(floors, trips=kept.trips + NUMBERS_BLOCK)
        if kept.floor_s > floors.wall_s + WALL_STEP_S:
            floors = replace(floors, wall_s=kept.floor_s)
        listed = kept.grants.listed
        version = max(floors.list_version, kept.grants.version_floor, listed.version if listed else 0)
        self.save_floors(replace(floors, store_id=kept.outbox.store_id, list_version=version))

    def after_commit(self, kept: Kept) -> None:
        """Write the rental if it began, ended, or went on to another trip. Raises ``OSError``."""
        known = self.running
        if (known.store_id, known.ended) != (kept.outbox.store_id, kept.ended) or _trip_of(known.rental) != _trip_of(
            kept.rental
        ):
            running = Running(kept.outbox.store_id, kept.outbox.last_seq, kept.rental, kept.ended)
            self._save("rental.json", running)
            self.running = running

    def save_floors(self, floors: Floors) -> None:
        """Write ``floors.json`` if it changes. Raises ``OSError``."""
        if floors != self.floors:
            self._save("floors.json", floors)
            self.floors = floors

    def save_keys(self, keys: Keys) -> None:
        """Keep a verified key set, then raise its floor. Raises ``OSError``."""
        self._save("keys.json", keys)
        self.keys = keys
        self.save_floors(replace(self.floors, key_set_version=max(self.floors.key_set_version, keys.version)))


def _trip_of(rental: Rental | None) -> tuple[int, int | None] | None:
    if rental is None:
        return None
    return rental.number, rental.trip.number if rental.trip else None


class Reserve:
    """A file that only takes up room, given back when the disk is full so that trips are still recorded."""

    def __init__(self, path: Path, size: int) -> None:
        self._path = path
        self._size = size

    @property
    def released(self) -> bool:
        """The room has been given back and not yet taken again, or a power cut left less of it than there was."""
        return not self._path.exists() or self._path.stat().st_size < self._size

    def release(self) -> bool:
        """Give the room back. False: there was nothing left to give."""
        if self.released:
            return False
        self._path.unlink()
        return True

    def take(self) -> bool:
        """Take the room if the disk has it twice over. False: not yet."""
        if not self.released:
            return True
        disk = os.statvfs(self._path.parent)
        if disk.f_bavail * disk.f_frsize < 2 * self._size:
            return False
        try:
            with self._path.open("wb") as file:
                os.posix_fallocate(file.fileno(), 0, self._size)
        except OSError:
            self._path.unlink(missing_ok=True)
            return False
        return True
