"""``amibox replay``: a CAN and an NMEA recording through a whole box, from the tap to the trip in the cloud's database.

Both recordings begin at the same moment. The box's clock is the receiver's: its first date, and no floor later than a
day before it. The driver taps before the recordings begin; 15 s after the last of both has ended he gets out, taps to
lock, and taps again to finish.
"""

from __future__ import annotations

import argparse
import asyncio
import heapq
import json
import logging
import sys
import tempfile
import time
import zlib
from collections.abc import Iterator
from dataclasses import dataclass, replace
from operator import itemgetter
from pathlib import Path
from typing import Any, Final

from rich.console import Console
from rich.text import Text

from cloud_sync.endpoint import views
from cloud_sync.endpoint.authority import AuthorityError
from hw.can_model import ModelError
from hw.can_signals import CarModel, SignalDecoder, known_models
from hw.gps import Gate
from hw.inspect_nmea import Summary, read_fixes
from hw.nmea import Fix, NmeaStream
from hw.recordings import CandumpReader, RecordedFrame, RecordingError
from onboard.__main__ import BUILD_S
from onboard.core.events import PositionReported, Signal
from onboard.core.trip import Standing, standing
from sim.lab import DAY_S, TURN_S, VEHICLE, Lab

LEAD_S: Final = 5.0
"""From the tap to the beginning of the recordings."""
REST_S: Final = 15.0
"""From the end of the recordings to the locking tap: the interlock opens nothing sooner after a fast speed."""
STEP_MAX_S: Final = 3600.0
"""A receiver's time that leaps further is a fault of its clock, and the next fix comes a second after the last."""

EPILOG: Final = """exit codes: 0 one trip and its rental, ended, in the endpoint's database; 1 not so;
2 a recording, the car or an argument cannot be used."""


def main(argv: list[str]) -> int:
    """Play recordings; return the exit code."""
    parser = argparse.ArgumentParser(prog="amibox replay", description=str(__doc__).replace("`", ""), epilog=EPILOG)
    parser.add_argument("--can", type=Path, required=True, help="a log written by candump -L, plain or .gz")
    parser.add_argument(
        "--car", required=True, help=f"which car: {', '.join(known_models())}, or a folder of one's own"
    )
    parser.add_argument("--nmea", type=Path, required=True, help="a receiver's recording (NMEA 0183), plain or .gz")
    parser.add_argument("--speed", type=_speed, default=None, help="times as fast as it was, or max (default)")
    parser.add_argument("--json", action="store_true", help="one JSON object with stable keys")
    parser.add_argument("--keep", type=Path, help="an empty folder for the databases, kept afterwards")
    args = parser.parse_args(argv)
    logging.basicConfig(level=logging.ERROR)
    try:
        model = CarModel.load(args.car)
        receiver = Receiver.load(args.nmea)
        with tempfile.TemporaryDirectory(prefix="amibox-replay-") as made:
            folder = made if args.keep is None else args.keep
            replay = Replay(args.can, receiver, model, args.speed)
            result = asyncio.run(replay.play(Path(folder).absolute()))
    except (ModelError, RecordingError, AuthorityError, ValueError, OSError) as error:
        sys.stderr.write(f"amibox replay: {error}\n")
        return 2
    if args.json:
        sys.stdout.write(json.dumps(result, ensure_ascii=False) + "\n")
    else:
        show(result)
    return 0 if result["ok"] else 1


def _speed(text: str) -> float | None:
    if text == "max":
        return None
    speed = float(text)
    if not 0 < speed < float("inf"):
        raise ValueError(text)
    return speed


@dataclass(frozen=True, slots=True)
class Receiver:
    """A receiver's recording: its fixes, each with seconds since the first, and what its sentences were worth."""

    path: Path
    fixes: tuple[Fix, ...]
    starts_s: float | None
    """Unix time of the first dated fix; None without one."""
    stream: NmeaStream

    @classmethod
    def load(cls, path: Path) -> Receiver:
        """Read a recording whole. RecordingError if it can't be read."""
        stream = NmeaStream()
        found: list[Fix] = []
        starts_s = last_s = None
        try:
            for fix in read_fixes(path, stream, Summary()):
                at_s = found[-1].at_s + 1 if found else 0.0
                if fix.time is not None:
                    time_s = fix.time.timestamp()
                    if starts_s is None:
                        starts_s = time_s - at_s
                    if last_s is not None and 0 <= time_s - last_s <= STEP_MAX_S:
                        at_s = max(found[-1].at_s, found[-1].at_s + time_s - last_s)
                    last_s = time_s
                found.append(replace(fix, at_s=at_s))
        except (OSError, EOFError, zlib.error) as error:
            raise RecordingError(f"{path}: {error}; name a receiver's recording (NMEA 0183)") from error
        if not stream.accepted:
            raise RecordingError(f"{path}: not one right NMEA sentence in it")
        return cls(path, tuple(found), starts_s, stream)


