"""The edges of each type of field that a document has, and how a field is changed in a copy."""

from __future__ import annotations

import copy
from collections.abc import Callable
from enum import IntEnum, StrEnum
from typing import Any

from cloud_sync.documents import Reason, Refused
from cloud_sync.documents.schema import MAX_COUNT

Edges = tuple[str, list[Any], list[Any]]
"""What is said of a wrong value, values that are just right, and values that are just wrong."""


def uint(high: int = MAX_COUNT, low: int = 0) -> Edges:
    return f"an integer from {low} to {high} is wanted", [low, high], [low - 1, high + 1, True, 1.0, "1"]


def number(low: float, high: float) -> Edges:
    beyond = [low - 1.0, high + max(1.0, high / 1e6), float("nan"), 1]
    return f"a float from {low:g} to {high:g} is wanted", [low, high], beyond


def octets(*lengths: int) -> Edges:
    wrong = [bytes(size) for size in {each + step for each in lengths for step in (-1, 1)} - set(lengths)]
    return f"{' or '.join(map(str, lengths))} bytes are wanted", [bytes(each) for each in lengths], [*wrong, "x"]


def short(low: int, high: int) -> Edges:
    return (
        f"{low} to {high} bytes are wanted",
        [bytes(low), bytes(high)],
        [*([bytes(low - 1)] if low else []), bytes(high + 1), 1],
    )


def text(high: int = 256, low: int = 0) -> Edges:
    wrong = [*([""] if low else []), "x" * (high + 1), "é" * (high // 2) + "xx", b"x"]
    return f"text of {low} to {high} bytes is wanted", ["x" * low, "x" * high, "é" * (high // 2)], wrong


def flag() -> Edges:
    return "true or false is wanted", [True, False], [0, 1, "true"]


def word(kind: type[StrEnum]) -> Edges:
    return f"one of {', '.join(kind)} is wanted", [each.value for each in kind], ["nothing", ""]


def code(kind: type[IntEnum]) -> Edges:
    return "not one of the known numbers", [int(each) for each in kind], [max(kind) + 1]


def array(most: int, item: Any, least: int = 0) -> Edges:
    wrong: list[Any] = [*([[]] if least else []), [item] * (most + 1), {}]
    return f"an array of {least} to {most} is wanted", [[item] * least, [item] * most], wrong


def put(value: Any, at: tuple[Any, ...], new: Any) -> Any:
    """Return a copy of a tree with another value at one place."""
    if not at:
        return new
    made = copy.copy(value)
    made[at[0]] = put(made[at[0]], at[1:], new) if at[1:] or (isinstance(made, list) or at[0] in made) else new
    return made


def schema_says(read: Callable[[Any], Any], value: Any) -> str:
    """Return what is wrong with the shape of a document; "" for nothing, whatever its meaning."""
    try:
        read(value)
    except Refused as refused:
        return refused.detail if refused.reason is Reason.BAD_SCHEMA else ""
    return ""
