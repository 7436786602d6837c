"""Staff and revocations: what the town hall gives and takes back stands in the very next list, within its bounds."""

from __future__ import annotations

import json
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from sqlalchemy import func, insert, select, text, update

from cloud_sync.documents import decode_pass, decode_reservation_list
from cloud_sync.endpoint import lists, tables
from cloud_sync.endpoint.store import Store, StoreError, sqlite_url
from cloud_sync.wire import Topic
from onboard.core.events import AccessRequested, Intent, ListReceived, PhoneCredential
from onboard.core.grants import Assurance, CardGrant, ReservationList, Revocation, Rights, StaffGrant
from tests.cloud_http_rig import HOUR_S, OTHER_PHONE, PHONE, Town, make_town
from tests.cloud_rig import NOW_S, Box
from tests.core_kit import BAZOUGES, Kit

LATER_S = NOW_S + 9 * HOUR_S
CARD = "0102030405060708"


@pytest.fixture
def town(tmp_path: Path) -> Iterator[Town]:
    with make_town(tmp_path) as made:
        yield made


def newest(town: Town, box: Box) -> ReservationList:
    name = box.given.vehicle
    row = town.cloud.store.last_list(name)
    assert row is not None
    return decode_reservation_list(row.document, box.key_set, box.given.agreement, name)


def rows(town: Town, name: str) -> int:
    with town.cloud.store.read() as db:
        return db.scalar(select(func.count()).select_from(tables.METADATA.tables[name])) or 0


def taken_back(town: Town) -> list[Revocation]:
    return list(town.listed.revoked)


def opens(listed: ReservationList, key: bytes) -> str:
    kit = Kit()
    kit.clock()
    kit.give(ListReceived(listed))
    kit.drive(0.0, odometer_m=1000)
    kit.at(BAZOUGES)
    kit.contacts(locked=True)
    kit.give(AccessRequested(PhoneCredential(key, None, b"c" * 16), Intent.UNLOCK, 1))
    return kit.word


def test_a_stolen_phone_opens_nothing_at_any_car_from_the_next_list_on(town: Town) -> None:
    other = town.cloud.add("ami-2")
    town.book()
    assert opens(town.listed, PHONE) == "opening"
    made = town.post("revocations", {"phone_key": PHONE.hex(), "until_s": LATER_S})
    assert (made["id"], [each["vehicle"] for each in made["lists"]]) == (PHONE.hex(), ["ami-1", "ami-2"])
    for box, told in zip((town.box, other), made["lists"], strict=True):
        listed = newest(town, box)
        assert (listed.version, listed.revoked) == (told["version"], (Revocation(PHONE, LATER_S),))
    assert [message.topic for message in town.link.sent[-2:]] == [box.topic(Topic.LIST) for box in (town.box, other)]
    assert opens(newest(town, town.box), PHONE) == "revoked"
    late = town.cloud.add("ami-3")
    town.book(vehicle="ami-3")
    assert newest(town, late).revoked == (Revocation(PHONE, LATER_S),), "also a car that is added later"


def test_a_revocation_for_one_car_is_that_cars_alone(town: Town) -> None:
    other = town.cloud.add("ami-2")
    town.book(vehicle="ami-2")
    made = town.post("revocations", {"what": CARD, "vehicle": "ami-1", "until_s": LATER_S})
    assert [each["vehicle"] for each in made["lists"]] == ["ami-1"]
    town.book(vehicle="ami-2")
    assert newest(town, town.box).revoked == (Revocation(bytes.fromhex(CARD), LATER_S),)
    assert newest(town, other).revoked == ()


def test_a_pass_is_taken_back_by_its_id_at_its_own_car(town: Town) -> None:
    town.cloud.add("ami-2")
    booking = town.book()
    data = town.post(f"bookings/{booking}/pass", {"phone_key": PHONE.hex()})["pass"]
    cti = decode_pass(bytes.fromhex(data), town.box.key_set, "ami-1").id
    made = town.post("revocations", {"pass": cti.hex(), "until_s": LATER_S})
    assert [each["vehicle"] for each in made["lists"]] == ["ami-1"]
    assert town.listed.revoked == (Revocation(cti, LATER_S),)
    for wrong in ({"pass": "00" * 8}, {"pass": cti.hex(), "vehicle": "ami-2"}):
        assert "no such pass" in town.post("revocations", {**wrong, "until_s": LATER_S}, 404)["detail"]
    assert rows(town, "revocations") == 1


def test_a_revocation_leaves_the_list_when_it_is_over_and_the_last_word_on_it_counts(town: Town) -> None:
    key = {"phone_key": PHONE.hex(), "vehicle": "ami-1"}
    town.post("revocations", {**key, "until_s": LATER_S})
    town.post("revocations", {**key, "until_s": NOW_S + 10})
    town.post("revocations", {"phone_key": PHONE.hex(), "until_s": NOW_S + 5})
    assert taken_back(town) == [Revocation(PHONE, NOW_S + 10)], "once, by the longer of the two that hold"
    town.now_s = NOW_S + 10
    town.book()
    assert taken_back(town) == [Revocation(PHONE, NOW_S + 10)]
    town.now_s += 1
    town.book()
    assert taken_back(town) == []
    town.post("revocations", {"what": CARD, "until_s": LATER_S})
    assert rows(town, "revocations") == 1, "what is over is forgotten"


