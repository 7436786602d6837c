"""Who may drive on a day: every rule at its edge, alone."""

from __future__ import annotations

from dataclasses import fields, replace
from datetime import date

import pytest
from hypothesis import given
from hypothesis import strategies as st

from cloud_sync.endpoint.membership import WORDS, Lack, Member, Right, Rules, State, age, lacks

DAY = date(2026, 12, 1)
THEN, NEXT = date(2026, 11, 2), date(2026, 12, 2)
WHOLE = Member(
    born=date(1990, 5, 17),
    right=Right.B,
    right_checked_on=THEN,
    meeting_on=THEN,
    rules_on=THEN,
    lesson_on=THEN,
    deposit_until=date(2028, 4, 30),
    payment_until=date(2028, 4, 30),
    plan_from=THEN,
)


def test_who_has_everything_may_drive() -> None:
    assert lacks(WHOLE, DAY) == ()


@pytest.mark.parametrize(
    ("changes", "lack"),
    [
        ({"state": State.ENDED}, Lack.ENDED),
        ({"state": State.SUSPENDED}, Lack.SUSPENDED),
        ({"right": None}, Lack.NO_RIGHT),
        ({"right_checked_on": None}, Lack.RIGHT_NOT_CHECKED),
        ({"right_checked_on": NEXT}, Lack.RIGHT_NOT_CHECKED),
        ({"right_until": date(2026, 11, 30)}, Lack.RIGHT_OVER),
        ({"right": Right.BORN_BEFORE, "highway_code": True}, Lack.BORN_TOO_LATE),
        ({"right": Right.BORN_BEFORE, "born": date(1987, 12, 31)}, Lack.NO_HIGHWAY_CODE),
        ({"right": Right.BORN_BEFORE, "born": date(1988, 1, 1), "highway_code": True}, Lack.BORN_TOO_LATE),
        ({"meeting_on": None}, Lack.NO_MEETING),
        ({"meeting_on": NEXT}, Lack.NO_MEETING),
        ({"rules_on": None}, Lack.RULES_NOT_ACCEPTED),
        ({"lesson_on": None}, Lack.NO_LESSON),
        ({"deposit_until": None}, Lack.NO_DEPOSIT),
        ({"deposit_until": date(2026, 11, 30)}, Lack.NO_DEPOSIT),
        ({"payment_until": None}, Lack.NO_PAYMENT_CARD),
        ({"payment_until": date(2026, 11, 30)}, Lack.PAYMENT_CARD_OVER),
        ({"plan_from": None}, Lack.NO_PLAN),
        ({"plan_from": NEXT}, Lack.PLAN_OVER),
        ({"plan_until": date(2026, 11, 30)}, Lack.PLAN_OVER),
        ({"born": date(2012, 12, 2), "guardian_signed_on": THEN}, Lack.TOO_YOUNG),
        ({"born": date(2008, 12, 2)}, Lack.NO_GUARDIAN),
        ({"born": date(2008, 12, 2), "guardian_signed_on": NEXT}, Lack.NO_GUARDIAN),
    ],
)
def test_each_thing_that_lacks_is_named_alone(changes: dict[str, object], lack: Lack) -> None:
    assert lacks(replace(WHOLE, **changes), DAY) == (lack,)  # type: ignore[arg-type]  # a test's words


@pytest.mark.parametrize(
    "changes",
    [
        {"right_until": DAY, "deposit_until": DAY, "payment_until": DAY, "plan_until": DAY, "plan_from": DAY},
        {"right_checked_on": DAY, "meeting_on": DAY, "rules_on": DAY, "lesson_on": DAY},
        {"right": Right.BORN_BEFORE, "born": date(1987, 12, 31), "highway_code": True},
        {"right": Right.ACCOMPANIED, "lesson_on": None},
        {"born": date(2008, 12, 1)},  # of age today
        {"born": date(2012, 12, 1), "right": Right.AM, "guardian_signed_on": DAY},  # 14 today
    ],
)
def test_on_the_day_itself_it_counts(changes: dict[str, object]) -> None:
    assert lacks(replace(WHOLE, **changes), DAY) == ()  # type: ignore[arg-type]  # a test's words


def test_the_commune_sets_its_own_ages() -> None:
    stricter = Rules(age_min=16, of_age=21, born_before=date(1985, 1, 1))
    young = replace(WHOLE, born=date(2010, 12, 2))
    assert lacks(young, DAY, stricter) == (Lack.TOO_YOUNG, Lack.NO_GUARDIAN)
    old = replace(WHOLE, born=date(1986, 3, 3), right=Right.BORN_BEFORE, highway_code=True)
    assert lacks(old, DAY, stricter) == (Lack.BORN_TOO_LATE,)


def test_somebody_of_whom_nothing_is_known_lacks_everything_in_the_order_of_mending() -> None:
    assert lacks(Member(born=date(2010, 1, 1)), DAY) == (
        Lack.NO_RIGHT,
        Lack.NO_MEETING,
        Lack.RULES_NOT_ACCEPTED,
        Lack.NO_GUARDIAN,
        Lack.NO_LESSON,
        Lack.NO_DEPOSIT,
        Lack.NO_PAYMENT_CARD,
        Lack.NO_PLAN,
    )


@pytest.mark.parametrize(
    ("born", "on", "years"),
    [
        (date(2012, 2, 29), date(2026, 2, 28), 13),
        (date(2012, 2, 29), date(2026, 3, 1), 14),
        (date(2012, 2, 29), date(2028, 2, 29), 16),
        (date(2012, 12, 31), date(2026, 12, 30), 13),
        (date(2012, 12, 31), date(2026, 12, 31), 14),
        (date(2012, 1, 1), date(2011, 12, 31), -1),
    ],
)
def test_age_counts_full_years(born: date, on: date, years: int) -> None:
    assert age(born, on) == years


@given(born=st.dates(date(1900, 1, 1), date(2100, 1, 1)), on=st.dates(date(1900, 1, 1), date(2200, 1, 1)))
def test_age_is_the_length_of_life_in_years_rounded_down(born: date, on: date) -> None:
    assert -0.01 < (on - born).days / 365.25 - age(born, on) < 1.01


def test_every_lack_has_words_in_both_languages_that_differ() -> None:
    assert set(WORDS) == set(Lack)
    said = [text for both in WORDS.values() for text in both]
    assert len(set(said)) == 2 * len(Lack)
    assert all(text[0].isupper() and text.endswith(".") for text in said)


def test_no_field_holds_a_scan_or_a_number_of_a_paper() -> None:
    kept = {field.name for field in fields(Member)}
    assert not {name for name in kept if any(word in name for word in ("scan", "photo", "file", "number", "image"))}
