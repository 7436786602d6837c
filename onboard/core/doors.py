"""The door: asking it to open or lock, and believing only a report sampled after the pulse.

Unlock: record, then act. Lock: act, then record on confirmation. ``EndRequested`` is committed with the lock pulse;
the trip ends when a report *sampled after the actuation* says locked with every door shut. An unconfirmed pulse is
repeated ``attempts_max`` times, then the driver and the cloud are told. A power cut in between is settled after the
boot by the first fresh report: nothing moves by itself then.

Asked to lock while a door is open (or by the button inside with the doors shut), the car arms: it locks when the last
door shuts within ``lock_arm_s``.
"""

from __future__ import annotations

from dataclasses import replace
from typing import Final

from onboard.core import rental as rentals
from onboard.core import results
from onboard.core.commands import Action, Actuate, Pattern
from onboard.core.draft import Draft
from onboard.core.events import ActuationOutcome, ActuationSettled, DoorReported
from onboard.core.records import ActuationFailed, Alert, EndRequested, RentalEndReason, TripEndReason
from onboard.core.state import Actuation, EndRequest, State
from onboard.core.trip import Standing, standing

KEY_MISSING: Final = "key_missing"
"""The fault that says so in the status and in what is written down."""


def shut(report: DoorReported | None) -> bool:
    """Tell whether no contact says open. A contact that isn't there says nothing."""
    return report is not None and not report.driver_open and not report.passenger_open


def is_open(report: DoorReported | None) -> bool:
    """Tell whether a contact says open."""
    return report is not None and bool(report.driver_open or report.passenger_open)


def fresh_report(state: State, now_s: float) -> DoorReported | None:
    """Return the last report if it is young enough to act upon."""
    report = state.doors.report
    if report is None or not 0 <= now_s - report.sampled_s <= state.policy.door_fresh_s:
        return None
    return report


def move(d: Draft, action: Action, attempt: int = 1) -> None:
    """Give one pulse. Its outcome and a later report say what became of it."""
    number, before = d.state.doors.actuations + 1, d.state.doors.actuation
    first = before.first if before is not None and attempt > 1 else number
    pending = Actuation(number, action, attempt, asked_s=d.boot_s, first=first)
    if action is Action.UNLOCK and d.state.doors.armed_until_s is not None:
        results.on_disarmed(d)
    if action is Action.UNLOCK:
        d.doors(locks_unconfirmed=0)
    d.doors(
        actuation=pending,
        actuations=number,
        armed_until_s=None,
        armed_needs_opening=False,
        touched_s=d.boot_s,
        unasked_told=False,
    )
    d.do(Actuate(number, action))


def ask_lock(d: Draft, by: str, *, finish: bool, inside: bool = False) -> tuple[bool, str]:
    """Lock, or arm the lock. Returns ``(accepted, word)``.

    Refused only while the car moves, a pulse is under way, or the contacts have nothing fresh to say. ``inside``: the
    button: whoever pressed it still has to get out.
    """
    if d.state.doors.actuation is not None:
        return False, "busy"
    if standing(d.state.vehicle, d.policy, d.boot_s) is Standing.MOVING:
        return False, "moving"
    report = fresh_report(d.state, d.boot_s)
    if report is None:
        return False, "door_unknown"
    if is_open(report) or inside:
        _arm(d, by, finish=finish)
        return True, "shut_the_door"
    _lock(d, by, finish=finish)
    return True, "locking"


def _arm(d: Draft, by: str, *, finish: bool) -> None:
    d.doors(
        armed_until_s=d.boot_s + d.policy.lock_arm_s,
        armed_by=by,
        armed_finish=finish,
        armed_needs_opening=not is_open(d.state.doors.report),
        touched_s=d.boot_s,
    )


def _lock(d: Draft, by: str, *, finish: bool) -> None:
    rental = d.kept.rental
    if rental is not None and rental.trip is not None:
        request = EndRequest(by, finish, d.stamp, d.state.boot_epoch)
        d.keep(rental=replace(rental, trip=replace(rental.trip, end=request)))
        d.record(EndRequested(rental.number, rental.trip.number, by, finish))
    move(d, Action.LOCK)
    d.show(Pattern.GRANTED)


def on_settled(d: Draft, event: ActuationSettled) -> None:
    """Take in what became of a pulse. Late news of an older pulse says nothing."""
    pending = d.state.doors.actuation
    if pending is None or pending.number != event.actuation:
        return
    if event.outcome is ActuationOutcome.REFUSED:
        # This pulse was not given; an earlier one of the same wish was, and may have moved the latch.
        _give_up(d, pending, event.reason, moved=pending.attempt > 1)
        return
    d.doors(actuation=replace(pending, settled_s=event.at_s))


