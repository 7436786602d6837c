"""What the broker's authority is made of: names, PEM, and files that are there whole or not at all."""

from __future__ import annotations

import contextlib
import os
import secrets
from collections.abc import Sequence
from ipaddress import ip_address
from pathlib import Path

from cryptography import x509
from cryptography.hazmat.primitives import serialization
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.x509.oid import NameOID


def write(path: Path, data: bytes, mode: int, *, replace: bool = False) -> None:
    """Write a durable file at once: a power cut leaves the old state or the new one, whoever reads sees one of them.

    FileExistsError where one is there already, unless ``replace``.
    """
    fresh = path.with_name(f".{path.name}.{secrets.token_hex(4)}")
    try:
        with os.fdopen(os.open(fresh, os.O_WRONLY | os.O_CREAT | os.O_EXCL, mode), "wb") as file:
            os.fchmod(file.fileno(), mode)  # whatever the umask says
            file.write(data)
            file.flush()
            os.fsync(file.fileno())
        if replace:
            fresh.replace(path)
        else:
            path.hardlink_to(fresh)
    finally:
        with contextlib.suppress(FileNotFoundError):
            fresh.unlink()
    sync(path.parent)


def sync(folder: Path) -> None:
    """Make the names in a folder durable."""
    opened = os.open(folder, os.O_RDONLY)
    try:
        os.fsync(opened)
    finally:
        os.close(opened)


def private_pem(key: ec.EllipticCurvePrivateKey) -> bytes:
    """Return a private key as mosquitto and OpenSSL read it."""
    return key.private_bytes(
        serialization.Encoding.PEM, serialization.PrivateFormat.PKCS8, serialization.NoEncryption()
    )


def pem(certificate: x509.Certificate) -> bytes:
    """Return a certificate as mosquitto and OpenSSL read it."""
    return certificate.public_bytes(serialization.Encoding.PEM)


def subject(name: str) -> x509.Name:
    """Return a name that is a common name and nothing else."""
    return x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, name)])


def common_name(of: x509.Name) -> str:
    """Return the one common name; ValueError for none or several, of which mosquitto would take one and we another."""
    (found,) = of.get_attributes_for_oid(NameOID.COMMON_NAME)
    return str(found.value)


def server_names(hosts: Sequence[str]) -> list[x509.GeneralName]:
    """Return names and addresses as a certificate holds them. ValueError for one that is neither."""
    names: list[x509.GeneralName] = []
    for host in hosts:
        try:
            names.append(x509.IPAddress(ip_address(host)))
        except ValueError:
            if not host or "*" in host or not host.isascii() or ":" in host or "/" in host:
                raise ValueError(f"{host!r} is neither a host name nor an address") from None
            names.append(x509.DNSName(host))
    return names


def key_usage(*, authority: bool) -> x509.KeyUsage:
    """Return what a key may do: sign certificates and lists, or sign in a handshake."""
    return x509.KeyUsage(
        digital_signature=not authority,
        key_cert_sign=authority,
        crl_sign=authority,
        content_commitment=False,
        key_encipherment=False,
        data_encipherment=False,
        key_agreement=False,
        encipher_only=False,
        decipher_only=False,
    )
