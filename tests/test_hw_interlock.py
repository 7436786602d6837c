"""The interlock, by table over every combination of what it can know, and by any history that Hypothesis finds."""

from __future__ import annotations

from collections.abc import Sequence
from itertools import product
from typing import cast

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from hw.interlock import Denied, Interlock, InterlockSettings
from onboard.core.commands import Action
from onboard.core.events import (
    BusReported,
    BusState,
    Event,
    LockButtonPressed,
    Position,
    PositionReported,
    Reading,
    Signal,
    SignalsReported,
)

NOW_S = 1000.0
PULSE_S = 0.3
NAN = float("nan")


def speed(value: float, age_s: float = 0.0, max_age_s: float = 3.0) -> SignalsReported:
    return SignalsReported(((Signal.SPEED, Reading(value, NOW_S - age_s, max_age_s)),))


def fix(speed_mps: float | None, age_s: float = 0.0) -> PositionReported:
    return PositionReported(Position(48.2, -1.8, speed_mps, 3, 1.0, NOW_S - age_s))


def asked(events: Sequence[Event], action: Action = Action.UNLOCK) -> Denied | None:
    interlock = Interlock()
    for event in events:
        interlock.note(event)
    return interlock.permit(action, NOW_S, PULSE_S)


SPEEDS: dict[str, SignalsReported | None] = {
    "never": None,
    "fresh_still": speed(0.0),
    "fresh_walking": speed(1.4),
    "fresh_fast": speed(1.41),
    "fresh_backwards": speed(-3.0),
    "fresh_nan": speed(NAN),
    "stale_still": speed(0.0, age_s=60.0),
    "lately_fast": speed(12.0, age_s=9.9),
    "long_ago_fast": speed(12.0, age_s=10.1),
}
BUSES: tuple[BusState | None, ...] = (None, *BusState)
FIXES: dict[str, PositionReported | None] = {
    "none": None,
    "no_speed": fix(None),
    "creeping": fix(2.7),
    "driving": fix(2.8),
    "driving_nan": fix(NAN),
    "old": fix(12.0, age_s=3.1),
}
MOVING_FIXES = {"driving", "driving_nan"}


def expected(speed_name: str, bus: BusState | None, fix_name: str) -> Denied | None:
    """The rules once more, as a table by name rather than by number."""
    if speed_name in {"fresh_still", "fresh_walking"}:
        return None
    if speed_name in {"fresh_fast", "fresh_backwards", "fresh_nan"}:
        return Denied.MOVING
    if speed_name == "lately_fast":
        return Denied.MOVED_LATELY
    if speed_name == "stale_still" and bus is BusState.ASLEEP:
        return None
    return Denied.MOVING_BY_GPS if fix_name in MOVING_FIXES else None


@pytest.mark.parametrize("action", list(Action))
@pytest.mark.parametrize(
    ("speed_name", "bus", "fix_name"),
    list(product(SPEEDS, BUSES, FIXES)),
)
def test_every_combination_of_speed_bus_and_receiver_is_judged_by_the_rules(
    action: Action, speed_name: str, bus: BusState | None, fix_name: str
) -> None:
    bus_event = None if bus is None else BusReported(bus, NOW_S - 1.0)
    heard: list[Event] = []
    heard.extend(event for event in (SPEEDS[speed_name], bus_event, FIXES[fix_name]) if event is not None)
    assert asked(heard, action) == expected(speed_name, bus, fix_name)


def test_a_driver_with_a_broken_bus_is_neither_locked_out_nor_kept_from_locking() -> None:
    events: list[Event] = [speed(0.2, age_s=600.0), BusReported(BusState.FAULT, NOW_S - 600.0)]
    assert asked(events, Action.LOCK) is None
    assert asked(events, Action.UNLOCK) is None


def test_a_reading_that_arrived_a_moment_after_the_question_was_timed_still_denies() -> None:
    assert asked([speed(12.0, age_s=-0.01)]) is Denied.MOVED_LATELY


def test_a_long_believed_fast_speed_denies_for_as_long_as_it_is_fresh() -> None:
    assert asked([speed(12.0, age_s=50.0, max_age_s=60.0)]) is Denied.MOVING


