"""What is said of a document that is none, to the word, and what is just within its bounds."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
from typing import Any

import pytest

from cloud_sync import documents as d
from cloud_sync.documents import Refused, cbor, conversation, cose, down, grants, keys, up
from cloud_sync.documents.conversation import MESSAGE_MAX_BYTES, Answer, Channel, Chunk, Hello, Op, Opening, Wish
from cloud_sync.documents.kinds import DocumentType
from cloud_sync.documents.signed import check_key, check_public
from onboard.core.grants import BookingKind
from tests.document_rig import (
    BATCH,
    BOOKING,
    BOX,
    BOX_V,
    CAR,
    CASES,
    CLOUD,
    CLOUD_C,
    KEYS,
    LIST,
    PASS,
    STRANGER,
    payload_of,
)
from tests.field_edges import put

KEYS_SAID, BATCH_SAID, LIST_SAID = (
    payload_of(CASES[kind]) for kind in (DocumentType.KEY_SET, DocumentType.EVENT_BATCH, DocumentType.RESERVATION_LIST)
)


TOO_LONG = f"too_large (1): {MESSAGE_MAX_BYTES + 1} bytes, at most {MESSAGE_MAX_BYTES}"


def of_list(**changes: object) -> bytes:
    return d.encode_reservation_list(replace(LIST, **changes), CLOUD, BOX_V.public)  # type: ignore[arg-type]  # its fields


def test_a_hellos_parts_are_named() -> None:
    good = Hello(bytes(16), b"bootbo..", 0x01020304, clock_proven=True, ephemeral=BOX_V.public)
    said = good.encode()
    assert said == b"\1\1" + bytes(16) + b"bootbo.." + b"\1\2\3\4" + b"\1" + BOX_V.public
    assert Hello.decode(said) == good
    assert replace(good, clock_proven=False).encode() == said[:30] + b"\0" + said[31:]
    for flags, proven in ((0, False), (1, True), (2, False), (3, True)):
        assert Hello.decode(said[:30] + bytes([flags]) + said[31:]).clock_proven is proven
    for bad, words in (
        (said[:-1], "bad_schema (12): hello of 63 bytes, 64 are wanted"),
        (b"\2\3" + said[2:], "unknown_version (7): hello of version 2, suite 3"),
        (said[:31] + b"\4" + said[32:], "bad_schema (12): hello.ephemeral: no compressed P-256 key"),
    ):
        with pytest.raises(Refused) as caught:
            Hello.decode(bad)
        assert str(caught.value) == words


TABLES: dict[str, tuple[Callable[[], Any], str]] = {
    "a hello sealed elsewhere": (
        lambda: conversation.read_chunk(Chunk(bytes(32), 9, 1, bytes(9)).values(), "part"),
        "contradiction (20): part: beyond its document's end",
    ),
    "an opening of two": (
        lambda: Opening.decode(cbor.dumps({1: b"p", 2: bytes(8), 3: bytes(64), 4: b"c"})),
        "contradiction (20): a pass or a reference is wanted, and not both",
    ),
    "put without": (
        lambda: Wish.decode(Wish(bytes(16), Op.PUT).encode()),
        "contradiction (20): put brings a part of a document, and nothing else does",
    ),
    "two keys": (
        lambda: down.read_key_set(put(KEYS_SAID, (2,), KEYS_SAID[2] * 2)),
        "contradiction (20): two keys of one id",
    ),
    "another's id": (
        lambda: down.read_key_set(put(KEYS_SAID, (2, 0, 1), bytes(8))),
        "contradiction (20): key set.keys[0]: 0000000000000000 is not the id of its key",
    ),
    "what no such key signs": (
        lambda: down.read_key_set(put(KEYS_SAID, (2, 0, 3), [1])),
        "bad_schema (12): key set.keys[0].types: roots sign key sets, boxes their own: no key of the set may",
    ),
    "before row 1": (
        lambda: up.read_event_batch(put(BATCH_SAID, (4,), b"x" * 32)),
        "bad_chain (19): there is nothing before row 1",
    ),
    "a chain that breaks": (
        lambda: up.read_event_batch(put(BATCH_SAID, (6,), b"x" * 32)),
        "bad_chain (19): the digests up to row 2 do not fit",
    ),
    "rows out of order": (
        lambda: d.encode_event_batch(replace(BATCH, from_seq=2), BOX, CLOUD_C.public),
        "bad_chain (19): the rows do not follow one another",
    ),
    "a list of 31 days": (
        lambda: of_list(horizon_end_s=LIST.issued_at_s + 30 * 86_400 + 1),
        "bad_times (18): the horizon ends before the list begins, or more than 30 days after",
    ),
    "a list that ends first": (
        lambda: of_list(horizon_end_s=LIST.issued_at_s - 1),
        "bad_times (18): the horizon ends before the list begins, or more than 30 days after",
    ),
    "a booking of no time": (
        lambda: of_list(reservations=(replace(BOOKING, end_s=BOOKING.start_s),)),
        f"bad_times (18): reservation {BOOKING.id.hex()}: starts at or after its end",
    ),
    "a loop that ends elsewhere": (
        lambda: of_list(reservations=(replace(BOOKING, kind=BookingKind.LOOP),)),
        f"contradiction (20): reservation {BOOKING.id.hex()}: a loop ends where it began, a one-way booking elsewhere",
    ),
    "a booking twice": (
        lambda: of_list(reservations=(BOOKING, BOOKING)),
        f"contradiction (20): reservation {BOOKING.id.hex()}: twice",
    ),
    "a pass of no time": (
        lambda: d.encode_pass(replace(PASS, end_s=PASS.start_s), CLOUD),
        "bad_times (18): starts at or after its end",
    ),
    "a pass of more than a day": (
        lambda: d.encode_pass(replace(PASS, expires_s=PASS.issued_at_s + 86_401), CLOUD),
        "bad_times (18): not valid at all, or for more than 24 hours",
    ),
    "a pass that is over at once": (
        lambda: d.encode_pass(replace(PASS, expires_s=PASS.issued_at_s), CLOUD),
        "bad_times (18): not valid at all, or for more than 24 hours",
    ),
    "a key of a card that copies": (
        lambda: grants.read_list(put(LIST_SAID, (5, 0, 9, 1, 2), "uid")),
        "bad_schema (12): list.reservations[0].cards[1]: only a card of class mutual has a key",
    ),
    "an opening too long": (lambda: Opening.decode(bytes(MESSAGE_MAX_BYTES + 1)), TOO_LONG),
    "a wish too long": (lambda: Wish.decode(bytes(MESSAGE_MAX_BYTES + 1)), TOO_LONG),
    "an answer too long": (lambda: Answer.decode(bytes(MESSAGE_MAX_BYTES + 1)), TOO_LONG),
    "a seal of another's": (
        lambda: Channel(bytes(64), bytes(32), bytes(32), box=True).open(b"h", bytes(20)),
        "bad_seal (10): damaged, or not for this conversation",
    ),
    "CBOR: nothing": (lambda: cbor.loads(b""), "not_cbor (2): truncated"),
    "CBOR: cut": (lambda: cbor.loads(b"\x42x"), "not_cbor (2): truncated"),
    "CBOR: cut in a head": (lambda: cbor.loads(b"\x19\x01"), "not_cbor (2): truncated"),
    "CBOR: too much": (lambda: cbor.loads(b"\x01\x02\x03"), "not_cbor (2): 2 bytes too many"),
    "CBOR: a tag": (lambda: cbor.loads(b"\xc0\x00"), "not_cbor (2): an item that no document uses"),
    "CBOR: undefined": (lambda: cbor.loads(b"\xf7"), "not_cbor (2): an item that no document uses"),
    "CBOR: a length of 28": (lambda: cbor.loads(b"\x1c" + bytes(16)), "not_cbor (2): a length that is not given"),
    "CBOR: endless": (lambda: cbor.loads(b"\x9f\xff"), "not_cbor (2): a length that is not given"),
    "CBOR: too large": (lambda: cbor.loads(b"\x41x", 1), "too_large (1): 2 bytes, at most 1"),
    "CBOR: too deep": (lambda: cbor.loads(b"\x81" * 9 + b"\x01"), "too_large (1): nested deeper than 8"),
    "CBOR: too many": (lambda: cbor.scan(b"\x83\x01\x01\x01", 3), "too_large (1): more than 3 items"),
    "CBOR: long form": (lambda: cbor.loads(b"\x18\x01"), "not_deterministic (3): not in the shortest, sorted form"),
    "CBOR: out of order": (
        lambda: cbor.loads(b"\xa2\x02\x01\x01\x01"),
        "not_deterministic (3): not in the shortest, sorted form",
    ),
}


@pytest.mark.parametrize("what", TABLES)
def test_what_is_said_of_a_document_that_is_none(what: str) -> None:
    made, words = TABLES[what]
    with pytest.raises(Refused) as caught:
        made()
    assert str(caught.value) == words


def test_a_document_may_be_as_deep_as_large_and_of_as_many_items_as_its_bounds() -> None:
    deep = b"\x81" * 8 + b"\x01"
    assert cbor.dumps(cbor.loads(deep)) == deep
    cbor.scan(b"\x82\x01\x01", 3)
    assert cbor.loads(b"\x41x", 2) == b"x"
    with pytest.raises(Refused, match=r"^not_cbor \(2\): error decoding text string$"):
        cbor.loads(b"\x61\xff")


def test_what_is_just_within_its_bounds_is_signed() -> None:
    assert of_list(horizon_end_s=LIST.issued_at_s + 30 * 86_400)
    assert of_list(horizon_end_s=LIST.issued_at_s)
    assert d.encode_pass(replace(PASS, expires_s=PASS.issued_at_s + 86_400), CLOUD)
    assert d.encode_pass(replace(PASS, expires_s=PASS.issued_at_s + 1), CLOUD)
    assert d.encode_pass(replace(PASS, end_s=PASS.start_s + 1), CLOUD)


def test_every_field_of_an_answer_and_a_wish_has_its_number() -> None:
    part = Chunk(bytes(range(32)), 300, 7, b"part")
    said = {1: bytes(range(32)), 2: 300, 3: 7, 4: b"part"}
    answer = Answer("ok", "why", "locked", 2, bytes(range(16)), 4, 5, 6, 7, bytes(16), 9, part, 11)
    numbers = {1: "ok", 2: "why", 3: "locked", 4: 2, 5: bytes(range(16)), 6: 4, 7: 5, 8: 6, 9: 7, 10: bytes(16), 11: 9}
    assert cbor.loads(answer.encode()) == numbers | {12: said, 13: 11}
    assert Answer.decode(answer.encode()) == answer
    for wish, more in (
        (Wish(bytes(16), Op.PUT, part), {3: said}),
        (Wish(bytes(16), Op.GET, None, 8, 9), {4: 8, 5: 9}),
        (Wish(bytes(16), Op.LOCK), {}),
    ):
        assert cbor.loads(wish.encode()) == {1: bytes(16), 2: int(wish.op)} | more
        assert Wish.decode(wish.encode()) == wish


# Envelopes, signatures and keys

ACK = CASES[DocumentType.ACK]
SIGNED = cose.parse_sign1(ACK.data)
OF_LIST = cose.parse_sealed(CASES[DocumentType.RESERVATION_LIST].data)


def enveloped(protected: Any, unprotected: Any = None, payload: Any = b"x", signature: Any = bytes(64)) -> bytes:
    head = protected if isinstance(protected, bytes | int) else cbor.dumps(protected)
    return b"\xd2" + cbor.dumps([head, {} if unprotected is None else unprotected, payload, signature])


def header(kind: Any = 5, major: Any = 1, algorithm: Any = -8, kid: Any = b"12345678") -> dict[int, Any]:
    return {1: algorithm, 4: kid, -70001: [kind, major]}


SHAPE = "bad_envelope (4): not a COSE_Sign1 of the allowed shape"
HEADER = "bad_envelope (4): protected header"
STRANGERS = STRANGER.kid.hex()
ENVELOPES = {
    "nothing": (b"", "bad_envelope (4): empty"),
    "no envelope": (b"\xd1", "bad_envelope (4): no COSE document"),
    "much too large": (b"\xd2" + bytes(65_536), "too_large (1): 65537 bytes, at most 65536"),
    "a number": (b"\xd2\x01", SHAPE),
    "a signature too short": (enveloped(header(), signature=bytes(63)), SHAPE),
    "something unprotected": (enveloped(header(), {1: 2}), SHAPE),
    "no payload": (enveloped(header(), payload=None), SHAPE),
    "a header of no map": (enveloped([1]), HEADER),
    "a header without a key id": (enveloped({1: -8, -70001: [5, 1]}), HEADER),
    "a header with more": (enveloped(header() | {5: 1}), HEADER),
    "a header of words": (enveloped({"1": -8, 4: b"1", -70001: [5, 1]}), HEADER),
    "a type of one number": (enveloped(header() | {-70001: [5]}), "bad_envelope (4): type and version"),
    "a type of words": (enveloped(header("5")), "bad_envelope (4): type and version"),
    "an unknown type": (enveloped(header(99)), "unknown_type (6): 99"),
    "a newer version": (enveloped(header(major=2)), "unknown_version (7): ack of major version 2, this is 1"),
    "another algorithm": (enveloped(header(algorithm=-7)), "bad_algorithm (5): -7, only -8 is allowed here"),
    "a float": (enveloped(header(algorithm=-8.0)), "bad_algorithm (5): -8.0, only -8 is allowed here"),
    "no key id": (enveloped(header(kid=b"")), "bad_envelope (4): key id"),
    "a key id too long": (enveloped(header(kid=bytes(17))), "bad_envelope (4): key id"),
    "a key id of text": (enveloped(header(kid="1")), "bad_envelope (4): key id"),
    "an ack too large": (enveloped(header(), payload=bytes(500)), "too_large (1): ack of 594 bytes, at most 512"),
}  # fmt: skip


@pytest.mark.parametrize("what", ENVELOPES)
def test_what_is_said_of_an_envelope_that_is_none(what: str) -> None:
    data, words = ENVELOPES[what]
    with pytest.raises(Refused) as caught:
        cose.parse_sign1(data)
    assert str(caught.value) == words


@pytest.mark.parametrize("size", [1, 16])
def test_a_key_id_has_one_to_sixteen_bytes(size: int) -> None:
    assert cose.parse_sign1(enveloped(header(kid=bytes(size)))).kid == bytes(size)


def resealed(recipient: dict[int, Any], iv: bytes = OF_LIST.iv, x: bytes = OF_LIST.ephemeral[1:]) -> bytes:
    return cose._encrypt(OF_LIST.protected, iv, OF_LIST.ciphertext, cbor.dumps(recipient), x)


SEALS: dict[str, tuple[Callable[[], Any], str]] = {
    "an iv too short": (
        lambda: cose.parse_sealed(resealed({1: -25, 4: bytes(8)}, bytes(11))),
        "bad_envelope (4): not a COSE_Encrypt of the allowed shape",
    ),
    "a point too short": (
        lambda: cose.parse_sealed(resealed({1: -25, 4: bytes(8)}, x=bytes(31))),
        "bad_envelope (4): not a COSE_Encrypt of the allowed shape",
    ),
    "another agreement": (
        lambda: cose.parse_sealed(resealed({1: -26, 4: bytes(8)})),
        "bad_algorithm (5): -26, only -25 is allowed here",
    ),
    "a recipient of nine bytes": (
        lambda: cose.parse_sealed(resealed({1: -25, 4: bytes(9)})),
        "bad_envelope (4): recipient's key id",
    ),
    "a recipient of no bytes": (
        lambda: cose.parse_sealed(resealed({1: -25, 4: "12345678"})),
        "bad_envelope (4): recipient's key id",
    ),
    "another's": (
        lambda: cose.unseal(OF_LIST, CAR, CLOUD_C),
        f"other_recipient (11): sealed to key {BOX_V.kid.hex()}, ours is {CLOUD_C.kid.hex()}",
    ),
    "another car's": (lambda: cose.unseal(OF_LIST, "hede-2", BOX_V), "bad_seal (10): damaged, or not for hede-2"),
    "not sealed": (
        lambda: cose.open_document(
            cose.sign1(DocumentType.RESERVATION_LIST, b"x", CLOUD), DocumentType.RESERVATION_LIST
        ),
        "not_sealed (9): reservation_list",
    ),
    "another type": (
        lambda: cose.open_document(ACK.data, DocumentType.PASS),
        "wrong_type (8): a ack, a pass is wanted",
    ),
    "a stranger's": (
        lambda: ACK.take(d.encode_ack(ACK.value, STRANGER)),
        f"unknown_key_id (14): {STRANGERS}",
    ),
    "a key that may not": (
        lambda: ACK.take(ACK.data, keys=replace(KEYS, keys=(CLOUD.may_sign(DocumentType.PASS),))),
        f"key_not_allowed (15): {CLOUD.kid.hex()} does not sign a ack",
    ),
    "a broken signature": (
        lambda: check_key(replace(SIGNED, signature=bytes(64)), KEYS),
        f"bad_signature (16): key {CLOUD.kid.hex()}",
    ),
    "a broken signature of one key": (
        lambda: check_public(replace(SIGNED, signature=bytes(64)), (BOX.public, CLOUD.public)),
        f"bad_signature (16): key {CLOUD.kid.hex()}",
    ),
    "none of these keys": (
        lambda: check_public(SIGNED, (BOX.public, STRANGER.public)),
        f"unknown_key_id (14): {CLOUD.kid.hex()}",
    ),
    "for another car": (lambda: ACK.take(ACK.data, vehicle="hede-2"), "wrong_vehicle (17): for hede-1, this is hede-2"),
    "no key": (lambda: d.Signer.from_pem(b"x"), "bad_key_file (24): no unencrypted PKCS8 private key in PEM"),
    "another sort of key": (lambda: d.Signer.from_pem(BOX.to_pem()), "bad_key_file (24): an Ed25519 key is wanted"),
    "no P-256 key": (lambda: d.BoxSigner.from_pem(CLOUD.to_pem()), "bad_key_file (24): a P-256 key is wanted"),
}


@pytest.mark.parametrize("what", SEALS)
def test_what_is_said_of_a_seal_a_signature_or_a_key_that_does_not_hold(what: str) -> None:
    made, words = SEALS[what]
    with pytest.raises(Refused) as caught:
        made()
    assert str(caught.value) == words


def test_whom_a_document_is_sealed_to_or_nobody() -> None:
    assert cose.sealed_to(CASES[DocumentType.RESERVATION_LIST].data) == BOX_V.kid
    assert cose.sealed_to(ACK.data) == b""
    assert cose.sealed_to(b"") == b""


def test_a_proposal_is_what_a_root_would_sign_and_is_read_as_such() -> None:
    assert d.propose_key_set(KEYS) == cbor.dumps(KEYS_SAID)
    assert d.read_proposal(d.propose_key_set(KEYS)) == KEYS
    with pytest.raises(Refused, match=r"^not_cbor \(2\): truncated$"):
        d.read_proposal(b"")


def test_a_seal_for_no_car_opens_for_none_and_not_without_a_key() -> None:
    kind = DocumentType.RESERVATION_LIST
    sealed = cose.seal(kind, "", cose.sign1(kind, b"x", CLOUD), BOX_V.public)
    assert cose.open_document(sealed, kind, key=BOX_V).payload == b"x"
    with pytest.raises(ValueError, match=r"^a sealed document needs a key$"):
        cose.open_document(sealed, kind)


def test_a_document_of_the_greatest_length_is_looked_at() -> None:
    with pytest.raises(Refused, match=r"^bad_envelope \(4\): no COSE document$"):
        cose.parse_sign1(bytes(65_536))


def test_who_signs_what_is_fixed() -> None:
    for signer, kind, said in (
        (BOX, DocumentType.ACK, "a BoxSigner does not sign a ack"),
        (CLOUD, DocumentType.STATUS, "a Signer does not sign a status"),
    ):
        with pytest.raises(ValueError, match=f"^{said}$"):
            cose.sign1(kind, b"x", signer)


def test_a_private_number_lies_below_the_order_and_above_zero() -> None:
    for number in (0, keys._ORDER, 2**256 - 1):
        with pytest.raises(ValueError, match=r"^no P-256 private key$"):
            d.BoxSigner.from_bytes(number.to_bytes(32))
    for secret in (b"\x01" * 31, b"\0" * 32 + b"\1"):
        with pytest.raises(ValueError, match=r"^no P-256 private key$"):
            d.BoxSigner.from_bytes(secret)
    for number in (1, keys._ORDER - 1):
        assert d.BoxSigner.from_bytes(number.to_bytes(32)).to_bytes() == number.to_bytes(32)
