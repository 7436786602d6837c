"""The CAN worker on real carriers: an slcan adapter on a pty, python-can's virtual bus, and links that fail."""

from __future__ import annotations

import errno
import io
import os
import pty
import select
import socket
import struct
import threading
import time
import tty
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import can
import pytest
from can.interfaces.socketcan import socketcan

from hw import can_bus
from hw.can_bus import RECV_S, CanBus, CanSettings
from hw.can_signals import CarModel
from hw.clock_sources import SystemClock
from hw.worker import AdapterError, Life
from onboard.core.events import BusReported, BusState, Event, FaultReported, Signal, SignalsReported

AMI = CarModel.load("ami")
DEADLINE_S = 10.0


class Adapter:
    """An slcan adapter on a pty: keeps every byte that the host writes."""

    def __init__(self, link: Path) -> None:
        self._host_side, device = pty.openpty()
        tty.setraw(device)
        self._device = device
        link.unlink(missing_ok=True)
        link.symlink_to(os.ttyname(device))
        self.written = b""

    def say(self, text: bytes) -> None:
        os.write(self._host_side, text)

    def frame(self, word: str) -> None:
        identifier, _, digits = word.partition("#")
        kind = "T" if len(identifier) == 8 else "t"
        self.say(f"{kind}{identifier}{len(digits) // 2}{digits}\r".encode())

    def hear(self) -> bytes:
        while select.select([self._host_side], [], [], 0.05)[0]:
            self.written += os.read(self._host_side, 4096)
        return self.written

    def unplug(self) -> None:
        self.hear()
        os.close(self._device)
        os.close(self._host_side)


class Box:
    """The worker in its thread, and what it told."""

    def __init__(self, worker: CanBus) -> None:
        self.worker = worker
        self.events: list[Event] = []
        self.beats = 0
        self.error: AdapterError | None = None
        self.life = Life(self.events.append, self._beat, threading.Event())
        self._thread = threading.Thread(target=self._run, daemon=True)
        self._thread.start()

    def _beat(self) -> None:
        self.beats += 1

    def _run(self) -> None:
        try:
            self.worker.run(self.life)
        except AdapterError as error:
            self.error = error

    def until(self, seen: Callable[[], bool], keep: Callable[[], None] = lambda: None) -> None:
        give_up_s = time.monotonic() + DEADLINE_S
        while not seen():
            assert time.monotonic() < give_up_s, f"never seen; events {self.events}, counts {self.worker.counts}"
            keep()
            time.sleep(0.02)

    def value(self, signal: Signal) -> float | None:
        told = [e for e in list(self.events) if isinstance(e, SignalsReported)]
        return next((r.value for e in reversed(told) for s, r in e.readings if s is signal), None)

    def last_bus(self) -> BusState | None:
        return next((e.bus for e in reversed(list(self.events)) if isinstance(e, BusReported)), None)

    def faults(self) -> list[bool]:
        return [e.active for e in list(self.events) if isinstance(e, FaultReported)]

    def stop(self) -> float:
        """Stop and return how long that took, in seconds."""
        asked_s = time.monotonic()
        self.life.stop.set()
        self._thread.join(DEADLINE_S)
        assert not self._thread.is_alive()
        return time.monotonic() - asked_s


@pytest.fixture
def link(tmp_path: Path) -> Path:
    return tmp_path / "amibox-can"


@pytest.fixture
def boxes() -> Iterator[Callable[..., Box]]:
    made: list[Box] = []

    def make(settings: CanSettings, **more: Any) -> Box:
        made.append(Box(CanBus(settings, AMI, SystemClock(), **more)))
        return made[-1]

    yield make
    for box in made:
        box.stop()


def soc(pct: int) -> str:
    return f"580#7800E81400{pct:02X}0000"


def until_heard(box: Box, adapter: Adapter, pct: int) -> None:
    """The car says a state of charge until the box has told it."""
    box.until(lambda: box.value(Signal.SOC) == pct, lambda: adapter.frame(soc(pct)))


def test_an_slcan_adapter_is_read_filtered_unplugged_and_plugged_again(link: Path, boxes: Callable[..., Box]) -> None:
    adapter = Adapter(link)
    box = boxes(CanSettings("slcan", str(link)))
    box.until(lambda: b"L\r" in adapter.hear())
    until_heard(box, adapter, 80)
    adapter.frame("00000580#7800E81400100000")  # a 29-bit twin and a foreign id: python-can's filter drops both
    adapter.frame("7DF#02010C0000000000")
    until_heard(box, adapter, 79)
    assert box.worker.counts["foreign_id"] == box.worker.counts["extended_id"] == 0

    adapter.unplug()
    box.until(lambda: box.last_bus() is BusState.FAULT)
    box.until(lambda: box.worker.counts["link_lost"] >= 2)
    assert box.faults() == [True]

    again = Adapter(link)
    until_heard(box, again, 77)
    box.until(lambda: box.last_bus() is BusState.AWAKE, lambda: again.frame(soc(77)))
    assert box.faults() == [True, False]
    assert box.beats >= 1
    assert box.stop() < 1.0

    for each in (adapter, again):
        commands = {line[:1] for line in (each.hear() if each is again else each.written).split(b"\r")}
        assert commands <= {b"C", b"S", b"L", b""}, "the box transmitted, or opened the bus as a talker"
    assert b"S6\r" in again.written
    again.unplug()


