"""Topics, and what ``amibox decode`` makes of a file."""

from __future__ import annotations

import argparse
import base64
import io
import json
import sys
from dataclasses import replace
from pathlib import Path
from types import SimpleNamespace

import pytest
from hypothesis import given
from hypothesis import strategies as st

from cloud_sync import wire
from cloud_sync.documents import Reason, Refused, describe, encode_key_set, encode_reservation_list, show
from cloud_sync.documents.kinds import SEALED_TYPES, DocumentType
from cloud_sync.wire import Topic
from tests.document_rig import BOX_V, CAR, CASES, CLOUD, CLOUD_C, KEYS, LIST, ROOT, STRANGE_AGREEMENT, STRANGER, forge


def test_topics_are_those_of_the_protocol_and_come_back_from_their_text() -> None:
    assert {topic: wire.build_topic(CAR, topic) for topic in Topic} == {
        Topic.BATCH: "amibox/v1/hede-1/up/batch",
        Topic.STATUS: "amibox/v1/hede-1/up/status",
        Topic.KEYS: "amibox/v1/hede-1/down/keys",
        Topic.LIST: "amibox/v1/hede-1/down/list",
        Topic.ACK: "amibox/v1/hede-1/down/ack",
        Topic.COMMAND: "amibox/v1/hede-1/down/command",
        Topic.TIME: "amibox/v1/hede-1/down/time",
        Topic.RESEND: "amibox/v1/hede-1/down/resend",
        Topic.UPDATE: "amibox/v1/hede-1/down/update",
        Topic.PIECE: "amibox/v1/hede-1/down/piece",
    }
    assert all(wire.parse_topic(wire.build_topic(CAR, topic)) == (CAR, topic) for topic in Topic)
    assert [topic for topic in Topic if topic.retained] == [Topic.KEYS, Topic.LIST]


def test_a_box_listens_to_its_own_tree_only_and_the_cloud_to_what_boxes_say() -> None:
    own = wire.box_subscriptions(CAR)
    assert len(own) == 8
    assert all(topic.startswith("amibox/v1/hede-1/down/") and not {"+", "#"} & set(topic) for topic in own)
    assert wire.cloud_subscriptions() == ("amibox/v1/+/up/batch", "amibox/v1/+/up/status")


@pytest.mark.parametrize(
    "topic",
    ["", "/", "amibox", "amibox/v1", "amibox/v1/hede-1", "amibox/v1/hede-1/up", "amibox/v1/hede-1/up/batch/",
     "amibox/v1/hede-1/up/batch/x", "/amibox/v1/hede-1/up/batch", "amibox/v2/hede-1/up/batch",
     "other/v1/hede-1/up/batch", "amibox/v1//up/batch", "amibox/v1/+/up/batch", "amibox/v1/#",
     "amibox/v1/Hede/up/batch",
     "amibox/v1/hede-1/down/batch", "amibox/v1/hede-1/up/ack", "amibox/v1/hede 1/up/batch", "$SYS/v1/hede-1/up/batch",
     "amibox/v1/hede-1\x00/up/batch", "amibox/v1/" + "a" * 33 + "/up/batch", "a" * 70_000],
)  # fmt: skip
def test_any_other_topic_is_refused(topic: str) -> None:
    with pytest.raises(Refused) as caught:
        wire.parse_topic(topic)
    assert caught.value.reason is Reason.BAD_TOPIC
    assert len(caught.value.detail) < 200


@given(st.text(max_size=80))
def test_no_text_crashes_the_topic_parser(topic: str) -> None:
    with pytest.raises(Refused):
        wire.parse_topic(topic)


@pytest.mark.parametrize("vehicle", ["", "+", "#", "a/b", "A", "a" * 33, "a\x00"])
def test_no_topic_is_built_for_a_name_that_is_no_vehicle(vehicle: str) -> None:
    with pytest.raises(Refused):
        wire.build_topic(vehicle, Topic.LIST)


def test_a_payload_is_bounded_before_anybody_keeps_it() -> None:
    wire.check_payload(bytes(wire.MAX_PAYLOAD_BYTES))
    for payload, reason in ((b"", Reason.NOT_CBOR), (bytes(wire.MAX_PAYLOAD_BYTES + 1), Reason.TOO_LARGE)):
        with pytest.raises(Refused) as caught:
            wire.check_payload(payload)
        assert caught.value.reason is reason


# ── amibox decode ──


def decode(*arguments: str | Path) -> int:
    parser = argparse.ArgumentParser()
    show.add_arguments(parser)
    return show.run(parser.parse_args([str(argument) for argument in arguments]))


@pytest.fixture
def put(tmp_path: Path) -> Path:
    return tmp_path / "document"


