"""The GATT server and its phones, over a real D-Bus: what is answered, what is refused, and whose connection ends."""

from __future__ import annotations

import asyncio
import time
from collections.abc import Callable
from contextlib import suppress

import pytest
from dbus_fast import DBusError, Variant
from dbus_fast.aio import MessageBus

from hw.ble_connections import CONNECTIONS_MAX
from hw.ble_phones import CALLS_EACH_MAX, CALLS_MAX
from hw.ble_registration import ADAPTER, call
from onboard.core.gatt import BROKEN, BUSY, COMMAND, HELLO, NOT_UNDERSTOOD, RESULT, SERVICE, GattRefused
from tests.ble_rig import DEADLINE_S, NAME, Server, refused, refused_offset, until
from tests.fake_bluez import DBusDaemon, FakeBluez, FakePhone


def test_phones_find_one_service_with_three_characteristics(server: Server, bluez: FakeBluez) -> None:
    assert bluez.advertisement is not None
    assert bluez.advertisement.properties == {
        "Type": "peripheral",
        "ServiceUUIDs": [SERVICE],
        "LocalName": NAME,
        "Discoverable": True,
        "MinInterval": 30,
        "MaxInterval": 50,
    }
    found = bluez.characteristics()
    assert {uuid: each["Flags"] for uuid, each in found.items()} == {
        HELLO: ["read"],
        COMMAND: ["write"],
        RESULT: ["read"],
    }
    assert len({each["Service"] for each in found.values()}) == 1
    assert server.counts["registrations"] == 1


def test_the_adapter_is_called_as_the_car_is(server: Server, bluez: FakeBluez) -> None:
    """A phone that was here shows the adapter's name, whatever was advertised: it must not be the machine's."""
    assert server.counts["registrations"] == 1
    assert bluez._objects["/org/bluez/hci0"][ADAPTER]["Alias"].value == NAME


def test_a_phone_reads_writes_and_reads(server: Server, bluez: FakeBluez) -> None:
    phone = bluez.phone().connect()
    assert len(phone.read(HELLO)) == 104
    phone.write(b"let me in")
    assert server.talk.written == {phone.path: b"let me in"}
    assert phone.read(RESULT) == b"ni em tel"
    assert server.talk.threads == {"bluetooth"}
    assert server.counts["connections"] == 1


@pytest.mark.parametrize("length", [0, 1, 512])
def test_a_write_of_any_length_arrives_whole(server: Server, bluez: FakeBluez, length: int) -> None:
    phone = bluez.phone().connect()
    phone.write(bytes(each % 251 for each in range(length)))
    assert server.talk.written[phone.path] == bytes(each % 251 for each in range(length))


def test_two_phones_at_once_each_read_their_own(server: Server, bluez: FakeBluez) -> None:
    anna, bert = bluez.phone("anna").connect(), bluez.phone("bert").connect()
    anna.write(b"first")
    bert.write(b"second")
    hellos = anna.read(HELLO), bert.read(HELLO)
    assert hellos[0] != hellos[1]
    assert anna.read(HELLO, offset=Variant("q", 22)) == hellos[0][22:]
    assert bert.read(HELLO, offset=Variant("q", 22)) == hellos[1][22:]
    assert (anna.read(RESULT), bert.read(RESULT)) == (b"tsrif", b"dnoces")
    assert server.counts["connections"] == 2


@pytest.mark.parametrize("mtu", [23, 185, 247, 517])
@pytest.mark.parametrize("length", [0, 22, 104, 512])
def test_a_value_longer_than_the_mtu_is_read_in_pieces_of_one(
    server: Server, bluez: FakeBluez, mtu: int, length: int
) -> None:
    phone = bluez.phone().connect()
    server.talk.length = length
    # 22 and a multiple of it at MTU 23: a phone learns only from an empty piece that this was all.
    assert phone.read_long(HELLO, mtu) == bytes((1 + each) % 256 for each in range(length))
    assert server.talk.asked["hello"] == 1


def test_each_characteristic_goes_on_from_its_own_last_read(server: Server, bluez: FakeBluez) -> None:
    phone = bluez.phone().connect()
    phone.write(b"0123456789")
    first, result, second = phone.read(HELLO), phone.read(RESULT), phone.read(HELLO)
    assert first != second
    assert phone.read(HELLO, offset=Variant("q", 100)) == second[100:]
    assert phone.read(RESULT, offset=Variant("q", 7)) == result[7:]
    assert phone.read(HELLO, offset=Variant("q", 104)) == b""
    assert server.talk.asked == {"command": 1, "hello": 2, "result": 1}


