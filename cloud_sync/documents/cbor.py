"""CBOR from a stranger: bounded before anything is built, and accepted in its one deterministic form only.

``scan`` walks the heads of the items without making objects, so a few bytes cannot ask for much memory. Allowed are
integers, byte and text strings, arrays, maps, false, true, null and floats. Tags stay outside (``cose`` handles the two
that envelopes have): the library's tag decoders (dates, big numbers, regular expressions) never see a stranger's bytes.
"""

from __future__ import annotations

from typing import Any, Final

import cbor2

from cloud_sync.documents.kinds import MAX_DOCUMENT_BYTES, Reason, Refused

MAX_DEPTH: Final = 8
MAX_ITEMS: Final = 32_768
"""Heads in one document: twice what the largest list that fits 64 KiB needs."""

_STRINGS: Final = (2, 3)
_CONTAINERS: Final = {4: 1, 5: 2}
"""Major types of arrays and maps, and how many items each of their number stands for."""
_TAG, _SIMPLE = 6, 7
_SIMPLE_ALLOWED: Final = (20, 21, 22, 25, 26, 27)
"""false, true, null, and floats of three sizes."""


def scan(data: bytes, max_items: int = MAX_ITEMS) -> None:
    """Check that ``data`` is one item of the allowed kinds, complete and within the bounds.

    Raises ``Refused``: ``TOO_LARGE`` for too many or too deeply nested items, ``NOT_CBOR`` for everything else.
    """
    offset = items = 0
    pending = [1]  # items still owed by each open array or map
    while pending:
        if pending[-1] == 0:
            pending.pop()
            continue
        pending[-1] -= 1
        items += 1
        if items > max_items:
            raise Refused(Reason.TOO_LARGE, f"more than {max_items} items")
        major, value, offset = _head(data, offset)
        if major in _STRINGS:
            offset += value
        elif major in _CONTAINERS:
            if len(pending) > MAX_DEPTH:
                raise Refused(Reason.TOO_LARGE, f"nested deeper than {MAX_DEPTH}")
            pending.append(value * _CONTAINERS[major])
    if offset > len(data):
        raise Refused(Reason.NOT_CBOR, "truncated")
    if offset < len(data):
        raise Refused(Reason.NOT_CBOR, f"{len(data) - offset} bytes too many")


def _head(data: bytes, offset: int) -> tuple[int, int, int]:
    """Read one item's head: its major type, its number, and where the head ends."""
    if offset >= len(data):
        raise Refused(Reason.NOT_CBOR, "truncated")
    major, value = data[offset] >> 5, data[offset] & 31
    if major == _TAG or (major == _SIMPLE and value not in _SIMPLE_ALLOWED):
        raise Refused(Reason.NOT_CBOR, "an item that no document uses")
    offset += 1
    if value >= 24:
        width = 1 << (value - 24)
        if value > 27:
            raise Refused(Reason.NOT_CBOR, "a length that is not given")
        value = int.from_bytes(data[offset : offset + width])
        offset += width
    return major, value, offset


def loads(data: bytes, max_bytes: int = MAX_DOCUMENT_BYTES) -> Any:
    """Decode one item, or raise ``Refused``. What comes back encodes to exactly ``data`` again."""
    if len(data) > max_bytes:
        raise Refused(Reason.TOO_LARGE, f"{len(data)} bytes, at most {max_bytes}")
    scan(data)
    try:
        value = cbor2.loads(data, allow_duplicate_keys=False)
    except (cbor2.CBORDecodeError, TypeError, ValueError) as error:  # e.g. text that is no UTF-8, a map as a key
        raise Refused(Reason.NOT_CBOR, str(error)) from None
    if dumps(value) != data:
        raise Refused(Reason.NOT_DETERMINISTIC, "not in the shortest, sorted form")
    return value


def dumps(value: Any) -> bytes:
    """Encode deterministically (RFC 8949 section 4.2.1): shortest heads and floats, map keys in bytewise order."""
    return cbor2.dumps(value, canonical=True)
