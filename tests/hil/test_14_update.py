"""A new version of the software in the real service: kept when it is good, gone by itself when it is not.

The code is the box's own with another number; a bad one has one file changed. ``CUTS`` adds power cuts at random
moments of an update (``SEED`` says when).
"""

from __future__ import annotations

import os
import random
import time
from collections.abc import Iterator
from threading import Timer
from typing import Any

import pytest

from cloud_sync.documents import Signer
from cloud_sync.endpoint.updates import make_bundle
from sim.bench.machine import GuestError
from sim.commune import FOLDER, Commune
from sim.rig import Rig
from tests.conftest import ROOT
from tests.hil.driver import Ledger, tell

CUTS = int(os.environ.get("CUTS", "0"))
SEED = int(os.environ.get("SEED", str(int(time.time()))))
PROGRAM = "/opt/amibox/.venv/bin/amibox"
CLOUD = "/opt/amibox/.venv/bin/amibox-cloud"
SLOTS, INBOX = "/var/lib/amibox-slots", "/var/lib/amibox-inbox"
ROUND_S = 110.0
"""From the file to the end of the trial by emulation: a random cut falls anywhere in it."""
BACK_S = 180.0
"""By then a box has gone back by itself."""

pytestmark = [pytest.mark.needs("guest"), pytest.mark.needs("played card", "played gps")]


class Town:
    """The commune's hand on updates: makes them, signs them, publishes them or sends them by cable."""

    def __init__(self, rig: Rig, commune: Commune) -> None:
        self.rig, self.commune = rig, commune
        self._key = Signer.from_pem(rig.beside.fetch(f"{FOLDER}/cloud/offline/update.pem"))
        self._patch = 0

    def next(self, **changes: bytes) -> tuple[str, bytes]:
        """Return the next version and its bundle."""
        self._patch += 1
        return (version := f"0.1.{self._patch}"), self.make(version, **changes)

    def make(self, version: str, **changes: bytes) -> bytes:
        return make_bundle(ROOT, version, self._key, **changes)

    def publish(self, bundle: bytes) -> None:
        self.rig.beside.put(f"{FOLDER}/new.bundle", bundle)
        self.rig.beside.shell(f"{CLOUD} update publish {FOLDER}/new.bundle --dir {FOLDER}/cloud", timeout_s=120)

    def send(self, bundle: bytes) -> None:
        """By a technician's hand, on the box."""
        self.rig.put("/tmp/new.bundle", bundle)
        self.rig.shell(f"{PROGRAM} update /tmp/new.bundle", timeout_s=120)

    def told(self) -> dict[str, Any]:
        return self.rig.ask({"command": "update"})

    def words(self) -> str:
        return str(self.told()["progress"])

    def tried(self) -> bool:
        """Whether the note in the slots speaks of a trial now."""
        return '"trial": {' in self.rig.shell(f"cat {SLOTS}/state || true")

    def settled(self) -> bool:
        """Whether a bundle has got its verdict."""
        return not self.rig.shell(f"ls {INBOX} | grep -x bundle || true") and not self.tried()


@pytest.fixture(scope="module")
def town(box: Rig, commune: Commune) -> Iterator[Town]:
    Ledger(box, commune).settle()
    town = Town(box, commune)
    yield town
    # Whatever follows meets the installed program again.
    box.shell(f"systemctl stop amibox-update.path amibox-update; rm -rf {SLOTS}/* {INBOX}/*")
    box.beside.shell(f"{CLOUD} update withdraw --dir {FOLDER}/cloud", timeout_s=60)
    box.shell("systemctl restart amibox; systemctl start amibox-update.path", timeout_s=120)
    box.await_box()


def test_the_update_is_another_user_in_a_tight_sandbox(town: Town) -> None:
    shown = town.rig.shell("systemd-analyze security amibox-update --no-pager | tail -1")
    assert float(shown.split("level for ")[1].split(": ")[1].split()[0]) <= 2.0, shown
    tell(shown.strip())
    refused = town.rig.run("runuser", "-u", "amibox", "--", "touch", f"{SLOTS}/state")
    assert refused.code != 0, "the box can write where its own code lies"


