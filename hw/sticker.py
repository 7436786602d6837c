"""``make sticker``: the five answers of light and sound, as a sheet for the windscreen. ``docs/cards.md`` has them too.

What is heard is read off ``hw.door.PATTERNS``, so that the sheet cannot say another thing than the car.
"""

from __future__ import annotations

import argparse
import html
import sys
from dataclasses import dataclass
from pathlib import Path
from textwrap import wrap
from typing import Final

from hw.door import PATTERNS
from onboard.core.commands import Pattern

LONG_S: Final = 0.4
"""From this on a sound is long: two sorts are told apart in the rain, not three."""
NUMBERS: Final = {1: "un", 2: "deux", 3: "trois", 4: "quatre"}
POINT_MM: Final = 25.4 / 72
SMALLEST_PT: Final = 14
LINE_LETTERS: Final = 34
"""Of the smallest size, on this sheet."""
LINE_MM: Final = 6.0
FONT: Final = 'font-family="DejaVu Sans Condensed, Arial Narrow, Arial, sans-serif"'


@dataclass(frozen=True, slots=True)
class Meaning:
    """What an answer means, in the words of the sheet."""

    answer: str
    todo: str


MEANINGS: Final[dict[Pattern, Meaning]] = {
    Pattern.GRANTED: Meaning("C'est bon", "La porte s'ouvre ou se ferme à clé."),
    Pattern.TRY_AGAIN: Meaning("Encore une fois", "Tenez la carte immobile. Trop tôt ? Attendez votre heure."),
    Pattern.ONE_CARD: Meaning("Une seule carte", "Sortez-la du portefeuille."),
    Pattern.DENIED: Meaning("Non", "Pas de réservation en ce moment, ou carte bloquée."),
    Pattern.OUT_OF_ORDER: Meaning("En panne", "Appelez la mairie."),
}
"""In the order of the sheet: what people hear most comes first."""


def heard(pattern: Pattern) -> str:
    """Return what a pattern sounds like, in French words."""
    sounds = [step.lasts_s for step in PATTERNS[pattern] if step.sound]
    kinds = {lasts_s >= LONG_S for lasts_s in sounds}
    if len(kinds) != 1:
        raise ValueError(f"{pattern.value} mixes long and short sounds: there is no word for it")
    one, many = ("long bip", "longs bips") if kinds.pop() else ("bip court", "bips courts")
    return f"{NUMBERS[len(sounds)]} {one if len(sounds) == 1 else many}"


def sheet(phone: str) -> str:
    """Return the sheet as SVG, 105 × 148 mm (A6), with the number to call."""
    rows, y_mm = [], 44.0
    for pattern, meaning in MEANINGS.items():
        rows.append(_text(6, y_mm, SMALLEST_PT, f"{heard(pattern)} : {meaning.answer}", bold=True))
        for line in wrap(meaning.todo, LINE_LETTERS):
            y_mm += LINE_MM
            rows.append(_text(6, y_mm, SMALLEST_PT, line))
        y_mm += LINE_MM + 4.0
    return "\n".join(
        (
            f'<svg xmlns="http://www.w3.org/2000/svg" width="105mm" height="148mm" viewBox="0 0 105 148" {FONT}>',
            '<rect x="1" y="1" width="103" height="146" rx="4" fill="#fff" stroke="#000" stroke-width="0.6"/>',
            _text(52.5, 14, 28, "Votre carte ici", bold=True, middle=True),
            _text(52.5, 23, SMALLEST_PT, "Une seconde, sans bouger.", middle=True),
            _text(52.5, 31, SMALLEST_PT, "Encore une fois pour fermer à clé.", middle=True),
            '<line x1="6" y1="36" x2="99" y2="36" stroke="#000" stroke-width="0.4"/>',
            *rows,
            '<line x1="6" y1="130" x2="99" y2="130" stroke="#000" stroke-width="0.4"/>',
            _text(52.5, 140, 22, f"Aide : {phone}", bold=True, middle=True),
            "</svg>\n",
        )
    )


def _text(x_mm: float, y_mm: float, size_pt: float, text: str, *, bold: bool = False, middle: bool = False) -> str:
    anchor = ' text-anchor="middle"' if middle else ""
    weight = ' font-weight="bold"' if bold else ""
    size = f"{size_pt * POINT_MM:.2f}"
    words = html.escape(text[0].upper() + text[1:], quote=False)
    return f'<text x="{x_mm:g}" y="{y_mm:g}" font-size="{size}"{weight}{anchor}>{words}</text>'


def main(argv: list[str] | None = None) -> int:
    """Write the sheet; return the exit code."""
    parser = argparse.ArgumentParser(prog="make sticker", description="The sheet for the windscreen.")
    parser.add_argument("--phone", required=True, help="the number to call, as it is to be printed")
    parser.add_argument("--out", type=Path, required=True, metavar="FILE.svg")
    args = parser.parse_args(argv)
    args.out.parent.mkdir(parents=True, exist_ok=True)
    args.out.write_text(sheet(args.phone))
    sys.stdout.write(f"{args.out}: 105 × 148 mm. Print it without scaling.\n")
    return 0


if __name__ == "__main__":
    sys.exit(main())
