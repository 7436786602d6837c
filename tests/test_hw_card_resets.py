"""A reader's last cures: the lines that reset it and cut its supply, on simulated pins."""

from __future__ import annotations

from collections.abc import Callable

import gpiozero
import pytest
from gpiozero.pins.mock import MockFactory

from hw.card_reader import CardReader, CardReaderSettings
from hw.card_resets import POWER_S, RESET_S, reader_resets
from hw.pn532 import Pn532
from hw.worker import AdapterError, Life
from onboard.core.events import AccessRequested, Event
from sim.pn532 import SimulatedPn532, Trouble
from tests.card_rig import KEY, SHORT_CARD, Line, Play, VirtualClock

RESET_PIN, POWER_PIN = 22, 23


@pytest.mark.parametrize(("name", "pin", "low_s"), [("reset", RESET_PIN, RESET_S), ("power", POWER_PIN, POWER_S)])
def test_each_line_falls_for_its_time_and_is_high_again(name: str, pin: int, low_s: float) -> None:
    pins = MockFactory()
    cures = dict(reader_resets(RESET_PIN, POWER_PIN, pins))
    assert list(cures) == ["reset", "power"], "the gentler one first"
    cures[name]()
    levels = [bool(each.state) for each in pins.pin(pin).states]
    assert levels[-3:] == [True, False, True]
    rose_s = pins.pin(pin).states[-1].timestamp
    assert low_s <= rose_s < low_s + 0.2
    cures[name]()
    assert [bool(each.state) for each in pins.pin(pin).states][-2:] == [False, True]


def test_what_is_not_wired_is_no_cure() -> None:
    assert reader_resets(None, None, None) == ()
    assert [name for name, _ in reader_resets(None, POWER_PIN, MockFactory())] == ["power"]


def test_a_line_that_another_holds_is_an_error_that_names_it() -> None:
    pins = MockFactory()
    door = gpiozero.DigitalOutputDevice(RESET_PIN, pin_factory=pins)
    [(_, reset)] = reader_resets(RESET_PIN, None, pins)
    with pytest.raises(AdapterError, match=r"reset line.*GPIO 22"):
        reset()
    door.close()
    reset()


def test_a_chip_that_no_command_wakes_is_reset_by_its_line() -> None:
    pins, clock, chip = MockFactory(), VirtualClock(), SimulatedPn532()
    line = Line(chip, clock)
    [(_, reset)] = reader_resets(RESET_PIN, None, pins)

    def wired() -> None:
        reset()
        if [bool(each.state) for each in pins.pin(RESET_PIN).states][-2:] == [False, True]:
            chip.power_cycle()

    link = Pn532(line.connect, clock.boot_s)
    worker = CardReader(CardReaderSettings("/dev/card-reader"), clock, KEY, (("reset", wired),), link)
    events: list[Event] = []
    wedge = (1.0, lambda: setattr(chip, "trouble", Trouble.WEDGED_UNTIL_RESET))
    worker.run(Life(events.append, lambda: None, Play(clock, [wedge, (5.0, lambda: chip.present(SHORT_CARD))], 10)))
    [tap] = events
    assert isinstance(tap, AccessRequested)
    assert worker.counts["mended_reset"] == 1


def test_the_cures_are_tried_from_the_gentlest_to_the_last() -> None:
    clock, chip = VirtualClock(), SimulatedPn532()
    tried: list[str] = []
    link = Pn532(Line(chip, clock).connect, clock.boot_s)

    def watched(name: str) -> Callable[[], None]:
        cure: Callable[[], None] = getattr(link, name, lambda: None)

        def note() -> None:
            tried.append(name)
            cure()

        return note

    wired = tuple((name, watched(name)) for name in ("reset", "power"))
    for name in ("abort", "wake", "open"):
        setattr(link, name, watched(name))
    worker = CardReader(CardReaderSettings("/dev/card-reader"), clock, KEY, wired, link)
    play = Play(clock, [(0.5, lambda: setattr(chip, "trouble", Trouble.NO_REPLY))], 1.0)
    worker.run(Life(lambda _event: None, lambda: None, play))
    opening = ["open", "abort", "wake"]
    assert tried[:14] == [*opening, "abort", "wake", *opening, "reset", *opening, "power", "open"]
