"""One guest under QEMU: its wiring, its power, and commands in it over a virtio port.

The car's end of each wire is in the same guest as the box's: ``can1`` on the bus of ``can0``, and the serial ports
``ttyS1`` and ``ttyS2`` at the other ends of two USB-serial adapters. The disks are copies of the built image's, so that
each run starts clean; they stay over ``cut`` and ``start``.
"""

from __future__ import annotations

import base64
import contextlib
import json
import os
import platform
import shutil
import socket
import subprocess
import tempfile
import time
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import IO, Any, Final, Self

from sim.bench import disk, steps
from sim.bench.cable import Cable
from sim.bench.disk import Disks
from sim.bench.release import Architecture
from sim.bench.steps import BenchError
from sim.processes import die_with

BOOT_S: Final = 240.0
"""Longest boot: 13 to 35 s were measured by emulation, more on a busy machine."""
ANSWER_S: Final = 20.0
"""An answer may be this much later than the command's own time-out."""
PROBE_S: Final = 2.0
WATCHDOG_S: Final = 60.0
"""Longest until the watchdog bites, which has 15 s."""
BOOT_ID: Final = "/proc/sys/kernel/random/boot_id"
CRASH: Final = ("/bin/sh", "-c", "echo 1 >/proc/sys/kernel/sysrq; echo c >/proc/sysrq-trigger")
"""Has a kernel stand still, for good where ``kernel.panic`` is 0."""
MEMORY_MB: Final = 1024

USB: Final = ("gps", "card")
"""The USB-serial adapters, in the order of their sockets."""

ARGUMENTS: Final = "root=/dev/vda rw console=ttyS0 mitigations=off quiet net.ifnames=0"


@dataclass(frozen=True, slots=True)
class Said:
    """What a command in the guest came to: its exit code, and its output as text."""

    code: int
    text: str


class GuestError(Exception):
    """The guest does not answer, or a command that must work failed there."""


def accelerator(wanted: Architecture) -> list[str]:
    """Return QEMU's arguments for the processor. /dev/kvm alone proves nothing: the processor must have the means."""
    native = wanted.machine == platform.machine()
    flags = Path("/proc/cpuinfo").read_text().split()
    if native and ("vmx" in flags or "svm" in flags) and os.access("/dev/kvm", os.W_OK):
        return ["-accel", "kvm", "-cpu", "host"]
    return ["-accel", "tcg,thread=multi", "-cpu", wanted.processor]


def overlay(image: Path, disk: Path) -> None:
    """Make ``disk``, which takes what is written and leaves the image as it is."""
    made = ["qemu-img", "create", "-q", "-f", "qcow2", "-F", "raw", "-b", str(image.resolve() / "disk.img"), str(disk)]
    subprocess.run(made, check=True, timeout=60)  # noqa: S603 -- our own words


def tools(wanted: Architecture) -> dict[str, str]:
    """Return the programs that a guest needs to run, each with its Debian package."""
    return {f"qemu-system-{wanted.machine}": wanted.qemu_package, **disk.TOOLS}


