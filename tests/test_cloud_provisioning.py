"""The one file that makes a computer the box of a car."""

from __future__ import annotations

import stat
from pathlib import Path

import pytest

from cloud_sync.documents import cbor
from cloud_sync.provisioning import (
    MAX_BYTES,
    Provisioning,
    Technician,
    load_provisioning,
    pin_digest,
    write_provisioning,
)
from tests.document_rig import BOX, BOX_V, CAR, ROOTS

GARAGE = Technician("garage-1", bytes(16), pin_digest("493 027", bytes(16)))
GIVEN = Provisioning(CAR, BOX_V, BOX, ROOTS, bytes(range(32)), b"key set", 3, 7, (GARAGE,))


@pytest.fixture
def file(tmp_path: Path) -> Path:
    path = tmp_path / "provisioning.cbor"
    write_provisioning(path, GIVEN)
    return path


def test_what_is_written_reads_back(file: Path) -> None:
    read = load_provisioning(file)
    assert (read.vehicle, read.roots, read.card_key, read.key_set) == (CAR, ROOTS, GIVEN.card_key, b"key set")
    assert (read.key_set_floor, read.list_floor) == (3, 7)
    assert read.agreement.to_bytes() == BOX_V.to_bytes()
    assert read.signing.to_bytes() == BOX.to_bytes()
    assert read.technicians == (GARAGE,)


def test_only_its_owner_reads_it_and_nothing_is_overwritten(file: Path) -> None:
    assert stat.S_IMODE(file.stat().st_mode) == 0o600
    with pytest.raises(FileExistsError):
        write_provisioning(file, GIVEN)


@pytest.mark.parametrize("mode", [0o640, 0o604, 0o620])
def test_a_file_that_others_may_read_or_change_is_refused_with_the_remedy(file: Path, mode: int) -> None:
    file.chmod(mode)
    with pytest.raises(ValueError, match="chmod 600"):
        load_provisioning(file)


def test_a_missing_file_is_named_with_the_remedy(tmp_path: Path) -> None:
    with pytest.raises(ValueError, match="amibox-cloud box add"):
        load_provisioning(tmp_path / "nothing")


def test_a_damaged_file_is_refused_and_says_nothing_of_its_keys(file: Path) -> None:
    whole = file.read_bytes()
    for damaged in (b"", whole[:-1], whole[1:], b"\xff" * 90, whole + b"\0", bytes(MAX_BYTES + 9)):
        file.write_bytes(damaged)
        with pytest.raises(ValueError, match="no provisioning file") as told:
            load_provisioning(file)
        assert GIVEN.card_key.hex() not in str(told.value)
        assert told.value.__cause__ is None


def test_no_secret_shows_in_a_representation() -> None:
    assert GIVEN.card_key.hex() not in repr(GIVEN)
    assert repr(GIVEN.card_key) not in repr(GIVEN)
    assert repr(GARAGE.digest) not in repr(GIVEN)


def test_a_file_from_before_there_were_technicians_has_none(tmp_path: Path) -> None:
    file = tmp_path / "older.cbor"
    write_provisioning(file, GIVEN)
    older = cbor.loads(file.read_bytes(), MAX_BYTES)
    del older[8]
    file.write_bytes(cbor.dumps(older))
    assert load_provisioning(file).technicians == ()


@pytest.mark.parametrize("wrong", [[], ["garage-1", bytes(16)], ["Garage 1", bytes(16), bytes(32)]])
def test_a_technician_of_the_wrong_shape_is_refused(file: Path, wrong: list[object]) -> None:
    fields = cbor.loads(file.read_bytes(), MAX_BYTES)
    file.write_bytes(cbor.dumps({**fields, 8: [wrong]}))
    with pytest.raises(ValueError, match="no provisioning file"):
        load_provisioning(file)
