"""One suite for both ways to see the 12 V battery: the ADC over (simulated) SPI, and the kernel's file of a monitor."""

from __future__ import annotations

import threading
from collections.abc import Callable, Iterator
from dataclasses import replace
from pathlib import Path
from typing import Protocol

import pytest
from gpiozero import Device, OutputDevice
from gpiozero.pins.mock import MockFactory

from hw.clock_sources import SystemClock
from hw.supply import Supply, SupplySettings, hwmon, mcp3008
from hw.worker import AdapterError, Life
from onboard.core.events import Event, SupplyReported
from sim.battery import Battery, SimulatedAdc, SimulatedMonitor
from tests.core_kit import POLICY

DEADLINE_S = 10.0


class SupplyRig(Protocol):
    """A battery on a bench, with hands for its wires."""

    settings: SupplySettings
    read: Callable[[], float]
    step_v: float

    def apply(self, voltage_v: float) -> None: ...
    def unplug(self) -> None: ...
    def plug_in(self) -> None: ...


class AdcRig:
    """The MCP3008 behind 47 kΩ over 10 kΩ."""

    settings = SupplySettings("mcp3008", channel=3, divider=5.7, every_s=0.02)
    step_v = 3.3 / 1024 * 5.7

    def __init__(self, _folder: Path) -> None:
        self.pins = Device.pin_factory
        self.chip = SimulatedAdc(self.pins)
        self.read = mcp3008(self.settings, self.pins)

    def apply(self, voltage_v: float) -> None:
        self.chip.inputs_v[3] = voltage_v / 5.7
        self.chip.inputs_v[2] = 1.0  # somebody else's

    def unplug(self) -> None:
        self.chip.there = False

    def plug_in(self) -> None:
        self.chip.there = True


class MonitorRig:
    """The INA226, as the kernel shows it."""

    settings = SupplySettings("hwmon", every_s=0.02)
    step_v = 0.00125

    def __init__(self, folder: Path) -> None:
        self.chip = SimulatedMonitor(folder)
        self.chip.plug_in()
        self.read = hwmon(self.settings, folder)

    def apply(self, voltage_v: float) -> None:
        self.chip.show(f"{round(voltage_v * 1000)}\n")

    def unplug(self) -> None:
        self.chip.unplug()

    def plug_in(self) -> None:
        self.chip.plug_in()
        self.apply(12.6)


@pytest.fixture(autouse=True)
def bus_of_the_mock(monkeypatch: pytest.MonkeyPatch) -> None:
    """In software gpiozero's SPI asks for the default factory, whatever it was given; the Pi's own SPI does not."""
    monkeypatch.setattr(Device, "pin_factory", MockFactory())


@pytest.fixture(params=[AdcRig, MonitorRig], ids=["adc", "monitor"])
def rig(request: pytest.FixtureRequest, tmp_path: Path) -> SupplyRig:
    made: SupplyRig = request.param(tmp_path / "hwmon")
    return made


class Live:
    """The worker in a thread of its own."""

    def __init__(self, rig: SupplyRig) -> None:
        self.events: list[Event] = []
        self.error: AdapterError | None = None
        self.beats = 0
        self.stop = threading.Event()
        self.clock = SystemClock()
        self.supply = Supply(rig.settings, self.clock, rig.read)
        self._new = threading.Condition()
        self.thread = threading.Thread(target=self._run)

    def _run(self) -> None:
        try:
            self.supply.run(Life(self._take, self._beat, self.stop))
        except AdapterError as error:
            self.error = error

    def _take(self, event: Event) -> None:
        with self._new:
            self.events.append(event)
            self._new.notify_all()

    def _beat(self) -> None:
        self.beats += 1

    def wait(self, wanted: Callable[[SupplyReported], bool]) -> SupplyReported:
        def found() -> SupplyReported | None:
            return next((e for e in self.events if isinstance(e, SupplyReported) and wanted(e)), None)

        with self._new:
            self._new.wait_for(lambda: found() is not None, DEADLINE_S)
        seen = found()
        assert seen is not None, self.error
        return seen


@pytest.fixture
def live(rig: SupplyRig) -> Iterator[Live]:
    made = Live(rig)
    yield made
    made.stop.set()
    if made.thread.ident is not None:
        made.thread.join(DEADLINE_S)
        assert not made.thread.is_alive()


