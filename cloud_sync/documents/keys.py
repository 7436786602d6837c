"""Keys: who they belong to, how they are kept, and what they may sign. No secret in any ``repr`` or message.

Authority and roots sign with Ed25519; a box signs with P-256 (ES256), as secure elements can; sealing is P-256. A key's
id (kid) is the first 8 bytes of SHA-256 over its public half: 32 bytes Ed25519, or a 33-byte compressed P-256 point.
"""

from __future__ import annotations

import hashlib
import os
from abc import ABC, abstractmethod
from dataclasses import dataclass
from pathlib import Path
from typing import Final, Self

from cryptography.exceptions import InvalidSignature, UnsupportedAlgorithm
from cryptography.hazmat.primitives import serialization
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey, Ed25519PublicKey
from cryptography.hazmat.primitives.asymmetric.utils import decode_dss_signature, encode_dss_signature
from cryptography.hazmat.primitives.hashes import SHA256

from cloud_sync.documents.kinds import DocumentType, Reason, Refused

KEY_ID_BYTES: Final = 8
RADIO_PREFIX: Final = "AmiBox-"
RADIO_BYTES: Final = 2
"""So much of the key id is in a car's Bluetooth name: an advertisement has 31 bytes for everything."""
_OTHERS: Final = 0o027
"""Mode bits a key file must not have: group write, and anything for others."""
_CURVE: Final = ec.SECP256R1()
_ORDER: Final = 0xFFFFFFFF00000000FFFFFFFFFFFFFFFFBCE6FAADA7179E84F3B9CAC2FC632551
"""Order of P-256 (FIPS 186-4 D.1.2.3); a private key is in [1, order - 1]."""


def key_id(public: bytes) -> bytes:
    """Return the 8-byte id of a public key."""
    return hashlib.sha256(public).digest()[:KEY_ID_BYTES]


def radio_name(public: bytes) -> str:
    """Return a car's Bluetooth name: ``AmiBox-`` and the first four hexadecimal digits, upper case, of V's key id.

    Box and commune both work it out from the box's identity V (33 bytes): the phone finds its car by what the commune
    told it. A hint for finding, no proof: one name in 65,536 is the same, and anybody can send it. It tells no number
    plate and no place.
    """
    return f"{RADIO_PREFIX}{key_id(public)[:RADIO_BYTES].hex().upper()}"


@dataclass(frozen=True, slots=True)
class AuthorityKey:
    """A key of the commune's cloud and the only document types it may sign. ``public``: 32 bytes Ed25519."""

    kid: bytes
    public: bytes
    types: frozenset[DocumentType]


@dataclass(frozen=True, slots=True)
class KeySet:
    """The keys that count now. ``version`` only grows; ``sealing_public`` is the cloud's P-256 key C, compressed."""

    version: int
    keys: tuple[AuthorityKey, ...]
    sealing_public: bytes

    def find(self, kid: bytes) -> AuthorityKey | None:
        """Return the key with this id."""
        return next((key for key in self.keys if key.kid == kid), None)


class PrivateKey(ABC):
    """What all private halves have in common: an id, a public half, a file."""

    __slots__ = ("kid", "public")

    def __init__(self, public: bytes) -> None:
        self.public = public
        self.kid = key_id(public)

    def __repr__(self) -> str:
        return f"<{type(self).__name__} {self.kid.hex()}>"

    @classmethod
    @abstractmethod
    def generate(cls) -> Self:
        """Make a new key from the operating system's randomness."""

    @classmethod
    @abstractmethod
    def from_bytes(cls, secret: bytes) -> Self:
        """Take the 32 secret bytes; ``ValueError`` if they are no key."""

    @classmethod
    @abstractmethod
    def from_pem(cls, pem: bytes) -> Self:
        """Take an unencrypted PKCS8 PEM; ``Refused(BAD_KEY_FILE)`` if it is another kind of key, or none."""

    @abstractmethod
    def to_bytes(self) -> bytes:
        """Return the 32 secret bytes. For provisioning and tests; never log them."""

    @abstractmethod
    def to_pem(self) -> bytes:
        """Return the secret as PKCS8 PEM. Never log it."""

    def save(self, path: Path) -> None:
        """Write the key to a new file that only its owner can read. ``FileExistsError``: a key is never overwritten."""
        descriptor = os.open(path, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o600)
        with os.fdopen(descriptor, "wb") as file:
            file.write(self.to_pem())
            file.flush()
            os.fsync(file.fileno())

    @classmethod
    def load(cls, path: Path) -> Self:
        """Read a key file. ``Refused(BAD_KEY_FILE)`` if it is no such key, or others may read or change it."""
        if path.stat().st_mode & _OTHERS:
            raise Refused(Reason.BAD_KEY_FILE, f"{path}: others may read or change it; run: chmod 600 {path}")
        try:
            return cls.from_pem(path.read_bytes())
        except Refused as refused:
            raise Refused(refused.reason, f"{path}: {refused.detail}") from None