@pytest.mark.parametrize(
    "wrong",
    [
        {},
        {"what": CARD, "phone_key": PHONE.hex()},
        {"what": CARD[:-2]},
        {"what": "05" + "11" * 32},
        {"pass": PHONE.hex()},
        {"what": CARD, "until_s": NOW_S},
        {"what": CARD, "until_s": float(LATER_S)},
        {"what": CARD, "vehicle": "ami-1/../x"},
        {"what": CARD, "surprise": 1},
    ],
)
def test_a_revocation_that_takes_nothing_back_is_refused(town: Town, wrong: dict[str, Any]) -> None:
    town.post("revocations", {"until_s": LATER_S, **wrong}, 422)
    town.post("revocations", {"what": CARD, "vehicle": "ami-9", "until_s": LATER_S}, 404)
    assert (rows(town, "revocations"), town.link.sent) == (0, [])


def test_no_revocation_is_left_out_for_room_and_one_too_many_changes_nothing(town: Town) -> None:
    with town.cloud.store.write() as db:
        values = [{"what": f"{number:016x}", "vehicle": "ami-1", "until_s": LATER_S} for number in range(1023)]
        db.execute(insert(tables.revocations), values)
    town.post("revocations", {"phone_key": PHONE.hex(), "until_s": LATER_S})
    assert len(town.listed.revoked) == 1024
    version = town.listed.version
    said = town.post("revocations", {"phone_key": OTHER_PHONE.hex(), "vehicle": "ami-1", "until_s": LATER_S}, 409)
    assert "nothing was changed" in said["detail"]
    assert (rows(town, "revocations"), newest(town, town.box).version) == (1024, version)
    town.cloud.add("ami-2")
    said = town.post("revocations", {"phone_key": OTHER_PHONE.hex(), "until_s": LATER_S}, 409)
    assert "ami-1" in said["detail"]
    assert "one by one" in said["detail"]
    assert town.cloud.store.last_list("ami-2") is None
    town.post("revocations", {"phone_key": OTHER_PHONE.hex(), "vehicle": "ami-2", "until_s": LATER_S})


def test_a_member_of_staff_stands_in_the_lists_of_their_cars_until_their_time_is_over(town: Town) -> None:
    other = town.cloud.add("ami-2")
    wanted = {"not_after_s": LATER_S, "phone_keys": [PHONE.hex()], "rights": ["door", "service"]}
    made = town.post("staff", wanted)
    assert [each["vehicle"] for each in made["lists"]] == ["ami-1", "ami-2"]
    grant = StaffGrant(bytes.fromhex(made["id"]), LATER_S, (PHONE,), (), Rights.DOOR | Rights.SERVICE)
    assert newest(town, town.box).staff == newest(town, other).staff == (grant,)
    assert opens(newest(town, town.box), PHONE) == "opening"

    card = {"ref": CARD}
    one_car = {"id": made["id"], "vehicle": "ami-1", "not_after_s": LATER_S, "cards": [card], "rights": ["door"]}
    assert town.post("staff", one_car)["id"] == made["id"]
    by_card = StaffGrant(grant.id, LATER_S, (), (CardGrant(bytes.fromhex(CARD), Assurance.UID),), Rights.DOOR)
    assert newest(town, town.box).staff == (grant, by_card)
    assert newest(town, other).staff == (grant,)

    town.post("staff", {**wanted, "id": made["id"], "not_after_s": NOW_S - 1})
    assert newest(town, town.box).staff == (by_card,)
    assert newest(town, other).staff == ()
    town.now_s = LATER_S
    town.book()
    assert town.listed.staff == (by_card,)
    town.now_s += 1
    town.book()
    assert not newest(town, town.box).staff


def test_staffs_cards_are_known_by_the_reference_of_the_car(town: Town) -> None:
    wanted = {"not_after_s": LATER_S, "cards": [{"uid": "04a1b2c3d4e5f6"}], "rights": ["door"]}
    town.post("staff", wanted, 422)
    town.post("cards", {"uid": "04A1B2C3D4E5F6", "assurance": "uid"})
    town.post("staff", wanted)
    ref = town.cloud.authority.card_ref("ami-1", bytes.fromhex("04a1b2c3d4e5f6"))
    assert [card.ref for card in town.listed.staff[0].cards] == [ref], "at every car, by each car's own"


