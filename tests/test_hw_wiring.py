"""The drawing of the wires and the table of pins: one source, and the box's configuration says the same."""

from __future__ import annotations

import re
import tomllib
from collections.abc import Iterator
from itertools import pairwise
from pathlib import Path
from xml.etree import ElementTree as ET

import pytest
from gpiozero import pi_info

from hw import wiring
from hw.paper import NO_BREAK, POINT_MM
from tests.conftest import ROOT

TEXT = wiring.SOURCE.read_text(encoding="utf-8")
NETLIST = wiring.read(TEXT)
SVG = "{http://www.w3.org/2000/svg}"


def pins_of(file: Path, *sections: str) -> dict[str, int]:
    """Return every GPIO of a configuration by its key; of these sections, or of all."""
    return {
        f"{section}.{key}": value
        for section, keys in tomllib.loads(file.read_text(encoding="utf-8")).items()
        if isinstance(keys, dict) and (not sections or section in sections)
        for key, value in keys.items()
        if key.endswith("_pin") and type(value) is int
    }


def test_every_pin_of_the_boxs_configuration_is_drawn_as_it_is_set_and_no_other() -> None:
    shipped = pins_of(ROOT / "systemd" / "amibox.toml")
    assert len(shipped) >= 11
    assert NETLIST.pins() == shipped


def test_the_rigs_pins_are_those_of_the_cars() -> None:
    doors = {key.partition(".")[2]: pin for key, pin in NETLIST.pins().items() if key.startswith("door.")}
    for file in ("rigs/wired.toml", "bench/rig.toml"):
        rig = pins_of(ROOT / "sim" / file, "pins")
        assert {key.partition(".")[2]: pin for key, pin in rig.items()} == doors, file


def test_the_rigs_page_names_each_pin_with_its_place_on_the_header() -> None:
    rows = re.findall(r"^\| (\d+) \| (\d+)\D", (ROOT / "docs" / "rig.md").read_text(), re.MULTILINE)
    drawn = {int(gpio): int(place) for gpio, place in rows if int(gpio) in wiring.HEADER}
    assert drawn.items() <= wiring.HEADER.items()
    assert drawn.keys() >= {pin for key, pin in NETLIST.pins().items() if key.startswith("door.")}


def test_the_header_is_laid_out_as_gpiozero_knows_it_of_a_raspberry_pi() -> None:
    header = pi_info("c03111").headers["J8"]
    assert {
        int(pin.name.removeprefix("GPIO")): number for number, pin in header.pins.items() if pin.name.startswith("GPIO")
    } == wiring.HEADER
    grounds = {int(each) for wire in NETLIST.wires for each in re.findall(r"^GND @(\d+)", wire.pi_end or "")}
    assert grounds
    assert {header.pins[number].name for number in grounds} == {"GND"}
    volts = {(name, int(each)) for w in NETLIST.wires for name, each in re.findall(r"^(\S+) V @(\d+)", w.pi_end or "")}
    assert {(header.pins[number].name, name) for name, number in volts} == {("5V", "5"), ("3V3", "3.3")}


def test_the_drawing_and_the_table_are_what_the_source_makes() -> None:
    assert wiring.DRAWING.read_text(encoding="utf-8") == wiring.drawing(NETLIST), "run make wiring"
    page = wiring.PAGE.read_text(encoding="utf-8")
    assert wiring.put_in(page, wiring.table(NETLIST)) == page, "run make wiring"


def boxes(drawing: str) -> Iterator[tuple[float, float, float, float]]:
    for each in ET.fromstring(drawing).iter(f"{SVG}text"):  # noqa: S314 - our own drawing
        size_mm = float(each.get("font-size", "0"))
        width_mm = len((each.text or "").replace(NO_BREAK, " ")) * size_mm * (0.61 if each.get("font-weight") else 0.52)
        x_mm, y_mm = float(each.get("x", "0")), float(each.get("y", "0"))
        left_mm = x_mm - {"middle": width_mm / 2, "end": width_mm}.get(each.get("text-anchor", ""), 0.0)
        yield left_mm, left_mm + width_mm, y_mm - size_mm * 0.75, y_mm


