"""The words of a phone and a box to each other (``docs/protocol.md`` section 10): what both ends do alike.

A box shows a HELLO, a phone writes a command, reads the answer, and may go on with further commands. Bytes only: who
may do what is ``onboard.core``'s, the box's half of the conversation ``onboard.handshake``.
"""

from __future__ import annotations

import hashlib
from dataclasses import dataclass
from enum import IntEnum
from typing import Any, Final, Self

from cryptography.exceptions import InvalidTag
from cryptography.hazmat.primitives.ciphers.aead import AESGCM
from cryptography.hazmat.primitives.hashes import SHA256
from cryptography.hazmat.primitives.kdf.hkdf import HKDF

from cloud_sync.documents import cbor, schema
from cloud_sync.documents.kinds import MAX_DOCUMENT_BYTES, Reason, Refused
from cloud_sync.documents.schema import Fields, filled
from onboard.core.gatt import VALUE_BYTES_MAX

VERSION: Final = 1
SUITE: Final = 1
"""P-256, HKDF-SHA256, AES-256-GCM, ES256. There is no other, and none is negotiated."""
HELLO_BYTES: Final = 64
OPENING: Final = 1
"""First byte of a message that opens a conversation."""
FURTHER: Final = 2
"""First byte of a further command."""
MESSAGE_MAX_BYTES: Final = 1024
"""A message of a phone, without the two bytes of its length. The largest pass, its proof and its command fit."""
CHUNK_MAX_BYTES: Final = 336
"""Of a document, in one message: with everything round it, it fits one value."""
REFERENCE_BYTES: Final = 8
TAG_BYTES: Final = 16
_COUNTER_MAX: Final = 2**32 - 1
_INFO: Final = b"amibox csc1"
_PROOF: Final = b"amibox pop1"


class Op(IntEnum):
    """What a phone wants."""

    STATUS = 0
    UNLOCK = 1
    LOCK = 2
    FINISH = 3
    PUT = 4
    """Here is a part of a document."""
    GET = 5
    """Give me a part of your next batch."""
    CAPTURE = 6
    """Take the number of the next unknown card."""


@dataclass(frozen=True, slots=True)
class Hello:
    """What a box shows to anybody. ``clock_s``: what it takes for the time (Unix seconds), 0 for none.

    ``boot_epoch`` (8 bytes) names the box's boot, ``ephemeral`` is its key for this conversation. Nothing in it tells
    which car this is, or what it does.
    """

    nonce: bytes
    boot_epoch: bytes
    clock_s: int
    clock_proven: bool
    ephemeral: bytes

    def encode(self) -> bytes:
        """Return the 64 bytes."""
        flags = 1 if self.clock_proven else 0
        head = bytes([VERSION, SUITE]) + self.nonce + self.boot_epoch
        return head + self.clock_s.to_bytes(4) + bytes([flags]) + self.ephemeral

    @classmethod
    def decode(cls, data: bytes) -> Self:
        """Read the 64 bytes; raise ``Refused``. Unknown flags say nothing."""
        if len(data) != HELLO_BYTES:
            raise Refused(Reason.BAD_SCHEMA, f"hello of {len(data)} bytes, {HELLO_BYTES} are wanted")
        if (data[0], data[1]) != (VERSION, SUITE):
            raise Refused(Reason.UNKNOWN_VERSION, f"hello of version {data[0]}, suite {data[1]}")
        return cls(
            nonce=data[2:18],
            boot_epoch=data[18:26],
            clock_s=int.from_bytes(data[26:30]),
            clock_proven=bool(data[30] & 1),
            ephemeral=schema.point(data[31:], "hello.ephemeral"),
        )


