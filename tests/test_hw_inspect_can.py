"""Recordings read as a stream, and what ``inspect can`` says of them: the LEAF drive's figures exactly."""

from __future__ import annotations

import argparse
import gzip
import io
import json
import os
import subprocess
import sys
from collections.abc import Callable
from itertools import pairwise
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from hw import inspect_can
from hw.can_signals import crc8_85
from hw.recordings import CandumpReader, RecordingError

LEAF_DRIVE = "can/leaf_ze1_62kwh_drive_eco.candump.log.gz"
Shown = tuple[int, list[dict[str, Any]], dict[str, Any]]


def inspect(path: Path, car: str, *more: str) -> int:
    parser = argparse.ArgumentParser()
    inspect_can.add_arguments(parser)
    return inspect_can.run(parser.parse_args([str(path), "--car", car, *more]))


@pytest.fixture
def shown(capsys: pytest.CaptureFixture[str]) -> Callable[[Path, str], Shown]:
    def show(path: Path, car: str) -> Shown:
        code = inspect(path, car, "--json")
        objects = [json.loads(line) for line in capsys.readouterr().out.splitlines()]
        return code, objects[:-1], objects[-1]["summary"]

    return show


def log(path: Path, frames: list[tuple[float, str]], channel: str = "can0") -> Path:
    path.write_text("".join(f"({1700000000 + t:.6f}) {channel} {word}\n" for t, word in frames))
    return path


def guarded(identifier: str, *data: int) -> str:
    return f"{identifier}#{(bytes(data) + bytes([crc8_85(bytes(data))])).hex().upper()}"


def soc(turn: int, pct: float) -> str:
    raw = round(pct * 10)
    return guarded("55B", raw >> 2, raw << 6 & 0xFF, 0, 0, 0, 0, turn & 3)


# The LEAF drive


def test_the_leaf_drive_gives_the_stated_figures(recordings: Path, shown: Callable[[Path, str], Shown]) -> None:
    code, rows, summary = shown(recordings / LEAF_DRIVE, "leaf")
    assert code == 0
    signals = summary["signals"]

    def figures(key: str) -> tuple[Any, ...]:
        return tuple(signals[key][name] for name in ("frames", "first", "last", "min", "max"))

    assert figures("soc_pct") == (305, 92.6, 91.9, 91.8, 92.6)
    assert figures("odometer_km") == (305, 77664, 77665, 77664, 77665)
    assert figures("speed_kmh") == (1527, 0, 71.21, 0, 120.77)
    assert figures("gear") == (3054, "D", "D", "D", "D")
    assert figures("charger_state") == (305, 0, 0, 0, 0)
    assert figures("current_a") == (3045, -2.0, -2.5, -430.0, 61.5)
    assert figures("voltage_v") == (3045, 395.0, 391.5, 367.5, 395.0)
    assert figures("odometer_unit") == (763, "km", "km", "km", "km")
    assert (summary["soc_first_pct"], summary["soc_last_pct"]) == (92.6, 91.9)
    assert (summary["odometer_first_km"], summary["odometer_last_km"]) == (77664, 77665)
    assert (summary["speed_max_kmh"], summary["speed_max_at_s"]) == (120.77, 19.973)
    assert (summary["distance_m"], summary["distance_source"]) == (1000, "odometer")
    assert (summary["distance_by_speed_m"], summary["odometer_resolution_m"]) == (556.9, 1000)
    assert summary["charging_spells"] == []
    assert summary["charging_last"] == "not_charging"
    assert summary["frames"]["seen"] == 41602
    assert summary["frames"]["used"] == 305 * 3 + 1527 + 3054 + 3045 + 763
    assert summary["frames"]["refused_by_reason"] == {"foreign_id": summary["frames"]["refused"]}
    assert summary["values_refused"] == {}

    def changes(key: str) -> list[tuple[float, Any]]:
        pairs = [(row["t_s"], row[key]) for row in rows if row[key] is not None]
        return [b for a, b in pairwise(pairs) if a[1] != b[1]]

    falls = [7.234, 10.542, 12.647, 14.352, 15.756, 17.160, 18.564, 19.968]
    levels = [92.5, 92.4, 92.3, 92.2, 92.1, 92.0, 91.9, 91.8]
    assert changes("soc_pct") == [*zip(falls, levels, strict=True), (21.873, 91.9)]
    assert changes("odometer_km") == [(22.336, 77665)]
    assert len(rows) < 100


