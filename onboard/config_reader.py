"""Reads one TOML file into typed sections and says of every mistake where it stands and what to do.

Knows nothing of what the sections mean: ``onboard.config`` lists them.
"""

from __future__ import annotations

import dataclasses
import difflib
import re
import tomllib
from collections.abc import Mapping, Sequence
from dataclasses import MISSING, dataclass
from pathlib import Path
from typing import Any, Final, TypeVar

import msgspec

FILE_BYTES_MAX: Final = 256 * 1024
TABLES_MAX: Final = 200
"""Tables of one kind, such as ``[[station]]``."""


@dataclass(frozen=True, slots=True)
class Problem:
    """One mistake: where it stands, what it is, what to do."""

    file: Path
    line: int
    key: str
    what: str
    remedy: str

    def __str__(self) -> str:
        """Read like a compiler's message: editors jump to it."""
        return f"{self.file}:{self.line}: {self.key}: {self.what}; {self.remedy}"


class ConfigError(Exception):
    """The file can't be used. ``problems`` holds every mistake that was found, in the order of their lines."""

    def __init__(self, problems: Sequence[Problem]) -> None:
        self.problems = tuple(sorted(problems, key=lambda problem: problem.line))
        super().__init__("\n".join(map(str, self.problems)))


Section = TypeVar("Section")


class Reader:
    """Reads the tables of one file and gathers every problem on the way.

    Raises ``ConfigError`` at once for a text that is not TOML. ``lines`` is the line of each key.
    """

    def __init__(self, file: Path, text: str) -> None:
        self.file = file
        self.lines = key_lines(text)
        self.problems: list[Problem] = []
        try:
            self._tables = tomllib.loads(text)
        # ValueError: TOML's own, and Python's for a number of more than 4300 digits.
        except (ValueError, RecursionError) as error:
            place = re.search(r"at line (\d+)", str(error))
            line = int(place[1]) if place else text.count("\n") + 1
            said = "nested too deep" if isinstance(error, RecursionError) else error
            raise ConfigError([Problem(file, line, "file", f"not TOML: {said}", "correct this line")]) from error

    def refuse(self, key: str, what: str, remedy: str) -> None:
        """Note a problem; the reading goes on."""
        self.problems.append(Problem(self.file, find_line(self.lines, key), key, what, remedy))

    def section(self, name: str, cls: type[Section], keys: Mapping[str, Any]) -> Section | None:
        """Return the table ``[name]`` as a ``cls``, or None where it is absent or holds a mistake.

        ``cls`` is a dataclass; ``keys`` are the fields that the file may set, each with its type and range.
        """
        return self._table(name, self._tables[name], cls, keys) if name in self._tables else None

    def sections(self, name: str, cls: type[Section], keys: Mapping[str, Any]) -> tuple[Section, ...]:
        """Return every table ``[[name]]`` that holds no mistake."""
        tables = self._tables.get(name, [])
        if not isinstance(tables, list) or len(tables) > TABLES_MAX:
            self.refuse(name, "not a list of tables", f"write [[{name}]] for each, at most {TABLES_MAX}")
            return ()
        read = [self._table(f"{name}.{index}", table, cls, keys) for index, table in enumerate(tables)]
        return tuple(section for section in read if section is not None)

    def refuse_others(self, known: Mapping[str, object]) -> None:
        """Refuse every table and top-level key that is not ``known``."""
        for name in self._tables.keys() - known.keys():
            self.refuse(name, "unknown section", _did_you_mean(name, known))

    def _table(self, at: str, table: object, cls: type[Section], keys: Mapping[str, Any]) -> Section | None:
        found = len(self.problems)
        if not isinstance(table, dict):
            self.refuse(at, "not a table", f"write [{at}] on a line of its own and its keys below")
            return None
        values = {}
        for key, value in table.items():
            if key not in keys:
                self.refuse(f"{at}.{key}", "unknown key", _did_you_mean(key, keys))
                continue
            try:
                values[key] = msgspec.convert(value, keys[key], strict=True, dec_hook=self._path)
            except msgspec.ValidationError as error:
                self.refuse(f"{at}.{key}", f"{_short(value)} won't do: {error}", f"write {_description(keys[key])}")
        for each in dataclasses.fields(cls):  # type: ignore[arg-type]  # the contract says a dataclass
            required = each.default is MISSING and each.default_factory is MISSING
            if required and each.name not in table:
                self.refuse(f"{at}.{each.name}", "missing", f"add {each.name}: {_description(keys[each.name])}")
        return cls(**values) if len(self.problems) == found else None

    def _path(self, kind: type, value: object) -> object:
        if kind is not Path or not isinstance(value, str) or not value or "\0" in value:
            raise msgspec.ValidationError("Expected a path")
        return self.file.parent / value


def read_text(file: Path) -> str:
    """Return the text of ``file``. Raises ``ConfigError`` where there is none, too much or something else."""
    try:
        data = file.read_bytes()
    except OSError as error:
        remedy = "copy systemd/amibox.toml there and adapt it, or name another file with --config"
        raise ConfigError([Problem(file, 1, "file", error.strerror or str(error), remedy)]) from error
    if len(data) > FILE_BYTES_MAX:
        raise ConfigError([Problem(file, 1, "file", "too large", f"keep it below {FILE_BYTES_MAX} bytes")])
    try:
        return data.decode()
    except UnicodeDecodeError as error:
        line = data[: error.start].count(b"\n") + 1
        raise ConfigError([Problem(file, line, "file", "not UTF-8 text", "save it as UTF-8")]) from error


def key_lines(text: str) -> dict[str, int]:
    """Return the line of each table and key, counted from 1: ``gps``, ``gps.port``, ``station.0.id``.

    tomllib keeps no positions. This reads headers and ``key =`` at the start of a line, which is all that our sections
    need; a key written in another way has its section's line.
    """
    lines: dict[str, int] = {}
    table, counted = "", dict[str, int]()
    for number, line in enumerate(text.splitlines(), start=1):
        if header := re.match(r"\s*(\[\[?)\s*([\w.-]+)\s*\]", line):
            table = header[2]
            lines.setdefault(table, number)
            if header[1] == "[[":
                counted[table] = counted.get(table, -1) + 1
                table = f"{table}.{counted[table]}"
                lines[table] = number
        elif key := re.match(r"""\s*["']?([\w.-]+)["']?\s*=""", line):
            lines.setdefault(f"{table}.{key[1]}".lstrip("."), number)
    return lines


def find_line(lines: Mapping[str, int], key: str) -> int:
    """Return the line of ``key``, or of the nearest table round it, or 1."""
    while key not in lines and "." in key:
        key = key.rpartition(".")[0]
    return lines.get(key, 1)


def _description(hint: object) -> str:
    """Return what a value of this type looks like, for a remedy."""
    kind = msgspec.json.schema(hint, schema_hook=lambda _: {"type": "string"})
    options = kind.get("anyOf", [kind])
    said = next((str(each["description"]) for each in options if "description" in each), None)
    if said is None and (words := kind.get("enum")):
        said = "one of " + ", ".join(f'"{word}"' for word in words)
    return said or ("true or false" if kind.get("type") == "boolean" else "another value")


def _did_you_mean(name: str, known: Mapping[str, object]) -> str:
    near = difflib.get_close_matches(name, known, n=1, cutoff=0.6)
    return f'did you mean "{near[0]}"?' if near else "take it out, or choose from: " + ", ".join(sorted(known))


def _short(value: object) -> str:
    shown = repr(value)
    return shown if len(shown) <= 60 else shown[:60] + "…"
