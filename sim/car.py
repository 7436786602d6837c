"""The car as a process of its own: every plug that the box has, and a socket by which the story moves the car.

In the folder: ``can``, ``gps`` and ``card`` (ports), ``pins`` (the box's pins), ``control``. On ``control`` each line
is a JSON object with ``do``, and each answer is the car's truth as a JSON object, or ``error``.
"""

from __future__ import annotations

import contextlib
import json
import math
import os
import selectors
import signal
import socket
from collections.abc import Callable
from datetime import UTC, datetime
from pathlib import Path
from typing import Any, Final

from hw.door import DoorSettings
from sim.ami import Ami
from sim.clock import ScaledClock, real_boot_s
from sim.doors import SimulatedDoor
from sim.gnss import SimulatedGnss, TrueFix
from sim.pins import PinBoard
from sim.pn532 import Pn532OnPty
from sim.route import Route
from sim.slcan import SlcanOnPty

TURN_S: Final = 0.1
"""Simulated seconds between two looks at the car."""
LINE_MAX: Final = 4096
CLIENTS_MAX: Final = 8
STROKE_S: Final = 0.04
"""How long a relay must stay closed for the latch to move, in simulated seconds."""


class Car:
    """The car with its plugs in ``folder``, wired as ``wiring`` says. ``run`` until ``stop``; ``close`` always."""

    def __init__(self, folder: Path, clock: ScaledClock, wiring: DoorSettings, route: Route) -> None:
        self.ami = Ami(route, clock.boot_s())
        self.ami.plug(is_in=True)
        self._route = route
        self._clock = clock
        self._folder = folder
        self._stopping = False
        self._moments: dict[str, float] = {}
        """Real boot times of what happened last, by its name."""
        self._can = SlcanOnPty(folder / "can")
        self._can.open()
        self._gnss = SimulatedGnss(folder / "gps")
        self._gnss.open()
        self._reader = Pn532OnPty()
        (folder / "card").symlink_to(self._reader.open())
        self._board = PinBoard(folder / "pins")
        self._lock_pin = wiring.lock_contact_pin
        self._door = SimulatedDoor(wiring, self._set_input, stroke_s=STROKE_S / clock.rate)
        self._board.start(self._door.on_output)
        self._second = math.floor(clock.true_wall_s())
        self._selector = selectors.DefaultSelector()
        self._selector.register(self._can, selectors.EVENT_READ, self._can.serve)
        self._listener = socket.socket(socket.AF_UNIX, socket.SOCK_STREAM)
        self._listener.bind(str(folder / "control"))
        self._listener.listen(CLIENTS_MAX)
        self._selector.register(self._listener, selectors.EVENT_READ, self._accept)
        self._clients = 0

    def run(self) -> None:
        """Let time pass until ``stop``."""
        while not self._stopping:
            self._turn()
            due_s = self._clock.boot_s() + TURN_S
            while (wait_s := self._clock.wait_s(due_s)) > 0 and not self._stopping:
                for key, _ in self._selector.select(wait_s):
                    key.data()

    def stop(self) -> None:
        """Have ``run`` return. For a signal handler."""
        self._stopping = True

    def close(self) -> None:
        """Unplug everything; leave nothing in the folder."""
        for key in list(self._selector.get_map().values()):
            if isinstance(key.fileobj, socket.socket):  # the listener and its clients
                key.fileobj.close()
        self._selector.close()
        (self._folder / "control").unlink(missing_ok=True)
        self._board.close()
        self._door.close()
        (self._folder / "card").unlink(missing_ok=True)
        self._reader.close()
        self._gnss.close()
        self._can.unplug()

    def _turn(self) -> None:
        self.ami.advance(self._clock.boot_s())
        for identifier, data in self.ami.frames():
            self._can.send(identifier, data)
        wall_s = self._clock.true_wall_s()
        if math.floor(wall_s) > self._second:
            self._second = math.floor(wall_s)
            spot = self.ami.spot
            time = datetime.fromtimestamp(self._second, UTC)
            self._gnss.send(TrueFix(spot.latitude, spot.longitude, self.ami.speed_mps, spot.heading_deg, time))

    def _set_input(self, pin: int, level: bool) -> None:  # noqa: FBT001 -- the signature that SimulatedDoor calls
        self._board.set_input(pin, level)
        if pin == self._lock_pin and hasattr(self, "_door"):
            self._moments["locked" if self._door.locked else "unlocked"] = real_boot_s()

    def _accept(self) -> None:
        client, _ = self._listener.accept()
        if self._clients >= CLIENTS_MAX:
            client.close()
            return
        self._clients += 1
        client.settimeout(0)
        self._selector.register(client, selectors.EVENT_READ, self._reader_of(client))

    def _reader_of(self, client: socket.socket) -> Callable[[], None]:
        pending = bytearray()

        def read() -> None:
            data = b""
            with contextlib.suppress(OSError):  # a client that is gone is one that ended
                data = client.recv(LINE_MAX)
                pending.extend(data)
                while (end := pending.find(b"\n")) >= 0:
                    line = bytes(pending[:end])
                    del pending[: end + 1]
                    client.sendall(json.dumps(self.answer(line)).encode() + b"\n")
            if not data or len(pending) > LINE_MAX:
                self._selector.unregister(client)
                client.close()
                self._clients -= 1

        return read

    def answer(self, line: bytes) -> dict[str, Any]:
        """Do what one line says; return the answer."""
        try:
            request = json.loads(line)
            self._do(request["do"], request)
        except (ValueError, KeyError, TypeError) as error:
            return {"error": f"{type(error).__name__}: {error}"}
        return self.truth()

    def _do(self, what: str, request: dict[str, Any]) -> None:
        match what:
            case "status":
                pass
            case "tap":
                self._reader.present(str(request["uid"]))
                self._moments["tapped"] = real_boot_s()
            case "remove_card":
                self._reader.remove()
            case "open_door":
                self._door.open_door(passenger=bool(request.get("passenger")))
            case "shut_door":
                self._door.shut_door(passenger=bool(request.get("passenger")))
            case "press_button":
                self._door.press_button()
            case "release_button":
                self._door.release_button()
            case "key":
                self._door.put_key(is_in=bool(request["in"]))
            case "drive":
                ends = {self._route.start.id: 0.0, self._route.end.id: self._route.length_m}
                self.ami.drive(ends[request["to"]])
            case "switch_off":
                self.ami.switch_off()
            case "plug":
                self.ami.plug(is_in=bool(request["in"]))
            case _:
                raise ValueError(f"{what} is not a word of this car")

    def truth(self) -> dict[str, Any]:
        """Return what is really so, and when (real boot time) it became so."""
        ami, door = self.ami, self._door
        return {
            "wall_s": self._clock.true_wall_s(),
            "at_m": round(ami.at_m, 1),
            "route_m": round(self._route.length_m, 1),
            "odometer_m": round(ami.odometer_m, 1),
            "speed_mps": round(ami.speed_mps, 2),
            "soc_pct": round(ami.soc_pct, 2),
            "arrived": ami.arrived,
            "ready": ami.ready,
            "plugged": ami.plugged,
            "charging": ami.charging,
            "asleep": ami.asleep,
            "locked": door.locked,
            "driver_open": door.driver_open,
            "passenger_open": door.passenger_open,
            "key_in_place": door.key_in_place,
            "listening": self._can.adapter.is_open and self._can.adapter.listen_only,
            "frames_refused": self._can.adapter.counts["frames_refused"],
            "moments": dict(self._moments),
        }


