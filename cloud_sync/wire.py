"""MQTT topics: ``amibox/v1/<vehicle>/up/…`` from the box, ``…/down/…`` to it. One document a message, QoS 1.

Nothing rests on the broker: no order, no delivery, no PUBACK. Only ``keys`` and ``list`` are retained.
"""

from __future__ import annotations

from enum import StrEnum
from typing import Final

from cloud_sync.documents.kinds import MAX_DOCUMENT_BYTES, Reason, Refused
from cloud_sync.documents.schema import vehicle_id

PROTOCOL_VERSION: Final = 1
MAX_PAYLOAD_BYTES: Final = MAX_DOCUMENT_BYTES
QOS: Final = 1
_ROOT: Final = f"amibox/v{PROTOCOL_VERSION}"
_SHOWN_CHARS: Final = 64
"""So much of a bad topic is told."""


class Topic(StrEnum):
    """What a message carries; the value is the end of its topic."""

    BATCH = "up/batch"
    STATUS = "up/status"
    KEYS = "down/keys"
    LIST = "down/list"
    ACK = "down/ack"
    COMMAND = "down/command"
    TIME = "down/time"
    RESEND = "down/resend"
    UPDATE = "down/update"
    PIECE = "down/piece"

    @property
    def retained(self) -> bool:
        """Whether the broker keeps the last one for a box that connects later."""
        return self in (Topic.KEYS, Topic.LIST)

    @property
    def upward(self) -> bool:
        """Whether the box sends it."""
        return self.value.startswith("up/")


def build_topic(vehicle: str, topic: Topic) -> str:
    """Return the full topic; ``Refused`` for a name that is no vehicle id (it could hold a wildcard)."""
    return f"{_ROOT}/{vehicle_id(vehicle)}/{topic.value}"


def parse_topic(topic: str) -> tuple[str, Topic]:
    """Return the vehicle and what the message carries; raise ``Refused(BAD_TOPIC)`` for any other topic."""
    try:
        match topic.split("/", 3):
            case [amibox, version, vehicle, end] if f"{amibox}/{version}" == _ROOT:
                return vehicle_id(vehicle), Topic(end)
    except (ValueError, Refused):
        pass
    raise Refused(Reason.BAD_TOPIC, repr(topic[:_SHOWN_CHARS]))


def box_subscriptions(vehicle: str) -> tuple[str, ...]:
    """Topics a box subscribes to: its own, one by one, without wildcards."""
    return tuple(build_topic(vehicle, topic) for topic in Topic if not topic.upward)


def cloud_subscriptions() -> tuple[str, ...]:
    """Topics the cloud subscribes to."""
    return tuple(f"{_ROOT}/+/{topic.value}" for topic in Topic if topic.upward)


def check_payload(payload: bytes) -> None:
    """Refuse an empty or oversized payload before anybody keeps it."""
    if not payload or len(payload) > MAX_PAYLOAD_BYTES:
        reason = Reason.TOO_LARGE if payload else Reason.NOT_CBOR
        raise Refused(reason, f"{len(payload)} bytes, 1 to {MAX_PAYLOAD_BYTES} are allowed")
