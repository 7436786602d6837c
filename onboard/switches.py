"""What the core wants switched, done: each load by its device, and the end of the box by whoever may.

``__main__`` says what can be switched in this car. What fails is a fault and stops nothing else.
"""

from __future__ import annotations

import logging
from collections.abc import Callable, Sequence
from typing import Final

from onboard.core.commands import Loads, PowerOff, SetLoads
from onboard.core.events import Event, FaultReported

log = logging.getLogger("amibox")

LOADS: Final = "loads"
POWER_OFF: Final = "power_off"


class Switches:
    """Takes the core's commands about power; returns at once and never raises.

    ``loads`` are called with every change. ``ask_off`` asks for the machine's end and its waking after so many seconds;
    it raises if nobody can be asked, None if nobody is there to ask. ``stop`` ends the box: nothing is decided any more
    once its end was asked for.
    """

    def __init__(
        self,
        loads: Sequence[Callable[[Loads], None]],
        ask_off: Callable[[float], None] | None,
        stop: Callable[[], None],
        post: Callable[[Event], None],
    ) -> None:
        self.ask_off_s: float | None = None
        """Ask for the machine's end once everything is closed, and for its waking so many seconds later."""
        self._loads = loads
        self._ask_off = ask_off
        self._stop = stop
        self._post = post
        self._faulty = False

    def perform(self, command: SetLoads | PowerOff) -> None:
        """Do what the core wants."""
        if isinstance(command, SetLoads):
            self._switch(command.loads)
        elif self._ask_off is None:
            detail = "the 12 V battery is at its limit, and nothing here may switch the box off: [supply] power_off"
            self._post(FaultReported(POWER_OFF, active=True, detail=detail))
        else:
            log.warning("the 12 V battery is at its limit: the box ends, to wake in %.0f s", command.wake_in_s)
            self.ask_off_s = command.wake_in_s
            self._stop()

    def ended(self) -> None:
        """Ask for the machine's end, if the core wanted it: the store is closed, the relays are released."""
        if self.ask_off_s is not None and self._ask_off is not None:
            self._ask_off(self.ask_off_s)

    def _switch(self, loads: Loads) -> None:
        log.info("card reader %s, receiver %s, modem %s", loads.reader.value, _word(loads.gnss), _word(loads.modem))
        failed = [error for switch in self._loads if (error := _tried(switch, loads)) is not None]
        if failed or self._faulty:
            self._post(FaultReported(LOADS, active=bool(failed), detail="; ".join(failed)[:200]))
        self._faulty = bool(failed)


def _tried(switch: Callable[[Loads], None], loads: Loads) -> str | None:
    try:
        switch(loads)
    except Exception as error:  # noqa: BLE001 - each pin library raises its own kinds
        return str(error) or type(error).__name__
    return None


def _word(on: bool) -> str:  # noqa: FBT001 - a level
    return "on" if on else "off"
