"""The loop: order, failed commits, full queues, workers that fail or fall silent."""

from __future__ import annotations

import asyncio
import threading
import time
from collections import Counter
from collections.abc import Callable
from dataclasses import replace
from typing import Any, cast

import pytest

from hw.interlock import Denied, Interlock
from onboard.core.clock import Anchor, ClockQuality, Instant, stamp
from onboard.core.commands import Actuate, Pattern
from onboard.core.events import (
    AckReceived,
    ActuationSettled,
    Event,
    FaultReported,
    Intent,
    LockButtonPressed,
    Reading,
    Signal,
    SignalsReported,
    SupplyReported,
    TimeHeard,
)
from onboard.core.records import Recordable
from onboard.core.state import Kept, State
from onboard.reactor import BEAT_MAX_S, QUEUE_MAX, STEP_MAX_S, TURN_EVENTS, Life, Reactor, Workers
from onboard.store import StepRefused
from tests.core_kit import Kit, card


class FixedClock:
    """A clock that a test moves."""

    def __init__(self, boot_s: float) -> None:
        self.at_s = boot_s

    def boot_s(self) -> float:
        return self.at_s

    def now(self) -> Instant:
        return Instant(self.at_s, 0.0, ClockQuality.UNSET)

    def wait_s(self, boot_s: float) -> float:
        return max(0.0, boot_s - self.at_s)


class World:
    """Store, door and mail in one, so that the order between them is one list."""

    def __init__(self) -> None:
        self.done: list[str] = []
        self.broken: Exception | None = None
        self.unsettled: Exception | None = None
        self.door_broken = False

    async def commit(self, kept: Kept, records: tuple[Recordable, ...], at: Instant, boot_epoch: bytes) -> Kept:
        assert at.quality >= ClockQuality.GNSS
        assert boot_epoch
        if self.broken is not None:
            raise self.broken
        self.done += [f"commit {type(record).__name__}" for record in records]
        return replace(kept, outbox=replace(kept.outbox, last_seq=kept.outbox.last_seq + len(records)))

    async def settle(self) -> None:
        if self.unsettled is not None:
            raise self.unsettled
        self.done.append("settle")

    async def release(self, up_to_seq: int, now_wall_s: float) -> None:
        self.done.append(f"release {up_to_seq} {now_wall_s}")

    async def send_batch(self, from_seq: int, to_seq: int) -> None:
        self.done.append(f"send {from_seq} {to_seq}")

    async def send_status(self, state: State) -> None:
        self.done.append(f"status {state.kept.vehicle}")

    def actuate(self, command: Actuate) -> None:
        if self.door_broken:
            raise OSError("the relay board is gone")
        self.done.append(command.action.value)

    def show(self, pattern: Pattern) -> None:
        self.done.append(pattern.value)


async def until(true: Callable[[], bool]) -> None:
    """Wait for the loop under test to get there; the test's own time limit ends it."""
    while not true():  # noqa: ASYNC110 - what is waited for is a list that the code under test fills
        await asyncio.sleep(0.01)


def make() -> tuple[Reactor, World, FixedClock]:
    kit = Kit().ready()
    world, clock = World(), FixedClock(kit.t)
    return Reactor(kit.state, clock, world, world, world), world, clock


def test_a_tap_is_committed_before_the_relay_moves_and_then_answered_and_waits_for_nothing_else() -> None:
    reactor, world, _ = make()
    asyncio.run(reactor.handle(card()))
    assert world.done == ["commit TripStarted", "unlock", "granted", "settle"]


def test_a_store_that_cannot_finish_ends_the_process_though_the_door_has_moved() -> None:
    reactor, world, _ = make()
    world.unsettled = OSError("the disk is dying")
    with pytest.raises(OSError, match="dying"):
        asyncio.run(reactor.handle(card()))
    assert world.done == ["commit TripStarted", "unlock", "granted"]
    assert reactor.state.kept.rental is not None, "what is committed holds"


def test_a_step_that_wrote_nothing_has_nothing_to_finish() -> None:
    reactor, world, _ = make()
    asyncio.run(reactor.handle(SupplyReported(12.6, 0.0)))
    assert "settle" not in world.done


@pytest.mark.parametrize("proven", [False, True])
def test_what_the_cloud_has_is_let_go_by_signed_times_alone(*, proven: bool) -> None:
    reactor, world, _ = make()
    asyncio.run(reactor.handle(card()))
    state = reactor.state
    # The machine's own clock stands in 1970 here; and what a sky says is no reason to let go.
    signed_s, outbox = state.kept.floor_s, state.kept.outbox
    assert stamp(signed_s, state.anchor, state.at).wall_s > signed_s + 1.0
    if proven:
        signed_s += 5000.0
        heard = Anchor(state.at.boot_s, signed_s, signed_s + 1.0, ClockQuality.AUTHENTICATED)
        asyncio.run(reactor.handle(TimeHeard(heard)))
    asyncio.run(reactor.handle(AckReceived(outbox.store_id, outbox.last_seq)))
    assert world.done[-1] == f"release {outbox.last_seq} {signed_s}"


