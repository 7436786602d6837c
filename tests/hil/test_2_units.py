"""The units exactly as shipped are up, and systemd keeps the box in its sandbox."""

from __future__ import annotations

import re
import tomllib

import pytest

from deb.places import places
from onboard.config import parse_config
from sim.rig import Rig
from tests.conftest import ROOT

SHIPPED = {
    put.source.name: f"/{put.name}" for put in places(ROOT / "systemd") if not put.name.startswith("usr/share/doc/")
}
"""Guests are made without documentation."""


@pytest.mark.parametrize("name", SHIPPED)
def test_the_file_is_the_one_that_we_ship(rig: Rig, name: str) -> None:
    assert rig.shell(f"cat {SHIPPED[name]}") == (ROOT / "systemd" / name).read_text()


def test_the_configuration_is_that_of_this_rig(rig: Rig) -> None:
    """What a technician has to bring together: the box's file and the rig's."""
    file = rig.settings.file
    config = parse_config(rig.shell("cat /etc/amibox/box.toml"), file)
    assert config.uplink is not None
    assert config.door is not None
    assert config.uplink.host == rig.settings.commune.host
    assert config.policy.uid_cards, "the played card is a bare number: uid_cards = true"
    pins = tomllib.loads(file.read_text())["pins"]
    assert {name: getattr(config.door, name) for name in pins} == pins


def test_the_service_is_ready(box: Rig) -> None:
    shown = box.shell("systemctl show amibox -p ActiveState,SubState,NRestarts,StatusText,User,WatchdogUSec")
    assert "ActiveState=active" in shown
    assert "SubState=running" in shown
    assert "WatchdogUSec=30s" in shown
    assert "User=amibox" in shown
    assert box.shell("systemctl show amibox -p DropInPaths --value").strip() == ""


def test_it_runs_as_its_user_without_any_capability(box: Rig) -> None:
    pid = box.shell("systemctl show amibox -p MainPID --value").strip()
    shown = box.shell(f"cat /proc/{pid}/status")
    assert re.search(r"^CapEff:\s+0+$", shown, re.MULTILINE)
    assert re.search(r"^NoNewPrivs:\s+1$", shown, re.MULTILINE)
    assert re.search(r"^Seccomp:\s+2$", shown, re.MULTILINE)
    uid = box.shell("id -u amibox").strip()
    assert re.search(rf"^Uid:\s+{uid}\s", shown, re.MULTILINE)


def test_systemd_of_this_release_calls_it_little_exposed(box: Rig) -> None:
    shown = box.shell("systemd-analyze security amibox --no-pager | tail -1")
    found = re.search(r"level for \S+: ([\d.]+)", shown)
    assert found, shown
    assert float(found[1]) <= 2.0


def test_the_sandbox_knew_serial_adapters_when_the_box_started(box: Rig) -> None:
    """Systemd leaves out a kind of device that the kernel does not know yet: the modules are loaded before."""
    assert {"ttyUSB", "ttyACM"} <= set(box.shell("cat /proc/devices").split())
    loaded, started = (
        int(box.shell(f"systemctl show {unit} -p {when}Monotonic --value"))
        for unit, when in (("systemd-modules-load", "ExecMainExitTimestamp"), ("amibox", "ExecMainStartTimestamp"))
    )
    assert 0 < loaded < started


def test_its_files_are_its_own(box: Rig) -> None:
    assert box.shell("stat -c %a:%U /var/lib/amibox").strip() == "700:amibox"
    assert box.shell("stat -c %U /var/lib/amibox/*.db* | sort -u").split() == ["amibox"]
