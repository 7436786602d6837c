"""Who may log in at a car's console by a PIN of their own: kept here, given to its box by its next answer."""

from __future__ import annotations

from sqlalchemy import delete, func, select

from cloud_sync.documents import Technician
from cloud_sync.endpoint import tables_box
from cloud_sync.endpoint.dialect import upsert
from cloud_sync.endpoint.store import Store, StoreError
from cloud_sync.provisioning import TECHNICIANS_MAX


def technicians_of(store: Store, vehicle: str) -> tuple[Technician, ...]:
    """Return a car's technicians, by name."""
    table = tables_box.technicians
    with store.read() as db:
        rows = db.execute(select(table).where(table.c.vehicle == vehicle).order_by(table.c.name))
        return tuple(Technician(row.name, row.salt, row.digest) for row in rows)


def let_in(store: Store, vehicle: str, technician: Technician) -> None:
    """Let somebody in at a car, or give them another PIN there. StoreError: no such car, or full."""
    if store.box(vehicle) is None:
        raise StoreError(f"{vehicle} has no box. Nothing was changed.")
    table = tables_box.technicians
    values = {
        "vehicle": vehicle,
        "name": technician.name,
        "salt": technician.salt,
        "digest": technician.digest,
    }
    with store.write() as db:
        upsert(db, table, values, table.c.vehicle, table.c.name)
        count = db.scalar(select(func.count()).select_from(table).where(table.c.vehicle == vehicle)) or 0
        if count > TECHNICIANS_MAX:
            raise StoreError(f"{vehicle} has {TECHNICIANS_MAX} technicians, and takes no more. Nothing was changed.")


def shut_out(store: Store, vehicle: str, name: str) -> bool:
    """Let somebody in no more from the box's next answer on; False if nobody of this name was let in."""
    table = tables_box.technicians
    with store.write() as db:
        done = db.execute(delete(table).where(table.c.vehicle == vehicle, table.c.name == name))
    return bool(done.rowcount)
