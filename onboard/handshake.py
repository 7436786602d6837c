"""The box's half of a phone's conversation, without I/O: bytes and the time in; bytes, and what was wanted, out.

Each connection has a line of its own: a HELLO that counts once and for ``HELLO_S``, then a sealed conversation. A
message that is not exactly right ends it; what a phone may do is not decided here but in ``onboard.core``. Bounds hold
for everything a stranger can make grow. One thread at a time.
"""

from __future__ import annotations

import os
from collections import Counter
from collections.abc import Callable
from dataclasses import replace
from typing import Final, NoReturn

from cloud_sync.documents import (
    AgreementKey,
    DocumentType,
    Reason,
    Refused,
    decode_pass,
    document_type,
    unproven_pass,
)
from cloud_sync.documents.conversation import (
    FURTHER,
    MESSAGE_MAX_BYTES,
    OPENING,
    TAG_BYTES,
    VERSION,
    Answer,
    Channel,
    Chunk,
    Hello,
    Op,
    Opening,
    Wish,
    to_be_proven,
)
from cloud_sync.documents.keys import verify_es256
from onboard.core.events import Intent, PhoneCredential
from onboard.core.gatt import BUSY, HELLO_OVER, NOT_UNDERSTOOD, REFERENCE_UNKNOWN, VALUE_BYTES_MAX, GattRefused
from onboard.core.grants import Pass
from onboard.heard import Asked, Book, Brought, Heard, Told, Wanted
from onboard.line import ERRAND_S, IDLE_S, Line
from onboard.parcel import VISIT_MAX_BYTES

HELLO_S: Final = 15.0
LINES_MAX: Final = 64
"""More than a radio holds connections, so that none is pushed out by another in its first words."""
OPEN_MAX: Final = 4
"""Conversations at once. A further phone takes the place of the oldest, or is told busy while all are younger than …"""
TURN_S: Final = 1.5
"""… this: a phone that holds on, for whatever reason, keeps nobody out for longer."""
WISHES_MAX: Final = 1000
"""Commands in one conversation: what it may bring and take, in pieces, and as much again."""

_OPENING_HEAD: Final = 34
_FURTHER_HEAD: Final = 5
_ANSWER_HEAD: Final = bytes([VERSION])
_INTENTS: Final = {
    Op.UNLOCK: Intent.UNLOCK,
    Op.LOCK: Intent.LOCK,
    Op.FINISH: Intent.FINISH,
    Op.CAPTURE: Intent.CAPTURE,
}


