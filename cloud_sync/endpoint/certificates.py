"""The certificate authority of the commune's broker: who may speak to mosquitto, and until when.

``DIR/broker/authority/``  ca.key and, in ``issued/``, every certificate that was ever signed
``DIR/broker/mosquitto/``  what mosquitto reads and nothing else, to be copied to its machine as it is
``DIR/broker/cloud.pem``, ``cloud.key``  the endpoint's own

Not the authority of ``authority.py``: that one's signatures open doors, this one's open a pipe that nobody trusts.
Lifetimes and what a revocation takes: docs/decisions.md.
"""

from __future__ import annotations

import shutil
from collections.abc import Sequence
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Final

from cryptography import x509
from cryptography.hazmat.primitives import hashes, serialization
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.x509.oid import ExtendedKeyUsageOID

from cloud_sync.carrier_settings import ENDS_SOON_S
from cloud_sync.documents.schema import vehicle_id
from cloud_sync.endpoint.certificate_parts import (
    common_name,
    key_usage,
    pem,
    private_pem,
    server_names,
    subject,
    sync,
    write,
)

CLOUD: Final = "cloud"
BROKER: Final = "broker"
AUTHORITY_LIFE: Final = timedelta(days=20 * 365)
LIFE: Final = timedelta(days=2 * 365)
SLOW_CLOCK: Final = timedelta(days=1)
"""Everything begins this much before it is made: the clocks of broker and cloud may be behind."""
SHIPPED: Final = Path(__file__).parent.parent / "broker"
CONFIGURATION: Final = ("mosquitto.conf", "access.list")


class CertificateError(Exception):
    """Nothing was signed or revoked; the text says why and what to do."""


@dataclass(frozen=True, slots=True)
class Issued:
    """A certificate that was signed here, and whether it was taken back."""

    certificate: x509.Certificate
    revoked: bool

    @property
    def name(self) -> str:
        """Whose it is: a vehicle, ``cloud`` or ``broker``."""
        return common_name(self.certificate.subject)

    def state(self, now_s: float) -> str:
        """Return one of ``revoked``, ``ended``, ``ends soon``, ``valid``."""
        left_s = self.certificate.not_valid_after_utc.timestamp() - now_s
        if self.revoked:
            return "revoked"
        return "ended" if left_s < 0 else "ends soon" if left_s < ENDS_SOON_S else "valid"


@dataclass(frozen=True, slots=True)
class BrokerPaths:
    """Where things are in an endpoint's folder."""

    folder: Path

    @property
    def root(self) -> Path:
        """All that belongs to the broker's link."""
        return self.folder / "broker"

    @property
    def key(self) -> Path:
        """The authority's private key."""
        return self.root / "authority" / "ca.key"

    @property
    def issued(self) -> Path:
        """One file for each certificate."""
        return self.root / "authority" / "issued"

    @property
    def mosquitto(self) -> Path:
        """What mosquitto reads."""
        return self.root / "mosquitto"

    @property
    def ca(self) -> Path:
        """The authority's certificate."""
        return self.mosquitto / "ca.pem"

    @property
    def crl(self) -> Path:
        """The list of what was taken back."""
        return self.mosquitto / "crl.pem"


def found(folder: Path, hosts: Sequence[str], now_s: float) -> BrokerAuthority:
    """Make the authority, the broker's certificate for ``hosts`` (names or addresses) and the endpoint's own.

    All or nothing. CertificateError if there is one already, or no host.
    """
    paths = BrokerPaths(folder)
    if paths.root.exists():
        raise CertificateError(f"{paths.root} is there already. Nothing was changed.")
    names = server_names(hosts)
    if not names:
        raise CertificateError("the broker needs a name or an address under which boxes reach it")
    # Made elsewhere and renamed: half an authority could not be told from a whole one.
    draft = BrokerPaths(folder / "broker.new")
    shutil.rmtree(draft.folder, ignore_errors=True)
    for made in (draft.issued, draft.mosquitto):
        made.mkdir(mode=0o700, parents=True)
    now = datetime.fromtimestamp(now_s, UTC)
    key = ec.generate_private_key(ec.SECP256R1())
    own = subject("AmiBox broker authority")
    builder = x509.CertificateBuilder(
        own, own, key.public_key(), x509.random_serial_number(), now - SLOW_CLOCK, now + AUTHORITY_LIFE
    )
    builder = builder.add_extension(x509.BasicConstraints(ca=True, path_length=0), critical=True)
    builder = builder.add_extension(key_usage(authority=True), critical=True)
    builder = builder.add_extension(x509.SubjectKeyIdentifier.from_public_key(key.public_key()), critical=False)
    write(draft.key, private_pem(key), 0o600)
    write(draft.ca, pem(builder.sign(key, hashes.SHA256())), 0o644)
    made_here = BrokerAuthority(draft.folder)
    made_here.write_list((), now_s)
    for name, place, alternative in ((BROKER, draft.mosquitto, names), (CLOUD, draft.root, ())):
        pair = ec.generate_private_key(ec.SECP256R1())
        write(place / f"{name}.key", private_pem(pair), 0o600)
        write(place / f"{name}.pem", pem(made_here.issue(name, pair.public_key(), now_s, alternative)), 0o644)
    for file in CONFIGURATION:
        write(draft.mosquitto / file, (SHIPPED / file).read_bytes(), 0o644)
    draft.root.rename(paths.root)
    draft.folder.rmdir()
    sync(folder)
    return BrokerAuthority(folder)


