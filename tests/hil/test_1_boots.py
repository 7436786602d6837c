"""The machine comes up with the kernel, the devices and the program that a Pi has."""

from __future__ import annotations

from typing import Final

from sim.bench.machine import Machine
from sim.rig import PYTHON, Rig

COMPILED: Final = """\
import importlib, sysconfig
from pathlib import Path
site = Path(sysconfig.get_path("platlib"))
for file in sorted(site.rglob("*.so")):
    if ".libs" not in file.parts[len(site.parts)]:
        name = file.relative_to(site).with_name(file.name.partition(".")[0])
        importlib.import_module(".".join(name.parts))
        print(name)
"""


def test_the_machine_boots(machine: Machine) -> None:
    assert machine.boot_s > 0
    assert "amibox" in machine.must("hostname")
    assert machine.must("uname", "-m").strip() == machine.architecture.machine


def test_the_kernel_has_every_device(rig: Rig) -> None:
    devices = "/sys/class/net/can0 /sys/class/net/can1 /dev/amibox-gps /dev/amibox-card /dev/watchdog0"
    # Commands are answered some seconds before udev has found them all.
    rig.until("every device", lambda: rig.shell(f"ls -d {devices}"))
    assert "i6300ESB" in rig.shell("cat /sys/class/watchdog/watchdog0/identity")


def test_the_program_is_installed_where_the_unit_looks(rig: Rig) -> None:
    assert rig.shell(f"{PYTHON} -c 'import lgpio, onboard, sys; print(sys.version_info[:2])'").startswith("(3, 1")


def test_what_is_compiled_in_the_wheels_runs_on_this_processor(rig: Rig) -> None:
    loaded = rig.machine.must(PYTHON, "-c", COMPILED, timeout_s=120).split()
    assert {"_lgpio", "cryptography/hazmat/bindings/_rust", "msgspec/_core"} <= set(loaded)
