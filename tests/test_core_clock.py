"""What time is believed, durations that outlive a boot, and histories of clocks in which nothing wrong opens."""

from __future__ import annotations

from dataclasses import replace

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from onboard.core.access import Grant, decide
from onboard.core.clock import (
    DRIFT,
    FLOOR_TOLERANCE_S,
    HORIZON_S,
    Anchor,
    ClockQuality,
    Instant,
    Span,
    believe,
    learn,
    length,
    save,
    stamp,
)
from onboard.core.events import CardCredential, ListReceived, TimeHeard
from onboard.core.grants import Assurance
from onboard.core.records import RentalEnded
from tests.core_kit import ALICE, HEDE, POLICY, T0, Kit, booking, listing

FLOOR = float(T0)
HERE, THERE = b"boot---1", b"boot---2"


def now(boot_s: float, wall_s: float = 0.0, quality: ClockQuality = ClockQuality.UNSET) -> Instant:
    return Instant(boot_s, wall_s, quality)


def heard(at_s: float, boot_s: float = 0.0, quality: ClockQuality = ClockQuality.GNSS, width_s: float = 0.0) -> Anchor:
    return Anchor(boot_s, at_s, at_s + width_s, quality)


# Belief


@pytest.mark.parametrize("quality", [ClockQuality.GNSS, ClockQuality.AUTHENTICATED])
def test_a_time_heard_runs_on_and_widens_with_the_drift(quality: ClockQuality) -> None:
    known = believe(FLOOR, heard(FLOOR + 100, 50.0, quality, 2.0), now(10_050.0))
    assert (known.best_s, known.quality) == (FLOOR + 10_101, quality)
    assert known.earliest_s == FLOOR + 10_100 - 10_000 * DRIFT
    assert known.latest_s == FLOOR + 10_102 + 10_000 * DRIFT


def test_nothing_is_believed_below_the_floor() -> None:
    known = believe(FLOOR, heard(FLOOR - 200), now(0.0))
    assert known.earliest_s == known.best_s == known.latest_s == FLOOR


def test_a_system_clock_is_a_guess_that_bounds_nothing() -> None:
    known = believe(FLOOR, None, now(5.0, FLOOR + 9, ClockQuality.RTC))
    assert (known.earliest_s, known.best_s, known.latest_s) == (FLOOR, FLOOR + 9, float("inf"))
    assert known.quality is ClockQuality.RTC


@pytest.mark.parametrize(
    ("wall_s", "quality"),
    [(FLOOR - 1, ClockQuality.RTC), (FLOOR + HORIZON_S + 1, ClockQuality.RTC), (FLOOR + 9, ClockQuality.RESTORED)],
)
def test_a_system_clock_that_cannot_be_is_not_even_a_guess(wall_s: float, quality: ClockQuality) -> None:
    known = believe(FLOOR, None, now(5.0, wall_s, quality))
    assert (known.best_s, known.quality) == (FLOOR, ClockQuality.RESTORED)


def test_without_anything_the_time_is_unset() -> None:
    assert believe(0.0, None, now(5.0)).quality is ClockQuality.UNSET
    assert stamp(0.0, None, now(5.0)) == Instant(5.0, 0.0, ClockQuality.UNSET)


# Learning


def test_only_a_signed_time_raises_the_floor() -> None:
    assert learn(FLOOR, None, heard(FLOOR + 100), now(0.0))[0] == FLOOR
    proof = heard(FLOOR + 100, quality=ClockQuality.AUTHENTICATED, width_s=5.0)
    assert learn(FLOOR, None, proof, now(0.0)) == (FLOOR + 100, proof, None)


@pytest.mark.parametrize(
    ("off_s", "refusal"),
    [
        (-FLOOR_TOLERANCE_S, None),
        (-FLOOR_TOLERANCE_S - 1, "gnss_date_below_floor"),
        (HORIZON_S, None),
        (HORIZON_S + 1, "gnss_date_beyond_horizon"),
    ],
)
def test_a_receivers_date_must_be_possible(off_s: float, refusal: str | None) -> None:
    new = heard(FLOOR + off_s)
    assert learn(FLOOR, None, new, now(0.0)) == (FLOOR, None if refusal else new, refusal)
    old = heard(FLOOR + 1)
    if refusal:
        assert learn(FLOOR, old, new, now(0.0)) == (FLOOR, old, refusal)


