"""Bounded CBOR, envelopes and keys, against published examples where there are some.

Hex vectors: RFC 9052 appendix C and the COSE working group's repository (github.com/cose-wg/Examples):
``sign1-tests``, ``eddsa-examples``, ``RFC8152/Appendix_C_3_1.json``; RFC 8949 appendix A for CBOR.
"""

from __future__ import annotations

import base64
import os
import stat
from pathlib import Path

import cbor2
import pytest
from cryptography.hazmat.primitives import serialization
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.hazmat.primitives.ciphers.aead import AESGCM
from hypothesis import given
from hypothesis import strategies as st

from cloud_sync.documents import AgreementKey, BoxSigner, Reason, Refused, Signer, cbor, cose, key_id
from cloud_sync.documents.keys import PrivateKey, verify_ed25519, verify_es256
from cloud_sync.documents.kinds import DocumentType
from tests.document_rig import BOX, BOX_V, CAR, CLOUD, STRANGE_AGREEMENT

CONTENT = b"This is the content."
# Key "11" of RFC 9052 appendix C.7: public x and y.
KEY_11 = bytes.fromhex("02BAC5B11CAD8F99F9C72B05CF4B9E26D244DC189F745228255A219A86D6A09EFF")
# Key "meriadoc.brandybuck@buckland.example" of appendix C.7.2: private d.
MERIADOC = base64.urlsafe_b64decode("r_kHyZ-a06rmxM3yESK84r1otSg-aQcVStkRhA-iCM8=")


def refused(reason: Reason) -> pytest.RaisesExc[Refused]:
    return pytest.RaisesExc(Refused, check=lambda error: error.reason is reason)


def test_the_published_es256_message_verifies() -> None:
    # RFC 9052 C.2.1
    tag, protected, signature = (
        "D284",
        bytes.fromhex("A10126"),
        bytes.fromhex(
            "8EB33E4CA31D1C465AB05AAC34CC6B23D58FEF5C083106C4D25A91AEF0B0117E"
            "2AF9A291AA32E14AB834DC56ED2A223444547E01F11D3B0916E5A4C345CACB36"
        ),
    )
    assert tag == "D284"
    assert verify_es256(KEY_11, signature, cose.to_be_signed(protected, CONTENT))
    assert not verify_es256(KEY_11, signature, cose.to_be_signed(protected, CONTENT, b"x"))
    assert not verify_es256(BOX.public, signature, cose.to_be_signed(protected, CONTENT))


def test_the_published_es256_message_with_external_data_verifies() -> None:
    # sign1-tests/sign-pass-02.json
    external = bytes.fromhex("11AA22BB33CC44DD55006699")
    structure = cose.to_be_signed(bytes.fromhex("A10126"), CONTENT, external)
    assert structure == bytes.fromhex(
        "846A5369676E61747572653143A101264C11AA22BB33CC44DD5500669954546869732069732074686520636F6E74656E742E"
    )
    signature = bytes.fromhex(
        "EAE868ECC176883766C5DC5BA5B8DCA25DAB3C2E56A551CE5705B793914348E1"
        "55388B10C4F1B59A6733EAB416870A945111A4B2FBDBEF33A77234B1DEFF2F9B"
    )
    assert verify_es256(KEY_11, signature, structure)


def test_the_published_changed_message_does_not_verify() -> None:
    # sign1-tests/sign-fail-02.json: the last byte of the payload is changed
    signature = bytes.fromhex(
        "EAE868ECC176883766C5DC5BA5B8DCA25DAB3C2E56A551CE5705B793914348E1"
        "9F43D6C6BA654472DA301B645B293C9BA939295B97C4BDB847782BFF384C5794"
    )
    assert verify_es256(KEY_11, signature, cose.to_be_signed(bytes.fromhex("A10126"), CONTENT))
    assert not verify_es256(KEY_11, signature, cose.to_be_signed(bytes.fromhex("A10126"), CONTENT[:-1] + b"/"))


