"""What a door is to the fuzzer: how its harness is made, with what it begins, and how long one input may take."""

from __future__ import annotations

import tempfile
import time
import traceback
from collections.abc import Callable, Iterator, Sequence
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Final

Harness = Callable[[bytes], None]
"""Feeds a production parser as production does. Returns for what is taken or refused as documented; all else raises."""

SLOW_LOOKS: Final = 3
"""So often an input is measured anew before it is called slow: others use the machine as well."""


class Wrong(AssertionError):  # noqa: N818 - a verdict
    """A parser took something that its contract excludes, though it raised nothing."""


@dataclass(frozen=True, slots=True)
class Door:
    """One door for bytes.

    ``open`` makes its harness in an empty folder; what must be closed is put on the stack (``opened``). ``worst_s``:
    processor time that no input may exceed, measured without the fuzzer's instruments; 10 ms for one message, more
    where an input is several. ``bytes_max``: of one input.
    """

    name: str
    what: str
    open: Callable[[Path, ExitStack], Harness]
    seeds: Callable[[], Sequence[bytes]]
    worst_s: float = 0.01
    bytes_max: int = 2048


@contextmanager
def opened(door: Door) -> Iterator[Harness]:
    """Give a door's harness, with a folder of its own for as long."""
    with tempfile.TemporaryDirectory() as own, ExitStack() as ending:
        yield door.open(Path(own), ending)


def right(well: object, otherwise: str) -> None:
    """Raise ``Wrong`` unless ``well``."""
    if not well:
        raise Wrong(otherwise)


def took_s(harness: Harness, data: bytes) -> float:
    """Return the processor time of one input."""
    began_s = time.process_time()
    harness(data)
    return time.process_time() - began_s


def worst_s(harness: Harness, data: bytes, bound_s: float) -> float:
    """Return the processor time of one input: the least of some looks, where the first one is over the bound."""
    found_s = took_s(harness, data)
    looks = 1
    while found_s > bound_s and looks < SLOW_LOOKS:
        found_s, looks = min(found_s, took_s(harness, data)), looks + 1
    return found_s


def place_of(error: BaseException) -> str:
    """Name a crash by its kind and where it came from, so that the same one is told once."""
    frames = traceback.extract_tb(error.__traceback__)[-2:]
    where = " < ".join(f"{Path(frame.filename).name}:{frame.lineno}" for frame in reversed(frames))
    return f"{type(error).__name__} at {where}"
