"""Setting up: pinned packages, and a clear word where something is missing."""

from __future__ import annotations

import re
import shutil
import subprocess
import tomllib
from datetime import UTC, datetime
from importlib.metadata import distributions
from pathlib import Path

import pytest

from onboard.__main__ import BUILD_S
from tests.conftest import ROOT

NOT_OURS = {"amibox", "pip", "setuptools"}
"""Ourselves, and what comes with a virtual environment."""


def normal(name: str) -> str:
    return re.sub(r"[-_.]+", "-", name).lower()


def pins() -> dict[str, str]:
    lines = (ROOT / "constraints.txt").read_text().splitlines()
    pairs = [re.fullmatch(r"([\w.-]+)==([\w.]+)", line) for line in lines]
    assert all(pairs), "constraints.txt holds lines of the form name==version and nothing else"
    return {normal(pair[1]): pair[2] for pair in pairs if pair}


@pytest.fixture
def clone(tmp_path: Path) -> Path:
    for file in ("Makefile", "pyproject.toml", "constraints.txt"):
        shutil.copy(ROOT / file, tmp_path)
    return tmp_path


def make_setup(clone: Path, python: Path | str) -> subprocess.CompletedProcess[str]:
    command = ["make", "setup", f"PYTHON={python}"]
    return subprocess.run(command, cwd=clone, capture_output=True, text=True, check=False)


def test_every_package_that_is_installed_is_pinned() -> None:
    installed = {normal(each.metadata["Name"]): each.version for each in distributions()}
    pinned = pins()
    wrong = {name: version for name, version in installed.items() - pinned.items() if name not in NOT_OURS}
    assert not wrong, "not the versions of constraints.txt"


@pytest.mark.parametrize(
    ("python", "said", "line"),
    [
        # Answers "no" to the version, the second to `import ensurepip`; the first is no Python at all.
        (None, "There is no", "sudo apt install python3 python3-venv"),
        (
            'case "$*" in *version_info*) exit 1;; -V) echo Python 3.9.2;; esac',
            "is Python 3.9.2",
            "python3 python3-venv",
        ),
        ('case "$*" in *ensurepip*) exit 1;; esac', "can't make virtual environments", "sudo apt install python3-venv"),
    ],
)
def test_setup_names_the_apt_line_for_what_is_missing(clone: Path, python: str | None, said: str, line: str) -> None:
    stand_in = clone / "python"
    if python is not None:
        stand_in.write_text(f"#!/bin/sh\n{python}\n")
        stand_in.chmod(0o755)
    done = make_setup(clone, stand_in)
    assert done.returncode != 0
    assert said in done.stdout
    assert line in done.stdout
    assert not (clone / ".venv").exists()


def test_setup_does_nothing_when_nothing_changed(clone: Path) -> None:
    # A Python whose environments hold a pip that does nothing.
    stand_in = clone / "python"
    stand_in.write_text(
        '#!/bin/sh\ncase "$*" in *"-m venv"*) mkdir -p .venv/bin && cp /bin/true .venv/bin/python;; esac\n'
    )
    stand_in.chmod(0o755)
    assert "constraints.txt" in make_setup(clone, stand_in).stdout
    assert "constraints.txt" not in make_setup(clone, stand_in).stdout
    (clone / ".venv" / ".done").unlink()
    assert "constraints.txt" in make_setup(clone, stand_in).stdout


def test_the_release_is_the_same_everywhere() -> None:
    """The changelog's newest version and date are the package's, and the date below which no clock is believed."""
    changelog = (ROOT / "CHANGELOG.md").read_text()
    newest = re.search(r"^## \[(\d+\.\d+\.\d+)\] - (\d{4}-\d\d-\d\d)$", changelog, re.MULTILINE)
    assert newest is not None
    project = tomllib.loads((ROOT / "pyproject.toml").read_text())["project"]
    assert project["version"] == newest[1]
    assert datetime.fromtimestamp(BUILD_S, UTC).date().isoformat() == newest[2]
