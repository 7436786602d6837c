"""The box's rows on the wire: what each kind of record is numbered, and how rows are chained.

A record is ``[code, {field number: value}]``. A code is never used again. A field's number is its place in the table,
counted from 1: fields are only ever appended, and one that is no longer written keeps its place. Words of an
enumeration travel as their text; an absent field is None or its default.
"""

from __future__ import annotations

import hashlib
import math
import struct
from collections.abc import Callable
from dataclasses import MISSING, dataclass, fields
from enum import StrEnum
from types import NoneType, UnionType
from typing import Any, Final, get_args, get_type_hints

from cloud_sync.documents import cbor
from cloud_sync.documents.kinds import Refused
from cloud_sync.documents.schema import Fields, bad, cut, flag, items, number, short_octets, text, uint, word
from onboard.core import records as core
from onboard.core.clock import Instant
from onboard.core.records import Recordable

GENESIS: Final = bytes(32)
"""What stands before row 1 of a store."""
MAX_RECORD_BYTES: Final = 4096
_MAX_INT: Final = 2**53
_MAX_POINTS: Final = 256
_MAX_FLAGS: Final = 16


@dataclass(frozen=True, slots=True)
class Row:
    """One row of the box's append-only table.

    ``payload`` is an encoded record, or empty where the store dropped an expendable one to make room: then ``digest``,
    kept from before, carries the chain over the hole.
    """

    seq: int
    boot_epoch: bytes
    at: Instant
    payload: bytes
    digest: bytes


@dataclass(frozen=True, slots=True)
class UnknownRecord:
    """A record of a kind that a newer box knows: kept as it is, never dropped."""

    code: int
    payload: bytes


def chain_digest(previous: bytes, seq: int, boot_epoch: bytes, at: Instant, payload: bytes) -> bytes:
    """Return a row's digest: SHA-256 over the digest before it and the row, every length fixed but the last.

    ``previous`` 32 bytes ‖ seq u64 ‖ boot epoch 8 bytes ‖ boot_s f64 ‖ wall_s f64 ‖ quality u8 ‖ payload; big-endian.
    """
    if len(previous) != 32 or len(boot_epoch) != 8:
        raise ValueError("a digest has 32 bytes, a boot epoch 8")
    head = struct.pack(">Q8sddB", seq, boot_epoch, at.boot_s, at.wall_s, at.quality)
    return hashlib.sha256(previous + head + payload).digest()


TABLE: Final[dict[type[Recordable], tuple[int, str]]] = {
    core.Booted: (1, "software trip"),
    core.TripStarted: (
        2,
        "rental trip kind reservation driver credential rule proven odometer_m soc_pct station",
    ),
    core.DoorReopened: (3, "rental trip credential"),
    core.EndRequested: (4, "rental trip by finish"),
    core.TripEnded: (
        5,
        """rental trip reason duration_s distance_m distance_source distance_resolution_m speed_integral_m odometer_m
        soc_pct station flags""",
    ),
    core.RentalEnded: (
        6,
        "rental kind reservation driver reason billable_s billable_basis trips distance_m station",
    ),
    core.AccessDenied: (7, "reason credential more"),
    core.ActuationFailed: (8, "action reason trip"),
    core.ChargingChanged: (9, "state soc_pct"),
    core.Alert: (10, "kind rental value"),
    core.FaultChanged: (11, "part active detail"),
    core.ListAccepted: (12, "version"),
    core.DocumentRefused: (13, "kind reason"),
    core.CommsChanged: (14, "lost"),
    core.SupplyChanged: (15, "level voltage_v"),
    core.MaintenanceChanged: (16, "on by"),
    core.StoreReplaced: (17, "previous reason"),
    core.Parked: (18, "station latitude longitude"),
    core.Track: (19, "rental trip points"),
    core.CardCaptured: (20, "capture uid"),
    core.ConsoleUsed: (21, "action by detail"),
}
"""Each kind's code and its fields in the order of their numbers. Only ever add."""


@dataclass(frozen=True, slots=True)
class _Field:
    number: int
    name: str
    write: Callable[[Any], Any]
    read: Callable[[Any, str], Any]
    default: Any
    """MISSING where the field must be there."""


def encode_record(record: Recordable) -> bytes:
    """Encode a record. Long texts are cut to 256 bytes; a float that is no number becomes absent where it may.

    Raises ``ValueError`` for a value that no record may hold: a fault of ours, never of a stranger.
    """
    values: dict[int, Any] = {}
    for field in _FIELDS[type(record)]:
        value = field.write(getattr(record, field.name))
        if value is not None:
            values[field.number] = value
    payload = cbor.dumps([TABLE[type(record)][0], values])
    try:
        decode_record(payload)
    except Refused as refused:
        raise ValueError(f"no record: {refused.detail}") from None
    return payload


