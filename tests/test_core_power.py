"""The 12 V battery: steps with hysteresis and a hold, what is no measurement, and never off when somebody counts on it.

What is switched on when: ``test_core_loads``.
"""

from __future__ import annotations

from dataclasses import replace

import pytest
from hypothesis import given
from hypothesis import strategies as st

from onboard.core.commands import PowerOff, SupplyLevel
from onboard.core.events import BusReported, BusState, Charging, ChargingReported, ListReceived, SupplyReported
from onboard.core.grants import Reservation
from onboard.core.power import level_for, off_in_s
from onboard.core.records import SupplyChanged
from tests.core_kit import BOB, POLICY, T0, Kit, booking, listing
from tests.core_people import ANYWHERE

NORMAL, SAVING, CRITICAL, OFF = SupplyLevel


def hold(kit: Kit, voltage_v: float, seconds: int = 61) -> None:
    """Have this voltage measured every second."""
    for _ in range(seconds):
        volts(kit, voltage_v)
        kit.wait(1.0)


def volts(kit: Kit, voltage_v: float, ago_s: float = 0.0) -> None:
    """Have this voltage measured, so long ago."""
    kit.give(SupplyReported(voltage_v, kit.t - ago_s))


def offs(kit: Kit) -> list[float]:
    """Return when the box was to wake again, for each time it was to switch itself off."""
    return [command.wake_in_s for command in kit.commands if isinstance(command, PowerOff)]


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
        hold(kit, 11.0, 50)
    kit.begin()
    if when == "stopped":
        kit.travel(to=ANYWHERE)
        kit.end()
    if when == "begun meanwhile":
        hold(kit, 11.0, 12)
        assert kit.state.supply.level is CRITICAL
    hold(kit, 11.0, 200)
    assert kit.state.supply.level is CRITICAL
    assert not offs(kit)
    assert [r.level for r in kit.all(SupplyChanged)] == ["critical"]


def test_afterwards_it_is_and_says_when_to_wake() -> None:
    kit = Kit().ready()
    kit.begin()
    kit.travel()
    hold(kit, 11.0, 70)
    kit.end()
    hold(kit, 11.0, 59)
    assert kit.state.supply.level is CRITICAL, "time enough to bring the trip home"
    hold(kit, 11.0, 5)
    assert kit.state.supply.level is OFF
    assert [r.level for r in kit.all(SupplyChanged)] == ["critical", "off"]
    assert offs(kit) == [POLICY.supply_check_s]


def test_a_rental_begun_at_the_last_moment_keeps_a_critical_box_on() -> None:
    kit = Kit().ready(booking(end_s=100_000))
    hold(kit, 11.7)
    assert kit.state.supply.level is CRITICAL
    kit.wait(7200)
    hold(kit, 11.0, 50)
    kit.begin()
    hold(kit, 11.0, 100)
    assert kit.state.supply.level is CRITICAL
    assert "off" not in [r.level for r in kit.all(SupplyChanged)]


def test_a_box_just_started_waits_before_it_ends_again() -> None:
    kit = Kit()
    hold(kit, 11.0, 180)
    assert kit.state.supply.level is CRITICAL
    hold(kit, 11.0, 3)
    assert kit.state.supply.level is OFF
    assert offs(kit) == [POLICY.supply_check_s]


@pytest.mark.parametrize(("begins_s", "ends"), [(850, False), (-600, False), (-1000, True), (2000, True)])
def test_about_a_bookings_begin_the_box_stays_on_for_its_driver(begins_s: int, ends: bool) -> None:
    kit = Kit().ready(booking(start_s=200 + begins_s, end_s=40_000))
    hold(kit, 11.0, 200)
    assert bool(offs(kit)) is ends


def test_without_any_clock_no_booking_keeps_an_empty_box_on() -> None:
    kit = Kit(floor_s=T0 + 100.0)
    kit.give(ListReceived(listing(booking())))
    hold(kit, 11.0, 200)
    assert len(offs(kit)) == 1


@pytest.mark.parametrize(
    ("begins_s", "wakes_s"), [(200 + 900 + 4000, 4000), (200 + 900 + 50, 120), (200 + 900 + 40_000, 21_600)]
)
def test_it_wakes_a_quarter_of_an_hour_before_the_next_booking(begins_s: int, wakes_s: float) -> None:
    kit = Kit()
    kit.clock()
    kit.give(ListReceived(listing(booking(start_s=-50_000, end_s=-40_000), booking(BOB, begins_s, begins_s + 600))))
    kit.t = 140.0
    hold(kit, 11.0, 60)
    volts(kit, 11.0)
    assert offs(kit) == [pytest.approx(wakes_s, abs=1.0)]


def test_a_box_that_is_still_on_is_asked_again_and_writes_it_down_once() -> None:
    kit = Kit()
    hold(kit, 11.0, 183 + 1210)
    assert offs(kit) == [POLICY.supply_check_s] * 3
    assert [r.level for r in kit.all(SupplyChanged)] == ["critical", "off"]


def test_a_rental_begun_while_the_box_should_be_off_stops_the_asking() -> None:
    kit = Kit().ready(booking(start_s=-5000, end_s=50_000))
    hold(kit, 11.0, 190)
    assert len(offs(kit)) == 1
    kit.begin()
    hold(kit, 11.0, 1300)
    assert len(offs(kit)) == 1
    assert kit.state.supply.level is CRITICAL


