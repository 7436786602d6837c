"""Cards captured at a car: the command that asks for one, and what the commune makes of what comes."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from sqlalchemy import delete

from cloud_sync.documents import Command, decode_command
from cloud_sync.endpoint import tables
from cloud_sync.endpoint.capture import UNASKED_MAX
from cloud_sync.wire import Topic
from onboard.core.events import Intent
from onboard.core.records import CardCaptured
from tests.cloud_http_rig import Town, make_town
from tests.cloud_rig import EPOCH

UID, OTHER = "04A1B2C3D4E5F6", "04A1B2C3D4E5F7"


@pytest.fixture
def town(tmp_path: Path) -> Iterator[Town]:
    with make_town(tmp_path) as made:
        tell(made, made.box.status())
        yield made


def tell(town: Town, document: bytes, channel: Topic = Topic.STATUS) -> None:
    town.cloud.ingest.handle(town.box.topic(channel), document, town.now_s)


def asked(town: Town) -> str:
    return str(town.post("vehicles/ami-1/captures", {})["id"])


def bring(town: Town, *captured: tuple[str, str]) -> None:
    """Have the box bring rows: capture and card number, in hexadecimal."""
    first = len(town.box.rows) + 1
    town.box.write(*(CardCaptured(bytes.fromhex(capture), bytes.fromhex(uid)) for capture, uid in captured))
    tell(town, town.box.batch(first, len(town.box.rows)), Topic.BATCH)


def found(town: Town, capture: str) -> Any:
    return town.client.get(f"/api/v1/captures/{capture}").json()


def cards(town: Town) -> list[tuple[int, str, str]]:
    said = town.client.get("/api/v1/cards").json()
    return sorted((each["number"], each["assurance"], each["state"]) for each in said)


def alarms(town: Town) -> list[str]:
    return [each["kind"] for each in town.client.get("/api/v1/status").json()["alarms"]]


def commands(town: Town) -> list[Command]:
    topic = town.box.topic(Topic.COMMAND)
    sent = [each for each in town.link.sent if each.topic == topic]
    assert not any(each.retain for each in sent)
    return [decode_command(each.payload, town.cloud.authority.key_set, "ami-1") for each in sent]


def test_a_car_within_reach_is_asked_by_a_command_of_its_own_that_goes_stale(town: Town) -> None:
    town.now_s += 20
    made = town.post("vehicles/ami-1/captures", {})
    [command] = commands(town)
    assert (command.action, command.command_id.hex(), command.subject.hex()) == (Intent.CAPTURE, made["id"], made["id"])
    assert (command.boot_epoch, command.not_after_boot_s) == (EPOCH, 500.0 + 20 + 30)
    assert made["until_s"] == town.now_s + 30 + 120
    assert found(town, made["id"]) == {"vehicle": "ami-1", "number": None, "uid": None, "new": None}
    town.now_s -= 3600  # somebody set the cloud's clock back
    asked(town)
    first, second = commands(town)
    assert second.counter > first.counter
    assert first.command_id != second.command_id
    with town.cloud.store.write() as db:
        db.execute(delete(tables.commands))  # a database from before the first
    town.now_s += 3601
    asked(town)
    assert commands(town)[-1].counter > second.counter


def test_what_the_car_brings_is_a_residents_own_card_that_nobody_has_yet(town: Town) -> None:
    capture = asked(town)
    bring(town, (capture, UID))
    assert found(town, capture) == {"vehicle": "ami-1", "number": 1, "uid": UID, "new": True}
    assert cards(town) == [(1, "uid", "ready")]
    assert UID not in town.client.get("/api/v1/events").text, "a timeline shows no card's number"
    town.book(cards=[{"card": 1}])
    assert town.listed.reservations[0].cards[0].ref == town.cloud.authority.card_ref("ami-1", bytes.fromhex(UID))


def test_the_same_again_and_a_second_card_for_one_capture_change_nothing(town: Town) -> None:
    capture = asked(town)
    bring(town, (capture, UID), (capture, UID), (capture, OTHER))
    assert cards(town) == [(1, "uid", "ready")]
    assert found(town, capture)["uid"] == UID


def test_a_card_that_is_enrolled_already_is_named_and_stays_what_it_is(town: Town) -> None:
    town.post("cards", {"uid": UID, "assurance": "mutual"})
    town.patch("cards/1", {"state": "ready", "written": True})
    town.patch("cards/1", {"state": "lost"})
    capture = asked(town)
    bring(town, (capture, UID))
    assert found(town, capture) == {"vehicle": "ami-1", "number": 1, "uid": UID, "new": False}
    assert cards(town) == [(1, "mutual", "lost")]


def test_a_technicians_capture_comes_without_being_asked_for_and_not_without_end(town: Town) -> None:
    for number in range(UNASKED_MAX + 3):
        bring(town, (f"{number:032x}", f"04{number:012x}"))
    assert len(cards(town)) == UNASKED_MAX
    assert set(alarms(town)) == {"card_capture"}
    capture = asked(town)
    bring(town, (capture, UID))
    assert found(town, capture)["new"], "what was asked for here is always taken"
    town.now_s += 86_401
    bring(town, ("f" * 32, OTHER))
    assert len(cards(town)) == UNASKED_MAX + 2


@pytest.mark.parametrize("uid", ["08a1b2c3", "0fa1b2c3", "04a1b2", ""])
def test_a_number_that_stands_for_nobody_is_an_alarm_and_no_card(town: Town, uid: str) -> None:
    capture = asked(town)
    bring(town, (capture, uid))
    assert cards(town) == []
    assert alarms(town) == ["card_capture"]
    assert found(town, capture)["number"] is None


def test_another_cars_capture_is_not_answered_by_this_one(town: Town) -> None:
    capture = asked(town)
    other = town.cloud.add("ami-2")
    other.write(CardCaptured(bytes.fromhex(capture), bytes.fromhex(UID)))
    town.cloud.ingest.handle(other.topic(Topic.BATCH), other.batch(1, 1), town.now_s)
    assert found(town, capture)["number"] is None
    assert cards(town) == []


def test_a_car_that_is_not_within_reach_is_not_asked(town: Town) -> None:
    town.post("vehicles/nobody/captures", {}, 404)
    town.now_s += 181
    assert "not within reach" in town.post("vehicles/ami-1/captures", {}, 409)["detail"]
    tell(town, town.box.status())
    town.cloud.store.take_offline("ami-1", EPOCH)
    town.post("vehicles/ami-1/captures", {}, 409)
    tell(town, town.box.status())
    town.link.connected = False
    assert "broker" in town.post("vehicles/ami-1/captures", {}, 503)["detail"]
    town.cloud.add("ami-2")
    town.post("vehicles/ami-2/captures", {}, 409)
    assert len(commands(town)) == 1, "the broker's only"
    assert town.client.get(f"/api/v1/captures/{'0' * 32}").status_code == 404
    assert town.client.get("/api/v1/captures/x").status_code == 422
