"""The store as it is used: a step on disk when commit returns, in order, chained, by one thread of one process."""

from __future__ import annotations

import asyncio
import sqlite3
import threading
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
from sqlite_utils import Database

from cloud_sync.documents.records import GENESIS, chain_digest, decode_record
from onboard import store_schema
from onboard.core.clock import Instant
from onboard.core.records import Booted, StoreReplaced
from onboard.core.state import Grants
from onboard.store import StepRefused, Store, StoreFailed, StoreLocked, StoreTooNew
from onboard.store_parts import check
from onboard.store_room import LIMITS
from onboard.store_thread import StoreThread
from tests.store_rig import (
    AT,
    CAR,
    EPOCH,
    LISTED,
    RENTAL,
    child,
    denied,
    kill,
    open_store,
    put,
    shell,
    track,
    trip_ended,
)


def test_a_step_returns_with_its_rows_numbered_and_chained(tmp_path: Path) -> None:
    opened = open_store(tmp_path)
    kept = put(opened.store, replace(opened.kept, trips=1), Booted("0.1", 0), denied())
    kept = put(opened.store, kept, trip_ended(1), at=Instant(99.0004, 1_795_000_100.12345, AT.quality))
    assert (kept.outbox.last_seq, len(kept.outbox.store_id)) == (3, 16)
    rows = opened.store.rows(1, 10)
    assert [decode_record(row.payload) for row in rows] == [Booted("0.1", 0), denied(), trip_ended(1)]
    assert rows[2].at == Instant(99.0, 1_795_000_100.123, AT.quality)
    previous = GENESIS
    for number, row in enumerate(rows, start=1):
        assert (row.seq, row.boot_epoch) == (number, EPOCH)
        previous = chain_digest(previous, row.seq, row.boot_epoch, row.at, row.payload)
        assert row.digest == previous == opened.store.digest(row.seq)
    assert (opened.store.digest(0), opened.store.digest(4)) == (GENESIS, None)
    opened.store.close()


def test_numbers_go_on_after_a_restart(tmp_path: Path) -> None:
    opened = open_store(tmp_path)
    put(opened.store, opened.kept, denied(), denied())
    opened.store.close()
    again = open_store(tmp_path)
    assert again.kept.outbox.last_seq == 2
    kept = put(again.store, again.kept, denied())
    assert kept.outbox.last_seq == 3
    assert again.store.verify() is None
    again.store.close()


def test_a_step_that_changes_nothing_writes_nothing(tmp_path: Path) -> None:
    opened = open_store(tmp_path)
    kept = put(opened.store, opened.kept, denied())
    before = {path.name: path.read_bytes() for path in tmp_path.iterdir()}
    put(opened.store, replace(kept, trips=kept.trips))
    assert {path.name: path.read_bytes() for path in tmp_path.iterdir()} == before
    opened.store.close()


def test_a_record_that_cannot_be_encoded_refuses_the_whole_step(tmp_path: Path) -> None:
    opened = open_store(tmp_path)
    kept = put(opened.store, opened.kept, denied())
    with pytest.raises(StepRefused):
        put(opened.store, replace(kept, trips=9), trip_ended(1), StoreReplaced(bytes(65), ""))
    assert put(opened.store, kept, denied()).outbox.last_seq == 2
    opened.store.close()
    again = open_store(tmp_path)
    assert again.kept.trips == 0
    again.store.close()


def test_a_list_too_large_to_keep_refuses_the_step_and_leaves_no_file(tmp_path: Path) -> None:
    opened = open_store(tmp_path, replace(LIMITS, part_bytes_max=100))
    with pytest.raises(StepRefused, match=r"grants\.listed has"):
        put(opened.store, replace(opened.kept, grants=Grants(listed=LISTED)))
    assert not (tmp_path / "list.json").exists()
    opened.store.close()


def test_the_settings_that_keep_commits_are_in_force(tmp_path: Path) -> None:
    opened = open_store(tmp_path)
    db = opened.store._connection()
    found = {name: db.execute(f"PRAGMA {name}").fetchone()[0] for name in store_schema.REQUIRED}
    assert found == {"locking_mode": "exclusive", "journal_mode": "wal", "synchronous": 2, "foreign_keys": 1}
    put(opened.store, opened.kept, denied())
    # Exclusive set before WAL leaves no shared-memory file, set after it does.
    assert not (tmp_path / "store.db-shm").exists()
    assert {row[0] for row in db.execute("SELECT name FROM pragma_table_list WHERE strict")} == {"state", "events"}
    opened.store.close()


