"""What one pulse changes in the state of the doors, to the last field, and why none is given."""

from __future__ import annotations

from dataclasses import replace

import pytest

from onboard.core import doors
from onboard.core.clock import ClockQuality, Instant
from onboard.core.commands import Action, Actuate
from onboard.core.draft import Draft
from onboard.core.events import DoorReported, Intent
from onboard.core.state import Actuation, Doors
from tests.core_kit import POLICY, Kit
from tests.core_people import ask

SHUT = DoorReported(True, False, False, 1.0)


def draft(kit: Kit, **changes: object) -> Draft:
    state = replace(kit.state, doors=replace(kit.state.doors, **changes))  # type: ignore[arg-type]  # its fields
    return Draft(state, Instant(kit.t + 7.0, 0.0, ClockQuality.UNSET))


def test_a_pulse_puts_everything_that_waited_behind_it() -> None:
    kit = Kit().ready()
    armed = {"armed_until_s": 99.0, "armed_by": "card", "armed_finish": True, "armed_needs_opening": True}
    d = draft(kit, report=SHUT, unasked_told=True, left_open_told=True, touched_s=0.0, **armed)
    doors.move(d, Action.LOCK)
    now_s = kit.t + 7.0
    assert d.state.doors == Doors(
        report=SHUT,
        actuation=Actuation(1, Action.LOCK, 1, asked_s=now_s, first=1),
        actuations=1,
        armed_by="card",
        armed_finish=True,
        touched_s=now_s,
        left_open_told=True,
    )
    assert d.commands[-1] == Actuate(1, Action.LOCK)


def test_the_tries_of_one_wish_know_the_first_and_the_next_wish_does_not() -> None:
    d = draft(Kit().ready())
    firsts = []
    for attempt in (1, 2, 3, 1, 2):
        doors.move(d, Action.UNLOCK, attempt)
        pending = d.state.doors.actuation
        assert pending is not None
        firsts.append((pending.number, pending.attempt, pending.first))
    assert firsts == [(1, 1, 1), (2, 2, 1), (3, 3, 1), (4, 1, 4), (5, 2, 4)]


@pytest.mark.parametrize(("action", "left"), [(Action.UNLOCK, "not_confirmed"), (Action.LOCK, "shut_the_door")])
def test_only_an_unlock_ends_a_lock_that_waits_for_the_last_door(action: Action, left: str) -> None:
    kit = Kit().ready()
    kit.begin()
    kit.drive(0.0)
    kit.contacts(locked=False, driver_open=True)
    ask(kit, intent=Intent.LOCK)
    before = kit.state.kept.grants.answered[-1].reason
    assert before == "shut_the_door"
    d = draft(kit)
    doors.move(d, action)
    after = d.kept.grants.answered[-1].reason
    assert (after == before) is (left == before)
    unarmed = draft(kit, armed_until_s=None)
    doors.move(unarmed, action)
    assert unarmed.kept.grants.answered[-1].reason == before


@pytest.mark.parametrize(
    ("speed_mps", "report", "pulse", "inside", "answer"),
    [
        (0.0, True, True, False, (False, "busy")),
        (9.0, True, False, False, (False, "moving")),
        (0.0, False, False, False, (False, "door_unknown")),
        (0.0, True, False, True, (True, "shut_the_door")),
        (0.0, True, False, False, (True, "locking")),
    ],
)
def test_a_lock_is_refused_or_taken_in_these_words(
    speed_mps: float, report: bool, pulse: bool, inside: bool, answer: tuple[bool, str]
) -> None:
    kit = Kit().ready()
    kit.begin()
    kit.t += POLICY.door_fresh_s + 1.0
    kit.drive(speed_mps)
    if report:
        kit.contacts(locked=False)
    d = draft(kit, **({"actuation": Actuation(9, Action.LOCK, 1, kit.t)} if pulse else {}))
    d.now = Instant(kit.t, 0.0, ClockQuality.UNSET)
    assert doors.ask_lock(d, "card", finish=False, inside=inside) == answer
