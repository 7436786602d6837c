"""The door's pure half: contacts that bounce, when to report them, answers of light and sound. Time is an argument."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from typing import Final

from onboard.core.commands import Pattern
from onboard.core.events import DoorReported, LockButtonPressed

LOCKED: Final = "locked"
DRIVER_OPEN: Final = "driver_open"
PASSENGER_OPEN: Final = "passenger_open"
KEY: Final = "key_in_place"
BUTTON: Final = "button"
SAFE: Final[Mapping[str, bool]] = {LOCKED: False, DRIVER_OPEN: True, PASSENGER_OPEN: True, KEY: False, BUTTON: False}
"""The inputs, and what each reads as while it can't be trusted: no trip ends on it, nothing locks."""

CHATTER_S: Final = 1.0
"""A contact that has not come to rest by then can't be trusted, and is counted."""
REPORT_EVERY_S: Final = 2.0
REPORT_SOON_S: Final = 0.2
REPORT_SOON_FOR_S: Final = 5.0


class Contact:
    """One switch: a level counts once it has held for ``rest_s``. ``value`` is ``safe`` until the first one does.

    One that chatters for a second reads as ``safe`` until it rests.
    """

    def __init__(self, rest_s: float, *, safe: bool) -> None:
        self.value = safe
        self.at_rest = False
        """False while a change is under way: ``value`` is about to be old."""
        self.chatters = False
        self._rest_s = rest_s
        self._safe = safe
        self._level: bool | None = None
        self._since_s = 0.0
        self._restless_s: float | None = None

    def feed(self, *, level: bool, now_s: float) -> None:
        """Take a reading at boot time ``now_s``."""
        if level != self._level:
            self._level, self._since_s, self.at_rest = level, now_s, False
            if self._restless_s is None:
                self._restless_s = now_s
        if self.at_rest or self._restless_s is None:
            return
        if now_s - self._since_s >= self._rest_s:
            self.value, self.at_rest, self.chatters, self._restless_s = level, True, False, None
        elif now_s - self._restless_s >= CHATTER_S:
            self.value, self.chatters = self._safe, True


class Contacts:
    """Turns readings of the fitted inputs into ``DoorReported`` and ``LockButtonPressed``.

    A report is due on every change, every 2 s, and every 0.2 s for 5 s after a pulse, when somebody waits for it. Every
    2 s in a parked car too: the core needs one no older than 5 s when a driver wants to lock, and it costs little
    beside the wake-up that the watchdog needs anyway. A report is put off while a contact is not at rest, so that
    ``sampled_s`` never stands beside a value that is about to be old. A contact that is not fitted reads None.
    """

    def __init__(self, fitted: Iterable[str], rest_s: float, counts: Counter[str]) -> None:
        self._contacts = {name: Contact(rest_s, safe=SAFE[name]) for name in fitted}
        self._counts = counts
        self._told: tuple[bool | None, ...] | None = None
        self._due_s = float("-inf")
        self._soon_until_s = float("-inf")
        self._button_armed = False

    @property
    def at_rest(self) -> bool:
        """Whether no change is under way; while one is, feed every few milliseconds."""
        return all(contact.at_rest for contact in self._contacts.values())

    @property
    def due_s(self) -> float:
        """Boot time of the next report."""
        return self._due_s

    def expect(self, now_s: float) -> None:
        """Report at once, and often from now on: a pulse has just ended."""
        self._due_s = now_s
        self._soon_until_s = now_s + REPORT_SOON_FOR_S

    def feed(self, levels: Mapping[str, bool], now_s: float) -> list[DoorReported | LockButtonPressed]:
        """Take one reading of all fitted inputs, made at boot time ``now_s``."""
        for name, contact in self._contacts.items():
            chattered = contact.chatters
            contact.feed(level=levels[name], now_s=now_s)
            if contact.chatters and not chattered:
                self._counts[f"chatter_{name}"] += 1
        events: list[DoorReported | LockButtonPressed] = []
        if self._pressed():
            events.append(LockButtonPressed())
        report = self._report(now_s)
        if report is not None:
            events.append(report)
        return events

    def _pressed(self) -> bool:
        """Tell a press once. A button that is already down at the start must come up first."""
        button = self._contacts.get(BUTTON)
        if button is None or not button.at_rest:
            return False
        pressed = button.value and self._button_armed
        self._button_armed = not button.value
        return pressed

    def _report(self, now_s: float) -> DoorReported | None:
        values: list[bool | None] = []
        for name in (LOCKED, DRIVER_OPEN, PASSENGER_OPEN, KEY):
            contact = self._contacts.get(name)
            if contact is not None and not (contact.at_rest or contact.chatters):
                return None
            values.append(None if contact is None else contact.value)
        if tuple(values) == self._told and now_s < self._due_s:
            return None
        self._told = tuple(values)
        self._due_s = now_s + (REPORT_SOON_S if now_s < self._soon_until_s else REPORT_EVERY_S)
        locked, driver_open, passenger_open, key_in_place = values
        return DoorReported(locked, driver_open, passenger_open, sampled_s=now_s, key_in_place=key_in_place)


@dataclass(frozen=True, slots=True)
class Step:
    """A stretch of a pattern."""

    lasts_s: float
    light: bool
    sound: bool


DARK: Final = Step(float("inf"), light=False, sound=False)
NOTICED: Final = (Step(1.0, light=True, sound=False),)
"""Light alone: somebody's card is being read. The answer follows, and begins with light too."""


class Player:
    """Plays one pattern at a time; a new one replaces the old."""

    def __init__(self, table: Mapping[Pattern, tuple[Step, ...]]) -> None:
        self._table = table
        self._steps: tuple[Step, ...] = ()
        self._started_s = 0.0

    def show(self, pattern: Pattern | None, now_s: float) -> None:
        """Begin ``pattern`` at boot time ``now_s``; None: ``NOTICED``."""
        self._steps, self._started_s = NOTICED if pattern is None else self._table[pattern], now_s

    def at(self, now_s: float) -> tuple[Step, float]:
        """Return the step in force at ``now_s`` and the boot time at which it ends."""
        ends_s = self._started_s
        for step in self._steps:
            ends_s += step.lasts_s
            if now_s < ends_s:
                return step, ends_s
        self._steps = ()
        return DARK, float("inf")
