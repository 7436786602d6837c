"""Two more of the endpoint's tables: which boxes were in which cars, and who may log in at them."""

from __future__ import annotations

from typing import Final

from sqlalchemy import BigInteger, Column, ForeignKeyConstraint, LargeBinary, String, Table, select

from cloud_sync.endpoint import tables

fittings = Table(  # every box that was in a car, with the keys of its request: none of them is taken a second time
    "fittings",
    tables.METADATA,
    Column("signing_public", LargeBinary(33), primary_key=True),
    Column("vehicle", String(32), nullable=False),
    Column("agreement_public", LargeBinary(33), nullable=False),
    Column("tls_public", LargeBinary(33)),  # None: a box from before there were requests
    Column("since_s", BigInteger, nullable=False),
    Column("until_s", BigInteger),
    Column("why", String(16)),
)

_OUT: Final = select(fittings.c.signing_public).where(fittings.c.until_s.is_not(None))
IN_A_CAR: Final = tables.boxes.c.signing_public.not_in(_OUT)
"""A row of ``boxes`` whose box was not taken out: bookings and history still name the car."""

technicians = Table(  # who may log in at a car's box, by the digest of a PIN for it
    "technicians",
    tables.METADATA,
    Column("vehicle", String(32), primary_key=True),
    Column("name", String(32), primary_key=True),
    Column("salt", LargeBinary(16), nullable=False),
    Column("digest", LargeBinary(32), nullable=False),
    ForeignKeyConstraint(["vehicle"], ["boxes.vehicle"]),
)
