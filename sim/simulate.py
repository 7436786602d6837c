"""``python -m sim simulate``: many seeds' worlds, one after the other, and a story where a rule is broken.

    python -m sim simulate --seeds 200                     seeds 0 to 199
    python -m sim simulate --seeds 20000 --jobs 2          resumes where the last such run stopped, and adds up
    python -m sim simulate --seeds 20000 --short           one car, two hours or days each, as make test has them
    python -m sim simulate --replay 311                    one seed once more, with its story
    python -m sim simulate --replay 311 --shrink           the shortest story that still breaks a rule

exit codes: 0 every rule held; 1 one was broken; 2 wrong use.
"""

from __future__ import annotations

import argparse
import sys
import time
from collections.abc import Iterator
from dataclasses import dataclass, replace
from functools import partial
from typing import Final

from sim import long_run
from sim.long_run import natural, positive
from sim.world.play import Outcome, Plan, drawn, live, short

YEAR_S: Final = 365.25 * 86_400
CHUNK: Final = 2
"""Seeds that a process plays before it tells; totals are saved as often."""
STORY_LINES: Final = 40
SHRINK_TRIES: Final = 60


@dataclass(slots=True)
class Totals(long_run.Totals):
    """And how long the towns and their cars lived."""

    lived_s: float = 0.0
    car_s: float = 0.0
    short: bool = False

    @property
    def rate(self) -> float:
        """Return how many times faster than real time."""
        return self.lived_s / max(self.took_s, 1e-9)

    def add(self, outcome: Outcome, took_s: float) -> None:
        """Count one world."""
        self.lived_s += outcome.lived_s
        self.car_s += outcome.lived_s * outcome.plan.cars
        self.took_s += took_s
        self.counts += outcome.counts
        self.counts["worlds"] += 1
        if outcome.broken:
            self.broken[str(outcome.plan.seed)] = outcome.broken


