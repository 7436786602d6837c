"""What makes a computer the box of a car: keys that it makes itself, and the one file that the commune answers with.

``keys/``              the box's own: three private keys and the request for them. Made here, once; they never leave it
``provisioning.cbor``  the commune's answer as it came, signed and sealed to this box: who it is, whom it believes

Both are the box's alone (mode 0600 and 0700). A stolen box opens no other car.
"""

from __future__ import annotations

import contextlib
import hashlib
import os
import shutil
from collections.abc import Callable
from dataclasses import dataclass, field
from pathlib import Path
from typing import Final

from cloud_sync.documents import (
    AgreementKey,
    BoxAnswer,
    BoxRequest,
    BoxSigner,
    Reason,
    Refused,
    Technician,
    decode_box_answer,
    decode_box_request,
    decode_key_set,
    encode_box_request,
)
from cloud_sync.documents.boxes import CARD_KEY_BYTES, PIN_DIGEST_BYTES, SALT_BYTES, TECHNICIANS_MAX
from cloud_sync.documents.kinds import MAX_DOCUMENT_BYTES

__all__ = [
    "CARD_KEY_BYTES",
    "KEYS",
    "PROVISIONING",
    "SALT_BYTES",
    "TECHNICIANS_MAX",
    "BoxKeys",
    "Provisioning",
    "Technician",
    "load_keys",
    "load_provisioning",
    "make_keys",
    "open_answer",
    "pin_digest",
    "take_answer",
    "write_secret",
    "write_whole",
]

KEYS: Final = "keys"
PROVISIONING: Final = "provisioning.cbor"
TLS_KEY: Final = "tls.pem"
_AGREEMENT, _SIGNING, _REQUEST = "agreement.pem", "signing.pem", "request.cbor"


def pin_digest(pin: str, salt: bytes) -> bytes:
    """Return what is kept of a PIN: scrypt (RFC 7914) with n 2^14, r 8, p 1, which takes 16 MiB for each guess."""
    return hashlib.scrypt(pin.encode(), salt=salt, n=1 << 14, r=8, p=1, dklen=PIN_DIGEST_BYTES)


@dataclass(frozen=True, slots=True)
class BoxKeys:
    """A box's private keys, and its request: the same bytes for as long as it has these keys."""

    agreement: AgreementKey
    signing: BoxSigner
    request: bytes


@dataclass(frozen=True, slots=True)
class Provisioning:
    """Who a box is and whom it believes. ``roots``: 32-byte Ed25519 public keys, any of which may sign a key set."""

    vehicle: str
    agreement: AgreementKey
    signing: BoxSigner
    roots: tuple[bytes, ...]
    card_key: bytes = field(repr=False)
    key_set: bytes = field(repr=False)
    key_set_floor: int = 0
    list_floor: int = 0
    technicians: tuple[Technician, ...] = ()


def write_secret(path: Path, data: bytes) -> None:
    """Write a new file that only its owner can read, and make it durable. FileExistsError: nothing is overwritten."""
    with os.fdopen(os.open(path, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o600), "wb") as file:
        file.write(data)
        file.flush()
        os.fsync(file.fileno())


def write_whole(path: Path, data: bytes) -> None:
    """Replace a file that only its owner can read: after a power cut it is the old one or the new one, never a part."""
    fresh = path.with_name(f".{path.name}.new")
    fresh.unlink(missing_ok=True)
    write_secret(fresh, data)
    fresh.replace(path)
    sync_folder(path.parent)


def sync_folder(folder: Path) -> None:
    """Make the names in a folder durable."""
    opened = os.open(folder, os.O_RDONLY | os.O_DIRECTORY)
    try:
        os.fsync(opened)
    finally:
        os.close(opened)


def make_keys(folder: Path) -> BoxKeys:
    """Make a box's keys in ``folder``/keys, durably, all or none; return those that are there if there are some.

    Raises OSError, or ValueError as ``load_keys``.
    """
    place, draft = folder / KEYS, folder / f"{KEYS}.new"
    if not place.exists():
        shutil.rmtree(draft, ignore_errors=True)
        draft.mkdir(mode=0o700)
        agreement, signing, tls = AgreementKey.generate(), BoxSigner.generate(), BoxSigner.generate()
        for name, key in ((_AGREEMENT, agreement), (_SIGNING, signing), (TLS_KEY, tls)):
            key.save(draft / name)
        request = BoxRequest(agreement.public, signing.public, tls.public)
        write_secret(draft / _REQUEST, encode_box_request(request, signing))
        sync_folder(draft)
        with contextlib.suppress(FileExistsError):  # somebody else was faster: theirs count
            draft.rename(place)
        sync_folder(folder)
    return load_keys(folder)


