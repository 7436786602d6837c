"""Records on the wire: every kind has a number that never changes, comes back as it was, is refused when damaged."""

from __future__ import annotations

import hashlib
import inspect
from dataclasses import fields
from typing import Any, get_args

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from cloud_sync.documents import (
    GENESIS,
    Reason,
    Refused,
    UnknownRecord,
    cbor,
    chain_digest,
    decode_record,
    encode_record,
    record_kind,
)
from cloud_sync.documents.records import TABLE
from onboard.core import records as core
from onboard.core.clock import ClockQuality, Instant
from onboard.core.records import Recordable

FROZEN = {
    "Booted": (1, ["software", "trip"]),
    "TripStarted": (
        2,
        [
            "rental", "trip", "kind", "reservation", "driver", "credential", "rule", "proven", "odometer_m", "soc_pct",
            "station",
        ],
    ),
    "DoorReopened": (3, ["rental", "trip", "credential"]),
    "EndRequested": (4, ["rental", "trip", "by", "finish"]),
    "TripEnded": (
        5,
        [
            "rental", "trip", "reason", "duration_s", "distance_m", "distance_source", "distance_resolution_m",
            "speed_integral_m", "odometer_m", "soc_pct", "station", "flags",
        ],
    ),
    "RentalEnded": (
        6,
        [
            "rental", "kind", "reservation", "driver", "reason", "billable_s", "billable_basis", "trips", "distance_m",
            "station",
        ],
    ),
    "AccessDenied": (7, ["reason", "credential", "more"]),
    "ActuationFailed": (8, ["action", "reason", "trip"]),
    "ChargingChanged": (9, ["state", "soc_pct"]),
    "Alert": (10, ["kind", "rental", "value"]),
    "FaultChanged": (11, ["part", "active", "detail"]),
    "ListAccepted": (12, ["version"]),
    "DocumentRefused": (13, ["kind", "reason"]),
    "CommsChanged": (14, ["lost"]),
    "SupplyChanged": (15, ["level", "voltage_v"]),
    "MaintenanceChanged": (16, ["on", "by"]),
    "StoreReplaced": (17, ["previous", "reason"]),
    "Parked": (18, ["station", "latitude", "longitude"]),
    "Track": (19, ["rental", "trip", "points"]),
    "CardCaptured": (20, ["capture", "uid"]),
    "ConsoleUsed": (21, ["action", "by", "detail"]),
}  # fmt: skip
"""Written down here once more: whoever renumbers a kind or a field has to change a test that says not to."""

TRIP_END = core.TripEnded(
    rental=3,
    trip=4,
    reason=core.TripEndReason.LOCKED,
    duration_s=1510,
    distance_m=14_200,
    distance_source=core.DistanceSource.ODOMETER,
    distance_resolution_m=100,
    speed_integral_m=14_113,
    odometer_m=8_123_400,
    soc_pct=61.5,
    station="hede",
    flags=("distance_disagrees",),
)
TRACK = core.Track(3, 4, ((0, 4_826_012, -155_021), (60, 4_826_100, -155_000), (121, 4_825_900, -154_000)))


def refused(reason: Reason) -> pytest.RaisesExc[Refused]:
    return pytest.RaisesExc(Refused, check=lambda error: error.reason is reason)


def test_every_kind_of_record_has_a_code_and_every_field_a_number() -> None:
    assert set(TABLE) == set(get_args(Recordable))
    for kind, (_, names) in TABLE.items():
        assert sorted(names.split()) == sorted(field.name for field in fields(kind))
    codes = [code for code, _ in TABLE.values()]
    assert len(set(codes)) == len(codes)


def test_no_code_and_no_field_number_ever_changes() -> None:
    assert {kind.__name__: (code, names.split()) for kind, (code, names) in TABLE.items()} == FROZEN


