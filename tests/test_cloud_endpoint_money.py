"""What a rental costs, the charge that it makes, and what is given back of it."""

from __future__ import annotations

import csv
import io
from collections.abc import Iterator
from dataclasses import replace
from datetime import datetime
from pathlib import Path
from typing import Any

import pytest
from sqlalchemy import func, insert, select

from cloud_sync.endpoint import charges, tables, tariff
from cloud_sync.endpoint.app import create_app
from cloud_sync.wire import Topic
from onboard.core.records import Recordable, RentalKind, StoreReplaced
from tests.cloud_http_rig import Client, Link
from tests.cloud_rig import DRIVER, NOW_S, RENTAL, RESERVATION, Box, Cloud, make_cloud

HOUR_S = 3600
MONTH = "2027-01"
"""Of ``NOW_S``."""


@pytest.fixture
def cloud(tmp_path: Path) -> Iterator[Cloud]:
    made = make_cloud(tmp_path / "cloud")
    yield made
    made.store.close()


@pytest.fixture
def box(cloud: Cloud) -> Box:
    return cloud.add("ami-1")


@pytest.fixture
def client(cloud: Cloud) -> Client:
    return Client(create_app(cloud.store, cloud.authority, cloud.ingest, Link(), (), now=lambda: float(NOW_S)))


def post(client: Client, path: str, body: dict[str, Any]) -> tuple[int, Any]:
    answer = client.post(f"/api/v1/{path}", json=body)
    return answer.status_code, answer.json()


def get(client: Client, path: str) -> Any:
    answer = client.get(f"/api/v1/{path}")
    return answer.json() if answer.status_code == 200 else answer.status_code


def send(cloud: Cloud, box: Box, *records: Recordable, now_s: float = NOW_S) -> None:
    """Have a box write, and the commune take all that it has."""
    box.write(*records)
    cloud.ingest.handle(box.topic(Topic.BATCH), box.batch(1, len(box.rows)), now_s)


def held(cloud: Cloud) -> list[Any]:
    with cloud.store.read() as db:
        return list(db.execute(select(tables.charges).order_by(tables.charges.c.id)).all())


@pytest.mark.parametrize(
    ("billable_s", "cents"),
    [
        (0, 0),
        (1, 0),
        (1799, 0),
        (1800, 0),
        (1801, 50),
        (3600, 50),
        (3601, 100),
        (5400, 100),
        (5401, 150),
        (24 * HOUR_S, 2350),
        (24 * HOUR_S + 1, 2400),
        (30 * 24 * HOUR_S, 71_950),
    ],
)
def test_half_an_hour_is_free_and_each_half_hour_begun_costs_fifty_cents(billable_s: int, cents: int) -> None:
    assert tariff.cost_cents(tariff.FIRST, billable_s) == cents


def test_a_tariff_without_free_time_charges_from_the_first_second() -> None:
    dearer = replace(tariff.FIRST, free_s=0, step_s=60, step_cents=7)
    assert [tariff.cost_cents(dearer, billable_s) for billable_s in (0, 1, 60, 61)] == [0, 7, 7, 14]


def test_a_rental_makes_one_charge_however_often_its_end_comes(cloud: Cloud, box: Box) -> None:
    ended = replace(RENTAL, billable_s=1801)
    send(cloud, box, ended)
    send(cloud, box, replace(ended, rental=2, billable_s=1800))
    send(cloud, box)
    first, second = held(cloud)
    assert (first.amount_cents, first.billable_s, first.driver, first.tariff, first.doubt) == (50, 1801, DRIVER, 1, "")
    assert first.ended_s - first.started_s == 1801
    assert (second.amount_cents, second.rental) == (0, 2)


@pytest.mark.parametrize("kind", [RentalKind.STAFF, RentalKind.REOPEN])
def test_staff_and_the_way_back_to_the_cable_cost_nothing(cloud: Cloud, box: Box, kind: RentalKind) -> None:
    send(cloud, box, replace(RENTAL, kind=kind, billable_s=9000))
    assert held(cloud) == []


def test_a_second_end_of_the_same_rental_charges_nothing_more(cloud: Cloud, box: Box) -> None:
    send(cloud, box, replace(RENTAL, billable_s=1801), replace(RENTAL, billable_s=90_000))
    assert [row.amount_cents for row in held(cloud)] == [50]


