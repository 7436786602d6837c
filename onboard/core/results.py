"""What became of a command whose answer was a promise: remembered with it, over boots.

A phone that asks again with the same command id hears it, and nothing moves again.
"""

from __future__ import annotations

from dataclasses import replace

from onboard.core.commands import Action
from onboard.core.draft import Draft
from onboard.core.events import ActuationOutcome, ActuationSettled

_PROMISES = {Action.UNLOCK: ("opening", "opened"), Action.LOCK: ("locking", "locked")}
"""What is answered before something has moved, and after the contacts have said so."""


def on_started(d: Draft) -> None:
    """Whether a pulse that the last boot promised was given, nobody knows: say so to who asks again."""
    _reword(d, dict.fromkeys(("opening", "locking", "shut_the_door"), ("unknown", "interrupted")))


def on_settled(d: Draft, event: ActuationSettled) -> None:
    """Remember a pulse that the interlock refused."""
    pending = d.state.doors.actuation
    if pending is None or pending.number != event.actuation or pending.attempt > 1:
        return
    if event.outcome is ActuationOutcome.REFUSED:
        _reword(d, {_PROMISES[pending.action][0]: ("denied", "not_moved")})


def on_confirmed(d: Draft, action: Action) -> None:
    """Remember that the contacts have said what was promised."""
    promise, outcome = _PROMISES[action]
    _reword(d, {promise: ("", outcome)})


def _reword(d: Draft, new: dict[str, tuple[str, str]]) -> None:
    """Give remembered answers of these reasons another status ("": the same) and reason."""
    results = tuple(
        (who, identity, new[reason][0] or status, new[reason][1]) if reason in new else (who, identity, status, reason)
        for who, identity, status, reason in d.kept.grants.results
    )
    if results != d.kept.grants.results:
        d.keep(grants=replace(d.kept.grants, results=results))
