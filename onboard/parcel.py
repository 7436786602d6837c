"""A document that a phone brings in pieces: put together, bounded, and checked against its digest."""

from __future__ import annotations

import hashlib
from dataclasses import dataclass, field
from typing import Final

from cloud_sync.documents.conversation import Chunk

VISIT_MAX_BYTES: Final = 64 * 1024
"""What a phone may bring in one conversation, and what it may take."""


@dataclass(slots=True)
class Parcel:
    """A document that comes in pieces. ``brought_bytes``: of all pieces of this conversation."""

    digest: bytes = b""
    data: bytearray = field(default_factory=bytearray)
    brought_bytes: int = 0

    def take(self, chunk: Chunk) -> tuple[str, str]:
        """Add a piece; return ``whole``, or the answer's status and reason.

        Another document's piece, or a first one, begins anew; one that does not fit changes nothing.
        """
        if chunk.digest != self.digest or chunk.offset == 0:
            self.digest = chunk.digest
            self.data.clear()
        if chunk.offset != len(self.data):
            return "ok", "go_on"
        self.brought_bytes += len(chunk.data)
        if self.brought_bytes > VISIT_MAX_BYTES:
            return "denied", "too_much"
        self.data += chunk.data
        if len(self.data) < chunk.total:
            return "ok", "go_on"
        if hashlib.sha256(self.data).digest() == chunk.digest:
            return "whole", ""
        self.unpack()
        return "denied", "damaged"

    def unpack(self) -> bytes:
        """Return what came, and forget it."""
        document, self.digest = bytes(self.data), b""
        self.data.clear()
        return document
