"""Which rule let somebody in, to the last second of each; and the time that it went by, to the last tenth."""

from __future__ import annotations

from dataclasses import replace
from itertools import pairwise

import pytest

from onboard.core import access
from onboard.core.clock import DISAGREE_S, HORIZON_S, Anchor, ClockQuality, Instant, believe, learn
from onboard.core.events import CardCredential, Intent, ListReceived
from onboard.core.grants import Assurance, CardGrant, Reservation, Revocation
from onboard.core.records import RentalEnded, RentalEndReason, TripStarted
from tests.core_kit import ALICE, BOB, POLICY, STAFF, T0, Kit, booking, listing
from tests.core_people import ANYWHERE, ask, leave, staff, tap

FLOOR = float(T0)


def unset(boot_s: float) -> Instant:
    return Instant(boot_s, 0.0, ClockQuality.UNSET)


def test_a_trip_is_written_down_with_the_rule_and_the_kind_of_credential() -> None:
    kit = Kit().ready()
    kit.begin()
    assert (kit.last(TripStarted).rule, kit.last(TripStarted).credential) == (2, "card")
    kit.travel(to=ANYWHERE)
    kit.end()
    kit.t += 100.0
    kit.contacts(locked=True)
    ask(kit)
    assert (kit.last(TripStarted).rule, kit.last(TripStarted).credential) == (1, "phone")


@pytest.mark.parametrize(("who", "word"), [(ALICE, "opening"), (BOB, "opening"), (STAFF, "in_use")])
def test_an_abandoned_car_is_taken_over_by_a_listed_booking_or_a_pass_and_by_nobody_else(who: bytes, word: str) -> None:
    kit = Kit().ready(booking(b"carol---"), booking(ALICE, 5000, 9000), staff=(staff(),))
    kit.begin(b"carol---")
    kit.t = 6000.0
    kit.clock()
    kit.drive(0.0)
    kit.contacts(locked=False)
    if who == BOB:
        kit.give(ListReceived(listing(booking(b"carol---"), version=2)))
        assert ask(kit, BOB, leave(BOB, 5000, 9000, g=9)) == word
    else:
        assert tap(kit, who) == word
    ended = [record.reason for record in kit.all(RentalEnded)]
    assert ended == ([RentalEndReason.ABANDONED] if word == "opening" else [])


@pytest.mark.parametrize(("after_s", "word"), [(600.0, "reopening"), (600.5, "rental_over")])
def test_the_last_driver_opens_once_more_for_ten_minutes(after_s: float, word: str) -> None:
    kit = Kit().ready()
    kit.t = 700.0
    kit.contacts(locked=True)
    kit.begin()
    kit.travel()
    kit.end()
    last = kit.state.last_driver
    assert last is not None
    kit.t = last.ended_s + after_s
    kit.contacts(locked=True)
    assert tap(kit) == word


@pytest.mark.parametrize(("at_s", "word"), [(1000.0, "revoked"), (1000.5, "opening")])
def test_a_revocation_counts_to_its_last_second(at_s: float, word: str) -> None:
    kit = Kit().ready(booking(), revoked=(Revocation(ALICE, T0 + 1000),))
    kit.t = at_s
    kit.clock()
    kit.contacts(locked=True)
    assert tap(kit) == word


def test_a_phone_without_its_pass_is_held_to_its_newest_one_only() -> None:
    kit = Kit().ready(booking(BOB))
    for number in (7, 8):
        assert ask(kit, grant=leave(g=number, id=bytes([number]) * 8), intent=Intent.LOCK)
    grants = kit.state.kept.grants
    assert [p.id[0] for p in grants.passes] == [7, 8]
    assert ask(kit, grant=grants.passes[1]) == "opening"
    listed = replace(listing(booking(BOB)), revoked=(Revocation(bytes([7]) * 8, T0 + 7200),))
    kit.state = replace(kit.state, kept=replace(kit.state.kept, grants=replace(grants, listed=listed)))
    kit.settle(locked=False)
    kit.drive(0.0)
    kit.contacts(locked=True)
    assert ask(kit) != "revoked"


def test_a_lists_version_counts_above_its_floor() -> None:
    kit = Kit()
    assert access.list_version(kit.state) == 0
    grants = replace(kit.state.kept.grants, listed=listing(version=5), version_floor=3)
    kit.state = replace(kit.state, kept=replace(kit.state.kept, grants=grants))
    assert access.list_version(kit.state) == 5


