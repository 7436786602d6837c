"""Trips, rentals and places out of the box's records, in the transaction that stores them.

Rows may come late and out of order: an end may stand before its start. A box whose database was damaged goes on under a
new store id, with the old numbers, and sends again what it did not know acknowledged: ``StoreReplaced`` joins the two.
"""

from __future__ import annotations

from dataclasses import fields
from enum import Enum
from typing import Any, Final

from sqlalchemy import Connection, Table, and_, delete, insert, select, update

from cloud_sync.documents import Refused, Row, UnknownRecord, decode_record, record_kind
from cloud_sync.endpoint import capture, charges, tables
from cloud_sync.endpoint.dialect import insert_new, upsert
from onboard.core.records import (
    Alert,
    CardCaptured,
    Parked,
    Recordable,
    RentalEnded,
    StoreReplaced,
    Track,
    TripEnded,
    TripStarted,
)

DROPPED: Final = "dropped"
"""Kind of a row whose content the box dropped for room; its place in the chain is kept."""

UNKNOWN: Final = "unknown"
"""Kind of a row that this version can't read: a newer box wrote it. Kept as it is."""

PER_DEGREE: Final = 100_000
"""Units of a track's points in a degree."""

PRIVATE: Final = frozenset({"driver", "credential", "points", "latitude", "longitude", "uid"})
"""Fields that a timeline doesn't show: who it was, and where."""


def read(payload: bytes) -> Recordable | UnknownRecord | None:
    """Return the record, ``UnknownRecord`` for one that only a newer version can read, None for a dropped one."""
    if not payload:
        return None
    try:
        return decode_record(payload)
    except Refused:
        # The chain and the signature hold: the box did write this. It is kept, and read by a version that can.
        return UnknownRecord(0, payload)


def kind_of(payload: bytes) -> str:
    """Return the word for a row's kind."""
    record = read(payload)
    return DROPPED if record is None else record_kind(record)


def plain_fields(payload: bytes) -> dict[str, Any]:
    """Return what a record says, as JSON can hold it, without what names or places a person."""
    record = read(payload)
    if record is None or isinstance(record, UnknownRecord):
        return {}
    return {field.name: _plain(getattr(record, field.name)) for field in fields(record) if field.name not in PRIVATE}


CONTRADICTION: Final = "contradiction"
REPLACED: Final = "store_replaced"
COPIED: Final = "card_copied"


def apply(db: Connection, vehicle: str, store_id: bytes, row: Row, now_s: float) -> tuple[str, str] | None:
    """Bring the derived tables up to date with one new row. Returns an alarm (kind, text) where a person must look."""
    key = {"vehicle": vehicle, "store_id": _first_store(db, vehicle, store_id)}
    match read(row.payload):
        case StoreReplaced() as replaced:
            twice = _join(db, vehicle, store_id, replaced.previous)
            charges.join(db, vehicle, store_id, _first_store(db, vehicle, store_id), now_s)
            text = f"the box replaced its database: {replaced.reason}. Look at its card; records may be missing"
            return REPLACED, f"{text}; ended twice, the first end counts: {', '.join(twice)}" if twice else text
        case TripStarted() as started:
            _start(db, key, started, row.at.wall_s)
        case TripEnded() as ended:
            return _end_trip(db, key, ended, row)
        case RentalEnded() as ended:
            return _end_rental(db, key, ended, row, now_s)
        case Track() as track:
            _track(db, key, track, min(row.at.wall_s, now_s))
        case Parked(latitude=float() as latitude, longitude=float() as longitude):
            place(db, vehicle, min(row.at.wall_s, now_s), (latitude, longitude), "parked")
        case CardCaptured() as captured:
            return capture.take(db, vehicle, captured, int(now_s))
        case Alert(kind="card_copied"):
            return COPIED, "a card showed another card's number and could not prove itself. Look who holds that one"
        case _:
            pass
    return None


def _first_store(db: Connection, vehicle: str, store_id: bytes) -> bytes:
    table = tables.lineages
    wanted = select(table.c.first_store_id).where(table.c.vehicle == vehicle, table.c.store_id == store_id)
    return db.scalar(wanted) or store_id


def _join(db: Connection, vehicle: str, store_id: bytes, previous: bytes) -> list[str]:
    """Count a store as the continuation of ``previous``; what follows from both becomes one. Returns what clashed."""
    first = _first_store(db, vehicle, previous)
    if not previous or first == store_id or _first_store(db, vehicle, store_id) != store_id:
        return []
    line = tables.lineages
    db.execute(
        update(line).where(line.c.vehicle == vehicle, line.c.first_store_id == store_id).values(first_store_id=first)
    )
    db.execute(insert(line).values(vehicle=vehicle, store_id=store_id, first_store_id=first))
    twice = []
    for table, word in ((tables.trips, "trip"), (tables.rentals, "rental"), (tables.points, "trip")):
        rows = db.execute(select(table).where(table.c.vehicle == vehicle, table.c.store_id == store_id)).all()
        fields_of = [row._asdict() for row in rows]
        twice += [f"{word} {row[word]}" for row in fields_of if not _move(db, table, row, first)]
    return twice


