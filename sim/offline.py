"""``python -m sim offline``: a box without network and without a courier for a month, then drained; and its figures.

    python -m sim offline                                 30 days, 100,000 events
    python -m sim offline --days 3 --events 2000          a short one

The box is whole, on a disk, and commits as in a car; the commune is the real endpoint with its database. Played are
the car, people, the time, and the way between the two. The month takes as long as the disk takes to sync each step.
"""

from __future__ import annotations

import argparse
import asyncio
import logging
import tempfile
from pathlib import Path
from typing import Final

from sim.month import LATER_DAYS, Month, Plan, Result
from sim.screen import Check, Screen

BYTES_MAX: Final = 50_000_000
RATE_GOAL: Final = 500
DISK: Final = "/var/tmp"  # noqa: S108 - a folder with a random name below it; /tmp may lie in memory, where a sync is none
SHOWN: Final = 3
EPILOG: Final = """exit codes: 0 everything held; 1 something did not; 2 wrong arguments; 130 stopped by Ctrl-C.
Nothing is left behind: no process, no file."""


def main(argv: list[str]) -> int:
    """Play it; return the exit code."""
    parser = argparse.ArgumentParser(
        prog="python -m sim offline",
        description=str(__doc__).replace("`", ""),
        epilog=EPILOG,
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    parser.add_argument("--days", type=int, default=30, help="how long (default: %(default)s)")
    parser.add_argument("--events", type=int, default=100_000, help="records at least (default: %(default)s)")
    args = parser.parse_args(argv)
    try:
        plan = Plan(args.days, args.events)
    except ValueError as error:
        parser.error(str(error))
    with Screen() as screen, tempfile.TemporaryDirectory(prefix="amibox-month-", dir=DISK) as folder:
        screen.say(
            f"[bold]AmiBox[/]: {plan.days} days without network, {plan.events:,} events on a disk, then drained."
        )
        screen.say("The box and the commune are real and on this machine; the car, people and the time are played.")
        logging.disable()  # what a box says of its troubles is what is played here
        try:
            result = asyncio.run(Month(Path(folder), plan, lambda text: screen.say(f"  {text}")).play())
        finally:
            logging.disable(logging.NOTSET)
        checks = judge(result, plan)
        screen.summary(facts(result, plan), checks)
    return 0 if all(check.holds for check in checks) else 1


def facts(result: Result, plan: Plan) -> list[tuple[str, str]]:
    """Return what was played and measured, in words."""
    driven_km = sum(trip.length_m for trip in result.trips) / 1000
    size = sum(result.disk_bytes.values())
    files = ", ".join(f"{name} {count / 1e6:.2f}" for name, count in result.disk_bytes.items())
    kinds = ", ".join(f"{count:,} {kind}" for kind, count in result.kinds.most_common(5))
    words = ", ".join(f"{count:,} {word.replace('_', ' ')}" for word, count in sorted(result.refused.items()))
    drained = f"in {result.drain_s:.1f} s, {result.rate:,.0f} events/s (goal: {RATE_GOAL})"
    return [
        ("without network", f"{plan.days} days, played in {result.played_s:.0f} s"),
        ("driven", f"{len(result.rentals):,} rentals, {len(result.trips):,} trips, {driven_km:,.0f} km"),
        ("refused", words),
        ("power cuts", f"{result.cuts}; the longest start after one took {result.start_s_max:.1f} s"),
        ("events on the disk", f"{result.events:,} ({kinds}, ...)"),
        ("bytes on the disk", f"{size:,}, {size / max(1, result.events):.0f} an event; in MB: {files}"),
        ("drained", drained if result.drained else "not"),
    ]


def judge(result: Result, plan: Plan) -> list[Check]:
    """Hold what the box and the commune know against what happened."""
    found, size = result.found, sum(result.disk_bytes.values())
    served = f"{result.asked - len(result.failed):,} of {result.asked:,}"
    refusals = result.refused.total()
    old = f"{result.kept_rows:,} right after, {result.freed_rows:,} fewer {LATER_DAYS:.0f} days later"
    stayed = 0 < result.young_rows <= result.kept_rows
    return [
        Check("whoever had a right was served", _with(served, result.failed), not result.failed and result.asked > 0),
        Check("the others heard why not", _with(f"{refusals:,}", result.misheard), not result.misheard),
        Check("after the list's end", " ".join(result.late), result.late == ("denied", "list_too_old")),
        Check("events on the disk", f"{result.events:,} of {plan.events:,}", result.events >= plan.events),
        Check("below 50 MB", f"{size / 1e6:.1f} MB", 0 < size < BYTES_MAX),
        Check("unacknowledged", f"{result.unacknowledged:,}", result.drained and result.unacknowledged == 0),
        Check("lost", f"{found.lost:,}", found.lost == 0),
        Check("doubled", f"{found.doubled:,}", found.doubled == 0),
        Check("rows that nobody wrote", f"{found.strange:,}", found.strange == 0),
        Check("every trip, once", *_same(len(result.trips), found.wrong_trips)),
        Check("every rental, once", *_same(len(result.rentals), found.wrong_rentals)),
        Check("every refusal, once", f"{found.refusals:,} of {refusals:,}", found.refusals == refusals),
        Check("no alarm", _with(f"{len(found.alarms)}", found.alarms), not found.alarms),
        Check("a new list came", "yes" if result.listed_anew else "no", result.listed_anew),
        Check("acknowledged rows stay, then go", old, stayed and result.freed_rows > 0),
    ]


def _same(count: int, wrong: list[str]) -> tuple[str, bool]:
    return _with(f"{count:,}", wrong), count > 0 and not wrong


def _with(text: str, wrong: list[str]) -> str:
    return "; ".join([text, *wrong[:SHOWN]])
