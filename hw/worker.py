"""The seam between a device and the box: a worker is one device's thread, supervised by the reactor.

A worker decides nothing. It turns bytes into events and says when it is alive. Its pure half (a parser or decoder with
no I/O and the time as an argument) is a class of its own, so that a recording or a simulation feeds the same code.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable
from dataclasses import dataclass
from threading import Event as Flag
from typing import Protocol

from onboard.core.events import Event


class AdapterError(Exception):
    """A device failed. Says what a caller must know before it acts: may it have happened, is it worth a retry.

    The text is for a technician: what happened, and what to do.
    """

    def __init__(self, message: str, *, may_have_happened: bool, worth_retrying: bool) -> None:
        super().__init__(message)
        self.may_have_happened = may_have_happened
        self.worth_retrying = worth_retrying


@dataclass(frozen=True, slots=True)
class Life:
    """What the reactor gives a worker.

    ``emit`` takes an event from any thread and returns at once. ``beat`` must be called at least every 5 s while the
    worker is well: the service's watchdog hangs on it. ``stop`` asks it to return within 1 s.
    """

    emit: Callable[[Event], None]
    beat: Callable[[], None]
    stop: Flag


class Worker(Protocol):
    """One device. ``run`` returns when ``life.stop`` is set and raises ``AdapterError`` when the device is lost.

    The reactor then reports ``FaultReported(name, active=True, …)``, waits with a growing back-off (1 s to 30 s) and
    calls ``run`` again. A worker that can mend itself quickly does so inside ``run`` and emits its own
    ``FaultReported``. ``counts`` holds refused input by reason, and what else a technician may want counted.
    """

    name: str
    counts: Counter[str]

    def run(self, life: Life) -> None:
        """Serve the device until stopped."""
        ...