def load_keys(folder: Path) -> BoxKeys:
    """Read a box's keys. Raises ValueError with the remedy for what is missing or damaged."""
    place = folder / KEYS
    keys = None
    try:
        request = (place / _REQUEST).read_bytes()
        asked = decode_box_request(request)
        read = BoxKeys(AgreementKey.load(place / _AGREEMENT), BoxSigner.load(place / _SIGNING), request)
        if (asked.agreement_public, asked.signing_public) == (read.agreement.public, read.signing.public):
            keys = read
    except OSError as error:
        remedy = "have the box make its keys: amibox provision request"
        raise ValueError(f"{place} cannot be read ({error.strerror}): {remedy}") from error
    except Refused as refused:
        if "chmod" in refused.detail:
            raise ValueError(refused.detail) from None
    if keys is None:
        remedy = "begin anew: amibox provision reset, then amibox provision request"
        raise ValueError(f"{place} is damaged; its keys are lost: {remedy}")
    return keys


def open_answer(data: bytes, keys: BoxKeys) -> BoxAnswer:
    """Return an answer for these very keys, or raise ``Refused``. Whose roots it brings is for the caller to judge."""
    answer = decode_box_answer(data, keys.agreement)
    if answer.request != decode_box_request(keys.request).digest:
        raise Refused(Reason.CONTRADICTION, "it answers another request than this box's: it was changed on its way")
    return answer


def take_answer(
    folder: Path,
    data: bytes,
    trusted: Callable[[BoxAnswer], bool],
    *,
    prepare: Callable[[], None] = lambda: None,
) -> BoxAnswer:
    """Make an answer the one that counts, and return it; the same one again changes nothing.

    Raises ``Refused``, or ValueError as ``load_keys``.

    ``trusted``: whether a first answer's roots are the commune's. Later ones must bring the same roots and car, and be
    no older: an old answer would bring back old floors and PINs. ``prepare`` is called once it is found good, before it
    counts.
    """
    keys = load_keys(folder)
    answer = open_answer(data, keys)
    path = folder / PROVISIONING
    if path.exists():
        held = _held(path, keys)
        if answer.vehicle != held.vehicle:
            raise Refused(Reason.WRONG_VEHICLE, f"for {answer.vehicle}, this is {held.vehicle}: reset the box first")
        if set(answer.roots) != set(held.roots):
            raise Refused(Reason.UNKNOWN_KEY_ID, "other roots than this box was given: reset the box first")
        if answer.version < held.version:
            raise Refused(Reason.VERSION_TOO_LOW, f"made at {answer.version}, this box has one of {held.version}")
    elif not trusted(answer):
        raise Refused(Reason.UNKNOWN_KEY_ID, "its roots were not confirmed as the commune's")
    prepare()
    write_whole(path, data)
    return answer


def load_provisioning(path: Path) -> Provisioning:
    """Read the answer that counts and the keys beside it. Raises ValueError with the remedy for what is missing."""
    keys = load_keys(path.parent)
    answer = _held(path, keys)
    return Provisioning(
        vehicle=answer.vehicle,
        agreement=keys.agreement,
        signing=keys.signing,
        roots=answer.roots,
        card_key=answer.card_key,
        key_set=answer.key_set,
        key_set_floor=decode_key_set(answer.key_set, answer.roots).version,
        list_floor=answer.list_floor,
        technicians=answer.technicians,
    )


def _held(path: Path, keys: BoxKeys) -> BoxAnswer:
    remedy = "have the town hall answer (amibox-cloud box renew), then: amibox provision accept FILE"
    try:
        with path.open("rb") as file:
            data, open_to_others = file.read(MAX_DOCUMENT_BYTES + 1), os.fstat(file.fileno()).st_mode & 0o077
    except OSError as error:
        raise ValueError(f"{path} cannot be read ({error.strerror}): {remedy}") from error
    if open_to_others:
        # Anybody can make an answer with roots of their own: that it stands here is what says that it was confirmed.
        raise ValueError(f"{path} says whom this box believes, and others may read or change it: run chmod 600 {path}")
    try:
        return open_answer(data, keys)
    except Refused as refused:
        raise ValueError(f"{path} is no answer for this box ({refused.reason.word}): {remedy}") from None
