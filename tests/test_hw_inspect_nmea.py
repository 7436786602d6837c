"""``amibox inspect nmea`` held against gpsd, on 25 recordings of real receivers."""

from __future__ import annotations

import argparse
import gzip
import json
import re
from collections import defaultdict
from dataclasses import dataclass
from datetime import datetime, timedelta
from pathlib import Path
from typing import Any

import pytest

from hw import inspect_nmea

ROLLOVER = timedelta(weeks=1024)
"""What gpsd adds to a date before 2017 where it was not told when a log was recorded."""
MOVED_BY_GPSD = ("neo-m8n", "tcp-torture")

COMPARED_EPOCHS = {
    "GPSmap-76S": 0,  # simulator mode
    "april6_2019": 1,
    "beidou-bd": 4,
    "bt451": 12,
    "com-1289": 14,
    "et-332": 19,
    "gp-320fw-2019-04-07-coldboot": 1,
    "haicom-305N": 67,
    "holux-gm-210": 0,  # no fix at all
    "isync": 11,
    "magellan-ec10": 21,
    "motorola-t805": 15,
    "mr-350p": 13,
    "neo-m8n": 22,
    "nl2008u": 9,
    "nmea-fuzzy-cases": 14,
    "quectel-L70": 16,
    "quectel-eg25-g": 23,
    "skytraq": 0,  # time but no position
    "tcp-torture": 1,
    "telit-pls83-w": 10,
    "tomtom-mkII": 4,
    "ublox-8": 72,
    "ublox-f9p-hpnmea": 9,
    "ublox8-uniqid-monhw": 5,  # the others from binary messages
}
"""How many moments gpsd and an RMC or GGA of the log name together: the comparison below is never empty by mistake."""

KNOWN_REFUSALS: dict[str, dict[str, int]] = {
    "com-1289": {"bad_checksum": 1},
    "et-332": {"noise": 34, "bad_checksum": 1},
    "gp-320fw-2019-04-07-coldboot": {"bad_checksum": 36, "no_checksum": 8, "noise": 2},
    "holux-gm-210": {"no_checksum": 1},
    "isync": {"no_checksum": 1, "noise": 1},
    "tcp-torture": {"noise": 1},
    "tomtom-mkII": {"noise": 1},
    "ublox-8": {"noise": 1, "no_checksum": 1},
    "ublox8-uniqid-monhw": {"noise": 99, "no_checksum": 14},
}


@dataclass(frozen=True)
class Report:
    """One of gpsd's."""

    time: datetime
    lat: float
    lon: float
    mode: int
    speed: float | None


def reports(chk: Path, *, moved: bool) -> list[Report]:
    """Gpsd's dated positions, with its move of the date taken back."""
    found = []
    for line in chk.read_text("latin-1").splitlines():
        if not line.startswith('{"class":"TPV"'):
            continue
        said = json.loads(line)
        if "time" in said and "lat" in said and said["mode"] >= 2:
            time = datetime.fromisoformat(said["time"]) - (ROLLOVER if moved else timedelta(0))
            found.append(Report(time, said["lat"], said["lon"], said["mode"], said.get("speed")))
    return found


def said_in(log: bytes) -> dict[int, list[tuple[float, float, float | None]]]:
    """Positions (and an RMC's speed in m/s) that sentences with a right checksum name, by millisecond of the day."""
    found = defaultdict(list)
    for match in re.finditer(rb"\$([A-Z]{2}(RMC|GGA),[^$*\r\n]*)\*([0-9A-Fa-f]{2})", log):
        total = 0
        for byte in match[1]:
            total ^= byte
        fields = match[1].decode("latin-1").split(",")
        rmc = match[2] == b"RMC"
        lat, north, lon, east = fields[3:7] if rmc else fields[2:6]
        if total != int(match[3], 16) or not lat or not lon or not fields[1]:
            continue
        clock = fields[1]
        millis = (int(clock[:2]) * 3600 + int(clock[2:4]) * 60) * 1000 + round(float(clock[4:]) * 1000)
        place = [int(text[:width]) + float(text[width:]) / 60 for text, width in ((lat, 2), (lon, 3))]
        speed = float(fields[7]) * 1852 / 3600 if rmc and fields[2] == "A" and fields[7] else None
        found[millis].append((place[0] * (1 if north == "N" else -1), place[1] * (1 if east == "E" else -1), speed))
    return found


def inspect(path: Path, capsys: pytest.CaptureFixture[str]) -> tuple[int, list[dict[str, Any]], dict[str, Any]]:
    """Run the command; return its exit code, its fixes and its summary."""
    code = inspect_nmea.run(argparse.Namespace(file=path, json=True))
    lines = [json.loads(line) for line in capsys.readouterr().out.splitlines()]
    assert list(lines[-1]) == ["summary"]
    return code, lines[:-1], lines[-1]["summary"]


def millis_of_day(time: datetime) -> int:
    return ((time.hour * 60 + time.minute) * 60 + time.second) * 1000 + round(time.microsecond / 1000)


