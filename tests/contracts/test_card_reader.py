"""What every card reader must do, on a real port and in real time. A reader joins by a rig of its own in ``RIGS``."""

from __future__ import annotations

import threading
import time
from collections.abc import Callable, Iterator
from typing import Protocol

import pytest

from cloud_sync.documents.card_keys import card_key
from hw.card_reader import Book, CardLink, CardReader, CardReaderSettings, card_ref, serial_port
from hw.clock_sources import SystemClock
from hw.desfire import SLOTS, personalise, prove
from hw.pn532 import Pn532
from hw.taps import CardGone
from hw.worker import AdapterError, Life
from onboard.core.events import AccessRequested, CardCredential, CardsRefused, Event, FaultReported, Intent
from onboard.core.grants import Assurance
from sim.desfire import DesfireCard
from sim.pn532 import Pn532OnPty, Trouble
from tests.pcsc_rig import PcscRig

KEY = bytes(range(32))
CARD = "04a1b2c3d4e5f6"
OTHER_CARD = "deadbeef"
DEADLINE_S = 20.0
MASTER, SLOT = bytes(range(16)), 3
ISSUED = bytes.fromhex("04782e21801d80")
KNOWN = {card_ref(KEY, ISSUED): (SLOT, card_key(MASTER, ISSUED, SLOT))}
"""Cards that must prove themselves here."""


class ReaderRig(Protocol):
    """A reader on a desk, with hands to hold cards to it and to hurt it."""

    settings: CardReaderSettings

    def link(self) -> CardLink: ...
    def reset(self) -> None: ...
    def present(self, uid_hex: str) -> None: ...
    def present_chip(self, card: DesfireCard) -> None: ...
    def remove(self) -> None: ...
    def wedge(self) -> None: ...
    def unplug(self) -> None: ...
    def plug_in(self) -> None: ...
    def close(self) -> None: ...


class Pn532Rig:
    """The simulated PN532 on a pty."""

    def __init__(self) -> None:
        self.reader = Pn532OnPty()
        self.settings = CardReaderSettings(self.reader.open(), poll_interval_s=0.05)

    def link(self) -> CardLink:
        return Pn532(lambda: serial_port(self.settings))

    def reset(self) -> None:
        self.reader.reset()

    def present(self, uid_hex: str) -> None:
        self.reader.present(uid_hex)

    def present_chip(self, card: DesfireCard) -> None:
        self.reader.present_chip(card)

    def remove(self) -> None:
        self.reader.remove()

    def wedge(self) -> None:
        self.reader.chip.trouble = Trouble.WEDGED_UNTIL_RESET

    def unplug(self) -> None:
        self.reader.unplug()

    def plug_in(self) -> None:
        self.reader.open()

    def close(self) -> None:
        self.reader.close()


class FragmentingPn532Rig(Pn532Rig):
    """The same, whose answers come slowly and byte by byte."""

    def __init__(self) -> None:
        super().__init__()
        self.reader.delay_s = 0.005
        self.reader.fragments = True


SEES_TWO: list[Callable[[], ReaderRig]] = [Pn532Rig, FragmentingPn532Rig]
RIGS = [*SEES_TWO, pytest.param(PcscRig, marks=pytest.mark.system)]
"""PC/SC shows no second card."""


class Running:
    """The worker in its thread."""

    def __init__(self, rig: ReaderRig) -> None:
        self.events: list[Event] = []
        self.worker = CardReader(rig.settings, SystemClock(), KEY, (("reset", rig.reset),), rig.link(), Book(KNOWN.get))
        self._looked = threading.Event()
        self._stop = threading.Event()
        life = Life(self.events.append, self._looked.set, self._stop)
        self._thread = threading.Thread(target=self.worker.run, args=(life,))
        self._thread.start()

    def until(self, count: int) -> list[Event]:
        """Wait for so many events and return them all."""
        give_up_s = time.monotonic() + DEADLINE_S
        while len(self.events) < count and time.monotonic() < give_up_s:
            time.sleep(0.01)
        return self.events

    def looks(self, times: int) -> None:
        """Wait until the worker has gone round so often."""
        for _ in range(times):
            self._looked.clear()
            assert self._looked.wait(DEADLINE_S)

    def stop(self) -> float:
        """Stop the worker; return how long it took, in seconds."""
        began_s = time.monotonic()
        self._stop.set()
        self._thread.join(DEADLINE_S)
        assert not self._thread.is_alive()
        return time.monotonic() - began_s


