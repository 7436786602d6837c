"""Reservation lists: the whole of a car's bookings, for that car alone, under a version that only grows."""

from __future__ import annotations

import json
from collections.abc import Iterator
from pathlib import Path

import pytest
from sqlalchemy import delete, insert, update

from cloud_sync.documents import Reason, Refused, decode_reservation_list
from cloud_sync.endpoint import lists, tables, views
from cloud_sync.endpoint.messages import Box as BoxKeys
from cloud_sync.endpoint.messages import ListRow
from cloud_sync.endpoint.store import LISTS_KEPT
from cloud_sync.wire import Topic
from onboard.core.grants import Assurance, BookingKind, ReservationList, Rights
from tests.cloud_rig import NOW_S, Box, Cloud, make_cloud

HOUR_S = 3600


@pytest.fixture
def cloud(tmp_path: Path) -> Iterator[Cloud]:
    made = make_cloud(tmp_path / "cloud")
    yield made
    made.store.close()


@pytest.fixture
def box(cloud: Cloud) -> Box:
    return cloud.add("ami-1")


def keys(cloud: Cloud, vehicle: str = "ami-1") -> BoxKeys:
    found = cloud.store.box(vehicle)
    assert found is not None
    return found


def book(cloud: Cloud, number: int, start_s: int, vehicle: str = "ami-1", cards: int = 1) -> None:
    card = {"ref": "0102030405060708"}
    with cloud.store.write() as db:
        db.execute(
            insert(tables.bookings).values(
                id=number.to_bytes(16, "big"),
                vehicle=vehicle,
                start_s=start_s,
                end_s=start_s + HOUR_S,
                pickup="bazouges",
                dropoff="hede",
                kind="one_way",
                driver=b"driver-1",
                phone_keys=json.dumps(["02" + "11" * 32] * 8),
                cards=json.dumps([card] * cards),
                rights=3,
                trace=True,
                created_s=NOW_S,
                cancelled_s=None,
            )
        )


def issue(cloud: Cloud, now_s: int = NOW_S, days: int = lists.HORIZON_DAYS) -> ListRow:
    return lists.issue(cloud.store, cloud.authority, keys(cloud), now_s, days)


def opened(box: Box, row: ListRow) -> ReservationList:
    return decode_reservation_list(row.document, box.key_set, box.given.agreement, "ami-1")


def test_a_list_holds_the_bookings_of_its_car_as_they_were_made(cloud: Cloud, box: Box) -> None:
    cloud.add("ami-2")
    book(cloud, 1, NOW_S)
    book(cloud, 2, NOW_S, "ami-2")
    [only] = opened(box, issue(cloud)).reservations
    assert (only.id, only.start_s, only.end_s) == ((1).to_bytes(16, "big"), NOW_S, NOW_S + HOUR_S)
    assert (only.pickup, only.dropoff, only.kind) == ("bazouges", "hede", BookingKind.ONE_WAY)
    assert (only.rights, only.trace, only.cards[0].assurance) == (Rights.DOOR | Rights.DRIVE, True, Assurance.UID)


def test_nobody_but_its_own_box_opens_a_list(cloud: Cloud, box: Box) -> None:
    other = cloud.add("ami-2")
    row = issue(cloud)
    assert opened(box, row).vehicle == "ami-1"
    with pytest.raises(Refused) as refused:
        decode_reservation_list(row.document, other.key_set, other.given.agreement, "ami-1")
    assert refused.value.reason is Reason.OTHER_RECIPIENT


@pytest.mark.usefixtures("box")
def test_a_version_is_the_clock_and_grows_even_when_the_clock_does_not(cloud: Cloud) -> None:
    assert [issue(cloud, now_s).version for now_s in (NOW_S, NOW_S, NOW_S - 5000, NOW_S + 9)] == [
        NOW_S,
        NOW_S + 1,
        NOW_S + 2,
        NOW_S + 9,
    ]


def test_a_restored_cloud_goes_above_what_its_box_holds(cloud: Cloud, box: Box) -> None:
    held = NOW_S + 500
    issue(cloud)
    [message] = cloud.ingest.handle(box.topic(Topic.STATUS), box.status(list_version=held), NOW_S)
    assert decode_reservation_list(message.payload, box.key_set, box.given.agreement, "ami-1").version == held + 1


def test_a_version_that_was_never_issued_is_an_alarm_and_does_not_push_ours(cloud: Cloud, box: Box) -> None:
    issue(cloud)
    cloud.ingest.handle(box.topic(Topic.STATUS), box.status(list_version=2**62), NOW_S)
    assert issue(cloud).version == NOW_S + 1
    with cloud.store.read() as db:
        assert [alarm.kind for alarm in views.alarms(db)] == ["version_ahead"]


def test_a_list_says_when_it_was_made_and_ends_at_its_horizon(cloud: Cloud, box: Box) -> None:
    book(cloud, 1, NOW_S + 3 * lists.DAY_S - 1)
    book(cloud, 2, NOW_S + 3 * lists.DAY_S)
    listed = opened(box, issue(cloud, days=3))
    assert (listed.issued_at_s, listed.horizon_end_s) == (NOW_S, NOW_S + 3 * lists.DAY_S)
    assert [reservation.id[-1] for reservation in listed.reservations] == [1]


def test_a_cancelled_booking_is_absent_and_one_just_over_is_kept_for_its_driver(cloud: Cloud, box: Box) -> None:
    book(cloud, 1, NOW_S)
    book(cloud, 2, NOW_S - 2 * HOUR_S)
    book(cloud, 3, NOW_S - lists.KEEP_S - 2 * HOUR_S)
    with cloud.store.write() as db:
        db.execute(update(tables.bookings).where(tables.bookings.c.id == bytes(15) + b"\1").values(cancelled_s=NOW_S))
    assert [reservation.id[-1] for reservation in opened(box, issue(cloud)).reservations] == [2]


def test_more_bookings_than_a_document_holds_bring_the_horizon_nearer(cloud: Cloud, box: Box) -> None:
    for number in range(300):  # some 350 bytes each: more than 64 KiB
        book(cloud, number, NOW_S + number * HOUR_S)
    listed = opened(box, issue(cloud))
    assert listed.horizon_end_s == NOW_S + 7 * lists.DAY_S
    assert len(listed.reservations) == 7 * 24


@pytest.mark.usefixtures("box")
def test_an_old_list_is_issued_anew_and_a_fresh_one_is_not(cloud: Cloud) -> None:
    def current(now_s: int) -> int:
        return lists.current(cloud.store, cloud.authority, keys(cloud), now_s).version

    first = current(NOW_S)
    assert current(NOW_S + lists.REFRESH_S - 1) == first
    assert current(NOW_S + lists.REFRESH_S) > first


@pytest.mark.usefixtures("box")
def test_old_lists_are_dropped_and_the_newest_stays(cloud: Cloud) -> None:
    issued = [issue(cloud) for _ in range(LISTS_KEPT + 5)]
    assert cloud.store.last_list("ami-1") == issued[-1]
    with cloud.store.write() as db:
        assert db.execute(delete(tables.lists)).rowcount == LISTS_KEPT
