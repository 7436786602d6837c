"""``amibox virtual-reader``, as somebody uses it who tries the desk's commands without a reader."""

from __future__ import annotations

import argparse
import signal
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import IO

import pytest

from hw import desk


class VirtualReader:
    """The command, running."""

    def __init__(self, *words: str) -> None:
        self._process = subprocess.Popen(
            [sys.executable, "-m", "sim", "virtual-reader", *words],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            stderr=subprocess.DEVNULL,
            text=True,
        )
        self.port = self.line()
        self.told = self.line()

    def line(self) -> str:
        return _pipe(self._process.stdout).readline().strip()

    def say(self, word: str) -> str:
        pipe = _pipe(self._process.stdin)
        pipe.write(word + "\n")
        pipe.flush()
        return self.line()

    def end(self) -> None:
        self._process.send_signal(signal.SIGINT)
        self._process.communicate(timeout=20)


def _pipe(pipe: IO[str] | None) -> IO[str]:
    assert pipe is not None
    return pipe


@pytest.fixture
def memory(tmp_path: Path) -> Path:
    return tmp_path / "card.json"


@pytest.fixture
def reader(memory: Path) -> Iterator[VirtualReader]:
    made = VirtualReader("--keep", str(memory))
    yield made
    made.end()


def read(port: str) -> int:
    parser = argparse.ArgumentParser()
    desk.add_arguments(parser)
    return desk.run(parser.parse_args(["read", "--reader", port, "--wait-s", "0.5", "--cloud", "http://127.0.0.1:9"]))


def test_a_card_can_be_taken_away_laid_back_and_joined_by_another(
    reader: VirtualReader, capsys: pytest.CaptureFixture[str]
) -> None:
    number = reader.told.split()[3]
    assert read(reader.port) == 0
    said = capsys.readouterr().out
    assert f"number   {number}\n" in said
    assert "the endpoint can't be asked now" in said
    assert reader.say("away") == "done"
    assert read(reader.port) == 1
    assert "no card came" in capsys.readouterr().err
    assert reader.say("back") == "done"
    assert reader.say("second") == "done"
    assert read(reader.port) == 1
    assert "one at a time" in capsys.readouterr().err
    assert reader.say("nonsense") == "nonsense: away, back or second"


def test_a_card_is_gone_on_with_another_time(reader: VirtualReader, memory: Path) -> None:
    number = reader.told.split()[3]
    reader.end()
    again = VirtualReader("--keep", str(memory))
    try:
        assert again.told.split()[3] == number
    finally:
        again.end()


@pytest.mark.parametrize(
    ("words", "why"),
    [
        (["--uid", "04"], "4, 7 or 10 bytes"),
        (["--uid", "ZZ"], "hexadecimal digits"),
        (["--keep", "/nowhere/card.json"], "no such folder"),
    ],
)
def test_a_card_that_cannot_be_is_refused_at_the_start(words: list[str], why: str) -> None:
    command = [sys.executable, "-m", "sim", "virtual-reader", *words]
    ended = subprocess.run(command, stdin=subprocess.DEVNULL, capture_output=True, text=True, timeout=30, check=False)
    assert ended.returncode == 2
    assert why in ended.stderr
    assert "Traceback" not in ended.stderr


@pytest.mark.parametrize(
    ("words", "why"),
    [
        (["return", "0"], "as printed on it"),
        (["revoke", "-1"], "as printed on it"),
        (["return", "2147483648"], "as printed on it"),
        (["return", "9" * 5000], "as printed on it"),
        (["block", "1", "--code", "1234 567"], "eight digits"),
        (["lend", "1", "--to", " "], "a name is wanted"),
        (["lend", "1", "--to", "a" * 81], "at most 80"),
        (["lend", "1", "--to", "a\nb"], "on one line"),
        (["read", "--wait-s", "nan"], "0 to 600 seconds"),
        (["read", "--wait-s", "1e9"], "0 to 600 seconds"),
    ],
)
def test_what_nobody_can_mean_is_refused_in_words(
    capsys: pytest.CaptureFixture[str], words: list[str], why: str
) -> None:
    parser = argparse.ArgumentParser()
    desk.add_arguments(parser)
    with pytest.raises(SystemExit) as left:
        parser.parse_args(words)
    assert left.value.code == 2
    assert why in capsys.readouterr().err
