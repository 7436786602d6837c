"""The commune of a simulated town: the real endpoint without HTTP, and what is true of its bookings."""

from __future__ import annotations

import json
import shutil
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Final

from fastapi import HTTPException
from sqlalchemy import insert, update

from cloud_sync.documents import BoxSigner, Signer, radio_name
from cloud_sync.documents.conversation import Answer
from cloud_sync.endpoint import authority, key_rotation, lists, passes, tables, views
from cloud_sync.endpoint.authority import Authority, Paths
from cloud_sync.endpoint.courier import documents_for
from cloud_sync.endpoint.dialect import upsert
from cloud_sync.endpoint.ingest import Ingest
from cloud_sync.endpoint.link import publish_list
from cloud_sync.endpoint.messages import Box, ListRow
from cloud_sync.endpoint.models_phone import Heard
from cloud_sync.endpoint.store import Store, sqlite_url
from cloud_sync.provisioning import Provisioning
from cloud_sync.wire import Topic, build_topic
from onboard.core.grants import BookingKind, Rights
from sim import boxes
from sim.phone_cloud import told
from sim.phone_wallet import Wallet
from sim.world.rates import HOUR_S

if TYPE_CHECKING:
    from sim.world.play import World

HORIZON_DAYS: Final = 14


class AwayError(OSError):
    """The commune can't be reached."""


@dataclass(slots=True)
class Booking:
    """What is true of a booking. ``ends``: each end that it ever had, with the list version that said so."""

    id: bytes
    person: str
    car: str
    start_s: float
    pickup: str
    dropoff: str
    ends: list[tuple[int, float]]
    by_card: bool
    cancelled_by: int | None = None
    """The list version from which on it is cancelled."""

    @property
    def end_s(self) -> float:
        """Its end as it is now."""
        return self.ends[-1][1]


@dataclass(slots=True)
class Truth:
    """What the commune decided, by whom, whether or not its database remembers."""

    bookings: dict[bytes, Booking] = field(default_factory=dict)
    revoked: dict[str, dict[str, int]] = field(default_factory=dict)
    """By car and person: the list version that takes their phone back."""


