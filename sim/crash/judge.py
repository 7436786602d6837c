"""What a store must still hold after a cut, from what its witness told; and whether it does, by the code as shipped."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any, Final

from cloud_sync.documents.records import GENESIS, Row, chain_digest
from onboard.core.clock import ClockQuality, Instant
from onboard.core.state import Kept, Outbox
from onboard.store import Opened, Store
from onboard.store_parts import decode, split
from onboard.store_room import LIMITS, Rank

LATER_S: Final = 1_796_000_000.0
"""When the box starts again; names what it keeps aside."""
FREE: Final = ("floor_s", "grants.listed", "grants.version_floor")
"""Parts that the files beside the database may bring ahead of its last step. They never fall."""

NUMBERS: Final = ("rentals", "trips")
"""Parts of which damage may skip numbers, and give none twice."""


class Lost(Exception):  # noqa: N818 - a verdict on a state
    """Something acknowledged is not there, or something is that was never written."""


@dataclass(frozen=True, slots=True)
class Held:
    """What a store holds after a step."""

    parts: dict[str, object]
    rows: tuple[tuple[Row, bool], ...] = ()
    """From number 1, with those dropped since; and whether each may lose its payload for want of room."""
    replaced: bool = False
    """It still tells that it took another's place."""


@dataclass(slots=True)
class Story:
    """Follows the witness. ``sure`` is acknowledged, ``wanted`` under way."""

    vehicle: str = ""
    floor_s: float = 0.0
    sure: Held | None = None
    wanted: Held | None = None
    keys: tuple[int, bytes] = (0, b"")
    keys_wanted: tuple[int, bytes] | None = None
    released: int = 0
    damaged: bool = False
    steps: int = 0
    """Counts what was told, so that two states are the same only if the same was owed."""

    def hear(self, told: dict[str, Any]) -> None:
        """Take one line of the witness. Raises ``Lost`` if the recorded run itself lost something."""
        self.steps += 1
        match str(told["mark"]):
            case "open":
                self.vehicle, self.floor_s = told["vehicle"], told["floor_s"]
            case "opened":
                self._opened(told)
            case "commit":
                self._commit(told)
            case "done":
                self._done()
            case "keys":
                self.keys_wanted = (told["version"], bytes.fromhex(told["document"]))
            case "keys_kept":
                self.keys, self.keys_wanted = self.keys_wanted or self.keys, None
            case "release":
                self.released = max(self.released, told["up_to"])
            case "damage":
                self.damaged = True
            case _:
                """The others say where cuts are made."""

    def _opened(self, told: dict[str, Any]) -> None:
        parts = {name: decode(name, text) for name, text in told["parts"].items()}
        if told["replaced"] and self.damaged:
            rows = _chained((), told["rows"])
            if self.sure is not None:
                _same_payloads([row for row, _ in rows], self.sure)
            self.sure = Held(parts, rows, replaced=True)
            self.released = 0
        else:
            # What was under way when the process ended is there wholly or not at all.
            held = [each for each in (self.wanted, self.sure) if each is not None and len(each.rows) == told["last"]]
            if not held and told["last"]:
                raise Lost(f"the script itself lost rows: {told['last']} are left")
            self.sure = replace(held[0], parts=parts) if held else Held(parts)
        self.wanted, self.damaged = None, False

    def _commit(self, told: dict[str, Any]) -> None:
        if self.sure is None:
            raise Lost("a step before the store was open")
        parts = {name: decode(name, text) for name, text in told["parts"].items()}
        # Rows refused for want of room: the witness knows it afterwards, and the cut may come before.
        rows = [row for place, row in enumerate(told["rows"]) if place not in told["left_out"]]
        tells = self.sure.replaced and not told["told"]
        self.wanted = Held(parts, self.sure.rows + _chained(self.sure.rows, rows), tells)

    def _done(self) -> None:
        if self.wanted is None:
            raise Lost("done, and nothing was begun")
        self.sure, self.wanted = self.wanted, None


def heard(told: list[tuple[int, dict[str, Any]]]) -> list[tuple[int, dict[str, Any]]]:
    """Return what was told, each step with the rows that it left out in the end."""
    found: list[tuple[int, dict[str, Any]]] = []
    left_out: list[int] = []
    for place, line in reversed(told):
        if line["mark"] == "done":
            left_out = line["left_out"]
        found.append((place, {**line, "left_out": left_out} if line["mark"] == "commit" else line))
    return found[::-1]


def judge(directory: Path, story: Story) -> str:
    """Open what a cut left in ``directory``; return what is wrong with it, "" if nothing is."""
    try:
        opened = Store.open(directory, story.vehicle, story.floor_s, now_wall_s=LATER_S)
    except Exception as error:  # noqa: BLE001 - whatever keeps the box from starting is a loss
        return f"does not open: {error}"
    try:
        _look(opened, story)
        reserve = directory / "reserve"
        there = reserve.stat().st_size if reserve.exists() else 0
        _need(opened.store.on_reserve or there == LIMITS.reserve_bytes, f"{there} bytes pass for the reserve")
    except Lost as lost:
        return str(lost)
    finally:
        opened.store.close()
    return ""


