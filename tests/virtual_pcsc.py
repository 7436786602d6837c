"""A card behind a virtual PC/SC reader: run beside pcscd, told over standard input what lies on the reader.

One JSON object a line: ``{"cards": [{"uid": hex, "keys": [hex, …], "slow_s": s, "leaves_after": n}]}`` (at most one, as
PC/SC has it; without ``keys`` it has no application of ours), answered by ``{}``. Protocol of vsmartcard's vpcd: two
bytes of length, then a command (APDU); one byte alone is 0 off, 1 on, 2 reset, 4 "give the ATR".
"""

from __future__ import annotations

import json
import select
import socket
import sys
import time
from typing import Any

from sim.desfire import APPLICATION, CardLeft, DesfireCard

PORT = 35963
ATR = bytes.fromhex("3b8180018080")
"""What PC/SC makes of a DESFire card's ATS (PC/SC part 3): historical byte 0x80."""


def card_of(said: dict[str, Any]) -> DesfireCard:
    keys = [bytes.fromhex(key) for key in said.get("keys", ())]
    made = DesfireCard(bytes.fromhex(said["uid"]), {APPLICATION: keys} if keys else {})
    made.slow_s, made.leaves_after = said.get("slow_s", 0.0), said.get("leaves_after")
    return made


class Reader:
    """The card's end of vpcd. A reader without a card is one that nobody is connected to."""

    def __init__(self) -> None:
        self.card: DesfireCard | None = None
        self.line: socket.socket | None = None

    def put(self, card: DesfireCard | None) -> None:
        self.card = card
        if self.line is not None:
            self.line.close()
            self.line = None
        if card is not None:
            self.line = socket.create_connection(("127.0.0.1", PORT), timeout=10)

    def serve(self) -> None:
        """Answer one message."""
        assert self.line is not None
        assert self.card is not None
        try:
            length = int.from_bytes(self._read(2), "big")
            said = self._read(length)
            if length == 1:
                if said == b"\x04":  # asked again and again: that is how pcscd sees that it is still there
                    self._write(ATR)
                else:
                    self.card.field_off()
                return
            time.sleep(self.card.slow_s)
            self._write(self.card.apdu(said))
        except CardLeft:
            self.put(None)
        except OSError:
            # pcscd was not done with the card before this one, and hung up on both.
            time.sleep(0.1)
            self.put(self.card)

    def _read(self, length: int) -> bytes:
        assert self.line is not None
        data = b""
        while len(data) < length:
            more = self.line.recv(length - len(data))
            if not more:
                raise OSError("pcscd is gone")
            data += more
        return data

    def _write(self, data: bytes) -> None:
        assert self.line is not None
        self.line.sendall(len(data).to_bytes(2, "big") + data)


def main() -> None:
    reader = Reader()
    while True:
        waiting = [sys.stdin, *([reader.line] if reader.line is not None else [])]
        ready, _, _ = select.select(waiting, [], [])
        if sys.stdin in ready:
            line = sys.stdin.readline()
            if not line:
                return
            cards = [card_of(each) for each in json.loads(line)["cards"]]
            reader.put(cards[0] if cards else None)
            sys.stdout.write("{}\n")
            sys.stdout.flush()
        elif reader.line is not None:
            reader.serve()


if __name__ == "__main__":
    main()
