"""``amibox-cloud``: make the commune's keys, make a box, make the broker's certificates, run the endpoint."""

from __future__ import annotations

import argparse
import logging
import os
import sys
import time
import tomllib
from collections.abc import Callable
from pathlib import Path
from typing import Any, NoReturn

import uvicorn
from pydantic import TypeAdapter, ValidationError

from cloud_sync.carrier_settings import CarrierSettings, is_loopback
from cloud_sync.documents import Refused
from cloud_sync.endpoint import authority, box_command, broker_command, key_rotation, lists
from cloud_sync.endpoint.app import create_app
from cloud_sync.endpoint.authority import Authority, AuthorityError, Paths
from cloud_sync.endpoint.certificates import CertificateError
from cloud_sync.endpoint.ingest import Consumer, Ingest
from cloud_sync.endpoint.models import StationInfo
from cloud_sync.endpoint.store import Store, StoreError, sqlite_url

PROGRAM = "amibox-cloud"
BROKER_USER = "cloud"


def main(argv: list[str] | None = None, now: Callable[[], float] = time.time) -> int:
    """Run the command; return its exit code: 0 done, 1 failed, 2 wrong usage. ``now`` gives Unix seconds."""
    arguments = _parser().parse_args(argv, argparse.Namespace(now=now))
    os.umask(0o077)  # keys, bookings and trips are nobody else's
    try:
        return int(arguments.run(arguments))
    except (AuthorityError, CertificateError, StoreError, Refused, ValueError, OSError) as error:
        print(f"{PROGRAM}: {error}", file=sys.stderr)  # noqa: T201  (a command prints)
        return 1


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(
        prog=PROGRAM, description="The commune's side of AmiBox: keys, boxes, and the endpoint they talk to."
    )
    commands = parser.add_subparsers(required=True, metavar="COMMAND")

    init = commands.add_parser(
        "init",
        help="make the commune's keys in an empty folder",
        description="Makes the two offline roots, the authority's keys, the sealing key and the first signed key set. "
        "Afterwards move DIR/offline to a medium that no networked machine reads.",
    )
    init.add_argument("dir", metavar="DIR", type=Path, help="folder of the endpoint")
    init.set_defaults(run=_init)

    box_command.add_parser(commands)
    key_rotation.add_parser(commands)
    broker_command.add_parser(commands)

    serve = commands.add_parser(
        "serve",
        help="run the endpoint",
        description="Takes what the boxes send, acknowledges it, publishes reservation lists, and answers over HTTP. "
        "There is no log-in yet: it listens on this machine only.",
    )
    serve.add_argument("--dir", metavar="DIR", type=Path, required=True, help="folder of the endpoint")
    serve.add_argument("--http", metavar="HOST:PORT", default="127.0.0.1:8080", help="where to answer (%(default)s)")
    serve.add_argument("--mqtt", metavar="HOST:PORT", default="127.0.0.1:1883", help="the broker (%(default)s)")
    serve.add_argument("--mqtt-user", metavar="NAME", default=BROKER_USER, help="user at the broker (%(default)s)")
    serve.add_argument("--mqtt-password-file", metavar="FILE", type=Path, help="file with that user's password")
    serve.add_argument("--mqtt-ca", metavar="FILE", type=Path, help="CA of the broker; needed unless it is local")
    serve.add_argument("--mqtt-cert", metavar="FILE", type=Path, help="client certificate")
    serve.add_argument("--mqtt-key", metavar="FILE", type=Path, help="its key")
    serve.add_argument("--mqtt-retry-s", metavar="S", type=float, default=60.0, help="longest wait (%(default)s)")
    serve.add_argument("--stations", metavar="FILE.toml", type=Path, help="[[station]]: id, name, latitude, longitude")
    serve.add_argument("--database", metavar="URL", help="SQLAlchemy URL (default: SQLite in DIR/data)")
    serve.add_argument(
        "--horizon-days",
        metavar="N",
        type=int,
        choices=range(1, 31),
        default=lists.HORIZON_DAYS,
        help="days that a car without network goes on, 1 to 30 (%(default)s)",
    )
    serve.add_argument(
        "--insecure-open",
        action="store_true",
        help="listen on other addresses too: anybody who reaches them can book and read. Not for production",
    )
    serve.set_defaults(run=_serve)
    return parser


