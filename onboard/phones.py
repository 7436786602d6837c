"""The phones' way into the box: between the radio, the conversation (``onboard.handshake``) and the core.

The radio's thread calls ``hello``, ``command``, ``result``, ``gone`` and ``idle``, all from one event loop; what
belongs to the box's own loop is handed over to it. So a flood of strangers costs that thread its time, and the door
nothing.
"""

from __future__ import annotations

import asyncio
import contextlib
import hashlib
import logging
import math
from collections import Counter
from collections.abc import Callable, Coroutine, Sequence
from typing import Any, Final, Protocol, TypeVar, assert_never

from cloud_sync.documents.conversation import CHUNK_MAX_BYTES, Answer, Chunk
from onboard.core import access, known
from onboard.core.clock import ClockQuality
from onboard.core.commands import Reply
from onboard.core.events import AccessRequested, Event, PhoneRefused
from onboard.core.gatt import NOT_UNDERSTOOD, GattRefused
from onboard.core.state import State
from onboard.handshake import Handshake
from onboard.heard import Asked, Book, Brought, Heard, Told, Wanted
from onboard.mail import Mail, door_word

T = TypeVar("T")
log = logging.getLogger("amibox.phones")

ANSWER_S: Final = 4.5
"""A phone gives up a read that waits much longer."""
REFUSAL_EVERY_S: Final = 1.0
TIME_REASONS: Final = frozenset(
    {"clock_unproven", "too_early", "too_late", "list_too_old", "other_window", "superseded"}
)
"""Refusals that rest on what the box takes for the time: a time proof may change them."""


class Clock(Protocol):
    """What is needed of ``hw.clock_sources.Clock``."""

    def boot_s(self) -> float:
        """Read the boot-time clock."""
        ...


