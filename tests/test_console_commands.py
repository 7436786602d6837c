"""Every command, in both languages, with a daemon that answers as the real one reports; and what a screen costs."""

from __future__ import annotations

from collections import Counter, deque
from dataclasses import replace
from pathlib import Path
from typing import Any

import can
import pytest

from onboard.config import BoxConfig, CanConfig, parse_config
from onboard.console import commands, daemon, monitors, screen
from onboard.console.commands import COMMANDS
from onboard.console.daemon import NOTES_MAX, Daemon, Health, Silent
from onboard.console.link import LinkLost
from onboard.console.place import Place
from onboard.console.session import IDLE_S, LoggedOut, Session, spark
from onboard.console.shell import complete, do
from onboard.core.events import FaultReported, MaintenanceRequested
from onboard.report import report
from tests.core_kit import Kit, booking
from tests.phone_rig import CONFIG

PARTS = ("can", "gps", "card_reader", "door", "bluetooth", "uplink", "disk", "store")


def status_of(kit: Kit) -> dict[str, Any]:
    return report(kit.state, {"mail": Counter({"list:bad_seal": 3})}, (), kit.t) | {"radio": "AmiBox-1a2b"}


def worst() -> dict[str, Any]:
    """Return the longest screen that a box can ask for: on a trip, every part at fault with the longest detail."""
    kit = Kit().ready(booking())
    kit.begin()
    kit.travel()
    for part in PARTS:
        kit.give(FaultReported(part, active=True, detail="x" * 200))
    kit.give(MaintenanceRequested(on=True, by="marie"))
    return status_of(kit)


class Answering(Daemon):
    """Answers as told; ``asked`` remembers the questions."""

    def __init__(self, folder: Path, status: dict[str, Any]) -> None:
        super().__init__(folder / "none.sock", folder, folder / "none.db")
        self.status = status
        self.asked: list[tuple[str, dict[str, object]]] = []

    def ask(self, command: str, timeout_s: float = 3.0, **values: object) -> dict[str, Any]:  # noqa: ARG002 - its place
        self.asked.append((command, values))
        match command:
            case "status":
                return self.status
            case "place":
                fix = {"latitude": 48.2, "longitude": -1.5, "speed_mps": 0.2, "mode": 3, "hdop": 1.2, "age_s": 0.4}
                return {"best_s": 1.8e9, "quality": "gnss", "fix": fix, "nonce": "ab" * 16}
            case "rows":
                return {"rows": [{"seq": 4, "wall_s": 1_800_000_000, "kind": "trip_start", "says": {"trip": 1}}]}
            case "batch":
                return {"document": "AAAA", "to_seq": 4, "last_seq": 4}
            case _:
                return {"status": "granted", "reason": "opening", "ok": True, "refused": ""}


class Typist:
    """Types what it was told to, then holds a key down; remembers what was shown."""

    def __init__(self, *typed: str, silent: bool = False) -> None:
        self.said = b""
        self._typed = deque(each.encode() for each in typed)
        self._silent = silent

    def read(self, _wait_s: float) -> bytes:
        if self._typed:
            return self._typed.popleft()
        return b"" if self._silent else b"y\r"

    def write(self, data: bytes) -> None:
        self.said += data


class Ticking:
    now_s = 0.0

    def __call__(self) -> float:
        self.now_s += 0.6
        return self.now_s


def place_at(folder: Path, answering: Daemon) -> Place:
    config = parse_config(CONFIG.format(dir=folder), folder / "box.toml")
    return Place(folder, BoxConfig(provisioning=folder), config, None, (), answering)


def said(folder: Path, line: str, *typed: str, french: bool = False, status: dict[str, Any] | None = None) -> str:
    answering = Answering(folder, status or status_of(Kit().ready(booking())))
    typist = Typist(*typed)
    session = Session(typist, Ticking())
    session.french, session.who = french, "marie"
    name, *words = line.split()
    do(session, place_at(folder, answering), COMMANDS[name], words)
    return typist.said.decode()


