"""Whole rentals, and the one door into the core: cards, phones, remote commands, refusals, the route."""

from __future__ import annotations

from dataclasses import replace

import pytest

from onboard.core import machine
from onboard.core.commands import Pattern, Reply
from onboard.core.events import (
    AccessRequested,
    ActuationOutcome,
    ActuationSettled,
    CardsRefused,
    FaultReported,
    Intent,
    ListReceived,
    MaintenanceRequested,
    Position,
    PositionReported,
    RemoteCredential,
)
from onboard.core.records import (
    AccessDenied,
    DistanceSource,
    FaultChanged,
    MaintenanceChanged,
    RentalEnded,
    RentalEndReason,
    Track,
    TripEnded,
    TripEndReason,
    TripStarted,
)
from tests.core_kit import ALICE, BAZOUGES, BOB, HEDE, Kit, booking, card, listing, phone
from tests.core_people import ANYWHERE


def test_a_whole_rental_is_written_once_with_its_distance_and_its_source() -> None:
    kit = Kit().ready()
    kit.begin()
    kit.travel(3500)
    kit.end()
    started, ended, rental = kit.last(TripStarted), kit.last(TripEnded), kit.last(RentalEnded)
    assert (started.trip, started.station, started.rule, started.proven) == (1, "bazouges", 2, True)
    assert (ended.distance_m, ended.distance_source, ended.station) == (3500, DistanceSource.ODOMETER, "hede")
    assert (ended.reason, ended.flags) == (TripEndReason.LOCKED, ())
    assert (rental.reason, rental.distance_m) == (RentalEndReason.AT_DROPOFF, 3500)
    assert rental.billable_s == ended.duration_s > 350
    assert len(kit.all(TripEnded)) == len(kit.all(RentalEnded)) == 1
    assert kit.pulses == ["unlock", "lock"]
    assert machine.vehicle_state(kit.state) == "available", "its window is still open, but opens nothing again"


def test_somebody_elses_card_at_a_running_trip_is_refused_and_written() -> None:
    kit = Kit().ready(booking(), booking(BOB))
    kit.begin()
    kit.give(card(BOB))
    assert (kit.word, kit.shown) == ("in_use", Pattern.DENIED)
    assert kit.last(AccessDenied).reason == "in_use"
    assert kit.pulses == ["unlock"]
    kit.give(card(BOB, Intent.LOCK))
    assert kit.word == "in_use"


def test_card_and_phone_serve_one_rental() -> None:
    kit = Kit().ready()
    kit.begin()
    kit.travel(to=replace(HEDE, latitude=48.29))
    kit.contacts(locked=False)
    kit.give(phone(intent=Intent.LOCK))
    kit.settle(locked=True)
    assert len(kit.all(TripEnded)) == 1
    kit.give(phone(intent=Intent.FINISH, command=b"d" * 16), 60)
    assert kit.last(RentalEnded).reason is RentalEndReason.FINISHED


def test_the_same_phone_command_answers_the_same_and_moves_nothing_twice() -> None:
    kit = Kit().ready()
    kit.give(phone())
    assert kit.word == "opening"
    kit.give(phone())
    assert kit.word == "opening"
    kit.settle(locked=False)
    kit.boot()
    kit.give(phone())
    assert kit.word == "opened"
    assert kit.pulses == ["unlock"]


def test_a_pulse_whose_end_nobody_saw_is_unknown_after_the_boot_and_is_not_given_again() -> None:
    kit = Kit().ready()
    kit.give(phone())
    kit.boot()
    kit.give(phone())
    assert kit.word == "interrupted"
    assert kit.pulses == ["unlock"]


def test_a_pulse_that_the_interlock_refused_is_told_as_not_moved() -> None:
    kit = Kit().ready()
    kit.give(phone())
    pending = kit.state.doors.actuation
    assert pending is not None
    kit.give(ActuationSettled(pending.number, ActuationOutcome.REFUSED, "moving", kit.t), 0.3)
    kit.boot()
    kit.give(phone())
    assert kit.word == "not_moved"
    assert kit.pulses == ["unlock"]


def test_a_remote_command_counts_once_in_its_boot_and_in_its_time() -> None:
    kit = Kit().ready()
    alice = booking().id

    def remote(counter: int, epoch: bytes, until_s: float, name: bytes) -> AccessRequested:
        return AccessRequested(RemoteCredential(alice, name * 16, epoch, counter, until_s), Intent.UNLOCK, 1)

    epoch = kit.state.boot_epoch
    kit.give(remote(1, b"x" * 8, kit.t + 9, b"a"))
    assert kit.word == "command_too_old"
    kit.give(remote(1, epoch, kit.t - 1, b"b"))
    assert kit.word == "command_too_old"
    assert kit.pulses == []
    kit.give(remote(5, epoch, kit.t + 9, b"c"))
    assert kit.pulses == ["unlock"]
    kit.settle(locked=False)
    kit.give(remote(5, epoch, kit.t + 9, b"d"))
    assert kit.word == "command_replayed"


