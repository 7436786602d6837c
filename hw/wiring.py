"""``make wiring``: the drawing of the wires (``wiring.svg``, A4) and the table of pins, both from ``wiring.toml``.

The drawing is a row of columns: car, box, Raspberry Pi, box, car. Each wire is one straight line in a row of its own,
so that a finger can follow it. What can't be drawn so is refused in words, not drawn badly.
"""

from __future__ import annotations

import re
import sys
import tomllib
from collections import Counter
from dataclasses import dataclass
from itertools import pairwise
from pathlib import Path
from typing import Any, Final

from hw.paper import POINT_MM, line, page, rule

SOURCE: Final = Path(__file__).with_name("wiring.toml")
DRAWING: Final = Path(__file__).with_name("wiring.svg")
PAGE: Final = Path(__file__).with_name("parts.md")
BEGIN, END = "<!-- pins: made by `make wiring`, do not edit -->", "<!-- end of pins -->"

_LEFT: Final = (None, 2, 3, 4, None, 17, 27, 22, None, 10, 9, 11, None, 0, 5, 6, 13, 19, 26, None)
_RIGHT: Final = (None, None, None, 14, 15, 18, None, 23, 24, None, 25, 8, 7, 1, None, 12, None, 16, 20, 21)
HEADER: Final = {
    gpio: 2 * row + side
    for side, column in ((1, _LEFT), (2, _RIGHT))
    for row, gpio in enumerate(column)
    if gpio is not None
}
"""GPIO number to place on the 40-pin header (two columns of 20), of every Raspberry Pi since 2014."""

PI: Final = "pi"
PI_COLUMN: Final = 2
WIDTH_MM, HEIGHT_MM = 297.0, 210.0
LEFTS_MM: Final = (7.0, 64.5, 123.5, 191.5, 250.0)
"""Left edges of the columns; between them the wires with their words."""
BLOCK_MM: Final = (34.0, 35.0, 44.0, 35.0, 40.0)
TOP_MM: Final = 26.0
ROW_MM: Final = 5.1
TEXT_PT: Final = 6.6
WIRE_PT: Final = 6.0
SMALL_LETTER_MM: Final = TEXT_PT * POINT_MM * 0.52
OTHER_STROKE: Final = "#0b4f9e"
STROKES: Final = {"red": "#b00020", "black": "#000", "cable": "#555", "RG174": "#555"}
"""Supply and ground by their colour; every other wire is blue, so that the sheet is calm. Its words say its colour."""


@dataclass(frozen=True, slots=True)
class Block:
    """A part, or a connector, in one of the five columns."""

    id: str
    column: int
    name: str


@dataclass(frozen=True, slots=True)
class Wire:
    """From a block's terminal to one of the next column's, in a row. ``wire``: its colour and mm²."""

    row: int
    left: tuple[str, str]
    right: tuple[str, str]
    wire: str
    via: str = ""
    setting: str = ""
    use: str = ""

    @property
    def pi_end(self) -> str | None:
        """The terminal of the Pi, if one end is there."""
        return next((terminal for block, terminal in (self.left, self.right) if block == PI), None)

    @property
    def gpio(self) -> int | None:
        """The GPIO at which it ends, if it does."""
        end = self.pi_end
        return int(end) if end is not None and end.isdigit() else None

    @property
    def part_end(self) -> str:
        """The block at its other end, for a wire of the Pi."""
        return self.right[0] if self.left[0] == PI else self.left[0]


