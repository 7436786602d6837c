"""The car's 12 V battery, and the two ways in which a box sees it: an ADC on simulated pins, a monitor's folder.

The curve is that of the power budget: the usual chart for lead and acid, no measurement of an AMI's battery.
"""

from __future__ import annotations

from dataclasses import dataclass
from itertools import pairwise
from pathlib import Path
from typing import Any, Final

from gpiozero.pins.mock import MockSPIDevice

from hw.power_budget import REST_V

FED_V: Final = 14.2
"""While the car is on or charges (when exactly an AMI feeds it is not known)."""
FED_A: Final = 5.0
OHMS: Final = 0.05
HOUR_S: Final = 3600.0


@dataclass(slots=True)
class Battery:
    """A battery of ``capacity_ah`` with ``charge_ah`` in it. ``advance`` lets time pass."""

    capacity_ah: float = 12.0
    charge_ah: float = 12.0
    fed: bool = False
    load_a: float = 0.0

    def advance(self, seconds: float) -> None:
        """Draw the load, and charge while fed."""
        net_a = (FED_A if self.fed else 0.0) - self.load_a
        self.charge_ah = min(self.capacity_ah, max(0.0, self.charge_ah + net_a * seconds / HOUR_S))

    @property
    def voltage_v(self) -> float:
        """What is between its poles."""
        if self.fed:
            return FED_V
        left = self.charge_ah / self.capacity_ah
        for (low, low_v), (high, high_v) in pairwise(REST_V):
            if left <= high:
                return low_v + (high_v - low_v) * (left - low) / (high - low) - self.load_a * OHMS
        raise AssertionError("a share above 1")


class SimulatedAdc(MockSPIDevice):  # type: ignore[misc]  # gpiozero has no type information
    """An MCP3008 on the SPI pins of a mock factory (data sheet DS21295, figure 6-1).

    ``inputs_v`` may change at any time. ``there`` false: nobody drives the line, and every bit reads as 0.
    """

    def __init__(self, pins: Any, reference_v: float = 3.3) -> None:
        super().__init__(11, 10, 9, 8, pin_factory=pins)
        self.inputs_v = [0.0] * 8
        self.there = True
        self._reference_v = reference_v

    def on_bit(self) -> None:
        """Answer once the start bit, single-ended and three bits of the channel have come."""
        if not self.there or 1 not in self.rx_buf:
            return
        heard = self.rx_buf[self.rx_buf.index(1) :]
        if len(heard) == 5:
            single, channel = heard[1], heard[2] * 4 + heard[3] * 2 + heard[4]
            value = self.inputs_v[channel] / self._reference_v if single else 0.0
            self.tx_word(0, 2)  # it samples, then a null bit
            self.tx_word(min(1023, max(0, int(value * 1024))), 10)


class SimulatedMonitor:
    """A monitor as the kernel shows it below /sys/class/hwmon, beside another chip. ``unplug``: it is gone."""

    def __init__(self, folder: Path, chip: str = "ina226") -> None:
        self._folder = folder
        self._chip = chip
        self._number = 0
        other = folder / "hwmon0"
        other.mkdir(parents=True)
        (other / "name").write_text("cpu_thermal\n")
        (other / "in1_input").write_text("850\n")

    def plug_in(self) -> None:
        """Be found, under another number than the last time."""
        self._number += 1
        self._here.mkdir()
        (self._here / "name").write_text(f"{self._chip}\n")

    def unplug(self) -> None:
        """Go."""
        for file in self._here.iterdir():
            file.unlink()
        self._here.rmdir()

    def show(self, text: str) -> None:
        """Have its bus voltage read as this."""
        (self._here / "in1_input").write_text(text)

    @property
    def _here(self) -> Path:
        return self._folder / f"hwmon{self._number}"
