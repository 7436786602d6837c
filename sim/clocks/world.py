"""One history, played: true time, a box's core with the clocks that it has, a commune, people, and the judge.

Every event goes through ``machine.step``; between two runs of the box only ``Kept`` is carried over, as the store does.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable
from dataclasses import dataclass, field, replace
from datetime import UTC, datetime
from itertools import count
from typing import Final

from onboard.core import machine
from onboard.core.clock import Anchor, ClockQuality, Instant, stamp
from onboard.core.commands import Action, Actuate, Record, Reply
from onboard.core.events import (
    AccessRequested,
    ActuationOutcome,
    ActuationSettled,
    CardCredential,
    ConsoleCredential,
    Credential,
    DeadlineReached,
    DoorReported,
    Event,
    Intent,
    ListReceived,
    PhoneCredential,
    RemoteCredential,
    Started,
    TimeHeard,
)
from onboard.core.grants import Assurance, Pass
from onboard.core.policy import Policy
from onboard.core.records import RentalEnded, TripStarted
from onboard.core.state import Kept, State
from sim.clocks.commune import CAR, CARDS, GRACE_S, KEYS, STAFF_CARD, Commune
from sim.clocks.judge import Asker, Judge
from sim.clocks.story import Move, Story
from sim.world.play import BUILD_S, ORIGIN_S
from sim.world.tale import Broken

POLICIES: Final = tuple(Policy(uid_cards=True, unproven_start=unproven) for unproven in (False, True))
REMOTE_S: Final = 30.0
"""How long a remote command lives, in boot time."""
PULSE_S: Final = 0.3
LATE_S: Final = 2.0
"""How wide a fix's time is (``hw/gps.py``: a second of a leap, and one of being late)."""


@dataclass(slots=True)
class Outcome:
    """What came of a history. ``broken`` is empty where every rule held."""

    story: Story
    broken: str = ""
    counts: Counter[str] = field(default_factory=Counter)
    lines: list[str] = field(default_factory=list)


def live(story: Story, *, tell: bool = False) -> Outcome:
    """Play a history."""
    world = World(story, tell=tell)
    broken = ""
    try:
        world.live()
    except Broken as error:
        broken = str(error)
    except Exception as error:  # noqa: BLE001 - whatever it is, the number replays it
        broken = f"{type(error).__name__}: {error}"
    return Outcome(story, broken, world.judge.counts, world.lines)


