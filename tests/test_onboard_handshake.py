"""The box's half of the conversation: who gets one, how long it lives, and what a phone may bring and take."""

from __future__ import annotations

import hashlib
import itertools
import secrets
from dataclasses import replace

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from cloud_sync.documents import Ack, BoxSigner, encode_ack, encode_key_set, encode_pass
from cloud_sync.documents.conversation import (
    CHUNK_MAX_BYTES,
    MESSAGE_MAX_BYTES,
    Answer,
    Chunk,
    Op,
)
from onboard.core.gatt import BUSY, HELLO_OVER, NOT_UNDERSTOOD, REFERENCE_UNKNOWN, GattRefused
from onboard.handshake import HELLO_S, LINES_MAX, OPEN_MAX, TURN_S, WISHES_MAX, Handshake
from onboard.heard import Asked, Book, Brought, Heard, Told, Wanted
from onboard.line import ERRAND_S, IDLE_S, UNPROVEN_S
from onboard.parcel import VISIT_MAX_BYTES
from tests.document_rig import BOX_V, CAR, CLOUD, KEYS, ROOT, STORE, STRANGER
from tests.handshake_rig import BOOK, Sayer, wish
from tests.phone_rig import ANNA, BOOKING, grant


@pytest.fixture
def box() -> Handshake:
    return Handshake(CAR, BOX_V, bytes(8))


def greet(box: Handshake, connection: str = "a", now_s: float = 0.0, key: BoxSigner = ANNA) -> Sayer:
    hello = box.hello(connection, now_s, 0, clock_proven=False)
    return Sayer(hello, key=key, grant=encode_pass(grant(BOOKING, key), CLOUD))


def other(number: int) -> BoxSigner:
    """Return another phone's key."""
    return BoxSigner.from_bytes(bytes([100 + number]) * 32)


def begin(
    box: Handshake, connection: str = "a", now_s: float = 0.0, op: Op = Op.STATUS, key: BoxSigner = ANNA
) -> Sayer:
    """Open a conversation, and have its first wish answered."""
    phone = greet(box, connection, now_s, key)
    heard = box.write(connection, phone.opening(wish(op)), now_s, BOOK)
    assert heard is not None
    reply(box, phone, heard, connection)
    return phone


def reply(box: Handshake, phone: Sayer, heard: Heard | None, connection: str = "a", **more: object) -> Answer:
    assert heard is not None
    status, reason = (heard.status, heard.reason) if isinstance(heard, Told) else ("ok", "")
    assert box.answer(connection, heard.ticket, Answer(status, reason, **more))  # type: ignore[arg-type]  # its fields
    sealed = box.result(connection, 0.0)
    assert sealed is not None
    assert sealed == box.result(connection, 0.0), "read again, the same bytes"
    return phone.hear(sealed)


def refused(box: Handshake, data: bytes, connection: str = "a", now_s: float = 0.0) -> int:
    with pytest.raises(GattRefused) as caught:
        box.write(connection, data, now_s, BOOK)
    return caught.value.code


@pytest.mark.parametrize("by", ["pass", "reference"])
@pytest.mark.parametrize("piece", [1, 20, 182, 2000])
def test_a_phone_that_proves_its_key_is_heard_in_however_many_pieces(box: Handshake, by: str, piece: int) -> None:
    phone, mine = greet(box), wish()
    message = phone.opening(mine, reference=BOOKING.id[:8] if by == "reference" else b"")
    heard = [box.write("a", message[i : i + piece], 0.0, BOOK) for i in range(0, len(message), piece)]
    assert heard[:-1] == [None] * (len(heard) - 1)
    asked = heard[-1]
    assert isinstance(asked, Asked)
    assert (asked.credential.key, asked.credential.command_id) == (ANNA.public, mine.id)
    assert (asked.credential.grant is None) == (by == "reference")
    assert box.result("a", 0.0) is None, "the read waits"
    assert reply(box, phone, asked).counter == 1


def test_a_hello_is_the_same_until_it_is_used_and_new_after_15_s(box: Handshake) -> None:
    first = box.hello("a", 0.0, 0, clock_proven=False)
    assert box.hello("a", HELLO_S - 0.1, 0, clock_proven=False) == first
    assert box.hello("b", 1.0, 0, clock_proven=False) != first
    assert box.hello("a", HELLO_S, 0, clock_proven=False) != first
    phone = greet(box, "c")
    assert refused(box, phone.opening(wish()), "c", HELLO_S) == HELLO_OVER


