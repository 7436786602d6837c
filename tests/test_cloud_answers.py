"""What drivers read: a word for everything that a box says, in both languages, and the page that lists it."""

from __future__ import annotations

import re

from cloud_sync.documents.answers import ANSWERS, DOORS, ELSE, ON_THE_PHONE, Words, words
from sim.phone import REASONS
from tests.conftest import ROOT

PAGE = (ROOT / "docs" / "refusals.md").read_text()


def test_every_word_of_the_core_and_of_the_conversation_can_be_read() -> None:
    found = set()
    for file in ("core/access.py", "core/capture.py", "core/request.py", "core/doors.py", "handshake.py"):
        text = (ROOT / "onboard" / file).read_text()
        found |= set(re.findall(r'Denial\("(\w+)"\)', text))
        found |= set(re.findall(r'_deny\(d, event, "(\w+)"\)', text))
        found |= set(re.findall(r'_turn_away\(line, "(\w+)"', text))
        found |= set(re.findall(r'(?:False|True), "(\w+)"', text))
        found |= set(re.findall(r'_answer\(d, event, "\w+", "(\w+)"\)', text))
    assert len(found) >= 23
    assert found - ANSWERS.keys() == set()
    assert set(REASONS.values()) <= ANSWERS.keys()


def test_the_page_lists_every_word_as_it_is_shown() -> None:
    row = r"^\| `(\w+)` \|(?: [^|]* \|)?? ([^|]*) \| ([^|]*) \|(?: `tests/\S+` \|)?$"
    listed = {word: (french, english) for word, french, english in re.findall(row, PAGE, re.MULTILINE)}
    assert listed == {word: (each.french, each.english) for word, each in ANSWERS.items()}
    own = re.findall(r"^\| (\w+) \| ([^|]*) \| ([^|]*) \|$", PAGE, re.MULTILINE)[1:]  # the head of the table
    told = [*ON_THE_PHONE.items(), *DOORS.items()]
    assert [each for each in own if each[0] != "word"] == [(word, e.french, e.english) for word, e in told]


def test_what_is_shown_says_what_to_do_and_fits_a_phone() -> None:
    for word, each in (ANSWERS | ON_THE_PHONE | DOORS).items():
        assert each.french != each.english
        for text in (each.french, each.english):
            assert text.endswith((".", "?")), word
            assert len(text) <= 120, word
    assert "newer_word" in words("newer_word").french


def test_a_word_is_read_as_listed_and_a_newer_one_by_itself() -> None:
    for table in (ANSWERS, ON_THE_PHONE):
        for word, each in table.items():
            assert words(word) is each
    assert words("newer_word") == Words(
        ELSE.french.replace("{reason}", "newer_word"), ELSE.english.replace("{reason}", "newer_word")
    )
    assert "newer_word" in words("newer_word").english
