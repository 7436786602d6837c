"""The daemon's side of the technician's console: each wish becomes an event of the core, and the core answers.

What acts is answered to the box's own user and root alone (``OWN``): whoever may only read status stays outside.
"""

from __future__ import annotations

import asyncio
import base64
import binascii
import hashlib
from collections.abc import Callable, Mapping
from typing import Any, Final, Protocol

from onboard.control import Handler
from onboard.core import access
from onboard.core.commands import Reply
from onboard.core.events import (
    AccessRequested,
    CardWanted,
    ConsoleCredential,
    ConsoleReported,
    Event,
    Intent,
    MaintenanceRequested,
    SyncRequested,
)
from onboard.core.state import State
from onboard.mail import Mail
from onboard.rows import ROWS_MAX, plain_row
from onboard.store_thread import StoreThread

ANSWER_S: Final = 4.5
FRESH_S: Final = 2.5
"""Less than the console waits for an answer: what it has given up is never done behind it."""
CARD_MAX_S: Final = 60.0
SUBJECT_BYTES: Final = 16
ACTIONS: Final = frozenset(
    {"login_pin", "login_failed", "locked_out", "logout", "door_test", "reboot", "acceptance", "files"}
)
"""What the console may have written down; ``login_card`` is the core's own word."""
_TEXT_MAX: Final = 100
OWN: Final = frozenset({"door", "maintenance", "card", "sync", "wrote", "take", "batch", "rows", "place"})


class Clock(Protocol):
    """What is needed of ``hw.clock_sources.Clock``."""

    def boot_s(self) -> float:
        """Read the boot-time clock."""
        ...


def subject_of(name: str) -> bytes:
    """Return what stands for a technician in the records of trips: the same at every visit, and not the name."""
    return hashlib.sha256(b"amibox console " + name.encode()).digest()[:SUBJECT_BYTES]


