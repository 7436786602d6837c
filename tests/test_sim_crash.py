"""Power cuts at every write, on the production code: a sample of the long run, and that it can fail."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import pytest

from cloud_sync.documents.records import chain_digest
from onboard.store import WAL_PAGES
from onboard.store_parts import check
from sim.crash.disk import KEPT, Disk, Survivors
from sim.crash.judge import Story, judge
from sim.crash.record import Recording, record
from sim.crash.scripts import SCRIPTS
from sim.crash.search import place, walk
from tests.crash_rig import quiet, sample, scratch
from tests.store_rig import shell

__all__ = ["quiet", "scratch"]


@pytest.mark.parametrize("script", SCRIPTS)
def test_nothing_acknowledged_is_lost_in_a_sample_of_each_script(script: str, tmp_path: Path, scratch: Path) -> None:
    tally = sample(record(script, "none", tmp_path), scratch, cuts=24)
    assert tally.failures == []
    assert tally.opened > 100


def test_the_long_script_is_watched_while_its_log_is_worked_into_the_file(tmp_path: Path) -> None:
    recording = record("long", "none", tmp_path)
    watched = [recording.shown[cut - 1] for cut in recording.cuts()]
    grown = max(int(line.rpartition(" ")[2]) for line in watched if line.startswith("store.db-wal: 4096 bytes"))
    assert grown > WAL_PAGES * 4096
    # Ordinarily the log is worked in only when the store is closed: the last thing that happens.
    first = next(place for place, line in enumerate(watched) if line.startswith("store.db: "))
    assert any(line.startswith("store.db-wal: ") for line in watched[first:])


@pytest.fixture(scope="module")
def rentals(tmp_path_factory: pytest.TempPathFactory) -> Recording:
    return record("rentals", "none", tmp_path_factory.mktemp("rentals"))


def everything(disk: Disk) -> Survivors:
    return Survivors(disk.namings(), (KEPT,) * len(disk.waiting()))


def part_changed(path: Path, _story: Story) -> None:
    shell(path, "UPDATE state SET value = '7', crc = ? WHERE part = 'odometer_m'", check("odometer_m", "7"))


def floor_lowered(path: Path, story: Story) -> None:
    text = str(story.floor_s)
    shell(path, "UPDATE state SET value = ?, crc = ? WHERE part = 'floor_s'", text, check("floor_s", text))


def a_trip_emptied(path: Path, _story: Story) -> None:
    shell(path, "UPDATE events SET payload = x'' WHERE seq = (SELECT MAX(seq) FROM events WHERE rank = 2)")


def a_row_gone(path: Path, _story: Story) -> None:
    shell(path, "DELETE FROM events WHERE seq = (SELECT MAX(seq) FROM events)")


def a_row_more(path: Path, story: Story) -> None:
    assert story.sure is not None
    last = story.sure.rows[-1][0]
    digest = chain_digest(last.digest, last.seq + 1, last.boot_epoch, last.at, last.payload)
    shell(
        path,
        "INSERT INTO events SELECT seq + 1, boot_epoch, boot_ms, wall_ms, quality, kind, rank, payload, ? FROM events"
        " WHERE seq = ?",
        digest,
        last.seq,
    )


def an_unacknowledged_row_released(_path: Path, story: Story) -> None:
    story.released = 0


def keys_gone(path: Path, _story: Story) -> None:
    path.with_name("keys.json").unlink()


def damage_unseen(_path: Path, story: Story) -> None:
    story.damaged = True


@pytest.mark.parametrize(
    ("spoil", "verdict"),
    [
        (part_changed, "odometer_m is neither"),
        (floor_lowered, "floor_s is "),
        (a_trip_emptied, "is not what was written"),
        (a_row_gone, "were acknowledged"),
        (a_row_more, "are those of the step"),
        (an_unacknowledged_row_released, "released are those below 0"),
        (keys_gone, "key set 3 for 3"),
        (damage_unseen, "passed for a good one"),
    ],
)
def test_the_judge_sees(spoil: Callable[[Path, Story], None], verdict: str, rentals: Recording, scratch: Path) -> None:
    for _, disk, story in walk(rentals, [len(rentals.operations)]):
        place(scratch, disk.left(everything(disk)))
        assert judge(scratch, story) == ""
        spoil(scratch / "store.db", story)
        assert verdict in judge(scratch, story)
