"""The bench's hand in the guest: runs commands that come over a virtio port and returns what they said.

Stands alone: the guest's own Python runs this file as a service. One JSON object on a line each way. A request has
``id`` and ``argv``, and may have ``stdin`` (base64) and ``timeout_s``; the answer has ``id``, ``code`` (-1: out of
time) and ``out`` (base64, standard output and error together). With the argument ``once`` it answers a single line of
its standard input: so ``sim.hand`` runs it on a box with wires.

One word is its own: ``ask WHERE`` connects to a socket (a path, or ``host:port``), says what comes on the standard
input, and returns one line of a path's answer, all of a host's. Tests ask some thousand times; a program for each would
take the emulated machine's whole time.
"""

from __future__ import annotations

import base64
import contextlib
import json
import os
import signal
import socket
import subprocess
import sys
import tempfile
from pathlib import Path
from typing import Any, Final

PORT: Final = Path("/dev/virtio-ports/bench.agent")
LINE_MAX: Final = 8 * 1024 * 1024
OUT_MAX: Final = 2 * 1024 * 1024
TIMEOUT_S: Final = 60.0
ONCE: Final = "once"
ASK: Final = "ask"


def answer(line: bytes) -> dict[str, Any]:
    """Do what one line asks; return the answer."""
    number = None
    try:
        request = json.loads(line)
        number = request["id"]
        code, out = perform(
            [str(word) for word in request["argv"]],
            base64.b64decode(request.get("stdin", "")),
            float(request.get("timeout_s", TIMEOUT_S)),
        )
    except (ValueError, KeyError, TypeError, OSError) as error:
        code, out = 126, f"{type(error).__name__}: {error}".encode()
    return {"id": number, "code": code, "out": base64.b64encode(out).decode()}


def perform(argv: list[str], stdin: bytes, timeout_s: float, out_max: int = OUT_MAX) -> tuple[int, bytes]:
    """Run a command; return its code and the end of what it said. Out of time, its whole group of processes ends."""
    if argv[0] == ASK:
        return ask(argv[1], stdin, timeout_s)
    # A file, not a pipe: a child that stays behind keeps a pipe open.
    with tempfile.TemporaryFile() as out, tempfile.TemporaryFile() as given:
        given.write(stdin)
        given.seek(0)
        process = subprocess.Popen(argv, stdin=given, stdout=out, stderr=subprocess.STDOUT, start_new_session=True)  # noqa: S603 -- the bench's own words
        code = -1
        try:
            with contextlib.suppress(subprocess.TimeoutExpired):
                code = process.wait(timeout_s)
        finally:
            if process.returncode is None:
                os.killpg(process.pid, signal.SIGKILL)
                process.wait()
        size = out.seek(0, 2)
        out.seek(max(0, size - out_max))
        return code, out.read()


def ask(where: str, said: bytes, timeout_s: float) -> tuple[int, bytes]:
    """Say something to a socket; return 0 and the answer. OSError if nobody is there or answers in time."""
    local = where.startswith("/")
    host, _, port = where.rpartition(":")
    with socket.socket(socket.AF_UNIX if local else socket.AF_INET) as line:
        line.settimeout(timeout_s)
        line.connect(where if local else (host, int(port)))
        line.sendall(said)
        with line.makefile("rb") as answers:
            return 0, answers.readline(OUT_MAX) if local else answers.read(OUT_MAX)


def main() -> None:
    """Serve for ever, or once."""
    if sys.argv[1:] == [ONCE]:
        sys.stdout.write(json.dumps(answer(sys.stdin.buffer.readline())) + "\n")
        return
    with PORT.open("r+b", buffering=0) as port:
        pending = b""
        while True:
            data = port.read(65_536)
            if not data:
                return  # nobody is at the other end: the service starts again
            pending += data
            while b"\n" in pending:
                line, _, pending = pending.partition(b"\n")
                if line.strip():
                    reply = json.dumps(answer(line)).encode() + b"\n"
                    while reply:
                        reply = reply[port.write(reply) :]
            if len(pending) > LINE_MAX:
                pending = b""


if __name__ == "__main__":
    main()
