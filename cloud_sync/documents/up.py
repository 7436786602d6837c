"""What a box tells the cloud: batches of its rows (sealed to the cloud's key C), its status, and its last will."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any, Final

from cloud_sync.documents import cbor, cose, schema
from cloud_sync.documents.health import Health, read_health, write_health
from cloud_sync.documents.keys import AgreementKey, BoxSigner
from cloud_sync.documents.kinds import DocumentType, Reason, Refused
from cloud_sync.documents.records import GENESIS, MAX_RECORD_BYTES, Row, chain_digest
from cloud_sync.documents.schema import Fields, filled
from cloud_sync.documents.signed import check_public, check_vehicle, make
from onboard.core.clock import ClockQuality, Instant
from onboard.core.events import Charging

MAX_ROWS: Final = 256
_MAX_FAULTS: Final = 32
_MAX_SOFTWARE_BYTES: Final = 64
_MAX_BOOT_S: Final = 1e10
_MAX_SEQ: Final = schema.MAX_COUNT


@dataclass(frozen=True, slots=True)
class EventBatch:
    """Rows of one store from ``from_seq`` on. ``prev_digest`` is that of the row before (``GENESIS`` before row 1).

    ``oldest``: the store has no row before these any more, so nobody need wait for one.
    """

    vehicle: str
    store_id: bytes
    from_seq: int
    prev_digest: bytes
    rows: tuple[Row, ...]
    oldest: bool = False


@dataclass(frozen=True, slots=True)
class Status:
    """How the car is now. ``None``: not known. ``status_seq`` rises within a ``boot_epoch``; an older one says nothing.

    ``state`` is the word of MDS 2.0 (``available reserved stopped on_trip non_operational``), held since Unix second
    ``since_s``. ``door``: ``locked``, ``unlocked``, ``open`` or ``unknown``. ``parked_at`` (degrees WGS 84) never in a
    rental. ``up_to_seq``: last row written in ``store_id``. ``time_nonce``: the box asks for a time proof.
    """

    vehicle: str
    status_seq: int
    boot_epoch: bytes
    boot_s: float
    list_version: int
    key_set_version: int
    software: str
    store_id: bytes
    up_to_seq: int
    clock_quality: ClockQuality
    state: str
    since_s: float
    charging: Charging = Charging.UNKNOWN
    door: str = "unknown"
    soc_pct: float | None = None
    range_m: int | None = None
    supply_v: float | None = None
    parked_at: tuple[float, float] | None = None
    faults: tuple[str, ...] = ()
    time_nonce: bytes | None = None
    health: Health | None = None


@dataclass(frozen=True, slots=True)
class Offline:
    """The last will: this boot of the car is no longer connected. Made at connect, published by the broker."""

    vehicle: str
    boot_epoch: bytes


def encode_event_batch(batch: EventBatch, signer: BoxSigner, cloud_public: bytes) -> bytes:
    """Sign a batch and seal it to the cloud's key C (33 bytes). Raises ``Refused``; ``TOO_LARGE``: send fewer rows."""
    if any(row.seq != batch.from_seq + index for index, row in enumerate(batch.rows)):
        raise Refused(Reason.BAD_CHAIN, "the rows do not follow one another")
    values = {
        1: batch.vehicle,
        2: batch.store_id,
        3: batch.from_seq,
        4: batch.prev_digest,
        5: [_write_row(row) for row in batch.rows],
        6: batch.rows[-1].digest if batch.rows else b"",
        **({7: True} if batch.oldest else {}),
    }
    inner = make(DocumentType.EVENT_BATCH, values, read_event_batch, signer)
    return cose.seal(DocumentType.EVENT_BATCH, batch.vehicle, inner, cloud_public)


def decode_event_batch(data: bytes, cloud: AgreementKey, box_public_signing: bytes, vehicle: str) -> EventBatch:
    """Open a batch and work out every row's digest, or raise ``Refused``.

    The rows' payloads stay shut: ``decode_record`` reads each, and one that it refuses is kept as it is.
    """
    signed = cose.open_document(data, DocumentType.EVENT_BATCH, vehicle, cloud)
    batch = read_event_batch(cbor.loads(signed.payload))
    check_public(signed, (box_public_signing,))
    check_vehicle(batch.vehicle, vehicle)
    return batch


def _write_row(row: Row) -> list[Any]:
    written: list[Any] = [row.boot_epoch, float(row.at.boot_s), float(row.at.wall_s), int(row.at.quality), row.payload]
    return written if row.payload else [*written, row.digest]


def read_event_batch(value: Any) -> EventBatch:
    """Check a batch's schema and rebuild its chain."""
    left = Fields(value, "batch")
    vehicle = left.need(1, "vehicle", schema.vehicle_id)
    store_id = left.need(2, "store_id", schema.octets, 16)
    from_seq = left.need(3, "from_seq", schema.uint, _MAX_SEQ - MAX_ROWS, 1)
    prev_digest = left.need(4, "prev_digest", schema.octets, 32)
    raw_rows = left.need(5, "rows", schema.items, MAX_ROWS, _read_row, 1)
    last_digest = left.need(6, "digest", schema.octets, 32)
    oldest = left.may(7, "oldest", _read_true) is not None
    left.done()
    if from_seq == 1 and prev_digest != GENESIS:
        raise Refused(Reason.BAD_CHAIN, "there is nothing before row 1")
    rows = []
    digest = prev_digest
    for seq, (boot_epoch, at, payload, kept) in enumerate(raw_rows, start=from_seq):
        digest = kept or chain_digest(digest, seq, boot_epoch, at, payload)
        rows.append(Row(seq, boot_epoch, at, payload, digest))
    if digest != last_digest:
        raise Refused(Reason.BAD_CHAIN, f"the digests up to row {rows[-1].seq} do not fit")
    return EventBatch(vehicle, store_id, from_seq, prev_digest, tuple(rows), oldest)


