"""One MQTT 3.1.1 connection after another, for both ends: the box's uplink and the endpoint's consumer.

MQTT is taken as a pipe that loses, doubles and reorders: a message that ``publish`` accepted may still be lost, and
what rests on its arrival is somebody else's acknowledgement. The rules that make the pipe predictable:

- A new paho client for each connection: a used one re-sends everything it holds at once when it reconnects.
- Nothing waits in the client library beyond its own window; what a broken connection did not deliver is dropped.
- Clean sessions: nothing of ours is queued at a broker.
- Callbacks only hand over; everything runs in the one thread that called ``run``.
- The socket is closed without a DISCONNECT, so that every ending looks alike: the broker publishes the last will.
"""

from __future__ import annotations

import contextlib
import random
import select
import socket
import ssl
import threading
import time
from collections import Counter, deque
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any, Final

from paho.mqtt.client import Client, ConnectFlags, MQTTMessage
from paho.mqtt.enums import MQTTErrorCode
from paho.mqtt.properties import Properties
from paho.mqtt.reasoncodes import ReasonCode

from cloud_sync.carrier_settings import CarrierSettings, Outgoing, backoff_s
from cloud_sync.mqtt_client import WINDOW, build_client, close_client, closing_pair, drain

TICK_S: Final = 0.5
"""Longest sleep of the loop: the beat, the stop flag and paho's keep-alive are looked at this often."""

CONNECT_S: Final = 30.0
"""From the TCP connection to the SUBACK. Name look-up, TCP and TLS come before it and have limits of their own."""

PUBACK_S: Final = 120.0
"""A broker that leaves a QoS 1 message unacknowledged for this long is hung: a new connection is made."""

RECEIVED_MAX: Final = 256
"""Messages taken from the client in one turn of the loop and not yet handled."""

ENVELOPE_BYTES: Final = 1024
"""Room for the topic and the headers of an MQTT packet above its payload."""

REFUSED_CREDENTIALS: Final = frozenset({"Bad user name or password", "Not authorized", "Client identifier not valid"})
"""CONNACK answers (paho's names for 4, 5 and 2) that a retry doesn't cure: back off to the longest wait."""

HUNG_UP: Final = (TimeoutError, ssl.SSLEOFError, ssl.SSLZeroReturnError)
"""In a handshake: not a word about certificates, but a broker that is slow or just going down. It may pass."""


@dataclass(frozen=True, slots=True)
class LinkNews:
    """The link came or went. ``trouble`` is empty but where a person must mend something."""

    connected: bool
    trouble: str = ""


class LinkLostError(Exception):
    """The connection is over; the text is the reason that is counted. Messages under way may have arrived."""


