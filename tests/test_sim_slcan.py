"""The adapter on a pty: its line codec, and the box's own CAN worker behind it."""

from __future__ import annotations

import os
import select
import threading
import time
from collections.abc import Callable
from pathlib import Path

import pytest

from hw.can_bus import CanBus, CanSettings
from hw.can_signals import CarModel
from hw.worker import Life
from onboard.core.events import BusReported, BusState, Charging, ChargingReported, Event, Signal, SignalsReported
from sim.ami import Ami
from sim.clock import ScaledClock, real_boot_s
from sim.route import BAZOUGES_HEDE
from sim.slcan import BELL, OK, SlcanAdapter, SlcanOnPty, encode_frame

DEADLINE_S = 10.0


def opened() -> SlcanAdapter:
    adapter = SlcanAdapter()
    assert adapter.feed(b"C\rS6\rL\r") == OK * 3
    return adapter


def test_the_host_opens_the_channel_to_listen_only() -> None:
    adapter = opened()
    assert adapter.is_open
    assert adapter.listen_only
    assert adapter.bitrate_code == 6


def test_without_a_bitrate_the_channel_stays_closed() -> None:
    adapter = SlcanAdapter()
    assert adapter.feed(b"L\r") == BELL
    assert not adapter.is_open


def test_a_frame_to_transmit_is_refused_and_counted_whatever_its_kind() -> None:
    adapter = opened()
    assert adapter.feed(b"t58080011223344556677\rT000005800\rr5808\rR000005808\r") == BELL * 4
    assert adapter.counts["frames_refused"] == 4


def test_commands_in_pieces_are_the_same_commands() -> None:
    adapter = SlcanAdapter()
    assert b"".join(adapter.feed(bytes((byte,))) for byte in b"S6\rO\rV\rN\rF\r") == b"\r\rV1013\rNA123\rF00\r"
    assert not adapter.listen_only


def test_a_line_without_an_end_is_dropped_and_the_next_one_counts() -> None:
    adapter = SlcanAdapter()
    for _ in range(100):
        adapter.feed(b"x" * 1000)
    assert adapter.feed(b"\rS6\r") == BELL + OK
    assert adapter.counts["overlong_line"] == 1


@pytest.mark.parametrize(
    ("identifier", "data"), [(0x800, b""), (-1, b""), (0x580, bytes(9))], ids=["29 bits", "negative", "nine bytes"]
)
def test_only_classic_11_bit_frames_have_a_line(identifier: int, data: bytes) -> None:
    with pytest.raises(ValueError, match="no classic"):
        encode_frame(identifier, data)


def test_a_frame_is_lost_before_the_host_opens_the_channel(tmp_path: Path) -> None:
    port = SlcanOnPty(tmp_path / "can")
    port.open()
    port.send(0x580, bytes(8))
    assert port.lost == 1
    port.unplug()
    assert not (tmp_path / "can").is_symlink()


class Listening:
    """The box's CAN worker on an adapter's port, with the car's frames going in."""

    def __init__(self, folder: Path) -> None:
        self.port = SlcanOnPty(folder / "can")
        self.port.open()
        self.events: list[Event] = []
        self.clock = ScaledClock(5.0, real_boot_s(), 1_800_000_000.0)
        self.car = Ami(BAZOUGES_HEDE, self.clock.boot_s())
        self._stop = threading.Event()
        model = CarModel.load("ami")
        worker = CanBus(CanSettings("slcan", str(folder / "can")), model, self.clock)
        life = Life(self.events.append, lambda: None, self._stop)
        self._thread = threading.Thread(target=worker.run, args=(life,))
        self._thread.start()

    def until(self, told: Callable[[Event], bool]) -> None:
        """Let car and adapter live until the box has told this."""
        until_s = time.monotonic() + DEADLINE_S
        while not any(told(event) for event in list(self.events)):
            assert time.monotonic() < until_s, f"never told: {self.events}"
            self.turn()

    def turn(self) -> None:
        self.port.serve()
        self.car.advance(self.clock.boot_s())
        for frame in self.car.frames():
            self.port.send(*frame)
        time.sleep(0.005)

    def readings(self) -> dict[Signal, float]:
        told = [event for event in list(self.events) if isinstance(event, SignalsReported)]
        return {signal: reading.value for event in told for signal, reading in event.readings}

    def close(self) -> None:
        self._stop.set()
        self._thread.join()
        self.port.serve()
        self.port.unplug()


def test_the_box_hears_the_car_through_the_pty_and_sends_nothing(tmp_path: Path) -> None:
    listening = Listening(tmp_path)
    try:
        listening.car.drive(1000.0)
        listening.until(lambda event: isinstance(event, BusReported) and event.bus is BusState.AWAKE)
        until_s = time.monotonic() + DEADLINE_S
        while listening.readings().get(Signal.SPEED, 0.0) < 8.0:
            assert time.monotonic() < until_s, "no speed was heard"
            listening.turn()
        car, heard = listening.car, listening.readings()
        assert heard[Signal.SPEED] == pytest.approx(car.speed_mps, abs=1.0)
        assert heard[Signal.DISTANCE] == car.odometer_m // 100 * 100
        assert heard[Signal.SOC] == round(car.soc_pct)
        assert heard[Signal.GEAR] == 1
        assert heard[Signal.READY] == 1
        assert heard[Signal.PARK_BRAKE] == 0
    finally:
        listening.close()
    adapter = listening.port.adapter
    assert adapter.listen_only
    assert adapter.counts["frames_refused"] == 0


def test_a_plugged_in_car_is_heard_charging(tmp_path: Path) -> None:
    listening = Listening(tmp_path)
    try:
        listening.car.plug(is_in=True)
        listening.until(lambda event: event == ChargingReported(Charging.CHARGING))
        assert Signal.RANGE not in listening.readings()
    finally:
        listening.close()


def test_a_host_that_does_not_read_costs_whole_lines_and_never_a_part_of_one(tmp_path: Path) -> None:
    adapter = SlcanOnPty(tmp_path / "amibox-can")
    port = os.open(adapter.open(), os.O_RDWR | os.O_NOCTTY)
    try:
        os.write(port, b"S6\rL\r")
        adapter.serve()
        assert os.read(port, 4096) == OK * 2
        lines = [encode_frame(0x580, number.to_bytes(2, "big") + bytes(6)) for number in range(4000)]
        for line in lines:
            adapter.send(int(line[1:4], 16), bytes.fromhex(line[5:-1].decode()))
        assert adapter.lost > 0
        heard = b""
        for last in (*lines[-3:], b""):  # room again: the rest of a line comes first
            while select.select([port], [], [], 0.2)[0]:
                heard += os.read(port, 1 << 20)
            adapter.say(last)
        *whole, end = heard.split(b"\r")
        assert end == b""
        assert {line + b"\r" for line in whole} <= set(lines)
        assert len(whole) > 100
    finally:
        os.close(port)
        adapter.unplug()
