"""The state machine of the box: one event in, the new state and the commands out.

The rules, in prose
-------------------
1.  A car is *available*, *on_trip*, *stopped* (locked in mid-rental) or *non_operational*; *reserved* is an available
    car within somebody's window. The words are those of MDS 2.0. Every change is a record that stands in
    ``TRANSITIONS``; a record that does not fit the phase is a programming error and stops the box.
2.  No door opens without a grant of ``access.decide`` that is committed first: ``TripStarted`` for a trip,
    ``DoorReopened`` for the running trip's own driver.
3.  A tap means what the state says: outside a rental it asks to start one; by the driver of the running trip it locks,
    or opens again a door that locked by itself; by the driver of a stopped rental it opens, but within ``finish_tap_s``
    of the lock it ends the rental. Somebody else's tap at a running rental is refused and written down. After
    ``LOCKS_IN_DOUBT`` locks that no contact confirmed the driver's next tap opens: the car may be locked after all.
4.  A trip ends when a door report sampled after the lock pulse says locked with the doors shut; ``doors`` has the
    details. What else ends with it is in ``rental``.
5.  Nothing moves while the car moves. A running trip's driver can always lock: neither clock, network, list,
    revocation nor maintenance is asked.
6.  The same phone or remote command gives the same answer again and never moves the relay twice.
7.  Deadlines are part of the state: ``next_deadline`` names the earliest, and every step serves those that are due
    after its event: a report that confirms a pulse at the last moment saves a second pulse.
8.  Staff or the commune may have the number of a card taken that is nobody's here (``CAPTURE``): the next such card
    within two minutes. Nothing opens by it.
9.  A technician at the console is staff like any other: a door test is a visit of theirs, written down, and never while
    the car moves or somebody rents it. A card that the console waits for opens nothing; the running trip's driver's
    does what it always does.

An effect's result is a new event. If a commit fails, the state before the step holds and nothing of it is done.
"""

from __future__ import annotations

from dataclasses import replace
from enum import StrEnum
from typing import Final, assert_never

from onboard.core import access, doors, power, rental, request, results, service, sync, watch
from onboard.core.clock import ClockQuality, Instant
from onboard.core.commands import Command, Pattern, Record
from onboard.core.draft import HOUR_S, Draft
from onboard.core.events import (
    AccessRequested,
    AckReceived,
    ActuationSettled,
    BusReported,
    CardsRefused,
    CardWanted,
    ChargingReported,
    ConsoleReported,
    DeadlineReached,
    DoorReported,
    Event,
    FaultReported,
    KeySetTaken,
    LinkReported,
    ListReceived,
    LockButtonPressed,
    MaintenanceRequested,
    PhoneRefused,
    PositionReported,
    ResendRequested,
    SignalsReported,
    Started,
    SupplyReported,
    SyncRequested,
    TimeHeard,
)
from onboard.core.records import (
    Booted,
    ConsoleUsed,
    MaintenanceChanged,
    Recordable,
    RentalEnded,
    StoreReplaced,
    TripEnded,
    TripStarted,
)
from onboard.core.state import Outbox, State


class Phase(StrEnum):
    """What the rental is doing. ``vehicle_state`` adds the words for a car without one."""

    AVAILABLE = "available"
    ON_TRIP = "on_trip"
    STOPPED = "stopped"


TRANSITIONS: Final[dict[Phase, dict[type[Recordable], Phase]]] = {
    Phase.AVAILABLE: {TripStarted: Phase.ON_TRIP},
    Phase.ON_TRIP: {TripEnded: Phase.STOPPED},
    Phase.STOPPED: {TripStarted: Phase.ON_TRIP, RentalEnded: Phase.AVAILABLE},
}
"""A trip that ends with its rental passes through *stopped* within one step: ``TripEnded``, then ``RentalEnded``."""

_MOVING_RECORDS: Final = (TripStarted, TripEnded, RentalEnded)


class RuleBrokenError(Exception):
    """A step contradicted the table: a programming error. The process stops and starts again from the store."""


def phase(state: State) -> Phase:
    """Return the phase that a state is in."""
    if state.kept.rental is None:
        return Phase.AVAILABLE
    return Phase.STOPPED if state.kept.rental.trip is None else Phase.ON_TRIP


def vehicle_state(state: State) -> str:
    """Return the MDS vehicle state: ``available reserved stopped on_trip non_operational``."""
    now_in = phase(state)
    if now_in is not Phase.AVAILABLE:
        return now_in.value
    if state.kept.maintenance:
        return "non_operational"
    time = access.belief(state, state.at)
    windows = (c for c in access.candidates(state) if c.booking.id not in state.kept.ended)
    if any(c.booking.start_s <= time.best_s <= c.last_s for c in windows):
        return "reserved"
    return now_in.value


def step(state: State, event: Event, now: Instant) -> tuple[State, tuple[Command, ...]]:
    """Return what the state becomes and what is to be done, in order; ``Record`` always first.

    Pure: the same arguments give the same result. Raises ``RuleBrokenError`` for a programming error only.
    """
    d = Draft(state, now)
    _handle(d, event)
    _serve_deadlines(d)
    after, commands = d.finish()
    _check(state, after, commands)
    return after, commands


