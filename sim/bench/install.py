"""Installs the box's Debian package in the guest's tree, and beside it what the bench needs.

The box is untouched: it is what ``apt install ./amibox_*.deb`` makes of a Pi. The bench adds an agent for its commands,
an environment for the played car and the commune, and in the files that a technician adapts to his car (device names,
configuration) it writes the guest's devices.
"""

from __future__ import annotations

import shutil
from pathlib import Path
from typing import Final

from deb.build import EXTRAS, build, version
from deb.venv import Target, fetch, make, requirements
from sim.bench import agent
from sim.bench.steps import BenchError, run
from sim.rig_file import RIG_FILE

VENV: Final = "opt/bench/.venv"
PYTHON: Final = "/opt/bench/.venv/bin/python"
PACKAGES: Final = "/opt/bench/packages"
NEWER: Final = "99.0+bench"
"""The version of a package that is newer than any."""
APT: Final = "apt-get -q -o APT::Sandbox::User=root"

PINS: Final = "sim.bench.pins:BoardFactory"
CONFIG_CHANGES: Final = {
    '#pin_factory = "lgpio"': f'pin_factory = "{PINS}"',
    'host = "broker.example.org"': 'host = "localhost"',
    "#uid_cards = false": "uid_cards = true",
    "#backoff_max_s = 600": "backoff_max_s = 8",
    "[bluetooth]": "#[bluetooth]",
}
"""What a technician would change in the example for this car: line -> line. The pins: docs/bench.md says why.

No phones until the adapter is there: what tests the radio plugs it in and switches them on. A broker that was away is
asked again soon: the tests wait for it.
"""

DEVICES: Final = """
# The bench: two USB-serial adapters of one kind, told apart by their sockets.
SUBSYSTEM=="tty", ENV{ID_PATH}=="*usb-0:1:1.0", SYMLINK+="amibox-gps"
SUBSYSTEM=="tty", ENV{ID_PATH}=="*usb-0:2:1.0", SYMLINK+="amibox-card"
"""

FSTAB: Final = """\
LABEL=amibox / ext4 defaults,errors=remount-ro 0 1
LABEL=world /srv ext4 defaults,nofail,x-systemd.device-timeout=120 0 2
"""

AGENT_UNIT: Final = """\
[Unit]
Description=The bench's hand in the guest
After=local-fs.target

[Service]
ExecStart=/usr/bin/python3 -u /opt/bench/agent.py
Restart=always
RestartSec=1
OOMScoreAdjust=-1000

[Install]
WantedBy=multi-user.target
"""

CHIP_UNIT: Final = f"""\
[Unit]
Description=The bench's header: its lines and contacts are there as soon as there is power
RequiresMountsFor=/srv
Before=amibox.service
ConditionPathExists={RIG_FILE}

[Service]
Type=oneshot
ExecStart={PYTHON} -m sim.bench.chip {RIG_FILE}
RemainAfterExit=yes

[Install]
WantedBy=multi-user.target
"""


def venv(tree: Path, machine: Target) -> None:
    """Make the environment of what is not the box: its own wheels, and behind them the box's environment."""
    box = {_distribution(each) for each in fetch(machine, requirements(*EXTRAS))}
    wheels = fetch(machine, requirements(*EXTRAS, "cloud", "bench"))
    others = [each for each in wheels if _distribution(each) not in box]
    site = make(machine, tree, VENV, others, ["amibox", "amibox-cloud"])
    box_site = f"/opt/amibox/.venv/lib/python{machine.python}/site-packages"
    (site / "amibox.pth").write_text(f"{box_site}\n")


def _distribution(wheel: Path) -> str:
    return wheel.name.partition("-")[0].lower()


def project(tree: Path, packages: Path, machine: Target, root: Path, log: Path) -> None:
    """Install the box's package as a technician does, but for starting it; then the bench's own files.

    A newer version of it waits in ``PACKAGES`` as well, for the tests.
    """
    inside = tree / PACKAGES.lstrip("/")
    inside.mkdir(parents=True)
    shipped, newer = build(machine, packages, version(machine), NEWER)
    shutil.copy(shipped, inside / "amibox.deb")
    shutil.copy(newer, inside / "newer.deb")
    _in(tree, log, f"{APT} install --yes {PACKAGES}/amibox.deb")
    example = (root / "systemd/amibox.toml").read_text()
    box_toml = tree / "etc/amibox/box.toml"
    if box_toml.read_text() != example:
        raise BenchError("the package's configuration is not systemd/amibox.toml")
    box_toml.write_text(configuration(example))
    with (tree / "etc/udev/rules.d/80-amibox-devices.rules").open("a") as devices:
        devices.write(DEVICES)
    _bench(tree, log)


def configuration(example: str) -> str:
    """Return the example with ``CONFIG_CHANGES``. BenchError if it has no such line any more."""
    for line, instead in CONFIG_CHANGES.items():
        if f"\n{line}\n" not in example:
            raise BenchError(f"systemd/amibox.toml has no line {line!r} any more: correct sim/bench/install.py")
        example = example.replace(f"\n{line}\n", f"\n{instead}\n")
    return example


def _bench(tree: Path, log: Path) -> None:
    _put(tree, "etc/fstab", FSTAB)
    _put(tree, "etc/hostname", "amibox\n")
    _put(tree, "etc/hosts", "127.0.0.1 localhost\n127.0.1.1 amibox\n")
    # A journal that is there after a power cut.
    _put(tree, "etc/systemd/journald.conf.d/bench.conf", "[Journal]\nStorage=persistent\nSyncIntervalSec=5s\n")
    _put(tree, "opt/bench/agent.py", Path(agent.__file__).read_text())
    _put(tree, "etc/systemd/system/bench-agent.service", AGENT_UNIT)
    _put(tree, "etc/systemd/system/bench-chip.service", CHIP_UNIT)
    # The commune of the tests starts it.
    _in(tree, log, "systemctl enable bench-agent bench-chip && systemctl disable mosquitto")
    _in(tree, log, "systemctl mask apt-daily.timer apt-daily-upgrade.timer systemd-networkd-wait-online.service")
    (tree / "etc/machine-id").write_text("")


def _put(tree: Path, name: str, text: str) -> None:
    file = tree / name
    file.parent.mkdir(parents=True, exist_ok=True)
    file.write_text(text)


def _in(tree: Path, log: Path, command: str) -> None:
    run(["chroot", tree, "/usr/bin/env", "-i", "PATH=/usr/sbin:/usr/bin:/sbin:/bin", "sh", "-ec", command], log)
