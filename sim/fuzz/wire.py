"""The broker's two ends: topics and payloads at the box, and at the commune's ingest with its database behind it."""

from __future__ import annotations

import json
from collections.abc import Coroutine, Iterator, Sequence
from contextlib import ExitStack, contextmanager
from pathlib import Path
from typing import Any, Final, TypeVar

from sqlalchemy import Connection

from cloud_sync.documents import (
    MAX_DOCUMENT_BYTES,
    EventBatch,
    Refused,
    Row,
    TimeProof,
    cbor,
    decode_event_batch,
    describe,
    encode_record,
    encode_time_proof,
)
from cloud_sync.documents.kinds import DocumentType
from cloud_sync.endpoint import views
from cloud_sync.endpoint.authority import Authority, initialise
from cloud_sync.endpoint.ingest import Ingest
from cloud_sync.endpoint.messages import Box
from cloud_sync.endpoint.store import Store, sqlite_url
from cloud_sync.wire import Topic, build_topic, check_payload, parse_topic
from onboard.core.events import Event
from onboard.mail import Identity, Mail
from sim import boxes
from sim.fuzz.bus import Clock
from sim.fuzz.door import Door, Harness, right
from sim.fuzz.feed import Feed, cbor_key, changed
from sim.fuzz.papers import KINDS, changed_payload
from sim.fuzz.world import (
    BOX,
    BOX_V,
    CAR,
    CLOUD,
    CLOUD_C,
    EPOCH,
    RECORDS,
    ROOTS,
    STORE_ID,
    T0,
    forged,
    honest,
    rows,
)

T = TypeVar("T")

STEPS_MAX: Final = 4
RAW, SIGNED, CHANGED, HONEST = range(4)
"""How a message's payload is made: the feed's bytes, or those signed, an honest document changed, or as it is."""
_TOPICS: Final = tuple(build_topic(CAR, topic) for topic in Topic)


def payload_of(feed: Feed) -> bytes:
    """Return one message's payload. ``Refused``: it fits no document."""
    how, kind = feed.below(4), feed.pick(KINDS)
    if how == RAW:
        return feed.some()
    if how == HONEST:
        return honest()[kind]
    return forged(kind, feed.some() if how == SIGNED else changed_payload(kind, feed))


def topic_of(feed: Feed) -> str | None:
    """Return one message's topic, as paho decodes it; None for one that it does not."""
    choice = feed.below(16)
    if choice < len(_TOPICS):
        return _TOPICS[choice]
    try:
        return feed.some().decode("utf-8")
    except UnicodeDecodeError:
        return None


class _Rows:
    """A store of a few rows, without waiting."""

    def __init__(self) -> None:
        self._rows = rows(tuple(map(encode_record, RECORDS)))
        self.kept = 0

    async def rows(self, from_seq: int, to_seq: int) -> list[Row]:
        return [row for row in self._rows if from_seq <= row.seq <= to_seq]

    async def digest(self, seq: int) -> bytes | None:
        return bytes(32) if seq == 0 else next((row.digest for row in self._rows if row.seq == seq), None)

    async def oldest(self) -> int:
        return 1

    async def keep_keys(self, version: int, document: bytes) -> None:
        right(version >= self.kept and document, "an older key set kept")
        self.kept = version


def _at_once(work: Coroutine[Any, Any, T]) -> T:
    """Run what waits for nothing."""
    try:
        work.send(None)
    except StopIteration as ended:
        value: T = ended.value
        return value
    raise AssertionError("waited for something")


def open_mqtt(_folder: Path, _ending: ExitStack) -> Harness:
    """A broker's messages at the box, as the uplink hands them on."""
    identity = Identity(CAR, BOX_V, BOX, ROOTS)

    def run(data: bytes) -> None:
        feed, events, store = Feed(data), list[Event](), _Rows()
        mail = Mail(identity, store, STORE_ID, Clock(), events.append, lambda *_: True)
        if feed.below(4):
            mail.load_key_set(honest()[DocumentType.KEY_SET], 3)
        for _ in range(STEPS_MAX):
            if not feed.left:
                return
            topic = topic_of(feed)
            try:
                payload = payload_of(feed)
                if feed.below(8) == 1:
                    proof = TimeProof(CAR, _at_once(mail.time_nonce()), float(T0))
                    topic, payload = _TOPICS[list(Topic).index(Topic.TIME)], encode_time_proof(proof, CLOUD)
                check_payload(payload)
                vehicle, channel = parse_topic(topic or "")
            except Refused:
                continue
            right(build_topic(vehicle, channel) == topic, "another topic than was heard")
            if vehicle != CAR or channel.upward:
                continue
            before = len(events)
            word = _at_once(mail.receive(channel, payload))
            right(not word or len(events) == before or word == "version_too_low", f"refused ({word}) and heard")
            _at_once(mail.deliver(payload))

    return run


