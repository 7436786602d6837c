"""Walks through a recording, cuts the power at each place, and has every state that it may leave opened and judged."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field
from hashlib import sha256
from itertools import chain
from pathlib import Path
from random import Random
from typing import Final

from sim.crash.disk import Content, Disk, Survivors
from sim.crash.judge import Story, heard, judge
from sim.crash.record import Recording
from sim.crash.states import drawn, telling

FAILURES_MAX: Final = 20
"""So many failing states of one look are named; all are counted."""


@dataclass(frozen=True, slots=True)
class Plan:
    """What is looked at of each cut: the telling states or not, and so many drawn by ``seed``."""

    seed: int
    draws: int
    telling: bool = True


@dataclass(slots=True)
class Tally:
    """What came of it. ``distinct``: numbers of states that differ in the disk's content or in what was owed."""

    built: int = 0
    opened: int = 0
    lost: int = 0
    distinct: set[int] = field(default_factory=set)
    failures: list[tuple[int, str, str]] = field(default_factory=list)
    """Cut, survivors, and what was wrong."""


def walk(recording: Recording, cuts: Sequence[int]) -> Iterator[tuple[int, Disk, Story]]:
    """Stop at each of ``cuts`` (rising) with the disk and the story as they are there.

    What was told right after an operation is owed at its cut: of the two times to cut, the harder one.
    """
    disk, story = Disk(), Story()
    told, next_told = heard(recording.told), 0
    wanted = set(cuts)
    for cut in range(max(cuts, default=-1) + 1):
        if cut:
            disk.take(recording.operations[cut - 1])
        while next_told < len(told) and told[next_told][0] <= cut:
            story.hear(told[next_told][1])
            next_told += 1
        if cut in wanted:
            yield cut, disk, story


def examine(recording: Recording, cuts: Sequence[int], plan: Plan, seen: set[int], directory: Path) -> Tally:
    """Open and judge what ``cuts`` may leave. States in ``seen`` are passed over, others added to it."""
    tally = Tally()
    for cut, disk, story in walk(recording, cuts):
        chance = Random(f"{plan.seed}:{cut}")  # noqa: S311 - to be repeated, not to be secret
        chosen = telling(disk, chance) if plan.telling else iter(())
        for survivors in chain(chosen, drawn(disk, chance, plan.draws)):
            left = disk.left(survivors)
            tally.built += 1
            number = _number(left, story.steps)
            if number in seen:
                continue
            seen.add(number)
            tally.distinct.add(number)
            place(directory, left)
            wrong = judge(directory, story)
            tally.opened += 1
            if wrong:
                tally.lost += 1
                if len(tally.failures) < FAILURES_MAX:
                    tally.failures.append((cut, str(survivors), wrong))
    return tally


def replay(recording: Recording, cut: int, survivors: Survivors, directory: Path) -> tuple[list[str], str]:
    """Build one state in ``directory`` and judge it; return what became of each operation, and what is wrong."""
    for _, disk, story in walk(recording, [cut]):
        place(directory, disk.left(survivors))
        lines = [f"cut after operation {cut}: {recording.shown[cut - 1] if cut else 'nothing done'}"]
        lines += [f"names: the first {survivors.names} of {disk.namings()} unsynced changes to the directory"]
        lines += [
            f"{fate!s:>6}  {number + 1}: {recording.shown[number]}"
            for (number, _, _), fate in zip(disk.waiting(), survivors.fates, strict=True)
        ]
        return lines, judge(directory, story)
    raise ValueError(f"there is no cut {cut}: the script has {len(recording.operations)} operations")


def place(directory: Path, left: dict[str, Content]) -> None:
    """Make ``directory`` hold this and nothing else."""
    for old in directory.iterdir():
        old.unlink()
    for name, content in left.items():
        with (directory / name).open("wb", buffering=0) as file:
            if content.blank:
                file.truncate(len(content.data))
            else:
                file.write(content.data)


def _number(left: dict[str, Content], steps: int) -> int:
    found = sha256(b"%d" % steps)
    for name in sorted(left):
        found.update(name.encode() + b"\0" + left[name].digest)
    return int.from_bytes(found.digest()[:8], "big")