def test_a_route_is_written_only_where_the_driver_agreed() -> None:
    for trace in (True, False):
        kit = Kit().ready(booking(trace=trace))
        kit.begin()
        for step in range(12):
            kit.t += 5
            kit.drive(10.0)
            kit.give(PositionReported(Position(48.279 + step * 0.0005, -1.84, 10.0, 3, 1.0, kit.t)))
        kit.t += 1
        kit.drive(0.0)
        kit.contacts(locked=False)
        kit.end()
        assert bool(kit.all(Track)) is trace
        if not trace:
            assert not [r for r in kit.records if isinstance(r, Track)]


def test_maintenance_bars_new_starts_but_no_running_trip() -> None:
    kit = Kit().ready()
    kit.begin()
    kit.give(MaintenanceRequested(on=True, by="agent"))
    kit.travel()
    kit.end()
    assert len(kit.all(TripEnded)) == 1
    kit.wait(700)
    kit.give(ListReceived(listing(booking(BOB), version=2)))
    kit.give(card(BOB))
    assert kit.word == "out_of_order"
    assert machine.vehicle_state(kit.state) == "non_operational"


def test_refusals_beyond_the_hours_share_are_counted_in_one_record() -> None:
    kit = Kit().ready()
    for _ in range(200):
        kit.give(card(b"stranger"), 1)
    assert len(kit.all(AccessDenied)) == 60
    kit.give(card(b"stranger"), 3600)
    flood = [r for r in kit.all(AccessDenied) if r.reason == "flood"]
    assert [r.more for r in flood] == [140]


def test_two_cards_get_their_own_answer() -> None:
    kit = Kit().ready()
    kit.give(CardsRefused("two_cards"))
    assert kit.shown is Pattern.ONE_CARD
    assert kit.last(AccessDenied).reason == "two_cards"


def test_a_granted_tap_is_answered_and_a_waiting_request_gets_its_reply() -> None:
    kit = Kit().ready()
    commands = kit.give(card(request=42))
    assert Reply(42, "granted", "opening") in commands
    assert kit.shown is Pattern.GRANTED
    assert BAZOUGES.id == kit.last(TripStarted).station
    assert kit.last(TripStarted).driver == ALICE


def test_the_vehicle_state_is_in_the_words_of_mds() -> None:
    kit = Kit().ready(booking(start_s=100, end_s=3600))
    seen = [machine.vehicle_state(kit.state)]
    kit.t = 150.0
    kit.drive(0.0)
    seen.append(machine.vehicle_state(kit.state))
    kit.begin()
    seen.append(machine.vehicle_state(kit.state))
    kit.travel(to=ANYWHERE)
    kit.end()
    seen.append(machine.vehicle_state(kit.state))
    kit.give(phone(intent=Intent.FINISH), 60)
    seen.append(machine.vehicle_state(kit.state))
    kit.give(MaintenanceRequested(on=True, by="agent"))
    seen.append(machine.vehicle_state(kit.state))
    assert seen == ["available", "reserved", "on_trip", "stopped", "available", "non_operational"]


@pytest.mark.parametrize(("part", "shown"), [("store", True), ("door", True), ("gps", False)])
def test_a_fault_that_keeps_people_out_is_shown_at_the_car(part: str, shown: bool) -> None:
    kit = Kit()
    kit.give(FaultReported(part, active=True, detail="gone"))
    assert (kit.shown is Pattern.OUT_OF_ORDER) is shown
    assert dict(kit.state.faults) == {part: "gone"}
    kit.give(FaultReported(part, active=True, detail="still gone"))
    kit.give(FaultReported(part, active=False))
    assert [r.active for r in kit.all(FaultChanged)] == [True, False]
    assert not kit.state.faults


def test_the_same_maintenance_again_is_no_news() -> None:
    kit = Kit()
    for on in (True, True, False, False):
        kit.give(MaintenanceRequested(on=on, by="agent"))
    assert [r.on for r in kit.all(MaintenanceChanged)] == [True, False]


def test_a_long_route_is_written_in_bounded_pieces() -> None:
    kit = Kit().ready(booking(trace=True))
    kit.begin()
    for step in range(130):
        kit.t += 0.25
        kit.drive(30.0)
        kit.t += 0.25
        kit.give(PositionReported(Position(48.279 + step * 0.0002, -1.84, 22.0, 3, 1.0, kit.t)))
    pieces = kit.all(Track)
    assert [len(piece.points) for piece in pieces] == [64, 64]
    assert 62 <= pieces[1].points[-1][0] <= 65, "seconds since the trip began"


def test_a_route_goes_on_over_a_power_cut_with_the_trips_own_seconds() -> None:
    kit = Kit().ready(booking(trace=True))
    kit.begin()
    kit.wait(400)
    kit.boot()
    for step in range(3):
        kit.t += 10
        kit.drive(10.0)
        kit.give(PositionReported(Position(48.279 + step * 0.001, -1.84, 10.0, 3, 1.0, kit.t)))
    kit.wait(60)
    seconds = [point[0] for point in kit.last(Track).points]
    assert seconds == sorted(seconds)
    assert seconds[0] >= 300


def test_a_position_without_a_place_on_earth_cannot_be_built() -> None:
    for latitude, longitude, mode in ((91.0, 0.0, 3), (0.0, -181.0, 3), (0.0, 0.0, 1), (float("nan"), 0.0, 3)):
        with pytest.raises(ValueError, match="no position"):
            Position(latitude, longitude, None, mode, None, 0.0)