def test_the_leaf_drive_reads_the_same_as_plain_text_and_by_a_name_without_gz(
    recordings: Path, tmp_path: Path, shown: Callable[[Path, str], Shown]
) -> None:
    packed = (recordings / LEAF_DRIVE).read_bytes()
    (tmp_path / "renamed.bin").write_bytes(packed)
    (tmp_path / "plain.log").write_bytes(gzip.decompress(packed))
    one, other = (shown(tmp_path / name, "leaf") for name in ("renamed.bin", "plain.log"))
    assert one[1] == other[1]
    assert one[2]["signals"] == other[2]["signals"]


def test_another_cars_recording_says_so_and_gives_no_value(
    recordings: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    assert inspect(recordings / "can/leaf2019_uds_soc.candump.log.gz", "leaf", "--json") == 1
    printed = capsys.readouterr()
    summary = json.loads(printed.out.splitlines()[-1])["summary"]
    assert summary["frames"] == {
        "seen": 5588,
        "used": 0,
        "refused": 5588,
        "refused_by_reason": {"foreign_id": 5588},
    }
    assert summary["distance_source"] == "none"
    assert "is it another car's? Choose with --car" in printed.err


def test_a_table_for_people_has_the_figures_too(recordings: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert inspect(recordings / LEAF_DRIVE, "leaf") == 0
    lines = capsys.readouterr().out.splitlines()
    assert "state of charge  92.6 -> 91.9 %" in lines
    assert "distance         1000 m by odometer" in lines
    assert "  by speed       556.9 m" in lines
    assert "maximum speed    120.77 km/h at 19.973 s" in lines
    assert len(lines) < 100


# Other recordings


def test_power_up_sentinels_are_refused_and_what_follows_counts(
    tmp_path: Path, shown: Callable[[Path, str], Shown]
) -> None:
    frames = [(i / 100, guarded("1DB", 0x7F, 0xE0, 0xFF, 0xC0, 0, 0, i & 3)) for i in range(20)]
    frames += [(0.2 + i / 100, guarded("1DB", 0xFF, 0x80, 0xC5, 0xAA, 0, 0, i & 3)) for i in range(20)]
    frames += [(0.4 + i / 10, soc(i, 102.3 if i < 5 else 90.6)) for i in range(10)]
    _, _, summary = shown(log(tmp_path / "start.log", frames), "leaf")
    assert summary["signals"]["voltage_v"]["max"] == 395.0
    assert summary["signals"]["current_a"]["max"] == -2.0
    assert (summary["soc_first_pct"], summary["soc_last_pct"]) == (90.6, 90.6)
    assert summary["values_refused"] == {"sentinel:current": 20, "sentinel:voltage": 20, "sentinel:soc": 5}


def test_charging_spells_have_their_times_and_states_of_charge(
    tmp_path: Path, shown: Callable[[Path, str], Shown]
) -> None:
    frames = []
    for i in range(300):
        state = 4 if 50 <= i < 150 or i >= 250 else 12
        frames.append((i / 10, f"390#0000000000{state << 1:02X}0000"))
        frames.append((i / 10 + 0.05, soc(i, 58.4 + (i >= 120) * 0.1)))
    _, _, summary = shown(log(tmp_path / "charge.log", frames), "leaf")
    assert [(s["from_s"], s["to_s"]) for s in summary["charging_spells"]] == [(5.0, 15.0), (25.0, None)]
    assert [s["soc_last_pct"] for s in summary["charging_spells"]] == [58.5, 58.5]
    assert summary["charging_last"] == "charging"


def test_an_odometer_that_falls_is_no_negative_distance(tmp_path: Path, shown: Callable[[Path, str], Shown]) -> None:
    units = [1000] * 5 + [1001] * 5 + [200] * 5 + [203] * 5
    frames = [(i / 10, f"581#00000000{unit.to_bytes(3, 'little').hex()}00") for i, unit in enumerate(units)]
    _, _, summary = shown(log(tmp_path / "reset.log", frames), "ami")
    assert summary["odometer_resets"] == 2, "the fall, and a rise faster than the car can go"
    assert summary["distance_m"] == 100
    assert (summary["odometer_first_km"], summary["odometer_last_km"]) == (100.0, 20.3)


def test_without_an_odometer_distance_comes_from_speed_but_not_across_gaps(
    tmp_path: Path, shown: Callable[[Path, str], Shown]
) -> None:
    frames = [(i / 10, "581#FFFFFF00FFFFFF24") for i in range(101)]
    frames += [(t + 60, word) for t, word in frames]
    _, _, summary = shown(log(tmp_path / "speed.log", frames), "ami")
    assert summary["distance_source"] == "speed_integral"
    assert summary["distance_m"] == pytest.approx(100 + 100 - 15, abs=1), (
        "the second stretch loses 1.5 s after the wake"
    )
    assert summary["speed_gaps"] == 1


# Bad input


def test_broken_lines_are_counted_with_their_numbers_and_the_rest_is_read(
    tmp_path: Path, shown: Callable[[Path, str], Shown]
) -> None:
    good = [f"(1700000000.{i}00000) can0 {soc(i, 80.0)}" for i in range(5)]
    bad = ["nonsense", "(1.0) can0 55B#1", "(1.0) can0 FFF#00", "(x) can0 55B#00", "(1.0) can0 55B#" + 2000 * "0"]
    lines = [line for pair in zip(good, bad, strict=True) for line in pair]
    (tmp_path / "a.log").write_bytes("\n".join(lines).encode() + b"\n\xff\xfe\x00\n\n")
    code, _, summary = shown(tmp_path / "a.log", "leaf")
    assert code == 0
    assert summary["signals"]["soc_pct"]["frames"] == 5
    assert summary["lines"]["broken"] == 6
    assert summary["lines"]["first_broken"] == [2, 4, 6, 8, 10, 11]


def test_every_kind_of_frame_in_a_log_is_told_apart(tmp_path: Path) -> None:
    words = ["713#0011", "00000713#0011", "20000004#0004000000000000", "713#R", "713#R8", "713##1" + 12 * "AB", "713#"]
    frames = list(CandumpReader(log(tmp_path / "kinds.log", [(0.5, word) for word in words])))
    kinds = [(f.arbitration_id, f.is_extended, f.is_error, f.is_remote, len(f.data)) for f in frames]
    assert kinds == [
        (0x713, False, False, False, 2),
        (0x713, True, False, False, 2),
        (0x4, False, True, False, 8),
        (0x713, False, False, True, 0),
        (0x713, False, False, True, 0),
        (0x713, False, False, False, 12),
        (0x713, False, False, False, 0),
    ]


def test_times_start_at_the_first_frame_and_never_run_backwards(tmp_path: Path) -> None:
    reader = CandumpReader(
        log(tmp_path / "t.log", [(5, "1#"), (5, "713#"), (7, "713#"), (6.9, "713#"), (-900, "713#")])
    )
    assert [f.at_s for f in reader] == [0, 2, 2, 2]
    assert reader.counts["time_backwards"] == 2
    after = log(tmp_path / "u.log", [(5, "713#"), (-900, "713#"), (-899, "713#")])
    assert [f.at_s for f in CandumpReader(after)] == [0, 0, 1]


def test_a_cut_off_archive_gives_what_came_before(
    recordings: Path, tmp_path: Path, shown: Callable[[Path, str], Shown]
) -> None:
    packed = (recordings / LEAF_DRIVE).read_bytes()
    (tmp_path / "cut.gz").write_bytes(packed[: len(packed) // 2])
    code, _, summary = shown(tmp_path / "cut.gz", "leaf")
    assert code == 0
    assert summary["lines"]["archive_damaged"] is True
    assert summary["soc_first_pct"] == 92.6
    assert 1000 < summary["frames"]["seen"] < 41602


@pytest.mark.parametrize(
    ("content", "complaint"),
    [(b"", "empty"), (b"  can0  580   [8]  97 FC 79 14\n", "candump -L"), (b"\x00" * 5000, "-L")],
)
def test_a_file_with_nothing_in_it_is_exit_code_1_and_says_why(
    content: bytes, complaint: str, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    (tmp_path / "x.log").write_bytes(content)
    assert inspect(tmp_path / "x.log", "ami") == 1
    assert complaint in capsys.readouterr().err


@pytest.mark.parametrize(("file", "car"), [("missing.log", "ami"), (".", "ami"), ("missing.log", "zoe")])
def test_what_cannot_be_read_is_exit_code_2_with_a_remedy(
    file: str, car: str, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    assert inspect(tmp_path / file, car) == 2
    printed = capsys.readouterr()
    assert "use one of" in printed.err or "name a file" in printed.err


@given(st.binary(max_size=400))
def test_no_bytes_whatever_make_the_reader_raise(tmp_path_factory: pytest.TempPathFactory, content: bytes) -> None:
    path = tmp_path_factory.getbasetemp() / "any.log"
    for head in (b"", b"\x1f\x8b"):
        path.write_bytes(head + content)
        list(CandumpReader(path))


def test_a_missing_recording_is_an_error_for_other_users_of_the_reader(tmp_path: Path) -> None:
    with pytest.raises(RecordingError, match="No such file"):
        list(CandumpReader(tmp_path / "none"))


# The command


def test_progress_runs_to_the_end_of_the_file(recordings: Path) -> None:
    told: list[tuple[int, int]] = []
    path = recordings / LEAF_DRIVE
    assert sum(1 for _ in CandumpReader(path, lambda done, total: told.append((done, total)))) == 41602
    assert len(told) > 5
    assert told[-1] == (path.stat().st_size, path.stat().st_size)
    assert [done for done, _ in told] == sorted(done for done, _ in told)


def test_a_long_file_shows_a_bar_on_a_terminal_and_leaves_the_output_alone(
    recordings: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    class Terminal(io.StringIO):
        def isatty(self) -> bool:
            return True

    terminal = Terminal()
    monkeypatch.setattr(inspect_can, "LONG_FILE_BYTES", 1000)
    monkeypatch.setattr(sys, "stderr", terminal)
    monkeypatch.setenv("TERM", "xterm")
    assert inspect(recordings / LEAF_DRIVE, "leaf", "--json") == 0
    assert "leaf_ze1" in terminal.getvalue()
    objects = [json.loads(line) for line in capsys.readouterr().out.splitlines()]
    assert "summary" in objects[-1]


def test_a_reader_that_has_seen_enough_ends_the_command_in_peace(recordings: Path) -> None:
    command = [sys.executable, "-m", "hw.inspect_can", str(recordings / LEAF_DRIVE), "--car", "leaf", "--json"]
    readable, writable = os.pipe()
    os.close(readable)
    process = subprocess.run(command, stdout=writable, stderr=subprocess.PIPE, timeout=60, check=False)
    os.close(writable)
    assert (process.returncode, process.stderr) == (0, b"")


def test_the_help_names_the_cars_and_the_exit_codes(capsys: pytest.CaptureFixture[str]) -> None:
    parser = argparse.ArgumentParser()
    inspect_can.add_arguments(parser)
    with pytest.raises(SystemExit):
        parser.parse_args(["--help"])
    printed = " ".join(capsys.readouterr().out.split())
    assert "ami, leaf" in printed
    assert "exit codes: 0 done; 1 the file was read" in printed
