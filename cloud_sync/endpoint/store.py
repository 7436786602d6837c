"""The endpoint's database: every write is one transaction, and a message that comes twice changes nothing.

A box's rows are stored as they came, chained by digest. A row that is already held with another digest, or that does
not link to its neighbours, means that the box was cloned or restored from an old copy: the batch is kept as an alarm,
nothing is overwritten and nothing is acknowledged, so that the box keeps its rows until a person has looked.
"""

from __future__ import annotations

import json
import threading
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import asdict
from pathlib import Path
from typing import Any, Final

from sqlalchemy import Connection, Row, delete, func, insert, select, text, update

from cloud_sync.documents import GENESIS, EventBatch, Status
from cloud_sync.endpoint import derive, tables, tables_box, tariff
from cloud_sync.endpoint.dialect import insert_new, make_engine, upsert
from cloud_sync.endpoint.messages import Box, ListRow, LogPlace, StatusResult, Taken

RESEND_EVERY_S: Final = 30.0
"""A gap is asked for again after this long; the box answers within a second or is away."""

STALLED_S: Final = 150.0
"""A box that has rows for us sends some at least this often: its first repetition comes after a minute."""

ALARMS_MAX: Final = 10_000
"""More alarms of one vehicle are not kept: by then nobody needs another one."""

LISTS_KEPT: Final = 50
BOOTS_KEPT: Final = 1000

_SCHEMA: Final = str(tables.SCHEMA_VERSION)


class StoreError(Exception):
    """The database can't be used; the text says why and what to do."""


def sqlite_url(path: Path) -> str:
    """Return the URL of a database file."""
    return f"sqlite:///{path}"


