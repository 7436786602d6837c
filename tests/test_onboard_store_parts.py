"""Every state that can be kept reads back equal from the disk."""

from __future__ import annotations

import shutil
import tempfile
from dataclasses import fields, replace
from pathlib import Path
from typing import Any

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from onboard import store_parts
from onboard.core.clock import Span
from onboard.core.grants import Pass, ReservationList, Rights
from onboard.core.state import Answered, Grants, Kept, Meter, Outbox, Rental, Trip
from onboard.store import StepRefused
from tests.store_rig import AT, CAR, LISTED, RENTAL, open_store, put, shell

finite = st.floats(allow_nan=False, allow_infinity=False)
short = st.binary(max_size=40)
text = st.text(max_size=12)
count = st.integers(0, 2**53)
st.register_type_strategy(float, finite)
st.register_type_strategy(bytes, short)
st.register_type_strategy(str, text)
st.register_type_strategy(int, count)
st.register_type_strategy(Rights, st.sampled_from([Rights(n) for n in range(8)]))

kept_values = st.builds(
    Kept,
    vehicle=st.just(CAR),
    floor_s=st.floats(1_790_000_000.0, 2e9),
    grants=st.builds(
        Grants,
        listed=st.none() | st.builds(ReservationList, vehicle=st.just(CAR)),
        version_floor=...,
        passes=st.lists(st.builds(Pass), max_size=2).map(tuple),
        command_counter=...,
        command_epoch=...,
        answered=st.lists(st.builds(Answered), max_size=2).map(tuple),
    ),
    rental=st.none()
    | st.builds(Rental, trip=st.none() | st.builds(Trip, meter=st.builds(Meter), span=st.builds(Span))),
    rentals=...,
    trips=...,
    ended=st.lists(short, max_size=2).map(tuple),
    odometer_m=...,
    maintenance=...,
    outbox=st.builds(Outbox, acked_seq=st.just(0)),
)


@settings(max_examples=60, deadline=None, suppress_health_check=[HealthCheck.too_slow])
@given(kept_values, kept_values)
def test_every_kept_state_reads_back_equal_after_two_steps_and_a_restart(first: Kept, second: Kept) -> None:
    directory = Path(tempfile.mkdtemp())
    try:
        opened = open_store(directory)
        opened.store.commit(first, (), AT, b"bootboot")
        wanted = opened.store.commit(second, (), AT, b"bootboot")
        opened.store.close()
        again = open_store(directory)
        again.store.close()
        # Floors outside the database may only lift what is inside.
        listed = again.kept.grants.listed
        found = replace(
            again.kept,
            floor_s=wanted.floor_s,
            grants=replace(again.kept.grants, listed=wanted.grants.listed, version_floor=wanted.grants.version_floor),
        )
        assert found == wanted
        assert again.replaced is None
        assert again.kept.floor_s >= wanted.floor_s
        assert again.kept.grants.version_floor >= wanted.grants.version_floor
        assert listed in {first.grants.listed, second.grants.listed}
    finally:
        shutil.rmtree(directory)


def test_every_field_of_the_state_is_a_part() -> None:
    names = set(store_parts.split(Kept(CAR, 0.0)))
    assert names == {f.name for f in fields(Kept)} - {"grants"} | {f"grants.{f.name}" for f in fields(Grants)}
    assert all(store_parts.known(name) for name in names)


def test_a_step_writes_only_the_parts_that_changed(tmp_path: Path) -> None:
    opened = open_store(tmp_path)
    kept = put(opened.store, replace(opened.kept, grants=Grants(listed=LISTED, version_floor=7)))
    assert opened.store._changed(replace(kept, rental=RENTAL, trips=5)).keys() == {"rental", "trips"}
    # An equal state built anew is no change either.
    assert opened.store._changed(replace(kept, grants=Grants(listed=replace(LISTED), version_floor=7))) == {}
    opened.store.close()


def test_a_part_that_an_older_version_did_not_have_takes_its_default(tmp_path: Path) -> None:
    opened = open_store(tmp_path)
    put(opened.store, replace(opened.kept, maintenance=True, trips=4))
    opened.store.close()
    shell(tmp_path / "store.db", "DELETE FROM state WHERE part = 'maintenance'")
    again = open_store(tmp_path)
    assert (again.kept.maintenance, again.kept.trips, again.replaced) == (False, 4, None)
    again.store.close()


def test_a_part_of_a_newer_version_is_left_alone(tmp_path: Path) -> None:
    open_store(tmp_path).store.close()
    value = '{"new":1}'
    shell(tmp_path / "store.db", "INSERT INTO state VALUES ('tow', ?, ?)", value, store_parts.check("tow", value))
    again = open_store(tmp_path)
    put(again.store, replace(again.kept, trips=1))
    again.store.close()
    assert again.replaced is None
    assert shell(tmp_path / "store.db", "SELECT value FROM state WHERE part = 'tow'") == [(value,)]


@pytest.mark.parametrize(
    ("name", "bad"), [("floor_s", float("nan")), ("floor_s", float("inf")), ("ended", [b"a list is no tuple"])]
)
def test_a_state_that_would_not_read_back_is_refused_and_the_one_before_holds(
    tmp_path: Path, name: str, bad: Any
) -> None:
    opened = open_store(tmp_path)
    kept = put(opened.store, replace(opened.kept, trips=1))
    with pytest.raises(StepRefused, match=name):
        put(opened.store, replace(kept, trips=2, **{name: bad}))
    kept = put(opened.store, replace(kept, trips=3))
    opened.store.close()
    again = open_store(tmp_path)
    assert again.kept == kept
    again.store.close()
