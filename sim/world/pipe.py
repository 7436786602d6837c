"""The broker of a simulated town: it loses, doubles, delays and reorders, goes away for weeks, and may be hostile."""

from __future__ import annotations

import asyncio
from collections import deque
from typing import TYPE_CHECKING, Final

from cloud_sync.carrier_settings import Outgoing
from cloud_sync.wire import Topic, build_topic
from onboard.core.events import LinkReported
from sim.world.loop import now_s
from sim.world.rates import HOUR_S

if TYPE_CHECKING:
    from sim.world.car import Car
    from sim.world.play import World

HEARD_MAX: Final = 200
"""Messages that a hostile broker remembers."""


class Pipe:
    """Carries documents between cars and commune; ``sim`` stands for mosquitto and both MQTT clients."""

    def __init__(self, world: World) -> None:
        self.trouble = ""
        self.counts = world.tale.counts
        self._world = world
        self._rng = world.rng("pipe")
        self._connected: set[str] = set()
        self._reachable: dict[str, bool] = {}
        self._retained: dict[str, bytes] = {}
        self._heard: deque[tuple[str, bytes]] = deque(maxlen=HEARD_MAX)

    @property
    def connected(self) -> bool:
        """Whether the commune reaches the broker."""
        return True

    async def serve(self, car: Car) -> None:
        """Have a car's network come and go."""
        while True:
            self._reachable[car.name] = True
            self._world.tale.tell(car.name, "there is network")
            await self._while_reachable(car)
            self._reachable[car.name] = False
            self.hang_up(car)
            self._world.tale.tell(car.name, "there is no network any more")
            away_s = self._rng.expovariate(1 / max(60.0, self._world.rates.link_down_h * HOUR_S))
            await self._world.sleep_until_healed(away_s)

    async def _while_reachable(self, car: Car) -> None:
        mean_h = self._world.rates.link_down_every_h
        until_s = now_s() + self._rng.expovariate(1 / (mean_h * HOUR_S)) if mean_h else float("inf")
        while now_s() < until_s or self._world.healing:
            if car.box is not None and car.name not in self._connected:
                self._connect(car)
            await asyncio.sleep(min(10.0, max(1.0, until_s - now_s())) if until_s < now_s() + 10 else 10.0)

    def _connect(self, car: Car) -> None:
        self._connected.add(car.name)
        car.post(LinkReported(connected=True))
        for topic in (Topic.KEYS, Topic.LIST):
            payload = self._retained.get(build_topic(car.name, topic))
            if payload is not None:
                self._deliver(car, topic, payload)

    def hang_up(self, car: Car) -> None:
        """End a car's connection; what was under way is lost."""
        if car.name in self._connected:
            self._connected.discard(car.name)
            car.post(LinkReported(connected=False))

    def up(self, car: Car, topic: Topic, payload: bytes) -> bool:
        """Take a document from a car; False without a connection."""
        if car.name not in self._connected:
            return False
        self._world.tale.counts["messages"] += 1
        self._heard.append((build_topic(car.name, topic), payload))
        for wait_s in self._ways():
            asyncio.get_running_loop().call_later(wait_s, self._world.town.take, build_topic(car.name, topic), payload)
        if self._chance("hostile_broker"):
            self._world.tale.counts["hostile messages"] += 1
            asyncio.get_running_loop().call_later(0.5, self._world.town.take, *self._forged())
        return True

    def publish(self, message: Outgoing) -> bool:
        """Take a document for a car."""
        if message.retain:
            self._retained[message.topic] = message.payload
        self._heard.append((message.topic, message.payload))
        for car in self._world.cars:
            for topic in Topic:
                if not topic.upward and build_topic(car.name, topic) == message.topic and car.name in self._connected:
                    for wait_s in self._ways():
                        asyncio.get_running_loop().call_later(wait_s, self._deliver, car, topic, message.payload)
        return True

    def _deliver(self, car: Car, topic: Topic, payload: bytes) -> None:
        if car.box is None or car.name not in self._connected:
            return
        if self._chance("hostile_broker"):
            payload = self._spoilt(payload)
        box = car.box
        task = asyncio.get_running_loop().create_task(box.mail.receive(topic, payload))
        self._world.keep(task)

    def _ways(self) -> list[float]:
        """Return when a message arrives: never, once or twice."""
        if self._chance("message_lost"):
            return []
        times = 2 if self._chance("message_doubled") else 1
        return [self._rng.uniform(0.05, 400.0 if self._chance("message_late") else 0.5) for _ in range(times)]

    def _forged(self) -> tuple[str, bytes]:
        topic, payload = self._rng.choice(self._heard)
        if self._rng.random() < 0.5:
            topic = build_topic(self._rng.choice(self._world.cars).name, Topic.BATCH)
        return topic, self._spoilt(payload) if self._rng.random() < 0.5 else payload

    def _spoilt(self, payload: bytes) -> bytes:
        match self._rng.randrange(3):
            case 0:
                at = self._rng.randrange(len(payload))
                return payload[:at] + bytes([payload[at] ^ 1 << self._rng.randrange(8)]) + payload[at + 1 :]
            case 1:
                return payload[: self._rng.randrange(1, len(payload) + 1)]
            case _:
                return self._rng.choice(self._heard)[1] if self._heard else payload

    def _chance(self, kind: str) -> bool:
        chance = float(getattr(self._world.rates, kind))
        return chance > 0 and self._rng.random() < chance
