"""The box's way to the commune's broker: one worker that carries sealed and signed bytes, and understands none of them.

``publish`` is for the reactor: it returns at once and promises nothing. What arrived is known from the cloud's signed
acknowledgement alone, so whatever a lost connection did not deliver is dropped here and sent again by the core.
"""

from __future__ import annotations

import math
import time
from collections import Counter
from collections.abc import Callable
from dataclasses import dataclass, field
from pathlib import Path
from threading import Event as Flag
from typing import Final, Protocol

from cloud_sync.carrier import Carrier, LinkNews
from cloud_sync.carrier_settings import ENDS_SOON_S, CarrierSettings, Outgoing
from cloud_sync.documents.kinds import Refused
from cloud_sync.tls import day, end_s
from cloud_sync.wire import MAX_PAYLOAD_BYTES, Topic, box_subscriptions, build_topic, check_payload, parse_topic
from onboard.core.events import Event, FaultReported, LinkReported

ONE_WAY_S: Final = 600.0
"""Batches went out for this long and nothing ever came down: one direction is dead. A new connection may mend it."""

LOOK_EVERY_S: Final = 3600.0
"""How often the box looks when its own certificate ends."""


class Life(Protocol):
    """What the reactor gives a worker: see ``hw.worker.Life``, which this room may not import."""

    @property
    def emit(self) -> Callable[[Event], None]:
        """Take an event from any thread and return at once."""
        ...

    @property
    def beat(self) -> Callable[[], None]:
        """Hear that the worker is well."""
        ...

    @property
    def stop(self) -> Flag:
        """Ask the worker to return."""
        ...


@dataclass(frozen=True, slots=True)
class UplinkSettings:
    """How this box reaches its broker. The MQTT client id is the vehicle id; ``CarrierSettings`` says the rest."""

    host: str
    port: int
    vehicle: str
    username: str | None = None
    password: str | None = field(default=None, repr=False)
    ca: Path | None = None
    cert: Path | None = None
    key: Path | None = None
    keepalive_s: int = 60
    backoff_first_s: float = 1.0
    backoff_longest_s: float = 600.0
    steady_s: float = 30.0
    one_way_s: float = ONE_WAY_S

    def carrier(self, known_s: Callable[[], float]) -> CarrierSettings:
        """Return what the carrier needs; ValueError, with the remedy, for settings that can't work."""
        return CarrierSettings(
            host=self.host,
            port=self.port,
            client_id=self.vehicle,
            username=self.username,
            password=self.password,
            ca=self.ca,
            cert=self.cert,
            key=self.key,
            known_s=known_s,
            keepalive_s=self.keepalive_s,
            backoff_first_s=self.backoff_first_s,
            backoff_longest_s=self.backoff_longest_s,
            steady_s=self.steady_s,
        )


class Uplink:
    """A worker (``hw.worker.Worker``) that keeps the box connected.

    ``offline`` is the signed document that the broker publishes as the last will, however the connection ends.
    ``received`` is called in the worker's thread, for each downward payload of 1 to ``MAX_PAYLOAD_BYTES`` bytes on a
    topic of this car; it must not raise. ``known_s``, called there too: by signed times it is at least so late (Unix
    seconds); no other clock judges the broker's certificate. Emits ``LinkReported``, and ``FaultReported`` where a
    person must mend the settings (certificate, user, access list) or renew the box's own certificate.
    """

    def __init__(
        self,
        settings: UplinkSettings,
        offline: bytes,
        received: Callable[[Topic, bytes], None],
        known_s: Callable[[], float],
    ) -> None:
        self.name = "uplink"
        self._settings = settings
        self._received = received
        self._known_s = known_s
        self._looked_s = -math.inf
        self._ends_soon = False
        self._emit: Callable[[Event], None] | None = None
        self._faulty = False
        self._unanswered_since_s: float | None = None
        self._carrier = Carrier(
            settings.carrier(known_s),
            subscriptions=box_subscriptions(settings.vehicle),
            payload_max=MAX_PAYLOAD_BYTES,
            received=self._came,
            linked=self._linked,
            will=Outgoing(build_topic(settings.vehicle, Topic.STATUS), offline),
        )
        self.counts: Counter[str] = self._carrier.counts

    def publish(self, channel: Topic, payload: bytes) -> bool:
        """Hand a document over for the present connection. From any thread; returns at once.

        False: not connected, or the window is full; nothing was kept. True is no proof of anything.
        Raises ValueError for a downward channel or a payload that no document can be.
        """
        if not channel.upward:
            raise ValueError(f"a box doesn't publish {channel.value}")
        try:
            check_payload(payload)
        except Refused as refused:
            raise ValueError(f"{channel.value}: {refused.detail}") from refused
        taken = self._carrier.publish(Outgoing(build_topic(self._settings.vehicle, channel), payload))
        if taken and channel is Topic.BATCH and self._unanswered_since_s is None:
            self._unanswered_since_s = time.monotonic()
        return taken

    def run(self, life: Life) -> None:
        """Keep a connection until ``life.stop`` is set; a lost one is made anew with a growing, jittered wait."""
        self._emit = life.emit

        def beat() -> None:
            life.beat()
            self._look_at_own_certificate()
            since_s = self._unanswered_since_s
            if since_s is not None and time.monotonic() - since_s > self._settings.one_way_s:
                self._unanswered_since_s = None
                self._carrier.drop_connection("one_way")

        self._carrier.run(beat, life.stop)

    def _look_at_own_certificate(self) -> None:
        """Tell in time that it ends. By the proven time alone: a false sky must not send a technician out."""
        cert, now_s = self._settings.cert, time.monotonic()
        if cert is None or self._emit is None or now_s - self._looked_s < LOOK_EVERY_S:
            return
        self._looked_s = now_s
        try:
            ends_s = end_s(cert)
        except (OSError, ValueError):
            return  # the carrier tells it, when it needs the file
        if (soon := ends_s < self._known_s() + ENDS_SOON_S) or self._ends_soon:
            remedy = f"amibox-cloud box renew {self._settings.vehicle}, and on the box: amibox provision accept"
            detail = f"the box's certificate for the broker ends on {day(ends_s)}: {remedy}" if soon else ""
            self._emit(FaultReported("certificate", active=soon, detail=detail))
        self._ends_soon = soon

    def _linked(self, news: LinkNews) -> None:
        self._unanswered_since_s = None
        if self._emit is None:
            return
        if news.trouble:
            self._faulty = True
            self._emit(FaultReported(self.name, active=True, detail=news.trouble))
            return
        if news.connected and self._faulty:
            self._faulty = False
            self._emit(FaultReported(self.name, active=False))
        self._emit(LinkReported(news.connected))

    def _came(self, topic: str, payload: bytes) -> None:
        try:
            vehicle, channel = parse_topic(topic)
            check_payload(payload)
        except Refused as refused:
            self.counts[refused.reason.word] += 1
            return
        if vehicle != self._settings.vehicle or channel.upward:
            self.counts["odd_topic"] += 1
            return
        if not channel.retained:  # a retained list comes from the broker, and proves no cloud behind it
            self._unanswered_since_s = None
        self.counts["received"] += 1
        self._received(channel, payload)