def test_the_published_ed25519_message_is_reproduced_byte_for_byte() -> None:
    # eddsa-examples/eddsa-sig-01 (COSE_Sign1), key 1 of RFC 8032 section 7.1
    signer = Signer.from_bytes(bytes.fromhex("9D61B19DEFFD5A60BA844AF492EC2CC44449C5697B326919703BAC031CAE7F60"))
    assert signer.public.hex() == "d75a980182b10ab7d54bfed3c964073a0ee172f3daa62325af021a68f707511a"
    structure = cose.to_be_signed(bytes.fromhex("A201270300"), CONTENT)
    signature = signer.sign(structure)
    assert signature == bytes.fromhex(
        "7142FD2FF96D56DB85BEE905A76BA1D0B7321A95C8C4D3607C5781932B7AFB87"
        "11497DFA751BF40B58B3BCC32300B1487F3DB34085EEF013BF08F4A44D6FEF0D"
    )
    assert verify_ed25519(signer.public, signature, structure)
    assert not verify_ed25519(CLOUD.public, signature, structure)


def test_the_published_direct_ecdh_message_opens_step_by_step() -> None:
    # RFC 9052 C.3.1 = RFC8152/Appendix_C_3_1.json: content algorithm A128GCM (1), 128 bits
    ephemeral = bytes.fromhex("0398F50A4FF6C05861C8860D13A638EA56C3F5AD7590BBFBF054E1C7B4D91D6280")
    secret = AgreementKey.from_bytes(MERIADOC).agree(ephemeral)
    assert secret.hex().upper() == "4B31712E096E5F20B4ECF9790FD8CC7C8B7E2C8AD90BDA81CB224F62C0E7B9A6"
    key = cose.content_key(secret, bytes.fromhex("A1013818"), algorithm=1, bits=128)
    assert key.hex().upper() == "56074D506729CA40C4B4FE50C6439893"
    structure = cose.to_be_sealed(bytes.fromhex("A10101"), b"")
    assert structure.hex().upper() == "8367456E637279707443A1010140"
    sealed = bytes.fromhex("7ADBE2709CA818FB415F1E5DF66F4E1A51053BA6D65A1A0C52A357DA7A644B8070A151B0")
    assert AESGCM(key).decrypt(bytes.fromhex("C9CF4DF2FE6C632BF7886413"), sealed, structure) == CONTENT


def test_a_shared_secret_is_the_same_for_both_signs_of_the_point() -> None:
    point = BOX_V.public[1:]
    assert STRANGE_AGREEMENT.agree(b"\x02" + point) == STRANGE_AGREEMENT.agree(b"\x03" + point)


def test_a_well_formed_foreign_cose_message_is_refused_by_its_shape() -> None:
    es256 = "D28443A10126A10442313154546869732069732074686520636F6E74656E742E5840" + "00" * 64
    ecdh = (
        "D8608443A10101A1054CC9CF4DF2FE6C632BF788641358247ADBE2709CA818FB415F1E5DF66F4E1A51053BA6D65A1A0C52A357DA"
        "7A644B8070A151B0818344A1013818A220A40102200121582098F50A4FF6C05861C8860D13A638EA56C3F5AD7590BBFBF054E1C7"
        "B4D91D628022F50458246D65726961646F632E6272616E64796275636B406275636B6C616E642E6578616D706C6540"
    )
    with refused(Reason.BAD_ENVELOPE):
        cose.parse_sign1(bytes.fromhex(es256))
    with refused(Reason.NOT_DETERMINISTIC):  # the RFC writes -1 before 4
        cose.parse_sealed(bytes.fromhex(ecdh))


@pytest.mark.parametrize(
    "good", ["00", "17", "1818", "1b7fffffffffffffff", "20", "3903e7", "f4", "f5", "f6", "f93c00", "fb3ff199999999999a",
             "40", "4401020304", "6449455446", "80", "83010203", "a0", "a201020304", "826161a161626163"],
)  # fmt: skip
def test_cbor_of_rfc_8949_appendix_a_is_taken_and_given_back_unchanged(good: str) -> None:
    assert cbor.dumps(cbor.loads(bytes.fromhex(good))) == bytes.fromhex(good)


