"""The set that needs a rig: the bench's guest, or a box with wires. Each test here is marked ``hil``.

Files are numbered in the order in which things can fail, and run in it: the first failure is the one to look at.
"""

from __future__ import annotations

import os
import time
from collections.abc import Iterator
from pathlib import Path

import pytest

from sim.bench.image import Image
from sim.bench.machine import Machine
from sim.bench.release import RELEASES
from sim.commune import Commune
from sim.rig import Rig
from tests.conftest import ROOT

FOLDER = Path(__file__).parent
RIG_FILE = ROOT / "sim" / "bench" / "rig.toml"


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    for item in items:
        if FOLDER in item.path.parents:
            item.add_marker("hil")
    # By number, which by name would put 10 before 2; the order within a file stays.
    items.sort(key=lambda item: _number(item.path) if FOLDER in item.path.parents else 0)


def _number(file: Path) -> int:
    return int(file.name.split("_")[1])


@pytest.fixture(scope="session")
def machine() -> Iterator[Machine]:
    image = Image(RELEASES[os.environ.get("RELEASE", "12")])
    results = image.folder / f"results-{time.strftime('%Y%m%d-%H%M%S')}"
    with Machine(image.release.architecture, image.disk(), results) as machine:
        yield machine
        journal = machine.run("journalctl", "--no-pager", "-b", timeout_s=60).text
        (results / "journal.log").write_text(journal)


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
