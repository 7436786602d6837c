"""The card that the technician's console waits for: to log in with it, or to see what it is. Nothing opens by it."""

from __future__ import annotations

from onboard.core import access, known
from onboard.core.commands import Pattern
from onboard.core.draft import Draft
from onboard.core.events import AccessRequested, CardCredential, CardsRefused, CardWanted
from onboard.core.grants import StaffGrant
from onboard.core.records import ConsoleUsed
from onboard.core.state import State

MARK_BYTES = 4
"""So much of a member of staff's id stands in the records of the console."""


def waited_for(state: State, now_s: float) -> CardWanted | None:
    """Return what the console waits for at boot time ``now_s``; None if nothing."""
    wanted = state.card_wanted
    return wanted if wanted is not None and now_s <= wanted.until_s else None


def shown(d: Draft, event: AccessRequested) -> bool:
    """Take the card if the console waits for one. The running rental's driver's is never taken."""
    who, wanted, running = event.credential, waited_for(d.state, d.boot_s), d.kept.rental
    if wanted is None or not isinstance(who, CardCredential):
        return False
    if running is not None and access.is_driver(d.state, running.booking, who):
        return False
    d.set(card_wanted=None)
    if wanted.login:
        _log_in(d, who, wanted)
    else:
        d.show(Pattern.GRANTED)
        d.reply(wanted.request, "granted", f"{who.assurance.value} {_whose(d, who)}")
    return True


def on_cards_refused(d: Draft, event: CardsRefused) -> None:
    """Tell the console, too, why no card could be read."""
    wanted = waited_for(d.state, d.boot_s)
    if wanted is not None:
        d.set(card_wanted=None)
        d.reply(wanted.request, "denied", event.reason)


def _log_in(d: Draft, who: CardCredential, wanted: CardWanted) -> None:
    whose = _whose(d, who)
    if whose != "staff" or not access.serves(d.state, who, d.now):
        d.record(ConsoleUsed("login_failed", "card", whose))
        d.show(Pattern.DENIED)
        d.reply(wanted.request, "denied", whose)
        return
    mark = next(p.id for p in known.everybody(d.state) if access.names(p.cards, (), b"", who))[:MARK_BYTES].hex()
    d.record(ConsoleUsed("login_card", f"card-{mark}"))
    d.show(Pattern.GRANTED)
    d.reply(wanted.request, "granted", f"card-{mark}")


def _whose(d: Draft, who: CardCredential) -> str:
    """Return ``revoked``, ``staff``, ``booking`` or ``unknown``."""
    if access.revoked(d.state, who, d.now):
        return "revoked"
    people = [p for p in known.everybody(d.state) if access.names(p.cards, (), b"", who)]
    if any(isinstance(p, StaffGrant) for p in people):
        return "staff"
    return "booking" if people else "unknown"
