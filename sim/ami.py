"""The car itself: a Citroën AMI on a road, by simple steps, and the frames that it puts on its bus.

The frames' layout is ``hw/models/ami/signals.dbc``. No cycle times are published for this car, so those below are our
choice; and every number of the physics is one that looks right, not one that was measured.
"""

from __future__ import annotations

from dataclasses import dataclass
from enum import StrEnum
from pathlib import Path
from typing import Final

import cantools.database.can

import hw.models
from sim.route import Route, Spot

STEP_S: Final = 0.05
SPEED_MAX_MPS: Final = 12.5
"""45 km/h: the AMI's legal top speed."""
VILLAGE_MPS: Final = 8.3
"""30 km/h within ``VILLAGE_M`` of either end of the road."""
VILLAGE_M: Final = 250.0
PULL_MPS2: Final = 1.1
BRAKE_MPS2: Final = 1.3
CREEP_MPS: Final = 0.4
"""Slower than this the driver stops for good where he wants to."""

RANGE_FULL_M: Final = 75_000.0
CHARGE_FULL_S: Final = 3.5 * 3600
CHARGE_A: Final = 31.0
ODOMETER_UNIT_M: Final = 100
STANDBY_S: Final = 60.0
"""Neither ready nor charging for this long, the bus falls asleep."""
WAKE_SENTINELS_S: Final = 1.0
"""After waking the car shows numbers that mean "no value" for so long."""

CYCLES_S: Final = {
    "BMS_Status": 0.2,
    "ECU_Odometer": 0.2,
    "ECU_Display": 0.4,
    "OBC_Charge": 2.0,
    "BMS_Temp": 2.0,
}
"""Our choice: none are published."""


class AmiFault(StrEnum):
    """What can be wrong: wakes with numbers that are none and keeps them; the same values for ever; no bus."""

    NONE = "none"
    SENTINELS = "sentinels"
    FROZEN = "frozen"
    BUS_OFF = "bus_off"


@dataclass(frozen=True, slots=True)
class _Shown:
    """What the instruments show at one moment."""

    speed_mps: float
    odometer_m: float
    soc_pct: float
    current_a: float
    voltage_v: float
    temperature_c: float
    range_km: int
    gear: int
    ready: bool
    park_brake: bool
    charge_s: int


