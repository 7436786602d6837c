"""``amibox provision``: what a technician types, what it writes, and what it leaves alone."""

from __future__ import annotations

import io
import re
import stat
from dataclasses import replace
from pathlib import Path

import pytest

from cloud_sync.documents import decode_box_request, fingerprint, roots_fingerprint
from cloud_sync.endpoint.boxes import uplink
from cloud_sync.provisioning import PROVISIONING, load_keys, load_provisioning, write_whole
from hw import desk, inspect_can, inspect_nmea
from onboard import provision
from onboard.cli import Commands, main
from onboard.config import ConfigError, check_devices, load_config
from onboard.core.clock import ClockQuality, Instant
from onboard.core.records import SupplyChanged
from onboard.core.state import Rental
from onboard.store import Store
from tests.document_rig import CAR, ROOTS
from tests.store_rig import RENTAL
from tests.test_cloud_provisioning import answer_for

TOWN = '[car]\nmodel = "ami"\n\n' + uplink("broker.example.org")
STATION = '[[station]]\nid = "hede"\nname = "Hédé"\nlatitude = 48.3\nlongitude = -1.8\n'
DIGITS = roots_fingerprint(ROOTS)


@pytest.fixture
def box(tmp_path: Path) -> Path:
    return tmp_path / "box"


def amibox(*words: object) -> int:
    commands = Commands(run=lambda _: 0, inspect_can=inspect_can, inspect_nmea=inspect_nmea, desk=desk)
    return main(commands, ["provision", *map(str, words)])


def answered(box: Path, tmp_path: Path, **changes: object) -> Path:
    file = tmp_path / "answer.cbor"
    file.write_bytes(
        answer_for(load_keys(box), **{"town": TOWN + STATION, "ca": b"CA", "certificate": b"BOX", **changes})
    )
    return file


def fit(box: Path, tmp_path: Path) -> None:
    assert amibox("request", "--directory", box) == 0
    assert amibox("accept", answered(box, tmp_path), "--commune", DIGITS, "--directory", box) == 0


