"""Where a new version of the software comes in, piece by piece, by any carrier; the updater takes it from there.

``incoming``  the signed document and the blocks that came so far, each checked against it and synced
``console``   a whole bundle that a technician sends as a file, so far
``bundle``    one that is complete: ``amibox-update`` takes it, verifies all of it anew, and removes it
``keys``, ``roots``   whom this box believes, for the updater to pin and check: public halves alone

The box writes here and cannot write where its code lies; the updater is another user. So of each kind there is one
file, of 8 MiB and a document at most. A power cut loses the block under way.
"""

from __future__ import annotations

import contextlib
import hashlib
import importlib.metadata
import os
from collections.abc import Sequence
from pathlib import Path
from typing import Final

from cloud_sync.documents import KeySet, Reason, Refused, Update, UpdateProgress, decode_piece, decode_update, update_id
from cloud_sync.documents.kinds import MAX_BYTES, DocumentType
from cloud_sync.documents.update import BLOCK_BYTES, BLOCKS_MAX, HEAD_BYTES, fits, head_of, pack, version_number
from onboard import slots
from onboard.store_side import sync_directory, write_file

INCOMING: Final = "incoming"
CONSOLE: Final = "console"
BUNDLE: Final = "bundle"
KEYS: Final = "keys"
ROOTS: Final = "roots"
BUNDLE_BYTES_MAX: Final = HEAD_BYTES + MAX_BYTES[DocumentType.UPDATE] + BLOCK_BYTES * BLOCKS_MAX
WINDOW: Final = 8
"""After so many blocks the box says how far it is, which has the cloud send the next ones."""
_READABLE: Final = 0o640


