"""The parts of the GATT server that need no D-Bus: connections and their bounds, faults, settings, answers too late."""

from __future__ import annotations

import asyncio
from collections import Counter
from collections.abc import Callable
from typing import Any, cast

import pytest
from dbus_fast import DBusError, Message, MessageType, Variant
from dbus_fast.aio import MessageBus

from hw.ble_connections import CONNECTIONS_MAX, SILENT_S, Connections
from hw.ble_phones import DROPS_MAX, Phones
from hw.ble_registration import FAULT_AFTER_S, WANTED, Health, Registration
from hw.ble_server import NAME_BYTES_MAX, BleSettings
from hw.worker import AdapterError
from onboard.core.events import FaultReported
from onboard.core.gatt import APPLICATION_ERRORS, HELLO, RESULT, GattRefused
from tests.ble_rig import Talk


def full() -> Connections:
    connections = Connections()
    for number in range(CONNECTIONS_MAX):
        assert connections.in_the_way() is None
        connections.add(f"/{number}", float(number))
    return connections


def test_a_phone_is_silent_five_seconds_after_it_connected_unless_it_spoke() -> None:
    connections = Connections()
    for path in ("/silent", "/speaking", "/later"):
        connections.add(path, 100.0)
    connections.spoke("/speaking", 100.0 + SILENT_S - 0.1)
    assert connections.silent(100.0 + SILENT_S - 0.1) == []
    assert connections.silent(100.0 + SILENT_S) == ["/silent", "/later"]
    connections.spoke("/later", 100.0 + SILENT_S)
    connections.remove("/silent")
    assert connections.silent(1000.0) == []


def test_among_too_many_the_oldest_silent_one_is_in_the_way() -> None:
    connections = full()
    assert connections.in_the_way() == "/0"
    # Before the others came: it spoke, and they are silent.
    connections.spoke("/0", 0.5)
    assert connections.in_the_way() == "/1"
    connections.remove("/1")
    assert connections.in_the_way() is None


def test_among_too_many_that_all_spoke_the_one_quiet_for_longest_is_in_the_way() -> None:
    connections = full()
    for number in range(CONNECTIONS_MAX):
        connections.spoke(f"/{number}", 100.0 - number)
    assert connections.in_the_way() == f"/{CONNECTIONS_MAX - 1}"


def test_what_was_told_is_forgotten_with_the_connection() -> None:
    connections = Connections()
    connections.add("/anna", 0.0)
    connections.tell("/anna", HELLO, b"hello")
    assert connections.told("/anna", HELLO) == b"hello"
    assert connections.told("/anna", RESULT) is None
    assert connections.remove("/anna")
    assert not connections.remove("/anna")
    # An answer that comes after the end.
    connections.tell("/anna", HELLO, b"hello")
    assert connections.told("/anna", HELLO) is None
    connections.add("/anna", 1.0)
    assert connections.told("/anna", HELLO) is None


def test_a_fault_is_told_once_when_it_lasts_and_its_end_once() -> None:
    health = Health()
    assert health.unsettled("no adapter", 100.0) is None
    assert health.unsettled("no adapter", 100.0 + FAULT_AFTER_S - 0.1) is None
    fault = health.unsettled("no adapter", 100.0 + FAULT_AFTER_S)
    assert fault is not None
    assert (fault.part, fault.active) == ("bluetooth", True)
    assert fault.detail.startswith("no adapter. ")
    assert health.unsettled("no bluetoothd", 200.0) is None
    assert health.settled() == FaultReported("bluetooth", active=False)
    assert health.settled() is None
    # A new trouble has its full time again.
    assert health.unsettled("no adapter", 300.0) is None


def test_a_short_trouble_is_no_fault() -> None:
    health = Health()
    assert health.settled() == FaultReported("bluetooth", active=False)
    for begin_s in range(0, 100, 10):
        assert health.unsettled("no adapter", float(begin_s)) is None
        assert health.unsettled("no adapter", begin_s + FAULT_AFTER_S - 1) is None
        assert health.settled() is None


