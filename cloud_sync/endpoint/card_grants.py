"""What a booking's cards are at one car: which of them open it, by which proof, and which are taken back."""

from __future__ import annotations

import json
from functools import cached_property
from typing import Any, Final

from sqlalchemy import Connection, Row, select

from cloud_sync.endpoint import tables
from cloud_sync.endpoint.authority import Authority, AuthorityError
from onboard.core.grants import Assurance, CardGrant

LOST_S: Final = 366 * 86_400
"""So long after a loss a list takes a card back: longer than a rental that it began, or a car without news."""
LOST_MAX: Final = 500
"""The newest losses that a list names: a document holds 1,024 revocations, of every kind."""
NO_KEY: Final = "card_key_missing"


class CardGrants:
    """The cards of one car, within a transaction. ``troubles``: what a person must mend, for an alarm."""

    def __init__(self, db: Connection, authority: Authority, vehicle: str) -> None:
        self.troubles: set[str] = set()
        self._db = db
        self._authority = authority
        self._vehicle = vehicle

    def of(self, text: str) -> tuple[CardGrant, ...]:
        """Return what a booking's cards (as the tables keep them) are here. One that is lost or blocked is nothing.

        A card whose key can't be made here is left out, and told: it must not keep a car from its list.
        """
        grants = []
        for card in json.loads(text):
            row = self._enrolled(card)
            if row is None:
                grants.append(CardGrant(bytes.fromhex(card["ref"]), Assurance.UID))
            elif row.state not in ("lost", "blocked"):
                try:
                    grant = self._grant(row)
                except AuthorityError as error:
                    self.troubles.add(str(error))
                    continue
                if grant is not None:
                    grants.append(grant)
        return tuple(grants)

    def taken_back(self, now_s: int) -> dict[str, int]:
        """Return the references of lost and blocked cards, each with the time until which it is taken back.

        Also against a rental that the card has begun, however long that runs: no list takes that away.
        """
        table = tables.cards
        lost = select(table.c.uid, table.c.changed_s).where(
            table.c.state.in_(("lost", "blocked")), table.c.changed_s > now_s - LOST_S
        )
        found = {}
        for row in self._db.execute(lost.order_by(table.c.changed_s.desc()).limit(LOST_MAX)).all():
            try:
                found[self._authority.card_ref(self._vehicle, row.uid).hex()] = now_s + LOST_S
            except AuthorityError:
                return {}  # a car without a card key here knows no card by its number
        return found

    def _enrolled(self, card: dict[str, Any]) -> Row[Any] | None:
        """Return the card's row. A reference is looked up, too: it is worth what the card is, and no less."""
        if "ref" in card:
            return self._by_ref.get(card["ref"])
        return self._db.execute(select(tables.cards).where(tables.cards.c.number == card["card"])).one()

    @cached_property
    def _by_ref(self) -> dict[str, Row[Any]]:
        rows = self._db.execute(select(tables.cards)).all()
        try:
            return {self._authority.card_ref(self._vehicle, row.uid).hex(): row for row in rows}
        except AuthorityError:
            return {}

    def _grant(self, row: Row[Any]) -> CardGrant | None:
        ref = self._authority.card_ref(self._vehicle, row.uid)
        if row.assurance == Assurance.UID:
            return CardGrant(ref, Assurance.UID)
        held = tables.card_slots.c
        slot = self._db.scalar(select(held.slot).where(held.vehicle == self._vehicle, held.retired_s.is_(None)))
        if slot is None:
            return None
        return CardGrant(ref, Assurance.MUTUAL, self._authority.card_key(row.uid, slot), slot)
