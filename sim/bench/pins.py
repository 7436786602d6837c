"""The bench's pins for gpiozero: the real lgpio on the real character device, laid out as on a Raspberry Pi 4.

lgpio's factory asks the machine which Raspberry Pi it is and gives up on anything else. That question, and which chip
the header hangs on, are all that is answered here; lines are claimed, driven and read by the code that a Pi uses.
"""

from __future__ import annotations

from typing import Final

from gpiozero.pins.lgpio import LGPIOFactory

PI_4B: Final = 0xB03115
"""Revision code of a Raspberry Pi 4 model B, 2 GB."""


class BoardFactory(LGPIOFactory):  # type: ignore[misc]  # the library has no types
    """``pin_factory = "sim.bench.pins:BoardFactory"``: GPIO chip 0, or another one, as the header of a Pi 4."""

    def __init__(self, chip: int = 0) -> None:
        super().__init__(chip=chip)

    def _get_revision(self) -> int:
        return PI_4B
