"""What a phone's or the cloud's command was answered, and what became of a promise: remembered for a day, over boots.

Who asks again with the same command id hears it, and nothing moves again.
"""

from __future__ import annotations

from dataclasses import replace

from onboard.core.clock import Span, length
from onboard.core.commands import Action
from onboard.core.draft import Draft
from onboard.core.events import ActuationOutcome, ActuationSettled
from onboard.core.state import Answered

_PROMISES = {Action.UNLOCK: {"opening": "opened", "reopening": "reopened"}, Action.LOCK: {"locking": "locked"}}
"""What is answered before something has moved, and after the contacts have said so."""
_OVER = {"locking": "finished"}
"""And if that has ended the rental."""


def find(d: Draft, who: bytes, command_id: bytes) -> Answered | None:
    """Return what this command was answered."""
    return next((one for one in d.kept.grants.answered if (one.who, one.command_id) == (who, command_id)), None)


def remember(d: Draft, who: bytes, command_id: bytes, status: str, reason: str) -> None:
    """Remember an answer. Where there are too many, this one's oldest goes, then the oldest of all."""
    forget_old(d)
    answered = d.kept.grants.answered
    own = [one for one in answered if one.who == who]
    if len(own) >= d.policy.remembered_commands_each_max:
        answered = tuple(one for one in answered if one is not own[0])
    new = Answered(who, command_id, status, reason, Span(d.stamp, d.state.boot_epoch))
    answered = (*answered, new)[-d.policy.remembered_commands_max :]
    d.keep(grants=replace(d.kept.grants, answered=answered))


def forget_old(d: Draft) -> None:
    """Forget what was surely answered more than a day ago."""
    at, epoch, old_s = d.stamp, d.state.boot_epoch, d.policy.remembered_commands_s
    young = tuple(one for one in d.kept.grants.answered if length(one.since, at, epoch)[0] <= old_s)
    if len(young) < len(d.kept.grants.answered):
        d.keep(grants=replace(d.kept.grants, answered=young))


def on_started(d: Draft) -> None:
    """Whether a pulse that the last boot promised was given, nobody knows: say so to who asks again."""
    _reword(d, dict.fromkeys((*_PROMISES[Action.UNLOCK], "locking", "shut_the_door"), ("unknown", "interrupted")))


def on_settled(d: Draft, event: ActuationSettled) -> None:
    """Remember a pulse that the interlock refused."""
    pending = d.state.doors.actuation
    if pending is None or pending.number != event.actuation or pending.attempt > 1:
        return
    if event.outcome is ActuationOutcome.REFUSED:
        _reword(d, dict.fromkeys(_PROMISES[pending.action], ("denied", "not_moved")))


def on_confirmed(d: Draft, action: Action) -> None:
    """Remember that the contacts have said what was promised; after what follows from that, such as a rental's end."""
    outcomes = _PROMISES[action] | (_OVER if d.kept.rental is None and action is Action.LOCK else {})
    _reword(d, {promise: ("", outcome) for promise, outcome in outcomes.items()})


def _reword(d: Draft, new: dict[str, tuple[str, str]]) -> None:
    """Give remembered answers of these reasons another status ("": the same) and reason."""
    answered = tuple(
        replace(one, status=new[one.reason][0] or one.status, reason=new[one.reason][1]) if one.reason in new else one
        for one in d.kept.grants.answered
    )
    if answered != d.kept.grants.answered:
        d.keep(grants=replace(d.kept.grants, answered=answered))
