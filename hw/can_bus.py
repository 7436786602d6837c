"""The car's CAN bus through python-can: a supervised reader that never transmits.

The bus is only listened to. SocketCAN is silenced where the link is set up (networkd, ``ListenOnly=yes``); an slcan
adapter is opened with its listen-only command. Nothing in this file sends a frame.

python-can's own Notifier ends its thread on an exception, so this worker reads by itself. A lost link (interface down,
adapter pulled out, unreadable serial line) is closed, and opened again after 0.5 s, then at growing intervals of up to
5 s. Every frame is stamped with the box's boot-time clock at receipt: the frame's own stamp follows the wall clock,
which jumps.

What an slcan adapter says without sense counts as trouble on the bus. If nothing sensible follows, the port is opened
anew: the adapter is set up again, and from then on silence is a sleeping bus.
"""

from __future__ import annotations

import logging
import socket
import struct
from collections import Counter
from collections.abc import Callable, Mapping
from contextlib import suppress
from dataclasses import dataclass
from typing import Any, Final

import can

from hw.can_signals import CarModel, SignalDecoder
from hw.clock_sources import Clock
from hw.worker import AdapterError, Life
from onboard.core.events import FaultReported

LOG: Final = logging.getLogger(__name__)

RECV_S: Final = 0.5
"""Longest wait for a frame: bounds how late a sleeping bus and a stop are noticed."""

BACKOFF_MIN_S: Final = 0.5
BACKOFF_MAX_S: Final = 5.0
"""A link that comes back in mid-trip should be heard soon, and asking is cheap."""

BEAT_EVERY_S: Final = 1.0

REOPEN_S: Final = 5.0
"""How long nothing sensible may follow a line without sense."""

LINE_MAX: Final = 256
"""Longer than any line of an slcan adapter: what has no end by then is none."""

_SILENT: Final[Mapping[str, Mapping[str, Any]]] = {
    "socketcan": {},
    # Listen-only (``L``), no 2 s pause after opening, and block on the line instead of asking it 1,000 times a second.
    "slcan": {"listen_only": True, "sleep_after_open": 0.0, "timeout": 0.1},
    "virtual": {},
    "udp_multicast": {},
}
"""Interfaces known to stay silent on the bus, and the arguments that make them so."""

_CAN_RAW_FILTER: Final = 1
"""Socket option of linux/can/raw.h."""
_EFF_FLAG: Final = 0x80000000

_GARBLED: Final = (ValueError, IndexError, KeyError)
"""What python-can's slcan reader lets through when a line of the adapter makes no sense."""

_LOST: Final = (can.CanError, OSError)


@dataclass(frozen=True, slots=True)
class CanSettings:
    """How to reach the bus: python-can's ``interface`` and ``channel``. ``bitrate`` 0 means the model's own."""

    interface: str = "socketcan"
    channel: str = "can0"
    bitrate: int = 0


