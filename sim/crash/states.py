"""Which of the states that a cut may leave are looked at: the telling ones, and some of the rest, by chance."""

from __future__ import annotations

from collections.abc import Iterator
from random import Random
from typing import Final

from sim.crash.disk import (
    DROPPED,
    KEPT,
    LENGTH,
    Change,
    Create,
    Disk,
    Fate,
    Remove,
    Rename,
    Settled,
    Survivors,
    Sync,
    SyncDirectory,
    Write,
    torn,
)

SINGLED_OUT: Final = 24
"""Of so many unsynced changes each is looked at by itself: the newest half of them, and others drawn."""
NEWEST_OF_OLD_NAMES: Final = 4

Waiting = list[tuple[int, Change, bool]]


def telling(disk: Disk, chance: Random) -> Iterator[Survivors]:
    """Return for each number of names: nothing kept, all, all but one, one alone, one torn, one only in its length."""
    waiting = disk.waiting()
    every = range(len(waiting))
    newest = list(every[-SINGLED_OUT // 2 :])
    older = list(every[: -SINGLED_OUT // 2])
    singled = sorted(chance.sample(older, min(len(older), SINGLED_OUT // 2))) + newest
    for names in range(disk.namings(), -1, -1):
        yield Survivors(names, (KEPT,) * len(waiting))
        if waiting:
            yield Survivors(names, (DROPPED,) * len(waiting))
        for place in singled if names == disk.namings() else singled[-NEWEST_OF_OLD_NAMES:]:
            for others, fate in _singled(waiting, place, last=place == len(waiting) - 1):
                fates = [others] * len(waiting)
                fates[place] = fate
                yield Survivors(names, tuple(fates))


def drawn(disk: Disk, chance: Random, count: int) -> Iterator[Survivors]:
    """Return so many by chance: many kept in some, few in others, and the last operation in all.

    Without the last one it is a state of the cut before; after a sync there is none that was not there before it.
    """
    waiting = disk.waiting()
    if isinstance(disk.last, Sync | SyncDirectory | Settled | None):
        return
    naming = isinstance(disk.last, Create | Rename | Remove)
    for _ in range(count):
        share = chance.choice((0.1, 0.5, 0.9))
        fates = [_fate(change, longer, share, chance) for _, change, longer in waiting]
        if not naming:
            _, change, longer = waiting[-1]
            fates[-1] = _fate(change, longer, 1.0, chance)
        yield Survivors(disk.namings() if naming else chance.randint(0, disk.namings()), tuple(fates))


def _singled(waiting: Waiting, place: int, *, last: bool) -> Iterator[tuple[Fate, Fate]]:
    """Return pairs: the fate of all others, and of the one at ``place``. The write under way is torn everywhere."""
    _, change, longer = waiting[place]
    if len(waiting) > 1:
        yield KEPT, DROPPED
        yield DROPPED, KEPT
    if longer:
        yield KEPT, LENGTH
    if not isinstance(change, Write):
        return
    pieces = len(change.pieces())
    whole = (1 << pieces) - 1
    for begins in range(1, pieces) if last else ([pieces // 2] if pieces > 1 else []):
        head = (1 << begins) - 1
        yield KEPT, torn(head)
        yield KEPT, torn(whole & ~head)


def _fate(change: Change, longer: bool, share: float, chance: Random) -> Fate:  # noqa: FBT001 - as ``waiting`` has it
    if chance.random() >= share:
        return DROPPED
    if not isinstance(change, Write) or chance.random() < 0.5:
        return KEPT
    pieces = len(change.pieces())
    if longer and chance.random() < 0.2:
        return LENGTH
    return torn(chance.getrandbits(pieces)) if pieces > 1 else KEPT
