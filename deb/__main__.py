"""``python -m deb``: make the box's package in ``dist/``, as ``make deb`` does."""

from __future__ import annotations

import argparse
import sys

from deb.build import build, version
from deb.venv import MACHINES, RELEASES, ROOT, BuildError, target


def main() -> int:
    """Do what the arguments say; return the exit code."""
    parser = argparse.ArgumentParser(prog="python -m deb", description=__doc__)
    parser.add_argument("--release", default="12", help=f"Debian's number: {', '.join(RELEASES)}")
    parser.add_argument("--arch", default="arm64", help=f"the processor: {', '.join(MACHINES)}; a Pi is arm64")
    args = parser.parse_args()
    try:
        machine = target(args.release, args.arch)
        sys.stderr.write(f"For Debian {machine.number}, {machine.debian}, Python {machine.python}.\n")
        (package,) = build(machine, ROOT / "dist", version(machine))
    except BuildError as error:
        sys.stderr.write(f"{error}\n")
        return 1
    sys.stderr.write(f"{package.relative_to(ROOT)}: {package.stat().st_size / 1e6:.1f} MB. On the box:\n")
    sys.stderr.write(f"  sudo apt install ./{package.name}\n")
    return 0


if __name__ == "__main__":
    sys.exit(main())
