"""HTTP for what drivers owe: tariffs, charges, corrections, and the treasurer's file."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import asdict
from typing import Annotated, Any, Final, Self

from fastapi import APIRouter, HTTPException, Response
from pydantic import Field, StringConstraints, model_validator
from sqlalchemy import Row

from cloud_sync.endpoint import charges, tariff
from cloud_sync.endpoint.models import Cents, Second, Strict
from cloud_sync.endpoint.store import Store

Month = Annotated[str, StringConstraints(pattern=r"^20[0-9]{2}-(0[1-9]|1[0-2])$")]
ChargeName = Annotated[str, StringConstraints(pattern=r"^[0-9a-f]{32}$")]
CSV: Final = "text/csv; charset=utf-8"


class TariffIn(Strict):
    """The next tariff: free for ``free_s``, then ``step_cents`` for each ``step_s`` begun, from ``from_s`` on."""

    from_s: Second
    free_s: Annotated[int, Field(ge=0, le=tariff.DAY_S)]
    step_s: Annotated[int, Field(ge=60, le=tariff.DAY_S)]
    step_cents: Cents


class TariffOut(TariffIn):
    """A tariff with its version."""

    version: int


class Charge(Strict):
    """One line of what a driver owes. A correction (``corrects``) has less than nothing.

    ``doubt``: why a person should look before it is debited.
    """

    charge: str
    driver: str
    vehicle: str
    started_s: int
    ended_s: int
    billable_s: int
    amount_cents: int
    tariff: int
    made_s: int
    doubt: str
    corrects: str | None
    why: str


class Statement(Strict):
    """Lines of a month, oldest first, and what they come to."""

    month: str
    lines: list[Charge]
    total_cents: int


class CreditIn(Strict):
    """What is given back of a charge, and why; ``by``: who decided it."""

    cents: Annotated[int, Field(ge=1, le=10_000_000)]
    why: Annotated[str, StringConstraints(min_length=3, max_length=200)]
    by: Annotated[str, StringConstraints(min_length=1, max_length=80)]

    @model_validator(mode="after")
    def in_words(self) -> Self:
        """Refuse reasons of blanks: somebody reads them in a year."""
        if not self.why.strip() or not self.by.strip():
            raise ValueError("why, and by whom, in words")
        return self


class CreditMade(Strict):
    """The correction's name, and what is left of the charge."""

    charge: str
    left_cents: int


def money_routes(store: Store, now: Callable[[], float]) -> APIRouter:
    """Return the town hall's routes. ``now`` gives Unix seconds."""
    routes = APIRouter(prefix="/api/v1")

    @routes.get("/tariffs")
    def get_tariffs() -> list[TariffOut]:
        with store.read() as db:
            return [TariffOut(**asdict(each)) for each in tariff.every(db)]

    @routes.post("/tariffs", status_code=201)
    def post_tariff(terms: TariffIn) -> TariffOut:
        try:
            with store.write() as db:
                new = tariff.Tariff(tariff.every(db)[0].version + 1, **terms.model_dump())
                tariff.add(db, new, now())
        except tariff.TariffError as error:
            raise HTTPException(409, str(error)) from error
        return TariffOut(**asdict(new))

    @routes.get("/charges")
    def get_charges(
        month: Month, driver: Annotated[str, StringConstraints(pattern=r"^[0-9a-f]{16}$")] | None = None
    ) -> Statement:
        with store.read() as db:
            rows = charges.lines(db, *charges.month(month), None if driver is None else bytes.fromhex(driver))
        found = [_charge(row) for row in rows]
        return Statement(month=month, lines=found, total_cents=sum(line.amount_cents for line in found))

    @routes.get("/charges.csv", response_class=Response, responses={200: {"content": {"text/csv": {}}}})
    def get_charges_csv(month: Month) -> Response:
        with store.read() as db:
            text = charges.as_csv(charges.lines(db, *charges.month(month)))
        head = {"Content-Disposition": f'attachment; filename="amibox-{month}.csv"'}
        return Response(text, media_type=CSV, headers=head)

    @routes.post("/charges/{charge}/credit", status_code=201)
    def post_credit(charge: ChargeName, credit: CreditIn) -> CreditMade:
        try:
            with store.write() as db:
                name = charges.credit(db, charge, credit.cents, credit.why, credit.by, now())
                return CreditMade(charge=name, left_cents=charges.left_cents(db, charge))
        except charges.ChargeError as error:
            raise HTTPException(409, str(error)) from error

    return routes


def _charge(row: Row[Any]) -> Charge:
    told = {name: value for name, value in row._asdict().items() if name in Charge.model_fields}
    return Charge(**{**told, "driver": row.driver.hex()})