@pytest.mark.parametrize(
    ("reason", "bad"),
    [
        (Reason.NOT_DETERMINISTIC, "1817"),  # 23 in two bytes
        (Reason.NOT_DETERMINISTIC, "190001"),
        (Reason.NOT_DETERMINISTIC, "5801ff"),
        (Reason.NOT_DETERMINISTIC, "fb3ff0000000000000"),  # 1.0 fits two bytes
        (Reason.NOT_DETERMINISTIC, "a202000100"),  # keys out of order
        (Reason.NOT_DETERMINISTIC, "f97c01"),  # a NaN with a message in it
        (Reason.NOT_CBOR, "a201000100"),  # the same key twice
        (Reason.NOT_CBOR, "a201000101"),
        (Reason.NOT_CBOR, "a20100f500"),  # 1 and true are one key to Python
        (Reason.NOT_CBOR, "a1a00000"),
        (Reason.NOT_CBOR, ""),
        (Reason.NOT_CBOR, "0000"),
        (Reason.NOT_CBOR, "18"),
        (Reason.NOT_CBOR, "1c"),  # reserved
        (Reason.NOT_CBOR, "5f40ff"),  # indefinite bytes
        (Reason.NOT_CBOR, "9f01ff"),
        (Reason.NOT_CBOR, "bf0102ff"),
        (Reason.NOT_CBOR, "ff"),
        (Reason.NOT_CBOR, "f7"),  # undefined
        (Reason.NOT_CBOR, "f8ff"),
        (Reason.NOT_CBOR, "61ff"),  # not UTF-8
        (Reason.NOT_CBOR, "c249010000000000000000"),  # a big number
        (Reason.NOT_CBOR, "c11a514b67b0"),  # a date
        (Reason.NOT_CBOR, "d81c80"),  # a shared value
        (Reason.NOT_CBOR, "9b7fffffffffffffff"),  # claims more than there is
        (Reason.NOT_CBOR, "bb7fffffffffffffff"),
        (Reason.NOT_CBOR, "5b7fffffffffffffff"),
        (Reason.NOT_CBOR, "9affffffff00"),
    ],
)
def test_cbor_that_no_document_uses_is_refused(reason: Reason, bad: str) -> None:
    with refused(reason):
        cbor.loads(bytes.fromhex(bad))


def test_depth_items_and_bytes_are_bounded_before_anything_is_built(monkeypatch: pytest.MonkeyPatch) -> None:
    assert cbor.loads(b"\x81" * 8 + b"\x00") is not None
    wide = cbor2.dumps([0] * (cbor.MAX_ITEMS - 1))
    assert len(cbor.loads(wide)) == cbor.MAX_ITEMS - 1

    def never(*_: object, **__: object) -> None:
        raise AssertionError("the library saw it")

    monkeypatch.setattr(cbor2, "loads", never)
    for tagged in ("c11a514b67b0", "82c100", "82d82300", "81c1", "8200f8ff"):
        with refused(Reason.NOT_CBOR):
            cbor.loads(bytes.fromhex(tagged))
    for bad in (b"\x81" * 9 + b"\x00", b"\x81" * 60_000 + b"\x00", cbor2.dumps([0] * cbor.MAX_ITEMS), bytes(65_537)):
        with refused(Reason.TOO_LARGE):
            cbor.loads(bad)


@given(st.binary(max_size=200))
def test_any_bytes_are_refused_or_come_back_the_same(data: bytes) -> None:
    try:
        value = cbor.loads(data)
    except Refused:
        return
    assert cbor.dumps(value) == data


ANYTHING = st.recursive(
    st.none()
    | st.booleans()
    | st.integers(-(2**63), 2**63)
    | st.binary(max_size=40)
    | st.text(max_size=9)
    | st.floats(),
    lambda inner: (
        st.lists(inner, max_size=5)
        | st.dictionaries(st.integers(-9, 9) | st.integers(-70002, -70001), inner, max_size=5)
    ),
    max_leaves=12,
)


