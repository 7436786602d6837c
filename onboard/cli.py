"""The ``amibox`` command: arguments in, exit codes out. Every command says what it did in a technician's words."""

from __future__ import annotations

import argparse
import json
import signal
import subprocess
import sys
from collections.abc import Callable
from dataclasses import dataclass
from importlib.metadata import version
from pathlib import Path
from typing import Any, Final, Protocol

from rich.console import Console
from rich.table import Table

from cloud_sync.documents import show
from onboard import provision, store_copy, support, update_cli
from onboard.config import BoxConfig
from onboard.console import acceptance, attach
from onboard.console import command as console
from onboard.control import ask

DEFAULT_CONFIG: Final = Path("/etc/amibox/box.toml")

EPILOG: Final = """exit codes: 0 done; 1 done, with a finding or a failure that is named; 2 wrong arguments,
a file that cannot be read, or a configuration with mistakes. Results go to standard output, everything else to
standard error."""


CHILDREN: Final = {
    "demo": "play one whole rental with a simulated car, on this machine alone",
    "demo-offline": "play a week of a car without network, whose drivers' phones carry everything",
    "replay": "play a CAN and an NMEA recording through a whole box",
    "phone": "be a driver's phone, over this machine's Bluetooth",
    "virtual-reader": "a card reader with a card on it, to try the desk's commands with",
}
"""Commands of the virtual car, and what they do."""


class Inspector(Protocol):
    """A module that reads recordings: ``hw.inspect_can``, ``hw.inspect_nmea``."""

    def add_arguments(self, parser: argparse.ArgumentParser, /) -> None:
        """Describe its arguments."""
        ...

    def run(self, args: argparse.Namespace, /) -> int:
        """Do it; return the exit code."""
        ...


@dataclass(frozen=True, slots=True)
class Commands:
    """What only the composition root can do."""

    run: Callable[[Path], int]
    check: Callable[[Path], int]
    inspect_can: Any
    inspect_nmea: Any
    desk: Any


def main(commands: Commands, argv: list[str] | None = None) -> int:
    """Parse and do. Returns the exit code."""
    arguments = sys.argv[1:] if argv is None else argv
    parser = build_parser(commands)
    try:
        if arguments[:1] and arguments[0] in CHILDREN:
            # All that follows is the child's to read: argparse would keep options of its own back.
            return _child(arguments[0], arguments[1:])
        args = parser.parse_args(arguments)
        return int(args.do(args))
    except KeyboardInterrupt:
        return 130
    except BrokenPipeError:
        # The reader (head, less) has seen enough.
        sys.stderr.close()
        return 0


def build_parser(commands: Commands) -> argparse.ArgumentParser:
    """Describe every command."""
    parser = argparse.ArgumentParser(prog="amibox", description="The box in a shared car.", epilog=EPILOG)
    parser.add_argument("--version", action="version", version=f"amibox {version('amibox')}")
    subs = parser.add_subparsers(metavar="COMMAND", required=True)

    one = subs.add_parser("run", help="run the box (the service does this)")
    one.add_argument("--config", type=Path, default=DEFAULT_CONFIG, help="its configuration (default: %(default)s)")
    one.set_defaults(do=lambda args: commands.run(args.config))

    one = subs.add_parser("check", help="read the configuration and the car's model with this version, and end")
    one.add_argument("--config", type=Path, default=DEFAULT_CONFIG, help="the configuration (default: %(default)s)")
    one.set_defaults(do=lambda args: commands.check(args.config))

    for name, text in CHILDREN.items():
        subs.add_parser(name, help=text, add_help=False)

    one = subs.add_parser("status", help="ask the running box how it is")
    one.add_argument("--socket", type=Path, default=BoxConfig().socket, help="its socket (default: %(default)s)")
    one.add_argument("--json", action="store_true", help="one JSON object with stable keys")
    one.set_defaults(do=_status)

    one = subs.add_parser("provision", help=provision.HELP, description=provision.HELP)
    provision.add_arguments(one)

    one = subs.add_parser("report", help=support.HELP, description=support.HELP)
    support.add_arguments(one)
    one.set_defaults(do=support.run)

    one = subs.add_parser("inspect", help="read a recording")
    kinds = one.add_subparsers(metavar="KIND", required=True)
    for name, module, text in (
        ("can", commands.inspect_can, "a CAN recording (candump -L, .gz too): signals over time and a summary"),
        ("nmea", commands.inspect_nmea, "a receiver's recording (NMEA 0183, .gz too): its fixes and a summary"),
    ):
        kind = kinds.add_parser(name, help=text, description=text)
        module.add_arguments(kind)
        kind.set_defaults(do=module.run)

    one = subs.add_parser("card", help=commands.desk.HELP)
    commands.desk.add_arguments(one)
    one.set_defaults(do=commands.desk.run)

    one = subs.add_parser("decode", help="make any document readable: list, pass, batch, status, ...")
    show.add_arguments(one)
    one.set_defaults(do=show.run)

    one = subs.add_parser("update", help=update_cli.HELP)
    update_cli.add_arguments(one)
    one.add_argument("--socket", type=Path, default=BoxConfig().socket, help="the daemon's (default: %(default)s)")
    one.set_defaults(do=lambda args: update_cli.run(args, lambda request: ask(args.socket, request)))

    for name, module in (("console", console), ("attach", attach), ("acceptance", acceptance)):
        one = subs.add_parser(name, help=module.HELP, description=module.HELP)
        module.add_arguments(one)
        one.set_defaults(do=module.run)

    one = subs.add_parser("store", help="the box's database")
    kinds = one.add_subparsers(metavar="WHAT", required=True)
    kind = kinds.add_parser("copy", help=store_copy.HELP, description=store_copy.HELP)
    store_copy.add_arguments(kind)
    kind.add_argument("--socket", type=Path, default=BoxConfig().socket, help="the daemon's (default: %(default)s)")
    kind.set_defaults(do=lambda args: store_copy.run(args, lambda request: ask(args.socket, request)))
    return parser


