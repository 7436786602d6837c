"""Phones at a whole box: what each of them is answered, what is written down of it, and whether the door moved.

The box is whole (conversation, core, store on a disk) but for its radio and its door, which obeys.
"""

from __future__ import annotations

import secrets
from dataclasses import replace
from pathlib import Path

import pytest

from cloud_sync.documents import (
    AUTHORITY_TYPES,
    Command,
    KeySet,
    Signer,
    TimeProof,
    encode_command,
    encode_key_set,
    encode_pass,
    encode_time_proof,
)
from cloud_sync.documents.answers import ANSWERS
from cloud_sync.documents.conversation import Answer, Op
from onboard.core.clock import ClockQuality
from onboard.core.commands import Action
from onboard.core.events import Intent, MaintenanceRequested
from onboard.core.grants import Revocation, Rights, StaffGrant
from sim.phone_wallet import Bag
from tests.document_rig import CAR, CLOUD, CLOUD_C, KEYS, ROOT, STRANGER
from tests.phone_rig import (
    ANNA,
    BERT,
    BOOKING,
    HOUR_S,
    T0,
    PhoneRig,
    Story,
    grant,
    holding,
    listed_document,
    play,
    reservation,
    wallet,
)

DAY_S = 24 * HOUR_S


class Commune:
    """A commune in reach of the phone: signs the time, and has these documents for the car."""

    def __init__(self, now_s: float, *documents: bytes) -> None:
        self._now_s = now_s
        self._documents = list(documents)

    async def documents(self, vehicle: str, heard: Answer | None) -> list[bytes]:
        found = list(self._documents)
        if heard is not None and heard.time_nonce is not None:
            found.append(encode_time_proof(TimeProof(vehicle, heard.time_nonce, self._now_s), CLOUD))
        return found

    async def post(self, _vehicle: str, _batches: list[bytes]) -> None:
        pass


async def pass_for_another_car(rig: PhoneRig) -> Answer:
    return await rig.tap(holding(vehicle="hede-2"))


async def pass_of_a_stranger(rig: PhoneRig) -> Answer:
    # The stranger calls himself what the commune's key is called: only the signature gives him away.
    forged = encode_pass(grant(BOOKING), CLOUD)
    return await rig.tap(wallet(BOOKING, document=forged[:-1] + bytes([forged[-1] ^ 1])))


async def pass_of_an_unknown_authority(rig: PhoneRig) -> Answer:
    return await rig.tap(wallet(BOOKING, document=encode_pass(grant(BOOKING), STRANGER)))


async def too_early(rig: PhoneRig) -> Answer:
    await rig.take(listed_document(reservation(start_s=2 * HOUR_S, end_s=3 * HOUR_S)))
    return await rig.tap(wallet(BOOKING, document=b""))


async def too_early_by_pass(rig: PhoneRig) -> Answer:
    return await rig.tap(holding(start_s=T0 + 2 * HOUR_S, end_s=T0 + 3 * HOUR_S))


async def too_late(rig: PhoneRig) -> Answer:
    await rig.take(listed_document(BOOKING))
    await rig.later(HOUR_S + 60)
    return await rig.tap(wallet(BOOKING))


async def pass_expired(rig: PhoneRig) -> Answer:
    return await rig.tap(holding(expires_s=T0 - 30))


async def cancelled(rig: PhoneRig) -> Answer:
    await rig.take(listed_document(version=5))
    return await rig.tap(wallet(BOOKING))


async def key_revoked(rig: PhoneRig) -> Answer:
    await rig.take(listed_document(BOOKING, revoked=(Revocation(ANNA.public, T0 + DAY_S),)))
    return await rig.tap(wallet(BOOKING))


async def pass_revoked(rig: PhoneRig) -> Answer:
    await rig.take(listed_document(revoked=(Revocation(grant(BOOKING).id, T0 + DAY_S),)))
    return await rig.tap(wallet(BOOKING))


async def stolen_pass(rig: PhoneRig) -> Answer:
    return await rig.tap(replace(wallet(BOOKING), key=BERT))


async def stolen_reference(rig: PhoneRig) -> Answer:
    await rig.take(listed_document(BOOKING))
    return await rig.tap(replace(wallet(BOOKING), key=BERT, grant=b""))


async def clock_not_proven(rig: PhoneRig) -> Answer:
    rig.box.reactor.state = replace(rig.state, anchor=None)
    await rig.take(listed_document(BOOKING))
    return await rig.tap(wallet(BOOKING))


async def beyond_the_horizon(rig: PhoneRig) -> Answer:
    late = reservation(start_s=7 * DAY_S - HOUR_S, end_s=8 * DAY_S)
    await rig.take(listed_document(late))
    await rig.later(7 * DAY_S + 60)
    return await rig.tap(wallet(late, document=b""))


