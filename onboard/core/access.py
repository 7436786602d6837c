"""Who may unlock (``docs/protocol.md`` section 6), in order; revocation first, in every rule.

1. The running rental's driver: always, by phone or card, whatever the clock, the network or the booking's end say.
2. A reservation in the list: list within its horizon, window open, key or card matches, nobody else under way. Before
   its start, up to ``early_unlock_s``, only if no other window is open.
3. A pass made after the list (``made_with_version`` above the list's) replaces the list's entry of its booking, until
   a list as new comes. Where two windows overlap, the newer grant wins. At or below the list's version a booking
   missing from the list is cancelled, if it starts before the list's horizon. The same driver's cards and other phones
   stay good for it.
4. Staff, within their own time; afterwards by a pass with the service right.
5. The last driver once more, for the charging cable, until somebody else opens.
6. A technician logged in at the console, whose name and PIN the town hall gave: a member of staff's visit.

A booking whose rental is over opens nothing, so it stands in nobody's way either.

Starts are tested against the earliest believable time, ends against the latest. A clock too weak for the test asks for
a time proof; the commune may let a *listed* booking start instead, written down as unproven.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass, replace
from typing import assert_never

from onboard.core.clock import Belief, ClockQuality, Instant, believe
from onboard.core.events import CardCredential, ConsoleCredential, Credential, PhoneCredential, RemoteCredential
from onboard.core.grants import VISIT_S, Assurance, BookingKind, CardGrant, Pass, Reservation, Rights, StaffGrant
from onboard.core.records import RentalKind
from onboard.core.state import State


@dataclass(frozen=True, slots=True)
class Grant:
    """Yes: by which rule, for which booking. ``take_over``: the car was abandoned, that rental ends first."""

    rule: int
    kind: RentalKind
    booking: Reservation
    proven: bool = True
    take_over: bool = False


@dataclass(frozen=True, slots=True)
class Denial:
    """No: one word that the driver's words are looked up by."""

    reason: str


@dataclass(frozen=True, slots=True)
class Candidate:
    """A booking as it holds now, and the list version that vouches for it."""

    booking: Reservation
    version: int
    last_s: float
    """After this (Unix seconds) it starts nothing: its end, its pass's expiry, or the list's horizon."""
    listed: bool


def list_version(state: State) -> int:
    """Return the version below which no list counts: of the list in force, or the floor."""
    grants = state.kept.grants
    return max(grants.version_floor, grants.listed.version if grants.listed is not None else 0)


def belief(state: State, now: Instant) -> Belief:
    """Return what the core believes of the wall clock."""
    return believe(state.kept.floor_s, state.anchor, now)


def signed_s(state: State) -> float:
    """Return the Unix time that is over by signed times alone: what a wrong sky says makes nothing forgotten."""
    time = belief(state, state.at)
    return time.earliest_s if time.quality is ClockQuality.AUTHENTICATED else state.kept.floor_s


def credential_name(credential: Credential) -> str:
    """Name the kind of credential for records: ``card``, ``phone`` or ``remote``. Never who."""
    match credential:
        case CardCredential():
            return "card"
        case PhoneCredential():
            return "phone"
        case RemoteCredential():
            return "remote"
        case ConsoleCredential():
            return "console"
        case _:
            assert_never(credential)


def revoked(state: State, credential: Credential, now: Instant) -> bool:
    """Tell whether the list takes this card, phone key or pass back. An undatable revocation counts.

    A phone that comes without its pass is held to the newest one it brought for the running rental (or the last).
    """
    match credential:
        case CardCredential(ref=ref):
            return taken_back(state, ref, now)
        case PhoneCredential(key=key, grant=grant):
            used = [p for p in newest_last(state) if p.phone_key == key and p.reservation_id == latest_booking(state)]
            marks = [key, *([grant.id] if grant is not None else [p.id for p in used[-1:]])]
            return any(taken_back(state, mark, now) for mark in marks)
        case RemoteCredential() | ConsoleCredential():
            return False
        case _:
            assert_never(credential)


