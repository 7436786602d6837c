"""The files beside the database: what they save, and what is not believed of them."""

from __future__ import annotations

import sqlite3
from dataclasses import replace
from pathlib import Path

import pytest

from onboard import store_open
from onboard.store import StoreFailed
from onboard.store_schema import StoreUnreadable
from tests.store_rig import AT, CAR, EPOCH, LISTED, RENTAL, kill, open_store, put, trip_ended
from tests.test_onboard_store_damage import garbage_header, lived_in


@pytest.mark.parametrize("name", ["floors.json", "list.json", "rental.json"])
@pytest.mark.parametrize("data", [b"", b"\x00" * 300, b"{}"], ids=["empty", "zeros", "other"])
def test_a_damaged_file_beside_a_good_database_is_told_and_written_anew(tmp_path: Path, name: str, data: bytes) -> None:
    before = lived_in(tmp_path)
    good = (tmp_path / name).read_bytes()
    (tmp_path / name).write_bytes(data)
    opened = open_store(tmp_path)
    assert (opened.kept, opened.replaced) == (before, None)
    assert name in opened.notes[0]
    put(opened.store, replace(opened.kept, odometer_m=1), trip_ended(7))
    opened.store.close()
    again = open_store(tmp_path)
    assert again.notes == ()
    assert len((tmp_path / name).read_bytes()) == pytest.approx(len(good), abs=20)
    again.store.close()


def test_a_flipped_number_beside_the_database_is_not_believed(tmp_path: Path) -> None:
    lived_in(tmp_path)
    floors = tmp_path / "floors.json"
    floors.write_bytes(floors.read_bytes().replace(b'"list_version": 7', b'"list_version": 9'))
    garbage_header(tmp_path / "store.db")
    opened = open_store(tmp_path)
    assert "floors.json is damaged" in opened.notes[0]
    # The list itself still carries its version.
    assert opened.kept.grants.version_floor == 7
    opened.store.close()


def test_the_version_floor_outlives_the_list_and_the_database(tmp_path: Path) -> None:
    lived_in(tmp_path)
    (tmp_path / "list.json").write_bytes(b"rubbish")
    garbage_header(tmp_path / "store.db")
    opened = open_store(tmp_path)
    assert opened.kept.grants.listed is None
    assert opened.kept.grants.version_floor == 7
    opened.store.close()


def test_a_list_verified_just_before_a_cut_is_taken_with_its_version(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    kept = lived_in(tmp_path)
    opened = open_store(tmp_path)
    newer = replace(LISTED, version=8)

    def cut(*_: object, **__: object) -> None:
        raise KeyboardInterrupt

    monkeypatch.setattr(opened.store, "_write", cut)
    with pytest.raises(KeyboardInterrupt):
        put(opened.store, replace(kept, grants=replace(kept.grants, listed=newer, version_floor=8)))
    kill(opened.store)
    again = open_store(tmp_path)
    assert again.kept.grants.listed == newer
    assert again.kept.grants.version_floor == 8
    again.store.close()


def test_a_list_of_another_car_beside_the_database_is_not_taken(tmp_path: Path) -> None:
    opened = open_store(tmp_path)
    foreign = replace(LISTED, vehicle="ami-2", version=99)
    opened.store._side._save("list.json", foreign)
    opened.store.close()
    (tmp_path / "store.db").unlink()
    again = open_store(tmp_path)
    assert again.kept.grants.listed is None
    assert again.kept.vehicle == CAR
    again.store.close()


def test_a_disk_that_does_not_read_is_given_three_starts(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    before = lived_in(tmp_path)

    def unreadable(*_: object, **__: object) -> None:
        error = sqlite3.OperationalError("disk I/O error")
        error.sqlite_errorcode = sqlite3.SQLITE_IOERR_READ
        error.sqlite_errorname = "SQLITE_IOERR_READ"
        raise error

    for _ in range(2):
        with monkeypatch.context() as patch:
            patch.setattr(store_open, "_load", unreadable)
            with pytest.raises(StoreUnreadable, match="Replace the card"):
                open_store(tmp_path)
    # It reads again: nothing was given up, and the count starts anew.
    opened = open_store(tmp_path)
    assert opened.replaced is None
    opened.store.close()
    load = store_open._load
    monkeypatch.setattr(store_open, "_load", unreadable)
    for _ in range(2):
        with pytest.raises(StoreUnreadable):
            open_store(tmp_path)

    def unreadable_once(*_: object, **__: object) -> None:
        monkeypatch.setattr(store_open, "_load", load)
        unreadable()

    monkeypatch.setattr(store_open, "_load", unreadable_once)
    opened = open_store(tmp_path)
    assert opened.replaced == before.outbox.store_id
    assert opened.kept.rental == RENTAL
    opened.store.close()


def test_a_directory_that_cannot_be_used_is_a_fault_with_a_remedy(tmp_path: Path) -> None:
    (tmp_path / "file").write_bytes(b"")
    with pytest.raises(StoreFailed, match="Look at the disk"):
        open_store(tmp_path / "file" / "below")


def test_a_process_that_ended_before_the_files_were_finished_finishes_them_when_it_starts_again(tmp_path: Path) -> None:
    opened = open_store(tmp_path)
    opened.store.commit(replace(opened.kept, rental=RENTAL), (trip_ended(5),), AT, EPOCH)
    kill(opened.store)
    assert RENTAL.booking is not None
    assert RENTAL.booking.id.hex() not in (tmp_path / "rental.json").read_text()
    open_store(tmp_path).store.close()
    (tmp_path / "store.db").unlink()
    again = open_store(tmp_path)
    assert again.kept.rental == RENTAL
    again.store.close()
