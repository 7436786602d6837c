"""The guest's disks: the box's own with a cache that a power cut empties, and one for what is not the box.

A real card has a cache of its own, and keeps over a power cut only what it was told to keep. QEMU killed alone keeps
every write that left the guest, so nbdkit stands between: it holds writes back until the guest asks for a flush, and
dies with the machine. It loses *all* that was not flushed, never a part of it.
"""

from __future__ import annotations

import os
import subprocess
import time
from pathlib import Path
from typing import Final

from sim.bench.steps import BenchError
from sim.processes import die_with

COPIED: Final = ("disk.img", "world.img", "vmlinuz", "initrd.img")
"""Another build may remove the image while a guest still has boots before it."""
START_S: Final = 20.0
TOOLS: Final = {"nbdkit": "nbdkit"}


class Disks:
    """Copies in ``folder`` of what ``image`` holds: ``disk.img`` (the box), ``world.img`` (car, commune), the kernel.

    They stay over ``cut`` and ``start``, until ``close``. ``sockets`` is a folder with a short path. BenchError if
    nbdkit does not serve.
    """

    def __init__(self, image: Path, sockets: Path, folder: Path) -> None:
        self._image = image
        self._folder = folder
        self._log = folder / "nbdkit.log"
        self._socket = sockets / "disk.socket"
        self._process: subprocess.Popen[bytes] | None = None

    def start(self) -> None:
        """Serve the box's disk."""
        for name in COPIED:
            if not (self._folder / name).exists():
                subprocess.run(["cp", "--sparse=always", self._image / name, self._folder / name], check=True)  # noqa: S603, S607 -- our own files
        self._socket.unlink(missing_ok=True)
        parent = os.getpid()
        with self._log.open("ab") as log:
            self._process = subprocess.Popen(  # noqa: S603 -- our own words
                [  # noqa: S607 -- found by ``need``
                    "nbdkit",
                    "--foreground",
                    "--unix",
                    str(self._socket),
                    "--filter=cache",
                    "file",
                    str(self._folder / "disk.img"),
                    "cache=writeback",
                ],
                env=os.environ | {"TMPDIR": str(self._folder)},
                stdin=subprocess.DEVNULL,
                stdout=log,
                stderr=log,
                preexec_fn=lambda: die_with(parent),  # noqa: PLW1509 -- no thread of ours holds a lock over it
            )
        until_s = time.monotonic() + START_S
        while not self._socket.exists():
            if self._process.poll() is not None or time.monotonic() > until_s:
                self.cut()
                raise BenchError(f"nbdkit does not serve the guest's disk: see {self._log}")
            time.sleep(0.02)

    def arguments(self) -> list[str]:
        """Return QEMU's arguments for both disks."""
        return [
            *("-drive", f"file=nbd+unix:///?socket={self._socket},if=virtio,format=raw,cache=writeback"),
            *("-drive", f"file={self._folder / 'world.img'},if=virtio,format=raw,cache=writeback"),
        ]

    def close(self) -> None:
        """Cut the power for good; the copies are gone."""
        self.cut()
        for name in COPIED:
            (self._folder / name).unlink(missing_ok=True)

    def cut(self) -> None:
        """Cut the power: what was not flushed is gone."""
        process, self._process = self._process, None
        if process is not None:
            process.kill()
            process.wait()
