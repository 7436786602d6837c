"""The town hall's side of updates: made, signed offline, published, and sent piece by piece over a line that loses."""

from __future__ import annotations

import asyncio
import io
import random
import shutil
import subprocess
import sys
import zipfile
from collections.abc import Iterator
from pathlib import Path

import pytest

from cloud_sync.carrier_settings import Outgoing
from cloud_sync.documents import Refused, Signer, UpdateProgress
from cloud_sync.documents.update import head_of
from cloud_sync.endpoint import updates, views
from cloud_sync.endpoint.__main__ import main
from cloud_sync.endpoint.ingest import Ingest
from cloud_sync.endpoint.updates import Updates, bundle_path, files_of, make_bundle, make_content, needs_of, read_bundle
from cloud_sync.wire import Topic, parse_topic
from onboard.inbox import BUNDLE, KEYS, Inbox
from onboard.mail import Identity, Mail
from tests.cloud_rig import NOW_S, Box, Cloud, make_cloud
from tests.conftest import ROOT
from tests.test_onboard_mail import Shelf, Still
from tests.update_rig import bundle


@pytest.fixture
def cloud(tmp_path: Path) -> Iterator[Cloud]:
    made = make_cloud(tmp_path / "cloud")
    made.ingest = Ingest(made.store, made.authority, updates=Updates(bundle_path(made.folder), made.authority.key_set))
    yield made
    made.store.close()


@pytest.fixture
def key(cloud: Cloud) -> Signer:
    return Signer.load(cloud.folder / "offline" / "update.pem")


@pytest.fixture
def box(cloud: Cloud) -> Box:
    return cloud.add("ami-1")


def publish(cloud: Cloud, data: bytes) -> int:
    file = cloud.folder / "to-publish"
    file.write_bytes(data)
    return main(["update", "publish", str(file), "--dir", str(cloud.folder)])


def answers(cloud: Cloud, box: Box, **changes: object) -> list[Outgoing]:
    messages = cloud.ingest.handle(box.topic(Topic.STATUS), box.status(**{"software": "0.1.0"} | changes), NOW_S)
    return [each for each in messages if parse_topic(each.topic)[1] in (Topic.UPDATE, Topic.PIECE)]


def sorts(messages: list[Outgoing]) -> list[Topic]:
    return [parse_topic(each.topic)[1] for each in messages]


def test_make_is_the_same_bytes_for_the_same_files_wherever_they_lie(tmp_path: Path, key: Signer) -> None:
    for package in updates.PACKAGES:
        shutil.copytree(ROOT / package, tmp_path / "copy" / package)
    for file in ("pyproject.toml", "constraints.txt"):
        shutil.copy(ROOT / file, tmp_path / "copy")
    assert make_bundle(ROOT, "0.2.0", key) == make_bundle(tmp_path / "copy", "0.2.0", key)


def test_a_bundle_holds_the_boxs_own_files_and_nothing_of_the_commune_or_the_tests() -> None:
    names = zipfile.ZipFile(io.BytesIO(make_content(files_of(ROOT), "0.2.0"))).namelist()
    assert "onboard/core/machine.py" in names
    assert "hw/models/ami/signals.dbc" in names
    assert "cloud_sync/uplink.py" in names
    others = [
        name for name in names if not name.startswith(("onboard/", "hw/", "cloud_sync/", "amibox-0.2.0.dist-info/"))
    ]
    assert not others
    assert not [name for name in names if "endpoint" in name or "__pycache__" in name]
    assert needs_of(ROOT)[0].startswith("cantools==")


def test_what_is_made_runs_by_itself_from_where_it_lies(tmp_path: Path, key: Signer) -> None:
    """Python imports from the bundle, its models come from there, and it says its own version."""
    (tmp_path / "a").write_bytes(make_bundle(ROOT, "0.77.0", key))
    config = tmp_path / "box.toml"
    config.write_text('[car]\nmodel = "ami"\n')
    done = subprocess.run(
        [sys.executable, "-P", "-m", "onboard", "check", "--config", str(config)],
        env={"PYTHONPATH": str(tmp_path / "a")},
        cwd=tmp_path,
        capture_output=True,
        text=True,
        check=False,
    )
    assert (done.returncode, done.stdout) == (0, f"amibox 0.77.0: {config} and the model ami are fit\n"), done.stderr
    config.write_text('[car]\nmodel = "tractor"\n')
    again = subprocess.run(
        done.args, env={"PYTHONPATH": str(tmp_path / "a")}, cwd=tmp_path, capture_output=True, text=True, check=False
    )
    assert again.returncode == 2
    assert "ami" in again.stderr
    assert "leaf" in again.stderr


