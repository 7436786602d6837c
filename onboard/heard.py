"""What a phone's message comes to, once the conversation (``onboard.handshake``) has read it.

``ticket`` names what waits for an answer.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

from cloud_sync.documents import KeySet
from onboard.core.events import Intent, PhoneCredential


@dataclass(frozen=True, slots=True)
class Asked:
    """A person wants in, out or done; who it is has been proven in this conversation."""

    ticket: int
    credential: PhoneCredential
    intent: Intent


@dataclass(frozen=True, slots=True)
class Brought:
    """A phone has handed over a whole document. Nobody has looked into it."""

    ticket: int
    document: bytes


@dataclass(frozen=True, slots=True)
class Wanted:
    """A phone takes rows along: from ``from_seq`` (0: the first not acknowledged), from ``offset`` in their batch."""

    ticket: int
    from_seq: int
    offset: int


@dataclass(frozen=True, slots=True)
class Told:
    """Nothing to decide: answer this. ``known``: the phone has proven itself, and may hear how the box is.

    ``offset``: where the document that it brings goes on.
    """

    ticket: int
    status: str
    reason: str
    known: bool
    offset: int | None = None


Heard = Asked | Brought | Wanted | Told


@dataclass(frozen=True, slots=True)
class Book:
    """What counts now: the commune's keys, and the phone keys of what begins with these 8 bytes."""

    key_set: KeySet | None
    phone_keys: Callable[[bytes], tuple[bytes, ...]]
