"""What people and the commune ask for: a tap, a phone's word, a remote command, the button, a new list."""

from __future__ import annotations

from dataclasses import replace

from onboard.core import access, capture, doors, known, rental, results, service
from onboard.core import trip as trips
from onboard.core.access import Denial, Grant
from onboard.core.cards import CAPTURE_S
from onboard.core.commands import Action, Pattern
from onboard.core.draft import HOUR_S, Draft
from onboard.core.events import (
    AccessRequested,
    CardCredential,
    CardsRefused,
    Credential,
    Intent,
    ListReceived,
    PhoneCredential,
    PhoneRefused,
    RemoteCredential,
)
from onboard.core.grants import Pass
from onboard.core.records import (
    AccessDenied,
    Alert,
    CardCaptured,
    DocumentRefused,
    DoorReopened,
    ListAccepted,
    RentalEndReason,
    RentalKind,
)
from onboard.core.state import Capture, Grants, Rental

_TRY_AGAIN = frozenset({"moving", "busy", "door_unknown", "clock_unproven", "too_early", "other_window"})
"""Refusals that pass by themselves: the light says try again, not no."""


LOCKS_IN_DOUBT = 2
"""After so many locks in a row that nothing confirmed a tap opens: the first retry must still be one of the lock."""

ASKED_MAX_S = 5.0
"""What could not be decided by then is not wanted any more: a phone was told so after 4.5 s."""


def on_access(d: Draft, event: AccessRequested) -> None:
    """Answer a person, whichever way they came."""
    who = event.credential
    before = _answered(d, who, event.intent)
    if before is not None:
        d.reply(event.request, *before)
        return
    if event.asked_s is not None and d.boot_s - event.asked_s > ASKED_MAX_S:
        # Whoever asked was told by now that no answer came, or has gone: nothing may move behind them.
        _deny(d, event, "busy")
        return
    stale = _stale_command(d, who)
    if stale is not None:
        _deny(d, event, stale)
        return
    _note_credential(d, who)
    running = d.kept.rental
    if event.intent is Intent.CAPTURE:
        _open_capture(d, event)
    elif service.shown(d, event) or _captured(d, event):
        pass
    elif running is not None and access.is_driver(d.state, running.booking, who):
        _driver(d, event, running)
    elif event.intent in (Intent.TAP, Intent.UNLOCK) and not _just_finished(d, event):
        _unlock(d, event)
    elif event.intent in (Intent.LOCK, Intent.FINISH):
        _deny(d, event, "in_use" if running is not None else "not_open")


def _driver(d: Draft, event: AccessRequested, running: Rental) -> None:
    """Serve the running rental's driver."""
    # Only the driver's hand counts as one: a stranger who taps at an abandoned car must not keep it blocked.
    d.doors(touched_s=d.boot_s, left_open_told=False)
    report = doors.fresh_report(d.state, d.boot_s)
    locked = report is not None and report.locked is True
    # The contact may be what is broken, and whoever has a card can't say what they want: they must get in again.
    locked = locked or d.state.doors.locks_unconfirmed >= LOCKS_IN_DOUBT
    if event.intent is Intent.LOCK or (event.intent is Intent.TAP and running.trip is not None and not locked):
        _lock(d, event, finish=False)
    elif event.intent is Intent.FINISH:
        _lock(d, event, finish=True)
    elif event.intent is Intent.TAP and running.trip is None and _within_finish_tap(d):
        _finish(d, event)
    else:
        _unlock(d, event)


def _open_capture(d: Draft, event: AccessRequested) -> None:
    """Wait for a card that nobody here knows: one beep now, for whoever holds it."""
    key = _command_key(event.credential)
    refused = capture.denial(d.state, event.credential, d.now)
    if refused is not None or key is None:
        _deny(d, event, refused.reason if refused is not None else "staff_only")
        return
    d.set(capture=Capture(key[1], d.boot_s + CAPTURE_S))
    d.show(Pattern.GRANTED)
    _answer(d, event, "granted", "capturing")


def _captured(d: Draft, event: AccessRequested) -> bool:
    """Take an unknown card's number if one is waited for. Nothing opens, and the next one is a stranger's again."""
    who, wanted = event.credential, d.state.capture
    if wanted is None or not capture.waits(d.state, d.boot_s):
        return False
    if not isinstance(who, CardCredential) or not who.uid or known.has_card(d.state, who.ref):
        return False
    d.set(capture=None)
    d.record(CardCaptured(wanted.id, who.uid))
    d.show(Pattern.GRANTED)
    _answer(d, event, "granted", "captured")
    return True


