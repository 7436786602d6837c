"""Rules 3 and 4 of docs/protocol.md section 6: a booking in a phone, what it says beside the list, and staff."""

from __future__ import annotations

from dataclasses import replace

import pytest

from onboard.core.events import Intent, ListReceived, MaintenanceRequested
from onboard.core.grants import Assurance, BookingKind, CardGrant, Revocation, Rights
from onboard.core.policy import Policy
from onboard.core.records import RentalEnded, RentalEndReason, RentalKind, TripEnded, TripStarted
from tests.core_kit import ALICE, BOB, HEDE, POLICY, STAFF, T0, Kit, booking, listing
from tests.core_people import FAR_S, ask, key, leave, staff, tap

WEEK_S = 7 * 86400


def box(*reservations: object, version: int = 5, policy: Policy = POLICY, **changes: object) -> Kit:
    """Return a standing, locked car whose list has this version."""
    kit = Kit(policy)
    kit.clock()
    kit.give(ListReceived(listing(*reservations, version=version, **changes)))  # type: ignore[arg-type]  # as listing takes
    kit.drive(0.0, odometer_m=1000)
    kit.at(HEDE)
    kit.contacts(locked=True)
    return kit


@pytest.mark.parametrize(("g", "answer"), [(6, "opening"), (5, "cancelled"), (4, "cancelled")])
def test_a_pass_counts_above_the_lists_version_and_is_cancelled_at_or_below_it(g: int, answer: str) -> None:
    kit = box()
    assert ask(kit, grant=leave(g=g)) == answer
    if answer == "opening":
        assert kit.last(TripStarted).rule == 3


def test_a_pass_replaces_the_lists_entry_until_a_list_as_new_comes() -> None:
    kit = box(booking(start_s=0, end_s=1000))
    moved = leave(start_s=3000, end_s=6000, g=7)
    assert ask(kit, grant=moved) == "too_early", "the older entry would have opened"
    assert tap(kit) == "too_early", "for the card as well"
    kit.give(ListReceived(listing(booking(start_s=0, end_s=1000), version=6)))
    assert tap(kit) == "too_early", "an older list does not bring it back"
    kit.give(ListReceived(listing(booking(start_s=0, end_s=1000), version=7)))
    assert tap(kit) == "opening"
    assert kit.state.kept.grants.passes == ()


@pytest.mark.parametrize(("at_s", "answer"), [(5990, "opening"), (6010, "too_late")])
def test_an_expired_pass_does_not_bring_the_lists_older_terms_back(at_s: int, answer: str) -> None:
    kit = box(booking(start_s=0, end_s=20_000))
    assert ask(kit, grant=leave(end_s=6000, g=7, expires_s=T0 + 2000), intent=Intent.LOCK) == "not_open"
    kit.t = float(at_s)
    kit.clock()
    kit.contacts(locked=True)  # what is forgotten in an hour is forgotten now
    assert kit.state.purged_s == kit.t
    assert tap(kit) == answer


def test_nor_does_it_give_the_booking_back_to_who_lost_it() -> None:
    kit = box(booking(start_s=0, end_s=20_000))
    ask(kit, BOB, leave(BOB, reservation_id=booking().id, g=7, expires_s=T0 + 2000), Intent.LOCK)
    kit.t = 6000.0
    kit.clock()
    kit.contacts(locked=True)
    assert tap(kit) == "unknown"


def test_a_pass_seen_once_serves_the_card_and_the_phone_without_it() -> None:
    kit = box(booking(start_s=9000, end_s=9999))
    assert ask(kit, grant=leave(start_s=2000, end_s=6000, g=7)) == "too_early"
    kit.boot()
    kit.t = 2000.0
    kit.clock()
    kit.contacts(locked=True)
    assert tap(kit) == "opening"
    kit.settle(locked=False)
    kit.contacts(locked=True)
    assert ask(kit) == "opening"


@pytest.mark.parametrize(("at_s", "answer"), [(-601, "too_early"), (-590, "opening"), (3599, "opening")])
def test_a_pass_is_held_to_its_window(at_s: int, answer: str) -> None:
    kit = box()
    kit.t = 1000.0 + at_s
    kit.clock()
    assert ask(kit, grant=leave(start_s=1000, end_s=4600, g=7)) == answer


@pytest.mark.parametrize(("at_s", "answer"), [(1990, "opening"), (2010, "list_too_old")])
def test_a_pass_starts_nothing_after_its_expiry(at_s: int, answer: str) -> None:
    kit = box()
    kit.t = float(at_s)
    kit.clock()
    assert ask(kit, grant=leave(end_s=9000, g=7, expires_s=T0 + 2000)) == answer


