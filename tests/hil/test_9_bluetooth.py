"""Phones: the real bluetoothd with our settings, a controller behind /dev/vhci, and drivers on a simulated radio.

The box serves them as it does in the car. The phones are ``sim.phone``: over bumble, and over bleak (``amibox phone``).
"""

from __future__ import annotations

import asyncio
import json
import time
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path

import pytest

from cloud_sync.documents.conversation import Op
from onboard.core.gatt import HELLO, REFERENCE_UNKNOWN, SERVICE
from sim.commune import Commune
from sim.phone import GattError, Talk
from sim.rig import BOX_CONFIG, VEHICLE, Rig
from tests.hil.driver import RUNNING, acknowledged, serves, tell
from tests.hil.handset import Handset, insist

pytestmark = pytest.mark.needs("played radio", "played gps")


def main_pid(rig: Rig, unit: str) -> str:
    return rig.shell(f"systemctl show {unit} -p MainPID --value").strip()


def restarts(rig: Rig) -> int:
    return int(rig.shell("systemctl show bluetooth -p NRestarts --value"))


def configure(rig: Rig, text: bytes) -> None:
    rig.put(BOX_CONFIG, text, owner="root:amibox", mode="640")
    # The next test may cut the power before the kernel writes it out by itself.
    rig.shell("sync && systemctl restart amibox")
    rig.await_box()


@pytest.fixture(scope="module")
def air(box: Rig) -> Iterator[Rig]:
    """The box with its adapter plugged in, serving phones."""
    before = box.place.fetch(BOX_CONFIG)
    box.start_radio()
    configure(box, before.replace(b"#[bluetooth]", b"[bluetooth]"))
    yield box
    if box.off:
        return
    configure(box, before)


@pytest.fixture(scope="module")
def box_pid(air: Rig) -> str:
    return main_pid(air, "amibox")


@pytest.fixture(scope="module")
def anna(air: Rig, commune: Commune, box_pid: str) -> Handset:
    assert box_pid != "0"
    return Handset(air, commune, "anna")


@pytest.fixture(scope="module")
def bert(air: Rig, commune: Commune) -> Handset:
    return Handset(air, commune, "bert")


def powered(rig: Rig) -> bool:
    return "Powered: yes" in rig.shell("bluetoothctl show")


def rent(rig: Rig, who: Handset, *, mtu: int = 247, courier: bool = False) -> int:
    """Open the car and end the rental at once, both by phone; return the round trips of the opening."""
    rig.until("a box that can serve", lambda: serves(rig))
    opened = insist(rig, "the door opened by phone", lambda: who.tap(Op.UNLOCK, mtu, courier=courier))
    assert (opened.answer.status, opened.answer.door) == ("granted", "unlocked"), opened.answer
    assert not rig.car("status")["locked"]
    ended = insist(rig, "the rental ended by phone", lambda: who.tap(Op.FINISH, mtu, courier=courier))
    assert ended.answer.status in ("accepted", "granted"), ended.answer
    rig.until("the rental's end", lambda: rig.status()["state"] not in RUNNING)
    assert rig.car("status")["locked"]
    return opened.round_trips


def test_the_adapter_is_on_by_itself(air: Rig) -> None:
    """As on a Pi: the kernel finds a controller, udev has systemd start bluetoothd, bluetoothd switches it on."""
    air.until("the adapter", lambda: powered(air))
    shown = air.shell("systemctl show bluetooth -p ActiveState,Restart,StartLimitIntervalUSec,WatchdogUSec")
    assert set(shown.split()) == {
        "ActiveState=active",
        "Restart=always",
        "StartLimitIntervalUSec=0",
        "WatchdogUSec=10s",
    }


def test_it_speaks_low_energy_only_and_never_pairs(air: Rig) -> None:
    # btmgmt wants a terminal.
    shown = air.shell("script -qc 'timeout 20 btmgmt info' /dev/null </dev/null")
    offered, current = (line.partition(":")[2].split() for line in shown.splitlines() if " settings:" in line)
    assert {"br/edr", "le", "bondable"} <= set(offered)
    assert {"powered", "le"} <= set(current)
    assert not {"br/edr", "bondable"} & set(current)


