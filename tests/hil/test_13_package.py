"""The package on the machine: upgraded in mid-rental, removed, purged, and installed where nothing was."""

from __future__ import annotations

import pytest

from sim.bench.install import APT, NEWER, PACKAGES
from sim.commune import Commune
from sim.rig import STATE, Rig
from tests.hil.driver import Ledger, tell

pytestmark = pytest.mark.needs("guest", "played card", "played gps")

APT_S = 300.0
"""Some thousand files, on an emulated processor; where the package brings no compiled ones, these as well."""
KEPT = "/srv/kept.tar"
OURS = "find / -xdev -name '*amibox*' -not -path '/opt/bench/*' -not -path '/etc/amibox-cloud'"
"""But for the bench's, and the certificates of the commune, which plays on the same machine."""


def main_pid(rig: Rig) -> str:
    return rig.shell("systemctl show amibox -p MainPID --value").strip()


def apt(rig: Rig, what: str) -> str:
    return rig.shell(
        f"DEBIAN_FRONTEND=noninteractive {APT} -o Dpkg::Options::=--force-unsafe-io --yes {what} 2>&1", timeout_s=APT_S
    )


@pytest.fixture(scope="module")
def ledger(box: Rig, commune: Commune) -> Ledger:
    return Ledger(box, commune)


def test_the_files_are_those_of_the_package(box: Rig) -> None:
    changed = box.run("dpkg", "--verify", "amibox", timeout_s=120).text.splitlines()
    # Guests are made without documentation.
    assert not [line for line in changed if "/usr/share/doc/" not in line and "/usr/share/lintian/" not in line]


def test_a_newer_version_waits_until_the_rental_is_over(ledger: Ledger) -> None:
    box = ledger.rig
    before = main_pid(box)
    ledger.open()
    said = apt(box, f"install {PACKAGES}/newer.deb")
    assert "until the rental is over" in said
    assert box.shell("dpkg-query -W -f '${Version}' amibox") == NEWER
    box.shell("systemctl start amibox-restart.service")  # as its timer does, every minute
    assert "active" in box.shell("systemctl is-active amibox-restart.timer")
    assert main_pid(box) == before
    ledger.end()
    took_s = box.until("the restart", lambda: main_pid(box) not in {before, "0"})
    tell(f"restarted {took_s:.0f} s after the rental's end")
    box.await_box()
    assert box.run("systemctl", "is-active", "amibox-restart.timer").text.strip() == "inactive"
    ledger.resume()


def test_removal_keeps_what_is_the_cars(box: Rig) -> None:
    files = f"/etc/amibox/box.toml /etc/udev/rules.d/80-amibox-devices.rules {STATE}/provisioning.cbor {STATE}/*.db"
    box.shell("systemctl stop amibox")
    before = box.shell(f"sha256sum {files}")
    box.shell(f"tar -C / -cf {KEPT} etc/amibox etc/udev/rules.d/80-amibox-devices.rules {STATE.lstrip('/')}")
    box.shell("systemctl start amibox")
    box.await_box()
    apt(box, "remove amibox")
    assert main_pid(box) == "0"
    assert not box.run("pgrep", "-u", "amibox").text
    assert box.shell(f"sha256sum {files}").splitlines()[:3] == before.splitlines()[:3]
    assert box.shell(f"stat -c %U {STATE}/provisioning.cbor").strip() == "amibox"
    assert box.run("ls", "/opt/amibox", "/usr/bin/amibox").code != 0
    assert "amibox" not in box.shell("systemctl show bluetooth -p DropInPaths")


def test_purge_leaves_nothing(box: Rig) -> None:
    apt(box, "purge amibox")
    assert box.shell(OURS) == ""
    assert box.run("getent", "passwd", "amibox").code != 0
    assert box.run("getent", "group", "amibox").code != 0
    assert box.run("dpkg-query", "-W", "amibox").code != 0
    assert box.shell("systemctl show amibox -p LoadState,ActiveState").split() == [
        "LoadState=not-found", "ActiveState=inactive",
    ]  # fmt: skip


def test_a_new_box_waits_for_a_car_and_says_so(box: Rig) -> None:
    said = apt(box, f"install {PACKAGES}/amibox.deb")
    assert "this box belongs to no car" in said
    assert box.shell("systemctl show amibox -p ActiveState,NRestarts").split() == [
        "ActiveState=inactive",
        "NRestarts=0",
    ]
    assert "belongs to no car yet" in box.shell("journalctl -u amibox -n 20 --no-pager -o cat")
    assert box.shell("stat -c %a:%U:%G /etc/amibox /etc/amibox/box.toml").split() == [
        "750:root:amibox",
        "640:root:amibox",
    ]
    box.shell(f"tar -C / -xpf {KEPT} && rm {KEPT} && udevadm control --reload && udevadm trigger --subsystem-match=tty")
    box.shell("systemctl start --no-block amibox")
    box.await_box()
