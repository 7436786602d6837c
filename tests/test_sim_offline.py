"""A month without network, on a disk, then drained: everything is at the commune once, and the run can fail."""

from __future__ import annotations

import asyncio
import subprocess
import sys
from dataclasses import replace
from functools import partial
from pathlib import Path
from typing import Any

import pytest

from cloud_sync.documents import EventBatch
from cloud_sync.endpoint.messages import LogPlace, Taken
from cloud_sync.endpoint.store import Store as CommuneStore
from cloud_sync.wire import Topic
from onboard.core import access
from onboard.mail import Mail
from onboard.store_room import LIMITS, Limits
from onboard.store_thread import StoreThread
from sim import month_drain, offline
from sim.month import DAY_RECORDS_MAX, Month, Plan, Result
from sim.month_count import differences
from sim.month_drain import Pipe
from sim.offline import judge
from sim.week_town import Town

SHORT = Plan(days=2, events=150)


def play(folder: Path, plan: Plan = SHORT) -> Result:
    return asyncio.run(Month(folder, plan, lambda _text: None).play())


def broken(result: Result, plan: Plan = SHORT) -> set[str]:
    return {check.name for check in judge(result, plan) if not check.holds}


@pytest.fixture(scope="module")
def month(tmp_path_factory: pytest.TempPathFactory) -> tuple[Plan, Result]:
    """Thirty days, scaled down: a rental a day."""
    plan = Plan(days=30, events=1500)
    return plan, play(tmp_path_factory.mktemp("month"), plan)


def test_thirty_days_without_network_are_served_kept_and_drained_without_loss_or_double(
    month: tuple[Plan, Result],
) -> None:
    plan, result = month
    assert broken(result, plan) == set()
    assert result.events >= 1500
    assert sum(result.kinds.values()) > result.events, "what was written while it was drained counts, too"


def test_the_whole_month_has_its_cards_phones_reopenings_power_cuts_and_dark_nights(month: tuple[Plan, Result]) -> None:
    plan, result = month
    assert len({rental.booking for rental in result.rentals}) == plan.days * plan.rentals_a_day
    assert {rental.kind for rental in result.rentals} == {"booking", "reopen"}
    assert max(rental.trips for rental in result.rentals) > 2
    assert result.cuts == 20
    assert result.refused["clock_unproven"] == 10
    assert result.kinds["door_reopened"] > 0
    assert result.kinds["track"] > plan.days
    last = result.rentals[-1]
    assert last.began_s < last.ended_s - 3600, "begun on the last day, ended after the list"
    assert result.late == ("denied", "list_too_old")


def test_every_file_of_the_box_counts(month: tuple[Plan, Result]) -> None:
    _, result = month
    assert set(result.disk_bytes) == {
        "floors.json",
        "list.json",
        "rental.json",
        "reserve",
        "store.db",
        "store.db-wal",
    }
    assert all(result.disk_bytes.values())
    assert broken(replace(result, disk_bytes={"store.db": 50_000_000})) >= {"below 50 MB"}


