"""``amibox card``: the town hall's desk. A card on the reader is enrolled, read, written and looked after.

The reader is one over PC/SC, or a PN532 at a serial port. Keys come from the commune's endpoint for the moment of
writing, and are kept nowhere here.
"""

from __future__ import annotations

import argparse
import sys
import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any, Final
from urllib.parse import quote

from hw import desk_words
from hw.card_link import link_of
from hw.card_reader import CardLink, CardReaderSettings
from hw.desfire import CARD, NotProven, personalise, prove, select
from hw.desk_cloud import DeskError, ask
from hw.desk_paper import label, slip
from hw.taps import CardGone, Target
from hw.worker import AdapterError
from onboard.core.cards import CAPTURE_S, number_fault, shown_number, typed_number

HELP: Final = "at the town hall's desk: enrol a card, read one, lend it, block it, print its label"
DESCRIPTION: Final = """The town hall's desk. With a card on the reader:

  amibox card enrol                   write the commune's keys on a card it bought, and give it a number
  amibox card enrol --own             let a resident's own card in by its number alone (it can be copied)
  amibox card enrol --own --uid 04A1B2C3D4E5F6        the same, typed by a keyboard reader in hexadecimal mode
  amibox card read                    show a card's number as on air, and what it can prove
at a car, without a reader here:
  amibox card capture --vehicle hede-1 --to "M. Roux"    takes the number of a resident's own card there
and with the number that is printed on it:
  amibox card lend 12 --to "Mme Le Goff"      prints the code with which she can block it herself
  amibox card return 12               given back: it opens no booking any more that it was named in
  amibox card block 12 --code "4380 5113"      what its holder can do alone
  amibox card revoke 12               lost: it opens nothing any more, not even a rental that it has begun
  amibox card list
  amibox card print-label 12 --phone "02 99 00 00 00" --out label.svg"""
