"""The state machine: whole rentals, and every phase against every event."""

from __future__ import annotations

from dataclasses import replace
from typing import get_args

import pytest

from onboard.core import machine
from onboard.core.clock import Anchor, ClockQuality, Instant
from onboard.core.commands import Actuate, Command, Pattern, Record, Reply
from onboard.core.events import (
    AccessRequested,
    AckReceived,
    ActuationOutcome,
    ActuationSettled,
    BusReported,
    BusState,
    CardsRefused,
    Charging,
    ChargingReported,
    DeadlineReached,
    DoorReported,
    Event,
    FaultReported,
    Intent,
    LinkReported,
    ListReceived,
    LockButtonPressed,
    MaintenanceRequested,
    Position,
    PositionReported,
    Reading,
    RemoteCredential,
    ResendRequested,
    Signal,
    SignalsReported,
    Started,
    SupplyReported,
    TimeHeard,
)
from onboard.core.records import (
    AccessDenied,
    ActuationFailed,
    Alert,
    ChargingChanged,
    DistanceSource,
    DoorReopened,
    EndRequested,
    Parked,
    RentalEnded,
    RentalEndReason,
    RentalKind,
    Track,
    TripEnded,
    TripEndReason,
    TripStarted,
)
from onboard.core.state import State
from tests.core_kit import ALICE, BAZOUGES, BOB, HEDE, POLICY, T0, Kit, booking, card, listing, phone


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


def test_the_door_moves_only_after_the_trip_is_committed() -> None:
    kit = Kit().ready()
    commands = kit.give(card())
    assert isinstance(commands[0], Record)
    assert isinstance(commands[0].records[0], TripStarted)
    assert [type(c) for c in commands].index(Actuate) > 0


def test_a_trip_does_not_end_on_a_report_sampled_before_the_pulse_ended() -> None:
    kit = Kit().ready()
    kit.begin()
    kit.travel()
    kit.give(card())
    kit.contacts(locked=True, sampled_s=kit.t)  # a late "locked" of an earlier press
    pending = kit.state.doors.actuation
    assert pending is not None
    kit.give(ActuationSettled(pending.number, ActuationOutcome.DONE, "", kit.t + 0.3), 0.3)
    kit.contacts(locked=True, sampled_s=kit.t - 0.1)
    assert not kit.all(TripEnded)
    kit.t += 0.3
    kit.contacts(locked=True)
    assert len(kit.all(TripEnded)) == 1


def test_a_trip_does_not_end_while_a_door_is_open() -> None:
    kit = Kit().ready()
    kit.begin()
    kit.give(card(), 5)
    kit.give(ActuationSettled(2, ActuationOutcome.DONE, "", kit.t + 0.3), 0.3)
    kit.t += 1
    kit.contacts(locked=True, driver_open=True)
    assert not kit.all(TripEnded)


def test_the_end_is_asked_in_the_commit_that_comes_before_the_pulse() -> None:
    kit = Kit().ready()
    kit.begin()
    kit.travel()
    commands = kit.give(card())
    assert isinstance(commands[0], Record)
    assert isinstance(commands[0].records[0], EndRequested)
    assert any(isinstance(c, Actuate) for c in commands[1:])


def test_a_pulse_that_nothing_confirms_is_repeated_and_then_told() -> None:
    kit = Kit().ready()
    kit.begin()
    kit.travel()
    kit.give(card())
    for _ in range(3):
        pending = kit.state.doors.actuation
        assert pending is not None
        kit.give(ActuationSettled(pending.number, ActuationOutcome.DONE, "", kit.t + 0.3), 0.3)
        kit.t += 0.5
        kit.contacts(locked=False)
        kit.wait(4)
    assert kit.pulses == ["unlock", "lock", "lock", "lock"]
    assert kit.last(ActuationFailed).action == "lock"
    assert kit.shown is Pattern.OUT_OF_ORDER
    assert not kit.all(TripEnded)
    assert [f.reason for f in kit.all(ActuationFailed)] == ["not_confirmed"]
    kit.end()
    assert len(kit.all(TripEnded)) == 1, "the driver can still lock and end"
    assert [f.reason for f in kit.all(ActuationFailed)] == ["not_confirmed"], "told once, for what it was"


def test_a_tap_during_the_pulse_is_told_to_try_again_and_changes_nothing() -> None:
    for ask in (card(), phone(intent=Intent.UNLOCK)):
        kit = Kit().ready()
        kit.begin()
        kit.give(card(), 5)
        kit.give(ask, 0.1)
        assert (kit.word, kit.pulses) == ("busy", ["unlock", "lock"])
        assert not kit.all(DoorReopened)


