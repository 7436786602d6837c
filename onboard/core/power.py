"""The 12 V battery: an AMI whose small battery is flat neither starts nor charges. Loads are shed in steps.

A step is entered when the voltage stays below its mark for ``supply_hold_s``, and left when it stays the hysteresis
above it. A voltage that dances about a deeper mark still enters the step it never left. The box never switches itself
off during a rental, about a booking's begin, or just after its own start.

What cannot be a battery's voltage is a fault and decides nothing; nor does what was measured too long ago. A box that
knows nothing of its battery saves, and refuses nobody.

=========================================  ============  =========  =========
what the car does                          card reader   receiver   modem
=========================================  ============  =========  =========
in use, or a booking begins or may run     full          on         on
parked, normal                             full          off        looks
parked, saving                             slow          off        looks
parked, critical                           off           off        off
=========================================  ============  =========  =========

In use: a rental, an awake bus, a door or a charge that changed lately. Locked and charging is parked. The receiver
stays on (but in *critical*) while the clock waits for the sky, the modem for ``modem_linger_s`` after the last use.
Phones are served in every step, until the box is off.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import replace
from typing import Final

from onboard.core import access
from onboard.core.clock import ClockQuality
from onboard.core.commands import Loads, PowerOff, ReaderPace, SetLoads, SupplyLevel
from onboard.core.draft import Draft
from onboard.core.events import BusState, Charging, SupplyReported
from onboard.core.policy import Policy
from onboard.core.records import SupplyChanged
from onboard.core.state import State

_ORDER = (SupplyLevel.NORMAL, SupplyLevel.SAVING, SupplyLevel.CRITICAL, SupplyLevel.OFF)
AVERAGED: Final = 30
"""Measurements that the average follows: five minutes of one every ten seconds."""
TREND_S: Final = 6 * 3600.0
"""A fall is reckoned on once it was watched for so long: a measurement's step is some 20 mV."""
OFF_AGAIN_S: Final = 600.0
"""The box is still on: it is asked again to switch itself off."""
WAKE_LEAST_S: Final = 120.0
"""Until it is woken, at least: it must have gone off before."""


def level_for(policy: Policy, now: SupplyLevel, voltage_v: float) -> SupplyLevel:
    """Return the step that a voltage calls for, given the step in force (hysteresis on the way up)."""
    marks = (policy.supply_saving_v, policy.supply_critical_v, policy.supply_off_v)
    depth = _ORDER.index(now)
    below = sum(voltage_v < mark for mark in marks)
    clear = sum(voltage_v < mark + policy.supply_hysteresis_v for mark in marks)
    return _ORDER[max(below, min(depth, clear))]


def on_started(d: Draft) -> None:
    """Take a boot as a use: whoever switched the box on may want it, and the clock wants the sky."""
    d.set(supply=replace(d.state.supply, used_s=d.boot_s))


def on_supply(d: Draft, event: SupplyReported) -> None:
    """Take in a measurement."""
    if not 0 <= d.boot_s - event.sampled_s <= d.policy.supply_fresh_s:
        return
    low_v, high_v = d.policy.supply_plausible_v
    if not low_v <= event.voltage_v <= high_v:
        _doubt(d, f"{event.voltage_v:.2f} V: no battery that this box runs from; look at the wire, fuse and divider")
        return
    d.fault("supply_reading", "", active=False)
    supply = d.state.supply
    wanted = _permitted(d.state, level_for(d.policy, supply.level, event.voltage_v))
    if wanted is supply.level:
        supply = replace(supply, pending=None)
    elif supply.pending is None or _deeper(wanted, supply.level) != _deeper(supply.pending, supply.level):
        supply = replace(supply, pending=wanted, pending_since_s=d.boot_s)
    else:
        # The step nearest to the one in force is what the voltage called for all the time.
        nearest = min if _deeper(wanted, supply.level) else max
        supply = replace(supply, pending=nearest(wanted, supply.pending, key=_ORDER.index))
    average_v = event.voltage_v
    if supply.average_v is not None:
        average_v = supply.average_v + (event.voltage_v - supply.average_v) / AVERAGED
    d.set(supply=replace(supply, voltage_v=event.voltage_v, sampled_s=event.sampled_s, average_v=average_v))
    if supply.pending is not None and d.boot_s - supply.pending_since_s >= d.policy.supply_hold_s:
        _enter(d, supply.pending)
    _reckon(d)


def _doubt(d: Draft, detail: str) -> None:
    d.set(supply=replace(d.state.supply, pending=None))
    d.fault("supply_reading", detail, active=True)


