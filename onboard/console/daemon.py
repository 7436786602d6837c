"""The daemon as the console sees it: alive, hung or dead, each known within seconds; and what is known without it."""

from __future__ import annotations

import contextlib
import json
import os
import subprocess
import time
from enum import StrEnum
from pathlib import Path
from typing import Any, Final

from onboard.control import ask
from onboard.rows import rows_of_dead

ASK_S: Final = 3.0
"""A daemon that has not answered by then hangs: its step may take a second or two on a slow card."""
RUN_S: Final = 5.0
LOG_LINES_MAX: Final = 200
UNITS: Final = ("amibox", "bluetooth", "systemd-networkd")
NOTES_MAX: Final = 200
"""So many events wait for a daemon that is dead; the newest give way: the first failures say most."""


class Health(StrEnum):
    """How the daemon is."""

    ALIVE = "alive"
    HUNG = "hung"
    DEAD = "dead"


class Silent(Exception):  # noqa: N818 - what happened
    """The daemon did not answer. What was asked for may have happened all the same if it ``hung``."""

    def __init__(self, health: Health) -> None:
        super().__init__(health.value)
        self.health = health


class Daemon:
    """Asks the daemon at ``socket``; ``folder`` keeps what is to be told it later, ``store`` is its database."""

    def __init__(self, socket: Path, folder: Path, store: Path) -> None:
        self._socket = socket
        self._notes = folder / "notes.jsonl"
        self._store = store

    def ask(self, command: str, timeout_s: float = ASK_S, **values: object) -> dict[str, Any]:
        """Return the answer. Raises ``Silent``, or ``ValueError`` with the daemon's reason for a refusal."""
        try:
            answer = ask(
                self._socket,
                {"command": command, "asked_s": time.clock_gettime(time.CLOCK_BOOTTIME), **values},
                timeout_s,
            )
        except ConnectionError as error:
            health = Health.HUNG if isinstance(error.__cause__, TimeoutError) else Health.DEAD
            raise Silent(health) from error
        if "error" in answer:
            raise ValueError(str(answer["error"]))
        return answer

    def health(self) -> Health:
        """Ask how it is."""
        try:
            self.ask("status")
        except Silent as silent:
            return silent.health
        except ValueError:
            pass
        return Health.ALIVE

    def note(self, action: str, by: str, detail: str = "") -> None:
        """Have this written down: by the daemon, or on disk until one is alive."""
        note = {"action": action, "by": by, "detail": detail[:100]}
        try:
            self.hand_over()
            self._tell(note)
        except (Silent, ValueError):
            self._keep(note)

    def hand_over(self) -> int:
        """Give a daemon what was kept for it; return how much. Raises ``Silent`` if none answers; nothing is lost."""
        handed = 0
        while notes := self._kept():
            # One that it does not understand would stop those behind it.
            with contextlib.suppress(ValueError):
                self._tell(notes[0])
            # After the daemon took it: a cut in between doubles it, and loses none.
            self._write(notes[1:])
            handed += 1
        return handed

    def rows(self, last: int) -> list[dict[str, Any]]:
        """Return the last rows of the store: the daemon's, or the file's where it is dead. Raises ``OSError``."""
        try:
            return list(self.ask("rows", last=last)["rows"])
        except Silent as silent:
            if silent.health is Health.HUNG:
                raise OSError("locked by the daemon that hangs") from silent
            return rows_of_dead(self._store, last)

    def _tell(self, note: dict[str, str]) -> None:
        self.ask("wrote", ASK_S, **note)

    def _kept(self) -> list[dict[str, str]]:
        try:
            lines = self._notes.read_text().splitlines()
            return [{name: str(value) for name, value in json.loads(line).items()} for line in lines]
        except (OSError, ValueError, AttributeError):
            return []

    def _keep(self, note: dict[str, str]) -> None:
        kept = self._kept()
        if len(kept) < NOTES_MAX:
            self._write([*kept, note])

    def _write(self, notes: list[dict[str, str]]) -> None:
        if notes:
            write_durably(self._notes, "".join(json.dumps(each) + "\n" for each in notes).encode())
        else:
            self._notes.unlink(missing_ok=True)


def write_durably(path: Path, data: bytes) -> None:
    """Replace a file by one rename, on disk when this returns; readable by its owner alone."""
    path.parent.mkdir(mode=0o700, parents=True, exist_ok=True)
    fresh = path.with_name(path.name + ".new")
    with os.fdopen(os.open(fresh, os.O_WRONLY | os.O_CREAT | os.O_TRUNC, 0o600), "wb") as file:
        file.write(data)
        file.flush()
        os.fsync(file.fileno())
    fresh.rename(path)


def say_system(*command: str) -> str:
    """Run one of the system's own programs for at most ``RUN_S``; return what it said, or why it could not."""
    try:
        done = subprocess.run(command, capture_output=True, timeout=RUN_S, check=False)  # noqa: S603 - fixed programs
    except (OSError, subprocess.TimeoutExpired) as error:
        return f"{command[0]}: {error}"
    return (done.stdout or done.stderr).decode(errors="replace").strip()


def service(unit: str = "amibox") -> str:
    """Return what systemd says of a unit: state, result, restarts."""
    wanted = "--property=ActiveState,SubState,Result,NRestarts"
    said = say_system("systemctl", "show", wanted, f"{unit}.service")
    return ", ".join(said.split()) if "=" in said else said


def journal(lines: int, units: tuple[str, ...] = UNITS) -> list[str]:
    """Return the last lines that the box's units logged."""
    which = [word for unit in units for word in ("--unit", unit)]
    count = str(max(1, min(lines, LOG_LINES_MAX)))
    return say_system("journalctl", "--no-pager", "--output=short", "--lines", count, *which).splitlines()
