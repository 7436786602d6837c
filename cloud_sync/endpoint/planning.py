"""Whether a car can be booked: pure rules about bookings, places, charging and sockets. Times are Unix seconds.

A direct trip moves its car: from its end on the car stands at the drop-off, and the next booking begins there.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from enum import StrEnum
from types import MappingProxyType
from typing import Final


class Fault(StrEnum):
    """Why a car can't be booked like that. Each has its words."""

    PAST = "past"
    TOO_LONG = "too_long"
    TOO_FAR_AHEAD = "too_far_ahead"
    OVERLAPS = "overlaps"
    CHARGING = "charging"
    OUT_OF_ORDER = "out_of_order"
    NOT_THERE = "not_there"
    MISSED_AFTER = "missed_after"
    NO_SOCKET = "no_socket"


WORDS: Final = MappingProxyType(
    {
        Fault.PAST: ("Cette heure est passée.", "That time is over."),
        Fault.TOO_LONG: ("La réservation est trop longue.", "The booking is too long."),
        Fault.TOO_FAR_AHEAD: ("C’est trop tôt pour réserver ce jour-là.", "It is too early to book that day."),
        Fault.OVERLAPS: ("La voiture est déjà réservée à cette heure.", "The car is booked at that time already."),
        Fault.CHARGING: ("La voiture sera en charge à cette heure.", "The car will be charging at that time."),
        Fault.OUT_OF_ORDER: ("La voiture est hors service à cette heure.", "The car is out of order at that time."),
        Fault.NOT_THERE: ("La voiture ne sera pas à cette station.", "The car will not be at that station."),
        Fault.MISSED_AFTER: (
            "La réservation suivante ne trouverait plus la voiture à sa station.",
            "The next booking would not find the car at its station.",
        ),
        Fault.NO_SOCKET: ("Aucune prise ne sera libre à l’arrivée.", "No socket will be free at the drop-off."),
    }
)
"""French, English."""


@dataclass(frozen=True, slots=True)
class Terms:
    """The commune's. ``charge_s``: a car rests on its socket so long after a booking before the next one begins."""

    charge_s: int = 1800
    longest_s: int = 86_400
    ahead_s: int = 60 * 86_400
    late_start_s: int = 300
    """A booking may begin so long ago: who books at the car types for a while."""


@dataclass(frozen=True, slots=True)
class Slot:
    """One booking of a car, from its pick-up to its drop-off (the same station for a loop)."""

    vehicle: str
    start_s: int
    end_s: int
    pickup: str
    dropoff: str


@dataclass(frozen=True, slots=True)
class Outage:
    """A car out of order; ``until_s`` None: nobody knows until when."""

    vehicle: str
    from_s: int
    until_s: int | None


@dataclass(frozen=True, slots=True)
class Fleet:
    """What is known of all cars. ``place``: where each stands at ``now_s``, before its first slot; absent: unknown.

    ``sockets``: of each station. ``slots``: all that are not cancelled and not over long ago, in any order.
    """

    now_s: int
    place: Mapping[str, str]
    sockets: Mapping[str, int]
    slots: Sequence[Slot] = ()
    outages: Sequence[Outage] = ()

    def of(self, vehicle: str) -> list[Slot]:
        """Return a car's slots in the order of time."""
        return sorted((slot for slot in self.slots if slot.vehicle == vehicle), key=lambda slot: slot.start_s)

    def place_at(self, vehicle: str, at_s: int) -> str | None:
        """Return where a car will stand; None where nobody knows, or while it is out."""
        place = self.place.get(vehicle)
        for slot in self.of(vehicle):
            if slot.start_s > at_s:
                break
            if at_s < slot.end_s:
                return None
            place = slot.dropoff
        return place

    def standing(self, station: str, from_s: int, to_s: int, without: str) -> int:
        """Return the most cars but one that stand at a station together within [``from_s``, ``to_s``)."""
        cars = {*self.place, *(slot.vehicle for slot in self.slots)} - {without}
        moments = {from_s, *(slot.end_s for slot in self.slots if from_s <= slot.end_s < to_s)}
        return max(sum(self.place_at(car, at_s) == station for car in cars) for at_s in moments)


def faults(wanted: Slot, fleet: Fleet, terms: Terms | None = None) -> tuple[Fault, ...]:
    """Return everything that speaks against a booking; nothing: it can be made."""
    terms = terms or Terms()
    own = fleet.of(wanted.vehicle)
    before = [slot for slot in own if slot.start_s < wanted.end_s and slot.end_s <= wanted.start_s]
    after = [slot for slot in own if slot.start_s >= wanted.end_s]
    place = fleet.place_at(wanted.vehicle, wanted.start_s)
    until_s = after[0].start_s if after else wanted.end_s + terms.ahead_s
    sockets = fleet.sockets.get(wanted.dropoff)
    told = {
        Fault.PAST: wanted.start_s < fleet.now_s - terms.late_start_s,
        Fault.TOO_LONG: wanted.end_s - wanted.start_s > terms.longest_s,
        Fault.TOO_FAR_AHEAD: wanted.start_s > fleet.now_s + terms.ahead_s,
        Fault.OVERLAPS: len(before) + len(after) < len(own),
        Fault.CHARGING: bool(before and wanted.start_s - before[-1].end_s < terms.charge_s)
        or bool(after and after[0].start_s - wanted.end_s < terms.charge_s),
        Fault.OUT_OF_ORDER: any(
            outage.vehicle == wanted.vehicle
            and outage.from_s < wanted.end_s
            and (outage.until_s is None or wanted.start_s < outage.until_s)
            for outage in fleet.outages
        ),
        Fault.NOT_THERE: place is not None and place != wanted.pickup,
        Fault.MISSED_AFTER: bool(after) and after[0].pickup != wanted.dropoff,
        Fault.NO_SOCKET: sockets is not None
        and fleet.standing(wanted.dropoff, wanted.end_s, until_s, wanted.vehicle) >= sockets,
    }
    return tuple(fault for fault, holds in told.items() if holds)


def offer(wanted: Slot, cars: Iterable[str], fleet: Fleet, terms: Terms | None = None) -> str | None:
    """Return the first of ``cars`` that can be booked like ``wanted``; None: none of them."""
    for car in cars:
        slot = Slot(car, wanted.start_s, wanted.end_s, wanted.pickup, wanted.dropoff)
        if not faults(slot, fleet, terms):
            return car
    return None