@dataclass(frozen=True, slots=True)
class Netlist:
    """What the file says. Raises ValueError for what can't be wired, or can't be drawn."""

    title: str
    columns: tuple[str, ...]
    notes: tuple[str, ...]
    blocks: dict[str, Block]
    wires: tuple[Wire, ...]

    def __post_init__(self) -> None:
        """Hold the list against itself."""
        gpios = [wire.gpio for wire in self.wires if wire.gpio is not None]
        twice = [f"GPIO {gpio}" for gpio, uses in Counter(gpios).items() if uses > 1]
        twice += [f"row {row} right of column {column}" for (column, row), n in self._lanes().items() if n > 1]
        if twice:
            raise ValueError(f"used twice: {', '.join(twice)}")
        for gpio in gpios:
            if gpio not in HEADER:
                raise ValueError(f"there is no GPIO {gpio} on the header")
        for wire in self.wires:
            for block, _ in (wire.left, wire.right):
                if block not in self.blocks:
                    raise ValueError(f"row {wire.row}: there is no block {block!r}")
            left, right = (self.blocks[block].column for block, _ in (wire.left, wire.right))
            if right != left + 1:
                raise ValueError(f"row {wire.row}: {wire.left[0]} and {wire.right[0]} are no neighbours")
        for column in range(len(self.columns)):
            self._stacked(column)

    def _lanes(self) -> Counter[tuple[int, int]]:
        known = [wire for wire in self.wires if wire.left[0] in self.blocks]
        return Counter((self.blocks[wire.left[0]].column, wire.row) for wire in known)

    def _stacked(self, column: int) -> None:
        spans = sorted((*self.span(block), block) for block in self.blocks if self.blocks[block].column == column)
        for (_, last, above), (first, _, below) in pairwise(spans):
            if first - last < 2:
                raise ValueError(f"{below} lies on {above}: leave a row for its name")

    def span(self, block: str) -> tuple[int, int]:
        """Return the first and last row of a block's wires. ValueError for one without any."""
        rows = [wire.row for wire in self.wires if block in (wire.left[0], wire.right[0])]
        if not rows:
            raise ValueError(f"nothing is wired to {block}")
        return min(rows), max(rows)

    def pins(self) -> dict[str, int]:
        """Return the GPIO of each setting of the box's configuration, such as ``door.unlock_pin``."""
        return {wire.setting: wire.gpio for wire in self.wires if wire.setting and wire.gpio is not None}


def read(text: str) -> Netlist:
    """Read the text of the file. ValueError says what is wrong with it."""
    found = tomllib.loads(text)
    blocks = [Block(**each) for each in found["block"]]
    return Netlist(
        title=found["title"],
        columns=tuple(found["columns"]),
        notes=tuple(found["notes"]),
        blocks={block.id: block for block in blocks},
        wires=tuple(_wire(each) for each in found["wire"]),
    )


def _wire(entry: dict[str, Any]) -> Wire:
    def end(name: str) -> tuple[str, str]:
        block, dot, terminal = entry.pop(name).partition(".")
        if not dot:
            raise ValueError(f"row {entry['row']}: {block!r} is no block.terminal")
        return block, terminal

    entry = dict(entry)
    left, right = end("from"), end("to")
    return Wire(left=left, right=right, **entry)


def terminal_words(block: str, terminal: str) -> str:
    """Return what stands beside a terminal: the Pi's with its place on the header."""
    if block != PI:
        return terminal
    if terminal.isdigit():
        return f"GPIO {terminal} · pin {HEADER[int(terminal)]}"
    return terminal.replace("@", "· pin ")


def table(netlist: Netlist) -> str:
    """Return the table of pins, in the header's order."""
    rows = []
    for wire in netlist.wires:
        end = wire.pi_end
        place = re.search(r"@(\d+)", end or "")
        if wire.gpio is not None:
            setting = f"`{wire.setting}`" if wire.setting else "–"
            rows.append((HEADER[wire.gpio], str(wire.gpio), setting, wire.use))
        elif end is not None and place is not None:
            what = wire.use or f"to {netlist.blocks[wire.part_end].name}"
            rows.append((int(place[1]), end.partition(" @")[0], "–", what))
    lines = ["| pin | GPIO | setting | what it is |", "|---|---|---|---|"]
    return "\n".join([*lines, *(f"| {pin} | {gpio} | {setting} | {use} |" for pin, gpio, setting, use in sorted(rows))])


def drawing(netlist: Netlist) -> str:
    """Return the drawing as SVG, A4 across. ValueError for words that don't fit."""
    parts = [line(7, 11, 15, netlist.title, bold=True), rule(7, WIDTH_MM - 7, 14)]
    for left_mm, width_mm, name in zip(LEFTS_MM, BLOCK_MM, netlist.columns, strict=True):
        parts.append(line(left_mm + width_mm / 2, 19, 7.5, name, middle=True))
    for block in netlist.blocks.values():
        parts += _block(netlist, block)
    for wire in netlist.wires:
        parts += _wire_lines(netlist, wire)
    y_mm = HEIGHT_MM - 4.2 * len(netlist.notes) - 1.5
    parts.append(rule(7, WIDTH_MM - 7, y_mm - 5.0))
    lowest_mm = _y_mm(max(wire.row for wire in netlist.wires)) + ROW_MM / 2
    if lowest_mm > y_mm - 6:
        raise ValueError("the sheet is full: fewer rows or fewer notes")
    for number, note in enumerate(netlist.notes):
        parts.append(line(7, y_mm + 4.2 * number, 8, f"{number + 1}. {note}"))
    return page(WIDTH_MM, HEIGHT_MM, parts)


def _y_mm(row: int) -> float:
    return round(TOP_MM + row * ROW_MM, 2)


