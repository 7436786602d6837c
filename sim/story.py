"""One rental, told as it happens: what the driver does, and what car, box and cloud each know of it."""

from __future__ import annotations

import time
from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Any, Final

from sim.clock import real_boot_s
from sim.processes import nap
from sim.route import BAZOUGES, HEDE, NAMES
from sim.screen import Check, Screen
from sim.town import VEHICLE, Town

CARD: Final = "04a1b2c3d4e5f6"
"""Number of the driver's card: seven bytes, beginning with NXP's 04. Invented."""

LOOK_S: Final = 0.12
"""Real seconds between two looks at car and cloud."""
CARD_HELD_S: Final = 0.5
STEP_S: Final = 20.0
"""Longest wait for anything that should happen at once."""
TAP_MAX_MS: Final = 1000
"""A person at a door waits no longer; typically it is 200 to 300 ms, the reader's polling among them."""
DISTANCE_OFF_MAX_M: Final = 150
"""The odometer has steps of 100 m, and each end of a trip may lie just before one."""


@dataclass(frozen=True, slots=True)
class Pace:
    """How the story is told: how long the network fails, from which part of the road on, in real seconds.

    ``breath_s`` is a pause in which a person can read a line.
    """

    outage_s: float
    outage_from: float
    breath_s: float


PACE: Final = Pace(outage_s=20.0, outage_from=0.45, breath_s=0.7)
FAST: Final = Pace(outage_s=8.0, outage_from=0.85, breath_s=0.1)


@dataclass(slots=True)
class Found:
    """What the story measured."""

    tap_ms: float = 0.0
    locked_ms: float = 0.0
    known_before: list[dict[str, Any]] = field(default_factory=list)
    outage_s: float = 0.0
    driven_m: float = 0.0
    trip_arrived_s: float = 0.0
    """Simulated Unix time at which the cloud first showed the finished trip."""


