"""What the cloud tells a box, besides grants: keys, commands, acknowledgements, time."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any, Final

from cloud_sync.documents import cbor, cose, schema
from cloud_sync.documents.keys import AuthorityKey, KeySet, Signer, key_id
from cloud_sync.documents.kinds import AUTHORITY_TYPES, DocumentType, Reason, Refused
from cloud_sync.documents.schema import Fields
from cloud_sync.documents.signed import check_public, check_vehicle, from_authority, make
from onboard.core.events import Intent

_MAX_KEYS, _MAX_TYPES = 32, 16
_MAX_COUNT: Final = schema.MAX_COUNT


@dataclass(frozen=True, slots=True)
class Ack:
    """The cloud has committed every row up to ``up_to_seq``. Counts only if ``digest`` is that of the box's own row."""

    vehicle: str
    store_id: bytes
    up_to_seq: int
    digest: bytes


@dataclass(frozen=True, slots=True)
class Resend:
    """The cloud wants the rows from ``from_seq`` on again."""

    vehicle: str
    store_id: bytes
    from_seq: int


@dataclass(frozen=True, slots=True)
class TimeProof:
    """True time (Unix seconds) when the cloud answered this nonce (16 bytes, used once, lives 60 s)."""

    vehicle: str
    nonce: bytes
    time_s: float


@dataclass(frozen=True, slots=True)
class Command:
    """A person's wish through the cloud: ``subject`` is a reservation's or a staff member's id.

    Counts once (``counter`` rises within ``boot_epoch``) and only until ``not_after_boot_s`` of that boot's clock.
    """

    vehicle: str
    command_id: bytes
    boot_epoch: bytes
    counter: int
    not_after_boot_s: float
    action: Intent
    subject: bytes


def encode_key_set(key_set: KeySet, root: Signer) -> bytes:
    """Sign the key set with an offline root. Raises ``Refused`` for one that a box would refuse."""
    return make(DocumentType.KEY_SET, _key_set_values(key_set), read_key_set, root)


def propose_key_set(key_set: KeySet) -> bytes:
    """Encode a key set for whoever has a root and is to sign it. It proves nothing."""
    return cbor.dumps(_key_set_values(key_set))


def read_proposal(data: bytes) -> KeySet:
    """Read what ``propose_key_set`` made, or raise ``Refused``."""
    return read_key_set(cbor.loads(data))


def _key_set_values(key_set: KeySet) -> dict[int, Any]:
    keys = [{1: key.kid, 2: key.public, 3: sorted(int(kind) for kind in key.types)} for key in key_set.keys]
    return {1: key_set.version, 2: keys, 3: key_set.sealing_public}


def decode_key_set(data: bytes, roots: tuple[bytes, ...]) -> KeySet:
    """Check a key set against the pinned roots, or raise ``Refused``. ``version`` must grow: that is the caller's."""
    signed = cose.open_document(data, DocumentType.KEY_SET)
    key_set = read_key_set(cbor.loads(signed.payload))
    check_public(signed, roots)
    return key_set


def read_key_set(value: Any) -> KeySet:
    """Check a key set's schema; a key's unknown types are left out, and a type that no such key may sign is refused."""
    left = Fields(value, "key set")
    key_set = KeySet(
        version=left.need(1, "version", schema.uint, _MAX_COUNT, 1),
        keys=left.need(2, "keys", schema.items, _MAX_KEYS, _read_key),
        sealing_public=left.need(3, "sealing", schema.point),
    )
    left.done()
    if len({key.kid for key in key_set.keys}) != len(key_set.keys):
        raise Refused(Reason.CONTRADICTION, "two keys of one id")
    return key_set


def _read_key(value: Any, where: str) -> AuthorityKey:
    left = Fields(value, where)
    key = AuthorityKey(
        kid=left.need(1, "kid", schema.short_octets, 1, 16),
        public=left.need(2, "public", schema.octets, 32),
        types=frozenset(left.need(3, "types", _read_types)),
    )
    left.done()
    if key.kid != key_id(key.public):
        # Whoever signs a key set compares ids: another key under a known id must not pass.
        raise Refused(Reason.CONTRADICTION, f"{where}: {key.kid.hex()} is not the id of its key")
    return key


def _read_types(value: Any, where: str) -> list[DocumentType]:
    numbers = schema.items(value, where, _MAX_TYPES, schema.uint)
    known = [DocumentType(number) for number in numbers if number in set(DocumentType)]
    if not AUTHORITY_TYPES.issuperset(known):
        raise schema.bad(where, "roots sign key sets, boxes their own: no key of the set may")
    return known


