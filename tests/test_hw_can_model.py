"""Car models: the vectors of the AMI, the layout against cantools, and strict reading."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import cantools
import pytest
from hypothesis import given
from hypothesis import strategies as st

from hw.can_model import MODELS
from hw.can_signals import CarModel, ModelError, known_models
from onboard.core.events import Signal
from tests.can_rig import AMI, LEAF, Listener


def layout_of(name: str) -> Any:
    """The model's DBC in cantools' own hands, to compare with."""
    return cantools.database.load_string((MODELS / name / "signals.dbc").read_text(encoding="utf-8"), "dbc")


# Vectors of the AMI


@pytest.mark.parametrize(
    ("word", "expected"),
    [
        ("580#97FC791400400000", {Signal.CURRENT: -87.3, Signal.VOLTAGE: 52.41, Signal.SOC: 64}),
        ("580#7800E81400500000", {Signal.CURRENT: 12.0, Signal.VOLTAGE: 53.52, Signal.SOC: 80}),
        ("581#0000000072B7002B", {Signal.DISTANCE: 4696200, Signal.SPEED: 11.944444}),
        ("581#FFFFFFFFFFFFFFFF", {}),
        ("582#FFFF000000000000", {}),
        ("582#100E000000000000", {Signal.CHARGE_TIME: 3600}),
        ("594#FD00001500000000", {Signal.TEMPERATURE: -3}),
        ("713#3A010400000000", {Signal.RANGE: 58000, Signal.GEAR: 1, Signal.READY: 1, Signal.PARK_BRAKE: 0}),
        ("713#3A010580000000", {Signal.RANGE: 58000, Signal.GEAR: 1, Signal.READY: 1, Signal.PARK_BRAKE: 0}),
        ("713#800103A0000000", {Signal.GEAR: 0, Signal.READY: 0, Signal.PARK_BRAKE: 1}),
        ("713#46010580000000", {Signal.RANGE: 70000, Signal.GEAR: 1, Signal.READY: 1, Signal.PARK_BRAKE: 0}),
        ("713#BA000580000000", {Signal.RANGE: 58000, Signal.GEAR: 0, Signal.READY: 1, Signal.PARK_BRAKE: 0}),
    ],
)
def test_each_vector_of_the_ami_gives_its_values(word: str, expected: dict[Signal, float]) -> None:
    listener = Listener(AMI)
    listener.hear(word, 0.0, times=5)
    assert listener.readings() == expected


def test_the_vector_file_decodes_to_what_it_names_with_the_amis_dbc(recordings: Path) -> None:
    dbc = layout_of("ami")
    checked = 0
    for line in (recordings / "can" / "ami_vectors.txt").read_text().splitlines():
        if not line or line.startswith("#"):
            continue
        word, _, meaning = line.partition(" ")
        identifier, _, digits = word.partition("#")
        values = dbc.decode_message(int(identifier, 16), bytes.fromhex(digits), decode_choices=False)
        for claim in meaning.split(";"):
            name, _, number = claim.strip().split(" (")[0].partition(" = ")
            value = values[name.partition(".")[2]]
            expected = 0xFFFF if number == "none" else float(number.split()[0])
            assert value == pytest.approx(expected), claim
            checked += 1
    assert checked == 12


@pytest.mark.parametrize("name", known_models())
@given(data=st.data())
def test_a_field_is_cut_out_exactly_as_cantools_does_it(name: str, data: st.DataObject) -> None:
    model = CarModel.load(name)
    dbc = layout_of(name)
    message = data.draw(st.sampled_from(sorted(model.messages.values(), key=lambda m: m.arbitration_id)))
    payload = data.draw(st.binary(min_size=message.dlc, max_size=message.dlc))
    theirs = dbc.decode_message(message.arbitration_id, payload, decode_choices=False, scaling=False)
    for rule in message.signals:
        assert rule.field.number(rule.field.raw(payload)) == theirs[rule.source.partition(".")[2]]


def test_filters_name_only_the_models_ids_and_never_their_29_bit_twins() -> None:
    assert [f["can_id"] for f in AMI.can_filters] == [0x580, 0x581, 0x582, 0x594, 0x713]
    assert all(f["can_mask"] == 0x7FF and f["extended"] is False for f in AMI.can_filters)
    assert AMI.dlcs == {0x580: 8, 0x581: 8, 0x582: 8, 0x594: 8, 0x713: 7}
    assert (AMI.odometer_resolution_m, LEAF.odometer_resolution_m) == (100, 1000)


# Models are read strictly


@pytest.mark.parametrize(
    ("old", "new", "complaint"),
    [
        ("max_step = 15", "max_stop = 15", r"model\.toml, line \d+: .*max_stop.*hw/models/README\.md"),
        (
            '"ECU_Odometer.Speed"',
            '"ECU_Odometer.Sped"',
            r"model\.toml, line \d+: signals\.dbc has no 'ECU_Odometer\.Sped'",
        ),
        (
            '"ECU_Odometer.Speed"',
            '"ECU_Display.Gear"',
            r"line \d+: unit '' in signals\.dbc does not fit Vehicle\.Speed",
        ),
        ('"Vehicle.Speed"', '"Vehicle.Spede"', r"line \d+: unknown signal 'Vehicle\.Spede'"),
        ("valid = [0, 100]\nnot", "not", r"Vehicle\.Speed needs either valid"),
        ("max_age_s = 2.0", 'max_age_s = "2 s"', r"line \d+: .*max_age_s"),
        ("max_age_s = 2.0", "max_age_s = nan", r"finite"),
        ("bitrate = 500000", "bitrate = [", r"not TOML.*line"),
        ('rule = "current"', 'rule = "charger_state"', r"model\.toml"),
        ("[odometer]", "[odomter]", r"odomter"),
        ("valid = [-400, 400]", "valid = [400, -400]", r"valid goes from low to high"),
    ],
)
def test_a_wrong_model_is_an_error_naming_file_line_and_remedy(
    tmp_path: Path, old: str, new: str, complaint: str
) -> None:
    text = (MODELS / "ami" / "model.toml").read_text()
    assert old in text
    (tmp_path / "model.toml").write_text(text.replace(old, new, 1))
    (tmp_path / "signals.dbc").write_text((MODELS / "ami" / "signals.dbc").read_text())
    with pytest.raises(ModelError, match=complaint):
        CarModel.load(tmp_path)


def test_a_car_that_nobody_described_is_an_error_naming_those_there_are() -> None:
    with pytest.raises(ModelError, match=r"no car model 'zoe': use one of ami, leaf"):
        CarModel.load("zoe")


def test_a_broken_dbc_is_an_error_naming_it(tmp_path: Path) -> None:
    (tmp_path / "model.toml").write_text((MODELS / "ami" / "model.toml").read_text())
    (tmp_path / "signals.dbc").write_text("BO_ what")
    with pytest.raises(ModelError, match=r"signals\.dbc: not a usable DBC"):
        CarModel.load(tmp_path)


def test_a_29_bit_id_in_the_dbc_is_refused(tmp_path: Path) -> None:
    (tmp_path / "model.toml").write_text((MODELS / "ami" / "model.toml").read_text())
    dbc = (MODELS / "ami" / "signals.dbc").read_text().replace("BO_ 1408 ", f"BO_ {1408 | 1 << 31} ")
    (tmp_path / "signals.dbc").write_text(dbc.replace("CM_ SG_ 1408", f"CM_ SG_ {1408 | 1 << 31}"))
    with pytest.raises(ModelError, match="29-bit"):
        CarModel.load(tmp_path)