NOISES = (b"\xff\xfe\x80\r", b"tZZZ8\r", b"t58\r", b"\a\a\a", b"t5808zz\r", b"t580\r", b"t-588\r", 3000 * b"x")


def test_garbage_from_an_adapter_is_survived_and_the_next_frames_count(link: Path, boxes: Callable[..., Box]) -> None:
    adapter = Adapter(link)
    box = boxes(CanSettings("slcan", str(link)))
    box.until(lambda: b"L\r" in adapter.hear())
    for pct, noise in enumerate(NOISES, 50):
        adapter.say(noise)
        until_heard(box, adapter, pct)
    assert box.worker.counts["garbled"] >= 4
    assert box.worker.counts["link_lost"] == 0
    box.stop()
    adapter.unplug()


def test_a_garbled_line_is_counted_and_is_a_fault_of_the_bus(link: Path, boxes: Callable[..., Box]) -> None:
    adapter = Adapter(link)
    box = boxes(CanSettings("slcan", str(link)))
    box.until(lambda: b"L\r" in adapter.hear())
    adapter.say(b"t5\r")
    box.until(lambda: box.worker.counts["garbled"] == 1)
    adapter.say(b"\xff\xfe\x80\r")
    box.until(lambda: box.worker.counts["garbled"] == 2)
    box.until(lambda: box.last_bus() is BusState.FAULT)
    box.stop()
    adapter.unplug()


def test_a_line_that_pauses_in_its_middle_is_read_whole(link: Path, boxes: Callable[..., Box]) -> None:
    adapter = Adapter(link)
    box = boxes(CanSettings("slcan", str(link)))
    box.until(lambda: b"L\r" in adapter.hear())
    # Cut where the rest begins with a letter that begins a line as well.
    for pct in (93, 94, 95):
        line = f"t58087800E81400{pct:02X}00B0\r".encode()
        adapter.say(line[:-3])
        time.sleep(1.5 * RECV_S)
        adapter.say(line[-3:])
    box.until(lambda: box.value(Signal.SOC) == 95)
    assert box.worker.counts["garbled"] == 0
    box.stop()
    adapter.unplug()


