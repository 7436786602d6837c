"""What the endpoint answers and accepts over HTTP. Times ``*_s`` are Unix seconds (UTC); units stand last in names."""

from __future__ import annotations

from typing import Annotated, Any, Final, Literal, Self

from pydantic import AfterValidator, BaseModel, ConfigDict, Field, StringConstraints, model_validator

from onboard.core.cards import number_fault, shown_number, typed_number
from onboard.core.grants import BookingKind

VehicleId = Annotated[str, StringConstraints(pattern=r"^[a-z0-9-]{1,32}$")]
StationId = Annotated[str, StringConstraints(pattern=r"^[a-z0-9-]{1,32}$")]
PhoneKey = Annotated[str, StringConstraints(pattern=r"^0[23][0-9a-f]{64}$")]
PassId = Annotated[str, StringConstraints(pattern=r"^[0-9a-f]{16}$")]
Second = Annotated[int, Field(ge=0, le=2**40)]
Cents = Annotated[int, Field(ge=0, le=100_000)]

Answers = dict[int | str, dict[str, Any]]
BOOKING_MAX_S: Final = 30 * 86_400


class Strict(BaseModel):
    """No conversion between types, no unknown field."""

    model_config = ConfigDict(strict=True, extra="forbid", frozen=True)


class Refusal(Strict):
    """Why a request was refused: a sentence, or for a wrong request each fault with its place (``loc``, ``msg``)."""

    detail: str | list[dict[str, Any]]


REFUSED: Final[Answers] = {"4XX": {"model": Refusal, "description": "Refused"}}
"""What every route may answer besides what it is for."""
AWAY: Final[Answers] = {503: {"model": Refusal, "description": "Broker or database is away: try again later"}}


class Health(Strict):
    """``ok``: the database answers."""

    ok: bool
    broker_connected: bool


class Place(Strict):
    """Where a car was, and how that is known: ``parked`` or ``track``."""

    latitude: float
    longitude: float
    at_s: float
    source: str


class BoxHealth(Strict):
    """How the computer in a car was. ``running_s``: since its daemon started; MB are 10^6 bytes."""

    disk_free_mb: int
    store_mb: int
    running_s: float
    temperature_c: float | None = None
    certificate_end_s: int | None = None


class Vehicle(Strict):
    """A car as its box last told. ``None``: not known."""

    id: str
    state: str
    """MDS 2.0: ``available reserved stopped on_trip non_operational``, or ``non_contactable``: never heard of."""
    soc_pct: float | None = None
    range_m: int | None = None
    charging: str = "unknown"
    door: str = "unknown"
    supply_v: float | None = None
    health: BoxHealth | None = None
    faults: list[str] = []
    position: Place | None = None
    since_s: float | None = None
    last_seen_s: float | None = None
    online: bool = False
    software: str = ""
    update: str = ""
    """What it does with the newest update, in words."""
    clock_quality: str = "unset"
    list_version: int = 0
    key_set_version: int = 0


class Trip(Strict):
    """One trip, running while ``ended_s`` is None. ``id`` is unique: vehicle, store, number."""

    id: str
    vehicle: str
    trip: int
    rental: int
    kind: str | None
    reservation: str | None
    started_s: float | None
    ended_s: float | None
    reason: str | None
    duration_s: int | None
    distance_m: int | None
    distance_source: str | None
    distance_resolution_m: int | None
    from_station: str | None
    to_station: str | None
    soc_start_pct: float | None
    soc_end_pct: float | None
    flags: list[str]


class Rental(Strict):
    """All trips of one booking, under way while ``ended_s`` is None."""

    id: str
    vehicle: str
    rental: int
    kind: str
    reservation: str
    started_s: float | None
    ended_s: float | None
    reason: str | None
    billable_s: int | None
    billable_basis: str | None
    trips: int | None
    distance_m: int | None
    station: str | None


class TimelineEvent(Strict):
    """One row of a box's log, without what names or places a person. ``id`` counts up in the order of arrival."""

    id: int
    vehicle: str
    seq: int
    kind: str
    at_s: float
    clock_quality: str
    received_s: float
    fields: dict[str, Any]


class Timeline(Strict):
    """Rows after the asked id, oldest first; ask again with ``next``."""

    events: list[TimelineEvent]
    next: int


class TrackPoint(Strict):
    """One point of a route."""

    at_s: float | None
    latitude: float
    longitude: float


class RouteTrack(Strict):
    """A trip's route, empty where the driver did not agree to one. ``trip`` None: there is no trip yet."""

    vehicle: str
    trip: int | None
    points: list[TrackPoint]


class StationInfo(Strict):
    """A place where a rental may begin and end."""

    id: StationId
    name: Annotated[str, StringConstraints(min_length=1, max_length=80)]
    latitude: Annotated[float, Field(ge=-90, le=90)]
    longitude: Annotated[float, Field(ge=-180, le=180)]
    sockets: Annotated[int, Field(ge=0, le=100)] | None = None
    """Cars that can charge there; None: not counted."""


def card_uid(text: str) -> str:
    """Check a card's number that a program sends; return it as people compare it. ValueError."""
    return shown_number(typed_number(text, surely_hexadecimal=True))


CardUid = Annotated[str, StringConstraints(max_length=60), AfterValidator(card_uid)]
"""Upper-case hexadecimal, as on air."""


