"""When the software may be changed: the box is away for some seconds, or two minutes if the new version is no good."""

from __future__ import annotations

from onboard.core.commands import SupplyLevel
from onboard.core.doors import is_open
from onboard.core.state import State
from onboard.core.trip import Standing, standing


def obstacle(state: State, now_s: float) -> str:
    """Return why the software may not be changed at boot time ``now_s``; "" if it may.

    ``rental``, ``moving``, ``door`` (a pulse or a lock is under way), ``open`` (a door, or not locked), ``reopening``
    (the last driver may still come back for the cable: a restart would forget him), ``card`` (one is awaited, and a
    restart would forget that too), ``battery``. A car whose bus sleeps since the boot has shown no speed: that its
    contact says locked is enough.
    """
    doors, last = state.doors, state.last_driver
    if state.kept.rental is not None:
        return "rental"
    if standing(state.vehicle, state.policy, now_s) is Standing.MOVING:
        return "moving"
    if doors.actuation is not None or doors.armed_until_s is not None:
        return "door"
    if is_open(doors.report) or (doors.report is not None and doors.report.locked is False):
        return "open"
    if last is not None and not last.used and now_s - last.ended_s <= state.policy.reopen_window_s:
        return "reopening"
    if state.capture is not None and now_s <= state.capture.until_s:
        return "card"
    if state.supply.level is not SupplyLevel.NORMAL or state.supply.pending is not None:
        return "battery"
    return ""
