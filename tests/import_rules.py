"""A contract for import-linter: one room imports what its list names, and nothing else.

import-linter's own kinds forbid by name; what nobody thought of passes. This one refuses whatever isn't listed.
"""

from __future__ import annotations

from collections.abc import Iterable
from typing import Any

from grimp import ImportGraph
from importlinter import Contract, ContractCheck, fields, output


class RoomContract(Contract):
    """``rooms`` (less ``less``) import each other, what ``may_import`` names, and what lies below it.

    ``other_packages = true`` also lets them import whatever is not ours: the standard library and the dependencies.
    """

    type_name = "room"

    # Any: import-linter replaces each field by the value it read.
    rooms: Any = fields.SetField(subfield=fields.StringField())
    less: Any = fields.SetField(subfield=fields.StringField(), required=False, default=set())
    may_import: Any = fields.SetField(subfield=fields.StringField(), required=False, default=set())
    other_packages: Any = fields.BooleanField(required=False, default=False)

    def check(self, graph: ImportGraph, verbose: bool) -> ContractCheck:  # noqa: ARG002  # import-linter's call
        """Look at every import of every module in the rooms."""
        ours = {name.partition(".")[0] for name in self.session_options["root_packages"]}
        members = {name for name in graph.modules if _within(name, self.rooms) and not _within(name, self.less)}
        refused = [
            f"{importer}, line {_line(graph, importer, imported)}: imports {imported}"
            for importer in sorted(members)
            for imported in sorted(graph.find_modules_directly_imported_by(importer))
            if imported not in members
            and not _within(imported, self.may_import)
            and not (self.other_packages and imported.partition(".")[0] not in ours)
        ]
        missing = {room for room in self.rooms if room not in graph.modules}
        refused += [f"{room} does not exist: correct the contract" for room in sorted(missing)]
        return ContractCheck(kept=not refused, metadata={"refused": refused})

    def render_broken_contract(self, check: ContractCheck) -> None:
        """Name each import that is not on the list."""
        for line in check.metadata["refused"]:
            output.print_error(line)
        allowed = ", ".join(sorted(self.may_import)) or "nothing else"
        output.print_error(f"This room may import: itself, {allowed}. Who may import what: CONTRIBUTING.md.")


def _line(graph: ImportGraph, importer: str, imported: str) -> int:
    return graph.get_import_details(importer=importer, imported=imported)[0]["line_number"]


def _within(name: str, packages: Iterable[str]) -> bool:
    return any(name == package or name.startswith(f"{package}.") for package in packages)
