"""Every field of every document: its name in a refusal, its type, and the two edges of its range."""

from __future__ import annotations

import copy
from collections.abc import Callable
from typing import Any

import pytest

from cloud_sync.documents import cbor, conversation, down, grants, up
from cloud_sync.documents.conversation import Answer, Chunk, Op, Opening, Wish
from cloud_sync.documents.kinds import DocumentType
from cloud_sync.documents.schema import MAX_COUNT, MAX_TIME_S
from onboard.core.clock import ClockQuality
from onboard.core.events import Charging, Intent
from onboard.core.grants import Assurance, BookingKind
from tests.document_rig import BOX_V, CASES, payload_of
from tests.field_edges import Edges, array, code, flag, number, octets, put, schema_says, short, text, uint, word

POINT: Edges = (
    "no compressed P-256 key",
    [b"\2" + bytes(32), b"\3" + bytes(32)],
    [b"\1" + bytes(32), b"\4" + bytes(32)],
)
POINT_BYTES: Edges = ("33 bytes are wanted", [], [bytes(32), bytes(34)])
VEHICLE: Edges = ("1 to 32 of a-z 0-9 - are wanted", ["az-09", "x" * 32], ["a_b", "a`", "{", "a/", "a:", "A", "é"])
VEHICLE_BYTES: Edges = ("text of 1 to 32 bytes is wanted", [], ["", "x" * 33])
TIME = uint(MAX_TIME_S)
MAP: Edges = ("a map with integer keys is wanted", [], [[], {"1": 2}, 1])
STATION = text(64, 1)
BOOT = number(0.0, 1e10)


def many(
    *fields: tuple[int, str, Edges], at: tuple[Any, ...] = (), where: str
) -> list[tuple[tuple[Any, ...], str, Edges]]:
    """Return fields of one map: the way to each, its name in words, its edges."""
    return [((*at, key), f"{where}.{name}", edges) for key, name, edges in fields]


def card(at: tuple[Any, ...], where: str) -> list[tuple[tuple[Any, ...], str, Edges]]:
    return [
        (at, where, MAP),
        *many(
            (1, "ref", octets(8)),
            (2, "assurance", word(Assurance)),
            (3, "key", octets(16)),
            (4, "slot", uint(13, 1)),
            at=at,
            where=where,
        ),
    ]


def payload(kind: DocumentType) -> dict[int, Any]:
    return payload_of(CASES[kind])


PART = Chunk(bytes(32), 300, 0, bytes(10)).values()
ANSWER = cbor.loads(
    Answer("ok", "", "unknown", time_nonce=bytes(16), offset=1, chunk=Chunk(bytes(32), 300, 0, b"x"), to_seq=4).encode()
)
CHUNK = (
    (1, "digest", octets(32)),
    (2, "total", uint(65_536, 1)),
    (3, "offset", uint(65_536)),
    (4, "bytes", short(1, conversation.CHUNK_MAX_BYTES)),
)
WISH = {1: bytes(16), 2: int(Op.GET), 3: PART, 4: 1, 5: 1}


def decoding(take: Callable[[bytes], Any]) -> Callable[[Any], Any]:
    return lambda value: take(cbor.dumps(value))