class Store:
    """All tables behind one engine. Safe to use from several threads; writes take turns."""

    def __init__(self, url: str) -> None:
        """Open the database at an SQLAlchemy URL; make what it lacks. StoreError if a newer version wrote it."""
        self._engine = make_engine(url)
        self._turn = threading.Lock()
        with self.write() as db:
            tables.METADATA.create_all(db)
            version = db.scalar(select(tables.meta.c.value).where(tables.meta.c.key == "schema"))
            if db.scalar(select(func.count()).select_from(tables.tariffs)) == 0:
                db.execute(insert(tables.tariffs).values(asdict(tariff.FIRST)))
            if version is None:
                db.execute(insert(tables.meta).values(key="schema", value=_SCHEMA))
            elif version in tables.OLDER:
                if version != "5":
                    new = tables.lists.c.signed_by
                    db.execute(text(f"ALTER TABLE lists ADD COLUMN {new.name} {new.type.compile(db.dialect)}"))
                db.execute(update(tables.meta).where(tables.meta.c.key == "schema").values(value=_SCHEMA))
            elif version != _SCHEMA:
                raise StoreError(
                    f"the database has schema {version}, this version knows {tables.SCHEMA_VERSION}: install the one "
                    "that wrote it. Nothing was changed."
                )

    def close(self) -> None:
        """Close every connection."""
        self._engine.dispose()

    @contextmanager
    def write(self) -> Iterator[Connection]:
        """Give a connection in a transaction that commits at the end, or leaves no trace if an exception passes."""
        with self._turn, self._engine.connect() as db:
            db = db.execution_options(amibox_write=True)  # noqa: PLW2901  (the same connection, told to lock early)
            with db.begin():
                yield db

    @contextmanager
    def read(self) -> Iterator[Connection]:
        """Give a connection that sees one state of the database."""
        with self._engine.connect() as db, db.begin():
            yield db

    # Boxes and key sets

    def add_box(self, box: Box, now_s: int) -> None:
        """Remember a box's public keys. StoreError if the vehicle has a box already."""
        with self.write() as db:
            if not insert_new(db, tables.boxes, [{**asdict(box), "added_s": now_s}], tables.boxes.c.vehicle):
                raise StoreError(f"{box.vehicle} has a box already. Choose another name; nothing was changed.")

    def boxes(self) -> tuple[Box, ...]:
        """Return every box, by name."""
        with self.read() as db:
            rows = db.execute(select(tables.boxes).where(tables_box.IN_A_CAR).order_by(tables.boxes.c.vehicle))
            return tuple(Box(row.vehicle, row.signing_public, row.agreement_public) for row in rows)

    def box(self, vehicle: str) -> Box | None:
        """Return one box, or None."""
        with self.read() as db:
            row = db.execute(select(tables.boxes).where(tables_box.IN_A_CAR, tables.boxes.c.vehicle == vehicle)).first()
        return None if row is None else Box(row.vehicle, row.signing_public, row.agreement_public)

    # What the boxes send

    def take_batch(self, batch: EventBatch, now_s: float) -> Taken:
        """Store a verified batch; commits before it returns. The same batch again changes nothing."""
        with self.write() as db:
            strangers = _strangers(db, batch)
            if strangers:
                _raise_alarms(db, batch, strangers, now_s)
                return Taken(0, LogPlace(0, GENESIS), None, alarm=True)
            new = _insert_rows(db, batch, now_s)
            for row in batch.rows:
                trouble = derive.apply(db, batch.vehicle, batch.store_id, row, now_s) if row.seq in new else None
                if trouble is not None:
                    note_alarm(db, batch.vehicle, *trouble, now_s, batch.store_id, row.seq, row.digest)
            place, resend_from = _advance(db, batch, now_s)
            return Taken(len(new), place, resend_from, alarm=False)

    def take_status(self, status: Status, now_s: float) -> StatusResult:
        """Keep a verified status if it is the newest of the box's present boot."""
        table = tables.statuses
        with self.write() as db:
            held = db.execute(select(table).where(table.c.vehicle == status.vehicle)).one_or_none()
            if held is not None and held.boot_epoch == status.boot_epoch:
                if status.status_seq <= held.status_seq:
                    return StatusResult.STALE
            elif not _first_boot(db, status.vehicle, status.boot_epoch, now_s):
                return StatusResult.STALE
            values = {
                "vehicle": status.vehicle,
                "boot_epoch": status.boot_epoch,
                "status_seq": status.status_seq,
                "received_s": now_s,
                "online": True,
                "list_version": status.list_version,
                "fields": json.dumps(_status_fields(status), sort_keys=True),
            }
            upsert(db, table, values, table.c.vehicle)
            if status.parked_at is not None:
                derive.place(db, status.vehicle, now_s, status.parked_at, "parked")
            return StatusResult.NEW

    def take_offline(self, vehicle: str, boot_epoch: bytes) -> StatusResult:
        """The broker says that the box's connection ended; believed only of the boot that is the newest."""
        table = tables.statuses
        with self.write() as db:
            changed = db.execute(
                update(table)
                .where(table.c.vehicle == vehicle, table.c.boot_epoch == boot_epoch, table.c.online)
                .values(online=False)
            ).rowcount
        return StatusResult.NEW if changed else StatusResult.STALE

    def alarm(self, vehicle: str, kind: str, detail: str, now_s: float) -> None:
        """Note something that a person must look at; once for each vehicle, kind and detail."""
        with self.write() as db:
            note_alarm(db, vehicle, kind, detail, now_s)

    # Lists

    def last_list(self, vehicle: str) -> ListRow | None:
        """Return the newest reservation list of a car."""
        with self.read() as db:
            return last_list(db, vehicle)


def last_list(db: Connection, vehicle: str) -> ListRow | None:
    """Return the newest reservation list of a car, as the transaction sees it."""
    table = tables.lists
    row = db.execute(
        select(table).where(table.c.vehicle == vehicle).order_by(table.c.version.desc()).limit(1)
    ).one_or_none()
    return None if row is None else ListRow(row.vehicle, row.version, row.issued_s, row.document, row.signed_by)


def log_place(db: Connection, vehicle: str, store_id: bytes) -> tuple[LogPlace, bool]:
    """Return how far a box's log is held without a gap, and whether rows beyond that are held: then some are missing.

    A log that nothing is held of stands at 0.
    """
    table = tables.logs
    row = db.execute(select(table).where(table.c.vehicle == vehicle, table.c.store_id == store_id)).one_or_none()
    if row is None:
        return LogPlace(0, GENESIS), False
    return LogPlace(row.up_to_seq, row.digest), row.highest_seq > row.up_to_seq


