"""The machine comes up with the kernel, the devices and the program that a Pi has."""

from __future__ import annotations

from sim.bench.machine import Machine
from sim.rig import PYTHON, Rig


def test_the_machine_boots(machine: Machine) -> None:
    assert machine.boot_s > 0
    assert "amibox" in machine.must("hostname")


def test_the_kernel_has_every_device(rig: Rig) -> None:
    rig.shell("udevadm settle -t 60", timeout_s=90)
    shown = rig.shell("ls -d /sys/class/net/can0 /sys/class/net/can1 /dev/amibox-gps /dev/amibox-card /dev/watchdog0")
    assert len(shown.split()) == 5
    assert "i6300ESB" in rig.shell("cat /sys/class/watchdog/watchdog0/identity")


def test_the_program_is_installed_where_the_unit_looks(rig: Rig) -> None:
    assert rig.shell(f"{PYTHON} -c 'import lgpio, onboard, sys; print(sys.version_info[:2])'").startswith("(3, 1")
