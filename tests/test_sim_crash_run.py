"""The proof by power cuts can fail, fails where it cannot be made, and its long run adds up."""

from __future__ import annotations

import json
import os
import shutil
import subprocess
import sys
from pathlib import Path

import pytest

from sim.crash import run, search
from sim.crash.judge import Story, judge
from sim.crash.record import RecordingFailed, record
from sim.crash.run import WEAK_SCRIPT
from sim.crash.scripts import WEAKNESSES
from tests.conftest import ROOT
from tests.crash_rig import quiet, sample, scratch

__all__ = ["quiet", "scratch"]


@pytest.mark.parametrize("weakness", [name for name in WEAKNESSES if name != "none"])
def test_each_weakness_loses_something(weakness: str, tmp_path: Path, scratch: Path) -> None:
    tally = sample(record(WEAK_SCRIPT, weakness, tmp_path), scratch, cuts=40)
    assert 0 < tally.lost < tally.opened
    assert any("acknowledged" in wrong or "key set" in wrong for _, _, wrong in tally.failures)


def test_where_ptrace_is_refused_it_fails_with_the_reason(tmp_path: Path) -> None:
    # A process that is traced already cannot be traced once more: the same refusal as a container's.
    strace = shutil.which("strace")
    assert strace, "strace is missing: sudo apt install strace"
    outer = [strace, "-f", "-qq", "-o", os.devnull, "-e", "trace=none"]
    command = [sys.executable, "-m", "sim", "crash-states", "--script", "rentals", "--folder", str(tmp_path / "states")]
    done = subprocess.run(
        [*outer, *command],
        cwd=ROOT,
        env=os.environ | {"PYTHONPATH": str(ROOT)},
        capture_output=True,
        text=True,
        check=False,
    )
    assert done.returncode == 1
    assert "crash-states: the system refuses ptrace" in done.stderr
    assert "Operation not permitted" in done.stderr


def test_without_strace_it_fails_with_the_remedy(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("PATH", str(tmp_path))
    with pytest.raises(RecordingFailed, match="sudo apt install strace"):
        record("rentals", "none", tmp_path)


def crash_states(folder: Path, states: int, seed: int = 1) -> int:
    arguments = ["--script", "rentals", "--states", str(states), "--jobs", "1", "--seed", str(seed)]
    return run.main([*arguments, "--folder", str(folder)])


@pytest.fixture
def few_weaknesses(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(run, "WEAKNESSES", {name: WEAKNESSES[name] for name in ("none", "early")})


@pytest.mark.usefixtures("few_weaknesses")
def test_the_long_run_goes_on_where_it_stopped_and_adds_up(
    tmp_path: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    folder = tmp_path / "states"
    assert crash_states(folder, 100) == 0
    first = json.loads((folder / "totals.json").read_text())
    assert "acknowledged before the commit" in capsys.readouterr().out
    trace = (folder / "rentals" / "none" / "trace").read_bytes()
    assert crash_states(folder, first["scripts"]["rentals"]["distinct"] + 1) == 0
    second = json.loads((folder / "totals.json").read_text())
    assert second["scripts"]["rentals"]["distinct"] > first["scripts"]["rentals"]["distinct"]
    assert second["done"]["1"] > first["done"]["1"]
    assert len((folder / "seen-rentals").read_bytes()) == 8 * second["scripts"]["rentals"]["distinct"]
    assert (folder / "rentals" / "none" / "trace").read_bytes() == trace
    # Another seed looks at many of the same: they are not counted again.
    assert crash_states(folder, second["scripts"]["rentals"]["distinct"] + 1, seed=2) == 0
    third = json.loads((folder / "totals.json").read_text())
    seen = (folder / "seen-rentals").read_bytes()
    assert len({seen[at : at + 8] for at in range(0, len(seen), 8)}) == third["scripts"]["rentals"]["distinct"]
    assert third["scripts"]["rentals"]["distinct"] > second["scripts"]["rentals"]["distinct"]
    # Other code, other states: nothing is added to the old ones.
    monkeypatch.setattr(run, "_code", lambda: "another")
    assert crash_states(folder, 100) == 0
    assert "counted anew" in capsys.readouterr().out
    fourth = json.loads((folder / "totals.json").read_text())
    assert fourth["scripts"]["rentals"]["distinct"] < second["scripts"]["rentals"]["distinct"]


@pytest.mark.usefixtures("few_weaknesses")
def test_a_failing_state_is_named_by_a_line_that_replays_it(
    tmp_path: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    def strict(directory: Path, story: Story) -> str:
        return judge(directory, story) or ("one row" if story.sure is not None and len(story.sure.rows) == 1 else "")

    monkeypatch.setattr(search, "judge", strict)
    assert crash_states(tmp_path, 1000) == 1
    lines = [line for line in capsys.readouterr().out.splitlines() if line.startswith("LOST ")]
    assert lines
    assert "one row | python -m sim crash-states --replay 'rentals:" in lines[0]
    state = lines[0].rpartition(" ")[2].strip("'")
    assert run.main(["--folder", str(tmp_path), "--replay", state]) == 1
    out = capsys.readouterr().out
    assert f"cut after operation {state.split(':')[1]}: " in out
    assert out.endswith("LOST: one row\n")
    monkeypatch.undo()
    assert run.main(["--folder", str(tmp_path), "--replay", state]) == 0


def test_a_run_in_which_a_weakness_loses_nothing_fails(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(run, "WEAKNESSES", {"early": WEAKNESSES["early"]})
    recording_of = run.recording_of
    monkeypatch.setattr(run, "recording_of", lambda folder, script, _weakness="none": recording_of(folder, script))
    assert crash_states(tmp_path, 100) == 1
