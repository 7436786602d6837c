"""The 12 V battery: an AMI whose small battery is flat neither starts nor charges. Loads are shed in steps.

A step is entered when the voltage stays below its mark for ``supply_hold_s``, and left when it stays the hysteresis
above it. A voltage that dances about a deeper mark still enters the step it never left. The box is never switched off
during a rental.
"""

from __future__ import annotations

from dataclasses import replace

from onboard.core.commands import SetSupplyLevel, SupplyLevel
from onboard.core.draft import Draft
from onboard.core.events import SupplyReported
from onboard.core.policy import Policy
from onboard.core.records import SupplyChanged
from onboard.core.state import State

_ORDER = (SupplyLevel.NORMAL, SupplyLevel.SAVING, SupplyLevel.CRITICAL, SupplyLevel.OFF)


def level_for(policy: Policy, now: SupplyLevel, voltage_v: float) -> SupplyLevel:
    """Return the step that a voltage calls for, given the step in force (hysteresis on the way up)."""
    marks = (policy.supply_saving_v, policy.supply_critical_v, policy.supply_off_v)
    depth = _ORDER.index(now)
    below = sum(voltage_v < mark for mark in marks)
    clear = sum(voltage_v < mark + policy.supply_hysteresis_v for mark in marks)
    return _ORDER[max(below, min(depth, clear))]


def on_supply(d: Draft, event: SupplyReported) -> None:
    """Take in a measurement."""
    supply = d.state.supply
    wanted = level_for(d.policy, supply.level, event.voltage_v)
    if wanted is SupplyLevel.OFF and d.kept.rental is not None:
        wanted = SupplyLevel.CRITICAL
    if wanted is supply.level:
        supply = replace(supply, pending=None)
    elif supply.pending is None or _deeper(wanted, supply.level) != _deeper(supply.pending, supply.level):
        supply = replace(supply, pending=wanted, pending_since_s=d.boot_s)
    else:
        # The step nearest to the one in force is what the voltage called for all the time.
        nearest = min if _deeper(wanted, supply.level) else max
        supply = replace(supply, pending=nearest(wanted, supply.pending, key=_ORDER.index))
    d.set(supply=replace(supply, voltage_v=event.voltage_v))


def _deeper(one: SupplyLevel, other: SupplyLevel) -> bool:
    return _ORDER.index(one) > _ORDER.index(other)


def due_s(state: State) -> float | None:
    """Return the boot time at which the pending step comes into force."""
    if state.supply.pending is None:
        return None
    return state.supply.pending_since_s + state.policy.supply_hold_s


def on_due(d: Draft) -> None:
    """Enter the pending step if it held long enough."""
    supply, by_s = d.state.supply, due_s(d.state)
    if supply.pending is None or by_s is None or d.boot_s < by_s:
        return
    level = supply.pending
    if level is SupplyLevel.OFF and d.kept.rental is not None:
        level = SupplyLevel.CRITICAL
    d.set(supply=replace(supply, level=level, pending=None))
    if level is not supply.level:
        d.record(SupplyChanged(level.value, supply.voltage_v or 0.0))
        d.do(SetSupplyLevel(level))
        d.tell_status()
