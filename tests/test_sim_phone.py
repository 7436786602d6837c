"""A driver's phone: what it keeps, what it hands over, and its command."""

from __future__ import annotations

import asyncio
import json
import stat
from collections.abc import AsyncIterator, Sequence
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any

import pytest

from cloud_sync.documents import BoxSigner, radio_name
from cloud_sync.documents.answers import words
from cloud_sync.documents.conversation import Answer, Op
from cloud_sync.endpoint.models_phone import DOCUMENTS_MAX
from onboard.core.commands import Action
from sim import phone_cli
from sim.phone import GattError
from sim.phone_call import Call
from sim.phone_cloud import CloudError, HttpCloud
from sim.phone_wallet import Bag, BagError, Wallet
from tests.cloud_http_rig import make_town
from tests.document_rig import CAR
from tests.phone_rig import BOOKING, PhoneRig, listed_document, play, wallet


class Town:
    """A commune that takes as much as the real one at once, and fails at the ``fails_at``-th delivery."""

    def __init__(self, fails_at: int = 0) -> None:
        self.taken: list[bytes] = []
        self.deliveries = 0
        self._fails_at = fails_at

    async def documents(self, _vehicle: str, _heard: Answer | None) -> list[bytes]:
        return [b"list"]

    async def post(self, _vehicle: str, batches: list[bytes]) -> None:
        self.deliveries += 1
        assert 1 <= len(batches) <= DOCUMENTS_MAX
        if self.deliveries == self._fails_at:
            raise OSError("the network is gone")
        self.taken += batches


def test_a_phone_that_comes_late_hands_over_more_than_one_delivery_holds() -> None:
    carried = [bytes([number]) for number in range(40)]
    bag, town = Bag(CAR, up=list(carried)), Town()
    asyncio.run(bag.exchange(town))
    assert (town.taken, bag.up, bag.down) == (carried, [], [b"list"])


def test_what_was_not_taken_stays_in_the_bag() -> None:
    carried = [bytes([number]) for number in range(40)]
    bag, town = Bag(CAR, up=list(carried)), Town(fails_at=2)
    with pytest.raises(OSError, match="network"):
        asyncio.run(bag.exchange(town))
    assert town.taken + bag.up == carried
    assert len(bag.up) == 40 - DOCUMENTS_MAX


def test_wallet_and_bag_are_kept_for_their_owner_alone(tmp_path: Path) -> None:
    heard = Answer("ok", store_id=b"s" * 16, up_to_seq=9, acked_seq=3, counter=1)
    held, bag = wallet(BOOKING), Bag(CAR, down=[b"a"], up=[b"b", b"c"], heard=heard, last=(b"s" * 16, 9))
    held.save(tmp_path / "anna.json")
    bag.save(tmp_path / "bag")
    for file in tmp_path.iterdir():
        assert stat.S_IMODE(file.stat().st_mode) == 0o600
    again = Wallet.load(tmp_path / "anna.json")
    assert (again.box, again.booking, again.grant) == (held.box, held.booking, held.grant)
    assert again.key.public == held.key.public
    assert held.key.to_bytes().hex() not in repr(held)
    assert Bag.load(tmp_path / "bag", CAR) == bag
    assert Bag.load(tmp_path / "none", CAR) == Bag(CAR)
    with pytest.raises(BagError, match="trips may be in it"):
        Bag.load(tmp_path / "bag", "hede-2")
    (tmp_path / "bag").write_text("{")
    with pytest.raises(BagError, match="trips may be in it"):
        Bag.load(tmp_path / "bag", CAR)
    (tmp_path / "anna.json").chmod(0o644)
    with pytest.raises(ValueError, match="chmod 600"):
        Wallet.load(tmp_path / "anna.json")


def test_a_driver_hears_the_answer_before_the_phone_carries(tmp_path: Path) -> None:
    bag, heard = Bag(CAR, down=[listed_document(BOOKING, version=3)]), list[tuple[str, int, int]]()

    async def story(rig: PhoneRig) -> Answer:
        await rig.take(listed_document(BOOKING))
        return await rig.tap(
            wallet(BOOKING),
            Op.UNLOCK,
            bag=bag,
            tell=lambda answer: heard.append((answer.status, len(bag.down), len(bag.up))),
        )

    answer, rig, _ = play(tmp_path, story)
    assert heard == [("granted", 1, 0)]
    assert (answer.status, len(bag.down), len(bag.up)) == ("granted", 0, 1)
    assert rig.state.kept.grants.listed is not None
    assert rig.state.kept.grants.listed.version == 3