def test_bluetoothd_knows_every_one_of_our_settings(air: Rig) -> None:
    said = air.shell("journalctl -u bluetooth -o cat --no-pager")
    assert "Bluetooth daemon 5." in said
    assert "Unknown" not in said
    # And this is how it would tell.
    air.put("/run/rig/nonsense.conf", b"[LE]\nNonsense = 1\n[Nonsense]\n")
    told = air.shell("timeout 5 /usr/libexec/bluetooth/bluetoothd -n -f /run/rig/nonsense.conf 2>&1 || true")
    assert "Unknown key Nonsense for group LE" in told
    assert "Unknown group Nonsense" in told


def test_it_advertises_every_30_to_50_ms_what_a_phone_looks_for(air: Rig, anna: Handset) -> None:
    anna.book()
    air.until("the box on the air", lambda: air.radio("status")["adapter"]["advertising"])
    told = air.radio("status")["adapter"]
    assert [each * 0.625 for each in told["interval"]] == [30, 50]
    assert bytes.fromhex(SERVICE.replace("-", ""))[::-1] in bytes.fromhex(told["data"])
    said = bytes.fromhex(told["scan_response"])
    assert anna.wallet.name.encode() in said
    assert VEHICLE.encode() not in said + bytes.fromhex(told["data"])


@pytest.mark.parametrize("mtu", [23, 185, 247, 517])
def test_a_phone_is_answered_at_every_mtu(air: Rig, anna: Handset, mtu: int) -> None:
    air.until("the booking in the box", lambda: air.status()["bookings"] > 0)
    line = anna.connect(mtu)
    came = anna.tap(Op.STATUS, mtu, line=line)
    assert came.answer.status == "ok", came.answer
    assert came.answer.door == "locked"
    steps = " ".join(f"{step} {s:.2f} s" for step, s in line.took.items())
    tell(f"{steps}, {came.round_trips} round trips")
    if mtu >= 185:
        assert came.round_trips <= 3


def test_bluetoothd_does_not_search_the_phones(air: Rig, anna: Handset) -> None:
    anna.connect()
    known = air.shell("bluetoothctl devices Connected").split()[1]
    shown = air.shell(f"bluetoothctl info {known}")
    anna.hang_up()
    assert "Connected: yes" in shown
    assert "UUID" not in shown


def test_two_phones_at_once_each_have_their_own_conversation(air: Rig, anna: Handset, bert: Handset) -> None:
    bert.book()
    air.until("the booking in the box", lambda: air.status()["bookings"] > 1)
    lines = [anna.connect(), bert.connect()]
    talks = [Talk(line, who.wallet) for line, who in zip(lines, (anna, bert), strict=True)]

    async def talk() -> None:
        for each in talks:
            assert (await each.open(each.wish(Op.STATUS), by_pass=False)).status == "ok"
        for each in talks:
            assert (await each.say(each.wish(Op.STATUS))).counter == 2

    asyncio.run(talk())
    assert talks[0].hello != talks[1].hello
    for who in (anna, bert):
        who.hang_up()


def test_a_phone_opens_the_car_and_ends_the_rental(air: Rig, anna: Handset, commune: Commune) -> None:
    trips = rent(air, anna)
    air.until("everything acknowledged", lambda: acknowledged(air))
    (rental,) = [each for each in commune.get("rentals") if each["reservation"] == anna.booking]
    assert rental["reason"] == "finished"
    tell(f"opened by reference in {trips} round trips")
    assert trips <= 3


def test_without_a_network_the_phone_carries_booking_and_trip(air: Rig, anna: Handset, commune: Commune) -> None:
    air.beside.shell("systemctl stop mosquitto")
    try:
        air.until("the box to notice", lambda: not air.status()["outbox"]["connected"])
        anna.book()
        trips = rent(air, anna, mtu=185, courier=True)
        assert not [each for each in commune.get("rentals") if each["reservation"] == anna.booking]
        anna.at_home()
        (rental,) = [each for each in commune.get("rentals") if each["reservation"] == anna.booking]
        assert rental["reason"] == "finished"
        tell(f"opened by pass at MTU 185 in {trips} round trips")
        assert trips <= 5
    finally:
        commune.start()
    air.until("everything acknowledged", lambda: acknowledged(air))
    assert len([each for each in commune.get("rentals") if each["reservation"] == anna.booking]) == 1


