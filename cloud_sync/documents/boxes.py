"""How a box becomes a car's: its request, which anybody may read, and the commune's answer, sealed to its key V.

A request proves that whoever made it has its signing key, and nothing else: who it comes from, people say to each other
by its fingerprint. An answer brings the roots that its own chain of signatures ends in: whether these are the commune's
is for the box to find out, by the roots that it has or by the fingerprint of the new ones.
"""

from __future__ import annotations

import hashlib
from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import Any, Final

from cloud_sync.documents import cbor, cose, schema
from cloud_sync.documents.down import decode_key_set
from cloud_sync.documents.keys import AgreementKey, BoxSigner, Signer
from cloud_sync.documents.kinds import DocumentType
from cloud_sync.documents.schema import Fields, filled
from cloud_sync.documents.signed import check_key, check_public, make

CARD_KEY_BYTES: Final = 32
SALT_BYTES: Final = 16
PIN_DIGEST_BYTES: Final = 32
TECHNICIANS_MAX: Final = 32
TOWN_BYTES_MAX: Final = 32_768
_ROOTS_MAX: Final = 4
_KEY_SET_BYTES_MAX: Final = 4096
_CERTIFICATE_BYTES_MAX: Final = 4096
NO_CAR: Final = ""
"""What an answer's seal is bound to instead of a car: a box doesn't know yet whose it will be."""


@dataclass(frozen=True, slots=True)
class BoxRequest:
    """The public halves of a box's keys, compressed P-256: V, the signing key, the key of its TLS certificate."""

    agreement_public: bytes
    signing_public: bytes
    tls_public: bytes

    @property
    def digest(self) -> bytes:
        """Return what names these keys: SHA-256 over the signed map."""
        return hashlib.sha256(cbor.dumps(_request_values(self))).digest()


@dataclass(frozen=True, slots=True)
class Technician:
    """Who may log in at a box's console by a PIN of their own for this box. ``name``: 1 to 32 of ``a-z 0-9 -``."""

    name: str
    salt: bytes
    digest: bytes = field(repr=False)


@dataclass(frozen=True, slots=True)
class BoxAnswer:
    """All that a box is given. ``request``: digest of what is answered; ``version``: Unix seconds, a later one counts.

    ``roots``: 32-byte Ed25519 keys, any of which may sign a key set; ``key_set``: that document. ``town``: the town
    hall's part of the configuration (TOML). ``ca``, ``certificate``: PEM, for a box with a broker.
    """

    vehicle: str
    request: bytes
    version: int
    roots: tuple[bytes, ...]
    key_set: bytes
    card_key: bytes = field(repr=False)
    list_floor: int = 0
    technicians: tuple[Technician, ...] = ()
    town: str = ""
    ca: bytes | None = None
    certificate: bytes | None = None


def fingerprint(digest: bytes) -> str:
    """Return the first 16 bytes of a digest as eight groups of five digits, to be read out over a telephone."""
    return " ".join(f"{int.from_bytes(digest[place : place + 2], 'big'):05}" for place in range(0, 16, 2))


def roots_fingerprint(roots: Sequence[bytes]) -> str:
    """Return the fingerprint of a commune: of its roots, in whatever order."""
    return fingerprint(hashlib.sha256(cbor.dumps(sorted(roots))).digest())


def _request_values(request: BoxRequest) -> dict[int, Any]:
    return {1: request.agreement_public, 2: request.signing_public, 3: request.tls_public}


def encode_box_request(request: BoxRequest, signer: BoxSigner) -> bytes:
    """Sign a request with the signing key that it names."""
    return make(DocumentType.BOX_REQUEST, _request_values(request), read_box_request, signer)


def decode_box_request(data: bytes) -> BoxRequest:
    """Check a request, or raise ``Refused``. Whose it is the fingerprint of its ``digest`` tells."""
    signed = cose.open_document(data, DocumentType.BOX_REQUEST)
    request = read_box_request(cbor.loads(signed.payload))
    check_public(signed, (request.signing_public,))
    return request


def read_box_request(value: Any) -> BoxRequest:
    """Check a request's schema."""
    left = Fields(value, "request")
    request = BoxRequest(
        agreement_public=left.need(1, "agreement", schema.point),
        signing_public=left.need(2, "signing", schema.point),
        tls_public=left.need(3, "tls", schema.point),
    )
    left.done()
    return request


def encode_box_answer(answer: BoxAnswer, signer: Signer, agreement_public: bytes) -> bytes:
    """Sign an answer and seal it to its box. Raises ``Refused`` for one that the box would refuse."""
    values = filled(
        {
            1: answer.vehicle,
            2: answer.request,
            3: answer.version,
            4: list(answer.roots),
            5: answer.key_set,
            6: answer.card_key,
            7: answer.list_floor,
            8: [[each.name, each.salt, each.digest] for each in answer.technicians],
            9: answer.town,
            10: answer.ca,
            11: answer.certificate,
        }
    )
    inner = make(DocumentType.BOX_ANSWER, values, read_box_answer, signer)
    return cose.seal(DocumentType.BOX_ANSWER, NO_CAR, inner, agreement_public)


def decode_box_answer(data: bytes, key: AgreementKey) -> BoxAnswer:
    """Open an answer and check it against the roots that it brings itself, or raise ``Refused``.

    Until the caller has found ``roots`` to be the commune's, anybody may have made it.
    """
    signed = cose.open_document(data, DocumentType.BOX_ANSWER, NO_CAR, key)
    answer = read_box_answer(cbor.loads(signed.payload))
    check_key(signed, decode_key_set(answer.key_set, answer.roots))
    return answer


def read_box_answer(value: Any) -> BoxAnswer:
    """Check an answer's schema."""
    left = Fields(value, "answer")
    answer = BoxAnswer(
        vehicle=left.need(1, "vehicle", schema.vehicle_id),
        request=left.need(2, "request", schema.octets, 32),
        version=left.need(3, "version", schema.uint),
        roots=left.need(4, "roots", schema.items, _ROOTS_MAX, _read_root, 1),
        key_set=left.need(5, "key_set", schema.short_octets, 1, _KEY_SET_BYTES_MAX),
        card_key=left.need(6, "card_key", schema.octets, CARD_KEY_BYTES),
        list_floor=left.need(7, "list_floor", schema.uint),
        technicians=left.need(8, "technicians", schema.items, TECHNICIANS_MAX, _read_technician),
        town=left.need(9, "town", schema.text, TOWN_BYTES_MAX),
        ca=left.may(10, "ca", schema.short_octets, 1, _CERTIFICATE_BYTES_MAX),
        certificate=left.may(11, "certificate", schema.short_octets, 1, _CERTIFICATE_BYTES_MAX),
    )
    left.done()
    return answer


def _read_root(value: Any, where: str) -> bytes:
    return schema.octets(value, where, 32)


def _read_technician(value: Any, where: str) -> Technician:
    if type(value) is not list or len(value) != 3:
        raise schema.bad(where, "name, salt and digest are wanted")
    return Technician(
        schema.vehicle_id(value[0], where),
        schema.octets(value[1], where, SALT_BYTES),
        schema.octets(value[2], where, PIN_DIGEST_BYTES),
    )
