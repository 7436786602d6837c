"""One whole box in this process: start, questions through its socket, a live copy of its store, a clean stop."""

from __future__ import annotations

import asyncio
import json
import os
import socket
import sqlite3
import stat
import threading
from collections import Counter
from collections.abc import Awaitable, Callable
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any, cast

import pytest

from cloud_sync.documents import encode_key_set, encode_reservation_list
from cloud_sync.provisioning import Provisioning
from cloud_sync.wire import Topic
from hw.clock_sources import SystemClock
from hw.interlock import Denied, Interlock
from onboard import cli
from onboard.__main__ import BUILD_S, boot_epoch, build_devices, run
from onboard.box import INBOX_MAX, Box, Devices, NoDoor, Setting
from onboard.config import parse_config
from onboard.control import LINE_MAX, Control, ask
from onboard.core.commands import Action, Actuate, Pattern
from onboard.core.events import LockButtonPressed, Reading, Signal, SignalsReported
from onboard.mail import Identity
from onboard.notify import Notifier
from onboard.reactor import Life
from tests.document_rig import BOX, BOX_V, CAR, CLOUD, KEYS, LIST, ROOT, ROOTS
from tests.phone_rig import CONFIG


@dataclass
class Watcher:
    """A door that only remembers."""

    shown: list[Pattern]

    def actuate(self, command: Actuate) -> None:
        raise RuntimeError(f"{command.action} in a box without a door")

    def show(self, pattern: Pattern) -> None:
        self.shown.append(pattern)


def setting(directory: Path) -> Setting:
    config = parse_config(CONFIG.format(dir=directory), directory / "box.toml")
    identity = Identity(CAR, BOX_V, BOX, ROOTS)
    return Setting(config, identity, SystemClock(), BUILD_S, b"epoch123", "test", key_set=encode_key_set(KEYS, ROOT))


def with_box(directory: Path, play: Callable[[Box], Awaitable[None]]) -> None:
    """Run a box, play against it, and stop it."""

    async def whole() -> None:
        box = Box(setting(directory))
        started = asyncio.Event()
        try:
            await box.open(Devices(Watcher([]), ()))
            running = asyncio.create_task(box.run(Notifier({}), started.set))
            await asyncio.wait_for(started.wait(), 20)
            await asyncio.wait_for(play(box), 30)
            box.stop()
            await asyncio.wait_for(running, 20)
        finally:
            await box.close()

    asyncio.run(whole())


async def question(directory: Path, request: dict[str, Any]) -> dict[str, Any]:
    return await asyncio.to_thread(ask, directory / "box.sock", request)


def test_a_running_box_answers_status_takes_a_list_and_copies_its_store(tmp_path: Path) -> None:
    async def play(box: Box) -> None:
        before = await question(tmp_path, {"command": "status"})
        assert (before["vehicle"], before["state"], before["list_version"]) == (CAR, "available", 0)
        await box.mail.receive(Topic.LIST, encode_reservation_list(LIST, CLOUD, BOX_V.public))
        after = before
        while not after["list_version"]:
            after = await question(tmp_path, {"command": "status"})
        assert after["list_version"] == LIST.version
        answer = await question(tmp_path, {"command": "store_copy", "destination": str(tmp_path / "copy.db")})
        assert answer == {"ok": True}

    with_box(tmp_path, play)
    with sqlite3.connect(tmp_path / "copy.db") as copy:
        kinds = [kind for (kind,) in copy.execute("SELECT kind FROM events ORDER BY seq")]
    copy.close()
    assert len(kinds) == 2, "the boot and the accepted list"
    assert not (tmp_path / "box.sock").exists()
    assert not list((tmp_path / "data").glob("*-wal")), "a clean stop leaves no log"


def test_what_a_box_wrote_is_there_after_a_restart(tmp_path: Path) -> None:
    async def listed(box: Box) -> None:
        await box.mail.receive(Topic.LIST, encode_reservation_list(LIST, CLOUD, BOX_V.public))
        while box.reactor.state.kept.grants.listed is None:  # noqa: ASYNC110 - the code under test fills it
            await asyncio.sleep(0.01)

    async def again(box: Box) -> None:
        assert box.reactor.state.kept.grants.listed == LIST
        assert box.reactor.state.kept.outbox.last_seq == 3, "two boots and one accepted list"

    with_box(tmp_path, listed)
    with_box(tmp_path, again)


def test_the_socket_is_for_the_services_group_only(tmp_path: Path) -> None:
    async def play(_box: Box) -> None:
        assert stat.S_IMODE((tmp_path / "box.sock").stat().st_mode) == 0o660

    with_box(tmp_path, play)