LINES = (
    "help", "help door", "status", "faults", "signals", "can", "gps", "door test", "door lock", "door", "card read",
    "card", "ble", "supply", "time", "sync now", "sync", "trips", "records", "logs 3 amibox", "export", "export batch",
    "import", "import batch", "maintenance on", "maintenance", "selftest", "reboot", "language en", "language",
    "terminal utf8", "terminal",
)  # fmt: skip


@pytest.mark.parametrize("french", [False, True], ids=["english", "french"])
@pytest.mark.parametrize("line", LINES)
def test_every_command_says_something_that_any_terminal_shows(tmp_path: Path, line: str, french: bool) -> None:
    shown = said(tmp_path, line, french=french)
    assert shown
    if line != "terminal utf8":
        assert shown.isascii()
    assert max(len(each) for each in shown.replace("\b", "").splitlines()) <= 100


def test_no_command_is_left_out_above() -> None:
    assert {line.split()[0] for line in LINES} | {"logout"} == set(COMMANDS)


@pytest.mark.parametrize("french", [False, True], ids=["english", "french"])
def test_the_longest_status_fits_one_screen_and_two_seconds_at_9600_baud(tmp_path: Path, french: bool) -> None:
    shown = said(tmp_path, "status", french=french, status=worst())
    lines = shown.splitlines()
    assert len(lines) <= 23
    assert max(map(len, lines)) < 80
    assert len(shown) <= 2 * 960
    assert "MAINTENANCE" in shown
    assert ("en trajet" if french else "on a trip") in shown


def test_what_does_not_fit_the_screen_is_named_by_faults(tmp_path: Path) -> None:
    assert said(tmp_path, "status", status=worst()).splitlines()[-1] == "... faults"
    shown = said(tmp_path, "faults", status=worst())
    assert all(f"! {part}: x" in shown for part in PARTS)


def test_status_names_what_to_do(tmp_path: Path) -> None:
    kit = Kit().ready()
    kit.give(FaultReported("gps", active=True, detail="silent"))
    shown = said(tmp_path, "status", status=status_of(kit))
    assert "! gps: silent" in shown
    assert "-> GPS receiver: cable, port in box.toml" in shown


def test_the_screen_without_a_daemon_fits_too() -> None:
    rows = [{"seq": n, "wall_s": 1.8e9, "kind": "fault", "says": {"detail": "x" * 90}} for n in range(20)]
    for health in (Health.HUNG, Health.DEAD):
        lines = screen.silent_lines(health, "x" * 200, rows, ["y" * 200] * 50, french=False)
        assert len(lines) <= 23
        assert sum(len(line) + 2 for line in lines) <= 2 * 960


@pytest.mark.parametrize("state", ["on_trip", "stopped"])
def test_no_reboot_in_a_rental(tmp_path: Path, state: str) -> None:
    shown = said(tmp_path, "reboot", "reboot\r", status={**status_of(Kit().ready()), "state": state})
    assert "the car is rented" in shown
    assert not (tmp_path / "reboot").exists()


def test_a_reboot_is_confirmed_by_its_word_and_leaves_a_file(tmp_path: Path) -> None:
    said(tmp_path, "reboot", "yes\r")
    assert not (tmp_path / "reboot").exists()
    said(tmp_path, "reboot", "reboot\r")
    assert (tmp_path / "reboot").exists()


def test_a_hung_daemon_can_be_rebooted(tmp_path: Path) -> None:
    session = Session(Typist("reboot\r"))
    commands.COMMANDS["reboot"].do(session, place_at(tmp_path, Daemon(tmp_path / "no", tmp_path, tmp_path)), ())
    assert (tmp_path / "reboot").exists()


def test_a_door_test_unlocks_asks_and_locks_again(tmp_path: Path) -> None:
    answering = Answering(tmp_path, status_of(Kit().ready()))
    session = Session(Typist("o\r"), Ticking())
    session.who = "marie"
    commands.COMMANDS["door"].do(session, place_at(tmp_path, answering), ["test"])
    moved = [values for command, values in answering.asked if command == "door"]
    assert moved == [{"action": "unlock", "by": "marie"}, {"action": "lock", "by": "marie"}]