def test_staffs_card_of_the_communes_has_a_key_at_every_car(town: Town) -> None:
    town.cloud.add("ami-2")
    number = town.post("cards", {"uid": "04782E21801D80", "assurance": "mutual"})["number"]
    town.patch(f"cards/{number}", {"state": "ready", "written": True})
    made = town.post("staff", {"not_after_s": LATER_S, "cards": [{"card": number}], "rights": ["door"]})
    assert [each["vehicle"] for each in made["lists"]] == ["ami-1", "ami-2"]
    assert town.listed.staff[0].cards[0].slot == 1
    assert town.post("vehicles/ami-2/card-slot", {})["slot"] == 3, "the second car had the second one"


@pytest.mark.parametrize(
    "wrong",
    [
        {"phone_keys": []},
        {"phone_keys": [PHONE.hex()] * 9},
        {"rights": []},
        {"rights": ["fly"]},
        {"id": "00" * 7},
        {"id": "00" * 17},
        {"surprise": 1},
    ],
)
def test_staff_who_could_do_nothing_are_refused(town: Town, wrong: dict[str, Any]) -> None:
    wanted = {"not_after_s": LATER_S, "phone_keys": [PHONE.hex()], "rights": ["door"]}
    town.post("staff", {**wanted, **wrong}, 422)
    town.post("staff", {**wanted, "vehicle": "ami-9"}, 404)
    assert (rows(town, "staff"), town.link.sent) == (0, [])


def test_no_member_of_staff_is_left_out_for_room_and_one_too_many_changes_nothing(town: Town) -> None:
    with town.cloud.store.write() as db:
        for number in range(63):
            keys = json.dumps([f"02{number:064x}"])
            person = {
                "id": number.to_bytes(8, "big"),
                "vehicle": tables.EVERY_CAR,
                "not_after_s": LATER_S,
                "cards": "[]",
            }
            db.execute(insert(tables.staff).values(**person, phone_keys=keys, rights=1))
    wanted = {"not_after_s": LATER_S, "phone_keys": [PHONE.hex()], "rights": ["door"]}
    town.post("staff", wanted)
    assert len(town.listed.staff) == 64
    assert "nothing was changed" in town.post("staff", wanted, 409)["detail"]
    assert rows(town, "staff") == 64


@pytest.mark.parametrize("schema", range(1, tables.SCHEMA_VERSION))
def test_a_database_from_before_gets_what_it_lacks_and_an_older_program_leaves_it_alone(
    town: Town, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, schema: int
) -> None:
    booking = town.book()
    with town.cloud.store.write() as db:
        for name in ("passes", "staff", "revocations") if schema == 1 else ():
            db.execute(text(f"DROP TABLE {name}"))
        for name in ("tariffs", "charges"):
            db.execute(text(f"DROP TABLE {name}"))
        if schema < 5:
            db.execute(text("ALTER TABLE lists DROP COLUMN signed_by"))
        db.execute(update(tables.meta).values(value=str(schema)))
    url = sqlite_url(tmp_path / "cloud" / "data" / "cloud.sqlite3")
    Store(url).close()
    assert [rows(town, name) for name in ("tariffs", "charges")] == [1, 0]
    assert [rows(town, name) for name in ("passes", "staff", "revocations", "bookings")] == [0, 0, 0, 1]
    before = town.cloud.store.last_list("ami-1")
    assert before is not None
    assert before.signed_by == (None if schema < 5 else town.cloud.authority.kid("lists"))
    town.post(f"bookings/{booking}/pass", {"phone_key": PHONE.hex()})
    after = town.cloud.store.last_list("ami-1")
    assert after is not None
    assert after.signed_by == town.cloud.authority.kid("lists"), "issued anew, once"
    assert after.version == before.version + (schema < 5)
    monkeypatch.setattr("cloud_sync.endpoint.store._SCHEMA", "1")
    monkeypatch.setattr(tables, "OLDER", frozenset())
    with pytest.raises(StoreError, match=f"schema {tables.SCHEMA_VERSION}"):
        Store(url)


def test_a_list_that_is_full_of_bookings_still_holds_every_revocation(town: Town) -> None:
    """The horizon comes nearer instead."""
    keys = json.dumps(["02" + "11" * 32] * 8)
    with town.cloud.store.write() as db:
        for number in range(150):
            start_s = NOW_S + number * 2 * HOUR_S
            times = {"start_s": start_s, "end_s": start_s + HOUR_S, "created_s": NOW_S, "cancelled_s": None}
            place = {"vehicle": "ami-1", "pickup": "bazouges", "dropoff": None, "kind": "loop", "driver": b"driver-1"}
            who = {"phone_keys": keys, "cards": "[]", "rights": 3, "trace": False}
            db.execute(insert(tables.bookings).values(id=number.to_bytes(16, "big"), **times, **place, **who))
        values = [{"what": f"02{number:064x}", "vehicle": "", "until_s": LATER_S} for number in range(600)]
        db.execute(insert(tables.revocations), values)
    town.post("revocations", {"what": CARD, "until_s": LATER_S})
    assert len(town.listed.revoked) == 601
    assert town.listed.horizon_end_s < NOW_S + lists.HORIZON_DAYS * lists.DAY_S
