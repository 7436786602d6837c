"""``amibox-cloud keys``: other keys for the endpoint, signed with a root that never comes near a network.

Three steps, any of which a power cut may end: *propose* makes the private halves here, *sign* is done where a root is,
*adopt* puts the signed key set in force by one rename. A box takes it when it hears of it, whatever came in between.
"""

from __future__ import annotations

import argparse
from pathlib import Path
from typing import Any, Final

from cloud_sync.documents import (
    AgreementKey,
    DocumentType,
    KeySet,
    Signer,
    decode_key_set,
    encode_key_set,
    key_id,
    propose_key_set,
    read_proposal,
)
from cloud_sync.endpoint.authority import ROLES, Authority, AuthorityError, Paths, PrivateKeys
from cloud_sync.endpoint.certificate_parts import write

_OWN: Final = 0o600
_OPEN: Final = 0o644
"""A proposal and a key set hold public halves alone."""


def propose(folder: Path, now_s: int, *, stolen: bool) -> KeySet:
    """Make new keys and a key set that no root has signed; nothing changes yet. AuthorityError if one waits already.

    The keys in force stay in it, behind the new ones, so that what they signed holds until it is over; ``stolen``: they
    do not, and a box that has heard of it takes nothing more that they sign. What a thief had it take before stays.
    """
    paths, authority = Paths(folder), Authority(folder)
    if paths.proposal.exists():
        raise AuthorityError(f"{paths.proposal} waits to be signed and adopted. To begin anew, delete it first.")
    old = [authority.key_set.find(kid) for kid in authority.kids()]
    offline = [key for key in authority.key_set.keys if not any(key.types & set(types) for types in ROLES.values())]
    # Seconds as a version, as the first one: above what any box holds even if this folder was once lost.
    version = max(authority.key_set.version + 1, now_s)
    signers = {role: Signer.generate() for role in ROLES}
    sealing = AgreementKey.generate()
    entries = [signers[role].may_sign(*types) for role, types in ROLES.items()]
    kept = () if stolen else tuple(key for key in old if key is not None)
    made = KeySet(version, (*entries, *kept, *offline), sealing.public)
    try:
        for name, key in (*signers.items(), ("sealing", sealing)):
            write(paths.keys / f"{name}-{version}.pem", key.to_pem(), _OWN)
        write(paths.proposal, propose_key_set(made), _OPEN)
    except FileExistsError as error:
        raise AuthorityError(
            f"somebody else proposes at this moment ({error.filename2}). Look at it, or try again."
        ) from error
    return made


def sign(proposal: bytes, root: Signer) -> tuple[KeySet, bytes]:
    """Return a proposal's key set, and the same signed with a root; ``Refused`` if it is none."""
    key_set = read_proposal(proposal)
    return key_set, encode_key_set(key_set, root)


def adopt(folder: Path, document: bytes) -> KeySet:
    """Put a signed key set in force for the endpoint's next start, and drop private halves that nothing lists any more.

    AuthorityError or ``Refused``, and nothing has changed: no root of ours signed it, it is not the proposal that waits
    or not newer than the one in force, or a private half is missing here. Adopted once more it changes nothing.
    """
    paths, authority = Paths(folder), Authority(folder)
    key_set = decode_key_set(document, authority.roots)
    if document == authority.key_set_document:
        return key_set
    if key_set.version < authority.key_set.version:
        raise AuthorityError(f"key set {key_set.version} is older than {authority.key_set.version}, which is in force.")
    if key_set.version == authority.key_set.version:
        raise AuthorityError(f"another key set {key_set.version} is in force: propose again.")
    if paths.proposal.exists() and read_proposal(paths.proposal.read_bytes()) != key_set:
        raise AuthorityError(
            f"this is not what {paths.proposal} proposes: was it changed on its way? If that proposal is no longer "
            "wanted, delete it."
        )
    own = PrivateKeys(paths.keys)
    for role in ROLES:
        own.signer(role, key_set)
    own.sealing(key_set)
    write(paths.key_set, document, _OWN, replace=True)
    paths.proposal.unlink(missing_ok=True)
    for role in ROLES:
        for path in paths.keys.glob(f"{role}*.pem"):
            if key_set.find(Signer.load(path).kid) is None:
                path.unlink()
    return key_set


