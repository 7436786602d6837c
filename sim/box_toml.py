"""The shortest ``box.toml`` of a car that is played: what it needs to be told, and the town's stations."""

from __future__ import annotations

from pathlib import Path
from typing import Final

RADIUS_M: Final = 60.0
BOX: Final = """
[box]
data_dir = "{folder}/data"
provisioning = "{folder}/provisioning.cbor"
socket = "{folder}/box.sock"
[car]
model = "ami"
[policy]
uid_cards = true
"""
STATION: Final = """
[[station]]
id = "{id}"
name = "{name}"
latitude = {latitude}
longitude = {longitude}
radius_m = {radius_m}
"""


def box(folder: Path) -> str:
    """Return all but the stations, for a car whose files are in ``folder``. ``[policy]`` is its last table."""
    return BOX.format(folder=folder)


def station(station_id: str, name: str, latitude: float, longitude: float, radius_m: float = RADIUS_M) -> str:
    """Return one station."""
    return STATION.format(id=station_id, name=name, latitude=latitude, longitude=longitude, radius_m=radius_m)
