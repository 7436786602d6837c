"""TLS towards the broker, for a side that trusts its clock (the cloud) and for one that doesn't (a box).

A Pi wakes in 1970, or a false sky takes it to 2049: by such a clock every certificate is too young or too old, and the
box would be locked out until somebody comes. So a box leaves the clock out. What it knows is a floor, the newest signed
time: a certificate that ended before it is over by any clock. One that has not begun says only that our clock is slow.
"""

from __future__ import annotations

import ssl
from collections.abc import Callable
from datetime import UTC, datetime
from pathlib import Path
from typing import Any, Final

from cryptography import x509

from cloud_sync.carrier_settings import CarrierSettings

NO_CHECK_TIME: Final = 0x200000
"""X509_V_FLAG_NO_CHECK_TIME of OpenSSL, which Python has no name for: dates are left out, all else is verified."""


def client_context(settings: CarrierSettings) -> ssl.SSLContext:
    """Read ``ca``, ``cert`` and ``key`` anew and return a context for one connection: a replaced file counts from here.

    Chain, host name and purpose are always verified. Dates: by the system's clock, or, given ``known_s``, the peer's
    own against that, at the end of the handshake and before a byte of MQTT; ``ssl.SSLCertVerificationError``.
    Raises OSError (``ssl.SSLError`` is one) for files that can't be used.
    """
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT)
    context.minimum_version = ssl.TLSVersion.TLSv1_2
    context.load_verify_locations(settings.ca)
    if settings.cert is not None:
        context.load_cert_chain(settings.cert, settings.key)
    if settings.known_s is not None:
        context.verify_flags |= NO_CHECK_TIME
    context.sslsocket_class = _socket_class(settings.known_s)
    return context


def end_s(cert: Path) -> float:
    """Return when the certificate in a PEM file ends, in Unix seconds. OSError or ValueError: there is none."""
    return x509.load_pem_x509_certificate(cert.read_bytes()).not_valid_after_utc.timestamp()


def day(unix_s: float) -> str:
    """Return a date as people write it; ``?`` for one that no calendar has."""
    try:
        return f"{datetime.fromtimestamp(unix_s, UTC):%Y-%m-%d}"
    except (ValueError, OverflowError, OSError):
        return "?"


def _socket_class(known_s: Callable[[], float] | None) -> type[ssl.SSLSocket]:
    class HeldSocket(ssl.SSLSocket):
        """Ends a handshake with a certificate that is over by what we know, and is closed where one fails."""

        def do_handshake(self, block: bool = False) -> None:  # noqa: FBT001, FBT002  (its parent's signature)
            try:
                super().do_handshake(block)
                if known_s is not None:
                    _refuse_ended(self.getpeercert(), known_s())
            except Exception:
                self.close()  # paho would leave it to the garbage collector
                raise

    return HeldSocket


def _refuse_ended(peer: Any, known_s: float) -> None:
    ended_s = ssl.cert_time_to_seconds(peer["notAfter"])
    if ended_s < known_s:
        raise ssl.SSLCertVerificationError(
            f"the broker's certificate ended on {day(ended_s)}, and by signed times it is {day(known_s)}"
        )
