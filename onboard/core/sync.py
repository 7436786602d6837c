"""The way of a record to the cloud. The outbox is the table of records; only the cloud's own acknowledgement frees one.

Batches go out in order, at most ``batches_unacknowledged_max`` unacknowledged. On every connect, and on a timer with
back-off, everything from the last acknowledgement on is sent again: the carrier may lose, double and reorder. The way
is lost when nothing connects, or nothing is acknowledged though something waits for it, for ``comms_lost_s``. A car
that has nothing to send asks now and then all the same: a link may carry up and not down, and bookings come down.
"""

from __future__ import annotations

from dataclasses import replace

from onboard.core.commands import PublishBatch, PublishStatus, ReleaseRecords
from onboard.core.draft import Draft
from onboard.core.events import AckReceived, LinkReported, ResendRequested
from onboard.core.records import CommsChanged
from onboard.core.state import State


def unsent(state: State) -> bool:
    """Tell whether a batch may go out now."""
    sending = state.sending
    return (
        sending.connected
        and sending.sent_seq < state.kept.outbox.last_seq
        and len(sending.batches) < state.policy.batches_unacknowledged_max
    )


def due_s(state: State) -> float | None:
    """Return the next boot time at which something is to be sent or told."""
    sending = state.sending
    times = [_lost_at_s(state)]
    if sending.connected:
        times += [_status_at_s(state), sending.resend_at_s, state.at.boot_s if unsent(state) else None]
    return min((t for t in times if t is not None), default=None)


def asks(state: State) -> bool:
    """Tell whether the status is to ask the commune for an answer: the proof of a time that was asked for is one."""
    return state.at.boot_s >= _ask_at_s(state)


def _lost_at_s(state: State) -> float | None:
    sending = state.sending
    if sending.lost_told or state.supply.modem_off_s is not None:
        return None
    since_s, waiting_s = _ask_at_s(state), sending.waiting_since_s
    return (since_s if waiting_s is None else min(since_s, waiting_s)) + state.policy.comms_lost_s


def _ask_at_s(state: State) -> float:
    return state.sending.heard_at_s + state.policy.echo_after_s


def _status_at_s(state: State) -> float:
    """Return when the next status is due: a question is not put off by a status that is sent seldom."""
    sending, ask_at_s = state.sending, _ask_at_s(state)
    return min(sending.status_at_s, ask_at_s) if sending.status_sent_s < ask_at_s else sending.status_at_s


def on_due(d: Draft) -> None:
    """Tell of a lost way; send again what nobody acknowledged, send what is new, send the status."""
    sending, lost_at_s = d.state.sending, _lost_at_s(d.state)
    if lost_at_s is not None and d.boot_s >= lost_at_s:
        d.sending(lost_told=True)
        d.record(CommsChanged(lost=True))
    if not sending.connected:
        return
    if sending.resend_at_s is not None and d.boot_s >= sending.resend_at_s:
        _rewind(d, sending.acked_seq, sending.attempts + 1)
    while unsent(d.state):
        sending = d.state.sending
        to_seq = min(sending.sent_seq + d.policy.batch_events_max, d.kept.outbox.last_seq)
        d.do(PublishBatch(sending.sent_seq + 1, to_seq))
        resend_at_s = sending.resend_at_s or d.boot_s + _back_off_s(d, sending.attempts)
        if sending.waiting_since_s is None:
            d.sending(waiting_since_s=d.boot_s)
        d.sending(sent_seq=to_seq, batches=(*sending.batches, to_seq), resend_at_s=resend_at_s)
    if d.boot_s >= _status_at_s(d.state):
        asking = asks(d.state) and not d.state.sending.lost_told
        every_s = min(d.policy.status_every_s, d.policy.comms_lost_s / 5) if asking else d.policy.status_every_s
        d.sending(status_at_s=d.boot_s + every_s, status_sent_s=d.boot_s)
        d.do(PublishStatus())


def _back_off_s(d: Draft, attempts: int) -> float:
    """Return the wait before the next repetition: doubling, bounded, spread by up to a fifth.

    The spread is drawn from the boot's random epoch, so that a street of cars does not answer a broker's return in
    chorus, and a replay is exact.
    """
    wait_s = min(d.policy.resend_first_s * 2.0 ** min(attempts, 16), d.policy.resend_max_s)
    epoch = d.state.boot_epoch or b"\0"
    return wait_s * (1 + epoch[attempts % len(epoch)] / 255 / 5)


def _rewind(d: Draft, to_seq: int, attempts: int) -> None:
    d.sending(sent_seq=to_seq, acked_seq=to_seq, batches=(), resend_at_s=None, attempts=attempts)


def on_link(d: Draft, event: LinkReported) -> None:
    """Start again from the last acknowledgement when the carrier is back."""
    sending = d.state.sending
    if event.connected == sending.connected:
        return
    d.sending(connected=event.connected)
    if event.connected:
        # A connection proves nothing: what waits has waited before. But a quiet car has its link again.
        if sending.acked_seq == d.kept.outbox.last_seq:
            d.sending(waiting_since_s=None)
        _rewind(d, sending.acked_seq, 0)
        d.sending(status_at_s=d.boot_s)
    elif sending.waiting_since_s is None:
        d.sending(waiting_since_s=d.boot_s)


def on_asked(d: Draft) -> None:
    """Send all that waits at once: a technician stands there and wants to see it arrive."""
    if d.state.sending.connected:
        _rewind(d, d.state.sending.acked_seq, 0)
        d.sending(status_at_s=d.boot_s)


def on_ack(d: Draft, event: AckReceived) -> None:
    """Let go what the cloud has. An acknowledgement of another store, or of what we never wrote, frees nothing."""
    sending, outbox = d.state.sending, d.kept.outbox
    if event.store_id != outbox.store_id or not sending.acked_seq < event.up_to_seq <= outbox.last_seq:
        return
    rest = tuple(seq for seq in sending.batches if seq > event.up_to_seq)
    again_s = d.boot_s + _back_off_s(d, 0) if rest else None
    sent_seq = max(sending.sent_seq, event.up_to_seq)
    d.sending(acked_seq=event.up_to_seq, sent_seq=sent_seq, batches=rest, resend_at_s=again_s, attempts=0)
    d.do(ReleaseRecords(event.up_to_seq))
    if event.up_to_seq > sending.heard_seq:
        # An older one proves nothing: whoever carries it may have kept it.
        d.sending(heard_seq=event.up_to_seq)
        on_heard(d)


def on_heard(d: Draft) -> None:
    """Take it that the link carries in both directions: the commune answered something that this box said.

    Without a link a phone brought the answer.
    """
    if not d.state.sending.connected:
        return
    waits = d.state.sending.acked_seq < d.kept.outbox.last_seq
    d.sending(heard_at_s=d.boot_s, waiting_since_s=d.boot_s if waits else None)
    if d.state.sending.lost_told:
        d.sending(lost_told=False)
        d.record(CommsChanged(lost=False))


def on_resend(d: Draft, event: ResendRequested) -> None:
    """Go back: the cloud was restored from an older state, or has a gap. Never forward: only an acknowledgement may."""
    outbox, sending = d.kept.outbox, d.state.sending
    if event.store_id == outbox.store_id and 1 <= event.from_seq <= outbox.last_seq:
        _rewind(d, min(event.from_seq - 1, sending.acked_seq), sending.attempts)
        d.keep(outbox=replace(outbox, acked_seq=min(outbox.acked_seq, event.from_seq - 1)))
