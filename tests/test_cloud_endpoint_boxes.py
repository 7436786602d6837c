"""Boxes into cars, out of them, and from one into another, by the commands that a town hall types."""

from __future__ import annotations

import stat
from pathlib import Path
from typing import Any

import pytest
from cryptography import x509
from sqlalchemy import select

from cloud_sync.documents import (
    AgreementKey,
    BoxRequest,
    Reason,
    Refused,
    Technician,
    decode_box_request,
    decode_reservation_list,
    encode_box_request,
    fingerprint,
)
from cloud_sync.endpoint import boxes as town_hall
from cloud_sync.endpoint import tables
from cloud_sync.endpoint.__main__ import main
from cloud_sync.endpoint.authority import AuthorityError
from cloud_sync.endpoint.boxes import Boxes
from cloud_sync.endpoint.cards import slot_of
from cloud_sync.endpoint.certificates import BrokerAuthority
from cloud_sync.endpoint.store import StoreError
from cloud_sync.endpoint.technicians import let_in, shut_out, technicians_of
from cloud_sync.provisioning import load_provisioning, make_keys, pin_digest, take_answer
from tests.cloud_rig import NOW_S
from tests.document_rig import STRANGE_BOX

TOWN = '[car]\nmodel = "ami"\n'
CAR = "hede-1"


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    folder = tmp_path / "commune"
    assert main(["init", str(folder)], lambda: NOW_S) == 0
    assert main(["broker", "init", str(folder), "broker.example.org"], lambda: NOW_S) == 0
    (folder / "town.toml").write_text(TOWN)
    return folder


class Bench:
    """A technician with boxes, and the town hall on the telephone."""

    def __init__(self, folder: Path, place: Path) -> None:
        self.folder, self.place, self.now_s = folder, place, NOW_S + 10.0
        self._count = 0

    def box(self, name: str) -> Path:
        place = self.place / name
        place.mkdir()
        keys = make_keys(place)
        (self.place / f"{name}.request").write_bytes(keys.request.hex().upper().encode())
        return place

    def run(self, *words: str, request: Path | None = None, told: str | None = None) -> tuple[int, Path]:
        self._count += 1
        self.now_s += 1
        out = self.place / f"answer-{self._count}.cbor"
        more = ["--out", str(out)] if words[0] not in {"retire", "list"} else []
        if request is not None:
            right = fingerprint(decode_box_request(make_keys(request).request).digest)
            more += ["--request", f"{request}.request", "--fingerprint", told or right]
        return main(["box", *words, "--dir", str(self.folder), *more], lambda: self.now_s), out

    def hall(self) -> Boxes:
        return Boxes(self.folder, self.now_s)


@pytest.fixture
def bench(folder: Path, tmp_path: Path) -> Bench:
    return Bench(folder, tmp_path)


def taken(box: Path, out: Path) -> Any:
    return take_answer(box, out.read_bytes(), lambda _: True)


def files(folder: Path) -> dict[Path, bytes]:
    return {
        file: file.read_bytes()
        for file in folder.rglob("*")
        if file.is_file() and not file.name.startswith("cloud.sqlite3")
    }


def revoked(folder: Path) -> int:
    return len(list(x509.load_pem_x509_crl(BrokerAuthority(folder).paths.crl.read_bytes())))


def test_a_car_gets_a_box_by_one_file_and_no_private_key_is_ever_at_the_town_hall(
    bench: Bench, capsys: pytest.CaptureFixture[str]
) -> None:
    box = bench.box("one")
    code, out = bench.run("add", CAR, request=box)
    assert code == 0
    with bench.hall() as hall:
        assert hall.authority.fingerprint in capsys.readouterr().out
    answer = taken(box, out)
    assert (answer.vehicle, len(answer.roots)) == (CAR, 2)
    assert answer.town.startswith(TOWN)
    assert 'host = "broker.example.org"' in answer.town
    certificate = x509.load_pem_x509_certificate(answer.certificate)
    key = AgreementKey.load(box / "keys" / "tls.pem")
    assert certificate.public_key() == key._key.public_key()
    assert answer.ca == BrokerAuthority(bench.folder).paths.ca.read_bytes()
    secrets = [AgreementKey.load(file).to_bytes() for file in (box / "keys").glob("*.pem")]
    for file in bench.folder.rglob("*"):
        assert not file.is_file() or not any(secret in file.read_bytes() for secret in secrets), file
    assert stat.S_IMODE((bench.folder / "keys" / "cards" / f"{CAR}.key").stat().st_mode) == 0o600


