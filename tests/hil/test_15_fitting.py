"""docs/fitting.md, typed word for word: a bare machine becomes the box of a car.

The guest plays the Pi, the technician's laptop and the town hall, each in a folder of its own. Of the programs that the
page's commands name it lacks four, which stand in ``STAND_INS``; everything else is the real one.
"""

from __future__ import annotations

import re
from collections.abc import Iterator
from dataclasses import dataclass

import pytest

from sim.bench.install import APT, CONFIG_CHANGES, DEVICES, PACKAGES
from sim.commune import Commune, read_out
from sim.rig import PYTHON, STATE, Rig
from tests.conftest import ROOT

pytestmark = pytest.mark.needs("guest", "played radio")

PAGE = ROOT / "docs" / "fitting.md"
CAR = "ami-8"
FOLDERS = {"pi": "/srv/fitting/pi", "laptop": "/srv/fitting/laptop", "town": "/srv/fitting/laptop"}
"""The town hall has the laptop's files: mail, a stick, a photograph, however they came."""
KEPT = "/srv/kept.tar"
BLOCK_S = 400.0
EDITS = "".join(f"s|^{re.escape(line)}$|{instead}|\n" for line, instead in CONFIG_CHANGES.items())
EDITS += "/^#*\\[uplink\\]/,/^# The commune's rules/s/^/#/\n"  # the town hall of this test has no broker
STAND_INS = {
    "sudo": 'exec "$@"',
    "make": f"mkdir -p dist && cp {PACKAGES}/amibox.deb dist/amibox_0_arm64.deb",
    "scp": f'set -- $(echo "$1 $2" | sed \'s|amibox.local:|{FOLDERS["pi"]}/|\'); cp "$1" "$2"',
    "nano": 'exec sed -i -f /srv/fitting/edits "$1"',
}
"""As root there is no sudo; the package was made with the guest; there is no network; nobody is at an editor."""


@dataclass(frozen=True, slots=True)
class Block:
    """Lines that are typed at one place."""

    place: str
    text: str


def blocks() -> Iterator[Block]:
    """Every block of the page that is typed, in its order."""
    for place, text in re.findall(r"(?m)^```sh (\w+)\n((?:.*\n)*?)```$", PAGE.read_text()):
        yield Block(place, text)


def test_every_block_of_the_page_is_typed_somewhere() -> None:
    fences = re.findall(r"(?m)^```(\S.*)$", PAGE.read_text())
    assert {fence for fence in fences if fence != "text"} == {f"sh {place}" for place in FOLDERS}
    assert len([fence for fence in fences if fence != "text"]) == len(list(blocks()))


@pytest.fixture
def bare(box: Rig, commune: Commune) -> Iterator[Rig]:
    """The guest without the package and its data; afterwards it is the box that it was."""
    assert commune.get("vehicles")
    box.start_radio()
    devices = "etc/udev/rules.d/80-amibox-devices.rules"
    box.shell(f"systemctl stop amibox; tar -C / -cf {KEPT} etc/amibox {devices} {STATE.lstrip('/')}")
    box.shell(f"{APT} -o Dpkg::Options::=--force-unsafe-io --yes purge amibox", timeout_s=BLOCK_S)
    box.shell(f"rm -rf /srv/fitting; mkdir -p {FOLDERS['pi']} {FOLDERS['laptop']}/.venv /srv/fitting/bin")
    box.shell(f"ln -s /opt/bench/.venv/bin {FOLDERS['laptop']}/.venv/bin")
    box.put("/srv/fitting/edits", EDITS.encode())
    for name, text in STAND_INS.items():
        box.put(f"/srv/fitting/bin/{name}", f"#!/bin/sh\n{text}\n".encode(), mode="755")
    yield box
    box.shell(f"systemctl stop amibox; rm -rf {STATE}/* /etc/amibox; tar -C / -xpf {KEPT}; rm {KEPT}")
    box.shell(
        "udevadm control --reload; udevadm trigger --subsystem-match=tty; udevadm settle; systemctl stop rig-radio"
    )
    box.shell("systemctl start --no-block amibox")
    box.await_box()


def test_a_bare_machine_becomes_a_box_by_the_words_of_the_page(bare: Rig) -> None:
    receiver, reader = re.findall(r'ENV\{ID_PATH\}=="(\S+)"', DEVICES)
    words = {"RECEIVER_PATH": receiver, "READER_PATH": reader, "CAR": CAR, "DIR": "/srv/fitting/cloud"}
    bare.shell(f"/opt/bench/.venv/bin/amibox-cloud init {words['DIR']}", timeout_s=120)
    said: list[str] = []
    for block in blocks():
        text = block.text
        for word, value in words.items():
            text = re.sub(rf"\b{word}\b", value, text)
        script = f"export PATH=/srv/fitting/bin:$PATH; cd {FOLDERS[block.place]}\n{text}"
        heard = bare.must("bash", "-ec", script, timeout_s=BLOCK_S)
        said.append(heard)
        # What one reads to the other over the telephone.
        if "provision request" in text:
            words["REQUEST_DIGITS"] = read_out(heard)
        if "box add" in text:
            words["ANSWER_DIGITS"] = read_out(heard)
    assert any("this box belongs to no car" in each for each in said)
    assert "LISTEN-ONLY" in said[-1]
    assert "Powered: yes" in said[-1]
    assert "Pairable: no" in said[-1]
    assert bare.status()["vehicle"] == CAR
    assert bare.shell("systemctl is-enabled amibox").strip() == "enabled"
    assert bare.run(PYTHON, "-c", "import onboard").code == 0
