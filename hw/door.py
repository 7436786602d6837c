"""The door: two relay pulses, the contacts, a button, a light and a buzzer, through gpiozero.

Safe by construction. A relay line is *on* only while a pulse lasts; there is no latching output. ``unlock`` and
``lock`` are never on together. A pulse ends by itself, and every way out of ``run`` switches all outputs off and gives
their lines back. When the process dies, the kernel takes the lines back: they become inputs, and a pull-down at the
relay (most relay boards have one) releases it. Raspberry Pi OS keeps the level instead, unless its ``config.txt`` says
``dtparam=strict_gpiod`` (raspberrypi/linux pull request 6117); ``make_pin_factory`` warns where that is missing. Use
relays that close on a *high* level: an active-low one may close for a moment whenever its line is claimed.

The first thing that a restarted door does is to switch its outputs off; a pulse asked for before is refused, not given
late.
"""

from __future__ import annotations

import logging
import time
from collections import Counter, deque
from collections.abc import Mapping
from contextlib import suppress
from dataclasses import dataclass
from importlib import import_module
from pathlib import Path
from threading import Event as Flag
from typing import Any, Final

import gpiozero

from hw.clock_sources import Clock
from hw.door_parts import BUTTON, DRIVER_OPEN, KEY, LOCKED, PASSENGER_OPEN, Contacts, Player, Step
from hw.interlock import PULSE_MAX_S, PULSE_MIN_S, Interlock
from hw.worker import AdapterError, Life
from onboard.core.commands import Action, Actuate, Pattern
from onboard.core.events import ActuationOutcome, ActuationSettled

_LOG = logging.getLogger(__name__)

_BEEP: Final = (Step(0.15, light=True, sound=True), Step(0.15, light=False, sound=False))
_BUZZ: Final = (Step(0.6, light=True, sound=True), Step(0.3, light=False, sound=False))
PATTERNS: Final[Mapping[Pattern, tuple[Step, ...]]] = {
    Pattern.GRANTED: (Step(0.15, light=True, sound=True), Step(1.85, light=True, sound=False)),
    Pattern.DENIED: _BUZZ,
    Pattern.TRY_AGAIN: _BEEP * 2,
    Pattern.ONE_CARD: _BEEP * 4,
    Pattern.OUT_OF_ORDER: _BUZZ * 3,
}
"""The five answers, told apart by ear alone: one beep yes, one buzz no, two beeps again, four beeps one card at a time,
three buzzes out of order. Each begins with light, so a tap is seen at once."""

ASKED_MAX: Final = 8
LATE_S: Final = 1.0
"""What could not be begun by then is not wanted any more."""
IDLE_S: Final = 0.5
"""Longest sleep: the worker must notice ``stop`` within a second, and an edge that the kernel lost."""
RESTLESS_S: Final = 0.01
TURN_MIN_S: Final = 0.002
"""A storm of edges can't make more than 500 turns a second."""


