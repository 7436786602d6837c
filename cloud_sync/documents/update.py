"""A new version of the box's software: the signed ``Update``, the pieces it comes in, and the bundle it makes.

A bundle is one file: ``MAGIC``, the length of the document in 4 bytes, the document, and its content, a zip that Python
imports from as it lies there. The document names the digest of each block of the content, so that a piece proves itself
when it comes: whoever carries it can hold it back, and nothing else.
"""

from __future__ import annotations

import hashlib
import re
from dataclasses import dataclass
from typing import Any, Final

from cloud_sync.documents import cbor, schema
from cloud_sync.documents.keys import KeySet, Signer
from cloud_sync.documents.kinds import MAX_BYTES, DocumentType, Reason, Refused
from cloud_sync.documents.schema import Fields
from cloud_sync.documents.signed import from_authority, make

BLOCK_BYTES: Final = 32_768
"""Bytes of each block but the last: with its envelope it fits one MQTT message."""
BLOCKS_MAX: Final = 256
"""So at most 8 MiB."""
NEEDS_MAX: Final = 64
NEED_BYTES: Final = 96
PART_MAX: Final = 999
"""Largest part of a version: 1.2.3 is number 1002003."""
MAGIC: Final = b"AMIBOXU1"
HEAD_BYTES: Final = len(MAGIC) + 4
_VERSION: Final = re.compile(r"(0|[1-9]\d{0,2})\.(0|[1-9]\d{0,2})\.(0|[1-9]\d{0,2})", re.ASCII)
_NEED: Final = re.compile(r"[a-z0-9-]+==[0-9a-zA-Z.+!]+")


@dataclass(frozen=True, slots=True)
class Update:
    """A version of the software. ``version`` only grows; ``version_text`` reads it.

    ``size`` bytes of content, in blocks whose SHA-256 are ``blocks``. ``needs``: the libraries that it was tested with,
    ``name==version``; they come with the box's package, not with an update.
    """

    version: int
    size: int
    blocks: tuple[bytes, ...]
    needs: tuple[str, ...] = ()


@dataclass(frozen=True, slots=True)
class Piece:
    """Block ``index`` of the update whose signed document has SHA-256 ``update``. Unsigned: its digest is known."""

    update: bytes
    index: int
    data: bytes


def version_number(text: str) -> int:
    """Return the number of a version such as ``1.2.3``; ``ValueError`` for any other text."""
    found = _VERSION.fullmatch(text)
    if found is None:
        raise ValueError(f"{text[:40]!r} is no version: three numbers of 0 to {PART_MAX} are wanted, such as 1.2.3")
    major, minor, patch = map(int, found.groups())
    return (major * (PART_MAX + 1) + minor) * (PART_MAX + 1) + patch


def version_text(number: int) -> str:
    """Return the text of a version's number."""
    rest, patch = divmod(number, PART_MAX + 1)
    major, minor = divmod(rest, PART_MAX + 1)
    return f"{major}.{minor}.{patch}"


def blocks_of(content: bytes) -> list[bytes]:
    """Cut a content into its blocks."""
    return [content[at : at + BLOCK_BYTES] for at in range(0, len(content), BLOCK_BYTES)]


def describe_content(version: int, content: bytes, needs: tuple[str, ...]) -> Update:
    """Return the document for a content."""
    return Update(version, len(content), tuple(hashlib.sha256(block).digest() for block in blocks_of(content)), needs)


def encode_update(update: Update, signer: Signer) -> bytes:
    """Sign an update with its offline key. Raises ``Refused`` for one that a box would refuse."""
    values = {1: update.version, 2: update.size, 3: list(update.blocks), 4: list(update.needs)}
    return make(DocumentType.UPDATE, values, read_update, signer)


def decode_update(data: bytes, key_set: KeySet) -> Update:
    """Check an update, or raise ``Refused``. That ``version`` grows is the caller's to judge."""
    return from_authority(data, DocumentType.UPDATE, read_update, key_set)


def read_update(value: Any) -> Update:
    """Check an update's schema."""
    left = Fields(value, "update")
    update = Update(
        version=left.need(1, "version", schema.uint, (PART_MAX + 1) ** 3 - 1, 1),
        size=left.need(2, "size", schema.uint, BLOCK_BYTES * BLOCKS_MAX, 1),
        blocks=left.need(3, "blocks", schema.items, BLOCKS_MAX, _read_digest, 1),
        needs=left.need(4, "needs", schema.items, NEEDS_MAX, _read_need),
    )
    left.done()
    if len(update.blocks) != -(-update.size // BLOCK_BYTES):
        raise Refused(Reason.CONTRADICTION, f"{len(update.blocks)} blocks for {update.size} bytes")
    return update


def _read_digest(value: Any, where: str) -> bytes:
    return schema.octets(value, where, 32)


def _read_need(value: Any, where: str) -> str:
    found = schema.text(value, where, NEED_BYTES)
    if _NEED.fullmatch(found) is None:
        raise schema.bad(where, "name==version is wanted")
    return found


def encode_piece(piece: Piece) -> bytes:
    """Write a piece."""
    return cbor.dumps({1: piece.update, 2: piece.index, 3: piece.data})


def decode_piece(data: bytes) -> Piece:
    """Read a piece, or raise ``Refused``. Whether its bytes are the update's, ``fits`` says."""
    left = Fields(cbor.loads(data), "piece")
    piece = Piece(
        update=left.need(1, "update", schema.octets, 32),
        index=left.need(2, "index", schema.uint, BLOCKS_MAX - 1),
        data=left.need(3, "data", schema.short_octets, 1, BLOCK_BYTES),
    )
    left.done()
    return piece


def fits(update: Update, index: int, data: bytes) -> bool:
    """Tell whether these bytes are that block of the update."""
    return index < len(update.blocks) and hashlib.sha256(data).digest() == update.blocks[index]


def update_id(document: bytes) -> bytes:
    """Return what names an update: the SHA-256 of its signed document."""
    return hashlib.sha256(document).digest()


def pack(document: bytes, content: bytes = b"") -> bytes:
    """Return a bundle, or its head alone."""
    return MAGIC + len(document).to_bytes(4, "big") + document + content


def head_of(data: bytes) -> bytes:
    """Return the document at a bundle's beginning; ``Refused`` if it is none. Nothing is proven."""
    size = int.from_bytes(data[len(MAGIC) : HEAD_BYTES], "big")
    if data[: len(MAGIC)] != MAGIC or not 0 < size <= MAX_BYTES[DocumentType.UPDATE]:
        raise Refused(Reason.BAD_ENVELOPE, "not a bundle of the box's software")
    document = data[HEAD_BYTES : HEAD_BYTES + size]
    if len(document) != size:
        raise Refused(Reason.BAD_ENVELOPE, "a bundle that is cut short")
    return document
