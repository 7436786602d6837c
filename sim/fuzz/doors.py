"""Every door, by name."""

from __future__ import annotations

from typing import Final

from sim.fuzz import bus, cards, console, files, gnss, http, papers, phones, rotation, wire
from sim.fuzz.door import Door

ALL: Final[dict[str, Door]] = {
    door.name: door
    for room in (phones, papers, bus, gnss, cards, wire, console, files, rotation, http)
    for door in room.DOORS
}
