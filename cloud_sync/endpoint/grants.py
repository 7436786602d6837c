"""What the town hall gives and takes back: a booking's end, staff, revocations. Each change makes its cars new lists.

There is no log-in yet: whoever reaches the endpoint may call these, so it listens on this machine only (``app``). The
routes are one router, so that a log-in can stand before them all.
"""

from __future__ import annotations

import json
import secrets
from collections.abc import Callable, Sequence
from typing import Any, Final

from fastapi import APIRouter, HTTPException
from sqlalchemy import Connection, delete, select, update

from cloud_sync.endpoint import lists, tables
from cloud_sync.endpoint.authority import Authority
from cloud_sync.endpoint.cards import card_values
from cloud_sync.endpoint.dialect import upsert
from cloud_sync.endpoint.messages import Box
from cloud_sync.endpoint.models import (
    BOOKING_MAX_S,
    BookingChange,
    BookingMade,
    GrantMade,
    RevocationIn,
    StaffIn,
)
from cloud_sync.endpoint.store import Store
from onboard.core.grants import Rights

STAFF_ID_BYTES: Final = 16
ONE_BY_ONE: Final = "Name the other cars one by one"


def booking_id(text: str) -> bytes:
    """Return the id that a path names; HTTPException 404 for what can't be one."""
    try:
        return bytes.fromhex(text)
    except ValueError as error:
        raise HTTPException(404, "no such booking") from error


def rights_of(words: Sequence[str]) -> Rights:
    """Return the rights that these words name."""
    rights = Rights.NONE
    for word in words:
        rights |= Rights[word.upper()]
    return rights


class Grants:
    """The town hall's changes: each one and the lists that tell it are one transaction. ``now`` gives Unix seconds."""

    def __init__(self, store: Store, authority: Authority, issuer: lists.Issuer, *, now: Callable[[], float]) -> None:
        self._store = store
        self._authority = authority
        self._issuer = issuer
        self._now = now

    def routes(self) -> APIRouter:
        """Return the routes."""
        routes = APIRouter(prefix="/api/v1")
        routes.add_api_route("/bookings/{booking}", self.patch_booking, methods=["PATCH"])
        routes.add_api_route("/staff", self.post_staff, methods=["POST"], status_code=201)
        routes.add_api_route("/revocations", self.post_revocation, methods=["POST"], status_code=201)
        return routes

    def patch_booking(self, booking: str, change: BookingChange) -> BookingMade:
        """Move a booking's end. The box hears of it by the new list, or by a pass made after this."""
        table = tables.bookings
        now_s = int(self._now())
        wanted = table.c.id == booking_id(booking)
        with self._store.write() as db:
            row = db.execute(select(table).where(wanted).with_for_update()).one_or_none()
            if row is None:
                raise HTTPException(404, "no such booking")
            if row.cancelled_s is not None:
                raise HTTPException(409, "the booking is cancelled; nothing was changed. Book again")
            if now_s >= row.end_s + lists.KEEP_S:
                raise HTTPException(409, "the booking is over for more than a day; nothing was changed. Book again")
            if not row.start_s < change.end_s <= row.start_s + BOOKING_MAX_S:
                raise HTTPException(422, "end_s must lie after the start, by at most 30 days; nothing was changed")
            db.execute(update(table).where(wanted).values(end_s=change.end_s))
            [issued] = self._issuer.issue(db, self._concerned(row.vehicle), now_s)
        return BookingMade(id=row.id.hex(), version=issued.version, published=self._issuer.publish(issued))

    def post_staff(self, person: StaffIn) -> GrantMade:
        """Let a member of staff in, or no longer: ``not_after_s`` in the past."""
        table = tables.staff
        now_s = int(self._now())
        boxes = self._concerned(person.vehicle)
        identity = bytes.fromhex(person.id) if person.id else secrets.token_bytes(STAFF_ID_BYTES)
        values: dict[str, Any] = {
            "id": identity,
            "vehicle": person.vehicle or tables.EVERY_CAR,
            "not_after_s": person.not_after_s,
            "phone_keys": json.dumps(person.phone_keys),
            "rights": int(rights_of(person.rights)),
        }
        with self._store.write() as db:
            values["cards"] = json.dumps(card_values(db, person.cards, [box.vehicle for box in boxes]))
            upsert(db, table, values, table.c.id, table.c.vehicle)
            db.execute(delete(table).where(table.c.not_after_s < now_s))
            rows = self._issuer.issue(db, boxes, now_s, advice=ONE_BY_ONE)
        return GrantMade(id=identity.hex(), lists=self._issuer.made(rows))

    def post_revocation(self, taken: RevocationIn) -> GrantMade:
        """Take something back. A car without network hears of it only by a phone that brings the new list."""
        table = tables.revocations
        now_s = int(self._now())
        if taken.until_s <= now_s:
            raise HTTPException(422, f"until_s {taken.until_s} is over (it is {now_s}): nothing would be taken back")
        what = taken.what or taken.pass_id or taken.phone_key or ""
        boxes = self._concerned(taken.vehicle)
        with self._store.write() as db:
            if taken.pass_id is not None:
                boxes = self._concerned(_car_of_pass(db, taken.pass_id, taken.vehicle))
            one_car = taken.vehicle is not None or taken.pass_id is not None
            car = boxes[0].vehicle if one_car else tables.EVERY_CAR
            values = {"what": what, "vehicle": car, "until_s": taken.until_s}
            upsert(db, table, values, table.c.what, table.c.vehicle)
            db.execute(delete(table).where(table.c.until_s < now_s))
            rows = self._issuer.issue(db, boxes, now_s, advice=ONE_BY_ONE)
        return GrantMade(id=what, lists=self._issuer.made(rows))

    def _concerned(self, vehicle: str | None) -> tuple[Box, ...]:
        if vehicle is None:
            return self._store.boxes()
        box = self._store.box(vehicle)
        if box is None:
            raise HTTPException(404, f"no vehicle {vehicle}")
        return (box,)


def _car_of_pass(db: Connection, pass_id: str, vehicle: str | None) -> str:
    table = tables.passes
    wanted = select(table.c.vehicle).where(table.c.id == bytes.fromhex(pass_id))
    found: str | None = db.scalar(wanted if vehicle is None else wanted.where(table.c.vehicle == vehicle))
    if found is None:
        where = f" for {vehicle}" if vehicle else ""
        raise HTTPException(
            404, f"no such pass{where} is remembered; nothing was changed. Give it as what, or phone_key"
        )
    return found
