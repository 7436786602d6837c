"""Card keys: from the commune's one master, a key of its own for each card and each car's slot (NXP AN10922, AES-128).

The master stays on the commune's side. A car gets the keys of the cards in its list, for its own slot alone: whoever
takes a box apart opens that car, and no other.
"""

from __future__ import annotations

from typing import Final

from cryptography.hazmat.primitives.ciphers import Cipher
from cryptography.hazmat.primitives.ciphers.algorithms import AES
from cryptography.hazmat.primitives.ciphers.modes import CBC, ECB

KEY_BYTES: Final = 16
SYSTEM: Final = b"AmiBox"
APPLICATION: Final = bytes.fromhex("494d41")
"""As ``hw.desfire.APPLICATION``."""
SLOT_MAX: Final = 13
"""Slot 0 is the card's own master: it changes the others."""
_BLOCK: Final = 16
_INPUT_MAX: Final = 31


def card_key(master: bytes, uid: bytes, slot: int) -> bytes:
    """Return ``K_card``: the key of the card with this number for a car's slot (0: the card's own master).

    ValueError for a number that is none, or a slot that no card has.
    """
    if len(uid) not in (4, 7, 10):
        raise ValueError("a card's number has 4, 7 or 10 bytes")
    if not 0 <= slot <= SLOT_MAX:
        raise ValueError(f"a card has slots 0 to {SLOT_MAX}")
    return diversify(master, uid + APPLICATION + bytes((slot,)) + SYSTEM)


def diversify(master: bytes, data: bytes) -> bytes:
    """Return AN10922's AES-128 key for ``data``, 1 to 31 bytes. ValueError otherwise.

    A CMAC over exactly two blocks: shorter input is padded to 32 bytes, also where one block would hold it. So it is
    RFC 4493 only from 16 bytes on.
    """
    if len(master) != KEY_BYTES:
        raise ValueError(f"a master key has {KEY_BYTES} bytes")
    if not 1 <= len(data) <= _INPUT_MAX:
        raise ValueError(f"1 to {_INPUT_MAX} bytes make a key, not {len(data)}")
    first = _doubled(_encrypted(master, bytes(_BLOCK)))
    text = b"\x01" + data
    mask = first if len(text) == 2 * _BLOCK else _doubled(first)
    padded = text if len(text) == 2 * _BLOCK else (text + b"\x80").ljust(2 * _BLOCK, b"\x00")
    last = (int.from_bytes(padded[_BLOCK:]) ^ int.from_bytes(mask)).to_bytes(_BLOCK)
    context = Cipher(AES(master), CBC(bytes(_BLOCK))).encryptor()
    return (context.update(padded[:_BLOCK] + last) + context.finalize())[_BLOCK:]


def _doubled(block: bytes) -> bytes:
    """Return a subkey (RFC 4493 section 2.3): shifted by one bit, and what falls out at the top comes in below."""
    number = int.from_bytes(block) << 1
    if number >> 128:
        number ^= (1 << 128) ^ 0x87
    return number.to_bytes(_BLOCK)


def _encrypted(key: bytes, block: bytes) -> bytes:
    context = Cipher(AES(key), ECB()).encryptor()  # noqa: S305 - one block, for the subkeys
    return context.update(block) + context.finalize()
