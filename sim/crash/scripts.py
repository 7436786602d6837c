"""The stories that are recorded: ``python -m sim.crash.scripts SCRIPT WEAKNESS FOLDER``, run by ``record``.

``week`` is the whole box with its core and its threads, through a week of rentals; the others ask the store alone,
for what a week does not bring: a killed process, damage, a full disk, a long log.
"""

from __future__ import annotations

import asyncio
import logging
import os
import sqlite3
import sys
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from types import SimpleNamespace
from typing import Any, Final

from onboard import store as store_module
from onboard import store_schema, store_side
from onboard.core.clock import ClockQuality, Instant, Span
from onboard.core.grants import Assurance, BookingKind, CardGrant, Reservation, ReservationList, Rights
from onboard.core.records import (
    AccessDenied,
    DistanceSource,
    EndRequested,
    FaultChanged,
    ListAccepted,
    Recordable,
    RentalEnded,
    RentalEndReason,
    RentalKind,
    StoreReplaced,
    Track,
    TripEnded,
    TripEndReason,
    TripStarted,
)
from onboard.core.state import EndRequest, Meter, Rental, Trip
from onboard.store import WAL_PAGES, Store
from onboard.store_open import DATABASE
from onboard.store_room import LIMITS, Limits
from sim import box_toml
from sim.crash.record import DATA, WITNESS
from sim.crash.witness import Witness

VEHICLE: Final = "ami-1"
FLOOR_S: Final = 1_790_000_000.0
BEGAN_S: Final = 1_795_000_000
DAY_S: Final = 86_400.0
PAGE: Final = 4096
WATCHED_PAGES: Final = 12


class Car:
    """A car's store, and what a car has it write. ``directory`` is its data directory."""

    def __init__(self, directory: Path, limits: Limits = LIMITS) -> None:
        self._directory = directory
        self._limits = limits
        self._at = Instant(20.0, float(BEGAN_S), ClockQuality.GNSS)
        self._boots = 0

    def start(self) -> None:
        """Open the store; tell the commune of one that was replaced."""
        opened = Store.open(self._directory, VEHICLE, FLOOR_S, self._limits, now_wall_s=self._at.wall_s)
        self.store, self.kept = opened.store, opened.kept
        if opened.replaced is not None:
            self.step(StoreReplaced(opened.replaced, opened.reason))

    def stop(self) -> None:
        """Close it."""
        self.store.close()

    def another_boot(self) -> None:
        """An hour goes by, and whatever was in memory."""
        self._boots += 1
        self._at = replace(self._at, wall_s=self._at.wall_s + 3600)

    def step(self, *records: Recordable, **changes: Any) -> None:
        """Do what the reactor does with a step: commit, then the files beside the database."""
        self._at = replace(self._at, boot_s=self._at.boot_s + 7, wall_s=self._at.wall_s + 7)
        kept = replace(self.kept, floor_s=max(self.kept.floor_s, self._at.wall_s), **changes)
        self.kept = self.store.commit(kept, records, self._at, bytes([self._boots]) * 8)
        self.store.settle()

    def listed(self, *bookings: Reservation) -> None:
        """Take a new list."""
        version = self.kept.grants.version_floor + 1
        listed = ReservationList(VEHICLE, version, BEGAN_S, BEGAN_S + 30 * 86_400, bookings)
        self.step(ListAccepted(version), grants=replace(self.kept.grants, listed=listed, version_floor=version))

    def keys(self, version: int) -> None:
        """Take a key set."""
        self.store.keep_keys(version, b"a signed key set, version %d" % version * 5)

    def begin(self) -> Reservation:
        """Have somebody book and get in."""
        number = self.kept.rentals + 1
        booking = _booking(number)
        self.listed(booking)
        span = Span(self._at, bytes([self._boots]) * 8)
        trip = Trip(self.kept.trips + 1, span, Meter())
        rental = Rental(number, RentalKind.BOOKING, booking, span, trip)
        started = TripStarted(
            number,
            trip.number,
            RentalKind.BOOKING,
            booking.id,
            booking.driver,
            "card",
            2,
            proven=True,
            odometer_m=1000,
            soc_pct=80.0,
            station="hede",
        )
        self.step(started, rental=rental, rentals=number, trips=trip.number)
        return booking

    def drive(self, times: int = 1, points: int = 20) -> None:
        """Drive: the trip's meter is kept, the track and other things are recorded."""
        for time in range(times):
            rental, trip = self._running()
            meter = replace(trip.meter, odometer_driven_m=trip.meter.odometer_driven_m + 100, speed_seen=True)
            track = Track(rental.number, trip.number, tuple((60 * n, 4_842_000 + n, -157_000) for n in range(points)))
            more = (FaultChanged("gps", active=bool(time % 2), detail="no sentences"),) if time % 3 == 0 else ()
            self.step(track, *more, rental=replace(rental, trip=replace(trip, meter=meter, opened=True)))

    def end(self) -> None:
        """Lock, and be done."""
        rental, trip = self._running()
        wish = EndRequest("card", finish=True, at=self._at)
        self.step(
            EndRequested(rental.number, trip.number, "card", finish=True),
            rental=replace(rental, trip=replace(trip, end=wish)),
        )
        ended = TripEnded(
            rental.number, trip.number, TripEndReason.LOCKED, 900, 7300, DistanceSource.ODOMETER, 100, 7280,
            1_000_000, 61.5, "hede", (),
        )  # fmt: skip
        over = RentalEnded(
            rental.number, RentalKind.BOOKING, rental.booking.id, rental.booking.driver, RentalEndReason.AT_DROPOFF,
            900, "boot", 1, 7300, "hede",
        )  # fmt: skip
        self.step(ended, over, rental=None, ended=(*self.kept.ended, rental.booking.id)[-16:], odometer_m=1_000_000)

    def acknowledge(self, days_later: float = 0.0) -> None:
        """The cloud has it all, and says so; ``days_later`` it is old enough to be dropped."""
        last = self.kept.outbox.last_seq
        self.store.release(last, self._at.wall_s + days_later * DAY_S)
        self.step(AccessDenied("unknown", "card"), outbox=replace(self.kept.outbox, acked_seq=last))

    def rental(self, drives: int = 3) -> None:
        """One whole rental."""
        self.begin()
        self.drive(drives)
        self.end()

    def _running(self) -> tuple[Rental, Trip]:
        rental = self.kept.rental
        if rental is None or rental.trip is None:
            raise RuntimeError("no trip is under way")
        return rental, rental.trip


