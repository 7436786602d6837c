"""How long a box lives on the car's 12 V battery, step by step: ``python -m hw.power_budget`` prints the tables.

``docs/power.md`` shows them, and says of each figure where it is from. Change a figure here, and copy the tables there.
"""

from __future__ import annotations

import sys
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from itertools import pairwise
from typing import Final

from onboard.core.commands import Loads, ReaderPace
from onboard.core.policy import Policy

BATTERY_V: Final = 12.3
"""Between full and empty; power at the battery is current times this."""
CONVERTER: Final = 0.85
"""Share of the battery's power that comes out at 5 V: a vehicle converter at light load (estimate)."""
CONVERTER_MA: Final = 5.0
"""What it draws by itself (estimate)."""
DIVIDER_MA: Final = 0.22
"""12.6 V over 57 kOhm: always, also while the box is off."""
CAR_MA: Final = 10.0
"""What the parked car draws by itself. Nobody has published it of an AMI: measure it (hw/README.md)."""
READY_S: Final = 2 * 900.0
"""A day's share with everything on though nothing feeds the battery: two bookings, a quarter of an hour each."""
DAY_S: Final = 86_400.0

REST_V: Final = (
    *((0.0, 10.5), (0.1, 11.51), (0.2, 11.66), (0.3, 11.81), (0.4, 11.96), (0.5, 12.1)),
    *((0.6, 12.24), (0.7, 12.37), (0.8, 12.5), (0.9, 12.62), (1.0, 12.73)),
)
"""Share of its capacity that is left in a lead-acid battery, and its voltage with next to no load: the usual chart."""


@dataclass(frozen=True, slots=True)
class Part:
    """One load at the 5 V side: its power while it works and while it doesn't, in mW, and where the figure is from."""

    name: str
    on_mw: float
    off_mw: float
    source: str


BOARDS: Final = (
    Part("Raspberry Pi Zero 2 W, idle, HDMI off", 700.0, 15.0, "published measurements of others: estimate"),
    Part("Raspberry Pi 5, idle", 2700.0, 15.0, "the same; off: 3 to 4 mA with POWER_OFF_ON_HALT=1"),
)
LOOK_S: Final = 0.03
"""The reader's field is on for so long in a look: three tries and their answers (estimate)."""
READER_FIELD: Final = Part(
    "PN532, its field on", 500.0, 90.0, "NXP PN532/C1: up to 150 mA at 3.3 V; about 25 mA without"
)
READER_SLEEP_MW: Final = 1.0
READER_ADAPTER: Final = Part("reader's USB-serial adapter", 60.0, 60.0, "WCH CH340: 12 mA")
RECEIVER: Final = Part(
    "receiver, u-blox M8 board", 200.0, 10.0, "u-blox NEO-M8: 23 mA at 3 V, and an antenna's; backup 15 uA"
)
MODEM: Final = Part(
    "modem, LTE Cat 1, connected and idle", 400.0, 0.0, "about 80 mA at 5 V: estimate; off by its switch"
)
CAN: Final = Part("CAN controller and transceiver", 75.0, 75.0, "Microchip MCP2515 5 mA, transceiver recessive 10 mA")
RADIO: Final = Part("Bluetooth, advertising every 30 to 50 ms", 10.0, 10.0, "three channels of 1 ms at 20 mA: estimate")
MONITOR: Final = Part("INA226 or MCP3008", 2.0, 2.0, "TI INA226 0.33 mA; Microchip MCP3008 0.5 mA")
DAEMON_MW: Final = 20.0
"""The daemon's share of a core (docs/power.md has it measured) at some 0.5 W for a busy core: estimate."""

STEPS: Final[Mapping[str, Loads]] = {
    "everything on": Loads(),
    "parked, normal": Loads(ReaderPace.FULL, gnss=False, modem=False),
    "parked, saving": Loads(ReaderPace.SLOW, gnss=False, modem=False),
    "parked, critical": Loads(ReaderPace.OFF, gnss=False, modem=False),
}
"""What ``onboard.core.power`` switches on; the parked modem's looks come on top, but in *critical*."""
OFF: Final = "off, woken four times a day"
AWAKE_S: Final = 240.0
"""A check of a box that is off: 60 s to start, supply_awake_s, supply_hold_s."""


