"""A full disk: trips are still recorded, on the reserve. A disk that fails: the process must stop.

The page limit of SQLite stands for the full disk here, and a limit on the size of files for the failing one; what a
real file system answers is shown on a small one of its own in the system set.
"""

from __future__ import annotations

import errno
import os
import shutil
import subprocess
import sys
from dataclasses import replace
from pathlib import Path
from types import SimpleNamespace

import pytest

from cloud_sync.documents.records import decode_record
from onboard import store_side
from onboard.core.clock import Instant
from onboard.core.records import StoreReplaced, TripEnded
from onboard.core.state import Grants, Kept
from onboard.store import RESERVE_RETRY_S, Opened, StoreFailed
from tests.store_rig import AT, LISTED, RENTAL, ROOT, child, fault, open_store, put, track, trip_ended

LATER = replace(AT, boot_s=AT.boot_s + 1)


def fill(opened: Opened, monkeypatch: pytest.MonkeyPatch, *, room_after_release: int) -> None:
    """Let the database have not one page more, until the reserve is given back."""
    db = opened.store._connection()
    reserve = opened.store._reserve
    pages = db.execute("PRAGMA page_count").fetchone()[0]
    db.execute(f"PRAGMA max_page_count={pages}")
    release = reserve.release

    def releasing() -> bool:
        released = release()
        if released:
            db.execute(f"PRAGMA max_page_count={pages + room_after_release}")
        return released

    monkeypatch.setattr(reserve, "release", releasing)


def no_room(monkeypatch: pytest.MonkeyPatch) -> None:
    """Let the file system say that it is full."""
    monkeypatch.setattr(os, "statvfs", lambda _: SimpleNamespace(f_bavail=10, f_frsize=4096))


def until_on_reserve(opened: Opened) -> Kept:
    kept = opened.kept
    while not opened.store.on_reserve:
        kept = put(opened.store, kept, fault(1), at=LATER)
    return kept


def trips(opened: Opened) -> list[int]:
    found = [decode_record(row.payload) for row in opened.store.rows(1, 10**6)]
    return [record.trip for record in found if isinstance(record, TripEnded)]


def test_the_reserve_is_there_and_really_takes_up_its_room(tmp_path: Path) -> None:
    opened = open_store(tmp_path)
    assert not opened.store.on_reserve
    found = (tmp_path / "reserve").stat()
    assert (found.st_size, found.st_blocks * 512) == (1024 * 1024, 1024 * 1024)
    opened.store.close()


