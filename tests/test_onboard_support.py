"""The archive for whoever is asked for help: what is in it, and that nobody's secret or name is, in any form."""

from __future__ import annotations

import argparse
import base64
import json
import zipfile
from dataclasses import replace
from pathlib import Path

import pytest

from cloud_sync.documents import AgreementKey
from cloud_sync.provisioning import KEYS, load_provisioning, make_keys, take_answer
from onboard import support
from onboard.core.clock import ClockQuality, Instant
from onboard.core.records import CardCaptured, Parked
from onboard.scrub import LEFT_OUT, scrub
from onboard.store import Store
from onboard.support import Place, gather, run_program, write
from tests.document_rig import BOOKING, CAR, LIST
from tests.store_rig import RENTAL
from tests.test_cloud_provisioning import GARAGE, answer_for

NOW_S = 1_796_000_000.0
PIN, PASSWORD, MAIL, PHONE, CARD = (
    "493027",
    "correct-horse-battery",
    "anna@example.org",
    "06 12 34 56 78",
    "04a1b2c3d4e5f6",
)
PLACE = ("48.29751", "-1.80034")


@pytest.fixture
def box(tmp_path: Path) -> Place:
    """A box in the middle of a rental, with everybody's secrets in it."""
    folder = tmp_path / "box"
    folder.mkdir()
    take_answer(folder, answer_for(make_keys(folder), town='[car]\nmodel = "ami"\n'), lambda _: True)
    (folder / "town.toml").write_text(
        f'[car]\nmodel = "ami"\n[[station]]\nlatitude = {PLACE[0]}\nlongitude = {PLACE[1]}\n'
    )
    opened = Store.open(folder, CAR, 0.0)
    kept = replace(opened.kept, rental=RENTAL, grants=replace(opened.kept.grants, listed=LIST))
    at = Instant(1.0, NOW_S, ClockQuality.GNSS)
    opened.store.commit(
        kept, [CardCaptured(bytes(16), bytes.fromhex(CARD)), Parked("hede", 48.29751, -1.80034)], at, bytes(8)
    )
    opened.store.settle()
    opened.store.close()
    config = tmp_path / "box.toml"
    (tmp_path / "broker.password").write_text(PASSWORD + "\n")
    config.write_text(
        f'[uplink]\nhost = "broker.example.org"\nusername = "box-7"\npassword_file = "{tmp_path}/broker.password"\n'
    )
    return Place(config, folder, tmp_path / "no.sock")


def secrets_of(place: Place) -> dict[str, bytes]:
    given = load_provisioning(place.folder / "provisioning.cbor")
    found = {file.name: AgreementKey.load(file).to_bytes() for file in (place.folder / KEYS).glob("*.pem")}
    cards = {f"card {each.ref.hex()}": each.ref for each in BOOKING.cards if any(each.ref)}
    keys = {f"key of slot {each.slot}": each.key for each in BOOKING.cards if each.key}
    return {
        **found,
        **cards,
        **keys,
        "card key": given.card_key,
        "PIN's digest": GARAGE.digest,
        "booking": BOOKING.id,
        "driver": BOOKING.driver,
        "phone": BOOKING.phone_keys[0],
        "card's number": bytes.fromhex(CARD),
        "password": PASSWORD.encode(),
    }


def written(value: bytes) -> set[str]:
    """Every form in which a program may have written it."""
    return {
        value.hex(),
        value.hex().upper(),
        value.hex(":"),
        base64.b64encode(value).decode(),
        base64.urlsafe_b64encode(value).decode().rstrip("="),
        repr(value),
    }


def everything_said(place: Place) -> str:
    lines = [
        f"Nov 29 amibox[1]: {name} is {form} now"
        for name, value in secrets_of(place).items()
        for form in written(value)
    ]
    people = [f"amibox: PIN {PIN} of {MAIL}, call {PHONE}, parked at {PLACE[0]},{PLACE[1]}", f"password={PASSWORD}"]
    pem = (place.folder / KEYS / "tls.pem").read_text()
    return "\n".join((*lines, *people, pem, "amibox: door: relay moved, 300 ms", "usb 1-1: new device"))


def archive(place: Place, out: Path) -> dict[str, bytes]:
    said = everything_said(place)
    write(out, gather(place, lambda _words: said), NOW_S)
    with zipfile.ZipFile(out) as opened:
        return {name: opened.read(name) for name in opened.namelist()}


