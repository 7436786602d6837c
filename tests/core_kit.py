"""A box's core on a bench: gives it events at stated times, does what a commit would do, and remembers everything."""

from __future__ import annotations

from dataclasses import replace
from typing import Any, TypeVar

from onboard.core import machine
from onboard.core.clock import Anchor, ClockQuality, Instant
from onboard.core.commands import Actuate, Command, Pattern, Record, Reply, Show
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
    PhoneCredential,
    Position,
    PositionReported,
    Reading,
    Signal,
    SignalsReported,
    Started,
    TimeHeard,
)
from onboard.core.grants import Assurance, BookingKind, CardGrant, Reservation, ReservationList, Rights
from onboard.core.policy import Policy, Station
from onboard.core.records import Recordable
from onboard.core.state import Kept, State

R = TypeVar("R")

T0 = 1_800_000_000
"""Unix seconds at boot time 0 of the bench."""
CAR = "ami-1"
BAZOUGES = Station("bazouges", 48.2790, -1.8400, 60.0)
HEDE = Station("hede", 48.2965, -1.8011, 60.0)
ALICE, BOB, STAFF = b"alice---", b"bob-----", b"staff---"
POLICY = Policy(stations=(BAZOUGES, HEDE), uid_cards=True)


def booking(card: bytes = ALICE, start_s: int = 0, end_s: int = 3600, **changes: Any) -> Reservation:
    """Return a one-way booking Bazouges to Hédé from ``start_s`` to ``end_s`` after ``T0``."""
    base = Reservation(
        id=(card * 2)[:16],
        start_s=T0 + start_s,
        end_s=T0 + end_s,
        pickup="bazouges",
        dropoff="hede",
        kind=BookingKind.ONE_WAY,
        driver=card,
        phone_keys=(b"\2" + card * 4,),
        cards=(CardGrant(card, Assurance.UID),),
        rights=Rights.DOOR | Rights.DRIVE,
        trace=False,
    )
    return replace(base, **changes)


def listing(*reservations: Reservation, version: int = 1, **changes: Any) -> ReservationList:
    """Return a list for the car, good for a week."""
    base = ReservationList(CAR, version, T0 - 60, T0 + 7 * 86400, tuple(reservations))
    return replace(base, **changes)


def card(ref: bytes = ALICE, intent: Intent = Intent.TAP, request: int = 1) -> AccessRequested:
    """Return a tap."""
    return AccessRequested(CardCredential(ref, Assurance.UID), intent, request)


def phone(
    ref: bytes = ALICE, intent: Intent = Intent.UNLOCK, command: bytes = b"c" * 16, grant: Any = None
) -> AccessRequested:
    """Return a phone's command."""
    return AccessRequested(PhoneCredential(b"\2" + ref * 4, grant, command), intent, 1)


