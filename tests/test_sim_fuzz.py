"""Every door for bytes, at a sample of what the long runs look at (``sim.fuzz``), and that a harness can fail."""

from __future__ import annotations

import importlib.util
import json
import re
import subprocess
import time
from contextlib import ExitStack
from pathlib import Path
from typing import Any

import pytest

from cloud_sync.documents import boxes, cbor, cose, down, schema
from cloud_sync.documents.conversation import Channel
from cloud_sync.documents.kinds import DocumentType
from cloud_sync.endpoint import grants, key_rotation
from hw import can_bus, desfire, nmea, pn532
from hw.can_signals import SignalDecoder
from hw.pcsc import Pcsc
from hw.taps import Target
from onboard import config_reader, mail
from onboard.console.editor import Editor
from onboard.control import Control
from sim import phone_wallet
from sim.fuzz import run as long_run
from sim.fuzz.door import Door, Harness, opened, place_of, worst_s
from sim.fuzz.doors import ALL
from sim.fuzz.feed import Feed, cbor_key, changed
from sim.fuzz.mutate import mutations
from sim.fuzz.world import payloads

SEED = 6
COUNT, COUNT_SLOW = 300, 60
"""Mutations at each door; fewer where an input is a database's work."""
SLOW = {"ingest", "http"}

ENDLESS = b'{"vehicle": "hede-1", "down": [], "up": [], "heard": "", "last": ["", 1e999]}'
FOUND = {
    "bag: the number of a row without end": ("bag", b"\0" + ENDLESS),
    "bag: nested too deep": ("bag", bytes((0,)) + b"[" * 1200),
    "wallet: nested too deep": ("wallet", bytes((0,)) + b"[" * 1200),
    "config: arrays nested too deep": ("config", b"a = " + b"[" * 1200),
    "config: tables nested too deep": ("config", b"a = " + b"{b = " * 1200),
    "config: a number of 5000 digits": ("config", b"a = " + b"9" * 5000),
    "http: no number in a wrong body": ("http", bytes((0, 13, 0, 16)) + b'{"vehicle": NaN}'),
    "http: no end in a wrong body": ("http", bytes((12, 13, 0, 21)) + b'{"vehicle": Infinity}'),
    "http: half a character in a wrong body": ("http", bytes((0, 13, 0, 21)) + b'{"vehicle": "\\ud800"}'),
    "http: half a character as a key": ("http", bytes((0, 13, 0, 13)) + b'{"\\ud800": 1}'),
}  # fmt: skip
"""Every input that crashed once, by what it is."""


@pytest.fixture(autouse=True)
def honest_first() -> None:
    """What is honest is made once and kept: not by a parser with a mistake in it."""
    payloads()


def sample(door: Door) -> list[bytes]:
    seeds = list(door.seeds())
    return [*seeds, *mutations(seeds, COUNT_SLOW if door.name in SLOW else COUNT, SEED, door.bytes_max)]


def crashes(door: Door) -> list[str]:
    """Return what a sample finds at a door, each with the line that replays it."""
    found = []
    with opened(door) as harness:
        for data in sample(door):
            try:
                took_s = worst_s(harness, data, door.worst_s)
            except Exception as error:  # noqa: BLE001 - whatever a door lets through is what is looked for
                found.append(f"{place_of(error)}: {error!r}: python -m sim fuzz {door.name} --replay {data.hex()}")
                continue
            if took_s > door.worst_s:
                found.append(f"{took_s:.3f} s: python -m sim fuzz {door.name} --replay {data.hex()}")
    return found


@pytest.mark.parametrize("name", ALL)
def test_a_door_takes_or_refuses_every_input_of_the_sample_and_in_time(name: str) -> None:
    assert not crashes(ALL[name])


@pytest.mark.parametrize("what", FOUND)
def test_what_crashed_once_is_taken_or_refused(what: str) -> None:
    name, data = FOUND[what]
    with opened(ALL[name]) as harness:
        harness(data)


async def answer_unguarded(self: Any, line: bytes, **_trusted: bool) -> Any:
    request = json.loads(line)
    return await self._handlers[request["command"]](request)