def test_that_bare_numbers_are_off_is_said_before_that_a_card_did_not_prove_itself() -> None:
    proven = booking(cards=(CardGrant(ALICE, Assurance.MUTUAL, b"k" * 16),), id=b"p" * 16)
    kit = Kit(replace(POLICY, uid_cards=False)).ready(proven, booking(start_s=10))
    assert tap(kit) == "uid_cards_off"


WORDS = ("uid_cards_off", "card_not_proven", "clock_unproven", "other_window", "too_early", "superseded", "too_late")


@pytest.mark.parametrize(("first", "then"), list(pairwise(WORDS)))
def test_of_two_refusals_the_one_is_said_that_a_driver_can_act_on(
    first: str, then: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    kit = Kit().ready(booking(), booking(start_s=10, id=b"p" * 16))
    words = iter((first, then))
    monkeypatch.setattr(access, "_window", lambda *_: access.Denial(next(words)))
    denied = access.decide(kit.state, CardCredential(ALICE, Assurance.UID), unset(1.0), abandoned=False, still=True)
    assert denied == access.Denial(first)


def tapped_at(at_s: float, *bookings: Reservation, horizon_s: int = 86400) -> str:
    kit = Kit().ready(*bookings, horizon_end_s=T0 + horizon_s)
    kit.t = at_s
    kit.clock()
    kit.contacts(locked=True)
    return tap(kit)


@pytest.mark.parametrize(
    ("at_s", "horizon_s", "word"),
    [
        (3600.0, 86400, "opening"),
        (3600.5, 86400, "too_late"),
        (3600.0, 1000, "list_too_old"),
        (1000.0, 1000, "opening"),
    ],
)
def test_a_booking_and_a_list_hold_to_their_last_second(at_s: float, horizon_s: int, word: str) -> None:
    assert tapped_at(at_s, booking(), horizon_s=horizon_s) == word


@pytest.mark.parametrize(
    ("at_s", "others", "word"),
    [
        (1000.0, (0, 1000), "other_window"),
        (1000.5, (0, 1000), "opening"),
        (1000.0, (1000, 1200), "other_window"),
        (999.5, (1000, 1200), "opening"),
    ],
)
def test_anothers_window_is_open_from_its_first_second_to_its_last(
    at_s: float, others: tuple[int, int], word: str
) -> None:
    assert tapped_at(at_s, booking(start_s=1500), booking(BOB, *others)) == word


# Time


def test_a_time_heard_widens_by_exactly_its_drift() -> None:
    known = believe(FLOOR, Anchor(50.0, FLOOR + 100.0, FLOOR + 102.0, ClockQuality.GNSS), unset(10_050.0))
    assert (known.earliest_s, known.best_s, known.latest_s) == (FLOOR + 10_099, FLOOR + 10_101, FLOOR + 10_103)


@pytest.mark.parametrize(
    ("off_s", "quality"),
    [
        (-1.0, ClockQuality.RESTORED),
        (0.0, ClockQuality.RTC),
        (HORIZON_S, ClockQuality.RTC),
        (HORIZON_S + 1, ClockQuality.RESTORED),
    ],
)
def test_a_system_clock_may_be_from_the_floor_to_the_horizon(off_s: float, quality: ClockQuality) -> None:
    known = believe(FLOOR, None, Instant(1.0, FLOOR + off_s, ClockQuality.RTC))
    assert known.quality is quality
    assert known.latest_s == float("inf")


def test_any_floor_is_a_restored_time() -> None:
    assert believe(0.5, None, unset(1.0)).quality is ClockQuality.RESTORED
    assert believe(0.0, None, unset(1.0)).quality is ClockQuality.UNSET


@pytest.mark.parametrize(("off_s", "agrees"), [(-6.0, True), (-6.5, False), (6.0, True), (6.5, False)])
def test_the_sky_is_held_to_a_proof_at_the_moment_that_it_spoke(off_s: float, agrees: bool) -> None:
    proof = Anchor(0.0, FLOOR, FLOOR, ClockQuality.AUTHENTICATED)
    at_s, now_s = 10_000.0, 90_000.0
    assert at_s * 1e-4 + DISAGREE_S == 6.0
    heard = Anchor(at_s, FLOOR + at_s + off_s, FLOOR + at_s + off_s, ClockQuality.GNSS)
    assert learn(FLOOR, proof, heard, unset(now_s)) == (
        FLOOR,
        proof,
        None if agrees else "gnss_disagrees_with_proof",
    )
