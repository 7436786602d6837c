"""Recordings of a CAN bus, read as a stream: the text of ``candump -L``, plain or gzipped (told by content).

A line is ``(seconds) channel ID#DATA``: 3 hex digits for an 11-bit id, 8 for a 29-bit one; ``ID#R`` is a remote frame,
``ID##F…`` a CAN FD one, and an 8-digit id with bit 0x20000000 an error frame. A line that is none of this is counted
and passed over. Times are from the first frame, and never run backwards.
"""

from __future__ import annotations

import gzip
import re
import zlib
from collections import Counter
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import BinaryIO, Final

LINE_BYTES_MAX: Final = 512
"""A CAN FD line is under 200 bytes. Anything longer is no line, and is not kept in memory."""

BROKEN_KEPT: Final = 20
"""So many broken lines are named by their number; all are counted."""

CLOCK_STEP_S: Final = 1.0
"""Lines of two channels may be a little out of order; further back than this, the recorder's clock was set."""

_PROGRESS_LINES: Final = 5000
_ERROR_FLAG: Final = 0x20000000
_ID_BITS: Final = 0x1FFFFFFF

_LINE: Final = re.compile(
    rb"\((\d{1,12}(?:\.\d{1,9})?)\)\s+(\S{1,32})\s+([0-9A-Fa-f]{8}|[0-9A-Fa-f]{3})#"
    rb"(?:([Rr])[0-9A-Fa-f]?|(#[0-9A-Fa-f])?((?:[0-9A-Fa-f]{2}){0,64})(?:_[0-9A-Fa-f])?)(?:\s+[RT])?\s*"
)


class RecordingError(Exception):
    """A recording cannot be read at all. The text says why and what to do."""


@dataclass(frozen=True, slots=True)
class RecordedFrame:
    """One frame of a recording, ``at_s`` seconds after its first."""

    at_s: float
    channel: str
    arbitration_id: int
    is_extended: bool
    is_error: bool
    is_remote: bool
    data: bytes


class CandumpReader:
    """Iterate over a recording's frames, once or more often. Raise ``RecordingError`` when it cannot be opened.

    ``counts``: ``lines`` and ``frames``, then ``broken_line``, ``time_backwards`` (the frame gets the time of the one
    before) and ``damaged_archive`` (gzip that ends early or is corrupt: what came before counts). ``broken`` holds the
    numbers of the first broken lines. ``progress(done, total)`` gets bytes of the file as stored.
    """

    def __init__(self, path: Path, progress: Callable[[int, int], None] | None = None) -> None:
        self.path = path
        self.counts: Counter[str] = Counter()
        self.broken: list[int] = []
        self._progress = progress

    def __iter__(self) -> Iterator[RecordedFrame]:
        self.counts.clear()
        self.broken.clear()
        try:
            total = self.path.stat().st_size
            stored = self.path.open("rb")
        except OSError as error:
            raise RecordingError(f"{self.path}: {error.strerror}; name a file of candump -L text") from error
        with stored:
            try:
                packed = stored.read(2) == b"\x1f\x8b"
                stored.seek(0)
            except OSError as error:
                raise RecordingError(f"{self.path}: {error.strerror}; name a file of candump -L text") from error
            text: BinaryIO = gzip.GzipFile(fileobj=stored) if packed else stored  # type: ignore[assignment]  # reads alike
            yield from self._frames(self._lines(text, stored, total))
            if self._progress is not None:
                self._progress(total, total)

    def _lines(self, text: BinaryIO, stored: BinaryIO, total: int) -> Iterator[bytes]:
        """Yield whole lines of a bounded length; an overlong one counts as one broken line."""
        overlong = False
        while True:
            try:
                line = text.readline(LINE_BYTES_MAX)
            except (EOFError, OSError, zlib.error):
                self.counts["damaged_archive"] += 1
                return
            if not line:
                return
            whole = line.endswith(b"\n") or len(line) < LINE_BYTES_MAX
            if overlong:
                overlong = not whole
                continue
            overlong = not whole
            self.counts["lines"] += 1
            if self._progress is not None and self.counts["lines"] % _PROGRESS_LINES == 0:
                self._progress(stored.tell(), total)
            yield line

    def _frames(self, lines: Iterator[bytes]) -> Iterator[RecordedFrame]:
        first_s: float | None = None
        last_s = 0.0
        for line in lines:
            frame = _parse(line)
            if frame is None:
                if line.strip():
                    self._refuse()
                continue
            stamp_s, found = frame
            if first_s is None:
                first_s = stamp_s
            at_s = round(stamp_s - first_s, 6)
            if at_s < last_s:
                self.counts["time_backwards"] += 1
                if last_s - at_s > CLOCK_STEP_S:
                    first_s = stamp_s - last_s
                at_s = last_s
            last_s = at_s
            self.counts["frames"] += 1
            yield RecordedFrame(at_s, *found)

    def _refuse(self) -> None:
        self.counts["broken_line"] += 1
        if len(self.broken) < BROKEN_KEPT:
            self.broken.append(self.counts["lines"])


def _parse(line: bytes) -> tuple[float, tuple[str, int, bool, bool, bool, bytes]] | None:
    """Return a line's time stamp and the rest of its frame; None when it is no line of candump -L."""
    match = _LINE.fullmatch(line)
    if match is None:
        return None
    stamp, channel, identifier, remote, fd, digits = match.groups()
    number, long_id = int(identifier, 16), len(identifier) == 8
    error = long_id and bool(number & _ERROR_FLAG)
    data = bytes.fromhex((digits or b"").decode("ascii"))
    if number > (_ERROR_FLAG | _ID_BITS if long_id else 0x7FF):
        return None
    if fd is None and len(data) > 8:
        return None
    extended = long_id and not error
    name = channel.decode("ascii", "replace")
    return float(stamp), (name, number & _ID_BITS, extended, error, remote is not None, data)
