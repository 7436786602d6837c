"""What a start in the middle of a trip sets, to the last field, and what it writes down."""

from __future__ import annotations

from dataclasses import replace

import pytest

from onboard.core import machine
from onboard.core.clock import ClockQuality, Instant
from onboard.core.commands import Record
from onboard.core.events import Intent, KeySetTaken, Started
from onboard.core.records import Booted
from onboard.core.state import Meter, Outbox, State
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
