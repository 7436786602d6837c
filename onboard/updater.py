"""``amibox-update``: takes a complete bundle from the inbox, verifies it, and has the box try it. A user of its own.

It may write the slots and nothing else of the box; the box may write the inbox and not the slots. It ends when nothing
is left to do; systemd starts it again when a bundle is complete, and after a boot with one.

Steps, any of which a power cut may end: copy, verify and sync beside the version that runs; have the new code look at
itself; wait until the core says that the box may be away; write the trial down; have the daemon stop. Then the launcher
starts the new version. Well for one watchdog period, it is written down as the good one: else the trial runs out, its
timer ends it, and the launcher starts the version before. What did not get through its trial is not tried again.
"""

from __future__ import annotations

import argparse
import hashlib
import logging
import os
import subprocess
import sys
import time
from collections.abc import Callable
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any, Final

from cloud_sync.documents import Refused, Update, decode_key_set, decode_update, update_id
from cloud_sync.documents.update import BLOCK_BYTES, HEAD_BYTES, fits, head_of, version_text
from onboard import launch, slots
from onboard.config import BoxConfig
from onboard.control import ask
from onboard.inbox import BUNDLE, BUNDLE_BYTES_MAX, KEYS, ROOTS, missing
from onboard.slots import Slot, Slots, Trial, Verdict

log = logging.getLogger("amibox.update")

LOOK_EVERY_S: Final = 3.0
WAIT_EVERY_S: Final = 20.0
"""While the box may not be away."""
WELL_S: Final = 32.0
"""So long the new daemon must have run: one watchdog period (systemd/amibox.service), in which it was not bitten."""
HURRY_S: Final = 5.0
"""Nothing is called good so short before its trial ends: the timer would meet it."""
CHECK_S: Final = 180.0
TRUST_BYTES_MAX: Final = 4096


class Unfit(Exception):  # noqa: N818 - a verdict
    """The bundle is not taken; the text is the reason, for the town hall."""


@dataclass(frozen=True, slots=True)
class Surroundings:
    """What the updater knows of its world. ``ask`` raises ConnectionError while no daemon answers."""

    inbox: Path
    slots: Path
    ask: Callable[[dict[str, Any]], dict[str, Any]]
    check: Callable[[Path], str]
    """Has a bundle's own code look at itself; returns what is wrong, "" if nothing is."""
    boot_id: str
    boot_s: Callable[[], float]
    sleep: Callable[[float], None]
    package: int


