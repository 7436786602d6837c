"""HTTP: the endpoint's routes, as its OpenAPI names them, in one process with a database that every input finds alike.

``sim.fuzz.schema`` asks the same application by schemathesis, and holds every answer against the schemas.
"""

from __future__ import annotations

import asyncio
import json
from collections import Counter
from collections.abc import Sequence
from contextlib import ExitStack
from pathlib import Path
from typing import Any, Final
from urllib.parse import quote, urlencode

from fastapi import FastAPI

from cloud_sync.carrier_settings import Outgoing
from cloud_sync.documents.kinds import DocumentType
from cloud_sync.endpoint.app import create_app
from cloud_sync.endpoint.ingest import Ingest
from sim.fuzz.door import Door, Harness, right
from sim.fuzz.feed import Feed, changed
from sim.fuzz.wire import Undone, make_endpoint
from sim.fuzz.world import CAR, PHONE, T0, honest

REQUESTS_MAX: Final = 4
UID: Final = "04A1B2C3D4E5F6"
BOOKING: Final[dict[str, Any]] = {
    "vehicle": CAR,
    "start_s": T0,
    "end_s": T0 + 3600,
    "pickup": "bazouges",
    "phone_keys": [PHONE.public.hex()],
    "cards": [{"ref": "00" * 8}],
    "rights": ["door", "drive"],
}
ROUTES: Final[tuple[tuple[str, str, Any], ...]] = (
    ("POST", "/api/v1/bookings", BOOKING),
    ("PATCH", "/api/v1/bookings/{}", {"end_s": T0 + 7200}),
    ("DELETE", "/api/v1/bookings/{}", None),
    ("POST", "/api/v1/bookings/{}/pass", {"phone_key": PHONE.public.hex()}),
    (
        "POST",
        "/api/v1/staff",
        {"vehicle": CAR, "not_after_s": T0 + 99, "phone_keys": [PHONE.public.hex()], "cards": [], "rights": ["door"]},
    ),
    ("POST", "/api/v1/revocations", {"phone_key": PHONE.public.hex(), "vehicle": CAR, "until_s": T0 + 99}),
    ("POST", "/api/v1/cards", {"uid": UID, "assurance": "mutual"}),
    ("PATCH", "/api/v1/cards/{}", {"state": "lent", "holder": "A. Martin", "written": True}),
    ("POST", "/api/v1/cards/{}/block", {"code": "1234 5678"}),
    ("POST", "/api/v1/vehicles/{}/captures", None),
    ("POST", "/api/v1/vehicles/{}/card-slot", None),
    ("GET", "/api/v1/captures/{}", None),
    ("POST", "/api/v1/vehicles/{}/courier", {"list_version": 0, "key_set_version": 1, "time_nonce": "00" * 16}),
    ("POST", "/api/v1/vehicles/{}/batches", {"documents": [honest()[DocumentType.EVENT_BATCH].hex()]}),
    ("GET", "/api/v1/vehicles/{}/trips", None),
    ("GET", "/api/v1/vehicles/{}/track", None),
    ("GET", "/api/v1/vehicles/{}/radio", None),
    ("GET", "/api/v1/vehicles", None),
    ("GET", "/api/v1/trips", None),
    ("GET", "/api/v1/rentals", None),
    ("GET", "/api/v1/events", None),
    ("GET", "/api/v1/bookings", None),
    ("GET", "/api/v1/cards", None),
    ("GET", "/api/v1/stations", None),
    ("GET", "/api/v1/status", None),
    ("GET", "/api/v1/healthz", None),
)
"""Every route with an honest body."""
_QUERY: Final = ("limit", "after", "vehicle", "trip", "newest", "uid")


class Link:
    """A broker that takes everything."""

    def __init__(self) -> None:
        self.connected = True
        self.trouble = ""
        self.counts: Counter[str] = Counter()

    def publish(self, _message: Outgoing) -> bool:
        """Take it."""
        return True


def make_app(folder: Path, hosts: tuple[str, ...] = ("localhost",)) -> tuple[FastAPI, Undone]:
    """Return the application on a commune of its own, with a booking, cards, and a rental that a box told of."""
    store, authority = make_endpoint(folder)
    ingest = Ingest(store, authority)
    ingest.take(f"amibox/v1/{CAR}/up/batch", honest()[DocumentType.EVENT_BATCH], T0)
    ingest.take(f"amibox/v1/{CAR}/up/status", honest()[DocumentType.STATUS], T0)
    return create_app(store, authority, ingest, Link(), hosts=hosts, now=lambda: float(T0)), store