def test_a_door_that_never_opened_ends_the_rental_unbilled_and_the_booking_still_opens() -> None:
    kit = Kit().ready()
    kit.give(card())
    for _ in range(3):
        pending = kit.state.doors.actuation
        assert pending is not None
        kit.give(ActuationSettled(pending.number, ActuationOutcome.DONE, "", kit.t + 0.3), 0.3)
        kit.t += 0.5
        kit.contacts(locked=True)
        kit.wait(4)
    assert kit.last(RentalEnded).reason is RentalEndReason.NOT_OPENED
    assert kit.last(RentalEnded).billable_s == 0
    kit.begin()
    assert kit.state.kept.rental is not None


def test_an_interlock_refusal_ends_what_never_began() -> None:
    kit = Kit().ready()
    kit.give(card())
    kit.give(ActuationSettled(1, ActuationOutcome.REFUSED, "moving", kit.t))
    assert kit.last(TripEnded).reason is TripEndReason.NOT_OPENED
    assert kit.state.kept.rental is None


@pytest.mark.parametrize("locked", [True, False])
def test_a_cut_after_the_lock_pulse_is_settled_by_the_first_report(locked: bool) -> None:
    kit = Kit().ready()
    kit.begin()
    kit.travel()
    kit.give(card())
    kit.boot()
    kit.contacts(locked=locked)
    assert len(kit.all(TripEnded)) == int(locked)
    assert kit.pulses.count("lock") == 1, "nothing moves by itself after a boot"
    if not locked:
        assert kit.last(ActuationFailed).reason == "power_cut"
        kit.clock()
        kit.end()
        assert len(kit.all(TripEnded)) == 1


@pytest.mark.parametrize("opened", [True, False])
def test_a_cut_between_commit_and_unlock_is_settled_by_the_first_report(opened: bool) -> None:
    kit = Kit().ready()
    kit.give(card())
    kit.boot()
    kit.contacts(locked=not opened)
    rental = kit.state.kept.rental
    if opened:
        assert rental is not None
        assert rental.trip is not None
        assert rental.trip.opened
    else:
        assert kit.last(TripEnded).reason is TripEndReason.NOT_OPENED
        kit.clock()
        kit.begin()
        assert kit.state.kept.rental is not None, "the driver in the rain taps again"


def test_a_restart_of_the_daemon_alone_settles_an_asked_end_too() -> None:
    kit = Kit().ready()
    kit.begin()
    kit.travel()
    kit.give(card())
    epoch = kit.state.boot_epoch
    kit.state = State(kept=kit.state.kept, policy=kit.state.policy)
    kit.give(Started(epoch, "test"), 2)
    kit.contacts(locked=False)
    assert kit.last(ActuationFailed).reason == "power_cut"


def test_driven_metres_of_an_outage_count() -> None:
    kit = Kit().ready()
    kit.begin()
    kit.travel(1000)
    kit.boot()
    kit.clock()
    kit.drive(0.0, odometer_m=4500)
    kit.contacts(locked=False)
    kit.end()
    assert kit.last(TripEnded).distance_m == 3500


def test_a_second_tap_soon_after_the_lock_ends_the_rental_anywhere() -> None:
    kit = Kit().ready()
    kit.begin()
    kit.travel(to=replace(HEDE, latitude=48.29))
    kit.end()
    assert machine.phase(kit.state) is machine.Phase.STOPPED
    kit.give(card(), 10)
    assert kit.last(RentalEnded).reason is RentalEndReason.FINISHED
    assert kit.pulses == ["unlock", "lock"]


def test_a_later_tap_opens_a_stopped_rental_again_anywhere() -> None:
    kit = Kit().ready()
    kit.begin()
    kit.travel(to=replace(HEDE, latitude=48.29))
    kit.end()
    kit.drive(0.0)
    kit.give(card(), 21)
    assert kit.pulses[-1] == "unlock"
    assert kit.last(TripStarted).trip == 2
    assert kit.last(TripStarted).rental == 1
    kit.settle(locked=False)
    kit.travel(500)
    kit.end()
    rental = kit.last(RentalEnded)
    assert (rental.trips, rental.distance_m) == (2, 1500)
    assert rental.billable_s > sum(t.duration_s for t in kit.all(TripEnded)), "billed from first unlock to last lock"


def test_a_habitual_second_tap_after_the_lock_ended_the_rental_opens_nothing() -> None:
    kit = Kit().ready()
    kit.begin()
    kit.travel()
    kit.end()
    kit.give(card(), 5)
    assert kit.word == "finished"
    assert kit.pulses == ["unlock", "lock"]


