"""The arm64 guest's disk in a Raspberry Pi 3: its own pins, and gpiozero's own way of finding them.

QEMU's Pi has none of the bench's wires, and no virtio port for commands. It gets one script, on the kernel's command
line; what the script says on the console is all that comes back.
"""

from __future__ import annotations

import base64
import shutil
import subprocess
import tempfile
from pathlib import Path
from typing import Final

from sim.bench import steps
from sim.bench.image import DEVICE_TREE
from sim.bench.machine import overlay
from sim.bench.steps import BenchError

REVISION: Final = "a02082"
"""The code of a Raspberry Pi 3 model B, 1 GB."""
TIMEOUT_S: Final = 900.0
"""A quiet machine needs a tenth of it."""
TOOLS: Final = {"qemu-system-aarch64": "qemu-system-arm", "qemu-img": "qemu-utils", "fdtput": "device-tree-compiler"}
ARGUMENTS: Final = (
    "root=/dev/mmcblk0 rw console=ttyS1 mitigations=off quiet systemd.mask=srv.mount modprobe.blacklist=bcm2835_wdt"
)
"""There is no second disk here: nobody waits for it. And QEMU takes a watchdog that is wound up for one that has run
down: as soon as systemd found it, the machine was reset."""
# Without its watchdog's driver a Pi can't restart, which is how the run ends.
AROUND: Final = "exec >/dev/console 2>&1\n{script}\nmodprobe bcm2835_wdt; sync; systemctl reboot --force --force\n"


def run(image: Path, script: str, log: Path) -> str:
    """Boot, run a short shell script as root, switch off; return what the console said, which goes to ``log`` as well.

    ``image`` is the folder of the arm64 guest's disk. BenchError if it is another's, or takes longer than TIMEOUT_S.
    """
    steps.need(TOOLS)
    described = image / Path(DEVICE_TREE).name
    if not described.exists():
        raise BenchError("Only the arm64 guest's disk fits in a Raspberry Pi: RELEASE=12-arm64")
    with tempfile.TemporaryDirectory(prefix="amibox-bench-") as name:
        folder = Path(name)
        tree = shutil.copy(described, folder)
        # On a Pi the firmware writes it there.
        subprocess.run(["fdtput", "-p", "-t", "x", tree, "/system", "linux,revision", REVISION], check=True)  # noqa: S603, S607 -- our own words
        overlay(image, folder / "card.qcow2")
        words = base64.b64encode(AROUND.format(script=script).encode()).decode()
        arguments = f"""{ARGUMENTS} systemd.run="/bin/sh -c 'echo {words} | base64 -d | sh'" """
        command = ["qemu-system-aarch64", "-M", "raspi3b", "-dtb", tree, "-append", arguments]
        command += ["-kernel", image / "vmlinuz", "-initrd", image / "initrd.img"]
        command += ["-drive", f"file={folder}/card.qcow2,if=sd,format=qcow2"]
        command += ["-display", "none", "-monitor", "none", "-no-reboot", "-serial", "null", "-serial", "stdio"]
        steps.run(command, log, timeout_s=TIMEOUT_S)
    return log.read_text(errors="replace")
