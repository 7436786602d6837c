"""What the box says to the journal in a week of drivers with phones and cards: nobody's name, key, number or place."""

from __future__ import annotations

import asyncio
import logging
from pathlib import Path

import pytest
from sqlalchemy import select

from cloud_sync.endpoint import tables
from onboard.scrub import known_of
from sim.week import Week
from sim.week_town import STATIONS

OURS = ("amibox", "onboard", "hw", "cloud_sync")


def test_a_week_of_rentals_leaves_nobody_in_the_journal(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    caplog.set_level(logging.DEBUG)
    week = Week(tmp_path, lambda *_: None)
    # The store is closed by then: what it holds is what the box knew.
    result = asyncio.run(week.play())
    assert result.trips, "there were rentals to tell of"
    people = known_of(tmp_path / "car") | known_of(tmp_path / "car" / "data")
    with week._town.store.read() as db:
        for row in db.execute(select(tables.bookings)):
            people |= {row.id.hex(), row.driver.hex()}
    people |= {f"{degrees:.3f}" for each in STATIONS for degrees in (each.latitude, each.longitude)}
    people |= {"Anna", "Bert", "Chloé", "David", "Emma", "fanny's!"}
    lines = [
        record.getMessage()
        for record in caplog.records
        if record.name.startswith(OURS) and not record.name.startswith("cloud_sync.endpoint")
    ]
    assert len(lines) > 5, "it says something"
    said = "\n".join(lines).lower()
    assert len(people) > 100
    assert not [each for each in people if each.lower() in said]
