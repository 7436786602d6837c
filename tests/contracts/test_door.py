"""One suite for two kinds of pins: gpiozero's mock pins in one process, and the pins that cross a socket to a car."""

from __future__ import annotations

import dataclasses
import os
import signal
import socket
import subprocess
import sys
import textwrap
from collections.abc import Callable, Iterator
from itertools import pairwise
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

import pytest

from hw.door import make_pin_factory
from onboard.core.commands import Action, Actuate, Pattern
from onboard.core.events import ActuationOutcome, ActuationSettled, DoorReported, LockButtonPressed
from onboard.core.policy import Policy
from sim.doors import DoorFaults, SimulatedDoor
from sim.pins import SOCKET_VARIABLE, PinBoard, SocketFactory
from tests.door_rig import DEADLINE_S, SETTINGS, LiveDoor, WiredFactory, served, wait_until

SETTLE_S = Policy().settle_s


class Car:
    """A simulated door, the pins to it, and what the box drove."""

    def __init__(self, set_input: Callable[[int, bool], None], factory: Any) -> None:
        self.door = SimulatedDoor(SETTINGS, set_input)
        self.factory = factory
        self.driven: dict[int, bool | None] = {}
        self.seen: list[tuple[int, bool | None]] = []

    def on_output(self, pin: int, level: bool | None) -> None:
        self.driven[pin] = level
        self.seen.append((pin, level))
        self.door.on_output(pin, level)


@pytest.fixture(params=["mock", "socket"])
def car(request: pytest.FixtureRequest) -> Iterator[Car]:
    if request.param == "mock":
        wired = WiredFactory()
        made = Car(wired.set_input, wired)
        wired.on_output = made.on_output
        yield made
        made.door.close()
        wired.close()
        return
    with TemporaryDirectory() as folder:  # pytest's own paths may be too long for a socket
        board = PinBoard(Path(folder) / "pins")
        door = Car(board.set_input, None)
        board.start(door.on_output)
        door.factory = SocketFactory(Path(folder) / "pins")
        yield door
        door.door.close()
        door.factory.close()
        board.close()


@pytest.fixture
def live(car: Car) -> Iterator[LiveDoor]:
    with served(LiveDoor(car.factory)) as door:
        door.wait_for(DoorReported)
        yield door


def pulse(live: LiveDoor, number: int, action: Action) -> ActuationSettled:
    live.door.actuate(Actuate(number, action))
    return live.wait_for(ActuationSettled, lambda settled: settled.actuation == number)


def confirmed(live: LiveDoor, settled: ActuationSettled) -> DoorReported:
    """Return the first report that the core would count for this pulse."""
    return live.wait_for(DoorReported, lambda report: report.sampled_s >= settled.at_s + SETTLE_S)


def test_an_unlock_is_confirmed_by_a_report_sampled_after_it_and_a_lock_likewise(live: LiveDoor, car: Car) -> None:
    assert live.wait_for(DoorReported).locked is True
    settled = pulse(live, 1, Action.UNLOCK)
    assert settled.outcome is ActuationOutcome.DONE
    assert confirmed(live, settled).locked is False
    wait_until(lambda: live.clock.boot_s() > settled.at_s + 0.5, "the relay's rest")
    settled = pulse(live, 2, Action.LOCK)
    assert settled.outcome is ActuationOutcome.DONE
    assert confirmed(live, settled).locked is True
    assert car.door.pulses == [Action.UNLOCK, Action.LOCK]


def test_every_pulse_ends_and_the_relays_are_never_on_together(live: LiveDoor, car: Car) -> None:
    for number in range(6):
        live.door.actuate(Actuate(number, Action.UNLOCK if number % 2 else Action.LOCK))
        live.wait_for(ActuationSettled, lambda settled, number=number: settled.actuation == number)  # type: ignore[misc]
    wait_until(lambda: not car.driven[17] and not car.driven[27], "both relays to be released")
    assert car.door.pulses
    assert not car.door.both_driven


def test_a_pulse_ends_even_if_nobody_takes_the_events(car: Car) -> None:
    live = LiveDoor(car.factory, dataclasses.replace(SETTINGS, pulse_s=1.0))
    live.start()
    live.wait_for(DoorReported)
    live.raise_on = lambda event: isinstance(event, DoorReported)
    live.door.actuate(Actuate(1, Action.UNLOCK))
    wait_until(lambda: Action.UNLOCK in car.door.pulses, "the relay to close")
    car.door.open_door()
    live.join()
    wait_until(lambda: car.driven[17] is None, "the relay to be released")
    assert live.error is not None
    assert live.error.may_have_happened