def test_a_hello_counts_once_whatever_came_of_it(box: Handshake) -> None:
    phone = greet(box)
    damaged = phone.opening(wish())
    assert refused(box, damaged[:-1] + bytes([damaged[-1] ^ 1])) == NOT_UNDERSTOOD
    assert refused(box, phone.opening(wish())) == HELLO_OVER
    phone = greet(box)
    asked = box.write("a", phone.opening(wish()), 0.0, BOOK)
    reply(box, phone, asked)
    assert refused(box, phone.opening(wish())) == HELLO_OVER


def test_another_phones_hello_opens_nothing(box: Handshake) -> None:
    theirs = greet(box, "a")
    greet(box, "b")
    assert refused(box, theirs.opening(wish()), "b") == NOT_UNDERSTOOD


def test_a_repeated_read_gives_the_same_and_nothing_asked_gives_nothing(box: Handshake) -> None:
    with pytest.raises(GattRefused):
        box.result("a", 0.0)
    begin(box)
    greet(box)
    with pytest.raises(GattRefused):
        box.result("a", 0.0)


def test_an_old_or_a_skipped_counter_is_told_and_ends_the_conversation(box: Handshake) -> None:
    for step in (-1, 1):
        phone = begin(box)
        phone.counter += step
        answer = reply(box, phone, box.write("a", phone.further(wish()), 0.0, BOOK))
        assert (answer.status, answer.reason) == ("denied", "old_counter")
        assert refused(box, phone.further(wish())) == HELLO_OVER


def test_further_wishes_need_no_new_proof(box: Handshake) -> None:
    phone = begin(box)
    for op in (Op.UNLOCK, Op.LOCK, Op.FINISH):
        mine = wish(op)
        asked = box.write("a", phone.further(mine), 0.0, BOOK)
        assert isinstance(asked, Asked)
        assert (asked.credential.command_id, asked.intent.value) == (mine.id, op.name.lower())
        assert asked.credential.grant == grant(BOOKING), "the pass is looked at again"
        reply(box, phone, asked)


def test_a_second_wish_before_the_answer_ends_the_conversation(box: Handshake) -> None:
    phone = begin(box)
    assert box.write("a", phone.further(wish()), 0.0, BOOK) is not None
    phone.counter += 1
    assert refused(box, phone.further(wish())) == NOT_UNDERSTOOD
    assert refused(box, phone.further(wish())) == HELLO_OVER


def test_a_conversation_has_an_end(box: Handshake) -> None:
    phone = begin(box)
    for _ in range(WISHES_MAX):
        reply(box, phone, box.write("a", phone.further(wish(Op.STATUS)), 0.0, BOOK))
    assert reply(box, phone, box.write("a", phone.further(wish()), 0.0, BOOK)).reason == "too_much"


def test_an_unknown_reference_asks_for_the_pass(box: Handshake) -> None:
    assert refused(box, greet(box).opening(wish(), reference=b"nobody--")) == REFERENCE_UNKNOWN


def test_only_a_few_talk_at_once_and_the_next_is_told_busy(box: Handshake) -> None:
    for number in range(OPEN_MAX):
        begin(box, str(number), key=other(number))
    phone = greet(box, "late")
    assert refused(box, phone.opening(wish()), "late") == BUSY
    box.gone("0")
    phone = greet(box, "late")
    assert isinstance(box.write("late", phone.opening(wish()), 0.0, BOOK), Asked)


def test_phones_that_hold_on_keep_nobody_out_for_longer_than_their_turn(box: Handshake) -> None:
    """Whoever ever had a pass can open a conversation, and then say something for ever."""
    for number in range(OPEN_MAX):
        begin(box, str(number), now_s=number / 10, key=other(number))
    late = TURN_S + 0.05
    phone = greet(box, "late", late)
    assert isinstance(box.write("late", phone.opening(wish()), late, BOOK), Asked)
    assert box.idle(late) == ("0",), "the oldest made room"
    phone = greet(box, "next", late, other(9))
    assert refused(box, phone.opening(wish()), "next", late) == BUSY


def test_one_phone_never_holds_more_than_one_conversation(box: Handshake) -> None:
    """Else one old pass on four connections would keep everybody out, each opened anew before its turn is over."""
    for number in range(3 * OPEN_MAX):
        begin(box, f"hog {number % 6}", now_s=number / 10)
    assert sum(line.credential is not None for line in box._lines.values()) == 1
    phone = greet(box, "good", 1.2, other(1))
    assert isinstance(box.write("good", phone.opening(wish()), 1.2, BOOK), Asked)


