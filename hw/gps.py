"""The GNSS receiver on a serial port: what it says (``hw.nmea``), what of it is believed, and when it is out of order.

``Gate`` and ``Health`` are pure; ``Gps`` only moves bytes. No fix is an ordinary state (a garage, a cold start) and
never a fault. A position may make the box refuse or flag something, never open a door.
"""

from __future__ import annotations

import math
import termios
from collections import Counter
from dataclasses import dataclass
from threading import Event as Flag
from typing import Final

import serial

from hw.clock_sources import Clock
from hw.nmea import Fix, NmeaStream, Receiver
from hw.worker import Life
from onboard.core.clock import HORIZON_S, Anchor, ClockQuality
from onboard.core.commands import Loads
from onboard.core.events import Event, FaultReported, Position, PositionReported, TimeHeard
from onboard.core.trip import great_circle_m

SATELLITES_MIN: Final = 4
HDOP_MAX: Final = 5.0

SPEED_MAX_MPS: Final = 60.0
"""Faster than this between two fixes is a jump, not a drive."""
SPEED_SLACK_S: Final = 1.0
"""Fixes may arrive in one read after a stall: that much time is always granted between two."""
RESUME_FIXES: Final = 3
"""So many fixes in a row that fit each other end a quarantine."""

LEAP_S: Final = 1.0
"""One step back this far is a leap second."""
LATENESS_S: Final = 1.0
"""A receiver sends an epoch within the second that follows it."""
ANCHOR_EVERY_S: Final = 10.0

SILENT_S: Final = 10.0
"""Nothing usable for this long is a fault. Receivers send every second, with or without a fix."""
READ_TIMEOUT_S: Final = 0.3
"""A line quiet for this long ends an epoch: sentences of one burst follow each other within milliseconds."""
READ_MAX: Final = 4096
WAKE_S: Final = 0.5
"""How often a sleeping receiver's worker looks round."""
RETRY_FIRST_S: Final = 1.0
RETRY_MAX_S: Final = 10.0


class Gate:
    """What of the receiver's fixes the box believes.

    A fix is refused, and counted, for: ``fix_void`` (an RMC of the same epoch says V), ``fix_estimated`` (dead
    reckoning or typed in), ``fix_null_island`` (0, 0), ``fix_off_earth`` (also not a number), ``fix_satellites`` (fewer
    than 4), ``fix_hdop`` (above 5), ``fix_undated``, ``fix_date_before_build`` and ``fix_date_beyond_horizon`` (20
    years after the build: a week rollover or a spoof, whose position isn't believed either). What a receiver does not
    say (a HDOP, when it sends no GGA) refuses nothing.

    A good fix that does not follow from the last one goes into quarantine: ``fix_jump`` (faster than 60 m/s),
    ``fix_time_backwards``, ``fix_time_stands_still``. Three in a row that follow from each other are believed again, so
    that one false fix can't shut out the right ones.
    """

    def __init__(self, build_s: float, counts: Counter[str] | None = None) -> None:
        self.counts: Counter[str] = Counter() if counts is None else counts
        self._build_s = build_s
        self._last: _Seen | None = None
        self._suspect: _Seen | None = None
        self._suspects = 0
        self._anchored_s = -math.inf

    def take(self, fix: Fix) -> list[Event]:
        """Judge a fix whose ``at_s`` is a reading of the boot-time clock; return what the core should hear."""
        refusal = self._refusal(fix)
        if refusal is not None or fix.time is None:
            self.counts[refusal or "fix_undated"] += 1
            self._suspect, self._suspects = None, 0
            return []
        seen, mismatch = _follow(self._last, fix, fix.time.timestamp())
        if mismatch is not None:
            seen, misfit = _follow(self._suspect, fix, seen.time_s)
            self._suspect, self._suspects = seen, 1 if misfit else self._suspects + 1
            if self._suspects < RESUME_FIXES:
                self.counts[mismatch] += 1
                return []
        self._suspect, self._suspects = None, 0
        self._last = seen
        return self._believed(seen)

    def _refusal(self, fix: Fix) -> str | None:
        time_s = None if fix.time is None else fix.time.timestamp()
        checks = {
            "fix_void": fix.void,
            "fix_estimated": fix.estimated,
            # Written so that NaN fails, too.
            "fix_off_earth": not (abs(fix.lat) <= 90 and abs(fix.lon) <= 180),
            "fix_null_island": abs(fix.lat) < 1e-6 and abs(fix.lon) < 1e-6,
            "fix_satellites": fix.satellites is not None and fix.satellites < SATELLITES_MIN,
            "fix_hdop": fix.hdop is not None and not fix.hdop <= HDOP_MAX,
            "fix_undated": time_s is None,
            "fix_date_before_build": time_s is not None and time_s < self._build_s,
            "fix_date_beyond_horizon": time_s is not None and time_s > self._build_s + HORIZON_S,
        }
        return next((reason for reason, refused in checks.items() if refused), None)

    def _believed(self, seen: _Seen) -> list[Event]:
        fix = seen.fix
        events: list[Event] = [
            PositionReported(Position(fix.lat, fix.lon, fix.speed_mps, fix.mode, fix.hdop, sampled_s=fix.at_s))
        ]
        if fix.at_s - self._anchored_s >= ANCHOR_EVERY_S:
            self._anchored_s = fix.at_s
            earliest_s = seen.time_s - LEAP_S
            latest_s = seen.time_s + LATENESS_S + LEAP_S
            events.append(TimeHeard(Anchor(fix.at_s, earliest_s, latest_s, ClockQuality.GNSS)))
        return events


