"""What a start in the middle of a trip sets, to the last field, and what it writes down."""

from __future__ import annotations

from dataclasses import replace

import pytest

from onboard.core import machine, request
from onboard.core.clock import ClockQuality, Instant, Span
from onboard.core.commands import Pattern, Record
from onboard.core.draft import HOUR_S, Draft
from onboard.core.events import AckReceived, DeadlineReached, Intent, KeySetTaken, LinkReported, Started
from onboard.core.records import Booted
from onboard.core.state import Answered, Grants, Meter, Outbox, State
from tests.core_kit import BOB, POLICY, Kit, booking
from tests.core_people import ask, leave

EPOCH = b"boot---9"


@pytest.mark.parametrize("trace", [True, False])
@pytest.mark.parametrize("speed_seen", [True, False])
def test_a_start_in_a_trip_goes_on_from_what_was_kept(trace: bool, speed_seen: bool) -> None:
    kit = Kit().ready(booking(trace=trace))
    kit.begin()
    running = kit.state.kept.rental
    assert running is not None
    assert running.trip is not None
    meter = Meter(odometer_m=1000, speed_gaps=3, speed_seen=speed_seen)
    rental = replace(running, trip=replace(running.trip, meter=meter))
    kept = replace(kit.state.kept, rental=rental, outbox=Outbox(b"s" * 16, 9, 4))
    state, commands = machine.step(State(kept, POLICY), Started(EPOCH, "1.2.3"), Instant(50.0, 0.0, ClockQuality.UNSET))
    [written] = [command.records for command in commands if isinstance(command, Record)]
    assert written == (Booted("1.2.3", 1),), "nothing is due yet"
    assert (state.boot_epoch, state.software, state.began_s) == (EPOCH, "1.2.3", 50.0)
    assert (state.doors.touched_s, state.vehicle.bus_since_s) == (50.0, 50.0)
    assert (state.sending.acked_seq, state.sending.sent_seq, state.sending.heard_at_s) == (4, 4, 50.0)
    assert state.track_at_s == (50.0 + POLICY.track_every_s if trace else None)
    assert state.progress_at_s == 50.0 + POLICY.progress_every_s
    assert state.meter == replace(meter, speed_gaps=4 if speed_seen else 3)


def test_a_start_is_written_down_with_the_trip_that_it_found() -> None:
    kit = Kit()
    assert kit.last(Booted) == Booted("test", 0)
    kit.ready()
    kit.begin()
    kit.boot()
    assert kit.last(Booted) == Booted("test", 1)


def test_a_new_key_set_has_every_pass_shown_again() -> None:
    kit = Kit().ready()
    ask(kit, BOB, leave(BOB, g=9), Intent.LOCK)
    grants = kit.state.kept.grants
    assert grants.passes
    kit.give(KeySetTaken())
    assert kit.state.kept.grants == replace(grants, passes=())


def test_after_a_start_nothing_of_a_trip_is_due_at_once() -> None:
    kit = Kit().ready(booking(trace=True))
    kit.begin()
    d = Draft(kit.state, Instant(50.0, 0.0, ClockQuality.UNSET))
    machine._start(d, Started(EPOCH, "1.2.3"))
    assert (d.state.progress_at_s, d.state.track_at_s) == (50.0 + POLICY.progress_every_s, 50.0 + POLICY.track_every_s)


def test_a_lock_that_waited_in_vain_leaves_nothing_behind() -> None:
    kit = Kit().ready()
    kit.state = replace(kit.state, doors=replace(kit.state.doors, armed_until_s=5.0, armed_needs_opening=True))
    kit.wait(10.0)
    assert kit.state.doors.armed_until_s is None
    assert kit.state.doors.armed_needs_opening is False
    assert kit.shown is Pattern.TRY_AGAIN


def test_an_open_door_is_all_that_an_armed_lock_waited_for() -> None:
    kit = Kit().ready()
    kit.state = replace(kit.state, doors=replace(kit.state.doors, armed_until_s=50.0, armed_needs_opening=True))
    kit.contacts(locked=False, driver_open=True)
    assert kit.state.doors.armed_needs_opening is False


@pytest.mark.parametrize(("after_s", "left"), [(HOUR_S - 0.5, 1), (HOUR_S, 0)])
def test_what_is_not_needed_any_more_is_looked_for_once_an_hour(after_s: float, left: int) -> None:
    kit = Kit().ready()
    old = Answered(
        b"a", b"c" * 16, "lock", "accepted", "locked", Span(Instant(-1e6, 0.0, ClockQuality.UNSET), b"\1" * 8)
    )
    kit.state = replace(kit.state, purged_s=100.0, kept=replace(kit.state.kept, grants=Grants(answered=(old,))))
    kit.give(DeadlineReached(), 100.0 + after_s - kit.t)
    assert len(kit.state.kept.grants.answered) == left
    assert kit.state.purged_s == (100.0 if left else 100.0 + HOUR_S)


def test_passes_that_all_hold_are_not_kept_anew() -> None:
    kit = Kit().ready()
    ask(kit, BOB, leave(BOB, g=9), Intent.LOCK)
    d = Draft(kit.state, Instant(kit.t, 0.0, ClockQuality.UNSET))
    request.forget_old_passes(d)
    assert d.kept.grants.passes
    assert d.kept is kit.state.kept


def test_a_way_that_is_back_is_told_as_back() -> None:
    kit = Kit().ready()
    kit.give(LinkReported(connected=True))
    kit.state = replace(kit.state, sending=replace(kit.state.sending, lost_told=True, sent_seq=2))
    kit.give(AckReceived(kit.state.kept.outbox.store_id, 2))
    assert kit.state.sending.lost_told is False
