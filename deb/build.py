"""Assembles the package's tree and has dpkg-deb pack it. The same inputs give the same bytes."""

from __future__ import annotations

import gzip
import hashlib
import os
import shutil
import subprocess
import tempfile
import tomllib
from datetime import UTC, datetime
from email.utils import format_datetime
from pathlib import Path
from typing import Final

from deb import venv
from deb.places import Put, enabled, places, units, users
from deb.venv import ROOT, BuildError, Target

CONTROL: Final = Path(__file__).parent / "control"
SCRIPTS: Final = ("postinst", "prerm", "postrm")
DOCS: Final = "usr/share/doc/amibox"
NOT_FOR_A_BOX: Final = frozenset(
    {"bench", "decisions", "protocol", "reliability", "rig", "states", "verification", "walk"}
)
"""Pages of docs/ for whoever works on the project: not needed beside a car, and long."""
VENV: Final = "opt/amibox/.venv"
NOT_ON_A_BOX: Final = frozenset({"amibox-cloud"})
"""The commune's side is another machine's."""
COMPILE: Final = "/usr/bin/python{python} -m compileall -q -j 0 /{place}/lib"
CLEAN: Final = "find /opt/amibox -name __pycache__ -type d -prune -exec rm -rf {} +"
EXTRAS: Final = ("pi",)
"""What the box needs beyond the project's own needs: its pins."""


def version(machine: Target) -> str:
    """Return the package's: the project's, and for which Debian. A newer Debian's is an upgrade."""
    project = tomllib.loads((ROOT / "pyproject.toml").read_text())["project"]
    return f"{project['version']}+deb{machine.number}"


def build(machine: Target, folder: Path, *numbers: str) -> tuple[Path, ...]:
    """Make ``amibox_<version>_<architecture>.deb`` in ``folder``, one of each version; BuildError says what to do."""
    with tempfile.TemporaryDirectory(prefix="amibox-deb-") as name:
        wheels = [*venv.fetch(machine, venv.requirements(*EXTRAS)), venv.project(Path(name))]
        tree = Path(name) / "tree"
        tree.mkdir(mode=0o755)
        venv.make(machine, tree, VENV, wheels, sorted(venv.scripts().keys() - NOT_ON_A_BOX))
        compiled = venv.compiled(machine, tree, VENV)
        put = places(ROOT / "systemd")
        for each in put:
            _install(each, tree)
        command = tree / "usr/bin/amibox"
        command.parent.mkdir(parents=True)
        command.symlink_to("/opt/amibox/bin/amibox")
        _documents(tree)
        packages = []
        for number in numbers:
            _changelog(tree, number)
            _control(machine, tree, number, put, compiled=compiled)
            packages.append(_pack(tree, folder / f"amibox_{number}_{machine.debian}.deb"))
        return tuple(packages)


def _install(put: Put, tree: Path) -> None:
    file = tree / put.name
    file.parent.mkdir(parents=True, exist_ok=True)
    shutil.copyfile(put.source, file)
    file.chmod(put.mode)


def documents() -> tuple[Path, ...]:
    """Return what a technician reads without a network; links lead from one to the other as in the project."""
    found = [ROOT / "README.md", ROOT / "SECURITY.md", *sorted((ROOT / "docs").glob("*.md"))]
    found = [page for page in found if page.stem not in NOT_FOR_A_BOX]
    return tuple(found + sorted((ROOT / "hw").rglob("*.md")) + sorted((ROOT / "hw").glob("*.svg")))


def _documents(tree: Path) -> None:
    for page in documents():
        _install(Put(page, f"{DOCS}/{page.relative_to(ROOT)}"), tree)
    _install(Put(CONTROL / "copyright", f"{DOCS}/copyright"), tree)
    _install(Put(CONTROL / "lintian-overrides", "usr/share/lintian/overrides/amibox"), tree)


def _changelog(tree: Path, number: str) -> None:
    said = f"amibox ({number}) stable; urgency=medium\n\n  * See CHANGELOG.md of the project.\n\n"
    said += f" -- The AmiBox contributors <amibox@invalid.invalid>  {format_datetime(_date())}\n"
    (tree / DOCS / "changelog.gz").write_bytes(gzip.compress(said.encode(), 9, mtime=0))


def _control(machine: Target, tree: Path, number: str, put: tuple[Put, ...], *, compiled: bool) -> None:
    control = tree / "DEBIAN"
    shutil.rmtree(control, ignore_errors=True)
    control.mkdir()
    files = sorted(each for each in tree.rglob("*") if each.is_file() and not each.is_symlink())
    words = {
        "@VERSION@": number,
        "@ARCHITECTURE@": machine.debian,
        "@SIZE_KB@": str(sum(each.stat().st_size for each in files) // 1024),
        "@PYTHON@": machine.python,
        "@ENABLED@": " ".join(enabled(put)),
        "@UNITS@": " ".join(units(put)),
        "@USERS@": " ".join(users(put)),
        "@COMPILE@": ":" if compiled else COMPILE.format(python=machine.python, place=VENV),
        "@CLEAN@": ":" if compiled else CLEAN,
    }
    for name in ("control", *SCRIPTS):
        text = (CONTROL / name).read_text()
        for word, value in words.items():
            text = text.replace(word, value)
        (control / name).write_text(text)
        (control / name).chmod(0o644 if name == "control" else 0o755)
    kept = [f"/{each.relative_to(tree)}\n" for each in files if each.is_relative_to(tree / "etc")]
    (control / "conffiles").write_text("".join(kept))
    sums = [
        f"{hashlib.md5(each.read_bytes(), usedforsecurity=False).hexdigest()}  {each.relative_to(tree)}\n"
        for each in files
        if not each.is_relative_to(tree / "etc")
    ]
    (control / "md5sums").write_text("".join(sums))


def _pack(tree: Path, package: Path) -> Path:
    for folder in (tree, *(each for each in tree.rglob("*") if each.is_dir() and not each.is_symlink())):
        folder.chmod(0o755)
    package.parent.mkdir(parents=True, exist_ok=True)
    unfinished = package.with_suffix(".new")
    command = ["dpkg-deb", "--root-owner-group", "-Zxz", "-z1", "--build", str(tree), str(unfinished)]
    environment = os.environ | {"SOURCE_DATE_EPOCH": str(int(_date().timestamp()))}
    done = subprocess.run(command, env=environment, capture_output=True, text=True, check=False)  # noqa: S603 -- our own words
    if done.returncode != 0:
        raise BuildError(f"dpkg-deb failed; nothing half made is used:\n{done.stderr}")
    return unfinished.rename(package)


def _date() -> datetime:
    """Return the release's, which every file of the package gets: a build tomorrow gives the same bytes."""
    for line in (ROOT / "CHANGELOG.md").read_text().splitlines():
        if line.startswith("## [") and " - " in line:
            return datetime.fromisoformat(line.rpartition(" - ")[2]).replace(tzinfo=UTC)
    raise BuildError("CHANGELOG.md names no release with its date")
