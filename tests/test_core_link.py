"""When the way to the commune is lost, and how a car that has nothing to send notices."""

from __future__ import annotations

from dataclasses import replace

import pytest

from onboard.core import sync
from onboard.core.clock import Anchor, ClockQuality
from onboard.core.commands import PublishStatus
from onboard.core.events import FaultReported, LinkReported, ResendRequested, TimeHeard
from onboard.core.records import CommsChanged
from tests.core_kit import T0, Kit
from tests.core_sync_kit import SMALL, STORE, acknowledge, box


def test_a_lost_way_is_told_once_and_its_return_with_the_first_acknowledgement() -> None:
    kit = box(3, connected=False)
    kit.wait(299)
    assert not kit.all(CommsChanged)
    kit.wait(2000)
    assert [r.lost for r in kit.all(CommsChanged)] == [True]
    kit.give(LinkReported(connected=True))
    assert [r.lost for r in kit.all(CommsChanged)] == [True], "a connection proves nothing"
    acknowledge(kit, 3)
    assert [r.lost for r in kit.all(CommsChanged)] == [True, False]


def test_a_way_that_carries_up_but_nothing_down_is_lost_too() -> None:
    kit = box(3)
    kit.wait(250)
    assert not kit.all(CommsChanged)
    kit.wait(60)
    assert [r.lost for r in kit.all(CommsChanged)] == [True]
    acknowledge(kit, kit.state.kept.outbox.last_seq)
    acknowledge(kit, kit.state.kept.outbox.last_seq)
    kit.wait(1000)
    assert [r.lost for r in kit.all(CommsChanged)] == [True, False]


def test_a_quiet_car_with_everything_acknowledged_has_not_lost_its_way() -> None:
    kit = box(3)
    acknowledge(kit, 3)
    kit.wait(3500)
    assert not kit.all(CommsChanged)
    kit.give(FaultReported("gps", active=True))
    kit.wait(200)
    assert not kit.all(CommsChanged), "counted from when something waits"


def proof(kit: Kit, quality: ClockQuality = ClockQuality.AUTHENTICATED) -> None:
    """Have the commune (or, with another quality, the sky) answer with the time."""
    kit.give(TimeHeard(Anchor(kit.t, float(T0), T0 + 1.0, quality)), 0.1)


def test_a_quiet_car_asks_for_an_answer_after_an_hour_and_without_one_has_lost_its_way() -> None:
    kit = box(3)
    acknowledge(kit, 3)
    kit.wait(3599)
    assert not sync.asks(kit.state)
    kit.wait(1)
    assert sync.asks(kit.state)
    kit.wait(299)
    assert not kit.all(CommsChanged)
    kit.wait(1)
    assert [r.lost for r in kit.all(CommsChanged)] == [True]
    proof(kit, ClockQuality.GNSS)
    assert [r.lost for r in kit.all(CommsChanged)] == [True], "the sky is not the commune"
    proof(kit)
    assert [r.lost for r in kit.all(CommsChanged)] == [True, False]
    assert not sync.asks(kit.state)


def test_a_quiet_car_that_is_answered_has_not_lost_its_way() -> None:
    kit = box(3)
    acknowledge(kit, 3)
    for _ in range(4):
        kit.wait(3720)
        assert sync.asks(kit.state)
        proof(kit)
    assert not kit.all(CommsChanged)


def test_a_question_is_not_put_off_by_a_status_that_is_sent_seldom() -> None:
    kit = box(3, replace(SMALL, status_every_s=86_400.0))
    acknowledge(kit, 3)
    for _ in range(5):
        kit.commands.clear()
        kit.wait(3601)
        asked = kit.commands.count(PublishStatus())
        assert 1 <= asked <= 2, "one that was due after the last question"
        kit.wait(125)
        assert kit.commands.count(PublishStatus()) == asked + 2, "again each minute: it may get lost"
        proof(kit)
    assert not kit.all(CommsChanged)
    kit.wait(4000)
    assert [r.lost for r in kit.all(CommsChanged)] == [True]
    kit.commands.clear()
    kit.wait(7200)
    assert kit.commands.count(PublishStatus()) <= 1, "and once it is told, as seldom as ever"


@pytest.mark.parametrize(("rows", "every_s", "told_within_s"), [(0, 3540.0, 7200.0), (3, 240.0, 600.0)])
def test_a_link_that_comes_and_goes_and_brings_nothing_is_lost_all_the_same(
    rows: int, every_s: float, told_within_s: float
) -> None:
    kit = box(3)
    acknowledge(kit, 3)
    if rows:
        kit.give(FaultReported("gps", active=True))
    until_s = kit.t + told_within_s
    while kit.t < until_s:
        kit.wait(every_s)
        kit.give(LinkReported(connected=False))
        kit.give(LinkReported(connected=True), 1.0)
    assert [r.lost for r in kit.all(CommsChanged)] == [True]


def test_a_kept_pair_of_resend_and_acknowledgement_is_no_answer() -> None:
    kit = box(3)
    acknowledge(kit, 3)
    for _ in range(80):
        kit.wait(50)
        kit.give(ResendRequested(STORE, 1))
        acknowledge(kit, 3)
    assert [r.lost for r in kit.all(CommsChanged)] == [True]


def test_an_answer_that_a_phone_brings_is_no_link() -> None:
    kit = box(3)
    acknowledge(kit, 3)
    kit.give(LinkReported(connected=False))
    kit.wait(400)
    assert [r.lost for r in kit.all(CommsChanged)] == [True]
    for _ in range(3):
        proof(kit)
        acknowledge(kit, kit.state.kept.outbox.last_seq)
        kit.wait(400)
    assert [r.lost for r in kit.all(CommsChanged)] == [True]
    kit.give(LinkReported(connected=True))
    proof(kit)
    assert [r.lost for r in kit.all(CommsChanged)] == [True, False]


def test_an_acknowledgement_that_came_before_is_no_answer() -> None:
    kit = box(3)
    acknowledge(kit, 3)
    kit.wait(3660)
    acknowledge(kit, 3)
    assert sync.asks(kit.state), "who carries it may have kept it"


def test_the_way_counts_as_lost_from_when_the_link_was_last_there() -> None:
    kit = box()
    acknowledge(kit, 1)
    kit.wait(250)
    kit.give(LinkReported(connected=False))
    kit.wait(kit.state.policy.comms_lost_s - 1)
    assert not kit.all(CommsChanged)
    kit.wait(1)
    assert kit.all(CommsChanged) == [CommsChanged(lost=True)]


def test_a_way_that_acknowledges_nothing_is_told_in_time_whatever_else_is_due() -> None:
    kit = box(3, replace(SMALL, comms_lost_s=310.0))
    kit.wait(310)
    assert kit.all(CommsChanged) == [CommsChanged(lost=True)]


def test_a_way_that_stops_answering_in_the_middle_is_lost_in_time() -> None:
    kit = box(9)
    acknowledge(kit, 3)
    kit.wait(299)
    assert not kit.all(CommsChanged)
    kit.wait(2)
    assert [r.lost for r in kit.all(CommsChanged)] == [True]
