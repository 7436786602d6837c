"""What breaks in the field. After each: the box is ready again by itself, and nothing is lost or doubled."""

from __future__ import annotations

from collections.abc import Iterator

import pytest

from sim.commune import Commune
from sim.rig import STATE, Rig
from tests.hil.driver import RUNNING, Ledger, acknowledged, alarms, serves, tell

CLOCK_OFF_S = 30
YEARS_S = 7 * 365 * 86_400
FILL = f"""
install -d -o amibox {STATE}-fill
su amibox -s /bin/sh -c '
    fallocate -l $(($(stat -f -c "%a*%S" {STATE}-fill) - (1 << 20))) {STATE}-fill/most
    cat /dev/zero >{STATE}-fill/rest || true'
"""
"""As the box's own user: what root could still use is not the box's."""

pytestmark = pytest.mark.needs("played card", "played gps")


@pytest.fixture
def ledger(box: Rig, commune: Commune) -> Ledger:
    """A driver under way when the fault comes. ``commune``: is there."""
    ledger = Ledger(box, commune)
    ledger.open()
    ledger.note()
    return ledger


def restarts(rig: Rig) -> int:
    return int(rig.shell("systemctl show amibox -p NRestarts --value"))


def main_pid(rig: Rig) -> str:
    return rig.shell("systemctl show amibox -p MainPID --value").strip()


def ready_again(rig: Rig, before: int) -> None:
    """Systemd starts it anew, and it serves."""
    fallen_s = rig.until("a restart", lambda: restarts(rig) > before)
    rig.await_box()
    took_s = rig.until("a box that can serve", lambda: serves(rig))
    tell(f"restarted after {fallen_s:.1f} s, serves {took_s:.1f} s after it was ready")


def go_on(ledger: Ledger, *, restarted: bool = False) -> None:
    ledger.check()
    ledger.resume(restarted=restarted)


def test_a_killed_daemon_comes_back(ledger: Ledger) -> None:
    box, before = ledger.rig, restarts(ledger.rig)
    box.shell("systemctl kill -s KILL amibox")
    box.until("the relays to be off", lambda: box.car("status")["relays"] == [False, False])
    ready_again(box, before)
    go_on(ledger, restarted=True)


def test_a_hung_daemon_is_restarted_by_its_watchdog(ledger: Ledger) -> None:
    box, before = ledger.rig, restarts(ledger.rig)
    box.shell(f"kill -STOP {main_pid(box)}")
    ready_again(box, before)
    assert "watchdog" in box.shell("journalctl -b -u amibox --no-pager | grep -i watchdog | tail -1").lower()
    go_on(ledger, restarted=True)


def test_a_daemon_that_eats_too_much_is_restarted(ledger: Ledger) -> None:
    """Its own limit kills it, and nothing else; the limit is lowered here instead of the box fattened."""
    box, before = ledger.rig, restarts(ledger.rig)
    try:
        box.shell("systemctl set-property --runtime amibox MemoryMax=20M", timeout_s=120)
        box.until("the kill", lambda: "oom-kill" in box.shell("journalctl -b -u amibox --no-pager | tail -20"))
    finally:
        box.shell("systemctl set-property --runtime amibox MemoryMax=256M && systemctl revert amibox", timeout_s=120)
    ready_again(box, before)
    assert "MemoryMax=268435456" in box.shell("systemctl show amibox -p MemoryMax")
    go_on(ledger, restarted=True)


def test_when_another_program_eats_the_memory_the_box_lives(ledger: Ledger) -> None:
    box, pid = ledger.rig, main_pid(ledger.rig)
    eat = "x = []\nwhile True: x.append(bytearray(b'x' * (1 << 24)))"
    box.run("systemd-run", "--wait", "--quiet", "--unit=glutton", "/usr/bin/python3", "-c", eat, timeout_s=180)
    assert "oom" in box.shell("journalctl -b --no-pager -u glutton | tail -5").lower()
    assert main_pid(box) == pid
    box.run("systemctl", "reset-failed", "glutton")
    go_on(ledger)


def test_a_killed_broker_costs_nothing(ledger: Ledger) -> None:
    box, pid = ledger.rig, main_pid(ledger.rig)
    box.beside.shell("systemctl kill -s KILL mosquitto")
    took_s = box.until(
        "box and commune connected", lambda: ledger.commune.get("healthz")["broker_connected"] and acknowledged(box)
    )
    tell(f"connected again after {took_s:.1f} s")
    assert main_pid(box) == pid
    go_on(ledger)


def test_a_full_disk_stops_no_rental(box: Rig, commune: Commune) -> None:
    ledger = Ledger(box, commune)
    box.shell(FILL, timeout_s=300)
    try:
        ledger.open()
        ledger.get_out()
        box.until("the box to tell", lambda: "disk" in box.status()["faults"])
    finally:
        box.shell(f"rm -rf {STATE}-fill")
    took_s = box.until("no fault", lambda: not box.status()["faults"])
    tell(f"told as healed {took_s:.1f} s after there was room")
    go_on(ledger)


@pytest.fixture
def alone(box: Rig, commune: Commune) -> Iterator[tuple[Ledger, str]]:
    """A box without a network: nobody tells it the time but its receiver. Ends on the right clock."""
    ledger = Ledger(box, commune)
    booking = ledger.reserve()
    ledger.settle()
    now_s, boot_s = box.shell("date +%s; cat /proc/uptime").split()[:2]
    box.beside.shell("systemctl stop commune mosquitto")
    yield ledger, booking
    past_s = float(box.shell("cut -d' ' -f1 /proc/uptime")) - float(boot_s)
    box.shell(f"date -s @{int(now_s) + round(past_s)}")
    commune.start()
    box.shell("systemctl restart amibox")  # which would by now ask for its broker once a minute only
    box.await_box()
    ledger.resume()


@pytest.mark.parametrize("step_s", [YEARS_S, -YEARS_S], ids=["years ahead", "years back"])
def test_a_clock_that_is_wrong_by_years_shuts_nobody_out(alone: tuple[Ledger, str], step_s: int) -> None:
    """The clock jumps while the box runs, and is still wrong when the box starts anew in mid-rental."""
    ledger, booking = alone
    box = ledger.rig
    right_s = box.car("status")["wall_s"]
    box.shell(f"date -s @{int(right_s) + step_s}")
    ledger.get_in(booking)
    assert abs(box.status()["clock"]["wall_s"] - box.car("status")["wall_s"]) < CLOCK_OFF_S
    before = restarts(box)
    box.shell("systemctl kill -s KILL amibox")
    ready_again(box, before)
    status = ledger.note()
    assert status["state"] in RUNNING
    assert abs(status["clock"]["wall_s"] - box.car("status")["wall_s"]) < CLOCK_OFF_S
    ledger.get_out()
    ledger.check()


def test_what_was_written_under_a_wrong_clock_bears_the_right_time(box: Rig, commune: Commune) -> None:
    box.until("everything acknowledged", lambda: acknowledged(box))
    now_s = box.car("status")["wall_s"]
    trips = commune.get("trips")
    assert trips
    for trip in trips:
        assert trip["ended_s"] is not None
        assert now_s - 7200 < trip["started_s"] <= trip["ended_s"] <= now_s
    assert not alarms(commune)
