"""The box's way to its broker over TLS, on a real mosquitto: a certificate for each side, made for this test alone."""

from __future__ import annotations

import gc
import ipaddress
import socket
import subprocess
import threading
from collections.abc import Iterator
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from pathlib import Path

import pytest
from cryptography import x509
from cryptography.hazmat.primitives import hashes, serialization
from cryptography.hazmat.primitives.asymmetric import ec

from cloud_sync.uplink import Uplink, UplinkSettings
from cloud_sync.wire import Topic
from onboard.core.events import Event, FaultReported, LinkReported
from tests.cloud_rig import free_port, wait_for

# paho leaves the socket of a failed TLS handshake to the garbage collector, which closes it, with this warning.
pytestmark = pytest.mark.filterwarnings("ignore:unclosed <ssl.SSLSocket:ResourceWarning")


@dataclass
class Authority:
    """A certificate authority in a folder."""

    folder: Path
    name: str

    def __post_init__(self) -> None:
        self.key = ec.generate_private_key(ec.SECP256R1())
        self.subject = x509.Name([x509.NameAttribute(x509.NameOID.COMMON_NAME, self.name)])
        self.file = self.folder / f"{self.name}.pem"
        self.file.write_bytes(self._sign(self.subject, self.key.public_key(), authority=True))

    def _sign(self, subject: x509.Name, public: ec.EllipticCurvePublicKey, *, authority: bool) -> bytes:
        now = datetime.now(UTC)
        builder = (
            x509.CertificateBuilder()
            .subject_name(subject)
            .issuer_name(self.subject)
            .public_key(public)
            .serial_number(x509.random_serial_number())
            .not_valid_before(now - timedelta(days=1))
            .not_valid_after(now + timedelta(days=1))
            .add_extension(x509.BasicConstraints(ca=authority, path_length=None), critical=True)
        )
        if not authority:
            address = x509.IPAddress(ipaddress.ip_address("127.0.0.1"))
            builder = builder.add_extension(x509.SubjectAlternativeName([address]), critical=False)
        return builder.sign(self.key, hashes.SHA256()).public_bytes(serialization.Encoding.PEM)

    def issue(self, name: str) -> tuple[Path, Path]:
        """Return the files of a certificate for 127.0.0.1 and of its key."""
        key = ec.generate_private_key(ec.SECP256R1())
        cert_file, key_file = self.folder / f"{name}.crt", self.folder / f"{name}.key"
        subject = x509.Name([x509.NameAttribute(x509.NameOID.COMMON_NAME, name)])
        cert_file.write_bytes(self._sign(subject, key.public_key(), authority=False))
        key_file.write_bytes(
            key.private_bytes(
                serialization.Encoding.PEM, serialization.PrivateFormat.PKCS8, serialization.NoEncryption()
            )
        )
        return cert_file, key_file


@dataclass
class Broker:
    """A mosquitto that asks for a certificate and takes its name as the user's."""

    authority: Authority
    port: int


def listens(port: int) -> bool:
    with socket.socket() as probe:
        return probe.connect_ex(("127.0.0.1", port)) == 0


@pytest.fixture
def broker(mosquitto: Path, tmp_path: Path) -> Iterator[Broker]:
    authority = Authority(tmp_path, "commune")
    cert, key = authority.issue("broker")
    (tmp_path / "access").write_text("pattern write amibox/v1/%u/up/+\npattern read amibox/v1/%u/down/+\n")
    port = free_port()
    settings = tmp_path / "mosquitto.conf"
    settings.write_text(
        f"listener {port} 127.0.0.1\ncafile {authority.file}\ncertfile {cert}\nkeyfile {key}\n"
        f"require_certificate true\nuse_identity_as_username true\nallow_anonymous false\n"
        f"acl_file {tmp_path / 'access'}\npersistence false\nuser root\n"
    )
    with subprocess.Popen([mosquitto, "-c", str(settings)], stderr=subprocess.DEVNULL) as process:
        wait_for(lambda: listens(port))
        yield Broker(authority, port)
        process.kill()


class Life:
    """What a worker is given, and what it told."""

    def __init__(self) -> None:
        self.events: list[Event] = []
        self.emit = self.events.append
        self.stop = threading.Event()

    def beat(self) -> None:
        pass

    def connected(self) -> bool:
        return LinkReported(connected=True) in self.events


def run(broker: Broker, ca: Path, cert: Path, key: Path) -> Iterator[tuple[Uplink, Life]]:
    life = Life()
    settings = UplinkSettings(
        "127.0.0.1", broker.port, "ami-1", ca=ca, cert=cert, key=key, backoff_first_s=0.05, backoff_longest_s=0.2
    )
    uplink = Uplink(settings, b"offline", lambda _topic, _payload: None)
    thread = threading.Thread(target=uplink.run, args=(life,))
    thread.start()
    try:
        yield uplink, life
    finally:
        life.stop.set()
        thread.join(20)
        assert not thread.is_alive()
        gc.collect()  # here, where its warning is expected


def test_a_box_connects_with_its_certificate_and_publishes(broker: Broker) -> None:
    for uplink, life in run(broker, broker.authority.file, *broker.authority.issue("ami-1")):
        wait_for(life.connected)
        assert uplink.publish(Topic.BATCH, b"sealed")
        wait_for(lambda up=uplink: up.counts["published"] == 1)  # type: ignore[misc]  # a default binds the loop's value


def test_a_broker_of_another_authority_is_no_broker(broker: Broker, tmp_path: Path) -> None:
    folder = tmp_path / "other"
    folder.mkdir()
    stranger = Authority(folder, "stranger")
    for uplink, life in run(broker, stranger.file, *broker.authority.issue("ami-1")):
        wait_for(lambda told=life: any(isinstance(e, FaultReported) for e in told.events))  # type: ignore[misc]  # as above
        assert not life.connected()
        assert not uplink.publish(Topic.BATCH, b"sealed")


def test_a_box_with_a_strangers_certificate_is_not_let_in(broker: Broker, tmp_path: Path) -> None:
    folder = tmp_path / "other"
    folder.mkdir()
    stranger = Authority(folder, "stranger")
    for uplink, life in run(broker, broker.authority.file, *stranger.issue("ami-1")):
        wait_for(lambda up=uplink: sum(up.counts.values()) > 1)  # type: ignore[misc]  # as above
        assert not life.connected()
