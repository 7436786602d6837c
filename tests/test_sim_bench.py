"""The bench before it starts anything: whom it tells to install what."""

from __future__ import annotations

import os
import platform
import socket
import subprocess
from pathlib import Path

import pytest

from sim.bench import image, steps
from sim.bench.cable import Cable
from sim.bench.due import recent_change
from sim.bench.image import Image
from sim.bench.release import RELEASES
from sim.bench.steps import BenchError


@pytest.fixture
def pc(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    """A PC on which nothing was built yet."""
    monkeypatch.setattr(platform, "machine", lambda: "x86_64")
    monkeypatch.setattr(image, "BUILD", tmp_path)


@pytest.mark.parametrize(
    ("label", "packages"),
    [
        ("12", "dpkg e2fsprogs mmdebstrap xz-utils"),
        ("12-arm64", "arch-test binfmt-support dpkg e2fsprogs mmdebstrap qemu-user-static xz-utils"),
    ],
)
@pytest.mark.usefixtures("pc")
def test_what_is_missing_is_named_with_its_apt_line(monkeypatch: pytest.MonkeyPatch, label: str, packages: str) -> None:
    monkeypatch.setattr(steps, "find", lambda _: None)
    with pytest.raises(BenchError, match=f"sudo apt install {packages}$"):
        Image(RELEASES[label]).disk()


@pytest.mark.usefixtures("pc")
def test_a_kernel_that_cant_run_the_other_processors_programs_is_told_how(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    tester = tmp_path / "arch-test"
    tester.write_text("#!/bin/sh\nexit 1\n")
    tester.chmod(0o755)
    monkeypatch.setenv("PATH", str(tmp_path), prepend=":")
    monkeypatch.setattr(steps, "find", lambda program: program)
    with pytest.raises(BenchError, match=r"sudo update-binfmts --enable qemu-aarch64$"):
        Image(RELEASES["12-arm64"]).disk()


def test_a_command_that_takes_too_long_ends_with_its_children(tmp_path: Path) -> None:
    """Else mmdebstrap's go on, and what they have mounted stays."""
    script = f"trap 'wait; echo unmounted; exit 1' TERM; sleep 600 & echo $! > {tmp_path}/child; wait"
    with pytest.raises(BenchError, match=r"did not end within 2 s(.|\n)*unmounted"):
        steps.run(["sh", "-c", script], tmp_path / "log", timeout_s=2)
    assert not Path("/proc", (tmp_path / "child").read_text().strip()).exists()


def plug(path: Path) -> socket.socket:
    end = socket.socket(socket.AF_UNIX)
    end.connect(str(path))
    end.settimeout(5)
    return end


def test_a_cable_carries_on_however_quickly_its_plugs_change(tmp_path: Path) -> None:
    """A machine that is reset plugs in anew while its old plug is still being pulled out."""
    cable = Cable(tmp_path / "box", tmp_path / "car")
    try:
        car = plug(tmp_path / "car")
        for _ in range(300):
            box = plug(tmp_path / "box")
            with plug(tmp_path / "box") as newer:
                box.close()
                newer.sendall(b"lost or not")
        with plug(tmp_path / "box") as box:
            said = b""
            while b"heard" not in said:
                box.sendall(b"heard")
                said = said[-4:] + car.recv(4096)
        car.close()
    finally:
        cable.close()


DAY_S = 86_400
BEGUN_S = 1_790_000_000


def git(root: Path, *words: str, at_s: int = BEGUN_S) -> None:
    who = {f"GIT_{role}_{what}": "a" for role in ("AUTHOR", "COMMITTER") for what in ("NAME", "EMAIL")}
    when = {"GIT_AUTHOR_DATE": f"{at_s} +0000", "GIT_COMMITTER_DATE": f"{at_s} +0000"}
    subprocess.run(["git", *words], cwd=root, env=os.environ | who | when, check=True, capture_output=True)


def commit(root: Path, file: str, at_s: int) -> None:
    (root / file).write_text(f"{at_s}")
    git(root, "add", "-A", at_s=at_s)
    git(root, "commit", "-m", f"{file} changed", at_s=at_s)


def test_the_other_guest_is_due_for_a_day_after_what_guests_are_made_of_has_changed(tmp_path: Path) -> None:
    """A change counts from its merge, however long ago somebody wrote it."""
    assert recent_change(tmp_path) == "unknown: there is no history here"
    git(tmp_path, "init", "-b", "main")
    commit(tmp_path, "constraints.txt", BEGUN_S)
    commit(tmp_path, "README.md", BEGUN_S + DAY_S - 1)
    assert "constraints.txt changed" in str(recent_change(tmp_path))
    commit(tmp_path, "README.md", BEGUN_S + DAY_S)
    assert recent_change(tmp_path) is None
    git(tmp_path, "checkout", "-b", "branch")
    commit(tmp_path, "constraints.txt", BEGUN_S + DAY_S + 1)
    git(tmp_path, "checkout", "main")
    commit(tmp_path, "README.md", BEGUN_S + 9 * DAY_S)
    assert recent_change(tmp_path) is None
    git(tmp_path, "merge", "--no-ff", "-m", "merged", "branch", at_s=BEGUN_S + 9 * DAY_S + 1)
    assert "merged" in str(recent_change(tmp_path))
    commit(tmp_path, "README.md", BEGUN_S + 19 * DAY_S)
    assert recent_change(tmp_path) is None
    (tmp_path / "constraints.txt").write_text("another version")
    assert recent_change(tmp_path) == "what is not committed yet"
