"""The commune of a car without a network: the real endpoint on this machine, with no broker, at the story's time."""

from __future__ import annotations

import asyncio
import json
import socket
import threading
import time
import urllib.request
from collections import Counter
from datetime import datetime
from pathlib import Path
from typing import Any, Final

import uvicorn

from cloud_sync.carrier_settings import Outgoing
from cloud_sync.documents import Signer
from cloud_sync.endpoint import authority, key_rotation, lists
from cloud_sync.endpoint.app import create_app
from cloud_sync.endpoint.authority import Authority, Paths
from cloud_sync.endpoint.ingest import Ingest
from cloud_sync.endpoint.models import StationInfo
from cloud_sync.endpoint.store import Store, sqlite_url
from cloud_sync.provisioning import Provisioning
from sim import boxes
from sim.phone_cloud import HttpCloud

MONDAY_S: Final = datetime(2026, 12, 7).astimezone().timestamp()
"""Midnight, where this runs."""
VEHICLE: Final = "ami-1"
HOUR_S: Final = 3600
STATIONS: Final = (
    StationInfo(id="bazouges", name="Bazouges-sous-Hédé", latitude=48.2790, longitude=-1.8400),
    StationInfo(id="hede", name="Hédé", latitude=48.2965, longitude=-1.8011),
)
START_S: Final = 10.0


class NoBroker:
    """No way to any car but by phone."""

    trouble = ""
    connected = False

    def __init__(self) -> None:
        self.counts: Counter[str] = Counter()

    def publish(self, _message: Outgoing) -> bool:
        """Take nothing."""
        return False


class Town:
    """``start`` and ``stop`` frame its life. ``now_s`` is everybody's time: Unix seconds, moved by the story."""

    def __init__(self, folder: Path, horizon_days: int = lists.HORIZON_DAYS) -> None:
        self.now_s = MONDAY_S
        self._folder = folder / "cloud"
        self._horizon_days = horizon_days
        self.address = ""

    def start(self) -> None:
        """Serve, with the commune's keys, made the first time. RuntimeError if it doesn't come up."""
        if not self._folder.exists():
            authority.initialise(self._folder, int(self.now_s))
        self._signing = Authority(self._folder)
        self.store = Store(sqlite_url(Paths(self._folder).database))
        self.ingest = Ingest(self.store, self._signing, self._horizon_days)
        app = create_app(
            self.store,
            self._signing,
            self.ingest,
            NoBroker(),
            STATIONS,
            horizon_days=self._horizon_days,
            now=lambda: self.now_s,
        )
        self._listening = socket.socket()
        self._listening.bind(("127.0.0.1", 0))
        self.address = f"http://127.0.0.1:{self._listening.getsockname()[1]}"
        self._server = uvicorn.Server(uvicorn.Config(app, log_level="warning", access_log=False))
        self._thread = threading.Thread(
            target=self._server.run, kwargs={"sockets": [self._listening]}, name="endpoint", daemon=True
        )
        self._thread.start()
        until_s = time.monotonic() + START_S
        while not self._server.started:
            if time.monotonic() > until_s:
                raise RuntimeError("the endpoint did not come up")
            time.sleep(0.01)

    def stop(self) -> None:
        """End it."""
        self._server.should_exit = True
        self._thread.join(START_S)
        self.store.close()
        self._listening.close()

    def renew_keys(self) -> None:
        """Have other keys, as after a theft: nothing that the old ones signed holds any more. It starts again."""
        self.stop()
        key_rotation.propose(self._folder, int(self.now_s), stolen=True)
        paths = Paths(self._folder)
        root = Signer.load(paths.offline / "root-1.pem")
        key_rotation.adopt(self._folder, key_rotation.sign(paths.proposal.read_bytes(), root)[1])
        self.start()

    def provision(self, vehicle: str, folder: Path) -> Provisioning:
        """Make the car's box known, and return what its box is given."""
        box, given = boxes.give(self._signing, vehicle, folder, int(self.now_s))
        self.store.add_box(box, int(self.now_s))
        return given

    async def book(
        self,
        start_s: float,
        pickup: str,
        dropoff: str,
        *,
        phone: bytes = b"",
        card: bytes = b"",
        length_s: int = HOUR_S,
        trace: bool = False,
    ) -> str:
        """Book at the town hall; return the booking's id. ``trace``: the driver agrees to the route being kept."""
        body: dict[str, Any] = {
            "vehicle": VEHICLE,
            "start_s": int(start_s),
            "end_s": int(start_s) + length_s,
            "pickup": pickup,
            "phone_keys": [phone.hex()] if phone else [],
            "cards": [{"ref": card.hex()}] if card else [],
            "trace": trace,
        }
        if dropoff != pickup:
            body |= {"kind": "one_way", "dropoff": dropoff}
        return str((await HttpCloud(self.address).ask("bookings", body))["id"])

    async def cancel(self, booking: str) -> None:
        """Cancel a booking at the town hall."""
        await asyncio.to_thread(self._ask, f"bookings/{booking}", "DELETE")

    async def get(self, path: str) -> Any:
        """Return the JSON of a page."""
        return await asyncio.to_thread(self._ask, path, "GET")

    def _ask(self, path: str, method: str) -> Any:
        request = urllib.request.Request(f"{self.address}/api/v1/{path}", method=method)  # noqa: S310 - our own
        with urllib.request.urlopen(request, timeout=START_S) as answer:  # noqa: S310 - our own
            return json.loads(answer.read())
