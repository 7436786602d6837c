"""A card at a whole box, offline: the simulated chip on a pty, the worker, the core, and a door that obeys."""

from __future__ import annotations

import asyncio
import time
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import asynccontextmanager
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from cloud_sync.documents import decode_record
from cloud_sync.documents.card_keys import card_key
from hw.card_reader import Book, CardReader, CardReaderSettings, card_ref
from hw.desfire import SLOTS, personalise
from onboard.box import CardKeys, Devices
from onboard.core.commands import Action, Pattern
from onboard.core.events import AccessRequested, Intent, RemoteCredential
from onboard.core.grants import Assurance, CardGrant
from onboard.core.records import AccessDenied, Alert, CardCaptured
from sim.desfire import DesfireCard
from sim.pn532 import Pn532OnPty, Trouble
from tests.phone_rig import BOOKING, PhoneRig, listed_document, running

KEY, MASTER, SLOT = bytes(range(32)), bytes(range(16)), 3
UID = bytes.fromhex("04782e21801d80")
GRANT = CardGrant(card_ref(KEY, UID), Assurance.MUTUAL, card_key(MASTER, UID, SLOT), SLOT)
DEADLINE_S = 10.0


class CardRig(PhoneRig):
    """The box with a reader on a serial port of its own."""

    def __init__(self, directory: Path) -> None:
        super().__init__(directory, policy={"uid_cards": True})
        self.reader = Pn532OnPty()

    async def until(self, seen: Callable[[], bool]) -> None:
        give_up_s = time.monotonic() + DEADLINE_S
        while not seen():
            assert time.monotonic() < give_up_s
            await asyncio.sleep(0.01)

    async def records(self) -> list[object]:
        await self.quiet()
        rows = await self.box.store.rows(1, self.state.kept.outbox.last_seq)
        return [decode_record(row.payload) for row in rows]


@asynccontextmanager
async def card_rig(directory: Path) -> AsyncIterator[CardRig]:
    rig = CardRig(directory)
    settings = CardReaderSettings(rig.reader.open(), poll_interval_s=0.05)

    def reader(keys: CardKeys, capturing: Callable[[], bool]) -> Any:
        return CardReader(settings, rig.clock, KEY, book=Book(keys, capturing, rig.door.notice))

    try:
        async with running(rig, Devices(rig.door, (), card_reader=reader)):
            await rig.take(listed_document(replace(BOOKING, cards=(GRANT,))))
            yield rig
    finally:
        rig.reader.close()


def play(directory: Path, story: Callable[[CardRig], Awaitable[None]]) -> None:
    async def whole() -> None:
        async with card_rig(directory) as rig:
            await story(rig)

    asyncio.run(whole())


def written(master: bytes) -> DesfireCard:
    """Return a card with this number and another commune's keys, or ours."""
    card = DesfireCard(UID)
    personalise(card.apdu, {slot: card_key(master, UID, slot) for slot in range(SLOTS + 1)})
    card.field_off()
    return card


def test_a_card_of_the_communes_opens_the_car_offline(tmp_path: Path) -> None:
    async def story(rig: CardRig) -> None:
        rig.reader.present_chip(written(MASTER))
        await rig.until(lambda: rig.door.pulses == [Action.UNLOCK])
        assert rig.state.kept.rental is not None
        assert rig.door.shown == [Pattern.GRANTED]
        assert rig.door.noticed == 1
        assert not [each for each in await rig.records() if isinstance(each, AccessDenied | Alert)]

    play(tmp_path, story)


@pytest.mark.parametrize(
    "copy", [lambda: written(bytes(16)), lambda: DesfireCard(UID), None], ids=["another's keys", "no keys", "no chip"]
)
def test_a_copy_of_its_number_opens_nothing_and_is_told(tmp_path: Path, copy: Callable[[], DesfireCard] | None) -> None:
    async def story(rig: CardRig) -> None:
        if copy is None:
            rig.reader.present(UID.hex())
        else:
            rig.reader.present_chip(copy())
        await rig.until(lambda: rig.door.shown == [Pattern.DENIED])
        assert rig.door.pulses == []
        assert rig.state.kept.rental is None
        records = await rig.records()
        assert [each.reason for each in records if isinstance(each, AccessDenied)] == ["card_not_proven"]
        assert [each.kind for each in records if isinstance(each, Alert)] == ["card_copied"]

    play(tmp_path, story)


