"""Builds the guest's disk in three layers, each kept until what it is made of changes.

``base``: Debian's packages and the simulated pins (a minute or two). ``venv``: what is not the box (the played car, the
commune) in ``/opt/bench/.venv``. ``disk``: the box's package, installed, as one ext4 image.
A layer's folder is named by a hash of its inputs, and appears only when it is whole.
"""

from __future__ import annotations

import fcntl
import hashlib
import os
import platform
import shutil
import subprocess
from collections.abc import Callable, Iterable
from pathlib import Path
from typing import Final

from deb.build import EXTRAS
from deb.venv import BuildError, Target, requirements, target
from sim.bench import steps
from sim.bench.release import Release
from sim.bench.steps import BenchError, run, step

ROOT: Final = Path(__file__).parents[2]
BUILD: Final = ROOT / "build" / "bench"
KEPT: Final = 2
"""Older layers of a kind are removed beyond this many."""
DISK_SIZE: Final = "4G"
"""Sparse: what is not written takes no room. A power of two: a Pi's card has to be."""
WORLD_SIZE: Final = "128M"
DEVICE_TREE: Final = "broadcom/bcm2837-rpi-3-b.dtb"
"""A Pi 3's, in the kernel's package for arm64."""

TOOLS: Final = {
    "mmdebstrap": "mmdebstrap",
    "mke2fs": "e2fsprogs",
    "dpkg-deb": "dpkg",
    "xz": "xz-utils",
}


class Image:
    """The layers of one release. ``disk`` returns the folder with ``disk.img``, ``vmlinuz`` and ``initrd.img``."""

    def __init__(self, which: Release) -> None:
        self.release = which
        self.folder = BUILD / f"debian-{which.label}"
        self.log = self.folder / "build.log"

    def disk(self) -> Path:
        """Build what is not there yet. BenchError that says what to do where that can't be."""
        self.folder.mkdir(parents=True, exist_ok=True)
        base_key = _digest([repr(self.release), *_texts(Path(__file__).parent, "release.py", "debian.py")])
        steps_of = [*_texts(Path(__file__).parent, "image.py", "install.py"), *_texts(ROOT / "deb", "venv.py")]
        wanted = requirements(*EXTRAS, "cloud", "bench")
        venv_key = _digest([base_key, (ROOT / "constraints.txt").read_text(), *wanted, *steps_of])
        key = _digest([venv_key, *_project()])
        done = self.folder / f"disk-{key}"
        if done.is_dir():
            return done
        self._need()
        if os.geteuid() != 0:
            raise BenchError(
                "Making the guest's disk needs root (owners of files, chroot):\n"
                f"  sudo make bench-image RELEASE={self.release.label}"
            )
        with (self.folder / "lock").open("wb") as lock:
            fcntl.flock(lock, fcntl.LOCK_EX)  # another run may be building the same
            self.log.write_bytes(b"")
            base = self._layer("base", base_key, self._make_base)
            venv = self._layer("venv", venv_key, lambda tree: self._make_venv(base, tree))
            made = self._layer("disk", key, lambda folder: self._make_disk(venv, folder))
        if "SUDO_UID" in os.environ:
            # Who asked for this goes on as himself, and has his results beside it.
            for folder in (BUILD.parent, BUILD, self.folder, made):
                os.chown(folder, int(os.environ["SUDO_UID"]), int(os.environ["SUDO_GID"]))
        return made

    def _need(self) -> None:
        """BenchError if a program is missing, or the kernel can't run the guest's programs while they are installed."""
        wanted = self.release.architecture
        if wanted.machine == platform.machine():
            steps.need(TOOLS)
            return
        emulator = {f"qemu-{wanted.machine}-static": "qemu-user-static", "update-binfmts": "binfmt-support"}
        steps.need({**TOOLS, **emulator, "arch-test": "arch-test"})
        if subprocess.run(["arch-test", wanted.debian], capture_output=True, check=False).returncode != 0:  # noqa: S603, S607 -- our own words
            raise BenchError(
                f"The kernel does not yet give {wanted.debian}'s programs to qemu-user. Do this, then try again:\n"
                f"  sudo update-binfmts --enable qemu-{wanted.machine}"
            )

    def _target(self) -> Target:
        return target(str(self.release.number), self.release.architecture.debian)

    def _layer(self, kind: str, key: str, make: Callable[[Path], None]) -> Path:
        done = self.folder / f"{kind}-{key}"
        if done.is_dir():
            return done
        unfinished = self.folder / f"{kind}.new"
        _remove(unfinished)
        unfinished.mkdir()
        try:
            make(unfinished)
        except BaseException as error:
            _remove(unfinished)
            if isinstance(error, BuildError):
                raise BenchError(str(error)) from error
            raise
        unfinished.rename(done)
        layers = sorted(self.folder.glob(f"{kind}-*"), key=lambda each: each.stat().st_ctime, reverse=True)
        for old in layers[KEPT:]:
            _remove(old)
        return done

    def _make_base(self, tree: Path) -> None:
        from sim.bench import debian  # noqa: PLC0415 -- only a build needs it

        debian.make(self.release, tree, self.log)

    def _make_venv(self, base: Path, tree: Path) -> None:
        from sim.bench import install  # noqa: PLC0415 -- only a build needs it

        _copy(base, tree, self.log)
        with step("libraries fetched"):
            install.venv(tree, self._target())

    def _make_disk(self, venv: Path, folder: Path) -> None:
        from sim.bench import install  # noqa: PLC0415 -- only a build needs it

        tree = folder / "tree"
        tree.mkdir()
        with step("the box's package made and installed"):
            _copy(venv, tree, self.log)
            install.project(tree, folder / "packages", self._target(), ROOT, self.log)
            _remove(folder / "packages")
        with step("disk made"):
            shutil.copy(next(tree.glob("boot/vmlinuz-*")), folder / "vmlinuz")
            shutil.copy(next(tree.glob("boot/initrd.img-*")), folder / "initrd.img")
            for described in tree.glob(f"usr/lib/linux-image-*/{DEVICE_TREE}"):
                shutil.copy(described, folder)
            disk = folder / "disk.img"
            mke2fs = steps.find("mke2fs") or "mke2fs"
            run([mke2fs, "-q", "-t", "ext4", "-L", "amibox", "-d", tree, disk, DISK_SIZE], self.log)
            _remove(tree)
            # What is not the box: the car's memory, the commune's database. A file system of its own, so that syncing
            # them never syncs the box's.
            run([mke2fs, "-q", "-t", "ext4", "-L", "world", folder / "world.img", WORLD_SIZE], self.log)