def _handle(d: Draft, event: Event) -> None:  # noqa: C901, PLR0912, PLR0915 - a router: a branch an event
    """Route one event to the room that knows it."""
    match event:
        case Started():
            _start(d, event)
        case AccessRequested():
            request.on_access(d, event)
        case KeySetTaken():
            d.keep(grants=replace(d.kept.grants, passes=()))  # who has a good one shows it again
        case CardsRefused():
            service.on_cards_refused(d, event)
            request.on_cards_refused(d, event)
        case PhoneRefused():
            request.on_phone_refused(d, event)
        case LockButtonPressed():
            request.on_button(d)
        case DoorReported():
            doors.on_report(d, event)
        case ActuationSettled():
            results.on_settled(d, event)
            doors.on_settled(d, event)
        case SignalsReported():
            watch.on_signals(d, event)
        case BusReported():
            watch.on_bus(d, event)
        case ChargingReported():
            watch.on_charging(d, event)
        case PositionReported():
            watch.on_position(d, event)
        case TimeHeard():
            watch.on_time(d, event)
            if event.heard.quality is ClockQuality.AUTHENTICATED:
                sync.on_heard(d)
        case ListReceived():
            request.on_list(d, event)
        case AckReceived():
            sync.on_ack(d, event)
        case ResendRequested():
            sync.on_resend(d, event)
        case LinkReported():
            sync.on_link(d, event)
        case SupplyReported():
            power.on_supply(d, event)
        case FaultReported():
            d.fault(event.part, event.detail, active=event.active)
            if event.active and event.part in ("store", "door"):
                d.show(Pattern.OUT_OF_ORDER)
        case MaintenanceRequested():
            if event.on != d.kept.maintenance:
                d.keep(maintenance=event.on)
                d.record(MaintenanceChanged(event.on, event.by))
                d.tell_status()
        case ConsoleReported():
            d.record(ConsoleUsed(event.action, event.by, event.detail))
        case CardWanted():
            d.set(card_wanted=event)
        case SyncRequested():
            sync.on_asked(d)
        case DeadlineReached():
            pass
        case _:
            assert_never(event)


def _start(d: Draft, event: Started) -> None:
    """Begin this boot: what the store held is the truth, everything else is learned anew."""
    running = d.kept.rental
    trip = running.trip if running is not None else None
    d.set(boot_epoch=event.boot_epoch, software=event.software, began_s=d.boot_s)
    d.doors(touched_s=d.boot_s)
    results.on_started(d)
    d.sending(acked_seq=d.kept.outbox.acked_seq, sent_seq=d.kept.outbox.acked_seq)
    d.sending(heard_at_s=d.boot_s, waiting_since_s=d.boot_s)
    d.vehicle(bus_since_s=d.boot_s)
    power.on_started(d)
    if trip is not None and running is not None:
        track_at_s = d.boot_s + d.policy.track_every_s if running.booking.trace else None
        # What was driven since the last save and while the box was off is missing from the speed's integral.
        meter = replace(trip.meter, speed_gaps=trip.meter.speed_gaps + 1) if trip.meter.speed_seen else trip.meter
        d.set(meter=meter, progress_at_s=d.boot_s + d.policy.progress_every_s, track_at_s=track_at_s)
    if event.replaced_store is not None:
        d.record(StoreReplaced(event.replaced_store, event.replaced_reason))
    d.record(Booted(event.software, trip.number if trip is not None else 0))


def next_deadline(state: State) -> float | None:
    """Return the earliest boot time at which something is due though nothing happens; None if nothing is."""
    times = (
        doors.confirm_by_s(state),
        state.doors.armed_until_s,
        doors.left_open_at_s(state),
        watch.wall_deadline_s(state),
        state.plug_in_by_s,
        state.progress_at_s,
        state.track_at_s,
        power.due_s(state),
        sync.due_s(state),
    )
    return min((t for t in times if t is not None), default=None)


def _serve_deadlines(d: Draft) -> None:
    """Do what is due; each clears or moves its own deadline."""

    def due(at_s: float | None) -> bool:
        return at_s is not None and d.boot_s >= at_s

    doors.on_unconfirmed(d)
    if due(d.state.doors.armed_until_s):
        d.doors(armed_until_s=None, armed_needs_opening=False)
        results.on_disarmed(d)
        d.show(Pattern.TRY_AGAIN)
    if due(doors.left_open_at_s(d.state)):
        doors.on_left_open(d)
    watch.on_wall(d)
    if due(d.state.plug_in_by_s):
        watch.on_plug_in_due(d)
    rental.save_progress(d)
    if due(d.state.track_at_s):
        rental.flush_track(d)
    power.on_due(d)
    power.switch_loads(d)
    if d.boot_s - d.state.purged_s >= HOUR_S:
        # Whatever happens next will do: nobody waits for it.
        d.set(purged_s=d.boot_s)
        results.forget_old(d)
        request.forget_old_passes(d)
    if due(sync.due_s(d.state)):
        sync.on_due(d)


def _check(before: State, after: State, commands: tuple[Command, ...]) -> None:
    """Hold the step against the table."""
    now_in = phase(before)
    for command in commands:
        for record in command.records if isinstance(command, Record) else ():
            if isinstance(record, _MOVING_RECORDS):
                allowed = TRANSITIONS[now_in]
                if type(record) not in allowed:
                    raise RuleBrokenError(f"{type(record).__name__} while {now_in.value}")
                now_in = allowed[type(record)]
    if now_in is not phase(after):
        raise RuleBrokenError(f"records lead to {now_in.value}, the state says {phase(after).value}")


def committed(state: State, outbox: Outbox) -> State:
    """Return the state with the outbox as the store wrote it: only the store gives numbers."""
    return replace(state, kept=replace(state.kept, outbox=outbox))
