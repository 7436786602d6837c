"""What systemd hears, on a real datagram socket."""

from __future__ import annotations

import os
import socket
from collections.abc import Iterator
from pathlib import Path

import pytest

from onboard.notify import Notifier


@pytest.fixture
def manager(tmp_path: Path) -> Iterator[socket.socket]:
    with socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM) as listener:
        listener.settimeout(5)
        listener.bind(str(tmp_path / "notify"))
        yield listener


def test_each_word_reaches_the_service_manager(manager: socket.socket) -> None:
    notifier = Notifier({"NOTIFY_SOCKET": manager.getsockname(), "WATCHDOG_USEC": "30000000"})
    assert notifier.watchdog_s == 30
    notifier.ready("open for bookings")
    notifier.alive()
    notifier.status("no CAN bus\nREADY=1")
    notifier.stopping()
    heard = [manager.recv(512).decode() for _ in range(4)]
    assert heard == ["READY=1\nSTATUS=open for bookings", "WATCHDOG=1", "STATUS=no CAN bus READY=1", "STOPPING=1"]


def test_an_abstract_socket_is_reached() -> None:
    with socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM) as listener:
        listener.settimeout(5)
        listener.bind(f"\0amibox-test-{os.getpid()}")
        Notifier({"NOTIFY_SOCKET": f"@amibox-test-{os.getpid()}"}).alive()
        assert listener.recv(512) == b"WATCHDOG=1"


def test_children_do_not_inherit_the_right_to_speak() -> None:
    environment = {"NOTIFY_SOCKET": "/run/nobody", "WATCHDOG_USEC": "30000000", "PATH": "/bin"}
    Notifier(environment)
    assert environment == {"PATH": "/bin"}


def test_without_a_service_manager_nothing_happens() -> None:
    notifier = Notifier({"WATCHDOG_USEC": "30000000"})
    notifier.ready("in a terminal")
    assert notifier.watchdog_s is None


def test_a_service_manager_that_went_away_does_not_stop_the_box(tmp_path: Path) -> None:
    notifier = Notifier({"NOTIFY_SOCKET": str(tmp_path / "nobody")})
    notifier.alive()
    notifier.stopping()
