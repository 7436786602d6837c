"""Opening the store, and what is done when its database turns out damaged.

A damaged file is kept aside under a dated name, never mended in place. A new database takes its place under a new
store id; rows that the cloud had not acknowledged and that still prove themselves by the chain are carried over, and
what lies beside the database (``store_side``) gives back the floors, the list and the rental.
"""

from __future__ import annotations

import contextlib
import logging
import sqlite3
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field, replace
from datetime import UTC, datetime
from pathlib import Path
from typing import Any, Final

import msgspec
from sqlite_utils import Database

from cloud_sync.documents.records import GENESIS, Row, chain_digest
from onboard.core.state import Kept, Outbox
from onboard.store_parts import PartDamaged, check, decode, encode, join, known, split
from onboard.store_room import Limits, Rank
from onboard.store_schema import (
    REPLACED,
    ROWS_ABOVE,
    ROWS_ABOVE_BACKWARDS,
    Damaged,
    Replacement,
    StoreFailed,
    StoreUnreadable,
    anchor_of,
    chained,
    connect,
    first_break,
    insert_row,
    meaning_of,
    read_row,
    read_texts,
    write_part,
)
from onboard.store_side import SideFiles, sync_directory

log = logging.getLogger(__name__)

DATABASE: Final = "store.db"
_FRESH: Final = "store.new"
_WAL: Final = "-wal"
_STRIKES: Final = "unreadable"
READ_TRIES: Final = 3
"""Starts in a row at which the disk must refuse the database's bytes before it is kept aside."""


@dataclass(frozen=True, slots=True)
class Found:
    """An opened database with what it held."""

    db: Database
    kept: Kept
    texts: dict[str, str]
    replaced: Replacement | None


@dataclass(slots=True)
class Carried:
    """What a damaged database still gave."""

    parts: dict[str, object] = field(default_factory=dict)
    rows: list[tuple[Row, str, int]] = field(default_factory=list)
    last_seq: int = 0
    store_id: bytes = b""


def open_database(
    directory: Path, kept: Kept, side: SideFiles, limits: Limits, now_wall_s: float, new_id: Callable[[], bytes]
) -> Found:
    """Open or make the database of ``directory``. ``kept`` is the state of a new box. Raises ``StoreFailed``."""
    path = directory / DATABASE
    _forget(directory / _FRESH)
    reason, aside, kept_now = "", None, False
    if path.exists():
        try:
            return _open_known(path, kept, side)
        except Damaged as damage:
            reason = str(damage)
        except StoreUnreadable as unreadable:
            # A card may fail for a moment: only what fails at several starts is given up.
            if not _last_try(directory / _STRIKES):
                raise
            reason = str(unreadable)
        kept_now = True
        aside = _keep_aside(path, max(now_wall_s, kept.floor_s), limits.damaged_kept)
    elif side.seen:
        # Gone, or a cut came between keeping it aside and putting the new one in its place.
        reason = "the database file is missing"
        aside = next(reversed(_kept_aside(directory)), None)
    carried = _carry_over(aside) if aside else Carried()
    if not kept_now and carried.store_id not in {b"", side.floors.store_id}:
        # An older one, kept aside long ago: its rows went their way.
        carried = Carried()
    if reason:
        log.error("store: %s; kept aside as %s, %d rows carried over", reason, aside, len(carried.rows))
        kept = _restored(kept, side, carried)
    kept = replace(kept, outbox=Outbox(store_id=new_id(), last_seq=len(carried.rows)))
    replacement = Replacement(carried.store_id or side.floors.store_id, reason) if reason else None
    _build(directory / _FRESH, kept, carried, replacement)
    (directory / _FRESH).rename(path)
    sync_directory(directory)
    return _open_known(path, kept, side)


def _open_known(path: Path, kept: Kept, side: SideFiles) -> Found:
    """Open ``path``, which must hold a state. Raises ``Damaged`` or ``StoreFailed``."""
    log_file = path.with_name(path.name + _WAL)
    unclean = log_file.exists() and log_file.stat().st_size > 0
    db: Database | None = None
    try:
        db = connect(path, create=False)
        found = _load(db, kept, side, check_pages=unclean)
    except (sqlite3.Error, UnicodeError, PartDamaged, msgspec.DecodeError, TypeError) as error:
        if db is not None:
            _close_quietly(db)
        raise (meaning_of(error) if isinstance(error, sqlite3.Error) else Damaged(str(error))) from error
    except (StoreFailed, Damaged):
        if db is not None:
            _close_quietly(db)
        raise
    path.with_name(_STRIKES).unlink(missing_ok=True)
    return found