class Machine:
    """A guest from ``image``: a folder with ``disk.img``, ``vmlinuz``, ``initrd.img``. A context manager.

    What it leaves goes to ``results``: ``console.log``, and what was fetched. ``start`` switches on, ``cut`` pulls the
    plug, ``run`` runs a command in it.
    """

    def __init__(self, architecture: Architecture, image: Path, results: Path) -> None:
        steps.need(tools(architecture))
        results.mkdir(parents=True, exist_ok=True)
        self.architecture = architecture
        self.image = image.resolve()
        self.results = results.resolve()
        self.boot_s = 0.0
        """Seconds from power to the first answer, of the last boot."""
        self._folder = Path(tempfile.mkdtemp(prefix="amibox-bench-"))
        self._disks = Disks(self.image, self._folder, self.results)
        self._cables = [Cable(self._folder / f"{name}-box", self._folder / f"{name}-car") for name in USB]
        self._process: subprocess.Popen[bytes] | None = None
        self._socket: socket.socket | None = None
        self._answers: IO[bytes] | None = None
        self._number = 0

    def __enter__(self) -> Self:
        try:
            self.start()
        except BaseException:
            self.close()
            raise
        return self

    def __exit__(self, *_: object) -> None:
        self.close()

    def start(self) -> None:
        """Switch on; return when commands are answered. GuestError, with the console's end, if that takes too long."""
        if self._process is not None:
            raise GuestError("the guest is on already")
        self._disks.start()
        self._switch_on(time.monotonic())

    def _switch_on(self, begun_s: float) -> None:
        self._spawn()
        self._await_boot(begun_s)

    def _spawn(self) -> None:
        with (self.results / "qemu.log").open("ab") as log:
            parent = os.getpid()
            self._process = subprocess.Popen(  # noqa: S603 -- our own words
                self._command(self._disks.arguments()),
                stdin=subprocess.DEVNULL,
                stdout=log,
                stderr=log,
                preexec_fn=lambda: die_with(parent),  # noqa: PLW1509 -- no thread of ours holds a lock over it
            )

    def _await_boot(self, begun_s: float) -> None:
        while True:
            try:
                self._connect()
                if self.run("true", timeout_s=PROBE_S, grace_s=PROBE_S).code == 0:
                    break
            except GuestError:
                self._disconnect()
            if self._process is not None and self._process.poll() == 0:
                # The watchdog: on a busy machine systemd may begin to feed it too late. The guest boots again.
                self._spawn()
            if self._process is None or self._process.poll() is not None:
                raise GuestError(f"QEMU ended; {self.results}/qemu.log says:\n{_tail(self.results / 'qemu.log')}")
            if time.monotonic() - begun_s > BOOT_S:
                raise GuestError(f"no answer {BOOT_S:.0f} s after power; the console says:\n{self.console()}")
            time.sleep(0.2)
        self.boot_s = time.monotonic() - begun_s

    def cut(self) -> None:
        """Cut the power: nothing in the guest is told, and what its disk had not been told to keep is gone.

        May be called from another thread while ``run`` waits for an answer: that then raises GuestError.
        """
        process, self._process = self._process, None
        if process is not None:
            process.kill()
            process.wait()
        self._disks.cut()
        self._disconnect()

    def crash(self) -> float:
        """Have the kernel stand still; return the seconds until the guest answers. GuestError if its watchdog sleeps.

        The watchdog ends QEMU, which is switched on again at once: after a reset of its own QEMU 7.2's CAN controllers
        read where they had stopped, and hear nothing but errors. The disk's cache stays, as a card's does.
        """
        process = self._process
        if process is None:
            raise GuestError("the guest is off")
        begun_s = time.monotonic()
        with contextlib.suppress(GuestError):  # nobody answers this one
            self.run(*CRASH, timeout_s=1, grace_s=1)
        try:
            code = process.wait(WATCHDOG_S)
        except subprocess.TimeoutExpired as error:
            raise GuestError(f"the kernel stands still and no watchdog has ended it in {WATCHDOG_S:.0f} s") from error
        if code != 0:
            raise GuestError(f"QEMU itself failed (code {code}); {self.results}/qemu.log says why")
        self._process = None
        self._disconnect()
        self._switch_on(begun_s)
        return self.boot_s

    def close(self) -> None:
        """Cut the power for good, and leave nothing but the results."""
        self.cut()
        for cable in self._cables:
            cable.close()
        self._disks.close()
        shutil.rmtree(self._folder, ignore_errors=True)

    def run(self, *argv: str | Path, stdin: bytes = b"", timeout_s: float = 60.0, grace_s: float = ANSWER_S) -> Said:
        """Run a command in the guest. GuestError if the guest does not answer within ``timeout_s + grace_s``."""
        line, answers = self._socket, self._answers
        if line is None or answers is None:
            raise GuestError("nobody is connected to the guest")
        self._number += 1
        request: dict[str, Any] = {"id": self._number, "argv": [str(word) for word in argv], "timeout_s": timeout_s}
        if stdin:
            request["stdin"] = base64.b64encode(stdin).decode()
        try:
            line.settimeout(timeout_s + grace_s)
            line.sendall(json.dumps(request).encode() + b"\n")
            while text := answers.readline():
                answer = json.loads(text)
                if answer["id"] == self._number:
                    return Said(answer["code"], base64.b64decode(answer["out"]).decode(errors="replace"))
        except (OSError, ValueError) as error:
            raise GuestError(f"no answer to {argv[0]} ({error}); it may have run") from error
        raise GuestError(f"the guest went away during {argv[0]}; it may have run")

    def must(self, *argv: str | Path, stdin: bytes = b"", timeout_s: float = 60.0) -> str:
        """Run a command that must work; return what it said. GuestError if its code is not 0."""
        said = self.run(*argv, stdin=stdin, timeout_s=timeout_s)
        if said.code != 0:
            raise GuestError(f"{' '.join(map(str, argv))}: code {said.code}\n{said.text}")
        return said.text

    def monitor(self, command: str, **arguments: Any) -> Any:
        """Do something to the machine itself (QEMU's own commands); return the answer."""
        with socket.socket(socket.AF_UNIX) as line:
            line.settimeout(10)
            line.connect(str(self._folder / "monitor"))
            with line.makefile("rw") as talk:
                talk.readline()
                answer: dict[str, Any] = {}
                for word, values in (("qmp_capabilities", {}), (command, arguments)):
                    talk.write(json.dumps({"execute": word, "arguments": values}) + "\n")
                    talk.flush()
                    answer = json.loads(talk.readline())
                    while "event" in answer:
                        answer = json.loads(talk.readline())
        if "error" in answer:
            raise GuestError(f"QEMU refused {command}: {answer['error']}")
        return answer["return"]

    def unplug(self, name: str) -> None:
        """Pull a USB adapter (``gps`` or ``card``) out."""
        self.monitor("device_del", id=name)

    def plug(self, name: str) -> None:
        """Put a USB adapter back into its socket."""
        port = str(USB.index(name) + 1)
        self.monitor("device_add", driver="usb-serial", id=name, bus="usb.0", port=port, chardev=f"{name}-box")

    def console(self) -> str:
        """Return the end of what the guest said on its console."""
        return _tail(self.results / "console.log")

    def _command(self, disks: list[str]) -> list[str]:
        folder, made = self._folder, self.architecture
        kernel = ["-kernel", str(self.results / "vmlinuz"), "-initrd", str(self.results / "initrd.img")]
        command = [f"qemu-system-{made.machine}", "-M", made.board, *accelerator(made), "-smp", "2"]
        command += ["-m", str(MEMORY_MB), *kernel, "-append", f"{ARGUMENTS} {made.arguments}"]
        command += ["-nodefaults", "-no-user-config", "-display", "none", "-nic", "none", *disks]
        command += ["-qmp", f"unix:{folder}/monitor,server=on,wait=off"]
        command += ["-chardev", f"file,id=console,path={self.results / 'console.log'},append=on"]
        command += ["-device", f"{made.serial},chardev=console"]
        # Two null-modem cables: a port of the car's side, a USB adapter of the box's.
        command += ["-device", "qemu-xhci,id=usb"]
        for socket_number, name in enumerate(USB, start=1):
            command += ["-chardev", f"socket,id={name}-box,path={folder}/{name}-box"]
            command += ["-chardev", f"socket,id={name}-car,path={folder}/{name}-car"]
            command += ["-device", f"{made.serial},chardev={name}-car"]
            command += ["-device", f"usb-serial,id={name},bus=usb.0,port={socket_number},chardev={name}-box"]
        command += ["-object", "can-bus,id=bus"]
        command += ["-device", "kvaser_pci,canbus=bus", "-device", "kvaser_pci,canbus=bus"]
        command += ["-device", "i6300esb", "-action", "watchdog=poweroff"]
        command += ["-device", "virtio-serial", "-chardev", f"socket,id=agent,path={folder}/agent,server=on,wait=off"]
        command += ["-device", "virtserialport,chardev=agent,name=bench.agent"]
        return command

    def _connect(self) -> None:
        if self._socket is not None:
            return
        line = socket.socket(socket.AF_UNIX)
        try:
            line.settimeout(PROBE_S)
            line.connect(str(self._folder / "agent"))
        except OSError as error:
            line.close()
            raise GuestError(f"QEMU does not listen yet: {error}") from error
        self._socket, self._answers = line, line.makefile("rb")

    def _disconnect(self) -> None:
        for each in (self._answers, self._socket):
            if each is not None:
                with contextlib.suppress(OSError):
                    each.close()
        self._socket = self._answers = None


def _tail(file: Path, lines: int = 25) -> str:
    if not file.exists():
        return ""
    return "\n".join(file.read_text(errors="replace").splitlines()[-lines:])


def commands(script: str) -> Sequence[str]:
    """Return the words that run a shell script."""
    return ("/bin/sh", "-ec", script)


__all__ = ["BenchError", "GuestError", "Machine", "Said", "accelerator", "commands", "overlay"]
