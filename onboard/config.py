"""The box's one configuration file: TOML in, frozen dataclasses out, every mistake named with file, line and remedy.

``systemd/amibox.toml`` is the complete commented example. A device section that is absent means that the car has no
such device. Nothing here knows an adapter: the composition root turns these sections into the adapters' settings.
"""

from __future__ import annotations

import dataclasses
from collections.abc import Collection, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Annotated, Any, Final, Literal, get_type_hints

from msgspec import Meta

from onboard.config_policy import check_policy, policy_keys
from onboard.config_reader import ConfigError, Problem, Reader, find_line, read_text
from onboard.config_town import TOWN, JoinedReader
from onboard.core.policy import Policy, Station

__all__ = [
    "SECTIONS",
    "BluetoothConfig",
    "BoxConfig",
    "CanConfig",
    "CarConfig",
    "CardReaderConfig",
    "Config",
    "ConfigError",
    "DoorConfig",
    "GpsConfig",
    "Problem",
    "StationConfig",
    "UplinkConfig",
    "check_devices",
    "check_town",
    "load_config",
    "parse_config",
    "section_keys",
]

LOOPBACK: Final = ("localhost", "127.0.0.1", "::1")
MODELS: Final = Path(__file__).parent.parent / "hw" / "models"
"""Where the cars are. Only the names count here: what is in the folders is the devices' room."""
PCSC: Final = "pcsc"
"""As ``hw.card_link`` has it."""
BCM_PIN_MAX: Final = 27
"""GPIO 0 to 27 are on the 40-pin header of every Raspberry Pi since 2014."""

Text = Annotated[str, Meta(min_length=1, max_length=200, description="a text in quotation marks")]
File = Annotated[Path, Meta(description='a path in quotation marks, such as "/etc/amibox/ca.pem"')]
Port = Annotated[Path, Meta(description='a device path in quotation marks, such as "/dev/amibox-gps"')]
Baud = Annotated[int, Meta(ge=1200, le=4_000_000, description="bits a second, 1200 to 4000000")]
Pin = Annotated[
    int, Meta(ge=0, le=BCM_PIN_MAX, description="a GPIO number, 0 to 27 (not the pin's place on the header)")
]
Switch = Annotated[bool, Meta(description="true or false")]


@dataclass(frozen=True, slots=True)
class BoxConfig:
    """``[box]``: where the box keeps things. Relative paths start at the configuration file's folder."""

    data_dir: File = Path("/var/lib/amibox")
    provisioning: File = Path("/var/lib/amibox/provisioning.cbor")
    """Keys, vehicle id and version floors. Written by the box, so not in ``/etc``."""
    socket: File = Path("/run/amibox/amibox.sock")
    log_level: Literal["debug", "info", "warning", "error"] = "info"


@dataclass(frozen=True, slots=True)
class CarConfig:
    """``[car]``: which folder of ``hw/models`` describes this car."""

    model: Annotated[
        str, Meta(pattern=r"^[a-z0-9_-]{1,40}$", description='the name of a folder in hw/models, such as "ami"')
    ]


@dataclass(frozen=True, slots=True)
class CanConfig:
    """``[can]``: the bus, in python-can's words."""

    interface: Text = "socketcan"
    channel: Text = "can0"
    bitrate: Annotated[
        int, Meta(ge=0, le=1_000_000, description="bits a second, 10000 to 1000000; 0 for the car's own")
    ] = 0
    """0: what the car's model says."""


@dataclass(frozen=True, slots=True)
class GpsConfig:
    """``[gps]``: an NMEA receiver on a serial port."""

    port: Port
    baud_rate: Baud = 9600


