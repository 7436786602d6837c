"""The card reader while the box saves: it looks seldom, or sleeps, and nobody's card is lost by it. In virtual time."""

from __future__ import annotations

from onboard.core.commands import Loads, ReaderPace
from sim.pn532 import Trouble
from tests.card_rig import LONG_CARD, Rig
from tests.test_hw_card_reader import seen


def test_a_reader_that_saves_looks_once_a_second_and_still_reads() -> None:
    rig = Rig()
    rig.worker.set_loads(Loads(ReaderPace.SLOW))
    events = rig.play(20, (5.3, lambda: rig.chip.present(LONG_CARD)))
    assert events == [seen(LONG_CARD)]
    assert 18 <= rig.chip.commands.count(0x4A) <= 21


def test_a_reader_that_is_off_sleeps_and_wakes_without_a_fault() -> None:
    rig = Rig()
    events = rig.play(
        40,
        (5.0, lambda: rig.worker.set_loads(Loads(ReaderPace.OFF))),
        (10.0, lambda: rig.chip.present(LONG_CARD)),
        (29.0, lambda: rig.worker.set_loads(Loads())),
    )
    assert events == [seen(LONG_CARD)]
    assert rig.told[0][0] >= 29.0
    assert rig.chip.commands.count(0x16) == 1
    looks = rig.chip.commands.count(0x4A)
    assert 15 * 4 <= looks <= 17 * 4, "fifteen seconds of looking, in forty"
    assert rig.worker.counts["sleeps"] == 1
    assert not rig.worker.counts["failures"]


def test_a_reader_that_is_out_of_order_can_be_switched_off() -> None:
    rig = Rig()
    rig.chip.trouble = Trouble.NO_ACK
    rig.play(20, (10.0, lambda: rig.worker.set_loads(Loads(ReaderPace.OFF))))
    assert rig.worker.counts["sleeps"] == 1
