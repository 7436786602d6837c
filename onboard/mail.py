"""What goes out of the box and what comes in, as documents: the only room of the box that touches its keys.

Inward: bytes of a carrier that nobody trusts become events of the core, or a counted refusal. Outward: stored rows
become a sealed batch, the state becomes a status. The carrier is a function; who it is makes no difference.
"""

from __future__ import annotations

import logging
import secrets
from collections import Counter
from collections.abc import Callable
from dataclasses import dataclass
from typing import Final, Protocol

from cloud_sync.documents import (
    AgreementKey,
    BoxSigner,
    DocumentType,
    EventBatch,
    Health,
    KeySet,
    Offline,
    Reason,
    Refused,
    Row,
    Status,
    decode_ack,
    decode_command,
    decode_key_set,
    decode_resend,
    decode_reservation_list,
    decode_time_proof,
    document_type,
    encode_event_batch,
    encode_offline,
    encode_status,
)
from cloud_sync.wire import Topic
from onboard.core import access, machine, sync
from onboard.core.clock import Anchor, ClockQuality, Instant
from onboard.core.events import (
    AccessRequested,
    AckReceived,
    Event,
    KeySetTaken,
    ListReceived,
    RemoteCredential,
    ResendRequested,
    Signal,
    TimeHeard,
)
from onboard.core.state import State
from onboard.core.trip import parked_position

log = logging.getLogger("amibox.mail")

NONCE_LIFE_S: Final = 90.0
NONCE_NEW_S: Final = 30.0
"""A question of the time is asked with a new nonce after this: so each has 60 s for its answer at least."""
NONCES_MAX: Final = 4
"""A time proof counts this long after its nonce was made; its age is how far off the proof may be."""
FAULTS_MAX: Final = 32
_TOPICS: Final = {
    DocumentType.KEY_SET: Topic.KEYS,
    DocumentType.RESERVATION_LIST: Topic.LIST,
    DocumentType.ACK: Topic.ACK,
    DocumentType.RESEND: Topic.RESEND,
    DocumentType.TIME_PROOF: Topic.TIME,
    DocumentType.COMMAND: Topic.COMMAND,
}
"""What a courier may bring; the signed type is its label."""


@dataclass(frozen=True, slots=True)
class Identity:
    """What provisioning gave this box. The private halves never leave it and are never printed."""

    vehicle: str
    agreement: AgreementKey
    signer: BoxSigner
    roots: tuple[bytes, ...]


class Store(Protocol):
    """What mail needs of ``onboard.store``."""

    async def rows(self, from_seq: int, to_seq: int) -> list[Row]:
        """Return stored rows."""
        ...

    async def digest(self, seq: int) -> bytes | None:
        """Return one row's digest."""
        ...

    async def oldest(self) -> int:
        """Return the first row that is still there, or will be."""
        ...

    async def keep_keys(self, version: int, document: bytes) -> None:
        """Keep a verified key set and raise the floor."""
        ...


class Clock(Protocol):
    """What mail needs of a clock."""

    def now(self) -> Instant:
        """Read both clocks."""
        ...


