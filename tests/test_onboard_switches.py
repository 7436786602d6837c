"""What the core wants switched, done: loads, the end of the box, and then the machine's."""

from __future__ import annotations

import asyncio
import os
import signal
import sqlite3
from collections import Counter
from collections.abc import Callable
from contextlib import closing
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
from gpiozero.pins.mock import MockFactory

from cloud_sync.documents import encode_key_set
from cloud_sync.provisioning import Provisioning
from hw.clock_sources import SystemClock
from hw.supply import ask_off, modem_switch
from onboard import __main__ as root
from onboard.box import Devices, NoDoor
from onboard.config import Config, parse_config
from onboard.core.commands import Loads, PowerOff, ReaderPace, SetLoads
from onboard.core.events import Event, FaultReported, SupplyReported
from onboard.notify import Notifier
from onboard.reactor import Life
from onboard.switches import Switches
from tests.document_rig import BOX, BOX_V, CAR, KEYS, ROOT, ROOTS
from tests.phone_rig import CONFIG

SAVED = Loads(ReaderPace.SLOW, gnss=False, modem=False)


class Bench:
    """Switches on a bench."""

    def __init__(self, *loads: Callable[[Loads], None], ask: Callable[[float], None] | None = None) -> None:
        self.posted: list[Event] = []
        self.stopped = 0
        self.switches = Switches(loads, ask, self._stop, self.posted.append)

    def _stop(self) -> None:
        self.stopped += 1


def broken(_loads: Loads) -> None:
    raise RuntimeError("GPIO busy")


def test_every_load_hears_what_is_to_be_on_though_one_of_them_fails() -> None:
    heard: list[Loads] = []
    bench = Bench(heard.append, broken, heard.append)
    bench.switches.perform(SetLoads(SAVED))
    assert heard == [SAVED, SAVED]
    assert bench.posted == [FaultReported("loads", active=True, detail="GPIO busy")]


def test_a_load_that_obeys_again_is_no_fault_any_more() -> None:
    well = False

    def now_and_then(_loads: Loads) -> None:
        if not well:
            raise RuntimeError

    bench = Bench(now_and_then)
    bench.switches.perform(SetLoads(SAVED))
    well = True
    bench.switches.perform(SetLoads(Loads()))
    bench.switches.perform(SetLoads(SAVED))
    assert bench.posted == [
        FaultReported("loads", active=True, detail="RuntimeError"),
        FaultReported("loads", active=False),
    ]


def test_the_box_ends_first_and_asks_for_the_machines_end_afterwards(tmp_path: Path) -> None:
    file = tmp_path / "power-off"
    bench = Bench(ask=ask_off(file))
    bench.switches.ended()
    assert not file.exists(), "an ordinary end asks for nothing"
    bench.switches.perform(PowerOff(3599.6))
    assert bench.stopped == 1
    assert not file.exists(), "not while anything is open"
    bench.switches.ended()
    assert file.read_text() == "3600\n"
    assert [each.name for each in tmp_path.iterdir()] == ["power-off"]


def test_where_nobody_can_be_asked_the_box_goes_on_and_says_so() -> None:
    bench = Bench()
    bench.switches.perform(PowerOff(3600.0))
    bench.switches.ended()
    assert bench.stopped == 0
    [fault] = bench.posted
    assert isinstance(fault, FaultReported)
    assert (fault.part, fault.active) == ("power_off", True)


def test_a_file_that_can_not_be_written_is_told(tmp_path: Path) -> None:
    bench = Bench(ask=ask_off(tmp_path / "nowhere" / "power-off"))
    bench.switches.perform(PowerOff(60.0))
    with pytest.raises(OSError, match="nowhere"):
        bench.switches.ended()


def test_a_switch_is_high_for_on_and_untouched_until_it_is_needed() -> None:
    pins = MockFactory()
    modem = modem_switch(24, pins)
    assert pins.pin(24).function == "input", "its pull-up keeps it on"
    modem(SAVED)
    assert pins.pin(24).function == "output"
    assert pins.pin(24).state == 0
    modem(Loads())
    assert pins.pin(24).state == 1


def box_config(folder: Path) -> Config:
    """Return a box's configuration whose battery decides at once."""
    config = parse_config(CONFIG.format(dir=folder), folder / "box.toml")
    return replace(config, policy=replace(config.policy, supply_hold_s=0.0, supply_awake_s=0.0))


class Flat:
    """A battery at its end, measured all the time."""

    def __init__(self) -> None:
        self.name = "supply"
        self.counts: Counter[str] = Counter()

    def run(self, life: Life) -> None:
        while not life.stop.is_set():
            life.beat()
            life.emit(SupplyReported(11.0, SystemClock().boot_s()))
            life.stop.wait(0.02)


@pytest.mark.parametrize("obeyed", [True, False])
def test_a_flat_battery_ends_the_box_and_then_the_machine(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, obeyed: bool
) -> None:
    """Asked for last: the store is closed. A machine that runs on has its box started again, and told."""
    asked: list[float] = []

    def ask(wake_in_s: float) -> None:
        asked.append(wake_in_s)
        with closing(sqlite3.connect(config.box.data_dir / "store.db", timeout=0)) as store:
            kinds = [kind for (kind,) in store.execute("SELECT kind FROM events")]
        assert "supply" in kinds, "written down, and nobody holds the file any more"
        if obeyed:
            os.kill(os.getpid(), signal.SIGTERM)

    def devices(config: Config, *_: Any) -> tuple[Config, Devices]:
        return config, Devices(NoDoor(), (Flat(),), ask_off=ask)

    config = box_config(tmp_path)
    given = Provisioning(CAR, BOX_V, BOX, ROOTS, bytes(32), encode_key_set(KEYS, ROOT))
    monkeypatch.setattr(root, "load_provisioning", lambda _file: given)
    monkeypatch.setattr(root, "build_devices", devices)
    monkeypatch.setattr(root, "OFF_WITHIN_S", 10.0 if obeyed else 0.1)
    serving = root.serve(config, SystemClock(), None, Notifier({}))
    if obeyed:
        asyncio.run(serving)
    else:
        with pytest.raises(OSError, match="runs on"):
            asyncio.run(serving)
    assert asked == [config.policy.supply_check_s]
