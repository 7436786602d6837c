"""The commune's signature. The only module that touches private keys; they are files, outside the database.

``DIR/offline/``  roots 1 and 2, and the key for updates: to be moved to a machine without a network, then removed here.
``DIR/keys/``     what the endpoint signs and opens with, and each box's card key; not part of a database backup.
``DIR/key_set.cbor``  the signed key set, public.
"""

from __future__ import annotations

import contextlib
import hashlib
import hmac
import os
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Final

from cloud_sync.documents import (
    Ack,
    AgreementKey,
    BoxAnswer,
    BoxRequest,
    Command,
    DocumentType,
    EventBatch,
    KeySet,
    Resend,
    Signer,
    Technician,
    TimeProof,
    card_keys,
    decode_event_batch,
    decode_key_set,
    encode_ack,
    encode_box_answer,
    encode_command,
    encode_key_set,
    encode_pass,
    encode_resend,
    encode_reservation_list,
    encode_time_proof,
    roots_fingerprint,
    sealed_to,
)
from cloud_sync.documents.schema import vehicle_id
from cloud_sync.endpoint.certificate_parts import write
from cloud_sync.endpoint.messages import Box
from cloud_sync.provisioning import CARD_KEY_BYTES, write_secret
from onboard.core.grants import Pass, ReservationList

ROLES: Final = {
    "lists": (DocumentType.RESERVATION_LIST, DocumentType.PASS),
    "sync": (DocumentType.ACK, DocumentType.RESEND, DocumentType.TIME_PROOF),
    "command": (DocumentType.COMMAND,),
    "boxes": (DocumentType.BOX_ANSWER,),
}
"""Keys of the running endpoint, and the only documents each may sign."""

BOXES: Final = "boxes"
"""The one role that a folder may lack: one of before gets its key with its next key set."""

CARD_REF_BYTES: Final = 8


class AuthorityError(Exception):
    """The key files can't be used; the text says why and what to do."""


@dataclass(frozen=True, slots=True)
class Paths:
    """Where things are in an endpoint's folder."""

    folder: Path

    @property
    def offline(self) -> Path:
        """Keys that no networked machine needs."""
        return self.folder / "offline"

    @property
    def keys(self) -> Path:
        """Keys that the endpoint uses."""
        return self.folder / "keys"

    @property
    def cards(self) -> Path:
        """Each box's card key."""
        return self.keys / "cards"

    @property
    def card_master(self) -> Path:
        """The key from which every card's keys are made: without it no new card can be written."""
        return self.keys / "card-master.key"

    @property
    def roots(self) -> Path:
        """Public halves of the roots, one hexadecimal line each."""
        return self.folder / "roots.txt"

    @property
    def key_set(self) -> Path:
        """The signed key set."""
        return self.folder / "key_set.cbor"

    @property
    def proposal(self) -> Path:
        """A key set that no root has signed yet."""
        return self.folder / "key_set.proposal"

    @property
    def database(self) -> Path:
        """The SQLite file."""
        return self.folder / "data" / "cloud.sqlite3"


def initialise(folder: Path, now_s: int) -> None:
    """Make roots, authority keys, the sealing key and a first key set. AuthorityError if there are some already."""
    paths = Paths(folder)
    if paths.keys.exists() or paths.key_set.exists():
        raise AuthorityError(f"{folder} holds keys already. Nothing was changed; choose an empty folder.")
    for made in (folder, paths.offline, paths.keys, paths.cards, paths.database.parent):
        made.mkdir(mode=0o700, parents=True, exist_ok=True)
    roots = (Signer.generate(), Signer.generate())
    update = Signer.generate()
    for number, root in enumerate(roots, start=1):
        root.save(paths.offline / f"root-{number}.pem")
    update.save(paths.offline / "update.pem")
    entries = [update.may_sign(DocumentType.UPDATE)]
    for role, types in ROLES.items():
        signer = Signer.generate()
        signer.save(paths.keys / f"{role}.pem")
        entries.append(signer.may_sign(*types))
    sealing = AgreementKey.generate()
    sealing.save(paths.keys / "sealing.pem")
    write_secret(paths.card_master, os.urandom(card_keys.KEY_BYTES))
    # Seconds as a version: a key set made after a loss of this folder is still newer than what the boxes hold.
    key_set = KeySet(now_s, tuple(entries), sealing.public)
    write_secret(paths.roots, "".join(f"{root.public.hex()}\n" for root in roots).encode())
    write_secret(paths.key_set, encode_key_set(key_set, roots[0]))


class PrivateKeys:
    """The private halves in ``DIR/keys``. Which of them count, the key set says: a file's name tells the role alone."""

    def __init__(self, folder: Path) -> None:
        """Load them. ``Refused``: a file is no such key, or others may read or change it."""
        found = {role: map(Signer.load, sorted(folder.glob(f"{role}*.pem"))) for role in ROLES}
        self._signers = {role: {signer.kid: signer for signer in signers} for role, signers in found.items()}
        self.sealings = {key.kid: key for key in map(AgreementKey.load, sorted(folder.glob("sealing*.pem")))}
        """Old ones too: a box that was away for months seals to the one that it knows."""

    def signer(self, role: str, key_set: KeySet) -> Signer:
        """Return the first key of the set for a role whose private half is here, or raise ``AuthorityError``."""
        for key in key_set.keys:
            if key.types.issuperset(ROLES[role]) and key.kid in self._signers[role]:
                return self._signers[role][key.kid]
        raise AuthorityError(f"no keys/{role}*.pem is in the key set: the boxes would refuse what is signed")

    def sealing(self, key_set: KeySet) -> AgreementKey:
        """Return the sealing key of the set, or raise ``AuthorityError``."""
        for key in self.sealings.values():
            if key.public == key_set.sealing_public:
                return key
        raise AuthorityError("no keys/sealing*.pem is the key set's: what the boxes seal could not be opened")


