"""A box's keys, which it makes itself, and the answer that makes it a car's."""

from __future__ import annotations

import os
import stat
from dataclasses import replace
from pathlib import Path

import pytest

from cloud_sync import provisioning
from cloud_sync.documents import (
    AgreementKey,
    BoxAnswer,
    BoxRequest,
    KeySet,
    Reason,
    Refused,
    Signer,
    decode_box_request,
    encode_box_answer,
    encode_box_request,
    encode_key_set,
    fingerprint,
    roots_fingerprint,
)
from cloud_sync.provisioning import (
    KEYS,
    PROVISIONING,
    BoxKeys,
    Technician,
    load_keys,
    load_provisioning,
    make_keys,
    open_answer,
    pin_digest,
    take_answer,
)
from tests.document_rig import CAR, CLOUD, ROOT, ROOTS, STRANGE_BOX
from tests.document_rig import KEYS as KEY_SET

GARAGE = Technician("garage-1", bytes(16), pin_digest("493 027", bytes(16)))


def answer_for(keys: BoxKeys, **changes: object) -> bytes:
    request = decode_box_request(keys.request)
    answer = BoxAnswer(CAR, request.digest, 1000, ROOTS, encode_key_set(KEY_SET, ROOT), bytes(range(32)), 7, (GARAGE,))
    return encode_box_answer(replace(answer, **changes), CLOUD, request.agreement_public)  # type: ignore[arg-type]


def yes(_answer: BoxAnswer) -> bool:
    return True


@pytest.fixture
def box(tmp_path: Path) -> Path:
    take_answer(tmp_path, answer_for(make_keys(tmp_path)), yes)
    return tmp_path


def refused(reason: Reason) -> pytest.RaisesExc[Refused]:
    return pytest.RaisesExc(Refused, check=lambda error: error.reason is reason)


def test_what_the_box_is_given_reads_back_with_the_keys_that_it_made(box: Path) -> None:
    read, keys = load_provisioning(box / PROVISIONING), load_keys(box)
    assert (read.vehicle, read.roots, read.card_key) == (CAR, ROOTS, bytes(range(32)))
    assert (read.key_set_floor, read.list_floor, read.technicians) == (KEY_SET.version, 7, (GARAGE,))
    request = decode_box_request(keys.request)
    assert (read.agreement.public, read.signing.public) == (request.agreement_public, request.signing_public)


def test_keys_are_made_once_for_their_owner_alone_and_the_request_stays_the_same(tmp_path: Path) -> None:
    first = make_keys(tmp_path)
    assert stat.S_IMODE((tmp_path / KEYS).stat().st_mode) == 0o700
    assert {stat.S_IMODE(file.stat().st_mode) for file in (tmp_path / KEYS).iterdir()} == {0o600}
    assert make_keys(tmp_path).request == first.request
    assert len(first.request) < 300
    assert len({first.agreement.public, first.signing.public, decode_box_request(first.request).tls_public}) == 3


def test_no_private_key_is_in_what_leaves_the_box(tmp_path: Path) -> None:
    keys = make_keys(tmp_path)
    for file in (tmp_path / KEYS).glob("*.pem"):
        secret = AgreementKey.load(file).to_bytes()
        assert secret not in keys.request
        assert secret.hex().encode() not in keys.request


