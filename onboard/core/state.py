"""The whole state of the core: ``Kept`` survives a power cut, the rest is learned anew after a boot."""

from __future__ import annotations

from dataclasses import dataclass, field

from onboard.core.clock import Anchor, ClockQuality, Instant, Span
from onboard.core.commands import Action, Loads, SupplyLevel
from onboard.core.events import BusState, CardWanted, Charging, DoorReported, Position, Reading, Signal
from onboard.core.grants import Pass, Reservation, ReservationList
from onboard.core.policy import Policy
from onboard.core.records import RentalKind

_BEGINNING = Instant(0.0, 0.0, ClockQuality.UNSET)


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
    gnss_seen: bool = False
    speed_seen: bool = False


@dataclass(frozen=True, slots=True)
class EndRequest:
    """A lock that was asked for and committed in the boot ``epoch``.

    Where power fails before anything confirms it, what is billed ends here.
    """

    by: str
    finish: bool
    at: Instant
    epoch: bytes = b""


@dataclass(frozen=True, slots=True)
class Trip:
    """From a granted unlock to a confirmed lock."""

    number: int
    span: Span
    meter: Meter
    opened: bool = False
    """A report after the unlock said unlocked, or a door open: somebody got in."""
    end: EndRequest | None = None


@dataclass(frozen=True, slots=True)
class Rental:
    """All trips of one booking. The booking is copied: a newer list may drop it, its driver must still get in."""

    number: int
    kind: RentalKind
    booking: Reservation
    span: Span
    trip: Trip | None
    trips: int = 1
    distance_m: int = 0
    billable_s: float = 0.0
    """First unlock to last confirmed lock."""
    billable_basis: str = "boot"
    overdue_told: bool = False
    """Told that it outlasts its booking; or, for a re-opening, that it is driven away."""
    used_s: float = 0.0
    """How long it had lasted when its car was last known to be used, as of the last save: what an abandoned one is
    billed to where nobody has seen it since a power cut."""


@dataclass(frozen=True, slots=True)
class Answered:
    """A command of a phone or of the cloud, and what came of it: asked again, it hears this and nothing moves."""

    who: bytes
    command_id: bytes
    intent: str
    status: str
    reason: str
    since: Span
    actuation: int = 0
    """The first pulse that was given for it: what becomes of that is what became of the command."""


@dataclass(frozen=True, slots=True)
class Grants:
    """What the commune signed, and what must never count twice."""

    listed: ReservationList | None = None
    version_floor: int = 0
    passes: tuple[Pass, ...] = ()
    command_counter: int = 0
    command_epoch: bytes = b""
    answered: tuple[Answered, ...] = ()
    """Oldest first."""


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
    ended: tuple[bytes, ...] = ()
    """Bookings whose rental is over, newest last: they open nothing again."""
    odometer_m: int | None = None
    """Reading at the last trip's end, to notice unbooked movement."""
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
    first: int = 0
    """Number of the first try."""


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
    touched_s: float = 0.0
    """Boot time at which the door was last moved or asked by its driver, or the car driven."""
    left_open_told: bool = False
    unasked_told: bool = False
    """A lock that nobody asked for was told since the last pulse."""
    locks_unconfirmed: int = 0
    """So many locks in a row were given up with no word from the contact: it, or the latch, does not work."""
    look_for_key: bool = False
    """A rental ended, and no report has said since whether the key of the motor is in its place."""


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
    track_origin: Position | None = None
    """Last fix that counted for the distance by GNSS."""


@dataclass(frozen=True, slots=True)
class LastDriver:
    """Who may open once more for the cable. Lives in memory: a reboot closes it."""

    booking: Reservation
    ended_s: float
    used: bool = False


@dataclass(frozen=True, slots=True)
class Sending:
    """What is on its way; unproven until acknowledged."""

    connected: bool = False
    acked_seq: int = 0
    """Ahead of ``Outbox.acked_seq``, which is written with the next commit: a lost acknowledgement only costs bytes."""
    sent_seq: int = 0
    batches: tuple[int, ...] = ()
    """Last number of each batch that is on its way."""
    resend_at_s: float | None = None
    attempts: int = 0
    status_at_s: float = 0.0
    status_sent_s: float = float("-inf")
    heard_at_s: float = 0.0
    """Boot time when the commune last answered something that this boot said; or of the boot's begin."""
    heard_seq: int = 0
    """The highest row whose acknowledgement was such an answer: an older one may have been kept by who carries it."""
    waiting_since_s: float | None = None
    """Boot time since when something waits for the commune, or there is no link; None while nothing does."""
    lost_told: bool = False


@dataclass(frozen=True, slots=True)
class Supply:
    """The 12 V step in force, the one that is about to be, and what is switched on."""

    level: SupplyLevel = SupplyLevel.NORMAL
    voltage_v: float | None = None
    """None: never measured, or too long ago."""
    sampled_s: float | None = None
    """Boot time of the last believable measurement; None with ``voltage_v``."""
    pending: SupplyLevel | None = None
    pending_since_s: float = 0.0
    loads: Loads = field(default_factory=Loads)
    used_s: float = 0.0
    """Boot time at which the car was last in use."""
    modem_off_s: float | None = None
    """Boot time since which the modem is off; None while it is on."""
    average_v: float | None = None
    rest: tuple[float, float] | None = None
    """When the parked car's battery had settled, and its average then: what it falls from."""
    off_asked_s: float | None = None
    """Boot time at which the box was last asked to switch itself off."""


@dataclass(frozen=True, slots=True)
class Capture:
    """The command that waits for an unknown card, until this boot time. Lives in memory: a reboot closes it."""

    id: bytes
    until_s: float


@dataclass(frozen=True, slots=True)
class Share:
    """What this hour wrote of a chatty kind of record: beyond the bound it is counted, not written."""

    hour_from_s: float = 0.0
    written: int = 0
    counted: int = 0


@dataclass(frozen=True, slots=True)
class State:
    """Everything ``step`` knows."""

    kept: Kept
    policy: Policy
    at: Instant = _BEGINNING
    """The last step's ``now``: what ``next_deadline`` reckons from."""
    boot_epoch: bytes = b""
    software: str = ""
    anchor: Anchor | None = None
    doors: Doors = Doors()
    vehicle: Vehicle = field(default_factory=Vehicle)
    last_driver: LastDriver | None = None
    capture: Capture | None = None
    card_wanted: CardWanted | None = None
    """The console waits for a card. Lives in memory, until its time."""
    sending: Sending = Sending()
    supply: Supply = field(default_factory=Supply)
    denied: tuple[Answered, ...] = ()
    """Commands that were refused in this boot, oldest first. Not kept: a refusal moved nothing, and whoever asks for
    one shall not have the disk written."""
    began_s: float = 0.0
    """Boot time at which the daemon began."""
    purged_s: float = float("-inf")
    """When what is not needed any more was last looked for."""
    copy_told_s: float = float("-inf")
    """When a card that did not prove itself was last told of."""
    refusals: Share = Share()
    fault_changes: Share = Share()
    faults: tuple[tuple[str, str], ...] = ()
    plug_in_by_s: float | None = None
    meter: Meter = Meter()
    """The running trip's, ahead of the kept one by ``progress_every_s`` at most."""
    progress_at_s: float | None = None
    locked_s: float | None = None
    """Boot time of the last confirmed lock of this boot: a second tap soon after means done."""
    track: tuple[tuple[int, int, int], ...] = ()
    track_at_s: float | None = None