def test_the_same_request_again_is_answered_again_and_changes_nothing_else(bench: Bench) -> None:
    box = bench.box("one")
    bench.run("add", CAR, request=box)
    issued = len(BrokerAuthority(bench.folder).issued())
    before = files(bench.folder)
    code, out = bench.run("add", CAR, request=box)
    assert code == 0
    taken(box, out)
    assert len(BrokerAuthority(bench.folder).issued()) == issued
    assert files(bench.folder) == before


def test_another_box_for_a_car_that_has_one_is_refused_with_the_remedy(
    bench: Bench, capsys: pytest.CaptureFixture[str]
) -> None:
    bench.run("add", CAR, request=bench.box("one"))
    before = files(bench.folder)
    code, out = bench.run("add", CAR, request=bench.box("two"))
    assert code == 1
    assert "amibox-cloud box replace hede-1" in capsys.readouterr().err
    assert not out.exists()
    assert files(bench.folder) == before


def test_a_request_that_is_not_what_the_technician_read_out_is_refused(
    bench: Bench, capsys: pytest.CaptureFixture[str]
) -> None:
    box = bench.box("one")
    honest = decode_box_request(make_keys(box).request)
    theirs = BoxRequest(honest.agreement_public, STRANGE_BOX.public, honest.tls_public)
    (bench.place / "one.request").write_bytes(encode_box_request(theirs, STRANGE_BOX))
    code, out = bench.run("add", CAR, request=box)
    said = capsys.readouterr().err
    assert code == 1
    assert "contradiction (20)" in said
    assert fingerprint(theirs.digest) in said
    assert not out.exists()
    for torn in (b"", make_keys(box).request[:-1], bytes(9000)):
        (bench.place / "one.request").write_bytes(torn)
        assert bench.run("add", CAR, request=box)[0] == 1
    assert "Traceback" not in capsys.readouterr().err
    with bench.hall() as hall:
        assert hall.store.box(CAR) is None


def test_one_box_is_in_one_car(bench: Bench, capsys: pytest.CaptureFixture[str]) -> None:
    box = bench.box("one")
    bench.run("add", CAR, request=box)
    assert bench.run("add", "hede-2", request=box)[0] == 1
    assert "box retire hede-1" in capsys.readouterr().err


def test_a_new_box_in_a_car_makes_void_what_the_old_one_had(bench: Bench, capsys: pytest.CaptureFixture[str]) -> None:
    old, new = bench.box("old"), bench.box("new")
    taken(old, bench.run("add", CAR, request=old)[1])
    with bench.hall() as hall, hall.store.write() as db:
        assert slot_of(db, CAR) == 1
    capsys.readouterr()
    code, out = bench.run("replace", CAR, request=new)
    said = capsys.readouterr().out
    assert code == 0
    assert "can't come any more" in said
    assert "restart" in said
    answer = taken(new, out)
    given = load_provisioning(new / "provisioning.cbor")
    with bench.hall() as hall:
        box = hall.store.box(CAR)
        assert box is not None
        assert box.agreement_public == given.agreement.public
        listed = hall.store.last_list(CAR)
        assert listed is not None
        keys = hall.authority.key_set
        assert decode_reservation_list(listed.document, keys, given.agreement, CAR).version == answer.list_floor + 1
        with pytest.RaisesExc(Refused, check=lambda error: error.reason is Reason.OTHER_RECIPIENT):
            decode_reservation_list(listed.document, keys, load_provisioning(old / "provisioning.cbor").agreement, CAR)
        with hall.store.read() as db:
            assert db.scalars(
                select(tables.card_slots.c.slot).where(tables.card_slots.c.retired_s.is_(None))
            ).all() == [2]
    assert revoked(bench.folder) == 1
    # Again: the same answer's content, and nothing more is given up.
    assert bench.run("replace", CAR, request=new)[0] == 0
    assert revoked(bench.folder) == 1
    # The old box does not come back, here or elsewhere.
    assert bench.run("replace", CAR, request=old)[0] == 1
    assert bench.run("add", "hede-2", request=old)[0] == 1
    assert "provision reset" in capsys.readouterr().err


