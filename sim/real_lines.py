"""The car's ends of the box's pins on real GPIO lines: another Raspberry Pi's, through gpiozero and lgpio.

A contact is a switch to ground, so a line that the box reads is driven low or left alone, never high; a line that the
box drives is only read. Whatever either side does, at most one of them drives a wire. docs/rig.md says how they are
wired.
"""

from __future__ import annotations

from typing import Any

from hw.door import make_pin_factory


class RealLines:
    """``read`` and ``pull`` as ``sim.bench.chip.SimulatedPins`` has them. ``factory`` is gpiozero's. ``close`` always.

    Raises what gpiozero raises for a line that another program holds.
    """

    def __init__(self, factory: Any) -> None:
        self._factory = factory
        self._read: dict[int, Any] = {}
        self._pulled: dict[int, tuple[Any, bool]] = {}

    @classmethod
    def of(cls, name: str) -> RealLines:
        """Return the lines of the pin factory called ``name`` (as in the box's configuration). AdapterError if none."""
        return cls(make_pin_factory(name))

    def read(self, pin: int) -> bool:
        """Return the level of a line that the box drives. Pulled down here: a box that is off reads as low."""
        if pin not in self._read:
            line = self._factory.pin(pin)
            line.function = "input"
            line.pull = "down"
            self._read[pin] = line
        return bool(self._read[pin].state)

    def pull(self, pin: int, *, up: bool) -> None:
        """Let a line that the box reads alone (``up``: its own pull-up lifts it), or connect it to ground."""
        line, before = self._pulled.get(pin, (None, None))
        if before == up:
            return
        line = line or self._factory.pin(pin)
        if up:
            line.function = "input"
            line.pull = "floating"
        else:
            # A line becomes an output at the low level: there is no moment in which it is high.
            line.output_with_state(False)  # noqa: FBT003 -- the library's own signature
        self._pulled[pin] = (line, up)

    def close(self) -> None:
        """Let go of every line."""
        self._factory.close()
