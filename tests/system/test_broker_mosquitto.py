"""Claims about sessions, wills and lost links, on a real mosquitto with the configuration that is shipped."""

from __future__ import annotations

import signal
import socket
import threading
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path

import pytest

from cloud_sync.documents import Offline, decode_ack, decode_reservation_list, encode_offline
from cloud_sync.endpoint import views
from cloud_sync.endpoint.ingest import Consumer
from cloud_sync.uplink import Uplink, UplinkSettings
from cloud_sync.wire import Topic
from onboard.core.events import Event, LinkReported
from onboard.core.records import Booted
from tests.broker_rig import Mosquitto
from tests.cloud_rig import EPOCH, WHOLE_RENTAL, Box, Cloud, make_cloud, wait_for

KEEPALIVE_S = 2


class Car:
    """A box's uplink in its thread, and what came down to it. ``port``: of something between it and the broker."""

    def __init__(self, broker: Mosquitto, box: Box, vehicle: str = "ami-1", port: int | None = None) -> None:
        self.events: list[Event] = []
        self.received: list[tuple[Topic, bytes]] = []
        self.box = box
        self.stop = threading.Event()
        self.emit = self.events.append
        settings = replace(broker.uplink(vehicle, keepalive_s=KEEPALIVE_S), port=port or broker.port)
        offline = encode_offline(Offline(vehicle, EPOCH), box.given.signing)
        self.uplink = Uplink(settings, offline, self.came, lambda: 0.0)
        self.thread = threading.Thread(target=self.uplink.run, args=(self,))
        self.thread.start()

    def beat(self) -> None:
        pass

    def came(self, topic: Topic, payload: bytes) -> None:
        self.received.append((topic, payload))

    def connected(self) -> bool:
        links = [event.connected for event in self.events if isinstance(event, LinkReported)]
        return links[-1:] == [True]

    def acked(self) -> int:
        acks = [payload for topic, payload in self.received if topic is Topic.ACK]
        return max((decode_ack(each, self.box.key_set, "ami-1").up_to_seq for each in acks), default=0)

    def close(self) -> None:
        self.stop.set()
        self.thread.join(20)
        assert not self.thread.is_alive()


@pytest.fixture
def broker(mosquitto: Path, tmp_path: Path) -> Iterator[Mosquitto]:
    made = Mosquitto(mosquitto, tmp_path / "broker")
    made.start()
    yield made
    made.kill()


@pytest.fixture
def cloud(tmp_path: Path) -> Iterator[Cloud]:
    made = make_cloud(tmp_path / "cloud")
    yield made
    made.store.close()


@pytest.fixture
def box(cloud: Cloud) -> Box:
    made = cloud.add("ami-1")
    made.write(*WHOLE_RENTAL)
    return made


@pytest.fixture
def consumer(broker: Mosquitto, cloud: Cloud, box: Box) -> Iterator[Consumer]:
    assert box.given.vehicle == "ami-1"
    made = make_consumer(broker, cloud)
    wait_for(lambda: made.connected)
    yield made
    made.stop()


def make_consumer(broker: Mosquitto, cloud: Cloud) -> Consumer:
    made = Consumer(broker.cloud(keepalive_s=KEEPALIVE_S), cloud.ingest)
    made.start()
    return made


@pytest.fixture
def car(broker: Mosquitto, box: Box) -> Iterator[Car]:
    made = Car(broker, box)
    wait_for(made.connected)
    yield made
    made.close()


def online(cloud: Cloud) -> bool:
    with cloud.store.read() as db:
        return views.vehicles(db)[0].online


def rows(cloud: Cloud) -> list[int]:
    with cloud.store.read() as db:
        return [event.seq for event in views.timeline(db, 0, None, 500, newest=False)]


def test_a_rental_arrives_once_though_its_batch_is_sent_three_times(cloud: Cloud, consumer: Consumer, car: Car) -> None:
    assert consumer.connected
    for _ in range(3):
        assert car.uplink.publish(Topic.BATCH, car.box.batch(1, 5))
    wait_for(lambda: [topic for topic, _ in car.received].count(Topic.ACK) == 3)
    assert car.acked() == 5
    assert rows(cloud) == [1, 2, 3, 4, 5]
    with cloud.store.read() as db:
        assert len(views.trips(db, None)) == len(views.rentals(db, None)) == 1


@pytest.mark.usefixtures("consumer")
def test_the_retained_keys_and_list_wait_for_a_box_that_connects_later(car: Car) -> None:
    wait_for(lambda: {Topic.KEYS, Topic.LIST} <= {topic for topic, _ in car.received})
    document = next(payload for topic, payload in car.received if topic is Topic.LIST)
    given = car.box.given
    assert decode_reservation_list(document, car.box.key_set, given.agreement, "ami-1").vehicle == "ami-1"


@pytest.mark.usefixtures("consumer")
def test_a_car_that_falls_silent_is_reported_by_its_will(broker: Mosquitto, cloud: Cloud, box: Box) -> None:
    relay = Relay(broker.port)
    car = Car(broker, box, port=relay.port)
    try:
        wait_for(car.connected)
        assert car.uplink.publish(Topic.STATUS, box.status())
        wait_for(lambda: online(cloud))
        relay.hold()  # the radio is gone: nobody closes a socket, nothing passes
        wait_for(lambda: not online(cloud))
        wait_for(lambda: not car.connected())
        relay.release()
        wait_for(car.connected)
        assert car.uplink.publish(Topic.STATUS, box.status())
        wait_for(lambda: online(cloud))
    finally:
        car.close()
        relay.close()


