"""The car as a whole: its plugs in a folder, and the socket that moves it."""

from __future__ import annotations

import socket
import threading
import time
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from hw.door import DoorSettings
from sim.car import Car, Remote
from sim.clock import ScaledClock, real_boot_s
from sim.pins import SocketFactory
from sim.route import BAZOUGES_HEDE

WIRING = DoorSettings(
    unlock_pin=17,
    lock_pin=27,
    driver_contact_pin=5,
    passenger_contact_pin=6,
    lock_contact_pin=13,
    lock_button_pin=19,
    key_contact_pin=12,
)
DEADLINE_S = 10.0


@pytest.fixture
def folder(tmp_path: Path) -> Iterator[Path]:
    """A folder with a car in it, 150 times as fast as a real one."""
    car = Car(tmp_path, ScaledClock(150.0, real_boot_s(), 1_800_000_000.0), WIRING, BAZOUGES_HEDE)
    thread = threading.Thread(target=car.run)
    thread.start()
    yield tmp_path
    car.stop()
    thread.join()
    car.close()
    assert not list(tmp_path.iterdir()), "the car left something behind"


@pytest.fixture
def remote(folder: Path) -> Iterator[Remote]:
    """The story's hand on that car."""
    hand = Remote(folder)
    yield hand
    hand.close()


def until(probe: Callable[[], object]) -> None:
    until_s = time.monotonic() + DEADLINE_S
    while not probe():
        assert time.monotonic() < until_s
        time.sleep(0.01)


def test_every_plug_of_the_box_is_there(folder: Path) -> None:
    assert {path.name for path in folder.iterdir()} >= {"can", "gps", "card", "pins", "control"}
    assert all((folder / name).resolve().is_char_device() for name in ("can", "gps", "card"))


def test_its_key_hangs_in_its_place_until_somebody_takes_it(remote: Remote) -> None:
    assert remote.do("status")["key_in_place"]
    assert not remote.do("key", **{"in": False})["key_in_place"]
    assert remote.do("key", **{"in": True})["key_in_place"]


def test_it_drives_where_it_is_told_to_and_says_so(remote: Remote) -> None:
    assert remote.do("status")["plugged"]
    with pytest.raises(RuntimeError, match="cable"):
        remote.do("drive", to="hede")
    remote.do("plug", **{"in": False})
    remote.do("drive", to="hede")
    until(lambda: remote.do("status")["speed_mps"] > 10)
    with pytest.raises(RuntimeError, match="moves"):
        remote.do("switch_off")
    until(lambda: remote.do("status")["arrived"])
    truth = remote.do("switch_off")
    assert truth["at_m"] == pytest.approx(truth["route_m"], abs=0.2)
    assert not truth["ready"]


def test_a_pulse_on_the_boxs_pin_moves_the_latch_and_the_moment_is_kept(folder: Path, remote: Remote) -> None:
    pins = SocketFactory(folder / "pins")
    try:
        relay = pins.pin(WIRING.unlock_pin)
        relay.function = "output"
        before_s = real_boot_s()
        relay.state = 1
        until(lambda: not remote.do("status")["locked"])
        assert before_s < remote.do("status")["moments"]["unlocked"] < real_boot_s()
    finally:
        pins.close()


def test_the_receivers_time_is_the_cars(folder: Path) -> None:
    with (folder / "gps").open("rb", buffering=0) as port:
        heard = b""
        until_s = time.monotonic() + DEADLINE_S
        while b"$GPRMC" not in heard.partition(b"\r\n")[2]:
            assert time.monotonic() < until_s
            heard += port.read(200)
    assert b",A,4818." in heard
    assert b",150127,,,A*" in heard  # 2027-01-15, the day of the clock's start


@pytest.mark.parametrize(
    "line",
    [b"no json\n", b"[]\n", b"{}\n", b'{"do":"fly"}\n', b'{"do":"drive","to":"paris"}\n', b'{"do":"tap","uid":"xy"}\n'],
    ids=["no json", "a list", "no word", "unknown word", "unknown place", "no number"],
)
def test_nonsense_is_answered_and_the_car_goes_on(remote: Remote, folder: Path, line: bytes) -> None:
    with socket.socket(socket.AF_UNIX) as client:
        client.settimeout(DEADLINE_S)
        client.connect(str(folder / "control"))
        client.sendall(line)
        assert b'"error"' in client.recv(4096)
    assert remote.do("status")["arrived"]


def test_an_endless_line_is_hung_up_on(remote: Remote, folder: Path) -> None:
    with socket.socket(socket.AF_UNIX) as client:
        client.settimeout(DEADLINE_S)
        client.connect(str(folder / "control"))
        answer = b"none yet"
        try:
            for _ in range(100):
                client.sendall(b"x" * 4096)
            answer = client.recv(4096)
        except ConnectionError:
            answer = b""
        assert answer == b""
    assert remote.do("status")["arrived"]
