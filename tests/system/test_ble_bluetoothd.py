"""The GATT server through whatever happens to bluetoothd, its adapter, D-Bus and the car, over a real D-Bus."""

from __future__ import annotations

import gc

import pytest

from hw.worker import AdapterError
from onboard.core.events import FaultReported
from onboard.core.gatt import BUSY, HELLO
from tests.ble_rig import DEADLINE_S, Server, refused, serving, until
from tests.fake_bluez import DBusDaemon, FakeBluez

WELL = FaultReported("bluetooth", active=False)


@pytest.fixture
def lonely(dbus: DBusDaemon, hasty: None) -> Server:  # noqa: ARG001
    """A server that is not started yet; the test stops it."""
    return Server(dbus.address)


def served(bluez: FakeBluez, name: str = "anna", adapter: str = "hci0") -> bool:
    """One phone's visit."""
    until(lambda: bluez.application is not None and bluez.advertisement is not None)
    phone = bluez.phone(name, adapter).connect()
    phone.write(b"open")
    phone.read(HELLO)
    phone.disconnect()
    return True


def test_after_bluetoothd_died_phones_are_served_again(server: Server, bluez: FakeBluez) -> None:
    for _ in range(2):
        assert served(bluez)
        bluez.die()
        bluez.start()
    assert served(bluez)
    assert server.counts["registrations"] == 3
    # A restart is no fault.
    assert server.faults() == [WELL]


def test_a_link_that_outlived_bluetoothd_is_closed(server: Server, bluez: FakeBluez) -> None:
    anna = bluez.phone("anna").connect()
    anna.read(HELLO)
    bluez.die()
    until(lambda: server.talk.over == [anna.path])
    bluez.start("hci0", "anna")
    until(lambda: bluez.disconnected == [anna.path])
    until(lambda: server.talk.over == [anna.path, anna.path])
    assert server.counts["dropped_left_over"] == 1
    assert served(bluez, "bert")


def test_a_link_that_is_found_before_we_are_registered_is_closed(server: Server, bluez: FakeBluez) -> None:
    bluez.die()
    bluez.hanging.add("GetManagedObjects")
    bluez.start()
    until(lambda: bluez.asked["GetManagedObjects"] > 1)
    old = bluez.phone("old").connect()
    until(lambda: bluez.disconnected == [old.path])
    assert server.counts["dropped_left_over"] == 1


@pytest.mark.parametrize("method", ["GetManagedObjects", "Get", "RegisterApplication", "RegisterAdvertisement"])
def test_what_is_refused_at_first_is_tried_again(lonely: Server, bluez: FakeBluez, method: str) -> None:
    bluez.refusals[method] = 4
    with serving(bluez, lonely):
        assert served(bluez)
        assert lonely.counts["registrations_failed"] == 4
        assert lonely.counts["registrations"] == 1


