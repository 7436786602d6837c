"""The uplink: what it promises, on a bare socket that says exactly what a test wants, and on the demo's broker."""

from __future__ import annotations

import ssl
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest

from cloud_sync.carrier import Carrier, LinkNews
from cloud_sync.carrier_settings import CarrierSettings, Outgoing, backoff_s, is_loopback
from cloud_sync.mqtt_client import WINDOW
from cloud_sync.uplink import Uplink, UplinkSettings
from cloud_sync.wire import MAX_PAYLOAD_BYTES, Topic, build_topic, cloud_subscriptions
from onboard.core.commands import Loads
from onboard.core.events import Event, FaultReported, LinkReported
from sim.broker import EmbeddedBroker
from tests.cloud_rig import BareBroker, free_port, wait_for

CONNECT, PUBLISH = 1, 3
OFFLINE = b"the signed offline document"


class Life:
    """What a reactor gives a worker."""

    def __init__(self) -> None:
        self.events: list[Event] = []
        self.beats = 0
        self.stop = threading.Event()

    def emit(self, event: Event) -> None:
        self.events.append(event)

    def beat(self) -> None:
        self.beats += 1


class Running:
    """An uplink in its thread."""

    def __init__(self, settings: UplinkSettings) -> None:
        self.life = Life()
        self.received: list[tuple[Topic, bytes]] = []
        self.uplink = Uplink(settings, OFFLINE, self.came, lambda: 0.0)
        self.thread = threading.Thread(target=self.uplink.run, args=(self.life,))

    def came(self, topic: Topic, payload: bytes) -> None:
        self.received.append((topic, payload))

    def links(self) -> list[bool]:
        return [event.connected for event in self.life.events if isinstance(event, LinkReported)]

    def connected(self) -> bool:
        return self.links()[-1:] == [True]


def settings(port: int, **changes: object) -> UplinkSettings:
    fast: dict[str, object] = {"backoff_first_s": 0.02, "backoff_longest_s": 0.1, **changes}
    return UplinkSettings("127.0.0.1", port, "ami-1", **fast)  # type: ignore[arg-type]  # a test's words


@contextmanager
def running(chosen: UplinkSettings) -> Iterator[Running]:
    run = Running(chosen)
    run.thread.start()
    try:
        yield run
    finally:
        run.life.stop.set()
        run.thread.join(20)
        assert not run.thread.is_alive()


@pytest.fixture
def bare() -> Iterator[Callable[..., BareBroker]]:
    made: list[BareBroker] = []

    def make(**how: bool) -> BareBroker:
        made.append(BareBroker(**how))
        return made[-1]

    yield make
    for broker in made:
        broker.close()


def test_the_wait_doubles_up_to_its_bound_and_jitter_only_shortens_it_by_up_to_half() -> None:
    assert [backoff_s(n, 1.0, 600.0, 0.0) for n in (1, 2, 3, 10, 11, 5000)] == [1, 2, 4, 512, 600, 600]
    assert backoff_s(3, 1.0, 600.0, 0.999) == pytest.approx(2.0, abs=0.01)


def test_without_a_modem_no_connection_is_tried_and_with_it_again_one_is_at_once(
    bare: Callable[..., BareBroker],
) -> None:
    """The longest wait between two tries is ten minutes, and a modem's look two: it must not be slept through."""
    with running(settings(bare().port)) as run:
        wait_for(run.connected)
        run.uplink.set_loads(Loads(modem=False))
        wait_for(lambda: run.links() == [True, False])
        wait_for(lambda: run.uplink.counts["rests"])
        assert not run.uplink.counts["unreachable"]
        run.uplink.set_loads(Loads())
        wait_for(run.connected)
    with running(settings(free_port(), backoff_first_s=300.0, backoff_longest_s=600.0)) as run:
        wait_for(lambda: run.uplink.counts["unreachable"] == 1)
        run.uplink.set_loads(Loads(modem=False))
        wait_for(lambda: run.uplink.counts["rests"])
        run.uplink.set_loads(Loads())
        wait_for(lambda: run.uplink.counts["unreachable"] == 2)


def test_a_password_is_not_shown_and_does_not_travel_in_clear() -> None:
    with pytest.raises(ValueError, match="without TLS"):
        UplinkSettings("broker.example.org", 1883, "ami-1", "ami-1", "secret-word").carrier(lambda: 0.0)
    assert "secret-word" not in repr(
        UplinkSettings("127.0.0.1", 1883, "ami-1", "ami-1", "secret-word").carrier(lambda: 0.0)
    )
    assert is_loopback("::1")
    assert not is_loopback("127.0.0.1.example.org")


def test_a_certificate_without_its_key_is_a_mistake_in_the_settings() -> None:
    with pytest.raises(ValueError, match="key file"):
        UplinkSettings("b.example.org", 8883, "ami-1", ca=Path("ca"), cert=Path("cert")).carrier(lambda: 0.0)


