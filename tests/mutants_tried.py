"""The half of ``make mutate`` that runs tests: they are collected once, and each mutant is a fork of that process.

What mutmut does itself, which collects them again for each, is the same and some ten times slower. The tests that
reach a mutant's function are run until one fails: first those that killed the function's other mutants, then those
that killed mutants of its file, then the fast ones. Examples of Hypothesis that fail are not made smaller.
"""

from __future__ import annotations

import gc
import json
import os
import resource
import signal
import sys
import time
import tomllib
from collections import Counter
from math import ceil
from pathlib import Path
from typing import Final, TextIO

import pytest

TEST_S: Final = 6
"""A test may take this many seconds of the processor and this many times what it takes otherwise: twice what mutmut
gives it. Then it is a loop without end."""
WALL: Final = 10
"""The same by the clock on the wall, for what waits without end: this many times more."""
BYTES_MAX: Final = 4 << 30
"""What a loop without end may fill."""


def file_stem(meta: Path) -> str:
    """Return ``_rental`` for the notes of ``rental.py``: so the tests' own file is called, too."""
    return "_" + meta.name.partition(".")[0]


class Tries:
    """A plugin of pytest that runs no test itself, but the tests of each mutant in a fork."""

    def __init__(self, todo: dict[Path, list[str]], say: TextIO) -> None:
        """Try these mutants, by the file of mutmut's notes, which take the exit codes."""
        self._todo = todo
        self._say = say
        notes = json.loads(Path("mutmut-stats.json").read_text())
        self._reach: dict[str, list[str]] = notes["tests_by_mangled_function_name"]
        self._took_s: dict[str, float] = notes["duration_by_test"]

    @pytest.hookimpl(trylast=True)
    def pytest_configure(self) -> None:
        """Do not make failing examples smaller. The plugin of Hypothesis wants to be the first that imports it."""
        from hypothesis import Phase, settings  # noqa: PLC0415

        settings.register_profile("mutants", settings.default, phases=(Phase.explicit, Phase.generate))
        settings.load_profile("mutants")

    def pytest_runtestloop(self, session: pytest.Session) -> bool:
        """Instead of pytest's own loop. That all tests pass without a mutant mutmut has seen before."""
        items = {item.nodeid: item for item in session.items}
        gc.freeze()  # what the forks share stays shared
        total, done = sum(map(len, self._todo.values())), Counter[int]()
        for meta, names in self._todo.items():
            room, of_file = file_stem(meta), Counter[str]()
            of_function: dict[str, Counter[str]] = {}
            for name in names:
                function = name.rpartition("__mutmut_")[0]
                near = of_function.setdefault(function, Counter())
                tests = sorted(
                    set(self._reach.get(function, ())) & items.keys(),
                    key=lambda test: (-near[test], -of_file[test], room not in test, self._took_s[test], test),
                )
                code, killer = self._fork(session, name, [items[test] for test in tests]) if tests else (33, "")
                near[killer] += 1
                of_file[killer] += 1
                done[code] += 1
                notes = json.loads(meta.read_text())
                notes["exit_code_by_key"][name] = code
                meta.write_text(json.dumps(notes))
                if code != 1:
                    self._say.write(f"{name}: {'alive' if code == 0 else code}\n")
                if done.total() % 50 == 0:
                    self._say.write(f"{time.strftime('%H:%M:%S')} {done.total()} of {total}, {done[0]} alive\n")
        return True

    def _fork(self, session: pytest.Session, name: str, items: list[pytest.Item]) -> tuple[int, str]:
        """Run tests with a mutant until one fails; the exit code of the process and the name of that test."""
        read, write = os.pipe()
        pid = os.fork()
        if pid == 0:
            os.environ["MUTANT_UNDER_TEST"] = name
            resource.setrlimit(resource.RLIMIT_AS, (BYTES_MAX, BYTES_MAX))
            for item, after in zip(items, [*items[1:], None], strict=True):
                limit_s = ceil(TEST_S * (1 + self._took_s.get(item.nodeid, 0)))
                resource.setrlimit(resource.RLIMIT_CPU, (ceil(time.process_time()) + limit_s, resource.RLIM_INFINITY))
                signal.alarm(WALL * limit_s)
                item.ihook.pytest_runtest_protocol(item=item, nextitem=after)
                if session.testsfailed:
                    os.write(write, item.nodeid.encode())
                    os._exit(1)
            os._exit(0)
        os.close(write)
        with os.fdopen(read) as pipe:
            killer = pipe.read()
        return os.waitstatus_to_exitcode(os.waitpid(pid, 0)[1]), killer


def main(metas: list[Path], again: set[int | None]) -> int:
    """Try every mutant of these notes whose exit code is one of ``again``; called in mutmut's folder."""
    codes = {meta: json.loads(meta.read_text())["exit_code_by_key"] for meta in metas}
    todo = {meta: [name for name, code in of_meta.items() if code in again] for meta, of_meta in codes.items()}
    wanted = tomllib.loads(Path("pyproject.toml").read_text())["tool"]["mutmut"]
    # What pytest has to say of each mutant's tests is not wanted.
    say = os.fdopen(os.dup(1), "w", buffering=1)
    nowhere = os.open(os.devnull, os.O_WRONLY)
    os.dup2(nowhere, 1)
    words = [
        *("-q", "--tb=no", "-p", "no:cacheprovider", "--rootdir=."),
        *wanted["pytest_add_cli_args"],
        *wanted["pytest_add_cli_args_test_selection"],
    ]
    sys.path.insert(0, "")
    return int(pytest.main(words, plugins=[Tries(todo, say)]))
