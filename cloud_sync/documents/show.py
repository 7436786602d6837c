"""``amibox decode``: any document, readable. Without keys nothing is proven; what is sealed stays shut."""

from __future__ import annotations

import argparse
import base64
import binascii
import json
import re
import sys
from collections.abc import Callable, Iterator
from dataclasses import fields, is_dataclass
from datetime import UTC, datetime
from enum import Enum
from pathlib import Path
from typing import Any, Final

from cloud_sync.documents import boxes, cbor, cose, down, grants, up
from cloud_sync.documents.keys import AgreementKey
from cloud_sync.documents.kinds import (
    AUTHORITY_TYPES,
    BOX_TYPES,
    MAJOR,
    MAX_DOCUMENT_BYTES,
    DocumentType,
    Reason,
    Refused,
)
from cloud_sync.documents.records import Row, decode_record, record_kind
from cloud_sync.documents.signed import check_key
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
    DocumentType.BOX_REQUEST: boxes.read_box_request,
    DocumentType.BOX_ANSWER: boxes.read_box_answer,
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
        return {
            "ref": value.ref.hex(),
            "assurance": value.assurance.value,
            "key": "not shown" if value.key else None,
            "slot": value.slot,
        }
    if isinstance(value, Row):
        return _plain_row(value)
    if is_dataclass(value) and not isinstance(value, type):
        # What a representation leaves out is a secret.
        return {each.name: plain(getattr(value, each.name)) if each.repr else "not shown" for each in fields(value)}
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


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Give ``amibox decode`` its arguments."""
    parser.add_argument("file", metavar="FILE", help="a document: raw, hex or base64; - reads standard input")
    parser.add_argument("--json", action="store_true", help="write one JSON object")
    parser.add_argument("--key-set", type=Path, metavar="FILE", help="key set document: check the signature with it")
    parser.add_argument(
        "--box-key",
        type=Path,
        metavar="FILE",
        help="private key (PEM) that the document is sealed to: the box's, or the cloud's for a batch",
    )
    parser.add_argument("--vehicle", metavar="ID", help="the car it is for; needed to open a seal")


def run(args: argparse.Namespace) -> int:
    """Show one document. Returns 0, 1 for a bad document or key, 2 for a file that cannot be read."""
    try:
        found = _examine(_read(args.file), args.key_set, args.box_key, args.vehicle)
    except Refused as refused:
        reason = refused.reason
        if args.json:
            _print_json({"refused": {"number": reason.value, "reason": reason.word, "detail": refused.detail}})
        sys.stderr.write(f"refused {reason.value} {reason.word}: {reason.meaning} {_printable(refused.detail)}\n")
        return 1
    except OSError as error:
        sys.stderr.write(f"cannot read {error.filename}: {error.strerror}. Check the name and its rights.\n")
        return 2
    if args.json:
        _print_json(found)
    else:
        sys.stdout.writelines(f"{line}\n" for line in _lines(found, ""))
    return 0


def _examine(data: bytes, key_set_file: Path | None, key_file: Path | None, vehicle: str | None) -> dict[str, Any]:
    key_set = None
    if key_set_file is not None:
        stored = unarmoured(key_set_file.read_bytes())
        key_set = down.read_key_set(cbor.loads(cose.open_document(stored, DocumentType.KEY_SET).payload))
    if not cose.is_sealed(data):
        signed, found = cose.parse_sign1(data), describe(data)
    elif key_file is None or vehicle is None:
        return {**describe(data), "content": "sealed: --box-key and --vehicle open it"}
    else:
        sealed = cose.parse_sealed(data)
        signed = cose.open_document(data, sealed.type, vehicle, AgreementKey.load(key_file))
        found = {"sealed": True, "sealed_to": sealed.recipient.hex(), **_describe_signed(signed)}
    found["signature"] = "not checked"
    if key_set is not None and signed.type in AUTHORITY_TYPES:
        check_key(signed, key_set)
        found["signature"] = "holds, by the key set given"
    return found


def _read(name: str) -> bytes:
    if name == "-":
        return unarmoured(sys.stdin.buffer.read(_MAX_INPUT_BYTES))
    with Path(name).open("rb") as file:
        return unarmoured(file.read(_MAX_INPUT_BYTES))


def unarmoured(data: bytes) -> bytes:
    """Return the raw document from raw bytes, hex or base64. A raw one never begins with a printable character."""
    squeezed = b"".join(data.split())
    if re.fullmatch(rb"(?:[0-9A-Fa-f]{2})+", squeezed):
        return bytes.fromhex(squeezed.decode())
    if re.fullmatch(rb"[0-9A-Za-z+/_-]+={0,2}", squeezed):
        padded = squeezed.rstrip(b"=") + b"=" * (-len(squeezed.rstrip(b"=")) % 4)
        try:
            return base64.b64decode(padded.translate(bytes.maketrans(b"-_", b"+/")), validate=True)
        except binascii.Error:
            return data
    return data


def _print_json(value: dict[str, Any]) -> None:
    sys.stdout.write(json.dumps(value) + "\n")


def _printable(text: str) -> str:
    """A stranger's text must not steer the terminal."""
    return "".join(letter if letter.isprintable() else f"\\u{ord(letter):04x}" for letter in text)


def _lines(value: Any, indent: str) -> Iterator[str]:
    named = value.items() if isinstance(value, dict) else ((f"{index}.", item) for index, item in enumerate(value, 1))
    for name, item in named:
        if isinstance(item, dict) or (isinstance(item, list) and any(isinstance(part, dict | list) for part in item)):
            yield f"{indent}{name}"
            yield from _lines(item, indent + "  ")
        else:
            shown = ", ".join(map(_words, item)) or "none" if isinstance(item, list) else _words(item)
            yield f"{indent}{name}: {_printable(shown)}{_date(name, item)}"


def _words(value: Any) -> str:
    if value is None:
        return "none"
    return str(value) if not isinstance(value, bool) else "yes" if value else "no"


def _date(name: str, value: Any) -> str:
    """Unix seconds are shown as a date too."""
    if not name.endswith("_s") or not isinstance(value, int | float) or not 1e9 < value < 4e9:
        return ""
    return f" ({datetime.fromtimestamp(value, UTC):%Y-%m-%d %H:%M:%S} UTC)"
