"""Adapters, lines and the machine itself: what breaks of a box's hardware, on the kernel's real drivers."""

from __future__ import annotations

import time
from collections.abc import Iterator

import pytest

from sim.commune import Commune
from sim.rig import BOX_CONFIG, PYTHON, Rig
from tests.hil.driver import RUNNING, Ledger, drive, ready_s, serves, tell

FINGER_S = 1.0
"""How long somebody presses a button."""
SLCAN = "/run/rig/slcan"
SAY = """\
import socket, sys
socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM).sendto(sys.argv[1].encode() + b"\\r", sys.argv[2])
"""


@pytest.mark.needs("guest")
def test_a_can_adapter_that_was_removed_is_used_again(box: Rig) -> None:
    """Its driver lets go of the device, the interface vanishes; back again, networkd brings it up, silent as before."""
    box.car("plug", **{"in": True})  # a car that charges is awake
    device = box.shell("basename $(readlink /sys/class/net/can0/device)").strip()
    box.shell(f"echo {device} >/sys/bus/pci/drivers/kvaser_pci/unbind")
    box.until("the loss to be told", lambda: box.status()["bus"] == "fault" and "can" in box.status()["faults"])
    box.shell(f"echo {device} >/sys/bus/pci/drivers/kvaser_pci/bind")
    took_s = box.until("the bus again", lambda: box.status()["bus"] == "awake" and not box.status()["faults"])
    assert "LISTEN-ONLY" in box.shell("ip -details link show can0")
    tell(f"heard again {took_s:.1f} s after it was back")


@pytest.fixture
def slcan(box: Rig) -> Iterator[Rig]:
    """The box on a bus whose adapter can tell of errors: the kernel's slcan."""
    script = f"""
        systemctl stop amibox
        modprobe slcan
        systemd-run -q --unit=slcan-car {PYTHON} -m sim.bench.slcan_car {SLCAN}
        for i in $(seq 100); do test -e {SLCAN}/port && break; sleep 0.3; done
        slcand -s6 -l $(readlink -f {SLCAN}/port) slcan0
        for i in $(seq 100); do ip link show slcan0 >/dev/null 2>&1 && break; sleep 0.1; done
        ip link set slcan0 up
        cp -p {BOX_CONFIG} {BOX_CONFIG}.kept
        sed -i 's/^#channel = "can0"/channel = "slcan0"/' {BOX_CONFIG}
        systemctl start --no-block amibox
    """
    try:
        box.shell(script, timeout_s=120)
        box.await_box()
        yield box
    finally:
        box.shell(
            f"test ! -e {BOX_CONFIG}.kept || mv {BOX_CONFIG}.kept {BOX_CONFIG}; pkill slcand || true\n"
            "systemctl stop slcan-car; systemctl restart --no-block amibox"
        )
        box.await_box()


def say(box: Rig, word: str) -> None:
    assert box.run("/usr/bin/python3", "-c", SAY, word, f"{SLCAN}/say").code == 0


@pytest.mark.needs("guest")
def test_a_bus_in_trouble_is_no_sleeping_bus(slcan: Rig) -> None:
    """Warning, passive and bus-off, with the error frames of the kernel's own driver; then a restart of the link."""
    box = slcan
    box.until("frames", lambda: box.status()["bus"] == "awake")
    for word, state in (("sw100020", "ERROR-WARNING"), ("sp130128", "ERROR-PASSIVE"), ("e1a", "ERROR-PASSIVE")):
        before = box.status()["counts"]["can"].get("error_frame", 0)
        say(box, word)
        box.until("the error frame", lambda: box.status()["counts"]["can"].get("error_frame", 0) > before)  # noqa: B023
        assert state in box.shell("ip -details link show slcan0")
        assert box.status()["bus"] == "fault"
    box.until("trust again after a while of frames", lambda: box.status()["bus"] == "awake")
    say(box, "sb000255")
    box.until("bus-off told", lambda: box.status()["bus"] == "fault")
    assert "BUS-OFF" in box.shell("ip -details link show slcan0")
    box.shell("ip link set slcan0 down; ip link set slcan0 up")
    took_s = box.until("the bus again", lambda: box.status()["bus"] == "awake" and not box.status()["faults"])
    tell(f"heard again {took_s:.1f} s after the restart of the link")


@pytest.mark.needs("unplug card", "played card", "played gps")
def test_a_driver_whose_reader_fell_off_locks_with_the_button(box: Rig, commune: Commune) -> None:
    ledger = Ledger(box, commune)
    ledger.open()
    box.unplug("card")
    try:
        box.until("the fault", lambda: "card_reader" in box.status()["faults"])
        drive(box, 15.0, 0.0)
        box.car("press_button")
        time.sleep(FINGER_S)
        box.car("release_button")
        box.car("open_door")
        box.until("the door open", lambda: box.status()["door"] == "open")
        ledger.locking = True
        box.car("shut_door")
        box.until("the rental's end", lambda: box.status()["state"] not in RUNNING)
    finally:
        box.plug("card")
    took_s = box.until("the reader again", lambda: serves(box))
    tell(f"reads again {took_s:.1f} s after the reader was back")
    assert box.car("status")["locked"]
    ledger.check()
    ledger.resume()


@pytest.mark.needs("played card", "played gps")
def test_a_hung_machine_is_restarted_by_its_watchdog(box: Rig, commune: Commune) -> None:
    """The kernel stands still in mid-rental; nothing but the i6300esb can help. /proc/sysrq-trigger c: a crash."""
    ledger = Ledger(box, commune)
    ledger.open()
    ledger.note()
    shown = box.shell("systemctl show -p RuntimeWatchdogUSec; cat /proc/sys/kernel/panic")
    assert "RuntimeWatchdogUSec=15s" in shown
    assert shown.split()[-1] == "0", "the kernel would restart by itself"
    took_s = box.crash()
    box.start_car()
    commune.start()
    box.await_box()
    tell(f"hung, reset and answering commands in {took_s:.0f} s, ready {ready_s(box):.1f} s after the kernel began")
    ledger.check()
    ledger.resume(restarted=True)