@dataclass(frozen=True, slots=True)
class DoorSettings:
    """Where things are wired. Pins are BCM numbers or gpiozero's names; None: not fitted. Inputs have pull-ups.

    Raises ValueError for a pin used twice or a time out of bounds.
    """

    unlock_pin: int | str
    lock_pin: int | str
    driver_contact_pin: int | str | None = None
    passenger_contact_pin: int | str | None = None
    lock_contact_pin: int | str | None = None
    lock_button_pin: int | str | None = None
    key_contact_pin: int | str | None = None
    """Connects to ground while the motor's key is in its place, so that a broken wire reads as missing."""
    led_pin: int | str | None = None
    buzzer_pin: int | str | None = None
    relay_active_high: bool = True
    door_closed_when_open: bool = False
    """True: a door's contact connects its pin to ground while the door is *open*; false: while it is shut, so that a
    broken wire reads as open."""
    lock_closed_when_unlocked: bool = False
    """True: the lock's contact connects its pin to ground while *unlocked*; false: while locked, so that a broken wire
    reads as unlocked."""
    pulse_s: float = 0.3
    debounce_s: float = 0.03

    def __post_init__(self) -> None:
        """Check what can be checked without the hardware."""
        if not PULSE_MIN_S <= self.pulse_s <= PULSE_MAX_S:
            raise ValueError(f"pulse_s is {self.pulse_s}: set it from {PULSE_MIN_S} to {PULSE_MAX_S}")
        if not 0.005 <= self.debounce_s <= 0.2:
            raise ValueError(f"debounce_s is {self.debounce_s}: set it from 0.005 to 0.2")
        pins = [pin for pin in (*self.outputs.values(), *self.inputs.values()) if pin is not None]
        twice = [str(pin) for pin, uses in Counter(pins).items() if uses > 1]
        if twice:
            raise ValueError(f"pin {', '.join(twice)} is used twice: give each part a pin of its own")

    @property
    def outputs(self) -> dict[str, int | str | None]:
        """Pins of relays, light and buzzer."""
        return {"unlock": self.unlock_pin, "lock": self.lock_pin, "led": self.led_pin, "buzzer": self.buzzer_pin}

    @property
    def inputs(self) -> dict[str, int | str | None]:
        """Pins of contacts and button."""
        return {
            LOCKED: self.lock_contact_pin,
            DRIVER_OPEN: self.driver_contact_pin,
            PASSENGER_OPEN: self.passenger_contact_pin,
            KEY: self.key_contact_pin,
            BUTTON: self.lock_button_pin,
        }

    def meaning(self, name: str, *, closed: bool) -> bool:
        """Say what an input's contact to ground means: locked, open, key in its place, or pressed."""
        if name == LOCKED:
            return closed != self.lock_closed_when_unlocked
        if name in (BUTTON, KEY):
            return closed
        return closed == self.door_closed_when_open


_FACTORIES: Final = {
    "lgpio": "gpiozero.pins.lgpio:LGPIOFactory",
    "native": "gpiozero.pins.native:NativeFactory",
    "mock": "gpiozero.pins.mock:MockFactory",
}
_PERSIST: Final = ("pinctrl_bcm2835/parameters/persist_gpio_outputs", "pinctrl_rp1/parameters/persist_gpio_outputs")


def make_pin_factory(name: str, modules: Path = Path("/sys/module")) -> gpiozero.Factory:
    """Build the pins: ``lgpio`` (for a Raspberry Pi), ``native``, ``mock``, or ``module:Class``, called with nothing.

    Raises ``AdapterError`` that says what to install or to correct. ``modules`` is where the kernel shows its modules'
    parameters: a kernel that would leave a relay on when the process dies is warned about.
    """
    module, colon, cls = _FACTORIES.get(name, name).partition(":")
    if not colon:
        known = ", ".join(_FACTORIES)
        raise _lost(f'there is no pin factory "{name}"', f"use one of {known}, or module:Class")
    try:
        factory = getattr(import_module(module), cls)()
    except (ImportError, AttributeError) as error:
        remedy = "correct the name of the pin factory"
        if name == "lgpio":
            remedy = (
                'run .venv/bin/pip install "lgpio==0.2.2.0" '
                "(on Python 3.13 first: sudo apt install gcc python3-dev swig)"
            )
        raise _lost(f"pin factory {name} can't be loaded: {error}", remedy) from error
    except Exception as error:  # each library raises its own kinds, lgpio's is a bare Exception
        remedy = "run this on a Raspberry Pi, as a user of group gpio (sudo usermod -aG gpio USER)"
        raise _lost(f"pin factory {name} doesn't start: {error}", remedy) from error
    for parameter in _PERSIST:
        with suppress(OSError):
            if name != "mock" and (modules / parameter).read_text().strip() == "Y":
                _LOG.warning(
                    "this kernel leaves a relay on when the program dies in a pulse: "
                    "add dtparam=strict_gpiod to /boot/firmware/config.txt and reboot"
                )
    return factory


