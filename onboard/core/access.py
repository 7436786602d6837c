"""Who may unlock (``docs/protocol.md`` section 6), in order; revocation first, in every rule.

1. The running rental's driver: always, by phone or card, whatever the clock, the network or the booking's end say.
2. A reservation in the list: list within its horizon, window open, key or card matches, nobody else under way. Before
   its start, up to ``early_unlock_s``, only if no other window is open.
3. A pass made after the list (``made_with_version`` above the list's) replaces the list's entry of its booking. Where
   two windows overlap, the newer grant wins. At or below the list's version a booking missing from the list is
   cancelled, if it starts before the list's horizon.
4. Staff, within their own time.
5. The last driver once more, for the charging cable, until somebody else opens.

Starts are tested against the earliest believable time, ends against the latest. A clock too weak for the test asks for
a time proof; the commune may let a *listed* booking start instead, written down as unproven.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass, replace

from onboard.core.clock import Belief, ClockQuality, Instant, believe
from onboard.core.events import CardCredential, Credential, PhoneCredential, RemoteCredential
from onboard.core.grants import Assurance, BookingKind, CardGrant, Pass, Reservation, Rights
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


def belief(state: State, now: Instant) -> Belief:
    """Return what the core believes of the wall clock."""
    return believe(state.kept.floor_s, state.anchor, now)


def credential_name(credential: Credential) -> str:
    """Name the kind of credential for records: ``card``, ``phone`` or ``remote``. Never who."""
    match credential:
        case CardCredential():
            return "card"
        case PhoneCredential():
            return "phone"
        case RemoteCredential():
            return "remote"


def revoked(state: State, credential: Credential, now: Instant) -> bool:
    """Tell whether the list takes this card, phone key or pass back. An undatable revocation counts."""
    listed = state.kept.grants.listed
    if listed is None:
        return False
    names: set[bytes] = set()
    match credential:
        case CardCredential(ref=ref):
            names.add(ref)
        case PhoneCredential(key=key, grant=grant):
            names.add(key)
            if grant is not None:
                names.add(grant.id)
        case RemoteCredential():
            pass
    earliest_s = belief(state, now).earliest_s
    return any(r.what in names and earliest_s <= r.until_s for r in listed.revoked)


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


def names(cards: tuple[CardGrant, ...], keys: tuple[bytes, ...], subject: bytes, credential: Credential) -> bool:
    """Tell whether a credential is one of these cards, keys, or speaks for this subject."""
    match credential:
        case CardCredential(ref=ref):
            return any(card.ref == ref for card in cards)
        case PhoneCredential(key=key):
            return key in keys
        case RemoteCredential(subject=who):
            return who == subject


def applies(state: State, grant: Pass) -> bool:
    """Tell whether a pass says something that the list doesn't: it is newer, or lies beyond the list's horizon."""
    listed = state.kept.grants.listed
    if listed is None:
        return grant.made_with_version > state.kept.grants.version_floor
    return grant.made_with_version > listed.version or grant.start_s >= listed.horizon_end_s


def candidates(state: State) -> Iterator[Candidate]:
    """Give every booking that holds: the list's, each replaced by its newest newer pass, and passes on their own."""
    listed = state.kept.grants.listed
    passes: dict[bytes, Pass] = {}
    for grant in state.kept.grants.passes:
        known = passes.get(grant.reservation_id)
        if applies(state, grant) and (known is None or grant.made_with_version >= known.made_with_version):
            passes[grant.reservation_id] = grant
    for entry in listed.reservations if listed is not None else ():
        if listed is not None and entry.id not in passes:
            yield Candidate(entry, listed.version, min(entry.end_s, listed.horizon_end_s), listed=True)
    entries = {entry.id: entry for entry in listed.reservations} if listed is not None else {}
    for identity, grant in passes.items():
        booking = _from_pass(grant, entries.get(identity))
        yield Candidate(booking, grant.made_with_version, min(grant.end_s, grant.expires_s), listed=False)