def is_in_force(folder: Path, document: bytes) -> bool:
    """Tell whether this is the key set in force."""
    return Paths(folder).key_set.read_bytes() == document


def add_parser(commands: Any) -> None:
    """Add ``keys`` and its commands to the commands of ``amibox-cloud``."""
    keys = commands.add_parser("keys", help="other keys for the endpoint, from time to time or after a theft")
    steps = keys.add_subparsers(required=True, metavar="COMMAND")

    first = steps.add_parser(
        "propose",
        help="1: make them, here",
        description="Makes the new private halves in DIR/keys, and DIR/key_set.proposal. Nothing changes yet.",
    )
    first.add_argument("dir", metavar="DIR", type=Path, help="folder of the endpoint")
    first.add_argument(
        "--stolen",
        action="store_true",
        help="the keys in force are known to others: a car that hears of the new ones takes nothing more from the old. "
        "What a thief had a car take before stays there (SECURITY.md)",
    )
    first.set_defaults(run=_propose)

    second = steps.add_parser(
        "sign",
        help="2: sign them with a root, on a machine without a network",
        description="Prints what the proposal holds and signs it. It asks nothing: compare with what propose printed.",
    )
    second.add_argument("proposal", metavar="PROPOSAL", type=Path, help="what propose made")
    second.add_argument("--root", metavar="FILE", type=Path, required=True, help="root-1.pem or root-2.pem")
    second.add_argument("--out", metavar="FILE", type=Path, required=True, help="the signed key set to write")
    second.set_defaults(run=_sign)

    third = steps.add_parser(
        "adopt",
        help="3: put them in force, here",
        description="Checks the signed key set and puts it in force. Then restart the endpoint.",
    )
    third.add_argument("dir", metavar="DIR", type=Path, help="folder of the endpoint")
    third.add_argument("signed", metavar="FILE", type=Path, help="what sign wrote")
    third.set_defaults(run=_adopt)


def _say(text: str) -> None:
    print(text, flush=True)  # noqa: T201  (a command prints)


def _propose(arguments: argparse.Namespace) -> int:
    made = propose(arguments.dir, int(arguments.now()), stolen=arguments.stolen)
    paths = Paths(arguments.dir)
    _say(f"{paths.proposal}, for a root to sign:\n{show(made)}")
    _say(
        f"Next, where the root is: amibox-cloud keys sign {paths.proposal.name} --root root-1.pem --out key_set.signed"
    )
    return 0


def _sign(arguments: argparse.Namespace) -> int:
    key_set, document = sign(arguments.proposal.read_bytes(), Signer.load(arguments.root))
    write(arguments.out, document, _OPEN)
    _say(f"Signed:\n{show(key_set)}")
    _say(f"Next, at the endpoint: amibox-cloud keys adopt DIR {arguments.out.name}")
    return 0


def _adopt(arguments: argparse.Namespace) -> int:
    document = arguments.signed.read_bytes()
    if is_in_force(arguments.dir, document):
        _say("That key set is in force already. Nothing was changed.")
        return 0
    key_set = adopt(arguments.dir, document)
    _say(f"In force from the endpoint's next start: key set {key_set.version}. Restart it now.")
    older = len(PrivateKeys(Paths(arguments.dir).keys).sealings) - 1
    _say(
        f"Older sealing keys stay in {Paths(arguments.dir).keys}: {older}. A car that has not heard of this key set "
        "seals its trips to them. Delete them when every car's status shows this one."
    )
    return 0


def show(key_set: KeySet) -> str:
    """Return what a key set holds, in lines to be compared by whoever signs it."""
    lines = [f"  key set {key_set.version}", f"  {key_id(key_set.sealing_public).hex()} opens trips"]
    seen: set[frozenset[DocumentType]] = set()
    for key in key_set.keys:
        old = " (the one before, for a while)" if key.types in seen else ""
        lines.append(f"  {key.kid.hex()} signs {', '.join(sorted(kind.word for kind in key.types))}{old}")
        seen.add(key.types)
    if len(seen) == len(key_set.keys):
        lines.append("  no key before these holds any more: as after a theft")
    return "\n".join(lines)