def _child(what: str, rest: list[str]) -> int:
    """Run a command of the virtual car as a child: nothing of the product imports it."""
    with subprocess.Popen([sys.executable, "-m", "sim", what, *rest]) as child:  # noqa: S603 - our own module

        def forward(_number: int, _frame: object) -> None:
            # A terminal sends it to the child as well, others to us alone; the child cleans up once, and ends. No
            # exception: one between the kernel's answer and wait() reading it would lose the child's exit code.
            signal.signal(signal.SIGINT, signal.SIG_IGN)
            child.send_signal(signal.SIGINT)

        signal.signal(signal.SIGINT, forward)
        return child.wait()


def _status(args: argparse.Namespace) -> int:
    try:
        answer = ask(args.socket, {"command": "status"})
    except ConnectionError as error:
        sys.stderr.write(f"amibox status: {error}\n")
        return 1
    if args.json:
        print(json.dumps(answer, indent=1, sort_keys=True))
    else:
        _print_status(answer)
    return 1 if answer.get("faults") or answer.get("not_alive") else 0


def _supply(supply: dict[str, Any]) -> str:
    """Return one line: the step, the voltage, what is off, and how long it lasts like this."""
    voltage_v, left_s = supply["voltage_v"], supply["limit_in_s"]
    parts = [supply["level"], "not measured" if voltage_v is None else f"{voltage_v:.2f} V"]
    names = {
        "reader_slow": "card reader slow",
        "reader_off": "card reader off",
        "gnss_off": "receiver off",
        "modem_off": "modem off",
    }
    parts += [names.get(word, word) for word in supply["off"]]
    if left_s is not None:
        parts.append(f"at its limit in {left_s / 3600:.0f} h if it goes on so")
    return ", ".join(parts)


def _print_status(answer: dict[str, Any]) -> None:
    """Print one screen: what works, what does not, what to do."""
    console = Console(highlight=False)
    clock, outbox, trip = answer["clock"], answer["outbox"], answer["trip"]
    gnss = answer["gnss"]
    rows = (
        ("car", f"{answer['vehicle']}: {answer['state']}, door {answer['door']}, {answer['standing']}"),
        ("trip", f"number {trip['number']}, {trip['distance_m']} m ({trip['distance_source']})" if trip else "none"),
        ("bookings", f"{answer['bookings']}, list version {answer['list_version']}"),
        ("CAN bus", answer["bus"]),
        ("charging", answer["charging"]),
        ("GNSS", f"{gnss['mode']}D fix, {gnss['age_s']} s old" if gnss else "no fix yet"),
        ("clock", clock["quality"]),
        ("radio", answer["radio"] or "none: no [bluetooth] in the configuration"),
        ("12 V", _supply(answer["supply"])),
        (
            "cloud",
            ("connected" if outbox["connected"] else "not connected")
            + f", {outbox['last_seq'] - outbox['acknowledged_seq']} of {outbox['last_seq']} records not acknowledged",
        ),
    )
    table = Table(box=None, show_header=False, pad_edge=False)
    for name, text in rows:
        table.add_row(f"[bold]{name}", text)
    for name, reading in answer["signals"].items():
        age = "" if reading["fresh"] else f"  (last known, {reading['age_s']} s old)"
        table.add_row(name.rsplit(".", 1)[-1], f"{reading['value']:g}{age}")
    console.print(table)
    for name in answer["not_alive"]:
        console.print(f"[red]not alive:[/] {name}: the service restarts by itself within 30 s")
    for part, detail in answer["faults"].items():
        console.print(f"[red]fault:[/] {part}: {detail}")
    if not answer["faults"] and not answer["not_alive"]:
        console.print("[green]no faults[/]")
