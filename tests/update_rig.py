"""A small version of the software, signed, and the folders of a box that takes it."""

from __future__ import annotations

import io
import zipfile
from collections.abc import Callable
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from cloud_sync import documents as d
from cloud_sync.documents.update import blocks_of, describe_content, pack, version_number
from onboard.inbox import BUNDLE, KEYS, ROOTS
from onboard.updater import Surroundings, Updater
from tests.document_rig import CLOUD, ROOT
from tests.document_rig import KEYS as KEY_SET
from tests.document_rig import ROOTS as PINNED

BOOT = "boot-1"
PACKAGE = version_number("0.1.0")


def content(version: str, extra_bytes: int = 0) -> bytes:
    """Return a zip of a program that says its version."""
    out = io.BytesIO()
    with zipfile.ZipFile(out, "w") as zipped:
        for name, text in (
            ("onboard/__init__.py", b""),
            ("onboard/__main__.py", f"import sys; print({version!r}, *sys.argv[1:])\n".encode()),
            ("ballast", bytes(range(256)) * (extra_bytes // 256)),
        ):
            zipped.writestr(zipfile.ZipInfo(name), text)  # its date is always the same
    return out.getvalue()


def signed(version: str, data: bytes, needs: tuple[str, ...] = (), signer: d.Signer = CLOUD) -> bytes:
    """Return the document for a content."""
    return d.encode_update(describe_content(version_number(version), data, needs), signer)


def bundle(version: str, extra_bytes: int = 0, needs: tuple[str, ...] = (), signer: d.Signer = CLOUD) -> bytes:
    """Return a whole signed bundle."""
    data = content(version, extra_bytes)
    return pack(signed(version, data, needs, signer), data)


def pieces(document: bytes, data: bytes) -> list[bytes]:
    """Return the pieces of an update."""
    name = d.update_id(document)
    return [d.encode_piece(d.Piece(name, index, block)) for index, block in enumerate(blocks_of(data))]


@dataclass
class Town:
    """The updater with a clock, a daemon and a launcher that a test moves."""

    folder: Path
    boot_id: str = BOOT
    now_s: float = 1000.0
    obstacles: list[str] = field(default_factory=list)
    """What the daemon says in turn; then nothing is in the way."""
    check: str = ""
    asked: list[str] = field(default_factory=list)
    daemon: Callable[[Town], dict[str, Any]] = lambda town: town.old()
    """What runs after the stop, when it is asked how it is. ConnectionError: nothing answers."""
    stops: bool = True
    answers: bool = True
    stopped_s: float | None = None
    on_sleep: Callable[[Town], None] = lambda _town: None

    def __post_init__(self) -> None:
        self.inbox, self.slots = self.folder / "inbox", self.folder / "slots"
        for each in (self.inbox, self.slots):
            each.mkdir(exist_ok=True)
        (self.inbox / ROOTS).write_text("".join(f"{root.hex()}\n" for root in PINNED))
        (self.inbox / KEYS).write_bytes(d.encode_key_set(KEY_SET, ROOT))

    def bring(self, data: bytes) -> None:
        (self.inbox / BUNDLE).write_bytes(data)

    def old(self) -> dict[str, Any]:
        """What the version before says."""
        return {"id": "", "up_s": 900.0, "not_alive": [], "faults": ["gps"], "obstacle": ""}

    def up_s(self) -> float:
        return 0.0 if self.stopped_s is None else self.now_s - self.stopped_s - 5.0

    def ask(self, request: dict[str, Any]) -> dict[str, Any]:
        if not self.answers:
            raise ConnectionError("no daemon answers")
        self.asked.append(request["command"])
        match request["command"]:
            case "update" if self.stopped_s is None:
                return self.old() | {"obstacle": self.obstacles.pop(0) if self.obstacles else ""}
            case "update":
                return self.daemon(self)
            case "update_stop":
                if self.stops:
                    self.stopped_s = self.now_s
                return {"stopping": self.stops}
            case _:
                return {"ok": True}

    def sleep(self, seconds: float) -> None:
        self.now_s += seconds
        self.on_sleep(self)

    def updater(self) -> Updater:
        world = Surroundings(
            self.inbox,
            self.slots,
            self.ask,
            lambda _bundle: self.check,
            self.boot_id,
            lambda: self.now_s,
            self.sleep,
            PACKAGE,
        )
        return Updater(world)
