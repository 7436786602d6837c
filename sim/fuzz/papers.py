"""Documents: the codec below them, every kind of them raw and honestly signed, and the records inside batches."""

from __future__ import annotations

import json
from collections.abc import Callable, Sequence
from contextlib import ExitStack
from pathlib import Path
from typing import Any, Final

from cloud_sync import documents as d
from cloud_sync.documents import cbor
from cloud_sync.documents.kinds import DocumentType, Refused
from sim.fuzz.door import Door, Harness, right
from sim.fuzz.feed import Feed, cbor_key, changed
from sim.fuzz.world import (
    BOX,
    BOX_V,
    CAR,
    CLOUD,
    CLOUD_C,
    KEYS,
    RECORDS,
    ROOT,
    ROOTS,
    content,
    forged,
    honest,
    payloads,
)

KINDS: Final = (
    DocumentType.KEY_SET,
    DocumentType.RESERVATION_LIST,
    DocumentType.PASS,
    DocumentType.COMMAND,
    DocumentType.ACK,
    DocumentType.RESEND,
    DocumentType.TIME_PROOF,
    DocumentType.EVENT_BATCH,
    DocumentType.STATUS,
    DocumentType.OFFLINE,
    DocumentType.BOX_REQUEST,
    DocumentType.BOX_ANSWER,
)
RAW, SIGNED, CHANGED = range(3)
"""The second byte of an input: the rest is the document; what it signs; or how the honest content is changed."""

_TAKE: Final[dict[DocumentType, Callable[[bytes], Any]]] = {
    DocumentType.KEY_SET: lambda data: d.decode_key_set(data, ROOTS),
    DocumentType.RESERVATION_LIST: lambda data: d.decode_reservation_list(data, KEYS, BOX_V, CAR),
    DocumentType.PASS: lambda data: d.decode_pass(data, KEYS, CAR),
    DocumentType.COMMAND: lambda data: d.decode_command(data, KEYS, CAR),
    DocumentType.ACK: lambda data: d.decode_ack(data, KEYS, CAR),
    DocumentType.RESEND: lambda data: d.decode_resend(data, KEYS, CAR),
    DocumentType.TIME_PROOF: lambda data: d.decode_time_proof(data, KEYS, CAR),
    DocumentType.EVENT_BATCH: lambda data: d.decode_event_batch(data, CLOUD_C, BOX.public, CAR),
    DocumentType.STATUS: lambda data: d.decode_status(data, BOX.public, CAR),
    DocumentType.OFFLINE: lambda data: d.decode_offline(data, BOX.public, CAR),
    DocumentType.BOX_REQUEST: d.decode_box_request,
    DocumentType.BOX_ANSWER: lambda data: d.decode_box_answer(data, BOX_V),
}
_GIVE: Final[dict[DocumentType, Callable[[Any], bytes]]] = {
    DocumentType.KEY_SET: lambda value: d.encode_key_set(value, ROOT),
    DocumentType.RESERVATION_LIST: lambda value: d.encode_reservation_list(value, CLOUD, BOX_V.public),
    DocumentType.PASS: lambda value: d.encode_pass(value, CLOUD),
    DocumentType.COMMAND: lambda value: d.encode_command(value, CLOUD),
    DocumentType.ACK: lambda value: d.encode_ack(value, CLOUD),
    DocumentType.RESEND: lambda value: d.encode_resend(value, CLOUD),
    DocumentType.TIME_PROOF: lambda value: d.encode_time_proof(value, CLOUD),
    DocumentType.EVENT_BATCH: lambda value: d.encode_event_batch(value, BOX, CLOUD_C.public),
    DocumentType.STATUS: lambda value: d.encode_status(value, BOX),
    DocumentType.OFFLINE: lambda value: d.encode_offline(value, BOX),
    DocumentType.BOX_REQUEST: lambda value: d.encode_box_request(value, BOX),
    DocumentType.BOX_ANSWER: lambda value: d.encode_box_answer(value, CLOUD, BOX_V.public),
}


def changed_payload(kind: DocumentType, feed: Feed) -> bytes:
    """Return what an honest document signs, changed by the feed and written as the codec writes it."""
    return cbor.dumps(changed(content(kind), feed, keys=cbor_key))


def open_cbor(_folder: Path, _ending: ExitStack) -> Harness:
    """CBOR alone: what is taken encodes to the same bytes."""

    def run(data: bytes) -> None:
        try:
            value = cbor.loads(data)
        except Refused:
            return
        right(cbor.dumps(value) == data, "taken though it is not the one form")

    return run


def open_documents(_folder: Path, _ending: ExitStack) -> Harness:
    """Every decoder; what one takes is what its encoder would send."""

    def run(data: bytes) -> None:
        feed = Feed(data)
        kind, how = feed.pick(KINDS), feed.below(3)
        try:
            if how == RAW:
                document = feed.rest()
            else:
                document = forged(kind, feed.rest() if how == SIGNED else changed_payload(kind, feed))
            json.dumps(d.describe(document))
            value = _TAKE[kind](document)
            right(d.document_type(document) is kind, "taken for another kind")
            if kind is DocumentType.PASS:
                d.unproven_pass(document)
        except Refused:
            return
        right(_TAKE[kind](_GIVE[kind](value)) == value, "what was taken would be sent as something else")

    return run


def open_records(_folder: Path, _ending: ExitStack) -> Harness:
    """The records inside a batch, raw or an honest one changed."""

    def run(data: bytes) -> None:
        feed = Feed(data)
        honest_one = feed.below(len(RECORDS) + 1)
        if honest_one < len(RECORDS):
            body = cbor.loads(d.encode_record(RECORDS[honest_one]))
            payload = cbor.dumps(changed(body, feed, keys=cbor_key))
        else:
            payload = feed.rest()
        try:
            record = d.decode_record(payload)
        except Refused:
            return
        d.record_kind(record)
        if not isinstance(record, d.UnknownRecord):
            right(d.decode_record(d.encode_record(record)) == record, "what was taken would be written otherwise")

    return run


def _document_seeds() -> Sequence[bytes]:
    whole = [bytes((index, RAW)) + honest()[kind] for index, kind in enumerate(KINDS)]
    inner = [bytes((index, SIGNED)) + payloads()[kind] for index, kind in enumerate(KINDS)]
    # Each of the first fields once another sort of value, and once near the old one.
    changes = [
        bytes((index, CHANGED, 1, place, 0, *how))
        for index in range(len(KINDS))
        for place in range(1, 20)
        for how in ((5, 3, 2, 5), (0, 1))
    ]
    return whole + inner + changes


DOORS: Final = (
    Door(
        "cbor", "CBOR before anything else looks at it", open_cbor, lambda: tuple(payloads().values()), bytes_max=4096
    ),
    Door("documents", "every kind of document", open_documents, _document_seeds),
    Door(
        "records",
        "the records in a batch",
        open_records,
        lambda: (
            [bytes((index, 1, 2, 3, 4)) for index in range(len(RECORDS))]
            + [bytes((len(RECORDS),)) + d.encode_record(each) for each in RECORDS]
        ),
    ),
)
