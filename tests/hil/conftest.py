"""The set that needs a rig: the bench's guest, or a box with wires. Each test here is marked ``hil``.

``RIG=file.toml`` chooses the rig, ``RELEASE`` the guest's Debian. Files are numbered in the order in which things can
fail, and run in it: the first failure is the one to look at. ``needs("power")`` on a test names what a rig must have
for it (``MEANS`` of ``sim.rig_file``); where the rig has it not, the test is left out, and named at the end.
"""

from __future__ import annotations

import os
import shutil
import sys
import time
from collections.abc import Callable, Iterator
from contextlib import ExitStack, contextmanager, nullcontext, suppress
from pathlib import Path

import pytest

from onboard.config_reader import ConfigError
from sim.bench import pi as raspberry_pi
from sim.bench.image import BUILD, Image
from sim.bench.machine import GuestError, Machine
from sim.bench.release import ARM64, RELEASES, Release
from sim.bench.steps import BenchError, step
from sim.commune import Commune
from sim.rig import Rig
from sim.rig_file import GUEST, MEANS, RigFile, load_rig
from tests.conftest import ROOT
from tests.hil import driver

FOLDER = Path(__file__).parent
BENCH_FILE = ROOT / "sim" / "bench" / "rig.toml"
RIG_FILE = Path(os.environ.get("RIG") or BENCH_FILE)

RESULTS_KEPT = 9
_left_out: dict[str, list[str]] = {}


def pytest_configure(config: pytest.Config) -> None:
    config.addinivalue_line("markers", "needs(*means): what a rig must have for this test; MEANS in sim/rig_file.py")


def _release() -> Release:
    name = os.environ.get("RELEASE") or "12"
    if name not in RELEASES:
        raise pytest.UsageError(f"RELEASE={name}: there is no such guest; write one of {', '.join(RELEASES)}")
    return RELEASES[name]


@pytest.hookimpl(wrapper=True)
def pytest_collection_modifyitems(config: pytest.Config, items: list[pytest.Item]) -> Iterator[None]:
    for item in items:
        if FOLDER in item.path.parents:
            item.add_marker("hil")
    # By number, which by name would put 10 before 2; the order within a file stays.
    items.sort(key=lambda item: _number(item.path) if FOLDER in item.path.parents else 0)
    yield
    # After all others have chosen: only what would have run counts as left out.
    ours = [item for item in items if FOLDER in item.path.parents]
    if ours:
        _leave_out(config, items, ours, _settings())


def _means(rig: RigFile) -> frozenset[str]:
    if rig.box.reach == GUEST and _release().architecture is ARM64:
        return rig.means - {"played radio"} | {"pi"}  # its kernel has no hci_vhci; its disk fits into a Pi
    return rig.means


def _leave_out(config: pytest.Config, items: list[pytest.Item], ours: list[pytest.Item], rig: RigFile) -> None:
    wanting = []
    means = _means(rig)
    for item in ours:
        needs = {str(each) for marker in item.iter_markers("needs") for each in marker.args}
        needs |= {GUEST} if "machine" in getattr(item, "fixturenames", ()) else set()
        if unknown := needs - MEANS.keys():
            raise pytest.UsageError(f"{item.nodeid} needs {sorted(unknown)}: write one of {sorted(MEANS)}")
        if lacking := sorted(needs - means):
            wanting.append(item)
            _left_out[item.nodeid] = lacking
    items[:] = [item for item in items if item not in wanting]
    config.hook.pytest_deselected(items=wanting)


def pytest_terminal_summary(terminalreporter: pytest.TerminalReporter) -> None:
    """Say what was measured, which tests this rig can't run, and what it lacks."""
    if driver.told:
        terminalreporter.section("figures")
        for line in driver.told:
            terminalreporter.write_line(line)
    if _left_out:
        named = RIG_FILE.relative_to(ROOT) if RIG_FILE.is_relative_to(ROOT) else RIG_FILE
        guest = f", Debian {_release().label}," if RIG_FILE == BENCH_FILE else ""
        terminalreporter.section(f"tests that {named}{guest} can't run")
        for test, lacking in _left_out.items():
            terminalreporter.write_line(f"{test} needs {'; '.join(MEANS[each] for each in lacking)}")


