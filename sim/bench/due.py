"""Whether the second guest must run as well: what guests are made of has changed lately."""

from __future__ import annotations

import subprocess
from typing import Final

from sim.bench.image import ROOT

INPUTS: Final = (
    "constraints.txt",
    "pyproject.toml",
    "systemd",
    *(f"sim/bench/{name}.py" for name in ("release", "debian", "image", "install")),
)
RECENT_S: Final = 86_400
"""A day of the project's own history, ended by its newest commit: one change and what was mended after it."""


def recent_change() -> str | None:
    """Return the newest commit that changed ``INPUTS``, if it is recent (or the history is not there to tell)."""
    newest = _log()
    changed = _log("--", *INPUTS)
    if not newest or not changed:
        return "unknown: there is no history here"
    if int(newest.split()[0]) - int(changed.split()[0]) >= RECENT_S:
        return None
    return changed.partition(" ")[2]


def _log(*arguments: str) -> str:
    done = subprocess.run(  # noqa: S603 -- our own words
        ["git", "log", "-1", "--format=%ct %h %s", *arguments],  # noqa: S607 -- the machine's git
        cwd=ROOT,
        capture_output=True,
        text=True,
        check=False,
    )
    return done.stdout.strip() if done.returncode == 0 else ""