def taken_back(state: State, what: bytes, now: Instant) -> bool:
    """Tell whether the list revokes this phone key, card reference or pass id."""
    listed = state.kept.grants.listed
    if listed is None:
        return False
    earliest_s = belief(state, now).earliest_s
    return any(r.what == what and earliest_s <= r.until_s for r in listed.revoked)


def newest_last(state: State) -> list[Pass]:
    """Return the kept passes, the oldest version first."""
    return sorted(state.kept.grants.passes, key=lambda p: (p.made_with_version, p.expires_s))


def latest_booking(state: State) -> bytes | None:
    """Return the id of the running rental's booking, or of the one whose driver may open once more."""
    rental, last = state.kept.rental, state.last_driver
    if rental is not None:
        return rental.booking.id
    return last.booking.id if last is not None else None


def card_fault(state: State, cards: tuple[CardGrant, ...], credential: Credential) -> str | None:
    """Say why a known card is not good enough here: ``card_not_proven`` (maybe a copy) or ``uid_cards_off``."""
    if not isinstance(credential, CardCredential):
        return None
    for card in cards:
        if card.ref == credential.ref:
            if card.assurance is Assurance.MUTUAL and credential.assurance is not Assurance.MUTUAL:
                return "card_not_proven"
            if card.assurance is Assurance.UID and not state.policy.uid_cards:
                return "uid_cards_off"
    return None


def serves(state: State, credential: Credential, now: Instant) -> bool:
    """Tell whether this credential is, now, that of somebody in the commune's service."""
    verdicts = (_booking(state, credential, now), _staff(state, credential, now))
    return any(isinstance(each, Grant) and each.kind is RentalKind.STAFF for each in verdicts)


def names(cards: tuple[CardGrant, ...], keys: tuple[bytes, ...], subject: bytes, credential: Credential) -> bool:
    """Tell whether a credential is one of these cards, keys, or speaks for this subject."""
    match credential:
        case CardCredential(ref=ref):
            return any(card.ref == ref for card in cards)
        case PhoneCredential(key=key):
            return key in keys
        case RemoteCredential(subject=who) | ConsoleCredential(subject=who):
            return who == subject
        case _:
            assert_never(credential)


def applies(state: State, grant: Pass) -> bool:
    """Tell whether a pass says something that the list doesn't: it is newer, or lies beyond what the list covers."""
    listed = state.kept.grants.listed
    if listed is None:
        return grant.made_with_version > state.kept.grants.version_floor
    if grant.made_with_version > listed.version:
        return True
    return grant.start_s >= listed.horizon_end_s and all(r.id != grant.reservation_id for r in listed.reservations)


def candidates(state: State) -> Iterator[Candidate]:
    """Give every booking that holds: the list's, each on the terms of its newest newer pass, and passes on their own.

    Two phones of one driver hold a pass each: both give the newest one's terms, each until its own expiry. What the
    list names does so until the list's horizon: an expired pass does not bring the older terms back.
    """
    listed = state.kept.grants.listed
    entries = {entry.id: entry for entry in listed.reservations} if listed is not None else {}
    holding = [p for p in newest_last(state) if applies(state, p) and not taken_back(state, p.id, state.at)]
    newest = {grant.reservation_id: grant for grant in holding}
    if listed is not None:
        for entry in listed.reservations:
            later = newest.get(entry.id)
            if later is None:
                yield Candidate(entry, listed.version, min(entry.end_s, listed.horizon_end_s), listed=True)
            elif later.driver == entry.driver and later.start_s < listed.horizon_end_s:
                last_s = min(later.end_s, listed.horizon_end_s)
                yield Candidate(_from_pass((), later, entry), later.made_with_version, last_s, listed=True)
    for grant in holding:
        terms = newest[grant.reservation_id]
        if grant.driver == terms.driver:
            booking = _from_pass((grant.phone_key,), terms, entries.get(terms.reservation_id))
            yield Candidate(booking, terms.made_with_version, min(terms.end_s, grant.expires_s), listed=False)


