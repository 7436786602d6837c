"""A technician at the console: a real console on a real pty, beside a real daemon that can be stopped and killed."""

from __future__ import annotations

import contextlib
import os
import select
import signal
import subprocess
import sys
import threading
import time
import tty
from collections.abc import Iterator
from pathlib import Path

from cloud_sync.documents import BoxAnswer, Technician, decode_box_request, encode_box_answer, encode_key_set
from cloud_sync.provisioning import make_keys, pin_digest, take_answer
from tests.document_rig import CAR, CLOUD, KEYS, ROOT, ROOTS
from tests.phone_rig import CONFIG

LIMIT_S = 30.0
PIN = "20481024"
SALT = b"salt" * 4
MARIE = Technician("marie", SALT, pin_digest(PIN, SALT))
PROMPT = f"amibox {CAR}> "
LOGIN = "amibox login: "


def furnish(folder: Path, *, technicians: tuple[Technician, ...] = (MARIE,), car: bool = True) -> Path:
    """Write a box's files; return its configuration."""
    file = folder / "box.toml"
    file.write_text(CONFIG.format(dir=folder))
    (folder / "data").mkdir(exist_ok=True)
    if car:
        request = decode_box_request(make_keys(folder).request)
        keys = encode_key_set(KEYS, ROOT)
        answer = BoxAnswer(CAR, request.digest, 1000, ROOTS, keys, bytes(32), 0, technicians)
        take_answer(folder, encode_box_answer(answer, CLOUD, request.agreement_public), lambda _answer: True)
    return file


class Terminal:
    """A terminal on the console's line. ``until`` returns all that came up to a text, ``said`` keeps everything."""

    def __init__(self, master: int) -> None:
        self.said = ""
        self._master = master
        self._rest = ""

    def type(self, text: str) -> None:
        """Press keys."""
        os.write(self._master, text.encode())

    def send(self, line: str) -> None:
        """Type a line and Enter."""
        self.type(line + "\r")

    def until(self, text: str) -> str:
        """Wait for a text. AssertionError with what came instead."""
        heard, until_s = self._rest, time.monotonic() + LIMIT_S
        while text not in heard:
            assert time.monotonic() < until_s, f"{text!r} never came: {heard!r}"
            if select.select([self._master], [], [], 0.2)[0]:
                heard += os.read(self._master, 4096).decode()
        end = heard.index(text) + len(text)
        heard, self._rest = heard[:end], heard[end:]
        self.said += heard
        return heard

    def log_in(self) -> None:
        """Log in as Marie, in English."""
        self.send("")
        self.until(LOGIN)
        self.send("en")
        self.until(LOGIN)
        self.send("marie")
        self.until("PIN: ")
        self.send(PIN)
        self.until(PROMPT)

    def ask(self, line: str, prompt: str = PROMPT) -> str:
        """Type a command; return what was said up to the next prompt."""
        self.send(line)
        self.until("\n")
        return self.until(prompt)


@contextlib.contextmanager
def console(config: Path) -> Iterator[Terminal]:
    """Run a console of its own process on a pty."""
    master, slave = os.openpty()
    tty.setraw(slave)
    try:
        with console_at(os.ttyname(slave), config):
            yield Terminal(master)
    finally:
        os.close(slave)
        os.close(master)


@contextlib.contextmanager
def console_at(port: str, config: Path) -> Iterator[None]:
    """Run a console of its own process on this port."""
    command = [sys.executable, "-m", "onboard.__main__", "console", "--tty", port, "--config", str(config)]
    with subprocess.Popen(command, stderr=subprocess.DEVNULL) as process:
        try:
            yield
        finally:
            process.kill()


@contextlib.contextmanager
def cable() -> Iterator[tuple[str, str]]:
    """Lay a serial cable between two ports; give their names."""
    ends = [os.openpty() for _ in range(2)]
    for _, slave in ends:
        tty.setraw(slave)
    over = threading.Event()

    def carry() -> None:
        masters = [master for master, _ in ends]
        while not over.is_set():
            for master in select.select(masters, [], [], 0.1)[0]:
                os.write(masters[1 - masters.index(master)], os.read(master, 4096))

    carrier = threading.Thread(target=carry)
    carrier.start()
    try:
        yield os.ttyname(ends[0][1]), os.ttyname(ends[1][1])
    finally:
        over.set()
        carrier.join()
        for end in ends:
            os.close(end[0])
            os.close(end[1])


@contextlib.contextmanager
def daemon(config: Path) -> Iterator[subprocess.Popen[bytes]]:
    """Run a daemon until it answers."""
    (config.parent / "box.sock").unlink(missing_ok=True)
    command = [sys.executable, "-m", "onboard.__main__", "run", "--config", str(config)]
    environment = {name: value for name, value in os.environ.items() if name != "NOTIFY_SOCKET"}
    with subprocess.Popen(command, stderr=subprocess.DEVNULL, env=environment) as process:
        try:
            until_s = time.monotonic() + LIMIT_S
            while not (config.parent / "box.sock").exists():
                assert process.poll() is None
                assert time.monotonic() < until_s
                time.sleep(0.05)
            yield process
        finally:
            process.send_signal(signal.SIGCONT)
            process.kill()
