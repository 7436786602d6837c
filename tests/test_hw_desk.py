"""The town hall's desk: a card on a simulated reader, enrolled at a real endpoint's routes."""

from __future__ import annotations

import argparse
import re
from collections.abc import Iterator
from pathlib import Path
from typing import Any
from xml.etree import ElementTree as ET

import pytest

from cloud_sync.documents import decode_command
from cloud_sync.endpoint.capture import new_card
from cloud_sync.wire import Topic
from hw import desk
from hw.desfire import APPLICATION, NotProven, prove
from hw.desk_cloud import DeskError
from hw.paper import NO_BREAK, POINT_MM, width_mm
from onboard.core.records import CardCaptured
from sim.desfire import DesfireCard
from sim.pn532 import Pn532OnPty
from tests.cloud_http_rig import Town, make_town

UID = bytes.fromhex("04782e21801d80")


@pytest.fixture
def town(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Town]:
    with make_town(tmp_path) as made:

        def ask(_base: str, method: str, path: str, body: Any) -> Any:
            answer = made.client.ask(method, f"/api/v1/{path}", **({"json": body} if body is not None else {}))
            if answer.is_error:
                raise DeskError(f"the endpoint refuses: {answer.text}")
            return answer.json()

        monkeypatch.setattr(desk, "ask", ask)
        yield made


@pytest.fixture
def reader(monkeypatch: pytest.MonkeyPatch) -> Iterator[Pn532OnPty]:
    monkeypatch.setattr("hw.pn532.ACK_WITHIN_S", 5.0)  # how busy this machine is, is another matter
    made = Pn532OnPty()
    made.open()
    yield made
    made.close()


def do(reader: Pn532OnPty | None, *words: str) -> int:
    parser = argparse.ArgumentParser()
    desk.add_arguments(parser)
    port = ["--reader", reader.open(), "--wait-s", "0.5"] if reader is not None else []
    return desk.run(parser.parse_args([*words, *port]))


def test_a_new_card_is_enrolled_and_proves_itself_with_the_key_of_each_car(
    town: Town, reader: Pn532OnPty, capsys: pytest.CaptureFixture[str]
) -> None:
    card = DesfireCard(UID)
    reader.present_chip(card)
    assert do(reader, "enrol") == 0
    said = capsys.readouterr().out
    assert "card 1: 04782E21801D80, proves itself" in said
    for slot in range(14):
        prove(card.apdu, slot, town.cloud.authority.card_key(UID, slot))
    assert do(None, "list") == 0
    assert re.search(r"1  ready .* proves itself", capsys.readouterr().out)
    assert do(reader, "enrol") == 0
    assert "card 1: 04782E21801D80, proves itself" in capsys.readouterr().out, "a damaged one is written again"
    do(None, "lend", "1", "--to", "M. Roux")
    assert do(reader, "enrol") == 1
    assert "this is card 1 already (the commune's, lent)" in capsys.readouterr().err


def test_a_card_taken_away_too_early_is_enrolled_again_to_its_end(
    town: Town, reader: Pn532OnPty, capsys: pytest.CaptureFixture[str]
) -> None:
    card = DesfireCard(UID, leaves_after=9)
    reader.present_chip(card)
    assert do(reader, "enrol") == 1
    assert "enrol it again" in capsys.readouterr().err
    assert do(None, "lend", "1", "--to", "Mme Le Goff") == 1, "its keys are not written"
    card.leaves_after = None
    reader.present_chip(card)
    assert do(reader, "enrol") == 0
    assert card.applications[APPLICATION] == [town.cloud.authority.card_key(UID, slot) for slot in range(14)]


def test_a_residents_own_card_is_let_in_by_its_number_and_written_to_by_nobody(
    town: Town, reader: Pn532OnPty, capsys: pytest.CaptureFixture[str]
) -> None:
    assert town.link.connected
    card = DesfireCard(UID)
    reader.present_chip(card)
    assert do(reader, "enrol", "--own") == 0
    assert "can be copied" in capsys.readouterr().out
    assert card.applications == {}


@pytest.mark.usefixtures("town")
@pytest.mark.parametrize(
    ("cards", "words", "why"),
    [
        ([], ("enrol",), "no card came within"),
        (["04a1b2c3d4e5f6", "deadbeef"], ("enrol",), "one at a time"),
        (["04a1b2c3d4e5f6"], ("enrol",), "can't hold keys"),
        (["08a1b2c3"], ("enrol", "--own"), "another number each time"),
        (["0fa1b2c3"], ("enrol", "--own"), "more than once"),
    ],
)
def test_what_cannot_be_enrolled_is_refused_with_its_reason(
    reader: Pn532OnPty, capsys: pytest.CaptureFixture[str], cards: list[str], words: tuple[str, ...], why: str
) -> None:
    for uid in cards:
        reader.present(uid)
    assert do(reader, *words) == 1
    assert why in capsys.readouterr().err
    assert do(None, "list") == 0
    assert len(capsys.readouterr().out.splitlines()) == 1, "nothing under its heading"


