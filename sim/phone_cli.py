"""``amibox phone``: a driver's phone by hand, against a real box, with this machine's Bluetooth.

    amibox phone key --pass anna.json                                  its key, to be booked for
    amibox phone fetch BOOKING --pass anna.json --cloud http://localhost:8080
    amibox phone unlock --pass anna.json

It also carries: what the commune has for the car, and the car's trips for the commune. Both wait in a file beside the
pass, anna.json.CAR.bag. With --cloud they are exchanged after each command; at home, by carry and by fetch.

exit codes: 0 done; 1 refused, or not reached; 2 wrong use, or a file that can't be used.
"""

from __future__ import annotations

import argparse
import asyncio
import json
import secrets
import sys
import time
from dataclasses import dataclass, replace
from functools import partial
from pathlib import Path
from typing import Any

from cloud_sync.documents import BoxSigner, Refused
from cloud_sync.documents.answers import DOORS, words
from cloud_sync.documents.conversation import Answer, Op, Wish
from onboard.core.gatt import BUSY, HELLO_OVER
from sim.phone import REASONS, GattError, Visit, visit
from sim.phone_ble import connect
from sim.phone_cloud import CloudError, HttpCloud
from sim.phone_wallet import Bag, BagError, Wallet

OPS = {
    "unlock": Op.UNLOCK,
    "lock": Op.LOCK,
    "finish": Op.FINISH,
    "capture": Op.CAPTURE,
    "status": Op.STATUS,
}
TRIES = 3
"""Of one wish, when the connection is lost or the box is busy; its id stays, so it is done once."""
AGAIN_S = 2.0


def main(argv: list[str]) -> int:
    """Do it; return the exit code."""
    args = _parser().parse_args(argv)
    try:
        return int(asyncio.run(args.do(args)))
    except GattError as error:
        return _not_reached(error, args)
    except (Refused, CloudError) as error:
        return _fail(error, 1)
    except (OSError, ValueError) as error:
        return _fail(error, 2)


def _fail(error: Exception, code: int) -> int:
    sys.stderr.write(f"amibox phone: {error}\n")
    return code


def _not_reached(error: GattError, args: argparse.Namespace) -> int:
    """Say in the driver's words that the car gave no answer."""
    reason = error.reason or REASONS.get(error.code or 0, "not_reached")
    text = getattr(words(reason), args.language)
    if args.json:
        sys.stdout.write(json.dumps({"status": "unknown", "reason": reason, "text": text, "detail": str(error)}) + "\n")
    else:
        sys.stdout.write(f"{text}\n")
        if args.verbose:
            sys.stderr.write(f"amibox phone: {error}\n")
    return 1


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
        ("capture", "for staff: have the car take the number of the next unknown card"),
        ("status", "ask how the car is"),
    ):
        one = commands.add_parser(name, help=text)
        one.add_argument("--adapter", help="this machine's Bluetooth adapter, such as hci1 (default: the first)")
        one.add_argument("--json", action="store_true", help="one JSON object with stable keys, whatever happens")
        one.add_argument("--language", choices=("english", "french"), default="english", help="of what a driver reads")
        one.add_argument("--verbose", action="store_true", help="say on standard error what the radio said")
        one.set_defaults(do=_at_the_car, op=OPS[name])
        _common(one)
    one = commands.add_parser("key", help="make the phone's key if there is none, and print what to book for")
    one.set_defaults(do=_key)
    _common(one)
    one = commands.add_parser("fetch", help="get the pass of a booking from the commune, and what its car should get")
    one.add_argument("booking", help="the booking's number")
    one.set_defaults(do=_fetch)
    _common(one)
    one = commands.add_parser("staff", help="for staff: learn to talk to a car whose list names this phone's key")
    one.add_argument("id", help="the id that POST /api/v1/staff answered")
    one.add_argument("--vehicle", required=True, help="the car")
    one.set_defaults(do=_staff)
    _common(one)
    one = commands.add_parser("carry", help="where there is network: hand over what the car gave, take what it lacks")
    one.set_defaults(do=_carry)
    _common(one)
    return parser


