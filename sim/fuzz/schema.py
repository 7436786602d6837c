"""HTTP by schemathesis: requests by the endpoint's OpenAPI, right and wrong ones, and every answer held against it.

Wants the extra ``fuzz``.
"""

from __future__ import annotations

import json
import time
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Final

import schemathesis
from hypothesis import HealthCheck, Phase, given, seed, settings
from hypothesis.database import DirectoryBasedExampleDatabase
from hypothesis.errors import Unsatisfiable
from schemathesis import GenerationMode
from schemathesis.checks import not_a_server_error
from schemathesis.core.result import Ok
from schemathesis.specs.openapi import checks

from sim.fuzz.http import BOOKING, UID, Asker, make_app
from sim.fuzz.world import CAR

EXAMPLES: Final = 25
"""Requests in one round at one route."""
ENOUGH: Final = (
    not_a_server_error,
    checks.status_code_conformance,
    checks.content_type_conformance,
    checks.response_headers_conformance,
    checks.response_schema_conformance,
    checks.negative_data_rejection,
)
"""What is asked of an answer. A right request may be refused still: no schema knows which bookings there are."""


@dataclass(slots=True)
class Asked:
    """What came of it. ``found``: one text for each route and fault."""

    requests: int = 0
    seconds: float = 0.0
    found: list[str] = field(default_factory=list)


def ask(own: Path, kept: Path, seconds: float, first_seed: int = 0) -> Asked:
    """Knock at every route in turn until ``seconds`` are over, each at least once; ``kept``: what failed before."""
    app, store = make_app(own, hosts=("*",))
    asker, asked, began_s = Asker(app), Asked(), time.monotonic()
    schema = schemathesis.openapi.from_asgi("/api/v1/openapi.json", app)
    operations = [found.ok() for found in schema.get_all_operations() if isinstance(found, Ok)]
    faults: dict[str, str] = {}

    def knock(operation: Any, mode: GenerationMode, names: dict[str, Any], number: int) -> None:
        @seed(number)
        @settings(
            max_examples=EXAMPLES,
            deadline=None,
            database=DirectoryBasedExampleDatabase(kept),
            suppress_health_check=list(HealthCheck),
            phases=(Phase.reuse, Phase.generate, Phase.shrink),
        )
        @given(case=operation.as_strategy(generation_mode=mode))
        def one(case: Any) -> None:
            asked.requests += 1
            with store.one_input():
                _, said = asker.ask("POST", "/api/v1/bookings", body=json.dumps(BOOKING).encode())
                asker.ask("POST", "/api/v1/cards", body=json.dumps({"uid": UID, "assurance": "uid"}).encode())
                known = {**names, "booking": json.loads(said)["id"]} if names else {}
                case.path_parameters.update({name: known[name] for name in case.path_parameters if name in known})
                case.call_and_validate(checks=ENOUGH)

        try:
            one()
        except Unsatisfiable:
            return  # nothing can be wrong there
        except (Exception, BaseExceptionGroup) as error:  # noqa: BLE001 - each is told, and the others looked at
            faults.setdefault(f"{operation.label} ({mode.value})", f"{type(error).__name__}: {error}")

    number = first_seed
    while number == first_seed or time.monotonic() - began_s < seconds:
        for operation in operations:
            for mode in GenerationMode:
                names = {"vehicle": CAR, "number": 1} if number % 2 == 0 and mode is GenerationMode.POSITIVE else {}
                if f"{operation.label} ({mode.value})" not in faults:
                    knock(operation, mode, names, number)
        number += 1
    asker.close()
    store.close()
    asked.seconds = time.monotonic() - began_s
    asked.found = [f"{where}: {what}" for where, what in faults.items()]
    return asked
