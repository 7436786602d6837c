"""The commune's cards: enrolled, lent, given back, lost, blocked. What changes who may open a car makes its cars lists.

A card's keys are made from the master when they are wanted, and stand in no table. Which of them is whose: ``slot_of``.
"""

from __future__ import annotations

import hashlib
import hmac
import json
import secrets
from collections.abc import Callable, Mapping, Sequence
from types import MappingProxyType
from typing import Annotated, Any, Final

from fastapi import APIRouter, HTTPException, Path
from sqlalchemy import Connection, Row, func, insert, select, update

from cloud_sync.documents.card_keys import SLOT_MAX
from cloud_sync.endpoint import capture, commands, lists, tables
from cloud_sync.endpoint.authority import Authority, AuthorityError
from cloud_sync.endpoint.link import Link
from cloud_sync.endpoint.messages import ListRow
from cloud_sync.endpoint.models import AWAY, CardIn, CardUid, VehicleId
from cloud_sync.endpoint.models_card import (
    CARDS_MAX,
    Capture,
    CaptureMade,
    Card,
    CardBlock,
    CardChange,
    CardChanged,
    CardKeys,
    CardNumber,
    CardWanted,
    SlotMade,
)
from cloud_sync.endpoint.store import Store
from onboard.core.cards import CAPTURE_S, shown_number
from onboard.core.events import Intent
from onboard.core.grants import Assurance

CODE_DIGITS: Final = 8
TRIES_MAX: Final = 100
TRIES_S: Final = 3600
"""So many wrong codes an hour and card, then none is heard for the rest of it. One guess in a million hits, and would
only block a card; a stranger who wants to keep its holder from blocking it must go on asking."""
KNOWN_S: Final = 30 * 86_400
"""How long a box keeps what a list said, and what it wrote."""
CAPTURE_BYTES: Final = 16
OPENS: Final = frozenset({"ready", "lent"})


