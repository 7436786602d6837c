"""Who may log in at a car's console by PIN: ``amibox-cloud box pin``. Only its digest is kept, here and there."""

from __future__ import annotations

import argparse
import os
import secrets
from pathlib import Path
from typing import Any, Final

from sqlalchemy import Connection, delete, insert, select

from cloud_sync.documents.schema import vehicle_id
from cloud_sync.endpoint import tables
from cloud_sync.endpoint.authority import Paths
from cloud_sync.endpoint.store import Store, StoreError, sqlite_url
from cloud_sync.provisioning import SALT_BYTES, TECHNICIANS_MAX, Technician, pin_digest

PIN_DIGITS: Final = 8
"""With five tries in a quarter of an hour it takes centuries to guess one."""


def add_parser(boxes: Any) -> None:
    """Describe ``box pin`` among the commands of ``box``."""
    pin = boxes.add_parser(
        "pin",
        help="make a technician's PIN for a car's console",
        description="Makes a new PIN, in place of an earlier one, and prints it once. The car knows it from its next "
        "provisioning file on: make the PIN first.",
    )
    pin.add_argument("vehicle", metavar="VEHICLE", help="name of the car: 1 to 32 of a-z 0-9 -")
    pin.add_argument("name", metavar="NAME", help="the technician, as they log in: 1 to 32 of a-z 0-9 -")
    pin.add_argument("--dir", metavar="DIR", type=Path, required=True, help="folder of the endpoint")
    pin.add_argument("--withdraw", action="store_true", help="take it back instead; counts with the next such file")
    pin.set_defaults(run=_run)


def set_pin(db: Connection, vehicle: str, name: str) -> str:
    """Give a technician a new PIN for a car and return it. ``Refused`` for an odd name, StoreError for one too many."""
    vehicle_id(vehicle)
    vehicle_id(name)
    pin = f"{secrets.randbelow(10**PIN_DIGITS):0{PIN_DIGITS}}"
    salt = os.urandom(SALT_BYTES)
    withdraw(db, vehicle, name)
    if len(of_car(db, vehicle)) >= TECHNICIANS_MAX:
        raise StoreError(f"{vehicle} has {TECHNICIANS_MAX} technicians already. Withdraw one; nothing was changed.")
    db.execute(insert(tables.technicians).values(vehicle=vehicle, name=name, salt=salt, digest=pin_digest(pin, salt)))
    return pin


def withdraw(db: Connection, vehicle: str, name: str) -> bool:
    """Take a technician's PIN back; return whether there was one."""
    table = tables.technicians
    done = db.execute(delete(table).where(table.c.vehicle == vehicle, table.c.name == name))
    return done.rowcount > 0


def of_car(db: Connection, vehicle: str) -> tuple[Technician, ...]:
    """Return a car's technicians, for its provisioning file."""
    table = tables.technicians
    rows = db.execute(select(table).where(table.c.vehicle == vehicle).order_by(table.c.name)).all()
    return tuple(Technician(row.name, row.salt, row.digest) for row in rows)


def _run(arguments: argparse.Namespace) -> int:
    store = Store(sqlite_url(Paths(arguments.dir).database))
    try:
        with store.write() as db:
            if arguments.withdraw:
                if not withdraw(db, arguments.vehicle, arguments.name):
                    raise StoreError(f"{arguments.name} has no PIN for {arguments.vehicle}. Nothing was changed.")
                said = f"{arguments.name} is taken off {arguments.vehicle}; the car knows it from its next file on."
            else:
                pin = set_pin(db, arguments.vehicle, arguments.name)
                said = (
                    f"PIN of {arguments.name} for {arguments.vehicle}: {pin}\nIt is shown this once, and kept nowhere."
                )
    finally:
        store.close()
    print(said, flush=True)  # noqa: T201  (a command prints)
    return 0