def _block(netlist: Netlist, block: Block) -> list[str]:
    first, last = netlist.span(block.id)
    left_mm, width_mm = LEFTS_MM[block.column], BLOCK_MM[block.column]
    top_mm, height_mm = round(_y_mm(first) - 1.5 * ROW_MM, 2), round((last - first + 2) * ROW_MM, 2)
    size = f'x="{left_mm:g}" y="{top_mm:g}" width="{width_mm:g}"'
    return [
        f'<rect {size} height="{height_mm:g}" rx="1" fill="#fff" stroke="#000" stroke-width="0.35"/>',
        f'<rect {size} height="{ROW_MM - 0.6:g}" rx="1" fill="#e6e6e6"/>',
        line(left_mm + width_mm / 2, round(top_mm + 3.2, 2), 7.2, block.name, bold=True, middle=True),
    ]


def _wire_lines(netlist: Netlist, wire: Wire) -> list[str]:
    """Draw a wire, its words above it, and the words of its two terminals inside their blocks."""
    left, right = netlist.blocks[wire.left[0]], netlist.blocks[wire.right[0]]
    x1_mm, x2_mm = LEFTS_MM[left.column] + BLOCK_MM[left.column], LEFTS_MM[right.column]
    y_mm, colour = _y_mm(wire.row), wire.wire.partition(" ")[0]
    words = f"{wire.wire} · {wire.via}" if wire.via else wire.wire
    if len(words) * WIRE_PT * POINT_MM * 0.52 > x2_mm - x1_mm - 1:
        raise ValueError(f"row {wire.row}: {words!r} is too long to stand above its wire")
    stroke = f'stroke="{STROKES.get(colour, OTHER_STROKE)}" stroke-width="{0.8 if " 1." in wire.wire else 0.45}"'
    return [
        f'<line x1="{x1_mm:g}" y1="{y_mm:g}" x2="{x2_mm:g}" y2="{y_mm:g}" {stroke}/>',
        *(f'<circle cx="{x:g}" cy="{y_mm:g}" r="0.7"/>' for x in (x1_mm, x2_mm)),
        line((x1_mm + x2_mm) / 2, y_mm - 0.9, WIRE_PT, words, middle=True),
        _terminal(netlist, wire.left, wire.row, x1_mm, is_right_edge=True),
        _terminal(netlist, wire.right, wire.row, x2_mm, is_right_edge=False),
    ]


def _terminal(netlist: Netlist, end: tuple[str, str], row: int, x_mm: float, *, is_right_edge: bool) -> str:
    """Write a terminal's words at its edge. Where both edges have words in this row, they must fit side by side."""
    block, words = end[0], terminal_words(*end)
    across = [
        terminal_words(*other)
        for w in netlist.wires
        if w.row == row
        for other in (w.left, w.right)
        if other[0] == block
    ]
    width_mm = BLOCK_MM[netlist.blocks[block].column]
    if len(across) > 1 and across[0] == across[1]:
        middle_mm = x_mm + (-width_mm / 2 if is_right_edge else width_mm / 2)
        return "" if is_right_edge else line(middle_mm, _y_mm(row) + 0.8, TEXT_PT, words, middle=True)
    if sum(map(len, across)) * SMALL_LETTER_MM > width_mm - 3:
        raise ValueError(f"row {row}: {' and '.join(across)} do not fit into {block}")
    text = line(x_mm + (-1.5 if is_right_edge else 1.5), _y_mm(row) + 0.8, TEXT_PT, words)
    return text.replace("<text ", '<text text-anchor="end" ') if is_right_edge else text


def put_in(page_text: str, pins: str) -> str:
    """Return a page with the table between its two marks. ValueError for a page without them."""
    before, begin, rest = page_text.partition(BEGIN)
    _, end, after = rest.partition(END)
    if not begin or not end:
        raise ValueError(f"no place for the table of pins: {BEGIN} … {END}")
    return f"{before}{BEGIN}\n\n{pins}\n\n{END}{after}"


def main() -> int:
    """Write the drawing and the table; return the exit code."""
    try:
        netlist = read(SOURCE.read_text(encoding="utf-8"))
        DRAWING.write_text(drawing(netlist), encoding="utf-8")
        PAGE.write_text(put_in(PAGE.read_text(encoding="utf-8"), table(netlist)), encoding="utf-8")
    except (OSError, ValueError, KeyError, TypeError) as error:
        sys.stderr.write(f"make wiring: {error}\n")
        return 2
    sys.stdout.write(f"{DRAWING.name}: 297 × 210 mm (A4 across). The table of pins is in {PAGE.name}.\n")
    return 0


if __name__ == "__main__":
    sys.exit(main())
