"""What the tests of the way to the cloud share: a box that writes and signs, and a broker made of a bare socket."""

from __future__ import annotations

import os
import socket
import threading
import time
from collections.abc import Callable
from dataclasses import dataclass, field, replace
from pathlib import Path
from queue import Empty, Queue

from cloud_sync.documents import (
    GENESIS,
    EventBatch,
    KeySet,
    Row,
    Status,
    chain_digest,
    decode_key_set,
    encode_event_batch,
    encode_record,
    encode_status,
)
from cloud_sync.endpoint.authority import Authority, initialise
from cloud_sync.endpoint.ingest import Ingest
from cloud_sync.endpoint.store import Store, sqlite_url
from cloud_sync.provisioning import Provisioning
from cloud_sync.wire import Topic, build_topic
from onboard.core.clock import ClockQuality, Instant
from onboard.core.records import (
    Booted,
    DistanceSource,
    Recordable,
    RentalEnded,
    RentalEndReason,
    RentalKind,
    Track,
    TripEnded,
    TripEndReason,
    TripStarted,
)
from sim import boxes

NOW_S = 1_800_000_000
EPOCH = b"epoch--1"
RESERVATION = b"reservation-id-1"
DRIVER = b"driver-1"

STARTED = TripStarted(1, 1, RentalKind.BOOKING, RESERVATION, DRIVER, "card", 2, True, 1000, 80.0, "bazouges")
TRACK = Track(1, 1, ((0, 4_842_000, -157_000), (60, 4_842_500, -156_500)))
ENDED = TripEnded(1, 1, TripEndReason.LOCKED, 401, 12300, DistanceSource.ODOMETER, 100, 12200, 13300, 60.0, "hede", ())
RENTAL = RentalEnded(
    1, RentalKind.BOOKING, RESERVATION, DRIVER, RentalEndReason.AT_DROPOFF, 401, "boot", 1, 12300, "hede"
)
WHOLE_RENTAL: tuple[Recordable, ...] = (Booted("0.1", 0), STARTED, TRACK, ENDED, RENTAL)


@dataclass
class Box:
    """A box with its keys, its log and its counters."""

    given: Provisioning
    key_set: KeySet
    store_id: bytes = field(default_factory=lambda: os.urandom(16))
    rows: list[Row] = field(default_factory=list)
    statuses: int = 0

    def write(self, *records: Recordable) -> None:
        for record in records:
            self.write_payload(encode_record(record))

    def write_payload(self, payload: bytes) -> None:
        seq = len(self.rows) + 1
        at = Instant(100.0 + seq, NOW_S - 1000.0 + seq, ClockQuality.GNSS)
        previous = self.rows[-1].digest if self.rows else GENESIS
        self.rows.append(Row(seq, EPOCH, at, payload, chain_digest(previous, seq, EPOCH, at, payload)))

    def drop(self, seq: int) -> None:
        """Do as the store does when it needs room: the payload goes, the digest stays."""
        self.rows[seq - 1] = replace(self.rows[seq - 1], payload=b"")

    def batch(self, first: int, last: int, *, oldest: bool = False) -> bytes:
        before = self.rows[first - 2].digest if first > 1 else GENESIS
        rows = tuple(self.rows[first - 1 : last])
        batch = EventBatch(self.given.vehicle, self.store_id, first, before, rows, oldest)
        return encode_event_batch(batch, self.given.signing, self.key_set.sealing_public)

    def status(self, **changes: object) -> bytes:
        self.statuses += 1
        status = Status(
            vehicle=self.given.vehicle,
            status_seq=self.statuses,
            boot_epoch=EPOCH,
            boot_s=500.0,
            list_version=0,
            key_set_version=self.key_set.version,
            software="0.1",
            store_id=self.store_id,
            up_to_seq=len(self.rows),
            clock_quality=ClockQuality.GNSS,
            state="available",
            since_s=float(NOW_S),
        )
        return encode_status(replace(status, **changes), self.given.signing)  # type: ignore[arg-type]  # a test's words

    def topic(self, channel: Topic) -> str:
        return build_topic(self.given.vehicle, channel)


@dataclass
class Cloud:
    """An endpoint without a broker: what would be sent is what ``ingest.handle`` returns."""

    folder: Path
    store: Store
    authority: Authority
    ingest: Ingest

    def add(self, vehicle: str) -> Box:
        box, given = boxes.give(self.authority, vehicle, self.folder / "boxes" / vehicle, NOW_S)
        self.store.add_box(box, NOW_S)
        return Box(given, decode_key_set(given.key_set, given.roots))


