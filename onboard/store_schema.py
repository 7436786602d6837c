"""The database file: its tables, how it is opened, and what makes it unfit.

``sqlite-utils`` owns tables and migrations. Migrations only add, so that the version before still reads and writes the
file: an update that does not get through its trial gives way to that one, with all that was written meanwhile.
"""

from __future__ import annotations

import errno
import sqlite3
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Final

import msgspec
from sqlite_utils import Database
from sqlite_utils.migrations import Migrations

from cloud_sync.documents.records import GENESIS, Row, chain_digest
from onboard.core.clock import ClockQuality, Instant
from onboard.store_parts import check

MIGRATIONS: Final = Migrations("amibox")

SETTINGS: Final = (
    # Exclusive before WAL: no shared-memory file, nobody else can write, and SQLite's WAL-reset bug needs two writers.
    ("locking_mode", "EXCLUSIVE"),
    ("journal_mode", "WAL"),
    ("synchronous", "FULL"),
    ("foreign_keys", "ON"),
    ("cell_size_check", "ON"),
    ("trusted_schema", "OFF"),
    # A large transaction must not leave a large log behind for ever.
    ("journal_size_limit", str(4 * 1024 * 1024)),
)
REQUIRED: Final = {"locking_mode": "exclusive", "journal_mode": "wal", "synchronous": 2, "foreign_keys": 1}
"""What must be read back. Any weaker setting was seen to lose acknowledged commits at a power cut."""

KNOWN_MIGRATIONS: Final = ("create_state_and_events",)

EXPANDS: Final = "expand_"
"""How the name of every later migration begins that leaves the version before at work: new tables, and columns at the
end that need no value. Another one must wait until no box can go back behind it."""

COLUMNS: Final = {
    "state": ["part", "value", "crc"],
    "events": ["seq", "boot_epoch", "boot_ms", "wall_ms", "quality", "kind", "rank", "payload", "digest"],
}
LOCK_WAIT_S: Final = 0.5

_DAMAGE: Final = frozenset(
    {
        sqlite3.SQLITE_CORRUPT,
        sqlite3.SQLITE_NOTADB,
        sqlite3.SQLITE_ERROR,
        sqlite3.SQLITE_FORMAT,
        sqlite3.SQLITE_MISMATCH,
        sqlite3.SQLITE_CONSTRAINT,
        sqlite3.SQLITE_TOOBIG,
    }
)


DROPPED: Final = "store.dropped"
REPLACED: Final = "store.replaced"
"""Parts of the state that are the store's own."""


@dataclass(frozen=True, slots=True)
class Anchor:
    """The last row that was dropped whole: the chain of those kept begins at it."""

    seq: int = 0
    digest: bytes = GENESIS


@dataclass(frozen=True, slots=True)
class Replacement:
    """Which store this one took the place of, and why. Kept until the core has written it down."""

    previous: bytes
    reason: str


class StoreFailed(Exception):  # noqa: N818 - says what happened, as all errors here
    """The store cannot go on: stop the process, start it again, let it read anew. Never retried.

    Raised by ``commit``, the step may or may not be on disk; what is there at the next start is the truth.
    """


class StoreLocked(StoreFailed):
    """Another process has the database open. Nothing was read or written."""


class StoreUnreadable(StoreFailed):
    """The disk did not give the file's bytes. It may pass by itself: nothing was changed."""


class StoreTooNew(StoreFailed):
    """A newer version of the software wrote this database. Nothing was changed."""


class Damaged(Exception):  # noqa: N818 - a verdict on a file
    """The file is not a database of ours that can be relied on; the text says why."""


@MIGRATIONS()
def create_state_and_events(db: Database) -> None:
    """Tables of version 0.1."""
    db.execute("CREATE TABLE state (part TEXT PRIMARY KEY, value TEXT NOT NULL, crc INTEGER NOT NULL) STRICT")
    db.execute(
        "CREATE TABLE events (seq INTEGER PRIMARY KEY, boot_epoch BLOB NOT NULL, boot_ms INTEGER NOT NULL,"
        " wall_ms INTEGER NOT NULL, quality INTEGER NOT NULL, kind TEXT NOT NULL, rank INTEGER NOT NULL,"
        " payload BLOB NOT NULL, digest BLOB NOT NULL) STRICT"
    )


