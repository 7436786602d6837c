"""The rig: its file, the hand that reaches a machine, its switches, and what is left out where it has none."""

from __future__ import annotations

import os
import re
import subprocess
import sys
from pathlib import Path

import pytest
from cryptography import x509
from gpiozero.pins.mock import MockFactory

from onboard.config import load_config
from onboard.config_reader import ConfigError
from sim.bench.agent import ASK
from sim.bench.keys import Certifier
from sim.bench.machine import GuestError, Said
from sim.commune import HTTP, Commune
from sim.hand import HERE, CommandHand, Place, switch
from sim.real_lines import RealLines
from sim.rig import Rig
from sim.rig_file import MEANS, load_rig, parse_rig
from tests.conftest import ROOT
from tests.hand_contract import HandContract

BENCH = ROOT / "sim" / "bench" / "rig.toml"
WIRED = ROOT / "sim" / "rigs" / "wired.toml"
FILE = Path("my-rig.toml")


class TestAShellsHand(HandContract):
    @pytest.fixture
    def hand(self) -> CommandHand:
        return CommandHand(HERE)

    def test_words_that_say_something_of_their_own_are_no_answer(self) -> None:
        """A login shell's greeting, ssh's warnings."""
        hand = CommandHand(["sh", "-c", 'echo \'{"id": 1}\'; echo Welcome >&2; eval "$0"; echo "Bye."'])
        assert hand.run("echo", "said").text == "said\n"

    def test_no_answer_is_an_error_that_says_it_may_have_run(self, tmp_path: Path) -> None:
        hand = CommandHand(["sh", "-c", f'eval "$0" > {tmp_path}/kept; echo Connection reset; exit 255'])
        with pytest.raises(GuestError, match=r"code 255\); it may have run\n.*Connection reset"):
            hand.run("touch", tmp_path / "ran")
        assert (tmp_path / "ran").exists()

    def test_a_connection_that_hangs_is_an_error_in_time(self) -> None:
        hand = CommandHand(["sh", "-c", "sleep 300"], grace_s=0.5)
        with pytest.raises(GuestError, match=r"nothing came back within 1 s; it may have run"):
            hand.run("true", timeout_s=0.5)

    def test_words_that_are_no_program_are_named(self) -> None:
        with pytest.raises(GuestError, match=r"true was not run: no-such-ssh can't be started"):
            CommandHand(["no-such-ssh"]).run("true")


def mistakes(text: str) -> str:
    with pytest.raises(ConfigError) as refused:
        parse_rig(text, FILE)
    return str(refused.value)


PLAYED_RADIO = '[radio]\nsocket = "/x"\naddress = "00:00:5E:00:53:FF"\n[gpio]'


def test_the_rigs_that_we_ship_are_valid() -> None:
    assert load_rig(BENCH).means == MEANS.keys() - {"pi"}
    assert load_rig(WIRED).means == MEANS.keys() - {"guest", "played radio", "pi"}


def test_the_example_has_the_pins_of_the_boxs_example() -> None:
    door = load_config(ROOT / "systemd" / "amibox.toml").door
    assert load_rig(WIRED).pins == door


