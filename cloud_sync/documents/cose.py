"""The two envelopes: COSE_Sign1 (who says it) and COSE_Encrypt (who may read it), RFC 9052 and RFC 9053.

No negotiation: the type of a document fixes its algorithms, and every header has exactly the fields written here. Both
carry the document's type and major version in the protected header under a private label.

Sign1    18([<<{1: alg, 4: kid, -70001: [type, major]}>>, {}, payload, signature])
Encrypt  96([<<{1: A256GCM, -70001: [type, major]}>>, {5: iv}, ciphertext,
             [[<<{1: ECDH-ES + HKDF-256, 4: recipient's kid}>>, {-1: {1: 2, -1: 1, -2: x, -3: false}}, h'']]])
"""

from __future__ import annotations

import os
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any, Final

from cryptography.exceptions import InvalidTag
from cryptography.hazmat.primitives.ciphers.aead import AESGCM
from cryptography.hazmat.primitives.hashes import SHA256
from cryptography.hazmat.primitives.kdf.hkdf import HKDF

from cloud_sync.documents import cbor
from cloud_sync.documents.keys import AgreementKey, BoxSigner, Signer, key_id, verify_ed25519, verify_es256
from cloud_sync.documents.kinds import (
    BOX_TYPES,
    MAJOR,
    MAX_BYTES,
    MAX_DOCUMENT_BYTES,
    SEALED_TYPES,
    DocumentType,
    Reason,
    Refused,
)

EDDSA: Final = -8
ES256: Final = -7
A256GCM: Final = 3
ECDH_ES_HKDF_256: Final = -25

_ALG, _KID, _IV, _TYPE = 1, 4, 5, -70001
"""Header labels (RFC 9052 section 3.1); the last is ours, of the private range below -65536."""
_EPHEMERAL = -1
_KTY, _EC2, _CRV, _P256, _X, _Y = 1, 2, -1, 1, -2, -3
_SIGN1, _ENCRYPT = b"\xd2", b"\xd8\x60"
"""The tags 18 and 96, as they are encoded."""


@dataclass(frozen=True, slots=True)
class Signed:
    """A Sign1 taken apart; its signature is not checked yet."""

    type: DocumentType
    kid: bytes
    payload: bytes
    protected: bytes
    signature: bytes

    def signed_by(self, public: bytes) -> bool:
        """Tell whether the signature holds, under the one algorithm of this type."""
        verify = verify_es256 if self.type in BOX_TYPES else verify_ed25519
        return verify(public, self.signature, to_be_signed(self.protected, self.payload))


@dataclass(frozen=True, slots=True)
class Sealed:
    """An Encrypt taken apart, still shut."""

    type: DocumentType
    recipient: bytes
    protected: bytes
    recipient_protected: bytes
    ephemeral: bytes
    iv: bytes
    ciphertext: bytes


def to_be_signed(protected: bytes, payload: bytes, external: bytes = b"") -> bytes:
    """Return the Sig_structure of RFC 9052 section 4.4."""
    return cbor.dumps(["Signature1", protected, external, payload])


def to_be_sealed(protected: bytes, external: bytes) -> bytes:
    """Return the Enc_structure of RFC 9052 section 5.3."""
    return cbor.dumps(["Encrypt", protected, external])


