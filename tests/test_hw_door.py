"""The door in virtual time on mock pins: pulses, contacts, reports, patterns, and pins that fail."""

from __future__ import annotations

import dataclasses
from collections import Counter
from collections.abc import Iterator
from itertools import pairwise
from threading import Event as Flag

import pytest
from gpiozero.pins.mock import MockFactory, MockPin

from hw.door import ASKED_MAX, PATTERNS, Door, DoorSettings
from hw.door_parts import BUTTON, DRIVER_OPEN, KEY, LOCKED, Contacts, Player
from hw.interlock import Interlock
from hw.worker import Life
from onboard.core.commands import Action, Actuate, Pattern
from onboard.core.events import (
    ActuationOutcome,
    ActuationSettled,
    DoorReported,
    Event,
    LockButtonPressed,
    Reading,
    Signal,
    SignalsReported,
)
from onboard.core.policy import Policy
from tests.door_rig import SETTINGS, Bench, DeadPin, LiveDoor, StuckPin, StutteringPin, VirtualClock, served, wait_until

UNLOCK, LOCK, DRIVER, PASSENGER, LATCH, BUTTON_PIN, LED, BUZZER = 17, 27, 5, 6, 13, 19, 20, 21


@pytest.fixture
def factory() -> Iterator[MockFactory]:
    made = MockFactory()
    yield made
    made.close()


@pytest.fixture
def bench(factory: MockFactory) -> Iterator[Bench]:
    made = Bench(factory)
    yield made
    made.door.close()


# Pulses


def test_a_pulse_lasts_as_long_as_set_and_settles_when_it_is_over(bench: Bench) -> None:
    bench.door.actuate(Actuate(7, Action.UNLOCK))
    bench.until(100.0)
    assert (bench.level(UNLOCK), bench.level(LOCK)) == (True, False)
    bench.until(100.14)
    assert bench.level(UNLOCK)
    assert not bench.of(ActuationSettled)
    bench.until(100.15)
    assert not bench.level(UNLOCK)
    assert bench.of(ActuationSettled) == [(100.15, ActuationSettled(7, ActuationOutcome.DONE, "", 100.15))]


def test_a_pulse_asked_for_within_another_waits_and_the_relays_are_never_on_together(bench: Bench) -> None:
    bench.door.actuate(Actuate(1, Action.UNLOCK))
    bench.until(100.05)
    bench.door.actuate(Actuate(2, Action.LOCK))
    for step in range(200):
        bench.until(100.05 + step * 0.01)
        assert not (bench.level(UNLOCK) and bench.level(LOCK))
    settled = [event for _, event in bench.of(ActuationSettled)]
    assert [(event.actuation, event.outcome) for event in settled] == [
        (1, ActuationOutcome.DONE),
        (2, ActuationOutcome.DONE),
    ]
    assert settled[1].at_s - settled[0].at_s >= 0.5 + bench.door._settings.pulse_s, "with the relay's rest between"


def test_the_other_relay_is_switched_off_before_one_is_switched_on(bench: Bench) -> None:
    bench.door._outputs["lock"].on()
    bench.door.actuate(Actuate(1, Action.UNLOCK))
    bench.until(100.0)
    assert (bench.level(UNLOCK), bench.level(LOCK)) == (True, False)


def test_what_the_interlock_denies_moves_nothing(bench: Bench) -> None:
    bench.door._interlock.note(SignalsReported(((Signal.SPEED, Reading(12.0, 100.0, 3.0)),)))
    bench.door.actuate(Actuate(1, Action.UNLOCK))
    bench.until(101.0)
    assert [state.state for state in bench.factory.pin(UNLOCK).states] == [False]
    assert bench.of(ActuationSettled) == [(100.0, ActuationSettled(1, ActuationOutcome.REFUSED, "moving", 100.0))]
    assert bench.door.counts["refused_moving"] == 1


def test_a_pulse_that_could_not_begin_within_a_second_is_refused_not_given_late(bench: Bench) -> None:
    bench.door.actuate(Actuate(1, Action.UNLOCK))
    bench.clock.at_s += 1.1
    bench.until(101.2)
    assert [event.reason for _, event in bench.of(ActuationSettled)] == ["too_late"]
    assert [state.state for state in bench.factory.pin(UNLOCK).states] == [False]