def _from_pass(grant: Pass, entry: Reservation | None) -> Reservation:
    kind = BookingKind.LOOP if grant.dropoff in (None, grant.pickup) else BookingKind.ONE_WAY
    return Reservation(
        id=grant.reservation_id,
        start_s=grant.start_s,
        end_s=grant.end_s,
        pickup=grant.pickup,
        dropoff=grant.dropoff,
        kind=kind,
        driver=grant.driver,
        phone_keys=(grant.phone_key,),
        cards=entry.cards if entry is not None else (),
        rights=grant.rights,
        trace=entry.trace if entry is not None else False,
    )


def is_driver(state: State, booking: Reservation, credential: Credential) -> bool:
    """Tell whether a credential belongs to this booking: as copied at the start, as listed now, or by a newer pass."""
    versions = [booking, *(c.booking for c in candidates(state) if c.booking.id == booking.id)]
    return any(
        names(b.cards, b.phone_keys, b.id, credential) and card_fault(state, b.cards, credential) is None
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
    if isinstance(verdict, Denial) and verdict.reason == "unknown":
        verdict = _staff(state, credential, now)
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
    rule = 2 if mine.listed else 3
    if time.quality < ClockQuality.GNSS:
        return _unproven(state, mine, time)
    if time.latest_s > mine.last_s:
        return Denial("too_late" if time.latest_s > booking.end_s else "list_too_old")
    others = [c for c in everything if c.booking.id != booking.id and _open(c, time)]
    if any(c.version > mine.version for c in others):
        return Denial("superseded")
    if time.earliest_s < booking.start_s:
        if time.earliest_s < booking.start_s - state.policy.early_unlock_s:
            return Denial("too_early")
        if others:
            return Denial("other_window")
    return Grant(rule, RentalKind.BOOKING, booking)


def _open(candidate: Candidate, time: Belief) -> bool:
    return candidate.booking.start_s <= time.latest_s and time.earliest_s <= candidate.last_s


def _unproven(state: State, mine: Candidate, time: Belief) -> Grant | Denial:
    """Decide without a trustworthy clock: only if the commune allows it, only a listed booking, never a past one."""
    if not (state.policy.unproven_start and mine.listed):
        return Denial("clock_unproven")
    if time.earliest_s > mine.last_s:
        return Denial("too_late")
    early_s = mine.booking.start_s - state.policy.early_unlock_s
    if time.quality is ClockQuality.RTC and not early_s <= time.best_s <= mine.last_s:
        return Denial("clock_unproven")
    return Grant(2, RentalKind.BOOKING, mine.booking, proven=False)


def _staff(state: State, credential: Credential, now: Instant) -> Grant | Denial:
    """Rule 4."""
    listed = state.kept.grants.listed
    time = belief(state, now)
    for person in listed.staff if listed is not None else ():
        if not names(person.cards, person.phone_keys, person.id, credential):
            continue
        fault = card_fault(state, person.cards, credential)
        if fault is not None:
            return Denial(fault)
        proven = time.quality >= ClockQuality.GNSS
        if not proven and not state.policy.unproven_start:
            return Denial("clock_unproven")
        if (time.latest_s if proven else time.earliest_s) > person.not_after_s:
            return Denial("too_late")
        return Grant(
            4,
            RentalKind.STAFF,
            _staff_booking(person.id, person.not_after_s, person.cards, person.phone_keys, person.rights),
            proven=proven,
        )
    return Denial("unknown")


def _staff_booking(
    identity: bytes, end_s: int, cards: tuple[CardGrant, ...], keys: tuple[bytes, ...], rights: Rights
) -> Reservation:
    """Dress a member of staff's visit as a booking, so that every rule of the door holds for it alike."""
    return Reservation(identity, 0, end_s, "", None, BookingKind.LOOP, identity[:8], keys, cards, rights, trace=False)


def _reopen(state: State, credential: Credential, now: Instant) -> Grant | None:
    """Rule 5."""
    last = state.last_driver
    if last is None or last.used or now.boot_s - last.ended_s > state.policy.reopen_window_s:
        return None
    if not is_driver(state, last.booking, credential):
        return None
    return Grant(5, RentalKind.REOPEN, last.booking)