@dataclass(frozen=True, slots=True)
class CardReaderConfig:
    """``[card_reader]``: a PN532 on a serial port, or ``pcsc``. Whether bare numbers count: ``policy.uid_cards``."""

    port: Port
    baud_rate: Annotated[int, Meta(ge=9600, le=1_288_000, description="bits a second, 9600 to 1288000")] = 115_200
    proof_max_s: Annotated[float, Meta(ge=0.05, le=2.0, description="seconds, 0.05 to 2")] = 0.35
    """A card whose proof takes longer is refused: it may be far away, behind two radios."""
    reset_pin: Pin | None = None
    """GPIO at the chip's RSTPD_N: the cure for a chip that no command wakes."""
    power_pin: Pin | None = None
    """GPIO of the switch of the reader's supply, high for on (with a pull-up): the last cure."""


@dataclass(frozen=True, slots=True)
class BluetoothConfig:
    """``[bluetooth]``: phones come by bluetoothd, whose adapter is found by itself."""

    dbus_address: Text = "unix:path=/run/dbus/system_bus_socket"
    """The D-Bus where bluetoothd is: the system's."""


@dataclass(frozen=True, slots=True)
class DoorConfig:
    """``[door]``: relays, contacts, button, light and buzzer, by GPIO number.

    The three contacts are required: a trip ends only when they say locked and shut.
    """

    unlock_pin: Pin
    lock_pin: Pin
    driver_contact_pin: Pin
    passenger_contact_pin: Pin
    lock_contact_pin: Pin
    lock_button_pin: Pin | None = None
    key_contact_pin: Pin | None = None
    """Closed while the motor's key is in its place."""
    led_pin: Pin | None = None
    buzzer_pin: Pin | None = None
    relay_active_high: Switch = True
    """The relay closes when its pin is high."""
    door_closed_when_open: Switch = False
    """True: a door's contact connects its pin to ground while the door is *open*; false: while it is shut."""
    lock_closed_when_unlocked: Switch = False
    """True: the lock's contact connects its pin to ground while *unlocked*; false: while locked."""
    pulse_s: Annotated[float, Meta(ge=0.05, le=1.0, description="seconds, 0.05 to 1")] = 0.3
    pin_factory: Text = "lgpio"
    """A pin factory of gpiozero, or ``module:Class``."""


@dataclass(frozen=True, slots=True)
class UplinkConfig:
    """``[uplink]``: the commune's broker. Either a client certificate, or a user name with a file for its password.

    ``ca_file`` switches TLS on; only a broker on this machine may do without.
    """

    host: Text
    port: Annotated[int, Meta(ge=1, le=65_535, description="a port number, 1 to 65535")] = 8883
    ca_file: File | None = None
    cert_file: File | None = None
    key_file: File | None = None
    username: Text | None = None
    password_file: File | None = None
    keepalive_s: Annotated[int, Meta(ge=10, le=3600, description="whole seconds, 10 to 3600")] = 60
    backoff_max_s: Annotated[int, Meta(ge=1, le=3600, description="whole seconds, 1 to 3600")] = 600
    """Longest wait between two attempts to connect."""


@dataclass(frozen=True, slots=True)
class StationConfig:
    """``[[station]]``: a circle round a charging point, where rentals begin and end."""

    id: Annotated[str, Meta(pattern=r"^[a-z0-9-]{1,32}$", description="1 to 32 of a-z, 0-9 and -, in quotation marks")]
    name: Text
    latitude: Annotated[float, Meta(ge=-90, le=90, description="degrees north, -90 to 90")]
    longitude: Annotated[float, Meta(ge=-180, le=180, description="degrees east, -180 to 180")]
    radius_m: Annotated[float, Meta(ge=5, le=2000, description="metres, 5 to 2000")] = 40.0


@dataclass(frozen=True, slots=True)
class Config:
    """The whole file. ``policy`` already holds the stations."""

    file: Path
    box: BoxConfig
    car: CarConfig
    can: CanConfig | None
    gps: GpsConfig | None
    card_reader: CardReaderConfig | None
    bluetooth: BluetoothConfig | None
    door: DoorConfig | None
    uplink: UplinkConfig | None
    policy: Policy
    stations: tuple[StationConfig, ...]
    lines: Mapping[str, int] = field(repr=False, compare=False)
    """Line of each key, such as ``gps.port`` or ``station.0.id``."""
    files: Mapping[str, Path] = field(default_factory=dict, repr=False, compare=False)
    """Tables that another file than ``file`` gives."""
    shadows: tuple[Problem, ...] = field(default=(), repr=False, compare=False)
    """Tables of the town hall that don't count, because ``file`` has them too."""


