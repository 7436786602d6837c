"""The pure half of the GNSS receiver: bytes to sentences, sentences to fixes, fixes to what is believed."""

from __future__ import annotations

import math
from dataclasses import replace
from datetime import UTC, datetime, timedelta
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from hw.gps import Gate
from hw.nmea import SENTENCE_MAX, Fix, NmeaStream, Receiver
from onboard.core.events import PositionReported
from sim.gnss import TrueFix, sentences

BUILD = datetime(2026, 11, 1, tzinfo=UTC)
NOON = datetime(2026, 11, 20, 12, 0, 0, tzinfo=UTC)
BAZOUGES = Fix(NOON, 48.4256, -1.5740, 3, speed_mps=0.0, hdop=0.9, satellites=9)
HEDE = TrueFix(48.2969, -1.8036, 8.5, 211.0, NOON)


def sealed(body: str) -> bytes:
    total = 0
    for byte in body.encode():
        total ^= byte
    return f"${body}*{total:02X}\r\n".encode()


GGA = "GPGGA,120000.00,4825.53600,N,00134.44000,W,1,09,0.9,60.0,M,48.0,M,,"
RMC = "GPRMC,120000.00,A,4825.53600,N,00134.44000,W,10.000,211.0,201126,,,A"


def fixes_in(*pieces: bytes) -> list[Fix]:
    stream, receiver = NmeaStream(), Receiver()
    found = [receiver.take(sentence) for piece in pieces for sentence in stream.feed(piece)]
    found += [receiver.take(sentence) for sentence in stream.close()]
    return [fix for fix in [*found, receiver.flush()] if fix is not None]


def refused(data: bytes) -> dict[str, int]:
    stream = NmeaStream()
    stream.feed(data)
    stream.close()
    return dict(stream.counts)


def one_fix(*bodies: str) -> Fix:
    (fix,) = fixes_in(*(sealed(body) for body in bodies))
    return fix


# Bytes to sentences


def test_rmc_and_gga_of_one_moment_are_one_fix() -> None:
    fix = one_fix(RMC, GGA, "GPGSA,A,3,02,05,12,15,,,,,,,,,1.7,0.9,1.4")
    assert fix.time == NOON
    assert fix.lat == pytest.approx(48.4256, abs=1e-9)
    assert fix.lon == pytest.approx(-1.574, abs=1e-9)
    assert fix.speed_mps == pytest.approx(5.14444, abs=1e-5)
    assert (fix.mode, fix.hdop, fix.satellites, fix.void, fix.estimated) == (3, 0.9, 9, False, False)


@pytest.mark.parametrize(
    ("before", "reason"),
    [
        (sealed(GGA).replace(b"1,09", b"1,08"), "bad_checksum"),
        (sealed(GGA).replace(b"*", b"*1"), "bad_checksum"),
        (f"${GGA}\r\n".encode(), "no_checksum"),
        (sealed(GGA)[:40], "no_checksum"),
        (sealed(GGA)[:40] + b"\r\n", "no_checksum"),
        (sealed(GGA)[:40] + bytes(12) + b"       \r\n", "no_checksum"),
        (b"$" + b"A" * SENTENCE_MAX + b"A" + sealed(GGA)[1:], "overlong"),
        (b"\xb5\x62\x01\x07\x5c\x00\x20\x24\x47\x50\x52\x4d\x43\x00\x00", "noise"),
        (b"+ 6: 28 (.....)\r\n", "noise"),
        (sealed("GPN,00000.0000,E,0,00,0.0,,M,,M,,"), "not_a_sentence"),
        (sealed(GGA.replace("1,09", "1,x9")), "unparsable"),
        (sealed(GGA.replace("4825.53600", "9125.53600")), "unparsable"),
        (sealed(GGA.replace("4825.53600", "4865.53600")), "unparsable"),
        (sealed(GGA.replace(",N,", ",,")), "unparsable"),
        (sealed(RMC.replace("4825.53600", "nan.nan000")), "unparsable"),
    ],
)
def test_what_is_no_right_sentence_is_refused_with_its_reason_and_costs_nothing_else(
    before: bytes, reason: str
) -> None:
    assert refused(before)[reason] == 1
    assert fixes_in(before, sealed(RMC)) == fixes_in(sealed(RMC))


