"""The table of states: its page is what the generator makes, and no entry of it could be another."""

from __future__ import annotations

import importlib.util
from collections.abc import Callable
from types import ModuleType

import pytest

from onboard.core import machine
from onboard.core.machine import TRANSITIONS, Phase
from onboard.core.records import Recordable, RentalEnded, TripEnded, TripStarted
from tests import test_core_doors, test_core_machine, test_core_rental
from tests.conftest import ROOT

SCENARIOS: dict[tuple[Phase, type[Recordable]], Callable[[], None]] = {
    (
        Phase.AVAILABLE,
        TripStarted,
    ): test_core_machine.test_a_granted_tap_is_answered_and_a_waiting_request_gets_its_reply,
    (Phase.ON_TRIP, TripEnded): test_core_doors.test_a_trip_does_not_end_on_a_report_sampled_before_the_pulse_ended,
    (Phase.STOPPED, TripStarted): test_core_rental.test_a_later_tap_opens_a_stopped_rental_again_anywhere,
    (Phase.STOPPED, RentalEnded): test_core_rental.test_a_second_tap_soon_after_the_lock_ends_the_rental_anywhere,
}
"""For each entry of the table, a test that fails without it."""

ENTRIES = [(before, record) for before, moves in TRANSITIONS.items() for record in moves]


@pytest.fixture
def generator() -> ModuleType:
    spec = importlib.util.spec_from_file_location("make_states", ROOT / "docs" / "make_states.py")
    assert spec is not None
    assert spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


def test_the_page_is_what_the_generator_makes_of_the_table(generator: ModuleType) -> None:
    assert generator.PAGE.read_text(encoding="utf-8") == generator.page(), "run docs/make_states.py"


def test_the_page_names_every_transition_once(generator: ModuleType) -> None:
    assert list(generator.DECIDED) == ENTRIES
    text = generator.page()
    for before, moves in TRANSITIONS.items():
        for record, after in moves.items():
            assert text.count(f"    {before.value} --> {after.value} : {record.__name__}\n") == 1


def test_the_page_changes_with_the_table(generator: ModuleType, monkeypatch: pytest.MonkeyPatch) -> None:
    before = generator.page()
    monkeypatch.setitem(TRANSITIONS[Phase.STOPPED], RentalEnded, Phase.ON_TRIP)
    assert generator.page() != before
    monkeypatch.setitem(TRANSITIONS[Phase.AVAILABLE], RentalEnded, Phase.ON_TRIP)
    with pytest.raises(KeyError):
        generator.page()


def test_each_entry_has_its_scenario_and_each_scenario_holds() -> None:
    assert list(SCENARIOS) == ENTRIES
    for scenario in SCENARIOS.values():
        scenario()


@pytest.mark.parametrize(("before", "record"), ENTRIES, ids=lambda e: getattr(e, "__name__", str(e)))
def test_without_an_entry_its_scenario_fails(
    before: Phase, record: type[Recordable], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.delitem(TRANSITIONS[before], record)
    with pytest.raises(machine.RuleBrokenError, match=f"{record.__name__} while {before.value}"):
        SCENARIOS[before, record]()


@pytest.mark.parametrize("elsewhere", list(Phase))
@pytest.mark.parametrize(("before", "record"), ENTRIES, ids=lambda e: getattr(e, "__name__", str(e)))
def test_with_an_entry_that_leads_elsewhere_its_scenario_fails(
    before: Phase, record: type[Recordable], elsewhere: Phase, monkeypatch: pytest.MonkeyPatch
) -> None:
    if elsewhere is TRANSITIONS[before][record]:
        SCENARIOS[before, record]()
        return
    monkeypatch.setitem(TRANSITIONS[before], record, elsewhere)
    with pytest.raises(machine.RuleBrokenError):
        SCENARIOS[before, record]()


def test_the_check_looks_at_every_record_that_the_table_names() -> None:
    assert {record for _, record in ENTRIES} == set(machine._MOVING_RECORDS)
