"""Each word that a refused phone is counted under, and each answer of the conversation, field by field."""

from __future__ import annotations

import re

import pytest

from cloud_sync.documents import Ack, BoxSigner, encode_ack, encode_pass
from cloud_sync.documents.conversation import CHUNK_MAX_BYTES, MESSAGE_MAX_BYTES, Answer, Chunk, Op, framed
from onboard.core.gatt import BUSY, HELLO_OVER, NOT_UNDERSTOOD, REFERENCE_UNKNOWN, VALUE_BYTES_MAX, GattRefused
from onboard.handshake import HELLO_S, LINES_MAX, OPEN_MAX, TURN_S, Handshake
from onboard.heard import Book, Told
from onboard.line import IDLE_S
from onboard.parcel import VISIT_MAX_BYTES
from tests.document_rig import BOX_V, CAR, CLOUD, KEYS, STORE, STRANGER
from tests.handshake_rig import BOOK, Sayer, keys_of, wish
from tests.phone_rig import ANNA, BOOKING, grant
from tests.test_onboard_handshake import begin, greet, other, pieces, put, reply


@pytest.fixture
def box() -> Handshake:
    return Handshake(CAR, BOX_V, bytes(8))


def refusal(box: Handshake, data: bytes, connection: str = "a", now_s: float = 0.0) -> str:
    """Write, and return what is said of the refusal: code and word."""
    with pytest.raises(GattRefused) as caught:
        box.write(connection, data, now_s, BOOK)
    return str(caught.value)


def said(code: int, word: str) -> str:
    return f"{code:#04x}: {word}"


def test_a_message_has_a_length_of_at_least_one_and_at_most_its_bound(box: Handshake) -> None:
    for data, word in (
        (b"", "bad_length"),
        ((MESSAGE_MAX_BYTES + 1).to_bytes(2, "big"), "bad_length"),
        (b"\0\0", "bad_length"),
        (b"\0\1\1\1", "bad_length"),
        (framed(b"\3"), "bad_kind"),
        (framed(b"\0" * MESSAGE_MAX_BYTES), "bad_kind"),
    ):
        greet(box)
        assert refusal(box, data) == said(NOT_UNDERSTOOD, word)
        assert box.counts.pop(word) == 1
    greet(box)
    assert box.write("a", b"\1", 0.0, BOOK) is None, "half a length"
    assert box.write("a", b"\0", 0.0, BOOK) is None, "256 bytes are to come"
    assert not box.counts


def test_a_message_as_long_as_may_be_is_waited_for(box: Handshake) -> None:
    greet(box)
    assert box.write("a", MESSAGE_MAX_BYTES.to_bytes(2, "big"), 0.0, BOOK) is None


def test_every_word_of_an_opening_that_comes_to_nothing(box: Handshake) -> None:
    assert refusal(box, framed(b"\1"), "nobody") == said(HELLO_OVER, "no_hello")
    phone = greet(box)
    assert refusal(box, phone.opening(wish()), now_s=HELLO_S) == said(HELLO_OVER, "hello_over")
    damaged = greet(box).opening(wish())
    assert refusal(box, damaged[:-1] + bytes([damaged[-1] ^ 1])) == said(NOT_UNDERSTOOD, "not_sealed_to_us")
    unknown = greet(box).opening(wish(), reference=b"nobody--")
    assert refusal(box, unknown) == said(REFERENCE_UNKNOWN, "reference_unknown")
    assert refusal(box, greet(box, "b").further(wish()), "b") == said(HELLO_OVER, "no_conversation")


def test_a_hello_that_is_late_by_the_boxs_clock_is_over_and_one_in_time_is_not(box: Handshake) -> None:
    phone = greet(box, now_s=100.0)
    assert box.hello("a", 100.0 + HELLO_S - 0.1, 0, clock_proven=False) == phone.hello
    assert box.write("a", phone.opening(wish()), 100.0 + HELLO_S - 0.1, BOOK) is not None


def test_nothing_asked_has_no_answer(box: Handshake) -> None:
    greet(box)
    for connection in ("a", "nobody"):
        with pytest.raises(GattRefused, match=f"^{said(NOT_UNDERSTOOD, 'nothing_asked')}$"):
            box.result(connection, 0.0)
    assert box.counts == {"nothing_asked": 2}


def answered(box: Handshake, phone: Sayer, reference: bytes = b"", book: Book = BOOK) -> Told:
    heard = box.write("a", phone.opening(wish(), reference=reference), 0.0, book)
    assert isinstance(heard, Told)
    return heard


