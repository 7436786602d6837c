"""Passes: who gets one, what stands in it, and that a box opens with it exactly as long as its booking holds."""

from __future__ import annotations

from collections.abc import Iterator
from itertools import count
from pathlib import Path
from typing import Any

import pytest
from sqlalchemy import func, select

from cloud_sync.documents import AgreementKey, decode_pass, radio_name
from cloud_sync.endpoint import lists, passes, tables
from onboard.core.events import AccessRequested, Intent, ListReceived, PhoneCredential
from onboard.core.grants import Pass, ReservationList, Rights
from tests.cloud_http_rig import HOUR_S, OTHER_PHONE, PHONE, Town, make_town
from tests.cloud_rig import NOW_S
from tests.core_kit import BAZOUGES, T0, Kit
from tests.document_rig import BOX_V

DAY_S = 86_400


@pytest.fixture
def town(tmp_path: Path) -> Iterator[Town]:
    with make_town(tmp_path) as made:
        yield made


def ask(town: Town, booking: str, phone: bytes = PHONE, status: int = 201) -> Any:
    return town.post(f"bookings/{booking}/pass", {"phone_key": phone.hex()}, status)


def granted(town: Town, booking: str, phone: bytes = PHONE) -> Pass:
    return decode_pass(bytes.fromhex(ask(town, booking, phone)["pass"]), town.box.key_set, "ami-1")


def issued(town: Town) -> int:
    with town.cloud.store.read() as db:
        return db.scalar(select(func.count()).select_from(tables.passes)) or 0


def test_a_pass_says_what_the_booking_says_and_how_to_find_the_car(town: Town) -> None:
    booking = town.book(dropoff="hede", kind="one_way", rights=["door"], driver="0102030405060708")
    answer = ask(town, booking)
    box = town.box.given.agreement.public
    assert answer == {
        "vehicle": "ami-1",
        "name": radio_name(box),
        "box": box.hex(),
        "pass": answer["pass"],
        "booking": booking,
        "expires_s": NOW_S + HOUR_S + 900,
    }
    grant = decode_pass(bytes.fromhex(answer["pass"]), town.box.key_set, "ami-1")
    assert grant == Pass(
        vehicle="ami-1",
        id=grant.id,
        phone_key=PHONE,
        reservation_id=bytes.fromhex(booking),
        start_s=NOW_S,
        end_s=NOW_S + HOUR_S,
        driver=bytes(range(1, 9)),
        rights=Rights.DOOR,
        issued_at_s=NOW_S,
        expires_s=answer["expires_s"],
        made_with_version=town.listed.version,
        pickup="bazouges",
        dropoff="hede",
    )
    assert granted(town, booking).id != grant.id


def test_a_car_is_called_after_its_own_key() -> None:
    """The name that ``docs/protocol.md`` states for its example car."""
    assert radio_name(BOX_V.public) == "AmiBox-DFC9"
    names = {radio_name(AgreementKey.generate().public) for _ in range(20)}
    assert len(names) > 15
    assert {len(name) for name in names} == {11}


@pytest.mark.parametrize(
    ("start_s", "end_s", "expires_s"),
    [
        (0, HOUR_S, HOUR_S + 900),
        (0, DAY_S - 900, DAY_S),
        (0, 20 * DAY_S, DAY_S),
        (-2 * HOUR_S, -899, 1),
        (5 * DAY_S, 6 * DAY_S, DAY_S),
    ],
)
def test_a_pass_ends_with_its_booking_and_grace_and_never_after_a_day(
    town: Town, start_s: int, end_s: int, expires_s: int
) -> None:
    grant = granted(town, town.book(NOW_S + start_s, NOW_S + end_s))
    assert (grant.issued_at_s, grant.expires_s) == (NOW_S, NOW_S + expires_s)


def test_only_a_phone_that_the_booking_lists_gets_a_pass(town: Town) -> None:
    booking = town.book()
    assert "does not list this phone" in ask(town, booking, OTHER_PHONE, 403)["detail"]
    assert "no such booking" in ask(town, "00" * 16, status=404)["detail"]
    assert "no such booking" in ask(town, "no-booking", status=404)["detail"]
    town.post(f"bookings/{booking}/pass", {"phone_key": "05" + "11" * 32}, 422)
    town.post(f"bookings/{booking}/pass", {"phone_key": PHONE.hex(), "g": 2**40}, 422)
    assert issued(town) == 0


