"""``amibox provision``: ask the town hall for a car, take its answer, forget everything (docs/provisioning.md).

``request`` and ``accept`` are plain functions as well: the console carries the same two documents over its cable.
"""

from __future__ import annotations

import argparse
import contextlib
import os
import sys
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Final

import segno

from cloud_sync.documents import BoxAnswer, Refused, decode_box_request, fingerprint, roots_fingerprint, unarmoured
from cloud_sync.documents.kinds import MAX_DOCUMENT_BYTES
from cloud_sync.provisioning import PROVISIONING, load_keys, make_keys, open_answer, take_answer, write_whole
from onboard.config import BoxConfig, ConfigError, check_town, load_config
from onboard.config_town import TOWN
from onboard.reset import ResetRefused, reset

HELP: Final = "make this computer the box of a car, or no car's any more"
CA, CERTIFICATE = "ca.pem", "box.pem"

NEXT_REQUEST: Final = """\
This box asks to be a car's.  /  Ce boîtier demande une voiture.
Read these digits to the town hall, and send it the request.
Lisez ces chiffres à la mairie et envoyez-lui la demande.

  {fingerprint}
"""
NEXT_ACCEPT: Final = """\
This is the box of {vehicle} now.  /  C'est maintenant le boîtier de {vehicle}.
{hint}Next  /  Ensuite :  sudo systemctl restart amibox
"""
ASK: Final = """\
This answer makes this the box of {vehicle}.  /  Cette réponse en fait le boîtier de {vehicle}.
Have the town hall read its fingerprint to you. Is it this one?
Faites-vous lire l'empreinte de la mairie. Est-ce celle-ci ?

  {fingerprint}

yes / oui : """


@dataclass(frozen=True, slots=True)
class Asked:
    """What leaves the box: the request's bytes, and the digits by which people know it."""

    document: bytes
    fingerprint: str


def request(folder: Path) -> Asked:
    """Return this box's request; the first time it makes the keys. Raises OSError, or ValueError with the remedy."""
    if not folder.exists():
        folder.mkdir(mode=0o700, parents=True)
    document = make_keys(folder).request
    _give_to_owner(folder)
    return Asked(document, fingerprint(decode_box_request(document).digest))


def accept(folder: Path, data: bytes, trusted: Callable[[BoxAnswer], bool]) -> BoxAnswer:
    """Take the town hall's answer: raw, hex or base64. ``trusted``: whether a first answer's roots are the commune's.

    The files of the broker and the town hall's part of the configuration come first, ``provisioning.cbor`` last: a cut
    in between leaves a box that takes the same answer again. Raises ``Refused``, ConfigError, ValueError or OSError;
    nothing was changed then but by an OSError.
    """
    keys, data = load_keys(folder), unarmoured(data)
    answer = open_answer(data, keys)
    # Before anything is written: what the box could not start with.
    check_town(answer.town, folder / TOWN)
    first = not (folder / PROVISIONING).exists()
    judged = not first or trusted(answer)
    take_answer(folder, data, lambda _: judged, prepare=lambda: _write_beside(folder, answer))
    _give_to_owner(folder)
    return answer


def _write_beside(folder: Path, answer: BoxAnswer) -> None:
    write_whole(folder / TOWN, answer.town.encode())
    for name, content in ((CA, answer.ca), (CERTIFICATE, answer.certificate)):
        if content is not None:
            write_whole(folder / name, content)


