"""The loop between the core and the world: stamps an event, steps, commits, then performs, one event at a time.

The order is the core's: a step's commands are performed in their order, and only after its commit. If the commit fails
the state before the step holds, nothing is performed, the person at the door is told, and the process ends: it starts
again from what the store really has.

Workers (``hw.worker``) run in threads of their own. One that loses its device is reported and run again after a growing
wait; one that stops beating stops the service's watchdog from being fed.
"""

from __future__ import annotations

import asyncio
import contextlib
import logging
import threading
import time
from collections import Counter, deque
from collections.abc import Callable, Iterable
from typing import Final, Protocol, assert_never

from onboard.core import access, machine
from onboard.core.clock import Instant, stamp
from onboard.core.commands import (
    Actuate,
    Command,
    Pattern,
    PowerOff,
    PublishBatch,
    PublishStatus,
    Record,
    ReleaseRecords,
    Reply,
    SetLoads,
    Show,
)
from onboard.core.events import (
    ActuationOutcome,
    ActuationSettled,
    DeadlineReached,
    DoorReported,
    Event,
    FaultReported,
    PositionReported,
    SignalsReported,
    SupplyReported,
)
from onboard.core.records import Recordable
from onboard.core.state import Kept, State
from onboard.store import StepRefused

log = logging.getLogger("amibox.reactor")

QUEUE_MAX: Final = 1000
"""Events that may wait. Beyond it, measurements give way (the next ones say the same better), then the newest."""
TURN_EVENTS: Final = 16
"""Events handled before the loop's other tasks have their turn."""
ACTUATE_MAX_S: Final = 5.0
"""A pulse decided longer ago is not given: its phone was told after 4.5 s that there is no answer."""
STEP_MAX_S: Final = 30.0
"""A step under way for longer is not alive. Copying a full store, which commits wait for, takes some seconds."""
BEAT_MAX_S: Final = 10.0
"""A worker silent for longer is not alive: it promised a beat every 5 s."""
RESTART_FIRST_S: Final = 1.0
RESTART_MAX_S: Final = 30.0
STEADY_S: Final = 60.0
"""A worker that ran this long was well: its next failure starts again with the shortest wait."""
IDLE_MAX_S: Final = 60.0

_MEASUREMENTS: Final = (SignalsReported, PositionReported, SupplyReported, DoorReported)


class Clock(Protocol):
    """What the reactor needs of ``hw.clock_sources.Clock``."""

    def boot_s(self) -> float:
        """Read the boot-time clock."""
        ...

    def now(self) -> Instant:
        """Read both clocks."""
        ...

    def wait_s(self, boot_s: float) -> float:
        """Return the real seconds until then."""
        ...


class Store(Protocol):
    """What the reactor needs of ``onboard.store``."""

    async def commit(self, kept: Kept, records: tuple[Recordable, ...], at: Instant, boot_epoch: bytes) -> Kept:
        """Make one step durable; raise when that failed."""
        ...

    async def settle(self) -> None:
        """Finish what need not be done before the step's commands; raise when that failed."""
        ...

    async def release(self, up_to_seq: int, now_wall_s: float) -> None:
        """Let rows go that the cloud has."""
        ...


class Door(Protocol):
    """What the reactor needs of ``hw.door``. Both return at once."""

    def actuate(self, command: Actuate) -> None:
        """Give a pulse."""
        ...

    def show(self, pattern: Pattern) -> None:
        """Give an answer."""
        ...


class Mail(Protocol):
    """What the reactor needs of ``onboard.mail``."""

    async def send_batch(self, from_seq: int, to_seq: int) -> None:
        """Publish stored rows."""
        ...

    async def send_status(self, state: State) -> None:
        """Publish how the car is."""
        ...


class Worker(Protocol):
    """What the reactor needs of ``hw.worker.Worker``."""

    name: str
    counts: Counter[str]

    def run(self, life: Life, /) -> None:
        """Serve the device until stopped."""
        ...


class Life(Protocol):
    """What a worker is given: see ``hw.worker.Life``."""

    emit: Callable[[Event], None]
    beat: Callable[[], None]
    stop: threading.Event


class _Life:
    """One worker's life."""

    def __init__(self, emit: Callable[[Event], None], beat: Callable[[], None], stop: threading.Event) -> None:
        self.emit = emit
        self.beat = beat
        self.stop = stop