def loads_mw(loads: Loads, board: Part, modem_share: float | None = None) -> float:
    """Return the power at 5 V with these loads on. ``modem_share``: of the time, instead of what ``loads`` says."""
    looks_hz = {ReaderPace.FULL: 4.0, ReaderPace.SLOW: 1.0, ReaderPace.OFF: 0.0}[loads.reader]
    reader_mw = READER_SLEEP_MW
    if loads.reader is not ReaderPace.OFF:
        reader_mw = READER_FIELD.off_mw + (READER_FIELD.on_mw - READER_FIELD.off_mw) * LOOK_S * looks_hz
    share = float(loads.modem) if modem_share is None else modem_share
    modem_mw = MODEM.off_mw + (MODEM.on_mw - MODEM.off_mw) * share
    receiver_mw = RECEIVER.on_mw if loads.gnss else RECEIVER.off_mw
    steady_mw = board.on_mw + DAEMON_MW + READER_ADAPTER.on_mw + CAN.on_mw + RADIO.on_mw + MONITOR.on_mw
    return steady_mw + reader_mw + modem_mw + receiver_mw


def battery_ma(power_mw: float) -> float:
    """Return what the box draws from the battery for so much at 5 V."""
    return power_mw / CONVERTER / BATTERY_V + CONVERTER_MA + DIVIDER_MA


def step_ma(step: str, board: Part) -> float:
    """Return a day's mean current of the box in this step, without the car's own."""
    everything = battery_ma(loads_mw(Loads(), board))
    if step == OFF:
        checks = DAY_S / Policy().supply_check_s * AWAKE_S / DAY_S
        asleep = battery_ma(board.off_mw)
        return asleep * (1 - checks) + battery_ma(loads_mw(STEPS["parked, critical"], board)) * checks
    loads = STEPS[step]
    if loads.modem:
        return everything
    policy = Policy()
    looks = 0.0 if loads.reader is ReaderPace.OFF else policy.modem_look_s / policy.modem_every_s
    ready = READY_S / DAY_S
    return battery_ma(loads_mw(loads, board, looks)) * (1 - ready) + everything * ready


def share_at(voltage_v: float) -> float:
    """Return the share of its capacity that a battery at rest with this voltage has left."""
    for (low, low_v), (high, high_v) in pairwise(REST_V):
        if voltage_v < high_v:
            return max(0.0, low + (high - low) * (voltage_v - low_v) / (high_v - low_v))
    return 1.0


def days(capacity_ah: float, share: float, current_ma: float) -> float:
    """Return how long this share of the battery lasts with the box's current and the car's own."""
    return capacity_ah * 1000 * share / (current_ma + CAR_MA) / 24


def tables() -> Iterator[str]:
    """Give the lines of the tables, in Markdown."""
    for board in BOARDS:
        yield f"{board.name}:"
        yield ""
        yield "| step | at the battery | 12 Ah, full to empty | 20 Ah, full to empty |"
        yield "|---|---|---|---|"
        for step in (*STEPS, OFF):
            current_ma = step_ma(step, board)
            lasts = " | ".join(f"{days(capacity, 1.0, current_ma):.1f} days" for capacity in (12, 20))
            yield f"| {step} | {current_ma:.0f} mA | {lasts} |"
        yield ""
        policy = Policy()
        marks = (1.0, *map(share_at, (policy.supply_saving_v, policy.supply_critical_v, policy.supply_off_v)))
        steps = tuple(STEPS)[1:]
        yield "| parked, from full | 12 Ah | 20 Ah |"
        yield "|---|---|---|"
        totals = [0.0, 0.0]
        for step, (upper, lower) in zip(steps, pairwise(marks), strict=True):
            lasts_d = [days(capacity, upper - lower, step_ma(step, board)) for capacity in (12, 20)]
            totals = [total + more for total, more in zip(totals, lasts_d, strict=True)]
            ends = f"{step.partition(', ')[2]}, {upper:.0%} to {lower:.0%} of the battery"
            yield f"| {ends} | {lasts_d[0]:.1f} days | {lasts_d[1]:.1f} days |"
        yield f"| **until the box switches itself off** | **{totals[0]:.1f} days** | **{totals[1]:.1f} days** |"
        yield ""


if __name__ == "__main__":
    sys.stdout.write("\n".join(tables()))
