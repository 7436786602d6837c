"""Whether the second guest must run as well: what guests are made of has changed lately."""

from __future__ import annotations

import subprocess
from pathlib import Path
from typing import Final

from sim.bench.image import ROOT

INPUTS: Final = (
    "constraints.txt",
    "pyproject.toml",
    "systemd",
    "sim/bench",
)
RECENT_S: Final = 86_400
"""A day of the project's own history, ended by its newest commit: one change and what was mended after it."""


def recent_change(root: Path = ROOT) -> str | None:
    """Return the newest commit that changed ``INPUTS``, if it is recent (or the history is not there to tell)."""
    newest = _log(root)
    changed = _log(root, "--", *INPUTS)
    if not newest or not changed:
        return "unknown: there is no history here"
    if _git(root, "status", "--porcelain", "--", *INPUTS):
        return "what is not committed yet"
    if int(newest.split()[0]) - int(changed.split()[0]) >= RECENT_S:
        return None
    return changed.partition(" ")[2]


def _log(root: Path, *arguments: str) -> str:
    # By first parents: a change counts from its merge, not from when somebody wrote it on a branch.
    return _git(root, "log", "-1", "--first-parent", "-m", "--no-patch", "--format=%ct %h %s", *arguments)


def _git(root: Path, *arguments: str) -> str:
    try:
        done = subprocess.run(["git", *arguments], cwd=root, capture_output=True, text=True, check=False)  # noqa: S603, S607 -- our own words
    except FileNotFoundError:
        return ""  # no git here
    return done.stdout.strip() if done.returncode == 0 else ""