def test_a_box_that_is_at_hand_gives_up_no_card(bench: Bench) -> None:
    bench.run("add", CAR, request=bench.box("old"))
    with bench.hall() as hall, hall.store.write() as db:
        slot_of(db, CAR)
    assert bench.run("replace", CAR, "--at-hand", request=bench.box("new"))[0] == 0
    with bench.hall() as hall, hall.store.write() as db:
        assert slot_of(db, CAR) == 1


@pytest.mark.parametrize(
    "step", ["lists.issue_within", "BrokerAuthority.revoke_others", "BrokerAuthority.certify", "write"]
)
def test_a_replacement_that_is_cut_anywhere_is_whole_after_it_is_done_again(
    bench: Bench, monkeypatch: pytest.MonkeyPatch, step: str
) -> None:
    bench.run("add", CAR, request=bench.box("old"))
    new = bench.box("new")

    def cut(*_: Any, **__: Any) -> Any:
        raise OSError("the power went")

    with monkeypatch.context() as patch:
        where: Any = town_hall
        *path, name = step.split(".")
        for part in path:
            where = getattr(where, part)
        patch.setattr(where, name, cut)
        code, out = bench.run("replace", CAR, request=new)
        assert code == 1
        assert not out.exists()
    code, out = bench.run("replace", CAR, request=new)
    assert code == 0
    taken(new, out)
    assert revoked(bench.folder) == 1
    good = [each for each in BrokerAuthority(bench.folder).issued() if each.name == CAR and not each.revoked]
    assert len(good) == 1


def test_a_retired_car_gets_no_list_its_history_stays_and_it_may_come_back(
    bench: Bench, capsys: pytest.CaptureFixture[str]
) -> None:
    bench.run("add", CAR, request=bench.box("old"))
    assert bench.run("retire", CAR)[0] == 0
    assert bench.run("retire", CAR)[0] == 0, "again: found done"
    assert revoked(bench.folder) == 1
    with bench.hall() as hall:
        assert hall.store.box(CAR) is None
        assert hall.store.boxes() == ()
        with hall.store.read() as db:
            assert db.scalar(select(tables.boxes.c.vehicle)) == CAR, "bookings and trips name it still"
    assert bench.run("renew", CAR)[0] == 1
    assert bench.run("replace", CAR, request=bench.box("wrong"))[0] == 1
    assert "box add hede-1" in capsys.readouterr().err
    assert bench.run("retire", "hede-9")[0] == 1
    new = bench.box("new")
    code, out = bench.run("add", CAR, request=new)
    assert code == 0
    taken(new, out)
    with bench.hall() as hall:
        listed = hall.store.last_list(CAR)
        assert listed is not None
        given = load_provisioning(new / "provisioning.cbor")
        decode_reservation_list(listed.document, hall.authority.key_set, given.agreement, CAR)
    capsys.readouterr()
    bench.run("list")
    lines = capsys.readouterr().out.splitlines()
    assert [line.split()[:2] for line in lines[:2]] == [[CAR, "retired"], [CAR, "in"]]


def test_a_box_moves_to_another_car_with_other_keys(bench: Bench, capsys: pytest.CaptureFixture[str]) -> None:
    box = bench.box("first")
    bench.run("add", CAR, request=box)
    assert bench.run("move", CAR, "hede-2", request=box)[0] == 1, "not before it was reset"
    assert "provision reset" in capsys.readouterr().err
    again = bench.box("after-reset")
    code, out = bench.run("move", CAR, "hede-2", request=again)
    assert code == 0
    assert taken(again, out).vehicle == "hede-2"
    with bench.hall() as hall:
        assert [each.vehicle for each in hall.store.boxes()] == ["hede-2"]
    assert bench.run("move", CAR, "hede-2", request=again)[0] == 0, "again: found done"