def test_a_pulse_whose_commit_took_too_long_is_not_given(monkeypatch: pytest.MonkeyPatch) -> None:
    reactor, world, clock = make()
    commit = world.commit

    async def slowly(*step: Any) -> Kept:
        clock.at_s += 5.1
        return await commit(*step)

    monkeypatch.setattr(world, "commit", slowly)
    asyncio.run(reactor.handle(card()))
    assert "unlock" not in world.done
    (waiting,) = reactor._queue
    assert isinstance(waiting, ActuationSettled)
    assert (waiting.outcome.value, waiting.reason) == ("refused", "too_late")
    assert reactor.counts["too_late"] == 1


def test_a_failed_commit_moves_nothing_keeps_the_state_before_and_ends_the_process() -> None:
    reactor, world, _ = make()
    before = reactor.state
    world.broken = OSError("fsync said no")
    with pytest.raises(OSError, match="fsync said no"):
        asyncio.run(reactor.handle(card()))
    assert world.done == ["out_of_order"], "the door stays shut and the person is told"
    assert reactor.state is before


def test_a_step_that_the_store_refuses_changes_nothing_and_the_box_goes_on() -> None:
    reactor, world, _ = make()
    before = reactor.state
    world.broken = StepRefused("a list too large")
    asyncio.run(reactor.handle(card()))
    assert world.done == ["out_of_order"]
    assert reactor.state is before
    assert reactor.counts["steps_refused"] == 1
    world.broken = None
    asyncio.run(reactor.handle(card()))
    assert "unlock" in world.done


def test_a_deadline_that_the_store_refuses_ends_the_process_instead_of_spinning() -> None:
    reactor, world, _ = make()
    asyncio.run(reactor.handle(card()))
    world.broken = StepRefused("no")
    reactor._clock.at_s += 9000.0  # type: ignore[attr-defined]  # the test's own clock
    with pytest.raises(StepRefused):
        asyncio.run(reactor.serve_deadlines())


def test_a_door_that_cannot_be_driven_is_heard_by_the_core() -> None:
    reactor, world, _ = make()
    world.door_broken = True
    asyncio.run(reactor.handle(card()))
    (waiting,) = reactor._queue
    assert isinstance(waiting, ActuationSettled)
    assert waiting.outcome.value == "failed"


def test_a_full_queue_loses_measurements_first_and_never_a_tap() -> None:
    reactor, _, _ = make()
    for volts in range(QUEUE_MAX):
        reactor.post(SupplyReported(float(volts), 0.0))
    reactor.post(card())
    assert len(reactor._queue) == QUEUE_MAX
    assert reactor._queue[-1] == card()
    assert reactor._queue[0] == SupplyReported(1.0, 0.0), "the oldest measurement gave way"
    assert reactor.counts["events_dropped"] == 1


def test_a_queue_full_of_requests_stays_bounded() -> None:
    reactor, _, _ = make()
    for _ in range(QUEUE_MAX + 5):
        reactor.post(LockButtonPressed())
    assert len(reactor._queue) == QUEUE_MAX
    assert reactor.counts["events_dropped"] == 5


def test_an_observer_hears_an_event_when_it_is_posted_not_when_the_core_gets_to_it() -> None:
    reactor, world, _ = make()
    seen: list[tuple[Event, int]] = []
    reactor.observers.append(lambda event: seen.append((event, len(world.done))))
    other = threading.Thread(target=reactor.post, args=(card(),))
    other.start()
    other.join()
    assert seen == [(card(), 0)]
    asyncio.run(reactor.settle())
    assert len(seen) == 1, "and only once"


def test_a_car_that_drives_off_while_the_disk_is_slow_is_not_opened(monkeypatch: pytest.MonkeyPatch) -> None:
    reactor, world, clock = make()
    interlock = Interlock()
    reactor.observers.append(interlock.note)
    slow = asyncio.Event()
    commit, verdicts = world.commit, []

    async def slowly(*step: Any) -> Kept:
        await slow.wait()
        return await commit(*step)

    def actuate(command: Actuate) -> None:
        verdicts.append(interlock.permit(command.action, clock.at_s, 0.3))

    monkeypatch.setattr(world, "commit", slowly)
    monkeypatch.setattr(world, "actuate", actuate)

    async def play() -> None:
        tap = asyncio.create_task(reactor.handle(card()))
        await asyncio.sleep(0)
        clock.at_s += 2.0
        reactor.post(SignalsReported(((Signal.SPEED, Reading(8.0, clock.at_s, 3.0)),), 100))
        slow.set()
        await tap

    asyncio.run(play())
    assert verdicts == [Denied.MOVING]


