"""What holds of cards where they are enrolled and where they are read: which numbers may stand for a person."""

from __future__ import annotations

CAPTURE_S = 120.0
"""So long a car waits for the card whose number it is to take."""

NUMBER_BYTES = (4, 7, 10)
"""ISO/IEC 14443-3: single, double and triple size."""

RANDOM = "random_uid"
REUSED = "reused_uid"
UNREADABLE = "unreadable"


def number_fault(uid: bytes, sak: int = 0) -> str | None:
    """Say why a card's number (as on air) can't stand for a person; None if it can.

    ``random_uid``: another one each time, as phones and bank cards show: 4 bytes from 0x08, or from 0x80 on a card that
    speaks ISO 14443-4 (``sak`` & 0x20; NXP support, community.nxp.com td-p/809492). ``reused_uid``: 4 bytes whose
    first ends in F; makers give those out more than once (ISO/IEC 14443-3, table of single-size UIDs).
    """
    if len(uid) not in NUMBER_BYTES:
        return UNREADABLE
    if len(uid) > NUMBER_BYTES[0]:
        return None
    if uid[0] == 0x08 or (uid[0] == 0x80 and sak & 0x20):
        return RANDOM
    return REUSED if uid[0] & 0x0F == 0x0F else None