class Inbox:
    """One box's. Its methods write and wait for the disk: not for the event loop's thread. One thread at a time.

    ``software``: the version that runs.
    """

    def __init__(self, folder: Path, slots_folder: Path, software: str) -> None:
        self._folder = folder
        self._slots = slots_folder
        self._software = software
        self._update: Update | None = None
        self._id = b""
        self._next = 0
        self._data_at = 0
        self._words = ""
        """Why the newest offer was not taken, for the status."""

    def trust(self, roots: Sequence[bytes], key_set: bytes) -> None:
        """Tell the updater whom this box believes."""
        self._write(ROOTS, "".join(f"{root.hex()}\n" for root in roots).encode())
        self._write(KEYS, key_set)

    def resume(self, key_set: KeySet) -> None:
        """Go on where the last run stopped: what is there is checked again, block by block."""
        path = self._folder / INCOMING
        if not path.exists():
            return
        try:
            data = path.read_bytes()[:BUNDLE_BYTES_MAX]
            document = head_of(data)
            update = decode_update(document, key_set)
        except Refused:
            path.unlink(missing_ok=True)
            return
        self._begin(document, update)
        data = data[: self._data_at + update.size]
        while fits(update, self._next, data[(at := self._at(self._next)) : at + BLOCK_BYTES]):
            self._next += 1
        self._finish()

    def offer(self, document: bytes, key_set: KeySet) -> None:
        """Take a signed update: from now on its pieces are wanted. ``Refused``, with the reason in the status too."""
        update, identity = decode_update(document, key_set), update_id(document)
        if identity in (self._id, self._waiting()):
            return
        known, words = slots.read(self._slots), ""
        if update.version <= max(known.floor, _number(self._software)):
            words = "refused: not newer than what this box has"
        elif known.verdict is not None and known.verdict.final and known.verdict.id == identity.hex():
            words = known.verdict.words
        elif lacking := missing(update.needs):
            words = f"refused: update the package first, it lacks {', '.join(lacking)}"
        elif self._update is not None and update.version < self._update.version:
            words = "refused: a newer one is coming in"
        if words:
            if self._update is None:
                self._id, self._words = identity, words
            raise Refused(Reason.VERSION_TOO_LOW, words)
        self._write(INCOMING, pack(document))
        self._begin(document, update)

    def piece(self, payload: bytes) -> bool:
        """Take a piece; return whether the cloud should hear how far the box is. One that lies changes nothing.

        ``Refused``: of another update, or not the block that its document names.
        """
        piece = decode_piece(payload)
        if self._update is None or piece.update != self._id:
            raise Refused(Reason.CONTRADICTION, "a piece of an update that is not coming in")
        if piece.index != self._next:
            return False  # it came before, or one before it was lost: the status says which is wanted
        if not fits(self._update, piece.index, piece.data):
            raise Refused(Reason.CONTRADICTION, f"piece {piece.index} is not the one that was signed")
        _append(self._folder / INCOMING, self._at(piece.index), piece.data)
        self._next += 1
        return self._finish() or self._next % WINDOW == 0

    def chunk(self, digest: bytes, total: int, offset: int, data: bytes) -> int:
        """Take a part of a bundle's file from a technician; return the offset that is wanted next, ``total`` if whole.

        ``digest``: SHA-256 of the file. Another file begins anew. ValueError, in words: nothing was kept of it.
        """
        if len(digest) != hashlib.sha256().digest_size or not 0 < total <= BUNDLE_BYTES_MAX:
            raise ValueError(f"a bundle has up to {BUNDLE_BYTES_MAX} bytes")
        path, note = self._folder / CONSOLE, self._folder / f"{CONSOLE}.name"
        name = digest.hex().encode()
        if not note.exists() or note.read_bytes() != name or not path.exists():
            path.unlink(missing_ok=True)
            self._write(CONSOLE, b"")
            self._write(note.name, name)
        have = path.stat().st_size
        if offset != have or offset + len(data) > total:
            return have
        _append(path, have, data)
        if have + len(data) < total:
            return have + len(data)
        whole = path.read_bytes()
        note.unlink()
        if hashlib.sha256(whole).digest() != digest:
            path.unlink()
            raise ValueError("the file came damaged: send it again")
        path.rename(self._folder / BUNDLE)
        sync_directory(self._folder)
        return total

    def progress(self) -> UpdateProgress | None:
        """Return what the status says. None: there is nothing to tell."""
        if self._update is not None:
            return UpdateProgress(self._id, self._next, f"{self._next} of {len(self._update.blocks)} pieces")
        if self._words:
            return UpdateProgress(self._id, BLOCKS_MAX, self._words)
        if waiting := self._waiting():
            return UpdateProgress(waiting, BLOCKS_MAX, "complete")
        note = slots.read(self._slots)
        verdict = note.verdict
        if verdict is None or not (verdict.final or note.trial) or len(verdict.id) != 2 * hashlib.sha256().digest_size:
            return None
        return UpdateProgress(bytes.fromhex(verdict.id), BLOCKS_MAX, verdict.words)

    def _begin(self, document: bytes, update: Update) -> None:
        self._update, self._id, self._words = update, update_id(document), ""
        self._next, self._data_at = 0, HEAD_BYTES + len(document)

    def _at(self, index: int) -> int:
        return self._data_at + index * BLOCK_BYTES

    def _finish(self) -> bool:
        """Hand a complete one over."""
        if self._update is None or self._next < len(self._update.blocks):
            return False
        os.truncate(self._folder / INCOMING, self._data_at + self._update.size)
        (self._folder / INCOMING).rename(self._folder / BUNDLE)
        sync_directory(self._folder)
        self._update, self._id = None, b""
        return True

    def _waiting(self) -> bytes:
        """Return the id of the complete bundle that waits for the updater, b"" if there is none."""
        with contextlib.suppress(OSError, Refused), (self._folder / BUNDLE).open("rb") as file:
            return update_id(head_of(file.read(HEAD_BYTES + MAX_BYTES[DocumentType.UPDATE])))
        return b""

    def _write(self, name: str, data: bytes) -> None:
        write_file(self._folder / name, data)
        (self._folder / name).chmod(_READABLE)


def _number(software: str) -> int:
    try:
        return version_number(software)
    except ValueError:
        return 0


def missing(needs: Sequence[str]) -> tuple[str, ...]:
    """Return those of ``name==version`` that are not installed here in that version."""
    return tuple(need for need in needs if _installed(need.partition("==")[0]) != need.partition("==")[2])


def _installed(name: str) -> str:
    try:
        return importlib.metadata.version(name)
    except importlib.metadata.PackageNotFoundError:
        return ""


def _append(path: Path, offset: int, data: bytes) -> None:
    with path.open("r+b") as file:
        file.seek(offset)
        file.write(data)
        file.flush()
        os.fsync(file.fileno())