def test_only_speed_bus_and_position_are_learnt_from() -> None:
    odometer = SignalsReported(((Signal.DISTANCE, Reading(5000.0, NOW_S, 3.0)),))
    assert asked([odometer, LockButtonPressed()]) is None
    assert asked([speed(12.0), odometer, LockButtonPressed()]) is Denied.MOVING


def test_an_action_that_nobody_knows_is_denied() -> None:
    assert asked([speed(0.0)], cast("Action", "open_the_bonnet")) is Denied.UNKNOWN_ACTION


@pytest.mark.parametrize(
    ("pulse_s", "denied"),
    [
        (0.049, Denied.PULSE_OUT_OF_BOUNDS),
        (0.05, None),
        (1.0, None),
        (1.001, Denied.PULSE_OUT_OF_BOUNDS),
        (NAN, Denied.PULSE_OUT_OF_BOUNDS),
        (-0.3, Denied.PULSE_OUT_OF_BOUNDS),
    ],
)
def test_a_pulse_has_a_shortest_and_a_longest_length(pulse_s: float, denied: Denied | None) -> None:
    assert Interlock().permit(Action.LOCK, NOW_S, pulse_s) is denied


@pytest.mark.parametrize("at_s", [NAN, float("inf"), float("-inf")])
def test_a_time_that_is_no_time_is_denied(at_s: float) -> None:
    assert Interlock().permit(Action.LOCK, at_s, PULSE_S) is Denied.NO_TIME


def test_a_relay_rests_between_pulses_of_either_kind() -> None:
    interlock = Interlock()
    assert interlock.permit(Action.UNLOCK, NOW_S, PULSE_S) is None
    assert interlock.permit(Action.LOCK, NOW_S + 0.79, PULSE_S) is Denied.TOO_SOON
    assert interlock.permit(Action.LOCK, NOW_S - 5.0, PULSE_S) is Denied.TOO_SOON
    assert interlock.permit(Action.LOCK, NOW_S + 0.81, PULSE_S) is None


def test_one_action_is_given_six_times_in_half_a_minute_and_then_again_when_the_window_has_passed() -> None:
    interlock = Interlock()
    answers = [interlock.permit(Action.LOCK, NOW_S + second, PULSE_S) for second in range(8)]
    assert answers == [None] * 6 + [Denied.TOO_OFTEN] * 2
    assert interlock.permit(Action.LOCK, NOW_S + 29.9, PULSE_S) is Denied.TOO_OFTEN
    assert interlock.permit(Action.LOCK, NOW_S + 30.0, PULSE_S) is None


def test_somebody_who_plays_with_the_lock_button_does_not_use_up_the_unlocks() -> None:
    interlock = Interlock()
    for second in range(8):
        interlock.permit(Action.LOCK, NOW_S + second, PULSE_S)
    assert interlock.permit(Action.UNLOCK, NOW_S + 8.0, PULSE_S) is None


def test_what_was_denied_does_not_count_as_given() -> None:
    interlock = Interlock()
    interlock.note(speed(12.0))
    for _ in range(20):
        assert interlock.permit(Action.UNLOCK, NOW_S, PULSE_S) is Denied.MOVING
    interlock.note(speed(0.0))
    assert interlock.permit(Action.UNLOCK, NOW_S, PULSE_S) is None


@pytest.mark.parametrize(
    ("name", "value"),
    [
        ("moving_mps", 1.5),
        ("moving_mps", -0.1),
        ("moving_mps", NAN),
        ("gps_moving_mps", 3.0),
        ("gps_fresh_s", 0.5),
        ("coast_s", 5.0),
        ("gap_s", 0.1),
        ("pulses_max", 7),
        ("window_s", 10.0),
    ],
)
def test_bounds_can_not_be_loosened(name: str, value: float) -> None:
    with pytest.raises(ValueError, match=f"interlock.{name}"):
        InterlockSettings(**{name: value})  # type: ignore[arg-type]  # one name at a time, of either type


