"""Fixtures that every test may use, and what a run owes its reader: which sets did not run, and no promise skipped."""

from __future__ import annotations

import logging
import os
import re
from collections.abc import Iterator
from pathlib import Path

import pytest

ROOT = Path(__file__).parent.parent
RECORDINGS = Path(os.environ.get("AMIBOX_DATA", ROOT.parent / "shared" / "data"))
VERIFICATION = ROOT / "docs" / "verification.md"

SETS = {
    "system": "real mosquitto, dbus-daemon, strace, systemd-analyze, OpenSSH and an installed wheel: make test-system",
    "hil": "a Debian guest with the real kernel and its drivers, or a box with wires: make hil",
}
"""Markers of the sets that ``make test`` leaves out: what each needs, and the command that runs it."""

_broken_promises: set[str] = set()


@pytest.fixture(scope="session")
def recordings() -> Path:
    """Folder of real recordings (``can/``, ``nmea/``), outside the project: some may not be copied.

    Without it the tests that want it are a set that did not run, named at the end; in CI they fail.
    """
    if not RECORDINGS.is_dir():
        pytest.fail(f"no recordings at {RECORDINGS}: set AMIBOX_DATA to their folder")
    return RECORDINGS


def promised_tests() -> set[str]:
    """Return the test ids that ``docs/verification.md`` names."""
    return set(re.findall(r"`(tests/[\w/]+\.py::[\w:]+)`", VERIFICATION.read_text()))


def _recordings_missing() -> bool:
    return not RECORDINGS.is_dir() and not os.environ.get("CI")


def pytest_collection_modifyitems(config: pytest.Config, items: list[pytest.Item]) -> None:
    """Leave out, by name and not by skips, the tests whose recordings are not on this machine."""
    if not _recordings_missing():
        return
    wanting = [item for item in items if "recordings" in getattr(item, "fixturenames", ())]
    items[:] = [item for item in items if item not in wanting]
    config.hook.pytest_deselected(items=wanting)


def pytest_runtest_logreport(report: pytest.TestReport) -> None:
    """Remember a test that the verification page names and that was skipped."""
    test = report.nodeid.partition("[")[0]
    if report.skipped and test in promised_tests():
        _broken_promises.add(test)


@pytest.hookimpl(tryfirst=True)
def pytest_sessionfinish(session: pytest.Session) -> None:
    """Fail a run in which such a test was skipped."""
    if _broken_promises and not hasattr(session.config, "workerinput"):
        session.exitstatus = pytest.ExitCode.TESTS_FAILED


def pytest_terminal_summary(terminalreporter: pytest.TerminalReporter, config: pytest.Config) -> None:
    """Say what was skipped against a promise, and which sets did not run."""
    for test in sorted(_broken_promises):
        terminalreporter.write_line(f"SKIPPED although docs/verification.md rests on it: {test}", red=True)
    absent = [f"{name}: {how}" for name, how in SETS.items() if f"not {name}" in config.option.markexpr]
    if _recordings_missing():
        absent.append(f"recordings: put them in {RECORDINGS}, or set AMIBOX_DATA to their folder: make test")
    if absent:
        terminalreporter.section("sets that did not run")
        for line in absent:
            terminalreporter.write_line(line)


@pytest.fixture(autouse=True)
def log_stays_on() -> Iterator[None]:
    """A long run switches the log off; no test leaves it so for the next."""
    yield
    logging.disable(logging.NOTSET)
