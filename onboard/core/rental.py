"""Rentals and their trips: how they begin, what is written at each end, and when a lock ends the rental too.

A lock ends the *trip*. It ends the *rental* at the booking's return station once the car has been driven (last good fix
within the station's circle, or charging seen), anywhere by a second tap within ``finish_tap_s`` or the phone's
"finish", always under the commune's stricter rule, and for a locked car when booked time and grace are surely over. A
visit of staff and a re-opening for the cable end with their lock.

Charging says that the car is back only if no fix says that it is far from there: a socket at a friend's house ends
nothing. Billed is the first granted unlock to the last confirmed lock; an abandoned rental to its last standstill; one
whose door never opened, nothing; a re-opening for the cable, nothing unless the car was driven.
"""

from __future__ import annotations

from dataclasses import replace
from typing import Final

from onboard.core import trip as trips
from onboard.core.access import Grant, belief
from onboard.core.clock import ClockQuality, Span, length, save
from onboard.core.draft import Draft
from onboard.core.events import Charging, Signal
from onboard.core.records import (
    Parked,
    RentalEnded,
    RentalEndReason,
    RentalKind,
    Track,
    TripEnded,
    TripEndReason,
    TripStarted,
)
from onboard.core.state import EndRequest, LastDriver, Rental, State, Trip

ELSEWHERE_M: Final = 1000.0
"""A fix this far from the return station is no receiver's error: whatever charges there, the car isn't back."""
ENDED_MAX: Final = 64
"""Bookings remembered as over; a list names fewer for one car in the time that a booking may still be tried."""


def begin(d: Draft, grant: Grant, credential: str) -> None:
    """Open a trip under a grant: a new rental's first, or the running rental's next. Nothing has moved yet."""
    rental = d.kept.rental
    number = d.kept.trips + 1
    meter = trips.start(d.state.vehicle)
    trip = Trip(number=number, span=Span(d.stamp, d.state.boot_epoch), meter=meter)
    if rental is None:
        rental = Rental(d.kept.rentals + 1, grant.kind, grant.booking, trip.span, trip)
        d.keep(rentals=rental.number)
    else:
        used_s, _ = length(rental.span, trip.span.started, d.state.boot_epoch)
        rental = replace(rental, trip=trip, trips=rental.trips + 1, used_s=used_s)
    d.keep(rental=rental, trips=number)
    last = d.state.last_driver
    d.set(last_driver=replace(last, used=True) if grant.rule == 5 and last is not None else None)
    station = trips.station_at(d.state, d.boot_s)
    d.record(
        TripStarted(
            rental=rental.number,
            trip=number,
            kind=rental.kind,
            reservation=rental.booking.id,
            driver=rental.booking.driver,
            credential=credential,
            rule=grant.rule,
            proven=grant.proven,
            odometer_m=odometer_m(d.state),
            soc_pct=soc_pct(d.state),
            station=station.id if station else None,
        )
    )
    d.set(
        meter=meter,
        progress_at_s=d.boot_s + d.policy.progress_every_s,
        locked_s=None,
        track=(),
        track_at_s=d.boot_s + d.policy.track_every_s if rental.booking.trace else None,
        plug_in_by_s=None,
    )
    d.vehicle(track_origin=None)
    d.tell_status()


