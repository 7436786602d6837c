"""The one file that makes a computer the box of a car: who it is, its keys, whom it believes.

Deterministic CBOR, mode 0600, written by the commune's side, read by the box. It holds secrets of this box alone: a
stolen one opens no other car. Map keys: 0 vehicle, 1 agreement key V (32 bytes), 2 signing key (32 bytes), 3 the public
halves of the offline roots, 4 card key (32 bytes: card references are HMACs under it), 5 a key set as signed by a root,
6 and 7 the version floors of key sets and reservation lists, 8 technicians: arrays of name, salt, digest of the PIN.
"""

from __future__ import annotations

import hashlib
import os
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Final

from cloud_sync.documents import AgreementKey, BoxSigner, Refused, cbor, schema
from cloud_sync.documents.schema import Fields

MAX_BYTES: Final = 65_536
CARD_KEY_BYTES: Final = 32
_ROOTS_MAX: Final = 4
TECHNICIANS_MAX: Final = 32
SALT_BYTES: Final = 16
PIN_DIGEST_BYTES: Final = 32


@dataclass(frozen=True, slots=True)
class Technician:
    """Who may log in at a box's console by a PIN of their own for this box. ``name``: 1 to 32 of ``a-z 0-9 -``."""

    name: str
    salt: bytes
    digest: bytes = field(repr=False)


def pin_digest(pin: str, salt: bytes) -> bytes:
    """Return what is kept of a PIN: scrypt (RFC 7914) with n 2^14, r 8, p 1, which takes 16 MiB for each guess."""
    return hashlib.scrypt(pin.encode(), salt=salt, n=1 << 14, r=8, p=1, dklen=PIN_DIGEST_BYTES)


@dataclass(frozen=True, slots=True)
class Provisioning:
    """What a box is given once. ``roots``: 32-byte Ed25519 public keys, any one of which may sign a key set."""

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


def write_provisioning(path: Path, given: Provisioning) -> None:
    """Write a box's file. Raises OSError; FileExistsError if it is there already."""
    write_secret(
        path,
        cbor.dumps(
            {
                0: given.vehicle,
                1: given.agreement.to_bytes(),
                2: given.signing.to_bytes(),
                3: list(given.roots),
                4: given.card_key,
                5: given.key_set,
                6: given.key_set_floor,
                7: given.list_floor,
                8: [[each.name, each.salt, each.digest] for each in given.technicians],
            }
        ),
    )


def load_provisioning(path: Path) -> Provisioning:
    """Read the file. Raises ValueError with the remedy for one that is missing or damaged."""
    remedy = "give the box the file that amibox-cloud box add made for its car"
    try:
        with path.open("rb") as file:
            data, open_to_others = file.read(MAX_BYTES + 1), os.fstat(file.fileno()).st_mode & 0o077
    except OSError as error:
        raise ValueError(f"{path} cannot be read ({error.strerror}): {remedy}") from error
    if open_to_others:
        raise ValueError(f"{path} holds keys, and others may read or change it: run chmod 600 {path}")
    try:
        left = Fields(cbor.loads(data, MAX_BYTES), "provisioning")
        given = Provisioning(
            vehicle=left.need(0, "vehicle", schema.vehicle_id),
            agreement=AgreementKey.from_bytes(left.need(1, "agreement", schema.octets, 32)),
            signing=BoxSigner.from_bytes(left.need(2, "signing", schema.octets, 32)),
            roots=tuple(left.need(3, "roots", schema.items, _ROOTS_MAX, _root, 1)),
            card_key=left.need(4, "card_key", schema.octets, CARD_KEY_BYTES),
            key_set=left.need(5, "key_set", schema.short_octets, 1, MAX_BYTES),
            key_set_floor=left.need(6, "key_set_floor", schema.uint),
            list_floor=left.need(7, "list_floor", schema.uint),
            # A box of before has none.
            technicians=tuple(left.may(8, "technicians", schema.items, TECHNICIANS_MAX, _technician) or ()),
        )
        left.done()
    except (Refused, ValueError):
        # Never what was refused: it holds keys.
        raise ValueError(f"{path} is no provisioning file: {remedy}") from None
    return given


def _root(value: Any, where: str) -> bytes:
    return schema.octets(value, where, 32)


def _technician(value: Any, where: str) -> Technician:
    if type(value) is not list or len(value) != 3:
        raise schema.bad(where, "name, salt and digest are wanted")
    return Technician(
        schema.vehicle_id(value[0], where),
        schema.octets(value[1], where, SALT_BYTES),
        schema.octets(value[2], where, PIN_DIGEST_BYTES),
    )
