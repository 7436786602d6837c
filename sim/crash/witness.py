"""Tells what the store was asked and what it acknowledged, line by line, in a file outside its directory.

The lines stand in the trace between the store's own calls: that is how a judge knows what a cut must not have lost.
"""

from __future__ import annotations

import json
import os
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

from cloud_sync.documents.records import Row, encode_record
from onboard.core.clock import Instant
from onboard.core.records import Recordable
from onboard.core.state import Kept
from onboard.store import Opened, Store
from onboard.store_parts import encode, split
from onboard.store_room import rank_of
from onboard.store_schema import whole_ms


class Witness:
    """``install`` it before the store is opened. ``early``: it says done before anything was (a weakness)."""

    def __init__(self, path: Path, *, early: bool = False) -> None:
        self._out = os.open(path, os.O_WRONLY | os.O_APPEND)
        self._early = early
        self._open = Store.open
        self._commit, self._keep_keys, self._release = Store.commit, Store.keep_keys, Store.release
        self._store_id = b""
        self._last = 0

    def install(self) -> None:
        """Stand before the store's methods, whoever calls them."""
        witness = self

        def opened(*args: Any, **options: Any) -> Opened:
            return witness._opened(*args, **options)

        def commit(store: Store, kept: Kept, records: Sequence[Recordable], at: Instant, boot_epoch: bytes) -> Kept:
            return witness._committed(store, kept, records, at, boot_epoch)

        def keep_keys(store: Store, version: int, document: bytes) -> None:
            witness._kept_keys(store, version, document)

        def release(store: Store, up_to_seq: int, now_wall_s: float) -> None:
            witness.tell("release", up_to=up_to_seq)
            witness._release(store, up_to_seq, now_wall_s)

        methods = {"open": staticmethod(opened), "commit": commit, "keep_keys": keep_keys, "release": release}
        for name, method in methods.items():
            setattr(Store, name, method)

    def tell(self, mark: str, **what: Any) -> None:
        """Write one line."""
        os.write(self._out, json.dumps({"mark": mark, **what}).encode() + b"\n")

    def _opened(self, directory: Path, vehicle: str, floor_s: float, *args: Any, **options: Any) -> Opened:
        self.tell("open", vehicle=vehicle, floor_s=floor_s)
        opened = self._open(directory, vehicle, floor_s, *args, **options)
        self._store_id = opened.kept.outbox.store_id
        last = self._last = opened.kept.outbox.last_seq
        rows = opened.store.rows(1, last) if opened.replaced is not None else []
        self.tell(
            "opened", parts=_parts(opened.kept), last=last, replaced=opened.replaced is not None, rows=_rows(rows)
        )
        return opened

    def _committed(
        self, store: Store, kept: Kept, records: Sequence[Recordable], at: Instant, boot_epoch: bytes
    ) -> Kept:
        rows = [
            [boot_epoch.hex(), *_time(whole_ms(at)), encode_record(record).hex(), int(rank_of(record))]
            for record in records
        ]
        stored = replace(kept, outbox=replace(kept.outbox, store_id=self._store_id))
        told = any(type(record).__name__ == "StoreReplaced" for record in records)
        self.tell("commit", parts=_parts(stored), rows=rows, told=told)
        if self._early:
            self.tell("done", left_out=[])
        after = self._commit(store, kept, records, at, boot_epoch)
        if self._early:
            return after
        before, self._last = self._last, after.outbox.last_seq
        left_out: list[int] = []
        if self._last != before + len(rows):
            # Some were refused for want of room: which, only the table knows.
            there = [row.payload.hex() for row in store.rows(before + 1, self._last)]
            for place, row in enumerate(rows):
                if there[:1] == [row[4]]:
                    there.pop(0)
                else:
                    left_out.append(place)
        self.tell("done", left_out=left_out)
        return after

    def _kept_keys(self, store: Store, version: int, document: bytes) -> None:
        self.tell("keys", version=version, document=document.hex())
        self._keep_keys(store, version, document)
        self.tell("keys_kept")


def _parts(kept: Kept) -> dict[str, str]:
    return {name: encode(name, part) for name, part in split(kept).items()}


def _time(at: Instant) -> list[Any]:
    return [at.boot_s, at.wall_s, int(at.quality)]


def _rows(rows: list[Row]) -> list[list[Any]]:
    return [[row.boot_epoch.hex(), *_time(row.at), row.payload.hex()] for row in rows]
