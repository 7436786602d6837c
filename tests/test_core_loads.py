"""What is switched on when: the table of ``onboard.core.power``, line by line, and what brings a change."""

from __future__ import annotations

from dataclasses import replace
from itertools import pairwise

import pytest

from onboard.core.commands import Loads, ReaderPace, SetLoads, SupplyLevel
from onboard.core.events import (
    BusReported,
    BusState,
    Charging,
    ChargingReported,
    LinkReported,
    ListReceived,
    SupplyReported,
)
from onboard.core.grants import Reservation
from onboard.core.power import due_s, words
from onboard.core.records import CommsChanged
from tests.core_kit import BOB, POLICY, Kit, booking, listing

SWITCHED = replace(POLICY, modem_switch=True)
FULL, SLOW, OFF = ReaderPace
ALL = Loads()
LATER = booking(BOB, start_s=7 * 86_400 - 7200, end_s=7 * 86_400 - 3600)
LEVELS = {"normal": 12.6, "saving": 12.0, "critical": 11.7}


def parked(*bookings: Reservation, level: str = "normal", policy: object = SWITCHED) -> Kit:
    """Return a box whose car has stood locked and asleep for two hours, at this step."""
    kit = Kit(policy)  # type: ignore[arg-type]  # a Policy, as `replace` of one is
    kit.ready(*(bookings or (LATER,)))
    kit.give(BusReported(BusState.ASLEEP, kit.t))
    for _ in range(12):
        kit.give(SupplyReported(LEVELS[level], kit.t))
        kit.wait(10.0)
    kit.state = replace(kit.state, supply=replace(kit.state.supply, sampled_s=None))  # no measurement ends
    kit.wait(7200 + 200 - kit.t % 900)
    assert kit.state.supply.level is SupplyLevel(level)
    return kit


def on(kit: Kit) -> Loads:
    """Return what is on, as the commands said it."""
    said = [command.loads for command in kit.commands if isinstance(command, SetLoads)]
    assert (said[-1] if said else ALL) == kit.state.supply.loads
    return kit.state.supply.loads


@pytest.mark.parametrize(
    ("level", "loads"),
    [
        ("normal", Loads(FULL, gnss=False, modem=False)),
        ("saving", Loads(SLOW, gnss=False, modem=False)),
        ("critical", Loads(OFF, gnss=False, modem=False)),
    ],
)
def test_a_parked_car_draws_what_its_step_allows(level: str, loads: Loads) -> None:
    assert on(parked(level=level)) == loads


@pytest.mark.parametrize("level", LEVELS)
@pytest.mark.parametrize("policy", [POLICY, SWITCHED])
def test_a_rental_has_everything_whatever_the_battery_says(level: str, policy: object) -> None:
    kit = parked(booking(end_s=9000), level="normal", policy=policy)
    kit.begin()
    for _ in range(12):
        kit.give(SupplyReported(LEVELS[level], kit.t))
        kit.wait(10.0)
    kit.give(BusReported(BusState.ASLEEP, kit.t))
    kit.wait(20_000)
    assert kit.state.kept.rental is not None
    assert on(kit) == ALL, "long after its booking's end, too"


@pytest.mark.parametrize("level", LEVELS)
def test_a_quarter_of_an_hour_before_a_booking_everything_is_on(level: str) -> None:
    start_s = 30_000
    kit = parked(booking(start_s=start_s, end_s=start_s + 3600), level=level)
    kit.wait(start_s - 900 - kit.t - 60)
    assert on(kit) != ALL
    kit.wait(62)  # the clock's drift is a second in three hours
    assert on(kit) == ALL
    kit.wait(4400)
    assert on(kit) == ALL, "until it is over"
    kit.wait(200)
    assert on(kit).reader is not FULL or level == "normal"
    assert on(kit).gnss is False


@pytest.mark.parametrize(
    ("level", "said"),
    [
        ("normal", ("normal", "gnss_off", "modem_off")),
        ("saving", ("saving", "reader_slow", "gnss_off", "modem_off")),
        ("critical", ("critical", "reader_off", "gnss_off", "modem_off")),
    ],
)
def test_status_names_the_step_and_what_is_off(level: str, said: tuple[str, ...]) -> None:
    kit = parked(level=level)
    assert words(kit.state) == said
    kit.give(BusReported(BusState.AWAKE, kit.t))
    assert words(kit.state) == (level,)


def test_a_booking_whose_rental_is_over_wakes_nothing() -> None:
    kit = parked(booking(end_s=86_400))
    kit.begin()
    kit.travel()
    kit.end()
    kit.give(BusReported(BusState.ASLEEP, kit.t))
    kit.wait(5000 + 200 - (kit.t + 5000) % 900)
    assert on(kit) == Loads(FULL, gnss=False, modem=False)


