"""The CAN decoder: belief rules, bad frames, the bus's state and charging."""

from __future__ import annotations

from collections import Counter
from dataclasses import replace

import pytest
from hypothesis import given
from hypothesis import strategies as st

from hw.can_model import ChargingByCurrent
from hw.can_signals import CarModel, SignalDecoder, crc8_85
from onboard.core.events import BusState, Charging, Signal, SignalsReported
from tests.can_rig import AMI, LEAF, Listener


def leaf_soc(pct: float, turn: int = 0) -> str:
    raw = round(pct * 10)
    data = bytes([raw >> 2, raw << 6 & 0xFF, 0, 0, 0, 0, turn & 3])
    return "55B#" + (data + bytes([crc8_85(data)])).hex()


def soc_drive(listener: Listener, levels: list[float], at_s: float = 0.0) -> None:
    for turn, level in enumerate(levels):
        at_s = listener.hear(leaf_soc(level, turn), at_s)
    listener.wait(at_s + 0.3)


# Bad input: each is counted by its reason and changes nothing else

GOOD = "713#3A010580000000"


@pytest.mark.parametrize(
    ("reason", "identifier", "extended", "error", "remote", "digits"),
    [
        ("extended_id", 0x713, True, False, False, "000003A0000000"),
        ("foreign_id", 0x714, False, False, False, "01"),
        ("short_frame", 0x713, False, False, False, "000003A00000"),
        ("short_frame", 0x713, False, False, False, ""),
        ("excess_bytes", 0x713, False, False, False, "000003A000000000"),
        ("remote_frame", 0x713, False, False, True, ""),
        ("error_frame", 0x713, False, True, False, "000003A0000000"),
    ],
)
def test_a_bad_frame_is_counted_and_no_value_changes(
    reason: str, identifier: int, extended: bool, error: bool, remote: bool, digits: str
) -> None:
    listener, undisturbed = Listener(AMI), Listener(AMI)
    for step in range(20):
        at_s = step / 10
        for each in (listener, undisturbed):
            each.hear(GOOD, at_s)
        listener.decoder.feed(identifier, extended, error, remote, bytes.fromhex(digits), at_s + 0.05)
    assert listener.refused() == {reason: 20}
    assert listener.values == undisturbed.values
    assert listener.readings() == undisturbed.readings()
    if not error:
        assert listener.events == undisturbed.events


def test_sentinels_are_no_values_and_counted_by_signal() -> None:
    listener = Listener(LEAF)
    power_up = bytes([0x7F, 0xE0, 0xFF, 0xC0, 0, 0, 0])
    listener.hear("1DB#" + (power_up + bytes([crc8_85(power_up)])).hex(), 0.0)
    soc_drive(listener, [102.3, 102.3, 102.3])
    assert listener.values == []
    assert listener.refused() == {"sentinel:current": 1, "sentinel:voltage": 1, "sentinel:soc": 3}


def test_an_impossible_value_is_refused_and_never_clamped() -> None:
    listener = Listener(AMI)
    listener.hear("580#0000102700650000", 0.0, times=4)  # 100.00 V, 101 %
    assert listener.refused() == {"out_of_range:voltage": 4, "out_of_range:soc": 4}
    assert set(listener.values) == {("current", 0.0)}


def test_one_jump_of_50_percent_never_gets_through() -> None:
    listener = Listener(LEAF)
    soc_drive(listener, [80.0, 80.0, 80.0, 30.0, 80.0, 79.9])
    assert [v for _, v in listener.values] == [80.0, 80.0, 80.0, 80.0, 79.9]
    assert listener.refused() == {"step_too_large:soc": 1}


def test_a_new_level_counts_once_three_frames_agree() -> None:
    listener = Listener(LEAF)
    soc_drive(listener, [80.0, 80.0, 80.0, 30.0, 30.1])
    assert listener.readings() == {Signal.SOC: 80.0}
    listener.hear(leaf_soc(30.0, 6), 0.7)
    listener.wait(1.0)
    assert listener.readings() == {Signal.SOC: 30.0}
    assert [v for _, v in listener.values] == [80.0, 80.0, 80.0, 30.0, 30.1, 30.0]
    assert listener.refused() == {}


