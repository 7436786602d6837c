"""Power cuts during updates: what the updater really asks of the disk, and what the launcher starts on each state.

``python -m sim.crash.updates SCRIPT WEAKNESS FOLDER`` is the story that ``record`` records: a good update, one that
goes back, a good one in the other slot. ``examine`` builds the states; on each, the launcher's choice must be a whole
version that may run, and the updater, started again as after a boot, must come to its end with no less.
"""

from __future__ import annotations

import hashlib
import io
import logging
import os
import shutil
import sys
import zipfile
from collections.abc import Callable
from dataclasses import dataclass, field
from pathlib import Path
from random import Random
from typing import Any, Final

from cloud_sync import documents as d
from cloud_sync.documents.update import describe_content, pack, version_number
from onboard import slots
from onboard.inbox import BUNDLE, KEYS, ROOTS
from onboard.updater import Surroundings, Updater
from sim.crash.disk import Disk
from sim.crash.record import DATA, WITNESS, Recording, record
from sim.crash.search import place
from sim.crash.states import drawn, telling
from sim.fuzz import world

MODULE: Final = "sim.crash.updates"
BOOT: Final = "this boot"
PACKAGE: Final = version_number("0.1.0")
BEGAN_S: Final = 1000.0
BAD: Final = "0.3.0"
STORY: Final = ("0.2.0", BAD, "0.4.0")
INBOX: Final = "inbox"
DRAWS: Final = 60


def bundle(version: str) -> bytes:
    """Return a version's signed bundle: always the same."""
    out = io.BytesIO()
    with zipfile.ZipFile(out, "w") as zipped:
        zipped.writestr(zipfile.ZipInfo("onboard/__main__.py"), f"# {version}\n" * 200)
    content = out.getvalue()
    return pack(d.encode_update(describe_content(version_number(version), content, ()), world.CLOUD), content)


BUNDLES: Final = {hashlib.sha256(bundle(version)).hexdigest(): version_number(version) for version in STORY}


@dataclass
class Box:
    """The world of one updater: a clock without waiting, and a daemon that is what the launcher starts."""

    inbox: Path
    slots: Path
    boot_id: str
    now_s: float = BEGAN_S
    stopped_s: float = -1000.0
    tell: Callable[..., None] = field(default=lambda *_, **__: None)

    def ask(self, request: dict[str, Any]) -> dict[str, Any]:
        """Answer as the daemon would; one of the bad version never does."""
        slot = slots.choose(self.slots, self.boot_id, self.now_s, PACKAGE).slot
        match request["command"]:
            case "update_stop":
                self.stopped_s = self.now_s
                self.tell("trial")
                return {"stopping": True}
            case "update_kept":
                self.tell("kept", version=0 if slot is None else slot.version)
                return {"ok": True}
            case _ if slot is not None and slot.version == version_number(BAD):
                raise ConnectionError("it hangs")
            case _:
                return {"id": "" if slot is None else slot.id, "up_s": self.now_s - self.stopped_s, "obstacle": ""}

    def sleep(self, seconds: float) -> None:
        """Let time go by."""
        self.now_s += seconds

    def update(self) -> None:
        """Work the inbox off."""
        surroundings = Surroundings(
            self.inbox, self.slots, self.ask, lambda _: "", self.boot_id, lambda: self.now_s, self.sleep, PACKAGE
        )
        Updater(surroundings).run()


def fill(inbox: Path) -> None:
    """Make an inbox with what the box says of whom it believes."""
    inbox.mkdir(exist_ok=True)
    (inbox / ROOTS).write_text("".join(f"{root.hex()}\n" for root in world.ROOTS))
    (inbox / KEYS).write_bytes(d.encode_key_set(world.KEYS, world.ROOT))


def _unsynced_files() -> None:
    def put(folder: Path, name: str, data: bytes) -> None:
        (folder / f"{name}.new").write_bytes(data)
        (folder / f"{name}.new").rename(folder / name)
        slots.sync_folder(folder)

    slots.put = put


def _in_place() -> None:
    def put(folder: Path, name: str, data: bytes) -> None:
        with (folder / name).open("wb") as file:
            file.write(data)
            file.flush()
            os.fsync(file.fileno())
        slots.sync_folder(folder)

    slots.put = put


def _unsynced_names() -> None:
    slots.sync_folder = lambda folder: None  # noqa: ARG005 - called by its name


