"""The car's physics and frames, judged by the box's own decoder."""

from __future__ import annotations

import pytest

from hw.can_signals import CarModel, SignalDecoder
from onboard.core.events import BusReported, BusState, Event, Position, Signal, SignalsReported
from onboard.core.trip import distance_m as great_circle_m
from sim.ami import SPEED_MAX_MPS, STANDBY_S, Ami, AmiFault
from sim.route import BAZOUGES, BAZOUGES_HEDE, HEDE, Route

LENGTH_M = BAZOUGES_HEDE.length_m


class Heard:
    """A car, and what a decoder makes of its frames."""

    def __init__(self, **car: float) -> None:
        self.car = Ami(BAZOUGES_HEDE, 0.0, **car)
        self.decoder = SignalDecoder(CarModel.load("ami"))
        self.events: list[Event] = []

    def live(self, seconds: float) -> None:
        until_s = self.car.at_s + seconds
        while self.car.at_s < until_s:
            self.car.advance(min(until_s, self.car.at_s + 0.1))
            for identifier, data in self.car.frames():
                self.decoder.feed(identifier, False, False, False, data, self.car.at_s)
            self.events += self.decoder.take(self.car.at_s)

    def arrive(self) -> float:
        began_s = self.car.at_s
        while not self.car.arrived:
            self.live(1.0)
            assert self.car.at_s - began_s < 1000, "it never arrives"
        return self.car.at_s - began_s

    def values(self, signal: Signal) -> list[float]:
        told = [event for event in self.events if isinstance(event, SignalsReported)]
        return [reading.value for event in told for s, reading in event.readings if s is signal]


def test_the_road_leads_from_station_to_station_and_is_about_3_5_km() -> None:
    assert 3_400 <= LENGTH_M <= 3_800
    for spot, station in ((BAZOUGES_HEDE.along(0), BAZOUGES), (BAZOUGES_HEDE.along(LENGTH_M), HEDE)):
        assert (spot.latitude, spot.longitude) == (station.latitude, station.longitude)
    assert BAZOUGES_HEDE.along(-5) == BAZOUGES_HEDE.along(0)
    assert BAZOUGES_HEDE.along(LENGTH_M + 5) == BAZOUGES_HEDE.along(LENGTH_M)


def test_a_metre_on_the_road_is_a_metre_on_earth() -> None:
    for at_m in range(0, int(LENGTH_M) - 10, 50):
        a, b = BAZOUGES_HEDE.along(at_m), BAZOUGES_HEDE.along(at_m + 10)
        origin = Position(a.latitude, a.longitude, None, 3, None, 0.0)
        # As the crow flies, so a corner takes a little off.
        assert 9.0 < great_circle_m(origin, b.latitude, b.longitude) < 10.02


def test_headings_go_round_the_compass() -> None:
    square = ((48.0, 0.0), (48.001, 0.0), (48.001, 0.001), (48.0, 0.001), (48.0, 0.0))
    route = Route(BAZOUGES, HEDE, square)
    headings = [route.along(mark + 1).heading_deg for mark in route.marks_m[:-1]]
    assert headings == pytest.approx([0, 90, 180, 270])


def test_a_drive_is_as_long_as_the_road_by_every_account() -> None:
    heard = Heard()
    heard.live(3)
    heard.car.drive(LENGTH_M)
    took_s = heard.arrive()
    assert heard.car.at_m == pytest.approx(LENGTH_M, abs=0.2)
    assert heard.car.odometer_m - 4_696_240 == pytest.approx(LENGTH_M, abs=0.2)
    odometer = heard.values(Signal.DISTANCE)
    assert odometer == sorted(odometer)
    assert odometer[-1] - odometer[0] == pytest.approx(LENGTH_M, abs=100)
    speeds = heard.values(Signal.SPEED)
    assert max(speeds) == pytest.approx(SPEED_MAX_MPS, abs=0.2)
    assert LENGTH_M / SPEED_MAX_MPS < took_s < 2 * LENGTH_M / SPEED_MAX_MPS
    assert heard.values(Signal.SOC)[0] - heard.values(Signal.SOC)[-1] == pytest.approx(LENGTH_M / 750, abs=1.1)
    assert min(heard.values(Signal.CURRENT)) < -50 < 5 < max(heard.values(Signal.CURRENT))


def test_nothing_of_a_healthy_car_is_refused() -> None:
    heard = Heard()
    heard.car.plug(is_in=True)
    heard.live(30)
    heard.car.plug(is_in=False)
    heard.car.drive(500)
    heard.arrive()
    heard.car.switch_off()
    heard.live(30)
    # The instruments' honest "no value": no range while it charges, no charging time while it doesn't.
    allowed = {"sentinel:range", "sentinel:charge_time"}
    assert {name for name in heard.decoder.counts if ":" in name} <= allowed
    assert heard.decoder.counts["seen"] == heard.decoder.counts["used"]


def test_a_parked_car_falls_asleep_and_wakes_with_numbers_that_are_none() -> None:
    heard = Heard()
    heard.live(STANDBY_S + 5)
    assert heard.car.asleep
    asleep = heard.events[-1]
    assert isinstance(asleep, BusReported)
    assert asleep.bus is BusState.ASLEEP
    assert asleep.since_s == pytest.approx(STANDBY_S, abs=3)
    slept_s = heard.car.at_s
    heard.car.plug(is_in=True)
    heard.car.advance(slept_s + 0.3)
    assert dict(heard.car.frames())[0x581] == b"\xff" * 8
    heard.live(10)
    woke = [event for event in heard.events if isinstance(event, BusReported)][-1]
    assert woke.bus is BusState.AWAKE
    assert woke.since_s == pytest.approx(slept_s, abs=1)
    assert heard.values(Signal.DISTANCE)[-1] == 4_696_200


def test_sentinels_are_never_values() -> None:
    heard = Heard()
    heard.live(3)
    before = len(heard.values(Signal.SPEED))
    heard.car.fault = AmiFault.SENTINELS
    heard.live(5)
    assert len(heard.values(Signal.SPEED)) <= before + 1
    assert heard.decoder.counts["sentinel:speed"] > 10


def test_a_frozen_car_repeats_itself_though_it_drives() -> None:
    heard = Heard()
    heard.car.drive(LENGTH_M)
    heard.live(60)
    heard.car.fault = AmiFault.FROZEN
    heard.live(0.5)
    shown = heard.values(Signal.DISTANCE)[-1]
    heard.live(60)
    assert heard.values(Signal.DISTANCE)[-1] == shown
    assert heard.car.odometer_m > shown + 300


def test_bus_off_is_silence() -> None:
    heard = Heard()
    heard.car.fault = AmiFault.BUS_OFF
    heard.car.drive(100)
    heard.live(5)
    assert heard.decoder.counts["seen"] == 0


def test_the_cable_keeps_the_car_from_driving() -> None:
    car = Ami(BAZOUGES_HEDE, 0.0)
    car.plug(is_in=True)
    with pytest.raises(ValueError, match="cable"):
        car.drive(100)
    car.plug(is_in=False)
    car.drive(100)
    car.advance(5)
    with pytest.raises(ValueError, match="moves"):
        car.switch_off()
    with pytest.raises(ValueError, match="switch off"):
        car.plug(is_in=True)


def test_charging_ends_when_the_battery_is_full() -> None:
    car = Ami(BAZOUGES_HEDE, 0.0, soc_pct=99.99)
    car.plug(is_in=True)
    car.advance(60)
    assert car.soc_pct == 100
    assert not car.charging
    assert car.current_a == 0