async def yesterday_by_a_spoofed_sky(rig: PhoneRig) -> Answer:
    await rig.take(listed_document(reservation(start_s=-600)))
    rig.box.reactor.state = replace(rig.state, anchor=None, kept=replace(rig.state.kept, floor_s=T0 - 3 * DAY_S))
    await rig.at(-DAY_S)
    return await rig.tap(wallet(BOOKING, document=b""))


async def the_year_2049_by_a_spoofed_sky(rig: PhoneRig) -> Answer:
    await rig.take(listed_document(BOOKING))
    rig.box.reactor.state = replace(rig.state, anchor=None)
    await rig.at(22.5 * 365.25 * DAY_S)
    return await rig.tap(wallet(BOOKING))


async def tomorrow_by_a_spoofed_sky(rig: PhoneRig) -> Answer:
    await rig.take(listed_document(BOOKING))
    rig.box.reactor.state = replace(rig.state, anchor=None)
    await rig.at(DAY_S)
    return await rig.tap(wallet(BOOKING))


async def a_sky_that_contradicts_itself(rig: PhoneRig) -> Answer:
    await rig.take(listed_document(BOOKING))
    await rig.at(600)
    return await rig.tap(wallet(BOOKING))


async def out_of_order(rig: PhoneRig) -> Answer:
    await rig.take(listed_document(BOOKING))
    await rig.send(MaintenanceRequested(on=True, by="town hall"))
    return await rig.tap(wallet(BOOKING))


async def another_drivers_trip(rig: PhoneRig) -> Answer:
    theirs = reservation(BERT, 2)
    await rig.take(listed_document(BOOKING, theirs))
    assert (await rig.tap(wallet(theirs, BERT))).status == "granted"
    rig.door.pulses.clear()
    return await rig.tap(wallet(BOOKING))


async def another_drivers_trip_to_be_locked(rig: PhoneRig) -> Answer:
    theirs = reservation(BERT, 2)
    await rig.take(listed_document(BOOKING, theirs))
    assert (await rig.tap(wallet(theirs, BERT))).status == "granted"
    rig.door.pulses.clear()
    return await rig.tap(wallet(BOOKING), Op.LOCK)


async def without_the_right(rig: PhoneRig) -> Answer:
    return await rig.tap(holding(rights=Rights.DRIVE))


async def nothing_booked(rig: PhoneRig) -> Answer:
    known = reservation(BERT, 2)
    await rig.take(listed_document(known, staff=(StaffGrant(BOOKING.id[:8], T0 - 1, (ANNA.public,), (), Rights.DOOR),)))
    return await rig.tap(wallet(BOOKING, document=b""))


def test_a_technicians_phone_has_a_card_captured_and_a_drivers_has_not(tmp_path: Path) -> None:
    async def driver(rig: PhoneRig) -> Answer:
        return await rig.tap(holding(), Op.CAPTURE)

    async def technician(rig: PhoneRig) -> Answer:
        return await rig.tap(holding(rights=Rights.DOOR | Rights.SERVICE), Op.CAPTURE)

    answer, rig, refused = play(tmp_path / "driver", driver, uid_cards=True)
    assert (answer.status, answer.reason) == ("denied", "staff_only")
    assert refused == [("staff_only", "phone")]
    assert rig.state.capture is None
    answer, rig, _ = play(tmp_path / "technician", technician, uid_cards=True)
    assert (answer.status, answer.reason) == ("granted", "capturing")
    assert rig.state.capture is not None
    assert rig.door.pulses == []


@pytest.mark.parametrize(
    ("story", "reason"),
    [
        (pass_for_another_car, "wrong_vehicle"),
        (pass_of_a_stranger, "pass_invalid"),
        (pass_of_an_unknown_authority, "key_set_wanted"),
        (too_early, "too_early"),
        (too_early_by_pass, "too_early"),
        (too_late, "too_late"),
        (pass_expired, "list_too_old"),
        (cancelled, "cancelled"),
        (key_revoked, "revoked"),
        (pass_revoked, "revoked"),
        (stolen_pass, "not_your_booking"),
        (stolen_reference, "not_your_booking"),
        (clock_not_proven, "clock_unproven"),
        (beyond_the_horizon, "list_too_old"),
        (yesterday_by_a_spoofed_sky, "too_early"),
        (the_year_2049_by_a_spoofed_sky, "clock_unproven"),
        (tomorrow_by_a_spoofed_sky, "too_late"),
        (a_sky_that_contradicts_itself, "clock_unproven"),
        (out_of_order, "out_of_order"),
        (another_drivers_trip, "in_use"),
        (another_drivers_trip_to_be_locked, "in_use"),
        (without_the_right, "no_right"),
        (nothing_booked, "too_late"),
    ],
)
def test_a_refusal_is_told_written_down_and_moves_nothing(tmp_path: Path, story: Story, reason: str) -> None:
    answer, rig, refused = play(tmp_path, story)
    assert (answer.status, answer.reason) == ("denied", reason)
    assert rig.door.pulses == []
    assert (reason, "phone") in refused
    assert reason in ANSWERS


