"""What of a receiver's fixes is believed over time: jumps, backward clocks, and a receiver's health."""

from __future__ import annotations

from dataclasses import replace
from datetime import UTC, datetime, timedelta

import pytest

from hw.gps import ANCHOR_EVERY_S, SILENT_S, GpsSettings, Health, distance_m
from hw.nmea import Fix
from onboard.core.clock import ClockQuality
from onboard.core.events import TimeHeard
from tests.test_hw_gps import BAZOUGES, NOON, drive, gate_now


def test_a_jump_of_1000_km_waits_until_three_fixes_agree() -> None:
    gate = gate_now()
    assert drive(gate, BAZOUGES, 0)
    assert [drive(gate, BAZOUGES, at, north_m=-1_000_000) for at in (1, 2, 3, 4)] == [False, False, True, True]
    assert gate.counts == {"fix_jump": 2}


def test_a_single_false_fix_changes_nothing() -> None:
    gate = gate_now()
    assert drive(gate, BAZOUGES, 0)
    assert not drive(gate, BAZOUGES, 1, north_m=1_000_000)
    assert drive(gate, BAZOUGES, 2)
    assert not drive(gate, BAZOUGES, 3, north_m=1_000_000)
    assert not drive(gate, BAZOUGES, 4, north_m=-1_000_000)
    assert not drive(gate, BAZOUGES, 5, north_m=1_000_000)
    assert drive(gate, BAZOUGES, 6)


def test_a_right_fix_in_between_begins_a_quarantine_anew() -> None:
    gate = gate_now()
    assert drive(gate, BAZOUGES, 0)
    assert not drive(gate, BAZOUGES, 1, north_m=1_000_000)
    assert not drive(gate, BAZOUGES, 2, north_m=1_000_000)
    assert drive(gate, BAZOUGES, 3)
    assert not drive(gate, BAZOUGES, 4, north_m=1_000_000)


def test_driving_and_a_tunnel_are_no_jumps() -> None:
    gate = gate_now()
    assert all(drive(gate, BAZOUGES, at, north_m=12.5 * at) for at in range(60))
    assert drive(gate, BAZOUGES, 660, north_m=10_000)
    assert not gate.counts


def test_epochs_read_at_one_go_after_a_stall_are_no_jumps() -> None:
    gate = gate_now()
    assert all(drive(gate, BAZOUGES, 100, north_m=12.5 * at, time=NOON + timedelta(seconds=at)) for at in range(4))


def test_time_that_runs_back_waits_until_three_fixes_agree() -> None:
    gate = gate_now()
    earlier = NOON - timedelta(hours=1)
    assert drive(gate, BAZOUGES, 0)
    believed = [drive(gate, BAZOUGES, at, time=earlier + timedelta(seconds=at)) for at in (1, 2, 3, 4)]
    assert believed == [False, False, True, True]
    assert gate.counts == {"fix_time_backwards": 2}


def test_a_leap_second_is_no_step_back_but_a_clock_that_stands_is() -> None:
    gate = gate_now()
    midnight = NOON + timedelta(hours=12)
    steps = [midnight - timedelta(seconds=1), midnight, midnight, midnight + timedelta(seconds=1)]
    assert all(drive(gate, BAZOUGES, at, time=time) for at, time in enumerate(steps))
    standing = gate_now()
    believed = [drive(standing, BAZOUGES, at, time=NOON) for at in range(8)]
    assert believed[0]
    assert not any(believed[2:])
    assert standing.counts == {"fix_time_stands_still": 6}


def test_a_good_fix_gives_a_time_with_its_bounds_every_ten_seconds() -> None:
    gate = gate_now()
    heard = []
    for at in range(31):
        fix = replace(BAZOUGES, at_s=500.0 + at, time=NOON + timedelta(seconds=at))
        heard += [event.heard for event in gate.take(fix) if isinstance(event, TimeHeard)]
    assert [anchor.boot_s for anchor in heard] == [500, 500 + ANCHOR_EVERY_S, 520, 530]
    assert heard[0].quality is ClockQuality.GNSS
    assert heard[0].earliest_s == NOON.timestamp() - 1
    assert heard[0].latest_s == NOON.timestamp() + 2


def test_a_refused_fix_gives_no_time() -> None:
    assert gate_now().take(replace(BAZOUGES, time=datetime(2049, 1, 1, tzinfo=UTC))) == []


def test_distances_are_right() -> None:
    # Rennes to Brest, 209.8 km by geodesic.
    rennes, brest = Fix(None, 48.1173, -1.6778, 3), Fix(None, 48.3904, -4.4861, 3)
    assert distance_m(rennes, brest) == pytest.approx(209_800, rel=0.006)
    assert distance_m(rennes, rennes) == 0


# Works or does not


def health() -> Health:
    return Health(GpsSettings("/dev/ttyAMA0", 9600))


def test_a_receiver_without_a_fix_works() -> None:
    told = health().heard(100, 3, 2, 1.0)
    assert told is not None
    assert not told.active


@pytest.mark.parametrize(
    ("data", "sentences_", "said"),
    [(0, 0, "silent: nothing on /dev/ttyAMA0"), (50, 0, "set gps.baud_rate"), (50, 1, "neither RMC nor GGA")],
)
def test_ten_seconds_without_use_are_a_fault_told_once_with_its_remedy(data: int, sentences_: int, said: str) -> None:
    watched = health()
    told = [watched.heard(data, sentences_, 0, float(at)) for at in range(60)]
    faults = [(at, fault) for at, fault in enumerate(told) if fault is not None]
    assert len(faults) == 1
    at, fault = faults[0]
    assert at == SILENT_S
    assert fault.active
    assert said in fault.detail
    again = watched.heard(90, 2, 1, 61.0)
    assert again is not None
    assert not again.active


def test_a_receiver_plugged_in_again_has_its_full_time_to_speak() -> None:
    watched = health()
    assert watched.heard(100, 3, 2, 1.0) is not None
    assert watched.lost("gone") is not None
    assert watched.heard(0, 0, 0, 500.0) is None
    assert watched.heard(0, 0, 0, 509.9) is None
    assert watched.heard(0, 0, 0, 510.0) is not None


def test_a_speed_that_no_port_has_is_refused() -> None:
    with pytest.raises(ValueError, match=r"gps\.baud_rate must be a speed above 0"):
        GpsSettings("/dev/ttyAMA0", 0)
