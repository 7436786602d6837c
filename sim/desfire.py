"""A DESFire EV2 card that exists only in software: commands in, answers out. It shares no code with ``hw.desfire``.

It knows what AmiBox wants of a card: applications with AES keys, AuthenticateEV2First, ChangeKey. It can be awkward:
``slow_s`` for each answer (whoever passes it on waits so long), ``leaves_after`` so many commands, another's keys.
"""

from __future__ import annotations

import secrets
import zlib
from dataclasses import dataclass, field

from cryptography.hazmat.primitives.ciphers import Cipher, algorithms, modes
from cryptography.hazmat.primitives.cmac import CMAC

ATS = bytes.fromhex("067577810280")
"""Length, format, and historical byte 0x80: what DESFire cards answer to RATS."""
SAK = 0x20
APPLICATION = bytes.fromhex("494d41")
"""AmiBox's on a card, as sent."""

OK, MORE = b"\x91\x00", b"\x91\xaf"
ILLEGAL, INTEGRITY, NO_KEY, LENGTH = b"\x91\x1c", b"\x91\x1e", b"\x91\x40", b"\x91\x7e"
DENIED, NO_APPLICATION, WRONG_KEY, EXISTS = b"\x91\x9d", b"\x91\xa0", b"\x91\xae", b"\x91\xde"


class CardLeft(Exception):  # noqa: N818 - what happened
    """The card was taken away."""


@dataclass
class _Session:
    number: int
    transaction: bytes
    encryption_key: bytes
    mac_key: bytes
    counter: int = 0


@dataclass
class DesfireCard:
    """One card. ``applications``: its AES keys by application id, as sent."""

    uid: bytes
    applications: dict[bytes, list[bytes]] = field(default_factory=dict)
    slow_s: float = 0.0
    leaves_after: int | None = None
    """Commands that it still answers before it is taken away."""

    def __post_init__(self) -> None:
        self.field_off()

    def field_off(self) -> None:
        """Lose what holds only while the reader's field is on."""
        self._selected = b"\0\0\0"
        self._challenge: tuple[int, bytes] | None = None
        self._session: _Session | None = None

    def apdu(self, command: bytes) -> bytes:
        """Answer a command. Raises ``CardLeft``."""
        if command[:2] == b"\xff\xca":  # a virtual PC/SC reader passes on what a real one answers by itself
            return self.uid + b"\x90\x00"
        if self.leaves_after is not None:
            if self.leaves_after == 0:
                raise CardLeft
            self.leaves_after -= 1
        if len(command) < 5 or command[0] != 0x90 or len(command) != command[4] + 6:
            return b"\x67\x00"
        code, data = command[1], command[5:-1]
        challenge, self._challenge = self._challenge, None
        match code:
            case 0x5A:
                return self._select(data)
            case 0xCA:
                return self._create(data)
            case 0x71:
                return self._first(data)
            case 0xAF if challenge is not None:
                return self._second(data, *challenge)
            case 0xC4 if self._session is not None:
                return self._change_key(command, self._session)
            case 0xC4:
                return DENIED
            case _:
                return ILLEGAL

    def _select(self, data: bytes) -> bytes:
        if len(data) != 3:
            return LENGTH
        self._session = None
        if data != b"\0\0\0" and data not in self.applications:
            return NO_APPLICATION
        self._selected = data
        return OK

    def _create(self, data: bytes) -> bytes:
        if len(data) != 5 or data[4] & 0xC0 != 0x80:
            return LENGTH
        if data[:3] in self.applications:
            return EXISTS
        self.applications[data[:3]] = [bytes(16)] * (data[4] & 0x3F)
        return OK

    def _first(self, data: bytes) -> bytes:
        self._session = None
        keys = self.applications.get(self._selected, [])
        if len(data) != 2:
            return LENGTH
        if data[0] >= len(keys):
            return NO_KEY
        number = secrets.token_bytes(16)
        self._challenge = (data[0], number)
        return _aes(keys[data[0]], bytes(16)).encryptor().update(number) + MORE

    def _second(self, data: bytes, key_number: int, ours: bytes) -> bytes:
        if len(data) != 32:
            return LENGTH
        key = self.applications[self._selected][key_number]
        plain = _aes(key, bytes(16)).decryptor().update(data)
        theirs, returned = plain[:16], plain[16:]
        if returned != ours[1:] + ours[:1]:
            return WRONG_KEY
        transaction = secrets.token_bytes(4)
        middle = bytes(theirs[2 + i] ^ ours[i] for i in range(6))
        tail = b"\x00\x01\x00\x80" + theirs[:2] + middle + ours[6:] + theirs[8:]
        self._session = _Session(key_number, transaction, _mac(key, b"\xa5\x5a" + tail), _mac(key, b"\x5a\xa5" + tail))
        return _aes(key, bytes(16)).encryptor().update(transaction + theirs[1:] + theirs[:1] + bytes(12)) + OK

    def _change_key(self, command: bytes, session: _Session) -> bytes:
        number, secret, mac = command[5], command[6:-9], command[-9:-1]
        keys = self.applications[self._selected]
        place = session.counter.to_bytes(2, "little") + session.transaction
        self._session = None  # unless all is well
        if _mac(session.mac_key, command[1:2] + place + command[5:-9])[1::2] != mac or len(secret) % 16:
            return INTEGRITY
        initial = (
            _aes(session.encryption_key, bytes(16))
            .encryptor()
            .update(b"\xa5\x5a" + session.transaction + session.counter.to_bytes(2, "little") + bytes(8))
        )
        plain = _aes(session.encryption_key, initial).decryptor().update(secret).rstrip(b"\0")
        if plain[-1:] != b"\x80" or session.number != 0 or number >= len(keys):
            return DENIED if session.number else INTEGRITY
        if number == session.number:
            keys[number] = plain[:16]
            return OK
        new = bytes(a ^ b for a, b in zip(plain[:16], keys[number], strict=True))
        if (zlib.crc32(new) ^ 0xFFFFFFFF).to_bytes(4, "little") != plain[17:21]:
            return INTEGRITY
        keys[number] = new
        session.counter += 1
        self._session = session
        place = session.counter.to_bytes(2, "little") + session.transaction
        return _mac(session.mac_key, b"\0" + place)[1::2] + OK


def _aes(key: bytes, initial: bytes) -> Cipher[modes.CBC]:
    return Cipher(algorithms.AES(key), modes.CBC(initial))


def _mac(key: bytes, data: bytes) -> bytes:
    mac = CMAC(algorithms.AES(key))
    mac.update(data)
    return mac.finalize()
