"""The little world of the demo: keys, configuration, broker, and the processes of car, box and cloud, in one folder."""

from __future__ import annotations

import json
import secrets
import shutil
import socket
import tempfile
import time
import urllib.error
import urllib.request
from collections.abc import Callable
from pathlib import Path
from typing import Any, Final, Self

from cloud_sync.endpoint import authority
from cloud_sync.endpoint.store import Store, sqlite_url
from onboard.__main__ import BUILD_S
from onboard.control import ask
from onboard.core.policy import Station
from sim import boxes
from sim.box_toml import station
from sim.broker import EmbeddedBroker
from sim.car import Remote
from sim.clock import ScaledClock, real_boot_s
from sim.processes import Child, Sweeper, nap
from sim.route import BAZOUGES_HEDE, NAMES

VEHICLE: Final = "ami-7"
PARENT_MAX: Final = 70
CLOUD_USER: Final = "cloud"
START_S: Final = 20.0
"""Longest wait for a process to answer; a Raspberry Pi 3 takes some seconds."""

CONFIG: Final = """\
[box]
data_dir = "{folder}/box"
provisioning = "{folder}/provisioning.cbor"
socket = "{folder}/box.sock"
log_level = "warning"

[car]
model = "ami"

[can]
interface = "slcan"
channel = "{folder}/can"

[gps]
port = "{folder}/gps"

[card_reader]
port = "{folder}/card"

[door]
unlock_pin = 17
lock_pin = 27
driver_contact_pin = 5
passenger_contact_pin = 6
lock_contact_pin = 13
lock_button_pin = 19
key_contact_pin = 12
led_pin = 20
buzzer_pin = 21
pulse_s = 1.0

[uplink]
host = "127.0.0.1"
port = {port}
username = "{vehicle}"
password_file = "{folder}/box.password"
backoff_max_s = 1

# The car's time runs fast here, this machine's threads don't: what waits for them may take longer than in a real car.
[policy]
uid_cards = true
confirm_s = 30
door_fresh_s = 60
speed_fresh_s = 12
track_every_s = 10
status_every_s = 6
comms_lost_s = 120
plug_in_grace_s = 3600
resend_first_s = 30
"""


def configuration(folder: Path, port: int, stations: tuple[Station, ...]) -> str:
    """Return the box's configuration for a car whose plugs are in ``folder`` and a broker on ``port``."""
    text = CONFIG.format(folder=folder, port=port, vehicle=VEHICLE)
    for each in stations:
        text += station(each.id, NAMES[each.id], each.latitude, each.longitude, each.radius_m)
    return text


def free_port() -> int:
    """Return a port of this machine that nobody listens on now."""
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return int(probe.getsockname()[1])


class Web:
    """The endpoint over HTTP, as any program on this machine sees it. No proxy is asked."""

    def __init__(self, port: int) -> None:
        self.url = f"http://127.0.0.1:{port}/"
        self._opener = urllib.request.build_opener(urllib.request.ProxyHandler({}))

    def get(self, path: str) -> Any:
        """Return the JSON at ``/api/v1/<path>``. OSError if nobody answers or the answer is a refusal."""
        return self._ask(urllib.request.Request(f"{self.url}api/v1/{path}"))  # noqa: S310 -- http on this machine

    def post(self, path: str, body: dict[str, Any]) -> Any:
        """Send JSON; return the answer's. OSError as above."""
        headers = {"Content-Type": "application/json"}
        data = json.dumps(body).encode()
        return self._ask(urllib.request.Request(f"{self.url}api/v1/{path}", data, headers))  # noqa: S310 -- as above

    def _ask(self, request: urllib.request.Request) -> Any:
        try:
            with self._opener.open(request, timeout=5) as answer:
                return json.load(answer)
        except urllib.error.HTTPError as error:
            raise OSError(f"{request.full_url}: {error.code} {error.read(300).decode(errors='replace')}") from error