def test_wrong_frames_that_disagree_never_get_through() -> None:
    listener = Listener(LEAF)
    soc_drive(listener, [80.0, 80.0, 80.0, 30.0, 10.0, 60.0, 20.0, 80.0])
    assert {v for _, v in listener.values} == {80.0}
    assert listener.refused() == {"step_too_large:soc": 4}


def test_a_first_lone_wrong_value_after_a_start_is_not_believed() -> None:
    listener = Listener(LEAF)
    soc_drive(listener, [3.0, 80.0, 80.0, 80.0])
    assert [v for _, v in listener.values] == [80.0, 80.0, 80.0]
    assert listener.refused() == {"step_too_large:soc": 1}


def test_an_odometer_that_falls_by_one_step_needs_confirming() -> None:
    listener = Listener(AMI)
    listener.hear("581#0000000072B70000", 0.0, times=3)
    listener.hear("581#0000000071B70000", 0.3)
    listener.hear("581#0000000072B70000", 0.4)
    assert {v for k, v in listener.values if k == "distance"} == {4696200.0}
    assert listener.refused() == {"step_too_large:distance": 1}


def test_a_wrong_checksum_is_refused() -> None:
    listener = Listener(LEAF)
    good = leaf_soc(80.0)
    listener.hear(good[:-1] + ("0" if good[-1] != "0" else "1"), 0.0, times=3)
    assert listener.refused() == {"checksum": 3}
    assert listener.values == []


def test_a_frozen_counter_makes_its_signals_stale() -> None:
    listener = Listener(LEAF)
    for turn in range(3):
        listener.hear(f"284#000000003E80{turn:02X}00", turn * 0.02)
    listener.hear("284#000000003E800200", 0.06, times=500, every_s=0.02)  # 160 km/h, the same count for 10 s
    assert listener.refused() == {"frozen_counter": 500 - 3}
    assert listener.decoder.fresh("speed", 2.0) == pytest.approx(160 / 3.6)
    assert listener.decoder.fresh("speed", 3.0) is None
    assert listener.bus() == [(BusState.AWAKE, 0.0)]
    for turn in range(3, 6):
        listener.hear(f"284#000000003E80{turn:02X}00", 10.1 + turn * 0.02)
    assert listener.decoder.fresh("speed", 10.3) is not None


def test_an_odometer_without_its_unit_is_refused_and_miles_are_converted() -> None:
    listener = Listener(LEAF)
    listener.hear("5C5#000000C800000000", 0.0, times=3)
    assert listener.refused() == {"unit_unknown:distance": 3}
    listener.hear("355#0000000000006000", 0.4)
    listener.hear("5C5#000000C800000000", 0.5, times=3)
    listener.wait(1.0)
    assert listener.readings()[Signal.DISTANCE] == pytest.approx(200 * 1609.344)


@given(
    st.lists(
        st.tuples(
            st.sampled_from([*AMI.messages, *LEAF.messages, 0, 0x7FF, 0x1FFFFFFF]) | st.integers(0, 0x1FFFFFFF),
            st.booleans(),
            st.booleans(),
            st.booleans(),
            st.binary(max_size=8) | st.binary(max_size=64),
            st.floats(0, 3),
        ),
        max_size=60,
    ),
    st.sampled_from([AMI, LEAF]),
)
def test_no_frame_whatever_makes_the_decoder_raise_or_lose_count(
    frames: list[tuple[int, bool, bool, bool, bytes, float]], model: CarModel
) -> None:
    decoder, now_s = SignalDecoder(model), 0.0
    for identifier, extended, error, remote, data, gap_s in frames:
        now_s += gap_s
        decoder.feed(identifier, extended, error, remote, data, now_s)
        for event in decoder.take(now_s):
            for _, reading in event.readings if isinstance(event, SignalsReported) else ():
                assert 0 <= reading.sampled_s <= now_s
    counts: Counter[str] = decoder.counts
    refused = sum(n for reason, n in counts.items() if ":" not in reason and reason not in ("seen", "used"))
    assert counts["seen"] == len(frames) == counts["used"] + refused


