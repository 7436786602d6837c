"""What long runs have in common: stories played in chunks, totals that add up over runs, a bar on a terminal."""

from __future__ import annotations

import argparse
import json
import os
import signal
import sys
from collections import Counter
from collections.abc import Callable, Iterator
from concurrent.futures import ProcessPoolExecutor
from dataclasses import dataclass, field, fields
from pathlib import Path
from typing import Final, Self, TypeVar

BAR: Final = 20

R = TypeVar("R")


@dataclass(slots=True)
class Totals:
    """What was played so far, by whatever code there was then. ``took_s``: of the processor. ``broken``: by number."""

    next_seed: int = 0
    took_s: float = 0.0
    counts: Counter[str] = field(default_factory=Counter)
    broken: dict[str, str] = field(default_factory=dict)
    mended: dict[str, str] = field(default_factory=dict)
    """What was broken once, and is not any more."""

    @classmethod
    def load(cls, file: Path | None) -> Self:
        """Read what a run has saved; nothing where there is none. SystemExit with words where it is something else."""
        if file is None or not file.exists():
            return cls()
        try:
            held = json.loads(file.read_text())
            return cls(**{**held, "counts": Counter(held["counts"])})
        except (ValueError, TypeError, KeyError) as error:
            raise SystemExit(f"{file} does not hold the totals of such a run ({error}). Name another file.") from error

    def save(self, file: Path | None) -> None:
        """Keep it for the next run, whole or not at all."""
        if file is None:
            return
        file.parent.mkdir(parents=True, exist_ok=True)
        values = {each.name: getattr(self, each.name) for each in fields(self)}
        scratch = file.with_suffix(".new")
        scratch.write_text(json.dumps(values, indent=1, sort_keys=True))
        scratch.replace(file)

    def look_again(self, broken: Callable[[int], str]) -> None:
        """Play once more what was broken before: it may be mended. ``broken`` gives "" then."""
        for number, what in list(self.broken.items()):
            if not broken(int(number)):
                self.mended[number] = self.broken.pop(number)
                sys.stdout.write(f"{number} is mended: {what}\n")

    @property
    def broke(self) -> str:
        """Name the stories that broke a rule."""
        return " ".join(sorted(self.broken, key=int)) or "none"


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Add what long runs are told: where to begin, on how many cores, where the totals are."""
    parser.add_argument("--first", type=natural, default=0, help="from this one on (default: %(default)s)")
    parser.add_argument("--jobs", type=positive, default=os.cpu_count() or 1, help="processes (default: %(default)s)")
    parser.add_argument("--totals", type=Path, help="a file with what was played: goes on from there, and adds up")


def natural(text: str) -> int:
    """Read a number from 0 up. ArgumentTypeError."""
    if not text.isascii() or not text.isdigit():
        raise argparse.ArgumentTypeError(f"{text!r}: a number from 0 up is wanted")
    return int(text)


def positive(text: str) -> int:
    """Read a number from 1 up. ArgumentTypeError."""
    if (number := natural(text)) < 1:
        raise argparse.ArgumentTypeError(f"{text!r}: a number from 1 up is wanted")
    return number


def played(work: Callable[[range], R], first: int, end: int, chunk: int, jobs: int) -> Iterator[tuple[range, R]]:
    """Give what ``work`` makes of each chunk of the numbers from ``first`` up to ``end``, in order."""
    chunks = [range(at, min(at + chunk, end)) for at in range(first, end, chunk)]
    if jobs == 1:
        for each in chunks:
            yield each, work(each)
        return
    with ProcessPoolExecutor(jobs, initializer=signal.signal, initargs=(signal.SIGINT, signal.SIG_DFL)) as pool:
        try:
            yield from zip(chunks, pool.map(work, chunks), strict=True)
        except BaseException:
            # Ctrl-C has ended the workers, too: what they were at is played again the next time.
            pool.shutdown(wait=False, cancel_futures=True)
            raise


def bar(done: int, of: int, took_s: float, told: str) -> None:
    """Show on a terminal how far a run is, and how long it will take."""
    if not sys.stderr.isatty():
        return
    full = BAR * done // max(of, 1)
    left_s = took_s / max(done, 1) * (of - done)
    sys.stderr.write(f"\r[{'#' * full}{'.' * (BAR - full)}] {done} of {of}, {told}, {left_s / 60:.0f} min left ")
    sys.stderr.flush()
