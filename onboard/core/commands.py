"""What the core wants done: a closed union, performed strictly in the order of the list.

``Record`` is always first. If it cannot be committed, nothing after it happens and the state before it holds.
"""

from __future__ import annotations

from dataclasses import dataclass
from enum import StrEnum

from onboard.core.records import Recordable


class Action(StrEnum):
    """What a door can be told."""

    UNLOCK = "unlock"
    LOCK = "lock"


class Pattern(StrEnum):
    """The five answers of light and sound (``hw.door`` has their table)."""

    GRANTED = "granted"
    DENIED = "denied"
    TRY_AGAIN = "try_again"
    ONE_CARD = "one_card"
    OUT_OF_ORDER = "out_of_order"


class SupplyLevel(StrEnum):
    """Steps of saving the 12 V battery, from full service to switched off."""

    NORMAL = "normal"
    SAVING = "saving"
    CRITICAL = "critical"
    OFF = "off"


@dataclass(frozen=True, slots=True)
class Record:
    """Commit these and the kept state, in one transaction. Empty: only the kept state changed."""

    records: tuple[Recordable, ...]


@dataclass(frozen=True, slots=True)
class Actuate:
    """Move the lock. The outcome comes back as ``ActuationSettled`` with the same number."""

    actuation: int
    action: Action


@dataclass(frozen=True, slots=True)
class Show:
    """Give one of the five answers."""

    pattern: Pattern


@dataclass(frozen=True, slots=True)
class Reply:
    """Answer a request: ``status`` is ``granted``, ``denied`` or ``accepted``; ``reason`` a word of ``access``."""

    request: int
    status: str
    reason: str


@dataclass(frozen=True, slots=True)
class PublishBatch:
    """Send the stored records of these numbers, both included. May be lost: the core asks again."""

    from_seq: int
    to_seq: int


@dataclass(frozen=True, slots=True)
class PublishStatus:
    """Send a fresh status document, built from the state."""


@dataclass(frozen=True, slots=True)
class ReleaseRecords:
    """Everything up to here is the cloud's; the store may drop it when it needs the room or after its time."""

    up_to_seq: int


class ReaderPace(StrEnum):
    """How often the card reader looks for cards: as built, at leisure, or not at all."""

    FULL = "full"
    SLOW = "slow"
    OFF = "off"


@dataclass(frozen=True, slots=True)
class Loads:
    """What is to draw power. The radio for phones is not among them: it stays on until the box itself is off."""

    reader: ReaderPace = ReaderPace.FULL
    gnss: bool = True
    modem: bool = True


@dataclass(frozen=True, slots=True)
class SetLoads:
    """Shed or restore loads. A box begins with all of them on."""

    loads: Loads


@dataclass(frozen=True, slots=True)
class PowerOff:
    """Switch the box off, and on again by itself after so long, counted from now."""

    wake_in_s: float


Command = Record | Actuate | Show | Reply | PublishBatch | PublishStatus | ReleaseRecords | SetLoads | PowerOff
"""Closed union of everything the core can want."""