def test_the_bytes_of_a_record_never_change() -> None:
    """A row written by an old box is read by every later cloud, and its digest must come out the same."""
    assert encode_record(core.ChargingChanged("full", 100.0)).hex() == "8209a2016466756c6c02f95640"
    assert encode_record(core.Alert("overdue", 7)).hex() == "820aa301676f766572647565020703" + "00"
    assert encode_record(TRACK).hex() == (
        "8213a301030204038900" + "1a0049a39c" + "3a00025d8c" + "183c" + "1858" + "15" + "183d" + "38c7" + "1903e8"
    )
    at = Instant(12.5, 1_796_000_000.25, ClockQuality.GNSS)
    digest = chain_digest(GENESIS, 1, bytes(range(8)), at, b"payload")
    row = "0000000000000001 0001020304050607 4029000000000000 41dac33240100000 03"
    assert digest == hashlib.sha256(bytes(32) + bytes.fromhex(row) + b"payload").digest()


def _strategy(kind: type[Recordable]) -> st.SearchStrategy[Any]:
    integers = st.integers(-(2**53), 2**53)
    text = st.text(max_size=60)
    by_hint: dict[str, st.SearchStrategy[Any]] = {
        "int": integers,
        "int | None": st.none() | integers,
        "float": st.floats(-1e6, 1e6),
        "float | None": st.none() | st.floats(-1e6, 1e6),
        "bool": st.booleans(),
        "str": text,
        "str | None": st.none() | text,
        "bytes": st.binary(max_size=64),
        "tuple[str, ...]": st.lists(text, max_size=5).map(tuple),
        "tuple[tuple[int, int, int], ...]": st.lists(
            st.tuples(
                st.integers(0, 2**31 - 1), st.integers(-9_000_000, 9_000_000), st.integers(-18_000_000, 18_000_000)
            ),
            max_size=64,
        ).map(tuple),
    }
    for enum in (core.RentalKind, core.TripEndReason, core.RentalEndReason, core.DistanceSource):
        by_hint[enum.__name__] = st.sampled_from(enum)
    hints = inspect.get_annotations(kind)
    return st.builds(kind, **{name: by_hint[hint] for name, hint in hints.items()})


ANY_RECORD = st.one_of([_strategy(kind) for kind in TABLE])
KINDS = pytest.mark.parametrize("kind", list(TABLE), ids=lambda kind: kind.__name__)


@KINDS
@settings(max_examples=30, deadline=None)
@given(data=st.data())
def test_whatever_a_record_can_say_comes_back_the_same(kind: type[Recordable], data: st.DataObject) -> None:
    record = data.draw(_strategy(kind))
    payload = encode_record(record)
    again = decode_record(payload)
    assert again == record
    assert type(again) is kind
    assert all(type(getattr(again, field.name)) is type(getattr(record, field.name)) for field in fields(kind))
    assert encode_record(record) == payload
    assert record_kind(record)


@settings(max_examples=200, deadline=None)
@given(st.binary(max_size=80))
def test_any_bytes_are_a_record_or_refused(payload: bytes) -> None:
    try:
        decode_record(payload)
    except Refused:
        return


@KINDS
@settings(max_examples=5, deadline=None)
@given(data=st.data())
def test_a_truncated_or_longer_record_is_refused(kind: type[Recordable], data: st.DataObject) -> None:
    payload = encode_record(data.draw(_strategy(kind)))
    for length in range(len(payload)):
        with pytest.raises(Refused):
            decode_record(payload[:length])
    with pytest.raises(Refused):
        decode_record(payload + b"\x00")


