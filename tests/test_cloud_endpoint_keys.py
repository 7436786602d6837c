"""Other keys for the endpoint: proposed here, signed where a root is, adopted here, and heard of late by a box."""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

import pytest

from cloud_sync import documents as d
from cloud_sync.carrier_settings import Outgoing
from cloud_sync.endpoint import key_rotation, lists, views
from cloud_sync.endpoint.__main__ import main
from cloud_sync.endpoint.authority import Authority, AuthorityError
from cloud_sync.endpoint.ingest import Ingest
from cloud_sync.endpoint.store import Store, sqlite_url
from cloud_sync.wire import Topic, build_topic
from onboard.core.clock import ClockQuality, Instant
from onboard.core.events import AckReceived, Event, KeySetTaken, ListReceived
from onboard.mail import Identity, Mail
from tests.cloud_rig import NOW_S, WHOLE_RENTAL, Box, Cloud, make_cloud

CAR = "hede-1"
DAY_S = 86_400


def rotate(folder: Path, now_s: int, *, stolen: bool = False, root: int = 1) -> bytes:
    """Go through the three steps; return the signed key set."""
    key_rotation.propose(folder, now_s, stolen=stolen)
    signer = d.Signer.load(folder / "offline" / f"root-{root}.pem")
    _, signed = key_rotation.sign((folder / "key_set.proposal").read_bytes(), signer)
    key_rotation.adopt(folder, signed)
    return signed


def restarted(cloud: Cloud) -> Cloud:
    """Return the endpoint after its next start, on the same database."""
    cloud.store.close()
    authority, store = Authority(cloud.folder), Store(sqlite_url(cloud.folder / "data" / "cloud.sqlite3"))
    return Cloud(cloud.folder, store, authority, Ingest(store, authority))


class Rows:
    """A box's rows, and the key sets that it keeps."""

    def __init__(self, box: Box) -> None:
        self._box = box
        self.kept: list[int] = []

    async def rows(self, from_seq: int, to_seq: int) -> list[d.Row]:
        return self._box.rows[from_seq - 1 : to_seq]

    async def digest(self, seq: int) -> bytes | None:
        return self._box.rows[seq - 1].digest if seq else d.GENESIS

    async def oldest(self) -> int:
        return 1

    async def keep_keys(self, version: int, document: bytes) -> None:
        assert document
        self.kept.append(version)


class NoTime:
    """A clock that was never set."""

    def now(self) -> Instant:
        return Instant(100.0, 0.0, ClockQuality.UNSET)


@dataclass
class Car:
    """The production mail room of a box, with the log of ``tests.cloud_rig``."""

    box: Box
    rows: Rows
    mail: Mail
    events: list[Event]
    sent: list[bytes]

    @classmethod
    def of(cls, box: Box) -> Car:
        events: list[Event] = []
        sent: list[bytes] = []
        given, rows = box.given, Rows(box)
        me = Identity(given.vehicle, given.agreement, given.signing, given.roots)

        def take(_topic: Topic, payload: bytes) -> bool:
            sent.append(payload)
            return True

        mail = Mail(me, rows, box.store_id, NoTime(), events.append, take)
        mail.load_key_set(given.key_set, given.key_set_floor)
        return cls(box, rows, mail, events, sent)

    def hear(self, messages: list[Outgoing]) -> list[str]:
        """Take what the cloud sent, in order; return the refusals' words."""
        topics = {build_topic(CAR, topic): topic for topic in Topic}

        async def all_of_them() -> list[str]:
            return [await self.mail.receive(topics[each.topic], each.payload) for each in messages]

        return asyncio.run(all_of_them())

    def batch(self) -> bytes:
        asyncio.run(self.mail.send_batch(1, len(self.box.rows)))
        return self.sent[-1]

    def came(self, kind: type[Event]) -> int:
        return sum(isinstance(each, kind) for each in self.events)