def _give_to_owner(folder: Path) -> None:
    """What root wrote is the daemon's to read: all of it belongs to whom the folder belongs to."""
    if os.geteuid() == 0:
        owner = folder.stat()
        for path in (folder, *folder.rglob("*")):
            os.chown(path, owner.st_uid, owner.st_gid, follow_symlinks=False)


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Describe the arguments of ``amibox provision``."""
    where = argparse.ArgumentParser(add_help=False)
    where.add_argument(
        "--directory", type=Path, default=BoxConfig().data_dir, help="the box's data (default: %(default)s)"
    )
    kinds = parser.add_subparsers(metavar="WHAT", required=True)
    one = kinds.add_parser("request", parents=[where], help="make this box's keys, once, and ask for a car")
    one.add_argument("--out", type=Path, metavar="FILE", help="write the request; .svg or .png: as a QR code")
    one.add_argument("--qr", action="store_true", help="show it as a QR code on this terminal")
    one.set_defaults(do=_request)
    one = kinds.add_parser("accept", parents=[where], help="take the town hall's answer")
    one.add_argument("file", type=Path, metavar="FILE", help="what amibox-cloud box add wrote; - reads standard input")
    one.add_argument("--commune", metavar="DIGITS", help="the town hall's fingerprint; without it you are asked")
    one.add_argument(
        "--config", type=Path, default=Path("/etc/amibox/box.toml"), help="the technician's part (default: %(default)s)"
    )
    one.set_defaults(do=_accept)
    one = kinds.add_parser("reset", parents=[where], help="forget car, keys and everybody's data")
    one.add_argument("--lose-unsent", action="store_true", help="though the commune has not acknowledged every record")
    one.add_argument("--socket", type=Path, default=BoxConfig().socket, help="the daemon's (default: %(default)s)")
    one.set_defaults(do=_reset)


def _request(args: argparse.Namespace) -> int:
    try:
        asked = request(args.directory)
        code = segno.make_qr(asked.document.hex().upper(), error="l")
        if args.out is not None and args.out.suffix in {".svg", ".png"}:
            code.save(str(args.out), scale=6)
        elif args.out is not None:
            args.out.write_bytes(asked.document)
    except (OSError, ValueError) as error:
        return _failed(str(error))
    sys.stdout.write(NEXT_REQUEST.format(fingerprint=asked.fingerprint))
    if args.out is not None:
        sys.stdout.write(f"\n{args.out} written: it holds nothing secret.\n")
    if args.qr:
        sys.stdout.write("\n")
        code.terminal(compact=True)
    if args.out is None and not args.qr:
        text = asked.document.hex().upper()
        sys.stdout.write("\n" + "".join(f"{text[at : at + 64]}\n" for at in range(0, len(text), 64)))
    return 0


def _accept(args: argparse.Namespace) -> int:
    def trusted(answer: BoxAnswer) -> bool:
        right = roots_fingerprint(answer.roots)
        if args.commune is not None:
            return bool(args.commune.split() == right.split())
        sys.stdout.write(ASK.format(vehicle=answer.vehicle, fingerprint=right))
        sys.stdout.flush()
        return str(args.file) != "-" and sys.stdin.readline().strip().lower() in {"yes", "oui", "y", "o"}

    try:
        if str(args.file) == "-":
            data = sys.stdin.buffer.read(4 * MAX_DOCUMENT_BYTES)
        else:
            with args.file.open("rb") as file:
                data = file.read(4 * MAX_DOCUMENT_BYTES)
        answer = accept(args.directory, data, trusted)
    except Refused as refused:
        reason = refused.reason
        return _failed(f"refused {reason.value} {reason.word}: {reason.meaning} {refused.detail}\nNothing was changed.")
    except ConfigError as error:
        return _failed(
            f"{error}\nThe town hall's part has these mistakes: it corrects its town.toml and answers again."
        )
    except (OSError, ValueError) as error:
        return _failed(str(error))
    hint = "It has no broker: phones carry everything.\n" if answer.certificate is None else ""
    with contextlib.suppress(ConfigError):
        hint += "".join(f"Look at {shadow}\n" for shadow in load_config(args.config).shadows)
    sys.stdout.write(NEXT_ACCEPT.format(vehicle=answer.vehicle, hint=hint))
    return 0


def _reset(args: argparse.Namespace) -> int:
    try:
        gone = reset(args.directory, args.socket, lose_unsent=args.lose_unsent)
    except ResetRefused as error:
        return _failed(str(error))
    except OSError as error:
        return _failed(f"{error}. Some of it may be gone: run amibox provision reset again")
    sys.stdout.write(
        f"Forgotten: {gone} files.  /  Oublié : {gone} fichiers.\nThis box is no car's any more. "
        "Next, if it is to be another's: amibox provision request\n"
    )
    return 0


def _failed(text: str) -> int:
    sys.stderr.write(f"amibox provision: {text}\n")
    return 1
