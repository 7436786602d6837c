"""What the endpoint takes from the boxes, what it answers, and what it refuses without a trace."""

from __future__ import annotations

import random
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path

import pytest
from sqlalchemy import func, select, text
from sqlalchemy.exc import SQLAlchemyError

from cloud_sync.carrier_settings import Outgoing
from cloud_sync.documents import (
    BoxSigner,
    DocumentType,
    EventBatch,
    Offline,
    Reason,
    cbor,
    decode_ack,
    decode_resend,
    decode_reservation_list,
    decode_time_proof,
    encode_event_batch,
    encode_offline,
)
from cloud_sync.endpoint import lists, tables, views
from cloud_sync.endpoint.store import RESEND_EVERY_S, Store, StoreError, sqlite_url
from cloud_sync.wire import MAX_PAYLOAD_BYTES, Topic, build_topic
from onboard.core.records import Booted, Parked, Recordable, StoreReplaced
from tests.cloud_rig import ENDED, EPOCH, NOW_S, RENTAL, STARTED, TRACK, WHOLE_RENTAL, Box, Cloud, make_cloud


@pytest.fixture
def cloud(tmp_path: Path) -> Iterator[Cloud]:
    made = make_cloud(tmp_path / "cloud")
    yield made
    made.store.close()


@pytest.fixture
def box(cloud: Cloud) -> Box:
    made = cloud.add("ami-1")
    made.write(*WHOLE_RENTAL)
    return made


def send(cloud: Cloud, box: Box, payload: bytes, channel: Topic = Topic.BATCH, now_s: float = NOW_S) -> list[Outgoing]:
    return cloud.ingest.handle(box.topic(channel), payload, now_s)


def count(cloud: Cloud, table: str) -> int:
    with cloud.store.read() as db:
        return db.scalar(select(func.count()).select_from(tables.METADATA.tables[table])) or 0


def stored(cloud: Cloud) -> dict[str, int]:
    return {name: count(cloud, name) for name in ("events", "trips", "rentals", "points", "statuses", "boots", "logs")}


def acked(box: Box, messages: list[Outgoing]) -> list[tuple[int, bytes]]:
    acks = [
        decode_ack(message.payload, box.key_set, "ami-1")
        for message in messages
        if message.topic == box.topic(Topic.ACK)
    ]
    assert all(ack.store_id == box.store_id for ack in acks)
    return [(ack.up_to_seq, ack.digest) for ack in acks]


def asked_again(box: Box, messages: list[Outgoing]) -> list[int]:
    wishes = [message for message in messages if message.topic == box.topic(Topic.RESEND)]
    return [decode_resend(message.payload, box.key_set, "ami-1").from_seq for message in wishes]


def test_a_finished_rental_is_stored_whole_and_acknowledged_with_its_last_digest(cloud: Cloud, box: Box) -> None:
    assert acked(box, send(cloud, box, box.batch(1, 5))) == [(5, box.rows[4].digest)]
    with cloud.store.read() as db:
        [trip], [rental] = views.trips(db, "ami-1"), views.rentals(db, "ami-1")
        track = views.track(db, "ami-1", None)
        [vehicle] = views.vehicles(db)
    assert (trip.distance_m, trip.distance_source, trip.duration_s) == (12300, "odometer", 401)
    assert (trip.from_station, trip.to_station, trip.ended_s) == ("bazouges", "hede", box.rows[3].at.wall_s)
    assert (rental.reason, rental.billable_s, rental.trips) == ("at_dropoff", 401, 1)
    assert [(point.latitude, point.longitude) for point in track.points] == [(48.42, -1.57), (48.425, -1.565)]
    assert vehicle.position is not None
    assert vehicle.position.source == "track"


def test_a_batch_that_comes_twice_is_stored_once_and_acknowledged_each_time(cloud: Cloud, box: Box) -> None:
    first = acked(box, send(cloud, box, box.batch(1, 5)))
    before = stored(cloud)
    assert acked(box, send(cloud, box, box.batch(1, 5))) == first
    assert acked(box, send(cloud, box, box.batch(2, 3))) == first  # cumulative, whatever part came again
    assert stored(cloud) == before
    assert before["trips"] == before["rentals"] == 1
    assert not count(cloud, "alarms")


