"""Cards whose number was taken at a car: enrolled here, once, as a resident's own. Within a transaction each."""

from __future__ import annotations

from typing import Any, Final

from sqlalchemy import Connection, Row, func, insert, select

from cloud_sync.endpoint import tables
from cloud_sync.endpoint.dialect import upsert
from onboard.core.cards import number_fault
from onboard.core.grants import Assurance
from onboard.core.records import CardCaptured

UNASKED_MAX: Final = 20
"""Cards that one car may bring in a day without being asked from here, by a technician's phone."""
UNASKED_EVER_MAX: Final = 200
"""And in its life: whoever has a box and its keys shall not fill the register."""
DAY_S: Final = 86_400
FLOOD: Final = "card_capture"


def new_card(db: Connection, uid: bytes, assurance: str, now_s: int) -> Row[Any]:
    """Give a card its number. One that gets keys is ``new`` until they are written."""
    table = tables.cards
    values = {
        "uid": uid,
        "assurance": assurance,
        "state": "new" if assurance == Assurance.MUTUAL else "ready",
        "holder": "",
        "code_tries": 0,
        "tried_s": 0,
        "changed_s": now_s,
    }
    return db.execute(insert(table).values(values).returning(table)).one()


def ask(db: Connection, capture: bytes, vehicle: str, now_s: int) -> None:
    """Note that a car was asked for a card's number."""
    db.execute(insert(tables.captures).values(id=capture, vehicle=vehicle, asked_s=now_s))


def take(db: Connection, vehicle: str, record: CardCaptured, now_s: int) -> tuple[str, str] | None:
    """Enrol what a car brings; the same again changes nothing. Returns an alarm (kind, text) for what it may not."""
    table = tables.captures
    held = db.execute(select(table).where(table.c.id == record.capture)).one_or_none()
    if held is not None and (held.vehicle != vehicle or held.card is not None):
        return None
    if number_fault(record.uid) is not None:
        return FLOOD, "the box brought a card's number that can't stand for a person: it is not what we made"
    if held is None:
        unasked = select(func.count()).where(table.c.vehicle == vehicle, table.c.asked_s.is_(None))
        today = db.scalar(unasked.where(table.c.captured_s > now_s - DAY_S)) or 0
        if today >= UNASKED_MAX or (db.scalar(unasked) or 0) >= UNASKED_EVER_MAX:
            text = f"more than {UNASKED_MAX} cards in a day, or {UNASKED_EVER_MAX} in all"
            return FLOOD, f"the car brought {text}: none of the others was enrolled. Enrol them from here"
    known = db.execute(select(tables.cards).where(tables.cards.c.uid == record.uid)).one_or_none()
    card = known or new_card(db, record.uid, Assurance.UID, now_s)
    values = {"id": record.capture, "vehicle": vehicle, "captured_s": now_s, "card": card.number, "new": known is None}
    upsert(db, table, values, table.c.id)
    return None


def found(db: Connection, capture: bytes) -> Row[Any] | None:
    """Return a capture with its card's ``uid`` (None: none came yet), or None for one that nobody asked for."""
    table, cards = tables.captures, tables.cards
    joined = select(table, cards.c.uid).outerjoin(cards, cards.c.number == table.c.card)
    return db.execute(joined.where(table.c.id == capture)).one_or_none()