class Signer(PrivateKey):
    """An Ed25519 key of the cloud's authority, or an offline root."""

    __slots__ = ("_key",)

    def __init__(self, key: Ed25519PrivateKey) -> None:
        super().__init__(key.public_key().public_bytes_raw())
        self._key = key

    @classmethod
    def generate(cls) -> Self:
        """Make a new key."""
        return cls(Ed25519PrivateKey.generate())

    @classmethod
    def from_bytes(cls, secret: bytes) -> Self:
        """Take the 32 secret bytes of RFC 8032."""
        return cls(Ed25519PrivateKey.from_private_bytes(secret))

    @classmethod
    def from_pem(cls, pem: bytes) -> Self:
        """Take a PEM."""
        key = _private(pem)
        if not isinstance(key, Ed25519PrivateKey):
            raise Refused(Reason.BAD_KEY_FILE, "an Ed25519 key is wanted")
        return cls(key)

    def to_bytes(self) -> bytes:
        """Return the secret."""
        return self._key.private_bytes_raw()

    def to_pem(self) -> bytes:
        """Return the secret as PEM."""
        return _pem(self._key)

    def sign(self, data: bytes) -> bytes:
        """Return the 64-byte signature."""
        return self._key.sign(data)

    def may_sign(self, *types: DocumentType) -> AuthorityKey:
        """Return this key's entry for a key set."""
        return AuthorityKey(self.kid, self.public, frozenset(types))


class _P256(PrivateKey):
    """A P-256 private key; ``public`` is the 33-byte compressed point."""

    __slots__ = ("_key",)

    def __init__(self, key: ec.EllipticCurvePrivateKey) -> None:
        encoding, form = serialization.Encoding.X962, serialization.PublicFormat.CompressedPoint
        super().__init__(key.public_key().public_bytes(encoding, form))
        self._key = key

    @classmethod
    def generate(cls) -> Self:
        """Make a new key."""
        return cls(ec.generate_private_key(_CURVE))

    @classmethod
    def from_bytes(cls, secret: bytes) -> Self:
        """Take the 32-byte private number, big-endian."""
        number = int.from_bytes(secret)
        if len(secret) != 32 or not 0 < number < _ORDER:
            raise ValueError("no P-256 private key")
        return cls(ec.derive_private_key(number, _CURVE))

    @classmethod
    def from_pem(cls, pem: bytes) -> Self:
        """Take a PEM."""
        key = _private(pem)
        if not isinstance(key, ec.EllipticCurvePrivateKey) or not isinstance(key.curve, ec.SECP256R1):
            raise Refused(Reason.BAD_KEY_FILE, "a P-256 key is wanted")
        return cls(key)

    def to_bytes(self) -> bytes:
        """Return the secret."""
        return self._key.private_numbers().private_value.to_bytes(32)

    def to_pem(self) -> bytes:
        """Return the secret as PEM."""
        return _pem(self._key)


class BoxSigner(_P256):
    """The box's signing key (ES256). Made on the box, never leaves it."""

    __slots__ = ()

    def sign(self, data: bytes) -> bytes:
        """Return the 64-byte signature ``r ‖ s``."""
        r, s = decode_dss_signature(self._key.sign(data, ec.ECDSA(SHA256())))
        return r.to_bytes(32) + s.to_bytes(32)


class AgreementKey(_P256):
    """A key that documents are sealed to: the box's V or the cloud's C."""

    __slots__ = ()

    def agree(self, public: bytes) -> bytes:
        """Return the ECDH secret (x, 32 bytes) with a compressed point; ``ValueError`` if it is not on the curve."""
        other = ec.EllipticCurvePublicKey.from_encoded_point(_CURVE, public)
        return self._key.exchange(ec.ECDH(), other)


def verify_ed25519(public: bytes, signature: bytes, data: bytes) -> bool:
    """Tell whether the signature holds; False too for a public key that is none."""
    try:
        Ed25519PublicKey.from_public_bytes(public).verify(signature, data)
    except (InvalidSignature, ValueError):
        return False
    return True


def verify_es256(public: bytes, signature: bytes, data: bytes) -> bool:
    """Tell whether ``r ‖ s`` holds for a compressed P-256 key; False too for a public key that is none."""
    if len(signature) != 64:
        return False
    encoded = encode_dss_signature(int.from_bytes(signature[:32]), int.from_bytes(signature[32:]))
    try:
        key = ec.EllipticCurvePublicKey.from_encoded_point(_CURVE, public)
        key.verify(encoded, data, ec.ECDSA(SHA256()))
    except (InvalidSignature, ValueError):
        return False
    return True


def _private(pem: bytes) -> object:
    try:
        return serialization.load_pem_private_key(pem, password=None)
    except (ValueError, TypeError, UnsupportedAlgorithm):
        raise Refused(Reason.BAD_KEY_FILE, "no unencrypted PKCS8 private key in PEM") from None


def _pem(key: Ed25519PrivateKey | ec.EllipticCurvePrivateKey) -> bytes:
    plain = serialization.NoEncryption()
    return key.private_bytes(serialization.Encoding.PEM, serialization.PrivateFormat.PKCS8, plain)
