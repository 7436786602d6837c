"""One car on CAN as data: ``signals.dbc`` says where a value lies in a frame, ``model.toml`` how far to believe it.

A second car is a folder, not code. ``hw/models/README.md`` explains the keys. Loading is strict: an unknown key, a unit
that does not fit or a signal that the DBC lacks is a ``ModelError`` naming file, line where it can, and remedy.
"""

from __future__ import annotations

import importlib.resources
import re
import tomllib
from collections.abc import Mapping
from dataclasses import dataclass
from fractions import Fraction
from importlib.resources.abc import Traversable
from math import isfinite, lcm
from pathlib import Path
from typing import Any, Final, Literal

import cantools
import msgspec
from cantools.database.errors import Error as DbcError

from onboard.core.events import Signal

MODELS: Final = importlib.resources.files("hw.models")

ODOMETER_UNIT: Final = "odometer_unit"
CHARGER_STATE: Final = "charger_state"
HELPERS: Final = (ODOMETER_UNIT, CHARGER_STATE)

_CORE_UNIT: Final[Mapping[Signal, str]] = {
    Signal.SPEED: "m/s",
    Signal.DISTANCE: "m",
    Signal.SOC: "%",
    Signal.RANGE: "m",
    Signal.CURRENT: "A",
    Signal.VOLTAGE: "V",
    Signal.TEMPERATURE: "degC",
    Signal.GEAR: "",
    Signal.READY: "",
    Signal.PARK_BRAKE: "",
    Signal.CHARGE_TIME: "s",
}

_UNITS: Final[Mapping[tuple[str, str], Fraction]] = {
    ("km/h", "m/s"): Fraction(5, 18),
    ("mph", "m/s"): Fraction("0.44704"),
    ("km", "m"): Fraction(1000),
    ("mi", "m"): Fraction("1609.344"),
    ("min", "s"): Fraction(60),
    ("h", "s"): Fraction(3600),
    ("mA", "A"): Fraction(1, 1000),
    ("mV", "V"): Fraction(1, 1000),
}
"""From a DBC's unit to the core's: multiply. The same unit needs no entry."""


class ModelError(ValueError):
    """A car's description cannot be used. The text names file, line where it can, and remedy. Never worth a retry."""