def test_a_copy_held_to_the_car_for_an_hour_is_told_once(tmp_path: Path) -> None:
    async def story(rig: CardRig) -> None:
        for number in range(3):
            rig.reader.present(UID.hex())
            await rig.until(lambda number=number: len(rig.door.shown) == number + 1)  # type: ignore[misc]
            rig.reader.remove()
            await asyncio.sleep(1.2)
            rig.clock.ahead_s += 5
        alerts = [each for each in await rig.records() if isinstance(each, Alert)]
        assert len(alerts) == 1

    play(tmp_path, story)


def test_a_residents_own_card_is_captured_at_the_car_and_a_known_one_is_not(tmp_path: Path) -> None:
    own = bytes.fromhex("04a1b2c3d4e5f6")

    async def held(rig: CardRig, uid: bytes, shown: int) -> None:
        rig.reader.present(uid.hex())
        await rig.until(lambda: len(rig.door.shown) == shown)
        rig.reader.remove()
        await asyncio.sleep(1.2)
        rig.clock.ahead_s += 5

    async def story(rig: CardRig) -> None:
        await held(rig, own, 1)
        who = RemoteCredential(bytes(16), b"c" * 16, rig.state.boot_epoch, 1, rig.clock.boot_s() + 30)
        await rig.send(AccessRequested(who, Intent.CAPTURE))
        await held(rig, UID, 3)
        await held(rig, own, 4)
        await held(rig, own, 5)
        assert rig.door.shown == [
            Pattern.DENIED,
            Pattern.GRANTED,
            Pattern.DENIED,
            Pattern.GRANTED,
            Pattern.DENIED,
        ]
        records = await rig.records()
        assert [each for each in records if isinstance(each, CardCaptured)] == [CardCaptured(b"c" * 16, own)]
        reasons = [each.reason for each in records if isinstance(each, AccessDenied)]
        assert reasons == ["unknown", "card_not_proven", "unknown"]
        assert rig.door.pulses == []

    play(tmp_path, story)


def test_a_slow_card_is_noticed_at_once_and_a_proof_from_far_away_opens_nothing(tmp_path: Path) -> None:
    async def story(rig: CardRig) -> None:
        card = written(MASTER)
        card.slow_s = 0.19
        began_s = time.monotonic()
        rig.reader.present_chip(card)
        await rig.until(lambda: rig.door.noticed == 1)
        noticed_s = time.monotonic() - began_s
        await rig.until(lambda: rig.door.shown == [Pattern.TRY_AGAIN])
        assert noticed_s < time.monotonic() - began_s - 0.3, "the light does not wait for the proof"
        assert rig.door.pulses == []

    play(tmp_path, story)


def test_a_frame_that_is_damaged_in_the_proof_costs_a_second_tap_and_no_more(tmp_path: Path) -> None:
    async def story(rig: CardRig) -> None:
        card = written(MASTER)
        answered = card.apdu

        def damage(command: bytes) -> bytes:
            card.apdu = answered  # type: ignore[method-assign]  # once
            rig.reader.chip.trouble = Trouble.DAMAGED_REPLY
            return answered(command)

        card.apdu = damage  # type: ignore[method-assign]  # the first answer goes out damaged
        rig.reader.present_chip(card)
        await rig.until(lambda: Pattern.TRY_AGAIN in rig.door.shown)
        assert rig.door.pulses == []
        rig.reader.chip.trouble = Trouble.NONE
        await rig.until(lambda: rig.door.pulses == [Action.UNLOCK])

    play(tmp_path, story)
