"""The mail room: documents in and out, with real keys, real signatures and a store that only answers."""

from __future__ import annotations

import asyncio
from dataclasses import replace

import pytest

from cloud_sync import documents as d
from cloud_sync.wire import Topic
from onboard.core.clock import Anchor, ClockQuality, Instant
from onboard.core.events import (
    AccessRequested,
    AckReceived,
    Event,
    Intent,
    ListReceived,
    Reading,
    RemoteCredential,
    ResendRequested,
    Signal,
    TimeHeard,
)
from onboard.core.records import AccessDenied, Track
from onboard.mail import Identity, Mail
from tests.core_kit import HEDE, Kit
from tests.document_rig import (
    BOX,
    BOX_V,
    CAR,
    CLOUD,
    CLOUD_C,
    EPOCH,
    KEYS,
    LIST,
    ROOT,
    ROOTS,
    STORE,
    STRANGER,
    T0,
)

AT = Instant(5.0, float(T0), ClockQuality.GNSS)


class Shelf:
    """Rows, digests, key sets."""

    def __init__(self, payloads: list[bytes]) -> None:
        self.stored: list[d.Row] = []
        before = d.GENESIS
        for seq, payload in enumerate(payloads, 1):
            before = d.chain_digest(before, seq, EPOCH, AT, payload)
            self.stored.append(d.Row(seq, EPOCH, AT, payload, before))
        self.kept_keys: list[int] = []
        self.dropped = 0

    async def rows(self, from_seq: int, to_seq: int) -> list[d.Row]:
        return [row for row in self.stored if from_seq <= row.seq <= to_seq]

    async def digest(self, seq: int) -> bytes | None:
        if seq == 0:
            return d.GENESIS
        return next((row.digest for row in self.stored if row.seq == seq), None)

    async def oldest(self) -> int:
        return self.dropped + 1

    async def keep_keys(self, version: int, document: bytes) -> None:
        assert document
        self.kept_keys.append(version)


class Still:
    """A clock that a test moves."""

    def __init__(self) -> None:
        self.boot_s = 100.0

    def now(self) -> Instant:
        return Instant(self.boot_s, 0.0, ClockQuality.UNSET)


class Room:
    """One mail room with everything round it."""

    def __init__(self, payloads: list[bytes] | None = None, *, keys: bool = True) -> None:
        self.shelf, self.clock = Shelf(payloads or [d.encode_record(AccessDenied("unknown", "card"))] * 3), Still()
        self.events: list[Event] = []
        self.sent: list[tuple[Topic, bytes]] = []
        me = Identity(CAR, BOX_V, BOX, ROOTS)
        self.mail = Mail(me, self.shelf, STORE, self.clock, self.events.append, self._take)
        if keys:
            self.get(Topic.KEYS, d.encode_key_set(KEYS, ROOT))

    def _take(self, topic: Topic, payload: bytes) -> bool:
        self.sent.append((topic, payload))
        return True

    def get(self, topic: Topic, payload: bytes) -> None:
        asyncio.run(self.mail.receive(topic, payload))


def test_a_list_becomes_an_event_once_its_seal_and_signature_hold() -> None:
    room = Room()
    room.get(Topic.LIST, d.encode_reservation_list(LIST, CLOUD, BOX_V.public))
    assert room.events == [ListReceived(LIST)]


def test_nothing_is_believed_before_a_key_set() -> None:
    room = Room(keys=False)
    room.get(Topic.LIST, d.encode_reservation_list(LIST, CLOUD, BOX_V.public))
    assert room.events == []
    assert room.mail.counts == {"list:unknown_key_id": 1}


def test_a_key_set_is_kept_and_an_older_one_refused() -> None:
    room = Room()
    assert room.shelf.kept_keys == [KEYS.version]
    room.get(Topic.KEYS, d.encode_key_set(replace(KEYS, version=KEYS.version - 1), ROOT))
    assert room.mail.counts["keys:version_too_low"] == 1
    room.get(Topic.KEYS, d.encode_key_set(replace(KEYS, version=KEYS.version + 1), STRANGER))
    assert room.mail.key_set == KEYS


def test_a_key_set_below_the_floor_outside_the_database_is_refused() -> None:
    room = Room(keys=False)
    room.mail.load_key_set(None, KEYS.version + 1)
    room.get(Topic.KEYS, d.encode_key_set(KEYS, ROOT))
    assert room.mail.key_set is None


def test_a_kept_key_set_is_verified_again() -> None:
    room = Room(keys=False)
    document = bytearray(d.encode_key_set(KEYS, ROOT))
    document[-1] ^= 1
    room.mail.load_key_set(bytes(document), 0)
    assert room.mail.key_set is None
    room.mail.load_key_set(d.encode_key_set(KEYS, ROOT), 0)
    assert room.mail.key_set == KEYS


