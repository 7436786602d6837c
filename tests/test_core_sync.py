"""The way of a record to the cloud: the window, the back-off, and that nothing is ever skipped."""

from __future__ import annotations

from dataclasses import replace
from itertools import pairwise

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from onboard.core import machine
from onboard.core.commands import Command, PublishBatch, PublishStatus, ReleaseRecords
from onboard.core.events import (
    DoorReported,
    FaultReported,
    LinkReported,
    ResendRequested,
)
from onboard.core.records import FaultChanged
from onboard.core.state import Outbox
from tests.core_kit import POLICY
from tests.core_sync_kit import SMALL, STORE, acknowledge, box


def batches(commands: tuple[Command, ...] | list[Command]) -> list[tuple[int, int]]:
    return [(c.from_seq, c.to_seq) for c in commands if isinstance(c, PublishBatch)]


def test_at_most_a_window_of_batches_goes_out_and_each_acknowledgement_lets_more_follow() -> None:
    kit = box(20)
    assert batches(kit.commands) == [(1, 3), (4, 6), (7, 9), (10, 12)]
    assert batches(acknowledge(kit, 6)) == [(13, 15), (16, 18)]
    assert batches(acknowledge(kit, 18)) == [(19, 20)]
    assert not batches(acknowledge(kit, 20))
    kit.wait(3600)
    assert len(batches(kit.commands)) == 7, "nothing is repeated that was acknowledged"


def test_by_default_the_window_is_sixteen_batches() -> None:
    assert len(batches(box(5000, POLICY).commands)) == 16


def test_nothing_goes_out_without_a_link_and_everything_unacknowledged_goes_again_with_one() -> None:
    kit = box(9, connected=False)
    kit.wait(100)
    assert not batches(kit.commands)
    kit.give(LinkReported(connected=True))
    acknowledge(kit, 3)
    kit.commands.clear()
    kit.give(LinkReported(connected=False))
    kit.give(LinkReported(connected=True), 5)
    assert batches(kit.commands) == [(4, 6), (7, 9)]
    assert any(isinstance(c, PublishStatus) for c in kit.commands)
    kit.commands.clear()
    kit.give(LinkReported(connected=True))
    assert not batches(kit.commands), "the same news again is none"


def test_what_nobody_acknowledges_is_repeated_ever_more_seldom_within_bounds() -> None:
    kit = box(3)
    times: list[float] = [kit.t]
    for _ in range(7):
        kit.commands.clear()
        while (1, 3) not in batches(kit.commands):
            due_s = machine.next_deadline(kit.state)
            assert due_s is not None
            kit.wait(due_s - kit.t)
        times.append(kit.t)
    waits = [b - a for a, b in pairwise(times)]
    for wait_s, least_s in zip(waits, (60, 120, 240, 480, 600, 600, 600), strict=True):
        assert least_s <= wait_s <= least_s * 1.2 + 1


def test_two_boots_spread_their_repetitions_differently() -> None:
    waits = set()
    for boots in (1, 2, 3):
        kit = box(2, connected=False)
        kit.state = replace(kit.state, boot_epoch=bytes([boots * 50]) * 8)
        kit.give(LinkReported(connected=True))
        waits.add(kit.state.sending.resend_at_s)
    assert len(waits) == 3


def test_an_acknowledgement_starts_the_back_off_anew_for_what_is_left() -> None:
    kit = box(6)
    kit.wait(400)
    assert kit.state.sending.attempts == 2
    acknowledge(kit, 3)
    assert kit.state.sending.attempts == 0
    resend_at_s = kit.state.sending.resend_at_s
    assert resend_at_s is not None
    assert 60 <= resend_at_s - kit.t <= 72
    acknowledge(kit, kit.state.kept.outbox.last_seq)
    assert kit.state.sending.resend_at_s is None


@pytest.mark.parametrize(("store", "up_to"), [(b"another-store---", 6), (STORE, 10_000), (STORE, 3), (STORE, 2)])
def test_an_acknowledgement_that_is_not_for_these_rows_frees_nothing(store: bytes, up_to: int) -> None:
    kit = box(9)
    acknowledge(kit, 3)
    before = kit.state.sending
    commands = acknowledge(kit, up_to, store)
    assert not [c for c in commands if isinstance(c, ReleaseRecords)]
    assert replace(kit.state.sending, heard_at_s=before.heard_at_s) == before