def test_on_a_full_disk_the_reserve_is_given_back_and_every_trip_recorded_once(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    opened = open_store(tmp_path)
    fill(opened, monkeypatch, room_after_release=256)
    no_room(monkeypatch)
    kept = opened.kept
    for number in range(1, 151):
        kept = put(opened.store, replace(kept, trips=number), trip_ended(number), at=LATER)
    assert opened.store.on_reserve
    assert opened.store.counts["reserve_released"] == 1
    assert not (tmp_path / "reserve").exists()
    assert trips(opened) == list(range(1, 151))
    assert kept.outbox.last_seq == 150
    # The step that found the disk full was counted once.
    assert opened.store._room.rows == 150
    assert opened.store.verify() is None
    opened.store.close()
    again = open_store(tmp_path)
    assert again.kept == kept
    again.store.close()


def test_on_the_reserve_positions_are_refused_and_trips_are_not(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    opened = open_store(tmp_path)
    fill(opened, monkeypatch, room_after_release=256)
    kept = until_on_reserve(opened)
    before = kept.outbox.last_seq
    no_room(monkeypatch)
    kept = put(opened.store, kept, track(1), trip_ended(1), fault(2), at=replace(LATER, boot_s=10_000.0))
    assert opened.store.counts["no_room:track"] == 1
    assert kept.outbox.last_seq == before + 2
    assert opened.store.on_reserve
    opened.store.close()
    # The disk is still full at the next start.
    again = open_store(tmp_path)
    assert again.store.on_reserve
    again.store.close()


def test_the_reserve_is_taken_again_when_there_is_room(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    opened = open_store(tmp_path)
    fill(opened, monkeypatch, room_after_release=256)
    kept = until_on_reserve(opened)
    # Looked for at the next step, and from then on once in RESERVE_RETRY_S.
    no_room(monkeypatch)
    kept = put(opened.store, kept, fault(1), at=LATER)
    monkeypatch.undo()
    seen = []
    for later_s in (RESERVE_RETRY_S - 1, RESERVE_RETRY_S):
        kept = put(opened.store, kept, track(1), at=replace(LATER, boot_s=LATER.boot_s + later_s))
        seen.append(opened.store.on_reserve)
        opened.store.look_for_room(LATER.boot_s + later_s)
        seen.append(opened.store.on_reserve)
    assert seen == [True, True, False, False]
    assert opened.store.counts["no_room:track"] == 1
    assert (tmp_path / "reserve").stat().st_size == 1024 * 1024
    opened.store.close()


def test_a_disk_full_to_the_last_of_the_reserve_stops_the_process_and_loses_nothing(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    opened = open_store(tmp_path)
    fill(opened, monkeypatch, room_after_release=4)
    no_room(monkeypatch)
    steps = [opened.kept]

    def fill_up() -> None:
        while True:
            number = len(steps)
            steps.append(put(opened.store, replace(steps[-1], trips=number), trip_ended(number), at=LATER))

    with pytest.raises(StoreFailed, match="full"):
        fill_up()
    kept, number = steps[-1], len(steps) - 1
    with pytest.raises(StoreFailed, match="closed"):
        put(opened.store, kept, at=LATER)
    again = open_store(tmp_path)
    assert trips(again) == list(range(1, number + 1))
    assert again.kept == kept
    again.store.close()


def refuse(monkeypatch: pytest.MonkeyPatch, name: str, number: int, times: int) -> None:
    """Let the next ``times`` writes of the file ``name`` beside the database fail with error ``number``."""
    write = store_side.write_file
    left = [times]

    def failing(path: Path, data: bytes) -> None:
        if path.name == name and left[0]:
            left[0] -= 1
            raise OSError(number, os.strerror(number))
        write(path, data)

    monkeypatch.setattr(store_side, "write_file", failing)


def test_a_full_disk_under_the_list_gives_back_the_reserve_too(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    opened = open_store(tmp_path)
    refuse(monkeypatch, "list.json", errno.ENOSPC, 1)
    kept = put(opened.store, replace(opened.kept, grants=Grants(listed=LISTED, version_floor=7)))
    assert opened.store.on_reserve
    opened.store.close()
    (tmp_path / "store.db").unlink()
    again = open_store(tmp_path)
    assert again.kept.grants.listed == kept.grants.listed == LISTED
    again.store.close()


def test_a_full_disk_after_the_commit_leaves_the_rental_file_behind_only_until_the_next_step(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    opened = open_store(tmp_path)
    refuse(monkeypatch, "rental.json", errno.ENOSPC, 1)
    kept = put(opened.store, replace(opened.kept, rental=RENTAL), trip_ended(5))
    assert opened.store.counts["side_not_written"] == 1
    put(opened.store, kept, fault(1))
    opened.store.close()
    (tmp_path / "store.db").unlink()
    again = open_store(tmp_path)
    assert again.kept.rental == RENTAL
    again.store.close()


@pytest.mark.parametrize("name", ["floors.json", "rental.json"])
def test_a_failing_disk_under_the_files_beside_stops_the_process(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, name: str
) -> None:
    opened = open_store(tmp_path)
    refuse(monkeypatch, name, errno.EIO, 1)
    with pytest.raises(StoreFailed, match="may be on disk or not"):
        put(opened.store, replace(opened.kept, rental=RENTAL, rentals=3, trips=5), trip_ended(5))
    with pytest.raises(StoreFailed, match="closed"):
        opened.store.rows(1, 1)


FAILING = """
import resource, sys
from dataclasses import replace
from pathlib import Path
from onboard.store import StoreFailed
from tests.store_rig import open_store, put, trip_ended
opened = open_store(Path(sys.argv[1]))
kept = opened.kept
resource.setrlimit(resource.RLIMIT_FSIZE, (200_000, resource.RLIM_INFINITY))
try:
    while True:
        kept = put(opened.store, replace(kept, trips=kept.trips + 1), trip_ended(kept.trips + 1))
except StoreFailed as failed:
    print(failed)
try:
    put(opened.store, kept)
except StoreFailed as failed:
    print(failed)
print(kept.trips, opened.store.on_reserve)
"""


def test_a_write_that_the_disk_refuses_is_never_tried_again_and_loses_nothing(tmp_path: Path) -> None:
    process = child(FAILING, str(tmp_path))
    out, errors = process.communicate()
    assert process.returncode == 0, errors
    failed, closed, last = out.splitlines()
    assert "disk I/O error" in failed
    assert "closed" in closed
    committed, on_reserve = last.split()
    assert int(committed) > 10
    assert on_reserve == "False"
    opened = open_store(tmp_path)
    assert opened.replaced is None
    assert trips(opened)[: int(committed)] == list(range(1, int(committed) + 1))
    assert opened.store.verify() is None
    opened.store.close()


SMALL_DISK = """
import sys
from dataclasses import replace
from pathlib import Path
from tests.store_rig import AT, open_store, put, track, trip_ended
directory = Path(sys.argv[1])
opened = open_store(directory / "data")
kept = opened.kept
at = AT
with (directory / "filler").open("wb", buffering=0) as filler:
    try:
        while filler.write(bytes(4096)):
            pass
    except OSError:
        pass
while not opened.store.on_reserve:
    kept = put(opened.store, replace(kept, trips=kept.trips + 1), trip_ended(kept.trips + 1), at=at)
for _ in range(50):
    kept = put(opened.store, replace(kept, trips=kept.trips + 1), trip_ended(kept.trips + 1), track(1), at=at)
print("reserve", opened.store.counts["reserve_released"], opened.store.counts["no_room:track"] >= 49)
(directory / "filler").unlink()
kept = put(opened.store, kept, track(1), at=replace(at, boot_s=at.boot_s + 100))
print("again", opened.store.on_reserve, (directory / "data" / "reserve").exists())
opened.store.close()
opened = open_store(directory / "data")
print("kept", opened.kept == kept, opened.store.verify(), kept.trips >= 51)
opened.store.close()
"""


@pytest.mark.system
def test_a_small_real_file_system_that_runs_full(tmp_path: Path) -> None:
    mounted = tmp_path / "disk"
    mounted.mkdir()
    script = 'mount -t tmpfs -o size=3m none "$1" && exec "$2" -c "$3" "$1"'
    done = subprocess.run(
        [
            "unshare",
            "--user",
            "--map-root-user",
            "--mount",
            "sh",
            "-c",
            script,
            "sh",
            mounted,
            sys.executable,
            SMALL_DISK,
        ],
        cwd=ROOT,
        env=os.environ | {"PYTHONPATH": str(ROOT)},
        capture_output=True,
        text=True,
        check=False,
    )
    assert done.returncode == 0, done.stderr
    assert done.stdout.splitlines() == ["reserve 1 True", "again False True", "kept True None True"]


TRACED = """
import os, sys
from dataclasses import replace
from pathlib import Path
from onboard import store_schema
from onboard.core.records import TripStarted
from tests.store_rig import AT, RENTAL, open_store, put, trip_ended, fault
if sys.argv[2] == "weak":
    store_schema.SETTINGS = tuple((k, "NORMAL" if k == "synchronous" else v) for k, v in store_schema.SETTINGS)
    store_schema.REQUIRED["synchronous"] = 1
opened = open_store(Path(sys.argv[1]))
kept = put(opened.store, replace(opened.kept, trips=4, rentals=2), fault(1))
os.write(1, b"steps\\n")
for number in range(20):
    kept = put(opened.store, replace(kept, odometer_m=number), fault(1), fault(2), trip_ended(4))
os.write(1, b"rental\\n")
kept = put(opened.store, replace(kept, rental=RENTAL, rentals=3, trips=5), fault(1))
kept = put(opened.store, replace(kept, rental=replace(RENTAL, distance_m=10)))
kept = put(opened.store, replace(kept, rental=replace(RENTAL, distance_m=20)), fault(2))
kept = put(opened.store, replace(kept, rental=None, ended=(RENTAL.booking.id,)), trip_ended(5), fault(3))
kept = put(opened.store, replace(kept, outbox=replace(kept.outbox, acked_seq=5)))
os.write(1, b"end\\n")
opened.store.close()
"""


def traced(tmp_path: Path, strength: str) -> dict[str, int]:
    """Return how many syncs the twenty steps and the one rental of ``TRACED`` took."""
    strace = shutil.which("strace")
    assert strace, "strace is missing: apt install strace"
    log = tmp_path / "trace"
    subprocess.run(
        [
            strace,
            "-f",
            "-e",
            "trace=fdatasync,fsync,write",
            "-o",
            log,
            sys.executable,
            "-c",
            TRACED,
            tmp_path,
            strength,
        ],
        cwd=ROOT,
        env=os.environ | {"PYTHONPATH": str(ROOT)},
        check=True,
        capture_output=True,
    )
    syncs = {"steps": 0, "rental": 0, "end": 0}
    phase = ""
    for line in log.read_text().splitlines():
        for mark in syncs:
            if f'"{mark}\\n"' in line:
                phase = mark
        if phase and ("fdatasync(" in line or "fsync(" in line):
            syncs[phase] += 1
    return syncs


@pytest.mark.system
def test_a_step_takes_one_sync_and_a_rental_at_most_twelve(tmp_path: Path) -> None:
    strong = traced(tmp_path, "strong")
    assert strong["steps"] == 20
    assert 5 <= strong["rental"] <= 12


@pytest.mark.system
def test_the_count_of_syncs_sees_a_weaker_setting(tmp_path: Path) -> None:
    assert traced(tmp_path, "weak")["steps"] < 20


def test_telling_a_replaced_store_survives_a_full_disk(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    open_store(tmp_path).store.close()
    (tmp_path / "store.db").write_bytes(b"rubbish" * 1000)
    opened = open_store(tmp_path)
    fill(opened, monkeypatch, room_after_release=256)
    kept = put(
        opened.store,
        opened.kept,
        StoreReplaced(b"", opened.reason),
        *[trip_ended(1)] * 40,
        at=Instant(1.0, 0.0, AT.quality),
    )
    assert opened.store.on_reserve
    opened.store.close()
    again = open_store(tmp_path)
    assert again.replaced is None
    assert again.kept.outbox.last_seq == kept.outbox.last_seq == 41
    again.store.close()
