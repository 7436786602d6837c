"""What must hold in a history of clocks, written without the core's clock.

It knows true time, the papers that the box has, and what the documents promise (``docs/protocol.md`` section 6,
``docs/decisions.md`` Clock). What a new start rests on, and when it is wrong:

1.  A time proof in this run of the box: the right must hold at true time. Nothing from the sky changes that.
2.  The sky alone: nobody signs it, so a start may be wrong by as much as the sky was wrong, and no more. The right must
    hold at some time that is so near to the true one and not below the floor: what is over by a signed time stays over.
3.  A sky that contradicted itself has to keep one story for a quarter of an hour first.
4.  Neither: only with the commune's ``unproven_start``, only by the list, and written down as unproven. What is over by
    a signed time stays over, and what a real-time clock says must allow it.

A right is an entry of the newest list that the box took, or a pass newer than that list, until a list as new comes.
Assumed: the commune's clock is right, the boot-time clock drifts by 100 ppm at most, and a proof comes with the age of
its nonce (``onboard/mail.py`` refuses others).
"""

from __future__ import annotations

from collections import Counter
from dataclasses import dataclass
from typing import Final, NamedTuple

from onboard.core.clock import Instant
from onboard.core.grants import Pass, ReservationList
from onboard.core.records import RentalEnded, RentalEndReason, RentalKind, TripStarted
from sim.clocks.heard import EDGE_S, PPM, Heard
from sim.world.tale import Broken

NOT_THE_CLOCK: Final = frozenset(
    ("in_use", "not_open", "moving", "busy", "door_unknown", "rental_over", "command_too_old", "command_replayed")
)
"""Refusals that have other reasons than what time it is believed to be."""
INF: Final = float("inf")


class Right(NamedTuple):
    """What a paper that the box has allows: to whoever has one of ``names``, from ``start_s`` to ``last_s``.

    ``kind``: ``list``, ``pass``, ``staff``; ``changed`` is a listed booking under a newer pass' times. ``marks``: what
    a revocation may name beside the credential.
    """

    booking: bytes
    names: frozenset[bytes]
    start_s: float
    last_s: float
    version: int
    kind: str
    marks: frozenset[bytes] = frozenset()


@dataclass(frozen=True, slots=True)
class Asker:
    """Who asks: what their credential shows, and what a revocation may name."""

    names: frozenset[bytes]
    marks: frozenset[bytes]
    stale: bool = False
    """A remote command of another boot, past its time, or one that came before."""


