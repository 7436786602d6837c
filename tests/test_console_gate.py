"""The log-in by PIN: what is right, what is slower each time, and what no pulled cable makes forgotten."""

from __future__ import annotations

from pathlib import Path

import pytest

from cloud_sync.documents import Technician
from cloud_sync.provisioning import pin_digest
from onboard.console import gate
from onboard.console.gate import FAILURES_MAX, LOCK_OUT_S, Gate

SALT = b"s" * 16
MARIE = Technician("marie", SALT, pin_digest("12345678", SALT))


class Clock:
    now_s = 1000.0

    def boot_s(self) -> float:
        return self.now_s


def gate_at(folder: Path, clock: Clock, boot: str = "one") -> Gate:
    return Gate(folder / "tries.json", (MARIE,), boot, clock.boot_s)


@pytest.fixture(autouse=True)
def _quick(monkeypatch: pytest.MonkeyPatch) -> None:
    """What scrypt costs is not looked at here."""
    monkeypatch.setattr(gate, "pin_digest", lambda pin, _salt: MARIE.digest if pin == "12345678" else bytes(32))


def test_the_right_pin_of_a_known_name_logs_in(tmp_path: Path) -> None:
    assert gate_at(tmp_path, Clock()).check("marie", "12345678").who == "marie"


@pytest.mark.parametrize(("name", "pin"), [("marie", "1"), ("paul", "12345678"), ("", ""), ("nobody", "0")])
def test_nothing_else_does(tmp_path: Path, name: str, pin: str) -> None:
    assert gate_at(tmp_path, Clock()).check(name, pin).who == ""


def test_each_failure_costs_more_and_five_lock_for_a_quarter_of_an_hour(tmp_path: Path) -> None:
    clock = Clock()
    verdicts = [gate_at(tmp_path, clock).check("marie", "wrong") for _ in range(FAILURES_MAX)]
    assert [each.wait_s for each in verdicts] == [1.0, 2.0, 4.0, 8.0, LOCK_OUT_S]
    assert [each.locked for each in verdicts] == [False, False, False, False, True]
    right = gate_at(tmp_path, clock).check("marie", "12345678")
    assert (right.who, right.locked) == ("", True), "even the right one waits"
    clock.now_s += LOCK_OUT_S - 1
    assert gate_at(tmp_path, clock).locked_s() == 1.0
    clock.now_s += 1
    assert gate_at(tmp_path, clock).check("marie", "wrong").wait_s == 1.0, "counted anew"
    assert gate_at(tmp_path, clock).check("marie", "12345678").who == "marie"
    assert gate_at(tmp_path, clock).check("marie", "wrong").wait_s == 1.0, "a success forgets"


def test_neither_a_new_process_nor_a_reboot_forgets(tmp_path: Path) -> None:
    clock = Clock()
    for _ in range(FAILURES_MAX):
        gate_at(tmp_path, clock).check("marie", "wrong")
    clock.now_s = 10.0
    assert gate_at(tmp_path, clock, boot="two").locked_s() == LOCK_OUT_S - 10.0


def test_failures_before_a_reboot_count_after_it(tmp_path: Path) -> None:
    clock = Clock()
    for _ in range(3):
        gate_at(tmp_path, clock).check("marie", "wrong")
    assert gate_at(tmp_path, clock, boot="two").check("marie", "wrong").wait_s == 8.0


def test_a_try_counts_though_the_cable_is_pulled_before_its_answer(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def cut(_pin: str, _salt: bytes) -> bytes:
        raise KeyboardInterrupt

    clock = Clock()
    with monkeypatch.context() as patched:
        patched.setattr(gate, "pin_digest", cut)
        for _ in range(FAILURES_MAX):
            with pytest.raises(KeyboardInterrupt):
                gate_at(tmp_path, clock).check("marie", "guess")
    assert gate_at(tmp_path, clock).locked_s() == LOCK_OUT_S


@pytest.mark.parametrize("text", ["", "{}", "[1]", '{"failures": "x", "locked_until_s": 0, "boot": ""}', "\xff"])
def test_a_damaged_file_leaves_one_try(tmp_path: Path, text: str) -> None:
    (tmp_path / "tries.json").write_text(text, encoding="latin-1")
    assert gate_at(tmp_path, Clock()).check("marie", "wrong").locked