def test_the_last_driver_opens_once_more_for_the_cable_and_only_once() -> None:
    kit = Kit().ready()
    kit.begin()
    kit.travel()
    kit.end()
    kit.give(card(), 30)
    assert kit.last(TripStarted).kind is RentalKind.REOPEN
    kit.settle(locked=False)
    kit.end()
    assert kit.last(RentalEnded).billable_s == 0
    kit.give(card(), 30)
    assert kit.word == "rental_over"
    assert kit.pulses.count("unlock") == 2


def test_the_reopen_window_closes_by_time_and_by_reboot() -> None:
    for close in ("time", "reboot"):
        kit = Kit().ready()
        kit.begin()
        kit.travel()
        kit.end()
        if close == "time":
            kit.t += 601
        else:
            kit.boot()
            kit.clock()
            kit.contacts(locked=True)
        kit.give(card())
        assert kit.word == "rental_over"


def test_a_lock_at_the_station_before_any_metre_does_not_end_the_rental() -> None:
    kit = Kit().ready(booking(dropoff=None))
    kit.begin()
    kit.end()
    assert machine.phase(kit.state) is machine.Phase.STOPPED


def test_the_stricter_rule_ends_the_rental_with_every_lock() -> None:
    kit = Kit(replace(POLICY, lock_ends_rental="always")).ready()
    kit.begin()
    kit.end()
    assert kit.last(RentalEnded).reason is RentalEndReason.RULE_ALWAYS


def test_charging_after_the_lock_ends_a_driven_rental_billed_to_the_lock() -> None:
    kit = Kit().ready()
    kit.begin()
    kit.travel(to=replace(HEDE, latitude=48.29))
    kit.end()
    billed_s = kit.last(TripEnded).duration_s
    kit.give(ChargingReported(Charging.CHARGING), 300)
    assert kit.last(RentalEnded).reason is RentalEndReason.CHARGING
    assert kit.last(RentalEnded).billable_s == billed_s
    assert kit.last(ChargingChanged).state == "charging"


def test_a_locked_rental_ends_with_its_time_and_grace_and_not_before() -> None:
    kit = Kit().ready()
    kit.begin()
    kit.travel(to=replace(HEDE, latitude=48.29))
    kit.end()
    kit.wait(3600 + 890 - kit.t)
    assert not kit.all(RentalEnded)
    kit.wait(20)
    assert kit.last(RentalEnded).reason is RentalEndReason.TIME_OVER


def test_time_run_out_on_the_road_is_told_once_and_locks_nobody_out() -> None:
    kit = Kit().ready()
    kit.begin()
    kit.travel(to=replace(HEDE, latitude=48.29))
    kit.wait(8000)
    assert [a.kind for a in kit.all(Alert)].count("overdue") == 1
    kit.end()
    kit.state = replace(kit.state, locked_s=None)
    assert len(kit.all(TripEnded)) == 1


def test_the_button_locks_when_its_presser_is_out_and_the_door_shut() -> None:
    kit = Kit().ready()
    kit.begin()
    kit.travel()
    kit.give(LockButtonPressed())
    kit.contacts(locked=False)
    assert kit.pulses == ["unlock"], "whoever pressed it is still inside"
    kit.t += 3
    kit.contacts(locked=False, driver_open=True)
    kit.t += 3
    kit.contacts(locked=False)
    assert kit.pulses == ["unlock", "lock"]
    kit.settle(locked=True)
    assert len(kit.all(TripEnded)) == 1


def test_a_tap_with_a_door_open_locks_when_it_shuts_or_lapses() -> None:
    kit = Kit().ready()
    kit.begin()
    kit.travel()
    kit.contacts(locked=False, driver_open=True)
    kit.give(card())
    assert (kit.word, kit.pulses) == ("shut_the_door", ["unlock"])
    kit.wait(121)
    kit.contacts(locked=False)
    assert kit.pulses == ["unlock"], "the wish has lapsed"


def test_nothing_moves_while_the_car_moves() -> None:
    kit = Kit().ready()
    kit.begin()
    kit.drive(5.0)
    kit.contacts(locked=False)
    kit.give(card())
    assert (kit.word, kit.shown) == ("moving", Pattern.TRY_AGAIN)
    kit.give(LockButtonPressed())
    assert kit.pulses == ["unlock"]


def test_with_a_faulty_bus_the_lock_still_works_and_says_so() -> None:
    kit = Kit().ready()
    kit.begin()
    kit.drive(8.0)
    kit.give(BusReported(BusState.FAULT, kit.t + 10), 10)
    kit.contacts(locked=False)
    kit.give(card())
    kit.settle(locked=True)
    assert kit.last(TripEnded).flags == ("standstill_unproven",)


