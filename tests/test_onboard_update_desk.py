"""A running box and its updates over its socket: how it is, whether it may be away, a bundle, and its timer."""

from __future__ import annotations

import asyncio
import signal
from collections.abc import Awaitable, Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from hw import desk, inspect_can, inspect_nmea
from onboard import cli, launch, slots
from onboard.__main__ import check, run
from onboard.box import Box, Devices
from onboard.control import ask
from onboard.core.events import SupplyReported
from onboard.inbox import BUNDLE, KEYS, ROOTS
from onboard.notify import Notifier
from onboard.slots import Slots, Verdict
from tests.document_rig import ROOTS as PINNED
from tests.test_onboard_box import Watcher, setting
from tests.update_rig import bundle

ID = "ab" * 32


def with_box(directory: Path, play: Callable[[Box], Awaitable[None]], *, takes: bool = True) -> bool:
    """Run a box that takes updates, and play against it; return whether it ended by itself."""
    folders = directory / "inbox", directory / "slots"
    for folder in folders:
        folder.mkdir(exist_ok=True)

    async def whole() -> bool:
        box = Box(replace(setting(directory), updates=folders if takes else None))
        started = asyncio.Event()
        try:
            await box.open(Devices(Watcher([]), ()))
            running = asyncio.create_task(box.run(Notifier({}), started.set))
            await asyncio.wait_for(started.wait(), 20)
            await asyncio.wait_for(play(box), 30)
            by_itself, _ = await asyncio.wait([running], timeout=2)
            box.stop()
            await asyncio.wait_for(running, 20)
            return bool(by_itself)
        finally:
            await box.close()

    return asyncio.run(whole())


async def question(directory: Path, **request: Any) -> dict[str, Any]:
    return await asyncio.to_thread(ask, directory / "box.sock", request)


def test_a_box_says_how_it_is_and_stops_when_it_may_be_away(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv(launch.SLOT, ID)

    async def play(_box: Box) -> None:
        said = await question(tmp_path, command="update")
        assert said["up_s"] >= 0
        del said["up_s"]
        assert said == {
            "software": "test",
            "id": ID,
            "not_alive": [],
            "faults": [],
            "obstacle": "",
            "progress": None,
        }
        assert await question(tmp_path, command="update_stop") == {"stopping": True}

    assert with_box(tmp_path, play)


def test_it_does_not_stop_while_it_may_not_be_away(tmp_path: Path) -> None:
    async def play(box: Box) -> None:
        box.reactor.post(SupplyReported(11.9, box.reactor.state.at.boot_s))
        while (await question(tmp_path, command="update"))["obstacle"] != "battery":  # noqa: ASYNC110 - it is another's
            await asyncio.sleep(0.01)
        assert await question(tmp_path, command="update_stop") == {"stopping": False, "obstacle": "battery"}

    assert not with_box(tmp_path, play)


def test_it_tells_the_updater_whom_it_believes(tmp_path: Path) -> None:
    async def play(box: Box) -> None:
        assert (tmp_path / "inbox" / ROOTS).read_text().split() == [root.hex() for root in PINNED]
        assert (tmp_path / "inbox" / KEYS).read_bytes() == box._setting.key_set

    with_box(tmp_path, play)


def test_a_version_that_stays_stops_its_timer_and_another_one_does_not(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv(launch.SLOT, ID)
    signal.setitimer(signal.ITIMER_REAL, 500.0)
    try:

        async def play(_box: Box) -> None:
            assert "error" in await question(tmp_path, command="update_kept", id="cd" * 32)
            assert signal.getitimer(signal.ITIMER_REAL)[0] > 0
            assert await question(tmp_path, command="update_kept", id=ID) == {"ok": True}
            assert signal.getitimer(signal.ITIMER_REAL)[0] == 0

        with_box(tmp_path, play)
    finally:
        signal.setitimer(signal.ITIMER_REAL, 0.0)


def amibox(directory: Path, *arguments: str) -> int:
    commands = cli.Commands(run=run, check=check, inspect_can=inspect_can, inspect_nmea=inspect_nmea, desk=desk)
    return cli.main(commands, ["update", "--socket", str(directory / "box.sock"), *arguments])


def test_a_technician_sends_a_file_and_sees_what_became_of_it(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    data = bundle("0.2.0", 200_000)
    (tmp_path / "new").write_bytes(data)

    async def play(_box: Box) -> None:
        assert await asyncio.to_thread(amibox, tmp_path) == 0
        assert "update    none" in capsys.readouterr().out
        assert await asyncio.to_thread(amibox, tmp_path, str(tmp_path / "new")) == 0
        assert (tmp_path / "inbox" / BUNDLE).read_bytes() == data
        assert "is in the box" in capsys.readouterr().out
        assert await asyncio.to_thread(amibox, tmp_path) == 0
        shown = capsys.readouterr().out
        assert "version   test, the package's own" in shown
        assert "update    complete" in shown
        assert "may be away now: yes" in shown
        (tmp_path / "inbox" / BUNDLE).unlink()
        slots.write(tmp_path / "slots", Slots(verdict=Verdict(ID, "refused: went back", True)))
        assert await asyncio.to_thread(amibox, tmp_path) == 0
        assert "refused: went back" in capsys.readouterr().out

    with_box(tmp_path, play)


@pytest.mark.parametrize(
    "wrong",
    [
        {"total": "1", "offset": 0, "digest": ID, "data": ""},
        {"total": 1, "offset": None, "digest": ID, "data": ""},
        {"total": 1, "offset": 0, "digest": "xy", "data": ""},
        {"total": 1, "offset": 0, "digest": ID, "data": "%"},
        {"total": 0, "offset": 0, "digest": ID, "data": ""},
        {},
    ],
)
def test_a_part_that_is_none_is_refused_in_words(tmp_path: Path, wrong: dict[str, Any]) -> None:
    async def play(_box: Box) -> None:
        assert (await question(tmp_path, command="update_chunk", **wrong))["error"]

    with_box(tmp_path, play)
    assert not (tmp_path / "inbox" / "console").exists()


def test_a_box_that_no_launcher_started_takes_no_update(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    (tmp_path / "new").write_bytes(bundle("0.2.0"))

    async def play(_box: Box) -> None:
        assert await asyncio.to_thread(amibox, tmp_path, str(tmp_path / "new")) == 1
        assert "not started by amibox-run" in capsys.readouterr().err
        assert (await question(tmp_path, command="update"))["progress"] is None

    with_box(tmp_path, play, takes=False)


def test_without_a_daemon_or_with_a_file_that_is_no_bundle_it_says_so(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    assert amibox(tmp_path) == 1
    assert "no daemon answers" in capsys.readouterr().err
    (tmp_path / "large").write_bytes(bytes(9_000_000))
    assert amibox(tmp_path, str(tmp_path / "large")) == 1
    assert "a bundle has 1 to" in capsys.readouterr().err