@pytest.mark.parametrize("right", [True, False])
def test_an_acknowledgement_counts_only_with_our_own_digest(right: bool) -> None:
    room = Room()
    digest = room.shelf.stored[1].digest if right else bytes(32)
    room.get(Topic.ACK, d.encode_ack(d.Ack(CAR, STORE, 2, digest), CLOUD))
    assert room.events == ([AckReceived(STORE, 2)] if right else [])
    assert room.mail.counts["ack:digest_differs"] == int(not right)


@pytest.mark.parametrize("gone", [0, 1])
def test_rows_that_are_gone_are_not_promised_and_the_oldest_batch_says_so(gone: int) -> None:
    room = Room()
    room.shelf.dropped = gone
    room.get(Topic.RESEND, d.encode_resend(d.Resend(CAR, STORE, 1), CLOUD))
    assert room.events == [ResendRequested(STORE, gone + 1)]
    for first in (gone + 1, gone + 2):
        sealed = asyncio.run(room.mail.batch(first, first))
        assert sealed is not None
        batch = d.decode_event_batch(sealed[0], CLOUD_C, BOX.public, CAR)
        assert (batch.from_seq, batch.oldest) == (first, gone > 0 and first == gone + 1)


def test_a_resend_and_a_command_become_events() -> None:
    room = Room()
    room.get(Topic.RESEND, d.encode_resend(d.Resend(CAR, STORE, 2), CLOUD))
    command = d.Command(CAR, b"c" * 16, EPOCH, 3, 130.0, Intent.UNLOCK, b"s" * 16)
    room.get(Topic.COMMAND, d.encode_command(command, CLOUD))
    who = RemoteCredential(b"s" * 16, b"c" * 16, EPOCH, 3, 130.0)
    assert room.events == [ResendRequested(STORE, 2), AccessRequested(who, Intent.UNLOCK)]


@pytest.mark.parametrize("topic", [t for t in Topic if not t.upward])
@pytest.mark.parametrize("payload", [b"", b"\xff" * 40, bytes(70_000)], ids=["empty", "garbage", "oversized"])
def test_bad_bytes_are_counted_and_change_nothing(topic: Topic, payload: bytes) -> None:
    room = Room()
    room.get(topic, payload)
    assert room.events == []
    assert room.mail.key_set == KEYS
    assert sum(room.mail.counts.values()) == 1


def test_another_cars_list_and_a_strangers_signature_are_refused() -> None:
    room = Room()
    room.get(Topic.LIST, d.encode_reservation_list(replace(LIST, vehicle="hede-2"), CLOUD, BOX_V.public))
    room.get(Topic.LIST, d.encode_reservation_list(LIST, STRANGER, BOX_V.public))
    assert room.events == []
    assert sum(room.mail.counts.values()) == 2


def test_a_batch_can_be_read_by_the_cloud_and_by_nobody_else() -> None:
    room = Room()
    asyncio.run(room.mail.send_batch(2, 3))
    ((topic, document),) = room.sent
    assert topic is Topic.BATCH
    batch = d.decode_event_batch(document, CLOUD_C, BOX.public, CAR)
    assert [row.seq for row in batch.rows] == [2, 3]
    assert batch.prev_digest == room.shelf.stored[0].digest
    with pytest.raises(d.Refused):
        d.decode_event_batch(document, BOX_V, BOX.public, CAR)


def test_rows_that_do_not_fit_one_document_go_in_more() -> None:
    wide = d.encode_record(Track(1, 1, tuple((i, 4_829_000 + i * 37, -180_110 - i * 41) for i in range(64))))
    room = Room([wide] * 250)
    asyncio.run(room.mail.send_batch(1, 250))
    batches = [d.decode_event_batch(document, CLOUD_C, BOX.public, CAR) for _, document in room.sent]
    assert len(batches) > 1
    assert [row.seq for batch in batches for row in batch.rows] == list(range(1, 251))


def test_without_a_key_set_no_batch_leaves_the_box() -> None:
    room = Room(keys=False)
    asyncio.run(room.mail.send_batch(1, 3))
    assert room.sent == []


def test_a_time_proof_counts_once_within_its_life_and_bounds_the_true_time() -> None:
    room = Room()
    kit = Kit()
    status = room.mail.status(replace(kit.state, at=room.clock.now()))
    assert status.time_nonce is not None
    proof = d.encode_time_proof(d.TimeProof(CAR, status.time_nonce, T0), CLOUD)
    room.clock.boot_s += 7.0
    room.get(Topic.TIME, proof)
    assert room.events == [TimeHeard(Anchor(107.0, float(T0), T0 + 7.0, ClockQuality.AUTHENTICATED))]
    room.get(Topic.TIME, proof)
    assert room.mail.counts == {"time:expired": 1}


