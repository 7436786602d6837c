"""The core is a pure function: the same history gives the same states, in any process, and changes no argument."""

from __future__ import annotations

import hashlib
import os
import random
import subprocess
import sys
from copy import deepcopy
from dataclasses import replace

from hypothesis import given, settings
from hypothesis import strategies as st

from onboard.core import machine
from onboard.core.clock import ClockQuality, Instant
from onboard.core.commands import Actuate, Command, Record
from onboard.core.events import (
    AccessRequested,
    ActuationOutcome,
    ActuationSettled,
    DeadlineReached,
    DoorReported,
    Event,
    Intent,
    ListReceived,
    LockButtonPressed,
    PhoneCredential,
    Reading,
    Signal,
    SignalsReported,
    Started,
    TimeHeard,
)
from onboard.core.state import Kept, State
from tests.conftest import ROOT
from tests.core_kit import BOB, CAR, POLICY, STAFF, T0, Kit, booking, card
from tests.core_people import leave, staff
from tests.test_core_phases import EVENTS

Step = tuple[Event, Instant]
Outcome = tuple[State, tuple[Command, ...]]


def history(seed: int, length: int) -> list[Step]:
    """Return a random history with some sense in it: time goes on, doors report, speeds come, pulses end."""
    dice = random.Random(seed)  # noqa: S311 - a seed that gives the same history again is the point
    t, locked = 0.0, True
    steps: list[Step] = [(Started(b"\1" * 8, "test"), Instant(0.0, 0.0, ClockQuality.UNSET))]
    ready = Kit().ready(booking(trace=True), booking(BOB), staff=(staff(),))
    steps += [(event, Instant(0.0, 0.0, ClockQuality.UNSET)) for event in _prelude(ready)]
    for pulses in range(length):
        t += dice.choice((0.1, 0.5, 1.0, 5.0, 30.0, 400.0))
        event: Event = dice.choice(
            (
                dice.choice(EVENTS),
                card(dice.choice((b"alice---", BOB, STAFF, b"nobody--"))),
                DoorReported(locked, dice.random() < 0.2, False, t),
                ActuationSettled(pulses // 3, ActuationOutcome.DONE, "", t),
                SignalsReported(((Signal.SPEED, Reading(dice.choice((0.0, 0.0, 9.0)), t, 3.0)),), 100),
                SignalsReported(((Signal.DISTANCE, Reading(1000 + 10 * t, t, 1e9)),), 100),
                LockButtonPressed(),
                DeadlineReached(),
            )
        )
        locked = locked if dice.random() < 0.6 else not locked
        steps.append((event, Instant(t, T0 + t, dice.choice(list(ClockQuality)[:3]))))
    return steps


def _prelude(kit: Kit) -> list[Event]:
    listed = kit.state.kept.grants.listed
    assert listed is not None
    assert kit.state.anchor is not None
    brought = PhoneCredential(leave().phone_key, leave(g=9), b"c" * 16)
    return [TimeHeard(kit.state.anchor), ListReceived(listed), AccessRequested(brought, Intent.LOCK, 1)]


def play(steps: list[Step]) -> list[Outcome]:
    """Return every state and its commands, each step committed as a store would."""
    state = State(kept=Kept(CAR, T0 - 86400.0), policy=POLICY)
    outcomes = []
    for event, now in steps:
        state, commands = machine.step(state, event, now)
        rows = sum(len(c.records) for c in commands if isinstance(c, Record))
        outbox = state.kept.outbox
        state = machine.committed(state, replace(outbox, last_seq=outbox.last_seq + rows))
        outcomes.append((state, commands))
    return outcomes


def digest(seed: int) -> str:
    return hashlib.sha256(repr(play(history(seed, 400))).encode()).hexdigest()


@settings(max_examples=25, deadline=None)
@given(st.integers(0, 2**32), st.integers(1, 120))
def test_a_history_replayed_from_its_start_gives_the_same_states_and_commands(seed: int, length: int) -> None:
    steps = history(seed, length)
    assert play(steps) == play(deepcopy(steps))


def test_histories_get_somewhere() -> None:
    commands = [c for seed in range(5) for _, step in play(history(seed, 400)) for c in step]
    assert {"unlock", "lock"} <= {c.action.value for c in commands if isinstance(c, Actuate)}
    assert len({type(r) for c in commands if isinstance(c, Record) for r in c.records}) > 10


@settings(max_examples=15, deadline=None)
@given(st.integers(0, 2**32))
def test_a_step_changes_none_of_its_arguments(seed: int) -> None:
    state = State(kept=Kept(CAR, T0 - 86400.0), policy=POLICY)
    for event, now in history(seed, 60):
        arguments = (state, event, now)
        before = deepcopy(arguments)
        first = machine.step(state, event, now)
        assert machine.step(state, event, now) == first
        assert arguments == before
        assert machine.next_deadline(first[0]) == machine.next_deadline(first[0])
        state = first[0]


def test_another_process_with_another_hash_seed_comes_to_the_same_end() -> None:
    program = "from tests.test_core_pure import digest; print(digest(7))"
    said = {
        subprocess.run(
            [sys.executable, "-c", program],
            cwd=ROOT,
            env={**os.environ, "PYTHONHASHSEED": seed},
            capture_output=True,
            text=True,
            check=True,
        ).stdout.strip()
        for seed in ("1", "2")
    }
    assert said == {digest(7)}
