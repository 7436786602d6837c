"""Boxes in cars, at the town hall: a box's request answered, a box replaced, a car given up.

Each of these may be cut anywhere and done again: what has been done is found done. In order: the request is judged;
one commit makes its keys the car's, and whatever the old box had void; the broker's certificates follow; then the
answer is written. Only an answer that was written can have been carried to a box.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from types import TracebackType
from typing import Final, Self

from sqlalchemy import Connection, func, insert, select, update

from cloud_sync.documents import BoxRequest, Reason, Refused, decode_box_request, fingerprint
from cloud_sync.documents.schema import vehicle_id
from cloud_sync.endpoint import cards, lists, tables, tables_box
from cloud_sync.endpoint.authority import Authority, AuthorityError, Paths
from cloud_sync.endpoint.certificate_parts import write
from cloud_sync.endpoint.certificates import BrokerAuthority, BrokerPaths
from cloud_sync.endpoint.dialect import insert_new, upsert
from cloud_sync.endpoint.messages import Box
from cloud_sync.endpoint.store import Store, sqlite_url
from cloud_sync.endpoint.technicians import technicians_of

REPLACED: Final = "replaced"
RETIRED: Final = "retired"
TOWN: Final = "town.toml"
"""The town hall's part of every car's configuration, in the endpoint's folder."""
PORT: Final = 8883


@dataclass(frozen=True, slots=True)
class Done:
    """What was done. ``lost``: residents' own cards that the old box knew and that open nothing any more."""

    lost: tuple[int, ...] = ()
    revoked: int = 0
    bookings: int = 0
    """Still to come at a car that was given up."""


class Boxes:
    """The boxes of one endpoint's folder, at ``now_s``. A ``with`` closes its database.

    All methods raise AuthorityError, StoreError, CertificateError or ``Refused`` with what to do, and then nothing was
    written that a repetition would not find.
    """

    def __init__(self, folder: Path, now_s: float) -> None:
        """Open it. AuthorityError: it has no keys."""
        self._folder, self._now_s = folder, int(now_s)
        self.authority = Authority(folder)
        self.store = Store(sqlite_url(Paths(folder).database))
        self._broker = BrokerAuthority(folder) if BrokerPaths(folder).root.exists() else None

    def __enter__(self) -> Self:
        """Return itself."""
        return self

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, at: TracebackType | None) -> None:
        """Close the database."""
        self.store.close()

    def read(self, data: bytes, told: str) -> BoxRequest:
        """Return a request. ``Refused(CONTRADICTION)`` if its fingerprint is not the one ``told`` by telephone."""
        request = decode_box_request(data)
        right = fingerprint(request.digest)
        if told.split() != right.split() and told != right.replace(" ", ""):
            detail = f"its fingerprint is {right}, the technician read out another one"
            raise Refused(Reason.CONTRADICTION, f"{detail}: changed on its way, or another box's. Nothing was changed")
        return request

    def add(self, vehicle: str, request: BoxRequest, out: Path, town: str) -> None:
        """Give a car without a box this one. The same request again, and the answer is only made anew."""
        _may_write(vehicle, out)
        with self.store.write() as db:
            held = _box(db, vehicle)
            if held is None:
                _issue(db, self.authority, [_take_in(db, vehicle, request, self._now_s)], self._now_s)
            elif not _same(held, request):
                raise AuthorityError(
                    f"{vehicle} has another box already. Nothing was changed. A new box in that car: "
                    f"amibox-cloud box replace {vehicle}"
                )
        self._revoke_others(vehicle, request.tls_public)
        self._answer(vehicle, request, out, town)

    def replace(self, vehicle: str, request: BoxRequest, out: Path, town: str, *, at_hand: bool) -> Done:
        """Give a car another box. What the old one had is void: its keys, certificate and list.

        Unless the old one is ``at_hand`` to be wiped, so is the car's key of every card, and the residents' own cards
        that it may know.
        """
        _may_write(vehicle, out)
        lost: set[int] = set()
        with self.store.write() as db:
            held = _box(db, vehicle)
            if held is None:
                raise AuthorityError(
                    f"{vehicle} has no box. Nothing was changed. Its first: amibox-cloud box add {vehicle}"
                )
            if not _same(held, request):
                _put_away(db, held, REPLACED, self._now_s)
                box = _take_in(db, vehicle, request, self._now_s)
                if not at_hand:
                    lost = cards.give_up(db, vehicle, self._now_s)
                    cards.slot_of(db, vehicle)
                _issue(db, self.authority, _boxes(db) if lost else [box], self._now_s)
        revoked = self._revoke_others(vehicle, request.tls_public)
        self._answer(vehicle, request, out, town)
        return Done(tuple(sorted(lost)), revoked)

    def renew(self, vehicle: str, out: Path, town: str) -> None:
        """Answer a box once more: another certificate, the present PINs, stations and keys. Its own keys stay."""
        _may_write(vehicle, out)
        table = tables_box.fittings
        with self.store.read() as db:
            row = db.execute(select(table).where(table.c.vehicle == vehicle, table.c.until_s.is_(None))).one_or_none()
        if row is None or row.tls_public is None:
            raise AuthorityError(f"no request of {vehicle}'s box is known here: amibox-cloud box add {vehicle} first")
        request = BoxRequest(row.agreement_public, row.signing_public, row.tls_public)
        self._answer(vehicle, request, out, town, renew=True)

    def retire(self, vehicle: str, *, at_hand: bool) -> Done:
        """Take a car's box out of service: no list and no certificate any more. What it sent is kept."""
        vehicle_id(vehicle)
        lost: set[int] = set()
        fitted = tables_box.fittings
        with self.store.write() as db:
            held = _box(db, vehicle)
            if held is not None:
                _put_away(db, held, RETIRED, self._now_s)
                lost = cards.give_up(db, vehicle, self._now_s, own=not at_hand)
                _issue(db, self.authority, _boxes(db) if lost else [], self._now_s)
            elif db.scalar(select(fitted.c.vehicle).where(fitted.c.vehicle == vehicle).limit(1)) is None:
                raise AuthorityError(f"there is no box of {vehicle}. Nothing was changed.")
            booked = tables.bookings.c
            to_come = (booked.vehicle == vehicle, booked.end_s > self._now_s, booked.cancelled_s.is_(None))
            bookings = db.scalar(select(func.count()).select_from(tables.bookings).where(*to_come)) or 0
        return Done(tuple(sorted(lost)), self._revoke_others(vehicle, b""), bookings)

    def listed(self) -> list[tuple[str, str, int]]:
        """Return each box that is or was in a car: the car, ``in it`` or what became of it, and since when."""
        table = tables_box.fittings
        with self.store.read() as db:
            rows = db.execute(select(table).order_by(table.c.vehicle, table.c.since_s)).all()
            known = {row.signing_public for row in rows}
            older = [(box.vehicle, "in it", 0) for box in _boxes(db) if box.signing_public not in known]
        return older + [(row.vehicle, row.why or "in it", row.until_s or row.since_s) for row in rows]

    def _revoke_others(self, vehicle: str, tls_public: bytes) -> int:
        return 0 if self._broker is None else self._broker.revoke_others(vehicle, tls_public, self._now_s)

    def _answer(self, vehicle: str, request: BoxRequest, out: Path, town: str, *, renew: bool = False) -> None:
        ca = certificate = None
        if self._broker is not None:
            certificate = self._broker.certify(vehicle, request.tls_public, self._now_s, renew=renew)
            ca = self._broker.paths.ca.read_bytes()
            if "[uplink]" not in town:
                town = f"{town}\n{uplink(self._broker.hosts()[0])}"
        listed = self.store.last_list(vehicle)
        data = self.authority.answer(
            vehicle,
            request,
            self._now_s,
            # One below: the box must still take the newest, and says by it what it lacks.
            list_floor=max(0, listed.version - 1) if listed is not None else 0,
            technicians=technicians_of(self.store, vehicle),
            town=town,
            ca=ca,
            certificate=certificate,
        )
        write(out, data, 0o644)


