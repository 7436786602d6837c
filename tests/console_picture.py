"""A picture of a real session: the real console beside a real daemon, over a line paced at 960 bytes a second.

``python -m tests.console_picture docs/pictures/console.svg``. What is shown is what came over the line, letter by
letter; how many bytes each answer was, and how long it took, is said at the end.
"""

from __future__ import annotations

import io
import os
import re
import select
import sys
import tempfile
import time
from pathlib import Path

from rich.console import Console
from rich.text import Text

from tests.console_rig import LOGIN, MARIE, PIN, PROMPT, console_at, daemon, furnish

BYTES_PER_S = 960
PIECE = 24


class Line:
    """The laptop's end of a slow cable."""

    def __init__(self) -> None:
        self.box_end, self._box = os.openpty()
        for end in (self.box_end, self._box):
            os.set_blocking(end, True)
        self.port = os.ttyname(self._box)
        self.heard = b""
        self._read = 0

    def pump(self, for_s: float) -> int:
        """Let bytes come at the line's pace for so long; return how many."""
        came, until_s = 0, time.monotonic() + for_s
        while time.monotonic() < until_s:
            if select.select([self.box_end], [], [], 0.05)[0]:
                piece = os.read(self.box_end, PIECE)
                time.sleep(len(piece) / BYTES_PER_S)
                self.heard += piece
                came += len(piece)
        return came

    def until(self, text: str) -> tuple[int, float]:
        """Let bytes come until this text; return how many, and the seconds until then."""
        began_s, before = time.monotonic(), self._read
        while (at := self.heard.find(text.encode(), self._read)) < 0:
            if time.monotonic() - began_s > 30:
                raise RuntimeError(f"{text!r} never came: {self.heard[before:]!r}")
            self.pump(0.05)
        self._read = at + len(text)
        return self._read - before, time.monotonic() - began_s

    def type(self, text: str) -> None:
        """Press keys, one after the other, as a person does."""
        for letter in text:
            os.write(self.box_end, letter.encode())
            self.pump(0.03)


def record(folder: Path) -> tuple[str, list[str]]:
    """Play the session; return what the terminal shows, and what each command cost."""
    config, line, costs = furnish(folder), Line(), list[str]()
    with daemon(config), console_at(line.port, config):
        line.until(LOGIN)
        line.type("en\r")
        line.until(LOGIN)
        line.type(f"{MARIE.name}\r")
        line.until("PIN: ")
        line.type(f"{PIN}\r")
        line.until(PROMPT)
        for command in ("help", "stat\t", "door test", "records", "maintenance on", "language fr", "status"):
            line.type(command)
            line.pump(0.3)
            os.write(line.box_end, b"\r")
            if command == "door test":
                line.until("(y/n) ")
                line.type("n\r")
            count, took_s = line.until(PROMPT)
            costs.append(f"{command.strip()}: {count} bytes, {took_s:.1f} s")
        line.type("logout\r")
        line.until("Au revoir")
    return line.heard.decode(), costs


def screen_of(heard: str) -> list[str]:
    """Return what a terminal shows of these bytes: letters, backspace, CR and LF."""
    rows, column = [""], 0
    for letter in heard:
        if letter == "\b":
            column -= 1
        elif letter == "\r":
            column = 0
        elif letter == "\n":
            rows.append("")
        elif letter != "\a":
            rows[-1] = rows[-1].ljust(column)[:column] + letter + rows[-1][column + 1 :]
            column += 1
    return rows


def main(out: Path) -> int:
    """Record, draw, say what it cost."""
    with tempfile.TemporaryDirectory() as folder:
        heard, costs = record(Path(folder))
    terminal = Console(record=True, width=80, file=io.StringIO())
    for row in screen_of(heard):
        terminal.print(Text(row.rstrip()), soft_wrap=False)
    svg = terminal.export_svg(title="amibox console, 9600 Bd, a plain terminal")
    # The reader's own fonts: a picture fetches nothing.
    svg = re.sub(r"@font-face \{.*?\}\s*", "", re.sub(r"terminal-\d+", "terminal", svg), flags=re.DOTALL)
    out.write_text(svg, encoding="utf-8")
    sys.stdout.write("\n".join([*costs, f"{out}: {out.stat().st_size} bytes"]) + "\n")
    return 0


if __name__ == "__main__":
    sys.exit(main(Path(sys.argv[1])))
