"""What the commune asks of a car at once: a signed command, which the car hears within seconds or never."""

from __future__ import annotations

import json
from typing import Final

from fastapi import HTTPException
from sqlalchemy import Connection, select

from cloud_sync.carrier_settings import Outgoing
from cloud_sync.documents import Command
from cloud_sync.endpoint import tables
from cloud_sync.endpoint.authority import Authority
from cloud_sync.endpoint.dialect import upsert
from cloud_sync.wire import Topic, build_topic
from onboard.core.events import Intent

HEARD_S: Final = 180.0
"""A car that has said nothing for this long (three of its statuses) is not asked: nobody would answer."""
GOOD_FOR_S: Final = 30.0
"""A command counts so long after it was signed, by the clock of the box: held back, it does nothing."""


def issue(
    db: Connection, authority: Authority, vehicle: str, action: Intent, command_id: bytes, subject: bytes, now_s: float
) -> Outgoing:
    """Sign a command for the box as it was heard last; the caller commits, then publishes.

    ``now_s``: Unix seconds. HTTPException 404: no such car; 409: it is not within reach.
    """
    table, said = tables.commands, tables.statuses
    if db.scalar(select(tables.boxes.c.vehicle).where(tables.boxes.c.vehicle == vehicle)) is None:
        raise HTTPException(404, f"no vehicle {vehicle}")
    status = db.execute(select(said).where(said.c.vehicle == vehicle)).one_or_none()
    boot_s = json.loads(status.fields).get("boot_s") if status is not None else None
    if status is None or boot_s is None or not status.online or now_s - status.received_s > HEARD_S:
        raise HTTPException(
            409, f"{vehicle} is not within reach now; nothing was asked. Try again when it is connected"
        )
    # Milliseconds: a database that was restored from a copy goes on above what its car has heard.
    last = db.scalar(select(table.c.counter).where(table.c.vehicle == vehicle)) or 0
    counter = max(last + 1, int(now_s * 1000))
    upsert(db, table, {"vehicle": vehicle, "counter": counter}, table.c.vehicle)
    age_s = max(0.0, now_s - status.received_s)
    command = Command(vehicle, command_id, status.boot_epoch, counter, boot_s + age_s + GOOD_FOR_S, action, subject)
    return Outgoing(build_topic(vehicle, Topic.COMMAND), authority.sign_command(command))