@pytest.mark.parametrize(
    "line",
    [
        sealed(RMC).replace(b"\r\n", b"\r\r\n"),
        sealed(RMC).replace(b"\r\n", b"\n"),
        sealed(RMC).replace(b"\r\n", b" \r\n"),
        b" " + sealed(RMC),
        b"x" + sealed(RMC),
        sealed(RMC)[:-5] + sealed(RMC)[-5:].lower(),
        sealed(RMC)[:-2],
        sealed(RMC)[:-2] + sealed("GPVTG,,T,,M,,N,,K,N"),
        sealed(RMC)[:-2] + b"\xb5\x62",
        sealed(RMC).replace(b"$", b"$GPGGA,1200$"),
    ],
    ids=["cr cr lf", "lf", "blank after", "blank before", "stray letter", "lower case", "end", "run on", "ubx", "torn"],
)
def test_a_right_sentence_is_taken_however_it_is_wrapped(line: bytes) -> None:
    assert len(fixes_in(line)) == 1


def test_a_broken_field_that_nobody_reads_costs_no_fix() -> None:
    assert one_fix(GGA.replace("48.0,M,,", "4?.0,M,what,x")) == one_fix(GGA)
    assert one_fix(RMC.replace(",,,A", ",10E,,A")) == one_fix(RMC)


def test_sentences_of_other_kinds_are_counted_and_left() -> None:
    stream = NmeaStream()
    assert stream.feed(sealed("PMTK705,AXN_2.51,0002") + sealed("GLGSV,1,1,00")) == []
    assert stream.accepted == {"PMTK": 1, "GSV": 1}


@given(st.lists(st.binary(max_size=300) | st.sampled_from([sealed(RMC), sealed(GGA), b"$", b"*", b"\r\n"])))
def test_no_bytes_raise_and_nothing_piles_up(pieces: list[bytes]) -> None:
    stream, receiver = NmeaStream(), Receiver()
    for piece in pieces:
        for sentence in stream.feed(piece):
            receiver.take(sentence)
        assert len(stream._text) <= SENTENCE_MAX


@given(st.sampled_from(["RMC", "GGA", "GSA", "ZDA"]), st.lists(st.text("0123456789.-+eANSWEinf_ ", max_size=12)))
def test_no_fields_raise_under_a_right_checksum(kind: str, fields: list[str]) -> None:
    for fix in fixes_in(sealed(f"GP{kind}," + ",".join(fields))):
        assert math.isfinite(fix.lat)
        assert abs(fix.lat) <= 90
        assert abs(fix.lon) <= 180


def test_a_megabyte_without_a_line_end_is_not_kept() -> None:
    stream = NmeaStream()
    stream.feed(b"$" + b"G" * 1_000_000)
    assert len(stream._text) == 0
    assert stream.counts == {"overlong": 1}


@given(st.data())
def test_any_split_of_a_stream_gives_the_same_fixes(data: st.DataObject) -> None:
    whole = b"".join(
        (sealed(RMC), sealed(GGA), b"\xb5\x62$\x00noise", sealed(GGA)[:30], sealed(RMC.replace("120000", "120001")))
    )
    cuts = sorted(data.draw(st.sets(st.integers(0, len(whole)), max_size=20)))
    pieces = [whole[begin:end] for begin, end in zip([0, *cuts], [*cuts, len(whole)], strict=True)]
    assert fixes_in(*pieces) == fixes_in(whole)
    split = NmeaStream()
    for piece in pieces:
        split.feed(piece)
    assert dict(split.counts) == refused(whole)