class Channel:
    """The two sealed directions of one conversation. A message that doesn't open changes nothing.

    ``hello``: its exact bytes. ``secrets``: the two ECDH results, with the box's V and with HELLO's ephemeral key.
    """

    def __init__(self, hello: bytes, static_secret: bytes, ephemeral_secret: bytes, *, box: bool) -> None:
        salt = hashlib.sha256(hello).digest()
        keys = HKDF(SHA256(), 64, salt=salt, info=_INFO).derive(static_secret + ephemeral_secret)
        to_box, to_phone = AESGCM(keys[:32]), AESGCM(keys[32:])
        self._hello = hello
        self._seal, self._open = (to_phone, to_box) if box else (to_box, to_phone)
        self._sealed = self.opened = 0

    def seal(self, header: bytes, plaintext: bytes) -> bytes:
        """Return the header and the sealed text; counts on."""
        nonce, self._sealed = self._sealed.to_bytes(12), self._sealed + 1
        return header + self._seal.encrypt(nonce, plaintext, self._hello + header)

    def open(self, header: bytes, sealed: bytes) -> bytes:
        """Return the text, or raise ``Refused(BAD_SEAL)``; counts on only if it opens."""
        try:
            text = self._open.decrypt(self.opened.to_bytes(12), sealed, self._hello + header)
        except InvalidTag:
            raise Refused(Reason.BAD_SEAL, "damaged, or not for this conversation") from None
        self.opened += 1
        return text


def to_be_proven(box: bytes, hello: bytes, phone_once: bytes, credential: bytes, command: bytes) -> bytes:
    """Return what the phone key signs: this box, this HELLO, this conversation, this credential, this command.

    ``credential``: the pass, or the reference's 8 bytes.
    """
    conversation = hashlib.sha256(box + hello + phone_once).digest()
    return _PROOF + conversation + hashlib.sha256(credential).digest() + command


@dataclass(frozen=True, slots=True)
class Opening:
    """What the first message holds: a pass or the first 8 bytes of a booking's id, the proof, the command's bytes."""

    grant: bytes
    reference: bytes
    proof: bytes
    command: bytes

    @property
    def credential(self) -> bytes:
        """What the proof names."""
        return self.grant or self.reference

    def encode(self) -> bytes:
        """Return it as CBOR."""
        which: dict[int, Any] = {1: self.grant} if self.grant else {2: self.reference}
        return cbor.dumps(which | {3: self.proof, 4: self.command})

    @classmethod
    def decode(cls, data: bytes) -> Self:
        """Read it; raise ``Refused``."""
        left = Fields(cbor.loads(data, MESSAGE_MAX_BYTES), "opening")
        opening = cls(
            grant=left.may(1, "pass", schema.short_octets, 1, VALUE_BYTES_MAX) or b"",
            reference=left.may(2, "reference", schema.octets, REFERENCE_BYTES) or b"",
            proof=left.need(3, "proof", schema.octets, 64),
            command=left.need(4, "command", schema.short_octets, 1, VALUE_BYTES_MAX),
        )
        left.done()
        if bool(opening.grant) == bool(opening.reference):
            raise Refused(Reason.CONTRADICTION, "a pass or a reference is wanted, and not both")
        return opening


@dataclass(frozen=True, slots=True)
class Chunk:
    """A part of a document: SHA-256 and length of the whole, and where these bytes stand in it."""

    digest: bytes
    total: int
    offset: int
    data: bytes

    def values(self) -> dict[int, Any]:
        """Return it as a map."""
        return {1: self.digest, 2: self.total, 3: self.offset, 4: self.data}


def read_chunk(value: Any, where: str) -> Chunk:
    """Check a chunk; raise ``Refused``."""
    left = Fields(value, where)
    chunk = Chunk(
        digest=left.need(1, "digest", schema.octets, 32),
        total=left.need(2, "total", schema.uint, MAX_DOCUMENT_BYTES, 1),
        offset=left.need(3, "offset", schema.uint, MAX_DOCUMENT_BYTES),
        data=left.need(4, "bytes", schema.short_octets, 1, CHUNK_MAX_BYTES),
    )
    left.done()
    if chunk.offset + len(chunk.data) > chunk.total:
        raise Refused(Reason.CONTRADICTION, f"{where}: beyond its document's end")
    return chunk


