"""The power goes at any moment. ``CUTS`` says how often (3 at least), ``SEED`` when; a failure names both.

The disk keeps only what it was told to keep (``sim/bench/disk.py``), car and commune are on another one.
"""

from __future__ import annotations

import os
import random
import time
from collections.abc import Callable
from threading import Timer

import pytest

from sim.bench.machine import GuestError
from sim.commune import Commune
from sim.rig import Rig
from tests.hil.driver import Ledger, ready_s, tell

CUTS = int(os.environ.get("CUTS", "3"))
SEED = int(os.environ.get("SEED", str(int(time.time()))))
ROUND_S = 35.0
"""A rental with its drive takes about so long by emulation: a random cut falls anywhere in it, or into the next."""


pytestmark = pytest.mark.needs("power", "played card", "played gps")


@pytest.fixture(scope="module")
def ledger(box: Rig, commune: Commune) -> Ledger:
    ledger = Ledger(box, commune)
    ledger.settle()
    return ledger


def revive(ledger: Ledger) -> None:
    """Power on; the box is ready by itself, keeps its word, and its driver goes on."""
    rig = ledger.rig
    boot_s = rig.restore()
    rig.start_car()
    ledger.commune.start()
    rig.await_box()
    tell(f"commands after {boot_s:.0f} s, ready {ready_s(rig):.1f} s after the kernel began")
    ledger.check()
    ledger.resume(restarted=True)


def cut_at(ledger: Ledger, moment_s: float, story: Callable[[], None]) -> None:
    """Play the story over and over until the power goes, ``moment_s`` from now."""
    timer = Timer(moment_s, ledger.rig.cut)
    timer.start()
    try:
        while timer.is_alive() or ledger.rig.off:
            story()
        pytest.fail("the power was not cut: look at [power] cut in the rig's file")
    except GuestError:
        if not ledger.rig.off:
            raise
    finally:
        timer.cancel()
        timer.join()


def test_power_cut_right_after_the_door_opened(ledger: Ledger) -> None:
    """What is seen is written: whatever moved the latch lies on the disk."""
    ledger.open()
    ledger.rig.cut()
    revive(ledger)


def test_power_cut_right_after_the_commune_acknowledged(ledger: Ledger) -> None:
    """What the commune has, the box has: its numbers are never used twice."""
    ledger.open()
    ledger.end()
    ledger.rig.cut()
    revive(ledger)


@pytest.mark.parametrize("number", range(max(1, CUTS - 2)))
def test_power_cut_at_a_random_moment(ledger: Ledger, number: int) -> None:
    moment_s = random.Random(SEED + number).uniform(0.0, ROUND_S)  # noqa: S311 -- no secret
    tell(f"SEED={SEED}, number {number}: cut after {moment_s:.2f} s")

    def story() -> None:
        ledger.note()
        ledger.open()
        ledger.note()
        ledger.end()

    cut_at(ledger, moment_s, story)
    revive(ledger)
