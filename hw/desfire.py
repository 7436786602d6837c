"""MIFARE DESFire EV2 and EV3: does the card at the reader know its key? And, at the desk, how it comes to know it.

No I/O: ``exchange`` sends one command (APDU) to the card and returns its answer, status last. What it raises passes
through; an answer that proves nothing is a ``NotProven``.

Sources: NXP AN12343 and AN12196 for AuthenticateEV2First and its secure messaging (the same on DESFire Light, NTAG 424
and DESFire EV2), ISO/IEC 7816-4 for the wrapping. Bytes are in the order in which they are sent.
"""

from __future__ import annotations

import hmac
import secrets
import zlib
from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Final

from cryptography.hazmat.primitives.ciphers import Cipher
from cryptography.hazmat.primitives.ciphers.algorithms import AES
from cryptography.hazmat.primitives.ciphers.modes import CBC, ECB
from cryptography.hazmat.primitives.cmac import CMAC

Exchange = Callable[[bytes], bytes]

KEY_BYTES: Final = 16
BLOCK: Final = 16
CARD: Final = bytes(3)
"""The application id that stands for the card itself."""
APPLICATION: Final = bytes.fromhex("494d41")
"""Our application on the card, as sent (low byte first)."""
SLOTS: Final = 13
"""Key 0 of the application changes the others; each of these may belong to one car."""
FACTORY_KEY: Final = bytes(KEY_BYTES)
KEY_VERSION: Final = 1

_SELECT, _CREATE, _FIRST, _MORE, _CHANGE_KEY = 0x5A, 0xCA, 0x71, 0xAF, 0xC4
_OK, _MORE_FRAMES, _WRONG_KEY = b"\x91\x00", b"\x91\xaf", b"\x91\xae"
_EXISTS: Final = b"\x91\xde"
_KEY_SETTINGS: Final = 0x0B
"""Keys change with key 0 alone; the list of applications is free; making and removing files wants key 0."""
_AES_KEYS: Final = 0x80 | (SLOTS + 1)


class NotProven(Exception):  # noqa: N818 - a verdict
    """The card did not prove that it knows the key. ``status``: its last two bytes, or empty where it said too little.

    ``forged``: its answer was wrong. Otherwise it lacks our application, or the means to answer at all.
    """

    def __init__(self, what: str, status: bytes = b"", *, forged: bool = False) -> None:
        super().__init__(f"{what} (status {status.hex() or 'none'})")
        self.status = status
        self.forged = forged


def prove(
    exchange: Exchange, key_number: int, key: bytes, random: Callable[[int], bytes] = secrets.token_bytes
) -> None:
    """Have the card prove that it holds ``key`` as key ``key_number`` of our application. Raises ``NotProven``."""
    select(exchange, APPLICATION)
    authenticate(exchange, key_number, key, random)


def select(exchange: Exchange, application: bytes) -> None:
    """Select an application of the card. Raises ``NotProven``."""
    _expect(_command(exchange, _SELECT, application), _OK, "no such application", 0)


def authenticate(
    exchange: Exchange, key_number: int, key: bytes, random: Callable[[int], bytes] = secrets.token_bytes
) -> Session:
    """AuthenticateEV2First with a key of the selected application. Raises ``NotProven``."""
    if len(key) != KEY_BYTES:
        raise ValueError(f"a card key has {KEY_BYTES} bytes")
    answer = _command(exchange, _FIRST, bytes((key_number, 0)))
    theirs = _cbc(key, _expect(answer, _MORE_FRAMES, "no AuthenticateEV2First", BLOCK), encrypt=False)
    ours = random(BLOCK)
    answer = _command(exchange, _MORE, _cbc(key, ours + theirs[1:] + theirs[:1], encrypt=True))
    told = _cbc(key, _expect(answer, _OK, "wrong key", 2 * BLOCK), encrypt=False)
    # TI(4), our number rotated (16), capabilities of both sides (12).
    if not hmac.compare_digest(told[4:20], ours[1:] + ours[:1]):
        raise NotProven("the card's answer is not ours", answer[-2:], forged=True)
    return Session(key_number, told[:4], *session_keys(key, ours, theirs))


def session_keys(key: bytes, ours: bytes, theirs: bytes) -> tuple[bytes, bytes]:
    """Return the session's keys for encryption and for MACs, from both random numbers (AN12343 section 4.1)."""
    mixed = bytes(a ^ b for a, b in zip(ours[2:8], theirs[:6], strict=True))
    context = bytes.fromhex("00010080") + ours[:2] + mixed + theirs[6:] + ours[8:]
    return _cmac(key, b"\xa5\x5a" + context), _cmac(key, b"\x5a\xa5" + context)