class Ami:
    """One AMI, at ``at_m`` on ``route``, at simulated second ``at_s``. Its state is as public as a car's is.

    Set ``fault`` at any time. ``advance`` moves it on; ``frames`` gives what it put on the bus since the last call.
    """

    def __init__(self, route: Route, at_s: float, *, soc_pct: float = 80.0, odometer_m: float = 4_696_240.0) -> None:
        self.fault = AmiFault.NONE
        self.at_s = at_s
        self.at_m = 0.0
        self.speed_mps = 0.0
        self.soc_pct = soc_pct
        self.odometer_m = odometer_m
        self.plugged = False
        self.ready = False
        self.current_a = 0.0
        self._route = route
        self._goal_m: float | None = None
        self._stirred_s = at_s - 2 * WAKE_SENTINELS_S
        self._woke_s = at_s - 2 * WAKE_SENTINELS_S
        self._due = dict.fromkeys(CYCLES_S, at_s)
        self._frozen: _Shown | None = None
        folder = Path(next(iter(hw.models.__path__))) / "ami"
        self._layout = cantools.database.can.Database()
        self._layout.add_dbc_file(folder / "signals.dbc")

    @property
    def spot(self) -> Spot:
        """Where it is."""
        return self._route.along(self.at_m)

    @property
    def arrived(self) -> bool:
        """Whether it stands where it was last told to go."""
        return self._goal_m is None and self.speed_mps == 0.0

    @property
    def asleep(self) -> bool:
        """Whether its bus is silent of its own will."""
        return not (self.ready or self.plugged) and self.at_s - self._stirred_s > STANDBY_S

    @property
    def charging(self) -> bool:
        """Whether current flows in from the cable."""
        return self.plugged and self.soc_pct < 100

    def drive(self, to_m: float) -> None:
        """Switch on and drive to a place on the road. ValueError while the cable is in: the car refuses, too."""
        if self.plugged:
            raise ValueError("the cable is in")
        self._stir()
        self.ready = True
        self._goal_m = min(max(to_m, 0.0), self._route.length_m)

    def switch_off(self) -> None:
        """Switch off, park brake on. ValueError while it moves."""
        if self.speed_mps > 0:
            raise ValueError("the car moves")
        self._stir()
        self.ready, self._goal_m = False, None

    def plug(self, *, is_in: bool) -> None:
        """Put the cable in or take it out. ValueError while the car is ready to drive."""
        if is_in and self.ready:
            raise ValueError("switch off first")
        self._stir()
        self.plugged = is_in

    def _stir(self) -> None:
        if self.asleep:
            self._woke_s = self.at_s
        self._stirred_s = self.at_s

    def advance(self, to_s: float) -> None:
        """Go on to simulated second ``to_s``; an earlier one changes nothing."""
        while self.at_s < to_s:
            step_s = min(STEP_S, to_s - self.at_s)
            self.at_s += step_s
            self._move(step_s)
            if self.ready or self.plugged:
                self._stirred_s = self.at_s

    def _move(self, step_s: float) -> None:
        before_mps = self.speed_mps
        if self._goal_m is not None:
            left_m = abs(self._goal_m - self.at_m)
            edge_m = min(self.at_m, self._route.length_m - self.at_m)
            limit_mps = VILLAGE_MPS if edge_m < VILLAGE_M else SPEED_MAX_MPS
            # So fast that braking gently still ends at the goal.
            limit_mps = min(limit_mps, (2 * BRAKE_MPS2 * left_m) ** 0.5)
            if before_mps < limit_mps:
                self.speed_mps = min(limit_mps, before_mps + PULL_MPS2 * step_s)
            else:
                self.speed_mps = max(limit_mps, before_mps - 1.5 * BRAKE_MPS2 * step_s)
            moved_m = min(left_m, (before_mps + self.speed_mps) / 2 * step_s)
            self.at_m += moved_m if self._goal_m > self.at_m else -moved_m
            self.odometer_m += moved_m
            self.soc_pct = max(0.0, self.soc_pct - 100 * moved_m / RANGE_FULL_M)
            if left_m - moved_m < 0.1 and self.speed_mps < CREEP_MPS:
                self.speed_mps, self._goal_m = 0.0, None
        if self.charging:
            self.soc_pct = min(100.0, self.soc_pct + 100 * step_s / CHARGE_FULL_S)
        self.current_a = self._current_a((self.speed_mps - before_mps) / step_s)

    def _current_a(self, pull_mps2: float) -> float:
        """Return the battery's current in A, positive into it."""
        if self.charging:
            return CHARGE_A
        if not self.ready:
            return 0.0
        mass_kg, rolling_n = 560.0, 80.0
        power_w = self.speed_mps * (mass_kg * pull_mps2 + rolling_n + 0.35 * self.speed_mps**2) + 60
        share = 1 / 0.85 if power_w > 0 else 0.5
        return -min(300.0, power_w * share / 50)

    def _shown(self) -> _Shown:
        ready = self.ready
        return _Shown(
            speed_mps=self.speed_mps,
            odometer_m=self.odometer_m,
            soc_pct=self.soc_pct,
            current_a=self.current_a,
            voltage_v=46.5 + 0.075 * self.soc_pct + 0.012 * self.current_a,
            temperature_c=14.0,
            # The car shows no range while it charges or is switched off.
            range_km=min(127, int(RANGE_FULL_M * self.soc_pct / 100_000)) if ready else 0,
            gear=2 if ready and self._goal_m is not None else 1 if ready else 3,
            ready=ready,
            park_brake=not ready,
            charge_s=int((100 - self.soc_pct) / 100 * CHARGE_FULL_S) if self.charging else 0xFFFF,
        )

    def frames(self) -> list[tuple[int, bytes]]:
        """Return (identifier, data) of each frame due since the last call, oldest of each kind only once."""
        silent = self.asleep or self.fault is AmiFault.BUS_OFF
        if self.fault is not AmiFault.FROZEN:
            self._frozen = None
        elif self._frozen is None:
            self._frozen = self._shown()
        shown = self._frozen or self._shown()
        empty = self.fault is AmiFault.SENTINELS or self.at_s - self._woke_s < WAKE_SENTINELS_S
        found = []
        for name, cycle_s in CYCLES_S.items():
            if self.at_s < self._due[name]:
                continue
            # What a slow machine missed stays missed: a bus has no memory.
            self._due[name] = max(self._due[name] + cycle_s, self.at_s)
            if not silent:
                found.append(self._frame(name, shown, empty=empty))
        return found

    def _frame(self, name: str, shown: _Shown, *, empty: bool) -> tuple[int, bytes]:
        message = self._layout.get_message_by_name(name)
        data = bytearray(message.encode(_values(name, shown), strict=False))
        if name == "ECU_Display":
            # Beside the ready bit stand two that nobody knows; the sources show 0b101 ready and 0b011 not ready.
            data[2] |= 0b001 if shown.ready else 0b011
            data[3] |= 0x80
        if empty and name in ("BMS_Status", "ECU_Odometer", "OBC_Charge"):
            data = bytearray(b"\xff" * len(data))
        return message.frame_id, bytes(data)


def _values(name: str, shown: _Shown) -> dict[str, float]:
    """Return a message's signals, rounded as the car rounds them."""
    match name:
        case "BMS_Status":
            return {
                "PackCurrent": round(shown.current_a, 1),
                "PackVoltage": round(shown.voltage_v, 2),
                "SoC": round(shown.soc_pct),
            }
        case "ECU_Odometer":
            units = int(shown.odometer_m // ODOMETER_UNIT_M)
            return {"Odometer": units / 10, "Speed": round(shown.speed_mps * 3.6)}
        case "ECU_Display":
            return {"Range": shown.range_km, "Gear": shown.gear, "Ready": shown.ready, "ParkBrake": shown.park_brake}
        case "OBC_Charge":
            return {"ChargeTimeRemaining": shown.charge_s}
        case _:
            return {"PackTemp1": shown.temperature_c, "PackTemp2": shown.temperature_c}
