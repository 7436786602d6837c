"""What can happen to the core: a closed union of frozen events. An invalid one cannot be built.

Every way in (card, phone, cloud, console, simulator) becomes one of these. ``*_s`` fields named ``sampled_s`` or
``at_s`` are readings of the boot-time clock; everything else in ``_s`` is a duration or Unix seconds, as said.
"""

from __future__ import annotations

from dataclasses import dataclass, field
from enum import StrEnum

from onboard.core.clock import Anchor
from onboard.core.grants import Assurance, Pass, ReservationList


class Intent(StrEnum):
    """What a person wants. ``TAP`` is a card's only word: the state says what it means.

    ``CAPTURE``: take the number of the next card that nobody here knows, for the town hall to enrol.
    """

    TAP = "tap"
    UNLOCK = "unlock"
    LOCK = "lock"
    FINISH = "finish"
    CAPTURE = "capture"


class BusState(StrEnum):
    """The car's CAN bus: talking; silent without an error; in error, down or gone."""

    AWAKE = "awake"
    ASLEEP = "asleep"
    FAULT = "fault"


class Charging(StrEnum):
    """The AMI never reports its plug, only what its battery does."""

    CHARGING = "charging"
    FULL = "full"
    NOT_CHARGING = "not_charging"
    UNKNOWN = "unknown"


class Signal(StrEnum):
    """Vehicle signals by their COVESA VSS 6.0 names. Units: ``hw.can_model`` converts to these."""

    SPEED = "Vehicle.Speed"
    """m/s (VSS has km/h: the core keeps SI)."""
    DISTANCE = "Vehicle.TraveledDistance"
    """m, as in VSS 6.0."""
    SOC = "Vehicle.Powertrain.TractionBattery.StateOfCharge.Displayed"
    """%."""
    RANGE = "Vehicle.Powertrain.TractionBattery.Range"
    """m."""
    CURRENT = "Vehicle.Powertrain.TractionBattery.CurrentCurrent"
    """A, positive into the battery."""
    VOLTAGE = "Vehicle.Powertrain.TractionBattery.CurrentVoltage"
    """V."""
    TEMPERATURE = "Vehicle.Powertrain.TractionBattery.Temperature.Average"
    """Degrees Celsius."""
    GEAR = "Vehicle.Powertrain.Transmission.CurrentGear"
    """-1 reverse, 0 neutral or park, 1 drive."""
    READY = "Vehicle.LowVoltageSystemState"
    """1 = ready to drive (ON), 0 = not."""
    PARK_BRAKE = "Vehicle.Chassis.ParkingBrake.IsEngaged"
    """1 = on."""
    CHARGE_TIME = "Vehicle.Powertrain.TractionBattery.Charging.TimeToComplete"
    """s."""


class ActuationOutcome(StrEnum):
    """What became of a pulse. ``REFUSED``: the interlock, nothing moved. ``FAILED``: it may have moved."""

    DONE = "done"
    REFUSED = "refused"
    FAILED = "failed"


@dataclass(frozen=True, slots=True)
class Reading:
    """One signal's value in the unit of its ``Signal``; older than ``max_age_s`` it is stale and decides nothing."""

    value: float
    sampled_s: float
    max_age_s: float

    def fresh(self, now_s: float) -> bool:
        """Tell whether the value may still be acted upon at boot time ``now_s``."""
        return 0 <= now_s - self.sampled_s <= self.max_age_s


@dataclass(frozen=True, slots=True)
class Position:
    """A fix that passed the receiver's gates: degrees WGS 84, speed over ground, ``mode`` 2 or 3."""

    latitude: float
    longitude: float
    speed_mps: float | None
    mode: int
    hdop: float | None
    sampled_s: float

    def __post_init__(self) -> None:
        """Raise ValueError for a place that is not on Earth."""
        if not (-90 <= self.latitude <= 90 and -180 <= self.longitude <= 180 and self.mode in (2, 3)):
            raise ValueError(f"no position: {self.latitude}, {self.longitude}, mode {self.mode}")


@dataclass(frozen=True, slots=True)
class CardCredential:
    """A card at the reader: its keyed reference and what it proved.

    ``uid``: its number as on air, only while a capture waits for one.
    """

    ref: bytes
    assurance: Assurance
    uid: bytes = field(default=b"", repr=False)


@dataclass(frozen=True, slots=True)
class PhoneCredential:
    """A phone that proved its key in this conversation, with the pass it brought, if any."""

    key: bytes
    grant: Pass | None
    command_id: bytes


@dataclass(frozen=True, slots=True)
class RemoteCredential:
    """A signed command from the cloud, acting as a booking's driver or a member of staff (``subject`` = its id).

    Counts once (``counter`` rises within ``boot_epoch``) and only until ``not_after_s`` of this boot's clock.
    """

    subject: bytes
    command_id: bytes
    boot_epoch: bytes
    counter: int
    not_after_s: float


@dataclass(frozen=True, slots=True)
class ConsoleCredential:
    """A technician who logged in at the box's own console. ``subject``: 16 bytes that stand for them in records."""

    subject: bytes


Credential = CardCredential | PhoneCredential | RemoteCredential | ConsoleCredential


