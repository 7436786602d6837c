"""The car at the other ends of real wires: a CAN interface, two serial ports and GPIO lines, named in a rig's file.

``python -m sim.wired RIG.toml`` runs it where those ends are: in the bench's guest, or on the machine beside a real
box. What moves is the same car as in the demo (``sim.ami``, ``sim.doors``, ``sim.pn532``, ``sim.gnss``); it takes one
JSON object on a line at the socket of ``[car]`` and answers with its truth. A wire that fails is tried again.
"""

from __future__ import annotations

import contextlib
import json
import math
import os
import select
import signal
import socket
import sys
import time
import tomllib
from collections import Counter
from collections.abc import Callable
from datetime import UTC, datetime
from functools import partial
from pathlib import Path
from typing import Any, Final

import can
import serial

from hw.door import DoorSettings
from sim.ami import Ami, AmiFault
from sim.bench.chip import SimulatedPins
from sim.clock import real_boot_s
from sim.desfire import APPLICATION, DesfireCard
from sim.doors import SimulatedDoor
from sim.gnss import TrueFix, sentences
from sim.pn532 import SimulatedPn532
from sim.real_lines import RealLines
from sim.route import BAZOUGES_HEDE

TURN_S: Final = 0.03
LINE_MAX: Final = 4096
RETRY_S: Final = 1.0
STROKE_S: Final = 0.04
TAP_S: Final = 2.0
"""A card is held so long. Shorter than what makes it count anew, however slowly this machine goes."""
BACKLOG_MAX: Final = 1024
KEPT: Final = ("at_m", "odometer_m", "soc_pct", "plugged")
"""What the car itself keeps over a power cut, besides its latch."""


class Wire:
    """Something that may vanish: opened again at most once a ``RETRY_S``; ``counts`` tells how often it was lost.

    ``opens`` None: there is no such wire, ever.
    """

    def __init__(self, name: str, opens: Callable[[], Any] | None) -> None:
        self.name = name
        self.counts: Counter[str] = Counter()
        self._opens = opens
        self._line: Any = None
        self._retry_s = 0.0

    def use(self, what: Callable[[Any], Any]) -> Any:
        """Return what ``what`` gives on the open line; None while there is none."""
        if self._opens is None:
            return None
        try:
            if self._line is None:
                if real_boot_s() < self._retry_s:
                    return None
                self._retry_s = real_boot_s() + RETRY_S
                self._line = self._opens()
            return what(self._line)
        except (OSError, can.CanError, serial.SerialException):
            self.counts["lost"] += 1
            self.close()
            return None

    def close(self) -> None:
        """Let go of the line."""
        line, self._line = self._line, None
        with contextlib.suppress(OSError, can.CanError, serial.SerialException):
            if isinstance(line, can.BusABC):
                line.shutdown()
            elif line is not None:
                line.reset_output_buffer()  # closing would wait half a minute for somebody to take it
                line.close()