@pytest.mark.parametrize(
    ("line", "instead", "said"),
    [
        ("bitrate = 500000", "bitrat = 500000", 'can.bitrat: unknown key; did you mean "bitrate"?'),
        ("bitrate = 500000", "", "can.bitrate: missing; add bitrate: bits a second"),
        ("bitrate = 500000", "bitrate = 5", "can.bitrate: 5 won't do"),
        ("[commune]", "[comune]", 'comune: unknown section; did you mean "commune"?'),
        ("[commune]", "[comune]", "commune: missing; add [commune]"),
        ('reach = "ssh"', 'reach = "telnet"', "box.reach: 'telnet' won't do"),
        ('reach = "ssh"', 'reach = "guest"', 'box.command: goes with reach = "ssh"; take it out'),
        ('reach = "ssh"', 'reach = "guest"', "car.reach: the guest's wires end in the guest"),
        ('reach = "ssh"', 'reach = "guest"', "power: the bench switches the guest by itself; take [power] out"),
        ('command = ["ssh", ', '#command = ["ssh", ', 'box.command: goes with reach = "ssh"; add it, such as'),
        ('factory = "lgpio"', "", 'gpio: label and factory are alternatives; keep one; real lines: factory = "lgpio"'),
        ('factory = "lgpio"', 'factory = "lgpio"\nlabel = "car"', "gpio: label and factory are alternatives"),
        ("lock_pin = 27", "lock_pin = 17", "pins: pin 17 is used twice; give each part a pin of its own"),
        ("lock_pin = 27", "lock_pin = 99", "pins.lock_pin: 99 won't do"),
        ("[gpio]", PLAYED_RADIO, "radio: only the guest's adapter can be played; take [radio] out"),
        ('name = "card"', 'name = "gps"', 'adapter.1.name: "gps" stands here twice; keep one'),
        ('name = "card"', 'name = "can"', "adapter.1.name: 'can' won't do"),
        ("restore = [", "#restore = [", "power.restore: missing; add restore: the words of a command"),
    ],
)  # fmt: skip
def test_a_mistake_is_named_with_file_line_key_and_remedy(line: str, instead: str, said: str) -> None:
    text = WIRED.read_text()
    assert f"\n{line}" in text
    told = mistakes(text.replace(f"\n{line}", f"\n{instead}", 1))
    assert f": {said}" in told
    assert all(re.match(r"my-rig\.toml:\d+: [\w.]+: .+; .+", each) for each in told.splitlines()), told


def test_a_file_that_is_not_there_is_named() -> None:
    with pytest.raises(ConfigError, match=r"nowhere\.toml:1: file: .*; name a rig's file \(make hil RIG=FILE\)"):
        load_rig(Path("nowhere.toml"))


def wired(tmp_path: Path, **changes: str) -> Rig:
    """A rig whose two machines are this one. ``changes``: a line's beginning and what stands there instead."""
    text = re.sub(r"(?m)^command = .*", 'command = ["sh", "-c"]', WIRED.read_text())
    for key, value in changes.items():
        text, count = re.subn(rf"(?m)^{key} = .*", f"{key} = {value}", text)
        assert count
    file = tmp_path / "rig.toml"
    file.write_text(text)
    return Rig(load_rig(file))


def test_a_box_that_was_never_off_is_no_power_cut(tmp_path: Path) -> None:
    rig = wired(tmp_path, cut=f'["touch", "{tmp_path}/cut"]', restore=f'["touch", "{tmp_path}/restored"]')
    rig.cut()
    assert (tmp_path / "cut").exists()
    with pytest.raises(GuestError, match=r"the box was not off: look at \[power\] cut"):
        rig.restore()
    assert (tmp_path / "restored").exists()


