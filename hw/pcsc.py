"""A card reader over PC/SC: the town hall's desk reader, or a USB reader of a car whose board has no serial line left.

``smartcard`` (pyscard, extra ``desk``) talks to pcscd. PC/SC shows one card a reader: two at once look like one, or
like none. Where that matters, in a car, a PN532 is the better reader.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable
from typing import Any, Final

from hw.taps import CardGone, Target
from hw.worker import AdapterError

GET_UID: Final = bytes.fromhex("ffca000000")
"""PC/SC part 3: the reader itself answers with the card's number."""
STORAGE_CARD: Final = bytes.fromhex("a000000306")
"""PC/SC part 3: in the ATR that a reader makes up for a card without ISO 14443-4."""
SPEAKS_14443_4: Final = 0x20
OK: Final = b"\x90\x00"


class Pcsc:
    """``hw.card_reader.CardLink`` on the first reader whose name contains ``name``."""

    def __init__(self, name: str = "") -> None:
        self.counts: Counter[str] = Counter()
        self._name = name
        self._scard: Any = None
        self._context: Any = None
        self._reader = ""
        self._card: Any = None
        self._protocol: Any = None

    @property
    def cures(self) -> tuple[tuple[str, Callable[[], None]], ...]:
        """Opening anew is all there is."""
        return ()

    def open(self) -> None:
        """Find the daemon and the reader."""
        self.close()
        try:
            from smartcard import scard  # noqa: PLC0415 - an extra that a car does without
        except ImportError as error:
            raise AdapterError(
                "PC/SC: pyscard is not installed; run sudo apt install pcscd gcc swig libpcsclite-dev python3-dev, "
                'then .venv/bin/pip install -c constraints.txt -e ".[desk]"',
                may_have_happened=False,
                worth_retrying=False,
            ) from error
        self._scard = scard
        code, self._context = scard.SCardEstablishContext(scard.SCARD_SCOPE_USER)
        if code:
            self._context = None
            raise self._failed(code, "start pcscd: sudo systemctl start pcscd")
        self._reader = self._find()

    def close(self) -> None:
        """Let card and daemon go. Never fails."""
        if self._context is not None:
            self._drop_card()
            self._scard.SCardReleaseContext(self._context)
            self._context = None

    def ping(self) -> None:
        """Make sure that the reader is still there."""
        self._find()

    def poll(self) -> list[Target]:
        """Return the card in the field, if any."""
        scard = self._opened()
        self._drop_card()
        code, states = scard.SCardGetStatusChange(self._context, 0, [(self._reader, scard.SCARD_STATE_UNAWARE)])
        if code:
            raise self._failed(code, "plug the reader in again")
        state = states[0][1]
        if state & (scard.SCARD_STATE_UNAVAILABLE | scard.SCARD_STATE_UNKNOWN):
            raise self._failed(scard.SCARD_E_READER_UNAVAILABLE, "plug the reader in again")
        if not state & scard.SCARD_STATE_PRESENT:
            return []
        if state & scard.SCARD_STATE_MUTE:
            return [Target(b"", 0, b"")]
        code, card, protocol = scard.SCardConnect(
            self._context, self._reader, scard.SCARD_SHARE_SHARED, scard.SCARD_PROTOCOL_T0 | scard.SCARD_PROTOCOL_T1
        )
        if code in (scard.SCARD_E_NO_SMARTCARD, scard.SCARD_W_REMOVED_CARD, scard.SCARD_W_UNPOWERED_CARD):
            return []  # gone meanwhile
        if code:
            raise self._failed(code, "plug the reader in again")
        self._card, self._protocol = card, protocol
        code, _reader, _state, _protocol, atr = scard.SCardStatus(card)
        try:
            said = self.exchange(GET_UID)
        except CardGone:
            return []
        speaks = not code and STORAGE_CARD not in bytes(atr)
        uid = said[:-2] if said[-2:] == OK else b""
        return [Target(uid, SPEAKS_14443_4 if speaks else 0, bytes(atr))]

    def exchange(self, command: bytes) -> bytes:
        """Send the card one command and return its answer. ``CardGone``: it gave none."""
        scard = self._opened()
        if self._card is None:
            raise CardGone("no card is there")
        code, answer = scard.SCardTransmit(self._card, self._protocol, list(command))
        if code in (scard.SCARD_E_NO_SERVICE, scard.SCARD_E_READER_UNAVAILABLE, scard.SCARD_F_COMM_ERROR):
            raise self._failed(code, "plug the reader in again")
        if code or len(answer) < len(OK):
            raise CardGone(f"the card does not answer any more ({scard.SCardGetErrorMessage(code)})")
        return bytes(answer)

    def rest(self) -> None:
        """Let the card go; the reader keeps its field on."""
        self._opened()
        self._drop_card()

    def sleep(self) -> None:
        """Do nothing: such a reader is pcscd's, which lets it rest once nobody has it open."""

    def _drop_card(self) -> None:
        if self._card is not None:
            # Without a reset: one of a card that is gone leaves pcscd blind for the next. A proof selects its
            # application, which ends what went before.
            self._scard.SCardDisconnect(self._card, self._scard.SCARD_LEAVE_CARD)
            self._card = None

    def _find(self) -> str:
        scard = self._opened()
        code, names = scard.SCardListReaders(self._context, [])
        if code not in (0, scard.SCARD_E_NO_READERS_AVAILABLE):
            raise self._failed(code, "start pcscd: sudo systemctl start pcscd")
        found = [name for name in (names or ()) if self._name in name]
        if not found:
            there = ", ".join(names or ()) or "none"
            wanted = f"no reader called {self._name}" if self._name else "no reader"
            raise AdapterError(
                f"PC/SC: {wanted} (there is: {there}); plug one in", may_have_happened=False, worth_retrying=True
            )
        return str(found[0])

    def _opened(self) -> Any:
        if self._context is None:
            raise AdapterError("PC/SC: the reader is not open", may_have_happened=False, worth_retrying=True)
        return self._scard

    def _failed(self, code: int, remedy: str) -> AdapterError:
        self.counts["pcsc_errors"] += 1
        said = self._scard.SCardGetErrorMessage(code)
        return AdapterError(f"PC/SC: {said} {remedy}", may_have_happened=False, worth_retrying=True)
