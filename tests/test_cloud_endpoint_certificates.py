"""The broker's authority: what it signs, what it refuses to, what it writes, and its command."""

from __future__ import annotations

import stat
from collections.abc import Callable
from datetime import UTC, datetime, timedelta
from itertools import pairwise
from pathlib import Path

import pytest
from cryptography import x509
from cryptography.hazmat.primitives import hashes, serialization
from cryptography.hazmat.primitives.asymmetric import ec, rsa
from cryptography.x509.oid import ExtendedKeyUsageOID

from cloud_sync.carrier import ENVELOPE_BYTES
from cloud_sync.carrier_settings import ENDS_SOON_S
from cloud_sync.documents import Refused
from cloud_sync.endpoint import certificates
from cloud_sync.endpoint.__main__ import main
from cloud_sync.endpoint.certificate_parts import write
from cloud_sync.endpoint.certificates import BrokerAuthority, CertificateError, found
from cloud_sync.mqtt_client import WINDOW
from cloud_sync.wire import MAX_PAYLOAD_BYTES
from tests.cloud_rig import NOW_S

DAY_S = 86_400.0
YEAR_S = 365 * DAY_S


@pytest.fixture
def authority(tmp_path: Path) -> BrokerAuthority:
    return found(tmp_path / "commune", ["broker.example.org", "192.0.2.7"], NOW_S)


def request(name: str, key: ec.EllipticCurvePrivateKey | rsa.RSAPrivateKey | None = None) -> bytes:
    """What a box sends: here also with a wish for more than it may have."""
    key = key or ec.generate_private_key(ec.SECP256R1())
    builder = x509.CertificateSigningRequestBuilder(x509.Name([x509.NameAttribute(x509.NameOID.COMMON_NAME, name)]))
    builder = builder.add_extension(x509.BasicConstraints(ca=True, path_length=None), critical=True)
    builder = builder.add_extension(x509.SubjectAlternativeName([x509.DNSName("broker.example.org")]), critical=False)
    return builder.sign(key, hashes.SHA256()).public_bytes(serialization.Encoding.PEM)


def read(file: Path) -> x509.Certificate:
    return x509.load_pem_x509_certificate(file.read_bytes())


def revoked(authority: BrokerAuthority) -> list[int]:
    return [entry.serial_number for entry in x509.load_pem_x509_crl(authority.paths.crl.read_bytes())]


def everything(folder: Path) -> dict[Path, bytes]:
    return {file: file.read_bytes() for file in folder.rglob("*") if file.is_file()}


def test_keys_are_for_their_owner_alone_and_the_authoritys_is_not_where_mosquitto_reads(
    authority: BrokerAuthority, tmp_path: Path
) -> None:
    authority.give("ami-1", tmp_path / "box", NOW_S)
    files = [file for file in tmp_path.rglob("*") if file.is_file()]
    keys = {file.name for file in files if b"PRIVATE KEY" in file.read_bytes()}
    assert keys == {"ca.key", "cloud.key", "broker.key", "box.key"}
    for file in files:
        assert stat.S_IMODE(file.stat().st_mode) == (0o600 if file.name in keys else 0o644), file
    assert {file.name for file in authority.paths.mosquitto.iterdir()} == {
        "mosquitto.conf",
        "access.list",
        "ca.pem",
        "crl.pem",
        "broker.pem",
        "broker.key",
    }


def test_the_shipped_bounds_are_those_of_the_carrier(authority: BrokerAuthority) -> None:
    lines = (authority.paths.mosquitto / "mosquitto.conf").read_text().splitlines()
    assert f"max_packet_size {MAX_PAYLOAD_BYTES + ENVELOPE_BYTES}" in lines
    assert f"max_inflight_messages {WINDOW}" in lines


def test_lives_and_names(authority: BrokerAuthority, tmp_path: Path) -> None:
    authority.give("ami-1", tmp_path / "box", NOW_S)
    box, broker = read(tmp_path / "box" / "box.pem"), read(authority.paths.mosquitto / "broker.pem")
    now = datetime.fromtimestamp(NOW_S, UTC)
    for each in (box, broker):
        assert (each.not_valid_before_utc, each.not_valid_after_utc) == (
            now - timedelta(days=1),
            now + timedelta(days=730),
        )
    names = broker.extensions.get_extension_for_class(x509.SubjectAlternativeName).value
    assert names.get_values_for_type(x509.DNSName) == ["broker.example.org"]
    assert [str(each) for each in names.get_values_for_type(x509.IPAddress)] == ["192.0.2.7"]
    with pytest.raises(x509.ExtensionNotFound):
        box.extensions.get_extension_for_class(x509.SubjectAlternativeName)


