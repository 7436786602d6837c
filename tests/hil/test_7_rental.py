"""A whole rental: booked at the commune, opened by card, driven, locked, and in the cloud once. Over mosquitto, TLS."""

from __future__ import annotations

import pytest

from sim.commune import Commune
from sim.rig import Rig
from tests.hil.driver import acknowledged, book, drive, tap, tell

DRIVE_M = 250.0


def test_the_box_reaches_its_commune(box: Rig, commune: Commune) -> None:
    box.until("everything acknowledged", lambda: acknowledged(box))
    box.until("the commune to know that it charges", lambda: commune.get("vehicles")[0]["charging"] == "charging")
    assert len(commune.get("vehicles")) == 1


@pytest.mark.needs("played card", "played gps")
def test_a_rental_from_the_tap_to_the_cloud(box: Rig, commune: Commune) -> None:
    booking = book(box, commune)
    opened_s = tap(box, "unlocked")
    box.until("the trip", lambda: box.status()["state"] == "on_trip")
    box.until("the pulse's end", lambda: box.car("status")["relays"] == [False, False])
    box.car("open_door")
    box.car("shut_door")
    driven_m = drive(box, DRIVE_M, 0.0)
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
    assert rental["reservation"] == booking
    truth = box.car("status")
    assert truth["locked"]
    assert not truth["both_driven"]
    assert truth["relays"] == [False, False]
    assert box.shell("cat /sys/class/net/can0/statistics/tx_packets").strip() == "0"
    tell(f"opened after {opened_s:.2f} s, locked after {locked_s:.2f} s, {driven_m:.0f} m")
