"""What a person sees of a long piece of work: each step, while it runs and when it is done, with its seconds."""

from __future__ import annotations

import contextlib
import os
import shutil
import signal
import subprocess
import sys
import time
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from pathlib import Path
from threading import Event, Thread
from typing import Final

TICK_S: Final = 1.0
ANEW: Final = "\r\x1b[K"
"""On a terminal: the same line again, empty."""
_running: list[Event] = []
TAIL_LINES: Final = 15
GOODBYE_S: Final = 60.0


class BenchError(Exception):
    """The bench can't go on. The text says what happened and what to do."""


@contextmanager
def step(text: str) -> Iterator[None]:
    """Show one step with a running clock on a terminal, and its time when it is over."""
    begun_s = time.monotonic()
    over = Event()
    _running.append(over)

    def tick() -> None:
        while not over.wait(TICK_S):
            if _running[-1] is over:  # one line: the innermost step's
                sys.stderr.write(f"{ANEW}  ... {text} {time.monotonic() - begun_s:4.0f} s ")
                sys.stderr.flush()

    ticker = Thread(target=tick, name="clock of a step", daemon=True)
    if sys.stderr.isatty():
        ticker.start()
    mark = "FAILED"
    try:
        yield
        mark = "done"
    finally:
        over.set()
        if ticker.is_alive():
            ticker.join()
        _running.remove(over)
        start = ANEW if sys.stderr.isatty() else ""
        sys.stderr.write(f"{start}  {mark:>6} {text}: {time.monotonic() - begun_s:.1f} s\n")


def run(
    command: Sequence[str | Path],
    log: Path,
    *,
    timeout_s: float = 600.0,
    cwd: Path | None = None,
    env: Mapping[str, str] | None = None,
) -> None:
    """Run a command, what it says appended to ``log``. BenchError with the end of it if it fails or takes too long."""
    words = [str(word) for word in command]
    with log.open("ab") as out:
        out.write(f"\n$ {' '.join(words)}\n".encode())
        out.flush()
        with subprocess.Popen(  # noqa: S603 -- commands of this package
            words,
            stdin=subprocess.DEVNULL,
            stdout=out,
            stderr=subprocess.STDOUT,
            cwd=cwd,
            env=env,
            start_new_session=True,
        ) as process:
            try:
                code = process.wait(timeout_s)
            except subprocess.TimeoutExpired:
                code = -1
                _end(process)
            except BaseException:
                _end(process)
                raise
    if code != 0:
        tail = "\n".join(log.read_text(errors="replace").splitlines()[-TAIL_LINES:])
        why = f"did not end within {timeout_s:.0f} s" if code == -1 else f"failed (code {code})"
        raise BenchError(f"{words[0]} {why}; nothing half made is used. The end of {log}:\n{tail}")


def _end(process: subprocess.Popen[bytes]) -> None:
    """End a command with its children, and wait for it. By word first: mmdebstrap unmounts what it has mounted."""
    with contextlib.suppress(ProcessLookupError):
        os.killpg(process.pid, signal.SIGTERM)
        with contextlib.suppress(subprocess.TimeoutExpired):
            process.wait(GOODBYE_S)
        os.killpg(process.pid, signal.SIGKILL)
    process.wait()


def need(programs: Mapping[str, str]) -> None:
    """BenchError that names the apt line if a program (key) of a Debian package (value) is missing."""
    missing = {package for program, package in programs.items() if find(program) is None}
    if missing:
        raise BenchError(
            f"The bench needs more programs. Do this, then try again:\n  sudo apt install {' '.join(sorted(missing))}"
        )


def find(program: str) -> str | None:
    """Return the path of a program, also of those that Debian keeps from ordinary users' PATH."""
    return shutil.which(program) or shutil.which(program, path="/usr/sbin:/sbin")
