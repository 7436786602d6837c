"""The box's local socket: one JSON object a line in, one out. Readers while the daemon has the database locked.

Only the machine's own users of the service's group reach it (mode 0660). It answers questions and copies the store.
What does more, for the technician's console, is answered to the daemon's own user and root alone.
"""

from __future__ import annotations

import asyncio
import contextlib
import json
import logging
import os
import socket
import struct
from collections import Counter
from collections.abc import Awaitable, Callable, Collection, Mapping
from pathlib import Path
from typing import Any, Final

log = logging.getLogger("amibox.control")

LINE_MAX: Final = 131_072
"""A document of 64 KiB fits, as base64."""
IDLE_S: Final = 30.0
CLIENTS_MAX: Final = 8

Handler = Callable[[dict[str, Any]], Awaitable[dict[str, Any]]]


class Control:
    """Serves named questions: a handler turns the request's object into the answer's; ValueError is its refusal.

    ``own``: those that only root and the user of this process may ask.
    """

    def __init__(self, path: Path, handlers: Mapping[str, Handler], own: Collection[str] = ()) -> None:
        self.counts: Counter[str] = Counter()
        self._path = path
        self._handlers = handlers
        self._own = frozenset(own)
        self._server: asyncio.Server | None = None
        self._clients = 0

    async def start(self) -> None:
        """Listen. A socket left by a dead daemon is replaced; the store's lock keeps two daemons apart."""
        self._path.parent.mkdir(parents=True, exist_ok=True)
        self._path.unlink(missing_ok=True)
        mask = os.umask(0o117)
        try:
            self._server = await asyncio.start_unix_server(self._serve, self._path, limit=LINE_MAX)
        finally:
            os.umask(mask)

    async def stop(self) -> None:
        """Stop listening and take the socket away."""
        if self._server is not None:
            self._server.close()
        self._path.unlink(missing_ok=True)

    async def _serve(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        self._clients += 1
        trusted = peer_uid(writer) in (0, os.getuid())
        try:
            while self._clients <= CLIENTS_MAX:
                line = await asyncio.wait_for(reader.readline(), IDLE_S)
                if not line:
                    break
                writer.write(json.dumps(await self._answer(line, trusted=trusted)).encode() + b"\n")
                await writer.drain()
        except (TimeoutError, ValueError, ConnectionError):
            self.counts["client_dropped"] += 1  # silent, endless line, or gone
        finally:
            self._clients -= 1
            writer.close()
            with contextlib.suppress(ConnectionError):
                await writer.wait_closed()

    async def _answer(self, line: bytes, *, trusted: bool) -> dict[str, Any]:
        try:
            request = json.loads(line)
            handler = self._handlers[request["command"]]
        except (ValueError, KeyError, TypeError, RecursionError):
            self.counts["request_refused"] += 1
            return {"error": f'a JSON object with "command" is wanted, one of: {", ".join(sorted(self._handlers))}'}
        if request["command"] in self._own and not trusted:
            self.counts["not_allowed"] += 1
            return {"error": "not allowed: this is for the box's own user and root"}
        try:
            return await handler(request)
        except (ValueError, OSError) as error:
            self.counts["request_refused"] += 1
            return {"error": str(error)}


def peer_uid(writer: asyncio.StreamWriter) -> int:
    """Return the user at the other end of a local socket."""
    raw = writer.get_extra_info("socket").getsockopt(socket.SOL_SOCKET, socket.SO_PEERCRED, struct.calcsize("3i"))
    return int(struct.unpack("3i", raw)[1])


def ask(path: Path, request: dict[str, Any], timeout_s: float = 30.0) -> dict[str, Any]:
    """Ask a running daemon. Raises ConnectionError with the remedy if none answers."""
    try:
        with socket.socket(socket.AF_UNIX, socket.SOCK_STREAM) as link:
            link.settimeout(timeout_s)
            link.connect(str(path))
            link.sendall(json.dumps(request).encode() + b"\n")
            answer: dict[str, Any] = json.loads(link.makefile("rb").readline())
            return answer
    except PermissionError as error:
        raise ConnectionError(f"{path}: not allowed; use sudo, or join the group amibox") from error
    except (OSError, ValueError) as error:
        raise ConnectionError(
            f"no daemon answers at {path} ({error}); look at: systemctl status amibox, journalctl -u amibox"
        ) from error