@pytest.mark.parametrize(
    "line",
    [b"\n", b"{}\n", b'{"command": "open_the_door"}\n', b"[1]\n", b"[" * 5000 + b"\n", b"\xff\n", b'{"command": []}\n'],
    ids=["empty", "no-command", "unknown", "list", "deep", "no-text", "odd"],
)
def test_a_bad_request_gets_a_refusal_and_the_next_an_answer(tmp_path: Path, line: bytes) -> None:
    async def play() -> None:
        async def hello(_request: dict[str, Any]) -> dict[str, Any]:
            return {"hello": True}

        control = Control(tmp_path / "s", {"hello": hello})
        await control.start()
        reader, writer = await asyncio.open_unix_connection(tmp_path / "s")
        writer.write(line)
        assert "error" in json.loads(await asyncio.wait_for(reader.readline(), 5))
        assert control.counts["request_refused"] == 1
        writer.write(b'{"command": "hello"}\n')
        assert json.loads(await asyncio.wait_for(reader.readline(), 5)) == {"hello": True}
        writer.close()
        await control.stop()

    asyncio.run(play())


def test_an_endless_line_is_cut_off(tmp_path: Path) -> None:
    async def play() -> None:
        control = Control(tmp_path / "s", {})
        await control.start()
        reader, writer = await asyncio.open_unix_connection(tmp_path / "s")
        writer.write(b"x" * (3 * LINE_MAX))
        assert await asyncio.wait_for(reader.read(), 5) == b""
        assert control.counts["client_dropped"] == 1
        writer.close()
        await control.stop()

    asyncio.run(play())


def test_nobody_home_is_said_with_the_remedy(tmp_path: Path) -> None:
    with pytest.raises(ConnectionError, match="systemctl status amibox"):
        ask(tmp_path / "nothing", {"command": "status"})


def test_a_box_without_a_door_moves_nothing_and_says_why() -> None:
    with pytest.raises(RuntimeError, match=r"no door is configured.*\[door\]"):
        NoDoor().actuate(Actuate(1, Action.UNLOCK))
    NoDoor().show(Pattern.GRANTED)


def test_a_boot_has_one_name_and_says_nothing_of_its_source() -> None:
    assert boot_epoch() == boot_epoch()
    assert len(boot_epoch()) == 8


def commands() -> cli.Commands:
    from hw import desk, inspect_can, inspect_nmea  # noqa: PLC0415 - only the root knows them; here the test plays root

    return cli.Commands(run=run, check=run, inspect_can=inspect_can, inspect_nmea=inspect_nmea, desk=desk)


