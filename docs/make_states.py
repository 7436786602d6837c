"""Write ``states.md`` from the state machine's own table: ``.venv/bin/python docs/make_states.py``.

A test fails while the page is not what this makes, and while a transition has no line here.
"""  # noqa: INP001 - a script beside the pages it makes, not a package

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any, Final

from onboard.core import access, doors, rental, request, watch
from onboard.core.machine import TRANSITIONS, Phase
from onboard.core.records import Recordable, RentalEnded, TripEnded, TripStarted

PAGE: Final = Path(__file__).with_name("states.md")

DECIDED: Final[dict[tuple[Phase, type[Recordable]], tuple[str, tuple[Callable[..., Any], ...]]]] = {
    (Phase.AVAILABLE, TripStarted): (
        "Somebody may have the car. Committed first, then the door opens.",
        (access.decide, rental.begin),
    ),
    (Phase.ON_TRIP, TripEnded): (
        "A report sampled after the lock pulse says locked, doors shut; the door never opened; or it was abandoned.",
        (doors.on_report, doors.on_unconfirmed, doors.on_settled, doors.take_over),
    ),
    (Phase.STOPPED, TripStarted): (
        "The rental's driver opens again.",
        (access.decide, rental.begin),
    ),
    (Phase.STOPPED, RentalEnded): (
        "Its rules are met: with the trip's end, or later by a second tap, *finish*, charging, or its time being over.",
        (rental.end_trip, request.on_access, watch.on_charging, watch.on_wall),
    ),
}
"""What moves each transition of the table, and the functions that decide it."""

HEAD: Final = """# States of a car

Made by `docs/make_states.py` from the table `TRANSITIONS` in `onboard/core/machine.py`. Do not edit: run the script.

A record moves the phase, nothing else does. A step whose records and state disagree with the table stops the box: it
starts again from its store. A trip that ends with its rental passes through *stopped* within one step.
"""

TAIL: Final = """
Two words more, in the status only. A car that is *available* by this table is `reserved` within somebody's booked
window, and `non_operational` while it is out of service (`machine.vehicle_state`). Neither stands in the way of a
running rental's driver.

The key of the motor moves nothing here. Where its holder has a contact and the key is not in it after a rental, the
light says *try again* and the fault `key_missing` stands until it is back (`doors.on_report`); the rental is over all
the same.
"""


def page() -> str:
    """Return the page."""
    lines = [HEAD, "```mermaid", "stateDiagram-v2", f"    [*] --> {Phase.AVAILABLE.value}"]
    rows = []
    for before, moves in TRANSITIONS.items():
        for record, after in moves.items():
            lines.append(f"    {before.value} --> {after.value} : {record.__name__}")
            why, functions = DECIDED[before, record]
            where = ", ".join(f"`{f.__module__.rpartition('.')[2]}.{f.__name__}`" for f in functions)
            rows.append(f"| `{record.__name__}` | {before.value} → {after.value} | {why} | {where} |")
    lines += ["```", "", "| record | moves | when | decided in `onboard/core` |", "|---|---|---|---|", *rows]
    return "\n".join(lines) + "\n" + TAIL


if __name__ == "__main__":
    PAGE.write_text(page(), encoding="utf-8")
