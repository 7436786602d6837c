"""What the boxes send: verified, committed, and only then acknowledged.

``Ingest`` is the pure half: a topic and bytes go in with the time, messages to send come out. ``Consumer`` is the thin
edge on the broker; ``courier`` is the other way in, by a driver's phone. A message may come twice, late, damaged or
from a stranger; each refusal is counted by its reason and changes nothing else.
"""

from __future__ import annotations

import logging
import threading
import time
from collections import Counter
from collections.abc import Callable
from typing import Final

from sqlalchemy.exc import SQLAlchemyError

from cloud_sync.carrier import Carrier, LinkNews
from cloud_sync.carrier_settings import CarrierSettings, Outgoing
from cloud_sync.documents import (
    Ack,
    DocumentType,
    Reason,
    Refused,
    Resend,
    Status,
    TimeProof,
    decode_offline,
    decode_status,
    document_type,
)
from cloud_sync.endpoint import lists
from cloud_sync.endpoint.authority import Authority
from cloud_sync.endpoint.messages import Box, Outcome, StatusResult
from cloud_sync.endpoint.store import Store, stalled_from
from cloud_sync.endpoint.updates import Updates
from cloud_sync.wire import MAX_PAYLOAD_BYTES, Topic, build_topic, check_payload, cloud_subscriptions, parse_topic

log = logging.getLogger(__name__)

REFRESH_EVERY_S: Final = 3600.0
"""How often everything retained is sent again, lists that grew old issued anew: a broker may have lost it."""

RESTART_S: Final = 1.0

TAKEN: Final = "taken"
"""The word for a message that counts, now or since it came before; every other word is a refusal's."""

QUEUE_MAX: Final = 20_000
"""Messages waiting for the broker: two retained ones for each of some thousand cars."""


class Ingest:
    """Takes messages of every car, from any thread; they take turns. ``refused``: by reason; ``counts``: all else."""

    def __init__(
        self,
        store: Store,
        authority: Authority,
        horizon_days: int = lists.HORIZON_DAYS,
        updates: Updates | None = None,
    ) -> None:
        self.counts: Counter[str] = Counter()
        self.refused: Counter[str] = Counter()
        self._store = store
        self._authority = authority
        self._horizon_days = horizon_days
        self._updates = updates
        self._turn = threading.Lock()

    def count(self, word: str) -> None:
        """Count something that happened beside a message."""
        with self._turn:
            self.counts[word] += 1

    def greeting(self, now_s: float) -> list[Outgoing]:
        """Return what every car must find at the broker: the key set and its list, both retained."""
        messages = []
        for box in self._store.boxes():
            messages.append(self._keys(box))
            try:
                messages.append(self._list(box, now_s))
            except Refused as refused:
                # One car's bookings that fit no list must not keep the others from theirs.
                with self._turn:
                    self.refused[f"own_list_{refused.reason.word}"] += 1
        return messages

    def handle(self, topic: str, payload: bytes, now_s: float) -> list[Outgoing]:
        """Take one message; what it says is committed when this returns. Returns what to send, in order.

        An SQLAlchemyError passes: nothing was stored and nothing may be acknowledged; the box sends again.
        """
        return list(self.take(topic, payload, now_s).messages)

    def take(self, topic: str, payload: bytes, now_s: float) -> Outcome:
        """Do as ``handle`` and say what became of the message. A message that came before is ``taken`` once more."""
        with self._turn:
            try:
                vehicle, channel = parse_topic(topic)
                check_payload(payload)
                box = self._store.box(vehicle)
                if box is None:
                    return self._refuse("unknown_vehicle")
                if channel is Topic.BATCH:
                    return self._batch(box, payload, now_s)
                if channel is Topic.STATUS:
                    return self._status(box, payload, now_s)
                return self._refuse(Reason.BAD_TOPIC.word)
            except Refused as refused:
                return self._refuse(refused.reason.word)

    def _refuse(self, word: str, store_id: bytes | None = None) -> Outcome:
        self.refused[word] += 1
        return Outcome(word, store_id=store_id)

    def _batch(self, box: Box, payload: bytes, now_s: float) -> Outcome:
        batch = self._authority.open_batch(payload, box)
        taken = self._store.take_batch(batch, now_s)
        self.counts["batches"] += 1
        self.counts["rows_new"] += taken.new
        self.counts["rows_again"] += 0 if taken.alarm else len(batch.rows) - taken.new
        if taken.alarm:
            return self._refuse("log_forked", batch.store_id)
        messages = []
        if taken.place.up_to_seq > 0:
            ack = Ack(box.vehicle, batch.store_id, taken.place.up_to_seq, taken.place.digest)
            messages.append(_to(box, Topic.ACK, self._authority.sign_ack(ack)))
        if taken.resend_from is not None:
            self.counts["resends"] += 1
            resend = Resend(box.vehicle, batch.store_id, taken.resend_from)
            messages.append(_to(box, Topic.RESEND, self._authority.sign_resend(resend)))
        return Outcome(TAKEN, tuple(messages), batch.store_id)

    def _status(self, box: Box, payload: bytes, now_s: float) -> Outcome:
        if document_type(payload) is DocumentType.OFFLINE:
            offline = decode_offline(payload, box.signing_public, box.vehicle)
            self.counts[f"offline_{self._store.take_offline(box.vehicle, offline.boot_epoch).value}"] += 1
            return Outcome(TAKEN)
        status = decode_status(payload, box.signing_public, box.vehicle)
        if self._store.take_status(status, now_s) is StatusResult.STALE:
            return self._refuse("stale_status")
        self.counts["statuses"] += 1
        return Outcome(TAKEN, tuple(self._answer(box, status, now_s)))

    def _answer(self, box: Box, status: Status, now_s: float) -> list[Outgoing]:
        """Bring the box up to date where its status shows that it isn't: a broker may lose what it retained."""
        messages = []
        ours = self._authority.key_set.version
        if status.key_set_version < ours:
            messages.append(self._keys(box))  # first: it verifies the rest
        elif status.key_set_version > ours:
            # What is signed here it refuses. Keys restored from an old copy, or the endpoint was not started again.
            text = f"the box holds key set {status.key_set_version}, the endpoint {ours}: restart it, or adopt that one"
            self._store.alarm(box.vehicle, "key_set_ahead", text, now_s)
        if status.time_nonce is not None:
            proof = TimeProof(box.vehicle, status.time_nonce, now_s)
            messages.append(_to(box, Topic.TIME, self._authority.sign_time(proof)))
        listed = lists.current(self._store, self._authority, box, int(now_s), self._horizon_days)
        if listed.version != status.list_version:
            messages.append(_to(box, Topic.LIST, listed.document))
        with self._store.read() as db:
            from_seq = stalled_from(db, status, now_s)
        if from_seq is not None:
            self.counts["resends"] += 1
            resend = Resend(box.vehicle, status.store_id, from_seq)
            messages.append(_to(box, Topic.RESEND, self._authority.sign_resend(resend)))
        if self._updates is not None:
            messages += [_to(box, channel, data) for channel, data in self._updates.answer(status)]
        return messages

    def _keys(self, box: Box) -> Outgoing:
        return _to(box, Topic.KEYS, self._authority.key_set_document)

    def _list(self, box: Box, now_s: float) -> Outgoing:
        listed = lists.current(self._store, self._authority, box, int(now_s), self._horizon_days)
        return _to(box, Topic.LIST, listed.document)


