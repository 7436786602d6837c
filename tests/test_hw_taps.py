"""What a card is, and what counts as a tap: the pure half of the card reader."""

from __future__ import annotations

from dataclasses import replace

import pytest
from hypothesis import given
from hypothesis import strategies as st

from hw.taps import (
    BURST,
    LOCKOUT_S,
    REARM_S,
    REFILL_S,
    REMEMBERED_MAX,
    Refusal,
    Tap,
    TapFilter,
    Target,
    card_ref,
)
from onboard.core.cards import number_fault
from tests.card_rig import KEY, LONG_CARD, SHORT_CARD

POLL_S = 0.25
A = Target(bytes.fromhex(LONG_CARD), 0x20, b"")
B = Target(bytes.fromhex(SHORT_CARD), 0x08, b"")
PHONE = Target(bytes.fromhex("08112233"), 0x20, b"")


def told(polls: list[list[Target]], taps: TapFilter | None = None, began_s: float = 0.0) -> list[Tap | Refusal | None]:
    """Show the filter one poll every 0.25 s; return its answers."""
    shown = taps or TapFilter()
    return [shown.polled(targets, began_s + number * POLL_S) for number, targets in enumerate(polls)]


# What a card is


@pytest.mark.parametrize(
    ("uid", "sak", "reason"),
    [
        ("deadbeef", 0x08, None),
        ("04a1b2c3d4e5f6", 0x20, None),
        ("00112233445566778899", 0x20, None),
        ("08112233", 0x08, "random_uid"),
        ("08112233", 0x20, "random_uid"),
        ("80112233", 0x20, "random_uid"),
        ("80112233", 0x08, None),
        ("0f112233", 0x08, "reused_uid"),
        ("ff112233", 0x20, "reused_uid"),
        ("0f112233445566", 0x20, None),
        ("08112233445566", 0x20, None),
        ("", 0x00, "unreadable"),
        ("deadbe", 0x08, "unreadable"),
        ("0011223344", 0x08, "unreadable"),
        ("0011223344556677", 0x08, "unreadable"),
        ("0011223344556677889900", 0x08, "unreadable"),
    ],
)
def test_only_fixed_numbers_of_a_known_length_stand_for_a_person(uid: str, sak: int, reason: str | None) -> None:
    target = Target(bytes.fromhex(uid), sak, b"")
    assert number_fault(target.uid, target.sak) == reason
    expected = Tap(target.uid) if reason is None else Refusal(reason)
    assert told([[target]]) == [expected]


def test_a_reference_is_the_first_eight_bytes_of_an_hmac() -> None:
    # RFC 4231, test case 2.
    assert card_ref(b"Jefe", b"what do ya want for nothing?").hex() == "5bdcc146bf60754e"
    assert card_ref(KEY, A.uid) != card_ref(bytes(32), A.uid)


# What a tap is


def test_a_held_card_is_one_tap() -> None:
    assert [answer for answer in told([[A]] * 200) if answer] == [Tap(A.uid)]


def test_a_card_missed_now_and_then_is_still_held() -> None:
    every_second = told([[A], []] * 100)
    assert [answer for answer in every_second if answer] == [Tap(A.uid)]


def test_three_misses_in_less_than_a_second_do_not_rearm() -> None:
    polls: list[list[Target]] = [[A]] * 20 + [[]] * 4 + [[A]] * 20
    assert sum(answer is not None for answer in told(polls)) == 1


def test_misses_far_apart_but_too_few_do_not_rearm() -> None:
    taps = TapFilter()
    assert taps.polled([A], 0.0) == Tap(A.uid)
    assert taps.polled([], 10.0) is None
    assert taps.polled([], 20.0) is None
    assert taps.polled([A], 30.0) is None


def test_a_card_that_comes_back_after_a_second_and_its_lock_out_is_a_second_tap() -> None:
    polls: list[list[Target]] = [[A]] + [[]] * 12 + [[A]]
    assert told(polls)[-1] == Tap(A.uid)
    assert told(polls)[1:-1] == [None] * 12


def test_a_card_that_comes_back_within_the_lock_out_is_swallowed_and_counted() -> None:
    taps = TapFilter()
    polls: list[list[Target]] = [[A]] + [[]] * 5 + [[A]] * 40
    assert [answer for answer in told(polls, taps) if answer] == [Tap(A.uid)]
    assert taps.counts == {"taps": 1, "locked_out": 1}


def test_another_card_is_told_at_once() -> None:
    assert told([[A], [B], [A], [B]]) == [Tap(A.uid), Tap(B.uid), None, None]


def test_two_cards_are_refused_once_and_neither_is_picked() -> None:
    polls: list[list[Target]] = [[]] + [[A, B]] * 20 + [[A], [B]] * 2 + [[A]] * 20
    assert [answer for answer in told(polls) if answer] == [Refusal("two_cards")]


def test_after_two_cards_one_of_them_counts_once_it_has_been_away() -> None:
    polls: list[list[Target]] = [[A, B]] + [[]] * 6 + [[B]]
    assert told(polls)[-1] == Tap(B.uid)


