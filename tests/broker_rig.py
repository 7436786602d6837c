"""A mosquitto of a test's own with the configuration and the certificates that are shipped, and clients for it."""

from __future__ import annotations

import signal
import socket
import subprocess
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path

from cloud_sync.carrier import Carrier
from cloud_sync.carrier_settings import CarrierSettings
from cloud_sync.endpoint.certificates import BrokerPaths, found
from cloud_sync.uplink import Uplink, UplinkSettings
from cloud_sync.wire import MAX_PAYLOAD_BYTES, Topic
from onboard.core.events import Event, FaultReported, LinkReported
from sim.local_broker import configure
from tests.cloud_rig import free_port, wait_for

HOST = "127.0.0.1"
YEAR_S = 365 * 86_400.0


class Mosquitto:
    """The broker of the endpoint's ``folder``; it can be frozen, killed and started again."""

    def __init__(self, program: Path, folder: Path) -> None:
        self.folder = folder
        self.authority = found(folder, [HOST], time.time())
        self.port = free_port()
        self.process: subprocess.Popen[bytes] | None = None
        self._program = program

    def start(self) -> None:
        file = configure(self.folder, self.port, HOST)
        place = BrokerPaths(self.folder).mosquitto
        self.process = subprocess.Popen([self._program, "-c", file], cwd=place, stderr=subprocess.DEVNULL)
        wait_for(self._open)

    def restart(self) -> None:
        assert self.process is not None
        self.process.terminate()
        self.process.wait(20)
        self.start()

    def signal(self, number: signal.Signals) -> None:
        assert self.process is not None
        self.process.send_signal(number)

    def kill(self) -> None:
        if self.process is not None:
            self.process.kill()
            self.process.wait()
            self.process = None

    def box(self, vehicle: str) -> Path:
        """A box's files, made at the first call."""
        out = self.folder / "boxes" / vehicle
        if not out.exists():
            self.authority.give(vehicle, out, time.time())
        return out

    def cloud(self, **changes: object) -> CarrierSettings:
        """How the cloud reaches it; ``changes`` to that."""
        root = BrokerPaths(self.folder).root
        how: dict[str, object] = {"backoff_first_s": 0.05, "backoff_longest_s": 0.2, **changes}
        keys = {"ca": self.authority.paths.ca, "cert": root / "cloud.pem", "key": root / "cloud.key"}
        return CarrierSettings(HOST, self.port, "cloud", **(keys | how))  # type: ignore[arg-type]  # a test's words

    def uplink(self, vehicle: str, files: Path | None = None, **changes: object) -> UplinkSettings:
        """How a box reaches it, with its own ``files``; ``changes`` to that."""
        files = self.box(vehicle) if files is None else files
        how: dict[str, object] = {"backoff_first_s": 0.05, "backoff_longest_s": 0.2, **changes}
        keys = {"ca": files / "ca.pem", "cert": files / "box.pem", "key": files / "box.key"}
        return UplinkSettings(HOST, self.port, vehicle, **(keys | how))  # type: ignore[arg-type]  # as above

    def _open(self) -> bool:
        with socket.socket() as probe:
            return probe.connect_ex((HOST, self.port)) == 0


class Life:
    """What a worker is given, and what it told."""

    def __init__(self) -> None:
        self.events: list[Event] = []
        self.emit = self.events.append
        self.stop = threading.Event()
        self.received: list[tuple[Topic, bytes]] = []

    def beat(self) -> None:
        pass

    def came(self, topic: Topic, payload: bytes) -> None:
        self.received.append((topic, payload))

    def connected(self) -> bool:
        links = [event.connected for event in self.events if isinstance(event, LinkReported)]
        return links[-1:] == [True]

    def faults(self, part: str = "uplink") -> list[str]:
        """What was told of a part; an empty text for its being well again."""
        return [event.detail for event in self.events if isinstance(event, FaultReported) and event.part == part]


@contextmanager
def box_runs(settings: UplinkSettings, known_s: Callable[[], float] = lambda: 0.0) -> Iterator[tuple[Uplink, Life]]:
    """An uplink in its thread."""
    life = Life()
    uplink = Uplink(settings, b"offline", life.came, known_s)
    thread = threading.Thread(target=uplink.run, args=(life,))
    thread.start()
    try:
        yield uplink, life
    finally:
        life.stop.set()
        thread.join(20)
        assert not thread.is_alive()


@contextmanager
def listening(settings: CarrierSettings, *topics: str) -> Iterator[tuple[Carrier, list[tuple[str, bytes]]]]:
    """A carrier of any side with any subscriptions, connected, and what it heard."""
    with trying(settings, *topics) as (carrier, heard, _troubles):
        wait_for(lambda: carrier.connected)
        yield carrier, heard


@contextmanager
def trying(settings: CarrierSettings, *topics: str) -> Iterator[tuple[Carrier, list[tuple[str, bytes]], list[str]]]:
    """One that may never get connected, and the troubles it told as well."""
    troubles: list[str] = []
    heard: list[tuple[str, bytes]] = []
    stop = threading.Event()
    carrier = Carrier(
        settings,
        subscriptions=topics,
        payload_max=MAX_PAYLOAD_BYTES,
        received=lambda topic, payload: heard.append((topic, payload)),
        linked=lambda news: troubles.append(news.trouble) if news.trouble else None,
    )
    thread = threading.Thread(target=carrier.run, args=(lambda: None, stop))
    thread.start()
    try:
        yield carrier, heard, troubles
    finally:
        stop.set()
        thread.join(20)