def _settings() -> RigFile:
    try:
        return load_rig(RIG_FILE)
    except ConfigError as error:
        raise pytest.UsageError(str(error)) from error


@contextmanager
def _shown(request: pytest.FixtureRequest, text: str) -> Iterator[None]:
    """Show a long step of the set-up while it runs, past pytest's capturing."""
    capture = request.config.pluginmanager.getplugin("capturemanager")
    with capture.global_and_fixture_disabled() if capture else nullcontext():
        sys.stderr.write("\n")
        with step(text):
            yield


def _number(file: Path) -> int:
    return int(file.name.split("_")[1])


@pytest.fixture(scope="session")
def image() -> Image:
    return Image(_release())


@pytest.fixture(scope="session")
def results(image: Image) -> Path:
    """Where what a run leaves goes."""
    kind = image.folder.name if _settings().box.reach == GUEST else f"rig-{RIG_FILE.stem}"
    folder = BUILD.parent / "hil" / kind / f"results-{time.strftime('%Y%m%d-%H%M%S')}"
    for old in sorted(folder.parent.glob("results-*"))[:-RESULTS_KEPT]:
        shutil.rmtree(old, ignore_errors=True)
    folder.mkdir(parents=True)
    return folder


@pytest.fixture(scope="session")
def rig(request: pytest.FixtureRequest, image: Image, results: Path) -> Iterator[Rig]:
    """The box, switched on; nothing started by us yet."""
    settings = _settings()
    with ExitStack() as on:
        machine = None
        if settings.box.reach == GUEST:
            try:
                folder = image.disk()
                with _shown(request, f"Debian {image.release.label} boots; what it leaves: {os.path.relpath(results)}"):
                    machine = on.enter_context(Machine(image.release.architecture, folder, results))
            except BenchError as error:
                pytest.exit(f"The bench cannot run, so nothing was tested.\n{error}", returncode=1)
        rig = Rig(settings, machine)
        for name, place in (("box", rig.place), ("car", rig.beside)):
            try:
                place.must("true", timeout_s=20)
            except GuestError as error:
                pytest.exit(f"The rig cannot run, so nothing was tested: [{name}] of {RIG_FILE}\n{error}", returncode=1)
        yield rig
        (results / "figures.txt").write_text("\n".join((*driver.told, "")))
        with suppress(GuestError):  # a box that no longer answers has left its console
            (results / "journal.log").write_text(rig.must("journalctl", "--no-pager", timeout_s=60))


@pytest.fixture(scope="session")
def machine(rig: Rig) -> Machine:
    """The guest. A test that asks for it ``needs("guest")``."""
    return rig.machine


@pytest.fixture(scope="session")
def pi(image: Image, results: Path) -> Callable[[str], str]:
    """Runs a script in an emulated Raspberry Pi 3 that has the guest's disk; returns what it said."""
    return lambda script: raspberry_pi.run(image.disk(), script, results / "pi.log")


@pytest.fixture(scope="session")
def commune(request: pytest.FixtureRequest, rig: Rig) -> Commune:
    """The commune, its broker, its endpoint; the box has its keys."""
    with _shown(request, "car, commune and broker"):
        rig.start_car()
        commune = Commune(rig)
        commune.found()
    return commune


@pytest.fixture(scope="session")
def box(request: pytest.FixtureRequest, rig: Rig, commune: Commune) -> Rig:
    """The box with its keys, its car and its commune, ready."""
    assert commune.get("vehicles")
    with _shown(request, "the box"):
        rig.await_box()
    return rig