class ServiceDesk:
    """Serves the console. ``replied`` is to be called with the core's replies; it takes those with negative numbers."""

    def __init__(
        self,
        mail: Mail,
        store: StoreThread,
        clock: Clock,
        state: Callable[[], State],
        post: Callable[[Event], None],
    ) -> None:
        self._mail = mail
        self._store = store
        self._clock = clock
        self._state = state
        self._post = post
        self._number = 0
        self._waiting: dict[int, asyncio.Future[Reply]] = {}

    def handlers(self) -> Mapping[str, Handler]:
        """Return what the control socket is to ask here."""
        return {
            "door": self._door,
            "maintenance": self._maintenance,
            "card": self._card,
            "sync": self._sync,
            "wrote": self._wrote,
            "take": self._take,
            "batch": self._batch,
            "rows": self._rows,
            "place": self._place,
        }

    def replied(self, reply: Reply) -> bool:
        """Take the core's reply if it is the console's."""
        waiting = self._waiting.pop(reply.request, None)
        if waiting is not None and not waiting.done():
            waiting.set_result(reply)
        return reply.request < 0

    async def _door(self, request: dict[str, Any]) -> dict[str, Any]:
        asked_s = self._fresh(request)
        who, intent = ConsoleCredential(subject_of(_text(request, "by"))), _intent(request)
        self._post(ConsoleReported("door_test", _text(request, "by"), intent.value))
        return await self._ask(lambda number: AccessRequested(who, intent, number, asked_s), ANSWER_S)

    async def _maintenance(self, request: dict[str, Any]) -> dict[str, Any]:
        on = request.get("on")
        if type(on) is not bool:
            raise ValueError("on must be true or false")
        self._fresh(request)
        self._post(MaintenanceRequested(on, _text(request, "by")))
        return {"ok": True}

    async def _card(self, request: dict[str, Any]) -> dict[str, Any]:
        login, wait_s = request.get("login"), request.get("wait_s")
        if type(login) is not bool or not isinstance(wait_s, int | float) or not 0 < wait_s <= CARD_MAX_S:
            raise ValueError(f"login must be true or false, wait_s 0 to {CARD_MAX_S:.0f}")
        until_s = self._clock.boot_s() + wait_s
        return await self._ask(lambda number: CardWanted(number, until_s, login), wait_s)

    async def _sync(self, _request: dict[str, Any]) -> dict[str, Any]:
        self._post(SyncRequested())
        return {"ok": True}

    async def _wrote(self, request: dict[str, Any]) -> dict[str, Any]:
        action = _text(request, "action")
        if action not in ACTIONS:
            raise ValueError(f"action must be one of: {', '.join(sorted(ACTIONS))}")
        self._post(ConsoleReported(action, _text(request, "by"), _text(request, "detail")))
        return {"ok": True}

    async def _take(self, request: dict[str, Any]) -> dict[str, Any]:
        """Take a document as a courier's phone brings one."""
        try:
            document = base64.b64decode(_text(request, "document", 1 << 17), validate=True)
        except binascii.Error as error:
            raise ValueError("document must be base64") from error
        return {"refused": await self._mail.deliver(document)}

    async def _batch(self, _request: dict[str, Any]) -> dict[str, Any]:
        """Seal what is not acknowledged yet, as for a courier's phone; at most one document."""
        state = self._state()
        first, last = state.sending.acked_seq + 1, state.kept.outbox.last_seq
        if first > last:
            raise ValueError("nothing_there")
        made = await self._mail.batch(first, min(first + state.policy.batch_events_max - 1, last))
        if made is None:
            raise ValueError("no_key_set" if self._mail.key_set is None else "nothing_there")
        return {"document": base64.b64encode(made[0]).decode(), "to_seq": made[1], "last_seq": last}

    async def _rows(self, request: dict[str, Any]) -> dict[str, Any]:
        last, newest = request.get("last"), self._state().kept.outbox.last_seq
        if type(last) is not int or not 0 < last <= ROWS_MAX:
            raise ValueError(f"last must be 1 to {ROWS_MAX}")
        rows = await self._store.rows(max(1, newest - last + 1), newest)
        return {"rows": [plain_row(row.seq, row.at.wall_s, row.payload) for row in rows]}

    async def _place(self, _request: dict[str, Any]) -> dict[str, Any]:
        """Where the car stands, for who fits its receiver; outside a rental alone."""
        state = self._state()
        position = state.vehicle.position
        if state.kept.rental is not None:
            raise ValueError("in_use")
        time = access.belief(state, state.at)
        nonce = (await self._mail.time_nonce()).hex()
        told: dict[str, Any] = {"quality": time.quality.name.lower(), "best_s": time.best_s, "nonce": nonce}
        if position is None:
            return told | {"fix": None}
        fix = {
            "latitude": position.latitude,
            "longitude": position.longitude,
            "speed_mps": position.speed_mps,
            "mode": position.mode,
            "hdop": position.hdop,
            "age_s": round(self._clock.boot_s() - position.sampled_s, 1),
        }
        return told | {"fix": fix}

    def _fresh(self, request: dict[str, Any]) -> float:
        """Return when it was asked; ValueError if nobody waits for it any more: a hung daemon finds it later."""
        asked_s, now_s = request.get("asked_s"), self._clock.boot_s()
        if not isinstance(asked_s, int | float) or not -FRESH_S <= now_s - asked_s <= FRESH_S:
            raise ValueError("too late: nothing was done")
        return min(asked_s, now_s)

    async def _ask(self, event: Callable[[int], Event], wait_s: float) -> dict[str, Any]:
        self._number -= 1
        number = self._number
        self._waiting[number] = asyncio.get_running_loop().create_future()
        try:
            waiting = self._waiting[number]
            self._post(event(number))
            reply = await asyncio.wait_for(waiting, wait_s)
        except TimeoutError:
            return {"status": "unknown", "reason": "no_answer"}
        finally:
            self._waiting.pop(number, None)
        return {"status": reply.status, "reason": reply.reason}


def _intent(request: dict[str, Any]) -> Intent:
    action = request.get("action")
    if action == "unlock":
        return Intent.UNLOCK
    if action == "lock":
        return Intent.LOCK
    raise ValueError("action must be unlock or lock")


def _text(request: dict[str, Any], name: str, most: int = _TEXT_MAX) -> str:
    value = request.get(name, "")
    if not isinstance(value, str) or len(value) > most:
        raise ValueError(f"{name} must be a text of at most {most} letters")
    return value
