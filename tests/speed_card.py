"""``make bench``: from a card in the reader's field to the relay's line, by its number and by proof, in one run.

The reader is the simulated PN532 on a pty, at the pace of 115,200 Bd: each byte takes its time, either way. What the
field and a real card take comes on top (some 30 to 60 ms for a proof, an estimate; nothing of it was measured). The
clock starts with the first byte of the reader's list with the card in it; until then it waits for the next look, 0.25 s
at most. The floor is what no reader can do without: the time of those bytes on the line, and the commit and the GPIO
write of ``tests.speed_phone``; above 1.5 times that the exit code says so, as it does there.
"""

from __future__ import annotations

import asyncio
import os
import statistics
import sys
import tempfile
import time
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

from gpiozero.pins.mock import MockFactory

from cloud_sync.documents.card_keys import card_key
from hw.card_reader import Book, CardReader, CardReaderSettings, Target, card_ref
from hw.desfire import SLOTS, personalise
from hw.interlock import Interlock
from onboard.box import CardKeys, Devices
from onboard.core.events import AccessRequested, CardsRefused
from onboard.core.grants import Assurance, CardGrant
from onboard.notify import Notifier
from sim.desfire import DesfireCard
from sim.pn532 import Pn532OnPty
from tests.phone_rig import BOOKING, PhoneRig, listed_document
from tests.speed_phone import LOCK_CONTACT, SETTINGS, SHUT, WANTED, Floor, TimedDoor

ROUNDS = max(1, int(os.environ.get("CARD_ROUNDS", "10")))
BYTE_S = 10 / 115_200
WANTED_MS = {"uid": 60.0, "mutual": 150.0}
LIGHT_MS = 200.0
LED = 20
KEY, MASTER, SLOT = bytes(range(32)), bytes(range(16)), 1
UIDS = {"uid": bytes.fromhex("04a1b2c3d4e5f6"), "mutual": bytes.fromhex("04782e21801d80")}
DEADLINE_S = 10.0


class Rounds:
    """Milliseconds, by the sort of card: to the relay, to the light, and of the floor."""

    def __init__(self) -> None:
        self.moved: dict[str, list[float]] = {sort: [] for sort in UIDS}
        self.lit: dict[str, list[float]] = {sort: [] for sort in UIDS}
        self.floor: dict[str, list[float]] = {sort: [] for sort in UIDS}


class TimedReader(CardReader):
    """The worker, which notes how long bytes were on the line when it had heard a card to its end."""

    pty: Pn532OnPty
    line_s = 0.0

    def _heard(self, uid: bytes, target: Target) -> AccessRequested | CardsRefused:
        heard = super()._heard(uid, target)
        TimedReader.line_s = self.pty.line_s
        return heard


async def measure(folder: Path) -> Rounds:
    """Tap in turns with the one card and the other."""
    rig, pins, interlock = PhoneRig(folder, policy={"uid_cards": True}), MockFactory(), Interlock()
    door = TimedDoor(rig, interlock, pins, replace(SETTINGS, led_pin=LED))
    reader, floor, rounds = Pn532OnPty(), Floor(folder), Rounds()
    settings = CardReaderSettings(reader.open())

    def card_reader(keys: CardKeys, capturing: Callable[[], bool]) -> Any:
        worker = TimedReader(settings, rig.clock, KEY, book=Book(keys, capturing, door.notice))
        worker.pty = reader
        return worker

    workers: tuple[Any, ...] = (door,)
    await rig.box.open(Devices(door, workers, (interlock.note,), card_reader=card_reader))
    started = asyncio.Event()
    running = asyncio.create_task(rig.box.run(Notifier({}), started.set))
    await started.wait()
    for pin in (*SHUT, LOCK_CONTACT):
        pins.pin(pin).drive_low()  # now that the door has claimed them: shut, and locked
    await asyncio.sleep(0.2)
    await rig.parked()
    await rig.at(0)
    await rig.take(listed_document(replace(BOOKING, cards=grants())))
    chip = DesfireCard(UIDS["mutual"])
    personalise(chip.apdu, {slot: card_key(MASTER, UIDS["mutual"], slot) for slot in range(SLOTS + 1)})
    reader.byte_s = BYTE_S
    for number in range(ROUNDS):
        # Each sort in turn opens and locks.
        for sort, uid in sorted(UIDS.items(), reverse=bool(number % 2)):
            before = door.pulses
            if sort == "uid":
                reader.present(uid.hex(), sak=0x20)
            else:
                chip.field_off()
                reader.present_chip(chip)
            await _pulse(door, before)
            listed_s = reader.listed_s  # before the next look lists it again
            rounds.moved[sort].append((door.rose_s - listed_s) * 1000)
            await rig.settled()
            rounds.lit[sort].append((door.lit_s - listed_s) * 1000)
            rounds.floor[sort].append((TimedReader.line_s + floor.took()) * 1000)
            reader.remove()
            await asyncio.sleep(2.0)  # the light goes out
            rig.clock.ahead_s += 30  # the relays' rate allows so many, and the card counts anew
            await asyncio.sleep(1.3)
    rig.box.stop()
    await running
    await rig.box.close()
    reader.close()
    return rounds


def grants() -> tuple[CardGrant, CardGrant]:
    """Return what the car knows of both cards."""
    key = card_key(MASTER, UIDS["mutual"], SLOT)
    return (
        CardGrant(card_ref(KEY, UIDS["uid"]), Assurance.UID),
        CardGrant(card_ref(KEY, UIDS["mutual"]), Assurance.MUTUAL, key, SLOT),
    )


async def _pulse(door: TimedDoor, before: int) -> None:
    give_up_s = time.monotonic() + DEADLINE_S
    while door.pulses == before:
        if time.monotonic() > give_up_s:
            raise TimeoutError("the card moved nothing")
        await asyncio.sleep(0.002)


def main() -> int:
    """Measure, print, return 1 if a bound is not held."""
    with tempfile.TemporaryDirectory(dir=".") as folder:
        rounds = asyncio.run(measure(Path(folder)))
    lines = ["from the first byte of the reader's list to the relay's line, at the pace of 115,200 Bd"]
    held = True
    for sort, wanted_ms in WANTED_MS.items():
        middle_ms, most_ms = statistics.median(rounds.moved[sort]), max(rounds.moved[sort])
        light_ms, ratio = max(rounds.lit[sort]), middle_ms / statistics.median(rounds.floor[sort])
        held = held and middle_ms <= wanted_ms and light_ms <= LIGHT_MS and ratio <= WANTED
        lines.append(
            f"  {sort:<7}{middle_ms:6.1f} ms, at most {most_ms:.1f} (wanted: {wanted_ms:.0f});"
            f" light after {light_ms:.1f} at most (wanted: {LIGHT_MS:.0f});"
            f" floor {statistics.median(rounds.floor[sort]):.1f}, ratio {ratio:.2f} (wanted: {WANTED})"
        )
    lines.append(f"  {ROUNDS} rounds; without field and card")
    sys.stdout.write("\n".join(lines) + "\n")
    return 0 if held else 1


if __name__ == "__main__":
    sys.exit(main())
