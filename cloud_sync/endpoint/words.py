"""What is said to a person: in French, then in English."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from typing import TypeVar

Said = TypeVar("Said")


def in_both(words: Mapping[Said, tuple[str, str]], found: Iterable[Said]) -> str:
    """Return the sentences of ``found``, by a table of French and English ones."""
    french, english = zip(*(words[each] for each in found), strict=True)
    return f"{' '.join(french)} / {' '.join(english)}"
