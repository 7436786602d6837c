"""The daemon's side of the console, over its real socket: what acts, what is told, and to whom."""

from __future__ import annotations

import asyncio
import base64
import json
import time
from pathlib import Path
from typing import Any

import pytest

from cloud_sync.documents import decode_event_batch, encode_reservation_list
from onboard import control
from onboard.box import Box
from onboard.control import Control
from onboard.core.events import AccessRequested, CardCredential, Intent
from onboard.core.grants import Assurance
from onboard.service_desk import OWN, subject_of
from tests.document_rig import BOX, BOX_V, CAR, CLOUD, CLOUD_C, LIST
from tests.test_onboard_box import question, with_box


def now_s(off_s: float = 0.0) -> float:
    return time.clock_gettime(time.CLOCK_BOOTTIME) + off_s


async def kinds(directory: Path, *kinds_wanted: str) -> list[dict[str, Any]]:
    """Wait until the last rows are of these kinds."""
    while True:
        rows = (await question(directory, {"command": "rows", "last": len(kinds_wanted)}))["rows"]
        if [row["kind"] for row in rows] == list(kinds_wanted):
            return list(rows)
        await asyncio.sleep(0.01)


def test_a_door_test_goes_through_the_core_and_is_written_down(tmp_path: Path) -> None:
    async def play(_box: Box) -> None:
        answer = await question(tmp_path, {"command": "door", "action": "unlock", "by": "marie", "asked_s": now_s()})
        assert answer == {"status": "granted", "reason": "opening"}
        rows = (await question(tmp_path, {"command": "rows", "last": 20}))["rows"]
        assert [row["kind"] for row in rows[:3]] == ["booted", "console_used", "trip_start"]
        assert rows[1]["says"] == {"action": "door_test", "by": "marie", "detail": "unlock"}
        assert rows[2]["says"]["kind"] == "staff"
        assert "reservation" not in rows[2]["says"]

    with_box(tmp_path, play)


@pytest.mark.parametrize(
    "changes", [{"action": "open"}, {"by": 7}, {"asked_s": None}, {"asked_s": -60}, {"asked_s": 60}]
)
def test_a_door_request_that_is_odd_or_that_nobody_waits_for_any_more_moves_nothing(
    tmp_path: Path, changes: dict[str, Any]
) -> None:
    async def play(_box: Box) -> None:
        asked: dict[str, Any] = {"command": "door", "action": "unlock", "by": "marie", "asked_s": now_s(), **changes}
        if isinstance(changes.get("asked_s"), int):
            asked["asked_s"] = now_s(changes["asked_s"])
        assert "error" in await question(tmp_path, asked)
        assert [row["kind"] for row in (await question(tmp_path, {"command": "rows", "last": 9}))["rows"]] == ["booted"]

    with_box(tmp_path, play)


def test_maintenance_is_the_cores_event_and_can_be_seen(tmp_path: Path) -> None:
    async def play(_box: Box) -> None:
        assert await question(tmp_path, {"command": "maintenance", "on": True, "by": "marie", "asked_s": now_s()}) == {
            "ok": True
        }
        rows = await kinds(tmp_path, "maintenance")
        assert rows[0]["says"] == {"on": True, "by": "marie"}
        assert (await question(tmp_path, {"command": "status"}))["state"] == "non_operational"

    with_box(tmp_path, play)


def test_the_console_hears_of_a_card_and_of_none(tmp_path: Path) -> None:
    async def play(box: Box) -> None:
        waiting = asyncio.create_task(question(tmp_path, {"command": "card", "login": False, "wait_s": 20}))
        while box.reactor.state.card_wanted is None:  # noqa: ASYNC110 - the code under test sets it
            await asyncio.sleep(0.01)
        box.reactor.post(AccessRequested(CardCredential(b"stranger", Assurance.UID), Intent.TAP))
        assert await waiting == {"status": "granted", "reason": "uid unknown"}
        nobody = await question(tmp_path, {"command": "card", "login": True, "wait_s": 0.05})
        assert nobody == {"status": "unknown", "reason": "no_answer"}

    with_box(tmp_path, play)


