"""The simulation's clocks."""

from __future__ import annotations

import argparse

import pytest

from onboard.core.clock import ClockQuality
from sim.clock import START_S, ManualClock, ScaledClock, add_clock_arguments, real_boot_s

WALL_S = 1_800_000_000.0


def test_a_scaled_clock_runs_as_many_times_as_fast() -> None:
    clock = ScaledClock(12.0, real_boot_s() - 10.0, WALL_S)
    assert clock.boot_s() == pytest.approx(START_S + 120, abs=12)
    now = clock.now()
    assert now.wall_s - WALL_S == pytest.approx(now.boot_s - START_S, abs=0.01)
    assert now.quality is ClockQuality.UNSET


def test_a_wait_is_real_seconds_and_never_below_none() -> None:
    clock = ScaledClock(12.0, real_boot_s(), WALL_S)
    assert clock.wait_s(START_S + 120) == pytest.approx(10, abs=1)
    assert clock.wait_s(0) == 0


def test_the_same_arguments_give_the_same_time_in_another_process() -> None:
    clock = ScaledClock(12.5, 1234.567890123, WALL_S + 0.1)
    parser = argparse.ArgumentParser()
    add_clock_arguments(parser)
    assert ScaledClock.from_arguments(parser.parse_args(clock.arguments())) == clock


def test_a_manual_clock_moves_only_forward_and_only_by_hand() -> None:
    clock = ManualClock(WALL_S)
    assert clock.now().wall_s == WALL_S
    clock.advance(START_S + 5)
    assert clock.boot_s() == START_S + 5
    assert clock.now().wall_s == WALL_S + 5
    assert clock.wait_s(START_S + 7) == 2
    with pytest.raises(ValueError, match="before"):
        clock.advance(START_S)