def test_an_offset_beyond_what_was_read_is_refused(server: Server, bluez: FakeBluez) -> None:
    anna, bert = bluez.phone("anna").connect(), bluez.phone("bert").connect()
    anna.read(HELLO)
    for phone, uuid, offset in ((anna, HELLO, 105), (anna, RESULT, 1), (bert, HELLO, 1)):
        with refused_offset():
            phone.read(uuid, offset=Variant("q", offset))
    assert server.counts["refused_offset"] == 3
    assert server.talk.asked == {"hello": 1}


def test_what_a_connection_read_is_gone_with_it(server: Server, bluez: FakeBluez) -> None:
    phone = bluez.phone().connect()
    phone.read(HELLO)
    phone.disconnect()
    phone.connect()
    until(lambda: server.counts["connections"] == 2)
    with refused_offset():
        phone.read(HELLO, offset=Variant("q", 1))


def test_a_write_that_is_no_command_never_reaches_the_conversation(server: Server, bluez: FakeBluez) -> None:
    phone = bluez.phone().connect()
    with refused(NOT_UNDERSTOOD):
        phone.write(bytes(513))
    with refused_offset():
        phone.write(b"the middle", offset=Variant("q", 1))
    with refused(NOT_UNDERSTOOD):
        phone.write(b"whose?", device=None)
    with refused(NOT_UNDERSTOOD):
        phone.read(HELLO, device=None)
    assert (server.counts["refused_too_long"], server.counts["refused_offset"]) == (1, 1)
    assert server.counts["refused_no_device"] == 2
    assert not server.talk.asked


def test_nobody_but_bluetoothd_may_call(server: Server, bluez: FakeBluez, dbus: DBusDaemon) -> None:
    assert bluez.application is not None
    name, path = bluez.application.sender, bluez.characteristics()[HELLO]["path"]

    async def intrude() -> None:
        bus = await MessageBus(dbus.address).connect()
        try:
            options = {"device": Variant("o", bluez.phone().path)}
            await call(bus, name, path, "org.bluez.GattCharacteristic1.ReadValue", "a{sv}", options)
        finally:
            bus.disconnect()
            await bus.wait_for_disconnect()  # type: ignore[no-untyped-call]

    with pytest.raises(DBusError, match="only bluetoothd"):
        asyncio.run(intrude())
    assert server.counts["refused_stranger"] == 1
    assert not server.talk.asked


@pytest.mark.parametrize("code", [0x80, 0x81, 0x8F, 0x9F])
def test_a_refusal_of_the_conversation_is_the_phones_answer(server: Server, bluez: FakeBluez, code: int) -> None:
    phone = bluez.phone().connect()
    server.talk.raising = {what: GattRefused(code) for what in ("hello", "command", "result")}
    for ask in every_ask(phone):
        with refused(code):
            ask()
    assert server.counts[f"refused_{code:#04x}"] == 3
    assert not server.counts["refused_failed"]


@pytest.mark.parametrize("error", [ValueError("wrong"), TimeoutError(), asyncio.CancelledError(), KeyError()])
def test_a_mistake_of_the_conversation_is_answered_and_ends_nothing(
    server: Server, bluez: FakeBluez, caplog: pytest.LogCaptureFixture, error: BaseException
) -> None:
    phone = bluez.phone().connect()
    server.talk.raising = dict.fromkeys(("hello", "command", "result"), error)
    for ask in every_ask(phone):
        with refused(BROKEN):
            ask()
    assert server.counts["refused_failed"] == server.counts[f"failed_{type(error).__name__}"] == 3
    # Phones can repeat it at will: once is enough for the log.
    assert len([each for each in caplog.records if each.levelname == "WARNING"]) == 1
    server.talk.raising.clear()
    assert phone.read(HELLO)


def test_a_mistake_in_forgetting_or_tidying_ends_nothing(server: Server, bluez: FakeBluez) -> None:
    server.talk.raising = {"gone": ValueError("wrong"), "idle": KeyError("wrong")}
    bluez.phone("anna").connect().disconnect()
    until(lambda: server.counts["failed_ValueError"] and server.counts["failed_KeyError"] > 1)
    assert bluez.phone("bert").connect().read(HELLO)
    assert server.running


