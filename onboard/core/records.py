"""What the box writes down: append-only, numbered, chained, sent to the cloud. One class a kind, no names of people.

The wire gives each class a number (``cloud_sync.documents``). A field is never renumbered; a new one has a default.
"""

from __future__ import annotations

from dataclasses import dataclass, field
from enum import StrEnum


class DistanceSource(StrEnum):
    """What a distance rests on, best first."""

    ODOMETER = "odometer"
    SPEED = "speed_integral"
    GNSS = "gnss"
    NONE = "none"


class RentalKind(StrEnum):
    """A driver's booking; a member of staff; the last driver once more, for the cable."""

    BOOKING = "booking"
    STAFF = "staff"
    REOPEN = "reopen"


class TripEndReason(StrEnum):
    """Why a trip ended."""

    LOCKED = "locked"
    NOT_OPENED = "not_opened"
    ABANDONED = "abandoned"


class RentalEndReason(StrEnum):
    """Why a rental ended."""

    AT_DROPOFF = "at_dropoff"
    CHARGING = "charging"
    FINISHED = "finished"
    RULE_ALWAYS = "rule_always"
    TIME_OVER = "time_over"
    NOT_OPENED = "not_opened"
    ABANDONED = "abandoned"
    STAFF_DONE = "staff_done"


@dataclass(frozen=True, slots=True)
class Booted:
    """The daemon started. ``trip`` is the running trip's number, 0 if there is none."""

    software: str
    trip: int


@dataclass(frozen=True, slots=True)
class TripStarted:
    """A grant was given and committed; the door opens next. ``rule`` is the rule of ``access`` that gave it."""

    rental: int
    trip: int
    kind: RentalKind
    reservation: bytes
    driver: bytes
    credential: str
    rule: int
    proven: bool
    odometer_m: int | None
    soc_pct: float | None
    station: str | None


@dataclass(frozen=True, slots=True)
class DoorReopened:
    """A running trip's driver opened the locked door again."""

    rental: int
    trip: int
    credential: str


@dataclass(frozen=True, slots=True)
class EndRequested:
    """Somebody asked to lock; committed before the pulse."""

    rental: int
    trip: int
    by: str
    finish: bool


@dataclass(frozen=True, slots=True)
class TripEnded:
    """A fresh door report said locked. ``flags``: ``standstill_unproven distance_disagrees odometer_reset``."""

    rental: int
    trip: int
    reason: TripEndReason
    duration_s: int
    distance_m: int
    distance_source: DistanceSource
    distance_resolution_m: int
    speed_integral_m: int | None
    odometer_m: int | None
    soc_pct: float | None
    station: str | None
    flags: tuple[str, ...]


@dataclass(frozen=True, slots=True)
class RentalEnded:
    """All trips of one booking are over. ``billable_s``: first granted unlock to last confirmed lock.

    ``billable_basis`` is ``boot`` (boot-time clock), ``wall`` (two GNSS or proven times across a reboot) or ``floor``
    (a reboot without a trustworthy clock: only what was surely driven, in the driver's favour).
    """

    rental: int
    kind: RentalKind
    reservation: bytes
    driver: bytes
    reason: RentalEndReason
    billable_s: int
    billable_basis: str
    trips: int
    distance_m: int
    station: str | None


@dataclass(frozen=True, slots=True)
class AccessDenied:
    """Somebody was refused. ``more`` counts further refusals of this hour that were not written singly."""

    reason: str
    credential: str
    more: int = 0


@dataclass(frozen=True, slots=True)
class ActuationFailed:
    """The door did not do what it was told: ``action`` is ``unlock`` or ``lock``, ``reason`` why."""

    action: str
    reason: str
    trip: int


@dataclass(frozen=True, slots=True)
class ChargingChanged:
    """The car began or ceased to charge, or is full."""

    state: str
    soc_pct: float | None


@dataclass(frozen=True, slots=True)
class Alert:
    """Something a person should look at.

    ``kind``: ``left_open overdue plug_in_missing unbooked_movement locked_unasked time_disagrees card_copied``.
    """

    kind: str
    rental: int
    value: int = 0


@dataclass(frozen=True, slots=True)
class FaultChanged:
    """A part failed or works again."""

    part: str
    active: bool
    detail: str


@dataclass(frozen=True, slots=True)
class ListAccepted:
    """A newer reservation list holds now."""

    version: int


@dataclass(frozen=True, slots=True)
class DocumentRefused:
    """A document that verified was refused for what it says."""

    kind: str
    reason: str


@dataclass(frozen=True, slots=True)
class CommsChanged:
    """The way to the cloud was lost (nothing acknowledged for a while) or is back."""

    lost: bool


@dataclass(frozen=True, slots=True)
class SupplyChanged:
    """The 12 V step changed: ``normal saving critical off``."""

    level: str
    voltage_v: float


@dataclass(frozen=True, slots=True)
class MaintenanceChanged:
    """The car was taken out of service or put back."""

    on: bool
    by: str


@dataclass(frozen=True, slots=True)
class StoreReplaced:
    """The database was damaged and kept aside; numbering starts anew under a new store id."""

    previous: bytes
    reason: str


@dataclass(frozen=True, slots=True)
class Parked:
    """Where the car stands after a rental; never written in one."""

    station: str | None
    latitude: float | None
    longitude: float | None


@dataclass(frozen=True, slots=True)
class Track:
    """A piece of the route, only where the driver agreed: ``(seconds after the trip's start, 1e-5 deg, 1e-5 deg)``."""

    rental: int
    trip: int
    points: tuple[tuple[int, int, int], ...]


@dataclass(frozen=True, slots=True)
class CardCaptured:
    """A card that nobody here knew was held to the reader, as ``capture`` had asked for: its number as on air."""

    capture: bytes
    uid: bytes = field(repr=False)


@dataclass(frozen=True, slots=True)
class ConsoleUsed:
    """What happened at the technician's console, by whom: the name that the town hall gave their PIN, or a card's mark.

    ``action``: ``login_pin login_card login_failed locked_out logout door_test reboot acceptance files``.
    """

    action: str
    by: str
    detail: str = ""


Recordable = (
    Booted
    | TripStarted
    | DoorReopened
    | EndRequested
    | TripEnded
    | RentalEnded
    | AccessDenied
    | ActuationFailed
    | ChargingChanged
    | Alert
    | FaultChanged
    | ListAccepted
    | DocumentRefused
    | CommsChanged
    | SupplyChanged
    | MaintenanceChanged
    | StoreReplaced
    | Parked
    | Track
    | CardCaptured
    | ConsoleUsed
)
"""Closed union of everything that is written down."""

EXPENDABLE: tuple[type[Recordable], ...] = (Track, AccessDenied, SupplyChanged)
"""Kinds that make room, oldest first, when the store is full: a trip always wins over old positions."""
