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
    """Serve until it is ended; a port that is gone is opened again when it is back."""
    if args.tty is None:
        with raw() as here:
            try:
                serve(here, args.config, COMMANDS)
            except (LinkLost, KeyboardInterrupt):
                return 0
    logging.basicConfig(level=logging.INFO, format="%(levelname)s %(name)s: %(message)s", stream=sys.stderr)
    told = ""
    while True:
        try:
            link = SerialLink(args.tty, args.baud)
            log.info("%s: open at %d Bd", args.tty, args.baud)
            told = ""
            try:
                serve(link, args.config, COMMANDS)
            finally:
                link.close()
        except LinkLost as lost:
            if str(lost) != told:
                told = str(lost)
                log.warning("%s: %s; tried again every %.0f s", args.tty, told, REOPEN_S)
            time.sleep(REOPEN_S)
        except KeyboardInterrupt:
            return 0
