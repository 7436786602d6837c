"""Editing one line on any terminal: bytes in, bytes and finished lines out. No clock, no I/O.

What is written is printable text, backspace, CR, LF and BEL alone: the dumbest terminal follows, and a letter typed at
the line's end costs one byte. Keys understood: letters, arrows, Home, End, Delete, Tab, and Ctrl-A B C D E F H K L N P
U W. A line is at most as long as fits the screen beside its prompt, so it never wraps.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from enum import StrEnum
from typing import Final

COLUMNS: Final = 80
HISTORY_MAX: Final = 50
_BEL: Final = "\a"
_ESCAPE_MAX: Final = 8
"""A control sequence that is longer is noise."""
_LAST_LETTER: Final = 0x24F
"""Latin letters up to here: each takes one column on every terminal."""
_KEYS: Final = {"A": "up", "B": "down", "C": "right", "D": "left", "H": "home", "F": "end"}
_NUMBERED: Final = {"1": "home", "7": "home", "3": "delete", "4": "end", "8": "end"}
_CONTROLS: Final = {
    1: "home", 2: "left", 3: "interrupt", 4: "end_of_input", 5: "end", 6: "right", 8: "rubout", 9: "complete",
    10: "feed", 11: "kill", 12: "redraw", 13: "enter", 14: "down", 16: "up", 21: "kill_before", 23: "kill_word",
    127: "rubout",
}  # fmt: skip


class Key(StrEnum):
    """How a line ended."""

    ENTER = "enter"
    INTERRUPT = "interrupt"
    END = "end"


@dataclass(frozen=True, slots=True)
class Line:
    """A finished line, without its end."""

    key: Key
    text: str


class Editor:
    """One line after the other. ``feed`` takes bytes; ``take`` returns what the terminal is to be sent."""

    def __init__(self, complete: Callable[[str], Sequence[str]] = lambda _text: ()) -> None:
        """``complete(text)`` returns the words that the last one of ``text``, maybe empty, may become."""
        self.history: list[str] = []
        self._complete = complete
        self._out: list[str] = []
        self._letters = ""
        self._at = 0
        self._prompt = ""
        self._secret = False
        self._place = 0
        self._draft = ""
        self._escape = b""
        self._character = b""
        self._was_return = False

    def begin(self, prompt: str, *, secret: bool = False) -> None:
        """Show a prompt and start an empty line. A secret one is shown as stars and kept nowhere."""
        self._prompt, self._secret = prompt, secret
        self._letters, self._at, self._place, self._draft = "", 0, len(self.history), ""
        self._say(prompt)

    def take(self) -> bytes:
        """Return what is to be sent to the terminal, and forget it."""
        said = "".join(self._out)
        self._out.clear()
        return said.encode()

    def feed(self, data: bytes) -> tuple[Line | None, bytes]:
        """Take bytes up to the end of a line; return the line, if it ended, and the bytes behind its end."""
        for index, byte in enumerate(data):
            line = self._byte(byte)
            if line is not None:
                return line, data[index + 1 :]
        return None, b""

    def _byte(self, byte: int) -> Line | None:
        if self._escape:
            self._escaped(byte)
            return None
        if byte == 0x1B:
            self._escape = b"\x1b"
            return None
        if self._character or byte >= 0x80:
            self._part(byte)
            return None
        if byte >= 0x20 and byte != 0x7F:
            self._was_return = False
            self._insert(chr(byte))
            return None
        feed_after_return = byte == 10 and self._was_return
        self._was_return = byte == 13
        return None if feed_after_return else self._control(_CONTROLS.get(byte, ""))

    def _control(self, what: str) -> Line | None:
        match what:
            case "enter" | "feed":
                return self._finish(Key.ENTER, "")
            case "interrupt":
                return self._finish(Key.INTERRUPT, "^C")
            case "end_of_input" if not self._letters:
                return self._finish(Key.END, "")
            case "end_of_input":
                self._delete(self._at, self._at + 1)
            case "rubout":
                self._delete(self._at - 1, self._at)
            case "kill":
                self._delete(self._at, len(self._letters))
            case "kill_before":
                self._delete(0, self._at)
            case "kill_word":
                head = self._letters[: self._at].rstrip()
                self._delete(head.rfind(" ") + 1, self._at)
            case "redraw":
                self._say("\r\n" + self._prompt + self._shown())
                self._back(len(self._letters) - self._at)
            case "complete":
                self._tab()
            case _:
                self._move(what)
        return None

    def _move(self, what: str) -> None:
        match what:
            case "home":
                self._back(self._at)
                self._at = 0
            case "end":
                self._say(self._shown()[self._at :])
                self._at = len(self._letters)
            case "left" if self._at > 0:
                self._back(1)
                self._at -= 1
            case "right" if self._at < len(self._letters):
                self._say(self._shown()[self._at])
                self._at += 1
            case "delete":
                self._delete(self._at, self._at + 1)
            case "up" if self._place > 0 and not self._secret:
                self._recall(self._place - 1)
            case "down" if self._place < len(self.history) and not self._secret:
                self._recall(self._place + 1)
            case _:
                self._say(_BEL)

    def _escaped(self, byte: int) -> None:
        """Follow ``ESC [ …`` and ``ESC O …``; anything else after ESC is swallowed with it."""
        self._escape += bytes([byte])
        if len(self._escape) == 2 and byte in b"[O":
            return
        if len(self._escape) > 2 and byte in b"0123456789;" and len(self._escape) < _ESCAPE_MAX:
            return
        sequence, self._escape = self._escape[2:].decode("latin-1"), b""
        key = _NUMBERED.get(sequence[:-1], "") if sequence[-1:] == "~" else _KEYS.get(sequence, "")
        if key:
            self._move(key)

    def _part(self, byte: int) -> None:
        """Collect the bytes of one letter beyond ASCII."""
        self._was_return = False
        if self._character and not 0x80 <= byte < 0xC0:
            self._character = b""
            self._say(_BEL)
            if byte < 0x80:
                return
        self._character += bytes([byte])
        try:
            letter = self._character.decode()
        except UnicodeDecodeError:
            if len(self._character) >= 4 or self._character[0] < 0xC2:
                self._character = b""
                self._say(_BEL)
            return
        self._character = b""
        self._insert(letter)

    def _insert(self, letter: str) -> None:
        full = len(self._prompt) + len(self._letters) >= COLUMNS - 1
        if full or not letter.isprintable() or ord(letter) > _LAST_LETTER:
            self._say(_BEL)
            return
        self._letters = self._letters[: self._at] + letter + self._letters[self._at :]
        self._say(self._shown()[self._at :])
        self._at += 1
        self._back(len(self._letters) - self._at)

    def _delete(self, start: int, end: int) -> None:
        start, end = max(start, 0), min(end, len(self._letters))
        if start >= end:
            self._say(_BEL)
            return
        self._back(self._at - start)
        self._letters, self._at = self._letters[:start] + self._letters[end:], start
        rest = self._shown()[start:]
        self._say(rest + " " * (end - start))
        self._back(len(rest) + end - start)

    def _recall(self, place: int) -> None:
        if self._place == len(self.history):
            self._draft = self._letters
        self._place = place
        wanted = self.history[place] if place < len(self.history) else self._draft
        self._replace(wanted)

    def _replace(self, wanted: str) -> None:
        """Show another line, from the first letter that differs on."""
        same = len(_common((self._letters[: self._at], wanted)))
        gone = len(self._letters) - len(wanted)
        self._back(self._at - same)
        self._letters, self._at = wanted, len(wanted)
        self._say(wanted[same:])
        if gone > 0:
            self._say(" " * gone)
            self._back(gone)

    def _tab(self) -> None:
        head = self._letters[: self._at]
        words = () if self._secret else tuple(self._complete(head))
        word = head[head.rfind(" ") + 1 :]
        longer = _common(words)[len(word) :]
        for letter in longer + (" " if len(words) == 1 and self._at == len(self._letters) else ""):
            self._insert(letter)
        if len(words) > 1 and not longer:
            self._say("\r\n" + "  ".join(words)[: 2 * COLUMNS])
            self._control("redraw")
        elif not words:
            self._say(_BEL)

    def _finish(self, key: Key, mark: str) -> Line:
        line = Line(key, self._letters)
        self._say(mark + "\r\n")
        keep = key is Key.ENTER and not self._secret and self._letters.strip()
        if keep and self.history[-1:] != [self._letters]:
            self.history = [*self.history, self._letters][-HISTORY_MAX:]
        self._letters, self._at = "", 0
        return line

    def _shown(self) -> str:
        return "*" * len(self._letters) if self._secret else self._letters

    def _back(self, steps: int) -> None:
        self._say("\b" * steps)

    def _say(self, text: str) -> None:
        self._out.append(text)


def _common(words: Sequence[str]) -> str:
    """Return the letters that all words begin with."""
    shortest = min(words, key=len, default="")
    differs = (at for at, letter in enumerate(shortest) if any(word[at] != letter for word in words))
    return shortest[: next(differs, len(shortest))]
