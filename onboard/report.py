"""The box's own account of itself, for ``amibox status`` and the local socket: plain, without anybody's identity."""

from __future__ import annotations

from collections import Counter
from collections.abc import Mapping
from typing import Any

from onboard.core import capture, machine, power
from onboard.core.access import belief, candidates
from onboard.core.state import State
from onboard.core.trip import result, standing, station_at
from onboard.mail import door_word


def report(state: State, counts: Mapping[str, Counter[str]], silent: tuple[str, ...], now_s: float) -> dict[str, Any]:
    """Return one object of stable keys. Ages in seconds at boot time ``now_s``; a signal never seen is missing."""
    time = belief(state, state.at)
    rental = state.kept.rental
    trip = rental.trip if rental is not None else None
    distance_m, source, _ = result(state.meter) if trip is not None else (None, None, ())
    station = station_at(state, now_s)
    position, contacts = state.vehicle.position, state.doors.report
    return {
        "vehicle": state.kept.vehicle,
        "software": state.software,
        "state": machine.vehicle_state(state),
        "door": door_word(state),
        "contacts": None
        if contacts is None
        else {
            "locked": contacts.locked,
            "driver_open": contacts.driver_open,
            "passenger_open": contacts.passenger_open,
            "age_s": round(now_s - contacts.sampled_s, 1),
        },
        "lock_armed": state.doors.armed_until_s is not None,
        "standing": standing(state.vehicle, state.policy, now_s).value,
        "bus": state.vehicle.bus.value,
        "charging": state.vehicle.charging.value,
        "station": station.id if station is not None else None,
        "gnss": None
        if position is None
        else {"mode": position.mode, "hdop": position.hdop, "age_s": round(now_s - position.sampled_s, 1)},
        "clock": {"quality": time.quality.name.lower(), "wall_s": round(time.best_s), "boot_s": round(now_s, 1)},
        "signals": {
            signal.value: {
                "value": reading.value,
                "age_s": round(now_s - reading.sampled_s, 1),
                "fresh": reading.fresh(now_s),
            }
            for signal, reading in sorted(state.vehicle.readings.items())
        },
        "rental": None if rental is None else {"number": rental.number, "kind": rental.kind.value},
        "trip": None
        if trip is None
        else {"number": trip.number, "distance_m": distance_m, "distance_source": source.value if source else None},
        "bookings": sum(1 for _ in candidates(state)),
        "list_version": state.kept.grants.version_floor,
        "outbox": {
            "last_seq": state.kept.outbox.last_seq,
            "acknowledged_seq": max(state.kept.outbox.acked_seq, state.sending.acked_seq),
            "connected": state.sending.connected,
        },
        "supply": {
            "level": state.supply.level.value,
            "voltage_v": state.supply.voltage_v,
            "off": list(power.words(state)[1:]),
            "limit_in_s": None if (left_s := power.off_in_s(state)) is None else round(left_s),
        },
        "maintenance": state.kept.maintenance,
        "capturing": capture.waits(state, now_s),
        "faults": dict(state.faults),
        "not_alive": list(silent),
        "counts": {name: dict(sorted(counter.items())) for name, counter in counts.items() if counter},
    }
