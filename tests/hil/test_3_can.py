"""The bus: two real controllers and the kernel's own filters between the car and the box."""

from __future__ import annotations

import re

from hw.can_signals import CarModel
from sim.rig import PYTHON, Rig
from tests.hil.driver import sent, tell

SPEED = "Vehicle.Speed"
SOC = "Vehicle.Powertrain.TractionBattery.StateOfCharge.Displayed"


def test_the_link_listens_only_at_the_cars_rate(box: Rig) -> None:
    shown = box.shell("ip -details link show can0")
    assert "LISTEN-ONLY" in shown
    assert "bitrate 500000" in shown
    assert "restart-ms 100" in shown


def test_the_box_hears_its_car(box: Rig) -> None:
    box.until("the state of charge", lambda: box.status()["signals"].get(SOC, {}).get("fresh"))
    box.until("the charging", lambda: box.status()["charging"] == "charging")
    truth, status = box.car("status"), box.status()
    assert abs(status["signals"][SOC]["value"] - truth["soc_pct"]) <= 1


def test_the_kernel_filters_to_the_models_frames(box: Rig) -> None:
    """/proc/net/can lists each filter in force: exactly the model's identifiers, and none that takes all."""
    listed = box.shell("cat /proc/net/can/rcvlist_sff /proc/net/can/rcvlist_fil /proc/net/can/rcvlist_all")
    ours = {int(each, 16) for each in re.findall(r"^\s*can0\s+([0-9a-f]{3})\s", listed, re.MULTILINE)}
    assert ours == set(CarModel.load("ami").messages)
    assert not re.search(r"^\s*can0\s+00000000\s+00000000", listed, re.MULTILINE)
    masks = set(re.findall(r"^\s*can0\s+[0-9a-f]{3}\s+([0-9a-f]{8})\s", listed, re.MULTILINE))
    assert masks <= {"800007ff", "c00007ff"}, "each to one identifier, of 11 bits"
    assert "kernel_filter_failed" not in box.status()["counts"].get("can", {})


def test_the_box_puts_nothing_on_the_bus(box: Rig) -> None:
    assert sent(box) == [0, 0]
    # And this is how it would show: in listen-only mode the kernel drops what somebody wants to send, and counts it.
    frame = "can.Message(arbitration_id=0x7F0, is_extended_id=False)"
    box.must(PYTHON, "-c", f"import can; can.Bus('can0', interface='socketcan', ignore_config=True).send({frame})")
    assert sent(box) == [0, 1]


def test_a_link_that_went_down_is_heard_again(box: Rig) -> None:
    box.shell("ip link set can0 down")
    box.until("the loss to be told", lambda: box.status()["bus"] == "fault")
    box.shell("ip link set can0 up")
    took_s = box.until("the bus again", lambda: box.status()["bus"] == "awake")
    tell(f"heard again {took_s:.1f} s after the link was up")