@pytest.mark.parametrize("stolen", [False, True])
def test_a_box_that_was_away_over_two_rotations_loses_nothing_and_hears_everything(
    tmp_path: Path, *, stolen: bool
) -> None:
    cloud = make_cloud(tmp_path)
    car = Car.of(cloud.add(CAR))
    car.box.write(*WHOLE_RENTAL)
    for weeks in (2, 4):
        rotate(tmp_path, NOW_S + weeks * 7 * DAY_S, stolen=stolen)
    cloud = restarted(cloud)
    back_s = NOW_S + 40 * DAY_S
    # Its trips are sealed to a key that was replaced twice. They count, and it does not believe the answer yet.
    answers = cloud.ingest.handle(car.box.topic(Topic.BATCH), car.batch(), back_s)
    assert car.hear(answers) == [d.Reason.UNKNOWN_KEY_ID.word]
    assert car.came(AckReceived) == 0
    # Its status says which key set it holds: what verifies the rest comes before it.
    status = car.box.status(time_nonce=asyncio.run(car.mail.time_nonce()))
    answers = cloud.ingest.handle(car.box.topic(Topic.STATUS), status, back_s)
    assert [each.topic.rpartition("/")[2] for each in answers] == ["keys", "time", "list"]
    assert car.hear(answers) == ["", "", ""]
    assert (car.came(KeySetTaken), car.came(ListReceived)) == (1, 1)
    assert car.rows.kept == [NOW_S + 28 * DAY_S]
    # From now on it seals to the new key, and its trips are acknowledged: once, as the ones they are.
    assert d.sealed_to(car.batch()) == d.key_id(cloud.authority.key_set.sealing_public)
    answers = cloud.ingest.handle(car.box.topic(Topic.BATCH), car.sent[-1], back_s)
    assert car.hear(answers) == [""]
    assert car.events[-1] == AckReceived(car.box.store_id, len(WHOLE_RENTAL))
    assert cloud.ingest.counts["rows_new"] == len(WHOLE_RENTAL)
    assert not cloud.ingest.refused


def test_a_list_that_the_old_key_signed_is_issued_anew(tmp_path: Path) -> None:
    cloud = make_cloud(tmp_path)
    box = cloud.add(CAR)
    made = cloud.store.box(CAR)
    assert made is not None
    before = lists.current(cloud.store, cloud.authority, made, NOW_S)
    rotate(tmp_path, NOW_S, stolen=True)
    cloud = restarted(cloud)
    after = lists.current(cloud.store, cloud.authority, made, NOW_S + 1)
    assert after.version > before.version
    assert d.decode_reservation_list(after.document, cloud.authority.key_set, box.given.agreement, CAR).version
    with pytest.raises(d.Refused, match="unknown_key_id"):
        d.decode_reservation_list(before.document, cloud.authority.key_set, box.given.agreement, CAR)
    assert lists.current(cloud.store, cloud.authority, made, NOW_S + 2) == after, "and not again and again"


@pytest.mark.parametrize(("rotations", "holds"), [([False], True), ([True], False), ([False, False], False)])
def test_what_the_keys_before_signed_holds_over_one_rotation_unless_they_were_stolen(
    tmp_path: Path, rotations: list[bool], *, holds: bool
) -> None:
    cloud = make_cloud(tmp_path)
    cloud.add(CAR)
    ack = cloud.authority.sign_ack(d.Ack(CAR, b"store-id-16bytes", 3, b"d" * 32))
    for number, stolen in enumerate(rotations):
        rotate(tmp_path, NOW_S + number, stolen=stolen)
    now = Authority(tmp_path)
    assert d.decode_ack(now.sign_ack(d.Ack(CAR, b"store-id-16bytes", 3, b"d" * 32)), now.key_set, CAR).up_to_seq == 3
    if holds:
        assert d.decode_ack(ack, now.key_set, CAR).up_to_seq == 3
    else:
        with pytest.raises(d.Refused, match="unknown_key_id"):
            d.decode_ack(ack, now.key_set, CAR)


def test_private_halves_that_nothing_lists_any_more_go_and_sealing_keys_stay(tmp_path: Path) -> None:
    make_cloud(tmp_path)
    keys = tmp_path / "keys"
    before = {path.name for path in keys.glob("*.pem")}
    rotate(tmp_path, NOW_S)
    assert before < {path.name for path in keys.glob("*.pem")}
    rotate(tmp_path, NOW_S + 1, root=2)
    names = sorted(path.name for path in keys.glob("*.pem"))
    assert names == sorted(
        [f"{role}-{NOW_S + off}.pem" for role in ("lists", "sync", "command", "boxes") for off in (0, 1)]
        + ["sealing.pem", f"sealing-{NOW_S}.pem", f"sealing-{NOW_S + 1}.pem"]
    )
    assert {path.stat().st_mode & 0o777 for path in keys.glob("*.pem")} == {0o600}


