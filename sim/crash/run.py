"""``python -m sim crash-states``: the long run. It goes on where it stopped, and adds up."""

from __future__ import annotations

import argparse
import json
import logging
import multiprocessing
import os
import shutil
import sqlite3
import sys
import tempfile
import time
from collections.abc import Iterator
from concurrent.futures import ProcessPoolExecutor
from dataclasses import dataclass
from hashlib import sha256
from pathlib import Path
from typing import Any, Final

from rich.console import Console
from rich.progress import BarColumn, Progress, TextColumn, TimeRemainingColumn

from sim.crash.disk import Survivors
from sim.crash.record import TRACE, Recording, RecordingFailed, read, record
from sim.crash.scripts import SCRIPTS, WEAKNESSES
from sim.crash.search import Plan, Tally, examine, replay
from sim.long_run import natural, positive
from sim.processes import die_with

FOLDER: Final = Path("build/crash-states")
TOTALS: Final = "totals.json"
CHUNK_CUTS: Final = 20
FIRST_DRAWS: Final = 3
"""Drawn of each cut in the round that also looks at every telling state."""
DRAWS: Final = 12
"""And in each round after it."""
WEAK_SCRIPT: Final = "rentals"
BARREN_ROUNDS: Final = 3
EPILOG: Final = """exit codes: 0 nothing lost as shipped, and every weakness loses something; 1 otherwise, or nothing
could be recorded; 2 wrong arguments; 130 stopped by Ctrl-C: run it again to go on."""


@dataclass(frozen=True, slots=True)
class _Unit:
    script: str
    number: int
    cuts: tuple[int, ...]
    plan: Plan


class _Work:
    """What a worker process has: given to it by the fork."""

    recordings: dict[str, Recording] = {}  # noqa: RUF012 - filled once, before the fork
    seen: dict[str, set[int]] = {}  # noqa: RUF012 - as above
    directory: Path


def main(argv: list[str]) -> int:
    """Run, or replay one state; return the exit code."""
    parser = argparse.ArgumentParser(
        prog="python -m sim crash-states",
        description="Power cuts at every write of the store's recorded system calls (docs/reliability.md).",
        epilog=EPILOG,
    )
    parser.add_argument(
        "--states", type=positive, default=100_000, help="distinct states in all (default: %(default)s)"
    )
    parser.add_argument("--seed", type=natural, default=1, help="of what is drawn (default: %(default)s)")
    parser.add_argument("--jobs", type=positive, default=os.cpu_count() or 1, help="processes (default: %(default)s)")
    parser.add_argument("--folder", type=Path, default=FOLDER, help="recordings and totals (default: %(default)s)")
    parser.add_argument("--script", choices=SCRIPTS, action="append", help="this one only; may be repeated")
    parser.add_argument("--replay", metavar="STATE", help="build and judge one state, as a failure names it")
    args = parser.parse_args(argv)
    logging.disable()
    console = Console(highlight=False, soft_wrap=True)
    try:
        if args.replay:
            try:
                script, cut, survivors = args.replay.split(":", 2)
                state = (script, natural(cut), Survivors.parse(survivors))
            except (ValueError, argparse.ArgumentTypeError):
                parser.error(f"--replay {args.replay!r}: SCRIPT:CUT:SURVIVORS is wanted, as a failure prints it")
            return _replay(args.folder, state, console)
        run = _Run(args.folder, args.seed, args.jobs, args.script or list(SCRIPTS), console)
        return run.go(args.states)
    except RecordingFailed as failed:
        sys.stderr.write(f"crash-states: {failed}\n")
        return 1


def recording_of(folder: Path, script: str, weakness: str = "none") -> Recording:
    """Return the recording in ``folder``, made now if there is none. Raises ``RecordingFailed``."""
    own = folder / script / weakness
    if (own / TRACE).exists():
        return read(own)
    shutil.rmtree(own, ignore_errors=True)
    own.mkdir(parents=True)
    try:
        return record(script, weakness, own)
    except BaseException:
        shutil.rmtree(own, ignore_errors=True)
        raise