@pytest.mark.parametrize(
    ("name", "weak"),
    [("synchronous", "NORMAL"), ("synchronous", "OFF"), ("journal_mode", "DELETE"), ("locking_mode", "NORMAL")],
)
def test_a_weaker_setting_is_noticed_at_open(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, name: str, weak: str
) -> None:
    open_store(tmp_path).store.close()
    weakened = tuple((key, weak if key == name else value) for key, value in store_schema.SETTINGS)
    monkeypatch.setattr(store_schema, "SETTINGS", weakened)
    with pytest.raises(StoreFailed, match=f"did not take {name}"):
        open_store(tmp_path)


def test_the_table_takes_no_other_types(tmp_path: Path) -> None:
    opened = open_store(tmp_path)
    with pytest.raises(sqlite3.IntegrityError, match="TEXT"):
        opened.store._connection().execute("INSERT INTO events VALUES (1, x'00', 'soon', 0, 0, 'x', 0, x'', x'')")
    opened.store.close()


def test_another_thread_is_refused_and_nothing_is_written(tmp_path: Path) -> None:
    opened = open_store(tmp_path)
    refused: list[BaseException] = []

    def intrude() -> None:
        for work in (
            lambda: put(opened.store, opened.kept, denied()),
            lambda: opened.store.rows(1, 1),
            opened.store.close,
            lambda: opened.store.release(1, 0.0),
        ):
            try:
                work()
            except RuntimeError as error:
                refused.append(error)

    thread = threading.Thread(target=intrude)
    thread.start()
    thread.join()
    assert len(refused) == 4
    assert put(opened.store, opened.kept, denied()).outbox.last_seq == 1
    opened.store.close()


def test_a_second_process_is_locked_out_with_the_remedy(tmp_path: Path) -> None:
    holder = child(
        "import sys\nfrom pathlib import Path\nfrom tests.store_rig import open_store\n"
        "opened = open_store(Path(sys.argv[1]))\nprint('open', flush=True)\nsys.stdin.read()\nopened.store.close()",
        str(tmp_path),
    )
    assert holder.stdout is not None
    assert holder.stdout.readline() == "open\n"
    try:
        with pytest.raises(StoreLocked, match="another process"):
            open_store(tmp_path)
        with pytest.raises(sqlite3.OperationalError, match="locked"):
            shell(tmp_path / "store.db", "SELECT * FROM events")
    finally:
        _, errors = holder.communicate("")
    assert holder.returncode == 0, errors
    again = open_store(tmp_path)
    assert again.replaced is None
    again.store.close()


KILLED = """
import sys
from dataclasses import replace
from pathlib import Path
from tests.store_rig import AT, open_store, put, trip_ended
opened = open_store(Path(sys.argv[1]))
kept = opened.kept
while True:
    kept = put(opened.store, replace(kept, trips=kept.trips + 1), trip_ended(kept.trips + 1))
    print(kept.outbox.last_seq, flush=True)
"""


def test_a_killed_process_loses_no_step_that_it_acknowledged(tmp_path: Path) -> None:
    # kill -9 keeps the page cache: this shows order and recovery, not that the card has it.
    total = 0
    for wanted in (3, 40, 80):
        process = child(KILLED, str(tmp_path))
        assert process.stdout is not None
        heard = "".join(process.stdout.readline() for _ in range(wanted))
        process.kill()
        heard += process.communicate()[0]
        # The last line may be cut off by the kill.
        acknowledged = int(heard[: heard.rindex("\n")].splitlines()[-1])
        opened = open_store(tmp_path)
        rows = opened.store.rows(1, 10_000)
        total = len(rows)
        assert opened.replaced is None
        assert opened.store.verify() is None
        assert [row.seq for row in rows] == list(range(1, total + 1))
        assert opened.kept.trips == opened.kept.outbox.last_seq == total
        assert total >= acknowledged
        opened.store.close()
    assert total >= 123


