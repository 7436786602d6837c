"""``amibox-cloud broker``: the certificates of the broker and of whoever speaks to it."""

from __future__ import annotations

import argparse
from pathlib import Path
from typing import Any

from cloud_sync.endpoint import certificates
from cloud_sync.endpoint.certificates import BROKER, CLOUD, BrokerAuthority, BrokerPaths

RESTART = "Copy {folder} to the broker's machine again if that is another, and restart mosquitto."


def add_parser(commands: Any) -> None:
    """Add ``broker`` and its commands to the commands of ``amibox-cloud``."""
    broker = commands.add_parser("broker", help="certificates for the MQTT broker").add_subparsers(
        required=True, metavar="COMMAND"
    )
    where = argparse.ArgumentParser(add_help=False)
    where.add_argument("--dir", metavar="DIR", type=Path, required=True, help="folder of the endpoint")

    init = broker.add_parser(
        "init",
        help="make the authority, and all that mosquitto and the endpoint need",
        description="Makes DIR/broker. Its mosquitto/ is for the broker's machine, its authority/ for nobody else.",
    )
    init.add_argument("dir", metavar="DIR", type=Path, help="folder of the endpoint")
    init.add_argument("hosts", metavar="HOST", nargs="+", help="name or address under which boxes reach the broker")
    init.set_defaults(run=_init)

    box = broker.add_parser(
        "box",
        parents=[where],
        help="give a box its certificate",
        description="Writes ca.pem and box.pem, and box.key unless the box made its own and sends a request.",
    )
    box.add_argument("vehicle", metavar="VEHICLE", help="name of the car, as in amibox-cloud box add")
    box.add_argument("--request", metavar="FILE", type=Path, help="certificate request (PEM) that the box made")
    box.add_argument("--out", metavar="FOLDER", type=Path, required=True, help="where to write")
    box.set_defaults(run=_box)

    renew = broker.add_parser("renew", parents=[where], help="sign the same key for another two years")
    renew.add_argument("name", metavar="NAME", help=f"a vehicle, {CLOUD} or {BROKER}")
    renew.add_argument("--out", metavar="FILE", type=Path, help="for a vehicle: the new box.pem")
    renew.add_argument("--host", metavar="HOST", action="append", default=[], help="for the broker: other names")
    renew.set_defaults(run=_renew)

    revoke = broker.add_parser("revoke", parents=[where], help="take a box's certificates back")
    revoke.add_argument("vehicle", metavar="VEHICLE")
    revoke.set_defaults(run=_revoke)

    listed = broker.add_parser("list", parents=[where], help="who has one, and until when")
    listed.set_defaults(run=_list)


def _say(text: str) -> None:
    print(text, flush=True)  # noqa: T201  (a command prints)


def _init(arguments: argparse.Namespace) -> int:
    certificates.found(arguments.dir, arguments.hosts, arguments.now())
    paths = BrokerPaths(arguments.dir)
    _say(f"Made {paths.root}. Copy {paths.mosquitto} to the broker's machine (cloud_sync/broker/README.md), then:")
    _say(f"  amibox-cloud serve {serve_flags(arguments.dir, arguments.hosts[0])}")
    return 0


def serve_flags(folder: Path, host: str, port: int = 8883) -> str:
    """Return how ``amibox-cloud serve`` reaches the broker."""
    root = BrokerPaths(folder).root
    keys = f"--mqtt-cert {root / 'cloud.pem'} --mqtt-key {root / 'cloud.key'}"
    return f"--dir {folder} --mqtt {host}:{port} --mqtt-ca {BrokerPaths(folder).ca} {keys}"


def _box(arguments: argparse.Namespace) -> int:
    authority = BrokerAuthority(arguments.dir)
    if arguments.request is None:
        authority.give(arguments.vehicle, arguments.out, arguments.now())
        _say(
            f"{arguments.out} holds the key and the certificate of {arguments.vehicle}. Carry it there, delete it here."
        )
    else:
        authority.sign(arguments.vehicle, arguments.request.read_bytes(), arguments.out, arguments.now())
        _say(f"{arguments.out} holds the certificate of {arguments.vehicle}. Nothing in it is secret.")
    return 0


def _renew(arguments: argparse.Namespace) -> int:
    authority = BrokerAuthority(arguments.dir)
    if arguments.out is None:
        authority.renew_own(arguments.name, arguments.now(), arguments.host)
        cloud = "The endpoint takes it at its next connection."
        _say(f"Renewed. {cloud if arguments.name == CLOUD else RESTART.format(folder=authority.paths.mosquitto)}")
        return 0
    if arguments.host:
        raise ValueError("--host is for the broker's own certificate")
    authority.renew(arguments.name, arguments.out, arguments.now())
    _say(f"Put {arguments.out} over the box's box.pem: it takes it at its next connection. Nothing in it is secret.")
    return 0


def _revoke(arguments: argparse.Namespace) -> int:
    authority = BrokerAuthority(arguments.dir)
    number = authority.revoke(arguments.vehicle, arguments.now())
    _say(
        f"Revoked {number} of {arguments.vehicle}; it counts from the broker's next start, and a reload is not enough."
    )
    _say(RESTART.format(folder=authority.paths.mosquitto))
    return 0


def _list(arguments: argparse.Namespace) -> int:
    authority = BrokerAuthority(arguments.dir)
    for each in authority.issued():
        end = each.certificate.not_valid_after_utc
        _say(f"{each.name:<32}  {end:%Y-%m-%d}  {each.state(arguments.now()):<9}  {each.certificate.serial_number:x}")
    _say(f"The authority and its list end on {authority.certificate.not_valid_after_utc:%Y-%m-%d}.")
    return 0
