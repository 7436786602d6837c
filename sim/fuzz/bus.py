"""The car's bus: frames at every known car's decoder, and an slcan adapter's line through python-can's own reader."""

from __future__ import annotations

from collections import Counter
from contextlib import ExitStack
from pathlib import Path
from threading import Event as Flag
from typing import Any, Final
from unittest.mock import patch

import can
import serial

from hw.can_bus import CanBus, CanSettings
from hw.can_signals import CarModel, SignalDecoder, known_models
from hw.worker import Life
from onboard.core.clock import ClockQuality, Instant
from onboard.core.events import Event, SignalsReported
from sim.fuzz.door import Door, Harness, right
from sim.fuzz.feed import Feed
from sim.slcan import encode_frame

FRAMES_MAX: Final = 200
_STEPS_S: Final = (0.0, 0.01, 0.1, 0.5, 3.0, 60.0, 3600.0, 1e6)


class Clock:
    """A clock that goes on by itself: each look is 1 ms later."""

    def __init__(self) -> None:
        self.now_s = 100.0

    def boot_s(self) -> float:
        """Return the time, and let it go on."""
        self.now_s += 0.001
        return self.now_s

    def now(self) -> Instant:
        """Read it as ``hw.clock_sources.Clock``."""
        return Instant(self.boot_s(), 0.0, ClockQuality.UNSET)

    def wait_s(self, boot_s: float) -> float:
        """Nobody waits."""
        return max(0.0, boot_s - self.now_s)


class Stop(Flag):
    """A flag for which nobody waits."""

    def wait(self, timeout: float | None = None) -> bool:
        """Return at once."""
        return self.is_set() or timeout is None


def _judge(events: list[Event], model: CarModel, counts: Counter[str]) -> None:
    refused = sum(count for reason, count in counts.items() if reason not in ("seen", "used") and ":" not in reason)
    right(counts["seen"] == counts["used"] + refused, "a frame that is neither used nor refused")
    for event in events:
        if isinstance(event, SignalsReported):
            for signal, reading in event.readings:
                rule = next(rule for rule in model.rules.values() if rule.signal is signal)
                if rule.values is None:
                    right(rule.valid[0] <= reading.value <= rule.valid[1], f"{signal}: {reading.value} is out of range")
                else:
                    right(reading.value in rule.values.values(), f"{signal}: {reading.value} is no such value")


def open_can(_folder: Path, _ending: ExitStack) -> Harness:
    """Frames with any id, flags, length, bytes and time."""
    models = [CarModel.load(name) for name in known_models()]

    def run(data: bytes) -> None:
        feed = Feed(data)
        model, at_s = feed.pick(models), 0.0
        decoder, ids = SignalDecoder(model), sorted(model.messages)
        for _ in range(FRAMES_MAX):
            if not feed.left:
                return
            how = feed.number()
            identifier = feed.number(2) if how & 7 == 7 else feed.pick(ids)
            at_s += feed.pick(_STEPS_S)
            length = feed.number() if how & 8 else model.dlcs.get(identifier, 8)
            content = feed.take(min(length, 64))
            if how & 0x70 == 0x70:
                decoder.fault(at_s, link_down=bool(how & 8))
                continue
            flags = how & 0xF0 == 0x80, how & 0xF0 == 0x90, how & 0xF0 == 0xA0
            decoder.feed(identifier, *flags, content.ljust(length, b"\0") if not how & 8 else content, at_s)
            _judge(decoder.take(at_s), model, decoder.counts)

    return run


class _Line:
    """An adapter's serial line that says its bytes, then is pulled out."""

    def __init__(self, said: bytes, stop: Flag) -> None:
        self._feed = Feed(said)
        self._stop = stop

    @property
    def in_waiting(self) -> int:
        return min(self._feed.left, 64)

    def read(self, size: int = 1) -> bytes:
        if not self._feed.left:
            self._stop.set()
            raise serial.SerialException("pulled out")
        return self._feed.take(size)

    def write(self, data: bytes) -> int:
        return len(data)

    def flush(self) -> None:
        pass

    def reset_input_buffer(self) -> None:
        pass

    def close(self) -> None:
        pass


def open_slcan(_folder: Path, _ending: ExitStack) -> Harness:
    """The worker on an adapter's line."""
    model = CarModel.load("ami")

    def run(data: bytes) -> None:
        stop, events = Stop(), list[Event]()
        line = _Line(data, stop)

        def plug(**how: Any) -> can.BusABC:
            with patch("can.interfaces.slcan.serial.serial_for_url", return_value=line):
                return can.Bus(**how)

        worker = CanBus(CanSettings("slcan", "/dev/ttyACM0"), model, Clock(), plug)
        worker.run(Life(events.append, lambda: None, stop))
        right(worker.counts["link_opened"] == 1 + worker.counts["reopened"], "lost though it was not pulled out")

    return run


def _can_seeds() -> list[bytes]:
    plain = [
        bytes((model, *(0, index, 1, *content) * 4)) for model in (0, 1) for index in range(8) for content in _BYTES
    ]
    return [*plain, bytes((0, 7, 1, 2, 0, 1, 2)), bytes((1, 0x78, 0, 0, 0, 0, 0, 1))]


_BYTES: Final = (bytes(8), b"\xff" * 8, bytes(range(8)))

DOORS: Final = (
    # 200 frames.
    Door("can", "frames, at every car's decoder", open_can, _can_seeds, worst_s=0.05),
    # Some hundred lines, and a bus opened for them by python-can.
    Door(
        "slcan",
        "an adapter's line, by python-can's reader",
        open_slcan,
        lambda: [
            encode_frame(0x3A1, bytes(range(8))) * 3,
            b"\rz\x07t3A1\r" + encode_frame(0x100, b"") + b"T1234567820102\rr1230\rF00\r",
            b"t" * 300 + b"\r\xff\xfe\r" + encode_frame(0x7FF, b"\xff"),
        ],
        worst_s=0.1,
    ),
)
