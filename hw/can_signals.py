"""Frames in, events out: one car's signals, its bus and its charging. Pure: no I/O, the time is an argument.

Every frame of the model is looked at, not only the newest: a checksum, a counter and the size of a step can only be
judged frame by frame, and an odometer's own step must be dated right. It stays cheap because cantools reads the layout
once, at loading; a frame then costs a shift and a mask for each signal, some microseconds, while receiving it costs a
hundred. What is thinned out is the reporting: readings are gathered and told at most every 0.2 s.

Rules of belief, in order; what fails one is counted by reason and changes nothing else:

1. The frame: no error frame, an 11-bit id of the model, exactly its number of bytes, its checksum right, its counter
   turning (``frozen_after`` frames in a row with the same count, and its signals are left to grow stale).
2. The first ``ignore_after_wake_s`` after a silent bus are not read.
3. The value: not a number that means "no value", within what can be. Values are never clamped.
4. The step: a value further than ``max_step`` from the last believed one waits until ``confirm`` frames in a row agree
   with each other. So a lone wrong frame never gets through and a new level does, with all the frames that waited. An
   odometer's fall (``rising``) is never a small step.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Final

from hw.can_model import (
    CHARGER_STATE,
    BitField,
    CarModel,
    ChargingByState,
    MessageRule,
    ModelError,
    SignalRule,
    known_models,
)
from onboard.core.events import (
    BusReported,
    BusState,
    Charging,
    ChargingReported,
    Event,
    Reading,
    Signal,
    SignalsReported,
)

__all__ = ["BitField", "CarModel", "ModelError", "SignalDecoder", "SignalRule", "crc8_85", "known_models"]

REPORT_EVERY_S: Final = 0.2
"""Readings are told at most this often: the core integrates speed, and 5 Hz is plenty."""

STEP_SLACK: Final = 1e-9
"""A step of exactly ``max_step`` passes in spite of binary fractions."""


def _crc_table() -> bytes:
    table = bytearray(256)
    for index in range(256):
        crc = index
        for _ in range(8):
            crc = (crc << 1 ^ 0x85 if crc & 0x80 else crc << 1) & 0xFF
        table[index] = crc
    return bytes(table)


_CRC_TABLE: Final = _crc_table()


def crc8_85(data: bytes) -> int:
    """Return the CRC-8 of polynomial 0x85, start 0, nothing reflected or inverted: the LEAF's."""
    crc = 0
    for byte in data:
        crc = _CRC_TABLE[crc ^ byte]
    return crc


@dataclass(slots=True)
class _Track:
    """What is believed of one signal, and the samples (time, value) that wait for others to agree."""

    believed: float | None = None
    waiting: list[tuple[float, float]] = field(default_factory=list)


@dataclass(slots=True)
class _Turning:
    """A message's last count and how many frames in a row have shown it."""

    count: int = -1
    same: int = 0