class Carrier:
    """Keeps one connection to the broker, again and again.

    ``received(topic, payload)`` and ``linked(news)`` are called in the thread of ``run``. ``queue_max`` bounds what
    waits here while connected.
    """

    def __init__(
        self,
        settings: CarrierSettings,
        *,
        subscriptions: tuple[str, ...],
        payload_max: int,
        received: Callable[[str, bytes], None],
        linked: Callable[[LinkNews], None],
        queue_max: int = WINDOW,
        will: Outgoing | None = None,
    ) -> None:
        self.counts: Counter[str] = Counter()
        self._settings = settings
        self._subscriptions = subscriptions
        self._payload_max = payload_max
        self._received = received
        self._linked = linked
        self._queue_max = queue_max
        self._will = will
        self._lock = threading.Lock()
        self._outgoing: deque[Outgoing] = deque()
        self._under_way: dict[int, float] = {}
        """Message id -> when it was given to paho (monotonic seconds), until its PUBACK."""
        self._connected = False
        self._bell: tuple[socket.socket, socket.socket] | None = None
        """A byte in the second wakes the loop, which sleeps on the first."""
        self._inbox: deque[tuple[str, bytes]] = deque()
        self._connack: ReasonCode | None = None
        self._subscribed: bool | None = None
        self._drop_reason = ""
        self._resting = threading.Event()

    @property
    def connected(self) -> bool:
        """Whether there is a connection with a granted subscription now."""
        return self._connected

    def publish(self, message: Outgoing) -> bool:
        """Take a message for the present connection; from any thread, returns at once.

        False: not connected, or ``queue_max`` messages are under way; nothing was kept. True promises nothing either.
        """
        with self._lock:
            if not self._connected:
                self.counts["not_connected"] += 1
                return False
            if len(self._outgoing) + len(self._under_way) >= self._queue_max:
                self.counts["window_full"] += 1
                return False
            self._outgoing.append(message)
        self._wake()
        return True

    def drop_connection(self, reason: str) -> None:
        """Give this connection up and make a new one; from any thread. ``reason`` is counted."""
        self._drop_reason = reason
        self._wake()

    def rest(self, *, resting: bool) -> None:
        """Try no connection for a while, or go on at once, as if nothing had failed; from any thread."""
        if not resting:
            self._resting.clear()
        elif not self._resting.is_set():
            self._resting.set()
            self.drop_connection("rested")

    def run(self, beat: Callable[[], None], stop: threading.Event) -> None:
        """Connect and serve until ``stop`` is set; returns within a second of it."""
        with closing_pair() as bell:
            with self._lock:
                self._bell = bell
            try:
                self._run(beat, stop)
            finally:
                with self._lock:
                    self._bell = None

    def _run(self, beat: Callable[[], None], stop: threading.Event) -> None:
        failures = 0
        while not stop.is_set():
            beat()
            if self._resting.is_set():
                failures = 0
                self.counts["rests"] += 1
                while self._resting.is_set() and not stop.wait(TICK_S):
                    beat()
                continue
            since_s = time.monotonic()
            hopeless = False
            try:
                self._serve(beat, stop)
            except LinkLostError as error:
                self.counts[str(error)] += 1
                hopeless = str(error) in ("refused_credentials", "bad_certificate")
            if time.monotonic() - since_s >= self._settings.steady_s:
                failures = 0
            failures += 1
            settings = self._settings
            wait_s = backoff_s(
                31 if hopeless else failures,
                settings.backoff_first_s,
                settings.backoff_longest_s,
                random.random(),  # noqa: S311  (spreads reconnects, guards nothing)
            )
            ready_s = time.monotonic() + wait_s
            while (
                (rest_s := ready_s - time.monotonic()) > 0
                and not self._resting.is_set()
                and not stop.wait(min(TICK_S, rest_s))
            ):
                beat()

    def _wake(self) -> None:
        with self._lock:
            if self._bell is not None:
                # A full buffer: the loop has enough to wake up for.
                with contextlib.suppress(BlockingIOError):
                    self._bell[1].send(b"\0")

    def _trouble(self, text: str) -> None:
        self._linked(LinkNews(connected=False, trouble=text))

    def _serve(self, beat: Callable[[], None], stop: threading.Event) -> None:
        client = self._new_client()
        try:
            self._connect(client, beat, stop)
            self._await_subscription(client, beat, stop)
            if stop.is_set():
                return
            with self._lock:
                self._connected = True
            self.counts["connected"] += 1
            self._linked(LinkNews(connected=True))
            while not stop.is_set():
                self._turn(client)
                beat()
        finally:
            with self._lock:
                was_connected, self._connected = self._connected, False
                self.counts["dropped_unsent"] += len(self._outgoing)
                self.counts["dropped_unacknowledged"] += len(self._under_way)
                self._outgoing.clear()
                self._under_way.clear()
            self._inbox.clear()
            close_client(client)
            if was_connected:
                self._linked(LinkNews(connected=False))

    def _new_client(self) -> Client:
        try:
            client = build_client(self._settings, self._will)
        except (OSError, ValueError) as error:
            self._trouble(f"TLS files not usable: {error}. Check ca, cert and key.")
            raise LinkLostError("bad_certificate") from error
        client.on_connect = self._on_connect
        client.on_subscribe = self._on_subscribe
        client.on_message = self._on_message
        client.on_publish = self._on_publish
        self._connack, self._subscribed, self._drop_reason = None, None, ""
        self._inbox.clear()
        return client

    def _connect(self, client: Client, beat: Callable[[], None], stop: threading.Event) -> None:
        """Name look-up, TCP and TLS in a thread of their own: they block, and the beat must not wait for them."""
        failure: list[Exception] = []
        abandoned = threading.Event()

        def connect() -> None:
            try:
                client.connect(self._settings.host, self._settings.port, self._settings.keepalive_s)
            except (OSError, ValueError) as error:
                failure.append(error)
            if abandoned.is_set():
                close_client(client)

        thread = threading.Thread(target=connect, name=f"{self._settings.client_id}-connect", daemon=True)
        thread.start()
        until_s = time.monotonic() + 2 * CONNECT_S
        while thread.is_alive() and not stop.is_set() and time.monotonic() < until_s:
            thread.join(0.05)
            beat()
        if thread.is_alive():
            abandoned.set()
            raise LinkLostError("connect_abandoned")
        if failure:
            if isinstance(failure[0], ssl.SSLError) and not isinstance(failure[0], HUNG_UP):
                self._trouble(f"TLS with {self._settings.host}: {failure[0]}. Check the CA and the certificate.")
                raise LinkLostError("bad_certificate") from failure[0]
            raise LinkLostError("unreachable") from failure[0]

    def _await_subscription(self, client: Client, beat: Callable[[], None], stop: threading.Event) -> None:
        """Wait for CONNACK and SUBACK: a link whose subscription was refused is none."""
        until_s = time.monotonic() + CONNECT_S
        asked = False
        while self._subscribed is None and not stop.is_set():
            if time.monotonic() > until_s:
                raise LinkLostError("broker_silent")
            try:
                self._turn(client)
            finally:
                self._check_connack()
            beat()
            if self._connack is not None and not asked:
                client.subscribe([(topic, 1) for topic in self._subscriptions])
                asked = True
        if self._subscribed is False:
            self._trouble(
                f"the broker refused a subscription to {self._subscriptions[0]} and its like. Check its access list."
            )
            raise LinkLostError("refused_credentials")

    def _check_connack(self) -> None:
        if self._connack is None or not self._connack.is_failure:
            return
        said = str(self._connack)
        if said not in REFUSED_CREDENTIALS:
            raise LinkLostError("refused_by_broker")
        self._trouble(f"the broker refused this client: {said}. Check user name, password, client id.")
        raise LinkLostError("refused_credentials")

    def _turn(self, client: Client) -> None:
        """Move bytes once, then hand over what came in."""
        sock: Any = client.socket()
        if sock is None:
            raise LinkLostError(self._over())
        if self._connected:
            self._feed(client)
        self._move_bytes(client, sock)
        if self._drop_reason:
            raise LinkLostError(self._drop_reason)
        # paho reads a packet of any announced size (up to 256 MiB) into memory before it shows it to anybody.
        # Its half-read packet is the only place to see the size in time, hence the look inside.
        if client._in_packet["remaining_length"] > self._payload_max + ENVELOPE_BYTES:  # noqa: SLF001  (see above)
            raise LinkLostError("oversized_packet")
        if client.loop_misc() is not MQTTErrorCode.MQTT_ERR_SUCCESS:
            raise LinkLostError("keepalive_missed")
        oldest_s = min(self._under_way.values(), default=None)
        if oldest_s is not None and time.monotonic() - oldest_s > PUBACK_S:
            raise LinkLostError("puback_overdue")
        while self._inbox:
            topic, payload = self._inbox.popleft()
            self._received(topic, payload)

    def _move_bytes(self, client: Client, sock: Any) -> None:
        """Sleep until there is something to do, then read and write once."""
        if self._bell is None:
            raise RuntimeError("only run() moves bytes")
        bell = self._bell[0]
        # Decrypted bytes that wait inside the TLS socket don't show in select.
        pending = isinstance(sock, ssl.SSLSocket) and sock.pending() > 0
        try:
            readable, writable, _ = select.select(
                [sock, bell], [sock] if client.want_write() else [], [], 0 if pending else TICK_S
            )
        except (OSError, ValueError) as error:
            raise LinkLostError("lost") from error
        if bell in readable:
            while drain(bell):
                pass
        if (pending or sock in readable) and client.loop_read() is not MQTTErrorCode.MQTT_ERR_SUCCESS:
            raise LinkLostError(self._over())
        if writable and client.loop_write() is not MQTTErrorCode.MQTT_ERR_SUCCESS:
            raise LinkLostError("lost")

    def _over(self) -> str:
        if self._connack is not None:
            return "lost"
        if self._settings.cert is not None:
            # In TLS 1.3 this side's handshake is over before the broker has looked at our certificate.
            self._trouble(
                f"{self._settings.host} hung up before it answered. Is {self._settings.cert} over, revoked, or of "
                "another authority? Else the broker's log says why."
            )
        return "closed_before_connack"

    def _feed(self, client: Client) -> None:
        """Give paho what its window holds, and never more: it would queue the rest."""
        while True:
            with self._lock:
                if not self._outgoing or len(self._under_way) >= WINDOW:
                    return
                message = self._outgoing.popleft()
                info = client.publish(message.topic, message.payload, qos=1, retain=message.retain)
                if info.rc is not MQTTErrorCode.MQTT_ERR_SUCCESS:
                    self.counts["dropped_unsent"] += 1
                    return
                self._under_way[info.mid] = time.monotonic()
            self.counts["published"] += 1

    # paho's callbacks: they only note what came.

    def _on_connect(
        self, _client: Client, _data: object, _flags: ConnectFlags, reason: ReasonCode, _properties: Properties | None
    ) -> None:
        self._connack = reason

    def _on_subscribe(
        self, _client: Client, _data: object, _mid: int, reasons: list[ReasonCode], _properties: Properties | None
    ) -> None:
        self._subscribed = not any(reason.is_failure for reason in reasons)

    def _on_publish(
        self, _client: Client, _data: object, mid: int, _reason: ReasonCode, _properties: Properties | None
    ) -> None:
        self._under_way.pop(mid, None)

    def _on_message(self, _client: Client, _data: object, message: MQTTMessage) -> None:
        if len(message.payload) > self._payload_max:
            self.counts["oversized"] += 1
            return
        if len(self._inbox) >= RECEIVED_MAX:
            self.counts["inbox_full"] += 1
            return
        try:
            topic = message.topic
        except UnicodeDecodeError:
            self.counts["odd_topic"] += 1
            return
        self._inbox.append((topic, bytes(message.payload)))
