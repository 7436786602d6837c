"""The phone as courier: what it is given for a car without network, and what becomes of what it brings from there."""

from __future__ import annotations

import threading
from collections.abc import Iterator
from contextlib import suppress
from pathlib import Path
from typing import Any

import pytest
from sqlalchemy import func, select, text

from cloud_sync.documents import (
    MAX_DOCUMENT_BYTES,
    DocumentType,
    decode_ack,
    decode_key_set,
    decode_resend,
    decode_time_proof,
    document_type,
)
from cloud_sync.endpoint import lists, tables, views
from cloud_sync.endpoint.app import BODY_MAX_BYTES
from cloud_sync.endpoint.courier import DELIVERY_MAX_BYTES
from cloud_sync.endpoint.models_phone import DOCUMENTS_MAX
from cloud_sync.endpoint.store import RESEND_EVERY_S
from cloud_sync.wire import Topic
from onboard.core.records import Parked
from tests.cloud_http_rig import PHONE, Town, make_town
from tests.cloud_rig import NOW_S, RENTAL, WHOLE_RENTAL, Box

KEYS, LIST, ACK = DocumentType.KEY_SET, DocumentType.RESERVATION_LIST, DocumentType.ACK
RESEND, TIME = DocumentType.RESEND, DocumentType.TIME_PROOF
BATCHES = "vehicles/ami-1/batches"
LAST = 100
"""Rows that the box has written."""


@pytest.fixture
def town(tmp_path: Path) -> Iterator[Town]:
    with make_town(tmp_path) as made:
        made.box.write(*WHOLE_RENTAL, *(Parked(f"station-{number}", None, None) for number in range(6, LAST + 1)))
        yield made


def fetch(town: Town, **heard: Any) -> list[bytes]:
    """What a phone is given that heard so much."""
    answer = town.post("vehicles/ami-1/courier", heard, 200)
    return [bytes.fromhex(document) for document in answer["documents"]]


def kinds(documents: list[bytes]) -> list[DocumentType]:
    return [document_type(document) for document in documents]


def bring(town: Town, *batches: bytes) -> tuple[list[str], list[bytes]]:
    """Deliver; returns the words, and what to bring back."""
    answer = town.post(BATCHES, {"documents": [batch.hex() for batch in batches]}, 200)
    return answer["results"], [bytes.fromhex(document) for document in answer["documents"]]


def acked(town: Town, documents: list[bytes], box: Box | None = None) -> list[int]:
    """Rows that a box takes for acknowledged: only by its own digest."""
    box = box or town.box
    acks = [decode_ack(each, box.key_set, "ami-1") for each in documents if document_type(each) is ACK]
    assert all((ack.store_id, ack.digest) == (box.store_id, box.rows[ack.up_to_seq - 1].digest) for ack in acks)
    return [ack.up_to_seq for ack in acks]


def wanted(town: Town, documents: list[bytes]) -> list[int]:
    """Rows that the commune asks for again."""
    wishes = [decode_resend(each, town.box.key_set, "ami-1") for each in documents if document_type(each) is RESEND]
    assert all(wish.store_id == town.box.store_id for wish in wishes)
    return [wish.from_seq for wish in wishes]


def count(town: Town, name: str = "events") -> int:
    with town.cloud.store.read() as db:
        return db.scalar(select(func.count()).select_from(tables.METADATA.tables[name])) or 0


def whole(town: Town) -> None:
    """Every row is there exactly once, and what follows from them too."""
    assert [count(town, name) for name in ("events", "trips", "rentals", "alarms")] == [LAST, 1, 1, 0]
    with town.cloud.store.read() as db:
        digests = db.scalars(select(tables.events.c.digest).order_by(tables.events.c.seq)).all()
        assert views.trips(db, "ami-1")[0].distance_m == 12300
    assert digests == [row.digest for row in town.box.rows]


def test_a_phone_that_never_met_the_box_gets_all_that_any_box_needs_keys_first(town: Town) -> None:
    booking = town.book()
    assert kinds(fetch(town)) == [KEYS, LIST]
    bring(town, town.box.batch(1, 7))
    found = fetch(town)
    assert kinds(found) == [KEYS, LIST, ACK]
    keys = decode_key_set(found[0], town.box.given.roots)
    assert keys == town.cloud.authority.key_set
    assert [each.id.hex() for each in town.opened(found[1]).reservations] == [booking]
    assert acked(town, found) == [7]


