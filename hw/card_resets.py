"""The last cures of a card reader that no command wakes: its reset line, and the switch of its supply."""

from __future__ import annotations

import time
from collections.abc import Callable
from typing import Any, Final

import gpiozero

from hw.worker import AdapterError

RESET_S: Final = 0.01
"""RSTPD_N is held low for this long; the chip wants 20 ns (NXP PN532/C1 data sheet, table of timings)."""
POWER_S: Final = 0.5
"""The supply is cut for this long: the board's capacitors empty."""
UP_S: Final = 0.05
"""Until the chip hears commands again; it wants some 2 ms."""


def reader_resets(
    reset_pin: int | str | None, power_pin: int | str | None, pins: gpiozero.Factory | None
) -> tuple[tuple[str, Callable[[], None]], ...]:
    """Return the cures that are wired, the gentlest first. Both lines are high while the reader works.

    A cure raises ``AdapterError`` if its line can't be moved.
    """
    wired = (("reset", reset_pin, RESET_S), ("power", power_pin, POWER_S))
    return tuple((name, _Line(name, pin, low_s, pins)) for name, pin, low_s in wired if pin is not None)


class _Line:
    """One line, taken when it is needed first and held high from then on."""

    def __init__(self, name: str, pin: int | str, low_s: float, pins: gpiozero.Factory | None) -> None:
        self._name = name
        self._pin = pin
        self._low_s = low_s
        self._pins = pins
        self._line: Any = None

    def __call__(self) -> None:
        try:
            if self._line is None:
                self._line = gpiozero.DigitalOutputDevice(self._pin, initial_value=True, pin_factory=self._pins)
            self._line.off()
            time.sleep(self._low_s)
            self._line.on()
        except Exception as error:  # each pin library raises its own kinds, lgpio's is a bare Exception
            raise AdapterError(
                f"card reader: its {self._name} line (GPIO {self._pin}) can't be moved: {error}; "
                "look which other program holds it",
                may_have_happened=True,
                worth_retrying=True,
            ) from error
        time.sleep(UP_S)