@dataclass(frozen=True, slots=True)
class _Seen:
    """A fix that the next one is compared with. ``stepped_back``: its time is not after that of the one before."""

    fix: Fix
    time_s: float
    stepped_back: bool = False


def _follow(before: _Seen | None, fix: Fix, time_s: float) -> tuple[_Seen, str | None]:
    """Compare a fix with the one before; return it, and why it does not follow from that one, or None if it does."""
    if before is None:
        return _Seen(fix, time_s), None
    step_s = time_s - before.time_s
    seen = _Seen(fix, time_s, stepped_back=step_s <= 0)
    if step_s < -LEAP_S:
        return seen, "fix_time_backwards"
    if seen.stepped_back and before.stepped_back:
        return seen, "fix_time_stands_still"
    elapsed_s = max(0.0, fix.at_s - before.fix.at_s) + SPEED_SLACK_S
    return seen, "fix_jump" if distance_m(before.fix, fix) > SPEED_MAX_MPS * elapsed_s else None


def distance_m(a: Fix, b: Fix) -> float:
    """Return how far two fixes lie apart."""
    return great_circle_m(a.lat, a.lon, b.lat, b.lon)


@dataclass(frozen=True, slots=True)
class GpsSettings:
    """Where the receiver is: a serial device and its speed in bit/s (u-blox: 9600 until series 8, 38400 after)."""

    port: str
    baud_rate: int = 9600
    sleeps: bool = True
    """Asked to sleep by UBX-RXM-PMREQ. False: a switch in its supply does it."""

    def __post_init__(self) -> None:
        """Raise ValueError for a speed that no port has."""
        if self.baud_rate <= 0:
            raise ValueError(f"gps.baud_rate must be a speed above 0, such as 9600, not {self.baud_rate}")


def ubx(kind: int, number: int, payload: bytes) -> bytes:
    """Return one UBX message (u-blox interface description, UBX frame structure)."""
    body = bytes((kind, number)) + len(payload).to_bytes(2, "little") + payload
    first = second = 0
    for byte in body:
        first = (first + byte) & 0xFF
        second = (second + first) & 0xFF
    return b"\xb5\x62" + body + bytes((first, second))


BACKUP: Final = ubx(0x02, 0x41, bytes(8) + (0x02).to_bytes(4, "little") + (0x08).to_bytes(4, "little"))
"""UBX-RXM-PMREQ, version 0 of 16 bytes: backup without an end, woken by the receiver's UART. Not forced: over USB it
would never wake. Receivers of other makes pass over it, and go on."""
WAKE: Final = b"\xff" * 8
"""Any edge on its line wakes it; what it hears meanwhile is lost."""