def _permitted(state: State, level: SupplyLevel) -> SupplyLevel:
    """Return the step, or the one before *off* where the box must stay on."""
    awake_s = state.at.boot_s - state.began_s
    if level is SupplyLevel.OFF and (
        state.kept.rental is not None or awake_s < state.policy.supply_awake_s or _begins(state)
    ):
        return SupplyLevel.CRITICAL
    return level


def _deeper(one: SupplyLevel, other: SupplyLevel) -> bool:
    return _ORDER.index(one) > _ORDER.index(other)


def due_s(state: State) -> float | None:
    """Return the boot time at which something is due: a doubt, a switch."""
    supply, times = state.supply, list(_switch_times_s(state))
    if supply.sampled_s is not None:
        times.append(supply.sampled_s + state.policy.supply_fresh_s)
    if supply.off_asked_s is not None:
        times.append(supply.off_asked_s + OFF_AGAIN_S)
    # Not at once again: a sum and a difference of such numbers need not agree.
    return max(state.at.boot_s + 1.0, min(times)) if times else None


def on_due(d: Draft) -> None:
    """Doubt a voltage that is not measured any more; ask again for the end of a box that is still on."""
    supply = d.state.supply
    if supply.sampled_s is not None and d.boot_s - supply.sampled_s >= d.policy.supply_fresh_s:
        d.set(supply=replace(supply, voltage_v=None, sampled_s=None, average_v=None, rest=None))
        _doubt(d, f"nothing measured for {d.policy.supply_fresh_s:.0f} s: look at the ADC or the monitor")
        if _deeper(supply.level, SupplyLevel.SAVING):
            _enter(d, SupplyLevel.SAVING)
    elif supply.off_asked_s is not None and d.boot_s - supply.off_asked_s >= OFF_AGAIN_S:
        _enter(d, _permitted(d.state, SupplyLevel.OFF))


def _enter(d: Draft, level: SupplyLevel) -> None:
    """Enter a step. Entered once more, *off* is asked for once more, and not written again."""
    supply = d.state.supply
    d.set(supply=replace(supply, level=level, pending=None, off_asked_s=None))
    if level is not supply.level:
        d.record(SupplyChanged(level.value, supply.voltage_v or 0.0))
        _reckon(d)
        d.tell_status()
    if level is SupplyLevel.OFF:
        _switch_off(d)


def _switch_off(d: Draft) -> None:
    time = access.belief(d.state, d.state.at)
    starts = (start_s - time.best_s for start_s, _ in _bookings(d.state))
    next_s = min((until_s for until_s in starts if until_s > 0), default=d.policy.supply_check_s)
    wake_in_s = min(d.policy.supply_check_s, max(WAKE_LEAST_S, next_s))
    d.set(supply=replace(d.state.supply, off_asked_s=d.boot_s))
    d.do(PowerOff(wake_in_s))


def _bookings(state: State) -> Iterator[tuple[float, float]]:
    """Give from when to when (Unix seconds) each booking that still opens something wants the car ready."""
    for each in access.candidates(state):
        if each.booking.id not in state.kept.ended:
            yield each.booking.start_s - state.policy.soon_s, each.last_s


def _begins(state: State) -> bool:
    """Tell whether a booking is about to begin, as best known: its driver gets the chance to start the car."""
    time, policy = access.belief(state, state.at), state.policy
    if time.quality < ClockQuality.RTC:
        return False
    return any(
        start_s <= time.best_s <= min(last_s, start_s + policy.soon_s + policy.grace_s)
        for start_s, last_s in _bookings(state)
    )


def off_in_s(state: State) -> float | None:
    """Return when the battery is at its limit if it goes on falling as it did while parked; None if unknown."""
    supply = state.supply
    if supply.rest is None or supply.average_v is None:
        return None
    watched_s, fallen_v = state.at.boot_s - supply.rest[0], supply.rest[1] - supply.average_v
    if watched_s < TREND_S or fallen_v <= 0:
        return None
    return max(0.0, (supply.average_v - state.policy.supply_off_v) * watched_s / fallen_v)


def _reckon(d: Draft) -> None:
    """Watch the fall of a battery at rest; tell early of one that is low, or will be before the next booking."""
    supply = d.state.supply
    settled = not in_use(d.state) and d.boot_s - supply.used_s >= d.policy.supply_settle_s
    if not settled or docked(d.state) or supply.average_v is None:
        d.set(supply=replace(supply, rest=None))
    elif supply.rest is None:
        d.set(supply=replace(supply, rest=(d.boot_s, supply.average_v)))
    low, left_s = _deeper(supply.level, SupplyLevel.SAVING), off_in_s(d.state)
    if not low and left_s is not None:
        time = access.belief(d.state, d.state.at)
        low = any(start_s - time.best_s >= left_s for start_s, _ in _bookings(d.state))
    said = f"{supply.average_v or 0.0:.1f} V: charge the car, or drive it, before its next booking"
    d.fault("supply_low", said, active=low)