def _load(db: Database, kept: Kept, side: SideFiles, *, check_pages: bool) -> Found:
    if check_pages:
        # SQLite removes its log when it is closed: a log that is still there means the last stop was not a clean one.
        verdict = db.execute("PRAGMA quick_check(1)").fetchone()[0]
        if verdict != "ok":
            raise Damaged(f"quick_check: {verdict}")
    texts = read_texts(db)
    if "vehicle" not in texts:
        raise Damaged("there is no state in it")
    found = join({name: decode(name, text) for name, text in texts.items() if known(name)}, kept.vehicle, kept.floor_s)
    if found.vehicle != kept.vehicle:
        raise StoreFailed(
            f"this store belongs to vehicle {found.vehicle!r}, the configuration says {kept.vehicle!r}. Correct the"
            " configuration, or give the box an empty data directory; nothing was changed"
        )
    anchor = anchor_of(texts)
    newest = db.execute("SELECT MAX(seq) FROM events").fetchone()[0]
    last_seq = max(anchor.seq, newest or 0)
    found = replace(found, outbox=replace(found.outbox, last_seq=last_seq))
    running = side.running
    if running.store_id == found.outbox.store_id and running.last_seq > last_seq:
        raise Damaged(f"it ends at row {last_seq}, but row {running.last_seq} was committed: it fell back in time")
    broken = first_break(db, anchor, min(found.outbox.acked_seq, last_seq))
    if broken is not None:
        raise Damaged(f"row {broken} does not follow the one before it (chain)")
    replaced = msgspec.json.decode(texts[REPLACED], type=Replacement) if REPLACED in texts else None
    found = replace(
        found,
        floor_s=max(found.floor_s, kept.floor_s, side.floors.wall_s),
        grants=replace(found.grants, version_floor=max(found.grants.version_floor, side.floors.list_version)),
    )
    return Found(db, _with_newest_list(found, side), texts, replaced)


def _with_newest_list(kept: Kept, side: SideFiles) -> Kept:
    """Take the list beside the database where it is newer: it was verified, and the cut came before its commit."""
    beside, inside = side.listed, kept.grants.listed
    if beside is None or beside.vehicle != kept.vehicle or (inside is not None and inside.version >= beside.version):
        return kept
    floor = max(kept.grants.version_floor, beside.version)
    return replace(kept, grants=replace(kept.grants, listed=beside, version_floor=floor))


def _close_quietly(db: Database) -> None:
    with contextlib.suppress(sqlite3.Error):
        db.close()


def _last_try(strikes: Path) -> bool:
    """Count one more start that could not read; True if it was the last one to wait for."""
    count = 1 + (strikes.stat().st_size if strikes.exists() else 0)
    strikes.write_bytes(b"." * count)
    return count >= READ_TRIES


def _forget(path: Path) -> None:
    """Remove an unfinished new database."""
    for suffix in ("", _WAL, "-shm", "-journal"):
        path.with_name(path.name + suffix).unlink(missing_ok=True)


def _age_of(aside: Path) -> tuple[str, int]:
    """Return what orders databases kept aside: the date in the name, then the number behind it."""
    stamp, _, number = aside.stem.removeprefix("store-").partition("-")
    return stamp, int(number) if number.isdecimal() else 1


def _kept_aside(directory: Path) -> list[Path]:
    """Return the databases kept aside, oldest first."""
    return sorted(directory.glob("store-*.damaged"), key=_age_of)


def _keep_aside(path: Path, wall_s: float, kept: int) -> Path:
    """Rename the database and its log to a dated name; return it. Of older ones the newest ``kept`` stay.

    A clock that fell back gives it the date of the newest one there, and the next number: the order stays true.
    """
    stamp, number = datetime.fromtimestamp(wall_s, UTC).strftime("%Y%m%dT%H%M%SZ"), 1
    if there := _kept_aside(path.parent):
        newest, last = _age_of(there[-1])
        if stamp <= newest:
            stamp, number = newest, last + 1
    aside = path.with_name(f"store-{stamp}{f'-{number}' if number > 1 else ''}.damaged")
    # The log first: a database without its log may look whole and be older than it was.
    log_file = path.with_name(path.name + _WAL)
    if log_file.exists():
        log_file.rename(aside.with_name(aside.name + _WAL))
    path.rename(aside)
    path.with_name(path.name + "-shm").unlink(missing_ok=True)
    for old in _kept_aside(path.parent)[:-kept]:
        _forget(old)
    sync_directory(path.parent)
    return aside


