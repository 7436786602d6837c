"""``amibox store copy``: a copy of the database for ``sqlite-utils`` and other tools.

While the daemon runs, it holds the file locked and makes the copy itself, asked through its local socket. When it is
dead, the file is opened read-only here.
"""

from __future__ import annotations

import argparse
import contextlib
import sqlite3
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any, Final

from sqlite_utils import Database

from onboard.store import vacuum_into
from onboard.store_open import DATABASE
from onboard.store_schema import LOCK_WAIT_S, StoreLocked, meaning_of

DEFAULT_DIRECTORY: Final = Path("/var/lib/amibox")

AskDaemon = Callable[[dict[str, Any]], dict[str, Any]]
"""Sends one request to the running daemon and returns its answer; raises ``OSError`` if it does not answer."""

HELP: Final = "copy the database to a new file, with the daemon running or not"


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Describe the arguments of ``amibox store copy``."""
    parser.add_argument("destination", type=Path, help="file to write; must not exist yet")
    parser.add_argument(
        "--directory", type=Path, default=DEFAULT_DIRECTORY, help="the box's data directory (default: %(default)s)"
    )


def run(args: argparse.Namespace, ask_daemon: AskDaemon | None = None) -> int:
    """Copy, say what was done, and return the exit code: 0 done, 1 not done (the reason goes to stderr)."""
    destination: Path = args.destination.resolve()
    try:
        how = copy_store(args.directory / DATABASE, destination, ask_daemon)
    except OSError as error:
        sys.stderr.write(f"amibox store copy: {error}\n")
        return 1
    sys.stdout.write(f"{destination} written {how}\nread it with: sqlite-utils tables {destination} --counts\n")
    return 0


def copy_store(database: Path, destination: Path, ask_daemon: AskDaemon | None) -> str:
    """Copy ``database`` to ``destination``; return how. Raises ``OSError`` with a text for a technician."""
    if destination.exists():
        raise FileExistsError(f"{destination} exists already. Name a new file")
    if not database.exists():
        raise FileNotFoundError(f"no database at {database}. Give the box's data directory with --directory")
    try:
        copy_of_dead(database, destination)
    except StoreLocked as locked:
        if ask_daemon is None:
            raise OSError(
                f"{database} is in use: the daemon runs, or somebody has it open in a database shell. Stop it and"
                " repeat, or leave the shell. Nothing was written"
            ) from locked
        answer = ask_daemon({"command": "store_copy", "destination": str(destination)})
        if "error" in answer:
            raise OSError(
                f"the daemon did not make the copy: {answer['error']}. It may write in its own data directory only"
            ) from locked
        return "by the running daemon"
    return "from the closed database"


def copy_of_dead(database: Path, destination: Path) -> None:
    """Copy a database that nobody has open, and leave it as it is. Raises ``StoreLocked`` or ``OSError``."""
    shared = database.with_name(database.name + "-shm")
    existed = shared.exists()
    try:
        # Read-only: what a crash left in the log is read with it and stays there for the daemon.
        conn = sqlite3.connect(
            f"{database.resolve().as_uri()}?mode=ro", uri=True, isolation_level=None, timeout=LOCK_WAIT_S
        )
        with contextlib.closing(conn):
            db = Database(conn, execute_plugins=False, recursive_triggers=False)
            db.execute("SELECT COUNT(*) FROM sqlite_master").fetchone()
            vacuum_into(db, destination)
    except sqlite3.Error as error:
        meaning = meaning_of(error)
        if isinstance(meaning, StoreLocked):
            raise meaning from error
        raise OSError(f"{database} cannot be copied: {meaning}") from error
    finally:
        if not existed:
            shared.unlink(missing_ok=True)