def test_whoever_has_not_proven_himself_is_dropped_whatever_he_says(box: Handshake) -> None:
    for now_s in range(0, 15, 2):
        phone = greet(box, "a", float(now_s))
        box.write("a", phone.opening(wish())[:40], float(now_s), BOOK)
    assert box.idle(UNPROVEN_S) == ()
    assert box.idle(UNPROVEN_S + 0.1) == ("a",)


def test_a_connection_that_came_back_is_not_dropped_for_what_it_was(box: Handshake) -> None:
    for number in range(OPEN_MAX):
        begin(box, str(number), now_s=0.0, key=other(number))
    begin(box, "late", now_s=TURN_S + 0.1)
    phone = begin(box, "0", now_s=2 * TURN_S + 0.2, key=other(0))
    assert "0" not in box.idle(2 * TURN_S + 0.3)
    assert box.write("0", phone.further(wish(Op.STATUS)), 2 * TURN_S + 0.4, BOOK) is not None


def test_after_a_new_key_set_a_pass_is_to_be_shown_anew(box: Handshake) -> None:
    phone = begin(box)
    newer = Book(replace(KEYS, version=KEYS.version + 1), BOOK.phone_keys)
    answer = reply(box, phone, box.write("a", phone.further(wish()), 0.0, newer))
    assert (answer.status, answer.reason) == ("denied", "hello_over")


def test_passes_of_an_unknown_authority_take_no_turn(box: Handshake) -> None:
    for number in range(2 * OPEN_MAX):
        phone = greet(box, str(number))
        phone.grant = encode_pass(grant(BOOKING), STRANGER)
        reply(box, phone, box.write(str(number), phone.opening(wish()), 0.0, BOOK), str(number))
    begin(box, "good")


def test_a_phone_that_does_not_fetch_its_answer_is_dropped_as_well(box: Handshake) -> None:
    phone = greet(box)
    assert isinstance(box.write("a", phone.opening(wish()), 0.0, BOOK), Asked)
    assert box.idle(IDLE_S) == ()
    assert box.idle(IDLE_S + 0.1) == ("a",)


def test_a_crowd_of_strangers_pushes_no_good_phone_out(box: Handshake) -> None:
    good = begin(box, "good")
    for number in range(10 * LINES_MAX):
        greet(box, f"stranger {number}", number / 100)
    assert len(box._lines) == LINES_MAX
    assert isinstance(box.write("good", good.further(wish()), 1.6, BOOK), Asked)
    assert "stranger 0" in set(box.idle(1.7)) | {"stranger 0"} - set(box._lines)
    assert box.counts["evicted"] == 9 * LINES_MAX + 1


def test_the_silent_are_dropped_and_those_on_an_errand_later(box: Handshake) -> None:
    begin(box, "a")
    phone = greet(box, "b", key=other(1))
    errand = box.write("b", phone.opening(wish()), 0.0, BOOK)
    reply(box, phone, errand, "b", time_nonce=bytes(16))
    assert box.idle(IDLE_S) == ()
    assert box.idle(IDLE_S + 0.1) == ("a",)
    assert box.idle(ERRAND_S) == ()
    assert box.idle(ERRAND_S + 0.1) == ("b",)
    assert not box._lines


def test_garbage_of_every_length_is_refused(box: Handshake) -> None:
    lengths = range(MESSAGE_MAX_BYTES + 8)
    for length, whole, kind in itertools.product(lengths, (False, True), (b"", b"\1", b"\2")):
        greet(box)
        garbage = (kind + secrets.token_bytes(length))[:length]
        refusals = 0
        for data in ((length.to_bytes(2, "big") if whole else b"") + garbage, b"\0" * 2):
            # At most it is taken for the beginning of something.
            try:
                assert box.write("a", data, 0.0, BOOK) is None
            except GattRefused:
                refusals += 1
        assert refusals or not whole, "a whole message of garbage was refused"
    assert not any(line.channel for line in box._lines.values())
    assert set(box.counts) <= {"bad_length", "bad_kind", "no_conversation", "not_sealed_to_us", "hello_over"}


def test_a_message_announced_as_too_long_is_not_waited_for(box: Handshake) -> None:
    greet(box)
    assert refused(box, (MESSAGE_MAX_BYTES + 1).to_bytes(2, "big")) == NOT_UNDERSTOOD


def test_what_opens_but_makes_no_sense_is_told_so(box: Handshake) -> None:
    for command in (b"\0", b"\xa0", wish().encode() + b"\0", b"\xa1\x01\x40"):
        phone = greet(box)
        answer = reply(box, phone, box.write("a", phone.opening(wish(), command=command), 0.0, BOOK))
        assert (answer.status, answer.reason) == ("denied", "not_understood")
        assert refused(box, phone.further(wish())) == HELLO_OVER