def test_a_box_that_knows_the_time_asks_for_it_once_the_commune_was_silent_for_an_hour() -> None:
    room, now_s = Room(), 5000.0
    state = replace(
        Kit().state, at=Instant(now_s, 0.0, ClockQuality.UNSET), anchor=Anchor(now_s, T0, T0, ClockQuality.GNSS)
    )
    for silent_s, asks in ((3599.0, False), (3600.0, True)):
        heard = replace(state, sending=replace(state.sending, heard_at_s=now_s - silent_s))
        assert (room.mail.status(heard).time_nonce is not None) is asks


def test_a_time_proof_for_an_old_or_foreign_nonce_is_refused() -> None:
    room = Room()
    status = room.mail.status(replace(Kit().state, at=room.clock.now()))
    assert status.time_nonce is not None
    room.clock.boot_s += 91.0
    room.get(Topic.TIME, d.encode_time_proof(d.TimeProof(CAR, status.time_nonce, T0), CLOUD))
    room.get(Topic.TIME, d.encode_time_proof(d.TimeProof(CAR, b"x" * 16, T0), CLOUD))
    assert room.events == []
    assert room.mail.counts == {"time:expired": 2}


def test_an_old_proof_that_anybody_may_play_closes_nobodys_question() -> None:
    room = Room()
    status = room.mail.status(replace(Kit().state, at=room.clock.now()))
    assert status.time_nonce is not None
    room.get(Topic.TIME, d.encode_time_proof(d.TimeProof(CAR, b"x" * 16, T0), CLOUD))
    room.get(Topic.TIME, d.encode_time_proof(d.TimeProof(CAR, status.time_nonce, T0), CLOUD))
    assert [type(event).__name__ for event in room.events] == ["TimeHeard"]


def test_a_question_of_the_time_has_a_minute_for_its_answer_whenever_it_was_asked() -> None:
    room = Room()

    async def ask() -> bytes:
        return await room.mail.time_nonce()

    first = asyncio.run(ask())
    room.clock.boot_s += 29.0
    assert asyncio.run(ask()) == first
    room.clock.boot_s += 2.0
    second = asyncio.run(ask())
    assert second != first, "another phone's"
    room.clock.boot_s += 58.0
    for nonce in (first, second):
        room.get(Topic.TIME, d.encode_time_proof(d.TimeProof(CAR, nonce, T0), CLOUD))
    assert [type(event).__name__ for event in room.events] == ["TimeHeard"] * 2


def test_a_time_proof_for_a_nonce_that_was_never_ours_is_refused() -> None:
    room = Room()
    assert room.mail.status(replace(Kit().state, at=room.clock.now())).time_nonce is not None
    room.get(Topic.TIME, d.encode_time_proof(d.TimeProof(CAR, b"somebody else's!", T0), CLOUD))
    assert room.events == []
    assert room.mail.counts == {"time:expired": 1}


def test_a_status_says_where_the_car_is_parked_and_never_where_it_is_driven() -> None:
    room = Room()
    kit = Kit().ready()
    assert room.mail.status(kit.state).parked_at == (48.279, -1.84)
    kit.begin()
    kit.travel()
    assert room.mail.status(kit.state).parked_at is None
    assert room.mail.status(kit.state).state == "on_trip"
    kit.end()
    assert room.mail.status(kit.state).parked_at == (HEDE.latitude, HEDE.longitude)


def test_a_status_is_signed_and_numbered() -> None:
    room = Room()
    kit = Kit().ready()
    outbox = replace(kit.state.kept.outbox, store_id=STORE)
    state = replace(kit.state, kept=replace(kit.state.kept, outbox=outbox))
    for number in (1, 2):
        asyncio.run(room.mail.send_status(state))
        status = d.decode_status(room.sent[-1][1], BOX.public, CAR)
        assert (status.status_seq, status.vehicle) == (number, CAR)


def test_a_daemon_that_starts_again_in_the_same_boot_numbers_its_statuses_higher() -> None:
    kit = Kit().ready()
    before = Room().mail
    said = [before.status(kit.state).status_seq for _ in range(50)]
    kit.wait(3.0)
    kit.clock()
    after = Room().mail.status(kit.state)
    assert after.boot_epoch == kit.state.boot_epoch
    assert after.status_seq > max(said)


def test_a_value_that_no_status_can_hold_is_counted_and_does_not_end_the_box() -> None:
    room = Room()
    vehicle = replace(Kit().state.vehicle, readings={Signal.SOC: Reading(400.0, 1.0, 5.0)})
    asyncio.run(room.mail.send_status(replace(Kit().state, vehicle=vehicle)))
    assert not room.sent
    assert room.mail.counts["status:bad_schema"] == 1