@pytest.mark.usefixtures("town")
def test_a_card_of_another_make_is_given_no_number(
    reader: Pn532OnPty, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    bank = DesfireCard(UID)
    monkeypatch.setattr(bank, "apdu", lambda _command: b"\x6d\x00")  # it knows no such command
    reader.present_chip(bank)
    assert do(reader, "enrol") == 1
    assert "is no DESFire" in capsys.readouterr().err
    assert do(None, "list") == 0
    assert len(capsys.readouterr().out.splitlines()) == 1


@pytest.mark.usefixtures("town")
def test_what_a_card_is_can_be_read(reader: Pn532OnPty, capsys: pytest.CaptureFixture[str]) -> None:
    reader.present("deadbeef")
    assert do(reader, "read") == 0
    assert "DEADBEEF\ncommune  not enrolled\nproof    none" in capsys.readouterr().out
    reader.remove()
    card = DesfireCard(UID)
    reader.present_chip(card)
    assert do(reader, "read") == 0
    assert "no keys of ours yet" in capsys.readouterr().out
    assert do(reader, "enrol") == 0
    assert do(reader, "read") == 0
    said = capsys.readouterr().out
    assert "commune  card 1, ready" in said
    assert "it holds the commune's keys" in said
    with pytest.raises(NotProven):
        prove(card.apdu, 1, bytes(16))


def test_a_card_is_lent_found_again_and_lost(
    town: Town, reader: Pn532OnPty, capsys: pytest.CaptureFixture[str]
) -> None:
    reader.present_chip(DesfireCard(UID))
    do(reader, "enrol")
    town.link.connected = False
    assert do(None, "lend", "1", "--to", "M. Roux") == 0
    code = re.search(r"by amibox card block: (\d{4} \d{4})\n", capsys.readouterr().out)
    assert code is not None
    assert do(None, "lend", "1", "--to", "Mme Le Goff") == 1
    assert "is lent to M. Roux: take it back first" in capsys.readouterr().err
    assert do(None, "block", "1", "--code", "0000 0000") == 1
    assert "does not belong to this card" in capsys.readouterr().err
    assert do(None, "block", "1", "--code", code[1]) == 0
    assert "ami-1: hears of it when it has network" in capsys.readouterr().out
    assert do(None, "lend", "1", "--to", "Mme Le Goff") == 1
    assert "is blocked: take it back first" in capsys.readouterr().err
    assert do(None, "list") == 0
    assert re.search(r"1  blocked .* M. Roux\n", capsys.readouterr().out)
    assert do(None, "return", "1") == 0
    assert "ami-1: hears of it when it has network" in capsys.readouterr().out
    assert do(None, "revoke", "1") == 0
    assert "ami-1: hears of it when it has network" in capsys.readouterr().out
    assert do(None, "revoke", "2") == 1
    assert "no card 2" in capsys.readouterr().err


def test_a_card_that_is_given_back_opens_no_booking_for_whoever_has_it_next(
    town: Town, reader: Pn532OnPty, capsys: pytest.CaptureFixture[str]
) -> None:
    reader.present_chip(DesfireCard(UID))
    do(reader, "enrol")
    do(None, "lend", "1", "--to", "M. Roux")
    town.book(cards=[{"card": 1}])

    def opens() -> int:
        return len(town.listed.reservations[0].cards)

    assert opens() == 1
    assert do(None, "return", "1") == 0
    assert "1 booking named it" in capsys.readouterr().out
    assert opens() == 0
    do(None, "lend", "1", "--to", "Mme Le Goff")
    assert opens() == 0


def test_the_slip_has_the_code_and_where_it_blocks(town: Town, reader: Pn532OnPty, tmp_path: Path) -> None:
    assert town.link.connected
    reader.present_chip(DesfireCard(UID))
    do(reader, "enrol")
    file = tmp_path / "new" / "slip.svg"
    words = ["lend", "1", "--to", "M. Roux", "--slip", str(file)]
    assert do(None, *words) == 1, "whom to call is wanted"
    assert do(None, *words, "--phone", "02 99 00 00 00", "--page", "https://ami.example/carte") == 0
    told = plain(file.read_text())
    assert told[0] == "Votre carte AMI n° 1"
    code = next(text for text in told if re.fullmatch(r"\d{4} \d{4}", text))
    assert "https://ami.example/carte" in told
    assert "ou appelez : 02 99 00 00 00" in told
    assert min(sizes_pt(file.read_text())) >= 14
    town.post("cards/1/block", {"code": code}, 200)


@pytest.mark.parametrize(
    ("words", "why"),
    [
        (["--slip", "slip.svg"], "add --phone"),
        (["--slip", "slip.pdf", "--phone", "02 99 00 00 00"], "an SVG file"),
        (["--slip", "slip.svg", "--phone", "02 99 00 00 00", "--page", "https://ami.example/" + "c" * 80], "too long"),
    ],
)
def test_a_slip_that_cannot_be_made_lends_and_captures_nothing(
    town: Town, capsys: pytest.CaptureFixture[str], words: list[str], why: str
) -> None:
    town.cloud.ingest.handle(town.box.topic(Topic.STATUS), town.box.status(), town.now_s)
    town.post("cards", {"uid": UID.hex(), "assurance": "uid"})
    before = len(town.link.sent)
    for command in (["lend", "1"], ["capture", "--vehicle", "ami-1"]):
        assert do(None, *command, "--to", "M. Roux", *words) == 1
        said = capsys.readouterr().err
        assert why in said
        assert "nothing was changed" in said
    assert do(None, "capture", "--vehicle", "ami-1", *words) == 1
    assert "add --to" in capsys.readouterr().err
    (card,) = town.client.get("/api/v1/cards").json()
    assert (card["state"], card["holder"]) == ("ready", "")
    assert len(town.link.sent) == before, "no car was asked"


@pytest.mark.usefixtures("town")
@pytest.mark.parametrize(
    ("typed", "why"),
    [
        ("1002701960", "may be a decimal number"),
        ("12345678", "may be a decimal number"),
        ("88 04 C4 3B", "88 stands before its first three bytes"),
        ("4A1B2C3D4E5F6", "no fewer for zeros in front"),
        ("04A1B2C3D4E5", "has 12 digits"),
        ("Mme Le Goff", "is no card number"),
        ("", "is no card number"),
        ("08A1B2C3", "another number each time"),
        ("80A1B2C3", "another number each time"),
        ("AFA1B2C3", "more than once"),
    ],
)
def test_a_number_that_a_keyboard_reader_spoiled_is_refused_with_its_explanation(
    capsys: pytest.CaptureFixture[str], typed: str, why: str
) -> None:
    assert do(None, "enrol", "--own", "--uid", typed) == 1
    assert why in capsys.readouterr().err
    do(None, "list")
    assert len(capsys.readouterr().out.splitlines()) == 1


@pytest.mark.usefixtures("town")
def test_a_number_typed_as_on_air_is_enrolled_however_it_is_grouped(capsys: pytest.CaptureFixture[str]) -> None:
    assert do(None, "enrol", "--own", "--uid", "04:a1:b2:c3:d4:e5:f6") == 0
    said = capsys.readouterr().out
    assert "card 1: 04A1B2C3D4E5F6, shows its number only" in said
    assert "uid_cards = true" in said
    assert do(None, "enrol", "--uid", "04A1B2C3D4E5F7") == 1
    assert "--uid goes with --own" in capsys.readouterr().err


def test_a_residents_own_card_is_captured_at_a_car_and_lent(
    town: Town, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    box = town.box
    town.cloud.ingest.handle(box.topic(Topic.STATUS), box.status(), town.now_s)
    asked: list[bytes] = []

    def at_the_car(_seconds: float) -> None:
        asked.append(command_sent(town))
        if len(asked) == 2:
            box.write(CardCaptured(asked[-1], UID))
            town.cloud.ingest.handle(box.topic(Topic.BATCH), box.batch(1, 1), town.now_s)

    monkeypatch.setattr("hw.desk.time.sleep", at_the_car)
    monkeypatch.setattr("hw.desk.time.monotonic", lambda: town.now_s)
    assert do(None, "capture", "--vehicle", "ami-1", "--to", "M. Roux") == 0
    said = capsys.readouterr().out
    assert "when it beeps" in said
    assert "card 1: 04782E21801D80, shows its number only" in said
    assert "is lent to M. Roux" in said
    assert len(asked) == 2


def test_a_capture_that_nobody_answers_or_of_a_known_card_says_so(
    town: Town, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    assert do(None, "capture", "--vehicle", "ami-1") == 1
    assert "not within reach" in capsys.readouterr().err
    box, began_s = town.box, town.now_s
    town.cloud.ingest.handle(box.topic(Topic.STATUS), box.status(), town.now_s)

    def nobody(seconds: float) -> None:
        town.now_s += seconds

    monkeypatch.setattr("hw.desk.time.sleep", nobody)
    monkeypatch.setattr("hw.desk.time.monotonic", lambda: town.now_s)
    assert do(None, "capture", "--vehicle", "ami-1") == 1
    assert "no card came" in capsys.readouterr().err
    assert 150 <= town.now_s - began_s <= 170

    def known(_seconds: float) -> None:
        box.write(CardCaptured(command_sent(town), UID))
        town.cloud.ingest.handle(box.topic(Topic.BATCH), box.batch(1, 1), town.now_s)

    town.post("cards", {"uid": UID.hex(), "assurance": "mutual"})
    town.cloud.ingest.handle(box.topic(Topic.STATUS), box.status(), town.now_s)
    monkeypatch.setattr("hw.desk.time.sleep", known)
    assert do(None, "capture", "--vehicle", "ami-1", "--to", "M. Roux") == 1
    assert "this is card 1 already" in capsys.readouterr().err
    assert town.client.get("/api/v1/cards").json()[0]["holder"] == ""


def command_sent(town: Town) -> bytes:
    """Return the id of the command that went to the car last."""
    topic = town.box.topic(Topic.COMMAND)
    sent = [each.payload for each in town.link.sent if each.topic == topic]
    return decode_command(sent[-1], town.cloud.authority.key_set, "ami-1").command_id


@pytest.mark.parametrize("number", [1, 12, 123])
def test_the_label_says_what_the_card_is_and_whom_to_call(
    town: Town, tmp_path: Path, capsys: pytest.CaptureFixture[str], number: int
) -> None:
    with town.cloud.store.write() as db:
        for enrolled in range(number):
            new_card(db, bytes.fromhex(f"04A1B2C3D4{enrolled:04X}"), "uid", 0)
    file = tmp_path / "new" / "label.svg"
    words = ["print-label", str(number), "--out", str(file), "--phone"]
    assert do(None, *words, "02 99 <00> 00") == 0
    assert plain(file.read_text()) == [f"Carte AMI {number}", "Trouvée ? Appelez", "02 99 <00> 00"]
    assert min(sizes_pt(file.read_text())) >= 14
    for text, size_pt in zip(plain(file.read_text()), sizes_pt(file.read_text()), strict=True):
        assert width_mm(text, size_pt, bold=not text.startswith("Trouvée")) <= 48.5, text
    assert do(None, *words, "mairie d'Hédé-Bazouges 02 99 00 00 00") == 1
    assert "too long" in capsys.readouterr().err
    assert do(None, *words, " ") == 1
    assert "the number to call is wanted" in capsys.readouterr().err
    assert do(None, "print-label", "999", "--phone", "02", "--out", str(file)) == 1
    assert "there is no card 999" in capsys.readouterr().err
    assert do(None, "print-label", "1", "--phone", "02", "--out", str(tmp_path / "label.pdf")) == 1
    assert "SVG" in capsys.readouterr().err


def plain(drawing: str) -> list[str]:
    """Return the lines of a drawing, with ordinary spaces."""
    drawn = ET.fromstring(drawing)  # noqa: S314 - our own file
    return [(each.text or "").replace(NO_BREAK, " ") for each in drawn.iter("{http://www.w3.org/2000/svg}text")]


def sizes_pt(drawing: str) -> list[float]:
    return [round(float(size) / POINT_MM, 1) for size in re.findall(r'font-size="([\d.]+)"', drawing)]


def test_without_a_reader_or_an_endpoint_it_says_what_to_do(capsys: pytest.CaptureFixture[str]) -> None:
    parser = argparse.ArgumentParser()
    desk.add_arguments(parser)
    assert desk.run(parser.parse_args(["read", "--reader", "/dev/nobody"])) == 1
    assert "/dev/nobody" in capsys.readouterr().err
    assert desk.run(parser.parse_args(["list", "--cloud", "http://127.0.0.1:9"])) == 1
    assert "start the endpoint" in capsys.readouterr().err
    assert desk.run(parser.parse_args(["read", "--reader", ""])) == 1
    assert "needs a port" in capsys.readouterr().err
    assert desk.run(parser.parse_args(["list", "--cloud", "file:///etc"])) == 1
