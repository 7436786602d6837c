"""What breaks in the field. After each: the box is ready again by itself, and nothing is lost or doubled."""

from __future__ import annotations

from sim.commune import Commune
from sim.rig import Rig
from tests.hil.test_7_rental import acknowledged


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
