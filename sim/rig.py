"""Hardware in the loop: a real box, and the car at the other ends of its wires. What ``tests/hil`` is written against.

A TOML file (``sim.rig_file``; ``sim/bench/rig.toml`` is the bench's own) names the wires and how the machines are
reached. The car (``sim.wired``) and the commune (``sim.commune``) run on the machine that has the car's ends: on the
bench that is the guest, as the box is.
"""

from __future__ import annotations

import contextlib
import json
import time
from collections.abc import Callable
from typing import Any, Final

from sim.bench.agent import ASK
from sim.bench.machine import BOOT_ID, BOOT_S, CRASH, GuestError, Machine
from sim.hand import HERE, CommandHand, Hand, Place, switch
from sim.rig_file import GUEST, MEANS, RIG_FILE, AdapterSwitch, BoxReach, CarReach, RigFile

VEHICLE: Final = "ami-7"
PYTHON: Final = "/opt/amibox/.venv/bin/python"
BOX_SOCKET: Final = "/run/amibox/amibox.sock"
BOX_CONFIG: Final = "/etc/amibox/box.toml"
STATE: Final = "/var/lib/amibox"
READY_S: Final = 120.0
"""Longest wait for the service to be ready. By emulation Python is ten times slower than on a PC."""
CAR_UNIT: Final = "rig-car"
PLAYED: Final = {"tap": "card", "gps": "gps"}
"""What can be asked of the car only where it plays this part."""

ASK_S: Final = 20.0


class RadioError(GuestError):
    """A phone on the bench's radio did not get what it wanted; ``att``: the box refused with this code."""

    def __init__(self, message: str, att: int | None) -> None:
        super().__init__(message)
        self.att = att