def _project() -> Iterable[str]:
    """Return every file that the package is made of, with its name; guests are made without documentation."""
    files = [ROOT / "pyproject.toml", *(each for each in sorted((ROOT / "systemd").iterdir()) if each.suffix != ".md")]
    for package in ("deb", "onboard", "hw", "cloud_sync", "sim"):
        files += sorted(each for each in (ROOT / package).rglob("*") if each.is_file())
    for file in files:
        if "__pycache__" not in file.parts:
            yield f"{file.relative_to(ROOT)}\n{hashlib.sha256(file.read_bytes()).hexdigest()}"


def _texts(folder: Path, *names: str) -> list[str]:
    return [(folder / name).read_text() for name in names]


def _digest(parts: Iterable[str]) -> str:
    return hashlib.sha256("\0".join(parts).encode()).hexdigest()[:16]


def _copy(source: Path, target: Path, log: Path) -> None:
    run(["cp", "-a", "--reflink=auto", f"{source}/.", target], log)


def _remove(path: Path) -> None:
    """Remove a tree. Never one in which something is still mounted: that could be this machine's own."""
    if not path.exists():
        return
    mounts = Path("/proc/self/mounts").read_text().split()
    if any(word.startswith(f"{path}/") for word in mounts):
        raise BenchError(f"Something is mounted below {path}: umount it, then try again")
    subprocess.run(["rm", "-rf", "--one-file-system", "--", str(path)], check=True)  # noqa: S603, S607 -- our own folder