def test_the_key_for_updates_stays_listed(tmp_path: Path) -> None:
    cloud = make_cloud(tmp_path)
    before = [key for key in cloud.authority.key_set.keys if d.DocumentType.UPDATE in key.types]
    rotate(tmp_path, NOW_S, stolen=True)
    assert [key for key in Authority(tmp_path).key_set.keys if d.DocumentType.UPDATE in key.types] == before
    assert len(before) == 1


def test_nothing_changes_before_the_signed_key_set_is_adopted(tmp_path: Path) -> None:
    cloud = make_cloud(tmp_path)
    made = key_rotation.propose(tmp_path, NOW_S, stolen=False)
    after = Authority(tmp_path)
    assert after.key_set_document == cloud.authority.key_set_document
    assert after.kid("lists") == cloud.authority.kid("lists")
    with pytest.raises(AuthorityError, match="waits to be signed"):
        key_rotation.propose(tmp_path, NOW_S, stolen=False)
    assert made.version > after.key_set.version


def test_two_who_propose_in_one_second_do_not_mix_their_keys(tmp_path: Path) -> None:
    make_cloud(tmp_path)
    key_rotation.propose(tmp_path, NOW_S, stolen=False)
    before = {path: path.read_bytes() for path in (tmp_path / "keys").glob("*.pem")}
    (tmp_path / "key_set.proposal").unlink()
    with pytest.raises(AuthorityError, match="somebody else proposes"):
        key_rotation.propose(tmp_path, NOW_S, stolen=False)
    assert {path: path.read_bytes() for path in (tmp_path / "keys").glob("*.pem")} == before
    key_rotation.propose(tmp_path, NOW_S + 1, stolen=False)


def strange(folder: Path, _signed: bytes) -> bytes:
    return key_rotation.sign((folder / "key_set.proposal").read_bytes(), d.Signer.generate())[1]


def older(folder: Path, _signed: bytes) -> bytes:
    now = Authority(folder).key_set
    root = d.Signer.load(folder / "offline" / "root-1.pem")
    return d.encode_key_set(d.KeySet(now.version - 1, now.keys, now.sealing_public), root)


def another_of_that_version(folder: Path, _signed: bytes) -> bytes:
    now = Authority(folder).key_set
    root = d.Signer.load(folder / "offline" / "root-2.pem")
    return d.encode_key_set(d.KeySet(now.version, now.keys[:-1], now.sealing_public), root)


def another_than_proposed(folder: Path, _signed: bytes) -> bytes:
    made = d.read_proposal((folder / "key_set.proposal").read_bytes())
    root = d.Signer.load(folder / "offline" / "root-2.pem")
    return d.encode_key_set(d.KeySet(made.version + 1, made.keys, made.sealing_public), root)


def without_private_half_of(role: str) -> Callable[[Path, bytes], bytes]:
    def spoil(folder: Path, signed: bytes) -> bytes:
        (folder / "keys" / f"{role}-{NOW_S}.pem").unlink()
        return signed

    return spoil


def without_the_sealing_key(folder: Path, signed: bytes) -> bytes:
    (folder / "keys" / f"sealing-{NOW_S}.pem").unlink()
    return signed


