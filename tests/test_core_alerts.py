"""What a person is told to look at: when, how often, and of which rental."""

from __future__ import annotations

import pytest

from onboard.core.grants import Assurance, CardGrant
from onboard.core.records import Alert
from tests.core_kit import ALICE, BOB, Kit, booking
from tests.core_people import tap

MUTUAL = (CardGrant(ALICE, Assurance.MUTUAL, b"k" * 16),)


@pytest.mark.parametrize(("after_s", "told"), [(3599.0, 1), (3600.0, 2)])
def test_a_copied_card_is_told_once_an_hour(after_s: float, told: int) -> None:
    kit = Kit().ready(booking(cards=MUTUAL, end_s=9000))
    assert tap(kit, ALICE) == "card_not_proven"
    assert kit.all(Alert) == [Alert("card_copied", 0)]
    kit.t += after_s
    kit.clock()
    kit.contacts(locked=True)
    assert tap(kit, ALICE) == "card_not_proven"
    assert kit.all(Alert) == [Alert("card_copied", 0)] * told


def test_a_copy_in_a_rental_is_told_with_its_number_and_other_refusals_are_no_copies() -> None:
    kit = Kit().ready(booking(cards=MUTUAL), booking(BOB, 5000, 9000))
    assert tap(kit, ALICE, Assurance.MUTUAL) == "opening"
    kit.settle(locked=False)
    assert tap(kit, BOB) != "opening"
    assert not kit.all(Alert)
    kit.drive(0.0)
    kit.contacts(locked=False)
    assert tap(kit, ALICE) == "card_not_proven"
    assert kit.all(Alert) == [Alert("card_copied", 1)]


@pytest.mark.parametrize(
    ("before", "after", "told"), [(False, True, True), (None, True, False), (False, None, False), (True, False, False)]
)
def test_only_a_door_that_was_open_and_is_locked_was_locked_unasked(
    before: bool | None, after: bool | None, told: bool
) -> None:
    kit = Kit().ready()
    kit.begin()
    kit.contacts(locked=before)
    kit.records.clear()
    kit.t += 1.0
    kit.contacts(locked=after)
    assert kit.all(Alert) == ([Alert("locked_unasked", 1)] if told else [])