SECTIONS: Final[Mapping[str, type]] = {
    "box": BoxConfig,
    "car": CarConfig,
    "can": CanConfig,
    "gps": GpsConfig,
    "card_reader": CardReaderConfig,
    "bluetooth": BluetoothConfig,
    "door": DoorConfig,
    "uplink": UplinkConfig,
    "policy": Policy,
    "station": StationConfig,
}
"""Every table of the file and the class that lists its keys."""


def section_keys(cls: type) -> dict[str, Any]:
    """Return the keys that a section may hold, each with its type and range."""
    return policy_keys() if cls is Policy else get_type_hints(cls, include_extras=True)


def load_config(file: Path) -> Config:
    """Read ``file``, and ``town.toml`` beside its ``box.provisioning``. Raises ``ConfigError`` with every mistake."""
    text = read_text(file)
    box = Reader(file, text).section("box", BoxConfig, section_keys(BoxConfig)) or BoxConfig()
    town = box.provisioning.with_name(TOWN)
    reader = JoinedReader(file, text, town, read_text(town)) if town.is_file() else Reader(file, text)
    return _config(reader, sorted(found.parent.name for found in MODELS.glob("*/model.toml")))


def check_town(text: str, file: Path) -> None:
    """Raise ``ConfigError`` with every mistake in the town hall's part, whatever the technician's says."""
    cars = sorted(found.parent.name for found in MODELS.glob("*/model.toml"))
    # A car of the technician's own, for one that the town hall leaves out.
    car = "" if "car" in Reader(file, text).lines else f'[car]\nmodel = "{cars[0]}"\n'
    _config(JoinedReader(file, car, file, text), cars)


def parse_config(text: str, file: Path, cars: Collection[str] = ()) -> Config:
    """Turn the text of ``file`` into a ``Config``. Raises ``ConfigError`` with every mistake in it.

    ``cars`` are those that it may name; none given: any.
    """
    return _config(Reader(file, text), cars)


def _config(reader: Reader, cars: Collection[str]) -> Config:
    box = reader.section("box", BoxConfig, section_keys(BoxConfig))
    car = reader.section("car", CarConfig, section_keys(CarConfig))
    can = reader.section("can", CanConfig, section_keys(CanConfig))
    gps = reader.section("gps", GpsConfig, section_keys(GpsConfig))
    card_reader = reader.section("card_reader", CardReaderConfig, section_keys(CardReaderConfig))
    bluetooth = reader.section("bluetooth", BluetoothConfig, section_keys(BluetoothConfig))
    door = reader.section("door", DoorConfig, section_keys(DoorConfig))
    uplink = reader.section("uplink", UplinkConfig, section_keys(UplinkConfig))
    policy = reader.section("policy", Policy, section_keys(Policy))
    stations = reader.sections("station", StationConfig, section_keys(StationConfig))
    reader.refuse_others(SECTIONS)
    if car is not None and cars and car.model not in cars:
        reader.refuse("car.model", f'no car "{car.model}" in hw/models', f"write one of: {', '.join(cars)}")
    _check_pins(reader, door, card_reader)
    _check_uplink(reader, uplink)
    check_policy(reader, policy)
    if not any(problem.key.startswith("station.") for problem in reader.problems):
        _check_stations(reader, stations)
    if car is None and "car" not in reader.lines:
        reader.refuse("car", "missing", 'add [car] and model = "ami", a folder of hw/models')
    if reader.problems or car is None:
        raise ConfigError(reader.problems)
    places = tuple(Station(each.id, each.latitude, each.longitude, each.radius_m) for each in stations)
    policy = dataclasses.replace(policy or Policy(), stations=places)
    box = box or BoxConfig()
    joined = (reader.files, reader.shadows) if isinstance(reader, JoinedReader) else ()
    parts = (box, car, can, gps, card_reader, bluetooth, door, uplink, policy, stations, reader.lines)
    return Config(reader.file, *parts, *joined)


