"""Records what a script's process asks of the disk, by strace, and reads it as operations of ``disk``.

Whatever touches the directory and is not modelled ends the recording with an error: nothing is passed over. Mapped
memory is such a thing; the exception are ``-shm`` files, which SQLite makes anew after a crash.
"""

from __future__ import annotations

import json
import os
import re
import shutil
import subprocess
import sys
from collections.abc import Iterable
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Final

from sim.crash.disk import Create, Operation, Remove, Rename, Resize, Settled, Sync, SyncDirectory, Write

DATA: Final = "data"
WITNESS: Final = "witness"
TRACE: Final = "trace"

_MODELLED: Final = (
    "openat write pwrite64 ftruncate fallocate fsync fdatasync rename renameat renameat2 unlink unlinkat lseek mmap"
)
_REFUSED: Final = (
    "open creat writev pwritev pwritev2 truncate link linkat symlink symlinkat mknod mknodat mkdir mkdirat rmdir"
    " sendfile copy_file_range splice sync_file_range syncfs sync msync io_submit io_uring_setup"
)
STRING_MAX: Final = 1 << 22
_LINE: Final = re.compile(r"(\d+) +(\w+)\((.*)\) += (-?\d+|\?|0x[0-9a-f]+)(?:<([^>]*)>(\(deleted\))?)?")
_BEGUN: Final = re.compile(r"(\d+) +((\w+)\(.*) <unfinished \.\.\.>$")
_ENDED: Final = re.compile(r"(\d+) +<\.\.\. \w+ resumed>(.*)$")
_HANDLE: Final = re.compile(r"[\w-]+<([^>]*)>(\(deleted\))?$")


class RecordingFailed(Exception):  # noqa: N818 - says what happened, as all errors here
    """Nothing was recorded, or something that the model has no rule for."""


@dataclass(slots=True)
class Recording:
    """The operations, what the witness told between them, and where no cut is to be made."""

    operations: list[Operation] = field(default_factory=list)
    told: list[tuple[int, dict[str, Any]]] = field(default_factory=list)
    """Each with the number of operations before it."""
    quiet: set[int] = field(default_factory=set)
    """Cuts (numbers of operations done) that do not count: before ``watch``, or while somebody else did damage."""
    shown: list[str] = field(default_factory=list)
    """Each operation for a reader."""

    def cuts(self) -> list[int]:
        """Return every place for a cut: after so many operations."""
        return [cut for cut in range(len(self.operations) + 1) if cut not in self.quiet]


def record(script: str, weakness: str, folder: Path, module: str = "sim.crash.scripts") -> Recording:
    """Play ``script`` of ``module`` under strace in ``folder``. Raises ``RecordingFailed``."""
    strace = shutil.which("strace")
    if strace is None:
        raise RecordingFailed("strace is missing. Do this, then try again: sudo apt install strace")
    folder = folder.resolve()
    directory = folder / DATA
    shutil.rmtree(directory, ignore_errors=True)
    directory.mkdir(parents=True)
    (folder / WITNESS).write_bytes(b"")
    # Not every processor has each of them: a question mark lets one be unknown.
    calls = ",".join(f"?{call}" for call in f"{_MODELLED} {_REFUSED}".split())
    command: list[str | Path] = [
        strace,
        "-f",
        "--seccomp-bpf",
        "-qq",
        "-y",
        "-xx",
        "-s",
        str(STRING_MAX),
        "-o",
        folder / TRACE,
    ]
    command += ["-e", f"trace={calls}", "-e", "signal=none"]
    command += [sys.executable, "-m", module, script, weakness, folder]
    root = Path(__file__).parents[2]
    paths = os.pathsep.join(filter(None, (str(root), os.environ.get("PYTHONPATH"))))
    done = subprocess.run(  # noqa: S603 - our own script
        command, capture_output=True, text=True, check=False, env=os.environ | {"PYTHONPATH": paths}
    )
    if done.returncode != 0:
        said = done.stderr.strip()[-2000:]
        refused = "ptrace" in said or "attach" in said.lower()
        why = "the system refuses ptrace, without which nothing can be recorded (a container? allow SYS_PTRACE)"
        raise RecordingFailed(f"{why if refused else f'the script {script} failed'}: {said}")
    return read(folder)


def read(folder: Path) -> Recording:
    """Read what was recorded in ``folder``. Raises ``RecordingFailed``, ``OSError``."""
    reader = Reader(folder.resolve())
    with (folder / TRACE).open(encoding="ascii", errors="strict") as lines:
        reader.feed(lines)
    if not reader.recording.told:
        raise RecordingFailed("the witness told nothing: was another process traced?")
    return reader.recording


