"""A null-modem cable between two of QEMU's serial ports, made of two sockets and a thread.

QEMU alone could join them, but it writes to a full socket until somebody reads, and the reader would be itself: it
stands still for ever. This cable never makes anybody wait: what is not taken is lost, as on a wire.
"""

from __future__ import annotations

import contextlib
import selectors
import socket
from pathlib import Path
from threading import Event, Thread
from typing import Final

READ_MAX: Final = 65_536
TURN_S: Final = 0.2


class Cable:
    """Listens on ``box`` and ``car`` (paths), and carries bytes between who connects there. ``close`` always."""

    def __init__(self, box: Path, car: Path) -> None:
        self._over = Event()
        self._selector = selectors.DefaultSelector()
        self._ends: dict[str, socket.socket] = {}
        self._listeners = []
        for name, path in (("box", box), ("car", car)):
            listener = socket.socket(socket.AF_UNIX)
            listener.bind(str(path))
            listener.listen(1)
            self._listeners.append(listener)
            self._selector.register(listener, selectors.EVENT_READ, name)
        self._thread = Thread(target=self._carry, name=f"cable {box.name}", daemon=True)
        self._thread.start()

    def close(self) -> None:
        """Pull both plugs."""
        self._over.set()
        self._thread.join()
        for each in (*self._listeners, *self._ends.values()):
            each.close()
        self._selector.close()

    def _carry(self) -> None:
        while not self._over.is_set():
            for key, _ in self._selector.select(TURN_S):
                line, name = key.fileobj, str(key.data)
                if not isinstance(line, socket.socket):
                    continue
                if line in self._listeners:
                    self._plug_in(line, name)
                else:
                    self._pass_on(line, name)

    def _plug_in(self, listener: socket.socket, name: str) -> None:
        end, _ = listener.accept()
        end.settimeout(0)
        before = self._ends.pop(name, None)
        if before is not None:
            self._selector.unregister(before)
            before.close()
        self._ends[name] = end
        self._selector.register(end, selectors.EVENT_READ, name)

    def _pass_on(self, end: socket.socket, name: str) -> None:
        if self._ends.get(name) is not end:
            return  # another plug has just taken its place
        data = b""
        with contextlib.suppress(OSError):
            data = end.recv(READ_MAX)
        if not data:
            self._selector.unregister(end)
            end.close()
            del self._ends[name]
            return
        other = self._ends.get("car" if name == "box" else "box")
        if other is not None:
            with contextlib.suppress(OSError):  # full, or just gone
                other.send(data)
