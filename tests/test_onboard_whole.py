"""The whole box where something goes wrong around it: a failed commit, a full disk, floods, two daemons, SIGTERM."""

from __future__ import annotations

import asyncio
import os
import signal
import subprocess
import sys
import time
from dataclasses import replace
from pathlib import Path

import pytest

from cloud_sync.documents import encode_key_set, encode_reservation_list
from cloud_sync.wire import Topic
from onboard.box import INBOX_MAX, Box, Devices
from onboard.control import CLIENTS_MAX, Control, ask
from onboard.core.commands import Pattern
from onboard.core.events import LockButtonPressed
from onboard.notify import Notifier
from onboard.store import StoreFailed
from sim import boxes
from tests.cloud_rig import NOW_S, make_cloud
from tests.document_rig import BOX_V, CAR, CLOUD, KEYS, LIST, ROOT
from tests.phone_rig import CONFIG
from tests.test_onboard_box import Watcher, setting, with_box

LIMIT_S = 30.0


def test_a_failed_commit_ends_the_box_with_its_reason(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    box, shown = Box(setting(tmp_path)), list[Pattern]()

    async def whole() -> None:
        try:
            reactor = await box.open(Devices(Watcher(shown), ()))

            def commit(*_: object) -> None:
                raise StoreFailed("fsync said no")

            monkeypatch.setattr(box.store.store, "commit", commit)
            reactor.post(LockButtonPressed())
            await asyncio.wait_for(box.run(Notifier({})), LIMIT_S)
        finally:
            await box.close()

    with pytest.raises(StoreFailed, match="fsync said no"):
        asyncio.run(whole())
    assert shown == [Pattern.OUT_OF_ORDER]


def test_a_full_disk_is_a_fault_that_everybody_sees_and_that_goes(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("onboard.box.WATCH_EVERY_S", 0.02)

    async def play(box: Box) -> None:
        monkeypatch.setattr(box.store.store, "on_reserve", True)
        while "disk" not in (await box._status({}))["faults"]:  # noqa: ASYNC110 - the code under test sets it
            await asyncio.sleep(0.01)
        monkeypatch.setattr(box.store.store, "on_reserve", False)
        while "disk" in (await box._status({}))["faults"]:  # noqa: ASYNC110 - as above
            await asyncio.sleep(0.01)

    with_box(tmp_path, play)


def test_documents_that_wait_are_bounded_and_the_rest_counted(tmp_path: Path) -> None:
    box = Box(setting(tmp_path))
    for _ in range(INBOX_MAX + 3):
        box._came(Topic.LIST, b"x")
    assert len(box._inbox) == INBOX_MAX
    assert box._counts["inbox_full"] == 3


def test_a_newer_key_set_is_there_after_a_restart_and_an_older_one_stays_refused(tmp_path: Path) -> None:
    async def newer(box: Box) -> None:
        await box.mail.receive(Topic.KEYS, encode_key_set(replace(KEYS, version=KEYS.version + 2), ROOT))

    async def again(box: Box) -> None:
        assert box.mail.key_set is not None
        assert box.mail.key_set.version == KEYS.version + 2
        await box.mail.receive(Topic.LIST, encode_reservation_list(LIST, CLOUD, BOX_V.public))
        assert not box.mail.counts.total()

    async def without(box: Box) -> None:
        assert box.mail.key_set is None, "the provisioned one is older than what was known once"
        await box.mail.receive(Topic.KEYS, encode_key_set(replace(KEYS, version=KEYS.version + 1), ROOT))
        assert box.mail.counts["keys:version_too_low"] == 1

    with_box(tmp_path, newer)
    with_box(tmp_path, again)
    body = (tmp_path / "data" / "keys.json").read_bytes()
    (tmp_path / "data" / "keys.json").write_bytes(body.replace(b'"document": "', b'"document": "x'))
    with_box(tmp_path, without)


def test_the_local_socket_serves_few_and_waits_for_nobody(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("onboard.control.IDLE_S", 0.5)

    async def play() -> None:
        control = Control(tmp_path / "s", {})
        await control.start()
        links = [await asyncio.open_unix_connection(tmp_path / "s") for _ in range(CLIENTS_MAX + 1)]
        last, _ = links[-1]
        assert await asyncio.wait_for(last.read(), 0.4) == b"", "one too many"
        for reader, _ in links[:-1]:
            assert await asyncio.wait_for(reader.read(), LIMIT_S) == b"", "silent for too long"
        assert control.counts["client_dropped"] == CLIENTS_MAX
        for _, writer in links:
            writer.close()
        await control.stop()

    asyncio.run(play())


def daemon(file: Path) -> subprocess.Popen[str]:
    command = [sys.executable, "-m", "onboard.__main__", "run", "--config", str(file)]
    environment = {name: value for name, value in os.environ.items() if name != "NOTIFY_SOCKET"}
    return subprocess.Popen(command, stderr=subprocess.PIPE, text=True, env=environment)


def test_a_second_daemon_gives_way_with_a_remedy_and_sigterm_ends_the_first_cleanly(tmp_path: Path) -> None:
    file = tmp_path / "box.toml"
    file.write_text(CONFIG.format(dir=tmp_path))
    boxes.give(make_cloud(tmp_path / "cloud").authority, CAR, tmp_path, NOW_S)
    first = daemon(file)
    try:
        until_s = time.monotonic() + LIMIT_S
        while not (tmp_path / "box.sock").exists():
            assert first.poll() is None
            assert time.monotonic() < until_s
            time.sleep(0.05)
        second = daemon(file)
        said = second.communicate(timeout=LIMIT_S)[1]
        assert second.returncode == 1
        assert "another process has the database open" in said
        assert ask(tmp_path / "box.sock", {"command": "status"})["vehicle"] == CAR
        first.send_signal(signal.SIGTERM)
        first.communicate(timeout=LIMIT_S)
        assert first.returncode == 0
        assert not list((tmp_path / "data").glob("*-wal"))
        assert not (tmp_path / "box.sock").exists()
    finally:
        first.kill()
        first.communicate()