class Reader:
    """Reads lines of ``strace -f -y -xx``. A write counts from its start, everything else from its end."""

    def __init__(self, folder: Path) -> None:
        self.recording = Recording()
        self._directory = str(folder / DATA)
        self._witness = str(folder / WITNESS)
        self._names: dict[str, int] = {}
        self._files = 0
        self._positions: dict[int, int] = {}
        self._begun: dict[str, tuple[str, int | None]] = {}
        """By thread: what was printed of the call, and the place kept for it if it is a write."""
        self._outside = 0
        self._tail = ""

    def feed(self, lines: Iterable[str]) -> None:
        """Read a whole trace."""
        for number, line in enumerate(lines, start=1):
            try:
                self._line(line.rstrip("\n"))
            except (ValueError, KeyError, IndexError) as error:
                raise RecordingFailed(
                    f"line {number} of the trace is not understood ({error}): {line[:200]}"
                ) from error
        if self._begun:
            raise RecordingFailed(f"calls without an end: {next(iter(self._begun.values()))[0][:200]}")
        self._fill()

    def _line(self, line: str) -> None:
        place: int | None = None
        if begun := _BEGUN.match(line):
            if begun[3] in {"write", "pwrite64"}:
                place = self._put(None)
            self._begun[begun[1]] = (begun[2], place)
            return
        if ended := _ENDED.match(line):
            before, place = self._begun.pop(ended[1])
            line = f"{ended[1]} {before}{ended[2]}"
        found = _LINE.match(line)
        if found is None:
            if not re.match(r"\d+ +(\+\+\+|---)", line):
                raise ValueError("no call")
            return
        if found[4].startswith("-") or found[4] == "?":
            return
        self._call(found[2], found[3].split(", "), found[4], found[5], place)

    def _call(self, name: str, values: list[str], result: str, handle: str | None, place: int | None) -> None:
        match name:
            case "write" | "pwrite64":
                self._write(name, values, int(result), place)
            case "openat":
                self._open(_text(handle or ""), values[2].split("|"))
            case "lseek" | "ftruncate" | "fallocate" | "fsync" | "fdatasync":
                self._by_handle(name, values, int(result))
            case "mmap":
                path = _path_of(values[4])
                if path and self._ours(path) and "MAP_SHARED" in values[3] and "PROT_WRITE" in values[2]:
                    _need(path.endswith("-shm"), "a file of the directory is mapped: its writes cannot be seen")
            case "rename" | "unlink" | "renameat" | "renameat2" | "unlinkat":
                self._naming(name, values)
            case _:
                self._refuse(name, values)

    def _write(self, name: str, values: list[str], count: int, place: int | None) -> None:
        path = _path_of(values[0])
        if path == self._witness:
            self._witnessed(_bytes(values[1])[:count])
        if path is None or not self._ours(path):
            if place is not None:
                self._put(Sync(-1), place)
            return
        _need(not values[0].endswith("(deleted)"), "a file without a name is written to")
        file = self._file(path)
        data = _bytes(values[1])[:count]
        offset = int(values[3]) if name == "pwrite64" else self._positions.get(file, 0)
        if name == "write":
            self._positions[file] = offset + count
        self._put(Write(file, offset, data), place, f"{_short(path)}: {count} bytes at {offset}")

    def _open(self, path: str, flags: list[str]) -> None:
        if not self._ours(path) or "O_DIRECTORY" in flags:
            return
        _need(
            not {"O_SYNC", "O_DSYNC", "O_DIRECT", "O_APPEND", "O_TMPFILE"} & set(flags), "opened in a way not modelled"
        )
        name = _short(path)
        if path == self._directory or ("O_RDONLY" in flags and "O_CREAT" not in flags):
            return
        if name not in self._names:
            _need("O_CREAT" in flags, "a file that nobody made")
            self._names[name] = self._files
            self._files += 1
            self._put(Create(name, self._names[name]), None, f"{name} is made")
        elif "O_TRUNC" in flags:
            self._put(Resize(self._names[name], 0), None, f"{name} is emptied")
        self._positions[self._names[name]] = 0

    def _by_handle(self, name: str, values: list[str], result: int) -> None:
        path = _path_of(values[0])
        if path is None or not self._ours(path):
            return
        if path == self._directory:
            _need(name in {"fsync", "fdatasync", "lseek"}, "not a file")
            if name != "lseek":
                self._put(SyncDirectory(), None, "the directory is synced")
            return
        if values[0].endswith("(deleted)"):
            _need(name in {"fsync", "fdatasync", "lseek"}, "a file without a name is changed")
            return
        file, short = self._file(path), _short(path)
        if name == "lseek":
            self._positions[file] = result
        elif name == "ftruncate":
            self._put(Resize(file, int(values[1])), None, f"{short}: cut or stretched to {values[1]} bytes")
        elif name == "fallocate":
            _need(values[1] == "0", "a way to allocate that is not modelled")
            size = int(values[2]) + int(values[3])
            self._put(Resize(file, size, at_least=True), None, f"{short}: room for {size} bytes")
        else:
            self._put(Sync(file), None, f"{short} is synced")

    def _naming(self, call: str, values: list[str]) -> None:
        if "at" in call:
            # The directory's handle stands before each path.
            bases, texts = values[0::2], values[1::2]
            paths = [
                os.path.normpath(str(Path(_path_of(base) or "/", _text(text.strip('"')))))
                for base, text in zip(bases, texts, strict=False)
                if text.startswith('"')
            ]
        else:
            paths = [_text(value.strip('"')) for value in values if value.startswith('"')]
        if not any(self._ours(path) for path in paths):
            _need(all(path.startswith("/") for path in paths), "a path without its beginning")
            return
        _need(all(self._ours(path) for path in paths), "a file enters or leaves the directory")
        first, last = _short(paths[0]), _short(paths[-1])
        if "rename" in call:
            _need(values[-1].startswith('"') or values[-1] == "0", "a way to rename that is not modelled")
            self._names[last] = self._names.pop(first)
            self._put(Rename(first, last), None, f"{first} becomes {last}")
        else:
            del self._names[first]
            self._put(Remove(first), None, f"{first} is removed")

    def _refuse(self, name: str, values: list[str]) -> None:
        everywhere = name in {"sync", "io_uring_setup", "io_submit"}
        paths = [_path_of(value) or (_text(value.strip('"')) if value.startswith('"\\x') else "") for value in values]
        _need(not everywhere and not any(self._ours(path) for path in paths if path), f"{name} is not modelled")

    def _witnessed(self, data: bytes) -> None:
        self._tail += data.decode()
        *lines, self._tail = self._tail.split("\n")
        for line in lines:
            told = json.loads(line)
            here = len(self.recording.operations)
            if told["mark"] == "watch":
                self.recording.quiet = set(range(here))
            elif told["mark"] == "outside":
                self._outside = here
            elif told["mark"] == "inside":
                self._put(Settled(), None, "long ago")
                here = len(self.recording.operations)
                self.recording.quiet |= set(range(self._outside, here))
            self.recording.told.append((here, told))

    def _ours(self, path: str) -> bool:
        return path == self._directory or path.startswith(self._directory + "/")

    def _file(self, path: str) -> int:
        _need(path.count("/") == self._directory.count("/") + 1, "a folder in the directory")
        return self._names[_short(path)]

    def _put(self, operation: Operation | None, place: int | None = None, shown: str = "") -> int:
        if place is None:
            place = len(self.recording.operations)
            # None keeps the place of a call that has begun: filled before anybody reads it.
            self.recording.operations.append(operation or Sync(-1))
            self.recording.shown.append(shown)
        elif operation is not None:
            self.recording.operations[place] = operation
            self.recording.shown[place] = shown
        return place

    def _fill(self) -> None:
        """Take out the places of writes that had nothing to do with the directory."""
        kept = [place for place, operation in enumerate(self.recording.operations) if operation != Sync(-1)]
        moved, after = {}, 0
        for place in range(len(self.recording.operations) + 1):
            moved[place] = after
            after += place < len(self.recording.operations) and self.recording.operations[place] != Sync(-1)
        self.recording.told = [(moved[place], told) for place, told in self.recording.told]
        self.recording.quiet = {moved[place] for place in self.recording.quiet}
        self.recording.operations = [self.recording.operations[place] for place in kept]
        self.recording.shown = [self.recording.shown[place] for place in kept]


def _need(met: bool, otherwise: str) -> None:  # noqa: FBT001 - reads as a sentence
    if not met:
        raise ValueError(otherwise)


def _bytes(value: str) -> bytes:
    _need(value.startswith('"') and value.endswith('"'), "bytes cut short")
    return bytes.fromhex(value[1:-1].replace("\\x", ""))


def _text(value: str) -> str:
    return bytes.fromhex(value.replace("\\x", "")).decode()


def _path_of(value: str) -> str | None:
    found = _HANDLE.match(value)
    if found is None or not found[1].startswith("\\x"):
        return None
    return _text(found[1])


def _short(path: str) -> str:
    return path.rpartition("/")[2]
