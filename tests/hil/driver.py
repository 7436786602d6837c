"""A driver with a card, and what he and the commune may count on whatever fails in between."""

from __future__ import annotations

import itertools
import os
import time
from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import Any, Final

from sim.commune import Commune
from sim.rig import VEHICLE, Rig

CARDS: Final = ("04a1b2c3d4e5f6", "04a1b2c3d4e5f7", "04a1b2c3d4e5f8", "04a1b2c3d4e5f9")
"""Of four drivers. Who has just ended a rental and taps again has only said so twice (docs/decisions.md)."""
RUNNING: Final = ("on_trip", "stopped")
CREEP_M: Final = 15.0
_NEXT_CARD: Final = itertools.cycle(CARDS[1:])
ROWS_MAX: Final = 500
SETTLE_S: Final = 15.0
"""The door's own tries are over by then: three confirmations of three seconds."""
AGAIN_S: Final = 5.0
"""The same card counts again three seconds after it was last seen (hw/README.md)."""


told: list[str] = []
"""Figures that the run's reader wants to see: shown at its end, and kept with its results."""


def tell(text: str) -> None:
    """Say a figure of the test that runs."""
    test = os.environ.get("PYTEST_CURRENT_TEST", "").rpartition("::")[2].partition(" ")[0]
    told.append(f"{test}: {text}")


def serves(rig: Rig) -> bool:
    """Tell whether the box could serve a driver now: knows the time and its place, reads cards and contacts."""
    status = rig.status()
    trusts = status["clock"]["quality"] in {"gnss", "authenticated"}
    return bool(trusts and status["gnss"] and status["door"] != "unknown" and not status["faults"])


def acknowledged(rig: Rig) -> bool:
    """Tell whether the commune has everything that the box wrote."""
    outbox: dict[str, Any] = rig.status()["outbox"]
    return bool(outbox["connected"] and outbox["acknowledged_seq"] == outbox["last_seq"])


def book(rig: Rig, commune: Commune, card: str | dict[str, Any] = CARDS[0]) -> str:
    """Book the car for a driver's card for the next hour: its number on air, or what the endpoint calls it.

    Returns the booking when the box has it.
    """
    now_s = int(rig.car("status")["wall_s"])
    booking = {"vehicle": VEHICLE, "start_s": now_s - 300, "end_s": now_s + 3600, "kind": "loop"}
    booking |= {
        "pickup": "bazouges",
        "dropoff": "bazouges",
        "cards": [{"uid": card} if isinstance(card, str) else card],
        "trace": True,
    }
    if isinstance(card, str):
        commune.post("cards", {"uid": card, "assurance": "uid"})  # let in; again is no harm
    made = commune.post("bookings", booking)
    rig.until("the booking in the box", lambda: rig.status()["list_version"] >= made["version"])
    return str(made["id"])


def tap(rig: Rig, outcome: str, card: str = CARDS[0], keys: Sequence[str] = ()) -> float:
    """Hold a card to the reader until the latch is ``outcome``; return the seconds between, by the car's clock.

    ``keys``: what its chip knows; without any it is a number.
    """
    rig.until("a card to count as a new tap", lambda: _rested_s(rig) > AGAIN_S)
    tapped_s = rig.car("tap", uid=card, keys=list(keys))["moments"]["tapped"]
    rig.until(f"the door {outcome}", lambda: rig.car("status")["moments"].get(outcome, 0.0) > tapped_s)
    return float(rig.car("status")["moments"][outcome]) - float(tapped_s)


def sent(rig: Rig) -> list[int]:
    """Return how many frames the box sent on the car's bus, and how many it wanted to."""
    names = ("tx_packets", "tx_dropped")
    return [int(rig.shell(f"cat /sys/class/net/can0/statistics/{name}")) for name in names]


def alarms(commune: Commune) -> list[dict[str, Any]]:
    """Return what a person must look at, but for the copied card that one test plays."""
    return [each for each in commune.get("status")["alarms"] if each["kind"] != "card_copied"]


def tap_in_vain(rig: Rig, card: str, keys: Sequence[str] = ()) -> None:
    """Hold a card to the reader until it is taken away again."""
    rig.until("a card to count as a new tap", lambda: _rested_s(rig) > AGAIN_S)
    tapped_s = rig.car("tap", uid=card, keys=list(keys))["moments"]["tapped"]
    rig.until("the card taken away", lambda: rig.car("status")["moments"].get("removed", 0.0) > tapped_s)


def _rested_s(rig: Rig) -> float:
    """Return how long no card has been at the reader."""
    truth = rig.car("status")
    tapped_s, removed_s = (float(truth["moments"].get(each, -AGAIN_S)) for each in ("tapped", "removed"))
    return float(truth["boot_s"]) - removed_s if removed_s >= tapped_s else 0.0


def drive(rig: Rig, *goals_m: float) -> float:
    """Drive to one place of the road after the other and switch off; return the metres."""
    before_m = rig.car("plug", **{"in": False})["odometer_m"]
    for goal_m in goals_m:
        rig.car("drive", to_m=goal_m)
        rig.until("the car to arrive", lambda: rig.car("status")["arrived"])
    after_m = rig.car("switch_off")["odometer_m"]
    # Whoever gets out takes longer than the box, which hears of the standstill with the next frame.
    rig.until("the box to know that it stands", lambda: rig.status()["standing"] == "still")
    return float(after_m) - float(before_m)