@pytest.mark.parametrize(("off_s", "refusal"), [(4.9, None), (-4.9, None), (5.2, "gnss_disagrees_with_proof")])
def test_a_receiver_never_replaces_a_proof_of_this_boot(off_s: float, refusal: str | None) -> None:
    proof = heard(FLOOR + 100, 10.0, ClockQuality.AUTHENTICATED)
    said = learn(FLOOR, proof, heard(FLOOR + 1090 + off_s, 1000.0), now(1000.0))
    assert said == (FLOOR, proof, refusal)


def test_a_proof_replaces_a_proof() -> None:
    first = heard(FLOOR + 100, 0.0, ClockQuality.AUTHENTICATED)
    second = heard(FLOOR + 900, 50.0, ClockQuality.AUTHENTICATED)
    assert learn(FLOOR, first, second, now(60.0)) == (FLOOR + 900, second, None)


# Spans


def at(boot_s: float, quality: ClockQuality = ClockQuality.GNSS, off_s: float = 0.0) -> Instant:
    return Instant(boot_s, FLOOR + boot_s + off_s, quality)


def test_within_a_boot_only_the_boot_time_clock_counts() -> None:
    span = Span(at(100.0), HERE)
    assert length(span, at(700.0, off_s=1e6), HERE) == (600.0, "boot")
    assert length(span, at(90.0), HERE) == (0.0, "boot")


def test_across_a_reboot_two_good_wall_times_count() -> None:
    span = save(Span(at(100.0), HERE), at(400.0), HERE)
    later = Instant(20.0, FLOOR + 1100.0, ClockQuality.GNSS)
    assert length(span, later, THERE) == (1000.0, "wall")


@pytest.mark.parametrize("weak", ["start", "end"])
def test_across_a_reboot_without_good_times_the_length_is_surely_not_too_long(weak: str) -> None:
    start = at(100.0, ClockQuality.RTC if weak == "start" else ClockQuality.GNSS)
    span = save(Span(start, HERE), at(400.0), HERE)
    end = Instant(20.0, FLOOR + 9e6, ClockQuality.RTC if weak == "end" else ClockQuality.AUTHENTICATED)
    assert length(span, end, THERE) == (320.0, "floor"), "saved, and this boot's own seconds"


def test_a_wall_time_that_went_back_does_not_shorten_what_is_saved() -> None:
    span = save(Span(at(100.0), HERE), at(400.0), HERE)
    assert length(span, Instant(20.0, FLOOR - 5000, ClockQuality.GNSS), THERE) == (320.0, "wall")


def test_a_sky_that_was_wrong_when_a_length_was_saved_does_not_make_it_longer() -> None:
    span = save(Span(at(100.0), HERE), at(400.0), HERE)
    span = save(span, at(20.0, off_s=86_400.0), THERE)
    assert length(span, at(50.0, ClockQuality.RTC), THERE) == (350.0, "floor")
    assert length(span, at(50.0, off_s=400.0), THERE) == (350.0, "wall"), "and the right sky is believed"


def test_a_length_survives_any_number_of_reboots() -> None:
    span = save(Span(at(100.0, ClockQuality.RTC), HERE), at(400.0), HERE)
    span = save(span, at(50.0, ClockQuality.UNSET), THERE)
    assert length(span, at(80.0, ClockQuality.UNSET), THERE) == (380.0, "floor")
    span = save(span, at(80.0, ClockQuality.UNSET), THERE)
    assert length(span, at(5.0, ClockQuality.UNSET), b"boot---3") == (385.0, "floor")


@given(st.lists(st.tuples(st.floats(1, 5000), st.floats(0, 1), st.booleans()), min_size=1, max_size=6))
def test_a_saved_length_is_never_longer_than_what_passed(boots: list[tuple[float, float, bool]]) -> None:
    span = Span(Instant(0.0, 0.0, ClockQuality.UNSET), b"0")
    passed_s = 0.0
    for number, (lasted_s, saved_at, saves) in enumerate(boots):
        epoch = bytes([48 + number])
        if saves:
            span = save(span, now(lasted_s * saved_at), epoch)
        assert length(span, now(lasted_s), epoch)[0] <= passed_s + lasted_s + 1e-6
        passed_s += lasted_s


# Histories

