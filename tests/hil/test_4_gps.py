"""The receiver, behind a USB-serial adapter of the kernel."""

from __future__ import annotations

import pytest

from sim.rig import Rig
from sim.route import BAZOUGES
from tests.hil.driver import tell

pytestmark = pytest.mark.needs("played gps")


def test_the_box_knows_where_it_is_and_what_time_it_is(box: Rig) -> None:
    box.until("a fix at the station", lambda: box.status()["station"] == BAZOUGES.id)
    status = box.status()
    assert status["gnss"]["mode"] == 3
    # The commune's signed time, if it came already, is above the receiver's.
    assert status["clock"]["quality"] in {"gnss", "authenticated"}
    # QEMU's cable keeps what the receiver says while nobody has its port open, and half a minute of old sentences
    # comes first. A signed time is known to half of how long its answer took.
    took_s = box.until("the time", lambda: abs(box.status()["clock"]["wall_s"] - box.car("status")["wall_s"]) < 15)
    tell(f"the receiver's time was known {took_s:.1f} s after its place")


def test_a_silent_receiver_is_a_fault_and_heals(box: Rig) -> None:
    box.car("gps", on=False)
    box.until("the fault", lambda: "gps" in box.status()["faults"])
    box.car("gps", on=True)
    box.until("a fix again", lambda: "gps" not in box.status()["faults"] and box.status()["gnss"]["age_s"] < 5)


@pytest.mark.needs("unplug gps")
def test_a_receiver_that_was_unplugged_is_found_again(box: Rig) -> None:
    box.unplug("gps")
    try:
        box.until("the port to vanish", lambda: box.run("ls", "/dev/amibox-gps").code != 0)
        box.until("the fault", lambda: "gps" in box.status()["faults"])
    finally:
        box.plug("gps")
    took_s = box.until("a fix", lambda: "gps" not in box.status()["faults"] and box.status()["gnss"]["age_s"] < 5)
    tell(f"a fix again {took_s:.1f} s after the receiver was back")
