"""A whole rental: booked at the commune, opened by card, driven, locked, and in the cloud once. Over mosquitto, TLS."""

from __future__ import annotations

import pytest

from sim.commune import Commune
from sim.rig import VEHICLE, Rig
from tests.conftest import ROOT
from tests.hil.driver import RUNNING, acknowledged, book, drive, sent, tap, tap_in_vain, tell

DRIVE_M = 150.0
ISSUED = "04782e21801d80"
RESIDENTS = "04A0B1C2D3E4F5"


def test_the_box_reaches_its_commune(box: Rig, commune: Commune) -> None:
    box.until("everything acknowledged", lambda: acknowledged(box))
    box.until("the commune to know that it charges", lambda: commune.get("vehicles")[0]["charging"] == "charging")
    assert len(commune.get("vehicles")) == 1


@pytest.mark.needs("played card", "played gps")
def test_a_rental_from_the_tap_to_the_cloud(box: Rig, commune: Commune) -> None:
    booking, before = book(box, commune), sent(box)
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
    assert sent(box) == before
    tell(f"opened after {opened_s:.2f} s, locked after {locked_s:.2f} s, {driven_m:.0f} m")


@pytest.mark.needs("played card", "played gps")
def test_offline_a_card_of_the_communes_opens_the_car_and_its_copy_does_not(box: Rig, commune: Commune) -> None:
    made = commune.post("cards", {"uid": ISSUED, "assurance": "mutual"})
    commune.patch(f"cards/{made['number']}", {"state": "ready", "written": True})
    book(box, commune, card={"card": made["number"]})
    box.beside.shell("systemctl stop commune mosquitto")
    try:
        for keys in ((), ["00" * 16] * len(made["keys"]), made["keys"][1:] + made["keys"][:1]):
            tap_in_vain(box, ISSUED, keys)
        assert box.car("status")["locked"]
        assert box.status()["state"] not in RUNNING
        opened_s = tap(box, "unlocked", ISSUED, made["keys"])
        drive(box, 15.0, 0.0)
        tap(box, "locked", ISSUED, made["keys"])
        box.until("the rental's end", lambda: box.status()["state"] not in RUNNING)
    finally:
        commune.start()
    tell(f"opened after {opened_s:.2f} s")
    box.shell("systemctl restart amibox")  # which would by now ask for its broker once a minute only
    box.await_box()
    box.until("everything acknowledged", lambda: acknowledged(box))
    box.until("the copy told", lambda: "card_copied" in {each["kind"] for each in commune.get("status")["alarms"]})


@pytest.mark.needs("played card")
def test_a_residents_own_card_is_captured_at_the_car(box: Rig, commune: Commune) -> None:
    box.until("the car within reach", lambda: commune.get("vehicles")[0]["online"])
    capture = commune.post(f"vehicles/{VEHICLE}/captures", {})["id"]
    box.until("the car to wait for it", lambda: box.status()["capturing"])
    box.car("tap", uid=RESIDENTS)
    took_s = box.until("the card here", lambda: commune.get(f"captures/{capture}")["number"] is not None)
    assert commune.get(f"captures/{capture}")["uid"] == RESIDENTS
    tell(f"the card's number was at the commune {took_s:.1f} s after the tap")


def test_how_fast_a_phone_opens_the_door_on_this_machine(box: Rig) -> None:
    """``make bench``, on the rig's processor and its disk, beside the box."""
    folder = "/var/tmp/speed"
    for name in ("__init__", "document_rig", "phone_rig", "speed_phone"):
        box.put(f"{folder}/tests/{name}.py", (ROOT / "tests" / f"{name}.py").read_bytes())
    done = box.run(
        "sh", "-c", f"cd {folder} && ROUNDS=10 {box.settings.car.python} -m tests.speed_phone 2>&1", timeout_s=300
    )
    box.shell(f"rm -r {folder}")
    assert "ratio" in done.text, done.text
    for line in done.text.splitlines():
        tell(line)
