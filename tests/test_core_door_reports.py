"""What a report of the contacts settles: a pulse, a fault, an end that a power cut left open, a door that moved."""

from __future__ import annotations

from dataclasses import replace

import pytest

from onboard.core import doors
from onboard.core.clock import ClockQuality, Instant
from onboard.core.commands import Action
from onboard.core.draft import Draft
from onboard.core.events import ActuationOutcome, ActuationSettled
from onboard.core.records import ActuationFailed, FaultChanged, TripEnded
from onboard.core.state import Actuation, EndRequest
from tests.core_kit import POLICY, Kit, booking, card
from tests.core_people import ANYWHERE

EXACT = replace(POLICY, settle_s=0.125)


def settled(kit: Kit) -> None:
    pending = kit.state.doors.actuation
    assert pending is not None
    kit.give(ActuationSettled(pending.number, ActuationOutcome.DONE, "", kit.t))


@pytest.mark.parametrize(("after_s", "confirmed"), [(0.0625, False), (0.125, True)])
def test_a_report_confirms_once_the_contact_had_its_time(after_s: float, confirmed: bool) -> None:
    kit = Kit(EXACT).ready()
    kit.give(card())
    settled(kit)
    kit.contacts(locked=False, sampled_s=kit.t + after_s)
    assert (kit.state.doors.actuation is None) is confirmed


def test_a_report_as_old_as_the_pulses_end_says_that_somebody_got_in() -> None:
    kit = Kit(EXACT).ready()
    kit.give(card())
    settled(kit)
    kit.contacts(locked=False, sampled_s=kit.t)
    assert kit.state.kept.rental is not None
    assert kit.state.kept.rental.trip is not None
    assert kit.state.kept.rental.trip.opened


@pytest.mark.parametrize("action", list(Action))
def test_a_confirmed_pulse_ends_the_doors_fault_and_says_nothing_about_it(action: Action) -> None:
    kit = Kit().ready()
    if action is Action.LOCK:
        kit.begin()
    kit.state = replace(kit.state, faults=(("door", "lock was not confirmed"), ("reader", "gone")))
    if action is Action.LOCK:
        kit.end()
    else:
        kit.begin()
    assert kit.state.faults == (("reader", "gone"),)
    assert kit.last(FaultChanged) == FaultChanged("door", active=False, detail="")


def test_a_trip_that_ends_standing_still_has_no_flag_and_one_without_a_speed_has() -> None:
    kit = Kit().ready()
    kit.begin()
    kit.travel(to=ANYWHERE)
    kit.end()
    assert "standstill_unproven" not in kit.last(TripEnded).flags
    kit.t += 100.0
    kit.contacts(locked=True)
    kit.begin()
    kit.t += 100.0
    kit.contacts(locked=False)
    kit.give(card())
    kit.settle(locked=True)
    assert "standstill_unproven" in kit.last(TripEnded).flags


def test_an_end_that_a_power_cut_left_open_at_an_open_latch_is_dropped_and_told() -> None:
    kit = Kit().ready()
    kit.begin()
    kit.drive(0.0)
    kit.contacts(locked=False)
    kit.give(card())
    assert kit.state.kept.rental is not None
    assert kit.state.kept.rental.trip is not None
    assert isinstance(kit.state.kept.rental.trip.end, EndRequest)
    kit.boot()
    kit.contacts(locked=False)
    assert kit.last(ActuationFailed) == ActuationFailed("lock", "power_cut", 1)
    running = kit.state.kept.rental
    assert running is not None
    assert running.trip is not None
    assert running.trip.end is None
    kit.t += 1.0
    kit.contacts(locked=True)
    assert not kit.all(TripEnded), "a latch that moves later ends nothing that was dropped"


@pytest.mark.parametrize(("pulse_settled", "opened"), [(None, False), (1.0, True)])
def test_whoever_drives_was_let_in_unless_the_pulse_is_still_under_way(
    pulse_settled: float | None, opened: bool
) -> None:
    kit = Kit().ready()
    kit.give(card())
    pulse = Actuation(1, Action.UNLOCK, 1, 0.5, settled_s=pulse_settled)
    state = replace(kit.state, doors=replace(kit.state.doors, actuation=pulse))
    d = Draft(state, Instant(9.0, 0.0, ClockQuality.UNSET))
    doors.note_driven(d)
    assert d.kept.rental is not None
    assert d.kept.rental.trip is not None
    assert d.kept.rental.trip.opened is opened


def test_a_door_that_moves_is_warned_about_anew() -> None:
    kit = Kit().ready()
    kit.state = replace(kit.state, doors=replace(kit.state.doors, left_open_told=True, touched_s=0.0))
    kit.t = 50.0
    kit.contacts(locked=True)
    assert kit.state.doors.left_open_told, "nothing moved"
    kit.contacts(locked=False)
    assert (kit.state.doors.left_open_told, kit.state.doors.touched_s) == (False, 50.0)


@pytest.mark.parametrize(("after_s", "abandoned"), [(1800.0, True), (1799.5, False)])
def test_a_car_is_abandoned_after_half_an_hour_untouched(after_s: float, abandoned: bool) -> None:
    kit = Kit().ready(booking(end_s=600))
    kit.begin()
    kit.t = 5000.0
    kit.clock()
    kit.drive(0.0)
    kit.contacts(locked=False)
    kit.state = replace(kit.state, doors=replace(kit.state.doors, touched_s=kit.t - after_s))
    assert doors.abandoned(kit.state, kit.t) is abandoned