class Cards:
    """The routes. ``now`` gives Unix seconds."""

    def __init__(
        self, store: Store, authority: Authority, issuer: lists.Issuer, link: Link, *, now: Callable[[], float]
    ) -> None:
        self._store = store
        self._authority = authority
        self._issuer = issuer
        self._link = link
        self._now = now

    def routes(self) -> APIRouter:
        """Return the town hall's routes."""
        routes = APIRouter(prefix="/api/v1")
        routes.add_api_route("/cards", self.get_cards, methods=["GET"])
        routes.add_api_route("/cards", self.post_card, methods=["POST"], status_code=201)
        routes.add_api_route("/cards/{number}", self.patch_card, methods=["PATCH"])
        captures = "/vehicles/{vehicle}/captures"
        routes.add_api_route(captures, self.post_capture, methods=["POST"], status_code=201, responses=AWAY)
        routes.add_api_route("/captures/{identity}", self.get_capture, methods=["GET"])
        routes.add_api_route("/vehicles/{vehicle}/card-slot", self.post_slot, methods=["POST"], status_code=201)
        return routes

    def open_routes(self) -> APIRouter:
        """Return what whoever holds a card's slip may do, at any hour and without the town hall."""
        routes = APIRouter(prefix="/api/v1")
        routes.add_api_route("/cards/{number}/block", self.post_block, methods=["POST"])
        return routes

    def get_cards(self, uid: CardUid | None = None) -> list[Card]:
        """List the cards, by number; or the one that shows this number on air."""
        table = tables.cards
        wanted = select(table).order_by(table.c.number).limit(CARDS_MAX)
        if uid is not None:
            wanted = wanted.where(table.c.uid == bytes.fromhex(uid))
        with self._store.read() as db:
            rows = db.execute(wanted)
            return [
                Card(
                    number=row.number,
                    assurance=row.assurance,
                    state=row.state,
                    holder=row.holder,
                    changed_s=row.changed_s,
                )
                for row in rows
            ]

    def post_card(self, wanted: CardWanted) -> CardKeys:
        """Enrol a card. One of the commune's that nobody has is told its keys again: it may not have them all.

        One that nobody has yet may become of the other sort: a blank one that was let in by its number gets keys.
        """
        table, uid = tables.cards, bytes.fromhex(wanted.uid)
        mutual = wanted.assurance == "mutual"
        with self._store.write() as db:
            row = db.execute(select(table).where(table.c.uid == uid)).one_or_none()
            written = row is not None and row.assurance == Assurance.MUTUAL and row.state != "new"
            if row is not None and (row.state not in ("new", "ready") or (written and not mutual)):
                raise HTTPException(409, f"this is card {row.number} already ({said(row)}); nothing was changed")
            if row is None:
                row = capture.new_card(db, uid, wanted.assurance, int(self._now()))
            elif row.assurance != wanted.assurance:
                sort = {"assurance": wanted.assurance, "state": "new" if mutual else "ready"}
                db.execute(update(table).where(table.c.number == row.number).values(sort))
            keys = [self._key(uid, slot).hex() for slot in range(SLOT_MAX + 1)] if mutual else []
        return CardKeys(number=row.number, uid=wanted.uid, keys=keys)

    def patch_card(self, number: CardNumber, change: CardChange) -> CardChanged:
        """Lend a card, take it back, or call it lost. A lent one has a new code that blocks it.

        One that is given back opens none of the bookings it was named in: whoever has it next shall not.
        """
        with self._store.write() as db:
            row = _known(db, number)
            why_not = _why_not(row, change)
            if why_not:
                raise HTTPException(409, f"card {number} {why_not}; nothing was changed")
            code = "".join(secrets.choice("0123456789") for _ in range(CODE_DIGITS)) if change.state == "lent" else None
            holder = row.holder if change.state == "lost" else change.holder
            back = change.state == "ready" and row.state not in ("new", "ready")
            freed = _free_bookings(db, number, int(self._now())) if back else {}
            issued = self._set(db, row, change.state, holder, code, freed)
        return self._changed(number, change.state, code, issued, len(freed))

    def post_block(self, number: CardNumber, block: CardBlock) -> CardChanged:
        """Block a card by the code on its slip."""
        table, now_s = tables.cards, int(self._now())
        with self._store.write() as db:
            row = _known(db, number)
            tries = row.code_tries if now_s < row.tried_s + TRIES_S else 0
            right = row.code_digest is not None and hmac.compare_digest(_digest(number, block.code), row.code_digest)
            heard = tries < TRIES_MAX
            issued: list[ListRow] = []
            if heard and right:
                issued = self._set(db, row, "blocked", row.holder, None)
            elif heard:
                since_s = now_s if tries == 0 else row.tried_s
                db.execute(update(table).where(table.c.number == number).values(code_tries=tries + 1, tried_s=since_s))
        if not heard:
            raise HTTPException(429, "too many wrong codes for this card: wait an hour, or call the town hall")
        if not right:
            raise HTTPException(403, "this code does not belong to this card; nothing was changed")
        return self._changed(number, "blocked", None, issued)

    def post_capture(self, vehicle: VehicleId) -> CaptureMade:
        """Have a car take the number of the next card that is nobody's there, within two minutes."""
        identity, now_s = secrets.token_bytes(CAPTURE_BYTES), self._now()
        with self._store.write() as db:
            asked = commands.issue(db, self._authority, vehicle, Intent.CAPTURE, identity, identity, now_s)
            capture.ask(db, identity, vehicle, int(now_s))
        if not self._link.publish(asked):
            raise HTTPException(503, "the broker is away: the car was not asked. Try again in a minute")
        return CaptureMade(id=identity.hex(), until_s=int(now_s + commands.GOOD_FOR_S + CAPTURE_S))

    def get_capture(self, identity: Annotated[str, Path(pattern="^[0-9a-f]{32}$")]) -> Capture:
        """Tell what became of one."""
        with self._store.read() as db:
            row = capture.found(db, bytes.fromhex(identity))
        if row is None:
            raise HTTPException(404, "nobody asked for this")
        uid = shown_number(row.uid) if row.uid is not None else None
        return Capture(vehicle=row.vehicle, number=row.card, uid=uid, new=row.new)

    def post_slot(self, vehicle: VehicleId) -> SlotMade:
        """Give a car another key of every card: whoever has its old box opens nothing with what is in it.

        Residents' own cards that it may know are lost with it: their numbers can be worked out and copied.
        """
        with self._store.write() as db:
            box = self._store.box(vehicle)
            if box is None:
                raise HTTPException(404, f"no vehicle {vehicle}")
            now_s = int(self._now())
            lost = give_up(db, vehicle, now_s)
            slot = slot_of(db, vehicle)
            issued = self._issuer.issue_each(db, self._store.boxes() if lost else (box,), now_s)
        return SlotMade(vehicle=vehicle, slot=slot, lost=sorted(lost), lists=self._issuer.made(issued))

    def _set(
        self,
        db: Connection,
        row: Row[Any],
        state: str,
        holder: str,
        code: str | None,
        freed: Mapping[bytes, str] = MappingProxyType({}),
    ) -> list[ListRow]:
        table, now_s = tables.cards, int(self._now())
        values = {"state": state, "holder": holder, "changed_s": now_s, "code_tries": 0}
        if state != "blocked":
            values["code_digest"] = _digest(row.number, code) if code is not None else None
        db.execute(update(table).where(table.c.number == row.number).values(values))
        boxes = self._store.boxes()
        if (row.state in OPENS) == (state in OPENS):
            boxes = tuple(box for box in boxes if box.vehicle in freed.values())
        if state in OPENS:
            return self._issuer.issue(db, boxes, now_s) if boxes else []
        return self._issuer.issue_each(db, boxes, now_s)

    def _changed(
        self, number: int, state: Any, code: str | None, issued: Sequence[ListRow], bookings: int = 0
    ) -> CardChanged:
        made = self._issuer.made(issued)
        return CardChanged(number=number, state=state, block_code=code, bookings=bookings, lists=made)

    def _key(self, uid: bytes, slot: int) -> bytes:
        try:
            return self._authority.card_key(uid, slot)
        except AuthorityError as error:
            raise HTTPException(409, f"{error}; nothing was changed") from error


