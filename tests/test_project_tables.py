"""Tables and numbers of the deciding rooms, which ``make mutate`` passes over: a change to an entry is noticed.

mutmut changes functions only. A table is changed here in memory, one entry after the other: taken out, and put in its
neighbour's place. After each change a check named beside the table must fail. Numbers and words on their own stand once
more in ``pinned_numbers``: whoever changes one changes it there too, and looks once more at what hangs on it.
"""

from __future__ import annotations

import ast
import importlib
import re
import sys
from collections.abc import Callable, Iterator
from dataclasses import MISSING, fields
from functools import cache
from pathlib import Path
from types import ModuleType
from typing import Any, NamedTuple

import pytest

from cloud_sync.documents import answers, cbor, kinds, records, show
from cloud_sync.documents.conversation import Op
from hw.interlock import InterlockSettings
from onboard import handshake
from onboard.core import machine, power, request, results
from onboard.core import records as core_records
from onboard.core.clock import ClockQuality, Instant
from onboard.core.commands import Pattern, Show
from onboard.core.draft import Draft
from onboard.core.events import Intent
from onboard.core.policy import Policy
from onboard.handshake import Handshake
from onboard.heard import Asked
from tests import test_cloud_answers, test_cloud_documents, test_cloud_protocol, test_core_power, test_core_states
from tests.conftest import ROOT
from tests.core_kit import ALICE, HEDE, Kit, booking, card
from tests.core_people import ANYWHERE
from tests.document_rig import BOX_V, CAR
from tests.handshake_rig import BOOK, wish
from tests.pinned_numbers import PINNED
from tests.test_core_results import told
from tests.test_onboard_handshake import begin, reply

Check = Callable[[], None]
FILES = (
    *sorted((ROOT / "onboard" / "core").glob("*.py")),
    ROOT / "onboard" / "handshake.py",
    ROOT / "hw" / "interlock.py",
    *sorted((ROOT / "cloud_sync" / "documents").glob("*.py")),
)


def what_became_of_a_command() -> None:
    """Ask for each of a rental's moves, and hear what is said once the contacts have spoken."""
    kit = Kit().ready(booking())
    moves = (("unlock", "opened"), ("lock elsewhere", "locked"), ("unlock", "opened"), ("lock", "finished"))
    for number, (move, said) in enumerate((*moves, ("unlock", "reopened")), start=1):
        if move.startswith("lock"):
            kit.travel(to=ANYWHERE if "elsewhere" in move else HEDE)
        intent = Intent.LOCK if move.startswith("lock") else Intent.UNLOCK
        told(kit, ALICE, bytes([number]) * 16, intent)
        kit.settle(locked=intent is Intent.LOCK)
        assert told(kit, ALICE, bytes([number]) * 16, intent)[1] == said
        kit.t += 30.0
        kit.contacts(locked=intent is Intent.LOCK)


def the_light_says_try_again_for_what_passes_by_itself() -> None:
    passing = {"moving", "busy", "door_unknown", "clock_unproven", "too_early", "other_window"}
    for word in {*answers.ANSWERS, *passing}:
        d = Draft(Kit().state, Instant(1.0, 0.0, ClockQuality.UNSET))
        request._deny(d, card(), word)
        [shown] = [command.pattern for command in d.commands if isinstance(command, Show)]
        assert (shown is Pattern.TRY_AGAIN) is (word in passing), word


def each_wish_is_passed_on_as_what_it_is() -> None:
    box = Handshake(CAR, BOX_V, bytes(8))
    phone = begin(box)
    for op in (Op.UNLOCK, Op.LOCK, Op.FINISH, Op.CAPTURE):
        asked = box.write("a", phone.further(wish(op)), 0.0, BOOK)
        assert isinstance(asked, Asked)
        assert asked.intent.value == op.name.lower()
        reply(box, phone, asked)


def each_document_but_the_key_set_is_the_boxs_or_the_authoritys() -> None:
    signed = set(kinds.DocumentType) - {kinds.DocumentType.KEY_SET}
    assert signed == kinds.AUTHORITY_TYPES | kinds.BOX_TYPES


