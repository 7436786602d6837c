"""A virtual environment for another machine: made of wheels, without running that machine's programs."""

from __future__ import annotations

import hashlib
import json
import shutil
import subprocess
import sys
import tomllib
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Final

ROOT: Final = Path(__file__).parents[1]
BUILD: Final = ROOT / "build" / "deb"
KEPT: Final = 8
"""Older sets of wheels are removed beyond this many."""
LEFT_OUT: Final = frozenset({"pip", "setuptools", "tzdata"})
"""sqlite-utils wants pip for its plug-ins: the box has none, and nothing is to be installed beside the package. Time
zones are Debian's own (tzdata), and the box names none."""
LIBRARIES: Final = (
    *(f"manylinux_2_{minor}" for minor in (*range(36, 16, -1), 12, 5)),
    *("manylinux2014", "manylinux2010", "manylinux1", "linux"),
)
PIP: Final[tuple[str, ...]] = (sys.executable, "-m", "pip")
QUIET: Final = ("--quiet", "--disable-pip-version-check")
IN_TREE: Final = ("/usr/bin/env", "-i", "PATH=/usr/sbin:/usr/bin:/sbin:/bin", "PYPI=1")
"""PYPI=1: lgpio's build then brings its own C library, as its wheels do."""


class BuildError(Exception):
    """The package can't be made. The text says what happened and what to do."""


@dataclass(frozen=True, slots=True)
class Target:
    """A machine to build for: Debian's number, name and Python; the processor in Debian's word and in the kernel's."""

    number: int
    name: str
    python: str
    debian: str
    machine: str

    @property
    def label(self) -> str:
        """Its folder's name."""
        return f"{self.number}-{self.debian}"


RELEASES: Final[Mapping[str, tuple[str, str]]] = {"12": ("bookworm", "3.11"), "13": ("trixie", "3.13")}
MACHINES: Final[Mapping[str, str]] = {"amd64": "x86_64", "arm64": "aarch64"}


def target(release: str, architecture: str) -> Target:
    """Return the machine by Debian's number and word. BuildError if there is none."""
    if release not in RELEASES or architecture not in MACHINES:
        raise BuildError(f"RELEASE is one of {', '.join(RELEASES)}, ARCH one of {', '.join(MACHINES)}")
    name, python = RELEASES[release]
    return Target(int(release), name, python, architecture, MACHINES[architecture])


def requirements(*extras: str) -> list[str]:
    """Return what the project needs, with some of its extras."""
    project = tomllib.loads((ROOT / "pyproject.toml").read_text())["project"]
    wanted: list[str] = list(project["dependencies"])
    for extra in extras:
        wanted += project["optional-dependencies"][extra]
    return wanted


def fetch(machine: Target, wanted: Iterable[str]) -> list[Path]:
    """Return the wheels of ``wanted`` and of all that these want, in the versions of constraints.txt.

    They are kept until one of these changes. What has no wheel for the target is built (``_built``).
    """
    wanted = list(wanted)
    pins = ROOT / "constraints.txt"
    key = hashlib.sha256(json.dumps([machine.label, machine.python, wanted, pins.read_text()]).encode()).hexdigest()
    folder = BUILD / f"wheels-{machine.label}-{key[:16]}"
    if not folder.is_dir():
        unfinished = folder.with_suffix(".new")
        shutil.rmtree(unfinished, ignore_errors=True)
        unfinished.mkdir(parents=True)
        built = [each for each in wanted if machine.python == "3.13" and each.startswith("lgpio")]
        command: list[str | Path] = [*PIP, "download", *QUIET, "--dest", unfinished, "-c", pins, *_tags(machine)]
        _run([*command, *(each for each in wanted if each not in built)])
        for each in built:
            shutil.copy(_built(machine, each), unfinished)
        unfinished.rename(folder)
        for old in sorted(BUILD.glob("wheels-*"), key=lambda each: each.stat().st_mtime)[:-KEPT]:
            shutil.rmtree(old)
    return [each for each in sorted(folder.iterdir()) if each.name.partition("-")[0] not in LEFT_OUT]


def project(folder: Path) -> Path:
    """Build the project's own wheel in ``folder``; return it."""
    _run([*PIP, "wheel", *QUIET, "--no-deps", "--wheel-dir", folder, ROOT])
    (wheel,) = folder.glob("amibox-*.whl")
    return wheel


