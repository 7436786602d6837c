"""Who may unlock: the five rules of docs/protocol.md section 6 one by one, and the refusals a driver can act on."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace

import pytest

from onboard.core import known, machine
from onboard.core.clock import ClockQuality
from onboard.core.events import (
    AccessRequested,
    ActuationOutcome,
    ActuationSettled,
    CardCredential,
    Intent,
    ListReceived,
    MaintenanceRequested,
    RemoteCredential,
)
from onboard.core.grants import Assurance, CardGrant, Revocation, Rights
from onboard.core.records import AccessDenied, RentalEnded, RentalEndReason, RentalKind, TripStarted
from tests.core_kit import ALICE, BOB, POLICY, STAFF, T0, Kit, booking, listing
from tests.core_people import ANYWHERE, FAR_S, ask, ids, key, leave, staff, tap

# Revocation, first in every rule


def _running(kit: Kit) -> None:
    ask(kit, grant=leave())
    kit.settle(locked=False)
    kit.contacts(locked=True)  # locked by itself: the next tap would open it


def _ended(kit: Kit) -> None:
    _running(kit)
    kit.contacts(locked=False)
    kit.travel()
    kit.end()
    kit.t += 60


RULES: dict[str, tuple[Callable[[Kit], None], bytes]] = {
    "1 the running rental": (_running, ALICE),
    "2 the list": (lambda _: None, ALICE),
    "3 a pass": (lambda _: None, ALICE),
    "4 staff": (lambda _: None, STAFF),
    "5 once more for the cable": (_ended, ALICE),
}


@pytest.mark.parametrize("rule", RULES)
@pytest.mark.parametrize("what", ["card", "phone key", "pass id"])
@pytest.mark.parametrize("until", ["later", "over", "undatable"])
def test_whoever_is_taken_back_opens_nothing_under_any_rule(rule: str, what: str, until: str) -> None:
    prepare, who = RULES[rule]
    kit = Kit(replace(POLICY, reopen_window_s=1e6)).ready(booking(), staff=(staff(),))
    prepare(kit)
    grant = leave(g=9) if rule.startswith("3") else None
    marks = {"card": who, "phone key": key(who), "pass id": leave().id}
    until_s = FAR_S if until == "later" else T0 + int(kit.t) + 10
    kept = listing(booking(), staff=(staff(),), version=7, revoked=(Revocation(marks[what], until_s),))
    kit.give(ListReceived(kept))
    if until == "over":
        kit.t += 30
        kit.contacts(locked=True)
    if until == "undatable":
        kit.state = replace(kit.state, anchor=None)
    kit.t += 1
    answer = tap(kit, who) if what == "card" else ask(kit, who, grant)
    applies = what != "pass id" or rule.startswith(("1", "3", "5"))
    if until != "over" and applies:
        assert answer == "revoked"
        assert kit.last(AccessDenied).reason == "revoked"
    else:
        assert answer != "revoked"


def test_a_pass_taken_back_is_no_good_to_a_phone_that_comes_without_it_again() -> None:
    kit = Kit().ready(booking(BOB, 5000, 6000))
    assert ask(kit, grant=leave(start_s=600, g=5)) == "opening"
    kit.give(ActuationSettled(1, ActuationOutcome.REFUSED, "too_soon", kit.t))
    taken = (Revocation(leave().id, FAR_S),)
    kit.give(ListReceived(listing(booking(BOB, 5000, 6000), version=4, revoked=taken)))
    assert ask(kit) == "unknown"


def test_a_driver_taken_back_on_the_road_can_still_lock_and_end() -> None:
    kit = Kit().ready()
    kit.begin()
    kit.give(ListReceived(listing(version=2, revoked=(Revocation(ALICE, FAR_S), Revocation(key(ALICE), FAR_S)))))
    kit.travel(to=ANYWHERE)
    kit.end()
    assert machine.phase(kit.state) is machine.Phase.STOPPED
    kit.t += 60
    assert tap(kit) == "revoked"
    assert ask(kit, intent=Intent.FINISH) == "finished"


# 1. The running rental's driver


@pytest.mark.parametrize(
    "trouble", ["no clock", "booking over", "list gone", "list too old", "maintenance", "clock spoofed"]
)
@pytest.mark.parametrize("by", ["card", "phone"])
@pytest.mark.parametrize("begun_by", ["card", "phone"])
def test_the_running_rentals_driver_always_gets_in_by_card_or_phone(trouble: str, by: str, begun_by: str) -> None:
    kit = Kit().ready(booking(end_s=3600), horizon_end_s=T0 + 1800)
    if begun_by == "card":
        tap(kit)
    else:
        ask(kit)
    kit.settle(locked=False)
    kit.travel(to=ANYWHERE)
    kit.contacts(locked=True)
    if trouble == "no clock":
        kit.boot()
        kit.contacts(locked=True)
    elif trouble == "booking over":
        kit.t = 50_000.0
        kit.contacts(locked=True)
    elif trouble == "list gone":
        kit.give(ListReceived(listing(version=2)))
    elif trouble == "list too old":
        kit.t = 2500.0
        kit.contacts(locked=True)
    elif trouble == "maintenance":
        kit.give(MaintenanceRequested(on=True, by="agent"))
    else:
        kit.clock(off_s=8 * 365 * 86400.0)
    assert (tap(kit) if by == "card" else ask(kit)) == "opening"
    assert not kit.all(RentalEnded)


def test_a_list_that_changes_the_running_booking_keeps_its_driver_and_follows_its_terms() -> None:
    kit = Kit().ready()
    kit.begin()
    new = booking(end_s=9000, cards=(CardGrant(b"newcard-", Assurance.UID),), phone_keys=(), dropoff="bazouges")
    kit.give(ListReceived(listing(new, version=2)))
    rental = kit.state.kept.rental
    assert rental is not None
    assert (rental.booking.end_s, rental.booking.dropoff) == (T0 + 9000, "bazouges")
    kit.contacts(locked=True)
    assert tap(kit) == "opening", "the card it was begun with"
    kit.settle(locked=False)
    kit.contacts(locked=True)
    assert tap(kit, b"newcard-") == "opening", "and the one the list has now"


def test_a_newer_pass_makes_the_running_rental_longer() -> None:
    kit = Kit().ready()
    kit.begin()
    kit.travel(to=ANYWHERE)
    kit.end()
    kit.t = 3000.0
    ask(kit, grant=leave(end_s=20_000, g=2), intent=Intent.LOCK)
    kit.wait(3000)
    assert not kit.all(RentalEnded), "locked, its first time and grace over, but the driver has booked on"


def test_a_booking_made_longer_after_its_rental_ended_by_time_opens_again() -> None:
    kit = Kit().ready()
    kit.begin()
    kit.travel(to=ANYWHERE)
    kit.end()
    kit.wait(4600)
    assert kit.last(RentalEnded).reason is RentalEndReason.TIME_OVER
    assert ask(kit, grant=leave(end_s=20_000, g=2)) == "opening"
    assert kit.last(TripStarted).kind is RentalKind.BOOKING, "not just once more for the cable"


# 2. A reservation in the list


WINDOWS: list[tuple[int, str]] = [
    (-601, "too_early"),
    (-599, "opening"),
    (0, "opening"),
    (3590, "opening"),
    (3601, "too_late"),
]


@pytest.mark.parametrize(("at_s", "answer"), WINDOWS)
def test_a_listed_booking_opens_in_its_window_and_a_little_before(at_s: int, answer: str) -> None:
    kit = Kit().ready(booking(start_s=1000, end_s=4600))
    kit.t = 1000.0 + at_s
    kit.clock()
    assert tap(kit) == answer


@pytest.mark.parametrize(("other_end_s", "answer"), [(900, "opening"), (1000, "other_window")])
def test_early_only_if_no_other_window_is_open(other_end_s: int, answer: str) -> None:
    kit = Kit().ready(booking(start_s=1000, end_s=4600), booking(BOB, 0, other_end_s))
    kit.t = 950.0
    kit.clock()
    assert tap(kit) == answer


def test_a_window_whose_rental_is_over_keeps_nobody_waiting() -> None:
    kit = Kit().ready(booking(BOB, 0, 1000), booking(start_s=1000, end_s=4600))
    kit.begin(BOB)
    kit.travel(500)
    kit.end(BOB)
    kit.t = 950.0
    kit.clock()
    assert tap(kit) == "opening"


@pytest.mark.parametrize(("at_s", "answer"), [(1790, "opening"), (1801, "list_too_old")])
def test_after_its_horizon_a_list_starts_nothing(at_s: int, answer: str) -> None:
    kit = Kit().ready(booking(), horizon_end_s=T0 + 1800)
    kit.t = float(at_s)
    kit.clock()
    assert tap(kit) == answer


def test_while_somebody_is_under_way_nobody_else_gets_in() -> None:
    kit = Kit().ready(booking(), booking(BOB), staff=(staff(),))
    kit.begin()
    kit.contacts(locked=True)
    assert [tap(kit, BOB), ask(kit, BOB), tap(kit, STAFF)] == ["in_use"] * 3
    assert kit.pulses == ["unlock"]


def test_a_booking_without_the_right_to_the_door_does_not_open_it() -> None:
    kit = Kit().ready(booking(rights=Rights.DRIVE))
    assert tap(kit) == "no_right"


def test_the_refusal_named_is_the_one_that_a_driver_can_act_on() -> None:
    past, future = booking(start_s=0, end_s=100), booking(start_s=5000, end_s=6000, id=b"second booking--")
    kit = Kit().ready(future, past)
    kit.t = 1000.0
    kit.clock()
    assert tap(kit) == "too_early", "what is to come matters more than what is over"


# Cards


@pytest.mark.parametrize(
    ("listed", "shown", "uid_cards", "answer"),
    [
        (Assurance.UID, Assurance.UID, True, "opening"),
        (Assurance.UID, Assurance.UID, False, "uid_cards_off"),
        (Assurance.MUTUAL, Assurance.MUTUAL, False, "opening"),
        (Assurance.MUTUAL, Assurance.UID, True, "card_not_proven"),
        (Assurance.UID, Assurance.MUTUAL, False, "uid_cards_off"),
    ],
)
@pytest.mark.parametrize("who", [ALICE, STAFF])
def test_a_card_is_worth_what_it_proves(
    listed: Assurance, shown: Assurance, uid_cards: bool, answer: str, who: bytes
) -> None:
    cards = (CardGrant(who, listed, b"k" * 16),)
    kit = Kit(replace(POLICY, uid_cards=uid_cards)).ready(booking(cards=cards), staff=(staff(cards=cards),))
    assert tap(kit, who, shown) == answer


def test_a_copy_of_the_running_drivers_card_neither_opens_nor_locks() -> None:
    kit = Kit().ready(booking(cards=(CardGrant(ALICE, Assurance.MUTUAL, b"k" * 16),)))
    tap(kit, ALICE, Assurance.MUTUAL)
    kit.settle(locked=False)
    assert tap(kit) == "card_not_proven"
    assert kit.pulses == ["unlock"]


# 5. Once more for the cable


def test_a_member_of_staff_closes_the_last_drivers_window() -> None:
    kit = Kit().ready(booking(), staff=(staff(),))
    kit.begin()
    kit.travel()
    kit.end()
    kit.t += 60
    tap(kit, STAFF)
    kit.settle(locked=False)
    kit.end(STAFF)
    kit.t += 60
    assert tap(kit) == "rental_over"


def test_a_card_that_must_prove_itself_is_still_known_for_the_cable() -> None:
    grant = CardGrant(ALICE, Assurance.MUTUAL, b"k" * 16, 3)
    kit = Kit().ready(booking(cards=(grant,)))
    kit.give(AccessRequested(CardCredential(ALICE, Assurance.MUTUAL), Intent.TAP, 1))
    kit.settle(locked=False)
    kit.give(ListReceived(listing(version=2)))
    assert known.card_key(kit.state, ALICE) == (3, b"k" * 16), "the running rental's"
    kit.travel()
    kit.give(AccessRequested(CardCredential(ALICE, Assurance.MUTUAL), Intent.TAP, 1))
    kit.settle(locked=True)
    assert kit.state.kept.rental is None
    assert known.card_key(kit.state, ALICE) == (3, b"k" * 16), "the last driver's"


def test_a_reopening_whose_door_never_opened_can_be_tried_again() -> None:
    kit = Kit().ready()
    kit.begin()
    kit.travel()
    kit.end()
    kit.t += 60
    assert tap(kit) == "reopening"
    pending = kit.state.doors.actuation
    assert pending is not None
    kit.give(ActuationSettled(pending.number, ActuationOutcome.REFUSED, "too_often", kit.t))
    kit.t += 30
    assert tap(kit) == "reopening"
    kit.settle(locked=False)
    kit.end()
    kit.t += 30
    assert tap(kit) == "rental_over", "once"


def test_a_stranger_is_unknown_and_a_remote_command_acts_as_its_person_only() -> None:
    kit = Kit().ready(booking(), booking(BOB, 5000, 6000))
    assert tap(kit, b"stranger") == "unknown"

    def remote(subject: bytes, counter: int) -> str:
        who = RemoteCredential(subject, next(ids).to_bytes(16, "big"), kit.state.boot_epoch, counter, kit.t + 9)
        kit.give(AccessRequested(who, Intent.UNLOCK, 1))
        return kit.word

    assert remote(booking(BOB).id, 1) == "too_early"
    assert remote(b"nobody-knows-it-", 2) == "unknown"
    assert remote(booking().id, 3) == "opening"
    assert kit.last(TripStarted).credential == "remote"
    assert kit.last(TripStarted).kind is RentalKind.BOOKING


def test_a_fresh_box_without_a_list_knows_nobody() -> None:
    kit = Kit()
    kit.clock(ClockQuality.AUTHENTICATED)
    assert tap(kit) == "unknown"
    assert ask(kit) == "unknown"
    assert kit.pulses == []


def test_each_card_of_a_booking_is_looked_at_for_itself() -> None:
    kit = Kit().ready(
        booking(cards=(CardGrant(b"first---", Assurance.MUTUAL, b"k" * 16), CardGrant(ALICE, Assurance.UID)))
    )
    assert tap(kit, b"first---") == "card_not_proven"
    assert tap(kit) == "opening"