@pytest.mark.parametrize("name", COMPARED_EPOCHS)
def test_every_epoch_that_gpsd_reports_is_found(
    name: str, recordings: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    log = recordings / "nmea" / f"{name}.log"
    code, fixes, summary = inspect(log, capsys)
    assert code == 0
    at_time = defaultdict(list)
    for fix in fixes:
        assert set(fix) == {"time", "lat", "lon", "mode", "speed_mps"}
        assert fix["mode"] in (2, 3)
        if fix["time"] is not None:
            assert re.fullmatch(r"\d{4}-\d\d-\d\dT\d\d:\d\d:\d\d\.\d{3}Z", fix["time"])
            at_time[datetime.fromisoformat(fix["time"])].append(fix)
    backed = said_in(log.read_bytes().replace(b"|", b""))
    expected = defaultdict(list)
    for report in reports(log.with_name(f"{name}.log.chk"), moved=name in MOVED_BY_GPSD):
        said = backed.get(millis_of_day(report.time), [])
        if any(abs(lat - report.lat) < 2e-9 and abs(lon - report.lon) < 2e-9 for lat, lon, _ in said):
            expected[report.time].append(report)
    for time, group in expected.items():
        near = [
            found for at, fixes in at_time.items() if abs(at - time) <= timedelta(milliseconds=1) for found in fixes
        ]
        for report in group:
            assert any(abs(f["lat"] - report.lat) <= 1e-9 and abs(f["lon"] - report.lon) <= 1e-9 for f in near), report
        assert near[0]["mode"] in {report.mode for report in group}, time
        spoken = {speed for _, _, speed in backed[millis_of_day(time)] if speed is not None}
        if spoken:
            assert any(abs(near[0]["speed_mps"] - speed) <= 1e-3 for speed in spoken), time
            assert any(r.speed is None or abs(near[0]["speed_mps"] - r.speed) <= 1.1e-3 for r in group), time
    assert len(expected) == COMPARED_EPOCHS[name]
    assert summary["fixes"] == len(fixes)
    assert summary["refused"] == KNOWN_REFUSALS.get(name, {})


def test_every_recording_is_compared(recordings: Path) -> None:
    assert {path.stem for path in (recordings / "nmea").glob("*.log")} == set(COMPARED_EPOCHS)


def test_a_simulators_position_is_no_fix(recordings: Path, capsys: pytest.CaptureFixture[str]) -> None:
    _, fixes, summary = inspect(recordings / "nmea" / "GPSmap-76S.log", capsys)
    assert fixes == []
    assert summary["no_fix"] == 12


def test_a_packed_recording_gives_the_same(
    recordings: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    plain = recordings / "nmea" / "ublox-8.log"
    packed = tmp_path / "ublox-8.log.gz"
    packed.write_bytes(gzip.compress(plain.read_bytes()))
    assert inspect(packed, capsys) == inspect(plain, capsys)


def test_a_packed_recording_cut_off_gives_what_it_holds_and_says_so(
    recordings: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    whole = gzip.compress((recordings / "nmea" / "ublox-8.log").read_bytes())
    cut = tmp_path / "cut.gz"
    cut.write_bytes(whole[: len(whole) // 2])
    assert inspect_nmea.run(argparse.Namespace(file=cut, json=True)) == inspect_nmea.UNREADABLE
    said = capsys.readouterr()
    assert len(said.out.splitlines()) > 20
    assert "ends in the middle" in said.err


@pytest.mark.parametrize(
    ("content", "code"), [(b"no receiver ever said this\n" * 9, inspect_nmea.NOTHING_USABLE), (b"", 1), (None, 2)]
)
def test_the_exit_code_says_what_a_file_is_worth(
    content: bytes | None, code: int, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    path = tmp_path / "log"
    if content is not None:
        path.write_bytes(content)
    assert inspect_nmea.run(argparse.Namespace(file=path, json=False)) == code
    assert str(path) in capsys.readouterr().err


def test_notes_are_skipped_and_binary_data_with_a_hash_is_not(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    right = b"$GPGGA,120000.00,4824.00000,N,00130.00000,W,1,09,0.9,60.0,M,48.0,M,,*4F\r\n"
    path = tmp_path / "log"
    path.write_bytes(b"# " + right + b"\n#\x01\x02" + right)
    _, fixes, summary = inspect(path, capsys)
    assert len(fixes) == 1
    assert summary["refused"] == {"noise": 1}


def test_the_table_is_readable_and_knows_what_it_does_not_know(
    recordings: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    assert inspect_nmea.run(argparse.Namespace(file=recordings / "nmea" / "mr-350p.log", json=False)) == 0
    said = capsys.readouterr().out
    assert "no date                    47.74496167 -122.11212833 3D" in said
    assert "2012-07-04T05:11:46.000Z" in said
    assert "GGA 14" in said


def test_the_help_names_every_exit_code(capsys: pytest.CaptureFixture[str]) -> None:
    parser = argparse.ArgumentParser()
    inspect_nmea.add_arguments(parser)
    with pytest.raises(SystemExit):
        parser.parse_args(["--help"])
    said = capsys.readouterr().out
    assert "Exit codes: 0 done; 1 not one right sentence in it; 2 the file cannot be read" in said
