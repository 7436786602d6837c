"""Which version runs: the launcher's choice from what lies in the slots, and its timer, which ends what hangs."""

from __future__ import annotations

import hashlib
import json
import os
import signal
import subprocess
import sys
from dataclasses import replace
from pathlib import Path

import pytest

from cloud_sync.documents.update import version_number, version_text
from onboard import launch, slots
from onboard.slots import Choice, Slot, Slots, Trial, Verdict
from tests.conftest import ROOT
from tests.update_rig import BOOT, PACKAGE, bundle

GOOD, BEFORE = "0.2.0", "0.1.5"


def slot(folder: Path, name: str, version: str) -> Slot:
    """Fill a slot."""
    data = bundle(version)
    (folder / name).write_bytes(data)
    return Slot(name, hashlib.sha256(data).hexdigest(), f"id of {version}", version_number(version))


@pytest.fixture
def filled(tmp_path: Path) -> tuple[Path, Slots]:
    note = Slots(good=slot(tmp_path, "a", GOOD), before=slot(tmp_path, "b", BEFORE), floor=version_number(GOOD))
    slots.write(tmp_path, note)
    return tmp_path, note


def chosen(folder: Path, boot_id: str = BOOT, boot_s: float = 1000.0, package: int = PACKAGE) -> Choice:
    return slots.choose(folder, boot_id, boot_s, package)


def test_a_note_comes_back_as_it_was(tmp_path: Path) -> None:
    one = Slot("a", "0" * 64, "1" * 64, 2000)
    note = Slots(one, replace(one, name="b"), Trial(one, BOOT, 12.5, ("gps",)), 2000, "1", 2, Verdict("1", "é", True))
    slots.write(tmp_path, note)
    assert slots.read(tmp_path) == note
    assert [each.name for each in tmp_path.iterdir()] == ["state"]


def test_without_a_note_the_packages_own_code_runs(tmp_path: Path) -> None:
    assert chosen(tmp_path) == Choice(None)


def test_the_good_slot_runs(filled: tuple[Path, Slots]) -> None:
    folder, note = filled
    assert chosen(folder) == Choice(note.good)


def test_a_damaged_slot_gives_way_to_the_one_before_and_that_to_the_package(filled: tuple[Path, Slots]) -> None:
    folder, note = filled
    (folder / "a").write_bytes((folder / "a").read_bytes()[:-1])
    assert chosen(folder) == Choice(note.before, None, "slot a is damaged")
    (folder / "b").unlink()
    assert chosen(folder) == Choice(None, None, "slot a is damaged; slot b is damaged")


def test_a_newer_package_takes_the_place_of_older_slots(filled: tuple[Path, Slots]) -> None:
    folder, _ = filled
    assert chosen(folder, package=version_number(GOOD)).slot is None
    assert chosen(folder, package=version_number(GOOD) - 1).slot is not None


@pytest.mark.parametrize(
    "text",
    ["", "{", "[]", "null", "{}", "[" * 5000, '{"good": {"name": "../x"}}', "x" * (slots.STATE_BYTES_MAX + 1)],
)
def test_a_note_that_is_none_leaves_the_packages_own_code(tmp_path: Path, text: str) -> None:
    (tmp_path / "state").write_text(text)
    assert chosen(tmp_path) == Choice(None, None, "the note about the slots is damaged")


def test_a_slot_is_never_a_path_out_of_the_folder(filled: tuple[Path, Slots]) -> None:
    folder, _ = filled
    told = json.loads((folder / "state").read_text())
    told["good"]["name"] = "../a"
    (folder / "state").write_text(json.dumps(told))
    assert chosen(folder).slot is None


def test_a_trial_runs_in_its_boot_and_to_its_moment_and_never_after(filled: tuple[Path, Slots]) -> None:
    folder, note = filled
    tried = slot(folder, "b", "0.3.0")
    slots.write(folder, replace(note, trial=Trial(tried, BOOT, 1120.0)))
    assert chosen(folder, boot_s=1000.0) == Choice(tried, 120.0)
    assert chosen(folder, boot_s=1119.5) == Choice(tried, 0.5)
    assert chosen(folder, boot_s=1120.0) == Choice(note.good)
    assert chosen(folder, boot_id="boot-2", boot_s=10.0) == Choice(note.good)
    (folder / "b").write_bytes(b"")
    assert chosen(folder) == Choice(note.good, None, "slot b is damaged")


def test_the_launcher_and_documents_agree_on_a_versions_number(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("importlib.metadata.version", lambda _name: "1.22.333")
    assert launch.package_version() == version_number("1.22.333") == 1_022_333
    assert version_text(1_022_333) == "1.22.333"
    monkeypatch.setattr("importlib.metadata.version", lambda _name: "1.2.dev3")
    assert launch.package_version() == 0


def launched(folder: Path, *arguments: str) -> subprocess.CompletedProcess[str]:
    """Run the launcher without any library: ``-S`` leaves them out, its own room is found where it stands."""
    code = "import sys; from onboard import launch; sys.exit(launch.main(sys.argv[1:]))"
    return subprocess.run(
        [sys.executable, "-S", "-c", code, "--slots", str(folder), *arguments],
        cwd=ROOT,
        env={"PATH": os.environ["PATH"], "PYTHONPATH": "/nowhere"},
        capture_output=True,
        text=True,
        check=False,
        timeout=60,
    )


def test_the_launcher_needs_no_library_and_becomes_the_slots_code(filled: tuple[Path, Slots]) -> None:
    done = launched(filled[0], "run", "--config", "/etc/amibox/box.toml")
    assert (done.returncode, done.stdout) == (0, "0.2.0 run --config /etc/amibox/box.toml\n"), done.stderr


def test_a_version_on_trial_that_hangs_is_ended_by_the_timer(tmp_path: Path) -> None:
    import io  # noqa: PLC0415
    import zipfile  # noqa: PLC0415

    out = io.BytesIO()
    with zipfile.ZipFile(out, "w") as zipped:
        zipped.writestr("onboard/__init__.py", "")
        zipped.writestr("onboard/__main__.py", "while True: pass\n")
    (tmp_path / "a").write_bytes(out.getvalue())
    tried = Slot("a", hashlib.sha256(out.getvalue()).hexdigest(), "x", 3000)
    slots.write(tmp_path, Slots(trial=Trial(tried, launch.boot_id(), launch.boot_s() + 3.0)))
    done = launched(tmp_path, "run")
    assert done.returncode == -signal.SIGALRM
    assert done.stderr.startswith("amibox-run: on trial for ")


@pytest.mark.parametrize("arguments", [(), ("status",), ("--slots",), ("--help",)])
def test_the_launcher_starts_the_daemon_and_its_check_and_nothing_else(
    tmp_path: Path, arguments: tuple[str, ...]
) -> None:
    done = launched(tmp_path, *arguments)
    assert (done.returncode, done.stderr) == (2, launch.USAGE)


def test_a_box_takes_updates_only_where_the_launcher_told_both_folders(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    assert launch.folders() is None
    monkeypatch.setenv(launch.SLOTS, str(tmp_path))
    assert launch.folders() is None
    monkeypatch.setenv(launch.INBOX, str(tmp_path / "gone"))
    assert launch.folders() is None
    monkeypatch.setenv(launch.INBOX, str(tmp_path))
    assert launch.folders() == (tmp_path, tmp_path)
    monkeypatch.setenv(launch.SLOTS, str(tmp_path / "not yet"))
    assert launch.folders() == (tmp_path, tmp_path / "not yet"), "the updater makes it, and has not run yet"
