"""Who may do what: the reservation list (sealed to the box) and the pass in a phone (a CWT, RFC 8392 and 8747)."""

from __future__ import annotations

from typing import Any, Final

from cloud_sync.documents import cbor, cose, schema
from cloud_sync.documents.card_keys import SLOT_MAX
from cloud_sync.documents.keys import AgreementKey, KeySet, Signer
from cloud_sync.documents.kinds import DocumentType, Reason, Refused
from cloud_sync.documents.schema import Fields, filled
from cloud_sync.documents.signed import DAY_S, check_key, check_vehicle, from_authority, make
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

HORIZON_MAX_S: Final = 30 * DAY_S
PASS_LIFE_MAX_S: Final = DAY_S

_MAX_RESERVATIONS, _MAX_STAFF, _MAX_REVOKED, _MAX_CREDENTIALS = 512, 64, 1024, 8
_KNOWN_RIGHTS: Final = Rights.DOOR | Rights.DRIVE | Rights.SERVICE
_MAX_STATION_BYTES: Final = 64

_SUBJECT_BOUNDS: Final = (8, 16)
"""A reservation's id has 16 bytes, a member of staff's 8 to 16."""

# CWT claims (RFC 8392 section 4) and the confirmation method (RFC 8747 section 3.1); the last label is private, ours.
_AUD, _EXP, _IAT, _CTI, _CNF, _COSE_KEY, _BOOKING = 3, 4, 6, 7, 8, 1, -70002


def encode_reservation_list(listed: ReservationList, signer: Signer, box_public: bytes) -> bytes:
    """Sign a list and seal it to the box's key V (33 bytes).

    Raises ``Refused`` for a list that the box would refuse, ``TOO_LARGE`` above all: then shorten the horizon.
    """
    inner = make(
        DocumentType.RESERVATION_LIST, _write_list(listed), lambda value: _judge_list(read_list(value)), signer
    )
    return cose.seal(DocumentType.RESERVATION_LIST, listed.vehicle, inner, box_public)


def decode_reservation_list(data: bytes, key_set: KeySet, box: AgreementKey, vehicle: str) -> ReservationList:
    """Open a list, or raise ``Refused``. Whether its version is new enough is the core's to say."""
    signed = cose.open_document(data, DocumentType.RESERVATION_LIST, vehicle, box)
    listed = read_list(cbor.loads(signed.payload))
    check_key(signed, key_set)
    check_vehicle(listed.vehicle, vehicle)
    _judge_list(listed)
    return listed


def encode_pass(grant: Pass, signer: Signer) -> bytes:
    """Sign a pass. Raises ``Refused`` for one that a box would refuse."""
    return make(DocumentType.PASS, _write_pass(grant), lambda value: _judge_pass(read_pass(value)), signer)


def decode_pass(data: bytes, key_set: KeySet, vehicle: str) -> Pass:
    """Check a pass, or raise ``Refused``. Whether its time is now, and its place by rule 3, is the core's to say."""
    grant = from_authority(data, DocumentType.PASS, read_pass, key_set)
    check_vehicle(grant.vehicle, vehicle)
    _judge_pass(grant)
    return grant


def _write_list(listed: ReservationList) -> dict[int, Any]:
    return {
        1: listed.vehicle,
        2: listed.version,
        3: listed.issued_at_s,
        4: listed.horizon_end_s,
        5: [_write_reservation(reservation) for reservation in listed.reservations],
        6: [
            {
                1: staff.id,
                2: staff.not_after_s,
                3: list(staff.phone_keys),
                4: [_write_card(card) for card in staff.cards],
                5: int(staff.rights),
            }
            for staff in listed.staff
        ],
        7: [{1: revoked.what, 2: revoked.until_s} for revoked in listed.revoked],
    }


def _write_reservation(reservation: Reservation) -> dict[int, Any]:
    return filled(
        {
            1: reservation.id,
            2: reservation.start_s,
            3: reservation.end_s,
            4: reservation.pickup,
            5: reservation.dropoff,
            6: reservation.kind.value,
            7: reservation.driver,
            8: list(reservation.phone_keys),
            9: [_write_card(card) for card in reservation.cards],
            10: int(reservation.rights),
            11: reservation.trace,
        }
    )