@pytest.mark.parametrize(
    "story",
    [
        clock_not_proven,
        yesterday_by_a_spoofed_sky,
        the_year_2049_by_a_spoofed_sky,
        tomorrow_by_a_spoofed_sky,
        a_sky_that_contradicts_itself,
    ],
)
def test_a_time_proof_that_the_phone_fetches_opens_the_door(tmp_path: Path, story: Story) -> None:
    async def with_network(rig: PhoneRig) -> Answer:
        first = await story(rig)
        assert first.time_nonce is not None
        mine = wallet(BOOKING, document=b"")
        return await rig.tap(mine, bag=Bag(CAR), cloud=Commune(T0 + 30.0))

    answer, rig, _ = play(tmp_path, with_network)
    assert answer.status == "granted"
    assert rig.door.pulses == [Action.UNLOCK]
    assert rig.state.anchor is not None
    assert rig.state.anchor.quality is ClockQuality.AUTHENTICATED


def test_a_time_proof_that_is_wrong_or_late_changes_nothing(tmp_path: Path) -> None:
    async def story(rig: PhoneRig) -> Answer:
        first = await clock_not_proven(rig)
        assert first.time_nonce is not None
        assert await rig.take(encode_time_proof(TimeProof(CAR, bytes(16), float(T0)), CLOUD)) == "expired"
        again = await rig.tap(wallet(BOOKING))
        assert again.time_nonce is not None
        rig.clock.ahead_s += 91
        assert await rig.take(encode_time_proof(TimeProof(CAR, again.time_nonce, float(T0)), CLOUD)) == "expired"
        assert await rig.take(encode_time_proof(TimeProof(CAR, again.time_nonce, float(T0)), Signer.generate())) != ""
        return await rig.tap(wallet(BOOKING))

    answer, rig, _ = play(tmp_path, story)
    assert (answer.status, answer.reason) == ("denied", "clock_unproven")
    assert rig.door.pulses == []


def test_an_older_list_is_refused_and_said_so(tmp_path: Path) -> None:
    async def story(rig: PhoneRig) -> Answer:
        await rig.take(listed_document(BOOKING, version=5))
        bag = Bag(CAR, down=[listed_document(version=4)])
        answer = await rig.tap(wallet(BOOKING), Op.STATUS, bag=bag)
        assert await rig.take(listed_document(version=4)) == "version_too_low"
        assert bag.down == []
        return answer

    answer, rig, refused = play(tmp_path, story)
    assert answer.list_version == 5
    assert rig.state.kept.grants.listed is not None
    assert rig.state.kept.grants.listed.reservations
    assert ("version_too_low", "list") in refused
    assert "version_too_low" in ANSWERS


def test_a_remote_command_that_was_held_back_for_a_day_does_nothing(tmp_path: Path) -> None:
    async def story(rig: PhoneRig) -> Answer:
        await rig.take(listed_document(BOOKING))
        soon_s = rig.clock.boot_s() + 30
        command = Command(CAR, secrets.token_bytes(16), b"epoch123", 1, soon_s, Intent.UNLOCK, BOOKING.id)
        rig.clock.ahead_s += DAY_S
        bag = Bag(CAR, down=[encode_command(command, CLOUD)])
        return await rig.tap(wallet(BOOKING), Op.STATUS, bag=bag)

    _, rig, refused = play(tmp_path, story)
    assert rig.door.pulses == []
    assert ("command_too_old", "remote") in refused
    assert "command_too_old" in ANSWERS


def test_a_key_set_that_the_phone_brings_makes_its_pass_good(tmp_path: Path) -> None:
    fresh = KeySet(KEYS.version + 1, (STRANGER.may_sign(*AUTHORITY_TYPES),), CLOUD_C.public)
    mine = wallet(BOOKING, document=encode_pass(grant(BOOKING), STRANGER))

    async def story(rig: PhoneRig) -> Answer:
        # Whoever is not let in yet may bring a key set, and nothing else.
        bag = Bag(CAR, down=[listed_document(BOOKING)])
        assert (await rig.tap(mine, bag=bag)).reason == "key_set_wanted"
        assert len(bag.down) == 1
        return await rig.tap(mine, bag=Bag(CAR, down=[encode_key_set(fresh, ROOT)]))

    answer, rig, _ = play(tmp_path, story)
    assert answer.status == "granted"
    assert rig.door.pulses == [Action.UNLOCK]
    assert rig.box.mail.key_set is not None
    assert rig.box.mail.key_set.version == fresh.version