def test_what_was_sent_under_two_stores_is_paid_once(cloud: Cloud, box: Box) -> None:
    """The end of a rental comes under the new store before the news that it continues the old one."""
    send(cloud, box, replace(RENTAL, billable_s=1801))
    later = Box(box.given, box.key_set)
    later.write(StoreReplaced(box.store_id, "damaged"), replace(RENTAL, billable_s=1801), replace(RENTAL, rental=2))
    for first, last in ((2, 3), (1, 1)):
        cloud.ingest.handle(later.topic(Topic.BATCH), later.batch(first, last), NOW_S)
    owed = [(row.rental, row.amount_cents, row.corrects is not None) for row in held(cloud)]
    assert owed == [(1, 50, False), (1, 50, False), (2, 0, False), (1, -50, True)]


@pytest.mark.parametrize(
    ("billable_s", "basis", "booked_s", "doubt"),
    [
        (HOUR_S, "boot", HOUR_S - 1, ""),
        (HOUR_S, "wall", HOUR_S, ""),
        (HOUR_S, "floor", HOUR_S - 1, ""),
        (HOUR_S, "wall", HOUR_S - 1, "longer than booked"),
        (HOUR_S, "wall", None, "longer than booked"),
        (24 * HOUR_S, "boot", HOUR_S, ""),
        (24 * HOUR_S + 1, "boot", 48 * HOUR_S, "longer than a day"),
    ],
)
def test_a_length_that_a_wrong_sky_may_have_made_is_looked_at_first(
    cloud: Cloud, box: Box, billable_s: int, basis: str, booked_s: int | None, doubt: str
) -> None:
    if booked_s is not None:
        values = {"id": RESERVATION, "vehicle": "ami-1", "start_s": NOW_S, "end_s": NOW_S + booked_s, "pickup": "hede"}
        rest = {"kind": "loop", "driver": DRIVER, "phone_keys": "[]", "cards": "[]", "rights": 3, "trace": False}
        with cloud.store.write() as db:
            db.execute(insert(tables.bookings).values(values | rest | {"created_s": NOW_S}))
    send(cloud, box, replace(RENTAL, billable_s=billable_s, billable_basis=basis))
    [row] = held(cloud)
    assert row.doubt.startswith(doubt)
    assert bool(row.doubt) == bool(doubt)


def test_nobodys_rental_becomes_dearer_after_it_began(cloud: Cloud, box: Box, client: Client) -> None:
    terms = {"from_s": NOW_S + HOUR_S, "free_s": 0, "step_s": 60, "step_cents": 10}
    status, made = post(client, "tariffs", terms)
    assert (status, made["version"]) == (201, 2)
    # Its rows are written a good quarter of an hour before NOW_S.
    send(cloud, box, replace(RENTAL, billable_s=1801))
    assert [(row.tariff, row.amount_cents) for row in held(cloud)] == [(1, 50)]
    with cloud.store.read() as db:
        assert [tariff.at(db, terms["from_s"] + after_s).version for after_s in (-1, 0, 1)] == [1, 2, 2]


@pytest.mark.parametrize(
    "terms",
    [
        {"from_s": NOW_S},
        {"from_s": 0},
        {"from_s": NOW_S + 60, "step_s": 59},
        {"from_s": NOW_S + 60, "free_s": -1},
        {"from_s": NOW_S + 60, "step_cents": -50},
        {"from_s": NOW_S + 60, "step_cents": 0.5},
    ],
)
def test_a_tariff_that_cannot_be_is_refused(client: Client, terms: dict[str, Any]) -> None:
    status, _ = post(client, "tariffs", {"free_s": 1800, "step_s": 1800, "step_cents": 50} | terms)
    assert status in {409, 422}
    assert [each["version"] for each in get(client, "tariffs")] == [1]


def test_a_tariff_begins_after_the_one_before_it(client: Client) -> None:
    terms = {"from_s": NOW_S + HOUR_S, "free_s": 1800, "step_s": 1800, "step_cents": 60}
    assert post(client, "tariffs", terms)[0] == 201
    status, said = post(client, "tariffs", terms)
    assert status == 409
    assert "than the one before it. Nothing was changed." in said["detail"]


