"""A car that never had a network: a week of rentals whose bookings come in and trips go out on phones alone."""

from __future__ import annotations

import asyncio
from pathlib import Path

import pytest

from sim import week_demo
from sim.week import Result, Week


def play(folder: Path, *, carry: bool) -> tuple[Result, list[str]]:
    told: list[str] = []
    week = Week(folder, lambda _wall_s, _source, text: told.append(text), carry=carry)
    return asyncio.run(week.play()), told


def test_the_week_ends_with_every_trip_in_the_cloud_exactly_once(tmp_path: Path) -> None:
    result, told = play(tmp_path, carry=True)
    assert len(result.driven) == 10
    assert sorted(each["reservation"] for each in result.rentals) == sorted(result.driven)
    assert {each["reservation"]: each["distance_m"] for each in result.rentals} == result.driven
    assert len(result.trips) == 10
    assert all(each["ended_s"] is not None for each in result.trips)
    assert result.alarms == []
    # Late, twice, never: each of them is in the story.
    assert "Chloé's phone hands over once more 2 batches" in told
    assert "David's phone is gone, with what it carried" in told
    assert all(check.holds for check in week_demo.judge(result))


def test_with_the_courier_switched_off_bookings_are_refused_and_trips_missing(tmp_path: Path) -> None:
    result, told = play(tmp_path, carry=False)
    assert "Fanny holds her card to the reader: no booking known here" in told
    assert ("Emma", "clock_unproven") in result.refused
    assert result.driven, "passes open the door all the same"
    assert result.rentals == []
    assert result.trips == []
    assert result.unacknowledged > 40
    assert sum(not check.holds for check in week_demo.judge(result)) >= 3


@pytest.mark.parametrize(("options", "code"), [([], 0), (["--no-courier"], 1)])
def test_the_demo_says_what_came_of_it(options: list[str], code: int, capsys: pytest.CaptureFixture[str]) -> None:
    assert week_demo.main(options) == code
    said = capsys.readouterr().out
    assert "Sunday: the last trip" in said
    assert ("✗" in said) == bool(code)
