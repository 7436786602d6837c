"""Who may do what, as the commune signed it: the reservation list and the pass (``docs/protocol.md`` section 3).

Plain data; ``access`` decides with it, ``cloud_sync.documents`` reads and writes it. All times are Unix seconds (UTC).
"""

from __future__ import annotations

from dataclasses import dataclass, field
from enum import IntFlag, StrEnum

VISIT_S = 3600
"""A door test from the console that lasts longer is told of, like any visit that outlasts its time."""


class Assurance(StrEnum):
    """How a card proves itself: by its number alone, or by mutual authentication with a key of its own."""

    UID = "uid"
    MUTUAL = "mutual"


class BookingKind(StrEnum):
    """A loop ends where it began; a one-way booking ends at another station."""

    LOOP = "loop"
    ONE_WAY = "one_way"


class Rights(IntFlag):
    """What a grant allows. ``DOOR`` opens and locks; ``DRIVE`` starts a rental; ``SERVICE`` is a member of staff's."""

    NONE = 0
    DOOR = 1
    DRIVE = 2
    SERVICE = 4


@dataclass(frozen=True, slots=True)
class CardGrant:
    """A card that may use a booking: ``ref`` = first 8 bytes of HMAC-SHA256(box key, UID).

    Only for mutual: ``key``, which the card must prove, and ``slot``, its number on the card (1 to 13, this car's).
    """

    ref: bytes
    assurance: Assurance
    key: bytes | None = field(default=None, repr=False)
    slot: int | None = None


@dataclass(frozen=True, slots=True)
class Reservation:
    """One booking of this car. ``pickup`` and ``dropoff`` are station ids; ``driver`` an 8-byte pseudonym."""

    id: bytes
    start_s: int
    end_s: int
    pickup: str
    dropoff: str | None
    kind: BookingKind
    driver: bytes
    phone_keys: tuple[bytes, ...]
    cards: tuple[CardGrant, ...]
    rights: Rights
    trace: bool

    @property
    def return_station(self) -> str:
        """Station at which a lock ends the rental."""
        return self.dropoff or self.pickup


@dataclass(frozen=True, slots=True)
class StaffGrant:
    """A member of staff: nothing after ``not_after_s``."""

    id: bytes
    not_after_s: int
    phone_keys: tuple[bytes, ...]
    cards: tuple[CardGrant, ...]
    rights: Rights


@dataclass(frozen=True, slots=True)
class Revocation:
    """A phone key (33 bytes), card reference or pass id (8 bytes) that opens nothing, kept until ``until_s``."""

    what: bytes
    until_s: int


@dataclass(frozen=True, slots=True)
class ReservationList:
    """A full snapshot of one car's bookings. ``version`` only grows; nothing new starts after ``horizon_end_s``."""

    vehicle: str
    version: int
    issued_at_s: int
    horizon_end_s: int
    reservations: tuple[Reservation, ...] = ()
    staff: tuple[StaffGrant, ...] = ()
    revoked: tuple[Revocation, ...] = ()


@dataclass(frozen=True, slots=True)
class Pass:
    """A booking in a phone: signed by the commune, bound to one car and one phone key.

    ``made_with_version`` is the list version of the transaction that made it (claim ``g``): above the list's version it
    stands in for the list's entry, at or below it says nothing that the list doesn't.
    """

    vehicle: str
    id: bytes
    phone_key: bytes
    reservation_id: bytes
    start_s: int
    end_s: int
    driver: bytes
    rights: Rights
    issued_at_s: int
    expires_s: int
    made_with_version: int
    pickup: str
    dropoff: str | None
