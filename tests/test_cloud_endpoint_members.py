"""Members at the town hall: registered, changed, kept from booking by what lacks, apart from their trips."""

from __future__ import annotations

from collections.abc import Iterator
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import pytest
from sqlalchemy import select

from cloud_sync.endpoint import tables
from cloud_sync.endpoint.app import create_app
from tests.cloud_http_rig import OTHER_PHONE, PHONE, Client, Link
from tests.cloud_rig import NOW_S, Cloud, make_cloud

DAY_S = 86_400
ANNA = {
    "name": "Anna Le Goff",
    "born": "1990-05-17",
    "email": "anna@example.org",
    "phone": "02 99 45 46 18",
    "right": "b",
    "right_checked_on": "2026-11-02",
    "right_checked_by": "M. Rault",
    "meeting_on": "2026-11-02",
    "meeting_by": "M. Rault",
    "rules_on": "2026-11-02",
    "lesson_on": "2026-11-03",
    "deposit_until": "2027-01-16",
    "payment_until": "2028-04-30",
    "plan": "essentiel",
    "plan_from": "2026-11-02",
    "phone_keys": [PHONE.hex()],
}
"""``NOW_S`` is 2027-01-15, 09:00 in Hédé."""


class Town:
    """An endpoint with one car, asked over HTTP."""

    def __init__(self, cloud: Cloud) -> None:
        self.cloud = cloud
        cloud.add("ami-1")
        self._client = Client(create_app(cloud.store, cloud.authority, cloud.ingest, Link(), (), now=lambda: NOW_S))

    def ask(self, method: str, path: str, status: int, body: Any = None) -> Any:
        answer = self._client.ask(method, f"/api/v1/{path}", **({} if body is None else {"json": body}))
        assert answer.status_code == status, answer.text
        return answer.json()

    def register(self, **changes: Any) -> Any:
        return self.ask("POST", "members", 201, ANNA | changes)

    def book(self, member: int, status: int = 201, **changes: Any) -> Any:
        wanted = {"vehicle": "ami-1", "start_s": NOW_S, "end_s": NOW_S + 3600, "pickup": "hede", "member": member}
        return self.ask("POST", "bookings", status, wanted | changes)

    def booked(self) -> Any:
        with self.cloud.store.read() as db:
            return db.execute(select(tables.bookings)).one()


@pytest.fixture
def town(tmp_path: Path) -> Iterator[Town]:
    cloud = make_cloud(tmp_path / "cloud")
    yield Town(cloud)
    cloud.store.close()


def words(member: Any) -> list[str]:
    return [lack["word"] for lack in member["lacks"]]


def test_now_is_the_day_that_these_tests_take_it_for() -> None:
    assert datetime.fromtimestamp(NOW_S, UTC).isoformat() == "2027-01-15T08:00:00+00:00"


def test_a_member_is_registered_and_shown_as_given(town: Town) -> None:
    made = town.register()
    assert made["lacks"] == []
    assert {name: made[name] for name in ANNA} == ANNA
    assert town.ask("GET", f"members/{made['member']}", 200) == made
    assert town.ask("GET", "members", 200) == [made]
    town.ask("GET", "members/99", 404)


@pytest.mark.parametrize("name", ["Zoë O’Neill-d’Ár", "Ольга Żółć", "李雷", "محمد", "N'Guessan Aya", "ไพลิน", "é" * 80])
def test_names_of_every_script_are_kept_as_they_are(town: Town, name: str) -> None:
    assert town.register(name=name)["name"] == name


