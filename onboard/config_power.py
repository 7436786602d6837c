"""What the configuration's values may be, and its sections about power: ``[supply]`` and ``[modem]``."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import Annotated, Final, Literal

from msgspec import Meta

from onboard.config_reader import Reader

BCM_PIN_MAX: Final = 27
"""GPIO 0 to 27 are on the 40-pin header of every Raspberry Pi since 2014."""
SPI_PINS: Final = (8, 9, 10, 11)
"""CE0, MISO, MOSI and SCLK of the SPI that the ADC hangs on."""

Text = Annotated[str, Meta(min_length=1, max_length=200, description="a text in quotation marks")]
File = Annotated[Path, Meta(description='a path in quotation marks, such as "/etc/amibox/ca.pem"')]
Port = Annotated[Path, Meta(description='a device path in quotation marks, such as "/dev/amibox-gps"')]
Baud = Annotated[int, Meta(ge=1200, le=4_000_000, description="bits a second, 1200 to 4000000")]
Pin = Annotated[
    int, Meta(ge=0, le=BCM_PIN_MAX, description="a GPIO number, 0 to 27 (not the pin's place on the header)")
]
Switch = Annotated[bool, Meta(description="true or false")]


@dataclass(frozen=True, slots=True)
class SupplyConfig:
    """``[supply]``: what measures the 12 V battery, and whether the box may switch itself off.

    ``hwmon``: a monitor on I²C that the kernel drives. ``mcp3008``: an ADC on SPI0, CE0.
    """

    kind: Literal["hwmon", "mcp3008"]
    chip: Text = "ina226"
    """The monitor's name for the kernel."""
    channel: Annotated[int, Meta(ge=0, le=7, description="0 to 7")] = 1
    """The ADC's input, or N of the monitor's inN_input."""
    divider: Annotated[float, Meta(ge=1, le=20, description="1 to 20: battery's voltage over the input's")] = 1.0
    every_s: Annotated[float, Meta(ge=2, le=30, description="seconds, 2 to 30")] = 10.0
    power_off: Switch = True
    """False: the box never switches itself off, nothing would switch it on again."""


@dataclass(frozen=True, slots=True)
class ModemConfig:
    """``[modem]``: a switch in the modem's supply. Without it the modem is always on."""

    power_pin: Pin
    """GPIO of the switch, high for on (with a pull-up)."""


def check_supply(reader: Reader, supply: SupplyConfig | None) -> None:
    """Refuse an ADC without a divider: 12 V at its input would destroy it."""
    if supply is not None and supply.kind == "mcp3008" and supply.divider < 4:
        key = "supply.divider" if "supply.divider" in reader.lines else "supply"
        remedy = "set divider, such as 5.7 for 47 kΩ over 10 kΩ (docs/power.md)"
        reader.refuse(key, f"an ADC of 3.3 V behind a divider of {supply.divider:g} can't bear 16 V", remedy)
