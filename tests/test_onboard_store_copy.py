"""``amibox store copy``: with the daemon dead, alive, and against everything that can be in the way."""

from __future__ import annotations

import argparse
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest

from onboard import store_copy
from tests.store_rig import kill, open_store, put, shell, trip_ended


def arguments(*words: str | Path) -> argparse.Namespace:
    parser = argparse.ArgumentParser()
    store_copy.add_arguments(parser)
    return parser.parse_args([str(word) for word in words])


def test_a_dead_daemons_database_is_copied_whole_and_left_as_it_is(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    opened = open_store(tmp_path / "data")
    put(opened.store, opened.kept, *(trip_ended(number) for number in range(1, 41)))
    # A crash: the last steps are in the log only.
    kill(opened.store)
    before = {path.name: path.read_bytes() for path in (tmp_path / "data").iterdir()}
    copy = tmp_path / "copy.db"
    assert store_copy.run(arguments(copy, "--directory", tmp_path / "data")) == 0
    assert {path.name: path.read_bytes() for path in (tmp_path / "data").iterdir()} == before
    assert copy.stat().st_mode & 0o777 == 0o600
    assert shell(copy, "SELECT COUNT(*), MAX(seq) FROM events") == [(40, 40)]
    assert "sqlite-utils tables" in capsys.readouterr().out
    tables = subprocess.run(
        [sys.executable, "-m", "sqlite_utils", "rows", copy, "events", "--limit", "1"],
        capture_output=True,
        text=True,
        check=True,
    )
    assert '"kind": "trip_end"' in tables.stdout


def test_a_running_daemon_is_asked_to_make_the_copy(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    opened = open_store(tmp_path)
    put(opened.store, opened.kept, trip_ended(1))
    asked: list[dict[str, Any]] = []

    def daemon(request: dict[str, Any]) -> dict[str, Any]:
        asked.append(request)
        opened.store.copy(Path(request["destination"]))
        return {"written": request["destination"]}

    copy = tmp_path / "copy.db"
    assert store_copy.run(arguments(copy, "--directory", tmp_path), daemon) == 0
    assert asked == [{"command": "store_copy", "destination": str(copy)}]
    assert "by the running daemon" in capsys.readouterr().out
    assert shell(copy, "SELECT COUNT(*) FROM events") == [(1,)]
    # The store goes on.
    put(opened.store, opened.kept, trip_ended(2))
    opened.store.close()


def test_a_locked_database_without_a_daemon_to_ask_says_what_to_do(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    opened = open_store(tmp_path)
    assert store_copy.run(arguments(tmp_path / "copy.db", "--directory", tmp_path)) == 1
    assert "is in use" in capsys.readouterr().err
    assert not (tmp_path / "copy.db").exists()
    opened.store.close()


def test_what_the_daemon_refuses_is_passed_on(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    opened = open_store(tmp_path)
    arg = arguments(tmp_path / "copy.db", "--directory", tmp_path)
    assert store_copy.run(arg, lambda _: {"error": "Read-only file system"}) == 1
    assert "Read-only file system" in capsys.readouterr().err
    opened.store.close()


def test_an_existing_file_is_never_overwritten(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    opened = open_store(tmp_path)
    copy = tmp_path / "copy.db"
    copy.write_bytes(b"mine")
    with pytest.raises(FileExistsError):
        opened.store.copy(copy)
    opened.store.close()
    assert store_copy.run(arguments(copy, "--directory", tmp_path)) == 1
    assert "exists already" in capsys.readouterr().err
    assert copy.read_bytes() == b"mine"


def test_a_missing_database_names_the_option(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert store_copy.run(arguments(tmp_path / "copy.db", "--directory", tmp_path)) == 1
    assert "--directory" in capsys.readouterr().err


@pytest.mark.parametrize("data", [b"rubbish" * 900, b"\x00" * 8192])
def test_a_damaged_database_cannot_be_copied_and_leaves_no_half_copy(
    tmp_path: Path, capsys: pytest.CaptureFixture[str], data: bytes
) -> None:
    (tmp_path / "store.db").write_bytes(data)
    assert store_copy.run(arguments(tmp_path / "copy.db", "--directory", tmp_path)) == 1
    assert "cannot be copied" in capsys.readouterr().err
    assert not (tmp_path / "copy.db").exists()


def test_a_copy_is_a_store_that_opens(tmp_path: Path) -> None:
    opened = open_store(tmp_path / "data")
    kept = put(opened.store, opened.kept, trip_ended(1), trip_ended(2))
    (tmp_path / "other").mkdir()
    opened.store.copy(tmp_path / "other" / "store.db")
    opened.store.close()
    again = open_store(tmp_path / "other")
    assert (again.kept, again.replaced) == (kept, None)
    assert again.store.verify() is None
    again.store.close()
