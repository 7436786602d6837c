"""``amibox report``: one archive for whoever is asked for help, without secrets and without people.

Works with the daemon running, hung or dead. Everything in it is bounded, and its README says what it is: its sender can
look before it goes.
"""

from __future__ import annotations

import argparse
import contextlib
import json
import os
import platform
import re
import shutil
import sqlite3
import subprocess
import sys
import time
import zipfile
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from importlib.metadata import version
from pathlib import Path
from typing import Any, Final

from onboard.config import BoxConfig
from onboard.config_town import TOWN
from onboard.control import ask
from onboard.scrub import known_of, scrub, scrub_values
from onboard.store_open import DATABASE

HELP: Final = "make an archive for whoever is asked for help: no secrets in it, and no people"
PART_MAX: Final = 512 * 1024
"""Characters of one file; of more, the last ones."""
JOURNAL_LINES: Final = 3000
RUN_S: Final = 20.0
UNITS: Final = ("amibox*", "bluetooth.service", "systemd-networkd.service")
OURS: Final = re.compile(
    r"(?i)\bcan\d|slcan|usb|tty|gpio|i2c|spi|mmc|ext4|voltage|throttl|thermal|watchdog|bluetooth|hci|oom|out of memory"
)
SECTION_LEFT_OUT: Final = ("station", "gnss", "rental", "trip")
"""Of the status: where the car is and who may be in it."""

README: Final = """\
AmiBox {version}, made {date} on this box.
Files of this archive, each of at most {most} characters (the last ones):

{files}

Left out, wherever it was found: keys, passwords, PINs, people and their phones and cards, bookings, positions.
Look before you send it: these are all plain text. What was taken out reads {left_out}.

Avant d'envoyer cette archive, vous pouvez la lire : ce ne sont que des textes. Clés, mots de passe, codes,
personnes, téléphones, cartes, réservations et positions en ont été retirés.
"""

Run = Callable[[Sequence[str]], str]
"""Runs a program of the system; returns what it said, or why it could not."""


@dataclass(frozen=True, slots=True)
class Place:
    """Where things are on this box."""

    config: Path
    folder: Path
    socket: Path


def run_program(words: Sequence[str]) -> str:
    """Run one of the system's programs, and give it up after ``RUN_S``."""
    try:
        done = subprocess.run(  # noqa: S603 - names and arguments are our own
            words, capture_output=True, timeout=RUN_S, check=False, env={**os.environ, "LC_ALL": "C.UTF-8"}
        )
    except (OSError, subprocess.TimeoutExpired) as error:
        return f"{words[0]}: {error}\n"
    return (done.stdout + done.stderr).decode(errors="replace")


def gather(place: Place, run: Run = run_program) -> dict[str, tuple[str, str]]:
    """Return the archive's files: by name what each is, and its text. Whatever is missing says so in its place."""
    known = known_of(place.folder, place.config.parent.glob("*password*"))
    found = {
        "versions.txt": ("program, system, machine", _versions(run)),
        "status.json": ("what amibox status knows; nobody's rental, no place", _status(place.socket, known)),
        "box.toml": ("the technician's configuration", _text(place.config)),
        TOWN: ("the town hall's part of it", _text(place.folder / TOWN)),
        "units.txt": ("the services, and how often they were started", _units(run)),
        "journal.txt": ("what they said", run(_journal(*(word for unit in UNITS for word in ("-u", unit))))),
        "kernel.txt": ("what the kernel said of our devices", _kernel(run)),
        "store.json": ("how many records of which kind; none of them", _store(place.folder)),
        "machine.txt": ("disk, memory, temperature, supply", _machine(place.folder, run)),
    }
    return {
        # Status and counts are scrubbed by value: their numbers are no one's.
        name: (what, text[-PART_MAX:] if name.endswith(".json") else scrub(text[-PART_MAX:], known))
        for name, (what, text) in found.items()
    }


