"""One file configures the box; each mistake in it is named with file, line and remedy."""

from __future__ import annotations

import dataclasses
import re
import tomllib
from pathlib import Path

import pytest

from onboard.config import (
    SECTIONS,
    Config,
    ConfigError,
    check_devices,
    load_config,
    parse_config,
    section_keys,
)
from onboard.config_policy import NARROWER, ORDERED
from onboard.core.policy import Policy, Station

EXAMPLE = Path(__file__).parent.parent / "systemd" / "amibox.toml"
FILE = Path("/etc/amibox/box.toml")
CAR = '[car]\nmodel = "ami"\n'
DOOR = """[door]
unlock_pin = 17
lock_pin = 27
driver_contact_pin = 5
passenger_contact_pin = 6
lock_contact_pin = 13
"""
READER = "[card_reader]\nport = '/dev/x'\n"
UPLINK = '[uplink]\nhost = "localhost"\nusername = "box"\npassword_file = "secret"\n'
STATION = '[[station]]\nid = "hede"\nname = "Hédé"\nlatitude = 48.3\nlongitude = -1.8\n'


def parse(text: str) -> Config:
    return parse_config(text, FILE)


def complaint(text: str) -> str:
    with pytest.raises(ConfigError) as caught:
        parse(text)
    return str(caught.value)


def uncommented() -> str:
    return re.sub(r"(?m)^#(?=[a-z_]+ = )", "", EXAMPLE.read_text())


def test_the_example_is_a_configuration() -> None:
    config = load_config(EXAMPLE)
    assert config.car.model == "ami"
    assert config.gps is not None
    assert config.gps.port == Path("/dev/amibox-gps")
    assert config.policy.stations[0] == Station("bazouges", 48.3046, -1.7806, 40.0)
    assert config.stations[1].name.startswith("Hédé")


def test_the_example_shows_every_key_and_no_other() -> None:
    shown = tomllib.loads(uncommented())
    shown["station"] = shown["station"][0]
    assert {name: set(table) for name, table in shown.items()} == {
        name: set(section_keys(cls)) for name, cls in SECTIONS.items()
    }


def test_the_values_that_the_example_comments_out_are_the_defaults() -> None:
    plain, full = load_config(EXAMPLE), parse_config(uncommented(), EXAMPLE)
    assert full.uplink is not None
    assert plain.uplink is not None
    # The one choice in the file: a certificate, or a name with a password.
    full = dataclasses.replace(full, uplink=dataclasses.replace(full.uplink, username=None, password_file=None))
    assert full == plain


def test_what_is_not_set_is_safe_and_what_is_not_fitted_does_not_exist() -> None:
    config = parse(CAR)
    assert (config.can, config.gps, config.card_reader, config.door, config.uplink) == (None,) * 5
    assert config.policy == Policy()
    assert config.box.data_dir == Path("/var/lib/amibox")
    door = parse(CAR + DOOR).door
    assert door is not None
    assert not door.lock_closed_when_unlocked  # a broken wire never reads as locked


def test_relative_paths_start_at_the_configuration_file() -> None:
    assert parse(CAR + '[box]\ndata_dir = "data"\n').box.data_dir == Path("/etc/amibox/data")


@pytest.mark.parametrize(
    ("text", "line", "said", "remedy"),
    [
        ("[gps]\nport = '/dev/x'\nbaud_rat = 9600\n", 5, "unknown key", 'did you mean "baud_rate"?'),
        ("[gpss]\nport = '/dev/x'\n", 3, "unknown section", 'did you mean "gps"?'),
        ("[gps]\nport = '/dev/x'\nbaud_rate = '9600'\n", 5, "got `str`", "write bits a second, 1200 to 4000000"),
        ("[gps]\nport = '/dev/x'\nbaud_rate = 9600.5\n", 5, "got `float`", "bits a second"),
        ("[gps]\nbaud_rate = 9600\n", 3, "gps.port: missing", "add port: a device path"),
        ("[gps]\nport = ''\n", 4, "Expected a path", "a device path"),
        (DOOR + "pulse_s = '300 ms'\n", 9, "got `str`", "write seconds, 0.05 to 1"),
        (DOOR + "pulse_ms = 300\n", 9, "unknown key", 'did you mean "pulse_s"?'),
        (DOOR + "pulse_s = 300\n", 9, "<= 1.0", "seconds, 0.05 to 1"),
        (DOOR + "led_pin = 17\n", 9, "GPIO 17 is already unlock_pin", "its own pin"),
        (DOOR + "led_pin = 40\n", 9, "<= 27", "0 to 27"),
        (DOOR + READER + "reset_pin = 17\n", 11, "GPIO 17 is already unlock_pin", "its own pin"),
        (DOOR + READER + "reset_pin = 22\npower_pin = 22\n", 12, "GPIO 22 is already reset_pin", "its own pin"),
        (READER + "power_pin = 23\n", 5, "no pins without [door]", "add [door]"),
        (DOOR + "relay_active_high = 1\n", 9, "got `int`", "true or false"),
        ("[policy]\ngrace_s = -1\n", 4, ">= 0", "seconds, 0 to 2592000"),
        ("[policy]\ngrace_s = inf\n", 4, "<= 2592000", "seconds"),
        ("[policy]\ngrace_s = nan\n", 4, "nan won't do", "seconds"),
        ("[policy]\nattempts_max = true\n", 4, "got `bool`", "a whole number, 1 to 10"),
        ("[policy]\ninterlock_mps = 20\n", 4, "<= 1.4", "metres a second"),
        ("[policy]\nodometer_speed_mps = 20\n", 4, "unknown key", "choose from"),
        ("[policy]\nlock_ends_rental = 'never'\n", 4, "Invalid enum value", '"always", "at_dropoff"'),
        ("[policy]\nsupply_off_v = 12.0\n", 4, "supply_off_v 12.0 is not below supply_critical_v", "lower"),
        ("[policy]\nplug_in_temperature_c = [9, 1]\n", 4, "not below", "[lowest, highest]"),
        ("[policy]\nplug_in_temperature_c = [9]\n", 4, "of length 2", "[lowest, highest] in degrees Celsius"),
        ("[uplink]\nhost = 'localhost'\n", 3, "can't say who it is", "username and password_file"),
        (UPLINK.replace("localhost", "example.org"), 4, "needs TLS", "set ca_file"),
        (UPLINK + "key_file = 'k'\n", 3, "a certificate needs its key", "or neither"),
        (STATION + STATION, 9, '"hede" stands twice', "an id of its own"),
        (STATION + STATION.replace("48.3", "98.3"), 11, "98.3 won't do", "degrees north, -90 to 90"),
        ("[station]\nid = 'hede'\n", 3, "not a list of tables", "[[station]]"),
        ("[gps\nport = 3\n", 3, "not TOML", "correct this line"),
        ("[gps]\nport = '/a'\nport = '/b'\n", 5, "not TOML", "correct this line"),
    ],
)
def test_a_mistake_is_named_with_file_line_and_remedy(text: str, line: int, said: str, remedy: str) -> None:
    first = complaint(CAR + text).splitlines()[0]
    assert first.startswith(f"{FILE}:{line}: ")
    assert said in first
    assert remedy in first


