"""What holds on the very edge of a bound, and each word that is written down or answered."""

from __future__ import annotations

from dataclasses import replace

import pytest

from onboard.core import access, doors, machine, rental, results, sync
from onboard.core.cards import number_fault, shown_number, typed_number
from onboard.core.clock import DISAGREE_S, DOUBT_S, DRIFT, Anchor, ClockQuality, Instant, learn
from onboard.core.commands import Action, Pattern, Reply
from onboard.core.draft import Draft
from onboard.core.events import (
    AccessRequested,
    ActuationOutcome,
    ActuationSettled,
    CardCredential,
    CardsRefused,
    DoorReported,
    Intent,
    ListReceived,
    LockButtonPressed,
    PhoneCredential,
)
from onboard.core.grants import Assurance, BookingKind, CardGrant, Reservation
from onboard.core.records import AccessDenied, ActuationFailed, EndRequested, TripStarted
from onboard.core.state import Actuation
from onboard.core.trip import distance_m
from tests.core_kit import ALICE, BOB, HEDE, POLICY, STAFF, T0, Kit, booking, card, listing
from tests.core_people import ANYWHERE, ask, key, leave, staff, tap

FLOOR = float(T0)
LENIENT = replace(POLICY, unproven_start=True)
LATER_S = 100_000.0
"""Drift by then: ten seconds either way."""


def answer(kit: Kit) -> tuple[str, str]:
    [*_, last] = [command for command in kit.commands if isinstance(command, Reply)]
    return last.status, last.reason


def sky(boot_s: float, off_s: float = 0.0, width_s: float = 0.0) -> Anchor:
    """Return what a receiver says at this boot time, off by so much."""
    return Anchor(boot_s, FLOOR + boot_s + off_s, FLOOR + boot_s + off_s + width_s, ClockQuality.GNSS)


# Access


def test_whoever_is_under_way_stays_the_driver_whoever_the_list_names() -> None:
    kit = Kit().ready()
    kit.begin()
    others = booking(driver=BOB, phone_keys=(key(BOB),), cards=(CardGrant(BOB, Assurance.UID),), end_s=9000)
    kit.give(ListReceived(listing(others, version=2)))
    running = kit.state.kept.rental
    assert running is not None
    assert running.booking == booking(end_s=9000)


@pytest.mark.parametrize(("start_s", "holds"), [(1000, True), (999, False)])
def test_a_pass_that_begins_where_the_list_ends_says_something_that_the_list_does_not(
    start_s: int, holds: bool
) -> None:
    kit = Kit().ready(booking(BOB), version=5, horizon_end_s=T0 + 1000)
    assert access.applies(kit.state, leave(start_s=start_s, g=5)) is holds


def test_a_visit_of_staff_is_dressed_as_a_booking_of_nobodys() -> None:
    kit = Kit().ready(staff=(staff(3600),))
    tap(kit, STAFF)
    person, running = staff(3600), kit.state.kept.rental
    assert running is not None
    assert running.booking == Reservation(
        person.id, 0, T0 + 3600, "", None, BookingKind.LOOP, person.id[:8], person.phone_keys, person.cards,
        person.rights, trace=False,
    )  # fmt: skip


@pytest.mark.parametrize(("after_s", "word"), [(0, "opening"), (1, "too_late")])
@pytest.mark.parametrize("who", [ALICE, STAFF])
def test_without_a_clock_a_time_is_over_once_the_floor_is_above_it(who: bytes, after_s: int, word: str) -> None:
    kit = Kit(LENIENT)
    kit.give(ListReceived(listing(booking(end_s=3600), staff=(staff(3600),), issued_at_s=T0 + 3600 + after_s)))
    kit.contacts(locked=True)
    assert tap(kit, who) == word
    if word == "opening":
        assert kit.last(TripStarted).rule == (2 if who == ALICE else 4)
        assert not kit.last(TripStarted).proven


def test_with_a_proof_staffs_time_is_over_at_the_latest_believable_moment() -> None:
    for width_s, word in ((10.0, "opening"), (10.5, "too_late")):
        kit = Kit().ready(staff=(staff(3600),))
        kit.t = 3590.0
        now_s = T0 + kit.t
        kit.state = replace(kit.state, anchor=Anchor(kit.t, now_s, now_s + width_s, ClockQuality.AUTHENTICATED))
        kit.contacts(locked=True)
        assert tap(kit, STAFF) == word