def _may_write(vehicle: str, out: Path) -> None:
    vehicle_id(vehicle)
    if out.exists():
        raise AuthorityError(f"{out} is there already: the answer that was made? Nothing was changed.")


def uplink(host: str) -> str:
    """Return the table of a box's configuration that reaches the broker; the files are named as the box writes them."""
    files = 'ca_file = "ca.pem"\ncert_file = "box.pem"\nkey_file = "keys/tls.pem"\n'
    return f'[uplink]\nhost = "{host}"\nport = {PORT}\n{files}'


def _boxes(db: Connection) -> list[Box]:
    rows = db.execute(select(tables.boxes).where(tables_box.IN_A_CAR).order_by(tables.boxes.c.vehicle))
    return [Box(row.vehicle, row.signing_public, row.agreement_public) for row in rows]


def _box(db: Connection, vehicle: str) -> Box | None:
    return next((box for box in _boxes(db) if box.vehicle == vehicle), None)


def _same(box: Box, request: BoxRequest) -> bool:
    return (box.signing_public, box.agreement_public) == (request.signing_public, request.agreement_public)


def _take_in(db: Connection, vehicle: str, request: BoxRequest, now_s: int) -> Box:
    """Make these keys the car's; AuthorityError if they are or were those of any box."""
    known, boxes = tables_box.fittings, tables.boxes
    for table in (known, boxes):
        theirs = (table.c.signing_public == request.signing_public) | (
            table.c.agreement_public == request.agreement_public
        )
        whose = db.scalar(select(table.c.vehicle).where(theirs).limit(1))
        if whose is not None:
            raise AuthorityError(
                f"this is the box of {whose}, or it was. Nothing was changed. For another car it needs other keys: "
                f"amibox-cloud box retire {whose}, and on the box: amibox provision reset, then request"
            )
    keys = {"signing_public": request.signing_public, "agreement_public": request.agreement_public}
    upsert(db, boxes, {"vehicle": vehicle, **keys, "added_s": now_s}, boxes.c.vehicle)
    db.execute(insert(known).values(vehicle=vehicle, **keys, tls_public=request.tls_public, since_s=now_s))
    return Box(vehicle, request.signing_public, request.agreement_public)


def _put_away(db: Connection, box: Box, why: str, now_s: int) -> None:
    table = tables_box.fittings
    keys = {"signing_public": box.signing_public, "agreement_public": box.agreement_public}
    # One that was known before there were requests has no row yet.
    insert_new(db, table, [{"vehicle": box.vehicle, **keys, "since_s": now_s}], table.c.signing_public)
    mine = table.c.signing_public == box.signing_public
    db.execute(update(table).where(mine).values(until_s=now_s, why=why))


def _issue(db: Connection, authority: Authority, boxes: Sequence[Box], now_s: int) -> None:
    for box in boxes:
        lists.issue_within(db, authority, box, now_s, lists.HORIZON_DAYS)