def test_doors_and_button_are_reported_as_they_change(live: LiveDoor, car: Car) -> None:
    car.door.open_door()
    live.wait_for(DoorReported, lambda report: report.driver_open is True and report.passenger_open is False)
    car.door.open_door(passenger=True)
    live.wait_for(DoorReported, lambda report: report.driver_open is True and report.passenger_open is True)
    car.door.shut_door()
    live.wait_for(DoorReported, lambda report: report.driver_open is False and report.passenger_open is True)
    assert not live.events(LockButtonPressed)
    car.door.press_button()
    live.wait_for(LockButtonPressed)
    car.door.release_button()


def test_a_key_that_is_taken_out_of_its_place_is_reported_and_one_put_back(live: LiveDoor, car: Car) -> None:
    assert live.wait_for(DoorReported).key_in_place is True
    car.door.put_key(is_in=False)
    live.wait_for(DoorReported, lambda report: report.key_in_place is False)
    car.door.put_key(is_in=True)
    wait_until(lambda: live.events(DoorReported)[-1].key_in_place is True, "the key to be seen again")


def test_a_stuck_latch_gets_its_pulse_but_the_report_tells_that_nothing_moved(live: LiveDoor, car: Car) -> None:
    car.door.faults = DoorFaults(sticks=True)
    settled = pulse(live, 1, Action.UNLOCK)
    assert settled.outcome is ActuationOutcome.DONE
    assert confirmed(live, settled).locked is True
    assert car.door.locked


def test_a_slow_latch_is_reported_when_it_has_moved(live: LiveDoor, car: Car) -> None:
    car.door.faults = DoorFaults(slow_s=0.6)
    settled = pulse(live, 1, Action.UNLOCK)
    assert confirmed(live, settled).locked is True
    live.wait_for(DoorReported, lambda report: report.locked is False)
    assert not car.door.locked


@pytest.mark.parametrize(("fault", "told"), [("says_locked", True), ("says_unlocked", False), ("dead", False)])
def test_a_lock_contact_that_lies_or_is_dead_is_told_as_it_reads(
    live: LiveDoor, car: Car, fault: str, *, told: bool
) -> None:
    car.door.faults = DoorFaults(lock_contact=fault)  # type: ignore[arg-type]  # the table's words are its literals
    settled = pulse(live, 1, Action.LOCK if not told else Action.UNLOCK)
    assert confirmed(live, settled).locked is told
    assert car.door.locked is not told


def test_pulses_in_a_row_wait_for_the_relays_rest_until_there_are_too_many(live: LiveDoor, car: Car) -> None:
    settled = [pulse(live, number, Action.LOCK) for number in range(7)]
    done = [each.at_s for each in settled if each.outcome is ActuationOutcome.DONE]
    assert all(later - earlier >= 0.5 for earlier, later in pairwise(done))
    assert [each.reason for each in settled[len(done) :]] == ["too_often"]
    wait_until(lambda: not car.driven[27], "the relay to be released")
    assert len(car.door.pulses) == len(done) == 6


def test_an_answer_is_seen_and_heard(live: LiveDoor, car: Car) -> None:
    live.door.show(Pattern.GRANTED)
    wait_until(lambda: car.driven[20] is True and (21, True) in car.seen, "light and sound")
    wait_until(lambda: car.driven[21] is False, "the end of the beep")
    assert car.driven[20] is True


def test_a_stopped_door_lets_go_of_every_pin(car: Car) -> None:
    live = LiveDoor(car.factory)
    with served(live):
        live.wait_for(DoorReported)
        assert car.driven.keys() >= {17, 27, 20, 21}
    wait_until(lambda: all(car.driven[pin] is None for pin in (17, 27, 20, 21)), "all pins to be let go")


def test_a_pulse_shorter_than_the_latchs_stroke_does_not_move_it() -> None:
    door = SimulatedDoor(SETTINGS, lambda _pin, _level: None, stroke_s=0.02)
    door.on_output(17, True)
    door.on_output(17, None)
    wait_until(lambda: not door._timers, "the stroke's end")
    assert door.locked
    door.on_output(17, True)
    wait_until(lambda: not door.locked, "the latch")


# What only two processes can show