def test_a_stranger_is_asked_for_a_pass(air: Rig, anna: Handset) -> None:
    line = anna.connect()
    stranger = Talk(line, replace(anna.wallet, booking=bytes(16)))
    with pytest.raises(GattError) as refused:
        asyncio.run(stranger.open(stranger.wish(Op.UNLOCK), by_pass=False))
    assert refused.value.code == REFERENCE_UNKNOWN
    anna.hang_up()
    assert air.car("status")["locked"]


@pytest.mark.parametrize("signal", ["KILL", "STOP"])
def test_a_bluetoothd_that_died_or_hangs_comes_back(air: Rig, bert: Handset, signal: str) -> None:
    """While a phone talks; a hung one by its watchdog.

    It is systemd that restarts it. D-Bus would start it as well, but only for somebody who asks for it.
    """
    line = bert.connect()
    asyncio.run(line.read(HELLO))
    before = restarts(air)
    begun_s = time.monotonic()
    air.shell(f"systemctl kill -s {signal} bluetooth")
    air.until("a restart", lambda: restarts(air) > before)
    air.until("the adapter", lambda: powered(air))
    insist(air, "a phone's visit", lambda: bert.tap(Op.STATUS))
    tell(f"a phone was served {time.monotonic() - begun_s:.1f} s after {signal}")
    bert.book()
    rent(air, bert)


def test_an_adapter_that_was_pulled_out_is_used_again(air: Rig, bert: Handset) -> None:
    bert.connect()
    air.radio("unplug")
    air.until("the kernel to notice", lambda: "hci" not in air.shell("ls /sys/class/bluetooth"))
    assert not air.radio("status")["connected"]["bert"]
    begun_s = time.monotonic()
    air.radio("plug")
    air.until("the adapter", lambda: powered(air))
    insist(air, "a phone's visit", lambda: bert.tap(Op.STATUS))
    tell(f"a phone was served {time.monotonic() - begun_s:.1f} s after the adapter was back")
    air.until("no fault any more", lambda: "bluetooth" not in air.status()["faults"])


def test_amibox_phone_opens_the_car_over_bleak(air: Rig, bert: Handset, tmp_path: Path) -> None:
    """The command as a person types it, with the machine's own second adapter."""
    bert.book()
    bert.wallet.save(tmp_path / "bert.json")
    air.put("/run/rig/bert.json", (tmp_path / "bert.json").read_bytes(), mode="600")
    air.radio("plug_phone")
    try:
        said: list[dict[str, object]] = []

        def tap(op: str) -> bool:
            air.until("the second adapter", lambda: air.shell("ls /sys/class/bluetooth").count("hci") == 2)
            second = max(air.shell("ls /sys/class/bluetooth").split())
            command = f"/opt/bench/.venv/bin/amibox phone {op} --pass /run/rig/bert.json --adapter {second} --json"
            done = air.run("sh", "-c", f"{command} 2>&1", timeout_s=120)
            line = done.text.strip().splitlines()[-1] if done.text.strip() else ""
            if not line.startswith("{"):
                tell(f"{op}: {line}; {air.radio('status')}")
                return False
            said.append(json.loads(line))
            return True

        air.until("the door opened by amibox phone", lambda: tap("unlock"))
        assert (said[-1]["status"], said[-1]["door"]) == ("granted", "unlocked"), said
        # As it came: of a car that it knows, and whose signal is always as strong, bluetoothd tells no program again.
        air.radio("unplug_phone")
        air.radio("plug_phone")
        air.until("the rental ended by amibox phone", lambda: tap("finish"))
        air.until("the rental's end", lambda: air.status()["state"] not in RUNNING)
    finally:
        air.radio("unplug_phone")


def test_the_box_ran_through_all_of_it(air: Rig, box_pid: str) -> None:
    assert main_pid(air, "amibox") == box_pid
    assert air.status()["state"] not in RUNNING
    assert air.car("status")["locked"]