EPILOG: Final = "exit codes: 0 done; 1 refused, or no card, reader or endpoint; 2 wrong arguments"
LOOK_EVERY_S: Final = 0.2
ASK_EVERY_S: Final = 1.0
BLOCK_PAGE: Final = "the endpoint's page /carte"
LATE_S: Final = 45.0
"""What the question may take to its car, and a card that came at the last moment to be told here."""
SPEAKS_14443_4: Final = 0x20
FAULTS: Final = {
    "random_uid": "it shows another number each time (a phone, a bank card): it can't stand for a person",
    "reused_uid": "its maker gives such numbers out more than once: it can't stand for a person",
    "unreadable": "it shows no whole number; lay it flat and alone",
}


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Describe the commands."""
    parser.description, parser.epilog = DESCRIPTION, EPILOG
    parser.formatter_class = argparse.RawDescriptionHelpFormatter
    commands = parser.add_subparsers(required=True, metavar="COMMAND")
    one = commands.add_parser("enrol", help="give the card on the reader a number, and the commune's keys")
    one.add_argument(
        "--own", action="store_true", help="a resident's own card: by its number alone, which can be copied"
    )
    one.add_argument("--uid", help="with --own and no reader here: its number, in hexadecimal as on air")
    one.set_defaults(what=_enrol)
    _reader(one)
    _cloud(one)
    one = commands.add_parser("read", help="show the card on the reader")
    one.set_defaults(what=_read)
    _reader(one)
    _cloud(one)
    one = commands.add_parser("capture", help="take the number of a resident's own card at a car, within two minutes")
    one.add_argument("--vehicle", required=True, help="the car that it is held to")
    one.add_argument("--to", type=desk_words.name, metavar="NAME", help="whose card it is; only the town hall reads it")
    _slip(one)
    one.set_defaults(what=_capture)
    _cloud(one)
    for name, what, text in (
        ("lend", _lend, "lend a card to somebody; done again, it makes another code, and the old one blocks nothing"),
        ("return", _return, "take a card back; also one that was found again"),
        ("revoke", _revoke, "a card is lost: it opens nothing any more"),
    ):
        one = commands.add_parser(name, help=text)
        one.add_argument("number", type=desk_words.number, help="the number printed on it")
        one.set_defaults(what=what)
        _cloud(one)
        if what is _lend:
            whom = "whom; only the town hall reads it"
            one.add_argument("--to", type=desk_words.name, required=True, metavar="NAME", help=whom)
            _slip(one)
    one = commands.add_parser("block", help="block a card by the code on its slip, as its holder may at any hour")
    one.add_argument("number", type=desk_words.number, help="the number printed on it")
    one.add_argument("--code", type=desk_words.code, required=True, help="eight digits")
    one.set_defaults(what=_block)
    _cloud(one)
    one = commands.add_parser("list", help="show every card and where it is")
    one.set_defaults(what=_list)
    _cloud(one)
    one = commands.add_parser("print-label", help="make the label of a card, 54 mm wide, as an SVG file")
    one.add_argument("number", type=desk_words.number, help="the card's number")
    one.add_argument("--phone", required=True, help="the number to call for help, as it is to be printed")
    one.add_argument("--out", type=Path, required=True, metavar="FILE.svg", help="where to write it")
    one.set_defaults(what=_label)
    _cloud(one)


def _slip(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("--slip", type=Path, metavar="FILE.svg", help="make the paper with the code that blocks it")
    parser.add_argument("--phone", default="", help="on that paper: the number to call")
    parser.add_argument("--page", default="", help="on that paper: where members reach the endpoint's page /carte")


def _reader(parser: argparse.ArgumentParser) -> None:
    parser.add_argument(
        "--reader",
        default="pcsc",
        metavar="PORT",
        help="pcsc, pcsc:NAME for the PC/SC reader of this name, or the serial port of a PN532 (default: %(default)s)",
    )
    parser.add_argument(
        "--wait-s", type=desk_words.wait_s, default=30.0, help="how long to wait for a card (default: %(default)g)"
    )


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


def _enrol(args: argparse.Namespace) -> None:
    if args.uid is not None:
        _enrol_typed(args)
        return
    with _card(args) as (link, target):
        fault = number_fault(target.uid, target.sak)
        if fault is not None:
            raise DeskError(f"the card was not enrolled: {FAULTS[fault]}")
        if not args.own and not target.sak & SPEAKS_14443_4:
            raise DeskError(
                "this card can't hold keys (it doesn't speak ISO 14443-4); nothing was changed. "
                "For a resident's own card, add --own"
            )
        if not args.own:
            _is_desfire(link)
        wanted = {"uid": shown_number(target.uid), "assurance": "uid" if args.own else "mutual"}
        made = ask(args.cloud, "POST", "cards", wanted)
        number, keys = int(made["number"]), [bytes.fromhex(key) for key in made["keys"]]
        if keys:
            _write(link, number, keys)
            ask(args.cloud, "PATCH", f"cards/{number}", {"state": "ready", "written": True})
        _enrolled(number, target.uid, own=args.own)


def _is_desfire(link: CardLink) -> None:
    """Look before a number is given: a bank card or a phone would keep it."""
    try:
        select(link.exchange, CARD)
    except NotProven as error:
        raise DeskError(
            "this card is no DESFire: it can't hold the commune's keys; nothing was changed. "
            "For a resident's own card, add --own"
        ) from error


def _enrol_typed(args: argparse.Namespace) -> None:
    """Enrol a number that a keyboard reader typed, or a person."""
    if not args.own:
        raise DeskError("keys can only be written on a card that lies on the reader; --uid goes with --own")
    try:
        uid = typed_number(args.uid)
    except ValueError as error:
        raise DeskError(f"the card was not enrolled: {error}") from error
    fault = number_fault(uid, SPEAKS_14443_4)  # nobody sees here which sort of card it is: the stricter rule
    if fault is not None:
        raise DeskError(f"the card was not enrolled: {FAULTS[fault]}")
    made = ask(args.cloud, "POST", "cards", {"uid": shown_number(uid), "assurance": "uid"})
    _enrolled(int(made["number"]), uid, own=True)


def _write(link: CardLink, number: int, keys: Sequence[bytes]) -> None:
    _say(f"writing {len(keys)} keys; leave the card where it is")
    try:
        personalise(link.exchange, dict(enumerate(keys)))
    except (NotProven, CardGone, AdapterError, KeyboardInterrupt) as error:
        why = "stopped" if isinstance(error, KeyboardInterrupt) else error
        raise DeskError(
            f"card {number} is not written to its end: {why}. Lay it on the reader and enrol it again: "
            "it goes on where it was. One that refuses again is no DESFire EV2 or EV3"
        ) from error


def _enrolled(number: int, uid: bytes, *, own: bool) -> None:
    proof = "shows its number only, which can be copied" if own else "proves itself"
    _say(f"card {number}: {shown_number(uid)}, {proof}. Write {number} on it (amibox card print-label)")
    if own:
        _say("It opens only cars that let such cards in: uid_cards = true in their box.toml")


def _capture(args: argparse.Namespace) -> None:
    if args.slip is not None:
        if not args.to:
            raise DeskError("the slip goes to whoever has the card: add --to; nothing was changed")
        _can_print_slip(args)
    asked = ask(args.cloud, "POST", f"vehicles/{quote(args.vehicle, safe='')}/captures", {})
    _say(f"{args.vehicle} is asked: when it beeps, hold the card to its windscreen, within two minutes")
    card = _captured(args.cloud, asked["id"])
    if not card["new"]:
        raise DeskError(f"this is card {card['number']} already (amibox card list); nothing was changed")
    number = card["number"]
    _say(f"card {number}: {card['uid']}, shows its number only, which can be copied")
    if args.to:
        lent = {"cloud": args.cloud, "number": number, "to": args.to, "slip": args.slip}
        _lend(argparse.Namespace(**lent, phone=args.phone, page=args.page))


def _captured(cloud: str, capture: str) -> dict[str, Any]:
    give_up_s = time.monotonic() + CAPTURE_S + LATE_S
    while True:
        card: dict[str, Any] = ask(cloud, "GET", f"captures/{capture}", None)
        if card["number"] is not None:
            return card
        if time.monotonic() > give_up_s:
            raise DeskError(
                "no card came. Did the car beep? If not, it is away, or takes no such cards (uid_cards). "
                "If a card was held to it all the same, it comes when the car is connected: amibox card list"
            )
        time.sleep(ASK_EVERY_S)


def _read(args: argparse.Namespace) -> None:
    with _card(args) as (link, target):
        fault = number_fault(target.uid, target.sak)
        _say(f"number   {shown_number(target.uid) or 'none'}{'' if fault is None else ': ' + FAULTS[fault]}")
        if fault is None:
            _say(f"commune  {_known_as(args.cloud, target.uid)}")
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


def _known_as(cloud: str, uid: bytes) -> str:
    """Say which of the commune's cards this is."""
    try:
        found = ask(cloud, "GET", f"cards?uid={shown_number(uid)}", None)
    except DeskError:
        return "not known: the endpoint can't be asked now"
    return f"card {found[0]['number']}, {found[0]['state']}" if found else "not enrolled"