class WiredCar:
    """The car, wired as ``rig`` (the parsed file) says. ``run`` until ``stop``."""

    def __init__(self, rig: dict[str, Any]) -> None:
        self._wall_s = time.time() - real_boot_s()
        self.ami = Ami(BAZOUGES_HEDE, real_boot_s())
        self.ami.plug(is_in=True)
        self.chip = SimulatedPn532()
        self.moments: dict[str, float] = {}
        self._tap_ends_s = math.inf
        self._stopping = False
        self._second = 0
        bus, gpio = rig["can"], rig["gpio"]
        self._can = Wire("can", lambda: can.Bus(interface=bus["interface"], channel=bus["channel"], ignore_config=True))
        self._gps = _serial_wire("gps", rig)
        self._card = _serial_wire("card", rig)
        self._gps_on = True
        self._settings = DoorSettings(**rig["pins"])
        self._pins = SimulatedPins(gpio["label"]) if "label" in gpio else RealLines.of(gpio["factory"])
        self._levels: dict[int, bool] = {}
        self._contacts: dict[int, bool] = {}
        self._memory = Path(rig["car"]["memory"])
        self._door = SimulatedDoor(self._settings, self._set_input, stroke_s=STROKE_S)
        self._recall()
        self._path = Path(rig["car"]["socket"])
        self._path.parent.mkdir(parents=True, exist_ok=True)
        self._path.unlink(missing_ok=True)
        self._listener = socket.socket(socket.AF_UNIX)
        self._listener.bind(str(self._path))
        self._listener.listen(4)

    def run(self) -> None:
        """Let time pass until ``stop``."""
        due_s = 0.0
        while not self._stopping:
            if real_boot_s() >= self._tap_ends_s:
                self._remove_card()
            if real_boot_s() >= due_s:
                due_s = real_boot_s() + TURN_S
                self._turn()
            card = self._card.use(lambda port: port.fileno())
            waiting = [self._listener] if card is None else [self._listener, card]
            ready, _, _ = select.select(waiting, [], [], max(0.0, due_s - real_boot_s()))
            if card in ready:
                self._serve_card()  # at once: a chip answers within a millisecond
            if self._listener in ready:
                self._serve()

    def stop(self) -> None:
        """Have ``run`` return. For a signal handler."""
        self._stopping = True

    def close(self) -> None:
        """Let go of every wire."""
        self._listener.close()
        self._path.unlink(missing_ok=True)
        self._door.close()
        for wire in (self._can, self._gps, self._card):
            wire.close()
        self._pins.close()

    def _turn(self) -> None:
        self.ami.advance(real_boot_s())
        for identifier, data in self.ami.frames():
            frame = can.Message(arbitration_id=identifier, data=data, is_extended_id=False)
            self._can.use(partial(_send, frame))
        for pin in (self._settings.unlock_pin, self._settings.lock_pin):
            level = self._pins.read(int(pin))
            if self._levels.get(int(pin)) != level:
                self._levels[int(pin)] = level
                self._door.on_output(int(pin), level)
        for pin, level in tuple(self._contacts.items()):
            if not level:
                # A contact to ground beats the pull-up that the box asks for when it claims a line; here the last wins.
                self._pins.pull(pin, up=False)
        wall_s = self._wall_s + real_boot_s()
        if int(wall_s) > self._second:
            self._second = int(wall_s)
            spot = self.ami.spot
            fix = TrueFix(
                spot.latitude,
                spot.longitude,
                self.ami.speed_mps,
                spot.heading_deg,
                datetime.fromtimestamp(self._second, UTC),
            )
            if self._gps_on:
                self._gps.use(partial(_write, sentences(fix)))

    def _serve_card(self) -> None:
        heard = self._card.use(lambda port: port.read(port.in_waiting or 1))
        if heard and (answer := self.chip.feed(heard)):
            self._card.use(partial(_write, answer))

    def _set_input(self, pin: int, level: bool) -> None:  # noqa: FBT001 -- the signature that SimulatedDoor calls
        if pin == self._settings.lock_contact_pin and level != self._contacts.get(pin, level):
            self.moments["locked" if self._door.locked else "unlocked"] = real_boot_s()
            self._remember()  # a latch stays where it is: remembered before anybody can see it
        self._contacts[pin] = level
        self._pins.pull(pin, up=level)

    def _present(self, uid: bytes, keys: list[bytes]) -> None:
        """Hold a card to the reader: with a chip that has these keys in the box's application, or a number alone."""
        if keys:
            self.chip.present_chip(DesfireCard(uid, {APPLICATION: keys}))
        else:
            self.chip.present(uid.hex())

    def _remove_card(self) -> None:
        self.chip.remove()
        self._tap_ends_s = math.inf
        self.moments["removed"] = real_boot_s()

    def _switch_off(self) -> None:
        self.ami.switch_off()
        self._remember()

    def _remember(self) -> None:
        """Keep what a car keeps without power."""
        kept = {"locked": self._door.locked} | {name: getattr(self.ami, name) for name in KEPT}
        new = self._memory.with_suffix(".new")
        with new.open("w") as file:
            json.dump(kept, file)
            file.flush()
            os.fsync(file.fileno())
        new.replace(self._memory)
        folder = os.open(self._memory.parent, os.O_RDONLY)
        os.fsync(folder)
        os.close(folder)

    def _recall(self) -> None:
        """Be as the car was when the power went; only this machine's power, so it stands now."""
        if not self._memory.exists():
            return
        kept = json.loads(self._memory.read_text())
        for name in KEPT:
            setattr(self.ami, name, kept[name])
        self._door.locked = kept["locked"]
        self._door.release_button()  # puts every contact where it belongs

    def _serve(self) -> None:
        client, _ = self._listener.accept()
        with client, contextlib.suppress(OSError):
            client.settimeout(1.0)
            line = client.makefile("rb").readline(LINE_MAX)
            client.sendall(json.dumps(self.answer(line)).encode() + b"\n")

    def answer(self, line: bytes) -> dict[str, Any]:
        """Do what one line says; return the car's truth, or ``error``."""
        try:
            request = json.loads(line)
            self._do(request["do"], request)
        except (ValueError, KeyError, TypeError) as error:
            return {"error": f"{type(error).__name__}: {error}"}
        ami, door = self.ami, self._door
        return {
            "wall_s": self._wall_s + real_boot_s(),
            "boot_s": real_boot_s(),
            "at_m": round(ami.at_m, 1),
            "odometer_m": round(ami.odometer_m, 1),
            "speed_mps": round(ami.speed_mps, 2),
            "soc_pct": round(ami.soc_pct, 2),
            "arrived": ami.arrived,
            "locked": door.locked,
            "driver_open": door.driver_open,
            "both_driven": door.both_driven,
            "relays": [self._pins.read(int(pin)) for pin in (self._settings.unlock_pin, self._settings.lock_pin)],
            "pulses": [pulse.value for pulse in door.pulses],
            "moments": dict(self.moments),
            "lost": {wire.name: wire.counts["lost"] for wire in (self._can, self._gps, self._card)},
        }

    def _do(self, what: str, request: dict[str, Any]) -> None:
        words: dict[str, Callable[[], None]] = {
            "status": lambda: None,
            "open_door": self._door.open_door,
            "shut_door": self._door.shut_door,
            "press_button": self._door.press_button,
            "release_button": self._door.release_button,
            "switch_off": self._switch_off,
        }
        if what in words:
            words[what]()
            return
        match what:
            case "tap":
                self._present(bytes.fromhex(request["uid"]), [bytes.fromhex(key) for key in request.get("keys", ())])
                self.moments["tapped"] = real_boot_s()
                self._tap_ends_s = real_boot_s() + TAP_S
            case "drive":
                self.ami.drive(float(request["to_m"]))
            case "plug":
                self.ami.plug(is_in=bool(request["in"]))
                self._remember()
            case "key":
                self._door.put_key(is_in=bool(request["in"]))
            case "fault":
                self.ami.fault = AmiFault(request["is"])
            case "gps":
                self._gps_on = bool(request["on"])
            case _:
                raise ValueError(f"{what} is not a word of this car")


def _send(frame: can.Message, bus: can.BusABC) -> None:
    bus.send(frame, timeout=0.1)


def _write(data: bytes, port: serial.Serial) -> None:
    """Write; what nobody takes is lost, as on a wire. An emulated port would wait for its reader."""
    if port.out_waiting > BACKLOG_MAX:
        port.reset_output_buffer()
    port.write(data)


def _serial_wire(name: str, rig: dict[str, Any]) -> Wire:
    """Return the line to a part that the car plays; a wire that is none where a real part hangs instead."""
    if name not in rig:
        return Wire(name, None)
    port, baud_rate = rig[name]["port"], rig[name]["baud_rate"]
    return Wire(name, lambda: serial.Serial(port, baud_rate, timeout=0, write_timeout=0.5))


def main() -> int:
    """Run the car until SIGTERM; return the exit code."""
    car = WiredCar(tomllib.loads(Path(sys.argv[1]).read_text()))
    try:
        for number in (signal.SIGTERM, signal.SIGINT):
            signal.signal(number, lambda *_: car.stop())
        car.run()
    finally:
        car.close()
    return 0


if __name__ == "__main__":
    sys.exit(main())
