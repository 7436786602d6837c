"""Reading a document's map: each field once, with its type, length and range; what is left decides by its sign.

An unknown key of 0 and above is ignored (a newer sender may say more). An unknown negative key is critical: it changes
the meaning of the rest, so the whole document is refused.
"""

from __future__ import annotations

from collections.abc import Callable
from enum import IntEnum, StrEnum
from typing import Any, Final, TypeVar

from cloud_sync.documents.kinds import Reason, Refused

T = TypeVar("T")
S = TypeVar("S", bound=StrEnum)
I = TypeVar("I", bound=IntEnum)  # noqa: E741 - the pair of S

MAX_TIME_S: Final = 2**40
MAX_COUNT: Final = 2**63 - 1
"""Counters, versions and sequence numbers fit a database's signed 64-bit integer."""
MAX_TEXT_BYTES: Final = 256


def bad(where: str, what: str) -> Refused:
    """Return the refusal for a field that has the wrong type, length or range."""
    return Refused(Reason.BAD_SCHEMA, f"{where}: {what}")


def uint(value: Any, where: str, high: int = MAX_COUNT, low: int = 0) -> int:
    """Return an integer in [``low``, ``high``]; ``bool`` is none."""
    if type(value) is not int or not low <= value <= high:
        raise bad(where, f"an integer from {low} to {high} is wanted")
    return value


def number(value: Any, where: str, low: float = -1e15, high: float = 1e15) -> float:
    """Return a float in [``low``, ``high``]; never NaN, which no bound holds. An integer on the wire is no float."""
    if type(value) is not float or not low <= value <= high:
        raise bad(where, f"a float from {low:g} to {high:g} is wanted")
    return value


def octets(value: Any, where: str, *lengths: int) -> bytes:
    """Return bytes of one of the given lengths."""
    if type(value) is not bytes or len(value) not in lengths:
        raise bad(where, f"{' or '.join(map(str, lengths))} bytes are wanted")
    return value


def short_octets(value: Any, where: str, low: int, high: int) -> bytes:
    """Return bytes of a length in [``low``, ``high``]."""
    if type(value) is not bytes or not low <= len(value) <= high:
        raise bad(where, f"{low} to {high} bytes are wanted")
    return value


def text(value: Any, where: str, high: int = MAX_TEXT_BYTES, low: int = 0) -> str:
    """Return text of at most ``high`` bytes in UTF-8."""
    if type(value) is not str or not low <= len(value.encode()) <= high:
        raise bad(where, f"text of {low} to {high} bytes is wanted")
    return value


def cut(value: str, most: int = MAX_TEXT_BYTES) -> str:
    """Return text for writing, cut to ``most`` bytes in UTF-8 between two characters."""
    return value.encode(errors="replace")[:most].decode(errors="ignore")


def flag(value: Any, where: str) -> bool:
    """Return true or false."""
    if type(value) is not bool:
        raise bad(where, "true or false is wanted")
    return value


def word(value: Any, where: str, kind: type[S]) -> S:
    """Return the member of ``kind`` whose value this text is."""
    try:
        return kind(text(value, where))
    except ValueError:
        raise bad(where, f"one of {', '.join(kind)} is wanted") from None


def code(value: Any, where: str, kind: type[I]) -> I:
    """Return the member of ``kind`` with this number."""
    try:
        return kind(uint(value, where))
    except ValueError:
        raise bad(where, "not one of the known numbers") from None


def items(value: Any, where: str, most: int, read: Callable[[Any, str], T], least: int = 0) -> tuple[T, ...]:
    """Return an array of ``least`` to ``most`` items, each taken by ``read``."""
    if type(value) is not list or not least <= len(value) <= most:
        raise bad(where, f"an array of {least} to {most} is wanted")
    return tuple(read(item, f"{where}[{index}]") for index, item in enumerate(value))


def point(value: Any, where: str) -> bytes:
    """Return a compressed P-256 point by its form; whether it is on the curve shows when the key is used."""
    found = octets(value, where, 33)
    if found[0] not in (2, 3):
        raise bad(where, "no compressed P-256 key")
    return found


def vehicle_id(value: Any, where: str = "vehicle") -> str:
    """Return a vehicle id: 1 to 32 of ``a-z 0-9 -``. It goes into topics, so nothing else may be in it."""
    found = text(value, where, 32, 1)
    if not all("a" <= letter <= "z" or "0" <= letter <= "9" or letter == "-" for letter in found):
        raise bad(where, "1 to 32 of a-z 0-9 - are wanted")
    return found


class Fields:
    """One map of a document. ``need`` and ``may`` take a field out; ``done`` judges what is left."""

    def __init__(self, value: Any, where: str) -> None:
        """Raise ``Refused`` unless ``value`` is a map whose keys are integers."""
        if type(value) is not dict or not all(type(key) is int for key in value):
            raise bad(where, "a map with integer keys is wanted")
        self._left: dict[int, Any] = dict(value)
        self._where = where

    def need(self, key: int, name: str, read: Callable[..., T], *bounds: Any) -> T:
        """Return the field, or raise ``Refused``."""
        if key not in self._left:
            raise bad(f"{self._where}.{name}", f"missing (key {key})")
        return read(self._left.pop(key), f"{self._where}.{name}", *bounds)

    def may(self, key: int, name: str, read: Callable[..., T], *bounds: Any) -> T | None:
        """Return the field, or None where it is absent. There is no null: absence has one form."""
        return self.need(key, name, read, *bounds) if key in self._left else None

    def done(self) -> None:
        """Raise ``Refused`` if a critical key is left."""
        critical = sorted(key for key in self._left if key < 0)
        if critical:
            raise Refused(Reason.CRITICAL_KEY, f"{self._where}: {critical[-1]}")


def filled(values: dict[int, Any]) -> dict[int, Any]:
    """Return ``values`` without the absent ones."""
    return {key: value for key, value in values.items() if value is not None}