def test_a_request_is_digits_to_read_out_and_a_code_that_a_phone_reads(
    box: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    assert amibox("request", "--directory", box) == 0
    said = capsys.readouterr().out
    request = load_keys(box).request
    digits = fingerprint(decode_box_request(request).digest)
    assert digits in said
    assert bytes.fromhex("".join(re.findall(r"(?m)^[0-9A-F]+$", said))) == request
    file, svg, png = tmp_path / "request.cbor", tmp_path / "request.svg", tmp_path / "request.png"
    for out in (file, svg, png):
        assert amibox("request", "--directory", box, "--out", out) == 0
        assert digits in capsys.readouterr().out
    assert file.read_bytes() == request
    assert svg.read_bytes().startswith(b"<?xml")
    assert png.read_bytes().startswith(b"\x89PNG")
    assert amibox("request", "--directory", box, "--qr") == 0
    shown = [line for line in capsys.readouterr().out.splitlines() if "█" in line or "▀" in line or "▄" in line]
    assert 20 < len(shown) < 60, "a screen of a terminal"
    assert max(map(len, shown)) < 80


def test_an_answer_writes_all_that_the_box_starts_with_and_says_what_comes_next(
    box: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    fit(box, tmp_path)
    assert "systemctl restart amibox" in capsys.readouterr().out
    assert (box / "ca.pem").read_bytes() == b"CA"
    assert (box / "box.pem").read_bytes() == b"BOX"
    assert {stat.S_IMODE(file.stat().st_mode) for file in box.iterdir() if file.is_file()} == {0o600}
    (tmp_path / "box.toml").write_text(f'[box]\nprovisioning = "{box}/provisioning.cbor"\ndata_dir = "{box}"\n')
    config = load_config(tmp_path / "box.toml")
    assert config.car.model == "ami"
    assert config.uplink is not None
    assert (config.uplink.host, config.uplink.ca_file) == ("broker.example.org", box / "ca.pem")
    assert [each.id for each in config.policy.stations] == ["hede"]
    assert config.uplink.key_file == box / "keys" / "tls.pem"
    assert check_devices(config) == ()
    (box / "ca.pem").unlink()
    assert str(check_devices(config)[0]).startswith(f"{box}/town.toml:7: uplink.ca_file: ")


@pytest.mark.parametrize(("said", "code"), [("yes\n", 0), ("OUI\n", 0), ("no\n", 1), ("", 1)])
def test_a_first_answer_is_confirmed_by_the_town_halls_fingerprint(
    box: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str], said: str, code: int
) -> None:
    assert amibox("request", "--directory", box) == 0
    monkeypatch.setattr("sys.stdin", io.StringIO(said))
    assert amibox("accept", answered(box, tmp_path), "--directory", box) == code
    assert DIGITS in capsys.readouterr().out
    assert (box / PROVISIONING).exists() is (code == 0)
    assert (box / "town.toml").exists() is (code == 0)


def test_another_fingerprint_than_the_towns_refuses_and_writes_nothing(
    box: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    amibox("request", "--directory", box)
    wrong = fingerprint(bytes(32))
    assert amibox("accept", answered(box, tmp_path), "--commune", wrong, "--directory", box) == 1
    assert "unknown_key_id" in capsys.readouterr().err
    assert {path.name for path in box.iterdir()} == {"keys"}


def test_a_torn_or_older_answer_and_one_for_another_box_change_nothing(
    box: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    fit(box, tmp_path)
    before = {path: path.read_bytes() for path in box.rglob("*") if path.is_file()}
    whole = answered(box, tmp_path).read_bytes()
    other = tmp_path / "other"
    provision.request(other)
    for data, told in (
        (whole[:-3], "bad_envelope"),
        (b"", "bad_envelope"),
        (answer_for(load_keys(box), version=1, list_floor=0), "version_too_low"),
        (answer_for(load_keys(other)), "other_recipient"),
    ):
        file = tmp_path / "answer.cbor"
        file.write_bytes(data)
        assert amibox("accept", file, "--directory", box) == 1
        said = capsys.readouterr().err
        assert told in said or "not_cbor" in said
        assert "Nothing was changed" in said
    assert amibox("accept", tmp_path / "nothing", "--directory", box) == 1
    assert {path: path.read_bytes() for path in box.rglob("*") if path.is_file()} == before


def test_an_answer_as_text_from_a_message_is_taken_too(box: Path, tmp_path: Path) -> None:
    provision.request(box)
    data = answered(box, tmp_path).read_bytes()
    lines = "\n".join(data.hex()[at : at + 64] for at in range(0, len(data.hex()), 64))
    assert provision.accept(box, lines.encode(), lambda _: True).vehicle == CAR


def test_mistakes_of_the_town_hall_are_named_before_anything_is_written(
    box: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    provision.request(box)
    for town, told in (
        ('[car]\nmodel = "rocket"\n', 'town.toml:2: car.model: no car "rocket"'),
        (TOWN + STATION.replace("48.3", "148.3"), "station.0.latitude"),
        (TOWN + STATION + STATION, "stands twice"),
        ("[door]\nunlock_pin = 1\n", "unknown section"),
        ("[[", "not TOML"),
    ):
        assert amibox("accept", answered(box, tmp_path, town=town), "--commune", DIGITS, "--directory", box) == 1
        assert told in capsys.readouterr().err
    assert {path.name for path in box.iterdir()} == {"keys"}


def test_a_table_in_both_files_counts_as_the_technician_has_it_and_he_is_told(
    box: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    fit(box, tmp_path)
    file = tmp_path / "box.toml"
    file.write_text(
        f'[box]\nprovisioning = "{box}/provisioning.cbor"\n[[station]]\nid = "own"\nname = "Own"\n'
        "latitude = 1.0\nlongitude = 2.0\n"
    )
    config = load_config(file)
    assert [each.id for each in config.policy.stations] == ["own"]
    (told,) = config.shadows
    assert str(told).startswith(f"{file}:3: station: this counts")
    answer = answered(box, tmp_path)
    capsys.readouterr()
    assert amibox("accept", answer, "--directory", box, "--config", file) == 0
    assert f"Look at {told}" in capsys.readouterr().out
    (box / "town.toml").write_text(TOWN + STATION.replace("48.3", '"north"'))
    assert load_config(file).policy.stations[0].id == "own", "what does not count is not judged"
    (box / "town.toml").write_text(TOWN.replace("broker.example.org", ""))
    with pytest.raises(ConfigError, match=r"town\.toml:5: uplink\.host"):
        load_config(file)


def test_a_cut_before_the_last_file_leaves_a_box_that_takes_the_answer_again(
    box: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    provision.request(box)
    data = answered(box, tmp_path).read_bytes()

    def cut(path: Path, _content: bytes) -> None:
        raise OSError(f"the power went at {path.name}")

    for name in ("town.toml", "box.pem"):
        with monkeypatch.context() as patch:
            whole = write_whole
            patch.setattr(provision, "write_whole", lambda p, c, n=name, w=whole: cut(p, c) if p.name == n else w(p, c))
            with pytest.raises(OSError, match="power"):
                provision.accept(box, data, lambda _: True)
        assert not (box / PROVISIONING).exists()
    provision.accept(box, data, lambda _: True)
    assert load_provisioning(box / PROVISIONING).vehicle == CAR


def store(box: Path, *, acked: bool = True, rental: Rental | None = None) -> None:
    opened = Store.open(box, CAR, 0.0)
    kept = replace(opened.kept, rental=rental)
    kept = opened.store.commit(kept, [SupplyChanged("saving", 12.0)], Instant(1.0, 2e9, ClockQuality.GNSS), bytes(8))
    if acked:
        kept = opened.store.commit(
            replace(kept, outbox=replace(kept.outbox, acked_seq=kept.outbox.last_seq)),
            [],
            Instant(2.0, 2e9, ClockQuality.GNSS),
            bytes(8),
        )
    opened.store.close()


def reset(box: Path, tmp_path: Path, *words: str) -> int:
    return amibox("reset", "--directory", box, "--socket", tmp_path / "box.sock", *words)


def test_a_reset_leaves_nothing_and_the_next_request_has_other_keys(
    box: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    fit(box, tmp_path)
    store(box)
    before = load_keys(box).request
    assert reset(box, tmp_path) == 0
    assert list(box.iterdir()) == []
    assert "provision request" in capsys.readouterr().out
    assert provision.request(box).document != before
    with pytest.raises(Exception, match="other_recipient"):
        provision.accept(box, (tmp_path / "answer.cbor").read_bytes(), lambda _: True)


def test_a_reset_waits_for_what_the_commune_lacks(
    box: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    fit(box, tmp_path)
    store(box, acked=False)
    assert reset(box, tmp_path) == 1
    assert "not acknowledged the last 1 records" in capsys.readouterr().err
    assert (box / PROVISIONING).exists()
    assert reset(box, tmp_path, "--lose-unsent") == 0
    assert list(box.iterdir()) == []


def test_a_reset_does_not_take_the_box_from_a_running_rental(
    box: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    fit(box, tmp_path)
    store(box, rental=RENTAL)
    assert reset(box, tmp_path, "--lose-unsent") == 1
    assert "rental is running" in capsys.readouterr().err
    assert (box / PROVISIONING).exists()


def test_a_reset_refuses_while_the_daemon_has_the_store(
    box: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    fit(box, tmp_path)
    opened = Store.open(box, CAR, 0.0)
    assert reset(box, tmp_path) == 1
    assert "systemctl stop amibox" in capsys.readouterr().err
    opened.store.close()
    assert (box / PROVISIONING).exists()
    assert reset(tmp_path / "nothing", tmp_path) == 1


def test_a_reset_that_was_cut_is_done_again_and_the_daemon_does_not_start_in_between(
    box: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    fit(box, tmp_path)
    store(box)

    def cut(_path: Path) -> None:
        raise OSError("the power went")

    with monkeypatch.context() as patch:
        patch.setattr("shutil.rmtree", cut)
        assert reset(box, tmp_path) == 1
    with pytest.raises(ValueError, match="provisioning"):
        load_provisioning(box / PROVISIONING)
    assert reset(box, tmp_path) == 0
    assert list(box.iterdir()) == []
