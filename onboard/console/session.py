"""One conversation with a person on a line: says things in their language, asks, waits for a key. No decisions."""

from __future__ import annotations

import time
import unicodedata
from collections.abc import Callable, Iterator, Sequence
from typing import Final

from onboard.console.editor import COLUMNS, Editor, Key
from onboard.console.link import Link

IDLE_S: Final = 600.0
"""Who has not typed for so long has gone: the cable may hang there for the next one."""
BLOCKS: Final = "▁▂▃▄▅▆▇█"
_PLAIN: Final = str.maketrans({**dict(zip(BLOCKS, "_.-:=+*#", strict=True)), "’": "'", "œ": "oe", "°": "o", "–": "-"})
_POLL_S: Final = 1.0


class LoggedOut(Exception):  # noqa: N818 - what happened
    """The person left, or said nothing for ``IDLE_S``."""


class Session:
    """``who`` is the technician, "" before the log-in. ``french``, ``plain``: what they read, and on what."""

    def __init__(self, link: Link, monotonic_s: Callable[[], float] = time.monotonic) -> None:
        self.who = ""
        self.french = True
        self.plain = True
        self.written = 0
        """Bytes sent so far."""
        self.editor = Editor(self._words)
        self.complete: Callable[[str], Sequence[str]] = lambda _text: ()
        self._link = link
        self._monotonic_s = monotonic_s
        self._left = b""

    def say(self, french: str, english: str) -> None:
        """Say one line."""
        self.put(self.word(french, english))

    def word(self, french: str, english: str) -> str:
        """Return what is in the person's language."""
        return french if self.french else english

    def put(self, text: str = "") -> None:
        """Say a line that is the same in both."""
        self._write(self.encode(text) + b"\r\n")

    def show(self, lines: Sequence[str]) -> None:
        """Say lines, each cut to what fits a screen."""
        for line in lines:
            self.put(line[: COLUMNS - 1])

    def encode(self, text: str) -> bytes:
        """Return what a terminal is sent: control characters of somebody else never, on a plain one ASCII alone."""
        text = "".join(letter if letter.isprintable() else "?" for letter in text)
        if not self.plain:
            return text.encode()
        flat = unicodedata.normalize("NFKD", text.translate(_PLAIN))
        return "".join(each for each in flat if not unicodedata.combining(each)).encode("ascii", "replace")

    def ask(self, prompt: str, *, secret: bool = False, wait_s: float = IDLE_S) -> str | None:
        """Return a line that the person typed; None if they broke off. Raises ``LoggedOut``, ``LinkLost``."""
        self.editor.begin(self.encode(prompt).decode(), secret=secret)
        self._flush()
        until_s = self._monotonic_s() + wait_s
        while True:
            data, self._left = self._left or self._link.read(_POLL_S), b""
            if not data:
                if self._monotonic_s() >= until_s:
                    raise LoggedOut("idle")
                continue
            until_s = self._monotonic_s() + wait_s
            line, self._left = self.editor.feed(data)
            self._flush()
            if line is None:
                continue
            if line.key is Key.END:
                raise LoggedOut("end of input")
            return line.text if line.key is Key.ENTER else None

    def yes(self, french: str, english: str) -> bool:
        """Ask until it is yes or no; breaking off is no."""
        while (said := self.ask(self.word(f"{french} (o/n) ", f"{english} (y/n) "))) is not None:
            letter = said.strip().lower()[:1]
            if letter in {"o", "y"}:
                return True
            if letter == "n":
                return False
        return False

    def key(self, wait_s: float) -> bool:
        """Tell whether a key was pressed within ``wait_s``."""
        came = self._left or self._link.read(wait_s)
        self._left = b""
        return bool(came)

    def wait(self, wait_s: float) -> None:
        """Let time pass; what is typed meanwhile is thrown away."""
        until_s = self._monotonic_s() + wait_s
        self._left = b""
        while (rest_s := until_s - self._monotonic_s()) > 0:
            self._link.read(min(rest_s, _POLL_S))

    def lines(self, wait_s: float) -> Iterator[str]:
        """Give lines as they come, without an echo: a file is sent. Ends after ``wait_s`` of silence, or at Ctrl-C."""
        held, until_s = self._left, self._monotonic_s() + wait_s
        self._left = b""
        while self._monotonic_s() < until_s:
            data = held + self._link.read(min(wait_s, _POLL_S))
            if len(data) > len(held):
                until_s = self._monotonic_s() + wait_s
            *whole, held = data.replace(b"\r", b"\n").split(b"\n")
            if len(held) > 4 * COLUMNS:
                held = b""
            for number, line in enumerate(whole):
                if b"\x03" in line:
                    return
                self._left = b"\n".join([*whole[number + 1 :], held]) if whole[number + 1 :] or held else b""
                if line:
                    yield line.decode("ascii", "replace")
            self._left = b""
            if b"\x03" in held:
                return

    def _words(self, text: str) -> Sequence[str]:
        return self.complete(text)

    def _flush(self) -> None:
        self._write(self.editor.take())

    def _write(self, data: bytes) -> None:
        if data:
            self.written += len(data)
            self._link.write(data)


def spark(values: Sequence[float], low: float, high: float) -> str:
    """Return one block a value, from the lowest to the highest."""
    span = (high - low) or 1.0
    steps = (round((min(max(value, low), high) - low) / span * (len(BLOCKS) - 1)) for value in values)
    return "".join(BLOCKS[step] for step in steps)
