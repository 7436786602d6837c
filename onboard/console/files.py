"""What can be carried by file over the console: the table of kinds, and ``export`` and ``import``.

Another part of the box adds its kind with one entry of ``KINDS``.
"""

from __future__ import annotations

import base64
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Final

from cloud_sync.documents import MAX_DOCUMENT_BYTES
from onboard.console.place import Place
from onboard.console.session import Session
from onboard.console.transfer import NAME_LETTERS, Receiver, begin_line, chunk_lines, said_line, sha_of

SILENCE_S: Final = 30.0
"""After so long without a line an import is broken off; what came is kept for the next."""


@dataclass(frozen=True, slots=True)
class FileKind:
    """One kind of file. ``out`` makes it; ``take`` uses one that came whole, and returns a line in both languages.

    Both raise ``ValueError`` or ``Silent`` for what cannot be. ``bytes_max``: of one that comes. ``bare``: also on a
    box that no car has yet.
    """

    french: str
    english: str
    out: Callable[[Place], bytes] | None = None
    take: Callable[[Place, Path], tuple[str, str]] | None = None
    bytes_max: int = MAX_DOCUMENT_BYTES
    bare: bool = False


def _batch(place: Place) -> bytes:
    return base64.b64decode(place.daemon.ask("batch")["document"])


def _take_document(place: Place, file: Path) -> tuple[str, str]:
    refused = place.daemon.ask("take", document=base64.b64encode(file.read_bytes()).decode())["refused"]
    if refused:
        raise ValueError(refused)
    return "Accepté.", "Taken."


def _acceptance(place: Place) -> bytes:
    found = sorted(place.folder.glob("acceptance-*.txt"))
    if not found:
        raise ValueError("no protocol yet: selftest")
    return found[-1].read_bytes()


KINDS: Final[dict[str, FileKind]] = {
    "batch": FileKind("trajets scellés, pour la mairie", "sealed trips, for the town hall", out=_batch),
    "document": FileKind(
        "de la mairie : clés, liste, accusé, heure, commande",
        "from the town hall: keys, list, acknowledgement, time, command",
        take=_take_document,
    ),
    "acceptance": FileKind("dernier procès-verbal d'essai", "last acceptance protocol", out=_acceptance),
}
"""Every kind, by the word that is typed."""

_made: dict[str, bytes] = {}
"""The last file of each kind that went out: sealing again gives other bytes, and a broken transfer goes on."""


def allowed(place: Place) -> dict[str, FileKind]:
    """Return the kinds that this box has a use for now."""
    return {name: kind for name, kind in KINDS.items() if kind.bare or place.in_service}


def export_file(session: Session, place: Place, words: Sequence[str]) -> None:
    """``export KIND [OFFSET SHA256]``: send a file; from an offset on if it is the same as before."""
    kind = allowed(place).get(words[0]) if words else None
    if kind is None or kind.out is None:
        names(session, place, outward=True)
        return
    name = words[0]
    offset = int(words[1]) if len(words) == 3 and words[1].isascii() and words[1].isdigit() else 0
    data = _made.get(name, b"")
    if len(words) != 3 or sha_of(data)[:NAME_LETTERS] != words[2]:
        data, offset = kind.out(place), 0
        _made[name] = data
        place.daemon.note("files", session.who, f"export {name}")
    session.put(begin_line(name, data))
    for line in chunk_lines(data, min(offset, len(data))):
        session.put(line)
    session.put(said_line("E", sha_of(data)))


def import_file(session: Session, place: Place, words: Sequence[str]) -> None:
    """``import KIND``: take a file that is pasted, or sent by ``amibox attach``."""
    kind = allowed(place).get(words[0]) if words else None
    if kind is None or kind.take is None:
        names(session, place, outward=False)
        return
    session.say("Envoyez les lignes #B, #C, #E (Ctrl-C : arrêter).", "Send the lines #B, #C, #E (Ctrl-C: break off).")
    receiver = Receiver(place.folder / "incoming", {words[0]: kind.bytes_max})
    for line in session.lines(SILENCE_S):
        answer = receiver.answer(line)
        if answer is not None:
            session.put(answer)
        if receiver.file is not None:
            break
    if receiver.file is None:
        session.say("Interrompu ; la suite reprendra là.", "Broken off; it will go on from there.")
        return
    try:
        french, english = kind.take(place, receiver.file)
    finally:
        receiver.drop()
    place.daemon.note("files", session.who, f"import {words[0]}")
    session.say(french, english)


def names(session: Session, place: Place, *, outward: bool) -> None:
    """List the kinds."""
    for name, kind in allowed(place).items():
        if (kind.out if outward else kind.take) is not None:
            session.put(f"  {name:<11} {session.word(kind.french, kind.english)}")