class Authority:
    """Signs what goes down to the boxes and opens what they seal to the cloud. Safe to use from several threads."""

    def __init__(self, folder: Path) -> None:
        """Load the keys. AuthorityError or ``Refused``: they are missing, open to others, or not the key set's."""
        self._paths = Paths(folder)
        if not self._paths.key_set.exists():
            raise AuthorityError(f"no key set in {folder}: run amibox-cloud init {folder} first")
        self.roots = tuple(bytes.fromhex(line) for line in self._paths.roots.read_text().split())
        self.key_set_document = self._paths.key_set.read_bytes()
        self.key_set = decode_key_set(self.key_set_document, self.roots)
        own = PrivateKeys(self._paths.keys)
        self._signers = {role: own.signer(role, self.key_set) for role in ROLES if role != BOXES}
        with contextlib.suppress(AuthorityError):
            self._signers[BOXES] = own.signer(BOXES, self.key_set)
        self._sealing = own.sealing(self.key_set)
        self._sealings = own.sealings

    def kid(self, role: str) -> bytes:
        """Return the id of the key in force for a role."""
        return self._signers[role].kid

    @property
    def fingerprint(self) -> str:
        """The commune's own, of its roots."""
        return roots_fingerprint(self.roots)

    def kids(self) -> tuple[bytes, ...]:
        """Return the ids of all keys in force."""
        return tuple(signer.kid for signer in self._signers.values())

    def open_batch(self, data: bytes, box: Box) -> EventBatch:
        """Open and verify a box's batch; ``Refused``. A box that was away seals to the key that it knows."""
        sealing = self._sealings.get(sealed_to(data), self._sealing)
        return decode_event_batch(data, sealing, box.signing_public, box.vehicle)

    def sign_list(self, listed: ReservationList, box: Box) -> bytes:
        """Sign a list and seal it to its box; ``Refused`` if the box would refuse it."""
        return encode_reservation_list(listed, self._signers["lists"], box.agreement_public)

    def sign_pass(self, grant: Pass) -> bytes:
        """Sign a pass; ``Refused`` if a box would refuse it."""
        return encode_pass(grant, self._signers["lists"])

    def sign_ack(self, ack: Ack) -> bytes:
        """Sign an acknowledgement. Only after the commit."""
        return encode_ack(ack, self._signers["sync"])

    def sign_resend(self, resend: Resend) -> bytes:
        """Sign a wish for rows."""
        return encode_resend(resend, self._signers["sync"])

    def sign_time(self, proof: TimeProof) -> bytes:
        """Sign the time."""
        return encode_time_proof(proof, self._signers["sync"])

    def sign_command(self, command: Command) -> bytes:
        """Sign a command."""
        return encode_command(command, self._signers["command"])

    def card_ref(self, vehicle: str, uid: bytes) -> bytes:
        """Return the reference of a card at one car. AuthorityError for a car without a card key here."""
        path = self._paths.cards / f"{vehicle_id(vehicle)}.key"
        try:
            key = path.read_bytes()
        except FileNotFoundError as error:
            raise AuthorityError(f"no card key for {vehicle} in {self._paths.cards}: give the card's ref") from error
        return hmac.digest(key, uid, hashlib.sha256)[:CARD_REF_BYTES]

    def card_key(self, uid: bytes, slot: int) -> bytes:
        """Return a card's key for a car's slot (0: the card's own master). AuthorityError without a master here."""
        try:
            master = self._paths.card_master.read_bytes()
        except FileNotFoundError as error:
            raise AuthorityError(
                f"no {self._paths.card_master}: restore it from your copy of the keys. "
                "Cards written with another master would open nothing"
            ) from error
        return card_keys.card_key(master, uid, slot)

    def answer(  # noqa: PLR0913  (what a box is given)
        self,
        vehicle: str,
        request: BoxRequest,
        now_s: int,
        *,
        list_floor: int = 0,
        technicians: Sequence[Technician] = (),
        town: str = "",
        ca: bytes | None = None,
        certificate: bytes | None = None,
    ) -> bytes:
        """Answer a box's request: all that it is given, signed and sealed to it. A car without a card key gets one.

        AuthorityError: this folder has no key for it. ``Refused``: the box would refuse it.
        """
        vehicle_id(vehicle)
        if BOXES not in self._signers:
            raise AuthorityError(
                "this folder is older than keys for boxes: make new keys first (amibox-cloud keys propose, sign, adopt)"
            )
        card_file = self._paths.cards / f"{vehicle}.key"
        with contextlib.suppress(FileExistsError):
            write(card_file, os.urandom(CARD_KEY_BYTES), 0o600)
        answer = BoxAnswer(
            vehicle=vehicle,
            request=request.digest,
            version=now_s,
            roots=self.roots,
            key_set=self.key_set_document,
            card_key=card_file.read_bytes(),
            list_floor=list_floor,
            technicians=tuple(technicians),
            town=town,
            ca=ca,
            certificate=certificate,
        )
        return encode_box_answer(answer, self._signers[BOXES], request.agreement_public)
