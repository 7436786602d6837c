"""The update's document, its pieces and its bundle: what passes, and what does not by one."""

from __future__ import annotations

from typing import Any

import pytest

from cloud_sync import documents as d
from cloud_sync.documents import Reason, Refused, cbor
from cloud_sync.documents.up import read_status
from cloud_sync.documents.update import (
    BLOCK_BYTES,
    BLOCKS_MAX,
    NEEDS_MAX,
    blocks_of,
    describe_content,
    fits,
    head_of,
    pack,
    read_update,
    version_number,
    version_text,
)
from tests.document_rig import CASES, CLOUD, payload_of

GOOD: dict[int, Any] = {1: 2000, 2: BLOCK_BYTES + 1, 3: [bytes(32)] * 2, 4: ["cbor2==6.3.0"]}


@pytest.mark.parametrize(
    ("text", "number"),
    [("0.0.1", 1), ("0.2.0", 2000), ("1.2.3", 1_002_003), ("999.999.999", 999_999_999), ("10.0.0", 10_000_000)],
)
def test_a_version_and_its_number(text: str, number: int) -> None:
    assert version_number(text) == number
    assert version_text(number) == text


@pytest.mark.parametrize(
    "text", ["", "1", "1.2", "1.2.3.4", "1.2.1000", "01.2.3", "1.-2.3", "1.2.3\n", "v1.2.3", "٣.2.1"]
)
def test_what_is_no_version(text: str) -> None:
    with pytest.raises(ValueError, match="is no version"):
        version_number(text)


@pytest.mark.parametrize(
    ("change", "reason"),
    [
        ({1: 0}, Reason.BAD_SCHEMA),
        ({1: 1_000_000_000}, Reason.BAD_SCHEMA),
        ({2: 0}, Reason.BAD_SCHEMA),
        ({2: BLOCK_BYTES * BLOCKS_MAX + 1}, Reason.BAD_SCHEMA),
        ({2: BLOCK_BYTES}, Reason.CONTRADICTION),
        ({2: BLOCK_BYTES * 2 + 1}, Reason.CONTRADICTION),
        ({3: []}, Reason.BAD_SCHEMA),
        ({3: [bytes(32), bytes(31)]}, Reason.BAD_SCHEMA),
        ({3: [bytes(32)] * (BLOCKS_MAX + 1)}, Reason.BAD_SCHEMA),
        ({4: ["a==1"] * (NEEDS_MAX + 1)}, Reason.BAD_SCHEMA),
        ({4: ["cbor2"]}, Reason.BAD_SCHEMA),
        ({4: ["cbor2>=6"]}, Reason.BAD_SCHEMA),
        ({4: ["cbor2==6; python_version<'4'"]}, Reason.BAD_SCHEMA),
        ({4: ["a==" + "1" * 94]}, Reason.BAD_SCHEMA),
        ({-1: 0}, Reason.CRITICAL_KEY),
    ],
)
def test_an_update_that_is_none(change: dict[int, Any], reason: Reason) -> None:
    with pytest.raises(Refused) as refused:
        read_update(GOOD | change)
    assert refused.value.reason is reason


@pytest.mark.parametrize(
    "change",
    [
        {},
        {1: 999_999_999},
        {2: BLOCK_BYTES * 2},
        {2: BLOCK_BYTES * BLOCKS_MAX, 3: [bytes(32)] * BLOCKS_MAX},
        {4: ["a==1"] * NEEDS_MAX},
        {4: ["a==" + "1" * 93]},
        {99: "a later version says more"},
    ],
)
def test_an_update_at_its_bounds(change: dict[int, Any]) -> None:
    assert read_update(GOOD | change).size == (GOOD | change)[2]


def test_the_largest_update_fits_its_bound() -> None:
    needs = tuple(f"{'n' * 40}{number:02}==1.2.3.post4" for number in range(64))
    largest = d.Update(999_999_999, BLOCK_BYTES * BLOCKS_MAX, (bytes(32),) * BLOCKS_MAX, needs)
    assert len(d.encode_update(largest, CLOUD)) <= 16_384


def test_a_piece_comes_back_and_is_bounded() -> None:
    piece = d.Piece(bytes(32), BLOCKS_MAX - 1, b"x" * BLOCK_BYTES)
    assert d.decode_piece(d.encode_piece(piece)) == piece
    for wrong in ({1: bytes(31)}, {2: BLOCKS_MAX}, {3: b""}, {3: bytes(BLOCK_BYTES + 1)}, {-1: 1}):
        with pytest.raises(Refused):
            d.decode_piece(cbor.dumps({1: bytes(32), 2: 0, 3: b"x"} | wrong))
    with pytest.raises(Refused):
        d.decode_piece(b"not cbor at all")


def test_a_content_is_its_blocks_and_each_fits_its_own_place_alone() -> None:
    content = bytes(range(256)) * 300
    update = describe_content(2000, content, ())
    blocks = blocks_of(content)
    assert b"".join(blocks) == content
    assert [len(block) for block in blocks] == [BLOCK_BYTES, BLOCK_BYTES, len(content) - 2 * BLOCK_BYTES]
    assert all(fits(update, *each) for each in enumerate(blocks))
    assert not fits(update, 2, blocks[0])
    assert not fits(update, 3, b"")
    assert not fits(update, 0, blocks[0] + b"x")


@pytest.mark.parametrize(
    "data",
    [b"", b"AMIBOXU1", b"AMIBOXU2" + bytes([0, 0, 0, 1]) + b"x", pack(b""), pack(b"x" * 16_385), pack(b"xy")[:-1]],
)
def test_what_is_no_bundle(data: bytes) -> None:
    with pytest.raises(Refused) as refused:
        head_of(data)
    assert refused.value.reason is Reason.BAD_ENVELOPE


def test_a_bundle_begins_with_its_document() -> None:
    assert head_of(pack(b"document", b"content")) == b"document"
    assert head_of(pack(b"x" * 16_384)) == b"x" * 16_384


@pytest.mark.parametrize(
    "progress", [[bytes(32), 1], [bytes(31), 1, ""], [bytes(32), 257, ""], [bytes(32), -1, ""], "x"]
)
def test_progress_that_is_none(progress: Any) -> None:
    with pytest.raises(Refused):
        read_status(payload_of(CASES[d.DocumentType.STATUS]) | {21: progress})