def test_an_acknowledgement_in_the_midst_of_a_batch_counts_as_far_as_it_goes() -> None:
    kit = box(9)
    acknowledge(kit, 4)
    kit.commands.clear()
    kit.give(LinkReported(connected=False))
    kit.give(LinkReported(connected=True))
    assert batches(kit.commands)[0] == (5, 7)


def test_rows_that_another_carrier_brought_home_need_not_be_sent() -> None:
    kit = box(30)
    assert batches(kit.commands)[-1] == (10, 12)
    assert batches(acknowledge(kit, 25)) == [(26, 28), (29, 30)]


def test_an_acknowledgement_is_written_with_the_next_commit() -> None:
    kit = box(9)
    acknowledge(kit, 6)
    assert kit.state.kept.outbox.acked_seq == 0, "losing it only costs bytes"
    kit.give(FaultReported("gps", active=True))
    assert kit.state.kept.outbox.acked_seq == 6
    kit.boot()
    kit.commands.clear()
    kit.give(LinkReported(connected=True))
    assert batches(kit.commands)[0][0] == 7


def test_a_restored_cloud_gets_its_rows_again() -> None:
    kit = box(12)
    acknowledge(kit, 12)
    kit.give(FaultReported("gps", active=True))
    assert kit.state.kept.outbox.acked_seq == 12
    kit.commands.clear()
    kit.give(ResendRequested(STORE, 5))
    assert batches(kit.commands)[:2] == [(5, 7), (8, 10)]
    assert kit.state.kept.outbox.acked_seq == 4
    kit.boot()
    kit.commands.clear()
    kit.give(LinkReported(connected=True))
    assert batches(kit.commands)[0][0] == 5, "and after a power cut still"


@pytest.mark.parametrize(("store", "from_seq"), [(b"another-store---", 1), (STORE, 0), (STORE, 99), (STORE, -3)])
def test_a_resend_that_is_not_for_these_rows_changes_nothing(store: bytes, from_seq: int) -> None:
    kit = box(9)
    acknowledge(kit, 9)
    before = kit.state.sending
    kit.give(ResendRequested(store, from_seq))
    assert kit.state.sending == before


def test_a_resend_never_skips_what_was_not_acknowledged() -> None:
    kit = box(9)
    acknowledge(kit, 2)
    kit.commands.clear()
    kit.give(ResendRequested(STORE, 8))
    assert batches(kit.commands)[0][0] == 3
    kit.give(FaultReported("gps", active=True))
    assert kit.state.kept.outbox.acked_seq == 2


# The status


def test_a_status_goes_out_regularly_and_soon_after_a_change() -> None:
    kit = box(0)
    kit.wait(600)
    statuses = [c for c in kit.commands if isinstance(c, PublishStatus)]
    assert 10 <= len(statuses) <= 12
    kit.commands.clear()
    kit.give(FaultReported("gps", active=True), 5)
    assert any(isinstance(c, PublishStatus) for c in kit.commands)


def test_a_flapping_contact_does_not_eat_the_sim_cards_data() -> None:
    kit = box(0)
    acknowledge(kit, 1)
    kit.commands.clear()
    for step in range(600):
        kit.wait(0.1)
        kit.give(DoorReported(bool(step % 2), False, False, kit.t))
    statuses = [c for c in kit.commands if isinstance(c, PublishStatus)]
    assert 25 <= len(statuses) <= 32, "one in two seconds"


def test_a_flapping_part_fills_neither_store_nor_outbox() -> None:
    kit = box(0, POLICY)
    for step in range(1000):
        kit.give(FaultReported("gps", active=step % 2 == 0), 1)
    assert len(kit.all(FaultChanged)) == 60
    assert kit.state.faults == ()
    kit.give(FaultReported("gps", active=True), 3600)
    assert len(kit.all(FaultChanged)) == 61


# Nothing is ever skipped


