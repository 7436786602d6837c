"""The inbox: pieces that prove themselves, a line that breaks, a power cut, and a file by the technician's cable."""

from __future__ import annotations

import hashlib
from pathlib import Path

import pytest

from cloud_sync import documents as d
from cloud_sync.documents import Reason, Refused
from cloud_sync.documents.update import BLOCK_BYTES, BLOCKS_MAX, head_of, version_number
from onboard import slots
from onboard.inbox import BUNDLE, BUNDLE_BYTES_MAX, CONSOLE, INCOMING, KEYS, ROOTS, WINDOW, Inbox
from onboard.slots import Slots, Verdict
from onboard.update_cli import send
from tests.document_rig import CLOUD, ROOT, STRANGER
from tests.document_rig import KEYS as KEY_SET
from tests.document_rig import ROOTS as PINNED
from tests.update_rig import bundle, content, pieces, signed

LARGE = (WINDOW + 2) * BLOCK_BYTES
CONTENT = content("0.2.0", LARGE)
DOCUMENT = signed("0.2.0", CONTENT)
PIECES = pieces(DOCUMENT, CONTENT)


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    (tmp_path / "slots").mkdir()
    (tmp_path / "inbox").mkdir()
    return tmp_path


def inbox(folder: Path, software: str = "0.1.0") -> Inbox:
    found = Inbox(folder / "inbox", folder / "slots", software)
    found.resume(KEY_SET)
    return found


def at(box: Inbox) -> int:
    progress = box.progress()
    assert progress is not None
    return progress.next_block


def told(box: Inbox) -> str:
    progress = box.progress()
    return "" if progress is None else progress.words


def test_all_pieces_in_order_make_the_bundle(folder: Path) -> None:
    box = inbox(folder)
    assert box.progress() is None
    box.offer(DOCUMENT, KEY_SET)
    assert (at(box), told(box)) == (0, f"0 of {len(PIECES)} pieces")
    due = [box.piece(piece) for piece in PIECES]
    assert [index + 1 for index, wanted in enumerate(due) if wanted] == [WINDOW, len(PIECES)]
    assert (folder / "inbox" / BUNDLE).read_bytes() == bundle("0.2.0", LARGE)
    assert told(box) == "complete"
    assert at(box) == BLOCKS_MAX, "it wants nothing more"
    assert (folder / "inbox" / BUNDLE).stat().st_mode & 0o777 == 0o640, "the updater's group reads it"
    assert [each.name for each in (folder / "inbox").iterdir()] == [BUNDLE]


def test_lost_doubled_and_early_pieces_change_nothing(folder: Path) -> None:
    box = inbox(folder)
    box.offer(DOCUMENT, KEY_SET)
    for piece in (PIECES[1], PIECES[0], PIECES[0], PIECES[2]):
        assert not box.piece(piece)
    assert at(box) == 1
    box.offer(DOCUMENT, KEY_SET)
    assert at(box) == 1, "the same offer again begins nothing anew"


@pytest.mark.parametrize(
    ("piece", "reason"),
    [
        (d.Piece(d.update_id(DOCUMENT), 0, b"x" * BLOCK_BYTES), Reason.CONTRADICTION),
        (d.Piece(d.update_id(DOCUMENT), 0, CONTENT[: BLOCK_BYTES - 1]), Reason.CONTRADICTION),
        (d.Piece(bytes(32), 0, CONTENT[:BLOCK_BYTES]), Reason.CONTRADICTION),
    ],
)
def test_a_piece_that_lies_changes_nothing(folder: Path, piece: d.Piece, reason: Reason) -> None:
    box = inbox(folder)
    box.offer(DOCUMENT, KEY_SET)
    before = (folder / "inbox" / INCOMING).read_bytes()
    with pytest.raises(Refused) as refused:
        box.piece(d.encode_piece(piece))
    assert refused.value.reason is reason
    assert (folder / "inbox" / INCOMING).read_bytes() == before
    for good in PIECES:
        box.piece(good)
    assert told(box) == "complete"


