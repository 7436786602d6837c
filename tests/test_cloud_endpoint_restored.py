"""A commune whose database was set back to an older copy, and boxes that have nothing new to say."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import pytest
from sqlalchemy import select

from cloud_sync.documents import decode_ack, decode_resend
from cloud_sync.endpoint import tables, views
from cloud_sync.endpoint.ingest import TAKEN
from cloud_sync.wire import Topic
from tests.cloud_rig import NOW_S, WHOLE_RENTAL, Box, Cloud, make_cloud


@pytest.fixture
def cloud(tmp_path: Path) -> Iterator[Cloud]:
    made = make_cloud(tmp_path)
    yield made
    made.store.close()


@pytest.fixture
def box(cloud: Cloud) -> Box:
    return cloud.add("ami-1")


def test_a_restored_cloud_asks_for_the_rows_that_its_box_has_and_sends_no_more(cloud: Cloud, box: Box) -> None:
    box.write(*WHOLE_RENTAL)
    cloud.ingest.handle(box.topic(Topic.STATUS), box.status(), NOW_S)
    assert not asked(cloud, box, NOW_S + 60), "they may be on their way"
    assert asked(cloud, box, NOW_S + 151) == [1]
    assert asked(cloud, box, NOW_S + 211) == [1], "and again: the question may be lost"
    half = len(box.rows) // 2
    cloud.ingest.handle(box.topic(Topic.BATCH), box.batch(1, half), NOW_S + 220)
    assert not asked(cloud, box, NOW_S + 280), "they come"
    assert asked(cloud, box, NOW_S + 380) == [half + 1]
    cloud.ingest.handle(box.topic(Topic.BATCH), box.batch(half + 1, len(box.rows)), NOW_S + 390)
    assert not asked(cloud, box, NOW_S + 900)


def test_rows_that_the_box_has_no_more_are_told_once_and_what_follows_is_taken(cloud: Cloud, box: Box) -> None:
    box.write(*WHOLE_RENTAL, *WHOLE_RENTAL)
    half = len(WHOLE_RENTAL)
    cloud.ingest.handle(box.topic(Topic.BATCH), box.batch(1, 2), NOW_S)  # what the copy held
    for now_s in (NOW_S + 10, NOW_S + 11):
        [said] = cloud.ingest.handle(box.topic(Topic.BATCH), box.batch(half + 1, 2 * half, oldest=True), now_s)
        ack = decode_ack(said.payload, cloud.authority.key_set, box.given.vehicle)
        assert (ack.up_to_seq, ack.digest) == (2 * half, box.rows[-1].digest)
    with cloud.store.read() as db:
        [alarm] = views.alarms(db)
    assert (alarm.kind, alarm.seq) == ("rows_gone", half)
    assert alarm.detail.startswith(f"rows 3 to {half} ")
    # A phone that carried them all the time still brings them.
    outcome = cloud.ingest.take(box.topic(Topic.BATCH), box.batch(2, half), NOW_S + 12)
    assert outcome.word == TAKEN
    assert len(cloud_rows(cloud)) == 2 * half


def test_only_the_oldest_rows_stand_for_what_is_gone(cloud: Cloud, box: Box) -> None:
    box.write(*WHOLE_RENTAL, *WHOLE_RENTAL)
    half = len(WHOLE_RENTAL)
    messages = cloud.ingest.handle(box.topic(Topic.BATCH), box.batch(half + 1, 2 * half), NOW_S)
    assert [each.topic for each in messages] == [box.topic(Topic.RESEND)], "asked for, and nothing acknowledged"
    # Nothing is missing before rows that are held without a gap.
    cloud.ingest.handle(box.topic(Topic.BATCH), box.batch(1, half), NOW_S + 1)
    cloud.ingest.handle(box.topic(Topic.BATCH), box.batch(2, half, oldest=True), NOW_S + 2)
    with cloud.store.read() as db:
        assert "rows_gone" not in {alarm.kind for alarm in views.alarms(db)}


def cloud_rows(cloud: Cloud) -> list[int]:
    with cloud.store.read() as db:
        return list(db.scalars(select(tables.events.c.seq).order_by(tables.events.c.seq)))


def asked(cloud: Cloud, box: Box, now_s: float) -> list[int]:
    """Have the box say how it is; return from where on rows are asked for."""
    messages = cloud.ingest.handle(box.topic(Topic.STATUS), box.status(), now_s)
    wanted = [each.payload for each in messages if each.topic == box.topic(Topic.RESEND)]
    return [decode_resend(each, cloud.authority.key_set, box.given.vehicle).from_seq for each in wanted]
