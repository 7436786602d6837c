"""The card reader: watches for cards, turns a tap into an access request, and mends its chip.

What a person at the windscreen gets from here is one ``AccessRequested`` a tap, or one ``CardsRefused``. Which card it
was is known only by its keyed reference: the number on the card goes into no log or count, and into an event only
where the town hall asked for it (a capture).
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from functools import partial
from typing import Final, Protocol

import serial

from hw.clock_sources import Clock
from hw.desfire import NotProven, prove
from hw.pn532 import Pn532, Transport
from hw.taps import KEY_BYTES_MIN, CardGone, Tap, TapFilter, Target, card_ref
from hw.worker import AdapterError, Life
from onboard.core.events import AccessRequested, CardCredential, CardsRefused, FaultReported, Intent
from onboard.core.grants import Assurance

__all__ = ["CardLink", "CardReader", "CardReaderSettings", "TapFilter", "Target", "card_ref", "serial_port"]

READ_TIMEOUT_S: Final = 0.05
WRITE_TIMEOUT_S: Final = 0.5
PING_S: Final = 10.0
"""With no card for this long the chip is asked who it is."""
STEADY_S: Final = 2.0
"""A fault is over when the reader has worked for this long; a flapping one is told once."""
BACK_OFF_S: Final = (1.0, 10.0)
"""First and longest wait between two attempts once every cure has failed."""
BEAT_S: Final = 2.0
SPEAKS_14443_4: Final = 0x20
"""Bit of SAK."""
LEFT_EARLY: Final = "left_early"
TOO_SLOW: Final = "too_slow"


@dataclass(frozen=True, slots=True)
class CardReaderSettings:
    """Where the reader is and how often it looks. Raises ValueError for a value that makes no sense."""

    port: str
    baud_rate: int = 115200
    poll_interval_s: float = 0.25
    proof_max_s: float = 0.35
    """A proof that took longer may have come from far away. It takes some 100 ms (three short commands; an estimate:
    measure it with the commune's cards, and come near it)."""

    def __post_init__(self) -> None:
        if not self.port:
            raise ValueError("the card reader needs a port, for example /dev/serial/by-id/…")
        if not 9600 <= self.baud_rate <= 1_288_000:
            raise ValueError(f"a PN532 speaks 9600 to 1288000 Bd, not {self.baud_rate}")
        if not 0.05 <= self.poll_interval_s <= 1.0:
            raise ValueError(f"poll_interval_s must be 0.05 to 1.0, not {self.poll_interval_s}")
        if not 0.05 <= self.proof_max_s <= 2.0:
            raise ValueError(f"proof_max_s must be 0.05 to 2.0, not {self.proof_max_s}")


class CardLink(Protocol):
    """The seam to a reader of any make. Every method but ``close`` raises ``AdapterError`` when the reader fails.

    ``poll`` returns what is in the field now: no card is an empty list, two cards are two targets (a reader that
    can't tell says so in its own documentation). ``rest`` ends what ``poll`` began; until then the one card that was
    found may be spoken to, if it speaks ISO 14443-4. ``cures`` are named attempts to mend the reader, gentlest first;
    opening it anew comes after them. ``counts`` are the reader's troubles by reason.
    """

    counts: Counter[str]

    @property
    def cures(self) -> tuple[tuple[str, Callable[[], None]], ...]:
        """What may help short of ``open``."""
        ...

    def open(self) -> None:
        """Get the reader ready, whatever state it is in."""
        ...

    def close(self) -> None:
        """Give the device back."""
        ...

    def ping(self) -> None:
        """Ask the reader for a sign of life."""
        ...

    def poll(self) -> list[Target]:
        """Return the cards in the field."""
        ...

    def exchange(self, command: bytes) -> bytes:
        """Send the card one command and return its answer. ``CardGone``: it gave none."""
        ...

    def rest(self) -> None:
        """Let the cards go until the next poll."""
        ...


def serial_port(settings: CardReaderSettings) -> Transport:
    """Open the serial port, for this process alone. Raises OSError (pyserial's SerialException is one)."""
    return serial.Serial(
        settings.port, settings.baud_rate, timeout=READ_TIMEOUT_S, write_timeout=WRITE_TIMEOUT_S, exclusive=True
    )


@dataclass(frozen=True, slots=True)
class Book:
    """What the reader asks its box, from any thread.

    ``key`` returns the slot and the key that the card with this reference must prove; None for one whose number is
    enough, or that nobody here knows. ``capturing`` tells whether an unknown card's number is waited for: only then
    does one leave this module, in ``CardCredential.uid``. ``noticed`` hears at once that somebody holds a card: proof
    and commit take their time.
    """

    key: Callable[[bytes], tuple[int, bytes] | None] = lambda _ref: None
    capturing: Callable[[], bool] = lambda: False
    noticed: Callable[[], None] = lambda: None


ALONE: Final = Book()
"""Nobody is known."""


class CardReader:
    """The worker. ``box_key`` keys the card references (at least 16 bytes, else ValueError).

    ``resets`` are named cures by wire (``hw.card_resets``), the gentlest first; without one, the last cure is to open
    the port anew. ``link`` is the reader; by default a PN532 on ``settings.port``.

    ``counts``: ``taps``, ``refused_<reason>``, ``locked_out`` and ``rate_bound`` of the filter; the chip's
    ``missing_acks``, ``missing_replies``, ``damaged_frames``, ``garbage_bytes``, ``stale_frames``,
    ``unexpected_replies``, ``refused_commands``, ``port_errors``, ``close_failed``; ``failures``, ``mended_<cure>``,
    ``pings``, and ``proven``, ``not_proven``, ``left_early`` and ``too_slow`` cards of the worker.
    """

    name: str = "card_reader"

    def __init__(
        self,
        settings: CardReaderSettings,
        clock: Clock,
        box_key: bytes,
        resets: Sequence[tuple[str, Callable[[], None]]] = (),
        link: CardLink | None = None,
        book: Book = ALONE,
    ) -> None:
        if len(box_key) < KEY_BYTES_MIN:
            raise ValueError(f"the box key has {len(box_key)} bytes; card references need {KEY_BYTES_MIN} or more")
        self._settings = settings
        self._clock = clock
        self._box_key = box_key
        self._resets = resets
        self._link: CardLink = Pn532(lambda: serial_port(settings)) if link is None else link
        self._book = book
        self.counts = self._link.counts
        self._taps = TapFilter(self.counts)

    def run(self, life: Life) -> None:
        """Poll until stopped. Mends the reader itself and never raises ``AdapterError``."""
        health = _Health(self._ladder(), len(self._link.cures))
        idle_since_s = self._clock.boot_s()
        try:
            while not life.stop.is_set():
                life.beat()
                began_s = self._clock.boot_s()
                try:
                    health.mend()
                    if self._look(life):
                        idle_since_s = began_s
                    elif began_s - idle_since_s >= PING_S:
                        idle_since_s = began_s
                        self.counts["pings"] += 1
                        self._link.ping()
                except AdapterError as error:
                    self.counts["failures"] += 1
                    if health.failed():
                        life.emit(FaultReported(self.name, active=True, detail=self._advice(error)))
                    _wait(life, health.wait_s)
                    continue
                mended = health.worked()
                if mended:
                    self.counts[f"mended_{mended}"] += 1
                if health.over(began_s):
                    life.emit(FaultReported(self.name, active=False))
                interval_s = self._settings.poll_interval_s
                _wait(life, max(interval_s / 2, interval_s - (self._clock.boot_s() - began_s)))
        finally:
            self._link.close()

    def _look(self, life: Life) -> bool:
        """Poll once and tell what is new. Returns whether any card is there."""
        targets = self._link.poll()
        seen = self._taps.polled(targets, self._clock.boot_s())
        if seen is not None:
            self._book.noticed()
        if isinstance(seen, Tap):
            try:
                life.emit(self._heard(seen.uid, targets[0]))
            except AdapterError:
                # Whoever stands there must not wait for an answer that was lost on the way.
                self.counts[LEFT_EARLY] += 1
                self._taps.forget(seen.uid)
                life.emit(CardsRefused(LEFT_EARLY))
                raise
        elif seen is not None:
            life.emit(CardsRefused(seen.reason))
        self._link.rest()
        return bool(targets)

    def _heard(self, uid: bytes, target: Target) -> AccessRequested | CardsRefused:
        """Have a card prove itself if it should; return what its holder wants.

        Proof that took too long is none: it may have come from a card far away. (A fast relay is not excluded.) A card
        that proves nothing is a copy, however long it took.
        """
        ref, asked_s = card_ref(self._box_key, uid), self._clock.boot_s()
        wanted, assurance = self._book.key(ref), Assurance.UID
        if wanted is not None:
            try:
                proven = bool(target.sak & SPEAKS_14443_4) and self._proves(*wanted)
            except CardGone:
                self.counts[LEFT_EARLY] += 1
                self._taps.forget(uid)
                return CardsRefused(LEFT_EARLY)
            if proven and self._clock.boot_s() - asked_s > self._settings.proof_max_s:
                self.counts[TOO_SLOW] += 1
                return CardsRefused(TOO_SLOW)
            self.counts["proven" if proven else "not_proven"] += 1
            assurance = Assurance.MUTUAL if proven else Assurance.UID
        number = uid if wanted is None and self._book.capturing() else b""
        return AccessRequested(CardCredential(ref, assurance, number), Intent.TAP, asked_s=asked_s)

    def _proves(self, slot: int, key: bytes) -> bool:
        try:
            prove(self._link.exchange, slot, key)
        except NotProven:
            return False
        return True

    def _ladder(self) -> tuple[tuple[str, Callable[[], None]], ...]:
        by_wire = ((name, partial(self._after, reset)) for name, reset in self._resets)
        return (*self._link.cures, ("reopen", self._link.open), *by_wire)

    def _after(self, reset: Callable[[], None]) -> None:
        reset()
        self._link.open()

    def _advice(self, error: AdapterError) -> str:
        return (
            f"{error}. Nobody can open the car with a card until it works; phones still can. Check the plug and the "
            f"power of the reader on {self._settings.port}; it is tried again by itself."
        )


class _Health:
    """Which cure is next. Each failure climbs one rung; after the last one the fault is told and there is a wait.

    The first rung taken is the one that opens the reader, for it begins closed.
    """

    def __init__(self, rungs: tuple[tuple[str, Callable[[], None]], ...], opening: int) -> None:
        self._rungs = rungs
        self._opening = opening
        self._rung: int | None = opening
        self._started = False
        self._faulty = False
        self._well_since_s: float | None = None
        self._back_off_s = BACK_OFF_S[0]
        self.wait_s = 0.0

    def mend(self) -> None:
        """Apply the cure that is due, if any."""
        if self._rung is not None:
            self._rungs[self._rung][1]()

    def failed(self) -> bool:
        """Take in a failure; return whether a fault begins. ``wait_s`` is how long to wait before the next cure."""
        self._well_since_s = None
        self.wait_s = 0.0
        self._rung = 0 if self._rung is None else self._rung + 1
        if self._rung < len(self._rungs):
            return False
        self._rung = self._opening
        self.wait_s = self._back_off_s
        self._back_off_s = min(BACK_OFF_S[1], 2 * self._back_off_s)
        begins = not self._faulty
        self._faulty = True
        return begins

    def worked(self) -> str | None:
        """Take in a success; return the name of the cure that brought it, None if none was needed."""
        rung, self._rung = self._rung, None
        started, self._started = self._started, True
        return None if rung is None or not started else self._rungs[rung][0]

    def over(self, now_s: float) -> bool:
        """Tell, once, that a fault is over: the reader has worked steadily."""
        if self._well_since_s is None:
            self._well_since_s = now_s
        if now_s - self._well_since_s < STEADY_S:
            return False
        self._back_off_s = BACK_OFF_S[0]
        over, self._faulty = self._faulty, False
        return over


def _wait(life: Life, duration_s: float) -> None:
    """Wait, beating, until the time is over or the worker is stopped."""
    while duration_s > 0 and not life.stop.is_set():
        life.beat()
        life.stop.wait(min(BEAT_S, duration_s))
        duration_s -= BEAT_S