class Judge:
    """Holds one history against the rules; raises ``Broken``. Times are true Unix seconds unless they say ``boot``."""

    def __init__(
        self, build_s: float, *, early_s: float, grace_s: float, reopen_s: float, unproven_start: bool
    ) -> None:
        self.heard = Heard(build_s)
        self.counts: Counter[str] = Counter()
        self._early_s, self._grace_s, self._reopen_s = early_s, grace_s, reopen_s
        self._unproven_start = unproven_start
        self._listed: ReservationList | None = None
        self._passes: list[Pass] = []
        self._rights: list[Right] | None = None
        self._ended: set[bytes] = set()
        self._running: TripStarted | None = None
        self._drivers: frozenset[bytes] = frozenset()
        """What names the running rental's driver since its start."""
        self._off_s = 0.0
        """How far the running rental's first time may have been from the true one, ``_began_s``."""
        self._began_s = 0.0
        self._last_end: tuple[bytes, float] | None = None
        """The last driver's booking and the boot time of its end, in this run."""

    # What the box was given

    def began(self) -> None:
        """The box starts: all it knew by heart is gone."""
        self.heard.began()
        self._last_end = None

    def list_given(self, listed: ReservationList) -> None:
        """A list came, which may be an old one."""
        if self._listed is None or listed.version > self._listed.version:
            self._listed, self._rights = listed, None
            self._passes = [p for p in self._passes if self._newer(p)]
            self.heard.signed(listed.issued_at_s)

    def pass_given(self, shown: Pass) -> None:
        """A phone showed a pass."""
        if self._newer(shown) and shown not in self._passes:
            self._passes.append(shown)
            self._rights = None
            self.heard.signed(shown.issued_at_s)

    def _newer(self, shown: Pass) -> bool:
        listed = self._listed
        if listed is None or shown.made_with_version > listed.version:
            return True
        return shown.start_s >= listed.horizon_end_s and all(b.id != shown.reservation_id for b in listed.reservations)

    # What the papers allow

    def rights(self) -> list[Right]:
        """Return what the box's papers allow, whenever."""
        if self._rights is None:
            self._rights = list(self._read())
        return self._rights

    def _read(self) -> list[Right]:
        listed, found = self._listed, []
        newest = {p.reservation_id: p for p in sorted(self._passes, key=lambda p: (p.made_with_version, p.expires_s))}
        entries = {b.id: b for b in listed.reservations} if listed is not None else {}
        names = {b.id: frozenset((b.id, *b.phone_keys, *(c.ref for c in b.cards))) for b in entries.values()}
        for entry in entries.values():
            terms = newest.get(entry.id)
            kind, version = ("list", self._version) if terms is None else ("changed", terms.made_with_version)
            times = entry if terms is None else terms
            last_s = min(times.end_s, listed.horizon_end_s if listed is not None else INF)
            found.append(Right(entry.id, names[entry.id], times.start_s, last_s, version, kind))
        for shown in self._passes:
            terms = newest[shown.reservation_id]
            mine = names.get(terms.reservation_id, frozenset()) | {terms.reservation_id, shown.phone_key}
            last_s = min(terms.end_s, shown.expires_s)
            marks = frozenset((shown.id,))
            found.append(
                Right(terms.reservation_id, mine, terms.start_s, last_s, terms.made_with_version, "pass", marks)
            )
        for person in listed.staff if listed is not None else ():
            whose = frozenset((person.id, *person.phone_keys, *(c.ref for c in person.cards)))
            found.append(Right(person.id, whose, -INF, person.not_after_s, self._version, "staff"))
        return found

    @property
    def _version(self) -> int:
        return self._listed.version if self._listed is not None else 0

    def _taken_back_s(self, right: Right, asker: Asker) -> float:
        """Return until when a list takes back what this person shows, or the right itself."""
        marks = asker.marks | right.marks
        return max((r.until_s for r in self._listed.revoked if r.what in marks), default=-INF) if self._listed else -INF

    def _others(self, right: Right, from_s: float, to_s: float) -> list[Right]:
        """Return other bookings that somebody may start in this time."""
        return [
            other
            for other in self.rights()
            if other.kind != "staff"
            and other.booking not in (right.booking, *self._ended)
            and other.start_s <= to_s
            and from_s <= other.last_s
        ]

    def _holds(self, right: Right, asker: Asker, from_s: float, to_s: float) -> bool:
        """Tell whether a right holds all this time, and nobody else's booking stands in its way."""
        if not (right.start_s - self._early_s <= from_s and to_s <= right.last_s):
            return False
        if right.booking in self._ended or self._taken_back_s(right, asker) >= from_s:
            return False
        if right.kind == "staff":
            return True
        others = self._others(right, from_s, to_s)
        return not any(other.version > right.version or from_s < right.start_s for other in others)

    # What the box does

    def believed(self, floor_s: float, at: Instant | None, now: Instant, true_s: float) -> None:
        """Hold the floor after a step, and the stamp of what it wrote, against what was signed and heard."""
        self.heard.floor(floor_s)
        if at is not None:
            self.heard.stamp(at, now, true_s)

    def started(self, record: TripStarted, asker: Asker, now: Instant, true_s: float) -> None:
        """A trip begins: somebody gets in."""
        running = self._running
        if running is not None and running.rental == record.rental:
            return  # its own driver's next trip: no clock is asked
        mine = [r for r in self.rights() if r.booking == record.reservation and r.names & asker.names]
        self._began_s = true_s
        reopened = record.kind is RentalKind.REOPEN
        # Once more for the same driver, named as before: a list that came in between adds no card of theirs.
        self._drivers = asker.names.union(*([self._drivers] if reopened else [r.names for r in mine]))
        self._running = record
        if asker.stale:
            raise Broken("wrong grant: a remote command of another boot, past its time, or used before")
        if reopened:
            self._reopened(record, now)
            return
        if record.reservation in self._ended:
            raise Broken("wrong grant: a booking whose rental is over")
        least_s, most_s, by = self._believable(record, now, true_s)
        if not record.proven:
            mine = [r for r in mine if r.kind in ("list", "changed", "staff")]
        if not mine:
            raise Broken("wrong grant: no paper that the box has gives that right")
        if not any(self._may_hold(right, asker, least_s, most_s) for right in mine):
            raise Broken(f"wrong grant: by {by}, {_why(mine, true_s, self._early_s)}")
        in_time = any(self._may_hold(right, asker, true_s, true_s) for right in mine)
        if by == "a time proof" or (by == "the sky" and self.heard.clean):
            self._stands_alone(mine, true_s)
            self.counts[f"starts by {by}"] += 1
        else:
            self.counts[f"starts by {by}, {'in time' if in_time else 'at a wrong time'}"] += 1
        self._off_s = 0.0 if not record.proven else self.heard.uncertain_s(now.boot_s) + self.heard.lied_s

    def _believable(self, record: TripStarted, now: Instant, true_s: float) -> tuple[float, float, str]:
        """Return from when to when the time may be taken to be by what the documents promise, and by what."""
        heard = self.heard
        if not record.proven:
            if not self._unproven_start:
                raise Broken("wrong grant: an unproven start that the commune does not allow")
            if heard.rtc_counts(now) and not heard.sky_heard:
                return now.wall_s, now.wall_s, "a real-time clock, unproven"
            return heard.signed_s, INF, "no clock, unproven"
        if heard.proven:
            return true_s - EDGE_S, true_s + EDGE_S, "a time proof"
        if not heard.sky_heard:
            raise Broken("wrong grant: called proven, and no time was heard since the start")
        if heard.doubted():
            raise Broken("wrong grant: called proven, while the sky contradicts itself")
        off_s = heard.lied_s + EDGE_S
        by = "the sky" if heard.clean else "a sky that was wrong"
        return max(heard.signed_s, true_s - off_s), true_s + off_s, by

    def _may_hold(self, right: Right, asker: Asker, least_s: float, most_s: float) -> bool:
        from_s = max(least_s, right.start_s - self._early_s, self._taken_back_s(right, asker) - EDGE_S)
        return from_s <= min(most_s, right.last_s)

    def _stands_alone(self, mine: list[Right], true_s: float) -> None:
        """Hold a start whose time is known against everybody else's windows."""
        for right in mine:
            if right.kind == "staff":
                return
            others = self._others(right, true_s, true_s)
            if not any(o.version > right.version or true_s < right.start_s - EDGE_S for o in others):
                return
        raise Broken("wrong grant: early, or by the older paper, in another's window")

    def _reopened(self, record: TripStarted, now: Instant) -> None:
        last = self._last_end
        if last is None or last[0] != record.reservation or now.boot_s - last[1] > self._reopen_s:
            raise Broken("wrong grant: opened once more after the time for it")

    def ended(self, record: RentalEnded, end_s: float, now: Instant, true_s: float) -> None:
        """A rental ends; ``end_s`` is its booking's as the box had it before, where no paper names it any more."""
        by_time = record.reason in (RentalEndReason.TIME_OVER, RentalEndReason.ABANDONED)
        if by_time and record.kind is RentalKind.BOOKING:
            end_s = self._end_s(record.reservation, end_s)
            lasted_off_s = self._off_s + PPM * (true_s - self._began_s)
            off_s = self.heard.off_s(now, true_s, by_best=self._unproven_start, began_off_s=lasted_off_s)
            if true_s + off_s + EDGE_S < end_s + self._grace_s:
                early_s = end_s + self._grace_s - true_s
                raise Broken(f"a rental was ended before its time was surely over, {early_s:.1f} s early")
            early = true_s + EDGE_S < end_s + self._grace_s
            self.counts["rentals ended by their time" + (", early by a wrong clock" if early else "")] += 1
        booked = record.kind is RentalKind.BOOKING and record.reason is not RentalEndReason.NOT_OPENED
        if booked and record.reason is not RentalEndReason.TIME_OVER:
            self._ended.add(record.reservation)
        if booked and record.reason is not RentalEndReason.ABANDONED:
            self._last_end = (record.reservation, now.boot_s)
        self._running = None

    def _end_s(self, booking: bytes, otherwise_s: float) -> float:
        """Return when a booking ends by the newest paper that names it."""
        passes = sorted(self._passes, key=lambda p: (p.made_with_version, p.expires_s))
        entries = self._listed.reservations if self._listed is not None else ()
        ends_s = [b.end_s for b in entries if b.id == booking]
        ends_s += [p.end_s for p in passes if p.reservation_id == booking]
        return ends_s[-1] if ends_s else otherwise_s

    def refused(self, reason: str, asker: Asker, now: Instant, true_s: float) -> None:
        """Somebody who asked to get in stays outside."""
        if self._running is not None or asker.stale or reason in NOT_THE_CLOCK:
            return
        mine = [r for r in self.rights() if r.names & asker.names]
        if not any(self._holds(right, asker, true_s, true_s) for right in mine):
            self.counts["rightly refused"] += 1
            return
        if self.heard.proven or self.heard.clean:
            near_s = self.heard.uncertain_s(now.boot_s)
            if any(self._holds(r, asker, true_s - near_s, true_s + near_s) for r in mine):
                raise Broken(f"a right that is beyond doubt is refused: {reason}")
        self.counts[f"wrongly refused: {reason}, {self.heard.situation()}"] += 1

    def locked_out(self, reason: str, asker: Asker) -> None:
        """The running rental's driver asked for the door, and was refused; only a revocation may do that."""
        marks = {r.what for r in self._listed.revoked} if self._listed is not None else set()
        if not asker.stale and not marks & asker.marks:
            raise Broken(f"the running rental's driver is refused: {reason}")

    def drives(self, asker: Asker) -> bool:
        """Tell whether this is the credential of the running rental's driver."""
        running = self._running
        if running is None:
            return False
        mine = [r.names for r in self.rights() if r.booking == running.reservation]
        return bool(asker.names & self._drivers.union(*mine))


def _why(mine: list[Right], true_s: float, early_s: float) -> str:
    """Say how far a start was outside of what the papers allow."""
    nearest = min(mine, key=lambda r: max(r.start_s - early_s - true_s, true_s - r.last_s))
    too_early_s, too_late_s = nearest.start_s - early_s - true_s, true_s - nearest.last_s
    if max(too_early_s, too_late_s) <= 0:
        return "though it was taken back, or not by any time the clock may show"
    side = f"{too_early_s:.3f} s too early" if too_early_s > 0 else f"{too_late_s:.3f} s too late"
    return f"{side} by true time ({nearest.kind})"