@pytest.mark.parametrize("name", ["", "a" * (NAME_BYTES_MAX + 1), "é" * 15])
def test_a_name_that_does_not_fit_is_refused(name: str) -> None:
    with pytest.raises(ValueError, match="1 to 29 bytes"):
        BleSettings(name)
    assert BleSettings("é" * 14).bus_address is None


def test_only_an_application_error_can_be_a_refusal() -> None:
    assert [GattRefused(code).code for code in APPLICATION_ERRORS] == list(range(0x80, 0xA0))
    for code in (0x00, 0x7F, 0xA0, 0x100):
        with pytest.raises(ValueError, match="0x80 to 0x9f"):
            GattRefused(code)


class ScriptedBus:
    """bluetoothd's answers; ``then`` is what happens before the one who asked for a method runs again."""

    def __init__(self) -> None:
        self.then: dict[str, Callable[[], None]] = {}
        self.asked: list[str] = []

    async def call(self, message: Message) -> Message:
        member = str(message.member)
        self.asked.append(member)
        self.then.pop(member, lambda: None)()
        answers: dict[str, Any] = {
            "GetManagedObjects": {"/hci": {name: {} for name in WANTED}},
            "Get": Variant("b", True),
        }
        return Message(message_type=MessageType.METHOD_RETURN, reply_serial=1, body=[answers.get(member)])


@pytest.mark.parametrize("method", ["RegisterApplication", "Get", "RegisterAdvertisement"])
def test_an_answer_that_is_older_than_a_loss_is_not_believed(method: str) -> None:
    """Both lie in the socket: what speaks of the loss is heard before the one who waits for the answer runs."""
    bus = ScriptedBus()
    registration = Registration(cast("MessageBus", bus), "AmiBox-TEST", Counter(), lambda _: None)
    bus.then[method] = registration.lost

    async def settle() -> None:
        with pytest.raises(AdapterError, match="went away just now"):
            await registration.settle(advertise=True)
        assert not registration.adapter
        bus.asked.clear()
        await registration.settle(advertise=True)

    asyncio.run(settle())
    assert bus.asked == ["GetManagedObjects", "RegisterApplication", "Get", "Set", "RegisterAdvertisement"]
    assert registration.adapter == "/hci"


def test_an_advertisement_given_up_while_it_is_taken_is_registered_again() -> None:
    bus = ScriptedBus()
    registration = Registration(cast("MessageBus", bus), "AmiBox-TEST", Counter(), lambda _: None)
    bus.then["RegisterAdvertisement"] = registration.released

    async def settle() -> None:
        with pytest.raises(AdapterError):
            await registration.settle(advertise=True)
        bus.asked.clear()
        await registration.settle(advertise=True)
        await registration.settle(advertise=True)

    asyncio.run(settle())
    assert bus.asked == ["RegisterAdvertisement"]


def test_once_it_is_over_nobody_is_heard_any_more() -> None:
    talk = Talk()

    async def end() -> None:
        phones = Phones(cast("MessageBus", ScriptedBus()), talk, Counter())
        await phones.farewell(1.0)
        with pytest.raises(DBusError, match="0x83"):
            await phones.read(HELLO, {"device": Variant("o", "/anna")})

    asyncio.run(end())
    assert not talk.asked


def test_no_more_drops_are_under_way_than_the_bound() -> None:
    bus, counts = ScriptedBus(), Counter[str]()

    async def drop() -> None:
        phones = Phones(cast("MessageBus", bus), Talk(), counts)
        for number in range(DROPS_MAX + 10):
            phones.drop(f"/{number}", "idle")
        # This bus answers at once: after one turn all have ended, and there is room again.
        await asyncio.sleep(0)
        phones.drop("/another", "idle")
        await asyncio.sleep(0)

    asyncio.run(drop())
    assert bus.asked == ["Disconnect"] * (DROPS_MAX + 1)
    assert counts == {"dropped_idle": DROPS_MAX + 1}