END_S = 3600
MARGIN_S = 60.0
_LIES = st.one_of(
    st.floats(-2 * 86400, 2 * 86400),
    st.floats(-FLOOR_TOLERANCE_S, -MARGIN_S),
    st.sampled_from([-1024 * 604800.0, 1024 * 604800.0, -float(T0), 22 * 3.2e7]),
)
_MOMENTS = st.lists(
    st.one_of(
        st.tuples(st.just("wait"), st.floats(0, 3000)),
        st.tuples(st.just("gnss"), _LIES | st.just(0.0)),
        st.tuples(st.just("proof"), st.floats(0, 30)),
        st.tuples(st.just("reboot"), st.floats(0, 3000)),
        st.tuples(st.just("list"), st.floats(0, 60)),
    ),
    max_size=14,
)


@settings(max_examples=400, deadline=None)
@given(_MOMENTS, _LIES | st.just(0.0), st.sampled_from(list(ClockQuality)[:3]), st.booleans(), st.floats(-DRIFT, DRIFT))
def test_no_history_of_clocks_opens_what_a_signed_time_says_is_over(
    moments: list[tuple[str, float]], rtc_off_s: float, quality: ClockQuality, lenient: bool, drift: float
) -> None:
    """The box hears lies from the sky and its own clock at will; what the cloud signs is true."""
    true_s, boot_s, version = 0.0, 0.0, 1
    signed_s = proven_s = float("-inf")
    kit = Kit(replace(POLICY, unproven_start=lenient))
    kit.give(ListReceived(listing(booking(end_s=END_S), issued_at_s=T0 - 60)))
    for what, value in moments:
        if what == "wait":
            true_s, boot_s = true_s + value, boot_s + value * (1 + drift)
        elif what == "reboot":
            true_s, boot_s, proven_s = true_s + value, 0.0, float("-inf")
            kit.boot()
        elif what == "list":
            version += 1
            kit.t = boot_s
            kit.give(ListReceived(listing(booking(end_s=END_S), version=version, issued_at_s=T0 + int(true_s))))
            signed_s = max(signed_s, true_s - 1)
        elif what == "proof":
            kit.t = boot_s
            kit.give(TimeHeard(Anchor(boot_s, T0 + true_s - value, T0 + true_s + value, ClockQuality.AUTHENTICATED)))
            signed_s, proven_s = max(signed_s, true_s - value), true_s
        else:
            kit.t = boot_s
            kit.give(TimeHeard(Anchor(boot_s, T0 + true_s + value, T0 + true_s + value, ClockQuality.GNSS)))
        known_s = true_s if proven_s > float("-inf") else signed_s
        over = known_s - MARGIN_S > END_S
        read = Instant(boot_s, T0 + true_s + rtc_off_s, quality)
        verdict = decide(kit.state, CardCredential(ALICE, Assurance.UID), read, abandoned=False, still=True)
        assert not (over and isinstance(verdict, Grant)), (what, true_s, signed_s)
        if proven_s > float("-inf") and 0 < true_s < END_S - MARGIN_S:
            assert isinstance(verdict, Grant), "and whoever is in time and has a proof gets in"


def test_a_trip_over_a_reboot_is_billed_by_two_good_wall_times() -> None:
    kit = Kit().ready()
    kit.begin()
    kit.travel()
    kit.boot()
    kit.give(TimeHeard(Anchor(kit.t, T0 + 2000.0, T0 + 2000.0, ClockQuality.GNSS)))
    kit.drive(0.0, odometer_m=2000)
    kit.at(HEDE)
    kit.contacts(locked=False)
    kit.end()
    ended = kit.last(RentalEnded)
    assert (ended.billable_basis, ended.billable_s) == ("wall", 2000)


@pytest.mark.parametrize(("boot_s", "length_s"), [(60.0, 150.0), (10.5, 100.5), (10.0, 100.0), (5.0, 100.0)])
def test_a_length_saved_in_this_boot_grows_from_there_and_never_shrinks(boot_s: float, length_s: float) -> None:
    begun = Instant(0.0, 0.0, ClockQuality.UNSET)
    span = Span(begun, b"before--", saved_s=100.0, saved_boot_s=10.0, saved_epoch=b"now-----")
    assert length(span, replace(begun, boot_s=boot_s), b"now-----") == (length_s, "floor")