@settings(max_examples=20, deadline=None)
@given(ANY_RECORD)
def test_a_flipped_bit_gives_a_record_or_a_refusal_and_nothing_else(record: Recordable) -> None:
    payload = encode_record(record)
    refusals = 0
    for position in range(len(payload) * 8):
        flipped = bytearray(payload)
        flipped[position // 8] ^= 1 << position % 8
        try:
            decode_record(bytes(flipped))
        except Refused:
            refusals += 1
    assert refusals > 8


def test_a_flipped_bit_anywhere_breaks_the_chain() -> None:
    payload, at = encode_record(TRIP_END), Instant(1.0, 2.0, ClockQuality.RTC)
    right = chain_digest(GENESIS, 1, bytes(8), at, payload)
    for position in range(len(payload) * 8):
        flipped = bytearray(payload)
        flipped[position // 8] ^= 1 << position % 8
        assert chain_digest(GENESIS, 1, bytes(8), at, bytes(flipped)) != right


def test_every_part_of_a_row_goes_into_its_digest() -> None:
    at = Instant(1.0, 2.0, ClockQuality.RTC)
    digests = {
        chain_digest(GENESIS, 1, bytes(8), at, b"x"),
        chain_digest(b"\x01" * 32, 1, bytes(8), at, b"x"),
        chain_digest(GENESIS, 2, bytes(8), at, b"x"),
        chain_digest(GENESIS, 1, b"\x01" * 8, at, b"x"),
        chain_digest(GENESIS, 1, bytes(8), Instant(1.5, 2.0, ClockQuality.RTC), b"x"),
        chain_digest(GENESIS, 1, bytes(8), Instant(1.0, 2.5, ClockQuality.RTC), b"x"),
        chain_digest(GENESIS, 1, bytes(8), Instant(1.0, 2.0, ClockQuality.GNSS), b"x"),
        chain_digest(GENESIS, 1, bytes(8), at, b"y"),
    }
    assert len(digests) == 8
    for previous, epoch in ((bytes(31), bytes(8)), (GENESIS, bytes(9))):
        with pytest.raises(ValueError, match="32 bytes"):
            chain_digest(previous, 1, epoch, at, b"x")


def test_a_trip_takes_little_room() -> None:
    assert len(encode_record(TRIP_END)) < 100
    points = tuple((60 * number, 4_826_000 + 700 * number, -155_000 + 650 * number) for number in range(64))
    assert len(encode_record(core.Track(1, 1, points))) < 64 * 9


def test_a_record_of_a_newer_box_is_kept_as_it_is() -> None:
    newer = cbor.dumps([4711, {1: "x", 2: [1, 2]}])
    assert decode_record(newer) == UnknownRecord(4711, newer)
    assert record_kind(UnknownRecord(4711, newer)) == "unknown"
    known = cbor.dumps([9, {1: "full", 2: 100.0, 3: "a field of tomorrow"}])
    assert decode_record(known) == core.ChargingChanged("full", 100.0)
    older = cbor.dumps([7, {1: "too_early", 2: "card"}])
    assert decode_record(older) == core.AccessDenied("too_early", "card", 0)


@pytest.mark.parametrize(
    ("reason", "body"),
    [
        (Reason.BAD_SCHEMA, None),
        (Reason.BAD_SCHEMA, [9]),
        (Reason.BAD_SCHEMA, [9, {}, 0]),
        (Reason.BAD_SCHEMA, [-9, {}]),
        (Reason.BAD_SCHEMA, [True, {}]),
        (Reason.BAD_SCHEMA, [2**16 + 1, {}]),
        (Reason.BAD_SCHEMA, [4711, []]),
        (Reason.BAD_SCHEMA, [9, []]),
        (Reason.BAD_SCHEMA, [9, {"state": "full"}]),
        (Reason.BAD_SCHEMA, [9, {2: 1.0}]),
        (Reason.BAD_SCHEMA, [9, {1: "full", 2: None}]),
        (Reason.BAD_SCHEMA, [9, {1: "full", 2: 100}]),
        (Reason.BAD_SCHEMA, [9, {1: "full", 2: float("nan")}]),
        (Reason.BAD_SCHEMA, [9, {1: "full", 2: float("inf")}]),
        (Reason.BAD_SCHEMA, [9, {1: b"full"}]),
        (Reason.BAD_SCHEMA, [9, {1: "f" * 257}]),
        (Reason.BAD_SCHEMA, [14, {1: 1}]),
        (Reason.BAD_SCHEMA, [12, {1: True}]),
        (Reason.BAD_SCHEMA, [12, {1: 2**53 + 1}]),
        (Reason.BAD_SCHEMA, [17, {1: bytes(65), 2: ""}]),
        (Reason.BAD_SCHEMA, [6, {1: 1, 2: "owner"}]),
        (Reason.BAD_SCHEMA, [19, {1: 1, 2: 1, 3: [0, 1]}]),
        (Reason.BAD_SCHEMA, [19, {1: 1, 2: 1, 3: [-1, 0, 0]}]),
        (Reason.BAD_SCHEMA, [19, {1: 1, 2: 1, 3: [0, 9_000_001, 0]}]),
        (Reason.BAD_SCHEMA, [19, {1: 1, 2: 1, 3: [0, 0, 17_000_000, 0, 0, 2_000_000]}]),
        (Reason.BAD_SCHEMA, [19, {1: 1, 2: 1, 3: [0, 0, 0] * 257}]),
        (Reason.CRITICAL_KEY, [9, {1: "full", -1: 0}]),
        (Reason.CRITICAL_KEY, [9, {1: "full", 2: 100.0, -70001: 0}]),
        (Reason.TOO_LARGE, [9, {1: "full", 99: bytes(4096)}]),
    ],
    ids=repr,
)
def test_a_record_with_a_wrong_value_is_refused(reason: Reason, body: Any) -> None:
    with refused(reason):
        decode_record(cbor.dumps(body))


def test_a_record_is_written_even_where_a_part_talks_too_much() -> None:
    """A fault's text comes from a device or the system. It must not keep the trip beside it from being committed."""
    found = decode_record(encode_record(core.FaultChanged("gps", active=True, detail="é" * 5000)))
    assert found == core.FaultChanged("gps", active=True, detail="é" * 128)
    found = decode_record(encode_record(core.FaultChanged("gps", active=True, detail="tty\udcff gone")))
    assert found == core.FaultChanged("gps", active=True, detail="tty? gone")
    assert decode_record(encode_record(core.ChargingChanged("full", float("nan")))) == core.ChargingChanged(
        "full", None
    )
    assert decode_record(encode_record(core.ChargingChanged("full", 80))) == core.ChargingChanged("full", 80.0)


@pytest.mark.parametrize(
    "record",
    [
        core.SupplyChanged("saving", float("nan")),
        core.ListAccepted(2**53 + 1),
        core.StoreReplaced(bytes(65), "damaged"),
        core.Track(1, 1, ((0, 9_000_001, 0),)),
    ],
)
def test_a_record_that_nobody_could_read_is_not_written(record: Recordable) -> None:
    with pytest.raises(ValueError, match="no record"):
        encode_record(record)


def test_kinds_are_named_by_the_words_of_mds_where_it_has_one() -> None:
    assert record_kind(TRIP_END) == "trip_end"
    assert record_kind(core.ChargingChanged("charging", None)) == "charging_start"
    assert record_kind(core.ChargingChanged("not_charging", None)) == "charging_end"
    assert [record_kind(core.CommsChanged(lost)) for lost in (True, False)] == ["comms_lost", "comms_restored"]
    assert [record_kind(core.MaintenanceChanged(on, "")) for on in (True, False)] == ["maintenance", "maintenance_end"]


# To the word and to the edge


def raw(kind: type[Recordable], **said: Any) -> bytes:
    """Encode a record's map as it is, whatever it says."""
    code, names = TABLE[kind]
    return cbor.dumps([code, {names.split().index(name) + 1: value for name, value in said.items()}])


TOO_FAR = "Track.points: a point that is not on Earth"
NO_INTEGER = f"ListAccepted.version: an integer from -{2**53} to {2**53} is wanted"
NO_FLOAT = "SupplyChanged.voltage_v: a float from -1e+15 to 1e+15 is wanted"
NO_POINT = "Track.points: three numbers a point are wanted"
WORDS: dict[str, tuple[bytes, str]] = {
    "no pair": (cbor.dumps([1]), "record: a code and a map are wanted"),
    "three": (cbor.dumps([1, {}, 1]), "record: a code and a map are wanted"),
    "no list": (cbor.dumps({}), "record: a code and a map are wanted"),
    "a code beyond": (cbor.dumps([65_537, {}]), "record code: an integer from 0 to 65536 is wanted"),
    "no map": (cbor.dumps([12, []]), "ListAccepted: a map with integer keys is wanted"),
    "no map of a newer one": (cbor.dumps([99, []]), "record 99: a map with integer keys is wanted"),
    "an integer beyond": (raw(core.ListAccepted, version=2**53 + 1), NO_INTEGER),
    "an integer below": (raw(core.ListAccepted, version=-(2**53) - 1), NO_INTEGER),
    "65 bytes": (raw(core.CardCaptured, capture=bytes(65), uid=b""), "CardCaptured.capture: 0 to 64 bytes are wanted"),
    "no float": (raw(core.SupplyChanged, level="", voltage_v=1), NO_FLOAT),
    "no flag": (raw(core.CommsChanged, lost=1), "CommsChanged.lost: true or false is wanted"),
    "half a point": (raw(core.Track, rental=1, trip=1, points=[1, 2]), NO_POINT),
    "257 points": (raw(core.Track, rental=1, trip=1, points=[0] * 771), "Track.points: an array of 0 to 768 is wanted"),
    "before the start": (raw(core.Track, rental=1, trip=1, points=[-1, 0, 0]), TOO_FAR),
    "too late": (raw(core.Track, rental=1, trip=1, points=[2**31, 0, 0]), TOO_FAR),
    "too far north": (raw(core.Track, rental=1, trip=1, points=[0, 9_000_001, 0]), TOO_FAR),
    "too far west": (raw(core.Track, rental=1, trip=1, points=[0, 0, -18_000_001]), TOO_FAR),
    "a missing field": (cbor.dumps([1, {}]), "Booted.software: missing (key 1)"),
    "a critical key": (cbor.dumps([12, {1: 1, -3: 1}]), "ListAccepted: -3"),
    "too long": (bytes(4097), "4097 bytes, at most 4096"),
}  # fmt: skip


@pytest.mark.parametrize("what", WORDS)
def test_what_is_said_of_a_record_that_is_none(what: str) -> None:
    payload, said = WORDS[what]
    with pytest.raises(Refused) as caught:
        decode_record(payload)
    assert caught.value.detail == said


@pytest.mark.parametrize(
    "record",
    [
        core.ListAccepted(2**53),
        core.ListAccepted(-(2**53)),
        core.CardCaptured(bytes(64), b""),
        core.Track(1, 1, ((0, 0, 0),) * 256),
        core.Track(1, 1, ((0, 9_000_000, 18_000_000), (2**31 - 1, -9_000_000, -18_000_000), (5, 1, 2))),
        core.Track(1, 1, ()),
        core.AccessDenied("", "", 1),
    ],
)
def test_what_a_record_may_just_say_comes_back_the_same(record: Recordable) -> None:
    assert decode_record(encode_record(record)) == record


def test_points_travel_as_differences() -> None:
    track = core.Track(1, 2, ((10, 100, 200), (15, 90, 205)))
    assert encode_record(track) == raw(core.Track, rental=1, trip=2, points=[10, 100, 200, 5, -10, 5])


def test_codes_up_to_their_bound_are_kept_for_a_newer_reader() -> None:
    for code in (99, 65_536):
        payload = cbor.dumps([code, {1: 2}])
        assert decode_record(payload) == UnknownRecord(code, payload)


def test_what_no_record_may_hold_is_a_fault_of_ours_in_words() -> None:
    with pytest.raises(ValueError, match=r"^no record: ListAccepted\.version: an integer from .+ is wanted$"):
        encode_record(core.ListAccepted(2**60))
    at = Instant(1.0, 2.0, ClockQuality.GNSS)
    for previous, epoch in ((bytes(31), bytes(8)), (bytes(32), bytes(7))):
        with pytest.raises(ValueError, match=r"^a digest has 32 bytes, a boot epoch 8$"):
            chain_digest(previous, 1, epoch, at, b"")


def test_a_float_that_is_no_number_becomes_absent_where_it_may() -> None:
    for value in (float("nan"), float("inf"), None):
        assert decode_record(encode_record(core.ChargingChanged("full", value))) == core.ChargingChanged("full", None)
    assert decode_record(encode_record(core.ChargingChanged("full", 50))) == core.ChargingChanged("full", 50.0)