def encode_ack(ack: Ack, signer: Signer) -> bytes:
    """Sign an acknowledgement."""
    values = {1: ack.vehicle, 2: ack.store_id, 3: ack.up_to_seq, 4: ack.digest}
    return make(DocumentType.ACK, values, read_ack, signer)


def decode_ack(data: bytes, key_set: KeySet, vehicle: str) -> Ack:
    """Check an acknowledgement, or raise ``Refused``. The caller compares the digest with its own row."""
    ack = from_authority(data, DocumentType.ACK, read_ack, key_set)
    check_vehicle(ack.vehicle, vehicle)
    return ack


def read_ack(value: Any) -> Ack:
    """Check an acknowledgement's schema."""
    left = Fields(value, "ack")
    ack = Ack(
        vehicle=left.need(1, "vehicle", schema.vehicle_id),
        store_id=left.need(2, "store_id", schema.octets, 16),
        up_to_seq=left.need(3, "up_to_seq", schema.uint),
        digest=left.need(4, "digest", schema.octets, 32),
    )
    left.done()
    return ack


def encode_resend(resend: Resend, signer: Signer) -> bytes:
    """Sign a wish for rows."""
    return make(DocumentType.RESEND, {1: resend.vehicle, 2: resend.store_id, 3: resend.from_seq}, read_resend, signer)


def decode_resend(data: bytes, key_set: KeySet, vehicle: str) -> Resend:
    """Check a wish for rows, or raise ``Refused``."""
    resend = from_authority(data, DocumentType.RESEND, read_resend, key_set)
    check_vehicle(resend.vehicle, vehicle)
    return resend


def read_resend(value: Any) -> Resend:
    """Check the schema."""
    left = Fields(value, "resend")
    resend = Resend(
        vehicle=left.need(1, "vehicle", schema.vehicle_id),
        store_id=left.need(2, "store_id", schema.octets, 16),
        from_seq=left.need(3, "from_seq", schema.uint, _MAX_COUNT, 1),
    )
    left.done()
    return resend


def encode_time_proof(proof: TimeProof, signer: Signer) -> bytes:
    """Sign the time for one nonce."""
    return make(
        DocumentType.TIME_PROOF, {1: proof.vehicle, 2: proof.nonce, 3: float(proof.time_s)}, read_time_proof, signer
    )


def decode_time_proof(data: bytes, key_set: KeySet, vehicle: str) -> TimeProof:
    """Check a time proof, or raise ``Refused``. The caller knows its nonces, and how old each is."""
    proof = from_authority(data, DocumentType.TIME_PROOF, read_time_proof, key_set)
    check_vehicle(proof.vehicle, vehicle)
    return proof


def read_time_proof(value: Any) -> TimeProof:
    """Check the schema."""
    left = Fields(value, "time proof")
    proof = TimeProof(
        vehicle=left.need(1, "vehicle", schema.vehicle_id),
        nonce=left.need(2, "nonce", schema.octets, 16),
        time_s=left.need(3, "time", schema.number, 0.0, float(schema.MAX_TIME_S)),
    )
    left.done()
    return proof


def encode_command(command: Command, signer: Signer) -> bytes:
    """Sign a command."""
    values = {
        1: command.vehicle,
        2: command.command_id,
        3: command.boot_epoch,
        4: command.counter,
        5: float(command.not_after_boot_s),
        6: command.action.value,
        7: command.subject,
    }
    return make(DocumentType.COMMAND, values, read_command, signer)


def decode_command(data: bytes, key_set: KeySet, vehicle: str) -> Command:
    """Check a command, or raise ``Refused``. Epoch, counter and time are the core's to judge."""
    command = from_authority(data, DocumentType.COMMAND, read_command, key_set)
    check_vehicle(command.vehicle, vehicle)
    return command


def read_command(value: Any) -> Command:
    """Check a command's schema. A card's "tap" is no command: it has no meaning without the card's place."""
    left = Fields(value, "command")
    command = Command(
        vehicle=left.need(1, "vehicle", schema.vehicle_id),
        command_id=left.need(2, "command_id", schema.octets, 16),
        boot_epoch=left.need(3, "boot_epoch", schema.octets, 8),
        counter=left.need(4, "counter", schema.uint, _MAX_COUNT, 1),
        not_after_boot_s=left.need(5, "not_after_boot", schema.number, 0.0, float(schema.MAX_TIME_S)),
        action=left.need(6, "action", schema.word, Intent),
        subject=left.need(7, "subject", schema.short_octets, 8, 16),
    )
    left.done()
    if command.action is Intent.TAP:
        raise schema.bad("command.action", "unlock, lock or finish is wanted")
    return command
