"""What every signed document has in common: how it is made, and the order in which a stranger's is judged.

Size, depth and count; then shape and schema; then the signature; then the meaning. Nothing is used before all hold.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, Final, TypeVar

from cloud_sync.documents import cbor, cose
from cloud_sync.documents.cose import Signed
from cloud_sync.documents.keys import BoxSigner, KeySet, Signer, key_id
from cloud_sync.documents.kinds import DocumentType, Reason, Refused

T = TypeVar("T")

DAY_S: Final = 86_400


def make(kind: DocumentType, values: dict[int, Any], read: Callable[[Any], Any], signer: Signer | BoxSigner) -> bytes:
    """Encode and sign. ``read`` is the reader of this type: what it would refuse is not signed (``Refused``)."""
    payload = cbor.dumps(values)
    read(cbor.loads(payload))
    return cose.sign1(kind, payload, signer)


def check_key(signed: Signed, key_set: KeySet) -> None:
    """Raise ``Refused`` unless a key of the set that may sign this type did sign it."""
    key = key_set.find(signed.kid)
    if key is None:
        raise Refused(Reason.UNKNOWN_KEY_ID, signed.kid.hex())
    if signed.type not in key.types:
        raise Refused(Reason.KEY_NOT_ALLOWED, f"{signed.kid.hex()} does not sign a {signed.type.word}")
    if not signed.signed_by(key.public):
        raise Refused(Reason.BAD_SIGNATURE, f"key {signed.kid.hex()}")


def check_public(signed: Signed, publics: tuple[bytes, ...]) -> None:
    """Raise ``Refused`` unless one of these public keys signed it."""
    for public in publics:
        if key_id(public) == signed.kid:
            if not signed.signed_by(public):
                raise Refused(Reason.BAD_SIGNATURE, f"key {signed.kid.hex()}")
            return
    raise Refused(Reason.UNKNOWN_KEY_ID, signed.kid.hex())


def check_vehicle(found: str, wanted: str) -> None:
    """Raise ``Refused`` if the document is for another car."""
    if found != wanted:
        raise Refused(Reason.WRONG_VEHICLE, f"for {found}, this is {wanted}")


def from_authority(data: bytes, kind: DocumentType, read: Callable[[Any], T], key_set: KeySet) -> T:
    """Open an unsealed document of the authority: envelope, schema, signature."""
    signed = cose.open_document(data, kind)
    content = read(cbor.loads(signed.payload))
    check_key(signed, key_set)
    return content
