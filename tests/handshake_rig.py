"""A phone's half of the conversation word by word: what it would write, without anybody to write to."""

from __future__ import annotations

import secrets
from dataclasses import dataclass, field, replace

from cloud_sync.documents import AgreementKey, BoxSigner, encode_pass
from cloud_sync.documents.conversation import Answer, Channel, Hello, Op, Opening, Wish, framed, to_be_proven
from onboard.heard import Asked, Book, Brought, Wanted
from tests.document_rig import BOX_V, CLOUD, KEYS
from tests.phone_rig import ANNA, BERT, BOOKING, grant

PASS = encode_pass(grant(BOOKING), CLOUD)
WAITING = (Asked, Brought, Wanted)


def keys_of(reference: bytes) -> tuple[bytes, ...]:
    return (BERT.public, ANNA.public) if reference == BOOKING.id[:8] else ()


BOOK = Book(KEYS, keys_of)


@dataclass
class Sayer:
    """A phone's half, word by word: what it writes, without anybody to write to."""

    hello: bytes
    box: bytes = BOX_V.public
    key: BoxSigner = ANNA
    grant: bytes = PASS
    counter: int = 0
    once: AgreementKey = field(default_factory=AgreementKey.generate)

    def __post_init__(self) -> None:
        secrets_ = self.once.agree(self.box), self.once.agree(Hello.decode(self.hello).ephemeral)
        self.channel = Channel(self.hello, *secrets_, box=False)

    def opening(
        self, wish: Wish, *, reference: bytes = b"", command: bytes = b"", proven_by: Sayer | None = None
    ) -> bytes:
        said = command or wish.encode()
        opening = Opening(b"" if reference else self.grant, reference, bytes(64), said)
        at = proven_by or self
        proof = self.key.sign(to_be_proven(at.box, at.hello, at.once.public, opening.credential, said))
        return framed(self.channel.seal(b"\1" + self.once.public, replace(opening, proof=proof).encode()))

    def further(self, wish: Wish) -> bytes:
        return framed(self.channel.seal(b"\2" + self.counter.to_bytes(4, "big"), wish.encode()))

    def hear(self, sealed: bytes) -> Answer:
        answer = Answer.decode(self.channel.open(sealed[:1], sealed[1:]))
        self.counter = answer.counter
        return answer


def wish(op: Op = Op.UNLOCK, **more: object) -> Wish:
    return Wish(secrets.token_bytes(16), op, **more)  # type: ignore[arg-type]  # the fields of a wish