def rentals(folder: Path, _witness: Witness) -> None:
    """A new box: two rentals, key sets, acknowledgements, rows dropped by age, closed and opened in between."""
    car = Car(folder / DATA)
    car.start()
    car.keys(1)
    car.rental()
    car.acknowledge()
    car.keys(2)
    car.stop()
    car.another_boot()
    car.start()
    car.acknowledge(days_later=40)
    car.rental()
    car.keys(3)
    car.begin()
    car.drive(2)
    car.stop()


def killed(folder: Path, _witness: Witness) -> None:
    """A process that is killed five times, in and outside of rentals, and starts again from its log each time."""
    car = Car(folder / DATA)
    lives = (
        (car.rental, car.acknowledge, car.begin, car.drive),
        (car.drive, car.end),
        (),
        (car.acknowledge, car.rental),
        (car.begin,),
    )
    for life in lives:
        _in_another_process(car.start, *life)
        car.another_boot()
    car.start()
    car.stop()


def damaged(folder: Path, witness: Witness) -> None:
    """A killed process, a byte gone bad in an old row: the database is kept aside and a new one takes its place."""
    car = Car(folder / DATA)
    car.start()
    car.keys(1)
    car.rental(drives=30)
    car.begin()
    car.stop()

    car.another_boot()
    _in_another_process(car.start, car.drive, car.end, car.begin)
    car.another_boot()
    witness.tell("outside")
    _flip_a_digest(folder / DATA / DATABASE)
    witness.tell("damage")
    witness.tell("inside")
    witness.tell("watch")
    car.start()
    car.end()
    car.rental()
    car.stop()


def full(folder: Path, _witness: Witness) -> None:
    """A disk that runs full in a rental: the reserve is given back, the log is kept short, and later there is room."""
    car = Car(folder / DATA)
    car.start()
    car.rental()
    car.begin()
    # SQLite's page limit stands for the full disk: it gives the same answer at the same place.
    database = car.store._connection()  # noqa: SLF001 - as said
    pages = database.execute("PRAGMA page_count").fetchone()[0]
    database.execute(f"PRAGMA max_page_count={pages}")
    reserve = car.store._reserve  # noqa: SLF001 - as said
    release, statvfs = reserve.release, os.statvfs

    def releasing() -> bool:
        database.execute(f"PRAGMA max_page_count={pages + 256}")
        return release()

    _replace(reserve, "release", releasing)
    _replace(os, "statvfs", lambda _path: SimpleNamespace(f_bavail=10, f_frsize=PAGE))
    while not car.store.on_reserve:
        car.drive()
    car.drive(6)
    car.end()
    car.rental()
    _replace(os, "statvfs", statvfs)
    car.begin()
    car.drive(9)
    car.end()
    car.stop()


