"""What the demo shows in a terminal: a timeline, a line that moves below it, and a summary. Plain lines elsewhere."""

from __future__ import annotations

import time
from dataclasses import dataclass
from datetime import datetime
from types import TracebackType
from typing import Any, Final, Self

from rich.console import Console, Group
from rich.live import Live
from rich.padding import Padding
from rich.progress_bar import ProgressBar
from rich.table import Table
from rich.text import Text

COLOURS: Final = {"car": "cyan", "box": "green", "cloud": "magenta", "demo": "yellow"}
REFRESH_HZ: Final = 8


@dataclass(frozen=True, slots=True)
class Check:
    """One thing that must hold at the end."""

    name: str
    found: str
    holds: bool


class Screen:
    """A context manager. ``tell`` adds a line to the timeline, ``now`` redraws the moving line."""

    def __init__(self) -> None:
        self._console = Console(highlight=False)
        self._plain = not self._console.is_terminal
        self._live: Live | None = None
        self._began_s = time.monotonic()

    def __enter__(self) -> Self:
        if not self._plain:
            self._live = Live(console=self._console, refresh_per_second=REFRESH_HZ, transient=True)
            self._live.start()
        return self

    def __exit__(
        self, _type: type[BaseException] | None, _error: BaseException | None, _trace: TracebackType | None
    ) -> None:
        self.rest()

    def rest(self) -> None:
        """Take the moving line away."""
        if self._live is not None:
            self._live.stop()
            self._live = None

    @property
    def watched_s(self) -> float:
        """Seconds that somebody has been watching."""
        return time.monotonic() - self._began_s

    def say(self, text: str) -> None:
        """Print a line (rich markup) outside of the timeline."""
        self._console.print(text, soft_wrap=self._plain)

    def heading(self, title: str) -> None:
        """Begin a part of the story."""
        self._console.print(f"\n[bold]{title}[/]" if not self._plain else f"\n{title}")

    def tell(self, wall_s: float, source: str, text: str, note: str = "") -> None:
        """Add one line: when in the car's time, where it is known from, what happened."""
        clock = f"{datetime.fromtimestamp(wall_s).astimezone():%H:%M:%S}"
        if self._plain:
            plain = f"  {clock}  {source:<5}  {text}" + (f"  ({note})" if note else "")
            self._console.print(plain, markup=False, soft_wrap=True)
            return
        line = Table.grid(padding=(0, 2, 0, 0))
        line.add_column(style="dim", no_wrap=True)
        line.add_column(style=f"bold {COLOURS[source]}", width=5, no_wrap=True)
        line.add_column()
        said = Text(text)
        if note:
            said.append(f"  {note}", style="dim")
        line.add_row(f"  {clock}", source, said)
        self._console.print(line)

    def now(self, truth: dict[str, Any], *, broker_up: bool) -> None:
        """Redraw the moving line from the car's truth."""
        if self._live is None:
            return
        share = truth["at_m"] / truth["route_m"]
        words = Table.grid(padding=(0, 3, 0, 0))
        door = "open" if truth["driver_open"] else "locked" if truth["locked"] else "unlocked"
        words.add_row(
            f"[dim]{datetime.fromtimestamp(truth['wall_s']).astimezone():%H:%M:%S}[/]",
            f"[bold]{truth['speed_mps'] * 3.6:3.0f} km/h[/]",
            f"{truth['at_m'] / 1000:.2f} of {truth['route_m'] / 1000:.2f} km",
            f"door [bold]{door}[/]",
            f"battery [bold]{truth['soc_pct']:.0f} %[/]" + (" [green]charging[/]" if truth["charging"] else ""),
            "[green]network up[/]" if broker_up else "[bold red]no network[/]",
        )
        bar = Table.grid(padding=(0, 1))
        bar.add_row("Bazouges", ProgressBar(total=1.0, completed=share, width=48), "Hédé")
        self._live.update(Padding(Group(words, bar), (1, 2, 0, 2)))

    def summary(self, facts: list[tuple[str, str]], checks: list[Check]) -> None:
        """Print what came of it, and whether everything that must hold does."""
        self.rest()
        self.heading("What came of it")
        width = max(len(name) for name, _ in [*facts, *((check.name, "") for check in checks)])
        for name, found in facts:
            self._row(" ", name.ljust(width), found, "")
        for check in checks:
            self._row(
                "✓" if check.holds else "✗", check.name.ljust(width), check.found, "green" if check.holds else "red"
            )

    def _row(self, mark: str, name: str, found: str, colour: str) -> None:
        line = Text("  ")
        line.append(f"{mark} ", style=f"bold {colour}" if colour else "")
        line.append(f"{name}  ", style="" if colour == "red" else "dim")
        line.append(found, style="bold red" if colour == "red" else "")
        self._console.print(line, soft_wrap=self._plain)
