"""What the rules of ``planning`` are told, out of the database: bookings, where cars stand, sockets."""

from __future__ import annotations

from collections.abc import Sequence

from fastapi import HTTPException
from sqlalchemy import Connection, select

from cloud_sync.endpoint import tables
from cloud_sync.endpoint.models import StationInfo
from cloud_sync.endpoint.planning import WORDS, Fleet, Slot, Terms, faults
from cloud_sync.endpoint.words import in_both


def read(db: Connection, stations: Sequence[StationInfo], now_s: int, terms: Terms) -> Fleet:
    """Return what is known of all cars at Unix second ``now_s``.

    A car stands where its last rental ended. A booking that is over moves nothing any more: its car may never have been
    fetched; it only has to be charged.
    """
    bookings, rentals = tables.bookings, tables.rentals
    place: dict[str, str] = {}
    ends = select(rentals.c.vehicle, rentals.c.station).where(rentals.c.ended_s.is_not(None))
    for row in db.execute(ends.order_by(rentals.c.ended_s)):
        if row.station is None:
            place.pop(row.vehicle, None)
        else:
            place[row.vehicle] = row.station
    wanted = select(bookings).where(bookings.c.cancelled_s.is_(None), bookings.c.end_s > now_s - terms.charge_s)
    slots = []
    for row in db.execute(wanted):
        ended_at = place.get(row.vehicle) if row.end_s <= now_s else None
        pickup, dropoff = (ended_at, ended_at) if ended_at else (row.pickup, row.dropoff or row.pickup)
        slots.append(Slot(row.vehicle, row.start_s, row.end_s, pickup, dropoff))
    sockets = {station.id: station.sockets for station in stations if station.sockets is not None}
    return Fleet(now_s, place, sockets, slots)


def check(db: Connection, wanted: Slot, stations: Sequence[StationInfo], now_s: int) -> None:
    """Raise HTTPException 409 with everything that speaks against a booking, French, then English."""
    terms = Terms()
    found = faults(wanted, read(db, stations, now_s, terms), terms)
    if found:
        raise HTTPException(409, in_both(WORDS, found))
