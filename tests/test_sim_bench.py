"""The bench before it starts anything: whom it tells to install what."""

from __future__ import annotations

import platform
from pathlib import Path

import pytest

from sim.bench import image, steps
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