def each_document_is_read_by_its_own_reader() -> None:
    names = {kind.word: reader.__name__ for kind, reader in show._READERS.items()}
    assert names == {kind.word: f"read_{kind.word}" for kind in kinds.DocumentType} | {"reservation_list": "read_list"}


def each_record_is_called_by_its_name() -> None:
    short = {"trip_started": "trip_start", "trip_ended": "trip_end", "rental_ended": "rental_end"}
    short |= {"fault_changed": "fault", "supply_changed": "supply"}
    by_state = {"charging_changed", "comms_changed", "maintenance_changed"}
    plain = {kind: re.sub(r"(?<=.)([A-Z])", r"_\1", kind.__name__).lower() for kind in records.TABLE}
    assert {kind: short.get(w, w) for kind, w in plain.items() if w not in by_state} == records._WORDS


def arrays_and_maps_hold_what_they_say() -> None:
    for data in (b"\x83\x01\x02\x03", b"\xa1\x01\x02"):
        cbor.scan(data)


def what_gives_way_on_a_full_disk() -> None:
    assert {kind.__name__ for kind in core_records.EXPENDABLE} == {"Track", "AccessDenied", "SupplyChanged"}


class Table(NamedTuple):
    """A table by its module and name, and the checks of which one must fail after any change to it."""

    module: ModuleType
    name: str
    checks: tuple[Check, ...]


PAGE_OF_TYPES = test_cloud_protocol.test_the_page_lists_every_type_with_who_signs_it_and_its_bound
TABLES = (
    Table(results, "_OUTCOMES", (what_became_of_a_command,)),
    Table(results, "_OVER", (what_became_of_a_command,)),
    Table(request, "_TRY_AGAIN", (the_light_says_try_again_for_what_passes_by_itself,)),
    Table(handshake, "_INTENTS", (each_wish_is_passed_on_as_what_it_is,)),
    Table(machine, "_MOVING_RECORDS", (test_core_states.test_the_check_looks_at_every_record_that_the_table_names,)),
    Table(
        power,
        "_ORDER",
        (
            test_core_power.test_a_step_comes_into_force_when_it_held_and_not_before,
            test_core_power.test_a_voltage_that_dances_about_a_deeper_mark_still_sheds_loads,
            test_core_power.test_afterwards_it_is_and_says_when_to_wake,
        ),
    ),
    Table(core_records, "EXPENDABLE", (what_gives_way_on_a_full_disk,)),
    Table(
        kinds,
        "AUTHORITY_TYPES",
        (PAGE_OF_TYPES, each_document_but_the_key_set_is_the_boxs_or_the_authoritys),
    ),
    Table(kinds, "BOX_TYPES", (PAGE_OF_TYPES,)),
    Table(kinds, "SEALED_TYPES", (PAGE_OF_TYPES,)),
    Table(
        kinds,
        "MAX_BYTES",
        (PAGE_OF_TYPES, test_cloud_documents.test_every_type_in_use_has_an_example_a_bound_and_a_reader),
    ),
    Table(kinds, "_MEANINGS", (test_cloud_protocol.test_the_page_lists_every_reason_with_its_number_and_meaning,)),
    Table(show, "_READERS", (each_document_is_read_by_its_own_reader,)),
    Table(records, "TABLE", (test_cloud_protocol.test_the_page_lists_every_record_with_its_fields_in_order,)),
    Table(records, "_WORDS", (each_record_is_called_by_its_name,)),
    Table(cbor, "_CONTAINERS", (arrays_and_maps_hold_what_they_say,)),
    Table(answers, "ANSWERS", (test_cloud_answers.test_the_page_lists_every_word_as_it_is_shown,)),
    Table(answers, "ON_THE_PHONE", (test_cloud_answers.test_the_page_lists_every_word_as_it_is_shown,)),
    Table(answers, "DOORS", (test_cloud_answers.test_the_page_lists_every_word_as_it_is_shown,)),
)
ELSEWHERE = {
    "TRANSITIONS": "test_core_states changes it entry by entry",
    "_FIELDS": "made of TABLE",
    "_BY_CODE": "made of TABLE",
    "ELSE": "one text: test_cloud_answers reads it",
    "_BEGINNING": "nothing is known at it: test_core_machine",
    "_CURVE": "another curve fails test_cloud_cose's published messages",
    "_KNOWN_RIGHTS": "test_cloud_meaning: rights of later versions grant nothing",
    "_VERSION": "a pattern: test_cloud_update holds its bounds",
    "_NEED": "a pattern: test_cloud_update holds what passes and what does not",
    "__all__": "names for others to import; mypy looks at them",
}
"""What is changed or held by another test, and by which."""


