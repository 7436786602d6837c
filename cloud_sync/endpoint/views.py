"""What the pages ask of the database: read-only, bounded, nothing that opens a car and nothing that names a person."""

from __future__ import annotations

import json
from typing import Any, Final

from sqlalchemy import Connection, Row, Table, func, select

from cloud_sync.endpoint import tables
from cloud_sync.endpoint.derive import plain_fields
from cloud_sync.endpoint.models import (
    Alarm,
    Booking,
    Place,
    Rental,
    RouteTrack,
    TimelineEvent,
    TrackPoint,
    Trip,
    Vehicle,
)
from onboard.core.clock import ClockQuality
from onboard.core.grants import Rights

ROWS_MAX: Final = 500
POINTS_MAX: Final = 5000


def vehicles(db: Connection) -> list[Vehicle]:
    """Return every car, by name."""
    boxes, statuses, positions, events = tables.boxes, tables.statuses, tables.positions, tables.events
    heard = {
        row.vehicle: row.last_s
        for row in db.execute(
            select(events.c.vehicle, func.max(events.c.received_s).label("last_s")).group_by(events.c.vehicle)
        )
    }
    places = {row.vehicle: row for row in db.execute(select(positions))}
    told = {row.vehicle: row for row in db.execute(select(statuses))}
    names = db.scalars(select(boxes.c.vehicle).order_by(boxes.c.vehicle))
    return [_vehicle(name, told.get(name), places.get(name), heard.get(name)) for name in names]


def trips(db: Connection, vehicle: str | None, limit: int = ROWS_MAX) -> list[Trip]:
    """Return trips, newest first."""
    table = tables.trips
    return [_trip(row) for row in _newest(db, table, vehicle, limit)]


def rentals(db: Connection, vehicle: str | None, limit: int = ROWS_MAX) -> list[Rental]:
    """Return rentals, newest first."""
    return [_rental(row) for row in _newest(db, tables.rentals, vehicle, limit)]


def timeline(db: Connection, after: int, vehicle: str | None, limit: int, *, newest: bool) -> list[TimelineEvent]:
    """Return rows that arrived after row ``after``, oldest first: the first ``limit`` of them, or the ``newest``."""
    table = tables.events
    wanted = select(table).where(table.c.id > after).limit(limit)
    wanted = wanted.order_by(table.c.id.desc() if newest else table.c.id)
    if vehicle is not None:
        wanted = wanted.where(table.c.vehicle == vehicle)
    rows = db.execute(wanted).all()
    return [
        TimelineEvent(
            id=row.id,
            vehicle=row.vehicle,
            seq=row.seq,
            kind=row.kind,
            at_s=row.wall_s,
            clock_quality=ClockQuality(row.quality).name.lower(),
            received_s=row.received_s,
            fields=plain_fields(row.payload),
        )
        for row in (reversed(rows) if newest else rows)
    ]


def last_event(db: Connection) -> int:
    """Return the id of the newest row; 0 without one."""
    return db.scalar(select(func.max(tables.events.c.id))) or 0


def track(db: Connection, vehicle: str, trip: int | None) -> RouteTrack:
    """Return the route of a trip, or of the newest one."""
    table, points = tables.trips, tables.points
    wanted = select(table.c.store_id, table.c.trip, table.c.started_s).where(table.c.vehicle == vehicle)
    if trip is not None:
        wanted = wanted.where(table.c.trip == trip)
    found = db.execute(wanted.order_by(*_by_age(table)).limit(1)).one_or_none()
    if found is None:
        return RouteTrack(vehicle=vehicle, trip=None, points=[])
    rows = db.execute(
        select(points)
        .where(points.c.vehicle == vehicle, points.c.store_id == found.store_id, points.c.trip == found.trip)
        .order_by(points.c.offset_s)
        .limit(POINTS_MAX)
    )
    return RouteTrack(
        vehicle=vehicle,
        trip=found.trip,
        points=[
            TrackPoint(
                at_s=None if found.started_s is None else found.started_s + row.offset_s,
                latitude=row.latitude,
                longitude=row.longitude,
            )
            for row in rows
        ],
    )


