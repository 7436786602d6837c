"""A phone's connection without a radio: straight to the phones' desk of a box in this process."""

from __future__ import annotations

from collections.abc import Awaitable, Callable
from typing import Final, Protocol

from onboard.core.gatt import COMMAND, HELLO, RESULT, GattRefused
from sim.phone import GattError

MTU: Final = 185
"""An iPhone's."""


async def _at_once() -> None:
    pass


class Phones(Protocol):
    """What is needed of ``onboard.phones.Phones``."""

    async def hello(self, connection: str) -> bytes:
        """Return the HELLO."""
        ...

    async def command(self, connection: str, data: bytes) -> None:
        """Take a write."""
        ...

    async def result(self, connection: str) -> bytes:
        """Return the answer."""
        ...


class Call:
    """A connection; ``sim.phone.Gatt``. What is written is cut as a radio with this MTU would have it.

    ``quiet`` is awaited after each read: a story goes on only when the box is done.
    """

    def __init__(
        self, phones: Phones, name: str, mtu: int = MTU, *, quiet: Callable[[], Awaitable[None]] = _at_once
    ) -> None:
        self.name = name
        self.write_max_bytes = mtu - 3
        self._phones = phones
        self._quiet = quiet

    async def read(self, characteristic: str) -> bytes:
        """Read a value; ``GattError``."""
        reads = {HELLO: self._phones.hello, RESULT: self._phones.result}
        try:
            value = await reads[characteristic](self.name)
        except GattRefused as refused:
            raise GattError(str(refused), refused.code) from None
        await self._quiet()
        return value

    async def write(self, characteristic: str, value: bytes) -> None:
        """Write a value; ``GattError``. ValueError for what no phone can send."""
        if characteristic != COMMAND or len(value) > self.write_max_bytes:
            raise ValueError(f"{len(value)} bytes to {characteristic}")
        try:
            await self._phones.command(self.name, value)
        except GattRefused as refused:
            raise GattError(str(refused), refused.code) from None
