"""The set that needs programs of the machine. Every test in this folder carries the marker ``system``."""

from __future__ import annotations

import os
import shutil
from pathlib import Path

import pytest

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
def strace() -> Path:
    return _program("strace", "strace")


@pytest.fixture(scope="session")
def systemd_analyze() -> Path:
    return _program("systemd-analyze", "systemd")


@pytest.fixture(scope="session")
def sshd_program() -> Path:
    return _program("sshd", "openssh-server openssh-client")
