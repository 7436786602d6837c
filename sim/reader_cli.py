"""``amibox virtual-reader``: a card reader with a card on it that exist only here, to try the desk's commands with.

    amibox virtual-reader                      a new DESFire card, as the commune buys them
    amibox virtual-reader --uid 04A1B2C3D4E5F6 --plain       a card without a chip that could hold keys
    amibox virtual-reader --uid 08A1B2C3 --plain             a number such as phones and bank cards show
    amibox virtual-reader --keep card.json     a card whose memory lies in this file, to go on with it another time

It prints its serial port for amibox card --reader PORT. Then, line by line: away takes the card away, back lays it down
again, second lays another one beside it. Ctrl-C ends it.
"""

from __future__ import annotations

import argparse
import json
import secrets
import sys
import threading
from collections.abc import Callable
from pathlib import Path

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
    parser.add_argument(
        "--keep", type=Path, metavar="FILE", help="the card's memory, read at first and written at last"
    )
    args = parser.parse_args(argv)
    try:
        uid = bytes.fromhex(args.uid) if args.uid else b"\x04" + secrets.token_bytes(6)
    except ValueError:
        parser.error(f"--uid {args.uid}: hexadecimal digits are wanted, two for each byte")
    if len(uid) not in (4, 7, 10):
        parser.error(f"--uid {args.uid}: a card's number has 4, 7 or 10 bytes")
    if args.keep is not None and not args.keep.parent.is_dir():
        parser.error(f"--keep {args.keep}: there is no such folder")
    card = _kept(args.keep, uid) if args.keep is not None else DesfireCard(uid)
    reader = Pn532OnPty()
    port = reader.open()

    def lay_down() -> None:
        card.field_off()
        if args.plain:
            reader.present(card.uid.hex())
        else:
            reader.present_chip(card)

    try:
        lay_down()
        kind = "a plain" if args.plain else "a DESFire"
        sys.stdout.write(f"{port}\n{kind} card {card.uid.hex().upper()} lies on it\n")
        sys.stdout.flush()
        _obey({"away": reader.remove, "back": lay_down, "second": lambda: reader.present("04FFEEDDCCBBAA")})
    finally:
        reader.close()
        if args.keep is not None:
            memory = {name.hex(): [key.hex() for key in keys] for name, keys in card.applications.items()}
            args.keep.write_text(json.dumps({"uid": card.uid.hex(), "applications": memory}))
    return 0


def _kept(file: Path, uid: bytes) -> DesfireCard:
    """Return the card of a file, or a new one where there is none yet."""
    if not file.exists():
        return DesfireCard(uid)
    held = json.loads(file.read_text())
    memory = {bytes.fromhex(name): [bytes.fromhex(key) for key in keys] for name, keys in held["applications"].items()}
    return DesfireCard(bytes.fromhex(held["uid"]), memory)


def _obey(does: dict[str, Callable[[], None]]) -> None:
    """Do what is typed, until the end."""
    for line in sys.stdin:
        word = line.strip()
        if word in does:
            does[word]()
        sys.stdout.write("done\n" if word in does else f"{word}: away, back or second\n")
        sys.stdout.flush()
    threading.Event().wait()