def test_a_phone_that_does_not_hold_the_key_is_told_so(box: Handshake) -> None:
    for reference in (b"", BOOKING.id[:8]):
        phone = greet(box)
        phone.key = other(1)
        heard = answered(box, phone, reference)
        assert heard == Told(heard.ticket, "denied", "not_your_booking", known=False)
    assert box.counts == {"not_your_booking": 2}


def test_a_pass_that_does_not_hold_is_told_why(box: Handshake) -> None:
    good = encode_pass(grant(BOOKING), CLOUD)
    elsewhere = encode_pass(grant(BOOKING, vehicle="hede-2"), CLOUD)
    for document, word in ((good[:-1] + bytes([good[-1] ^ 1]), "pass_invalid"), (elsewhere, "wrong_vehicle")):
        phone = greet(box)
        phone.grant = document
        heard = answered(box, phone)
        assert heard == Told(heard.ticket, "denied", word, known=False)
    assert box.counts == {"pass_invalid": 1, "wrong_vehicle": 1}


def test_every_pass_of_an_unknown_authority_is_counted_and_every_dismissal(box: Handshake) -> None:
    for number in (1, 2):
        phone = greet(box, str(number))
        phone.grant = encode_pass(grant(BOOKING), STRANGER)
        heard = box.write(str(number), phone.opening(wish()), 0.0, BOOK)
        assert heard == Told(number, "denied", "key_set_wanted", known=False)
        begun = begin(box)
        begun.counter += 1
        turned = box.write("a", begun.further(wish()), 0.0, BOOK)
        assert turned is not None
        assert turned == Told(turned.ticket, "denied", "old_counter", known=True)
        box.gone("a")
        box._tickets = 1
    assert box.counts == {"key_set_wanted": 2, "old_counter": 2}


def test_tickets_are_numbered_from_one(box: Handshake) -> None:
    phone = begin(box)
    tickets = []
    for _ in range(3):
        heard = box.write("a", phone.further(wish(Op.STATUS)), 0.0, BOOK)
        assert heard is not None
        assert heard == Told(heard.ticket, "ok", "", known=True)
        assert box.ticket("a") == heard.ticket
        tickets.append(heard.ticket)
        reply(box, phone, heard)
        assert box.ticket("a") == 0
    assert tickets == [2, 3, 4]
    assert box.ticket("nobody") == 0


def test_a_box_may_be_known_to_who_has_proven_himself(box: Handshake) -> None:
    greet(box, "b")
    assert [box.may_know(each) for each in ("a", "b")] == [False, False]
    begin(box)
    assert [box.may_know(each) for each in ("a", "b", "nobody")] == [True, False, False]
    box.gone("a")
    box.gone("a")
    assert not box.may_know("a")


def test_a_phone_without_a_known_authority_is_told_what_is_wanted_whatever_it_wants(box: Handshake) -> None:
    phone = greet(box)
    phone.grant = encode_pass(grant(BOOKING), STRANGER)
    reply(box, phone, box.write("a", phone.opening(wish()), 0.0, BOOK))
    for op in (Op.UNLOCK, Op.GET, Op.STATUS):
        heard = box.write("a", phone.further(wish(op)), 0.0, BOOK)
        assert heard is not None
        assert heard == Told(heard.ticket, "denied", "key_set_wanted", known=False)
        reply(box, phone, heard)
    (chunk,) = pieces(encode_ack(Ack(CAR, STORE, 1, bytes(32)), CLOUD))
    heard = put(box, phone, chunk)
    assert heard is not None
    assert heard == Told(heard.ticket, "denied", "key_set_wanted", known=False)


def test_what_a_visit_takes_adds_up_to_its_bound(box: Handshake) -> None:
    phone, taken = begin(box), 0
    while taken < VISIT_MAX_BYTES:
        heard = box.write("a", phone.further(wish(Op.GET)), 0.0, BOOK)
        assert not isinstance(heard, Told)
        size = min(CHUNK_MAX_BYTES, VISIT_MAX_BYTES - taken)
        reply(box, phone, heard, chunk=Chunk(bytes(32), 60_000, 0, bytes(size)))
        taken += size
    assert taken == VISIT_MAX_BYTES
    heard = box.write("a", phone.further(wish(Op.GET)), 0.0, BOOK)
    assert heard is not None
    assert heard == Told(heard.ticket, "denied", "too_much", known=True)