def _common(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("--pass", dest="file", type=Path, required=True, help="file of the key and the pass")
    parser.add_argument("--cloud", help="the commune's address, such as http://localhost:8080")


async def _key(args: argparse.Namespace) -> int:
    if not args.file.exists():
        if not args.file.parent.is_dir():
            raise ValueError(f"there is no folder {args.file.parent}")
        Wallet("", "", b"", BoxSigner.generate(), b"", b"").save(args.file)
    sys.stdout.write(f"{Wallet.load(args.file).key.public.hex()}\n")
    return 0


def _cloud(args: argparse.Namespace) -> HttpCloud:
    if args.cloud is None:
        raise ValueError("the commune is wanted for this: add --cloud ADDRESS")
    return HttpCloud(args.cloud)


async def _fetch(args: argparse.Namespace) -> int:
    cloud, held = _cloud(args), Wallet.load(args.file)
    got = await cloud.grant(args.booking, held.key.public)
    fetched = replace(held, vehicle=got.vehicle, name=got.name, box=got.box, booking=got.booking, grant=got.document)
    fetched.save(args.file)
    until = time.strftime("%Y-%m-%d %H:%M", time.localtime(got.expires_s))
    sys.stdout.write(f"{args.file}: a pass for {got.vehicle}, good until {until}; on the radio it is {got.name}\n")
    with Open(args.file, fetched.vehicle) as bag:
        await bag.exchange(cloud)
    return 0


async def _staff(args: argparse.Namespace) -> int:
    cloud, held = _cloud(args), Wallet.load(args.file)
    name, box = await cloud.radio(args.vehicle)
    identity = bytes.fromhex(args.id)
    replace(held, vehicle=args.vehicle, name=name, box=box, booking=identity, grant=b"").save(args.file)
    sys.stdout.write(
        f"{args.file}: for {args.vehicle}, once it has a list with this phone; on the radio it is {name}\n"
    )
    return 0


async def _carry(args: argparse.Namespace) -> int:
    cloud, held = _cloud(args), _with_pass(args.file)
    with Open(args.file, held.vehicle) as bag:
        had = len(bag.up)
        await bag.exchange(cloud)
        sys.stdout.write(f"handed over: {had} of the car's batches; for the car: {len(bag.down)} documents\n")
    return 0


def _with_pass(file: Path) -> Wallet:
    held = Wallet.load(file)
    if not held.vehicle:
        raise ValueError(f"{file} has no pass yet: amibox phone fetch BOOKING --pass {file} --cloud ADDRESS")
    return held


class Open:
    """The bag of a pass's car, saved when it is closed, whatever happened. A damaged one is set aside."""

    def __init__(self, file: Path, vehicle: str) -> None:
        self._file = file.with_name(f"{file.name}.{vehicle}.bag")
        self._vehicle = vehicle

    def __enter__(self) -> Bag:
        """Read it."""
        try:
            self._bag = Bag.load(self._file, self._vehicle)
        except BagError as error:
            aside = self._file.rename(self._file.with_name(self._file.name + ".damaged"))
            sys.stderr.write(f"amibox phone: {error}. It is now {aside}\n")
            self._bag = Bag(self._vehicle)
        return self._bag

    def __exit__(self, *_error: object) -> None:
        """Save it."""
        self._bag.save(self._file)


@dataclass(slots=True)
class Told:
    """What the driver was told already: after that a lost connection is nobody's failure."""

    answer: Answer | None = None


async def _at_the_car(args: argparse.Namespace) -> int:
    held = _with_pass(args.file)
    cloud = HttpCloud(args.cloud) if args.cloud is not None else None
    with Open(args.file, held.vehicle) as bag:
        came = await _visit(args, held, bag, cloud)
        if cloud is not None:
            try:
                await bag.exchange(cloud)
            except CloudError as error:
                # The car is what the driver wanted; the rest waits in the bag.
                sys.stderr.write(f"amibox phone: {error}\n")
        _report(came, bag, args)
    return 1 if came.answer.status in ("denied", "unknown") else 0


async def _visit(args: argparse.Namespace, held: Wallet, bag: Bag, cloud: HttpCloud | None) -> Visit:
    wish, told = Wish(secrets.token_bytes(16), args.op), Told()
    sys.stderr.write(f"amibox phone: looking for {held.name}\n")
    for left in reversed(range(TRIES)):
        try:
            async with connect(held.name, args.adapter) as gatt:
                return await visit(gatt, held, wish, bag, cloud, partial(_tell, args, told))
        except GattError as error:
            if told.answer is not None:
                return Visit(told.answer, 0, 0, 0)  # the car was heard; what was not carried is carried next time
            if not left or not error.again or error.code not in (None, BUSY, HELLO_OVER):
                raise
            if args.verbose:
                sys.stderr.write(f"amibox phone: {error}; once more\n")
            await asyncio.sleep(AGAIN_S)
    raise AssertionError("the last try returns or raises")


def _text(answer: Answer, language: str) -> str:
    said = words(answer.reason) if answer.reason else DOORS[answer.door]
    return str(getattr(said, language))


def _tell(args: argparse.Namespace, told: Told, answer: Answer) -> None:
    """Say at once what the driver waits for; as JSON it comes with the rest."""
    told.answer = answer
    if not args.json:
        sys.stdout.write(f"{_text(answer, args.language)}\n")
        sys.stdout.flush()


def _report(came: Visit, bag: Bag, args: argparse.Namespace) -> None:
    answer = came.answer
    if not args.json:
        if args.verbose:
            sys.stderr.write(
                f"amibox phone: {came.brought} documents brought, {came.taken} batches taken; "
                f"{len(bag.up)} batches wait for the commune\n"
            )
        return
    told: dict[str, Any] = {
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
