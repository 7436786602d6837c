"""The store is bounded in rows and bytes, and when it is full, trips win over old positions."""

from __future__ import annotations

import random
from dataclasses import replace
from pathlib import Path

import pytest

from cloud_sync.documents.records import GENESIS, chain_digest, decode_record, encode_record
from onboard.core.clock import ClockQuality, Instant
from onboard.core.records import EXPENDABLE, Recordable, TripEnded
from onboard.store import RESERVE_WAL_PAGES, Opened, Store
from onboard.store_room import LIMITS, ROW_BYTES, Limits, Rank, rank_of
from onboard.store_side import Reserve
from tests.store_rig import AT, denied, fault, kill, open_store, put, shell, track, trip_ended

SMALL = replace(LIMITS, rows_max=2000, expendable_rows_max=1500, bytes_max=256 * 1024)


def payloads(store: Store) -> dict[int, bytes]:
    return {row.seq: row.payload for row in store.rows(0, 10**9)}


def trips_in(store: Store) -> list[int]:
    found = [decode_record(payload) for payload in payloads(store).values() if payload]
    return [record.trip for record in found if isinstance(record, TripEnded)]


TINY = replace(SMALL, bytes_max=64 * 1024)


def flood(opened: Opened, steps: int) -> None:
    """Write ten positions a step."""
    kept = opened.kept
    for number in range(steps):
        kept = put(opened.store, kept, *[track(number, 40)] * 10, at=replace(AT, boot_s=float(number)))


