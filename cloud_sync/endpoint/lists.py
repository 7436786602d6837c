"""Reservation lists: one car's bookings as a full snapshot, signed, sealed to its box, its version only grows."""

from __future__ import annotations

import json
from typing import Any, Final

from sqlalchemy import Connection, Row, func, select

from cloud_sync.documents import Reason, Refused
from cloud_sync.endpoint import tables
from cloud_sync.endpoint.authority import Authority
from cloud_sync.endpoint.messages import Box, ListRow
from cloud_sync.endpoint.store import Store, note_alarm, save_list
from onboard.core.grants import Assurance, BookingKind, CardGrant, Reservation, ReservationList, Rights

DAY_S: Final = 86_400
HORIZON_DAYS: Final = 14
"""How long a car without network goes on; the box refuses lists of more than 30 days."""

REFRESH_S: Final = DAY_S
"""A list this old is issued anew, so that its horizon moves on."""

KEEP_S: Final = DAY_S
"""A booking stays in the list this long after its end: its driver may still be on the road."""

AHEAD_MAX_S: Final = DAY_S
"""A box can only hold versions that were once issued, and those follow the clock. More than this is no truth."""


def issue(store: Store, authority: Authority, box: Box, now_s: int, horizon_days: int = HORIZON_DAYS) -> ListRow:
    """Make and keep a new list of a car's present bookings."""
    with store.write() as db:
        return issue_within(db, authority, box, now_s, horizon_days)


def issue_within(db: Connection, authority: Authority, box: Box, now_s: int, horizon_days: int) -> ListRow:
    """Make a new list in the transaction that changed a booking. One too large gets a nearer horizon."""
    version = _next_version(db, box.vehicle, now_s)
    horizon_s = horizon_days * DAY_S
    while True:
        listed = ReservationList(
            vehicle=box.vehicle,
            version=version,
            issued_at_s=now_s,
            horizon_end_s=now_s + horizon_s,
            reservations=_reservations(db, box.vehicle, now_s, now_s + horizon_s),
        )
        try:
            row = ListRow(box.vehicle, version, now_s, authority.sign_list(listed, box))
        except Refused as refused:
            if horizon_s <= DAY_S or refused.reason not in (Reason.TOO_LARGE, Reason.BAD_SCHEMA):
                raise
            horizon_s //= 2
            continue
        save_list(db, row)
        return row


def current(store: Store, authority: Authority, box: Box, now_s: int, horizon_days: int = HORIZON_DAYS) -> ListRow:
    """Return the list that holds, issued anew where there is none, it is old, or the box holds a higher version."""
    row = store.last_list(box.vehicle)
    with store.read() as db:
        reported = reported_version(db, box.vehicle)
    if row is None or not 0 <= now_s - row.issued_s < REFRESH_S or row.version < reported <= now_s + AHEAD_MAX_S:
        return issue(store, authority, box, now_s, horizon_days)
    return row


def reported_version(db: Connection, vehicle: str) -> int:
    """Return the highest list version that the box's newest status names; 0 without one."""
    table = tables.statuses
    return db.scalar(select(table.c.list_version).where(table.c.vehicle == vehicle)) or 0


def _next_version(db: Connection, vehicle: str, now_s: int) -> int:
    table = tables.lists
    previous = db.scalar(select(func.max(table.c.version)).where(table.c.vehicle == vehicle)) or 0
    reported = reported_version(db, vehicle)
    if reported > max(previous, now_s) + AHEAD_MAX_S:
        note_alarm(db, vehicle, "version_ahead", f"the box reports list {reported}, which was never issued", now_s)
        reported = 0
    return max(previous + 1, reported + 1, now_s)


def _reservations(db: Connection, vehicle: str, now_s: int, horizon_end_s: int) -> tuple[Reservation, ...]:
    table = tables.bookings
    rows = db.execute(
        select(table)
        .where(
            table.c.vehicle == vehicle,
            table.c.cancelled_s.is_(None),
            table.c.end_s > now_s - KEEP_S,
            table.c.start_s < horizon_end_s,
        )
        .order_by(table.c.start_s, table.c.id)
    )
    return tuple(_reservation(row) for row in rows)


def _reservation(row: Row[Any]) -> Reservation:
    cards = tuple(
        CardGrant(
            bytes.fromhex(card["ref"]),
            Assurance(card["assurance"]),
            bytes.fromhex(card["key"]) if card["key"] else None,
        )
        for card in json.loads(row.cards)
    )
    return Reservation(
        id=row.id,
        start_s=row.start_s,
        end_s=row.end_s,
        pickup=row.pickup,
        dropoff=row.dropoff,
        kind=BookingKind(row.kind),
        driver=row.driver,
        phone_keys=tuple(bytes.fromhex(key) for key in json.loads(row.phone_keys)),
        cards=cards,
        rights=Rights(row.rights),
        trace=row.trace,
    )