class World:
    """Everything of one history. ``true_s`` is true Unix time, ``boot_s`` what the box's boot-time clock reads."""

    def __init__(self, story: Story, *, tell: bool) -> None:
        self.story = story
        self.lines: list[str] = []
        self._tell = tell
        self.true_s, self.boot_s, self._ppm = ORIGIN_S, 0.0, story.drift_ppm
        self._policy = POLICIES[story.unproven_start]
        self.commune = Commune.of(story, int(ORIGIN_S))
        self.judge = Judge(
            BUILD_S,
            early_s=self._policy.early_unlock_s,
            grace_s=self._policy.grace_s,
            reopen_s=self._policy.reopen_window_s,
            unproven_start=story.unproven_start,
        )
        self.state = State(kept=Kept(CAR, BUILD_S), policy=self._policy)
        self._system = (ClockQuality.UNSET, -ORIGIN_S)
        """What the system vouches for of its wall clock, and how far that is from the true time."""
        self._sky_off_s = 0.0
        self._locked = True
        self._about = 0
        """Booking about whose edge people came last."""
        self._ids, self._boots, self._counter = count(1), 0, 0
        self._held: RemoteCredential | None = None
        """A remote command that the broker keeps for later."""
        self._heard_counter = 0
        """Highest counter of the remote commands that came."""
        self._asker = Asker(frozenset(), frozenset())
        self._moves: dict[str, Callable[[Move], None]] = {
            "list": self._list,
            "boot": self._boot,
            "system": self._set_system,
            "change": self._change,
            "fetch": self._fetch,
            "until": self._until,
            "wait": self._wait,
            "proof": self._proof,
            "sky": self._sky,
            "drag": self._drag,
            "ask": self._ask,
            "finish": self._finish,
        }

    def live(self) -> None:
        """Play every move."""
        self._start(new_boot=True)
        for move in self.story.moves:
            self._pass(0.5)
            self._moves[move.what](move)

    # Time and steps

    def _pass(self, seconds: float) -> None:
        """Let true time pass; what falls due is served."""
        self.true_s += seconds
        # A second of the boot's clock is true within 100 ppm: the other way round would be 0.3 s more in a year.
        self.boot_s += seconds / (1 + self._ppm * 1e-6)
        due_s = machine.next_deadline(self.state)
        if due_s is not None and due_s <= self.boot_s:
            self._give(DeadlineReached())

    def _now(self) -> Instant:
        quality, off_s = self._system
        return Instant(self.boot_s, self.true_s + off_s, quality)

    def _give(self, event: Event) -> str:
        """Give the core an event, as the reactor does; return the reason of its answer."""
        now, before = self._now(), self.state
        after, commands = machine.step(before, event, now)
        at, reason = None, ""
        for command in commands:
            if isinstance(command, Record):
                at = stamp(after.kept.floor_s, after.anchor, now)
                outbox = after.kept.outbox
                last_seq = outbox.last_seq + len(command.records)
                after = machine.committed(after, replace(outbox, last_seq=last_seq))
            elif isinstance(command, Reply):
                reason = command.reason if command.status == "denied" else ""
        self.state = after
        self.judge.believed(after.kept.floor_s, at, now, self.true_s)
        for command in commands:
            if isinstance(command, Record):
                self._written(command, before, now)
            elif isinstance(command, Actuate):
                self._work(command)
        return reason

    def _written(self, commit: Record, before: State, now: Instant) -> None:
        for record in commit.records:
            if isinstance(record, TripStarted):
                self._say(f"  starts {record.reservation!r}, proven {record.proven}, rule {record.rule}")
                self.judge.started(record, self._asker, now, self.true_s)
            elif isinstance(record, RentalEnded):
                self._say(f"  the rental ends: {record.reason.value}")
                rental = before.kept.rental
                if rental is not None:
                    self.judge.ended(record, rental.booking.end_s, now, self.true_s)

    def _work(self, pulse: Actuate) -> None:
        """Let the lock do what it is told, and say so."""
        self._pass(PULSE_S)
        self._locked = pulse.action is Action.LOCK
        self._give(ActuationSettled(pulse.actuation, ActuationOutcome.DONE, "", self.boot_s))
        self._pass(PULSE_S)
        self._report(told=True)

    def _say(self, what: str) -> None:
        if self._tell:
            true = datetime.fromtimestamp(self.true_s, UTC)
            known = self.state.anchor.quality.name if self.state.anchor is not None else "no time"
            self.lines.append(f"  {true:%Y-%m-%d %H:%M:%S}  boot {self.boot_s:>12.1f} s  {known:<13} {what}")

    # The box

    def _start(self, *, new_boot: bool) -> None:
        if new_boot:
            self._boots += 1
            self.boot_s = 0.0
        self.state = State(kept=self.state.kept, policy=self._policy)
        self.judge.began()
        self._give(Started(b"boot%04d" % self._boots, "clocks"))
        self._report()

    def _report(self, *, told: bool = False) -> None:
        """Have the contacts tell of the door: after a pulse, or in a rental. Else nothing hangs on it."""
        if told or self.state.kept.rental is not None:
            self._give(DoorReported(self._locked, driver_open=False, passenger_open=False, sampled_s=self.boot_s))

    def _boot(self, move: Move) -> None:
        """Cut the power for ``s``, or kill the daemon for a moment (``how``). ``who``: the new boot's drift in ppm."""
        if move.how == "power":
            self.true_s += move.s
            self._ppm = move.who
        self._say(f"{move.how} cut{f' for {move.s:.0f} s' if move.how == 'power' else ''}; it starts again")
        self._start(new_boot=move.how == "power")

    def _set_system(self, move: Move) -> None:
        """Have the system vouch for its clock as ``how`` says, ``s`` off the true time; unset ones begin in 1970."""
        quality = ClockQuality[move.how.upper()]
        self._system = quality, -ORIGIN_S if quality is ClockQuality.UNSET else move.s
        self._say(f"the system's clock is {move.how}, {self._system[1]:.0f} s off")

    # Times

    def edge(self, how: str, who: int) -> float:
        """Return a time at which something of booking ``who`` begins or ends."""
        number = who % len(self.story.windows)
        booking, listed, revoked = self.commune.bookings.get(number), self.commune.lists, self.commune.revoked
        window = self.story.windows[number]
        was_s = ORIGIN_S + window.end_s
        start_s, end_s = (booking.start_s, booking.end_s) if booking is not None else (was_s - 900, was_s)
        match how:
            case "early":
                return start_s - self._policy.early_unlock_s
            case "start":
                return start_s
            case "was":
                return was_s
            case "expiry":
                return float(self.commune.passes[-1].expires_s) if self.commune.passes else end_s
            case "horizon":
                return float(listed[-1].horizon_end_s) if listed else end_s
            case "staff":
                return ORIGIN_S + self.story.staff_until_s
            case "until":
                return float(revoked[-1].until_s) if revoked else end_s
            case "grace":
                return end_s + GRACE_S
            case _:
                return end_s

    def _until(self, move: Move) -> None:
        """Wait until ``s`` after an edge; if that is over, of the next one of any booking that is to come."""
        how, self._about = move.how, move.who % len(self.story.windows)
        at_s = self.edge(how, self._about) + move.s
        if at_s < self.true_s:
            numbers = range(len(self.story.windows))
            edges = ((self.edge(each, k) + move.s, each, k) for each in ("early", "end", "grace") for k in numbers)
            at_s, how, self._about = min((e for e in edges if e[0] >= self.true_s), default=(self.true_s, how, 0))
        self._pass(at_s - self.true_s)
        self._say(f"it is {move.s:+.1f} s about {how} of booking {self._about}")

    def _wait(self, move: Move) -> None:
        """Wait ``s``."""
        self._pass(move.s)

    def _proof(self, move: Move) -> None:
        """Bring a time proof for a nonce that is ``s`` old; the commune signed it ``who`` percent of that ago."""
        asked_s = self.boot_s
        self._pass(move.s)
        time_s = self.true_s - move.s * move.who / 100
        latest_s = time_s + self.boot_s - asked_s
        self._say(f"a time proof, {self.true_s - time_s:.1f} s old, nonce {move.s:.1f} s")
        self.judge.heard.proof(self.boot_s, time_s, latest_s)
        self._give(TimeHeard(Anchor(self.boot_s, time_s, latest_s, ClockQuality.AUTHENTICATED)))

    def _sky(self, move: Move) -> None:
        """Hear the sky: right; ``off`` by ``s``; ``s`` about the floor; or ``s`` about an edge."""
        match move.how:
            case "":
                off_s = 0.0
            case "off":
                off_s = move.s
            case "floor":
                off_s = self.state.kept.floor_s + move.s - self.true_s
            case _:
                off_s = self.edge(move.how, move.who) + move.s - self.true_s
        self._hear(off_s)

    def _drag(self, move: Move) -> None:
        """Have the sky drift away by ``s`` with each of ``who`` fixes, half a minute apart."""
        for _ in range(move.who):
            self._hear(self._sky_off_s + move.s)
            self._pass(30.0)

    def _hear(self, off_s: float) -> None:
        self._sky_off_s = off_s
        least_s = self.true_s + off_s - LATE_S / 2
        self._say(f"the sky is heard, {off_s:.1f} s off")
        self.judge.heard.sky(self.boot_s, least_s, least_s + LATE_S, self.true_s)
        self._give(TimeHeard(Anchor(self.boot_s, least_s, least_s + LATE_S, ClockQuality.GNSS)))

    # Papers

    def _list(self, move: Move) -> None:
        """Bring the newest list, or one that was held back."""
        newest = self.commune.list(int(self.true_s))
        listed = newest if move.how == "newest" else self.commune.lists[move.who % len(self.commune.lists)]
        self._say(f"list {listed.version} comes, issued {self.true_s - listed.issued_at_s:.0f} s ago")
        self.judge.list_given(listed)
        self._give(ListReceived(listed))

    def _change(self, move: Move) -> None:
        """Have the commune change something; the box hears of it when a list or a pass comes."""
        self.commune.change(move.how, move.who, int(move.s), int(self.true_s))
        self._say(f"the commune: {move.how} (booking {move.who}, {move.s:.0f} s)")

    def _fetch(self, move: Move) -> None:
        """Have a driver's phone fetch a pass."""
        made = self.commune.fetch(move.who, int(self.true_s))
        if made is not None:
            self._say(
                f"a phone fetches a pass of {made.reservation_id!r}, good until {made.expires_s - self.true_s:.0f} s on"
            )

    # People

    def _ask(self, move: Move) -> None:
        """Have somebody ask for the door: ``how`` with what, ``who`` for which booking (-1: that of the last edge)."""
        number = self._about if move.who < 0 else move.who % len(self.story.windows)
        who = self._credential(move.how, number)
        self._say(f"{move.how} of booking {number} asks")
        self._hold(AccessRequested(who, Intent.TAP if isinstance(who, CardCredential) else Intent.UNLOCK, 1))

    def _hold(self, event: AccessRequested) -> None:
        """Ask, and hold a refusal against the rules."""
        who = event.credential
        self._report()
        self._asker = self._asking(who)
        drives = self.judge.drives(self._asker)
        if isinstance(who, PhoneCredential) and who.grant is not None:
            self.judge.pass_given(who.grant)
        now, true_s = self._now(), self.true_s
        reason = self._give(event)
        self.judge.counts["asked for the own running rental's door" if drives else "asked to get in"] += 1
        if not reason:
            return
        self._say(f"  refused: {reason}")
        if drives:
            self.judge.locked_out(reason, self._asker)
        else:
            self.judge.refused(reason, self._asker, now, true_s)

    def _finish(self, move: Move) -> None:
        """Have whoever drives finish, by phone."""
        del move
        rental = self.state.kept.rental
        if rental is None:
            return
        self._say("the driver finishes")
        if rental.booking.phone_keys:
            who = PhoneCredential(rental.booking.phone_keys[0], None, next(self._ids).to_bytes(16, "big"))
            self._hold(AccessRequested(who, Intent.FINISH, 1))
        else:
            self._hold(AccessRequested(CardCredential(STAFF_CARD, Assurance.UID), Intent.TAP, 1))

    def _credential(self, how: str, number: int) -> Credential:
        person = self.story.windows[number].person
        identity = b"booking-%08d" % number
        match how:
            case "card":
                return CardCredential(CARDS[person], Assurance.UID)
            case "staff":
                return CardCredential(STAFF_CARD, Assurance.UID)
            case "remote":
                return self._command(identity)
            case "held remote":
                command, self._held = self._held or self._command(identity), self._command(identity)
                return command
            case _:
                held = [p for p in self.commune.passes if p.reservation_id == identity]
                shown: Pass | None = (held[0] if how == "old pass" else held[-1]) if held else None
                return PhoneCredential(KEYS[person], shown, next(self._ids).to_bytes(16, "big"))

    def _command(self, subject: bytes) -> RemoteCredential:
        """Return a new remote command."""
        self._counter += 1
        identity = next(self._ids).to_bytes(16, "big")
        return RemoteCredential(subject, identity, self.state.boot_epoch, self._counter, self.boot_s + REMOTE_S)

    def _asking(self, who: Credential) -> Asker:
        match who:
            case CardCredential(ref=ref):
                return Asker(frozenset((ref,)), frozenset((ref,)))
            case PhoneCredential(key=key, grant=grant):
                return Asker(frozenset((key,)), frozenset((key, *(() if grant is None else (grant.id,)))))
            case RemoteCredential(subject=subject):
                stale = who.boot_epoch != self.state.boot_epoch or self.boot_s > who.not_after_s
                stale = stale or who.counter <= self._heard_counter
                self._heard_counter = self._heard_counter if stale else who.counter
                return Asker(frozenset((subject,)), frozenset(), stale)
            case ConsoleCredential(subject=subject):
                return Asker(frozenset((subject,)), frozenset())