def _lost(what: str, remedy: str, *, may_have_happened: bool = False) -> AdapterError:
    return AdapterError(f"door: {what}; {remedy}", may_have_happened=may_have_happened, worth_retrying=True)


@dataclass(frozen=True, slots=True)
class _Pulse:
    actuation: int
    relay: str
    ends_s: float


class Door:
    """The worker of the door. ``actuate`` and ``show`` are for the reactor's thread and return at once."""

    def __init__(
        self, settings: DoorSettings, clock: Clock, interlock: Interlock, pin_factory: gpiozero.Factory
    ) -> None:
        self.name = "door"
        self.counts: Counter[str] = Counter()
        self._settings = settings
        self._clock = clock
        self._interlock = interlock
        self._factory = pin_factory
        self._asked: deque[tuple[float, Actuate]] = deque()
        self._shown: deque[tuple[float, Pattern | None]] = deque(maxlen=1)
        self._wake = Flag()
        self._life: Life | None = None
        self._outputs: dict[str, Any] = {}
        self._inputs: dict[str, Any] = {}
        self._contacts = Contacts((), settings.debounce_s, self.counts)
        self._player = Player(PATTERNS)
        self._pulse: _Pulse | None = None

    def actuate(self, command: Actuate) -> None:
        """Ask for a pulse; ``ActuationSettled`` with its number follows.

        ``REFUSED`` (nothing moved) if the interlock says no or it can't begin within a second, ``FAILED`` (it may have
        moved) if a pin failed or the worker was stopped in the pulse, else ``DONE``.

        Beyond 8 waiting ones it is refused at once; if the door is out of order then, only ``counts`` tells.
        """
        if len(self._asked) >= ASKED_MAX:
            self._refuse(command, "too_many")
            return
        self._asked.append((self._clock.boot_s(), command))
        self._wake.set()

    def show(self, pattern: Pattern) -> None:
        """Give an answer by light and sound; it replaces one that is under way."""
        self._shown.append((self._clock.boot_s(), pattern))
        self._wake.set()

    def notice(self) -> None:
        """Show by light that somebody is heard; from any thread. The answer replaces it."""
        self._shown.append((self._clock.boot_s(), None))
        self._wake.set()

    def run(self, life: Life) -> None:
        """Serve the door until stopped. Raises ``AdapterError`` when a pin fails; all outputs are off then."""
        self._life = life
        try:
            self._open()
            while not life.stop.is_set():
                life.beat()
                began_s = time.monotonic()
                self._wake.wait(self._turn(life))
                # Only the rest of it: a door that was at rest moves at once.
                life.stop.wait(max(0.0, began_s + TURN_MIN_S - time.monotonic()))
                self._wake.clear()
        except AdapterError:
            self.counts["lost"] += 1
            raise
        except Exception as error:
            self.counts["lost"] += 1
            may_have_happened = self._pulse is not None
            raise _lost(
                str(error) or type(error).__name__,
                "check the wiring and that nothing else uses these pins",
                may_have_happened=may_have_happened,
            ) from error
        finally:
            self.close()
            self._life = None

    def close(self) -> None:
        """Switch every output off and give all pins back, whatever fails on the way. A cut pulse counts as failed."""
        pulse, self._pulse = self._pulse, None
        for device in (*self._outputs.values(), *self._inputs.values()):
            with suppress(Exception):  # the next device must still be closed
                if isinstance(device, gpiozero.OutputDevice):
                    device.off()
            with suppress(Exception):  # as above
                device.close()
        self._outputs, self._inputs = {}, {}
        if pulse is not None and self._life is not None:
            with suppress(Exception):  # the caller is already on its way out, maybe for this very reason
                self._settle(self._life, pulse.actuation, ActuationOutcome.FAILED, "pulse_cut")

    def _open(self) -> None:
        """Claim the pins, outputs first and off."""
        settings = self._settings
        for pin in (*settings.outputs.values(), *settings.inputs.values()):
            if pin is not None:
                # A pin that fails within a device's constructor would stay reserved for as long as the error is kept.
                self._factory.pin(pin)
        for name, pin in settings.outputs.items():
            if pin is not None:
                active_high = settings.relay_active_high or name not in (Action.UNLOCK, Action.LOCK)
                self._outputs[name] = gpiozero.OutputDevice(
                    pin, active_high=active_high, initial_value=False, pin_factory=self._factory
                )
        for name, pin in settings.inputs.items():
            if pin is not None:
                device = gpiozero.DigitalInputDevice(pin, pull_up=True, pin_factory=self._factory)
                self._inputs[name] = device
                device.when_activated = device.when_deactivated = self._wake.set
        self._contacts = Contacts(self._inputs, settings.debounce_s, self.counts)

    def _turn(self, life: Life) -> float:
        """Do what is due, and return for how many real seconds nothing will be."""
        if self._pulse is not None and self._clock.boot_s() >= self._pulse.ends_s:
            self._end_pulse(life, self._pulse)
        # A driver who opens and locks at once shall not have to ask twice: the second pulse waits for the relay's rest.
        while self._pulse is None and self._asked and self._clock.boot_s() >= self._interlock.rest_until_s:
            self._begin_pulse(*self._asked.popleft())
        now_s = self._clock.boot_s()
        if self._shown:
            asked_s, pattern = self._shown.popleft()
            if now_s - asked_s <= LATE_S:
                self._player.show(pattern, now_s)
        step, ends_s = self._player.at(now_s)
        for name, on in (("led", step.light), ("buzzer", step.sound)):
            if name in self._outputs and self._outputs[name].is_active != on:
                self._outputs[name].value = on
        # The time is taken before the reading: a report is never younger than what it says.
        now_s = self._clock.boot_s()
        levels = {name: self._settings.meaning(name, closed=device.is_active) for name, device in self._inputs.items()}
        for event in self._contacts.feed(levels, now_s):
            life.emit(event)
        due_s = min(ends_s, self._contacts.due_s if self._contacts.at_rest else now_s + RESTLESS_S)
        if self._pulse is not None:
            due_s = min(due_s, self._pulse.ends_s)
        elif self._asked:
            due_s = min(due_s, self._interlock.rest_until_s)
        return min(IDLE_S, self._clock.wait_s(due_s))

    def _begin_pulse(self, asked_s: float, command: Actuate) -> None:
        now_s = self._clock.boot_s()
        if now_s - asked_s > LATE_S:
            self._refuse(command, "too_late")
            return
        denied = self._interlock.permit(command.action, now_s, self._settings.pulse_s)
        if denied is not None:
            self._refuse(command, denied)
            return
        relay, other = (Action.UNLOCK, Action.LOCK) if command.action is Action.UNLOCK else (Action.LOCK, Action.UNLOCK)
        self._pulse = _Pulse(command.actuation, relay, now_s + self._settings.pulse_s)
        self._switch(other, on=False)
        self._switch(relay, on=True)

    def _end_pulse(self, life: Life, pulse: _Pulse) -> None:
        self._switch(pulse.relay, on=False)
        self._pulse = None
        self._contacts.expect(self._clock.boot_s())
        self._settle(life, pulse.actuation, ActuationOutcome.DONE, "")

    def _switch(self, relay: str, *, on: bool) -> None:
        """Set a relay's line and read it back: a line that doesn't follow is a fault."""
        device = self._outputs[relay]
        device.value = on
        if bool(device.is_active) != on:
            raise _lost(f"the {relay} line doesn't follow", "check its wiring", may_have_happened=True)

    def _refuse(self, command: Actuate, reason: str) -> None:
        self.counts[f"refused_{reason}"] += 1
        life = self._life
        if life is not None:
            self._settle(life, command.actuation, ActuationOutcome.REFUSED, reason)

    def _settle(self, life: Life, actuation: int, outcome: ActuationOutcome, reason: str) -> None:
        life.emit(ActuationSettled(actuation, outcome, reason, self._clock.boot_s()))
