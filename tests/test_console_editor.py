"""The line editor: what is on the screen is what will be sent, whatever is typed, and it costs few bytes."""

from __future__ import annotations

from hypothesis import given
from hypothesis import strategies as st

from onboard.console.editor import COLUMNS, HISTORY_MAX, Editor, Key, Line

PROMPT = "box> "
UP, DOWN, RIGHT, LEFT, HOME, END, DELETE = (f"\x1b[{key}".encode() for key in ("A", "B", "C", "D", "H", "F", "3~"))


class Screen:
    """A terminal as dumb as they come: letters, backspace, CR, LF, BEL; nothing else is understood."""

    def __init__(self) -> None:
        self.rows = [[" "] * COLUMNS]
        self.column = 0

    def show(self, data: bytes) -> None:
        for letter in data.decode():
            if letter == "\b":
                assert self.column > 0, "backspace at the edge"
                self.column -= 1
            elif letter == "\r":
                self.column = 0
            elif letter == "\n":
                self.rows.append([" "] * COLUMNS)
            elif letter != "\a":
                assert letter.isprintable(), f"{letter!r} is no letter"
                assert self.column < COLUMNS, "a line wraps"
                self.rows[-1][self.column] = letter
                self.column += 1

    @property
    def last(self) -> str:
        return "".join(self.rows[-1]).rstrip()


def typed(*parts: bytes, words: tuple[str, ...] = ()) -> tuple[Editor, Screen]:
    editor, screen = Editor(lambda text: [w for w in words if w.startswith(text.split(" ")[-1])]), Screen()
    editor.begin(PROMPT)
    for part in parts:
        rest = part
        while rest:
            line, rest = editor.feed(rest)
            screen.show(editor.take())
            if line is not None:
                editor.begin(PROMPT)
    screen.show(editor.take())
    return editor, screen


def entered(*parts: bytes, words: tuple[str, ...] = ()) -> str:
    """Type, then Enter; what was on the screen must be what is returned."""
    editor, screen = typed(*parts, words=words)
    shown = screen.last.removeprefix(PROMPT.strip()).strip()
    line, rest = editor.feed(b"\r")
    assert line is not None
    assert (line.key, rest) == (Key.ENTER, b"")
    assert line.text.strip() == shown
    return line.text


def test_a_letter_at_the_end_costs_one_byte() -> None:
    editor = Editor()
    editor.begin(PROMPT)
    editor.take()
    for letter in b"status":
        editor.feed(bytes([letter]))
        assert editor.take() == bytes([letter])
    editor.feed(b"\x7f")
    assert editor.take() == b"\b \b"


def test_every_key_edits() -> None:
    assert entered(b"stats", LEFT, b"u") == "status"
    assert entered(b"tatus", HOME, b"s") == "status"
    assert entered(b"xstatus", b"\x01", b"\x04") == "status"
    assert entered(b"xstatus", HOME, DELETE, END, b"!") == "status!"
    assert entered(b"status now", b"\x17") == "status "
    assert entered(b"status now", b"\x15", b"help") == "help"
    assert entered(b"status now", LEFT * 4, b"\x0b") == "status"
    assert entered(b"statuss\x7f") == "status"
    assert entered(b"statu", LEFT, LEFT, RIGHT, RIGHT, b"s") == "status"
    assert entered(b"ab", b"\x0c", b"c") == "abc"
    assert entered("réseau".encode()) == "réseau"
    assert entered(b"a\x1bOAb") == "ab"


def test_a_line_ends_once_however_it_ends() -> None:
    for ending in (b"\r", b"\n", b"\r\n"):
        editor = Editor()
        editor.begin(PROMPT)
        lines = []
        rest = b"one" + ending + b"two" + ending
        while rest:
            line, rest = editor.feed(rest)
            if line is not None:
                lines.append(line.text)
        assert lines == ["one", "two"], ending


def test_interrupt_and_end_of_input() -> None:
    editor, _ = typed(b"abc")
    assert editor.feed(b"\x03x") == (Line(Key.INTERRUPT, "abc"), b"x")
    editor, _ = typed()
    assert editor.feed(b"\x04") == (Line(Key.END, ""), b"")


def test_history_goes_back_and_forth_and_keeps_what_was_begun() -> None:
    assert entered(b"one\rtwo\rthr", UP) == "two"
    assert entered(b"one\rtwo\rthr", UP, UP) == "one"
    assert entered(b"one\rtwo\rthr", UP, UP, UP, DOWN, DOWN) == "thr"
    editor, _ = typed(*(f"line {number}\r".encode() for number in range(HISTORY_MAX + 9)))
    assert len(editor.history) == HISTORY_MAX
    editor, _ = typed(b"same\rsame\r  \r\x03")
    assert editor.history == ["same"]


def test_a_secret_is_shown_as_stars_and_kept_nowhere() -> None:
    editor, screen = Editor(lambda _text: ["words"]), Screen()
    editor.history = ["before"]
    editor.begin("PIN: ", secret=True)
    editor.feed(b"1234" + UP + b"\t" + LEFT + b"5\x0c")
    screen.show(editor.take())
    assert screen.last == "PIN: *****"
    line, _ = editor.feed(b"\r")
    assert line == Line(Key.ENTER, "12354")
    assert editor.history == ["before"]
    assert b"2" not in editor.take()


def test_tab_completes_as_far_as_it_is_clear_and_lists_the_rest() -> None:
    words = ("signals", "status", "sync", "selftest")
    assert entered(b"st\t", words=words) == "status "
    assert entered(b"\tx", words=("export",)) == "export x"
    _, screen = typed(b"s\t", words=words)
    assert "".join(screen.rows[-2]).split() == list(words)
    assert screen.last == "box> s"
    _, screen = typed(b"zz\t", words=words)
    assert screen.last == "box> zz"


@given(
    st.lists(
        st.one_of(
            st.binary(max_size=6),
            st.text(max_size=8).map(str.encode),
            st.sampled_from(
                [UP, DOWN, LEFT, RIGHT, HOME, END, DELETE, b"\t", b"\r", b"\x7f", b"\x0c", b"\x15", b"\x17"]
            ),
        ),
        max_size=40,
    )
)
def test_whatever_is_typed_the_screen_shows_the_line_that_will_be_sent(parts: list[bytes]) -> None:
    editor, screen = typed(*parts, words=("status", "signals", "sync now"))
    assert "".join(screen.rows[-1]).rstrip() == (PROMPT + editor._letters).rstrip()
    assert screen.column == len(PROMPT) + editor._at
    assert len(editor.history) <= HISTORY_MAX


@given(st.binary(max_size=400))
def test_no_bytes_break_it_and_none_is_held_back_for_ever(data: bytes) -> None:
    editor, _ = typed(data)
    assert len(editor._escape) <= 9
    assert len(editor._character) < 4
    line, _ = editor.feed(b"\x1b[~\r")
    assert line is not None or editor.feed(b"\r\r\r")[0] is not None
