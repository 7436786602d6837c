"""Days of a parked car whose 12 V battery falls with what is switched on; and the budget that says how fast."""

from __future__ import annotations

from dataclasses import replace

import pytest

from hw import power_budget
from onboard.core.commands import Loads, PowerOff, ReaderPace, SetLoads, SupplyLevel
from onboard.core.events import BusReported, BusState, Event, SupplyReported
from onboard.core.grants import Reservation
from onboard.core.records import SupplyChanged
from sim.battery import Battery
from tests.conftest import ROOT
from tests.core_kit import ALICE, BOB, POLICY, STAFF, T0, Kit, booking
from tests.core_people import ANYWHERE

HOUR_S = 3600.0
STEP_S = 50.0
BOARD = power_budget.BOARDS[0]


class ParkedCar:
    """A box and the battery that it lives on, which falls with its loads, and is fed while the car is on or charges."""

    def __init__(self, *bookings: Reservation, capacity_ah: float = 12.0) -> None:
        self.kit = Kit(replace(POLICY, modem_switch=True)).ready(*bookings, horizon_end_s=T0 + 40 * 86_400)
        self.battery = Battery(capacity_ah, capacity_ah)
        self.loads = Loads()
        self.off_until_s: float | None = None
        self.tell(BusReported(BusState.ASLEEP, self.kit.t))

    def tell(self, event: Event) -> None:
        """Give one event, and switch what the core wants switched."""
        self.switch(self.kit.give(event))

    def switch(self, commands: object) -> None:
        for command in commands if isinstance(commands, tuple) else ():
            if isinstance(command, SetLoads):
                self.loads = command.loads
            if isinstance(command, PowerOff):
                self.off_until_s = self.kit.t + command.wake_in_s

    def live(self, hours: float) -> None:
        """Let time pass; the box measures, and is off while it is off."""
        for _ in range(round(hours * HOUR_S / STEP_S)):
            power_ma = power_budget.battery_ma(
                BOARD.off_mw if self.off_until_s is not None else power_budget.loads_mw(self.loads, BOARD)
            )
            self.battery.load_a = (power_ma + power_budget.CAR_MA) / 1000
            self.battery.advance(STEP_S)
            if self.off_until_s is not None and self.kit.t + STEP_S >= self.off_until_s:
                self.wake()
            if self.off_until_s is not None:
                self.kit.t += STEP_S
                continue
            before = len(self.kit.commands)
            self.kit.wait(STEP_S)
            self.switch(tuple(self.kit.commands[before:]))
            self.tell(SupplyReported(self.battery.voltage_v, self.kit.t))

    def wake(self) -> None:
        """Boot: the boot-time clock goes on here, so that bookings stay where they are."""
        self.off_until_s = None
        self.loads = Loads()
        self.kit.boot(at_s=self.kit.t)
        self.kit.clock()
        self.kit.contacts(locked=True)

    def levels(self) -> list[str]:
        return [record.level for record in self.kit.all(SupplyChanged)]


def test_a_car_that_stands_for_days_goes_down_step_by_step_and_a_charge_brings_it_back() -> None:
    car = ParkedCar(booking(BOB, start_s=30 * 86_400, end_s=30 * 86_400 + 3600))
    car.live(24)
    assert car.levels() == []
    car.live(3.5 * 24)
    assert car.levels()[:3] == ["saving", "critical", "off"]
    assert car.battery.charge_ah > 0, "the box was off before the battery was empty"
    left_ah = car.battery.charge_ah
    car.live(24)
    assert left_ah - car.battery.charge_ah < 0.05 * car.battery.capacity_ah, "off, a day takes a twentieth"
    car.battery.fed = True
    car.live(8)
    assert car.kit.state.supply.level is SupplyLevel.NORMAL
    assert car.off_until_s is None
    assert car.kit.boots > 3, "it woke every six hours to look, and went off again"
    assert not car.kit.state.faults
    car.battery.fed = False
    car.live(1)
    assert car.kit.state.supply.level is SupplyLevel.NORMAL


@pytest.mark.parametrize("day", [1, 2, 3, 4, 6, 9])
def test_no_booking_is_lost_on_any_of_these_days(day: int) -> None:
    """Whatever step the battery is at, who comes in his booking by phone or card finds the door opening."""
    start_s = day * 86_400
    car = ParkedCar(booking(ALICE, start_s=start_s, end_s=start_s + 8 * 3600))
    car.live((start_s + 300) / HOUR_S)
    kit = car.kit
    assert car.off_until_s is None, "it woke a quarter of an hour before"
    assert car.loads == Loads()
    kit.commands.clear()
    kit.begin(ALICE)
    assert kit.pulses == ["unlock"]
    car.live(2)
    assert car.off_until_s is None
    assert kit.state.supply.level is not SupplyLevel.OFF
    kit.drive(0.0, odometer_m=1000)
    kit.travel(to=ANYWHERE)
    kit.end(ALICE)
    assert kit.state.kept.rental is not None
    car.live(1)
    kit.begin(ALICE)
    assert kit.pulses[-1] == "unlock", "and again on the way, with the battery flat"


def test_a_flat_battery_leaves_phones_their_door_until_the_box_is_off() -> None:
    car = ParkedCar(booking(STAFF, start_s=0, end_s=40 * 86_400))
    kit = car.kit
    car.battery.charge_ah = 0.2 * car.battery.capacity_ah
    car.live(0.5)
    assert kit.state.supply.level is SupplyLevel.CRITICAL
    assert kit.state.supply.loads == Loads(), "a booking that may begin at any time keeps everything on"


def test_the_page_shows_the_tables_that_the_script_makes() -> None:
    page = (ROOT / "docs" / "power.md").read_text()
    assert "\n".join(power_budget.tables()).strip() in page


@pytest.mark.parametrize("board", power_budget.BOARDS, ids=lambda board: board.name)
def test_each_step_draws_less_than_the_one_before(board: power_budget.Part) -> None:
    drawn = [power_budget.step_ma(step, board) for step in (*power_budget.STEPS, power_budget.OFF)]
    assert drawn == sorted(drawn, reverse=True)
    assert drawn[-1] < drawn[0] / 10


def test_the_budget_reckons_what_it_says() -> None:
    assert power_budget.battery_ma(0.85 * 12.3 * 100) == pytest.approx(100 + 5.22)
    assert power_budget.days(12, 0.5, 90.0) == pytest.approx(2.5)
    assert [power_budget.share_at(volts) for volts in (10.0, 10.5, 12.1, 12.73, 14.0)] == pytest.approx(
        [0.0, 0.0, 0.5, 1.0, 1.0]
    )
    slow = power_budget.loads_mw(Loads(ReaderPace.SLOW), BOARD)
    full = power_budget.loads_mw(Loads(), BOARD)
    assert full - slow == pytest.approx((500 - 90) * 0.03 * 3)
    assert full - power_budget.loads_mw(Loads(modem=False), BOARD) == pytest.approx(400)
    assert full - power_budget.loads_mw(Loads(gnss=False), BOARD) == pytest.approx(190)
    assert full - power_budget.loads_mw(Loads(), BOARD, modem_share=0.5) == pytest.approx(200)