def test_a_pass_adds_its_phone_to_the_listed_booking_of_its_driver_and_inherits_from_no_other() -> None:
    listed = booking(trace=True)
    for entry, known in ((listed, True), (replace(listed, driver=BOB), False)):
        kit = Kit().ready(entry)
        brought = leave(g=7, phone_key=key(b"newphone"))
        kit.give(AccessRequested(PhoneCredential(brought.phone_key, brought, b"c" * 16), Intent.LOCK, 1))
        *_, own = access.candidates(kit.state)
        keys = (brought.phone_key, *(entry.phone_keys if known else ()))
        cards = entry.cards if known else ()
        assert own.booking == replace(listed, driver=ALICE, phone_keys=keys, cards=cards, trace=known)


# Clock


@pytest.mark.parametrize(
    ("off_s", "width_s", "agrees"),
    [
        (15.0, 0.0, True),
        (15.5, 0.0, False),
        (-15.0, 0.0, True),
        (-15.5, 0.0, False),
        (-20.0, 5.0, True),
        (-21.0, 5.0, False),
    ],
)
def test_a_sky_agrees_with_itself_within_its_drift_and_five_seconds(off_s: float, width_s: float, agrees: bool) -> None:
    assert LATER_S * DRIFT + DISAGREE_S == 15.0
    heard = sky(LATER_S, off_s, width_s)
    floor_s, anchor, refusal = learn(FLOOR, sky(0.0), heard, Instant(LATER_S, 0.0, ClockQuality.UNSET))
    assert floor_s == FLOOR
    assert refusal == (None if agrees else "gnss_disagrees_with_itself")
    if agrees:
        assert anchor == heard
    else:
        lowest = min(FLOOR + LATER_S - 10.0, heard.earliest_s)
        highest = max(FLOOR + LATER_S + 10.0, heard.latest_s)
        assert anchor == Anchor(LATER_S, lowest, highest, ClockQuality.RTC, LATER_S, heard.earliest_s)


@pytest.mark.parametrize(
    ("after_s", "off_s", "believed"),
    [
        (DOUBT_S, 0.0, True),
        (DOUBT_S - 1, 0.0, False),
        (LATER_S, 15.0, True),
        (LATER_S, -15.0, True),
        (LATER_S, 15.5, False),
    ],
)
def test_a_doubted_sky_is_believed_again_after_a_quarter_of_an_hour_of_one_story(
    after_s: float, off_s: float, believed: bool
) -> None:
    doubted = Anchor(0.0, FLOOR, FLOOR + 500.0, ClockQuality.RTC, 0.0, FLOOR + 500.0)
    heard = sky(after_s, 500.0 + off_s)
    _, anchor, refusal = learn(FLOOR, doubted, heard, Instant(after_s, 0.0, ClockQuality.UNSET))
    assert anchor is not None
    assert (anchor == heard) is believed
    same_story = believed or after_s < DOUBT_S
    assert refusal == (None if same_story else "gnss_disagrees_with_itself")
    assert anchor.doubted_s == (None if believed else 0.0 if same_story else after_s)


# Doors


@pytest.mark.parametrize(("sampled_s", "counts"), [(10.0, False), (10.05, False), (10.125, True), (11.0, True)])
def test_a_report_counts_for_a_pulse_once_the_contact_had_its_time(sampled_s: float, counts: bool) -> None:
    kit = Kit(replace(POLICY, settle_s=0.125))
    pulse = Actuation(1, Action.UNLOCK, 1, 9.0, settled_s=10.0)
    d = Draft(kit.state, Instant(20.0, 0.0, ClockQuality.UNSET))
    assert doors._after(d, DoorReported(True, False, False, sampled_s), pulse) is counts
    assert not doors._after(d, DoorReported(True, False, False, sampled_s), replace(pulse, settled_s=None))


def test_a_pulse_without_a_trip_is_written_down_with_trip_0() -> None:
    kit = Kit().ready()
    kit.state = replace(kit.state, doors=replace(kit.state.doors, actuation=Actuation(1, Action.LOCK, 3, kit.t, kit.t)))
    kit.wait(4.0)
    assert kit.last(ActuationFailed) == ActuationFailed("lock", "not_confirmed", 0)


