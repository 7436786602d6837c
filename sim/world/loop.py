"""An event loop on virtual time: nobody waits, and the same coroutines give the same order each time."""

from __future__ import annotations

import asyncio
import selectors
from collections.abc import Coroutine
from typing import Any, TypeVar

T = TypeVar("T")


class Deadlock(RuntimeError):  # noqa: N818 - what happened
    """Everybody waits for something that never comes."""


class _NoWait(selectors.SelectSelector):
    """Lets the loop's time jump where another selector would sleep. No file is ever looked at."""

    def __init__(self) -> None:
        super().__init__()
        self.now_s = 0.0

    def select(self, timeout: float | None = None) -> list[tuple[selectors.SelectorKey, int]]:
        """Jump. ``Deadlock`` where nothing is due, ever."""
        if timeout is None:
            raise Deadlock("nobody has anything left to do")
        self.now_s += max(0.0, timeout)
        return []


class VirtualLoop(asyncio.SelectorEventLoop):
    """``time`` starts at 0 and moves only when everything of the present moment is done."""

    def __init__(self) -> None:
        self._no_wait = _NoWait()
        super().__init__(self._no_wait)

    def time(self) -> float:
        """Return the virtual seconds since the beginning."""
        return self._no_wait.now_s

    def _write_to_self(self) -> None:
        """Wake nobody: this loop never sleeps, and has one thread."""


def play(story: Coroutine[Any, Any, T]) -> T:
    """Run a story to its end on virtual time."""
    with asyncio.Runner(loop_factory=VirtualLoop) as runner:
        return runner.run(story)


def now_s() -> float:
    """Return the virtual time of the loop that runs."""
    return asyncio.get_running_loop().time()
