"""Every document: there and back, and refused when truncated, flipped, oversized, older, for another car or key."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import fields, replace
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from cloud_sync import documents as d
from cloud_sync.documents import Reason, Refused, cbor, cose, kinds
from cloud_sync.documents.kinds import BOX_TYPES, MAX_BYTES, SEALED_TYPES, DocumentType
from cloud_sync.documents.show import _READERS
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
)
from onboard.core.grants import StaffGrant as Staff
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
    OTHER_ROOT,
    PASS,
    ROOT,
    STRANGE_AGREEMENT,
    STRANGE_BOX,
    STRANGER,
    T0,
    Case,
    forge,
    payload_of,
    rows,
)

EVERY = pytest.mark.parametrize("case", CASES.values(), ids=[kind.word for kind in CASES])
FOR_A_CAR = pytest.mark.parametrize(
    "case", [case for kind, case in CASES.items() if kind is not DocumentType.KEY_SET], ids=lambda case: case.kind.word
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
        "update": 8, "event_batch": 9, "status": 10, "offline": 11,
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


@EVERY
def test_a_key_signs_only_the_types_it_is_listed_for(case: Case) -> None:
    if case.kind in BOX_TYPES or case.kind is DocumentType.KEY_SET:
        with refused(Reason.BAD_SCHEMA):  # no key of the set may ever sign these
            d.encode_key_set(replace(KEYS, keys=(CLOUD.may_sign(case.kind),)), ROOT)
        return
    rest = replace(KEYS, keys=(CLOUD.may_sign(*(d.AUTHORITY_TYPES - {case.kind})),))
    with refused(Reason.KEY_NOT_ALLOWED):
        case.take(case.data, keys=rest)
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


OPTIONAL = {DocumentType.STATUS: {15, 16, 17, 18, 20}}


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
        return bool(wrong) and kind is not DocumentType.STATUS
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


# ── key sets ──


def test_either_root_signs_a_key_set_and_nobody_else() -> None:
    from_roots = (ROOT.public, OTHER_ROOT.public)
    assert d.decode_key_set(d.encode_key_set(KEYS, OTHER_ROOT), from_roots) == KEYS
    with refused(Reason.UNKNOWN_KEY_ID):
        d.decode_key_set(d.encode_key_set(KEYS, OTHER_ROOT), (ROOT.public,))
    with refused(Reason.UNKNOWN_KEY_ID):
        d.decode_key_set(d.encode_key_set(KEYS, CLOUD), from_roots)
    with refused(Reason.UNKNOWN_KEY_ID):
        d.decode_key_set(d.encode_key_set(KEYS, ROOT), ())


def test_a_key_set_may_name_types_of_a_later_version_but_no_key_twice() -> None:
    inside = payload_of(CASES[DocumentType.KEY_SET])
    inside[2][0][3].append(77)
    assert d.decode_key_set(forge(DocumentType.KEY_SET, inside), (ROOT.public,)) == KEYS
    inside[2].append(inside[2][0])
    with refused(Reason.CONTRADICTION):
        d.decode_key_set(forge(DocumentType.KEY_SET, inside), (ROOT.public,))


# ── meaning ──


@pytest.mark.parametrize(
    ("reason", "bad"),
    [
        (Reason.BAD_TIMES, replace(LIST, horizon_end_s=T0 + 30 * 86400 + 1)),
        (Reason.BAD_TIMES, replace(LIST, horizon_end_s=T0 - 1)),
        (Reason.BAD_TIMES, replace(LIST, reservations=(replace(BOOKING, end_s=BOOKING.start_s),))),
        (Reason.CONTRADICTION, replace(LIST, reservations=(BOOKING, BOOKING))),
        (Reason.CONTRADICTION, replace(LIST, reservations=(replace(BOOKING, dropoff=None),))),
        (Reason.CONTRADICTION, replace(LIST, reservations=(replace(BOOKING, kind=BookingKind.LOOP),))),
    ],
)
def test_a_list_that_cannot_be_meant_is_neither_made_nor_taken(
    reason: Reason, bad: ReservationList, monkeypatch: pytest.MonkeyPatch
) -> None:
    with refused(reason):
        d.encode_reservation_list(bad, CLOUD, BOX_V.public)
    with monkeypatch.context() as patch:
        patch.setattr("cloud_sync.documents.grants._judge_list", lambda _: None)
        data = d.encode_reservation_list(bad, CLOUD, BOX_V.public)
    with refused(reason):
        d.decode_reservation_list(data, KEYS, BOX_V, CAR)


@pytest.mark.parametrize(
    "bad",
    [
        replace(PASS, expires_s=T0 + 86401),
        replace(PASS, expires_s=T0),
        replace(PASS, expires_s=T0 - 1),
        replace(PASS, start_s=PASS.end_s),
    ],
)
def test_a_pass_lives_a_day_at_most(bad: Pass, monkeypatch: pytest.MonkeyPatch) -> None:
    with refused(Reason.BAD_TIMES):
        d.encode_pass(bad, CLOUD)
    with monkeypatch.context() as patch:
        patch.setattr("cloud_sync.documents.grants._judge_pass", lambda _: None)
        data = d.encode_pass(bad, CLOUD)
    with refused(Reason.BAD_TIMES):
        d.decode_pass(data, KEYS, CAR)


def test_a_pass_fits_one_value_over_the_air() -> None:
    longest = replace(PASS, vehicle="a" * 32, pickup="b" * 64, dropoff="c" * 64, made_with_version=2**63 - 1)
    assert len(d.encode_pass(PASS, CLOUD)) < 256
    assert len(d.encode_pass(longest, CLOUD)) <= 512


def test_only_a_card_of_class_mutual_has_a_key_and_rights_of_later_versions_grant_nothing() -> None:
    inside = payload_of(CASES[DocumentType.RESERVATION_LIST])
    inside[5][0][10] |= 0x80
    take = CASES[DocumentType.RESERVATION_LIST].take
    assert take(forge(DocumentType.RESERVATION_LIST, inside)) == LIST
    inside[5][0][9][0][3] = bytes(16)
    with refused(Reason.BAD_SCHEMA):
        take(forge(DocumentType.RESERVATION_LIST, inside))


def test_a_cards_tap_is_no_command() -> None:
    command = CASES[DocumentType.COMMAND].value
    with refused(Reason.BAD_SCHEMA):
        d.encode_command(replace(command, action=Intent.TAP), CLOUD)


@pytest.mark.parametrize("bad", ["", "a" * 33, "Hede", "hede/1", "hede+", "#", "héde", "a b", "a\n"])
def test_a_vehicle_id_holds_nothing_that_a_topic_would_take_for_itself(bad: str) -> None:
    with refused(Reason.BAD_SCHEMA):
        d.encode_resend(d.Resend(bad, bytes(16), 1), CLOUD)


# ── batches ──


def _sent(batch: d.EventBatch) -> d.EventBatch:
    return d.decode_event_batch(d.encode_event_batch(batch, BOX, CLOUD_C.public), CLOUD_C, BOX.public, CAR)


def test_a_row_dropped_for_room_carries_the_chain_over_the_hole() -> None:
    first, second = BATCH.rows
    third = rows(d.decode_record(second.payload), first=3, before=second.digest)  # type: ignore[arg-type] # known kind
    holed = replace(BATCH, rows=(first, replace(second, payload=b""), *third))
    assert _sent(holed) == holed
    later = replace(BATCH, from_seq=3, prev_digest=second.digest, rows=third)
    assert _sent(later) == later


@pytest.mark.parametrize(
    "bad",
    [
        replace(BATCH, from_seq=2),
        replace(BATCH, rows=BATCH.rows[::-1]),
        replace(BATCH, prev_digest=bytes([1]) * 32),
        replace(BATCH, rows=(BATCH.rows[0], replace(BATCH.rows[1], payload=BATCH.rows[0].payload))),
        replace(BATCH, rows=(BATCH.rows[0], replace(BATCH.rows[1], digest=bytes(32)))),
        replace(BATCH, rows=(BATCH.rows[0], replace(BATCH.rows[1], at=Instant(0.5, 1.0, ClockQuality.RTC)))),
        replace(BATCH, rows=(BATCH.rows[0], replace(BATCH.rows[1], boot_epoch=bytes(8)))),
        replace(BATCH, rows=(replace(BATCH.rows[0], at=Instant(1.0, T0 + 1, ClockQuality.GNSS)), BATCH.rows[1])),
    ],
)
def test_rows_that_do_not_follow_one_another_are_refused(bad: d.EventBatch) -> None:
    with refused(Reason.BAD_CHAIN):
        _sent(bad)


def test_a_batch_has_rows_and_a_row_is_whole_or_dropped() -> None:
    with refused(Reason.BAD_SCHEMA):
        _sent(replace(BATCH, rows=()))
    changes: tuple[Callable[[list[Any]], Any], ...] = (
        lambda row: row.append(bytes(32)),
        lambda row: row.pop(),
        lambda row: row.__setitem__(4, b""),
        lambda row: row.__setitem__(4, bytes(4097)),
        lambda row: row.__setitem__(3, 9),
        lambda row: row.__setitem__(1, 5),
        lambda row: row.__setitem__(2, float("nan")),
        lambda row: row.__setitem__(2, -1.0),
        lambda row: row.__setitem__(0, bytes(7)),
    )
    for change in changes:
        inside = payload_of(CASES[DocumentType.EVENT_BATCH])
        change(inside[5][0])
        with refused(Reason.BAD_SCHEMA):
            CASES[DocumentType.EVENT_BATCH].take(forge(DocumentType.EVENT_BATCH, inside))


def test_a_status_with_long_texts_is_cut_and_not_lost() -> None:
    status = replace(CASES[DocumentType.STATUS].value, faults=("é" * 200,) * 40, software="v" * 99)
    found = d.decode_status(d.encode_status(replace(status, faults=status.faults[:12]), BOX), BOX.public, CAR)
    assert found.software == "v" * 64
    assert found.faults == ("é" * 128,) * 12


# ── anything that can be said comes back ──

IDS = st.binary(min_size=16, max_size=16)
EIGHT = st.binary(min_size=8, max_size=8)
TIMES = st.integers(0, 2**40 - 86400 * 31)
COUNTS = st.integers(1, 2**62)
SECONDS = st.floats(0, 2**40)
STATIONS = st.text(min_size=1, max_size=16)
POINTS = st.tuples(st.sampled_from([b"\x02", b"\x03"]), st.binary(min_size=32, max_size=32)).map(b"".join)
RIGHTS = st.integers(0, 7).map(Rights)
CARDS = st.builds(CardGrant, EIGHT, st.just(Assurance.UID)) | st.builds(
    CardGrant, EIGHT, st.just(Assurance.MUTUAL), st.none() | IDS
)
KEYS_OF = st.lists(POINTS, max_size=3).map(tuple)
CARDS_OF = st.lists(CARDS, max_size=3).map(tuple)


@st.composite
def reservations(draw: st.DrawFn) -> Reservation:
    start, kind, pickup = draw(TIMES), draw(st.sampled_from(BookingKind)), draw(STATIONS)
    other = STATIONS.filter(lambda station: station != pickup)
    dropoff = draw(other) if kind is BookingKind.ONE_WAY else draw(st.sampled_from([None, pickup]))
    end = start + draw(st.integers(1, 10**6))
    who = draw(EIGHT), draw(KEYS_OF), draw(CARDS_OF)
    return Reservation(draw(IDS), start, end, pickup, dropoff, kind, *who, draw(RIGHTS), draw(st.booleans()))


@st.composite
def lists(draw: st.DrawFn) -> ReservationList:
    issued = draw(TIMES)
    horizon = issued + draw(st.integers(0, 30 * 86400))
    booked = tuple(draw(st.lists(reservations(), max_size=4, unique_by=lambda one: one.id)))
    staff = st.builds(Staff, st.binary(min_size=8, max_size=16), TIMES, KEYS_OF, CARDS_OF, RIGHTS)
    revoked = st.builds(Revocation, EIGHT | POINTS, TIMES)
    helpers, gone = draw(st.lists(staff, max_size=3)), draw(st.lists(revoked, max_size=3))
    return ReservationList(CAR, draw(COUNTS), issued, horizon, booked, tuple(helpers), tuple(gone))


@st.composite
def passes(draw: st.DrawFn) -> Pass:
    start, issued = draw(TIMES), draw(TIMES)
    end, expires = start + draw(st.integers(1, 10**6)), issued + draw(st.integers(1, 86400))
    who = draw(EIGHT), draw(POINTS), draw(IDS), start, end, draw(EIGHT), draw(RIGHTS)
    return Pass(CAR, *who, issued, expires, draw(COUNTS), draw(STATIONS), draw(st.none() | STATIONS))


@st.composite
def batches(draw: st.DrawFn) -> d.EventBatch:
    first = draw(COUNTS)
    before = previous = d.GENESIS if first == 1 else draw(st.binary(min_size=32, max_size=32))
    made = []
    for seq in range(first, first + draw(st.integers(1, 6))):
        at = Instant(draw(st.floats(0, 1e10)), draw(SECONDS), draw(st.sampled_from(ClockQuality)))
        epoch, payload, keep = draw(EIGHT), draw(st.binary(min_size=1, max_size=50)), draw(st.booleans())
        previous = d.chain_digest(previous, seq, epoch, at, payload)
        made.append(d.Row(seq, epoch, at, payload if keep else b"", previous))
    return d.EventBatch(CAR, draw(IDS), first, before, tuple(made))


WORDS = st.text(min_size=1, max_size=10)
ANY_OF: dict[DocumentType, st.SearchStrategy[Any]] = {
    DocumentType.KEY_SET: st.builds(
        d.KeySet,
        COUNTS,
        st.lists(
            st.builds(
                d.AuthorityKey,
                st.binary(min_size=1, max_size=16),
                st.binary(min_size=32, max_size=32),
                st.frozensets(st.sampled_from(sorted(d.AUTHORITY_TYPES))),
            ),
            max_size=4,
            unique_by=lambda key: key.kid,
        ).map(tuple),
        POINTS,
    ),
    DocumentType.RESERVATION_LIST: lists(),
    DocumentType.PASS: passes(),
    DocumentType.COMMAND: st.builds(
        d.Command,
        st.just(CAR),
        IDS,
        EIGHT,
        COUNTS,
        SECONDS,
        st.sampled_from([Intent.UNLOCK, Intent.LOCK, Intent.FINISH]),
        st.binary(min_size=8, max_size=16),
    ),
    DocumentType.ACK: st.builds(d.Ack, st.just(CAR), IDS, COUNTS, st.binary(min_size=32, max_size=32)),
    DocumentType.RESEND: st.builds(d.Resend, st.just(CAR), IDS, COUNTS),
    DocumentType.TIME_PROOF: st.builds(d.TimeProof, st.just(CAR), IDS, SECONDS),
    DocumentType.EVENT_BATCH: batches(),
    DocumentType.STATUS: st.builds(
        d.Status,
        vehicle=st.just(CAR),
        status_seq=COUNTS,
        boot_epoch=EIGHT,
        boot_s=st.floats(0, 1e10),
        list_version=COUNTS,
        key_set_version=COUNTS,
        software=WORDS,
        store_id=IDS,
        up_to_seq=COUNTS,
        clock_quality=st.sampled_from(ClockQuality),
        state=WORDS,
        since_s=SECONDS,
        charging=st.sampled_from(Charging),
        door=WORDS,
        soc_pct=st.none() | st.floats(0, 100),
        range_m=st.none() | st.integers(0, 10**6),
        supply_v=st.none() | st.floats(0, 100),
        parked_at=st.none() | st.tuples(st.floats(-90, 90), st.floats(-180, 180)),
        faults=st.lists(WORDS, max_size=5).map(tuple),
        time_nonce=st.none() | IDS,
    ),
    DocumentType.OFFLINE: st.builds(d.Offline, st.just(CAR), EIGHT),
}


@EVERY
@settings(max_examples=40, deadline=None)
@given(data=st.data())
def test_whatever_can_be_said_comes_back_the_same(case: Case, data: st.DataObject) -> None:
    value = data.draw(ANY_OF[case.kind])
    found = case.take(case.make(value))
    assert found == value
    assert all(type(getattr(found, field.name)) is type(getattr(value, field.name)) for field in fields(value))


@EVERY
@settings(max_examples=60, deadline=None)
@given(data=st.data())
def test_a_document_damaged_anywhere_is_refused_and_nothing_else_happens(case: Case, data: st.DataObject) -> None:
    whole = case.data
    start = data.draw(st.integers(0, len(whole)))
    end = data.draw(st.integers(start, len(whole)))
    damaged = whole[:start] + data.draw(st.binary(max_size=20)) + whole[end:]
    if damaged != whole:
        with pytest.raises(Refused):
            case.take(damaged)
