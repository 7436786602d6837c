"""Reservation lists: one car's bookings, staff and revocations as a full snapshot, signed, sealed to its box.

A version only grows. A pass made with version ``g`` says nothing any more once its box holds a list of ``g`` or above.
"""

from __future__ import annotations

import json
from collections.abc import Sequence
from typing import Any, Final

from fastapi import HTTPException
from sqlalchemy import Connection, Row, func, select

from cloud_sync.documents import Reason, Refused
from cloud_sync.endpoint import tables
from cloud_sync.endpoint.authority import Authority
from cloud_sync.endpoint.card_grants import NO_KEY, CardGrants
from cloud_sync.endpoint.link import Link, publish_list
from cloud_sync.endpoint.messages import Box, ListRow
from cloud_sync.endpoint.models import ListMade
from cloud_sync.endpoint.store import Store, last_list, note_alarm, save_list
from onboard.core.grants import (
    BookingKind,
    Reservation,
    ReservationList,
    Revocation,
    Rights,
    StaffGrant,
)

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
    """Make a new list in the transaction that changed what it says. One too large gets a nearer horizon.

    ``Refused``: staff, revocations and one day's bookings are more than a document holds. Nothing is left out for room.
    """
    version = _next_version(db, box.vehicle, now_s)
    horizon_s = horizon_days * DAY_S
    cards = CardGrants(db, authority, box.vehicle)
    while True:
        listed = ReservationList(
            vehicle=box.vehicle,
            version=version,
            issued_at_s=now_s,
            horizon_end_s=now_s + horizon_s,
            reservations=_reservations(db, cards, box.vehicle, now_s, now_s + horizon_s),
            staff=_staff(db, cards, box.vehicle, now_s),
            revoked=_revoked(db, cards, box.vehicle, now_s, now_s + horizon_s),
        )
        try:
            row = ListRow(box.vehicle, version, now_s, authority.sign_list(listed, box), authority.kid("lists"))
        except Refused as refused:
            if horizon_s <= DAY_S or refused.reason not in (Reason.TOO_LARGE, Reason.BAD_SCHEMA):
                raise
            horizon_s //= 2
            continue
        for trouble in cards.troubles:
            note_alarm(db, box.vehicle, NO_KEY, f"{trouble}. Until then cards are missing from its list", now_s)
        save_list(db, row)
        return row


def current(
    store: Store, authority: Authority, box: Box, now_s: int, horizon_days: int = HORIZON_DAYS, *, heard: int = 0
) -> ListRow:
    """Return the list that holds, issued anew where there is none, it is old or the box holds a higher version.

    A list that another key signed is issued anew, too: the box may not know that key any more.

    ``heard``: the version that somebody says the box holds, as a phone does. Nobody signed it, so it counts only below
    the clock: a restored cloud goes above its box, and a liar brings about one list a second, no version of the future.
    """
    with store.read() as db:
        row = last_list(db, box.vehicle)
        if row is not None and _holds(db, authority, row, now_s, heard):
            return row
    with store.write() as db:
        return current_within(db, authority, box, now_s, horizon_days, heard=heard)


def current_within(
    db: Connection, authority: Authority, box: Box, now_s: int, horizon_days: int, *, heard: int = 0
) -> ListRow:
    """Do as ``current`` in a transaction that is under way."""
    row = last_list(db, box.vehicle)
    if row is not None and _holds(db, authority, row, now_s, heard):
        return row
    return issue_within(db, authority, box, now_s, horizon_days)


def _holds(db: Connection, authority: Authority, row: ListRow, now_s: int, heard: int) -> bool:
    fresh = 0 <= now_s - row.issued_s < REFRESH_S and row.signed_by == authority.kid("lists")
    reported = reported_version(db, row.vehicle)
    return fresh and not row.version < reported <= now_s + AHEAD_MAX_S and not row.version < heard < now_s


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


def _reservations(
    db: Connection, cards: CardGrants, vehicle: str, now_s: int, horizon_end_s: int
) -> tuple[Reservation, ...]:
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
    return tuple(_reservation(cards, row) for row in rows.all())


def _staff(db: Connection, cards: CardGrants, vehicle: str, now_s: int) -> tuple[StaffGrant, ...]:
    table = tables.staff
    wanted = select(table).where(table.c.vehicle.in_((vehicle, tables.EVERY_CAR)), table.c.not_after_s >= now_s)
    return tuple(
        StaffGrant(
            row.id,
            row.not_after_s,
            _keys(row.phone_keys),
            cards.of(row.cards),
            Rights(row.rights),
        )
        for row in db.execute(wanted.order_by(table.c.id, table.c.vehicle)).all()
    )


