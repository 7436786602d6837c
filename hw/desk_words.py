"""What an agent may type after ``amibox card``: each returns what it means, or says in words why it means nothing."""

from __future__ import annotations

import argparse
from typing import Final

NUMBER_END: Final = 2**31
"""As the endpoint has it."""
CODE_DIGITS: Final = 8
NAME_MAX: Final = 80
WAIT_MAX_S: Final = 600.0


def number(text: str) -> int:
    """Return a card's printed number."""
    if text.isascii() and text.isdecimal() and len(text) <= len(str(NUMBER_END)) and 0 < int(text) < NUMBER_END:
        return int(text)
    raise argparse.ArgumentTypeError(f"{text[:40]!r} is no number of a card: 1, 2, 3 and so on, as printed on it")


def code(text: str) -> str:
    """Return the code that blocks a card, without spaces."""
    digits = "".join(text.split())
    if len(digits) != CODE_DIGITS or not (digits.isascii() and digits.isdecimal()):
        raise argparse.ArgumentTypeError(f"{text[:40]!r} is no code: it has eight digits, as on the slip")
    return digits


def name(text: str) -> str:
    """Return whom a card is lent to."""
    if not text.strip() or len(text) > NAME_MAX or not text.isprintable():
        raise argparse.ArgumentTypeError(f"a name is wanted, on one line of at most {NAME_MAX} letters")
    return text


def wait_s(text: str) -> float:
    """Return how long to wait, in seconds."""
    try:
        seconds = float(text)
    except ValueError:
        seconds = -1.0
    if not 0 <= seconds <= WAIT_MAX_S:
        raise argparse.ArgumentTypeError(f"{text[:40]!r}: 0 to {WAIT_MAX_S:g} seconds are wanted")
    return seconds
