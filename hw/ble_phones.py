"""The phones on one connection to D-Bus: what they ask is handed to the conversation, within bounds; each has its end.

A phone may send anything, in any number, and go at any moment. What it may not have it is refused, counted, and nothing
else changes.
"""

from __future__ import annotations

import asyncio
import logging
from collections import Counter
from collections.abc import Awaitable, Callable, Sequence
from dataclasses import dataclass
from functools import partial
from typing import Any, Final, Protocol, TypeVar, cast

from dbus_fast import DBusError, Variant
from dbus_fast.aio import MessageBus

from hw.ble_connections import Connections
from hw.ble_registration import BLUEZ, DEVICE, call, value_of
from onboard.core.gatt import BROKEN, BUSY, HELLO, NOT_UNDERSTOOD, VALUE_BYTES_MAX, GattRefused

ANSWER_S: Final = 5.0
CALLS_MAX: Final = 64
CALLS_EACH_MAX: Final = 4
"""A phone asks one thing at a time; one that does not must leave room for others."""
DROPS_MAX: Final = 64

FAILED: Final = "org.bluez.Error.Failed"
"""With a code as its text, BlueZ gives that code to the phone."""
INVALID_OFFSET: Final = "org.bluez.Error.InvalidOffset"
NOT_CONNECTED: Final = frozenset({"org.bluez.Error.NotConnected", "org.freedesktop.DBus.Error.UnknownObject"})

_T = TypeVar("_T")
log = logging.getLogger(__name__)


class Conversations(Protocol):
    """What is said on each connection. Every method is called from the server's thread, on its event loop.

    ``connection`` is an object path of BlueZ's; it says which connection it is, not whose phone. A coroutine may raise
    ``GattRefused``, which is the phone's answer. It is cancelled when it takes longer than 5 s or its connection ends.
    Another exception is logged, counted, and answered as the box's own mistake.
    """

    async def hello(self, connection: str) -> bytes:
        """Return the HELLO for a read from its beginning; what is read from an offset is not asked for again."""
        ...

    async def command(self, connection: str, data: bytes) -> None:
        """Take in one write of 0 to 512 bytes."""
        ...

    async def result(self, connection: str) -> bytes:
        """Wait for the answer, less than 5 s; return it."""
        ...

    def gone(self, connection: str) -> None:
        """Forget a connection: it is over. Said once, also of one that never spoke."""
        ...

    def idle(self) -> Sequence[str]:
        """Return the connections that are to be dropped now. Asked once a second."""
        ...


@dataclass(frozen=True, slots=True)
class _Call:
    """A read or write under way."""

    path: str
    deadline: asyncio.Timeout


