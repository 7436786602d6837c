"""The endpoint's tables, in SQLAlchemy Core: the same on SQLite and PostgreSQL. Times are Unix seconds (UTC).

``events`` is what the boxes wrote, append-only. ``trips``, ``rentals`` and ``points`` follow from it, in the same
transaction, and could be made anew from it. Their ``store_id`` is the first one of a line of stores (``lineages``): a
trip that began before the box's database was damaged and ended after it is one trip.
"""

from __future__ import annotations

from typing import Final

from sqlalchemy import (
    BigInteger,
    Boolean,
    Column,
    Date,
    Float,
    ForeignKeyConstraint,
    Index,
    Integer,
    LargeBinary,
    MetaData,
    String,
    Table,
    Text,
    UniqueConstraint,
)

SCHEMA_VERSION: Final = 6
"""2: passes, staff, revocations. 3: cards. A version that knows none would issue lists that take nothing back.

4: commands and captures. 5: ``lists.signed_by``. 6: tariffs and charges, members: an older one would charge nobody;
fittings and technicians: it would serve retired boxes.
"""

OLDER: Final = frozenset({"1", "2", "3", "4", "5"})
"""Schemas that become the present one when the tables and the columns that they lack are made."""

EVERY_CAR: Final = ""
"""Stands for a vehicle where a grant or a revocation counts at every car, also at one that is added later."""

METADATA: Final = MetaData()

SERIAL: Final = BigInteger().with_variant(Integer, "sqlite")
"""A key that counts up by itself; SQLite does that for INTEGER alone."""

meta = Table(
    "meta",
    METADATA,
    Column("key", String(32), primary_key=True),
    Column("value", Text, nullable=False),
)

boxes = Table(
    "boxes",
    METADATA,
    Column("vehicle", String(32), primary_key=True),
    Column("signing_public", LargeBinary(33), nullable=False),
    Column("agreement_public", LargeBinary(33), nullable=False),
    Column("added_s", BigInteger, nullable=False),
)

events = Table(
    "events",
    METADATA,
    Column("id", SERIAL, primary_key=True, autoincrement=True),
    Column("vehicle", String(32), nullable=False),
    Column("store_id", LargeBinary(16), nullable=False),
    Column("seq", BigInteger, nullable=False),
    Column("previous", LargeBinary(32), nullable=False),
    Column("digest", LargeBinary(32), nullable=False),
    Column("boot_epoch", LargeBinary(8), nullable=False),
    Column("boot_s", Float, nullable=False),
    Column("wall_s", Float, nullable=False),
    Column("quality", Integer, nullable=False),
    Column("payload", LargeBinary, nullable=False),  # empty: dropped on the box for room before it could be sent
    Column("kind", String(32), nullable=False),
    Column("received_s", Float, nullable=False),
    UniqueConstraint("vehicle", "store_id", "seq"),
)

logs = Table(  # how far each box's log is held without a gap: what an acknowledgement says
    "logs",
    METADATA,
    Column("vehicle", String(32), primary_key=True),
    Column("store_id", LargeBinary(16), primary_key=True),
    Column("up_to_seq", BigInteger, nullable=False),
    Column("digest", LargeBinary(32), nullable=False),
    Column("highest_seq", BigInteger, nullable=False),
    Column("resend_asked_s", Float, nullable=False),
)

lineages = Table(  # a store that took a damaged one's place, and the first store of that line: numbers go on through it
    "lineages",
    METADATA,
    Column("vehicle", String(32), primary_key=True),
    Column("store_id", LargeBinary(16), primary_key=True),
    Column("first_store_id", LargeBinary(16), nullable=False),
)

trips = Table(
    "trips",
    METADATA,
    Column("vehicle", String(32), primary_key=True),
    Column("store_id", LargeBinary(16), primary_key=True),
    Column("trip", BigInteger, primary_key=True),
    Column("rental", BigInteger, nullable=False),
    Column("kind", String(16)),
    Column("reservation", LargeBinary(16)),
    Column("driver", LargeBinary(8)),
    Column("started_s", Float),
    Column("ended_s", Float),
    Column("ended_seq", BigInteger),
    Column("reason", String(32)),
    Column("duration_s", BigInteger),
    Column("distance_m", BigInteger),
    Column("distance_source", String(32)),
    Column("distance_resolution_m", BigInteger),
    Column("from_station", String(64)),
    Column("to_station", String(64)),
    Column("soc_start_pct", Float),
    Column("soc_end_pct", Float),
    Column("flags", Text),
)

rentals = Table(
    "rentals",
    METADATA,
    Column("vehicle", String(32), primary_key=True),
    Column("store_id", LargeBinary(16), primary_key=True),
    Column("rental", BigInteger, primary_key=True),
    Column("kind", String(16), nullable=False),
    Column("reservation", LargeBinary(16), nullable=False),
    Column("driver", LargeBinary(8), nullable=False),
    Column("started_s", Float),
    Column("ended_s", Float),
    Column("ended_seq", BigInteger),
    Column("reason", String(32)),
    Column("billable_s", BigInteger),
    Column("billable_basis", String(8)),
    Column("trips", BigInteger),
    Column("distance_m", BigInteger),
    Column("station", String(64)),
)