WEAKNESSES: Final[dict[str, Callable[[], None]]] = {
    "none": lambda: None,
    "files": _unsynced_files,
    "place": _in_place,
    "names": _unsynced_names,
}
"""What is made worse in the recorded process alone: a file not synced before it gets its name; written where it lies; a
name not synced."""


def main(arguments: list[str]) -> None:
    """Play the story."""
    _, weakness, given = arguments
    folder = Path(given)
    logging.disable()
    WEAKNESSES[weakness]()
    witness = os.open(folder / WITNESS, os.O_WRONLY | os.O_APPEND)

    def tell(mark: str, version: int = 0) -> None:
        os.write(witness, b'{"mark": "%s", "version": %d}\n' % (mark.encode(), version))

    fill(folder / INBOX)
    box = Box(folder / INBOX, folder / DATA, BOOT, tell=tell)
    tell("began")
    for version in STORY:
        (folder / INBOX / BUNDLE).write_bytes(bundle(version))
        box.update()


@dataclass(slots=True)
class Tally:
    """States looked at, and what was wrong with some."""

    states: int = 0
    wrong: list[str] = field(default_factory=list)


def examine(folder: Path, weakness: str, scratch: Path) -> Tally:
    """Record the story in ``folder``, build its states in ``scratch``, and judge each."""
    recording, tally = record("updates", weakness, folder, MODULE), Tally()
    slot_folder, inbox = scratch / "slots", scratch / "inbox"
    slot_folder.mkdir()
    fill(inbox)
    disk, sure, seen = Disk(), 0, set[tuple[object, ...]]()
    for cut in range(len(recording.operations) + 1):
        if cut:
            disk.take(recording.operations[cut - 1])
        sure = max([sure, *(told["version"] for at, told in recording.told if at <= cut)])
        chance = Random(cut)  # noqa: S311 - to be repeated, not to be secret
        for survivors in (*telling(disk, chance), *drawn(disk, chance, DRAWS)):
            left = disk.left(survivors)
            known = (sure, *sorted((name, content.digest) for name, content in left.items()))
            if known in seen:
                continue
            seen.add(known)
            place(slot_folder, left)
            tally.states += 1
            if wrong := judge(slot_folder, inbox, sure, _under_way(recording, cut)):
                tally.wrong.append(f"cut {cut} ({survivors}): {wrong}")
    return tally


def _under_way(recording: Recording, cut: int) -> str:
    """Return the version whose bundle lies in the inbox at a cut: the first whose end was not told yet."""
    trials = sum(told["mark"] == "trial" for at, told in recording.told if at <= cut)
    return STORY[max(0, min(trials, len(STORY)) - 1)]


def judge(folder: Path, inbox: Path, sure: int, under_way: str) -> str:
    """Return what is wrong with a state, "" if nothing is: ``sure`` is the version that was called good."""
    for boot_id, boot_s in ((BOOT, BEGAN_S + 60.0), (BOOT, 1e9), ("another boot", 20.0)):
        if wrong := _started(folder, boot_id, boot_s, sure):
            return wrong
    after = slots.choose(folder, "another boot", 20.0, PACKAGE).slot
    if after is not None and after.version == version_number(BAD):
        return "after a boot the version that never got through its trial runs"
    (inbox / BUNDLE).write_bytes(bundle(under_way))
    box = Box(inbox, folder, "another boot", now_s=20.0)
    try:
        box.update()
    except Exception as error:  # noqa: BLE001 - whatever keeps the updater from its end
        return f"the updater does not come to its end: {error!r}"
    if (inbox / BUNDLE).exists():
        return "the bundle is still there"
    wanted = sure if under_way == BAD else max(sure, version_number(under_way))
    return _started(folder, "another boot", box.now_s, wanted)


def _started(folder: Path, boot_id: str, boot_s: float, least: int) -> str:
    choice = slots.choose(folder, boot_id, boot_s, PACKAGE)
    if choice.words:
        return choice.words
    if choice.slot is None:
        return f"the package runs, and {least} was good" if least else ""
    digest = hashlib.sha256((folder / choice.slot.name).read_bytes()).hexdigest()
    if BUNDLES.get(digest) != choice.slot.version:
        return "what runs is no whole version"
    return f"{choice.slot.version} runs, and {least} was good" if choice.slot.version < least else ""


if __name__ == "__main__":
    shutil.rmtree(Path(sys.argv[3]) / INBOX, ignore_errors=True)
    main(sys.argv[1:])
