"""``amibox inspect nmea FILE``: what a receiver's recording says, fix by fix, and what in it was no use.

It reports what the receiver said. Whether the box would believe it (``hw.gps.Gate``) depends on the day it is asked.
"""

from __future__ import annotations

import argparse
import gzip
import json
import sys
import zlib
from collections.abc import Iterator
from contextlib import ExitStack
from dataclasses import dataclass, field
from datetime import datetime
from pathlib import Path
from typing import Any, BinaryIO, Final

from rich.console import Console
from rich.progress import wrap_file
from rich.table import Table

from hw.gps import distance_m
from hw.nmea import Fix, NmeaStream, Receiver

PIECE_MAX: Final = 65536
"""Longest piece read at once: a file without a line end must not fill the memory."""
LONG_FILE_BYTES: Final = 4_000_000
"""Shorter files are done before a progress bar is seen."""
GZIP_MAGIC: Final = b"\x1f\x8b"
DELAY_COOKIE: Final = b"Delay-Cookie:"

OK, NOTHING_USABLE, UNREADABLE = 0, 1, 2

HELP: Final = """\
Shows every fix in a recording of a GNSS receiver (NMEA 0183, plain or .gz), then a summary: fixes, sentences taken by
kind, sentences refused by reason, first and last time, how far it moved. Lines that begin with # are notes and skipped.
Exit codes: 0 done; 1 not one right sentence in it; 2 the file cannot be read (or only in part: what was read is shown).
"""
JSON_HELP: Final = """\
one JSON object a line: first a line a fix with time (UTC, null if no date is known), lat, lon (degrees), mode (2 or 3),
speed_mps (null if unknown); last a line with the one key "summary\""""


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Describe the command to ``parser``."""
    parser.description = HELP
    parser.formatter_class = argparse.RawDescriptionHelpFormatter
    parser.add_argument("file", type=Path, metavar="FILE", help="the recording, as the receiver sent it, or its .gz")
    parser.add_argument("--json", action="store_true", help=JSON_HELP)


def run(args: argparse.Namespace) -> int:
    """Perform the command; return its exit code."""
    summary = Summary()
    stream = NmeaStream()
    failure: Exception | None = None
    out = Console(highlight=False)
    if not args.json:
        out.print(f"{'time (UTC)':24} {'latitude':>13} {'longitude':>13} mode {'m/s':>7}", style="bold")
    try:
        for fix in read_fixes(args.file, stream, summary):
            summary.add(fix)
            sys.stdout.write((json.dumps(_as_json(fix)) if args.json else _as_text(fix)) + "\n")
    except (OSError, EOFError, zlib.error) as error:
        failure = error
    if failure is None or stream.accepted:
        result = summary.as_json(stream)
        if args.json:
            sys.stdout.write(json.dumps({"summary": result}) + "\n")
        else:
            out.print(_table(result))
    if failure is not None:
        reason = "it ends in the middle" if isinstance(failure, EOFError) else failure
        remedy = "The fixes above are those before that point." if summary.fixes else "Check the name and the file."
        sys.stderr.write(f"amibox: {args.file} cannot be read to its end: {reason}. {remedy}\n")
        return UNREADABLE
    if not stream.accepted:
        sys.stderr.write(f"amibox: {args.file} holds not one right NMEA sentence. Is it a receiver's recording?\n")
        return NOTHING_USABLE
    return OK


@dataclass(slots=True)
class Summary:
    """What all fixes of a recording have in common."""

    fixes: int = 0
    no_fix: int = 0
    """Moments at which the receiver had none."""
    first: datetime | None = None
    last: datetime | None = None
    corners: list[float] = field(default_factory=list)
    """South, west, north, east."""
    speed_max_mps: float | None = None

    def add(self, fix: Fix) -> None:
        """Take in a fix."""
        self.fixes += 1
        if fix.time is not None:
            self.first = min(self.first or fix.time, fix.time)
            self.last = max(self.last or fix.time, fix.time)
        south, west, north, east = self.corners or (fix.lat, fix.lon, fix.lat, fix.lon)
        self.corners = [min(south, fix.lat), min(west, fix.lon), max(north, fix.lat), max(east, fix.lon)]
        if fix.speed_mps is not None:
            self.speed_max_mps = max(fix.speed_mps, self.speed_max_mps or 0.0)

    def as_json(self, stream: NmeaStream) -> dict[str, Any]:
        """Return the summary; ``spread_m`` is the diagonal of the box round all fixes."""
        spread_m = None
        if self.corners:
            south, west, north, east = self.corners
            spread_m = round(distance_m(Fix(None, south, west, 2), Fix(None, north, east, 2)), 1)
        return {
            "fixes": self.fixes,
            "no_fix": self.no_fix,
            "sentences": dict(stream.accepted.most_common()),
            "refused": dict(stream.counts.most_common()),
            "first": _iso(self.first),
            "last": _iso(self.last),
            "span_s": (self.last - self.first).total_seconds() if self.first and self.last else None,
            "bounds": dict(zip(("south", "west", "north", "east"), self.corners, strict=True))
            if self.corners
            else None,
            "spread_m": spread_m,
            "speed_max_mps": _rounded(self.speed_max_mps),
        }


def read_fixes(path: Path, stream: NmeaStream, summary: Summary) -> Iterator[Fix]:
    """Read a recording piece by piece. Raises OSError, EOFError or zlib.error after the last fix that could be read."""
    receiver = Receiver()
    failure: Exception | None = None
    pieces = _pieces(path)
    while True:
        try:
            piece = next(pieces, None)
        except (OSError, EOFError, zlib.error) as error:
            failure, piece = error, None
        for sentence in stream.close() if piece is None else stream.feed(piece):
            fix = receiver.take(sentence)
            if fix is not None:
                yield fix
        if piece is None:
            break
    fix = receiver.flush()
    if fix is not None:
        yield fix
    summary.no_fix = receiver.no_fix
    if failure is not None:
        raise failure


def _pieces(path: Path) -> Iterator[bytes]:
    """Yield what the receiver sent: without the recording's notes and without its marks of write ends."""
    with ExitStack() as closing:
        raw: BinaryIO = closing.enter_context(path.open("rb"))
        size = path.stat().st_size
        if size > LONG_FILE_BYTES and sys.stderr.isatty():
            progress = Console(stderr=True)
            raw = closing.enter_context(wrap_file(raw, size, description="Reading", console=progress, transient=True))
        packed = raw.read(len(GZIP_MAGIC)) == GZIP_MAGIC
        raw.seek(0)
        readline = closing.enter_context(gzip.GzipFile(fileobj=raw)).readline if packed else raw.readline
        cookie = b""
        line_begins = True
        while piece := readline(PIECE_MAX):
            if line_begins and _is_note(piece):
                if DELAY_COOKIE in piece:
                    cookie = next(iter(piece.partition(DELAY_COOKIE)[2].split()), b"")
            else:
                yield piece.replace(cookie, b"") if cookie else piece
            line_begins = piece.endswith(b"\n")


