"""Inputs made from others by plain Python, the same for the same seed: what ``make test`` looks at."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from random import Random
from typing import Final

_EDGES: Final = (b"\0", b"\x01", b"\x7f", b"\x80", b"\xff", b"\xff\xff", b"\r", b"\n", b"$", b"{", b"9" * 40)


def mutations(seeds: Sequence[bytes], count: int, seed: int, bytes_max: int) -> Iterator[bytes]:
    """Yield ``count`` inputs, each a seed that was changed some times."""
    chance = Random(seed)  # noqa: S311 - repeatable, guards nothing
    for _ in range(count):
        data = bytearray(chance.choice(seeds))
        for _ in range(chance.choice((1, 1, 2, 4, 8))):
            _change(data, chance, seeds)
        yield bytes(data[:bytes_max])


def _change(data: bytearray, chance: Random, seeds: Sequence[bytes]) -> None:
    at = chance.randrange(len(data) + 1)
    match chance.randrange(7):
        case 0:
            data[at : at + 1] = bytes((chance.randrange(256),))
        case 1:
            if data:
                data[at - 1] ^= 1 << chance.randrange(8)
        case 2:
            del data[at : at + chance.choice((1, 2, 8, 64))]
        case 3:
            data[at:at] = chance.choice(_EDGES)
        case 4:
            data[at:at] = data[at : at + chance.randrange(1, 33)]
        case 5:
            other = chance.choice(seeds)
            cut = chance.randrange(len(other) + 1)
            data[at:] = other[cut:]
        case _:
            data[at : at + 2] = chance.randbytes(2)
