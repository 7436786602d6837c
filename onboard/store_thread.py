"""The store for the event loop: one writer thread, so that no fsync ever stops the loop."""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Sequence
from concurrent.futures import ThreadPoolExecutor
from functools import partial
from pathlib import Path
from typing import TypeVar

from cloud_sync.documents.records import Row
from onboard.core.clock import Instant
from onboard.core.records import Recordable
from onboard.core.state import Kept
from onboard.store import Opened, Store
from onboard.store_room import LIMITS, Limits

T = TypeVar("T")


class StoreThread:
    """The methods of ``Store`` as coroutines, done one after the other in the order of the calls.

    A call that was cancelled is still done: a cancelled ``commit`` may be on disk.
    """

    def __init__(self) -> None:
        self._executor = ThreadPoolExecutor(1, thread_name_prefix="store")
        self._store: Store | None = None

    async def open(
        self, directory: Path, vehicle: str, floor_s: float, limits: Limits = LIMITS, *, now_wall_s: float = 0.0
    ) -> Opened:
        """See ``Store.open``; to be called once, first."""
        opened = await self._do(partial(Store.open, directory, vehicle, floor_s, limits, now_wall_s=now_wall_s))
        self._store = opened.store
        return opened

    async def commit(self, kept: Kept, records: Sequence[Recordable], at: Instant, boot_epoch: bytes) -> Kept:
        """See ``Store.commit``."""
        return await self._do(partial(self.store.commit, kept, records, at, boot_epoch))

    async def settle(self) -> None:
        """See ``Store.settle``."""
        await self._do(self.store.settle)

    async def look_for_room(self, boot_s: float) -> None:
        """See ``Store.look_for_room``."""
        await self._do(partial(self.store.look_for_room, boot_s))

    async def rows(self, from_seq: int, to_seq: int) -> list[Row]:
        """See ``Store.rows``."""
        return await self._do(partial(self.store.rows, from_seq, to_seq))

    async def digest(self, seq: int) -> bytes | None:
        """See ``Store.digest``."""
        return await self._do(partial(self.store.digest, seq))

    async def oldest(self) -> int:
        """See ``Store.oldest``."""
        return await self._do(self.store.oldest)

    async def release(self, up_to_seq: int, now_wall_s: float) -> None:
        """See ``Store.release``."""
        await self._do(partial(self.store.release, up_to_seq, now_wall_s))

    async def keep_keys(self, version: int, document: bytes) -> None:
        """See ``Store.keep_keys``."""
        await self._do(partial(self.store.keep_keys, version, document))

    async def copy(self, destination: Path) -> None:
        """See ``Store.copy``."""
        await self._do(partial(self.store.copy, destination))

    async def close(self) -> None:
        """Close the store after everything asked before, and end the thread. May be called again."""
        if self._store is not None:
            await self._do(self._store.close)
            self._store = None
        self._executor.shutdown(wait=True)

    @property
    def store(self) -> Store:
        """The store itself, for what may be read from any thread: ``counts`` and ``on_reserve``."""
        if self._store is None:
            raise RuntimeError("the store is not open")
        return self._store

    async def _do(self, work: Callable[[], T]) -> T:
        return await asyncio.get_running_loop().run_in_executor(self._executor, work)
