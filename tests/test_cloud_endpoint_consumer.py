"""The endpoint's ear at the broker goes on whatever one message does to it."""

from __future__ import annotations

from pathlib import Path

import pytest
from sqlalchemy.exc import OperationalError

from cloud_sync.carrier_settings import CarrierSettings, Outgoing
from cloud_sync.endpoint import ingest
from cloud_sync.endpoint.ingest import Consumer
from tests.cloud_rig import BareBroker, make_cloud, wait_for


def test_a_message_that_breaks_the_endpoint_does_not_make_it_deaf(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(ingest, "RESTART_S", 0.01)
    cloud, broker = make_cloud(tmp_path / "cloud"), BareBroker()
    heard: list[bytes] = []

    def handle(_topic: str, payload: bytes, _now_s: float) -> list[Outgoing]:
        heard.append(payload)
        if payload == b"full":
            raise OperationalError("INSERT", {}, OSError("disk full"))
        if payload == b"odd":
            raise RuntimeError("nobody thought of this")
        return []

    monkeypatch.setattr(cloud.ingest, "handle", handle)
    settings = CarrierSettings("127.0.0.1", broker.port, "cloud", backoff_first_s=0.01, backoff_longest_s=0.1)
    consumer = Consumer(settings, cloud.ingest)
    consumer.start()
    try:
        wait_for(lambda: consumer.connected)
        broker.publish("amibox/v1/ami-1/up/batch", b"full")
        wait_for(lambda: "nothing is acknowledged" in consumer.trouble)
        assert (cloud.ingest.counts["database_failed"], broker.connections) == (1, 1)
        broker.publish("amibox/v1/ami-1/up/batch", b"odd")
        wait_for(lambda: cloud.ingest.counts["consumer_failed"] == 1)
        wait_for(lambda: broker.connections == 2 and consumer.connected)
        broker.publish("amibox/v1/ami-1/up/batch", b"even")
        wait_for(lambda: heard == [b"full", b"odd", b"even"])
    finally:
        consumer.stop()
        broker.close()
        cloud.store.close()