def check_devices(config: Config, interfaces: Path = Path("/sys/class/net")) -> tuple[Problem, ...]:
    """Return what the file names and this machine does not have, as a technician should read it.

    None of it is a reason not to start: a device may come later, and its worker tries again.
    ``interfaces`` is the folder with an entry for each network interface.
    """
    wanted: list[tuple[str, Path, str]] = []
    if config.can is not None:
        channel = config.can.channel
        if config.can.interface == "socketcan":
            remedy = "fit the adapter, or name the interface that `ip link` shows"
            wanted.append(("can.channel", interfaces / channel, remedy))
        elif channel.startswith("/"):
            wanted.append(("can.channel", Path(channel), "plug the adapter in, or correct the path"))
    if config.gps is not None:
        wanted.append(("gps.port", config.gps.port, "plug the receiver in, correct the path, or take [gps] out"))
    if config.card_reader is not None and not over_pcsc(config.card_reader.port):
        remedy = "plug the reader in, correct the path, or take [card_reader] out"
        wanted.append(("card_reader.port", config.card_reader.port, remedy))
    if config.uplink is not None:
        for key in ("ca_file", "cert_file", "key_file", "password_file"):
            file: Path | None = getattr(config.uplink, key)
            if file is not None:
                wanted.append((f"uplink.{key}", file, "put the file there, or correct the path"))
    wanted.append(("box.data_dir", config.box.data_dir, "make the folder and give it to the user amibox"))
    return tuple(
        Problem(
            config.files.get(key.partition(".")[0], config.file),
            find_line(config.lines, key),
            key,
            f"{path} is not there",
            remedy,
        )
        for key, path, remedy in wanted
        if not path.exists()
    )


def over_pcsc(port: Path) -> bool:
    """Tell whether a card reader's port is none, but a reader over PC/SC."""
    return port.name.partition(":")[0] == PCSC


def _check_pins(reader: Reader, door: DoorConfig | None, card_reader: CardReaderConfig | None) -> None:
    taken: dict[int, str] = {}
    for section, config in (("door", door), ("card_reader", card_reader)):
        for name in (each.name for each in dataclasses.fields(config)) if config is not None else ():
            pin = getattr(config, name)
            if not name.endswith("_pin") or pin is None:
                continue
            if door is None and "door" not in reader.lines:
                reader.refuse(f"{section}.{name}", "there are no pins without [door]", "add [door], or take this out")
            if pin in taken:
                reader.refuse(f"{section}.{name}", f"GPIO {pin} is already {taken[pin]}", "give each its own pin")
            taken.setdefault(pin, name)


def _check_uplink(reader: Reader, uplink: UplinkConfig | None) -> None:
    if uplink is None:
        return
    if (uplink.cert_file is None) != (uplink.key_file is None):
        reader.refuse("uplink.cert_file", "a certificate needs its key", "set both cert_file and key_file, or neither")
    if (uplink.username is None) != (uplink.password_file is None):
        reader.refuse("uplink.username", "a user needs a password", "set both username and password_file, or neither")
    if uplink.ca_file is None and uplink.host not in LOOPBACK:
        remedy = 'set ca_file; a public authority: "/etc/ssl/certs/ca-certificates.crt"'
        reader.refuse("uplink.host", "a broker elsewhere needs TLS: a password doesn't travel in clear", remedy)
    if uplink.username is None and uplink.cert_file is None:
        remedy = "set cert_file and key_file, or username and password_file"
        reader.refuse("uplink", "the box can't say who it is", remedy)


def _check_stations(reader: Reader, stations: tuple[StationConfig, ...]) -> None:
    seen: set[str] = set()
    for index, station in enumerate(stations):
        if station.id in seen:
            reader.refuse(f"station.{index}.id", f'"{station.id}" stands twice', "give each station an id of its own")
        seen.add(station.id)
