"""The demo as a newcomer runs it: a rental from end to end, and nothing left however it ends."""

from __future__ import annotations

import os
import re
import shutil
import signal
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator
from pathlib import Path

import pytest

from sim.screen import Check, Screen
from sim.story import describe

WHOLE_S = 110
"""A whole story takes 40 s; a busy machine may take longer to begin it."""
GONE_S = 20.0


@pytest.fixture
def folder() -> Iterator[Path]:
    """Where a demo keeps its things: short, for a socket's path is short."""
    made = Path(tempfile.mkdtemp(prefix="t-"))
    yield made
    shutil.rmtree(made)


def start(folder: Path, *arguments: str) -> subprocess.Popen[str]:
    """Run ``amibox demo`` as a shell in a terminal would, but with its output in a pipe."""
    command = [sys.executable, "-m", "onboard", "demo", "--no-browser", "--fast", *arguments]
    environment = {**os.environ, "TMPDIR": str(folder), "PYTHONUNBUFFERED": "1"}
    return subprocess.Popen(
        command,
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        text=True,
        env=environment,
        start_new_session=True,
        cwd=Path(__file__).parent.parent,
    )


def processes_of(folder: Path) -> list[int]:
    """Return every process that was started with ``folder`` as its place for temporary files."""
    found = []
    for entry in Path("/proc").iterdir():
        if entry.name.isdigit() and int(entry.name) != os.getpid():
            try:
                if f"TMPDIR={folder}" in (entry / "environ").read_text():
                    found.append(int(entry.name))
            except OSError:
                continue  # ended meanwhile, or somebody else's
    return found


def read_until(demo: subprocess.Popen[str], words: str) -> str:
    """Read the demo's output up to the line with these words."""
    said = ""
    assert demo.stdout is not None
    for line in demo.stdout:
        said += line
        if words in line:
            return said
    raise AssertionError(f"never said {words!r}:\n{said}")


def assert_nothing_is_left(folder: Path) -> None:
    until_s = time.monotonic() + GONE_S
    while left := [*processes_of(folder), *folder.iterdir()]:
        assert time.monotonic() < until_s, f"left behind: {left}"
        time.sleep(0.1)


def test_one_rental_is_played_whole_and_everything_holds(folder: Path) -> None:
    demo = start(folder)
    try:
        said, _ = demo.communicate(timeout=WHOLE_S)
    finally:
        demo.kill()
    assert demo.returncode == 0, said
    order = [
        "somebody books a ride",
        "the signed and sealed booking list is here",
        "holds a card to the reader",
        "the door unlocks",
        "trip 1 has begun at Bazouges",
        "drives off",
        "the broker is stopped",
        "arrived in Hédé",
        "the door locks",
        "knows nothing of that: one trip, still under way",
        "the broker runs again",
        "trip 1 is over: 3600 m",
        "the car charges",
        "1 trip, 1 rental",
    ]
    places = [said.find(words) for words in order]
    # The first words of the car that charges are from before the trip.
    places[-2] = said.rfind(order[-2])
    assert -1 not in places, f"missing: {order[places.index(-1)]}\n{said}"
    assert places == sorted(places), said
    assert "✗" not in said
    assert len(re.findall("✓", said)) == 8
    assert "http://127.0.0.1:" in said
    assert_nothing_is_left(folder)


@pytest.mark.parametrize(
    "words", ["AmiBox", "keys of a commune", "each on its own", "See it happen", "the door unlocks"]
)
def test_ctrl_c_leaves_nothing_wherever_it_falls(folder: Path, words: str) -> None:
    demo = start(folder)
    try:
        read_until(demo, words)
        # As a terminal does: to the whole group, and twice, for impatience.
        os.killpg(demo.pid, signal.SIGINT)
        time.sleep(0.1)
        os.killpg(demo.pid, signal.SIGINT)
        said, _ = demo.communicate(timeout=GONE_S)
    finally:
        demo.kill()
    assert demo.returncode == 130, said
    assert "Nothing is left running" in said
    assert "Traceback" not in said
    assert_nothing_is_left(folder)


def test_an_interrupt_of_the_command_alone_ends_all_of_it(folder: Path) -> None:
    demo = start(folder)
    try:
        read_until(demo, "See it happen")
        demo.send_signal(signal.SIGINT)
        demo.communicate(timeout=GONE_S)
    finally:
        demo.kill()
    assert demo.returncode == 130
    assert_nothing_is_left(folder)


@pytest.mark.parametrize("words", ["each on its own", "the door unlocks"])
@pytest.mark.parametrize("victim", ["command", "director"])
def test_a_killed_demo_takes_everything_with_it(folder: Path, victim: str, words: str) -> None:
    demo = start(folder)
    try:
        read_until(demo, words)
        [director] = Path(f"/proc/{demo.pid}/task/{demo.pid}/children").read_text().split()
        os.kill(demo.pid if victim == "command" else int(director), signal.SIGKILL)
        assert_nothing_is_left(folder)
    finally:
        demo.kill()
        demo.communicate()


def test_a_port_that_is_taken_ends_the_demo_with_words(folder: Path) -> None:
    import socket  # noqa: PLC0415 -- one test's own

    with socket.socket() as taken:
        taken.bind(("127.0.0.1", 0))
        taken.listen()
        demo = start(folder, "--port", str(taken.getsockname()[1]))
        said, _ = demo.communicate(timeout=60)
    assert demo.returncode == 1
    assert "The demo cannot go on" in said
    assert "address already in use" in said
    assert_nothing_is_left(folder)


def test_a_check_that_fails_is_marked(capsys: pytest.CaptureFixture[str]) -> None:
    with Screen() as screen:
        screen.summary(
            [("watched", "1 s")], [Check("and once", "2 trips", holds=False), Check("late", "9 s", holds=True)]
        )
    said = capsys.readouterr().out
    assert re.search(r"✗ and once +2 trips", said)
    assert re.search(r"✓ late +9 s", said)


def test_rows_that_tell_a_newcomer_nothing_are_passed_over() -> None:
    assert describe({"kind": "track", "fields": {}}) is None
    alarm = {"kind": "alert", "fields": {"kind": "left_open", "rental": 1, "value": 0}}
    assert describe(alarm) == "alert: kind left_open, rental 1"