class _Run:
    """One run over everything; ``totals.json`` and ``seen-*`` in the folder are what it remembers."""

    def __init__(self, folder: Path, seed: int, jobs: int, scripts: list[str], console: Console) -> None:
        self._folder, self._seed, self._jobs, self._scripts, self._console = folder, seed, jobs, scripts, console
        self._totals: dict[str, Any] = {"code": _code(), "sqlite": sqlite3.sqlite_version, "done": {}, "scripts": {}}
        folder.mkdir(parents=True, exist_ok=True)
        if (folder / TOTALS).exists():
            totals = json.loads((folder / TOTALS).read_text())
            if (totals["code"], totals["sqlite"]) == (self._totals["code"], self._totals["sqlite"]):
                self._totals = totals
            else:
                console.print("The code has changed since the last run: counted anew.")
        if not self._totals["done"]:
            for old in folder.iterdir():
                shutil.rmtree(old) if old.is_dir() else old.unlink()

    def go(self, states: int) -> int:
        """Go on to so many distinct states; then the weaknesses. Return the exit code."""
        for script in self._scripts:
            _Work.recordings[script] = recording_of(self._folder, script)
            _Work.seen[script] = self._load(script)
            self._totals["scripts"].setdefault(script, {
                "operations": len(_Work.recordings[script].operations), "cuts": len(_Work.recordings[script].cuts()),
                "built": 0, "opened": 0, "distinct": 0, "lost": 0,
            })  # fmt: skip
        began_s, opened_before = time.monotonic(), self._sum("opened")
        columns = (TextColumn("{task.description}"), BarColumn(), TextColumn("{task.completed} of {task.total} states"))
        with (
            tempfile.TemporaryDirectory(prefix="amibox-crash-", dir=memory()) as scratch,
            Progress(*columns, TimeRemainingColumn(), console=self._console) as progress,
        ):
            task = progress.add_task("cutting the power", total=states, completed=self._sum("distinct"))
            context = multiprocessing.get_context("fork")
            with ProcessPoolExecutor(self._jobs, context, _begin, (scratch, os.getpid())) as pool:
                barren = 0
                while self._sum("distinct") < states and barren < BARREN_ROUNDS:
                    before = self._sum("distinct")
                    for unit, tally in pool.map(_work, list(self._round())):
                        self._add(unit, tally)
                        progress.update(task, completed=self._sum("distinct"))
                        if self._sum("distinct") >= states:
                            break
                    barren = barren + 1 if self._sum("distinct") == before else 0
        if opened := self._sum("opened") - opened_before:
            rate = opened / (time.monotonic() - began_s)
            self._console.print(f"{rate:.0f} states opened and judged a second, {self._jobs} processes")
        good = self._report()
        return 0 if self._weaknesses() and good else 1

    def _round(self) -> Iterator[_Unit]:
        """The next round of this seed, less what is done of it."""
        done = self._totals["done"].setdefault(str(self._seed), 0)
        units = [
            (script, cuts[first : first + CHUNK_CUTS])
            for script, recording in _Work.recordings.items()
            for cuts in (recording.cuts(),)
            for first in range(0, len(cuts), CHUNK_CUTS)
        ]
        number, begin = divmod(done, len(units))
        first = number == 0
        plan = Plan(self._seed * 1_000_000 + number, FIRST_DRAWS if first else DRAWS, telling=first)
        for place in range(begin, len(units)):
            yield _Unit(units[place][0], done + place - begin, tuple(units[place][1]), plan)

    def _add(self, unit: _Unit, tally: Tally) -> None:
        script, seen = self._totals["scripts"][unit.script], _Work.seen[unit.script]
        new = tally.distinct - seen
        seen |= new
        for name, more in (
            ("built", tally.built),
            ("opened", tally.opened),
            ("distinct", len(new)),
            ("lost", tally.lost),
        ):
            script[name] += more
        for cut, survivors, wrong in tally.failures:
            self._console.print(
                f"LOST {unit.script}:{cut}:{survivors} {wrong}"
                f" | python -m sim crash-states --replay '{unit.script}:{cut}:{survivors}'",
                markup=False,
            )
        with (self._folder / f"seen-{unit.script}").open("ab") as file:
            file.write(b"".join(number.to_bytes(8, "big") for number in new))
        self._totals["done"][str(self._seed)] = unit.number + 1
        fresh = self._folder / f"{TOTALS}.tmp"
        fresh.write_text(json.dumps(self._totals, indent=1) + "\n")
        fresh.replace(self._folder / TOTALS)

    def _load(self, script: str) -> set[int]:
        path = self._folder / f"seen-{script}"
        data = path.read_bytes() if path.exists() else b""
        return {int.from_bytes(data[at : at + 8], "big") for at in range(0, len(data), 8)}

    def _sum(self, name: str) -> int:
        return sum(int(script[name]) for script in self._totals["scripts"].values())

    def _report(self) -> bool:
        for name, script in self._totals["scripts"].items():
            self._console.print(
                f"{name:9} {script['operations']:5} operations {script['cuts']:5} cuts {script['built']:8} states built"
                f" {script['distinct']:8} distinct {script['lost']:5} lost"
            )
        self._console.print(
            f"{self._sum('distinct')} distinct states of {self._sum('built')} built, {self._sum('lost')} lost something"
        )
        return self._sum("lost") == 0

    def _weaknesses(self) -> bool:
        """Look at each weakness; True if each lost something."""
        good, weakened = True, self._totals.setdefault("weakened", {})
        for weakness, (what, _) in WEAKNESSES.items():
            if weakness == "none":
                continue
            recording = recording_of(self._folder, WEAK_SCRIPT, weakness)
            with tempfile.TemporaryDirectory(prefix="amibox-crash-", dir=memory()) as directory:
                plan = Plan(self._seed, FIRST_DRAWS)
                tally = examine(recording, recording.cuts()[::4], plan, set(), Path(directory))
            good &= tally.lost > 0
            self._console.print(f"weakened: {what}: {tally.lost} of {len(tally.distinct)} lost something")
            weakened[weakness] = {"lost": tally.lost, "distinct": len(tally.distinct)}
        (self._folder / TOTALS).write_text(json.dumps(self._totals, indent=1) + "\n")
        return good