def test_more_questions_than_the_door_can_hold_are_refused_at_once(bench: Bench) -> None:
    for number in range(ASKED_MAX + 2):
        bench.door.actuate(Actuate(number, Action.LOCK))
    assert [(event.actuation, event.reason) for _, event in bench.of(ActuationSettled)] == [
        (8, "too_many"),
        (9, "too_many"),
    ]


def test_a_door_that_nobody_serves_holds_a_bounded_number_of_questions_and_counts_the_rest() -> None:
    door = Door(SETTINGS, VirtualClock(), Interlock(), MockFactory())
    for number in range(100):
        door.actuate(Actuate(number, Action.LOCK))
        door.show(Pattern.DENIED)
    assert (len(door._asked), len(door._shown)) == (ASKED_MAX, 1)
    assert door.counts["refused_too_many"] == 100 - ASKED_MAX


def test_relays_that_close_on_a_low_level_rest_high(factory: MockFactory) -> None:
    bench = Bench(factory, dataclasses.replace(SETTINGS, relay_active_high=False))
    bench.until(100.1)
    assert (bench.level(UNLOCK), bench.level(LOCK), bench.level(LED)) == (True, True, False)
    bench.door.actuate(Actuate(1, Action.LOCK))
    bench.until(100.2)
    assert (bench.level(UNLOCK), bench.level(LOCK)) == (True, False)
    bench.door.close()


# Contacts and reports


def test_the_first_report_comes_when_the_contacts_have_come_to_rest(bench: Bench) -> None:
    bench.factory.pin(LATCH).drive_low()
    bench.factory.pin(DRIVER).drive_low()
    bench.until(100.2)
    # Pull-ups: a contact to ground means locked or shut; the passenger's wire is broken and reads as open, the key's as
    # missing.
    at_s, report = bench.of(DoorReported)[0]
    assert report == DoorReported(True, False, True, sampled_s=at_s, key_in_place=False)
    assert 100.03 <= at_s <= 100.05


def test_a_change_is_reported_once_it_has_held_and_a_bounce_is_not(bench: Bench) -> None:
    bench.factory.pin(DRIVER).drive_low()
    bench.until(100.5)
    told = len(bench.of(DoorReported))
    bench.factory.pin(DRIVER).drive_high()
    bench.until(100.51)
    bench.factory.pin(DRIVER).drive_low()
    bench.until(100.9)
    assert len(bench.of(DoorReported)) == told
    bench.factory.pin(DRIVER).drive_high()
    bench.until(101.0)
    at_s, report = bench.of(DoorReported)[-1]
    assert report.driver_open is True
    assert 100.93 <= at_s <= 100.95


def test_a_report_comes_every_two_seconds_and_often_after_a_pulse(bench: Bench) -> None:
    bench.until(108.0)
    quiet = [at_s for at_s, _ in bench.of(DoorReported)]
    assert all(later - earlier <= 2.01 for earlier, later in pairwise(quiet))
    assert len(quiet) == 4
    assert max(2.01, *[b - a for a, b in pairwise(quiet)]) < Policy().door_fresh_s
    bench.door.actuate(Actuate(1, Action.LOCK))
    bench.until(114.0)
    ended_s = bench.of(ActuationSettled)[0][0]
    after = [at_s for at_s, _ in bench.of(DoorReported) if ended_s <= at_s < ended_s + 5.0]
    assert after[0] == ended_s
    assert all(later - earlier <= 0.21 for earlier, later in pairwise(after))
    counted = [at_s for at_s in after if at_s >= ended_s + Policy().settle_s]
    assert counted[0] < ended_s + 0.25


def test_a_report_is_put_off_while_a_contact_is_moving() -> None:
    contacts = Contacts((LOCKED,), 0.03, Counter())
    contacts.feed({LOCKED: True}, 0.0)
    assert contacts.feed({LOCKED: True}, 0.03) == [DoorReported(True, None, None, 0.03)]
    assert contacts.feed({LOCKED: False}, 2.04) == []
    assert contacts.feed({LOCKED: False}, 2.08) == [DoorReported(False, None, None, 2.08)]


