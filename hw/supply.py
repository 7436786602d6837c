"""The 12 V battery's voltage: by an ADC of our own behind a divider, or by a monitor that the kernel drives.

``hwmon``: an INA226, INA219 or a relative on I²C. The kernel's ``ina2xx`` driver measures; its file is read, and no
library is needed. ``mcp3008``: the ADC on SPI, by gpiozero. What is measured is told as it is, a 0 of a broken wire
too: what can be a battery is the core's to judge.
"""

from __future__ import annotations

import contextlib
import statistics
from collections import Counter
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Final, Literal

import gpiozero

from hw.clock_sources import Clock
from hw.worker import AdapterError, Life
from onboard.core.commands import Loads
from onboard.core.events import SupplyReported

HWMON: Final = Path("/sys/class/hwmon")
SAMPLES: Final = 9
"""Of one measurement; their median counts. Odd, so that it is one of them."""
REFERENCE_V: Final = 3.3
"""The ADC's reference: the Pi's 3.3 V, good to some 2 %, which the divider's ratio takes in when it is set."""
HWMON_V_MAX: Final = 100.0
BEAT_S: Final = 2.0
OFF_FILE: Final = "power-off"
"""Beside the box's socket: amibox-power-off.path waits for it."""


@dataclass(frozen=True, slots=True)
class SupplySettings:
    """How the battery is measured.

    ``channel``: the ADC's 0 to 7, or of the monitor's ``inN_input``. ``chip``: the monitor's name for the kernel.
    ``divider``: the battery's voltage over that at the input, 1 where there is none.
    """

    kind: Literal["hwmon", "mcp3008"]
    chip: str = "ina226"
    channel: int = 1
    divider: float = 1.0
    every_s: float = 10.0


def hwmon(settings: SupplySettings, folder: Path = HWMON) -> Callable[[], float]:
    """Return what reads the input in volts. Each reading looks for the chip anew: its number changes with each boot.

    A reading raises ``AdapterError`` where there is no such chip, or what it says is no number.
    """

    def read() -> float:
        for name in sorted(folder.glob("*/name")):
            with contextlib.suppress(OSError):  # it went while we looked
                if name.read_text().strip() == settings.chip:
                    return _millivolts(name.parent / f"in{settings.channel}_input") / 1000
        raise _failed(f"no {settings.chip} below {folder}: is it wired, and known to the kernel (docs/power.md)?")

    return read


def _millivolts(file: Path) -> float:
    try:
        told = float(file.read_text())
    except (OSError, ValueError) as error:
        raise _failed(f"{file} can't be read: {error}") from error
    if not abs(told) <= HWMON_V_MAX * 1000:
        raise _failed(f"{file} says {told:g} mV")
    return told


def mcp3008(settings: SupplySettings, pins: gpiozero.Factory | None) -> Callable[[], float]:
    """Return what reads the input in volts; the ADC is opened by the first reading. It raises ``AdapterError``."""
    opened: list[Any] = []

    def read() -> float:
        try:
            if not opened:
                opened.append(gpiozero.MCP3008(settings.channel, max_voltage=REFERENCE_V, pin_factory=pins))
            return float(opened[0].voltage)
        except Exception as error:  # each pin library raises its own kinds, lgpio's is a bare Exception
            while opened:
                with contextlib.suppress(Exception):  # what failed may not close either
                    opened.pop().close()
            raise _failed(f"the ADC can't be read: {error}; is SPI on (dtparam=spi=on), and CE0 wired?") from error

    return read


class Supply:
    """The worker. ``read`` gives the volts at the input; ``counts``: ``measured`` and ``failures``."""

    name = "supply"

    def __init__(self, settings: SupplySettings, clock: Clock, read: Callable[[], float]) -> None:
        self.counts: Counter[str] = Counter()
        self._settings = settings
        self._clock = clock
        self._read = read

    def run(self, life: Life) -> None:
        """Measure until stopped. Raises ``AdapterError``; the core then doubts its last voltage by itself."""
        while not life.stop.is_set():
            try:
                inputs_v = [self._read() for _ in range(SAMPLES)]
            except AdapterError:
                self.counts["failures"] += 1
                raise
            self.counts["measured"] += 1
            voltage_v = round(statistics.median(inputs_v) * self._settings.divider, 3)
            life.emit(SupplyReported(voltage_v, self._clock.boot_s()))
            left_s = self._settings.every_s
            while left_s > 0 and not life.stop.is_set():
                life.beat()
                life.stop.wait(min(BEAT_S, left_s))
                left_s -= BEAT_S


class Switch:
    """A load's switch at a pin: high is on, and a pull-up keeps it on without the box. Taken with the first use."""

    def __init__(self, pin: int | str, pins: gpiozero.Factory | None) -> None:
        self._pin = pin
        self._pins = pins
        self._line: Any = None

    def set(self, *, on: bool) -> None:
        """Switch. Raises what the pin library raises."""
        if self._line is None:
            self._line = gpiozero.DigitalOutputDevice(self._pin, initial_value=on, pin_factory=self._pins)
        self._line.value = on


def modem_switch(pin: int | str, pins: gpiozero.Factory | None) -> Callable[[Loads], None]:
    """Return what switches the modem's supply, as the core wants it; it may raise."""
    switch = Switch(pin, pins)
    return lambda loads: switch.set(on=loads.modem)


def ask_off(file: Path) -> Callable[[float], None]:
    """Return what asks systemd's amibox-power-off.path for the machine's end: ``file`` names the seconds to its waking.

    It raises OSError where the file can't be written.
    """

    def ask(wake_in_s: float) -> None:
        half = file.with_name(f".{file.name}")
        half.write_text(f"{wake_in_s:.0f}\n")
        half.replace(file)

    return ask


def _failed(what: str) -> AdapterError:
    return AdapterError(f"12 V: {what}", may_have_happened=False, worth_retrying=True)
