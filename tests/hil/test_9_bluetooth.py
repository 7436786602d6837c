"""Bluetooth: the real bluetoothd with our settings, a controller behind /dev/vhci, and phones on a simulated radio.

The box does not speak Bluetooth yet. What stands in for it is an application (``gatt.py``) by the same library, under
the box's user.
"""

from __future__ import annotations

import time
from pathlib import Path

import pytest

from onboard.core.gatt import COMMAND, HELLO, RESULT, SERVICE
from sim.rig import PYTHON, Rig
from tests.hil.driver import tell
from tests.hil.gatt import GREETING

pytestmark = pytest.mark.needs("played radio")

APPLICATION = "/opt/bench/gatt.py"
NAME = "CAR-BENCH"


def main_pid(rig: Rig, unit: str) -> str:
    return rig.shell(f"systemctl show {unit} -p MainPID --value").strip()


def restarts(rig: Rig) -> int:
    return int(rig.shell("systemctl show bluetooth -p NRestarts --value"))


@pytest.fixture(scope="module")
def box_pid(box: Rig) -> str:
    """The box's process before there was any Bluetooth."""
    return main_pid(box, "amibox")


@pytest.fixture(scope="module")
def air(box: Rig, box_pid: str) -> Rig:
    """The box with its adapter plugged in and the application started."""
    assert box_pid != "0"
    box.start_radio()
    box.put(APPLICATION, Path(__file__).with_name("gatt.py").read_bytes())
    box.shell(f"systemd-run -q --unit=rig-gatt -p User=amibox -p Restart=always {PYTHON} -u {APPLICATION}")
    return box


def powered(rig: Rig) -> bool:
    return "Powered: yes" in rig.shell("bluetoothctl show")


def call(rig: Rig, phone: str, *, mtu: int = 247) -> dict[str, float]:
    """Find the car as a phone does and connect to it; return the seconds of each step."""
    if rig.radio("status")["connected"].get(phone):
        rig.radio("disconnect", phone=phone)
    found = rig.radio("scan", phone=phone, service=SERVICE)
    connected = rig.radio("connect", phone=phone, address=found["address"], mtu=mtu)
    discovered = rig.radio("discover", phone=phone, service=SERVICE)
    assert {each.lower() for each in discovered["characteristics"]} == {HELLO, COMMAND, RESULT}
    return {"scan": found["seconds"], "connect": connected["seconds"], "discover": discovered["seconds"]}


def say(rig: Rig, phone: str, words: bytes) -> float:
    """Write a command; return the seconds."""
    return float(rig.radio("write", phone=phone, characteristic=COMMAND, value=words.hex())["seconds"])


def result(rig: Rig, phone: str) -> bytes:
    return bytes.fromhex(rig.radio("read", phone=phone, characteristic=RESULT)["value"])


def visit(rig: Rig, phone: str) -> bool:
    """One whole conversation of a phone with the car."""
    call(rig, phone)
    words = f"{phone} wants in".encode()
    say(rig, phone, words)
    assert result(rig, phone) == words[::-1]
    rig.radio("disconnect", phone=phone)
    return True


def test_the_adapter_is_on_by_itself(air: Rig) -> None:
    """As on a Pi: the kernel finds a controller, udev has systemd start bluetoothd, bluetoothd switches it on."""
    air.until("the adapter", lambda: powered(air))
    shown = air.shell("systemctl show bluetooth -p ActiveState,Restart,StartLimitIntervalUSec,WatchdogUSec")
    assert set(shown.split()) == {
        "ActiveState=active",
        "Restart=always",
        "StartLimitIntervalUSec=0",
        "WatchdogUSec=10s",
    }


def test_it_speaks_low_energy_only_and_never_pairs(air: Rig) -> None:
    # btmgmt wants a terminal.
    shown = air.shell("script -qc 'timeout 20 btmgmt info' /dev/null </dev/null")
    offered, current = (line.partition(":")[2].split() for line in shown.splitlines() if " settings:" in line)
    assert {"br/edr", "le", "bondable"} <= set(offered)
    assert {"powered", "le"} <= set(current)
    assert not {"br/edr", "bondable", "discoverable"} & set(current)