@pytest.mark.parametrize("case", CASES.values(), ids=[kind.word for kind in CASES])
def test_every_document_is_described_without_keys(
    case: SimpleNamespace, put: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    put.write_bytes(case.data)
    assert decode(put, "--json") == 0
    found = json.loads(capsys.readouterr().out)
    assert found["type"] == case.kind.word
    assert found["version"] == 1
    assert found["sealed"] is (case.kind in SEALED_TYPES)
    assert describe(case.data)["type"] == case.kind.word
    if case.kind in SEALED_TYPES:
        assert found["content"].startswith("sealed")
    else:
        assert found["signature"] == "not checked"
        of_no_car = (DocumentType.KEY_SET, DocumentType.UPDATE, DocumentType.BOX_REQUEST)
        assert CAR in json.dumps(found) or case.kind in of_no_car
    assert decode(put) == 0
    assert f"type: {case.kind.word}" in capsys.readouterr().out


def test_a_document_may_be_raw_hex_or_base64_and_come_through_a_pipe(
    put: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    data = CASES[DocumentType.ACK].data
    spaced = "\n".join(data.hex(" ").upper()[start : start + 48] for start in range(0, len(data) * 3, 48))
    outputs = set()
    for armoured in (
        data,
        data.hex().encode(),
        spaced.encode() + b"\n",
        base64.b64encode(data) + b"\n",
        base64.urlsafe_b64encode(data).rstrip(b"="),
        base64.encodebytes(data),
    ):
        put.write_bytes(armoured)
        assert decode(put, "--json") == 0
        outputs.add(capsys.readouterr().out)
    monkeypatch.setattr(sys, "stdin", SimpleNamespace(buffer=io.BytesIO(data.hex().encode())))
    assert decode("-", "--json") == 0
    outputs.add(capsys.readouterr().out)
    assert len(outputs) == 1


def test_keys_open_the_seal_and_check_the_signature(
    put: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    keys, box, cloud = tmp_path / "keys", tmp_path / "box.pem", tmp_path / "cloud.pem"
    keys.write_bytes(encode_key_set(KEYS, ROOT))
    BOX_V.save(box)
    CLOUD_C.save(cloud)
    put.write_bytes(CASES[DocumentType.RESERVATION_LIST].data)
    assert decode(put, "--key-set", keys, "--box-key", box, "--vehicle", CAR) == 0
    out = capsys.readouterr().out
    assert "signature: holds" in out
    assert "pickup: bazouges" in out
    assert "UTC)" in out
    card = LIST.reservations[0].cards[1]
    assert card.key is not None
    assert "key: not shown" in out
    assert card.key.hex() not in out
    put.write_bytes(CASES[DocumentType.EVENT_BATCH].data)
    assert decode(put, "--box-key", cloud, "--vehicle", CAR, "--json") == 0
    batch = json.loads(capsys.readouterr().out)
    assert [row["kind"] for row in batch["content"]["rows"]] == ["supply", "track"]
    assert batch["signature"] == "not checked"


def test_a_bad_document_gives_its_number_its_words_and_exit_code_1(
    put: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    keys, wrong = tmp_path / "keys", tmp_path / "wrong.pem"
    keys.write_bytes(encode_key_set(KEYS, ROOT))
    STRANGE_AGREEMENT.save(wrong)
    listed = encode_reservation_list(LIST, CLOUD, BOX_V.public)
    signed_by_a_stranger = forge(DocumentType.ACK, {1: CAR, 2: bytes(16), 3: 1, 4: bytes(32)}, STRANGER)
    for data, arguments, reason in (
        (b"", (), Reason.BAD_ENVELOPE),
        (b"hello", (), Reason.BAD_ENVELOPE),
        (b"\xd2", (), Reason.NOT_CBOR),
        (bytes(500_000), (), Reason.TOO_LARGE),
        (CASES[DocumentType.PASS].data[:-1], (), Reason.NOT_CBOR),
        (signed_by_a_stranger, ("--key-set", keys), Reason.UNKNOWN_KEY_ID),
        (listed, ("--box-key", wrong, "--vehicle", CAR), Reason.OTHER_RECIPIENT),
        (listed, ("--box-key", put, "--vehicle", CAR), Reason.BAD_KEY_FILE),
    ):
        put.write_bytes(data)
        put.chmod(0o600)
        assert decode(put, *arguments) == 1
        assert f"refused {reason.value} {reason.word}: {reason.meaning}" in capsys.readouterr().err
        assert decode(put, "--json", *arguments) == 1
        assert json.loads(capsys.readouterr().out)["refused"]["number"] == reason.value


def test_a_file_that_is_not_there_gives_exit_code_2(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert decode(tmp_path / "nothing") == 2
    assert "cannot read" in capsys.readouterr().err


def test_a_strangers_text_does_not_steer_the_terminal(put: Path, capsys: pytest.CaptureFixture[str]) -> None:
    status = CASES[DocumentType.STATUS]
    put.write_bytes(status.make(replace(status.value, door="\x1b[2J")))
    assert decode(put) == 0
    assert "\x1b" not in capsys.readouterr().out
