"""Members: registered, changed, looked at, and what a booking wants of one. Trips know a pseudonym alone."""

from __future__ import annotations

import json
import secrets
from collections.abc import Callable
from dataclasses import dataclass, fields
from datetime import datetime
from typing import Annotated, Any, Final

from fastapi import APIRouter, HTTPException, Path
from pydantic import TypeAdapter, ValidationError
from sqlalchemy import Connection, Row, insert, select, update

from cloud_sync.endpoint import tables
from cloud_sync.endpoint.charges import CLOCK
from cloud_sync.endpoint.membership import WORDS, Member, Right, Rules, State, lacks
from cloud_sync.endpoint.models_member import MemberIn, MemberOut, told
from cloud_sync.endpoint.store import Store
from cloud_sync.endpoint.words import in_both

MEMBERS_MAX: Final = 500
"""In one answer; a commune of 2,273 people has some tens."""
CONTACT: Final = ("email", "phone", "language")

MemberId = Annotated[int, Path(ge=1, lt=2**31)]


@dataclass(frozen=True, slots=True)
class Driver:
    """What a booking needs of a member."""

    pseudonym: bytes
    phone_keys: list[str]
    trace: bool


class Members:
    """The town hall's routes. ``now`` gives Unix seconds."""

    def __init__(self, store: Store, rules: Rules, *, now: Callable[[], float]) -> None:
        self._store = store
        self._rules = rules
        self._now = now

    def routes(self) -> APIRouter:
        """Return the routes."""
        routes = APIRouter(prefix="/api/v1")
        routes.add_api_route("/members", self.get_members, methods=["GET"])
        routes.add_api_route("/members", self.post_member, methods=["POST"], status_code=201)
        routes.add_api_route("/members/{member}", self.get_member, methods=["GET"])
        routes.add_api_route("/members/{member}", self.patch_member, methods=["PATCH"])
        return routes

    def get_members(self) -> list[MemberOut]:
        """List members by name."""
        table = tables.members
        with self._store.read() as db:
            rows = db.execute(select(table).order_by(table.c.name, table.c.member).limit(MEMBERS_MAX)).all()
        return [self._shown(row) for row in rows]

    def get_member(self, member: MemberId) -> MemberOut:
        """Show one member."""
        with self._store.read() as db:
            return self._shown(_row(db, member))

    def post_member(self, person: MemberIn) -> MemberOut:
        """Register a person, under a pseudonym for the cars."""
        now_s = int(self._now())
        with self._store.write() as db:
            values = {**_values(person), "made_s": now_s, "changed_s": now_s}
            made = insert(tables.members).values(values).returning(tables.members.c.member)
            member = int(db.execute(made).scalar_one())
            link = {"driver": secrets.token_bytes(8), "member": member, "since_s": now_s}
            db.execute(insert(tables.pseudonyms).values(link))
            return self._shown(_row(db, member))

    def patch_member(self, member: MemberId, change: dict[str, Any]) -> MemberOut:
        """Change what is given and leave the rest; the whole must fit together as it does for a new member."""
        with self._store.write() as db:
            held = self._shown(_row(db, member)).model_dump(mode="json", exclude={"member", "lacks"})
            try:
                person = TypeAdapter(MemberIn).validate_python({**held, **change})
            except ValidationError as error:
                found = [
                    {"type": one["type"], "loc": ["body", *one["loc"]], "msg": one["msg"]} for one in error.errors()
                ]
                raise HTTPException(422, found) from error
            values = {**_values(person), "changed_s": int(self._now())}
            db.execute(update(tables.members).where(tables.members.c.member == member).values(values))
            return self._shown(_row(db, member))

    def driver(self, db: Connection, member: int, start_s: int, end_s: int) -> Driver:
        """Return what a booking needs of a member who may drive from its first to its last day.

        HTTPException 404 for nobody; 409 with what lacks, in words, in both languages.
        """
        row = _row(db, member)
        person = _person(row)
        days = [datetime.fromtimestamp(at_s, CLOCK).date() for at_s in (start_s, end_s)]
        found = dict.fromkeys(lack for day in days for lack in lacks(person, day, self._rules))
        if found:
            raise HTTPException(409, in_both(WORDS, found))
        table = tables.pseudonyms
        newest = select(table.c.driver).where(table.c.member == member).order_by(table.c.since_s.desc()).limit(1)
        return Driver(db.execute(newest).scalar_one(), json.loads(row.phone_keys), row.trace)

    def _shown(self, row: Row[Any]) -> MemberOut:
        held = row._asdict()
        today = datetime.fromtimestamp(self._now(), CLOCK).date()
        given = {name: held[name] for name in MemberIn.model_fields if name in held and name != "phone_keys"}
        return MemberOut(
            **given,
            **json.loads(row.contact),
            phone_keys=json.loads(row.phone_keys),
            member=row.member,
            lacks=told(lacks(_person(row), today, self._rules)),
        )


def _row(db: Connection, member: int) -> Row[Any]:
    row = db.execute(select(tables.members).where(tables.members.c.member == member)).one_or_none()
    if row is None:
        raise HTTPException(404, f"no member {member}")
    return row


def _person(row: Row[Any]) -> Member:
    held = row._asdict()
    kept = {field.name: held[field.name] for field in fields(Member)}
    return Member(**{**kept, "state": State(row.state), "right": None if row.right is None else Right(row.right)})


def _values(person: MemberIn) -> dict[str, Any]:
    given = person.model_dump()
    contact = {name: given.pop(name) for name in CONTACT}
    words = {"state": person.state.value, "right": None if person.right is None else person.right.value}
    return {**given, **words, "contact": json.dumps(contact), "phone_keys": json.dumps(person.phone_keys)}