def test_a_phone_beside_a_card_leaves_no_trail_of_numbers() -> None:
    taps = TapFilter()
    for number in range(50):
        taps.polled([A, replace(PHONE, uid=b"\x08" + number.to_bytes(3, "big"))], number * POLL_S)
    assert len(taps._memories) == 2


def test_a_card_added_to_a_held_one_does_not_make_the_held_one_tap_again() -> None:
    polls: list[list[Target]] = [[A]] * 4 + [[A, B]] * 40 + [[A]] * 40
    assert [answer for answer in told(polls) if answer] == [Tap(A.uid), Refusal("two_cards")]


def test_a_phone_with_a_new_number_at_every_poll_is_refused_once() -> None:
    polls = [[replace(PHONE, uid=b"\x08" + number.to_bytes(3, "big"))] for number in range(100)]
    assert [answer for answer in told(polls) if answer] == [Refusal("random_uid")]


def test_a_flapping_card_gives_bounded_events_an_hour() -> None:
    taps = TapFilter()
    hour = [[A] if number % 13 == 0 else [] for number in range(4 * 3600)]
    answers = [answer for answer in told(hour, taps) if answer]
    assert 600 < len(answers) <= BURST + 3600 / REFILL_S
    assert taps.counts["taps"] == len(answers)
    assert taps.counts["rate_bound"] > 0


def test_a_new_number_at_every_poll_gives_bounded_events_and_memory() -> None:
    taps = TapFilter()
    hour = [[Target(number.to_bytes(4, "little"), 0x08, b"")] for number in range(9, 9 + 4 * 3600)]
    hour = [targets for targets in hour if number_fault(targets[0].uid, targets[0].sak) is None]
    assert sum(answer is not None for answer in told(hour, taps)) <= BURST + 3600 / REFILL_S
    assert len(taps._memories) <= REMEMBERED_MAX


def test_memory_is_bounded_though_time_stands_still() -> None:
    taps = TapFilter()
    for number in range(1000):
        taps.polled([Target(b"\x04" + number.to_bytes(6, "big"), 0x20, b"")] * 2, 0.0)
    assert len(taps._memories) == REMEMBERED_MAX


def test_refusals_do_not_use_up_the_taps_of_honest_people() -> None:
    taps = TapFilter()
    flapping = [[PHONE] if number % 13 == 0 else [] for number in range(4 * 600)]
    told(flapping, taps)
    assert taps.polled([PHONE], 600.0) is None
    assert taps.polled([A], 600.0) == Tap(A.uid)


def test_who_keeps_holding_a_card_is_served_when_the_bound_allows() -> None:
    taps = TapFilter()
    for number in range(BURST):
        taps.polled([Target(b"\x04" + number.to_bytes(6, "big"), 0x20, b"")], 0.0)
    answers = told([[A]] * 40, taps)
    assert 0 < answers.index(Tap(A.uid)) <= REFILL_S / POLL_S + 1
    assert sum(answer is not None for answer in answers) == 1


polls_of_a_held_card = st.lists(st.sampled_from(["seen", "missed", "failed"]), max_size=60)


@given(polls_of_a_held_card, st.floats(0.05, 1.0))
def test_over_any_history_a_held_card_is_exactly_one_tap(history: list[str], interval_s: float) -> None:
    """Missed at times, but never three times in a row; failed polls are not shown to the filter."""
    taps = TapFilter()
    answers = [taps.polled([A], 0.0)]
    misses = 0
    for number, poll in enumerate(history, start=1):
        if poll == "failed":
            continue
        misses = misses + 1 if poll == "missed" else 0
        if misses == 3:
            misses = 0
            poll = "seen"  # noqa: PLW2901  # a card that is missed longer than this is not held any more
        answers.append(taps.polled([A] if poll == "seen" else [], number * interval_s))
    assert [answer for answer in answers if answer] == [Tap(A.uid)]


some_targets = st.lists(
    st.builds(
        Target,
        st.sampled_from([A.uid, B.uid, PHONE.uid, b"", b"\x80\x01\x02\x03"]),
        st.sampled_from([0x08, 0x20]),
        st.just(b""),
    ),
    max_size=2,
)


@given(st.lists(st.tuples(some_targets, st.floats(0.0, 2.0)), max_size=80))
def test_over_any_history_the_filter_keeps_its_promises(history: list[tuple[list[Target], float]]) -> None:
    taps = TapFilter()
    now_s = 0.0
    last_s: dict[str, float] = {}
    for targets, later_s in history:
        now_s += later_s
        answer = taps.polled(targets, now_s)
        if answer is None:
            continue
        if isinstance(answer, Tap):
            assert [answer.uid] == [target.uid for target in targets], "a tap is the only card in the field"
            assert number_fault(targets[0].uid, targets[0].sak) is None
        key = repr(answer) + (answer.uid.hex() if isinstance(answer, Tap) else "")
        assert now_s - last_s.get(key, -LOCKOUT_S) >= LOCKOUT_S
        last_s[key] = now_s
    assert REARM_S < LOCKOUT_S
