"""The laptop's end: it finds the box, and files get across a bad line whole, or not at all."""

from __future__ import annotations

import os
import random
import tty
from collections.abc import Callable
from pathlib import Path

import pytest

from cloud_sync.documents import decode_event_batch, encode_key_set
from cloud_sync.provisioning import PROVISIONING, load_provisioning
from onboard.config import BoxConfig
from onboard.console import attach, files
from onboard.console.attach import Broken, Line, get, put
from onboard.console.daemon import Daemon
from onboard.console.files import FileKind
from onboard.console.link import LinkLost, SerialLink
from onboard.console.place import Place
from onboard.console.session import Session
from onboard.console.transfer import Receiver
from tests.console_rig import PIN, cable, console_at, daemon, furnish
from tests.document_rig import CAR, CLOUD_C, KEYS, ROOT

DATA = bytes(range(256)) * 9


class Wire:
    """Both ends in one process: what the laptop types is answered at once, by the console's own transfer.

    ``spoil`` changes what goes to the laptop, line by line, ``spoil_in`` what goes to the box.
    """

    def __init__(self, place: Place, spoil: Callable[[str], str], spoil_in: Callable[[str], str]) -> None:
        self._place, self._spoil, self._spoil_in = place, spoil, spoil_in
        self._to_laptop = b""
        self._receiver: Receiver | None = None

    def write(self, data: bytes) -> None:
        line = self._spoil_in(data.decode().rstrip("\r"))
        if self._receiver is not None and line.startswith("#"):
            self._say(self._receiver.answer(line) or "")
            if self._receiver.file is not None:
                self._place.folder.joinpath("taken").write_bytes(self._receiver.file.read_bytes())
                self._receiver = None
                self._say("Taken.")
        elif line.startswith("export "):
            session = Session(Printed(self))
            files.export_file(session, self._place, line.split()[1:])
        elif line.startswith("import "):
            self._receiver = Receiver(self._place.folder / "incoming", {"trial": 10_000})

    def read(self, _wait_s: float) -> bytes:
        data, self._to_laptop = self._to_laptop, b""
        return data

    def _say(self, line: str) -> None:
        self._to_laptop += self._spoil(line).encode() + b"\r\n"


class Printed:
    """What a session of ``export`` writes goes the same way."""

    def __init__(self, wire: Wire) -> None:
        self._wire = wire

    def read(self, _wait_s: float) -> bytes:
        return b""

    def write(self, data: bytes) -> None:
        self._wire._say(data.decode().rstrip())