def _within_finish_tap(d: Draft) -> bool:
    return d.state.locked_s is not None and d.boot_s - d.state.locked_s <= d.policy.finish_tap_s


def _just_finished(d: Draft, event: AccessRequested) -> bool:
    """Answer the habitual second tap at a rental that the lock already ended: done, and the door stays shut."""
    last = d.state.last_driver
    if event.intent is not Intent.TAP or last is None or not _within_finish_tap(d):
        return False
    if not access.is_driver(d.state, last.booking, event.credential):
        return False
    _show_finished(d)
    _answer(d, event, "granted", "finished")
    return True


def _show_finished(d: Draft) -> None:
    """Say that all is done; or, by *try again*, that the key of the motor is still to be put back."""
    missing = doors.KEY_MISSING in dict(d.state.faults)
    d.show(Pattern.TRY_AGAIN if missing else Pattern.GRANTED)


def _lock(d: Draft, event: AccessRequested, *, finish: bool) -> None:
    running, report = d.kept.rental, doors.fresh_report(d.state, d.boot_s)
    if running is not None and running.trip is None:
        if finish:
            _finish(d, event)
            return
        if report is None or report.locked is not False:
            _answer(d, event, "granted", "locked")
            return
    accepted, word = doors.ask_lock(d, access.credential_name(event.credential), finish=finish)
    if not accepted:
        _deny(d, event, word)
        return
    if word == "shut_the_door":
        d.show(Pattern.TRY_AGAIN)
    _answer(d, event, "accepted", word)


def _finish(d: Draft, event: AccessRequested) -> None:
    rental.end_rental(d, RentalEndReason.FINISHED)
    _show_finished(d)
    _answer(d, event, "granted", "finished")


def _unlock(d: Draft, event: AccessRequested) -> None:
    if d.state.doors.actuation is not None:
        _deny(d, event, "busy")
        return
    still = trips.standing(d.state.vehicle, d.policy, d.boot_s) is not trips.Standing.MOVING
    left = doors.abandoned(d.state, d.boot_s)
    verdict = access.decide(d.state, event.credential, d.now, abandoned=left, still=still)
    if isinstance(verdict, Denial):
        _deny(d, event, verdict.reason)
    else:
        _open(d, event, verdict)


def _open(d: Draft, event: AccessRequested, grant: Grant) -> None:
    if grant.take_over:
        doors.take_over(d)
    running = d.kept.rental
    name = access.credential_name(event.credential)
    if running is not None and running.trip is not None:
        if running.trip.end is not None:
            d.keep(rental=replace(running, trip=replace(running.trip, end=None)))
        d.record(DoorReopened(running.number, running.trip.number, name))
    else:
        rental.begin(d, grant, name)
    doors.move(d, Action.UNLOCK)
    d.show(Pattern.GRANTED)
    began = d.kept.rental
    _answer(d, event, "granted", "reopening" if began is not None and began.kind is RentalKind.REOPEN else "opening")


def on_cards_refused(d: Draft, event: CardsRefused) -> None:
    """Tell the person at the reader what to do differently."""
    d.refuse(AccessDenied(event.reason, "card"))
    again = event.reason in ("unreadable", "left_early", "too_slow")
    d.show(Pattern.ONE_CARD if event.reason == "two_cards" else Pattern.TRY_AGAIN if again else Pattern.DENIED)


def on_phone_refused(d: Draft, event: PhoneRefused) -> None:
    """Write down that a phone was turned away. Its own screen says why; noise from anywhere lights no lamp."""
    d.refuse(AccessDenied(event.reason, "phone"))
    if event.reason != "not_understood":
        d.show(Pattern.DENIED)


def on_button(d: Draft) -> None:
    """Arm the lock for whoever pressed the button inside: no credential, a dead phone must not matter."""
    accepted, word = doors.ask_lock(d, "button", finish=False, inside=True)
    if not accepted:
        d.refuse(AccessDenied(word, "button"))
    d.show(Pattern.GRANTED if accepted else Pattern.TRY_AGAIN)


def on_list(d: Draft, event: ListReceived) -> None:
    """Take a newer list; refuse an older one and one for another car. The same one again changes nothing."""
    listed, grants = event.listed, d.kept.grants
    current = access.list_version(d.state)
    if listed.vehicle != d.kept.vehicle:
        d.refuse(DocumentRefused("list", "wrong_vehicle"))
        return
    if listed.version <= current and not (grants.listed is None and listed.version == current):
        if listed.version < current:
            d.refuse(DocumentRefused("list", "version_too_low"))
        return
    floor_s = max(d.kept.floor_s, float(listed.issued_at_s))
    d.keep(grants=replace(grants, listed=listed, version_floor=listed.version), floor_s=floor_s)
    # The passes of who is in the car stay: a revocation names a pass.
    latest = access.latest_booking(d.state)
    passes = tuple(p for p in grants.passes if access.applies(d.state, p) or p.reservation_id == latest)
    d.keep(grants=replace(d.kept.grants, passes=passes))
    results.forget_old(d)
    _renew_terms(d)
    d.record(ListAccepted(listed.version))
    d.tell_status()