@pytest.mark.parametrize("kept_bytes", [0, 1, 5000, BLOCK_BYTES - 1])
def test_after_a_power_cut_it_goes_on_with_the_block_that_was_under_way(folder: Path, kept_bytes: int) -> None:
    box = inbox(folder)
    box.offer(DOCUMENT, KEY_SET)
    for piece in PIECES[:3]:
        box.piece(piece)
    path = folder / "inbox" / INCOMING
    path.write_bytes(path.read_bytes()[: len(path.read_bytes()) - BLOCK_BYTES + kept_bytes])
    box = inbox(folder)
    assert at(box) == 2
    for piece in PIECES[2:]:
        box.piece(piece)
    assert (folder / "inbox" / BUNDLE).read_bytes() == bundle("0.2.0", LARGE)


def test_a_block_with_the_right_length_and_wrong_bytes_is_fetched_again(folder: Path) -> None:
    box = inbox(folder)
    box.offer(DOCUMENT, KEY_SET)
    for piece in PIECES[:-1]:
        box.piece(piece)
    path = folder / "inbox" / INCOMING
    data = bytearray(path.read_bytes())
    data[len(data) - BLOCK_BYTES * 2] ^= 1
    path.write_bytes(data)
    box = inbox(folder)
    assert at(box) == len(PIECES) - 3
    for piece in PIECES[len(PIECES) - 3 :]:
        box.piece(piece)
    assert (folder / "inbox" / BUNDLE).read_bytes() == bundle("0.2.0", LARGE)


def test_a_power_cut_before_the_last_rename_costs_nothing(folder: Path) -> None:
    (folder / "inbox" / INCOMING).write_bytes(bundle("0.2.0", LARGE) + b"tail of a longer one before it")
    box = inbox(folder)
    assert told(box) == "complete"
    assert (folder / "inbox" / BUNDLE).read_bytes() == bundle("0.2.0", LARGE)


@pytest.mark.parametrize("data", [b"", b"AMIBOXU1", bundle("0.2.0", signer=STRANGER), bytes(500)])
def test_what_does_not_prove_itself_is_not_gone_on_with(folder: Path, data: bytes) -> None:
    (folder / "inbox" / INCOMING).write_bytes(data)
    assert inbox(folder).progress() is None
    assert not (folder / "inbox" / INCOMING).exists()


def test_a_newer_offer_takes_the_place_of_what_is_coming_in(folder: Path) -> None:
    box = inbox(folder)
    box.offer(DOCUMENT, KEY_SET)
    box.piece(PIECES[0])
    newer = signed("0.3.0", content("0.3.0"))
    box.offer(newer, KEY_SET)
    assert head_of((folder / "inbox" / INCOMING).read_bytes()) == newer
    for piece in pieces(newer, content("0.3.0")):
        box.piece(piece)
    assert told(box) == "complete"


@pytest.mark.parametrize(
    ("software", "note", "why"),
    [
        ("0.2.0", Slots(), "refused: not newer than what this box has"),
        ("0.3.0", Slots(), "refused: not newer than what this box has"),
        ("0.1.0", Slots(floor=version_number("0.2.0")), "refused: not newer than what this box has"),
        (
            "0.1.0",
            Slots(verdict=Verdict(d.update_id(DOCUMENT).hex(), "refused: went back", True)),
            "refused: went back",
        ),
    ],
)
def test_an_offer_that_the_box_will_not_take_is_told_and_fetches_nothing(
    folder: Path, software: str, note: Slots, why: str
) -> None:
    slots.write(folder / "slots", note)
    box = inbox(folder, software)
    with pytest.raises(Refused):
        box.offer(DOCUMENT, KEY_SET)
    assert (told(box), at(box)) == (why, BLOCKS_MAX)
    assert not (folder / "inbox" / INCOMING).exists()


def test_an_older_offer_does_not_stop_a_newer_one(folder: Path) -> None:
    box = inbox(folder)
    box.offer(DOCUMENT, KEY_SET)
    box.piece(PIECES[0])
    with pytest.raises(Refused):
        box.offer(signed("0.1.9", content("0.1.9")), KEY_SET)
    assert at(box) == 1


def test_libraries_that_the_box_lacks_are_named(folder: Path) -> None:
    box = inbox(folder)
    with pytest.raises(Refused):
        box.offer(signed("0.2.0", content("0.2.0"), ("cbor2==9.9",)), KEY_SET)
    assert told(box) == "refused: update the package first, it lacks cbor2==9.9"


def test_a_strangers_offer_is_none(folder: Path) -> None:
    box = inbox(folder)
    with pytest.raises(Refused):
        box.offer(signed("0.2.0", CONTENT, signer=STRANGER), KEY_SET)
    assert box.progress() is None