class Updater:
    """Works one bundle off. ``run`` returns when there is nothing left to do."""

    def __init__(self, world: Surroundings) -> None:
        self._world = world

    def run(self) -> None:
        """Settle a trial that is under way or was cut, then take what is in the inbox."""
        self._settle()
        while (self._world.inbox / BUNDLE).exists():
            self._one()

    def _read(self) -> Slots:
        return slots.read(self._world.slots)

    def _write(self, note: Slots) -> None:
        slots.write(self._world.slots, note)

    def _settle(self) -> None:
        note = self._read()
        if note.trial is None:
            return
        if note.trial.boot_id == self._world.boot_id:
            self._watch(note.trial)
        else:
            self._cut(note, note.trial)

    def _cut(self, note: Slots, trial: Trial) -> None:
        """A power cut or a reboot ended the trial: another one, but not for ever."""
        words = f"refused: the box lost power or restarted in each of {note.strikes} trials"
        final = note.strikes >= slots.STRIKES_MAX
        verdict = Verdict(trial.slot.id, words if final else "the trial was cut off: once more", final)
        self._write(replace(note, trial=None, verdict=verdict))
        log.warning("%s: %s", version_text(trial.slot.version), verdict.words)
        if final:
            self._drop()

    def _one(self) -> None:
        identity = ""
        try:
            data = self._bundle()
            document = head_of(data)
            identity = update_id(document).hex()
            if self._settled(identity):
                self._drop()
                return
            slot = self._install(document, data, identity)
        except (Unfit, Refused) as unfit:
            lacking = "package first" in str(unfit)
            self._judge(Verdict(identity, f"refused: {unfit}", final=not lacking))
            self._drop()
            return
        faults = self._await_leave()
        if faults is None:
            return
        note, until_s = self._read(), self._world.boot_s() + slots.TRIAL_S
        trial = Trial(slot, self._world.boot_id, until_s, faults)
        strikes = note.strikes + 1 if note.struck == slot.id else 1
        self._write(replace(note, trial=trial, struck=slot.id, strikes=strikes, verdict=Verdict(slot.id, "on trial")))
        if not self._stop_daemon():
            self._write(note)  # it may not be away after all: nothing was tried
            self._world.sleep(LOOK_EVERY_S)
            return
        log.info("%s is on trial", version_text(slot.version))
        self._watch(trial)

    def _settled(self, identity: str) -> bool:
        """Tell whether a bundle had its verdict: the power went before it was removed, or somebody sent it again."""
        verdict = self._read().verdict
        return verdict is not None and verdict.final and verdict.id == identity

    def _bundle(self) -> bytes:
        path = self._world.inbox / BUNDLE
        if path.stat().st_size > BUNDLE_BYTES_MAX:
            raise Unfit(f"it is larger than {BUNDLE_BYTES_MAX} bytes")
        return path.read_bytes()

    def _install(self, document: bytes, data: bytes, identity: str) -> Slot:
        """Verify a bundle and put it into the free slot, unless it lies there from before. Raises what is wrong."""
        note = self._read()
        update = self._verified(document, data)
        if note.damaged:
            log.error("the note about the slots was damaged: it is written anew")
        if update.version <= max(note.floor, self._world.package):
            raise Unfit(f"{version_text(update.version)} is not newer than what this box has")
        if lacking := missing(update.needs):
            raise Unfit(f"update the package first, it lacks {', '.join(lacking)}")
        slot = Slot(note.free(), hashlib.sha256(data).hexdigest(), identity, update.version)
        if not slots.whole(self._world.slots, slot):
            slots.put(self._world.slots, slot.name, data)
        if wrong := self._world.check(self._world.slots / slot.name):
            raise Unfit(f"its own check says: {wrong}")
        return slot

    def _verified(self, document: bytes, data: bytes) -> Update:
        update = decode_update(document, decode_key_set(self._key_set(), self._roots()))
        content = data[HEAD_BYTES + len(document) :]
        blocks = [content[at : at + BLOCK_BYTES] for at in range(0, len(content), BLOCK_BYTES)]
        if len(content) != update.size or not all(fits(update, *each) for each in enumerate(blocks)):
            raise Unfit("its content is not what was signed")
        return update

    def _roots(self) -> tuple[bytes, ...]:
        """Return the roots, pinned the first time: who takes the box over later cannot have others believed."""
        pinned = self._world.slots / ROOTS
        if not pinned.exists():
            slots.put(self._world.slots, ROOTS, _small(self._world.inbox / ROOTS))
        try:
            return tuple(bytes.fromhex(line) for line in pinned.read_text().split())
        except ValueError as error:
            raise Unfit(f"{pinned} holds no keys: delete it, then give the box its provisioning again") from error

    def _key_set(self) -> bytes:
        """Return the newest key set that a pinned root signed: that of the box, unless ours is newer."""
        kept, roots, found = self._world.slots / KEYS, self._roots(), []
        for path in (kept, self._world.inbox / KEYS):
            try:
                document = _small(path)
                found.append((decode_key_set(document, roots).version, document))
            except (Unfit, Refused) as refused:
                if path.exists():
                    log.warning("%s does not count: %s", path, refused)
        if not found:
            raise Unfit("this box has no key set yet: it comes with its connection")
        version, document = max(found)
        if document != (kept.read_bytes() if kept.exists() else b""):
            slots.put(self._world.slots, KEYS, document)
            log.info("key set %d", version)
        return document

    def _await_leave(self) -> tuple[str, ...] | None:
        """Wait until the box may be away; return what was wrong with it before. None: the bundle went meanwhile."""
        told = ""
        while (self._world.inbox / BUNDLE).exists():
            try:
                said = self._world.ask({"command": "update"})
                obstacle = str(said.get("obstacle", "the daemon is too old"))
                if not obstacle:
                    return tuple(map(str, said.get("faults", ())))
            except ConnectionError as error:
                obstacle = str(error)
            if obstacle != told:
                log.info("waiting: %s", obstacle)
                told = obstacle
            self._world.sleep(WAIT_EVERY_S)
        return None

    def _stop_daemon(self) -> bool:
        try:
            return bool(self._world.ask({"command": "update_stop"}).get("stopping"))
        except ConnectionError:
            return True  # it may have stopped before it answered; if it runs on, the trial runs out

    def _watch(self, trial: Trial) -> None:
        """See a trial to its end: good, or over."""
        last = "its time was over"
        while self._world.boot_s() < trial.until_s - HURRY_S:
            try:
                said = self._world.ask({"command": "update"})
                last = unwell(said, trial)
            except ConnectionError:
                last = "it does not answer"
            if not last:
                self._keep(trial)
                return
            self._world.sleep(LOOK_EVERY_S)
        self._world.sleep(max(0.0, trial.until_s - self._world.boot_s()))
        note = self._read()
        words = f"refused: went back to the version before: {last}"
        self._write(replace(note, trial=None, verdict=Verdict(trial.slot.id, words, final=True)))
        log.error("%s: %s", version_text(trial.slot.version), words)
        self._drop()

    def _keep(self, trial: Trial) -> None:
        note = self._read()
        if note.trial != trial:
            return
        slot = trial.slot
        verdict = Verdict(slot.id, f"{version_text(slot.version)} runs", final=True)
        good = Slots(good=slot, before=note.good, floor=max(note.floor, slot.version), verdict=verdict)
        self._write(good)
        try:
            self._world.ask({"command": "update_kept", "id": slot.id})
        except ConnectionError as error:
            log.warning("the daemon did not hear that it stays (%s): its timer restarts it once", error)
        log.info("%s is good", version_text(slot.version))
        self._drop()

    def _judge(self, verdict: Verdict) -> None:
        log.error("%s", verdict.words)
        self._write(replace(self._read(), verdict=verdict))

    def _drop(self) -> None:
        (self._world.inbox / BUNDLE).unlink(missing_ok=True)


