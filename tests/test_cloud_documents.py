"""Every document: there and back, and refused when truncated, flipped, oversized, older, for another car or key."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import pytest

from cloud_sync import documents as d
from cloud_sync.documents import Reason, Refused, cbor, cose, kinds
from cloud_sync.documents.kinds import BOX_TYPES, MAX_BYTES, SEALED_TYPES, DocumentType
from cloud_sync.documents.show import _READERS
from tests.document_rig import (
    BOOKING,
    BOX,
    BOX_V,
    CAR,
    CASES,
    CLOUD,
    KEYS,
    LIST,
    ROOT,
    STRANGE_AGREEMENT,
    STRANGE_BOX,
    STRANGER,
    Case,
    forge,
    payload_of,
)

EVERY = pytest.mark.parametrize("case", CASES.values(), ids=[kind.word for kind in CASES])
FOR_NO_CAR = (DocumentType.KEY_SET, DocumentType.BOX_REQUEST, DocumentType.BOX_ANSWER)
FOR_A_CAR = pytest.mark.parametrize(
    "case", [case for kind, case in CASES.items() if kind not in FOR_NO_CAR], ids=lambda case: case.kind.word
)


def refused(reason: Reason) -> pytest.RaisesExc[Refused]:
    return pytest.RaisesExc(Refused, check=lambda error: error.reason is reason)


def test_every_type_in_use_has_an_example_a_bound_and_a_reader() -> None:
    in_use = set(DocumentType) - {DocumentType.UPDATE}
    assert set(CASES) == in_use == set(_READERS)
    assert set(MAX_BYTES) == set(DocumentType)


def test_numbers_of_types_and_reasons_are_never_changed() -> None:
    assert {kind.word: kind.value for kind in DocumentType} == {
        "key_set": 1, "reservation_list": 2, "pass": 3, "command": 4, "ack": 5, "resend": 6, "time_proof": 7,
        "update": 8, "event_batch": 9, "status": 10, "offline": 11, "box_request": 12, "box_answer": 13,
    }  # fmt: skip
    assert {reason.word: reason.value for reason in Reason} == {
        "too_large": 1, "not_cbor": 2, "not_deterministic": 3, "bad_envelope": 4, "bad_algorithm": 5,
        "unknown_type": 6, "unknown_version": 7, "wrong_type": 8, "not_sealed": 9, "bad_seal": 10,
        "other_recipient": 11, "bad_schema": 12, "critical_key": 13, "unknown_key_id": 14, "key_not_allowed": 15,
        "bad_signature": 16, "wrong_vehicle": 17, "bad_times": 18, "bad_chain": 19, "contradiction": 20,
        "version_too_low": 21, "expired": 22, "bad_topic": 23, "bad_key_file": 24,
    }  # fmt: skip
    assert all(reason.meaning for reason in Reason)


@EVERY
def test_a_document_comes_back_as_it_was(case: Case) -> None:
    assert case.take(case.data) == case.value
    assert d.document_type(case.data) is case.kind


@EVERY
def test_every_single_flipped_bit_is_refused(case: Case) -> None:
    data = case.data
    for position in range(len(data) * 8):
        flipped = bytearray(data)
        flipped[position // 8] ^= 1 << position % 8
        with pytest.raises(Refused):
            case.take(bytes(flipped))


@EVERY
def test_every_truncation_is_refused(case: Case) -> None:
    data = case.data
    for length in range(len(data)):
        with pytest.raises(Refused):
            case.take(data[:length])


@EVERY
def test_a_longer_document_is_refused(case: Case) -> None:
    with refused(Reason.NOT_CBOR):
        case.take(case.data + b"\x00")
    with refused(Reason.TOO_LARGE):
        case.take(case.data + bytes(kinds.MAX_DOCUMENT_BYTES))


@EVERY
def test_a_document_beyond_the_bound_of_its_type_is_refused(case: Case, monkeypatch: pytest.MonkeyPatch) -> None:
    data = case.data
    monkeypatch.setitem(kinds.MAX_BYTES, case.kind, len(data))
    assert case.take(data) == case.value
    monkeypatch.setitem(kinds.MAX_BYTES, case.kind, len(data) - 1)
    with refused(Reason.TOO_LARGE):
        case.take(data)
    with refused(Reason.TOO_LARGE):
        assert case.data


def test_a_list_too_long_to_carry_is_not_made() -> None:
    many = tuple(replace(BOOKING, id=number.to_bytes(16, "big")) for number in range(500))
    with refused(Reason.TOO_LARGE):
        d.encode_reservation_list(replace(LIST, reservations=many), CLOUD, BOX_V.public)
    some = replace(LIST, reservations=many[:200])
    assert d.decode_reservation_list(d.encode_reservation_list(some, CLOUD, BOX_V.public), KEYS, BOX_V, CAR) == some


@EVERY
@pytest.mark.parametrize("major", [0, 2])
def test_an_older_or_newer_major_version_is_refused(case: Case, major: int, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(cose, "MAJOR", major)
    data = case.data
    monkeypatch.undo()
    with refused(Reason.UNKNOWN_VERSION):
        case.take(data)


@FOR_A_CAR
def test_a_document_for_another_car_is_refused(case: Case) -> None:
    with refused(Reason.BAD_SEAL if case.kind in SEALED_TYPES else Reason.WRONG_VEHICLE):
        case.take(case.data, vehicle="hede-2")
    inside = payload_of(case)
    inside[3 if case.kind is DocumentType.PASS else 1] = "hede-2"  # the seal says hede-1, the content another
    with refused(Reason.WRONG_VEHICLE):
        case.take(forge(case.kind, inside))


@EVERY
def test_a_document_of_an_unknown_key_is_refused(case: Case) -> None:
    stranger = STRANGE_BOX if case.kind in BOX_TYPES else STRANGER
    with refused(Reason.UNKNOWN_KEY_ID):
        case.take(forge(case.kind, payload_of(case), stranger))


@EVERY
def test_a_stranger_who_takes_a_known_key_id_is_refused(case: Case) -> None:
    stranger: Any = d.BoxSigner.generate() if case.kind in BOX_TYPES else d.Signer.generate()
    stranger.kid = (ROOT if case.kind is DocumentType.KEY_SET else BOX if case.kind in BOX_TYPES else CLOUD).kid
    with refused(Reason.BAD_SIGNATURE):
        case.take(forge(case.kind, payload_of(case), stranger))


@EVERY
def test_each_decoder_takes_its_own_type_only(case: Case) -> None:
    for other in CASES.values():
        if other.kind is not case.kind:
            with pytest.raises(Refused) as caught:
                other.take(case.data)
            allowed = {Reason.WRONG_TYPE, Reason.NOT_SEALED, Reason.BAD_ENVELOPE}
            assert caught.value.reason in allowed


def test_an_answer_whose_key_set_no_root_of_its_own_signed_is_refused() -> None:
    inside = payload_of(CASES[DocumentType.BOX_ANSWER])
    with refused(Reason.UNKNOWN_KEY_ID):
        CASES[DocumentType.BOX_ANSWER].take(forge(DocumentType.BOX_ANSWER, {**inside, 4: [STRANGER.public]}))


@pytest.mark.parametrize("wrong", [[], ["garage-1", bytes(16)], ["Garage 1", bytes(16), bytes(32)], "garage-1"])
def test_a_technician_of_the_wrong_shape_is_refused(wrong: object) -> None:
    inside = payload_of(CASES[DocumentType.BOX_ANSWER])
    with refused(Reason.BAD_SCHEMA):
        CASES[DocumentType.BOX_ANSWER].take(forge(DocumentType.BOX_ANSWER, {**inside, 8: [wrong]}))


@EVERY
def test_a_key_signs_only_the_types_it_is_listed_for(case: Case) -> None:
    if case.kind in BOX_TYPES or case.kind is DocumentType.KEY_SET:
        with refused(Reason.BAD_SCHEMA):  # no key of the set may ever sign these
            d.encode_key_set(replace(KEYS, keys=(CLOUD.may_sign(case.kind),)), ROOT)
        return
    rest = replace(KEYS, keys=(CLOUD.may_sign(*(d.AUTHORITY_TYPES - {case.kind})),))
    data = case.data
    if case.kind is DocumentType.BOX_ANSWER:  # it brings its key set itself
        data = forge(case.kind, {**payload_of(case), 5: d.encode_key_set(rest, ROOT)})
    with refused(Reason.KEY_NOT_ALLOWED):
        case.take(data, keys=rest)
    alone = replace(KEYS, keys=(CLOUD.may_sign(case.kind), STRANGER.may_sign(*d.AUTHORITY_TYPES)))
    assert case.take(case.data, keys=alone) == case.value


def test_a_sealed_type_that_comes_unsealed_is_refused() -> None:
    for kind in SEALED_TYPES:
        signed = cose.sign1(kind, cbor.dumps(payload_of(CASES[kind])), BOX if kind in BOX_TYPES else CLOUD)
        with refused(Reason.NOT_SEALED):
            CASES[kind].take(signed)


def test_a_seal_round_another_type_is_refused() -> None:
    inner = payload_of(CASES[DocumentType.ACK])
    with refused(Reason.WRONG_TYPE):
        CASES[DocumentType.RESERVATION_LIST].take(
            forge(DocumentType.ACK, inner, sealed_as=DocumentType.RESERVATION_LIST)
        )


def test_a_document_sealed_to_another_box_or_cloud_is_refused() -> None:
    for kind in SEALED_TYPES:
        with refused(Reason.OTHER_RECIPIENT):
            CASES[kind].take(CASES[kind].data, key=STRANGE_AGREEMENT)


def test_couriers_see_nothing_of_a_sealed_document() -> None:
    for kind in SEALED_TYPES:
        data = CASES[kind].data
        for secret in (b"bazouges", BOOKING.id, BOOKING.driver, CAR.encode(), CLOUD.kid, BOX.kid, b"saving"):
            assert secret not in data


def _maps(value: Any) -> list[dict[int, Any]]:
    inner = value.values() if isinstance(value, dict) else value if isinstance(value, list) else ()
    found = [one for part in inner for one in _maps(part)]
    return [value, *found] if isinstance(value, dict) else found


@EVERY
def test_an_unknown_negative_key_in_any_map_is_refused_and_another_is_ignored(case: Case) -> None:
    for index in range(len(_maps(payload_of(case)))):
        critical, harmless, text_key = payload_of(case), payload_of(case), payload_of(case)
        _maps(critical)[index][-99] = 1
        with refused(Reason.CRITICAL_KEY):
            case.take(forge(case.kind, critical))
        _maps(harmless)[index][99] = [1, {-1: 2}]
        assert case.take(forge(case.kind, harmless)) == case.value
        _maps(text_key)[index]["99"] = 1  # type: ignore[index] # the wrong sort of key is the point
        with refused(Reason.BAD_SCHEMA):
            case.take(forge(case.kind, text_key))


OPTIONAL = {DocumentType.STATUS: {15, 16, 17, 18, 20, 22}, DocumentType.BOX_ANSWER: {10, 11}}


@EVERY
def test_a_missing_field_is_refused(case: Case) -> None:
    for key in payload_of(case):
        lacking = payload_of(case)
        del lacking[key]
        if key in OPTIONAL.get(case.kind, ()):
            assert case.take(forge(case.kind, lacking)) != case.value
            continue
        with refused(Reason.BAD_SCHEMA):
            case.take(forge(case.kind, lacking))


WRONG: tuple[Any, ...] = (
    None,
    True,
    -1,
    2**63,
    1.5,
    1e300,
    "",
    "x" * 300,
    b"",
    bytes(99),
    [],
    [[]],
    [0] * 2000,
    {},
    {1: 2},
)


@EVERY
def test_a_field_of_the_wrong_type_length_or_range_is_refused(case: Case) -> None:
    tried = 0
    for index, there in enumerate(_maps(payload_of(case))):
        for key, right in there.items():
            for wrong in WRONG:
                if type(wrong) is type(right) and not _is_wrong(case.kind, wrong):
                    continue
                changed = payload_of(case)
                _maps(changed)[index][key] = wrong
                with pytest.raises(Refused):
                    case.take(forge(case.kind, changed))
                tried += 1
    assert tried > 20


def _is_wrong(kind: DocumentType, wrong: Any) -> bool:
    """Whether a value of the right type can still be told to be wrong: an empty list or text, say, may be right."""
    if isinstance(wrong, str):
        return bool(wrong) and kind not in {DocumentType.STATUS, DocumentType.BOX_ANSWER}
    if isinstance(wrong, bytes) and kind is DocumentType.BOX_ANSWER:
        return not wrong
    if isinstance(wrong, list):
        return len(wrong) > 1
    return not isinstance(wrong, bool | float | dict)


@EVERY
@pytest.mark.parametrize("payload", [None, 1, [], "x", b"x", [1, 2], {}], ids=repr)
def test_a_payload_that_is_no_such_map_is_refused(case: Case, payload: Any) -> None:
    with refused(Reason.BAD_SCHEMA):
        case.take(forge(case.kind, cbor.dumps(payload)))


@EVERY
def test_a_signed_payload_is_bounded_like_everything_else(case: Case) -> None:
    for reason, payload in (
        (Reason.NOT_CBOR, b""),
        (Reason.NOT_CBOR, b"\xa1"),
        (Reason.TOO_LARGE, b"\x81" * 50),
        (Reason.NOT_CBOR, b"\xa2\x01\x01\x01\x01"),
        (Reason.NOT_DETERMINISTIC, b"\xa2\x02\x01\x01\x01"),
    ):
        with refused(reason):
            case.take(forge(case.kind, payload))


def test_schema_is_judged_before_the_signature_and_meaning_after_it() -> None:
    inside = payload_of(CASES[DocumentType.PASS])
    with refused(Reason.UNKNOWN_KEY_ID):
        d.decode_pass(forge(DocumentType.PASS, {**inside, 3: "hede-2"}, STRANGER), KEYS, CAR)
    del inside[4]
    with refused(Reason.BAD_SCHEMA):
        d.decode_pass(forge(DocumentType.PASS, inside, STRANGER), KEYS, CAR)