def test_after_nonsense_and_silence_the_adapter_is_set_up_again_and_the_bus_sleeps(
    link: Path, boxes: Callable[..., Box], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(can_bus, "REOPEN_S", 0.6)
    adapter = Adapter(link)
    box = boxes(CanSettings("slcan", str(link)))
    box.until(lambda: b"L\r" in adapter.hear())
    until_heard(box, adapter, 80)
    adapter.say(b"t5\r")
    box.until(lambda: box.last_bus() is BusState.FAULT)
    box.until(lambda: box.last_bus() is BusState.ASLEEP)
    assert (box.worker.counts["reopened"], box.worker.counts["link_lost"]) == (1, 0)
    assert adapter.hear().count(b"S6\r") == 2
    box.stop()
    adapter.unplug()


def test_nonsense_among_frames_opens_nothing_anew(
    link: Path, boxes: Callable[..., Box], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(can_bus, "REOPEN_S", 0.3)
    adapter = Adapter(link)
    box = boxes(CanSettings("slcan", str(link)))
    box.until(lambda: b"L\r" in adapter.hear())
    adapter.say(b"t5\r")
    until_heard(box, adapter, 81)
    box.until(lambda: box.last_bus() is BusState.AWAKE, lambda: adapter.frame(soc(81)))
    assert box.worker.counts["reopened"] == 0
    box.stop()
    adapter.unplug()


def test_a_missing_adapter_is_told_once_and_the_box_stays_alive(link: Path, boxes: Callable[..., Box]) -> None:
    box = boxes(CanSettings("slcan", str(link)))
    box.until(lambda: box.worker.counts["link_lost"] >= 2 and box.beats >= 2)
    assert box.faults() == [True]
    fault = next(e for e in box.events if isinstance(e, FaultReported))
    assert fault.part == "can"
    assert str(link) in fault.detail
    assert box.error is None
    assert box.stop() < 1.0


def test_an_interface_that_python_can_lacks_is_an_error_with_a_remedy(boxes: Callable[..., Box]) -> None:
    box = boxes(CanSettings("carrier-pigeon", "can0"))
    box.until(lambda: box.error is not None)
    assert box.error is not None
    assert not box.error.worth_retrying
    assert "set [can] interface" in str(box.error)


def test_the_virtual_bus_is_read_and_sleeps_when_silent(boxes: Callable[..., Box]) -> None:
    car = can.Bus(interface="virtual", channel="ami-test", ignore_config=True)
    box = boxes(CanSettings("virtual", "ami-test"))
    box.until(lambda: box.worker.counts["link_opened"] == 1)

    def talk() -> None:
        car.send(can.Message(arbitration_id=0x580, is_extended_id=False, data=bytes.fromhex(soc(80)[4:])))

    box.until(lambda: box.value(Signal.SOC) == 80, talk)
    box.until(lambda: box.last_bus() is BusState.ASLEEP)
    reading = next(r for e in box.events if isinstance(e, SignalsReported) for s, r in e.readings if s is Signal.SOC)
    assert abs(reading.sampled_s - SystemClock().boot_s()) < 60, "stamped with the boot-time clock"
    assert car.recv(0.0) is None, "the box sent something"
    box.stop()
    car.shutdown()


class FailingBus:
    """A bus whose reads and shutdown go as the test says."""

    def __init__(self, plan: list[can.Message | Exception | None]) -> None:
        self.plan = plan
        self.closed = 0
        self.serialPortOrig = io.BytesIO()  # python-can's slcan bus keeps its port under this name

    def recv(self, timeout: float) -> can.Message | None:
        if not self.plan:
            time.sleep(min(timeout, 0.02))
            return None
        step = self.plan.pop(0)
        if isinstance(step, Exception):
            raise step
        return step

    def shutdown(self) -> None:
        self.closed += 1
        raise can.CanOperationError("the device is gone")


@pytest.mark.parametrize("number", [errno.ENETDOWN, errno.ENODEV])
def test_a_link_that_goes_down_is_closed_although_that_fails_and_opened_again(
    number: int, boxes: Callable[..., Box]
) -> None:
    frame = can.Message(arbitration_id=0x580, is_extended_id=False, data=bytes.fromhex(soc(80)[4:]))
    opened = [FailingBus([frame, can.CanOperationError("down", number)]), FailingBus([frame, frame, frame])]
    buses = iter(opened)
    box = boxes(CanSettings("virtual"), open_bus=lambda **_: next(buses))
    box.until(lambda: box.value(Signal.SOC) == 80)
    assert opened[0].closed == 1
    assert opened[0].serialPortOrig.closed, "a file left open with every unplugging"
    assert box.faults() == [True, False]
    assert box.worker.counts["link_opened"] == 2


def test_bus_off_is_a_fault_and_the_reader_goes_on(boxes: Callable[..., Box]) -> None:
    bus_off = can.Message(arbitration_id=0x40, is_error_frame=True, is_extended_id=False, data=bytes(8))
    frame = can.Message(arbitration_id=0x580, is_extended_id=False, data=bytes.fromhex(soc(80)[4:]))
    bus = FailingBus([frame, bus_off, frame, frame])
    box = boxes(CanSettings("virtual"), open_bus=lambda **_: bus)
    box.until(lambda: box.value(Signal.SOC) == 80)
    assert box.last_bus() is BusState.FAULT
    assert box.worker.counts["error_frame"] == 1
    bus.plan.append(None)
    assert box.worker.counts["link_lost"] == 0


class RawSocket:
    """A kernel's CAN socket, as far as opening one goes; takes filters or refuses them."""

    def __init__(self, *, takes_filters: bool) -> None:
        self._takes_filters = takes_filters
        self._filters = struct.pack("=II", 0, 0)
        self._readable, self._writable = os.pipe()

    def setsockopt(self, level: int, option: int, value: Any) -> None:
        if (level, option) == (socket.SOL_CAN_RAW, 1):
            if not self._takes_filters:
                raise OSError(errno.EINVAL, "no filters today")
            self._filters = value

    def getsockopt(self, level: int, option: int, size: int) -> bytes:
        assert (level, option) == (socket.SOL_CAN_RAW, 1)
        return self._filters[:size]

    def bind(self, address: tuple[str]) -> None:
        assert address == ("can0",)

    def fileno(self) -> int:
        return self._readable

    def close(self) -> None:
        os.close(self._readable)
        os.close(self._writable)


@pytest.mark.parametrize(("takes_filters", "counted"), [(True, 0), (False, 1)])
def test_a_kernel_that_does_not_take_the_filters_is_noticed(
    takes_filters: bool, counted: int, boxes: Callable[..., Box], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(socketcan, "create_socket", lambda: RawSocket(takes_filters=takes_filters))
    box = boxes(CanSettings("socketcan", "can0"))
    box.until(lambda: box.worker.counts["link_opened"] == 1)
    assert box.worker.counts["kernel_filter_failed"] == counted
    box.stop()