class _SignalEntry(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    source: str
    max_age_s: float
    valid: tuple[float, float] | None = None
    values: dict[str, float] | None = None
    not_values: tuple[int, ...] = ()
    max_step: float | None = None
    rising: bool = False
    confirm: int = 3
    unit_from: Literal["odometer_unit"] | None = None


class _MessageEntry(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    checksum: Literal["crc8_85"] | None = None
    counter: str | None = None
    frozen_after: int = 5


class _Odometer(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    resolution_m: int
    fastest_mps: float


class ChargingByCurrent(msgspec.Struct, frozen=True, forbid_unknown_fields=True, tag_field="rule", tag="current"):
    """Charging is current into the battery above ``above_a`` while standing and not in a driving gear while ready.

    Full is what follows charging when the state of charge has reached ``full_at_pct``.
    """

    above_a: float
    full_at_pct: float
    debounce_s: float


class ChargingByState(msgspec.Struct, frozen=True, forbid_unknown_fields=True, tag_field="rule", tag="charger_state"):
    """The charger says what it does: the helper ``charger_state`` has one of these numbers."""

    charging: tuple[int, ...]
    full: tuple[int, ...]
    not_charging: tuple[int, ...]
    debounce_s: float


class _File(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    bitrate: int
    sleep_after_s: float
    ignore_after_wake_s: float
    odometer: _Odometer
    signals: dict[str, _SignalEntry]
    charging: ChargingByCurrent | ChargingByState
    helpers: dict[str, _SignalEntry] = {}
    messages: dict[str, _MessageEntry] = {}


@dataclass(frozen=True, slots=True)
class BitField:
    """Where a whole number lies in a payload of the right length, and how to take it out."""

    little_endian: bool
    shift: int
    bits: int
    signed: bool

    def raw(self, payload: bytes) -> int:
        """Return the bits as an unsigned number."""
        number = int.from_bytes(payload, "little" if self.little_endian else "big")
        return number >> self.shift & (1 << self.bits) - 1

    def number(self, raw: int) -> int:
        """Return ``raw`` with its sign, if the field has one."""
        return raw - (1 << self.bits) if self.signed and raw >> self.bits - 1 else raw


@dataclass(frozen=True, slots=True)
class SignalRule:
    """One signal of a model: layout, scale into the core's unit, and what of it to believe.

    ``key`` is the lower-case name of the core's ``Signal`` (``soc``) or of a helper. Limits and steps are in the core's
    unit. ``values`` maps raw numbers to values; any other number is out of range.
    """

    key: str
    signal: Signal | None
    source: str
    field: BitField
    numerator: int
    offset: int
    denominator: int
    valid: tuple[float, float]
    values: Mapping[int, float] | None
    not_values: frozenset[int]
    max_step: float | None
    rising: bool
    confirm: int
    max_age_s: float
    unit_from: str | None

    def value(self, raw: int) -> float | None:
        """Return the value in the core's unit, correctly rounded; None for a number that ``values`` lacks."""
        if self.values is not None:
            return self.values.get(raw)
        return (self.field.number(raw) * self.numerator + self.offset) / self.denominator


@dataclass(frozen=True, slots=True)
class MessageRule:
    """One frame of a model: its length, its guards, and the signals in it."""

    name: str
    arbitration_id: int
    dlc: int
    checksum: bool
    counter: BitField | None
    frozen_after: int
    signals: tuple[SignalRule, ...]


@dataclass(frozen=True, slots=True)
class CarModel:
    """What a listener must know of one car. ``messages`` are by 11-bit id; ``rules`` by signal key."""

    name: str
    bitrate: int
    sleep_after_s: float
    ignore_after_wake_s: float
    odometer_resolution_m: int
    odometer_speed_mps: float
    charging: ChargingByCurrent | ChargingByState
    messages: Mapping[int, MessageRule]
    rules: Mapping[str, SignalRule]

    @property
    def can_filters(self) -> list[dict[str, int | bool]]:
        """Filters for python-can: exactly the model's ids, and not their 29-bit twins."""
        return [{"can_id": i, "can_mask": 0x7FF, "extended": False} for i in sorted(self.messages)]

    @property
    def dlcs(self) -> dict[int, int]:
        """Expected number of bytes of each id."""
        return {i: message.dlc for i, message in self.messages.items()}

    @classmethod
    def load(cls, name_or_path: str | Path) -> CarModel:
        """Read a model that comes with the box (``"ami"``) or a folder of one's own. Raise ``ModelError``."""
        folder = _folder(name_or_path)
        return _Loader(folder).model()


def known_models() -> list[str]:
    """Names of the models that come with the box."""
    return sorted(each.name for each in MODELS.iterdir() if (each / "model.toml").is_file())


def _folder(name_or_path: str | Path) -> Traversable:
    if isinstance(name_or_path, str) and re.fullmatch(r"[a-z0-9_-]+", name_or_path):
        shipped = MODELS / name_or_path
        if (shipped / "model.toml").is_file():
            return shipped
    folder = Path(name_or_path)
    if not (folder / "model.toml").is_file():
        names = ", ".join(known_models())
        raise ModelError(f"no car model {str(name_or_path)!r}: use one of {names}, or a folder that holds model.toml")
    return folder


class _Loader:
    """Reads one folder; every complaint goes through ``error`` so that it names its place."""

    def __init__(self, folder: Traversable) -> None:
        self.folder = folder
        self.path = folder / "model.toml"
        self.text = self._read(self.path)
        self.dbc = self._dbc()

    def _read(self, path: Traversable) -> str:
        try:
            return path.read_text(encoding="utf-8")
        except (OSError, UnicodeDecodeError) as error:
            raise ModelError(f"{path}: cannot be read ({error}); put the file there as UTF-8 text") from error

    def _dbc(self) -> Any:
        path = self.folder / "signals.dbc"
        try:
            return cantools.database.load_string(self._read(path), "dbc", strict=True)
        except (DbcError, ValueError) as error:
            raise ModelError(f"{path}: not a usable DBC ({error}); correct the line it names") from error

    def error(self, word: str, problem: str) -> ModelError:
        """Build the error for the first line of model.toml that has ``word``."""
        lines = self.text.splitlines()
        at = next((f", line {n}" for n, line in enumerate(lines, 1) if word and word in line.split("#")[0]), "")
        return ModelError(f"{self.path}{at}: {problem}")

    def _parse(self) -> _File:
        try:
            return msgspec.convert(tomllib.loads(self.text), _File)
        except tomllib.TOMLDecodeError as error:
            raise ModelError(f"{self.path}: not TOML: {error}; correct that line") from error
        except msgspec.ValidationError as error:
            text = str(error)
            unknown = re.search(r"unknown field `([^`]*)`", text)
            place = re.search(r"`\$\.?([^`]*)`$", text)
            leaf = place.group(1).split(".")[-1].split("[")[0] if place else ""
            word = unknown.group(1) if unknown else leaf
            raise self.error(word, f"{text}; hw/models/README.md lists the keys") from error

    def model(self) -> CarModel:
        """Return the whole model or raise ``ModelError``."""
        file = self._parse()
        if file.bitrate <= 0 or file.sleep_after_s <= 0 or file.ignore_after_wake_s < 0:
            raise self.error("bitrate", "bitrate and sleep_after_s must be above 0, ignore_after_wake_s not below")
        if file.odometer.resolution_m <= 0 or file.odometer.fastest_mps <= 0:
            raise self.error("odometer", "resolution_m and fastest_mps must be above 0")
        by_message: dict[str, list[SignalRule]] = {}
        rules: dict[str, SignalRule] = {}
        for name, entry in (*file.signals.items(), *file.helpers.items()):
            rule = self._rule(name, entry, helper=name in file.helpers)
            rules[rule.key] = rule
            by_message.setdefault(rule.source.partition(".")[0], []).append(rule)
        for key in {rule.unit_from for rule in rules.values() if rule.unit_from} - rules.keys():
            raise self.error("unit_from", f"unit_from names {key!r}, which [helpers] lacks: add [helpers.{key}]")
        self._check_charging(file.charging, rules)
        for name in file.messages.keys() - by_message.keys():
            raise self.error(name, f"[messages.{name}] guards a frame from which no signal is read: remove it")
        messages = [self._message(name, found, file.messages) for name, found in by_message.items()]
        return CarModel(
            name=self.folder.name,
            bitrate=file.bitrate,
            sleep_after_s=file.sleep_after_s,
            ignore_after_wake_s=file.ignore_after_wake_s,
            odometer_resolution_m=file.odometer.resolution_m,
            odometer_speed_mps=file.odometer.fastest_mps,
            charging=file.charging,
            messages={message.arbitration_id: message for message in messages},
            rules=rules,
        )

    def _check_charging(self, rule: ChargingByCurrent | ChargingByState, rules: Mapping[str, SignalRule]) -> None:
        needed = {CHARGER_STATE} if isinstance(rule, ChargingByState) else {"current", "speed", "soc"}
        if missing := sorted(needed - rules.keys()):
            raise self.error("[charging]", f"the charging rule needs {', '.join(missing)}: describe it in this file")

    def _source(self, source: str) -> tuple[Any, Any]:
        """Return cantools' message and signal of ``Message.Signal``."""
        message_name, _, signal_name = source.partition(".")
        try:
            message = self.dbc.get_message_by_name(message_name)
            return message, message.get_signal_by_name(signal_name)
        except KeyError as error:
            known = ", ".join(f"{m.name}.{s.name}" for m in self.dbc.messages for s in m.signals)
            raise self.error(f'"{source}"', f"signals.dbc has no {source!r}: use one of {known}") from error

    def _rule(self, name: str, entry: _SignalEntry, *, helper: bool) -> SignalRule:
        signal = None if helper else self._vss(name)
        if helper and name not in HELPERS:
            raise self.error(name, f"unknown helper {name!r}: there are {', '.join(HELPERS)}")
        message, layout = self._source(entry.source)
        factor = Fraction(1) if signal is None else self._factor(name, signal, str(layout.unit or ""))
        values = self._values(name, entry)
        scale, offset = Fraction(str(layout.scale)) * factor, Fraction(str(layout.offset)) * factor
        denominator = lcm(scale.denominator, offset.denominator)
        low, high = entry.valid if entry.valid is not None else (0.0, 0.0)
        if not all(map(isfinite, (low, high, entry.max_age_s, entry.max_step or 0))):
            raise self.error(name, f"{name}: numbers must be finite")
        if low > high or entry.max_age_s <= 0 or entry.confirm < 1 or (entry.max_step or 0) < 0:
            raise self.error(name, "valid goes from low to high, max_age_s and confirm are above 0, max_step not below")
        if scale <= 0:
            raise self.error(f'"{entry.source}"', f"signals.dbc gives {entry.source!r} a scale that is not above 0")
        return SignalRule(
            key=name if signal is None else signal.name.lower(),
            signal=signal,
            source=entry.source,
            field=_bit_field(message, layout),
            numerator=int(scale * denominator),
            offset=int(offset * denominator),
            denominator=denominator,
            valid=(float(Fraction(str(low)) * factor), float(Fraction(str(high)) * factor)),
            values=values,
            not_values=frozenset(entry.not_values),
            max_step=None if entry.max_step is None else float(Fraction(str(entry.max_step)) * factor),
            rising=entry.rising,
            confirm=entry.confirm,
            max_age_s=entry.max_age_s,
            unit_from=entry.unit_from,
        )

    def _vss(self, name: str) -> Signal:
        try:
            return Signal(name)
        except ValueError as error:
            known = ", ".join(signal.value for signal in Signal)
            raise self.error(name, f"unknown signal {name!r}: use one of {known}") from error

    def _factor(self, name: str, signal: Signal, unit: str) -> Fraction:
        wanted = _CORE_UNIT[signal]
        if unit == wanted:
            return Fraction(1)
        if factor := _UNITS.get((unit, wanted)):
            return factor
        fitting = ", ".join(repr(u) for u in [wanted, *(a for a, b in _UNITS if b == wanted)])
        raise self.error(name, f"unit {unit!r} in signals.dbc does not fit {name}: it must be one of {fitting}")

    def _values(self, name: str, entry: _SignalEntry) -> dict[int, float] | None:
        if (entry.values is None) == (entry.valid is None):
            raise self.error(name, f"{name} needs either valid = [low, high] or values = {{ raw = value }}")
        if entry.values is None:
            return None
        try:
            return {int(raw): value for raw, value in entry.values.items()}
        except ValueError as error:
            raise self.error(name, f"values of {name}: the left side must be a whole number") from error

    def _message(self, name: str, rules: list[SignalRule], guards: Mapping[str, _MessageEntry]) -> MessageRule:
        message = self.dbc.get_message_by_name(name)
        guard = guards.get(name, _MessageEntry())
        if message.is_extended_frame or message.frame_id > 0x7FF:
            raise self.error(name, f"{name} has a 29-bit id in signals.dbc: only 11-bit ids are read")
        counter = None
        if guard.counter is not None:
            counter = _bit_field(*self._source(f"{name}.{guard.counter}"))
        if guard.frozen_after < 2:
            raise self.error("frozen_after", "frozen_after must be 2 or more: one repeated frame is ordinary")
        checksum = guard.checksum is not None
        return MessageRule(name, message.frame_id, message.length, checksum, counter, guard.frozen_after, tuple(rules))


def _bit_field(message: Any, layout: Any) -> BitField:
    """Turn a DBC's start bit into a shift. A DBC names a Motorola field's highest bit, an Intel field's lowest."""
    if layout.byte_order == "little_endian":
        return BitField(little_endian=True, shift=layout.start, bits=layout.length, signed=layout.is_signed)
    highest = 8 * message.length - 1 - (8 * (layout.start // 8) + 7 - layout.start % 8)
    return BitField(little_endian=False, shift=highest - layout.length + 1, bits=layout.length, signed=layout.is_signed)
