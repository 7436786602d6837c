"""Who may unlock when the clock is weak, wrong or lied to: docs/protocol.md section 6, its last paragraphs."""

from __future__ import annotations

from dataclasses import replace

import pytest

from onboard.core import machine
from onboard.core.clock import Anchor, ClockQuality, Instant
from onboard.core.commands import Pattern, Record, Reply
from onboard.core.events import Event, ListReceived, TimeHeard
from onboard.core.policy import Policy
from onboard.core.records import FaultChanged, Recordable, RentalEnded, RentalEndReason, TripStarted
from tests.core_kit import ALICE, BOB, POLICY, STAFF, T0, Kit, booking, card, listing
from tests.core_people import ANYWHERE, ask, leave, staff, tap

DAY_S = 86400.0
WEEKS_1024_S = 1024 * 7 * DAY_S
LENIENT = replace(POLICY, unproven_start=True)


def box(policy: Policy = POLICY, now_s: float = 1000.0, issued_s: int = -60) -> Kit:
    """Return a box without any clock: Alice's window is open from 0 to 3600, Bob's from 5000 on."""
    kit = Kit(policy)
    kit.t = now_s
    reservations = (booking(), booking(BOB, 5000, 9000))
    kit.give(ListReceived(listing(*reservations, staff=(staff(3600),), issued_at_s=T0 + issued_s)))
    kit.contacts(locked=True)
    return kit


def at(kit: Kit, event: Event, wall_s: float, quality: ClockQuality) -> tuple[str, list[Recordable]]:
    """Give an event to a box whose system clock says this; returns the answer and what was written."""
    state, commands = machine.step(kit.state, event, Instant(kit.t, wall_s, quality))
    kit.state = state
    written = [r for c in commands if isinstance(c, Record) for r in c.records]
    return next((c.reason for c in commands if isinstance(c, Reply)), ""), written


@pytest.mark.parametrize("who", [ALICE, STAFF])
@pytest.mark.parametrize("lenient", [False, True])
@pytest.mark.parametrize("quality", [ClockQuality.UNSET, ClockQuality.RESTORED, ClockQuality.RTC])
def test_a_weak_clock_starts_nothing_unless_the_commune_allows_it_and_then_says_so(
    quality: ClockQuality, lenient: bool, who: bytes
) -> None:
    kit = box(LENIENT if lenient else POLICY)
    if quality is ClockQuality.UNSET:
        kit.state = replace(kit.state, kept=replace(kit.state.kept, floor_s=0.0))
    answer, written = at(kit, card(who), T0 + kit.t, quality)
    assert answer == ("opening" if lenient else "clock_unproven")
    started = [r for r in written if isinstance(r, TripStarted)]
    assert [r.proven for r in started] == ([False] if lenient else [])


def test_a_clock_too_weak_is_told_as_something_that_passes() -> None:
    kit = box()
    tap(kit)
    assert (kit.word, kit.shown) == ("clock_unproven", Pattern.TRY_AGAIN)


@pytest.mark.parametrize(
    ("off_s", "answer"), [(0.0, "opening"), (-1700.0, "clock_unproven"), (3000.0, "clock_unproven")]
)
def test_an_allowed_start_must_still_fit_what_the_real_time_clock_says(off_s: float, answer: str) -> None:
    kit = box(LENIENT, issued_s=-5000)
    assert at(kit, card(), T0 + kit.t + off_s, ClockQuality.RTC)[0] == answer


@pytest.mark.parametrize(("off_s", "answer"), [(0.0, "opening"), (0.5, "clock_unproven")])
def test_so_must_an_allowed_visit_of_staff(off_s: float, answer: str) -> None:
    kit = box(LENIENT, issued_s=-5000)
    assert at(kit, card(STAFF), T0 + 3600 + off_s, ClockQuality.RTC)[0] == answer


def test_an_allowed_start_comes_early_only_if_no_other_window_is_open() -> None:
    for other_end_s, answer in ((4000, "opening"), (4900, "clock_unproven")):
        kit = Kit(LENIENT)
        kit.t = 4500.0
        kit.give(ListReceived(listing(booking(ALICE, 0, other_end_s), booking(BOB, 5000, 9000))))
        assert at(kit, card(BOB), T0 + kit.t, ClockQuality.RTC)[0] == answer


def test_a_real_time_clock_below_the_floor_or_decades_above_it_counts_for_nothing() -> None:
    for wall_s in (0.0, T0 - 10 * DAY_S, T0 + 30 * 365 * DAY_S):
        kit = box(LENIENT)
        assert at(kit, card(BOB), wall_s, ClockQuality.RTC)[0] == "opening", "as with no clock at all: unproven"


def test_what_is_surely_over_does_not_start_under_any_policy() -> None:
    for policy in (POLICY, LENIENT):
        kit = box(policy, issued_s=3700)
        assert tap(kit) == "too_late"
        assert tap(kit, STAFF) == "too_late"
        assert tap(kit, BOB) == ("opening" if policy is LENIENT else "clock_unproven")


def test_a_pass_never_starts_on_an_unproven_clock() -> None:
    kit = box(LENIENT)
    assert ask(kit, b"carol---", leave(b"carol---", g=7)) == "clock_unproven"