def stalled_from(db: Connection, status: Status, now_s: float) -> int | None:
    """Return from where on a box's rows are missing here though nothing of them is on its way; None if all is well.

    After this database was restored from an older copy the box knows all that it wrote to be acknowledged, and sends
    nothing by itself.
    """
    place, _ = log_place(db, status.vehicle, status.store_id)
    if place.up_to_seq >= status.up_to_seq:
        return None
    table, boots = tables.events, tables.boots
    mine = (table.c.vehicle == status.vehicle, table.c.store_id == status.store_id)
    came_s = db.scalar(select(func.max(table.c.received_s)).where(*mine, table.c.seq >= place.up_to_seq))
    boot = (boots.c.vehicle == status.vehicle, boots.c.boot_epoch == status.boot_epoch)
    since_s = max(came_s or 0.0, db.scalar(select(boots.c.first_seen_s).where(*boot)) or 0.0)
    return None if 0 <= now_s - since_s < STALLED_S else place.up_to_seq + 1


def newest_store(db: Connection, vehicle: str) -> bytes | None:
    """Return the store whose acknowledged end came last; None while nothing of the car can be acknowledged."""
    log, events = tables.logs, tables.events
    same = (events.c.vehicle == log.c.vehicle) & (events.c.store_id == log.c.store_id)
    ends = select(log.c.store_id).join(events, same & (events.c.seq == log.c.up_to_seq))
    return db.scalar(ends.where(log.c.vehicle == vehicle).order_by(events.c.id.desc()).limit(1))


def save_list(db: Connection, row: ListRow) -> None:
    """Keep a list in a transaction that is under way, and drop the oldest ones."""
    table = tables.lists
    db.execute(insert(table).values({each.name: getattr(row, each.name) for each in table.columns}))
    kept = select(table.c.version).where(table.c.vehicle == row.vehicle).order_by(table.c.version.desc())
    db.execute(delete(table).where(table.c.vehicle == row.vehicle, table.c.version.not_in(kept.limit(LISTS_KEPT))))


def note_alarm(  # noqa: PLR0913, PLR0917  (the columns of a row)
    db: Connection,
    vehicle: str,
    kind: str,
    detail: str,
    now_s: float,
    store_id: bytes = b"",
    seq: int = 0,
    digest: bytes = b"",
    payload: bytes = b"",
) -> None:
    """Write an alarm in a transaction that is under way; the same one again changes nothing."""
    table = tables.alarms
    if (db.scalar(select(func.count()).select_from(table).where(table.c.vehicle == vehicle)) or 0) >= ALARMS_MAX:
        return
    values = {
        "vehicle": vehicle,
        "kind": kind,
        "store_id": store_id,
        "seq": seq,
        "digest": digest,
        "at_s": now_s,
        "detail": detail,
        "payload": payload,
    }
    insert_new(db, table, [values], table.c.vehicle, table.c.kind, table.c.store_id, table.c.seq, table.c.digest)


def _status_fields(status: Status) -> dict[str, Any]:
    return {
        "state": status.state,
        "since_s": status.since_s,
        "charging": status.charging.value,
        "door": status.door,
        "soc_pct": status.soc_pct,
        "range_m": status.range_m,
        "supply_v": status.supply_v,
        "faults": list(status.faults),
        "software": status.software,
        "clock_quality": status.clock_quality.name.lower(),
        "key_set_version": status.key_set_version,
        "boot_s": status.boot_s,
        "health": asdict(status.health) if status.health is not None else None,
    }


def _log_rows(db: Connection, batch: EventBatch, first: int, last: int) -> Sequence[Row[Any, Any, Any]]:
    table = tables.events
    return db.execute(
        select(table.c.seq, table.c.previous, table.c.digest).where(
            table.c.vehicle == batch.vehicle,
            table.c.store_id == batch.store_id,
            table.c.seq.between(first, last),
        )
    ).all()


def _strangers(db: Connection, batch: EventBatch) -> dict[int, str]:
    """Return the numbers of rows that contradict what is held, and how."""
    first, last = batch.rows[0].seq, batch.rows[-1].seq
    held = {row.seq: row for row in _log_rows(db, batch, first - 1, last + 1)}
    found = {
        row.seq: "another row is held under this number"
        for row in batch.rows
        if row.seq in held and held[row.seq].digest != row.digest
    }
    before = GENESIS if first == 1 else held[first - 1].digest if first - 1 in held else batch.prev_digest
    if before != batch.prev_digest:
        found.setdefault(first, "doesn't follow the row that is held before it")
    if last + 1 in held and held[last + 1].previous != batch.rows[-1].digest:
        found.setdefault(last, "the row that is held after it doesn't follow it")
    return found