def end_trip(d: Draft, reason: TripEndReason, flags: tuple[str, ...] = (), *, asked: EndRequest | None = None) -> None:
    """End the running trip, and the rental if its rules say so. The caller has the confirmation in hand.

    ``asked``: it was asked for before a power cut. When it locked nobody saw: no time after that is billed.
    """
    rental = d.kept.rental
    if rental is None or rental.trip is None:
        raise ValueError("no trip to end")
    trip, at, epoch = rental.trip, d.stamp, d.state.boot_epoch
    if asked is not None and asked.epoch:
        at, epoch = asked.at, asked.epoch
    flush_track(d)
    driven_m, source, more = trips.result(d.state.meter)
    duration_s, _ = length(trip.span, at, epoch)
    if reason is not TripEndReason.NOT_OPENED:
        billable_s, basis = length(rental.span, at, epoch)
        if reason is TripEndReason.ABANDONED:
            untouched_s = billable_s - _used_s(d, rental, billable_s)
            billable_s = max(rental.billable_s, billable_s - untouched_s)
            duration_s = max(0.0, duration_s - untouched_s)
        rental = replace(rental, billable_s=billable_s, billable_basis=basis)
    station = trips.station_at(d.state, d.boot_s)
    d.record(
        TripEnded(
            rental=rental.number,
            trip=trip.number,
            reason=reason,
            duration_s=round(duration_s),
            distance_m=driven_m,
            distance_source=source,
            distance_resolution_m=d.state.meter.resolution_m,
            speed_integral_m=round(d.state.meter.speed_driven_m) if d.state.meter.speed_seen else None,
            odometer_m=odometer_m(d.state),
            soc_pct=soc_pct(d.state),
            station=station.id if station else None,
            flags=flags + more,
        )
    )
    d.keep(
        rental=replace(rental, trip=None, distance_m=rental.distance_m + driven_m),
        odometer_m=odometer_m(d.state) or d.kept.odometer_m,
    )
    d.set(progress_at_s=None, track_at_s=None)
    d.tell_status()
    finish = trip.end is not None and trip.end.finish
    why = _why_over(d, replace(rental, distance_m=rental.distance_m + driven_m), reason, finish=finish)
    if reason is TripEndReason.LOCKED:
        d.set(locked_s=d.boot_s)
    if why is not None:
        end_rental(d, why)


def _used_s(d: Draft, rental: Rental, length_s: float) -> float:
    """Return how long a rental had lasted when its car last came to stand, or was touched.

    A car that only stood there since this boot began was used before that: what was saved then counts.
    """
    if d.state.doors.touched_s <= d.state.began_s:
        return min(rental.used_s, length_s)
    return length_s - (d.boot_s - (d.state.vehicle.still_since_s or d.state.doors.touched_s))


def _why_over(d: Draft, rental: Rental, reason: TripEndReason, *, finish: bool) -> RentalEndReason | None:
    """Say why a rental is over with its trip's end, if it is."""
    if reason is TripEndReason.ABANDONED:
        return RentalEndReason.ABANDONED
    if reason is TripEndReason.NOT_OPENED:
        if rental.kind is RentalKind.REOPEN and d.state.last_driver is not None:
            d.set(last_driver=replace(d.state.last_driver, used=False))
        return RentalEndReason.NOT_OPENED if rental.trips == 1 else None
    if rental.kind is not RentalKind.BOOKING:
        return RentalEndReason.STAFF_DONE if rental.kind is RentalKind.STAFF else RentalEndReason.FINISHED
    if finish:
        return RentalEndReason.FINISHED
    if d.policy.lock_ends_rental == "always":
        return RentalEndReason.RULE_ALWAYS
    if rental.distance_m > 0 or d.state.meter.speed_driven_m > 0:
        station = trips.station_at(d.state, d.boot_s)
        if station is not None and station.id == rental.booking.return_station:
            return RentalEndReason.AT_DROPOFF
        if d.state.vehicle.charging in (Charging.CHARGING, Charging.FULL) and may_be_returned(d):
            return RentalEndReason.CHARGING
    return RentalEndReason.TIME_OVER if time_over(d.state) else None


def may_be_returned(d: Draft) -> bool:
    """Tell whether no good fix says that the car is elsewhere than at the running rental's return station."""
    rental, place = d.kept.rental, trips.parked_position(d.state, d.boot_s)
    home = [s for s in d.policy.stations if rental is not None and s.id == rental.booking.return_station]
    return place is None or all(trips.distance_m(place, s.latitude, s.longitude) <= ELSEWHERE_M for s in home)


def time_over(state: State) -> bool:
    """Tell whether the running rental's booked time and grace are surely over. A visit has no booked time to keep."""
    rental = state.kept.rental
    if rental is None:
        return False
    return rental.kind is not RentalKind.BOOKING or surely_s(state) > rental.booking.end_s + state.policy.grace_s