def test_a_door_opened_behind_the_pulse_arms_the_same_wish_again() -> None:
    kit = Kit().ready()
    kit.begin()
    kit.drive(0.0)
    kit.contacts(locked=False)
    ask(kit, intent=Intent.FINISH)
    kit.give(ActuationSettled(kit.state.doors.actuations, ActuationOutcome.DONE, "", kit.t))
    kit.t += 1.0
    kit.contacts(locked=False, driver_open=True)
    kit.wait(4.0)
    assert kit.last(ActuationFailed) == ActuationFailed("lock", "door_open", 1)
    assert kit.shown is Pattern.TRY_AGAIN
    assert not kit.state.faults
    armed = kit.state.doors
    assert (armed.armed_by, armed.armed_finish, armed.armed_needs_opening) == ("phone", True, False)
    assert (armed.touched_s, armed.armed_until_s) == (kit.state.at.boot_s, kit.state.at.boot_s + POLICY.lock_arm_s)
    [*_, told] = kit.state.kept.grants.answered
    assert (told.status, told.reason) == ("accepted", "shut_the_door")


def test_the_button_locks_for_the_button_and_finishes_nothing() -> None:
    kit = Kit().ready()
    kit.begin()
    kit.travel(to=ANYWHERE)
    kit.give(LockButtonPressed())
    shown = [kit.shown]
    kit.contacts(locked=False, driver_open=True)
    kit.contacts(locked=False)
    assert kit.last(EndRequested) == EndRequested(1, 1, "button", finish=False)
    kit.settle(locked=True)
    kit.t += 100.0
    kit.contacts(locked=True)
    kit.begin()
    kit.drive(9.0)
    kit.give(LockButtonPressed())
    assert kit.last(AccessDenied) == AccessDenied("moving", "button")
    assert [*shown, kit.shown] == [Pattern.GRANTED, Pattern.TRY_AGAIN]


# Sync


@pytest.mark.parametrize(
    ("epoch", "attempts", "wait_s"),
    [
        (b"\0", 0, 60.0),
        (b"\0\xff", 1, 144.0),
        (b"\xff", 0, 72.0),
        (b"\xff\0", 2, 288.0),
        (b"\0", 3, 480.0),
        (b"\0", 4, 600.0),
        (b"\xff", 10**6, 720.0),
        (b"", 0, 60.0),
    ],
)
def test_the_wait_doubles_to_its_bound_and_is_spread_by_a_fifth(epoch: bytes, attempts: int, wait_s: float) -> None:
    d = Draft(replace(Kit().state, boot_epoch=epoch), Instant(1.0, 0.0, ClockQuality.UNSET))
    assert sync._back_off_s(d, attempts) == pytest.approx(wait_s, rel=1e-12)
    patient = Draft(replace(d.state, policy=replace(POLICY, resend_max_s=1e9)), d.now)
    assert sync._back_off_s(patient, 10**6) <= 60.0 * 2**16 * 1.2


# Rental


@pytest.mark.parametrize(
    ("at_s", "word"), [(-1, "available"), (0, "reserved"), (3600, "reserved"), (3601, "available")]
)
def test_a_car_is_reserved_from_the_first_second_of_a_window_to_its_last(at_s: int, word: str) -> None:
    kit = Kit().ready(booking(start_s=0, end_s=3600))
    at = Instant(float(at_s + 10), 0.0, ClockQuality.UNSET)
    here_s = float(T0 + at_s)
    kit.state = replace(kit.state, at=at, anchor=Anchor(at.boot_s, here_s, here_s, ClockQuality.AUTHENTICATED))
    assert machine.vehicle_state(kit.state) == word


def test_a_car_is_elsewhere_beyond_the_distance_and_not_at_it(monkeypatch: pytest.MonkeyPatch) -> None:
    kit = Kit().ready()
    kit.begin()
    kit.drive(0.0)
    kit.at(ANYWHERE)
    place = kit.state.vehicle.position
    assert place is not None
    away_m = distance_m(place, HEDE.latitude, HEDE.longitude)
    d = Draft(kit.state, Instant(kit.t, 0.0, ClockQuality.UNSET))
    for bound_m, home in ((away_m, True), (away_m - 0.001, False)):
        monkeypatch.setattr(rental, "ELSEWHERE_M", bound_m)
        assert rental.may_be_returned(d) is home


