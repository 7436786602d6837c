"""Which reader a setting names: a PN532 at a serial port, or any over PC/SC."""

from __future__ import annotations

from typing import Final

from hw.card_reader import CardLink, CardReaderSettings, serial_port
from hw.pcsc import Pcsc
from hw.pn532 import Pn532

PCSC: Final = "pcsc"


def link_of(settings: CardReaderSettings) -> CardLink:
    """Return the reader at ``settings.port``; ``pcsc`` or ``pcsc:NAME`` is one over PC/SC. Nothing is opened yet."""
    kind, _, name = settings.port.rpartition("/")[2].partition(":")
    if kind == PCSC:
        return Pcsc(name)
    return Pn532(lambda: serial_port(settings))