class Reactor:
    """Owns the state. Everything but ``post`` belongs to the event loop's thread."""

    def __init__(self, state: State, clock: Clock, store: Store, door: Door, mail: Mail) -> None:
        self.state = state
        self.counts: Counter[str] = Counter()
        self.on_reply: Callable[[Reply], None] | None = None
        self.on_power: Callable[[SetLoads | PowerOff], None] | None = None
        self.observers: list[Callable[[Event], None]] = []
        """Called with every posted event at once, one call at a time, in the thread that posts: the interlock knows
        that the car drives off while the core still waits for a slow disk."""
        self._clock = clock
        self._store = store
        self._door = door
        self._mail = mail
        self._queue: deque[Event] = deque()
        self._lock = threading.Lock()
        self._wake = asyncio.Event()
        self._loop: asyncio.AbstractEventLoop | None = None
        self._stopping = False
        self._step_since_s: float | None = None

    @property
    def idle(self) -> bool:
        """Whether no event waits and no step is under way."""
        return not self._queue and self._step_since_s is None

    def post(self, event: Event) -> None:
        """Take an event from any thread; returns at once. Full: a waiting measurement gives way, else this event."""
        with self._lock:
            for observer in self.observers:
                observer(event)
            if len(self._queue) >= QUEUE_MAX:
                self.counts["events_dropped"] += 1
                old = next((e for e in self._queue if isinstance(e, _MEASUREMENTS)), None)
                if old is None:
                    return
                self._queue.remove(old)
            self._queue.append(event)
            loop = self._loop
        if loop is not None:
            with contextlib.suppress(RuntimeError):  # the loop is closed: the box is stopping
                loop.call_soon_threadsafe(self._wake.set)

    async def handle(self, event: Event) -> None:
        """Take one step: stamp, decide, commit, perform. Raises what the commit raised; nothing was performed then."""
        self._step_since_s = time.monotonic()
        try:
            await self._step(event)
        finally:
            self._step_since_s = None

    def stuck(self) -> bool:
        """Tell whether a step has been under way for too long: the disk hangs, and with it every decision."""
        return self._step_since_s is not None and time.monotonic() - self._step_since_s > STEP_MAX_S

    async def _step(self, event: Event) -> None:
        now = self._clock.now()
        state, commands = machine.step(self.state, event, now)
        first = commands[0] if commands else None
        todo = commands
        if isinstance(first, Record):
            todo = commands[1:]
            at = stamp(state.kept.floor_s, state.anchor, now)
            try:
                kept = await self._store.commit(state.kept, first.records, at, state.boot_epoch)
            except StepRefused as refused:
                # Nothing was written: the state before it holds. A deadline would only come again at once.
                self.counts["steps_refused"] += 1
                self._door.show(Pattern.OUT_OF_ORDER)
                if isinstance(event, DeadlineReached):
                    raise
                log.error("%s was refused by the store: %s", type(event).__name__, refused)  # noqa: TRY400 - its text says all
                return
            except BaseException:
                # The door stays shut; whoever waits is told. The process ends: only the store knows what it has.
                self._door.show(Pattern.OUT_OF_ORDER)
                raise
            state = machine.committed(state, kept.outbox)
        self.state = state
        late = self._clock.boot_s() - now.boot_s > ACTUATE_MAX_S
        for command in todo:
            if late and isinstance(command, Actuate):
                # The disk took so long that nobody stands there expecting it any more.
                self.counts["too_late"] += 1
                outcome = ActuationOutcome.REFUSED
                self.post(ActuationSettled(command.actuation, outcome, "too_late", self._clock.boot_s()))
                continue
            await self._perform(command)
        if todo is not commands:
            await self._store.settle()

    async def serve_deadlines(self) -> None:
        """Serve everything that is due by now."""
        while (due_s := machine.next_deadline(self.state)) is not None and due_s <= self._clock.boot_s():
            await self.handle(DeadlineReached())

    async def settle(self) -> None:
        """Handle every event that waits, then everything that is due by now."""
        handled = 0
        while self._queue and not self._stopping:
            with self._lock:
                event = self._queue.popleft()
            await self.handle(event)
            handled += 1
            if handled % TURN_EVENTS == 0:
                # A device that floods must starve neither the watchdog nor the mail: most steps wait for nothing.
                await asyncio.sleep(0)
        await self.serve_deadlines()

    async def run(self) -> None:
        """Handle events and deadlines until ``stop``."""
        self._loop = asyncio.get_running_loop()
        while not self._stopping:
            self._wake.clear()
            await self.settle()
            due_s = machine.next_deadline(self.state)
            wait_s = IDLE_MAX_S if due_s is None else min(IDLE_MAX_S, self._clock.wait_s(due_s))
            with contextlib.suppress(TimeoutError):
                await asyncio.wait_for(self._wake.wait(), max(wait_s, 0.001))

    def stop(self) -> None:
        """Have ``run`` return after the step under way."""
        self._stopping = True
        self._wake.set()

    async def _perform(self, command: Command) -> None:
        match command:
            case Actuate():
                self._actuate(command)
            case Show(pattern=pattern):
                self._door.show(pattern)
            case Reply():
                if self.on_reply is not None:
                    self.on_reply(command)
            case PublishBatch(from_seq=from_seq, to_seq=to_seq):
                await self._mail.send_batch(from_seq, to_seq)
            case PublishStatus():
                await self._mail.send_status(self.state)
            case ReleaseRecords(up_to_seq=up_to_seq):
                # By signed times alone: the machine's clock may stand in 1970, and a sky years ahead.
                await self._store.release(up_to_seq, access.signed_s(self.state))
            case SetLoads() | PowerOff():
                if self.on_power is not None:
                    self.on_power(command)
            case Record():
                raise machine.RuleBrokenError("a Record that is not the first command")
            case _:
                assert_never(command)

    def _actuate(self, command: Actuate) -> None:
        try:
            self._door.actuate(command)
        except Exception as error:
            log.exception("door: the pulse was not given, or only in part")
            outcome = ActuationOutcome.FAILED
            self.post(ActuationSettled(command.actuation, outcome, str(error)[:200], self._clock.boot_s()))