def test_an_answer_that_no_attribute_can_hold_is_not_given(server: Server, bluez: FakeBluez) -> None:
    server.talk.length = 513
    with refused(BROKEN):
        bluez.phone().connect().read(HELLO)


def test_a_phone_does_not_wait_for_a_conversation_that_takes_too_long(
    server: Server, bluez: FakeBluez, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("hw.ble_phones.ANSWER_S", 0.05)
    phone = bluez.phone().connect()
    server.talk.hanging.add(phone.path)
    for ask in every_ask(phone):
        with refused(BUSY):
            ask()
    assert server.counts["refused_late"] == server.talk.cancelled == 3
    assert bluez.phone("bert").connect().read(HELLO)


def test_a_flood_of_calls_is_refused_beyond_a_bound(server: Server, bluez: FakeBluez) -> None:
    phones = [bluez.phone(f"phone{number}").connect() for number in range(CALLS_MAX // CALLS_EACH_MAX + 1)]
    server.talk.hanging = {phone.path for phone in phones}
    waiting = [phone.read_soon(HELLO) for phone in phones[:-1] for _ in range(CALLS_EACH_MAX)]
    assert len(waiting) == CALLS_MAX == 64
    until(lambda: server.talk.asked["hello"] == CALLS_MAX)
    for refusals in range(1, 101):
        with refused(BUSY):
            phones[-1].read(HELLO)
        assert server.counts["refused_busy"] == refusals
    assert not any(each.done() for each in waiting)
    phones[0].disconnect()
    for each in waiting[:CALLS_EACH_MAX]:
        with refused(BUSY):
            each.result(DEADLINE_S)
    server.talk.hanging.clear()
    assert phones[-1].read(HELLO)


def test_one_phone_that_asks_too_much_at_once_leaves_room_for_others(server: Server, bluez: FakeBluez) -> None:
    greedy = bluez.phone("greedy").connect()
    server.talk.hanging.add(greedy.path)
    for _ in range(CALLS_EACH_MAX):
        greedy.write_soon(b"")
    until(lambda: server.talk.asked["command"] == CALLS_EACH_MAX)
    with refused(BUSY):
        greedy.write(b"")
    assert server.counts["refused_busy"] == 1
    assert bluez.phone("anna").connect().read(HELLO)


ENDS: dict[str, Callable[[FakeBluez, FakePhone], object]] = {
    "changed": lambda _, phone: phone.disconnect(),
    "removed": lambda _, phone: phone.vanish(),
    "died": lambda bluez, _: bluez.die(),
    "unplugged": lambda bluez, _: bluez.remove_adapter(),
}


@pytest.mark.parametrize("known", [False, True])
@pytest.mark.parametrize("how", ENDS)
def test_a_connection_is_over_in_every_shape_of_it(
    server: Server, bluez: FakeBluez, monkeypatch: pytest.MonkeyPatch, how: str, known: bool
) -> None:
    # It is not for want of time that what is under way ends.
    monkeypatch.setattr("hw.ble_phones.ANSWER_S", 10 * DEADLINE_S)
    phone = bluez.phone().connect()
    if known:
        phone.disconnect()
        phone.connect()
    server.talk.hanging.add(phone.path)
    under_way = phone.read_soon(HELLO)
    until(lambda: server.talk.asked["hello"])
    ENDS[how](bluez, phone)
    times = 2 if known else 1
    until(lambda: server.talk.cancelled)
    assert server.talk.over == [phone.path] * times
    assert server.counts["connections"] == server.counts["disconnects"] == times
    assert server.counts["refused_gone"] == 1
    under_way.cancel()


def test_the_end_of_one_connection_is_not_the_end_of_another(server: Server, bluez: FakeBluez) -> None:
    anna, bert = bluez.phone("anna").connect(), bluez.phone("bert").connect()
    hello = bert.read(HELLO)
    anna.vanish()
    until(lambda: server.talk.over)
    assert server.talk.over == [anna.path]
    assert bert.read(HELLO, offset=Variant("q", 4)) == hello[4:]


def test_a_phone_that_says_nothing_is_dropped(
    server: Server, bluez: FakeBluez, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("hw.ble_connections.SILENT_S", 0.2)
    speaking, silent = bluez.phone("speaking").connect(), bluez.phone("silent").connect()
    chattering = bluez.phone("chattering").connect()
    speaking.read(HELLO)
    with refused(NOT_UNDERSTOOD):
        # What is refused out of hand is nothing said.
        chattering.write(bytes(513))
    until(lambda: len(bluez.disconnected) == 2)
    assert set(bluez.disconnected) == {silent.path, chattering.path}
    until(lambda: len(server.talk.over) == 2)
    assert server.counts["dropped_silent"] == 2
    speaking.write(b"still here")


def test_a_phone_that_only_says_what_is_refused_is_dropped(
    server: Server, bluez: FakeBluez, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("hw.ble_connections.SILENT_S", 0.3)
    server.talk.raising = {"command": GattRefused(0x82)}
    phone = bluez.phone().connect()
    give_up_s = time.monotonic() + DEADLINE_S
    while not bluez.disconnected:
        assert time.monotonic() < give_up_s
        with suppress(Exception):  # refused, or over
            phone.write(b"nonsense")
        time.sleep(0.05)
    assert bluez.disconnected == [phone.path]
    assert server.counts["dropped_silent"] == 1


def test_a_drop_that_was_refused_is_asked_for_until_it_is_over(server: Server, bluez: FakeBluez) -> None:
    """The conversation names whom it drops once."""
    phone = bluez.phone().connect()
    phone.read(HELLO)
    bluez.refusals["Disconnect"] = 2
    server.talk.to_drop = [phone.path]
    until(lambda: bluez.asked["Disconnect"] >= 1)
    server.talk.to_drop = []
    until(lambda: server.talk.over)
    assert bluez.asked["Disconnect"] == 3


def test_an_idle_conversation_is_dropped(server: Server, bluez: FakeBluez) -> None:
    anna, bert = bluez.phone("anna").connect(), bluez.phone("bert").connect()
    anna.read(HELLO)
    bert.read(HELLO)
    server.talk.to_drop = [bert.path, "/nobody"]
    until(lambda: bert.path in server.talk.over and "/nobody" in server.talk.over)
    assert bluez.disconnected == [bert.path]
    assert server.counts["dropped_idle"] == 1
    assert anna.path not in server.talk.over


def test_a_drop_that_hangs_is_not_asked_for_again_and_a_refused_one_is(server: Server, bluez: FakeBluez) -> None:
    phone = bluez.phone().connect()
    phone.read(HELLO)
    bluez.refusals["Disconnect"] = 2
    server.talk.to_drop = [phone.path]
    until(lambda: server.talk.over)
    assert bluez.asked["Disconnect"] == 3
    phone.connect()
    phone.read(HELLO)
    bluez.hanging.add("Disconnect")
    until(lambda: bluez.asked["Disconnect"] == 4)
    # Ten more looks at what is idle.
    looks = server.talk.looks
    until(lambda: server.talk.looks >= looks + 10)
    assert bluez.asked["Disconnect"] == 4


@pytest.mark.parametrize("known", [False, True])
def test_a_connection_that_bluetoothd_does_not_know_of_is_over(server: Server, bluez: FakeBluez, known: bool) -> None:
    phone = bluez.phone().connect()
    phone.read(HELLO)
    phone.slip_away(known=known)
    server.talk.to_drop = [phone.path]
    until(lambda: phone.path in server.talk.over)
    assert server.counts["disconnects"] == 1


def test_the_oldest_silent_phone_makes_room_for_another(server: Server, bluez: FakeBluez) -> None:
    first = bluez.phone("first").connect()
    # Before the others came: it spoke, and they are silent.
    first.read(HELLO)
    phones = [bluez.phone(f"phone{number}").connect() for number in range(1, CONNECTIONS_MAX)]
    assert not bluez.disconnected
    another = bluez.phone("another").connect()
    assert another.read(HELLO)
    until(lambda: bluez.disconnected)
    assert bluez.disconnected == server.talk.over == [phones[0].path]
    assert server.counts["dropped_crowded_out"] == 1


def every_ask(phone: FakePhone) -> list[Callable[[], object]]:
    return [lambda: phone.read(HELLO), lambda: phone.write(b"x"), lambda: phone.read(RESULT)]