class CardIn(Strict):
    """A card that may use a booking: one of the commune's (``card``, its printed number), or a number on air.

    ``uid`` is that number, ``ref`` what the car's box makes of it; either can be copied, and cars may not take them.
    """

    card: Annotated[int, Field(ge=1, lt=2**31)] | None = None
    uid: CardUid | None = None
    ref: Annotated[str, StringConstraints(pattern=r"^[0-9a-f]{16}$")] | None = None

    @model_validator(mode="after")
    def one_name(self) -> Self:
        """Refuse a card without a name, with two, or whose number can't stand for a person."""
        if sum(given is not None for given in (self.card, self.uid, self.ref)) != 1:
            raise ValueError("one of card, uid and ref is wanted")
        fault = number_fault(bytes.fromhex(self.uid)) if self.uid is not None else None
        if fault is not None:
            raise ValueError(f"{fault}: this number is not the card's own alone")
        return self


class BookingIn(Strict):
    """A booking to make."""

    vehicle: VehicleId
    start_s: Second
    end_s: Second
    pickup: StationId
    dropoff: StationId | None = None
    kind: Annotated[BookingKind, Field(strict=False)] = BookingKind.LOOP
    driver: Annotated[str, StringConstraints(pattern=r"^[0-9a-f]{16}$")] | None = None
    """Pseudonym; a random one if absent."""
    member: Annotated[int, Field(ge=1, lt=2**31)] | None = None
    """Who books: gives the pseudonym, the phones where none are named, and whether a route is kept."""
    phone_keys: Annotated[list[PhoneKey], Field(max_length=8)] = []
    cards: Annotated[list[CardIn], Field(max_length=8)] = []
    rights: Annotated[list[Literal["door", "drive"]], Field(min_length=1, max_length=2)] = ["door", "drive"]
    trace: bool = False

    @model_validator(mode="after")
    def a_window(self) -> Self:
        """Refuse an empty window, and a one-way booking without a place to go."""
        if not self.start_s < self.end_s <= self.start_s + BOOKING_MAX_S:
            raise ValueError("end_s must lie after start_s, by at most 30 days")
        if self.member is not None and (self.driver is not None or self.trace):
            raise ValueError("a member's pseudonym and trace are the member's own")
        if (self.kind is BookingKind.ONE_WAY) != (self.dropoff is not None and self.dropoff != self.pickup):
            raise ValueError("a one_way booking has another dropoff; a loop has none")
        return self


class BookingMade(Strict):
    """A booking's id, the list that holds it (or no longer does), and whether it went to the broker at once."""

    id: str
    version: int
    published: bool


class BookingChange(Strict):
    """A new end of a booking, later or earlier."""

    end_s: Second


class StaffIn(Strict):
    """A member of staff: nothing after ``not_after_s``; one in the past takes the entry back.

    ``id`` None: a new person. The same ``id`` and ``vehicle`` again replaces the entry. ``vehicle`` None: every car,
    also one added later. A card is one car's (each box knows it by another reference), so cards want a ``vehicle``.
    """

    id: Annotated[str, StringConstraints(pattern=r"^([0-9a-f]{2}){8,16}$")] | None = None
    vehicle: VehicleId | None = None
    not_after_s: Second
    phone_keys: Annotated[list[PhoneKey], Field(max_length=8)] = []
    cards: Annotated[list[CardIn], Field(max_length=8)] = []
    rights: Annotated[list[Literal["door", "drive", "service"]], Field(min_length=1, max_length=3)]

    @model_validator(mode="after")
    def a_key(self) -> Self:
        """Refuse a person who could open nothing, and a reference at every car: it is one car's."""
        if not self.phone_keys and not self.cards:
            raise ValueError("a phone key or a card is wanted")
        if self.vehicle is None and any(card.ref is not None for card in self.cards):
            raise ValueError("a ref is one car's: name the vehicle, or the card by its number")
        return self


class RevocationIn(Strict):
    """What opens nothing until ``until_s``: one of ``phone_key``, ``pass`` (its id), ``what`` (these, or a card's ref).

    ``vehicle`` None: every car, also one added later; for a ``pass`` its own car. The same again sets ``until_s`` anew;
    choose it past the end of every booking and rental that the thing could open.
    """

    what: Annotated[str, StringConstraints(pattern=r"^([0-9a-f]{16}|0[23][0-9a-f]{64})$")] | None = None
    pass_id: Annotated[PassId | None, Field(alias="pass")] = None
    phone_key: PhoneKey | None = None
    vehicle: VehicleId | None = None
    until_s: Second

    @model_validator(mode="after")
    def one_thing(self) -> Self:
        """Refuse none and two."""
        if sum(given is not None for given in (self.what, self.pass_id, self.phone_key)) != 1:
            raise ValueError("one of what, pass and phone_key is wanted")
        return self


class ListMade(Strict):
    """A car's new list, and whether it went to the broker at once; else at the next connection, or by a phone."""

    vehicle: str
    version: int
    published: bool


class GrantMade(Strict):
    """What was given or taken back (hexadecimal), and the lists that say so: one for each car that it concerns."""

    id: str
    lists: list[ListMade]


class Booking(Strict):
    """A booking as it stands; nothing that opens a car."""

    id: str
    vehicle: str
    start_s: int
    end_s: int
    pickup: str
    dropoff: str | None
    kind: str
    rights: list[str]
    trace: bool
    cancelled_s: int | None


class Alarm(Strict):
    """Something a person must look at."""

    id: int
    vehicle: str
    kind: str
    at_s: float
    seq: int
    detail: str


class EndpointStatus(Strict):
    """How the endpoint itself is."""

    broker_connected: bool
    trouble: str
    counts: dict[str, int]
    refused: dict[str, int]
    carrier: dict[str, int]
    alarms: list[Alarm]
    now_s: float
