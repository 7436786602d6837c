"""The box's memory: one SQLite file, one connection, one writer thread.

A step is one transaction with one fdatasync: the records it wrote and the parts of the state it changed. The table of
records is append-only, numbered by ``seq``, chained by hash, and is the outbox at the same time. A commit that returned
is on disk. An I/O error on commit is fatal (``StoreFailed``): the process stops, starts again and reads anew.

Opening and damage: ``store_open``. What makes room when it is full: ``store_room``. What outlives it: ``store_side``.
"""

from __future__ import annotations

import logging
import os
import secrets
import sqlite3
import threading
from collections import Counter
from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from functools import partial
from pathlib import Path
from typing import Any, Final, TypeVar

from sqlite_utils import Database

from cloud_sync.documents.records import GENESIS, Row, chain_digest, encode_record, record_kind
from onboard.core.clock import Instant
from onboard.core.records import Recordable, StoreReplaced
from onboard.core.state import Kept
from onboard.store_open import DATABASE, Found, open_database
from onboard.store_parts import encode, split
from onboard.store_room import LIMITS, Limits, Room, Wanted, rank_of
from onboard.store_schema import (
    REPLACED,
    ROWS_BETWEEN,
    StoreFailed,
    StoreLocked,
    StoreTooNew,
    anchor_of,
    first_break,
    insert_row,
    is_full,
    read_row,
    whole_ms,
    write_part,
)
from onboard.store_side import Keys, Reserve, SideFiles, sync_directory

__all__ = ["Limits", "Opened", "StepRefused", "Store", "StoreFailed", "StoreLocked", "StoreTooNew"]

log = logging.getLogger(__name__)

RESERVE_RETRY_S: Final = 60.0
"""On the reserve, how often room on the disk is looked for."""

WAL_PAGES: Final = 1000
RESERVE_WAL_PAGES: Final = 32
"""How long SQLite's log grows before it is worked into the file, ordinarily and on the reserve. A page of log holds one
small row: without this the log would eat the reserve within a hundred trips, with it the reserve holds thousands."""

T = TypeVar("T")


def _random_id() -> bytes:
    return secrets.token_bytes(16)


class StepRefused(ValueError):  # noqa: N818 - a step is refused, it is no failure of the store
    """A step that cannot be stored for what it says. Nothing was written; the state before it holds; go on."""


@dataclass(frozen=True, slots=True)
class Opened:
    """An open store and what it held."""

    store: Store
    kept: Kept
    replaced: bytes | None
    """Id of the store that this one took the place of, b"" if unknown; None in the ordinary case. Told at every open
    until a ``StoreReplaced`` is committed."""
    reason: str
    """Why it was replaced, for a technician."""
    keys: bytes | None
    """The last key set given to ``keep_keys``, as signed: verify it again."""
    key_set_floor: int
    """A key set below this version must be refused."""
    notes: tuple[str, ...]
    """Files beside the database that did not read and were left out."""


