"""``amibox decode``: any document, readable. Without keys nothing is proven; what is sealed stays shut."""

from __future__ import annotations

import argparse
import binascii
import json
import re
import sys
from collections.abc import Callable
from dataclasses import fields, is_dataclass
from enum import Enum
from pathlib import Path
from typing import Any, Final

from cloud_sync.documents import cbor, cose, down, grants, up
from cloud_sync.documents.keys import AgreementKey, KeySet
from cloud_sync.documents.kinds import BOX_TYPES, MAJOR, MAX_DOCUMENT_BYTES, DocumentType, Reason, Refused
from cloud_sync.documents.records import Row, decode_record, record_kind
from onboard.core.grants import CardGrant

_READERS: Final[dict[DocumentType, Callable[[Any], Any]]] = {
    DocumentType.KEY_SET: down.read_key_set,
    DocumentType.RESERVATION_LIST: grants.read_list,
    DocumentType.PASS: grants.read_pass,
    DocumentType.COMMAND: down.read_command,
    DocumentType.ACK: down.read_ack,
    DocumentType.RESEND: down.read_resend,
    DocumentType.TIME_PROOF: down.read_time_proof,
    DocumentType.EVENT_BATCH: up.read_event_batch,
    DocumentType.STATUS: up.read_status,
    DocumentType.OFFLINE: up.read_offline,
}
_MAX_INPUT_BYTES: Final = 4 * MAX_DOCUMENT_BYTES
"""Hex with spaces is at most this much longer than the document."""


def document_type(data: bytes) -> DocumentType:
    """Return what a document says it is; nothing is proven. Raises ``Refused``."""
    return cose.parse_sealed(data).type if cose.is_sealed(data) else cose.parse_sign1(data).type


def describe(data: bytes) -> dict[str, Any]:
    """Return what can be read without keys, ready for JSON: bytes as hex, words as text. Raises ``Refused``."""
    if not cose.is_sealed(data):
        return {"sealed": False, **_describe_signed(cose.parse_sign1(data))}
    sealed = cose.parse_sealed(data)
    return {
        "sealed": True,
        "type": sealed.type.word,
        "version": MAJOR,
        "sealed_to": sealed.recipient.hex(),
        "bytes": len(data),
    }


def _describe_signed(signed: cose.Signed) -> dict[str, Any]:
    if signed.type not in _READERS:
        raise Refused(Reason.UNKNOWN_TYPE, f"{signed.type.word}: reserved, not in use")
    content = _READERS[signed.type](cbor.loads(signed.payload))
    return {
        "type": signed.type.word,
        "version": MAJOR,
        "signer": signed.kid.hex(),
        "algorithm": "ES256" if signed.type in BOX_TYPES else "EdDSA",
        "content": plain(content),
    }


def plain(value: Any) -> Any:
    """Return a value made of JSON's types. A card's key is not shown."""
    if isinstance(value, CardGrant):
        return {"ref": value.ref.hex(), "assurance": value.assurance.value, "key": "not shown" if value.key else None}
    if isinstance(value, Row):
        return _plain_row(value)
    if is_dataclass(value) and not isinstance(value, type):
        return {field.name: plain(getattr(value, field.name)) for field in fields(value)}
    if isinstance(value, bytes):
        return value.hex()
    if isinstance(value, frozenset):
        return sorted(item.word for item in value)
    if isinstance(value, Enum):
        return value.name.lower() if isinstance(value, int) else value.value
    if isinstance(value, tuple | list):
        return [plain(item) for item in value]
    return value


def _plain_row(row: Row) -> dict[str, Any]:
    shown: dict[str, Any] = {"seq": row.seq, "boot_epoch": row.boot_epoch.hex(), "at": plain(row.at)}
    if not row.payload:
        shown["kind"] = "dropped"
        return shown
    try:
        record = decode_record(row.payload)
    except Refused as refused:
        return {**shown, "kind": "unreadable", "why": str(refused), "payload": row.payload.hex()}
    return {**shown, "kind": record_kind(record), "record": plain(record)}
