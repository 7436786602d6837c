"""``amibox-cloud update``: make a bundle of the box's software, sign it offline, and offer it to the cars.

What is offered is one file, ``DIR/update.bundle``, put there at once. A box's status says what it runs and how far it
is: it is sent the signed document first, then the pieces that it lacks, so many for each status.
"""

from __future__ import annotations

import argparse
import io
import tomllib
import zipfile
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Final

from cloud_sync.documents import KeySet, Piece, Refused, Signer, Status, Update, decode_key_set, encode_piece
from cloud_sync.documents.update import (
    BLOCK_BYTES,
    HEAD_BYTES,
    blocks_of,
    decode_update,
    describe_content,
    encode_update,
    fits,
    head_of,
    pack,
    update_id,
    version_number,
    version_text,
)
from cloud_sync.endpoint.authority import AuthorityError, Paths
from cloud_sync.endpoint.certificate_parts import write
from cloud_sync.wire import Topic

PACKAGES: Final = ("onboard", "hw", "cloud_sync")
NOT_THE_BOXES: Final = ("cloud_sync/endpoint/", "cloud_sync/broker/")
WINDOW: Final = 8
"""Pieces for each status of a box; it sends one when so many came (``onboard.inbox``)."""
_ENDINGS: Final = (".py", ".toml", ".dbc")
_EARLIEST: Final = (1980, 1, 1, 0, 0, 0)
_OPEN: Final = 0o644


@dataclass(frozen=True, slots=True)
class Offer:
    """What is offered: ``document`` signed, ``id`` its SHA-256, and the blocks."""

    update: Update
    document: bytes
    id: bytes
    blocks: tuple[bytes, ...]


def files_of(root: Path) -> dict[str, bytes]:
    """Return the box's own files below ``root`` by their names. ValueError if they are not there."""
    found: dict[str, bytes] = {}
    for package in PACKAGES:
        for path in (root / package).rglob("*"):
            name = path.relative_to(root).as_posix()
            if path.is_file() and name.endswith(_ENDINGS) and not name.startswith(NOT_THE_BOXES):
                found[name] = path.read_bytes()
    if "onboard/__main__.py" not in found:
        raise ValueError(f"{root} does not hold the box's software: name the folder of the project with --source")
    return found


def make_content(files: dict[str, bytes], version: str) -> bytes:
    """Return the zip of the box's files: the same files give the same bytes, whoever makes it."""
    # What importlib.metadata reads, and so the status.
    metadata = f"Metadata-Version: 2.1\nName: amibox\nVersion: {version}\n".encode()
    found = files | {f"amibox-{version}.dist-info/METADATA": metadata}
    out = io.BytesIO()
    with zipfile.ZipFile(out, "w", zipfile.ZIP_DEFLATED, compresslevel=9) as zipped:
        for name in sorted(found):
            info = zipfile.ZipInfo(name, _EARLIEST)
            info.compress_type = zipfile.ZIP_DEFLATED
            info.external_attr = _OPEN << 16
            zipped.writestr(info, found[name])
    return out.getvalue()


def needs_of(root: Path) -> tuple[str, ...]:
    """Return the versions that ``constraints.txt`` pins of the libraries that ``pyproject.toml`` wants for a box."""
    wanted = tomllib.loads((root / "pyproject.toml").read_text())["project"]["dependencies"]
    pins = dict(
        line.partition("==")[::2] for line in (root / "constraints.txt").read_text().splitlines() if "==" in line
    )
    return tuple(f"{name}=={pins[name].partition(' ')[0]}" for name in sorted(wanted))


def make_bundle(root: Path, version: str, signer: Signer, **changes: bytes) -> bytes:
    """Return a signed bundle of the box's software below ``root``. ``changes``: other content for named files."""
    content = make_content(files_of(root) | changes, version)
    update = describe_content(version_number(version), content, needs_of(root))
    return pack(encode_update(update, signer), content)


def read_bundle(data: bytes, key_set: KeySet) -> Offer:
    """Verify a whole bundle, or raise ``Refused`` or ValueError."""
    document = head_of(data)
    update = decode_update(document, key_set)
    content = data[HEAD_BYTES + len(document) :]
    blocks = tuple(blocks_of(content))
    if len(content) != update.size or not all(fits(update, *each) for each in enumerate(blocks)):
        raise ValueError("the bundle's content is not what was signed: fetch it again")
    return Offer(update, document, update_id(document), blocks)


