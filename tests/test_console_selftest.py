"""The walk through the fitting, and its protocol: signed, and honest about what failed."""

from __future__ import annotations

import argparse
from collections import deque
from pathlib import Path
from typing import Any

import pytest

from cloud_sync.provisioning import Provisioning
from onboard.config import BoxConfig
from onboard.console import acceptance, selftest
from onboard.console.acceptance import Finding, accepted, compose, verify
from onboard.console.daemon import Daemon, Silent
from onboard.console.place import Place
from onboard.console.session import Session
from tests.console_rig import MARIE
from tests.document_rig import BOX, BOX_V, CAR, ROOTS

FINDINGS = [Finding("can bus", True, "awake"), Finding("12 V", None, "not measured")]


class Fitted(Daemon):
    """A daemon of a box that is fitted well, whose doors open and shut as they should; ``broken`` is not."""

    def __init__(self, folder: Path, broken: str = "") -> None:
        super().__init__(folder / "none.sock", folder, folder / "none.db")
        self.broken = broken
        self.asked: list[str] = []
        self.written: list[str] = []
        self.locked = True
        self._opened = 0

    def ask(self, command: str, timeout_s: float = 3.0, **values: object) -> dict[str, Any]:  # noqa: ARG002 - its place
        self.asked.append(f"{command} {values['action']}" if command == "door" else command)
        match command:
            case "status":
                return self._status()
            case "card":
                return {"status": "unknown" if self.broken == "card" else "granted", "reason": "mutual staff"}
            case "door":
                if self.broken == "locked by button" and values["action"] == "lock":
                    self.locked = True
                    return {"status": "denied", "reason": "not_open"}
                if self.broken == "refused":
                    return {"status": "denied", "reason": "moving"}
                self.locked = self.locked if self.broken == "latch" else values["action"] == "lock"
                return {"status": "granted", "reason": "opening"}
            case "place":
                return {"best_s": 1_800_000_000.0, "quality": "gnss", "fix": None, "nonce": ""}
            case _:
                raise AssertionError(command)

    def note(self, action: str, by: str, detail: str = "") -> None:
        self.written.append(f"{action} {by} {detail}")

    def _status(self) -> dict[str, Any]:
        self._opened += 1
        opened = self._opened % 2 == 0 and self.broken != "contact"
        return {
            "software": "0.1.0",
            "rental": {"number": 1} if self.broken == "rented" else None,
            "bus": "asleep" if self.broken == "bus" else "awake",
            "signals": {"Vehicle.Speed": {"value": 0.0, "fresh": True, "age_s": 0.1}},
            "gnss": {"mode": 3, "age_s": 1.0},
            "contacts": {"locked": self.locked, "driver_open": opened, "passenger_open": opened},
            "lock_armed": self.broken != "button",
            "radio": "AmiBox-1234",
            "faults": {"bluetooth": "adapter gone"} if self.broken == "radio" else {},
            "not_alive": [],
            "supply": {"voltage_v": 11.1 if self.broken == "12 V" else 12.6, "level": "normal"},
            "outbox": {"connected": self.broken != "network"},
            "clock": {"quality": "unset" if self.broken == "time" else "gnss"},
        }


class Typist:
    """Answers every question: yes to what was seen, no to trying again; never touches a key otherwise."""

    def __init__(self, answer: str = "y") -> None:
        self.said = ""
        self._answer = answer
        self._keys: deque[bytes] = deque()

    def read(self, _wait_s: float) -> bytes:
        return self._keys.popleft() if self._keys else b""

    def write(self, data: bytes) -> None:
        self.said += data.decode()
        if data.endswith(b"(y/n) "):
            self._keys.append(b"n\r" if b"Try again" in data else self._answer.encode() + b"\r")


class Ticking:
    now_s = 0.0

    def __call__(self) -> float:
        self.now_s += 0.6
        return self.now_s


