"""A card reader in virtual time: the simulated chip on a line without a port, and a play of what happens when."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from threading import Event as Flag

from hw.card_reader import CardReader, CardReaderSettings
from hw.pn532 import Pn532
from hw.worker import Life
from onboard.core.clock import ClockQuality, Instant
from onboard.core.events import Event
from sim.pn532 import SimulatedPn532

KEY = bytes(range(32))
SHORT_CARD = "de ad be ef"
LONG_CARD = "04 a1 b2 c3 d4 e5 f6"


class VirtualClock:
    """Time passes only where somebody waits."""

    def __init__(self) -> None:
        self.now_s = 1000.0

    def boot_s(self) -> float:
        return self.now_s

    def now(self) -> Instant:
        return Instant(self.now_s, 0.0, ClockQuality.UNSET)

    def wait_s(self, boot_s: float) -> float:
        return max(0.0, boot_s - self.now_s)


class Line:
    """A serial port whose other end is the simulated chip. Unplugged, it raises what pyserial raises."""

    def __init__(self, chip: SimulatedPn532, clock: VirtualClock) -> None:
        self.chip = chip
        self.clock = clock
        self.plugged = True
        self.asked: list[int] = []
        self.sent = b""
        self.waiting = bytearray()
        self.timeouts = 0
        self.opened = False

    def connect(self) -> Line:
        self._check()
        self.opened = True
        return self

    def read(self, size: int = 1, /) -> bytes:
        self._check()
        self.asked.append(size)
        self.waiting += self.chip.feed(b"")
        data = bytes(self.waiting[:size])
        del self.waiting[:size]
        if len(data) < size:
            self.timeouts += 1
            self.clock.now_s += 0.05
        return data

    def write(self, data: bytes, /) -> int:
        self._check()
        self.sent += data
        self.waiting += self.chip.feed(data)
        return len(data)

    def reset_input_buffer(self) -> None:
        self._check()
        self.waiting.clear()

    def close(self) -> None:
        self.opened = False
        self.waiting.clear()

    def _check(self) -> None:
        if not self.plugged:
            raise OSError(5, "Input/output error")


class Play(Flag):
    """A ``stop`` flag that lets virtual time pass, does each action in its time, and sets itself at the end."""

    def __init__(self, clock: VirtualClock, actions: Sequence[tuple[float, Callable[[], None]]], end_s: float) -> None:
        super().__init__()
        self._clock = clock
        self._began_s = clock.now_s
        self._actions = sorted(actions, key=lambda action: action[0])
        self._end_s = end_s

    def wait(self, timeout: float | None = None) -> bool:
        self._clock.now_s += timeout or 0.0
        while self._actions and self._clock.now_s - self._began_s >= self._actions[0][0]:
            self._actions.pop(0)[1]()
        if self._clock.now_s - self._began_s >= self._end_s:
            self.set()
        return self.is_set()


class Rig:
    """A worker, its chip, and what it told: ``told`` holds (seconds since the start, event)."""

    def __init__(self, *, with_reset: bool = False) -> None:
        self.clock = VirtualClock()
        self.chip = SimulatedPn532()
        self.line = Line(self.chip, self.clock)
        self.resets = 0
        self.told: list[tuple[float, Event]] = []
        self.beats_s: list[float] = []
        settings = CardReaderSettings("/dev/card-reader")
        link = Pn532(self.line.connect, self.clock.boot_s)
        self.worker = CardReader(settings, self.clock, KEY, (("reset", self._reset),) if with_reset else (), link)

    def play(self, end_s: float, *actions: tuple[float, Callable[[], None]]) -> list[Event]:
        """Run the worker for ``end_s`` virtual seconds; return what it told in this time."""
        began_s = self.clock.now_s
        before = len(self.told)
        life = Life(
            lambda event: self.told.append((self.clock.now_s - began_s, event)),
            lambda: self.beats_s.append(self.clock.now_s),
            Play(self.clock, actions, end_s),
        )
        self.worker.run(life)
        return [event for _, event in self.told[before:]]

    def _reset(self) -> None:
        self.resets += 1
        self.chip.power_cycle()