def test_a_box_is_back_when_it_answers_after_another_boot(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """While ``off`` exists the machine answers nothing; the second question after power finds it up."""
    boot = tmp_path / "boot"
    boot.write_text("first")
    monkeypatch.setattr("sim.rig.BOOT_ID", str(boot))
    off, asked = tmp_path / "off", tmp_path / "asked"
    reach = f'test ! -e {off} || {{ test -e {asked} && rm {off}; touch {asked}; exit 255; }}; eval "$0"'
    command = f"""["sh", "-c", '''{reach}''']"""
    rig = wired(tmp_path, command=command, cut=f'["touch", "{off}"]', restore=f'["sh", "-c", "echo 2 > {boot}"]')
    rig.cut()
    with pytest.raises(GuestError, match="it may have run"):
        rig.run("true")
    rig.restore()
    assert rig.run("true").code == 0
    assert not off.exists()


def test_an_adapter_is_switched_by_its_own_words(tmp_path: Path) -> None:
    rig = wired(tmp_path, unplug='["false"]', plug=f'["touch", "{tmp_path}/plugged"]')
    rig.plug("gps")
    assert (tmp_path / "plugged").exists()
    with pytest.raises(GuestError, match="false: code 1; it may have switched something"):
        rig.unplug("card")


def test_a_switch_that_is_no_program_is_named() -> None:
    with pytest.raises(GuestError, match="no-such-relay can't be started"):
        switch(["no-such-relay"])


def without(text: str, section: str) -> str:
    """The file without its tables of this name."""
    return re.sub(rf"(?ms)^\[+{section}\]+\n.*?(?=^\[|\Z)", "", text)


def test_what_a_rig_has_not_is_an_error_that_says_what_to_add(tmp_path: Path) -> None:
    file = tmp_path / "rig.toml"
    text = WIRED.read_text()
    for section in ("power", "adapter", "gps", "card"):
        text = without(text, section)
    file.write_text(text)
    rig = Rig(load_rig(file))
    assert rig.settings.means == frozenset()
    for do, need in (
        (rig.cut, "power"),
        (rig.restore, "power"),
        (lambda: rig.unplug("gps"), "unplug gps"),
        (lambda: rig.plug("card"), "unplug card"),
        (lambda: rig.car("tap", uid="00"), "played card"),
        (lambda: rig.car("gps", on=False), "played gps"),
        (lambda: rig.machine, "guest"),
    ):
        with pytest.raises(
            GuestError, match=re.escape(f'has not {MEANS[need]}: add it, or mark the test needs("{need}")')
        ):
            do()


TELLS = {"provision request": " ".join(["11111"] * 8), "box add": " ".join(["22222"] * 8)}
"""Fingerprints: the box's, and the commune's."""


class Recorder:
    """A hand that only takes down what it is given, and finds all well."""

    def __init__(self) -> None:
        self.given: list[tuple[str, bytes]] = []

    def run(self, *argv: str | Path, stdin: bytes = b"", timeout_s: float = 60.0) -> Said:
        assert timeout_s > 0
        self.given.append((" ".join(map(str, argv)), stdin))
        answers = {HTTP: 'HTTP/1.1 200 OK\r\n\r\n{"broker_connected": true}', "/run/rig/car": '{"locked": true}'}
        if argv[0] == ASK:
            return Said(0, answers.get(str(argv[1]), ""))
        told = next((TELLS[each] for each in TELLS if each in self.given[-1][0] + stdin.decode("latin-1")), "")
        return Said(0, told)

    def put(self, name: str) -> bytes:
        """What was written to a file of this name, last."""
        return [stdin for command, stdin in self.given if f"/dev/stdin {name} " in command][-1]


def test_with_wires_each_machine_gets_what_is_its_own() -> None:
    box, beside = Recorder(), Recorder()
    rig = Rig(load_rig(WIRED))
    rig.place, rig.beside = Place(box), Place(beside)
    rig.shell, rig.put = rig.place.shell, rig.place.put
    rig.start_car()
    for link in ("can0", "can1"):
        assert any(f"ip link set {link} up type can bitrate 500000" in command for command, _ in beside.given), link
    assert beside.put("/opt/bench/rig.toml") == WIRED.read_bytes()
    assert box.given == []
    Commune(rig).found()
    said = [command + stdin.decode("latin-1") for command, stdin in (*box.given, *beside.given)]
    assert any("box add" in each and "--fingerprint '11111 " in each for each in said)
    assert any("provision accept" in each and "--commune '22222 " in each for each in said)
    assert b"listener 8883 \n" in beside.put("/etc/mosquitto/conf.d/bench.conf")
    assert {name for name in ("broker", "cloud", "box") if any(f"{name}.key" in each for each, _ in box.given)} == {
        "box"
    }
    broker = x509.load_pem_x509_certificate(beside.put("/etc/mosquitto/bench/broker.pem"))
    names = broker.extensions.get_extension_for_class(x509.SubjectAlternativeName).value
    assert names.get_values_for_type(x509.DNSName) == ["localhost", "car.local"]


def test_a_broker_may_be_known_by_its_address() -> None:
    pem, _ = Certifier().issue("broker", "192.0.2.7")
    names = x509.load_pem_x509_certificate(pem).extensions.get_extension_for_class(x509.SubjectAlternativeName).value
    assert [str(each) for each in names.get_values_for_type(x509.IPAddress)] == ["192.0.2.7"]


def collect(rig: str | Path | None) -> str:
    """What ``make hil RIG=...`` would run, and what it says at the end."""
    kept = {name: value for name, value in os.environ.items() if not name.startswith(("PYTEST", "RIG"))}
    command = [
        sys.executable,
        "-m",
        "pytest",
        "-p",
        "no:cacheprovider",
        "-m",
        "hil",
        "--collect-only",
        "-q",
        "tests/hil",
    ]
    env = kept | ({} if rig is None else {"RIG": str(rig)})
    done = subprocess.run(command, cwd=ROOT, env=env, capture_output=True, text=True, check=False)
    return done.stdout + done.stderr


def test_nothing_is_left_out_in_the_guest_but_the_pi() -> None:
    chosen, _, listed = collect(None).partition("can't run")
    assert "tests/hil/test_1_boots.py::test_the_guest_is_the_bench" in chosen
    assert re.findall(r"tests/hil/\w+\.py::\w+", listed) == [
        "tests/hil/test_11_pi.py::test_the_box_as_shipped_finds_a_pis_own_pins"
    ]


def test_a_test_that_a_rig_cannot_run_is_left_out_by_name(tmp_path: Path) -> None:
    file = tmp_path / "bare.toml"
    file.write_text(without(without(WIRED.read_text(), "adapter"), "power"))
    chosen, _, listed = collect(file).partition(f"tests that {file} can't run")
    unplugged = "tests/hil/test_4_gps.py::test_a_receiver_that_was_unplugged_is_found_again"
    guests = "tests/hil/test_1_boots.py::test_the_guest_is_the_bench"
    assert f"{unplugged} needs {MEANS['unplug gps']}" in listed
    assert f"{guests} needs {MEANS['guest']}" in listed
    assert unplugged not in chosen
    assert guests not in chosen
    assert "tests/hil/test_7_rental.py::test_a_rental_from_the_tap_to_the_cloud" in chosen
    assert "test_7_rental" not in listed
    whole = collect(WIRED)
    assert unplugged in whole.partition("can't run")[0]
    assert unplugged not in whole.partition("can't run")[2]


def test_a_rigs_mistake_ends_the_run_with_a_clear_word(tmp_path: Path) -> None:
    file = tmp_path / "rig.toml"
    before, _, after = WIRED.read_text().partition("[can]")
    file.write_text(f"{before}[cam]{after}")
    line = before.count("\n") + 1
    assert f'{file}:{line}: cam: unknown section; did you mean "car"?' in collect(file)


def test_a_contact_never_drives_its_line_high() -> None:
    """The car's ends on gpiozero's mock pins: what the box would see and feel at the other ends."""
    factory = MockFactory()
    lines = RealLines(factory)
    relay, contact = factory.pin(17), factory.pin(13)
    assert lines.read(17) is False
    assert (relay.function, relay.pull) == ("input", "down")
    relay.drive_high()
    assert lines.read(17) is True
    for up, function in ((True, "input"), (False, "output"), (True, "input"), (True, "input"), (False, "output")):
        lines.pull(13, up=up)
        assert contact.function == function
        assert function == "input" or contact.state is False
    assert all(not (each.state and contact.function == "output") for each in contact.states)
    lines.pull(13, up=True)
    assert contact.pull == "floating"
    lines.close()
