"""Who and what every harness knows: keys that never change, and one honest document of each kind."""

from __future__ import annotations

import functools
from typing import Any, Final

from cloud_sync import documents as d
from cloud_sync.documents import cbor, cose
from cloud_sync.documents.boxes import NO_CAR
from cloud_sync.documents.kinds import BOX_TYPES, SEALED_TYPES, DocumentType
from onboard.core import records
from onboard.core.clock import ClockQuality, Instant
from onboard.core.events import Charging, Intent
from onboard.core.grants import (
    Assurance,
    BookingKind,
    CardGrant,
    Pass,
    Reservation,
    ReservationList,
    Revocation,
    Rights,
    StaffGrant,
)

CAR: Final = "hede-1"
T0: Final = 1_796_000_000
EPOCH: Final = bytes(range(8))
STORE_ID: Final = bytes(range(16))

ROOT: Final = d.Signer.from_bytes(bytes([1]) * 32)
CLOUD: Final = d.Signer.from_bytes(bytes([3]) * 32)
BOX: Final = d.BoxSigner.from_bytes(bytes([4]) * 32)
BOX_V: Final = d.AgreementKey.from_bytes(bytes([5]) * 32)
CLOUD_C: Final = d.AgreementKey.from_bytes(bytes([6]) * 32)
PHONE: Final = d.BoxSigner.from_bytes(bytes([7]) * 32)
ROOTS: Final = (ROOT.public,)
KEYS: Final = d.KeySet(7, (CLOUD.may_sign(*d.AUTHORITY_TYPES),), CLOUD_C.public)
CARD_KEY: Final = bytes(range(16))

BOOKING: Final = Reservation(
    id=bytes(range(16, 32)),
    start_s=T0,
    end_s=T0 + 7200,
    pickup="bazouges",
    dropoff="hede",
    kind=BookingKind.ONE_WAY,
    driver=bytes(range(32, 40)),
    phone_keys=(PHONE.public,),
    cards=(CardGrant(bytes(range(40, 48)), Assurance.UID), CardGrant(bytes(8), Assurance.MUTUAL, CARD_KEY, 3)),
    rights=Rights.DOOR | Rights.DRIVE,
    trace=False,
)
LIST: Final = ReservationList(
    vehicle=CAR,
    version=T0,
    issued_at_s=T0,
    horizon_end_s=T0 + 30 * 86400,
    reservations=(BOOKING,),
    staff=(StaffGrant(bytes(8), T0 + 86400, (PHONE.public,), (), Rights.DOOR | Rights.SERVICE),),
    revoked=(Revocation(bytes(8), T0 + 5), Revocation(PHONE.public, T0 + 6)),
)
PASS: Final = Pass(
    vehicle=CAR,
    id=bytes(range(48, 56)),
    phone_key=PHONE.public,
    reservation_id=BOOKING.id,
    start_s=T0,
    end_s=T0 + 7200,
    driver=BOOKING.driver,
    rights=Rights.DOOR | Rights.DRIVE,
    issued_at_s=T0,
    expires_s=T0 + 86400,
    made_with_version=T0 + 1,
    pickup="bazouges",
    dropoff=None,
)
REQUEST: Final = d.BoxRequest(BOX_V.public, BOX.public, PHONE.public)
ANSWER: Final = d.BoxAnswer(
    vehicle=CAR,
    request=REQUEST.digest,
    version=T0,
    roots=ROOTS,
    key_set=d.encode_key_set(KEYS, ROOT),
    card_key=bytes(range(32)),
    list_floor=2,
    technicians=(d.Technician("garage-1", bytes(range(16)), bytes(range(32))),),
    town='[car]\nmodel = "ami"\n',
    ca=b"ca",
    certificate=b"certificate",
)
STATUS: Final = d.Status(
    vehicle=CAR,
    status_seq=12,
    boot_epoch=EPOCH,
    boot_s=321.25,
    list_version=T0,
    key_set_version=7,
    software="0.1.0",
    store_id=STORE_ID,
    up_to_seq=41,
    clock_quality=ClockQuality.GNSS,
    state="available",
    since_s=float(T0),
    charging=Charging.CHARGING,
    door="locked",
    soc_pct=83.5,
    range_m=61_000,
    supply_v=12.75,
    parked_at=(48.25, -1.5),
    faults=("gps: no answer",),
    time_nonce=STORE_ID,
    health=d.Health(8123, 4, 300.5, 57.25, T0 + 86400),
)
RECORDS: Final[tuple[records.Recordable, ...]] = (
    records.Booted("0.1", 0),
    records.TripStarted(
        rental=1,
        trip=1,
        kind=records.RentalKind.BOOKING,
        reservation=BOOKING.id,
        driver=BOOKING.driver,
        credential="card",
        rule=2,
        proven=True,
        odometer_m=1000,
        soc_pct=80.0,
        station="bazouges",
    ),
    records.Track(1, 1, ((0, 4_842_000, -157_000), (60, 4_842_500, -156_500))),
    records.SupplyChanged("saving", 12.1),
    records.TripEnded(
        1,
        1,
        records.TripEndReason.LOCKED,
        401,
        12300,
        records.DistanceSource.ODOMETER,
        100,
        12200,
        13300,
        60.0,
        "hede",
        (),
    ),
    records.RentalEnded(
        1,
        records.RentalKind.BOOKING,
        BOOKING.id,
        BOOKING.driver,
        records.RentalEndReason.AT_DROPOFF,
        401,
        "boot",
        1,
        12300,
        "hede",
    ),
    records.CardCaptured(bytes(16), bytes.fromhex("04a1b2c3d4e5f6")),
    records.Parked("hede", 48.25, -1.5),
)
"""A whole rental, and what else a box may tell."""