def test_beyond_the_horizon_absence_says_nothing() -> None:
    later = leave(start_s=2000, end_s=9000, g=3)
    kit = box(horizon_end_s=T0 + 1900)
    kit.t = 2100.0
    kit.clock()
    assert ask(kit, grant=later) == "opening"
    kit = box(horizon_end_s=T0 + 2100)
    kit.t = 2050.0
    kit.clock()
    assert ask(kit, grant=later) == "cancelled", "it starts before the horizon and isn't there"


def test_an_older_pass_beyond_the_horizon_does_not_undo_a_listed_change() -> None:
    kit = box(booking(start_s=0, end_s=1800), horizon_end_s=T0 + 1900)
    assert ask(kit, grant=leave(start_s=2000, end_s=9000, g=3)) == "opening", "moved forward: the list knows better"


def test_where_windows_overlap_the_newer_grant_wins() -> None:
    kit = box(booking(start_s=0, end_s=3600))
    assert ask(kit, BOB, leave(BOB, start_s=1000, end_s=3600, g=7)) == "too_early"
    assert tap(kit) == "opening", "the newer window is not open yet"
    kit = box(booking(start_s=0, end_s=3600))
    ask(kit, BOB, leave(BOB, start_s=1000, end_s=3600, g=7))
    kit.t = 1100.0
    kit.clock()
    assert tap(kit) == "superseded"
    assert ask(kit, BOB) == "opening"


def test_of_two_passes_of_one_booking_the_newer_holds_whichever_comes_first() -> None:
    old, new = leave(start_s=0, end_s=500, g=6), leave(start_s=2000, end_s=4000, g=8)
    for first, second in ((old, new), (new, old)):
        kit = box()
        ask(kit, grant=first, intent=Intent.LOCK)
        assert ask(kit, grant=second) == "too_early"


def test_a_pass_made_anew_for_another_day_outlives_the_old_one() -> None:
    old, new = leave(g=6, end_s=9000, expires_s=T0 + 100), leave(g=6, end_s=9000, id=b"again---")
    for order in ((old, new), (new, old)):
        kit = box()
        for grant in order:
            ask(kit, grant=grant, intent=Intent.LOCK)
        kit.t = 500.0
        kit.clock()
        assert ask(kit) == "opening"


def test_two_phones_of_one_driver_both_open_on_the_newest_terms() -> None:
    other = leave(g=6, phone_key=key(b"tablet--"), id=b"tabletid", start_s=5000, end_s=9000)
    kit = box()
    ask(kit, b"tablet--", other, Intent.LOCK)
    ask(kit, grant=leave(g=8), intent=Intent.LOCK)
    assert ask(kit, b"tablet--") == "opening"


@pytest.mark.parametrize("by", ["card", "phone"])
def test_a_booking_given_to_somebody_else_is_lost_to_the_one_before(by: str) -> None:
    kit = box(booking())
    given = leave(BOB, g=8, reservation_id=booking().id)
    assert ask(kit, BOB, given, Intent.LOCK) == "not_open"
    assert (tap(kit) if by == "card" else ask(kit)) == "unknown"
    ask(kit, grant=leave(g=6), intent=Intent.LOCK)
    assert ask(kit) == "unknown", "an older pass of the driver before neither"
    assert ask(kit, BOB) == "opening"


def test_a_pass_says_where_the_car_goes_and_what_it_allows() -> None:
    kit = box()
    assert ask(kit, grant=leave(g=7, rights=Rights.DRIVE)) == "no_right"
    for dropoff, kind in (("hede", BookingKind.ONE_WAY), ("bazouges", BookingKind.LOOP), (None, BookingKind.LOOP)):
        kit = box()
        ask(kit, grant=leave(g=7, dropoff=dropoff))
        rental = kit.state.kept.rental
        assert rental is not None
        assert rental.booking.kind is kind
        assert rental.booking.return_station == (dropoff or "bazouges")


def test_a_pass_for_another_car_is_not_kept() -> None:
    kit = box()
    assert ask(kit, grant=leave(g=7, vehicle="ami-2")) == "unknown"
    assert kit.state.kept.grants.passes == ()


def test_without_a_list_a_pass_counts_above_the_version_floor() -> None:
    for g, answer in ((3, "cancelled"), (4, "opening")):
        kit = Kit()
        kit.state = replace(
            kit.state, kept=replace(kit.state.kept, grants=replace(kit.state.kept.grants, version_floor=3))
        )
        kit.clock()
        assert ask(kit, grant=leave(g=g)) == answer


