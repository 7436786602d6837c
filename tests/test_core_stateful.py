"""The core in a small, nasty world: stuck latches, slow and stale reports, power cuts, impatient drivers, weak clocks.

The world keeps its own truth (where the latch is, who has a right) and checks after every move: no door opens without a
committed grant; the running trip's driver can always lock and end; every accepted end ends; no trip is lost, doubled or
ended on an open door. ``AMIBOX_EXAMPLES`` sets how many stories are told.
"""

from __future__ import annotations

import os
from dataclasses import dataclass, replace

from hypothesis import HealthCheck, settings
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, initialize, invariant, precondition, rule

from onboard.core import machine
from onboard.core.commands import Action, Actuate, Command, Record
from onboard.core.events import (
    AccessRequested,
    ActuationOutcome,
    ActuationSettled,
    BusReported,
    BusState,
    CardCredential,
    DeadlineReached,
    DoorReported,
    Event,
    Intent,
    ListReceived,
    LockButtonPressed,
    PhoneCredential,
    Signal,
)
from onboard.core.policy import Policy
from onboard.core.records import (
    DoorReopened,
    EndRequested,
    Recordable,
    RentalEnded,
    TripEnded,
    TripEndReason,
    TripStarted,
)
from onboard.core.state import State
from tests.core_kit import ALICE, BOB, POLICY, Kit, booking, card, listing, phone

WHO = st.sampled_from([ALICE, ALICE, ALICE, BOB, b"stranger"])
UNTIL_S = 20_000


@dataclass(frozen=True)
class Nature:
    """What goes wrong in one story, and how often: each story draws its own."""

    fates: tuple[str, ...]
    cuts: bool


NATURES = st.builds(
    Nature,
    fates=st.sampled_from(
        [
            ("works",),
            ("works", "works", "sticks", "fails", "unheard"),
            ("bounces", "bounces", "works"),
            ("bounces",),
            ("sticks", "unheard", "works"),
        ]
    ),
    cuts=st.booleans(),
)


def _asker(event: Event) -> bytes:
    """Return who asks: the bench names cards and phones after their people."""
    match event:
        case AccessRequested(credential=CardCredential(ref=ref)):
            return ref
        case AccessRequested(credential=PhoneCredential(key=key)):
            return key[1:9]
        case _:
            return b"nobody"


