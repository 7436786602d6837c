"""What the town hall prints (sheet, label, slip), as SVG in millimetres: lines of text that fit, whatever they say."""

from __future__ import annotations

import html
import re
from collections.abc import Sequence
from typing import Final

POINT_MM: Final = 25.4 / 72
SMALLEST_PT: Final = 14
"""For whoever has no glasses on."""
LETTER: Final = 0.52
BOLD_LETTER: Final = 0.61
"""Width of a letter in its size, on the average of a line and with room to spare, in any of ``FONT``."""
FONT: Final = 'font-family="DejaVu Sans Condensed, Arial Narrow, Arial, sans-serif"'
NO_BREAK: Final = "\u00a0"


def width_mm(text: str, size_pt: float, *, bold: bool = False) -> float:
    """Return how wide a line is at most."""
    return len(text) * size_pt * POINT_MM * (BOLD_LETTER if bold else LETTER)


def french(text: str) -> str:
    """Keep French punctuation with its word, and a number with what it counts (no line is cut there); ’ for '."""
    text = text.replace("'", "’")
    text = re.sub(r" ([?!;:»])", NO_BREAK + r"\1", text).replace("« ", "«" + NO_BREAK)
    return re.sub(r"(\d) (?=\w)", r"\1" + NO_BREAK, text)


def wrapped(text: str, room_mm: float, size_pt: float) -> list[str]:
    """Cut a text into lines that fit. ValueError for a word that doesn't."""
    lines: list[str] = []
    for word in french(text).split(" "):
        longer = f"{lines[-1]} {word}" if lines else word
        if width_mm(word, size_pt) > room_mm:
            raise ValueError(f"{word!r} is too long for {room_mm:g} mm")
        if lines and width_mm(longer, size_pt) <= room_mm:
            lines[-1] = longer
        else:
            lines.append(word)
    return lines


def fitting_pt(text: str, room_mm: float, largest_pt: float, *, bold: bool = True) -> float:
    """Return the largest size, up to ``largest_pt``, in which a line fits.

    ValueError: it would be less than 14 pt, or there is nothing to be read.
    """
    if not text.strip():
        raise ValueError("there is nothing to be read on it: the number to call is wanted")
    size_pt = min(largest_pt, largest_pt * room_mm / max(width_mm(text, largest_pt, bold=bold), 0.1))
    if size_pt < SMALLEST_PT:
        letters = int(room_mm / width_mm("n", SMALLEST_PT, bold=bold))
        raise ValueError(f"{text!r} is too long to be read on it: {letters} letters at most")
    return size_pt


def line(x_mm: float, y_mm: float, size_pt: float, text: str, *, bold: bool = False, middle: bool = False) -> str:
    """Return one line of text, its baseline at ``y_mm``; ``middle``: centred on ``x_mm``."""
    anchor = ' text-anchor="middle"' if middle else ""
    weight = ' font-weight="bold"' if bold else ""
    words = html.escape(french(text), quote=False)
    return f'<text x="{x_mm:g}" y="{y_mm:g}" font-size="{size_pt * POINT_MM:.2f}"{weight}{anchor}>{words}</text>'


def rule(left_mm: float, right_mm: float, y_mm: float) -> str:
    """Return a thin line across."""
    return f'<line x1="{left_mm:g}" y1="{y_mm:g}" x2="{right_mm:g}" y2="{y_mm:g}" stroke="#000" stroke-width="0.4"/>'


def page(width: float, height: float, parts: Sequence[str]) -> str:
    """Return a page with a frame, in mm."""
    size = f'width="{width:g}mm" height="{height:g}mm"'
    frame = f'<rect x="0.5" y="0.5" width="{width - 1:g}" height="{height - 1:g}" rx="3"'
    return "\n".join(
        (
            f'<svg xmlns="http://www.w3.org/2000/svg" {size} viewBox="0 0 {width:g} {height:g}" {FONT}>',
            f'{frame} fill="#fff" stroke="#000" stroke-width="0.4"/>',
            *parts,
            "</svg>\n",
        )
    )
