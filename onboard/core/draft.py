"""One step in the making. A draft lives inside ``machine.step`` only; nothing of it escapes but its result."""

from __future__ import annotations

from dataclasses import replace
from typing import Any, Final

from onboard.core.clock import Instant, stamp
from onboard.core.commands import Command, Pattern, Record, Reply, Show
from onboard.core.policy import Policy
from onboard.core.records import AccessDenied, DocumentRefused, FaultChanged, Recordable
from onboard.core.state import Kept, Share, State

HOUR_S: Final = 3600.0
STATUS_LEAST_S: Final = 2.0
"""Least time between two statuses that a change asks for."""


class Draft:
    """The state as it will be, and what is to be written and done, in order."""

    def __init__(self, state: State, now: Instant) -> None:
        self.before = state
        self.state = replace(state, at=now)
        self.now = now
        self.records: list[Recordable] = []
        self.commands: list[Command] = []

    @property
    def kept(self) -> Kept:
        """What survives a power cut."""
        return self.state.kept

    @property
    def policy(self) -> Policy:
        """The rules in force."""
        return self.state.policy

    @property
    def boot_s(self) -> float:
        """Boot time of this step."""
        return self.now.boot_s

    @property
    def stamp(self) -> Instant:
        """Moment of this step as the core believes it."""
        return stamp(self.kept.floor_s, self.state.anchor, self.now)

    def set(self, **changes: Any) -> None:
        """Change parts of the state."""
        self.state = replace(self.state, **changes)

    def keep(self, **changes: Any) -> None:
        """Change parts of the state that survive: they are committed with this step."""
        self.state = replace(self.state, kept=replace(self.state.kept, **changes))

    def doors(self, **changes: Any) -> None:
        """Change the doors' part."""
        self.state = replace(self.state, doors=replace(self.state.doors, **changes))

    def vehicle(self, **changes: Any) -> None:
        """Change the vehicle's part."""
        self.state = replace(self.state, vehicle=replace(self.state.vehicle, **changes))

    def sending(self, **changes: Any) -> None:
        """Change the sender's part."""
        self.state = replace(self.state, sending=replace(self.state.sending, **changes))

    def record(self, record: Recordable) -> None:
        """Write this down, before anything is done."""
        self.records.append(record)

    def do(self, command: Command) -> None:
        """Have this done, after the commit, in the order of the calls."""
        self.commands.append(command)

    def show(self, pattern: Pattern) -> None:
        """Answer with light and sound."""
        self.do(Show(pattern))

    def reply(self, request: int, status: str, reason: str) -> None:
        """Answer a request that waits for one."""
        if request:
            self.do(Reply(request, status, reason))

    def refuse(self, refusal: AccessDenied | DocumentRefused) -> None:
        """Write a refusal down, or count it when this hour has had its share: nobody fills the store with them."""
        share = self._this_hour(self.state.refusals)
        if share.written == 0 and self.state.refusals.counted:
            self.record(AccessDenied("flood", "", self.state.refusals.counted))
        self.set(refusals=self._write(refusal, share))

    def _this_hour(self, share: Share) -> Share:
        return Share(hour_from_s=self.boot_s) if self.boot_s - share.hour_from_s >= HOUR_S else share

    def _write(self, record: Recordable, share: Share) -> Share:
        if share.written >= self.policy.refusals_per_hour_max:
            return replace(share, counted=share.counted + 1)
        self.record(record)
        return replace(share, written=share.written + 1)

    def fault(self, part: str, detail: str, *, active: bool) -> None:
        """Raise or clear a fault; only a change is written, and of a part that flaps no more than the hour's share."""
        faults = dict(self.state.faults)
        if active == (part in faults):
            return
        if active:
            faults[part] = detail
        else:
            del faults[part]
        self.set(faults=tuple(sorted(faults.items())))
        share = self._this_hour(self.state.fault_changes)
        self.set(fault_changes=self._write(FaultChanged(part, active, detail), share))
        self.tell_status()

    def tell_status(self) -> None:
        """Have a status sent soon; a flapping contact must not eat the SIM card's data."""
        sending = self.state.sending
        soon_s = max(self.boot_s, sending.status_sent_s + STATUS_LEAST_S)
        self.sending(status_at_s=min(sending.status_at_s, soon_s))

    def finish(self) -> tuple[State, tuple[Command, ...]]:
        """Return the step's result: one commit first if anything must survive, then the commands in order."""
        head: tuple[Command, ...] = ()
        if self.records or self.kept != self.before.kept:
            acked = max(self.kept.outbox.acked_seq, self.state.sending.acked_seq)
            self.keep(outbox=replace(self.kept.outbox, acked_seq=acked))
            head = (Record(tuple(self.records)),)
        return self.state, head + tuple(self.commands)