def test_somebody_elses_card_at_a_running_trip_is_refused_and_written() -> None:
    kit = Kit().ready(booking(), booking(BOB))
    kit.begin()
    kit.give(card(BOB))
    assert (kit.word, kit.shown) == ("in_use", Pattern.DENIED)
    assert kit.last(AccessDenied).reason == "in_use"
    assert kit.pulses == ["unlock"]
    kit.give(card(BOB, Intent.LOCK))
    assert kit.word == "in_use"


def test_an_abandoned_car_is_taken_over_and_billed_to_its_last_standstill() -> None:
    kit = Kit().ready(booking(end_s=600), booking(BOB, 3000, 9000))
    kit.begin()
    kit.travel(1000)
    stood_s = kit.t
    kit.contacts(locked=False)
    kit.wait(1600)
    assert "left_open" in [a.kind for a in kit.all(Alert)]
    kit.t = 3200.0
    kit.drive(0.0)
    kit.contacts(locked=False)
    kit.give(card(BOB))
    assert kit.last(RentalEnded).reason is RentalEndReason.ABANDONED
    assert kit.last(RentalEnded).billable_s <= stood_s + 2
    assert kit.state.kept.rental is not None
    assert kit.state.kept.rental.booking.driver == BOB


def test_a_car_left_open_within_its_time_is_not_taken_over() -> None:
    kit = Kit().ready(booking(), booking(BOB))
    kit.begin()
    kit.wait(2500)
    kit.drive(0.0)
    kit.contacts(locked=False)
    kit.give(card(BOB))
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
    first = kit.word
    kit.settle(locked=False)
    kit.boot()
    kit.give(phone())
    assert kit.word == first == "opening"
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


def test_where_the_car_is_parked_is_written_after_the_rental() -> None:
    kit = Kit().ready()
    kit.begin()
    kit.travel()
    kit.end()
    assert kit.last(Parked) == Parked("hede", HEDE.latitude, HEDE.longitude)


def test_a_car_that_does_not_charge_is_told_after_its_grace() -> None:
    kit = Kit().ready()
    kit.begin()
    kit.travel()
    kit.end()
    kit.wait(901)
    assert kit.last(Alert).kind == "plug_in_missing"


@pytest.mark.parametrize("why", ["charging", "full_enough", "too_cold"])
def test_no_alarm_when_it_charges_or_need_not_or_cannot(why: str) -> None:
    kit = Kit().ready()
    kit.begin()
    kit.travel()
    if why == "full_enough":
        kit.drive(0.0, soc_pct=97.0)
    if why == "too_cold":
        kit.give(SignalsReported(((Signal.TEMPERATURE, Reading(-6.0, kit.t, 1e9)),), 100))
    kit.contacts(locked=False)
    kit.give(card())
    if why == "full_enough":
        kit.give(SignalsReported(((Signal.SOC, Reading(97.0, kit.t, 1e9)),), 100))
    kit.settle(locked=True)
    if why == "charging":
        kit.give(ChargingReported(Charging.CHARGING), 60)
    kit.wait(2000)
    assert "plug_in_missing" not in [a.kind for a in kit.all(Alert)]


def test_movement_without_a_trip_is_an_event_of_its_own() -> None:
    kit = Kit().ready()
    for metres in range(1000, 1301, 100):
        kit.t += 10
        kit.drive(10.0, odometer_m=metres)
    assert [(a.kind, a.value) for a in kit.all(Alert)] == [("unbooked_movement", 100)] * 3
    assert not kit.all(TripStarted)


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


EVENTS: tuple[Event, ...] = (
    card(),
    card(BOB),
    card(b"stranger"),
    phone(intent=Intent.LOCK),
    phone(intent=Intent.FINISH, command=b"f" * 16),
    AccessRequested(RemoteCredential(b"?" * 16, b"r" * 16, b"\1" * 8, 1, 1e9), Intent.UNLOCK),
    CardsRefused("unreadable"),
    LockButtonPressed(),
    DoorReported(True, False, False, 1e6),
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
    SupplyReported(11.0),
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
    with pytest.raises(machine.RuleBrokenError):
        machine._check(kit.state, forged, ())


def test_a_granted_tap_is_answered_and_a_waiting_request_gets_its_reply() -> None:
    kit = Kit().ready()
    commands = kit.give(card(request=42))
    assert Reply(42, "granted", "opening") in commands
    assert kit.shown is Pattern.GRANTED
    assert BAZOUGES.id == kit.last(TripStarted).station
    assert kit.last(TripStarted).driver == ALICE
