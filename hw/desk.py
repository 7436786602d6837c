"""``amibox card``: the town hall's desk. A card on the reader is enrolled, read, written and looked after.

The reader is one over PC/SC, or a PN532 at a serial port. Keys come from the commune's endpoint for the moment of
writing, and are kept nowhere here.
"""

from __future__ import annotations

import argparse
import html
import json
import sys
import time
import urllib.error
import urllib.request
from collections.abc import Iterator
from contextlib import contextmanager
from http.client import HTTPException
from pathlib import Path
from typing import Any, Final

from hw.card_reader import CardLink, CardReaderSettings, serial_port
from hw.desfire import NotProven, personalise, prove
from hw.pcsc import Pcsc
from hw.pn532 import Pn532
from hw.taps import CardGone, Target
from hw.worker import AdapterError
from onboard.core.cards import number_fault

HELP: Final = "at the town hall's desk: enrol a card, read one, lend it, block it, print its label"
DESCRIPTION: Final = """The town hall's desk. With a card on the reader:

  amibox card enrol                   write the commune's keys on a card it bought, and give it a number
  amibox card enrol --own             let a resident's own card in by its number alone (it can be copied)
  amibox card read                    show a card's number as on air, and what it can prove
at a car, without a reader here:
  amibox card capture --vehicle hede-1 --to "M. Roux"    takes the number of a resident's own card there
and with the number that is printed on it:
  amibox card lend 12 --to "Mme Le Goff"      prints the code with which she can block it herself
  amibox card return 12
  amibox card revoke 12               lost: it opens nothing any more, not even a rental that it has begun
  amibox card list
  amibox card print-label 12 --phone "02 99 00 00 00" --out label.svg"""
EPILOG: Final = "exit codes: 0 done; 1 refused, or no card, reader or endpoint; 2 wrong arguments"
TIMEOUT_S: Final = 10.0
ANSWER_MAX_BYTES: Final = 1 << 20
LOOK_EVERY_S: Final = 0.2
ASK_EVERY_S: Final = 1.0
LATE_S: Final = 10.0
"""What a card that came at the last moment may still take to be told here."""
SPEAKS_14443_4: Final = 0x20
FAULTS: Final = {
    "random_uid": "it shows another number each time (a phone, a bank card): it can't stand for a person",
    "reused_uid": "its maker gives such numbers out more than once: it can't stand for a person",
    "unreadable": "it shows no number that can be read; lay it flat and alone",
}


class DeskError(Exception):
    """What could not be done, and what to do about it. Nothing was changed, unless it says so."""


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Describe the commands."""
    parser.description, parser.epilog = DESCRIPTION, EPILOG
    parser.formatter_class = argparse.RawDescriptionHelpFormatter
    commands = parser.add_subparsers(required=True, metavar="COMMAND")
    one = commands.add_parser("enrol", help="give the card on the reader a number, and the commune's keys")
    one.add_argument(
        "--own", action="store_true", help="a resident's own card: by its number alone, which can be copied"
    )
    one.set_defaults(what=_enrol)
    _reader(one)
    _cloud(one)
    one = commands.add_parser("read", help="show the card on the reader")
    one.set_defaults(what=_read)
    _reader(one)
    one = commands.add_parser("capture", help="take the number of a resident's own card at a car, within two minutes")
    one.add_argument("--vehicle", required=True, help="the car that it is held to")
    one.add_argument("--to", metavar="NAME", help="whose card it is; only the town hall reads it")
    one.set_defaults(what=_capture)
    _cloud(one)
    for name, what, text in (
        ("lend", _lend, "lend a card to somebody"),
        ("return", _return, "take a card back; also one that was found again"),
        ("revoke", _revoke, "a card is lost: it opens nothing any more"),
    ):
        one = commands.add_parser(name, help=text)
        one.add_argument("number", type=int, help="the number printed on it")
        one.set_defaults(what=what)
        _cloud(one)
        if what is _lend:
            one.add_argument("--to", required=True, metavar="NAME", help="whom; only the town hall reads it")
    one = commands.add_parser("list", help="show every card and where it is")
    one.set_defaults(what=_list)
    _cloud(one)
    one = commands.add_parser("print-label", help="make the label of a card, 54 mm wide, as an SVG file")
    one.add_argument("number", type=int, help="the card's number")
    one.add_argument("--phone", required=True, help="the number to call for help, as it is to be printed")
    one.add_argument("--out", type=Path, required=True, metavar="FILE.svg", help="where to write it")
    one.set_defaults(what=_label)


def _reader(parser: argparse.ArgumentParser) -> None:
    parser.add_argument(
        "--reader",
        default="pcsc",
        metavar="PORT",
        help="pcsc, pcsc:NAME for the PC/SC reader of this name, or the serial port of a PN532 (default: %(default)s)",
    )
    parser.add_argument("--wait-s", type=float, default=30.0, help="how long to wait for a card (default: %(default)g)")


def _cloud(parser: argparse.ArgumentParser) -> None:
    parser.add_argument(
        "--cloud", default="http://localhost:8080", help="the commune's endpoint (default: %(default)s)"
    )


def run(args: argparse.Namespace) -> int:
    """Do it; return the exit code."""
    try:
        args.what(args)
    except (DeskError, AdapterError, CardGone) as error:
        sys.stderr.write(f"amibox card: {error}\n")
        return 1
    except OSError as error:
        sys.stderr.write(f"amibox card: {error}\n")
        return 2
    return 0


def shown(uid: bytes) -> str:
    """Return a card's number as people compare it: upper-case hexadecimal, in the order on air."""
    return uid.hex().upper()