def test_a_gap_is_asked_for_and_acknowledged_only_when_it_is_filled(cloud: Cloud, box: Box) -> None:
    assert acked(box, send(cloud, box, box.batch(1, 2))) == [(2, box.rows[1].digest)]
    late = send(cloud, box, box.batch(4, 5))
    assert acked(box, late) == [(2, box.rows[1].digest)]
    assert asked_again(box, late) == [3]
    assert count(cloud, "events") == 4
    assert acked(box, send(cloud, box, box.batch(3, 3))) == [(5, box.rows[4].digest)]
    with cloud.store.read() as db:
        assert views.trips(db, "ami-1")[0].ended_s is not None


def test_nothing_is_acknowledged_while_the_first_row_is_missing(cloud: Cloud, box: Box) -> None:
    messages = send(cloud, box, box.batch(2, 5))
    assert acked(box, messages) == []
    assert asked_again(box, messages) == [1]


def test_a_gap_is_asked_for_once_in_a_while_and_not_with_every_batch(cloud: Cloud, box: Box) -> None:
    asked = [
        asked_again(box, send(cloud, box, box.batch(3, 5), now_s=NOW_S + after_s))
        for after_s in (0, 1, RESEND_EVERY_S - 1, RESEND_EVERY_S + 1)
    ]
    assert asked == [[1], [], [], [1]]


def replaced(box: Box, *carried: Recordable) -> Box:
    """Return the box after its database was damaged: a new store, what was carried over, and word of it."""
    after = Box(box.given, box.key_set)
    after.write(*carried, StoreReplaced(box.store_id, "quick_check: page 7"))
    return after


def test_a_trip_that_outlives_the_boxs_database_is_one_trip_and_a_person_is_told(cloud: Cloud, box: Box) -> None:
    send(cloud, box, box.batch(1, 3))  # begun, and a piece of its route
    again = replaced(box, TRACK, ENDED)
    send(cloud, again, again.batch(1, 2))
    assert count(cloud, "trips") == 2, "until it is told whose place the new store took"
    again.write(RENTAL)
    send(cloud, again, again.batch(3, 4))
    with cloud.store.read() as db:
        [trip], [rental], [alarm] = views.trips(db, None), views.rentals(db, None), views.alarms(db)
        assert len(views.track(db, "ami-1", 1).points) == 2
    assert (trip.started_s, trip.ended_s) == (box.rows[1].at.wall_s, again.rows[1].at.wall_s)
    assert (rental.started_s, rental.reason) == (box.rows[1].at.wall_s, "at_dropoff")
    assert (alarm.kind, "quick_check: page 7" in alarm.detail) == ("store_replaced", True)


def test_rows_that_come_again_under_a_new_store_double_nothing(cloud: Cloud, box: Box) -> None:
    send(cloud, box, box.batch(1, 5))
    again = replaced(box, *WHOLE_RENTAL)
    send(cloud, again, again.batch(1, 6))
    third = replaced(again, *WHOLE_RENTAL)
    send(cloud, third, third.batch(6, 6))  # the others on their way got lost, and come when asked for
    send(cloud, third, third.batch(1, 5))
    with cloud.store.read() as db:
        assert {alarm.kind for alarm in views.alarms(db)} == {"store_replaced"}
    late = Box(box.given, box.key_set, again.store_id, [*again.rows])
    late.write(*WHOLE_RENTAL[3:])
    send(cloud, late, late.batch(7, 8))  # of the store in between, on the way for long
    with cloud.store.read() as db:
        assert len(views.trips(db, None)) == len(views.rentals(db, None)) == 1
        assert [alarm.kind for alarm in views.alarms(db)].count("store_replaced") == 2


def test_two_ends_of_one_trip_in_two_stores_are_an_alarm(cloud: Cloud, box: Box) -> None:
    send(cloud, box, box.batch(1, 5))
    again = replaced(box, Booted("0.1", 0), ENDED)
    send(cloud, again, again.batch(1, 3))
    with cloud.store.read() as db:
        [alarm], [trip] = views.alarms(db), views.trips(db, None)
    assert "trip 1" in alarm.detail
    assert trip.ended_s == box.rows[3].at.wall_s


