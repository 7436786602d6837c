"""The 12 V battery: steps with hysteresis and a hold, and never off while somebody has the car."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from onboard.core.commands import SetSupplyLevel, SupplyLevel
from onboard.core.events import SupplyReported
from onboard.core.power import level_for
from onboard.core.records import SupplyChanged
from tests.core_kit import POLICY, Kit
from tests.core_people import ANYWHERE

NORMAL, SAVING, CRITICAL, OFF = SupplyLevel


def hold(kit: Kit, voltage_v: float, seconds: int = 61) -> None:
    """Have this voltage measured every second."""
    for _ in range(seconds):
        kit.give(SupplyReported(voltage_v))
        kit.wait(1.0)


@pytest.mark.parametrize(
    ("now", "voltage_v", "wanted"),
    [
        (NORMAL, 12.2, NORMAL),
        (NORMAL, 12.19, SAVING),
        (NORMAL, 11.79, CRITICAL),
        (NORMAL, 11.49, OFF),
        (SAVING, 12.49, SAVING),
        (SAVING, 12.5, NORMAL),
        (CRITICAL, 12.09, CRITICAL),
        (CRITICAL, 12.11, SAVING),
        (CRITICAL, 12.5, NORMAL),
        (OFF, 11.79, OFF),
        (OFF, 11.8, CRITICAL),
    ],
)
def test_a_step_is_entered_below_its_mark_and_left_the_hysteresis_above(
    now: SupplyLevel, voltage_v: float, wanted: SupplyLevel
) -> None:
    assert level_for(POLICY, now, voltage_v) is wanted


def test_a_step_comes_into_force_when_it_held_and_not_before() -> None:
    kit = Kit()
    hold(kit, 12.0, 59)
    assert kit.state.supply.level is NORMAL
    hold(kit, 12.0, 2)
    assert kit.state.supply.level is SAVING
    assert kit.last(SupplyChanged) == SupplyChanged("saving", 12.0)
    assert SetSupplyLevel(SAVING) in kit.commands


def test_a_starting_motors_dip_changes_nothing() -> None:
    kit = Kit()
    for _ in range(20):
        hold(kit, 10.0, 3)
        hold(kit, 12.6, 57)
    assert not kit.all(SupplyChanged)


def test_a_voltage_that_dances_about_a_deeper_mark_still_sheds_loads() -> None:
    kit = Kit()
    for step in range(70):
        hold(kit, 11.75 if step % 2 else 11.85, 1)
    assert kit.state.supply.level is SAVING
    for step in range(70):
        hold(kit, 11.75 if step % 2 else 11.65, 1)
    assert kit.state.supply.level is CRITICAL


def test_a_voltage_that_dances_on_its_way_up_gives_back_what_it_surely_can() -> None:
    kit = Kit()
    hold(kit, 11.7)
    assert kit.state.supply.level is CRITICAL
    for step in range(70):
        hold(kit, 12.6 if step % 2 else 12.3, 1)
    assert kit.state.supply.level is SAVING
    hold(kit, 12.6)
    assert [r.level for r in kit.all(SupplyChanged)] == ["critical", "saving", "normal"]


def test_a_turn_the_other_way_begins_its_own_hold() -> None:
    kit = Kit()
    hold(kit, 12.0)
    hold(kit, 12.6, 50)
    hold(kit, 11.7, 50)
    assert kit.state.supply.level is SAVING
    hold(kit, 11.7, 12)
    assert kit.state.supply.level is CRITICAL


@pytest.mark.parametrize("when", ["on_trip", "stopped", "begun meanwhile"])
def test_the_box_is_never_switched_off_in_a_rental(when: str) -> None:
    kit = Kit().ready()
    if when == "begun meanwhile":
        kit.give(SupplyReported(11.0))
    kit.begin()
    if when == "stopped":
        kit.travel(to=ANYWHERE)
        kit.end()
    if when == "begun meanwhile":
        kit.wait(70)
        assert kit.state.supply.level is CRITICAL
    hold(kit, 11.0, 200)
    assert kit.state.supply.level is CRITICAL
    assert SetSupplyLevel(OFF) not in kit.commands
    assert [r.level for r in kit.all(SupplyChanged)] == ["critical"]


def test_afterwards_it_is() -> None:
    kit = Kit().ready()
    kit.begin()
    kit.travel()
    hold(kit, 11.0, 70)
    kit.end()
    hold(kit, 11.0, 58)
    assert kit.state.supply.level is CRITICAL, "time enough to bring the trip home"
    hold(kit, 11.0, 5)
    assert kit.state.supply.level is OFF
    assert [r.level for r in kit.all(SupplyChanged)] == ["critical", "off"]


def test_a_rental_begun_at_the_last_moment_keeps_a_critical_box_on() -> None:
    kit = Kit().ready()
    hold(kit, 11.7)
    assert kit.state.supply.level is CRITICAL
    kit.give(SupplyReported(11.0))
    kit.begin()
    kit.wait(100)
    assert kit.state.supply.level is CRITICAL
    assert [r.level for r in kit.all(SupplyChanged)] == ["critical"]


@given(st.lists(st.floats(9.0, 15.0), max_size=40))
def test_each_step_is_one_that_the_voltage_of_its_moment_calls_for_or_a_milder_one(voltages: list[float]) -> None:
    kit = Kit()
    for voltage_v in voltages:
        before = kit.state.supply.level
        kit.give(SupplyReported(voltage_v))
        kit.wait(20)
        after = kit.state.supply.level
        if after is not before:
            wanted = level_for(POLICY, before, voltage_v)
            order = list(SupplyLevel)
            low, high = sorted((order.index(before), order.index(wanted)))
            assert low <= order.index(after) <= high
