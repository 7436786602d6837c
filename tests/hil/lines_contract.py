"""Runs in the guest, for test_6_lines: what the two kinds of the car's pins do to a line, seen from its other end.

Each kind gets a gpio-sim chip of its own. Of the kernel's pins (``SimulatedPins``) the other end is lgpio, as in the
box; of real lines (``RealLines``, by lgpio) it is the chip's sysfs. One JSON object is said: step -> level.
"""

from __future__ import annotations

import json
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

from sim.bench.chip import CONFIGFS, SimulatedPins
from sim.bench.pins import BoardFactory
from sim.real_lines import RealLines

RELAY, CONTACT = 17, 13
CHIP = "contract"


def steps(car: Any, drive: Callable[[bool | None], None], feel: Callable[[], bool]) -> dict[str, bool]:
    """The same moves at both kinds. ``drive`` is the box at its relay's line, ``feel`` at its contact's."""
    seen = {}
    for name, level in (("high", True), ("low", False), ("high again", True), ("released", None)):
        drive(level)
        seen[f"relay {name}"] = car.read(RELAY)
    for name, up in (("open", True), ("closed", False), ("still closed", False), ("open again", True)):
        car.pull(CONTACT, up=up)
        seen[f"contact {name}"] = feel()
    return seen


def simulated(car: SimulatedPins, chip: int) -> dict[str, bool]:
    box = BoardFactory(chip)
    relay, contact = box.pin(RELAY), box.pin(CONTACT)
    contact.pull = "up"

    def drive(level: bool | None) -> None:
        if level is None:
            relay.close()
        else:
            relay.output_with_state(level)

    seen = steps(car, drive, lambda: bool(contact.state))
    box.close()
    return seen


def real(chip: SimulatedPins, number: int) -> dict[str, bool]:
    car = RealLines(BoardFactory(number))
    car.read(RELAY)  # claims the line; the pull-down that it asks for is the sysfs pull, until the box drives
    # The box at the far end: it drives its relay's line, and pulls its contact's up.
    seen = steps(car, lambda level: chip.pull(RELAY, up=bool(level)), lambda: pulled_up(chip))
    # A box that pulls down instead would feel a car that drives the line high.
    chip.pull(CONTACT, up=False)
    seen["contact left alone, pulled down"] = chip.read(CONTACT)
    car.pull(CONTACT, up=False)
    chip.pull(CONTACT, up=True)
    car.close()
    seen["contact of a car that has gone"] = chip.read(CONTACT)
    return seen


def pulled_up(chip: SimulatedPins) -> bool:
    chip.pull(CONTACT, up=True)
    return chip.read(CONTACT)


def main() -> None:
    pins = SimulatedPins(CHIP)
    folder = CONFIGFS / CHIP
    number = int((folder / "bank0" / "chip_name").read_text().strip().removeprefix("gpiochip"))
    try:
        said = {"simulated": simulated, "real": real}[sys.argv[1]](pins, number)
    finally:
        (folder / "live").write_text("0")
        (folder / "bank0").rmdir()
        folder.rmdir()
    Path("/dev/stdout").write_text(json.dumps(said))


if __name__ == "__main__":
    main()