def _say(text: str) -> None:
    print(text, flush=True)  # noqa: T201  (a command prints)


def _init(arguments: argparse.Namespace) -> int:
    authority.initialise(arguments.dir, int(arguments.now()))
    offline = Paths(arguments.dir).offline
    _say(f"Keys made in {arguments.dir}.\nMove {offline} to a medium kept offline, and remove it here.")
    _say(f"Your fingerprint, by which a box is told whom to believe:\n  {Authority(arguments.dir).fingerprint}")
    return 0


def _serve(arguments: argparse.Namespace) -> int:
    host, port = _address(arguments.http)
    if not is_loopback(host) and not arguments.insecure_open:
        raise ValueError(
            f"--http {arguments.http}: there is no log-in yet, so only this machine is served. "
            "Use 127.0.0.1, or --insecure-open if nobody else can reach that address."
        )
    broker_host, broker_port = _address(arguments.mqtt)
    password_file: Path | None = arguments.mqtt_password_file
    settings = CarrierSettings(
        host=broker_host,
        port=broker_port,
        client_id=arguments.mqtt_user,
        username=arguments.mqtt_user if password_file is not None else None,
        password=password_file.read_text().strip() if password_file is not None else None,
        ca=arguments.mqtt_ca,
        cert=arguments.mqtt_cert,
        key=arguments.mqtt_key,
        backoff_longest_s=max(1.0, arguments.mqtt_retry_s),
    )
    stations = read_stations(arguments.stations) if arguments.stations is not None else ()
    signing = Authority(arguments.dir)
    store = Store(arguments.database or sqlite_url(Paths(arguments.dir).database))
    ingest = Ingest(store, signing, arguments.horizon_days)
    consumer = Consumer(settings, ingest, arguments.now)
    hosts = ("*",) if arguments.insecure_open else ("localhost", "127.0.0.1")
    app = create_app(
        store, signing, ingest, consumer, stations, hosts=hosts, horizon_days=arguments.horizon_days, now=arguments.now
    )
    logging.basicConfig(level=logging.WARNING, format="%(levelname)s %(name)s: %(message)s")
    consumer.start()
    try:
        _say(f"endpoint: http://{arguments.http}/ (broker {arguments.mqtt}; whether it is reached says /api/v1/status)")
        uvicorn.run(app, host=host, port=port, log_level="warning", access_log=False, server_header=False)
    finally:
        consumer.stop()
        store.close()
    return 0


def read_stations(path: Path) -> tuple[StationInfo, ...]:
    """Read ``[[station]]``; a box's ``radius_m`` may stand there too. ValueError naming the file and the fault."""
    try:
        tables: dict[str, Any] = tomllib.loads(path.read_text())
        found = [{name: value for name, value in entry.items() if name != "radius_m"} for entry in tables["station"]]
        return tuple(TypeAdapter(list[StationInfo]).validate_python(found))
    except (KeyError, AttributeError, TypeError) as error:
        raise ValueError(f"{path}: [[station]] with id, name, latitude and longitude is wanted") from error
    except ValidationError as error:
        first = error.errors()[0]
        where = ".".join(map(str, first["loc"]))
        raise ValueError(f"{path}: station.{where}: {first['msg']}") from error
    # ValueError: no TOML, no UTF-8, or a number of more than 4300 digits.
    except (ValueError, RecursionError) as error:
        raise ValueError(f"{path}: no TOML: {error}") from error


def _address(text: str) -> tuple[str, int]:
    host, colon, port = text.rpartition(":")
    if not colon or not host or not port.isascii() or not port.isdigit() or not 1 <= int(port) <= 65535:
        raise ValueError(f"{text!r}: HOST:PORT is wanted, as in 127.0.0.1:8080")
    return host.strip("[]"), int(port)


def run() -> NoReturn:
    """Entry point of the installed command."""
    sys.exit(main())


if __name__ == "__main__":
    run()
