"""The second composition root: the same box and the same cloud, in a car that exists only here."""

from __future__ import annotations

import argparse
import asyncio
import logging
import os
import sys
from pathlib import Path

from sim.clock import ScaledClock, add_clock_arguments
from sim.processes import die_with, interrupt_once, sweep

INTERRUPTED = 130
"""Exit code of a shell's convention: 128 and SIGINT's number."""
PLAYED = (
    "demo",
    "demo-offline",
    "replay",
    "phone",
    "virtual-reader",
    "crash-states",
    "simulate",
    "clock-histories",
    "offline",
    "fuzz",
)
"""Commands that read their arguments themselves."""

# Each command imports what it needs: the sweeper must stand before anything else is up.


def main(argv: list[str] | None = None) -> int:
    """Run a command of the simulation; return its exit code."""
    parser = argparse.ArgumentParser(
        prog="python -m sim",
        description="The virtual car: see amibox demo and replay.",
        epilog=f"Besides, each with a --help of its own: {', '.join(PLAYED)}.",
    )
    commands = parser.add_subparsers(required=True, metavar="COMMAND")

    car = commands.add_parser("car", help="the car and its devices")
    car.add_argument("--dir", type=Path, required=True, help="folder for its plugs")
    car.set_defaults(run=_car)
    box = commands.add_parser("box", help="the box of amibox run, by the car's clock and on its pins")
    box.add_argument("--dir", type=Path, required=True, help="folder of the car's plugs")
    box.set_defaults(run=_box)
    for child in (car, box):
        child.add_argument("--config", type=Path, required=True, help="the box's configuration")
    cloud = commands.add_parser("cloud", help="the endpoint of amibox-cloud serve, by the car's clock")
    cloud.set_defaults(run=_cloud)
    for child in (car, box, cloud):
        child.add_argument("--parent", type=int, required=True, help="process with which this one ends")
        add_clock_arguments(child)
    cloud.add_argument("rest", nargs=argparse.REMAINDER, help="arguments of amibox-cloud")

    broom = commands.add_parser("sweep", help="remove a folder when standard input ends")
    broom.add_argument("dir", type=Path)
    broom.set_defaults(run=lambda args: sweep(args.dir))

    arguments = sys.argv[1:] if argv is None else argv
    if arguments and arguments[0] in PLAYED:
        return _play(arguments[0], arguments[1:])
    args = parser.parse_args(arguments)
    if "parent" in args:
        die_with(args.parent)
    return int(args.run(args))


def _play(what: str, arguments: list[str]) -> int:
    """Play what reads its arguments itself: the demo, a replay, a phone, power cuts, whole towns, a month."""
    interrupt_once()
    try:
        die_with(os.getppid())
        if what == "demo":
            from sim.demo import main as play  # noqa: PLC0415 -- see above
        elif what == "demo-offline":
            from sim.week_demo import main as play  # noqa: PLC0415 -- see above
        elif what == "phone":
            from sim.phone_cli import main as play  # noqa: PLC0415 -- see above
        elif what == "virtual-reader":
            from sim.reader_cli import main as play  # noqa: PLC0415 -- see above
        elif what == "fuzz":
            from sim.fuzz.run import main as play  # noqa: PLC0415 -- see above
        elif what == "crash-states":
            from sim.crash.run import main as play  # noqa: PLC0415 -- see above
        elif what == "clock-histories":
            from sim.clocks.run import main as play  # noqa: PLC0415 -- see above
        elif what == "simulate":
            from sim.simulate import main as play  # noqa: PLC0415 -- see above
        elif what == "offline":
            from sim.offline import main as play  # noqa: PLC0415 -- see above
        else:
            from sim.replay import main as play  # noqa: PLC0415 -- see above
        return play(arguments)
    except KeyboardInterrupt:
        sys.stderr.write("\nStopped. Nothing is left running.\n")
        return INTERRUPTED


def _car(args: argparse.Namespace) -> int:
    from onboard.__main__ import door_settings  # noqa: PLC0415 -- see above
    from onboard.config import load_config  # noqa: PLC0415
    from sim import car  # noqa: PLC0415
    from sim.route import BAZOUGES_HEDE  # noqa: PLC0415

    clock = ScaledClock.from_arguments(args)
    return car.main(args.dir, clock, door_settings(load_config(args.config)), BAZOUGES_HEDE)


def _box(args: argparse.Namespace) -> int:
    from onboard.__main__ import serve  # noqa: PLC0415 -- see above
    from onboard.config import load_config  # noqa: PLC0415
    from onboard.notify import Notifier  # noqa: PLC0415
    from sim.pins import SocketFactory  # noqa: PLC0415

    config = load_config(args.config)
    logging.basicConfig(level=config.box.log_level.upper(), format="%(levelname)s %(name)s: %(message)s")
    pins = SocketFactory(args.dir / "pins")
    asyncio.run(serve(config, ScaledClock.from_arguments(args), pins, Notifier()))
    return 0


def _cloud(args: argparse.Namespace) -> int:
    from cloud_sync.endpoint.__main__ import main as endpoint  # noqa: PLC0415 -- see above

    return endpoint(args.rest, now=ScaledClock.from_arguments(args).true_wall_s)


if __name__ == "__main__":
    code = main()
    if code == INTERRUPTED:
        # An interrupt that fell into an import's own exec() leaves Python marked as killed by it, though it was
        # caught: sys.exit would end this process by the signal, with another code. Everything is cleaned up by now.
        sys.stdout.flush()
        sys.stderr.flush()
        os._exit(code)
    sys.exit(code)
