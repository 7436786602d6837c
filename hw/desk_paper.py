"""What goes with a card, on paper: the label that is stuck on it, and the slip with the code that blocks it."""

from __future__ import annotations

from hw.paper import SMALLEST_PT, fitting_pt, line, page, wrapped

LABEL_MM = (54.0, 25.0)
"""Fits on a card of 85.6 × 54 mm, across."""
SLIP_MM = (105.0, 74.0)
"""A7, on its side."""


def label(number: int, phone: str) -> str:
    """Return a card's label as SVG. ValueError for what doesn't fit."""
    width, height = LABEL_MM
    room = width - 6
    name = f"Carte AMI {number}"
    return page(
        width,
        height,
        (
            line(width / 2, 9.5, fitting_pt(name, room, 21), name, bold=True, middle=True),
            line(width / 2, 16, SMALLEST_PT, "Trouvée ? Appelez", middle=True),
            line(width / 2, 22, fitting_pt(phone, room, 16), phone, bold=True, middle=True),
        ),
    )


def slip(number: int, code: str, phone: str, address: str) -> str:
    """Return the slip that its holder keeps at home. ``address``: where the card is blocked, "" for nowhere."""
    width, height = SLIP_MM
    room = width - 12
    name = f"Votre carte AMI n° {number}"
    parts = [line(6, 11, fitting_pt(name, room, 20), name, bold=True)]
    y_mm = 19.0
    how = "Perdue ou volée ? Bloquez-la à toute heure, avec ce code :" if address else "Perdue ou volée ? Appelez :"
    texts = [(how, False)]
    if address:
        texts += [(f"{code[:4]} {code[4:]}", True), (address, False), (f"ou appelez : {phone}", False)]
    else:
        texts += [(phone, True), (f"Votre code : {code[:4]} {code[4:]}", False)]
    texts.append(("Gardez ce papier chez vous, pas avec la carte.", False))
    for text, large in texts:
        if large:
            y_mm += 4.0
            parts.append(line(6, y_mm, fitting_pt(text, room, 24), text, bold=True))
            y_mm += 8.0
            continue
        for each in wrapped(text, room, SMALLEST_PT):
            parts.append(line(6, y_mm, SMALLEST_PT, each))
            y_mm += 6.0
    if y_mm > height:
        raise ValueError(f"{address!r} is too long for the slip")
    return page(width, height, parts)
