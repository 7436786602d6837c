"""Certificates for a broker and those who may speak to it, made for one run of the bench."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta
from ipaddress import ip_address
from typing import Final

from cryptography import x509
from cryptography.hazmat.primitives import hashes, serialization
from cryptography.hazmat.primitives.asymmetric import ec

VALID: Final = timedelta(days=3650)
"""Either way: tests step the clock by years."""


class Certifier:
    """A certificate authority that is forgotten with this object. ``pem`` is its own certificate."""

    def __init__(self) -> None:
        self._key = ec.generate_private_key(ec.SECP256R1())
        self._name = _name("bench")
        self.pem = self._sign(self._name, self._key.public_key(), authority=True)

    def issue(self, name: str, host: str = "localhost") -> tuple[bytes, bytes]:
        """Return the certificate of ``name``, good for a server on localhost and ``host`` as well, and its key: PEM."""
        key = ec.generate_private_key(ec.SECP256R1())
        private = key.private_bytes(
            serialization.Encoding.PEM, serialization.PrivateFormat.PKCS8, serialization.NoEncryption()
        )
        return self._sign(_name(name), key.public_key(), authority=False, host=host), private

    def _sign(
        self, subject: x509.Name, public: ec.EllipticCurvePublicKey, *, authority: bool, host: str = "localhost"
    ) -> bytes:
        now = datetime.now(UTC)
        builder = x509.CertificateBuilder(
            self._name, subject, public, x509.random_serial_number(), now - VALID, now + VALID
        )
        builder = builder.add_extension(x509.BasicConstraints(ca=authority, path_length=None), critical=True)
        if not authority:
            names = [x509.DNSName("localhost"), _server(host)]
            builder = builder.add_extension(x509.SubjectAlternativeName(names), critical=False)
        return builder.sign(self._key, hashes.SHA256()).public_bytes(serialization.Encoding.PEM)


def _server(host: str) -> x509.GeneralName:
    try:
        return x509.IPAddress(ip_address(host))
    except ValueError:
        return x509.DNSName(host)


def _name(text: str) -> x509.Name:
    return x509.Name([x509.NameAttribute(x509.NameOID.COMMON_NAME, text)])