def test_nothing_is_taken_while_there_is_no_connection() -> None:
    uplink = Uplink(settings(free_port()), OFFLINE, lambda _topic, _payload: None, lambda: 0.0)
    assert not uplink.publish(Topic.BATCH, b"x")
    assert uplink.counts["not_connected"] == 1


def test_a_box_publishes_neither_downward_nor_what_no_document_can_be() -> None:
    uplink = Uplink(settings(free_port()), OFFLINE, lambda _topic, _payload: None, lambda: 0.0)
    for channel, payload in ((Topic.ACK, b"x"), (Topic.BATCH, b""), (Topic.BATCH, bytes(MAX_PAYLOAD_BYTES + 1))):
        with pytest.raises(ValueError, match=r"."):
            uplink.publish(channel, payload)


def test_it_connects_with_a_clean_session_its_own_name_and_the_offline_document_as_will(
    bare: Callable[..., BareBroker],
) -> None:
    broker = bare()
    with running(settings(broker.port, username="ami-1", password="word", keepalive_s=33)) as run:
        wait_for(run.connected)
        _, _, body = broker.take(CONNECT)
    assert body[:7] == b"\x00\x04MQTT\x04"
    flags = body[7]
    assert flags & 0x02, "clean session"
    assert flags & 0x3C == 0x0C, "a will of QoS 1 that is not retained"
    assert int.from_bytes(body[8:10], "big") == 33
    assert body[10:].startswith(b"\x00\x05ami-1\x00\x19amibox/v1/ami-1/up/status")
    assert OFFLINE in body


def test_what_a_lost_connection_did_not_deliver_is_not_sent_again(bare: Callable[..., BareBroker]) -> None:
    broker = bare()  # gives no PUBACK
    with running(settings(broker.port)) as run:
        wait_for(run.connected)
        assert all(run.uplink.publish(Topic.BATCH, b"batch %d" % n) for n in range(5))
        for _ in range(5):
            broker.take(PUBLISH)
        broker.drop()
        wait_for(lambda: run.links() == [True, False, True])
        assert run.uplink.publish(Topic.STATUS, b"the first of the new connection")
        connection, _, body = broker.take(PUBLISH)
        assert connection == 2
        assert body.endswith(b"the first of the new connection")
        assert broker.left(PUBLISH) == 0
    assert run.uplink.counts["dropped_unacknowledged"] == 6  # five, and the last one at the stop


def test_the_window_is_bounded_and_opens_with_each_puback(bare: Callable[..., BareBroker]) -> None:
    broker = bare()
    with running(settings(broker.port)) as run:
        wait_for(run.connected)
        taken = [run.uplink.publish(Topic.BATCH, b"batch") for _ in range(WINDOW + 5)]
        assert taken == [True] * WINDOW + [False] * 5
        _, _, body = broker.take(PUBLISH)
        size = int.from_bytes(body[:2], "big")
        broker.send(b"\x40\x02" + body[2 + size : 4 + size])
        wait_for(lambda: run.uplink.publish(Topic.BATCH, b"one more"))
    assert run.uplink.counts["window_full"] >= 5


def test_documents_of_this_car_are_handed_over_and_all_other_topics_counted(bare: Callable[..., BareBroker]) -> None:
    broker = bare()
    with running(settings(broker.port)) as run:
        wait_for(run.connected)
        broker.publish("amibox/v1/ami-2/down/list", b"another car's")
        broker.publish("amibox/v1/ami-1/up/batch", b"our own voice")
        broker.publish("amibox/v2/ami-1/down/list", b"another version")
        broker.publish("amibox/v1/ami-1/down/list/more", b"no topic")
        broker.publish(build_topic("ami-1", Topic.ACK), b"")
        broker.publish(build_topic("ami-1", Topic.ACK), bytes(MAX_PAYLOAD_BYTES + 1))
        broker.publish(build_topic("ami-1", Topic.ACK), b"a real one")
        wait_for(lambda: run.received)
        assert run.received == [(Topic.ACK, b"a real one")]
        assert run.connected()
    counts = run.uplink.counts
    found = {name: counts[name] for name in ("odd_topic", "bad_topic", "not_cbor", "oversized", "received")}
    assert found == {"odd_topic": 2, "bad_topic": 2, "not_cbor": 1, "oversized": 1, "received": 1}


def test_a_packet_that_announces_a_monstrous_size_ends_the_connection_before_it_is_read(
    bare: Callable[..., BareBroker],
) -> None:
    broker = bare()
    with running(settings(broker.port)) as run:
        wait_for(run.connected)
        broker.send(b"\x30\xff\xff\xff\x7f" + bytes(1000))  # 256 MiB less a byte
        wait_for(lambda: run.links() == [True, False, True])
    assert run.uplink.counts["oversized_packet"] == 1
    assert not run.received


