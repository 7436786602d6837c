"""What a card is at the reader, and which sightings of it count as a tap. Pure: no I/O, the time is an argument.

A card held at the reader is one tap, however long it is held. A card counts again once it has been away for a second
and its lock-out is over. Two cards are refused together. Nothing here prints or counts a card's number.
"""

from __future__ import annotations

import hashlib
import hmac
from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import Final

from onboard.core.cards import number_fault

REARM_S: Final = 1.0
"""A card is away when its misses span this long: a card in the field is missed now and then."""

REARM_MISSES: Final = 3
"""And when it was missed this often in a row: some readers see a 7-byte card only at every second poll."""

LOCKOUT_S: Final = 3.0
"""The same card (or the same refusal) is not told again before this time."""

BURST: Final = 20
"""So many taps may follow each other freely; refusals have as many of their own."""

REFILL_S: Final = 6.0
"""After a burst one more every so many seconds: at most 600 an hour, and a waiting driver waits no longer than this."""

REMEMBERED_MAX: Final = 64
"""Cards remembered at a time. Honest use needs two or three."""

TWO_CARDS: Final = "two_cards"

REF_BYTES: Final = 8
KEY_BYTES_MIN: Final = 16


@dataclass(frozen=True, slots=True)
class Target:
    """A card in the field: its number as on air, its SAK byte and its ATS (empty if it has none).

    ``uid`` is empty for a card that answered in a way nobody can read. The number stays out of ``repr``, so that no
    log ever shows it.
    """

    uid: bytes = field(repr=False)
    sak: int
    ats: bytes = field(repr=False)


class CardGone(Exception):  # noqa: N818 - what happened
    """The card left the field while it was spoken to."""


@dataclass(frozen=True, slots=True)
class Tap:
    """A person held a usable card to the reader."""

    uid: bytes = field(repr=False)


@dataclass(frozen=True, slots=True)
class Refusal:
    """A person held something else to the reader: ``two_cards``, or what ``number_fault`` says."""

    reason: str


def card_ref(box_key: bytes, uid: bytes) -> bytes:
    """Return the 8 bytes by which lists and records know a card: HMAC-SHA256(box key, UID), cut."""
    return hmac.digest(box_key, uid, hashlib.sha256)[:REF_BYTES]


class RateBound:
    """At most ``BURST`` at once and then one every ``REFILL_S``."""

    def __init__(self) -> None:
        self._left = float(BURST)
        self._filled_s: float | None = None

    def take(self, now_s: float) -> bool:
        """Tell whether one more may pass at ``now_s``, and if so count it."""
        if self._filled_s is not None:
            self._left = min(BURST, self._left + max(0.0, now_s - self._filled_s) / REFILL_S)
        self._filled_s = now_s
        if self._left < 1:
            return False
        self._left -= 1
        return True


@dataclass(slots=True)
class _Memory:
    """What the filter knows of one card, or of one kind of refusal."""

    held: bool = False
    told_s: float | None = None
    seen_s: float = 0.0
    misses: int = 0
    missed_s: float = 0.0

    def locked_out(self, now_s: float) -> bool:
        return self.told_s is not None and now_s - self.told_s < LOCKOUT_S


class TapFilter:
    """Turns polls into taps and refusals, at most one a poll.

    - A card is told when it appears, not while it stays. Polls that failed are not shown to the filter, so a reader
      that was out of order for a while does not make a forgotten card tap again.
    - It appears again after ``REARM_MISSES`` misses in a row that span ``REARM_S``. Within ``LOCKOUT_S`` of the last
      tap that appearance is swallowed (``locked_out``) and the card must go away once more.
    - Two cards are one refusal, and neither of them counts until it has been away: nobody opens a car with whichever
      card of a wallet leaves the field last.
    - Above the rate bound nothing is told yet (``rate_bound``, counted a poll); who keeps holding the card is served
      when the bound allows.
    """

    def __init__(self, counts: Counter[str] | None = None) -> None:
        self.counts: Counter[str] = Counter() if counts is None else counts
        self._memories: dict[bytes | str, _Memory] = {}
        self._taps = RateBound()
        self._refusals = RateBound()

    def polled(self, targets: Sequence[Target], now_s: float) -> Tap | Refusal | None:
        """Take in one poll's cards at boot time ``now_s``; return what a person should get an answer to."""
        subject: bytes | str | None = None
        if len(targets) > 1:
            subject = TWO_CARDS
        elif targets:
            subject = number_fault(targets[0].uid, targets[0].sak) or targets[0].uid
        self._miss_all_but(subject, now_s)
        told = subject is not None and self._appears(subject, now_s)
        if subject == TWO_CARDS:
            for target in targets:
                if number_fault(target.uid, target.sak) is None:
                    self._remember(target.uid, now_s).held = True
        if not told or subject is None:
            return None
        if isinstance(subject, str):
            self.counts[f"refused_{subject}"] += 1
            return Refusal(subject)
        self.counts["taps"] += 1
        return Tap(subject)

    def forget(self, uid: bytes) -> None:
        """Have the card count as new at once: it left before it could be heard to its end."""
        self._memories.pop(uid, None)

    def _appears(self, subject: bytes | str, now_s: float) -> bool:
        """Tell whether this sighting is to be told."""
        memory = self._remember(subject, now_s)
        if memory.held:
            return False
        if memory.locked_out(now_s):
            memory.held = True
            self.counts["locked_out"] += 1
            return False
        bound = self._refusals if isinstance(subject, str) else self._taps
        if not bound.take(now_s):
            self.counts["rate_bound"] += 1
            return False
        memory.held = True
        memory.told_s = now_s
        return True

    def _remember(self, subject: bytes | str, now_s: float) -> _Memory:
        """Return the memory of something seen now."""
        memory = self._memories.setdefault(subject, _Memory())
        memory.seen_s = now_s
        memory.misses = 0
        if len(self._memories) > REMEMBERED_MAX:
            oldest = min((key for key in self._memories if key != subject), key=lambda key: self._memories[key].seen_s)
            del self._memories[oldest]
        return memory

    def _miss_all_but(self, seen: bytes | str | None, now_s: float) -> None:
        """Count a miss for everything else that is remembered, and forget what has been away for long enough."""
        for subject, memory in list(self._memories.items()):
            if subject == seen:
                continue
            if memory.misses == 0:
                memory.missed_s = now_s
            memory.misses += 1
            if memory.misses >= REARM_MISSES and now_s - memory.missed_s >= REARM_S:
                memory.held = False
            if not memory.held and not memory.locked_out(now_s):
                del self._memories[subject]