@dataclass
class Ledger:
    """What was seen of a box before something failed, and must hold after it."""

    rig: Rig
    commune: Commune
    before: int = 0
    """Newest record that it called written before the failure that was checked last."""
    last_seq: int = 0
    """Newest record that the box called written."""
    opened: set[str] = field(default_factory=set)
    """Bookings whose door was seen to open."""
    booking: str = ""
    """The rental under way, once its door was seen to open."""
    cards: dict[str, str] = field(default_factory=dict)
    """Booking -> its driver's card."""
    trips: Counter[str] = field(default_factory=Counter)
    """Booking -> its trips: one, and one for each time that its driver got in again."""
    locking: bool = False
    """Its driver has asked to lock: it may be over."""

    def note(self) -> dict[str, Any]:
        """Write down how far the box is; return its status."""
        status = self.rig.status()
        self.last_seq = max(self.last_seq, status["outbox"]["last_seq"])
        return status

    def open(self) -> None:
        """Begin a rental."""
        self.rig.until("a box that can serve", lambda: serves(self.rig))
        self.get_in(self.reserve())

    def reserve(self) -> str:
        """Book for the next driver; return the booking."""
        card = next(_NEXT_CARD)
        booking = book(self.rig, self.commune, card)
        self.cards[booking] = card
        return booking

    def get_in(self, booking: str) -> None:
        """Have its driver open the door."""
        tap(self.rig, "unlocked", self.cards[booking])
        self.booking, self.locking = booking, False
        self.opened.add(booking)
        self.trips[booking] += 1

    def get_out(self) -> None:
        """Drive a little, and end the rental at its station."""
        card = self.cards[self.booking]
        if self.rig.car("status")["locked"]:
            tap(self.rig, "unlocked", card)  # it locked as the power went: he gets in again
            self.trips[self.booking] += 1
        drive(self.rig, CREEP_M, 0.0)
        self.locking = True
        tap(self.rig, "locked", card)
        self.rig.until("the rental's end", lambda: self.note()["state"] not in RUNNING)

    def end(self) -> None:
        """Get out; return when the commune has all of it."""
        self.get_out()
        self.settle()
        self.booking, self.locking = "", False

    def settle(self) -> None:
        """Wait until the commune has everything."""
        self.rig.until("everything acknowledged", lambda: acknowledged(self.rig))
        self.note()

    def check(self) -> None:
        """After a failure: nothing that was written is gone, and nobody got a door that is not written down."""
        status, truth = self.rig.status(), self.rig.car("status")
        running = status["state"] in RUNNING
        self.before = self.last_seq
        assert status["outbox"]["last_seq"] >= self.last_seq, "records that the box called written are gone"
        assert running or truth["locked"], "the door is open and no trip is written down"
        assert running or not self.booking or self.locking, "a running rental is gone"
        assert not truth["both_driven"]

    def resume(self, *, restarted: bool = False) -> None:
        """Go on where the failure came: whoever is in the car ends his rental. Then nothing is lost or doubled.

        ``restarted``: the box began anew since. Then its first record comes after all that it had called written:
        records that were lost and written over would show here.
        """
        events = self._reckon()
        if restarted:
            booted = max(each["seq"] for each in events if each["kind"] == "booted")
            assert booted > self.before, f"record {booted} is the first after the failure, {self.before} was written"

    def _reckon(self) -> list[dict[str, Any]]:
        if self._still_running():
            if not self.booking:  # it began without having been seen
                (running,) = (each for each in self._rentals() if each["ended_s"] is None)
                self.booking = running["reservation"]
                self.opened.add(self.booking)
                self.trips[self.booking] += 1
            self.end()
        self.booking, self.locking = "", False
        rentals = self._rentals()
        for booking in self.opened:
            found = [each for each in rentals if each["reservation"] == booking]
            assert len(found) == 1, f"{len(found)} rentals of booking {booking}"
            assert found[0]["ended_s"] is not None
        trips = [(each["reservation"], each["rental"]) for each in self.commune.get(f"trips?limit={ROWS_MAX}")]
        for booking in self.opened:
            (rental,) = (each["rental"] for each in rentals if each["reservation"] == booking)
            found_trips = sum(each == rental for _, each in trips)
            assert found_trips == self.trips[booking], f"{found_trips} trips of booking {booking}, not {self.trips}"
        events: list[dict[str, Any]] = self.commune.get(f"events?newest=true&limit={ROWS_MAX}")["events"]
        assert not [each for each in events if each["kind"] == "store_replaced"], "the box lost its database"
        assert not alarms(self.commune)
        self.opened.clear()
        begun = {each["reservation"] for each in rentals}
        for booked in self.commune.get(f"bookings?limit={ROWS_MAX}"):
            if booked["cancelled_s"] is None and booked["id"] not in begun:
                # The failure came before its driver did, who shall not have two when his turn comes again.
                self.commune.delete(f"bookings/{booked['id']}")
        return events

    def _still_running(self) -> bool:
        """Tell whether a rental goes on. One whose door never opened, or whose lock was on its way, ends by itself."""
        begun_s = time.monotonic()
        while (running := self.rig.status()["state"] in RUNNING) and self.rig.car("status")["locked"]:
            if time.monotonic() - begun_s > SETTLE_S:
                break
            time.sleep(0.5)
        return running

    def _rentals(self) -> list[dict[str, Any]]:
        self.settle()
        found: list[dict[str, Any]] = self.commune.get(f"rentals?limit={ROWS_MAX}")
        return found


def ready_s(rig: Rig) -> float:
    """Return when the box was ready, in seconds since its kernel began."""
    return int(rig.shell("systemctl show amibox -p ActiveEnterTimestampMonotonic --value")) / 1e6