def test_a_direction_that_is_dead_is_noticed_and_a_new_connection_made(bare: Callable[..., BareBroker]) -> None:
    broker = bare(puback=True)
    with running(settings(broker.port, one_way_s=0.1)) as run:
        wait_for(run.connected)
        assert run.uplink.publish(Topic.BATCH, b"nobody answers")
        wait_for(lambda: run.links() == [True, False, True])
    assert run.uplink.counts["one_way"] == 1


def test_it_beats_and_stops_within_a_second_though_the_broker_never_answers(bare: Callable[..., BareBroker]) -> None:
    broker = bare(answer=False)
    with running(settings(broker.port)) as run:
        broker.take(CONNECT)
        beats = run.life.beats
        wait_for(lambda: run.life.beats > beats)
        run.life.stop.set()
        since_s = time.monotonic()
        run.thread.join(20)
        assert time.monotonic() - since_s < 1.0
    assert run.links() == []


def test_a_ca_file_that_is_none_is_told_to_a_person(bare: Callable[..., BareBroker], tmp_path: Path) -> None:
    ca = tmp_path / "ca.pem"
    ca.write_text(ssl.DER_cert_to_PEM_cert(b"no certificate"))
    with running(settings(bare().port, ca=ca)) as run:
        wait_for(lambda: run.life.events)
        assert isinstance(run.life.events[0], FaultReported)
        assert "TLS" in run.life.events[0].detail
    assert run.uplink.counts["bad_certificate"] >= 1


@pytest.fixture
def broker(tmp_path: Path) -> Iterator[tuple[EmbeddedBroker, int]]:
    embedded = EmbeddedBroker(tmp_path, {"ami-1": "word", "cloud": "other"})
    port = free_port()
    embedded.start(port)
    yield embedded, port
    embedded.stop()


@contextmanager
def cloud_side(port: int) -> Iterator[tuple[Carrier, list[tuple[str, bytes]]]]:
    heard: list[tuple[str, bytes]] = []
    stop = threading.Event()
    how = CarrierSettings("127.0.0.1", port, "cloud", "cloud", "other", backoff_first_s=0.02, backoff_longest_s=0.1)

    def linked(_news: LinkNews) -> None:
        pass

    def received(topic: str, payload: bytes) -> None:
        heard.append((topic, payload))

    carrier = Carrier(
        how, subscriptions=cloud_subscriptions(), payload_max=MAX_PAYLOAD_BYTES, received=received, linked=linked
    )
    thread = threading.Thread(target=carrier.run, args=(lambda: None, stop))
    thread.start()
    try:
        wait_for(lambda: carrier.connected)
        yield carrier, heard
    finally:
        stop.set()
        thread.join(20)


def test_documents_pass_both_ways_over_a_broker_and_again_after_it_was_away(
    broker: tuple[EmbeddedBroker, int],
) -> None:
    embedded, port = broker
    chosen = settings(port, username="ami-1", password="word")
    with cloud_side(port) as (cloud, heard), running(chosen) as run:
        wait_for(run.connected)
        assert run.uplink.publish(Topic.BATCH, b"first")
        wait_for(lambda: (build_topic("ami-1", Topic.BATCH), b"first") in heard)
        assert cloud.publish(Outgoing(build_topic("ami-1", Topic.LIST), b"list", retain=True))
        wait_for(lambda: (Topic.LIST, b"list") in run.received)

        embedded.stop()
        wait_for(lambda: run.links() == [True, False])
        assert not run.uplink.publish(Topic.BATCH, b"while it was away")
        embedded.start(port)
        wait_for(lambda: run.connected() and cloud.connected)
        assert run.uplink.publish(Topic.BATCH, b"second")
        wait_for(lambda: (build_topic("ami-1", Topic.BATCH), b"second") in heard)
        assert [payload for _, payload in heard].count(b"first") == 1
        assert b"while it was away" not in [payload for _, payload in heard]


def test_a_wrong_password_is_a_fault_for_a_person_and_no_link(broker: tuple[EmbeddedBroker, int]) -> None:
    _, port = broker
    with running(settings(port, username="ami-1", password="wrong")) as run:
        wait_for(lambda: any(isinstance(event, FaultReported) and event.active for event in run.life.events))
    assert run.links() == []
    assert run.uplink.counts["refused_credentials"] >= 1


def test_a_stopped_uplink_lets_the_broker_publish_its_will(broker: tuple[EmbeddedBroker, int]) -> None:
    _, port = broker
    with cloud_side(port) as (_, heard):
        with running(settings(port, username="ami-1", password="word")) as run:
            wait_for(run.connected)
        wait_for(lambda: (build_topic("ami-1", Topic.STATUS), OFFLINE) in heard)