def bookings(db: Connection, vehicle: str | None, limit: int = ROWS_MAX) -> list[Booking]:
    """Return bookings, latest start first."""
    table = tables.bookings
    wanted = select(table).order_by(table.c.start_s.desc(), table.c.id).limit(limit)
    if vehicle is not None:
        wanted = wanted.where(table.c.vehicle == vehicle)
    return [
        Booking(
            id=row.id.hex(),
            vehicle=row.vehicle,
            start_s=row.start_s,
            end_s=row.end_s,
            pickup=row.pickup,
            dropoff=row.dropoff,
            kind=row.kind,
            rights=[str(right.name).lower() for right in Rights(row.rights)],
            trace=row.trace,
            cancelled_s=row.cancelled_s,
        )
        for row in db.execute(wanted)
    ]


def alarms(db: Connection, limit: int = 50) -> list[Alarm]:
    """Return the newest alarms."""
    table = tables.alarms
    return [
        Alarm(id=row.id, vehicle=row.vehicle, kind=row.kind, at_s=row.at_s, seq=row.seq, detail=row.detail)
        for row in db.execute(select(table).order_by(table.c.id.desc()).limit(limit))
    ]


def _by_age(table: Table) -> tuple[Any, ...]:
    """Newest first: by the time it began, and where that is missing by the time it ended."""
    return (func.coalesce(table.c.started_s, table.c.ended_s).desc(), *(column.desc() for column in table.primary_key))


def _newest(db: Connection, table: Table, vehicle: str | None, limit: int) -> list[Row[Any]]:
    wanted = select(table).order_by(*_by_age(table)).limit(limit)
    if vehicle is not None:
        wanted = wanted.where(table.c.vehicle == vehicle)
    return list(db.execute(wanted))


def _vehicle(name: str, told: Row[Any] | None, place: Row[Any] | None, rows_s: float | None) -> Vehicle:
    position = None
    if place is not None:
        position = Place(latitude=place.latitude, longitude=place.longitude, at_s=place.at_s, source=place.source)
    if told is None:
        return Vehicle(id=name, state="non_contactable", position=position, last_seen_s=rows_s)
    said = json.loads(told.fields)
    return Vehicle(
        id=name,
        state=said["state"],
        soc_pct=said["soc_pct"],
        range_m=said["range_m"],
        charging=said["charging"],
        door=said["door"],
        supply_v=said["supply_v"],
        faults=said["faults"],
        position=position,
        since_s=said["since_s"],
        last_seen_s=max(told.received_s, rows_s or 0.0),
        online=told.online,
        software=said["software"],
        clock_quality=said["clock_quality"],
        list_version=told.list_version,
        key_set_version=said["key_set_version"],
        health=said.get("health"),
    )


def _trip(row: Row[Any]) -> Trip:
    return Trip(
        id=f"{row.vehicle}/{row.store_id.hex()}/{row.trip}",
        vehicle=row.vehicle,
        trip=row.trip,
        rental=row.rental,
        kind=row.kind,
        reservation=None if row.reservation is None else row.reservation.hex(),
        started_s=row.started_s,
        ended_s=row.ended_s,
        reason=row.reason,
        duration_s=row.duration_s,
        distance_m=row.distance_m,
        distance_source=row.distance_source,
        distance_resolution_m=row.distance_resolution_m,
        from_station=row.from_station,
        to_station=row.to_station,
        soc_start_pct=row.soc_start_pct,
        soc_end_pct=row.soc_end_pct,
        flags=(row.flags or "").split(),
    )


def _rental(row: Row[Any]) -> Rental:
    return Rental(
        id=f"{row.vehicle}/{row.store_id.hex()}/{row.rental}",
        vehicle=row.vehicle,
        rental=row.rental,
        kind=row.kind,
        reservation=row.reservation.hex(),
        started_s=row.started_s,
        ended_s=row.ended_s,
        reason=row.reason,
        billable_s=row.billable_s,
        billable_basis=row.billable_basis,
        trips=row.trips,
        distance_m=row.distance_m,
        station=row.station,
    )
