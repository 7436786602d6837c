"""Whatever a document can say comes back the same; damaged anywhere, it is refused."""

from __future__ import annotations

from dataclasses import fields
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from cloud_sync import documents as d
from cloud_sync.documents import Refused
from cloud_sync.documents.kinds import DocumentType
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
    BOX,
    CAR,
    CASES,
    KEYS,
    ROOT,
    ROOTS,
    Case,
)

EVERY = pytest.mark.parametrize("case", CASES.values(), ids=[kind.word for kind in CASES])
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
    CardGrant, EIGHT, st.just(Assurance.MUTUAL), IDS, st.integers(1, 13)
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
    return d.EventBatch(CAR, draw(IDS), first, before, tuple(made), draw(st.booleans()))


WORDS = st.text(min_size=1, max_size=10)
ANY_OF: dict[DocumentType, st.SearchStrategy[Any]] = {
    DocumentType.KEY_SET: st.builds(
        d.KeySet,
        COUNTS,
        st.lists(
            st.builds(
                lambda public, types: d.AuthorityKey(d.key_id(public), public, types),
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
    DocumentType.BOX_REQUEST: st.builds(d.BoxRequest, POINTS, st.just(BOX.public), POINTS),
    DocumentType.BOX_ANSWER: st.builds(
        d.BoxAnswer,
        vehicle=st.just(CAR),
        request=st.binary(min_size=32, max_size=32),
        version=COUNTS,
        roots=st.just(ROOTS),
        key_set=st.just(d.encode_key_set(KEYS, ROOT)),
        card_key=st.binary(min_size=32, max_size=32),
        list_floor=COUNTS,
        technicians=st.lists(
            st.builds(d.Technician, st.just("garage-1"), IDS, st.binary(min_size=32, max_size=32)), max_size=3
        ).map(tuple),
        town=WORDS,
        ca=st.none() | st.binary(min_size=1, max_size=50),
        certificate=st.none() | st.binary(min_size=1, max_size=50),
    ),
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
