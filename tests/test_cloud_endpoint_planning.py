"""Whether a car can be booked: overlaps, places, charging, sockets; and that no order of bookings breaks them."""

from __future__ import annotations

from dataclasses import replace

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from cloud_sync.endpoint.planning import WORDS, Fault, Fleet, Outage, Slot, Terms, faults, offer

NOW_S = 1_800_000_000
HOUR_S = 3600
TERMS = Terms()
ONE = Fleet(NOW_S, {"ami-1": "hede"}, {"hede": 1, "bazouges": 1})


def loop(start_h: float, hours: float = 1, vehicle: str = "ami-1", at: str = "hede") -> Slot:
    return direct(start_h, hours, vehicle, at, at)


def direct(
    start_h: float, hours: float = 1, vehicle: str = "ami-1", pickup: str = "hede", dropoff: str = "bazouges"
) -> Slot:
    start_s = NOW_S + int(start_h * HOUR_S)
    return Slot(vehicle, start_s, start_s + int(hours * HOUR_S), pickup, dropoff)


def test_a_free_car_can_be_booked() -> None:
    assert faults(loop(1), ONE) == ()
    assert faults(direct(1), ONE) == ()


@pytest.mark.parametrize(
    ("wanted", "slots", "fault"),
    [
        (replace(loop(0), start_s=NOW_S - 301), (), Fault.PAST),
        (replace(loop(1, 24), end_s=NOW_S + 25 * HOUR_S + 1), (), Fault.TOO_LONG),
        (replace(loop(24 * 60), start_s=NOW_S + 60 * 86_400 + 1), (), Fault.TOO_FAR_AHEAD),
        (loop(1, at="bazouges"), (), Fault.NOT_THERE),
        (loop(4), (direct(1),), Fault.NOT_THERE),
        (loop(2.49), (loop(1),), Fault.CHARGING),
        (loop(1), (loop(2.49),), Fault.CHARGING),
        (loop(4.49), (loop(3), loop(0.5)), Fault.CHARGING),
        (loop(1), (loop(5), loop(2.49)), Fault.CHARGING),
        (direct(1), (loop(3),), Fault.MISSED_AFTER),
    ],
)
def test_what_speaks_against_it_is_named_alone(wanted: Slot, slots: tuple[Slot, ...], fault: Fault) -> None:
    assert faults(wanted, replace(ONE, slots=slots)) == (fault,)


@pytest.mark.parametrize(
    ("wanted", "slots"),
    [
        (replace(loop(0), start_s=NOW_S - 300), ()),
        (loop(1, 24), ()),
        (loop(24 * 60), ()),
        (loop(2.5), (loop(1),)),
        (loop(1), (loop(2.5),)),
        (loop(4, at="bazouges"), (direct(1),)),
        (direct(1), (loop(3, at="bazouges"),)),
        (direct(4, pickup="bazouges", dropoff="hede"), (direct(1),)),
    ],
)
def test_at_its_edge_it_can_be_booked(wanted: Slot, slots: tuple[Slot, ...]) -> None:
    assert faults(wanted, replace(ONE, slots=slots)) == ()


@pytest.mark.parametrize("start_h", [0.5, 1, 1.5, 1.99])
@pytest.mark.parametrize("hours", [0.51, 1, 3])
def test_overlaps_are_named(start_h: float, hours: float) -> None:
    found = faults(loop(start_h, hours), replace(ONE, slots=(loop(1),)))
    assert (Fault.OVERLAPS in found) == (start_h + hours > 1)
    assert Fault.NOT_THERE not in found, "it is out, which is said already"


@pytest.mark.parametrize(
    ("from_h", "until_h", "out"),
    [(0, None, True), (1.99, None, True), (2, None, False), (0, 1, False), (0, 1.01, True), (1.2, 1.3, True)],
)
def test_a_car_out_of_order_is_not_booked(from_h: float, until_h: float | None, out: bool) -> None:
    until_s = None if until_h is None else NOW_S + int(until_h * HOUR_S)
    outages = (Outage("ami-1", NOW_S + int(from_h * HOUR_S), until_s), Outage("ami-2", 0, None))
    assert faults(loop(1), replace(ONE, outages=outages)) == ((Fault.OUT_OF_ORDER,) if out else ())


def test_a_car_of_which_nobody_knows_where_it_is_can_be_booked_anywhere() -> None:
    assert faults(loop(1, at="bazouges"), replace(ONE, place={})) == ()


TWO = Fleet(NOW_S, {"ami-1": "hede", "ami-2": "bazouges"}, {"hede": 1, "bazouges": 1})