def _look(opened: Opened, story: Story) -> None:
    verdict = opened.store._connection().execute("PRAGMA integrity_check(1)").fetchone()[0]  # noqa: SLF001 - a look inside
    _need(verdict == "ok", f"integrity_check: {verdict}")
    keys = (opened.key_set_floor, opened.keys or b"")
    _need(keys in {story.keys, story.keys_wanted} or _between(keys, story), f"key set {keys[0]} for {story.keys[0]}")
    rows = opened.store.rows(1, opened.kept.outbox.last_seq)
    if story.sure is None:
        new = Held(split(replace(Kept(story.vehicle, story.floor_s), outbox=opened.kept.outbox)))
        _ordinary(opened, rows, new, None, 0)
    elif story.damaged and opened.replaced is not None:
        _restored(opened, rows, story.sure)
    else:
        # Put in its place and not yet told of: the new store is as good as the old one was.
        _need(not story.damaged, "a damaged database passed for a good one")
        _ordinary(opened, rows, story.sure, story.wanted, story.released)


def _between(keys: tuple[int, bytes], story: Story) -> bool:
    """The document is written first, then its floor: in between the new one stands with the floor it brings."""
    return story.keys_wanted is not None and keys == (max(story.keys[0], story.keys_wanted[0]), story.keys_wanted[1])


def _ordinary(opened: Opened, rows: list[Row], sure: Held, wanted: Held | None, released: int) -> None:
    last = opened.kept.outbox.last_seq
    _need(last >= len(sure.rows), f"ends at row {last}, {len(sure.rows)} were acknowledged")
    parts = split(opened.kept)
    outcomes: list[str] = []
    for held in (sure, wanted):
        if held is None:
            continue
        try:
            _holds(opened, rows, parts, held, released)
        except Lost as lost:
            outcomes.append(str(lost))
        else:
            break
    else:
        raise Lost("; ".join(dict.fromkeys(outcomes)))
    _not_below(parts, sure, wanted)


def _holds(opened: Opened, rows: list[Row], parts: dict[str, object], held: Held, released: int) -> None:
    _need((opened.replaced is not None) == held.replaced, f"replaced: {opened.reason or 'not told any more'}")
    last = opened.kept.outbox.last_seq
    _need(last == len(held.rows), f"{last} rows, {len(held.rows)} are those of the step")
    first = rows[0].seq if rows else last + 1
    _need(first == 1 or first <= released, f"rows from {first} on, released are those below {released}")
    _need(len(rows) == last - first + 1, "a hole in the rows")
    for row, (wanted, droppable) in zip(rows, held.rows[first - 1 :], strict=True):
        if row != wanted:
            _need(droppable and row == replace(wanted, payload=b""), f"row {row.seq} is not what was written")
    for name, part in held.parts.items():
        _need(name in FREE or parts[name] == part, f"{name} is neither the last step's nor that under way")


def _not_below(parts: dict[str, object], sure: Held, wanted: Held | None) -> None:
    for name in FREE:
        allowed = [held.parts[name] for held in (sure, wanted) if held is not None]
        _need(parts[name] in allowed, f"{name} is {parts[name]}, {allowed[0]} was acknowledged")


def _restored(opened: Opened, rows: list[Row], sure: Held) -> None:
    """After damage: a new store with all that the cloud does not have, and the state of the last step."""
    _same_payloads(rows, sure)
    parts = split(opened.kept)
    for name, part in sure.parts.items():
        if name in NUMBERS:
            _need(getattr(opened.kept, name) >= part, f"{name} fell at the damage")
        elif name != "outbox":
            _need(parts[name] == part, f"{name} did not come through the damage")
    _need(opened.kept.outbox.acked_seq == 0, "a new store that is acknowledged already")


def _same_payloads(rows: Iterable[Row], sure: Held) -> None:
    outbox = sure.parts["outbox"]
    acked = outbox.acked_seq if isinstance(outbox, Outbox) else 0
    owed = [row.payload for row, _ in sure.rows[acked:]]
    found = [row.payload for row in rows]
    _need(found == owed, f"{len(found)} rows came through the damage, {len(owed)} were owed")


def _chained(before: tuple[tuple[Row, bool], ...], told: list[list[Any]]) -> tuple[tuple[Row, bool], ...]:
    new = [
        (
            Row(0, bytes.fromhex(epoch), Instant(boot_s, wall_s, ClockQuality(quality)), bytes.fromhex(payload), b""),
            rank,
        )
        for epoch, boot_s, wall_s, quality, payload, *rank in told
    ]
    return _again(before, [(row, bool(rank) and rank[0] < Rank.TRIP) for row, rank in new])


def _again(before: tuple[tuple[Row, bool], ...], new: list[tuple[Row, bool]]) -> tuple[tuple[Row, bool], ...]:
    """Number and chain rows behind others, from their bytes alone."""
    seq, head = len(before), before[-1][0].digest if before else GENESIS
    made: list[tuple[Row, bool]] = []
    for row, droppable in new:
        seq += 1
        head = chain_digest(head, seq, row.boot_epoch, row.at, row.payload)
        made.append((replace(row, seq=seq, digest=head), droppable))
    return tuple(made)


def _need(met: bool, otherwise: str) -> None:  # noqa: FBT001 - reads as a sentence
    if not met:
        raise Lost(otherwise)