def _enrol(args: argparse.Namespace) -> None:
    with _card(args) as (link, target):
        fault = number_fault(target.uid, target.sak)
        if fault is not None:
            raise DeskError(f"the card was not enrolled: {FAULTS[fault]}")
        if not args.own and not target.sak & SPEAKS_14443_4:
            raise DeskError(
                "this card can't hold keys (it doesn't speak ISO 14443-4); nothing was changed. "
                "For a resident's own card, add --own"
            )
        wanted = {"uid": target.uid.hex(), "assurance": "uid" if args.own else "mutual"}
        made = _ask(args.cloud, "POST", "cards", wanted)
        number, keys = int(made["number"]), [bytes.fromhex(key) for key in made["keys"]]
        if keys:
            _say(f"writing {len(keys)} keys; leave the card where it is")
            try:
                personalise(link.exchange, dict(enumerate(keys)))
            except (NotProven, CardGone) as error:
                raise DeskError(
                    f"card {number} is not written to its end: {error}. Lay it on the reader and enrol it again: "
                    "it goes on where it was"
                ) from error
            _ask(args.cloud, "PATCH", f"cards/{number}", {"state": "ready"})
        proof = "proves itself" if keys else "shows its number only, which can be copied"
        _say(f"card {number}: {shown(target.uid)}, {proof}. Write {number} on it (amibox card print-label)")


def _capture(args: argparse.Namespace) -> None:
    asked = _ask(args.cloud, "POST", f"vehicles/{args.vehicle}/captures", {})
    _say(f"{args.vehicle} is asked: when it beeps, hold the card to its windscreen, within two minutes")
    card = _captured(args.cloud, asked["id"], float(asked["until_s"]) + LATE_S)
    if not card["new"]:
        raise DeskError(f"this is card {card['number']} already (amibox card list); nothing was changed")
    number = card["number"]
    _say(f"card {number}: {shown(bytes.fromhex(card['uid']))}, shows its number only, which can be copied")
    if args.to:
        _lend(argparse.Namespace(cloud=args.cloud, number=number, to=args.to))


def _captured(cloud: str, capture: str, until_s: float) -> dict[str, Any]:
    while True:
        card: dict[str, Any] = _ask(cloud, "GET", f"captures/{capture}", None)
        if card["number"] is not None:
            return card
        if time.time() > until_s:
            raise DeskError(
                "no card came. Did the car beep? If not, it is away, or takes no such cards (uid_cards). "
                "If a card was held to it all the same, it comes when the car is connected: amibox card list"
            )
        time.sleep(ASK_EVERY_S)


def _read(args: argparse.Namespace) -> None:
    with _card(args) as (link, target):
        fault = number_fault(target.uid, target.sak)
        _say(f"number   {shown(target.uid) or 'none'}{'' if fault is None else ': ' + FAULTS[fault]}")
        if not target.sak & SPEAKS_14443_4:
            _say("proof    none: it holds no keys")
            return
        try:
            prove(link.exchange, 1, bytes(16))
        except NotProven as said:
            ours = "it holds the commune's keys, or another system's" if said.forged else "it holds no keys of ours yet"
            _say(f"proof    {ours}")
        else:
            _say("proof    it holds our application, with no keys in it: enrol it again")


def _lend(args: argparse.Namespace) -> None:
    made = _ask(args.cloud, "PATCH", f"cards/{args.number}", {"state": "lent", "holder": args.to})
    _say(f"card {args.number} is lent to {args.to}")
    _say(f"Code to block it at any hour, for the slip that goes with it: {made['block_code']}")


