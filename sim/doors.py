"""The car's side of the door: a latch that two relays move, contacts, a button, and what can go wrong with them."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from threading import RLock, Timer
from typing import Literal

from hw.door import DoorSettings
from hw.door_parts import BUTTON, DRIVER_OPEN, KEY, LOCKED, PASSENGER_OPEN
from onboard.core.commands import Action


@dataclass(frozen=True, slots=True)
class DoorFaults:
    """What is broken. Change ``SimulatedDoor.faults`` at any time."""

    sticks: bool = False
    """The latch does not move, whatever the relays do."""
    slow_s: float = 0.0
    """The latch moves this long after its pulse made it."""
    lock_contact: Literal["works", "says_locked", "says_unlocked", "dead"] = "works"
    """``dead``: the wire is broken, so the pin's pull-up is all the box reads."""


class SimulatedDoor:
    """Latch, two doors and a button behind the box's pins, wired and polarised as ``settings`` say.

    ``set_input(pin, level)`` puts a level on a pin of the box (``PinBoard.set_input``); feed ``on_output`` with what
    the box drives (``PinBoard.start``). The latch needs ``stroke_s`` of a relay to move; two relays on at once are
    remembered in ``both_driven``. Doors can be shut and opened by hand whatever the latch says: getting out is
    mechanical. All pins of ``settings`` must be numbers.
    """

    def __init__(
        self,
        settings: DoorSettings,
        set_input: Callable[[int, bool], None],
        faults: DoorFaults | None = None,
        *,
        stroke_s: float = 0.04,
    ) -> None:
        self.locked = True
        self.driver_open = False
        self.passenger_open = False
        self.key_in_place = True
        self.both_driven = False
        self.pulses: list[Action] = []
        """The last relays that closed, at most 100."""
        self._faults = faults or DoorFaults()
        self._settings = settings
        self._set_input = set_input
        self._stroke_s = stroke_s
        self._lock = RLock()
        self._pressed = False
        self._driven: dict[Action, bool] = dict.fromkeys(Action, False)
        self._timers: set[Timer] = set()
        self._show()

    @property
    def faults(self) -> DoorFaults:
        """What is broken now."""
        return self._faults

    @faults.setter
    def faults(self, faults: DoorFaults) -> None:
        with self._lock:
            self._faults = faults
            self._show()

    def on_output(self, pin: int, level: bool | None) -> None:  # noqa: FBT001 -- a level is the value itself
        """The box drives a pin high or low, or (None) lets it go."""
        for action, its_pin in ((Action.UNLOCK, self._settings.unlock_pin), (Action.LOCK, self._settings.lock_pin)):
            if pin == its_pin:
                self._drive(action, on=level is not None and level == self._settings.relay_active_high)

    def open_door(self, *, passenger: bool = False) -> None:
        """Open a door by its handle or, from inside, by its strap."""
        self._move(passenger=passenger, is_open=True)

    def shut_door(self, *, passenger: bool = False) -> None:
        """Shut a door."""
        self._move(passenger=passenger, is_open=False)

    def put_key(self, *, is_in: bool) -> None:
        """Put the motor's key into its holder, or take it out."""
        with self._lock:
            self.key_in_place = is_in
            self._show()

    def press_button(self) -> None:
        """Press the lock button inside, until ``release_button``."""
        self._press(pressed=True)

    def release_button(self) -> None:
        """Let the button go."""
        self._press(pressed=False)

    def close(self) -> None:
        """Forget movements under way."""
        with self._lock:
            for timer in self._timers:
                timer.cancel()
            self._timers.clear()

    def _drive(self, action: Action, *, on: bool) -> None:
        with self._lock:
            if self._driven[action] == on:
                return
            self._driven[action] = on
            self.both_driven |= all(self._driven.values())
            if not on:
                return
            self.pulses = [*self.pulses[-99:], action]
            self._later(self._stroke_s, lambda: self._stroke(action))

    def _stroke(self, action: Action) -> None:
        with self._lock:
            if not self._driven[action] or self._faults.sticks:
                return  # the pulse was too short, or the latch is stuck
            if self._faults.slow_s > 0:
                self._later(self._faults.slow_s, lambda: self._latch(action))
            else:
                self._latch(action)

    def _latch(self, action: Action) -> None:
        with self._lock:
            self.locked = action is Action.LOCK
            self._show()

    def _later(self, delay_s: float, what: Callable[[], None]) -> None:
        def fire() -> None:
            with self._lock:
                if timer not in self._timers:
                    return  # closed meanwhile
                self._timers.discard(timer)
            what()

        timer = Timer(delay_s, fire)
        timer.daemon = True
        self._timers.add(timer)
        timer.start()

    def _move(self, *, passenger: bool, is_open: bool) -> None:
        with self._lock:
            if passenger:
                self.passenger_open = is_open
            else:
                self.driver_open = is_open
            self._show()

    def _press(self, *, pressed: bool) -> None:
        with self._lock:
            self._pressed = pressed
            self._show()

    def _show(self) -> None:
        """Put every contact's level on its pin: a contact that is closed pulls it to ground."""
        truths = {
            LOCKED: {"works": self.locked, "says_locked": True, "says_unlocked": False}.get(self._faults.lock_contact),
            DRIVER_OPEN: self.driver_open,
            PASSENGER_OPEN: self.passenger_open,
            KEY: self.key_in_place,
            BUTTON: self._pressed,
        }
        for name, pin in self._settings.inputs.items():
            truth = truths[name]
            if isinstance(pin, int):
                closed = truth is not None and self._settings.meaning(name, closed=True) == truth
                self._set_input(pin, not closed)