def test_bluetoothd_knows_every_one_of_our_settings(air: Rig) -> None:
    said = air.shell("journalctl -u bluetooth -o cat --no-pager")
    assert "Bluetooth daemon 5." in said
    assert "Unknown" not in said
    # And this is how it would tell.
    air.put("/run/rig/nonsense.conf", b"[LE]\nNonsense = 1\n[Nonsense]\n")
    told = air.shell("timeout 5 /usr/libexec/bluetooth/bluetoothd -n -f /run/rig/nonsense.conf 2>&1 || true")
    assert "Unknown key Nonsense for group LE" in told
    assert "Unknown group Nonsense" in told


def test_it_advertises_every_30_to_50_ms_what_a_phone_looks_for(air: Rig) -> None:
    air.until("the application", lambda: air.radio("status")["adapter"]["advertising"])
    told = air.radio("status")["adapter"]
    assert [each * 0.625 for each in told["interval"]] == [30, 50]
    assert bytes.fromhex(SERVICE.replace("-", ""))[::-1] in bytes.fromhex(told["data"])
    assert NAME.encode() in bytes.fromhex(told["scan_response"])


@pytest.mark.parametrize("mtu", [23, 185, 247, 517])
def test_a_phone_finds_the_car_reads_and_writes(air: Rig, mtu: int) -> None:
    took = call(air, "anna", mtu=mtu)
    hello = air.radio("read", phone="anna", characteristic=HELLO)
    assert bytes.fromhex(hello["value"]) == GREETING
    words = bytes(each % 251 for each in range(400))
    took |= {"read": hello["seconds"], "write": say(air, "anna", words)}
    assert result(air, "anna") == words[::-1]
    air.radio("disconnect", phone="anna")
    tell(" ".join(f"{step} {s:.2f} s" for step, s in took.items()))


def test_bluetoothd_does_not_search_the_phones(air: Rig) -> None:
    call(air, "anna")
    known = air.shell("bluetoothctl devices Connected").split()[1]
    shown = air.shell(f"bluetoothctl info {known}")
    air.radio("disconnect", phone="anna")
    assert "Connected: yes" in shown
    assert "UUID" not in shown


def test_two_phones_after_one_another(air: Rig) -> None:
    assert visit(air, "anna")
    assert visit(air, "bert")


def test_two_phones_at_once_each_read_their_own(air: Rig) -> None:
    call(air, "anna")
    say(air, "anna", b"first")
    call(air, "bert")
    say(air, "bert", b"second")
    assert result(air, "anna") == b"tsrif"
    assert result(air, "bert") == b"dnoces"
    for phone in ("anna", "bert"):
        air.radio("disconnect", phone=phone)


@pytest.mark.parametrize("signal", ["KILL", "STOP"])
def test_a_bluetoothd_that_died_or_hangs_comes_back(air: Rig, signal: str) -> None:
    """While a phone is connected; a hung one by its watchdog.

    It is systemd that restarts it. D-Bus would start it as well, but only for somebody who asks for it.
    """
    call(air, "anna")
    before = restarts(air)
    begun_s = time.monotonic()
    air.shell(f"systemctl kill -s {signal} bluetooth")
    air.until("a restart", lambda: restarts(air) > before)
    air.until("the adapter", lambda: powered(air))
    air.until("a phone's visit", lambda: visit(air, "bert"))
    tell(f"a phone was served {time.monotonic() - begun_s:.1f} s after {signal}")
    assert visit(air, "anna")


def test_an_adapter_that_was_pulled_out_is_used_again(air: Rig) -> None:
    call(air, "anna")
    air.radio("unplug")
    air.until("the kernel to notice", lambda: "hci" not in air.shell("ls /sys/class/bluetooth"))
    assert not air.radio("status")["connected"]["anna"]
    begun_s = time.monotonic()
    air.radio("plug")
    air.until("the adapter", lambda: powered(air))
    air.until("a phone's visit", lambda: visit(air, "anna"))
    tell(f"a phone was served {time.monotonic() - begun_s:.1f} s after the adapter was back")


def test_the_box_took_no_notice(air: Rig, box_pid: str) -> None:
    assert main_pid(air, "amibox") == box_pid
    assert air.status()["state"] == "available"