def _begin(scratch: str, parent: int) -> None:
    """Give a worker its own directory."""
    die_with(parent)
    _Work.directory = Path(tempfile.mkdtemp(dir=scratch))


def _work(unit: _Unit) -> tuple[_Unit, Tally]:
    seen = _Work.seen[unit.script]
    return unit, examine(_Work.recordings[unit.script], unit.cuts, unit.plan, seen, _Work.directory)


def _replay(folder: Path, state: tuple[str, int, Survivors], console: Console) -> int:
    name, cut, survivors = state
    script, _, weakness = name.partition("/")
    directory = folder / "replayed"
    directory.mkdir(parents=True, exist_ok=True)
    recording = recording_of(folder, script, weakness or "none")
    lines, wrong = replay(recording, cut, survivors, directory)
    for line in lines:
        console.print(line, markup=False)
    console.print(f"LOST: {wrong}" if wrong else "nothing is lost", markup=False)
    return 1 if wrong else 0


def _code() -> str:
    """What the recordings and verdicts hang on."""
    root, found = Path(__file__).parents[2], sha256()
    for room in ("onboard", "cloud_sync/documents", "sim/crash"):
        for path in sorted((root / room).rglob("*.py")):
            if path != Path(__file__):
                found.update(path.read_bytes())
    return found.hexdigest()[:16]


def memory() -> str | None:
    """A file system in memory, if there is one: nothing here need outlive a power cut."""
    return "/dev/shm" if Path("/dev/shm").is_dir() else None  # noqa: S108 - temporary folders are made in it