def unwell(said: dict[str, Any], trial: Trial) -> str:
    """Return what is wrong with a daemon on trial by its own words, "" if it is well and has run long enough."""
    if said.get("id") != trial.slot.id:
        return "the version before still answers"
    if silent := said.get("not_alive"):
        return f"not alive: {', '.join(map(str, silent))}"
    fresh = sorted({str(each) for each in said.get("faults", ())} - set(trial.faults))
    if fresh:
        return f"new faults: {', '.join(fresh)}"
    if float(said.get("up_s", 0.0)) < WELL_S:
        return "it did not run for a watchdog period"
    return ""


def _small(path: Path) -> bytes:
    try:
        with path.open("rb") as file:
            return file.read(TRUST_BYTES_MAX + 1)[:TRUST_BYTES_MAX]
    except OSError as error:
        raise Unfit(f"{path} cannot be read: the box has not said whom it believes") from error


def check_bundle(bundle: Path, config: Path) -> str:
    """Have a bundle's code import itself, read the configuration and load the car's model: its own word, or none."""
    environment = launch.environment(bundle) | {launch.SLOT: "", "PYTHONDONTWRITEBYTECODE": "1"}
    try:
        done = subprocess.run(  # noqa: S603 - signed code, by our own Python
            launch.command(["check", "--config", str(config)]),
            env=environment,
            capture_output=True,
            text=True,
            timeout=CHECK_S,
            check=False,
        )
    except subprocess.TimeoutExpired:
        return f"it does not end within {CHECK_S:.0f} s"
    lines = (done.stderr or done.stdout).strip().splitlines() or [f"exit code {done.returncode}"]
    return "" if done.returncode == 0 else lines[-1][:160]


def main(argv: list[str] | None = None) -> int:
    """Entry point of ``amibox-update``."""
    parser = argparse.ArgumentParser(prog="amibox-update", description="Tries and keeps new versions of the software.")
    parser.add_argument("--inbox", type=Path, default=launch.INBOX_FOLDER)
    parser.add_argument("--slots", type=Path, default=slots.FOLDER)
    parser.add_argument("--socket", type=Path, default=BoxConfig().socket)
    parser.add_argument("--config", type=Path, default=Path("/etc/amibox/box.toml"))
    args = parser.parse_args(argv)
    logging.basicConfig(level=logging.INFO, format="%(levelname)s %(name)s: %(message)s")
    os.umask(0o022)
    world = Surroundings(
        args.inbox,
        args.slots,
        lambda request: ask(args.socket, request, 10.0),
        lambda bundle: check_bundle(bundle, args.config),
        launch.boot_id(),
        launch.boot_s,
        time.sleep,
        launch.package_version(),
    )
    try:
        Updater(world).run()
    except OSError as error:
        log.error("the update stops: %s", error)  # noqa: TRY400 - the text says what; systemd starts it again
        return 1
    return 0


if __name__ == "__main__":
    sys.exit(main())
