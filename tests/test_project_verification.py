"""``docs/verification.md`` promises tests: they exist, none is skipped, and a run says what it left out."""

from __future__ import annotations

import os
import re
import shutil
import subprocess
import sys
import tomllib
from pathlib import Path

import pytest

from tests.conftest import ROOT, SETS, promised_tests

TESTS = """
import pytest
def test_runs(): pass
def test_skips(): pytest.skip("no reason")
def test_recorded(recordings): pass
@pytest.mark.system
def test_needs_programs(): pass
"""


def run_pytest(folder: Path, *arguments: str, **environment: str) -> subprocess.CompletedProcess[str]:
    kept = {name: value for name, value in os.environ.items() if not name.startswith(("PYTEST", "CI", "AMIBOX"))}
    command = [sys.executable, "-m", "pytest", "-p", "no:cacheprovider", *arguments]
    return subprocess.run(
        command,
        cwd=folder,
        env=kept | environment,
        capture_output=True,
        text=True,
        check=False,
        stdin=subprocess.DEVNULL,
    )


@pytest.fixture
def project(tmp_path: Path) -> Path:
    """A project of four tests with our conftest, nothing promised and the recordings there."""
    (tmp_path / "docs").mkdir()
    (tmp_path / "docs" / "verification.md").write_text("| 1 it runs | `tests/test_it.py::test_runs` | |")
    (tmp_path / "tests").mkdir()
    (tmp_path / "data").mkdir()
    shutil.copy(ROOT / "tests" / "conftest.py", tmp_path / "tests")
    (tmp_path / "tests" / "test_it.py").write_text(TESTS)
    shutil.copy(ROOT / "pyproject.toml", tmp_path)
    return tmp_path


def test_every_promised_test_exists() -> None:
    # CI: with it no test is left out for want of recordings.
    existing = set()
    # Two of the bench's guests: what the one can't run, the other can.
    for folder, release in (("tests", "12"), ("tests/hil", "12-arm64")):
        done = run_pytest(ROOT, "--collect-only", "-q", "-p", "no:xdist", folder, CI="true", RELEASE=release)
        assert done.returncode == 0, done.stdout[-4000:]
        chosen = done.stdout.partition("can't run")[0]
        existing |= {line.partition("[")[0] for line in chosen.splitlines() if "::" in line}
    promised = promised_tests()
    assert len(promised) > 20
    assert not promised - existing


def test_every_row_names_a_test_and_the_change_that_makes_it_fail() -> None:
    page = (ROOT / "docs" / "verification.md").read_text()
    rows = [line for line in page.splitlines() if line.startswith("|") and not re.match(r"\|\s*(-|deliverable)", line)]
    assert len(rows) > 20
    lacking = [row for row in rows if not re.fullmatch(r"\|[^|]+\| `tests/[\w/]+\.py::[\w:]+` \|[^|]*\w[^|]*\|", row)]
    assert not lacking


@pytest.mark.parametrize("workers", ["0", "1"])
def test_a_skipped_promise_fails_the_run(project: Path, workers: str) -> None:
    kept = run_pytest(project, "-n", workers, AMIBOX_DATA="data")
    assert kept.returncode == 0, kept.stdout
    with (project / "docs" / "verification.md").open("a") as page:
        page.write("\n| 2 it skips | `tests/test_it.py::test_skips` | |")
    broken = run_pytest(project, "-n", workers, AMIBOX_DATA="data")
    assert broken.returncode == 1
    assert "SKIPPED although docs/verification.md rests on it: tests/test_it.py::test_skips" in broken.stdout


def test_a_run_names_the_sets_it_left_out(project: Path) -> None:
    everything = run_pytest(project, AMIBOX_DATA="data")
    assert "sets that did not run" not in everything.stdout
    partial = run_pytest(project, "-m", "not system", AMIBOX_DATA="nowhere")
    assert partial.returncode == 0
    assert f"system: {SETS['system']}" in partial.stdout
    assert "recordings: put them in nowhere" in partial.stdout
    assert "1 passed, 1 skipped, 2 deselected" in partial.stdout


def test_ci_does_without_no_recording(project: Path) -> None:
    done = run_pytest(project, CI="true", AMIBOX_DATA="nowhere")
    assert done.returncode == 1
    assert "no recordings at nowhere" in done.stdout


def test_each_set_has_its_marker_and_its_command() -> None:
    pytest_options = tomllib.loads((ROOT / "pyproject.toml").read_text())["tool"]["pytest"]["ini_options"]
    assert {marker.partition(":")[0] for marker in pytest_options["markers"]} == set(SETS)
    makefile = (ROOT / "Makefile").read_text()
    for name, how in SETS.items():
        target = how.rpartition("make ")[2]
        assert f"\n{target}: setup" in makefile
        ci = re.search(r"(?m)^ci: (.*) ##", makefile)
        assert ci
        assert target in ci[1].split(), name
