"""What the car, the sky and the clock say, and what follows from it without anybody asking."""

from __future__ import annotations

from dataclasses import replace

from onboard.core import doors, rental, results
from onboard.core import trip as trips
from onboard.core.clock import learn, length
from onboard.core.draft import Draft
from onboard.core.events import (
    BusReported,
    BusState,
    Charging,
    ChargingReported,
    PositionReported,
    Signal,
    SignalsReported,
    TimeHeard,
)
from onboard.core.records import Alert, ChargingChanged, RentalEndReason, RentalKind
from onboard.core.state import Rental, State


def on_signals(d: Draft, event: SignalsReported) -> None:
    """Take in readings: distance, movement, and movement that nobody booked."""
    before = d.state.vehicle
    d.vehicle(readings={**before.readings, **dict(event.readings)}, resolution_m=event.odometer_resolution_m)
    still = trips.standing(d.state.vehicle, d.policy, d.boot_s)
    if still is trips.Standing.MOVING:
        d.vehicle(still_since_s=None)
        if d.state.doors.armed_until_s is not None:
            results.on_disarmed(d)
        d.doors(touched_s=d.boot_s, left_open_told=False, armed_until_s=None, armed_needs_opening=False)
        d.doors(locks_unconfirmed=0)  # whoever drives it got in: the next tap is a lock's first try again
        doors.note_driven(d)
    elif still is trips.Standing.STILL and before.still_since_s is None:
        d.vehicle(still_since_s=d.boot_s)
    if d.kept.rental is not None and d.kept.rental.trip is not None:
        d.set(meter=trips.measure(d.state.meter, before, d.state.vehicle, d.policy))
        _notice_drive_off(d, d.kept.rental)
    else:
        _notice_unbooked(d)


def _notice_unbooked(d: Draft) -> None:
    """Tell of movement outside a trip, every ``unbooked_movement_m``. A falling odometer is a reset: not a movement."""
    reading_m, known_m = rental.odometer_m(d.state), d.kept.odometer_m
    if reading_m is None:
        return
    if known_m is None or reading_m < known_m:
        if known_m is None:
            d.keep(odometer_m=reading_m)
        return
    bound_m = max(d.policy.unbooked_movement_m, d.state.vehicle.resolution_m)
    if reading_m - known_m >= bound_m:
        d.record(Alert("unbooked_movement", d.kept.rental.number if d.kept.rental else 0, reading_m - known_m))
        d.keep(odometer_m=reading_m)


def _notice_drive_off(d: Draft, rented: Rental) -> None:
    """Tell once of a car that was opened for the cable and is driven away: it is billed, but nobody booked it."""
    driven_m, _, _ = trips.result(d.state.meter)
    bound_m = max(d.policy.unbooked_movement_m, d.state.meter.resolution_m)
    if rented.kind is RentalKind.REOPEN and not rented.overdue_told and driven_m >= bound_m:
        d.keep(rental=replace(rented, overdue_told=True))
        d.record(Alert("unbooked_movement", rented.number, driven_m))
        d.tell_status()


def on_bus(d: Draft, event: BusReported) -> None:
    """Take in what the bus does; a faulty one is a fault, a sleeping one is not."""
    d.vehicle(bus=event.bus, bus_since_s=event.since_s)
    if event.bus is BusState.FAULT:
        d.vehicle(still_since_s=None)  # from here on it may roll unseen
    elif trips.standing(d.state.vehicle, d.policy, d.boot_s) is trips.Standing.STILL:
        d.vehicle(still_since_s=d.state.vehicle.still_since_s or d.boot_s)
    d.fault("can_bus", "error frames, link down or adapter gone", active=event.bus is BusState.FAULT)


def on_charging(d: Draft, event: ChargingReported) -> None:
    """Take in the charging rule's verdict; charging after the lock ends a driven rental."""
    before = d.state.vehicle.charging
    d.vehicle(charging=event.charging)
    if event.charging in (before, Charging.UNKNOWN):
        return
    d.record(ChargingChanged(event.charging.value, rental.soc_pct(d.state)))
    d.tell_status()
    if event.charging is Charging.NOT_CHARGING:
        return
    d.set(plug_in_by_s=None)
    running = d.kept.rental
    if running is not None and running.trip is None and running.distance_m > 0 and rental.may_be_returned(d):
        rental.end_rental(d, RentalEndReason.CHARGING)


def on_position(d: Draft, event: PositionReported) -> None:
    """Take in a fix. It lives in memory; only an agreed route is written."""
    position = event.position
    d.vehicle(position=position)
    running = d.kept.rental
    if running is None or running.trip is None:
        return
    still = trips.standing(d.state.vehicle, d.policy, d.boot_s) is trips.Standing.STILL
    meter, origin = trips.measure_position(d.state.meter, d.state.vehicle.track_origin, position, d.policy, still=still)
    moved = origin is not d.state.vehicle.track_origin
    d.vehicle(track_origin=origin)
    d.set(meter=meter)
    if running.booking.trace and moved:
        # A fix on its way while the door opened was taken before the trip began.
        lasted_s, _ = length(running.trip.span, d.stamp, d.state.boot_epoch)
        since_s = max(0, round(lasted_s - (d.boot_s - position.sampled_s)))
        point = (since_s, round(position.latitude * 1e5), round(position.longitude * 1e5))
        d.set(track=(*d.state.track, point))
        if len(d.state.track) >= d.policy.track_points_max:
            rental.flush_track(d)


def on_time(d: Draft, event: TimeHeard) -> None:
    """Take in a time from the sky or the cloud."""
    floor_s, anchor, refusal = learn(d.kept.floor_s, d.state.anchor, event.heard, d.now)
    if floor_s != d.kept.floor_s:
        d.keep(floor_s=floor_s)
    d.set(anchor=anchor)
    part = "gnss_time"
    d.fault(part, f"{refusal}: a time proof or another sky settles it" if refusal else "", active=refusal is not None)


def on_plug_in_due(d: Draft) -> None:
    """Tell the cloud that a returned car does not charge (charging clears this), unless it needn't or can't."""
    d.set(plug_in_by_s=None)
    soc = rental.soc_pct(d.state)
    if soc is not None and soc >= d.policy.plug_in_soc_pct:
        return
    reading = d.state.vehicle.readings.get(Signal.TEMPERATURE)
    low, high = d.policy.plug_in_temperature_c
    if reading is not None and not low <= reading.value <= high:
        return
    d.record(Alert("plug_in_missing", 0, -1 if soc is None else round(soc)))


def wall_deadline_s(state: State) -> float | None:
    """Return the boot time at which the running rental's wall-clock end must be looked at, as believed now."""
    rented = state.kept.rental
    if rented is None:
        return None
    if rented.trip is not None and (rented.overdue_told or rented.kind is RentalKind.REOPEN):
        return None
    end_s = rented.booking.end_s if rented.trip is not None else rented.booking.end_s + state.policy.grace_s
    return state.at.boot_s + max(1.0, end_s - rental.surely_s(state))


def on_wall(d: Draft) -> None:
    """Tell of a trip that outlasts its booking; end a locked rental whose time and grace are surely over."""
    rented = d.kept.rental
    if rented is None:
        return
    if rented.trip is None:
        if rental.time_over(d.state):
            rental.end_rental(d, RentalEndReason.TIME_OVER)
    elif rented.overdue_told or rented.kind is RentalKind.REOPEN:
        return
    elif rental.surely_s(d.state) > rented.booking.end_s:
        d.keep(rental=replace(rented, overdue_told=True))
        d.record(Alert("overdue", rented.number))
        d.tell_status()