class Phones:
    """Who is connected, and what they ask (``hw.ble_objects.Values``).

    ``counts``: ``connections``, ``disconnects``; ``dropped_<why>`` by us; ``refused_<why>`` where the answer was an
    error: ``no_device``, ``offset``, ``too_long``, ``busy``, ``late``, ``gone``, ``failed``, or the conversation's own
    code such as ``0x81``; ``failed_<exception>`` of the conversation.
    """

    def __init__(self, bus: MessageBus, conversations: Conversations, counts: Counter[str]) -> None:
        self._bus = bus
        self._conversations = conversations
        self._counts = counts
        self._clock = asyncio.get_running_loop()
        self._connections = Connections()
        self._calls: dict[asyncio.Task[Any], _Call] = {}
        self._drops: dict[str, asyncio.Task[None]] = {}
        self._unwanted: set[str] = set()
        self._over = False

    def arrived(self, path: str) -> None:
        """A phone has connected; nothing if that is known."""
        if path in self._connections:
            return
        crowded_out = self._connections.in_the_way()
        if crowded_out is not None:
            self.drop(crowded_out, "crowded_out")
            self.gone(crowded_out)
        self._connections.add(path, self._clock.time())
        self._counts["connections"] += 1

    def gone(self, path: str) -> None:
        """A connection is over; nothing if it is not known."""
        if not self._connections.remove(path):
            return
        self._counts["disconnects"] += 1
        for each in self._calls.values():
            if each.path == path and not each.deadline.expired():
                each.deadline.reschedule(self._clock.time())
        self._tell_gone(path)

    def gone_below(self, path: str) -> None:
        """Every connection of an adapter is over; of all adapters if the path is ""."""
        for each in self._connections:
            if each.startswith(f"{path}/"):
                self.gone(each)

    def drop(self, path: str, why: str) -> None:
        """Have bluetoothd end a connection. That it is over, it will say."""
        if path not in self._drops and len(self._drops) < DROPS_MAX:
            self._counts[f"dropped_{why}"] += 1
            self._drops[path] = asyncio.create_task(self._disconnect(path))

    def tidy(self) -> None:
        """Drop the silent and the idle. To be called once a second."""
        for path in self._connections.silent(self._clock.time()):
            self.drop(path, "silent")
        try:
            idle = tuple(self._conversations.idle())
        except Exception as error:  # noqa: BLE001 - a conversation's mistake must not end the server
            self._failed(error)
            return
        for path in idle:
            if path in self._connections:
                self._unwanted.add(path)
            else:
                self._tell_gone(path)
        # Until it is over: a bluetoothd that refused once is asked again.
        self._unwanted = {path for path in self._unwanted if path in self._connections}
        for path in self._unwanted:
            self.drop(path, "idle")

    async def farewell(self, wait_s: float) -> None:
        """End everything: every connection is over, what is under way gets its refusal within this time."""
        self._over = True
        self.gone_below("")
        if self._calls:
            await asyncio.wait(tuple(self._calls), timeout=wait_s)

    async def read(self, uuid: str, options: dict[str, Variant]) -> bytes:
        """Answer a read of HELLO or RESULT. From an offset it is more of what the last whole read returned."""
        path = self._caller(options)
        offset = value_of(options, "offset") or 0
        if offset:
            told = self._connections.told(path, uuid)
            if told is None or offset > len(told):
                raise self._invalid_offset()
            return told[offset:]
        ask = self._conversations.hello if uuid == HELLO else self._conversations.result
        value = await self._converse(path, partial(_short, ask, path))
        self._connections.tell(path, uuid, value)
        return value

    async def write(self, value: bytes, options: dict[str, Variant]) -> None:
        """Answer a write of COMMAND."""
        path = self._caller(options)
        if value_of(options, "offset"):
            # A piece from the middle, which a phone can send if it means to. It is no command.
            raise self._invalid_offset()
        if len(value) > VALUE_BYTES_MAX:
            raise self._refusal("too_long", NOT_UNDERSTOOD)
        await self._converse(path, partial(self._conversations.command, path, value))

    async def _converse(self, path: str, talk: Callable[[], Awaitable[_T]]) -> _T:
        """Hand a call to the conversation; raise the DBusError that the phone gets if it has no answer."""
        under_way = sum(each.path == path for each in self._calls.values())
        if self._over or under_way >= CALLS_EACH_MAX or len(self._calls) >= CALLS_MAX:
            raise self._refusal("busy", BUSY)
        self.arrived(path)
        task = cast("asyncio.Task[Any]", asyncio.current_task())
        deadline = asyncio.timeout(ANSWER_S)
        try:
            async with deadline:
                self._calls[task] = _Call(path, deadline)
                told = await talk()
                # What was refused is no speech: nobody holds a link by saying nonsense.
                self._connections.spoke(path, self._clock.time())
                return told
        except GattRefused as refused:
            raise self._refusal(f"{refused.code:#04x}", refused.code) from refused
        except asyncio.CancelledError as error:
            if task.cancelling():
                raise
            self._failed(error)
        except Exception as error:
            if isinstance(error, TimeoutError) and deadline.expired():
                raise self._refusal("late" if path in self._connections else "gone", BUSY) from error
            self._failed(error)
        finally:
            self._calls.pop(task, None)
        raise self._refusal("failed", BROKEN)

    async def _disconnect(self, path: str) -> None:
        try:
            await call(self._bus, BLUEZ, path, f"{DEVICE}.Disconnect")
        except DBusError as error:
            if error.type in NOT_CONNECTED:
                self.gone(path)
        finally:
            del self._drops[path]

    def _caller(self, options: dict[str, Variant]) -> str:
        path = value_of(options, "device")
        if not isinstance(path, str):
            raise self._refusal("no_device", NOT_UNDERSTOOD)
        return path

    def _refusal(self, why: str, code: int) -> DBusError:
        self._counts[f"refused_{why}"] += 1
        return DBusError(FAILED, f"{code:#04x}")

    def _invalid_offset(self) -> DBusError:
        self._counts["refused_offset"] += 1
        return DBusError(INVALID_OFFSET, "there is nothing from there on")

    def _tell_gone(self, path: str) -> None:
        try:
            self._conversations.gone(path)
        except Exception as error:  # noqa: BLE001 - a conversation's mistake must not end the server
            self._failed(error)

    def _failed(self, error: BaseException) -> None:
        """Count a mistake of the conversation's; each kind stands in the log once, as phones can repeat it at will."""
        kind = f"failed_{type(error).__name__}"
        self._counts[kind] += 1
        level = logging.WARNING if self._counts[kind] == 1 else logging.DEBUG
        log.log(level, "a phone's conversation failed", exc_info=error)


async def _short(ask: Callable[[str], Awaitable[bytes]], path: str) -> bytes:
    """Ask; raise ValueError for an answer that no attribute can hold."""
    value = await ask(path)
    if len(value) > VALUE_BYTES_MAX:
        raise ValueError(f"an answer of {len(value)} bytes")
    return value
