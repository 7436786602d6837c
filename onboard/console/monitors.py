"""What moves, until a key is pressed: signals, the CAN bus, the receiver. One short line or table every two seconds."""

from __future__ import annotations

import time
from collections import Counter, deque
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import closing
from typing import Any, Final

import can

from onboard.console.place import Place
from onboard.console.session import Session, spark

EVERY_S: Final = 2.0
KEPT: Final = 24
TABLE_MAX: Final = 12
FRAME_BITS: Final = 111
"""A classical frame of 8 bytes with its gaps, without stuff bits: what the bus load is reckoned with."""


def signals(session: Session, place: Place, _words: Sequence[str]) -> None:
    """Show each signal when it changes, with its last values."""
    told: dict[str, str] = {}
    past: dict[str, deque[float]] = {}
    _until_key(session)
    while True:
        readings = place.daemon.ask("status")["signals"]
        if not readings and not told:
            session.say("Le bus ne dit rien.", "The bus says nothing.")
            told[""] = ""
        for name, reading in readings.items():
            values = past.setdefault(name, deque(maxlen=KEPT))
            values.append(float(reading["value"]))
            old = "" if reading["fresh"] else session.word("  (ancien)", "  (stale)")
            text = f"{reading['value']:g}{old}"
            if told.get(name) != text:
                told[name] = text
                plot = spark(values, min(values), max(values)) if len(values) > 1 else ""
                session.show([f"{name.removeprefix('Vehicle.')[-44:]:<44} {text:<12} {plot}"])
        if session.key(EVERY_S):
            return


def gps(session: Session, place: Place, _words: Sequence[str]) -> None:
    """Show each fix, with how good it is: fewer hashes are better."""
    _until_key(session)
    while True:
        told = place.daemon.ask("place")
        session.show([gps_line(told["fix"], french=session.french)])
        if session.key(EVERY_S):
            return


def gps_line(fix: Mapping[str, Any] | None, *, french: bool) -> str:
    """Return one fix as a line."""
    if fix is None:
        return (
            "pas encore de position : le récepteur voit-il le ciel ?" if french else "no fix yet: does it see the sky?"
        )
    hdop = fix["hdop"]
    good = "#" * min(20, round(hdop * 2)) if hdop is not None else "-"
    speed = f"{fix['speed_mps']:.1f} m/s" if fix["speed_mps"] is not None else ""
    return (
        f"{fix['mode']}D {fix['latitude']:.5f} {fix['longitude']:.5f} {speed:<9} {fix['age_s']:>5.1f} s"
        f"  HDOP {hdop if hdop is not None else '?'} {good}"
    )


def can_bus(session: Session, place: Place, _words: Sequence[str]) -> None:
    """Listen beside the daemon, on a socket of its own that sends nothing: it works with the daemon dead, too."""
    config = place.config.can if place.config is not None else None
    if config is None or config.interface != "socketcan":
        session.say("Seulement avec SocketCAN ; pour slcan : signals.", "With SocketCAN alone; with slcan: signals.")
        return
    try:
        bus = can.Bus(interface="socketcan", channel=config.channel, receive_own_messages=False)
    except (can.CanError, OSError) as error:
        raise OSError(f"{config.channel}: {error}") from error
    _until_key(session)
    with closing(_Listening(bus)) as listening:
        while True:
            listening.listen(EVERY_S)
            session.show(list(listening.table(EVERY_S, config.bitrate or 500_000)))
            if session.key(0.05):
                return


class _Listening:
    """Counts frames by identifier between two looks."""

    def __init__(self, bus: can.BusABC, monotonic_s: Callable[[], float] = time.monotonic) -> None:
        self._bus = bus
        self._monotonic_s = monotonic_s
        self._seen: Counter[int] = Counter()
        self._last: dict[int, bytes] = {}
        self._loads: deque[float] = deque(maxlen=KEPT)

    def listen(self, for_s: float) -> None:
        """Take frames for so long."""
        until_s = self._monotonic_s() + for_s
        while (rest_s := until_s - self._monotonic_s()) > 0:
            try:
                frame = self._bus.recv(rest_s)
            except can.CanError as error:
                raise OSError(str(error)) from error
            if frame is not None and not frame.is_error_frame:
                self._seen[frame.arbitration_id] += 1
                self._last[frame.arbitration_id] = bytes(frame.data)

    def table(self, for_s: float, bitrate: int) -> Iterator[str]:
        """Give the load with its past, and the busiest identifiers; count anew."""
        total = self._seen.total()
        self._loads.append(min(1.0, total * FRAME_BITS / for_s / bitrate))
        yield f"{total / for_s:6.0f}/s  {100 * self._loads[-1]:3.0f} %  {spark(self._loads, 0, 1)}"
        for identifier, count in self._seen.most_common(TABLE_MAX):
            bar = "#" * round(20 * count / max(1, self._seen.most_common(1)[0][1]))
            yield f"  {identifier:08X} {count / for_s:6.1f}/s {self._last[identifier].hex(' '):<23} {bar}"
        self._seen.clear()

    def close(self) -> None:
        """Give the socket back."""
        self._bus.shutdown()


def _until_key(session: Session) -> None:
    session.say("Une touche arrête.", "Any key stops.")
