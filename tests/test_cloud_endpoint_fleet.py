"""Bookings of members against the plan in the database: one wins, in words, also of many at once."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
from sqlalchemy import select

from cloud_sync.endpoint import tables
from cloud_sync.endpoint.app import create_app
from cloud_sync.endpoint.models import StationInfo
from cloud_sync.wire import Topic
from tests.cloud_http_rig import Client, Link
from tests.cloud_rig import NOW_S, RENTAL, Box, Cloud, make_cloud
from tests.test_cloud_endpoint_members import ANNA

HOUR_S = 3600
STATIONS = (
    StationInfo(id="bazouges", name="Bazouges", latitude=48.42, longitude=-1.57, sockets=1),
    StationInfo(id="hede", name="Hédé", latitude=48.43, longitude=-1.56, sockets=2),
)


class Town:
    """Two cars, two stations, one member."""

    def __init__(self, cloud: Cloud) -> None:
        self.cloud = cloud
        self.boxes = {name: cloud.add(name) for name in ("ami-1", "ami-2")}
        app = create_app(cloud.store, cloud.authority, cloud.ingest, Link(), STATIONS, now=lambda: NOW_S)
        self._client = Client(app)
        self.member = self.ask("POST", "members", 201, ANNA | {"deposit_until": "2028-04-30"})["member"]

    def ask(self, method: str, path: str, status: int, body: Any = None) -> Any:
        answer = self._client.ask(method, f"/api/v1/{path}", **({} if body is None else {"json": body}))
        assert answer.status_code == status, answer.text
        return answer.json()

    def book(self, start_h: float, status: int = 201, vehicle: str = "ami-1", **changes: Any) -> Any:
        start_s = NOW_S + int(start_h * HOUR_S)
        window = {"start_s": start_s, "end_s": start_s + HOUR_S, "pickup": "hede"}
        return self.ask("POST", "bookings", status, {"vehicle": vehicle, "member": self.member} | window | changes)

    def left_at(self, vehicle: str, station: str | None) -> None:
        """Have a rental end there."""
        box: Box = self.boxes[vehicle]
        box.write(replace(RENTAL, rental=len(box.rows) + 1, station=station))
        self.cloud.ingest.handle(box.topic(Topic.BATCH), box.batch(1, len(box.rows)), NOW_S)


@pytest.fixture
def town(tmp_path: Path) -> Iterator[Town]:
    cloud = make_cloud(tmp_path / "cloud")
    yield Town(cloud)
    cloud.store.close()


def test_the_second_for_the_same_time_is_told_in_words(town: Town) -> None:
    town.book(1)
    said = town.book(1.5, 409)["detail"]
    assert said.startswith("La voiture est déjà réservée à cette heure.")
    assert said.endswith("The car is booked at that time already.")
    town.book(1.5, vehicle="ami-2")


def test_a_cancelled_booking_makes_room(town: Town) -> None:
    booking = town.book(1)["id"]
    town.ask("DELETE", f"bookings/{booking}", 200)
    town.book(1)


def test_a_car_is_where_its_last_rental_ended(town: Town) -> None:
    town.left_at("ami-1", "bazouges")
    assert "ne sera pas à cette station" in town.book(1, 409)["detail"]
    town.left_at("ami-1", None)  # somewhere on the road: whoever fetches it knows where
    town.book(1)
    town.left_at("ami-1", "bazouges")
    town.book(4, 409, pickup="bazouges")  # by then the first booking has brought it to Hédé


def test_a_direct_trip_moves_its_car_and_wants_a_socket(town: Town) -> None:
    town.left_at("ami-1", "hede")
    town.left_at("ami-2", "bazouges")
    direct: dict[str, Any] = {"kind": "one_way", "dropoff": "bazouges"}
    assert "Aucune prise" in town.book(1, 409, **direct)["detail"]
    town.book(1, vehicle="ami-2", pickup="bazouges", kind="one_way", dropoff="hede")
    town.book(1, **direct)
    town.book(3, 409)
    town.book(3, pickup="bazouges")


def test_a_booking_that_is_over_moves_nothing_and_its_car_is_charged_first(town: Town) -> None:
    town.left_at("ami-1", "hede")
    begun = {"start_s": NOW_S - 2 * HOUR_S, "end_s": NOW_S - 600, "kind": "one_way", "dropoff": "bazouges"}
    town.ask("POST", "bookings", 201, {"vehicle": "ami-1", "pickup": "hede"} | begun)  # and nobody came
    assert town.book(0, 409)["detail"].startswith("La voiture sera en charge")
    town.book(0.4)


def test_of_many_who_want_one_hour_at_once_one_gets_it(town: Town) -> None:
    """Each request has a thread and an event loop of its own; the database has the last word."""

    def one(_number: int) -> int:
        window = {"start_s": NOW_S + HOUR_S, "end_s": NOW_S + 2 * HOUR_S, "pickup": "hede"}
        body = {"vehicle": "ami-1", "member": town.member} | window
        return town._client.post("/api/v1/bookings", json=body).status_code

    with ThreadPoolExecutor(8) as pool:
        said = Counter(pool.map(one, range(50)))
    assert said == {201: 1, 409: 49}
    with town.cloud.store.read() as db:
        assert len(db.execute(select(tables.bookings)).all()) == 1
