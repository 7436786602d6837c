"""How a month's records reach the commune, once there is network again: a pipe in the place of broker and MQTT.

It carries each document as it is, both ways. The box runs as in a car, on real time; the commune verifies, commits and
only then acknowledges, in a thread of its own.
"""

from __future__ import annotations

import asyncio
import time
from collections import Counter
from typing import Final

from cloud_sync.wire import Topic, build_topic
from onboard.core.events import LinkReported
from sim.month_car import MonthCar
from sim.week_town import VEHICLE, Town

PATIENCE_S: Final = 100.0
"""So long without any progress, and it has come to nothing. The box's first repetition comes after 60 s."""
LOOK_S: Final = 0.02


class Pipe:
    """Between the box and the commune. Broken until ``connect``."""

    def __init__(self, town: Town) -> None:
        self.counts: Counter[str] = Counter()
        self._town = town
        self._waiting: asyncio.Queue[tuple[Topic, bytes]] | None = None
        self._work: asyncio.Task[None] | None = None

    def carry(self, topic: Topic, payload: bytes) -> bool:
        """Take a document from the box; False without a connection."""
        if self._waiting is None:
            return False
        self.counts[topic.name.lower()] += 1
        self.counts["bytes"] += len(payload)
        self._waiting.put_nowait((topic, payload))
        return True

    def connect(self, car: MonthCar) -> None:
        """Let documents through."""
        self._waiting = asyncio.Queue()
        self._work = asyncio.create_task(self._run(car, self._waiting))
        car.box.reactor.post(LinkReported(connected=True))

    async def close(self) -> None:
        """End it. Raises what ended it before."""
        if self._work is not None:
            self._work.cancel()
            await asyncio.wait([self._work])
            if not self._work.cancelled():
                self._work.result()

    async def _run(self, car: MonthCar, waiting: asyncio.Queue[tuple[Topic, bytes]]) -> None:
        while True:
            topic, payload = await waiting.get()
            handle = self._town.ingest.handle
            for message in await asyncio.to_thread(handle, build_topic(VEHICLE, topic), payload, car.wall_s()):
                await car.hear(message.topic, message.payload)


async def drained(car: MonthCar, up_to_seq: int | None = None) -> bool:
    """Wait until the box knows the commune to have everything up to a row, or all; False if it comes to nothing."""
    acked, since_s = -1, time.monotonic()
    while car.state.sending.acked_seq < (car.state.kept.outbox.last_seq if up_to_seq is None else up_to_seq):
        if car.state.sending.acked_seq != acked:
            acked, since_s = car.state.sending.acked_seq, time.monotonic()
        if time.monotonic() - since_s > PATIENCE_S:
            return False
        await asyncio.sleep(LOOK_S)
    return True
