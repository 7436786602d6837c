"""``docs/protocol.md`` says what the code does: its tables and its examples are read and compared."""

from __future__ import annotations

import re
from dataclasses import replace

from cloud_sync import wire
from cloud_sync.documents import (
    AgreementKey,
    DocumentType,
    Reason,
    cbor,
    cose,
    decode_box_answer,
    decode_box_request,
    decode_pass,
    decode_reservation_list,
    fingerprint,
)
from cloud_sync.documents.boxes import NO_CAR
from cloud_sync.documents.conversation import Answer, Op, Wish
from cloud_sync.documents.kinds import AUTHORITY_TYPES, BOX_TYPES, MAX_BYTES, SEALED_TYPES
from cloud_sync.documents.records import TABLE
from cloud_sync.wire import Topic
from onboard.handshake import Handshake
from onboard.heard import Asked, Book
from sim.fuzz import world
from tests.conftest import ROOT
from tests.document_rig import BOOKING, BOX_V, CAR, CLOUD, KEYS, LIST, PASS, STORE, forge, payload_of
from tests.document_rig import CASES as EXAMPLES
from tests.handshake_rig import Sayer, keys_of
from tests.phone_rig import ANNA

PAGE = (ROOT / "docs" / "protocol.md").read_text()
BLOCKS = [bytes.fromhex(block) for block in re.findall(r"```hex\n(.*?)```", PAGE, re.DOTALL)]


def test_the_page_lists_every_reason_with_its_number_and_meaning() -> None:
    listed = re.findall(
        r"^\| (\d+) \| `(\w+)` \| (.*) \|$", PAGE.split("## 7. Reasons")[1].split("## 8")[0], re.MULTILINE
    )
    assert listed == [(str(reason.value), reason.word, reason.meaning) for reason in Reason]


def test_the_page_lists_every_type_with_who_signs_it_and_its_bound() -> None:
    section = PAGE.split("## 3. Documents")[1].split("### Key set")[0]
    rows = [[cell.strip() for cell in line.split("|")[1:-1]] for line in section.splitlines() if line.startswith("| ")]
    listed = rows[1:]  # the head of the table
    assert [(int(row[0]), row[1].strip("`")) for row in listed] == [(kind.value, kind.word) for kind in DocumentType]
    for number, _, signer, sealed, bound in listed:
        kind = DocumentType(int(number))
        if kind is DocumentType.UPDATE:
            continue
        by = "the box" if kind in BOX_TYPES else "authority" if kind in AUTHORITY_TYPES else "a root"
        assert signer == by
        assert bool(sealed) is (kind in SEALED_TYPES)
        assert int(bound.replace(",", "").removesuffix(" bytes")) == MAX_BYTES[kind]


def test_the_page_lists_every_record_with_its_fields_in_order() -> None:
    listed = re.findall(r"^\| (\d+) \| ([A-Z]\w+) \| (.*) \|$", PAGE, re.MULTILINE)
    assert [(int(code), name, fields.split()) for code, name, fields in listed] == [
        (code, kind.__name__, names.split()) for kind, (code, names) in TABLE.items()
    ]


def test_the_page_lists_every_topic() -> None:
    listed = re.findall(r"^\| `(amibox/\S+)` \| .* \| (.*) ?\|$", PAGE, re.MULTILINE)
    assert {topic: bool(retained.strip()) for topic, retained in listed} == {
        wire.build_topic(CAR, topic).replace(CAR, "<vehicle>"): topic.retained for topic in Topic
    }


def test_the_examples_on_the_page_can_be_decoded_and_made_again() -> None:
    """Golden bytes: written by this version, read by every later one."""
    a_pass, a_list = BLOCKS[:2]
    assert decode_pass(a_pass, KEYS, CAR) == PASS
    assert EXAMPLES[DocumentType.PASS].data == a_pass
    booking = replace(BOOKING, phone_keys=(), cards=BOOKING.cards[:1])
    listed = replace(LIST, horizon_end_s=LIST.issued_at_s + 86400, reservations=(booking,), staff=(), revoked=())
    assert decode_reservation_list(a_list, KEYS, BOX_V, CAR) == listed
    inside = {**payload_of(EXAMPLES[DocumentType.RESERVATION_LIST]), 4: listed.horizon_end_s, 6: [], 7: []}
    inside[5][0] |= {8: [], 9: inside[5][0][9][:1]}
    kind, ephemeral = DocumentType.RESERVATION_LIST, AgreementKey.from_bytes(bytes([11]) * 32)
    signed = cose.open_document(forge(kind, inside, CLOUD), kind, CAR, BOX_V)
    inner = cose.sign1(kind, signed.payload, CLOUD)
    sealed = cose.seal(kind, CAR, inner, BOX_V.public, ephemeral=ephemeral, random=lambda size: bytes(range(size)))
    assert sealed == a_list


def test_the_request_and_the_answer_on_the_page_are_what_box_and_commune_say() -> None:
    a_request, an_answer = BLOCKS[2:4]
    assert decode_box_request(a_request) == world.REQUEST
    assert f"`{fingerprint(world.REQUEST.digest)}`" in PAGE
    assert decode_box_answer(an_answer, BOX_V) == world.ANSWER
    kind, ephemeral = DocumentType.BOX_ANSWER, AgreementKey.from_bytes(bytes([11]) * 32)
    inner = cose.sign1(kind, cbor.dumps(payload_of(EXAMPLES[kind])), CLOUD)
    sealed = cose.seal(kind, NO_CAR, inner, BOX_V.public, ephemeral=ephemeral, random=lambda size: bytes(range(size)))
    assert sealed == an_answer


def test_the_conversation_on_the_page_is_what_both_ends_say() -> None:
    hello, command, answer = BLOCKS[4:]
    once = AgreementKey.from_bytes(bytes([13]) * 32)
    box = Handshake(CAR, BOX_V, bytes(range(16, 24)), random=lambda size: bytes(range(size)), make_key=lambda: once)
    assert box.hello("a", 0.0, 1_797_000_000, clock_proven=True) == hello
    asked = box.write("a", command, 1.0, Book(KEYS, keys_of))
    assert isinstance(asked, Asked)
    assert (asked.credential.key, asked.credential.command_id) == (ANNA.public, bytes(range(32, 48)))
    said = Answer("granted", "opening", "locked", 0, STORE, 42, 40, 1_796_999_999, 7)
    assert box.answer("a", asked.ticket, said)
    assert box.result("a", 1.0) == answer
    phone = Sayer(hello, once=AgreementKey.from_bytes(bytes([14]) * 32))
    assert phone.hear(answer) == replace(said, counter=1)
    # A signature is new each time; everything round it is not.
    again = phone.opening(Wish(bytes(range(32, 48)), Op.UNLOCK), reference=b"\1" * 8)
    assert again[:36] == command[:36]
    assert len(again) == len(command)