class Undone(Store):
    """A store in one transaction that is undone at the end: every input finds the same, and nothing waits for a disk.

    A write within it is a savepoint: whole, or without a trace.
    """

    _db: Connection | None = None

    @contextmanager
    def one_input(self) -> Iterator[None]:
        """Do what one input does, and undo it."""
        with self._engine.connect() as db, db.begin() as all_of_it:
            self._db = db
            try:
                yield
            finally:
                self._db = None
                all_of_it.rollback()

    @contextmanager
    def write(self) -> Iterator[Connection]:
        """Do as ``Store``, within the input's transaction."""
        if self._db is None:
            with super().write() as db:
                yield db
            return
        with self._db.begin_nested():
            yield self._db

    @contextmanager
    def read(self) -> Iterator[Connection]:
        """Do as ``Store``, within the input's transaction."""
        if self._db is None:
            with super().read() as db:
                yield db
            return
        yield self._db


class OurAuthority(Authority):
    """The commune's keys; but what a box seals to it is opened with the key that every harness knows."""

    def open_batch(self, data: bytes, box: Box) -> EventBatch:
        """Do as ``Authority``."""
        return decode_event_batch(data, CLOUD_C, box.signing_public, box.vehicle)


def make_endpoint(folder: Path) -> tuple[Undone, OurAuthority]:
    """Found a commune with one car in a folder."""
    initialise(folder, T0 - 86_400)
    store, authority = Undone(sqlite_url(folder / "cloud.sqlite3")), OurAuthority(folder)
    boxes.give(authority, CAR, folder / "box", T0)  # its card key is what counts here
    store.add_box(Box(CAR, BOX.public, BOX_V.public), T0)
    return store, authority


def _batch(feed: Feed) -> bytes:
    """Return an honest batch whose rows hold changed records: the digests fit them."""
    payloads = []
    for _ in range(1 + feed.below(4)):
        body = cbor.loads(encode_record(feed.pick(RECORDS)))
        payloads.append(
            cbor.dumps(changed(body, feed, keys=cbor_key))[:4096] if feed.below(8) else feed.some() or b"\0"
        )
    chained = rows(tuple(payloads), first=1 + feed.below(6))
    values = {
        1: CAR,
        2: STORE_ID,
        3: chained[0].seq,
        4: bytes(32),
        5: [[EPOCH, row.at.boot_s, row.at.wall_s, int(row.at.quality), row.payload] for row in chained],
        6: chained[-1].digest,
    }
    return cbor.dumps(values)


def _look(store: Store) -> None:
    """Read as the town hall's page does: what was taken can be shown."""
    with store.read() as db:
        shown: list[Any] = [
            *views.vehicles(db),
            *views.trips(db, None, 100),
            *views.rentals(db, None, 100),
            *views.timeline(db, 0, None, 100, newest=False),
            *views.alarms(db),
            views.track(db, CAR, None),
        ]
    for each in shown:
        json.dumps(each.model_dump(mode="json"))


def open_ingest(folder: Path, ending: ExitStack) -> Harness:
    """The commune's ingest, down to the database, and what the page shows of it."""
    store, authority = make_endpoint(folder)
    ending.callback(store.close)

    def run(data: bytes) -> None:
        feed, ingest = Feed(data), Ingest(store, authority)
        with store.one_input():
            for step in range(STEPS_MAX):
                if not feed.left:
                    break
                topic = topic_of(feed)
                try:
                    own = feed.below(2)
                    payload = forged(DocumentType.EVENT_BATCH, _batch(feed)) if own else payload_of(feed)
                except Refused:
                    continue
                if topic is None or len(payload) > MAX_DOCUMENT_BYTES:
                    continue
                for message in ingest.take(topic, payload, T0 + 30.0 * step).messages:
                    right(parse_topic(message.topic)[0] == CAR, "an answer to another car")
                    describe(message.payload)
            _look(store)

    return run


def _seeds() -> Sequence[bytes]:
    index = {topic: number for number, topic in enumerate(Topic)}
    down = {0: Topic.KEYS, 1: Topic.LIST, 3: Topic.COMMAND, 4: Topic.ACK, 5: Topic.RESEND, 6: Topic.TIME}
    told = [bytes((1, index[topic], how, kind, 1, 2, 3)) for kind, topic in down.items() for how in (CHANGED, HONEST)]
    strange = bytes((1, 15, 12)) + b"amibox/v1/+/#" + bytes((RAW, 0, 4)) + b"abcd"
    return [*told, strange, bytes((0, 1, HONEST, 1))]


def _ingest_seeds() -> Sequence[bytes]:
    batches = [bytes((0, 1, 3)) + bytes((record, 0, 1)) * 4 + bytes((0,)) for record in range(len(RECORDS))]
    changes = [
        bytes((0, 1, 0, record, 1, place, how, 2, 1, 0)) for record in range(8) for place in range(4) for how in (1, 6)
    ]
    whole = bytes((0, 1, 3, 0, 0, 1, 1, 0, 1, 2, 0, 1, 4, 0, 1, 0))
    odd = [bytes((1, 0, CHANGED, 8, 1, place, 0, 5, 3, 2, 5)) for place in range(1, 22)]
    statuses = [bytes((1, 0, how, 8 + end, 1, 2, 3, 4)) for how in (CHANGED, HONEST) for end in (0, 1)]
    return [*batches, *changes, whole, *odd, *statuses, bytes((0, 0, HONEST, 7))]


DOORS: Final = (
    # Four messages.
    Door("mqtt", "topics and payloads at the box", open_mqtt, _seeds, worst_s=0.05),
    # Four messages into a database, and all of the page read.
    Door("ingest", "topics and payloads at the commune, with its database", open_ingest, _ingest_seeds, worst_s=0.25),
)
