"""Recordings through a whole box into the endpoint's database."""

from __future__ import annotations

import json
import sqlite3
from collections.abc import Callable
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import pytest

from sim.gnss import TrueFix, sentences
from sim.replay import main

LEAF = "can/leaf_ze1_62kwh_drive_eco.candump.log.gz"
Play = Callable[..., dict[str, Any]]


@pytest.fixture
def play(capsys: pytest.CaptureFixture[str]) -> Play:
    """Plays, and returns the one JSON object it prints with its exit code as ``code``."""

    def run(can: Path, car: str, nmea: Path, *more: str) -> dict[str, Any]:
        code = main(["--can", str(can), "--car", car, "--nmea", str(nmea), "--json", *more])
        lines = capsys.readouterr().out.splitlines()
        assert len(lines) == 1
        found: dict[str, Any] = json.loads(lines[0])
        return {**found, "code": code}

    return run


def candump(path: Path, frames: list[tuple[float, str]]) -> Path:
    path.write_text("".join(f"({1_600_000_000 + at_s:.6f}) can0 {frame}\n" for at_s, frame in frames))
    return path


def ami_drive(path: Path, *, stops: bool) -> Path:
    """An AMI that stands, drives 200 m by its odometer, and stops, or is cut off while it drives."""
    frames = []
    for tenth in range(600):
        at_s = tenth / 10
        speed = 36 if 5 <= at_s < 25 or (not stops and at_s >= 5) else 0
        units = 46962 + min(2, max(0, int((at_s - 5) // 10)))
        frames.append((at_s, f"581#00000000{units.to_bytes(3, 'little').hex()}{speed:02X}"))
        frames.append((at_s, "580#97FC791400400000"))
    return candump(path, frames)


def walk(path: Path, start: datetime, seconds: int) -> Path:
    """A receiver that stands still."""
    fixes = (TrueFix(48.3, -1.8, 0.0, 0.0, start + timedelta(seconds=n)) for n in range(seconds))
    path.write_bytes(b"".join(sentences(fix) for fix in fixes))
    return path


def test_the_leaf_drive_is_one_trip_with_its_distance_and_its_source(play: Play, recordings: Path) -> None:
    result = play(recordings / LEAF, "leaf", recordings / "nmea/ublox-8.log")
    trip = result["trip"]
    assert result["code"] == 0
    assert result["ok"]
    assert (result["trips"], result["rentals"]) == (1, 1)
    assert (trip["distance_m"], trip["distance_source"], trip["distance_resolution_m"]) == (1000, "odometer", 1000)
    assert result["speed_integral_m"] == pytest.approx(557, abs=2)
    assert trip["soc_end_pct"] == pytest.approx(91.9)
    assert result["can"]["last_speed_kmh"] == pytest.approx(71.21)
    assert trip["flags"] == ["standstill_unproven"]
    assert "71 km/h" in result["end"]
    assert result["rental"]["reason"] == "finished"
    assert result["acknowledged"] == result["records"]
    assert result["refused_by_cloud"] == {}


def test_the_trip_stands_in_the_endpoints_database_on_disk(play: Play, recordings: Path, tmp_path: Path) -> None:
    kept = tmp_path / "kept"
    play(recordings / LEAF, "leaf", recordings / "nmea/neo-m8n.log", "--keep", str(kept))
    with sqlite3.connect(kept / "cloud/data/cloud.sqlite3") as db:
        rows = db.execute("SELECT trip, distance_m, distance_source FROM trips").fetchall()
        chained = db.execute("SELECT count(*), max(seq) FROM events").fetchone()
    db.close()
    assert rows == [(1, 1000, "odometer")]
    assert chained[0] == chained[1], "every row of the box once"


def test_the_same_recordings_give_the_same_trip_again(play: Play, recordings: Path) -> None:
    def once() -> dict[str, Any]:
        result = play(recordings / LEAF, "leaf", recordings / "nmea/ublox-8.log")
        volatile = ("id",)
        return {key: value for key, value in result["trip"].items() if key not in volatile}

    assert once() == once()


def test_a_car_that_stops_ends_its_trip_without_a_flag(play: Play, tmp_path: Path) -> None:
    nmea = walk(tmp_path / "gps.log", datetime(2025, 5, 1, 12, tzinfo=UTC), 60)
    result = play(ami_drive(tmp_path / "can.log", stops=True), "ami", nmea)
    assert result["trip"]["flags"] == []
    assert result["standing"] == "still"
    assert (result["trip"]["distance_m"], result["trip"]["distance_source"]) == (200, "odometer")
    assert result["trip"]["duration_s"] == pytest.approx(5 + 60 + 15 + 2, abs=2)
    assert result["nmea"]["believed"] == 60


def test_a_recording_cut_off_in_mid_drive_ends_flagged(play: Play, tmp_path: Path) -> None:
    nmea = walk(tmp_path / "gps.log", datetime(2025, 5, 1, 12, tzinfo=UTC), 20)
    result = play(ami_drive(tmp_path / "can.log", stops=False), "ami", nmea)
    assert result["ok"]
    assert "standstill_unproven" in result["trip"]["flags"]


@pytest.mark.parametrize("year", [2004, 2019, 2031])
def test_the_clock_is_the_receivers_whatever_the_year(play: Play, tmp_path: Path, year: int) -> None:
    start = datetime(year, 3, 2, 23, 59, 30, tzinfo=UTC)
    result = play(ami_drive(tmp_path / "can.log", stops=True), "ami", walk(tmp_path / "gps.log", start, 60))
    assert result["ok"]
    assert result["nmea"]["believed"] == 60
    assert result["trip"]["started_s"] == pytest.approx(start.timestamp() - 5, abs=3)


def test_a_receiver_without_a_fix_does_no_harm(play: Play, recordings: Path, tmp_path: Path) -> None:
    result = play(ami_drive(tmp_path / "can.log", stops=True), "ami", recordings / "nmea/holux-gm-210.log")
    assert result["ok"]
    assert result["trip"]["distance_m"] == 200
    assert not result["nmea"]["dated"]


def test_a_bus_without_a_frame_of_the_car_still_gives_one_trip(play: Play, tmp_path: Path) -> None:
    nmea = walk(tmp_path / "gps.log", datetime(2025, 5, 1, 12, tzinfo=UTC), 20)
    result = play(candump(tmp_path / "can.log", [(0.0, "123#00"), (1.0, "18FF0000#00")]), "ami", nmea)
    assert result["ok"]
    assert result["can"]["used"] == 0
    assert "no speed" in result["end"]


def test_played_by_a_clock_it_takes_its_time(play: Play, tmp_path: Path) -> None:
    nmea = walk(tmp_path / "gps.log", datetime(2025, 5, 1, 12, tzinfo=UTC), 60)
    result = play(ami_drive(tmp_path / "can.log", stops=True), "ami", nmea, "--speed", "60")
    assert result["ok"]
    assert 1.2 <= result["took_s"] < 10


@pytest.mark.parametrize("missing", ["can", "nmea"])
def test_a_missing_recording_is_named(tmp_path: Path, capsys: pytest.CaptureFixture[str], missing: str) -> None:
    files = {
        "can": ami_drive(tmp_path / "can.log", stops=True),
        "nmea": walk(tmp_path / "gps.log", datetime(2025, 5, 1, 12, tzinfo=UTC), 5),
    }
    files[missing] = tmp_path / "nowhere.log"
    assert main(["--can", str(files["can"]), "--car", "ami", "--nmea", str(files["nmea"])]) == 2
    assert "nowhere.log" in capsys.readouterr().err


def test_an_unknown_car_and_a_file_that_is_no_receivers_are_named(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    can = ami_drive(tmp_path / "can.log", stops=True)
    nmea = walk(tmp_path / "gps.log", datetime(2025, 5, 1, 12, tzinfo=UTC), 5)
    assert main(["--can", str(can), "--car", "zoe", "--nmea", str(nmea)]) == 2
    assert "zoe" in capsys.readouterr().err
    assert main(["--can", str(can), "--car", "ami", "--nmea", str(can)]) == 2
    assert "not one right NMEA sentence" in capsys.readouterr().err


def test_read_aloud_it_names_distance_source_and_flag(recordings: Path, capsys: pytest.CaptureFixture[str]) -> None:
    main(["--can", str(recordings / LEAF), "--car", "leaf", "--nmea", str(recordings / "nmea/ublox-8.log")])
    said = capsys.readouterr().out
    for words in ("1000 m by odometer", "557 m", "standstill_unproven", "one trip, once"):
        assert words in said
