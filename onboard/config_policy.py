"""The commune's rules: ``[policy]`` sets the fields of the core's ``Policy``, within safe bounds."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Annotated, Any, Final, get_type_hints

from msgspec import Meta

from onboard.config_reader import Reader
from onboard.core.policy import Policy

NOT_THE_COMMUNES: Final = frozenset({"stations", "odometer_speed_mps"})
"""Fields of ``Policy`` that ``[policy]`` may not set: ``[[station]]`` and the car's model do."""

UNIT_RANGES: Final[Mapping[str, tuple[float, float, str]]] = {
    "_mps": (0, 60, "metres a second"),
    "_pct": (0, 100, "percent"),
    "_max": (1, 100_000, "a whole number"),
    "_s": (0, 2_592_000, "seconds"),
    "_m": (1, 100_000, "metres"),
    "_v": (6, 16, "volts"),
    "_c": (-40, 100, "degrees Celsius"),
}
"""What a policy's unit allows: lowest, highest, its name. A name's ending is its unit."""

NARROWER: Final[Mapping[str, tuple[float, float]]] = {
    "supply_hysteresis_v": (0.05, 2),
    "standstill_mps": (0, 1),
    "interlock_mps": (0, 1.4),  # no relay moves above walking pace, whatever a file says
    "door_fresh_s": (0.5, 60),
    "speed_fresh_s": (0.5, 60),
    "settle_s": (0.02, 2),
    "confirm_s": (0.5, 30),
    "attempts_max": (1, 10),
    "progress_every_s": (5, 3600),
    "status_every_s": (5, 86_400),
    "resend_first_s": (1, 3600),
    "track_every_s": (5, 3600),
    "batch_events_max": (1, 500),  # a batch is one message: cloud_sync.wire bounds it
    "batches_unacknowledged_max": (1, 16),
}
"""Policies that could hurt somebody, the card or the network at the ends of their unit's range."""

ORDERED: Final = (
    ("supply_off_v", "supply_critical_v"),
    ("supply_critical_v", "supply_saving_v"),
    ("settle_s", "confirm_s"),
    ("standstill_mps", "interlock_mps"),
    ("resend_first_s", "resend_max_s"),
)
"""Pairs of policies of which the first is lower than the second."""


def policy_keys() -> dict[str, Any]:
    """Return the keys that ``[policy]`` may hold, each with its type and range."""
    hints = get_type_hints(Policy, include_extras=True)
    return {name: _policy_type(name, hint) for name, hint in hints.items() if name not in NOT_THE_COMMUNES}


def _policy_type(name: str, hint: object) -> object:
    ending = next((ending for ending in UNIT_RANGES if name.endswith(ending)), None)
    if ending is None:
        return hint
    low, high, unit = UNIT_RANGES[ending]
    low, high = NARROWER.get(name, (low, high))
    meaning = f"{unit}, {low:.10g} to {high:.10g}"
    number = Meta(ge=low, le=high, description=meaning)
    if hint == tuple[float, float]:
        pair = tuple[Annotated[float, number], Annotated[float, number]]
        return Annotated[pair, Meta(description=f"[lowest, highest] in {meaning}")]
    return Annotated[hint, number]


def check_policy(reader: Reader, policy: Policy | None) -> None:
    """Note every pair of policies that contradict each other."""
    if policy is None:
        return
    for lower, higher in ORDERED:
        low, high = getattr(policy, lower), getattr(policy, higher)
        if low >= high:
            key = f"policy.{lower}" if f"policy.{lower}" in reader.lines else f"policy.{higher}"
            reader.refuse(key, f"{lower} {low} is not below {higher} {high}", "set the first lower than the second")
    coldest, hottest = policy.plug_in_temperature_c
    if coldest >= hottest:
        reader.refuse("policy.plug_in_temperature_c", "lowest is not below highest", "write [lowest, highest]")