def room(folder: Path, _witness: Witness) -> None:
    """A store that is full by its own bounds: acknowledged rows go, then positions lose what they say."""
    car = Car(folder / DATA, Limits(bytes_max=12_000, rows_max=60, expendable_rows_max=40))
    car.start()
    car.rental(8)
    car.acknowledge()
    for _ in range(3):
        car.rental(8)
    car.stop()


def long(folder: Path, witness: Witness) -> None:
    """The log grows to its ordinary length and is worked into the file. Watched from shortly before."""
    car = Car(folder / DATA)
    car.start()
    car.begin()
    log_file = folder / DATA / f"{DATABASE}-wal"
    bookings = [_booking(number) for number in range(1, 101)]
    while log_file.stat().st_size < (WAL_PAGES - WATCHED_PAGES) * PAGE:
        car.listed(*bookings)
        car.drive()
    witness.tell("watch")
    car.drive(4)
    car.end()
    car.rental(2)
    car.acknowledge(days_later=40)
    car.rental(2)
    car.stop()


def week(folder: Path, _witness: Witness) -> None:
    """The week of the demo: the whole box, its core and its threads."""
    # Here, because the commune's side takes a second to load and the other scripts do without.
    from sim.week import Week  # noqa: PLC0415

    _replace(box_toml, "BOX", box_toml.BOX.replace("{folder}/data", str(folder / DATA)))
    story = folder / "story"
    story.mkdir()
    asyncio.run(Week(story, lambda _wall_s, _source, _text: None).play())


SCRIPTS: Final[dict[str, Callable[[Path, Witness], None]]] = {
    each.__name__: each for each in (week, rentals, killed, damaged, full, room, long)
}


def _replace(owner: object, name: str, value: object) -> None:
    """Put something else in the place of what is there, in this process."""
    if not hasattr(owner, name):
        raise AttributeError(f"{owner} has no {name} to be replaced")
    setattr(owner, name, value)


def _settings(**changes: str) -> None:
    weaker = tuple((name, changes.get(name, value)) for name, value in store_schema.SETTINGS)
    _replace(store_schema, "SETTINGS", weaker)
    store_schema.REQUIRED.clear()


def _normal() -> None:
    _settings(synchronous="NORMAL")
    _replace(store_module, "WAL_PAGES", 20)


def _delete() -> None:
    _settings(locking_mode="NORMAL", journal_mode="DELETE")


def _unsynced_names() -> None:
    _replace(store_side, "sync_directory", lambda _directory: None)


WEAKNESSES: Final[dict[str, tuple[str, Callable[[], None]]]] = {
    "none": ("as shipped", lambda: None),
    "normal": ("WAL, synchronous NORMAL, checkpoint every 20 pages", _normal),
    "delete": ("rollback journal (DELETE), synchronous FULL, locking NORMAL", _delete),
    "early": ("acknowledged before the commit", lambda: None),
    "names": ("no sync of the directory after a file beside the database is replaced", _unsynced_names),
}
"""What is made worse in the recorded process alone; the states are opened by the code as shipped."""


def _booking(number: int) -> Reservation:
    driver = b"driver%02d" % (number % 100)
    return Reservation(
        id=b"booking-%08d" % number,
        start_s=BEGAN_S,
        end_s=BEGAN_S + 3600,
        pickup="bazouges",
        dropoff="hede",
        kind=BookingKind.ONE_WAY,
        driver=driver,
        phone_keys=(b"\2" + driver * 4,),
        cards=(CardGrant(driver, Assurance.UID),),
        rights=Rights.DOOR | Rights.DRIVE,
        trace=True,
    )


def _in_another_process(*plays: Callable[[], object]) -> None:
    """Play in a child that ends as a killed process does: nothing is closed."""
    child = os.fork()
    if child == 0:
        code = 1
        try:
            for play in plays:
                play()
            code = 0
        finally:
            os._exit(code)
    if os.waitpid(child, 0)[1] != 0:
        raise RuntimeError("a life ended otherwise than it was to")


def _flip_a_digest(path: Path) -> None:
    """Spoil one byte of an old row's digest where it lies in the file."""
    with sqlite3.connect(f"{path.as_uri()}?mode=ro&immutable=1", uri=True) as conn:
        digest = conn.execute("SELECT digest FROM events WHERE seq = 9").fetchone()[0]
    conn.close()
    with path.open("r+b", buffering=0) as file:
        place = path.read_bytes().index(digest)
        file.seek(place)
        file.write(bytes([digest[0] ^ 0x55]))


def main(arguments: list[str]) -> None:
    """Play one script."""
    script, weakness, folder = arguments
    logging.disable()
    WEAKNESSES[weakness][1]()
    witness = Witness(Path(folder) / WITNESS, early=weakness == "early")
    witness.install()
    SCRIPTS[script](Path(folder), witness)


if __name__ == "__main__":
    main(sys.argv[1:])
