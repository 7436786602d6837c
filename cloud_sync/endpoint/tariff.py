"""What a rental costs: one pure function, in whole seconds and whole cents, and the tariffs that were ever in force."""

from __future__ import annotations

from dataclasses import dataclass, fields
from typing import Final

from sqlalchemy import Connection, insert, select

from cloud_sync.endpoint import tables

DAY_S: Final = 86_400


class TariffError(Exception):
    """A tariff that can't be; the text says why, and that nothing was changed."""


@dataclass(frozen=True, slots=True)
class Tariff:
    """In force for rentals that begin at Unix second ``from_s`` or later, until the next version is.

    The first ``free_s`` cost nothing, then each ``step_s`` that is begun costs ``step_cents``.
    """

    version: int
    from_s: int
    free_s: int
    step_s: int
    step_cents: int


FIRST: Final = Tariff(version=1, from_s=0, free_s=1800, step_s=1800, step_cents=50)
"""Of Hédé-Bazouges, 2026: half an hour free, then 0.50 euro for each half-hour begun."""


def cost_cents(tariff: Tariff, billable_s: int) -> int:
    """Return what a rental of so many seconds costs. A second more than free begins the first step.

    GBFS 3.0 would say the same with a ``start`` that counts, so that 30:00 were charged there; here it is free.
    """
    begun = -(-max(0, billable_s - tariff.free_s) // tariff.step_s)
    return begun * tariff.step_cents


def at(db: Connection, start_s: float) -> Tariff:
    """Return the tariff for a rental that began at Unix second ``start_s``."""
    table = tables.tariffs
    newest = select(table).where(table.c.from_s <= max(0.0, start_s)).order_by(table.c.version.desc()).limit(1)
    return Tariff(**db.execute(newest).one()._asdict())


def every(db: Connection) -> list[Tariff]:
    """Return all tariffs, the newest first."""
    table = tables.tariffs
    return [Tariff(**row._asdict()) for row in db.execute(select(table).order_by(table.c.version.desc()))]


def add(db: Connection, terms: Tariff, now_s: float) -> None:
    """Add the next version. TariffError unless it begins later than now and than the one before it.

    Nobody's rental becomes dearer after it began.
    """
    newest = every(db)[0]
    if terms.version != newest.version + 1:
        raise TariffError(f"version {newest.version + 1} is next, not {terms.version}. Nothing was changed.")
    if terms.from_s <= max(now_s, newest.from_s):
        raise TariffError("a tariff begins later than now, and than the one before it. Nothing was changed.")
    if not (0 <= terms.free_s <= DAY_S and 60 <= terms.step_s <= DAY_S and 0 <= terms.step_cents <= 100_000):
        raise TariffError(
            "free and step up to a day, a step of a minute at least, up to 1000 euros. Nothing was changed."
        )
    db.execute(insert(tables.tariffs).values({each.name: getattr(terms, each.name) for each in fields(terms)}))