class BrokerAuthority:
    """The authority of one endpoint's folder. One command at a time: nothing here locks."""

    def __init__(self, folder: Path) -> None:
        """Load it. CertificateError: there is none, or its key is open to others or another's."""
        self.paths = BrokerPaths(folder)
        try:
            open_to_others = self.paths.key.stat().st_mode & 0o077
            key = serialization.load_pem_private_key(self.paths.key.read_bytes(), None)
            self.certificate = x509.load_pem_x509_certificate(self.paths.ca.read_bytes())
        except FileNotFoundError as error:
            raise CertificateError(f"{error.filename} is missing: run amibox-cloud broker init first") from error
        except ValueError as error:
            raise CertificateError(f"{self.paths.root} is damaged ({error}): restore it from your copy") from error
        if open_to_others:
            raise CertificateError(f"others may read {self.paths.key}: run chmod 600 {self.paths.key}")
        if not isinstance(key, ec.EllipticCurvePrivateKey) or key.public_key() != self.certificate.public_key():
            raise CertificateError(f"{self.paths.key} is not the key of {self.paths.ca}: restore both from your copy")
        self._key = key

    def issued(self) -> list[Issued]:
        """Return every certificate, by name and then by age."""
        revoked = {entry.serial_number for entry in self._list()}
        found = [x509.load_pem_x509_certificate(file.read_bytes()) for file in self.paths.issued.glob("*.pem")]
        found.sort(key=lambda each: (common_name(each.subject), each.not_valid_before_utc, each.not_valid_after_utc))
        return [Issued(each, each.serial_number in revoked) for each in found]

    def give(self, vehicle: str, out: Path, now_s: float) -> None:
        """Make a box's key and certificate; write ``ca.pem``, ``box.pem`` and ``box.key`` to the folder ``out``.

        For a bench; in a car the key should be made in the box (``sign``). The key is kept nowhere else.
        CertificateError or FileExistsError: nothing is overwritten.
        """
        self._may_have(vehicle, now_s)
        key = ec.generate_private_key(ec.SECP256R1())
        self._hand_out(vehicle, key.public_key(), out, {"box.key": (private_pem(key), 0o600)}, now_s)

    def sign(self, vehicle: str, request: bytes, out: Path, now_s: float) -> None:
        """Sign the request (PEM) of a box that made its own key; write ``ca.pem`` and ``box.pem`` to ``out``.

        Only the key is taken from it: whatever else a request asks for is not granted. CertificateError if it isn't
        this vehicle's, proves no P-256 key, or brings a key back that was revoked.
        """
        self._may_have(vehicle, now_s)
        remedy = f"make one in the box: systemd/README.md, with -subj /CN={vehicle}"
        try:
            asked = x509.load_pem_x509_csr(request)
            named, public, proven = common_name(asked.subject), asked.public_key(), asked.is_signature_valid
        except ValueError as error:
            raise CertificateError(f"this is no certificate request: {remedy}") from error
        if named != vehicle:
            raise CertificateError(f"the request is of {named!r} and not of {vehicle!r}: {remedy}")
        if not proven or not isinstance(public, ec.EllipticCurvePublicKey) or public.curve.name != "secp256r1":
            raise CertificateError(f"the request proves no P-256 key: {remedy}")
        if any(each.revoked and each.certificate.public_key() == public for each in self.issued()):
            raise CertificateError(f"the request is for a key that was revoked. Delete it, then {remedy}")
        self._hand_out(vehicle, public, out, {}, now_s)

    def certify(self, vehicle: str, public: bytes, now_s: float, *, renew: bool) -> bytes:
        """Return (PEM) a certificate for the key of a box's request: one that holds long enough, unless ``renew``.

        ``public``: compressed P-256. CertificateError: the car has one for another key, or this key was revoked.
        """
        if vehicle in (BROKER, CLOUD):
            raise CertificateError(f"no box may be called {vehicle!r}: at the broker that is the {vehicle} itself")
        try:
            key = ec.EllipticCurvePublicKey.from_encoded_point(ec.SECP256R1(), public)
        except ValueError as error:
            raise CertificateError("the request's TLS key is none: have the box make keys again") from error
        mine = [each for each in self.issued() if each.certificate.public_key() == key]
        if any(each.revoked for each in mine):
            raise CertificateError("this key was revoked: amibox provision reset makes others in the box")
        others = [each for each in self.issued() if each.name == vehicle and each not in mine]
        if any(each.state(now_s) in ("valid", "ends soon") for each in others):
            raise CertificateError(
                f"{vehicle} has a certificate for another key. If no box uses it: amibox-cloud broker revoke {vehicle}"
            )
        good = [each.certificate for each in mine if each.name == vehicle and each.state(now_s) == "valid"]
        return pem(good[-1] if good and not renew else self.issue(vehicle, key, now_s))

    def revoke_others(self, vehicle: str, public: bytes, now_s: float) -> int:
        """Take back a box's certificates for any key but this one; return how many that were, 0 as well."""
        mine = [each.certificate for each in self.issued() if each.name == vehicle and not each.revoked]
        form = (serialization.Encoding.X962, serialization.PublicFormat.CompressedPoint)
        taken = [each.serial_number for each in mine if _public(each).public_bytes(*form) != public]
        if taken:
            self.write_list(taken, now_s)
        return len(taken)

    def renew(self, vehicle: str, out: Path, now_s: float) -> None:
        """Sign a box's key for another life, to the new file ``out``: nothing in it is secret.

        The older certificate runs out by itself. CertificateError for who has none, or only revoked ones.
        """
        if vehicle in (BROKER, CLOUD):
            raise CertificateError(f"the {vehicle}'s own certificate is replaced where it is: leave --out away")
        if out.exists():
            raise CertificateError(f"{out} is there already. Nothing was changed.")
        write(out, pem(self.issue(vehicle, _public(self._latest(vehicle)), now_s)), 0o644)

    def renew_own(self, name: str, now_s: float, hosts: Sequence[str] = ()) -> None:
        """Replace the broker's or the cloud's certificate by one for the same key: the broker's for ``hosts``, if any.

        CertificateError for any other name.
        """
        if name not in (BROKER, CLOUD):
            raise CertificateError(f"{name} is a box: --out FILE is needed for its new certificate")
        if hosts and name != BROKER:
            raise CertificateError("only the broker has hosts")
        latest = self._latest(name)
        names = server_names(hosts or self.hosts()) if name == BROKER else ()
        place = self.paths.mosquitto if name == BROKER else self.paths.root
        write(place / f"{name}.pem", pem(self.issue(name, _public(latest), now_s, names)), 0o644, replace=True)

    def hosts(self) -> list[str]:
        """Return the names and addresses that the broker's newest certificate holds."""
        names = self._latest(BROKER).extensions.get_extension_for_class(x509.SubjectAlternativeName).value
        return [str(each.value) for each in names]

    def revoke(self, vehicle: str, now_s: float) -> int:
        """Take back every certificate of a box and write the list anew; return how many that were.

        It counts once mosquitto has been started again. CertificateError for who has none.
        """
        if vehicle in (BROKER, CLOUD):
            raise CertificateError(
                f"only a box's certificate is revoked: boxes read no list, and who has the {vehicle}'s key has its "
                "machine. Make a new authority in a new folder, and give each box its ca.pem and a certificate."
            )
        taken = [each.certificate for each in self.issued() if each.name == vehicle and not each.revoked]
        if not taken:
            raise CertificateError(f"{vehicle} has no certificate that counts. Nothing was changed.")
        self.write_list([each.serial_number for each in taken], now_s)
        return len(taken)

    def write_list(self, serials: Sequence[int], now_s: float) -> None:
        """Write the revocation list with these added. It holds until the authority ends: docs/decisions.md."""
        now = datetime.fromtimestamp(now_s, UTC)
        before = self._list() if self.paths.crl.exists() else None
        # Later than the one before, to the second: where several were loaded OpenSSL believes the latest.
        since = now - SLOW_CLOCK
        number = 1
        builder = x509.CertificateRevocationListBuilder(self.certificate.subject)
        if before is not None:
            since = max(since, before.last_update_utc + timedelta(seconds=1))
            number = before.extensions.get_extension_for_class(x509.CRLNumber).value.crl_number + 1
            for entry in before:
                builder = builder.add_revoked_certificate(entry)
        for serial in serials:
            builder = builder.add_revoked_certificate(x509.RevokedCertificateBuilder(serial, now).build())
        builder = builder.last_update(since).next_update(self.certificate.not_valid_after_utc)
        builder = builder.add_extension(x509.CRLNumber(number), critical=False)
        builder = builder.add_extension(self._identifier(), critical=False)
        signed = builder.sign(self._key, hashes.SHA256())
        write(self.paths.crl, signed.public_bytes(serialization.Encoding.PEM), 0o644, replace=True)

    def issue(
        self, name: str, public: ec.EllipticCurvePublicKey, now_s: float, hosts: Sequence[x509.GeneralName] = ()
    ) -> x509.Certificate:
        """Sign and write down, in this order and before anybody gets it: what isn't known can't be revoked.

        With ``hosts`` for a server, and a server only; without for a client, and a client only.
        """
        now = datetime.fromtimestamp(now_s, UTC)
        end = min(now + LIFE, self.certificate.not_valid_after_utc)
        if end <= now:
            raise CertificateError(f"the authority ended on {end:%Y-%m-%d}: make a new one in a new folder")
        purpose = ExtendedKeyUsageOID.SERVER_AUTH if hosts else ExtendedKeyUsageOID.CLIENT_AUTH
        builder = x509.CertificateBuilder(
            self.certificate.subject, subject(name), public, x509.random_serial_number(), now - SLOW_CLOCK, end
        )
        builder = builder.add_extension(x509.BasicConstraints(ca=False, path_length=None), critical=True)
        builder = builder.add_extension(key_usage(authority=False), critical=True)
        builder = builder.add_extension(x509.ExtendedKeyUsage([purpose]), critical=False)
        builder = builder.add_extension(x509.SubjectKeyIdentifier.from_public_key(public), critical=False)
        builder = builder.add_extension(self._identifier(), critical=False)
        if hosts:
            builder = builder.add_extension(x509.SubjectAlternativeName(hosts), critical=False)
        signed = builder.sign(self._key, hashes.SHA256())
        write(self.paths.issued / f"{name}.{signed.serial_number:x}.pem", pem(signed), 0o644)
        return signed

    def _hand_out(
        self,
        vehicle: str,
        public: ec.EllipticCurvePublicKey,
        out: Path,
        files: dict[str, tuple[bytes, int]],
        now_s: float,
    ) -> None:
        there = next((out / name for name in ("ca.pem", "box.pem", *files) if (out / name).exists()), None)
        if there is not None:
            raise CertificateError(f"{there} is there already. Nothing was changed.")
        out.mkdir(mode=0o700, parents=True, exist_ok=True)
        files["box.pem"] = pem(self.issue(vehicle, public, now_s)), 0o644
        files["ca.pem"] = self.paths.ca.read_bytes(), 0o644
        for name, (content, mode) in files.items():
            write(out / name, content, mode)

    def _may_have(self, vehicle: str, now_s: float) -> None:
        vehicle_id(vehicle)
        if vehicle in (BROKER, CLOUD):
            raise CertificateError(f"no box may be called {vehicle!r}: at the broker that is the {vehicle} itself")
        counts = [
            each for each in self.issued() if each.name == vehicle and each.state(now_s) in ("valid", "ends soon")
        ]
        if counts:
            raise CertificateError(
                f"{vehicle} has a certificate until {counts[-1].certificate.not_valid_after_utc:%Y-%m-%d}: renew it, "
                "or revoke it first if its key is lost or in other hands"
            )

    def _latest(self, name: str) -> x509.Certificate:
        counts = [each.certificate for each in self.issued() if each.name == name and not each.revoked]
        if not counts:
            raise CertificateError(f"{name} has no certificate to renew: amibox-cloud broker box {name}")
        return counts[-1]

    def _list(self) -> x509.CertificateRevocationList:
        return x509.load_pem_x509_crl(self.paths.crl.read_bytes())

    def _identifier(self) -> x509.AuthorityKeyIdentifier:
        own = self.certificate.extensions.get_extension_for_class(x509.SubjectKeyIdentifier).value
        return x509.AuthorityKeyIdentifier.from_issuer_subject_key_identifier(own)


def _public(certificate: x509.Certificate) -> ec.EllipticCurvePublicKey:
    public = certificate.public_key()
    if not isinstance(public, ec.EllipticCurvePublicKey):
        raise CertificateError(f"the certificate of {common_name(certificate.subject)} was not made here")
    return public