def docked(state: State) -> bool:
    """Tell whether the car stands locked and charging (or full): what it needs comes from outside."""
    report = state.doors.report
    charges = state.vehicle.charging in (Charging.CHARGING, Charging.FULL)
    return charges and report is not None and report.locked is True


def _used_now(state: State) -> bool:
    return state.kept.rental is not None or (state.vehicle.bus is BusState.AWAKE and not docked(state))


def in_use(state: State) -> bool:
    """Tell whether the car is used, or was lately."""
    return _used_now(state) or state.at.boot_s < state.supply.used_s + state.policy.parked_after_s


def expected(state: State) -> bool:
    """Tell whether by any believable time a booking begins soon, or may be begun."""
    time = access.belief(state, state.at)
    return any(start_s <= time.latest_s and time.earliest_s <= last_s for start_s, last_s in _bookings(state))


def wanted(state: State) -> Loads:
    """Return what is to be on: the table above."""
    if in_use(state) or expected(state):
        return Loads()
    level, policy, boot_s = state.supply.level, state.policy, state.at.boot_s
    if _deeper(level, SupplyLevel.SAVING):
        return Loads(ReaderPace.OFF, gnss=False, modem=not policy.modem_switch)
    pace = ReaderPace.SLOW if level is SupplyLevel.SAVING else ReaderPace.FULL
    lingers = not docked(state) and boot_s < state.supply.used_s + policy.modem_linger_s
    modem = not policy.modem_switch or lingers or boot_s % policy.modem_every_s < policy.modem_look_s
    return Loads(pace, gnss=access.belief(state, state.at).quality < ClockQuality.GNSS, modem=modem)


def words(state: State) -> tuple[str, ...]:
    """Return the step in force, then what is off or slow: ``reader_slow reader_off gnss_off modem_off``."""
    loads = state.supply.loads
    shed = (
        (f"reader_{loads.reader.value}", loads.reader is not ReaderPace.FULL),
        ("gnss_off", not loads.gnss),
        ("modem_off", not loads.modem),
    )
    return (state.supply.level.value, *(word for word, is_so in shed if is_so))


def switch_loads(d: Draft) -> None:
    """Have the loads as they should be. The way to the commune is not lost by a modem that was switched off."""
    if _used_now(d.before) or _used_now(d.state) or _touched(d):
        d.set(supply=replace(d.state.supply, used_s=d.boot_s))
    supply, loads = d.state.supply, wanted(d.state)
    if loads == supply.loads:
        return
    off_s = supply.modem_off_s
    if loads.modem and off_s is not None:
        sending, slept_s = d.state.sending, d.boot_s - off_s
        waiting_s = None if sending.waiting_since_s is None else sending.waiting_since_s + slept_s
        d.sending(heard_at_s=sending.heard_at_s + slept_s, waiting_since_s=waiting_s)
        off_s = None
    elif not loads.modem and off_s is None:
        off_s = d.boot_s
    d.set(supply=replace(supply, loads=loads, modem_off_s=off_s))
    d.do(SetLoads(loads))


def _touched(d: Draft) -> bool:
    """Tell whether a door, the lock or the charge changed in this step."""
    before, report = d.before.doors.report, d.state.doors.report
    if before is not None and report is not None:
        was = (before.locked, before.driver_open, before.passenger_open)
        if was != (report.locked, report.driver_open, report.passenger_open):
            return True
    return d.before.vehicle.charging is not d.state.vehicle.charging


def _switch_times_s(state: State) -> Iterator[float]:
    """Give the boot times at which the loads may change though nothing happens."""
    if _used_now(state):
        return  # what ends this use is an event
    policy, supply, at_s = state.policy, state.supply, state.at.boot_s
    if in_use(state):
        yield supply.used_s + policy.parked_after_s
        return
    time = access.belief(state, state.at)
    for start_s, last_s in _bookings(state):
        if start_s > time.latest_s:
            yield at_s + start_s - time.latest_s
        elif time.earliest_s <= last_s:
            yield at_s + last_s - time.earliest_s
    if policy.modem_switch:
        if at_s < supply.used_s + policy.modem_linger_s:
            yield supply.used_s + policy.modem_linger_s
        turn_s = at_s % policy.modem_every_s
        yield at_s - turn_s + (policy.modem_look_s if turn_s < policy.modem_look_s else policy.modem_every_s)
