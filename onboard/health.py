"""Looks at the computer in the car for its status: cheap enough for once a minute, and never a reason to stop."""

from __future__ import annotations

import contextlib
import shutil
from pathlib import Path
from typing import Final

from cryptography import x509

from cloud_sync.documents import Health
from onboard.store_open import DATABASE

THERMAL: Final = Path("/sys/class/thermal/thermal_zone0/temp")
"""The processor's, in thousandths of a degree Celsius, on every Raspberry Pi."""


def look(folder: Path, certificate: Path | None, running_s: float, thermal: Path = THERMAL) -> Health | None:
    """Return how it is; None where not even the disk says anything."""
    temperature_c = certificate_end_s = None
    with contextlib.suppress(OSError, ValueError):
        temperature_c = int(thermal.read_text()) / 1000
    if certificate is not None:
        with contextlib.suppress(OSError, ValueError):
            ends = x509.load_pem_x509_certificate(certificate.read_bytes()).not_valid_after_utc
            certificate_end_s = int(ends.timestamp())
    try:
        free = shutil.disk_usage(folder).free
        size = sum(path.stat().st_size for path in folder.glob(f"{DATABASE}*"))
    except OSError:
        return None
    return Health(free // 10**6, size // 10**6, max(0.0, running_s), temperature_c, certificate_end_s)
