"""Who makes room for whom when the store is full. Every bound of the store is in ``Limits``.

Rows have a rank. In this order they give way:
1. rows that the cloud has acknowledged, oldest first, are deleted;
2. expendable ones (positions, refusals) lose their payload, oldest first;
3. then ordinary ones (faults, charging) do;
4. then new expendable and ordinary records are refused, and counted.
A trip's records are never dropped before the cloud has them, and never refused: only the disk bounds them.

A row without its payload keeps its number, time and digest, so that the chain stays whole over the hole.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass
from enum import IntEnum
from typing import Final

import msgspec
from sqlite_utils import Database

from onboard.core import records as core
from onboard.core.clock import ClockQuality
from onboard.core.records import EXPENDABLE, Recordable
from onboard.store_schema import DROPPED, Anchor, write_part

TRIP_RECORDS: Final = (
    core.TripStarted,
    core.DoorReopened,
    core.EndRequested,
    core.TripEnded,
    core.RentalEnded,
    core.StoreReplaced,
)
ROW_BYTES: Final = 128
"""Room of a row beside its payload, measured with room to spare (72 bytes of columns, cell and page overhead)."""

BARE: Final = "seq, boot_epoch, boot_ms, wall_ms, quality, kind, rank, digest"
_SLICE: Final = 128
"""Rows that one step drops at a time: a step stays short."""


class Rank(IntEnum):
    """How long a record is held on to."""

    EXPENDABLE = 0
    ORDINARY = 1
    TRIP = 2


@dataclass(frozen=True, slots=True)
class Limits:
    """The bounds of the store. Rows are counted with those that lost their payload."""

    rows_max: int = 200_000
    """Ordinary records are refused from here on."""
    expendable_rows_max: int = 150_000
    """Expendable records are refused from here on."""
    bytes_max: int = 40 * 1024 * 1024
    """Payloads and ``ROW_BYTES`` a row. The file is a little larger."""
    part_bytes_max: int = 1024 * 1024
    """One part of the state, as text."""
    keep_acked_days: float = 30.0
    """Acknowledged rows stay this long for a technician, unless the room is needed."""
    reserve_bytes: int = 1024 * 1024
    damaged_kept: int = 3
    """Damaged databases kept aside, newest first."""


LIMITS: Final = Limits()


@dataclass(frozen=True, slots=True)
class Wanted:
    """A record that is to be written."""

    payload: bytes
    kind: str
    rank: Rank


def rank_of(record: Recordable) -> Rank:
    """Return how long ``record`` is held on to."""
    if isinstance(record, EXPENDABLE):
        return Rank.EXPENDABLE
    return Rank.TRIP if isinstance(record, TRIP_RECORDS) else Rank.ORDINARY


class Room:
    """Counts what the table holds and makes room in it, inside a transaction; ``back`` undoes the counts."""

    def __init__(self, db: Database, limits: Limits, anchor: Anchor, counts: Counter[str]) -> None:
        self._db = db
        self._limits = limits
        self._counts = counts
        self.anchor = anchor
        self.rows, self.bytes = (
            int(number)
            for number in db.execute("SELECT COUNT(*), COALESCE(SUM(LENGTH(payload)), 0) FROM events").fetchone()
        )
        self.bytes += self.rows * ROW_BYTES
        # Below these numbers there is no payload of that rank left to drop.
        self._searched = {Rank.EXPENDABLE: 0, Rank.ORDINARY: 0}

    def mark(self) -> tuple[int, int, Anchor, dict[Rank, int]]:
        """Return the counts, for ``back``."""
        return self.rows, self.bytes, self.anchor, dict(self._searched)

    def back(self, marked: tuple[int, int, Anchor, dict[Rank, int]]) -> None:
        """Take the counts back: the transaction did not happen."""
        self.rows, self.bytes, self.anchor, self._searched = marked

    def admit(self, wanted: Sequence[Wanted], acked_seq: int, *, on_reserve: bool) -> list[Wanted]:
        """Make room, and return those of ``wanted`` that may be written."""
        need = sum(len(one.payload) + ROW_BYTES for one in wanted)
        limits = self._limits
        while self._over(len(wanted), need) and self._delete_acked(acked_seq):
            pass
        for rank in (Rank.EXPENDABLE, Rank.ORDINARY):
            # A record makes room among those of its own rank and below.
            need = sum(len(one.payload) + ROW_BYTES for one in wanted if one.rank >= rank)
            while need and self.bytes + need > limits.bytes_max and self._empty(rank):
                pass
        admitted = []
        for one in wanted:
            size = len(one.payload) + ROW_BYTES
            if one.rank is Rank.TRIP or not (
                (on_reserve and one.rank is Rank.EXPENDABLE)
                or self.bytes + size > limits.bytes_max
                or self.rows >= (limits.expendable_rows_max if one.rank is Rank.EXPENDABLE else limits.rows_max)
            ):
                self.rows += 1
                self.bytes += size
                admitted.append(one)
            else:
                self._counts[f"no_room:{one.kind}"] += 1
        return admitted

    def expire(self, acked_seq: int, now_wall_s: float) -> None:
        """Delete a slice of the acknowledged rows, as far as they are older than ``keep_acked_days``.

        A row is as old as a later one at least. Written without a good clock it proves no age, for it carries a time
        before its own; written under a sky that ran ahead it waits for a later one.
        """
        until_ms = round((now_wall_s - self._limits.keep_acked_days * 86400) * 1000)
        found = self._db.execute(
            "SELECT MAX(seq) FROM (SELECT seq, wall_ms, quality FROM events WHERE seq < ? ORDER BY seq LIMIT ?)"
            " WHERE wall_ms < ? AND quality >= ?",
            (acked_seq, _SLICE, until_ms, int(ClockQuality.GNSS)),
        ).fetchone()[0]
        if found is not None:
            self._delete_to(int(found))

    def _over(self, rows: int, size: int) -> bool:
        return self.rows + rows > self._limits.expendable_rows_max or self.bytes + size > self._limits.bytes_max

    def _delete_acked(self, acked_seq: int) -> bool:
        # The acknowledged row itself stays: the next batch follows it.
        found = self._db.execute(
            "SELECT MAX(seq) FROM (SELECT seq FROM events WHERE seq < ? ORDER BY seq LIMIT ?)", (acked_seq, _SLICE)
        ).fetchone()[0]
        if found is None:
            return False
        self._delete_to(int(found))
        return True

    def _delete_to(self, seq: int) -> None:
        rows, size = self._db.execute(
            "SELECT COUNT(*), SUM(LENGTH(payload)) FROM events WHERE seq <= ?", (seq,)
        ).fetchone()
        digest = self._db.execute("SELECT digest FROM events WHERE seq = ?", (seq,)).fetchone()[0]
        self._db.execute("DELETE FROM events WHERE seq <= ?", (seq,))
        self.anchor = Anchor(seq, digest)
        write_part(self._db, DROPPED, msgspec.json.encode(self.anchor).decode())
        self.rows -= rows
        self.bytes -= size + rows * ROW_BYTES
        self._counts["dropped_acknowledged"] += rows

    def _empty(self, rank: Rank) -> bool:
        found = self._db.execute(
            "SELECT LENGTH(payload), seq, boot_epoch, boot_ms, wall_ms, quality, kind, rank, digest FROM events"
            " WHERE seq > ? AND rank = ? AND LENGTH(payload) > 0 ORDER BY seq LIMIT ?",
            (self._searched[rank], int(rank), _SLICE),
        ).fetchall()
        if not found:
            newest = self._db.execute("SELECT MAX(seq) FROM events").fetchone()[0]
            self._searched[rank] = newest or 0
            return False
        for size, seq, *bare in found:
            # Taken out and put back: SQLite joins half-empty pages only when a row goes, so the file would still grow.
            self._db.execute("DELETE FROM events WHERE seq = ?", (seq,))
            self._db.execute(
                "INSERT INTO events (seq, boot_epoch, boot_ms, wall_ms, quality, kind, rank, digest, payload)"
                " VALUES (?, ?, ?, ?, ?, ?, ?, ?, x'')",
                (seq, *bare),
            )
            self._searched[rank] = seq
            self.bytes -= size
        self._counts[f"dropped_for_room:{rank.name.lower()}"] += len(found)
        return True
