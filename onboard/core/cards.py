"""What holds of cards where they are enrolled and where they are read: which numbers may stand for a person."""

from __future__ import annotations

CAPTURE_S = 120.0
"""So long a car waits for the card whose number it is to take."""

NUMBER_BYTES = (4, 7, 10)
"""ISO/IEC 14443-3: single, double and triple size."""

RANDOM = "random_uid"
REUSED = "reused_uid"
UNREADABLE = "unreadable"

CASCADE_TAG = 0x88
"""ISO/IEC 14443-3: what stands before the first three bytes of a longer number; no number begins so."""


def number_fault(uid: bytes, sak: int = 0) -> str | None:
    """Say why a card's number (as on air) can't stand for a person; None if it can.

    ``random_uid``: another one each time, as phones and bank cards show: 4 bytes from 0x08, or from 0x80 on a card that
    speaks ISO 14443-4 (``sak`` & 0x20; NXP support, community.nxp.com td-p/809492). ``reused_uid``: 4 bytes whose
    first ends in F; makers give those out more than once (ISO/IEC 14443-3, table of single-size UIDs).
    """
    if len(uid) not in NUMBER_BYTES:
        return UNREADABLE
    if uid[0] == CASCADE_TAG:
        return UNREADABLE
    if len(uid) > NUMBER_BYTES[0]:
        return None
    if uid[0] == 0x08 or (uid[0] == 0x80 and sak & 0x20):
        return RANDOM
    return REUSED if uid[0] & 0x0F == 0x0F else None


def typed_number(text: str, *, surely_hexadecimal: bool = False) -> bytes:
    """Return a card's number that somebody typed, or a reader that types: hexadecimal, in the order on air.

    ValueError, in the agent's words, for what may be another card's: decimals, and numbers that were cut. Digits
    of 0 to 9 alone may be either, and count only where a program vouches for them (``surely_hexadecimal``).
    """
    digits = "".join(text.split()).replace(":", "").upper()
    if not digits or set(digits) - set("0123456789ABCDEF"):
        raise ValueError(f"{text!r} is no card number: hexadecimal digits are wanted (0 to 9, A to F), as on air")
    ambiguous = digits.isdecimal() and not surely_hexadecimal
    if len(digits) not in [2 * size for size in NUMBER_BYTES] or ambiguous:
        hint = " It may be a decimal number, and which card that is nobody can tell." if digits.isdecimal() else ""
        raise ValueError(
            f"{text} has {len(digits)} digits; a card's number has 8, 14 or 20 hexadecimal ones, no fewer for zeros in "
            f"front.{hint} Set the reader to hexadecimal, in the order on air, or lay the card on a desk reader"
        )
    uid = bytes.fromhex(digits)
    if uid[0] == CASCADE_TAG:
        raise ValueError(
            f"{text} is the beginning of a longer number (88 stands before its first three bytes): the reader cuts it. "
            "Set it to whole numbers (7 bytes), or lay the card on a desk reader"
        )
    return uid


def shown_number(uid: bytes) -> str:
    """Return a card's number as people compare it: upper-case hexadecimal, in the order on air."""
    return uid.hex().upper()
