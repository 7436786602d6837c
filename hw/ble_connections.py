"""Which phones are connected, since when, and what each was told last. Pure: no I/O, the time is an argument.

A connection is known by BlueZ's object path of its device. That is no person: phones change their address.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass, field
from typing import Final

CONNECTIONS_MAX: Final = 32
SILENT_S: Final = 5.0
"""A phone that says nothing for this long after it connected keeps others waiting for nothing."""


@dataclass(slots=True)
class _Connection:
    since_s: float
    spoke_s: float | None = None
    told: dict[str, bytes] = field(default_factory=dict)


class Connections:
    """The connections that there are, at most CONNECTIONS_MAX."""

    def __init__(self) -> None:
        self._open: dict[str, _Connection] = {}

    def __contains__(self, path: object) -> bool:
        return path in self._open

    def __iter__(self) -> Iterator[str]:
        return iter(tuple(self._open))

    def in_the_way(self) -> str | None:
        """Return who has to go before another can be noted; None while there is room.

        One that never spoke goes before one that did; of those the one silent for longest.
        """
        return min(self._open, key=self._worth) if len(self._open) >= CONNECTIONS_MAX else None

    def add(self, path: str, now_s: float) -> None:
        """Note a connection that is not known yet."""
        self._open[path] = _Connection(now_s)

    def remove(self, path: str) -> bool:
        """Forget a connection; return whether it was known."""
        return self._open.pop(path, None) is not None

    def spoke(self, path: str, now_s: float) -> None:
        """Note that a connection asked or told something sensible; nothing if it is gone by now."""
        if path in self._open:
            self._open[path].spoke_s = now_s

    def tell(self, path: str, uuid: str, value: bytes) -> None:
        """Note what a whole read returned; nothing if the connection is gone by now."""
        if path in self._open:
            self._open[path].told[uuid] = value

    def told(self, path: str, uuid: str) -> bytes | None:
        """Return what the last whole read of this characteristic returned on this connection."""
        return self._open[path].told.get(uuid) if path in self._open else None

    def silent(self, now_s: float) -> list[str]:
        """Return those that never spoke, and had time to."""
        return [
            path
            for path, connection in self._open.items()
            if connection.spoke_s is None and now_s - connection.since_s >= SILENT_S
        ]

    def _worth(self, path: str) -> tuple[bool, float]:
        connection = self._open[path]
        if connection.spoke_s is None:
            return False, connection.since_s
        return True, connection.spoke_s
