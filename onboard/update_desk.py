"""What the running box answers about updates, over its socket. It takes a bundle that way too, as a file."""

from __future__ import annotations

import asyncio
import base64
import logging
import os
import signal
from collections.abc import Callable
from typing import Any

from onboard.core.state import State
from onboard.core.update import obstacle
from onboard.inbox import Inbox
from onboard.launch import SLOT

log = logging.getLogger("amibox.update")


class UpdateDesk:
    """The handlers; all belong to the event loop's thread. ``stop`` ends the daemon as a service manager would."""

    def __init__(
        self,
        inbox: Inbox | None,
        state: Callable[[], State],
        silent: Callable[[], tuple[str, ...]],
        boot_s: Callable[[], float],
        stop: Callable[[], None],
    ) -> None:
        self._inbox = inbox
        self._state = state
        self._silent = silent
        self._boot_s = boot_s
        self._stop = stop
        self._id = os.environ.get(SLOT, "")

    def handlers(self) -> dict[str, Any]:
        """Return them by the command's name."""
        return {
            "update": self._update,
            "update_stop": self._update_stop,
            "update_kept": self._update_kept,
            "update_chunk": self._update_chunk,
        }

    async def _update(self, _request: dict[str, Any]) -> dict[str, Any]:
        state, now_s = self._state(), self._boot_s()
        progress = self._inbox.progress() if self._inbox is not None else None
        return {
            "software": state.software,
            "id": self._id,
            "up_s": round(now_s - state.began_s, 1),
            "not_alive": list(self._silent()),
            "faults": [part for part, _ in state.faults],
            "obstacle": obstacle(state, now_s),
            "progress": None if progress is None else progress.words,
        }

    async def _update_stop(self, _request: dict[str, Any]) -> dict[str, Any]:
        """Stop, if the core lets the box be away now: systemd starts the version that the launcher finds."""
        if why := obstacle(self._state(), self._boot_s()):
            return {"stopping": False, "obstacle": why}
        log.info("stopping for another version")
        # The answer goes out first.
        asyncio.get_running_loop().call_later(0.2, self._stop)
        return {"stopping": True}

    async def _update_kept(self, request: dict[str, Any]) -> dict[str, Any]:
        """Hear that this version stays: the launcher's timer is over."""
        if request.get("id") != self._id:
            raise ValueError("another version runs here")
        signal.setitimer(signal.ITIMER_REAL, 0.0)
        return {"ok": True}

    async def _update_chunk(self, request: dict[str, Any]) -> dict[str, Any]:
        """Take a part of a bundle: ``digest`` (SHA-256, hexadecimal), ``total``, ``offset``, ``data`` (base64)."""
        if self._inbox is None:
            raise ValueError("this box was not started by amibox-run: it takes no updates")
        total, offset = request.get("total"), request.get("offset")
        if type(total) is not int or type(offset) is not int:
            raise ValueError("total and offset are bytes")
        try:
            digest = bytes.fromhex(str(request.get("digest")))
            data = base64.b64decode(str(request.get("data", "")), validate=True)
        except ValueError as error:
            raise ValueError("digest is hexadecimal, data base64") from error
        return {"next": await asyncio.to_thread(self._inbox.chunk, digest, total, offset, data)}