def test_no_certificate_outlives_its_authority(authority: BrokerAuthority, tmp_path: Path) -> None:
    end = authority.certificate.not_valid_after_utc
    authority.give("ami-1", tmp_path / "late", end.timestamp() - YEAR_S)
    assert read(tmp_path / "late" / "box.pem").not_valid_after_utc == end
    with pytest.raises(CertificateError, match="the authority ended on"):
        authority.give("ami-2", tmp_path / "too-late", end.timestamp() + 1)


def test_a_request_gives_its_key_and_nothing_else(authority: BrokerAuthority, tmp_path: Path) -> None:
    key = ec.generate_private_key(ec.SECP256R1())
    authority.sign("ami-1", request("ami-1", key), tmp_path / "box", NOW_S)
    assert {file.name for file in (tmp_path / "box").iterdir()} == {"ca.pem", "box.pem"}
    signed = read(tmp_path / "box" / "box.pem")
    assert signed.public_key() == key.public_key()
    assert not signed.extensions.get_extension_for_class(x509.BasicConstraints).value.ca
    purposes = signed.extensions.get_extension_for_class(x509.ExtendedKeyUsage).value
    assert list(purposes) == [ExtendedKeyUsageOID.CLIENT_AUTH]
    assert len(list(signed.extensions)) == 5


def test_a_request_that_is_not_this_boxs_is_refused_in_words(authority: BrokerAuthority, tmp_path: Path) -> None:
    signed = bytearray(x509.load_pem_x509_csr(request("ami-1")).public_bytes(serialization.Encoding.DER))
    signed[-1] ^= 1
    bent = x509.load_der_x509_csr(bytes(signed)).public_bytes(serialization.Encoding.PEM)
    rsa_key = rsa.generate_private_key(65537, 2048)
    for data, said in (
        (request("ami-2"), "of 'ami-2' and not of 'ami-1'"),
        (b"", "no certificate request"),
        (b"-----BEGIN CERTIFICATE REQUEST-----\nAAAA\n-----END CERTIFICATE REQUEST-----\n", "no certificate request"),
        (request("ami-1", rsa_key), "proves no P-256 key"),
        (request("ami-1", ec.generate_private_key(ec.SECP384R1())), "proves no P-256 key"),
        (bent, "proves no P-256 key"),
    ):
        with pytest.raises(CertificateError, match=said):
            authority.sign("ami-1", data, tmp_path / "box", NOW_S)
    assert not (tmp_path / "box").exists()
    assert {each.name for each in authority.issued()} == {"broker", "cloud"}


@pytest.mark.parametrize("name", ["cloud", "broker", "Ami 1", "+", "#", "a/b", ""])
def test_no_box_gets_a_name_that_is_more_than_a_box(authority: BrokerAuthority, tmp_path: Path, name: str) -> None:
    acts: tuple[Callable[[], None], ...] = (
        lambda: authority.give(name, tmp_path / "box", NOW_S),
        lambda: authority.sign(name, request(name or "x"), tmp_path / "box", NOW_S),
    )
    for act in acts:
        with pytest.raises((CertificateError, Refused), match=r"no box may be called|vehicle"):
            act()
    assert not (tmp_path / "box").exists()


def test_a_car_has_one_living_key_and_nothing_is_overwritten(authority: BrokerAuthority, tmp_path: Path) -> None:
    authority.give("ami-1", tmp_path / "box", NOW_S)
    before = everything(tmp_path)
    for act, said in (
        (lambda: authority.give("ami-1", tmp_path / "again", NOW_S), "has a certificate until 2029-01-14: renew it"),
        (lambda: authority.give("ami-2", tmp_path / "box", NOW_S), "there already"),
        (lambda: authority.renew("ami-1", tmp_path / "box" / "box.pem", NOW_S), "there already"),
        (lambda: authority.renew("ami-2", tmp_path / "new.pem", NOW_S), "no certificate to renew"),
        (lambda: authority.renew("cloud", tmp_path / "new.pem", NOW_S), "leave --out away"),
        (lambda: authority.renew_own("ami-1", NOW_S), "is a box"),
        (lambda: authority.renew_own("cloud", NOW_S, ["x"]), "only the broker has hosts"),
        (lambda: found(tmp_path / "commune", ["x"], NOW_S), "there already"),
        (lambda: authority.revoke("ami-2", NOW_S), "no certificate that counts"),
        (lambda: authority.revoke("cloud", NOW_S), "only a box's certificate is revoked"),
    ):
        with pytest.raises(CertificateError, match=said):
            act()
    assert everything(tmp_path) == before
    authority.give("ami-1", tmp_path / "years later", NOW_S + 2 * YEAR_S + DAY_S)