def connect(path: Path, *, create: bool) -> Database:
    """Open ``path`` with the settings above, its schema checked and brought up to date.

    Raises ``StoreLocked``, ``StoreTooNew``, ``StoreFailed`` (settings not taken, file not reachable), ``Damaged``, or
    ``sqlite3.Error``, which ``meaning_of`` explains.
    """
    conn = sqlite3.connect(
        f"{path.absolute().as_uri()}?mode={'rwc' if create else 'rw'}",
        uri=True,
        isolation_level=None,
        timeout=LOCK_WAIT_S,
    )
    try:
        # Plugins are somebody else's code in our writer; recursive triggers are for a schema that has triggers.
        db = Database(conn, execute_plugins=False, recursive_triggers=False)
        for name, value in SETTINGS:
            if name == "journal_mode" and not create:
                # Before the first write of all: a file that is not ours stays as it is.
                _check_migrations(db)
            db.execute(f"PRAGMA {name}={value}")
        check_settings(db)
        MIGRATIONS.apply(db)
        _check_columns(db)
    except BaseException:
        conn.close()
        raise
    return db


def check_settings(db: Database) -> None:
    """Raise ``StoreFailed`` if a required setting is not in force."""
    for name, wanted in REQUIRED.items():
        found = db.execute(f"PRAGMA {name}").fetchone()[0]
        if found != wanted:
            raise StoreFailed(f"SQLite did not take {name}={wanted} (it says {found}): a power cut would lose trips")


def _check_migrations(db: Database) -> None:
    """Raise ``Damaged`` or ``StoreTooNew`` if the file is not one that this version can bring up to date."""
    applied = [migration.name for migration in MIGRATIONS.applied(db)]
    # sqlite-utils passes over applied names that it does not know: a downgrade would go unnoticed.
    beyond = [name for name in applied if name not in KNOWN_MIGRATIONS]
    # A newer version has all of ours and more; one of ours gone is damage, say a flipped letter in its name.
    if beyond and not set(KNOWN_MIGRATIONS) <= set(applied):
        raise Damaged(f"wrong schema: its migrations are {', '.join(applied)}")
    if unknown := [name for name in beyond if not name.startswith(EXPANDS)]:
        raise StoreTooNew(
            f"the database was written by a newer version (it knows {', '.join(unknown)}). Install that version again;"
            " the file was not touched"
        )
    if not applied:
        raise Damaged("wrong schema: the file is a database, but not ours")


def _check_columns(db: Database) -> None:
    for table, columns in COLUMNS.items():
        found = [row[1] for row in db.execute(f"PRAGMA table_info({table})")]
        if found[: len(columns)] != columns:
            raise Damaged(f"wrong schema: table {table} has columns {found}")


def meaning_of(error: sqlite3.Error) -> Exception:
    """Return the ``Damaged``, ``StoreLocked`` or ``StoreFailed`` that an error of SQLite stands for while opening."""
    code = getattr(error, "sqlite_errorcode", sqlite3.SQLITE_CORRUPT)
    name = getattr(error, "sqlite_errorname", "unreadable text")
    if code & 0xFF in {sqlite3.SQLITE_BUSY, sqlite3.SQLITE_LOCKED}:
        return StoreLocked(
            "another process has the database open (is the daemon running already, or a database shell?). Stop it, or"
            " read through the daemon; work on a copy made by `amibox store copy`"
        )
    if code & 0xFF in _DAMAGE or code == sqlite3.SQLITE_IOERR_SHORT_READ:
        return Damaged(f"{error} ({name})")
    if code in {sqlite3.SQLITE_IOERR_READ, sqlite3.SQLITE_IOERR}:
        return StoreUnreadable(f"the disk does not give the database's bytes: {error} ({name}). Replace the card soon")
    return StoreFailed(f"the database cannot be opened: {error} ({name}). Look at the disk and its mount, then restart")


