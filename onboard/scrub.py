"""Takes secrets and identities out of text that leaves the box by somebody's hand.

Two nets: what this box knows to be one, in every form in which it could be written; and whatever looks like one.
"""

from __future__ import annotations

import base64
import contextlib
import re
import sqlite3
from collections.abc import Iterable, Iterator
from dataclasses import fields, is_dataclass
from pathlib import Path
from typing import Any, Final

from cloud_sync.documents import Refused, decode_record
from cloud_sync.provisioning import KEYS, PROVISIONING, load_provisioning
from onboard.store_open import DATABASE
from onboard.store_side import SideFiles

LEFT_OUT: Final = "[left out]"
SHORTEST: Final = 6
"""Bytes; a shorter value would take innocent text with it."""

ROWS_MAX: Final = 20_000

LOOKS: Final = tuple(
    re.compile(pattern)
    for pattern in (
        r"(?s)-----BEGIN [^-]+-----.*?-----END [^-]+-----",
        r"(?i)(?<![a-z])(?:pin|username|password|passwd|passphrase|secret|token)\b['\"]?\s*[:= ]\s*\S+",
        r"[\w.+-]+@[\w-]+(?:\.[\w-]+)+",
        r"(?<![\d.])-?\d{1,3}\.\d{4,}",  # a coordinate
        r"(?<![\d.])(?:\+\d{2}|0)[ .]?\d(?:[ .]?\d\d){4}(?![\d.])",  # a telephone
        r"(?i)(?<![0-9a-f])(?:[0-9a-f]{2}[:-]){3,}[0-9a-f]{2}(?![0-9a-f])",  # a phone's or a card's number
        r"(?<![0-9A-Za-z])(?=[0-9A-Fa-f]*\d)[0-9A-Fa-f]{8,}(?![0-9A-Za-z])",
        r"(?<![\w+/=-])(?=[\w+/-]*[a-z])(?=[\w+/-]*[A-Z])(?=[\w+/-]*[0-9+])[\w+/-]{16,}={0,2}(?![\w+/=-])",  # base64
        r"(?<![\w+/=-])[\w+/-]{7,}={1,2}(?![\w+/=.\"'-])",  # padded
        r"(?:\\x[0-9a-f]{2}[^\s\\]{0,3}){3,}",  # bytes as Python prints them
    )
)


def scrub(text: str, known: Iterable[str]) -> str:
    """Return ``text`` without ``known`` values (``forms``) and without what looks like a secret or an identity."""
    for each in sorted(known, key=len, reverse=True):
        text = re.sub(re.escape(each), LEFT_OUT, text, flags=re.IGNORECASE)
    for look in LOOKS:
        text = look.sub(LEFT_OUT, text)
    return text


def scrub_values(value: Any, known: Iterable[str]) -> Any:
    """Return JSON's ``value`` with its texts scrubbed; numbers stay."""
    kept = tuple(known)
    if isinstance(value, dict):
        return {scrub(str(name), kept): scrub_values(each, kept) for name, each in value.items()}
    if isinstance(value, list):
        return [scrub_values(each, kept) for each in value]
    return scrub(value, kept) if isinstance(value, str) else value


def forms(value: bytes) -> set[str]:
    """Return how a value could stand in text: hexadecimal, base64, as Python prints it, or as itself."""
    found = {value.hex(), value.hex(":"), value.hex("-"), value.hex(" "), repr(value)[2:-1]}
    for encode in (base64.b64encode, base64.urlsafe_b64encode):
        found.add(encode(value).decode().rstrip("="))
    with contextlib.suppress(UnicodeDecodeError):
        found.add(value.decode())
    return {each for each in found if len(each) >= SHORTEST}


def known_of(folder: Path, passwords: Iterable[Path] = ()) -> set[str]:
    """Return every form of what the box in ``folder`` must tell nobody: its keys, PINs' digests, people, their keys.

    What cannot be read is left out: then it is not in the text either, or it looks like one.
    """
    found: set[bytes] = set()
    for file in (*(folder / KEYS).glob("*.pem"), *passwords):
        with contextlib.suppress(OSError):
            found |= {line.strip() for line in file.read_bytes().splitlines() if not line.startswith(b"-----")}
    with contextlib.suppress(OSError, ValueError):
        given = load_provisioning(folder / PROVISIONING)
        found |= {given.agreement.to_bytes(), given.signing.to_bytes(), given.card_key}
        found |= {part for each in given.technicians for part in (each.name.encode(), each.salt, each.digest)}
    side = SideFiles(folder)
    for people in (side.listed, side.running.rental):
        found |= set(_octets(people))
    for record in _records(folder / DATABASE):
        found |= set(_octets(record))
    return {form for value in found if len(value) >= SHORTEST for form in forms(value)}


def _records(database: Path) -> Iterator[Any]:
    """Give the last rows' records, if the daemon does not hold them: whom they name."""
    with contextlib.suppress(sqlite3.Error, OSError):
        name = f"{database.resolve(strict=True).as_uri()}?mode=ro"
        with contextlib.closing(sqlite3.connect(name, uri=True, timeout=1)) as db:
            for (payload,) in db.execute("SELECT payload FROM events ORDER BY seq DESC LIMIT ?", (ROWS_MAX,)):
                with contextlib.suppress(Refused):
                    yield decode_record(payload)


def _octets(value: Any) -> Iterator[bytes]:
    if isinstance(value, bytes):
        yield value
    elif is_dataclass(value):
        for each in fields(value):
            yield from _octets(getattr(value, each.name))
    elif isinstance(value, tuple | list | frozenset):
        for each in value:
            yield from _octets(each)
