"""A town hall's endpoint that is asked without a socket: its routes, a link that notes, a clock that a test moves."""

from __future__ import annotations

import asyncio
from collections import Counter
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import httpx
from fastapi import FastAPI

from cloud_sync.carrier_settings import Outgoing
from cloud_sync.documents import AgreementKey, decode_reservation_list
from cloud_sync.endpoint.app import create_app
from cloud_sync.wire import Topic
from onboard.core.grants import ReservationList
from tests.cloud_rig import NOW_S, Box, Cloud, make_cloud

PHONE = AgreementKey.from_bytes(bytes([21]) * 32).public
OTHER_PHONE = AgreementKey.from_bytes(bytes([22]) * 32).public
HOUR_S = 3600


class Client:
    """Asks the application without a socket."""

    def __init__(self, app: FastAPI) -> None:
        self._app = app

    def get(self, path: str, **how: Any) -> httpx.Response:
        return self.ask("GET", path, **how)

    def post(self, path: str, **how: Any) -> httpx.Response:
        return self.ask("POST", path, **how)

    def patch(self, path: str, **how: Any) -> httpx.Response:
        return self.ask("PATCH", path, **how)

    def delete(self, path: str) -> httpx.Response:
        return self.ask("DELETE", path)

    def ask(self, method: str, path: str, **how: Any) -> httpx.Response:
        async def once() -> httpx.Response:
            transport = httpx.ASGITransport(self._app)
            async with httpx.AsyncClient(transport=transport, base_url="http://127.0.0.1") as client:
                return await client.request(method, path, **how)

        return asyncio.run(once())


class Link:
    """A link that notes what it was given."""

    def __init__(self) -> None:
        self.trouble = ""
        self.connected = True
        self.counts: Counter[str] = Counter()
        self.sent: list[Outgoing] = []

    def publish(self, message: Outgoing) -> bool:
        self.sent.append(message)
        return self.connected


@dataclass
class Town:
    """A commune with one car, ``ami-1``. ``now_s`` is everybody's time."""

    cloud: Cloud
    box: Box
    link: Link = field(default_factory=Link)
    now_s: float = NOW_S
    horizon_days: int = 14

    def __post_init__(self) -> None:
        self.client = Client(
            create_app(
                self.cloud.store,
                self.cloud.authority,
                self.cloud.ingest,
                self.link,
                horizon_days=self.horizon_days,
                now=lambda: self.now_s,
            )
        )

    def post(self, path: str, body: dict[str, Any], status: int = 201) -> Any:
        return self._said(self.client.post(f"/api/v1/{path}", json=body), status)

    def patch(self, path: str, body: dict[str, Any], status: int = 200) -> Any:
        return self._said(self.client.patch(f"/api/v1/{path}", json=body), status)

    def cancel(self, booking: str, status: int = 200) -> Any:
        return self._said(self.client.delete(f"/api/v1/bookings/{booking}"), status)

    @staticmethod
    def _said(answer: httpx.Response, status: int) -> Any:
        assert answer.status_code == status, answer.text
        return answer.json()

    def book(self, start_s: float = NOW_S, end_s: float = NOW_S + HOUR_S, **changes: Any) -> str:
        """Book the car for the phone; returns the booking's id."""
        wanted = {"vehicle": "ami-1", "start_s": int(start_s), "end_s": int(end_s), "pickup": "bazouges"}
        return str(self.post("bookings", {**wanted, "phone_keys": [PHONE.hex()], **changes})["id"])

    def opened(self, document: bytes) -> ReservationList:
        """Open a list as the box does."""
        return decode_reservation_list(document, self.box.key_set, self.box.given.agreement, "ami-1")

    @property
    def listed(self) -> ReservationList:
        """The list that went to the broker last."""
        topic = self.box.topic(Topic.LIST)
        return self.opened([message.payload for message in self.link.sent if message.topic == topic][-1])


@contextmanager
def make_town(folder: Path, **settings: Any) -> Iterator[Town]:
    cloud = make_cloud(folder / "cloud")
    try:
        yield Town(cloud, cloud.add("ami-1"), **settings)
    finally:
        cloud.store.close()
