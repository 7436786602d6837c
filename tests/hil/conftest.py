"""The set that needs a rig: the bench's guest, or a box with wires. Each test here is marked ``hil``.

Files are numbered in the order in which things can fail, and run in it: the first failure is the one to look at.
"""

from __future__ import annotations

import os
import time
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from sim.bench import pi as raspberry_pi
from sim.bench.image import Image
from sim.bench.machine import Machine
from sim.bench.release import ARM64, RELEASES, Release
from sim.commune import Commune
from sim.rig import Rig
from tests.conftest import ROOT

FOLDER = Path(__file__).parent
RIG_FILE = ROOT / "sim" / "bench" / "rig.toml"


ELSEWHERE = {"pi": ARM64}
"""Fixtures that only the guests of one processor have. A run in another names the tests that it leaves out."""

_left_out: list[pytest.Item] = []


def _release() -> Release:
    return RELEASES[os.environ.get("RELEASE", "12")]


@pytest.hookimpl(wrapper=True)
def pytest_collection_modifyitems(config: pytest.Config, items: list[pytest.Item]) -> Iterator[None]:
    for item in items:
        if FOLDER in item.path.parents:
            item.add_marker("hil")
    # By number, which by name would put 10 before 2; the order within a file stays.
    items.sort(key=lambda item: _number(item.path) if FOLDER in item.path.parents else 0)
    yield  # now -m and -k have had their say
    absent = {name for name, architecture in ELSEWHERE.items() if architecture is not _release().architecture}
    _left_out[:] = [item for item in items if absent & set(getattr(item, "fixturenames", ()))]
    items[:] = [item for item in items if item not in _left_out]
    config.hook.pytest_deselected(items=_left_out)


def pytest_terminal_summary(terminalreporter: pytest.TerminalReporter) -> None:
    """Say what this guest could not run."""
    if _left_out:
        terminalreporter.section(f"tests that the guest {_release().label} can't run: docs/bench.md")
        for item in _left_out:
            terminalreporter.write_line(item.nodeid)


def _number(file: Path) -> int:
    return int(file.name.split("_")[1])


@pytest.fixture(scope="session")
def image() -> Image:
    return Image(_release())


@pytest.fixture(scope="session")
def results(image: Image) -> Path:
    folder = image.folder / f"results-{time.strftime('%Y%m%d-%H%M%S')}"
    folder.mkdir(parents=True)
    return folder


@pytest.fixture(scope="session")
def machine(image: Image, results: Path) -> Iterator[Machine]:
    with Machine(image.release.architecture, image.disk(), results) as machine:
        yield machine
        journal = machine.run("journalctl", "--no-pager", "-b", timeout_s=60).text
        (results / "journal.log").write_text(journal)


@pytest.fixture(scope="session")
def pi(image: Image, results: Path) -> Callable[[str], str]:
    """Runs a script in an emulated Raspberry Pi 3 that has the guest's disk; returns what it said."""
    return lambda script: raspberry_pi.run(image.disk(), script, results / "pi.log")


@pytest.fixture(scope="session")
def rig(machine: Machine) -> Rig:
    """The box, switched on; nothing started by us yet."""
    return Rig(RIG_FILE, machine)


@pytest.fixture(scope="session")
def commune(rig: Rig) -> Commune:
    """The commune, its broker, its endpoint; the box has its keys."""
    rig.start_car()
    commune = Commune(rig)
    commune.found()
    return commune


@pytest.fixture(scope="session")
def box(rig: Rig, commune: Commune) -> Rig:
    """The box with its keys, its car and its commune, ready."""
    assert commune.get("vehicles")
    rig.await_box()
    return rig