class Town:
    """Everything that the demo starts. A context manager: whatever happens, nothing of it is left.

    ``clock`` is everybody's time. ``broker`` may be stopped and started. ``car``, ``web`` and ``box_status`` are the
    three places from which something can be known.
    """

    def __init__(self, rate: float, page_port: int | None = None) -> None:
        self.clock = ScaledClock(rate, real_boot_s(), max(time.time(), BUILD_S + 3600))
        self.web = Web(page_port or free_port())
        self.broker_port = free_port()
        self._page = self.web.url.removeprefix("http://").rstrip("/")
        self._children: list[Child] = []
        self._car: Remote | None = None
        self._broker: EmbeddedBroker | None = None
        self._folder: Path | None = None
        self._sweeper: Sweeper | None = None

    @property
    def car(self) -> Remote:
        """The car. RuntimeError before ``start``."""
        if self._car is None:
            raise RuntimeError("the town has not started")
        return self._car

    @property
    def folder(self) -> Path:
        """Where everything is. RuntimeError before it is entered."""
        if self._folder is None:
            raise RuntimeError("the town has no folder yet")
        return self._folder

    def __enter__(self) -> Self:
        # The path of a Unix socket has at most 107 bytes.
        parent = "/tmp" if len(tempfile.gettempdir()) > PARENT_MAX else None  # noqa: S108 -- mkdtemp makes it ours alone
        self._folder = Path(tempfile.mkdtemp(prefix="amibox-demo-", dir=parent))
        try:
            self._sweeper = Sweeper(self._folder)
        except BaseException:
            shutil.rmtree(self._folder)
            raise
        return self

    def __exit__(self, *_: object) -> None:
        for child in self._children:
            child.ask_to_stop()
        if self._car is not None:
            self._car.close()
        for child in self._children:
            child.wait()
        if self._broker is not None:
            self._broker.stop()
        shutil.rmtree(self.folder, ignore_errors=True)
        if self._sweeper is not None:
            self._sweeper.close()

    def start(self, tell: Callable[[str], None]) -> None:
        """Make the keys and start everything; return when car, box and cloud answer. RuntimeError if one doesn't."""
        folder = self.folder
        config = folder / "box.toml"
        config.write_text(
            configuration(folder, self.broker_port, (BAZOUGES_HEDE.start, BAZOUGES_HEDE.end)), encoding="utf-8"
        )
        self._begin("car", "--dir", str(folder), "--config", str(config))
        tell("keys of a commune, and of the box in one car")
        self._make_keys()
        passwords = {VEHICLE: secrets.token_urlsafe(16), CLOUD_USER: secrets.token_urlsafe(16)}
        for user, file in ((VEHICLE, "box.password"), (CLOUD_USER, "cloud.password")):
            (folder / file).touch(mode=0o600)
            (folder / file).write_text(passwords[user])
        tell("endpoint, MQTT broker, car and box, each on its own")
        cloud = f"serve --dir {folder}/cloud --http {self._page} --mqtt 127.0.0.1:{self.broker_port}"
        cloud += f" --mqtt-user {CLOUD_USER} --mqtt-password-file {folder}/cloud.password --mqtt-retry-s 1"
        self._begin("cloud", *cloud.split(), "--stations", str(config))
        self._broker = EmbeddedBroker(folder, passwords)
        self.start_broker()
        self.until("the car", self._reach_car)
        self._begin("box", "--dir", str(folder), "--config", str(config))
        self.until("the endpoint", lambda: self.web.get("healthz")["broker_connected"])
        self.until("the box", lambda: self.box_status()["outbox"]["connected"])

    def start_broker(self) -> None:
        """Open the broker's port."""
        if self._broker is not None:
            self._broker.start(self.broker_port)

    def stop_broker(self) -> None:
        """Close the broker's port and every connection."""
        if self._broker is not None:
            self._broker.stop()

    def box_status(self) -> dict[str, Any]:
        """Ask the box itself, as ``amibox status`` does. ConnectionError if it doesn't answer."""
        return ask(self.folder / "box.sock", {"command": "status"}, timeout_s=5.0)

    def check(self) -> None:
        """Raise RuntimeError if a process has ended."""
        for child in self._children:
            child.check()

    def until(self, what: str, probe: Callable[[], object], timeout_s: float = START_S) -> None:
        """Ask until the answer is yes. RuntimeError naming ``what`` after ``timeout_s`` real seconds."""
        until_s = time.monotonic() + timeout_s
        trouble: Exception | None = None
        while time.monotonic() < until_s:
            self.check()
            try:
                if probe():
                    return
            except OSError as error:
                trouble = error
            nap(0.05)
        raise RuntimeError(f"{what} did not answer within {timeout_s:.0f} s ({trouble or 'not ready'})")

    def _begin(self, name: str, *arguments: str) -> None:
        rest = [*self.clock.arguments(), *arguments]
        self._children.append(Child(name, rest, self.folder / f"{name}.log"))

    def _make_keys(self) -> None:
        cloud, now_s = self.folder / "cloud", int(self.clock.true_wall_s())
        authority.initialise(cloud, now_s)
        signing = authority.Authority(cloud)
        store = Store(sqlite_url(authority.Paths(cloud).database))
        try:
            store.add_box(boxes.give(signing, VEHICLE, self.folder, now_s)[0], now_s)
        finally:
            store.close()

    def _reach_car(self) -> bool:
        self._car = Remote(self.folder)
        return True
