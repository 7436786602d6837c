"""A driver's phone: what it keeps, what it hands over, and its command."""

from __future__ import annotations

import asyncio
import stat
from pathlib import Path

import pytest

from cloud_sync.documents import BoxSigner
from cloud_sync.documents.conversation import Answer, Op
from cloud_sync.endpoint.models_phone import DOCUMENTS_MAX
from sim import phone_cli
from sim.phone_wallet import Bag, Wallet
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
    held, bag = wallet(BOOKING), Bag(CAR, down=[b"a"], up=[b"b", b"c"])
    held.save(tmp_path / "anna.json")
    bag.save(tmp_path / "bag")
    for file in tmp_path.iterdir():
        assert stat.S_IMODE(file.stat().st_mode) == 0o600
    again = Wallet.load(tmp_path / "anna.json")
    assert (again.box, again.booking, again.grant) == (held.box, held.booking, held.grant)
    assert again.key.public == held.key.public
    assert held.key.to_bytes().hex() not in repr(held)
    assert Bag.load(tmp_path / "bag", CAR) == bag
    assert Bag.load(tmp_path / "bag", "hede-2") == Bag("hede-2")
    (tmp_path / "bag").write_text("{")
    with pytest.raises(ValueError, match="trips may be in it"):
        Bag.load(tmp_path / "bag", CAR)


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
    (tmp_path / "other.json").write_text('{"key": 5}')
    assert phone_cli.main(["status", "--pass", str(tmp_path / "other.json")]) == 2
    assert "get it anew" in capsys.readouterr().err
    assert BoxSigner.from_bytes(Wallet.load(tmp_path / "anna.json").key.to_bytes()).public.hex() == first
