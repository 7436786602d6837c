"""The GNSS receiver on a pty: writes what a real one writes, and fails as a real one fails.

``link`` is the path that the box is configured with, as udev would give it: it vanishes with ``unplug`` and comes back
with the next ``open``, on another tty.
"""

from __future__ import annotations

import os
import pty
import tty
from contextlib import suppress
from dataclasses import dataclass
from datetime import datetime
from enum import StrEnum
from pathlib import Path
from random import Random
from typing import Final

from hw.nmea import KNOT_MPS, checksum

GARBAGE_BYTES: Final = 400
"""About as many as a second's sentences."""


class GnssFault(StrEnum):
    """What can be wrong: no sky; another baud rate; a dead module on a live port."""

    NONE = "none"
    NO_FIX = "no_fix"
    NOT_UNDERSTOOD = "garbage"
    SILENCE = "silence"


@dataclass(frozen=True, slots=True)
class TrueFix:
    """Where the car really is: degrees WGS 84, speed over ground, degrees from true north, UTC."""

    latitude: float
    longitude: float
    speed_mps: float
    track_deg: float
    time: datetime


def sentences(fix: TrueFix, *, locked: bool = True) -> bytes:
    """One second's RMC, GGA and GSA with right checksums; with ``locked`` false, those of a receiver without a fix."""
    clock = f"{fix.time:%H%M%S}.{fix.time.microsecond // 10_000:02}"
    day = f"{fix.time:%d%m%y}"
    if not locked:
        return b"".join(
            _sealed(body)
            for body in (
                f"GPRMC,{clock},V,,,,,,,{day},,,N",
                f"GPGGA,{clock},,,,,0,00,99.99,,,,,,",
                "GPGSA,A,1,,,,,,,,,,,,,99.99,99.99,99.99",
            )
        )
    place = f"{_angle(fix.latitude, 2)},{'NS'[fix.latitude < 0]},{_angle(fix.longitude, 3)},{'EW'[fix.longitude < 0]}"
    motion = f"{fix.speed_mps / KNOT_MPS:.3f},{fix.track_deg % 360:.2f}"
    return b"".join(
        _sealed(body)
        for body in (
            f"GPRMC,{clock},A,{place},{motion},{day},,,A",
            f"GPGGA,{clock},{place},1,09,0.92,60.0,M,48.0,M,,",
            "GPGSA,A,3,02,05,12,15,18,20,25,29,31,,,,1.71,0.92,1.44",
        )
    )


def _angle(degrees: float, width: int) -> str:
    """Degrees and minutes, as NMEA has them: 1e-5 minutes are 2 cm."""
    minutes_e5 = round(abs(degrees) * 60 * 100_000)
    whole, rest = divmod(minutes_e5, 6_000_000)
    return f"{whole:0{width}}{rest // 100_000:02}.{rest % 100_000:05}"


def _sealed(body: str) -> bytes:
    raw = body.encode("ascii")
    return b"$%b*%02X\r\n" % (raw, checksum(raw))


class SimulatedGnss:
    """A receiver whose port is ``link``. Set ``fault`` at any time. Not for more than one thread at once."""

    def __init__(self, link: Path, *, seed: int = 0) -> None:
        self.fault = GnssFault.NONE
        self._link = link
        self._random = Random(seed)  # noqa: S311  (noise on a wire, nothing secret)
        self._fds: tuple[int, int] | None = None
        self._heard = b""

    def open(self) -> Path:
        """Plug it in (again); return the path of its port."""
        self.unplug()
        own_end, box_end = pty.openpty()
        tty.setraw(box_end)
        os.set_blocking(own_end, False)
        # Our own copy of the box's end stays open: without a listener a receiver goes on, it doesn't fail.
        self._fds = (own_end, box_end)
        self._link.symlink_to(os.ttyname(box_end))
        return self._link

    def send(self, fix: TrueFix) -> None:
        """Write one second's output. What nobody reads is lost, as on a wire; unplugged, nothing happens."""
        match self.fault:
            case GnssFault.SILENCE:
                return
            case GnssFault.NOT_UNDERSTOOD:
                self.write(self._random.randbytes(GARBAGE_BYTES))
            case GnssFault.NONE | GnssFault.NO_FIX:
                self.write(sentences(fix, locked=self.fault is GnssFault.NONE))

    def heard(self) -> bytes:
        """Return what the box wrote to it: the newest 1000 bytes."""
        if self._fds is not None:
            with suppress(BlockingIOError):  # nothing new
                self._heard = (self._heard + os.read(self._fds[0], 1000))[-1000:]
        return self._heard

    def write(self, data: bytes) -> None:
        """Write raw bytes, such as a recording's."""
        if self._fds is None:
            return
        try:
            os.write(self._fds[0], data)
        except BlockingIOError:
            return  # nobody reads, and the line's buffer is full

    def unplug(self) -> None:
        """Pull the cable: the port vanishes, and whoever has it open gets an error."""
        if self._fds is None:
            return
        self._link.unlink(missing_ok=True)
        own_end, box_end = self._fds
        self._fds = None
        os.close(box_end)
        os.close(own_end)

    def close(self) -> None:
        """Take the receiver away for good."""
        self.unplug()