def test_a_revoked_key_never_comes_back_and_a_new_one_may(authority: BrokerAuthority, tmp_path: Path) -> None:
    key = ec.generate_private_key(ec.SECP256R1())
    authority.sign("ami-1", request("ami-1", key), tmp_path / "first", NOW_S)
    authority.renew("ami-1", tmp_path / "renewed.pem", NOW_S + YEAR_S)
    assert authority.revoke("ami-1", NOW_S + YEAR_S) == 2  # both would let it in
    files = (tmp_path / "first" / "box.pem", tmp_path / "renewed.pem")
    assert revoked(authority) == [read(file).serial_number for file in files]
    with pytest.raises(CertificateError, match="a key that was revoked"):
        authority.sign("ami-1", request("ami-1", key), tmp_path / "again", NOW_S + YEAR_S)
    with pytest.raises(CertificateError, match="no certificate to renew"):
        authority.renew("ami-1", tmp_path / "again.pem", NOW_S + YEAR_S)
    authority.sign("ami-1", request("ami-1"), tmp_path / "new", NOW_S + YEAR_S)
    assert read(tmp_path / "new" / "box.pem").serial_number not in revoked(authority)


def test_each_list_holds_the_one_before_is_later_and_lasts_as_long_as_the_authority(
    authority: BrokerAuthority, tmp_path: Path
) -> None:
    lists = [x509.load_pem_x509_crl(authority.paths.crl.read_bytes())]
    for number in range(1, 4):
        authority.give(f"ami-{number}", tmp_path / f"{number}", NOW_S)
        authority.revoke(f"ami-{number}", NOW_S)  # in one second
        lists.append(x509.load_pem_x509_crl(authority.paths.crl.read_bytes()))
    assert [len(each) for each in lists] == [0, 1, 2, 3]
    assert [each.extensions.get_extension_for_class(x509.CRLNumber).value.crl_number for each in lists] == [1, 2, 3, 4]
    assert all(one.last_update_utc < two.last_update_utc for one, two in pairwise(lists))
    # A list that is over, or from the future, has OpenSSL refuse everybody.
    assert all(each.next_update_utc == authority.certificate.not_valid_after_utc for each in lists)
    assert all(each.last_update_utc.timestamp() <= NOW_S - DAY_S + 3 for each in lists)
    assert all(each.is_signature_valid(authority.certificate.public_key()) for each in lists)  # type: ignore[arg-type]  # P-256


def test_renewing_keeps_the_key_and_the_names(authority: BrokerAuthority) -> None:
    broker = authority.paths.mosquitto / "broker.pem"
    before, key = read(broker), (authority.paths.mosquitto / "broker.key").read_bytes()
    authority.renew_own("broker", NOW_S + YEAR_S)
    after = read(broker)
    assert after.public_key() == before.public_key()
    assert (authority.paths.mosquitto / "broker.key").read_bytes() == key
    assert after.not_valid_after_utc == before.not_valid_after_utc + timedelta(days=365)
    names = x509.SubjectAlternativeName
    assert after.extensions.get_extension_for_class(names) == before.extensions.get_extension_for_class(names)
    authority.renew_own("broker", NOW_S + YEAR_S, ["moved.example.org"])
    moved = read(broker).extensions.get_extension_for_class(names).value
    assert moved.get_values_for_type(x509.DNSName) == ["moved.example.org"]


