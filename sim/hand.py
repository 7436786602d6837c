"""How a test does something on another machine: a hand runs commands there, whatever lies between.

The bench's guest (``sim.bench.machine.Machine``) is one. ``CommandHand`` reaches a machine by words such as those of
ssh. The same few lines of ``sim.bench.agent`` run the command at the far end of both, so codes, output and time-outs
mean the same.
"""

from __future__ import annotations

import base64
import json
import shlex
from collections.abc import Sequence
from pathlib import Path
from typing import Any, Final, Protocol

from sim.bench import agent
from sim.bench.machine import ANSWER_S, GuestError, Said, commands

PYTHON: Final = "/usr/bin/python3"
"""Debian's own: there before anything of ours is installed."""
HERE: Final = ("/bin/sh", "-c")
"""The words that reach this very machine."""


class Hand(Protocol):
    """Runs commands on one machine."""

    def run(self, *argv: str | Path, stdin: bytes = b"", timeout_s: float = 60.0) -> Said:
        """Run a command; -1 is the code of one that was stopped after ``timeout_s``.

        GuestError if no answer comes; it says whether the command may have run.
        """


class CommandHand:
    """Reaches a machine by ``words``: put before one more word, they have a POSIX shell there run that word.

    ``["ssh", "-o", "BatchMode=yes", "root@box.local"]`` does, and so does ``HERE``. Nobody is asked for a password:
    the words run without a terminal. An answer may come ``grace_s`` after the command's time-out.
    """

    def __init__(self, words: Sequence[str], grace_s: float = ANSWER_S) -> None:
        self._words = list(words)
        self._grace_s = grace_s
        self._number = 0
        # ssh hands over one line for a shell: all that varies goes through the standard input, where nothing is quoted.
        self._far = shlex.join([PYTHON, "-S", "-c", Path(agent.__file__).read_text(), agent.ONCE])

    def run(self, *argv: str | Path, stdin: bytes = b"", timeout_s: float = 60.0) -> Said:
        """Run a command there, as ``Hand`` says. A lost connection is a GuestError: it may have run."""
        self._number += 1
        request: dict[str, Any] = {"id": self._number, "argv": [str(word) for word in argv], "timeout_s": timeout_s}
        request["stdin"] = base64.b64encode(stdin).decode()
        line = json.dumps(request).encode() + b"\n"
        limit_s = timeout_s + self._grace_s
        try:
            code, out = agent.perform([*self._words, self._far], line, limit_s, agent.LINE_MAX)
        except OSError as error:
            raise GuestError(f"{argv[0]} was not run: {self._words[0]} can't be started ({error})") from error
        for said in reversed(out.splitlines()):
            # Before it may stand what a login shell or ssh itself had to say.
            if said.startswith(b"{") and (answer := _answer(said, self._number)) is not None:
                return answer
        why = f"nothing came back within {limit_s:.0f} s" if code == -1 else f"the connection ended (code {code})"
        text = out.decode(errors="replace")[-500:]
        raise GuestError(f"no answer to {argv[0]}: {why}; it may have run\n{' '.join(self._words)}: {text}")


class Place:
    """A machine as tests use it: what ``hand`` reaches, with the few things that are done there all the time."""

    def __init__(self, hand: Hand) -> None:
        self._hand = hand

    def run(self, *argv: str | Path, stdin: bytes = b"", timeout_s: float = 60.0) -> Said:
        """Run a command. GuestError if no answer comes."""
        return self._hand.run(*argv, stdin=stdin, timeout_s=timeout_s)

    def must(self, *argv: str | Path, stdin: bytes = b"", timeout_s: float = 60.0) -> str:
        """Run a command that must work; return what it said. GuestError if its code is not 0."""
        said = self.run(*argv, stdin=stdin, timeout_s=timeout_s)
        if said.code != 0:
            raise GuestError(f"{' '.join(map(str, argv))}: code {said.code}\n{said.text}")
        return said.text

    def shell(self, script: str, *, timeout_s: float = 60.0) -> str:
        """Run a shell script that must work; return what it said. GuestError otherwise."""
        return self.must(*commands(script), timeout_s=timeout_s)

    def put(self, name: str, content: bytes, *, owner: str = "root:root", mode: str = "644") -> None:
        """Write a file. Its folder is made; nobody else reads it before ``owner`` and ``mode`` hold."""
        self.must(
            *commands(f"install -D -m 600 /dev/stdin {name} && chown {owner} {name} && chmod {mode} {name}"),
            stdin=content,
        )

    def fetch(self, name: str) -> bytes:
        """Return the content of a file."""
        return base64.b64decode(self.must("base64", "-w0", name))


def switch(words: Sequence[str]) -> None:
    """Run a command of a rig's file on this machine: power, adapters. GuestError with what it said if it fails."""
    try:
        code, out = agent.perform(list(words), b"", ANSWER_S)
    except OSError as error:
        raise GuestError(f"{words[0]} can't be started ({error}): install it, or correct the rig's file") from error
    if code != 0:
        text = out.decode(errors="replace")[-500:]
        raise GuestError(f"{shlex.join(words)}: code {code}; it may have switched something\n{text}")


def _answer(line: bytes, number: int) -> Said | None:
    try:
        answer = json.loads(line)
        if answer["id"] != number:
            return None
        return Said(int(answer["code"]), base64.b64decode(answer["out"]).decode(errors="replace"))
    except (ValueError, KeyError, TypeError):
        return None