def main(folder: Path, clock: ScaledClock, wiring: DoorSettings, route: Route) -> int:
    """Run the car until SIGTERM or SIGINT; return the exit code."""
    os.environ["TMPDIR"] = str(folder)  # what the devices keep aside goes with the folder
    car = Car(folder, clock, wiring, route)
    try:
        for number in (signal.SIGTERM, signal.SIGINT):
            signal.signal(number, lambda *_: car.stop())
        car.run()
    finally:
        car.close()
    return 0


class Remote:
    """The story's hand on a car in another process."""

    def __init__(self, folder: Path, timeout_s: float = 5.0) -> None:
        """Connect. OSError if no car listens there yet."""
        self._socket = socket.socket(socket.AF_UNIX, socket.SOCK_STREAM)
        self._socket.settimeout(timeout_s)
        try:
            self._socket.connect(str(folder / "control"))
        except OSError:
            self._socket.close()
            raise
        self._answers = self._socket.makefile("rb")

    def do(self, what: str, **details: Any) -> dict[str, Any]:
        """Have the car do something; return its truth afterwards. RuntimeError if it would not."""
        self._socket.sendall(json.dumps({"do": what, **details}).encode() + b"\n")
        line = self._answers.readline()
        if not line:
            raise RuntimeError("the car is gone")
        answer: dict[str, Any] = json.loads(line)
        if "error" in answer:
            raise RuntimeError(f"the car refused {what}: {answer['error']}")
        return answer

    def close(self) -> None:
        """Let go."""
        self._answers.close()
        self._socket.close()