@pytest.mark.parametrize("name", ["tcp-torture", "ublox8-uniqid-monhw", "et-332"])
def test_a_recording_byte_by_byte_gives_the_same_fixes(name: str, recordings: Path) -> None:
    raw = (recordings / "nmea" / f"{name}.log").read_bytes().replace(b"|", b"")
    assert fixes_in(raw)
    assert fixes_in(*(raw[at : at + 1] for at in range(len(raw)))) == fixes_in(raw)


# Sentences to fixes


@pytest.mark.parametrize(
    "body",
    [
        RMC.replace(",A,4825", ",V,4825"),
        RMC[:-1] + "N",
        RMC[:-1] + "S",
        GGA.replace(",1,09", ",0,09"),
        GGA.replace(",1,09", ",8,09"),
    ],
)
def test_a_sentence_that_denies_its_position_is_no_fix(body: str) -> None:
    assert fixes_in(sealed(body)) == []


def test_a_gga_beside_a_void_rmc_is_said_to_be_void() -> None:
    assert one_fix(RMC.replace(",A,4825", ",V,4825"), GGA).void


@pytest.mark.parametrize("body", [GGA.replace(",1,09", ",6,09"), GGA.replace(",1,09", ",7,09"), RMC[:-1] + "E"])
def test_dead_reckoning_is_said_to_be_estimated(body: str) -> None:
    assert one_fix(body).estimated


def test_a_gga_for_each_constellation_counts_the_best() -> None:
    fix = one_fix(GGA, GGA.replace("GPGGA", "GAGGA").replace(",1,09", ",1,01"), RMC)
    assert fix.satellites == 9


def test_the_date_goes_on_past_midnight() -> None:
    late = RMC.replace("120000.00", "235959.00")
    before, after = fixes_in(sealed(late), sealed(GGA.replace("120000.00", "000000.00")))
    assert before.time == datetime(2026, 11, 20, 23, 59, 59, tzinfo=UTC)
    assert after.time == datetime(2026, 11, 21, 0, 0, 0, tzinfo=UTC)


def test_a_leap_second_is_a_time() -> None:
    fix = one_fix(RMC.replace("120000.00", "235960.00"))
    assert fix.time == datetime(2026, 11, 21, 0, 0, 0, tzinfo=UTC)


@pytest.mark.parametrize("clock", ["240000.00", "126000.00", "120061.00", "12000", "", "12h000"])
def test_a_time_that_is_none_gives_a_fix_without_one(clock: str) -> None:
    assert one_fix(RMC.replace("120000.00", clock)).time is None


def test_time_fractions_are_read_to_the_millisecond() -> None:
    assert one_fix(RMC.replace("120000.00", "120000.9996")).time == NOON + timedelta(seconds=1)
    assert one_fix(RMC.replace("120000.00", "120000.6")).time == NOON + timedelta(milliseconds=600)


def test_a_date_that_is_none_gives_a_fix_without_one() -> None:
    assert one_fix(RMC.replace("201126", "2011-1")).time is None
    assert one_fix(RMC.replace("201126", "310226")).time is None


def test_a_void_rmcs_date_is_not_taken() -> None:
    void = RMC.replace(",A,4825", ",V,4825").replace("201126", "161206")
    assert [fix.time for fix in fixes_in(sealed(void), sealed(GGA.replace("120000", "120001")))] == [None]


def test_places_far_apart_at_one_time_are_two_fixes() -> None:
    assert len(fixes_in(sealed(RMC), sealed(GGA.replace("4825.53600", "4825.53800")))) == 2
    assert len(fixes_in(sealed(RMC), sealed(GGA.replace("4825.53600", "4825.53602")))) == 1


def test_a_clock_that_stands_still_still_ends_its_epochs() -> None:
    assert len(fixes_in(*[sealed(RMC), sealed(GGA)] * 5)) == 5


