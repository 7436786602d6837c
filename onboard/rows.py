"""Rows of the store for a technician's eyes: what happened and when, without who drove and where."""

from __future__ import annotations

import contextlib
import sqlite3
from dataclasses import fields
from enum import Enum
from pathlib import Path
from typing import Any, Final

from cloud_sync.documents import Refused
from cloud_sync.documents.records import UnknownRecord, decode_record, record_kind

PRIVATE: Final = frozenset({"reservation", "driver", "latitude", "longitude", "points", "uid"})
"""Fields that name or place a person: never shown here."""
ROWS_MAX: Final = 100
_LOOK: Final = "SELECT seq, wall_ms, payload FROM events ORDER BY seq DESC LIMIT ?"


def plain_row(seq: int, wall_s: float, payload: bytes) -> dict[str, Any]:
    """Return one row as JSON can hold it. A row that was dropped, or does not read, says so."""
    shown: dict[str, Any] = {"seq": seq, "wall_s": round(wall_s)}
    try:
        record = decode_record(payload) if payload else None
    except Refused:
        return {**shown, "kind": "unreadable", "says": {}}
    if record is None or isinstance(record, UnknownRecord):
        return {**shown, "kind": "dropped" if record is None else "unknown", "says": {}}
    says = {each.name: _plain(getattr(record, each.name)) for each in fields(record) if each.name not in PRIVATE}
    return {**shown, "kind": record_kind(record), "says": says}


def rows_of_dead(database: Path, last: int) -> list[dict[str, Any]]:
    """Return the last rows of a store that nobody has open, oldest first; it is opened read-only and left as it is.

    Raises ``OSError`` with the reason: it is locked by a daemon that hangs, missing, or damaged.
    """
    shared = database.with_name(database.name + "-shm")
    existed = shared.exists()
    try:
        with contextlib.closing(
            sqlite3.connect(f"{database.absolute().as_uri()}?mode=ro", uri=True, timeout=0.2)
        ) as db:
            found = db.execute(_LOOK, (min(last, ROWS_MAX),)).fetchall()
    except sqlite3.Error as error:
        raise OSError(str(error)) from error
    finally:
        if not existed:
            shared.unlink(missing_ok=True)
    return [plain_row(seq, wall_ms / 1000, payload) for seq, wall_ms, payload in reversed(found)]


def _plain(value: object) -> Any:
    if isinstance(value, Enum):
        return value.value
    if isinstance(value, bytes):
        return value.hex()
    return list(value) if isinstance(value, tuple) else value
