"""The rules of a simulated town, written without the core: what must never be, and what must come in the end.

Safety: no door opens without a right; nobody is locked out of their own running trip; nothing moves while the car
moves; no trip is lost, doubled, merged or split, or billed for time after its lock. Liveness: every end that was
accepted ends; every trip reaches the commune once there is contact for ten minutes.
"""

from __future__ import annotations

from dataclasses import dataclass, field, fields
from typing import TYPE_CHECKING, Final

from sqlalchemy import select

from cloud_sync.endpoint import tables
from onboard.core.commands import Action
from onboard.core.events import (
    AccessRequested,
    CardCredential,
    ConsoleCredential,
    Credential,
    Event,
    PhoneCredential,
    RemoteCredential,
)
from onboard.core.records import (
    DoorReopened,
    EndRequested,
    Recordable,
    RentalEnded,
    RentalKind,
    StoreReplaced,
    TripEnded,
    TripEndReason,
    TripStarted,
)
from onboard.core.state import Kept, State
from sim.world.loop import now_s
from sim.world.tale import Broken
from sim.world.town import Booking

if TYPE_CHECKING:
    from sim.world.car import Car
    from sim.world.play import World

CLOCK_S: Final = 30.0
"""How wrong a box's proven clock may be: a message's way, the drift of a boot, the edges of seconds."""
PASSING: Final = frozenset({"moving", "busy", "door_unknown", "not_moved", "not_confirmed", "command_replayed"})
"""Refusals of a running trip's driver that pass by themselves."""
SETTLES_S: Final = 45.0
"""An end that was asked for is over this long after everything allows it."""
LATE_S: Final = 16.0
"""A report says what was true so long ago at most (``sim.world.car``)."""
CLOCKS_S: Final = 90.0
"""Across a power cut a bill is as exact as the clocks at both ends: a time proof may have been under way so long."""
LINE_MAX: Final = 150
BILLED_S: Final = 20.0
"""Of a bill, what a late report and the edges of seconds may add."""


@dataclass(slots=True)
class Ledger:
    """What one car's box has on its disk, and what was true then."""

    running: TripStarted | None = None
    rental: TripStarted | None = None
    opened_s: float = 0.0
    """When the rental's first door was granted."""
    off_s: float = 0.0
    trips: dict[int, TripStarted] = field(default_factory=dict)
    ended: dict[int, TripEnded] = field(default_factory=dict)
    rentals: dict[int, RentalEnded] = field(default_factory=dict)
    asked_s: float = 0.0
    """When a lock was asked for last."""
    last_end_s: float = float("-inf")
    last_end_person: str = ""
    granted: str = ""
    """By which record the door may open now."""
    lock_pulse: tuple[float, bool] = (0.0, True)
    """When the last lock pulse was given, and whether the car was locked then."""
    ending_since_s: float | None = None
    list_version: int = 0