class Replay:
    """One replay. ``play`` once."""

    def __init__(self, can: Path, receiver: Receiver, model: CarModel, speed: float | None) -> None:
        self._frames = CandumpReader(can)
        self._receiver = receiver
        self._model = model
        self._speed = speed
        self._began_s = 0.0
        self._decoder = SignalDecoder(model)
        self._wall_s = receiver.starts_s or BUILD_S + DAY_S
        self._gate = Gate(self._wall_s - DAY_S)
        self._believed = 0

    async def play(self, folder: Path) -> dict[str, Any]:
        """Play everything; return what came of it. RecordingError if the CAN recording can't be read."""
        self._began_s = time.monotonic()
        # The receiver's first fix stands at its own time, after the tap.
        async with Lab(folder, self._model, self._wall_s - LEAD_S) as lab:
            span_s = (self._receiver.fixes[-1].at_s if self._receiver.fixes else 0.0) + DAY_S
            await lab.book(min(span_s, 25 * DAY_S))
            await self._get_in(lab)
            origin_s = lab.clock.boot_s() - (lab.clock.now().wall_s - self._wall_s)
            await self._drive(lab, origin_s)
            moving_mps = self._last_speed_mps(lab)
            await self._pass(lab, REST_S)
            still = standing(lab.state.vehicle, lab.state.policy, lab.clock.boot_s())
            await self._get_out(lab)
            return self._result(lab, moving_mps, still)

    async def _get_in(self, lab: Lab) -> None:
        lab.door.report()
        await lab.settle()
        lab.tap()
        await lab.settle()
        await self._pass(lab, 1.0)
        await self._door(lab, is_open=True)
        await self._door(lab, is_open=False)

    async def _get_out(self, lab: Lab) -> None:
        await self._door(lab, is_open=True)
        await self._door(lab, is_open=False)
        lab.tap()
        await self._pass(lab, 4.0)
        if lab.state.kept.rental is not None:
            lab.tap()
        await self._pass(lab, 2.0)

    async def _door(self, lab: Lab, *, is_open: bool) -> None:
        lab.door.is_open = is_open
        await self._pass(lab, 1.0)

    async def _pass(self, lab: Lab, duration_s: float) -> None:
        """Let time pass with nothing on the bus but what the decoder makes of silence."""
        until_s = lab.clock.boot_s() + duration_s
        while lab.clock.boot_s() < until_s:
            await self._look(lab, min(until_s, lab.clock.boot_s() + TURN_S))

    async def _look(self, lab: Lab, at_s: float) -> None:
        await self._pace(at_s)
        await lab.advance(at_s)
        lab.door.report()
        for event in self._decoder.take(at_s):
            lab.post(event)
        await lab.settle()

    async def _pace(self, at_s: float) -> None:
        """Wait until boot time ``at_s`` of the replay has come, where it plays by a clock."""
        if self._speed is None:
            return
        self._paced_from_s = min(self._paced_from_s, at_s)
        ahead_s = (at_s - self._paced_from_s) / self._speed - (time.monotonic() - self._began_s)
        if ahead_s > 0:
            await asyncio.sleep(ahead_s)

    _paced_from_s = float("inf")

    async def _drive(self, lab: Lab, origin_s: float) -> None:
        """Play both recordings from boot time ``origin_s`` on."""
        frames: Iterator[tuple[float, RecordedFrame | Fix]] = ((origin_s + f.at_s, f) for f in self._frames)
        fixes: Iterator[tuple[float, RecordedFrame | Fix]] = ((origin_s + f.at_s, f) for f in self._receiver.fixes)
        for at_s, item in heapq.merge(frames, fixes, key=itemgetter(0)):
            while lab.clock.boot_s() + TURN_S <= at_s:
                await self._look(lab, lab.clock.boot_s() + TURN_S)
            if isinstance(item, Fix):
                events = self._gate.take(replace(item, at_s=at_s))
                self._believed += sum(isinstance(event, PositionReported) for event in events)
            else:
                flags = (item.is_extended, item.is_error, item.is_remote)
                self._decoder.feed(item.arbitration_id, *flags, item.data, at_s)
                events = self._decoder.take(at_s)
            if events:
                await self._pace(at_s)
                await lab.advance(max(at_s, lab.clock.boot_s()))
                for event in events:
                    lab.post(event)
                await lab.settle()

    @staticmethod
    def _last_speed_mps(lab: Lab) -> float | None:
        reading = lab.state.vehicle.readings.get(Signal.SPEED)
        return None if reading is None else reading.value

    def _result(self, lab: Lab, last_mps: float | None, still: Standing) -> dict[str, Any]:
        with lab.store.read() as db:
            trips = [trip.model_dump() for trip in views.trips(db, VEHICLE)]
            rentals = [rental.model_dump() for rental in views.rentals(db, VEHICLE)]
            rows = views.timeline(db, 0, VEHICLE, views.ROWS_MAX, newest=True)
            points = len(views.track(db, VEHICLE, None).points)
        ended = next((row.fields for row in rows if row.kind == "trip_end"), None)
        outbox = lab.state.kept.outbox
        counts = self._decoder.counts
        ok = len(trips) == len(rentals) == 1 and None not in (trips[0]["ended_s"], rentals[0]["ended_s"])
        return {
            "ok": ok,
            "car": self._model.name,
            "can": {
                "file": self._frames.path.name,
                "frames": counts["seen"],
                "used": counts["used"],
                "last_speed_kmh": None if last_mps is None else round(last_mps * 3.6, 2),
            },
            "nmea": {
                "file": self._receiver.path.name,
                "fixes": len(self._receiver.fixes),
                "believed": self._believed,
                "refused": dict(self._gate.counts),
                "dated": self._receiver.starts_s is not None,
            },
            "trips": len(trips),
            "rentals": len(rentals),
            "trip": trips[0] if trips else None,
            "rental": rentals[0] if rentals else None,
            "speed_integral_m": ended["speed_integral_m"] if ended is not None else None,
            "track_points": points,
            "standing": still.value,
            "end": explain(last_mps, still, lab.door.refused),
            "records": outbox.last_seq,
            "acknowledged": max(outbox.acked_seq, lab.state.sending.acked_seq),
            "refused_by_cloud": dict(lab.ingest.refused),
            "took_s": round(time.monotonic() - self._began_s, 2),
        }