@pytest.fixture(params=RIGS)
def rig(request: pytest.FixtureRequest) -> Iterator[ReaderRig]:
    made: ReaderRig = request.param()
    yield made
    made.close()


@pytest.fixture
def link(rig: ReaderRig) -> Iterator[CardLink]:
    opened = rig.link()
    opened.open()
    yield opened
    opened.close()


@pytest.fixture
def running(rig: ReaderRig) -> Iterator[Running]:
    worker = Running(rig)
    yield worker
    worker.stop()


def tap(uid_hex: str) -> AccessRequested:
    return AccessRequested(CardCredential(card_ref(KEY, bytes.fromhex(uid_hex)), Assurance.UID), Intent.TAP)


def issued() -> DesfireCard:
    """Return a card as the town hall hands it out."""
    card = DesfireCard(ISSUED)
    personalise(card.apdu, {slot: card_key(MASTER, ISSUED, slot) for slot in range(SLOTS + 1)})
    card.field_off()
    return card


def proven(uid: bytes, assurance: Assurance = Assurance.MUTUAL) -> AccessRequested:
    return AccessRequested(CardCredential(card_ref(KEY, uid), assurance), Intent.TAP)


def numbers(link: CardLink) -> list[str]:
    """Poll once and let the cards go."""
    targets = link.poll()
    link.rest()
    return sorted(target.uid.hex() for target in targets)


def test_no_card_is_an_empty_list(link: CardLink) -> None:
    assert numbers(link) == []
    assert numbers(link) == []


def test_a_card_is_there_at_every_poll_until_it_is_removed(rig: ReaderRig, link: CardLink) -> None:
    rig.present(CARD)
    assert [numbers(link) for _ in range(3)] == [[CARD]] * 3
    rig.remove()
    assert numbers(link) == []


@pytest.mark.parametrize("rig", SEES_TWO, indirect=True)
def test_two_cards_are_both_reported(rig: ReaderRig, link: CardLink) -> None:
    rig.present(CARD)
    rig.present(OTHER_CARD)
    assert numbers(link) == [CARD, OTHER_CARD]


def test_cards_that_were_left_in_the_field_are_all_seen_by_the_next_program(rig: ReaderRig, link: CardLink) -> None:
    rig.present(CARD)
    link.poll()
    link.close()
    link.open()
    assert numbers(link) == [CARD]


@pytest.mark.parametrize("rig", SEES_TWO, indirect=True)
def test_nobody_is_picked_of_two_cards_though_one_was_spoken_to_before(rig: ReaderRig, link: CardLink) -> None:
    rig.present(CARD)
    link.poll()
    rig.present(OTHER_CARD)
    assert numbers(link) == [CARD, OTHER_CARD], "it was not let go"
    link.poll()
    link.close()
    link.open()
    assert numbers(link) == [CARD, OTHER_CARD]


def test_a_reader_that_answers_gives_a_sign_of_life(link: CardLink) -> None:
    link.ping()
    assert numbers(link) == []


def test_a_wedged_reader_is_an_error_that_may_be_retried(rig: ReaderRig, link: CardLink) -> None:
    rig.present(CARD)
    rig.wedge()
    with pytest.raises(AdapterError) as caught:
        link.poll()
    assert caught.value.worth_retrying
    with pytest.raises(AdapterError):
        link.ping()


def test_an_unplugged_reader_is_an_error_and_opens_again_when_plugged_in(rig: ReaderRig, link: CardLink) -> None:
    rig.unplug()
    with pytest.raises(AdapterError):
        link.poll()
    with pytest.raises(AdapterError):
        link.open()
    rig.plug_in()
    rig.present(CARD)
    link.open()
    assert numbers(link) == [CARD]


def test_opening_twice_and_closing_twice_is_harmless(rig: ReaderRig, link: CardLink) -> None:
    link.open()
    rig.present(CARD)
    assert numbers(link) == [CARD]
    link.close()
    link.close()


def test_a_held_card_is_one_tap_and_another_card_is_another(rig: ReaderRig, running: Running) -> None:
    running.looks(2)
    rig.present(CARD)
    assert running.until(1) == [tap(CARD)]
    running.looks(20)
    rig.remove()
    rig.present(OTHER_CARD)
    assert running.until(2) == [tap(CARD), tap(OTHER_CARD)]


