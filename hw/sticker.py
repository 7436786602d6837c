"""``make sticker``: how to use a card, and the five answers, as a sheet for the windscreen (``docs/cards.md``).

What is heard is read off ``hw.door.PATTERNS``, so that the sheet cannot say another thing than the car.
"""

from __future__ import annotations

import argparse
import sys
from dataclasses import dataclass
from pathlib import Path
from typing import Final

from hw.door import PATTERNS
from hw.paper import SMALLEST_PT, fitting_pt, line, page, rule, wrapped
from onboard.core.commands import Pattern

LONG_S: Final = 0.4
"""From this on a sound is long: two sorts are told apart in the rain, not three."""
NUMBERS: Final = {1: "un", 2: "deux", 3: "trois", 4: "quatre"}
WIDTH_MM, HEIGHT_MM = 148.0, 210.0
"""A5: at 14 points all of it fits, with air between."""
LEFT_MM: Final = 8.0
ROOM_MM: Final = WIDTH_MM - 2 * LEFT_MM
LINE_MM: Final = 6.0
HELP_MM: Final = 196.0

USE: Final = """\
Tenez votre carte ici une seconde, sans bouger. Un passage ouvre la voiture, le suivant la ferme à clé.
Fermez-la à la station de retour : la location est terminée. Ailleurs, elle continue ; pour la terminer, repassez la \
carte dans les 20 secondes."""


@dataclass(frozen=True, slots=True)
class Meaning:
    """What an answer means, in the words of the sheet."""

    answer: str
    todo: str


MEANINGS: Final[dict[Pattern, Meaning]] = {
    Pattern.GRANTED: Meaning("C'est bon", "La porte s'ouvre ou se ferme à clé."),
    Pattern.TRY_AGAIN: Meaning("Réessayez", "Carte immobile ? Pas trop tôt ? Clé du moteur rangée ?"),
    Pattern.ONE_CARD: Meaning("Une seule carte", "Sortez-la du portefeuille."),
    Pattern.DENIED: Meaning("Non", "Pas de réservation en ce moment, ou carte bloquée."),
    Pattern.OUT_OF_ORDER: Meaning("En panne", "Appelez la mairie."),
}
"""In the order of the sheet: what people hear most comes first."""


def heard(pattern: Pattern) -> str:
    """Return what a pattern sounds like, in French words; the light does the same."""
    sounds = [step.lasts_s for step in PATTERNS[pattern] if step.sound]
    if any(step.sound and not step.light for step in PATTERNS[pattern]):
        raise ValueError(f"{pattern.value} has a sound without light: who can't hear would miss it")
    kinds = {lasts_s >= LONG_S for lasts_s in sounds}
    if len(kinds) != 1:
        raise ValueError(f"{pattern.value} mixes long and short sounds: there is no word for it")
    one, many = ("long bip", "longs bips") if kinds.pop() else ("bip court", "bips courts")
    return f"{NUMBERS[len(sounds)]} {one if len(sounds) == 1 else many}"


def sheet(phone: str) -> str:
    """Return the sheet as SVG, 148 × 210 mm (A5), with the number to call. ValueError for one that doesn't fit."""
    parts, y_mm = [line(WIDTH_MM / 2, 20, 32, "Votre carte ici", bold=True, middle=True)], 32.0
    for text in USE.splitlines():
        for each in wrapped(text, ROOM_MM, SMALLEST_PT):
            parts.append(line(LEFT_MM, y_mm, SMALLEST_PT, each))
            y_mm += LINE_MM
        y_mm += 2.0
    parts.append(rule(LEFT_MM, WIDTH_MM - LEFT_MM, y_mm))
    y_mm += LINE_MM + 3.0
    for pattern, meaning in MEANINGS.items():
        sound = heard(pattern)
        parts.append(line(LEFT_MM, y_mm, 16, f"{sound[0].upper()}{sound[1:]} : {meaning.answer}", bold=True))
        for each in wrapped(meaning.todo, ROOM_MM, SMALLEST_PT):
            y_mm += LINE_MM
            parts.append(line(LEFT_MM, y_mm, SMALLEST_PT, each))
        y_mm += LINE_MM + 3.0
    parts.append(line(LEFT_MM, y_mm, SMALLEST_PT, "La lumière s'allume avec chaque bip."))
    if y_mm > HELP_MM - 16:
        raise ValueError("the sheet is full: fewer words")
    if not phone.strip():
        raise ValueError("the sheet says whom to call: a number is wanted")
    told = f"Aide : {phone}"
    parts.append(rule(LEFT_MM, WIDTH_MM - LEFT_MM, HELP_MM - 14))
    parts.append(line(WIDTH_MM / 2, HELP_MM, fitting_pt(told, ROOM_MM, 30), told, bold=True, middle=True))
    return page(WIDTH_MM, HEIGHT_MM, parts)


def main(argv: list[str] | None = None) -> int:
    """Write the sheet; return the exit code."""
    parser = argparse.ArgumentParser(prog="make sticker", description="The sheet for the windscreen.")
    parser.add_argument("--phone", required=True, help="the number to call, as it is to be printed")
    parser.add_argument("--out", type=Path, required=True, metavar="FILE.svg")
    args = parser.parse_args(argv)
    try:
        drawing = sheet(args.phone)
    except ValueError as error:
        sys.stderr.write(f"make sticker: {error}\n")
        return 2
    args.out.parent.mkdir(parents=True, exist_ok=True)
    args.out.write_text(drawing)
    sys.stdout.write(f"{args.out}: 148 × 210 mm (A5). Print it without scaling.\n")
    return 0


if __name__ == "__main__":
    sys.exit(main())