def test_a_batch_that_is_lost_once_is_sent_again(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    carry, lost = Pipe.carry, list[bytes]()

    def losing(pipe: Pipe, topic: Topic, payload: bytes) -> bool:
        if topic is Topic.BATCH and pipe.counts["batch"] == 1 and not lost:
            lost.append(payload)
            return True
        return carry(pipe, topic, payload)

    monkeypatch.setattr(Pipe, "carry", losing)
    assert broken(play(tmp_path)) == set()
    assert lost


def test_a_batch_that_never_arrives_is_found(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    batch = Mail.batch

    async def withheld(mail: Mail, from_seq: int, to_seq: int) -> tuple[bytes, int] | None:
        return None if from_seq <= 60 <= to_seq else await batch(mail, from_seq, to_seq)

    monkeypatch.setattr(Mail, "batch", withheld)
    monkeypatch.setattr(month_drain, "PATIENCE_S", 1.0)
    result = play(tmp_path)
    assert {"unacknowledged", "lost", "every trip, once"} <= broken(result)
    assert result.found.lost >= 50


def test_an_acknowledgement_before_the_commit_is_found(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    take = CommuneStore.take_batch

    def lying(store: CommuneStore, batch: EventBatch, now_s: float) -> Taken:
        last = batch.rows[-1]
        if last.seq < SHORT.events:
            return take(store, batch, now_s)
        return Taken(len(batch.rows), LogPlace(last.seq, last.digest), None, alarm=False)

    monkeypatch.setattr(CommuneStore, "take_batch", lying)
    result = play(tmp_path)
    assert result.unacknowledged == 0, "the box was told that all is well"
    assert {"lost", "every trip, once", "every rental, once"} <= broken(result)


def test_a_store_that_is_too_small_is_found(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    small(monkeypatch, replace(LIMITS, rows_max=100, expendable_rows_max=50))
    result = play(tmp_path)
    assert {"lost", "every refusal, once"} <= broken(result)
    assert "every trip, once" not in broken(result), "trips are never refused"


def test_positions_that_made_room_are_found(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    small(monkeypatch, replace(LIMITS, bytes_max=31_000))
    assert "lost" in broken(play(tmp_path))


def small(monkeypatch: pytest.MonkeyPatch, limits: Limits) -> None:
    opened = StoreThread.open

    async def smaller(
        thread: StoreThread, directory: Path, vehicle: str, floor_s: float, *, now_wall_s: float = 0.0
    ) -> Any:
        return await opened(thread, directory, vehicle, floor_s, limits, now_wall_s=now_wall_s)

    monkeypatch.setattr(StoreThread, "open", smaller)


def test_records_under_two_logs_are_found(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    batch = Mail.batch

    async def twice(mail: Mail, from_seq: int, to_seq: int) -> tuple[bytes, int] | None:
        known = mail._store_id
        mail._store_id = b"another log, 16b"
        other = await batch(mail, from_seq, to_seq)
        mail._store_id = known
        if other is not None:
            mail._publish(Topic.BATCH, other[0])
        return await batch(mail, from_seq, to_seq)

    monkeypatch.setattr(Mail, "batch", twice)
    assert {"doubled", "every trip, once", "every rental, once"} <= broken(play(tmp_path))


def test_whoever_is_let_in_after_the_lists_end_is_found(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    candidates = access.candidates

    def for_ever(state: Any) -> Any:
        return [replace(each, last_s=each.booking.end_s) for each in candidates(state)]

    monkeypatch.setattr(access, "candidates", for_ever)
    assert "after the list's end" in broken(play(tmp_path))


def test_a_driver_who_is_not_served_is_found(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    # A commune whose lists are for a day: the second day's drivers are refused.
    monkeypatch.setattr(Town, "__init__", partial_method(Town.__init__, horizon_days=1))
    result = play(tmp_path)
    assert "whoever had a right was served" in broken(result)
    assert any("list_too_old" in said or "unknown" in said for said in result.failed)


def partial_method(method: Any, **fixed: Any) -> Any:
    def called(self: Any, folder: Path, *_others: Any) -> None:
        partial(method, self, folder, **fixed)()

    return called


@pytest.mark.parametrize(
    ("change", "name"),
    [
        ({"events": 149}, "events on the disk"),
        ({"misheard": ["granted opening for unknown"]}, "the others heard why not"),
        ({"listed_anew": False}, "a new list came"),
        ({"kept_rows": 0}, "acknowledged rows stay, then go"),
        ({"freed_rows": 0}, "acknowledged rows stay, then go"),
        ({"asked": 0}, "whoever had a right was served"),
        ({"trips": []}, "every trip, once"),
    ],
)
def test_each_check_can_fail(short: Result, change: dict[str, Any], name: str) -> None:
    assert broken(replace(short, **change)) == {name}


@pytest.fixture(scope="module")
def short(tmp_path_factory: pytest.TempPathFactory) -> Result:
    return play(tmp_path_factory.mktemp("short"))


def test_a_trip_of_another_length_or_time_is_found(short: Result) -> None:
    true = short.trips
    assert differences(true, true) == []
    for name, by in {"length_m": 101.0, "began_s": 4.0, "ended_s": -4.0}.items():
        other = replace(true[3], **{name: getattr(true[3], name) + by})
        assert len(differences([*true[:3], other, *true[4:]], true)) == 1
    assert differences([replace(true[0], booking="another"), *true[1:]], true)
    assert differences(true[:-1], true)


@pytest.mark.parametrize(("change", "code", "shown"), [({}, 0, "✓ lost"), ({"asked": 0}, 1, "✗ whoever had a right")])
def test_the_command_prints_its_figures_and_its_code_tells(
    short: Result,
    change: dict[str, Any],
    code: int,
    shown: str,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:
    monkeypatch.setattr(offline, "Month", lambda *_args: Played(replace(short, **change)))
    assert offline.main(["--days", "2", "--events", "150"]) == code
    told = capsys.readouterr().out
    assert shown in told
    for figure in ("driven ", "refused ", "events on the disk ", "store.db-wal ", "an event", "events/s"):
        assert figure in told


class Played:
    """A month that was played already."""

    def __init__(self, result: Result) -> None:
        self._result = result

    async def play(self) -> Result:
        return self._result


@pytest.mark.parametrize(
    ("arguments", "why"),
    [
        (["--days", "0"], "a box takes a list for 1 to 30 days, not for 0"),
        (["--days", "31"], "a box takes a list for 1 to 30 days, not for 31"),
        (["--events", "0"], "room for 1 to"),
        (["--days", "2", "--events", str(2 * DAY_RECORDS_MAX + 1)], "room for 1 to 6800 events"),
        (["--days", "a week"], "invalid int value"),
        (["more"], "unrecognized arguments: more"),
    ],
)
def test_wrong_arguments_are_refused_with_the_reason(
    arguments: list[str], why: str, capsys: pytest.CaptureFixture[str]
) -> None:
    with pytest.raises(SystemExit) as ended:
        offline.main(arguments)
    assert ended.value.code == 2
    assert why in capsys.readouterr().err


def test_the_command_is_one_of_the_simulations() -> None:
    done = subprocess.run(
        [sys.executable, "-m", "sim", "offline", "--days", "0"], capture_output=True, text=True, check=False
    )
    assert done.returncode == 2
    assert "python -m sim offline: error: a box takes a list for 1 to 30 days" in done.stderr