def _revoked(db: Connection, lost: CardGrants, vehicle: str, now_s: int, horizon_end_s: int) -> tuple[Revocation, ...]:
    """Return what the commune took back here, and the passes that the list's silence does not end."""
    table = tables.revocations
    here = table.c.vehicle.in_((vehicle, tables.EVERY_CAR))
    said = select(table.c.what, func.max(table.c.until_s).label("until_s")).where(here, table.c.until_s >= now_s)
    until_s: dict[str, int] = {row.what: row.until_s for row in db.execute(said.group_by(table.c.what))}
    passes, bookings = tables.passes, tables.bookings
    # A booking missing from a list is cancelled only if it starts before the list's horizon. A horizon of a day or less
    # (a full list has one) ends before some passes do: those are named.
    unheard = (
        select(passes.c.id, passes.c.expires_s)
        .join(bookings, passes.c.booking == bookings.c.id)
        .where(
            bookings.c.vehicle == vehicle,
            bookings.c.cancelled_s.is_not(None),
            bookings.c.start_s >= horizon_end_s,
            bookings.c.start_s < passes.c.expires_s + DAY_S,  # boxes let drivers in somewhat early; never a day
            passes.c.expires_s >= now_s,
        )
    )
    until_s |= lost.taken_back(now_s)
    for row in db.execute(unheard):
        until_s[row.id.hex()] = max(row.expires_s, until_s.get(row.id.hex(), 0))
    return tuple(Revocation(bytes.fromhex(what), until_s[what]) for what in sorted(until_s))


def revoked_until_s(db: Connection, vehicle: str, what: bytes, now_s: int) -> int | None:
    """Return until when a phone key, card reference or pass is taken back at a car; None if it is not."""
    table = tables.revocations
    here = table.c.vehicle.in_((vehicle, tables.EVERY_CAR))
    wanted = select(func.max(table.c.until_s)).where(table.c.what == what.hex(), here, table.c.until_s >= now_s)
    found: int | None = db.scalar(wanted)
    return found


def _keys(text: str) -> tuple[bytes, ...]:
    return tuple(bytes.fromhex(key) for key in json.loads(text))


def _reservation(cards: CardGrants, row: Row[Any]) -> Reservation:
    return Reservation(
        id=row.id,
        start_s=row.start_s,
        end_s=row.end_s,
        pickup=row.pickup,
        dropoff=row.dropoff,
        kind=BookingKind(row.kind),
        driver=row.driver,
        phone_keys=_keys(row.phone_keys),
        cards=cards.of(row.cards),
        rights=Rights(row.rights),
        trace=row.trace,
    )


class Issuer:
    """What the town hall's changes end with: new lists of the cars they concern, committed with them, then sent."""

    def __init__(self, authority: Authority, link: Link, horizon_days: int) -> None:
        self._authority = authority
        self._link = link
        self._horizon_days = horizon_days

    def issue(self, db: Connection, boxes: Sequence[Box], now_s: int, *, advice: str = "") -> list[ListRow]:
        """Issue lists in the transaction that changed what they say. HTTPException 409: one can't; nothing is changed.

        Raised within the transaction, it undoes the change. ``advice``: what to do instead, with several cars.
        """
        rows = []
        for box in boxes:
            try:
                rows.append(issue_within(db, self._authority, box, now_s, self._horizon_days))
            except Refused as refused:
                text = f"no list of {box.vehicle} can hold this ({refused}); nothing was changed"
                others = f". {advice}" if advice and len(boxes) > 1 else ""
                raise HTTPException(409, text + others) from refused
        return rows

    def issue_each(self, db: Connection, boxes: Sequence[Box], now_s: int) -> list[ListRow]:
        """Issue what can be issued, and alarm for the rest: what is taken back must not wait for one full list."""
        rows = []
        for box in boxes:
            try:
                rows.append(issue_within(db, self._authority, box, now_s, self._horizon_days))
            except Refused as refused:
                text = f"no list can hold what was taken back ({refused}): it still opens for it"
                note_alarm(db, box.vehicle, "list_full", text, now_s)
        return rows

    def publish(self, row: ListRow) -> bool:
        """Send a list that is committed (``publish_list``)."""
        return publish_list(self._link, row)

    def made(self, rows: Sequence[ListRow]) -> list[ListMade]:
        """Send lists that are committed; return what became of each."""
        return [ListMade(vehicle=r.vehicle, version=r.version, published=self.publish(r)) for r in rows]
