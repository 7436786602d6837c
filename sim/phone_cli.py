"""``amibox phone``: a driver's phone by hand, against a real box, with this machine's Bluetooth.

    amibox phone key --pass anna.json                                  its key, to be booked for
    amibox phone fetch BOOKING --pass anna.json --cloud http://localhost:8000
    amibox phone unlock --pass anna.json

With ``--cloud`` it also carries: what the commune has for the car, and the car's trips for the commune. What could not
be handed over yet waits in ``anna.json.bag``.
"""

from __future__ import annotations

import argparse
import asyncio
import json
import secrets
import sys
from dataclasses import replace
from functools import partial
from pathlib import Path

from cloud_sync.documents import BoxSigner, Refused
from cloud_sync.documents.answers import words
from cloud_sync.documents.conversation import Answer, Op, Wish
from onboard.core.gatt import BUSY, HELLO_OVER
from sim.phone import REASONS, GattError, Visit, visit
from sim.phone_ble import connect
from sim.phone_cloud import CloudError, HttpCloud
from sim.phone_wallet import Bag, Wallet

OPS = {"unlock": Op.UNLOCK, "lock": Op.LOCK, "finish": Op.FINISH, "status": Op.STATUS}
TRIES = 3
"""Of one wish, when the connection is lost or the box is busy; its id stays, so it is done once."""
AGAIN_S = 2.0


def main(argv: list[str]) -> int:
    """Do it; return the exit code: 0 done, 1 refused or not reached, 2 wrong use."""
    args = _parser().parse_args(argv)
    try:
        return int(asyncio.run(args.do(args)))
    except GattError as error:
        if error.code is not None:
            sys.stdout.write(f"{getattr(words(REASONS.get(error.code, 'not_understood')), args.language)}\n")
        return _fail(error, 1)
    except (Refused, CloudError) as error:
        return _fail(error, 1)
    except (OSError, ValueError) as error:
        return _fail(error, 2)


def _fail(error: Exception, code: int) -> int:
    sys.stderr.write(f"amibox phone: {error}\n")
    return code


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(
        prog="amibox phone",
        description=str(__doc__).replace("`", ""),
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    commands = parser.add_subparsers(required=True, metavar="COMMAND")
    for name, text in (
        ("unlock", "open the car"),
        ("lock", "lock it; at the station this ends the rental"),
        ("finish", "end the rental, wherever the car stands"),
        ("status", "ask how the car is"),
    ):
        one = commands.add_parser(name, help=text)
        one.add_argument("--adapter", help="this machine's Bluetooth adapter, such as hci1 (default: the first)")
        one.add_argument("--json", action="store_true", help="one JSON object with stable keys")
        one.set_defaults(do=_at_the_car, op=OPS[name])
        _common(one)
    one = commands.add_parser("key", help="make the phone's key if there is none, and print what to book for")
    one.set_defaults(do=_key)
    _common(one)
    one = commands.add_parser("fetch", help="get the pass of a booking from the commune")
    one.add_argument("booking", help="the booking's number")
    one.set_defaults(do=_fetch)
    _common(one)
    return parser


def _common(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("--pass", dest="file", type=Path, required=True, help="file of the key and the pass")
    parser.add_argument("--cloud", help="the commune's address, such as http://localhost:8000")
    parser.add_argument("--language", choices=("english", "french"), default="english")


async def _key(args: argparse.Namespace) -> int:
    if not args.file.exists():
        Wallet("", "", b"", BoxSigner.generate(), b"", b"").save(args.file)
    sys.stdout.write(f"{Wallet.load(args.file).key.public.hex()}\n")
    return 0


async def _fetch(args: argparse.Namespace) -> int:
    if args.cloud is None:
        raise ValueError("a pass comes from the commune: add --cloud ADDRESS")
    held = Wallet.load(args.file)
    got = await HttpCloud(args.cloud).grant(args.booking, held.key.public)
    replace(
        held,
        vehicle=str(got["vehicle"]),
        name=str(got["name"]),
        box=bytes.fromhex(got["box"]),
        booking=bytes.fromhex(got["booking"]),
        grant=bytes.fromhex(got["pass"]),
    ).save(args.file)
    sys.stdout.write(f"{args.file}: a pass for {got['vehicle']}, on the radio {got['name']}\n")
    return 0


async def _at_the_car(args: argparse.Namespace) -> int:
    held = Wallet.load(args.file)
    if not held.vehicle:
        raise ValueError(f"{args.file} holds a key but no pass yet: amibox phone fetch BOOKING --pass {args.file}")
    cloud = HttpCloud(args.cloud) if args.cloud is not None else None
    bag_file = args.file.with_name(args.file.name + ".bag")
    bag = Bag.load(bag_file, held.vehicle)
    if cloud is not None:
        await _exchange(bag, cloud)
    came = await _visit(args, held, bag, cloud)
    if cloud is not None:
        await _exchange(bag, cloud)
    bag.save(bag_file)
    _report(came, bag, args)
    return 1 if came.answer.status in ("denied", "unknown") else 0


async def _exchange(bag: Bag, cloud: HttpCloud) -> None:
    try:
        await bag.exchange(cloud)
    except CloudError as error:
        # The car is what the driver wants; the rest waits in the bag.
        sys.stderr.write(f"amibox phone: {error}\n")


async def _visit(args: argparse.Namespace, held: Wallet, bag: Bag, cloud: HttpCloud | None) -> Visit:
    wish = Wish(secrets.token_bytes(16), args.op)
    for left in reversed(range(TRIES)):
        try:
            async with connect(held.name, args.adapter) as gatt:
                return await visit(gatt, held, wish, bag, cloud, partial(_tell, args))
        except GattError as error:
            if not left or error.code not in (None, BUSY, HELLO_OVER):
                raise
            sys.stderr.write(f"amibox phone: {error}; once more\n")
            await asyncio.sleep(AGAIN_S)
    raise AssertionError("the last try returns or raises")


def _text(answer: Answer, language: str) -> str:
    return getattr(words(answer.reason), language) if answer.reason else f"door {answer.door}"


def _tell(args: argparse.Namespace, answer: Answer) -> None:
    """Say at once what the driver waits for; as JSON it comes with the rest."""
    if not args.json:
        sys.stdout.write(f"{_text(answer, args.language)}\n")
        sys.stdout.flush()


def _report(came: Visit, bag: Bag, args: argparse.Namespace) -> None:
    answer = came.answer
    if not args.json:
        sys.stdout.write(f"brought {came.brought} to the car, took {came.taken} along, {len(bag.up)} wait here\n")
        return
    told = {
        "status": answer.status,
        "reason": answer.reason,
        "text": _text(answer, args.language),
        "door": answer.door,
        "up_to_seq": answer.up_to_seq,
        "acked_seq": answer.acked_seq,
        "round_trips": came.round_trips,
        "brought": came.brought,
        "taken": came.taken,
        "waiting": len(bag.up),
    }
    sys.stdout.write(json.dumps(told) + "\n")