def test_a_renewal_brings_a_new_certificate_and_the_present_pins_for_the_same_keys(bench: Bench) -> None:
    box = bench.box("one")
    first = taken(box, bench.run("add", CAR, request=box)[1])
    with bench.hall() as hall:
        let_in(hall.store, CAR, Technician("garage-1", bytes(16), bytes(32)))
    (bench.folder / "town.toml").write_text('[car]\nmodel = "leaf"\n')
    code, out = bench.run("renew", CAR)
    assert code == 0
    renewed = taken(box, out)
    assert renewed.version > first.version
    assert renewed.certificate != first.certificate
    assert [each.name for each in renewed.technicians] == ["garage-1"]
    assert 'model = "leaf"' in renewed.town
    assert revoked(bench.folder) == 0
    assert renewed.card_key == first.card_key


def test_what_is_there_is_not_written_over_and_a_wrong_town_file_is_named(
    bench: Bench, capsys: pytest.CaptureFixture[str]
) -> None:
    box = bench.box("one")
    (bench.place / "answer-1.cbor").write_text("here")
    assert bench.run("add", CAR, request=box)[0] == 1
    for text, told in (("[door]\n", "technician's"), ("[[", "no TOML"), ("#" * 20_000, "too long")):
        (bench.folder / "town.toml").write_text(text)
        assert bench.run("add", CAR, request=box)[0] == 1
        assert told in capsys.readouterr().err
    with bench.hall() as hall:
        assert hall.store.box(CAR) is None
    (bench.folder / "town.toml").unlink()
    assert bench.run("add", CAR, request=box)[0] == 0


def test_reserved_names_and_strange_points_get_no_certificate(folder: Path) -> None:
    authority = BrokerAuthority(folder)
    for name, public, told in (("cloud", b"\2" * 33, "called"), ("ami", b"\2" + b"\xff" * 32, "none")):
        with pytest.raises(Exception, match=told):
            authority.certify(name, public, NOW_S, renew=False)


def test_a_folder_from_before_there_was_a_key_for_boxes_says_what_to_do(bench: Bench) -> None:
    with bench.hall() as hall:
        del hall.authority._signers["boxes"]
        request = decode_box_request(make_keys(bench.box("one")).request)
        with pytest.raises(AuthorityError, match="keys propose"):
            hall.add(CAR, request, bench.place / "x", TOWN)


def test_technicians_are_a_cars_and_bounded(bench: Bench, monkeypatch: pytest.MonkeyPatch) -> None:
    bench.run("add", CAR, request=bench.box("one"))
    monkeypatch.setattr("cloud_sync.endpoint.technicians.TECHNICIANS_MAX", 1)
    with bench.hall() as hall:
        with pytest.raises(StoreError, match="no box"):
            let_in(hall.store, "hede-9", Technician("a", bytes(16), bytes(32)))
        let_in(hall.store, CAR, Technician("a", bytes(16), bytes(32)))
        let_in(hall.store, CAR, Technician("a", bytes(16), b"\1" * 32))
        with pytest.raises(StoreError, match="takes no more"):
            let_in(hall.store, CAR, Technician("b", bytes(16), bytes(32)))
        assert technicians_of(hall.store, CAR) == (Technician("a", bytes(16), b"\1" * 32),)
        assert shut_out(hall.store, CAR, "a")
        assert not shut_out(hall.store, CAR, "a")


def test_a_pin_is_printed_once_and_its_digest_goes_to_the_car(bench: Bench, capsys: pytest.CaptureFixture[str]) -> None:
    box = bench.box("one")
    bench.run("add", CAR, request=box)
    capsys.readouterr()
    command = ["box", "pin", CAR, "marie", "--dir", str(bench.folder)]
    pins = []
    for _ in range(2):
        assert main(command) == 0
        pins.append(capsys.readouterr().out.split(f"{CAR}: ")[1].split()[0])
    assert all(len(pin) == 8 and pin.isdecimal() for pin in pins)
    [marie] = taken(box, bench.run("renew", CAR)[1]).technicians
    assert marie.digest == pin_digest(pins[1], marie.salt) != pin_digest(pins[0], marie.salt)
    assert not any(pins[1].encode() in file.read_bytes() for file in bench.folder.rglob("*") if file.is_file())
    assert main([*command, "--withdraw"]) == 0
    assert taken(box, bench.run("renew", CAR)[1]).technicians == ()
    assert [main(wrong) for wrong in ([*command, "--withdraw"], [*command[:3], "M x", *command[4:]])] == [1, 1]
