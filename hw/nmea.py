"""What a GNSS receiver says: bytes in, fixes out. Pure: no clock is read here, no port is opened.

``NmeaStream`` cuts a byte stream into sentences and refuses what has no right checksum; ``Receiver`` puts the sentences
of one moment (an epoch) together. Both only report what the receiver said. ``hw.gps`` decides what is believed.
"""

from __future__ import annotations

import math
import re
from collections import Counter
from dataclasses import dataclass, field
from datetime import UTC, date, datetime, timedelta
from typing import Any, Final

from pynmeagps import VALNONE, NMEAReader
from pynmeagps.exceptions import NMEAMessageError, NMEAParseError, NMEATypeError

SENTENCE_MAX: Final = 256
"""Longest sentence that is taken, in bytes. NMEA 0183 has 82; vendors and high-precision modes go to about 200."""

SAME_PLACE_DEG: Final = 1e-5
"""RMC and GGA of one moment may round differently. Further apart (1 m) they are two fixes, as from a multiplexer."""

KINDS_MAX: Final = 64
"""Kinds of sentences that are counted apart; the rest is ``other``."""

KNOT_MPS: Final = 1852 / 3600
DAY_MS: Final = 86_400_000
_BREAK = re.compile(rb"[^ -#%-~]")  # what ends a sentence: ``$``, a line end, any byte that is no printable ASCII
_HEX = re.compile(rb"[0-9A-Fa-f]{2}")
_ADDRESS = re.compile(r"P[A-Z0-9]{3,}|[A-Z]{2}[A-Z0-9]{3}")
_ANGLE = re.compile(r"\d{4,6}\.\d*")
_TIME = re.compile(r"(\d\d)(\d\d)(\d\d)(\.\d*)?")

_USED: Final[dict[str, tuple[int, ...]]] = {
    "RMC": (0, 1, 2, 3, 4, 5, 6, 8, 11),
    "GGA": (0, 1, 2, 3, 4, 5, 6, 7, 8),
    "GSA": (1,),
    "ZDA": (0, 1, 2, 3),
}
"""Fields that count, by kind. The parser sees no other: a broken field that nobody reads must not cost a fix."""

_ESTIMATED, _SIMULATED = (6, 7), 8
"""GGA quality: 0 none, 1 to 5 measured, 6 dead reckoning, 7 typed in, 8 simulator."""


@dataclass(frozen=True, slots=True)
class Sentence:
    """One RMC, GGA, GSA or ZDA with a right checksum. ``None`` where it says nothing.

    ``tod_ms`` is milliseconds since midnight UTC (a leap second lies at 86,400,000 and above); ``valid`` says that the
    sentence itself calls its position a fix; ``estimated`` that the receiver reckoned or was told its position.
    """

    talker: str
    kind: str
    tod_ms: int | None = None
    valid: bool = False
    estimated: bool = False
    latitude: float | None = None
    longitude: float | None = None
    speed_mps: float | None = None
    hdop: float | None = None
    altitude_m: float | None = None
    satellites: int | None = None
    day: date | None = None
    mode: int | None = None


@dataclass(frozen=True, slots=True)
class Fix:
    """Where and when the receiver says it is: degrees WGS 84, ``time`` UTC or None while no date is known.

    ``mode`` is 2 or 3 dimensions. ``void``: an RMC of the same epoch called it no fix. ``at_s``: the time that was
    given with the epoch's first sentence.
    """

    time: datetime | None
    lat: float
    lon: float
    mode: int
    speed_mps: float | None = None
    hdop: float | None = None
    satellites: int | None = None
    void: bool = False
    estimated: bool = False
    at_s: float = 0.0