def test_a_contact_that_chatters_is_counted_and_reads_as_the_safe_side() -> None:
    counts: Counter[str] = Counter()
    contacts = Contacts((LOCKED, DRIVER_OPEN), 0.03, counts)
    for turn in range(10):
        contacts.feed({LOCKED: True, DRIVER_OPEN: False}, turn * 0.01)
    reports = [
        event
        for turn in range(300)
        for event in contacts.feed({LOCKED: turn % 2 == 0, DRIVER_OPEN: turn % 2 == 1}, 0.1 + turn * 0.01)
    ]
    assert isinstance(reports[0], DoorReported)
    assert (reports[0].locked, reports[0].driver_open) == (False, True)  # no trip ends on this
    assert 1.0 <= reports[0].sampled_s <= 1.15
    assert counts == {"chatter_locked": 1, "chatter_driver_open": 1}
    contacts.feed({LOCKED: True, DRIVER_OPEN: False}, 4.0)
    assert contacts.feed({LOCKED: True, DRIVER_OPEN: False}, 4.03) == [DoorReported(True, False, None, 4.03)]
    assert contacts.at_rest


def test_a_key_contact_that_chatters_reads_as_missing() -> None:
    contacts = Contacts((KEY,), 0.03, Counter())
    events = [event for step in range(120) for event in contacts.feed({KEY: step % 2 == 0}, 100.0 + step * 0.01)]
    assert [event.key_in_place for event in events if isinstance(event, DoorReported)] == [False]


def test_the_button_is_told_once_for_each_press(bench: Bench) -> None:
    bench.until(100.5)
    bench.factory.pin(BUTTON_PIN).drive_low()
    bench.until(103.0)
    assert len(bench.of(LockButtonPressed)) == 1
    bench.factory.pin(BUTTON_PIN).drive_high()
    bench.until(103.5)
    bench.factory.pin(BUTTON_PIN).drive_low()
    bench.until(104.0)
    assert len(bench.of(LockButtonPressed)) == 2


def test_a_button_that_is_stuck_from_the_start_locks_nothing() -> None:
    contacts = Contacts((BUTTON,), 0.03, Counter())
    events = [event for turn in range(10) for event in contacts.feed({BUTTON: True}, turn * 0.02)]
    assert not any(isinstance(event, LockButtonPressed) for event in events)


def test_what_is_not_fitted_reads_as_none(factory: MockFactory) -> None:
    bench = Bench(factory, DoorSettings(unlock_pin=17, lock_pin=27))
    bench.door.actuate(Actuate(1, Action.LOCK))
    bench.door.show(Pattern.GRANTED)
    bench.until(101.0)
    at_s, report = bench.of(DoorReported)[0]
    assert report == DoorReported(None, None, None, at_s)
    assert bench.of(ActuationSettled)[0][1].outcome is ActuationOutcome.DONE
    bench.door.close()


@pytest.mark.parametrize("door_closed_when_open", [False, True])
@pytest.mark.parametrize("lock_closed_when_unlocked", [False, True])
def test_each_contact_may_be_wired_either_way(
    factory: MockFactory, *, door_closed_when_open: bool, lock_closed_when_unlocked: bool
) -> None:
    settings = dataclasses.replace(
        SETTINGS, door_closed_when_open=door_closed_when_open, lock_closed_when_unlocked=lock_closed_when_unlocked
    )
    bench = Bench(factory, settings)
    for pin in (DRIVER, PASSENGER, LATCH):
        bench.factory.pin(pin).drive_low()
    bench.until(100.2)
    report = bench.of(DoorReported)[0][1]
    assert (report.locked, report.driver_open) == (not lock_closed_when_unlocked, door_closed_when_open)
    bench.door.close()


def test_the_worker_gives_a_sign_of_life_at_least_every_half_second(bench: Bench) -> None:
    bench.until(101.0)
    assert bench.door._turn(bench.life) <= 0.5


def test_every_edge_and_every_wish_wakes_the_worker_at_once(bench: Bench) -> None:
    bench.until(101.0)
    for happen in (
        bench.factory.pin(DRIVER).drive_low,
        bench.factory.pin(DRIVER).drive_high,
        bench.factory.pin(BUTTON_PIN).drive_low,
        lambda: bench.door.show(Pattern.DENIED),
        lambda: bench.door.actuate(Actuate(1, Action.LOCK)),
    ):
        bench.door._wake.clear()
        happen()
        assert bench.door._wake.is_set()


# Patterns


@pytest.mark.parametrize("pattern", list(Pattern))
def test_every_pattern_begins_with_light_and_ends_dark(pattern: Pattern) -> None:
    player = Player(PATTERNS)
    player.show(pattern, 10.0)
    step, ends_s = player.at(10.0)
    assert step.light
    assert ends_s > 10.0
    step, _ = player.at(20.0)
    assert not step.light
    assert not step.sound


