"""What a document says must be possible: its times, its rows, its keys."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
from typing import Any

import pytest

from cloud_sync import documents as d
from cloud_sync.documents import Reason, Refused
from cloud_sync.documents.kinds import DocumentType
from cloud_sync.documents.up import read_event_batch
from onboard.core.clock import ClockQuality, Instant
from onboard.core.events import Intent
from onboard.core.grants import (
    BookingKind,
    Pass,
    ReservationList,
)
from onboard.core.records import SupplyChanged
from tests.document_rig import (
    BATCH,
    BOOKING,
    BOX,
    BOX_V,
    CAR,
    CASES,
    CLOUD,
    CLOUD_C,
    KEYS,
    LIST,
    OTHER_ROOT,
    PASS,
    ROOT,
    T0,
    forge,
    payload_of,
    rows,
)


def refused(reason: Reason) -> pytest.RaisesExc[Refused]:
    return pytest.RaisesExc(Refused, check=lambda error: error.reason is reason)


# ── key sets ──


def test_either_root_signs_a_key_set_and_nobody_else() -> None:
    from_roots = (ROOT.public, OTHER_ROOT.public)
    assert d.decode_key_set(d.encode_key_set(KEYS, OTHER_ROOT), from_roots) == KEYS
    with refused(Reason.UNKNOWN_KEY_ID):
        d.decode_key_set(d.encode_key_set(KEYS, OTHER_ROOT), (ROOT.public,))
    with refused(Reason.UNKNOWN_KEY_ID):
        d.decode_key_set(d.encode_key_set(KEYS, CLOUD), from_roots)
    with refused(Reason.UNKNOWN_KEY_ID):
        d.decode_key_set(d.encode_key_set(KEYS, ROOT), ())


def test_a_key_set_may_name_types_of_a_later_version_but_no_key_twice() -> None:
    inside = payload_of(CASES[DocumentType.KEY_SET])
    inside[2][0][3].append(77)
    assert d.decode_key_set(forge(DocumentType.KEY_SET, inside), (ROOT.public,)) == KEYS
    inside[2].append(inside[2][0])
    with refused(Reason.CONTRADICTION):
        d.decode_key_set(forge(DocumentType.KEY_SET, inside), (ROOT.public,))


# ── meaning ──


@pytest.mark.parametrize(
    ("reason", "bad"),
    [
        (Reason.BAD_TIMES, replace(LIST, horizon_end_s=T0 + 30 * 86400 + 1)),
        (Reason.BAD_TIMES, replace(LIST, horizon_end_s=T0 - 1)),
        (Reason.BAD_TIMES, replace(LIST, reservations=(replace(BOOKING, end_s=BOOKING.start_s),))),
        (Reason.CONTRADICTION, replace(LIST, reservations=(BOOKING, BOOKING))),
        (Reason.CONTRADICTION, replace(LIST, reservations=(replace(BOOKING, dropoff=None),))),
        (Reason.CONTRADICTION, replace(LIST, reservations=(replace(BOOKING, kind=BookingKind.LOOP),))),
    ],
)
def test_a_list_that_cannot_be_meant_is_neither_made_nor_taken(
    reason: Reason, bad: ReservationList, monkeypatch: pytest.MonkeyPatch
) -> None:
    with refused(reason):
        d.encode_reservation_list(bad, CLOUD, BOX_V.public)
    with monkeypatch.context() as patch:
        patch.setattr("cloud_sync.documents.grants._judge_list", lambda _: None)
        data = d.encode_reservation_list(bad, CLOUD, BOX_V.public)
    with refused(reason):
        d.decode_reservation_list(data, KEYS, BOX_V, CAR)


@pytest.mark.parametrize(
    "bad",
    [
        replace(PASS, expires_s=T0 + 86401),
        replace(PASS, expires_s=T0),
        replace(PASS, expires_s=T0 - 1),
        replace(PASS, start_s=PASS.end_s),
    ],
)
def test_a_pass_lives_a_day_at_most(bad: Pass, monkeypatch: pytest.MonkeyPatch) -> None:
    with refused(Reason.BAD_TIMES):
        d.encode_pass(bad, CLOUD)
    with monkeypatch.context() as patch:
        patch.setattr("cloud_sync.documents.grants._judge_pass", lambda _: None)
        data = d.encode_pass(bad, CLOUD)
    with refused(Reason.BAD_TIMES):
        d.decode_pass(data, KEYS, CAR)


def test_a_pass_fits_one_value_over_the_air() -> None:
    longest = replace(PASS, vehicle="a" * 32, pickup="b" * 64, dropoff="c" * 64, made_with_version=2**63 - 1)
    assert len(d.encode_pass(PASS, CLOUD)) < 256
    assert len(d.encode_pass(longest, CLOUD)) <= 512


def test_only_a_card_of_class_mutual_has_a_key_and_rights_of_later_versions_grant_nothing() -> None:
    inside = payload_of(CASES[DocumentType.RESERVATION_LIST])
    inside[5][0][10] |= 0x80
    take = CASES[DocumentType.RESERVATION_LIST].take
    assert take(forge(DocumentType.RESERVATION_LIST, inside)) == LIST
    inside[5][0][9][0][3] = bytes(16)
    with refused(Reason.BAD_SCHEMA):
        take(forge(DocumentType.RESERVATION_LIST, inside))


def test_a_cards_tap_is_no_command() -> None:
    command = CASES[DocumentType.COMMAND].value
    with refused(Reason.BAD_SCHEMA):
        d.encode_command(replace(command, action=Intent.TAP), CLOUD)


@pytest.mark.parametrize("bad", ["", "a" * 33, "Hede", "hede/1", "hede+", "#", "héde", "a b", "a\n"])
def test_a_vehicle_id_holds_nothing_that_a_topic_would_take_for_itself(bad: str) -> None:
    with refused(Reason.BAD_SCHEMA):
        d.encode_resend(d.Resend(bad, bytes(16), 1), CLOUD)


# ── batches ──


def _sent(batch: d.EventBatch) -> d.EventBatch:
    return d.decode_event_batch(d.encode_event_batch(batch, BOX, CLOUD_C.public), CLOUD_C, BOX.public, CAR)


def test_a_row_dropped_for_room_carries_the_chain_over_the_hole() -> None:
    first, second = BATCH.rows
    third = rows(d.decode_record(second.payload), first=3, before=second.digest)  # type: ignore[arg-type] # known kind
    holed = replace(BATCH, rows=(first, replace(second, payload=b""), *third))
    assert _sent(holed) == holed
    later = replace(BATCH, from_seq=3, prev_digest=second.digest, rows=third)
    assert _sent(later) == later


def test_that_nothing_is_before_a_batch_is_said_in_one_way_only() -> None:
    assert _sent(replace(BATCH, oldest=True)).oldest
    written = [[row.boot_epoch, row.at.boot_s, row.at.wall_s, int(row.at.quality), row.payload] for row in BATCH.rows]
    fields: dict[int, Any] = {1: CAR, 2: BATCH.store_id, 3: 1, 4: d.GENESIS, 5: written, 6: BATCH.rows[-1].digest}
    assert read_event_batch(fields) == BATCH
    with refused(Reason.BAD_SCHEMA):
        read_event_batch({**fields, 7: False})


@pytest.mark.parametrize(
    "bad",
    [
        replace(BATCH, from_seq=2),
        replace(BATCH, rows=BATCH.rows[::-1]),
        replace(BATCH, rows=(BATCH.rows[0], replace(BATCH.rows[1], seq=7, payload=b""))),
        replace(BATCH, prev_digest=bytes([1]) * 32),
        replace(
            BATCH, prev_digest=bytes([1]) * 32, rows=rows(SupplyChanged("saving", 12.1), before=bytes([1]) * 32)
        ),  # sound, but before row 1
        replace(BATCH, rows=(BATCH.rows[0], replace(BATCH.rows[1], payload=BATCH.rows[0].payload))),
        replace(BATCH, rows=(BATCH.rows[0], replace(BATCH.rows[1], digest=bytes(32)))),
        replace(BATCH, rows=(BATCH.rows[0], replace(BATCH.rows[1], at=Instant(0.5, 1.0, ClockQuality.RTC)))),
        replace(BATCH, rows=(BATCH.rows[0], replace(BATCH.rows[1], boot_epoch=bytes(8)))),
        replace(BATCH, rows=(replace(BATCH.rows[0], at=Instant(1.0, T0 + 1, ClockQuality.GNSS)), BATCH.rows[1])),
    ],
)
def test_rows_that_do_not_follow_one_another_are_refused(bad: d.EventBatch) -> None:
    with refused(Reason.BAD_CHAIN):
        _sent(bad)


def test_a_batch_has_rows_and_a_row_is_whole_or_dropped() -> None:
    with refused(Reason.BAD_SCHEMA):
        _sent(replace(BATCH, rows=()))
    changes: tuple[Callable[[list[Any]], Any], ...] = (
        lambda row: row.append(bytes(32)),
        lambda row: row.pop(),
        lambda row: row.__setitem__(4, b""),
        lambda row: row.__setitem__(4, bytes(4097)),
        lambda row: row.__setitem__(3, 9),
        lambda row: row.__setitem__(1, 5),
        lambda row: row.__setitem__(2, float("nan")),
        lambda row: row.__setitem__(2, -1.0),
        lambda row: row.__setitem__(0, bytes(7)),
    )
    for change in changes:
        inside = payload_of(CASES[DocumentType.EVENT_BATCH])
        change(inside[5][0])
        with refused(Reason.BAD_SCHEMA):
            CASES[DocumentType.EVENT_BATCH].take(forge(DocumentType.EVENT_BATCH, inside))


def test_a_status_with_long_texts_is_cut_and_not_lost() -> None:
    status = replace(CASES[DocumentType.STATUS].value, faults=("é" * 200,) * 40, software="v" * 99)
    found = d.decode_status(d.encode_status(replace(status, faults=status.faults[:12]), BOX), BOX.public, CAR)
    assert found.software == "v" * 64
    assert found.faults == ("é" * 128,) * 12