def test_its_words_can_be_read_on_paper_stay_on_it_and_do_not_lie_on_each_other() -> None:
    drawing = wiring.drawing(NETLIST)
    sizes = [float(size) / POINT_MM for size in re.findall(r'font-size="([\d.]+)"', drawing)]
    assert min(sizes) >= 5.9, "points"
    assert 'width="297mm" height="210mm"' in drawing
    found = sorted(boxes(drawing), key=lambda box: (box[2], box[0]))
    assert len(found) > 100
    for left_mm, right_mm, top_mm, bottom_mm in found:
        assert (left_mm >= 5, right_mm <= 292, top_mm >= 5, bottom_mm <= 209) == (True,) * 4
    for index, (left_mm, right_mm, _, bottom_mm) in enumerate(found):
        for other in found[index + 1 :]:
            assert other[2] >= bottom_mm or other[0] >= right_mm or other[1] <= left_mm, (found[index], other)


def test_every_wire_is_one_straight_line_between_two_blocks() -> None:
    lines = ET.fromstring(wiring.drawing(NETLIST)).iter(f"{SVG}line")  # noqa: S314 - our own drawing
    wires = [line for line in lines if line.get("stroke-width") in {"0.8", "0.45"}]
    assert len(wires) == len(NETLIST.wires)
    assert all(line.get("y1") == line.get("y2") for line in wires)
    for column in range(4):
        rows = sorted(w.row for w in NETLIST.wires if NETLIST.blocks[w.left[0]].column == column)
        assert all(above < below for above, below in pairwise(rows))


@pytest.mark.parametrize(
    ("old", "new", "what"),
    [
        ('from = "pi.27"', 'from = "pi.17"', "used twice: GPIO 17"),
        ('from = "pi.27"', 'from = "pi.28"', "no GPIO 28"),
        ('row = 6\nfrom = "pi.27"', 'row = 5\nfrom = "pi.27"', "used twice: row 5 right of column 2"),
        ('from = "obd.6 CAN-H"', 'from = "odb.6 CAN-H"', "row 5: there is no block 'odb'"),
        ('from = "obd.6 CAN-H"', 'from = "obd"', "'obd' is no block.terminal"),
        ('to = "can.H"', 'to = "pi.USB 9"', "obd and pi are no neighbours"),
        ('row = 5\nfrom = "obd', 'row = 3\nfrom = "obd', "obd lies on battery"),
        ('id = "sense"', 'id = "spare"', "nothing is wired to spare"),
        ('wire = "RG174"', 'wire = "RG174 and a ferrite at each end"', "too long to stand above its wire"),
        ('to = "adc.VCC"', 'to = "adc.VCC and a very long word"', "do not fit into adc"),
        ("row = 29", "row = 31", "the sheet is full"),
    ],
)
def test_what_can_not_be_wired_or_drawn_is_refused_in_words(old: str, new: str, what: str) -> None:
    assert TEXT.count(old) >= 1
    changed = TEXT.replace(old, new, 1)
    if new == 'id = "spare"':
        changed = TEXT.replace("[[block]]", '[[block]]\nid = "spare"\ncolumn = 4\nname = "spare"\n[[block]]', 1)
    with pytest.raises(ValueError, match=re.escape(what)):
        wiring.drawing(wiring.read(changed))


def test_a_page_without_a_place_for_the_table_is_not_written_over(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    page = tmp_path / "parts.md"
    page.write_text("words")
    monkeypatch.setattr(wiring, "PAGE", page)
    monkeypatch.setattr(wiring, "DRAWING", tmp_path / "wiring.svg")
    assert wiring.main() == 2
    assert "no place for the table of pins" in capsys.readouterr().err
    assert page.read_text() == "words"
    page.write_text(f"a\n{wiring.BEGIN}\nstale words\n{wiring.END}\nb\n")
    assert wiring.main() == 0
    assert "stale words" not in page.read_text()
    assert page.read_text().endswith(f"{wiring.END}\nb\n")


def test_the_prices_of_the_parts_add_up_and_the_cheaper_car_stays_below_the_goal() -> None:
    rows = re.findall(r"^\| (.+?) \|.*\| (\**\d+\**) \| (\**\d+\**) \|$", wiring.PAGE.read_text(), re.MULTILINE)
    *parts, (name, *totals) = [(what, *(int(price.strip("*")) for price in prices)) for what, *prices in rows]
    assert (name, len(parts)) == ("**together**", 16)
    assert [sum(price) for price in zip(*(prices for _, *prices in parts), strict=True)] == totals
    assert min(totals) < 150