class Handshake:
    """All phones' conversations with this box. ``counts``: refusals by reason."""

    def __init__(
        self,
        vehicle: str,
        identity: AgreementKey,
        boot_epoch: bytes,
        *,
        random: Callable[[int], bytes] = os.urandom,
        make_key: Callable[[], AgreementKey] = AgreementKey.generate,
    ) -> None:
        self.counts: Counter[str] = Counter()
        self._vehicle = vehicle
        self._identity = identity
        self._boot_epoch = boot_epoch
        self._random = random
        self._make_key = make_key
        self._lines: dict[str, Line] = {}
        self._evicted: list[str] = []
        self._tickets = 0

    def hello(self, connection: str, now_s: float, clock_s: int, *, clock_proven: bool) -> bytes:
        """Return this connection's HELLO; a new one if the last was used or is too old. Ends what went before.

        A line on which nobody has proven himself gives way when there are too many.
        """
        line = self._line(connection, now_s)
        line.seen_s = now_s
        if line.hello and now_s - line.hello_s < HELLO_S:
            line.pending.clear()
            return line.hello
        line.end()
        line.answer = b""
        line.once = self._make_key()
        line.hello_s = now_s
        hello = Hello(self._random(16), self._boot_epoch, clock_s, clock_proven, line.once.public)
        line.hello = hello.encode()
        return line.hello

    def _line(self, connection: str, now_s: float) -> Line:
        line = self._lines.get(connection)
        if line is None:
            if len(self._lines) >= LINES_MAX:
                self._make_room()
            line = self._lines[connection] = Line(now_s, now_s)
            if connection in self._evicted:
                self._evicted.remove(connection)  # it is back: what is to be dropped is not this one
        return line

    def _make_room(self) -> None:
        """Let the longest silent go. There is one: of the lines, only ``OPEN_MAX`` are conversations."""
        unproven = (name for name, line in self._lines.items() if line.credential is None)
        self._evict(min(unproven, key=lambda name: self._lines[name].seen_s))

    def _evict(self, name: str) -> None:
        self.counts["evicted"] += 1
        del self._lines[name]
        self._evicted = [*self._evicted, name][-LINES_MAX:]

    def _make_turn(self, now_s: float, key: bytes) -> None:
        """Let the oldest conversation go if there are too many, unless its turn has only begun: ``BUSY``.

        A phone has one: beginning another ends the one before. So nobody fills them all by himself.
        """
        whose = {name: line.credential.key for name, line in self._lines.items() if line.credential is not None}
        for name in [name for name, each in whose.items() if each == key]:
            self._evict(name)
            del whose[name]
        talking = list(whose)
        if len(talking) < OPEN_MAX:
            return
        oldest = min(talking, key=lambda name: self._lines[name].began_s)
        if now_s - self._lines[oldest].began_s < TURN_S:
            raise self._refused(BUSY, "busy")
        self._evict(oldest)

    def write(self, connection: str, data: bytes, now_s: float, book: Book) -> Heard | None:
        """Take one write. Return what was wanted once a message is whole; None before.

        ``GattRefused`` where no sealed answer can be given; the conversation is over then.
        """
        line = self._lines.get(connection)
        if line is None:
            raise self._refused(HELLO_OVER, "no_hello")
        line.seen_s = now_s
        if line.ticket:
            self._drop(line, NOT_UNDERSTOOD, "not_your_turn")
        line.pending += data
        length = int.from_bytes(line.pending[:2])
        if not data or length > MESSAGE_MAX_BYTES:
            self._drop(line, NOT_UNDERSTOOD, "bad_length")
        if len(line.pending) < 2 or len(line.pending) < 2 + length:
            return None
        message = bytes(line.pending[2:])
        line.pending.clear()
        if len(message) != length or not message:
            self._drop(line, NOT_UNDERSTOOD, "bad_length")
        if message[0] == OPENING:
            return self._open(line, message, now_s, book)
        if message[0] == FURTHER:
            return self._further(line, message, book)
        return self._drop(line, NOT_UNDERSTOOD, "bad_kind")

    def _open(self, line: Line, message: bytes, now_s: float, book: Book) -> Heard:
        hello, once, hello_s = line.hello, line.once, line.hello_s
        line.end()  # whatever comes of it, this HELLO is used
        line.answer = b""
        if once is None or not hello or now_s - hello_s >= HELLO_S:
            raise self._refused(HELLO_OVER, "hello_over")
        header, phone_once = message[:_OPENING_HEAD], message[1:_OPENING_HEAD]
        try:
            channel = Channel(hello, self._identity.agree(phone_once), once.agree(phone_once), box=True)
            text = channel.open(header, message[_OPENING_HEAD:])
        except (ValueError, Refused):  # ValueError: no point of the curve
            raise self._refused(NOT_UNDERSTOOD, "not_sealed_to_us") from None
        line.channel = channel
        try:
            opening = Opening.decode(text)
            wish = Wish.decode(opening.command)
        except Refused:
            return self._turn_away(line, "not_understood")
        to_prove = to_be_proven(self._identity.public, hello, phone_once, opening.credential, opening.command)
        if opening.reference:
            return self._by_reference(line, opening, to_prove, wish, book, now_s)
        return self._by_pass(line, opening, to_prove, wish, book, now_s)

    def _by_reference(
        self, line: Line, opening: Opening, to_prove: bytes, wish: Wish, book: Book, now_s: float
    ) -> Heard:
        keys = book.phone_keys(opening.reference)
        if not keys:
            self._drop(line, REFERENCE_UNKNOWN, "reference_unknown")
        key = next((each for each in keys if verify_es256(each, opening.proof, to_prove)), None)
        if key is None:
            return self._turn_away(line, "not_your_booking")
        return self._begin(line, PhoneCredential(key, None, wish.id), wish, now_s)

    def _by_pass(self, line: Line, opening: Opening, to_prove: bytes, wish: Wish, book: Book, now_s: float) -> Heard:
        try:
            grant, reason = self._judge(opening.grant, book)
        except Refused as refused:
            wrong = refused.reason is Reason.WRONG_VEHICLE
            return self._turn_away(line, "wrong_vehicle" if wrong else "pass_invalid")
        if not verify_es256(grant.phone_key, opening.proof, to_prove):
            return self._turn_away(line, "not_your_booking")
        if reason:
            self.counts[reason] += 1
            return Told(self._next_ticket(line), "denied", reason, known=False)
        line.key_set = book.key_set
        return self._begin(line, PhoneCredential(grant.phone_key, grant, wish.id), wish, now_s)

    def _judge(self, document: bytes, book: Book) -> tuple[Pass, str]:
        """Return the pass, and ``key_set_wanted`` if it is signed with a key that a newer key set may bring."""
        if book.key_set is not None:
            try:
                return decode_pass(document, book.key_set, self._vehicle), ""
            except Refused as refused:
                if refused.reason is not Reason.UNKNOWN_KEY_ID:
                    raise
        return unproven_pass(document), "key_set_wanted"

    def _begin(self, line: Line, credential: PhoneCredential, wish: Wish, now_s: float) -> Heard:
        try:
            self._make_turn(now_s, credential.key)
        except GattRefused:
            line.end()
            raise
        line.credential, line.began_s = credential, now_s
        return self._serve(line, wish)

    def _further(self, line: Line, message: bytes, book: Book) -> Heard:
        channel = line.channel
        if channel is None:
            self._drop(line, HELLO_OVER, "no_conversation")
        if len(message) < _FURTHER_HEAD + TAG_BYTES:
            self._drop(line, NOT_UNDERSTOOD, "bad_length")
        header, counter = message[:_FURTHER_HEAD], int.from_bytes(message[1:_FURTHER_HEAD])
        if counter != line.counter:
            return self._turn_away(line, "old_counter")
        try:
            wish = Wish.decode(channel.open(header, message[_FURTHER_HEAD:]))
        except Refused as refused:
            if refused.reason is Reason.BAD_SEAL:
                self._drop(line, NOT_UNDERSTOOD, "bad_seal")
            return self._turn_away(line, "not_understood")
        if line.counter > WISHES_MAX:
            return self._turn_away(line, "too_much")
        if line.credential is not None and line.credential.grant is not None and book.key_set is not line.key_set:
            # A key may have been taken back: the pass is to be shown anew.
            return self._turn_away(line, "hello_over")
        return self._serve(line, wish)

    def _serve(self, line: Line, wish: Wish) -> Heard:
        ticket = self._next_ticket(line)
        if wish.op is Op.PUT and wish.chunk is not None:
            return self._take(line, ticket, wish.chunk)
        if line.credential is None:
            return Told(ticket, "denied", "key_set_wanted", known=False)
        if wish.op is Op.GET:
            if line.taken_bytes >= VISIT_MAX_BYTES:
                return Told(ticket, "denied", "too_much", known=True)
            return Wanted(ticket, wish.from_seq, wish.offset)
        intent = _INTENTS.get(wish.op)
        if intent is None:
            return Told(ticket, "ok", "", known=True)
        return Asked(ticket, replace(line.credential, command_id=wish.id), intent)

    def _take(self, line: Line, ticket: int, chunk: Chunk) -> Heard:
        known = line.credential is not None
        status, reason = line.parcel.take(chunk)
        if status == "ok":
            return Told(ticket, status, reason, known=known, offset=len(line.parcel.data))
        if status == "denied":
            return Told(ticket, status, reason, known=known)
        document = line.parcel.unpack()
        if not known and not _is_key_set(document):
            return Told(ticket, "denied", "key_set_wanted", known=False)
        return Brought(ticket, document)

    def answer(self, connection: str, ticket: int, answer: Answer) -> bool:
        """Seal the answer to ``ticket``; False if nobody waits for it any more. ``counter`` is put in here."""
        line = self._lines.get(connection)
        if line is None or line.ticket != ticket or line.channel is None:
            return False
        line.ticket = 0
        line.counter += 1
        line.patience_s = ERRAND_S if answer.time_nonce is not None else IDLE_S
        if answer.chunk is not None:
            line.taken_bytes += len(answer.chunk.data)
        sealed = line.channel.seal(_ANSWER_HEAD, replace(answer, counter=line.counter).encode())
        if len(sealed) > VALUE_BYTES_MAX:
            raise ValueError(f"an answer of {len(sealed)} bytes fits no value")
        if line.over:
            line.end()
        line.answer = sealed
        return True

    def result(self, connection: str, now_s: float) -> bytes | None:
        """Return the answer, the same bytes each time; None while it is waited for. ``GattRefused``: there is none."""
        line = self._lines.get(connection)
        if line is None or not (line.ticket or line.answer):
            raise self._refused(NOT_UNDERSTOOD, "nothing_asked")
        line.seen_s = now_s
        return None if line.ticket else line.answer

    def ticket(self, connection: str) -> int:
        """Return the number of what is still without its answer at this connection; 0 for nothing."""
        line = self._lines.get(connection)
        return line.ticket if line is not None else 0

    def may_know(self, connection: str) -> bool:
        """Tell whether the phone at this connection has proven itself."""
        line = self._lines.get(connection)
        return line is not None and line.credential is not None

    def gone(self, connection: str) -> None:
        """Forget a connection that is over."""
        self._lines.pop(connection, None)

    def idle(self, now_s: float) -> tuple[str, ...]:
        """Return the connections that are to be dropped, and forget them."""
        silent = [name for name, line in self._lines.items() if line.over_at(now_s)]
        for name in silent:
            self.counts["idle"] += 1
            del self._lines[name]
        evicted, self._evicted = self._evicted, []
        return (*evicted, *silent)

    def _next_ticket(self, line: Line) -> int:
        self._tickets += 1
        line.ticket = self._tickets
        line.answer = b""
        return line.ticket

    def _turn_away(self, line: Line, reason: str) -> Told:
        """Answer sealed, and end the conversation with it."""
        self.counts[reason] += 1
        line.over = True
        known = line.credential is not None
        return Told(self._next_ticket(line), "denied", reason, known=known)

    def _refused(self, code: int, reason: str) -> GattRefused:
        self.counts[reason] += 1
        return GattRefused(code, reason)

    def _drop(self, line: Line, code: int, reason: str) -> NoReturn:
        """End the conversation and refuse: nothing sealed can be said any more."""
        line.end()
        line.answer = b""
        raise self._refused(code, reason)


def _is_key_set(document: bytes) -> bool:
    try:
        return document_type(document) is DocumentType.KEY_SET
    except Refused:
        return False
