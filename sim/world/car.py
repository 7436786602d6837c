"""A car of a simulated town: what is true of it, what its devices say, and the life of its box over power cuts."""

from __future__ import annotations

import asyncio
import contextlib
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING, Any, Final

from hw.interlock import Interlock
from onboard.box import Box, Devices, Setting
from onboard.core.clock import Anchor, ClockQuality
from onboard.core.commands import Action, Actuate, Pattern, Reply
from onboard.core.events import (
    AccessRequested,
    ActuationOutcome,
    ActuationSettled,
    BusReported,
    BusState,
    Credential,
    DoorReported,
    Event,
    Intent,
    LinkReported,
    Position,
    PositionReported,
    SupplyReported,
    TimeHeard,
)
from onboard.core.policy import Station
from onboard.core.records import Recordable
from onboard.core.state import Kept, State
from sim.world.bus import signals
from sim.world.loop import now_s
from sim.world.power import Clock, CutStore, PowerCut, battery, next_cut
from sim.world.rates import HOUR_S

if TYPE_CHECKING:
    from sim.world.play import World

PULSE_S: Final = 0.3
STROKE_S: Final = 0.15
SOON_S, SOON_FOR_S = 0.2, 5.0
"""As ``hw.door_parts``: reports come often after a pulse."""
ATTENDED_S, ALONE_S = 2.0, 60.0
"""Between two reports of the contacts. Nobody decides anything while nobody is there."""
SIGNALS_S: Final = 2.0
SPEED_MPS: Final = 10.0
ANSWER_S: Final = 6.0
CARD_REQUEST: Final = 1_000_000
"""Numbers of the requests that cards make here, above those of phones: a card's holder hears no answer in words."""