def test_a_phone_brings_a_box_only_what_it_lacks(town: Town) -> None:
    town.book()
    bring(town, town.box.batch(1, 7))
    version, keys, store = town.listed.version, town.cloud.authority.key_set.version, town.box.store_id.hex()
    log = {"store_id": store, "up_to_seq": LAST}
    holds = {"list_version": version, "key_set_version": keys, **log, "acked_seq": 7}
    assert fetch(town, **holds) == []
    for change, lacking in (
        ({"key_set_version": keys - 1}, [KEYS]),
        ({"key_set_version": None}, [KEYS]),
        ({"list_version": version - 1}, [LIST]),
        ({"list_version": None}, [LIST]),
        ({"acked_seq": 6}, [ACK]),
        ({"acked_seq": None}, [ACK]),
        ({"time_nonce": "ab" * 16}, [TIME]),
        ({"key_set_version": 0, "list_version": 0, "acked_seq": 0, "time_nonce": "ab" * 16}, [KEYS, TIME, LIST, ACK]),
    ):
        assert kinds(fetch(town, **{**holds, **change})) == lacking, change
    town.now_s = NOW_S + 0.5
    [proof] = fetch(town, **holds, time_nonce="ab" * 16)
    assert decode_time_proof(proof, town.box.key_set, "ami-1").time_s == NOW_S + 0.5
    assert decode_time_proof(proof, town.box.key_set, "ami-1").nonce == b"\xab" * 16


def test_a_new_booking_reaches_a_car_without_network_by_a_phone(town: Town) -> None:
    town.book()
    version = town.listed.version
    town.link.connected = False
    later = town.book(NOW_S + 7200, NOW_S + 9000)
    [document] = fetch(town, list_version=version, key_set_version=town.cloud.authority.key_set.version)
    assert later in [each.id.hex() for each in town.opened(document).reservations]


def test_what_a_phone_heard_of_a_restored_cloud_brings_a_higher_list_and_rows_again(town: Town) -> None:
    """The cloud's copy is from yesterday: its box holds a newer list and let go of rows that the cloud lost."""
    town.book()
    bring(town, town.box.batch(1, 7))
    town.now_s = NOW_S + 600
    heard = {"list_version": NOW_S + 500, "store_id": town.box.store_id.hex(), "up_to_seq": LAST, "acked_seq": 60}
    found = fetch(town, **heard)
    assert town.opened(found[1]).version == town.now_s
    assert (acked(town, found), wanted(town, found)) == ([], [8])
    bring(town, town.box.batch(8, LAST))
    whole(town)
    unknown = {"store_id": "cd" * 16, "up_to_seq": 9, "acked_seq": 9}
    documents = [each for each in fetch(town, **unknown) if document_type(each) is RESEND]
    assert decode_resend(documents[0], town.box.key_set, "ami-1").from_seq == 1


def test_a_liar_moves_no_version_into_the_future(town: Town) -> None:
    town.book()
    for claimed in (2**62, NOW_S + 9 * 86_400, NOW_S + 6, NOW_S + 5, NOW_S - 5):
        town.now_s = NOW_S + 5
        assert town.opened(fetch(town, list_version=claimed)[1]).version == NOW_S
    for _ in range(3):
        assert town.opened(fetch(town, list_version=NOW_S + 4)[1]).version == NOW_S + 5


def test_nonsense_is_refused(town: Town) -> None:
    store = town.box.store_id.hex()
    for wrong in (
        {"acked_seq": 1},
        {"store_id": store, "up_to_seq": 1, "acked_seq": 2},
        {"store_id": store[2:]},
        {"time_nonce": "AB" * 16},
        {"list_version": -1},
        {"list_version": 2**63},
        {"surprise": 1},
    ):
        town.post("vehicles/ami-1/courier", wrong, 422)
    town.post("vehicles/ami-9/courier", {}, 404)
    good = town.box.batch(1, 2).hex()
    for documents in ([], [""], ["0"], ["xy"], [good.upper()], [good] * 17, ["00" * (MAX_DOCUMENT_BYTES + 1)], good):
        town.post(BATCHES, {"documents": documents}, 422)
    town.post("vehicles/ami-9/batches", {"documents": [good]}, 404)
    assert count(town) == 0


