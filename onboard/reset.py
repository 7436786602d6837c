"""``amibox provision reset``: a box forgets its car, its keys and everybody's data.

Not while a rental runs, nor while the commune lacks a record. ``provisioning.cbor`` goes first: from there on the
daemon does not start, and a reset that was cut is done again. What a memory card keeps of erased files nobody can tell:
what makes the keys worthless is that the commune retires them.
"""

from __future__ import annotations

import shutil
from pathlib import Path

from cloud_sync.provisioning import PROVISIONING, load_provisioning, sync_folder
from onboard.control import ask
from onboard.store import Store, StoreFailed
from onboard.store_open import DATABASE
from onboard.store_schema import StoreLocked
from onboard.store_side import SideFiles


class ResetRefused(Exception):  # noqa: N818 - a verdict: nothing was changed
    """Nothing was erased; the text says why and what to do."""


def reset(folder: Path, socket: Path, *, lose_unsent: bool) -> int:
    """Erase all that is in ``folder``; return how many files. Raises ResetRefused, or OSError: repeat it then."""
    if not folder.is_dir():
        raise ResetRefused(f"{folder} is not there: there is nothing to forget. Another place: --directory")
    try:
        ask(socket, {"command": "status"})
    except ConnectionError:
        pass
    else:
        raise ResetRefused("the box is running. Stop it first: sudo systemctl stop amibox")
    if (folder / PROVISIONING).exists():
        # Else it is no car's, or a reset was cut that had looked.
        _may_go(folder, lose_unsent=lose_unsent)
    (folder / PROVISIONING).unlink(missing_ok=True)
    sync_folder(folder)
    files = sum(path.is_file() for path in folder.rglob("*"))
    for path in sorted(folder.iterdir()):
        if path.is_dir() and not path.is_symlink():
            shutil.rmtree(path)
        else:
            path.unlink()
    sync_folder(folder)
    return files


def _may_go(folder: Path, *, lose_unsent: bool) -> None:
    rental = SideFiles(folder).running.rental
    unsent = 0
    try:
        if (folder / DATABASE).exists():
            opened = Store.open(folder, load_provisioning(folder / PROVISIONING).vehicle, 0.0)
            opened.store.close()
            rental, outbox = opened.kept.rental, opened.kept.outbox
            unsent = outbox.last_seq - outbox.acked_seq
    except StoreLocked as locked:
        raise ResetRefused("the box is running. Stop it first: sudo systemctl stop amibox") from locked
    except (StoreFailed, ValueError) as failed:
        if not lose_unsent:
            raise ResetRefused(
                f"the database does not open ({failed}), so nobody can say what the commune lacks. Keep it with "
                "amibox store copy, or go on with --lose-unsent"
            ) from failed
    if rental is not None:
        raise ResetRefused("somebody's rental is running. End it first: lock the car, have it finish")
    if unsent > 0 and not lose_unsent:
        raise ResetRefused(
            f"the commune has not acknowledged the last {unsent} records: trips may be among them. Let the box send "
            "them (start it, wait until amibox status says 0 not acknowledged), or lose them with --lose-unsent"
        )