def test_documents_go_out_and_in_as_by_a_couriers_phone(tmp_path: Path) -> None:
    async def play(_box: Box) -> None:
        listed = base64.b64encode(encode_reservation_list(LIST, CLOUD, BOX_V.public)).decode()
        assert await question(tmp_path, {"command": "take", "document": listed}) == {"refused": ""}
        await kinds(tmp_path, "booted", "list_accepted")
        assert (await question(tmp_path, {"command": "take", "document": "AAAA"}))["refused"] == "bad_envelope"
        out = await question(tmp_path, {"command": "batch"})
        batch = decode_event_batch(base64.b64decode(out["document"]), CLOUD_C, BOX.public, CAR)
        assert [row.seq for row in batch.rows] == [1, 2]
        assert out["to_seq"] == 2

    with_box(tmp_path, play)


@pytest.mark.parametrize(
    "request_",
    [
        {"command": "door", "action": "open", "by": "marie"},
        {"command": "maintenance", "on": 1, "by": "marie"},
        {"command": "card", "login": True, "wait_s": 1e9},
        {"command": "card", "login": "yes", "wait_s": 1},
        {"command": "wrote", "action": "opened", "by": "marie"},
        {"command": "wrote", "action": "logout", "by": "m" * 101},
        {"command": "take", "document": "*"},
        {"command": "rows", "last": 0},
        {"command": "rows", "last": 101},
    ],
    ids=lambda each: "-".join(map(str, each.values()))[:40],
)
def test_a_request_that_says_nothing_sensible_is_refused_and_moves_nothing(
    tmp_path: Path, request_: dict[str, Any]
) -> None:
    async def play(_box: Box) -> None:
        assert "error" in await question(tmp_path, {"asked_s": now_s(), **request_})
        assert [row["kind"] for row in (await question(tmp_path, {"command": "rows", "last": 9}))["rows"]] == ["booted"]

    with_box(tmp_path, play)


def test_where_the_car_stands_is_not_told_in_a_rental(tmp_path: Path) -> None:
    async def play(_box: Box) -> None:
        assert (await question(tmp_path, {"command": "place"}))["fix"] is None
        await question(tmp_path, {"command": "door", "action": "unlock", "by": "marie", "asked_s": now_s()})
        assert (await question(tmp_path, {"command": "place"})) == {"error": "in_use"}

    with_box(tmp_path, play)


def test_what_acts_is_answered_to_the_boxs_own_user_and_root_alone(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(control, "peer_uid", lambda _writer: 12345)

    async def play(box: Box) -> None:
        for command in sorted(OWN):
            assert "not allowed" in (await question(tmp_path, {"command": command}))["error"]
        assert (await question(tmp_path, {"command": "status"}))["vehicle"] == CAR
        assert box.reactor.state.kept.outbox.last_seq == 1

    with_box(tmp_path, play)


def test_who_asks_is_read_from_the_kernel(tmp_path: Path) -> None:
    async def play() -> None:
        seen = []

        async def hello(_request: dict[str, Any]) -> dict[str, Any]:
            return {"hello": True}

        served = Control(tmp_path / "s", {"hello": hello}, {"hello"})
        await served.start()
        reader, writer = await asyncio.open_unix_connection(tmp_path / "s")
        writer.write(b'{"command": "hello"}\n')
        seen.append(json.loads(await asyncio.wait_for(reader.readline(), 5)))
        writer.close()
        await served.stop()
        assert seen == [{"hello": True}], "this process's own user"

    asyncio.run(play())


def test_a_technicians_mark_is_the_same_each_time_and_not_the_name() -> None:
    assert subject_of("marie") == subject_of("marie") != subject_of("paul")
    assert b"marie" not in subject_of("marie")