class Town:
    """The endpoint's own code on a database in a folder. ``AwayError`` from each method while the commune is down."""

    def __init__(self, world: World, folder: Path) -> None:
        self.truth = Truth()
        self.down = False
        self._world = world
        self._rng = world.rng("town")
        self._folder = folder / "cloud"
        authority.initialise(self._folder, int(world.wall_s()))
        self._authority = Authority(self._folder)
        self._open()

    def _open(self) -> None:
        self.store = Store(sqlite_url(Paths(self._folder).database))
        self.ingest = Ingest(self.store, self._authority, HORIZON_DAYS)

    def close(self) -> None:
        """Let the files go."""
        self.store.close()

    def provision(self, name: str, folder: Path) -> Provisioning:
        """Make a car's box known."""
        box, given = boxes.give(self._authority, name, folder, int(self._world.wall_s()))
        self.store.add_box(box, int(self._world.wall_s()))
        return given

    def greet(self) -> None:
        """Give the broker what every car must find there."""
        if not self.down:
            for message in self.ingest.greeting(self._world.wall_s()):
                self._world.pipe.publish(message)

    def take(self, topic: str, payload: bytes) -> None:
        """Take a message from the broker, and answer it. A commune that is down hears nothing."""
        if self.down:
            return
        for message in self.ingest.handle(topic, payload, self._world.wall_s()):
            self._world.pipe.publish(message)

    async def trouble(self) -> None:
        """Be down now and then, and once be set back to a copy."""
        rates = self._world.rates
        if rates.keys_renewed_every_h:
            self._world.keep_running(self._renew_keys(rates.keys_renewed_every_h))
        if rates.cloud_restored and self._rng.random() < rates.cloud_restored:
            self._world.keep_running(self._be_restored())
        mean_h = rates.cloud_down_every_h
        while mean_h:
            await self._world.sleep_until_healed(self._rng.expovariate(1 / (mean_h * HOUR_S)))
            if self._world.healing:
                return
            self.down = True
            self._world.tale.tell("cloud", "is down")
            await self._world.sleep_until_healed(self._rng.choice((600.0, HOUR_S, 20 * HOUR_S)) * self._world.plan.pace)
            self.down = False
            self._world.tale.tell("cloud", "is up again")
            self.greet()

    async def _renew_keys(self, mean_h: float) -> None:
        rng, paths = self._world.rng("keys"), Paths(self._folder)
        root = Signer.load(paths.offline / "root-1.pem")
        while True:
            await self._world.sleep_until_healed(rng.expovariate(1 / (mean_h * HOUR_S)))
            if self._world.healing:
                return
            stolen = rng.random() < 0.5
            key_rotation.propose(self._folder, int(self._world.wall_s()), stolen=stolen)
            key_rotation.adopt(self._folder, key_rotation.sign(paths.proposal.read_bytes(), root)[1])
            self._authority = Authority(self._folder)
            self.ingest = Ingest(self.store, self._authority, HORIZON_DAYS)
            self._world.tale.tell("cloud", "has other keys: the old ones were stolen" if stolen else "has other keys")
            self._world.tale.counts["other keys"] += 1
            self.greet()

    async def _be_restored(self) -> None:
        length_s = self._world.length_s
        await self._world.sleep_until_healed(self._rng.uniform(0.1, 0.6) * length_s)
        database, copy = Paths(self._folder).database, self._folder / "copy"
        self.store.close()
        shutil.copytree(database.parent, copy)
        self._open()
        noted = {each.id for each in self.truth.bookings.values()}
        await self._world.sleep_until_healed(self._rng.uniform(0.05, 0.4) * length_s)
        self.store.close()
        shutil.rmtree(database.parent)
        shutil.copytree(copy, database.parent)
        self._open()
        self._world.tale.tell("cloud", "its database is set back to a copy")
        self._world.tale.counts["clouds restored"] += 1
        self._world.checks.restored(noted)
        self.greet()

    # What the town hall does

    def book(self, booking: Booking, card: bytes, phone: BoxSigner | None) -> None:
        """Book; ``AwayError``."""
        box = self._box(booking.car)
        values = {
            "id": booking.id,
            "vehicle": booking.car,
            "start_s": int(booking.start_s),
            "end_s": int(booking.end_s),
            "pickup": booking.pickup,
            "dropoff": booking.dropoff,
            "kind": (BookingKind.LOOP if booking.pickup == booking.dropoff else BookingKind.ONE_WAY).value,
            "driver": booking.person.encode()[:8].ljust(8, b"-"),
            "phone_keys": json.dumps([phone.public.hex()] if phone is not None else []),
            "cards": json.dumps([{"ref": card.hex()}] if card else []),
            "rights": int(Rights.DOOR | Rights.DRIVE),
            "trace": self._rng.random() < 0.3,
            "created_s": int(self._world.wall_s()),
            "cancelled_s": None,
        }
        with self.store.write() as db:
            db.execute(insert(tables.bookings).values(values))
            row = lists.issue_within(db, self._authority, box, int(self._world.wall_s()), HORIZON_DAYS)
        booking.ends = [(row.version, booking.end_s)]
        self.truth.bookings[booking.id] = booking
        self._publish(row)

    def cancel(self, booking: Booking) -> None:
        """Cancel; ``AwayError``."""
        row = self._change(booking, cancelled_s=int(self._world.wall_s()))
        booking.cancelled_by = row.version

    def extend(self, booking: Booking, end_s: float) -> None:
        """Move the end; ``AwayError``."""
        row = self._change(booking, end_s=int(end_s))
        booking.ends.append((row.version, end_s))

    def _change(self, booking: Booking, **values: int) -> ListRow:
        box, table = self._box(booking.car), tables.bookings
        with self.store.write() as db:
            db.execute(update(table).where(table.c.id == booking.id).values(values))
            row = lists.issue_within(db, self._authority, box, int(self._world.wall_s()), HORIZON_DAYS)
        self._publish(row)
        return row

    def revoke(self, person: str, phone: BoxSigner) -> None:
        """Take a stolen phone back, at every car; ``AwayError``."""
        now_s, table = int(self._world.wall_s()), tables.revocations
        boxes = [self._box(car.name) for car in self._world.cars]
        with self.store.write() as db:
            values = {"what": phone.public.hex(), "vehicle": tables.EVERY_CAR, "until_s": now_s + 30 * 86_400}
            upsert(db, table, values, table.c.what, table.c.vehicle)
            rows = [lists.issue_within(db, self._authority, box, now_s, HORIZON_DAYS) for box in boxes]
        for row in rows:
            self.truth.revoked.setdefault(row.vehicle, {})[person] = row.version
            self._publish(row)

    def grant(self, booking: Booking, phone: BoxSigner) -> Wallet | None:
        """Give a phone what it needs for a booking; None where it is refused; ``AwayError``."""
        box = self._box(booking.car)
        try:
            with self.store.write() as db:
                now_s = int(self._world.wall_s())
                made = passes.issue(db, self._authority, box, booking.id, phone.public, now_s, HORIZON_DAYS)
        except HTTPException:
            return None
        name = radio_name(box.agreement_public)
        return Wallet(booking.car, name, box.agreement_public, phone, booking.id, bytes.fromhex(made.document))

    def _box(self, name: str) -> Box:
        if self.down:
            raise AwayError("the commune is down")
        box = self.store.box(name)
        if box is None:
            raise KeyError(name)
        return box

    def _publish(self, row: ListRow) -> None:
        publish_list(self._world.pipe, row)

    # What a phone is to it (``sim.phone_wallet.Cloud``)

    async def documents(self, vehicle: str, heard: Answer | None) -> list[bytes]:
        """Give a phone what its car lacks."""
        box = self._box(vehicle)
        said = Heard(**told(heard))
        return documents_for(self.store, self._authority, box, said, self._world.wall_s(), HORIZON_DAYS)

    async def post(self, vehicle: str, batches: list[bytes]) -> None:
        """Take what a phone brought."""
        self._box(vehicle)
        for document in batches:
            for message in self.ingest.handle(build_topic(vehicle, Topic.BATCH), document, self._world.wall_s()):
                self._world.pipe.publish(message)

    def found(self) -> tuple[list[dict[str, object]], list[dict[str, object]], list[str]]:
        """Return what the commune knows: trips, rentals, kinds of alarms."""
        with self.store.read() as db:
            trips = [each.model_dump() for each in views.trips(db, None, 10_000)]
            rentals = [each.model_dump() for each in views.rentals(db, None, 10_000)]
            alarms = [each.kind for each in views.alarms(db)]
        return trips, rentals, alarms
