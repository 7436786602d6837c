"""The card reader, a PN532 behind a USB-serial adapter of the kernel."""

from __future__ import annotations

import pytest

from sim.rig import Rig
from tests.hil.driver import tell

STRANGER = "04ffeeddccbbaa"


def test_the_box_finds_its_reader(box: Rig) -> None:
    box.until("the reader", lambda: "card_reader" not in box.status()["faults"])


@pytest.mark.needs("played card")
def test_a_strangers_card_is_refused_and_written_down(box: Rig) -> None:
    before = box.status()["outbox"]["last_seq"]
    box.car("tap", uid=STRANGER)
    box.until("the refusal in the log", lambda: box.status()["outbox"]["last_seq"] > before)
    truth = box.car("status")
    assert truth["locked"]
    assert truth["pulses"] == []


@pytest.mark.needs("unplug card")
def test_a_reader_that_was_unplugged_is_found_again(box: Rig) -> None:
    box.unplug("card")
    try:
        box.until("the fault", lambda: "card_reader" in box.status()["faults"])
    finally:
        box.plug("card")
    took_s = box.until("the reader again", lambda: "card_reader" not in box.status()["faults"])
    tell(f"reads again {took_s:.1f} s after the reader was back")