def test_a_time_proof_opens_for_who_was_told_to_bring_one() -> None:
    kit = box()
    assert tap(kit) == "clock_unproven"
    kit.clock(ClockQuality.AUTHENTICATED)
    assert tap(kit) == "opening"
    assert kit.last(TripStarted).proven


@pytest.mark.parametrize(("bound_s", "answer"), [(0.0, "opening"), (20.0, "too_early"), (-20.0, "too_early")])
def test_a_start_is_tested_against_the_earliest_believable_time(bound_s: float, answer: str) -> None:
    kit = box(now_s=4410.0)
    now_s = T0 + kit.t
    width = (now_s - abs(bound_s), now_s + abs(bound_s))
    kit.give(TimeHeard(Anchor(kit.t, *width, ClockQuality.AUTHENTICATED)))
    assert tap(kit, BOB) == answer


@pytest.mark.parametrize(("bound_s", "answer"), [(5.0, "opening"), (20.0, "too_late")])
def test_an_end_is_tested_against_the_latest_believable_time(bound_s: float, answer: str) -> None:
    kit = box(now_s=3590.0)
    now_s = T0 + kit.t
    kit.give(TimeHeard(Anchor(kit.t, now_s - bound_s, now_s + bound_s, ClockQuality.AUTHENTICATED)))
    assert tap(kit) == answer


def test_the_older_a_time_the_wider_it_is_believed() -> None:
    kit = box(now_s=0.0)
    kit.clock()
    kit.t = 3599.9
    assert tap(kit) == "too_late", "an hour of the worst drift is 0.36 s"


SPOOFS = {
    "2049": 22 * 365.25 * DAY_S,
    "a year ahead": 365 * DAY_S,
    "yesterday": -DAY_S,
    "1024 weeks ahead": WEEKS_1024_S,
    "1024 weeks back": -WEEKS_1024_S,
    "1980": -float(T0),
}


@pytest.mark.parametrize("name", SPOOFS)
def test_a_spoofed_date_neither_locks_out_for_ever_nor_opens_what_is_over(name: str) -> None:
    kit = box(now_s=4000.0, issued_s=3700)
    kit.clock(off_s=SPOOFS[name])
    assert tap(kit) in ("too_late", "clock_unproven"), "over stays over"
    assert tap(kit, BOB) != "opening"
    kit.t = 5000.0
    kit.clock()
    word = tap(kit, BOB)
    if word == "clock_unproven":
        # Two skies in one boot: none is believed before it has told one story for a while.
        for _ in range(16):
            kit.t += 60.0
            kit.clock()
        kit.contacts(locked=True)
        word = tap(kit, BOB)
    assert word == "opening", "gone with the spoof"


@pytest.mark.parametrize("name", SPOOFS)
def test_after_a_time_proof_a_spoofed_date_changes_nothing_and_is_told(name: str) -> None:
    kit = box()
    kit.clock(ClockQuality.AUTHENTICATED)
    before = kit.state
    kit.clock(off_s=SPOOFS[name])
    assert kit.state.anchor == before.anchor
    assert kit.last(FaultChanged).part == "gnss_time"
    assert tap(kit) == "opening"


@pytest.mark.parametrize("name", SPOOFS)
def test_a_time_proof_puts_a_spoofed_date_right_at_once(name: str) -> None:
    kit = box()
    kit.clock(off_s=SPOOFS[name])
    kit.clock(ClockQuality.AUTHENTICATED)
    assert tap(kit) == "opening"
    assert not [f for f in kit.state.faults if f[0] == "gnss_time"]


def test_a_car_locked_in_mid_rental_does_not_stay_taken_for_want_of_a_clock() -> None:
    kit = Kit(LENIENT).ready(booking(), booking(BOB, 5000, 20_000))
    kit.begin()
    kit.travel(to=ANYWHERE)
    kit.end()
    kit.boot()
    kit.contacts(locked=True)
    assert tap(kit, BOB) == "in_use"
    kit.wait(3600 + 900 + 10)
    assert kit.last(RentalEnded).reason is RentalEndReason.TIME_OVER
    assert tap(kit, BOB) == "opening"


@pytest.mark.parametrize("policy", [POLICY, LENIENT])
def test_a_sky_that_plays_tomorrow_ends_no_locked_rental(policy: Policy) -> None:
    kit = Kit(policy).ready()
    kit.begin()
    kit.travel(to=ANYWHERE)
    kit.end()
    kit.clock(off_s=30 * DAY_S)
    kit.wait(60.0)
    assert not kit.all(RentalEnded)
    kit.contacts(locked=True)
    assert tap(kit) == "opening", "its driver gets in again"


def test_without_that_policy_a_weak_clock_holds_the_locked_rental_and_a_proof_frees_the_car() -> None:
    kit = Kit().ready(booking(), booking(BOB, 5000, 20_000))
    kit.begin()
    kit.travel(to=ANYWHERE)
    kit.end()
    kit.boot()
    kit.contacts(locked=True)
    assert tap(kit, BOB) == "clock_unproven", "the driver is told what helps, not that the car is taken"
    now_s = T0 + 5100.0
    kit.give(TimeHeard(Anchor(kit.t, now_s, now_s, ClockQuality.AUTHENTICATED)))
    assert kit.last(RentalEnded).reason is RentalEndReason.TIME_OVER
    assert tap(kit, BOB) == "opening"
