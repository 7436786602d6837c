"""The set that needs programs of the machine. Every test in this folder carries the marker ``system``."""

from __future__ import annotations

import os
import shutil
from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.ble_rig import Server, serving
from tests.fake_bluez import DBusDaemon, FakeBluez, fake_bluez

FOLDER = Path(__file__).parent


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    for item in items:
        if FOLDER in item.path.parents:
            item.add_marker("system")


def _program(name: str, package: str) -> Path:
    # Debian keeps servers where an ordinary user's PATH does not look.
    found = shutil.which(name, path=f"{os.environ.get('PATH', '')}:/usr/sbin:/sbin")
    if found is None:
        pytest.fail(f"{name} is missing: sudo apt install {package}")
    return Path(found)


@pytest.fixture(scope="session")
def mosquitto() -> Path:
    return _program("mosquitto", "mosquitto")


@pytest.fixture(scope="session")
def dbus_daemon_program() -> Path:
    return _program("dbus-daemon", "dbus-daemon")


@pytest.fixture(scope="session")
def strace() -> Path:
    return _program("strace", "strace")


@pytest.fixture(scope="session")
def systemd_analyze() -> Path:
    return _program("systemd-analyze", "systemd")


@pytest.fixture(scope="session")
def sshd_program() -> Path:
    return _program("sshd", "openssh-server openssh-client")


@pytest.fixture
def dbus(dbus_daemon_program: Path, tmp_path: Path) -> Iterator[DBusDaemon]:
    """A D-Bus of the test's own."""
    daemon = DBusDaemon(dbus_daemon_program, tmp_path)
    daemon.start()
    yield daemon
    daemon.kill()


@pytest.fixture
def bluez(dbus: DBusDaemon) -> Iterator[FakeBluez]:
    """A fake bluetoothd there, not started."""
    with fake_bluez(dbus) as bluez:
        yield bluez


@pytest.fixture
def hasty(monkeypatch: pytest.MonkeyPatch) -> None:
    """The GATT server looks, tries again and tidies up more often than in the car."""
    monkeypatch.setattr("hw.ble_server.SETTLE_S", 0.02)
    monkeypatch.setattr("hw.ble_server.RETRY_S", (0.01, 0.05))
    monkeypatch.setattr("hw.ble_server.TIDY_S", 0.05)
    monkeypatch.setattr("hw.ble_server.WATCH_S", 0.05)


@pytest.fixture
def server(dbus: DBusDaemon, bluez: FakeBluez, hasty: None) -> Iterator[Server]:  # noqa: ARG001
    """The GATT server, registered at the fake bluetoothd."""
    with serving(bluez, Server(dbus.address)) as server:
        yield server