points = Table(
    "points",
    METADATA,
    Column("vehicle", String(32), primary_key=True),
    Column("store_id", LargeBinary(16), primary_key=True),
    Column("trip", BigInteger, primary_key=True),
    Column("offset_s", BigInteger, primary_key=True),
    Column("latitude", Float, nullable=False),
    Column("longitude", Float, nullable=False),
)

boots = Table(  # boots a box has reported from: a status of an earlier boot is an old message, not news
    "boots",
    METADATA,
    Column("vehicle", String(32), primary_key=True),
    Column("boot_epoch", LargeBinary(8), primary_key=True),
    Column("first_seen_s", Float, nullable=False),
)

statuses = Table(  # the newest of each car; ``fields`` is JSON
    "statuses",
    METADATA,
    Column("vehicle", String(32), primary_key=True),
    Column("boot_epoch", LargeBinary(8), nullable=False),
    Column("status_seq", BigInteger, nullable=False),
    Column("received_s", Float, nullable=False),
    Column("online", Boolean, nullable=False),
    Column("list_version", BigInteger, nullable=False),
    Column("fields", Text, nullable=False),
)

positions = Table(  # where each car was last known to be
    "positions",
    METADATA,
    Column("vehicle", String(32), primary_key=True),
    Column("at_s", Float, nullable=False),
    Column("latitude", Float, nullable=False),
    Column("longitude", Float, nullable=False),
    Column("source", String(16), nullable=False),
)

lists = Table(
    "lists",
    METADATA,
    Column("vehicle", String(32), primary_key=True),
    Column("version", BigInteger, primary_key=True),
    Column("issued_s", BigInteger, nullable=False),
    Column("document", LargeBinary, nullable=False),
    Column("signed_by", LargeBinary(8)),
)
"""``signed_by``: NULL in rows that schema 4 wrote."""

bookings = Table(
    "bookings",
    METADATA,
    Column("id", LargeBinary(16), primary_key=True),
    Column("vehicle", String(32), nullable=False),
    Column("start_s", BigInteger, nullable=False),
    Column("end_s", BigInteger, nullable=False),
    Column("pickup", String(64), nullable=False),
    Column("dropoff", String(64)),
    Column("kind", String(16), nullable=False),
    Column("driver", LargeBinary(8), nullable=False),
    Column("phone_keys", Text, nullable=False),  # JSON: hexadecimal strings
    Column("cards", Text, nullable=False),  # JSON: {ref, assurance, key}
    Column("rights", Integer, nullable=False),
    Column("trace", Boolean, nullable=False),
    Column("created_s", BigInteger, nullable=False),
    Column("cancelled_s", BigInteger),
    ForeignKeyConstraint(["vehicle"], ["boxes.vehicle"]),
)

passes = Table(  # what was issued to phones and may still open: so that one can be named and taken back
    "passes",
    METADATA,
    Column("id", LargeBinary(8), primary_key=True),  # cti
    Column("vehicle", String(32), nullable=False),
    Column("booking", LargeBinary(16), nullable=False),
    Column("phone_key", LargeBinary(33), nullable=False),
    Column("version", BigInteger, nullable=False),  # g
    Column("issued_s", BigInteger, nullable=False),
    Column("expires_s", BigInteger, nullable=False),
    ForeignKeyConstraint(["booking"], ["bookings.id"]),
    Index("passes_booking", "booking"),
)

staff = Table(
    "staff",
    METADATA,
    Column("id", LargeBinary(16), primary_key=True),
    Column("vehicle", String(32), primary_key=True),  # or EVERY_CAR
    Column("not_after_s", BigInteger, nullable=False),
    Column("phone_keys", Text, nullable=False),  # JSON: hexadecimal strings
    Column("cards", Text, nullable=False),  # JSON: {ref, assurance, key}
    Column("rights", Integer, nullable=False),
)

revocations = Table(
    "revocations",
    METADATA,
    Column("what", String(66), primary_key=True),  # hexadecimal: a pass id or card reference, or a phone key
    Column("vehicle", String(32), primary_key=True),  # or EVERY_CAR
    Column("until_s", BigInteger, nullable=False),
)

cards = Table(  # the commune's cards, and residents' own that it let in
    "cards",
    METADATA,
    Column("number", SERIAL, primary_key=True, autoincrement=True),  # what is printed on it
    Column("uid", LargeBinary(10), nullable=False, unique=True),
    Column("assurance", String(16), nullable=False),
    Column("state", String(16), nullable=False),  # new ready lent lost blocked
    Column("holder", String(80), nullable=False),
    Column("code_digest", LargeBinary(32)),  # of the code that blocks it
    Column("code_tries", Integer, nullable=False),
    Column("tried_s", BigInteger, nullable=False),
    Column("changed_s", BigInteger, nullable=False),
)