@pytest.mark.parametrize(
    ("slots", "free"),
    [
        ((), False),  # the other one stands there
        ((loop(0.5, 3, "ami-2", "bazouges"),), False),  # out when we come, and back before we are gone
        ((direct(0.5, 1, "ami-2", "bazouges", "hede"),), True),  # they change places
        ((direct(3, 1, "ami-2", "bazouges", "hede"),), False),  # it goes after we came
    ],
)
def test_a_direct_trip_wants_a_free_socket_at_its_end(slots: tuple[Slot, ...], free: bool) -> None:
    wanted = direct(1)
    assert faults(wanted, replace(TWO, slots=slots)) == (() if free else (Fault.NO_SOCKET,))
    assert faults(wanted, replace(TWO, slots=slots, sockets={"hede": 1, "bazouges": 2})) == ()
    assert faults(wanted, replace(TWO, slots=slots, sockets={})) == (), "a station without sockets counts none"


def test_a_socket_is_wanted_until_the_car_goes_again() -> None:
    comes = direct(8, 1, "ami-2", "hede", "bazouges")
    fleet = Fleet(NOW_S, {"ami-1": "hede", "ami-2": "hede"}, {"hede": 2, "bazouges": 1}, (comes,))
    assert faults(direct(1), fleet) == (Fault.NO_SOCKET,)
    leaves = direct(6, 1, "ami-1", "bazouges", "hede")
    assert faults(direct(1), replace(fleet, slots=(comes, leaves))) == ()


def test_a_car_that_is_out_frees_its_socket_meanwhile() -> None:
    out = loop(1, 4, "ami-2")
    fleet = Fleet(NOW_S, {"ami-1": "bazouges", "ami-2": "hede"}, {"hede": 1, "bazouges": 1}, (out,))
    there = direct(1.5, 0.5, "ami-1", "bazouges", "hede")
    assert faults(there, fleet) == (Fault.NO_SOCKET,), "it would stand there when the other one comes back"
    on = direct(3, 1, "ami-1", "hede", "bazouges")
    assert faults(there, replace(fleet, slots=(out, on))) == ()


def test_any_car_means_the_first_that_can() -> None:
    fleet = replace(TWO, slots=(loop(1),), place={"ami-1": "hede", "ami-2": "hede", "ami-3": "hede"})
    cars = ("ami-1", "ami-2", "ami-3")
    assert offer(loop(1), cars, replace(fleet, sockets={"hede": 3})) == "ami-2"
    assert offer(loop(1), ("ami-1",), replace(fleet, sockets={"hede": 3})) is None


CARS, STATIONS = ("ami-1", "ami-2", "ami-3"), ("hede", "bazouges", "saint-gondran")
WISHES = st.builds(
    direct,
    st.integers(0, 60).map(lambda quarters: quarters / 4),
    st.integers(1, 12).map(lambda quarters: quarters / 4),
    st.sampled_from(CARS),
    st.sampled_from(STATIONS),
    st.sampled_from(STATIONS),
)


@given(wishes=st.lists(WISHES, max_size=25), homes=st.tuples(*[st.sampled_from(STATIONS)] * 3))
@settings(max_examples=150)
def test_whatever_is_asked_for_in_whatever_order_the_plan_holds(wishes: list[Slot], homes: tuple[str, ...]) -> None:
    """Wishes are taken one by one where nothing speaks against them; then the whole plan is looked at."""
    sockets = dict.fromkeys(STATIONS, 3) | {"bazouges": max(1, homes.count("bazouges"))}
    fleet = Fleet(NOW_S, dict(zip(CARS, homes, strict=True)), sockets)
    for wish in wishes:
        if not faults(wish, fleet):
            fleet = replace(fleet, slots=(*fleet.slots, wish))
    for car in CARS:
        place, free_s = fleet.place[car], 0
        for slot in fleet.of(car):
            assert slot.start_s >= free_s, "two at once, or not charged"
            assert slot.pickup == place, "somebody stands at a station without a car"
            place, free_s = slot.dropoff, slot.end_s + TERMS.charge_s
    for quarter in range(4 * 20):
        at_s = NOW_S + quarter * 900
        for station in STATIONS:
            there = sum(fleet.place_at(car, at_s) == station for car in CARS)
            assert there <= sockets[station], f"{there} cars, {sockets[station]} sockets at {station}"


def test_every_fault_has_words_in_both_languages() -> None:
    assert set(WORDS) == set(Fault)
    said = [text for both in WORDS.values() for text in both]
    assert len(set(said)) == 2 * len(Fault)
    assert all(text.endswith(".") for text in said)
