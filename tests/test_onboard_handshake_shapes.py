"""Conversations that go wrong on the way: each end, what it is counted as, and that nothing of it is heard."""

from __future__ import annotations

import pytest

from cloud_sync.documents.conversation import Answer, Op, framed
from onboard import handshake
from onboard.core.gatt import HELLO_OVER, NOT_UNDERSTOOD, GattRefused
from onboard.handshake import Handshake
from onboard.heard import Asked, Book, Told
from tests.document_rig import BOX_V, CAR
from tests.handshake_rig import BOOK, Sayer, keys_of, wish
from tests.test_onboard_handshake import begin, greet, refused, reply


@pytest.fixture
def box() -> Handshake:
    return Handshake(CAR, BOX_V, bytes(8))


def told(box: Handshake, phone: Sayer, message: bytes) -> Answer:
    heard = box.write("a", message, 0.0, BOOK)
    assert isinstance(heard, Told)
    assert box.answer("a", heard.ticket, Answer(heard.status, heard.reason))
    sealed = box.result("a", 0.0)
    assert sealed is not None
    return phone.hear(sealed)


def test_without_a_hello_nothing_is_heard(box: Handshake) -> None:
    assert refused(box, framed(b"\1" + bytes(100)), "nobody") == HELLO_OVER
    assert box.counts == {"no_hello": 1}


def test_a_further_wish_without_a_conversation_is_none(box: Handshake) -> None:
    phone = greet(box)
    assert refused(box, phone.further(wish())) == HELLO_OVER
    assert box.counts == {"no_conversation": 1}


def test_a_further_message_shorter_than_its_seal_is_none(box: Handshake) -> None:
    begin(box)
    assert refused(box, framed(b"\2" + bytes(handshake._FURTHER_HEAD + 16 - 2))) == NOT_UNDERSTOOD
    assert box.counts == {"bad_length": 1}


def test_a_further_wish_that_does_not_open_ends_the_conversation(box: Handshake) -> None:
    phone = begin(box)
    good = phone.further(wish())
    assert refused(box, good[:-1] + bytes([good[-1] ^ 1])) == NOT_UNDERSTOOD
    assert box.counts == {"bad_seal": 1}
    assert refused(box, good) == HELLO_OVER


def test_a_wish_that_opens_and_is_none_is_answered_under_seal(box: Handshake) -> None:
    phone = begin(box)
    sealed = framed(phone.channel.seal(b"\2" + phone.counter.to_bytes(4, "big"), b"\xa0"))
    answer = told(box, phone, sealed)
    assert (answer.status, answer.reason) == ("denied", "not_understood")
    assert refused(box, phone.further(wish())) == HELLO_OVER


def test_a_conversation_has_a_last_wish(box: Handshake, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(handshake, "WISHES_MAX", 2)
    phone = begin(box)
    for _ in range(2):
        reply(box, phone, box.write("a", phone.further(wish(Op.STATUS)), 0.0, BOOK))
    answer = told(box, phone, phone.further(wish(Op.STATUS)))
    assert (answer.status, answer.reason) == ("denied", "too_much")


def test_a_box_without_a_key_set_takes_a_pass_for_unproven(box: Handshake) -> None:
    phone = greet(box)
    heard = box.write("a", phone.opening(wish()), 0.0, Book(None, keys_of))
    assert isinstance(heard, Told)
    assert (heard.status, heard.reason, heard.known) == ("denied", "key_set_wanted", False)


def test_an_answer_that_nobody_waits_for_is_not_given(box: Handshake) -> None:
    phone = greet(box)
    asked = box.write("a", phone.opening(wish()), 0.0, BOOK)
    assert isinstance(asked, Asked)
    assert not box.answer("b", asked.ticket, Answer("granted"))
    assert not box.answer("a", asked.ticket + 1, Answer("granted"))
    assert box.result("a", 0.0) is None
    assert box.answer("a", asked.ticket, Answer("granted"))
    assert not box.answer("a", asked.ticket, Answer("granted")), "once"


def test_an_answer_fits_one_value(box: Handshake) -> None:
    phone = greet(box)
    asked = box.write("a", phone.opening(wish()), 0.0, BOOK)
    assert isinstance(asked, Asked)
    with pytest.raises(ValueError, match="fits no value"):
        box.answer("a", asked.ticket, Answer("granted", "x" * 600))


def test_what_can_not_be_read_is_no_key_set() -> None:
    assert not handshake._is_key_set(b"\xff")


def test_a_wish_is_not_heard_before_the_last_one_is_answered(box: Handshake) -> None:
    phone = greet(box)
    assert isinstance(box.write("a", phone.opening(wish()), 0.0, BOOK), Asked)
    with pytest.raises(GattRefused):
        box.write("a", b"\0", 0.0, BOOK)
    assert box.counts == {"not_your_turn": 1}