def changes(table: Any) -> Iterator[tuple[str, Any]]:
    """Give each change of a table: an entry gone, and an entry in its neighbour's place."""
    if isinstance(table, dict):
        entries = list(table)
        for entry, after in zip(entries, [*entries[1:], entries[0]], strict=True):
            yield f"without {entry!r}", {each: value for each, value in table.items() if each != entry}
            if table[entry] != table[after]:
                yield f"{entry!r} as {after!r}", table | {entry: table[after]}
    elif isinstance(table, frozenset):
        for entry in table:
            yield f"without {entry!r}", table - {entry}
    else:
        for index, entry in enumerate(table):
            yield f"without {entry!r}", (*table[:index], *table[index + 1 :])


def put(monkeypatch: pytest.MonkeyPatch, table: Table, changed: Any) -> None:
    """Put a changed table in the place of the true one, wherever somebody has it."""
    true = getattr(table.module, table.name)
    if isinstance(true, dict):
        for entry in list(true):
            monkeypatch.delitem(true, entry)
        for entry, value in changed.items():
            monkeypatch.setitem(true, entry, value)
        return
    for module in list(sys.modules.values()):
        if getattr(module, table.name, None) is true:
            monkeypatch.setattr(module, table.name, changed)


def noticed(checks: tuple[Check, ...]) -> bool:
    """Tell whether one of these checks fails."""
    for check in checks:
        try:
            check()
        except Exception:  # noqa: BLE001 - a check may fail in any way, of which an assertion is but one
            return True
    return False


@pytest.mark.parametrize("table", TABLES, ids=lambda table: f"{table.module.__name__}.{table.name}")
def test_no_entry_of_a_table_could_be_another(table: Table) -> None:
    assert not noticed(table.checks), "the checks hold of the table as it is"
    true = getattr(table.module, table.name)
    missed = []
    for what, changed in list(changes(true)):
        with pytest.MonkeyPatch.context() as monkeypatch:
            put(monkeypatch, table, changed)
            if not noticed(table.checks):
                missed.append(what)
    assert not missed
    assert not noticed(table.checks), "and the table is whole again"


def is_plain(value: object) -> bool:
    return type(value) in (bool, int, float, str, bytes, range) or (
        isinstance(value, tuple) and type(value) is tuple and all(map(is_plain, value))
    )


@cache
def found() -> dict[str, dict[str, object]]:
    """Return what the rooms define at the top of a module, by module and name."""
    rooms = {}
    for file in FILES:
        name = ".".join(file.relative_to(ROOT).with_suffix("").parts).removesuffix(".__init__")
        rooms[name] = {each: getattr(importlib.import_module(name), each) for each in assigned(file)}
    return rooms


def assigned(file: Path) -> Iterator[str]:
    for node in ast.parse(file.read_text()).body:
        targets = (
            node.targets if isinstance(node, ast.Assign) else [node.target] if isinstance(node, ast.AnnAssign) else []
        )
        yield from (each.id for target in targets for each in ast.walk(target) if isinstance(each, ast.Name))


def test_no_number_and_no_word_changes_in_one_place_only() -> None:
    now = {room: {name: value for name, value in names.items() if is_plain(value)} for room, names in found().items()}
    for kind in (Policy, InterlockSettings):
        defaults = {field.name: field.default for field in fields(kind) if field.default is not MISSING}
        now[f"{kind.__module__}.{kind.__name__}"] = defaults
    assert {room: names for room, names in now.items() if names} == PINNED


def test_every_table_is_changed_here_or_by_a_test_that_is_named() -> None:
    tables = {
        name
        for names in found().values()
        for name, value in names.items()
        if not is_plain(value) and (name.isupper() or name.startswith("_")) and len(name) > 1
    }
    assert tables == {table.name for table in TABLES} | set(ELSEWHERE)