class Workers:
    """Runs workers in threads, restarts what failed, and knows whether all are alive."""

    def __init__(self, workers: Iterable[Worker], emit: Callable[[Event], None]) -> None:
        self.workers = tuple(workers)
        self.stop_flag = threading.Event()
        self._emit = emit
        self._beats = {worker.name: time.monotonic() for worker in self.workers}
        self._threads = [
            threading.Thread(target=self._supervise, args=(worker,), name=worker.name, daemon=True)
            for worker in self.workers
        ]

    def start(self) -> None:
        """Start every worker."""
        for thread in self._threads:
            thread.start()

    def stop(self, timeout_s: float = 3.0) -> tuple[str, ...]:
        """Ask every worker to return and wait for them; return the names of those that did not.

        Those that were never started need no waiting for: a box may be closed before it ran.
        """
        self.stop_flag.set()
        deadline_s = time.monotonic() + timeout_s
        for thread in self._threads:
            if thread.ident is not None:
                thread.join(max(0.0, deadline_s - time.monotonic()))
        return tuple(thread.name for thread in self._threads if thread.is_alive())

    def silent(self) -> tuple[str, ...]:
        """Return the workers that are not alive: silent for too long, or their thread is gone."""
        now_s = time.monotonic()
        late = {name for name, beat_s in self._beats.items() if now_s - beat_s > BEAT_MAX_S}
        return tuple(sorted(late | {thread.name for thread in self._threads if not thread.is_alive()}))

    def _supervise(self, worker: Worker) -> None:
        def beat() -> None:
            self._beats[worker.name] = time.monotonic()

        wait_s, failed = RESTART_FIRST_S, False
        while not self.stop_flag.is_set():
            started_s = time.monotonic()

            def emit(event: Event) -> None:
                nonlocal failed
                if failed:
                    failed = False
                    self._emit(FaultReported(worker.name, active=False))
                self._emit(event)

            beat()
            try:
                worker.run(_Life(emit, beat, self.stop_flag))
                if self.stop_flag.is_set():
                    return
                detail = "stopped by itself"
            except Exception as error:  # noqa: BLE001 - one device's failure must not end the box
                detail = str(error) or type(error).__name__
            worker.counts["restarts"] += 1
            if not failed:
                log.warning("%s failed: %s", worker.name, detail)
            failed = True
            self._emit(FaultReported(worker.name, active=True, detail=detail[:200]))
            if time.monotonic() - started_s > STEADY_S:
                wait_s = RESTART_FIRST_S
            until_s = time.monotonic() + wait_s
            while time.monotonic() < until_s and not self.stop_flag.wait(min(1.0, wait_s)):
                beat()
            wait_s = min(wait_s * 2, RESTART_MAX_S)