def test_an_answer_may_fill_a_value_to_its_last_byte(box: Handshake) -> None:
    for over in (0, 1):
        phone = greet(box)
        heard = box.write("a", phone.opening(wish()), 0.0, BOOK)
        assert heard is not None
        spare = VALUE_BYTES_MAX - len(phone.channel.seal(b"\0", Answer("ok", "x" * 300, counter=1).encode()))
        answer = Answer("ok", "x" * (300 + spare + over))
        if over:
            said_of = f"an answer of {VALUE_BYTES_MAX + 1} bytes fits no value"
            with pytest.raises(ValueError, match=f"^{re.escape(said_of)}$"):
                box.answer("a", heard.ticket, answer)
        else:
            assert box.answer("a", heard.ticket, answer)
            assert len(box.result("a", 0.0) or b"") == VALUE_BYTES_MAX


def test_a_further_wish_needs_its_head_its_seal_and_its_whole_counter(box: Handshake) -> None:
    begin(box)
    assert refusal(box, framed(b"\2" + (1).to_bytes(4, "big") + bytes(15))) == said(NOT_UNDERSTOOD, "bad_length")
    begin(box)
    assert refusal(box, framed(b"\2" + (1).to_bytes(4, "big") + bytes(16))) == said(NOT_UNDERSTOOD, "bad_seal")
    phone = begin(box)
    phone.counter += 1 << 24
    heard = box.write("a", phone.further(wish()), 0.0, BOOK)
    assert heard is not None
    assert heard == Told(heard.ticket, "denied", "old_counter", known=True)


def test_the_silent_are_counted_one_by_one(box: Handshake) -> None:
    greet(box, "a")
    greet(box, "b")
    assert box.idle(IDLE_S + 0.1) == ("a", "b")
    assert box.counts == {"idle": 2}


def test_of_many_the_one_that_was_silent_longest_goes(box: Handshake) -> None:
    names = [f"{LINES_MAX - number:03}" for number in range(LINES_MAX)]  # the first has the greatest name
    for at, name in enumerate(names):
        greet(box, name, now_s=at / 100)
    assert len(box._lines) == LINES_MAX
    assert not box.counts
    greet(box, "one more", now_s=1.0)
    assert box.counts == {"evicted": 1}
    assert set(names) - set(box._lines) == {names[0]}


def test_of_the_conversations_the_oldest_gives_its_turn_and_not_before_its_end(box: Handshake) -> None:
    names = [str(OPEN_MAX - number) for number in range(OPEN_MAX)]
    for at, name in enumerate(names):
        begin(box, name, now_s=at / 10, key=other(at))
    for now_s, taken in ((TURN_S - 0.01, False), (TURN_S, True)):
        phone = Sayer(box.hello("late", now_s, 0, clock_proven=False), key=ANNA)
        if taken:
            assert box.write("late", phone.opening(wish()), now_s, BOOK) is not None
            assert set(names) - set(box._lines) == {names[0]}
        else:
            assert refusal(box, phone.opening(wish()), "late", now_s) == said(BUSY, "busy")
            assert box.counts == {"busy": 1}


def test_a_key_among_others_is_found_and_none_is_none(box: Handshake) -> None:
    book = Book(KEYS, lambda _reference: (BoxSigner.generate().public, ANNA.public))
    phone = greet(box)
    assert not isinstance(box.write("a", phone.opening(wish(), reference=BOOKING.id[:8]), 0.0, book), Told)
    assert keys_of(b"nobody--") == ()


def nothing_to_read(box: Handshake) -> bool:
    with pytest.raises(GattRefused) as caught:
        box.result("a", 0.0)
    return str(caught.value) == said(NOT_UNDERSTOOD, "nothing_asked")


def test_what_was_answered_is_not_read_again_after_whatever_came_next(box: Handshake) -> None:
    begin(box)
    greet(box)
    assert nothing_to_read(box), "a new HELLO"
    phone = begin(box)
    refusal(box, phone.opening(wish()))
    assert nothing_to_read(box), "an opening that is none"
    begin(box)
    refusal(box, framed(b"\3"))
    assert nothing_to_read(box), "a message that is none"
    phone = begin(box)
    heard = box.write("a", phone.further(wish(Op.STATUS)), 0.0, BOOK)
    assert heard is not None
    with pytest.raises(ValueError, match="fits no value"):
        box.answer("a", heard.ticket, Answer("ok", "x" * 600))
    assert nothing_to_read(box), "an answer that could not be given"
