"""A rig is reached by the real OpenSSH: the same promises as a plain shell's hand, and a connection that breaks."""

from __future__ import annotations

import getpass
import os
import shutil
import signal
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path
from tempfile import TemporaryDirectory
from threading import Thread

import pytest

from sim.bench.machine import GuestError
from sim.hand import CommandHand, Place
from tests.cloud_rig import free_port, wait_for
from tests.hand_contract import HandContract

PRIVILEGES = Path("/run/sshd")
"""Where sshd, as root, shuts its half without rights in; Debian's unit makes it."""


class Sshd:
    """A server of our own on this machine's loopback, for this user, and the words that reach it."""

    def __init__(self, program: Path, folder: Path) -> None:
        self._program = program
        self._settings = folder / "sshd_config"
        self.port = free_port()
        for name in ("host", "user"):
            subprocess.run(["ssh-keygen", "-q", "-t", "ed25519", "-N", "", "-f", folder / name], check=True)
        shutil.copy(folder / "user.pub", folder / "authorized")
        self._settings.write_text(
            f"Port {self.port}\nListenAddress 127.0.0.1\nHostKey {folder}/host\nPidFile none\nUsePAM no\n"
            f"AuthorizedKeysFile {folder}/authorized\nStrictModes no\nPasswordAuthentication no\n"
        )
        # ssh's words for the host: a key of its own, and nothing of the user's configuration.
        self.words = ["ssh", "-F", "none", "-i", str(folder / "user"), "-p", str(self.port), "-o", "BatchMode=yes"]
        self.words += ["-o", f"UserKnownHostsFile={folder}/known", "-o", "StrictHostKeyChecking=accept-new"]
        self.words += ["-o", "IdentitiesOnly=yes", "-o", "ConnectTimeout=10", f"{getpass.getuser()}@127.0.0.1"]
        self._log = (folder / "log").open("wb")
        self.process: subprocess.Popen[bytes] | None = None

    def start(self) -> None:
        self.process = subprocess.Popen([self._program, "-D", "-e", "-f", self._settings], stderr=self._log)
        wait_for(lambda: subprocess.run([*self.words, "true"], capture_output=True, check=False).returncode == 0)

    def stop(self) -> None:
        assert self.process is not None
        self.process.terminate()
        self.process.wait()

    def break_off(self) -> None:
        """Kill what serves the connections, not who listens."""
        assert self.process is not None
        shown = subprocess.run(["ps", "-o", "pid=", "--ppid", str(self.process.pid)], capture_output=True, check=True)
        for pid in shown.stdout.split():
            os.kill(int(pid), signal.SIGKILL)

    def close(self) -> None:
        self.stop()
        self._log.close()


@pytest.fixture(scope="module")
def sshd(sshd_program: Path) -> Iterator[Sshd]:
    if os.geteuid() == 0:
        PRIVILEGES.mkdir(mode=0o755, exist_ok=True)
    with TemporaryDirectory() as folder:
        server = Sshd(sshd_program, Path(folder))
        server.start()
        yield server
        server.close()


class TestOpenSsh(HandContract):
    @pytest.fixture
    def hand(self, sshd: Sshd) -> CommandHand:
        return CommandHand(sshd.words)


def test_it_is_another_session_that_runs_the_command(sshd: Sshd) -> None:
    """Not a shell beside the test: what only sshd sets is there."""
    there = Place(CommandHand(sshd.words)).shell("echo $SSH_CONNECTION").split()
    assert there[2:] == ["127.0.0.1", str(sshd.port)]


def test_a_connection_that_breaks_is_an_error_and_what_runs_goes_on(sshd: Sshd, tmp_path: Path) -> None:
    hand = CommandHand(sshd.words)
    failures: list[GuestError] = []

    script = f"touch {tmp_path}/begun; while ! test -e {tmp_path}/lost; do sleep 0.1; done; touch {tmp_path}/ran"

    def ask() -> None:
        try:
            hand.run("sh", "-c", script)
        except GuestError as error:
            failures.append(error)

    asking = Thread(target=ask)
    asking.start()
    wait_for((tmp_path / "begun").exists)
    sshd.break_off()
    asking.join(30)
    assert not asking.is_alive()
    assert "the connection ended (code 255); it may have run" in str(failures[0])
    (tmp_path / "lost").touch()
    wait_for((tmp_path / "ran").exists)
    assert hand.run("true").code == 0


def test_a_machine_that_is_off_is_an_error_and_is_found_again(sshd: Sshd) -> None:
    hand = CommandHand(sshd.words)
    sshd.stop()
    with pytest.raises(GuestError, match=r"the connection ended \(code 255\).*\n.*Connection refused"):
        hand.run("true")
    sshd.start()
    assert hand.run(sys.executable, "-c", "print(1)").text == "1\n"
