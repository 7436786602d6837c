"""What phones may do that is easily forgotten, and what happens when they say the same thing again.

The box is whole (conversation, core, store on a disk) but for its radio and its door, which obeys.
"""

from __future__ import annotations

import asyncio
from dataclasses import replace
from pathlib import Path

import pytest

from cloud_sync.documents import (
    AgreementKey,
)
from cloud_sync.documents.answers import ANSWERS
from cloud_sync.documents.conversation import Answer, Op
from onboard.core.commands import Action, Reply
from onboard.core.events import AccessRequested, CardCredential, Intent, MaintenanceRequested
from onboard.core.grants import Assurance, CardGrant, Rights
from sim.phone import GattError, Talk
from tests.phone_rig import (
    BERT,
    BOOKING,
    HOUR_S,
    T0,
    PhoneRig,
    holding,
    listed_document,
    play,
    reservation,
    wallet,
)

DAY_S = 24 * HOUR_S


def test_a_booking_made_since_the_boxs_list_opens(tmp_path: Path) -> None:
    async def story(rig: PhoneRig) -> Answer:
        await rig.take(listed_document(version=1))
        return await rig.tap(wallet(BOOKING))

    answer, rig, _ = play(tmp_path, story)
    assert (answer.status, rig.door.pulses) == ("granted", [Action.UNLOCK])


def test_a_booking_extended_since_the_boxs_list_opens_after_its_old_end(tmp_path: Path) -> None:
    async def story(rig: PhoneRig) -> Answer:
        await rig.take(listed_document(BOOKING))
        await rig.later(HOUR_S + 60)
        mine = holding(end_s=T0 + 2 * HOUR_S)
        assert (await rig.tap(replace(mine, grant=b""))).reason == "too_late"
        return await rig.tap(mine)

    answer, rig, _ = play(tmp_path, story)
    assert (answer.status, rig.door.pulses) == ("granted", [Action.UNLOCK])


def test_card_and_phone_serve_one_rental(tmp_path: Path) -> None:
    ref = b"cardcard"
    both = replace(BOOKING, cards=(CardGrant(ref, Assurance.UID),))

    async def story(rig: PhoneRig) -> Answer:
        await rig.take(listed_document(both))
        assert (await rig.tap(wallet(both))).status == "granted"
        await rig.send(AccessRequested(CardCredential(ref, Assurance.UID), Intent.TAP))
        await rig.settled()
        assert rig.state.kept.rental is not None
        assert rig.state.kept.rental.trip is None, "the card locked what the phone had opened"
        return await rig.tap(wallet(both))

    answer, rig, _ = play(tmp_path, story, uid_cards=True, finish_tap_s=0.0)
    assert answer.status == "granted"
    assert rig.door.pulses == [Action.UNLOCK, Action.LOCK, Action.UNLOCK]
    assert rig.state.kept.rental is not None
    assert rig.state.kept.rental.trips == 2


def test_the_next_driver_takes_an_abandoned_car_over(tmp_path: Path) -> None:
    theirs, mine = reservation(BERT, 2), reservation(start_s=HOUR_S, end_s=3 * HOUR_S)

    async def story(rig: PhoneRig) -> Answer:
        await rig.take(listed_document(theirs, mine))
        assert (await rig.tap(wallet(theirs, BERT))).status == "granted"
        rig.clock.ahead_s += 2 * HOUR_S
        await rig.parked()
        return await rig.tap(wallet(mine))

    answer, rig, _ = play(tmp_path, story)
    assert answer.status == "granted"
    assert rig.state.kept.rental is not None
    assert rig.state.kept.rental.booking.id == mine.id


def test_staff_open_by_a_pass(tmp_path: Path) -> None:
    async def story(rig: PhoneRig) -> Answer:
        await rig.send(MaintenanceRequested(on=True, by="town hall"))
        return await rig.tap(holding(rights=Rights.DOOR | Rights.SERVICE))

    answer, rig, _ = play(tmp_path, story)
    assert (answer.status, rig.door.pulses) == ("granted", [Action.UNLOCK])


