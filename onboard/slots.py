"""Which version of the software runs: two slots, each one file, and the note that says what is known of them.

Standard library only: the launcher reads this before anything else, and must not fall with a library.

``a``, ``b``   a bundle each (``cloud_sync.documents.update``), verified before it got its name; Python imports from it
``state``      the note, JSON, replaced as a whole; one rename of it is the switch from one version to the other

Rules. A version runs on trial until its daemon was ready, found itself well and lived through one watchdog period. A
trial holds for one boot and until one moment of it; whoever starts the daemon later takes the version before. So it
goes back by itself, whatever hangs, dies or loses power: going back needs nobody to write anything.
"""

from __future__ import annotations

import hashlib
import json
import os
from dataclasses import asdict, dataclass, replace
from pathlib import Path
from typing import Any, Final

STATE: Final = "state"
NAMES: Final = ("a", "b")
STATE_BYTES_MAX: Final = 16_384
TRIAL_S: Final = 120.0
"""So long a new version has, from the moment that the old one is asked to stop."""
STRIKES_MAX: Final = 3
"""Trials of one bundle that a power cut or a reboot ended: it may have been the bundle's fault."""
FOLDER: Final = Path("/var/lib/amibox-slots")


@dataclass(frozen=True, slots=True)
class Slot:
    """A whole version. ``sha256`` of the file, ``id`` of its signed document, both hexadecimal."""

    name: str
    sha256: str
    id: str
    version: int


@dataclass(frozen=True, slots=True)
class Trial:
    """A version that may run in this boot until boot time ``until_s``. ``faults``: what was wrong before it."""

    slot: Slot
    boot_id: str
    until_s: float
    faults: tuple[str, ...] = ()


@dataclass(frozen=True, slots=True)
class Verdict:
    """What became of a bundle, in words. ``final``: it is not taken again."""

    id: str
    words: str
    final: bool = False


@dataclass(frozen=True, slots=True)
class Slots:
    """The note. ``good`` None: the package's own code. ``floor``: no version up to it is taken again."""

    good: Slot | None = None
    before: Slot | None = None
    trial: Trial | None = None
    floor: int = 0
    struck: str = ""
    strikes: int = 0
    verdict: Verdict | None = None
    damaged: bool = False
    """The note could not be read. Never written."""

    def free(self) -> str:
        """Return the slot that holds nothing that is needed."""
        return NAMES[1] if self.good is not None and self.good.name == NAMES[0] else NAMES[0]


@dataclass(frozen=True, slots=True)
class Choice:
    """What to start: a bundle, or None for the package's own code. ``left_s``: on trial, for so long."""

    slot: Slot | None
    left_s: float | None = None
    words: str = ""


def choose(folder: Path, boot_id: str, boot_s: float, package: int) -> Choice:
    """Return what runs now. Never raises; writes nothing. ``package``: the version of the package's own code."""
    slots = read(folder)
    trial, skipped = slots.trial, ["the note about the slots is damaged"] if slots.damaged else []
    if trial is not None and trial.boot_id == boot_id and boot_s < trial.until_s:
        if whole(folder, trial.slot):
            return Choice(trial.slot, trial.until_s - boot_s)
        skipped.append(f"slot {trial.slot.name} is damaged")
    for slot in (slots.good, slots.before):
        if slot is None or slot.version <= package:
            break  # the package is newer, or what there was before any update
        if whole(folder, slot):
            return Choice(slot, None, "; ".join(skipped))
        skipped.append(f"slot {slot.name} is damaged")
    return Choice(None, None, "; ".join(skipped))


def whole(folder: Path, slot: Slot) -> bool:
    """Tell whether a slot holds, to the byte, what was verified when it was filled."""
    try:
        with (folder / slot.name).open("rb") as file:
            return hashlib.file_digest(file, "sha256").hexdigest() == slot.sha256
    except OSError:
        return False


def read(folder: Path) -> Slots:
    """Read the note; an empty one where there is none, or none that can be read."""
    try:
        data = (folder / STATE).read_bytes()
    except FileNotFoundError:
        return Slots()
    except OSError:
        return Slots(damaged=True)
    try:
        if len(data) > STATE_BYTES_MAX:
            raise ValueError("too large")  # noqa: TRY301 - damaged like any other
        return _slots(json.loads(data))
    except (ValueError, KeyError, TypeError, AttributeError, RecursionError):
        return Slots(damaged=True)


def _slots(told: dict[str, Any]) -> Slots:
    trial, verdict = told["trial"], told["verdict"]
    return Slots(
        good=_slot(told["good"]),
        before=_slot(told["before"]),
        trial=None
        if trial is None
        else Trial(_certainly(trial["slot"]), str(trial["boot_id"]), float(trial["until_s"]), tuple(trial["faults"])),
        floor=int(told["floor"]),
        struck=str(told["struck"]),
        strikes=int(told["strikes"]),
        verdict=None if verdict is None else Verdict(str(verdict["id"]), str(verdict["words"]), bool(verdict["final"])),
    )


def _slot(told: dict[str, Any] | None) -> Slot | None:
    return None if told is None else _certainly(told)


def _certainly(told: dict[str, Any]) -> Slot:
    if told["name"] not in NAMES:
        raise ValueError("no such slot")
    return Slot(str(told["name"]), str(told["sha256"]), str(told["id"]), int(told["version"]))


def write(folder: Path, slots: Slots) -> None:
    """Replace the note: after a power cut it is wholly the old or wholly the new one. Raises ``OSError``."""
    told = asdict(replace(slots, damaged=False))
    del told["damaged"]
    put(folder, STATE, json.dumps(told, indent=1).encode())


def put(folder: Path, name: str, data: bytes) -> None:
    """Give a file its content and its name, durably and at once. Everybody may read it. Raises ``OSError``."""
    fresh = folder / f"{name}.new"
    with os.fdopen(os.open(fresh, os.O_WRONLY | os.O_CREAT | os.O_TRUNC, 0o644), "wb") as file:
        file.write(data)
        file.flush()
        os.fsync(file.fileno())
    fresh.rename(folder / name)
    sync_folder(folder)


def sync_folder(folder: Path) -> None:
    """Make the names in a folder durable."""
    handle = os.open(folder, os.O_RDONLY | os.O_DIRECTORY)
    try:
        os.fsync(handle)
    finally:
        os.close(handle)
