"""A PC/SC reader that exists only in software: pcscd and vsmartcard's reader in a namespace of their own.

vsmartcard listens on every address of the machine; here that is one loopback that nobody else has. Wants ``pcscd`` and
``vsmartcard-vpcd`` of Debian, and no rights.
"""

from __future__ import annotations

import contextlib
import json
import os
import shutil
import socket
import subprocess
import sys
import tempfile
import time
from pathlib import Path
from typing import Any

import pytest

from hw.card_reader import CardLink, CardReaderSettings
from hw.pcsc import Pcsc
from sim.desfire import DesfireCard
from tests.conftest import ROOT

DRIVER = Path("/usr/lib/pcsc/drivers/serial/libifdvpcd.so")
SETTINGS = f"""FRIENDLYNAME "Virtual PCD"
DEVICENAME   /dev/null:0x8C7B
LIBPATH      {DRIVER}
CHANNELID    0x8C7B
"""
INSIDE = """
ip link set lo up && mount -t tmpfs none /run && mkdir /run/pcscd && mount --bind "$1/run" /run/pcscd || exit 1
pcscd --foreground --config "$1/conf" >"$1/log" 2>&1 &
exec "$2" -m tests.virtual_pcsc
"""
PATH = f"{os.environ['PATH']}:/usr/sbin:/sbin"
DEADLINE_S = 20.0


class PcscRig:
    """pcscd, its reader, and what lies on it. A dead pcscd is both: a reader unplugged, or one that a reset cures."""

    def __init__(self) -> None:
        for program in ("pcscd", "unshare", "ip"):
            assert shutil.which(program, path=PATH), (
                f"{program} is missing: apt install pcscd vsmartcard-vpcd iproute2 util-linux"
            )
        if not DRIVER.exists():
            pytest.fail(f"{DRIVER} is missing: apt install vsmartcard-vpcd")
        self.settings = CardReaderSettings("pcsc", poll_interval_s=0.05)
        # PC/SC's library looks for its daemon's path once in a process.
        self._folder = Path(tempfile.gettempdir()) / f"amibox-pcsc-{os.getpid()}"
        self._folder.mkdir(mode=0o700)
        (self._folder / "run").mkdir()
        (self._folder / "conf").mkdir()
        (self._folder / "conf" / "vpcd").write_text(SETTINGS)
        os.environ["PCSCLITE_CSOCK_NAME"] = str(self._folder / "run" / "pcscd.comm")
        self._process: subprocess.Popen[str] | None = None
        self._cards: list[dict[str, Any]] = []
        self.plug_in()

    def link(self) -> CardLink:
        return Pcsc()

    def reset(self) -> None:
        if not self._pulled:
            self._end()
            self.plug_in()

    def present(self, uid_hex: str) -> None:
        self._put({"uid": uid_hex})

    def present_chip(self, card: DesfireCard) -> None:
        said: dict[str, Any] = {"uid": card.uid.hex(), "slow_s": card.slow_s, "leaves_after": card.leaves_after}
        self._put(said | {"keys": [key.hex() for keys in card.applications.values() for key in keys]})

    def remove(self) -> None:
        self._put()

    def wedge(self) -> None:
        self._end()

    def unplug(self) -> None:
        self._pulled = True
        self._end()

    def _end(self) -> None:
        if self._process is not None:
            self._process.kill()
            self._process.wait()
            for end in (self._process.stdin, self._process.stdout):
                with contextlib.suppress(OSError):
                    if end is not None:
                        end.close()
            self._process = None
        # The namespace ends with its first process, a moment after the one that we know.
        path, give_up_s = self._folder / "run" / "pcscd.comm", time.monotonic() + DEADLINE_S
        while path.exists():
            assert time.monotonic() < give_up_s
            with socket.socket(socket.AF_UNIX) as line:
                try:
                    line.connect(str(path))
                except OSError:
                    path.unlink()
                else:
                    time.sleep(0.02)

    def plug_in(self) -> None:
        self._pulled = False
        names = ["unshare", "--user", "--map-root-user", "--net", "--mount", "--pid", "--fork", "--kill-child"]
        self._process = subprocess.Popen(
            [*names, "sh", "-c", INSIDE, "sh", self._folder, sys.executable],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            text=True,
            cwd=ROOT,
            env=os.environ | {"PATH": PATH},
        )
        give_up_s = time.monotonic() + DEADLINE_S
        while not (self._folder / "run" / "pcscd.comm").exists():
            assert time.monotonic() < give_up_s, (self._folder / "log").read_text()
            time.sleep(0.02)
        self._put(*self._cards)

    def close(self) -> None:
        self.unplug()
        shutil.rmtree(self._folder)

    def _put(self, *cards: dict[str, Any]) -> None:
        self._cards = list(cards)
        if self._process is None or self._process.stdin is None or self._process.stdout is None:
            return
        self._process.stdin.write(json.dumps({"cards": cards}) + "\n")
        self._process.stdin.flush()
        assert self._process.stdout.readline() == "{}\n"
        self._await_seen(there=bool(cards))

    @staticmethod
    def _await_seen(*, there: bool) -> None:
        """Wait until pcscd, which looks now and then, has seen it."""
        from smartcard import scard  # noqa: PLC0415 - an extra that only the tests with a real pcscd need

        wanted = scard.SCARD_STATE_PRESENT if there else scard.SCARD_STATE_EMPTY
        give_up_s = time.monotonic() + DEADLINE_S
        state = 0
        while not state & wanted:
            assert time.monotonic() < give_up_s, f"pcscd never saw it: {state:#x}"
            time.sleep(0.05)
            _, context = scard.SCardEstablishContext(scard.SCARD_SCOPE_USER)
            _, names = scard.SCardListReaders(context, [])
            for name in (names or ())[:1]:  # it shows two; ours is the first
                _, states = scard.SCardGetStatusChange(context, 0, [(name, scard.SCARD_STATE_UNAWARE)])
                state = states[0][1]
            scard.SCardReleaseContext(context)