def test_a_development_version_takes_any_offer(folder: Path) -> None:
    box = inbox(folder, "test")
    box.offer(signed("0.0.1", content("0.0.1")), KEY_SET)
    assert at(box) == 0


def test_a_verdict_is_told_until_the_next_offer(folder: Path) -> None:
    slots.write(folder / "slots", Slots(verdict=Verdict("ab" * 32, "0.1.5 runs", True)))
    box = inbox(folder)
    assert told(box) == "0.1.5 runs"
    slots.write(folder / "slots", Slots(verdict=Verdict("", "refused: not a bundle", True)))
    assert told(box) == "", "of no update that the cloud could know"
    slots.write(folder / "slots", Slots(verdict=Verdict("ab" * 32, "the trial was cut off: once more")))
    assert told(box) == ""


def test_the_updater_is_told_whom_the_box_believes(folder: Path) -> None:
    inbox(folder).trust(PINNED, d.encode_key_set(KEY_SET, ROOT))
    assert (folder / "inbox" / ROOTS).read_text().split() == [root.hex() for root in PINNED]
    assert (folder / "inbox" / KEYS).read_bytes() == d.encode_key_set(KEY_SET, ROOT)
    assert (folder / "inbox" / KEYS).stat().st_mode & 0o777 == 0o640


FILE = bundle("0.2.0", LARGE)
NAME = hashlib.sha256(FILE).digest()


def test_a_technicians_file_comes_in_parts_and_goes_on_after_a_break(folder: Path) -> None:
    asked: list[int] = []

    def ask(request: dict[str, object], give_up_after: int = 10_000) -> dict[str, object]:
        import base64  # noqa: PLC0415

        if len(asked) >= give_up_after:
            raise ConnectionError("pulled")
        offset, total = request["offset"], request["total"]
        assert isinstance(offset, int)
        assert isinstance(total, int)
        asked.append(offset)
        data = base64.b64decode(str(request["data"]))
        return {"next": inbox(folder).chunk(bytes.fromhex(str(request["digest"])), total, offset, data)}

    with pytest.raises(ConnectionError):
        send(FILE, lambda request: ask(request, 4))
    asked.clear()
    send(FILE, ask)
    assert (folder / "inbox" / BUNDLE).read_bytes() == FILE
    assert asked[:2] == [0, 4 * 32_768], "the box says what it has, and the rest follows"
    assert [each.name for each in (folder / "inbox").iterdir()] == [BUNDLE]


def test_another_file_begins_anew_and_a_damaged_one_is_said(folder: Path) -> None:
    box = inbox(folder)
    assert box.chunk(NAME, len(FILE), 0, FILE[:1000]) == 1000
    other = b"x" * 2000
    assert box.chunk(bytes(32), len(other), 0, other[:500]) == 500
    with pytest.raises(ValueError, match="damaged: send it again"):
        box.chunk(bytes(32), len(other), 500, other[500:])
    assert list((folder / "inbox").iterdir()) == []


def test_a_part_beyond_the_end_or_out_of_place_is_not_kept(folder: Path) -> None:
    box = inbox(folder)
    assert box.chunk(NAME, len(FILE), 7, b"x") == 0
    assert box.chunk(NAME, 10, 0, b"x" * 11) == 0
    assert (folder / "inbox" / CONSOLE).read_bytes() == b""


@pytest.mark.parametrize(("digest", "total"), [(b"short", 10), (NAME, 0), (NAME, BUNDLE_BYTES_MAX + 1)])
def test_a_file_has_a_name_and_a_bound(folder: Path, digest: bytes, total: int) -> None:
    with pytest.raises(ValueError, match="a bundle has up to"):
        inbox(folder).chunk(digest, total, 0, b"x")


def test_a_bundle_is_signed_by_the_key_for_it(folder: Path) -> None:
    """Not by one that signs lists: the offline key alone."""
    lists_only = d.KeySet(1, (CLOUD.may_sign(d.DocumentType.RESERVATION_LIST),), KEY_SET.sealing_public)
    with pytest.raises(Refused) as refused:
        inbox(folder).offer(DOCUMENT, lists_only)
    assert refused.value.reason is Reason.KEY_NOT_ALLOWED
