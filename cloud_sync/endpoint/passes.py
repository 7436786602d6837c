"""Passes: a booking in a driver's phone, signed, for a car that may not have heard of the booking yet.

A pass carries the list version ``g`` of the transaction that checked its booking. A box whose list is older believes
the pass; a box that holds ``g`` or above believes its list. So a booking that is cancelled needs no message of its own:
the list of that transaction has a higher version and no such booking.
"""

from __future__ import annotations

import json
import secrets
from typing import Final

from fastapi import HTTPException
from sqlalchemy import Connection, delete, insert, select

from cloud_sync.documents import Refused, radio_name
from cloud_sync.endpoint import lists, tables
from cloud_sync.endpoint.authority import Authority
from cloud_sync.endpoint.messages import Box
from cloud_sync.endpoint.models_phone import PassMade
from onboard.core.grants import Pass, Rights
from onboard.core.policy import Policy

LIFE_S: Final = lists.DAY_S
"""The longest life that a box accepts: a lost phone opens nothing for longer without asking again."""

GRACE_S: Final = int(Policy().grace_s)
"""A pass outlives its booking as long as a box lets a rental: the same number, so that it is said once."""

KEPT: Final = 32
"""Passes of one phone and booking that are remembered; to take back an older one, revoke the phone's key."""

KEEP_S: Final = lists.DAY_S
"""A pass is remembered this long after its expiry: the rental that it began may go on."""


def issue(
    db: Connection, authority: Authority, box: Box, booking: bytes, phone_key: bytes, now_s: int, horizon_days: int
) -> PassMade:
    """Make a pass for one phone of a booking and remember it, in a transaction that is under way.

    HTTPException, and nothing was issued: 404 no such booking; 403 it does not list this phone, or the phone is taken
    back; 409 it is cancelled or over, or the car's list can't be made.
    """
    # Locked where the database can (SQLite's writers take turns anyway): no cancelling between this and the version.
    wanted = select(tables.bookings).where(tables.bookings.c.id == booking).with_for_update()
    row = db.execute(wanted).one_or_none()
    if row is None or row.vehicle != box.vehicle:
        raise HTTPException(404, "no such booking")
    if phone_key.hex() not in json.loads(row.phone_keys):
        raise HTTPException(
            403, "the booking does not list this phone's key. Book with this phone, or use the other one"
        )
    until_s = lists.revoked_until_s(db, row.vehicle, phone_key, now_s)
    if until_s is not None:
        raise HTTPException(403, f"this phone's key is taken back until {until_s}. Use another phone, or a card")
    if row.cancelled_s is not None:
        raise HTTPException(409, "the booking is cancelled. Book again")
    if now_s >= row.end_s + GRACE_S:
        raise HTTPException(409, "the booking is over. Have it extended, or book again")
    grant = Pass(
        vehicle=row.vehicle,
        id=secrets.token_bytes(8),
        phone_key=phone_key,
        reservation_id=row.id,
        start_s=row.start_s,
        end_s=row.end_s,
        driver=row.driver,
        rights=Rights(row.rights),
        issued_at_s=now_s,
        expires_s=min(now_s + LIFE_S, row.end_s + GRACE_S),
        made_with_version=_version(db, authority, box, now_s, horizon_days),
        pickup=row.pickup,
        dropoff=row.dropoff,
    )
    _remember(db, grant)
    return PassMade(
        vehicle=grant.vehicle,
        name=radio_name(box.agreement_public),
        box=box.agreement_public.hex(),
        document=authority.sign_pass(grant).hex(),
        booking=grant.reservation_id.hex(),
        expires_s=grant.expires_s,
    )


def _version(db: Connection, authority: Authority, box: Box, now_s: int, horizon_days: int) -> int:
    """Return the version of the list that holds in this transaction."""
    try:
        return lists.current_within(db, authority, box, now_s, horizon_days).version
    except Refused as refused:
        raise HTTPException(409, f"no list of {box.vehicle} can be made ({refused}); nothing was issued") from refused


def _remember(db: Connection, grant: Pass) -> None:
    table = tables.passes
    db.execute(delete(table).where(table.c.expires_s < grant.issued_at_s - KEEP_S))
    db.execute(
        insert(table).values(
            id=grant.id,
            vehicle=grant.vehicle,
            booking=grant.reservation_id,
            phone_key=grant.phone_key,
            version=grant.made_with_version,
            issued_s=grant.issued_at_s,
            expires_s=grant.expires_s,
        )
    )
    mine = (table.c.booking == grant.reservation_id, table.c.phone_key == grant.phone_key)
    newest = select(table.c.id).where(*mine).order_by(table.c.issued_s.desc(), table.c.version.desc(), table.c.id)
    db.execute(delete(table).where(*mine, table.c.id.not_in(newest.limit(KEPT))))