def test_the_command_makes_a_key_once_and_says_what_is_missing(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    file = str(tmp_path / "anna.json")
    for _ in range(2):
        assert phone_cli.main(["key", "--pass", file]) == 0
    first, second = capsys.readouterr().out.split()
    assert first == second == Wallet.load(tmp_path / "anna.json").key.public.hex()
    assert phone_cli.main(["unlock", "--pass", file]) == 2
    assert "no pass yet: amibox phone fetch BOOKING" in capsys.readouterr().err
    assert phone_cli.main(["fetch", "1" * 32, "--pass", file]) == 2
    assert "add --cloud" in capsys.readouterr().err
    assert phone_cli.main(["fetch", "1" * 32, "--pass", file, "--cloud", "http://127.0.0.1:9"]) == 1
    assert "can't be reached" in capsys.readouterr().err
    assert phone_cli.main(["status", "--pass", str(tmp_path / "nobody.json")]) == 2
    assert "amibox phone key" in capsys.readouterr().err
    (tmp_path / "other.json").write_text('{"key": 5}')
    (tmp_path / "other.json").chmod(0o600)
    assert phone_cli.main(["status", "--pass", str(tmp_path / "other.json")]) == 2
    assert "no file of amibox phone key" in capsys.readouterr().err
    assert phone_cli.main(["key", "--pass", str(tmp_path / "nowhere" / "anna.json")]) == 2
    assert "there is no folder" in capsys.readouterr().err
    assert BoxSigner.from_bytes(Wallet.load(tmp_path / "anna.json").key.to_bytes()).public.hex() == first


def test_a_member_of_staff_learns_a_cars_name_and_key(
    tmp_path: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    file, staff = tmp_path / "tech.json", "5a" * 16
    with make_town(tmp_path) as town:

        def ask(_cloud: HttpCloud, path: str, body: dict[str, Any] | None) -> Any:
            assert body is None
            return town.client.get(f"/api/v1/{path}").json()

        monkeypatch.setattr(HttpCloud, "_ask", ask)
        assert phone_cli.main(["key", "--pass", str(file)]) == 0
        words = ["staff", staff, "--vehicle", "ami-1", "--pass", str(file), "--cloud", "http://localhost:8080"]
        assert phone_cli.main(words) == 0
        box = town.box.given.agreement.public
    assert f"on the radio it is {radio_name(box)}" in capsys.readouterr().out
    held = Wallet.load(file)
    assert (held.vehicle, held.box, held.booking.hex(), held.grant) == ("ami-1", box, staff, b"")


class Hangs:
    """A commune at the end of a bad line: it notes when it was asked, and is never reached."""

    def __init__(self, _base: str, told: list[str]) -> None:
        self._told = told

    async def documents(self, _vehicle: str, _heard: Answer | None) -> list[bytes]:
        self._told.append("asked the commune")
        raise CloudError("the commune can't be reached", refused=False)

    async def post(self, _vehicle: str, _batches: list[bytes]) -> None:
        self._told.append("asked the commune")
        raise CloudError("the commune can't be reached", refused=False)


class Cut(Call):
    """A connection that ends with the read after so many."""

    reads = 10**6

    async def read(self, characteristic: str) -> bytes:
        self.reads -= 1
        if self.reads < 0:
            raise GattError("the connection failed")
        return await super().read(characteristic)


def at_the_car(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, *options: str, reads: Sequence[int] = ()
) -> tuple[int, PhoneRig, list[str]]:
    """Have the command open a box in this process; return its exit code, the box, and who was asked in which order.

    ``reads``: each connection is lost with the read after so many; those after them are not.
    """
    order: list[str] = []
    left = iter(reads)

    async def story(rig: PhoneRig) -> Answer:
        @asynccontextmanager
        async def connect(_name: str, _adapter: str | None = None) -> AsyncIterator[Cut]:
            order.append("connected")
            line = Cut(rig.box.phones, f"line {len(order)}", 247)
            line.reads = next(left, 10**6)
            try:
                yield line
            finally:
                rig.box.phones.gone(line.name)
                await rig.settled()

        monkeypatch.setattr(phone_cli, "connect", connect)
        monkeypatch.setattr(phone_cli, "HttpCloud", lambda base: Hangs(base, order))
        monkeypatch.setattr(phone_cli, "AGAIN_S", 0.01)
        await rig.take(listed_document(BOOKING))
        file = tmp_path / "anna.json"
        if not file.exists():
            wallet(BOOKING).save(file)
        args = phone_cli._parser().parse_args(["unlock", "--pass", str(file), *options])
        return Answer("ok", str(await phone_cli._at_the_car(args)))

    answer, rig, _ = play(tmp_path, story)
    return int(answer.reason), rig, order


def test_the_door_comes_first_and_a_commune_that_is_not_reached_costs_no_trip(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    code, rig, order = at_the_car(tmp_path, monkeypatch, "--cloud", "http://mairie")
    assert (code, order) == (0, ["connected", "asked the commune"])
    assert rig.door.pulses == [Action.UNLOCK]
    said = capsys.readouterr()
    assert said.out == "The door was opened. Have a good drive.\n"
    assert "can't be reached" in said.err
    bag = Bag.load(tmp_path / f"anna.json.{CAR}.bag", CAR)
    assert len(bag.up) == 1
    assert bag.heard is not None


def test_a_connection_lost_after_the_answer_is_no_failure_and_keeps_what_was_carried(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    # HELLO, the answer, what became of it; then the state of the log, and the cut.
    code, rig, order = at_the_car(tmp_path, monkeypatch, reads=[4])
    assert (code, order) == (0, ["connected"])
    assert rig.door.pulses == [Action.UNLOCK]
    assert capsys.readouterr().out == "The door was opened. Have a good drive.\n"
    assert Bag.load(tmp_path / f"anna.json.{CAR}.bag", CAR).up == []


def test_a_connection_lost_before_is_tried_again_and_the_car_does_it_once(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    # Nothing was heard; then the command came through, and its answer did not.
    code, rig, order = at_the_car(tmp_path, monkeypatch, reads=[0, 1])
    assert (code, order) == (0, ["connected"] * 3)
    assert rig.door.pulses == [Action.UNLOCK]


def test_what_waits_in_the_bag_is_not_taken_twice(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (tmp_path / "first").mkdir()
    at_the_car(tmp_path / "first", monkeypatch)
    bag = Bag.load(tmp_path / "first" / f"anna.json.{CAR}.bag", CAR)
    store_id, last_seq = bag.last
    assert last_seq > 0
    assert bag.up_to(store_id) == last_seq
    assert bag.up_to(b"another log") == 0
    bag.up.clear()
    assert bag.up_to(store_id) == 0, "handed over: what the commune did not take to heart is taken again"


def test_a_damaged_bag_is_set_aside_and_the_door_opens(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    (tmp_path / f"anna.json.{CAR}.bag").write_text("{")
    code, rig, _ = at_the_car(tmp_path, monkeypatch)
    assert (code, rig.door.pulses) == (0, [Action.UNLOCK])
    assert ".bag.damaged" in capsys.readouterr().err
    assert (tmp_path / f"anna.json.{CAR}.bag.damaged").read_text() == "{"


@pytest.mark.parametrize("as_json", [False, True])
@pytest.mark.parametrize(
    ("error", "word", "tries"),
    [
        (GattError("AmiBox-42CF was not heard within 10 s", reason="not_heard"), "not_heard", 3),
        (GattError("no adapter", reason="no_bluetooth", again=False), "no_bluetooth", 1),
        (GattError("the connection failed"), "not_reached", 3),
        (GattError("0x81", 0x81), "unknown", 1),
    ],
)
def test_a_car_that_gives_no_answer_is_told_in_the_drivers_words(
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
    error: GattError,
    word: str,
    tries: int,
    *,
    as_json: bool,
) -> None:
    made: list[str] = []

    def connect(name: str, _adapter: str | None = None) -> object:
        made.append(name)
        raise error

    monkeypatch.setattr(phone_cli, "connect", connect)
    monkeypatch.setattr(phone_cli, "AGAIN_S", 0.0)
    wallet(BOOKING).save(tmp_path / "anna.json")
    options = ["--json"] if as_json else []
    command = ["unlock", "--pass", str(tmp_path / "anna.json"), "--language", "french", *options]
    assert phone_cli.main(command) == 1
    assert len(made) == tries
    said = capsys.readouterr().out
    if as_json:
        assert json.loads(said)["reason"] == word
    assert words(word).french in (json.loads(said)["text"] if as_json else said)
