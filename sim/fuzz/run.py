"""``python -m sim fuzz``: a long run at one door, or at all. It goes on where it stopped, and adds up."""

from __future__ import annotations

import argparse
import fcntl
import hashlib
import importlib.util
import json
import logging
import subprocess
import sys
import tempfile
import traceback
from collections.abc import Sequence
from pathlib import Path
from typing import Any, Final

from sim.fuzz.door import Door, Harness, opened, worst_s
from sim.fuzz.doors import ALL
from sim.long_run import positive

FOLDER: Final = Path("build/fuzz")
TOTALS: Final = "totals.json"
FIGURES: Final = "figures.json"
GOAL: Final = 100_000_000
OPENAPI: Final = "openapi"
"""The one door that schemathesis knocks at: no bytes, but requests by the schemas."""
LOG_LINES: Final = 12
EPILOG: Final = """exit codes: 0 nothing found; 1 a crash, or an input over its door's bound (each is kept, and a line
that replays it is printed), or the run broke off; 2 wrong arguments; 130 stopped by Ctrl-C: run it again to go on.
Executions, corpora and what was found stand in the folder, and add up."""


def main(argv: list[str]) -> int:
    """Run, or replay one input; return the exit code."""
    parser = argparse.ArgumentParser(
        prog="python -m sim fuzz",
        description="Coverage-guided fuzzing of every door for bytes (docs/reliability.md).",
        epilog=EPILOG,
    )
    parser.add_argument("door", choices=[*ALL, OPENAPI, "all"], help="which door")
    parser.add_argument("--seconds", type=positive, default=60, help="for each door (default: %(default)s)")
    parser.add_argument("--folder", type=Path, default=FOLDER, help="corpora and totals (default: %(default)s)")
    parser.add_argument("--replay", metavar="INPUT", help="one input, a file or hexadecimal: what comes of it")
    args = parser.parse_args(argv)
    logging.disable()
    if args.replay:
        if args.door not in ALL:
            parser.error("--replay wants a door of its own")
        file = Path(args.replay)
        try:
            data = file.read_bytes() if file.exists() else bytes.fromhex(args.replay)
        except (ValueError, OSError):
            parser.error(f"--replay {args.replay!r}: there is no such file, and it is no hexadecimal")
        return _replay(ALL[args.door], data)
    missing = [name for name in ("atheris", "schemathesis") if importlib.util.find_spec(name) is None]
    if missing:
        sys.stderr.write(f"fuzz: {' and '.join(missing)} missing. Use: make fuzz (it installs the extra [fuzz])\n")
        return 1
    names = [*ALL, OPENAPI] if args.door == "all" else [args.door]
    codes = [_schemas(args) if name == OPENAPI else _guided(ALL[name], args) for name in names]
    return max(codes)


def _schemas(args: argparse.Namespace) -> int:
    from sim.fuzz.schema import ask  # noqa: PLC0415 - wants the extra

    file = args.folder / TOTALS
    before = json.loads(file.read_text()).get(OPENAPI, {}).get("executions", 0) if file.exists() else 0
    with tempfile.TemporaryDirectory() as own:
        asked = ask(Path(own), args.folder / OPENAPI, args.seconds, first_seed=before)
    for each in asked.found:
        _say(each)
    _add_up(args.folder, OPENAPI, asked.requests, asked.seconds, 0.0, asked.found)
    return 1 if asked.found else 0


def _guided(door: Door, args: argparse.Namespace) -> int:
    folder: Path = args.folder / door.name
    for part in ("corpus", "crashes", "slow"):
        (folder / part).mkdir(parents=True, exist_ok=True)
    for seed in door.seeds():
        (folder / "corpus" / hashlib.sha256(seed).hexdigest()[:16]).write_bytes(seed)
    (folder / FIGURES).unlink(missing_ok=True)
    command = [sys.executable, "-m", "sim.fuzz.guided", door.name, str(folder), str(args.seconds)]
    with (folder / "log").open("wb") as log:
        child = subprocess.Popen(command, stdout=log, stderr=log)  # noqa: S603 - our own
        try:
            code = child.wait()
        finally:
            if child.poll() is None:
                child.wait()  # Ctrl-C reached it too, and its figures count
            figures = _figures(folder)
    with opened(door) as harness:
        crashed = [_line(door, file) for file in sorted((folder / "crashes").iterdir()) if _crashes(harness, file)]
        slowest_s, slow = _slowest(door, harness, folder / "slow")
    _add_up(args.folder, door.name, figures["executions"], figures["seconds"], slowest_s, crashed)
    for line in crashed + slow:
        _say(line)
    if code and not crashed:
        _say(f"{door.name}: the run broke off (exit code {code}). The end of {folder}/log:")
        _say("\n".join((folder / "log").read_text(errors="replace").splitlines()[-LOG_LINES:]))
    return 1 if code or crashed or slow else 0