# Reporting


def test_readings_are_gathered_and_told_at_most_five_times_a_second() -> None:
    listener = Listener(LEAF)
    for turn in range(100):
        listener.hear(f"284#000000000010{turn:02X}00", turn * 0.01)
    reports = [e for e in listener.events if isinstance(e, SignalsReported)]
    assert 5 <= len(reports) <= 6
    assert reports[0].odometer_resolution_m == 1000
    assert reports[-1].readings[0][1].sampled_s >= 0.8


# The bus


def test_the_bus_sleeps_after_silence_since_its_last_frame_and_wakes_again() -> None:
    listener = Listener(AMI)
    listener.decoder.link_up(0.0)
    listener.wait(1.9)
    assert listener.bus() == []
    listener.wait(2.0)
    listener.hear(GOOD, 5.0, times=10)
    listener.wait(7.8)
    listener.wait(7.9)
    assert listener.bus() == [(BusState.ASLEEP, 0.0), (BusState.AWAKE, 5.0), (BusState.ASLEEP, 5.9)]


def test_foreign_frames_and_twins_do_not_wake_the_bus() -> None:
    listener = Listener(AMI)
    listener.hear("714#01", 0.0, times=30)
    listener.hear("00000713#3A010580000000", 3.0, times=10)
    assert [bus for bus, _ in listener.bus()] == [BusState.ASLEEP]


def test_the_first_values_after_a_wake_are_not_read() -> None:
    listener = Listener(AMI)
    listener.decoder.link_up(0.0)
    listener.wait(3.0)
    listener.hear(GOOD, 5.0, times=15)
    assert listener.values == []
    assert listener.refused() == {"after_wake": 15}
    listener.hear(GOOD, 6.5, times=3)
    assert ("gear", 1.0) in listener.values


def test_a_bus_that_already_talks_when_the_box_starts_is_read_at_once() -> None:
    listener = Listener(AMI)
    listener.decoder.link_up(100.0)
    listener.hear(GOOD, 100.3, times=3)
    assert listener.refused() == {}


def test_error_frames_are_a_fault_until_the_bus_talks_without_them() -> None:
    listener = Listener(AMI)
    at_s = listener.hear(GOOD, 0.0, times=10)
    listener.decoder.feed(0x40, False, True, False, bytes(8), at_s)
    listener.wait(at_s)
    listener.hear(GOOD, at_s, times=19)
    assert listener.bus() == [(BusState.AWAKE, 0.0), (BusState.FAULT, 1.0)]
    listener.hear(GOOD, at_s + 2.0)
    assert listener.bus()[-1] == (BusState.AWAKE, 3.0)


def test_silence_after_an_error_is_no_sleep() -> None:
    listener = Listener(AMI)
    listener.hear(GOOD, 0.0)
    listener.decoder.feed(0x40, False, True, False, bytes(8), 0.5)
    for at_s in (1.0, 10.0, 1000.0):
        listener.wait(at_s)
    assert listener.bus() == [(BusState.AWAKE, 0.0), (BusState.FAULT, 0.5)]


def test_a_lost_link_is_a_fault_until_it_is_opened_anew() -> None:
    listener = Listener(AMI)
    listener.hear(GOOD, 0.0)
    listener.decoder.fault(0.5, link_down=True)
    listener.wait(0.5)
    listener.wait(60.0)
    listener.decoder.link_up(61.0)
    listener.wait(61.0)
    listener.wait(63.0)
    assert listener.bus() == [(BusState.AWAKE, 0.0), (BusState.FAULT, 0.5), (BusState.ASLEEP, 61.0)]


# Charging

