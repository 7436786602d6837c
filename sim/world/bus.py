"""What the bus of a car in a simulated town says."""

from __future__ import annotations

from typing import Final

from onboard.core.events import Reading, Signal, SignalsReported

RESOLUTION_M: Final = 100


def signals(speed_mps: float, odometer_m: float, at_s: float) -> SignalsReported:
    """Return a look at the bus at boot time ``at_s``."""
    readings = (
        (Signal.SPEED, Reading(speed_mps, at_s, 3.0)),
        (Signal.DISTANCE, Reading(odometer_m // RESOLUTION_M * RESOLUTION_M, at_s, 10.0)),
        (Signal.SOC, Reading(70.0, at_s, 60.0)),
    )
    return SignalsReported(readings, odometer_resolution_m=RESOLUTION_M)