def rows(payloads: tuple[bytes, ...], first: int = 1, before: bytes = d.GENESIS) -> tuple[d.Row, ...]:
    """Chain payloads as the store does."""
    made = []
    for seq, payload in enumerate(payloads, start=first):
        at = Instant(float(seq), float(T0 + seq), ClockQuality.RTC)
        before = d.chain_digest(before, seq, EPOCH, at, payload)
        made.append(d.Row(seq, EPOCH, at, payload, before))
    return tuple(made)


def opener(kind: DocumentType) -> d.AgreementKey:
    """Return the key that a sealed document of this kind is for."""
    return CLOUD_C if kind is DocumentType.EVENT_BATCH else BOX_V


def sealed_for(kind: DocumentType) -> str:
    """Return the car that a seal of this kind is bound to."""
    return NO_CAR if kind is DocumentType.BOX_ANSWER else CAR


@functools.cache
def honest() -> dict[DocumentType, bytes]:
    """Return an honest document of every kind that is in use."""
    batch = d.EventBatch(CAR, STORE_ID, 1, d.GENESIS, rows(tuple(map(d.encode_record, RECORDS))))
    return {
        DocumentType.KEY_SET: d.encode_key_set(KEYS, ROOT),
        DocumentType.RESERVATION_LIST: d.encode_reservation_list(LIST, CLOUD, BOX_V.public),
        DocumentType.PASS: d.encode_pass(PASS, CLOUD),
        DocumentType.COMMAND: d.encode_command(
            d.Command(CAR, STORE_ID, EPOCH, 3, 400.5, Intent.UNLOCK, BOOKING.id), CLOUD
        ),
        DocumentType.ACK: d.encode_ack(d.Ack(CAR, STORE_ID, 41, bytes(range(32))), CLOUD),
        DocumentType.RESEND: d.encode_resend(d.Resend(CAR, STORE_ID, 17), CLOUD),
        DocumentType.TIME_PROOF: d.encode_time_proof(d.TimeProof(CAR, STORE_ID, T0 + 0.5), CLOUD),
        DocumentType.EVENT_BATCH: d.encode_event_batch(batch, BOX, CLOUD_C.public),
        DocumentType.STATUS: d.encode_status(STATUS, BOX),
        DocumentType.OFFLINE: d.encode_offline(d.Offline(CAR, EPOCH), BOX),
        DocumentType.BOX_REQUEST: d.encode_box_request(REQUEST, BOX),
        DocumentType.BOX_ANSWER: d.encode_box_answer(ANSWER, CLOUD, BOX_V.public),
    }


@functools.cache
def payloads() -> dict[DocumentType, bytes]:
    """Return what each of them signs."""
    return {
        kind: cose.open_document(data, kind, sealed_for(kind), opener(kind)).payload for kind, data in honest().items()
    }


def content(kind: DocumentType) -> Any:
    """Return the map that an honest document signs."""
    return cbor.loads(payloads()[kind])


def forged(kind: DocumentType, payload: bytes) -> bytes:
    """Sign a payload with the rightful key, and seal it where its type is sealed. ``Refused``: it is too large."""
    signer = ROOT if kind is DocumentType.KEY_SET else BOX if kind in BOX_TYPES else CLOUD
    data = cose.sign1(kind, payload, signer)
    if kind not in SEALED_TYPES:
        return data
    return cose.seal(kind, sealed_for(kind), data, opener(kind).public, ephemeral=CLOUD_C, random=bytes)
