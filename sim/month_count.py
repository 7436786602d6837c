"""What happened in a month, kept beside the box while it is played; and what the commune knows of it in the end."""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from typing import Final

from sqlalchemy import select

from cloud_sync.documents.records import GENESIS, chain_digest, encode_record, record_kind
from cloud_sync.endpoint import tables, views
from cloud_sync.endpoint.store import Store
from onboard.core.clock import ClockQuality, Instant
from onboard.core.records import Recordable
from onboard.core.state import Kept
from onboard.store_schema import whole_ms
from onboard.store_thread import StoreThread

LENGTH_OFF_MAX_M: Final = 100
"""The odometer's step: each end of a trip may lie just before one."""
TIME_OFF_MAX_S: Final = 3.0
"""From the tap to the latch, and back from its report; nights without sky let the clock drift a little."""
EVERYTHING: Final = 1_000_000


class Account:
    """Every record that a step committed, by its number: the digests are reckoned here, from the records alone.

    ``true_s`` gives true Unix seconds.
    """

    def __init__(self, true_s: Callable[[], float]) -> None:
        self._true_s = true_s
        self._times_s: list[float] = []
        self.digests: list[bytes] = []
        self.kinds: Counter[str] = Counter()

    def note(self, records: Sequence[Recordable], at: Instant, boot_epoch: bytes) -> None:
        """Take the records of one step that the store said to be on the disk."""
        for record in records:
            before = self.digests[-1] if self.digests else GENESIS
            seq, payload = len(self.digests) + 1, encode_record(record)
            self.digests.append(chain_digest(before, seq, boot_epoch, whole_ms(at), payload))
            self.kinds[record_kind(record)] += 1
            self._times_s.append(self._true_s())

    def since(self, true_s: float, up_to_seq: int) -> int:
        """Return how many records up to a number were written since then."""
        return sum(at_s >= true_s for at_s in self._times_s[:up_to_seq])


class NotedStore(StoreThread):
    """The box's own store with its thread; what it has committed is noted."""

    def __init__(self, account: Account) -> None:
        super().__init__()
        self._account = account

    async def commit(self, kept: Kept, records: Sequence[Recordable], at: Instant, boot_epoch: bytes) -> Kept:
        """Commit; then note it."""
        done = await super().commit(kept, records, at, boot_epoch)
        self._account.note(records, at, boot_epoch)
        return done


@dataclass(slots=True)
class Driven:
    """One trip, or one rental, as it was in truth: metres, and Unix seconds of the latch."""

    booking: str
    kind: str
    began_s: float
    ended_s: float = 0.0
    length_m: float = 0.0
    trips: int = 1


@dataclass(slots=True)
class Found:
    """What the commune knows, beside what happened."""

    lost: int = 0
    """Records that it does not have."""
    doubled: int = 0
    """Records that it has more than once."""
    strange: int = 0
    """Rows that are none of the box's records."""
    refusals: int = 0
    wrong_trips: list[str] = field(default_factory=list)
    wrong_rentals: list[str] = field(default_factory=list)
    alarms: list[str] = field(default_factory=list)


def look(store: Store, account: Account, trips: Sequence[Driven], rentals: Sequence[Driven]) -> Found:
    """Compare the commune's database with the account, number by number, and with what was driven."""
    found = Found()
    times: Counter[int] = Counter()
    with store.read() as db:
        for row in db.execute(select(tables.events)):
            at = Instant(row.boot_s, row.wall_s, ClockQuality(row.quality))
            made = chain_digest(row.previous, row.seq, row.boot_epoch, at, row.payload)
            if 1 <= row.seq <= len(account.digests) and made == row.digest == account.digests[row.seq - 1]:
                times[row.seq] += 1
                found.refusals += row.kind == "access_denied"
            else:
                found.strange += 1
        known_trips = sorted(views.trips(db, None, EVERYTHING), key=lambda trip: (trip.trip, trip.id))
        known_rentals = sorted(views.rentals(db, None, EVERYTHING), key=lambda rental: (rental.rental, rental.id))
        found.alarms = [alarm.kind for alarm in views.alarms(db)]
    found.lost = len(account.digests) - len(times)
    found.doubled = times.total() - len(times)
    found.wrong_trips = differences(
        [
            Driven(e.reservation or "", e.kind or "", e.started_s or 0, e.ended_s or 0, e.distance_m or 0)
            for e in known_trips
        ],
        trips,
    )
    found.wrong_rentals = differences(
        [
            Driven(e.reservation, e.kind, e.started_s or 0, e.ended_s or 0, e.distance_m or 0, e.trips or 0)
            for e in known_rentals
        ],
        rentals,
    )
    return found


def differences(known: Sequence[Driven], true: Sequence[Driven]) -> list[str]:
    """Return what differs, in words; both in the order in which they were driven."""
    wrong = [f"{len(known)} for {len(true)}"] * (len(known) != len(true))
    for number, (have, want) in enumerate(zip(known, true, strict=False), start=1):
        same = (have.booking, have.kind, have.trips) == (want.booking, want.kind, want.trips)
        near = abs(have.length_m - want.length_m) <= LENGTH_OFF_MAX_M
        then = max(abs(have.began_s - want.began_s), abs(have.ended_s - want.ended_s)) <= TIME_OFF_MAX_S
        if not (same and near and then):
            wrong.append(f"number {number}: {have} for {want}")
    return wrong
