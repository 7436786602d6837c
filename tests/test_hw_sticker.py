"""The sheet for the windscreen, and the page that has the same table."""

from __future__ import annotations

import re
from pathlib import Path
from xml.etree import ElementTree as ET

import pytest

from hw.door_parts import Step
from hw.sticker import MEANINGS, POINT_MM, heard, main, sheet
from onboard.core.commands import Pattern
from tests.conftest import ROOT

PAGE = (ROOT / "docs" / "cards.md").read_text()


def texts(drawing: str) -> list[str]:
    drawn = ET.fromstring(drawing)  # noqa: S314 - our own drawing
    return [each.text or "" for each in drawn.iter("{http://www.w3.org/2000/svg}text")]


def test_the_sheet_says_every_answer_in_french_large_enough_and_whom_to_call(tmp_path: Path) -> None:
    file = tmp_path / "build" / "sticker.svg"
    assert main(["--phone", "02 99 <00>", "--out", str(file)]) == 0
    told = texts(file.read_text())
    assert told[0] == "Votre carte ici"
    assert told[-1] == "Aide : 02 99 <00>"
    assert [text for text in told if " : " in text][:-1] == [
        "Un bip court : C'est bon",
        "Deux bips courts : Encore une fois",
        "Quatre bips courts : Une seule carte",
        "Un long bip : Non",
        "Trois longs bips : En panne",
    ]
    sizes = [float(size) for size in re.findall(r'font-size="([\d.]+)"', file.read_text())]
    assert min(sizes) >= round(14 * POINT_MM, 2)


def test_every_line_of_the_sheet_fits_its_width() -> None:
    # A letter of this narrow face is at most 0.54 of its size wide on the average of a line.
    for line in re.findall(
        r'<text x="([\d.]+)" y="[\d.]+" font-size="([\d.]+)".*?>(.*?)</text>', sheet("02 99 00 00 00")
    ):
        width_mm = len(line[2].replace("&amp;", "&")) * float(line[1]) * 0.54
        left_mm = 6 if line[0] == "6" else 52.5 - width_mm / 2
        assert left_mm >= 2, line
        assert left_mm + width_mm <= 103, line


def test_every_answer_has_its_meaning_and_no_two_sound_alike() -> None:
    assert set(MEANINGS) == set(Pattern)
    assert len({heard(pattern) for pattern in Pattern}) == len(Pattern)


def test_a_pattern_that_no_word_describes_is_refused(monkeypatch: pytest.MonkeyPatch) -> None:
    mixed = (Step(0.1, light=True, sound=True), Step(0.6, light=True, sound=True))
    monkeypatch.setattr("hw.sticker.PATTERNS", {Pattern.GRANTED: mixed})
    with pytest.raises(ValueError, match="mixes"):
        heard(Pattern.GRANTED)


def test_the_page_has_the_same_table() -> None:
    for pattern, meaning in MEANINGS.items():
        word = pattern.value.replace("_", " ")
        assert f"| {word} | {heard(pattern)} | {meaning.answer} | {meaning.todo} |" in PAGE


def test_every_case_of_the_page_names_a_test_that_there_is() -> None:
    named = re.findall(r"`(tests/[\w/]+\.py)::(\w+)`", PAGE)
    assert len(named) >= 18
    for file, test in named:
        assert f"def {test}(" in (ROOT / file).read_text(), test
