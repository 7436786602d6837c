"""What long runs have in common: stories played in chunks, totals that add up over runs, a bar on a terminal."""

from __future__ import annotations

import json
import sys
from collections import Counter
from collections.abc import Callable, Iterator
from concurrent.futures import ProcessPoolExecutor
from dataclasses import dataclass, field, fields
from pathlib import Path
from typing import Final, Self, TypeVar

BAR: Final = 30

R = TypeVar("R")


@dataclass(slots=True)
class Totals:
    """What was played so far. ``took_s``: of the processor. ``broken``: by the story's number, what was broken."""

    next_seed: int = 0
    took_s: float = 0.0
    counts: Counter[str] = field(default_factory=Counter)
    broken: dict[str, str] = field(default_factory=dict)

    @classmethod
    def load(cls, file: Path | None) -> Self:
        """Read what a run has saved; nothing where there is none."""
        if file is None or not file.exists():
            return cls()
        held = json.loads(file.read_text())
        return cls(**{**held, "counts": Counter(held["counts"])})

    def save(self, file: Path | None) -> None:
        """Keep it for the next run, whole or not at all."""
        if file is None:
            return
        file.parent.mkdir(parents=True, exist_ok=True)
        values = {each.name: getattr(self, each.name) for each in fields(self)}
        scratch = file.with_suffix(".new")
        scratch.write_text(json.dumps(values, indent=1, sort_keys=True))
        scratch.replace(file)

    @property
    def broke(self) -> str:
        """Name the stories that broke a rule."""
        return " ".join(sorted(self.broken, key=int)) or "none"


def played(work: Callable[[range], R], first: int, end: int, chunk: int, jobs: int) -> Iterator[tuple[range, R]]:
    """Give what ``work`` makes of each chunk of the numbers from ``first`` up to ``end``, in order."""
    chunks = [range(at, min(at + chunk, end)) for at in range(first, end, chunk)]
    if jobs == 1:
        for each in chunks:
            yield each, work(each)
        return
    with ProcessPoolExecutor(jobs) as pool:
        yield from zip(chunks, pool.map(work, chunks), strict=True)


def bar(done: int, of: int, took_s: float, told: str) -> None:
    """Show on a terminal how far a run is, and how long it will take."""
    if not sys.stderr.isatty():
        return
    full = BAR * done // max(of, 1)
    left_s = took_s / max(done, 1) * (of - done)
    sys.stderr.write(f"\r[{'#' * full}{'.' * (BAR - full)}] {done} of {of}, {told}, {left_s / 60:.0f} min left ")
    sys.stderr.flush()
