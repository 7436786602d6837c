"""Whatever phones do with a box's batches: each row ends up in the commune exactly once, and no ack runs ahead."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass, field

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from sqlalchemy import select

from cloud_sync.documents import DocumentType, decode_ack, decode_resend, document_type
from cloud_sync.endpoint import tables
from onboard.core.records import Parked
from tests.cloud_http_rig import Town, make_town
from tests.cloud_rig import WHOLE_RENTAL, Box

LAST = 24
BATCH_ROWS_MAX = 7


@dataclass(frozen=True)
class Visit:
    """A phone takes batches of these rows (first, last) from the box; whether it ever delivers them, and comes back."""

    batches: tuple[tuple[int, int], ...]
    delivers: int
    """How often: 0 is a phone that never does, 2 one whose answer was lost on the way."""
    returns: bool


batches = st.integers(1, LAST).flatmap(
    lambda first: st.tuples(st.just(first), st.integers(first, min(LAST, first + BATCH_ROWS_MAX - 1)))
)
visits = st.builds(Visit, st.lists(batches, min_size=1, max_size=3).map(tuple), st.integers(0, 2), st.booleans())


@dataclass
class Carried:
    """A box without network and all that is known of its rows. ``held``: what arrived, by whatever way."""

    town: Town
    box: Box
    held: set[int] = field(default_factory=set)
    acked: int = 0

    @property
    def without_gap(self) -> int:
        return next(seq for seq in range(LAST + 1) if seq + 1 not in self.held)

    def deliver(self, visit: Visit) -> list[bytes]:
        documents = [self.box.batch(first, last).hex() for first, last in visit.batches]
        said = self.town.post("vehicles/ami-1/batches", {"documents": documents}, 200)
        assert said["results"] == ["taken"] * len(documents)
        for first, last in visit.batches:
            self.held.update(range(first, last + 1))
        answers = [bytes.fromhex(document) for document in said["documents"]]
        self.judge(answers, 0)
        return answers

    def fetch(self) -> list[bytes]:
        heard = {"store_id": self.box.store_id.hex(), "up_to_seq": LAST, "acked_seq": self.acked}
        said = self.town.post("vehicles/ami-1/courier", heard, 200)
        answers = [bytes.fromhex(document) for document in said["documents"]]
        self.judge(answers, self.acked)
        return answers

    def judge(self, answers: list[bytes], known: int) -> None:
        """What the commune says of the log is what arrived, no more and no less."""
        acks, wishes = [], []
        for answer in answers:
            if document_type(answer) is DocumentType.ACK:
                ack = decode_ack(answer, self.box.key_set, "ami-1")
                assert (ack.store_id, ack.digest) == (self.box.store_id, self.box.rows[ack.up_to_seq - 1].digest)
                acks.append(ack.up_to_seq)
            if document_type(answer) is DocumentType.RESEND:
                wishes.append(decode_resend(answer, self.box.key_set, "ami-1").from_seq)
        place = self.without_gap
        assert acks == ([place] if place > known else [])
        assert wishes == ([place + 1] if max(self.held, default=0) > place else [])

    def hand_over(self, answers: list[bytes]) -> None:
        """Bring the commune's answers to the box."""
        for answer in answers:
            if document_type(answer) is DocumentType.ACK:
                self.acked = max(self.acked, decode_ack(answer, self.box.key_set, "ami-1").up_to_seq)


@pytest.fixture(scope="module")
def town(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Town]:
    with make_town(tmp_path_factory.mktemp("town")) as made:
        yield made


@settings(max_examples=60, deadline=None)
@given(visits=st.lists(visits, max_size=6))
def test_any_order_loss_and_repetition_ends_with_each_row_once(town: Town, visits: list[Visit]) -> None:
    box = Box(town.box.given, town.box.key_set)  # a new log for each history
    box.write(*WHOLE_RENTAL, *(Parked(f"station-{number}", None, None) for number in range(len(WHOLE_RENTAL), LAST)))
    carried = Carried(town, box)
    for visit in visits:
        answers: list[bytes] = []
        for _ in range(visit.delivers):
            answers = carried.deliver(visit)
        carried.hand_over(answers if visit.returns else [])
        carried.hand_over(carried.fetch() if visit.returns else [])
    # From here on phones come and go as they should: the box gives what nobody acknowledged.
    for _ in range(-(-LAST // BATCH_ROWS_MAX)):
        if carried.acked < LAST:
            first = carried.acked + 1
            carried.hand_over(carried.deliver(Visit(((first, min(LAST, first + BATCH_ROWS_MAX - 1)),), 1, True)))
    assert carried.acked == LAST
    with town.cloud.store.read() as db:
        events, trips = tables.events, tables.trips
        mine = select(events.c.seq, events.c.digest).where(events.c.store_id == box.store_id).order_by(events.c.seq)
        assert [tuple(row) for row in db.execute(mine)] == [(row.seq, row.digest) for row in box.rows]
        ended = db.scalars(select(trips.c.distance_m).where(trips.c.store_id == box.store_id)).all()
    assert ended == [12300]
