"""The road of the demo, Bazouges-sous-Hédé to Hédé by the canal's locks.

Both places exist; the two charging points and the line between them are invented for the demo: no survey, no map data.
"""

from __future__ import annotations

import math
from bisect import bisect_right
from dataclasses import dataclass, field
from itertools import accumulate, pairwise
from typing import Final

from onboard.core.policy import Station

M_PER_DEGREE: Final = 111_195.0
"""One degree of latitude on a sphere of 6,371 km."""

STATION_RADIUS_M: Final = 40.0


@dataclass(frozen=True, slots=True)
class Spot:
    """A place on the road: degrees WGS 84, and the heading there in degrees from true north."""

    latitude: float
    longitude: float
    heading_deg: float


@dataclass(frozen=True)
class Route:
    """A line of at least two different points (latitude, longitude), from one station to another."""

    start: Station
    end: Station
    points: tuple[tuple[float, float], ...]
    marks_m: tuple[float, ...] = field(init=False)
    """Distance of each point from the start."""

    def __post_init__(self) -> None:
        """Measure the line."""
        steps = (math.hypot(*_offset_m(a, b)) for a, b in pairwise(self.points))
        object.__setattr__(self, "marks_m", (0.0, *accumulate(steps)))

    @property
    def length_m(self) -> float:
        """Length of the road."""
        return self.marks_m[-1]

    def along(self, distance_m: float) -> Spot:
        """Return the spot ``distance_m`` from the start; beyond an end, that end."""
        distance_m = min(max(distance_m, 0.0), self.length_m)
        leg = min(bisect_right(self.marks_m, distance_m), len(self.points) - 1)
        before, after = self.points[leg - 1], self.points[leg]
        share = (distance_m - self.marks_m[leg - 1]) / (self.marks_m[leg] - self.marks_m[leg - 1])
        north_m, east_m = _offset_m(before, after)
        return Spot(
            latitude=before[0] + share * (after[0] - before[0]),
            longitude=before[1] + share * (after[1] - before[1]),
            heading_deg=math.degrees(math.atan2(east_m, north_m)) % 360,
        )


def _offset_m(a: tuple[float, float], b: tuple[float, float]) -> tuple[float, float]:
    """Return metres north and east from ``a`` to ``b``; exact enough for some kilometres."""
    middle = math.radians((a[0] + b[0]) / 2)
    return (b[0] - a[0]) * M_PER_DEGREE, (b[1] - a[1]) * M_PER_DEGREE * math.cos(middle)


_POINTS: Final = (
    (48.30460, -1.78060),
    (48.30394, -1.77996),
    (48.30299, -1.77910),
    (48.30200, -1.77860),
    (48.30103, -1.77889),
    (48.30001, -1.77953),
    (48.29900, -1.77980),
    (48.29801, -1.77916),
    (48.29703, -1.77813),
    (48.29600, -1.77760),
    (48.29487, -1.77790),
    (48.29369, -1.77868),
    (48.29260, -1.77980),
    (48.29150, -1.78133),
    (48.29050, -1.78319),
    (48.29000, -1.78500),
    (48.29046, -1.78660),
    (48.29144, -1.78814),
    (48.29200, -1.78970),
    (48.29153, -1.79136),
    (48.29065, -1.79304),
    (48.29030, -1.79460),
    (48.29103, -1.79607),
    (48.29230, -1.79741),
    (48.29340, -1.79840),
    (48.29405, -1.79878),
    (48.29453, -1.79881),
    (48.29500, -1.79900),
    (48.29556, -1.79967),
    (48.29611, -1.80050),
    (48.29650, -1.80110),
)

BAZOUGES: Final = Station("bazouges", *_POINTS[0], radius_m=STATION_RADIUS_M)
HEDE: Final = Station("hede", *_POINTS[-1], radius_m=STATION_RADIUS_M)
NAMES: Final = {"bazouges": "Bazouges, mairie", "hede": "Hédé, place du château"}

BAZOUGES_HEDE: Final = Route(BAZOUGES, HEDE, _POINTS)
