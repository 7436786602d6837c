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
    BOX_REQUEST = 12
    BOX_ANSWER = 13

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
        DocumentType.BOX_ANSWER,
    }
)
"""Types that a key of the key set may sign. A key set itself is signed by a root only."""

BOX_TYPES: Final = frozenset(
    {DocumentType.EVENT_BATCH, DocumentType.STATUS, DocumentType.OFFLINE, DocumentType.BOX_REQUEST}
)
"""Types that a box signs."""

SEALED_TYPES: Final = frozenset({DocumentType.RESERVATION_LIST, DocumentType.EVENT_BATCH, DocumentType.BOX_ANSWER})
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
    DocumentType.BOX_REQUEST: _SMALL,
    DocumentType.BOX_ANSWER: MAX_DOCUMENT_BYTES,
}
"""Bound of the whole document in bytes. A small one fits one GATT value."""


class Reason(IntEnum):
    """Why a document was refused: counted by ``word``, told to technicians by number and ``meaning``."""

    TOO_LARGE = 1
    NOT_CBOR = 2
    NOT_DETERMINISTIC = 3
    BAD_ENVELOPE = 4
    BAD_ALGORITHM = 5
    UNKNOWN_TYPE = 6
    UNKNOWN_VERSION = 7
    WRONG_TYPE = 8
    NOT_SEALED = 9
    BAD_SEAL = 10
    OTHER_RECIPIENT = 11
    BAD_SCHEMA = 12
    CRITICAL_KEY = 13
    UNKNOWN_KEY_ID = 14
    KEY_NOT_ALLOWED = 15
    BAD_SIGNATURE = 16
    WRONG_VEHICLE = 17
    BAD_TIMES = 18
    BAD_CHAIN = 19
    CONTRADICTION = 20
    VERSION_TOO_LOW = 21
    EXPIRED = 22
    BAD_TOPIC = 23
    BAD_KEY_FILE = 24

    @property
    def word(self) -> str:
        """Name for counters."""
        return self.name.lower()

    @property
    def meaning(self) -> str:
        """One sentence for people."""
        return _MEANINGS[self]


_MEANINGS: Final[dict[Reason, str]] = {
    Reason.TOO_LARGE: "More bytes, items or levels than its type may have.",
    Reason.NOT_CBOR: "Truncated, followed by other bytes, or with an item that no document uses.",
    Reason.NOT_DETERMINISTIC: "Readable, but not written in the one allowed way (RFC 8949 section 4.2.1).",
    Reason.BAD_ENVELOPE: "No COSE_Sign1 or COSE_Encrypt of the one allowed shape.",
    Reason.BAD_ALGORITHM: "Not the one algorithm that its type has.",
    Reason.UNKNOWN_TYPE: "A type of document that is not in use here.",
    Reason.UNKNOWN_VERSION: "Another major version: its rules are not known here.",
    Reason.WRONG_TYPE: "A document, but not of the type that is expected here.",
    Reason.NOT_SEALED: "Its type is always sealed, and it is not.",
    Reason.BAD_SEAL: "Damaged, or sealed for another car.",
    Reason.OTHER_RECIPIENT: "Sealed to a key that is not ours.",
    Reason.BAD_SCHEMA: "A field is missing, or its type, length or range is wrong.",
    Reason.CRITICAL_KEY: "A negative key that this version does not know: it would change what the rest means.",
    Reason.UNKNOWN_KEY_ID: "Signed with a key that is not known here.",
    Reason.KEY_NOT_ALLOWED: "Signed with a known key that may not sign this type.",
    Reason.BAD_SIGNATURE: "The signature does not hold.",
    Reason.WRONG_VEHICLE: "For another car.",
    Reason.BAD_TIMES: "A span of time that is empty, or longer than allowed.",
    Reason.BAD_CHAIN: "The rows do not follow one another, or their digests do not fit.",
    Reason.CONTRADICTION: "Two fields cannot both be true.",
    Reason.VERSION_TOO_LOW: "Older than what holds already (judged by whoever keeps the version).",
    Reason.EXPIRED: "Its time is over (judged by whoever knows the time).",
    Reason.BAD_TOPIC: "Not a topic of this protocol.",
    Reason.BAD_KEY_FILE: "A key file that is no such key, or that others may read or change.",
}


class Refused(Exception):  # noqa: N818 - "refused" is the word everywhere; a stranger's bytes are no error of ours
    """A document was refused; nothing of it may be used. ``detail`` is for a technician and holds no secret."""

    def __init__(self, reason: Reason, detail: str = "") -> None:
        super().__init__(f"{reason.word} ({reason.value}){': ' if detail else ''}{detail}")
        self.reason = reason
        self.detail = detail