class Phones:
    """Serves phones. ``counts``: what came, and refusals by reason.

    ``state()`` returns the core's newest state and ``post`` takes events for it, both from any thread; ``replied`` is
    to be called with the core's replies.
    """

    def __init__(
        self, handshake: Handshake, mail: Mail, clock: Clock, state: Callable[[], State], post: Callable[[Event], None]
    ) -> None:
        """Call it in the box's own event loop."""
        self._home = asyncio.get_running_loop()
        self._radio: asyncio.AbstractEventLoop | None = None
        self._handshake = handshake
        self._mail = mail
        self._clock = clock
        self._state = state
        self._post = post
        self._answered: dict[str, asyncio.Event] = {}
        self._requests: dict[int, tuple[str, int, bytes]] = {}
        """The core's number of a request under way: its connection ("" once that is gone), ticket and phone key."""
        self._number = 0
        self._batches: dict[str, tuple[int, bytes, int]] = {}
        """By connection: the first row, the document, the last row. Sealing it again would give other bytes."""
        self._written_s: dict[str, float] = {}
        """By reason: when a refusal was last told to the core."""
        self._tasks: set[asyncio.Task[None]] = set()

    @property
    def counts(self) -> Counter[str]:
        """What was refused, by reason."""
        return self._handshake.counts

    async def hello(self, connection: str) -> bytes:
        """Return the HELLO of a connection."""
        state = self._state()
        time = access.belief(state, state.at)
        proven = time.quality >= ClockQuality.GNSS
        clock_s = int(time.best_s) if time.quality >= ClockQuality.RTC else 0
        return self._handshake.hello(connection, self._clock.boot_s(), clock_s, clock_proven=proven)

    async def command(self, connection: str, data: bytes) -> None:
        """Take one write; what came of it is read by ``result``. ``GattRefused``: no answer can be sealed."""
        self._radio = asyncio.get_running_loop()
        try:
            heard = self._handshake.write(connection, data, self._clock.boot_s(), self._book())
        except GattRefused as refused:
            if refused.code == NOT_UNDERSTOOD:
                self._write_down("not_understood")
            raise
        if heard is not None:
            self._answered[connection] = asyncio.Event()
            self._begin(connection, heard)

    async def result(self, connection: str) -> bytes:
        """Return the sealed answer; waits for it, and gives one that says "unknown" in time. ``GattRefused``: none."""
        until_s = asyncio.get_running_loop().time() + ANSWER_S
        while (sealed := self._handshake.result(connection, self._clock.boot_s())) is None:
            answered = self._answered.get(connection)
            rest_s = until_s - asyncio.get_running_loop().time()
            if answered is None or rest_s <= 0:
                self._give_up(connection)
                continue
            with contextlib.suppress(TimeoutError):
                async with asyncio.timeout(rest_s):
                    await answered.wait()
        return sealed

    def gone(self, connection: str) -> None:
        """Forget a connection that is over. What it asked for goes on; its answer waits for the same command again."""
        self._handshake.gone(connection)
        self._answered.pop(connection, None)
        self._batches.pop(connection, None)
        for number, (whose, ticket, key) in list(self._requests.items()):
            if whose == connection:
                self._requests[number] = ("", ticket, key)

    def idle(self) -> Sequence[str]:
        """Return the connections that are to be dropped now."""
        silent = self._handshake.idle(self._clock.boot_s())
        for connection in silent:
            self.gone(connection)
        return silent

    def replied(self, reply: Reply) -> None:
        """Take the core's reply; in the box's own loop."""
        if self._radio is not None:
            with contextlib.suppress(RuntimeError):  # the radio's loop is closed: nobody waits any more
                self._radio.call_soon_threadsafe(self._on_reply, reply)

    def _book(self) -> Book:
        state = self._state()
        return Book(self._mail.key_set, lambda reference: known.phone_keys(state, reference))

    def _begin(self, connection: str, heard: Heard) -> None:
        match heard:
            case Told(status=status, reason=reason):
                if status == "denied":
                    self._write_down(reason)
                self._run(self._say(connection, heard.ticket, status, reason, heard.offset))
            case Asked():
                key = heard.credential.key
                if any(whose == key for _, _, whose in self._requests.values()):
                    # One at a time of each phone: a crowd of wishes would keep everybody else's waiting.
                    self._run(self._say(connection, heard.ticket, "denied", "busy"))
                    return
                self._number += 1
                self._requests[self._number] = (connection, heard.ticket, key)
                now_s = self._clock.boot_s()
                self._post(AccessRequested(heard.credential, heard.intent, self._number, now_s))
            case Brought():
                self._run(self._deliver(connection, heard))
            case Wanted():
                self._run(self._hand_over(connection, heard))
            case _:
                assert_never(heard)

    def _write_down(self, reason: str) -> None:
        """Tell the core of a refusal; of each kind one a second: a flood must not push a door's report aside."""
        now_s = self._clock.boot_s()
        if now_s - self._written_s.get(reason, -math.inf) >= REFUSAL_EVERY_S:
            self._written_s[reason] = now_s
            self._post(PhoneRefused(reason))

    def _on_reply(self, reply: Reply) -> None:
        connection, ticket, _ = self._requests.pop(reply.request, ("", 0, b""))
        if connection:
            self._run(self._say(connection, ticket, reply.status, reply.reason))

    async def _deliver(self, connection: str, heard: Brought) -> None:
        refused = await self._at_home(self._mail.deliver(heard.document))
        await self._say(connection, heard.ticket, "denied" if refused else "ok", refused)

    async def _hand_over(self, connection: str, heard: Wanted) -> None:
        state = self._state()
        from_seq = heard.from_seq or state.sending.acked_seq + 1
        kept = self._batches.get(connection)
        if kept is None or kept[0] != from_seq:
            to_seq = min(from_seq + state.policy.batch_events_max - 1, state.kept.outbox.last_seq)
            made = await self._at_home(self._mail.batch(from_seq, to_seq)) if from_seq <= to_seq else None
            if made is None:
                await self._say(connection, heard.ticket, "denied", "nothing_there")
                return
            kept = (from_seq, *made)
            if self._handshake.ticket(connection) == heard.ticket:  # it may have gone meanwhile
                self._batches[connection] = kept
        _, document, last_seq = kept
        if heard.offset >= len(document):
            await self._say(connection, heard.ticket, "denied", "nothing_there")
            return
        part = document[heard.offset : heard.offset + CHUNK_MAX_BYTES]
        chunk = Chunk(hashlib.sha256(document).digest(), len(document), heard.offset, part)
        await self._say(connection, heard.ticket, "ok", "", chunk=chunk, to_seq=last_seq)

    async def _say(
        self,
        connection: str,
        ticket: int,
        status: str,
        reason: str,
        offset: int | None = None,
        *,
        chunk: Chunk | None = None,
        to_seq: int | None = None,
    ) -> None:
        """Compose an answer and have it sealed. Who has not proven himself hears yes or no, and nothing of the car."""
        if self._handshake.ticket(connection) != ticket:
            return
        answer = Answer(status, reason, offset=offset)
        if self._handshake.may_know(connection):
            nonce = await self._at_home(self._mail.time_nonce()) if self._time_wanted(reason, chunk, offset) else None
            state = self._state()
            outbox, keys = state.kept.outbox, self._mail.key_set
            answer = Answer(
                status,
                reason,
                door=door_word(state),
                store_id=outbox.store_id,
                up_to_seq=outbox.last_seq,
                acked_seq=state.sending.acked_seq,
                list_version=access.list_version(state),
                key_set_version=keys.version if keys is not None else 0,
                time_nonce=nonce,
                offset=offset,
                chunk=chunk,
                to_seq=to_seq,
            )
        self._handshake.answer(connection, ticket, answer)
        answered = self._answered.get(connection)
        if answered is not None:
            answered.set()

    def _time_wanted(self, reason: str, chunk: Chunk | None, offset: int | None) -> bool:
        if reason in TIME_REASONS:
            return True
        state = self._state()
        unproven = access.belief(state, state.at).quality < ClockQuality.GNSS
        return unproven and chunk is None and offset is None

    def _give_up(self, connection: str) -> None:
        """Answer in time that nobody knows: the door may have been opened all the same."""
        ticket = self._handshake.ticket(connection)
        door = door_word(self._state()) if self._handshake.may_know(connection) else "unknown"
        answer = Answer("unknown", "no_answer", door=door)
        if not ticket or not self._handshake.answer(connection, ticket, answer):
            raise GattRefused(NOT_UNDERSTOOD, "no_conversation")

    async def _at_home(self, work: Coroutine[Any, Any, T]) -> T:
        """Do this in the box's own loop and wait for it here."""
        if asyncio.get_running_loop() is self._home:
            return await work
        return await asyncio.wrap_future(asyncio.run_coroutine_threadsafe(work, self._home))

    def _run(self, work: Coroutine[Any, Any, None]) -> None:
        task = asyncio.get_running_loop().create_task(work)
        self._tasks.add(task)
        task.add_done_callback(self._over)

    def _over(self, task: asyncio.Task[None]) -> None:
        """Look how it ended. One that failed leaves its phone without an answer, which it is told in time."""
        self._tasks.discard(task)
        error = None if task.cancelled() else task.exception()
        if error is not None:
            self.counts["failed"] += 1
            log.error("a phone could not be served: %s", error, exc_info=error)
