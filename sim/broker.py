"""An MQTT broker inside the demo: amqtt on a local port, with a user for the car and one for the cloud.

For the demo only. It doesn't enforce keep-alive and forgets its sessions when it stops, so nothing about wills,
sessions or lost links is shown on it: those tests run on mosquitto (``tests/system``).
"""

from __future__ import annotations

import asyncio
import contextlib
import logging
import threading
from collections.abc import Mapping
from pathlib import Path
from typing import Any, Final

from amqtt.broker import Broker
from pwdlib import PasswordHash
from pwdlib.hashers.argon2 import Argon2Hasher

START_S: Final = 10.0
"""Longest wait for the port to open or to close."""


class EmbeddedBroker:
    """A broker in a thread of its own, on this machine only; may be started and stopped again and again.

    ``users`` maps each user's name to a password; they are written, hashed, to ``folder``/``broker-users``.
    """

    def __init__(self, folder: Path, users: Mapping[str, str]) -> None:
        self._users = folder / "broker-users"
        # The cheapest hash: these passwords are made for one demo, and each connection pays for it.
        hasher = PasswordHash((Argon2Hasher(time_cost=1, memory_cost=1024, parallelism=1),))
        folder.mkdir(parents=True, exist_ok=True)
        self._users.touch(mode=0o600)
        self._users.write_text("".join(f"{name}:{hasher.hash(word)}\n" for name, word in users.items()))
        self._thread: threading.Thread | None = None
        self._loop: asyncio.AbstractEventLoop | None = None
        self._stopping: asyncio.Event | None = None
        logging.getLogger("amqtt").setLevel(logging.ERROR)
        logging.getLogger("transitions").setLevel(logging.ERROR)

    def start(self, port: int) -> None:
        """Listen on ``port`` of 127.0.0.1; returns when it is open. RuntimeError if it can't be."""
        if self._thread is not None:
            raise RuntimeError("the broker runs already")
        ready = threading.Event()
        failure: list[BaseException] = []
        self._thread = threading.Thread(target=self._main, args=(port, ready, failure), name="broker", daemon=True)
        self._thread.start()
        if not ready.wait(START_S) or failure:
            self._thread.join(START_S)
            self._thread = None
            raise RuntimeError(f"no broker on port {port}: {failure or 'it did not start'}") from (
                failure[0] if failure else None
            )

    def stop(self) -> None:
        """Close every connection and the port; returns when that is done. Without a start: nothing."""
        if self._thread is None or self._loop is None or self._stopping is None:
            return
        with contextlib.suppress(RuntimeError):  # the loop is closed already
            self._loop.call_soon_threadsafe(self._stopping.set)
        self._thread.join(START_S)
        if self._thread.is_alive():
            raise RuntimeError(f"the broker did not stop within {START_S:.0f} s")
        self._thread = None

    def _main(self, port: int, ready: threading.Event, failure: list[BaseException]) -> None:
        try:
            asyncio.run(self._serve(port, ready))
        except Exception as error:  # noqa: BLE001  (handed to start(), which raises it)
            failure.append(error)
        finally:
            ready.set()

    async def _serve(self, port: int, ready: threading.Event) -> None:
        self._loop = asyncio.get_running_loop()
        self._stopping = asyncio.Event()
        config: dict[str, Any] = {
            "listeners": {"default": {"type": "tcp", "bind": f"127.0.0.1:{port}"}},
            "plugins": {"amqtt.plugins.authentication.FileAuthPlugin": {"password_file": str(self._users)}},
        }
        broker = Broker(config)
        await broker.start()
        ready.set()
        try:
            await self._stopping.wait()
        finally:
            await broker.shutdown()
