"""The endpoint's way to the broker, as its pages and routes need it."""

from __future__ import annotations

from collections import Counter
from typing import Protocol

from cloud_sync.carrier_settings import Outgoing
from cloud_sync.endpoint.messages import ListRow
from cloud_sync.wire import Topic, build_topic


class Link(Protocol):
    """Takes messages from any thread and returns at once."""

    trouble: str

    @property
    def connected(self) -> bool:
        """Whether messages can go out."""
        ...

    @property
    def counts(self) -> Counter[str]:
        """What the carrier counted."""
        ...

    def publish(self, message: Outgoing) -> bool:
        """Send a message if connected; False: it was not kept."""
        ...


def publish_list(link: Link, row: ListRow) -> bool:
    """Send a committed list to its car. False: not connected; it goes out at the next connection, or by a phone."""
    return link.publish(Outgoing(build_topic(row.vehicle, Topic.LIST), row.document, retain=True))