def surely_s(state: State) -> float:
    """Return the Unix time that surely is over. A real-time clock will do where the commune accepts an unproven start.

    A sky that contradicts itself will not: it takes nobody's car by playing tomorrow. Where the rental began at a good
    time, what it lasted since says so too: after a power cut without a clock a car locked in mid-rental does not stay
    taken for ever.
    """
    time, rental = belief(state, state.at), state.kept.rental
    sure_s = time.best_s if state.policy.unproven_start and state.anchor is None else time.earliest_s
    if rental is None or rental.span.started.quality < ClockQuality.GNSS or time.quality >= ClockQuality.GNSS:
        return sure_s
    return max(sure_s, rental.span.started.wall_s + length(rental.span, state.at, state.boot_epoch)[0])


def end_rental(d: Draft, reason: RentalEndReason) -> None:
    """End a rental whose car is locked (or abandoned), and say where the car stands."""
    rental = d.kept.rental
    if rental is None or rental.trip is not None:
        raise ValueError("no rental that can end")
    place = trips.parked_position(d.state, d.boot_s)
    station = trips.station_at(d.state, d.boot_s)
    name = station.id if station else None
    booked = rental.kind is RentalKind.BOOKING and reason is not RentalEndReason.NOT_OPENED
    billed = booked or (rental.kind is RentalKind.REOPEN and rental.overdue_told)
    d.record(
        RentalEnded(
            rental=rental.number,
            kind=rental.kind,
            reservation=rental.booking.id,
            driver=rental.booking.driver,
            reason=reason,
            billable_s=round(rental.billable_s) if billed else 0,
            billable_basis=rental.billable_basis,
            trips=rental.trips,
            distance_m=rental.distance_m,
            station=name,
        )
    )
    d.record(Parked(name, place.latitude if place else None, place.longitude if place else None))
    d.keep(rental=None)
    d.doors(look_for_key=reason is not RentalEndReason.NOT_OPENED)
    if booked:
        # Ended by its time, a booking may have been made longer where the box can't hear of it: the window decides.
        if reason is not RentalEndReason.TIME_OVER:
            d.keep(ended=(*d.kept.ended, rental.booking.id)[-ENDED_MAX:])
        if reason is not RentalEndReason.ABANDONED:
            d.set(last_driver=LastDriver(rental.booking, d.boot_s))
    if d.state.vehicle.charging not in (Charging.CHARGING, Charging.FULL):
        d.set(plug_in_by_s=d.boot_s + d.policy.plug_in_grace_s)
    d.tell_status()


def save_progress(d: Draft) -> None:
    """Make the running trip's distance and duration durable when it is time to.

    Not while a lock is to be confirmed: what was asked for is as long as it was then.
    """
    rental, at_s = d.kept.rental, d.state.progress_at_s
    if rental is None or rental.trip is None or at_s is None or d.boot_s < at_s:
        return
    if rental.trip.end is not None:
        d.set(progress_at_s=d.boot_s + d.policy.progress_every_s)
        return
    at, epoch = d.stamp, d.state.boot_epoch
    trip = replace(rental.trip, meter=d.state.meter, span=save(rental.trip.span, at, epoch))
    span = save(rental.span, at, epoch)
    d.keep(rental=replace(rental, trip=trip, span=span, used_s=_used_s(d, rental, span.saved_s)))
    d.set(progress_at_s=d.boot_s + d.policy.progress_every_s)


def flush_track(d: Draft) -> None:
    """Write the collected piece of an agreed route."""
    rental = d.kept.rental
    if rental is not None and rental.trip is not None and d.state.track:
        d.record(Track(rental.number, rental.trip.number, d.state.track))
    running = rental is not None and rental.trip is not None and rental.booking.trace
    d.set(track=(), track_at_s=d.boot_s + d.policy.track_every_s if running else None)


def odometer_m(state: State) -> int | None:
    """Return the last known odometer in whole metres."""
    reading = state.vehicle.readings.get(Signal.DISTANCE)
    return None if reading is None else round(reading.value)


def soc_pct(state: State) -> float | None:
    """Return the last known state of charge."""
    reading = state.vehicle.readings.get(Signal.SOC)
    return None if reading is None else reading.value