class Asker:
    """Asks an application without a socket."""

    def __init__(self, app: FastAPI) -> None:
        self._app = app
        self._loop = asyncio.new_event_loop()

    def close(self) -> None:
        """Ask no more."""
        self._loop.run_until_complete(self._loop.shutdown_default_executor())
        self._loop.close()

    def ask(self, method: str, path: str, query: str = "", body: bytes = b"") -> tuple[int, bytes]:
        """Return status and body; raises what the application raised."""
        return self._loop.run_until_complete(self._ask(method, path, query, body))

    async def _ask(self, method: str, path: str, query: str, body: bytes) -> tuple[int, bytes]:
        said: list[dict[str, Any]] = []
        headers = [(b"host", b"localhost"), (b"content-type", b"application/json")]
        scope = {
            "type": "http",
            "asgi": {"version": "3.0"},
            "http_version": "1.1",
            "scheme": "http",
            "method": method,
            "path": path,
            "raw_path": quote(path).encode(),
            "root_path": "",
            "query_string": query.encode(),
            "headers": [*headers, (b"content-length", str(len(body)).encode())],
            "client": ("127.0.0.1", 1),
            "server": ("localhost", 80),
        }

        async def receive() -> dict[str, Any]:
            return {"type": "http.request", "body": body, "more_body": False}

        async def send(message: Any) -> None:
            said.append(dict(message))

        await self._app(scope, receive, send)
        return int(said[0]["status"]), b"".join(each.get("body", b"") for each in said)


def _request(feed: Feed, names: Sequence[str]) -> tuple[str, str, str, bytes]:
    method, path, honest_body = feed.pick(ROUTES)
    how = feed.number()
    name = feed.pick(names) if how & 3 else feed.words()
    query = {feed.pick(_QUERY): feed.pick((CAR, "1", "0", UID, feed.words())) for _ in range(how >> 4 & 3)}
    if how & 12 == 12:
        body = feed.some()
    elif honest_body is None:
        body = b""
    else:
        body = json.dumps(changed(honest_body, feed, keys=Feed.words, binary=False)).encode()
    return method, path.format(name), urlencode(query, errors="replace"), body


def open_http(folder: Path, ending: ExitStack) -> Harness:
    """Some requests one after another: none fails, and each refusal says why."""
    app, store = make_app(folder)
    asker = Asker(app)
    ending.callback(store.close)
    ending.callback(asker.close)

    def run(data: bytes) -> None:
        feed = Feed(data)
        with store.one_input():
            _, made = asker.ask("POST", "/api/v1/bookings", body=json.dumps(BOOKING).encode())
            booking = json.loads(made)["id"]
            for _ in range(REQUESTS_MAX):
                if not feed.left:
                    return
                status, said = asker.ask(*_request(feed, (CAR, booking, "1", "2", "00" * 16)))
                right(status < 500, f"{status}: {said[:200]!r}")
                if said:
                    answer = json.loads(said)
                    right(status < 400 or "detail" in answer, f"{status} without a reason")

    return run


def _seeds() -> list[bytes]:
    plain = [bytes((route, 1, name, 0)) for route in range(len(ROUTES)) for name in range(3)]
    some = [
        bytes((route, 1, 0, 2, place, how, 1, 0)) for route in (0, 4, 5, 6, 7) for place in range(6) for how in (1, 5)
    ]
    lent = bytes((6, 1, 0, 0, 7, 1, 2, 0, 8, 1, 2, 0, 22, 1, 0, 0))
    query = [bytes((20, 0x31, 0, number, 4, 1, 6)) for number in range(6)]
    odd = (b'{"vehicle": NaN}', b'{"vehicle": "\\ud800"}', b'{"\\ud800": -Infinity}', b"[" * 250, b"9" * 250, b"\xff{")
    raw = [bytes((route, 13, 0, len(body))) + body for route in (0, 12) for body in odd]
    return [*plain, *some, lent, *query, *raw]


DOORS: Final = (
    # A booking and four requests, each with its transaction and its documents signed.
    Door("http", "the endpoint's routes", open_http, _seeds, worst_s=0.5),
)