def test_a_full_delivery_fits_and_more_does_not_and_elsewhere_the_bound_stays(town: Town) -> None:
    full = ["00" * MAX_DOCUMENT_BYTES] * DOCUMENTS_MAX
    assert town.post(BATCHES, {"documents": full}, 200)["results"] == ["bad_envelope"] * DOCUMENTS_MAX
    beyond = b" " * (DELIVERY_MAX_BYTES + 1)
    assert town.client.post(f"/api/v1/{BATCHES}", content=beyond).status_code == 413
    for path in ("vehicles/ami-1/courier", "vehicles/ami-1/batches/more", "vehicles/ami-1/x/batches", "revocations"):
        assert town.client.post(f"/api/v1/{path}", content=b" " * (BODY_MAX_BYTES + 1)).status_code == 413, path
    assert town.client.ask("PUT", f"/api/v1/{BATCHES}", content=b" " * (BODY_MAX_BYTES + 1)).status_code == 413


def test_what_a_phone_brings_is_stored_once_and_acknowledged_each_time(town: Town) -> None:
    batches = [town.box.batch(1, 50), town.box.batch(51, LAST)]
    first, again = bring(town, *batches), bring(town, *batches)
    assert first[0] == again[0] == ["taken", "taken"]
    assert acked(town, first[1]) == acked(town, again[1]) == [LAST]
    assert kinds(first[1]) == kinds(again[1]) == [ACK]
    whole(town)


@pytest.mark.parametrize("order", [(0, 1), (1, 0), (1, 1, 0, 0), (0, 1, 0, 1)])
@pytest.mark.parametrize("at_once", [True, False])
def test_rows_that_come_out_of_order_are_kept_and_the_missing_ones_asked_for(
    town: Town, order: tuple[int, ...], at_once: bool
) -> None:
    parts = [town.box.batch(1, 50), town.box.batch(51, LAST)]
    held: set[int] = set()
    if at_once:
        words, found = bring(town, *(parts[each] for each in order))
        assert words == ["taken"] * len(order)
        assert (acked(town, found), wanted(town, found)) == ([LAST], [])
    else:
        for each in order:
            held.add(each)
            words, found = bring(town, parts[each])
            told = (acked(town, found), wanted(town, found))
            assert words == ["taken"]
            assert told == {(0,): ([50], []), (1,): ([], [1]), (0, 1): ([LAST], [])}[tuple(sorted(held))]
    whole(town)


def test_while_rows_are_missing_nothing_beyond_them_is_acknowledged_however_often_the_rest_comes(town: Town) -> None:
    bring(town, town.box.batch(1, 7))
    for _ in range(3):
        words, found = bring(town, town.box.batch(51, LAST))
        assert (words, acked(town, found), wanted(town, found)) == (["taken"], [7], [8])
        town.now_s += 86_400
        found = fetch(town, store_id=town.box.store_id.hex(), acked_seq=7)
        assert (acked(town, found), wanted(town, found)) == ([], [8])
    assert count(town) == 57
    bring(town, town.box.batch(8, 50))
    whole(town)


def test_answers_go_to_the_broker_as_well_and_a_gap_is_told_there_once_in_a_while(town: Town) -> None:
    def sent() -> list[str]:
        topics = [message.topic.rpartition("/")[2] for message in town.link.sent]
        town.link.sent.clear()
        return topics

    bring(town, town.box.batch(1, 7))
    assert sent() == ["ack"]
    asked = []
    for after_s in (0.0, 1.0, RESEND_EVERY_S):
        town.now_s = NOW_S + after_s
        _, found = bring(town, town.box.batch(51, LAST))
        assert wanted(town, found) == [8], "a phone is told each time: it may be the only one that comes"
        asked.append(sent())
    assert asked == [["ack", "resend"], ["ack"], ["ack", "resend"]]
    assert not any(message.retain for message in town.link.sent)


