"""The box's local socket and its console: lines over a real one, and keys at the editor and the parsers behind it."""

from __future__ import annotations

import asyncio
import json
from contextlib import ExitStack, suppress
from pathlib import Path
from typing import Any, Final

from onboard.console.editor import COLUMNS, Editor
from onboard.console.shell import Command, complete
from onboard.console.transfer import Receiver, begin_line, chunk_lines, said_line, sha_of
from onboard.control import Control
from sim.fuzz.door import Door, Harness, right

FILE_MAX: Final = 4096


class _Ended(Exception):  # noqa: N818 - what happened
    """The server's task for a client ended with an exception."""


async def _status(_request: dict[str, Any]) -> dict[str, Any]:
    return {"state": "available"}


async def _copy(request: dict[str, Any]) -> dict[str, Any]:
    """Judge a destination as ``onboard.box`` does."""
    destination = request.get("destination")
    if not isinstance(destination, str) or not destination.startswith("/"):
        raise ValueError("destination must be an absolute path")
    return {"destination": str(Path(destination))}


def open_console(folder: Path, ending: ExitStack) -> Harness:
    """A client that says the input's bytes and reads to the end."""
    loop = asyncio.new_event_loop()
    path, failed = folder / "amibox.sock", list[BaseException]()
    console = Control(path, {"status": _status, "store_copy": _copy})
    loop.run_until_complete(console.start())
    ending.callback(loop.close)
    ending.callback(lambda: loop.run_until_complete(console.stop()))

    def note(_loop: asyncio.AbstractEventLoop, context: dict[str, Any]) -> None:
        failed.append(context.get("exception") or _Ended(context["message"]))

    loop.set_exception_handler(note)

    async def client(data: bytes) -> bytes:
        reader, writer = await asyncio.open_unix_connection(path, limit=1 << 20)
        writer.write(data)
        writer.write_eof()
        said = await reader.read()
        writer.close()
        await asyncio.sleep(0)
        return said

    def run(data: bytes) -> None:
        said = loop.run_until_complete(client(data))
        if failed:
            raise failed.pop()
        for line in said.splitlines():
            right(isinstance(json.loads(line), dict), "an answer that is no object")

    return run


def open_keys(folder: Path, _ending: ExitStack) -> Harness:
    """Keys at the console's line: edited, completed, read as a command or as a line of a file."""
    seen = frozenset(chr(byte) for byte in b"\a\b\r\n")
    command = Command(lambda _session, _place, _words: None, ("now", "test"), "", "")

    def run(data: bytes) -> None:
        editor = Editor(lambda text: complete({"sync": command, "door": command}, text))
        receiver = Receiver(folder / "in", {"batch": FILE_MAX})
        editor.begin("amibox> ")
        rest = data
        while rest:
            line, rest = editor.feed(rest)
            said = editor.take().decode()
            right(all(letter.isprintable() or letter in seen for letter in said), "a terminal was steered")
            if line is None:
                continue
            right(len(line.text) < COLUMNS, "a line that wraps")
            with suppress(ValueError):  # a file that is not taken
                receiver.answer(line.text)
            editor.begin("amibox> ")
        for line_of_file in data.decode("ascii", "replace").splitlines():
            with suppress(ValueError):
                receiver.answer(line_of_file)
        held = sum(file.stat().st_size for file in (folder / "in").glob("*"))
        right(held <= FILE_MAX, "more was kept than may come")
        right(receiver.file is None or sha_of(receiver.file.read_bytes()) == _sha(receiver), "a file that is not whole")

    return run


def _sha(receiver: Receiver) -> str:
    return receiver.begun.sha if receiver.begun is not None else ""


def _file(data: bytes) -> bytes:
    lines = [begin_line("batch", data), *chunk_lines(data), said_line("E", sha_of(data))]
    return "\r".join(lines).encode() + b"\r"


def _line(value: object) -> bytes:
    return json.dumps(value).encode() + b"\n"


DOORS: Final = (
    Door(
        "console",
        "lines at the box's local socket",
        open_console,
        lambda: [
            _line({"command": "status"}) * 3,
            _line({"command": "store_copy", "destination": "/tmp/x"}) + _line([1]) + _line("command"),  # noqa: S108
            _line({"command": "store_copy", "destination": "/\ud800"})
            + b'{"command": ["status"]}\n{"command": 1e999}\n',
            b"[" * 1500 + b"\n" + b"\xff\xfe{\x00}\x00\n" + b"9" * 1900,
        ],
        worst_s=0.05,
    ),
    Door(
        "typed",
        "keys at the technician's console",
        open_keys,
        lambda: [
            "sy\tn\t\rréseau\x01é\x05\x7f\x15\x85\r".encode(),
            b"one\rtwo\r\x1b[A\x1b[A\x1b[B\x1b[H\x1b[3~\x1b[F\x0c\x17\x0b\r",
            b"\x1b[1;5A\x1bOH\x1bx\xff\xfe\xc2\x85\xe2\x82\xac\r\n\n\x03\x04",
            _file(b"0123456789" * 12),
        ],
        worst_s=0.05,
    ),
)
