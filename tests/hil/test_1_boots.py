"""The machine comes up with the kernel, the devices and the program that a Pi has."""

from __future__ import annotations

from typing import Final

import pytest

from sim.bench.machine import Machine
from sim.rig import PYTHON, Rig

COMPILED: Final = """\
import importlib, sysconfig
from pathlib import Path
site = Path(sysconfig.get_path("platlib"))
for file in sorted(site.rglob("*.so")):
    if ".libs" not in file.parts[len(site.parts)]:
        name = file.relative_to(site).with_name(file.name.partition(".")[0])
        if not name.name.isidentifier():
            continue  # a library of another's, such as libusb-1.0.so
        importlib.import_module(".".join(name.parts))
        print(name)
"""


def test_the_machine_boots(rig: Rig) -> None:
    rig.until("the end of the boot", lambda: "active" in rig.shell("systemctl is-active multi-user.target"))
    assert float(rig.shell("cat /proc/uptime").split()[0]) > 0


def test_the_guest_is_the_bench(machine: Machine) -> None:
    assert machine.boot_s > 0
    assert "amibox" in machine.must("hostname")
    assert machine.must("uname", "-m").strip() == machine.architecture.machine


def test_the_kernel_has_every_device(rig: Rig) -> None:
    # Commands are answered some seconds before udev has found them all.
    devices = "/sys/class/net/can0 /dev/amibox-gps /dev/amibox-card /dev/watchdog0"
    rig.until("every device", lambda: rig.shell(f"ls -d {devices}"))


def test_the_other_ends_of_the_wires_are_there(rig: Rig) -> None:
    wires = rig.settings
    ends = [f"/sys/class/net/{wires.can.channel}" if wires.can.interface == "socketcan" else wires.can.channel]
    ends += [each.port for each in (wires.gps, wires.card) if each is not None]
    assert rig.beside.shell(f"ls -d {' '.join(ends)}").split() == sorted(ends)


@pytest.mark.needs("guest")
def test_the_guest_has_a_watchdog_that_resets_it(rig: Rig) -> None:
    assert "i6300ESB" in rig.shell("cat /sys/class/watchdog/watchdog0/identity")


def test_the_program_is_installed_where_the_unit_looks(rig: Rig) -> None:
    assert rig.shell(f"{PYTHON} -c 'import lgpio, onboard, sys; print(sys.version_info[:2])'").startswith("(3, 1")


def test_what_is_compiled_in_the_wheels_runs_on_this_processor(rig: Rig) -> None:
    loaded = rig.must(PYTHON, "-c", COMPILED, timeout_s=120).split()
    assert {"_lgpio", "cryptography/hazmat/bindings/_rust", "msgspec/_core"} <= set(loaded)