def walk(folder: Path, broken: str = "", answer: str = "y") -> tuple[Fitted, str]:
    daemon, typist = Fitted(folder, broken), Typist(answer)
    given = Provisioning(CAR, BOX_V, BOX, ROOTS, bytes(32), b"keys", technicians=(MARIE,))
    place = Place(folder / "console", BoxConfig(), None, given, (), daemon)
    session = Session(typist, Ticking())
    session.french, session.who = False, "marie"
    selftest.selftest(session, place, ())
    return daemon, typist.said


def protocol(said: str) -> str:
    return said[said.index("AmiBox acceptance") : said.index("Kept;")]


def test_a_well_fitted_box_is_accepted_and_the_protocol_is_signed_and_recorded(tmp_path: Path) -> None:
    daemon, said = walk(tmp_path)
    text = protocol(said)
    assert verify(text, BOX.public)
    assert "result: accepted" in text
    assert text.count(" ok ") + text.count("left out") == len(selftest.STEPS)
    assert [each for each in daemon.asked if each.startswith("door")] == ["door unlock", "door lock"]
    assert [each.split()[:3] for each in daemon.written] == [["acceptance", "marie", "accepted"]]
    [kept] = (tmp_path / "console").glob("acceptance-*.txt")
    assert verify(kept.read_text(), BOX.public)


@pytest.mark.parametrize(
    ("broken", "step"),
    [
        ("bus", "can bus"),
        ("card", "card reader"),
        ("contact", "driver door"),
        ("latch", "unlock"),
        ("refused", "lock"),
        ("button", "button"),
        ("radio", "bluetooth"),
        ("12 V", "12 V"),
        ("network", "network"),
        ("time", "time"),
    ],
)
def test_what_does_not_work_stands_in_the_protocol(tmp_path: Path, broken: str, step: str) -> None:
    _, said = walk(tmp_path, broken)
    text = protocol(said)
    assert f" {step:<18} FAILED" in text
    assert "result: NOT accepted" in text
    assert verify(text, BOX.public)


def test_what_the_person_did_not_see_failed(tmp_path: Path) -> None:
    text = protocol(walk(tmp_path, answer="n")[1])
    for step in ("unlock", "light and buzzer", "passenger lock", "lock", "free exit"):
        assert f" {step:<18} FAILED" in text


def test_a_door_that_the_button_locked_before_is_locked(tmp_path: Path) -> None:
    assert "result: accepted" in protocol(walk(tmp_path, "locked by button")[1])


def test_it_does_not_begin_in_a_rental(tmp_path: Path) -> None:
    with pytest.raises(ValueError, match="rented"):
        walk(tmp_path, "rented")


def test_a_changed_protocol_and_another_boxs_do_not_hold(tmp_path: Path) -> None:
    text = compose(CAR, "0.1.0", "marie", 1_800_000_000, FINDINGS, BOX)
    assert verify(text)
    assert verify(text.replace("\n", "\r\n"), BOX.public), "as a terminal wrote it"
    assert not verify(text.replace("accepted", "Accepted"), BOX.public)
    assert not verify(text, BOX_V.public)
    file = tmp_path / "protocol.txt"
    file.write_text(text)
    assert acceptance.run(argparse.Namespace(file=file, key=BOX.public.hex())) == 0
    assert acceptance.run(argparse.Namespace(file=file, key=BOX_V.public.hex())) == 1
    file.write_text("hello")
    assert acceptance.run(argparse.Namespace(file=file, key=None)) == 2


def test_nothing_done_is_not_accepted_and_the_text_is_the_same_each_time() -> None:
    assert not accepted([])
    said = [compose(CAR, "0.1.0", "marie", 7, FINDINGS, BOX).rpartition("signature: ")[0] for _ in range(2)]
    assert said[0] == said[1]
    assert said[0].isascii()


def test_a_daemon_that_dies_on_the_way_ends_the_walk_without_a_protocol(tmp_path: Path) -> None:
    dead = Daemon(tmp_path / "none.sock", tmp_path, tmp_path / "none.db")
    given = Provisioning(CAR, BOX_V, BOX, ROOTS, bytes(32), b"keys")
    with pytest.raises(Silent):
        selftest.selftest(Session(Typist()), Place(tmp_path, BoxConfig(), None, given, (), dead), ())
    assert not list(tmp_path.glob("acceptance-*"))