def on_report(d: Draft, event: DoorReported) -> None:
    """Take in the contacts: confirm a pulse, arm or lock, notice a touch. An older report than the last is nothing."""
    before = d.state.doors.report
    if before is not None and event.sampled_s < before.sampled_s:
        return
    changed = before is not None and _contacts(before) != _contacts(event)
    d.doors(report=event)
    if changed:  # the first report of a boot tells how things are, and not that somebody moved them
        d.doors(touched_s=d.boot_s, left_open_told=False)
    if changed or before is None:
        d.tell_status()
    if is_open(event):
        d.doors(locks_unconfirmed=0)
    _note_opened(d, event)
    pending = d.state.doors.actuation
    if pending is not None:
        _confirm(d, pending, event)
    else:
        _settle_old(d, event)
        if before is not None and changed:
            _notice_unasked(d, before, event)
    _armed(d, event)
    _look_for_key(d, event)


def _look_for_key(d: Draft, report: DoorReported) -> None:
    """Tell of a key of the motor that is not in its place though nobody has the car, until it is back.

    The driver is told by light, once after each rental. Nothing hangs on it: the car is locked, the rental is over.
    """
    if report.key_in_place is not False:
        d.fault(KEY_MISSING, "", active=False)
    elif d.kept.rental is None:
        d.fault(KEY_MISSING, "not in its holder after the rental: ask its driver, look at the contact", active=True)
        if d.state.doors.look_for_key:
            d.show(Pattern.TRY_AGAIN)
    d.doors(look_for_key=False)


def _contacts(report: DoorReported) -> tuple[bool | None, ...]:
    return report.locked, report.driver_open, report.passenger_open


def _note_opened(d: Draft, report: DoorReported) -> None:
    """Remember durably that somebody got in: from then on only a confirmed lock ends the trip."""
    rental, pending = d.kept.rental, d.state.doors.actuation
    if rental is None or rental.trip is None or rental.trip.opened:
        return
    after = pending is None or (pending.settled_s is not None and report.sampled_s >= pending.settled_s)
    if is_open(report) or (after and report.locked is False):
        d.keep(rental=replace(rental, trip=replace(rental.trip, opened=True)))


def note_driven(d: Draft) -> None:
    """Remember that somebody drives: the car was opened, whatever the contact says or has not said yet.

    A slow or broken contact must not end the trip of whoever is on the road.
    """
    rental, pending = d.kept.rental, d.state.doors.actuation
    if rental is None or rental.trip is None or rental.trip.opened:
        return
    if pending is None or pending.settled_s is not None:
        d.keep(rental=replace(rental, trip=replace(rental.trip, opened=True)))


def _confirm(d: Draft, pending: Actuation, report: DoorReported) -> None:
    if pending.settled_s is None or report.sampled_s < pending.settled_s + d.policy.settle_s:
        return
    if pending.action is Action.UNLOCK and report.locked is False:
        results.on_confirmed(d, pending)
        d.doors(actuation=None)
        d.fault("door", "", active=False)
    elif pending.action is Action.LOCK and report.locked is True and shut(report):
        d.doors(actuation=None, locks_unconfirmed=0)
        d.fault("door", "", active=False)
        _locked(d)
        results.on_confirmed(d, pending)


def _locked(d: Draft, asked: EndRequest | None = None) -> None:
    rental = d.kept.rental
    if rental is not None and rental.trip is not None:
        still = standing(d.state.vehicle, d.policy, d.boot_s) is Standing.STILL
        rentals.end_trip(d, TripEndReason.LOCKED, () if still else ("standstill_unproven",), asked=asked)


def _settle_old(d: Draft, report: DoorReported) -> None:
    """Settle what a cut left open (no pulse is under way any more): an end asked for, a door that was to open."""
    rental = d.kept.rental
    if rental is None or rental.trip is None:
        return
    trip = rental.trip
    if trip.end is not None:
        if report.locked is True and shut(report):
            _locked(d, trip.end)
        elif report.locked is False:
            d.keep(rental=replace(rental, trip=replace(trip, end=None)))
            d.record(ActuationFailed("lock", "power_cut", trip.number))
    elif not trip.opened and report.locked is True:
        rentals.end_trip(d, TripEndReason.NOT_OPENED)


def _notice_unasked(d: Draft, before: DoorReported, report: DoorReported) -> None:
    """Tell, once a pulse, of a door that locked though nobody asked: the driver's next tap opens it again."""
    rental = d.kept.rental
    if rental is None or rental.trip is None or d.state.doors.unasked_told:
        return
    if report.locked is True and before.locked is False:
        d.doors(unasked_told=True)
        d.record(Alert("locked_unasked", rental.number))