def decode_record(payload: bytes) -> Recordable | UnknownRecord:
    """Decode a record; one of an unknown code comes back as ``UnknownRecord``. Raises ``Refused`` for anything else."""
    body = cbor.loads(payload, MAX_RECORD_BYTES)
    if type(body) is not list or len(body) != 2:
        raise bad("record", "a code and a map are wanted")
    code = uint(body[0], "record code", 2**16)
    kind = _BY_CODE.get(code)
    left = Fields(body[1], kind.__name__ if kind else f"record {code}")
    if kind is None:
        return UnknownRecord(code, payload)
    values: dict[str, Any] = {}
    for field in _FIELDS[kind]:
        if field.default is MISSING:
            values[field.name] = left.need(field.number, field.name, field.read)
        else:
            found = left.may(field.number, field.name, field.read)
            values[field.name] = field.default if found is None else found
    left.done()
    return kind(**values)


def record_kind(record: Recordable | UnknownRecord) -> str:
    """Name a record: the word of MDS 2.0 where it has one, ours elsewhere."""
    match record:
        case UnknownRecord():
            return "unknown"
        case core.ChargingChanged():
            return "charging_start" if record.state == "charging" else "charging_end"
        case core.CommsChanged():
            return "comms_lost" if record.lost else "comms_restored"
        case core.MaintenanceChanged():
            return "maintenance" if record.on else "maintenance_end"
        case _:
            return _WORDS[type(record)]


_WORDS: Final[dict[type[Recordable], str]] = {
    core.Booted: "booted",
    core.TripStarted: "trip_start",
    core.DoorReopened: "door_reopened",
    core.EndRequested: "end_requested",
    core.TripEnded: "trip_end",
    core.RentalEnded: "rental_end",
    core.AccessDenied: "access_denied",
    core.ActuationFailed: "actuation_failed",
    core.Alert: "alert",
    core.FaultChanged: "fault",
    core.ListAccepted: "list_accepted",
    core.DocumentRefused: "document_refused",
    core.SupplyChanged: "supply",
    core.StoreReplaced: "store_replaced",
    core.Parked: "parked",
    core.Track: "track",
    core.CardCaptured: "card_captured",
    core.ConsoleUsed: "console_used",
}


def _same(value: Any) -> Any:
    return value


def _integer(value: Any, where: str) -> int:
    return uint(value, where, _MAX_INT, -_MAX_INT)


def _bytes(value: Any, where: str) -> bytes:
    return short_octets(value, where, 0, 64)


def _words(value: Any, where: str) -> tuple[str, ...]:
    return items(value, where, _MAX_FLAGS, text)


def _write_points(points: tuple[tuple[int, int, int], ...]) -> list[int]:
    flat: list[int] = []
    before = (0, 0, 0)
    for point in points:
        flat.extend(now - then for now, then in zip(point, before, strict=True))
        before = point
    return flat


def _read_points(value: Any, where: str) -> tuple[tuple[int, int, int], ...]:
    """Points travel flat, each as the difference from the one before, so that most numbers take a byte or two."""
    flat = items(value, where, 3 * _MAX_POINTS, _integer)
    if len(flat) % 3:
        raise bad(where, "three numbers a point are wanted")
    points: list[tuple[int, int, int]] = []
    seconds = latitude = longitude = 0
    for index in range(0, len(flat), 3):
        seconds, latitude, longitude = seconds + flat[index], latitude + flat[index + 1], longitude + flat[index + 2]
        if not (0 <= seconds < 2**31 and abs(latitude) <= 9_000_000 and abs(longitude) <= 18_000_000):
            raise bad(where, "a point that is not on Earth")
        points.append((seconds, latitude, longitude))
    return tuple(points)


def _codec(hint: Any) -> tuple[Callable[[Any], Any], Callable[[Any, str], Any], bool]:
    """Return how a field of this type is written and read, and whether it may be absent."""
    if isinstance(hint, UnionType):
        [inner] = [part for part in get_args(hint) if part is not NoneType]
        write, read, _ = _codec(inner)
        if inner is float:
            return (lambda value: None if value is None or not math.isfinite(value) else float(value)), read, True
        return (lambda value: None if value is None else write(value)), read, True
    if isinstance(hint, type) and issubclass(hint, StrEnum):
        return str, (lambda value, where: word(value, where, hint)), False
    plain: dict[Any, tuple[Callable[[Any], Any], Callable[[Any, str], Any]]] = {
        bool: (_same, flag),
        int: (_same, _integer),
        float: (float, number),
        str: (cut, text),
        bytes: (_same, _bytes),
        tuple[str, ...]: (lambda value: [cut(item) for item in value], _words),
        tuple[tuple[int, int, int], ...]: (_write_points, _read_points),
    }
    return *plain[hint], False


def _layout(kind: type[Recordable], names: str) -> tuple[_Field, ...]:
    hints = get_type_hints(kind)
    defaults = {field.name: field.default for field in fields(kind)}
    layout = []
    for index, name in enumerate(names.split(), start=1):
        write, read, optional = _codec(hints[name])
        default = None if optional and defaults[name] is MISSING else defaults[name]
        layout.append(_Field(index, name, write, read, default))
    return tuple(layout)


_FIELDS: Final = {kind: _layout(kind, names) for kind, (_, names) in TABLE.items()}
_BY_CODE: Final = {code: kind for kind, (code, _) in TABLE.items()}
