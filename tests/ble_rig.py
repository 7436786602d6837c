"""The GATT server with a conversation that does what a test says, at a fake bluetoothd."""

from __future__ import annotations

import asyncio
import threading
import time
from collections import Counter
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field

import pytest
from dbus_fast import DBusError

from hw.ble_server import BleServer, BleSettings
from hw.worker import Life
from onboard.core.events import Event, FaultReported
from tests.fake_bluez import FakeBluez

DEADLINE_S = 10.0
NAME = "AmiBox-7F3A"


@dataclass
class Talk:
    """A conversation. Each HELLO is another; a RESULT is what this connection wrote, backwards.

    ``raising`` is raised by every method that stands in it, ``hanging`` connections get no answer. ``cancelled`` counts
    the coroutines that were ended so.
    """

    length: int = 104
    raising: dict[str, BaseException] = field(default_factory=dict)
    hanging: set[str] = field(default_factory=set)
    to_drop: list[str] = field(default_factory=list)
    asked: Counter[str] = field(default_factory=Counter)
    cancelled: int = 0
    looks: int = 0
    """How often it was asked who is idle."""
    written: dict[str, bytes] = field(default_factory=dict)
    over: list[str] = field(default_factory=list)
    threads: set[str] = field(default_factory=set)

    async def hello(self, connection: str) -> bytes:
        await self._begin("hello", connection)
        return bytes((self.asked["hello"] + each) % 256 for each in range(self.length))

    async def command(self, connection: str, data: bytes) -> None:
        await self._begin("command", connection)
        self.written[connection] = data

    async def result(self, connection: str) -> bytes:
        await self._begin("result", connection)
        return self.written[connection][::-1]

    def gone(self, connection: str) -> None:
        self.over.append(connection)
        self._raise("gone")

    def idle(self) -> Sequence[str]:
        self.looks += 1
        self._raise("idle")
        return tuple(self.to_drop)

    async def _begin(self, what: str, connection: str) -> None:
        self.asked[what] += 1
        self.threads.add(threading.current_thread().name)
        self._raise(what)
        if connection in self.hanging:
            try:
                await asyncio.sleep(10 * DEADLINE_S)
            except asyncio.CancelledError:
                self.cancelled += 1
                raise

    def _raise(self, what: str) -> None:
        if what in self.raising:
            raise self.raising[what]


class Server:
    """The worker in its thread, and what it emitted. ``crash`` is what ended it."""

    def __init__(self, address: str) -> None:
        self.talk = Talk()
        self.events: list[Event] = []
        self.beats = 0
        self.moving = False
        self.looks = 0
        """How often it was asked whether the car moves."""
        self.crash: BaseException | None = None
        self.worker = BleServer(BleSettings(NAME, address), self.talk, self._moves)
        self.counts = self.worker.counts
        self._stop = threading.Event()
        self._thread = threading.Thread(target=self._run, name="bluetooth")

    def start(self) -> None:
        self._thread.start()

    def again(self) -> Server:
        """Return the same, whose run has ended, ready to be started again."""
        self.stop()
        self.crash = None
        self._stop.clear()
        self._thread = threading.Thread(target=self._run, name="bluetooth")
        return self

    def stop(self) -> float:
        """Stop the worker; return how long it took."""
        begun_s = time.monotonic()
        self._stop.set()
        if self._thread.ident is not None:
            self._thread.join(DEADLINE_S)
        assert not self._thread.is_alive()
        return time.monotonic() - begun_s

    @property
    def running(self) -> bool:
        return self._thread.is_alive()

    def faults(self) -> list[FaultReported]:
        return [event for event in self.events if isinstance(event, FaultReported)]

    def _run(self) -> None:
        try:
            self.worker.run(Life(self.events.append, self._beat, self._stop))
        except Exception as error:  # noqa: BLE001 - a test looks at what it was
            self.crash = error

    def _moves(self) -> bool:
        self.looks += 1
        return self.moving

    def _beat(self) -> None:
        self.beats += 1


@contextmanager
def serving(bluez: FakeBluez, server: Server) -> Iterator[Server]:
    """Start a bluetoothd with an adapter and this server; settled, both work until the end of the test."""
    bluez.start()
    try:
        server.start()
        until(lambda: bluez.advertisement is not None)
        yield server
    finally:
        server.stop()


def until(seen: Callable[[], object]) -> None:
    """Wait until something is seen; fail at the deadline."""
    end_s = time.monotonic() + DEADLINE_S
    while not seen():
        assert time.monotonic() < end_s
        time.sleep(0.005)


@contextmanager
def refused(code: int) -> Iterator[None]:
    """What is done within is answered with this code, in BlueZ's words for it."""
    with pytest.raises(DBusError) as caught:
        yield
    assert (caught.value.type, caught.value.text) == ("org.bluez.Error.Failed", f"{code:#04x}")


@contextmanager
def refused_offset() -> Iterator[None]:
    with pytest.raises(DBusError) as caught:
        yield
    assert caught.value.type == "org.bluez.Error.InvalidOffset"