class Store:
    """The open store. Belongs to the thread that opened it; any other is refused."""

    def __init__(self, directory: Path, limits: Limits, found: Found, side: SideFiles, reserve: Reserve) -> None:
        self.counts: Counter[str] = Counter()
        """``no_room:<kind>`` refused, ``dropped_…`` rows dropped, ``reserve_released``, ``side_not_written``."""
        self.on_reserve = False
        """The disk is full: only what must be is recorded. A fault to show."""
        self._directory = directory
        self._limits = limits
        self._db: Database | None = found.db
        self._thread = threading.get_ident()
        self._side = side
        self._reserve = reserve
        self._reserve_at_s = 0.0
        self._room = Room(found.db, limits, anchor_of(found.texts), self.counts)
        self._texts = dict(found.texts)
        self._parts: dict[str, object] = {}
        self._last_seq = found.kept.outbox.last_seq
        self._store_id = found.kept.outbox.store_id
        self._acked_seq = found.kept.outbox.acked_seq
        self._now_wall_s: float | None = None
        self._committed = found.kept
        self._head = self.digest(self._last_seq) or GENESIS
        self._live_on_reserve(yes=reserve.released)

    @classmethod
    def open(
        cls,
        directory: Path,
        vehicle: str,
        floor_s: float,
        limits: Limits = LIMITS,
        *,
        now_wall_s: float = 0.0,
        new_id: Callable[[], bytes] = _random_id,
    ) -> Opened:
        """Open the store in ``directory``, or make one for ``vehicle`` with the wall-clock floor ``floor_s``.

        ``now_wall_s`` only names a damaged database that is kept aside; ``new_id`` gives a new store's 16-byte id.
        Raises ``StoreLocked``, ``StoreTooNew`` or ``StoreFailed``; damage is no error (``Opened.replaced``).
        """
        log.info("store: SQLite %s", sqlite3.sqlite_version)
        try:
            directory.mkdir(mode=0o700, parents=True, exist_ok=True)
            side = SideFiles(directory)
            reserve = Reserve(directory / "reserve", limits.reserve_bytes)
            again = partial(open_database, directory, Kept(vehicle, floor_s), side, limits, now_wall_s, new_id)
            try:
                found = again()
            except StoreFailed as failed:
                if not (failed.__cause__ and is_full(failed.__cause__) and reserve.release()):
                    raise
                found = again()
            reserve.take()
            store = cls(directory, limits, found, side, reserve)
            store.settle()
        except OSError as error:
            raise StoreFailed(
                f"the store's directory cannot be used: {error}. Look at the disk and its mount"
            ) from error
        for note in side.notes:
            log.warning("store: %s", note)
        replaced = found.replaced
        return Opened(
            store,
            found.kept,
            replaced.previous if replaced else None,
            replaced.reason if replaced else "",
            side.keys.document if side.keys else None,
            max(side.floors.key_set_version, side.keys.version if side.keys else 0),
            tuple(side.notes),
        )

    def commit(self, kept: Kept, records: Sequence[Recordable], at: Instant, boot_epoch: bytes) -> Kept:
        """Write one step: ``records`` and what changed of ``kept``, all or nothing, on disk when this returns.

        Returns ``kept`` with ``outbox.store_id`` and ``outbox.last_seq`` as they are now. Raises ``StepRefused``
        (nothing happened) or ``StoreFailed`` (it may be on disk or not: stop).
        """
        self._connection()
        kept = replace(kept, outbox=replace(kept.outbox, store_id=self._store_id))
        try:
            changed = self._changed(kept)
            wanted = [Wanted(encode_record(record), record_kind(record), rank_of(record)) for record in records]
        except ValueError as error:
            raise StepRefused(str(error)) from error
        told = REPLACED in self._texts and any(isinstance(record, StoreReplaced) for record in records)
        self.look_for_room(at.boot_s)
        if changed or wanted:
            self._durably(partial(self._side.before_commit, kept))
            self._last_seq, self._head = self._durably(
                partial(self._write, changed, wanted, whole_ms(at), boot_epoch, told=told)
            )
            self._texts |= changed
            self._parts = split(kept)
            if told:
                del self._texts[REPLACED]
        self._committed = replace(kept, outbox=replace(kept.outbox, last_seq=self._last_seq))
        return self._committed

    def settle(self) -> None:
        """Bring the files beside the database up to the last commit. Raises ``StoreFailed``.

        Nobody at the door need wait for it: the database knows the step, and opening the store does the same.
        """
        self._connection()
        try:
            self._side.after_commit(self._committed)
            self._side.raise_floors(self._committed)
        except OSError as error:
            # The step is on disk already. On a full disk the file is merely behind, until the next step.
            if not is_full(error):
                raise self._failed(error) from error
            self.counts["side_not_written"] += 1

    def _changed(self, kept: Kept) -> dict[str, str]:
        changed: dict[str, str] = {}
        for name, part in split(kept).items():
            # Most parts are the very object of the last step: nothing to encode.
            if name in self._parts and self._parts[name] is part:
                continue
            text = encode(name, part)
            if len(text) > self._limits.part_bytes_max:
                raise ValueError(f"state part {name} has {len(text)} bytes, {self._limits.part_bytes_max} are allowed")
            if text != self._texts.get(name):
                changed[name] = text
        return changed

    def _write(
        self, changed: dict[str, str], wanted: list[Wanted], at: Instant, boot_epoch: bytes, *, told: bool
    ) -> tuple[int, bytes]:
        db = self._connection()
        marked = self._room.mark()
        seq, head = self._last_seq, self._head
        try:
            with db.atomic():
                for name, text in changed.items():
                    write_part(db, name, text)
                for one in self._room.admit(wanted, self._acked_seq, on_reserve=self.on_reserve):
                    seq += 1
                    head = chain_digest(head, seq, boot_epoch, at, one.payload)
                    insert_row(db, Row(seq, boot_epoch, at, one.payload, head), one.kind, one.rank)
                if self._now_wall_s is not None:
                    self._room.expire(self._acked_seq, self._now_wall_s)
                if told:
                    db.execute("DELETE FROM state WHERE part = ?", (REPLACED,))
        except BaseException:
            self._room.back(marked)
            raise
        return seq, head

    def _durably(self, work: Callable[[], T]) -> T:
        """Do ``work``. A full disk gets the reserve and one more try; every other error ends the store."""
        try:
            return work()
        except (sqlite3.Error, OSError) as error:
            if not (is_full(error) and self._reserve.release()):
                raise self._failed(error) from error
        log.error("store: the disk is full; recording on the reserve")
        self.counts["reserve_released"] += 1
        self._live_on_reserve(yes=True)
        try:
            return work()
        except (sqlite3.Error, OSError) as error:
            raise self._failed(error) from error

    def look_for_room(self, boot_s: float) -> None:
        """Take the reserve again if there is room: tried with each step, and by whoever waits for one without steps."""
        if self.on_reserve and boot_s >= self._reserve_at_s:
            self._reserve_at_s = boot_s + RESERVE_RETRY_S
            self._live_on_reserve(yes=not self._reserve.take())

    def _live_on_reserve(self, *, yes: bool) -> None:
        self.on_reserve = yes
        pages = RESERVE_WAL_PAGES if yes else WAL_PAGES
        self._connection().execute(f"PRAGMA wal_autocheckpoint={pages}")

    def _failed(self, error: Exception) -> StoreFailed:
        if self._db is not None:
            try:
                self._db.close()
            except sqlite3.Error:
                log.exception("store: closing after an error")
            self._db = None
        return StoreFailed(
            f"writing failed: {error}. The step may be on disk or not; stop, start again and read what is there."
            " Look at the disk"
        )

    def rows(self, from_seq: int, to_seq: int) -> list[Row]:
        """Return those rows of these numbers, both included, that are still there; a payload of b"" was dropped."""
        found = self._read(ROWS_BETWEEN, (from_seq, to_seq))
        return [read_row(row) for row in found]

    def oldest(self) -> int:
        """Return the number of the first row that is still there; of the next one where there is none."""
        return self._room.anchor.seq + 1

    def digest(self, seq: int) -> bytes | None:
        """Return the digest of row ``seq``, also of the last one dropped and of 0 (``GENESIS``); None if not known."""
        if seq == 0:
            return GENESIS
        anchor = self._room.anchor
        if seq == anchor.seq:
            return anchor.digest
        found = self._read("SELECT digest FROM events WHERE seq = ?", (seq,))
        return bytes(found[0][0]) if found else None

    def _read(self, sql: str, values: tuple[int, ...]) -> list[tuple[Any, ...]]:
        try:
            return self._connection().execute(sql, values).fetchall()
        except sqlite3.Error as error:
            raise self._failed(error) from error

    def verify(self) -> int | None:
        """Recompute the chain of all rows; return the first that does not follow the one before it, None if all do."""
        return first_break(self._connection(), self._room.anchor, 0)

    def release(self, up_to_seq: int, now_wall_s: float) -> None:
        """Let go of rows up to ``up_to_seq``: a later step drops them by age or for room. Writes nothing now."""
        self._connection()
        self._acked_seq = max(self._acked_seq, min(up_to_seq, self._last_seq))
        self._now_wall_s = now_wall_s

    def keep_keys(self, version: int, document: bytes) -> None:
        """Keep a verified key set beside the database and raise its floor; a lower version is left out."""
        self._connection()
        if version >= self._side.floors.key_set_version:
            self._durably(partial(self._side.save_keys, Keys(version, document)))

    def copy(self, destination: Path) -> None:
        """Write a whole copy to ``destination``, which must not exist. Commits wait meanwhile. Raises ``OSError``."""
        vacuum_into(self._connection(), destination)

    def close(self) -> None:
        """Close cleanly. May be called again."""
        if self._db is not None:
            self._connection().close()
            self._db = None

    def _connection(self) -> Database:
        if threading.get_ident() != self._thread:
            raise RuntimeError("the store belongs to the thread that opened it: go through StoreThread")
        if self._db is None:
            raise StoreFailed("the store is closed")
        return self._db

    @property
    def path(self) -> Path:
        """The database file."""
        return self._directory / DATABASE


def vacuum_into(db: Database, destination: Path) -> None:
    """Write a whole, compact copy of ``db``. Raises ``OSError`` (it exists, no room, no right), leaving nothing."""
    destination = destination.resolve()
    # Made here, for its owner only: SQLite fills an empty file.
    os.close(os.open(destination, os.O_CREAT | os.O_EXCL | os.O_WRONLY, 0o600))
    try:
        db.execute("VACUUM INTO ?", (str(destination),))
        handle = os.open(destination, os.O_RDONLY)
        try:
            os.fsync(handle)
        finally:
            os.close(handle)
        sync_directory(destination.parent)
    except sqlite3.Error as error:
        destination.unlink(missing_ok=True)
        raise OSError(f"the copy to {destination} failed: {error}") from error
