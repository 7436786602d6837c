"""A listener on a car's bus: a decoder fed with candump words at given times, and what it told."""

from __future__ import annotations

from hw.can_signals import CarModel, SignalDecoder
from onboard.core.events import BusReported, BusState, Charging, ChargingReported, Event, Signal, SignalsReported

AMI = CarModel.load("ami")
LEAF = CarModel.load("leaf")


class Listener:
    """A decoder with what it told, fed by candump words at given times."""

    def __init__(self, model: CarModel) -> None:
        self.decoder = SignalDecoder(model, on_value=lambda key, value, _: self.values.append((key, value)))
        self.values: list[tuple[str, float]] = []
        self.events: list[Event] = []

    def hear(self, word: str, at_s: float, times: int = 1, every_s: float = 0.1) -> float:
        identifier, _, digits = word.partition("#")
        for _ in range(times):
            self.decoder.feed(int(identifier, 16), len(identifier) == 8, False, False, bytes.fromhex(digits), at_s)
            self.events += self.decoder.take(at_s)
            at_s = round(at_s + every_s, 6)
        return at_s

    def wait(self, until_s: float) -> None:
        self.events += self.decoder.take(until_s)

    def readings(self) -> dict[Signal, float]:
        told = [e for e in self.events if isinstance(e, SignalsReported)]
        return {signal: round(reading.value, 6) for e in told for signal, reading in e.readings}

    def bus(self) -> list[tuple[BusState, float]]:
        return [(e.bus, e.since_s) for e in self.events if isinstance(e, BusReported)]

    def charging(self) -> list[Charging]:
        return [e.charging for e in self.events if isinstance(e, ChargingReported)]

    def refused(self) -> dict[str, int]:
        return {k: v for k, v in self.decoder.counts.items() if k not in ("seen", "used")}