def _from_pass(keys: tuple[bytes, ...], terms: Pass, entry: Reservation | None) -> Reservation:
    known = entry if entry is not None and entry.driver == terms.driver else None
    return Reservation(
        id=terms.reservation_id,
        start_s=terms.start_s,
        end_s=terms.end_s,
        pickup=terms.pickup,
        dropoff=terms.dropoff,
        kind=BookingKind.LOOP if terms.dropoff in (None, terms.pickup) else BookingKind.ONE_WAY,
        driver=terms.driver,
        phone_keys=(*keys, *(known.phone_keys if known is not None else ())),
        cards=known.cards if known is not None else (),
        rights=terms.rights,
        trace=known.trace if known is not None else False,
    )


def on_newest_terms(state: State, booking: Reservation) -> Reservation:
    """Return a running rental's booking with the window, places and rights that hold for it now.

    Its driver, keys and cards stay those it was begun with: whoever is on the way gets in and out, whatever changed.
    Taking that away is what a revocation is for.
    """
    held = next((c.booking for c in candidates(state) if c.booking.id == booking.id), booking)
    return replace(held, driver=booking.driver, phone_keys=booking.phone_keys, cards=booking.cards)


def is_driver(state: State, booking: Reservation, credential: Credential) -> bool:
    """Tell whether a credential belongs to this booking: as copied at the start, as listed now, or by a newer pass."""
    versions = [booking, *(c.booking for c in candidates(state) if c.booking.id == booking.id)]
    return any(
        # A card that was let in by its number stays good for what it began, whatever the rule is now.
        names(b.cards, b.phone_keys, b.id, credential) and card_fault(state, b.cards, credential) != "card_not_proven"
        for b in versions
    )


def decide(state: State, credential: Credential, now: Instant, *, abandoned: bool, still: bool) -> Grant | Denial:
    """Decide whether this credential may unlock now.

    ``abandoned``: the running rental may be taken over. ``still``: the car does not move. A pass that the phone brought
    must already be among ``state.kept.grants.passes``.
    """
    if not still:
        return Denial("moving")
    if revoked(state, credential, now):
        return Denial("revoked")
    rental = state.kept.rental
    if rental is not None and is_driver(state, rental.booking, credential):
        return Grant(1, rental.kind, rental.booking)
    verdict = _booking(state, credential, now)
    if isinstance(verdict, Denial):
        staff = _staff(state, credential, now)
        verdict = staff if isinstance(staff, Grant) or verdict.reason == "unknown" else verdict
    if isinstance(verdict, Denial):
        reopened = _reopen(state, credential, now)
        if reopened is not None and rental is None:
            return reopened
        return verdict
    if state.kept.maintenance and verdict.kind is not RentalKind.STAFF:
        return Denial("out_of_order")
    if rental is not None:
        if abandoned and verdict.rule in (2, 3):
            return replace(verdict, take_over=True)
        return Denial("in_use")
    return verdict


def _booking(state: State, credential: Credential, now: Instant) -> Grant | Denial:
    """Rules 2 and 3."""
    time = belief(state, now)
    everything = tuple(candidates(state))
    mine = [c for c in everything if names(c.booking.cards, c.booking.phone_keys, c.booking.id, credential)]
    if not mine:
        return Denial("unknown" if not _cancelled(state, credential) else "cancelled")
    verdicts = [_window(state, c, everything, time, credential) for c in sorted(mine, key=lambda c: c.booking.start_s)]
    for verdict in verdicts:
        if isinstance(verdict, Grant):
            return verdict
    # The refusal that a driver can act on: what is to come before what is over.
    order = ("uid_cards_off", "card_not_proven", "clock_unproven", "other_window", "too_early", "superseded")
    reasons = [v.reason for v in verdicts if isinstance(v, Denial)]
    return Denial(next((word for word in order if word in reasons), reasons[-1]))


def _cancelled(state: State, credential: Credential) -> bool:
    if not isinstance(credential, PhoneCredential) or credential.grant is None:
        return False
    return not applies(state, credential.grant)


def _window(
    state: State, mine: Candidate, everything: tuple[Candidate, ...], time: Belief, credential: Credential
) -> Grant | Denial:
    booking = mine.booking
    fault = card_fault(state, booking.cards, credential)
    if fault is not None:
        return Denial(fault)
    if Rights.DOOR not in booking.rights:
        return Denial("no_right")
    if booking.id in state.kept.ended:
        return Denial("rental_over")
    if time.quality < ClockQuality.GNSS:
        return _unproven(state, mine, everything, time)
    return _in_window(state, mine, everything, time)