def make_cloud(folder: Path) -> Cloud:
    initialise(folder, NOW_S - 86_400)
    authority = Authority(folder)
    store = Store(sqlite_url(folder / "data" / "cloud.sqlite3"))
    return Cloud(folder, store, authority, Ingest(store, authority))


def free_port() -> int:
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return int(probe.getsockname()[1])


def wait_for(what: Callable[[], object], limit_s: float = 20.0) -> None:
    """Wait until ``what()`` is true; fail by name after ``limit_s``, which only a broken program reaches."""
    until_s = time.monotonic() + limit_s
    while not what():
        assert time.monotonic() < until_s, f"never came true: {what}"
        time.sleep(0.01)


class BareBroker:
    """Speaks just enough MQTT 3.1.1 to be told what to do: each packet of a client lands in ``packets``."""

    def __init__(self, *, answer: bool = True, puback: bool = False) -> None:
        self._server = socket.create_server(("127.0.0.1", 0))
        self._server.settimeout(0.05)
        self.port = int(self._server.getsockname()[1])
        self.packets: Queue[tuple[int, int, bytes]] = Queue()
        """(connection number, first byte, body)"""
        self.connections = 0
        self._answer = answer
        self._puback = puback
        self._socket: socket.socket | None = None
        self._stop = threading.Event()
        self._thread = threading.Thread(target=self._run)
        self._thread.start()

    def send(self, data: bytes) -> None:
        assert self._socket is not None
        self._socket.sendall(data)

    def publish(self, topic: str, payload: bytes) -> None:
        body = len(topic).to_bytes(2, "big") + topic.encode() + payload
        self.send(b"\x30" + length(len(body)) + body)

    def drop(self) -> None:
        assert self._socket is not None
        self._socket.shutdown(socket.SHUT_RDWR)

    def take(self, kind: int) -> tuple[int, int, bytes]:
        """Return the next packet of a kind (upper four bits); fail if none comes."""
        while True:
            packet = self.packets.get(timeout=20)
            if packet[1] >> 4 == kind:
                return packet

    def left(self, kind: int) -> int:
        """Count the packets of a kind that nobody took."""
        found = 0
        while True:
            try:
                found += self.packets.get_nowait()[1] >> 4 == kind
            except Empty:
                return found

    def close(self) -> None:
        self._stop.set()
        self._thread.join()
        self._server.close()

    def _run(self) -> None:
        while not self._stop.is_set():
            try:
                connection, _ = self._server.accept()
            except TimeoutError:
                continue
            with connection:
                self.connections += 1
                self._socket = connection
                connection.settimeout(0.05)
                self._serve(connection)
                self._socket = None

    def _serve(self, connection: socket.socket) -> None:
        data = b""
        while not self._stop.is_set():
            try:
                more = connection.recv(65536)
            except TimeoutError:
                continue
            except OSError:
                return
            if not more:
                return
            data += more
            while (packet := split(data)) is not None:
                first, body, data = packet
                self.packets.put((self.connections, first, body))
                self._reply(first, body)

    def _reply(self, first: int, body: bytes) -> None:
        if not self._answer:
            return
        if first >> 4 == 1:
            self.send(b"\x20\x02\x00\x00")
        elif first >> 4 == 8:
            topics = body.count(b"amibox/")
            self.send(b"\x90" + length(2 + topics) + body[:2] + b"\x01" * topics)
        elif first >> 4 == 3 and self._puback:
            size = int.from_bytes(body[:2], "big")
            self.send(b"\x40\x02" + body[2 + size : 4 + size])


def length(value: int) -> bytes:
    """Encode an MQTT remaining length."""
    out = b""
    while True:
        value, low = divmod(value, 128)
        out += bytes([low | (0x80 if value else 0)])
        if not value:
            return out


def split(data: bytes) -> tuple[int, bytes, bytes] | None:
    """Take the first MQTT packet off ``data``: (first byte, body, rest), or None while it is incomplete."""
    size, shift = 0, 0
    for index in range(1, min(len(data), 5)):
        size |= (data[index] & 0x7F) << shift
        shift += 7
        if not data[index] & 0x80:
            end = index + 1 + size
            return (data[0], data[index + 1 : end], data[end:]) if len(data) >= end else None
    return None