def test_a_car_that_nobody_described_is_refused_with_its_line_and_the_known_ones(tmp_path: Path) -> None:
    file = tmp_path / "box.toml"
    file.write_text('# the car\n[car]\nmodel = "zoe"\n')
    with pytest.raises(ConfigError) as caught:
        load_config(file)
    assert str(caught.value) == f'{file}:3: car.model: no car "zoe" in hw/models; write one of: ami, leaf'


def test_a_file_without_a_car_is_refused() -> None:
    assert 'car: missing; add [car] and model = "ami"' in complaint("[can]\n")


def test_a_value_where_a_section_belongs_is_refused() -> None:
    assert "box.toml:1: gps: not a table; write [gps]" in complaint("gps = 3\n" + CAR)


def test_every_mistake_is_told_at_once_in_the_order_of_lines() -> None:
    said = complaint("[can]\nbitrate = 'x'\n[box]\nlog_level = 'loud'\n[gps]\nport = 3\n").splitlines()
    assert [line.split(":")[1] for line in said] == ["1", "2", "4", "6"]


@pytest.mark.parametrize("cut", range(0, 400, 7))
def test_a_truncated_file_is_used_whole_or_refused(cut: int) -> None:
    text = (CAR + DOOR + UPLINK + STATION)[:cut]
    try:
        config: Config | ConfigError = parse(text)
    except ConfigError as error:
        config = error
    assert (
        all(each.remedy for each in config.problems) if isinstance(config, ConfigError) else config.car.model == "ami"
    )


def test_a_missing_file_says_what_to_copy(tmp_path: Path) -> None:
    with pytest.raises(ConfigError, match=r"No such file.*copy systemd/amibox\.toml there"):
        load_config(tmp_path / "box.toml")


def test_a_file_that_is_no_text_or_too_large_is_refused(tmp_path: Path) -> None:
    file = tmp_path / "box.toml"
    file.write_bytes(CAR.encode() + b"\xff\xfe")
    with pytest.raises(ConfigError, match=rf"{re.escape(str(file))}:3: .*save it as UTF-8"):
        load_config(file)
    file.write_bytes(CAR.encode() + b"#" * 300_000)
    with pytest.raises(ConfigError, match="too large"):
        load_config(file)


def test_each_policy_can_be_set_and_its_default_is_within_its_own_range() -> None:
    keys = section_keys(Policy)
    assert set(NARROWER) | {name for pair in ORDERED for name in pair} <= set(keys)
    for name in keys:
        value = getattr(Policy(), name)
        written = str(value).lower() if isinstance(value, bool) else repr(value)
        written = str(list(value)) if isinstance(value, tuple) else written
        assert getattr(parse(f"{CAR}[policy]\n{name} = {written}\n").policy, name) == value


def test_a_missing_device_is_named_with_its_line_and_a_remedy(tmp_path: Path) -> None:
    (tmp_path / "net" / "can0").mkdir(parents=True)
    (tmp_path / "data").mkdir()
    (tmp_path / "reader").touch()
    text = f"""{CAR}[can]
[box]
data_dir = "data"
[gps]
port = "receiver"
[card_reader]
port = "reader"
{UPLINK}"""
    config = parse_config(text, tmp_path / "box.toml")
    missing = check_devices(config, interfaces=tmp_path / "net")
    assert [(each.key, each.line) for each in missing] == [("gps.port", 7), ("uplink.password_file", 13)]
    assert "plug the receiver in" in str(missing[0])

    other = parse_config(text.replace("[can]", '[can]\nchannel = "can1"'), tmp_path / "box.toml")
    assert check_devices(other, interfaces=tmp_path / "net")[0].key == "can.channel"
