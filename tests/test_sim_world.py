"""Whole towns on virtual time: a sample of seeds, the same story each time, and bugs that the rules must find."""

from __future__ import annotations

import asyncio
import json
import re
from collections.abc import Callable
from dataclasses import replace
from typing import Any

import pytest

from cloud_sync.documents import GENESIS
from cloud_sync.endpoint.messages import LogPlace, Taken
from cloud_sync.endpoint.store import Store
from onboard.core import machine
from onboard.core.commands import Actuate, Record
from onboard.core.events import DoorReported
from onboard.reactor import Reactor
from sim import simulate
from sim.world.car import Car
from sim.world.loop import Deadlock, now_s, play
from sim.world.play import Plan, drawn, live, short
from sim.world.rates import Rates, draw, random_of

SEEDS = 200
CHUNKS = 20


def small(seed: int) -> Plan:
    """Return a seed's world as ``--short`` plays it."""
    return short(drawn(seed))


@pytest.mark.parametrize("chunk", range(CHUNKS))
def test_every_rule_holds_in_a_sample_of_worlds(chunk: int) -> None:
    trips = 0
    for seed in range(chunk, SEEDS, CHUNKS):
        outcome = live(small(seed))
        assert outcome.broken == "", f"python -m sim simulate --short --replay {seed}\n{outcome.story}"
        trips += outcome.counts["trips"]
    assert trips >= 5, "something happened in them"


def test_a_seed_gives_the_same_story_each_time() -> None:
    first, second = live(small(21)), live(small(21))
    assert first.counts == second.counts
    assert first.lived_s == second.lived_s
    assert first.counts["trips"] > 0
    assert live(small(22)).counts != first.counts


def test_each_kind_of_trouble_is_in_some_world_and_none_in_all() -> None:
    present = [set(draw(random_of(seed, "plan")).present) for seed in range(100)]
    for name in Rates.__slots__:
        assert 10 < sum(name in each for each in present) < 70, name


def first_broken(plans: list[Plan]) -> str:
    """Return what the first of these worlds that breaks a rule breaks."""
    return next((outcome.broken for outcome in map(live, plans) if outcome.broken), "")


def worlds(**rates: float) -> list[Plan]:
    return [Plan(seed, 1, 6.0, Rates(**rates)) for seed in range(12)]


def test_without_a_bug_these_worlds_hold() -> None:
    for rates in ({"hostile_broker": 0.5, "cancelled": 0.5}, {"report_late": 0.7, "latch_sticks": 0.5}, {}):
        assert first_broken(worlds(**rates)[:4]) == ""


def test_to_act_before_the_record_is_found(monkeypatch: pytest.MonkeyPatch) -> None:
    step = Reactor._step

    async def acts_first(self: Any, event: Any) -> None:
        _, commands = machine.step(self.state, event, self._clock.now())
        if commands and isinstance(commands[0], Record):
            for command in commands:
                if isinstance(command, Actuate):
                    self._door.actuate(command)
        await step(self, event)

    monkeypatch.setattr(Reactor, "_step", acts_first)
    assert "a door opens and no trip runs" in first_broken(worlds())


def test_an_acknowledgement_before_the_commit_is_found(monkeypatch: pytest.MonkeyPatch) -> None:
    take = Store.take_batch

    def forgets(self: Store, batch: Any, now_s: float) -> Taken:
        taken = take(self, batch, now_s)
        with self.write() as db:
            for table in ("trips", "rentals"):
                db.exec_driver_sql(f"DELETE FROM {table}")  # noqa: S608 - two words of ours
        return taken

    monkeypatch.setattr(Store, "take_batch", forgets)
    assert "the commune knows trips" in first_broken(worlds())


def test_a_report_taken_for_fresh_when_it_came_late_is_found(monkeypatch: pytest.MonkeyPatch) -> None:
    post = Car.post

    def restamped(self: Car, event: Any) -> None:
        if isinstance(event, DoorReported):
            event = replace(event, sampled_s=self.boot_s)
        post(self, event)

    monkeypatch.setattr(Car, "post", restamped)
    plans = [Plan(seed, 1, 20.0, Rates(report_late=0.7, latch_sticks=0.5, stops_on_the_way=1.0)) for seed in range(30)]
    assert "ends locked, and the car stands open" in first_broken(plans)


