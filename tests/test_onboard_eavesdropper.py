"""Whatever an eavesdropper makes of what was said: no altered, replayed, reordered or misplaced bytes are a wish."""

from __future__ import annotations

from dataclasses import dataclass, replace

from hypothesis import HealthCheck, settings
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, precondition, rule

from cloud_sync.documents import AgreementKey, encode_pass
from cloud_sync.documents.conversation import Answer, Op
from onboard.core.gatt import GattRefused
from onboard.handshake import HELLO_S, Handshake
from tests.document_rig import BOX_V, CAR, CLOUD
from tests.handshake_rig import BOOK, WAITING, Sayer, wish
from tests.phone_rig import ANNA, BERT, BOOKING, grant

OTHER_V = AgreementKey.from_bytes(bytes([31]) * 32)


@dataclass
class Said:
    """A message that a phone has made, for whom, and whether the box may still take it."""

    data: bytes
    place: tuple[str, str]
    hello: bytes
    wish: bytes
    counter: int
    """0 for an opening."""


class Eavesdropper(RuleBasedStateMachine):
    """Knows every byte that was ever said, and says any of them anywhere, whole, changed or spliced.

    A wish is heard only as it was made: at the car and the connection whose HELLO it answers, in its place and time.
    """

    def __init__(self) -> None:
        super().__init__()
        self.boxes = {"here": Handshake(CAR, BOX_V, bytes(8)), "there": Handshake("hede-2", OTHER_V, bytes(8))}
        self.now_s = 0.0
        self.hellos: dict[tuple[str, str], tuple[bytes, float]] = {}
        self.talks: dict[tuple[str, str], tuple[Sayer, bytes]] = {}
        self.said: list[Said] = []
        self.heard: set[bytes] = set()
        self.next: dict[tuple[str, str], tuple[bytes, int]] = {}
        """By place: the HELLO whose conversation goes on there, and the counter that is due."""

    places = st.tuples(st.sampled_from(["here", "there"]), st.sampled_from(["a", "b"]))

    @rule(place=places)
    def greet(self, place: tuple[str, str]) -> None:
        hello = self.boxes[place[0]].hello(place[1], self.now_s, 0, clock_proven=False)
        if hello != self.hellos.get(place, (b"", 0.0))[0]:
            self.hellos[place] = (hello, self.now_s)
            self.next.pop(place, None)

    @precondition(lambda self: self.hellos)
    @rule(data=st.data(), how=st.sampled_from(["another car's pass", "stolen", "a proof given elsewhere"]))
    def deceive(self, data: st.DataObject, how: str) -> None:
        """Somebody who can seal to this car, for its key is no secret, says what is not his to say."""
        place = data.draw(st.sampled_from(sorted(self.hellos)))
        hello, box = self.hellos[place][0], self.boxes[place[0]]._identity.public
        vehicles = {"here": CAR, "there": "hede-2"}
        vehicle = vehicles["there" if (place[0] == "here") == (how == "another car's pass") else "here"]
        document = encode_pass(replace(grant(BOOKING), vehicle=vehicle), CLOUD)
        thief = Sayer(hello, box, BERT if how == "stolen" else ANNA, document)
        if how == "a proof given elsewhere":
            # As a false car would get it from its driver.
            elsewhere = Sayer(Handshake(CAR, OTHER_V, bytes(8)).hello("x", 0.0, 0, clock_proven=False), OTHER_V.public)
            message = thief.opening(wish(), proven_by=elsewhere)
        else:
            message = thief.opening(wish())
        self._deliver(place, message, None)

    @precondition(lambda self: self.hellos)
    @rule(data=st.data(), op=st.sampled_from([Op.UNLOCK, Op.GET, Op.LOCK]))
    def speak(self, data: st.DataObject, op: Op) -> None:
        """A driver's phone opens at a place, or goes on there; what it says may never arrive."""
        place = data.draw(st.sampled_from(sorted(self.hellos)))
        hello = self.hellos[place][0]
        mine = wish(op)
        phone, of = self.talks.get(place, (None, b""))
        if phone is None or of != hello:
            vehicle = CAR if place[0] == "here" else "hede-2"
            document = encode_pass(replace(grant(BOOKING), vehicle=vehicle), CLOUD)
            phone = Sayer(hello, self.boxes[place[0]]._identity.public, grant=document)
            self.talks[place] = (phone, hello)
            self.said.append(Said(phone.opening(mine), place, hello, mine.id, 0))
            phone.counter = 1
        else:
            self.said.append(Said(phone.further(mine), place, hello, mine.id, phone.counter))
            phone.counter += 1

    @precondition(lambda self: self.said)
    @rule()
    def arrive(self) -> None:
        """The newest arrives as it should: without this, nothing would ever be heard."""
        said = self.said[-1]
        self._deliver(said.place, said.data, said)

    @precondition(lambda self: self.said)
    @rule(data=st.data(), place=places, how=st.sampled_from(["again", "flip", "cut", "splice", "longer"]))
    def attack(self, data: st.DataObject, place: tuple[str, str], how: str) -> None:
        said = data.draw(st.sampled_from(self.said))
        message = bytearray(said.data)
        if how == "flip":
            message[data.draw(st.integers(0, len(message) - 1))] ^= data.draw(st.integers(1, 255))
        elif how == "cut":
            del message[data.draw(st.integers(0, len(message) - 1)) :]
        elif how == "longer":
            message += b"\0"
        elif how == "splice":
            other = data.draw(st.sampled_from(self.said)).data
            at = data.draw(st.integers(0, min(len(message), len(other))))
            message[at:] = other[at:]
        self._deliver(place, bytes(message), next((s for s in self.said if s.data == bytes(message)), None))

    @rule(wait_s=st.sampled_from([0.5, 4.0, 16.0]))
    def wait(self, wait_s: float) -> None:
        self.now_s += wait_s

    def _deliver(self, place: tuple[str, str], data: bytes, said: Said | None) -> None:
        box, connection = self.boxes[place[0]], place[1]
        began = bool(box._lines.get(connection) and box._lines[connection].pending)
        try:
            heard = box.write(connection, data, self.now_s, BOOK)
        except GattRefused:
            self.next.pop(place, None)
            return
        if not isinstance(heard, WAITING):
            if heard is not None:
                box.answer(connection, heard.ticket, Answer(heard.status, heard.reason))
                if heard.status == "denied":
                    self.next.pop(place, None)
            return
        assert said is not None, "a message that nobody made was heard"
        assert not began
        assert said.place == place
        assert said.wish not in self.heard, "heard twice"
        hello, shown_s = self.hellos[place]
        assert said.hello == hello
        if said.counter:
            assert self.next.get(place) == (hello, said.counter)
        else:
            assert self.now_s - shown_s < HELLO_S
        self.heard.add(said.wish)
        self.next[place] = (hello, said.counter + 1)
        box.answer(connection, heard.ticket, Answer("ok"))


TestEavesdropper = Eavesdropper.TestCase
TestEavesdropper.settings = settings(
    max_examples=60, stateful_step_count=40, deadline=None, suppress_health_check=[HealthCheck.too_slow]
)
