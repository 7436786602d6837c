"""systemd's own judgement of our units."""

from __future__ import annotations

import re
import shutil
import subprocess
from configparser import ConfigParser
from pathlib import Path

import pytest

from deb.places import places

UNITS = Path(__file__).parents[2] / "systemd"


def exposure(systemd_analyze: Path, unit: Path) -> float:
    command = [str(systemd_analyze), "security", "--offline=true", "--no-pager", str(unit)]
    said = subprocess.run(command, capture_output=True, text=True, check=True).stdout
    found = re.search(r"Overall exposure level for \S+: ([\d.]+)", said)
    assert found, said
    return float(found[1])


def verify(systemd_analyze: Path, unit: Path) -> str:
    command = [str(systemd_analyze), "verify", "--man=no", str(unit)]
    done = subprocess.run(command, capture_output=True, text=True, check=False)
    return f"{done.returncode} {done.stdout}{done.stderr}"


@pytest.fixture(params=["amibox", "amibox-update"])
def installed(request: pytest.FixtureRequest, tmp_path: Path) -> Path:
    """The unit, as installed where the program is."""
    for put in places(UNITS):
        file = tmp_path / put.name
        file.parent.mkdir(parents=True, exist_ok=True)
        file.touch(put.mode)
    for name in ("amibox", "amibox-run", "amibox-update"):
        program = tmp_path / "opt/amibox/.venv/bin" / name
        program.parent.mkdir(parents=True, exist_ok=True)
        program.touch(0o755)
    (tmp_path / "usr/share/doc/amibox/README.md").touch()
    unit = tmp_path / f"{request.param}.service"
    unit.write_text(
        re.sub(r"/(?=opt/amibox|usr/share/doc)", f"{tmp_path}/", (UNITS / f"{request.param}.service").read_text())
    )
    return unit


def test_systemd_understands_every_line_of_the_unit(systemd_analyze: Path, installed: Path) -> None:
    assert verify(systemd_analyze, installed) == "0 "
    installed.write_text(installed.read_text().replace("ProtectHome=yes", "ProtectHouse=yes"))
    assert "Unknown key" in verify(systemd_analyze, installed)


def test_the_service_is_exposed_to_little(systemd_analyze: Path, installed: Path) -> None:
    assert exposure(systemd_analyze, installed) <= 2.0
    installed.write_text(
        re.sub(r"(?m)^(SystemCallFilter|DevicePolicy|PrivateDevices|PrivateNetwork).*\n", "", installed.read_text())
    )
    assert exposure(systemd_analyze, installed) > 2.0


def test_the_switch_is_understood_and_exposed_to_little(systemd_analyze: Path, tmp_path: Path) -> None:
    for name in ("amibox-power-off.path", "amibox-power-off.service"):
        (tmp_path / name).write_text((UNITS / name).read_text().replace("file:///opt/amibox/README.md", "man:sh(1)"))
    unit = tmp_path / "amibox-power-off.service"
    assert verify(systemd_analyze, tmp_path / "amibox-power-off.path") == "0 "
    assert exposure(systemd_analyze, unit) <= 2.0
    shut = re.sub(r"(?m)^(SystemCallFilter|NoNewPrivileges|PrivateNetwork|PrivateDevices).*\n", "", unit.read_text())
    unit.write_text(shut)
    assert exposure(systemd_analyze, unit) > 2.0


@pytest.mark.parametrize(
    ("asked", "alarm"),
    [("3600\n", "+3600"), ("", "+21600"), ("x; reboot\n", "+21600"), ("-5\n", "+5"), ("99999999999\n", "+99999999")],
)
def test_the_switch_sets_the_alarm_and_asks_systemd(tmp_path: Path, asked: str, alarm: str) -> None:
    """The unit's own line, with its files and systemctl put elsewhere."""
    line = re.search(r"(?ms)^ExecStart=/bin/sh -uc '(.*?)'$", (UNITS / "amibox-power-off.service").read_text())
    assert line
    script = line[1].replace("\\\n", "\n").replace("$$", "$")
    script = script.replace("/run/amibox", str(tmp_path)).replace("/sys/class/rtc/rtc0", str(tmp_path))
    (tmp_path / "power-off").write_text(asked)
    (tmp_path / "systemctl").write_text(f'#!/bin/sh\necho "$@" > {tmp_path}/said\n')
    (tmp_path / "systemctl").chmod(0o755)
    path = f"{tmp_path}:/usr/bin:/bin"
    done = subprocess.run(["/bin/sh", "-uc", script], env={"PATH": path}, capture_output=True, text=True, check=False)
    assert (done.returncode, done.stderr) == (0, "")
    assert (tmp_path / "wakealarm").read_text() == f"{alarm}\n"
    assert (tmp_path / "said").read_text() == "--no-block poweroff\n"
    assert not (tmp_path / "power-off").exists()


@pytest.fixture
def console(installed: Path) -> Path:
    """The console's unit, for one line."""
    unit = installed.with_name("amibox-console@ttyS0.service")
    text = (UNITS / "amibox-console@.service").read_text()
    unit.write_text(text.replace("/opt/amibox", f"{installed.parent}/opt/amibox"))
    return unit


def test_the_consoles_unit_is_understood_and_exposed_to_little(systemd_analyze: Path, console: Path) -> None:
    assert verify(systemd_analyze, console) == "0 "
    assert exposure(systemd_analyze, console) <= 2.0
    console.write_text(re.sub(r"(?m)^(SystemCallFilter|DevicePolicy).*\n", "", console.read_text()))
    assert exposure(systemd_analyze, console) > 2.0


@pytest.mark.parametrize("name", ["amibox-reboot.path", "amibox-reboot.service"])
def test_the_restart_units_are_understood(systemd_analyze: Path, installed: Path, name: str) -> None:
    for each in ("amibox-reboot.path", "amibox-reboot.service"):
        installed.with_name(each).write_text((UNITS / each).read_text())
    assert verify(systemd_analyze, installed.with_name(name)) == "0 "


def test_systemd_would_make_the_user_that_the_service_runs_as() -> None:
    program = shutil.which("systemd-sysusers")
    assert program, "systemd-sysusers is missing: sudo apt install systemd"
    command = [program, "--dry-run", str(UNITS / "amibox.sysusers")]
    done = subprocess.run(command, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr
    assert "amibox" in done.stderr + done.stdout
    assert "amibox-update" in done.stderr + done.stdout


def test_the_can_link_only_listens_at_the_cars_rate() -> None:
    link = ConfigParser()
    link.optionxform = str  # type: ignore[assignment,method-assign]  # the documented way to keep capitals
    link.read(UNITS / "80-can0.network")
    assert link["Match"]["Name"] == "can0"
    assert dict(link["CAN"]) == {"BitRate": "500K", "ListenOnly": "yes", "RestartSec": "100ms"}


def test_no_watchdog_is_set_beyond_what_a_raspberry_pi_can_count() -> None:
    """bcm2835_wdt counts to 15 s: beyond it systemd's setting is refused, and the machine is without a watchdog."""
    lines = (UNITS / "watchdog.conf").read_text().splitlines()
    seconds = {line.partition("=")[0]: int(line.partition("=")[2]) for line in lines if "WatchdogSec=" in line}
    assert seconds.keys() == {"RuntimeWatchdogSec", "RebootWatchdogSec"}
    assert max(seconds.values()) <= 15