@pytest.mark.parametrize(
    "words",
    [
        ["--help"],
        ["run", "--help"],
        ["status", "--help"],
        ["inspect", "can", "--help"],
        ["inspect", "nmea", "--help"],
        ["decode", "--help"],
        ["store", "copy", "--help"],
    ],
)
def test_every_command_has_a_help_text(words: list[str], capsys: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(SystemExit) as end:
        cli.main(commands(), words)
    assert end.value.code == 0
    assert "usage: amibox" in capsys.readouterr().out


def test_a_wrong_command_is_exit_code_2(capsys: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(SystemExit) as end:
        cli.main(commands(), ["fly"])
    assert end.value.code == 2
    assert "invalid choice" in capsys.readouterr().err


def test_run_with_a_wrong_configuration_names_file_line_and_remedy(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    file = tmp_path / "box.toml"
    file.write_text('[car]\nmodel = "ami"\ncolour = "blue"\n')
    assert cli.main(commands(), ["run", "--config", str(file)]) == 2
    said = capsys.readouterr().err
    assert "box.toml" in said
    assert "3" in said
    assert "colour" in said


def test_run_without_provisioning_stops_with_the_remedy(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    file = tmp_path / "box.toml"
    file.write_text(CONFIG.format(dir=tmp_path))
    assert cli.main(commands(), ["run", "--config", str(file)]) == 1
    assert "amibox provision request" in caplog.text


def test_status_of_a_running_box_on_one_screen(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    codes: list[int] = []

    async def play(_box: Box) -> None:
        arguments = ["status", "--socket", str(tmp_path / "box.sock")]
        codes.append(await asyncio.to_thread(cli.main, commands(), arguments))
        codes.append(await asyncio.to_thread(cli.main, commands(), [*arguments, "--json"]))

    with_box(tmp_path, play)
    said = capsys.readouterr().out
    assert codes == [0, 0]
    assert "no faults" in said
    assert '"vehicle": "hede-1"' in said
    assert cli.main(commands(), ["status", "--socket", str(tmp_path / "box.sock")]) == 1


def test_the_environment_of_a_child_says_nothing_of_the_service(tmp_path: Path) -> None:
    path = tmp_path / "notify"
    with socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM) as manager:
        manager.bind(str(path))
        environment = dict(os.environ) | {"NOTIFY_SOCKET": str(path)}
        Notifier(environment).ready("x")
        assert "NOTIFY_SOCKET" not in environment
        assert manager.recv(200).startswith(b"READY=1")


class Manager(Notifier):
    """A service manager's ear that counts how often the watchdog was fed."""

    def __init__(self) -> None:
        super().__init__({})
        self.fed = 0

    def alive(self) -> None:
        self.fed += 1


class Silent:
    """A worker that hangs once it is told to."""

    def __init__(self) -> None:
        self.name = "gps"
        self.counts: Counter[str] = Counter()
        self.hangs = threading.Event()

    def run(self, life: Life) -> None:
        while not life.stop.wait(0.01):
            if not self.hangs.is_set():
                life.beat()


@pytest.mark.parametrize("part", ["gps", "reactor"])
def test_the_watchdog_goes_hungry_when_a_worker_or_the_disk_hangs(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, part: str
) -> None:
    monkeypatch.setattr("onboard.box.WATCH_EVERY_S", 0.05)
    monkeypatch.setattr("onboard.reactor.BEAT_MAX_S", 0.5)
    monkeypatch.setattr("onboard.reactor.STEP_MAX_S", 0.5)
    box, manager, worker, disk = Box(setting(tmp_path)), Manager(), Silent(), threading.Event()

    async def whole() -> None:
        try:
            reactor = await box.open(Devices(Watcher([]), (worker,)))
            running = asyncio.create_task(box.run(manager))
            while manager.fed < 3:  # noqa: ASYNC110 - the code under test counts it
                await asyncio.sleep(0.01)
            if part == "gps":
                worker.hangs.set()
            else:
                monkeypatch.setattr(box.store.store, "commit", lambda *_: disk.wait(20))
                reactor.post(LockButtonPressed())
            while part not in (await box._status({}))["not_alive"]:  # noqa: ASYNC110 - as above
                await asyncio.sleep(0.01)
            fed = manager.fed
            await asyncio.sleep(0.5)
            assert manager.fed <= fed + 1
            running.cancel()
            disk.set()
            await asyncio.gather(running, return_exceptions=True)
        finally:
            disk.set()
            await box.close()

    asyncio.run(asyncio.wait_for(whole(), 30))


def test_a_flood_of_refused_documents_leaves_the_door_its_turn(tmp_path: Path) -> None:
    async def play(box: Box) -> None:
        bad = encode_reservation_list(replace(LIST, vehicle="other-1"), CLOUD, BOX_V.public)
        turns = 0

        async def other() -> None:
            nonlocal turns
            while box.mail.counts.total() < INBOX_MAX:
                turns += 1
                await asyncio.sleep(0)

        for _ in range(INBOX_MAX):
            box._came(Topic.LIST, bad)
        await other()
        assert turns >= INBOX_MAX

    with_box(tmp_path, play)


def test_the_configured_walking_pace_reaches_the_interlock(tmp_path: Path) -> None:
    config = parse_config(CONFIG.format(dir=tmp_path) + "[policy]\ninterlock_mps = 0.5\n", tmp_path / "box.toml")
    given = Provisioning(CAR, BOX_V, BOX, ROOTS, bytes(32), encode_key_set(KEYS, ROOT))
    _, devices = build_devices(config, given, SystemClock(), None, BUILD_S)
    (note,) = devices.observers
    interlock = cast("Interlock", note.__self__)  # type: ignore[attr-defined]  # a bound method
    note(SignalsReported(((Signal.SPEED, Reading(1.0, 100.0, 3.0)),)))
    assert interlock.permit(Action.UNLOCK, 100.5, 0.3) is Denied.MOVING


def test_the_kept_version_floor_of_provisioning_refuses_an_older_list(tmp_path: Path) -> None:
    async def whole() -> None:
        box = Box(replace(setting(tmp_path), list_floor=LIST.version + 1))
        try:
            reactor = await box.open(Devices(Watcher([]), ()))
            await box.mail.receive(Topic.LIST, encode_reservation_list(LIST, CLOUD, BOX_V.public))
            await reactor.handle(reactor._queue.popleft())
            assert reactor.state.kept.grants.listed is None
        finally:
            await box.close()

    asyncio.run(whole())


def test_a_disk_that_was_emptied_is_seen_without_a_record_and_costs_the_watchdog_nothing(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A parked car writes nothing. While the store's thread is busy (a copy), the watchdog is fed all the same."""
    monkeypatch.setattr("onboard.box.WATCH_EVERY_S", 0.02)
    monkeypatch.setattr("onboard.box.LOOK_EVERY_S", 0.02)
    box, manager, busy = Box(setting(tmp_path)), Manager(), threading.Event()

    async def whole() -> None:
        try:
            await box.open(Devices(Watcher([]), ()))
            store = box.store.store
            await box.store._do(lambda: store._live_on_reserve(yes=True))
            looked = store.look_for_room
            there_is_room = threading.Event()
            monkeypatch.setattr(
                store, "look_for_room", lambda boot_s: there_is_room.is_set() and busy.wait(20) and looked(boot_s)
            )
            running = asyncio.create_task(box.run(manager))
            while "disk" not in (await box._status({}))["faults"]:  # noqa: ASYNC110 - the code under test changes it
                await asyncio.sleep(0.01)
            there_is_room.set()
            fed = manager.fed
            while manager.fed < fed + 5:  # noqa: ASYNC110 - as above
                await asyncio.sleep(0.01)
            busy.set()
            while "disk" in (await box._status({}))["faults"]:  # noqa: ASYNC110 - as above
                await asyncio.sleep(0.01)
            running.cancel()
            await asyncio.gather(running, return_exceptions=True)
        finally:
            busy.set()
            await box.close()

    asyncio.run(asyncio.wait_for(whole(), 20))
