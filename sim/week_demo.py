"""``amibox demo-offline``: a car that never had a network does a week of rentals, in seconds."""

from __future__ import annotations

import argparse
import asyncio
import tempfile
from pathlib import Path

from sim.screen import Check, Screen
from sim.week import Result, Week

DISTANCE_OFF_MAX_M = 150
"""The odometer has steps of 100 m, and each end of a trip may lie just before one."""
REFUSED = [("Emma", "clock_unproven"), ("Bert", "cancelled")]
"""Emma before her phone had network, Bert with the pass of a cancelled booking."""
EPILOG = """exit codes: 0 everything held; 1 something did not; 2 wrong arguments; 130 stopped by Ctrl-C.
Nothing is left behind: no process, no file."""


def main(argv: list[str]) -> int:
    """Play the week; return the exit code."""
    parser = argparse.ArgumentParser(
        prog="amibox demo-offline", description=str(__doc__).replace("`", ""), epilog=EPILOG
    )
    parser.add_argument("--no-courier", action="store_true", help="phones only open doors: see what is lost")
    args = parser.parse_args(argv)
    with Screen() as screen, tempfile.TemporaryDirectory(prefix="amibox-week-") as folder:
        screen.say("[bold]AmiBox[/]: a week of a car without SIM card. Bookings come in and trips go out on phones.")
        screen.say("The box and the commune are real and on this machine; the car, the air and the time are played.")

        def tell(wall_s: float, source: str, text: str) -> None:
            if source:
                screen.tell(wall_s, source, text)
            else:
                screen.heading(text)

        result = asyncio.run(Week(Path(folder), tell, carry=not args.no_courier).play())
        checks = judge(result)
        driven_km = sum(result.driven.values()) / 1000
        screen.summary([("driven", f"{len(result.driven)} rentals, {driven_km:.1f} km")], checks)
    return 0 if all(check.holds for check in checks) else 1


def judge(result: Result) -> list[Check]:
    """Hold what the commune knows against what was driven."""
    known, driven = [each["reservation"] for each in result.rentals], result.driven
    off_m = max((abs(e["distance_m"] - driven.get(e["reservation"], 0.0)) for e in result.rentals), default=0.0)
    refused = ", ".join(f"{who} ({why.replace('_', ' ')})" for who, why in result.refused)
    return [
        Check("every rental is there, once", f"{len(known)} of {len(driven)}", sorted(known) == sorted(driven)),
        Check("every trip, once", f"{len(result.trips)} of {len(driven)}", len(result.trips) == len(driven)),
        Check("their distances", f"off by {off_m:.0f} m at most", bool(known) and off_m <= DISTANCE_OFF_MAX_M),
        Check("refused, and nobody else", refused, result.refused == REFUSED),
        Check("no alarm", f"{len(result.alarms)}", not result.alarms),
        Check("records without a receipt in the car", f"{result.unacknowledged}", result.unacknowledged <= 4),
    ]
