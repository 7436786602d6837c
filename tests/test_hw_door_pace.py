"""How long the door's worker rests between two turns."""

from __future__ import annotations

from collections.abc import Iterator

import pytest
from gpiozero.pins.mock import MockFactory

from hw.worker import Life
from tests.door_rig import Bench


@pytest.fixture
def factory() -> Iterator[MockFactory]:
    made = MockFactory()
    yield made
    made.close()


class Stop:
    """A stop flag that notes how long each rest is to be and ends the run after so many."""

    def __init__(self, turns: int) -> None:
        self.rests_s: list[float] = []
        self._turns = turns

    def is_set(self) -> bool:
        return len(self.rests_s) >= self._turns

    def wait(self, rest_s: float) -> bool:
        self.rests_s.append(rest_s)
        return self.is_set()


@pytest.mark.parametrize(("waited_s", "rest_s"), [(0.3, 0.0), (0.0005, 0.0015)], ids=["at rest", "in a storm"])
def test_a_door_at_rest_moves_at_once_and_a_storm_of_edges_is_held_to_its_pace(
    factory: MockFactory, monkeypatch: pytest.MonkeyPatch, waited_s: float, rest_s: float
) -> None:
    bench, now_s = Bench(factory), [50.0]
    bench.door.close()  # run opens it

    def wait(_longest_s: float) -> bool:
        now_s[0] += waited_s
        return True

    monkeypatch.setattr("hw.door.time.monotonic", lambda: now_s[0])
    monkeypatch.setattr(bench.door._wake, "wait", wait)
    stop = Stop(3)
    bench.door.run(Life(bench.life.emit, bench.life.beat, stop))  # type: ignore[arg-type]  # all that it asks of a flag
    assert stop.rests_s == pytest.approx([rest_s] * 3)