def test_the_command_makes_publishes_shows_and_withdraws(
    cloud: Cloud, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    out, folder = tmp_path / "bundle", ["--dir", str(cloud.folder)]
    signing = ["--key", str(cloud.folder / "offline" / "update.pem"), "--source", str(ROOT), "--out"]
    assert main(["update", "show", *folder]) == 0
    assert main(["update", "make", "0.2.0", *signing, str(out)]) == 0
    assert main(["update", "publish", str(out), *folder]) == 0
    assert main(["update", "show", *folder]) == 0
    told = capsys.readouterr().out
    assert "No update is offered" in told
    assert "Version 0.2.0 is offered from now on" in told
    assert "  cryptography==" in told
    assert main(["update", "make", "0.1.9", *signing, str(tmp_path / "older")]) == 0
    assert main(["update", "publish", str(tmp_path / "older"), *folder]) == 1
    assert "0.2.0 is offered already" in capsys.readouterr().err
    assert main(["update", "make", "0.2", *signing, str(tmp_path / "odd")]) == 1
    assert main(["update", "make", "0.2.0", *signing[:3], str(tmp_path), "--out", str(tmp_path / "odd")]) == 1
    assert "name the folder of the project with --source" in capsys.readouterr().err
    assert main(["update", "withdraw", *folder]) == 0
    assert not bundle_path(cloud.folder).exists()


def test_a_damaged_or_a_strangers_bundle_is_not_published(
    cloud: Cloud, key: Signer, capsys: pytest.CaptureFixture[str]
) -> None:
    good = bundle("0.2.0", signer=key)
    assert publish(cloud, good[:-1]) == 1
    assert "not what was signed" in capsys.readouterr().err
    assert publish(cloud, bundle("0.2.0")) == 1
    assert publish(cloud, b"x") == 1
    assert not bundle_path(cloud.folder).exists()
    with pytest.raises(Refused):
        read_bundle(bundle("0.2.0"), cloud.authority.key_set)


def test_a_status_is_answered_by_what_the_box_lacks(cloud: Cloud, box: Box, key: Signer) -> None:
    data = bundle("0.2.0", 10 * 32_768, signer=key)
    assert answers(cloud, box) == []
    assert publish(cloud, data) == 0
    first = answers(cloud, box)
    assert sorts(first) == [Topic.UPDATE, *[Topic.PIECE] * updates.WINDOW]
    assert first[0].payload == head_of(data)
    offered = Updates(bundle_path(cloud.folder), cloud.authority.key_set).offer
    assert offered is not None
    assert sorts(answers(cloud, box, update=UpdateProgress(offered.id, 8, ""))) == [Topic.PIECE] * 3
    assert answers(cloud, box, update=UpdateProgress(offered.id, 11, "complete")) == []
    assert answers(cloud, box, update=UpdateProgress(offered.id, 256, "refused: no")) == [], "it has spoken"
    assert sorts(answers(cloud, box, update=UpdateProgress(bytes(32), 256, "0.1.0 runs")))[0] is Topic.UPDATE
    assert answers(cloud, box, software="0.2.0") == []
    assert answers(cloud, box, software="0.3.0") == []
    assert sorts(answers(cloud, box, software="a developer's"))[0] is Topic.UPDATE


def test_what_a_car_does_with_an_update_is_shown(cloud: Cloud, box: Box) -> None:
    answers(cloud, box, software="0.1.9", update=UpdateProgress(bytes(32), 3, "3 of 10 pieces"))
    with cloud.store.read() as db:
        (car,) = views.vehicles(db)
    assert (car.software, car.update) == ("0.1.9", "3 of 10 pieces")
    answers(cloud, box, software="0.1.9")
    with cloud.store.read() as db:
        assert views.vehicles(db)[0].update == ""


def test_a_spoiled_file_is_not_offered_and_a_new_one_is_at_once(cloud: Cloud, box: Box, key: Signer) -> None:
    assert publish(cloud, bundle("0.2.0", signer=key)) == 0
    assert answers(cloud, box)
    bundle_path(cloud.folder).write_bytes(b"spoiled")
    assert answers(cloud, box) == []
    assert main(["update", "withdraw", "--dir", str(cloud.folder)]) == 0
    assert publish(cloud, bundle("0.3.0", signer=key)) == 0
    assert answers(cloud, box)


@pytest.mark.parametrize("seed", range(5))
def test_over_a_line_that_loses_doubles_and_breaks_the_bundle_arrives_whole(
    cloud: Cloud, box: Box, key: Signer, tmp_path: Path, seed: int
) -> None:
    """Cloud and box as they are, and between them nothing that can be relied on; the box restarts, too."""
    data = bundle("0.2.0", 30 * 32_768, signer=key)
    assert publish(cloud, data) == 0
    for name in ("inbox", "slots"):
        (tmp_path / name).mkdir()
    chance, given = random.Random(seed), box.given  # noqa: S311 - to be repeated

    def switched_on() -> Mail:
        mail = Mail(
            Identity(given.vehicle, given.agreement, given.signing, given.roots),
            Shelf([]),
            bytes(16),
            Still(),
            lambda _event: None,
            lambda _topic, _payload: True,
        )
        mail.inbox = Inbox(tmp_path / "inbox", tmp_path / "slots", "0.1.0")
        mail.load_key_set(given.key_set, 0)
        assert mail.key_set is not None
        mail.inbox.resume(mail.key_set)
        return mail

    mail = switched_on()
    for _statuses in range(200):
        if (tmp_path / "inbox" / BUNDLE).exists():
            break
        assert mail.inbox is not None
        messages = answers(cloud, box, update=mail.inbox.progress())
        for message in messages:
            for _ in range(chance.choice((0, 0, 1, 1, 1, 1, 2))):
                asyncio.run(mail.receive(parse_topic(message.topic)[1], message.payload))
        if chance.random() < 0.2:
            mail = switched_on()
    assert (tmp_path / "inbox" / BUNDLE).read_bytes() == data
    assert (tmp_path / "inbox" / KEYS).read_bytes() == given.key_set, "for the updater"
