"""A whole rental: booked at the commune, opened by card, driven, locked, and in the cloud once. Over mosquitto, TLS."""

from __future__ import annotations

from typing import Any

import pytest

from sim.commune import Commune
from sim.rig import Rig

CARD = "04a1b2c3d4e5f6"
DRIVE_M = 250.0


def acknowledged(rig: Rig) -> bool:
    outbox: dict[str, Any] = rig.status()["outbox"]
    return bool(outbox["connected"] and outbox["acknowledged_seq"] == outbox["last_seq"])


def book(rig: Rig, commune: Commune) -> None:
    now_s = int(rig.car("status")["wall_s"])
    booking = {"vehicle": "ami-7", "start_s": now_s - 300, "end_s": now_s + 3600, "kind": "loop"}
    booking |= {"pickup": "bazouges", "dropoff": "bazouges", "cards": [{"uid": CARD}], "trace": True}
    made = commune.post("bookings", booking)
    rig.until("the booking in the box", lambda: rig.status()["list_version"] >= made["version"])


def tap(rig: Rig, outcome: str) -> float:
    """Hold the card to the reader until the latch has moved; return the seconds between, by the car's clock."""
    tapped_s = rig.car("tap", uid=CARD)["moments"]["tapped"]
    rig.until(f"the door {outcome}", lambda: rig.car("status")["moments"].get(outcome, 0.0) > tapped_s)
    return float(rig.car("remove_card")["moments"][outcome]) - float(tapped_s)


def test_the_box_reaches_its_commune(box: Rig, commune: Commune) -> None:
    box.until("everything acknowledged", lambda: acknowledged(box))
    (car,) = commune.get("vehicles")
    assert car["charging"] == "charging"


@pytest.mark.needs("played card", "played gps")
def test_a_rental_from_the_tap_to_the_cloud(box: Rig, commune: Commune) -> None:
    book(box, commune)
    opened_s = tap(box, "unlocked")
    box.until("the trip", lambda: box.status()["state"] == "on_trip")
    box.car("plug", **{"in": False})
    box.car("open_door")
    box.car("shut_door")
    before_m = box.car("status")["odometer_m"]
    for goal_m in (DRIVE_M, 0.0):
        box.car("drive", to_m=goal_m)
        box.until("the car to arrive", lambda: box.car("status")["arrived"])
    driven_m = box.car("switch_off")["odometer_m"] - before_m
    box.car("open_door")
    box.car("shut_door")
    locked_s = tap(box, "locked")
    box.until("the rental's end", lambda: box.status()["state"] == "available")
    box.until("everything acknowledged", lambda: acknowledged(box))
    (trip,) = commune.get("trips")
    (rental,) = commune.get("rentals")
    assert trip["ended_s"] is not None
    assert abs(trip["distance_m"] - driven_m) <= 150
    assert rental["reason"] == "at_dropoff"
    truth = box.car("status")
    assert truth["locked"]
    assert not truth["both_driven"]
    assert truth["relays"] == [False, False]
    assert box.shell("cat /sys/class/net/can0/statistics/tx_packets").strip() == "0"
    print(f"opened after {opened_s:.2f} s, locked after {locked_s:.2f} s")  # noqa: T201 -- what a reader wants to know
