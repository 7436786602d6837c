"""Names and bounds of every document, and the one error that a bad one raises.

Numbers on the wire are never renumbered and never used again for something else (``docs/protocol.md``).
"""

from __future__ import annotations

from enum import IntEnum
from typing import Final

MAJOR: Final = 1
"""Major version of every document type. Another one is refused: its rules are not known here."""

MAX_DOCUMENT_BYTES: Final = 64 * 1024
"""No document is larger: a phone carries at most this much in a visit."""


class DocumentType(IntEnum):
    """What a document is; stands in the protected header."""

    KEY_SET = 1
    RESERVATION_LIST = 2
    PASS = 3
    COMMAND = 4
    ACK = 5
    RESEND = 6
    TIME_PROOF = 7
    UPDATE = 8
    """Reserved: a software update. No such document is accepted yet."""
    EVENT_BATCH = 9
    STATUS = 10
    OFFLINE = 11

    @property
    def word(self) -> str:
        """Name for people and counters."""
        return self.name.lower()


AUTHORITY_TYPES: Final = frozenset(
    {
        DocumentType.RESERVATION_LIST,
        DocumentType.PASS,
        DocumentType.COMMAND,
        DocumentType.ACK,
        DocumentType.RESEND,
        DocumentType.TIME_PROOF,
        DocumentType.UPDATE,
    }
)
"""Types that a key of the key set may sign. A key set itself is signed by a root only."""

BOX_TYPES: Final = frozenset({DocumentType.EVENT_BATCH, DocumentType.STATUS, DocumentType.OFFLINE})
"""Types that a box signs."""

SEALED_TYPES: Final = frozenset({DocumentType.RESERVATION_LIST, DocumentType.EVENT_BATCH})
"""Types that are always sealed: couriers and brokers carry them and must not read them."""

_SMALL: Final = 512
MAX_BYTES: Final[dict[DocumentType, int]] = {
    DocumentType.KEY_SET: 4096,
    DocumentType.RESERVATION_LIST: MAX_DOCUMENT_BYTES,
    DocumentType.PASS: _SMALL,
    DocumentType.COMMAND: _SMALL,
    DocumentType.ACK: _SMALL,
    DocumentType.RESEND: _SMALL,
    DocumentType.TIME_PROOF: _SMALL,
    DocumentType.UPDATE: MAX_DOCUMENT_BYTES,
    DocumentType.EVENT_BATCH: MAX_DOCUMENT_BYTES,
    DocumentType.STATUS: 4096,
    DocumentType.OFFLINE: _SMALL,
}
"""Bound of the whole document in bytes. A small one fits one GATT value."""


class Reason(IntEnum):
    """Why a document was refused. Counted by name, told to technicians by number."""

    TOO_LARGE = 1
    """More bytes, items or levels than the type may have."""
    NOT_CBOR = 2
    """Truncated, trailing bytes, or an item that no document uses."""
    NOT_DETERMINISTIC = 3
    """Readable, but not written in the one way that is allowed (RFC 8949 section 4.2.1)."""
    BAD_ENVELOPE = 4
    """No COSE_Sign1 or COSE_Encrypt of the allowed shape."""
    BAD_ALGORITHM = 5
    UNKNOWN_TYPE = 6
    UNKNOWN_VERSION = 7
    WRONG_TYPE = 8
    """A document, but not the one expected here."""
    NOT_SEALED = 9
    BAD_SEAL = 10
    """Damaged, or sealed for another car."""
    OTHER_RECIPIENT = 11
    """Sealed to a key that is not ours."""
    BAD_SCHEMA = 12
    """A field is missing, or its type, length or range is wrong."""
    CRITICAL_KEY = 13
    """A negative key that this version does not know."""
    UNKNOWN_KEY_ID = 14
    KEY_NOT_ALLOWED = 15
    """The key is known and may not sign this type."""
    BAD_SIGNATURE = 16
    WRONG_VEHICLE = 17
    BAD_TIMES = 18
    """A time window that is empty, or longer than allowed."""
    BAD_CHAIN = 19
    """The rows do not follow one another, or their digests do not."""
    CONTRADICTION = 20
    """Two fields cannot both be true."""
    VERSION_TOO_LOW = 21
    """For the caller: older than the version that already holds."""
    EXPIRED = 22
    """For the caller: its time is over."""
    UNKNOWN_RECORD = 23
    BAD_TOPIC = 24
    BAD_KEY_FILE = 25

    @property
    def word(self) -> str:
        """Name for counters."""
        return self.name.lower()


class Refused(Exception):  # noqa: N818 - "refused" is the word everywhere; a stranger's bytes are no error of ours
    """A document was refused; nothing of it may be used. ``detail`` is for a technician and holds no secret."""

    def __init__(self, reason: Reason, detail: str = "") -> None:
        super().__init__(f"{reason.word} ({reason.value}){': ' if detail else ''}{detail}")
        self.reason = reason
        self.detail = detail
