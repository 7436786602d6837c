"""How the computer in the car is, beside its car: part of a status."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any, Final

from cloud_sync.documents import schema
from cloud_sync.documents.schema import Fields, filled

_MAX_S: Final = 1e10


@dataclass(frozen=True, slots=True)
class Health:
    """``None``: not known. ``running_s``: since the daemon started; less than the boot's clock: it was started again.

    ``disk_free_mb`` and ``store_mb`` in 10^6 bytes; ``certificate_end_s``: Unix time, None without a certificate.
    """

    disk_free_mb: int
    store_mb: int
    running_s: float
    temperature_c: float | None = None
    certificate_end_s: int | None = None


def write_health(health: Health) -> dict[int, Any]:
    """Return the map that stands in a status."""
    temperature_c = None if health.temperature_c is None else float(health.temperature_c)
    values = {
        1: health.disk_free_mb,
        2: health.store_mb,
        3: float(health.running_s),
        4: temperature_c,
        5: health.certificate_end_s,
    }
    return filled(values)


def read_health(value: Any, where: str) -> Health:
    """Check the map's schema."""
    left = Fields(value, where)
    health = Health(
        disk_free_mb=left.need(1, "disk_free", schema.uint),
        store_mb=left.need(2, "store", schema.uint),
        running_s=left.need(3, "running", schema.number, 0.0, _MAX_S),
        temperature_c=left.may(4, "temperature", schema.number, -100.0, 200.0),
        certificate_end_s=left.may(5, "certificate_end", schema.uint, schema.MAX_TIME_S),
    )
    left.done()
    return health
