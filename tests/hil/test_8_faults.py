"""What breaks in the field. After each: the box is ready again by itself, and nothing is lost or doubled."""

from __future__ import annotations

import random
import time

from sim.commune import Commune
from sim.rig import BOX_SOCKET, Rig
from tests.hil.test_7_rental import acknowledged

CUTS = 3


def restarts(rig: Rig) -> int:
    return int(rig.shell("systemctl show amibox -p NRestarts --value"))


def ready_again(rig: Rig, before: int) -> None:
    rig.until("a restart", lambda: restarts(rig) > before)
    took_s = rig.await_box()
    print(f"ready {took_s:.1f} s after systemd restarted it")  # noqa: T201 -- what a reader wants to know


def test_a_killed_daemon_comes_back(box: Rig, commune: Commune) -> None:
    before = restarts(box)
    trips = commune.get("trips")
    box.shell("systemctl kill -s KILL amibox")
    box.until("the relays to be off", lambda: box.car("status")["relays"] == [False, False])
    ready_again(box, before)
    box.until("everything acknowledged", lambda: acknowledged(box))
    assert commune.get("trips") == trips


def test_a_hung_daemon_is_shot_by_its_watchdog(box: Rig) -> None:
    before = restarts(box)
    box.shell("systemctl kill -s STOP amibox")
    ready_again(box, before)
    assert "watchdog" in box.shell("journalctl -u amibox --no-pager | grep -i watchdog").lower()


def test_a_killed_broker_is_found_again(box: Rig, commune: Commune) -> None:
    box.shell("systemctl kill -s KILL mosquitto; sleep 1; systemctl stop mosquitto")
    box.until("the loss", lambda: not box.status()["outbox"]["connected"])
    commune.start()
    box.until("everything acknowledged", lambda: acknowledged(box))


def test_a_clock_stepped_by_years_opens_and_loses_nothing(box: Rig, commune: Commune) -> None:
    trips = commune.get("trips")
    box.shell("systemctl stop systemd-timesyncd 2>/dev/null || true; date -s '+3 years'")
    try:
        time.sleep(5)
        assert box.status()["not_alive"] == []
        truth = box.car("status")
        assert abs(box.status()["clock"]["wall_s"] - truth["wall_s"]) < 60
    finally:
        box.shell("date -s '-3 years'")
    box.until("everything acknowledged", lambda: acknowledged(box))
    assert commune.get("trips") == trips


def test_a_power_cut_loses_and_doubles_nothing(box: Rig, commune: Commune) -> None:
    dice = random.Random(7)  # noqa: S311 -- any moment will do
    for _ in range(CUTS):
        trips, rentals = commune.get("trips"), commune.get("rentals")
        known = box.status()["outbox"]["acknowledged_seq"]
        box.shell("sync")  # the commune is in the same guest: what it acknowledged must be on its disk as well
        time.sleep(dice.random() * 3)
        box.machine.cut()
        box.machine.start()
        box.start_car()
        took_s = box.await_box()
        print(f"booted in {box.machine.boot_s:.1f} s, ready {took_s:.1f} s later")  # noqa: T201 -- as above
        commune.start()
        box.until("everything acknowledged", lambda: acknowledged(box))
        assert box.status()["outbox"]["last_seq"] >= known
        assert commune.get("trips") == trips
        assert commune.get("rentals") == rentals
        assert box.run("test", "-S", BOX_SOCKET).code == 0
