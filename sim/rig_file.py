"""The TOML file that describes a rig: how its machines are reached, what hangs on its wires, what it can switch.

``sim/bench/rig.toml`` is the bench's own, ``sim/rigs/wired.toml`` the commented example of one with wires
(docs/rig.md). A mistake is named with file, line, key and remedy.
"""

from __future__ import annotations

import dataclasses
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Annotated, Any, Final, Literal, get_type_hints

from msgspec import Meta

from hw.door import DoorSettings
from onboard.config import DoorConfig
from onboard.config_reader import ConfigError, Problem, Reader

Text = Annotated[str, Meta(min_length=1, max_length=200, description="a text in quotation marks")]
Words = Annotated[
    tuple[Annotated[str, Meta(min_length=1)], ...],
    Meta(min_length=1, description='the words of a command, such as ["ssh", "-o", "BatchMode=yes", "root@box.local"]'),
]
Baud = Annotated[int, Meta(ge=1200, le=4_000_000, description="bits a second, 1200 to 4000000")]
Reach = Literal["guest", "ssh", "here"]

GUEST: Final = "guest"
NOT_THE_CARS: Final = frozenset({"pulse_s", "pin_factory"})
"""Fields of the box's ``[door]`` that say nothing about the car's ends of its wires."""

RIG_FILE: Final = "/opt/bench/rig.toml"
"""Where the wires stand on the rig's own machines, as the rig puts them there when it first meets them."""
MEANS: Final[Mapping[str, str]] = {
    "guest": "the bench's guest: QEMU's devices, simulated pins",
    "power": "a power switch: [power] with cut and restore",
    "unplug gps": 'a switch for the receiver\'s adapter: [[adapter]] with name = "gps"',
    "unplug card": 'a switch for the card reader\'s adapter: [[adapter]] with name = "card"',
    "played gps": "a receiver that the car plays: [gps] instead of a real one",
    "played radio": "a Bluetooth adapter and phones that are played: [radio], in the guest only",
    "pi": "an emulated Raspberry Pi 3, which takes the disk of the arm64 guest: RELEASE=12-arm64",
    "played card": "a card reader that the car plays: [card] instead of a real one",
}
"""What a test may need of a rig, each with what a rig must have for it."""


@dataclass(frozen=True, slots=True)
class BoxReach:
    """``[box]``: ``guest`` is built and started by the bench; ``ssh`` takes the words of ``command``."""

    reach: Literal["guest", "ssh"]
    command: Words | None = None


@dataclass(frozen=True, slots=True)
class CarReach:
    """``[car]``: the machine that holds the car's ends of the wires, and the commune. ``here`` is this machine."""

    reach: Reach
    socket: Text
    """Where the car listens for commands."""
    memory: Text
    """Where the car keeps its latch and odometer over a power cut: never on the box's disk."""
    command: Words | None = None
    python: Text = "/opt/amibox/.venv/bin/python"
    """The Python that has this project, with its extras ``cloud`` and ``pi``."""


@dataclass(frozen=True, slots=True)
class CommunePlace:
    """``[commune]``: the broker beside the car, by the name or address that the box reaches it at."""

    host: Text


@dataclass(frozen=True, slots=True)
class CarCan:
    """``[can]``: the car's adapter on the bus, in python-can's words."""

    interface: Text
    channel: Text
    bitrate: Annotated[int, Meta(ge=10_000, le=1_000_000, description="bits a second, 10000 to 1000000")]
    witness: Text | None = None
    """Another of the car's channels on the same wires, which acknowledges: the box, listen-only, does not."""


@dataclass(frozen=True, slots=True)
class CarPort:
    """``[gps]``, ``[card]``: the far end of a serial line of the box. Absent: a real part hangs there."""

    port: Text
    baud_rate: Baud


@dataclass(frozen=True, slots=True)
class CarPins:
    """``[gpio]``: the car's ends of the pins; one of the two."""

    label: Text | None = None
    """A chip of the kernel's gpio-sim by this name."""
    factory: Text | None = None
    """Real lines, by a pin factory: ``lgpio`` on a Raspberry Pi."""


@dataclass(frozen=True, slots=True)
class PlayedRadio:
    """``[radio]``: the box's Bluetooth adapter and its phones are played (``sim.bench.radio``), in the guest only."""

    socket: Text
    """Where the phones listen for commands."""
    address: Annotated[
        str, Meta(pattern="^([0-9A-F]{2}:){5}[0-9A-F]{2}$", description="six bytes, as 00:00:5E:00:53:FF")
    ]
    """The adapter's public address."""


@dataclass(frozen=True, slots=True)
class PowerSwitch:
    """``[power]``: commands, run on this machine, that take the box's power away and give it back."""

    cut: Words
    restore: Words


@dataclass(frozen=True, slots=True)
class AdapterSwitch:
    """``[[adapter]]``: commands, run on this machine, that pull an adapter of the box and put it back."""

    name: Literal["gps", "card"]
    unplug: Words
    plug: Words