def test_an_unclean_stop_is_followed_by_a_check_of_the_pages(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    asked: list[str] = []
    execute = Database.execute

    def listening(self: Database, sql: str, *values: Any) -> sqlite3.Cursor:
        asked.append(sql)
        return execute(self, sql, *values)

    opened = open_store(tmp_path)
    put(opened.store, opened.kept, denied())
    opened.store.close()
    monkeypatch.setattr(Database, "execute", listening)
    opened = open_store(tmp_path)
    assert not [sql for sql in asked if "quick_check" in sql]
    put(opened.store, opened.kept, denied())
    kill(opened.store)
    opened = open_store(tmp_path)
    assert [sql for sql in asked if "quick_check" in sql]
    assert opened.kept.outbox.last_seq == 2
    opened.store.close()


def test_every_migration_is_known_by_name(tmp_path: Path) -> None:
    db = Database(str(tmp_path / "empty.db"))
    assert tuple(one.name for one in store_schema.MIGRATIONS.pending(db)) == store_schema.KNOWN_MIGRATIONS
    db.close()


def test_a_migration_of_a_newer_version_is_a_fault_and_the_file_stays(tmp_path: Path) -> None:
    opened = open_store(tmp_path)
    put(opened.store, opened.kept, trip_ended(1))
    opened.store.close()
    path = tmp_path / "store.db"
    shell(path, "INSERT INTO _sqlite_migrations (migration_set, name, applied_at) VALUES ('amibox', 'add_tow', '')")
    before = path.read_bytes()
    with pytest.raises(StoreTooNew, match=r"add_tow.*Install that version"):
        open_store(tmp_path)
    assert path.read_bytes() == before
    assert not list(tmp_path.glob("*.damaged"))


def test_every_later_migration_leaves_the_version_before_at_work() -> None:
    later: tuple[str, ...] = store_schema.KNOWN_MIGRATIONS[1:]
    assert all(name.startswith(store_schema.EXPANDS) for name in later)


def test_a_store_that_a_newer_version_expanded_is_read_and_written_by_the_one_before(tmp_path: Path) -> None:
    """An update went back after its migration and after a trip: nothing of the trip is lost, and all goes on."""
    opened = open_store(tmp_path)
    kept = put(opened.store, opened.kept, trip_ended(1))
    opened.store.close()
    path = tmp_path / "store.db"
    for sql in (
        "CREATE TABLE tow (id INTEGER PRIMARY KEY) STRICT",
        "ALTER TABLE events ADD COLUMN tow INTEGER",
        "ALTER TABLE state ADD COLUMN tow TEXT NOT NULL DEFAULT ''",
        "INSERT INTO _sqlite_migrations (migration_set, name, applied_at) VALUES ('amibox', 'expand_tow', '')",
        "INSERT INTO state (part, value, crc, tow) VALUES ('tow.part', '{}', 0, 'new')",
    ):
        shell(path, sql)
    shell(path, "UPDATE state SET crc = ? WHERE part = 'tow.part'", check("tow.part", "{}"))
    before = open_store(tmp_path)
    assert before.replaced is None
    assert before.kept == kept
    put(before.store, before.kept, trip_ended(2))
    before.store.close()
    assert shell(path, "SELECT tow FROM state WHERE part = 'tow.part'") == [("new",)], "the newer one finds its own"
    again = open_store(tmp_path)
    assert again.kept.outbox.last_seq == 2
    again.store.close()


def test_the_store_of_another_vehicle_is_refused_and_stays(tmp_path: Path) -> None:
    open_store(tmp_path).store.close()
    with pytest.raises(StoreFailed, match="belongs to vehicle 'ami-1', the configuration says 'ami-2'"):
        Store.open(tmp_path, "ami-2", 0.0)
    again = open_store(tmp_path)
    assert (again.kept.vehicle, again.replaced) == (CAR, None)
    again.store.close()


def test_the_floor_given_by_the_configuration_lifts_the_one_kept(tmp_path: Path) -> None:
    Store.open(tmp_path, CAR, 1000.0).store.close()
    lifted = Store.open(tmp_path, CAR, 2000.0)
    put(lifted.store, lifted.kept)
    lifted.store.close()
    again = Store.open(tmp_path, CAR, 1500.0)
    assert again.kept.floor_s == 2000.0
    again.store.close()


def test_a_key_set_is_kept_as_signed_and_its_floor_never_falls(tmp_path: Path) -> None:
    opened = open_store(tmp_path)
    assert (opened.keys, opened.key_set_floor) == (None, 0)
    opened.store.keep_keys(4, b"signed four")
    opened.store.keep_keys(3, b"signed three")
    opened.store.close()
    again = open_store(tmp_path)
    assert (again.keys, again.key_set_floor) == (b"signed four", 4)
    again.store.close()
    (tmp_path / "keys.json").write_bytes(b"rubbish")
    once_more = open_store(tmp_path)
    assert (once_more.keys, once_more.key_set_floor) == (None, 4)
    assert "keys.json is damaged" in once_more.notes[0]
    once_more.store.close()


def test_an_ordinary_rental_writes_the_files_beside_the_database_twice(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    opened = open_store(tmp_path)
    kept = put(opened.store, replace(opened.kept, rentals=2, trips=4))
    written: list[str] = []
    save = opened.store._side._save

    def listening(name: str, value: object) -> None:
        written.append(name)
        save(name, value)

    monkeypatch.setattr(opened.store._side, "_save", listening)
    kept = put(opened.store, replace(kept, rentals=3, trips=5, rental=RENTAL), trip_ended(5))
    kept = put(opened.store, replace(kept, rental=replace(RENTAL, distance_m=4000)), track(5))
    kept = put(opened.store, replace(kept, rental=None, ended=(RENTAL.booking.id,)), trip_ended(5))
    assert written == ["rental.json", "rental.json"]
    opened.store.close()


def test_numbers_reserved_beside_the_database_are_always_above_those_given(tmp_path: Path) -> None:
    opened = open_store(tmp_path)
    kept = opened.kept
    for trip in range(1, 200):
        kept = put(opened.store, replace(kept, trips=trip, rentals=trip), trip_ended(trip))
        assert opened.store._side.floors.trips >= trip
        assert opened.store._side.floors.rentals >= trip
    opened.store.close()


def test_the_replaced_store_is_told_until_the_core_has_written_it_down(tmp_path: Path) -> None:
    opened = open_store(tmp_path)
    put(opened.store, opened.kept)
    opened.store.close()
    (tmp_path / "store.db").write_bytes(b"rubbish" * 1000)
    told = [open_store(tmp_path)]
    put(told[0].store, told[0].kept, trip_ended(1))
    told[0].store.close()
    told.append(open_store(tmp_path))
    assert told[0].replaced == told[1].replaced == opened.kept.outbox.store_id
    assert told[0].reason == told[1].reason != ""
    put(told[1].store, told[1].kept, StoreReplaced(opened.kept.outbox.store_id, told[1].reason))
    told[1].store.close()
    again = open_store(tmp_path)
    assert again.replaced is None
    again.store.close()


def test_the_facade_does_everything_in_one_thread_of_its_own_and_ends_it(tmp_path: Path) -> None:
    async def play() -> list[int]:
        thread = StoreThread()
        opened = await thread.open(tmp_path, CAR, 0.0)
        kept = await thread.commit(opened.kept, (denied(), trip_ended(1)), AT, EPOCH)
        assert kept.outbox.last_seq == 2
        first, second = await asyncio.gather(thread.digest(2), thread.rows(2, 2))
        assert first == second[0].digest
        await thread.release(1, AT.wall_s)
        await thread.keep_keys(1, b"signed")
        await thread.copy(tmp_path / "copy.db")
        with pytest.raises(RuntimeError, match="StoreThread"):
            opened.store.rows(1, 2)
        seqs = [row.seq for row in await thread.rows(1, 2)]
        await thread.close()
        await thread.close()
        return seqs

    assert asyncio.run(play()) == [1, 2]
    assert not [thread for thread in threading.enumerate() if thread.name.startswith("store")]


def test_a_closed_store_says_so(tmp_path: Path) -> None:
    opened = open_store(tmp_path)
    opened.store.close()
    opened.store.close()
    with pytest.raises(StoreFailed, match="closed"):
        put(opened.store, opened.kept, denied())