def _write_card(card: CardGrant) -> dict[int, Any]:
    return filled({1: card.ref, 2: card.assurance.value, 3: card.key, 4: card.slot})


def read_list(value: Any) -> ReservationList:
    """Check a list's schema."""
    left = Fields(value, "list")
    listed = ReservationList(
        vehicle=left.need(1, "vehicle", schema.vehicle_id),
        version=left.need(2, "version", schema.uint),
        issued_at_s=left.need(3, "issued_at", schema.uint, schema.MAX_TIME_S),
        horizon_end_s=left.need(4, "horizon_end", schema.uint, schema.MAX_TIME_S),
        reservations=left.need(5, "reservations", schema.items, _MAX_RESERVATIONS, _read_reservation),
        staff=left.need(6, "staff", schema.items, _MAX_STAFF, _read_staff),
        revoked=left.need(7, "revoked", schema.items, _MAX_REVOKED, _read_revocation),
    )
    left.done()
    return listed


def _read_reservation(value: Any, where: str) -> Reservation:
    left = Fields(value, where)
    reservation = Reservation(
        id=left.need(1, "id", schema.octets, 16),
        start_s=left.need(2, "start", schema.uint, schema.MAX_TIME_S),
        end_s=left.need(3, "end", schema.uint, schema.MAX_TIME_S),
        pickup=left.need(4, "pickup", schema.text, _MAX_STATION_BYTES, 1),
        dropoff=left.may(5, "dropoff", schema.text, _MAX_STATION_BYTES, 1),
        kind=left.need(6, "kind", schema.word, BookingKind),
        driver=left.need(7, "driver", schema.octets, 8),
        phone_keys=left.need(8, "phone_keys", schema.items, _MAX_CREDENTIALS, schema.point),
        cards=left.need(9, "cards", schema.items, _MAX_CREDENTIALS, _read_card),
        rights=left.need(10, "rights", _read_rights),
        trace=left.need(11, "trace", schema.flag),
    )
    left.done()
    return reservation


def _read_staff(value: Any, where: str) -> StaffGrant:
    left = Fields(value, where)
    staff = StaffGrant(
        id=left.need(1, "id", schema.short_octets, *_SUBJECT_BOUNDS),
        not_after_s=left.need(2, "not_after", schema.uint, schema.MAX_TIME_S),
        phone_keys=left.need(3, "phone_keys", schema.items, _MAX_CREDENTIALS, schema.point),
        cards=left.need(4, "cards", schema.items, _MAX_CREDENTIALS, _read_card),
        rights=left.need(5, "rights", _read_rights),
    )
    left.done()
    return staff


def _read_card(value: Any, where: str) -> CardGrant:
    left = Fields(value, where)
    card = CardGrant(
        ref=left.need(1, "ref", schema.octets, 8),
        assurance=left.need(2, "assurance", schema.word, Assurance),
        key=left.may(3, "key", schema.octets, 16),
        slot=left.may(4, "slot", schema.uint, SLOT_MAX, 1),
    )
    left.done()
    if card.key is not None and card.assurance is not Assurance.MUTUAL:
        raise schema.bad(where, "only a card of class mutual has a key")
    if (card.key is None) != (card.slot is None):
        raise schema.bad(where, "a card's key has a slot, and the other way round")
    return card


def _read_revocation(value: Any, where: str) -> Revocation:
    left = Fields(value, where)
    revoked = Revocation(
        what=left.need(1, "what", schema.octets, 8, 33),
        until_s=left.need(2, "until", schema.uint, schema.MAX_TIME_S),
    )
    left.done()
    return revoked


def _read_rights(value: Any, where: str) -> Rights:
    """A right that this version does not know grants nothing here."""
    return Rights(schema.uint(value, where, 0xFFFF)) & _KNOWN_RIGHTS


