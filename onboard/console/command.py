"""``amibox console``: serve the console on a serial line, or on this terminal."""

from __future__ import annotations

import argparse
import logging
import sys
import time
from pathlib import Path
from typing import Final

from onboard.console.commands import COMMANDS
from onboard.console.link import LinkLost, SerialLink, raw
from onboard.console.shell import serve

log = logging.getLogger("amibox.console")

HELP: Final = "the technician's console, on a serial line or here"
BAUD: Final = 9600
REOPEN_S: Final = 2.0


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Describe the arguments of ``amibox console``."""
    parser.add_argument("--tty", type=Path, help="serial port, such as /dev/ttyGS0 (default: this terminal)")
    parser.add_argument("--baud", type=int, default=BAUD, help="bits a second (default: %(default)s)")
    parser.add_argument(
        "--config", type=Path, default=Path("/etc/amibox/box.toml"), help="the box's configuration (%(default)s)"
    )


def run(args: argparse.Namespace) -> int:
    """Serve until it is ended. 1: the port cannot be opened; the service manager starts it anew, sandbox and all."""
    if args.tty is None:
        with raw() as here:
            try:
                serve(here, args.config, COMMANDS)
            except (LinkLost, KeyboardInterrupt):
                return 0
    logging.basicConfig(level=logging.INFO, format="%(levelname)s %(name)s: %(message)s", stream=sys.stderr)
    while True:
        try:
            link = SerialLink(args.tty, args.baud)
        except LinkLost as lost:
            log.warning("%s: %s; the service tries again", args.tty, lost)
            return 1
        log.info("%s: open at %d Bd", args.tty, args.baud)
        try:
            serve(link, args.config, COMMANDS)
        except LinkLost as lost:
            log.warning("%s: %s", args.tty, lost)
        except KeyboardInterrupt:
            return 0
        finally:
            link.close()
        time.sleep(REOPEN_S)