def said(row: Row[Any]) -> str:
    """Return in words what a card is."""
    sort = "the commune's" if row.assurance == Assurance.MUTUAL else "by its number only"
    return f"{sort}, {row.state}"


def _why_not(row: Row[Any], change: CardChange) -> str:
    """Say why a card can't become this; "" if it can."""
    if row.state == "new" and not (change.state == "ready" and change.written):
        return "has not all of its keys: enrol it again, on the reader; it opens nothing until then"
    if change.state == "lent" and row.state == "lent" and row.holder != change.holder:
        return f"is lent to {row.holder}: take it back first"
    if change.state == "lent" and row.state not in OPENS:
        return f"is {row.state}: take it back first, if it has been found"
    return ""


def _free_bookings(db: Connection, number: int, now_s: int) -> dict[bytes, str]:
    """Take a card out of what is booked and not over; return those bookings and their cars."""
    table = tables.bookings
    open_ones = select(table.c.id, table.c.vehicle, table.c.cards).where(
        table.c.end_s > now_s - lists.KEEP_S, table.c.cancelled_s.is_(None)
    )
    freed = {}
    for row in db.execute(open_ones).all():
        cards = json.loads(row.cards)
        left = [card for card in cards if card.get("card") != number]
        if len(left) < len(cards):
            db.execute(update(table).where(table.c.id == row.id).values(cards=json.dumps(left)))
            freed[row.id] = row.vehicle
    return freed


def give_up(db: Connection, vehicle: str, now_s: int, *, own: bool = True) -> set[int]:
    """Take a car its key of every card for good, and with ``own`` the residents' cards that its box may know.

    Returns the numbers of these: they are lost now. Lists are the caller's to issue.
    """
    table, held = tables.card_slots, tables.cards
    mine = (table.c.vehicle == vehicle, table.c.retired_s.is_(None))
    db.execute(update(table).where(*mine).values(retired_s=now_s))
    lost = _numbers_known_to(db, vehicle, now_s) if own else set()
    db.execute(update(held).where(held.c.number.in_(lost)).values(state="lost", changed_s=now_s))
    return lost


def slot_of(db: Connection, vehicle: str) -> int:
    """Return which key of every card is this car's; the next one if it has none. HTTPException 409: all are given."""
    table = tables.card_slots
    held: int | None = db.scalar(select(table.c.slot).where(table.c.vehicle == vehicle, table.c.retired_s.is_(None)))
    if held is not None:
        return held
    slot = (db.scalar(select(func.max(table.c.slot))) or 0) + 1
    if slot > SLOT_MAX:
        raise HTTPException(409, f"all {SLOT_MAX} keys of the cards are given to cars; nothing was changed")
    db.execute(insert(table).values(slot=slot, vehicle=vehicle))
    return slot


def _numbers_known_to(db: Connection, vehicle: str, now_s: int) -> set[int]:
    """Return the residents' own cards that a car's box may know: of its bookings, as long as a list names them."""
    table, cards = tables.bookings, tables.cards
    named: set[int] = set()
    since_s = now_s - lists.KEEP_S - KNOWN_S
    for text in db.scalars(select(table.c.cards).where(table.c.vehicle == vehicle, table.c.end_s > since_s)):
        named |= {card["card"] for card in json.loads(text) if "card" in card}
    own = select(cards.c.number).where(cards.c.assurance == Assurance.UID, cards.c.state.in_(OPENS))
    return named & set(db.scalars(own))


def card_values(db: Connection, cards: Sequence[CardIn], vehicles: Sequence[str]) -> list[dict[str, str | int]]:
    """Return cards as the tables keep them, for these cars. HTTPException 422: it is not known, or opens nothing."""
    values: list[dict[str, str | int]] = []
    for card in cards:
        if card.card is not None:
            row = _known(db, card.card, status=422)
            if row.state not in OPENS:
                raise HTTPException(422, f"card {card.card} is {row.state}: it opens nothing; nothing was changed")
            for vehicle in vehicles if row.assurance == Assurance.MUTUAL else ():
                slot_of(db, vehicle)
            values.append({"card": card.card})
        elif card.uid is not None:
            # By its number on air: it must have been let in, and is worth what it is.
            shows = tables.cards.c.uid == bytes.fromhex(card.uid)
            number = db.scalar(select(tables.cards.c.number).where(shows))
            if number is None:
                raise HTTPException(
                    422, f"card {card.uid} is not enrolled (amibox card enrol --own); nothing was changed"
                )
            values += card_values(db, [CardIn(card=number)], vehicles)
        else:
            values.append({"ref": card.ref or ""})
    return values


def _known(db: Connection, number: int, status: int = 404) -> Row[Any]:
    row = db.execute(select(tables.cards).where(tables.cards.c.number == number)).one_or_none()
    if row is None:
        raise HTTPException(status, f"there is no card {number}; nothing was changed")
    return row


def _digest(number: int, code: str) -> bytes:
    return hashlib.sha256(f"AmiBox card {number} {code}".encode()).digest()