def test_a_cancelled_booking_and_one_that_is_over_give_no_pass(town: Town) -> None:
    cancelled, over = town.book(), town.book(NOW_S - HOUR_S, NOW_S + 1)
    town.cancel(cancelled)
    assert "cancelled" in ask(town, cancelled, status=409)["detail"]
    town.now_s = NOW_S + passes.GRACE_S
    assert granted(town, over).expires_s == NOW_S + 1 + passes.GRACE_S
    town.now_s += 1
    assert "over" in ask(town, over, status=409)["detail"]
    assert issued(town) == 1


def test_a_phone_that_was_taken_back_gets_no_pass_here_and_one_at_another_car_does(town: Town) -> None:
    booking = town.book()
    town.cloud.add("ami-2")
    until_s = NOW_S + HOUR_S
    town.post("revocations", {"phone_key": PHONE.hex(), "vehicle": "ami-2", "until_s": until_s})
    ask(town, booking)
    town.post("revocations", {"phone_key": PHONE.hex(), "until_s": until_s})
    assert f"taken back until {until_s}" in ask(town, booking, status=403)["detail"]
    town.now_s = until_s
    ask(town, booking, status=403)
    town.now_s = until_s + 1
    ask(town, booking)


def test_passes_are_remembered_within_bounds(town: Town) -> None:
    booking = town.book(phone_keys=[PHONE.hex(), OTHER_PHONE.hex()])
    other = granted(town, booking, OTHER_PHONE)
    for town.now_s in range(NOW_S + 1, NOW_S + passes.KEPT + 3):
        granted(town, booking)
    newest = granted(town, booking)
    assert issued(town) == passes.KEPT + 1
    with town.cloud.store.read() as db:
        row = db.execute(select(tables.passes).where(tables.passes.c.id == newest.id)).one()
        kept = db.scalars(select(tables.passes.c.id)).all()
    assert (row.booking, row.phone_key, row.expires_s) == (bytes.fromhex(booking), PHONE, newest.expires_s)
    assert other.id in kept
    town.now_s = newest.expires_s + passes.KEEP_S
    late = town.book(town.now_s, town.now_s + HOUR_S)
    granted(town, late)
    assert issued(town) == passes.KEPT + 2
    town.now_s += 1
    granted(town, late)
    assert issued(town) == 2


ids = count(1)


def at_the_car(kit: Kit, grant: Pass | None) -> str:
    """Have the phone ask the core to unlock; returns the reason of the answer."""
    kit.give(AccessRequested(PhoneCredential(PHONE, grant, next(ids).to_bytes(16, "big")), Intent.UNLOCK, 1))
    return kit.word


def car(listed: ReservationList) -> Kit:
    """A car at its station that holds a list; its clock starts with the town's."""
    assert T0 == NOW_S
    kit = Kit()
    kit.clock()
    kit.give(ListReceived(listed))
    kit.drive(0.0, odometer_m=1000)
    kit.at(BAZOUGES)
    kit.contacts(locked=True)
    return kit


def before(town: Town) -> ReservationList:
    """The list of a car that has heard nothing since."""
    town.cancel(town.book(NOW_S - 9 * HOUR_S, NOW_S - 8 * HOUR_S))
    return town.listed


def test_a_pass_opens_a_car_that_never_heard_of_the_booking(town: Town) -> None:
    old = before(town)
    booking = town.book()
    assert at_the_car(car(old), None) == "unknown"
    assert at_the_car(car(old), granted(town, booking)) == "opening"
    assert at_the_car(car(town.listed), None) == "opening", "the list alone does it too"


