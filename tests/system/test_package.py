"""The box's package as it lies in ``dist/``: what dpkg reads in it, and what is inside, without installing it."""

from __future__ import annotations

import configparser
import hashlib
import re
import shutil
import subprocess
from pathlib import Path

import pytest

from deb.build import EXTRAS, VENV, build, documents, version
from deb.places import ADAPTED, PLACES, enabled, places, units
from deb.venv import BuildError, Target, fetch, make, requirements, target
from tests.conftest import ROOT

MACHINE = target("12", "amd64")
ELF = b"\x7fELF"
LIBRARIES = {"libc.so.6", "libm.so.6", "libpthread.so.0", "libdl.so.2", "ld-linux-x86-64.so.2", "libgcc_s.so.1"}
"""What libc6 and libgcc-s1 bring, which the package depends on."""
FOLDERS = ("etc/amibox/", "opt/amibox/", "usr/bin/", "usr/lib/", "usr/share/")


def run(*words: str | Path) -> str:
    done = subprocess.run([str(word) for word in words], capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stdout + done.stderr
    return done.stdout


@pytest.fixture(scope="module")
def package(tmp_path_factory: pytest.TempPathFactory) -> Path:
    (made,) = build(MACHINE, tmp_path_factory.mktemp("dist"), version(MACHINE))
    return made


@pytest.fixture(scope="module")
def tree(package: Path) -> Path:
    folder = package.parent / "tree"
    run("dpkg-deb", "--raw-extract", package, folder)
    return folder


def test_dpkg_reads_for_whom_it_is(package: Path) -> None:
    assert package.name == f"amibox_{version(MACHINE)}_amd64.deb"
    assert run("dpkg-deb", "--field", package, "Version", "Architecture").split() == [
        "Version:", version(MACHINE), "Architecture:", "amd64",
    ]  # fmt: skip
    needed = run("dpkg-deb", "--field", package, "Depends")
    assert {"python3.11", "bluez", "systemd"} <= {each.split()[0] for each in needed.split(",")}


def test_a_newer_debians_package_is_an_upgrade() -> None:
    newer = version(target("13", "amd64"))
    assert subprocess.run(["dpkg", "--compare-versions", newer, "gt", version(MACHINE)], check=False).returncode == 0


def test_every_file_is_roots_and_in_a_folder_of_a_package(package: Path) -> None:
    lines = [line.split(None, 5) for line in run("dpkg-deb", "--contents", package).splitlines()]
    assert {owner for _, owner, *_ in lines} == {"root/root"}
    assert not [name for mode, *_, name in lines if mode[5] == "w" or mode[8] == "w" if mode[0] != "l"]
    files = [name.removeprefix("./") for mode, *_, name in lines if mode[0] != "d"]
    assert not [name for name in files if not name.startswith(FOLDERS)]


def test_every_file_of_systemd_is_in_its_place(tree: Path) -> None:
    put = places(ROOT / "systemd")
    assert {each.source for each in put} == set((ROOT / "systemd").iterdir())
    for each in put:
        assert (tree / each.name).read_bytes() == each.source.read_bytes()
        assert (tree / each.name).stat().st_mode & 0o777 == each.mode
    for page in documents():
        assert (tree / "usr/share/doc/amibox" / page.relative_to(ROOT)).is_file()


def test_a_file_without_a_place_is_named(tmp_path: Path) -> None:
    (tmp_path / "amibox.slice").touch()
    with pytest.raises(ValueError, match=r"amibox\.slice: where does it go .* PLACES"):
        places(tmp_path)


def test_what_begins_at_boot_are_the_units_that_say_so(tree: Path) -> None:
    put = places(ROOT / "systemd")
    assert "amibox.service" in enabled(put)
    assert "amibox-restart.timer" not in enabled(put)
    assert {"amibox.service", "amibox-restart.timer"} <= set(units(put))
    assert not [name for name in units(put) if "@" in name]
    postinst = (tree / "DEBIAN/postinst").read_text()
    assert f"for unit in {' '.join(enabled(put))}; do" in postinst


def test_what_a_box_has_its_own_of_is_no_conffile(tree: Path) -> None:
    """A conffile that was changed has apt ask a person: nobody is there. Only what nobody changes is one."""
    conffiles = (tree / "DEBIAN/conffiles").read_text().split()
    assert conffiles == [f"/{place}" for place in PLACES.values() if place.startswith("etc/")]
    assert not set(conffiles) & set(ADAPTED.values())
    for source, place in ADAPTED.items():
        assert f"/{source} {place}\n" in (tree / "DEBIAN/postinst").read_text()


def test_the_sums_are_those_of_the_files(tree: Path) -> None:
    lines = [line.split("  ", 1) for line in (tree / "DEBIAN/md5sums").read_text().splitlines()]
    for total, name in lines:
        assert hashlib.md5((tree / name).read_bytes(), usedforsecurity=False).hexdigest() == total
    files = {str(each.relative_to(tree)) for each in tree.rglob("*") if each.is_file() and not each.is_symlink()}
    assert {name for _, name in lines} == {each for each in files if not each.startswith(("DEBIAN/", "etc/"))}


@pytest.mark.parametrize("name", ["postinst", "prerm", "postrm"])
def test_no_word_is_left_to_be_filled_in_the_scripts(tree: Path, name: str) -> None:
    script = tree / "DEBIAN" / name
    assert not re.findall(r"@[A-Z]+@", script.read_text())
    run("sh", "-n", script)
    assert script.stat().st_mode & 0o111


def test_nothing_tells_of_the_machine_that_built_it(tree: Path) -> None:
    assert not list(tree.rglob("direct_url.json"))
    words = (str(ROOT).encode(), b"amibox-deb-")
    assert not [each for each in tree.rglob("*") if each.is_file() and any(word in each.read_bytes() for word in words)]


def test_compiled_libraries_need_what_the_package_depends_on(tree: Path) -> None:
    readelf = shutil.which("readelf")
    assert readelf, "readelf is missing: sudo apt install binutils"
    compiled = [each for each in tree.rglob("*.so*") if each.read_bytes()[:4] == ELF]
    assert len(compiled) > 5
    own = {each.name for each in compiled}
    said = run(readelf, "--dynamic", *compiled)
    needed = set(re.findall(r"\(NEEDED\).*\[(.*)\]", said))
    assert needed <= LIBRARIES | own


def test_the_program_runs_from_where_it_lies(tree: Path, tmp_path: Path) -> None:
    """The environment is found by its own path; this machine's Python stands in where it is of that version."""
    site = tree / VENV / "lib" / "python3.11" / "site-packages"
    script = tree / VENV / "bin" / "amibox"
    assert script.read_text().startswith(f"#!/{VENV}/bin/python\n")
    python = shutil.which("python3.11")
    assert python, "python3.11 is missing: this test wants Debian 12"
    command = [
        python,
        "-I",
        "-S",
        "-c",
        f"import sys; sys.path.insert(0, {str(site)!r}); exec(open({str(script)!r}).read())",
    ]
    done = subprocess.run([*command, "--version"], capture_output=True, text=True, check=False, cwd=tmp_path)
    assert done.stdout.startswith("amibox "), done.stderr


def test_the_same_inputs_give_the_same_bytes(package: Path, tmp_path: Path) -> None:
    (again,) = build(MACHINE, tmp_path, version(MACHINE))
    assert hashlib.sha256(again.read_bytes()).digest() == hashlib.sha256(package.read_bytes()).digest()


@pytest.mark.parametrize(("release", "architecture"), [("11", "arm64"), ("12", "armhf")])
def test_a_machine_that_nobody_makes_packages_for_is_named(release: str, architecture: str) -> None:
    with pytest.raises(BuildError, match="RELEASE is one of 12, 13, ARCH one of amd64, arm64"):
        target(release, architecture)


def test_a_pi_gets_a_pis_libraries(tmp_path: Path) -> None:
    """For another processor, without running a program of that processor."""
    pi: Target = target("12", "arm64")
    make(pi, tmp_path, VENV, fetch(pi, requirements(*EXTRAS)), ["amibox"])
    compiled = [each for each in tmp_path.rglob("*.so*") if each.read_bytes()[:4] == ELF]
    machines = {int.from_bytes(each.read_bytes()[18:20], "little") for each in compiled}
    assert machines == {183}, "of ELF's machines, AArch64 alone"
    assert [each for each in compiled if each.name.startswith("_lgpio")]


@pytest.mark.parametrize("unit", [each.name for each in places(ROOT / "systemd") if each.source.suffix == ".service"])
def test_each_service_is_told_where_its_program_is(unit: str, tree: Path) -> None:
    """Whatever a unit runs of ours is in the package."""
    parser = configparser.ConfigParser(strict=False, interpolation=None)
    parser.optionxform = str  # type: ignore[assignment,method-assign]  # the documented way to keep capitals
    parser.read(tree / unit)
    for key in ("ExecCondition", "ExecStartPre", "ExecStart"):
        program = parser["Service"].get(key, "").lstrip("-+!@").split(" ")[0]
        assert not program.startswith("/opt/") or (tree / program.lstrip("/")).is_file(), f"{unit}: {program}"