SECTIONS: Final[Mapping[str, type]] = {
    "box": BoxReach,
    "car": CarReach,
    "commune": CommunePlace,
    "can": CarCan,
    "gps": CarPort,
    "card": CarPort,
    "gpio": CarPins,
    "pins": DoorConfig,
    "radio": PlayedRadio,
    "power": PowerSwitch,
    "adapter": AdapterSwitch,
}
REQUIRED: Final = ("box", "car", "commune", "can", "gpio", "pins")


@dataclass(frozen=True, slots=True)
class RigFile:
    """The whole file, checked."""

    file: Path
    box: BoxReach
    car: CarReach
    commune: CommunePlace
    can: CarCan
    gps: CarPort | None
    card: CarPort | None
    gpio: CarPins
    pins: DoorConfig
    radio: PlayedRadio | None
    power: PowerSwitch | None
    adapters: Mapping[str, AdapterSwitch]

    @property
    def means(self) -> frozenset[str]:
        """What tests may use on this rig, of ``MEANS``."""
        found = {f"unplug {name}" for name in self.adapters}
        found |= {name for name, there in (("power", self.power), ("played gps", self.gps)) if there is not None}
        found |= {"played card"} if self.card is not None else set()
        found |= {"played radio"} if self.radio is not None else set()
        if self.box.reach == GUEST:
            found |= {GUEST, "power", "unplug gps", "unplug card"}
        return frozenset(found)


def load_rig(file: Path) -> RigFile:
    """Read a rig's file. Raises ``ConfigError`` with every mistake in it."""
    try:
        text = file.read_text()
    except (OSError, UnicodeDecodeError) as error:
        remedy = "name a rig's file (make hil RIG=FILE); sim/rigs/wired.toml is an example to copy"
        raise ConfigError([Problem(file, 1, "file", str(error), remedy)]) from error
    return parse_rig(text, file)


def parse_rig(text: str, file: Path) -> RigFile:
    """Turn the text of ``file`` into a ``RigFile``. Raises ``ConfigError`` with every mistake in it."""
    reader = Reader(file, text)
    # Each by its class: Reader returns None for what is absent or wrong, and notes what is wrong.
    found: dict[str, Any] = {
        name: reader.section(name, cls, _keys(cls)) for name, cls in SECTIONS.items() if name != "adapter"
    }
    adapters = reader.sections("adapter", AdapterSwitch, _keys(AdapterSwitch))
    reader.refuse_others(SECTIONS)
    for name in REQUIRED:
        if name not in reader.lines:
            reader.refuse(name, "missing", f"add [{name}], as sim/rigs/wired.toml shows")
    for name in ("box", "car"):
        if found[name] is not None:
            _check_reach(reader, name, found[name])
    if found["box"] is not None:
        _check_guest(reader, found["box"], found["car"])
    if found["gpio"] is not None and (found["gpio"].label is None) == (found["gpio"].factory is None):
        reader.refuse("gpio", "label and factory are alternatives", 'keep one; real lines: factory = "lgpio"')
    _check_adapters(reader, adapters)
    _check_pins(reader, found["pins"])
    if reader.problems:
        raise ConfigError(reader.problems)
    return RigFile(file, adapters={each.name: each for each in adapters}, **found)


def _keys(cls: type) -> dict[str, Any]:
    hints = get_type_hints(cls, include_extras=True)
    return {name: hint for name, hint in hints.items() if cls is not DoorConfig or name not in NOT_THE_CARS}


def _check_reach(reader: Reader, name: str, reach: BoxReach | CarReach) -> None:
    if (reach.command is not None) != (reach.reach == "ssh"):
        remedy = 'add it, such as ["ssh", "-o", "BatchMode=yes", "root@box.local"]'
        if reach.command is not None:
            remedy = f'take it out, or write reach = "ssh" instead of "{reach.reach}"'
        reader.refuse(f"{name}.command", 'goes with reach = "ssh"', remedy)


def _check_guest(reader: Reader, box: BoxReach, car: CarReach | None) -> None:
    guest = box.reach == GUEST
    if car is not None and (car.reach == GUEST) != guest:
        remedy = 'write reach = "guest"' if guest else 'write reach = "ssh", or "here" for this machine'
        reader.refuse("car.reach", "the guest's wires end in the guest, and no others do", remedy)
    if not guest and "radio" in reader.lines:
        reader.refuse("radio", "only the guest's adapter can be played", "take [radio] out")
    for name in ("power", "adapter"):
        if guest and name in reader.lines:
            reader.refuse(name, "the bench switches the guest by itself", f"take [{name}] out")


def _check_adapters(reader: Reader, adapters: tuple[AdapterSwitch, ...]) -> None:
    names = [each.name for each in adapters]
    for index, name in enumerate(names):
        if name in names[:index]:
            reader.refuse(f"adapter.{index}.name", f'"{name}" stands here twice', "keep one")


def _check_pins(reader: Reader, pins: DoorConfig | None) -> None:
    if pins is None:
        return
    values = dataclasses.asdict(pins)
    try:
        DoorSettings(**{name: value for name, value in values.items() if name not in NOT_THE_CARS})
    except ValueError as error:
        what, _, remedy = str(error).partition(": ")
        reader.refuse("pins", what, remedy)