class Way:
    """A box, a way that loses, doubles and reorders, and a cloud that knows what it committed."""

    def __init__(self) -> None:
        self.kit = box(1, connected=False)
        self.sent: list[PublishBatch] = []
        self.rows: set[int] = set()
        self.acks: list[int] = []

    @property
    def up_to(self) -> int:
        """Last row before the cloud's first gap."""
        seq = 0
        while seq + 1 in self.rows:
            seq += 1
        return seq

    def write(self, number: int) -> None:
        part = f"part{number}"
        self.kit.give(FaultReported(part, active=part not in dict(self.kit.state.faults)))

    def deliver(self, number: int) -> None:
        if self.sent:
            self._take(self.sent.pop(number % len(self.sent)))

    def double(self, number: int) -> None:
        if self.sent:
            self._take(self.sent[number % len(self.sent)])

    def lose(self, number: int) -> None:
        if self.sent:
            self.sent.pop(number % len(self.sent))

    def acknowledge(self, _: int = 0) -> None:
        if self.up_to:
            self.acks.append(self.up_to)
            acknowledge(self.kit, self.up_to)

    def acknowledge_late(self, number: int) -> None:
        if self.acks:
            acknowledge(self.kit, self.acks[number % len(self.acks)])

    def link(self, number: int) -> None:
        self.kit.give(LinkReported(connected=number % 2 == 0))

    def wait(self, number: int) -> None:
        self.kit.wait(number * 20.0)

    def restore_the_cloud(self, number: int) -> None:
        self.rows = {seq for seq in self.rows if seq <= number}
        self.acks = [self.up_to]  # it knows no more, and the box must come to know no more
        self.sent.clear()
        self.kit.give(ResendRequested(STORE, self.up_to + 1))

    def ask_again_too_far(self, number: int) -> None:
        self.kit.give(ResendRequested(STORE, self.up_to + 1 + number))

    def reboot(self, _: int) -> None:
        self.kit.boot()

    def _take(self, batch: PublishBatch) -> None:
        self.rows |= set(range(batch.from_seq, batch.to_seq + 1))

    def hold(self) -> None:
        """Collect what went out, and hold the box against what the cloud said."""
        self.sent.extend(c for c in self.kit.commands if isinstance(c, PublishBatch))
        released = max((c.up_to_seq for c in self.kit.commands if isinstance(c, ReleaseRecords)), default=0)
        self.kit.commands.clear()
        sending, known = self.kit.state.sending, max(self.acks, default=0)
        assert released <= known, "let go what the cloud never acknowledged"
        assert len(sending.batches) <= SMALL.batches_unacknowledged_max
        assert max(sending.acked_seq, self.kit.state.kept.outbox.acked_seq) <= known


_MOMENTS = (
    *("write", "write", "deliver", "deliver", "double", "lose", "acknowledge", "acknowledge", "acknowledge_late"),
    *("link", "wait", "restore_the_cloud", "ask_again_too_far", "reboot"),
)


@settings(max_examples=200, deadline=None)
@given(st.lists(st.tuples(st.sampled_from(_MOMENTS), st.integers(0, 30)), max_size=60))
def test_over_a_way_that_loses_doubles_and_reorders_nothing_is_ever_skipped(moments: list[tuple[str, int]]) -> None:
    way = Way()
    for what, number in moments:
        getattr(way, what)(number)
        way.hold()
    way.kit.give(LinkReported(connected=True))
    for _ in range(50):
        way.kit.wait(1)
        way.hold()
        if not way.sent:
            way.kit.wait(800)  # what got lost comes again by its own timer
            way.hold()
        while way.sent:
            way.deliver(0)
        way.acknowledge()
        if way.up_to == way.kit.state.kept.outbox.last_seq:
            break
    assert way.up_to == way.kit.state.kept.outbox.last_seq, "a row never came"
    assert way.kit.state.sending.acked_seq == way.up_to, "the box doesn't know that it did"


def test_a_cloud_that_lost_everything_gets_everything_again_and_one_that_lacks_the_last_row_that() -> None:
    for from_seq, again in ((1, [(1, 3), (4, 6)]), (6, [(6, 6)])):
        kit = box(6)
        acknowledge(kit, 6)
        kit.commands.clear()
        kit.give(ResendRequested(STORE, from_seq))
        assert batches(kit.commands) == again


def test_rows_that_are_asked_for_again_are_not_acknowledged_any_more() -> None:
    kit = box(6)
    kit.state = machine.committed(kit.state, Outbox(STORE, 6, 5))
    kit.give(ResendRequested(STORE, 4))
    assert kit.state.kept.outbox.acked_seq == 3