def test_half_an_authority_is_none(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    folder = tmp_path / "commune"
    left = 0

    def counted(path: Path, data: bytes, mode: int, *, replace: bool = False) -> None:
        nonlocal left
        if left == 0:
            raise OSError(28, "No space left on device")
        left -= 1
        write(path, data, mode, replace=replace)

    monkeypatch.setattr(certificates, "write", counted)
    files = 11  # key, authority, list, two keys, two certificates and their records, two files of mosquitto's
    for cut in range(files):
        left = cut
        with pytest.raises(OSError, match="No space"):
            found(folder, ["localhost"], NOW_S)
        with pytest.raises(CertificateError, match="run amibox-cloud broker init first"):
            BrokerAuthority(folder)
    left = files
    found(folder, ["localhost"], NOW_S)
    BrokerAuthority(folder)


def test_a_file_is_there_whole_or_not_at_all(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    file = tmp_path / "crl.pem"
    write(file, b"old", 0o644)
    with pytest.raises(FileExistsError):
        write(file, b"new", 0o644)

    def no_room(_number: int) -> None:
        raise OSError(28, "No space left on device")

    monkeypatch.setattr("os.fsync", no_room)
    with pytest.raises(OSError, match="No space"):
        write(file, b"new", 0o644, replace=True)
    assert everything(tmp_path) == {file: b"old"}


def test_an_authority_that_others_may_read_or_that_is_another_s_is_noticed(
    authority: BrokerAuthority, tmp_path: Path
) -> None:
    folder, key = authority.paths.folder, authority.paths.key
    key.chmod(0o640)
    with pytest.raises(CertificateError, match="chmod 600"):
        BrokerAuthority(folder)
    key.chmod(0o600)
    other = found(tmp_path / "other", ["x"], NOW_S)
    key.write_bytes(other.paths.key.read_bytes())
    with pytest.raises(CertificateError, match="is not the key of"):
        BrokerAuthority(folder)
    key.write_bytes(b"nonsense")
    with pytest.raises(CertificateError, match="damaged"):
        BrokerAuthority(folder)


@pytest.mark.parametrize("hosts", [[], ["*.example.org"], ["mqtts://x"], ["x:8883"], [""], ["é.fr"]])
def test_a_broker_needs_a_name_that_is_one(tmp_path: Path, hosts: list[str]) -> None:
    with pytest.raises((CertificateError, ValueError), match=r"needs a name|neither a host name"):
        found(tmp_path / "commune", hosts, NOW_S)
    assert not (tmp_path / "commune").exists()


def test_the_command_from_init_to_revoke(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    folder, box, new = str(tmp_path / "commune"), tmp_path / "box", tmp_path / "new.pem"
    csr = tmp_path / "box.csr"
    csr.write_bytes(request("ami-2"))

    def run(*words: str | Path, at_s: float = NOW_S) -> str:
        assert main(["broker", *map(str, words)], lambda: at_s) == 0
        return capsys.readouterr().out

    assert "--mqtt broker.example.org:8883 --mqtt-ca" in run("init", folder, "broker.example.org")
    run("box", "ami-1", "--dir", folder, "--out", box)
    assert "Nothing in it is secret" in run("box", "ami-2", "--dir", folder, "--request", csr, "--out", tmp_path / "b2")
    run("renew", "ami-1", "--dir", folder, "--out", new, at_s=NOW_S + YEAR_S)
    assert "next connection" in run("renew", "cloud", "--dir", folder)
    assert "restart mosquitto" in run("renew", "broker", "--dir", folder, "--host", "moved.example.org")
    said = run("revoke", "ami-2", "--dir", folder)
    assert "a reload is not enough" in said
    assert "restart mosquitto" in said
    late_s = NOW_S + 2 * YEAR_S - ENDS_SOON_S + 1
    listed = [line.split(maxsplit=2)[::2] for line in run("list", "--dir", folder, at_s=late_s).splitlines()[:-1]]
    assert [(name, rest.rsplit(maxsplit=1)[0].strip()) for name, rest in listed] == [
        ("ami-1", "ends soon"),
        ("ami-1", "valid"),
        ("ami-2", "revoked"),
        ("broker", "ends soon"),
        ("broker", "ends soon"),
        ("cloud", "ends soon"),
        ("cloud", "ends soon"),
    ]
    assert main(["broker", "box", "cloud", "--dir", folder, "--out", str(tmp_path / "x")], lambda: NOW_S) == 1
    assert main(["broker", "list", "--dir", str(tmp_path / "nowhere")], lambda: NOW_S) == 1
    said = capsys.readouterr().err
    assert "no box may be called 'cloud'" in said
    assert "run amibox-cloud broker init first" in said
    assert "Traceback" not in said