def forget_old_passes(d: Draft) -> None:
    """Forget passes that have expired by a signed time, but for the one of who is in the car: a revocation names it.

    And but for what they say of a listed booking: until a newer list comes, the list's own terms are out of date. A
    sky that is wrong makes nothing forgotten: what it says is gone with it.
    """
    sure_s, grants = access.signed_s(d.state), d.kept.grants
    named = {access.latest_booking(d.state), *(r.id for r in (grants.listed.reservations if grants.listed else ()))}
    passes = tuple(p for p in grants.passes if p.expires_s >= sure_s or p.reservation_id in named)
    if len(passes) < len(grants.passes):
        d.keep(grants=replace(grants, passes=passes))


def _renew_terms(d: Draft) -> None:
    """Have the running rental follow its booking: longer, shorter, to another station."""
    running = d.kept.rental
    if running is None:
        return
    booking = access.on_newest_terms(d.state, running.booking)
    if booking != running.booking:
        later = booking.end_s > running.booking.end_s
        d.keep(rental=replace(running, booking=booking, overdue_told=running.overdue_told and not later))


def _deny(d: Draft, event: AccessRequested, reason: str) -> None:
    if reason == "card_not_proven" and d.boot_s - d.state.copy_told_s >= HOUR_S:
        # One an hour: whoever made the copy shall not fill the store with it.
        d.set(copy_told_s=d.boot_s)
        d.record(Alert("card_copied", d.kept.rental.number if d.kept.rental is not None else 0))
    d.refuse(AccessDenied(reason, access.credential_name(event.credential)))
    d.show(Pattern.TRY_AGAIN if reason in _TRY_AGAIN else Pattern.DENIED)
    _answer(d, event, "denied", reason)


def _answer(d: Draft, event: AccessRequested, status: str, reason: str) -> None:
    """Reply, and remember the answer to a phone's or the cloud's command: the same id never acts twice."""
    key = _command_key(event.credential)
    if key is not None:
        results.remember(d, *key, event.intent.value, status, reason)
    d.reply(event.request, status, reason)


def _command_key(who: Credential) -> tuple[bytes, bytes] | None:
    match who:
        case PhoneCredential(key=key, command_id=identity):
            return key, identity
        case RemoteCredential(subject=subject, command_id=identity):
            return subject, identity
        case _:
            return None


def _answered(d: Draft, who: Credential, intent: Intent) -> tuple[str, str] | None:
    key = _command_key(who)
    if key is None:
        return None
    found = results.find(d, *key)
    if found is None:
        return None
    # The same number for another wish is a mistake, and moves nothing.
    return (found.status, found.reason) if found.intent == intent.value else ("denied", "command_replayed")


def _stale_command(d: Draft, who: Credential) -> str | None:
    """Refuse a remote command of another boot, out of time, or whose counter does not rise."""
    if not isinstance(who, RemoteCredential):
        return None
    grants = d.kept.grants
    if who.boot_epoch != d.state.boot_epoch or d.boot_s > who.not_after_s:
        return "command_too_old"
    if grants.command_epoch == who.boot_epoch and who.counter <= grants.command_counter:
        return "command_replayed"
    return None


def _note_credential(d: Draft, who: Credential) -> None:
    """Keep what a credential proves before it is acted upon: a command's counter, a pass."""
    grants = d.kept.grants
    match who:
        case RemoteCredential(boot_epoch=epoch, counter=counter):
            d.keep(grants=replace(grants, command_epoch=epoch, command_counter=counter))
        case PhoneCredential(grant=Pass() as brought) if brought.vehicle == d.kept.vehicle:
            _keep_pass(d, grants, brought)


def _keep_pass(d: Draft, grants: Grants, brought: Pass) -> None:
    if brought in grants.passes or not access.applies(d.state, brought):
        return
    passes = (*grants.passes, brought)[-d.policy.passes_max :]
    floor_s = max(d.kept.floor_s, float(brought.issued_at_s))
    d.keep(grants=replace(grants, passes=passes), floor_s=floor_s)
    _renew_terms(d)
