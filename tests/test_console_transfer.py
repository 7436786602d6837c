"""Files over a bad line: whatever is lost or garbled, what arrives is right or does not arrive."""

from __future__ import annotations

from pathlib import Path

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from onboard.console.transfer import (
    CHUNK_BYTES,
    LINE_MAX,
    Begin,
    Receiver,
    Said,
    begin_line,
    chunk_lines,
    parse,
    said_line,
    sha_of,
)

LIMITS = {"batch": 70_000}
DATA = bytes(range(256)) * 5 + b"the end"


def send(receiver: Receiver, data: bytes, spoil: dict[int, str] | None = None) -> int:
    """Send until it is there, over a line that spoils some lines of the first round; return the rounds."""
    spoiled = dict(spoil or {})
    for rounds in range(1, 200):
        said = parse(receiver.answer(begin_line("batch", data)) or "")
        assert isinstance(said, Said)
        for number, line in enumerate(chunk_lines(data, said.offset)):
            receiver.answer(spoiled.pop(number, line))
        answer = parse(receiver.answer(said_line("E", sha_of(data))) or "")
        assert isinstance(answer, Said)
        if answer.what == "K":
            return rounds
    raise AssertionError("it never arrives")


def test_a_file_arrives_whole(tmp_path: Path) -> None:
    receiver = Receiver(tmp_path, LIMITS)
    assert send(receiver, DATA) == 1
    assert receiver.file is not None
    assert receiver.file.read_bytes() == DATA
    receiver.drop()
    assert list(tmp_path.iterdir()) == []


def test_it_goes_on_where_it_broke_in_another_process(tmp_path: Path) -> None:
    first = Receiver(tmp_path, LIMITS)
    first.answer(begin_line("batch", DATA))
    for line in list(chunk_lines(DATA))[:7]:
        first.answer(line)
    again = Receiver(tmp_path, LIMITS)
    assert again.answer(begin_line("batch", DATA)) == said_line("H", sha_of(DATA), 7 * CHUNK_BYTES)
    for line in chunk_lines(DATA, 7 * CHUNK_BYTES):
        again.answer(line)
    assert again.answer(said_line("E", sha_of(DATA))) == said_line("K", sha_of(DATA))


def test_a_garbled_piece_costs_the_line_from_there_and_is_never_taken(tmp_path: Path) -> None:
    receiver = Receiver(tmp_path, LIMITS)
    receiver.answer(begin_line("batch", DATA))
    for number, line in enumerate(chunk_lines(DATA)):
        receiver.answer(line if number != 3 else line[:-5] + ("A" if line[-5] != "A" else "B") + line[-4:])
    assert receiver.answer(said_line("E", sha_of(DATA))) == said_line("H", sha_of(DATA), 3 * CHUNK_BYTES)


def test_another_content_of_the_same_kind_begins_anew(tmp_path: Path) -> None:
    first = Receiver(tmp_path, LIMITS)
    first.answer(begin_line("batch", DATA))
    first.answer(next(iter(chunk_lines(DATA))))
    assert Receiver(tmp_path, LIMITS).answer(begin_line("batch", DATA[::-1])) == said_line("H", sha_of(DATA[::-1]), 0)
    assert list(tmp_path.iterdir()) == []


@settings(max_examples=40, deadline=None)
@given(data=st.data(), size=st.integers(1, 2000))
def test_over_any_bad_line_what_arrives_is_right(
    tmp_path_factory: pytest.TempPathFactory, data: st.DataObject, size: int
) -> None:
    content = bytes((7 * each) % 251 for each in range(size))
    lines = list(chunk_lines(content))
    spoil = {}
    for number in data.draw(st.sets(st.integers(0, len(lines) - 1), max_size=6)):
        line = lines[number]
        at = data.draw(st.integers(0, len(line) - 1))
        spoil[number] = data.draw(
            st.sampled_from(
                [
                    "",
                    line[:at],
                    line[:at] + chr(33 + (ord(line[at]) - 32) % 90) + line[at + 1 :],
                    lines[(number + 1) % len(lines)],
                    line + line,
                ]
            )
        )
    receiver = Receiver(tmp_path_factory.mktemp("in"), LIMITS)
    send(receiver, content, spoil)
    assert receiver.file is not None
    assert receiver.file.read_bytes() == content


def test_a_file_that_was_spoilt_on_the_disk_is_sent_again(tmp_path: Path) -> None:
    receiver = Receiver(tmp_path, LIMITS)
    receiver.answer(begin_line("batch", DATA))
    for line in chunk_lines(DATA):
        receiver.answer(line)
    [part] = tmp_path.iterdir()
    part.write_bytes(DATA[::-1])
    assert receiver.answer(said_line("E", sha_of(DATA))) == said_line("H", sha_of(DATA), 0)
    assert send(receiver, DATA) == 1


@pytest.mark.parametrize("size", [70_001, 10**8])
def test_what_is_too_large_and_what_nobody_takes_is_refused(tmp_path: Path, size: int) -> None:
    receiver = Receiver(tmp_path, LIMITS)
    with pytest.raises(ValueError, match="bytes"):
        receiver.answer(f"#B batch {size} {'0' * 64}") or pytest.fail("taken") if size < 10**8 else receiver._begin(
            Begin("batch", size, "0" * 64)
        )
    with pytest.raises(ValueError, match="secrets"):
        receiver.answer(f"#B secrets 10 {'0' * 64}")
    assert list(tmp_path.iterdir()) == []


def test_a_line_fits_any_terminal_and_pieces_beyond_the_size_are_left_out(tmp_path: Path) -> None:
    assert max(len(line) for line in chunk_lines(bytes(1000))) < 90 <= LINE_MAX
    receiver = Receiver(tmp_path, LIMITS)
    receiver.answer(begin_line("batch", b"abc"))
    for line in chunk_lines(b"abcd"):
        receiver.answer(line)
    assert receiver.answer(said_line("E", sha_of(b"abc"))) == said_line("H", sha_of(b"abc"), 0)


@given(st.text(max_size=200))
def test_no_line_breaks_it(line: str) -> None:
    parse(line)
    parse("#C " + line)