def _raise_alarms(db: Connection, batch: EventBatch, strangers: dict[int, str], now_s: float) -> None:
    for row in batch.rows:
        if row.seq in strangers:
            detail = f"row {row.seq}: {strangers[row.seq]}. Box cloned, or its card restored from a copy?"
            place = (batch.store_id, row.seq, row.digest, row.payload)
            note_alarm(db, batch.vehicle, "log_forked", detail, now_s, *place)


def _insert_rows(db: Connection, batch: EventBatch, now_s: float) -> frozenset[int]:
    """Insert what is not held yet; return its numbers."""
    previous = (batch.prev_digest, *(row.digest for row in batch.rows))
    values = [
        {
            "vehicle": batch.vehicle,
            "store_id": batch.store_id,
            "seq": row.seq,
            "previous": before,
            "digest": row.digest,
            "boot_epoch": row.boot_epoch,
            "boot_s": row.at.boot_s,
            "wall_s": row.at.wall_s,
            "quality": int(row.at.quality),
            "payload": row.payload,
            "kind": derive.kind_of(row.payload),
            "received_s": now_s,
        }
        for row, before in zip(batch.rows, previous, strict=False)
    ]
    table = tables.events
    key = (table.c.vehicle, table.c.store_id, table.c.seq)
    return frozenset(row.seq for row in insert_new(db, table, values, *key))


def _advance(db: Connection, batch: EventBatch, now_s: float) -> tuple[LogPlace, int | None]:
    """Return how far the log is held without a gap, and the number to ask again from, if it is time to."""
    log, table = tables.logs, tables.events
    mine = (log.c.vehicle == batch.vehicle, log.c.store_id == batch.store_id)
    known = db.execute(select(log).where(*mine)).one_or_none()
    place = LogPlace(0, GENESIS) if known is None else LogPlace(known.up_to_seq, known.digest)
    asked_s = 0.0 if known is None else known.resend_asked_s
    highest = max(batch.rows[-1].seq, 0 if known is None else known.highest_seq)
    if batch.oldest and place.up_to_seq + 1 < batch.from_seq:
        # Acknowledged once, and this database was restored from a copy older than boxes keep rows.
        first, place = place.up_to_seq + 1, LogPlace(batch.from_seq - 1, batch.prev_digest)
        detail = f"rows {first} to {place.up_to_seq} are on the box no more, nor here: what was driven then is lost"
        note_alarm(db, batch.vehicle, "rows_gone", detail, now_s, batch.store_id, place.up_to_seq, place.digest)
    ahead = (
        select(table.c.seq, table.c.digest)
        .where(table.c.vehicle == batch.vehicle, table.c.store_id == batch.store_id, table.c.seq > place.up_to_seq)
        .order_by(table.c.seq)
    )
    for row in db.execute(ahead):
        if row.seq != place.up_to_seq + 1:
            break
        place = LogPlace(row.seq, row.digest)
    ask = highest > place.up_to_seq and not 0 <= now_s - asked_s < RESEND_EVERY_S
    values = {
        "vehicle": batch.vehicle,
        "store_id": batch.store_id,
        "up_to_seq": place.up_to_seq,
        "digest": place.digest,
        "highest_seq": highest,
        "resend_asked_s": now_s if ask else asked_s,
    }
    upsert(db, log, values, log.c.vehicle, log.c.store_id)
    return place, place.up_to_seq + 1 if ask else None


def _first_boot(db: Connection, vehicle: str, boot_epoch: bytes, now_s: float) -> bool:
    """Note a boot; False if the box has reported from it before, and from another one since."""
    table = tables.boots
    values = {"vehicle": vehicle, "boot_epoch": boot_epoch, "first_seen_s": now_s}
    if not insert_new(db, table, [values], table.c.vehicle, table.c.boot_epoch):
        return False
    kept = select(table.c.boot_epoch).where(table.c.vehicle == vehicle).order_by(table.c.first_seen_s.desc())
    db.execute(delete(table).where(table.c.vehicle == vehicle, table.c.boot_epoch.not_in(kept.limit(BOOTS_KEPT))))
    return True
