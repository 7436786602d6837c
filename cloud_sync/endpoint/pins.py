"""``amibox-cloud box pin``: a technician's PIN for a car's console, shown once. Only its digest is kept."""

from __future__ import annotations

import argparse
import os
import secrets
from pathlib import Path
from typing import Any, Final

from cloud_sync.documents import Technician
from cloud_sync.documents.schema import vehicle_id
from cloud_sync.endpoint.authority import Paths
from cloud_sync.endpoint.store import Store, StoreError, sqlite_url
from cloud_sync.endpoint.technicians import let_in, shut_out
from cloud_sync.provisioning import SALT_BYTES, pin_digest

PIN_DIGITS: Final = 8
"""With five tries in a quarter of an hour it takes centuries to guess one."""
RENEW: Final = "The car knows it from its next answer on: amibox-cloud box renew {vehicle}."


def add_parser(boxes: Any) -> None:
    """Describe ``box pin`` among the commands of ``box``."""
    pin = boxes.add_parser(
        "pin",
        help="make a technician's PIN for a car's console",
        description="Makes a new PIN, in place of an earlier one, and prints it once. The car knows it from its next "
        "answer on (renew).",
    )
    pin.add_argument("vehicle", metavar="VEHICLE", help="name of the car: 1 to 32 of a-z 0-9 -")
    pin.add_argument("name", metavar="NAME", help="the technician, as they log in: 1 to 32 of a-z 0-9 -")
    pin.add_argument("--dir", metavar="DIR", type=Path, required=True, help="folder of the endpoint")
    pin.add_argument("--withdraw", action="store_true", help="take it back instead; counts with the next answer")
    pin.set_defaults(run=_run)


def set_pin(store: Store, vehicle: str, name: str) -> str:
    """Give a technician a new PIN for a car and return it. ``Refused`` for an odd name; StoreError, as ``let_in``."""
    vehicle_id(vehicle)
    vehicle_id(name)
    pin = f"{secrets.randbelow(10**PIN_DIGITS):0{PIN_DIGITS}}"
    salt = os.urandom(SALT_BYTES)
    let_in(store, vehicle, Technician(name, salt, pin_digest(pin, salt)))
    return pin


def _run(arguments: argparse.Namespace) -> int:
    vehicle, name = arguments.vehicle, arguments.name
    store = Store(sqlite_url(Paths(arguments.dir).database))
    try:
        if arguments.withdraw:
            if not shut_out(store, vehicle, name):
                raise StoreError(f"{name} has no PIN for {vehicle}. Nothing was changed.")
            said = f"{name} is taken off {vehicle}."
        else:
            pin = set_pin(store, vehicle, name)
            said = f"PIN of {name} for {vehicle}: {pin}\nIt is shown this once, and kept nowhere."
    finally:
        store.close()
    print(f"{said}\n{RENEW.format(vehicle=vehicle)}", flush=True)  # noqa: T201  (a command prints)
    return 0
