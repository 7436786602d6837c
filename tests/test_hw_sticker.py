"""The sheet for the windscreen, and the page that has the same table."""

from __future__ import annotations

import re
from itertools import pairwise
from pathlib import Path
from xml.etree import ElementTree as ET

import pytest

from hw.door_parts import Step
from hw.paper import NO_BREAK, POINT_MM, width_mm
from hw.sticker import MEANINGS, heard, main, sheet
from onboard.core.commands import Pattern
from tests.conftest import ROOT

PAGE = (ROOT / "docs" / "cards.md").read_text()


def texts(drawing: str) -> list[str]:
    drawn = ET.fromstring(drawing)  # noqa: S314 - our own drawing
    return [(each.text or "").replace(NO_BREAK, " ") for each in drawn.iter("{http://www.w3.org/2000/svg}text")]


def test_the_sheet_says_every_answer_in_french_large_enough_and_whom_to_call(tmp_path: Path) -> None:
    file = tmp_path / "build" / "sticker.svg"
    assert main(["--phone", "02 99 <00>", "--out", str(file)]) == 0
    told = texts(file.read_text())
    assert told[0] == "Votre carte ici"
    assert told[-1] == "Aide : 02 99 <00>"
    assert [text for text in told if " : " in text and "bip" in text] == [
        "Un bip court : C’est bon",
        "Deux bips courts : Réessayez",
        "Quatre bips courts : Une seule carte",
        "Un long bip : Non",
        "Trois longs bips : En panne",
    ]
    sizes = [float(size) for size in re.findall(r'font-size="([\d.]+)"', file.read_text())]
    assert min(sizes) >= round(14 * POINT_MM, 2)


@pytest.mark.parametrize("phone", ["02 99 00 00 00", "02 99 00 00 00 ou 06 00 00 00 00"])
def test_every_line_of_the_sheet_fits_its_width_and_none_lies_on_another(phone: str) -> None:
    baselines = []
    for x_mm, y_mm, size_mm, rest, text in re.findall(
        r'<text x="([\d.]+)" y="([\d.]+)" font-size="([\d.]+)"(.*?)>(.*?)</text>', sheet(phone)
    ):
        width = width_mm(text.replace("&amp;", "&"), float(size_mm) / POINT_MM, bold="bold" in rest)
        left_mm = float(x_mm) - width / 2 if "middle" in rest else float(x_mm)
        assert left_mm >= 6, text
        assert left_mm + width <= 142.5, text
        baselines.append((float(y_mm), float(size_mm)))
    for (above_mm, _), (below_mm, size_mm) in pairwise(baselines):
        assert below_mm - above_mm >= size_mm
    for rule_mm in map(float, re.findall(r'<line .*?y1="([\d.]+)"', sheet(phone))):
        assert all(y_mm + 1 <= rule_mm or y_mm - size_mm >= rule_mm for y_mm, size_mm in baselines), "struck through"


def test_the_sheet_is_written_as_french_is() -> None:
    whole = sheet("02 99 00 00 00")
    assert not re.search(r"[\w'] [?!;:]", "".join(re.findall(r">(.*?)</text>", whole))), (
        "punctuation stays with its word"
    )
    lines = texts(whole)
    assert not any(line[:1] in "?!:;" for line in lines)
    assert "20 secondes" in " ".join(lines)
    assert "la location est terminée" in " ".join(lines), "how a rental ends"
    assert not any("'" in line for line in lines), "’, as it is printed"


def test_a_number_that_does_not_fit_is_refused(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    long = "Astreinte de la mairie d'Hédé-Bazouges 02 99 00 00 00 / 06 00 00 00 00"
    assert main(["--phone", long, "--out", str(tmp_path / "sheet.svg")]) == 2
    assert "letters at most" in capsys.readouterr().err
    assert main(["--phone", " ", "--out", str(tmp_path / "sheet.svg")]) == 2
    assert "a number is wanted" in capsys.readouterr().err
    assert not (tmp_path / "sheet.svg").exists()


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