class NmeaStream:
    """Cuts bytes into sentences. However the bytes are split into pieces, the sentences are the same.

    ``accepted`` counts sentences with a right checksum by kind (``RMC``, or ``PMTK`` for a vendor's). ``counts`` holds
    what was refused: ``bad_checksum``, ``no_checksum`` (also a sentence broken off), ``overlong``, ``not_a_sentence``
    (right checksum, but no address), ``unparsable`` (right checksum, but a field makes no sense) and ``noise`` (a piece
    of text or binary data outside of any sentence). Keeps at most ``SENTENCE_MAX`` bytes between two calls.
    """

    def __init__(self, counts: Counter[str] | None = None) -> None:
        self.counts: Counter[str] = Counter() if counts is None else counts
        self.accepted: Counter[str] = Counter()
        self._text = bytearray()
        self._inside = False
        self._noisy = False
        """The piece of noise that the stream is in has been counted."""

    def feed(self, data: bytes) -> list[Sentence]:
        """Take in the next bytes; return the sentences that count and that ended in them. Never raises."""
        sentences: list[Sentence] = []
        at = 0
        while at < len(data):
            found = _BREAK.search(data, at)
            end = found.start() if found else len(data)
            self._take(data[at:end])
            if found is None:
                break
            at = found.end()
            sentences += self.close()
            mark = data[end]
            if mark in b"$\r\n":
                self._inside = mark == ord("$")
                self._noisy = False
            else:
                self._noise()
        return sentences

    def close(self) -> list[Sentence]:
        """Take what stands in the buffer for a whole sentence, as at the end of a file."""
        if not self._inside:
            return []
        self._inside = False
        self._noisy = True  # a broken sentence's rest is not counted again
        text = bytes(self._text)
        self._text.clear()
        return self._finish(text)

    def _take(self, text: bytes) -> None:
        if not self._inside:
            if text.strip():
                self._noise()
        elif len(self._text) + len(text) > SENTENCE_MAX:
            self.counts["overlong"] += 1
            self._text.clear()
            self._inside = False
            self._noisy = True
        else:
            self._text += text

    def _noise(self) -> None:
        if not self._noisy:
            self.counts["noise"] += 1
            self._noisy = True

    def _finish(self, text: bytes) -> list[Sentence]:
        body, star, tail = text.partition(b"*")
        tail = tail.rstrip()
        if not star:
            self.counts["no_checksum"] += 1
            return []
        if not _HEX.fullmatch(tail) or checksum(body) != int(tail, 16):
            self.counts["bad_checksum"] += 1
            return []
        address, *fields = body.decode("ascii").split(",")
        if not _ADDRESS.fullmatch(address):
            self.counts["not_a_sentence"] += 1
            return []
        kind = address[:4] if address[0] == "P" else address[2:]
        if kind not in _USED:
            self.accepted[kind if kind in self.accepted or len(self.accepted) < KINDS_MAX else "other"] += 1
            return []
        sentence = _read(address[:2], kind, fields)
        if sentence is None:
            self.counts["unparsable"] += 1
            return []
        self.accepted[kind] += 1
        return [sentence]


def checksum(body: bytes) -> int:
    """Exclusive or of all bytes between ``$`` and ``*``."""
    total = 0
    for byte in body:
        total ^= byte
    return total


