"""What drivers owe: one charge for each rental, written in the transaction that stores its end. Append-only.

A correction is a line of its own with less than nothing, never a change. Money is in whole cents. Days and months are
those of the commune's clock.
"""

from __future__ import annotations

import csv
import hashlib
import io
from collections.abc import Iterable
from datetime import UTC, datetime
from typing import Any, Final
from zoneinfo import ZoneInfo

from sqlalchemy import Connection, Row, func, insert, select

from cloud_sync.endpoint import tables, tariff
from cloud_sync.endpoint.dialect import insert_new
from onboard.core.records import RentalEnded, RentalKind

CLOCK: Final = ZoneInfo("Europe/Paris")
LONG_S: Final = 86_400
"""A rental of more than a day is looked at by a person before it is debited."""

COLUMNS: Final = (
    "charge",
    "driver",
    "vehicle",
    "started",
    "ended",
    "billable_s",
    "amount_cents",
    "tariff",
    "corrects",
    "why",
)
FORMULA: Final = ("=", "+", "-", "@", "\t", "\r")
"""What makes a spreadsheet take a text for a formula, by OWASP's list."""


class ChargeError(Exception):
    """A correction that can't be; the text says why, and that nothing was changed."""


def charge_id(vehicle: str, store_id: bytes, rental: int) -> str:
    """Return the name of a rental's charge: the same one however often its end comes."""
    return hashlib.sha256(b"charge\0" + vehicle.encode() + b"\0" + store_id + rental.to_bytes(8, "big")).hexdigest()[
        :32
    ]


def make(db: Connection, vehicle: str, store_id: bytes, ended: RentalEnded, ended_s: float, now_s: float) -> None:
    """Charge a driver's rental; the same one again changes nothing. Staff and the way back to the cable are free."""
    if ended.kind is not RentalKind.BOOKING:
        return
    started_s = max(0.0, ended_s - ended.billable_s)
    terms = tariff.at(db, started_s)
    values = {
        "charge": charge_id(vehicle, store_id, ended.rental),
        "vehicle": vehicle,
        "store_id": store_id,
        "rental": ended.rental,
        "driver": ended.driver,
        "started_s": int(started_s),
        "ended_s": int(ended_s),
        "billable_s": ended.billable_s,
        "amount_cents": tariff.cost_cents(terms, ended.billable_s),
        "tariff": terms.version,
        "made_s": int(now_s),
        "doubt": _doubt(db, ended),
        "corrects": None,
        "why": "",
        "by": "",
    }
    insert_new(db, tables.charges, [values], tables.charges.c.charge)


def _doubt(db: Connection, ended: RentalEnded) -> str:
    """Say why the length of a rental should be looked at; nothing for most.

    Across a power cut it rests on two times from the sky, and a sky that was wrong can make it any length.
    """
    if ended.billable_s > LONG_S:
        return "longer than a day"
    table = tables.bookings
    booked = db.execute(select(table.c.start_s, table.c.end_s).where(table.c.id == ended.reservation)).one_or_none()
    if ended.billable_basis == "wall" and (booked is None or ended.billable_s > booked.end_s - booked.start_s):
        return "longer than booked, and the box had a power cut: its length rests on the receiver's clock"
    return ""


def join(db: Connection, vehicle: str, store_id: bytes, first: bytes, now_s: float) -> None:
    """Give back what was charged under a store that turned out to continue another, where both have the rental."""
    table = tables.charges
    mine = select(table).where(table.c.vehicle == vehicle, table.c.store_id == store_id, table.c.corrects.is_(None))
    for row in db.execute(mine).all():
        same = charge_id(vehicle, first, row.rental)
        if db.scalar(select(table.c.id).where(table.c.charge == same)) is not None and left_cents(db, row.charge) > 0:
            credit(db, row.charge, left_cents(db, row.charge), "the same rental, sent under two stores", "", now_s)


def left_cents(db: Connection, charge: str) -> int:
    """Return what is left of a charge after its corrections."""
    table = tables.charges
    mine = (table.c.charge == charge) | (table.c.corrects == charge)
    return int(db.scalar(select(func.sum(table.c.amount_cents)).where(mine)) or 0)


def credit(db: Connection, charge: str, cents: int, why: str, by: str, now_s: float) -> str:
    """Give back ``cents`` of a charge; return the name of the new line. ChargeError for more than is left of it."""
    table = tables.charges
    row = db.execute(select(table).where(table.c.charge == charge, table.c.corrects.is_(None))).one_or_none()
    if row is None:
        raise ChargeError("there is no such charge. Nothing was changed.")
    left = left_cents(db, charge)
    if not 0 < cents <= left:
        raise ChargeError(f"{left} cents are left of this charge. Nothing was changed.")
    number = db.scalar(select(func.count()).where(table.c.corrects == charge)) or 0
    name = hashlib.sha256(f"credit\0{charge}\0{number}".encode()).hexdigest()[:32]
    changed = {"charge": name, "amount_cents": -cents, "made_s": int(now_s), "corrects": charge, "why": why, "by": by}
    held = {key: value for key, value in row._asdict().items() if key not in ("id", "doubt")}
    db.execute(insert(table).values({**held, "doubt": "", **changed}))
    return name


def month(text: str) -> tuple[int, int]:
    """Return the Unix seconds of a month's beginning and end by the commune's clock. ValueError unless YYYY-MM."""
    first = datetime.strptime(text, "%Y-%m").replace(tzinfo=CLOCK)
    following = first.replace(year=first.year + first.month // 12, month=first.month % 12 + 1)
    return int(first.timestamp()), int(following.timestamp())


def lines(db: Connection, from_s: int, to_s: int, driver: bytes | None = None) -> list[Row[Any]]:
    """Return what was made in [``from_s``, ``to_s``), oldest first; of one driver, or of all."""
    table = tables.charges
    wanted = select(table).where(table.c.made_s >= from_s, table.c.made_s < to_s).order_by(table.c.id)
    return list(db.execute(wanted if driver is None else wanted.where(table.c.driver == driver)).all())


def as_csv(rows: Iterable[Row[Any]]) -> str:
    """Return lines for the treasurer's spreadsheet: a head, then one a line, times in ISO 8601, money in cents."""
    out = io.StringIO()
    writer = csv.writer(out)
    writer.writerow(COLUMNS)
    for row in rows:
        told = row._asdict()
        told.update(driver=row.driver.hex(), started=_iso(row.started_s), ended=_iso(row.ended_s))
        writer.writerow([_safe(told[name]) for name in COLUMNS])
    return out.getvalue()


def _iso(at_s: int) -> str:
    return datetime.fromtimestamp(at_s, UTC).astimezone(CLOCK).isoformat()


def _safe(value: Any) -> Any:
    """Return a cell that a spreadsheet doesn't calculate."""
    return f"'{value}" if isinstance(value, str) and value.startswith(FORMULA) else "" if value is None else value
