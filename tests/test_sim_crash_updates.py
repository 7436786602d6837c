"""Power cuts at every write of the updater: whatever is left, a whole version that may run starts."""

from __future__ import annotations

from pathlib import Path

import pytest

from sim.crash import updates
from tests.crash_rig import quiet, scratch

__all__ = ["quiet", "scratch"]


def test_whatever_a_cut_leaves_a_whole_version_starts_and_the_update_comes_to_its_end(
    tmp_path: Path, scratch: Path
) -> None:
    tally = updates.examine(tmp_path, "none", scratch)
    assert tally.wrong == []
    assert tally.states > 80


@pytest.mark.parametrize("weakness", [name for name in updates.WEAKNESSES if name != "none"])
def test_each_weakness_is_noticed(weakness: str, tmp_path: Path, scratch: Path) -> None:
    assert updates.examine(tmp_path, weakness, scratch).wrong
