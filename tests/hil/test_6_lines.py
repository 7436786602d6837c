"""The car's ends of the pins: the bench's and those of a rig with wires do the same to a line."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from sim.rig import PYTHON, Rig

SCRIPT = Path(__file__).with_name("lines_contract.py")
BOTH = {
    "relay high": True,
    "relay low": False,
    "relay high again": True,
    "relay released": False,
    "contact open": True,
    "contact closed": False,
    "contact still closed": False,
    "contact open again": True,
}
REAL = {"contact left alone, pulled down": False, "contact of a car that has gone": True}
"""Only a car that leaves a line alone can be seen to: gpio-sim's own pull is the level."""


@pytest.mark.needs("guest")
@pytest.mark.parametrize(("kind", "seen"), [("simulated", BOTH), ("real", BOTH | REAL)])
def test_both_kinds_of_pins_do_the_same_to_a_line(rig: Rig, kind: str, seen: dict[str, bool]) -> None:
    rig.put("/run/lines_contract.py", SCRIPT.read_bytes())
    assert (
        json.loads(rig.shell(f"cd /run && {PYTHON} lines_contract.py {kind} 2>/run/lines.log || cat /run/lines.log"))
        == seen
    )