@pytest.mark.parametrize(
    ("spoil", "why"),
    [
        (strange, "unknown_key_id"),
        (older, "is older than"),
        (another_of_that_version, "propose again"),
        (another_than_proposed, "is not what"),
        *[(without_private_half_of(role), rf"{role}\*\.pem") for role in ("lists", "sync", "command")],
        (without_the_sealing_key, r"sealing\*\.pem"),
        (lambda _folder, signed: signed[:-1], "not_cbor"),
        (lambda folder, _signed: (folder / "key_set.proposal").read_bytes(), "bad_envelope"),
    ],
)
def test_what_cannot_be_adopted_is_refused_and_changes_nothing(
    tmp_path: Path, spoil: Callable[[Path, bytes], bytes], why: str
) -> None:
    make_cloud(tmp_path)
    key_rotation.propose(tmp_path, NOW_S, stolen=True)
    root = d.Signer.load(tmp_path / "offline" / "root-1.pem")
    signed = key_rotation.sign((tmp_path / "key_set.proposal").read_bytes(), root)[1]
    before = (tmp_path / "key_set.cbor").read_bytes()
    document = spoil(tmp_path, signed)
    with pytest.raises((AuthorityError, d.Refused), match=why):
        key_rotation.adopt(tmp_path, document)
    assert (tmp_path / "key_set.cbor").read_bytes() == before
    assert (tmp_path / "key_set.proposal").exists()


def test_adopted_once_more_it_does_no_harm_to_the_next_that_waits(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    make_cloud(tmp_path)
    signed = tmp_path / "first.signed"
    signed.write_bytes(rotate(tmp_path, NOW_S))
    key_rotation.propose(tmp_path, NOW_S + 1, stolen=True)
    before = sorted((tmp_path / "keys").iterdir())
    assert main(["keys", "adopt", str(tmp_path), str(signed)]) == 0
    assert "Nothing was changed" in capsys.readouterr().out
    assert sorted((tmp_path / "keys").iterdir()) == before
    root = d.Signer.load(tmp_path / "offline" / "root-1.pem")
    key_rotation.adopt(tmp_path, key_rotation.sign((tmp_path / "key_set.proposal").read_bytes(), root)[1])


def test_another_key_under_a_known_id_is_signed_by_no_root_and_taken_by_no_box(tmp_path: Path) -> None:
    """Whoever stands at the root compares ids with what was printed at the endpoint."""
    make_cloud(tmp_path)
    made = key_rotation.propose(tmp_path, NOW_S, stolen=False)
    root = d.Signer.load(tmp_path / "offline" / "root-1.pem")
    keys = list(made.keys)
    keys[-1] = d.AuthorityKey(keys[-1].kid, d.Signer.generate().public, keys[-1].types)
    changed = d.propose_key_set(d.KeySet(made.version, tuple(keys), made.sealing_public))
    with pytest.raises(d.Refused, match="contradiction"):
        key_rotation.sign(changed, root)


def test_a_box_with_a_newer_key_set_than_the_endpoint_is_an_alarm(tmp_path: Path) -> None:
    cloud = make_cloud(tmp_path)
    box = cloud.add(CAR)
    version = cloud.authority.key_set.version
    for ahead, kinds in ((0, []), (1, ["key_set_ahead"])):
        cloud.ingest.handle(box.topic(Topic.STATUS), box.status(key_set_version=version + ahead), NOW_S)
        with cloud.store.read() as db:
            assert [alarm.kind for alarm in views.alarms(db)] == kinds
            [vehicle] = views.vehicles(db)
        assert vehicle.key_set_version == version + ahead, "shown for each car"


def test_the_three_commands_say_what_they_did_and_what_comes_next(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    folder, signed = tmp_path / "cloud", tmp_path / "key_set.signed"
    root = folder / "offline" / "root-1.pem"
    assert main(["init", str(folder)]) == 0
    capsys.readouterr()
    assert main(["keys", "propose", str(folder)]) == 0
    proposed = capsys.readouterr().out
    assert "keys sign key_set.proposal" in proposed
    assert main(["keys", "sign", str(folder / "key_set.proposal"), "--root", str(root), "--out", str(signed)]) == 0
    said = capsys.readouterr().out
    shown = [line for line in proposed.splitlines() if line.startswith("  ")]
    assert sum(line.endswith("for a while)") for line in shown) == 4
    assert len(shown) == 9  # a version, the sealing key, three new ones, three old ones, the one for updates
    assert [line for line in said.splitlines() if line.startswith("  ")] == shown, "to be compared by eye"
    assert main(["keys", "adopt", str(folder), str(signed)]) == 0
    assert "Restart it now" in capsys.readouterr().out
    assert main(["keys", "sign", str(signed), "--root", str(root), "--out", str(tmp_path / "x")]) == 1
    assert "amibox-cloud: " in capsys.readouterr().err