def write(out: Path, files: dict[str, tuple[str, str]], now_s: float) -> None:
    """Write the archive. FileExistsError: nothing is overwritten."""
    date = time.strftime("%Y-%m-%d %H:%M UTC", time.gmtime(now_s))
    listed = "\n".join(f"  {name:<14} {what}" for name, (what, _) in files.items())
    text = README.format(version=version("amibox"), date=date, most=PART_MAX, files=listed, left_out="[left out]")
    with os.fdopen(os.open(out, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o600), "wb") as file:
        with zipfile.ZipFile(file, "w", zipfile.ZIP_DEFLATED) as archive:
            archive.writestr("README.txt", text)
            for name, (_, content) in files.items():
                archive.writestr(name, content)
        file.flush()
        os.fsync(file.fileno())


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Describe the arguments of ``amibox report``."""
    box = BoxConfig()
    parser.add_argument("--out", type=Path, metavar="FILE", help="archive to write (default: amibox-report-DATE.zip)")
    parser.add_argument("--config", type=Path, default=Path("/etc/amibox/box.toml"), help="(default: %(default)s)")
    parser.add_argument("--directory", type=Path, default=box.data_dir, help="the box's data (default: %(default)s)")
    parser.add_argument("--socket", type=Path, default=box.socket, help="the daemon's (default: %(default)s)")


def run(args: argparse.Namespace) -> int:
    """Make the archive; return the exit code."""
    now_s = time.time()
    out: Path = args.out or Path(time.strftime("amibox-report-%Y%m%d-%H%M.zip", time.gmtime(now_s)))
    try:
        write(out, gather(Place(args.config, args.directory, args.socket)), now_s)
    except OSError as error:
        sys.stderr.write(f"amibox report: {error}. Nothing was written; another place: --out FILE\n")
        return 1
    sys.stdout.write(f"{out} written, {out.stat().st_size // 1024 + 1} KiB. Look into it before you send it.\n")
    if not os.access(args.directory, os.R_OK):
        sys.stdout.write("The box's data could not be read: run it with sudo for the whole of it.\n")
    return 0


def _journal(*units: str) -> list[str]:
    return ["journalctl", "--no-pager", "-o", "short-iso", "-n", str(JOURNAL_LINES), *units]


def _versions(run: Run) -> str:
    name = platform.uname()
    model = _text(Path("/proc/device-tree/model")).rstrip("\0\n")
    lines = (
        f"amibox {version('amibox')}",
        f"python {platform.python_version()}, sqlite {sqlite3.sqlite_version}",
        f"{name.system} {name.release} {name.machine}",
        platform.freedesktop_os_release().get("PRETTY_NAME", "another system"),
        model,
        run(["bluetoothctl", "--version"]).strip(),
    )
    return "\n".join(lines) + "\n"


def _status(socket: Path, known: set[str]) -> str:
    try:
        told: dict[str, Any] = ask(socket, {"command": "status"}, 5.0)
    except (ConnectionError, OSError) as error:
        told = {"not_asked": str(error)}
    kept = {name: value for name, value in told.items() if name not in SECTION_LEFT_OUT}
    return json.dumps(scrub_values(kept, known), indent=1, sort_keys=True) + "\n"


def _units(run: Run) -> str:
    shown = "-p", "Id,ActiveState,SubState,Result,NRestarts,ActiveEnterTimestamp,ExecMainStatus,MemoryCurrent"
    return (
        run(["systemctl", "show", "--no-pager", *shown, *UNITS]) + "\n" + run(["systemctl", "--failed", "--no-pager"])
    )


def _kernel(run: Run) -> str:
    return "".join(f"{line}\n" for line in run(_journal("-k")).splitlines() if OURS.search(line))


def _store(folder: Path) -> str:
    database = folder / DATABASE
    told: dict[str, Any] = {
        path.name: f"{path.stat().st_size / 1e6:.2f} MB" for path in sorted(folder.glob("store*")) if path.is_file()
    }
    if database.exists():
        try:
            with contextlib.closing(
                sqlite3.connect(f"{database.resolve().as_uri()}?mode=ro", uri=True, timeout=1)
            ) as db:
                told["records"] = dict(db.execute("SELECT kind, COUNT(*) FROM events GROUP BY kind ORDER BY kind"))
        except sqlite3.Error as error:
            told["records"] = f"not read ({error}): the daemon holds it; its numbers are in status.json"
    return json.dumps(told, indent=1) + "\n"


def _machine(folder: Path, run: Run) -> str:
    lines = []
    for path in (Path("/"), folder):
        with contextlib.suppress(OSError):
            usage = shutil.disk_usage(path)
            lines.append(f"{path}: {usage.free / 1e6:.0f} MB of {usage.total / 1e6:.0f} MB free")
    for line in _text(Path("/proc/meminfo")).splitlines()[:5]:
        name, _, kib = line.removesuffix(" kB").partition(":")
        lines.append(f"{name}: {int(kib) // 1000 if kib.strip().isdigit() else kib} MB")
    lines.append(f"load {_text(Path('/proc/loadavg')).strip()}")
    lines += [f"{zone.parent.name}: {_text(zone).strip()} m°C" for zone in Path("/sys/class/thermal").glob("*/temp")]
    lines += [run(["uptime"]).strip(), run(["vcgencmd", "get_throttled"]).strip(), run(["mount"])]
    return "\n".join(lines)


def _text(path: Path) -> str:
    try:
        with path.open("rb") as file:
            return file.read(PART_MAX).decode(errors="replace")
    except OSError as error:
        return f"{path}: {error.strerror}\n"
