"""The commune: its clock is right, and what it signs is what it knows then. Lists and passes stay in the world."""

from __future__ import annotations

from dataclasses import dataclass, field, replace
from typing import Final

from onboard.core.grants import (
    Assurance,
    BookingKind,
    CardGrant,
    Pass,
    Reservation,
    ReservationList,
    Revocation,
    Rights,
    StaffGrant,
)
from sim.clocks.story import DAY_S, Story

CAR: Final = "hede-1"
GRACE_S: Final = 900
"""A pass outlives its booking's end by this (``docs/protocol.md`` section 3)."""
CARDS: Final = (b"anna----", b"bert----")
KEYS: Final = tuple(b"\2" + card * 4 for card in CARDS)
STAFF_CARD: Final = b"staff---"
STAFF_ID: Final = b"staff-id"
_CARD_GRANTS: Final = tuple((CardGrant(card, Assurance.UID),) for card in CARDS)
_RIGHTS: Final = Rights.DOOR | Rights.DRIVE


@dataclass(slots=True)
class Commune:
    """What the commune knows, and everything that it ever signed. Times are Unix seconds."""

    horizon_s: int
    bookings: dict[int, Reservation]
    staff: StaffGrant | None
    lists: list[ReservationList] = field(default_factory=list)
    passes: list[Pass] = field(default_factory=list)
    revoked: list[Revocation] = field(default_factory=list)
    stale: bool = True
    """Something has changed since the newest list."""

    @classmethod
    def of(cls, story: Story, origin_s: int) -> Commune:
        """Return the commune that a story begins with."""
        bookings = {
            number: Reservation(
                id=b"booking-%08d" % number,
                start_s=origin_s + window.start_s,
                end_s=origin_s + window.end_s,
                pickup="bazouges",
                dropoff="hede",
                kind=BookingKind.ONE_WAY,
                driver=CARDS[window.person],
                phone_keys=(KEYS[window.person],),
                cards=_CARD_GRANTS[window.person],
                rights=_RIGHTS,
                trace=False,
            )
            for number, window in enumerate(story.windows)
        }
        cards = (CardGrant(STAFF_CARD, Assurance.UID),)
        staff = StaffGrant(STAFF_ID, origin_s + story.staff_until_s, (), cards, Rights.DOOR | Rights.SERVICE)
        return cls(story.horizon_s, bookings, staff)

    def list(self, now_s: int) -> ReservationList:
        """Return the newest list, made anew if something has changed or it is a day old."""
        if self.stale or now_s - self.lists[-1].issued_at_s > DAY_S:
            horizon_s = now_s + self.horizon_s
            self.lists.append(
                ReservationList(
                    CAR,
                    max(self.lists[-1].version + 1 if self.lists else 1, now_s),
                    now_s,
                    horizon_s,
                    tuple(b for b in self.bookings.values() if b.end_s > now_s - DAY_S and b.start_s < horizon_s),
                    (self.staff,) if self.staff is not None and self.staff.not_after_s >= now_s else (),
                    tuple(r for r in self.revoked if r.until_s >= now_s),
                )
            )
            self.stale = False
        return self.lists[-1]

    def fetch(self, number: int, now_s: int) -> Pass | None:
        """Make a pass of a booking for its driver's phone; None where there is nothing left to make one for."""
        booking = self.bookings.get(number)
        if booking is None or booking.end_s + GRACE_S <= now_s:
            return None
        made = Pass(
            vehicle=CAR,
            id=b"pass%04d" % len(self.passes),
            phone_key=booking.phone_keys[0],
            reservation_id=booking.id,
            start_s=booking.start_s,
            end_s=booking.end_s,
            driver=booking.driver,
            rights=booking.rights,
            issued_at_s=now_s,
            expires_s=min(now_s + int(DAY_S), booking.end_s + GRACE_S),
            made_with_version=self.list(now_s).version,
            pickup=booking.pickup,
            dropoff=booking.dropoff,
        )
        self.passes.append(made)
        return made

    def change(self, how: str, number: int, by_s: int, now_s: int) -> None:
        """Take something back or change it, and make the list that says so."""
        self.stale = True
        if how == "staff out":
            self.staff = None
        elif how in ("lost card", "lost phone"):
            what = (CARDS if how == "lost card" else KEYS)[number % 2]
            self.revoked.append(Revocation(what, now_s + abs(by_s)))
        elif number in self.bookings:
            self._rebook(how, number, by_s, now_s)
        self.list(now_s)

    def _rebook(self, how: str, number: int, by_s: int, now_s: int) -> None:
        booking = self.bookings[number]
        if how == "cancel":
            del self.bookings[number]
            if booking.start_s >= now_s + self.horizon_s:
                # The list's silence about what lies beyond its horizon cancels nothing: its passes are named.
                mine = [p for p in self.passes if p.reservation_id == booking.id]
                self.revoked += [Revocation(p.id, p.expires_s) for p in mine]
        elif how == "move":
            start_s = max(now_s, booking.start_s + by_s)
            self.bookings[number] = replace(booking, start_s=start_s, end_s=start_s + booking.end_s - booking.start_s)
        elif how == "cut":
            self.bookings[number] = replace(booking, end_s=max(booking.start_s + 60, booking.end_s - abs(by_s)))
        else:
            self.bookings[number] = replace(booking, end_s=booking.end_s + abs(by_s))
