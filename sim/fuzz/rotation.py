"""Files of a change of keys: what is proposed to a root, and what comes back signed."""

from __future__ import annotations

from collections.abc import Sequence
from contextlib import ExitStack
from pathlib import Path
from typing import Final

from cloud_sync import documents as d
from cloud_sync.documents import cbor
from cloud_sync.documents.kinds import DocumentType, Refused
from cloud_sync.endpoint import key_rotation
from cloud_sync.endpoint.authority import ROLES, Authority, AuthorityError, Paths
from sim.fuzz.door import Door, Harness, right
from sim.fuzz.feed import Feed, cbor_key, changed
from sim.fuzz.world import ROOT, forged

SIGN, ADOPT, WAITING = range(3)
"""The first byte of an input: it is proposed to a root, said to be signed, or the proposal that waits when an honest
signed one comes."""
RAW, SIGNED, CHANGED = range(3)
"""The second byte: the rest is the file; what a root signs; or how the honest key set is changed. Where nothing is
signed, the first two are one."""

_OLD, _NEW = 7, 8
"""Versions in force and proposed; the secret halves are these numbers', so that an input means the same each time."""


def _secret(version: int, number: int) -> bytes:
    return bytes((version, number)) * 16


def _signers(version: int) -> dict[str, d.Signer]:
    return {role: d.Signer.from_bytes(_secret(version, at)) for at, role in enumerate(ROLES, start=1)}


def _sealing(version: int) -> d.AgreementKey:
    return d.AgreementKey.from_bytes(_secret(version, 9))


def _entries(version: int) -> tuple[d.AuthorityKey, ...]:
    return tuple(signer.may_sign(*ROLES[role]) for role, signer in _signers(version).items())


IN_FORCE: Final = d.KeySet(_OLD, _entries(_OLD), _sealing(_OLD).public)
PROPOSED: Final = d.KeySet(_NEW, (*_entries(_NEW), *_entries(_OLD)), _sealing(_NEW).public)
PROPOSAL: Final = d.propose_key_set(PROPOSED)
SIGNED_BY_ROOT: Final = d.encode_key_set(PROPOSED, ROOT)


def _files(folder: Path) -> dict[Path, bytes]:
    """Return an endpoint's files while a proposal waits."""
    paths = Paths(folder)
    halves = {
        paths.keys / f"{name}-{version}.pem": key.to_pem()
        for version in (_OLD, _NEW)
        for name, key in (*_signers(version).items(), ("sealing", _sealing(version)))
    }
    return halves | {
        paths.roots: f"{ROOT.public.hex()}\n".encode(),
        paths.key_set: d.encode_key_set(IN_FORCE, ROOT),
        paths.proposal: PROPOSAL,
    }


def _put(files: dict[Path, bytes]) -> None:
    for path, data in files.items():
        if not path.exists() or path.read_bytes() != data:
            path.write_bytes(data)
            path.chmod(0o600)


def _sign(proposal: bytes) -> None:
    """What a root signs is what was proposed and shown, and every key in it stands under its own id."""
    key_set, document = key_rotation.sign(proposal, ROOT)
    key_rotation.show(key_set).encode()
    right(d.decode_key_set(document, (ROOT.public,)) == key_set, "another key set was signed than was shown")
    right(all(d.key_id(key.public) == key.kid for key in key_set.keys), "a key under another one's id")
    right(d.read_proposal(d.propose_key_set(key_set)) == key_set, "what was taken would be proposed otherwise")


def _adopt(folder: Path, document: bytes) -> None:
    """What is put in force is signed by a root and is what was proposed; the endpoint starts with it."""
    paths = Paths(folder)
    waited = paths.proposal.read_bytes()
    key_set = key_rotation.adopt(folder, document)
    right(d.decode_key_set(document, (ROOT.public,)) == key_set, "another key set is in force than was signed")
    if key_set != IN_FORCE:
        right(d.read_proposal(waited) == key_set, "nobody proposed it")
        right(not paths.proposal.exists(), "its proposal waits still")
    right(Authority(folder).key_set == key_set, "it is not in force")


def open_keys(folder: Path, _ending: ExitStack) -> Harness:
    """The three files as the commands take them. Of what is refused nothing stays."""
    paths, files = Paths(folder), _files(folder)
    paths.keys.mkdir()

    def run(data: bytes) -> None:
        feed = Feed(data)
        step, how = feed.below(3), feed.below(3)
        payload = cbor.dumps(changed(cbor.loads(PROPOSAL), feed, keys=cbor_key)) if how == CHANGED else feed.rest()
        _put(files)
        try:
            if step == SIGN:
                _sign(payload)
            elif step == ADOPT:
                _adopt(folder, payload if how == RAW else forged(DocumentType.KEY_SET, payload))
            else:
                paths.proposal.write_bytes(payload)
                _adopt(folder, SIGNED_BY_ROOT)
        except (Refused, AuthorityError) as refused:
            str(refused).encode("utf-8", "backslashreplace")
            kept = {path: path.read_bytes() for path in files}
            right(step == WAITING or kept == files, "refused, and something has changed")
            right(kept[paths.key_set] == files[paths.key_set], "refused, and in force")

    return run


def _seeds() -> Sequence[bytes]:
    stranger = d.encode_key_set(PROPOSED, d.Signer.from_bytes(bytes([99]) * 32))
    older = d.encode_key_set(d.KeySet(_OLD - 1, IN_FORCE.keys, IN_FORCE.sealing_public), ROOT)
    whole = [bytes((ADOPT, RAW)) + each for each in (SIGNED_BY_ROOT, d.encode_key_set(IN_FORCE, ROOT), stranger, older)]
    inner = [bytes((step, SIGNED)) + PROPOSAL for step in (SIGN, ADOPT, WAITING)]
    changes = [
        bytes((step, CHANGED, 1, place, *how))
        for step in (SIGN, ADOPT, WAITING)
        for place in range(1, 20)
        for how in ((0, 0, 1), (0, 5, 3, 2, 5))
    ]
    return [*whole, *inner, *changes]


DOORS: Final = (
    # Up to a dozen key files are read, signed or checked, and written to a disk.
    Door("keys", "proposals of other keys, and what a root signed", open_keys, _seeds, worst_s=0.05, bytes_max=4096),
)