def _read_true(value: Any, where: str) -> bool:
    if not schema.flag(value, where):
        raise schema.bad(where, "true, or nothing, is wanted")
    return True


def _read_row(value: Any, where: str) -> tuple[bytes, Instant, bytes, bytes]:
    if type(value) is not list or len(value) not in (5, 6):
        raise schema.bad(where, "5 items, or 6 for a dropped row, are wanted")
    at = Instant(
        schema.number(value[1], f"{where}.boot_s", 0.0, _MAX_BOOT_S),
        schema.number(value[2], f"{where}.wall_s", 0.0, float(schema.MAX_TIME_S)),
        schema.code(value[3], f"{where}.quality", ClockQuality),
    )
    boot_epoch = schema.octets(value[0], f"{where}.boot_epoch", 8)
    payload = schema.short_octets(value[4], f"{where}.payload", 0, MAX_RECORD_BYTES)
    kept = schema.octets(value[5], f"{where}.digest", 32) if len(value) == 6 else b""
    if bool(payload) == bool(kept):
        raise schema.bad(where, "a payload, or the digest of a dropped one, is wanted")
    return boot_epoch, at, payload, kept


def encode_status(status: Status, signer: BoxSigner) -> bytes:
    """Sign a status; long texts are cut. Raises ``Refused`` for one that the cloud would refuse."""
    values = filled(
        {
            1: status.vehicle,
            2: status.status_seq,
            3: status.boot_epoch,
            4: float(status.boot_s),
            5: status.list_version,
            6: status.key_set_version,
            7: schema.cut(status.software, _MAX_SOFTWARE_BYTES),
            8: status.store_id,
            9: status.up_to_seq,
            10: int(status.clock_quality),
            11: status.state,
            12: float(status.since_s),
            13: status.charging.value,
            14: status.door,
            15: _float(status.soc_pct),
            16: status.range_m,
            17: _float(status.supply_v),
            18: None if status.parked_at is None else [float(degrees) for degrees in status.parked_at],
            19: [schema.cut(fault) for fault in status.faults[:_MAX_FAULTS]],
            20: status.time_nonce,
            22: None if status.health is None else write_health(status.health),
        }
    )
    return make(DocumentType.STATUS, values, read_status, signer)


def decode_status(data: bytes, box_public_signing: bytes, vehicle: str) -> Status:
    """Check a status, or raise ``Refused``. A last will is a document of its own: ``decode_offline``."""
    signed = cose.open_document(data, DocumentType.STATUS)
    status = read_status(cbor.loads(signed.payload))
    check_public(signed, (box_public_signing,))
    check_vehicle(status.vehicle, vehicle)
    return status


def read_status(value: Any) -> Status:
    """Check a status's schema."""
    left = Fields(value, "status")
    status = Status(
        vehicle=left.need(1, "vehicle", schema.vehicle_id),
        status_seq=left.need(2, "status_seq", schema.uint),
        boot_epoch=left.need(3, "boot_epoch", schema.octets, 8),
        boot_s=left.need(4, "boot_s", schema.number, 0.0, _MAX_BOOT_S),
        list_version=left.need(5, "list_version", schema.uint),
        key_set_version=left.need(6, "key_set_version", schema.uint),
        software=left.need(7, "software", schema.text, _MAX_SOFTWARE_BYTES),
        store_id=left.need(8, "store_id", schema.octets, 16),
        up_to_seq=left.need(9, "up_to_seq", schema.uint),
        clock_quality=left.need(10, "clock_quality", schema.code, ClockQuality),
        state=left.need(11, "state", schema.text, 32, 1),
        since_s=left.need(12, "since", schema.number, 0.0, float(schema.MAX_TIME_S)),
        charging=left.need(13, "charging", schema.word, Charging),
        door=left.need(14, "door", schema.text, 32, 1),
        soc_pct=left.may(15, "soc", schema.number, 0.0, 100.0),
        range_m=left.may(16, "range", schema.uint, 10_000_000),
        supply_v=left.may(17, "supply", schema.number, 0.0, 100.0),
        parked_at=left.may(18, "parked_at", _read_place),
        faults=left.need(19, "faults", schema.items, _MAX_FAULTS, schema.text),
        time_nonce=left.may(20, "time_nonce", schema.octets, 16),
        health=left.may(22, "health", read_health),
    )
    left.done()
    return status


def _read_place(value: Any, where: str) -> tuple[float, float]:
    if type(value) is not list or len(value) != 2:
        raise schema.bad(where, "latitude and longitude are wanted")
    return schema.number(value[0], where, -90.0, 90.0), schema.number(value[1], where, -180.0, 180.0)


def _float(value: float | None) -> float | None:
    return None if value is None else float(value)


def encode_offline(offline: Offline, signer: BoxSigner) -> bytes:
    """Sign a last will."""
    return make(DocumentType.OFFLINE, {1: offline.vehicle, 2: offline.boot_epoch}, read_offline, signer)


def decode_offline(data: bytes, box_public_signing: bytes, vehicle: str) -> Offline:
    """Check a last will, or raise ``Refused``. It counts for the boot it names, and while nothing newer came."""
    signed = cose.open_document(data, DocumentType.OFFLINE)
    offline = read_offline(cbor.loads(signed.payload))
    check_public(signed, (box_public_signing,))
    check_vehicle(offline.vehicle, vehicle)
    return offline


def read_offline(value: Any) -> Offline:
    """Check a last will's schema."""
    left = Fields(value, "offline")
    offline = Offline(left.need(1, "vehicle", schema.vehicle_id), left.need(2, "boot_epoch", schema.octets, 8))
    left.done()
    return offline