def test_a_flood_of_events_leaves_the_loops_other_tasks_their_turn() -> None:
    reactor, _, _ = make()
    turns = 0

    async def play() -> None:
        nonlocal turns
        flood = asyncio.create_task(reactor.settle())
        while not flood.done():
            turns += 1
            await asyncio.sleep(0)

    for volts in range(QUEUE_MAX):
        reactor.post(SupplyReported(float(volts), 0.0))
    asyncio.run(play())
    assert turns >= QUEUE_MAX / TURN_EVENTS


def test_a_step_that_does_not_end_is_known(monkeypatch: pytest.MonkeyPatch) -> None:
    reactor, world, _ = make()
    assert not reactor.stuck()
    seen: list[bool] = []

    async def hang(*step: Any) -> Kept:
        seen.append(reactor.stuck())
        real = time.monotonic
        monkeypatch.setattr("onboard.reactor.time.monotonic", lambda: real() + STEP_MAX_S + 1)
        seen.append(reactor.stuck())
        return cast("Kept", step[0])

    monkeypatch.setattr(world, "commit", hang)
    asyncio.run(reactor.handle(card()))
    assert seen == [False, True]
    assert not reactor.stuck()


def test_the_loop_serves_events_and_deadlines_until_stopped() -> None:
    reactor, world, clock = make()

    async def play() -> None:
        running = asyncio.create_task(reactor.run())
        reactor.post(card())
        await asyncio.sleep(0)
        await until(lambda: "granted" in world.done)
        clock.at_s += 6.0  # nothing settled the pulse: it is repeated when its time is up
        reactor.post(SupplyReported(12.6, 0.0))
        await until(lambda: world.done.count("unlock") == 2)
        reactor.stop()
        await asyncio.wait_for(running, 5)

    asyncio.run(asyncio.wait_for(play(), 20))


def test_events_from_another_thread_wake_the_loop() -> None:
    reactor, world, _ = make()

    async def play() -> None:
        running = asyncio.create_task(reactor.run())
        await asyncio.sleep(0.05)
        threading.Thread(target=reactor.post, args=(card(intent=Intent.UNLOCK),)).start()
        await until(lambda: "unlock" in world.done)
        reactor.stop()
        await running

    asyncio.run(asyncio.wait_for(play(), 20))


class Device:
    """A worker that does as it is told."""

    def __init__(self, name: str, failures: int = 0) -> None:
        self.name = name
        self.counts: Counter[str] = Counter()
        self.failures = failures
        self.runs = 0

    def run(self, life: Life) -> None:
        self.runs += 1
        if self.runs <= self.failures:
            raise OSError("unplugged")
        while not life.stop.wait(0.01):
            life.beat()
            life.emit(SupplyReported(12.0, 0.0))


def test_a_failed_worker_is_told_run_again_and_told_well() -> None:
    heard: list[Event] = []
    device = Device("gps", failures=1)
    workers = Workers((device,), heard.append)
    workers.start()
    deadline_s = time.monotonic() + 15
    while not any(isinstance(e, SupplyReported) for e in heard) and time.monotonic() < deadline_s:
        time.sleep(0.01)
    assert workers.stop() == ()
    faults = [event for event in heard if isinstance(event, FaultReported)]
    assert faults[0] == FaultReported("gps", active=True, detail="unplugged")
    assert faults[1] == FaultReported("gps", active=False)
    assert device.counts["restarts"] == 1


def test_workers_that_were_never_started_are_stopped_all_the_same() -> None:
    assert Workers((Device("gps", failures=0),), lambda _event: None).stop() == ()


def test_a_worker_that_stops_beating_is_not_alive(monkeypatch: pytest.MonkeyPatch) -> None:
    class Hung(Device):
        def run(self, life: Life) -> None:
            life.stop.wait()

    well, hung = Device("can"), Hung("door")
    workers = Workers((well, hung), lambda _event: None)
    workers.start()
    assert workers.silent() == ()
    real = time.monotonic
    monkeypatch.setattr("onboard.reactor.time.monotonic", lambda: real() + BEAT_MAX_S + 1)
    deadline_s = real() + 10
    while workers.silent() != ("door",) and real() < deadline_s:
        time.sleep(0.01)  # the well one beats with the new time
    assert workers.silent() == ("door",)
    monkeypatch.undo()
    workers.stop()
    assert workers.silent() == ("can", "door"), "a thread that is gone is not alive"