@dataclass(frozen=True, slots=True)
class Started:
    """First event after ``load``: this boot begins. ``boot_epoch`` is 8 random bytes."""

    boot_epoch: bytes
    software: str
    replaced_store: bytes | None = None
    replaced_reason: str = ""


@dataclass(frozen=True, slots=True)
class AccessRequested:
    """A person wants in, out, or done. ``request`` comes back in ``Reply`` (0: nobody waits for one).

    ``asked_s``: boot time when they asked; None for who has no time to lose.
    """

    credential: Credential
    intent: Intent
    request: int = 0
    asked_s: float | None = field(default=None, compare=False)


@dataclass(frozen=True, slots=True)
class KeySetTaken:
    """A newer key set holds. A pass seen before may be signed with a key that is taken back."""


@dataclass(frozen=True, slots=True)
class CardsRefused:
    """No single usable card: ``two_cards``, ``random_uid``, ``unreadable``, ``left_early`` or ``too_slow``."""

    reason: str


@dataclass(frozen=True, slots=True)
class PhoneRefused:
    """A phone was turned away before it could ask for anything; ``reason`` is a word such as ``wrong_vehicle``."""

    reason: str


@dataclass(frozen=True, slots=True)
class LockButtonPressed:
    """The button inside: lock when I am out and the door is shut."""


@dataclass(frozen=True, slots=True)
class DoorReported:
    """The contacts, read at boot time ``sampled_s``. ``None``: that contact doesn't exist or can't be read."""

    locked: bool | None
    driver_open: bool | None
    passenger_open: bool | None
    sampled_s: float
    key_in_place: bool | None = None
    """Whether the key of the motor hangs in its holder."""


@dataclass(frozen=True, slots=True)
class ActuationSettled:
    """A pulse is over, or was not given. ``at_s``: boot time at its end."""

    actuation: int
    outcome: ActuationOutcome
    reason: str
    at_s: float


@dataclass(frozen=True, slots=True)
class SignalsReported:
    """The newest readings of the car's bus; a signal missing here keeps its last."""

    readings: tuple[tuple[Signal, Reading], ...]
    odometer_resolution_m: int = 1


@dataclass(frozen=True, slots=True)
class BusReported:
    """The bus fell asleep, woke up or failed, at boot time ``since_s``."""

    bus: BusState
    since_s: float


@dataclass(frozen=True, slots=True)
class ChargingReported:
    """The model's charging rule, debounced."""

    charging: Charging


@dataclass(frozen=True, slots=True)
class PositionReported:
    """A fix."""

    position: Position


@dataclass(frozen=True, slots=True)
class TimeHeard:
    """A source gave a time: a receiver (``GNSS``) or a verified time proof (``AUTHENTICATED``)."""

    heard: Anchor


@dataclass(frozen=True, slots=True)
class ListReceived:
    """A reservation list whose seal and signature hold, for this vehicle."""

    listed: ReservationList


@dataclass(frozen=True, slots=True)
class AckReceived:
    """The cloud committed everything up to ``up_to_seq``; the digest was compared with our own row."""

    store_id: bytes
    up_to_seq: int


@dataclass(frozen=True, slots=True)
class ResendRequested:
    """The cloud was restored and wants rows again, from ``from_seq``."""

    store_id: bytes
    from_seq: int


@dataclass(frozen=True, slots=True)
class LinkReported:
    """The carrier to the cloud connected or disconnected. Proves nothing about what arrived."""

    connected: bool


@dataclass(frozen=True, slots=True)
class SupplyReported:
    """The 12 V battery's voltage, as measured: whether it can be one is the core's to judge."""

    voltage_v: float
    sampled_s: float


@dataclass(frozen=True, slots=True)
class FaultReported:
    """A part failed (``active``) or works again. ``part`` is an adapter's name, ``detail`` for a technician."""

    part: str
    active: bool
    detail: str = ""


@dataclass(frozen=True, slots=True)
class MaintenanceRequested:
    """A technician or the town hall takes the car out of service or puts it back."""

    on: bool
    by: str


@dataclass(frozen=True, slots=True)
class ConsoleReported:
    """Something happened at the technician's console that is to be written down: see ``records.ConsoleUsed``."""

    action: str
    by: str
    detail: str = ""


@dataclass(frozen=True, slots=True)
class CardWanted:
    """The console waits for the next card until this boot time; ``Reply`` to ``request`` says what it was.

    ``login``: whose it is, if a member of staff's who may open now; else: its kind. Nothing opens by it.
    """

    request: int
    until_s: float
    login: bool


@dataclass(frozen=True, slots=True)
class SyncRequested:
    """A technician wants everything that waits sent now, from the last acknowledgement on."""


@dataclass(frozen=True, slots=True)
class DeadlineReached:
    """The moment that ``next_deadline`` named has come."""


Event = (
    Started
    | AccessRequested
    | KeySetTaken
    | CardsRefused
    | PhoneRefused
    | LockButtonPressed
    | DoorReported
    | ActuationSettled
    | SignalsReported
    | BusReported
    | ChargingReported
    | PositionReported
    | TimeHeard
    | ListReceived
    | AckReceived
    | ResendRequested
    | LinkReported
    | SupplyReported
    | FaultReported
    | MaintenanceRequested
    | ConsoleReported
    | CardWanted
    | SyncRequested
    | DeadlineReached
)
"""Closed union of everything that can happen."""
