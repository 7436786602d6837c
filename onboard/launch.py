"""``amibox-run``, which the service starts: runs the box's software in the version that counts now.

It comes with the package and is not in updates. Standard library only.

It chooses (``slots.choose``), gives a version on trial a timer that ends it (the kernel's, which outlives ``exec``, so
that a version that hangs is ended too), and becomes that version. It writes nothing.
"""

from __future__ import annotations

import importlib.metadata
import os
import signal
import sys
import time
from pathlib import Path
from typing import Final

from onboard import slots

BOOT_ID: Final = Path("/proc/sys/kernel/random/boot_id")
SLOT: Final = "AMIBOX_SLOT"
"""In the environment: the id of the update that runs; empty for the package's own code."""
SLOTS: Final = "AMIBOX_SLOTS"
INBOX: Final = "AMIBOX_INBOX"
"""In the environment: the two folders. A box that is started without them takes no updates."""
INBOX_FOLDER: Final = Path("/var/lib/amibox-inbox")
USAGE: Final = "usage: amibox-run [--slots DIR] [--inbox DIR] run|check [--config FILE]\n"


def main(argv: list[str] | None = None) -> int:
    """Become the version that counts now, or return the exit code for wrong arguments."""
    arguments = sys.argv[1:] if argv is None else argv
    folders = {"--slots": slots.FOLDER, "--inbox": INBOX_FOLDER}
    while len(arguments) > 1 and arguments[0] in folders:
        folders[arguments[0]], arguments = Path(arguments[1]), arguments[2:]
    folder = folders["--slots"]
    if arguments[:1] not in (["run"], ["check"]):
        sys.stderr.write(USAGE)
        return 2
    choice = slots.choose(folder, boot_id(), boot_s(), package_version())
    if choice.words:
        sys.stderr.write(f"amibox-run: {choice.words}: starting what comes after it\n")
    if choice.left_s is not None:
        sys.stderr.write(f"amibox-run: on trial for {choice.left_s:.0f} s\n")
        signal.setitimer(signal.ITIMER_REAL, max(choice.left_s, 0.001))
    slot = choice.slot
    told = {SLOT: slot.id if slot else "", SLOTS: str(folder), INBOX: str(folders["--inbox"])}
    words = environment(folder / slot.name if slot else None) | told
    return int(os.execve(sys.executable, command(arguments), words))  # noqa: S606 - our own code; it does not return


def command(arguments: list[str]) -> list[str]:
    """Return the words that start it. ``-P``: the folder one stands in is no place to import from."""
    return [sys.executable, "-P", "-m", "onboard", *arguments]


def environment(bundle: Path | None) -> dict[str, str]:
    """Return the environment in which Python imports from a bundle first, and from the package's libraries."""
    kept = {name: value for name, value in os.environ.items() if name not in ("PYTHONPATH", SLOT)}
    return kept if bundle is None else kept | {"PYTHONPATH": str(bundle)}


def folders() -> tuple[Path, Path] | None:
    """Return the folders of inbox and slots that the launcher told; None where it told none, or there is no inbox."""
    inbox, slots_folder = (os.environ.get(name) for name in (INBOX, SLOTS))
    return (Path(inbox), Path(slots_folder)) if inbox and slots_folder and Path(inbox).is_dir() else None


def boot_id() -> str:
    """Return what names this boot of the machine."""
    return BOOT_ID.read_text().strip()


def boot_s() -> float:
    """Return the seconds since the machine was switched on, sleep included."""
    return time.clock_gettime(time.CLOCK_BOOTTIME)


def package_version() -> int:
    """Return the number of the package's version; 0 if it has none that can be read."""
    try:
        major, minor, patch = map(int, importlib.metadata.version("amibox").split("."))
    except (importlib.metadata.PackageNotFoundError, ValueError):
        return 0
    return (major * 1000 + minor) * 1000 + patch


if __name__ == "__main__":
    sys.exit(main())