@dataclass(slots=True)
class Session:
    """An authenticated session: commands go encrypted and with a MAC, counted."""

    key_number: int
    transaction: bytes
    encryption_key: bytes = field(repr=False)
    mac_key: bytes = field(repr=False)
    counter: int = 0

    def change_key(self, exchange: Exchange, number: int, new: bytes, old: bytes = FACTORY_KEY) -> None:
        """Change a key of the application; with the session's own key the session is over then. Raises ``NotProven``.

        ``old`` matters for another key than the session's: the card takes the difference of both.
        """
        own = number == self.key_number
        if own:
            data = new + bytes((KEY_VERSION,))
        else:
            difference = bytes(a ^ b for a, b in zip(new, old, strict=True))
            # CRC-32 as the card has it: without the last complement.
            check = (zlib.crc32(new) ^ 0xFFFFFFFF).to_bytes(4, "little")
            data = difference + bytes((KEY_VERSION,)) + check
        answer = exchange(self.sealed(_CHANGE_KEY, bytes((number,)), data))
        self.counter += 1
        if own:
            _expect(answer, _OK, "the key was not changed", 0)
            return
        mac = _expect(answer, _OK, "the key was not changed", 8)
        if not hmac.compare_digest(mac, self._mac(b"\x00")):
            raise NotProven("the answer's MAC is wrong", answer[-2:], forged=True)

    def sealed(self, code: int, header: bytes, data: bytes) -> bytes:
        """Return a command whose ``data`` is encrypted, with its MAC."""
        initial = _ecb(self.encryption_key, b"\xa5\x5a" + self._place() + bytes(8))
        padded = data + b"\x80" + bytes(-(len(data) + 1) % BLOCK)
        secret = _cbc(self.encryption_key, padded, encrypt=True, initial=initial)
        return _wrap(code, header + secret + self._mac(bytes((code,)), header + secret))

    def _place(self) -> bytes:
        return self.transaction + self.counter.to_bytes(2, "little")

    def _mac(self, first: bytes, data: bytes = b"") -> bytes:
        """Return the truncated MAC (every second byte) of a command, or of an answer whose status is ``first``."""
        place = self.counter.to_bytes(2, "little") + self.transaction
        return _cmac(self.mac_key, first + place + data)[1::2]


def personalise(
    exchange: Exchange, keys: dict[int, bytes], random: Callable[[int], bytes] = secrets.token_bytes
) -> None:
    """Make our application on a new card and write its keys: number -> key, 0 included. Raises ``NotProven``.

    Done again after it broke off, it goes on: a key that is there already stays. Each key is proven at the end.
    """
    select(exchange, CARD)
    made = _command(exchange, _CREATE, APPLICATION + bytes((_KEY_SETTINGS, _AES_KEYS)))
    if made[-2:] != _EXISTS:
        _expect(made, _OK, "our application could not be made", 0)
    select(exchange, APPLICATION)
    others = [number for number in sorted(keys) if number != 0]
    if not _knows(exchange, 0, keys[0], random):
        session = authenticate(exchange, 0, FACTORY_KEY, random)
        for number in others:
            session = _write(exchange, session, number, keys[number], random)
        session.change_key(exchange, 0, keys[0])
    for number in sorted(keys):
        authenticate(exchange, number, keys[number], random)


def _write(exchange: Exchange, session: Session, number: int, new: bytes, random: Callable[[int], bytes]) -> Session:
    """Write one key; return the session to go on with."""
    try:
        session.change_key(exchange, number, new)
    except NotProven as refused:
        if refused.forged:
            raise
        # Written when it broke off, then: the difference to a factory key fits no more, and the session is lost.
        if not _knows(exchange, number, new, random):
            raise
        return authenticate(exchange, 0, FACTORY_KEY, random)
    return session


def _knows(exchange: Exchange, number: int, key: bytes, random: Callable[[int], bytes]) -> bool:
    select(exchange, APPLICATION)
    try:
        authenticate(exchange, number, key, random)
    except NotProven:
        select(exchange, APPLICATION)
        return False
    return True


def _command(exchange: Exchange, code: int, data: bytes) -> bytes:
    return exchange(_wrap(code, data))


def _wrap(code: int, data: bytes) -> bytes:
    """Return a native command as ISO/IEC 7816-4 wraps it."""
    return bytes((0x90, code, 0, 0, len(data))) + data + b"\x00"


def _expect(answer: bytes, status: bytes, otherwise: str, length: int) -> bytes:
    """Return an answer without its status, if both are as they must be."""
    if answer[-2:] != status:
        raise NotProven(otherwise, answer[-2:], forged=answer[-2:] == _WRONG_KEY)
    if len(answer) != length + 2:
        raise NotProven(f"an answer of {len(answer)} bytes", answer[-2:])
    return answer[:-2]


def _cbc(key: bytes, data: bytes, *, encrypt: bool, initial: bytes = bytes(BLOCK)) -> bytes:
    cipher = Cipher(AES(key), CBC(initial))
    context = cipher.encryptor() if encrypt else cipher.decryptor()
    return context.update(data) + context.finalize()


def _ecb(key: bytes, block: bytes) -> bytes:
    context = Cipher(AES(key), ECB()).encryptor()  # noqa: S305 - one block, as the card's protocol has it
    return context.update(block) + context.finalize()


def _cmac(key: bytes, data: bytes) -> bytes:
    mac = CMAC(AES(key))
    mac.update(data)
    return mac.finalize()