def _is_note(line: bytes) -> bool:
    """Tell a note of the recording from binary data that happens to begin with ``#``."""
    return line.startswith(b"#") and not any(byte < 0x20 and byte not in b"\t\r\n" for byte in line)


def _iso(time: datetime | None) -> str | None:
    return None if time is None else time.isoformat(timespec="milliseconds").replace("+00:00", "Z")


def _rounded(speed_mps: float | None) -> float | None:
    return None if speed_mps is None else round(speed_mps, 4)


def _as_json(fix: Fix) -> dict[str, Any]:
    return {
        "time": _iso(fix.time),
        "lat": fix.lat,
        "lon": fix.lon,
        "mode": fix.mode,
        "speed_mps": _rounded(fix.speed_mps),
    }


def _as_text(fix: Fix) -> str:
    speed = "" if fix.speed_mps is None else f"{fix.speed_mps:.2f}"
    return f"{_iso(fix.time) or 'no date':24} {fix.lat:13.8f} {fix.lon:13.8f} {fix.mode}D   {speed:>7}"


def _table(result: dict[str, Any]) -> Table:
    table = Table(title="Summary", show_header=False, title_justify="left")
    for name, value in result.items():
        if isinstance(value, dict):
            shown = ", ".join(f"{key} {number}" for key, number in value.items()) or "none"
        else:
            shown = "unknown" if value is None else str(value)
        table.add_row(name, shown)
    return table
