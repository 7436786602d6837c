"""A crowd of strangers at the car: endless connections, half writes and garbage, and one good phone among them."""

from __future__ import annotations

import asyncio
import secrets
from pathlib import Path

from cloud_sync.documents.conversation import Op, Wish, framed
from onboard.core.gatt import COMMAND, HELLO, RESULT
from onboard.handshake import LINES_MAX
from sim.phone import GattError, visit
from tests.phone_rig import BOOKING, PhoneRig, listed_document, phone_rig, wallet

STRANGERS = 1000
"""In the minute that the story takes by the box's clock."""
SERVED_S = 2.0


async def stranger(rig: PhoneRig, number: int) -> None:
    """Connect and be a nuisance, each in another way; never hang up."""
    line = rig.call()
    try:
        await line.read(HELLO)
        if number % 3 == 0:
            await line.write(COMMAND, framed(secrets.token_bytes(200))[:100])
        elif number % 3 == 1:
            await line.write(COMMAND, framed(b"\1" + secrets.token_bytes(152)))
        await line.read(RESULT)
    except GattError:
        pass


def test_a_flood_neither_keeps_a_good_phone_out_nor_fills_the_disk(tmp_path: Path) -> None:
    async def story() -> None:
        async with phone_rig(tmp_path) as rig:
            await rig.take(listed_document(BOOKING))
            good = wallet(BOOKING)
            waits: list[float] = []
            for number in range(STRANGERS):
                rig.clock.ahead_s += 60 / STRANGERS
                await stranger(rig, number)
                if number % 50 == 25:
                    # Two strangers come for each step of the good phone.
                    gatt = rig.call()
                    began_s = asyncio.get_running_loop().time()
                    op = Op.UNLOCK if number < 50 else Op.STATUS
                    visiting = asyncio.create_task(visit(gatt, good, Wish(secrets.token_bytes(16), op)))
                    while not visiting.done():
                        await stranger(rig, number)
                        await asyncio.sleep(0)
                    assert (await visiting).answer.status in ("granted", "ok")
                    waits.append(asyncio.get_running_loop().time() - began_s)
                    rig.box.phones.gone(gatt.name)
                    rig.door.report()
            assert len(waits) == STRANGERS // 50
            assert max(waits) < SERVED_S
            await rig.quiet()
            lines = rig.box.phones._handshake._lines
            assert len(lines) <= LINES_MAX
            refused = await rig.refusals()
            written = sum(reason == "not_understood" for reason, _ in refused)
            assert 0 < written <= rig.state.policy.refusals_per_hour_max
            assert rig.box.reactor.counts["events_dropped"] == 0, "nothing else was pushed aside"
            assert rig.box.phones.counts["not_sealed_to_us"] > STRANGERS // 4
            assert rig.box.phones.counts["evicted"] > STRANGERS // 2

    asyncio.run(story())


def test_half_a_message_is_forgotten_with_its_silence(tmp_path: Path) -> None:
    async def story() -> None:
        async with phone_rig(tmp_path) as rig:
            half = rig.call()
            await half.read(HELLO)
            for _ in range(40):
                await half.write(COMMAND, b"\4\0"[:1] if _ == 0 else b"\0")
            rig.clock.ahead_s += 6
            assert rig.box.phones.idle() == (half.name,)
            assert not rig.box.phones._handshake._lines

    asyncio.run(story())