def _carry_over(aside: Path) -> Carried:
    """Read what still proves itself from a database kept aside. Never raises for what it finds there."""
    carried = Carried()
    try:
        conn = sqlite3.connect(f"{aside.absolute().as_uri()}?mode=ro", uri=True, isolation_level=None)
    except sqlite3.Error:
        return carried
    try:
        db = Database(conn, execute_plugins=False, recursive_triggers=False)
        # Nothing is written here; with this SQLite reads on where the file is shorter than its header says.
        db.execute("PRAGMA writable_schema=ON")
        _carry_parts(db, carried)
        outbox = carried.parts.get("outbox")
        acked_seq = 0
        if isinstance(outbox, Outbox):
            carried.store_id, acked_seq = outbox.store_id, outbox.acked_seq
        _carry_rows(db, carried, acked_seq, trips_only=not isinstance(outbox, Outbox))
    finally:
        conn.close()
        aside.with_name(aside.name + "-shm").unlink(missing_ok=True)
    return carried


def _carry_parts(db: Database, carried: Carried) -> None:
    with contextlib.suppress(sqlite3.Error, UnicodeError):
        for name, text, crc in db.execute("SELECT part, value, crc FROM state"):
            with contextlib.suppress(PartDamaged, TypeError):
                if isinstance(text, str) and known(name) and check(name, text) == crc:
                    carried.parts[name] = decode(name, text)


def _carry_rows(db: Database, carried: Carried, acked_seq: int, *, trips_only: bool) -> None:
    """Collect rows above ``acked_seq`` whose digest follows the digest before it."""
    rows: dict[int, tuple[Row, str, int]] = {}
    # From both ends: a page that cannot be read in the middle must not hide what is behind it.
    for select in (ROWS_ABOVE, ROWS_ABOVE_BACKWARDS):
        for found in _readable(db, select, acked_seq - 1):
            with contextlib.suppress(TypeError, ValueError):
                row = read_row(found)
                if row.seq in rows:
                    break
                rows[row.seq] = (row, str(found[7]), int(found[8]))
    digests = {0: GENESIS} | {seq: row.digest for seq, (row, _, _) in rows.items()}
    for seq in sorted(rows):
        row, _, rank = rows[seq]
        with contextlib.suppress(TypeError, ValueError):
            if seq <= acked_seq or not row.payload or seq - 1 not in digests:
                continue
            made = chain_digest(digests[seq - 1], seq, row.boot_epoch, row.at, row.payload)
            # Proven by its own digest, or, where that is what was damaged, by the row that follows.
            if made == row.digest or (seq + 1 in rows and rows[seq + 1][0].payload and chained(made, rows[seq + 1][0])):
                digests[seq] = made
                carried.last_seq = seq
                if rank == Rank.TRIP or not trips_only:
                    carried.rows.append(rows[seq])


def _readable(db: Database, sql: str, seq: int) -> Iterator[tuple[Any, ...]]:
    with contextlib.suppress(sqlite3.Error, UnicodeError):
        yield from db.execute(sql, (seq,))


def _restored(kept: Kept, side: SideFiles, carried: Carried) -> Kept:
    """Return the state after damage: beside the database first, then what could still be read in it."""
    found = join(carried.parts, kept.vehicle, kept.floor_s)
    if found.vehicle != kept.vehicle:
        found = kept
    floors, running = side.floors, side.running
    if carried.last_seq < running.last_seq or "rental" not in carried.parts:
        found = replace(found, rental=running.rental, ended=running.ended or found.ended)
    rental = found.rental
    trip = rental.trip.number if rental and rental.trip else 0
    # The list and the other floors are taken from beside the database at every start (``_load``).
    return replace(
        found,
        rentals=max(found.rentals, floors.rentals, rental.number if rental else 0),
        trips=max(found.trips, floors.trips, trip),
    )


def _build(path: Path, kept: Kept, carried: Carried, replacement: Replacement | None) -> None:
    """Make a whole new database at ``path`` and close it: it is renamed into place only when it is complete."""
    try:
        db = connect(path, create=True)
        with contextlib.closing(db), db.atomic():
            for name, part in split(kept).items():
                write_part(db, name, encode(name, part))
            if replacement:
                write_part(db, REPLACED, msgspec.json.encode(replacement).decode())
            previous = GENESIS
            for seq, (row, kind, rank) in enumerate(carried.rows, start=1):
                previous = chain_digest(previous, seq, row.boot_epoch, row.at, row.payload)
                insert_row(db, replace(row, seq=seq, digest=previous), kind, rank)
    except (sqlite3.Error, Damaged) as error:
        raise StoreFailed(f"no new database could be made: {error}. Look at the disk, then restart") from error