@pytest.mark.parametrize("rig", SEES_TWO, indirect=True)
def test_two_cards_are_refused_once(rig: ReaderRig, running: Running) -> None:
    rig.present(CARD)
    running.until(1)
    rig.present(OTHER_CARD)
    assert running.until(2) == [tap(CARD), CardsRefused("two_cards")]
    running.looks(10)
    assert len(running.events) == 2


def test_a_wedged_reader_is_mended_and_goes_on_reading(rig: ReaderRig, running: Running) -> None:
    running.looks(2)
    rig.wedge()
    running.looks(8)
    rig.present(CARD)
    assert running.until(1) == [tap(CARD)]
    assert running.worker.counts["mended_reset"] == 1


def test_a_reader_unplugged_and_plugged_in_again_goes_on_reading(rig: ReaderRig, running: Running) -> None:
    running.looks(2)
    rig.unplug()
    [fault] = running.until(1)
    assert isinstance(fault, FaultReported)
    assert fault.active
    rig.plug_in()
    assert running.until(2)[1:] == [FaultReported("card_reader", active=False)]
    rig.present(CARD)
    assert running.until(3)[2:] == [tap(CARD)]


def test_the_worker_stops_within_a_second_though_its_reader_is_dead(rig: ReaderRig, running: Running) -> None:
    running.looks(2)
    rig.unplug()
    running.until(1)
    assert running.stop() < 1.0


def test_a_card_is_spoken_to(rig: ReaderRig, link: CardLink) -> None:
    rig.present_chip(issued())
    for _ in range(3):
        assert [target.uid for target in link.poll()] == [ISSUED]
        prove(link.exchange, *KNOWN[card_ref(KEY, ISSUED)])
        link.rest()


def test_a_card_that_is_taken_away_is_no_failure_of_the_reader(rig: ReaderRig, link: CardLink) -> None:
    card = issued()
    card.leaves_after = 1
    rig.present_chip(card)
    link.poll()
    with pytest.raises(CardGone):
        prove(link.exchange, *KNOWN[card_ref(KEY, ISSUED)])
    link.rest()
    assert numbers(link) == []


def test_a_card_that_proves_itself_is_worth_more_than_its_number(rig: ReaderRig, running: Running) -> None:
    running.looks(2)
    rig.present_chip(issued())
    assert running.until(1) == [proven(ISSUED)]
    assert running.worker.counts["proven"] == 1


def test_a_copy_of_its_number_is_a_number(rig: ReaderRig, running: Running) -> None:
    running.looks(2)
    copy = DesfireCard(ISSUED)
    personalise(copy.apdu, {slot: bytes([slot + 1]) * 16 for slot in range(SLOTS + 1)})
    rig.present_chip(copy)
    assert running.until(1) == [proven(ISSUED, Assurance.UID)]
    assert (running.worker.counts["not_proven"], running.worker.counts["failures"]) == (1, 0)


def test_a_copy_that_is_slow_is_a_copy(rig: ReaderRig, running: Running) -> None:
    running.looks(2)
    copy = DesfireCard(ISSUED, slow_s=0.3)
    personalise(copy.apdu, {slot: bytes([slot + 1]) * 16 for slot in range(SLOTS + 1)})
    rig.present_chip(copy)
    assert running.until(1) == [proven(ISSUED, Assurance.UID)]


def test_a_card_taken_away_too_early_may_be_held_again_at_once(rig: ReaderRig, running: Running) -> None:
    running.looks(2)
    card = issued()
    card.leaves_after = 2
    rig.present_chip(card)
    assert running.until(1) == [CardsRefused("left_early")]
    card.leaves_after = None
    rig.present_chip(card)
    assert running.until(2)[1:] == [proven(ISSUED)]
    assert running.worker.counts["failures"] == 0


def test_a_proof_that_took_too_long_is_none(rig: ReaderRig, running: Running) -> None:
    running.looks(2)
    card = issued()
    card.slow_s = 0.3
    rig.present_chip(card)
    assert running.until(1) == [CardsRefused("too_slow")]
    running.looks(10)
    assert len(running.events) == 1, "and once, however long it is held"