@pytest.mark.parametrize("voltage_v", [0.0, 8.99, 16.01, float("nan")])
def test_a_broken_wire_is_a_fault_and_switches_nothing_off(voltage_v: float) -> None:
    kit = Kit()
    hold(kit, 12.6, 300)
    hold(kit, voltage_v, 300)
    assert kit.state.supply.level is NORMAL
    assert kit.state.supply.voltage_v is None
    assert "supply_reading" in dict(kit.state.faults)
    hold(kit, 9.0, 1)
    hold(kit, 16.0, 1)
    assert not kit.state.faults
    assert kit.state.supply.voltage_v == 16.0


def test_what_cannot_be_does_not_count_towards_a_step() -> None:
    kit = Kit()
    hold(kit, 12.0, 59)
    hold(kit, 0.0, 1)
    hold(kit, 12.0, 59)
    assert kit.state.supply.level is NORMAL
    hold(kit, 12.0, 2)
    assert kit.state.supply.level is SAVING


@pytest.mark.parametrize("ago_s", [61.0, -1.0])
def test_an_old_measurement_decides_nothing(ago_s: float) -> None:
    kit = Kit()
    for _ in range(100):
        volts(kit, 11.0, ago_s)
        kit.wait(1.0)
    assert kit.state.supply.voltage_v is None
    assert kit.state.supply.level is NORMAL


def test_a_measurement_that_is_not_followed_by_others_decides_nothing() -> None:
    kit = Kit()
    kit.wait(500)
    volts(kit, 11.7)
    kit.wait(59)
    assert (kit.state.supply.voltage_v, kit.state.faults) == (11.7, ())
    kit.wait(2)
    assert kit.state.supply == replace(kit.state.supply, voltage_v=None, sampled_s=None)
    assert kit.state.supply.level is NORMAL
    [(part, detail)] = kit.state.faults
    assert (part, detail[:26]) == ("supply_reading", "nothing measured for 60 s:")
    volts(kit, 11.7)
    kit.wait(1)
    assert kit.state.supply.level is NORMAL, "the hold begins anew"


def test_a_box_that_knows_nothing_of_its_battery_saves_and_refuses_nobody() -> None:
    kit = Kit()
    hold(kit, 11.7, 62)
    assert kit.state.supply.level is CRITICAL
    kit.wait(100)
    assert kit.state.supply.level is SAVING
    assert kit.last(SupplyChanged) == SupplyChanged("saving", 0.0)


def test_a_low_battery_is_told_until_it_is_charged() -> None:
    kit = Kit()
    hold(kit, 12.0, 62)
    assert "supply_low" not in dict(kit.state.faults)
    hold(kit, 11.7, 62)
    assert "supply_low" in dict(kit.state.faults)
    hold(kit, 12.3, 62)
    assert "supply_low" not in dict(kit.state.faults)


def parked(*bookings: Reservation) -> Kit:
    """Return a box whose car sleeps, locked."""
    kit = Kit().ready(*bookings)
    kit.give(BusReported(BusState.ASLEEP, kit.t))
    return kit


def fall(kit: Kit, hours: float, per_hour_v: float) -> None:
    """Have a parked car's battery fall for so long, measured every half minute."""
    start_v = kit.state.supply.average_v or 12.9
    for step in range(round(hours * 120)):
        volts(kit, start_v - step / 120 * per_hour_v)
        kit.t += 30.0


def test_what_falls_so_fast_that_the_next_booking_finds_it_empty_is_told_early() -> None:
    kit = parked(booking(start_s=40 * 3600, end_s=41 * 3600))
    fall(kit, 2.0, 0.02)
    assert off_in_s(kit.state) is None
    fall(kit, 8.0, 0.02)
    left_s = off_in_s(kit.state)
    assert left_s is not None
    assert 40 * 3600 < left_s < 70 * 3600
    assert "supply_low" not in dict(kit.state.faults)
    fall(kit, 4.0, 0.08)
    assert "supply_low" in dict(kit.state.faults)
    assert kit.state.supply.level is NORMAL, "told long before a step is entered"


@pytest.mark.parametrize("what", ["rises", "is used", "charges"])
def test_a_battery_that_is_not_falling_at_rest_is_not_reckoned_on(what: str) -> None:
    kit = parked(booking(start_s=40 * 3600, end_s=41 * 3600))
    fall(kit, 8.0, -0.01 if what == "rises" else 0.02)
    if what == "is used":
        kit.drive(0.0)
        fall(kit, 0.1, 0.0)
    if what == "charges":
        kit.give(ChargingReported(Charging.CHARGING))
        fall(kit, 2.0, 0.0)
    assert off_in_s(kit.state) is None


@given(st.lists(st.floats(9.0, 15.0), max_size=40))
def test_each_step_is_one_that_the_voltage_of_its_moment_calls_for_or_a_milder_one(voltages: list[float]) -> None:
    kit = Kit()
    for voltage_v in voltages:
        before = kit.state.supply.level
        volts(kit, voltage_v)
        kit.wait(20)
        after = kit.state.supply.level
        if after is not before:
            wanted = level_for(POLICY, before, voltage_v)
            order = list(SupplyLevel)
            low, high = sorted((order.index(before), order.index(wanted)))
            assert low <= order.index(after) <= high