def _armed(d: Draft, report: DoorReported) -> None:
    doors = d.state.doors
    if doors.armed_until_s is None or doors.actuation is not None:
        return
    if is_open(report):
        d.doors(armed_needs_opening=False)
    elif not doors.armed_needs_opening and standing(d.state.vehicle, d.policy, d.boot_s) is not Standing.MOVING:
        _lock(d, doors.armed_by, finish=doors.armed_finish)
        results.on_armed_lock(d)


def confirm_by_s(state: State) -> float | None:
    """Return the boot time by which the pending pulse must be confirmed."""
    pending = state.doors.actuation
    if pending is None:
        return None
    # An adapter that never answers is treated like one whose answer never came.
    return (pending.settled_s if pending.settled_s is not None else pending.asked_s + 2.0) + state.policy.confirm_s


def on_unconfirmed(d: Draft) -> None:
    """Repeat the pulse that nothing confirmed in its time, or give up and tell."""
    pending, by_s = d.state.doors.actuation, confirm_by_s(d.state)
    if pending is None or by_s is None or d.boot_s < by_s:
        return
    moving = standing(d.state.vehicle, d.policy, d.boot_s) is Standing.MOVING
    if pending.attempt >= d.policy.attempts_max or moving:
        _give_up(d, pending, "moving" if moving else "not_confirmed", moved=True)
    elif pending.action is Action.LOCK and is_open(d.state.doors.report):
        _give_up(d, pending, "door_open", moved=True)
    else:
        move(d, pending.action, pending.attempt + 1)


def _give_up(d: Draft, pending: Actuation, reason: str, *, moved: bool) -> None:
    d.doors(actuation=None)
    rental = d.kept.rental
    trip = rental.trip if rental is not None else None
    d.record(ActuationFailed(pending.action.value, reason, trip.number if trip else 0))
    if reason == "not_confirmed":
        d.fault(
            "door", f"{pending.action.value} was not confirmed: look at the actuator and the lock contact", active=True
        )
    d.show(Pattern.OUT_OF_ORDER if reason == "not_confirmed" else Pattern.TRY_AGAIN)
    again = reason == "door_open" and trip is not None and trip.end is not None
    if moved:
        results.on_given_up(d, pending, armed=again)
    if rental is None or trip is None:
        return
    if pending.action is Action.LOCK:
        d.keep(rental=replace(rental, trip=replace(trip, end=None)))
        if reason == "not_confirmed":
            d.doors(locks_unconfirmed=d.state.doors.locks_unconfirmed + 1)
        if reason == "door_open" and trip.end is not None:
            # Opened once more behind the pulse (a forgotten bag): the wish still holds when it shuts.
            _arm(d, trip.end.by, finish=trip.end.finish)
        return
    report = d.state.doors.report
    surely_shut = report is not None and report.locked is True and _after(d, report, pending)
    if not trip.opened and (surely_shut or not moved):
        rentals.end_trip(d, TripEndReason.NOT_OPENED)


def _after(d: Draft, report: DoorReported, pending: Actuation) -> bool:
    """Tell whether a report counts for this pulse: the contact has had its time to follow the latch."""
    return pending.settled_s is not None and report.sampled_s >= pending.settled_s + d.policy.settle_s


def on_left_open(d: Draft) -> None:
    """Warn once that the car stands open and untouched."""
    d.doors(left_open_told=True)
    rental = d.kept.rental
    d.record(Alert("left_open", rental.number if rental else 0))
    d.show(Pattern.TRY_AGAIN)


def left_open_at_s(state: State) -> float | None:
    """Return the boot time at which an untouched car is warned about that is not locked, rented or not.

    In a trip a latch that can't be read counts as open; outside of one only a latch that says so.
    """
    rental, doors = state.kept.rental, state.doors
    if doors.left_open_told or doors.report is None or doors.report.locked:
        return None
    if doors.report.locked is None and (rental is None or rental.trip is None):
        return None
    return doors.touched_s + state.policy.left_open_s


def abandoned(state: State, now_s: float) -> bool:
    """Tell whether the running rental may be taken over: past its time, not moving, shut, untouched.

    After a reboot beside a sleeping bus no speed was ever seen; the car must not stay blocked for that.
    """
    return (
        rentals.time_over(state)
        and standing(state.vehicle, state.policy, now_s) is not Standing.MOVING
        and shut(state.doors.report)
        and now_s - state.doors.touched_s >= state.policy.abandon_s
    )


def take_over(d: Draft) -> None:
    """End an abandoned rental, billed to its last standstill, so that the next may begin."""
    rental = d.kept.rental
    if rental is not None and rental.trip is not None:
        rentals.end_trip(d, TripEndReason.ABANDONED)
    else:
        rentals.end_rental(d, RentalEndReason.TIME_OVER)
