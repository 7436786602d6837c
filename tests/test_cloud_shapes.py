"""What is readable and yet nothing that a box or a phone may go by: each such shape is refused in its words."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import pytest

from cloud_sync.documents import Reason, Refused, cbor, cose
from cloud_sync.documents.card_keys import diversify
from cloud_sync.documents.conversation import (
    CHUNK_MAX_BYTES,
    MESSAGE_MAX_BYTES,
    Chunk,
    Hello,
    Op,
    Opening,
    Wish,
    framed,
    read_chunk,
)
from cloud_sync.documents.kinds import DocumentType
from cloud_sync.documents.records import Row
from cloud_sync.documents.show import plain
from onboard.core.clock import ClockQuality, Instant
from onboard.core.gatt import GattRefused
from onboard.core.grants import Assurance
from tests.document_rig import BOX_V, CAR, CASES, CLOUD, forge, payload_of
from tests.handshake_rig import wish
from tests.test_cloud_documents import refused

HELLO = Hello(bytes(16), bytes(8), 0, clock_proven=True, ephemeral=BOX_V.public)
PART = Chunk(bytes(32), 10, 0, bytes(10))


def test_a_hello_has_one_length_version_and_suite() -> None:
    good = HELLO.encode()
    assert Hello.decode(good) == HELLO
    for bad in (good[:-1], good + b"\0", b""):
        with refused(Reason.BAD_SCHEMA):
            Hello.decode(bad)
    for bad in (b"\2" + good[1:], good[:1] + b"\2" + good[2:]):
        with refused(Reason.UNKNOWN_VERSION):
            Hello.decode(bad)


@pytest.mark.parametrize(("grant", "reference"), [(b"", b""), (b"pass", bytes(range(8)))])
def test_an_opening_names_a_pass_or_a_reference_and_not_both(grant: bytes, reference: bytes) -> None:
    which = ({1: grant} if grant else {}) | ({2: reference} if reference else {})
    with refused(Reason.CONTRADICTION):
        Opening.decode(cbor.dumps(which | {3: bytes(64), 4: b"command"}))


def test_a_part_ends_within_its_document() -> None:
    assert read_chunk(PART.values(), "part") == PART
    with refused(Reason.CONTRADICTION):
        read_chunk(replace(PART, offset=1).values(), "part")


def test_put_brings_a_part_and_nothing_else_does() -> None:
    assert Wish.decode(wish(Op.PUT, chunk=PART).encode()).chunk == PART
    for bad in (wish(Op.PUT), wish(Op.UNLOCK, chunk=PART)):
        with refused(Reason.CONTRADICTION):
            Wish.decode(bad.encode())


def test_a_message_has_a_byte_and_no_more_than_its_bound() -> None:
    assert framed(b"x") == b"\0\1x"
    assert len(framed(bytes(MESSAGE_MAX_BYTES))) == MESSAGE_MAX_BYTES + 2
    for size in (0, MESSAGE_MAX_BYTES + 1):
        with pytest.raises(ValueError, match=f"a message of {size} bytes, 1 to {MESSAGE_MAX_BYTES} are possible"):
            framed(bytes(size))
    assert CHUNK_MAX_BYTES < MESSAGE_MAX_BYTES


@pytest.mark.parametrize("kid", [bytes(7), "recipient", 8])
def test_who_a_seal_is_for_is_named_in_eight_bytes(kid: Any) -> None:
    kind = DocumentType.RESERVATION_LIST
    sealed = cose.parse_sealed(cose.seal(kind, CAR, b"secret", BOX_V.public))
    named = cbor.dumps({1: cose.ECDH_ES_HKDF_256, 4: kid})
    with refused(Reason.BAD_ENVELOPE):
        cose.parse_sealed(cose._encrypt(sealed.protected, sealed.iv, sealed.ciphertext, named, sealed.ephemeral[1:]))


def test_a_sealed_document_is_not_opened_without_a_key() -> None:
    case = CASES[DocumentType.RESERVATION_LIST]
    with pytest.raises(ValueError, match="a sealed document needs a key"):
        cose.open_document(case.data, case.kind, CAR, None)


@pytest.mark.parametrize("card", [{3: bytes(16)}, {4: 1}])
def test_a_cards_key_has_a_slot_and_the_other_way_round(card: dict[int, Any]) -> None:
    kind = DocumentType.RESERVATION_LIST
    inside = payload_of(CASES[kind])
    inside[5][0][9] = [{1: bytes(8), 2: Assurance.MUTUAL.value} | card]
    with refused(Reason.BAD_SCHEMA):
        CASES[kind].take(forge(kind, inside, CLOUD))


def test_a_row_that_was_dropped_or_can_not_be_read_is_shown_as_that() -> None:
    at = Instant(1.0, 2.0, ClockQuality.GNSS)
    assert plain(Row(3, bytes(8), at, b"", bytes(32)))["kind"] == "dropped"
    shown = plain(Row(3, bytes(8), at, b"\xff", b""))
    assert (shown["seq"], shown["kind"], shown["payload"]) == (3, "unreadable", "ff")
    assert "not_cbor" in shown["why"]


@pytest.mark.parametrize(("master", "size"), [(bytes(15), 1), (bytes(16), 0), (bytes(16), 32)])
def test_a_cards_key_is_made_of_a_key_and_of_1_to_31_bytes(master: bytes, size: int) -> None:
    with pytest.raises(ValueError, match="bytes"):
        diversify(master, bytes(size))


@pytest.mark.parametrize("code", [0x7F, 0xA0])
def test_a_refusal_over_the_air_has_one_of_the_applications_codes(code: int) -> None:
    with pytest.raises(ValueError, match=f"not {code:#x}"):
        GattRefused(code)
    assert str(GattRefused(0x80)) == "0x80"
    assert str(GattRefused(0x9F, "why")) == "0x9f: why"


def test_refusals_say_their_number_and_word() -> None:
    assert str(Refused(Reason.BAD_TIMES)) == "bad_times (18)"
    assert str(Refused(Reason.BAD_TIMES, "a day")) == "bad_times (18): a day"