class Health:
    """Tells a dead, deaf or muttering receiver from one that works. Works = it sends RMC or GGA, fix or none."""

    def __init__(self, settings: GpsSettings) -> None:
        self._settings = settings
        self._since_s: float | None = None
        """Since when nothing usable came; None until the port is open and was read."""
        self._bytes = 0
        self._sentences = 0
        self._told: str | None = None
        """Kind of fault that was reported; empty for "works"; None before the first report."""

    def heard(self, data: int, sentences: int, usable: int, now_s: float) -> FaultReported | None:
        """Take in how many bytes, right sentences and RMC or GGA among them came; return what changed, if anything."""
        if self._since_s is None:
            self._since_s = now_s
        self._bytes += data
        self._sentences += sentences
        if usable:
            self._begin(now_s)
            return self._tell("", "")
        if now_s - self._since_s < SILENT_S:
            return None
        port, speed = self._settings.port, self._settings.baud_rate
        if self._sentences:
            kind = "unsuited"
            said = f"unsuited: sentences on {port}, but neither RMC nor GGA: switch both on in the receiver"
        elif self._bytes:
            kind = "noise"
            said = f"noise: bytes but no sentence on {port} at {speed} bit/s: set gps.baud_rate to the receiver's speed"
        else:
            kind = "silent"
            said = f"silent: nothing on {port} for {SILENT_S:.0f} s: check the cable and the receiver's power"
        self._begin(now_s)
        return self._tell(kind, said)

    def lost(self, error: str) -> FaultReported | None:
        """The port cannot be opened or read. Open again, the receiver has its full time to speak."""
        self._begin(None)
        remedy = "check that the receiver is plugged in and that this user may open it (group dialout)"
        return self._tell("lost", f"lost: {error}: {remedy}; it is tried again by itself")

    def asleep(self) -> None:
        """It is not listened to: awake again, it has its full time to speak."""
        self._begin(None)

    def _begin(self, now_s: float | None) -> None:
        self._since_s, self._bytes, self._sentences = now_s, 0, 0

    def _tell(self, kind: str, detail: str) -> FaultReported | None:
        if kind == self._told:
            return None
        self._told = kind
        return FaultReported("gps", active=bool(kind), detail=detail)


class Gps:
    """The worker (``hw.worker.Worker``). Opens the port again by itself, so ``run`` only returns when stopped.

    ``counts`` holds refused sentences and fixes by reason (``NmeaStream``, ``Gate``), ``fixes`` that were believed, and
    ``port_lost``, ``sleeps``.
    """

    name = "gps"

    def __init__(self, settings: GpsSettings, clock: Clock, build_s: float) -> None:
        self.counts: Counter[str] = Counter()
        self._settings = settings
        self._clock = clock
        self._gate = Gate(build_s, self.counts)
        self._awake = Flag()
        self._awake.set()

    def set_loads(self, loads: Loads) -> None:
        """Have the receiver sleep, or wake. From any thread; returns at once."""
        if loads.gnss:
            self._awake.set()
        else:
            self._awake.clear()

    def run(self, life: Life) -> None:
        """Serve the receiver until stopped. Emits positions, times, and its own faults."""
        health = Health(self._settings)
        wait_s = RETRY_FIRST_S
        while not life.stop.is_set():
            if not self._awake.is_set():
                # Its port is closed: what it says is not read, and silence is no fault.
                life.beat()
                self._awake.wait(WAKE_S)
                continue
            try:
                with serial.Serial(
                    self._settings.port, self._settings.baud_rate, timeout=READ_TIMEOUT_S, exclusive=True
                ) as port:
                    wait_s = RETRY_FIRST_S
                    port.write(WAKE)
                    self._listen(port, health, life)
            # ValueError: a speed the driver does not know. termios.error: something that is no serial port.
            except (OSError, ValueError, termios.error) as error:
                self.counts["port_lost"] += 1
                self._emit(life, health.lost(str(error)))
                self._wait(life, wait_s)
                wait_s = min(RETRY_MAX_S, wait_s * 2)

    def _listen(self, port: serial.Serial, health: Health, life: Life) -> None:
        """Read until stopped or to sleep; raise OSError when the port is gone."""
        stream = NmeaStream(self.counts)
        receiver = Receiver()
        while not life.stop.is_set():
            if not self._awake.is_set():
                self._sleep(port, health)
                return
            life.beat()
            data = port.read(1)
            if data:
                data += port.read(min(port.in_waiting, READ_MAX))
            now_s = self._clock.boot_s()
            before, usable_before = stream.accepted.total(), _usable(stream)
            fixes = [receiver.take(sentence, now_s) for sentence in stream.feed(data)]
            if not data:
                fixes.append(receiver.flush())
            for fix in fixes:
                for event in self._gate.take(fix) if fix is not None else ():
                    self.counts["fixes"] += isinstance(event, PositionReported)
                    life.emit(event)
            accepted = stream.accepted.total() - before
            self._emit(life, health.heard(len(data), accepted, _usable(stream) - usable_before, now_s))

    def _sleep(self, port: serial.Serial, health: Health) -> None:
        self.counts["sleeps"] += 1
        health.asleep()
        if self._settings.sleeps:
            port.write(BACKUP)
            port.flush()

    @staticmethod
    def _emit(life: Life, fault: FaultReported | None) -> None:
        if fault is not None:
            life.emit(fault)

    @staticmethod
    def _wait(life: Life, wait_s: float) -> None:
        """Wait in pieces short enough for the watchdog."""
        while wait_s > 0 and not life.stop.wait(min(1.0, wait_s)):
            life.beat()
            wait_s -= 1.0


def _usable(stream: NmeaStream) -> int:
    return stream.accepted["RMC"] + stream.accepted["GGA"]