def _lend(args: argparse.Namespace) -> None:
    if args.slip is not None:
        _can_print_slip(args)
    made = ask(args.cloud, "PATCH", f"cards/{args.number}", {"state": "lent", "holder": args.to})
    code = str(made["block_code"])
    _say(f"card {args.number} is lent to {args.to}")
    _say(f"Code to block it at any hour, on {BLOCK_PAGE} or by amibox card block: {code[:4]} {code[4:]}")
    if args.slip is not None:
        _print(args.slip, lambda: slip(args.number, code, args.phone, args.page))
        _say(f"{args.slip}: the slip that goes with it, 105 × 74 mm")


def _can_print_slip(args: argparse.Namespace) -> None:
    """Look before anything is changed: afterwards the code is on no paper."""
    if not args.phone:
        raise DeskError("the slip names whom to call: add --phone; nothing was changed")
    try:
        _drawing(args.slip, lambda: slip(1, "00000000", args.phone, args.page))
    except DeskError as error:
        raise DeskError(f"{error}; nothing was changed") from error


def _return(args: argparse.Namespace) -> None:
    made = ask(args.cloud, "PATCH", f"cards/{args.number}", {"state": "ready"})
    _say(f"card {args.number} is back")
    if made["bookings"]:
        named = "1 booking" if made["bookings"] == 1 else f"{made['bookings']} bookings"
        _say(f"{named} named it, and it opens none of them any more: change what somebody else is to drive")
    _late(made)


def _revoke(args: argparse.Namespace) -> None:
    made = ask(args.cloud, "PATCH", f"cards/{args.number}", {"state": "lost"})
    _say(f"card {args.number} opens nothing any more")
    _late(made)


def _block(args: argparse.Namespace) -> None:
    made = ask(args.cloud, "POST", f"cards/{args.number}/block", {"code": args.code})
    _say(f"card {args.number} is blocked: it opens nothing any more")
    _late(made)


def _late(made: dict[str, Any]) -> None:
    late = [each["vehicle"] for each in made["lists"] if not each["published"]]
    if late:
        _say(f"{', '.join(late)}: hears of it when it has network, or by the next phone that comes")


def _list(args: argparse.Namespace) -> None:
    found = ask(args.cloud, "GET", "cards", None)
    _say("  card  state    since             proof         who has it, or had it last")
    for card in found:
        since = time.strftime("%Y-%m-%d %H:%M", time.localtime(card["changed_s"]))
        proof = "proves itself" if card["assurance"] == "mutual" else "number only"
        _say(f"{card['number']:>6}  {card['state']:<8} {since}  {proof:<13} {card['holder']}".rstrip())


def _label(args: argparse.Namespace) -> None:
    if args.number not in {card["number"] for card in ask(args.cloud, "GET", "cards", None)}:
        raise DeskError(f"there is no card {args.number} (amibox card list); no label was made")
    _print(args.out, lambda: label(args.number, args.phone))
    _say(f"{args.out}: the label of card {args.number}, 54 × 25 mm")


def _print(out: Path, drawn: Callable[[], str]) -> None:
    """Write a drawing; DeskError for one that can't be."""
    drawing = _drawing(out, drawn)
    out.parent.mkdir(parents=True, exist_ok=True)
    out.write_text(drawing)


def _drawing(out: Path, drawn: Callable[[], str]) -> str:
    if out.suffix != ".svg":
        raise DeskError(f"{out}: an SVG file is made here; call it something.svg")
    try:
        return drawn()
    except ValueError as error:
        raise DeskError(str(error)) from error


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
    try:
        return link_of(CardReaderSettings(reader))
    except ValueError as error:
        raise DeskError(f"--reader: {error}") from error


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


def _say(text: str) -> None:
    sys.stdout.write(text + "\n")
    sys.stdout.flush()
