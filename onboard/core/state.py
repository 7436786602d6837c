"""The whole state of the core: ``Kept`` survives a power cut, the rest is learned anew after a boot."""

from __future__ import annotations

from dataclasses import dataclass, field

from onboard.core.clock import Anchor, Instant
from onboard.core.commands import Action, SupplyLevel
from onboard.core.events import BusState, Charging, DoorReported, Position, Reading, Signal
from onboard.core.grants import Pass, Reservation, ReservationList
from onboard.core.policy import Policy
from onboard.core.records import DistanceSource, RentalKind


@dataclass(frozen=True, slots=True)
class Meter:
    """Distance of one trip by every source at once; ``trip`` says how it grows and which one counts."""

    odometer_m: int | None = None
    """Last accepted reading."""
    odometer_driven_m: int = 0
    resolution_m: int = 1
    odometer_resets: int = 0
    rejected: int = 0
    """Readings in a row that did not fit."""
    candidate_m: int | None = None
    speed_driven_m: float = 0.0
    speed_gaps: int = 0
    gnss_driven_m: float = 0.0
    source_seen: DistanceSource = DistanceSource.NONE


@dataclass(frozen=True, slots=True)
class EndRequest:
    """A lock that was asked for and committed. ``boot_epoch`` tells whether it was in this boot."""

    by: str
    finish: bool
    at: Instant
    boot_epoch: bytes


@dataclass(frozen=True, slots=True)
class Trip:
    """From a granted unlock to a confirmed lock."""

    number: int
    started: Instant
    boot_epoch: bytes
    meter: Meter
    opened: bool = False
    """A report after the unlock said unlocked, or a door open: somebody got in."""
    end: EndRequest | None = None
    carried_s: float = 0.0
    """Duration measured in earlier boots."""


@dataclass(frozen=True, slots=True)
class Rental:
    """All trips of one booking. The booking is copied: a newer list may drop it, its driver must still get in."""

    number: int
    kind: RentalKind
    booking: Reservation
    started: Instant
    boot_epoch: bytes
    trip: Trip | None
    trips: int = 1
    distance_m: int = 0
    locked: Instant | None = None
    """Last confirmed lock, while no trip runs."""
    locked_epoch: bytes = b""
    elapsed_s: float = 0.0
    """Billable seconds up to the last moment it was worked out."""
    elapsed_at: Instant | None = None
    elapsed_basis: str = "boot"
    overdue_told: bool = False


@dataclass(frozen=True, slots=True)
class Grants:
    """What the commune signed, and what must never count twice."""

    listed: ReservationList | None = None
    version_floor: int = 0
    passes: tuple[Pass, ...] = ()
    command_counter: int = 0
    command_epoch: bytes = b""
    results: tuple[tuple[bytes, bytes, str, str], ...] = ()
    """(who, command id, status, reason) of commands already answered, oldest first."""


@dataclass(frozen=True, slots=True)
class Outbox:
    """How far the cloud has what we wrote."""

    store_id: bytes = b""
    last_seq: int = 0
    acked_seq: int = 0


@dataclass(frozen=True, slots=True)
class Kept:
    """Everything that a power cut must not take. One part is one row of the store, written when it changes."""

    vehicle: str
    floor_s: float
    grants: Grants = Grants()
    rental: Rental | None = None
    rentals: int = 0
    """Numbers given so far: exact replay needs counters, not randomness."""
    trips: int = 0
    odometer_m: int | None = None
    """Last known, to notice unbooked movement."""
    maintenance: bool = False
    outbox: Outbox = Outbox()


@dataclass(frozen=True, slots=True)
class Actuation:
    """A pulse under way or waiting for its confirmation."""

    number: int
    action: Action
    attempt: int
    asked_s: float
    settled_s: float | None = None


@dataclass(frozen=True, slots=True)
class Doors:
    """The last report, and the pulse that waits for one."""

    report: DoorReported | None = None
    actuation: Actuation | None = None
    actuations: int = 0
    armed_until_s: float | None = None
    """Lock when the last door shuts (button, or a tap with a door open)."""
    armed_by: str = ""
    armed_finish: bool = False
    armed_needs_opening: bool = False
    open_since_s: float | None = None
    """Boot time since which the car stands unlocked and untouched."""
    left_open_told: bool = False


@dataclass(frozen=True, slots=True)
class Vehicle:
    """What the bus and the receiver say."""

    readings: dict[Signal, Reading] = field(default_factory=dict)
    resolution_m: int = 1
    bus: BusState = BusState.ASLEEP
    bus_since_s: float = 0.0
    charging: Charging = Charging.UNKNOWN
    position: Position | None = None
    still_since_s: float | None = None
    """Boot time since which it has stood still, if it does."""
    moved_unbooked_m: int = 0


@dataclass(frozen=True, slots=True)
class LastDriver:
    """Who may open once more for the cable. Lives in memory: a reboot closes it."""

    booking: Reservation
    until_s: float


@dataclass(frozen=True, slots=True)
class Sending:
    """What is on its way; unproven until acknowledged."""

    connected: bool = False
    sent_seq: int = 0
    resend_at_s: float | None = None
    attempts: int = 0
    status_at_s: float = 0.0
    acked_at_s: float = 0.0
    lost_told: bool = False


@dataclass(frozen=True, slots=True)
class Supply:
    """The 12 V step in force, and the one that is about to be."""

    level: SupplyLevel = SupplyLevel.NORMAL
    voltage_v: float | None = None
    pending: SupplyLevel | None = None
    pending_since_s: float = 0.0


@dataclass(frozen=True, slots=True)
class Refusals:
    """Refusals of this hour: beyond the bound they are counted, not written."""

    hour_from_s: float = 0.0
    written: int = 0
    counted: int = 0


@dataclass(frozen=True, slots=True)
class State:
    """Everything ``step`` knows."""

    kept: Kept
    policy: Policy
    boot_epoch: bytes = b""
    software: str = ""
    anchor: Anchor | None = None
    doors: Doors = Doors()
    vehicle: Vehicle = field(default_factory=Vehicle)
    last_driver: LastDriver | None = None
    sending: Sending = Sending()
    supply: Supply = Supply()
    refusals: Refusals = Refusals()
    faults: tuple[tuple[str, str], ...] = ()
    plug_in_by_s: float | None = None
    progress_at_s: float | None = None
    track: tuple[tuple[int, int, int], ...] = ()
    track_from_s: float | None = None
