"""Fixtures that every test may use."""

from __future__ import annotations

import os
from pathlib import Path

import pytest

RECORDINGS = Path(os.environ.get("AMIBOX_DATA", Path(__file__).parent.parent.parent / "shared" / "data"))


@pytest.fixture(scope="session")
def recordings() -> Path:
    """Folder of real recordings (``can/``, ``nmea/``), outside the project: some may not be copied.

    Without it a test that needs it is skipped by name, except in CI, where it fails.
    """
    if RECORDINGS.is_dir():
        return RECORDINGS
    message = f"no recordings at {RECORDINGS}: set AMIBOX_DATA to their folder"
    if os.environ.get("CI"):
        pytest.fail(message)
    pytest.skip(message)