@dataclass(frozen=True, slots=True)
class Wish:
    """A phone's command. ``id``: 16 random bytes, the same for every repetition of one wish.

    ``chunk`` goes with ``PUT``. With ``GET``: the first row wanted (0: the first that the cloud has not acknowledged)
    and where to go on in the batch that begins there.
    """

    id: bytes
    op: Op
    chunk: Chunk | None = None
    from_seq: int = 0
    offset: int = 0

    def encode(self) -> bytes:
        """Return it as CBOR."""
        values: dict[int, Any] = {1: self.id, 2: int(self.op)}
        if self.chunk is not None:
            values[3] = self.chunk.values()
        if self.op is Op.GET:
            values |= {4: self.from_seq, 5: self.offset}
        return cbor.dumps(values)

    @classmethod
    def decode(cls, data: bytes) -> Self:
        """Read it; raise ``Refused``."""
        left = Fields(cbor.loads(data, MESSAGE_MAX_BYTES), "command")
        wish = cls(
            id=left.need(1, "id", schema.octets, 16),
            op=left.need(2, "op", schema.code, Op),
            chunk=left.may(3, "chunk", read_chunk),
            from_seq=left.may(4, "from_seq", schema.uint) or 0,
            offset=left.may(5, "offset", schema.uint, MAX_DOCUMENT_BYTES) or 0,
        )
        left.done()
        if (wish.op is Op.PUT) != (wish.chunk is not None):
            raise Refused(Reason.CONTRADICTION, "put brings a part of a document, and nothing else does")
        return wish


@dataclass(frozen=True, slots=True)
class Answer:
    """What the box says. ``status``: ``granted accepted denied unknown ok``; ``reason``: a word of ``answers``.

    ``door``: ``locked unlocked open unknown``. ``counter``: of the next command. ``up_to_seq`` and ``acked_seq`` are
    the receipt: the row up to which ``store_id`` is written, and the one up to which the cloud has acknowledged.
    ``time_nonce``: bring a time proof for it. ``chunk`` and ``to_seq`` (the batch's last row) answer ``GET``;
    ``offset``: where ``PUT`` is to go on.
    """

    status: str
    reason: str = ""
    door: str = "unknown"
    counter: int = 0
    store_id: bytes = bytes(16)
    up_to_seq: int = 0
    acked_seq: int = 0
    list_version: int = 0
    key_set_version: int = 0
    time_nonce: bytes | None = None
    offset: int | None = None
    chunk: Chunk | None = None
    to_seq: int | None = None

    @property
    def let_in(self) -> bool:
        """Whether the phone has proven itself: only then does a box say which store it has."""
        return any(self.store_id)

    def encode(self) -> bytes:
        """Return it as CBOR."""
        return cbor.dumps(
            filled(
                {
                    1: self.status,
                    2: self.reason,
                    3: self.door,
                    4: self.counter,
                    5: self.store_id,
                    6: self.up_to_seq,
                    7: self.acked_seq,
                    8: self.list_version,
                    9: self.key_set_version,
                    10: self.time_nonce,
                    11: self.offset,
                    12: None if self.chunk is None else self.chunk.values(),
                    13: self.to_seq,
                }
            )
        )

    @classmethod
    def decode(cls, data: bytes) -> Self:
        """Read it; raise ``Refused``."""
        left = Fields(cbor.loads(data, MESSAGE_MAX_BYTES), "answer")
        answer = cls(
            status=left.need(1, "status", schema.text, 16, 1),
            reason=left.need(2, "reason", schema.text, 32),
            door=left.need(3, "door", schema.text, 16),
            counter=left.need(4, "counter", schema.uint, _COUNTER_MAX),
            store_id=left.need(5, "store_id", schema.octets, 16),
            up_to_seq=left.need(6, "up_to_seq", schema.uint),
            acked_seq=left.need(7, "acked_seq", schema.uint),
            list_version=left.need(8, "list_version", schema.uint),
            key_set_version=left.need(9, "key_set_version", schema.uint),
            time_nonce=left.may(10, "time_nonce", schema.octets, 16),
            offset=left.may(11, "offset", schema.uint, MAX_DOCUMENT_BYTES),
            chunk=left.may(12, "chunk", read_chunk),
            to_seq=left.may(13, "to_seq", schema.uint),
        )
        left.done()
        return answer


def framed(message: bytes) -> bytes:
    """Return a message with its length before it: it may be written in as many pieces as the phone likes."""
    if not 0 < len(message) <= MESSAGE_MAX_BYTES:
        raise ValueError(f"a message of {len(message)} bytes, 1 to {MESSAGE_MAX_BYTES} are possible")
    return len(message).to_bytes(2) + message