def test_a_cancelled_bookings_pass_is_dead_as_soon_as_the_new_list_is_there(town: Town) -> None:
    old = before(town)
    booking = town.book()
    grant = granted(town, booking)
    town.cancel(booking)
    assert grant.made_with_version < town.listed.version
    assert at_the_car(car(town.listed), grant) == "cancelled"
    kit = car(old)
    kit.give(AccessRequested(PhoneCredential(PHONE, grant, b"lock" * 4), Intent.LOCK, 1))
    assert kit.state.kept.grants.passes == (grant,), "seen before the list came"
    kit.give(ListReceived(town.listed))
    assert at_the_car(kit, None) == "unknown"
    assert at_the_car(kit, grant) == "cancelled"


@pytest.mark.parametrize("days", [1, 14])
@pytest.mark.parametrize("start_after_s", [DAY_S - 900, DAY_S + 300])
def test_a_pass_dies_with_its_booking_also_where_the_list_ends_before_it(
    tmp_path: Path, days: int, start_after_s: int
) -> None:
    """A list whose horizon is a day says nothing of tomorrow's booking by leaving it out: it must name the pass."""
    with make_town(tmp_path, horizon_days=days) as town:
        start_s = NOW_S + start_after_s
        booking = town.book(start_s, start_s + HOUR_S)
        grant = granted(town, booking)
        early_s = start_after_s - 590.0  # within early_unlock_s, and before the pass expires
        assert NOW_S + early_s < grant.expires_s
        assert at_the_car(car_at(early_s, town.listed), grant) == "opening"
        town.cancel(booking)
        assert at_the_car(car_at(early_s, town.listed), grant) in {"cancelled", "revoked"}
        town.now_s = grant.expires_s + 1
        town.cancel(booking)
        assert town.listed.revoked == ()


def car_at(after_s: float, listed: ReservationList) -> Kit:
    kit = car(listed)
    kit.t = after_s
    kit.clock()
    kit.drive(0.0, odometer_m=1000)
    kit.contacts(locked=True)
    return kit


def test_an_extended_bookings_new_pass_replaces_what_the_car_knows(town: Town) -> None:
    booking = town.book()
    known, early = town.listed, granted(town, booking)
    changed = town.patch(f"bookings/{booking}", {"end_s": NOW_S + 5 * HOUR_S})
    assert changed == {"id": booking, "version": town.listed.version, "published": True}
    assert town.listed.reservations[0].end_s == NOW_S + 5 * HOUR_S
    late = granted(town, booking)
    assert early.made_with_version < late.made_with_version == town.listed.version
    assert late.expires_s == NOW_S + 5 * HOUR_S + 900
    after_s = 3 * HOUR_S
    assert at_the_car(car_at(after_s, known), early) == "too_late"
    assert at_the_car(car_at(after_s, known), late) == "opening"
    assert at_the_car(car_at(after_s, town.listed), early) == "opening", "the list says it as well"

    town.patch(f"bookings/{booking}", {"end_s": NOW_S + 2 * HOUR_S})
    assert at_the_car(car_at(after_s, town.listed), late) == "too_late"
    assert at_the_car(car_at(after_s, known), granted(town, booking)) == "too_late"


def test_a_booking_is_not_changed_into_nonsense(town: Town) -> None:
    booking, gone = town.book(), town.book()
    town.cancel(gone)
    lists_before = len(town.link.sent)
    assert "cancelled" in town.patch(f"bookings/{gone}", {"end_s": NOW_S + 99}, 409)["detail"]
    for path, body, status in (
        (f"bookings/{booking}", {"end_s": NOW_S}, 422),
        (f"bookings/{booking}", {"end_s": NOW_S + 30 * DAY_S + 1}, 422),
        (f"bookings/{booking}", {"end_s": NOW_S + 99, "start_s": 0}, 422),
        (f"bookings/{'00' * 16}", {"end_s": NOW_S + 99}, 404),
        ("bookings/x", {"end_s": NOW_S + 99}, 404),
    ):
        assert "detail" in town.patch(path, body, status)
    town.now_s = NOW_S + HOUR_S + lists.KEEP_S
    assert "over for more than a day" in town.patch(f"bookings/{booking}", {"end_s": NOW_S + 9 * DAY_S}, 409)["detail"]
    assert len(town.link.sent) == lists_before
    town.now_s -= 1
    town.patch(f"bookings/{booking}", {"end_s": NOW_S + 9 * DAY_S})