def test_a_good_update_comes_over_the_network_and_waits_for_a_rental_and_for_its_driver(town: Town) -> None:
    version, bundle = town.next()
    ledger = Ledger(town.rig, town.commune)
    ledger.open()
    town.publish(bundle)
    took_s = town.rig.until("the bundle in the box", lambda: town.words() == "complete", timeout_s=180)
    assert town.told()["obstacle"] == "rental"
    assert not town.tried()
    ledger.end()
    town.rig.until("the driver's way back", lambda: town.told()["obstacle"] == "reopening")
    assert not town.tried()
    # Ten minutes are long for a test: what knows the last driver lives in memory alone.
    town.rig.shell("systemctl restart amibox", timeout_s=120)
    begun_s = time.monotonic()
    town.rig.until("the new version", lambda: town.told()["software"] == version, timeout_s=240)
    town.rig.until("its verdict", lambda: town.words() == f"{version} runs" and town.settled(), timeout_s=120)
    tell(f"{len(bundle)} bytes in {took_s:.0f} s over MQTT; good {time.monotonic() - begun_s:.0f} s after it might")
    town.rig.until("the commune to know", lambda: town.commune.get("vehicles")[0]["software"] == version)
    main = town.rig.shell("systemctl show amibox -p MainPID --value").strip()
    assert f"PYTHONPATH={SLOTS}/a" in town.rig.shell(f"tr '\\0' '\\n' </proc/{main}/environ")
    # Its timer is off: it outlives its trial (the next test waits longer than that).


def test_a_version_that_hangs_before_it_is_ready_goes_back_by_itself(town: Town) -> None:
    before = town.told()["software"]
    hung = (
        (ROOT / "onboard" / "box.py")
        .read_bytes()
        .replace(b"        notifier.ready(state)\n", b"        import time\n        time.sleep(10_000)\n")
    )
    _, bundle = town.next(**{"onboard/box.py": hung})
    town.send(bundle)
    town.rig.until("its trial", town.tried, timeout_s=120)
    main = town.rig.shell("systemctl show amibox -p MainPID --value").strip()
    begun_s = time.monotonic()
    town.rig.until("the version before, away", lambda: town.rig.run("test", "-e", f"/proc/{main}").code != 0)
    town.rig.until("the version before", lambda: town.told()["software"] == before, timeout_s=BACK_S)
    town.rig.await_box()
    took_s = time.monotonic() - begun_s
    tell(f"a version that hangs: the one before was ready again {took_s:.0f} s after it had stopped")
    assert took_s < BACK_S
    town.rig.until("the verdict", lambda: "went back" in town.words() and town.settled(), timeout_s=60)


@pytest.mark.parametrize(
    ("version", "file", "text", "why"),
    [
        ("0.1.0", "onboard/nothing.py", b"", "not newer"),
        ("0.1.900", "onboard/box.py", b"raise ImportError('half a file')\n", "half a file"),
        ("0.1.901", "hw/models/ami/model.toml", b"", "model.toml"),
    ],
)
def test_an_older_or_broken_version_is_refused_and_not_tried(
    town: Town, version: str, file: str, text: bytes, why: str
) -> None:
    before = town.told()
    town.send(town.make(version, **{file: text}))
    town.rig.until("the verdict", lambda: why in town.words() and town.settled(), timeout_s=120)
    after = town.told()
    assert after["software"] == before["software"]
    assert after["up_s"] > before["up_s"], "the box was not even restarted"


def revive(town: Town, allowed: set[str]) -> None:
    rig = town.rig
    rig.restore()
    rig.start_car()
    town.commune.start()
    rig.await_box()
    # On trial, good, or before: a whole version, ready.
    assert town.told()["software"] in allowed
    rig.until("an end of it", town.settled, timeout_s=400)
    rig.await_box()
    assert town.told()["software"] in allowed
    assert not town.told()["not_alive"]


@pytest.mark.needs("power")
def test_a_power_cut_in_a_trial_goes_back_at_once_and_tries_again(town: Town) -> None:
    before = town.told()["software"]
    version, bundle = town.next()
    town.send(bundle)
    town.rig.until("its trial", town.tried, timeout_s=120)
    town.rig.until("it runs", lambda: town.told()["software"] == version, timeout_s=120)
    town.rig.cut()
    revive(town, {before, version})
    assert town.told()["software"] == version, town.words()


@pytest.mark.needs("power")
@pytest.mark.parametrize("number", range(CUTS))
def test_a_power_cut_at_any_moment_of_an_update_leaves_a_whole_version(town: Town, number: int) -> None:
    moment_s = random.Random(SEED + number).uniform(0.0, ROUND_S)  # noqa: S311 -- no secret
    tell(f"SEED={SEED}, number {number}: cut after {moment_s:.2f} s")
    before = town.told()["software"]
    version, bundle = town.next()
    timer = Timer(moment_s, town.rig.cut)
    timer.start()
    try:
        town.send(bundle)
        while not town.rig.off:
            time.sleep(0.2)
    except GuestError:
        if not town.rig.off:
            raise
    finally:
        timer.join()
    revive(town, {before, version})