def _move(db: Connection, table: Table, row: dict[str, Any], first: bytes) -> bool:
    """Put a row under its line's first store; one that is there already gains what it lacks and loses nothing.

    False if the two tell of different ends.
    """
    key = list(table.primary_key)
    old = and_(*(column == row[column.name] for column in key))
    there = and_(*(column == (first if column.name == "store_id" else row[column.name]) for column in key))
    held = db.execute(select(table).where(there)).one_or_none()
    if held is None:
        db.execute(update(table).where(old).values(store_id=first))
        return True
    known = held._asdict()
    lacking = {name: value for name, value in row.items() if known[name] is None and value is not None}
    db.execute(delete(table).where(old))
    if lacking:
        db.execute(update(table).where(there).values(lacking))
    ends = {fields.get("ended_s") for fields in (row, known)} - {None}
    return len(ends) <= 1


def place(db: Connection, vehicle: str, at_s: float, degrees: tuple[float, float], source: str) -> None:
    """Note where a car is, unless a newer place is known. ``at_s``: Unix seconds."""
    table = tables.positions
    values = {"vehicle": vehicle, "at_s": at_s, "latitude": degrees[0], "longitude": degrees[1], "source": source}
    upsert(db, table, values, table.c.vehicle, unless=table.c.at_s > at_s)


def _start(db: Connection, key: dict[str, Any], started: TripStarted, wall_s: float) -> None:
    trips, rentals = tables.trips, tables.rentals
    who = {"kind": started.kind.value, "reservation": started.reservation, "driver": started.driver}
    trip = {
        **key,
        **who,
        "trip": started.trip,
        "rental": started.rental,
        "started_s": wall_s,
        "from_station": started.station,
        "soc_start_pct": started.soc_pct,
    }
    upsert(db, trips, trip, trips.c.vehicle, trips.c.store_id, trips.c.trip)
    rental = {**key, **who, "rental": started.rental, "started_s": wall_s}
    unless = rentals.c.started_s.is_not(None) & (rentals.c.started_s <= wall_s)
    upsert(db, rentals, rental, rentals.c.vehicle, rentals.c.store_id, rentals.c.rental, unless=unless)


def _end_trip(db: Connection, key: dict[str, Any], ended: TripEnded, row: Row) -> tuple[str, str] | None:
    table = tables.trips
    values = {
        **key,
        "trip": ended.trip,
        "rental": ended.rental,
        "ended_s": row.at.wall_s,
        "ended_seq": row.seq,
        "reason": ended.reason.value,
        "duration_s": ended.duration_s,
        "distance_m": ended.distance_m,
        "distance_source": ended.distance_source.value,
        "distance_resolution_m": ended.distance_resolution_m,
        "to_station": ended.station,
        "soc_end_pct": ended.soc_pct,
        "flags": " ".join(ended.flags),
    }
    unless = table.c.ended_seq.is_not(None)
    if upsert(db, table, values, table.c.vehicle, table.c.store_id, table.c.trip, unless=unless):
        return None
    held = select(table.c.ended_s, table.c.distance_m).where(*_same(table, key), table.c.trip == ended.trip)
    if db.execute(held).one() == (row.at.wall_s, ended.distance_m):
        return None  # the same end, sent again under a new store
    return CONTRADICTION, f"trip {ended.trip} ended twice; the first end counts"


def _same(table: Table, key: dict[str, Any]) -> tuple[Any, ...]:
    return tuple(table.c[name] == value for name, value in key.items())


def _end_rental(
    db: Connection, key: dict[str, Any], ended: RentalEnded, row: Row, now_s: float
) -> tuple[str, str] | None:
    table = tables.rentals
    values = {
        **key,
        "rental": ended.rental,
        "kind": ended.kind.value,
        "reservation": ended.reservation,
        "driver": ended.driver,
        "ended_s": row.at.wall_s,
        "ended_seq": row.seq,
        "reason": ended.reason.value,
        "billable_s": ended.billable_s,
        "billable_basis": ended.billable_basis,
        "trips": ended.trips,
        "distance_m": ended.distance_m,
        "station": ended.station,
    }
    unless = table.c.ended_seq.is_not(None)
    if upsert(db, table, values, table.c.vehicle, table.c.store_id, table.c.rental, unless=unless):
        charges.make(db, **key, ended=ended, ended_s=row.at.wall_s, now_s=now_s)
        return None
    held = select(table.c.ended_s, table.c.billable_s).where(*_same(table, key), table.c.rental == ended.rental)
    if db.execute(held).one() == (row.at.wall_s, ended.billable_s):
        return None  # the same end, sent again under a new store
    return CONTRADICTION, f"rental {ended.rental} ended twice; the first end counts"


def _track(db: Connection, key: dict[str, Any], track: Track, at_s: float) -> None:
    table = tables.points
    values = [
        {**key, "trip": track.trip, "offset_s": after_s, "latitude": north / PER_DEGREE, "longitude": east / PER_DEGREE}
        for after_s, north, east in track.points
    ]
    if not values:
        return
    insert_new(db, table, values, table.c.vehicle, table.c.store_id, table.c.trip, table.c.offset_s)
    newest = values[-1]
    place(db, key["vehicle"], at_s, (newest["latitude"], newest["longitude"]), "track")


def _plain(value: Any) -> Any:
    if isinstance(value, bytes):
        return value.hex()
    if isinstance(value, Enum):
        return value.value
    if isinstance(value, tuple):
        return [_plain(item) for item in value]
    return value