@pytest.mark.parametrize("method", ["GetManagedObjects", "Get", "RegisterApplication", "RegisterAdvertisement"])
def test_what_gets_no_answer_is_tried_again(
    lonely: Server, bluez: FakeBluez, method: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("hw.ble_registration.CALL_S", 0.1)
    bluez.start()
    bluez.hanging.add(method)
    lonely.start()
    try:
        until(lambda: bluez.asked[method] > 1)
        bluez.hanging.clear()
        assert served(bluez)
    finally:
        lonely.stop()


@pytest.mark.parametrize("method", ["RegisterApplication", "RegisterAdvertisement"])
def test_what_was_registered_without_an_answer_is_registered_anew(
    lonely: Server, bluez: FakeBluez, method: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("hw.ble_registration.CALL_S", 0.1)
    bluez.mute.add(method)
    bluez.start()
    lonely.start()
    try:
        until(lambda: bluez.asked[method] == 1)
        until(lambda: lonely.counts["registrations_failed"])
        bluez.mute.clear()
        assert served(bluez)
        until(lambda: lonely.faults() == [WELL])
        assert bluez.asked[f"Un{method[0].lower()}{method[1:]}"] == 1
    finally:
        lonely.stop()


def test_another_adapter_is_used_when_the_first_is_gone(server: Server, bluez: FakeBluez) -> None:
    assert served(bluez)
    bluez.remove_adapter()
    until(lambda: server.counts["registrations_failed"])
    bluez.add_adapter("hci2")
    assert served(bluez, adapter="hci2")
    assert bluez.application is not None
    assert bluez.application.adapter == "/org/bluez/hci2"


def test_an_adapter_that_cannot_serve_is_no_adapter(lonely: Server, bluez: FakeBluez) -> None:
    # Sorted before the other, and no manager of GATT.
    bluez.start("hci1")
    bluez.add_half_an_adapter("hci0")
    lonely.start()
    try:
        assert served(bluez, adapter="hci1")
    finally:
        lonely.stop()


def test_an_advertisement_that_bluetoothd_gave_up_is_registered_again(server: Server, bluez: FakeBluez) -> None:
    bluez.release()
    assert served(bluez)
    assert server.counts["registrations"] == 1
    assert bluez.asked["RegisterAdvertisement"] == 2


def test_while_the_car_moves_no_phone_finds_it(server: Server, bluez: FakeBluez) -> None:
    passenger = bluez.phone("passenger").connect()
    passenger.read(HELLO)
    for _ in range(2):
        server.moving = True
        until(lambda: bluez.advertisement is None)
        passenger.write(b"still served")
        server.moving = False
        until(lambda: bluez.advertisement is not None)
    assert server.counts["registrations"] == 1
    assert server.faults() == [WELL]
    assert not server.talk.over


def test_a_bluetoothd_that_comes_back_in_a_moving_car_stays_silent(server: Server, bluez: FakeBluez) -> None:
    server.moving = True
    until(lambda: bluez.advertisement is None)
    asked = bluez.asked["RegisterAdvertisement"]
    bluez.die()
    bluez.start()
    until(lambda: bluez.application is not None)
    looks = server.looks
    until(lambda: server.looks > looks + 2)
    server.moving = False
    until(lambda: bluez.advertisement is not None)
    assert bluez.asked["RegisterAdvertisement"] == asked + 1


@pytest.mark.parametrize(
    ("missing", "said"),
    [
        ("bluetoothd", "bluetoothd does not answer: see systemctl status bluetooth"),
        ("adapter", "there is no Bluetooth adapter: check that it is plugged in"),
        ("power", "the Bluetooth adapter is off: see rfkill list"),
        ("application", "bluetoothd does not take the application: see its journal (as told)"),
        ("advertisement", "bluetoothd does not take the advertisement: see its journal (as told)"),
    ],
)
def test_what_is_missing_for_long_is_one_fault_that_ends(
    lonely: Server, bluez: FakeBluez, monkeypatch: pytest.MonkeyPatch, missing: str, said: str
) -> None:
    monkeypatch.setattr("hw.ble_registration.FAULT_AFTER_S", 0.2)
    bluez.refusals.update({"RegisterApplication": 1000} if missing == "application" else {})
    bluez.refusals.update({"RegisterAdvertisement": 1000} if missing == "advertisement" else {})
    if missing != "bluetoothd":
        bluez.start()
    if missing == "adapter":
        bluez.remove_adapter()
    if missing == "power":
        bluez.power(on=False)
    lonely.start()
    try:
        until(lonely.faults)
        tried = lonely.counts["registrations_failed"]
        until(lambda: lonely.counts["registrations_failed"] > tried + 2)
        (fault,) = lonely.faults()
        assert fault.active
        assert fault.detail.startswith(said)
        bluez.refusals.clear()
        if missing == "bluetoothd":
            bluez.start()
        if missing == "adapter":
            bluez.add_adapter("hci1")
        if missing == "power":
            bluez.power(on=True)
        until(lambda: len(lonely.faults()) > 1)
        assert lonely.faults() == [fault, WELL]
    finally:
        lonely.stop()


def test_an_adapter_that_is_switched_off_later_is_a_fault_and_back_without_a_registration(
    server: Server, bluez: FakeBluez, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("hw.ble_registration.FAULT_AFTER_S", 0.1)
    bluez.power(on=False)
    until(lambda: len(server.faults()) == 2)
    assert server.faults()[1].active
    bluez.power(on=True)
    until(lambda: server.faults()[2:] == [WELL])
    assert served(bluez)
    assert bluez.asked["RegisterAdvertisement"] == server.counts["registrations"] == 1


def test_without_a_d_bus_it_says_so(lonely: Server, dbus: DBusDaemon) -> None:
    dbus.kill()
    lonely.start()
    until(lambda: lonely.crash is not None)
    assert isinstance(lonely.crash, AdapterError)
    assert lonely.crash.worth_retrying
    assert str(lonely.crash).startswith("D-Bus can't be reached:")


def test_a_d_bus_that_is_lost_ends_every_connection_and_is_said(
    server: Server, bluez: FakeBluez, dbus: DBusDaemon, caplog: pytest.LogCaptureFixture
) -> None:
    phone = bluez.phone().connect()
    server.talk.hanging.add(phone.path)
    phone.read_soon(HELLO)
    until(lambda: server.talk.asked["hello"])
    dbus.kill()
    until(lambda: server.crash is not None)
    assert isinstance(server.crash, AdapterError)
    assert str(server.crash).startswith("D-Bus was lost")
    assert server.talk.over == [phone.path]
    assert server.talk.cancelled == 1
    # What can't be answered any more says nothing new, also where Python finds it later.
    gc.collect()
    assert not [each for each in caplog.records if each.levelname == "ERROR"]


def test_run_again_after_d_bus_is_back_it_serves(server: Server, bluez: FakeBluez, dbus: DBusDaemon) -> None:
    assert served(bluez)
    dbus.kill()
    until(lambda: server.crash is not None)
    bluez.die()
    dbus.start()
    with serving(bluez, server.again()):
        assert served(bluez)
        assert server.counts["registrations"] == 2


def test_it_stops_within_a_second_and_every_connection_is_over(bluez: FakeBluez, dbus: DBusDaemon) -> None:
    """At the pace that it has in the car."""
    with serving(bluez, Server(dbus.address)) as server:
        stop_in_the_middle(server, bluez)
    until(lambda: bluez.application is None and bluez.advertisement is None)


def stop_in_the_middle(server: Server, bluez: FakeBluez) -> None:
    phone = bluez.phone().connect()
    server.talk.hanging.add(phone.path)
    under_way = phone.read_soon(HELLO)
    until(lambda: server.talk.asked["hello"])
    assert server.beats > 0
    assert server.stop() < 1
    with refused(BUSY):
        under_way.result(DEADLINE_S)
    assert server.talk.over == [phone.path]
    assert server.crash is None


@pytest.mark.parametrize("method", ["GetManagedObjects", "Get", "RegisterApplication", "RegisterAdvertisement"])
def test_it_beats_and_stops_while_bluetoothd_hangs(lonely: Server, bluez: FakeBluez, method: str) -> None:
    bluez.start()
    bluez.hanging.add(method)
    lonely.start()
    until(lambda: bluez.asked[method] == 1)
    beats = lonely.beats
    until(lambda: lonely.beats > beats + 2)
    assert lonely.stop() < 1
    assert lonely.crash is None