class Rig:
    """One box and its car, as ``settings`` say. ``machine`` is the guest, on a rig that is one.

    ``run``, ``must``, ``shell`` and ``put`` are for the box; ``beside`` is the machine of the car's ends. Raises
    GuestError wherever a machine does not answer.
    """

    def __init__(self, settings: RigFile, machine: Machine | None = None) -> None:
        self.settings = settings
        self._machine = machine
        self.place = Place(_hand(settings.box, machine))
        self.beside = Place(_hand(settings.car, machine))
        self.run = self.place.run
        self.must = self.place.must
        self.shell = self.place.shell
        self.put = self.place.put
        self._boot = ""
        self._fresh = True
        self.off = False
        """Its power was cut and not given back."""

    @property
    def machine(self) -> Machine:
        """The guest, for what only a guest can do. GuestError on a rig with wires."""
        if self._machine is None:
            raise self._lacking(GUEST)
        return self._machine

    def cut(self) -> None:
        """Take the box's power away: nothing in it is told. From any thread; ``off`` until ``restore``."""
        if self._machine is not None:
            self.off = True
            self._machine.cut()
            return
        if self.settings.power is None:
            raise self._lacking("power")
        self._boot = self.must("cat", BOOT_ID)
        self.off = True
        switch(self.settings.power.cut)

    def restore(self) -> float:
        """Give the power back; return the seconds until the box answered. GuestError if it does not, or was on."""
        self.off = False
        if self._machine is not None:
            self._machine.start()
            return self._machine.boot_s
        if self.settings.power is None:
            raise self._lacking("power")
        switch(self.settings.power.restore)
        took_s = self.until_answered()
        if self.must("cat", BOOT_ID) == self._boot:
            raise GuestError("the box was not off: look at [power] cut in the rig's file, and at what else feeds it")
        return took_s

    def crash(self) -> float:
        """Have the box's kernel stand still; return the seconds until its watchdog has it answer again.

        GuestError if it does not, or did not stand still.
        """
        self._boot = self.must("cat", BOOT_ID)
        if self._machine is not None:
            took_s = self._machine.crash()
        else:
            with contextlib.suppress(GuestError):  # nobody answers this one
                self.run(*CRASH, timeout_s=1)
            took_s = self.until_answered()
        if self.must("cat", BOOT_ID) == self._boot:
            raise GuestError("the box did not crash")
        return took_s

    def until_answered(self, timeout_s: float = BOOT_S) -> float:
        """Wait until the box runs commands; return the seconds. GuestError if it takes longer than a boot may."""
        begun_s = time.monotonic()
        while True:
            try:
                self.run("true", timeout_s=5)
            except GuestError:
                if time.monotonic() - begun_s > timeout_s:
                    raise
                time.sleep(0.5)
            else:
                return time.monotonic() - begun_s

    def unplug(self, name: str) -> None:
        """Pull an adapter of the box (``gps``, ``card``) out of its socket."""
        if self._machine is not None:
            self._machine.unplug(name)
        else:
            switch(self._adapter(name).unplug)

    def plug(self, name: str) -> None:
        """Put it back."""
        if self._machine is not None:
            self._machine.plug(name)
        else:
            switch(self._adapter(name).plug)

    def until(self, what: str, probe: Callable[[], Any], timeout_s: float = READY_S) -> float:
        """Ask until the answer is yes; return the seconds. AssertionError with both journals if not."""
        begun_s = time.monotonic()
        trouble: object = "no"
        while time.monotonic() - begun_s < timeout_s:
            try:
                if probe():
                    return time.monotonic() - begun_s
            except GuestError as error:
                if self.off:
                    raise
                trouble = error
            time.sleep(0.3)
        raise AssertionError(
            f"{what}: not within {timeout_s:.0f} s ({trouble})\n{self.journal()}\n{_journal(self.beside, CAR_UNIT, 10)}"
            f"\n{self._all()}"
        )

    def _all(self) -> str:
        """Return what box and car say of themselves, for whoever has to find out what went wrong."""
        told = []
        for name, ask in (("box", self.status), ("car", lambda: self.car("status"))):
            try:
                told.append(f"{name}: {json.dumps(ask())}")
            except GuestError as error:
                told.append(f"{name}: {error}")
        return "\n".join(told)

    def journal(self, lines: int = 30) -> str:
        """Return the end of what the box said; if it does not answer, that."""
        return _journal(self.place, "amibox", lines)

    def status(self) -> dict[str, Any]:
        """Ask the box how it is, as ``amibox status`` does. GuestError if it does not answer."""
        return _ask(self.place, BOX_SOCKET, {"command": "status"})

    def car(self, do: str, **details: Any) -> dict[str, Any]:
        """Have the car do something; return its truth. GuestError if it is not there or refuses."""
        part = PLAYED.get(do)
        if part is not None and getattr(self.settings, part) is None:
            raise self._lacking(f"played {part}")
        answer = _ask(self.beside, self.settings.car.socket, {"do": do, **details})
        if "error" in answer:
            raise GuestError(f"the car refused {do}: {answer['error']}")
        return answer

    def start_car(self) -> None:
        """Bring up the car's ends of the wires; return when the car answers.

        The first time it is a new car; after that, one that still runs is left alone.
        """
        car, bus = self.settings.car, self.settings.can
        if self._fresh:
            self.beside.shell(f"systemctl stop -q {CAR_UNIT} || true; rm -f {car.memory}")
            self._fresh = False
        self.beside.put(RIG_FILE, self.settings.file.read_bytes())
        links = [bus.channel] if bus.interface == "socketcan" else []
        for link in [*links, *filter(None, [bus.witness])]:
            self.beside.shell(f"ip link set {link} down; ip link set {link} up type can bitrate {bus.bitrate}")
        # lgpio puts a small pipe where it is started.
        self.beside.shell(
            f"systemctl is-active -q {CAR_UNIT} || systemd-run -q --collect --unit={CAR_UNIT} -p Restart=always"
            f" -p WorkingDirectory=/run {car.python} -m sim.wired {RIG_FILE}"
        )
        self.until("the car", lambda: self.car("status"))

    def radio(self, do: str, **details: Any) -> dict[str, Any]:
        """Have a phone or the box's adapter do something; return what came of it. GuestError if it did not work."""
        if self.settings.radio is None:
            raise self._lacking("played radio")
        answer = _ask(self.place, self.settings.radio.socket, {"do": do, **details})
        if "error" in answer:
            raise RadioError(f"the radio, {do}: {answer['error']}", answer.get("att"))
        return answer

    def start_radio(self) -> None:
        """Plug the box's Bluetooth adapter in and bring up the phones' side; return when it answers."""
        self.put(RIG_FILE, self.settings.file.read_bytes())
        self.shell(
            "systemctl is-active -q rig-radio || systemd-run -q --collect --unit=rig-radio -p Restart=always"
            f" {self.settings.car.python} -m sim.bench.radio {RIG_FILE}"
        )
        self.until("the radio", lambda: self.radio("status")["adapter"])

    def await_box(self) -> float:
        """Wait until systemd calls the box active and it answers; return the seconds."""
        return self.until("amibox.service active", lambda: self.shell("systemctl is-active amibox") and self.status())

    def _adapter(self, name: str) -> AdapterSwitch:
        if name not in self.settings.adapters:
            raise self._lacking(f"unplug {name}")
        return self.settings.adapters[name]

    def _lacking(self, need: str) -> GuestError:
        wanted = MEANS.get(need, need)
        return GuestError(f'{self.settings.file} has not {wanted}: add it, or mark the test needs("{need}")')


def _hand(reach: BoxReach | CarReach, machine: Machine | None) -> Hand:
    if reach.reach == GUEST:
        if machine is None:
            raise GuestError("this rig is the bench's guest, and no guest was started")
        return machine
    return CommandHand(reach.command or HERE)


def _journal(place: Place, unit: str, lines: int) -> str:
    try:
        return place.run("journalctl", "-u", unit, "-n", str(lines), "--no-pager").text
    except GuestError as error:
        return f"no journal of {unit}: {error}"


def _ask(place: Place, path: str, request: dict[str, Any]) -> dict[str, Any]:
    text = place.must(ASK, path, stdin=json.dumps(request).encode() + b"\n", timeout_s=ASK_S)
    try:
        answer: dict[str, Any] = json.loads(text)
    except ValueError as error:
        raise GuestError(f"{path} answered {text[:200]!r}") from error
    return answer
