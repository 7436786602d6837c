"""A commune whose database was set back to an older copy, and boxes that have nothing new to say."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import pytest

from cloud_sync.documents import decode_resend
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


def asked(cloud: Cloud, box: Box, now_s: float) -> list[int]:
    """Have the box say how it is; return from where on rows are asked for."""
    messages = cloud.ingest.handle(box.topic(Topic.STATUS), box.status(), now_s)
    wanted = [each.payload for each in messages if each.topic == box.topic(Topic.RESEND)]
    return [decode_resend(each, cloud.authority.key_set, box.given.vehicle).from_seq for each in wanted]