def test_on_the_reserve_the_log_stays_small_so_that_the_reserve_holds_trips(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    opened = open_store(tmp_path)
    monkeypatch.setattr(Reserve, "take", lambda _self: False)  # the disk stays full
    log = opened.store.path.with_name("store.db-wal")
    kept = put(opened.store, opened.kept, trip_ended(0))
    assert opened.store._reserve.release()
    opened.store._live_on_reserve(yes=True)
    for number in range(1, 200):
        kept = put(opened.store, kept, trip_ended(number))
    assert log.stat().st_size < 3 * RESERVE_WAL_PAGES * 4096
    opened.store.close()
    again = open_store(tmp_path)
    assert again.store.on_reserve
    kept = again.kept
    for number in range(200, 400):
        kept = put(again.store, kept, trip_ended(number))
    assert log.stat().st_size < 3 * RESERVE_WAL_PAGES * 4096, "also where the box starts on its reserve"
    again.store.close()


def test_a_reserve_that_a_power_cut_left_empty_is_taken_again_and_on_a_full_disk_passes_for_none(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    open_store(tmp_path).store.close()
    (tmp_path / "reserve").write_bytes(b"")
    with monkeypatch.context() as full:
        full.setattr(Reserve, "take", lambda _self: False)
        opened = open_store(tmp_path)
        assert opened.store.on_reserve, "a fault to show: there is nothing to fall back upon"
        opened.store.close()
    again = open_store(tmp_path)
    assert not again.store.on_reserve
    assert (tmp_path / "reserve").stat().st_size == LIMITS.reserve_bytes
    again.store.close()


def test_ranks_follow_the_core_and_a_trip_is_never_expendable() -> None:
    assert {rank_of(record) for record in (track(1), denied())} == {Rank.EXPENDABLE}
    assert rank_of(fault(1)) is Rank.ORDINARY
    assert rank_of(trip_ended(1)) is Rank.TRIP
    assert TripEnded not in EXPENDABLE


def test_every_trip_survives_a_flood_of_positions_within_the_bounds(tmp_path: Path) -> None:
    chance = random.Random(7)  # noqa: S311 - a replayable flood, no secret
    opened = open_store(tmp_path, SMALL)
    kept = opened.kept
    trips = 0
    for number in range(250):
        records: list[Recordable] = [track(number, chance.randrange(10, 64)) for _ in range(chance.randrange(14))]
        if chance.random() < 0.5:
            trips += 1
            records.append(trip_ended(trips))
        kept = put(opened.store, kept, *records)
    room = opened.store._room
    assert trips_in(opened.store) == list(range(1, trips + 1))
    assert room.rows <= SMALL.rows_max
    assert room.bytes <= SMALL.bytes_max
    assert opened.store.counts["dropped_for_room:expendable"] > 0
    assert opened.store.verify() is None
    opened.store.close()
    assert (tmp_path / "store.db").stat().st_size <= SMALL.bytes_max * 1.2
    # What was counted along the way is what is there.
    again = open_store(tmp_path, SMALL)
    assert (again.store._room.rows, again.store._room.bytes) == (room.rows, room.bytes)
    assert again.replaced is None
    again.store.close()


def test_old_positions_give_way_first_and_new_ones_are_kept(tmp_path: Path) -> None:
    opened = open_store(tmp_path, TINY)
    flood(opened, 40)
    held = payloads(opened.store)
    empty = [seq for seq, payload in held.items() if not payload]
    assert empty == list(range(1, len(empty) + 1))
    assert empty
    assert held[400]
    opened.store.close()


def test_a_dropped_row_keeps_its_number_time_and_digest_and_the_chain_is_whole(tmp_path: Path) -> None:
    opened = open_store(tmp_path, TINY)
    flood(opened, 2)
    before = opened.store.rows(1, 20)
    flood(opened, 40)
    after = opened.store.rows(1, 20)
    assert not any(row.payload for row in after)
    # The cloud that had them before still agrees with what is sent now.
    assert after == [replace(row, payload=b"") for row in before]
    previous = GENESIS
    for row in before:
        assert row.digest == chain_digest(previous, row.seq, row.boot_epoch, row.at, row.payload)
        previous = row.digest
    assert opened.store.verify() is None
    opened.store.close()


def test_a_row_missing_among_dropped_ones_is_noticed(tmp_path: Path) -> None:
    opened = open_store(tmp_path, TINY)
    flood(opened, 40)
    opened.store.close()
    shell(tmp_path / "store.db", "DELETE FROM events WHERE seq = 5")
    again = open_store(tmp_path, TINY)
    assert "row 6 does not follow" in again.reason
    again.store.close()


def test_faults_give_way_to_trips_but_not_to_positions(tmp_path: Path) -> None:
    opened = open_store(tmp_path, TINY)
    kept = opened.kept
    while not opened.store.counts["no_room:fault"]:
        kept = put(opened.store, kept, *[fault(1)] * 10)
    held = opened.store.counts["dropped_for_room:ordinary"]
    kept = put(opened.store, kept, track(1))
    assert opened.store.counts["no_room:track"] == 1
    assert opened.store.counts["dropped_for_room:ordinary"] == held
    for trip in range(1, 400, 3):
        kept = put(opened.store, kept, *(trip_ended(trip + more) for more in range(3)))
    assert trips_in(opened.store) == list(range(1, 400))
    opened.store.close()


def test_a_refused_record_takes_no_number_and_the_state_of_its_step_is_kept(tmp_path: Path) -> None:
    opened = open_store(tmp_path, replace(SMALL, expendable_rows_max=3, rows_max=5))
    kept = put(opened.store, opened.kept, *[denied()] * 5)
    assert (kept.outbox.last_seq, opened.store.counts["no_room:access_denied"]) == (3, 2)
    kept = put(opened.store, replace(kept, maintenance=True), fault(1), denied(), fault(2), fault(3), trip_ended(1))
    assert (kept.outbox.last_seq, opened.store.counts["no_room:fault"]) == (6, 1)
    opened.store.close()
    again = open_store(tmp_path)
    assert again.kept == kept
    assert trips_in(again.store) == [1]
    again.store.close()


def filled(directory: Path, limits: Limits, rows: int) -> Opened:
    opened = open_store(directory, limits)
    kept = put(opened.store, opened.kept, *[trip_ended(trip) for trip in range(1, rows + 1)])
    return replace(opened, kept=kept)


def test_acknowledged_rows_go_first_and_the_next_batch_still_has_its_digest(tmp_path: Path) -> None:
    opened = filled(tmp_path, replace(SMALL, expendable_rows_max=300), 300)
    digests = {seq: opened.store.digest(seq) for seq in (199, 200, 201)}
    opened.store.release(200, AT.wall_s)
    assert len(payloads(opened.store)) == 300
    kept = put(opened.store, replace(opened.kept, outbox=replace(opened.kept.outbox, acked_seq=200)), track(1))
    assert opened.store.counts["dropped_acknowledged"] > 0
    assert opened.store.counts["no_room:track"] == 0
    while len(payloads(opened.store)) < 300:
        kept = put(opened.store, kept, track(1))
    for _ in range(100):
        kept = put(opened.store, kept, track(1))
    held = payloads(opened.store)
    # Row 200 is acknowledged but stays: the next batch follows it.
    assert set(range(200, 301)) <= set(held)
    assert {seq: opened.store.digest(seq) for seq in (199, 200, 201)} == digests
    assert opened.store.digest(198) is None
    assert opened.store.verify() is None
    kill(opened.store)
    again = open_store(tmp_path)
    assert again.kept == kept
    assert again.store.digest(199) == digests[199]
    assert again.store.verify() is None
    again.store.close()


def test_acknowledged_rows_go_by_age_and_others_never_do(tmp_path: Path) -> None:
    opened = filled(tmp_path, LIMITS, 20)
    assert opened.store.oldest() == 1
    kept = put(opened.store, opened.kept, fault(1), at=Instant(1.0, AT.wall_s + 20 * 86400, AT.quality))
    opened.store.release(10, AT.wall_s + 29 * 86400)
    kept = put(opened.store, kept, fault(2))
    assert len(payloads(opened.store)) == 22
    opened.store.release(10, AT.wall_s + 31 * 86400)
    put(opened.store, kept, fault(3))
    assert min(payloads(opened.store)) == opened.store.oldest() == 10
    assert opened.store.digest(9) is not None
    opened.store.close()


@pytest.mark.parametrize(
    ("row_5", "left_from"),
    [
        ((0, ClockQuality.RTC), 4),  # says that it is old, and has no good clock: the days of rows 4 and 6 are known
        ((4000, ClockQuality.GNSS), 4),  # a sky ten years ahead keeps neither itself nor what comes after it for ever
        ((0, ClockQuality.GNSS), 6),
    ],
)
def test_rows_grow_old_by_good_clocks_and_none_takes_younger_ones_with_it_or_holds_them(
    tmp_path: Path, row_5: tuple[int, ClockQuality], left_from: int
) -> None:
    opened, kept = filled(tmp_path, LIMITS, 3), None
    for number, (day, quality) in enumerate([(20, ClockQuality.GNSS), row_5, (20, ClockQuality.GNSS)], start=1):
        at = Instant(1.0, AT.wall_s + day * 86400, quality)
        kept = put(opened.store, kept or opened.kept, fault(number), at=at)
    opened.store.release(7, AT.wall_s + 31 * 86400)
    kept = put(opened.store, kept or opened.kept, fault(4), at=Instant(1.0, AT.wall_s + 31 * 86400, ClockQuality.GNSS))
    assert min(payloads(opened.store)) == left_from
    opened.store.release(7, AT.wall_s + 51 * 86400)
    put(opened.store, kept, fault(5))
    assert min(payloads(opened.store)) == 7, "and in the end they go"
    opened.store.close()


def test_an_acknowledgement_beyond_what_was_written_frees_nothing_more(tmp_path: Path) -> None:
    opened = filled(tmp_path, LIMITS, 5)
    opened.store.release(10**9, AT.wall_s + 400 * 86400)
    kept = put(opened.store, opened.kept, trip_ended(6))
    put(opened.store, kept, trip_ended(7))
    assert sorted(payloads(opened.store)) == [5, 6, 7]
    opened.store.close()


def test_numbers_never_fall_even_when_every_row_was_dropped_by_hand(tmp_path: Path) -> None:
    opened = filled(tmp_path, LIMITS, 5)
    opened.store.release(5, AT.wall_s + 400 * 86400)
    kept = put(opened.store, opened.kept, trip_ended(6))
    opened.store.close()
    again = open_store(tmp_path)
    assert put(again.store, kept, trip_ended(7)).outbox.last_seq == 7
    again.store.close()


def test_thirty_days_offline_fit_into_fifty_megabytes(tmp_path: Path) -> None:
    opened = open_store(tmp_path)
    kept = opened.kept
    step = [trip_ended(1)] * 5 + [denied()] * 50 + [fault(1)] * 30 + [track(1, 10)] * 15
    for _ in range(250):
        kept = put(opened.store, kept, *step)
    assert kept.outbox.last_seq == 25_000
    assert opened.store._room.bytes * 4 < LIMITS.bytes_max
    opened.store.close()
    # The figure that is counted is on the safe side of the file, and 100,000 such events stay below 50 MB.
    size = (tmp_path / "store.db").stat().st_size
    assert opened.store._room.bytes > size - 64 * 1024
    assert size * 4 < 50_000_000


def test_a_row_is_counted_with_enough_room_beside_its_payload(tmp_path: Path) -> None:
    opened = open_store(tmp_path)
    kept = opened.kept
    for _ in range(40):
        kept = put(opened.store, kept, *[denied()] * 100)
    opened.store.close()
    beside = (tmp_path / "store.db").stat().st_size / 4000 - len(encode_record(denied()))
    assert beside < ROW_BYTES
