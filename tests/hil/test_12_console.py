"""The technician's console on a serial adapter of the guest, as its unit runs it: the daemon alive, hung and dead."""

from __future__ import annotations

import json
import os
import socket
import tempfile
import time
from collections.abc import Iterator
from contextlib import closing
from pathlib import Path

import pytest

from sim.rig import STATE, VEHICLE, Rig
from tests.conftest import ROOT
from tests.console_rig import LIMIT_S, LOGIN, MARIE, PIN, Terminal

pytestmark = pytest.mark.needs("guest")

UNIT = "amibox-console@.service"
PYTHON = "/opt/amibox/.venv/bin/python"
PROMPT = f"amibox {VEHICLE}> "
SOCKET = "3"
ADMIT = f"""\
import dataclasses, json, os, pathlib, sys
from cloud_sync.provisioning import Technician, load_provisioning, write_provisioning
file = pathlib.Path("{STATE}/provisioning.cbor")
name, salt, digest = json.load(sys.stdin)
who = Technician(name, bytes.fromhex(salt), bytes.fromhex(digest))
given = dataclasses.replace(load_provisioning(file), technicians=(who,))
new = file.with_name("provisioning.new")
new.unlink(missing_ok=True)
write_provisioning(new, given)
new.rename(file)
"""


@pytest.fixture(scope="module")
def terminal(box: Rig) -> Iterator[Terminal]:
    """A laptop's terminal, a cable, an adapter in the box's USB socket, and the unit on it."""
    with tempfile.TemporaryDirectory() as folder, socket.socket(socket.AF_UNIX) as cable:
        path = Path(folder) / "cable"
        at = {"type": "unix", "data": {"path": str(path)}}
        backend = {"type": "socket", "data": {"addr": at, "server": True, "wait": False}}
        box.machine.monitor("chardev-add", id="laptop", backend=backend)
        box.machine.monitor("device_add", driver="usb-serial", id="console", bus="usb.0", port=SOCKET, chardev="laptop")
        cable.connect(str(path))
        place = f"/dev/serial/by-path/*usb-0:{SOCKET}:1.0*"
        box.until("the adapter", lambda: box.run("sh", "-c", f"ls {place}").code == 0)
        tty = box.shell(f"readlink -f {place}").strip().rpartition("/")[2]
        about = json.dumps([MARIE.name, MARIE.salt.hex(), MARIE.digest.hex()])
        box.must("runuser", "-u", "amibox", "--", PYTHON, "-c", ADMIT, stdin=about.encode())
        box.put("/etc/systemd/system/amibox-console@.service", (ROOT / "systemd" / UNIT).read_bytes())
        box.shell(f"systemctl daemon-reload; systemctl start amibox-console@{tty}")
        try:
            with closing(os.fdopen(os.dup(cable.fileno()), "rb", buffering=0)) as line:
                yield Terminal(line.fileno())
        finally:
            box.shell(f"systemctl stop amibox-console@{tty}")
            box.machine.monitor("device_del", id="console")


def told(terminal: Terminal, command: str, text: str) -> str:
    """Ask until this is said: a daemon that starts has its seconds."""
    until_s = time.monotonic() + 3 * LIMIT_S
    while text not in (said := terminal.ask(command, PROMPT)):
        assert time.monotonic() < until_s, said
    return said


def test_it_answers_on_its_line_as_its_unit_runs_it(box: Rig, terminal: Terminal) -> None:
    box.until("the greeting", lambda: _greeted(terminal))
    terminal.send("en")
    terminal.until(LOGIN)
    terminal.send(MARIE.name)
    terminal.until("PIN: ")
    terminal.send(PIN)
    terminal.until(PROMPT)
    assert f"{VEHICLE}  AmiBox" in told(terminal, "status", "AmiBox")
    assert "login_pin" in terminal.ask("records", PROMPT)
    assert "amibox" in terminal.ask("logs 5 amibox", PROMPT), "it may read the log"
    assert "/s" in _two_lines(terminal, "can"), "it hears the bus beside the daemon"


def _greeted(terminal: Terminal) -> bool:
    terminal.send("")
    terminal.until(LOGIN)
    return True


def _two_lines(terminal: Terminal, command: str) -> str:
    terminal.send(command)
    heard = terminal.until("/s ")
    terminal.type("q")
    return heard + terminal.until(PROMPT)


def test_with_the_daemon_dead_it_reads_the_database_and_says_what_systemd_says(box: Rig, terminal: Terminal) -> None:
    box.shell("systemctl stop amibox")
    try:
        said = terminal.ask("status", PROMPT)
        assert "daemon DEAD" in said
        assert "ActiveState=inactive" in said
        assert "console_used" in said
    finally:
        box.shell("systemctl start amibox")
    told(terminal, "status", "town hall")


def test_with_the_daemon_hung_it_says_so_and_the_watchdog_has_it_back(box: Rig, terminal: Terminal) -> None:
    box.shell("kill -STOP $(systemctl show amibox -p MainPID --value)")
    said = terminal.ask("status", PROMPT)
    assert "daemon HUNG" in said
    assert "ActiveState=active" in said
    assert "the daemon that hangs" in said
    told(terminal, "status", "town hall")
    assert int(box.shell("systemctl show amibox -p NRestarts --value")) >= 1
