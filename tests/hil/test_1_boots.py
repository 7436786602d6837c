"""The machine comes up with the kernel, the devices and the program that a Pi has."""

from __future__ import annotations

import pytest

from sim.bench.machine import Machine
from sim.rig import PYTHON, Rig


def test_the_machine_boots(rig: Rig) -> None:
    rig.until("the end of the boot", lambda: "active" in rig.shell("systemctl is-active multi-user.target"))
    assert float(rig.shell("cat /proc/uptime").split()[0]) > 0


def test_the_guest_is_the_bench(machine: Machine) -> None:
    assert machine.boot_s > 0
    assert "amibox" in machine.must("hostname")


def test_the_kernel_has_every_device(rig: Rig) -> None:
    rig.shell("udevadm settle -t 60", timeout_s=90)
    shown = rig.shell("ls -d /sys/class/net/can0 /dev/amibox-gps /dev/amibox-card /dev/watchdog0")
    assert len(shown.split()) == 4


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