@pytest.mark.parametrize("voltage_v", [9.0, 11.5, 12.2, 12.75, 14.4, 16.0])
def test_the_batterys_voltage_is_told_to_within_its_step(rig: SupplyRig, live: Live, voltage_v: float) -> None:
    rig.apply(voltage_v)
    before_s = live.clock.boot_s()
    live.thread.start()
    seen = live.wait(lambda _: True)
    assert seen.voltage_v == pytest.approx(voltage_v, abs=rig.step_v * 1.5)
    assert before_s <= seen.sampled_s <= live.clock.boot_s()


def test_it_is_measured_again_and_again(rig: SupplyRig, live: Live) -> None:
    rig.apply(12.6)
    live.thread.start()
    first = live.wait(lambda _: True)
    rig.apply(11.4)
    second = live.wait(lambda e: e.voltage_v < 11.5)
    assert second.sampled_s > first.sampled_s
    assert live.beats
    assert live.supply.counts["measured"] >= 2


def test_a_broken_wire_is_told_as_it_is_read_and_can_be_no_battery(rig: SupplyRig, live: Live) -> None:
    rig.apply(0.0)
    live.thread.start()
    assert live.wait(lambda _: True).voltage_v < POLICY.supply_plausible_v[0]


def test_a_chip_that_is_gone_never_shows_a_battery(rig: SupplyRig, live: Live) -> None:
    """Of a monitor the kernel knows that it is gone. An ADC's line says nothing: it reads as 0."""
    rig.apply(12.6)
    rig.unplug()
    live.thread.start()
    if isinstance(rig, MonitorRig):
        live.thread.join(DEADLINE_S)
        assert live.error is not None
        assert live.error.worth_retrying
        assert not live.error.may_have_happened
        assert "no ina226 below" in str(live.error)
        assert live.supply.counts["failures"] == 1
        return
    assert live.wait(lambda _: True).voltage_v < POLICY.supply_plausible_v[0]


def test_plugged_in_again_it_is_found_again(rig: SupplyRig) -> None:
    rig.apply(12.6)
    rig.unplug()
    with pytest.raises(AdapterError) if isinstance(rig, MonitorRig) else _nothing():
        rig.read()
    rig.plug_in()
    assert rig.read() * rig.settings.divider == pytest.approx(12.6, abs=rig.step_v * 1.5)


class _nothing:  # noqa: N801 - reads like pytest.raises
    def __enter__(self) -> None: ...
    def __exit__(self, *_: object) -> None: ...


@pytest.mark.parametrize("text", ["", "none\n", "nan\n", "inf\n", "9999999\n"])
def test_a_file_that_holds_no_voltage_is_an_error(tmp_path: Path, text: str) -> None:
    rig = MonitorRig(tmp_path / "hwmon")
    rig.chip.show(text)
    with pytest.raises(AdapterError, match="in1_input"):
        rig.read()


def test_the_other_inputs_of_the_adc_and_the_other_chips_of_the_kernel_are_not_the_battery(tmp_path: Path) -> None:
    adc = AdcRig(tmp_path)
    adc.apply(12.6)
    other = mcp3008(replace(AdcRig.settings, channel=2), adc.pins)
    assert other() == pytest.approx(1.0, abs=0.01)
    monitor = MonitorRig(tmp_path / "hwmon")
    monitor.apply(12.6)
    with pytest.raises(AdapterError, match="no ina219 below"):
        hwmon(replace(MonitorRig.settings, chip="ina219"), tmp_path / "hwmon")()


def test_an_adc_that_fails_is_opened_anew(tmp_path: Path) -> None:
    adc = AdcRig(tmp_path)
    adc.apply(12.6)
    with OutputDevice(8, pin_factory=adc.pins), pytest.raises(AdapterError, match="is SPI on"):
        adc.read()
    assert adc.read() * 5.7 == pytest.approx(12.6, abs=0.03)


def test_a_simulated_battery_falls_under_load_and_rises_when_fed() -> None:
    battery = Battery(capacity_ah=12.0, charge_ah=12.0, load_a=0.1)
    full_v = battery.voltage_v
    battery.advance(60 * 3600.0)
    half_v = battery.voltage_v
    assert half_v < full_v
    battery.advance(100 * 3600.0)
    assert battery.voltage_v < 10.6
    battery.fed = True
    assert battery.voltage_v > 14
    battery.advance(12 * 3600.0)
    battery.fed = False
    assert battery.voltage_v > half_v