class Story:
    """Tells it on ``screen``. RuntimeError, naming what was waited for, where it doesn't go on."""

    def __init__(self, town: Town, screen: Screen, pace: Pace) -> None:
        self._town = town
        self._screen = screen
        self._pace = pace
        self._broker_up = True
        self._after = 0
        self._kinds: set[str] = set()
        self._cut_s = 0.0
        self.found = Found()

    def tell(self) -> None:
        """Tell the whole story."""
        self._ready()
        self._book()
        self._tap_and_go()
        self._drive()
        self._lock()
        self._network_returns()
        self._charge()

    # The parts of the story

    def _ready(self) -> None:
        self._until("the box to hear its car", lambda: self._box()["charging"] == "charging")
        self._until("the box to know place and time", lambda: self._box()["station"] == BAZOUGES.id)
        status = self._box()
        soc = status["signals"]["Vehicle.Powertrain.TractionBattery.StateOfCharge.Displayed"]["value"]
        self._say("box", f"parked at {NAMES[BAZOUGES.id]}, on the cable, battery {soc:.0f} %", "CAN bus and GPS")

    def _book(self) -> None:
        self._screen.heading("A booking")
        now_s = int(self._town.clock.true_wall_s())
        card = self._town.web.post("cards", {"uid": CARD, "assurance": "uid"})["number"]
        made = self._town.web.post(
            "bookings",
            {
                "vehicle": VEHICLE,
                "start_s": now_s - 300,
                "end_s": now_s + 3600,
                "pickup": BAZOUGES.id,
                "dropoff": HEDE.id,
                "kind": "one_way",
                "cards": [{"card": card}],
                "trace": True,
            },
        )
        self._say("cloud", "somebody books a ride to Hédé, one hour, by card, and agrees to a trace of the route")
        self._until("the box to take the booking", lambda: self._box()["list_version"] >= made["version"])
        self._say("box", "the signed and sealed booking list is here: from now on no network is needed")
        self._look_until("list_accepted")

    def _tap_and_go(self) -> None:
        self._screen.heading("Off we go")
        self._breathe()
        self._say("car", "the driver holds a card to the reader")
        self.found.tap_ms = self._tap("unlocked")
        self._say(
            "car",
            f"the door unlocks {self.found.tap_ms:.0f} ms later",
            "on your watch; written to disk before the relay moved",
        )
        self._until("the trip to begin", lambda: self._box()["state"] == "on_trip")
        self._look_until("trip_start")
        self._do("plug", "takes the cable out", **{"in": False})
        self._do("open_door", "opens the door and gets in")
        self._do("shut_door", "shuts the door")

    def _drive(self) -> None:
        truth = self._town.car.do("status")
        start_m = truth["odometer_m"]
        self._do("drive", "drives off", to=HEDE.id)
        far_m = truth["route_m"] * self._pace.outage_from
        self._until("the middle of the road", lambda: self._truth()["at_m"] >= far_m, 90)
        self._town.stop_broker()
        self._cut_s, self._broker_up = time.monotonic(), False
        self._screen.heading("The network fails")
        self._say(
            "demo", f"the broker is stopped: for {self._pace.outage_s:.0f} s nothing passes between car and cloud"
        )
        self._until("the car to arrive", lambda: self._truth()["arrived"], 90)
        truth = self._town.car.do("switch_off")
        self.found.driven_m = truth["odometer_m"] - start_m
        self._say("car", f"arrived in Hédé after {self.found.driven_m:.0f} m, switched off, park brake on")

    def _lock(self) -> None:
        self._do("open_door", "opens the door and gets out")
        self._do("shut_door", "shuts the door")
        self._say("car", "the driver holds the card to the reader again")
        self.found.locked_ms = self._tap("locked")
        self._say("car", f"the door locks {self.found.locked_ms:.0f} ms later", "on your watch")
        self._until("the rental to end", lambda: self._box()["state"] == "available")
        self._say(
            "box", "the contacts say locked, at the drop-off station: trip and rental are over, without any network"
        )
        self.found.known_before = self._trips()
        known = self.found.known_before
        still = "one trip, still under way" if [t["ended_s"] for t in known] == [None] else f"{len(known)} trips"
        self._say("cloud", f"knows nothing of that: {still}")

    def _network_returns(self) -> None:
        rest_s = self._cut_s + self._pace.outage_s - time.monotonic()
        until_s = time.monotonic() + rest_s
        while time.monotonic() < until_s:
            self._pass_time()
        self._town.start_broker()
        self._broker_up = True
        self.found.outage_s = time.monotonic() - self._cut_s
        self._screen.heading("The network is back")
        self._say("demo", f"the broker runs again, after {self.found.outage_s:.0f} s")
        self._until("the trip in the cloud", lambda: any(t["ended_s"] is not None for t in self._trips()))
        self.found.trip_arrived_s = self._town.clock.true_wall_s()
        self._until("all records acknowledged", self._all_acknowledged)

    def _charge(self) -> None:
        self._do("plug", "puts the cable in", **{"in": True})
        self._until("the cloud to see the charging", lambda: self._vehicle()["charging"] == "charging")
        self._until("all records acknowledged", self._all_acknowledged)
        self._breathe()

    # How it is told

    def _say(self, source: str, text: str, note: str = "") -> None:
        self._screen.tell(self._town.clock.true_wall_s(), source, text, note)

    def _do(self, what: str, words: str, **details: Any) -> None:
        self._town.car.do(what, **details)
        self._say("car", f"the driver {words}")
        self._breathe()

    def _tap(self, outcome: str) -> float:
        """Hold the card to the reader; return the real milliseconds until the door was unlocked or locked."""
        car = self._town.car
        tapped_s = car.do("tap", uid=CARD)["moments"]["tapped"]
        until_s = real_boot_s() + STEP_S
        while (moments := car.do("status")["moments"]).get(outcome, 0.0) < tapped_s:
            self._town.check()
            if real_boot_s() > until_s:
                status = self._box()
                raise RuntimeError(f"the door was not {outcome} after the tap; the box says: {status}")
            nap(0.01)
        nap(max(0.0, CARD_HELD_S - (real_boot_s() - tapped_s)))
        car.do("remove_card")
        return float(moments[outcome] - tapped_s) * 1000

    def _breathe(self) -> None:
        until_s = time.monotonic() + self._pace.breath_s
        while time.monotonic() < until_s:
            self._pass_time()

    def _until(self, what: str, probe: Callable[[], bool], timeout_s: float = STEP_S) -> None:
        until_s = time.monotonic() + timeout_s
        while not probe():
            if time.monotonic() > until_s:
                raise RuntimeError(f"waited {timeout_s:.0f} s in vain for {what}; the box says: {self._box()}")
            self._pass_time()

    def _look_until(self, kind: str) -> None:
        """Wait until the cloud has shown a row of this kind."""
        self._until(f"{kind} in the cloud", lambda: kind in self._kinds)

    def _pass_time(self) -> None:
        self._town.check()
        self._screen.now(self._truth(), broker_up=self._broker_up)
        self._show_events()
        nap(LOOK_S)

    def _show_events(self) -> None:
        """Show the rows that came to the cloud since the last look."""
        page = self._town.web.get(f"events?after={self._after}&limit=500")
        self._after = page["next"]
        for event in page["events"]:
            self._kinds.add(event["kind"])
            words = describe(event)
            if words is None:
                continue
            late_s = event["received_s"] - event["at_s"]
            # A box that has just started doesn't know yet how late it is.
            known = event["clock_quality"] in ("gnss", "authenticated")
            late = f"{late_s:.0f} s after it happened" if known and late_s > 30 else ""
            self._screen.tell(self._town.clock.true_wall_s(), "cloud", words, late)

    # What is known, and from where

    def _truth(self) -> dict[str, Any]:
        return self._town.car.do("status")

    def _box(self) -> dict[str, Any]:
        return self._town.box_status()

    def _trips(self) -> list[dict[str, Any]]:
        trips: list[dict[str, Any]] = self._town.web.get("trips")
        return trips

    def _vehicle(self) -> dict[str, Any]:
        vehicle: dict[str, Any] = self._town.web.get("vehicles")[0]
        return vehicle

    def _all_acknowledged(self) -> bool:
        outbox = self._box()["outbox"]
        return bool(outbox["acknowledged_seq"] == outbox["last_seq"])

    # What came of it

    def result(self) -> tuple[list[tuple[str, str]], list[Check]]:
        """Return the facts, and what must hold."""
        found, web = self.found, self._town.web
        trips, rentals, truth = self._trips(), web.get("rentals"), self._truth()
        trip = next((t for t in trips if t["ended_s"] is not None), None)
        points = len(web.get(f"vehicles/{VEHICLE}/track")["points"])
        off_m = abs(trip["distance_m"] - found.driven_m) if trip else float("inf")
        late_s = found.trip_arrived_s - trip["ended_s"] if trip else float("nan")
        done = [r for r in rentals if r["ended_s"] is not None and r["reason"] == "at_dropoff"]
        unknown = [t["ended_s"] for t in found.known_before] == [None]
        refused = web.get("status")["refused"]
        facts = [
            (
                "watched",
                f"{self._screen.watched_s:.0f} s, for {truth['wall_s'] - self._town.clock.wall_s:.0f} s in the car",
            ),
            ("route in the cloud", f"{points} points"),
            ("battery", f"{trip['soc_start_pct']:.0f} % → {trip['soc_end_pct']:.0f} %" if trip else "unknown"),
        ]
        source = {"odometer": "by the odometer, in steps of 100 m"}
        distance = "no trip"
        if trip:
            distance = f"{trip['distance_m']} m {source.get(trip['distance_source'], 'by ' + trip['distance_source'])}"
        late = f"{late_s:.0f} s late in the car's time, {late_s / self._town.clock.rate:.0f} s of watching"
        checks = [
            Check("door opened after the tap", f"{found.tap_ms:.0f} ms", found.tap_ms < TAP_MAX_MS),
            Check("door locked after the tap", f"{found.locked_ms:.0f} ms", found.locked_ms < TAP_MAX_MS),
            Check("distance", f"{distance}; {found.driven_m:.0f} m driven", off_m <= DISTANCE_OFF_MAX_M),
            Check("no network at the end of the trip", "the cloud did not know yet" if unknown else "it knew", unknown),
            Check("the trip came late", late, trip is not None and late_s > 0),
            Check(
                "and once", f"{len(trips)} trip, {len(rentals)} rental", len(trips) == len(rentals) == len(done) == 1
            ),
            Check("refused by the cloud", ", ".join(map(str, refused.items())) or "nothing", not refused),
            Check("frames sent onto the car's bus", str(truth["frames_refused"]), truth["frames_refused"] == 0),
        ]
        return facts, checks


def describe(event: dict[str, Any]) -> str | None:
    """Return a row of the cloud's log in words; None for what the story passes over."""
    fields = event["fields"]
    match event["kind"]:
        case "booted":
            return f"the box of {event['vehicle']} has started"
        case "list_accepted":
            return "the box has the newest list of bookings"
        case "trip_start":
            return f"trip {fields['trip']} has begun at {NAMES.get(fields['station'], 'no station')}"
        case "trip_end":
            return f"trip {fields['trip']} is over: {fields['distance_m']} m in {fields['duration_s'] // 60} min"
        case "rental_end":
            return (
                f"the rental is over at {NAMES.get(fields['station'], 'no station')}: {fields['billable_s']} s to bill"
            )
        case "charging_start":
            return "the car charges"
        case "charging_end":
            return "the car charges no more"
        case "comms_lost":
            return "the box had noticed: nobody answers"
        case "comms_restored":
            return "the box is heard again"
        case "actuation_failed" | "access_denied" | "alert" | "fault":
            return f"{event['kind'].replace('_', ' ')}: {', '.join(f'{k} {v}' for k, v in fields.items() if v)}"
        case _:
            return None