def test_the_same_command_again_moves_nothing_again(tmp_path: Path) -> None:
    async def story(rig: PhoneRig) -> Answer:
        await rig.take(listed_document(BOOKING))
        answer = None
        talk = Talk(rig.call(), wallet(BOOKING))
        wish = talk.wish(Op.UNLOCK)
        for _ in range(3):
            talk = Talk(rig.call(), wallet(BOOKING))
            answer = await talk.open(wish, by_pass=False)
            rig.box.phones.gone(f"/org/bluez/hci0/dev_{rig._connections}")
            await asyncio.sleep(0.15)
        assert answer is not None
        return answer

    answer, rig, _ = play(tmp_path, story)
    assert (answer.status, answer.reason, answer.door) == ("granted", "opened", "unlocked")
    assert rig.door.pulses == [Action.UNLOCK]


def test_after_a_restart_the_same_command_says_that_nobody_knows(tmp_path: Path) -> None:
    wish = Talk(None, wallet(BOOKING)).wish(Op.UNLOCK)  # type: ignore[arg-type]  # only the wish is wanted

    async def first(rig: PhoneRig) -> Answer:
        rig.door.silent = True
        await rig.take(listed_document(BOOKING))
        return await Talk(rig.call(), wallet(BOOKING)).open(wish, by_pass=False)

    async def then(rig: PhoneRig) -> Answer:
        return await Talk(rig.call(), wallet(BOOKING)).open(wish, by_pass=False)

    assert play(tmp_path, first)[0].status == "granted"
    answer, rig, _ = play(tmp_path, then)
    assert (answer.status, answer.reason, answer.door) == ("unknown", "interrupted", "locked")
    assert rig.door.pulses == []
    assert "interrupted" in ANSWERS


def test_another_cars_box_understands_nothing(tmp_path: Path) -> None:
    async def story(rig: PhoneRig) -> Answer:
        elsewhere = replace(wallet(BOOKING), box=AgreementKey.generate().public)
        with pytest.raises(GattError) as refused:
            await Talk(rig.call(), elsewhere).open(Talk(rig.call(), elsewhere).wish(Op.UNLOCK), by_pass=True)
        assert refused.value.code == 0x80
        return Answer("denied")

    _, rig, refused = play(tmp_path, story)
    assert rig.door.pulses == []
    assert ("not_understood", "phone") in refused


def test_a_phone_that_gets_no_answer_is_told_so_in_time(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("onboard.phones.ANSWER_S", 0.2)

    async def story(rig: PhoneRig) -> Answer:
        await rig.take(listed_document(BOOKING))
        replied = rig.box.reactor.on_reply
        late: list[Reply] = []
        rig.box.reactor.on_reply = late.append
        talk = Talk(rig.call(), wallet(BOOKING))
        answer = await talk.open(talk.wish(Op.UNLOCK), by_pass=False)
        assert replied is not None
        replied(late[0])  # nobody waits for it any more
        await rig.settled()
        again = await talk.say(talk.wish(Op.STATUS))
        assert (again.status, again.door) == ("ok", "unlocked")
        return answer

    answer, rig, _ = play(tmp_path, story)
    assert (answer.status, answer.reason) == ("unknown", "no_answer")
    assert rig.door.pulses == [Action.UNLOCK]
    assert "no_answer" in ANSWERS


def test_a_document_that_the_box_fails_over_leaves_an_answer_and_a_word_in_the_log(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    monkeypatch.setattr("onboard.phones.ANSWER_S", 0.2)

    async def story(rig: PhoneRig) -> Answer:
        await rig.take(listed_document(BOOKING))

        async def fails(_document: bytes) -> str:
            raise OSError("no space left")

        monkeypatch.setattr(rig.box.mail, "deliver", fails)
        talk = Talk(rig.call(), wallet(BOOKING))
        await talk.open(talk.wish(Op.STATUS), by_pass=False)
        return await talk.put(listed_document(BOOKING, version=2))

    answer, rig, _ = play(tmp_path, story)
    assert (answer.status, answer.reason) == ("unknown", "no_answer")
    assert rig.box.phones.counts["failed"] == 1
    assert "no space left" in caplog.text