def _read(talker: str, kind: str, fields: list[str]) -> Sentence | None:
    """Read a sentence's fields; None where they make no sense."""
    used = _USED[kind]
    kept = [text if place in used else "" for place, text in enumerate(fields)]
    try:
        said = NMEAReader.parse(f"${talker}{kind},{','.join(kept)}*00".encode(), validate=VALNONE)
    except (NMEAMessageError, NMEAParseError, NMEATypeError):
        return None
    if kind == "GSA":
        return Sentence(talker, kind, mode=_whole(said, "navMode"))
    tod_ms = _tod_ms(fields[0]) if fields else None
    if kind == "ZDA":
        return Sentence(talker, kind, tod_ms, day=_zda_day(said))
    latitude = _degrees(said, "lat", "NS", fields[1 if kind == "GGA" else 2 : 5], limit=90)
    longitude = _degrees(said, "lon", "EW", fields[3 if kind == "GGA" else 4 : 7], limit=180)
    placed = latitude is not None and longitude is not None
    if kind == "GGA":
        quality = _whole(said, "quality") or 0
        valid = quality > 0 and quality != _SIMULATED
        if valid and not placed:
            return None
        return Sentence(
            talker,
            kind,
            tod_ms,
            valid=valid,
            estimated=quality in _ESTIMATED,
            latitude=latitude,
            longitude=longitude,
            hdop=_number(said, "HDOP"),
            altitude_m=_number(said, "alt"),
            satellites=_whole(said, "numSV"),
        )
    source = getattr(said, "posMode", "")
    valid = getattr(said, "status", "") == "A" and source not in ("N", "S")  # not valid, simulator
    if valid and not placed:
        return None
    speed = _number(said, "spd")
    day = getattr(said, "date", "")
    return Sentence(
        talker,
        kind,
        tod_ms,
        valid=valid,
        estimated=source in ("E", "M"),  # dead reckoning, typed in
        latitude=latitude,
        longitude=longitude,
        speed_mps=None if speed is None or speed < 0 else speed * KNOT_MPS,
        day=day if isinstance(day, date) else None,
    )


def _tod_ms(text: str) -> int | None:
    """Milliseconds since midnight. Read here, not by the parser: that one has no 23:59:60 and no bare ``12.``."""
    found = _TIME.fullmatch(text)
    if found is None:
        return None
    hours, minutes, seconds = (int(found[place]) for place in (1, 2, 3))
    leap = (hours, minutes, seconds) == (23, 59, 60)
    if hours > 23 or minutes > 59 or (seconds > 59 and not leap):
        return None
    fraction_ms = round(float("0" + (found[4] or ".0") + "0") * 1000)
    return ((hours * 60 + minutes) * 60 + seconds) * 1000 + fraction_ms


def _degrees(said: Any, name: str, side: str, raw: list[str], *, limit: int) -> float | None:
    """Degrees with their sign; None without a hemisphere, beyond ``limit``, or with 60 minutes or more."""
    value = getattr(said, name, "")
    if not isinstance(value, float) or getattr(said, side, "") not in tuple(side):
        return None
    if not _ANGLE.fullmatch(raw[0]) or float(raw[0]) % 100 >= 60:
        return None
    return value if -limit <= value <= limit else None


def _number(said: Any, name: str) -> float | None:
    value = getattr(said, name, "")
    return float(value) if isinstance(value, int | float) and math.isfinite(value) else None


def _whole(said: Any, name: str) -> int | None:
    value = getattr(said, name, "")
    return value if isinstance(value, int) else None


def _zda_day(said: Any) -> date | None:
    year, month, day = (_whole(said, name) or 0 for name in ("year", "month", "day"))
    if not 1980 <= year < 2200:  # GPS time begins in 1980
        return None
    try:
        return date(year, month, day)
    except ValueError:
        return None


