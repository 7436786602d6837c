"""The whole console on a real line: with the daemon alive, hung and dead; who may in; what is written down."""

from __future__ import annotations

import signal
import time
from pathlib import Path

from onboard.control import ask
from tests.console_rig import LIMIT_S, LOGIN, PIN, PROMPT, console, daemon, furnish
from tests.document_rig import CAR


def records(folder: Path, count: int) -> list[tuple[str, str, str]]:
    """Return the console's rows, once so many are committed."""
    found: list[tuple[str, str, str]] = []
    until_s = time.monotonic() + LIMIT_S
    while len(found) < count and time.monotonic() < until_s:
        rows = ask(folder / "box.sock", {"command": "rows", "last": 50})["rows"]
        found = [tuple(row["says"].values()) for row in rows if row["kind"] == "console_used"]
    return found


def test_alive_hung_and_dead_it_answers_and_says_which(tmp_path: Path) -> None:
    config = furnish(tmp_path)
    with console(config) as terminal:
        with daemon(config) as box:
            terminal.log_in()
            alive = terminal.ask("status")
            assert f"{CAR}  AmiBox" in alive
            assert "no faults" in alive
            assert "booted" in terminal.ask("records")
            box.send_signal(signal.SIGSTOP)
            hung = terminal.ask("status")
            assert "daemon HUNG" in hung
            assert "locked by the daemon that hangs" in hung
            assert "Done or not: check" in terminal.ask("maintenance on")
            box.send_signal(signal.SIGCONT)
            assert "no faults" in terminal.ask("status")
            box.kill()
            box.wait()
        dead = terminal.ask("status")
        assert "daemon DEAD" in dead
        assert "booted" in dead, "its database is read"
        assert "maintenance" not in dead, "what was given up is not done behind it"
        assert "nothing was done" in terminal.ask("sync now")
        terminal.send("logout")
        terminal.until(LOGIN)
        with daemon(config):
            terminal.log_in()
            terminal.ask("status")
            assert [each[:2] for each in records(tmp_path, 3)] == [
                ("login_pin", "marie"),
                ("logout", "marie"),
                ("login_pin", "marie"),
            ], "what happened without a daemon was handed over"


def test_nobody_gets_in_without_the_pin_and_each_failure_is_written_down(tmp_path: Path) -> None:
    config = furnish(tmp_path)
    with daemon(config), console(config) as terminal:
        terminal.until(LOGIN)
        terminal.send("en")
        terminal.until(LOGIN)
        for command in ("status", "reboot"):
            terminal.send(command)
            terminal.until("PIN: ")
            terminal.send("")
            assert "Wait" in terminal.until(LOGIN)
        terminal.send("marie")
        terminal.until("PIN: ")
        terminal.send(PIN[:-1])
        terminal.until("Wait 4 s")
        assert PIN[:-1] not in terminal.said
        assert PROMPT not in terminal.said
        terminal.until(LOGIN)
        assert records(tmp_path, 3) == [
            ("login_failed", "?", "1"),
            ("login_failed", "?", "2"),
            ("login_failed", "marie", "3"),
        ]


def test_a_pulled_cable_does_not_reset_the_lock_out(tmp_path: Path) -> None:
    config = furnish(tmp_path)
    (tmp_path / "data" / "console").mkdir()
    boot = Path("/proc/sys/kernel/random/boot_id").read_text().strip()
    tries = f'{{"failures": 4, "locked_until_s": 0.0, "boot": "{boot}"}}'
    (tmp_path / "data" / "console" / "tries.json").write_text(tries)
    with console(config) as terminal:
        terminal.until(LOGIN)
        terminal.send("marie")
        terminal.until("PIN: ")
        terminal.send("1")
        terminal.until("Bloque 15 minutes")
    with console(config) as terminal:
        terminal.until(LOGIN)
        terminal.send("marie")
        assert "Bloque encore 15 min" in terminal.until(LOGIN)


def test_a_box_without_a_car_lets_everybody_in_and_does_nothing_of_a_car(tmp_path: Path) -> None:
    config = furnish(tmp_path, car=False)
    with console(config) as terminal:
        terminal.until("amibox new> ")
        terminal.send("language en")
        terminal.until("amibox new> ")
        terminal.send("selftest")
        assert "provisioning first" in terminal.until("amibox new> ")
        furnish(tmp_path)
        terminal.send("help")
        terminal.until(LOGIN)


def test_help_is_there_in_both_languages_and_tab_completes(tmp_path: Path) -> None:
    with console(furnish(tmp_path)) as terminal:
        terminal.log_in()
        english = terminal.ask("help")
        assert "what works, what not, what to do" in english
        terminal.type("lang\tf\t\r")
        terminal.until(PROMPT)
        french = terminal.ask("help")
        assert "ce qui marche, ou pas, et que faire" in french
        assert "reboot" in french
        assert "redemarrer" in french, "no accents on a plain terminal"
        terminal.ask("terminal utf8")
        assert "redémarrer" in terminal.ask("help reboot")
        assert "Inconnu : open" in terminal.ask("open the door")
