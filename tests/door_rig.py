"""A door to try: in virtual time on mock pins, or alive in a thread of its own."""

from __future__ import annotations

import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from threading import Event as Flag
from threading import Lock, Thread
from typing import Any, TypeVar

from gpiozero.pins.mock import MockFactory, MockPin

from hw.clock_sources import Clock, SystemClock
from hw.door import Door, DoorSettings
from hw.interlock import Interlock
from hw.worker import AdapterError, Life
from onboard.core.clock import ClockQuality, Instant
from onboard.core.events import Event

SETTINGS = DoorSettings(
    unlock_pin=17,
    lock_pin=27,
    driver_contact_pin=5,
    passenger_contact_pin=6,
    lock_contact_pin=13,
    lock_button_pin=19,
    key_contact_pin=12,
    led_pin=20,
    buzzer_pin=21,
    pulse_s=0.15,
)
DEADLINE_S = 10.0
Kind = TypeVar("Kind", bound=Event)


class VirtualClock:
    """Stands still until it is told the time."""

    def __init__(self, boot_s: float = 100.0) -> None:
        self.at_s = boot_s

    def boot_s(self) -> float:
        return self.at_s

    def now(self) -> Instant:
        return Instant(self.at_s, 0.0, ClockQuality.UNSET)

    def wait_s(self, boot_s: float) -> float:
        return max(0.0, boot_s - self.at_s)


class WiredPin(MockPin):  # type: ignore[misc]  # gpiozero has no type information
    """A mock pin that tells ``factory.on_output`` what it is driven to; None: let go."""

    def _set_state(self, value: float) -> None:
        super()._set_state(value)
        self.factory.on_output(self._number, bool(value))

    def _set_function(self, value: str) -> None:
        was = self._function
        super()._set_function(value)
        if was == "output" and value == "input":
            self.factory.on_output(self._number, None)

    def _set_pull(self, value: str) -> None:
        super()._set_pull(value)
        self.follow()

    def follow(self) -> None:
        level = self.factory.levels.get(self._number)
        if self._function == "input" and level is not None:
            if level:
                self.drive_high()
            else:
                self.drive_low()


class WiredFactory(MockFactory):  # type: ignore[misc]  # gpiozero has no type information
    """Mock pins with a car behind them: the same two ends as ``sim.pins``, in one process."""

    def __init__(self) -> None:
        super().__init__(pin_class=WiredPin)
        self.on_output: Callable[[int, bool | None], None] = lambda _pin, _level: None
        self.levels: dict[int, bool] = {}

    def set_input(self, pin: int, level: bool) -> None:
        self.levels[pin] = level
        self.pin(pin).follow()


class Bench:
    """One door in virtual time. ``until`` turns it as its thread would, and keeps every event with its moment."""

    def __init__(self, factory: Any, settings: DoorSettings = SETTINGS) -> None:
        self.clock = VirtualClock()
        self.events: list[tuple[float, Event]] = []
        self.beats = 0
        self.door = Door(settings, self.clock, Interlock(), factory)
        self.life = Life(self._emit, self._beat, Flag())
        self.factory = factory
        self.door._life = self.life
        self.door._open()

    def _emit(self, event: Event) -> None:
        self.events.append((self.clock.at_s, event))

    def _beat(self) -> None:
        self.beats += 1

    def until(self, at_s: float) -> None:
        """Let time pass to ``at_s``: a turn whenever one is due, one at the end."""
        while self.clock.at_s < at_s:
            wait_s = self.door._turn(self.life)
            self.clock.at_s = round(min(at_s, self.clock.at_s + max(wait_s, 0.002)), 6)
        self.door._turn(self.life)

    def level(self, pin: int) -> bool:
        return bool(self.factory.pin(pin).state)

    def of(self, kind: type[Kind]) -> list[tuple[float, Kind]]:
        return [(at_s, event) for at_s, event in self.events if isinstance(event, kind)]


class LiveDoor:
    """A door served by a thread, as the reactor would."""

    def __init__(self, factory: Any, settings: DoorSettings = SETTINGS, clock: Clock | None = None) -> None:
        self.clock = clock or SystemClock()
        self.interlock = Interlock()
        self.door = Door(settings, self.clock, self.interlock, factory)
        self.error: AdapterError | None = None
        self.raise_on: Callable[[Event], bool] = lambda _event: False
        self._events: list[Event] = []
        self._lock = Lock()
        self._stop = Flag()
        self._thread = Thread(target=self._serve, daemon=True)

    def _serve(self) -> None:
        try:
            self.door.run(Life(self._emit, lambda: None, self._stop))
        except AdapterError as error:
            self.error = error

    def _emit(self, event: Event) -> None:
        with self._lock:
            self._events.append(event)
        if self.raise_on(event):
            raise RuntimeError("nobody takes this event")

    def start(self) -> None:
        self._thread.start()

    def stop(self) -> None:
        self._stop.set()
        self.door._wake.set()  # not to wait for its next turn
        self.join()

    def join(self) -> None:
        """Wait for the thread's end."""
        self._thread.join(DEADLINE_S)
        assert not self._thread.is_alive(), "the door did not stop"

    def events(self, kind: type[Kind]) -> list[Kind]:
        with self._lock:
            return [event for event in self._events if isinstance(event, kind)]

    def wait_for(self, kind: type[Kind], wanted: Callable[[Kind], bool] = lambda _event: True) -> Kind:
        """Return the first event of this kind that fits, waiting for it."""
        found: list[Kind] = []

        def look() -> bool:
            found[:] = [event for event in self.events(kind) if wanted(event)]
            return bool(found)

        wait_until(look, f"{kind.__name__}; came: {self.events(kind)}")
        return found[0]


@contextmanager
def served(door: LiveDoor) -> Iterator[LiveDoor]:
    """Serve the door while the block runs."""
    door.start()
    try:
        yield door
    finally:
        door.stop()


def wait_until(condition: Callable[[], bool], what: str) -> None:
    """Return as soon as ``condition`` holds; fail after a generous deadline."""
    deadline_s = time.monotonic() + DEADLINE_S
    while not condition():
        assert time.monotonic() < deadline_s, f"waited in vain for {what}"
        time.sleep(0.005)


class StuckPin(MockPin):  # type: ignore[misc]  # gpiozero has no type information
    """A line that stays high once it was driven high."""

    def _set_state(self, value: float) -> None:
        super()._set_state(value or self._state)


class DeadPin(MockPin):  # type: ignore[misc]  # gpiozero has no type information
    """A line whose driver fails when it is switched on."""

    def _set_state(self, value: float) -> None:
        if value:
            raise OSError(5, "the chip does not answer")
        super()._set_state(value)


class StutteringPin(MockPin):  # type: ignore[misc]  # gpiozero has no type information
    """A line whose driver fails the first time it is switched off again, and then works."""

    stuttered = False

    def _set_state(self, value: float) -> None:
        if not value and self._state and not self.stuttered:
            self.stuttered = True
            raise OSError(5, "the chip does not answer")
        super()._set_state(value)
