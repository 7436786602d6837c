"""Every phase against every event."""

from __future__ import annotations

from dataclasses import replace
from typing import get_args

import pytest

from onboard.core import machine
from onboard.core.clock import Anchor, ClockQuality, Instant
from onboard.core.commands import Actuate, Command, Record
from onboard.core.events import (
    AccessRequested,
    AckReceived,
    ActuationOutcome,
    ActuationSettled,
    BusReported,
    BusState,
    CardsRefused,
    CardWanted,
    Charging,
    ChargingReported,
    ConsoleCredential,
    ConsoleReported,
    DeadlineReached,
    DoorReported,
    Event,
    FaultReported,
    Intent,
    KeySetTaken,
    LinkReported,
    ListReceived,
    LockButtonPressed,
    MaintenanceRequested,
    PhoneRefused,
    Position,
    PositionReported,
    Reading,
    RemoteCredential,
    ResendRequested,
    Signal,
    SignalsReported,
    Started,
    SupplyReported,
    SyncRequested,
    TimeHeard,
)
from onboard.core.records import (
    DoorReopened,
    TripStarted,
)
from onboard.core.state import State
from tests.core_kit import BOB, T0, Kit, booking, card, listing, phone

EVENTS: tuple[Event, ...] = (
    KeySetTaken(),
    card(),
    card(BOB),
    card(b"stranger"),
    phone(intent=Intent.LOCK),
    phone(intent=Intent.FINISH, command=b"f" * 16),
    AccessRequested(RemoteCredential(b"?" * 16, b"r" * 16, b"\1" * 8, 1, 1e9), Intent.UNLOCK),
    AccessRequested(ConsoleCredential(b"T" * 16), Intent.UNLOCK),
    AccessRequested(ConsoleCredential(b"T" * 16), Intent.LOCK),
    ConsoleReported("login_pin", "marie"),
    CardWanted(7, 1e9, login=True),
    CardWanted(7, 1e9, login=False),
    SyncRequested(),
    CardsRefused("unreadable"),
    LockButtonPressed(),
    DoorReported(True, False, False, 1e6),
    PhoneRefused("wrong_vehicle"),
    PhoneRefused("not_understood"),
    DoorReported(False, True, None, 1e6),
    DoorReported(None, None, None, 0.0),
    ActuationSettled(1, ActuationOutcome.DONE, "", 1e6),
    ActuationSettled(2, ActuationOutcome.REFUSED, "rate", 1e6),
    ActuationSettled(99, ActuationOutcome.FAILED, "", 1e6),
    SignalsReported(((Signal.SPEED, Reading(9.0, 1e6, 3.0)),)),
    SignalsReported(()),
    BusReported(BusState.FAULT, 1e6),
    BusReported(BusState.ASLEEP, 1e6),
    ChargingReported(Charging.CHARGING),
    ChargingReported(Charging.UNKNOWN),
    PositionReported(Position(48.0, -1.0, None, 2, None, 1e6)),
    TimeHeard(Anchor(1e6, T0 - 9e9, T0 - 9e9, ClockQuality.GNSS)),
    TimeHeard(Anchor(1e6, T0 + 1e6, T0 + 1e6 + 2, ClockQuality.AUTHENTICATED)),
    ListReceived(listing(version=9)),
    ListReceived(listing(version=0)),
    ListReceived(replace(listing(version=9), vehicle="other")),
    AckReceived(b"", 1),
    ResendRequested(b"", 1),
    LinkReported(connected=True),
    LinkReported(connected=False),
    SupplyReported(11.0, 0.0),
    FaultReported("gps", active=True, detail="silent"),
    MaintenanceRequested(on=True, by="agent"),
    Started(b"\7" * 8, "test", b"old", "damaged"),
    DeadlineReached(),
)


def _phases() -> dict[str, Kit]:
    kits = {name: Kit() for name in ("fresh",)}
    kits["available"] = Kit().ready(booking(), booking(BOB))
    kits["opening"] = Kit().ready(booking(), booking(BOB))
    kits["opening"].give(card())
    kits["on_trip"] = Kit().ready(booking(), booking(BOB))
    kits["on_trip"].begin()
    kits["locking"] = Kit().ready(booking(), booking(BOB))
    kits["locking"].begin()
    kits["locking"].give(card())
    kits["stopped"] = Kit().ready(booking(), booking(BOB))
    kits["stopped"].begin()
    kits["stopped"].end()
    kits["ended"] = Kit().ready(booking(), booking(BOB))
    kits["ended"].begin()
    kits["ended"].travel()
    kits["ended"].end()
    return kits


def test_every_event_of_the_union_is_tried() -> None:
    assert {type(event) for event in EVENTS} == set(get_args(Event))


@pytest.mark.parametrize("event", EVENTS, ids=lambda e: type(e).__name__)
@pytest.mark.parametrize("name", list(_phases()))
def test_every_phase_takes_every_event_and_never_opens_without_a_grant(name: str, event: Event) -> None:
    kit = _phases()[name]
    now = Instant(kit.t + 50, 0.0, ClockQuality.UNSET)
    after, commands = machine.step(kit.state, event, now)
    written = commands[0].records if commands and isinstance(commands[0], Record) else ()
    unlocks = [c for c in commands if isinstance(c, Actuate) and c.action.value == "unlock"]
    retry = kit.state.doors.actuation is not None and kit.state.doors.actuation.action.value == "unlock"
    if unlocks and not retry:
        assert any(isinstance(r, TripStarted | DoorReopened) for r in written)
    due_s = machine.next_deadline(after)
    assert due_s is None or isinstance(due_s, float)
    _progress(after, now.boot_s)


def _progress(state: State, now_s: float) -> None:
    """No deadline may stay due for ever."""
    for _ in range(50):
        due_s = machine.next_deadline(state)
        if due_s is None or due_s > now_s:
            return
        state, commands = machine.step(state, DeadlineReached(), Instant(now_s, 0.0, ClockQuality.UNSET))
        state = _commit(state, commands)
    raise AssertionError("a deadline is never cleared")


def _commit(state: State, commands: tuple[Command, ...]) -> State:
    count = sum(len(c.records) for c in commands if isinstance(c, Record))
    return machine.committed(state, replace(state.kept.outbox, last_seq=state.kept.outbox.last_seq + count))


def test_a_record_that_does_not_fit_the_table_stops_the_box() -> None:
    kit = Kit().ready()
    kit.begin()
    forged = replace(kit.state, kept=replace(kit.state.kept, rental=None))
    with pytest.raises(machine.RuleBrokenError, match=r"^records lead to (\w+), the state says (?!\1)\w+$"):
        machine._check(kit.state, forged, ())