class Kit:
    """One box. ``t`` is the boot-time clock; the world outside moves only when a test says so."""

    def __init__(self, policy: Policy = POLICY, floor_s: float = T0 - 86400.0, start: bool = True) -> None:
        self.t = 0.0
        self.state = State(kept=Kept(CAR, floor_s), policy=policy)
        self.records: list[Recordable] = []
        self.commands: list[Command] = []
        self.boots = 0
        self.key_in_place: bool | None = None
        """What the contact in the motor key's holder says; None: there is none."""
        if start:
            self.boot()

    def boot(self, at_s: float | None = None) -> None:
        """Start (again) with what was kept. A reboot starts the boot-time clock anew."""
        self.boots += 1
        if self.boots > 1:
            self.t = 0.0 if at_s is None else at_s
        self.state = State(kept=self.state.kept, policy=self.state.policy)
        self.give(Started(bytes([self.boots]) * 8, "test"))

    def ready(self, *reservations: Reservation, **changes: Any) -> Kit:
        """Have a good clock, a list, a locked car standing at Bazouges."""
        self.clock()
        self.give(ListReceived(listing(*(reservations or (booking(),)), **changes)))
        self.drive(0.0, odometer_m=1000)
        self.at(BAZOUGES)
        self.contacts(locked=True)
        return self

    def give(self, event: Event, after_s: float = 0.0) -> tuple[Command, ...]:
        """Let time pass, then give one event. Returns this step's commands."""
        self.t += after_s
        before = self.state
        now = Instant(self.t, 0.0, ClockQuality.UNSET)
        self.state, commands = machine.step(self.state, event, now)
        again, same = machine.step(before, event, now)
        assert (again, same) == (self.state, commands), "a step must be a pure function"
        for index, command in enumerate(commands):
            if isinstance(command, Record):
                assert index == 0, "a commit comes first"
                self.records.extend(command.records)
                outbox = self.state.kept.outbox
                self.state = machine.committed(
                    self.state, replace(outbox, last_seq=outbox.last_seq + len(command.records))
                )
        self.commands.extend(commands)
        return commands

    def wait(self, seconds: float) -> None:
        """Let time pass, serving deadlines as they come."""
        end_s = self.t + seconds
        for _ in range(10_000):
            due_s = machine.next_deadline(self.state)
            if due_s is None or due_s > end_s:
                self.t = end_s
                return
            self.t = max(self.t, due_s)
            self.give(DeadlineReached())
        raise AssertionError("a deadline is never cleared")

    def clock(self, quality: ClockQuality = ClockQuality.GNSS, off_s: float = 0.0) -> None:
        """Hear a time that is right, or off by so much."""
        now_s = T0 + self.t + off_s
        self.give(TimeHeard(Anchor(self.t, now_s, now_s, quality)))

    def drive(self, speed_mps: float, odometer_m: int | None = None, soc_pct: float = 80.0) -> None:
        """Hear the car's bus say this."""
        readings = [
            (Signal.SPEED, Reading(speed_mps, self.t, 3.0)),
            (Signal.SOC, Reading(soc_pct, self.t, float("inf"))),
        ]
        if odometer_m is not None:
            readings.append((Signal.DISTANCE, Reading(odometer_m, self.t, float("inf"))))
        if self.state.vehicle.bus is not BusState.AWAKE:
            self.give(BusReported(BusState.AWAKE, self.t))
        self.give(SignalsReported(tuple(readings), 100))

    def at(self, place: Station) -> None:
        """Hear the receiver say it is there."""
        self.give(PositionReported(Position(place.latitude, place.longitude, 0.0, 3, 1.0, self.t)))

    def contacts(
        self, *, locked: bool | None, driver_open: bool = False, sampled_s: float | None = None
    ) -> tuple[Command, ...]:
        """Hear the contacts."""
        sampled_s = self.t if sampled_s is None else sampled_s
        return self.give(DoorReported(locked, driver_open, False, sampled_s, self.key_in_place))

    def settle(self, *, locked: bool) -> None:
        """Let the pulse under way end well, and hear a report sampled after it."""
        pending = self.state.doors.actuation
        assert pending is not None, "no pulse is under way"
        self.give(ActuationSettled(pending.number, ActuationOutcome.DONE, "", self.t + 0.3), 0.3)
        self.t += 0.2
        self.contacts(locked=locked)

    def begin(self, who: bytes = ALICE) -> None:
        """Start a trip and get in."""
        self.give(card(who))
        self.settle(locked=False)

    def travel(self, metres: int = 1000, to: Station = HEDE) -> None:
        """Drive so far at 10 m/s and stop there."""
        start_m = self.state.vehicle.readings[Signal.DISTANCE].value
        for second in range(metres // 10 + 1):
            self.t += 1.0
            driven_m = min(second * 10, metres)
            self.drive(10.0, odometer_m=int(start_m) + driven_m // 100 * 100)
        self.t += 1.0
        self.drive(0.0, odometer_m=int(start_m) + metres // 100 * 100)
        self.at(to)
        self.contacts(locked=False)

    def end(self, who: bytes = ALICE) -> None:
        """Tap to lock, and have it confirmed."""
        self.drive(0.0)
        self.contacts(locked=False)
        self.give(card(who))
        self.settle(locked=True)

    def all(self, kind: type[R]) -> list[R]:
        """Return everything written of this kind."""
        return [record for record in self.records if isinstance(record, kind)]

    def last(self, kind: type[R]) -> R:
        """Return the newest record of this kind."""
        found = self.all(kind)
        assert found, f"no {kind.__name__} was written"
        return found[-1]

    @property
    def word(self) -> str:
        """The reason of the newest reply."""
        replies = [command for command in self.commands if isinstance(command, Reply)]
        return replies[-1].reason if replies else ""

    @property
    def shown(self) -> Pattern | None:
        """The newest answer of light and sound."""
        answers = [command.pattern for command in self.commands if isinstance(command, Show)]
        return answers[-1] if answers else None

    @property
    def pulses(self) -> list[str]:
        """Every pulse asked for."""
        return [command.action.value for command in self.commands if isinstance(command, Actuate)]
