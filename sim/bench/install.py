"""Installs the project in the guest's tree by the steps of ``systemd/README.md``, and beside it what the bench needs.

The box is untouched: same folder, same units, same user. The bench adds an agent for its commands, and in the files
that a technician adapts to his car (device names, configuration) it writes the guest's devices.
"""

from __future__ import annotations

import shutil
from pathlib import Path
from typing import Final

from sim.bench import agent
from sim.bench.steps import BenchError, run

BUILD_TOOLS: Final = ("pip", "setuptools", "hatchling")
PYTHON: Final = "/opt/amibox/.venv/bin/python"
WHEELS: Final = "opt/wheels"
RIG_FILE: Final = "/opt/bench/rig.toml"
"""The wires, as the rig puts them there when it first meets the guest."""

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


def dependencies(tree: Path, wheels: Path, root: Path, log: Path) -> None:
    """Step 1 of the README without the project itself: every dependency, from wheels, offline."""
    inside = tree / WHEELS
    shutil.copytree(wheels, inside)
    shutil.copy(root / "constraints.txt", inside)
    try:
        _in(tree, log, "mkdir -p /opt/amibox && python3 -m venv /opt/amibox/.venv")
        pip = f"{PYTHON} -m pip install --quiet --disable-pip-version-check --no-index -f /{WHEELS}"
        pip += f" -c /{WHEELS}/constraints.txt"
        sources = [each.name for each in inside.glob("*.tar.gz")]
        if sources:
            # PYPI=1: lgpio's build then brings its own C library, as its wheels do.
            build = f"PYPI=1 {pip} --no-build-isolation {' '.join(sources)}"
            _in(tree, log, f"{pip} setuptools && cd /{WHEELS} && {build}")
        names = " ".join(sorted(each.name for each in inside.glob("*.whl") if not each.name.startswith("pip-")))
        _in(tree, log, f"cd /{WHEELS} && {pip} --no-deps {names}")
    finally:
        shutil.rmtree(inside)


def project(tree: Path, wheel: Path, root: Path, log: Path) -> None:
    """Steps 1 to 6 of the README, but for starting it; then the bench's own files."""
    shutil.copy(wheel, tree / "opt")
    pip = f"{PYTHON} -m pip install --quiet --disable-pip-version-check --no-index --no-deps"
    _in(tree, log, f"{pip} /opt/{wheel.name} && rm /opt/{wheel.name}")
    shutil.copy(root / "README.md", tree / "opt/amibox")
    units = root / "systemd"
    _put(tree, "usr/lib/sysusers.d/amibox.conf", (units / "amibox.sysusers").read_text())
    _put(tree, "usr/lib/tmpfiles.d/amibox.conf", (units / "amibox.tmpfiles").read_text())
    _in(tree, log, "systemd-sysusers && install -d -o root -g amibox -m 750 /etc/amibox")
    _put(tree, "etc/amibox/box.toml", configuration((units / "amibox.toml").read_text()))
    _in(tree, log, "chown root:amibox /etc/amibox/box.toml && chmod 640 /etc/amibox/box.toml")
    _put(tree, "etc/udev/rules.d/80-amibox.rules", (units / "80-amibox.rules").read_text() + DEVICES)
    _put(tree, "etc/systemd/network/80-can0.network", (units / "80-can0.network").read_text())
    _put(tree, "etc/systemd/system/amibox.service", (units / "amibox.service").read_text())
    for name in ("amibox-update.service", "amibox-update.path"):
        _put(tree, f"etc/systemd/system/{name}", (units / name).read_text())
    _put(tree, "etc/modules-load.d/amibox.conf", (units / "amibox.modules").read_text())
    _put(tree, "etc/systemd/system.conf.d/amibox.conf", (units / "watchdog.conf").read_text())
    _put(tree, "etc/systemd/system/bluetooth.service.d/amibox.conf", (units / "bluetooth.conf").read_text())
    _put(tree, "etc/bluetooth/main.conf", (units / "bluetooth-main.conf").read_text())
    _in(tree, log, "systemctl enable systemd-networkd bluetooth amibox amibox-update.path")
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