def _figures(folder: Path) -> dict[str, Any]:
    file = folder / FIGURES
    found: dict[str, Any] = json.loads(file.read_text()) if file.exists() else {"executions": 0, "seconds": 0.0}
    return found


def _crashes(harness: Harness, file: Path) -> bool:
    """Tell whether a kept input still crashes; one that does not is no crash any more, and goes."""
    try:
        harness(file.read_bytes())
    except Exception:  # noqa: BLE001 - that is the question
        return True
    if file.name.startswith(("timeout-", "oom-", "slow-unit-")):
        return file.name.startswith(("timeout-", "oom-"))
    file.unlink()
    return False


def _slowest(door: Door, harness: Harness, folder: Path) -> tuple[float, list[str]]:
    """Measure the slow inputs without the fuzzer's instruments; keep those over the bound, and the slowest."""
    measured = []
    for file in sorted(folder.iterdir()):
        try:
            measured.append((worst_s(harness, file.read_bytes(), door.worst_s), file))
        except Exception:  # noqa: BLE001 - it is told as a crash
            file.unlink()
    measured.sort(reverse=True)
    over = [file for took_s, file in measured if took_s > door.worst_s]
    for _, file in measured[8:]:
        if file not in over:
            file.unlink()
    lines = [f"slower than {door.worst_s * 1000:.0f} ms: {_line(door, file)}" for file in over]
    return (measured[0][0] if measured else 0.0), lines


def _line(door: Door, file: Path) -> str:
    return f"python -m sim fuzz {door.name} --replay {file}"


def _add_up(folder: Path, name: str, executions: int, seconds: float, slowest_s: float, found: Sequence[str]) -> None:
    """Add a run to the totals, and say both. Runs at other doors may end at the same time."""
    folder.mkdir(parents=True, exist_ok=True)
    with (folder / "lock").open("wb") as lock:
        fcntl.flock(lock, fcntl.LOCK_EX)
        totals = _added(folder, name, executions, seconds, slowest_s, found)
    so_far, short = totals["executions"], max(0, GOAL - totals["executions"])
    bound = f", the slowest {slowest_s * 1000:.2f} of {ALL[name].worst_s * 1000:.0f} ms" if name in ALL else ""
    _say(
        f"{name}: {executions:,} executions, {executions / max(seconds, 0.1):,.0f} a second{bound}; {len(found)} found."
        f" In all {so_far:,}, {short:,} short of {GOAL:,}; corpus {totals['corpus']:,}"
    )


def _added(
    folder: Path, name: str, executions: int, seconds: float, slowest_s: float, found: Sequence[str]
) -> dict[str, Any]:
    file = folder / TOTALS
    totals: dict[str, Any] = json.loads(file.read_text()) if file.exists() else {}
    held = totals.get(name, {"executions": 0, "seconds": 0.0, "worst_ms": 0.0})
    corpus = folder / name / "corpus"
    totals[name] = {
        "executions": held["executions"] + executions,
        "seconds": round(held["seconds"] + seconds, 1),
        "worst_ms": round(max(held["worst_ms"], slowest_s * 1000), 2),
        "corpus": len(list(corpus.iterdir())) if corpus.exists() else 0,
        "found": list(found),
    }
    fresh = file.with_name(TOTALS + ".new")
    fresh.write_text(json.dumps(totals, indent=1, sort_keys=True))
    fresh.replace(file)
    kept: dict[str, Any] = totals[name]
    return kept


def _replay(door: Door, data: bytes) -> int:
    """Feed one input; say what came of it."""
    try:
        with opened(door) as harness:
            took_s = worst_s(harness, data, door.worst_s)
    except Exception:  # noqa: BLE001 - that is what is to be shown
        _say(traceback.format_exc().rstrip())
        return 1
    over = took_s > door.worst_s
    _say(f"taken, or refused as documented, in {took_s * 1000:.2f} ms; {door.worst_s * 1000:.0f} ms are allowed")
    return 1 if over else 0


def _say(text: str) -> None:
    sys.stdout.write(text + "\n")
    sys.stdout.flush()