class Consumer:
    """The endpoint's connection to the broker, in a thread of its own. ``now`` gives Unix seconds."""

    def __init__(self, settings: CarrierSettings, ingest: Ingest, now: Callable[[], float] = time.time) -> None:
        self.ingest = ingest
        self.trouble = ""
        """What a person must mend before the broker lets us in; empty otherwise."""
        self._now = now
        self._stop = threading.Event()
        self._refreshed_s = time.monotonic()
        self._carrier = Carrier(
            settings,
            subscriptions=cloud_subscriptions(),
            payload_max=MAX_PAYLOAD_BYTES,
            received=self._received,
            linked=self._linked,
            queue_max=QUEUE_MAX,
        )
        self._thread = threading.Thread(target=self._run, name="consumer")

    @property
    def connected(self) -> bool:
        """Whether the broker is there and took our subscriptions."""
        return self._carrier.connected

    @property
    def counts(self) -> Counter[str]:
        """What the carrier counted."""
        return self._carrier.counts

    def start(self) -> None:
        """Begin to connect."""
        self._thread.start()

    def stop(self) -> None:
        """End; returns when the thread has."""
        self._stop.set()
        self._thread.join()

    def publish(self, message: Outgoing) -> bool:
        """Send one message if connected. A list that is not sent now goes out at the next connection."""
        return self._carrier.publish(message)

    def _run(self) -> None:
        """Serve until stopped: one car's odd message must not make the endpoint deaf to all others."""
        while not self._stop.is_set():
            try:
                self._carrier.run(self._beat, self._stop)
            except Exception as error:
                log.exception("the broker's messages could not be served; trying again")
                self.ingest.count("consumer_failed")
                self.trouble = f"{type(error).__name__} while serving a message. Look at the log; it goes on by itself."
                self._stop.wait(RESTART_S)

    def _linked(self, news: LinkNews) -> None:
        self.trouble = news.trouble
        if news.connected:
            self._try(lambda: self.ingest.greeting(self._now()))

    def _beat(self) -> None:
        if self.connected and time.monotonic() - self._refreshed_s > REFRESH_EVERY_S:
            self._refreshed_s = time.monotonic()
            self._try(lambda: self.ingest.greeting(self._now()))

    def _received(self, topic: str, payload: bytes) -> None:
        self._try(lambda: self.ingest.handle(topic, payload, self._now()))

    def _try(self, work: Callable[[], list[Outgoing]]) -> None:
        try:
            for message in work():
                self._carrier.publish(message)
            self.trouble = ""
        except SQLAlchemyError as error:
            # Nothing was committed and nothing acknowledged: the boxes send again. The trouble shows at /status.
            self.ingest.count("database_failed")
            self.trouble = f"database: {error.__class__.__name__}. Look at its disk; nothing is acknowledged meanwhile."


def _to(box: Box, channel: Topic, document: bytes) -> Outgoing:
    return Outgoing(build_topic(box.vehicle, channel), document, retain=channel.retained)