def explain(last_mps: float | None, still: Standing, refused: list[str]) -> str:
    """Say how the trip could end, given what the recording left behind."""
    if refused:
        return f"the interlock refused a pulse: {', '.join(refused)}"
    if still is Standing.STILL:
        return "the car stood still, then it was locked"
    if last_mps is None:
        return "the recording gives no speed, so nothing proves that the car stood still: the lock worked, flagged"
    return (
        f"the recording breaks off at {last_mps * 3.6:.0f} km/h, then the bus is silent, which proves no standstill: "
        "the lock worked all the same, and the trip is flagged standstill_unproven"
    )


def _percent(value: float | None) -> str:
    return "not yet known" if value is None else f"{value:g} %"


def show(result: dict[str, Any]) -> None:
    """Print a result for a reader."""
    console = Console(highlight=False, soft_wrap=True)
    can, nmea, trip, rental = result["can"], result["nmea"], result["trip"], result["rental"]
    rows = [
        ("CAN", f"{can['file']} as {result['car']}: {can['frames']} frames, {can['used']} used"),
        ("receiver", f"{nmea['file']}: {nmea['fixes']} fixes, {nmea['believed']} believed"),
    ]
    rows += [("", f"{count} refused: {reason}") for reason, count in nmea["refused"].items()]
    if not nmea["dated"]:
        rows.append(("", "it gives no date: the clock begins on the day of this release"))
    rows.append(("in the cloud", f"{result['trips']} trip, {result['rentals']} rental"))
    if trip is not None:
        resolution = f" (in steps of {trip['distance_resolution_m']} m)" if trip["distance_resolution_m"] else ""
        rows.append(("distance", f"{trip['distance_m']} m by {trip['distance_source']}{resolution}"))
        if result["speed_integral_m"] is not None:
            rows.append(("", f"{result['speed_integral_m']} m by the speed over time, beside it"))
        rows.append(("duration", f"{trip['duration_s']} s, ended: {trip['reason']}"))
        first, last = (_percent(trip[key]) for key in ("soc_start_pct", "soc_end_pct"))
        rows.append(("battery", f"{first} at the unlock, {last} at the lock"))
        rows.append(("flags", ", ".join(trip["flags"]) or "none"))
    if rental is not None:
        rows.append(("rental", f"{rental['reason'] or 'not ended'}, {rental['billable_s']} s to bill"))
    rows.append(("the end", result["end"]))
    rows.append(("records", f"{result['records']} written, {result['acknowledged']} acknowledged by the cloud"))
    for name, text in rows:
        line = Text(f"{name:<14}", style="bold")
        line.append(text, style="not bold")
        console.print(line)
    verdict = "[green]one trip, once[/]" if result["ok"] else "[red]not the one ended trip that should be there[/]"
    if not can["used"]:
        verdict += f"\n[yellow]No frame of this recording is one of {result['car']}: name its car with --car.[/]"
    console.print(f"\n{verdict} ({result['took_s']} s)")