class Checks:
    """Holds everything that happens against the rules; ``Broken`` where one does not hold."""

    def __init__(self, world: World) -> None:
        self._world = world
        self._ledgers: dict[str, Ledger] = {}
        self._void: set[bytes] = set()
        """Bookings that the commune does not remember any more."""
        self._forgotten = False

    def ledger(self, car: Car) -> Ledger:
        """Return a car's."""
        return self._ledgers.setdefault(car.name, Ledger())

    def restored(self, noted: set[bytes]) -> None:
        """The commune's database is an older copy: bookings made since are gone, and so is what was taken back."""
        self._forgotten = True
        truth = self._world.town.truth
        self._void |= {each for each in truth.bookings if each not in noted}
        for booking in truth.bookings.values():
            booking.cancelled_by = None
        truth.revoked.clear()

    # Safety

    def committed(self, car: Car, kept: Kept, records: tuple[Recordable, ...]) -> None:
        """Hear what a box has just made durable."""
        ledger = self.ledger(car)
        for record in records:
            self._world.tale.tell(car.name, f"writes {_shown(record)}")
            match record:
                case TripStarted():
                    self._started(car, ledger, record)
                case DoorReopened():
                    self._reopened(car, ledger, record)
                case EndRequested():
                    ledger.asked_s = now_s()
                case TripEnded():
                    self._ended(car, ledger, record)
                case RentalEnded():
                    self._rental_ended(car, ledger, record)
                case StoreReplaced():
                    self._broken(car, "a power cut damaged the database")
                case _:
                    pass
        if kept.grants.version_floor < ledger.list_version:
            self._broken(car, f"it takes list {kept.grants.version_floor} after list {ledger.list_version}")
        ledger.list_version = kept.grants.version_floor
        running = ledger.running.trip if ledger.running is not None else None
        held = kept.rental.trip.number if kept.rental is not None and kept.rental.trip is not None else None
        if running != held:
            self._broken(car, f"its state says trip {held} runs, its records say {running}")

    def _started(self, car: Car, ledger: Ledger, record: TripStarted) -> None:
        if ledger.running is not None or record.trip in ledger.trips:
            self._broken(car, f"trip {record.trip} begins in or after another of that number")
        asker = self._asker(car.handled)
        if asker is None:
            self._broken(car, f"trip {record.trip} begins and nobody asked")
        booking = self._world.town.truth.bookings.get(record.reservation)
        if booking is None or booking.car != car.name:
            self._broken(car, "the door opens on a booking that nobody made here")
        elif booking.person != asker:
            self._broken(car, f"{asker} gets in on {booking.person}'s booking")
        else:
            self._may_begin(car, ledger, record, booking)
        ledger.trips[record.trip] = ledger.running = record
        if ledger.rental is None or ledger.rental.rental != record.rental:
            if ledger.rental is not None:
                self._broken(car, f"rental {record.rental} begins in rental {ledger.rental.rental}")
            ledger.rental, ledger.opened_s = record, now_s()
        ledger.granted = f"trip {record.trip}"
        self._world.tale.counts["trips"] += 1

    def _may_begin(self, car: Car, ledger: Ledger, record: TripStarted, booking: Booking) -> None:
        if ledger.rental is not None:
            if ledger.rental.reservation != booking.id:
                self._broken(car, f"{booking.person} drives on {self._name(ledger.rental)}'s rental")
            return
        if record.kind is RentalKind.REOPEN:
            policy = car.state.policy if car.state is not None else None
            within_s = policy.reopen_window_s if policy is not None else 600.0
            if booking.person != ledger.last_end_person or now_s() - ledger.last_end_s > within_s + CLOCK_S:
                self._broken(car, "it is opened once more by somebody else, or too late")
            return
        version = self._box_version(car)
        if booking.cancelled_by is not None and version >= booking.cancelled_by:
            self._broken(car, f"a booking opens it that its list {version} says is cancelled")
        revoked = self._world.town.truth.revoked.get(car.name, {}).get(booking.person)
        phone = isinstance(car.handled, AccessRequested) and isinstance(car.handled.credential, PhoneCredential)
        if phone and revoked is not None and version >= revoked:
            self._broken(car, "a stolen phone opens it though its list takes that back")
        if car.date_off_s or not record.proven:
            return  # whoever lies about the date may let somebody in at another time, with a booking of their own
        wall_s = self._world.wall_s()
        ends = max(end_s for _, end_s in booking.ends)
        if not booking.start_s - 600.0 - CLOCK_S <= wall_s <= ends + CLOCK_S:
            self._broken(car, f"{booking.person} gets in {wall_s - booking.start_s:.0f} s after the booking's start")

    def _reopened(self, car: Car, ledger: Ledger, record: DoorReopened) -> None:
        if ledger.running is None or ledger.running.trip != record.trip:
            self._broken(car, "a door is opened again in a trip that does not run")
        elif self._asker(car.handled) != self._name(ledger.running):
            self._broken(car, f"{self._asker(car.handled)} opens {self._name(ledger.running)}'s trip")
        ledger.granted = f"trip {record.trip}"

    def actuated(self, car: Car, action: Action) -> None:
        """A pulse is given."""
        if car.speed_mps > 0 and car.bus_gone is False and not self._world.rates.signals_lost:
            self._broken(car, f"{action.value} is pulsed at {car.speed_mps} m/s")
        if action is Action.LOCK:
            self.ledger(car).lock_pulse = (now_s(), car.locked)
        else:
            if self.ledger(car).running is None:
                self._broken(car, "a door opens and no trip runs")
            self._world.tale.counts["unlocks"] += 1

    def switched_off(self, car: Car, state: State) -> None:
        """The box may end itself for want of 12 V, but never in a rental: nobody is locked out of his running trip."""
        self._world.tale.counts["switched off"] += 1
        if state.kept.rental is not None or self.ledger(car).running is not None:
            self._broken(car, "the box switched itself off in a rental")

    def answered(self, car: Car, event: AccessRequested, status: str, reason: str) -> None:
        """The running trip's driver got an answer: yes, or something that passes."""
        running = self.ledger(car).running
        if running is None or status != "denied" or reason in PASSING:
            return
        booking = self._world.town.truth.bookings.get(running.reservation)
        if booking is None or self._asker(event) != booking.person:
            return
        if isinstance(event.credential, PhoneCredential) and reason in ("revoked", "unknown"):
            revoked = self._world.town.truth.revoked.get(car.name, {}).get(booking.person)
            if revoked is not None or self._forgotten:
                return
        if running.kind is RentalKind.BOOKING and self._is_its_own(event, booking):
            self._broken(car, f"{booking.person} is locked out of the running trip: {reason}")

    def _is_its_own(self, event: AccessRequested, booking: Booking) -> bool:
        """Tell whether this is the credential that the booking names: its card, or its phone."""
        return isinstance(event.credential, CardCredential) == booking.by_card

    def walked_home(self, car: Car, booking: Booking) -> None:
        """A driver could not open the own rental again: only a broken latch, or no power, may be why."""
        rates = self._world.rates
        if not (rates.latch_sticks or rates.latch_bounces or rates.pulse_fails or car.box is None or rates.cut_every_h):
            ended = booking.id not in {each.reservation for each in (self.ledger(car).rental,) if each is not None}
            if not ended:
                self._broken(car, f"{booking.person} can't open the own rental again")
        self._world.tale.counts["walked home"] += 1

    def _ended(self, car: Car, ledger: Ledger, record: TripEnded) -> None:
        if ledger.running is None or ledger.running.trip != record.trip:
            self._broken(car, f"trip {record.trip} ends, which does not run")
        if record.reason is TripEndReason.LOCKED and car.lies is None and now_s() - car.told_truth_since_s > LATE_S:
            pulse_s, locked_then = ledger.lock_pulse
            if not (car.locked or locked_then or car.locked_at_s >= pulse_s):
                self._broken(car, f"trip {record.trip} ends locked, and the car stands open")
        ledger.ended[record.trip] = record
        ledger.running = None
        ledger.ending_since_s = None

    def _rental_ended(self, car: Car, ledger: Ledger, record: RentalEnded) -> None:
        rental = ledger.rental
        if rental is None or rental.rental != record.rental or ledger.running is not None:
            self._broken(car, f"rental {record.rental} ends, which does not run or drives")
            return
        mine = [each for each in ledger.trips.values() if each.rental == record.rental]
        if record.trips != len(mine) or record.reservation != rental.reservation or record.rental in ledger.rentals:
            self._broken(car, f"rental {record.rental} says {record.trips} trips, it had {len(mine)}")
        locked_s = max(car.locked_at_s, car.used_at_s, ledger.opened_s, ledger.asked_s) if car.locked else now_s()
        lied = car.lies is not None or now_s() - car.told_truth_since_s < now_s() - car.locked_at_s
        if record.kind is not RentalKind.REOPEN and not lied and not car.date_off_s:
            most_s = locked_s - ledger.opened_s + BILLED_S + CLOCKS_S * (record.billable_basis == "wall")
            if record.billable_s > most_s * 1.001:
                self._broken(car, f"rental {record.rental} is billed {record.billable_s} s, it lasted {most_s:.0f} s")
        ledger.rentals[record.rental] = record
        ledger.rental = None
        ledger.last_end_s, ledger.last_end_person = now_s(), self._name(rental)

    # Liveness

    def minute(self, car: Car) -> None:
        """Look, now and then, whether an end that was accepted has come."""
        state, ledger = car.state, self.ledger(car)
        trip = state.kept.rental.trip if state is not None and state.kept.rental is not None else None
        free = (
            trip is not None
            and trip.end is not None
            and car.locked
            and not car.door_open
            and car.speed_mps == 0
            and car.lies is None
            and not car.bus_gone
            and car.powered_since_s is not None
        )
        if not free:
            ledger.ending_since_s = None
            return
        begins = max(car.moved_at_s, car.powered_since_s or 0.0, car.told_truth_since_s)
        ledger.ending_since_s = max(ledger.ending_since_s or 0.0, begins, ledger.ending_since_s or now_s())
        if now_s() - ledger.ending_since_s > SETTLES_S + 60.0:
            self._broken(car, "an end that was accepted does not end, though the car stands locked")

    def end(self) -> None:
        """After ten minutes of contact: the commune has every trip and rental, once and as it was written."""
        for car in self._world.cars:
            state = car.state
            if state is None:
                self._broken(car, "the box has no power in a world that is healed")
            elif unsent := self.unsent(car):
                self._broken(car, f"{unsent} records have not reached the commune after ten minutes of contact")
            self._same(car, self.ledger(car))

    def unsent(self, car: Car) -> int:
        """Return how many records of a car are not known to be at the commune."""
        state = car.state
        return state.kept.outbox.last_seq - state.sending.acked_seq if state is not None else 0

    def _same(self, car: Car, ledger: Ledger) -> None:
        trips, rentals = tables.trips, tables.rentals
        with self._world.town.store.read() as db:
            found = {row.trip: row for row in db.execute(select(trips).where(trips.c.vehicle == car.name))}
            closed = {row.rental: row for row in db.execute(select(rentals).where(rentals.c.vehicle == car.name))}
        if set(found) != set(ledger.trips):
            self._broken(car, f"the commune knows trips {sorted(found)}, the box wrote {sorted(ledger.trips)}")
        for number, ended in ledger.ended.items():
            row = found[number]
            if (row.duration_s, row.distance_m, row.reason) != (
                ended.duration_s,
                ended.distance_m,
                ended.reason.value,
            ):
                self._broken(car, f"trip {number} is another one at the commune")
        for number, over in ledger.rentals.items():
            known = closed.get(number)
            if known is None or (known.billable_s, known.trips) != (over.billable_s, over.trips):
                self._broken(car, f"rental {number} is another one at the commune")
        if any(row.ended_s is not None and row.trip not in ledger.ended for row in found.values()):
            self._broken(car, "the commune knows an end that the box never wrote")

    def _box_version(self, car: Car) -> int:
        state = car.state
        return state.kept.grants.version_floor if state is not None else 0

    def _asker(self, event: Event | None) -> str | None:
        if not isinstance(event, AccessRequested):
            return None
        return self._person(event.credential)

    def _person(self, credential: Credential) -> str | None:
        match credential:
            case CardCredential(ref=ref):
                return next((each.name for each in self._world.people.everybody if each.card == ref), None)
            case PhoneCredential(key=key):
                return next((each.name for each in self._world.people.everybody if each.key.public == key), None)
            case RemoteCredential() | ConsoleCredential():
                return None

    def _name(self, started: TripStarted) -> str:
        booking = self._world.town.truth.bookings.get(started.reservation)
        return booking.person if booking is not None else "nobody"

    def _broken(self, car: Car, what: str) -> None:
        self._world.tale.tell(car.name, f"BROKEN: {what}")
        raise Broken(f"{car.name}: {what}")


def _shown(record: Recordable) -> str:
    """Return a record in words: what it is, and what stands in it, short enough for a line."""
    said = []
    for each in fields(record):
        value = getattr(record, each.name)
        if value in (None, "", (), 0):
            continue
        if isinstance(value, bytes):
            value = value.hex()[:8]
        said.append(f"{each.name} {value}")
    return f"{type(record).__name__}: {', '.join(said)}"[:LINE_MAX]