def test_words_complete_after_their_command_alone() -> None:
    assert complete(COMMANDS, "s") == ["selftest", "signals", "status", "supply", "sync"]
    assert complete(COMMANDS, "door ") == ["test", "unlock", "lock"]
    assert complete(COMMANDS, "door test ") == []
    assert complete(COMMANDS, "nothing ") == []


def test_notes_are_bounded_and_handed_over_once(tmp_path: Path) -> None:
    dead = Daemon(tmp_path / "none", tmp_path, tmp_path / "none")
    for number in range(NOTES_MAX + 5):
        dead._keep({"action": "login_failed", "by": "?", "detail": str(number)})
    alive = Answering(tmp_path, {})
    assert alive.hand_over() == NOTES_MAX
    assert alive.hand_over() == 0
    assert [values["detail"] for _, values in alive.asked] == [str(number) for number in range(NOTES_MAX)]
    with pytest.raises(Silent):
        dead.ask("status")


def test_damaged_notes_stop_nothing(tmp_path: Path) -> None:
    (tmp_path / "notes.jsonl").write_text("[1]\n")
    dead = Daemon(tmp_path / "none", tmp_path, tmp_path / "none")
    dead.note("logout", "marie")
    assert len(dead._kept()) == 1


def test_who_says_nothing_is_logged_out() -> None:
    ticking = Ticking()
    with pytest.raises(LoggedOut):
        Session(Typist(silent=True), ticking).ask("> ")
    assert ticking.now_s > IDLE_S
    with pytest.raises(LoggedOut):
        Session(Typist("\x04")).ask("> ")


def test_a_plain_terminal_is_sent_ascii_and_no_terminal_is_steered() -> None:
    session = Session(Typist())
    assert session.encode("Réseau ▁█ \x1b[2J\x85") == b"Reseau _# ?[2J?"
    session.plain = False
    assert session.encode("Réseau ▁█\x1b") == "Réseau ▁█?".encode()


def test_a_plot_goes_from_the_lowest_to_the_highest_block() -> None:
    assert spark([0, 1, 2, 3, 4, 5, 6, 7], 0, 7) == "▁▂▃▄▅▆▇█"
    assert spark([5, -5, 50], 5, 5) == "▁▁▁"


def test_the_bus_is_heard_beside_the_daemon(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    other = can.Bus(interface="virtual", channel="console-test")
    mine = can.Bus(interface="virtual", channel="console-test")
    monkeypatch.setattr(monitors, "EVERY_S", 0.2)
    monkeypatch.setattr(can, "Bus", lambda **_settings: mine)
    place = place_at(tmp_path, Daemon(tmp_path / "no", tmp_path, tmp_path))
    assert place.config is not None
    place.config = replace(place.config, can=CanConfig())
    for number in (0x713, 0x713, 0x581):
        other.send(can.Message(arbitration_id=number, data=b"\1\2", is_extended_id=False))
    typist = Typist()
    session = Session(typist)
    monitors.can_bus(session, place, ())
    other.shutdown()
    lines = typist.said.decode().splitlines()
    assert lines[1].split()[:2] == ["15/s", "0"]
    assert lines[2].split() == ["00000713", "10.0/s", "01", "02", "#" * 20]
    assert lines[3].split()[0] == "00000581"


def test_programs_of_the_system_that_hang_or_lack_are_told(monkeypatch: pytest.MonkeyPatch) -> None:
    assert "No such file" in daemon.say_system("/no/such/program")
    monkeypatch.setattr(daemon, "RUN_S", 0.05)
    assert "timed out" in daemon.say_system("sleep", "5")


def test_a_line_that_is_gone_ends_the_conversation() -> None:
    class Gone(Typist):
        def read(self, _wait_s: float) -> bytes:
            raise LinkLost("pulled")

    with pytest.raises(LinkLost):
        Session(Gone()).ask("> ")
