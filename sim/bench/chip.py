"""The kernel's simulated GPIO chip (gpio-sim), and what a contact says before anybody plays the car.

``python -m sim.bench.chip RIG.toml`` is run by a unit of the guest at boot, before the box starts: a header and its
contacts are there as soon as there is power. Only the standard library, so that it takes no time.
"""

from __future__ import annotations

import json
import sys
import tomllib
from pathlib import Path
from typing import Final

CONFIGFS: Final = Path("/sys/kernel/config/gpio-sim")
PI_LINES: Final = 54
CONTACTS: Final = ("driver_contact_pin", "passenger_contact_pin", "lock_contact_pin")


class SimulatedPins:
    """Reads what the box drives, and pulls what the box reads."""

    def __init__(self, label: str) -> None:
        """Make the chip if it isn't there. OSError where the kernel has no gpio-sim, or this is not root."""
        chip = CONFIGFS / label
        bank = chip / "bank0"
        if not chip.exists():
            chip.mkdir()
            bank.mkdir()
            (bank / "num_lines").write_text(str(PI_LINES))
            (bank / "label").write_text("pinctrl-bcm2711")
            (chip / "live").write_text("1")
        device = (chip / "dev_name").read_text().strip()
        self._lines = Path("/sys/devices/platform") / device / (bank / "chip_name").read_text().strip()

    def read(self, pin: int) -> bool:
        """Return the level of a line."""
        return (self._lines / f"sim_gpio{pin}" / "value").read_text().strip() == "1"

    def pull(self, pin: int, *, up: bool) -> None:
        """Put a level on a line that the box reads."""
        (self._lines / f"sim_gpio{pin}" / "pull").write_text("pull-up" if up else "pull-down")

    def close(self) -> None:
        """Leave the chip as it is: the box holds its lines."""


def main() -> int:
    """Make the chip; doors are shut, the latch is as it was left."""
    rig = tomllib.loads(Path(sys.argv[1]).read_text())
    pins = SimulatedPins(rig["gpio"]["label"])
    memory = Path(rig["car"]["memory"])
    locked = not memory.exists() or json.loads(memory.read_text())["locked"]
    for name in CONTACTS:
        pins.pull(rig["pins"][name], up=name == "lock_contact_pin" and not locked)
    return 0


if __name__ == "__main__":
    sys.exit(main())