@pytest.mark.parametrize(("after_s", "said"), [(20.0, ("granted", "finished")), (20.5, ("granted", "opening"))])
def test_a_second_tap_counts_to_the_end_of_its_time(after_s: float, said: tuple[str, str]) -> None:
    kit = Kit().ready()
    kit.begin()
    kit.travel(to=ANYWHERE)
    kit.end()
    locked_s = kit.state.locked_s
    assert locked_s is not None
    kit.t = locked_s + after_s
    kit.contacts(locked=True)
    kit.give(card())
    assert answer(kit) == said


# Words


def test_a_capture_is_answered_and_refused_in_these_words() -> None:
    kit = Kit().ready(staff=(staff(),))
    ask(kit, STAFF, intent=Intent.CAPTURE)
    assert answer(kit) == ("granted", "capturing")
    kit.give(AccessRequested(CardCredential(STAFF, Assurance.UID), Intent.CAPTURE, 1))
    assert answer(kit) == ("denied", "staff_only"), "a card gives no command that could be named"


@pytest.mark.parametrize(
    ("reason", "shown"),
    [
        ("two_cards", Pattern.ONE_CARD),
        ("unreadable", Pattern.TRY_AGAIN),
        ("left_early", Pattern.TRY_AGAIN),
        ("too_slow", Pattern.TRY_AGAIN),
        ("random_uid", Pattern.DENIED),
    ],
)
def test_a_card_that_the_reader_could_not_take_is_shown_and_written_as_what_it_was(reason: str, shown: Pattern) -> None:
    kit = Kit().ready()
    kit.give(CardsRefused(reason))
    assert kit.shown is shown
    assert kit.last(AccessDenied) == AccessDenied(reason, "card")


def test_a_finish_by_phone_is_granted() -> None:
    kit = Kit().ready()
    kit.begin()
    kit.travel(to=ANYWHERE)
    kit.end()
    kit.t += 100.0
    ask(kit, ALICE, intent=Intent.FINISH)
    assert answer(kit) == ("granted", "finished")
    assert kit.shown is Pattern.GRANTED


def test_a_sky_takes_the_place_of_a_guess() -> None:
    guess = Anchor(0.0, FLOOR, FLOOR, ClockQuality.RTC)
    assert learn(FLOOR, guess, sky(10.0, 5000.0), Instant(10.0, 0.0, ClockQuality.UNSET))[1:] == (
        sky(10.0, 5000.0),
        None,
    )


def test_a_lock_that_nobody_waits_for_rewords_nothing() -> None:
    d = Draft(Kit().ready().state, Instant(1.0, 0.0, ClockQuality.UNSET))
    results.on_armed_lock(d)
    assert d.state.kept == d.before.kept


@pytest.mark.parametrize(
    ("uid", "sak", "fault"),
    [
        (b"\x88123", 0, "unreadable"),
        (b"\x88123456", 0, "unreadable"),
        (b"123", 0, "unreadable"),
        (b"\x041234567890", 0, "unreadable"),
        (b"\x08123", 0, "random_uid"),
        (b"\x80123", 0x20, "random_uid"),
        (b"\x80123", 0, None),
        (b"\x1f123", 0, "reused_uid"),
        (b"\x1e123", 0, None),
        (b"\x08123456", 0, None),
        (b"\x041234567", 0, "unreadable"),
        (b"0123456789", 0, None),
    ],
)
def test_a_number_that_stands_for_no_person_is_called_what_it_is(uid: bytes, sak: int, fault: str | None) -> None:
    assert number_fault(uid, sak) == fault


@pytest.mark.parametrize(
    ("text", "said"),
    [
        ("", "hexadecimal digits are wanted"),
        ("04:xy", "hexadecimal digits are wanted"),
        ("12345678", "a decimal number"),
    ],
)
def test_a_typed_number_that_may_be_anything_is_refused_in_words(text: str, said: str) -> None:
    with pytest.raises(ValueError, match=said):
        typed_number(text)
    assert typed_number("04 a1:b2 C3") == bytes.fromhex("04a1b2c3")
    assert typed_number("12345678", surely_hexadecimal=True) == bytes.fromhex("12345678")
    assert shown_number(b"\x04\xa1") == "04A1"