def content_key(secret: bytes, recipient_protected: bytes, algorithm: int = A256GCM, bits: int = 256) -> bytes:
    """Derive the content key from an ECDH secret (RFC 9053 sections 5.1 and 5.2: no salt, no party identities)."""
    nobody = [None, None, None]
    info = cbor.dumps([algorithm, nobody, nobody, [bits, recipient_protected]])
    return HKDF(SHA256(), bits // 8, salt=None, info=info).derive(secret)


def external_aad(kind: DocumentType, vehicle: str) -> bytes:
    """Bind a seal to its use: type ‖ vehicle."""
    return bytes([kind]) + vehicle.encode()


def sign1(kind: DocumentType, payload: bytes, signer: Signer | BoxSigner) -> bytes:
    """Sign a payload. ``ValueError`` if this sort of key never signs this type; ``Refused(TOO_LARGE)``."""
    if isinstance(signer, BoxSigner) != (kind in BOX_TYPES):
        raise ValueError(f"a {type(signer).__name__} does not sign a {kind.word}")
    algorithm = ES256 if kind in BOX_TYPES else EDDSA
    protected = cbor.dumps({_ALG: algorithm, _KID: signer.kid, _TYPE: [int(kind), MAJOR]})
    signature = signer.sign(to_be_signed(protected, payload))
    return _bounded(kind, _SIGN1 + cbor.dumps([protected, {}, payload, signature]))


def parse_sign1(data: bytes) -> Signed:
    """Take a Sign1 apart and check its shape; raise ``Refused``."""
    body = _untagged(data, _SIGN1)
    if type(body) is not list or list(map(type, body)) != [bytes, dict, bytes, bytes] or body[1] or len(body[3]) != 64:
        raise Refused(Reason.BAD_ENVELOPE, "not a COSE_Sign1 of the allowed shape")
    protected, _, payload, signature = body
    header = _header(protected, {_ALG, _KID, _TYPE})
    kind = _kind(header)
    _bounded(kind, data)
    _allow(header, ES256 if kind in BOX_TYPES else EDDSA)
    kid = header[_KID]
    if type(kid) is not bytes or not 1 <= len(kid) <= 16:
        raise Refused(Reason.BAD_ENVELOPE, "key id")
    return Signed(kind, kid, payload, protected, signature)


def seal(
    kind: DocumentType,
    vehicle: str,
    plaintext: bytes,
    recipient: bytes,
    *,
    ephemeral: AgreementKey | None = None,
    random: Callable[[int], bytes] = os.urandom,
) -> bytes:
    """Encrypt to one P-256 key (33 bytes). ``ephemeral`` and ``random`` are given only where bytes must repeat."""
    once = ephemeral or AgreementKey.generate()
    protected = cbor.dumps({_ALG: A256GCM, _TYPE: [int(kind), MAJOR]})
    recipient_protected = cbor.dumps({_ALG: ECDH_ES_HKDF_256, _KID: key_id(recipient)})
    key = content_key(once.agree(recipient), recipient_protected)
    iv = random(12)
    ciphertext = AESGCM(key).encrypt(iv, plaintext, to_be_sealed(protected, external_aad(kind, vehicle)))
    return _bounded(kind, _encrypt(protected, iv, ciphertext, recipient_protected, once.public[1:]))


def _encrypt(protected: bytes, iv: bytes, ciphertext: bytes, recipient_protected: bytes, x: bytes) -> bytes:
    # The secret is an x coordinate, the same for both signs of y: always "false", so that nobody can flip it unseen.
    point = {_KTY: _EC2, _CRV: _P256, _X: x, _Y: False}
    return _ENCRYPT + cbor.dumps([protected, {_IV: iv}, ciphertext, [[recipient_protected, {_EPHEMERAL: point}, b""]]])


def parse_sealed(data: bytes) -> Sealed:
    """Take an Encrypt apart and check its shape; raise ``Refused``."""
    match _untagged(data, _ENCRYPT):
        case [
            bytes() as protected,
            {5: bytes() as iv},
            bytes() as ciphertext,
            [[bytes() as recipient_protected, {-1: {-2: bytes() as x}}, b""]],
        ] if data == _encrypt(protected, iv, ciphertext, recipient_protected, x) and (len(iv), len(x)) == (12, 32):
            pass
        case _:
            raise Refused(Reason.BAD_ENVELOPE, "not a COSE_Encrypt of the allowed shape")
    header = _header(protected, {_ALG, _TYPE})
    kind = _kind(header)
    _bounded(kind, data)
    _allow(header, A256GCM)
    recipient_header = _header(recipient_protected, {_ALG, _KID})
    _allow(recipient_header, ECDH_ES_HKDF_256)
    recipient = recipient_header[_KID]
    if type(recipient) is not bytes or len(recipient) != 8:
        raise Refused(Reason.BAD_ENVELOPE, "recipient's key id")
    return Sealed(kind, recipient, protected, recipient_protected, b"\x02" + x, iv, ciphertext)


def unseal(sealed: Sealed, vehicle: str, key: AgreementKey) -> bytes:
    """Decrypt, or raise ``Refused``: ``OTHER_RECIPIENT``, or ``BAD_SEAL`` if damaged or meant for another car."""
    if sealed.recipient != key.kid:
        raise Refused(Reason.OTHER_RECIPIENT, f"sealed to key {sealed.recipient.hex()}, ours is {key.kid.hex()}")
    try:
        content = AESGCM(content_key(key.agree(sealed.ephemeral), sealed.recipient_protected))
        external = external_aad(sealed.type, vehicle)
        return content.decrypt(sealed.iv, sealed.ciphertext, to_be_sealed(sealed.protected, external))
    except (InvalidTag, ValueError):  # ValueError: the ephemeral point is not on the curve
        raise Refused(Reason.BAD_SEAL, f"damaged, or not for {vehicle}") from None


def sealed_to(data: bytes) -> bytes:
    """Return the id of the key that a document is sealed to; empty where it is no sealed one: opening it says why."""
    try:
        return parse_sealed(data).recipient
    except Refused:
        return b""


def is_sealed(data: bytes) -> bool:
    """Tell by the first bytes whether this is an Encrypt."""
    return data.startswith(_ENCRYPT)


def open_document(data: bytes, kind: DocumentType, vehicle: str = "", key: AgreementKey | None = None) -> Signed:
    """Return the Sign1 of a document of ``kind``, unsealed first where its type is sealed; raise ``Refused``."""
    if kind in SEALED_TYPES:
        if not is_sealed(data):
            parse_sign1(data)  # a worse fault, if there is one, is told first
            raise Refused(Reason.NOT_SEALED, kind.word)
        sealed = parse_sealed(data)
        _expect(sealed.type, kind)
        if key is None:
            raise ValueError("a sealed document needs a key")
        data = unseal(sealed, vehicle, key)
    signed = parse_sign1(data)
    _expect(signed.type, kind)
    return signed


def _expect(found: DocumentType, wanted: DocumentType) -> None:
    if found is not wanted:
        raise Refused(Reason.WRONG_TYPE, f"a {found.word}, a {wanted.word} is wanted")


def _untagged(data: bytes, tag: bytes) -> Any:
    if len(data) > MAX_DOCUMENT_BYTES:
        raise Refused(Reason.TOO_LARGE, f"{len(data)} bytes, at most {MAX_DOCUMENT_BYTES}")
    if not data.startswith(tag):
        raise Refused(Reason.BAD_ENVELOPE, "no COSE document" if data else "empty")
    return cbor.loads(data[len(tag) :])


def _header(protected: bytes, labels: set[int]) -> dict[int, Any]:
    header = cbor.loads(protected)
    if type(header) is not dict or set(map(type, header)) != {int} or set(header) != labels:
        raise Refused(Reason.BAD_ENVELOPE, "protected header")
    return header


def _kind(header: dict[int, Any]) -> DocumentType:
    named = header[_TYPE]
    if type(named) is not list or list(map(type, named)) != [int, int]:
        raise Refused(Reason.BAD_ENVELOPE, "type and version")
    number, major = named
    try:
        kind = DocumentType(number)
    except ValueError:
        raise Refused(Reason.UNKNOWN_TYPE, str(number)) from None
    if major != MAJOR:
        raise Refused(Reason.UNKNOWN_VERSION, f"{kind.word} of major version {major}, this is {MAJOR}")
    return kind


def _allow(header: dict[int, Any], algorithm: int) -> None:
    if header[_ALG] != algorithm or type(header[_ALG]) is not int:
        raise Refused(Reason.BAD_ALGORITHM, f"{header[_ALG]!r}, only {algorithm} is allowed here")


def _bounded(kind: DocumentType, data: bytes) -> bytes:
    if len(data) > MAX_BYTES[kind]:
        raise Refused(Reason.TOO_LARGE, f"{kind.word} of {len(data)} bytes, at most {MAX_BYTES[kind]}")
    return data
