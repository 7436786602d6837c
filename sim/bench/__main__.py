"""``python -m sim.bench image``: build the guest's disk, as ``make bench-image`` does. See docs/bench.md.

``python -m sim.bench due`` ends with 0 if what guests are made of has changed lately, else with 3, and says so.
"""

from __future__ import annotations

import argparse
import sys
from typing import Final

from sim.bench import steps
from sim.bench.due import recent_change
from sim.bench.image import Image
from sim.bench.machine import tools
from sim.bench.release import RELEASES
from sim.bench.steps import BenchError, step

NOT_DUE: Final = 3


def main() -> int:
    """Do what the arguments say; return the exit code."""
    parser = argparse.ArgumentParser(prog="python -m sim.bench", description=__doc__)
    parser.add_argument("what", choices=["image", "due"])
    parser.add_argument("--release", choices=sorted(RELEASES), default="12")
    args = parser.parse_args()
    if args.what == "due":
        change = recent_change()
        told = (
            f"due, by {change}"
            if change
            else "not due: nothing that guests are made of has changed in a day of commits"
        )
        sys.stderr.write(f"Debian {args.release} on the bench is {told}\n")
        return 0 if change else NOT_DUE
    try:
        steps.need(tools(RELEASES[args.release].architecture))  # said before minutes are spent
        with step(f"disk of Debian {args.release}"):
            folder = Image(RELEASES[args.release]).disk()
    except KeyboardInterrupt:
        sys.stderr.write("Stopped; nothing half made is used.\n")
        return 130
    except BenchError as error:
        sys.stderr.write(f"{error}\n")
        return 1
    sys.stderr.write(f"{folder}\n")
    return 0


if __name__ == "__main__":
    sys.exit(main())