@pytest.mark.usefixtures("consumer")
def test_a_box_that_stops_is_offline_at_once(cloud: Cloud, car: Car) -> None:
    assert car.uplink.publish(Topic.STATUS, car.box.status())
    wait_for(lambda: online(cloud))
    car.close()
    wait_for(lambda: not online(cloud))


def test_a_frozen_broker_is_left_and_found_again(broker: Mosquitto, consumer: Consumer, car: Car) -> None:
    broker.signal(signal.SIGSTOP)
    try:
        wait_for(lambda: not car.connected() and not consumer.connected)
        assert not car.uplink.publish(Topic.BATCH, car.box.batch(1, 5))
    finally:
        broker.signal(signal.SIGCONT)
    wait_for(lambda: car.connected() and consumer.connected)
    assert car.uplink.publish(Topic.BATCH, car.box.batch(1, 5))
    wait_for(lambda: car.acked() == 5)


def test_after_a_killed_broker_the_window_sent_again_fills_the_log_without_a_double(
    broker: Mosquitto, cloud: Cloud, consumer: Consumer, car: Car
) -> None:
    car.box.write(*(Booted("0.1", number) for number in range(35)))
    for first in range(1, 41, 5):
        assert car.uplink.publish(Topic.BATCH, car.box.batch(first, first + 4))
        if first == 16:
            wait_for(lambda: rows(cloud))
            broker.kill()
            break
    wait_for(lambda: not car.connected() and not consumer.connected)
    broker.start()
    wait_for(lambda: car.connected() and consumer.connected)
    # As a core does that got no acknowledgement before: everything again, some of which the endpoint has.
    for first in range(1, 41, 5):
        assert car.uplink.publish(Topic.BATCH, car.box.batch(first, first + 4))
    wait_for(lambda: car.acked() == 40)
    assert rows(cloud) == list(range(1, 41))
    assert cloud.ingest.counts["rows_again"] >= 5
    wait_for(lambda: {Topic.KEYS, Topic.LIST} <= {topic for topic, _ in car.received})


def test_what_was_sent_while_the_endpoint_was_away_is_lost_and_its_resending_is_enough(
    broker: Mosquitto, cloud: Cloud, car: Car
) -> None:
    assert car.uplink.publish(Topic.BATCH, car.box.batch(1, 2))
    wait_for(lambda: car.uplink.counts["published"] == 1 and not car.uplink._carrier._under_way)  # PUBACKed
    late = make_consumer(broker, cloud)
    try:
        wait_for(lambda: late.connected)
        assert car.uplink.publish(Topic.BATCH, car.box.batch(3, 5))
        wait_for(lambda: Topic.RESEND in [topic for topic, _ in car.received])
        assert (car.acked(), rows(cloud)) == (0, [3, 4, 5])
        assert car.uplink.publish(Topic.BATCH, car.box.batch(1, 2))
        wait_for(lambda: car.acked() == 5)
    finally:
        late.stop()


@pytest.mark.usefixtures("consumer")
def test_the_access_list_keeps_a_box_in_its_own_tree(broker: Mosquitto, cloud: Cloud, box: Box) -> None:
    stranger = Car(broker, cloud.add("ami-2"), "ami-2")
    try:
        wait_for(stranger.connected)
        forged = stranger.uplink
        forged._settings = UplinkSettings("127.0.0.1", broker.port, "ami-1")
        assert forged.publish(Topic.BATCH, box.batch(1, 5))  # to the topic of ami-1, with the login of ami-2
        forged._settings = UplinkSettings("127.0.0.1", broker.port, "ami-2")
        assert forged.publish(Topic.BATCH, stranger.box.status())  # refused by the endpoint, but it came through
        wait_for(lambda: cloud.ingest.refused["not_sealed"] == 1)
        assert rows(cloud) == []
        assert sum(cloud.ingest.refused.values()) == 1
    finally:
        stranger.close()


class Relay:
    """Carries bytes between a client and the broker, and can stop carrying without closing anything."""

    def __init__(self, target: int) -> None:
        self._target = target
        self._server = socket.create_server(("127.0.0.1", 0))
        self.port = int(self._server.getsockname()[1])
        self._flow = threading.Event()
        self._flow.set()
        self._stop = threading.Event()
        self._server.settimeout(0.05)
        self._threads = [threading.Thread(target=self._accept)]
        self._threads[0].start()

    def hold(self) -> None:
        self._flow.clear()

    def release(self) -> None:
        self._flow.set()

    def close(self) -> None:
        self._stop.set()
        self._flow.set()
        for thread in self._threads:
            thread.join(20)
        self._server.close()

    def _accept(self) -> None:
        while not self._stop.is_set():
            try:
                near, _ = self._server.accept()
            except TimeoutError:
                continue
            far = socket.create_connection(("127.0.0.1", self._target))
            pair = threading.Thread(target=self._pair, args=(near, far))
            self._threads.append(pair)
            pair.start()

    def _pair(self, near: socket.socket, far: socket.socket) -> None:
        with near, far:
            both = [threading.Thread(target=self._carry, args=ends) for ends in ((near, far), (far, near))]
            for thread in both:
                thread.start()
            for thread in both:
                thread.join()

    def _carry(self, source: socket.socket, sink: socket.socket) -> None:
        source.settimeout(0.05)
        while not self._stop.is_set():
            try:
                data = source.recv(65536)
            except TimeoutError:
                continue
            except OSError:
                data = b""
            while not self._flow.wait(0.05):
                if self._stop.is_set():
                    return
            try:
                if not data:
                    sink.shutdown(socket.SHUT_RDWR)
                    return
                sink.sendall(data)
            except OSError:
                return