# Documents in pieces.


def pieces(document: bytes) -> list[Chunk]:
    digest = hashlib.sha256(document).digest()
    starts = range(0, len(document), CHUNK_MAX_BYTES)
    return [Chunk(digest, len(document), start, document[start : start + CHUNK_MAX_BYTES]) for start in starts]


def put(box: Handshake, phone: Sayer, chunk: Chunk) -> Heard | None:
    return box.write("a", phone.further(wish(Op.PUT, chunk=chunk)), 0.0, BOOK)


@pytest.mark.parametrize("size", [1, CHUNK_MAX_BYTES, CHUNK_MAX_BYTES + 1, 5000])
def test_a_document_in_pieces_is_put_together(box: Handshake, size: int) -> None:
    phone, document = begin(box), secrets.token_bytes(size)
    *first, last = pieces(document)
    for each in first:
        heard = put(box, phone, each)
        assert isinstance(heard, Told)
        assert heard.offset == each.offset + len(each.data)
        reply(box, phone, heard)
    whole = put(box, phone, last)
    assert isinstance(whole, Brought)
    assert whole.document == document


@settings(max_examples=60, deadline=None)
@given(st.data())
def test_pieces_in_any_order_give_the_document_or_nothing(data: st.DataObject) -> None:
    box = Handshake(CAR, BOX_V, bytes(8))
    phone, document = begin(box), bytes(range(256)) * 5
    wanted = pieces(document)
    order = data.draw(st.lists(st.integers(0, len(wanted) - 1), max_size=12))
    there = 0
    for index in order:
        chunk = wanted[index]
        there = 1 if index == 0 else there + (index == there)
        if data.draw(st.booleans()):
            chunk = replace(chunk, data=bytes(len(chunk.data)))
        heard = put(box, phone, chunk)
        assert not isinstance(heard, Brought) or heard.document == document
        if isinstance(heard, Brought):
            heard = Told(heard.ticket, "ok", "", known=True)
        elif isinstance(heard, Told) and heard.status == "ok":
            assert heard.offset == len(b"".join(each.data for each in wanted[:there])), "a torn transfer goes on there"
        there %= len(wanted)
        reply(box, phone, heard)


def test_a_document_that_is_not_what_was_announced_is_damaged(box: Handshake) -> None:
    phone, parts = begin(box), pieces(bytes(range(256)) * 3)
    parts[1] = replace(parts[1], data=bytes(len(parts[1].data)))
    answers = [reply(box, phone, put(box, phone, part)) for part in parts]
    assert [each.reason for each in answers] == ["go_on", "go_on", "damaged"]


def test_a_visit_brings_and_takes_no_more_than_64_kib(box: Handshake) -> None:
    phone = begin(box)
    brought, answer = 0, Answer("ok")
    for chunk in pieces(secrets.token_bytes(VISIT_MAX_BYTES)) + pieces(secrets.token_bytes(CHUNK_MAX_BYTES)):
        heard = put(box, phone, chunk)
        if isinstance(heard, Brought):
            brought, heard = brought + 1, Told(heard.ticket, "ok", "", known=True)
        answer = reply(box, phone, heard)
    assert (brought, answer.reason) == (1, "too_much")
    taken = 0
    while isinstance(heard := box.write("a", phone.further(wish(Op.GET)), 0.0, BOOK), Wanted):
        reply(box, phone, heard, chunk=Chunk(bytes(32), 60_000, 0, bytes(CHUNK_MAX_BYTES)))
        taken += CHUNK_MAX_BYTES
    assert taken <= VISIT_MAX_BYTES + CHUNK_MAX_BYTES


def test_whoever_is_not_let_in_yet_may_bring_a_key_set_only(box: Handshake) -> None:
    phone = greet(box)
    phone.grant = encode_pass(grant(BOOKING), STRANGER)
    answer = reply(box, phone, box.write("a", phone.opening(wish()), 0.0, BOOK))
    assert answer.reason == "key_set_wanted"
    assert not answer.let_in
    for op in (Op.UNLOCK, Op.STATUS, Op.GET):
        heard = box.write("a", phone.further(wish(op)), 0.0, BOOK)
        assert isinstance(heard, Told)
        assert heard.reason == "key_set_wanted"
        reply(box, phone, heard)
    ack = encode_ack(Ack(CAR, STORE, 1, bytes(32)), CLOUD)
    for document, taken in ((ack, False), (encode_key_set(KEYS, ROOT), True)):
        (chunk,) = pieces(document)
        heard = put(box, phone, chunk)
        assert isinstance(heard, Brought) == taken
        reply(box, phone, heard)
