"""What tests of power cuts share: a place to build states in, and a sample of a recording's."""

from __future__ import annotations

import logging
import tempfile
from collections.abc import Iterator
from pathlib import Path

import pytest

from sim.crash.record import Recording
from sim.crash.run import memory
from sim.crash.search import Plan, Tally, examine


@pytest.fixture(autouse=True)
def quiet() -> Iterator[None]:
    """No line of the log for every state."""
    logging.disable()
    yield
    logging.disable(logging.NOTSET)


@pytest.fixture
def scratch() -> Iterator[Path]:
    """Where states are built: in memory, if there is such a place."""
    with tempfile.TemporaryDirectory(prefix="amibox-crash-", dir=memory()) as folder:
        yield Path(folder)


def sample(recording: Recording, directory: Path, cuts: int) -> Tally:
    """Look at about so many cuts, evenly spread; the long run takes them all."""
    every = recording.cuts()
    return examine(recording, every[:: max(1, len(every) // cuts)], Plan(seed=1, draws=2), set(), directory)