MAPS: dict[str, tuple[Callable[[Any], Any], Any, list[tuple[tuple[Any, ...], str, Edges]]]] = {
    "key set": (
        down.read_key_set,
        payload(DocumentType.KEY_SET),
        [
            ((), "key set", MAP),
            *many(
                (1, "version", uint(MAX_COUNT, 1)), (3, "sealing", POINT), (3, "sealing", POINT_BYTES), where="key set"
            ),
            ((2,), "key set.keys", array(32, payload(DocumentType.KEY_SET)[2][0])),
            ((2, 0), "key set.keys[0]", MAP),
            *many((1, "kid", short(1, 16)), (2, "public", octets(32)), at=(2, 0), where="key set.keys[0]"),
            ((2, 0, 3), "key set.keys[0].types", array(16, 3)),
            ((2, 0, 3, 0), "key set.keys[0].types[0]", uint()),
        ],
    ),
    "ack": (
        down.read_ack,
        payload(DocumentType.ACK),
        [
            ((), "ack", MAP),
            *many((1, "vehicle", VEHICLE), (1, "vehicle", VEHICLE_BYTES), (2, "store_id", octets(16)), where="ack"),
            *many((3, "up_to_seq", uint()), (4, "digest", octets(32)), where="ack"),
        ],
    ),
    "resend": (
        down.read_resend,
        payload(DocumentType.RESEND),
        [
            ((), "resend", MAP),
            *many(
                (1, "vehicle", VEHICLE),
                (2, "store_id", octets(16)),
                (3, "from_seq", uint(MAX_COUNT, 1)),
                where="resend",
            ),
        ],
    ),
    "time proof": (
        down.read_time_proof,
        payload(DocumentType.TIME_PROOF),
        [
            ((), "time proof", MAP),
            *many(
                (1, "vehicle", VEHICLE),
                (2, "nonce", octets(16)),
                (3, "time", number(0.0, float(MAX_TIME_S))),
                where="time proof",
            ),
        ],
    ),
    "command": (
        down.read_command,
        payload(DocumentType.COMMAND),
        [
            ((), "command", MAP),
            *many(
                (1, "vehicle", VEHICLE), (2, "command_id", octets(16)), (3, "boot_epoch", octets(8)), where="command"
            ),
            *many(
                (4, "counter", uint(MAX_COUNT, 1)),
                (5, "not_after_boot", number(0.0, float(MAX_TIME_S))),
                where="command",
            ),
            (
                (6,),
                "command.action",
                (word(Intent)[0], [each.value for each in Intent if each is not Intent.TAP], ["nothing"]),
            ),
            ((6,), "command.action", ("unlock, lock or finish is wanted", [], ["tap"])),
            ((7,), "command.subject", short(8, 16)),
        ],
    ),
    "batch": (
        up.read_event_batch,
        payload(DocumentType.EVENT_BATCH),
        [
            ((), "batch", MAP),
            *many(
                (1, "vehicle", VEHICLE),
                (2, "store_id", octets(16)),
                (3, "from_seq", uint(MAX_COUNT - 256, 1)),
                where="batch",
            ),
            *many((4, "prev_digest", octets(32)), (6, "digest", octets(32)), where="batch"),
            ((5,), "batch.rows", array(256, payload(DocumentType.EVENT_BATCH)[5][0], 1)),
            ((7,), "batch.oldest", ("true or false is wanted", [True], [0])),
            ((7,), "batch.oldest", ("true, or nothing, is wanted", [], [False])),
            ((5, 0), "batch.rows[0]", ("5 items, or 6 for a dropped row, are wanted", [], [[1] * 4, [1] * 7, {}])),
            ((5, 0, 0), "batch.rows[0].boot_epoch", octets(8)),
            ((5, 0, 1), "batch.rows[0].boot_s", BOOT),
            ((5, 0, 2), "batch.rows[0].wall_s", number(0.0, float(MAX_TIME_S))),
            ((5, 0, 3), "batch.rows[0].quality", code(ClockQuality)),
            ((5, 0, 4), "batch.rows[0].payload", ("0 to 4096 bytes are wanted", [b"x", bytes(4096)], [bytes(4097), 1])),
            ((5, 0, 4), "batch.rows[0]", ("a payload, or the digest of a dropped one, is wanted", [], [b""])),
        ],
    ),
    "status": (
        up.read_status,
        payload(DocumentType.STATUS),
        [
            ((), "status", MAP),
            *many(
                (1, "vehicle", VEHICLE),
                (2, "status_seq", uint()),
                (3, "boot_epoch", octets(8)),
                (4, "boot_s", BOOT),
                where="status",
            ),
            *many(
                (5, "list_version", uint()), (6, "key_set_version", uint()), (7, "software", text(64)), where="status"
            ),
            *many(
                (8, "store_id", octets(16)),
                (9, "up_to_seq", uint()),
                (10, "clock_quality", code(ClockQuality)),
                where="status",
            ),
            *many((11, "state", text(32, 1)), (12, "since", number(0.0, float(MAX_TIME_S))), where="status"),
            *many(
                (13, "charging", word(Charging)),
                (14, "door", text(32, 1)),
                (15, "soc", number(0.0, 100.0)),
                where="status",
            ),
            *many((16, "range", uint(10_000_000)), (17, "supply", number(0.0, 100.0)), where="status"),
            ((18,), "status.parked_at", ("latitude and longitude are wanted", [], [[1.0], [1.0, 2.0, 3.0], {}])),
            ((18, 0), "status.parked_at", number(-90.0, 90.0)),
            ((18, 1), "status.parked_at", number(-180.0, 180.0)),
            ((19,), "status.faults", array(32, "gps: no answer")),
            ((19, 0), "status.faults[0]", text()),
            ((20,), "status.time_nonce", octets(16)),
        ],
    ),
    "offline": (
        up.read_offline,
        payload(DocumentType.OFFLINE),
        [((), "offline", MAP), *many((1, "vehicle", VEHICLE), (2, "boot_epoch", octets(8)), where="offline")],
    ),
    "list": (
        grants.read_list,
        payload(DocumentType.RESERVATION_LIST),
        [
            ((), "list", MAP),
            *many(
                (1, "vehicle", VEHICLE),
                (2, "version", uint()),
                (3, "issued_at", TIME),
                (4, "horizon_end", TIME),
                where="list",
            ),
            ((5,), "list.reservations", array(512, payload(DocumentType.RESERVATION_LIST)[5][0])),
            ((6,), "list.staff", array(64, payload(DocumentType.RESERVATION_LIST)[6][0])),
            ((7,), "list.revoked", array(1024, payload(DocumentType.RESERVATION_LIST)[7][0])),
            ((5, 0), "list.reservations[0]", MAP),
            *many((1, "id", octets(16)), (2, "start", TIME), (3, "end", TIME), at=(5, 0), where="list.reservations[0]"),
            *many((4, "pickup", STATION), (5, "dropoff", STATION), at=(5, 0), where="list.reservations[0]"),
            *many((6, "kind", word(BookingKind)), (7, "driver", octets(8)), at=(5, 0), where="list.reservations[0]"),
            *many((8, "phone_keys", array(8, BOX_V.public)), at=(5, 0), where="list.reservations[0]"),
            ((5, 0, 8, 0), "list.reservations[0].phone_keys[0]", POINT),
            ((5, 0, 9), "list.reservations[0].cards", array(8, {1: bytes(8), 2: "uid"})),
            *card((5, 0, 9, 1), "list.reservations[0].cards[1]"),
            *many((10, "rights", uint(0xFFFF)), (11, "trace", flag()), at=(5, 0), where="list.reservations[0]"),
            ((6, 0), "list.staff[0]", MAP),
            *many((1, "id", short(8, 16)), (2, "not_after", TIME), at=(6, 0), where="list.staff[0]"),
            *many(
                (3, "phone_keys", array(8, BOX_V.public)),
                (4, "cards", array(8, {1: bytes(8), 2: "uid"})),
                at=(6, 0),
                where="list.staff[0]",
            ),
            ((6, 0, 3, 0), "list.staff[0].phone_keys[0]", POINT),
            ((6, 0, 5), "list.staff[0].rights", uint(0xFFFF)),
            ((7, 0), "list.revoked[0]", MAP),
            *many((1, "what", octets(8, 33)), (2, "until", TIME), at=(7, 0), where="list.revoked[0]"),
        ],
    ),
    "pass": (
        grants.read_pass,
        payload(DocumentType.PASS) | {-70002: payload(DocumentType.PASS)[-70002] | {8: "hede"}},
        [
            ((), "pass", MAP),
            *many((3, "aud", VEHICLE), (4, "exp", TIME), (6, "iat", TIME), (7, "cti", octets(8)), where="pass"),
            ((8,), "pass.cnf", MAP),
            ((8, 1), "pass.cnf.COSE_Key", MAP),
            ((8, 1, 1), "pass.cnf", ("a P-256 key is wanted", [2], [1, 3])),
            ((8, 1, -1), "pass.cnf", ("a P-256 key is wanted", [1], [0, 2])),
            ((-70002,), "pass.booking", MAP),
            *many(
                (1, "reservation", octets(16)), (2, "start", TIME), (3, "end", TIME), at=(-70002,), where="pass.booking"
            ),
            *many(
                (4, "driver", octets(8)),
                (5, "rights", uint(0xFFFF)),
                (6, "g", uint()),
                at=(-70002,),
                where="pass.booking",
            ),
            *many((7, "pickup", STATION), (8, "dropoff", STATION), at=(-70002,), where="pass.booking"),
            *many(
                (1, "kty", ("an integer from 0 to 9223372036854775807 is wanted", [], [-1])),
                at=(8, 1),
                where="pass.cnf.COSE_Key",
            ),
            *many(
                (-1, "crv", ("an integer from 0 to 9223372036854775807 is wanted", [], [-1])),
                at=(8, 1),
                where="pass.cnf.COSE_Key",
            ),
            *many((-2, "x", octets(32)), (-3, "y", flag()), at=(8, 1), where="pass.cnf.COSE_Key"),
        ],
    ),
    "opening": (
        decoding(Opening.decode),
        {1: b"pass", 2: bytes(8), 3: bytes(64), 4: b"command"},
        [
            *many((1, "pass", short(1, 512)), (2, "reference", octets(8)), where="opening"),
            *many((3, "proof", octets(64)), (4, "command", short(1, 512)), where="opening"),
        ],
    ),
    "wish": (
        decoding(Wish.decode),
        WISH,
        [
            *many(
                (1, "id", octets(16)),
                (2, "op", code(Op)),
                (4, "from_seq", uint()),
                (5, "offset", uint(65_536)),
                where="command",
            ),
            ((3,), "command.chunk", MAP),
            *many(*CHUNK, at=(3,), where="command.chunk"),
        ],
    ),
    "answer": (
        decoding(Answer.decode),
        ANSWER,
        [
            *many(
                (1, "status", text(16, 1)),
                (2, "reason", text(32)),
                (3, "door", text(16)),
                (4, "counter", uint(2**32 - 1)),
                where="answer",
            ),
            *many((5, "store_id", octets(16)), (6, "up_to_seq", uint()), (7, "acked_seq", uint()), where="answer"),
            *many(
                (8, "list_version", uint()),
                (9, "key_set_version", uint()),
                (10, "time_nonce", octets(16)),
                where="answer",
            ),
            *many((11, "offset", uint(65_536)), (13, "to_seq", uint()), where="answer"),
            *many(*CHUNK, at=(12,), where="answer.chunk"),
        ],
    ),
}