def _in_window(state: State, mine: Candidate, everything: tuple[Candidate, ...], time: Belief) -> Grant | Denial:
    booking = mine.booking
    if time.latest_s > mine.last_s:
        return Denial("too_late" if time.latest_s > booking.end_s else "list_too_old")
    others = [c for c in everything if c.booking.id not in (booking.id, *state.kept.ended) and _open(c, time)]
    if any(c.version > mine.version for c in others):
        return Denial("superseded")
    if time.earliest_s < booking.start_s:
        if time.earliest_s < booking.start_s - state.policy.early_unlock_s:
            return Denial("too_early")
        if others:
            return Denial("other_window")
    kind = RentalKind.STAFF if Rights.SERVICE in booking.rights else RentalKind.BOOKING
    return Grant(2 if mine.listed else 3, kind, booking)


def _open(candidate: Candidate, time: Belief) -> bool:
    return candidate.booking.start_s <= time.latest_s and time.earliest_s <= candidate.last_s


def _unproven(state: State, mine: Candidate, everything: tuple[Candidate, ...], time: Belief) -> Grant | Denial:
    """Decide without a trustworthy clock: only if the commune allows it, only a listed booking, never a past one.

    A real-time clock may be wrong, so it grants nothing by itself, but what it says must allow the start.
    """
    if time.earliest_s > mine.last_s:
        return Denial("too_late")
    if not (state.policy.unproven_start and mine.listed):
        return Denial("clock_unproven")
    if time.quality is ClockQuality.RTC:
        as_read = Belief(time.best_s, time.best_s, time.best_s, time.quality)
        if isinstance(_in_window(state, mine, everything, as_read), Denial):
            return Denial("clock_unproven")
    return Grant(2, RentalKind.BOOKING, mine.booking, proven=False)


def _staff(state: State, credential: Credential, now: Instant) -> Grant | Denial:
    """Rules 4 and 6."""
    if isinstance(credential, ConsoleCredential):
        visit = StaffGrant(credential.subject, int(belief(state, now).best_s) + VISIT_S, (), (), Rights.DOOR)
        return Grant(6, RentalKind.STAFF, _visit(visit))
    listed = state.kept.grants.listed
    verdict: Grant | Denial = Denial("unknown")
    for person in listed.staff if listed is not None else ():
        if names(person.cards, person.phone_keys, person.id, credential):
            verdict = _person(state, person, credential, now)
            if isinstance(verdict, Grant):
                break
    return verdict


def _person(state: State, person: StaffGrant, credential: Credential, now: Instant) -> Grant | Denial:
    fault = card_fault(state, person.cards, credential)
    if fault is not None:
        return Denial(fault)
    if Rights.DOOR not in person.rights:
        return Denial("no_right")
    time = belief(state, now)
    proven = time.quality >= ClockQuality.GNSS
    if (time.latest_s if proven else time.earliest_s) > person.not_after_s:
        return Denial("too_late")
    # As with a booking: a real-time clock lets nobody in by itself, but what it says must allow it.
    if not proven and not (state.policy.unproven_start and time.best_s <= person.not_after_s):
        return Denial("clock_unproven")
    return Grant(4, RentalKind.STAFF, _visit(person), proven=proven)


def _visit(person: StaffGrant) -> Reservation:
    """Dress a member of staff's visit as a booking, so that every rule of the door holds for it alike."""
    return Reservation(
        id=person.id,
        start_s=0,
        end_s=person.not_after_s,
        pickup="",
        dropoff=None,
        kind=BookingKind.LOOP,
        driver=person.id[:8],
        phone_keys=person.phone_keys,
        cards=person.cards,
        rights=person.rights,
        trace=False,
    )


def _reopen(state: State, credential: Credential, now: Instant) -> Grant | None:
    """Rule 5."""
    last = state.last_driver
    if last is None or last.used or now.boot_s - last.ended_s > state.policy.reopen_window_s:
        return None
    if not is_driver(state, last.booking, credential):
        return None
    return Grant(5, RentalKind.REOPEN, last.booking)
