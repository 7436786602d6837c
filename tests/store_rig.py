"""A store in a directory of its own, records to fill it with, and ways to damage it."""

from __future__ import annotations

import os
import sqlite3
import subprocess
import sys
from pathlib import Path

from onboard.core.clock import ClockQuality, Instant, Span
from onboard.core.grants import BookingKind, Reservation, ReservationList, Rights
from onboard.core.records import (
    AccessDenied,
    DistanceSource,
    FaultChanged,
    Recordable,
    RentalKind,
    Track,
    TripEnded,
    TripEndReason,
)
from onboard.core.state import Kept, Meter, Rental, Trip
from onboard.store import Opened, Store
from onboard.store_room import LIMITS, Limits

CAR = "ami-1"
FLOOR_S = 1_790_000_000.0
EPOCH = b"bootboot"
AT = Instant(12.5, 1_795_000_000.0, ClockQuality.GNSS)
ROOT = Path(__file__).parent.parent

BOOKING = Reservation(
    b"booking-16-bytes",
    1_795_000_000,
    1_795_003_600,
    "bazouges",
    "hede",
    BookingKind.ONE_WAY,
    b"pseudo-8",
    (b"\x02" * 33,),
    (),
    Rights.DOOR | Rights.DRIVE,
    trace=True,
)
LISTED = ReservationList(CAR, 7, 1_795_000_000, 1_797_000_000, (BOOKING,))
SPAN = Span(AT, EPOCH)
RENTAL = Rental(3, RentalKind.BOOKING, BOOKING, SPAN, Trip(5, SPAN, Meter(), opened=True))


def open_store(directory: Path, limits: Limits = LIMITS, *, now_wall_s: float = 1_795_383_000.0) -> Opened:
    """Open the store of ``CAR``; the default date is 22 November 2026, 21:30 UTC."""
    return Store.open(directory, CAR, FLOOR_S, limits, now_wall_s=now_wall_s)


def trip_ended(trip: int) -> TripEnded:
    return TripEnded(
        3, trip, TripEndReason.LOCKED, 900, 7300, DistanceSource.ODOMETER, 100, 7280, 1_000_000, 61.5, "hede", ()
    )


def track(number: int, points: int = 20) -> Track:
    return Track(3, number, tuple((60 * n, 4_842_000 + 7 * n, -157_000 + 11 * n) for n in range(points)))


def put(store: Store, kept: Kept, *records: Recordable, at: Instant = AT) -> Kept:
    """Do what the reactor does with a step: commit, and the files beside afterwards."""
    kept = store.commit(kept, records, at, EPOCH)
    store.settle()
    return kept


def denied() -> AccessDenied:
    return AccessDenied("unknown", "card")


def fault(number: int) -> FaultChanged:
    return FaultChanged("gps", active=bool(number % 2), detail="no sentences " * 8)


def kill(store: Store) -> None:
    """Drop the connection as a crash leaves it: the log stays, nothing is written back."""
    assert store._db is not None
    directory = store.path.parent
    shots = {path: path.read_bytes() for path in directory.glob("store.db*")}
    store.close()
    for path, data in shots.items():
        path.write_bytes(data)


def shell(path: Path, sql: str, *values: object) -> list[tuple[object, ...]]:
    """Do one statement the way a technician's shell would, with the store closed."""
    conn = sqlite3.connect(path, isolation_level=None, timeout=0)
    try:
        return conn.execute(sql, values).fetchall()
    finally:
        conn.close()


def child(script: str, *args: str) -> subprocess.Popen[str]:
    """Run ``script`` in a Python process of its own."""
    return subprocess.Popen(
        [sys.executable, "-c", script, *args],
        cwd=ROOT,
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
        env=os.environ | {"PYTHONPATH": str(ROOT)},
    )