@pytest.fixture(name="place")
def _place(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Place:
    kind = FileKind("essai", "trial", out=lambda _place: DATA, bare=True)
    monkeypatch.setitem(files.KINDS, "trial", kind)
    monkeypatch.setattr(attach, "SILENCE_S", 0.01)
    monkeypatch.setattr(Line.next, "__defaults__", (0.01,))
    quiet = Daemon(tmp_path / "no.sock", tmp_path, tmp_path / "no.db")
    return Place(tmp_path / "console", BoxConfig(provisioning=tmp_path / "none"), None, None, (), quiet)


def bad_line(seed: int, one_in: int) -> Callable[[str], str]:
    chance = random.Random(seed)  # noqa: S311 - a bad line, the same each time

    def spoil(line: str) -> str:
        if not line or chance.randrange(one_in):
            return line
        at = chance.randrange(len(line))
        return chance.choice(["", line[:at], line[:at] + "?" + line[at + 1 :]])

    return spoil


def opened(port: str) -> SerialLink:
    """Open the laptop's port once the console is there."""
    link = SerialLink(Path(port), 9600)
    assert any(attach.answers(link) for _ in range(20))
    return link


def whole(line: str) -> str:
    return line


@pytest.mark.parametrize("seed", range(5))
def test_a_file_comes_out_over_a_bad_line(place: Place, seed: int) -> None:
    assert get(Line(Wire(place, bad_line(seed, 12), whole)), "trial") == DATA


@pytest.mark.parametrize("seed", range(5))
def test_a_file_goes_in_over_a_bad_line(place: Place, seed: int) -> None:
    put(Line(Wire(place, whole, bad_line(seed, 12))), "trial", DATA)
    assert (place.folder / "taken").read_bytes() == DATA


def test_a_dead_line_is_given_up(place: Place) -> None:
    with pytest.raises(Broken, match="nothing gets across"):
        get(Line(Wire(place, lambda _line: "", whole)), "trial")
    with pytest.raises(Broken, match="nothing gets across"):
        put(Line(Wire(place, lambda _line: "", whole)), "trial", DATA)


def test_what_the_box_does_not_know_is_told(place: Place) -> None:
    with pytest.raises(Broken):
        get(Line(Wire(place, whole, whole)), "secrets")
    with pytest.raises(Broken, match="0 bytes"):
        put(Line(Wire(place, whole, whole)), "trial", b"")


def test_the_box_is_found_among_other_ports(tmp_path: Path) -> None:
    with cable() as (box_port, terminal_port), console_at(box_port, furnish(tmp_path)):
        opened(terminal_port).close()
        silent_master, silent = os.openpty()
        tty.setraw(silent)
        try:
            link, port = attach.find([os.ttyname(silent), "/dev/none", terminal_port], 9600)
            link.close()
            assert port == terminal_port
            with pytest.raises(LinkLost, match="no box answers"):
                attach.find([os.ttyname(silent), "/dev/none"], 9600)
            with pytest.raises(LinkLost, match="plug the cable in"):
                attach.find([], 9600)
        finally:
            os.close(silent_master)
            os.close(silent)


def test_trips_out_and_keys_in_over_the_real_console(tmp_path: Path) -> None:
    config = furnish(tmp_path)
    with daemon(config), cable() as (box_port, port), console_at(box_port, config):
        link = opened(port)
        try:
            line = Line(link)
            line.log_in(lambda _prompt: "marie", lambda _prompt: PIN)
            line.log_in(lambda _prompt: pytest.fail("asked twice"), lambda _prompt: PIN)
            batch = decode_event_batch(
                get(line, "batch"), CLOUD_C, load_provisioning(tmp_path / PROVISIONING).signing.public, CAR
            )
            assert batch.from_seq == 1
            assert put(line, "document", encode_key_set(KEYS, ROOT)) in {"Accepte.", "Taken."}
            with pytest.raises(Broken, match="bad_envelope"):
                put(line, "document", b"not a document")
        finally:
            link.close()


def test_a_wrong_pin_is_told(tmp_path: Path) -> None:
    with cable() as (box_port, port), console_at(box_port, furnish(tmp_path)):
        link = opened(port)
        try:
            with pytest.raises(Broken, match="did not let you in"):
                Line(link).log_in(lambda _prompt: "marie", lambda _prompt: "1")
        finally:
            link.close()


class Keyboard:
    """A laptop's own terminal: gives keys one read after the other, remembers what it was shown."""

    def __init__(self, *keys: bytes) -> None:
        self.shown = b""
        self._keys = list(keys)

    def read(self, _wait_s: float) -> bytes:
        return self._keys.pop(0) if self._keys else b"\r~."

    def write(self, data: bytes) -> None:
        self.shown += data


class Far(Keyboard):
    """The other end: says nothing."""

    def read(self, _wait_s: float) -> bytes:
        return b""


def test_keys_go_to_the_box_and_a_tilde_at_the_beginning_of_a_line_stays_here(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(attach, "get", lambda _line, kind: kind.encode() * 2)
    out = tmp_path / "out"
    here, far = Keyboard(b"a~b\r", b"~", b"?\r", f"~get bat\x7ftch {out}\r".encode(), b"~put batch /no/file\r"), Far()
    attach.terminal(here, far)
    assert far.shown == b"a~b\r" + b"\r" * 4
    assert b"~put KIND FILE" in here.shown
    assert out.read_bytes() == b"batchbatch"
    assert b"No such file" in here.shown