@given(ANYTHING, ANYTHING, st.sampled_from([b"\xd2", b"\xd8\x60"]))
def test_an_envelope_around_anything_is_refused_and_never_crashes(header: object, body: object, tag: bytes) -> None:
    protected = cbor.dumps(header)
    for inside in (
        body,
        [protected, {}, protected, bytes(64)],
        [protected, {5: bytes(12)}, b"", [[protected, body, b""]]],
    ):
        data = tag + cbor.dumps(inside)
        with pytest.raises(Refused):
            cose.parse_sealed(data) if cose.is_sealed(data) else cose.parse_sign1(data)


def test_a_header_says_exactly_what_it_must_and_nothing_else() -> None:
    def message(header: object, unprotected: object = {}, signature: bytes = bytes(64)) -> bytes:
        return b"\xd2" + cbor.dumps([cbor.dumps(header), unprotected, b"x", signature])

    whole = {1: -8, 4: b"12345678", -70001: [5, 1]}
    assert cose.parse_sign1(message(whole)).type is DocumentType.ACK
    for reason, bad in (
        (Reason.BAD_ALGORITHM, message({**whole, 1: -7})),
        (Reason.BAD_ALGORITHM, message({**whole, 1: None})),
        (Reason.BAD_ALGORITHM, message({**whole, 1: -7, -70001: [5, 1]})),
        (Reason.BAD_ALGORITHM, message({**whole, -70001: [10, 1]})),  # a status with EdDSA
        (Reason.UNKNOWN_TYPE, message({**whole, -70001: [99, 1]})),
        (Reason.UNKNOWN_VERSION, message({**whole, -70001: [5, 0]})),
        (Reason.UNKNOWN_VERSION, message({**whole, -70001: [5, 2]})),
        (Reason.BAD_ENVELOPE, message({**whole, -70001: 5})),
        (Reason.BAD_ENVELOPE, message({**whole, -70001: [5, True]})),
        (Reason.BAD_ENVELOPE, message({**whole, 4: b""})),
        (Reason.BAD_ENVELOPE, message({**whole, 4: bytes(17)})),
        (Reason.BAD_ENVELOPE, message({**whole, 2: [1]})),
        (Reason.BAD_ENVELOPE, message({1: -8, -70001: [5, 1]})),
        (Reason.BAD_ENVELOPE, message(whole, {4: b"12345678"})),
        (Reason.BAD_ENVELOPE, message(whole, [])),
        (Reason.BAD_ENVELOPE, message(whole, {}, bytes(63))),
    ):
        with refused(reason):
            cose.parse_sign1(bad)


def test_a_seal_opens_for_its_key_its_car_and_its_type_only() -> None:
    kind = DocumentType.RESERVATION_LIST
    sealed = cose.parse_sealed(cose.seal(kind, CAR, b"secret", BOX_V.public))
    assert cose.unseal(sealed, CAR, BOX_V) == b"secret"
    with refused(Reason.OTHER_RECIPIENT):
        cose.unseal(sealed, CAR, STRANGE_AGREEMENT)
    with refused(Reason.BAD_SEAL):
        cose.unseal(sealed, "hede-2", BOX_V)
    batch = cose.parse_sealed(cose.seal(DocumentType.EVENT_BATCH, CAR, b"secret", BOX_V.public))
    as_list = cose.Sealed(kind, batch.recipient, sealed.protected, *_rest(batch))
    with refused(Reason.BAD_SEAL):
        cose.unseal(as_list, CAR, BOX_V)


def _rest(sealed: cose.Sealed) -> tuple[bytes, bytes, bytes, bytes]:
    return sealed.recipient_protected, sealed.ephemeral, sealed.iv, sealed.ciphertext


def test_an_ephemeral_point_that_is_not_on_the_curve_is_refused() -> None:
    sealed = cose.parse_sealed(cose.seal(DocumentType.RESERVATION_LIST, CAR, b"secret", BOX_V.public))
    off = cose.Sealed(
        sealed.type,
        sealed.recipient,
        sealed.protected,
        sealed.recipient_protected,
        b"\x02" + b"\xff" * 32,
        bytes(12),
        b"",
    )
    with refused(Reason.BAD_SEAL):
        cose.unseal(off, CAR, BOX_V)


