"""Keys that never change, one example of each document, and a way to sign what no honest sender would."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

from cloud_sync import documents as d
from cloud_sync.documents import cbor, cose
from cloud_sync.documents.kinds import BOX_TYPES, SEALED_TYPES, DocumentType
from onboard.core.events import Intent
from onboard.core.records import Recordable, SupplyChanged, Track
from sim.fuzz import world
from sim.fuzz.world import opener, sealed_for

CAR, T0, EPOCH, STORE = world.CAR, world.T0, world.EPOCH, world.STORE_ID
ROOT, CLOUD, CLOUD_C = world.ROOT, world.CLOUD, world.CLOUD_C
BOX, BOX_V, KEYS = world.BOX, world.BOX_V, world.KEYS
BOOKING, LIST, PASS, STATUS = world.BOOKING, world.LIST, world.PASS, world.STATUS
OTHER_ROOT = d.Signer.from_bytes(bytes([2]) * 32)
STRANGER = d.Signer.from_bytes(bytes([8]) * 32)
STRANGE_BOX = d.BoxSigner.from_bytes(bytes([9]) * 32)
STRANGE_AGREEMENT = d.AgreementKey.from_bytes(bytes([10]) * 32)
ROOTS = (ROOT.public, OTHER_ROOT.public)


def rows(*records: Recordable, first: int = 1, before: bytes = d.GENESIS) -> tuple[d.Row, ...]:
    """Chain records as the store does."""
    return world.rows(tuple(map(d.encode_record, records)), first, before)


BATCH = d.EventBatch(
    CAR, STORE, 1, d.GENESIS, rows(SupplyChanged("saving", 12.1), Track(1, 1, ((0, 4_825_000, -150_000),)))
)


@dataclass(frozen=True)
class Case:
    """One kind of document: an example, how it is made and how it is taken."""

    kind: DocumentType
    value: Any
    make: Callable[[Any], bytes]
    take: Callable[..., Any]
    """Takes the bytes; ``vehicle``, ``keys`` (key set), ``public`` (who signs) and ``key`` (who opens) may be given."""

    @property
    def data(self) -> bytes:
        return self.make(self.value)


def _down(kind: DocumentType, value: Any, encode: Any, decode: Any) -> Case:
    return Case(
        kind,
        value,
        lambda given: encode(given, CLOUD),
        lambda data, vehicle=CAR, keys=KEYS, **_: decode(data, keys, vehicle),
    )


def _up(kind: DocumentType, value: Any, encode: Any, decode: Any) -> Case:
    return Case(
        kind,
        value,
        lambda given: encode(given, BOX),
        lambda data, vehicle=CAR, public=BOX.public, **_: decode(data, public, vehicle),
    )


CASES = {
    case.kind: case
    for case in (
        Case(
            DocumentType.KEY_SET,
            KEYS,
            lambda given: d.encode_key_set(given, ROOT),
            lambda data, roots=ROOTS, **_: d.decode_key_set(data, roots),
        ),
        Case(
            DocumentType.RESERVATION_LIST,
            LIST,
            lambda given: d.encode_reservation_list(given, CLOUD, BOX_V.public),
            lambda data, vehicle=CAR, keys=KEYS, key=BOX_V, **_: d.decode_reservation_list(data, keys, key, vehicle),
        ),
        _down(DocumentType.PASS, PASS, d.encode_pass, d.decode_pass),
        _down(
            DocumentType.COMMAND,
            d.Command(CAR, STORE, EPOCH, 3, 400.5, Intent.UNLOCK, BOOKING.id),
            d.encode_command,
            d.decode_command,
        ),
        _down(DocumentType.ACK, d.Ack(CAR, STORE, 41, bytes(range(32))), d.encode_ack, d.decode_ack),
        _down(DocumentType.RESEND, d.Resend(CAR, STORE, 17), d.encode_resend, d.decode_resend),
        _down(DocumentType.TIME_PROOF, d.TimeProof(CAR, STORE, T0 + 0.5), d.encode_time_proof, d.decode_time_proof),
        Case(
            DocumentType.EVENT_BATCH,
            BATCH,
            lambda given: d.encode_event_batch(given, BOX, CLOUD_C.public),
            lambda data, vehicle=CAR, public=BOX.public, key=CLOUD_C, **_: d.decode_event_batch(
                data, key, public, vehicle
            ),
        ),
        _up(DocumentType.STATUS, STATUS, d.encode_status, d.decode_status),
        _up(DocumentType.OFFLINE, d.Offline(CAR, EPOCH), d.encode_offline, d.decode_offline),
        Case(
            DocumentType.BOX_REQUEST,
            world.REQUEST,
            lambda given: d.encode_box_request(given, BOX),
            lambda data, **_: d.decode_box_request(data),
        ),
        Case(
            DocumentType.BOX_ANSWER,
            world.ANSWER,
            lambda given: d.encode_box_answer(given, CLOUD, BOX_V.public),
            lambda data, key=BOX_V, **_: d.decode_box_answer(data, key),
        ),
    )
}


def payload_of(case: Case) -> dict[int, Any]:
    """Return the map inside a document's envelopes."""
    data = cose.open_document(case.data, case.kind, sealed_for(case.kind), opener(case.kind))
    found: dict[int, Any] = cbor.loads(data.payload)
    return found


def forge(
    kind: DocumentType,
    payload: Any,
    signer: d.Signer | d.BoxSigner | None = None,
    *,
    sealed_as: DocumentType | None = None,
) -> bytes:
    """Sign (and where the type wants it seal) any payload with the rightful key, or with ``signer``."""
    rightful = ROOT if kind is DocumentType.KEY_SET else BOX if kind in BOX_TYPES else CLOUD
    data = cose.sign1(kind, payload if isinstance(payload, bytes) else cbor.dumps(payload), signer or rightful)
    outer = sealed_as or kind
    if outer not in SEALED_TYPES:
        return data
    return cose.seal(outer, sealed_for(outer), data, opener(outer).public)