def test_each_document_is_judged_for_itself_and_a_refused_one_is_named(town: Town) -> None:
    other = town.cloud.add("ami-2")
    other.write(*WHOLE_RENTAL)
    good = town.box.batch(1, 7)
    damaged = bytearray(good)
    damaged[len(good) // 2] ^= 1
    words, found = bring(town, bytes(damaged), other.batch(1, 5), town.box.status(), good[:-1], good)
    assert words == ["bad_seal", "bad_seal", "not_sealed", "not_cbor", "taken"]
    assert (acked(town, found), count(town)) == ([7], 7)
    assert (town.cloud.ingest.refused["bad_seal"], town.cloud.ingest.counts["batches"]) == (2, 1)


def test_a_log_in_doubt_is_not_acknowledged(town: Town) -> None:
    twin = Box(town.box.given, town.box.key_set, town.box.store_id)
    twin.write(*WHOLE_RENTAL[:3], Parked("elsewhere", None, None), RENTAL)
    bring(town, town.box.batch(1, 7))
    fresh = Box(town.box.given, town.box.key_set)
    fresh.write(*WHOLE_RENTAL)
    town.link.sent.clear()
    words, found = bring(town, twin.batch(1, 3), twin.batch(4, 5), fresh.batch(1, 5))
    assert words == ["taken", "log_forked", "taken"]
    assert acked(town, found, fresh) == [5]
    assert [message.payload for message in town.link.sent] == found
    with town.cloud.store.read() as db:
        assert [(alarm.kind, alarm.seq) for alarm in views.alarms(db)] == [("log_forked", 5), ("log_forked", 4)]


def test_a_failing_database_is_told_and_acknowledges_nothing(town: Town) -> None:
    with town.cloud.store.write() as db:
        when = "BEFORE INSERT ON events WHEN new.seq > 4"
        db.execute(text(f"CREATE TRIGGER full {when} BEGIN SELECT RAISE(ABORT, 'disk full'); END"))
    documents = [town.box.batch(1, 4).hex(), town.box.batch(5, 50).hex()]
    said = town.post(BATCHES, {"documents": documents}, 503)
    for part in ("may be stored", "none is acknowledged", "deliver them again"):
        assert part in said["detail"]
    assert (count(town), town.link.sent, town.cloud.ingest.counts["database_failed"]) == (4, [], 1)
    with town.cloud.store.write() as db:
        db.execute(text("DROP TRIGGER full"))
    assert acked(town, bring(town, town.box.batch(1, 4), town.box.batch(5, LAST))[1]) == [LAST]
    whole(town)


def test_phones_and_the_broker_deliver_at_the_same_time_and_take_turns(
    town: Town, monkeypatch: pytest.MonkeyPatch
) -> None:
    inside, most, meet = 0, 0, threading.Barrier(2)
    take_batch = town.cloud.store.take_batch

    def slow(*what: Any) -> Any:
        nonlocal inside, most
        inside += 1
        most = max(most, inside)
        with suppress(threading.BrokenBarrierError):
            meet.wait(0.3)  # whoever may come in beside us does so within this
        inside -= 1
        return take_batch(*what)

    monkeypatch.setattr(town.cloud.store, "take_batch", slow)
    parts = [town.box.batch(1, 50), town.box.batch(51, LAST)]
    topic = town.box.topic(Topic.BATCH)
    broker = threading.Thread(target=lambda: [town.cloud.ingest.handle(topic, part, NOW_S) for part in parts])
    phone = threading.Thread(target=lambda: bring(town, *reversed(parts)))
    for thread in (broker, phone):
        thread.start()
    for thread in (broker, phone):
        thread.join()
    assert most == 1
    assert town.cloud.ingest.counts["batches"] == 4
    whole(town)


def test_a_phone_gets_its_documents_although_no_new_list_can_be_made(
    town: Town, monkeypatch: pytest.MonkeyPatch
) -> None:
    booking, other = town.book(NOW_S, NOW_S + 9 * 86_400), town.book(NOW_S, NOW_S + 9 * 86_400)
    bring(town, town.box.batch(1, 7))
    known = fetch(town)
    monkeypatch.setattr("cloud_sync.documents.grants._MAX_RESERVATIONS", 0)
    town.now_s += lists.REFRESH_S
    assert fetch(town) == known
    refused = town.post(f"bookings/{booking}/pass", {"phone_key": PHONE.hex()}, 409)
    assert "nothing was issued" in refused["detail"]
    assert "nothing was changed" in town.cancel(other, 409)["detail"]