def _judge_list(listed: ReservationList) -> None:
    if not listed.issued_at_s <= listed.horizon_end_s <= listed.issued_at_s + HORIZON_MAX_S:
        raise Refused(Reason.BAD_TIMES, "the horizon ends before the list begins, or more than 30 days after")
    seen: set[bytes] = set()
    for reservation in listed.reservations:
        where = f"reservation {reservation.id.hex()}"
        if reservation.start_s >= reservation.end_s:
            raise Refused(Reason.BAD_TIMES, f"{where}: starts at or after its end")
        if (reservation.kind is BookingKind.ONE_WAY) != (reservation.return_station != reservation.pickup):
            raise Refused(Reason.CONTRADICTION, f"{where}: a loop ends where it began, a one-way booking elsewhere")
        if reservation.id in seen:
            raise Refused(Reason.CONTRADICTION, f"{where}: twice")
        seen.add(reservation.id)


def _write_pass(grant: Pass) -> dict[int, Any]:
    return {
        _AUD: grant.vehicle,
        _EXP: grant.expires_s,
        _IAT: grant.issued_at_s,
        _CTI: grant.id,
        _CNF: {_COSE_KEY: {1: 2, -1: 1, -2: grant.phone_key[1:], -3: grant.phone_key[0] == 3}},
        _BOOKING: filled(
            {
                1: grant.reservation_id,
                2: grant.start_s,
                3: grant.end_s,
                4: grant.driver,
                5: int(grant.rights),
                6: grant.made_with_version,
                7: grant.pickup,
                8: grant.dropoff,
            }
        ),
    }


def unproven_pass(data: bytes) -> Pass:
    """Return what a pass says though nobody knows who signed it: it grants nothing. Raises ``Refused``."""
    grant = read_pass(cbor.loads(cose.open_document(data, DocumentType.PASS).payload))
    _judge_pass(grant)
    return grant


def read_pass(value: Any) -> Pass:
    """Check a pass's schema."""
    left = Fields(value, "pass")
    booking = left.need(_BOOKING, "booking", Fields)
    grant = Pass(
        vehicle=left.need(_AUD, "aud", schema.vehicle_id),
        id=left.need(_CTI, "cti", schema.octets, 8),
        phone_key=left.need(_CNF, "cnf", _read_confirmation),
        reservation_id=booking.need(1, "reservation", schema.octets, 16),
        start_s=booking.need(2, "start", schema.uint, schema.MAX_TIME_S),
        end_s=booking.need(3, "end", schema.uint, schema.MAX_TIME_S),
        driver=booking.need(4, "driver", schema.octets, 8),
        rights=booking.need(5, "rights", _read_rights),
        issued_at_s=left.need(_IAT, "iat", schema.uint, schema.MAX_TIME_S),
        expires_s=left.need(_EXP, "exp", schema.uint, schema.MAX_TIME_S),
        made_with_version=booking.need(6, "g", schema.uint),
        pickup=booking.need(7, "pickup", schema.text, _MAX_STATION_BYTES, 1),
        dropoff=booking.may(8, "dropoff", schema.text, _MAX_STATION_BYTES, 1),
    )
    booking.done()
    left.done()
    return grant


def _read_confirmation(value: Any, where: str) -> bytes:
    """A COSE_Key of P-256, compressed: the phone key."""
    outer = Fields(value, where)
    key = outer.need(_COSE_KEY, "COSE_Key", Fields)
    kind, curve = key.need(1, "kty", schema.uint), key.need(-1, "crv", schema.uint)
    x, odd = key.need(-2, "x", schema.octets, 32), key.need(-3, "y", schema.flag)
    key.done()
    outer.done()
    if (kind, curve) != (2, 1):
        raise schema.bad(where, "a P-256 key is wanted")
    return (b"\x03" if odd else b"\x02") + x


def _judge_pass(grant: Pass) -> None:
    if grant.start_s >= grant.end_s:
        raise Refused(Reason.BAD_TIMES, "starts at or after its end")
    if not grant.issued_at_s < grant.expires_s <= grant.issued_at_s + PASS_LIFE_MAX_S:
        raise Refused(Reason.BAD_TIMES, "not valid at all, or for more than 24 hours")
