"""A box with rows to send, for the tests of the way to the cloud."""

from __future__ import annotations

from dataclasses import replace

from onboard.core import machine
from onboard.core.commands import Command
from onboard.core.events import AckReceived, LinkReported
from onboard.core.policy import Policy
from onboard.core.state import Outbox
from tests.core_kit import POLICY, Kit

STORE = b"store-of-16bytes"
SMALL = replace(POLICY, batch_events_max=3, batches_unacknowledged_max=4)


def box(rows: int = 0, policy: Policy = SMALL, *, connected: bool = True) -> Kit:
    """Return a box with so many unsent rows in all."""
    kit = Kit(policy)
    outbox = Outbox(STORE, max(rows, 1), 0)
    kit.state = machine.committed(kit.state, outbox)
    if connected:
        kit.give(LinkReported(connected=True))
    return kit


def acknowledge(kit: Kit, up_to: int, store: bytes = STORE) -> tuple[Command, ...]:
    return kit.give(AckReceived(store, up_to), 0.1)