BOX = """
    import sys, threading, time
    from pathlib import Path
    from hw.clock_sources import SystemClock
    from hw.door import Door, make_pin_factory
    from hw.interlock import Interlock
    from hw.worker import Life
    from onboard.core.commands import Action, Actuate
    from tests.door_rig import SETTINGS
    import dataclasses
    settings = dataclasses.replace(SETTINGS, pulse_s=1.0)
    door = Door(settings, SystemClock(), Interlock(), make_pin_factory("sim.pins:SocketFactory"))
    door.actuate(Actuate(1, Action.UNLOCK))
    door.run(Life(lambda event: None, lambda: None, threading.Event()))
"""


@pytest.fixture
def folder() -> Iterator[Path]:
    with TemporaryDirectory() as made:
        yield Path(made)


def start_box(path: Path) -> subprocess.Popen[bytes]:
    return subprocess.Popen(
        [sys.executable, "-c", textwrap.dedent(BOX)], env={**os.environ, SOCKET_VARIABLE: str(path)}
    )


def test_a_box_killed_in_a_pulse_lets_go_of_the_relay_and_the_next_box_finds_the_door(folder: Path) -> None:
    board = PinBoard(folder / "pins")
    car = Car(board.set_input, None)
    board.start(car.on_output)
    for _ in range(2):
        box = start_box(folder / "pins")
        try:
            wait_until(lambda: board.output(17) is True, "the relay to close")
        finally:
            box.send_signal(signal.SIGKILL)
            box.wait(DEADLINE_S)
        wait_until(lambda: car.driven[17] is None and board.output(17) is None, "the relay to be released")
        # Killed, not finished: the last word on the pin was not the box's own "off".
        assert [level for pin, level in car.seen if pin == 17][-2:] == [True, None]
    board.close()
    car.door.close()


def test_a_car_that_goes_away_stops_the_worker_and_one_that_comes_back_serves_it_again(folder: Path) -> None:
    board = PinBoard(folder / "pins")
    board.start(lambda _pin, _level: None)
    factory = SocketFactory(folder / "pins")
    live = LiveDoor(factory)
    live.start()
    live.wait_for(DoorReported)
    board.close()
    live.join()
    assert live.error is not None
    assert live.error.worth_retrying
    again = LiveDoor(factory)
    again.start()
    again.join()
    assert "no car listens" in str(again.error)
    board = PinBoard(folder / "pins")
    car = Car(board.set_input, factory)
    board.start(car.on_output)
    with served(LiveDoor(factory)) as live:
        assert live.wait_for(DoorReported).locked is True
    factory.close()
    board.close()


@pytest.mark.parametrize(
    "message", [b"d", b"d\x11", b"d\x11\x02", b"d\xff\x01", b"x\x11\x01", b"d\x11\x01\x00", b"d" * 64]
)
def test_a_message_that_is_none_is_counted_and_moves_nothing(folder: Path, message: bytes) -> None:
    board = PinBoard(folder / "pins")
    seen: list[tuple[int, bool | None]] = []
    board.start(lambda pin, level: seen.append((pin, level)))
    with socket.socket(socket.AF_UNIX, socket.SOCK_SEQPACKET) as box:
        box.connect(str(folder / "pins"))
        box.send(message)
        box.send(b"d\x14\x01")
        wait_until(lambda: (20, True) in seen, "the good message after it")
        assert seen == [(20, True)]
        assert board.counts == {"bad_message": 1}
    board.close()


def test_a_box_that_does_not_read_is_disconnected_and_the_car_never_waits(folder: Path) -> None:
    board = PinBoard(folder / "pins")
    seen: list[tuple[int, bool | None]] = []
    board.start(lambda pin, level: seen.append((pin, level)))
    with socket.socket(socket.AF_UNIX, socket.SOCK_SEQPACKET) as box:
        box.connect(str(folder / "pins"))
        box.send(b"d\x11\x01")
        wait_until(lambda: seen == [(17, True)], "the box")
        for turn in range(100_000):
            board.set_input(5, turn % 2 == 0)
            if board.counts["box_not_reading"]:
                break
        wait_until(lambda: seen[-1] == (17, None), "its pins to be released")
        assert board.counts["box_not_reading"] >= 1
    board.close()


def test_the_socket_factory_is_found_by_its_name(folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    board = PinBoard(folder / "pins")
    board.set_input(5, False)
    board.start(lambda _pin, _level: None)
    monkeypatch.setenv(SOCKET_VARIABLE, str(folder / "pins"))
    factory = make_pin_factory("sim.pins:SocketFactory")
    pin = factory.pin(5)
    pin.input_with_pull("up")
    assert pin.state == 0
    factory.close()
    board.close()
