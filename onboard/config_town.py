"""The town hall's part of the configuration, and how it joins the technician's.

``box.toml`` is the technician's: wiring, and whatever this one box needs otherwise. ``town.toml``, beside
``provisioning.cbor``, comes with the town hall's answer: car, broker, stations, rules. A table counts as one file has
it, never half of each: as the technician's, if it stands there.
"""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any, Final

from onboard.config_reader import Problem, Reader, Section, find_line

TOWN: Final = "town.toml"
TOWNS: Final[Mapping[str, None]] = dict.fromkeys(("car", "uplink", "station", "policy"))
"""Tables that the town hall may give."""


class JoinedReader(Reader):
    """Reads the technician's text, and the tables that it lacks from the town hall's. Mistakes name their file."""

    def __init__(self, file: Path, text: str, town_file: Path, town_text: str) -> None:
        """Raise ``ConfigError`` for a text that is not TOML."""
        super().__init__(file, text)
        self._town = Reader(town_file, town_text)
        self._town.problems = self.problems
        self._town.refuse_others(TOWNS)
        found = [name for name in TOWNS if name in self._town.lines]
        self.files = {name: town_file for name in found if name not in self.lines}
        """The tables that the town hall gives, and its file."""
        self.shadows = tuple(
            Problem(
                file,
                find_line(self.lines, name),
                name,
                f"this counts, and not what the town hall gives ({town_file})",
                "take it out, unless this one box needs another",
            )
            for name in found
            if name in self.lines
        )
        self.lines |= {key: line for key, line in self._town.lines.items() if key.partition(".")[0] in self.files}

    def refuse(self, key: str, what: str, remedy: str) -> None:
        """Note a problem where the table stands."""
        if key.partition(".")[0] in self.files:
            self._town.refuse(key, what, remedy)
        else:
            super().refuse(key, what, remedy)

    def section(self, name: str, cls: type[Section], keys: Mapping[str, Any]) -> Section | None:
        """Return the table from the file that has it."""
        return self._town.section(name, cls, keys) if name in self.files else super().section(name, cls, keys)

    def sections(self, name: str, cls: type[Section], keys: Mapping[str, Any]) -> tuple[Section, ...]:
        """Return the tables from the file that has them."""
        return self._town.sections(name, cls, keys) if name in self.files else super().sections(name, cls, keys)
