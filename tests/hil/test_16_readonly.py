"""A root that is only read, with /var beside it, by the lines of docs/readonly.md. The last: the guest stays so."""

from __future__ import annotations

import re
from collections.abc import Iterator

import pytest

from sim.commune import Commune
from sim.rig import Rig
from tests.conftest import ROOT
from tests.hil.driver import Ledger

pytestmark = pytest.mark.needs("guest", "played card", "played gps")

GUESTS = {"/": "LABEL=amibox", "/var": "/srv/var"}
"""What stands in the guest for the partitions of a Pi's card: /var is a folder of the bench's other disk."""


def documented() -> Iterator[str]:
    """The lines of fstab on the page, with the guest's devices."""
    page = (ROOT / "docs" / "readonly.md").read_text()
    found = re.search(r"(?ms)^ +# /etc/fstab\n(.*?)\n\n", page)
    assert found, "docs/readonly.md shows no /etc/fstab"
    for line in found[1].splitlines():
        device, place, kind, options, *numbers = line.split()
        if place == "/boot/firmware":
            continue
        if place == "/var":
            kind, options, numbers = "none", f"bind,x-systemd.requires-mounts-for=/srv,{options}", ["0", "0"]
        yield " ".join((GUESTS.get(place, device), place, kind, options, *numbers))


def test_the_box_serves_and_keeps_its_store_on_a_root_that_is_only_read(box: Rig, commune: Commune) -> None:
    ledger = Ledger(box, commune)
    ledger.note()
    world = box.shell("grep ' /srv ' /etc/fstab").strip()
    lines = "\n".join((*documented(), world))
    box.shell("systemctl stop amibox; cp -a /var /srv/var")
    box.shell(f"cat >/etc/fstab <<'END'\n{lines}\nEND\nsync")
    box.cut()
    box.restore()
    commune.start()
    box.start_car()
    box.await_box()
    assert box.run("touch", "/etc/written", "/opt/amibox/written", "/usr/written").code != 0
    assert box.shell("findmnt -no OPTIONS /").startswith("ro,")
    assert box.shell("findmnt -no OPTIONS /var").startswith("rw,")
    ledger.check()
    ledger.open()
    ledger.end()
    ledger.resume()
    assert "failed" not in box.shell("systemctl is-failed 'amibox*' || true").split()
