"""What the carrier needs of paho and of sockets: one client for one connection, and how to end it."""

from __future__ import annotations

import contextlib
import socket
from collections.abc import Iterator
from typing import Any, Final

from paho.mqtt.client import Client
from paho.mqtt.enums import CallbackAPIVersion, MQTTProtocolVersion

from cloud_sync.carrier_settings import CarrierSettings, Outgoing
from cloud_sync.tls import client_context

WINDOW: Final = 20
"""QoS 1 messages without PUBACK at a time: the box's 16 batches and a few statuses; paho's and mosquitto's default."""

CONNECT_S: Final = 5.0
"""For one address of the broker: TCP, and TLS after it."""


def build_client(settings: CarrierSettings, will: Outgoing | None) -> Client:
    """Return a new client that never connects again by itself. OSError or ValueError for unusable TLS files."""
    client = Client(
        CallbackAPIVersion.VERSION2,
        client_id=settings.client_id,
        clean_session=True,
        protocol=MQTTProtocolVersion.MQTTv311,
        reconnect_on_failure=False,
    )
    client.connect_timeout = CONNECT_S
    client.max_inflight_messages_set(WINDOW)
    if settings.username is not None:
        client.username_pw_set(settings.username, settings.password)
    if settings.ca is not None:
        client.tls_set_context(client_context(settings))
    if will is not None:
        client.will_set(will.topic, will.payload, qos=1, retain=will.retain)
    return client


@contextlib.contextmanager
def closing_pair() -> Iterator[tuple[socket.socket, socket.socket]]:
    """Give two connected sockets that never block."""
    first, second = socket.socketpair()
    with first, second:
        first.settimeout(0)
        second.settimeout(0)
        yield first, second


def drain(sock: socket.socket) -> bool:
    """Take what waits in a socket that doesn't block; False if there was nothing."""
    try:
        return bool(sock.recv(4096))
    except BlockingIOError:
        return False


def close_client(client: Client) -> None:
    """Close the client's socket without a DISCONNECT: the broker then publishes the last will."""
    sock: Any = client.socket()
    if sock is None:
        return
    with contextlib.suppress(OSError):  # The other side may have been faster.
        sock.shutdown(socket.SHUT_RDWR)
    sock.close()