@pytest.mark.parametrize("what", ["bus", "door", "lock", "charge"])
def test_what_moves_at_the_car_wakes_it_for_five_minutes(what: str) -> None:
    kit = parked(level="critical")
    if what == "bus":
        kit.give(BusReported(BusState.AWAKE, kit.t))
        kit.wait(1000)
        assert on(kit) == ALL
        kit.give(BusReported(BusState.ASLEEP, kit.t))
    elif what == "charge":
        kit.give(ChargingReported(Charging.NOT_CHARGING))
    else:
        kit.contacts(locked=what == "door", driver_open=what == "door")
    assert on(kit) == ALL
    kit.contacts(locked=kit.state.doors.report.locked, driver_open=what == "door")  # type: ignore[union-attr]
    kit.wait(298)
    assert on(kit) == ALL
    kit.wait(3)
    assert on(kit) == Loads(OFF, gnss=False, modem=False)


def test_a_car_that_charges_with_its_bus_awake_is_parked_once_it_is_locked() -> None:
    kit = parked()
    kit.give(BusReported(BusState.AWAKE, kit.t))
    kit.contacts(locked=False)
    kit.give(ChargingReported(Charging.CHARGING))
    kit.wait(1000)
    assert on(kit) == ALL
    kit.contacts(locked=True)
    kit.wait(302)
    kit.wait(200 - kit.t % 900 + 900)
    assert on(kit) == Loads(FULL, gnss=False, modem=False)
    kit.give(ChargingReported(Charging.FULL))
    kit.wait(302)
    assert on(kit).gnss is False


def test_after_a_drive_the_modem_stays_for_an_hour_or_until_the_car_charges() -> None:
    kit = parked()
    kit.give(BusReported(BusState.AWAKE, kit.t))
    kit.give(BusReported(BusState.ASLEEP, kit.t))
    kit.wait(302)
    assert on(kit) == Loads(FULL, gnss=False, modem=True)
    kit.wait(3200)
    assert on(kit).modem
    kit.wait(100 + 200 - (kit.t + 100) % 900 + 900)
    assert not on(kit).modem


@pytest.mark.parametrize(("level", "looks"), [("normal", True), ("saving", True), ("critical", False)])
def test_a_sleeping_modem_looks_for_two_minutes_in_a_quarter_of_an_hour(level: str, looks: bool) -> None:
    kit = parked(level=level)
    seconds = 0
    for _ in range(900):
        kit.wait(1)
        seconds += on(kit).modem
    assert abs(seconds - (120 if looks else 0)) <= 2


def test_a_modem_without_a_switch_is_never_said_to_be_off() -> None:
    for level in LEVELS:
        assert on(parked(level=level, policy=POLICY)).modem


def test_a_clock_that_waits_for_the_sky_keeps_the_receiver_on_but_in_critical() -> None:
    for level, voltage_v in LEVELS.items():
        kit = Kit(SWITCHED)
        kit.contacts(locked=True)
        for _ in range(200):
            kit.give(SupplyReported(voltage_v, kit.t))
            kit.wait(10.0)
        assert on(kit).gnss is (level != "critical")


def test_a_booking_that_may_be_due_by_a_clock_that_knows_nothing_counts_as_due() -> None:
    kit = Kit(SWITCHED)
    kit.give(ListReceived(listing(LATER)))
    kit.contacts(locked=True)
    kit.wait(20_000)
    assert on(kit) == ALL


def test_a_modem_that_is_off_on_purpose_is_no_lost_way() -> None:
    kit = parked(level="critical")
    off_s = kit.state.supply.modem_off_s
    assert off_s is not None
    sending = replace(kit.state.sending, heard_at_s=off_s - 10, waiting_since_s=off_s - 10, lost_told=False)
    kit.state = replace(kit.state, sending=sending)
    kit.records.clear()
    kit.wait(30_000)
    assert not kit.all(CommsChanged)
    kit.give(BusReported(BusState.AWAKE, kit.t))
    assert on(kit).modem
    kit.wait(POLICY.comms_lost_s - 15)
    assert not kit.all(CommsChanged)
    kit.wait(10)
    assert kit.all(CommsChanged) == [CommsChanged(lost=True)], "on, it has the time that it always has"


def test_a_link_that_waited_for_nothing_waits_for_nothing_afterwards() -> None:
    kit = parked(level="critical")
    kit.give(LinkReported(connected=True))
    assert kit.state.sending.waiting_since_s is None or kit.state.supply.modem_off_s is not None
    kit.state = replace(kit.state, sending=replace(kit.state.sending, waiting_since_s=None, connected=False))
    kit.give(BusReported(BusState.AWAKE, kit.t))
    assert kit.state.sending.waiting_since_s is None


def test_a_change_is_said_once_and_a_boot_begins_with_everything_on() -> None:
    kit = parked()
    changes = [command.loads for command in kit.commands if isinstance(command, SetLoads)]
    assert all(one != two for one, two in pairwise(changes))
    kit.boot()
    assert kit.state.supply.loads == ALL
    assert due_s(kit.state) is not None
