"""``amibox update``: hand a bundle to the running box, or ask how far it is with one."""

from __future__ import annotations

import argparse
import base64
import hashlib
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any, Final

from onboard.inbox import BUNDLE_BYTES_MAX

HELP: Final = "give the box a new version of its software (a bundle), or ask how far it is with one"
CHUNK_BYTES: Final = 32_768
"""In base64 and JSON it fits one line of the box's socket (``onboard.console``)."""

Ask = Callable[[dict[str, Any]], dict[str, Any]]


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Describe its arguments."""
    parser.add_argument("bundle", metavar="FILE", type=Path, nargs="?", help="what `amibox-cloud update make` wrote")


def run(args: argparse.Namespace, ask: Ask) -> int:
    """Do it; return the exit code. What was sent before a failure is not sent again."""
    try:
        if args.bundle is not None:
            send(args.bundle.read_bytes(), ask)
            _say(
                f"{args.bundle} is in the box. It is tried when nobody needs the car; amibox update tells how far it is"
            )
            return 0
        said = ask({"command": "update"})
    except (OSError, ValueError) as error:
        sys.stderr.write(f"amibox update: {error}\n")
        return 1
    origin = "an update" if said["id"] else "the package's own"
    _say(f"version   {said['software']}, {origin}")
    _say(f"update    {said['progress'] or 'none'}")
    _say(f"may be away now: {'no: ' + said['obstacle'] if said['obstacle'] else 'yes'}")
    return 0


def _say(text: str) -> None:
    sys.stdout.write(f"{text}\n")


def send(data: bytes, ask: Ask) -> None:
    """Send a bundle in parts, from where the last attempt stopped. ValueError: the box's refusal, in its words."""
    if not 0 < len(data) <= BUNDLE_BYTES_MAX:
        raise ValueError(f"{len(data)} bytes: a bundle has 1 to {BUNDLE_BYTES_MAX}")
    digest, offset, before = hashlib.sha256(data).hexdigest(), 0, -1
    while offset != before and offset < len(data):
        part = base64.b64encode(data[offset : offset + CHUNK_BYTES]).decode()
        said = ask({"command": "update_chunk", "digest": digest, "total": len(data), "offset": offset, "data": part})
        if "error" in said:
            raise ValueError(said["error"])
        before, offset = offset, int(said["next"])
    if offset < len(data):
        raise ValueError(f"the box wants byte {offset} again and again: somebody else sends another file. Try again")
