"""The acceptance protocol: a text that a person reads, signed by the box's own key, and checked by anybody with it.

The signature (ES256) covers ``CONTEXT`` and every byte up to and with the line ``key:``; so no other document of the
box can be taken for one. The same facts give the same text.
"""

from __future__ import annotations

import argparse
import base64
import binascii
import sys
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Final

from cloud_sync.documents import BoxSigner
from cloud_sync.documents.keys import verify_es256

CONTEXT: Final = b"amibox acceptance protocol 1\0"
_MAX_BYTES: Final = 65_536
HELP: Final = "check the signature of an acceptance protocol"


@dataclass(frozen=True, slots=True)
class Finding:
    """One step: ``name``, whether it was well (None: left out), and what was seen, in ASCII."""

    name: str
    well: bool | None
    detail: str = ""


def accepted(findings: Sequence[Finding]) -> bool:
    """Tell whether the box may go on the road: nothing failed; what the car does not have may be left out."""
    return bool(findings) and not any(each.well is False for each in findings)


def compose(vehicle: str, software: str, by: str, wall_s: int, findings: Sequence[Finding], signer: BoxSigner) -> str:
    """Return the signed text."""
    words = {True: "ok", False: "FAILED", None: "left out"}
    lines = [
        "AmiBox acceptance protocol 1",
        f"vehicle: {vehicle}",
        f"software: {software}",
        f"technician: {by}",
        f"unix time: {wall_s}",
        *(f"{number:2}. {each.name:<18} {words[each.well]:<8} {each.detail}".rstrip()
          for number, each in enumerate(findings, start=1)),
        f"result: {'accepted' if accepted(findings) else 'NOT accepted'}",
        f"key: {signer.public.hex()}",
    ]  # fmt: skip
    text = "".join(line.encode("ascii", "replace").decode() + "\n" for line in lines)
    return f"{text}signature: {base64.b64encode(signer.sign(CONTEXT + text.encode())).decode()}\n"


def verify(text: str, public: bytes | None = None) -> bool:
    """Tell whether the signature holds, by the box's key ``public``, or by the one that the text itself names.

    Raises ``ValueError`` for a text that is no protocol.
    """
    said, mark, signature = text.replace("\r\n", "\n").rpartition("signature: ")
    lines = said.splitlines()
    if not mark or not lines or lines[0] != "AmiBox acceptance protocol 1" or not lines[-1].startswith("key: "):
        raise ValueError("no acceptance protocol")
    try:
        key = bytes.fromhex(lines[-1].removeprefix("key: "))
        raw = base64.b64decode(signature.strip(), validate=True)
    except (ValueError, binascii.Error) as error:
        raise ValueError("no acceptance protocol") from error
    if public is not None and key != public:
        return False
    return verify_es256(key, raw, CONTEXT + said.encode())


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Describe the arguments of ``amibox acceptance``."""
    parser.add_argument("file", type=Path, metavar="FILE", help="the protocol, as it was printed")
    parser.add_argument("--key", metavar="HEX", help="the box's public key, as the town hall has it")


def run(args: argparse.Namespace) -> int:
    """Say whether it holds; 0 it does, 1 it does not, 2 it does not read."""
    try:
        with args.file.open("rb") as file:
            text = file.read(_MAX_BYTES).decode("ascii")
        public = bytes.fromhex(args.key) if args.key is not None else None
        holds = verify(text, public)
    except (OSError, ValueError) as error:
        sys.stderr.write(f"amibox acceptance: {args.file}: {error}\n")
        return 2
    if not holds:
        sys.stderr.write("the signature does NOT hold: the text was changed, or another box signed it\n")
        return 1
    whose = "by the key given" if public is not None else "by the key it names; --key says whether that is the box's"
    sys.stdout.write(f"the signature holds, {whose}\n")
    return 0
