"""``amibox inspect can FILE --car NAME``: show what a recording of a car's bus says."""

from __future__ import annotations

import argparse
import json
import os
import sys
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any, Final

from rich.console import Console
from rich.progress import Progress

from hw.can_signals import CarModel, ModelError, known_models
from hw.can_summary import COLUMNS, Inspection, Shown
from hw.recordings import CandumpReader, RecordingError

EXIT_CODES: Final = (
    "exit codes: 0 done; 1 the file was read, but nothing in it could be used (empty, or another car's); "
    "2 the file or the car model cannot be read"
)

LONG_FILE_BYTES: Final = 2_000_000
"""From this size on a file takes long enough for a progress bar."""

_WIDTH_MIN: Final = 7


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Add what the command takes."""
    parser.description = "Show the signals in a recording of a car's CAN bus, and a summary."
    parser.epilog = EXIT_CODES
    parser.add_argument("file", type=Path, help="a log written by 'candump -L', plain or .gz")
    parser.add_argument(
        "--car",
        required=True,
        help=f"which car: {', '.join(known_models())}, or a folder with signals.dbc and model.toml",
    )
    parser.add_argument(
        "--json", action="store_true", help="one JSON object a line, then one with the summary, for programs"
    )


def run(args: argparse.Namespace) -> int:
    """Print the recording's signals and summary to standard output; return the exit code."""
    try:
        return _show(args.file, CarModel.load(args.car), as_json=args.json)
    except (ModelError, RecordingError) as error:
        sys.stderr.write(f"amibox: {error}\n")
        return 2
    except BrokenPipeError:
        # The reader of our output (head, less) has seen enough: let the flush at exit find somebody who listens.
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
        return 0


def _show(path: Path, model: CarModel, *, as_json: bool) -> int:
    inspection = Inspection(model)
    keys = ["t_s", *(column.key for key, column in COLUMNS.items() if key in model.rules), "charging"]
    if not as_json:
        _line(_cells(keys, keys))

    def show(rows: list[dict[str, Shown]]) -> None:
        for row in rows:
            _line(_json(row) if as_json else _cells(keys, [_text(row[key]) for key in keys]))

    with _progress(path) as progress:
        reader = CandumpReader(path, progress)
        for frame in reader:
            show(inspection.frame(frame))
        show(inspection.last_row())
    summary = {"file": path.name, **inspection.summary(), "lines": _lines(reader)}
    if as_json:
        _line(_json({"summary": summary}))
    else:
        for line in _report(summary):
            _line(line)
    sys.stdout.flush()
    if inspection.values():
        return 0
    sys.stderr.write(f"amibox: {_nothing(path, model, summary)}\n")
    return 1


def _lines(reader: CandumpReader) -> dict[str, Any]:
    return {
        "read": reader.counts["lines"],
        "broken": reader.counts["broken_line"],
        "first_broken": reader.broken,
        "time_backwards": reader.counts["time_backwards"],
        "archive_damaged": bool(reader.counts["damaged_archive"]),
    }


def _nothing(path: Path, model: CarModel, summary: Mapping[str, Any]) -> str:
    """Say why a recording gave no value, and what to do."""
    if summary["frames"]["seen"]:
        return f"{path}: no frame of it could be used for {model.name}: is it another car's? Choose with --car"
    if summary["lines"]["read"]:
        return f"{path}: no line is of the form '(seconds) channel ID#DATA': record or convert it with 'candump -L'"
    return f"{path}: empty: nothing was recorded"


def _line(text: str) -> None:
    sys.stdout.write(text + "\n")


def _json(value: Mapping[str, Any]) -> str:
    return json.dumps(value, ensure_ascii=False, allow_nan=False)


def _text(value: Shown) -> str:
    if isinstance(value, bool):
        return "yes" if value else "no"
    if isinstance(value, float):
        return f"{value:.3f}".rstrip("0").rstrip(".")
    return "-" if value is None else str(value)


def _cells(keys: Sequence[str], texts: Sequence[str]) -> str:
    return "  ".join(text.rjust(max(len(key), _WIDTH_MIN)) for key, text in zip(keys, texts, strict=True))


def _report(summary: Mapping[str, Any]) -> Iterator[str]:
    """Yield the summary for a reader."""
    show = {key: _text(value) for key, value in summary.items() if isinstance(value, Shown)}
    frames, lines = summary["frames"], summary["lines"]
    yield ""
    yield f"{summary['file']} as {summary['car']}: {show['span_s']} s, channels {', '.join(summary['channels']) or '-'}"
    yield f"state of charge  {show['soc_first_pct']} -> {show['soc_last_pct']} %"
    yield f"odometer         {show['odometer_first_km']} -> {show['odometer_last_km']} km"
    yield f"distance         {show['distance_m']} m by {show['distance_source']}"
    yield f"  by odometer    {show['distance_by_odometer_m']} m, in steps of {show['odometer_resolution_m']} m"
    yield f"  by speed       {show['distance_by_speed_m']} m"
    if summary["odometer_resets"]:
        yield f"  odometer fell or leapt {show['odometer_resets']} times: those steps are not counted"
    yield f"maximum speed    {show['speed_max_kmh']} km/h at {show['speed_max_at_s']} s"
    for spell in summary["charging_spells"]:
        ends = "the end" if spell["to_s"] is None else f"{_text(spell['to_s'])} s"
        soc = f"{_text(spell['soc_first_pct'])} -> {_text(spell['soc_last_pct'])} %"
        yield f"charging         from {_text(spell['from_s'])} s to {ends}, {soc}"
    if not summary["charging_spells"]:
        yield f"charging         none seen ({show['charging_last']})"
    yield ""
    yield _cells(["signal" + 10 * " ", *_STATISTICS], ["signal".ljust(16), *_STATISTICS])
    for key, signal in summary["signals"].items():
        yield _cells(["signal" + 10 * " ", *_STATISTICS], [key.ljust(16), *(_text(signal[s]) for s in _STATISTICS)])
    yield ""
    yield f"frames           {frames['seen']} seen, {frames['used']} used, {frames['refused']} refused"
    for reason, count in (*frames["refused_by_reason"].items(), *summary["values_refused"].items()):
        yield f"  {reason.ljust(28)} {count}"
    if lines["broken"]:
        where = ", ".join(map(str, lines["first_broken"]))
        yield f"broken lines     {lines['broken']} (first: {where})"
    if lines["archive_damaged"]:
        yield "the archive is damaged: this is what came before the damage"


_STATISTICS: Final = ("frames", "first", "last", "min", "max", "changes")


@contextmanager
def _progress(path: Path) -> Iterator[Callable[[int, int], None] | None]:
    """Show a bar on standard error while a long file is read, if a person is looking there."""
    if not (sys.stderr.isatty() and path.is_file() and path.stat().st_size >= LONG_FILE_BYTES):
        yield None
        return
    # Lines for a person at the same terminal scroll above the bar; into a file or a pipe they go untouched.
    with Progress(console=Console(stderr=True), transient=True, redirect_stdout=sys.stdout.isatty()) as bar:
        task = bar.add_task(path.name, total=path.stat().st_size)
        yield lambda done, total: bar.update(task, completed=done, total=total)


def main() -> int:
    """Run by itself, without the ``amibox`` command."""
    parser = argparse.ArgumentParser(prog="python -m hw.inspect_can")
    add_arguments(parser)
    return run(parser.parse_args())


if __name__ == "__main__":
    sys.exit(main())
