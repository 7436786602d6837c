"""The door: lgpio on the real character device, contacts and relays on the kernel's simulated lines."""

from __future__ import annotations

from sim.rig import Rig


def test_the_box_holds_its_lines(box: Rig) -> None:
    """Outputs 17 and 27 are claimed as outputs and are off."""
    header = box.shell("gpioinfo").split("gpiochip")[1]  # a machine may have more chips than the header's
    shown = {line.split()[1].rstrip(":"): line for line in header.splitlines() if "line" in line.split()}
    assert "output" in shown["17"]
    assert "output" in shown["27"]
    assert "input" in shown["13"]
    assert box.car("status")["relays"] == [False, False]


def test_the_contacts_are_read(box: Rig) -> None:
    box.until("locked", lambda: box.status()["door"] == "locked")
    box.car("open_door")
    box.until("open", lambda: box.status()["door"] == "open")
    box.car("shut_door")
    box.until("locked again", lambda: box.status()["door"] == "locked")