class World(RuleBasedStateMachine):
    """One car. ``latched`` and ``door_open`` are the truth; the core only ever sees reports of it."""

    @initialize(policy=st.sampled_from([POLICY, replace(POLICY, lock_ends_rental="always")]), nature=NATURES)
    def begin(self, policy: Policy, nature: Nature) -> None:
        self.nature = nature
        self.kit = Kit(policy)
        self.kit.ready(booking(end_s=UNTIL_S), booking(BOB, 2000, UNTIL_S))
        self.latched, self.door_open, self.speed = True, False, 0.0
        self.history = [(0.0, True, False)]
        self.sample = self.history[0]
        self.lock_pulse_s = 0.0
        self.pulses: list[tuple[Actuate, float]] = []
        self.written: list[Recordable] = list(self.kit.records)
        self.odometer = 1000
        self.commands = 0
        give = self.kit.give

        def held(event: Event, after_s: float = 0.0) -> tuple[Command, ...]:
            before = self.kit.state
            commands = give(event, after_s)
            self._obey(before, event, commands)
            return commands

        self.kit.give = held  # type: ignore[method-assign]  # every step is held against the rules, whoever gives it

    def tell(self, event: Event) -> None:
        """Give an event."""
        self.kit.give(event)

    def _obey(self, before: State, event: Event, commands: tuple[Command, ...]) -> None:
        records = commands[0].records if commands and isinstance(commands[0], Record) else ()
        self.written.extend(records)
        pending = before.doors.actuation
        for command in commands:
            if not isinstance(command, Actuate):
                continue
            speed = self.kit.state.vehicle.readings.get(Signal.SPEED)  # what this very step knew
            assert speed is None or not speed.fresh(self.kit.t) or speed.value == 0.0, "moved while the car moves"
            if command.action is Action.UNLOCK:
                retry = pending is not None and pending.action is Action.UNLOCK
                granted = any(isinstance(r, TripStarted | DoorReopened) for r in records)
                assert granted or retry, "a door opens without a committed grant"
                for record in records:
                    if isinstance(record, TripStarted):
                        assert record.driver == _asker(event), "somebody got in on another's booking"
                    elif isinstance(record, DoorReopened):
                        rental = before.kept.rental
                        assert rental is not None
                        assert rental.booking.driver == _asker(event), "somebody got into another's trip"
            else:
                self.lock_pulse_s = float("inf")
            self.pulses.append((command, self.kit.t))
        for record in records:
            if isinstance(record, TripEnded) and record.reason is TripEndReason.LOCKED:
                sampled_s, latched, door_open = self.sample
                assert latched, "a trip ended on an open car"
                assert not door_open, "a trip ended with a door open"
                assert sampled_s > self.lock_pulse_s, "a trip ended on a report from before its lock"

    @rule(who=WHO, intent=st.sampled_from([Intent.TAP, Intent.TAP, Intent.UNLOCK, Intent.LOCK, Intent.FINISH]))
    def somebody_wants_something(self, who: bytes, intent: Intent) -> None:
        self.kit.t += 0.5
        if intent is Intent.TAP:
            self.tell(card(who))
        else:
            self.commands += 1
            self.tell(phone(who, intent, self.commands.to_bytes(16, "big")))

    @precondition(lambda self: self.kit.state.kept.rental is None or self.kit.state.kept.rental.trip is None)
    @rule()
    def the_driver_gets_in(self) -> None:
        """The ordinary case, so that stories get somewhere: with a booking of their own if the last is over."""
        self.kit.t += 25.0
        if booking().id in self.kit.state.kept.ended:
            again = len(self.kit.state.kept.ended).to_bytes(16, "big")
            version = self.kit.state.kept.grants.version_floor + 1
            self.tell(ListReceived(listing(booking(end_s=UNTIL_S, id=again), version=version)))
        self.kit.clock()
        self.tell(card(ALICE))
        self._work()

    @precondition(lambda self: self.kit.state.kept.rental is not None and self.kit.state.kept.rental.trip is not None)
    @rule(data=st.data(), then=st.sampled_from(["the pulse is seen", "it is seen after", "power cut", "a door opens"]))
    def the_driver_locks(self, data: st.DataObject, then: str) -> None:
        """And something may come between the pulse and the report that counts."""
        self.speed, self.door_open = 0.0, False
        self.kit.t += 1.0
        self._bus()
        self.the_contacts_report(blind=False)
        self.tell(card(ALICE))
        if not self.pulses:
            return
        self._go_out(data.draw(st.sampled_from(self.nature.fates)))
        if then == "the pulse is seen":
            self._report_of(self.history[-2])
        elif then == "power cut":
            self.the_power_is_cut(clock=False)
        elif then == "a door opens":
            self.door_open = True
        if then != "the pulse is seen":
            self.the_contacts_report(blind=False)
        if then == "power cut":
            rental = self.kit.state.kept.rental
            trip = rental.trip if rental is not None else None
            assert trip is None or trip.end is None, "the first report after a cut settles the end that was asked"

    @precondition(lambda self: self.speed > 0.0)
    @rule(intent=st.sampled_from([Intent.LOCK, Intent.UNLOCK, Intent.FINISH]))
    def the_driver_plays_with_the_phone_while_driving(self, intent: Intent) -> None:
        self._bus()
        self.the_contacts_report(blind=False)
        self.commands += 1
        self.tell(phone(ALICE, intent, self.commands.to_bytes(16, "big")))

    def _work(self) -> None:
        while self.pulses:
            self._go_out("works")
        self.the_contacts_report(blind=False)

    @rule()
    def the_button_is_pressed(self) -> None:
        self.tell(LockButtonPressed())

    @precondition(lambda self: self.pulses)
    @rule(data=st.data())
    def a_pulse_goes_out(self, data: st.DataObject) -> None:
        self._go_out(data.draw(st.sampled_from(self.nature.fates)))

    def _go_out(self, fate: str) -> None:
        """Have the latch do what it does in the 0.3 s of a pulse, and the box hear of its end."""
        command, _ = self.pulses.pop(0)
        before, asked = self.latched, command.action is Action.LOCK
        self.kit.t += 0.15
        if fate in ("works", "bounces"):
            self.latched = asked
        self._note()
        self.kit.t += 0.15
        if fate == "bounces":
            self.latched = before
        if asked:
            self.lock_pulse_s = self.kit.t
        self._note()
        outcome = ActuationOutcome.FAILED if fate == "fails" else ActuationOutcome.DONE
        if fate != "unheard":
            self.tell(ActuationSettled(command.actuation, outcome, "", self.kit.t))

    def _note(self) -> None:
        self.history.append((self.kit.t, self.latched, self.door_open))

    @rule(blind=st.sampled_from([False, False, False, True]))
    def the_contacts_report(self, blind: bool) -> None:
        self.kit.t += 0.2
        self._note()
        self.sample = self.history[-1]
        self.tell(DoorReported(None if blind else self.latched, self.door_open, False, self.kit.t))

    @precondition(lambda self: len(self.history) > 1)
    @rule(pick=st.integers(0, 5))
    def a_late_report_comes(self, pick: int) -> None:
        """True when it was taken, and taken some time ago."""
        self.kit.t += 0.1
        report = self.kit.state.doors.report
        newest_s = report.sampled_s if report is not None else 0.0
        waiting = [sample for sample in self.history if sample[0] >= newest_s] or [self.history[-1]]
        self._report_of(waiting[pick % len(waiting)])

    def _report_of(self, moment: tuple[float, bool, bool]) -> None:
        self.sample = moment
        self.tell(DoorReported(moment[1], moment[2], False, moment[0]))

    @rule()
    def somebody_uses_the_mechanical_key(self) -> None:
        self.kit.t += 0.2
        self.latched = not self.latched
        self._note()

    @precondition(lambda self: not self.latched and self.speed == 0.0)
    @rule()
    def the_door_is_moved(self) -> None:
        self.kit.t += 0.2
        self.door_open = not self.door_open
        self._note()

    @rule(seconds=st.sampled_from([0.1, 1.0, 5.0, 25.0, 700.0, 2500.0]))
    def time_passes(self, seconds: float) -> None:
        end_s = min(self.kit.t + seconds, UNTIL_S - 100.0)
        for _ in range(2000):
            due_s = machine.next_deadline(self.kit.state)
            if due_s is None or due_s > end_s:
                break
            self.kit.t = max(self.kit.t, due_s)
            self.tell(DeadlineReached())
        else:
            raise AssertionError("a deadline is never cleared")
        self.kit.t = max(self.kit.t, end_s)

    @precondition(lambda self: not self.latched and not self.door_open)
    @rule(seconds=st.integers(1, 60), stops=st.booleans())
    def the_car_is_driven(self, seconds: int, stops: bool) -> None:
        for _ in range(seconds):
            self.kit.t += 1.0
            self.odometer += 10
            self.speed = 10.0
            self._bus()
        if stops:
            self.speed = 0.0
            self.kit.t += 1.0
            self._bus()

    @precondition(lambda self: self.speed > 0.0)
    @rule()
    def the_car_stops(self) -> None:
        self.speed = 0.0
        self.kit.t += 1.0
        self._bus()

    @rule()
    def the_bus_is_heard(self) -> None:
        self._bus()

    @rule(bus=st.sampled_from([BusState.ASLEEP, BusState.FAULT]))
    def the_bus_goes(self, bus: BusState) -> None:
        self.tell(BusReported(bus, self.kit.t))

    def _bus(self) -> None:
        self.kit.drive(self.speed, odometer_m=self.odometer)

    @precondition(lambda self: self.nature.cuts)
    @rule(clock=st.booleans())
    def the_power_is_cut(self, clock: bool) -> None:
        """Everything in memory is gone; a pulse under way may or may not have reached the latch."""
        self.pulses.clear()
        self.lock_pulse_s = self.kit.t
        self.kit.boot(self.kit.t + 20.0)
        self.history.clear()
        self._note()
        if clock:
            self.kit.clock()

    @rule(version=st.integers(1, 6), mine=st.booleans())
    def a_list_comes(self, version: int, mine: bool) -> None:
        kept = (booking(end_s=UNTIL_S),) if mine else ()
        self.tell(ListReceived(listing(*kept, booking(BOB, 2000, UNTIL_S), version=version)))

    @rule()
    def the_clock_is_heard(self) -> None:
        self.kit.clock()

    @invariant()
    def every_trip_is_written_once_and_in_order(self) -> None:
        open_trip = open_rental = None
        seen: set[int] = set()
        for record in getattr(self, "written", ()):
            match record:
                case TripStarted():
                    assert open_trip is None, "a trip began in a trip"
                    assert record.trip not in seen, "a trip was doubled"
                    assert open_rental in (None, record.rental), "two rentals at once"
                    open_trip, open_rental = record.trip, record.rental
                    seen.add(record.trip)
                case TripEnded():
                    assert record.trip == open_trip, "a trip ended that did not run"
                    open_trip = None
                case RentalEnded():
                    assert open_trip is None, "a rental ended in a trip"
                    assert record.rental == open_rental, "a rental ended that did not run"
                    open_rental = None
                case EndRequested():
                    assert record.trip == open_trip
                case _:
                    pass
        rental = self.kit.state.kept.rental if hasattr(self, "kit") else None
        assert (rental.number if rental else None) == open_rental, "a rental was lost"
        assert (rental.trip.number if rental and rental.trip else None) == open_trip, "a trip was lost"

    def teardown(self) -> None:
        """From here on everything works: the end that was accepted ends, and a running trip's driver can lock."""
        if not hasattr(self, "kit"):
            return
        self._calm()
        rental = self.kit.state.kept.rental
        if rental is not None and rental.trip is not None:
            assert rental.trip.end is None, "an accepted end never ended"
            self.tell(phone(rental.booking.driver, Intent.LOCK, b"last" * 4))
            assert self.kit.word in ("locking", "shut_the_door"), f"locked out of the end: {self.kit.word}"
            self._calm()
            after = self.kit.state.kept.rental
            assert after is None or after.trip is None, "the driver could not end the trip"
        self.every_trip_is_written_once_and_in_order()

    def _calm(self) -> None:
        """Give the world half a minute in which doors shut, pulses work and reports are true."""
        self.door_open, self.speed = False, 0.0
        for _ in range(60):
            while self.pulses:
                command, _ = self.pulses.pop(0)
                self.kit.t += 0.3
                self.latched = command.action is Action.LOCK
                self.lock_pulse_s = min(self.lock_pulse_s, self.kit.t)
                self.tell(ActuationSettled(command.actuation, ActuationOutcome.DONE, "", self.kit.t))
            self.kit.t += 0.5
            self._bus()
            self.sample = (self.kit.t, self.latched, False)
            self.tell(DoorReported(self.latched, False, False, self.kit.t))
            self.tell(DeadlineReached())


World.TestCase.settings = settings(
    max_examples=int(os.environ.get("AMIBOX_EXAMPLES", "150")),
    stateful_step_count=40,
    deadline=None,
    suppress_health_check=[HealthCheck.too_slow, HealthCheck.filter_too_much],
)
TestWorld = World.TestCase
