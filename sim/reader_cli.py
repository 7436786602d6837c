"""``amibox virtual-reader``: a card reader with a card on it that exist only here, to try the desk's commands with.

    amibox virtual-reader                      a new DESFire card, as the commune buys them
    amibox virtual-reader --uid 04A1B2C3D4E5F6 --plain       a card without a chip that could hold keys

It prints its serial port for amibox card --reader PORT, and keeps the card on it until Ctrl-C.
"""

from __future__ import annotations

import argparse
import secrets
import sys
import threading

from sim.desfire import DesfireCard
from sim.pn532 import Pn532OnPty


def main(argv: list[str]) -> int:
    """Serve until interrupted; return the exit code."""
    parser = argparse.ArgumentParser(
        prog="amibox virtual-reader",
        description=str(__doc__).replace("`", ""),
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    parser.add_argument("--uid", help="the card's number, in hexadecimal (default: a random one of 7 bytes)")
    parser.add_argument("--plain", action="store_true", help="a card that shows a number and can do no more")
    args = parser.parse_args(argv)
    try:
        uid = bytes.fromhex(args.uid) if args.uid else b"\x04" + secrets.token_bytes(6)
    except ValueError:
        parser.error(f"--uid {args.uid}: hexadecimal digits are wanted, two for each byte")
    reader = Pn532OnPty()
    port = reader.open()
    try:
        if args.plain:
            reader.present(uid.hex())
        else:
            reader.present_chip(DesfireCard(uid))
        kind = "a plain" if args.plain else "a new DESFire"
        sys.stdout.write(f"{port}\n{kind} card {uid.hex().upper()} lies on it\n")
        sys.stdout.flush()
        threading.Event().wait()
    finally:
        reader.close()
    return 0