def test_the_same_number_with_another_digest_is_an_alarm_and_never_an_overwrite(cloud: Cloud, box: Box) -> None:
    send(cloud, box, box.batch(1, 4))
    held = stored(cloud)
    twin = Box(box.given, box.key_set, box.store_id)
    twin.write(*WHOLE_RENTAL[:3], Parked("elsewhere", None, None), RENTAL)
    assert send(cloud, box, twin.batch(4, 5)) == []
    assert stored(cloud) == held
    assert cloud.ingest.refused["log_forked"] == 1
    with cloud.store.read() as db:
        [alarm] = views.alarms(db)
        assert db.scalar(select(tables.events.c.digest).where(tables.events.c.seq == 4)) == box.rows[3].digest
    assert (alarm.kind, alarm.seq) == ("log_forked", 4)
    send(cloud, box, twin.batch(4, 5))
    assert count(cloud, "alarms") == 1


def test_a_row_that_does_not_follow_the_held_one_is_an_alarm_and_is_not_acknowledged(cloud: Cloud, box: Box) -> None:
    send(cloud, box, box.batch(1, 4))
    twin = Box(box.given, box.key_set, box.store_id)
    twin.write(*WHOLE_RENTAL[:3], Parked("elsewhere", None, None), RENTAL)
    assert send(cloud, box, twin.batch(5, 5)) == []
    assert count(cloud, "events") == 4
    assert count(cloud, "alarms") == 1


def test_a_row_that_the_held_one_does_not_follow_is_an_alarm_too(cloud: Cloud, box: Box) -> None:
    twin = Box(box.given, box.key_set, box.store_id)
    twin.write(*WHOLE_RENTAL[:3], Parked("elsewhere", None, None), RENTAL)
    send(cloud, box, box.batch(5, 5))
    assert acked(box, send(cloud, box, twin.batch(1, 4))) == []
    assert count(cloud, "events") == 1


def test_a_row_dropped_on_the_box_for_room_keeps_its_place_in_the_chain(cloud: Cloud, box: Box) -> None:
    box.drop(3)
    assert acked(box, send(cloud, box, box.batch(1, 5))) == [(5, box.rows[4].digest)]
    with cloud.store.read() as db:
        rows = views.timeline(db, 0, None, 100, newest=False)
    assert [row.kind for row in rows] == ["booted", "trip_start", "dropped", "trip_end", "rental_end"]
    assert rows[2].fields == {}


def test_a_record_that_only_a_newer_version_can_read_is_kept_as_it_is(cloud: Cloud, box: Box) -> None:
    newer = cbor.dumps([999, {1: "from a newer box"}])
    box.write_payload(newer)
    box.write_payload(b"no cbor at all")
    assert acked(box, send(cloud, box, box.batch(1, 7))) == [(7, box.rows[6].digest)]
    with cloud.store.read() as db:
        kept = db.execute(select(tables.events.c.kind, tables.events.c.payload).where(tables.events.c.seq > 5)).all()
    assert [tuple(row) for row in kept] == [("unknown", newer), ("unknown", b"no cbor at all")]


def test_a_new_store_of_the_same_car_begins_a_log_of_its_own(cloud: Cloud, box: Box) -> None:
    send(cloud, box, box.batch(1, 5))
    fresh = Box(box.given, box.key_set)
    fresh.write(*WHOLE_RENTAL)
    assert acked(fresh, send(cloud, fresh, fresh.batch(1, 5))) == [(5, fresh.rows[4].digest)]
    assert count(cloud, "trips") == 2


def test_an_end_that_comes_before_its_start_makes_one_trip(cloud: Cloud, box: Box) -> None:
    send(cloud, box, box.batch(4, 5))
    send(cloud, box, box.batch(1, 3))
    with cloud.store.read() as db:
        [trip] = views.trips(db, "ami-1")
    assert (trip.distance_m, trip.from_station, trip.soc_start_pct) == (12300, "bazouges", 80.0)


def test_a_second_end_of_the_same_trip_is_an_alarm_and_the_first_counts(cloud: Cloud, box: Box) -> None:
    box.write(replace(ENDED, distance_m=1), replace(RENTAL, billable_s=1))
    assert acked(box, send(cloud, box, box.batch(1, 7))) == [(7, box.rows[6].digest)]
    with cloud.store.read() as db:
        assert views.trips(db, "ami-1")[0].distance_m == 12300
        assert views.rentals(db, "ami-1")[0].billable_s == 401
        assert {alarm.kind for alarm in views.alarms(db)} == {"contradiction"}