def make(machine: Target, tree: Path, place: str, wheels: Iterable[Path], commands: Iterable[str]) -> Path:
    """Make the environment ``/place`` in ``tree``, with some of the project's commands; return its site-packages."""
    venv = tree / place
    site = venv / "lib" / f"python{machine.python}" / "site-packages"
    (venv / "bin").mkdir(parents=True)
    install: list[str | Path] = [*PIP, "install", *QUIET, "--no-index", "--no-deps", "--no-compile", "--target", site]
    _run([*install, *_tags(machine), *wheels])
    # pip's notes of where a wheel came from, a folder of this machine; scripts, whose first lines name this machine's
    # Python. What a library says that it has put there is then what is there.
    for note in site.glob("*.dist-info/direct_url.json"):
        note.unlink()
    shutil.rmtree(site / "bin", ignore_errors=True)
    for record in site.glob("*.dist-info/RECORD"):
        lines = record.read_text().splitlines(keepends=True)
        record.write_text("".join(line for line in lines if (site / line.partition(",")[0]).exists()))
    (venv / "bin" / "python").symlink_to(f"/usr/bin/python{machine.python}")
    (venv / "bin" / "python3").symlink_to("python")
    (venv / "pyvenv.cfg").write_text(
        f"home = /usr/bin\ninclude-system-site-packages = false\nversion = {machine.python}\n"
    )
    for name in commands:
        module, _, function = scripts()[name].partition(":")
        script = venv / "bin" / name
        script.write_text(
            f"#!/{place}/bin/python\nimport sys\n\nfrom {module} import {function}\n\nsys.exit({function}())\n"
        )
        script.chmod(0o755)
    return site


def compiled(machine: Target, tree: Path, place: str) -> bool:
    """Compile ``/place`` in ``tree`` if this machine has the target's Python; tell whether it has."""
    if sys.version_info[:2] != tuple(map(int, machine.python.split("."))):
        return False
    # By hash and unchecked: the package has a date of its own. With the paths of the target.
    _run(
        [
            sys.executable,
            "-m",
            "compileall",
            "-q",
            "-j",
            "0",
            "--invalidation-mode",
            "unchecked-hash",
            "-s",
            str(tree),
            "-p",
            "/",
            tree / place,
        ]
    )
    return True


def scripts() -> Mapping[str, str]:
    """Return the project's commands: name -> what it runs."""
    found: dict[str, str] = tomllib.loads((ROOT / "pyproject.toml").read_text())["project"]["scripts"]
    return found


def _tags(machine: Target) -> list[str]:
    tags = ["--only-binary=:all:", "--python-version", machine.python, "--implementation", "cp", "--platform", "any"]
    for library in LIBRARIES:
        tags += ["--platform", f"{library}_{machine.machine}"]
    return tags


def _built(machine: Target, requirement: str) -> Path:
    """Build a wheel from its source where the target's compiler is: in a small tree of that Debian. Wants root."""
    kept = BUILD / f"built-{machine.label}" / requirement
    if not (found := sorted(kept.glob("*.whl"))):
        unfinished = kept.with_name("new")
        shutil.rmtree(unfinished, ignore_errors=True)
        unfinished.mkdir(parents=True)
        tree = unfinished / "tree"
        packages = "python3-dev,python3-pip,python3-setuptools,python3-wheel,swig,gcc,libc6-dev"
        _run(["mmdebstrap", "--quiet", "--variant=minbase", f"--architectures={machine.debian}",
              f"--include={packages}", machine.name, tree])  # fmt: skip
        source: list[str | Path] = [*PIP, "download", *QUIET, "--no-deps", "--no-build-isolation", "--no-binary=:all:"]
        _run([*source, "--dest", tree / "opt", requirement])
        (packed,) = (tree / "opt").glob("*.tar.gz")
        wheel = "python3 -m pip wheel --quiet --no-deps --no-index --no-build-isolation --wheel-dir /opt"
        _run(["chroot", tree, *IN_TREE, "sh", "-ec", f"cd /opt && {wheel} {packed.name}"])
        for each in (tree / "opt").glob("*.whl"):
            shutil.copy(each, unfinished)
        shutil.rmtree(tree)
        unfinished.rename(kept)
        found = sorted(kept.glob("*.whl"))
    return found[0]


def _run(command: Iterable[str | Path]) -> None:
    """Run a command. BuildError with the end of what it said if it fails."""
    words = [str(word) for word in command]
    try:
        done = subprocess.run(words, capture_output=True, text=True, check=False, stdin=subprocess.DEVNULL)  # noqa: S603 -- our own words
    except FileNotFoundError as error:
        raise BuildError(f"{words[0]} is missing. Do this, then try again: sudo apt install {words[0]}") from error
    if done.returncode != 0:
        said = "\n".join((done.stdout + done.stderr).splitlines()[-15:])
        raise BuildError(
            f"{' '.join(words[:6])} ... failed (code {done.returncode}); nothing half made is used:\n{said}"
        )


__all__ = [
    "BUILD", "MACHINES", "RELEASES", "ROOT", "BuildError", "Target",
    "compiled", "fetch", "make", "project", "requirements", "scripts", "target",
]  # fmt: skip