def main(argv: list[str]) -> int:
    """Play; return the exit code."""
    parser = argparse.ArgumentParser(
        prog="python -m sim simulate",
        description=str(__doc__).replace("`", ""),
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    parser.add_argument("--seeds", type=positive, default=200, help="play seeds up to this one (default: %(default)s)")
    long_run.add_arguments(parser)
    parser.add_argument(
        "--replay", type=natural, metavar="SEED", help="play this seed; tell its story if a rule breaks"
    )
    parser.add_argument("--short", action="store_true", help="one car, two hours or days, as make test plays them")
    parser.add_argument("--shrink", action="store_true", help="with --replay: look for the shortest story (minutes)")
    args = parser.parse_args(argv)
    if args.replay is not None:
        return _replay(_plan(args.replay, shortened=args.short), shrink=args.shrink)
    if args.shrink:
        parser.error("--shrink goes with --replay SEED")
    return _many(args)


def _many(args: argparse.Namespace) -> int:
    totals = Totals.load(args.totals)
    if totals.short != args.short and totals.next_seed:
        raise SystemExit(f"{args.totals} has {'short' if totals.short else 'whole'} worlds. Name another file.")
    totals.short = args.short
    play = partial(_chunk, shortened=args.short)
    first = max(args.first, totals.next_seed)
    if first >= args.seeds:
        sys.stdout.write(f"Seeds below {first:,} were played before: nothing to do up to {args.seeds:,}.\n")
    totals.look_again(lambda seed: live(_plan(seed, shortened=args.short)).broken)
    totals.save(args.totals)
    began_s = time.monotonic()
    for seeds, outcomes in long_run.played(play, first, args.seeds, CHUNK, args.jobs):
        for outcome, took_s in outcomes:
            totals.add(outcome, took_s)
            if outcome.broken:
                _tell_broken(outcome, " --short" if args.short else "")
        totals.next_seed = seeds.stop
        totals.save(args.totals)
        told = f"{len(totals.broken)} broken, {totals.rate:,.0f} x real time"
        long_run.bar(seeds.stop - first, args.seeds - first, time.monotonic() - began_s, told)
    sys.stdout.write(summary(totals, time.monotonic() - began_s))
    return 1 if totals.broken else 0


def _plan(seed: int, *, shortened: bool) -> Plan:
    return short(drawn(seed)) if shortened else drawn(seed)


def _chunk(seeds: range, *, shortened: bool) -> list[tuple[Outcome, float]]:
    found = []
    for seed in seeds:
        began_s = time.process_time()
        outcome = live(_plan(seed, shortened=shortened))
        found.append((outcome, time.process_time() - began_s))
    return found


def summary(totals: Totals, took_s: float) -> str:
    """Return what was played, and what came of it."""
    counts = "".join(f"  {count:>12,}  {what}\n" for what, count in sorted(totals.counts.items()))
    return (
        f"\nup to seed {totals.next_seed:,}: {totals.car_s / YEAR_S:.2f} vehicle-years, {totals.lived_s / YEAR_S:.2f} "
        f"years of towns;\n{totals.rate:,.0f} x real time on one core; {took_s:.0f} s now\n{counts}"
        f"seeds that broke a rule: {totals.broke}\n"
    )


def _tell_broken(outcome: Outcome, word: str) -> None:
    again = f"python -m sim simulate --replay {outcome.plan.seed}{word}   (--shrink)"
    sys.stdout.write(f"\nBROKEN {outcome.broken}\n  replay: {again}\n")
    sys.stdout.flush()


def _replay(plan: Plan, *, shrink: bool) -> int:
    outcome = live(plan, story_lines=STORY_LINES)
    if not outcome.broken:
        sys.stdout.write(f"seed {plan.seed}: every rule holds\n{_world(plan)}\n")
        return 0
    if shrink:
        sys.stderr.write(f"{outcome.broken}\nlooking for a shorter story, in {SHRINK_TRIES} worlds at most\n")
        outcome = shrunk(outcome)
    sys.stdout.write(f"seed {plan.seed}: {outcome.broken}\n{_world(outcome.plan)}\n\n{outcome.story}\n")
    return 1


def _world(plan: Plan) -> str:
    troubles = ", ".join(f"{name} {getattr(plan.rates, name):.2g}" for name in plan.rates.present) or "nothing"
    length = f"{plan.hours:g} hours" if plan.pace == 1 else f"{plan.hours / plan.pace:g} days"
    return f"  {plan.cars} cars, {length}; what goes wrong: {troubles}"


def shrunk(outcome: Outcome) -> Outcome:
    """Return the shortest world found in which the same rule breaks: fewer troubles, cars, hours and people."""
    rule, best = _rule(outcome), outcome
    tries = 0
    again = True
    while again and tries < SHRINK_TRIES:
        again = False
        for plan in _smaller(best.plan):
            tries += 1
            found = live(plan, story_lines=STORY_LINES)
            if found.broken and _rule(found) == rule:
                best, again = found, True
                break
            if tries >= SHRINK_TRIES:
                break
    return best


def _rule(outcome: Outcome) -> str:
    """Return what was broken, without the names and numbers of this world."""
    return "".join(letter for letter in outcome.broken.partition(": ")[2] if not letter.isdigit())


def _smaller(plan: Plan) -> Iterator[Plan]:
    """Give worlds that are a little less than this one, the greatest step first."""
    if plan.cars > 1:
        yield replace(plan, cars=plan.cars - 1)
    if plan.hours > 1:
        yield replace(plan, hours=plan.hours / 2)
    present = plan.rates.present
    for some in (present[: len(present) // 2], present[len(present) // 2 :]):
        if some and some != present:
            yield replace(plan, rates=plan.rates.without(*some))
    for name in present:
        yield replace(plan, rates=plan.rates.without(name))
    if plan.visits_max > 1:
        yield replace(plan, visits_max=min(plan.visits_max, 64) // 2)