def is_full(error: BaseException) -> bool:
    """Whether the disk is full: SQLite rolled back cleanly, so that after making room it may be tried again."""
    if isinstance(error, sqlite3.Error):
        return getattr(error, "sqlite_errorcode", None) == sqlite3.SQLITE_FULL
    return isinstance(error, OSError) and error.errno in {errno.ENOSPC, errno.EDQUOT}


def insert_row(db: Database, row: Row, kind: str, rank: int) -> None:
    """Append a row; its time must be whole milliseconds (``whole_ms``)."""
    db.execute(
        "INSERT INTO events (seq, boot_epoch, boot_ms, wall_ms, quality, kind, rank, payload, digest)"
        " VALUES (?, ?, ?, ?, ?, ?, ?, ?, ?)",
        (
            row.seq,
            row.boot_epoch,
            round(row.at.boot_s * 1000),
            round(row.at.wall_s * 1000),
            int(row.at.quality),
            kind,
            rank,
            row.payload,
            row.digest,
        ),
    )


def whole_ms(at: Instant) -> Instant:
    """Return ``at`` as the table keeps it."""
    return Instant(round(at.boot_s * 1000) / 1000, round(at.wall_s * 1000) / 1000, at.quality)


ROWS_BETWEEN: Final = (
    "SELECT seq, boot_epoch, boot_ms, wall_ms, quality, payload, digest FROM events"
    " WHERE seq BETWEEN ? AND ? ORDER BY seq"
)
ROWS_ABOVE: Final = (
    "SELECT seq, boot_epoch, boot_ms, wall_ms, quality, payload, digest, kind, rank FROM events"
    " WHERE seq > ? ORDER BY seq"
)
ROWS_ABOVE_BACKWARDS: Final = ROWS_ABOVE + " DESC"


def read_row(found: tuple[Any, ...]) -> Row:
    """Return the ``Row`` of a SELECT's first seven columns. Raises ``ValueError`` or ``TypeError`` on damage."""
    seq, boot_epoch, boot_ms, wall_ms, quality, payload, digest = found[:7]
    return Row(seq, boot_epoch, Instant(boot_ms / 1000, wall_ms / 1000, ClockQuality(quality)), payload, digest)


def chained(previous: bytes, row: Row) -> bool:
    """Whether ``row`` follows ``previous``. A row without a payload was dropped: its digest stands as it is."""
    return not row.payload or row.digest == chain_digest(previous, row.seq, row.boot_epoch, row.at, row.payload)


def write_part(db: Database, name: str, text: str) -> None:
    """Write one part of the state."""
    db.execute(
        "INSERT INTO state (part, value, crc) VALUES (?, ?, ?)"
        " ON CONFLICT (part) DO UPDATE SET value = excluded.value, crc = excluded.crc",
        (name, text, check(name, text)),
    )


def read_texts(db: Database) -> dict[str, str]:
    """Return the text of every part of the state. Raises ``Damaged`` where one is not what was written."""
    texts: dict[str, str] = {}
    for name, text, crc in db.execute("SELECT part, value, crc FROM state"):
        if check(name, text) != crc:
            raise Damaged(f"state part {name} is not what was written (checksum)")
        texts[name] = text
    return texts


def anchor_of(texts: dict[str, str]) -> Anchor:
    """Return where the chain of the kept rows begins."""
    return msgspec.json.decode(texts[DROPPED], type=Anchor) if DROPPED in texts else Anchor()


def first_break(db: Database, anchor: Anchor, after_seq: int) -> int | None:
    """Return the first row above ``after_seq`` that does not follow the one before it, None if all do."""
    seq, previous = anchor.seq, anchor.digest
    if after_seq > anchor.seq:
        found = db.execute("SELECT digest FROM events WHERE seq = ?", (after_seq,)).fetchone()
        if found is None:
            return after_seq
        seq, previous = after_seq, found[0]
    for found in db.execute(ROWS_ABOVE, (seq,)):
        try:
            row = read_row(found)
            if row.seq != seq + 1 or not chained(previous, row):
                return row.seq
        except (TypeError, ValueError):
            return seq + 1
        seq, previous = row.seq, row.digest
    return None
