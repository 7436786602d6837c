"""What a phone's or the cloud's command was answered, and what became of a promise: remembered for a day, over boots.

Who asks again with the same command id hears it, and nothing moves again. A refusal is remembered for this boot only.
"""

from __future__ import annotations

from dataclasses import replace

from onboard.core.clock import Span, length
from onboard.core.commands import Action
from onboard.core.draft import Draft
from onboard.core.events import ActuationOutcome, ActuationSettled
from onboard.core.state import Actuation, Answered

_OUTCOMES = {"opening": "opened", "reopening": "reopened", "locking": "locked"}
"""What is answered before something has moved, and after the contacts have said so."""
_ARMED = "shut_the_door"
"""What is answered where the lock waits for the last door."""
_OVER = {"locking": "finished"}
"""And if that has ended the rental."""


def find(d: Draft, who: bytes, command_id: bytes) -> Answered | None:
    """Return what this command was answered."""
    known = (*d.kept.grants.answered, *d.state.denied)
    return next((one for one in known if (one.who, one.command_id) == (who, command_id)), None)


def remember(d: Draft, who: bytes, command_id: bytes, intent: str, status: str, reason: str) -> None:
    """Remember an answer. Where there are too many, this one's oldest goes, then the oldest of all."""
    forget_old(d)
    pending = d.state.doors.actuation if reason in _OUTCOMES else None
    since = Span(d.stamp, d.state.boot_epoch)
    new = Answered(who, command_id, intent, status, reason, since, pending.first if pending is not None else 0)
    if status == "denied":
        d.set(denied=_with(d, d.state.denied, new))
    else:
        d.keep(grants=replace(d.kept.grants, answered=_with(d, d.kept.grants.answered, new)))


def _with(d: Draft, answered: tuple[Answered, ...], new: Answered) -> tuple[Answered, ...]:
    own = [one for one in answered if one.who == new.who]
    if len(own) >= d.policy.remembered_commands_each_max:
        answered = tuple(one for one in answered if one is not own[0])
    return (*answered, new)[-d.policy.remembered_commands_max :]


def forget_old(d: Draft) -> None:
    """Forget what was surely answered more than a day ago."""
    at, epoch, old_s = d.stamp, d.state.boot_epoch, d.policy.remembered_commands_s
    young = tuple(one for one in d.kept.grants.answered if length(one.since, at, epoch)[0] <= old_s)
    if len(young) < len(d.kept.grants.answered):
        d.keep(grants=replace(d.kept.grants, answered=young))
    young = tuple(one for one in d.state.denied if length(one.since, at, epoch)[0] <= old_s)
    if len(young) < len(d.state.denied):
        d.set(denied=young)


def on_started(d: Draft) -> None:
    """Whether a pulse that the last boot promised was given, nobody knows: say so to who asks again."""
    for reason in (*_OUTCOMES, _ARMED):
        _reword(d, reason, None, "unknown", "interrupted")


def on_settled(d: Draft, event: ActuationSettled) -> None:
    """Remember a pulse that the interlock refused."""
    pending = d.state.doors.actuation
    if pending is None or pending.number != event.actuation or pending.attempt > 1:
        return
    if event.outcome is ActuationOutcome.REFUSED:
        for reason in _OUTCOMES:
            _reword(d, reason, pending.first, "denied", "not_moved")


def on_confirmed(d: Draft, pending: Actuation) -> None:
    """Remember that the contacts have said what was promised; after what follows from that, such as a rental's end."""
    over = _OVER if d.kept.rental is None and pending.action is Action.LOCK else {}
    for reason, outcome in (_OUTCOMES | over).items():
        _reword(d, reason, pending.first, "", outcome)


def on_given_up(d: Draft, pending: Actuation, *, armed: bool) -> None:
    """Remember that nothing confirmed it; or that the wish still holds, for when the doors are shut."""
    for reason in _OUTCOMES:
        if armed:
            _reword(d, reason, pending.first, "accepted", _ARMED)
        else:
            _reword(d, reason, pending.first, "unknown", "not_confirmed")


def on_armed_lock(d: Draft) -> None:
    """Remember that the lock that waited for the last door is on its way."""
    pending = d.state.doors.actuation
    if pending is not None:
        _reword(d, _ARMED, None, "accepted", "locking", pending.first)


def on_disarmed(d: Draft) -> None:
    """Remember that the lock waits no longer."""
    _reword(d, _ARMED, None, "denied", "door_open")


def _reword(d: Draft, reason: str, actuation: int | None, status: str, new: str, pulse: int | None = None) -> None:
    """Give remembered answers of this reason, and of this first pulse, another status ("": the same) and reason."""
    answered = tuple(
        replace(
            one,
            status=status or one.status,
            reason=new,
            actuation=one.actuation if pulse is None else pulse,
        )
        if one.reason == reason and actuation in (None, one.actuation)
        else one
        for one in d.kept.grants.answered
    )
    if answered != d.kept.grants.answered:
        d.keep(grants=replace(d.kept.grants, answered=answered))