@pytest.mark.parametrize(
    "wrong",
    [
        {"name": "  "},
        {"name": "two\nlines"},
        {"name": "x\u202eevil"},
        {"name": "x" * 81},
        {"born": "17/05/1990"},
        {"born": 650000000},
        {"born": "1990-02-30"},
        {"born": "1890-01-01"},
        {"email": "nobody"},
        {"phone": "call me"},
        {"right": "c"},
        {"plan_fee_cents": -1},
        {"plan_fee_cents": 1.5},
        {"right_checked_by": ""},
        {"right_checked_on": None},
        {"meeting_by": ""},
        {"guardian_signed_on": "2026-11-02"},
        {"plan_until": "2026-11-01"},
        {"phone_keys": ["02ab"]},
        {"licence_scan": "data:image/png;base64,AAAA"},
    ],
)
def test_what_cannot_be_is_refused_and_nobody_registered(town: Town, wrong: dict[str, Any]) -> None:
    town.ask("POST", "members", 422, ANNA | wrong)
    assert town.ask("GET", "members", 200) == []


def test_a_change_leaves_the_rest_and_the_whole_fits_together(town: Town) -> None:
    member = town.register()["member"]
    changed = town.ask("PATCH", f"members/{member}", 200, {"lesson_on": None, "phone": ""})
    assert {name: changed[name] for name in ANNA} == ANNA | {"lesson_on": None, "phone": ""}
    assert words(changed) == ["no_lesson"]
    wrongs: tuple[dict[str, Any], ...] = (
        {"right_checked_by": ""},
        {"born": None},
        {"member": 7},
        {"lacks": []},
        {"unknown": 1},
    )
    for wrong in wrongs:
        town.ask("PATCH", f"members/{member}", 422, wrong)
    assert town.ask("GET", f"members/{member}", 200) == changed
    town.ask("PATCH", "members/99", 404, {"phone": ""})


def test_a_booking_takes_pseudonym_phones_and_consent_from_its_member(town: Town) -> None:
    member = town.register(trace=True)["member"]
    town.book(member)
    row = town.booked()
    assert (row.phone_keys, row.trace) == (f'["{PHONE.hex()}"]', True)
    with town.cloud.store.read() as db:
        link = db.execute(select(tables.pseudonyms)).one()
    assert (link.driver, link.member) == (row.driver, member)
    assert "Anna" not in repr(row)


def test_another_phone_may_be_named_and_a_pseudonym_may_not(town: Town) -> None:
    member = town.register()["member"]
    for wrong in ({"driver": "00" * 8}, {"trace": True}):
        town.book(member, 422, **wrong)
    town.book(member, phone_keys=[OTHER_PHONE.hex()])
    assert town.booked().phone_keys == f'["{OTHER_PHONE.hex()}"]'


def test_what_lacks_keeps_from_booking_in_words(town: Town) -> None:
    member = town.register(lesson_on=None, rules_on=None)["member"]
    said = town.book(member, 409)["detail"]
    assert said == (
        "Le règlement n’est pas signé. La prise en main n’a pas été faite. / "
        "The rules are not signed. The driving lesson has not been given."
    )
    with town.cloud.store.read() as db:
        assert db.execute(select(tables.bookings)).all() == []
    town.book(99, 404)


@pytest.mark.parametrize(("days", "status"), [(1, 201), (2, 409)])
def test_the_last_day_of_a_booking_counts_too(town: Town, days: int, status: int) -> None:
    """The bank card for the deposit ends on the sixteenth."""
    town.book(town.register()["member"], status, end_s=NOW_S + days * DAY_S)


def test_a_day_is_the_communes(town: Town) -> None:
    """At 23:30 UTC it is tomorrow in Hédé, and the bank card ended yesterday there."""
    member = town.register(deposit_until="2027-01-15")["member"]
    late_s = NOW_S + 15 * 3600 + 1800
    town.book(member, 409, start_s=late_s, end_s=late_s + 60)
    town.book(member, 201, start_s=late_s - 3600, end_s=late_s - 3600 + 60)


def test_a_child_needs_a_guardian(town: Town) -> None:
    child = {"born": "2012-01-14", "right": "am"}
    assert words(town.register(**child)) == ["no_guardian"]
    signed = {"guardian": "Yann Le Goff", "guardian_signed_on": "2026-11-02"}
    assert words(town.register(**child, **signed)) == []
    assert words(town.register(**{**child, "born": "2013-01-16"}, **signed)) == ["too_young"]