def test_the_time_a_pass_was_made_is_a_floor() -> None:
    kit = box()
    ask(kit, grant=leave(g=7, issued_at_s=T0 + 50, start_s=9000, end_s=9999))
    assert kit.state.kept.floor_s == T0 + 50


def test_a_pass_that_is_no_longer_wanted_leaves_the_booking_to_the_list() -> None:
    kit = box(booking())
    ask(kit, grant=leave(start_s=5000, end_s=9000, g=8), intent=Intent.LOCK)
    assert tap(kit) == "too_early"
    kit.give(ListReceived(listing(booking(), version=7, revoked=(Revocation(leave().id, FAR_S),))))
    assert tap(kit) == "opening"


# 4. Staff


@pytest.mark.parametrize(("at_s", "answer"), [(3590, "opening"), (3601, "too_late")])
@pytest.mark.parametrize("horizon_s", [100, WEEK_S])
def test_staff_come_in_within_their_own_time_whatever_the_lists_horizon(at_s: int, answer: str, horizon_s: int) -> None:
    kit = box(staff=(staff(3600),), horizon_end_s=T0 + horizon_s)
    kit.t = float(at_s)
    kit.clock()
    kit.contacts(locked=True)
    assert tap(kit, STAFF) == answer
    if answer == "opening":
        assert (kit.last(TripStarted).rule, kit.last(TripStarted).kind) == (4, RentalKind.STAFF)
        kit.settle(locked=False)
        kit.end(STAFF)
        assert (kit.last(RentalEnded).reason, kit.last(RentalEnded).billable_s) == (RentalEndReason.STAFF_DONE, 0)


@pytest.mark.parametrize("time", ["within", "after"])
def test_staff_with_a_pass_come_in_when_their_time_in_the_list_is_over_and_in_maintenance(time: str) -> None:
    kit = box(staff=(staff(3600),))
    kit.give(MaintenanceRequested(on=True, by="agent"))
    kit.t = 3000.0 if time == "within" else 5000.0
    kit.clock()
    kit.contacts(locked=True)
    grant = leave(STAFF, end_s=9000, g=7, rights=Rights.DOOR | Rights.SERVICE)
    assert ask(kit, STAFF, grant) == "opening"
    assert kit.last(TripStarted).kind is RentalKind.STAFF
    kit.settle(locked=False)
    kit.contacts(locked=False)
    ask(kit, STAFF, intent=Intent.LOCK)
    kit.settle(locked=True)
    assert kit.last(RentalEnded).billable_s == 0
    kit.t += 100
    assert ask(kit, STAFF) == "opening", "as often as there is work"


def test_a_member_of_staff_with_a_booking_of_tomorrow_is_staff_today() -> None:
    kit = box(booking(STAFF, 50_000, 60_000), staff=(staff(),))
    assert tap(kit, STAFF) == "opening"
    assert kit.last(TripStarted).kind is RentalKind.STAFF
    kit = box(booking(STAFF), staff=(staff(),))
    tap(kit, STAFF)
    assert kit.last(TripStarted).kind is RentalKind.BOOKING, "within it, it is theirs and billed"


def test_a_grant_of_yesterday_does_not_hide_the_one_of_today() -> None:
    for grants in ((staff(-50), staff(3600)), (staff(3600), staff(-50))):
        assert tap(box(staff=grants), STAFF) == "opening"


def test_staff_without_the_right_to_the_door_stay_outside() -> None:
    assert tap(box(staff=(staff(rights=Rights.SERVICE),)), STAFF) == "no_right"


def test_a_visit_that_was_left_open_does_not_block_the_car_until_the_staffs_time_is_over() -> None:
    kit = box(booking(), staff=(staff(30 * 86400),))
    tap(kit, STAFF)
    kit.settle(locked=False)
    kit.t = 1700.0
    kit.drive(0.0)
    assert tap(kit) == "in_use", "somebody may be at work"
    kit.t = 2000.0
    kit.drive(0.0)
    kit.contacts(locked=False)
    assert tap(kit) == "opening", "the refusal before was no touch"
    assert kit.last(RentalEnded).kind is RentalKind.STAFF
    assert kit.last(RentalEnded).reason is RentalEndReason.ABANDONED
    assert len(kit.all(TripEnded)) == 1


def test_a_card_of_staff_is_worth_what_it_proves_even_beside_a_good_booking_of_another() -> None:
    cards = (CardGrant(STAFF, Assurance.MUTUAL, b"k" * 16),)
    kit = box(booking(ALICE), staff=(staff(cards=cards),))
    assert tap(kit, STAFF) == "card_not_proven"
    assert tap(kit, STAFF, Assurance.MUTUAL) == "opening"
