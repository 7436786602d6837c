"""How the computer in the car is: measured, said in a status, and missing where nothing is known."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

from cloud_sync.documents import decode_status, encode_status
from cloud_sync.endpoint.certificates import found
from onboard.health import look
from onboard.store_open import DATABASE
from tests.cloud_rig import NOW_S
from tests.document_rig import BOX, CAR, STATUS


def test_what_is_there_is_measured(tmp_path: Path) -> None:
    found(tmp_path / "commune", ["localhost"], NOW_S)
    thermal = tmp_path / "temp"
    thermal.write_text("57251\n")
    (tmp_path / DATABASE).write_bytes(bytes(2_500_000))
    (tmp_path / f"{DATABASE}-wal").write_bytes(bytes(600_000))
    health = look(tmp_path, tmp_path / "commune" / "broker" / "cloud.pem", 12.5, thermal)
    assert health is not None
    assert (health.store_mb, health.running_s, health.temperature_c) == (3, 12.5, 57.251)
    assert health.disk_free_mb > 0
    assert health.certificate_end_s is not None
    assert abs(health.certificate_end_s - NOW_S - 2 * 365 * 86_400) <= 1
    status = replace(STATUS, health=health)
    assert decode_status(encode_status(status, BOX), BOX.public, CAR) == status


def test_what_is_not_there_is_left_out(tmp_path: Path) -> None:
    (tmp_path / "box.pem").write_text("no certificate")
    health = look(tmp_path, tmp_path / "box.pem", -1.0, tmp_path / "nothing")
    assert health is not None
    assert (health.temperature_c, health.certificate_end_s, health.running_s) == (None, None, 0.0)
    assert look(tmp_path / "nowhere", None, 0.0) is None
