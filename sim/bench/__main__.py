"""``python -m sim.bench image``: build the guest's disk, as ``make bench-image`` does. See docs/bench.md."""

from __future__ import annotations

import argparse
import sys

from sim.bench.image import Image
from sim.bench.release import RELEASES
from sim.bench.steps import BenchError, step


def main() -> int:
    """Do what the arguments say; return the exit code."""
    parser = argparse.ArgumentParser(prog="python -m sim.bench", description=__doc__)
    parser.add_argument("what", choices=["image"])
    parser.add_argument("--release", choices=sorted(RELEASES), default="12")
    args = parser.parse_args()
    try:
        with step(f"disk of Debian {args.release}"):
            folder = Image(RELEASES[args.release]).disk()
    except BenchError as error:
        sys.stderr.write(f"{error}\n")
        return 1
    sys.stderr.write(f"{folder}\n")
    return 0


if __name__ == "__main__":
    sys.exit(main())
