"""A damaged database is kept aside; floors, list, rental and unsent trips come through it."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

import pytest

from cloud_sync.documents.records import decode_record
from onboard import store_open
from onboard.core.clock import Span
from onboard.core.records import StoreReplaced, TripEnded
from onboard.core.state import Answered, Grants, Kept
from onboard.store_side import NUMBERS_BLOCK, WALL_STEP_S
from tests.store_rig import AT, FLOOR_S, LISTED, RENTAL, fault, kill, open_store, put, shell, trip_ended

TRIPS = 400
ANSWERED = Answered(b"who", b"id", "unlock", "granted", "", Span(AT, b"bootboot"))


def lived_in(directory: Path, *, clean: bool = True) -> Kept:
    """Leave a store behind: a list, a running rental, and many unsent trips."""
    opened = open_store(directory)
    kept = replace(
        opened.kept,
        floor_s=FLOOR_S + 90_000,
        grants=Grants(
            listed=LISTED,
            version_floor=7,
            answered=(Answered(b"who", b"id", "unlock", "granted", "", Span(AT, b"bootboot")),),
        ),
        rental=RENTAL,
        rentals=3,
        trips=5,
        ended=(b"an ended booking",),
        maintenance=True,
    )
    for first in range(0, TRIPS, 80):
        kept = put(opened.store, kept, *(trip_ended(first + number) for number in range(1, 81)))
    if clean:
        opened.store.close()
    else:
        kill(opened.store)
    return kept


def garbage_header(path: Path) -> None:
    path.write_bytes(b"not a database at all" + path.read_bytes()[21:])


def zero_filled(path: Path) -> None:
    path.write_bytes(bytes(path.stat().st_size))


def truncated(path: Path) -> None:
    path.write_bytes(path.read_bytes()[: path.stat().st_size // 2])


def empty(path: Path) -> None:
    path.write_bytes(b"")


def flipped_bits_in_a_page(path: Path) -> None:
    data = bytearray(path.read_bytes())
    for offset in range(8):
        data[len(data) // 2 // 4096 * 4096 + offset] ^= 0x55
    path.write_bytes(data)


def another_schema(path: Path) -> None:
    path.unlink()
    shell(path, "CREATE TABLE notes (text TEXT)")


def a_column_gone(path: Path) -> None:
    shell(path, "ALTER TABLE events DROP COLUMN kind")


def a_changed_payload(path: Path) -> None:
    shell(path, "UPDATE events SET payload = CAST(payload || x'00' AS BLOB) WHERE seq = 17")


def a_changed_digest(path: Path) -> None:
    shell(path, "UPDATE events SET digest = zeroblob(32) WHERE seq = 17")


def a_missing_row(path: Path) -> None:
    shell(path, "DELETE FROM events WHERE seq = 17")


def a_changed_time(path: Path) -> None:
    shell(path, "UPDATE events SET wall_ms = wall_ms + 3600000 WHERE seq = 17")


def a_changed_number_in_the_state(path: Path) -> None:
    shell(path, "UPDATE state SET value = '6' WHERE part = 'trips'")


def a_flipped_letter_in_a_migration(path: Path) -> None:
    shell(path, "UPDATE _sqlite_migrations SET name = 'create_state_and_evends'")


def no_state(path: Path) -> None:
    shell(path, "DELETE FROM state")


DAMAGES: dict[Callable[[Path], None], tuple[str, int]] = {
    garbage_header: ("not a database", 0),
    zero_filled: ("not a database", 0),
    truncated: ("malformed", 1),
    empty: ("wrong schema", 0),
    flipped_bits_in_a_page: ("malformed", 1),
    another_schema: ("wrong schema", 0),
    a_column_gone: ("wrong schema", 0),
    a_changed_payload: ("row 17 does not follow", TRIPS - 1),
    a_changed_digest: ("row 17 does not follow", TRIPS),
    a_missing_row: ("row 18 does not follow", TRIPS - 2),
    a_changed_time: ("row 17 does not follow", TRIPS - 1),
    a_changed_number_in_the_state: ("trips is not what was written", TRIPS),
    a_flipped_letter_in_a_migration: ("wrong schema", TRIPS),
    no_state: ("no state", TRIPS),
}
"""Damage, the reason that is told, and how many of the unsent trips at least come through."""


@pytest.mark.parametrize("damage", DAMAGES, ids=lambda damage: damage.__name__)
def test_damage_is_kept_aside_and_the_box_goes_on(tmp_path: Path, damage: Callable[[Path], None]) -> None:
    before = lived_in(tmp_path)
    path = tmp_path / "store.db"
    damage(path)
    bytes_before = path.read_bytes()
    reason, least = DAMAGES[damage]
    opened = open_store(tmp_path)
    # The cloud is told, under a new name.
    old = before.outbox.store_id
    assert opened.replaced == old
    assert reason in opened.reason
    assert opened.kept.outbox.store_id not in {old, b""}
    # Kept aside under a dated name, as it was.
    [aside] = tmp_path.glob("store-*.damaged")
    assert aside.name == "store-20261122T213000Z.damaged"
    assert aside.read_bytes() == bytes_before
    # The driver under way and the last verified list.
    kept = opened.kept
    assert kept.rental == RENTAL
    assert kept.grants.listed == LISTED
    assert kept.ended == before.ended
    # Nothing falls back.
    assert kept.grants.version_floor >= 7
    assert kept.floor_s > before.floor_s - WALL_STEP_S
    assert before.rentals <= kept.rentals <= before.rentals + NUMBERS_BLOCK
    assert before.trips <= kept.trips <= before.trips + NUMBERS_BLOCK
    # Unsent trips that prove themselves are carried over, renumbered, once each and in order.
    rows = opened.store.rows(1, 10_000)
    trips = [record.trip for row in rows if isinstance(record := decode_record(row.payload), TripEnded)]
    assert len(trips) == len(rows) >= least
    assert trips == sorted(set(trips))
    assert {row.at for row in rows} <= {AT}
    assert opened.store.verify() is None
    # And it works.
    after = put(opened.store, kept, StoreReplaced(old, opened.reason), trip_ended(900))
    assert after.outbox.last_seq == len(rows) + 2
    opened.store.close()
    again = open_store(tmp_path)
    assert (again.kept, again.replaced) == (after, None)
    again.store.close()


def test_a_damaged_database_that_was_not_closed_is_kept_aside_with_its_log(tmp_path: Path) -> None:
    lived_in(tmp_path, clean=False)
    log = (tmp_path / "store.db-wal").read_bytes()
    assert log
    garbage_header(tmp_path / "store.db")
    # The header is in the log as well: what is in the file comes second.
    opened = open_store(tmp_path)
    if opened.replaced is not None:
        [aside] = tmp_path.glob("store-*.damaged-wal")
        assert aside.read_bytes() == log
    assert opened.kept.rental == RENTAL
    opened.store.close()


def test_flipped_bits_anywhere_never_crash_and_never_change_a_trip(tmp_path: Path) -> None:
    before = lived_in(tmp_path)
    path = tmp_path / "store.db"
    clean = path.read_bytes()
    side = {name: (tmp_path / name).read_bytes() for name in ("floors.json", "list.json", "rental.json")}
    written = {trip_ended(number) for number in range(1, TRIPS + 1)}
    replaced = 0
    for offset in range(1, len(clean), len(clean) // 40 + 37):
        for old in tmp_path.glob("store*"):
            old.unlink()
        for name, data in side.items():
            (tmp_path / name).write_bytes(data)
        damaged = bytearray(clean)
        damaged[offset] ^= 0x10
        path.write_bytes(damaged)
        opened = open_store(tmp_path)
        replaced += opened.replaced is not None
        assert opened.kept.rental == RENTAL
        assert opened.kept.grants.listed == LISTED
        assert opened.kept.trips >= before.trips
        rows = opened.store.rows(1, 10_000)
        assert {decode_record(row.payload) for row in rows} <= written
        assert opened.store.verify() is None
        opened.store.close()
    assert replaced > 12


@pytest.mark.parametrize("acked_seq", [1, 12])
def test_only_unacknowledged_rows_are_carried_over(tmp_path: Path, acked_seq: int) -> None:
    opened = open_store(tmp_path)
    kept = put(opened.store, opened.kept, *(trip_ended(number) for number in range(1, 21)), fault(1))
    put(opened.store, replace(kept, outbox=replace(kept.outbox, acked_seq=acked_seq)))
    opened.store.close()
    shell(tmp_path / "store.db", "UPDATE events SET payload = x'80' WHERE seq = 15")
    again = open_store(tmp_path)
    found = [decode_record(row.payload) for row in again.store.rows(1, 99)]
    assert found == [*(trip_ended(number) for number in range(acked_seq + 1, 21) if number != 15), fault(1)]
    assert again.kept.outbox.acked_seq == 0
    again.store.close()


def test_damage_to_rows_the_cloud_has_changes_nothing(tmp_path: Path) -> None:
    opened = open_store(tmp_path)
    kept = put(opened.store, opened.kept, *(trip_ended(number) for number in range(1, 21)))
    put(opened.store, replace(kept, outbox=replace(kept.outbox, acked_seq=12)))
    opened.store.close()
    shell(tmp_path / "store.db", "UPDATE events SET payload = x'80' WHERE seq = 5")
    again = open_store(tmp_path)
    assert again.replaced is None
    assert again.store.verify() == 5
    again.store.close()


def test_a_missing_database_is_told_as_replaced(tmp_path: Path) -> None:
    before = lived_in(tmp_path)
    (tmp_path / "store.db").unlink()
    opened = open_store(tmp_path)
    assert opened.reason == "the database file is missing"
    assert opened.kept.rental == RENTAL
    assert opened.kept.trips >= before.trips
    opened.store.close()


def test_a_cut_between_keeping_aside_and_the_new_database_still_carries_the_trips_over(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    before = lived_in(tmp_path)
    a_changed_payload(tmp_path / "store.db")

    def cut(*_: object) -> None:
        raise KeyboardInterrupt

    with monkeypatch.context() as patch:
        patch.setattr(store_open, "_build", cut)
        with pytest.raises(KeyboardInterrupt):
            open_store(tmp_path)
    assert not (tmp_path / "store.db").exists()
    opened = open_store(tmp_path)
    assert opened.replaced == before.outbox.store_id
    assert opened.kept.outbox.last_seq == TRIPS - 1
    opened.store.close()


def test_rows_kept_aside_long_ago_are_not_brought_back(tmp_path: Path) -> None:
    lived_in(tmp_path)
    a_changed_payload(tmp_path / "store.db")
    opened = open_store(tmp_path)
    put(opened.store, opened.kept, StoreReplaced(b"", ""))
    opened.store.close()
    (tmp_path / "store.db").unlink()
    again = open_store(tmp_path)
    assert again.kept.outbox.last_seq == 0
    again.store.close()


def test_a_database_that_fell_back_in_time_is_noticed(tmp_path: Path) -> None:
    opened = open_store(tmp_path)
    kept = put(opened.store, opened.kept, trip_ended(1))
    opened.store.close()
    older = (tmp_path / "store.db").read_bytes()
    opened = open_store(tmp_path)
    put(opened.store, replace(kept, rental=RENTAL), trip_ended(2))
    opened.store.close()
    (tmp_path / "store.db").write_bytes(older)
    again = open_store(tmp_path)
    assert "fell back in time" in again.reason
    assert again.kept.rental == RENTAL
    assert again.kept.outbox.store_id != kept.outbox.store_id
    again.store.close()


def test_only_the_newest_three_damaged_databases_stay(tmp_path: Path) -> None:
    names = []
    # The clock stands still, runs on, and falls back.
    for number, wall_s in enumerate((1_795_383_000.0, 1_795_383_000.0, 1_795_384_000.0, 1_795_300_000.0, 0.0)):
        opened = open_store(tmp_path)
        put(opened.store, opened.kept, trip_ended(number))
        opened.store.close()
        (tmp_path / "store.db").write_bytes(b"%d" % number * 512)
        open_store(tmp_path, now_wall_s=wall_s).store.close()
        names.append(sorted(path.name for path in tmp_path.glob("*.damaged")))
    assert [len(found) for found in names] == [1, 2, 3, 3, 3]
    contents = {path.read_bytes()[:1] for path in tmp_path.glob("*.damaged")}
    assert contents == {b"2", b"3", b"4"}