STANDING, ROLLING = "581#0000000072B70000", "581#0000000072B7000A"
READY_IN_DRIVE, OFF = "713#3A010580000000", "713#800103A0000000"
INTO, OUT_OF = "580#7800E81400500000", "580#97FC791400500000"
FULL_IDLE, FULL_INTO = "580#0000E81400640000", "580#7800E81400640000"


def charge(listener: Listener, words: list[str], from_s: float, to_s: float) -> float:
    at_s = from_s
    while at_s < to_s:
        for word in words:
            listener.hear(word, at_s)
        at_s = round(at_s + 0.1, 6)
    return at_s


def test_the_ami_charges_when_current_flows_in_while_it_stands_and_is_not_in_gear() -> None:
    listener = Listener(AMI)
    at_s = charge(listener, [INTO, STANDING, OFF], 0.0, 4.9)
    assert listener.charging() == []
    charge(listener, [INTO, STANDING, OFF], at_s, 6.0)
    assert listener.charging() == [Charging.CHARGING]
    assert listener.decoder.charging_since_s == pytest.approx(0.2)


@pytest.mark.parametrize("words", [[INTO, ROLLING, OFF], [INTO, STANDING, READY_IN_DRIVE], [OUT_OF, STANDING, OFF]])
def test_regeneration_a_driving_gear_and_discharge_are_not_charging(words: list[str]) -> None:
    listener = Listener(AMI)
    charge(listener, words, 0.0, 20.0)
    assert listener.charging() == [Charging.NOT_CHARGING]


def test_a_burst_of_current_shorter_than_the_debounce_is_not_charging() -> None:
    listener = Listener(AMI)
    at_s = charge(listener, [OUT_OF, STANDING, OFF], 0.0, 6.0)
    at_s = charge(listener, [INTO, STANDING, OFF], at_s, 10.0)
    charge(listener, [OUT_OF, STANDING, OFF], at_s, 20.0)
    assert listener.charging() == [Charging.NOT_CHARGING]


def test_a_valid_charge_time_alone_is_not_charging() -> None:
    listener = Listener(AMI)
    charge(listener, ["582#100E000000000000", STANDING, OFF], 0.0, 20.0)
    assert listener.charging() == []


def test_the_ami_is_full_when_charging_ends_at_100_percent_and_stays_so_asleep() -> None:
    listener = Listener(AMI)
    at_s = charge(listener, [FULL_INTO, STANDING, OFF], 0.0, 10.0)
    at_s = charge(listener, [FULL_IDLE, STANDING, OFF], at_s, 20.0)
    for step in range(100):
        listener.wait(at_s + step)
    assert listener.charging() == [Charging.CHARGING, Charging.FULL]
    assert listener.bus()[-1][0] is BusState.ASLEEP


def test_a_charging_car_that_falls_silent_is_unknown_not_charging_for_ever() -> None:
    listener = Listener(AMI)
    at_s = charge(listener, [INTO, STANDING, OFF], 0.0, 10.0)
    for step in range(100):
        listener.wait(at_s + step / 5)
    assert listener.charging() == [Charging.CHARGING, Charging.UNKNOWN]


def test_the_leaf_says_what_its_charger_does() -> None:
    listener = Listener(LEAF)
    at_s = 0.0
    for state in (0, 4, 2, 12, 63):
        at_s = listener.hear(f"390#0000000000{state << 1:02X}0000", at_s, times=40)
    assert listener.charging() == [
        Charging.NOT_CHARGING,
        Charging.CHARGING,
        Charging.FULL,
        Charging.NOT_CHARGING,
        Charging.UNKNOWN,
    ]
    assert listener.refused() == {"out_of_range:charger_state": 40}


def test_a_debounce_of_the_model_is_what_counts() -> None:
    assert isinstance(AMI.charging, ChargingByCurrent)
    rule = ChargingByCurrent(above_a=1.0, full_at_pct=100, debounce_s=1.0)
    listener = Listener(replace(AMI, charging=rule))
    charge(listener, [INTO, STANDING, OFF], 0.0, 1.5)
    assert listener.charging() == [Charging.CHARGING]