def test_a_cut_while_keys_are_made_leaves_none_and_they_are_made_anew(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def cut(*_: object) -> None:
        raise OSError("the power went")

    with monkeypatch.context() as patch:
        patch.setattr(provisioning, "write_secret", cut)
        with pytest.raises(OSError, match="power"):
            make_keys(tmp_path)
    assert not (tmp_path / KEYS).exists()
    with pytest.raises(ValueError, match="amibox provision request"):
        load_keys(tmp_path)
    assert make_keys(tmp_path).request == load_keys(tmp_path).request
    assert not (tmp_path / "keys.new").exists()


def test_damaged_keys_are_told_with_the_remedy_and_nothing_of_them(box: Path) -> None:
    place = box / KEYS
    (place / "signing.pem").write_bytes(STRANGE_BOX.to_pem())
    with pytest.raises(ValueError, match=r"damaged.*provision reset"):
        load_keys(box)
    (place / "signing.pem").write_bytes(b"-----BEGIN")
    with pytest.raises(ValueError, match="damaged"):
        load_keys(box)
    (place / "agreement.pem").chmod(0o644)
    with pytest.raises(ValueError, match="chmod 600"):
        load_keys(box)
    (place / "request.cbor").write_bytes(b"\0")
    with pytest.raises(ValueError, match="damaged"):
        load_keys(box)


@pytest.mark.parametrize("mode", [0o640, 0o604, 0o620])
def test_a_file_that_others_may_read_or_change_is_refused_with_the_remedy(box: Path, mode: int) -> None:
    (box / PROVISIONING).chmod(mode)
    with pytest.raises(ValueError, match="chmod 600"):
        load_provisioning(box / PROVISIONING)


def test_a_box_without_an_answer_is_told_the_remedy(tmp_path: Path) -> None:
    make_keys(tmp_path)
    with pytest.raises(ValueError, match="amibox provision accept"):
        load_provisioning(tmp_path / PROVISIONING)


def test_a_damaged_answer_is_refused_and_the_box_does_not_start_with_it(box: Path) -> None:
    file = box / PROVISIONING
    whole = file.read_bytes()
    for damaged in (b"", whole[:-1], whole[1:], b"\xff" * 90, whole + b"\0", bytes(70_000)):
        file.write_bytes(damaged)
        with pytest.raises(ValueError, match="no answer for this box") as told:
            load_provisioning(file)
        assert told.value.__cause__ is None


def test_no_secret_shows_in_a_representation(box: Path) -> None:
    given = load_provisioning(box / PROVISIONING)
    for shown in (repr(given), repr(open_answer((box / PROVISIONING).read_bytes(), load_keys(box)))):
        assert repr(given.card_key) not in shown
        assert given.card_key.hex() not in shown
        assert repr(GARAGE.digest) not in shown


def test_the_answer_for_another_box_is_refused(box: Path, tmp_path_factory: pytest.TempPathFactory) -> None:
    other = make_keys(tmp_path_factory.mktemp("other"))
    with refused(Reason.OTHER_RECIPIENT):
        take_answer(box, answer_for(other), yes)
    assert load_provisioning(box / PROVISIONING).vehicle == CAR


def test_the_answer_to_a_request_that_was_changed_on_its_way_is_refused(tmp_path: Path) -> None:
    """Who changed it put in a signing key of his own: what he signs would count as the box's."""
    keys = make_keys(tmp_path)
    honest = decode_box_request(keys.request)
    forged = BoxRequest(honest.agreement_public, STRANGE_BOX.public, honest.tls_public)
    encode_box_request(forged, STRANGE_BOX)  # it proves itself
    assert fingerprint(forged.digest) != fingerprint(honest.digest)
    with refused(Reason.CONTRADICTION):
        take_answer(tmp_path, answer_for(keys, request=forged.digest), yes)
    assert not (tmp_path / PROVISIONING).exists()


def test_a_first_answer_counts_only_once_its_roots_are_confirmed(tmp_path: Path) -> None:
    keys = make_keys(tmp_path)
    with refused(Reason.UNKNOWN_KEY_ID):
        take_answer(tmp_path, answer_for(keys), lambda answer: roots_fingerprint(answer.roots) == "another's")
    assert not (tmp_path / PROVISIONING).exists()
    take_answer(tmp_path, answer_for(keys), lambda answer: roots_fingerprint(answer.roots) == roots_fingerprint(ROOTS))


def test_a_later_answer_needs_the_same_roots_and_car_and_is_never_older(box: Path) -> None:
    keys = load_keys(box)
    thief = Signer.generate()
    theirs = encode_key_set(KeySet(9, KEY_SET.keys, KEY_SET.sealing_public), thief)
    with refused(Reason.UNKNOWN_KEY_ID):
        take_answer(box, answer_for(keys, roots=(thief.public,), key_set=theirs, version=2000), yes)
    with refused(Reason.WRONG_VEHICLE):
        take_answer(box, answer_for(keys, vehicle="hede-2", version=2000), yes)
    with refused(Reason.VERSION_TOO_LOW):
        take_answer(box, answer_for(keys, version=999, list_floor=0), yes)
    assert load_provisioning(box / PROVISIONING).list_floor == 7
    again = (box / PROVISIONING).read_bytes()
    take_answer(box, again, yes)
    take_answer(box, answer_for(keys, version=1001, technicians=()), lambda _: False)  # nobody is asked again
    assert load_provisioning(box / PROVISIONING).technicians == ()


def test_a_cut_while_an_answer_is_taken_leaves_the_one_before(box: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    later = answer_for(load_keys(box), version=2000, list_floor=8)

    def cut(_descriptor: int) -> None:
        raise OSError("the power went")

    with monkeypatch.context() as patch:
        patch.setattr(os, "fsync", cut)
        with pytest.raises(OSError, match="power"):
            take_answer(box, later, yes)
    assert load_provisioning(box / PROVISIONING).list_floor == 7
    take_answer(box, later, yes)
    assert load_provisioning(box / PROVISIONING).list_floor == 8


def test_a_fingerprint_is_eight_groups_of_five_digits_and_of_roots_in_any_order() -> None:
    assert fingerprint(bytes(range(32))) == "00001 00515 01029 01543 02057 02571 03085 03599"
    assert roots_fingerprint(ROOTS) == roots_fingerprint(ROOTS[::-1])
    assert roots_fingerprint(ROOTS) != roots_fingerprint(ROOTS[:1])