def test_the_five_patterns_can_be_told_apart_by_ear() -> None:
    heard = {
        pattern: tuple((step.lasts_s, step.sound) for step in steps if step.sound)
        for pattern, steps in PATTERNS.items()
    }
    assert len(set(heard.values())) == len(Pattern) == 5


def test_a_pattern_plays_beside_a_pulse_without_stretching_it(bench: Bench) -> None:
    bench.door.show(Pattern.GRANTED)
    bench.door.actuate(Actuate(1, Action.UNLOCK))
    bench.until(100.0)
    assert (bench.level(LED), bench.level(BUZZER), bench.level(UNLOCK)) == (True, True, True)
    bench.until(100.2)
    assert (bench.level(LED), bench.level(BUZZER), bench.level(UNLOCK)) == (True, False, False)
    assert bench.of(ActuationSettled)[0][0] == 100.15
    bench.until(102.5)
    assert (bench.level(LED), bench.level(BUZZER)) == (False, False)


def test_a_new_pattern_replaces_the_old(bench: Bench) -> None:
    bench.door.show(Pattern.OUT_OF_ORDER)
    bench.until(100.3)
    assert (bench.level(LED), bench.level(BUZZER)) == (True, True)
    bench.door.show(Pattern.GRANTED)
    bench.until(100.5)
    assert (bench.level(LED), bench.level(BUZZER)) == (True, False)
    bench.until(102.4)
    assert not bench.level(LED)


def test_an_answer_that_nobody_could_give_in_time_is_not_given_late(bench: Bench) -> None:
    bench.door.show(Pattern.GRANTED)
    bench.clock.at_s += 5.0
    bench.until(105.1)
    assert not bench.level(LED)


# Pins that fail, and ways out


@pytest.mark.parametrize(
    ("pin_class", "what"),
    [(StuckPin, "doesn't follow"), (DeadPin, "does not answer"), (StutteringPin, "does not answer")],
)
def test_a_relay_line_that_fails_settles_as_failed_and_the_worker_says_what_to_do(
    factory: MockFactory, pin_class: type[MockPin], what: str
) -> None:
    factory.pin(UNLOCK, pin_class=pin_class)
    live = LiveDoor(factory)
    live.start()
    live.door.actuate(Actuate(3, Action.UNLOCK))
    live.join()
    assert live.error is not None
    assert what in str(live.error)
    assert "check" in str(live.error)
    assert str(live.error).count("door:") == 1
    assert (live.error.may_have_happened, live.error.worth_retrying) == (True, True)
    settled = live.wait_for(ActuationSettled)
    assert (settled.actuation, settled.outcome) == (3, ActuationOutcome.FAILED)
    assert factory.pin(UNLOCK).function == "input"
    assert not factory.pin(UNLOCK).state or pin_class is StuckPin
    assert live.door.counts["lost"] == 1


def test_a_pin_that_somebody_else_uses_stops_the_worker_before_anything_moves(factory: MockFactory) -> None:
    first = Bench(factory)
    live = LiveDoor(factory)
    live.start()
    live.join()
    assert live.error is not None
    assert "already in use" in str(live.error)
    assert not live.error.may_have_happened
    first.door.close()


def test_a_question_from_before_a_restart_is_refused_and_the_next_is_served(factory: MockFactory) -> None:
    clock = VirtualClock()
    door = Door(SETTINGS, clock, Interlock(), factory)
    for number in (1, 2):
        door.actuate(Actuate(number, Action.UNLOCK))
        clock.at_s += 30.0
        events: list[Event] = []
        stop = Flag()

        def emit(event: Event, events: list[Event] = events, stop: Flag = stop) -> None:
            events.append(event)
            stop.set()

        door.run(Life(emit, lambda: None, stop))
        settled = events[0]
        assert isinstance(settled, ActuationSettled)
        assert (settled.actuation, settled.reason) == (number, "too_late")
        assert factory.pin(UNLOCK).function == "input"


def test_stopping_in_a_pulse_switches_the_relay_off_and_tells_that_it_may_have_moved(factory: MockFactory) -> None:
    live = LiveDoor(factory, dataclasses.replace(SETTINGS, pulse_s=1.0))
    with served(live):
        live.door.actuate(Actuate(1, Action.UNLOCK))
        wait_until(lambda: bool(factory.pin(UNLOCK).function == "output" and factory.pin(UNLOCK).state), "the pulse")
    assert [state.state for state in factory.pin(UNLOCK).states][-1] is False
    assert live.wait_for(ActuationSettled).outcome is ActuationOutcome.FAILED
    assert live.error is None
