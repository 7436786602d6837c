"""How a door is wired, and where its pins come from: what is refused, and with which remedy."""

from __future__ import annotations

import dataclasses
import logging
import sys
from pathlib import Path

import pytest
from gpiozero.pins.mock import MockFactory

from hw.door import DoorSettings, make_pin_factory
from hw.worker import AdapterError
from onboard.__main__ import door_settings
from onboard.config import load_config
from tests.conftest import ROOT
from tests.door_rig import SETTINGS


@pytest.mark.parametrize(
    ("change", "what"),
    [
        ({"pulse_s": 0.04}, "pulse_s"),
        ({"pulse_s": 1.1}, "pulse_s"),
        ({"pulse_s": float("nan")}, "pulse_s"),
        ({"debounce_s": 0.5}, "debounce_s"),
        ({"lock_pin": 17}, "pin 17 is used twice"),
        ({"led_pin": 13, "buzzer_pin": 13}, "pin 13 is used twice"),
    ],
)
def test_settings_that_can_not_be_right_are_refused(change: dict[str, float], what: str) -> None:
    with pytest.raises(ValueError, match=what):
        dataclasses.replace(SETTINGS, **change)  # type: ignore[arg-type]  # one name at a time, of either type


def test_every_line_of_the_configuration_reaches_the_door() -> None:
    config = load_config(ROOT / "systemd" / "amibox.toml")
    assert config.door is not None
    written = {key: value for key, value in dataclasses.asdict(config.door).items() if key != "pin_factory"}
    wired = dataclasses.asdict(door_settings(config))
    assert {key: wired[key] for key in written} == written
    assert {field.name for field in dataclasses.fields(DoorSettings)} - written.keys() == {"debounce_s"}


def test_a_missing_pin_library_is_named_with_its_remedy(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "lgpio", None)
    monkeypatch.delitem(sys.modules, "gpiozero.pins.lgpio", raising=False)
    with pytest.raises(AdapterError, match=r'pip install "lgpio==0\.2\.2\.0".*sudo apt install') as caught:
        make_pin_factory("lgpio")
    assert not caught.value.may_have_happened


@pytest.mark.parametrize(
    ("name", "what"),
    [
        ("lpgio", "use one of lgpio, native, mock, or module:Class"),
        ("tests.door_rig:NoSuchClass", "correct the name"),
        ("no_such_module:Pins", "correct the name"),
    ],
)
def test_a_mistyped_pin_factory_is_refused_with_a_remedy(name: str, what: str) -> None:
    with pytest.raises(AdapterError, match=what):
        make_pin_factory(name)


def test_a_machine_without_pins_is_told_apart_from_a_missing_library(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv("AMIBOX_PIN_SOCKET", raising=False)
    with pytest.raises(AdapterError, match=r"doesn't start.*set AMIBOX_PIN_SOCKET"):
        make_pin_factory("sim.pins:SocketFactory")


def test_a_kernel_that_leaves_relays_on_after_a_crash_is_warned_about(
    tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    parameter = tmp_path / "pinctrl_bcm2835" / "parameters" / "persist_gpio_outputs"
    parameter.parent.mkdir(parents=True)
    for value, warned in (("N\n", False), ("Y\n", True)):
        caplog.clear()
        parameter.write_text(value)
        with caplog.at_level(logging.WARNING):
            make_pin_factory("tests.door_rig:WiredFactory", tmp_path).close()
        assert ("strict_gpiod" in caplog.text) is warned


def test_mock_pins_are_there_by_name() -> None:
    assert isinstance(make_pin_factory("mock"), MockFactory)
