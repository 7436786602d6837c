"""A technician's PIN: printed once, known to the car's file by its digest alone."""

from __future__ import annotations

from pathlib import Path

import pytest

from cloud_sync.endpoint import technicians
from cloud_sync.endpoint.__main__ import main
from cloud_sync.endpoint.authority import Paths
from cloud_sync.endpoint.store import Store, StoreError, sqlite_url
from cloud_sync.provisioning import TECHNICIANS_MAX, load_provisioning, pin_digest

CAR = "hede-1"


def command(folder: Path, *words: str) -> int:
    return main([*words, "--dir", str(folder)])


@pytest.fixture(name="town")
def _town(tmp_path: Path) -> Path:
    assert main(["init", str(tmp_path / "town")]) == 0
    return tmp_path / "town"


def test_a_pin_is_printed_once_and_its_digest_goes_into_the_cars_file(
    town: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    assert command(town, "box", "pin", CAR, "marie") == 0
    first = capsys.readouterr().out.split("hede-1: ")[1].split()[0]
    assert command(town, "box", "pin", CAR, "marie") == 0
    pin = capsys.readouterr().out.split("hede-1: ")[1].split()[0]
    assert len(pin) == 8
    assert pin.isdigit()
    assert command(town, "box", "add", CAR, "--out", str(town / "box.cbor")) == 0
    [marie] = load_provisioning(town / "box.cbor").technicians
    assert marie.name == "marie"
    assert marie.digest == pin_digest(pin, marie.salt) != pin_digest(first, marie.salt)
    for file in (Paths(town).database, town / "box.cbor"):
        assert pin.encode() not in file.read_bytes()


def test_another_cars_file_does_not_hold_it_and_a_withdrawn_one_is_gone(
    town: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    for name in ("marie", "paul"):
        assert command(town, "box", "pin", CAR, name) == 0
    assert command(town, "box", "pin", CAR, "paul", "--withdraw") == 0
    assert command(town, "box", "pin", CAR, "paul", "--withdraw") == 1
    assert "Nothing was changed" in capsys.readouterr().err
    assert command(town, "box", "add", CAR, "--out", str(town / "one.cbor")) == 0
    assert command(town, "box", "add", "hede-2", "--out", str(town / "two.cbor")) == 0
    assert [each.name for each in load_provisioning(town / "one.cbor").technicians] == ["marie"]
    assert load_provisioning(town / "two.cbor").technicians == ()


@pytest.mark.parametrize("name", ["", "Marie", "a b", "x" * 33])
def test_an_odd_name_is_refused(town: Path, name: str) -> None:
    assert command(town, "box", "pin", CAR, name) == 1


def test_a_car_has_so_many_technicians_and_no_more(town: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(technicians, "pin_digest", lambda _pin, _salt: bytes(32))
    store = Store(sqlite_url(Paths(town).database))
    try:
        with store.write() as db:
            for number in range(TECHNICIANS_MAX):
                technicians.set_pin(db, CAR, f"t{number}")
            technicians.set_pin(db, CAR, "t0")
            with pytest.raises(StoreError, match="Withdraw one"):
                technicians.set_pin(db, CAR, "one-more")
    finally:
        store.close()
