"""When the way to the commune is lost, and how a car that has nothing to send notices."""

from __future__ import annotations

from dataclasses import replace

from onboard.core import sync
from onboard.core.clock import Anchor, ClockQuality
from onboard.core.events import FaultReported, LinkReported, TimeHeard
from onboard.core.records import CommsChanged
from tests.core_kit import T0, Kit
from tests.core_sync_kit import SMALL, acknowledge, box


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
    kit.wait(3899)
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
    kit.wait(3600)
    assert not sync.asks(kit.state)
    kit.wait(60)
    assert sync.asks(kit.state), "with the next status"
    kit.wait(239)
    assert not kit.all(CommsChanged)
    kit.wait(2)
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
