"""The key of the motor that is not in its place: whom it is told to, when, and that nothing hangs on it."""

from __future__ import annotations

import pytest

from onboard.core import machine
from onboard.core.commands import Pattern, Show
from onboard.core.doors import KEY_MISSING
from onboard.core.records import FaultChanged, RentalEnded, RentalEndReason
from tests.core_kit import ALICE, BOB, HEDE, Kit, booking, card
from tests.core_people import ANYWHERE


def told(kit: Kit) -> list[bool]:
    """Return each time that the fault was written down: raised, or cleared."""
    return [record.active for record in kit.all(FaultChanged) if record.part == KEY_MISSING]


def driven(*, key_in_place: bool | None, to: str = "home") -> Kit:
    """Return a car on the road whose driver is about to lock it."""
    kit = Kit()
    kit.key_in_place = True
    kit.ready(booking(), booking(BOB, 5000, 9000))
    kit.begin()
    kit.key_in_place = False  # it turns in the dashboard
    kit.travel(to=HEDE if to == "home" else ANYWHERE)
    kit.key_in_place = key_in_place
    kit.commands.clear()
    return kit


def test_a_key_that_is_not_back_at_the_end_is_told_by_light_and_to_the_town_hall() -> None:
    kit = driven(key_in_place=False)
    kit.end()
    assert kit.last(RentalEnded).reason is RentalEndReason.AT_DROPOFF, "nobody is kept in a rental for a key"
    assert machine.phase(kit.state) is machine.Phase.AVAILABLE
    assert kit.shown is Pattern.TRY_AGAIN
    assert told(kit) == [True]
    assert KEY_MISSING in dict(kit.state.faults)


@pytest.mark.parametrize("key_in_place", [True, None])
def test_a_key_in_its_place_or_no_contact_for_it_says_nothing(key_in_place: bool | None) -> None:
    kit = driven(key_in_place=key_in_place)
    kit.end()
    assert kit.shown is Pattern.GRANTED
    assert told(kit) == []


def test_a_key_out_of_its_place_in_a_rental_is_what_it_is_for() -> None:
    kit = driven(key_in_place=False, to="the shop")
    kit.end()
    assert machine.phase(kit.state) is machine.Phase.STOPPED
    kit.t += 1.0
    kit.contacts(locked=True)
    assert kit.shown is Pattern.GRANTED
    assert told(kit) == []


def test_the_light_says_it_once_a_rental_however_often_the_contact_speaks() -> None:
    kit = driven(key_in_place=False)
    kit.end()
    kit.commands.clear()
    for seen in (False, True, False):
        kit.key_in_place = seen
        kit.t += 1.0
        kit.contacts(locked=True)
    assert not [command for command in kit.commands if isinstance(command, Show)], "a loose contact lights no lamp"
    assert told(kit) == [True, False, True]


def test_its_driver_opens_once_more_puts_it_back_and_all_is_well() -> None:
    kit = driven(key_in_place=False)
    kit.end()
    kit.t += 5.0
    kit.contacts(locked=True)
    kit.give(card(ALICE))
    assert (kit.word, kit.shown) == ("finished", Pattern.TRY_AGAIN), "the habitual second tap opens nothing"
    kit.t += 20.0
    kit.contacts(locked=True)
    kit.begin()
    kit.key_in_place = True
    kit.end()
    assert kit.shown is Pattern.GRANTED
    assert told(kit) == [True, False]


def test_whoever_opens_for_it_and_leaves_without_is_told_again() -> None:
    kit = driven(key_in_place=False)
    kit.end()
    kit.t += 30.0
    kit.begin()
    kit.commands.clear()
    kit.end()
    assert kit.shown is Pattern.TRY_AGAIN
    assert told(kit) == [True], "the town hall knows it already"


def test_a_rental_ended_by_a_second_tap_is_looked_at_with_the_next_report() -> None:
    kit = driven(key_in_place=False, to="the shop")
    kit.end()
    kit.t += 5.0
    kit.give(card(ALICE))
    assert (kit.word, kit.shown) == ("finished", Pattern.GRANTED)
    kit.t += 1.0
    kit.contacts(locked=True)
    assert kit.shown is Pattern.TRY_AGAIN
    assert told(kit) == [True]


def test_a_door_that_never_opened_says_nothing_about_a_key_by_light() -> None:
    kit = Kit()
    kit.key_in_place = False
    kit.ready()
    assert told(kit) == [True], "a car without its key and without a driver: the town hall is told"
    kit.give(card(ALICE))
    kit.wait(30.0)
    kit.t += 1.0
    kit.commands.clear()
    kit.contacts(locked=True)
    assert kit.last(RentalEnded).reason is RentalEndReason.NOT_OPENED
    assert kit.shown is None


def test_a_boot_in_a_rental_tells_nothing() -> None:
    kit = driven(key_in_place=False)
    kit.boot()
    kit.contacts(locked=False)
    assert told(kit) == []


def test_a_boot_after_it_tells_the_town_hall_anew_and_lights_nothing() -> None:
    kit = driven(key_in_place=False)
    kit.end()
    kit.boot()
    kit.commands.clear()
    kit.contacts(locked=True)
    assert told(kit) == [True, True]
    assert kit.shown is None
