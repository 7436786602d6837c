"""Hardware in the loop: a real box, and the car at the other ends of its wires. What ``tests/hil`` is written against.

A TOML file (``sim/bench/rig.toml`` is the bench's own) names the wires. The box is reached by a hand that runs commands
on it; the car (``sim.wired``) runs where its ends of the wires are.
"""

from __future__ import annotations

import json
import time
import tomllib
from collections.abc import Callable
from pathlib import Path
from typing import Any, Final

from sim.bench.machine import GuestError, Machine, Said, commands

VEHICLE: Final = "ami-7"
PYTHON: Final = "/opt/amibox/.venv/bin/python"
BOX_SOCKET: Final = "/run/amibox/amibox.sock"
STATE: Final = "/var/lib/amibox"
RIG_FILE: Final = "/opt/bench/rig.toml"
READY_S: Final = 120.0
"""Longest wait for the service to be ready. By emulation Python is ten times slower than on a PC."""

ASK: Final = """\
import socket, sys
line = socket.socket(socket.AF_UNIX)
line.settimeout(20)
line.connect(sys.argv[1])
line.sendall(sys.argv[2].encode() + b"\\n")
sys.stdout.buffer.write(line.makefile("rb").readline())
"""


class Rig:
    """One box and its car. ``file`` is the TOML file; ``machine`` the guest that is the box and holds the wires."""

    def __init__(self, file: Path, machine: Machine) -> None:
        self.settings = tomllib.loads(file.read_text())
        self.machine = machine
        self._file = file

    def run(self, *argv: str, stdin: bytes = b"", timeout_s: float = 60.0) -> Said:
        """Run a command on the box."""
        return self.machine.run(*argv, stdin=stdin, timeout_s=timeout_s)

    def shell(self, script: str, *, timeout_s: float = 60.0) -> str:
        """Run a shell script on the box that must work; return what it said. GuestError otherwise."""
        return self.machine.must(*commands(script), timeout_s=timeout_s)

    def unplug(self, name: str) -> None:
        """Pull an adapter of the box (``gps``, ``card``) out of its socket."""
        self.machine.unplug(name)

    def plug(self, name: str) -> None:
        """Put it back."""
        self.machine.plug(name)

    def put(self, name: str, content: bytes, *, owner: str = "root:root", mode: str = "644") -> None:
        """Write a file on the box."""
        self.machine.must(
            *commands(f"install -D -m 600 /dev/stdin {name} && chown {owner} {name} && chmod {mode} {name}"),
            stdin=content,
        )

    def until(self, what: str, probe: Callable[[], Any], timeout_s: float = READY_S) -> float:
        """Ask until the answer is yes; return the seconds. AssertionError with the box's journal if not."""
        begun_s = time.monotonic()
        trouble: object = "no"
        while time.monotonic() - begun_s < timeout_s:
            try:
                if probe():
                    return time.monotonic() - begun_s
            except GuestError as error:
                trouble = error
            time.sleep(0.3)
        raise AssertionError(f"{what}: not within {timeout_s:.0f} s ({trouble})\n{self.journal()}")

    def journal(self, lines: int = 30) -> str:
        """Return the end of what the box said."""
        return self.machine.run("journalctl", "-u", "amibox", "-n", str(lines), "--no-pager").text

    def status(self) -> dict[str, Any]:
        """Ask the box how it is, as ``amibox status`` does. GuestError if it does not answer."""
        return self._ask(BOX_SOCKET, {"command": "status"})

    def car(self, do: str, **details: Any) -> dict[str, Any]:
        """Have the car do something; return its truth. GuestError if it is not there or refuses."""
        answer = self._ask(self.settings["car"]["socket"], {"do": do, **details})
        if "error" in answer:
            raise GuestError(f"the car refused {do}: {answer['error']}")
        return answer

    def start_car(self) -> None:
        """Bring up the car's ends of the wires; return when the car answers."""
        self.put(RIG_FILE, self._file.read_bytes())
        bus = self.settings["can"]
        self.shell(
            f"ip link set {bus['channel']} down; ip link set {bus['channel']} up type can bitrate {bus['bitrate']}\n"
            f"systemctl is-active -q rig-car || systemd-run -q --unit=rig-car -p Restart=always"
            f" {PYTHON} -m sim.wired {RIG_FILE}"
        )
        self.until("the car", lambda: self.car("status"))

    def radio(self, do: str, **details: Any) -> dict[str, Any]:
        """Have a phone or the box's adapter do something; return what came of it. GuestError if it did not work."""
        answer = self._ask(self.settings["radio"]["socket"], {"do": do, **details})
        if "error" in answer:
            raise GuestError(f"the radio, {do}: {answer['error']}")
        return answer

    def start_radio(self) -> None:
        """Plug the box's Bluetooth adapter in and bring up the phones' side; return when it answers."""
        self.put(RIG_FILE, self._file.read_bytes())
        self.shell(
            "systemctl is-active -q rig-radio || systemd-run -q --unit=rig-radio -p Restart=always"
            f" {PYTHON} -m sim.bench.radio {RIG_FILE}"
        )
        self.until("the radio", lambda: self.radio("status")["adapter"])

    def await_box(self) -> float:
        """Wait until systemd calls the box active and it answers; return the seconds."""
        return self.until("amibox.service active", lambda: self.shell("systemctl is-active amibox") and self.status())

    def _ask(self, path: str, request: dict[str, Any]) -> dict[str, Any]:
        text = self.machine.must("/usr/bin/python3", "-S", "-c", ASK, path, json.dumps(request))
        try:
            answer: dict[str, Any] = json.loads(text)
        except ValueError as error:
            raise GuestError(f"{path} answered {text[:200]!r}") from error
        return answer
