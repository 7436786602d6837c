"""The box's local socket: lines over a real one, answered by handlers with the box's own judgement of their words."""

from __future__ import annotations

import asyncio
import json
from contextlib import ExitStack
from pathlib import Path
from typing import Any, Final

from onboard.control import Control
from sim.fuzz.door import Door, Harness, right


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
)