ages = st.floats(0, 200, allow_nan=False)
readings = st.builds(
    Reading,
    value=st.one_of(st.floats(-60, 60), st.just(NAN), st.just(float("inf"))),
    sampled_s=ages,
    max_age_s=st.floats(0, 100),
)
events = st.one_of(
    st.builds(lambda reading: SignalsReported(((Signal.SPEED, reading),)), readings),
    st.builds(BusReported, bus=st.sampled_from(BusState), since_s=ages),
    st.builds(
        lambda mps, at_s: PositionReported(Position(48.0, -1.8, mps, 3, 1.0, at_s)),
        st.one_of(st.none(), st.floats(0, 60)),
        ages,
    ),
)
questions = st.tuples(st.sampled_from(Action), st.floats(0, 0.5), st.floats(0.0, 1.2))


@settings(deadline=None)
@given(st.lists(st.one_of(events, questions), max_size=60))
def test_no_history_ever_permits_a_pulse_in_a_moving_car_or_more_pulses_than_the_bounds(
    history: list[SignalsReported | BusReported | PositionReported | tuple[Action, float, float]],
) -> None:
    interlock = Interlock()
    now_s = 100.0
    last: Reading | None = None
    given_at: list[tuple[Action, float, float]] = []
    for entry in history:
        if not isinstance(entry, tuple):
            interlock.note(entry)
            if isinstance(entry, SignalsReported):
                last = entry.readings[0][1]
            continue
        action, later_s, pulse_s = entry
        now_s += later_s
        if interlock.permit(action, now_s, pulse_s) is not None:
            continue
        assert 0.05 <= pulse_s <= 1.0
        if last is not None and last.fresh(now_s):
            assert abs(last.value) <= 1.4
        if given_at:
            assert now_s >= given_at[-1][1] + given_at[-1][2] + 0.5
        given_at.append((action, now_s, pulse_s))
        assert len([at for what, at, _ in given_at if what is action and now_s - at < 30.0]) <= 6


@pytest.mark.parametrize(
    ("name", "low", "high", "step"),
    [
        ("moving_mps", 0.0, 1.4, 0.01),
        ("gps_moving_mps", 1.0, 2.8, 0.01),
        ("gps_fresh_s", 1.0, 10.0, 0.01),
        ("coast_s", 10.0, 60.0, 0.01),
        ("gap_s", 0.5, 5.0, 0.01),
        ("pulses_max", 3, 6, 1),
        ("window_s", 30.0, 300.0, 0.01),
    ],
)
def test_each_bound_goes_from_here_to_there_and_not_a_step_further(
    name: str, low: float, high: float, step: float
) -> None:
    for value in (low, high):
        assert getattr(InterlockSettings(**{name: value}), name) == value  # type: ignore[arg-type]  # as above
    for value in (low - step, high + step):
        with pytest.raises(ValueError, match=rf"^interlock\.{name} is {value}: set it from {low} to {high}$"):
            InterlockSettings(**{name: value})  # type: ignore[arg-type]  # as above


def test_a_fast_speed_and_a_fix_count_to_the_end_of_their_time() -> None:
    assert asked([speed(12.0, age_s=10.0)]) is Denied.MOVED_LATELY
    assert asked([fix(12.0, age_s=3.0)]) is Denied.MOVING_BY_GPS


def test_the_rest_is_over_at_its_end() -> None:
    interlock = Interlock()
    assert interlock.permit(Action.UNLOCK, NOW_S, PULSE_S) is None
    assert interlock.permit(Action.UNLOCK, interlock.rest_until_s, PULSE_S) is None


def test_a_days_pulses_leave_the_bound_what_it_is() -> None:
    interlock = Interlock()
    assert [interlock.permit(Action.LOCK, 100.0 * hour, PULSE_S) for hour in range(10)] == [None] * 10
    answers = [interlock.permit(Action.LOCK, 1000.0 + second, PULSE_S) for second in range(8)]
    assert answers == [None] * 6 + [Denied.TOO_OFTEN] * 2


def test_a_car_moves_as_long_as_a_pulse_would_be_denied_for_it() -> None:
    interlock = Interlock()
    assert not interlock.moving(NOW_S)
    interlock.note(speed(12.0))
    assert interlock.moving(NOW_S)
    assert interlock.moving(NOW_S + 10.0)
    assert not interlock.moving(NOW_S + 10.1)