FIELDS = [(name, at, where, edges) for name, (_, _, fields) in MAPS.items() for at, where, edges in fields]


@pytest.mark.parametrize(
    ("name", "at", "where", "edges"), FIELDS, ids=[f"{name}-{where}-{at}" for name, at, where, _ in FIELDS]
)
def test_a_field_is_taken_to_its_edges_and_refused_beyond_by_its_name(
    name: str, at: tuple[Any, ...], where: str, edges: Edges
) -> None:
    read, honest, _ = MAPS[name]
    said, right, wrong = edges
    for value in right:
        found = schema_says(read, put(honest, at, value))
        assert not found or not found.startswith(f"{where}:"), f"{value!r} is refused: {found}"
    for value in wrong:
        if type(value) is int and not -(2**63) <= value < 2**64:
            continue
        found = schema_says(read, put(honest, at, value))
        if type(value) is type(right[0]) if right else True:
            assert found == f"{where}: {said}", repr(value)
        else:
            assert found.startswith(f"{where}: "), repr(value)


MAY_LACK = {
    *("batch.oldest", "status.soc", "status.range", "status.supply", "status.parked_at", "status.time_nonce"),
    *("list.reservations[0].dropoff", "pass.booking.dropoff", "opening.pass", "opening.reference"),
    *("command.chunk", "command.from_seq", "command.offset"),
    *("answer.time_nonce", "answer.offset", "answer.chunk", "answer.to_seq"),
}
PAIR = {f"list.reservations[0].cards[1].{name}" for name in ("key", "slot")}
"""One of the two is none."""
OF_MAPS = sorted(
    {(name, at, where) for name, at, where, _ in FIELDS if where.rpartition(".")[2].isidentifier() and at}, key=str
)


@pytest.mark.parametrize(("name", "at", "where"), OF_MAPS)
def test_a_missing_field_is_named_with_its_number(name: str, at: tuple[Any, ...], where: str) -> None:
    read, honest, _ = MAPS[name]
    lacking = copy.deepcopy(honest)
    around = lacking
    for key in at[:-1]:
        around = around[key]
    if isinstance(around, list) or where == "pass.cnf":
        return  # no field by itself
    around.pop(at[-1], None)
    found = schema_says(read, lacking)
    if where in PAIR:
        assert found == f"{where.rpartition('.')[0]}: a card's key has a slot, and the other way round"
    else:
        assert found == ("" if where in MAY_LACK else f"{where}: missing (key {at[-1]})")
