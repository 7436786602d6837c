"""Whom the box knows, before anybody wants anything: what the card reader and a phone's conversation look up.

Whether they may do anything, and when, is ``access``'s to say.
"""

from __future__ import annotations

from onboard.core.access import candidates
from onboard.core.grants import Reservation, StaffGrant
from onboard.core.state import State


def everybody(state: State) -> list[Reservation | StaffGrant]:
    """Return every booking and member of staff known here, the running rental's and the last driver's included."""
    listed, rental, last = state.kept.grants.listed, state.kept.rental, state.last_driver
    bookings = [c.booking for c in candidates(state)]
    bookings += [each.booking for each in (rental, last) if each is not None]
    return [*bookings, *(listed.staff if listed is not None else ())]


def card_key(state: State, ref: bytes) -> tuple[int, bytes] | None:
    """Return the slot and the key that a card known here must prove; None for one that shows a number only."""
    keys = ((card.slot, card.key) for each in everybody(state) for card in each.cards if card.ref == ref)
    return next(((slot, key) for slot, key in keys if slot is not None and key is not None), None)


def phone_keys(state: State, reference: bytes) -> tuple[bytes, ...]:
    """Return the phone keys of every booking and member of staff known here whose id begins with ``reference``."""
    people = everybody(state)
    return tuple(dict.fromkeys(key for each in people if each.id.startswith(reference) for key in each.phone_keys))


def has_card(state: State, ref: bytes) -> bool:
    """Tell whether a card is anybody's here, or was taken back."""
    listed = state.kept.grants.listed
    marks = {each.what for each in listed.revoked} if listed is not None else set()
    return ref in marks or any(card.ref == ref for each in everybody(state) for card in each.cards)