class Updates:
    """What the endpoint offers. The file is read again when it has changed; what does not verify is not offered."""

    def __init__(self, path: Path, key_set: KeySet) -> None:
        self._path = path
        self._key_set = key_set
        self._read: tuple[int, int] = (0, 0)
        self._offer: Offer | None = None

    @property
    def offer(self) -> Offer | None:
        """What is offered now."""
        try:
            told = self._path.stat()
        except FileNotFoundError:
            self._read, self._offer = (0, 0), None
            return None
        if (told.st_mtime_ns, told.st_ino) != self._read:
            self._read = told.st_mtime_ns, told.st_ino
            try:
                self._offer = read_bundle(self._path.read_bytes(), self._key_set)
            except (Refused, ValueError):
                self._offer = None
        return self._offer

    def answer(self, status: Status) -> list[tuple[Topic, bytes]]:
        """Return what to send to a box with this status: nothing to one that has it, refused it, or knows better."""
        offer, progress = self.offer, status.update
        if offer is None or _number(status.software) >= offer.update.version:
            return []
        if progress is None or progress.update != offer.id:
            return [(Topic.UPDATE, offer.document), *self._pieces(offer, 0)]
        return self._pieces(offer, progress.next_block)

    def _pieces(self, offer: Offer, first: int) -> list[tuple[Topic, bytes]]:
        last = min(first + WINDOW, len(offer.blocks))
        return [
            (Topic.PIECE, encode_piece(Piece(offer.id, index, offer.blocks[index]))) for index in range(first, last)
        ]


def _number(software: str) -> int:
    try:
        return version_number(software)
    except ValueError:
        return 0


def bundle_path(folder: Path) -> Path:
    """Where the endpoint looks for what it offers."""
    return folder / "update.bundle"


def add_parser(commands: Any) -> None:
    """Add ``amibox-cloud update`` to its parser."""
    steps = commands.add_parser("update", help="new versions of the box's software").add_subparsers(
        required=True, metavar="COMMAND"
    )
    one = steps.add_parser(
        "make",
        help="make a bundle and sign it, where the offline update key is",
        description="Packs the box's own files and signs them. Look at docs/updates.md before you publish it.",
    )
    one.add_argument("version", metavar="VERSION", help="such as 1.2.3; higher than any that a box has")
    one.add_argument("--key", metavar="FILE", type=Path, required=True, help="the offline key: update.pem")
    one.add_argument("--out", metavar="FILE", type=Path, required=True, help="the bundle to write")
    one.add_argument("--source", metavar="DIR", type=Path, default=Path(), help="the project's folder (default: here)")
    one.set_defaults(run=_make)

    one = steps.add_parser("publish", help="offer a bundle to every car, here at the endpoint")
    one.add_argument("bundle", metavar="FILE", type=Path, help="what make wrote")
    one.add_argument("--dir", metavar="DIR", type=Path, required=True, help="folder of the endpoint")
    one.set_defaults(run=_publish)

    one = steps.add_parser("show", help="say what is offered")
    one.add_argument("--dir", metavar="DIR", type=Path, required=True, help="folder of the endpoint")
    one.set_defaults(run=_show)

    one = steps.add_parser("withdraw", help="offer nothing any more; a car that has it keeps it")
    one.add_argument("--dir", metavar="DIR", type=Path, required=True, help="folder of the endpoint")
    one.set_defaults(run=_withdraw)


def _say(text: str) -> None:
    print(text, flush=True)  # noqa: T201  (a command prints)


def _make(arguments: argparse.Namespace) -> int:
    bundle = make_bundle(arguments.source, arguments.version, Signer.load(arguments.key))
    write(arguments.out, bundle, _OPEN)
    _say(
        f"{arguments.out}: version {arguments.version}, {len(bundle)} bytes, {-(-len(bundle) // BLOCK_BYTES)} pieces.\n"
        f"Next, at the endpoint: amibox-cloud update publish {arguments.out.name} --dir DIR"
    )
    return 0


def _key_set(folder: Path) -> KeySet:
    paths = Paths(folder)
    if not paths.key_set.exists():
        raise AuthorityError(f"no key set in {folder}: is it the endpoint's folder?")
    roots = tuple(bytes.fromhex(line) for line in paths.roots.read_text().split())
    return decode_key_set(paths.key_set.read_bytes(), roots)


def _publish(arguments: argparse.Namespace) -> int:
    data, path = arguments.bundle.read_bytes(), bundle_path(arguments.dir)
    offer = read_bundle(data, _key_set(arguments.dir))
    if path.exists():
        before = read_bundle(path.read_bytes(), _key_set(arguments.dir))
        if before.update.version > offer.update.version:
            raise ValueError(
                f"{version_text(before.update.version)} is offered already, and cars refuse what is older. To go back, "
                "make a bundle of the older files with a higher version."
            )
    write(path, data, _OPEN, replace=True)
    _say(
        f"Version {version_text(offer.update.version)} is offered from now on; nothing need be restarted. A car takes "
        "it when it is parked, free, and its battery is good. /api/v1/vehicles says what each one runs."
    )
    return 0


def _show(arguments: argparse.Namespace) -> int:
    path = bundle_path(arguments.dir)
    if not path.exists():
        _say("No update is offered.")
        return 0
    offer = read_bundle(path.read_bytes(), _key_set(arguments.dir))
    _say(f"Version {version_text(offer.update.version)} is offered, {offer.update.size} bytes; it needs:")
    _say("\n".join(f"  {need}" for need in offer.update.needs))
    return 0


def _withdraw(arguments: argparse.Namespace) -> int:
    bundle_path(arguments.dir).unlink(missing_ok=True)
    _say("No update is offered any more.")
    return 0