card_slots = Table(  # which key of every card is which car's; one of a stolen box is never given again
    "card_slots",
    METADATA,
    Column("slot", Integer, primary_key=True),
    Column("vehicle", String(32), nullable=False),
    Column("retired_s", BigInteger),
    ForeignKeyConstraint(["vehicle"], ["boxes.vehicle"]),
)

captures = Table(  # a card's number, taken at a car: asked for here, or by a technician's phone there
    "captures",
    METADATA,
    Column("id", LargeBinary(16), primary_key=True),  # of the command
    Column("vehicle", String(32), nullable=False),
    Column("asked_s", BigInteger),  # None: at the car
    Column("captured_s", BigInteger),
    Column("card", BigInteger),  # its number here
    Column("new", Boolean),  # False: it had been enrolled before
)

commands = Table(  # the last counter of each car's commands: within a boot of its box it only rises
    "commands",
    METADATA,
    Column("vehicle", String(32), primary_key=True),
    Column("counter", BigInteger, nullable=False),
)

members = Table(  # identity: apart from trips, which know a pseudonym alone
    "members",
    METADATA,
    Column("member", SERIAL, primary_key=True, autoincrement=True),
    Column("name", String(80), nullable=False),
    Column("contact", Text, nullable=False),  # JSON: {email, phone, language}
    Column("guardian", String(80), nullable=False),
    Column("born", Date, nullable=False),
    Column("state", String(16), nullable=False),
    Column("right", String(16)),
    Column("right_until", Date),
    Column("right_checked_on", Date),
    Column("right_checked_by", String(80), nullable=False),
    Column("highway_code", Boolean, nullable=False),
    Column("meeting_on", Date),
    Column("meeting_by", String(80), nullable=False),
    Column("rules_on", Date),
    Column("guardian_signed_on", Date),
    Column("lesson_on", Date),
    Column("deposit_until", Date),
    Column("payment_until", Date),
    Column("plan", String(40), nullable=False),
    Column("plan_fee_cents", BigInteger, nullable=False),
    Column("plan_from", Date),
    Column("plan_until", Date),
    Column("trace", Boolean, nullable=False),
    Column("phone_keys", Text, nullable=False),  # JSON: hexadecimal strings
    Column("made_s", BigInteger, nullable=False),
    Column("changed_s", BigInteger, nullable=False),
)

pseudonyms = Table(  # whose trips a pseudonym's are; without this row nobody's any more
    "pseudonyms",
    METADATA,
    Column("driver", LargeBinary(8), primary_key=True),
    Column("member", BigInteger, nullable=False),
    Column("since_s", BigInteger, nullable=False),
    ForeignKeyConstraint(["member"], ["members.member"]),
    Index("pseudonyms_member", "member"),
)

tariffs = Table(
    "tariffs",
    METADATA,
    Column("version", Integer, primary_key=True),
    Column("from_s", BigInteger, nullable=False, unique=True),
    Column("free_s", BigInteger, nullable=False),
    Column("step_s", BigInteger, nullable=False),
    Column("step_cents", BigInteger, nullable=False),
)

charges = Table(  # append-only; a correction is a line of its own, of less than nothing
    "charges",
    METADATA,
    Column("id", SERIAL, primary_key=True, autoincrement=True),
    Column("charge", String(32), nullable=False, unique=True),  # hexadecimal: the same rental has the same one
    Column("vehicle", String(32), nullable=False),
    Column("store_id", LargeBinary(16), nullable=False),
    Column("rental", BigInteger, nullable=False),
    Column("driver", LargeBinary(8), nullable=False),
    Column("started_s", BigInteger, nullable=False),
    Column("ended_s", BigInteger, nullable=False),
    Column("billable_s", BigInteger, nullable=False),
    Column("amount_cents", BigInteger, nullable=False),
    Column("tariff", Integer, nullable=False),
    Column("made_s", BigInteger, nullable=False),
    Column("doubt", Text, nullable=False),  # why a person should look before it is debited; empty: nothing
    Column("corrects", String(32)),
    Column("why", Text, nullable=False),
    Column("by", String(80), nullable=False),
    Index("charges_driver", "driver"),
    Index("charges_ended", "ended_s"),
)

alarms = Table(  # what a person must look at; a message that comes twice makes one row
    "alarms",
    METADATA,
    Column("id", SERIAL, primary_key=True, autoincrement=True),
    Column("vehicle", String(32), nullable=False),
    Column("kind", String(32), nullable=False),
    Column("store_id", LargeBinary(16), nullable=False),
    Column("seq", BigInteger, nullable=False),
    Column("digest", LargeBinary(32), nullable=False),
    Column("at_s", Float, nullable=False),
    Column("detail", Text, nullable=False),
    Column("payload", LargeBinary, nullable=False),
    UniqueConstraint("vehicle", "kind", "store_id", "seq", "digest"),
)