def test_an_older_list_that_is_taken_is_found(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("onboard.core.request.access.list_version", lambda _state: 0)
    assert "it takes list" in first_broken(worlds(hostile_broker=0.6, cancelled=0.5, message_late=0.5))


FLAT = {"battery_flat_every_h": 1.0, "stops_on_the_way": 0.5}


def test_a_flat_battery_locks_nobody_out_of_a_running_trip() -> None:
    outcomes = [live(plan) for plan in worlds(**FLAT)[:3]]
    assert [outcome.broken for outcome in outcomes] == [""] * 3
    assert sum(outcome.counts["switched off"] for outcome in outcomes) >= 1, "boxes did switch themselves off"
    assert sum(outcome.counts["trips"] for outcome in outcomes) >= 3


def test_a_box_that_switches_itself_off_in_a_rental_is_found(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("onboard.core.power._permitted", lambda _state, level: level)
    assert "switched itself off in a rental" in first_broken(worlds(**FLAT))


def test_nobody_left_to_act_is_an_error_and_time_costs_nothing() -> None:
    async def waits() -> float:
        await asyncio.sleep(86_400)
        return now_s()

    async def for_ever() -> None:
        await asyncio.Event().wait()

    assert play(waits()) == 86_400
    with pytest.raises(Deadlock):
        play(for_ever())


def test_the_command_replays_shrinks_and_adds_up(
    tmp_path: Any, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    totals = tmp_path / "totals.json"
    drawn_small: Callable[[int], Plan] = small
    monkeypatch.setattr(simulate, "drawn", drawn_small)
    words = ["--jobs", "1", "--totals", str(totals), "--seeds"]
    assert simulate.main([*words, "2"]) == 0
    assert simulate.main([*words, "3"]) == 0
    said = capsys.readouterr().out
    assert "up to seed 2: " in said
    assert "up to seed 3: " in said
    assert "seeds that broke a rule: none" in said
    assert json.loads(totals.read_text())["next_seed"] == 3, "the second run began where the first had stopped"
    assert simulate.main(["--replay", "1"]) == 0
    assert "every rule holds" in capsys.readouterr().out

    monkeypatch.setattr(Store, "take_batch", _forgets_everything)
    assert simulate.main(["--replay", "1", "--shrink"]) == 1
    said = capsys.readouterr().out
    assert "have not reached the commune" in said
    assert "what goes wrong: nothing" in said, "the troubles of the seed have nothing to do with it"


def test_a_seed_that_is_mended_is_no_longer_broken_and_the_summary_says_so(
    tmp_path: Any, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    totals = tmp_path / "totals.json"
    monkeypatch.setattr(simulate, "drawn", small)
    words = ["--jobs", "1", "--totals", str(totals), "--seeds", "2", "--first", "1"]
    with monkeypatch.context() as broken:
        broken.setattr(Store, "take_batch", _forgets_everything)
        assert simulate.main(words) == 1
        assert simulate.main(words) == 1, "still"
    capsys.readouterr()
    assert simulate.main(words) == 0
    said = capsys.readouterr().out
    assert "1 is mended: ami-1: " in said
    assert "nothing to do" in said
    assert list(json.loads(totals.read_text())["mended"]) == ["1"]


@pytest.mark.parametrize(
    ("words", "why"),
    [
        (["--jobs", "0"], "from 1 up"),
        (["--seeds", "-5"], "from 1 up|from 0 up"),
        (["--first", "x"], "from 0 up"),
        (["--replay", "-1"], "from 0 up|expected one argument"),
        (["--shrink"], "goes with --replay"),
    ],
)
def test_wrong_words_are_refused(capsys: pytest.CaptureFixture[str], words: list[str], why: str) -> None:
    with pytest.raises(SystemExit) as refused:
        simulate.main(words)
    assert refused.value.code == 2
    assert re.search(why, capsys.readouterr().err)


def test_short_worlds_have_totals_of_their_own(tmp_path: Any) -> None:
    totals = tmp_path / "totals.json"
    assert simulate.main(["--seeds", "2", "--short", "--jobs", "1", "--totals", str(totals)]) == 0
    assert json.loads(totals.read_text())["lived_s"] == sum(live(small(seed)).lived_s for seed in range(2))
    with pytest.raises(SystemExit, match=r"totals\.json has short worlds"):
        simulate.main(["--seeds", "3", "--totals", str(totals)])


def test_totals_that_are_none_are_named(tmp_path: Any) -> None:
    file = tmp_path / "totals.json"
    file.write_text('{"next_seed": 3')
    with pytest.raises(SystemExit, match=r"totals\.json does not hold"):
        simulate.main(["--totals", str(file)])


def test_a_story_tells_of_the_broken_car_in_words(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(Store, "take_batch", _forgets_everything)
    outcome = live(Plan(3, 2, 6.0, Rates()), story_lines=200)
    lines = outcome.story.splitlines()
    assert outcome.broken.startswith("ami-1: ")
    assert any("writes TripStarted: rental 1, trip 1, kind booking" in line for line in lines)
    assert not any("ami-2" in line for line in lines)
    assert max(map(len, lines)) < 190


def _forgets_everything(_self: Store, _batch: Any, _now_s: float) -> Taken:
    """Take nothing, and acknowledge nothing."""
    return Taken(0, LogPlace(0, GENESIS), None, alarm=False)
