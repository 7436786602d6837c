"""A month without network, drained as in a car: by the box's own uplink, over a real mosquitto, with TLS."""

from __future__ import annotations

import asyncio
from pathlib import Path

from cloud_sync.endpoint.ingest import Consumer
from sim.month import Month, Plan
from sim.offline import judge
from sim.week_town import VEHICLE
from tests.broker_rig import Mosquitto


class BrokerMonth(Month):
    """A month whose commune hears the broker, once there is network."""

    commune: Consumer | None = None

    def __init__(self, folder: Path, plan: Plan, broker: Mosquitto) -> None:
        super().__init__(folder, plan, lambda _text: None, broker.uplink(VEHICLE))
        self._broker = broker

    async def _network(self) -> None:
        self.commune = Consumer(self._broker.cloud(), self.town.ingest, self.car.wall_s)
        self.commune.start()
        await super()._network()


def test_a_month_is_drained_over_mosquitto_without_loss_or_double(mosquitto: Path, tmp_path: Path) -> None:
    plan = Plan(days=30, events=2000)
    broker = Mosquitto(mosquitto, tmp_path / "broker")
    broker.start()
    month = BrokerMonth(tmp_path, plan, broker)
    try:
        result = asyncio.run(month.play())
    finally:
        if month.commune is not None:
            month.commune.stop()
        broker.kill()
    assert [check.name for check in judge(result, plan) if not check.holds] == []
    assert month.commune is not None
    assert month.commune.counts["published"] >= 2000 / 50, "acknowledgements went over the broker"
