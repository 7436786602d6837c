"""The commune's cards at its endpoint: enrolled, lent, lost, blocked; what a car is told of them."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from cloud_sync.documents import Reason, Refused
from cloud_sync.documents.card_keys import SLOT_MAX
from cloud_sync.endpoint.authority import Authority
from cloud_sync.endpoint.cards import TRIES_MAX
from onboard.core.grants import Assurance, CardGrant, ReservationList
from tests.cloud_http_rig import Town, make_town
from tests.cloud_rig import NOW_S

UID, OWN = "04782E21801D80", "04A1B2C3D4E5F6"


@pytest.fixture
def town(tmp_path: Path) -> Iterator[Town]:
    with make_town(tmp_path) as made:
        yield made


def enrol(town: Town, uid: str = UID, assurance: str = "mutual") -> int:
    """Enrol a card and have it ready."""
    number = int(town.post("cards", {"uid": uid, "assurance": assurance})["number"])
    if assurance == "mutual":
        town.patch(f"cards/{number}", {"state": "ready", "written": True})
    return number


def lend(town: Town, number: int) -> str:
    code = town.patch(f"cards/{number}", {"state": "lent", "holder": "Mme Le Goff"})["block_code"]
    assert isinstance(code, str)
    return code


def cards_of(town: Town) -> tuple[CardGrant, ...]:
    return town.listed.reservations[0].cards


def only(town: Town) -> Any:
    [card] = town.client.get("/api/v1/cards").json()
    return card


def test_a_card_of_the_communes_gets_a_key_for_each_car_and_tells_them_again_until_they_are_written(town: Town) -> None:
    made = town.post("cards", {"uid": UID, "assurance": "mutual"})
    authority = town.cloud.authority
    assert made["keys"] == [authority.card_key(bytes.fromhex(UID), slot).hex() for slot in range(SLOT_MAX + 1)]
    assert len(set(made["keys"])) == SLOT_MAX + 1
    assert town.post("cards", {"uid": UID, "assurance": "mutual"}) == made
    assert only(town)["state"] == "new"
    for state in ("ready", "lost"):
        assert "not all of its keys" in town.patch(f"cards/{made['number']}", {"state": state}, 409)["detail"]
    town.patch(f"cards/{made['number']}", {"state": "lent", "holder": "M. Roux", "written": True}, 409)
    town.patch(f"cards/{made['number']}", {"state": "ready", "written": True})
    assert town.post("cards", {"uid": UID, "assurance": "mutual"}) == made, "a damaged one is written again"
    lend(town, made["number"])
    said = town.post("cards", {"uid": UID, "assurance": "mutual"}, 409)
    assert "already" in said["detail"]
    assert UID not in town.client.get("/api/v1/cards").text
    assert made["keys"][1] not in town.client.get("/api/v1/cards").text


def test_a_booking_by_card_gives_its_car_the_key_of_its_own_slot_alone(town: Town) -> None:
    number = enrol(town)
    town.book(cards=[{"card": number}])
    uid, authority = bytes.fromhex(UID), town.cloud.authority
    grant = CardGrant(authority.card_ref("ami-1", uid), Assurance.MUTUAL, authority.card_key(uid, 1), 1)
    assert cards_of(town) == (grant,)

    town.cloud.add("ami-2")
    second = town.post("vehicles/ami-2/card-slot", {})
    assert (second["vehicle"], second["slot"], len(second["lists"])) == ("ami-2", 2, 1)


def test_a_stolen_boxs_slot_is_never_given_again(town: Town) -> None:
    number = enrol(town)
    town.book(cards=[{"card": number}])
    assert cards_of(town)[0].slot == 1
    assert town.post("vehicles/ami-1/card-slot", {})["slot"] == 2
    [grant] = cards_of(town)
    assert (grant.slot, grant.key) == (2, town.cloud.authority.card_key(bytes.fromhex(UID), 2))
    for _ in range(SLOT_MAX - 2):
        town.post("vehicles/ami-1/card-slot", {})
    said = town.post("vehicles/ami-1/card-slot", {}, 409)
    assert "13 keys" in said["detail"]
    assert cards_of(town)[0].slot == SLOT_MAX, "nothing was changed"


def test_a_residents_own_card_is_a_number_and_no_more(town: Town) -> None:
    made = town.post("cards", {"uid": OWN, "assurance": "uid"})
    assert made["keys"] == []
    town.book(cards=[{"card": made["number"]}])
    assert cards_of(town) == (CardGrant(town.cloud.authority.card_ref("ami-1", bytes.fromhex(OWN)), Assurance.UID),)


@pytest.mark.parametrize(
    ("uid", "assurance"),
    [
        ("08112233", "uid"),
        ("0f112233", "uid"),
        ("1002701960", "uid"),
        ("8804a1b2", "uid"),
        ("04a1b2", "uid"),
        ("deadbeef", "mutual"),
        ("00112233445566778899", "mutual"),
        (UID, "none"),
    ],
)
def test_what_cannot_stand_for_a_person_is_not_enrolled(town: Town, uid: str, assurance: str) -> None:
    town.post("cards", {"uid": uid, "assurance": assurance}, 422)
    assert town.client.get("/api/v1/cards").json() == []


def test_a_card_lent_given_back_and_lent_again_has_another_code(town: Town) -> None:
    number = enrol(town)
    first = lend(town, number)
    assert only(town)["holder"] == "Mme Le Goff"
    town.patch(f"cards/{number}", {"state": "ready"})
    assert (only(town)["state"], only(town)["holder"]) == ("ready", "")
    assert lend(town, number) != first
    town.post(f"cards/{number}/block", {"code": first}, 403)


@pytest.mark.parametrize("how", ["lost", "blocked"])
def test_a_lost_or_blocked_card_opens_nothing_any_more_not_even_the_rental_it_began(town: Town, how: str) -> None:
    number = enrol(town)
    code = lend(town, number)
    town.book(cards=[{"card": number}])
    ref = cards_of(town)[0].ref
    if how == "lost":
        said = town.patch(f"cards/{number}", {"state": "lost"})
    else:
        said = town.post(f"cards/{number}/block", {"code": code}, 200)
    assert [made["vehicle"] for made in said["lists"]] == ["ami-1"]
    assert cards_of(town) == ()
    assert [taken.what for taken in town.listed.revoked] == [ref]
    refused = town.client.post(
        "/api/v1/bookings",
        json={
            "vehicle": "ami-1",
            "start_s": NOW_S,
            "end_s": NOW_S + 9,
            "pickup": "bazouges",
            "cards": [{"card": number}],
        },
    )
    assert refused.status_code == 422
    assert how in refused.json()["detail"]

    town.patch(f"cards/{number}", {"state": "ready"})
    assert town.listed.revoked == ()
    assert cards_of(town) == (), "whoever has it next gets no booking with it"
    town.book(start_s=NOW_S + 7200, end_s=NOW_S + 9000, cards=[{"card": number}])
    assert town.listed.reservations[-1].cards[0].ref == ref


def test_a_lost_card_is_taken_back_for_longer_than_any_rental_that_it_began(town: Town) -> None:
    number = enrol(town)
    lend(town, number)
    town.book(cards=[{"card": number}])
    town.patch(f"cards/{number}", {"state": "lost"})
    [taken] = town.listed.revoked
    assert taken.until_s >= town.listed.horizon_end_s + 300 * 86_400


def test_a_card_named_by_its_number_is_worth_what_it_is_and_must_have_been_let_in(town: Town) -> None:
    refused = {"vehicle": "ami-1", "start_s": NOW_S, "end_s": NOW_S + 9, "pickup": "bazouges", "cards": [{"uid": UID}]}
    assert "not enrolled" in town.post("bookings", refused, 422)["detail"]
    ref = town.cloud.authority.card_ref("ami-1", bytes.fromhex(UID))
    town.book(cards=[{"ref": ref.hex()}])
    assert cards_of(town)[0].assurance is Assurance.UID, "nobody knows yet whose it is"
    number = enrol(town)
    town.book(start_s=NOW_S + 10, cards=[{"uid": UID.lower()}])
    grants = [each.cards[0] for each in town.listed.reservations]
    assert [each.assurance for each in grants] == [Assurance.MUTUAL] * 2, "a copy of its number opens neither"
    lend(town, number)
    town.patch(f"cards/{number}", {"state": "lost"})
    assert [each.cards for each in town.listed.reservations] == [(), ()]


def test_a_missing_key_costs_its_cards_and_no_list(town: Town) -> None:
    number, own = enrol(town), enrol(town, OWN, "uid")
    town.book(cards=[{"card": number}, {"card": own}])
    (town.cloud.folder / "keys" / "card-master.key").unlink()
    town.book(start_s=NOW_S + 10)
    assert [each.assurance for each in cards_of(town)] == [Assurance.UID]
    assert "card_key_missing" in {each["kind"] for each in town.client.get("/api/v1/status").json()["alarms"]}
    town.patch(f"cards/{own}", {"state": "lost"})
    assert cards_of(town) == ()


def test_one_cars_full_list_keeps_no_card_from_being_lost(town: Town, monkeypatch: pytest.MonkeyPatch) -> None:
    number = enrol(town)
    lend(town, number)
    full, sign = town.cloud.add("ami-0"), Authority.sign_list

    def too_large(self: Authority, listed: ReservationList, box: Any) -> bytes:
        if listed.vehicle == "ami-0":
            raise Refused(Reason.TOO_LARGE, "full")
        return sign(self, listed, box)

    monkeypatch.setattr(Authority, "sign_list", too_large)
    said = town.patch(f"cards/{number}", {"state": "lost"})
    assert [each["vehicle"] for each in said["lists"]] == ["ami-1"]
    assert full.given.vehicle == "ami-0"
    assert "list_full" in {each["kind"] for each in town.client.get("/api/v1/status").json()["alarms"]}


def test_a_stolen_box_makes_the_residents_cards_that_it_knows_lost(town: Town) -> None:
    number, own, other = enrol(town), enrol(town, OWN, "uid"), enrol(town, "04A1B2C3D4E5F7", "uid")
    town.book(cards=[{"card": number}, {"card": own}])
    made = town.post("vehicles/ami-1/card-slot", {})
    assert made["lost"] == [own]
    states = {each["number"]: each["state"] for each in town.client.get("/api/v1/cards").json()}
    assert states == {number: "ready", own: "lost", other: "ready"}


def test_a_blank_card_that_was_let_in_by_its_number_may_still_get_keys(town: Town) -> None:
    made = town.post("cards", {"uid": UID, "assurance": "uid"})
    again = town.post("cards", {"uid": UID, "assurance": "mutual"})
    assert again["number"] == made["number"]
    assert len(again["keys"]) == SLOT_MAX + 1
    assert (only(town)["assurance"], only(town)["state"]) == ("mutual", "new")
    town.patch(f"cards/{made['number']}", {"state": "ready", "written": True})
    town.post("cards", {"uid": UID, "assurance": "uid"}, 409)


@pytest.mark.parametrize("number", [0, -1, 2**31, 2**63, 10**30])
def test_a_number_that_no_card_has_is_refused(town: Town, number: int) -> None:
    town.patch(f"cards/{number}", {"state": "ready"}, 422)
    town.post(f"cards/{number}/block", {"code": "12345678"}, 422)


@pytest.mark.parametrize("holder", ["", "   ", "a\nb", "\x1b[31mred", "\u202eevil", "x" * 81])
def test_a_holder_is_a_name_on_one_line(town: Town, holder: str) -> None:
    number = enrol(town)
    town.patch(f"cards/{number}", {"state": "lent", "holder": holder}, 422)
    assert only(town)["state"] == "ready"


def test_who_guesses_a_code_is_not_heard_any_more_and_nobody_is_heard_for_another_card(town: Town) -> None:
    number = enrol(town)
    code = lend(town, number)
    wrong = f"{(int(code) + 1) % 10**8:08}"
    for _ in range(TRIES_MAX):
        town.post(f"cards/{number}/block", {"code": wrong}, 403)
        town.now_s += 10
    town.post(f"cards/{number}/block", {"code": code}, 429)
    assert only(town)["state"] == "lent"
    town.now_s += 3601 - 10 * TRIES_MAX
    town.post(f"cards/{number}/block", {"code": code}, 200)
    assert only(town)["state"] == "blocked"
    town.post("cards/99/block", {"code": code}, 404)
    town.patch(f"cards/{number}", {"state": "ready"})
    again = lend(town, number)
    for _ in range(TRIES_MAX):
        town.post(f"cards/{number}/block", {"code": wrong}, 403)
    town.patch(f"cards/{number}", {"state": "ready"})
    town.post(f"cards/{number}/block", {"code": lend(town, number)}, 200)
    assert again != code, "and each loan begins anew"


def test_a_card_that_nobody_has_can_be_blocked_by_nobody(town: Town) -> None:
    number = enrol(town)
    for code in ("00000000", "12345678"):
        town.post(f"cards/{number}/block", {"code": code}, 403)
    assert only(town)["state"] == "ready"


def test_without_the_master_no_card_is_enrolled_and_none_is_half_enrolled(town: Town) -> None:
    town.cloud.authority._paths.card_master.unlink()
    said = town.post("cards", {"uid": UID, "assurance": "mutual"}, 409)
    assert "restore it" in said["detail"]
    assert town.client.get("/api/v1/cards").json() == []


@pytest.mark.parametrize("card", [{}, {"card": 1, "uid": OWN}, {"card": 7}, {"uid": "0f112233"}, {"uid": "1002701960"}])
def test_a_booking_names_a_card_in_one_way_and_one_that_there_is(town: Town, card: dict[str, Any]) -> None:
    wanted = {"vehicle": "ami-1", "start_s": NOW_S, "end_s": NOW_S + 60, "pickup": "bazouges", "cards": [card]}
    town.post("bookings", wanted, 422)