@dataclass(slots=True)
class _Epoch:
    """Everything heard of one moment."""

    at_s: float
    tod_ms: int | None
    seen: set[tuple[str, str]] = field(default_factory=set)
    position: tuple[float, float] | None = None
    estimated: bool = False
    rmc: bool | None = None
    """Whether an RMC called it a fix; None without one."""
    speed_mps: float | None = None
    hdop: float | None = None
    altitude: bool = False
    satellites: int | None = None
    rmc_day: date | None = None
    zda_day: date | None = None
    mode: int = 0

    def goes_on(self, heard: Sentence) -> bool:
        """Tell whether a sentence speaks of this moment, too."""
        if heard.tod_ms != self.tod_ms or (heard.talker, heard.kind) in self.seen:
            return False
        if not heard.valid or self.position is None or heard.latitude is None or heard.longitude is None:
            return True
        return math.dist((heard.latitude, heard.longitude), self.position) < SAME_PLACE_DEG

    def add(self, heard: Sentence) -> None:
        """Take in one sentence of this moment."""
        self.seen.add((heard.talker, heard.kind))
        if heard.kind == "ZDA":
            self.zda_day = heard.day or self.zda_day
            return
        if heard.kind == "RMC":
            self.rmc = heard.valid or bool(self.rmc)
        if not heard.valid or heard.latitude is None or heard.longitude is None:
            return
        self.estimated = self.estimated or heard.estimated
        self.position = (heard.latitude, heard.longitude)
        if heard.kind == "RMC":
            self.speed_mps = heard.speed_mps if heard.speed_mps is not None else self.speed_mps
            self.rmc_day = heard.day or self.rmc_day
        else:
            self.hdop = heard.hdop if heard.hdop is not None else self.hdop
            self.altitude = self.altitude or heard.altitude_m is not None
            # A GGA for each constellation counts that constellation's satellites only.
            self.satellites = max(self.satellites or 0, heard.satellites or 0) if heard.satellites else self.satellites


class Receiver:
    """Puts sentences of one moment together. One fix an epoch, in the order heard.

    An epoch ends with a sentence of another time or another place, with the same sentence from the same talker again (a
    clock that stands still), or with ``flush``. The later of RMC and GGA gives the position, RMC the speed and the
    date; without it the date comes from ZDA, else the last known date goes on past midnight; a void RMC's date is
    nothing. An altitude makes a fix 3D, as in gpsd; without one GSA says it. ``no_fix`` counts epochs without position.
    """

    def __init__(self) -> None:
        self.no_fix = 0
        self._epoch: _Epoch | None = None
        self._day: date | None = None
        self._day_tod_ms = 0
        self._mode = 0
        """The last epoch's dimensions by GSA; 0 before the first."""

    def take(self, heard: Sentence, at_s: float = 0.0) -> Fix | None:
        """Take in a sentence heard at ``at_s``; return the fix of the epoch that it ended, if that was one."""
        if heard.kind == "GSA":
            if self._epoch is None:
                self._mode = heard.mode or 0
            else:
                self._epoch.mode = max(self._epoch.mode, heard.mode or 0)  # one for each constellation
            return None
        ended: Fix | None = None
        if self._epoch is not None and not self._epoch.goes_on(heard):
            ended = self.flush()
        if self._epoch is None:
            self._epoch = _Epoch(at_s, heard.tod_ms)
        self._epoch.add(heard)
        return ended

    def flush(self) -> Fix | None:
        """End the epoch: the line is quiet, or the recording is over."""
        epoch, self._epoch = self._epoch, None
        if epoch is None:
            return None
        self._mode = epoch.mode or self._mode
        time = self._dated(epoch)
        if epoch.position is None:
            self.no_fix += any(kind != "ZDA" for _, kind in epoch.seen)
            return None
        latitude, longitude = epoch.position
        return Fix(
            time=time,
            lat=latitude,
            lon=longitude,
            mode=3 if epoch.altitude or self._mode == 3 else 2,
            speed_mps=epoch.speed_mps,
            hdop=epoch.hdop,
            satellites=epoch.satellites,
            void=epoch.rmc is False,
            estimated=epoch.estimated,
            at_s=epoch.at_s,
        )

    def _dated(self, epoch: _Epoch) -> datetime | None:
        """The epoch's full time, as far as a date is known."""
        day = epoch.rmc_day or epoch.zda_day
        if epoch.tod_ms is None:
            return None
        if day is None and self._day is not None:
            passed_midnight = epoch.tod_ms < self._day_tod_ms - DAY_MS // 2
            day = self._day + timedelta(days=1) if passed_midnight else self._day
        if day is None:
            return None
        self._day, self._day_tod_ms = day, epoch.tod_ms
        return datetime(day.year, day.month, day.day, tzinfo=UTC) + timedelta(milliseconds=epoch.tod_ms)
