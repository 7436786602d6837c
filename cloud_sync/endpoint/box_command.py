"""``amibox-cloud box``: boxes into cars, out of them, and from one into another (docs/provisioning.md)."""

from __future__ import annotations

import argparse
import tomllib
from datetime import UTC, datetime
from pathlib import Path
from typing import Any, Final

from cloud_sync.documents import BoxRequest, unarmoured
from cloud_sync.documents.boxes import TOWN_BYTES_MAX
from cloud_sync.endpoint import pins
from cloud_sync.endpoint.boxes import TOWN, Boxes, Done

REQUEST_BYTES_MAX: Final = 65_536
TABLES: Final = ("car", "uplink", "station", "policy")
"""Tables that the town hall's part of a configuration may hold; the box judges what is in them."""
CARRY: Final = """\
{out} is for the box of {vehicle}. No other can read it: send it however you like. On the box:
  amibox provision accept {name}
The box then shows whose answer it is. Read this to the technician, who compares:
  {fingerprint}"""
RESTART: Final = "That counts from mosquitto's next start: copy DIR/broker/mosquitto to its machine, restart it."


def add_parser(commands: Any) -> None:
    """Add ``box`` and its commands to the commands of ``amibox-cloud``."""
    box = commands.add_parser("box", help="boxes in cars").add_subparsers(required=True, metavar="COMMAND")
    where = argparse.ArgumentParser(add_help=False)
    where.add_argument("--dir", metavar="DIR", type=Path, required=True, help="folder of the endpoint")
    out = argparse.ArgumentParser(add_help=False, parents=[where])
    out.add_argument("--out", metavar="FILE", type=Path, required=True, help="the answer to write, for the box")
    out.add_argument(
        "--town", metavar="FILE", type=Path, help=f"car model, stations, rules for the box (default: DIR/{TOWN})"
    )
    asked = argparse.ArgumentParser(add_help=False, parents=[out])
    asked.add_argument("--request", metavar="FILE", type=Path, required=True, help="what the box asked with")
    asked.add_argument(
        "--fingerprint", metavar="DIGITS", required=True, help="of the request, as the technician reads it from the box"
    )
    hand = argparse.ArgumentParser(add_help=False)
    hand.add_argument(
        "--at-hand",
        action="store_true",
        help="the old box is here and will be wiped: the cards that it knows need not be given up",
    )
    for name, run, parents, text in (
        ("add", _add, [asked], "answer the request of a car's first box"),
        ("replace", _replace, [asked, hand], "answer the request of a new box in a car; the old one's keys are void"),
        ("renew", _renew, [out], "answer a box once more: new certificate, present PINs, stations, keys"),
        ("retire", _retire, [where, hand], "take a car's box out of service; what it sent is kept"),
    ):
        one = box.add_parser(name, parents=parents, help=text, description=text[0].upper() + text[1:] + ".")
        one.add_argument("vehicle", metavar="VEHICLE", help="name of the car: 1 to 32 of a-z 0-9 -")
        one.set_defaults(run=run)
    text = "a box from one car into another, after amibox provision reset on it"
    move = box.add_parser("move", parents=[asked], help=text, description=text[0].upper() + text[1:] + ".")
    move.add_argument("old", metavar="FROM", help="the car that it was in")
    move.add_argument("vehicle", metavar="TO", help="the car that it is in now")
    move.set_defaults(run=_move)
    pins.add_parser(box)
    one = box.add_parser("list", parents=[where], help="every box that is or was in a car")
    one.set_defaults(run=_list)


def _say(text: str) -> None:
    print(text, flush=True)  # noqa: T201  (a command prints)


def read_town(folder: Path, given: Path | None) -> str:
    """Return the town hall's part of a configuration; none is no fault unless ``given``. ValueError with the remedy."""
    path = given or folder / TOWN
    if given is None and not path.exists():
        return ""
    data = path.read_bytes()
    try:
        text = data.decode()
        tables = tomllib.loads(text)
    except (ValueError, RecursionError) as error:
        raise ValueError(f"{path}: no TOML: {error}") from error
    others = sorted(set(tables) - set(TABLES))
    if others or len(data) > TOWN_BYTES_MAX // 2:
        what = f"[{others[0]}] is the technician's, in box.toml" if others else "too long"
        raise ValueError(f"{path}: {what}; here stand {', '.join(TABLES)}, at most {TOWN_BYTES_MAX // 2} bytes")
    return text


def _request(boxes: Boxes, arguments: argparse.Namespace) -> BoxRequest:
    with arguments.request.open("rb") as file:
        return boxes.read(unarmoured(file.read(REQUEST_BYTES_MAX)), arguments.fingerprint)


def _carry(boxes: Boxes, arguments: argparse.Namespace) -> None:
    out: Path = arguments.out
    commune = boxes.authority.fingerprint
    _say(CARRY.format(out=out, name=out.name, vehicle=arguments.vehicle, fingerprint=commune))


def _told(done: Done) -> None:
    if done.revoked:
        _say(f"Revoked {done.revoked} of the old box's certificates. {RESTART}")
    if done.lost:
        numbers = ", ".join(map(str, done.lost))
        _say(f"The old box knew these residents' cards; they open nothing any more: {numbers}. Tell their holders.")
    if done.bookings:
        _say(f"Bookings of that car still to come: {done.bookings}. Move or cancel them.")


def _add(arguments: argparse.Namespace) -> int:
    town = read_town(arguments.dir, arguments.town)
    with Boxes(arguments.dir, arguments.now()) as boxes:
        boxes.add(arguments.vehicle, _request(boxes, arguments), arguments.out, town)
        _carry(boxes, arguments)
    return 0


def _replace(arguments: argparse.Namespace) -> int:
    town = read_town(arguments.dir, arguments.town)
    with Boxes(arguments.dir, arguments.now()) as boxes:
        request = _request(boxes, arguments)
        _told(boxes.replace(arguments.vehicle, request, arguments.out, town, at_hand=arguments.at_hand))
        _say("What the old box had not sent can't come any more: nothing that it signs counts from now on.")
        _carry(boxes, arguments)
    return 0


def _renew(arguments: argparse.Namespace) -> int:
    town = read_town(arguments.dir, arguments.town)
    with Boxes(arguments.dir, arguments.now()) as boxes:
        boxes.renew(arguments.vehicle, arguments.out, town)
        _carry(boxes, arguments)
    return 0


def _retire(arguments: argparse.Namespace) -> int:
    with Boxes(arguments.dir, arguments.now()) as boxes:
        _told(boxes.retire(arguments.vehicle, at_hand=arguments.at_hand))
    _say(f"The box of {arguments.vehicle} is out of service and gets no list any more. What it sent is kept.")
    _say("Until it is wiped (amibox provision reset) it opens for the bookings of the last list that it has.")
    return 0


def _move(arguments: argparse.Namespace) -> int:
    town = read_town(arguments.dir, arguments.town)
    with Boxes(arguments.dir, arguments.now()) as boxes:
        request = _request(boxes, arguments)
        _told(boxes.retire(arguments.old, at_hand=True))
        boxes.add(arguments.vehicle, request, arguments.out, town)
        _carry(boxes, arguments)
    return 0


def _list(arguments: argparse.Namespace) -> int:
    with Boxes(arguments.dir, arguments.now()) as boxes:
        for vehicle, what, at_s in boxes.listed():
            since = f"since {datetime.fromtimestamp(at_s, UTC):%Y-%m-%d}" if at_s else ""
            _say(f"{vehicle:<32}  {what:<8}  {since}".rstrip())
        _say(f"The commune's fingerprint: {boxes.authority.fingerprint}")
    return 0