class CanBus:
    """The worker of the CAN bus. Tells signals, the bus's state and charging through a ``SignalDecoder``.

    ``counts`` are the decoder's, and ``garbled`` lines of an adapter, ``link_lost``, ``link_opened``, and
    ``kernel_filter_failed``: the box then hears every frame of the bus and sorts them itself, at a cost.
    """

    name = "can"

    def __init__(
        self,
        settings: CanSettings,
        model: CarModel,
        clock: Clock,
        open_bus: Callable[..., can.BusABC] = can.Bus,
    ) -> None:
        self.counts: Counter[str] = Counter()
        self._settings = settings
        self._model = model
        self._clock = clock
        self._open_bus = open_bus
        self._decoder = SignalDecoder(model, counts=self.counts)
        self._lost_told = False
        self._beat_s = float("-inf")
        self._garbled_s: float | None = None
        """Since when nothing sensible has followed a line without sense; None: all is well."""

    def run(self, life: Life) -> None:
        """Listen until stopped. Raise ``AdapterError`` only for what no waiting mends, such as an unknown interface."""
        backoff_s = BACKOFF_MIN_S
        while not life.stop.is_set():
            try:
                bus = self._open()
                try:
                    self._listen(bus, life)
                finally:
                    _close(bus)
            except _LOST as error:
                if self._lost(life, error):
                    backoff_s = BACKOFF_MIN_S
                self._wait(life, backoff_s)
                backoff_s = min(2 * backoff_s, BACKOFF_MAX_S)

    def _open(self) -> can.BusABC:
        """Open the interface, filtered to the model's ids."""
        settings = self._settings
        if settings.interface not in _SILENT:
            LOG.warning("CAN interface %s is not known to be listen-only: make sure it is", settings.interface)
        try:
            bus = self._open_bus(
                channel=settings.channel,
                interface=settings.interface,
                ignore_config=True,
                bitrate=settings.bitrate or self._model.bitrate,
                can_filters=self._model.can_filters,
                **_SILENT.get(settings.interface, {}),
            )
        except (NotImplementedError, ImportError, TypeError, ValueError) as error:
            raise AdapterError(
                f"CAN interface {settings.interface!r} cannot be used ({error}): "
                f"set [can] interface to one of {', '.join(_SILENT)}",
                may_have_happened=False,
                worth_retrying=False,
            ) from error
        if settings.interface == "socketcan" and not _filtered_in_kernel(bus, self._model):
            self.counts["kernel_filter_failed"] += 1
            LOG.warning("the kernel did not take the CAN filters: every frame of the bus costs time now")
            bus.set_filters(None)  # python-can's own filter would hide error frames: the decoder sorts instead
        self.counts["link_opened"] += 1
        self._garbled_s = None
        self._decoder.link_up(self._clock.boot_s())
        return bus

    def _listen(self, bus: can.BusABC, life: Life) -> None:
        """Read until stopped, or until the port is to be opened anew; raise what says that the link is lost."""
        while not life.stop.is_set():
            message = self._recv(bus)
            now_s = self._clock.boot_s()
            if self._lost_told:
                self._lost_told = False
                life.emit(FaultReported(self.name, active=False))
            if message is not None:
                self._decoder.feed(
                    message.arbitration_id,
                    message.is_extended_id,
                    message.is_error_frame,
                    message.is_remote_frame,
                    bytes(message.data),
                    now_s,
                )
            self._tell(life, now_s)
            if self._garbled_s is not None and now_s - self._garbled_s >= REOPEN_S:
                self.counts["reopened"] += 1
                return

    def _recv(self, bus: can.BusABC) -> can.Message | None:
        """Return the next frame; None after a while without one, or for a line that makes no sense (counted)."""
        try:
            message = bus.recv(RECV_S)
        except _GARBLED:
            self._garbled(bus)
            return None
        except can.CanOperationError as error:
            if not isinstance(error.__cause__, _GARBLED):
                raise
            self._garbled(bus)
            return None
        if message is not None:
            self._garbled_s = None
        elif len(_begun_line(bus)) > LINE_MAX:
            self._garbled(bus)
        return message

    def _garbled(self, bus: can.BusABC) -> None:
        self.counts["garbled"] += 1
        now_s = self._clock.boot_s()
        self._garbled_s = now_s if self._garbled_s is None else self._garbled_s
        self._decoder.fault(now_s)
        _begun_line(bus).clear()

    def _lost(self, life: Life, error: Exception) -> bool:
        """Tell that the link is gone, once; True when it was well before."""
        now_s = self._clock.boot_s()
        self.counts["link_lost"] += 1
        self._decoder.fault(now_s, link_down=True)
        self._tell(life, now_s)
        if self._lost_told:
            return False
        self._lost_told = True
        where = f"{self._settings.interface}:{self._settings.channel}"
        detail = f"{where} lost ({error}): check that the adapter is plugged in and the link is up"
        LOG.warning("CAN %s", detail)
        life.emit(FaultReported(self.name, active=True, detail=detail))
        return True

    def _wait(self, life: Life, seconds: float) -> None:
        """Wait for the next try, still alive: a missing adapter is no reason to restart the box."""
        until_s = self._clock.boot_s() + seconds
        while not life.stop.is_set() and (now_s := self._clock.boot_s()) < until_s:
            self._tell(life, now_s)
            life.stop.wait(min(RECV_S, until_s - now_s))

    def _tell(self, life: Life, now_s: float) -> None:
        for event in self._decoder.take(now_s):
            life.emit(event)
        if now_s - self._beat_s >= BEAT_EVERY_S:
            self._beat_s = now_s
            life.beat()


def _filtered_in_kernel(bus: can.BusABC, model: CarModel) -> bool:
    """Ask the kernel for the socket's filters: python-can only logs when they could not be set."""
    wanted = b"".join(struct.pack("=II", i, 0x7FF | _EFF_FLAG) for i in sorted(model.messages))
    raw = getattr(bus, "socket", None)
    try:
        return raw is not None and raw.getsockopt(socket.SOL_CAN_RAW, _CAN_RAW_FILTER, len(wanted)) == wanted
    except OSError:
        return False


def _begun_line(bus: can.BusABC) -> bytearray:
    """Return what python-can has of an slcan adapter's line whose end has not come yet.

    It gives up nothing of it by itself: not what can't be read, and not what has no end. Its ``flush`` would throw away
    what waits behind as well, and leave half a line there to be misread.
    """
    begun = getattr(bus, "_buffer", None)
    return begun if isinstance(begun, bytearray) else bytearray()


def _close(bus: can.BusABC) -> None:
    """Close whatever state the link is in: shutting down a removed adapter raises, and must not keep it open."""
    with suppress(can.CanError, OSError):
        bus.shutdown()
    port = getattr(bus, "serialPortOrig", None)
    if port is not None:
        with suppress(OSError):
            port.close()
