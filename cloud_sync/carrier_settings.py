"""How to reach the broker, how long to wait between attempts, and what is sent."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, field
from ipaddress import ip_address
from pathlib import Path
from typing import Final

ENDS_SOON_S: Final = 90 * 86_400.0
"""A certificate that ends within this is told: about the time until somebody is at the car anyway."""

LOOPBACK: Final = frozenset({"localhost", "localhost.localdomain", "ip6-localhost"})


def is_loopback(host: str) -> bool:
    """Tell whether ``host`` is this machine, without asking a name server."""
    try:
        return ip_address(host).is_loopback
    except ValueError:
        return host.lower() in LOOPBACK


def backoff_s(failures: int, first_s: float, longest_s: float, chance: float) -> float:
    """Return the wait before the next attempt after ``failures`` (≥ 1) in a row.

    Doubles from ``first_s`` to ``longest_s``; ``chance`` in [0, 1) takes up to half of it off, so that a street of cars
    doesn't come back in one second.
    """
    base_s = min(longest_s, first_s * 2.0 ** min(failures - 1, 30))
    return base_s * (1.0 - chance / 2)


@dataclass(frozen=True, slots=True)
class CarrierSettings:
    """How to reach the broker.

    ``ca`` (a PEM file) switches TLS on, ``cert`` and ``key`` are the client's certificate; all three are read anew for
    each connection. Without ``ca`` only a broker on this machine is accepted: a password doesn't travel in clear.
    ``known_s``, from any thread: it is at least so late (Unix seconds). For who can't trust the system's clock; the
    broker's certificate is then held against this alone (``cloud_sync.tls``).
    """

    host: str
    port: int
    client_id: str
    username: str | None = None
    password: str | None = field(default=None, repr=False)
    ca: Path | None = None
    cert: Path | None = None
    key: Path | None = None
    known_s: Callable[[], float] | None = field(default=None, repr=False)
    keepalive_s: int = 60
    backoff_first_s: float = 1.0
    backoff_longest_s: float = 600.0
    steady_s: float = 30.0
    """A connection that held this long was a good one: the back-off starts anew."""

    def __post_init__(self) -> None:
        """Raise ValueError, saying what to change, for settings that can't work or would show a password."""
        if not 1 <= self.port <= 65535:
            raise ValueError(f"port {self.port}: must lie in 1 to 65535")
        if self.ca is None and not is_loopback(self.host):
            raise ValueError(f"broker {self.host!r} without TLS: give its CA file; only this machine may be plain")
        if (self.cert is None) != (self.key is None):
            raise ValueError("a client certificate needs both its file and its key file")
        if not 0 < self.backoff_first_s <= self.backoff_longest_s:
            raise ValueError("back-off: the first wait must be above 0 and not above the longest")


@dataclass(frozen=True, slots=True)
class Outgoing:
    """One message on its way to the broker."""

    topic: str
    payload: bytes
    retain: bool = False
