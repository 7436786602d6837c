"""``make coverage``: which branches the tests reach, in the rooms that decide and in everything.

The exit code is 1 where a bound is not held. What other processes reach that tests start is counted, but for those that
are killed or have another environment.
"""

from __future__ import annotations

import io
import os
import subprocess
import sys
from collections.abc import Sequence
from pathlib import Path

from coverage import Coverage
from coverage.exceptions import NoDataError

DECIDING = ("onboard/core/*", "onboard/handshake.py", "hw/interlock.py", "cloud_sync/documents/*")
PRODUCT = ("onboard/*", "hw/*", "cloud_sync/*")
BOUNDS = {"the rooms that decide": (DECIDING, 100.0), "the product": (PRODUCT, 95.0)}
"""In per cent of lines and branches together, as coverage.py reckons."""
EVERYTHING = (*PRODUCT, "sim/*")
"""Has no bound yet: see ``docs/reliability.md``."""


def reached(files: Sequence[str]) -> tuple[float, str]:
    """Return how much of these files was reached, in per cent, and the report that names what was not."""
    coverage = Coverage()
    coverage.load()
    report = io.StringIO()
    return coverage.report(include=list(files), show_missing=True, skip_covered=True, file=report), report.getvalue()


def main(tests: list[str]) -> int:
    """Run the tests, and print what they reach."""
    # Not beside the sources, which some tests read; and one place for whatever process a test starts wherever.
    os.environ["COVERAGE_FILE"] = str(Path("build/coverage").resolve())
    Path("build").mkdir(exist_ok=True)
    subprocess.run([sys.executable, "-m", "coverage", "erase"], check=True)
    pytest = ["pytest", "-q", "-n", "auto", "--dist", "loadfile", "-m", "not system and not hil", *tests]
    failed = subprocess.run([sys.executable, "-m", "coverage", "run", "-m", *pytest], check=False).returncode
    subprocess.run([sys.executable, "-m", "coverage", "combine", "--quiet"], check=True)
    short = False
    for name, (files, wanted_pct) in (BOUNDS | {"everything": (EVERYTHING, 0.0)}).items():
        try:
            pct, report = reached(files)
        except NoDataError as error:
            sys.exit(f"nothing was reached: {error}")
        sys.stdout.write(f"{report}\n{name}: {pct:.2f} % (bound: {wanted_pct:g} %)\n\n")
        short = short or pct < wanted_pct
    return failed or int(short)


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