class SignalDecoder:
    """One car's bus. ``feed`` every frame with its boot time, ``take`` the events; both from one thread.

    ``counts`` holds ``seen`` and ``used`` frames and refused ones by reason (``error_frame``, ``extended_id``,
    ``foreign_id``, ``remote_frame``, ``short_frame``, ``excess_bytes``, ``checksum``, ``frozen_counter``,
    ``after_wake``: seen = used + these), then refused values by reason and signal (``sentinel:``, ``out_of_range:``,
    ``step_too_large:``, ``unit_unknown:``). ``on_value(key, value, at_s)`` is told every believed value, helpers too.

    The bus is awake while frames with the model's ids come, whatever is in them, and asleep after ``sleep_after_s``
    without any. An error frame or ``fault`` makes it faulty until ``sleep_after_s`` without another one have passed
    *and* a frame has come since: silence after an error proves nothing (bus-off is silent too). Only ``link_up``, a
    link opened anew, lets silence count as sleep again.
    """

    def __init__(
        self,
        model: CarModel,
        *,
        counts: Counter[str] | None = None,
        on_value: Callable[[str, float, float], None] | None = None,
        report_every_s: float = REPORT_EVERY_S,
    ) -> None:
        self.model = model
        self.counts: Counter[str] = Counter() if counts is None else counts
        self.charging = Charging.UNKNOWN
        self.charging_since_s = 0.0
        self._on_value = on_value
        self._report_every_s = report_every_s
        self._tracks = {key: _Track() for key in model.rules}
        self._turning = {i: _Turning() for i in model.messages}
        self._latest: dict[str, Reading] = {}
        self._unreported: dict[Signal, Reading] = {}
        self._reported_s = float("-inf")
        self._bus: BusState | None = None
        self._error_s: float | None = None
        self._link_down = False
        self._heard_s: float | None = None
        """Last sign of life: a frame of ours, or else the moment from which silence counts."""
        self._talking_since_s: float | None = None
        self._deaf_until_s = float("-inf")
        self._charging_next: tuple[Charging, float] | None = None
        self._judge_s = float("-inf")

    def feed(
        self,
        arbitration_id: int,
        is_extended: bool,  # noqa: FBT001 - the four words of a frame, in python-can's names and order
        is_error: bool,  # noqa: FBT001
        is_remote: bool,  # noqa: FBT001
        data: bytes,
        at_s: float,
    ) -> None:
        """Take in one frame received at boot time ``at_s``. Never raises, whatever the frame."""
        self.counts["seen"] += 1
        if is_error:
            self.counts["error_frame"] += 1
            self._error_s = at_s
            return
        if is_extended:
            self.counts["extended_id"] += 1
            return
        message = self.model.messages.get(arbitration_id)
        if message is None:
            self.counts["foreign_id"] += 1
            return
        if is_remote:
            self.counts["remote_frame"] += 1
            return
        self._heard(at_s)
        if reason := self._refusal(message, data, at_s):
            self.counts[reason] += 1
            return
        self.counts["used"] += 1
        for rule in message.signals:
            self._sample(rule, rule.field.raw(data), at_s)

    def fault(self, at_s: float, *, link_down: bool = False) -> None:
        """Tell that the adapter is in trouble; with ``link_down`` nothing can be heard until ``link_up``."""
        self._error_s = at_s
        self._link_down = self._link_down or link_down

    def link_up(self, at_s: float) -> None:
        """Tell that the link was opened (anew): from now on silence is a sleeping bus."""
        self._error_s, self._link_down = None, False
        self._heard_s, self._talking_since_s = at_s, None

    def take(self, at_s: float) -> list[Event]:
        """Return what there is to tell at boot time ``at_s``. Call it after each frame and twice a second."""
        events: list[Event] = []
        bus, since_s = self._bus_at(at_s)
        if bus is not None and bus is not self._bus:
            self._bus = bus
            events.append(BusReported(bus, since_s))
        if self._unreported and at_s - self._reported_s >= self._report_every_s:
            readings = tuple((signal, self._unreported[signal]) for signal in Signal if signal in self._unreported)
            events.append(SignalsReported(readings, self.model.odometer_resolution_m))
            self._unreported.clear()
            self._reported_s = at_s
        if at_s >= self._judge_s:
            self._judge_s = at_s + self._report_every_s
            if self._charging_changed(at_s):
                events.append(ChargingReported(self.charging))
        return events

    def fresh(self, key: str, at_s: float) -> float | None:
        """Return a signal's or helper's value (core's unit) if it is fresh at ``at_s``."""
        reading = self._latest.get(key)
        return reading.value if reading is not None and reading.fresh(at_s) else None

    def _heard(self, at_s: float) -> None:
        """A frame of ours: the bus talks. After a silence its first values are not believed."""
        silent = self._heard_s is not None and at_s - self._heard_s > self.model.sleep_after_s
        if silent:
            self._deaf_until_s = at_s + self.model.ignore_after_wake_s
        if silent or self._talking_since_s is None:
            self._talking_since_s = at_s
        self._heard_s = at_s

    def _refusal(self, message: MessageRule, data: bytes, at_s: float) -> str | None:
        if len(data) < message.dlc:
            return "short_frame"
        if len(data) > message.dlc:
            return "excess_bytes"
        if message.checksum and crc8_85(data[:-1]) != data[-1]:
            return "checksum"
        if message.counter is not None:
            turning, count = self._turning[message.arbitration_id], message.counter.raw(data)
            turning.same = turning.same + 1 if count == turning.count else 1
            turning.count = count
            if turning.same >= message.frozen_after:
                return "frozen_counter"
        return "after_wake" if at_s < self._deaf_until_s else None

    def _sample(self, rule: SignalRule, raw: int, at_s: float) -> None:
        if raw in rule.not_values:
            self.counts[f"sentinel:{rule.key}"] += 1
            return
        value = rule.value(raw)
        if value is not None and rule.unit_from is not None:
            factor = self.fresh(rule.unit_from, at_s)
            if factor is None:
                self.counts[f"unit_unknown:{rule.key}"] += 1
                return
            value *= factor
        if value is None or (rule.values is None and not rule.valid[0] <= value <= rule.valid[1]):
            self.counts[f"out_of_range:{rule.key}"] += 1
            return
        self._weigh(rule, value, at_s)

    def _weigh(self, rule: SignalRule, value: float, at_s: float) -> None:
        """Believe the value, let it wait for others like it, or drop those that waited in vain."""
        track = self._tracks[rule.key]
        small = track.believed is not None and _small_step(rule, track.believed, value)
        if rule.max_step is None or small:
            self._drop_waiting(rule, track)
            self._believe(rule, track, value, at_s)
            return
        if track.waiting:
            waited_s, last = track.waiting[-1]
            if not _small_step(rule, last, value) or at_s - waited_s > rule.max_age_s:
                self._drop_waiting(rule, track)
        track.waiting.append((at_s, value))
        if len(track.waiting) >= rule.confirm:
            samples, track.waiting = track.waiting, []
            for sampled_s, sample in samples:
                self._believe(rule, track, sample, sampled_s)

    def _drop_waiting(self, rule: SignalRule, track: _Track) -> None:
        if track.waiting:
            self.counts[f"step_too_large:{rule.key}"] += len(track.waiting)
            track.waiting = []

    def _believe(self, rule: SignalRule, track: _Track, value: float, at_s: float) -> None:
        if value != track.believed:
            self._judge_s = float("-inf")  # a change is judged at once, so that it is dated right
        track.believed = value
        reading = Reading(value, at_s, rule.max_age_s)
        self._latest[rule.key] = reading
        if rule.signal is not None:
            self._unreported[rule.signal] = reading
        if self._on_value is not None:
            self._on_value(rule.key, value, at_s)

    def _bus_at(self, at_s: float) -> tuple[BusState | None, float]:
        """Return the bus's state and since when; None while nothing can be said yet."""
        if self._heard_s is None:
            self._heard_s = at_s  # from the first look on, silence counts
        quiet_s = self.model.sleep_after_s
        if self._error_s is not None:
            talked = self._talking_since_s is not None and self._heard_s >= self._error_s + quiet_s
            if self._link_down or not talked:
                return BusState.FAULT, self._error_s
            self._error_s = None
            self._talking_since_s = self._heard_s
        if at_s - self._heard_s >= quiet_s:
            return BusState.ASLEEP, self._heard_s
        if self._talking_since_s is not None:
            return BusState.AWAKE, self._talking_since_s
        return None, at_s

    def _charging_changed(self, at_s: float) -> bool:
        """Judge the charging anew; True when another state has held for the model's debounce time."""
        judged = self._judge_charging(at_s)
        if judged is self.charging:
            self._charging_next = None
            return False
        if self._charging_next is None or self._charging_next[0] is not judged:
            self._charging_next = (judged, at_s)
        since_s = self._charging_next[1]
        if at_s - since_s < self.model.charging.debounce_s:
            return False
        self.charging, self.charging_since_s, self._charging_next = judged, since_s, None
        return True

    def _judge_charging(self, at_s: float) -> Charging:
        """Apply the model's rule to fresh values. A sleeping car keeps its state, but none charges in its sleep."""
        rule = self.model.charging
        if isinstance(rule, ChargingByState):
            state = self.fresh(CHARGER_STATE, at_s)
            if state is not None:
                if state in rule.charging:
                    return Charging.CHARGING
                return Charging.FULL if state in rule.full else Charging.NOT_CHARGING
        else:
            current, speed = self.fresh("current", at_s), self.fresh("speed", at_s)
            if current is not None and speed is not None:
                driving = self.fresh("ready", at_s) == 1 and self.fresh("gear", at_s) not in (None, 0.0)
                if current > rule.above_a and speed == 0 and not driving:
                    return Charging.CHARGING
                ended = self.charging in (Charging.CHARGING, Charging.FULL) and speed == 0 and not driving
                soc = self.fresh("soc", at_s)
                full = ended and soc is not None and soc >= rule.full_at_pct
                return Charging.FULL if full else Charging.NOT_CHARGING
        if self._bus is BusState.ASLEEP and self.charging is not Charging.CHARGING:
            return self.charging
        return Charging.UNKNOWN


def _small_step(rule: SignalRule, before: float, value: float) -> bool:
    """Tell whether ``value`` may follow ``before`` without being confirmed."""
    step = value - before
    limit = rule.max_step if rule.max_step is not None else float("inf")
    return (0 if rule.rising else -limit) - STEP_SLACK <= step <= limit + STEP_SLACK