def test_no_secret_and_nobody_is_in_the_archive_in_any_form(box: Place, tmp_path: Path) -> None:
    files = archive(box, tmp_path / "r.zip")
    whole = b"\n".join(files.values())
    for name, value in secrets_of(box).items():
        assert value not in whole, name
        for form in written(value):
            assert form.encode() not in whole, (name, form)
    for text in (PIN, PASSWORD, MAIL, PHONE, CARD, *PLACE, "BEGIN PRIVATE", "box-7", GARAGE.name):
        assert text.encode() not in whole, text


def test_the_archive_says_what_helps_with_the_daemon_dead(box: Place, tmp_path: Path) -> None:
    files = {name: data.decode() for name, data in archive(box, tmp_path / "r.zip").items()}
    assert set(files) == {
        "README.txt", "versions.txt", "status.json", "box.toml", "town.toml", "units.txt", "journal.txt", "kernel.txt",
        "store.json", "machine.txt",
    }  # fmt: skip
    for name in files:
        assert name in files["README.txt"] or name == "README.txt"
    assert "relay moved, 300 ms" in files["journal.txt"]
    assert "usb 1-1: new device" in files["kernel.txt"]
    assert "relay" not in files["kernel.txt"]
    assert json.loads(files["store.json"])["records"] == {"card_captured": 1, "parked": 1}
    assert "no daemon answers" in json.loads(files["status.json"])["not_asked"]
    assert 'host = "broker.example.org"' in files["box.toml"]
    assert "MB free" in files["machine.txt"]
    assert "amibox 0." in files["versions.txt"]


def test_a_store_that_the_daemon_holds_is_told_and_the_rest_is_there(box: Place) -> None:
    opened = Store.open(box.folder, CAR, 0.0)
    try:
        assert "the daemon holds it" in json.loads(gather(box, lambda _: "")["store.json"][1])["records"]
    finally:
        opened.store.close()


def test_the_archive_is_bounded_its_owners_and_writes_over_nothing(
    box: Place, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(support, "PART_MAX", 1000)
    files = gather(box, lambda _: "amibox: a line\n" * 10_000)
    assert max(len(text) for _, text in files.values()) <= 1000
    out = tmp_path / "r.zip"
    write(out, files, NOW_S)
    assert out.stat().st_mode & 0o777 == 0o600
    with pytest.raises(FileExistsError):
        write(out, files, NOW_S)


def test_a_program_that_is_not_there_or_hangs_is_told_in_its_place(monkeypatch: pytest.MonkeyPatch) -> None:
    assert run_program(["no-such-program"]).startswith("no-such-program: ")
    monkeypatch.setattr(support, "RUN_S", 0.05)
    assert "timed out" in run_program(["sleep", "5"])
    assert run_program(["echo", "here"]) == "here\n"


def test_the_status_keeps_numbers_and_loses_place_and_rental(box: Place, monkeypatch: pytest.MonkeyPatch) -> None:
    told = {
        "state": "on_trip",
        "station": "hede",
        "rental": {"number": 3},
        "gnss": {"mode": 3},
        "clock": {"wall_s": 1796000000},
        "faults": {"card": f"refused {CARD}"},
    }
    monkeypatch.setattr(support, "ask", lambda *_: told)
    status = json.loads(gather(box, lambda _: "")["status.json"][1])
    assert status == {"state": "on_trip", "clock": {"wall_s": 1796000000}, "faults": {"card": f"refused {LEFT_OUT}"}}


@pytest.mark.parametrize(
    "innocent",
    [
        "2026-11-29T08:25:13+0000 box amibox[412]: INFO amibox: hede-1: ready, with can_bus, door",
        "/opt/amibox/.venv/lib/python3.11/site-packages/onboard/box.py",
        "can0: bus-off, restart after 100 ms; state ERROR-PASSIVE",
        "Mem 250.5 MB, 12.31 V, 57.2 °C, row 123456",
    ],
)
def test_what_helps_is_not_taken_out(innocent: str) -> None:
    assert scrub(innocent, ()) == innocent


def test_the_command_writes_where_it_is_told_and_says_so(
    box: Place, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    parser = argparse.ArgumentParser()
    support.add_arguments(parser)
    out = tmp_path / "a.zip"
    words = [
        "--out",
        str(out),
        "--config",
        str(box.config),
        "--directory",
        str(box.folder),
        "--socket",
        str(box.socket),
    ]
    assert support.run(parser.parse_args(words)) == 0
    assert "Look into it" in capsys.readouterr().out
    assert support.run(parser.parse_args(words)) == 1
    assert "Nothing was written" in capsys.readouterr().err
    assert zipfile.ZipFile(out).testzip() is None
