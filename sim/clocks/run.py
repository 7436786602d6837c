"""``python -m sim clock-histories``: many histories of clocks, one after the other, and a story where a rule is broken.

    python -m sim clock-histories --histories 2000                histories 0 to 1999
    python -m sim clock-histories --histories 1000000 --jobs 2 --totals FILE    resumes, and adds up
    python -m sim clock-histories --replay 311                    the shortest story found that breaks 311's rule

What is held against true time, and what is assumed: ``sim/clocks/judge.py`` and docs/reliability.md.

exit codes: 0 every rule held; 1 one was broken; 2 wrong use.
"""

from __future__ import annotations

import argparse
import sys
import time
from collections import Counter
from typing import Final

from sim import long_run
from sim.clocks.story import drawn, smaller
from sim.clocks.world import Outcome, live

CHUNK: Final = 500
"""Histories that a process plays before it tells; totals are saved as often."""
Played = tuple[Counter[str], dict[str, str], float]
"""What a chunk counted, what its histories broke by their number, and the processor's seconds."""


def main(argv: list[str]) -> int:
    """Play; return the exit code."""
    parser = argparse.ArgumentParser(
        prog="python -m sim clock-histories",
        description=str(__doc__).replace("`", ""),
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    parser.add_argument(
        "--histories", type=long_run.positive, default=2000, help="play up to this one (default: %(default)s)"
    )
    long_run.add_arguments(parser)
    parser.add_argument(
        "--replay", type=long_run.natural, metavar="NUMBER", help="play this one, and tell its shortest story"
    )
    args = parser.parse_args(argv)
    return _many(args) if args.replay is None else _replay(args.replay)


def _many(args: argparse.Namespace) -> int:
    totals = long_run.Totals.load(args.totals)
    first = max(args.first, totals.next_seed)
    totals.look_again(lambda number: live(drawn(number)).broken)
    totals.save(args.totals)
    began_s = time.monotonic()
    for numbers, (counts, broken, took_s) in long_run.played(_chunk, first, args.histories, CHUNK, args.jobs):
        totals.counts.update(counts, histories=len(numbers))
        totals.broken.update(broken)
        totals.took_s += took_s
        totals.next_seed = numbers.stop
        totals.save(args.totals)
        for number, what in broken.items():
            sys.stdout.write(f"\nBROKEN {what}\n  replay: python -m sim clock-histories --replay {number}\n")
            sys.stdout.flush()
        told = f"{len(totals.broken)} broken"
        long_run.bar(numbers.stop - first, args.histories - first, time.monotonic() - began_s, told)
    sys.stdout.write(summary(totals))
    return 1 if totals.broken else 0


def _chunk(numbers: range) -> Played:
    began_s, counts, broken = time.process_time(), Counter[str](), {}
    for number in numbers:
        outcome = live(drawn(number))
        counts.update(outcome.counts)
        if outcome.broken:
            broken[str(number)] = outcome.broken
    return counts, broken, time.process_time() - began_s


def summary(totals: long_run.Totals) -> str:
    """Return what was played, and what came of it."""
    counts = "".join(f"  {count:>10,}  {what}\n" for what, count in sorted(totals.counts.items()))
    rate = totals.counts["histories"] / max(totals.took_s, 1e-9)
    return (
        f"\n{rate:,.0f} histories a second on one core\n{counts}"
        f"histories that broke a rule, wrong grants among them: {totals.broke}\n"
    )


def _replay(number: int) -> int:
    outcome = live(drawn(number))
    if not outcome.broken:
        sys.stdout.write(f"history {number}: every rule holds\n")
        return 0
    outcome = live(shrunk(outcome).story, tell=True)
    story, lines = outcome.story, "\n".join(outcome.lines)
    policy = "the commune allows unproven starts" if story.unproven_start else "no unproven starts"
    bookings = "; ".join(f"{each.start_s} to {each.end_s} s" for each in story.windows)
    sys.stdout.write(f"history {number}: {outcome.broken}\n  {policy}; bookings from {bookings}\n\n{lines}\n")
    return 1


def shrunk(outcome: Outcome) -> Outcome:
    """Return the shortest story found in which the same rule breaks."""
    again = True
    while again:
        again = False
        for story in smaller(outcome.story):
            found = live(story)
            if _rule(found) == _rule(outcome):
                outcome, again = found, True
                break
    return outcome


def _rule(outcome: Outcome) -> str:
    """Return what was broken, without the numbers of this story."""
    return "".join(letter for letter in outcome.broken if not letter.isdigit())
