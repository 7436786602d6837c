"""Tells systemd how the service is doing (sd_notify): one datagram to the socket that ``NOTIFY_SOCKET`` names."""

from __future__ import annotations

import os
import socket
from collections.abc import MutableMapping


class Notifier:
    """The service manager's ear; deaf where there is none, as in a terminal.

    Takes ``NOTIFY_SOCKET`` and ``WATCHDOG_USEC`` out of ``environment``: a child that inherited them could speak, and
    stop, for the whole service. ``watchdog_s`` is how long systemd waits for the next ``alive`` before it kills and
    restarts the service, None without a watchdog: call it at least twice in that time.
    """

    def __init__(self, environment: MutableMapping[str, str] = os.environ) -> None:
        path = environment.pop("NOTIFY_SOCKET", "")
        watchdog_us = environment.pop("WATCHDOG_USEC", "")
        self.watchdog_s = int(watchdog_us) / 1e6 if path and watchdog_us.isdecimal() else None
        # A leading @ means a name in the kernel's abstract space: there it is a zero byte.
        self._address = "\0" + path[1:] if path.startswith("@") else path

    def ready(self, status: str) -> None:
        """Say that the service works now; ``status`` is what ``systemctl status`` shows."""
        self._send(f"READY=1\nSTATUS={_line(status)}")

    def alive(self) -> None:
        """Feed the watchdog. Only for a caller that has just seen every task alive."""
        self._send("WATCHDOG=1")

    def status(self, status: str) -> None:
        """Change what ``systemctl status`` shows."""
        self._send(f"STATUS={_line(status)}")

    def stopping(self) -> None:
        """Say that the service ends of its own will."""
        self._send("STOPPING=1")

    def _send(self, message: str) -> None:
        if not self._address:
            return
        with socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM | socket.SOCK_CLOEXEC) as sender:
            sender.settimeout(1.0)
            try:
                sender.sendto(message.encode(), self._address)
            except OSError:
                # Nobody listens, or not now. If it lasts, the watchdog does what it is for; the box itself works on.
                return


def _line(status: str) -> str:
    return " ".join(status.split())[:200]