def test_without_a_commit_there_is_no_acknowledgement_and_nothing_of_the_batch(cloud: Cloud, box: Box) -> None:
    with cloud.store.write() as db:
        db.execute(text("CREATE TRIGGER full BEFORE INSERT ON rentals BEGIN SELECT RAISE(ABORT, 'disk full'); END"))
    with pytest.raises(SQLAlchemyError):
        send(cloud, box, box.batch(1, 5))
    assert not any(stored(cloud).values())
    with cloud.store.write() as db:
        db.execute(text("DROP TRIGGER full"))
    assert acked(box, send(cloud, box, box.batch(1, 5))) == [(5, box.rows[4].digest)]


def _flipped(document: bytes) -> bytes:
    middle = len(document) // 2
    return document[:middle] + bytes([document[middle] ^ 1]) + document[middle + 1 :]


def _older_version(document: bytes) -> bytes:
    """Set the major version in the protected header to 0: a sender of another age."""
    return document.replace(
        cbor.dumps([int(DocumentType.EVENT_BATCH), 1]), cbor.dumps([DocumentType.EVENT_BATCH, 0]), 1
    )


def _wrong_key(box: Box) -> bytes:
    batch = EventBatch("ami-1", box.store_id, 1, bytes(32), tuple(box.rows))
    return encode_event_batch(batch, BoxSigner.generate(), box.key_set.sealing_public)


def _wrong_seal(box: Box) -> bytes:
    batch = EventBatch("ami-1", box.store_id, 1, bytes(32), tuple(box.rows))
    return encode_event_batch(batch, box.given.signing, box.given.agreement.public)