def test_two_seals_of_the_same_share_nothing_that_repeats() -> None:
    once, again = (cose.parse_sealed(cose.seal(DocumentType.EVENT_BATCH, CAR, b"x" * 99, BOX_V.public)) for _ in "ab")
    assert (once.ephemeral, once.iv, once.ciphertext) != (again.ephemeral, again.iv, again.ciphertext)
    assert once.ephemeral != again.ephemeral


def test_a_box_key_signs_no_document_of_the_authority_and_the_other_way_round() -> None:
    with pytest.raises(ValueError, match="BoxSigner does not sign"):
        cose.sign1(DocumentType.PASS, b"x", BOX)
    with pytest.raises(ValueError, match="Signer does not sign"):
        cose.sign1(DocumentType.STATUS, b"x", CLOUD)


KINDS = [Signer, BoxSigner, AgreementKey]


@pytest.mark.parametrize("kind", KINDS)
def test_no_secret_shows_when_a_key_is_printed(kind: type[PrivateKey]) -> None:
    key = kind.generate()
    shown = f"{key!r} {key} {[key]} {vars(key) if hasattr(key, '__dict__') else ''}"
    assert key.kid.hex() in shown
    secret = key.to_bytes()
    for form in (
        secret.hex(),
        repr(secret)[2:-1],
        base64.b64encode(secret).decode(),
        str(int.from_bytes(secret, "big")),
    ):
        assert form not in shown


@pytest.mark.parametrize("kind", KINDS)
def test_a_key_comes_back_from_its_file_and_its_bytes(kind: type[PrivateKey], tmp_path: Path) -> None:
    key, path = kind.generate(), tmp_path / "key.pem"
    key.save(path)
    assert stat.S_IMODE(path.stat().st_mode) == 0o600
    for again in (kind.load(path), kind.from_bytes(key.to_bytes())):
        assert (again.public, again.kid, again.to_bytes()) == (key.public, key_id(key.public), key.to_bytes())
    with pytest.raises(FileExistsError):
        kind.generate().save(path)
    assert kind.load(path).public == key.public


def test_a_key_file_that_is_wrong_or_open_to_others_is_refused(tmp_path: Path) -> None:
    path = tmp_path / "key.pem"
    CLOUD.save(path)
    with refused(Reason.BAD_KEY_FILE):
        BoxSigner.load(path)
    path.chmod(0o604)
    with refused(Reason.BAD_KEY_FILE):
        Signer.load(path)
    path.chmod(0o600)
    path.write_bytes(BOX.to_pem())
    with refused(Reason.BAD_KEY_FILE):
        Signer.load(path)
    other = ec.generate_private_key(ec.SECP384R1()).private_bytes(
        serialization.Encoding.PEM, serialization.PrivateFormat.PKCS8, serialization.NoEncryption()
    )
    for bad in (
        b"",
        b"-----BEGIN PRIVATE KEY-----\nAAAA\n-----END PRIVATE KEY-----\n",
        BOX.to_pem()[:60],
        other,
        os.urandom(99),
    ):
        path.write_bytes(bad)
        with refused(Reason.BAD_KEY_FILE):
            AgreementKey.load(path)


@pytest.mark.parametrize("secret", [bytes(32), b"\xff" * 32, bytes(31), b""])
def test_bytes_that_are_no_private_key_are_no_key(secret: bytes) -> None:
    with pytest.raises(ValueError, match="P-256"):
        BoxSigner.from_bytes(secret)


def test_a_public_key_that_is_none_verifies_nothing() -> None:
    assert not verify_ed25519(bytes(31), bytes(64), b"")
    assert not verify_es256(b"\x02" + b"\xff" * 32, BOX.sign(b""), b"")
    assert not verify_es256(BOX.public, BOX.sign(b"")[:-1], b"")
    assert verify_es256(BOX.public, BOX.sign(b""), b"")
