"""The base layer: Debian from packages, and a module for simulated pins from Debian's own kernel source."""

from __future__ import annotations

import re
import shutil
import subprocess
import tarfile
from pathlib import Path
from typing import Final

from sim.bench.release import GUEST_MODULES, INITRD_MODULES, KEYRING, MIRROR, PACKAGES, SECURITY, Release
from sim.bench.steps import BenchError, run, step

SOURCES: Final = ("drivers/gpio/gpio-sim.c", "kernel/irq/irq_sim.c")
UNEXPORTED: Final = re.compile(r"handle_simple_irq\(irq_to_desc\((\w+)\)\)")
"""The kernel does not export these to modules; what stands instead does the same."""
MAKEFILE: Final = "obj-m := gpio-sim.o\ngpio-sim-objs := main.o irq_sim.o\n"


def make(release: Release, tree: Path, log: Path) -> None:
    """Fill ``tree``. BenchError if a package can't be had."""
    architecture = release.architecture.debian
    packages = (*PACKAGES, f"linux-image-{architecture}", f"linux-headers-{architecture}")
    modules = (*INITRD_MODULES, *release.architecture.initrd_modules)
    early = (
        'mkdir -p "$1/etc/initramfs-tools/conf.d" "$1/usr/share/initramfs-tools/modules.d"; '
        'echo MODULES=list > "$1/etc/initramfs-tools/conf.d/bench"; '
        'echo COMPRESS=lz4 >> "$1/etc/initramfs-tools/conf.d/bench"; '
        f'echo {" ".join(modules)} | tr " " "\\n" > "$1/usr/share/initramfs-tools/modules.d/bench"'
    )
    with step(f"Debian {release.label} from packages"):
        run(
            [
                "mmdebstrap",
                "--quiet",
                "--variant=minbase",
                f"--architectures={architecture}",
                f"--include={','.join(packages)}",
                f"--keyring={KEYRING}",
                f"--essential-hook={early}",
                "--dpkgopt=path-exclude=/usr/share/man/*",
                "--dpkgopt=path-exclude=/usr/share/doc/*",
                "--skip=cleanup/apt/lists",
                release.name,
                tree,
                f"deb {MIRROR} {release.name} main",
                f"deb {MIRROR} {release.name}-updates main",
                f"deb {SECURITY} {release.name}-security main",
            ],
            log,
            timeout_s=3600,  # another processor: 6 min were measured, over 20 on a busy machine
        )
    with step("simulated pins built from the kernel's source"):
        _build_pins(release, tree, log)
    (tree / "etc/modules-load.d/bench.conf").write_text("\n".join(GUEST_MODULES) + "\n")
    for lists in (tree / "var/lib/apt/lists").glob("*_*"):
        lists.unlink()


def _build_pins(release: Release, tree: Path, log: Path) -> None:
    work = tree / "opt" / "gpio-sim"
    work.mkdir()
    try:
        # The tree's own apt, with this machine's way to the network.
        run(["chroot", tree, "sh", "-c", f"cd /opt/gpio-sim && apt-get download -q {release.kernel_source}"], log)
        package = next(work.glob("*.deb"))
        _unpack(package, work)
        (version,) = (each.name for each in (tree / "lib/modules").iterdir())
        (work / "Makefile").write_text(MAKEFILE)
        build = f"make -C /lib/modules/{version}/build M=/opt/gpio-sim"
        run(["chroot", tree, "sh", "-c", f"{build} modules && {build} modules_install && depmod {version}"], log)
    finally:
        shutil.rmtree(work)


def _unpack(package: Path, work: Path) -> None:
    """Take the few files out of the kernel's source package, and have irq_sim use what modules may use."""
    with subprocess.Popen(["dpkg-deb", "--fsys-tarfile", str(package)], stdout=subprocess.PIPE) as outer:  # noqa: S603, S607 -- a package that apt has checked
        if outer.stdout is None:
            raise BenchError("dpkg-deb gives no output")
        with tarfile.open(fileobj=outer.stdout, mode="r|") as packed:
            for member in packed:
                if member.name.endswith(".tar.xz"):
                    inner = packed.extractfile(member)
                    if inner is not None:
                        with (work / "source.tar.xz").open("wb") as out:
                            shutil.copyfileobj(inner, out)
    with tarfile.open(work / "source.tar.xz", mode="r|xz") as source:
        for member in source:
            name = member.name.partition("/")[2]
            wanted = name in SOURCES or (name.startswith("drivers/gpio/") and name.endswith(".h"))
            content = source.extractfile(member) if wanted else None
            if content is not None:
                target = "main.c" if name == SOURCES[0] else Path(name).name
                (work / target).write_bytes(content.read())
    irq = work / "irq_sim.c"
    # The kernel exports the one to modules and not the other.
    text = irq.read_text()
    found = UNEXPORTED.search(text)
    if found is None:
        raise BenchError("irq_sim.c of this kernel is another than the bench knows: correct sim/bench/debian.py")
    irq.write_text(UNEXPORTED.sub(r"generic_handle_irq_safe(\1)", text))
