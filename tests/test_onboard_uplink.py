"""How a whole box uses its uplink."""

from __future__ import annotations

import asyncio
from dataclasses import replace
from pathlib import Path

from cloud_sync.uplink import UplinkSettings
from onboard.__main__ import BUILD_S
from onboard.box import Box, Devices
from onboard.core.clock import Anchor, ClockQuality
from onboard.core.events import TimeHeard
from onboard.notify import Notifier
from tests.cloud_rig import free_port
from tests.document_rig import CAR
from tests.test_onboard_box import Watcher, setting


def test_the_uplink_judges_certificates_by_the_signed_time_that_the_box_keeps(tmp_path: Path) -> None:
    async def whole() -> None:
        given = replace(setting(tmp_path), uplink=UplinkSettings("127.0.0.1", free_port(), CAR))
        box = Box(given)
        started = asyncio.Event()
        try:
            await box.open(Devices(Watcher([]), ()))
            running = asyncio.create_task(box.run(Notifier({}), started.set))
            await asyncio.wait_for(started.wait(), 20)
            assert box._uplink is not None
            known_s = box._uplink._carrier._settings.known_s
            assert known_s is not None
            assert known_s() == BUILD_S
            for quality, said_s, then_s in (
                (ClockQuality.GNSS, BUILD_S + 2e6, BUILD_S),  # what the sky says proves nothing
                (ClockQuality.AUTHENTICATED, BUILD_S + 1e6, BUILD_S + 1e6),
            ):
                await box.reactor.handle(TimeHeard(Anchor(given.clock.boot_s(), said_s, said_s, quality)))
                assert box.reactor.state.anchor is not None
                assert known_s() == then_s
            box.stop()
            await asyncio.wait_for(running, 20)
        finally:
            await box.close()

    asyncio.run(whole())