class Mail:
    """Reads and writes documents. All methods belong to the event loop's thread.

    ``publish(topic, payload)`` hands bytes to the carrier and returns whether it took them; ``post`` takes events for
    the core; ``list_version`` tells which list the core has.
    ``counts`` holds refusals by reason. Without a key set nothing downward is believed and no batch goes out.
    """

    def __init__(
        self,
        identity: Identity,
        store: Store,
        store_id: bytes,
        clock: Clock,
        post: Callable[[Event], None],
        publish: Callable[[Topic, bytes], bool],
        list_version: Callable[[], int] = lambda: 0,
    ) -> None:
        self.counts: Counter[str] = Counter()
        self.key_set: KeySet | None = None
        self.health: Callable[[], Health | None] = lambda: None
        """How the computer is; set by whoever knows where it is to look."""
        self._identity = identity
        self._store = store
        self._store_id = store_id
        self._clock = clock
        self._post = post
        self._publish = publish
        self._list_version = list_version
        self._key_set_floor = 0
        self._status_seq = 0
        self._word = ""
        self._since_s = 0.0
        self._nonces: list[tuple[bytes, float]] = []
        """Open questions of the time, each with the boot time when it was made, the newest last."""

    def load_key_set(self, document: bytes | None, floor: int) -> None:
        """Take the key set kept on disk, verified again, and the version below which none counts."""
        self._key_set_floor = floor
        if document is None:
            return
        try:
            kept = decode_key_set(document, self._identity.roots)
        except Refused as refused:
            self._refuse("keys", refused)
            return
        if kept.version >= (self.key_set.version if self.key_set is not None else floor):
            self.key_set = kept

    def offline(self, boot_epoch: bytes) -> bytes:
        """Return the last will."""
        return encode_offline(Offline(self._identity.vehicle, boot_epoch), self._identity.signer)

    async def receive(self, topic: Topic, payload: bytes) -> str:
        """Take one downward document from any carrier; return the refusal's word, "" if there is none.

        Never raises for what is in it. What the core makes of it is the core's to say.
        """
        try:
            await self._read(topic, payload)
        except Refused as refused:
            self._refuse(topic.name.lower(), refused)
            return refused.reason.word
        return ""

    async def deliver(self, document: bytes) -> str:
        """Take one downward document that comes without a topic, as ``receive`` does."""
        try:
            topic = _TOPICS.get(document_type(document))
            if topic is None:
                raise Refused(Reason.WRONG_TYPE, "not for a box")  # noqa: TRY301 - counted with its like, right below
        except Refused as refused:
            self._refuse("courier", refused)
            return refused.reason.word
        return await self.receive(topic, document)

    async def time_nonce(self) -> bytes:
        """Return the open nonce that a time proof is to answer; a new one if there is none, or it is not young."""
        return self._open_nonce(self._clock.now().boot_s)

    def _open_nonce(self, now_s: float) -> bytes:
        if not self._nonces or now_s - self._nonces[-1][1] > NONCE_NEW_S:
            self._nonces = [*self._nonces, (secrets.token_bytes(16), now_s)][-NONCES_MAX:]
        return self._nonces[-1][0]

    def _refuse(self, what: str, refused: Refused) -> None:
        self.counts[f"{what}:{refused.reason.name.lower()}"] += 1
        log.info("refused %s: %s (%s)", what, refused.reason.name.lower(), refused.detail)

    async def _read(self, topic: Topic, payload: bytes) -> None:
        me = self._identity
        if topic is Topic.KEYS:
            await self._read_key_set(payload)
            return
        keys = self.key_set
        if keys is None:
            raise Refused(Reason.UNKNOWN_KEY_ID, "no key set yet: it comes first")
        match topic:
            case Topic.LIST:
                listed = decode_reservation_list(payload, keys, me.agreement, me.vehicle)
                self._post(ListReceived(listed))
                # The core decides, and writes it down; whoever brought it hears it from here.
                if listed.version < (known := self._list_version()):
                    raise Refused(Reason.VERSION_TOO_LOW, f"list {listed.version}, {known} is known")
            case Topic.ACK:
                ack = decode_ack(payload, keys, me.vehicle)
                # An acknowledgement of other bytes than ours (a cloned box, a restored cloud) frees nothing.
                if await self._store.digest(ack.up_to_seq) == ack.digest:
                    self._post(AckReceived(ack.store_id, ack.up_to_seq))
                else:
                    self.counts["ack:digest_differs"] += 1
            case Topic.RESEND:
                resend = decode_resend(payload, keys, me.vehicle)
                # What is gone can't be sent; the batch that begins with the oldest row says so.
                self._post(ResendRequested(resend.store_id, max(resend.from_seq, await self._store.oldest())))
            case Topic.COMMAND:
                command = decode_command(payload, keys, me.vehicle)
                who = RemoteCredential(
                    command.subject, command.command_id, command.boot_epoch, command.counter, command.not_after_boot_s
                )
                self._post(AccessRequested(who, command.action))
            case Topic.TIME:
                self._hear_time(payload, keys)
            case _:
                raise Refused(Reason.BAD_TOPIC, f"{topic.value} is not for a box")

    async def _read_key_set(self, payload: bytes) -> None:
        fresh = decode_key_set(payload, self._identity.roots)
        floor = max(self._key_set_floor, self.key_set.version if self.key_set is not None else 0)
        if fresh.version < floor:
            raise Refused(Reason.VERSION_TOO_LOW, f"key set {fresh.version}, {floor} is known")
        if self.key_set is None or fresh.version > self.key_set.version:
            await self._store.keep_keys(fresh.version, payload)
            first, self.key_set = self.key_set is None, fresh
            if not first:
                self._post(KeySetTaken())

    def _hear_time(self, payload: bytes, keys: KeySet) -> None:
        proof = decode_time_proof(payload, keys, self._identity.vehicle)
        now_s = self._clock.now().boot_s
        made_s = next((made_s for nonce, made_s in self._nonces if nonce == proof.nonce), None)
        if made_s is None:
            # An old proof, which anybody may play: it closes nobody's question.
            raise Refused(Reason.EXPIRED, "the time proof answers no open nonce")
        self._nonces = [one for one in self._nonces if one[0] != proof.nonce]
        age_s = now_s - made_s
        if age_s > NONCE_LIFE_S:
            raise Refused(Reason.EXPIRED, f"the nonce is {age_s:.0f} s old")
        # True time lay between the proof's time and that plus the nonce's age when it arrived here.
        anchor = Anchor(now_s, float(proof.time_s), proof.time_s + age_s, ClockQuality.AUTHENTICATED)
        self._post(TimeHeard(anchor))

    async def send_batch(self, from_seq: int, to_seq: int) -> None:
        """Publish stored rows as one batch, or as more if they don't fit. Nothing is sent without the cloud's key."""
        while from_seq <= to_seq:
            batch = await self.batch(from_seq, to_seq)
            if batch is None:
                return
            document, last_seq = batch
            self.counts["batch:sent" if self._publish(Topic.BATCH, document) else "batch:not_taken"] += 1
            from_seq = last_seq + 1

    async def batch(self, from_seq: int, to_seq: int) -> tuple[bytes, int] | None:
        """Seal stored rows from ``from_seq`` on; return the document and its last row. None if that can't be, counted.

        Not all of them if they don't fit into one document.
        """
        if self.key_set is None:
            self.counts["batch:no_key_set"] += 1
            return None
        rows = await self._store.rows(from_seq, to_seq)
        if not rows:
            return None
        before = await self._store.digest(rows[0].seq - 1)
        if before is None:
            self.counts["batch:row_before_is_gone"] += 1
            return None
        oldest = await self._store.oldest()
        while True:
            first = rows[0].seq
            batch = EventBatch(self._identity.vehicle, self._store_id, first, before, tuple(rows), first == oldest > 1)
            try:
                return encode_event_batch(batch, self._identity.signer, self.key_set.sealing_public), rows[-1].seq
            except Refused as refused:
                if refused.reason is not Reason.TOO_LARGE or len(rows) == 1:
                    self._refuse("batch", refused)
                    return None
            rows = rows[: len(rows) // 2]

    async def send_status(self, state: State) -> None:
        """Publish how the car is. It is worth nothing when old: never kept, never sent again."""
        try:
            document = encode_status(self.status(state), self._identity.signer)
        except Refused as refused:
            # A device's odd value must not end the box, which decides without it.
            self._refuse("status", refused)
            return
        self._publish(Topic.STATUS, document)

    def status(self, state: State) -> Status:
        """Build the status of a state; outside a rental it says where the car is parked."""
        time = access.belief(state, state.at)
        word = machine.vehicle_state(state)
        if word != self._word:
            self._word, self._since_s = word, time.best_s
        # Milliseconds of this boot: a daemon that starts again in it goes on above what it said before.
        self._status_seq = max(self._status_seq + 1, int(state.at.boot_s * 1000))
        unproven = time.quality < ClockQuality.GNSS
        nonce = self._open_nonce(state.at.boot_s) if unproven or sync.asks(state) else None
        place = parked_position(state, state.at.boot_s) if state.kept.rental is None else None
        readings = state.vehicle.readings
        soc, reach = readings.get(Signal.SOC), readings.get(Signal.RANGE)
        return Status(
            vehicle=self._identity.vehicle,
            status_seq=self._status_seq,
            boot_epoch=state.boot_epoch,
            boot_s=state.at.boot_s,
            list_version=access.list_version(state),
            key_set_version=self.key_set.version if self.key_set is not None else 0,
            software=state.software,
            store_id=state.kept.outbox.store_id,
            up_to_seq=state.kept.outbox.last_seq,
            clock_quality=time.quality,
            state=word,
            since_s=self._since_s,
            charging=state.vehicle.charging,
            door=door_word(state),
            soc_pct=soc.value if soc is not None else None,
            range_m=round(reach.value) if reach is not None else None,
            supply_v=state.supply.voltage_v,
            parked_at=(place.latitude, place.longitude) if place is not None else None,
            faults=tuple(part for part, _ in state.faults)[:FAULTS_MAX],
            time_nonce=nonce,
            health=self.health(),
        )


def door_word(state: State) -> str:
    """Return ``locked``, ``unlocked``, ``open`` or ``unknown``."""
    report = state.doors.report
    if report is None or report.locked is None:
        return "unknown"
    if report.driver_open or report.passenger_open:
        return "open"
    return "locked" if report.locked else "unlocked"