def test_a_correction_is_a_line_of_its_own_and_no_more_than_what_is_left(
    cloud: Cloud, box: Box, client: Client
) -> None:
    send(cloud, box, replace(RENTAL, billable_s=2 * HOUR_S))
    [row] = held(cloud)
    for cents, left in ((100, 50), (50, 0)):
        status, said = post(client, f"charges/{row.charge}/credit", {"cents": cents, "why": "la porte", "by": "AB"})
        assert (status, said["left_cents"]) == (201, left)
    status, said = post(client, f"charges/{row.charge}/credit", {"cents": 1, "why": "la porte", "by": "AB"})
    assert (status, said["detail"]) == (409, "0 cents are left of this charge. Nothing was changed.")
    first, *given_back = held(cloud)
    assert first == row
    assert [(each.amount_cents, each.corrects, each.driver) for each in given_back] == [
        (-100, row.charge, DRIVER),
        (-50, row.charge, DRIVER),
    ]
    for corrected in (given_back[0].charge, "0" * 32):
        assert post(client, f"charges/{corrected}/credit", {"cents": 1, "why": "why", "by": "AB"})[0] == 409
    for wrong in ({"cents": 0}, {"why": "   "}, {"by": " "}):
        said_so = {"cents": 1, "why": "la porte", "by": "AB"} | wrong
        assert post(client, f"charges/{row.charge}/credit", said_so)[0] == 422


def test_a_statement_has_a_months_lines_of_one_driver_or_of_all(cloud: Cloud, box: Box, client: Client) -> None:
    send(cloud, box, replace(RENTAL, billable_s=1801), replace(RENTAL, rental=2, driver=b"driver-2", billable_s=3601))
    everybody = get(client, f"charges?month={MONTH}")
    assert (len(everybody["lines"]), everybody["total_cents"]) == (2, 150)
    one = get(client, f"charges?month={MONTH}&driver={b'driver-2'.hex()}")
    assert [line["amount_cents"] for line in one["lines"]] == [100]
    assert get(client, "charges?month=2027-02")["lines"] == []
    for wrong in ("2027-13", "2027-1", "27-01", "2027-00"):
        assert get(client, f"charges?month={wrong}") == 422


@pytest.mark.parametrize(
    ("text", "first", "following"),
    [
        ("2026-03", "2026-03-01T00:00+01:00", "2026-04-01T00:00+02:00"),
        ("2026-10", "2026-10-01T00:00+02:00", "2026-11-01T00:00+01:00"),
        ("2026-12", "2026-12-01T00:00+01:00", "2027-01-01T00:00+01:00"),
    ],
)
def test_a_month_is_the_communes(text: str, first: str, following: str) -> None:
    assert charges.month(text) == tuple(int(datetime.fromisoformat(each).timestamp()) for each in (first, following))


def test_the_treasurers_file_is_read_back_and_no_spreadsheet_calculates_in_it(
    cloud: Cloud, box: Box, client: Client
) -> None:
    send(cloud, box, replace(RENTAL, billable_s=1801))
    name = held(cloud)[0].charge
    reasons = ("=1+1", "+33", "-2", "@SUM(A1)", 'says "no", and\nmore', "Ćwikła 水 é")
    for why in reasons:
        assert post(client, f"charges/{name}/credit", {"cents": 1, "why": f"{why}  ", "by": "AB"})[0] == 201
    rows = list(csv.DictReader(io.StringIO(client.get(f"/api/v1/charges.csv?month={MONTH}").text)))
    assert (rows[0]["amount_cents"], rows[0]["corrects"], rows[0]["why"]) == ("50", "", "")
    assert datetime.fromisoformat(rows[0]["ended"]).timestamp() == held(cloud)[0].ended_s
    assert rows[0]["ended"][-6:] == "+01:00"
    safe = [f"'{why}" if why[0] in "=+-@" else why for why in reasons]
    assert [row["why"].rstrip() for row in rows[1:]] == safe
    assert [row["corrects"] for row in rows[1:]] == [name] * len(reasons)


def test_charges_and_tariffs_are_only_ever_added() -> None:
    room = Path(tariff.__file__).parent
    for file in sorted(room.rglob("*.py")):
        text = file.read_text()
        for table in ("charges", "tariffs"):
            for word in ("update", "delete"):
                assert f"{word}(tables.{table})" not in text, file


def test_a_database_from_before_has_the_first_tariff(cloud: Cloud) -> None:
    with cloud.store.read() as db:
        assert tariff.every(db) == [tariff.FIRST]
        assert db.scalar(select(func.count()).select_from(tables.charges)) == 0
