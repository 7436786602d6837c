"""When the software may be changed: never in a rental, while the car moves or is open, or on a low battery."""

from __future__ import annotations

from dataclasses import replace

import pytest

from onboard.core.commands import Action, SupplyLevel
from onboard.core.events import LockButtonPressed, SupplyReported
from onboard.core.state import Actuation, Capture
from onboard.core.update import obstacle
from tests.core_kit import Kit


def why(kit: Kit) -> str:
    return obstacle(kit.state, kit.t)


def parked() -> Kit:
    return Kit().ready()


def test_a_parked_locked_car_may_be_away() -> None:
    assert why(parked()) == ""


def test_so_may_one_that_has_shown_nothing_since_the_boot() -> None:
    """Its bus sleeps and it has no contacts: what is known speaks against nothing."""
    assert why(Kit()) == ""


def test_never_in_a_rental_nor_in_between_two_trips_of_one() -> None:
    kit = parked()
    kit.begin()
    assert why(kit) == "rental"
    kit.drive(0.0)
    kit.contacts(locked=True)
    assert why(kit) == "rental"


def test_never_while_it_moves() -> None:
    kit = parked()
    kit.drive(1.0)
    assert why(kit) == "moving"
    kit.drive(0.0)
    assert why(kit) == ""


@pytest.mark.parametrize(("locked", "driver_open"), [(False, False), (True, True), (None, True)])
def test_never_while_it_stands_open(locked: bool | None, driver_open: bool) -> None:
    kit = parked()
    kit.contacts(locked=locked, driver_open=driver_open)
    assert why(kit) == "open"
    kit.contacts(locked=True)
    assert why(kit) == ""


def test_never_while_a_lock_or_a_pulse_is_under_way() -> None:
    kit = parked()
    kit.state = replace(kit.state, doors=replace(kit.state.doors, actuation=Actuation(1, Action.LOCK, 1, kit.t)))
    assert why(kit) == "door"
    kit = parked()
    kit.contacts(locked=False, driver_open=True)
    kit.give(LockButtonPressed())
    assert kit.state.doors.armed_until_s is not None
    assert why(kit) == "door"


def test_a_car_without_a_lock_contact_is_not_held_up_by_it() -> None:
    kit = parked()
    kit.contacts(locked=None)
    assert why(kit) == ""


def test_the_last_driver_may_still_come_back_for_the_cable() -> None:
    kit = parked()
    kit.begin()
    kit.travel()
    kit.end()
    kit.wait(5.0)
    assert kit.state.kept.rental is None
    assert why(kit) == "reopening"
    last = kit.state.last_driver
    assert last is not None
    kit.t = last.ended_s + kit.state.policy.reopen_window_s
    assert why(kit) == "reopening"
    kit.t += 0.001
    assert why(kit) == ""
    kit.t -= 1.0
    kit.state = replace(kit.state, last_driver=replace(last, used=True))
    assert why(kit) == "", "he was there"


def test_a_card_that_is_awaited_is_not_forgotten() -> None:
    kit = parked()
    kit.state = replace(kit.state, capture=Capture(b"c" * 16, kit.t + 10.0))
    assert why(kit) == "card"
    kit.t += 10.0
    assert why(kit) == "card"
    kit.t += 0.001
    assert why(kit) == ""


def test_never_on_a_low_battery_nor_one_that_is_about_to_be() -> None:
    kit = parked()

    def measured(voltage_v: float) -> None:
        for _ in range(13):
            kit.give(SupplyReported(voltage_v, kit.t))
            kit.wait(5.0)

    kit.give(SupplyReported(12.0, kit.t))
    levels = [kit.state.supply.level]
    assert why(kit) == "battery"
    measured(12.0)
    levels.append(kit.state.supply.level)
    assert levels == [SupplyLevel.NORMAL, SupplyLevel.SAVING]
    assert why(kit) == "battery"
    measured(12.9)
    assert why(kit) == ""
