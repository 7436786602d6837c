"""People at the door of a core on its bench: what they bring and how they ask. See ``core_kit`` for the box."""

from __future__ import annotations

from dataclasses import replace
from itertools import count

from onboard.core.events import AccessRequested, CardCredential, Intent, PhoneCredential
from onboard.core.grants import Assurance, CardGrant, Pass, Rights, StaffGrant
from tests.core_kit import ALICE, CAR, HEDE, STAFF, T0, Kit

ids = count(1)
FAR_S = T0 + 10**9
ANYWHERE = replace(HEDE, latitude=48.29)


def key(who: bytes) -> bytes:
    return b"\2" + who * 4


def leave(who: bytes = ALICE, start_s: int = 0, end_s: int = 3600, g: int = 2, **changes: object) -> Pass:
    """Return a pass of the booking that ``core_kit.booking`` makes for the same person."""
    base = Pass(
        vehicle=CAR,
        id=b"P" + who[:7],
        phone_key=key(who),
        reservation_id=(who * 2)[:16],
        start_s=T0 + start_s,
        end_s=T0 + end_s,
        driver=who,
        rights=Rights.DOOR | Rights.DRIVE,
        issued_at_s=T0 - 60,
        expires_s=T0 + end_s + 900,
        made_with_version=g,
        pickup="bazouges",
        dropoff="hede",
    )
    return replace(base, **changes)  # type: ignore[arg-type]  # the fields of a pass, as a test wants them


def ask(kit: Kit, who: bytes = ALICE, grant: Pass | None = None, intent: Intent = Intent.UNLOCK) -> str:
    """Have a phone ask, each time with a new command; returns the reason of the answer."""
    kit.give(AccessRequested(PhoneCredential(key(who), grant, next(ids).to_bytes(16, "big")), intent, 1))
    return kit.word


def tap(kit: Kit, who: bytes = ALICE, assurance: Assurance = Assurance.UID) -> str:
    kit.give(AccessRequested(CardCredential(who, assurance), Intent.TAP, 1))
    return kit.word


def staff(not_after_s: int = 86400, who: bytes = STAFF, **changes: object) -> StaffGrant:
    base = StaffGrant(
        (who * 2)[:8] + b"-" * 8,
        T0 + not_after_s,
        (key(who),),
        (CardGrant(who, Assurance.UID),),
        Rights.DOOR | Rights.SERVICE,
    )
    return replace(base, **changes)  # type: ignore[arg-type]  # the fields of a grant, as a test wants them
