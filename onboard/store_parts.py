"""The kept state as rows of JSON: one part a row, so that a step writes only what it changed.

``Kept`` is cut along its fields; ``grants`` once more, because the reservation list is large and seldom changes. A
field added later has a default and so reads from an older database. ``outbox.last_seq`` is never stored: the table of
events knows it.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import fields, replace
from functools import cache
from typing import Any, Final, get_type_hints
from zlib import crc32

import msgspec

from onboard.core.state import Grants, Kept

GRANTS: Final = "grants."


class PartDamaged(Exception):  # noqa: N818 - a verdict on a text
    """A part's text is not what was written."""


def split(kept: Kept) -> dict[str, object]:
    """Return the parts of ``kept`` by name."""
    parts: dict[str, object] = {
        field.name: getattr(kept, field.name) for field in fields(Kept) if field.name != "grants"
    }
    parts |= {GRANTS + field.name: getattr(kept.grants, field.name) for field in fields(Grants)}
    parts["outbox"] = replace(kept.outbox, last_seq=0)
    return parts


def join(parts: Mapping[str, object], vehicle: str, floor_s: float) -> Kept:
    """Return the ``Kept`` made of decoded ``parts``; what is missing has its default."""
    grants: dict[str, Any] = {name.removeprefix(GRANTS): part for name, part in parts.items() if GRANTS in name}
    rest: dict[str, Any] = {name: part for name, part in parts.items() if GRANTS not in name}
    return Kept(**{"vehicle": vehicle, "floor_s": floor_s, **rest, "grants": Grants(**grants)})


@cache
def _decoders() -> dict[str, msgspec.json.Decoder[Any]]:
    # Names that an annotation uses are resolved in the module that defines it.
    types = {name: hint for name, hint in get_type_hints(Kept).items() if name != "grants"}
    types |= {GRANTS + name: hint for name, hint in get_type_hints(Grants).items()}
    return {name: msgspec.json.Decoder(hint) for name, hint in types.items()}


def encode(name: str, part: object) -> str:
    """Return the JSON text of a part.

    Raises ``ValueError`` if it would not read back equal (not-a-number, say): such a state must not be committed.
    """
    raw = msgspec.json.encode(part)
    try:
        same = _decoders()[name].decode(raw) == part
    except msgspec.DecodeError as error:
        raise ValueError(f"state part {name} would not read back: {error}") from error
    if not same:
        raise ValueError(f"state part {name} would not read back equal to what was given")
    return raw.decode()


def decode(name: str, text: str) -> object:
    """Return the part that ``text`` holds. Raises ``PartDamaged``."""
    try:
        return _decoders()[name].decode(text)
    except (msgspec.DecodeError, UnicodeError) as error:
        raise PartDamaged(f"state part {name} does not read: {error}") from error


def known(name: str) -> bool:
    """Whether this version has such a part. Others are left alone: a newer version wrote them."""
    return name in _decoders()


def check(name: str, text: str) -> int:
    """Return the checksum kept beside a part: a flipped bit in a number would otherwise read as another number."""
    return crc32(f"{name}\n{text}".encode())