class Car:
    """One car. Its public attributes are the truth, which the box only ever hears of."""

    def __init__(self, name: str, folder: Path, world: World, setting: Setting, station: Station) -> None:
        self.name = name
        self.folder = folder
        self.station: Station | None = station
        self.place = (station.latitude, station.longitude)
        self.locked = True
        self.door_open = False
        self.speed_mps = 0.0
        self.odometer_m = 1_000_000.0
        self.attended = 0
        self.locked_at_s = 0.0
        self.moved_at_s = self.used_at_s = 0.0
        """When it was last driven, or a door of it moved."""
        self.lies: bool | None = None
        """What the lock's contact says whatever is true; None: the truth."""
        self.told_truth_since_s = 0.0
        self.powered_since_s: float | None = None
        self.box: Box | None = None
        self.handled: Event | None = None
        self.shown: list[Pattern] = []
        self.bus_gone = False
        self.frozen_m: float | None = None
        self.date_off_s = 0.0
        self._world = world
        self._setting = setting
        self._rng = world.rng(f"car {name}")
        self._flat = (world.rates.battery_flat_every_h, world.rng(f"battery {name}"), self._measured)
        self._drift = self._rng.uniform(-1, 1) * world.rates.drift_ppm * 1e-6
        self._has_rtc = self._rng.random() < 0.3
        self._clock = Clock(0.0, 0.0, 0.0)
        self._epoch = b""
        self._changed = asyncio.Event()
        self._soon_until_s = 0.0
        self._cut = asyncio.Event()
        self._cut_only_daemon = False
        self._answers: dict[int, asyncio.Future[tuple[str, str]]] = {}
        self._requests = CARD_REQUEST
        self._boots = 0
        self._wakes_in_s: float | None = None

    # The box's life

    async def live(self) -> None:
        """Boot again and again, until the world ends."""
        fresh = True
        while True:
            if fresh:
                self._begin_boot()
            try:
                await self._run()
            except PowerCut:
                self._cut_only_daemon = False
            self._dark()
            fresh = not self._cut_only_daemon
            off_s = (
                2.0 if self._cut_only_daemon else self._rng.choice((15.0, 60.0, 300.0, 3000.0)) * self._world.plan.pace
            )
            off_s, self._wakes_in_s = self._wakes_in_s or off_s, None
            self._cut_only_daemon = False
            await self._world.sleep_until_healed(off_s)
            await asyncio.sleep(1.0)

    def _begin_boot(self) -> None:
        wall_s = self._world.wall_s() + self._rng.uniform(-20, 20) if self._has_rtc else 0.0
        self._clock = Clock(now_s(), self._drift, wall_s)
        self._epoch = self._rng.randbytes(8)
        self._boots += 1
        self._sky_from_s = now_s() + (
            self._rng.uniform(HOUR_S, 20 * HOUR_S) * self._world.plan.pace
            if self._chance("clock_lost")
            else self._rng.uniform(5, 60)
        )
        self.date_off_s = (
            self._rng.choice((-1, 1)) * self._rng.uniform(400, 1e8) if self._chance("clock_steps") else 0.0
        )

    async def _run(self) -> None:
        setting = replace(self._setting, clock=self._clock, boot_epoch=self._epoch, carry=self._carry)
        store = CutStore(self)
        box = Box(setting, store)
        self._cut.clear()
        interlock = Interlock()
        self._interlock = interlock
        tasks: list[asyncio.Task[None]] = []
        try:
            await box.open(Devices(self, (), (interlock.note,), ask_off=lambda _: None))
            self.box = box
            self._intercept(box)
            self.powered_since_s = now_s()
            self._world.tale.tell(self.name, "the box is up")
            tasks = [
                asyncio.create_task(work)
                for work in (box.reactor.run(), self._contacts(), self._bus(), self._sky(), battery(*self._flat))
            ]
            self.post(BusReported(BusState.ASLEEP, self._clock.boot_s()))
            cut = asyncio.create_task(self._cut_comes())
            tasks.append(cut)
            done, _ = await asyncio.wait(tasks, return_when=asyncio.FIRST_COMPLETED)
            for task in done:
                task.result()
            if box.switches.ask_off_s is not None:
                self._world.checks.switched_off(self, box.reactor.state)
                self._wakes_in_s = box.switches.ask_off_s
        finally:
            for task in tasks:
                task.cancel()
            await asyncio.gather(*tasks, return_exceptions=True)
            await store.close()

    async def _cut_comes(self) -> None:
        drawn = next_cut(self._world.rates, self._rng)
        if drawn is None:
            await self._cut.wait()
            raise PowerCut
        at_s, only = drawn
        with contextlib.suppress(TimeoutError):
            await asyncio.wait_for(self._cut.wait(), at_s)
        if self._world.healing:
            await asyncio.Event().wait()
        self._cut_only_daemon = only
        if not only:
            raise PowerCut

    def _dark(self) -> None:
        self._world.tale.tell(self.name, "the daemon dies" if self._cut_only_daemon else "the box has no power")
        self._world.tale.counts["restarts" if self._cut_only_daemon else "power cuts"] += 1
        self.box = None
        self.powered_since_s = None
        for answer in self._answers.values():
            if not answer.done():
                answer.set_result(("", ""))
        self._answers.clear()
        self._world.pipe.hang_up(self)

    def cut_at_commit(self) -> str:
        """Say whether power fails at the commit that comes: ``before``, ``after`` or not at all."""
        if not self._chance("cut_at_commit"):
            return ""
        self._world.tale.counts["cuts at a commit"] += 1
        return self._rng.choice(("before", "after"))

    def committed(self, kept: Kept, records: tuple[Recordable, ...]) -> None:
        """Hear what is on the disk now."""
        self._world.checks.committed(self, kept, records)

    @property
    def state(self) -> State | None:
        """What the box believes; None without power."""
        return self.box.reactor.state if self.box is not None else None

    @property
    def boot_s(self) -> float:
        """The box's boot-time clock."""
        return self._clock.boot_s()

    def post(self, event: Event) -> None:
        """Give the box an event, if it has power."""
        if self.box is not None:
            self.box.reactor.post(event)

    def _intercept(self, box: Box) -> None:
        handle, on_reply = box.reactor.handle, box.reactor.on_reply

        async def handled(event: Event) -> None:
            self.handled = event
            self._world.tale.counts["steps"] += 1
            try:
                await handle(event)
            finally:
                self.handled = None

        def replied(reply: Reply) -> None:
            if isinstance(self.handled, AccessRequested):
                self._world.checks.answered(self, self.handled, reply.status, reply.reason)
            waiting = self._answers.pop(reply.request, None)
            if waiting is not None and not waiting.done():
                waiting.set_result((reply.status, reply.reason))
            elif on_reply is not None and reply.request < CARD_REQUEST:
                on_reply(reply)

        box.reactor.handle = handled  # type: ignore[method-assign]  # to know which event a commit belongs to
        box.reactor.on_reply = replied

    async def tap(self, credential: Credential, intent: Intent = Intent.TAP) -> tuple[str, str]:
        """Hold a card to the reader; return the answer, ("", "") where none came."""
        if self.box is None:
            await asyncio.sleep(1.0)
            return "", ""
        self._requests += 1
        answer: asyncio.Future[tuple[str, str]] = asyncio.get_running_loop().create_future()
        number, self._answers[self._requests] = self._requests, answer
        self.post(AccessRequested(credential, intent, number, self._clock.boot_s()))
        try:
            return await asyncio.wait_for(answer, ANSWER_S)
        except TimeoutError:
            return "", ""
        finally:
            self._answers.pop(number, None)

    # The door

    def actuate(self, command: Actuate) -> None:
        """Give a pulse, if the interlock permits."""
        denied = self._interlock.permit(command.action, self._clock.boot_s(), PULSE_S)
        if denied is not None:
            self._settle(command.actuation, ActuationOutcome.REFUSED, denied.value)
            return
        self._world.checks.actuated(self, command.action)
        self._soon_until_s = now_s() + SOON_FOR_S
        loop, box = asyncio.get_running_loop(), self.box
        sticks, bounces = self._chance("latch_sticks"), self._chance("latch_bounces")
        before = self.locked
        if not sticks:
            loop.call_later(STROKE_S, self._latch, command.action is Action.LOCK)
            if bounces:
                loop.call_later(STROKE_S + 0.4, self._latch, before)
        outcome = ActuationOutcome.FAILED if self._chance("pulse_fails") else ActuationOutcome.DONE

        def over() -> None:
            if self.box is box:
                self._settle(command.actuation, outcome, "")
                self._changed.set()

        loop.call_later(PULSE_S, over)

    def show(self, pattern: Pattern) -> None:
        """Remember the light."""
        self.shown = [*self.shown[-20:], pattern]

    def _settle(self, actuation: int, outcome: ActuationOutcome, reason: str) -> None:
        self.post(ActuationSettled(actuation, outcome, reason, self._clock.boot_s()))

    def _latch(self, locked: bool) -> None:  # noqa: FBT001 - a level
        if locked != self.locked:
            self.locked = locked
            self.moved_at_s = now_s()
            if locked:
                self.locked_at_s = now_s()
            self._world.tale.tell(self.name, "the latch locks" if locked else "the latch opens")
            self._changed.set()

    def move_door(self, *, is_open: bool) -> None:
        """Open or shut the driver's door by hand. From outside it opens only if the latch does not hold it."""
        self.door_open = is_open
        self.used_at_s = now_s()
        self._world.tale.tell(self.name, f"the door is {'open' if is_open else 'shut'}")
        self._changed.set()

    async def _contacts(self) -> None:
        while True:
            self._report()
            soon = now_s() < self._soon_until_s
            wait_s = SOON_S if soon else ATTENDED_S if self.attended else ALONE_S
            self._changed.clear()
            with contextlib.suppress(TimeoutError):
                await asyncio.wait_for(self._changed.wait(), wait_s)

    def _report(self) -> None:
        locked = self.locked if self.lies is None else self.lies
        report = DoorReported(locked, self.door_open, passenger_open=False, sampled_s=self._clock.boot_s())
        if self._chance("report_late"):
            box = self.box

            def late() -> None:
                if self.box is box:
                    self.post(report)

            asyncio.get_running_loop().call_later(self._rng.choice((0.5, 3.0, 15.0)) * self._rng.random(), late)
            return
        self.post(report)

    # The bus, the sky

    async def _bus(self) -> None:
        awake = False
        while True:
            wanted = bool(self.attended) and not self.bus_gone
            if wanted != awake:
                state = BusState.AWAKE if wanted else BusState.FAULT if self.bus_gone else BusState.ASLEEP
                self.post(BusReported(state, self._clock.boot_s()))
                awake = wanted
            if awake:
                self._signals()
            await asyncio.sleep(SIGNALS_S if self.attended else 20.0)

    def _signals(self) -> None:
        at_s = self._clock.boot_s()
        if self._chance("signals_lost"):
            return
        shown_m = self.odometer_m if self.frozen_m is None else self.frozen_m
        self.post(signals(self.speed_mps, shown_m, at_s))

    def _measured(self, voltage_v: float) -> None:
        if not self._world.healing:
            self.post(SupplyReported(voltage_v, self._clock.boot_s()))

    async def _sky(self) -> None:
        while True:
            await asyncio.sleep(10.0 if self.attended else 900.0)
            if now_s() < self._sky_from_s or self._chance("gnss_lost"):
                continue
            at_s, true_s = self._clock.boot_s(), self._world.wall_s() + self.date_off_s
            self.post(TimeHeard(Anchor(at_s, true_s - 0.5, true_s + 0.5, ClockQuality.GNSS)))
            latitude, longitude = self.place
            if self._chance("gnss_jumps"):
                latitude += self._rng.uniform(-0.1, 0.1)
            self.post(PositionReported(Position(latitude, longitude, self.speed_mps, 3, 0.9, at_s)))

    async def drive(self, to: Station, metres: float) -> None:
        """Be driven there."""
        self.station = None
        start = self.place
        self.frozen_m = self.odometer_m if self._chance("odometer_frozen") else None
        self.bus_gone = self._chance("bus_faulty")
        self._changed.set()
        steps = max(1, round(metres / (SPEED_MPS * SIGNALS_S)))
        self.speed_mps = SPEED_MPS
        for step in range(steps):
            await asyncio.sleep(SIGNALS_S)
            self.odometer_m += metres / steps
            part = (step + 1) / steps
            self.place = (
                start[0] + (to.latitude - start[0]) * part,
                start[1] + (to.longitude - start[1]) * part,
            )
        self.speed_mps = 0.0
        self.used_at_s = now_s()
        self.frozen_m, self.bus_gone = None, False
        self.station = to
        await asyncio.sleep(5.0)

    # The way to the commune

    def _carry(self, topic: Any, payload: bytes) -> bool:
        return self._world.pipe.up(self, topic, payload)

    def linked(self, *, connected: bool) -> None:
        """Tell the box that its carrier came or went."""
        self.post(LinkReported(connected))

    def _chance(self, kind: str) -> bool:
        chance = float(getattr(self._world.rates, kind))
        return chance > 0 and self._rng.random() < chance