PLANTED: dict[str, tuple[Any, str, Any]] = {
    "ble": (Channel, "open", lambda self, header, sealed: self._open.decrypt(bytes(12), sealed, self._hello + header)),
    "cbor": (cbor, "_head", lambda data, at: (data[at] >> 5, data[at] & 31, at + 1)),
    "documents": (schema, "octets", lambda value, _where, *lengths: value[: max(lengths)]),
    "records": (schema.Fields, "need", lambda self, key, name, read, *more: read(self._left.pop(key), name, *more)),
    "can": (
        SignalDecoder,
        "_sample",
        lambda self, rule, raw, at_s: self._believe(rule, self._tracks[rule.key], -raw, at_s),
    ),
    "slcan": (can_bus, "_GARBLED", ()),
    "nmea": (nmea, "_HEX", re.compile(rb".*")),
    "pn532": (pn532, "_parse_target", lambda said: (Target(said[5 : 5 + said[4]], said[3], b""), b"")),
    "pcsc": (Pcsc, "_find", lambda self: self._opened().SCardListReaders(None, [])[1][0]),
    "desfire": (desfire, "_expect", lambda answer, *_: answer[:-2]),
    "mqtt": (mail, "document_type", lambda document: DocumentType(document[0])),
    "ingest": (schema, "number", lambda value, *_: value + 0.0),
    "console": (Control, "_answer", answer_unguarded),
    "typed": (Editor, "_insert", lambda self, letter: self._say(letter)),
    "config": (config_reader, "find_line", lambda lines, key: lines[key]),
    "provisioning": (boxes, "_read_root", lambda value, _where: value[:32]),
    "wallet": (phone_wallet, "_point", lambda text: text.encode()),
    "bag": (phone_wallet, "_write_private", lambda path, values: path.write_text(json.dumps({**values, "up": []}))),
    "keys": (
        key_rotation,
        "decode_key_set",
        lambda document, _roots: down.read_key_set(
            cbor.loads(cose.open_document(document, DocumentType.KEY_SET).payload)
        ),
    ),
    "http": (grants, "booking_id", bytes.fromhex),
}
"""A mistake in each door's parser: a check left out, or what was taken kept otherwise."""


@pytest.mark.parametrize("name", ALL)
def test_a_mistake_in_a_parser_is_found(name: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(*PLANTED[name])
    found = crashes(ALL[name])
    assert found
    assert f"python -m sim fuzz {name} --replay " in found[0]


def busy(_folder: Path, _ending: ExitStack) -> Harness:
    def run(data: bytes) -> None:
        until_s = time.process_time() + (0.02 if data == b"slow" else 0)
        while time.process_time() < until_s:
            pass

    return run


def test_an_input_that_takes_too_long_is_found() -> None:
    door = Door("busy", "", busy, lambda: [b"slow"], worst_s=0.01)
    found = [line for line in crashes(door) if line.endswith(b"slow".hex())]
    assert found
    assert "s: python -m sim fuzz busy --replay" in found[0]


def test_the_sample_is_the_same_each_time() -> None:
    seeds = [b"abc", b"\0" * 40]
    first, again = (list(mutations(seeds, 200, SEED, 30)) for _ in range(2))
    assert first == again
    assert len(set(first)) > 150
    assert max(map(len, first)) <= 30
    assert first != list(mutations(seeds, 200, SEED + 1, 30))


def test_a_tree_is_changed_by_the_feed_alone_and_the_old_one_stays() -> None:
    tree = {1: [1, 2.0, "x"], 2: {3: b"abc"}}
    kept = json.dumps(tree, default=bytes.hex)
    chosen = [bytes((how, place, step, 1, 7, 3)) for how in range(5) for place in range(6) for step in range(8)]
    changes = [repr(changed(tree, Feed(data), keys=cbor_key)) for data in chosen]
    assert json.dumps(tree, default=bytes.hex) == kept
    assert changes == [repr(changed(tree, Feed(data), keys=cbor_key)) for data in chosen]
    assert len(set(changes)) > 20


def test_an_input_is_replayed_from_hexadecimal_and_from_a_file(
    tmp_path: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    assert long_run.main(["cbor", "--replay", "a1"]) == 0
    assert "refused as documented" in capsys.readouterr().out
    monkeypatch.setattr(*PLANTED["cbor"])
    (tmp_path / "input").write_bytes(b"\xa1")
    assert long_run.main(["cbor", "--replay", str(tmp_path / "input")]) == 1
    assert "IndexError" in capsys.readouterr().out


def test_a_long_run_without_the_fuzzers_says_how_to_get_them(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setattr(importlib.util, "find_spec", lambda _name: None)
    assert long_run.main(["nmea"]) == 1
    assert "make fuzz" in capsys.readouterr().err


class FakeFuzzer:
    """Stands for the guided process: leaves what that one leaves."""

    def __init__(self, command: list[str], **_: object) -> None:
        folder = Path(command[4])
        (folder / "crashes" / "wrong").write_bytes(b"\xa1")
        (folder / "slow" / "one").write_bytes(b"\xa0")
        figures = {"executions": 1000, "seconds": 2.0, "crashes": {}}
        (folder / long_run.FIGURES).write_text(json.dumps(figures))

    def wait(self) -> int:
        return 0

    def poll(self) -> int:
        return 0


def test_long_runs_add_up_and_a_crash_is_told_until_it_is_mended(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setattr(importlib.util, "find_spec", lambda _name: True)
    monkeypatch.setattr(subprocess, "Popen", FakeFuzzer)
    with monkeypatch.context() as planted:
        planted.setattr(*PLANTED["cbor"])
        assert long_run.main(["cbor", "--folder", str(tmp_path)]) == 1
    said = capsys.readouterr().out
    assert "1,000 executions, 500 a second" in said
    assert f"python -m sim fuzz cbor --replay {tmp_path}/cbor/crashes/wrong" in said
    assert long_run.main(["cbor", "--folder", str(tmp_path)]) == 0
    assert "In all 2,000, 99,998,000 short of 100,000,000" in capsys.readouterr().out
    assert json.loads((tmp_path / long_run.TOTALS).read_text())["cbor"]["executions"] == 2000
    assert not list((tmp_path / "cbor" / "crashes").iterdir())
