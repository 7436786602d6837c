"""What passes between ingest, store and authority."""

from __future__ import annotations

from dataclasses import dataclass
from enum import Enum

from cloud_sync.carrier_settings import Outgoing


@dataclass(frozen=True, slots=True)
class Box:
    """A car's box and its two public keys (compressed P-256)."""

    vehicle: str
    signing_public: bytes
    agreement_public: bytes


@dataclass(frozen=True, slots=True)
class LogPlace:
    """How far a box's log is held without a gap, and the digest of that row."""

    up_to_seq: int
    digest: bytes


@dataclass(frozen=True, slots=True)
class Taken:
    """What became of a batch: rows that were new, what may be acknowledged, what to ask for, whether it was a fork."""

    new: int
    place: LogPlace
    resend_from: int | None
    alarm: bool


@dataclass(frozen=True, slots=True)
class ListRow:
    """One signed and sealed reservation list. ``signed_by``: the key's id, which the seal hides; None: not known."""

    vehicle: str
    version: int
    issued_s: int
    document: bytes
    signed_by: bytes | None


@dataclass(frozen=True, slots=True)
class Outcome:
    """What became of one message from a box: ``taken``, or the word of its refusal; what to send, in order.

    ``store_id``: whose rows it brought, if it was a box's batch.
    """

    word: str
    messages: tuple[Outgoing, ...] = ()
    store_id: bytes | None = None


class StatusResult(Enum):
    """Whether a status is news."""

    NEW = "new"
    STALE = "stale"