def _return(args: argparse.Namespace) -> None:
    _ask(args.cloud, "PATCH", f"cards/{args.number}", {"state": "ready"})
    _say(f"card {args.number} is back")


def _revoke(args: argparse.Namespace) -> None:
    made = _ask(args.cloud, "PATCH", f"cards/{args.number}", {"state": "lost"})
    late = [each["vehicle"] for each in made["lists"] if not each["published"]]
    _say(f"card {args.number} opens nothing any more")
    if late:
        _say(f"{', '.join(late)}: hears of it when it has network, or by the next phone that comes")


def _list(args: argparse.Namespace) -> None:
    for card in _ask(args.cloud, "GET", "cards", None):
        since = time.strftime("%Y-%m-%d %H:%M", time.localtime(card["changed_s"]))
        proof = "proves itself" if card["assurance"] == "mutual" else "number only"
        _say(f"{card['number']:>5}  {card['state']:<8} {since}  {proof:<13} {card['holder']}".rstrip())


def _label(args: argparse.Namespace) -> None:
    number, phone = args.number, html.escape(args.phone)
    # Millimetres; text of 14 pt and more, for whoever has no glasses on.
    args.out.write_text(
        '<svg xmlns="http://www.w3.org/2000/svg" width="54mm" height="25mm" viewBox="0 0 54 25" '
        'font-family="DejaVu Sans, Arial, sans-serif">\n'
        '<rect x="0.3" y="0.3" width="53.4" height="24.4" rx="2" fill="#fff" stroke="#000" stroke-width="0.4"/>\n'
        f'<text x="27" y="10" font-size="7.5" font-weight="bold" text-anchor="middle">AMI carte {number}</text>\n'
        '<text x="27" y="16" font-size="4.95" text-anchor="middle">Perdue ? Appelez</text>\n'
        f'<text x="27" y="22" font-size="5.3" font-weight="bold" text-anchor="middle">{phone}</text>\n'
        "</svg>\n"
    )
    _say(f"{args.out}: the label of card {number}, 54 × 25 mm")


@contextmanager
def _card(args: argparse.Namespace) -> Iterator[tuple[CardLink, Target]]:
    """Give the reader and the one card on it."""
    link = _link(args.reader)
    link.open()
    try:
        _say("lay the card on the reader")
        yield link, _one_card(link, args.wait_s)
    finally:
        link.close()


def _link(reader: str) -> CardLink:
    kind, _, name = reader.partition(":")
    if kind == "pcsc":
        return Pcsc(name)
    return Pn532(lambda: serial_port(CardReaderSettings(reader)))


def _one_card(link: CardLink, wait_s: float) -> Target:
    give_up_s = time.monotonic() + wait_s
    while True:
        targets = link.poll()
        if len(targets) == 1:
            return targets[0]
        if len(targets) > 1:
            raise DeskError("there are two cards on the reader: one at a time")
        link.rest()
        if time.monotonic() > give_up_s:
            raise DeskError(f"no card came within {wait_s:g} s")
        time.sleep(LOOK_EVERY_S)


def _ask(base: str, method: str, path: str, body: dict[str, Any] | None) -> Any:
    """Ask the endpoint. DeskError in its words."""
    address = f"{base.rstrip('/')}/api/v1/{path}"
    if not address.startswith(("http://", "https://")):
        raise DeskError(f"{base} is no address of the web")
    data = json.dumps(body).encode() if body is not None else None
    request = urllib.request.Request(  # noqa: S310 -- looked at right above
        address, data, {"Content-Type": "application/json"}, method=method
    )
    try:
        with urllib.request.urlopen(request, timeout=TIMEOUT_S) as answer:  # noqa: S310 -- as above
            return json.loads(answer.read(ANSWER_MAX_BYTES))
    except urllib.error.HTTPError as error:
        raise DeskError(f"the endpoint refuses: {_detail(error.read(ANSWER_MAX_BYTES))}") from error
    except (OSError, ValueError, HTTPException) as error:
        raise DeskError(
            f"the endpoint can't be reached at {base} ({error}); it may have done it: amibox card list"
        ) from error


def _detail(said: bytes) -> str:
    try:
        detail = json.loads(said)["detail"]
    except (KeyError, TypeError, ValueError):
        return said.decode(errors="replace")[:300]
    if isinstance(detail, list):
        return "; ".join(str(each.get("msg", each)) if isinstance(each, dict) else str(each) for each in detail)
    return str(detail)


def _say(text: str) -> None:
    sys.stdout.write(text + "\n")
    sys.stdout.flush()
