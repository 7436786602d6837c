"""What every hand of commands promises; run on a plain shell (test_sim_rig) and on OpenSSH (system/test_rig_ssh)."""

from __future__ import annotations

import socket
import time
from pathlib import Path
from threading import Thread

import pytest

from sim.bench.machine import GuestError
from sim.hand import CommandHand, Place

ODD = ["", " ", "a b", "$HOME", "`id`", "'", '"', "\\", "a\nb", "*", ";false", "-n", "é€", "#", "~", "!1", "%s"]
EVERY_BYTE = bytes(range(256)) * 300
"""More than a pipe holds, and no text."""
SHOW = "import sys; print(ascii(sys.argv[1:]))"


class HandContract:
    """Subclasses have a fixture ``hand``."""

    @pytest.fixture
    def hand(self) -> CommandHand:
        raise NotImplementedError

    def test_it_says_what_the_command_said_on_both_outputs(self, hand: CommandHand) -> None:
        said = hand.run("sh", "-c", "echo out; echo error >&2; echo out again")
        assert (said.code, said.text) == (0, "out\nerror\nout again\n")

    @pytest.mark.parametrize("code", [0, 1, 124, 127, 137, 255])
    def test_the_code_is_the_commands_own(self, hand: CommandHand, code: int) -> None:
        """255 is also what ssh says of itself, 124 what a time-out is often told by."""
        assert hand.run("sh", "-c", f"exit {code}").code == code

    def test_odd_words_arrive_as_they_are(self, hand: CommandHand) -> None:
        assert hand.run("python3", "-c", SHOW, *ODD).text == f"{ODD!a}\n"

    def test_every_byte_of_the_input_arrives(self, hand: CommandHand, tmp_path: Path) -> None:
        there = tmp_path / "folder" / "bytes"
        place = Place(hand)
        place.put(str(there), EVERY_BYTE, owner="$(id -un)", mode="640")
        assert there.read_bytes() == EVERY_BYTE
        assert there.stat().st_mode & 0o777 == 0o640
        assert place.fetch(str(there)) == EVERY_BYTE

    def test_a_command_that_is_not_there_has_a_code_and_a_word(self, hand: CommandHand) -> None:
        said = hand.run("no-such-program")
        assert said.code == 126
        assert "no-such-program" in said.text

    def test_a_command_that_must_work_and_fails_is_an_error(self, hand: CommandHand) -> None:
        with pytest.raises(GuestError, match="code 3\nwhy"):
            Place(hand).shell("echo why; exit 3")

    def test_a_command_out_of_time_is_stopped_there(self, hand: CommandHand, tmp_path: Path) -> None:
        """Its children as well, and what it said so far is kept."""
        begun_s = time.monotonic()
        said = hand.run("sh", "-c", f"echo $$ > {tmp_path}/pid; echo begun; sleep 300; true", timeout_s=1.0)
        assert (said.code, said.text) == (-1, "begun\n")
        assert time.monotonic() - begun_s < 30
        pid = (tmp_path / "pid").read_text().strip()
        # One that nobody has collected yet (Z) has ended.
        assert {word[0] for word in hand.run("ps", "-o", "stat=", "-s", pid).text.split()} <= {"Z"}

    def test_a_socket_there_is_asked_and_answers_once(self, hand: CommandHand, tmp_path: Path) -> None:
        """A path's answer is a line; who waits for more would wait for ever. Nobody there is a code and a word."""
        heard = []
        with socket.socket(socket.AF_UNIX) as listener:
            listener.bind(str(tmp_path / "socket"))
            listener.listen()

            def serve() -> None:
                client, _ = listener.accept()
                heard.append(client.makefile("rb").readline())
                client.sendall(b"first\nsecond\n")
                kept.append(client)

            kept: list[socket.socket] = []
            server = Thread(target=serve)
            server.start()
            said = hand.run("ask", str(tmp_path / "socket"), stdin=b"how?\n", timeout_s=20)
            server.join()
        kept[0].close()
        assert (said.code, said.text) == (0, "first\n")
        assert heard == [b"how?\n"]
        said = hand.run("ask", str(tmp_path / "nobody"), stdin=b"how?\n")
        assert said.code == 126
        assert "FileNotFoundError" in said.text

    def test_what_stays_behind_holds_nobody_up(self, hand: CommandHand) -> None:
        begun_s = time.monotonic()
        said = hand.run("sh", "-c", "sleep 60 & echo $!")
        try:
            assert time.monotonic() - begun_s < 30
        finally:
            hand.run("kill", said.text.strip())
