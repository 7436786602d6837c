"""An input of the fuzzer taken apart into choices, and values changed by them.

Every input means something: one that ends early goes on with zeros, so that cutting an input keeps its beginning.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any, Final, TypeVar

T = TypeVar("T")

Path = tuple[Any, ...]
"""Keys and indices that lead from a tree's root to one of its values."""

_NUMBERS: Final = (0, 1, -1, 23, 24, 255, 256, 65_535, 65_536, 2**31 - 1, 2**31, 2**40, 2**53 + 1, 2**63 - 1, 2**63)
_FLOATS: Final = (0.0, -0.0, 1.0, -1.0, 1e308, -1e308, float("inf"), float("-inf"), float("nan"), 5e-324, 1e15, 1e10)
_LENGTHS: Final = (0, 1, 7, 8, 16, 32, 33, 64, 256, 257)
_REPEATED_MAX: Final = 16
HALF: Final = "\ud800"
"""Half a character: JSON can say it, UTF-8 can't."""
_TEXTS: Final = ("", "a", "hede-1", "locked", "é", "\x00", "a" * 33, "ü" * 129, "\u202e", "😀", " ")


class Feed:
    """Reads choices off an input."""

    def __init__(self, data: bytes) -> None:
        self._data = data
        self._at = 0

    @property
    def left(self) -> int:
        """How many bytes are left."""
        return max(0, len(self._data) - self._at)

    def take(self, count: int) -> bytes:
        """Return the next bytes, fewer at the end."""
        found = self._data[self._at : self._at + count]
        self._at += count
        return found

    def rest(self) -> bytes:
        """Return all that is left."""
        return self.take(self.left)

    def number(self, width: int = 1) -> int:
        """Return the next ``width`` bytes as a number."""
        return int.from_bytes(self.take(width).ljust(width, b"\0"), "big")

    def below(self, count: int) -> int:
        """Return a number below ``count``, which is at most 65,536."""
        return self.number(1 if count <= 256 else 2) % count

    def pick(self, choices: Sequence[T]) -> T:
        """Return one of the choices."""
        return choices[self.below(len(choices))]

    def some(self) -> bytes:
        """Return the next bytes, their number given by the first."""
        return self.take(self.number())

    def words(self) -> str:
        """Return text out of the next bytes, or one that has proven awkward."""
        choice = self.number()
        return _TEXTS[choice % len(_TEXTS)] if choice & 1 else self.some().decode("utf-8", "replace")


def changed(value: Any, feed: Feed, *, keys: Callable[[Feed], Any], binary: bool = True) -> Any:
    """Return a copy of a tree of maps, arrays and plain values, changed in up to four places that the feed chooses.

    ``keys`` makes the key of a field that nobody knows; ``binary``: bytes may be in it (CBOR), or not (JSON).
    """
    for _ in range(feed.below(5)):
        places = list(_places(value))
        value = _replaced(value, feed.pick(places), feed, keys, binary=binary)
    return value


def cbor_key(feed: Feed) -> int:
    """Return a key for a CBOR map: known, unknown, or critical."""
    return feed.number() - 64


def _places(value: Any, at: Path = ()) -> list[Path]:
    found = [at]
    items = value.items() if isinstance(value, dict) else enumerate(value) if isinstance(value, list) else ()
    for key, item in items:
        found += _places(item, (*at, key))
    return found


def _replaced(value: Any, at: Path, feed: Feed, keys: Callable[[Feed], Any], *, binary: bool) -> Any:
    if not at:
        return _altered(value, feed, keys, binary=binary)
    copy = dict(value) if isinstance(value, dict) else list(value)
    if len(at) == 1 and feed.below(5) == 4:
        del copy[at[0]]
    else:
        copy[at[0]] = _replaced(value[at[0]], at[1:], feed, keys, binary=binary)
    return copy


def _altered(value: Any, feed: Feed, keys: Callable[[Feed], Any], *, binary: bool) -> Any:
    """Return another value: near the old one, or of another sort."""
    how = feed.below(8)
    if how >= 5:
        return _anything(feed, binary=binary)
    match value:
        case bool():
            return not value
        case int():
            return feed.pick((value + 1, value - 1, -value, feed.number(8), feed.pick(_NUMBERS)))
        case float():
            return feed.pick((-value, value * 2, value + 1, feed.pick(_FLOATS)))
        case str():
            return feed.pick((feed.words(), value + feed.words(), value[:-1], value.upper(), value * 2))
        case bytes():
            at = feed.below(len(value) + 1)
            return feed.pick((value[:at], value[:at] + feed.some() + value[at + 1 :], value + b"\0", feed.some()))
        case list():
            more = [value[feed.below(len(value))]] if value else [_anything(feed, binary=binary)]
            many = value * (1 + feed.below(64)) if len(value) < _REPEATED_MAX else value
            return feed.pick((value + more, value[1:], many, list(reversed(value)), more))
        case dict():
            return {**value, keys(feed): _anything(feed, binary=binary)}
        case _:
            return _anything(feed, binary=binary)


def _anything(feed: Feed, *, binary: bool) -> Any:
    sort = feed.below(9)
    if sort == 0 and binary:
        return feed.some()
    if sort == 1 and binary:
        return bytes(feed.pick(_LENGTHS))
    plain: tuple[Callable[[], Any], ...] = (
        lambda: None,
        lambda: bool(feed.below(2)),
        lambda: feed.pick(_NUMBERS),
        lambda: feed.pick(_FLOATS),
        feed.words if binary or feed.below(8) else lambda: HALF,
        list,
        dict,
    )
    return feed.pick(plain)()