def test_bad_payloads_are_counted_by_reason_and_leave_no_trace(cloud: Cloud, box: Box) -> None:
    other = cloud.add("ami-2")
    good = box.batch(1, 5)
    unsealed = box.status()
    cases: list[tuple[str, bytes, str]] = [
        (box.topic(Topic.BATCH), good[: len(good) // 2], Reason.NOT_CBOR.word),
        (box.topic(Topic.BATCH), good + b"\0", Reason.NOT_CBOR.word),
        (box.topic(Topic.BATCH), b"", Reason.NOT_CBOR.word),
        (box.topic(Topic.BATCH), good + bytes(MAX_PAYLOAD_BYTES), Reason.TOO_LARGE.word),
        (box.topic(Topic.BATCH), _flipped(good), Reason.BAD_SEAL.word),
        (box.topic(Topic.BATCH), _older_version(good), Reason.UNKNOWN_VERSION.word),
        (other.topic(Topic.BATCH), good, Reason.BAD_SEAL.word),
        (other.topic(Topic.STATUS), unsealed, Reason.UNKNOWN_KEY_ID.word),
        (box.topic(Topic.BATCH), _wrong_key(box), Reason.UNKNOWN_KEY_ID.word),
        (box.topic(Topic.BATCH), _wrong_seal(box), Reason.OTHER_RECIPIENT.word),
        (box.topic(Topic.BATCH), unsealed, Reason.NOT_SEALED.word),
        (box.topic(Topic.STATUS), good, Reason.BAD_ENVELOPE.word),
        (box.topic(Topic.STATUS), box.status(vehicle="ami-2"), Reason.WRONG_VEHICLE.word),
        (box.topic(Topic.ACK), good, Reason.BAD_TOPIC.word),
        ("amibox/v1/ami-1/up/batch/more", good, Reason.BAD_TOPIC.word),
        ("amibox/v1/../up/batch", good, Reason.BAD_TOPIC.word),
        (build_topic("ami-9", Topic.BATCH), good, "unknown_vehicle"),
    ]
    for topic, payload, reason in cases:
        before = cloud.ingest.refused[reason]
        assert cloud.ingest.handle(topic, payload, NOW_S) == [], (topic, reason)
        assert cloud.ingest.refused[reason] == before + 1, (topic, reason, cloud.ingest.refused)
    assert not any(stored(cloud).values())
    assert not count(cloud, "alarms")
    assert acked(box, send(cloud, box, good)) == [(5, box.rows[4].digest)]


@pytest.mark.parametrize("channel", [Topic.BATCH, Topic.STATUS])
def test_no_flipped_bit_gets_through(cloud: Cloud, box: Box, channel: Topic) -> None:
    good = box.batch(1, 5) if channel is Topic.BATCH else box.status()
    chosen = random.Random(1).sample(range(8 * len(good)), 200)  # noqa: S311  (a repeatable choice, no secret)
    for bit in chosen:
        bad = bytearray(good)
        bad[bit // 8] ^= 1 << bit % 8
        assert send(cloud, box, bytes(bad), channel) == [], bit
    assert sum(cloud.ingest.refused.values()) == len(chosen)
    assert not any(stored(cloud).values())


def test_only_the_newest_status_of_the_present_boot_counts(cloud: Cloud, box: Box) -> None:
    second_boot = b"epoch--2"
    old, new = box.status(soc_pct=10.0), box.status(soc_pct=20.0)
    send(cloud, box, new, Topic.STATUS)
    send(cloud, box, old, Topic.STATUS)
    send(cloud, box, new, Topic.STATUS)
    assert cloud.ingest.refused["stale_status"] == 2
    send(cloud, box, box.status(boot_epoch=second_boot, soc_pct=30.0), Topic.STATUS)
    send(cloud, box, box.status(boot_epoch=EPOCH, soc_pct=40.0), Topic.STATUS)
    with cloud.store.read() as db:
        assert views.vehicles(db)[0].soc_pct == 30.0
    assert cloud.ingest.refused["stale_status"] == 3


def test_a_last_will_takes_only_its_own_boot_offline(cloud: Cloud, box: Box) -> None:
    def online() -> bool:
        with cloud.store.read() as db:
            return views.vehicles(db)[0].online

    send(cloud, box, box.status(), Topic.STATUS)
    send(cloud, box, encode_offline(Offline("ami-1", b"epoch--0"), box.given.signing), Topic.STATUS)
    assert online()
    send(cloud, box, encode_offline(Offline("ami-1", EPOCH), box.given.signing), Topic.STATUS)
    assert not online()
    send(cloud, box, box.status(), Topic.STATUS)
    assert online()


def test_a_status_with_a_nonce_is_answered_with_the_signed_time(cloud: Cloud, box: Box) -> None:
    messages = send(cloud, box, box.status(time_nonce=b"nonce-of-16-byte"), Topic.STATUS)
    [proof] = [message for message in messages if message.topic == box.topic(Topic.TIME)]
    assert not proof.retain
    assert decode_time_proof(proof.payload, box.key_set, "ami-1").time_s == NOW_S
    assert decode_time_proof(proof.payload, box.key_set, "ami-1").nonce == b"nonce-of-16-byte"


def test_a_box_that_holds_another_list_or_an_older_key_set_is_sent_ours(cloud: Cloud, box: Box) -> None:
    version = lists.current(cloud.store, cloud.authority, cloud.store.boxes()[0], NOW_S).version
    behind = send(cloud, box, box.status(list_version=version - 1, key_set_version=1), Topic.STATUS)
    assert [(message.topic, message.retain) for message in behind] == [
        (box.topic(Topic.KEYS), True),
        (box.topic(Topic.LIST), True),
    ]
    assert send(cloud, box, box.status(list_version=version), Topic.STATUS) == []


def test_every_car_finds_its_keys_and_its_own_list_retained_after_a_connection(cloud: Cloud, box: Box) -> None:
    other = cloud.add("ami-2")
    messages = {message.topic: message for message in cloud.ingest.greeting(NOW_S)}
    assert len(messages) == 4
    assert all(message.retain for message in messages.values())
    for each in (box, other):
        document = messages[each.topic(Topic.LIST)].payload
        name = each.given.vehicle
        assert decode_reservation_list(document, each.key_set, each.given.agreement, name).vehicle == name


def test_a_timeline_names_and_places_nobody(cloud: Cloud, box: Box) -> None:
    box.write(Parked("hede", 48.4, -1.5))
    send(cloud, box, box.batch(1, 6))
    with cloud.store.read() as db:
        said = [event.model_dump_json() for event in views.timeline(db, 0, None, 100, newest=True)]
    for private in (STARTED.driver.hex(), '"credential"', '"latitude"', str(TRACK.points[0][1])):
        assert not any(private in line for line in said), private


def test_a_database_of_a_newer_version_is_left_alone(cloud: Cloud, tmp_path: Path) -> None:
    with cloud.store.write() as db:
        db.execute(tables.meta.update().values(value="99"))
    with pytest.raises(StoreError, match="schema 99"):
        Store(sqlite_url(tmp_path / "cloud" / "data" / "cloud.sqlite3"))