def test_without_an_altitude_gsa_says_the_dimensions() -> None:
    flat = GGA.replace("60.0,M,48.0,M", ",M,,M")
    assert one_fix(RMC, flat).mode == 2
    assert one_fix(RMC, flat, "GPGSA,A,3,02,05,12,15,,,,,,,,,1.7,0.9,1.4").mode == 3
    assert one_fix("GPGSA,A,3,02,05,12,15,,,,,,,,,1.7,0.9,1.4", RMC, flat).mode == 3


def test_the_simulated_receiver_is_heard_as_it_was_driven() -> None:
    (fix,) = fixes_in(sentences(HEDE))
    assert fix.time == HEDE.time
    assert fix.lat == pytest.approx(HEDE.latitude, abs=1e-7)
    assert fix.lon == pytest.approx(HEDE.longitude, abs=1e-7)
    assert fix.speed_mps == pytest.approx(HEDE.speed_mps, abs=1e-3)
    assert fixes_in(sentences(HEDE, locked=False)) == []


@given(st.floats(-90, 90), st.floats(-180, 180))
def test_every_place_on_earth_is_heard_within_two_centimetres(latitude: float, longitude: float) -> None:
    (fix,) = fixes_in(sentences(replace(HEDE, latitude=latitude, longitude=longitude)))
    assert abs(fix.lat - latitude) < 1e-7
    assert abs(fix.lon - longitude) < 1e-7


# Fixes to what is believed


def drive(gate: Gate, fix: Fix, at_s: float, *, north_m: float = 0.0, time: datetime | None = None) -> bool:
    """Give the gate a fix ``north_m`` north of ``fix``, ``at_s`` after noon; tell whether it was believed."""
    moved = replace(fix, lat=fix.lat + north_m / 111_195, at_s=at_s, time=time or NOON + timedelta(seconds=at_s))
    return any(isinstance(event, PositionReported) for event in gate.take(moved))


def gate_now() -> Gate:
    return Gate(BUILD.timestamp())


@pytest.mark.parametrize(
    ("change", "reason"),
    [
        ({"lat": 0.0, "lon": 0.0}, "fix_null_island"),
        ({"lat": math.nan}, "fix_off_earth"),
        ({"void": True}, "fix_void"),
        ({"estimated": True}, "fix_estimated"),
        ({"satellites": 3}, "fix_satellites"),
        ({"hdop": 5.1}, "fix_hdop"),
        ({"hdop": math.nan}, "fix_hdop"),
        ({"time": None}, "fix_undated"),
        ({"time": datetime(2002, 3, 6, 12, tzinfo=UTC)}, "fix_date_before_build"),
        ({"time": NOON - timedelta(weeks=1024)}, "fix_date_before_build"),
        ({"time": datetime(2049, 3, 6, 12, tzinfo=UTC)}, "fix_date_beyond_horizon"),
    ],
)
def test_a_fix_that_cannot_be_is_refused_with_its_reason(change: dict[str, object], reason: str) -> None:
    gate = gate_now()
    assert gate.take(replace(BAZOUGES, **change)) == []  # type: ignore[arg-type]  # one field by name
    assert gate.counts == {reason: 1}
    assert drive(gate, BAZOUGES, 1)


@pytest.mark.parametrize(
    "change", [{"satellites": 4}, {"satellites": None}, {"hdop": 5.0}, {"hdop": None}, {"mode": 2}]
)
def test_a_fix_just_good_enough_is_believed(change: dict[str, object]) -> None:
    gate = gate_now()
    assert gate.take(replace(BAZOUGES, **change))  # type: ignore[arg-type]  # one field by name
    assert not gate.counts


def test_dates_in_2002_and_2049_in_a_stream_reach_nobody() -> None:
    gate = gate_now()
    for day in ("060302", "060349"):
        for fix in fixes_in(sealed(RMC.replace("201126", day)), sealed(GGA)):
            assert gate.take(fix) == []
    assert gate.counts == {"fix_date_before_build": 1, "fix_date_beyond_horizon": 1}
