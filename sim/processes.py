"""Child processes that never outlive the one that started them, however that one ends."""

from __future__ import annotations

import contextlib
import ctypes
import os
import shutil
import signal
import subprocess
import sys
import threading
import time
from collections.abc import Sequence
from pathlib import Path
from typing import Final

PR_SET_PDEATHSIG: Final = 1
"""prctl's "send me a signal when my parent dies", from linux/prctl.h."""

STOP_S: Final = 5.0
"""What has not ended this long after SIGTERM is killed."""
SWEEP_S: Final = 15.0


def die_with(parent: int) -> None:
    """Have this process get SIGTERM when process ``parent`` ends, and end now if it already has."""
    libc = ctypes.CDLL(None, use_errno=True)
    if libc.prctl(PR_SET_PDEATHSIG, signal.SIGTERM, 0, 0, 0) != 0:
        raise OSError(ctypes.get_errno(), "prctl PR_SET_PDEATHSIG")
    if os.getppid() != parent:
        raise SystemExit(143)


_interrupted = threading.Event()


def interrupt_once() -> None:
    """Turn the first SIGINT or SIGTERM into a KeyboardInterrupt and ignore the next: cleaning up needs its time.

    Python drops an exception that a signal raises inside a destructor: ``nap`` raises it once more.
    """
    signals = (signal.SIGINT, signal.SIGTERM)

    def interrupt(_number: int, _frame: object) -> None:
        for number in signals:
            signal.signal(number, signal.SIG_IGN)
        _interrupted.set()
        raise KeyboardInterrupt

    for number in signals:
        signal.signal(number, interrupt)


def nap(duration_s: float) -> None:
    """Sleep; KeyboardInterrupt if the interrupt came and was dropped."""
    time.sleep(duration_s)
    if _interrupted.is_set():
        raise KeyboardInterrupt


class Child:
    """``python -m sim COMMAND`` in a session of its own: the terminal's Ctrl-C reaches the director alone.

    What it prints goes to ``log``. To be started by the director's main thread: the kernel watches that one.
    """

    def __init__(self, name: str, arguments: Sequence[str], log: Path) -> None:
        self.name = name
        self._log = log
        command = [sys.executable, "-m", "sim", name, "--parent", str(os.getpid()), *arguments]
        with log.open("wb") as out:
            self._process = subprocess.Popen(  # noqa: S603 -- our own module, our own arguments
                command, stdin=subprocess.DEVNULL, stdout=out, stderr=subprocess.STDOUT, start_new_session=True
            )

    def check(self) -> None:
        """Raise RuntimeError with the end of what it printed if it has ended."""
        code = self._process.poll()
        if code is not None:
            said = self._log.read_text(errors="replace").strip().splitlines()[-8:]
            raise RuntimeError("\n".join([f"the {self.name} process ended with code {code}", *said]))

    def ask_to_stop(self) -> None:
        """Send SIGTERM."""
        with contextlib.suppress(ProcessLookupError):
            self._process.terminate()

    def wait(self) -> None:
        """Wait for its end, and make it end after ``STOP_S``."""
        try:
            self._process.wait(STOP_S)
        except subprocess.TimeoutExpired:
            self._process.kill()
            self._process.wait()


class Sweeper:
    """A process whose only work is to remove ``folder`` once the director is gone, even by SIGKILL."""

    def __init__(self, folder: Path) -> None:
        command = [sys.executable, "-m", "sim", "sweep", str(folder)]
        self._process = subprocess.Popen(  # noqa: S603 -- our own module, our own arguments
            command, stdin=subprocess.PIPE, stdout=subprocess.DEVNULL, start_new_session=True
        )

    def close(self) -> None:
        """Let it sweep; return when it is done."""
        if self._process.stdin is not None:
            self._process.stdin.close()
        self._process.wait()


def sweep(folder: Path) -> int:
    """Wait until standard input ends, which it does with the director, then remove ``folder``; return the exit code.

    The other processes may still be on their way out and writing: it tries until nothing comes back.
    """
    while sys.stdin.buffer.read(1):
        pass
    until_s = time.monotonic() + SWEEP_S
    while folder.exists() and time.monotonic() < until_s:
        shutil.rmtree(folder, ignore_errors=True)
        time.sleep(0.1)
    return 1 if folder.exists() else 0
